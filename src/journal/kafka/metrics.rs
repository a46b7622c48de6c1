//! What the journal counts for the ops listener.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The Kafka journal's metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) failures: Counter,
    pub(super) restarts: Counter,
    pub(super) pending_bytes: Gauge,
    pub(super) writable: Gauge,
    pub(super) produce_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            records: Counter::default(),
            bytes: Counter::default(),
            failures: Counter::default(),
            restarts: Counter::default(),
            pending_bytes: Gauge::default(),
            writable: Gauge::default(),
            produce_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 17)),
        }
    }

    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_journal_records", "Records made durable", self.records.clone());
        registry.register("cordon_journal_bytes", "Bytes made durable", self.bytes.clone());
        registry.register(
            "cordon_journal_failures",
            "Records that were not acknowledged",
            self.failures.clone(),
        );
        registry.register(
            "cordon_journal_producer_restarts",
            "Times the producer was replaced after a fatal error",
            self.restarts.clone(),
        );
        registry.register(
            "cordon_journal_pending_bytes",
            "Bytes that wait for acknowledgement",
            self.pending_bytes.clone(),
        );
        registry.register(
            "cordon_journal_writable",
            "1 while the journal can be written, else 0",
            self.writable.clone(),
        );
        registry.register(
            "cordon_journal_produce_seconds",
            "From an append to its acknowledgement",
            self.produce_seconds.clone(),
        );
    }
}
