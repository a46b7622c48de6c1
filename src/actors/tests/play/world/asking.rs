//! What is asked, and what is made of the answers.

use tokio::sync::oneshot::{self, error::TryRecvError};
use uuid::Uuid;

use super::{ASKS_MAX, CALLS_MAX, QUIET_ROUNDS, TICK, TIME_LIMIT, World, partitions};
use crate::actors::partition::{Execute, Standings};
use crate::actors::tests::play::clients::{Call, Deed, Look, Outcome, Said};
use crate::actors::tests::play::{APP, NAMES, partition, user_id, user_key};
use crate::actors::waiting::ReplyBy;
use crate::actors::{ExecuteError, ItemError, Standing};
use crate::domain::{Agreement, CallKey, OfferForm, Rejection, UserId};
use crate::journal::Partition;

impl World<'_> {
    pub(super) fn ask_anew(&mut self, owner: UserId, deed: Deed, targets: Vec<UserId>) {
        let key = UserId::parse(&format!("{:032x}", self.calls.len())).expect("digits are a name");
        // Whoever is alone may answer that nobody knows: who has a key asks again.
        let has_key = self.random.one_in(3) || (self.alone() && self.random.one_in(2));
        let key = has_key.then_some(CallKey { key, asked: key });
        let call = Call {
            requests: Vec::new(),
            key,
            owner,
            deed,
            targets,
            asked: self.step,
            asks: 0,
            answer: None,
            outcome: None,
            node: 0,
        };
        self.known.note_asked(&call);
        self.calls.push(call);
    }

    fn pick(&mut self) -> UserId {
        user_id(NAMES[self.random.below(NAMES.len())])
    }

    pub(super) fn call(&mut self) {
        let under_way = self.calls.iter().filter(|call| call.outcome.is_none()).count();
        if under_way >= CALLS_MAX {
            return;
        }
        let owner = self.pick();
        if self.mortal && self.random.one_in(4) {
            return self.delete_or_import(owner);
        }
        let first = self.random.below(NAMES.len());
        if self.careful && self.random.one_in(2) && self.answer_a_request() {
            return;
        }
        let count = 1 + self.random.below(2);
        let others = (0..NAMES.len()).map(|step| user_id(NAMES[(first + step) % NAMES.len()]));
        let targets: Vec<UserId> = others.filter(|other| *other != owner).take(count).collect();
        let deed = match self.random.below(18) {
            0..=3 => Deed::Block,
            4 | 5 => Deed::Unblock,
            6..=9 if self.one_way && self.random.one_in(3) => Deed::Add(OfferForm::Import),
            6..=9 => Deed::Add(OfferForm::TwoWay),
            10 | 11 => Deed::Remove { both: self.both_ways(), has_me: self.random.one_in(2) },
            12 => Deed::Remark(self.random.below(3) as u8),
            13 => Deed::Confirms(!self.random.one_in(3)),
            14 if self.random.one_in(2) => Deed::Clear { both: self.both_ways() },
            14 => return self.delete_or_import(owner),
            15 => return self.ask_again(),
            _ if self.random.one_in(2) && self.answer_a_request() => return,
            _ => Deed::Answer(Some(Agreement::Both)),
        };
        let alone = matches!(deed, Deed::Clear { .. } | Deed::Confirms(_));
        let targets = if alone { Vec::new() } else { targets };
        self.ask_anew(owner, deed, targets);
    }

    fn both_ways(&mut self) -> bool {
        !self.one_way || self.random.one_in(2)
    }

    fn delete_or_import(&mut self, owner: UserId) {
        let of = self.calls.iter().rev().filter(|call| call.targets.is_empty());
        // Also one of whom others have still to hear.
        let gone = of.filter(|call| call.outcome != Some(Outcome::Unknown)).find_map(|call| {
            let done = matches!(call.outcome, None | Some(Outcome::Done(_)));
            (call.deed == Deed::Delete && done).then_some(call.owner)
        });
        let (owner, deed) = match gone {
            Some(gone) if !self.random.one_in(3) => (gone, Deed::Import),
            _ => (owner, Deed::Delete),
        };
        self.ask_anew(owner, deed, Vec::new());
    }

    /// Somebody who is asked for a friendship, and has said nothing to that yet, does; answers whether
    /// there was one.
    fn answer_a_request(&mut self) -> bool {
        let waits = Err(ItemError::Rejected(Rejection::ConfirmationNeeded));
        let mut waiting = Vec::new();
        for call in &self.calls {
            match call.deed {
                Deed::Answer(_) => {
                    let is_answered =
                        |(asked, asker)| asked == call.owner && call.targets.contains(&asker);
                    waiting.retain(|pair| !is_answered(*pair));
                }
                _ => waiting.extend(
                    call.items()
                        .filter(|(_, outcome)| *outcome == waits)
                        .map(|(asked, _)| (asked, call.owner)),
                ),
            }
        }
        if waiting.is_empty() {
            return false;
        }
        let (owner, asker) = waiting[self.random.below(waiting.len())];
        let agreement = match self.random.below(4) {
            0 => None,
            1 if self.one_way => Some(Agreement::OneWay),
            _ => Some(Agreement::Both),
        };
        self.ask_anew(owner, Deed::Answer(agreement), vec![asker]);
        true
    }

    /// A call with a key comes again although it was answered: nobody heard that.
    fn ask_again(&mut self) {
        let answered = |call: &Call| call.key.is_some() && call.outcome.is_some();
        let count = self.calls.iter().filter(|call| answered(call)).count();
        if count == 0 {
            return;
        }
        let which = self.random.below(count);
        let call = self.calls.iter_mut().filter(|call| answered(call)).nth(which);
        let call = call.expect("there are so many");
        (call.outcome, call.asks) = (None, 0);
        self.tally.late += 1;
        self.known.note_asked(call);
    }

    /// Callers who have no answer to wait for ask an owner, if there is one.
    pub(super) fn ask(&mut self, all: bool) {
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
            if self.calls[index].asks >= ASKS_MAX {
                self.calls[index].outcome = Some(Outcome::Unknown);
                continue;
            }
            self.ask_at(index, owner);
        }
    }

    fn ask_at(&mut self, index: usize, owner: usize) {
        let call = &mut self.calls[index];
        let home = partition(call.owner);
        call.asks += 1;
        call.node = owner;
        self.tally.again += usize::from(call.asks > 1);
        // Whoever has a key may have lost everything else.
        if call.requests.is_empty() || (call.key.is_some() && self.random.one_in(2)) {
            self.requests += 1;
            call.requests.push(Uuid::from_u128(self.requests));
        }
        let (reply, answer) = oneshot::channel();
        call.answer = Some(answer);
        let deadline = self.nodes[owner].context.seats.now() + TICK * TIME_LIMIT;
        let message = Execute {
            key: user_key(call.owner),
            command: call.command(),
            origin: call.origin(),
            call: call.key,
            reply: ReplyBy::new(reply, deadline),
        };
        self.nodes[owner].offices[usize::from(home.0)].execute(message);
    }

    /// Where two believe to own a partition, the later one changes something, and whoever hears of it
    /// looks at the earlier one.
    pub(super) async fn rivalry(&mut self) {
        for one in partitions() {
            let index = usize::from(one.0);
            let epoch =
                |node: &usize| self.nodes[*node].offices[index].keeping.ledger.position().epoch;
            let serves = |node: &usize| self.nodes[*node].offices[index].serves();
            let owners: Vec<usize> = (0..self.nodes.len()).filter(serves).collect();
            let (2.., Some(later)) = (owners.len(), owners.into_iter().max_by_key(epoch)) else {
                continue;
            };
            let names = NAMES.map(user_id);
            let Some(&owner) = names.iter().find(|name| partition(**name) == one) else { continue };
            let target = names[self.random.below(names.len())];
            if target == owner {
                continue;
            }
            let blocked = self.known.said(owner, target).is_some_and(|said| said.blocked);
            let deed = if blocked { Deed::Unblock } else { Deed::Block };
            self.ask_anew(owner, deed, vec![target]);
            self.ask_at(self.calls.len() - 1, later);
            self.turns(QUIET_ROUNDS).await;
            self.nodes[later].handle.sync(Some(one), usize::MAX);
            while self.nodes[later].offices[index].take_settlement() {}
            self.hear();
            self.look_at(owner, target, Some(later));
        }
    }

    /// One of those who believe that they own the partition.
    fn owner(&mut self, home: Partition) -> Option<usize> {
        let serves = |node: &usize| self.nodes[*node].offices[usize::from(home.0)].serves();
        let owners: Vec<usize> = (0..self.nodes.len()).filter(serves).collect();
        (!owners.is_empty()).then(|| owners[self.random.below(owners.len())])
    }

    /// Takes in what was answered meanwhile.
    pub(super) fn hear(&mut self) {
        if let Some(problem) = self.story.read_on(&self.medium) {
            self.complain(problem);
        }
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
                Err(ExecuteError::Unavailable) if call.key.is_some() => continue,
                Err(
                    ExecuteError::Overloaded | ExecuteError::TimedOut | ExecuteError::Unavailable,
                ) => Outcome::Unknown,
            };
            call.outcome = Some(outcome);
            self.answered(index);
            self.look_behind(index);
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
                let made = matches!(call.deed, Deed::Add(_) | Deed::Answer(Some(_)));
                let made = made && outcome.is_ok();
                let sides = [(call.owner, target), (target, call.owner)];
                let severed = |(one, other)| {
                    let said = self.known.said(one, other);
                    said.is_some_and(|said| said.severed && said.since <= call.asked)
                };
                if made && sides.into_iter().any(severed) {
                    problems.push(format!("friends across a block: {call:?}"));
                }
                let answers = matches!(call.deed, Deed::Answer(_)) && outcome.is_ok();
                if answers && !self.story.has_heard(target, call) {
                    problems.push(format!("{target} has heard nothing: {call:?}"));
                }
            }
            let done = executed.outcomes.iter().all(Result::is_ok);
            self.tally.deleted += usize::from(call.deed == Deed::Delete && done);
            self.tally.agreed += usize::from(matches!(call.deed, Deed::Answer(_)) && done);
        }
        self.known.note_answered(&self.calls[index], self.step);
        problems.into_iter().for_each(|problem| self.complain(problem));
    }

    /// Whoever hears that something ended on both sides looks at the other one at once.
    fn look_behind(&mut self, index: usize) {
        let call = &self.calls[index];
        let Some(Outcome::Done(executed)) = &call.outcome else { return };
        let ended = matches!(
            call.deed,
            Deed::Delete | Deed::Remove { both: true, .. } | Deed::Clear { both: true }
        );
        if !ended || !executed.outcomes.iter().all(Result::is_ok) {
            return;
        }
        let (owner, named) = (call.owner, call.targets.clone());
        let others = match named.is_empty() {
            true => NAMES.map(user_id).into_iter().filter(|other| *other != owner).collect(),
            false => named,
        };
        others.into_iter().for_each(|other| self.look_at(other, owner, None));
    }

    /// Somebody looks at what one user has about another: often where something has just happened.
    pub(super) fn look(&mut self) {
        let (mut owner, mut peer) = (self.pick(), self.pick());
        let last = self.calls.iter().rev().find(|call| {
            let is_done = matches!(call.outcome, Some(Outcome::Done(_)));
            is_done && (!call.targets.is_empty() || call.deed == Deed::Delete)
        });
        let mut answered = None;
        if let Some(last) = last.filter(|last| last.asked % 4 > 0) {
            answered = Some(last.node);
            let target = last.targets.first();
            (owner, peer) = (last.owner, target.copied().unwrap_or(peer));
            if self.random.one_in(3) {
                (owner, peer) = (peer, owner);
            }
        }
        if owner != peer {
            self.look_at(owner, peer, answered);
        }
    }

    /// Asks an owner; where two believe to be that, the one who did not answer last.
    pub(super) fn look_at(&mut self, owner: UserId, peer: UserId, answered: Option<usize>) {
        let home = partition(owner);
        // Where nobody else can own it, also what is not served is asked.
        let owner_of_it = self.owner(home).or(self.alone().then_some(0));
        let Some(mut node) = owner_of_it else { return };
        let serves = |node: usize| self.nodes[node].offices[usize::from(home.0)].serves();
        let mut others = (0..self.nodes.len()).filter(|other| Some(*other) != answered);
        if let Some(other) = answered.and(others.find(|other| serves(*other))) {
            node = other;
        }
        if let Some(problem) = self.story.read_on(&self.medium) {
            self.complain(problem);
        }
        let (reply, answer) = oneshot::channel();
        let (asked, durable) = (self.step, self.story.len(home));
        self.looks.push(Look { owner, peer, asked, durable, answer });
        let message = Standings { app: APP, pairs: vec![(owner, peer)], reply };
        self.nodes[node].offices[usize::from(home.0)].look(message);
    }

    /// Promise 2, and that what is read is durable and not older than the question.
    fn seen(&mut self, look: &Look, seen: Standing) {
        let Look { owner, peer, asked, .. } = *look;
        self.tally.looks += 1;
        let before = |said: &Said| said.since <= asked;
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
        let is_past = |since: Option<u64>| since.is_some_and(|since| since <= asked);
        if is_past(self.known.apart(owner, peer)) && seen.has_friend {
            self.complain(format!("{owner} has {peer} as a friend, and that had ended"));
        }
        if is_past(self.known.gone(owner)) && seen.owner_imported {
            self.complain(format!("{owner} was deleted and is there"));
        }
        if !self.story.explains(owner, peer, look.durable, seen) {
            self.complain(format!("{owner}, {peer}: no durable record explains {seen:?}"));
        }
    }
}
