//! Layer 2 in every order of events: effects reach another partition exactly once, in order.
//! Rule: cluster.md 4.
//!
//! One channel with the product's own `Outbox` and `Inbox`, and at both ends a journal that is fenced
//! with `ReaderRule` and `WriterRule`. Both partitions are taken over from owners who do not know it
//! and go on. What was sent stays on the way: the network loses, repeats and reorders as it likes.
//! [`ends`] is what the owners do. Each mutation takes one guard away, and the checker has to notice.
//!
//! `CORDON_MODEL_OPS` and `CORDON_MODEL_CLAIMS` set another number of effects, and of claims of each
//! side, for a deeper run.

mod ends;

use cordon::journal::Body;
use cordon::pairing::Answer;
use stateright::{Model, Property};

use crate::fence_model::journal::{Said, valid};
use crate::support::{assert_breaks, assert_holds, bound, operations};
use ends::{Checkpoint, Packet, Rules, State, bits, expected, owed, taken};

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    GapsAreTaken,
    RepetitionsAreTaken,
    AnsweredBeforeDurable,
    NothingToDoIsNotRecorded,
    DestinationIsNotFenced,
    SourceIsNotFenced,
    SentBeforeFinal,
    VoidRecordsHaveEffects,
    OutboxOfMemoryIsKept,
    SentIsTakenForAcknowledged,
    SavedBehindWhatIsAcknowledged,
    ToldBeforeItsOwnRecordIsFinal,
}

#[derive(Clone, Debug)]
struct Channel {
    commands: usize,
    /// Of the source's partition.
    source_claims: usize,
    destination_claims: usize,
    rules: Rules,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Decide { source: usize },
    LandFact { source: usize },
    Send { source: usize },
    Resend { source: usize },
    Save { source: usize },
    TakeOverSource { from_nothing: bool },
    Deliver { packet: usize, to: usize },
    LandEffect { destination: usize },
    TakeOverDestination,
}

fn claims(log: &[Said]) -> usize {
    log.iter().filter(|said| matches!(said.body, Body::Claim { .. })).count()
}

