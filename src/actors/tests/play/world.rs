//! Two nodes, one journal, the wire between them and those who call: what may happen next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{self, error::TryRecvError};
use uuid::Uuid;

use super::clients::{Call, Deed, Known, Look, Outcome};
use super::journal::{Handle, Late, Medium};
use super::node::{Node, Phase, Wire};
use super::proof::{Story, check_journal, check_people};
use super::random::Random;
use super::{APP, NAMES, PARTITIONS, partition, user_id, user_key};
use crate::actors::ExecuteError;
use crate::actors::ledger::Confirmation;
use crate::actors::partition::{Execute, Standings};
use crate::actors::waiting::ReplyBy;
use crate::clock::Clock;
use crate::domain::{OfferForm, Timestamp, UserId};
use crate::journal::{Durability, Partition, ReadJournal};
use crate::store::Store;

/// How long a tick is for everything that looks at an [`Instant`]: so long that the time that the
/// play itself takes makes no difference to anybody.
const TICK: Duration = Duration::from_secs(3600);
/// A lease, in ticks; and how long its end is waited for, as `ownership` has it.
const LEASE: u32 = 4;
const LEASE_WAIT: u64 = 5;
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
        self.state = self.state.rotate_left(1) ^ other.state;
    }
}

pub(super) struct World<'s> {
    random: Random,
    durability: Durability,
    tick: u64,
    step: u64,
    base: Instant,
    clock: Clock,
    medium: Medium,
    wire: Arc<Wire>,
    shelf: &'s Shelf,
    nodes: Vec<Node>,
    /// The dead, of whom something may still come.
    ghosts: Vec<Arc<Handle>>,
    calls: Vec<Call>,
    looks: Vec<Look>,
    /// The journal's ends, asked for on behalf of the leases and not heard yet.
    ends: Vec<(usize, Partition, Confirmation)>,
    known: Known,
    story: Story,
    problems: Vec<String>,
    tally: Tally,
    /// Friends are imported, too: then friendships are not of both.
    one_way: bool,
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

impl<'s> World<'s> {
    pub(super) fn new(seed: u64, durability: Durability, shelf: &'s Shelf) -> Self {
        for store in &shelf.nodes {
            for partition in partitions() {
                store.tables().clear(partition).expect("the store is writable");
            }
        }
        let medium = Medium::new(PARTITIONS, durability, TICK * LEASE);
        let mut world = Self {
            random: Random::new(seed),
            durability,
            tick: 1,
            step: 0,
            base: Instant::now(),
            clock: Clock::fixed(Timestamp(BEGAN_MS)),
            medium,
            wire: Arc::default(),
            shelf,
            nodes: Vec::new(),
            ghosts: Vec::new(),
            calls: Vec::new(),
            looks: Vec::new(),
            ends: Vec::new(),
            known: Known::default(),
            story: Story::new(),
            problems: Vec::new(),
            tally: Tally::default(),
            one_way: seed.is_multiple_of(3),
        };
        // One order over all partitions is the order of one file, and one node has it.
        let count = match durability {
            Durability::Prefix => 1,
            Durability::PerPartition => 2,
        };
        world.nodes = (0..count).map(|index| world.node(index)).collect();
        world
    }

    fn node(&self, index: usize) -> Node {
        let name = ["one", "two"][index];
        let store = self.shelf.nodes[index].clone();
        Node::new(name, self.medium.handle(), store, self.clock.clone(), self.wire.clone())
    }

    fn now(&self) -> Instant {
        self.base + TICK * self.tick as u32
    }

    fn complain(&mut self, problem: String) {
        self.problems.push(format!("step {}: {problem}", self.step));
    }

    /// Lets tasks have so many turns.
    async fn turns(&self, rounds: usize) {
        for _ in 0..rounds {
            tokio::task::yield_now().await;
        }
    }

    /// Everybody exists, and everything is served by somebody.
    pub(super) async fn begin(&mut self) {
        for name in NAMES {
            self.ask_anew(user_id(name), Deed::Import, Vec::new());
        }
        self.come_to_rest().await;
    }

