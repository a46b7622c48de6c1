//! Handshakes over a network that loses, repeats and reorders, between two partitions that crash.
//!
//! Each side has a journal whose end may be lost, and the product's [`Outbox`] and [`Inbox`]. Packets
//! arrive in any order; a bounded number of times one is lost, or arrives and stays under way, or a side
//! sends again for no reason, or crashes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use cordon::domain::{Effect, Event, Policy, Severance, User, effects};
use cordon::pairing::{Answer, Inbox, Outbox};
use stateright::{Model, Property};

use super::history::{Bounds, History, Scene, invariants};
use super::people::{AT, Wish, account, name, pairs};
use crate::support::{assert_breaks, assert_holds, operations};

/// A promise of the channels that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    GapsAreTaken,
    RepetitionsAreTaken,
    AnsweredBeforeDurable,
    NothingToDoIsNotRecorded,
    SentBeforeFinal,
}

#[derive(Clone, Debug)]
struct Network {
    operations: usize,
    faults: usize,
    wishes: &'static [Wish],
    /// The two are friends to begin with.
    befriended: bool,
    mutation: Option<Mutation>,
}

/// One entry of a journal: the events of a record, or none for a watermark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    events: Vec<Event>,
    /// The last effect that it answers.
    seen: Option<u64>,
}

/// A user with the partition that is theirs alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    user: User,
    journal: Vec<Entry>,
    /// How many entries are final.
    finals: usize,
    outbox: Outbox<(u64, Effect)>,
    inbox: Inbox,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Packet {
    /// Those behind the number `prev`.
    Effects {
        to: usize,
        prev: u64,
        effects: Vec<Effect>,
    },
    Answer {
        to: usize,
        durable: u64,
        refused: Option<u64>,
    },
}

impl Packet {
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    nodes: Vec<Node>,
    /// By hash, for an order that is the same whatever way led here.
    packets: BTreeMap<u64, Packet>,
    operations: usize,
    faults: usize,
    history: History,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Ask {
        who: usize,
        wish: Wish,
    },
    MakeFinal {
        who: usize,
    },
    Send {
        who: usize,
    },
    Resend {
        who: usize,
    },
    Deliver(Packet),
    Repeat(Packet),
    Lose(Packet),
    /// The first `kept` entries of the journal are found again.
    Crash {
        who: usize,
        kept: usize,
    },
}

/// What the entry `n` asks of the other side.
fn asked(n: u64, events: &[Event]) -> Vec<(u64, Effect)> {
    let mut asked = Vec::new();
    effects(events, |_, effect| asked.push((n, effect)));
    asked
}

impl Node {
    fn new(user: User) -> Self {
        let (outbox, inbox) = (Outbox::default(), Inbox::default());
        Self { user, journal: Vec::new(), finals: 0, outbox, inbox }
    }

    /// The number of the last entry.
    fn end(&self) -> u64 {
        self.journal.len() as u64
    }

    fn append(&mut self, events: Vec<Event>, seen: Option<u64>) {
        if !events.is_empty() {
            self.user.recorded();
        }
        self.push(events, seen);
    }

    fn push(&mut self, events: Vec<Event>, seen: Option<u64>) {
        let n = self.end() + 1;
        for effect in asked(n, &events) {
            self.outbox.push(n, effect);
        }
        self.journal.push(Entry { events, seen });
    }

    /// Starts again from what the journal holds, which is final by that.
    fn recover(&mut self, mut user: User, kept: usize) {
        let mut journal = std::mem::take(&mut self.journal);
        journal.truncate(kept);
        let mut seen = 0;
        self.outbox = Outbox::default();
        for entry in journal {
            if !entry.events.is_empty() {
                user.replay(user.version().next(), &entry.events, AT);
            }
            seen = entry.seen.unwrap_or(seen);
            self.push(entry.events, entry.seen);
        }
        self.user = user;
        self.inbox = Inbox::restore(seen);
    }
}

impl Scene for State {
    fn history(&self) -> &History {
        &self.history
    }

    fn users(&self) -> Vec<&User> {
        self.nodes.iter().map(|node| &node.user).collect()
    }

