//! Several nodes, two boards and a journal, in steps that a seed chooses: who ends up with what.
//!
//! The nodes run the product's own view, placement and plan. What is simulated is the world: a board
//! with one order and a clock, which each node reads late; and per partition the claims and releases
//! that the journal would hold, of which the last effective claim owns.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::cluster::members::Beat;
use crate::cluster::routes::Owner;
use crate::journal::{Epoch, Notice};

const PARTITIONS: u16 = 8;
const NODES: usize = 4;
/// One step of the world, in milliseconds.
const STEP_MS: i64 = 250;

#[derive(Clone, Debug)]
struct Claim {
    node: usize,
    epoch: u64,
    released: bool,
}

struct Node {
    running: bool,
    /// It is stopped, or cut off from the board and the journal.
    cut: bool,
    leaving: bool,
    life: u128,
    view: View,
    routes: Routes,
    memory: Memory,
    seats: Vec<Seat>,
    read: (usize, usize),
    beat_due: i64,
}

struct World {
    now: i64,
    members: Vec<Notice>,
    owners: Vec<(Partition, Owner)>,
    journal: Vec<Option<Claim>>,
    nodes: Vec<Node>,
    claims: usize,
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

impl Node {
    fn new(life: u128) -> Self {
        Self {
            running: true,
            cut: false,
            leaving: false,
            life,
            view: View::new(Duration::from_secs(5)),
            routes: Routes::new(PARTITIONS),
            memory: Memory::default(),
            seats: vec![Seat::Vacant; usize::from(PARTITIONS)],
            read: (0, 0),
            beat_due: 0,
        }
    }
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            members: Vec::new(),
            owners: Vec::new(),
            journal: vec![None; usize::from(PARTITIONS)],
            nodes: (0..NODES).map(|node| Node::new(node as u128)).collect(),
            claims: 0,
        }
    }

    fn address(&self, node: usize) -> String {
        format!("{}:{}", name(node), self.nodes[node].life)
    }

    /// A node does what it does within a step; `lag` notices of the boards' ends are not read yet.
    fn act(&mut self, index: usize, lag: usize) {
        if !self.nodes[index].running || self.nodes[index].cut {
            return;
        }
        let (now, address) = (self.now, self.address(index));
        let members = self.members.len().saturating_sub(lag);
        let owners = self.owners.len().saturating_sub(lag);
        let node = &mut self.nodes[index];
        for notice in self.members.get(node.read.0..members).unwrap_or_default() {
            node.view.apply(notice);
        }
        for (partition, owner) in self.owners.get(node.read.1..owners).unwrap_or_default() {
            node.routes.note(*partition, owner.clone());
        }
        node.read = (node.read.0.max(members), node.read.1.max(owners));
        node.view.apply(&Notice::CaughtUp);
        // What the journal tells this node: it was deposed, or the owner has released.
        for (partition, seat) in node.seats.iter_mut().enumerate() {
            let last = &self.journal[partition];
            match seat {
                Seat::Serving { epoch } => {
                    let mine = last.as_ref().is_some_and(|claim| claim.epoch == epoch.0);
                    if !mine {
                        *seat = Seat::Vacant;
                    }
                }
                Seat::StandingBy { released, .. } => {
                    *released = last.as_ref().is_some_and(|claim| claim.released);
                }
                Seat::Vacant | Seat::Claiming | Seat::Leaving => {}
            }
        }
        let name = name(index);
        let me = Me { node: &name, leaving: node.leaving, standby: StandbyMode::One };
        let orders = plan(&node.view, &node.routes, &node.seats, me, &mut node.memory);
        for partition in &orders.release {
            node.seats[usize::from(partition.0)] = Seat::Vacant;
            if let Some(claim) = &mut self.journal[usize::from(partition.0)] {
                claim.released = true;
            }
        }
        for partition in &orders.claim {
            let slot = &mut self.journal[usize::from(partition.0)];
            let epoch = slot.as_ref().map_or(1, |claim| claim.epoch + 1);
            *slot = Some(Claim { node: index, epoch, released: false });
            node.seats[usize::from(partition.0)] = Seat::Serving { epoch: Epoch(epoch) };
            let owner = Owner { epoch: Epoch(epoch), node: name.clone(), address: address.clone() };
            self.owners.push((*partition, owner.clone()));
            node.routes.note(*partition, owner);
            self.claims += 1;
        }
        for (index, seat) in node.seats.iter_mut().enumerate() {
            let followed = orders.follow.contains(&Partition(index as u16));
            match seat {
                Seat::Vacant if followed => {
                    let released = self.journal[index].as_ref().is_some_and(|claim| claim.released);
                    *seat = Seat::StandingBy { caught_up: true, released };
                }
                Seat::StandingBy { .. } if !followed => *seat = Seat::Vacant,
                _ => {}
            }
        }
        if node.beat_due <= now {
            node.beat_due = now + 1_000;
            let warm = warm(&node.seats);
            let state = standing(node.leaving, &orders.follow, &warm);
            let incarnation = Uuid::from_u128(node.life);
            let beat = Beat { node: name.clone(), incarnation, address, state, warm };
            let value = serde_json::to_vec(&beat).expect("a beat is JSON");
            self.members.push(Notice::Posted { key: name, value, at: Timestamp(now) });
        }
    }

    fn step(&mut self, lags: &[usize; NODES]) {
        self.now += STEP_MS;
        for (node, lag) in lags.iter().enumerate() {
            self.act(node, *lag);
        }
    }

    /// Lets `ms` pass in which nothing happens.
    fn calm(&mut self, ms: i64) {
        for _ in 0..ms / STEP_MS {
            self.step(&[0; NODES]);
        }
    }

    /// Every partition is served by exactly one node that is there, and all know which.
    fn check(&self) {
        for partition in (0..PARTITIONS).map(Partition) {
            let index = usize::from(partition.0);
            let serving: Vec<usize> = (0..NODES)
                .filter(|node| {
                    let node = &self.nodes[*node];
                    node.running && matches!(node.seats[index], Seat::Serving { .. })
                })
                .collect();
            let [owner] = serving[..] else {
                panic!("partition {partition} is served by {serving:?}");
            };
            let claim = self.journal[index].as_ref().expect("it was claimed");
            assert_eq!((claim.node, claim.released), (owner, false));
            for node in self.nodes.iter().filter(|node| node.running && !node.cut) {
                let known = node.routes.owner(partition).expect("an owner is known");
                assert_eq!(known.address, self.address(owner), "partition {partition}");
            }
        }
    }

    fn owners(&self) -> Vec<usize> {
        self.journal.iter().map(|claim| claim.as_ref().expect("it was claimed").node).collect()
    }
}