    fn ask_anew(&mut self, owner: UserId, deed: Deed, targets: Vec<UserId>) {
        let call = Call {
            request: Uuid::from_u128(self.calls.len() as u128 + 1),
            owner,
            deed,
            targets,
            asked: self.step,
            asks: 0,
            answer: None,
            outcome: None,
        };
        self.known.note_asked(&call);
        self.calls.push(call);
    }

    fn pick(&mut self) -> UserId {
        user_id(NAMES[self.random.below(NAMES.len())])
    }

    fn call(&mut self) {
        let under_way = self.calls.iter().filter(|call| call.outcome.is_none()).count();
        if under_way >= CALLS_MAX {
            return;
        }
        let owner = self.pick();
        let first = self.random.below(NAMES.len());
        let count = 1 + self.random.below(2);
        let others = (0..NAMES.len()).map(|step| user_id(NAMES[(first + step) % NAMES.len()]));
        let targets: Vec<UserId> = others.filter(|other| *other != owner).take(count).collect();
        let deed = match self.random.below(10) {
            0..=2 => Deed::Block,
            3 | 4 => Deed::Unblock,
            5..=7 if self.one_way && self.random.one_in(3) => Deed::Add(OfferForm::Import),
            5..=7 => Deed::Add(OfferForm::TwoWay),
            _ => Deed::Remove {
                both: !self.one_way || self.random.one_in(2),
                has_me: self.random.one_in(2),
            },
        };
        self.ask_anew(owner, deed, targets);
    }

    /// Callers who have no answer to wait for ask an owner, if there is one.
    fn ask(&mut self, all: bool) {
        for index in 0..self.calls.len() {
            let call = &self.calls[index];
            if call.outcome.is_some() || call.answer.is_some() {
                continue;
            }
            if !all && self.random.one_in(2) {
                continue;
            }
            let call = &self.calls[index];
            let home = partition(call.owner);
            let Some(owner) = self.owner(home) else { continue };
            let call = &mut self.calls[index];
            if call.asks >= ASKS_MAX {
                call.outcome = Some(Outcome::Unknown);
                continue;
            }
            call.asks += 1;
            self.tally.again += usize::from(call.asks > 1);
            let (reply, answer) = oneshot::channel();
            call.answer = Some(answer);
            let deadline = self.base + TICK * (self.tick as u32 + TIME_LIMIT);
            let message = Execute {
                key: user_key(call.owner),
                command: call.command(),
                origin: call.origin(),
                call: None,
                reply: ReplyBy { reply, deadline },
            };
            self.nodes[owner].offices[usize::from(home.0)].execute(message);
        }
    }

    /// One of those who believe that they own the partition.
    fn owner(&mut self, home: Partition) -> Option<usize> {
        let serves = |node: &usize| self.nodes[*node].offices[usize::from(home.0)].serves();
        let owners: Vec<usize> = (0..self.nodes.len()).filter(serves).collect();
        (!owners.is_empty()).then(|| owners[self.random.below(owners.len())])
    }

    /// Takes in what was answered meanwhile.
    fn hear(&mut self) {
        self.story.read_on(&self.medium);
        for index in 0..self.calls.len() {
            let call = &mut self.calls[index];
            let Some(answer) = &mut call.answer else { continue };
            let answered = match answer.try_recv() {
                Err(TryRecvError::Empty) => continue,
                Ok(answered) => answered,
                Err(TryRecvError::Closed) => Err(ExecuteError::Interrupted),
            };
            call.answer = None;
            let outcome = match answered {
                Ok(executed) => Outcome::Done(executed),
                Err(ExecuteError::Rejected(rejection)) => Outcome::Refused(rejection),
                Err(ExecuteError::Elsewhere | ExecuteError::Interrupted) => continue,
                Err(
                    ExecuteError::Overloaded | ExecuteError::TimedOut | ExecuteError::Unavailable,
                ) => Outcome::Unknown,
            };
            call.outcome = Some(outcome);
            self.answered(index);
        }
        let mut index = 0;
        while index < self.looks.len() {
            match self.looks[index].answer.try_recv() {
                Err(TryRecvError::Empty) => index += 1,
                Ok(Ok(standings)) => {
                    let look = self.looks.swap_remove(index);
                    self.seen(&look, standings[0]);
                }
                Ok(Err(_)) | Err(TryRecvError::Closed) => drop(self.looks.swap_remove(index)),
            }
        }
    }