    fn is_quiet(&self) -> bool {
        let rests = |node: &Node| node.outbox.is_empty() && node.finals == node.journal.len();
        self.nodes.iter().all(rests)
    }

    fn under_way(&self) -> usize {
        self.nodes.iter().map(|node| node.outbox.len()).sum()
    }
}

impl State {
    /// Nobody has anything to wait for: what was lost is missed.
    fn is_silent(&self) -> bool {
        self.packets.is_empty() && self.nodes.iter().all(|node| node.finals == node.journal.len())
    }

    fn put(&mut self, packet: Packet) {
        self.packets.insert(packet.key(), packet);
    }

    fn answer(&mut self, to: usize, Answer { durable, refused }: Answer) {
        self.put(Packet::Answer { to, durable, refused });
    }

    fn make_final(&mut self, who: usize) {
        let node = &mut self.nodes[who];
        let entry = &node.journal[node.finals];
        node.finals += 1;
        self.history.note(who, node.finals as u64, &entry.events);
        if let Some(seen) = entry.seen {
            let answer = node.inbox.note_durable(seen);
            self.answer(1 - who, answer);
        }
    }
}

impl Network {
    fn mutates(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// A step that leads to rest, where nothing fails.
    fn undisturbed(&self, state: &State) -> Option<Step> {
        let mut steps = Vec::new();
        self.actions(state, &mut steps);
        steps.into_iter().find(|step| {
            matches!(step, Step::Deliver(_) | Step::MakeFinal { .. } | Step::Send { .. })
        })
    }

    fn ask(&self, state: &mut State, who: usize, wish: Wish) -> Option<()> {
        state.operations += 1;
        let peer = 1 - who;
        let has_me: &[usize] = if state.history.has_friend(peer, who) { &[peer] } else { &[] };
        let node = &mut state.nodes[who];
        let command = wish.command(&[peer], has_me, &[]);
        let events = node.user.perform(&command, &Policy::default(), AT).ok()?.events;
        (!events.is_empty()).then(|| node.append(events, None))
    }

    fn send(&self, state: &mut State, who: usize) {
        let node = &mut state.nodes[who];
        let n =
            if self.mutates(Mutation::SentBeforeFinal) { node.end() } else { node.finals as u64 };
        if let Some(batch) = node.outbox.batch(n, usize::MAX) {
            let prev = batch.prev;
            let effects = batch.entries.into_iter().map(|(_, effect)| effect.clone()).collect();
            state.put(Packet::Effects { to: 1 - who, prev, effects });
        }
    }

    fn take(&self, state: &mut State, who: usize, prev: u64, effects: &[Effect]) {
        let peer = 1 - who;
        let last = prev + effects.len() as u64;
        let node = &mut state.nodes[who];
        let seen = node.inbox.seen();
        if prev > seen && self.mutates(Mutation::GapsAreTaken) {
            node.inbox = Inbox::restore(prev);
        }
        let repeats = last <= seen && self.mutates(Mutation::RepetitionsAreTaken);
        if let Err(refusal) = node.inbox.take(prev, effects.len())
            && !repeats
        {
            state.answer(peer, refusal);
            return;
        }
        let last = node.inbox.seen();
        let events = node.user.react(name(peer), effects, &Policy::default(), AT);
        if events.is_empty() && self.mutates(Mutation::NothingToDoIsNotRecorded) {
            let answer = node.inbox.note_durable(last);
            state.answer(peer, answer);
            return;
        }
        node.append(events, Some(last));
        if self.mutates(Mutation::AnsweredBeforeDurable) {
            state.answer(peer, Answer { durable: last, refused: None });
        }
    }

    fn deliver(&self, state: &mut State, packet: Packet) {
        match packet {
            Packet::Effects { to, prev, effects } => self.take(state, to, prev, &effects),
            Packet::Answer { to, durable, refused } => {
                self.take_answer(state, to, Answer { durable, refused });
            }
        }
    }

    fn take_answer(&self, state: &mut State, who: usize, answer: Answer) {
        let Ok(released) = state.nodes[who].outbox.take_answer(answer) else { return };
        for (n, effect) in released {
            if matches!(effect, Effect::Sever { why: Severance::Blocked, .. }) {
                state.history.note_severed(who, 1 - who, n);
            }
        }
    }
}

impl Bounds for Network {
    fn has_one_way(&self) -> bool {
        self.wishes.iter().any(|wish| wish.is_one_way())
    }

