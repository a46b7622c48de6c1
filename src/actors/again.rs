//! What is left to do of a call that comes again, because nobody heard its answer.
//!
//! One rule for all of them: what the call has recorded is answered from the record and never judged
//! anew, whatever has become of it since; only what no record of the call speaks of is done. Judged
//! anew, a peer would say that the friendship exists; and what somebody else has undone since would be
//! done a second time.

use std::sync::Arc;

use super::ItemError;
use super::ledger::{Owing, Plan};
use super::repeat::DoneBefore;
use crate::domain::{Command, Offer, Rejection, User, UserId};

/// What is left of a call.
pub(super) struct Rest {
    /// What is to be done; nothing if all of it is.
    pub(super) command: Option<Arc<Command>>,
    /// What the items that are done come to, by their places, in order.
    pub(super) settled: Settled,
}

/// A call of the user's that has `done` something before.
pub(super) struct Again<'a> {
    pub(super) user: &'a User,
    pub(super) done: &'a DoneBefore,
}

/// What items come to, by their places.
type Settled = Vec<(usize, Plan)>;

const FINE: Plan = Plan::Done(Ok(()));

impl Again<'_> {
    pub(super) fn rest_of(&self, command: Arc<Command>) -> Rest {
        let (bare, verdict) = command.parts();
        let Some((rest, settled)) = self.split(bare) else {
            return Rest { command: Some(command), settled: Vec::new() };
        };
        let rest = rest.map(|rest| match verdict {
            Some(verdict) => rest.under(verdict.clone()),
            None => rest,
        });
        Rest { command: rest.map(Arc::new), settled }
    }

    /// The rest of a command, if there is any, and what is settled. Nothing if nothing is.
    fn split(&self, command: &Command) -> Option<(Option<Command>, Settled)> {
        let (rest, settled) = match command {
            Command::Block { targets } => {
                let plan = |peer| owed(Owing::Block, peer);
                let twice = Some(Rejection::AlreadyBlocked);
                let (targets, settled) = self.items(targets, |one| one.user, plan, twice);
                (rest(targets, |targets| Command::Block { targets }), settled)
            }
            Command::Unblock { targets } => {
                let twice = Some(Rejection::NotBlocked);
                let (targets, settled) = self.items(targets, |one| one.user, |_| FINE, twice);
                (rest(targets, |targets| Command::Unblock { targets }), settled)
            }
            Command::AddFriends { items, form, forced } => {
                let plan = |peer| self.offered(peer);
                let (items, settled) = self.items(items, |one| one.user, plan, None);
                let (form, forced) = (*form, *forced);
                (rest(items, |items| Command::AddFriends { items, form, forced }), settled)
            }
            Command::RemoveFriends { targets, both } => {
                let (both, twice) = (*both, Some(Rejection::NotFriend));
                let plan = |peer| owed(Owing::Removal, peer);
                let (targets, settled) = self.items(targets, |one| one.user, plan, twice);
                (rest(targets, |targets| Command::RemoveFriends { targets, both }), settled)
            }
            Command::AnswerRequests { items } => {
                let plan = |peer| owed(Owing::Answer, peer);
                let twice = Some(Rejection::RequestUnknown);
                let (items, settled) = self.items(items, |one| one.user, plan, twice);
                (rest(items, |items| Command::AnswerRequests { items }), settled)
            }
            Command::UpdateFriends { items } => {
                let (items, settled) = self.items(items, |one| one.user, |_| FINE, None);
                (rest(items, |items| Command::UpdateFriends { items }), settled)
            }
            Command::AddGroups { names, members } if self.done.touched_own() => {
                let (left, mut settled) = self.items(members, |one| one.user, |_| FINE, None);
                if members.is_empty() {
                    settled.push((0, FINE));
                }
                // Those that are gone since are not made again.
                let there = self.user.groups(Some(names)).into_iter().map(|group| group.name);
                let names = there.collect();
                (rest(left, |members| Command::AddGroups { names, members }), settled)
            }
            Command::ClearFriends { .. } => {
                let mut peers = self.done.peers().to_vec();
                peers.sort_unstable();
                peers.dedup();
                let plans = peers.into_iter().map(|peer| owed(Owing::Removal, peer));
                (None, plans.enumerate().collect())
            }
            Command::DeleteAccount if self.done.touched_own() => {
                (None, vec![(0, Plan::OwedForgetting)])
            }
            Command::ImportAccount(_)
            | Command::SetProfile(_)
            | Command::RemoveGroups { .. }
            | Command::SetSubscription { .. }
            | Command::SealAnew { .. }
            | Command::DeleteSubscription { .. }
            | Command::MoveSubscription { .. }
            | Command::BeginReplay { .. }
            | Command::EndReplay { .. }
                if self.done.touched_own() =>
            {
                (None, vec![(0, FINE)])
            }
            // Nothing of it is done. Messages and keys are looked after by themselves.
            Command::AddGroups { .. }
            | Command::DeleteAccount
            | Command::ImportAccount(_)
            | Command::SetProfile(_)
            | Command::RemoveGroups { .. }
            | Command::SetSubscription { .. }
            | Command::SealAnew { .. }
            | Command::DeleteSubscription { .. }
            | Command::MoveSubscription { .. }
            | Command::BeginReplay { .. }
            | Command::EndReplay { .. }
            | Command::Send(_)
            | Command::BeginCall
            | Command::KeepAnswer(_)
            | Command::Judged(_) => return None,
        };
        (!settled.is_empty()).then_some((rest, settled))
    }

    /// The items that the call has not done yet, and the outcomes of the others. The first item about a
    /// peer comes out as `plan` says. Further items about the same peer do, too, or are refused with
    /// `twice` if that is given.
    fn items<T: Clone>(
        &self,
        items: &[T],
        user: impl Fn(&T) -> UserId,
        plan: impl Fn(UserId) -> Plan,
        twice: Option<Rejection>,
    ) -> (Vec<T>, Vec<(usize, Plan)>) {
        let (mut rest, mut settled) = (Vec::new(), Vec::new());
        let mut told: Vec<UserId> = Vec::new();
        for (slot, item) in items.iter().enumerate() {
            let peer = user(item);
            if !self.done.touched(&peer) {
                rest.push(item.clone());
                continue;
            }
            let refused = twice.filter(|_| told.contains(&peer));
            told.push(peer);
            settled.push((slot, refused.map_or_else(|| plan(peer), refuse)));
        }
        (rest, settled)
    }

    /// What came of the call's offer to `peer`, or of its import of who was a friend already.
    fn offered(&self, peer: UserId) -> Plan {
        let mut offers = self.done.offers().iter();
        let Some(mine) = offers.find(|offer| offer.peer == peer) else { return FINE };
        let is_mine = |offer: &Offer| offer.peer == peer && offer.edge == mine.edge;
        let is_open = self.user.offers().any(|offer| is_mine(offer) && offer.is_unanswered());
        match mine.came_to {
            Some(Ok(())) => FINE,
            Some(Err(rejection)) => refuse(rejection),
            None if is_open => Plan::Offer(peer, mine.edge),
            // Taken back by a removal since. Whoever still wants the friendship asks again.
            None => Plan::Done(Err(ItemError::Owed)),
        }
    }
}

fn rest<T>(items: Vec<T>, command: impl FnOnce(Vec<T>) -> Command) -> Option<Command> {
    (!items.is_empty()).then(|| command(items))
}

/// What was done owes `peer` something, or did.
fn owed(what: Owing, peer: UserId) -> Plan {
    Plan::Owed(what, peer, Ok(()))
}

fn refuse(rejection: Rejection) -> Plan {
    Plan::Done(Err(ItemError::Rejected(rejection)))
}
