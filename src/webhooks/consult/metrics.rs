//! What questions before the fact count for the ops listener.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::super::series::{Counts, Series};
use super::super::subscription::Subscription;

/// The metrics of questions. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    questions: Series<Asked>,
    seconds: Histogram,
    open: Gauge,
}

/// A question, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub(super) struct Asked {
    pub(super) command: &'static str,
    /// `allowed`, `refused`, or why there was no answer.
    pub(super) answer: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            questions: Series::new(
                "cordon_webhook_questions",
                "Questions before the fact, by what came of them",
            ),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            open: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.questions.clone()));
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

    /// What is counted of a subscriber's questions.
    pub(super) fn counts(&self, of: &Subscription) -> Arc<Counts<Asked>> {
        self.questions.of(of)
    }

    pub(super) fn took(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }

    pub(super) fn opened(&self) {
        self.open.inc();
    }

    pub(super) fn closed(&self) {
        self.open.dec();
    }
}