    fn keeps_friends(&self) -> bool {
        false
    }

    fn operations(&self) -> usize {
        self.operations
    }
}

impl Model for Network {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            nodes: (0..2).map(|user| Node::new(account(user))).collect(),
            packets: BTreeMap::new(),
            operations: 0,
            faults: 0,
            history: History::new(2),
        };
        if self.befriended {
            self.ask(&mut state, 0, Wish::AddTwoWay).expect("a first offer");
            while !state.is_quiet() {
                let next = self.undisturbed(&state).expect("something is left to do");
                state = self.next_state(&state, next).expect("a step");
            }
            state.operations = 0;
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let may_fail = state.faults < self.faults;
        for packet in state.packets.values() {
            steps.push(Step::Deliver(packet.clone()));
            if may_fail {
                steps.extend([Step::Repeat(packet.clone()), Step::Lose(packet.clone())]);
            }
        }
        for (who, _) in pairs(2) {
            let node = &state.nodes[who];
            if node.finals < node.journal.len() {
                steps.push(Step::MakeFinal { who });
            }
            if node.outbox.in_flight() < node.outbox.len() {
                steps.push(Step::Send { who });
            }
            if node.outbox.in_flight() > 0 && (may_fail || state.is_silent()) {
                steps.push(Step::Resend { who });
            }
            if may_fail {
                let kept = node.finals..=node.journal.len();
                steps.extend(kept.map(|kept| Step::Crash { who, kept }));
            }
            if state.operations < self.operations {
                steps.extend(self.wishes.iter().map(|wish| Step::Ask { who, wish: *wish }));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Ask { who, wish } => self.ask(&mut state, who, wish)?,
            Step::MakeFinal { who } => state.make_final(who),
            Step::Send { who } => self.send(&mut state, who),
            Step::Resend { who } => {
                state.faults += usize::from(!state.is_silent());
                state.nodes[who].outbox.rewind();
            }
            Step::Deliver(packet) => {
                state.packets.remove(&packet.key());
                self.deliver(&mut state, packet);
            }
            Step::Repeat(packet) => {
                state.faults += 1;
                self.deliver(&mut state, packet);
            }
            Step::Lose(packet) => {
                state.faults += 1;
                state.packets.remove(&packet.key());
            }
            Step::Crash { who, kept } => {
                state.faults += 1;
                while state.nodes[who].finals < kept {
                    state.make_final(who);
                }
                state.nodes[who].recover(account(who), kept);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants()
    }
}

const WISHES: &[Wish] = &[Wish::Block, Wish::AddTwoWay, Wish::RemoveBoth];

fn network(operations: usize, faults: usize) -> Network {
    Network { operations, faults, wishes: WISHES, befriended: false, mutation: None }
}

fn friends(operations: usize, faults: usize) -> Network {
    Network { befriended: true, ..network(operations, faults) }
}

#[test]
fn a_bad_network_and_a_crash_change_nothing() {
    assert_holds(network(operations(2), 1));
}

#[test]
fn friendships_end_on_both_sides_over_a_bad_network_and_a_crash() {
    assert_holds(friends(operations(2), 1));
}

#[test]
fn each_promise_of_the_channels_is_needed() {
    use Mutation::*;
    let mutations = [
        (GapsAreTaken, friends(2, 0), "I6 an answered block is kept"),
        (RepetitionsAreTaken, friends(1, 1), "I5 what is over never comes back"),
        (AnsweredBeforeDurable, friends(1, 1), "I6 an answered block is kept"),
        (NothingToDoIsNotRecorded, friends(2, 0), "I6 an answered block is kept"),
        (SentBeforeFinal, friends(1, 1), "I3 in the end friendship is mutual"),
    ];
    for (mutation, model, invariant) in mutations {
        assert_breaks(Network { mutation: Some(mutation), ..model }, invariant, &mutation);
    }
}
