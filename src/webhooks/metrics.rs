//! What the webhooks count for the ops listener.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::attempt::Outcome;
use super::command::CallbackCommand;
use crate::domain::AppId;
use crate::journal::{Journal, Partition};

/// The webhooks' metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    attempt_seconds: Histogram,
    marks: Marks,
}

type Marks = Arc<Mutex<BTreeMap<(Arc<str>, Partition), Arc<AtomicU64>>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    app: u32,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    app: u32,
    command: &'static str,
    /// `false` for one that was given up, which only `webhook.call_once` does.
    delivered: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    subscription: String,
    partition: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            deliveries: Family::default(),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            marks: Marks::default(),
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters. The lag
    /// is computed at each scrape, from the end that `journal` tells.
    pub fn register(&self, registry: &mut Registry, journal: Arc<dyn Journal>) {
        registry.register(
            "cordon_webhook_attempts",
            "Delivery attempts by outcome",
            self.attempts.clone(),
        );
        registry.register(
            "cordon_webhook_deliveries",
            "Deliveries that are done with",
            self.deliveries.clone(),
        );
        registry.register(
            "cordon_webhook_attempt_seconds",
            "How long one delivery attempt took",
            self.attempt_seconds.clone(),
        );
        registry.register_collector(Box::new(Lag { journal, marks: Arc::clone(&self.marks) }));
    }

    pub(super) fn attempted(&self, app: AppId, outcome: &Outcome, seconds: f64) {
        self.attempts.get_or_create(&AttemptLabels { app: app.0, outcome: outcome.word() }).inc();
        self.attempt_seconds.observe(seconds);
    }

    pub(super) fn done(&self, app: AppId, command: CallbackCommand, delivered: bool) {
        let delivered = if delivered { "true" } else { "false" };
        self.deliveries
            .get_or_create(&DeliveryLabels { app: app.0, command: command.name(), delivered })
            .inc();
    }

    pub(super) fn watch(
        &self,
        subscription: &Arc<str>,
        partition: Partition,
        mark: Arc<AtomicU64>,
    ) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.insert((Arc::clone(subscription), partition), mark);
    }

    pub(super) fn unwatch(&self, subscription: &Arc<str>, partition: Partition) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.remove(&(Arc::clone(subscription), partition));
    }
}

/// How many records of each partition are not done with, for each subscription.
struct Lag {
    journal: Arc<dyn Journal>,
    marks: Marks,
}

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lag").field("marks", &self.marks).finish_non_exhaustive()
    }
}

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "cordon_webhook_lag_records",
            "Records of a partition that a subscription is not done with",
            None,
            MetricType::Gauge,
        )?;
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        for ((subscription, partition), mark) in marks.iter() {
            // A partition whose end cannot be told at present has no lag to tell.
            let Ok(end) = self.journal.end(*partition) else { continue };
            let lag = end.0.saturating_sub(mark.load(Ordering::Relaxed));
            let labels =
                LaneLabels { subscription: subscription.to_string(), partition: partition.0 };
            let lag = ConstGauge::new(i64::try_from(lag).unwrap_or(i64::MAX));
            lag.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
