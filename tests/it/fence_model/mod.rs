//! Layer 1 in every order of events: who may write a partition, what counts, who may answer.
//! Rule: cluster.md 2 and 6.
//!
//! Nodes claim a partition and write it with the product's own `ReaderRule` and `WriterRule`, through a
//! client library that loses records, loses acknowledgements, writes a record twice and delivers
//! long after it was given up; nodes crash, or leave in order. [`nodes`] is what a node does, [`journal`]
//! the log. Time is abstract: all that counts is that a claimer's wait is longer than any lease that
//! rests on something sent before its claim was acknowledged, and that nobody need wait who claims
//! again behind a term of its own in which the wait was over. Each mutation takes one guard away,
//! and the checker has to notice.
//!
//! `CORDON_MODEL_OPS`, `CORDON_MODEL_CLAIMS`, `CORDON_MODEL_FAULTS` and `CORDON_MODEL_NODES` set
//! other bounds for a deeper run.

pub(crate) mod journal;
mod nodes;

use cordon::journal::{Body, Offset};
use stateright::{Model, Property};

use crate::support::{assert_breaks, assert_holds, bound, faults, operations};
use journal::{Blindness, Said, valid};
use nodes::{Office, Rules, State, bits};

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    ReadersIgnoreEpochs,
    ReadersIgnoreNumbers,
    ClaimIsNotReadBack,
    OffsetsAreNotLookedAt,
    GapIsNotRead,
    DoubtIsDecidedWithoutAClaim,
    TakeOverDoesNotWait,
    OwnReclaimDoesNotWait,
    LeaseIsNotAskedFor,
    LeaseCountsFromTheAcknowledgement,
    AnswersBeforeItIsFinal,
    AnswersBehindItsRelease,
    ReleasesWhileItWaits,
}

