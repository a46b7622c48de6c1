//! Several nodes, two boards and a journal, in steps that a seed chooses: who ends up with what.
//!
//! The nodes run the product's own planner. What is simulated is the world: boards with one order and
//! a clock, which each node reads late or not at all; and per partition the claims and releases that
//! the journal would hold, of which the last effective claim owns. Claims, hand-overs and catching up
//! take their time, and who was deposed notices late.

use proptest::prelude::*;

use super::*;
use crate::domain::Timestamp;
use crate::journal::Epoch;

const PARTITIONS: u16 = 8;
const NODES: usize = 4;
/// One step of the world, in milliseconds.
const STEP_MS: i64 = 250;
const DEAD_AFTER_MS: i64 = 5_000;
/// What a claimer waits for the lease of an owner that did not release.
const LEASE_MS: i64 = 1_100;
/// How late an owner notices at most that it was deposed.
const NOTICE_MS: i64 = 1_000;
const CATCH_UP_MS: i64 = 1_000;
const HAND_OVER_MS: i64 = 250;
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default)]
struct Claim {
    epoch: u64,
    released: bool,
}

/// What a node is at with a partition, behind its seat.
#[derive(Clone, Copy, Debug)]
enum Work {
    Idle,
    Following { since: i64 },
    Claiming { effective_at: i64 },
    Claimed { epoch: u64, serves_at: i64 },
    Serving { epoch: u64, deposed_at: Option<i64> },
    Leaving { epoch: u64, until: i64 },
}

struct Node {
    running: bool,
    /// It stands still: nothing of it moves.
    paused: bool,
    /// Since when it reads and posts nothing on the boards. The journal it reaches.
    deaf_since: Option<i64>,
    born: i64,
    planner: Planner,
    work: Vec<Work>,
    follow: BTreeSet<Partition>,
    read: (usize, usize),
    /// How much stood on the boards when it came.
    standing: (usize, usize),
    seen_itself: bool,
}

struct World {
    now: i64,
    members: Vec<Notice>,
    owners: Vec<Notice>,
    journal: Vec<Claim>,
    nodes: Vec<Node>,
    lives: u128,
    claim_ms: [i64; NODES],
    claims: usize,
    /// How long each partition has been without an owner that serves it, and the longest time.
    unserved: Vec<i64>,
    longest: i64,
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

impl Node {
    fn here(&self, now: i64) -> Duration {
        Duration::from_millis((now - self.born) as u64)
    }

    fn is_up(&self) -> bool {
        self.running && !self.paused
    }

    /// The seats as the node's own partitions tell them.
    fn seats(&self, journal: &[Claim], now: i64) -> Vec<Seat> {
        let seat = |(work, claim): (&Work, &Claim)| match *work {
            Work::Idle => Seat::Vacant,
            Work::Following { since } => {
                let caught_up = now - since >= CATCH_UP_MS;
                Seat::StandingBy { caught_up, released: caught_up && claim.released }
            }
            Work::Claiming { .. } | Work::Claimed { .. } => Seat::Claiming,
            Work::Serving { epoch, .. } => Seat::Serving { epoch: Epoch(epoch) },
            Work::Leaving { .. } => Seat::Leaving,
        };
        self.work.iter().zip(journal).map(seat).collect()
    }