    fn answered(&mut self, index: usize) {
        let call = &self.calls[index];
        let mut problems = Vec::new();
        if let Some(Outcome::Done(executed)) = &call.outcome {
            self.tally.answered += 1;
            if let Some(place) = executed.position
                && let Err(instead) = self.story.stands(call, place)
            {
                problems.push(format!("{instead} stands where it was said: {call:?}"));
            }
            for (target, outcome) in call.items() {
                let made = matches!(call.deed, Deed::Add(_)) && outcome.is_ok();
                let sides = [(call.owner, target), (target, call.owner)];
                let severed = |(one, other)| {
                    let said = self.known.said(one, other);
                    said.is_some_and(|said| said.severed && said.since <= call.asked)
                };
                if made && sides.into_iter().any(severed) {
                    problems.push(format!("friends across a block: {call:?}"));
                }
            }
        }
        self.known.note_answered(&self.calls[index], self.step);
        problems.into_iter().for_each(|problem| self.complain(problem));
    }

    /// Somebody looks at what one user has about another: often where something has just happened.
    fn look(&mut self) {
        let (mut owner, mut peer) = (self.pick(), self.pick());
        let last = self.calls.iter().rev().find(|call| {
            let is_done = matches!(call.outcome, Some(Outcome::Done(_)));
            is_done && !call.targets.is_empty()
        });
        if let Some(last) = last.filter(|last| last.asked % 4 > 0) {
            (owner, peer) = (last.owner, last.targets[0]);
            if self.random.one_in(3) {
                (owner, peer) = (peer, owner);
            }
        }
        if owner != peer {
            self.look_at(owner, peer);
        }
    }

    fn look_at(&mut self, owner: UserId, peer: UserId) {
        let home = partition(owner);
        let Some(node) = self.owner(home) else { return };
        self.story.read_on(&self.medium);
        let (reply, answer) = oneshot::channel();
        let (asked, durable) = (self.step, self.story.len(home));
        self.looks.push(Look { owner, peer, asked, durable, answer });
        let message = Standings { app: APP, pairs: vec![(owner, peer)], reply };
        self.nodes[node].offices[usize::from(home.0)].look(message);
    }

    /// Promise 2, and that what is read is durable and not older than the question.
    fn seen(&mut self, look: &Look, seen: crate::actors::Standing) {
        let Look { owner, peer, asked, .. } = *look;
        self.tally.looks += 1;
        let before = |said: &super::clients::Said| said.since <= asked;
        let mine = self.known.said(owner, peer).filter(before);
        let theirs = self.known.said(peer, owner).filter(before);
        let blocked = [mine, theirs].into_iter().flatten().any(|said| said.blocked && said.severed);
        self.tally.looks_at_the_blocked += usize::from(blocked);
        if blocked && seen.has_friend {
            self.complain(format!(
                "{owner} has {peer} as a friend across a block: {mine:?} {theirs:?}"
            ));
        }
        if let Some(said) = mine
            && said.blocked != seen.blocks
        {
            self.complain(format!("{owner}, {peer}: {seen:?} instead of {said:?}"));
        }
        if !self.story.explains(owner, peer, look.durable, seen) {
            self.complain(format!("{owner}, {peer}: no durable record explains {seen:?}"));
        }
    }

