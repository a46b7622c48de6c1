//! Handshakes over channels that keep their promise.

use std::collections::VecDeque;

use cordon::domain::{AllowType, Card, Effect, Event, Policy, Severance, User, effects};
use stateright::{Model, Property};

use super::history::{Bounds, History, Scene, invariants};
use super::people::{AT, Wish, account, name, number, pairs};
use crate::support::{assert_breaks, assert_holds, operations};

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    SeverIsIgnored,
    ProposalOfTheBlockedIsAccepted,
    WithdrawalFindsOnlyRequests,
    WithdrawalFitsEveryEdge,
    BlockLeavesTheOfferOpen,
    RemovalLeavesTheOfferOpen,
    ProposalClosesTheOfferThatItCrosses,
    EffectsOvertake,
    ClearingLeavesTheOfferOpen,
    BlockLeavesTheRequestWaiting,
    SeverLeavesTheRequestWaiting,
    DeletionLeavesTheRequestWaiting,
    RefusalIsIgnored,
    AgreementFitsEveryOffer,
    ForgettingIsIgnored,
    ImportAsksNoBlocklist,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) users: usize,
    pub(super) operations: usize,
    pub(super) wishes: &'static [Wish],
    /// Requests are about everybody else at once.
    pub(super) batches: bool,
    pub(super) policy: Policy,
    pub(super) mutation: Option<Mutation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) users: Vec<User>,
    /// What is under way, with the number of its record, by receiver and then by sender.
    pub(super) channels: Vec<Vec<VecDeque<(u64, Effect)>>>,
    pub(super) operations: usize,
    pub(super) history: History,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Ask { who: usize, wish: Wish, peers: Vec<usize> },
    Deliver { from: usize, to: usize, place: usize },
}

impl Scene for State {
    fn history(&self) -> &History {
        &self.history
    }

    fn users(&self) -> Vec<&User> {
        self.users.iter().collect()
    }

    fn is_quiet(&self) -> bool {
        self.under_way() == 0
    }

    fn under_way(&self) -> usize {
        self.channels.iter().flatten().map(VecDeque::len).sum()
    }
}

impl State {
    fn record(&mut self, who: usize, events: &[Event]) {
        self.users[who].recorded();
        let n = self.users[who].version().0;
        self.history.note(who, n, events);
        effects(events, |to, effect| self.channels[number(&to)][who].push_back((n, effect)));
        if events.iter().any(|event| matches!(event, Event::AccountDeleted {})) {
            for (_, channels) in self.channels.iter_mut().enumerate().filter(|(to, _)| *to != who) {
                channels[who].push_back((n, Effect::Forget));
            }
        }
    }
}