    /// What became of claims and hand-overs by now.
    fn progress(&mut self, journal: &mut [Claim], now: i64) {
        for (index, (work, claim)) in self.work.iter_mut().zip(journal).enumerate() {
            match work {
                Work::Claiming { effective_at } if now >= *effective_at => {
                    let clean = claim.released || claim.epoch == 0;
                    *claim = Claim { epoch: claim.epoch + 1, released: false };
                    let serves_at = now + if clean { 0 } else { LEASE_MS };
                    *work = Work::Claimed { epoch: claim.epoch, serves_at };
                }
                Work::Claimed { epoch, serves_at } if now >= *serves_at => {
                    *work = match claim.epoch == *epoch {
                        true => Work::Serving { epoch: *epoch, deposed_at: None },
                        false => Work::Idle,
                    };
                }
                Work::Serving { epoch, deposed_at } if claim.epoch != *epoch => {
                    if now - *deposed_at.get_or_insert(now) >= NOTICE_MS {
                        *work = Work::Idle;
                    }
                }
                Work::Leaving { epoch, until } if now >= *until => {
                    claim.released |= claim.epoch == *epoch;
                    *work = Work::Idle;
                }
                _ => {}
            }
            let followed = self.follow.contains(&Partition(index as u16));
            match work {
                Work::Idle if followed => *work = Work::Following { since: now },
                Work::Following { .. } if !followed => *work = Work::Idle,
                _ => {}
            }
        }
    }
}

impl World {
    fn new(running: &[usize]) -> Self {
        let partitions = usize::from(PARTITIONS);
        let mut world = Self {
            now: 0,
            members: Vec::new(),
            owners: Vec::new(),
            journal: vec![Claim::default(); partitions],
            nodes: Vec::new(),
            lives: 0,
            claim_ms: [250; NODES],
            claims: 0,
            unserved: vec![0; partitions],
            longest: 0,
        };
        for index in 0..NODES {
            let mut node = world.born(index);
            node.running = running.contains(&index);
            world.nodes.push(node);
        }
        world
    }

    fn born(&mut self, index: usize) -> Node {
        self.lives += 1;
        let (node, incarnation) = (name(index), Uuid::from_u128(self.lives));
        let me = Me { address: format!("{node}:7000"), node, incarnation };
        let dead_after = Duration::from_millis(DEAD_AFTER_MS as u64);
        Node {
            running: true,
            paused: false,
            deaf_since: None,
            born: self.now,
            planner: Planner::new(me, PARTITIONS, dead_after, StandbyMode::One),
            work: vec![Work::Idle; usize::from(PARTITIONS)],
            follow: BTreeSet::new(),
            read: (0, 0),
            standing: (self.members.len(), self.owners.len()),
            seen_itself: false,
        }
    }

    fn start(&mut self, index: usize) {
        self.nodes[index] = self.born(index);
    }

    fn leave(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.planner.leave(node.here(self.now), LEAVE_PATIENCE);
    }

    /// Reads what is there, but for the last `lag` notices.
    fn read(&mut self, index: usize, lag: usize) {
        let Self { members, owners, nodes, now, .. } = self;
        let node = &mut nodes[index];
        if node.deaf_since.is_some() {
            return;
        }
        let here = node.here(*now);
        let until = members.len().saturating_sub(lag).max(node.read.0);
        for notice in &members[node.read.0..until] {
            node.planner.hear_member(notice, here);
            let me = &node.planner.me;
            node.seen_itself |= node.planner.view.find_start(&me.node, me.incarnation).is_some();
        }
        if !node.planner.view.is_whole() && until >= node.standing.0 {
            node.planner.hear_member(&Notice::CaughtUp, here);
        }
        node.read.0 = until;
        let until = owners.len().saturating_sub(lag).max(node.read.1);
        for notice in &owners[node.read.1..until] {
            node.planner.hear_owner(notice);
        }
        if !node.planner.owners.is_whole() && until >= node.standing.1 {
            node.planner.hear_owner(&Notice::CaughtUp);
        }
        node.read.1 = until;
    }

