//! Long random histories of four users with batches of everything, where the model's are short.

use std::collections::BTreeSet;

use cordon::domain::{AllowType, Effect, Policy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use stateright::{Expectation, Model};

use super::exchange::{Exchange, State, Step};
use super::history::Scene;
use super::people::{Wish, name, pairs};

const USERS: usize = 4;
const MOVES_MAX: usize = 120;

const WISHES: &[Wish] = &[
    Wish::Block,
    Wish::Unblock,
    Wish::AddTwoWay,
    Wish::AddForced,
    Wish::AddOneWay,
    Wish::Import,
    Wish::RemoveBoth,
    Wish::RemoveSingle,
    Wish::DenyRequests,
    Wish::AgreeAndAdd,
    Wish::Agree,
    Wish::Decline,
    Wish::ClearBoth,
    Wish::ClearSingle,
    // Rarely.
    Wish::DeleteAccount,
    Wish::ImportAccount,
];

#[derive(Clone, Debug)]
enum Move {
    /// About the peers in the mask.
    Ask {
        who: usize,
        wish: Wish,
        mask: usize,
    },
    Deliver(Index),
}

fn any_move() -> impl Strategy<Value = Move> {
    let wish = prop_oneof![9 => select(&WISHES[..14]), 1 => select(&WISHES[14..])];
    prop_oneof![
        2 => (0..USERS, wish, 1..1_usize << USERS)
            .prop_map(|(who, wish, mask)| Move::Ask { who, wish, mask }),
        5 => any::<Index>().prop_map(Move::Deliver),
    ]
}

/// One map for everybody: who blocks whom, as everybody would agree if nothing took any time.
#[derive(Default)]
struct Oracle {
    blocks: BTreeSet<(usize, usize)>,
    deleted: BTreeSet<usize>,
}

impl Oracle {
    fn note(&mut self, state: &State, step: &Step) {
        match step {
            Step::Ask { who, wish: Wish::ImportAccount | Wish::DenyRequests, .. } => {
                self.deleted.remove(who);
            }
            Step::Ask { who, .. } if self.deleted.contains(who) => {}
            Step::Ask { who, wish: Wish::Block, peers } => {
                let known = peers.iter().filter(|peer| state.users[**peer].is_imported());
                self.blocks.extend(known.map(|peer| (*who, *peer)));
            }
            Step::Ask { who, wish: Wish::Unblock, peers } => {
                self.blocks.retain(|(a, b)| a != who || !peers.contains(b));
            }
            Step::Ask { who, wish: Wish::DeleteAccount, .. } => {
                self.deleted.insert(*who);
                self.blocks.retain(|(a, _)| a != who);
            }
            Step::Ask { .. } => {}
            Step::Deliver { from, to, place } => {
                if matches!(state.channels[*to][*from].get(*place), Some((_, Effect::Forget))) {
                    self.blocks.remove(&(*to, *from));
                }
            }
        }
    }

    fn agrees(&self, state: &State) -> bool {
        pairs(USERS).all(|(a, b)| state.users[a].blocks(&name(b)) == self.blocks.contains(&(a, b)))
    }
}

struct Walk {
    model: Exchange,
    state: State,
    oracle: Oracle,
    steps: Vec<Step>,
}

impl Walk {
    fn new(policy: Policy) -> Self {
        let model = Exchange {
            users: USERS,
            operations: MOVES_MAX,
            wishes: WISHES,
            batches: true,
            policy,
            mutation: None,
        };
        let state = model.init_states().remove(0);
        Self { model, state, oracle: Oracle::default(), steps: Vec::new() }
    }

    fn under_way(&self) -> Vec<Step> {
        let waits = |(from, to): &(usize, usize)| !self.state.channels[*to][*from].is_empty();
        let deliver = |(from, to)| Step::Deliver { from, to, place: 0 };
        pairs(USERS).filter(waits).map(deliver).collect()
    }

    fn step(&mut self, step: Step) {
        self.oracle.note(&self.state, &step);
        self.steps.push(step.clone());
        if let Some(next) = self.model.next_state(&self.state, step) {
            self.state = next;
        }
        assert!(self.oracle.agrees(&self.state), "blocks differ after {:#?}", self.steps);
        for property in self.model.properties() {
            let holds = property.expectation != Expectation::Always
                || (property.condition)(&self.model, &self.state);
            assert!(holds, "{} is broken by {:#?}", property.name, self.steps);
        }
    }

    fn take(&mut self, made: &Move) {
        match made {
            Move::Ask { who, wish, mask } => {
                let peers: Vec<usize> =
                    (0..USERS).filter(|peer| peer != who && mask >> peer & 1 == 1).collect();
                if !peers.is_empty() {
                    self.step(Step::Ask { who: *who, wish: *wish, peers });
                }
            }
            Move::Deliver(which) => {
                let under_way = self.under_way();
                if !under_way.is_empty() {
                    self.step(which.get(&under_way).clone());
                }
            }
        }
    }

    /// Lets everything arrive.
    fn rest(&mut self) {
        while let Some(step) = self.under_way().into_iter().next() {
            self.step(step);
        }
        assert!(self.state.is_quiet());
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>()).prop_map(|(confirm, remain_friends)| Policy {
        default_allow_type: if confirm { AllowType::NeedConfirm } else { AllowType::AllowAny },
        remain_friends,
        ..Policy::default()
    })
}

proptest! {
    #[test]
    fn long_histories_keep_every_invariant_and_agree_with_one_map(
        policy in policy(),
        moves in vec(any_move(), 0..MOVES_MAX),
    ) {
        let mut walk = Walk::new(policy);
        for made in &moves {
            walk.take(made);
        }
        walk.rest();
    }
}
