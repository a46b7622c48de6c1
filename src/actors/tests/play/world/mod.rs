//! Two nodes, one journal, the wire between them and those who call: what may happen next.

mod asking;
mod ending;
mod happening;
mod shrinking;

use std::sync::Arc;
use std::time::Duration;

use super::clients::{Call, Deed, Known, Look};
use super::journal::{Handle, Medium};
use super::node::{Node, Wire};
use super::proof::Story;
use super::random::Random;
use super::{Kind, NAMES, PARTITIONS, user_id};
use crate::actors::ledger::Confirmation;
use crate::actors::tests::snapshots;
use crate::clock::Clock;
use crate::domain::{OfferForm, Timestamp};
use crate::journal::{Durability, Partition};
use crate::store::{Hand, Store};

/// How long a tick is for everything that looks at an `Instant`: so long that the time that the
/// play itself takes makes no difference to anybody.
const TICK: Duration = Duration::from_secs(100 * 3600);
/// A lease, in ticks.
const LEASE: u32 = 4;
/// How long a caller waits for an answer, in ticks.
const TIME_LIMIT: u32 = 6;
/// How often a call is asked.
const ASKS_MAX: u32 = 20;
/// Calls under way at once.
const CALLS_MAX: usize = 8;
/// Rounds of the arbiter's queue in which most of what is ready comes to a stop.
const QUIET_ROUNDS: usize = 10;
/// How often so many rounds are gone through until everybody has looked, at most.
const LOOKS_MAX: usize = 50;
/// Ticks behind which a healthy world must have come to rest.
const REST_TICKS: u32 = 120;
/// The first moment of the clock that is written into records.
const BEGAN_MS: i64 = 1_795_342_200_000;

/// The stores of two nodes, and one to replay into. Opened once, emptied for each play.
pub(super) struct Shelf {
    pub(super) nodes: [Store; 2],
    /// What takes the place of those two's threads.
    pub(super) hands: [Hand; 2],
    pub(super) replay: Store,
}

/// What a play came to: a play in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) answered: usize,
    pub(super) unknown: usize,
    pub(super) looks: usize,
    pub(super) looks_at_the_blocked: usize,
    pub(super) records: usize,
    pub(super) voids: usize,
    pub(super) claims: u64,
    pub(super) crashes: usize,
    /// Calls that were asked more than once.
    pub(super) again: usize,
    /// Calls with a key that were asked again after their answer.
    pub(super) late: usize,
    /// Accounts deleted.
    pub(super) deleted: usize,
    /// Requests answered that had waited.
    pub(super) agreed: usize,
    /// Looks at what could not be read.
    pub(super) unread: usize,
    /// Records that came while somebody read.
    pub(super) arrived: usize,
    /// Records that were stored twice.
    pub(super) copied: usize,
    /// Records that were not taken.
    pub(super) refused: usize,
    /// Processes that ended in order.
    pub(super) stops: usize,
    /// Partitions that were not taken, because records of theirs are missing.
    pub(super) halted: usize,
    /// What everybody has in the end.
    state: u128,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.looks += other.looks;
        self.looks_at_the_blocked += other.looks_at_the_blocked;
        self.records += other.records;
        self.voids += other.voids;
        self.claims += other.claims;
        self.crashes += other.crashes;
        self.again += other.again;
        self.late += other.late;
        self.deleted += other.deleted;
        self.agreed += other.agreed;
        self.unread += other.unread;
        self.arrived += other.arrived;
        self.copied += other.copied;
        self.refused += other.refused;
        self.stops += other.stops;
        self.halted += other.halted;
        self.state = self.state.rotate_left(1) ^ other.state;
    }
}

pub(super) struct World<'s> {
    random: Random,
    durability: Durability,
    tick: u64,
    step: u64,
    /// How fast each node's clock is, in percent.
    speeds: [u32; 2],
    clock: Clock,
    medium: Medium,
    wire: Arc<Wire>,
    shelf: &'s Shelf,
    /// Snapshots.
    archive: Arc<snapshots::Shelf>,
    nodes: Vec<Node>,
    /// The dead, of whom something may still come.
    ghosts: Vec<Arc<Handle>>,
    calls: Vec<Call>,
    /// How many requests were made.
    requests: u128,
    looks: Vec<Look>,
    /// The journal's ends, asked for on behalf of the leases and not heard yet.
    ends: Vec<(usize, Partition, Option<Confirmation>)>,
    known: Known,
    story: Story,
    problems: Vec<String>,
    tally: Tally,
    /// Friends are imported, too: then friendships are not of both.
    one_way: bool,
    /// Everybody wants to be asked.
    careful: bool,
    /// Accounts come and go.
    mortal: bool,
    /// Partitions are claimed while their owners go on to answer.
    rival: bool,
    /// Stores take nothing now and then.
    crowded: bool,
    /// The log stores records twice now and then.
    stutters: bool,
    /// The journal takes a record of a partition not now and then, and the next one.
    choosy: bool,
    /// The partitions of a node have a thread each.
    apart: bool,
    /// The journal has lost records.
    shrunk: bool,
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