impl Exchange {
    fn mutates(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn ask(&self, state: &mut State, who: usize, wish: Wish, peers: &[usize]) -> Option<()> {
        state.operations += 1;
        let has_me = |peer: &usize| state.history.has_friend(*peer, who);
        let has_me: Vec<usize> = peers.iter().copied().filter(has_me).collect();
        let gone = |peer: &usize| !state.users[*peer].is_imported();
        let gone: Vec<usize> = peers.iter().copied().filter(gone).collect();
        let before = state.users[who].clone();
        let user = &mut state.users[who];
        let command = wish.command(peers, &has_me, &gone);
        let mut events = user.perform(&command, &self.policy, AT).ok()?.events;
        let keeps_offer = self.mutates(Mutation::BlockLeavesTheOfferOpen) && wish == Wish::Block
            || self.mutates(Mutation::RemovalLeavesTheOfferOpen) && wish == Wish::RemoveBoth
            || self.mutates(Mutation::ClearingLeavesTheOfferOpen) && wish == Wish::ClearBoth;
        let keeps_request = self.mutates(Mutation::BlockLeavesTheRequestWaiting)
            && wish == Wish::Block
            || self.mutates(Mutation::DeletionLeavesTheRequestWaiting)
                && wish == Wish::DeleteAccount;
        if keeps_offer || keeps_request {
            events.retain(|event| match event {
                Event::OfferEnded { .. } | Event::OfferWithdrawn { .. } => !keeps_offer,
                Event::FriendRefused { .. } => !keeps_request,
                _ => true,
            });
            *user = before;
            user.replay(user.version(), &events, AT);
        }
        (!events.is_empty()).then(|| state.record(who, &events))
    }

    fn deliver(&self, state: &mut State, from: usize, to: usize, place: usize) {
        let Some((n, mut effect)) = state.channels[to][from].remove(place) else { return };
        let is_block = matches!(effect, Effect::Sever { why: Severance::Blocked, .. });
        if is_block {
            state.history.note_severed(from, to, n);
        }
        let peer = name(from);
        let user = &mut state.users[to];
        let is_lost = match &effect {
            Effect::Sever { .. } => self.mutates(Mutation::SeverIsIgnored) && is_block,
            Effect::Refuse { .. } => self.mutates(Mutation::RefusalIsIgnored),
            Effect::Forget => self.mutates(Mutation::ForgettingIsIgnored),
            _ => false,
        };
        if is_lost {
            return;
        }
        if let Effect::Confirm { offer, edge, .. } = &effect
            && self.mutates(Mutation::AgreementFitsEveryOffer)
            && user.relation(&peer).offer.is_none()
            && !user.has_friend(&peer)
            && offer == edge
        {
            let joined = [Event::FriendAdded { peer, edge: *edge, card: Card::default() }];
            user.replay(user.version(), &joined, AT);
            state.record(to, &joined);
            return;
        }
        if let Effect::Withdraw { offer } = &mut effect
            && let Some(friend) = user.relation(&peer).friend
            && self.mutates(Mutation::WithdrawalFitsEveryEdge)
        {
            *offer = friend.edge(name(to));
        }
        if self.mutates(Mutation::WithdrawalFindsOnlyRequests)
            && matches!(effect, Effect::Withdraw { .. })
            && user.has_friend(&peer)
        {
            return;
        }
        let unblocked =
            self.mutates(Mutation::ProposalOfTheBlockedIsAccepted) && user.blocks(&peer);
        if unblocked {
            user.replay(user.version(), &[Event::UserUnblocked { target: peer }], AT);
        }
        let as_before = user.clone();
        let crossing = user.relation(&peer).offer.filter(|offer| offer.form.is_two_way()).cloned();
        let mut events = match &effect {
            Effect::Forget => user.forget(peer, AT),
            asked => user.react(peer, [asked], &self.policy, AT),
        };
        if self.mutates(Mutation::SeverLeavesTheRequestWaiting) && is_block {
            let dropped = |event: &Event| matches!(event, Event::RequestDropped { .. });
            if events.iter().any(dropped) {
                events.retain(|event| !dropped(event));
                *user = as_before;
                user.replay(user.version(), &events, AT);
            }
        }
        if unblocked {
            let again = Event::UserBlocked { target: peer, remain_friends: false };
            user.replay(user.version(), &[again], AT);
        }
        if self.mutates(Mutation::ProposalClosesTheOfferThatItCrosses)
            && matches!(effect, Effect::Propose { .. })
            && let Some(Event::FriendAccepted { .. }) = events.last()
            && let Some(edge) = crossing.map(|offer| offer.edge)
        {
            let closed = [
                Event::OfferConfirmed { peer, edge, mine: true, theirs: false, agreement: None },
                Event::OffersSettled {
                    offered: edge.version,
                    forced: false,
                    waited: false,
                    friends: vec![],
                },
            ];
            user.replay(user.version(), &closed, AT);
            events.extend(closed);
        }
        if !events.is_empty() {
            state.record(to, &events);
        }
    }
}

impl Bounds for Exchange {
    fn has_one_way(&self) -> bool {
        self.wishes.iter().any(|wish| wish.is_one_way())
    }

    fn keeps_friends(&self) -> bool {
        self.policy.remain_friends
    }

