//! What calls between nodes count for the ops listener.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The metrics of calls between nodes. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    forwards: Family<ForwardLabels, Counter>,
    forward_seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<KindLabels, Gauge>,
    dropped: Family<ReasonLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
}

/// What is sent to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ask,
    Pairing,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Pairing => "pairing",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForwardLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let forwards = Family::<ForwardLabels, Counter>::default();
        for kind in [Kind::Ask, Kind::Pairing] {
            // Shown from the start, so that none of them is not the same as not measured.
            drop(forwards.get_or_create(&ForwardLabels { kind: kind.word(), outcome: "answered" }));
        }
        let refused = Family::<ReasonLabels, Counter>::default();
        for reason in ["stranger", "outdated"] {
            drop(refused.get_or_create(&ReasonLabels { reason }));
        }
        Self {
            forwards,
            forward_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 2.0, 16))
            }),
            in_flight: Family::default(),
            dropped: Family::default(),
            refused,
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cordon_node_forwards",
            "Calls to other nodes by outcome",
            self.forwards.clone(),
        );
        registry.register(
            "cordon_node_forward_seconds",
            "How long a call to another node took",
            self.forward_seconds.clone(),
        );
        registry.register(
            "cordon_node_forwards_in_flight",
            "Calls to other nodes under way",
            self.in_flight.clone(),
        );
        registry.register(
            "cordon_node_messages_dropped",
            "Messages between partitions that were not sent; their channels send them again",
            self.dropped.clone(),
        );
        registry.register(
            "cordon_node_calls_refused",
            "Calls of other nodes that were not looked into",
            self.refused.clone(),
        );
    }

    /// A call that ends at once.
    pub(super) fn not_called(&self, kind: Kind, outcome: &'static str) {
        self.forwards.get_or_create(&ForwardLabels { kind: kind.word(), outcome }).inc();
    }

    pub(super) fn calling(&self, kind: Kind) {
        self.in_flight.get_or_create(&KindLabels { kind: kind.word() }).inc();
    }

    /// The end of a call that [`Metrics::calling`] was told of.
    pub(super) fn called(&self, kind: Kind, outcome: &'static str, took: Duration) {
        let labels = KindLabels { kind: kind.word() };
        self.in_flight.get_or_create(&labels).dec();
        self.forward_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.not_called(kind, outcome);
    }

    pub(super) fn dropped(&self, reason: &'static str, messages: usize) {
        self.dropped.get_or_create(&ReasonLabels { reason }).inc_by(messages as u64);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    #[cfg(test)]
    pub(super) fn forwards(&self, kind: Kind, outcome: &'static str) -> u64 {
        self.forwards.get_or_create(&ForwardLabels { kind: kind.word(), outcome }).get()
    }

    #[cfg(test)]
    pub(super) fn drops(&self, reason: &'static str) -> u64 {
        self.dropped.get_or_create(&ReasonLabels { reason }).get()
    }

    #[cfg(test)]
    pub(super) fn refusals(&self, reason: &'static str) -> u64 {
        self.refused.get_or_create(&ReasonLabels { reason }).get()
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self, kind: Kind) -> i64 {
        self.in_flight.get_or_create(&KindLabels { kind: kind.word() }).get()
    }
}
