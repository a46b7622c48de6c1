//! What the journal counts for the ops listener.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The embedded journal's metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) groups: Counter,
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) failures: Counter,
    pub(super) writable: Gauge,
    pub(super) segment: Gauge<u64, AtomicU64>,
    pub(super) batch_records: Histogram,
    pub(super) fsync_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            groups: Counter::default(),
            records: Counter::default(),
            bytes: Counter::default(),
            failures: Counter::default(),
            writable: Gauge::default(),
            segment: Gauge::default(),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 15)),
            fsync_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 17)),
        }
    }

    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_journal_commits", "Group commits", self.groups.clone());
        registry.register("cordon_journal_records", "Records made durable", self.records.clone());
        registry.register("cordon_journal_bytes", "Bytes made durable", self.bytes.clone());
        registry.register(
            "cordon_journal_failures",
            "Failed writes, each of which lost what was in flight",
            self.failures.clone(),
        );
        registry.register(
            "cordon_journal_writable",
            "1 while the journal can be written, else 0",
            self.writable.clone(),
        );
        registry.register(
            "cordon_journal_segment",
            "The number of the segment that is written",
            self.segment.clone(),
        );
        registry.register(
            "cordon_journal_commit_batch_records",
            "Records of one group commit",
            self.batch_records.clone(),
        );
        registry.register(
            "cordon_journal_fsync_seconds",
            "How long one sync of a group took",
            self.fsync_seconds.clone(),
        );
    }
}