    fn operations(&self) -> usize {
        self.operations * if self.batches { self.users } else { 1 }
    }
}

impl Model for Exchange {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            users: (0..self.users).map(account).collect(),
            channels: vec![vec![VecDeque::new(); self.users]; self.users],
            operations: 0,
            history: History::new(self.users),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (from, to) in pairs(self.users) {
            let waiting = state.channels[to][from].len();
            let first = if self.mutates(Mutation::EffectsOvertake) { waiting } else { 1 };
            let places = 0..waiting.min(first);
            steps.extend(places.map(|place| Step::Deliver { from, to, place }));
        }
        if state.operations == self.operations {
            return;
        }
        let mut ask = |who, peers: Vec<usize>| {
            let step = |wish: &Wish| Step::Ask { who, wish: *wish, peers: peers.clone() };
            steps.extend(self.wishes.iter().map(step));
        };
        if self.batches {
            for who in 0..self.users {
                ask(who, (0..self.users).filter(|peer| *peer != who).collect());
            }
        } else {
            pairs(self.users).for_each(|(who, peer)| ask(who, vec![peer]));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Ask { who, wish, peers } => self.ask(&mut state, who, wish, &peers)?,
            Step::Deliver { from, to, place } => self.deliver(&mut state, from, to, place),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants()
    }
}

const TWO_WAY: &[Wish] = &[Wish::Block, Wish::Unblock, Wish::AddTwoWay, Wish::RemoveBoth];

const ONE_WAY: &[Wish] = &[
    Wish::Block,
    Wish::Unblock,
    Wish::AddTwoWay,
    Wish::AddOneWay,
    Wish::Import,
    Wish::RemoveBoth,
    Wish::RemoveSingle,
];

const WITH_CONFIRMATION: &[Wish] = &[
    Wish::Block,
    Wish::Unblock,
    Wish::AddTwoWay,
    Wish::AddForced,
    Wish::AddOneWay,
    Wish::RemoveBoth,
    Wish::RemoveSingle,
    Wish::DenyRequests,
];

const WITH_ANSWERS: &[Wish] = &[
    Wish::Block,
    Wish::Unblock,
    Wish::AddTwoWay,
    Wish::AddForced,
    Wish::RemoveBoth,
    Wish::RemoveSingle,
    Wish::AgreeAndAdd,
];

const WITH_EVERY_ANSWER: &[Wish] = &[
    Wish::Block,
    Wish::AddTwoWay,
    Wish::AddOneWay,
    Wish::RemoveSingle,
    Wish::AgreeAndAdd,
    Wish::Agree,
    Wish::Decline,
];

const CROSSING_ANSWERS: &[Wish] =
    &[Wish::Block, Wish::AddTwoWay, Wish::AddOneWay, Wish::AgreeAndAdd];

const CLEARING: &[Wish] = &[Wish::Block, Wish::AddTwoWay, Wish::ClearBoth];

const WITH_CLEARING: &[Wish] = &[
    Wish::Block,
    Wish::AddTwoWay,
    Wish::AddOneWay,
    Wish::AgreeAndAdd,
    Wish::ClearBoth,
    Wish::ClearSingle,
];

const WITH_ACCOUNTS: &[Wish] =
    &[Wish::Block, Wish::AddTwoWay, Wish::RemoveBoth, Wish::DeleteAccount, Wish::ImportAccount];

const WITH_ACCOUNTS_AND_ANSWERS: &[Wish] = &[
    Wish::Block,
    Wish::AddTwoWay,
    Wish::Import,
    Wish::AgreeAndAdd,
    Wish::Decline,
    Wish::DeleteAccount,
    Wish::ImportAccount,
];

fn two_users(wishes: &'static [Wish], operations: usize) -> Exchange {
    let policy = Policy::default();
    Exchange { users: 2, operations, wishes, batches: false, policy, mutation: None }
}

fn needs_confirmation() -> Policy {
    Policy { default_allow_type: AllowType::NeedConfirm, ..Policy::default() }
}

fn remains_friends() -> Policy {
    Policy { remain_friends: true, ..Policy::default() }
}

#[test]
fn two_way_friendships_keep_every_invariant() {
    assert_holds(two_users(TWO_WAY, operations(5)));
    assert_holds(two_users(CLEARING, operations(5)));
}

#[test]
fn one_way_friendships_keep_every_invariant() {
    assert_holds(two_users(ONE_WAY, operations(4)));
}

#[test]
fn requests_that_wait_keep_every_invariant() {
    for wishes in [WITH_CONFIRMATION, WITH_ANSWERS, WITH_EVERY_ANSWER, WITH_CLEARING] {
        let policy = needs_confirmation();
        assert_holds(Exchange { policy, ..two_users(wishes, operations(4)) });
    }
    let policy = needs_confirmation();
    assert_holds(Exchange { policy, ..two_users(CROSSING_ANSWERS, operations(5)) });
}

#[test]
fn friendships_that_outlast_a_block_keep_every_other_invariant() {
    let policy = remains_friends();
    let model = Exchange { policy, ..two_users(TWO_WAY, operations(4)) };
    assert_holds(model);
}

#[test]
fn deleted_accounts_keep_every_invariant() {
    for policy in [Policy::default(), needs_confirmation()] {
        let model = Exchange { policy, ..two_users(WITH_ACCOUNTS, operations(4)) };
        assert_holds(model);
    }
    let policy = needs_confirmation();
    assert_holds(Exchange { policy, ..two_users(WITH_ACCOUNTS_AND_ANSWERS, operations(4)) });
}

#[test]
fn batches_of_three_users_keep_every_invariant() {
    let model = Exchange { users: 3, batches: true, ..two_users(TWO_WAY, operations(2)) };
    assert_holds(model);
}

#[test]
fn each_guard_is_needed() {
    use Mutation::*;
    let mutations = [
        (SeverIsIgnored, TWO_WAY, "I6 an answered block is kept"),
        (ProposalOfTheBlockedIsAccepted, TWO_WAY, "I1 nobody has a friend whom he blocks"),
        (WithdrawalFindsOnlyRequests, ONE_WAY, "I3 in the end friendship is mutual"),
        (WithdrawalFitsEveryEdge, ONE_WAY, "I8 subscribers hear of every end"),
        (BlockLeavesTheOfferOpen, TWO_WAY, "I1 nobody has a friend whom he blocks"),
        (RemovalLeavesTheOfferOpen, TWO_WAY, "I3 in the end friendship is mutual"),
        (
            ProposalClosesTheOfferThatItCrosses,
            TWO_WAY,
            "I9 who asked last and was not refused has it",
        ),
        (EffectsOvertake, TWO_WAY, "I6 an answered block is kept"),
    ];
    for (mutation, wishes, invariant) in mutations {
        let model = Exchange { mutation: Some(mutation), ..two_users(wishes, 5) };
        assert_breaks(model, invariant, &mutation);
    }
}

#[test]
fn each_guard_of_requests_that_wait_and_of_accounts_is_needed() {
    use Mutation::*;
    let mutations = [
        (BlockLeavesTheRequestWaiting, WITH_ANSWERS, "I10 a block leaves nothing waiting"),
        (SeverLeavesTheRequestWaiting, WITH_ANSWERS, "I10 a block leaves nothing waiting"),
        (RefusalIsIgnored, WITH_EVERY_ANSWER, "I4 in the end no offer is open"),
        (AgreementFitsEveryOffer, WITH_ANSWERS, "I1 nobody has a friend whom he blocks"),
        (ClearingLeavesTheOfferOpen, CLEARING, "I3 in the end friendship is mutual"),
        (
            DeletionLeavesTheRequestWaiting,
            WITH_ACCOUNTS_AND_ANSWERS,
            "I4 in the end no offer is open",
        ),
        (ForgettingIsIgnored, WITH_ACCOUNTS_AND_ANSWERS, "I11 in the end nobody names who is gone"),
        (
            ImportAsksNoBlocklist,
            WITH_ACCOUNTS_AND_ANSWERS,
            "I2 in the end blocked is not befriended",
        ),
    ];
    for (mutation, wishes, invariant) in mutations {
        let policy = match mutation {
            // Only offers that cross are open beside a friendship.
            ClearingLeavesTheOfferOpen => Policy::default(),
            _ => needs_confirmation(),
        };
        let import_ignores_blocklist = mutation == ImportAsksNoBlocklist;
        let policy = Policy { import_ignores_blocklist, ..policy };
        let model = Exchange { policy, mutation: Some(mutation), ..two_users(wishes, 5) };
        assert_breaks(model, invariant, &mutation);
    }
}