    /// A message arrives, perhaps twice, or is lost.
    fn deliver(&mut self, faulty: bool) {
        let count = self.wire.with(|messages| messages.len());
        if count == 0 {
            return;
        }
        let index = self.random.below(count);
        let keep = faulty && self.random.one_in(6);
        let message = self.wire.with(|messages| match keep {
            true => messages[index].clone(),
            false => messages.remove(index),
        });
        if faulty && self.random.one_in(10) {
            return;
        }
        let to = usize::from(message.to().0);
        let there = |node: &usize| self.nodes[*node].offices[to].is_there();
        let there: Vec<usize> = (0..self.nodes.len()).filter(there).collect();
        if !there.is_empty() {
            let node = there[self.random.below(there.len())];
            self.nodes[node].offices[to].deliver(message);
        }
    }

    /// What waits for the journal gets further.
    fn sync(&mut self) {
        let node = self.random.below(self.nodes.len());
        let handle = self.nodes[node].handle.clone();
        let of = self.order();
        let waiting = handle.waiting(of);
        if waiting > 0 {
            let count = 1 + self.random.below(waiting);
            handle.sync(of, count);
        }
        if !self.ghosts.is_empty() {
            let ghost = self.random.below(self.ghosts.len());
            self.ghosts[ghost].sync(None, 1);
        }
    }

    /// A partition, if each has an order of its own.
    fn order(&mut self) -> Option<Partition> {
        match self.durability {
            Durability::Prefix => None,
            Durability::PerPartition => {
                Some(Partition(self.random.below(PARTITIONS.into()) as u16))
            }
        }
    }

    /// Nobody knows what became of what was appended.
    fn lose(&mut self) {
        let node = self.random.below(self.nodes.len());
        let handle = self.nodes[node].handle.clone();
        let of = self.order();
        let stored = self.random.below(handle.waiting(of) + 1);
        let late = match self.random.below(3) {
            _ if of.is_none() => None,
            0 => None,
            1 => Some(Late::Whole),
            _ => Some(Late::WithAHole),
        };
        handle.lose(of, stored, late);
        if of.is_none() {
            self.hear_of_the_loss(node);
        }
    }

    /// In one order everybody hears of a loss at once, and what was on its way between partitions
    /// of the node is gone with what it followed from.
    fn hear_of_the_loss(&mut self, node: usize) {
        for office in &mut self.nodes[node].offices {
            while office.take_settlement(self.tick, LEASE_WAIT) {}
        }
        self.wire.with(Vec::clear);
    }

    fn settle(&mut self) {
        let node = self.random.below(self.nodes.len());
        let office = self.random.below(PARTITIONS.into());
        self.nodes[node].offices[office].take_settlement(self.tick, LEASE_WAIT);
    }