    /// A node does what it does within a step.
    fn act(&mut self, index: usize, lag: usize) {
        if !self.nodes[index].is_up() {
            return;
        }
        self.read(index, lag);
        let Self { members, owners, journal, nodes, now, .. } = self;
        let (now, node) = (*now, &mut nodes[index]);
        node.progress(journal, now);
        let (here, seats) = (node.here(now), node.seats(journal, now));
        let orders = node.planner.look(here, &seats);
        if !orders.claim.is_empty() {
            assert!(node.seen_itself, "{index} claims before it has read a beat of its own");
            let deaf_ms = node.deaf_since.map_or(0, |since| now - since);
            assert!(deaf_ms <= DEAD_AFTER_MS, "{index} is cut off and claims {:?}", orders.claim);
        }
        for partition in &orders.claim {
            let work = &mut node.work[usize::from(partition.0)];
            assert!(matches!(work, Work::Idle | Work::Following { .. }), "{work:?}");
            *work = Work::Claiming { effective_at: now + self.claim_ms[index] };
            self.claims += 1;
        }
        for partition in &orders.release {
            let work = &mut node.work[usize::from(partition.0)];
            match *work {
                Work::Claiming { .. } => *work = Work::Idle,
                Work::Serving { epoch, .. } => {
                    *work = Work::Leaving { epoch, until: now + HAND_OVER_MS };
                }
                _ => {}
            }
        }
        node.follow = orders.follow;
        for (partition, tenure) in orders.post {
            if node.deaf_since.is_none() {
                let value = serde_json::to_vec(&tenure).expect("a claim is JSON");
                let (key, at) = (partition.to_string(), Timestamp(now));
                owners.push(Notice::Posted { key, value, at });
            }
        }
        if node.planner.beat_is_due(here) {
            let beat = node.planner.beat(here, &node.seats(journal, now));
            if node.deaf_since.is_none() {
                let value = serde_json::to_vec(&beat).expect("a beat is JSON");
                members.push(Notice::Posted { key: beat.node, value, at: Timestamp(now) });
            }
        }
        // What was asked to stop stops when it is done, or when its patience is over.
        let late =
            node.planner.leaving.is_some_and(|leaving| here >= leaving.since + LEAVE_PATIENCE);
        if late || node.planner.has_left(here, &node.seats(journal, now)) {
            node.running = false;
        }
    }

    fn step(&mut self, lags: &[usize; NODES]) {
        self.now += STEP_MS;
        for (node, lag) in lags.iter().enumerate() {
            self.act(node, *lag);
        }
        for partition in 0..usize::from(PARTITIONS) {
            let served = (0..NODES).any(|node| self.serves(node, partition));
            let unserved = &mut self.unserved[partition];
            *unserved = if served { 0 } else { *unserved + STEP_MS };
            self.longest = self.longest.max(*unserved);
        }
    }

    /// Whether the node serves the partition, and rightly so.
    fn serves(&self, node: usize, partition: usize) -> bool {
        let (node, claim) = (&self.nodes[node], &self.journal[partition]);
        let serves = |epoch| epoch == claim.epoch && !claim.released;
        node.is_up() && matches!(node.work[partition], Work::Serving { epoch, .. } if serves(epoch))
    }

    /// Lets `ms` pass in which nothing happens; answers how many claims there were.
    fn calm(&mut self, ms: i64) -> usize {
        let before = self.claims;
        (0..ms / STEP_MS).for_each(|_| self.step(&[0; NODES]));
        self.claims - before
    }

    /// The same with a new account of how long partitions were without an owner; answers the longest.
    fn gap_within(&mut self, ms: i64) -> i64 {
        self.longest = 0;
        self.calm(ms);
        self.longest
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(|node| self.nodes[*node].is_up())
    }

    /// Every partition is served by exactly one node, all know which, and somebody stands by.
    fn check(&self) {
        for (index, partition) in (0..PARTITIONS).map(Partition).enumerate() {
            let believes =
                |node: &usize| matches!(self.nodes[*node].work[index], Work::Serving { .. });
            let serving: Vec<usize> = self.running().filter(believes).collect();
            let [owner] = serving[..] else {
                panic!("partition {partition} is served by {serving:?}");
            };
            assert!(self.serves(owner, index), "partition {partition}: {owner} was deposed");
            let mut warm = 0;
            for node in self.running().map(|node| &self.nodes[node]) {
                for told in
                    [node.planner.owners.highest(partition), node.planner.owners.last(partition)]
                {
                    let told = told.expect("an owner is known");
                    assert_eq!(told.node, name(owner), "partition {partition}");
                    assert_eq!(told.epoch.0, self.journal[index].epoch, "partition {partition}");
                }
                let seats = node.seats(&self.journal, self.now);
                warm +=
                    usize::from(matches!(seats[index], Seat::StandingBy { caught_up: true, .. }));
            }
            assert_eq!(
                warm,
                self.running().count().min(2) - 1,
                "partition {partition} is followed"
            );
        }
        for node in self.running() {
            let (node, seats) =
                (&self.nodes[node], self.nodes[node].seats(&self.journal, self.now));
            assert_eq!(node.planner.unready(node.here(self.now), &seats), None);
        }
    }

