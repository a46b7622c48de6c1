//! What the cluster tells the operator.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::plan::Planner;
use crate::actors::Seat;

/// The metrics of a node among others. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) alive: Gauge,
    pub(super) serving: Gauge,
    pub(super) standing_by: Gauge,
    pub(super) unreadable: Gauge,
    pub(super) claims: Counter,
    pub(super) releases: Counter,
    pub(super) mismatches: Counter,
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("cordon_members_alive", "Nodes that live", &self.alive),
            ("cordon_partitions_serving", "Partitions that this node owns", &self.serving),
            (
                "cordon_partitions_standing_by",
                "Partitions that this node follows and has caught up with",
                &self.standing_by,
            ),
            (
                "cordon_board_unreadable_notices",
                "Notices of other nodes that could not be read since the start",
                &self.unreadable,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            (
                "cordon_partition_claims_ordered",
                "Claims that this node was told to make",
                &self.claims,
            ),
            (
                "cordon_partition_releases",
                "Partitions that this node was told to hand over",
                &self.releases,
            ),
            (
                "cordon_owners_mismatches",
                "Partitions that this node served while the owners' board said otherwise",
                &self.mismatches,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    pub(super) fn show(&self, planner: &Planner, seats: &[Seat]) {
        let count = |which: fn(&Seat) -> bool| seats.iter().filter(|seat| which(seat)).count();
        self.alive.set(planner.view().alive().count() as i64);
        self.serving.set(count(|seat| matches!(seat, Seat::Serving { .. })) as i64);
        let warm = count(|seat| matches!(seat, Seat::StandingBy { caught_up: true, .. }));
        self.standing_by.set(warm as i64);
        self.unreadable.set(i64::try_from(planner.unreadable()).unwrap_or(i64::MAX));
    }
}