#[derive(Clone, Debug)]
enum Event {
    Steps(usize, [usize; NODES]),
    Crash(usize),
    Start(usize),
    Cut(usize),
    Heal(usize),
    Drain(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..40_usize, prop::array::uniform(0..4_usize)).prop_map(|(n, lags)| Event::Steps(n, lags)),
        1 => (0..NODES).prop_map(Event::Crash),
        2 => (0..NODES).prop_map(Event::Start),
        1 => (0..NODES).prop_map(Event::Cut),
        2 => (0..NODES).prop_map(Event::Heal),
        1 => (0..NODES).prop_map(Event::Drain),
    ]
}

#[test]
fn a_crash_moves_only_what_the_dead_node_had() {
    let mut world = World::new();
    world.calm(20_000);
    world.check();
    let before = world.owners();
    let dead = before[0];
    world.nodes[dead].running = false;
    world.calm(20_000);
    world.check();
    for (owner, heir) in before.iter().zip(world.owners()) {
        assert!(*owner == dead || *owner == heir);
        assert_ne!(heir, dead);
    }
}

#[test]
fn a_drain_is_over_within_seconds_and_without_waiting_for_a_death() {
    let mut world = World::new();
    world.calm(20_000);
    let leaving = world.owners()[0];
    world.nodes[leaving].leaving = true;
    world.calm(3_000);
    assert!(world.nodes[leaving].seats.iter().all(|seat| !matches!(seat, Seat::Serving { .. })));
    world.check();
}

#[test]
fn a_node_that_is_cut_off_claims_nothing() {
    let mut world = World::new();
    world.calm(20_000);
    world.nodes[0].cut = true;
    let claims = world.journal.clone();
    world.calm(4_000);
    assert_eq!(
        claims.iter().flatten().map(|claim| claim.epoch).collect::<Vec<_>>(),
        world.journal.iter().flatten().map(|claim| claim.epoch).collect::<Vec<_>>(),
    );
}

#[test]
fn nobody_fights_when_all_is_well() {
    let mut world = World::new();
    world.calm(30_000);
    world.check();
    let claims = world.claims;
    world.calm(120_000);
    world.check();
    assert_eq!(world.claims, claims);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happened_each_partition_has_one_owner_that_all_know_once_it_is_calm(
        events in prop::collection::vec(event(), 1..30),
    ) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Steps(count, lags) => (0..count).for_each(|_| world.step(&lags)),
                Event::Crash(node) => world.nodes[node].running = false,
                Event::Start(node) if !world.nodes[node].running => {
                    let life = world.nodes[node].life + 100;
                    world.nodes[node] = Node::new(life);
                }
                Event::Start(_) => {}
                Event::Cut(node) => world.nodes[node].cut = true,
                Event::Heal(node) => world.nodes[node].cut = false,
                Event::Drain(node) => world.nodes[node].leaving = true,
            }
        }
        for node in 0..NODES {
            world.nodes[node].cut = false;
            // Whoever was asked to stop has stopped by now; one has to be there.
            if world.nodes[node].leaving || node == 0 {
                let life = world.nodes[node].life + 1_000;
                world.nodes[node] = Node::new(life);
            }
        }
        world.calm(90_000);
        world.check();
        let claims = world.claims;
        world.calm(60_000);
        world.check();
        prop_assert_eq!(world.claims, claims, "claims come to an end");
    }
}