    fn owners(&self) -> Vec<usize> {
        let owner = |partition| (0..NODES).find(|node| self.serves(*node, partition));
        (0..usize::from(PARTITIONS)).map(|partition| owner(partition).expect("one")).collect()
    }
}

/// Nodes that run and have shared everything among them.
fn settled(running: &[usize]) -> World {
    let mut world = World::new(running);
    world.calm(30_000);
    world.check();
    world
}

#[test]
fn nodes_that_start_together_share_everything_and_then_nobody_claims_any_more() {
    let mut world = World::new(&[0, 1, 2, 3]);
    let claims = world.calm(30_000);
    world.check();
    assert!(claims <= 2 * usize::from(PARTITIONS), "{claims}");
    assert_eq!(world.calm(120_000), 0);
    world.check();
}

#[test]
fn a_crash_moves_only_what_the_dead_node_had_and_within_seconds() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let dead = before[0];
    world.nodes[dead].running = false;
    let gap = world.gap_within(30_000);
    world.check();
    for (owner, heir) in before.iter().zip(world.owners()) {
        assert!(*owner == dead || *owner == heir);
        assert_ne!(heir, dead);
    }
    // Until it is dead for the others, its last beat may be a beat old; then the lease.
    assert!((DEAD_AFTER_MS..DEAD_AFTER_MS + 3_000).contains(&gap), "{gap} ms");
}

#[test]
fn a_join_moves_partitions_to_the_joiner_alone_and_each_for_a_moment_only() {
    let mut world = settled(&[0, 1, 2]);
    let before = world.owners();
    world.start(3);
    let gap = world.gap_within(30_000);
    world.check();
    let after = world.owners();
    assert!(before.iter().zip(&after).all(|(owner, heir)| owner == heir || *heir == 3));
    assert!(after.contains(&3));
    assert!(gap <= 1_500, "{gap} ms");
}

#[test]
fn a_drain_leaves_no_partition_unserved_for_longer_than_a_hand_over_takes() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let leaving = before[0];
    world.leave(leaving);
    let gap = world.gap_within(5_000);
    assert!(!world.nodes[leaving].running, "it is done before its patience is over");
    assert!(gap <= 1_500, "{gap} ms");
    world.calm(10_000);
    world.check();
    assert!(before.iter().zip(world.owners()).all(|(was, is)| *was == leaving || *was == is));
}

#[test]
fn who_leaves_waits_until_others_are_warm() {
    let mut world = settled(&[0]);
    world.start(1);
    world.step(&[0; NODES]);
    world.leave(0);
    let gap = world.gap_within(10_000);
    assert!(!world.nodes[0].running);
    assert!(gap <= 1_500, "{gap} ms");
    world.check();
}

#[test]
fn the_last_node_may_leave() {
    let mut world = settled(&[2]);
    world.leave(2);
    world.calm(2_000);
    assert!(!world.nodes[2].running);
    assert!(world.journal.iter().all(|claim| claim.released));
}

#[test]
fn a_node_that_is_cut_off_from_the_boards_loses_everything_and_fights_for_nothing() {
    let mut world = settled(&[0, 1, 2, 3]);
    let cut = world.owners()[0];
    world.nodes[cut].deaf_since = Some(world.now);
    // That it claims nothing is checked at each step.
    world.calm(60_000);
    assert!(!world.owners().contains(&cut));
    let claims = world.claims;
    world.nodes[cut].deaf_since = None;
    world.calm(60_000);
    world.check();
    assert!(world.owners().contains(&cut), "it takes its share again");
    assert!(world.claims - claims <= usize::from(PARTITIONS), "{}", world.claims - claims);
}

