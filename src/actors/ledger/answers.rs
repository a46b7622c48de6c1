//! Who waits for what, and what they are told.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::channels::{Owing, forgets, removes};
use super::{After, Ledger, Plan, State};
use crate::actors::ItemError;
use crate::actors::waiting::{ReplyBy, Slot, Ticket};
use crate::domain::{Event, Rejection, UserId, UserKey};
use crate::journal::Offset;
use crate::pairing::Outbox;

/// An item that waits for what may be owed, and its answer if nothing is.
type Owed = (Ticket, Owing, Result<(), ItemError>);

impl Ledger {
    /// Answers once everything up to record `n` is final: for turns that record nothing.
    pub(in crate::actors) fn answer_after(
        &self,
        n: u64,
        key: UserKey,
        reply: ReplyBy,
        plans: &[Plan],
    ) {
        let request = self.wait(key, reply, plans);
        let mut state = self.state.borrow_mut();
        match state.in_flight_at(n) {
            Some(record) => record.requests.push((request, false)),
            None => state.desk.recorded(request, None, self.partition),
        }
    }

    /// Calls `after` once everything up to record `n` is final.
    pub(in crate::actors) fn when_final(&self, n: u64, after: After) {
        let after = {
            let mut state = self.state.borrow_mut();
            match state.in_flight_at(n) {
                Some(record) => {
                    record.after.push(after);
                    return;
                }
                None => after,
            }
        };
        after(Some(Offset(0)));
    }

    pub(super) fn wait(&self, key: UserKey, reply: ReplyBy, plans: &[Plan]) -> u64 {
        let mut state = self.state.borrow_mut();
        let State { outbox, desk, .. } = &mut *state;
        let slots = plans.iter().map(|plan| match plan {
            Plan::Done(result) => Slot::Done(*result),
            Plan::Sever(_)
            | Plan::Answer(_)
            | Plan::Withdraw(_)
            | Plan::Owed(..)
            | Plan::Offer(..) => Slot::Open(1),
            Plan::Forgetting | Plan::OwedForgetting => {
                Slot::Open(u32::from(self.context.partitions))
            }
            Plan::OwedRemovals => match removals(outbox, key).count() as u32 {
                0 => Slot::Done(Ok(())),
                count => Slot::Open(count),
            },
        });
        let request = desk.open(reply, slots.collect());
        let mut owed: HashMap<UserId, Vec<Owed>, RandomState> = HashMap::default();
        for (slot, plan) in plans.iter().enumerate() {
            let ticket = Ticket { request, slot: slot as u32 };
            match plan {
                Plan::Done(_)
                | Plan::Sever(_)
                | Plan::Answer(_)
                | Plan::Withdraw(_)
                | Plan::Forgetting => {}
                Plan::Offer(peer, edge) => {
                    state.desk.await_offer((key, *peer, edge.version), ticket);
                }
                Plan::Owed(what, peer, otherwise) => {
                    owed.entry(*peer).or_default().push((ticket, *what, *otherwise));
                }
                Plan::OwedForgetting => {
                    let State { outbox, desk, .. } = &mut *state;
                    for outbox in outbox {
                        match outbox.iter_mut().find(|owed| forgets(&owed.effect, &key)) {
                            Some(owed) => owed.waiters.push(ticket),
                            None => desk.fill(ticket, Ok(()), self.partition),
                        }
                    }
                }
                Plan::OwedRemovals => {
                    removals(&mut state.outbox, key).for_each(|owed| owed.waiters.push(ticket));
                }
            }
        }
        if !owed.is_empty() {
            self.wait_for_owed(&mut state, key, owed);
        }
        request
    }

    /// Looks for what is owed already in one pass, however many items wait for it.
    fn wait_for_owed(
        &self,
        state: &mut State,
        key: UserKey,
        mut owed: HashMap<UserId, Vec<Owed>, RandomState>,
    ) {
        let State { outbox, desk, .. } = state;
        // The last of what is owed to each peer.
        for known in outbox.iter_mut().flat_map(|outbox| outbox.iter_mut().rev()) {
            if known.effect.from != key.user {
                continue;
            }
            let Some(items) = owed.get_mut(&known.effect.to) else { continue };
            items.retain(|(ticket, what, _)| {
                let is_it = what.is(&known.effect, &key, &known.effect.to);
                if is_it {
                    known.waiters.push(*ticket);
                }
                !is_it
            });
        }
        for (ticket, _, otherwise) in owed.into_values().flatten() {
            desk.fill(ticket, otherwise, self.partition);
        }
    }

    /// Who waits for offers that these events answer, and what they are told once that is final.
    pub(super) fn resolve_offers(
        &self,
        key: UserKey,
        events: &[Event],
    ) -> SmallVec<[(Ticket, Result<(), ItemError>); 1]> {
        let mut state = self.state.borrow_mut();
        let mut resolved = SmallVec::new();
        let deleted = events.iter().any(|event| matches!(event, Event::AccountDeleted {}));
        for event in events {
            let Some((peer, edge, outcome)) = event.offer_outcome() else { continue };
            let result = match outcome.answer() {
                Some(answer) => answer.map_err(ItemError::Rejected),
                // The owner took it back.
                None if deleted => Err(ItemError::Rejected(Rejection::AccountUnknown)),
                // A removal by the same user came in between: what the peer would have said is not
                // known. Whoever still wants the friendship asks again.
                None => Err(ItemError::Owed),
            };
            let tickets = state.desk.offer_answered(&(key, peer, edge.version));
            resolved.extend(tickets.into_iter().map(|ticket| (ticket, result)));
        }
        resolved
    }
}

/// What is owed to others of the removals that earlier calls of the user's have made.
fn removals(
    outbox: &mut [Outbox<super::Owed>],
    key: UserKey,
) -> impl Iterator<Item = &mut super::Owed> {
    outbox.iter_mut().flat_map(Outbox::iter_mut).filter(move |owed| {
        let known = &owed.effect;
        known.from == key.user && known.app == key.app && removes(&known.effect)
    })
}

/// The items that wait for acknowledgements of effects.
#[derive(Default)]
pub(super) struct Awaited {
    /// Those that wait for a peer's side of an ended friendship, in order.
    pub(super) severing: Vec<(UserId, u32)>,
    /// Those that wait for a peer to hear the answer to a request, in order.
    pub(super) answering: Vec<(UserId, u32)>,
    /// Those that wait for a peer to let go of an offer, in order.
    pub(super) withdrawing: Vec<(UserId, u32)>,
    /// The one that waits for every partition.
    pub(super) forgetting: Option<u32>,
}

impl Awaited {
    pub(super) fn of(plans: &[Plan]) -> Self {
        let mut awaited = Self::default();
        for (slot, plan) in (0..).zip(plans) {
            match plan {
                Plan::Sever(peer) => awaited.severing.push((*peer, slot)),
                Plan::Answer(peer) => awaited.answering.push((*peer, slot)),
                Plan::Withdraw(peer) => awaited.withdrawing.push((*peer, slot)),
                Plan::Forgetting => awaited.forgetting = Some(slot),
                Plan::Done(_)
                | Plan::Owed(..)
                | Plan::Offer(..)
                | Plan::OwedForgetting
                | Plan::OwedRemovals => {}
            }
        }
        awaited
    }
}
