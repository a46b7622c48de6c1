//! The world of the simulation.
//!
//! The nodes run the product's own planner. What is simulated is the rest: boards with one order,
//! which each node reads late or not at all; and per partition the claims and releases that the journal
//! would hold. The node with the last effective claim is the owner. Claims, hand-overs and catching up
//! take their time, and a deposed owner notices late.

use super::super::*;
use crate::journal::Epoch;

pub(super) const PARTITIONS: u16 = 8;
pub(super) const NODES: usize = 4;
/// One step of the world, in milliseconds.
const STEP_MS: i64 = 250;
pub(super) const DEAD_AFTER_MS: i64 = 5_000;
/// What a claimer waits for the lease of an owner that did not release.
const LEASE_MS: i64 = 1_100;
/// How late an owner notices at most that it was deposed.
const NOTICE_MS: i64 = 1_000;
/// What a node takes to read what it has not followed, before or after it claims.
const CATCH_UP_MS: i64 = 2_000;
const HAND_OVER_MS: i64 = 250;
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    epoch: u64,
    pub(super) released: bool,
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

pub(super) struct Node {
    pub(super) running: bool,
    /// It stands still: nothing of it moves.
    pub(super) paused: bool,
    /// Since when it reads and posts nothing on the boards. The journal it reaches.
    pub(super) deaf_since: Option<i64>,
    /// Its store takes no rows.
    pub(super) cramped: bool,
    born: i64,
    planner: Planner,
    work: Vec<Work>,
    follow: BTreeSet<Partition>,
    read: (usize, usize),
    /// How much stood on the boards when it came.
    standing: (usize, usize),
    seen_itself: bool,
}

pub(super) struct World {
    pub(super) now: i64,
    members: Vec<Notice>,
    owners: Vec<Notice>,
    pub(super) journal: Vec<Claim>,
    pub(super) nodes: Vec<Node>,
    lives: u128,
    pub(super) claim_ms: [i64; NODES],
    pub(super) claims: usize,
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

    pub(super) fn is_up(&self) -> bool {
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
            Work::Serving { epoch, .. } => {
                Seat::Serving { epoch: Epoch(epoch), cramped: self.cramped }
            }
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
                    let since = *deposed_at.get_or_insert(now);
                    if now - since >= NOTICE_MS {
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
    pub(super) fn new(running: &[usize]) -> Self {
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
            cramped: false,
            born: self.now,
            planner: Planner::new(me, PARTITIONS, dead_after, StandbyMode::One),
            work: vec![Work::Idle; usize::from(PARTITIONS)],
            follow: BTreeSet::new(),
            read: (0, 0),
            standing: (self.members.len(), self.owners.len()),
            seen_itself: false,
        }
    }

    pub(super) fn start(&mut self, index: usize) {
        self.nodes[index] = self.born(index);
    }

    pub(super) fn leave(&mut self, index: usize) {
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
            let read_ms = match *work {
                Work::Idle => 0,
                Work::Following { since } => now - since,
                _ => panic!("{index} claims what it has: {work:?}"),
            };
            let behind_ms = (CATCH_UP_MS - read_ms).max(0);
            let effective_at = now + behind_ms + self.claim_ms[index];
            *work = Work::Claiming { effective_at };
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
                owners.push(Notice::Posted { key: partition.to_string(), value });
            }
        }
        if node.planner.beat_is_due(here) {
            let beat = node.planner.beat(here, &node.seats(journal, now));
            if node.deaf_since.is_none() {
                let value = serde_json::to_vec(&beat).expect("a beat is JSON");
                members.push(Notice::Posted { key: beat.node, value });
            }
        }
        // What was asked to stop stops when it is done, or when its patience is over.
        let late =
            node.planner.leaving.is_some_and(|leaving| here >= leaving.since + LEAVE_PATIENCE);
        if late || node.planner.has_left(here, &node.seats(journal, now)) {
            node.running = false;
        }
    }

    pub(super) fn step(&mut self, lags: &[usize; NODES]) {
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
    pub(super) fn calm(&mut self, ms: i64) -> usize {
        let before = self.claims;
        (0..ms / STEP_MS).for_each(|_| self.step(&[0; NODES]));
        self.claims - before
    }

    /// The same with a new account of how long partitions were without an owner; answers the longest.
    pub(super) fn gap_within(&mut self, ms: i64) -> i64 {
        self.longest = 0;
        self.calm(ms);
        self.longest
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(|node| self.nodes[*node].is_up())
    }

    /// Every partition is served by exactly one node, all know which, and somebody stands by.
    pub(super) fn check(&self) {
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
            let expected = self.running().count().min(2) - 1;
            // Who has no room follows beside those who have.
            let beside = self.running().filter(|node| self.nodes[*node].cramped).count();
            assert!(
                (expected..=expected + beside).contains(&warm),
                "partition {partition} is followed by {warm}"
            );
        }
        for node in self.running() {
            let (node, seats) =
                (&self.nodes[node], self.nodes[node].seats(&self.journal, self.now));
            assert_eq!(node.planner.unready(node.here(self.now), &seats), None);
        }
    }

    pub(super) fn owners(&self) -> Vec<usize> {
        let owner = |partition| (0..NODES).find(|node| self.serves(*node, partition));
        (0..usize::from(PARTITIONS)).map(|partition| owner(partition).expect("one")).collect()
    }
}