#[test]
fn a_node_that_stood_still_comes_back_without_a_fight() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let paused = before[0];
    let share = before.iter().filter(|owner| **owner == paused).count();
    world.nodes[paused].paused = true;
    world.calm(8_000);
    world.nodes[paused].paused = false;
    let claims = world.calm(60_000);
    world.check();
    assert_eq!(world.owners(), before);
    // Each of its partitions is claimed by the standby and then, after a hand-over, by itself.
    assert!(claims <= 2 * share, "{claims} claims for {share} partitions");
}

#[test]
fn a_node_that_was_started_anew_at_once_is_cold_and_its_standby_takes_over() {
    let mut world = settled(&[0, 1, 2, 3]);
    let restarted = world.owners()[0];
    world.start(restarted);
    let gap = world.gap_within(4_000);
    assert!(gap <= 4_000 && !world.owners().is_empty(), "nobody waits for a death: {gap} ms");
    world.calm(30_000);
    world.check();
}

#[test]
fn a_whole_cluster_may_be_started_anew_after_any_time() {
    let mut world = settled(&[0, 1, 2, 3]);
    (0..NODES).for_each(|node| world.nodes[node].running = false);
    world.calm(3_600_000);
    (0..NODES).for_each(|node| world.start(node));
    world.calm(30_000);
    world.check();
}

#[derive(Clone, Debug)]
enum Event {
    Steps(usize, [usize; NODES]),
    Crash(usize),
    Start(usize),
    Pause(usize),
    Cut(usize),
    Heal(usize),
    Drain(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let steps = (1..40_usize, prop::array::uniform(0..4_usize));
    prop_oneof![
        6 => steps.prop_map(|(count, lags)| Event::Steps(count, lags)),
        1 => (0..NODES).prop_map(Event::Crash),
        2 => (0..NODES).prop_map(Event::Start),
        1 => (0..NODES).prop_map(Event::Pause),
        1 => (0..NODES).prop_map(Event::Cut),
        2 => (0..NODES).prop_map(Event::Heal),
        1 => (0..NODES).prop_map(Event::Drain),
    ]
}

impl World {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Steps(count, lags) => (0..count).for_each(|_| self.step(&lags)),
            Event::Crash(node) => self.nodes[node].running = false,
            Event::Start(node) if self.nodes[node].running => {}
            Event::Start(node) => self.start(node),
            Event::Pause(node) => self.nodes[node].paused = true,
            Event::Cut(node) => {
                let now = self.now;
                self.nodes[node].deaf_since.get_or_insert(now);
            }
            Event::Heal(node) => {
                self.nodes[node].paused = false;
                self.nodes[node].deaf_since = None;
            }
            Event::Drain(node) if self.nodes[node].is_up() => self.leave(node),
            Event::Drain(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happened_each_partition_has_one_owner_that_all_know_once_it_is_calm(
        events in prop::collection::vec(event(), 1..40),
        running in prop::collection::btree_set(0..NODES, 1..=NODES),
        claim_ms in prop::array::uniform(prop::sample::select(vec![250, 750, 3_000])),
    ) {
        let mut world = World::new(&running.into_iter().collect::<Vec<_>>());
        world.claim_ms = claim_ms;
        let troubles = events.iter().filter(|event| !matches!(event, Event::Steps(..))).count();
        events.into_iter().for_each(|event| world.happen(event));
        (0..NODES).for_each(|node| world.happen(Event::Heal(node)));
        // Whoever was asked to stop has stopped by now, and one has to be there.
        world.calm(20_000);
        world.happen(Event::Start(0));
        world.calm(duty::DISTRUST_MS + 60_000);
        world.check();
        let bound = usize::from(PARTITIONS) * 3 * (troubles + 3);
        prop_assert!(world.claims <= bound, "{} claims, {troubles} troubles", world.claims);
        prop_assert_eq!(world.calm(60_000), 0, "claims come to an end");
        world.check();
    }
}
