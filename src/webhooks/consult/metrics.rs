//! What questions before the fact count for the ops listener.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::BeforeCommand;
use crate::domain::AppId;

/// The metrics of questions. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    questions: Family<Labels, Counter>,
    seconds: Histogram,
    open: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    app: u32,
    subscription: String,
    command: &'static str,
    /// `allowed`, `refused`, or why there was no answer.
    answer: &'static str,
}

impl Labels {
    pub(super) fn new(
        app: AppId,
        subscription: &str,
        command: BeforeCommand,
        answer: &'static str,
    ) -> Self {
        let command = command.name();
        Self { app: app.0, subscription: subscription.to_owned(), command, answer }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            questions: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            open: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cordon_webhook_questions",
            "Questions before the fact, by what came of them",
            self.questions.clone(),
        );
        registry.register(
            "cordon_webhook_question_seconds",
            "How long a caller waited for one question",
            self.seconds.clone(),
        );
        registry.register(
            "cordon_webhook_questions_open",
            "Questions that wait for an answer",
            self.open.clone(),
        );
    }

    pub(super) fn asked(&self, labels: Labels, seconds: f64) {
        self.questions.get_or_create(&labels).inc();
        self.seconds.observe(seconds);
    }

    pub(super) fn opened(&self) {
        self.open.inc();
    }

    pub(super) fn closed(&self) {
        self.open.dec();
    }
}
