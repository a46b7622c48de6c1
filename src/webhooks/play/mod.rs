//! Plays a subscription through seeded interleavings: a receiver that answers, refuses, hangs, asks
//! for patience and dies behind its answer; a node that crashes between any two steps and loses its
//! partitions; saves that are lost, or durable without being told.
//!
//! Laws: every delivery is accepted or a dead letter in the end; per user the first acceptances are in the
//! order of the journal; the same id has the same bytes; a cursor never goes back but by a move, and each
//! partition is where it was moved to last;
//! every durable cursor's count is what the journal says (`balances`); and the audit of all that was
//! written finds nothing wrong.

mod laws;
mod moves;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use uuid::Uuid;

use self::shelf::Shelf;
use super::breaker::{FAILURES_IN_A_ROW_MAX, Fault};
use super::digest::{DeliveryId, hash};
use super::endpoint::Endpoint;
use super::feed::Said;
use super::format::Signer;
use super::guard::Guard;
use super::line::{Line, Next, SaveToken, Sent, Verdict};
use super::subscription::Subscription;
use super::switches::Switches;
use super::testing::origin;
use crate::domain::{
    AppId, DeliveryTerms, Event, FailurePolicy, Timestamp, User, UserId, UserKey, Version, keeper,
};
use crate::journal::{Body, Commit, Cursor, Partition};
use crate::tags::CallbackCommand;

const APP: AppId = AppId(7);
const PARTITIONS: u16 = 2;
const USERS: [&str; 6] = ["amy", "bob", "carl", "dora", "eve", "fay"];
/// Seeds that every run plays; more by `CORDON_PLAY_SEEDS`.
const SEEDS: u64 = 10_000;
/// Steps behind which a healthy world must have come to rest.
const REST_STEPS: u32 = 20_000;

/// Small and fast, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// How the receiver is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Some deliveries fail.
    Shaky,
    /// All deliveries fail, with this fault.
    Down(Fault),
    /// Deliveries of this user fail.
    Hates(usize),
    /// It asks for patience.
    Busy,
}

struct World {
    seed: u64,
    random: Random,
    now: u64,
    subscription: Rc<Subscription>,
    shelves: Vec<Shelf>,
    line: Option<Line>,
    out: Vec<(Sent, u64)>,
    saving: Vec<(Partition, Cursor, SaveToken)>,
    mood: Mood,
    /// Records of each partition that are read before something else may happen.
    read_max: usize,
    /// Ids in the order of their first acceptance.
    accepted: Vec<(DeliveryId, UserId)>,
    known: BTreeMap<DeliveryId, u128>,
    chain: BTreeMap<(Partition, u64), (DeliveryId, Option<DeliveryId>)>,
    dead: BTreeSet<String>,
    steps: u32,
    attempts_most: u32,
    moved: bool,
    changed: bool,
    /// Deliveries of this user are answered late.
    slow: Option<UserId>,
    /// The stream that keeps the subscription's moves.
    keeper: User,
    /// The last move of each partition, unless it is to a moment, which may never come.
    moves: BTreeMap<Partition, Option<u32>>,
}

