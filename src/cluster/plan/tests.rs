//! When a node claims, waits, hands over and follows.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::cluster::members::Beat;
use crate::cluster::routes::Owner;
use crate::journal::{Epoch, Notice};

const PARTITIONS: u16 = 8;
const SERVING: Seat = Seat::Serving { epoch: Epoch(1) };
const RELEASED: Seat = Seat::StandingBy { caught_up: true, released: true };
const WARM: Seat = Seat::StandingBy { caught_up: true, released: false };

fn all() -> BTreeSet<Partition> {
    (0..PARTITIONS).map(Partition).collect()
}

/// One node's knowledge.
struct Mind {
    view: View,
    routes: Routes,
    memory: Memory,
    seats: Vec<Seat>,
    leaving: bool,
}

impl Mind {
    fn new() -> Self {
        let mut view = View::new(Duration::from_secs(5));
        view.apply(&Notice::CaughtUp);
        Self {
            view,
            routes: Routes::new(PARTITIONS),
            memory: Memory::default(),
            seats: vec![Seat::Vacant; usize::from(PARTITIONS)],
            leaving: false,
        }
    }

    fn beat(&mut self, node: &str, state: Standing, warm: BTreeSet<Partition>, at: i64) {
        let beat = Beat {
            node: node.into(),
            incarnation: Uuid::nil(),
            address: format!("{node}:7000"),
            state,
            warm,
        };
        let value = serde_json::to_vec(&beat).expect("a beat is JSON");
        self.view.apply(&Notice::Posted { key: node.into(), value, at: Timestamp(at) });
    }

    fn owned_by(&self, node: &str, epoch: u64) {
        for partition in all() {
            let address = format!("{node}:7000");
            self.routes.note(partition, Owner { epoch: Epoch(epoch), node: node.into(), address });
        }
    }

    /// What the node "me" shall do.
    fn orders(&mut self) -> Orders {
        let me = Me { node: "me", leaving: self.leaving, standby: StandbyMode::One };
        plan(&self.view, &self.routes, &self.seats, me, &mut self.memory)
    }
}

#[test]
fn a_node_that_is_alone_claims_everything_at_once() {
    let mut mind = Mind::new();
    mind.beat("me", Standing::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS));
}

#[test]
fn nothing_is_decided_before_the_board_was_read_and_shows_this_node() {
    let mut mind = Mind::new();
    assert_eq!(mind.orders(), Orders::default());
    mind.beat("other", Standing::Active, all(), 0);
    assert_eq!(mind.orders(), Orders::default());
    mind.view = View::new(Duration::from_secs(5));
    mind.beat("me", Standing::Active, all(), 0);
    assert_eq!(mind.orders(), Orders::default(), "not read whole");
}

#[test]
fn a_living_owner_is_waited_for_and_not_for_ever() {
    let mut mind = Mind::new();
    mind.seats = vec![WARM; usize::from(PARTITIONS)];
    mind.owned_by("old", 3);
    // It leaves, so this node is the rightful owner; but it has not released anything yet.
    for at in (0..HANDOVER_PATIENCE_MS).step_by(1000) {
        mind.beat("me", Standing::Active, all(), at);
        mind.beat("old", Standing::Leaving, BTreeSet::new(), at);
        assert_eq!(mind.orders().claim, [], "{at}");
    }
    mind.beat("me", Standing::Active, all(), HANDOVER_PATIENCE_MS);
    mind.beat("old", Standing::Leaving, BTreeSet::new(), HANDOVER_PATIENCE_MS);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS));
}

#[test]
fn a_release_is_answered_by_a_claim_at_once() {
    let mut mind = Mind::new();
    mind.seats = vec![RELEASED; usize::from(PARTITIONS)];
    mind.owned_by("old", 3);
    mind.beat("me", Standing::Active, all(), 0);
    mind.beat("old", Standing::Leaving, BTreeSet::new(), 0);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS));
    // However often that happens.
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS));
}

#[test]
fn a_dead_owner_and_one_that_began_anew_are_not_waited_for() {
    let mut mind = Mind::new();
    mind.seats = vec![WARM; usize::from(PARTITIONS)];
    mind.owned_by("old", 3);
    mind.beat("old", Standing::Active, all(), 0);
    mind.beat("me", Standing::Active, all(), 6_000);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS), "dead");

    let mut mind = Mind::new();
    mind.seats = vec![WARM; usize::from(PARTITIONS)];
    for partition in all() {
        let address = "old:9999".into();
        mind.routes.note(partition, Owner { epoch: Epoch(3), node: "old".into(), address });
    }
    mind.beat("old", Standing::Joining, BTreeSet::new(), 0);
    mind.beat("me", Standing::Active, all(), 0);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS), "its address is another one");
}

#[test]
fn what_nobody_is_known_to_own_is_claimed_when_rumours_have_had_their_time() {
    let mut mind = Mind::new();
    mind.seats = vec![WARM; usize::from(PARTITIONS)];
    mind.beat("me", Standing::Active, all(), 0);
    mind.beat("other", Standing::Active, BTreeSet::new(), 0);
    assert_eq!(mind.orders().claim, []);
    mind.beat("me", Standing::Active, all(), RUMOUR_PATIENCE_MS);
    assert_eq!(mind.orders().claim.len(), usize::from(PARTITIONS));
}

#[test]
fn a_partition_that_was_lost_is_claimed_again_more_and_more_rarely() {
    let mut mind = Mind::new();
    let mut claims = Vec::new();
    for at in (0..120_000).step_by(250) {
        mind.beat("me", Standing::Active, BTreeSet::new(), at);
        // Each claim is lost at once.
        if !mind.orders().claim.is_empty() {
            claims.push(at);
        }
    }
    let pauses: Vec<i64> = claims.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
}

#[test]
fn what_somebody_else_should_own_and_can_serve_is_handed_over() {
    let mut mind = Mind::new();
    mind.seats = vec![SERVING; usize::from(PARTITIONS)];
    mind.owned_by("me", 1);
    mind.beat("me", Standing::Active, all(), 0);
    mind.beat("new", Standing::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.orders().release, [], "it is cold");
    mind.beat("new", Standing::Active, all(), 0);
    let release = mind.orders().release;
    assert!(!release.is_empty() && release.len() < usize::from(PARTITIONS), "{release:?}");
}

#[test]
fn who_leaves_hands_over_everything_and_claims_and_follows_nothing() {
    let mut mind = Mind::new();
    mind.seats = vec![SERVING, WARM, Seat::Vacant, RELEASED, Seat::Claiming, SERVING, WARM, WARM];
    mind.beat("me", Standing::Active, all(), 0);
    mind.leaving = true;
    let orders = mind.orders();
    assert_eq!(orders.release, [Partition(0), Partition(5)]);
    assert_eq!((orders.claim, orders.follow), (Vec::new(), BTreeSet::new()));
}

#[test]
fn a_node_joins_until_it_is_warm_for_what_it_follows() {
    let some = BTreeSet::from([Partition(1)]);
    assert_eq!(standing(false, &all(), &some), Standing::Joining);
    assert_eq!(standing(false, &some, &all()), Standing::Active);
    assert_eq!(standing(true, &some, &all()), Standing::Leaving);
    let seats = [SERVING, Seat::Claiming, WARM, RELEASED, Seat::Vacant];
    let warm_for: Vec<u16> = warm(&seats).into_iter().map(|partition| partition.0).collect();
    assert_eq!(warm_for, [0, 1, 2, 3]);
}