impl<'s> World<'s> {
    pub(super) fn new(seed: u64, kind: Kind, shelf: &'s Shelf) -> Self {
        for store in &shelf.nodes {
            store.tables().set_full(false);
            for partition in partitions() {
                store.tables().clear(partition).expect("the store is writable");
            }
        }
        // One order over all partitions is the order of one file, and one node has it.
        let (durability, lease, count) = match kind {
            Kind::Shrinking if seed.is_multiple_of(3) => (Durability::Prefix, None, 1),
            Kind::Single => (Durability::Prefix, None, 1),
            Kind::Pair | Kind::Skewed | Kind::Shrinking => {
                (Durability::PerPartition, Some(TICK * LEASE), 2)
            }
        };
        let medium = Medium::new(PARTITIONS, durability, lease);
        let mut world = Self {
            random: Random::new(seed),
            durability,
            tick: 1,
            step: 0,
            speeds: match kind {
                Kind::Single | Kind::Shrinking => [100; 2],
                Kind::Pair => [[100; 2], [100, 110], [110, 100]][(seed / 4 % 3) as usize],
                Kind::Skewed => [[100, 250], [250, 100]][(seed / 4 % 2) as usize],
            },
            clock: Clock::fixed(Timestamp(BEGAN_MS)),
            medium,
            wire: Arc::default(),
            shelf,
            archive: Arc::default(),
            nodes: Vec::new(),
            ghosts: Vec::new(),
            calls: Vec::new(),
            requests: 0,
            looks: Vec::new(),
            ends: Vec::new(),
            known: Known::default(),
            story: Story::new(),
            problems: Vec::new(),
            tally: Tally::default(),
            one_way: seed.is_multiple_of(3),
            careful: seed % 4 == 1,
            mortal: seed % 5 == 2,
            rival: seed % 4 == 3 || kind == Kind::Skewed,
            crowded: seed % 7 == 4,
            stutters: seed % 5 == 3,
            choosy: seed % 6 == 5,
            apart: seed.is_multiple_of(2),
            shrunk: false,
        };
        world.nodes = (0..count).map(|index| world.node(index)).collect();
        world
    }

    fn node(&self, index: usize) -> Node {
        let name = ["one", "two"][index];
        let store = self.shelf.nodes[index].clone();
        let (clock, wire) = (self.clock.clone(), self.wire.clone());
        let (handle, archive) = (self.medium.handle(), self.archive.clone());
        let node = Node::new(name, handle, store, clock, wire, archive, self.apart);
        node.context.seats.set_ahead(self.ahead(index));
        node
    }

    /// How much the play has moved a node's clock.
    fn ahead(&self, node: usize) -> Duration {
        TICK * self.tick as u32 * self.speeds[node] / 100
    }

    /// There is one node, as the product runs by default: nobody else can write.
    fn alone(&self) -> bool {
        self.durability == Durability::Prefix
    }

    fn complain(&mut self, problem: String) {
        self.problems.push(format!("step {}: {problem}", self.step));
    }

    /// Lets tasks have so many turns.
    async fn turns(&self, rounds: usize) {
        for _ in 0..rounds {
            tokio::task::yield_now().await;
            for hand in &self.shelf.hands {
                hand.work();
            }
        }
    }

    /// Everybody exists and wants somebody, and everything is served by somebody.
    pub(super) async fn begin(&mut self) {
        for name in NAMES {
            self.ask_anew(user_id(name), Deed::Import, Vec::new());
        }
        if self.careful {
            self.come_to_rest().await;
            for name in NAMES {
                self.ask_anew(user_id(name), Deed::Confirms(true), Vec::new());
            }
        }
        self.come_to_rest().await;
        // What may end, or be answered: everybody wants the next one, and has the one behind that alone.
        let names = NAMES.map(user_id);
        for (index, name) in names.into_iter().enumerate() {
            let other = |steps: usize| vec![names[(index + steps) % names.len()]];
            self.ask_anew(name, Deed::Add(OfferForm::TwoWay), other(1));
            if self.one_way {
                self.ask_anew(name, Deed::Add(OfferForm::Import), other(2));
            }
        }
        self.come_to_rest().await;
    }

    /// Something happens.
    pub(super) async fn step(&mut self) {
        self.step += 1;
        match self.random.below(48) {
            0..=5 => self.call(),
            6..=9 => self.look(),
            10..=17 => self.deliver(true),
            18..=23 => self.sync(),
            24..=29 => self.settle(),
            30..=32 => self.move_clock(),
            33 | 34 => self.confirm(),
            35 | 36 => self.claim(),
            37..=40 => self.housekeeping(),
            41 if self.random.one_in(3) => self.lose(),
            42 if self.random.one_in(3) => self.crash(),
            43 if self.random.one_in(2) => self.leave(),
            44 | 45 if self.rival => self.depose(),
            44 => self.depose(),
            46 if self.random.one_in(2) => self.silence(),
            47 => self.arrive(),
            _ => {}
        }
        if self.choosy && self.random.one_in(8) {
            self.refuse();
        }
        if self.random.one_in(2) {
            self.ask(false);
        }
        if self.random.one_in(3) {
            self.rivalry().await;
        }
        let rounds = self.random.below(12);
        self.turns(rounds).await;
        let again = self.random.one_in(2);
        self.keep(again);
        self.hear();
    }
}