impl World {
    fn new(seed: u64, policy: FailurePolicy) -> Self {
        let delivery = DeliveryTerms {
            policy,
            attempts_max: if seed % 8 == 7 { 1 } else { 3 },
            in_flight_max: 4,
            retry_min_ms: 100,
            retry_max_ms: 2_000,
            per_second: seed.is_multiple_of(5).then_some(50),
            ..DeliveryTerms::default()
        };
        let subscription = Subscription {
            app: APP,
            name: "main".into(),
            endpoint: Endpoint::parse("http://a").expect("an address"),
            guard: Guard::Off,
            certificate: None,
            signer: Signer::unsigned(),
            headers: true,
            commands: Switches::ALL,
            enabled: true,
            delivery,
            seeks: Vec::new(),
            replay: None,
        };
        let mut shelves: Vec<Shelf> = (0..PARTITIONS).map(|_| Shelf::default()).collect();
        for (index, shelf) in shelves.iter_mut().enumerate() {
            let claim = Body::Claim { node: "test".into(), nonce: Uuid::nil() };
            shelf.put(Partition(index as u16), &claim);
            let cursor = Cursor::begin(shelf.end());
            let name = subscription.cursor_name();
            let body = Body::Cursor { subscription: name, cursor: Box::new(cursor.clone()) };
            shelf.put(Partition(index as u16), &body);
            shelf.cursor = Some(cursor.clone());
            shelf.cursors.push(cursor);
        }
        Self {
            seed,
            random: Random(seed),
            now: 0,
            subscription: Rc::new(subscription),
            shelves,
            line: None,
            out: Vec::new(),
            saving: Vec::new(),
            mood: Mood::Well,
            read_max: usize::MAX,
            accepted: Vec::new(),
            known: BTreeMap::new(),
            chain: BTreeMap::new(),
            dead: BTreeSet::new(),
            steps: 0,
            attempts_most: 0,
            moved: false,
            changed: false,
            slow: seed.is_multiple_of(3).then(|| id(USERS[(seed / 3 % 6) as usize])),
            keeper: User::new(keeper()),
            moves: BTreeMap::new(),
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp(self.now as i64)
    }

    fn append(&mut self) {
        let index = self.random.below(3).min(u64::from(PARTITIONS) - 1) as usize;
        // A user has one partition.
        let user = USERS[2 * (self.random.below(3) as usize) + index];
        let target = id(USERS[self.random.below(6) as usize]);
        let blocked = Event::UserBlocked { target, remain_friends: false };
        let unblocked = Event::UserUnblocked { target };
        let events = match self.random.below(6) {
            0 => vec![unblocked],
            1 => vec![blocked, unblocked],
            2 => vec![Event::AccountImported {}],
            _ => vec![blocked],
        };
        let app = if self.random.one_in(8) { AppId(8) } else { APP };
        self.commit(index, UserKey { app, user: id(user) }, events);
    }

    fn commit(&mut self, index: usize, key: UserKey, events: Vec<Event>) {
        let commit = Commit {
            id: Uuid::nil(),
            key,
            version: Version(1),
            at: self.at(),
            by: Arc::new(origin()),
            cause: None,
            events,
        };
        self.shelves[index].put(Partition(index as u16), &Body::Commit(commit));
    }

    fn follow(&mut self, partition: Partition) {
        let (now, subscription) = (self.now, Rc::clone(&self.subscription));
        let line = self.line.get_or_insert_with(|| Line::new(subscription));
        let shelf = &self.shelves[usize::from(partition.0)];
        line.follow(partition, shelf.cursor.clone(), shelf.end(), now);
    }

    fn crash(&mut self) {
        self.line = None;
        self.out.clear();
        for (partition, cursor, _) in std::mem::take(&mut self.saving) {
            // What was under way may have come to be.
            if self.random.one_in(2) {
                self.make_durable(partition, &cursor);
            }
        }
    }

    fn make_durable(&mut self, partition: Partition, cursor: &Cursor) {
        let shelf = &mut self.shelves[usize::from(partition.0)];
        let known = shelf.cursor.as_ref().map(|known| (known.term, known.place.next));
        // As the owner of a partition does it.
        if known.is_some_and(|known| (cursor.term, cursor.place.next) < known) {
            return;
        }
        let subscription = self.subscription.cursor_name();
        let body = Body::Cursor { subscription, cursor: Box::new(cursor.clone()) };
        shelf.put(partition, &body);
        shelf.cursor = Some(cursor.clone());
        shelf.cursors.push(cursor.clone());
        self.dead.extend(cursor.progress.died.iter().map(|letter| letter.id.to_string()));
    }

    /// What the receiver makes of a delivery.
    fn verdict(&mut self, sent: &Sent) -> Verdict {
        let fails = |fault| Verdict::Failed { fault, error: "no".into() };
        let user = USERS.iter().position(|name| id(name) == sent.user);
        match self.mood {
            Mood::Well => Verdict::Accepted,
            Mood::Shaky => match self.random.below(4) {
                0 => fails(Fault::Answer),
                1 => fails(Fault::Silence),
                _ => Verdict::Accepted,
            },
            Mood::Down(fault) => fails(fault),
            Mood::Hates(hated) if user == Some(hated) => fails(Fault::Answer),
            Mood::Hates(_) => Verdict::Accepted,
            Mood::Busy => Verdict::PutOff { wait_ms: 50 + self.random.below(500) },
        }
    }

    fn answer(&mut self, index: usize) {
        let (sent, _) = self.out.swap_remove(index);
        let id = sent.delivery.id;
        let body = hash(id, &sent.delivery.payload().body);
        let known = *self.known.entry(id).or_insert(body);
        assert_eq!(known, body, "seed {}: other bytes under {id}", self.seed);
        let mut verdict = self.verdict(&sent);
        if verdict == Verdict::Accepted {
            if !self.accepted.iter().any(|(known, _)| *known == id) {
                self.accepted.push((id, sent.user));
            }
            self.chain.insert((sent.partition, sent.delivery.seq), (id, sent.delivery.prev));
            // The receiver has it, and nobody hears of that.
            if self.random.one_in(10) {
                verdict = Verdict::Failed { fault: Fault::Silence, error: "reset".into() };
            }
        }
        self.attempts_most = self.attempts_most.max(sent.delivery.attempts);
        let (now, at) = (self.now, self.at());
        if let Some(line) = &mut self.line {
            line.settle(&sent, &verdict, now, at);
        }
    }

    /// Everything that happens by itself.
    fn run(&mut self) {
        let now = self.now;
        let Some(line) = &mut self.line else { return };
        for (partition, place) in line.reads() {
            let shelf = &self.shelves[usize::from(partition.0)];
            let from = usize::try_from(place.next.0).expect("a small world");
            for fed in shelf.fed.iter().skip(from).take(self.read_max) {
                if !line.take(partition, fed) {
                    break;
                }
            }
        }
        while let Some(next) = line.next(now) {
            match next {
                Next::Send(sent) => {
                    let twice = self.out.iter().any(|(other, _)| other.user == sent.user);
                    assert!(!twice, "seed {}: two calls of one user are out", self.seed);
                    self.out.push((sent, now));
                }
                Next::Fetch(fetching) => {
                    let shelf = &self.shelves[usize::from(fetching.partition.0)];
                    let fed = &shelf.fed[fetching.offset.0 as usize];
                    let Said::Commit { deliveries, .. } = &fed.said else { panic!("no commit") };
                    line.fetched(fetching, deliveries.clone(), now);
                }
            }
        }
        for saving in line.saves(now, 1_000) {
            self.saving.push((saving.partition, saving.cursor, saving.mark));
        }
        line.left();
    }

    fn end_save(&mut self, index: usize) {
        let (partition, cursor, token) = self.saving.swap_remove(index);
        let happened = self.random.one_in(8);
        let told = !self.random.one_in(8);
        if told || happened {
            self.make_durable(partition, &cursor);
        }
        if let Some(line) = &mut self.line {
            line.saved(partition, token, told);
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Subscription)) {
        let mut subscription = (*self.subscription).clone();
        change(&mut subscription);
        self.subscription = Rc::new(subscription);
        if let Some(line) = &mut self.line {
            line.adopt(Rc::clone(&self.subscription));
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(24) {
            0..=5 => self.append(),
            6..=8 => self.now += self.random.below(400),
            9..=14 if !self.out.is_empty() => {
                let index = self.random.below(self.out.len() as u64) as usize;
                let is_slow = Some(self.out[index].0.user) == self.slow;
                if !is_slow || self.random.one_in(16) {
                    self.answer(index);
                }
            }
            15..=16 if !self.saving.is_empty() => {
                let index = self.random.below(self.saving.len() as u64) as usize;
                self.end_save(index);
            }
            17 if self.random.one_in(4) => self.crash(),
            18 => {
                self.mood = match self.random.below(7) {
                    0 => Mood::Shaky,
                    1 => Mood::Down(Fault::Silence),
                    2 => Mood::Down(Fault::Answer),
                    3 | 4 => Mood::Hates(self.random.below(6) as usize),
                    5 => Mood::Busy,
                    _ => Mood::Well,
                };
            }
            19 => {
                let partition = Partition(self.random.below(u64::from(PARTITIONS)) as u16);
                if let Some(line) = &mut self.line {
                    line.leave(partition);
                }
            }
            20 if self.changed && self.random.one_in(3) => {
                let less: Switches = [CallbackCommand::BlackListAdd].into_iter().collect();
                let commands = if self.random.one_in(2) { less } else { Switches::ALL };
                self.change(|subscription| subscription.commands = commands);
            }
            21 if self.moved && self.random.one_in(6) => self.seek(),
            _ => {}
        }
        // A disk is slow now and then: deliveries come back between two reads.
        self.read_max = if self.random.one_in(2) { 1 } else { usize::MAX };
        self.follow_all();
        self.run();
    }

    fn follow_all(&mut self) {
        for partition in (0..PARTITIONS).map(Partition) {
            let serves = self.line.as_ref().is_some_and(|line| line.serves(partition));
            if !serves {
                self.follow(partition);
            }
        }
    }

    /// The receiver is well and nothing breaks any more, until nothing is left to do.
    fn come_to_rest(&mut self) {
        self.mood = Mood::Well;
        self.read_max = usize::MAX;
        for _ in 0..REST_STEPS {
            self.follow_all();
            self.run();
            if let Some(index) = self.out.len().checked_sub(1) {
                self.answer(index);
            } else if let Some(index) = self.saving.len().checked_sub(1) {
                self.end_save(index);
            } else {
                let line = self.line.as_mut().expect("it follows");
                let due = line.due(self.now);
                let left = line.partitions().len() < usize::from(PARTITIONS);
                let reads = line.reads().into_iter().any(|(partition, place)| {
                    place.next < self.shelves[usize::from(partition.0)].end().next
                });
                match due {
                    _ if reads || left => {}
                    Some(due) => self.now = self.now.max(due),
                    None => return,
                }
            }
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }
}

fn play(seed: u64, policy: FailurePolicy, moved: bool, changed: bool) {
    let mut world = World::new(seed, policy);
    (world.moved, world.changed) = (moved, changed);
    world.follow_all();
    let steps = 20 + world.random.below(200);
    for _ in 0..steps {
        world.step();
    }
    world.come_to_rest();
    world.check();
}

fn seeds() -> u64 {
    let asked = std::env::var("CORDON_PLAY_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn nothing_is_lost_reordered_or_miscounted_whatever_fails() {
    for seed in 0..seeds() {
        let policy = if seed % 4 == 3 { FailurePolicy::Skip } else { FailurePolicy::HoldUser };
        play(seed, policy, false, seed % 8 == 1);
    }
}

#[test]
fn a_moved_subscription_keeps_its_count() {
    for seed in 0..seeds() / 10 {
        play(seed, FailurePolicy::HoldUser, true, seed % 3 == 0);
    }
}

#[test]
fn a_week_of_outage_spends_no_attempt() {
    for fault in [Fault::Silence, Fault::Answer] {
        let mut world = World::new(1, FailurePolicy::Skip);
        world.follow_all();
        (0..200).for_each(|_| world.append());
        world.mood = Mood::Down(fault);
        let week = 7 * 24 * 60 * 60 * 1000;
        let mut deliveries = 0_u64;
        while world.now < week {
            world.run();
            while !world.out.is_empty() {
                deliveries += 1;
                world.answer(0);
                world.run();
            }
            while !world.saving.is_empty() {
                world.end_save(0);
            }
            let line = world.line.as_ref().expect("it follows");
            world.now = line.due(world.now).expect("it tries again").max(world.now + 1);
        }
        assert!(world.line.as_ref().is_some_and(Line::is_down));
        assert!(deliveries > 20_000 / 2 && deliveries < 40_000, "{deliveries} probes in a week");
        assert!(world.attempts_most < FAILURES_IN_A_ROW_MAX);
        world.come_to_rest();
        assert!(world.dead.is_empty(), "nothing is given up");
        world.check();
    }
}