impl Rules {
    fn blindness(self) -> Option<Blindness> {
        match self.0 {
            Some(Mutation::ReadersIgnoreEpochs) => Some(Blindness::Epochs),
            Some(Mutation::ReadersIgnoreNumbers) => Some(Blindness::Numbers),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Fence {
    nodes: usize,
    commands: usize,
    claims: usize,
    faults: usize,
    rules: Rules,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Claim {
        who: usize,
    },
    Submit {
        who: usize,
    },
    Release {
        who: usize,
    },
    /// The next record reaches the log.
    Land {
        who: usize,
    },
    /// The node hears what became of the next record.
    Hear {
        who: usize,
    },
    /// The owner finds that the log ends where it believes.
    Confirm {
        who: usize,
    },
    WaitIsOver {
        who: usize,
    },
    Ask {
        who: usize,
    },
    /// A record that nobody waits for reaches the log.
    LandStray {
        place: usize,
    },
    /// The next record never reaches the log.
    Lose {
        who: usize,
    },
    /// The record reached the log, and the node hears that nobody knows.
    LoseAcknowledgement {
        who: usize,
    },
    /// A record is written once more; whoever waits for it may hear of the second place.
    Repeat {
        offset: usize,
        told: bool,
    },
    Crash {
        who: usize,
    },
}

impl Fence {
    fn lacks(&self, guard: Mutation) -> bool {
        self.rules.lack(guard)
    }

    fn steps_of(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let node = &state.nodes[who];
        if !node.wire.is_empty() {
            steps.push(Step::Land { who });
        }
        if !node.settlements.is_empty() {
            steps.push(Step::Hear { who });
        }
        match &node.office {
            Office::None if state.claims < self.claims => steps.push(Step::Claim { who }),
            Office::None | Office::Candidate { .. } => {}
            Office::Owner(owner) => {
                if state.commands < self.commands && !owner.releases {
                    steps.push(Step::Submit { who });
                }
                let waits = owner.waits_since.is_some();
                let may_release = !waits || self.lacks(Mutation::ReleasesWhileItWaits);
                if may_release && !owner.releases {
                    steps.push(Step::Release { who });
                }
                if waits {
                    steps.push(Step::WaitIsOver { who });
                }
                let end = Offset(state.log.len() as u64);
                if owner.is_settled() && owner.writer.next_offset() == end {
                    steps.push(Step::Confirm { who });
                }
                if self.rules.may_answer(owner, state.lapsed) && node.question.is_none() {
                    steps.push(Step::Ask { who });
                }
            }
        }
        if state.faults < self.faults {
            if !node.wire.is_empty() {
                steps.push(Step::Lose { who });
            }
            if node.settlements.front().is_some_and(|settled| settled.offset.is_some()) {
                steps.push(Step::LoseAcknowledgement { who });
            }
            if node.office != Office::None {
                steps.push(Step::Crash { who });
            }
        }
    }
}

impl Model for Fence {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.nodes)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for who in 0..self.nodes {
            self.steps_of(state, who, steps);
        }
        steps.extend((0..state.strays.len()).map(|place| Step::LandStray { place }));
        if state.faults < self.faults {
            for offset in 0..state.log.len() {
                steps.extend([false, true].map(|told| Step::Repeat { offset, told }));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        let rules = self.rules;
        match step {
            Step::Claim { who } => state.claim(rules, who),
            Step::Submit { who } => state.submit(who)?,
            Step::Release { who } => state.release(who)?,
            Step::Land { who } => state.land(who)?,
            Step::Hear { who } => state.hear(rules, who)?,
            Step::Confirm { who } => state.confirm(who)?,
            Step::WaitIsOver { who } => state.end_wait(who)?,
            Step::Ask { who } => state.ask(rules, who)?,
            Step::LandStray { place } => {
                let said = state.strays.remove(place);
                state.log.push(said);
            }
            Step::Lose { who } => {
                state.faults += 1;
                let node = &mut state.nodes[who];
                let at = node.wire.pop_front()?.at;
                node.settlements.push_back(nodes::Settled { offset: None, at });
            }
            Step::LoseAcknowledgement { who } => {
                state.faults += 1;
                state.nodes[who].settlements.front_mut()?.offset = None;
            }
            Step::Repeat { offset, told } => {
                state.faults += 1;
                state.repeat(offset, told)?;
            }
            Step::Crash { who } => {
                state.faults += 1;
                state.crash(rules, who);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TOLD, |model: &Self, state: &State| {
                state.told & !bits(&model.rules.commands(&state.log)) == 0
            }),
            Property::always(REFUSED, |model: &Self, state: &State| {
                state.refused & bits(&model.rules.commands(&state.log)) == 0
            }),
            Property::always(DECIDED, |model: &Self, state: &State| {
                let commits = valid(&state.log, model.rules.blindness());
                let commits = commits.filter_map(|(_, said)| match &said.body {
                    Body::Commit(commit) => Some(commit.version.0),
                    _ => None,
                });
                commits.eq(1..=model.rules.commands(&state.log).len() as u64)
            }),
            Property::always(ONCE, |model: &Self, state: &State| {
                let commands = model.rules.commands(&state.log);
                commands.len() == bits(&commands).count_ones() as usize
            }),
            Property::always(PREFIX, |model: &Self, state: &State| {
                let commands = model.rules.commands(&state.log);
                let owners = state.nodes.iter().filter_map(nodes::Node::owner);
                owners.into_iter().all(|owner| commands.starts_with(&owner.seen[..owner.finals()]))
            }),
            Property::always(MISSED, |_, state: &State| !state.missed),
            Property::sometimes("two nodes take themselves for the owner", |_, state: &State| {
                state.nodes.iter().filter_map(nodes::Node::owner).count() == 2
            }),
            Property::sometimes(
                "the record of a deposed owner is void",
                |model: &Self, state: &State| {
                    let is_commit = |said: &&Said| matches!(said.body, Body::Commit(_));
                    let commits = state.log.iter().filter(is_commit).count();
                    commits > model.rules.commands(&state.log).len()
                },
            ),
            Property::sometimes("all is done over two terms", |model: &Self, state: &State| {
                let terms = valid(&state.log, None)
                    .filter(|(_, said)| matches!(said.body, Body::Claim { .. }))
                    .count();
                terms >= 2 && state.told.count_ones() as usize == model.commands
            }),
            Property::sometimes("a doubt ends with a surely not", |_, state: &State| {
                state.refused != 0
            }),
            Property::sometimes(
                "a deposed owner answers in its lease",
                |model: &Self, state: &State| {
                    let mut owners = state.nodes.iter().filter_map(nodes::Node::owner);
                    let in_force = valid(&state.log, None).last().map(|(_, said)| said.epoch);
                    owners.any(|owner| {
                        model.rules.may_answer(owner, state.lapsed)
                            && Some(owner.writer.epoch()) < in_force
                    })
                },
            ),
            // Without a fault, nobody has to.
            Property::sometimes(
                "a claim once more need not wait",
                |model: &Self, state: &State| {
                    let mut owners = state.nodes.iter().filter_map(nodes::Node::owner);
                    let in_force = valid(&state.log, None).last().map(|(_, said)| said.epoch);
                    let is_release = |said: &Said| matches!(said.body, Body::Release { .. });
                    let claimed_again = !state.log.iter().any(is_release)
                        && state.lapsed < state.now
                        && owners.any(|owner| {
                            owner.waits_since.is_none() && Some(owner.writer.epoch()) == in_force
                        });
                    model.faults == 0 || claimed_again
                },
            ),
            Property::sometimes("behind a release nobody waits", |model: &Self, state: &State| {
                let mut owners = state.nodes.iter().filter_map(nodes::Node::owner);
                owners.any(|owner| {
                    model.rules.may_answer(owner, state.lapsed)
                        && usize::from(state.lapsed) < owner.writer.epoch().0 as usize
                })
            }),
        ]
    }
}

const TOLD: &str = "what was told is valid";
const REFUSED: &str = "what was refused never is";
const DECIDED: &str = "each command was decided on exactly the state before it";
const ONCE: &str = "no command is done twice";
const PREFIX: &str = "what an owner takes for final is how the valid log begins";
const MISSED: &str = "no answer misses what was told before the question";

fn fence(commands: usize, claims: usize, faults: usize) -> Fence {
    Fence { nodes: 2, commands, claims, faults, rules: Rules(None) }
}

/// With the bounds that the environment asks for.
fn deeper(usual: Fence) -> Fence {
    Fence {
        nodes: bound("CORDON_MODEL_NODES", usual.nodes),
        commands: operations(usual.commands),
        claims: bound("CORDON_MODEL_CLAIMS", usual.claims),
        faults: faults(usual.faults),
        ..usual
    }
}

#[test]
fn two_nodes_keep_every_promise_whatever_goes_wrong() {
    assert_holds(deeper(fence(2, 2, 1)));
}

#[test]
fn three_terms_keep_every_promise() {
    assert_holds(deeper(fence(2, 3, 0)));
}

#[test]
fn each_guard_is_needed() {
    use Mutation::*;
    let mutations = [
        (ReadersIgnoreEpochs, fence(2, 2, 0), DECIDED),
        (ReadersIgnoreNumbers, fence(2, 1, 1), DECIDED),
        (ClaimIsNotReadBack, fence(2, 2, 0), TOLD),
        (OffsetsAreNotLookedAt, fence(1, 2, 0), TOLD),
        (GapIsNotRead, fence(1, 2, 0), TOLD),
        (DoubtIsDecidedWithoutAClaim, fence(2, 1, 1), REFUSED),
        (TakeOverDoesNotWait, fence(1, 2, 0), MISSED),
        (OwnReclaimDoesNotWait, fence(1, 3, 1), MISSED),
        (LeaseIsNotAskedFor, fence(1, 2, 0), MISSED),
        (LeaseCountsFromTheAcknowledgement, fence(2, 2, 0), MISSED),
        (AnswersBeforeItIsFinal, fence(1, 1, 0), TOLD),
        (AnswersBehindItsRelease, fence(1, 2, 0), MISSED),
        (ReleasesWhileItWaits, fence(1, 3, 0), MISSED),
    ];
    for (mutation, model, invariant) in mutations {
        assert_breaks(Fence { rules: Rules(Some(mutation)), ..model }, invariant, &mutation);
    }
}