    /// A node dies; of what it had in flight some survives, and some of that comes late.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        let node = self.random.below(self.nodes.len());
        self.nodes[node].die();
        let handle = self.nodes[node].handle.clone();
        match self.durability {
            Durability::Prefix => {
                let kept = self.random.below(handle.waiting(None) + 1);
                handle.tear(None, kept);
                handle.sync(None, usize::MAX);
                self.wire.with(Vec::clear);
            }
            Durability::PerPartition => {
                for one in partitions() {
                    let kept = self.random.below(handle.waiting(Some(one)) + 1);
                    handle.tear(Some(one), kept);
                }
                self.ghosts.push(handle);
            }
        }
        self.ends.retain(|(asked, ..)| *asked != node);
        if self.random.one_in(4) {
            for one in partitions() {
                self.shelf.nodes[node].tables().clear(one).expect("the store is writable");
            }
        }
        self.nodes[node] = self.node(node);
    }

    /// Somebody is told to own a partition, whoever owns it now.
    fn claim(&mut self) {
        let now = self.now();
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let others =
            |(other, node_of): (usize, &Node)| other != node && node_of.offices[one].serves();
        let is_owned = self.nodes.iter().enumerate().any(others);
        // Two who claim what the other has would never come to anything.
        if is_owned && !self.random.one_in(3) {
            return;
        }
        let office = &mut self.nodes[node].offices[one];
        if matches!(office.phase, Phase::Vacant | Phase::Doubtful) {
            office.claim(now);
        }
    }

    /// Those who are to claim again do, and whoever has waited for a lease goes on.
    fn keep(&mut self, again: bool) {
        let (now, tick) = (self.now(), self.tick);
        for office in self.nodes.iter_mut().flat_map(|node| &mut node.offices) {
            office.heed();
            office.wait_out(tick);
            if again && matches!(office.phase, Phase::Doubtful) {
                office.claim(now);
            }
        }
    }

    fn move_clock(&mut self) {
        self.tick += 1;
        self.clock.set(Timestamp(BEGAN_MS + 1_000 * self.tick as i64));
        let now = self.now();
        for node in &mut self.nodes {
            let seats = node.context.seats.clone();
            for (index, office) in node.offices.iter_mut().enumerate() {
                let one = Partition(index as u16);
                // Leases are known to a millisecond.
                if seats.lease_until(one).is_some_and(|until| until <= now + TICK / 2) {
                    seats.end_lease(one);
                }
                office.wait_out(self.tick);
                office.tick(now);
            }
        }
    }

    /// A node asks for the journal's ends, or hears of one.
    fn confirm(&mut self) {
        if self.random.one_in(2) && !self.ends.is_empty() {
            let index = self.random.below(self.ends.len());
            let (node, one, confirmation) = self.ends.swap_remove(index);
            self.nodes[node].offices[usize::from(one.0)].confirm(confirmation);
            return;
        }
        let node = self.random.below(self.nodes.len());
        self.ask_for_ends(node);
    }

    fn ask_for_ends(&mut self, node: usize) {
        let asked = self.now();
        for one in partitions() {
            if self.nodes[node].offices[usize::from(one.0)].serves() {
                let end = self.medium.end(one).expect("memory has an end");
                self.ends.push((node, one, Confirmation { asked, end }));
            }
        }
    }

    fn housekeeping(&mut self) {
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let kind = self.random.below(5);
        let store = self.shelf.nodes[node].clone();
        let office = &mut self.nodes[node].offices[one];
        match kind {
            0 | 1 if office.is_there() => office.save(),
            2 if office.is_there() => office.state_hash(),
            3 => office.keeping.registry.sweep(Duration::ZERO, 4),
            4 if matches!(office.phase, Phase::Vacant) => {
                store.tables().clear(Partition(one as u16)).expect("the store is writable");
            }
            _ => {}
        }
    }

    fn leave(&mut self) {
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let patient = !self.random.one_in(3);
        self.nodes[node].offices[one].leave(patient);
    }

    /// Something happens.
    pub(super) async fn step(&mut self) {
        self.step += 1;
        match self.random.below(40) {
            0..=4 => self.call(),
            5..=7 => self.look(),
            8..=15 => self.deliver(true),
            16..=21 => self.sync(),
            22..=27 => self.settle(),
            28 | 29 => self.move_clock(),
            30 | 31 => self.confirm(),
            32 | 33 => self.claim(),
            34 | 35 => self.housekeeping(),
            36 if self.random.one_in(3) => self.lose(),
            37 if self.random.one_in(3) => self.crash(),
            38 if self.random.one_in(2) => self.leave(),
            _ => {}
        }
        if self.random.one_in(2) {
            self.ask(false);
        }
        let rounds = self.random.below(12);
        self.turns(rounds).await;
        let again = self.random.one_in(2);
        self.keep(again);
        self.hear();
    }

    /// Nothing breaks any more: one owner each, until nothing is left to do.
    pub(super) async fn come_to_rest(&mut self) {
        let heirs: Vec<usize> = partitions().map(|_| self.random.below(self.nodes.len())).collect();
        for _ in 0..REST_TICKS {
            self.step += 1;
            for (one, heir) in heirs.iter().enumerate() {
                let now = self.now();
                for (node, of) in self.nodes.iter_mut().enumerate() {
                    let office = &mut of.offices[one];
                    match office.phase {
                        Phase::Vacant if node == *heir => office.claim(now),
                        Phase::Leaving { .. } => office.leave(false),
                        // Whoever else is in doubt has been told to let go.
                        Phase::Doubtful if node == *heir => office.claim(now),
                        _ => {}
                    }
                }
            }
            self.ask(true);
            for _ in 0..3 {
                for handle in self.nodes.iter().map(|node| &node.handle).chain(&self.ghosts) {
                    handle.sync(None, usize::MAX);
                }
                for office in self.nodes.iter_mut().flat_map(|node| &mut node.offices) {
                    while office.take_settlement(self.tick, LEASE_WAIT) {}
                }
                while self.wire.with(|messages| !messages.is_empty()) {
                    self.deliver(false);
                }
                self.turns(QUIET_ROUNDS).await;
                self.keep(false);
                self.hear();
            }
            for node in 0..self.nodes.len() {
                self.ask_for_ends(node);
            }
            for (node, one, confirmation) in std::mem::take(&mut self.ends) {
                self.nodes[node].offices[usize::from(one.0)].confirm(confirmation);
            }
            self.keep(false);
            if self.is_at_rest(&heirs) {
                return;
            }
            self.move_clock();
        }
        self.complain("it does not come to rest".into());
    }

    fn is_at_rest(&self, heirs: &[usize]) -> bool {
        let calm = |(one, heir): (usize, &usize)| {
            self.nodes.iter().enumerate().all(|(node, of)| {
                let office = &of.offices[one];
                let ledger = &office.keeping.ledger;
                match node == *heir {
                    true => office.serves() && ledger.owed() == 0 && ledger.is_settled(),
                    false => matches!(office.phase, Phase::Vacant | Phase::Doubtful),
                }
            })
        };
        heirs.iter().enumerate().all(calm)
            && self.calls.iter().all(|call| call.outcome.is_some())
            && self.wire.with(|messages| messages.is_empty())
            && self.nodes.iter().all(|node| node.handle.waiting(None) == 0)
            && self.ghosts.iter().all(|ghost| ghost.waiting(None) == 0)
    }

    /// Holds everything that was said and seen against what is written. Errors: what is wrong, and
    /// the records if `told`.
    pub(super) async fn end(mut self, told: bool) -> Result<Tally, String> {
        let proven = self.prove().await;
        for node in &mut self.nodes {
            node.die();
        }
        // Those who were told that all is over go.
        self.turns(QUIET_ROUNDS).await;
        let story = |problem| if told { format!("{problem}\n{}", self.story) } else { problem };
        proven.map(|()| self.tally).map_err(story)
    }

    async fn prove(&mut self) -> Result<(), String> {
        if self.problems.is_empty() {
            self.look_at_everything().await;
        }
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        self.story.check_calls(&self.calls)?;
        let live = partitions().map(|one| {
            let index = usize::from(one.0);
            let owner = self.nodes.iter().find(|node| node.offices[index].serves());
            owner.expect("all is served").offices[index].keeping.ledger.hash()
        });
        let live: Vec<_> = live.collect();
        check_journal(&self.medium, &self.shelf.replay, &live, self.random.one_in(4))?;
        check_people(&self.shelf.replay, &NAMES.map(user_id))?;
        let unknown = self.calls.iter().filter(|call| call.outcome == Some(Outcome::Unknown));
        self.tally.unknown = unknown.count();
        self.tally.voids = self.story.voids();
        self.tally.claims = self.story.claims();
        self.tally.records = partitions().map(|one| self.story.len(one)).sum();
        self.tally.state = live.iter().fold(0, |all, one| all ^ one.0);
        Ok(())
    }

    /// Everybody's last word.
    async fn look_at_everything(&mut self) {
        self.step += 1;
        let before = self.tally.looks;
        let mut asked = 0;
        for owner in NAMES.map(user_id) {
            for peer in NAMES.map(user_id).into_iter().filter(|peer| *peer != owner) {
                self.look_at(owner, peer);
                asked += 1;
            }
        }
        for _ in 0..LOOKS_MAX {
            if self.looks.is_empty() {
                break;
            }
            self.turns(QUIET_ROUNDS).await;
            self.hear();
        }
        if self.tally.looks - before < asked {
            self.complain(format!("{} of {asked} looks answered", self.tally.looks - before));
        }
    }
}
