//! What the actors count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the actors tell the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// User actors that live now.
    pub resident: Gauge,
    /// What they take in memory, about: what the bound on it counts.
    pub resident_bytes: Gauge,
    /// User actors started.
    pub started: Counter,
    /// User actors retired.
    pub retired: Counter,
    /// Claims that took effect.
    pub claims: Counter,
    /// Times a partition had to read from the journal what became of it.
    pub doubts: Counter,
    /// Partitions that this node should own and cannot claim.
    pub halted: Gauge,
    /// Times another owner was found to have claimed a partition.
    pub fenced: Counter,
    /// Records of others found behind this owner's own, that count for nobody.
    pub void: Counter,
    /// Effects that their destinations have not acknowledged.
    pub owed: Gauge,
    /// Questions and commands put off because the journal had not confirmed the owner in time.
    pub lease_refusals: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_users_resident", "User actors alive", self.resident.clone());
        registry.register(
            "cordon_users_resident_bytes",
            "Memory that the user actors alive take, about",
            self.resident_bytes.clone(),
        );
        registry.register("cordon_users_started", "User actors started", self.started.clone());
        registry.register("cordon_users_retired", "User actors retired", self.retired.clone());
        registry.register(
            "cordon_partition_doubts",
            "Times a partition read from the journal what became of it",
            self.doubts.clone(),
        );
        registry.register(
            "cordon_partition_claims",
            "Claims that took effect",
            self.claims.clone(),
        );
        registry.register(
            "cordon_partitions_halted",
            "Partitions that this node should own and cannot claim",
            self.halted.clone(),
        );
        registry.register(
            "cordon_partition_fenced",
            "Times another owner was found to have claimed a partition",
            self.fenced.clone(),
        );
        registry.register(
            "cordon_records_void",
            "Records of others behind an owner's own, that count for nobody",
            self.void.clone(),
        );
        registry.register(
            "cordon_effects_owed",
            "Effects on other users that their side has not acknowledged",
            self.owed.clone(),
        );
        registry.register(
            "cordon_lease_refusals",
            "Questions and commands put off because the owner was not confirmed in time",
            self.lease_refusals.clone(),
        );
    }
}

/// Counts a partition that should be owned and cannot be claimed, until it is dropped.
pub(super) struct Halted(Gauge);

impl Halted {
    pub(super) fn new(metrics: &Metrics) -> Self {
        metrics.halted.inc();
        Self(metrics.halted.clone())
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