impl Model for Channel {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (source, end) in state.sources.iter().enumerate() {
            if state.commands < self.commands {
                steps.push(Step::Decide { source });
            }
            if !end.wire.is_empty() {
                steps.push(Step::LandFact { source });
            }
            if end.outbox.in_flight() < end.outbox.len() {
                steps.push(Step::Send { source });
            }
            if end.outbox.in_flight() > 0 {
                steps.push(Step::Resend { source });
            }
            if end.outbox.acked() > 0 {
                steps.push(Step::Save { source });
            }
        }
        for (destination, end) in state.destinations.iter().enumerate() {
            if !end.wire.is_empty() {
                steps.push(Step::LandEffect { destination });
            }
        }
        for (place, packet) in state.packets.iter().enumerate() {
            let ends = match **packet {
                Packet::Effects { .. } => state.destinations.len(),
                Packet::Answer { .. } => state.sources.len(),
            };
            steps.extend((0..ends).map(|to| Step::Deliver { packet: place, to }));
        }
        if claims(&state.source_log) < self.source_claims {
            // From what was saved last, or from nothing: the state may be another node's.
            let starts = [true, false].into_iter().filter(|start| *start || !state.is_unsaved());
            steps.extend(starts.map(|from_nothing| Step::TakeOverSource { from_nothing }));
        }
        if claims(&state.destination_log) < self.destination_claims {
            steps.push(Step::TakeOverDestination);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        let rules = self.rules;
        match step {
            Step::Decide { source } => state.decide(source),
            Step::LandFact { source } => state.land_fact(rules, source)?,
            Step::Send { source } => state.send(rules, source)?,
            Step::Resend { source } => state.resend(source),
            Step::Save { source } => state.save(rules, source),
            Step::TakeOverSource { from_nothing } => {
                let saved =
                    if from_nothing { Checkpoint::default() } else { last.checkpoint.clone() };
                state.take_over_source(rules, &saved);
            }
            Step::Deliver { packet, to } => match *last.packets[packet] {
                Packet::Effects { prev, ref commands } => state.take(rules, to, prev, commands),
                Packet::Answer { durable, refused } => {
                    state.take_answer(rules, to, Answer { durable, refused });
                }
            },
            Step::LandEffect { destination } => state.land_effect(rules, destination)?,
            Step::TakeOverDestination => state.take_over_destination(),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |_, state: &State| {
                let (applied, last) = taken(&state.destination_log);
                let owed = owed(&state.source_log);
                last <= owed.len() as u64 && applied == expected(&owed, last)
            }),
            Property::always(DURABLE, |_, state: &State| {
                let durable = taken(&state.destination_log).1;
                let owed = owed(&state.source_log);
                let done = bits(owed.into_iter().take(durable as usize));
                state.sources.iter().all(|source| source.outbox.acked() <= durable)
                    && state.told & !done == 0
            }),
            Property::always(OWED, |_, state: &State| {
                let Some(source) = state.sources.last() else { return true };
                let owed = owed(&state.source_log);
                let waiting = source.outbox.owed(u64::MAX);
                let acked = source.outbox.acked() as usize;
                let is_in_force = source.writer.epoch().0 as usize == claims(&state.source_log);
                !is_in_force
                    || owed.len() <= source.outbox.last() as usize
                        && waiting
                            .zip(owed.iter().skip(acked))
                            .all(|(one, other)| one.command == *other)
            }),
            Property::sometimes("all arrives after both were taken over", |model: &Self, state| {
                let state: &State = state;
                state.told.count_ones() as usize == model.commands
                    && claims(&state.source_log) == model.source_claims
                    && claims(&state.destination_log) == model.destination_claims
            }),
            Property::sometimes("a deposed destination writes what is void", |_, state: &State| {
                has_void(&state.destination_log)
            }),
            Property::sometimes("a deposed source writes what is void", |_, state: &State| {
                has_void(&state.source_log)
            }),
        ]
    }
}

fn has_void(log: &[Said]) -> bool {
    valid(log, None).count() < log.len()
}

const ONCE: &str = "each effect is applied once and in order";
const DURABLE: &str = "what is acknowledged is durable at the destination";
const OWED: &str = "nothing that is owed is forgotten or changed";

fn channel(commands: usize, source_claims: usize, destination_claims: usize) -> Channel {
    Channel { commands, source_claims, destination_claims, rules: Rules(None) }
}

#[test]
fn effects_arrive_once_and_in_order_whoever_owns_the_ends() {
    let claims = bound("CORDON_MODEL_CLAIMS", 2);
    assert_holds(channel(operations(2), claims, claims));
}

#[test]
fn each_guard_is_needed() {
    use Mutation::*;
    let mutations = [
        (GapsAreTaken, channel(2, 1, 1), ONCE),
        (RepetitionsAreTaken, channel(1, 1, 1), ONCE),
        (AnsweredBeforeDurable, channel(1, 1, 1), DURABLE),
        (NothingToDoIsNotRecorded, channel(2, 1, 2), DURABLE),
        (DestinationIsNotFenced, channel(1, 1, 2), DURABLE),
        (SourceIsNotFenced, channel(1, 2, 1), ONCE),
        (SentBeforeFinal, channel(1, 2, 1), ONCE),
        (VoidRecordsHaveEffects, channel(1, 3, 1), ONCE),
        (OutboxOfMemoryIsKept, channel(2, 2, 1), ONCE),
        (SentIsTakenForAcknowledged, channel(1, 2, 1), DURABLE),
        (SavedBehindWhatIsAcknowledged, channel(2, 3, 1), ONCE),
        (ToldBeforeItsOwnRecordIsFinal, channel(2, 2, 1), DURABLE),
    ];
    for (mutation, model, invariant) in mutations {
        assert_breaks(Channel { rules: Rules(Some(mutation)), ..model }, invariant, &mutation);
    }
}
