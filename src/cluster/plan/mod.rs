//! What this node shall do now: a pure function of what it has read and what it has.

use std::collections::{BTreeMap, BTreeSet};

use super::members::{Standing, View};
use super::placement::{self, StandbyMode};
use super::routes::Routes;
use crate::actors::Seat;
use crate::domain::Timestamp;
use crate::journal::Partition;

/// How long, by the board's clock, the rightful owner of a partition waits for the release of an
/// owner that lives, in milliseconds. Claiming without one is safe; it only costs a lease.
pub const HANDOVER_PATIENCE_MS: i64 = 10_000;
/// How long the rightful owner waits to hear of an owner when others live that may have claimed the
/// partition a moment ago.
pub const RUMOUR_PATIENCE_MS: i64 = 1_500;
/// The pauses between claims of a partition that was lost to somebody else, in milliseconds by the
/// board's clock: the first one, doubling up to the last.
pub const CLAIM_PAUSE_MS: (i64, i64) = (1_000, 30_000);
/// After this long in office, in milliseconds, an earlier loss counts no more.
pub const SETTLED_MS: i64 = 30_000;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Take these over.
    pub claim: Vec<Partition>,
    /// Hand these over.
    pub release: Vec<Partition>,
    /// Follow exactly these.
    pub follow: BTreeSet<Partition>,
}

/// What has to be remembered from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Since when this node is the rightful owner of what it does not have.
    rightful: BTreeMap<Partition, Timestamp>,
    claims: BTreeMap<Partition, Claims>,
}

/// The claims of one partition.
#[derive(Clone, Copy, Debug)]
struct Claims {
    last: Timestamp,
    pause_ms: i64,
}

/// What the node knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// Its name.
    pub node: &'a str,
    /// It was asked to stop.
    pub leaving: bool,
    /// How many nodes follow a partition.
    pub standby: StandbyMode,
}

/// Decides. `seats` are this node's, by partition.
///
/// Nothing is decided before the board was read whole and this node has read its own beat there: so
/// all nodes judge by the same log, and one that is cut off from it sees no time pass.
pub fn plan(
    view: &View,
    routes: &Routes,
    seats: &[Seat],
    me: Me<'_>,
    memory: &mut Memory,
) -> Orders {
    let mut orders = Orders::default();
    let all = (0..).map(Partition).zip(seats);
    if me.leaving {
        for (partition, seat) in all {
            if matches!(seat, Seat::Serving { .. }) {
                orders.release.push(partition);
            }
        }
        return orders;
    }
    if !view.is_whole() || view.find(me.node).is_none() {
        return orders;
    }
    orders.follow = placement::followed_by(view, me.node, seats.len() as u16, me.standby);
    for (partition, seat) in all {
        let owner = placement::owner(view, routes, partition);
        let rightful = owner.is_some_and(|owner| owner.node == me.node);
        match seat {
            Seat::Serving { .. } => {
                memory.rightful.remove(&partition);
                if !rightful {
                    orders.release.push(partition);
                }
            }
            Seat::Claiming | Seat::Leaving => {}
            Seat::Vacant | Seat::StandingBy { .. } if !rightful => {
                memory.rightful.remove(&partition);
            }
            Seat::Vacant | Seat::StandingBy { .. } => {
                let since = *memory.rightful.entry(partition).or_insert(view.now());
                // Whoever was released to fights nobody.
                let released = Seat::StandingBy { caught_up: true, released: true };
                if *seat == released
                    || may_claim(view, routes, partition, me, since)
                        && memory.allows(partition, view.now())
                {
                    orders.claim.push(partition);
                }
            }
        }
    }
    orders
}

/// Whether nobody is there whose release should be waited for.
fn may_claim(
    view: &View,
    routes: &Routes,
    partition: Partition,
    me: Me<'_>,
    since: Timestamp,
) -> bool {
    let waited_ms = view.now().0 - since.0;
    let Some(owner) = routes.owner(partition) else {
        return view.alive().all(|beat| beat.node == me.node) || waited_ms >= RUMOUR_PATIENCE_MS;
    };
    if owner.node == me.node {
        // Its earlier life, or a claim that was lost; or it has just released the partition and
        // nobody else is there.
        return true;
    }
    match view.find(&owner.node) {
        Some(beat) if beat.address == owner.address => waited_ms >= HANDOVER_PATIENCE_MS,
        // Dead, or started anew: its claim is of an earlier life.
        Some(_) | None => true,
    }
}

impl Memory {
    /// Whether the partition may be claimed now; takes note of it if so.
    fn allows(&mut self, partition: Partition, now: Timestamp) -> bool {
        let (first, last) = CLAIM_PAUSE_MS;
        match self.claims.get_mut(&partition) {
            None => drop(self.claims.insert(partition, Claims { last: now, pause_ms: first })),
            Some(claims) => {
                let since = now.0 - claims.last.0;
                if since < claims.pause_ms {
                    return false;
                }
                let settled = since >= SETTLED_MS.max(claims.pause_ms * 2);
                let pause_ms = if settled { first } else { (claims.pause_ms * 2).min(last) };
                *claims = Claims { last: now, pause_ms };
            }
        }
        true
    }
}

/// The partitions that this node may call itself warm for.
pub fn warm(seats: &[Seat]) -> BTreeSet<Partition> {
    let warm = |seat: &Seat| {
        // Whoever claims is about to serve: others that took it for cold would claim as well.
        matches!(
            seat,
            Seat::Claiming | Seat::Serving { .. } | Seat::StandingBy { caught_up: true, .. }
        )
    };
    let all = (0..).map(Partition).zip(seats);
    all.filter(|(_, seat)| warm(seat)).map(|(partition, _)| partition).collect()
}

/// How this node is: it joins until it is warm for what it shall follow.
pub fn standing(
    leaving: bool,
    follow: &BTreeSet<Partition>,
    warm: &BTreeSet<Partition>,
) -> Standing {
    if leaving {
        Standing::Leaving
    } else if follow.is_subset(warm) {
        Standing::Active
    } else {
        Standing::Joining
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
