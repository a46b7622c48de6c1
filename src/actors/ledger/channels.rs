//! What the partition owes to others and has taken from them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::answers::Awaited;
use super::{Ledger, Outgoing, Owed, Status};
use crate::actors::waiting::Ticket;
use crate::domain::{Agreement, Effect, Rejection, Severance, UserId, UserKey};
use crate::journal::{Body, Commit, Durability, Partition};
use crate::pairing::{Answer, OwedEffect, owed_by};

/// Effects in one message to another partition.
const EFFECTS_PER_BATCH: usize = 1000;
/// Acknowledged effects after which that is recorded.
const ACKS_PER_RECORD: usize = 4096;
/// The shortest time after which unacknowledged effects are sent again; it doubles up to the longest.
pub(super) const RESEND_MIN: Duration = Duration::from_millis(50);
const RESEND_MAX: Duration = Duration::from_secs(2);

impl Ledger {
    /// Puts the record's effects into the outboxes, with the request that waits for them. The
    /// request's items and the effects stand in the same order.
    pub(super) fn owe(&self, n: u64, commit: &Commit, request: Option<u64>, awaited: &Awaited) {
        let mut severing = awaited.severing.iter().peekable();
        let mut answering = awaited.answering.iter().peekable();
        let mut withdrawing = awaited.withdrawing.iter().peekable();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        owed_by(commit, self.context.partitions, |to, effect| {
            let mut waiters = SmallVec::new();
            if let Some(request) = request {
                match effect.effect {
                    Effect::Sever { .. } => {
                        if let Some((_, slot)) = severing.next_if(|(peer, _)| *peer == effect.to) {
                            waiters.push(Ticket { request, slot: *slot });
                        }
                    }
                    Effect::Confirm { .. } | Effect::Refuse { .. } => {
                        if let Some((_, slot)) = answering.next_if(|(peer, _)| *peer == effect.to) {
                            waiters.push(Ticket { request, slot: *slot });
                        }
                    }
                    Effect::Withdraw { .. } => {
                        if let Some((_, slot)) = withdrawing.next_if(|(peer, _)| *peer == effect.to)
                        {
                            waiters.push(Ticket { request, slot: *slot });
                        }
                    }
                    Effect::Forget => {
                        waiters.extend(awaited.forgetting.map(|slot| Ticket { request, slot }))
                    }
                    // No item waits for these; that of an offer waits for its answer.
                    Effect::Propose { .. } | Effect::Pend { .. } => {}
                }
            }
            let index = usize::from(to.0);
            state.outbox[index].push(n, Owed { n, effect: Arc::new(effect), waiters });
            state.stir(index);
            state.owed += 1;
        });
    }

    /// Whether a deletion of the account `key` has not reached every partition: it may not be
    /// imported again before, or the new account would be forgotten with the old one.
    pub(in crate::actors) fn owes_forget(&self, key: UserKey) -> bool {
        let mut state = self.state.borrow_mut();
        state.owed > 0
            && state
                .outbox
                .iter_mut()
                .any(|outbox| outbox.iter_mut().any(|owed| forgets(&owed.effect, &key)))
    }

    /// Effects have come in from `source`. Errors: the answer to send instead of taking them.
    pub(in crate::actors) fn take_effects(
        &self,
        source: Partition,
        prev: u64,
        count: usize,
    ) -> Result<(), Answer> {
        self.state.borrow_mut().inbox[usize::from(source.0)].take(prev, count)
    }

    /// Effects of `source` up to `seq` changed nothing here: a watermark record will say so.
    pub(in crate::actors) fn mark_seen(self: &Rc<Self>, source: Partition, seq: u64) {
        self.state.borrow_mut().unmarked.insert(source, seq);
        self.schedule_turn();
    }

    /// An answer has come in from `destination`.
    pub(in crate::actors) fn take_answer(self: &Rc<Self>, destination: Partition, answer: Answer) {
        if self.status() == Status::Recovering {
            // What it speaks of is dropped; what the journal knows of it is sent again.
            return;
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let index = usize::from(destination.0);
        let outbox = &mut state.outbox[index];
        let before = outbox.len();
        match outbox.take_answer(answer) {
            Ok(released) => {
                for owed in released {
                    state.acked_n = state.acked_n.max(owed.n);
                    for ticket in owed.waiters {
                        state.desk.fill(ticket, Ok(()), self.partition);
                    }
                }
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    journal.partition = self.partition.0,
                    journal.destination = destination.0,
                    "another partition took effects that this one does not know: claiming again"
                );
                self.lost.notify_one();
                return;
            }
        }
        let released = before - state.outbox[index].len();
        state.owed -= released;
        state.unrecorded_acks += released;
        if released > 0 {
            // The channel moves: what is behind has its time from now on.
            state.resend[index] = (Instant::now() + RESEND_MIN, RESEND_MIN);
        }
        if answer.refused.is_some() {
            state.stir(index);
            self.schedule_turn();
        }
    }

    /// What is to be sent to other partitions now.
    pub(in crate::actors) fn outgoing(&self) -> Vec<Outgoing> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.refused || !matches!(state.status, Status::Serving | Status::Leaving) {
            // Until the partition is recovered, what it owes may follow from records that are lost.
            return Vec::new();
        }
        let ready = match self.context.journal.durability() {
            Durability::Prefix => u64::MAX,
            Durability::PerPartition => state.writer.acknowledged(),
        };
        let mut outgoing = Vec::new();
        for index in std::mem::take(&mut state.stirred) {
            let to = Partition(index);
            let index = usize::from(index);
            let outbox = &mut state.outbox[index];
            let idle = outbox.in_flight() == 0;
            while let Some(batch) = outbox.batch(ready, EFFECTS_PER_BATCH) {
                let effects = batch.entries.iter().map(|owed| owed.effect.clone()).collect();
                let (prev, losses) = (batch.prev, self.losses());
                outgoing.push(Outgoing::Effects { to, prev, effects, losses });
            }
            if idle {
                let (due, wait) = &mut state.resend[index];
                *due = Instant::now() + *wait;
            }
            // What follows from a record that is not final stays.
            state.stir(index);
        }
        outgoing
    }

    /// Appends one watermark record for everything that changed nothing since the last one.
    fn append_watermarks(&self) {
        let seen: Vec<(Partition, u64)> =
            std::mem::take(&mut self.state.borrow_mut().unmarked).into_iter().collect();
        if !seen.is_empty() {
            self.append_control(&Body::Watermark { seen }, None);
        }
    }

    /// Records what the destinations have acknowledged, once it is at least `effects_min` effects. Without
    /// such records a node that follows this partition would keep every effect for ever.
    pub(in crate::actors) fn append_acknowledged(&self, effects_min: usize) {
        let out: Vec<(Partition, u64)> = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if state.unrecorded_acks < effects_min.max(1) {
                return;
            }
            state.unrecorded_acks = 0;
            let known = state.outbox.iter().zip(&mut state.recorded_acks).enumerate();
            let news = known.filter_map(|(index, (outbox, recorded))| {
                let acked = outbox.acked();
                (std::mem::replace(recorded, acked) < acked)
                    .then_some((Partition(index as u16), acked))
            });
            news.collect()
        };
        self.append_control(&Body::Acknowledged { out }, None);
    }

    /// Sends again what was not acknowledged in time, and answers those whose time is up.
    pub(in crate::actors) fn tick(self: &Rc<Self>, now: Instant) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.desk.expire(now, self.partition);
        let mut again = false;
        for index in 0..state.outbox.len() {
            let (outbox, (due, wait)) = (&mut state.outbox[index], &mut state.resend[index]);
            if outbox.is_empty() {
                continue;
            }
            if outbox.in_flight() > 0 && *due <= now {
                outbox.rewind();
                *wait = (*wait * 2).min(RESEND_MAX);
                *due = now + *wait;
            }
            state.stir(index);
            again = true;
        }
        if again {
            self.schedule_turn();
        }
    }

    /// Puts the last records of a batch behind the others.
    pub(in crate::actors) fn close_turn(&self) {
        if !self.may_record() {
            return;
        }
        self.append_watermarks();
        self.append_acknowledged(ACKS_PER_RECORD);
    }
}

/// What an earlier call may still owe to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Owing {
    /// The removal that comes of a block.
    Block,
    /// A removal from both lists, or of an offer.
    Removal,
    /// The answer to a request that waited.
    Answer,
    /// The same, if it is this agreement or, without one, a refusal.
    SameAnswer(Option<Agreement>),
}

impl Owing {
    /// Whether `owed` is that, by `key` to `peer`.
    pub(super) fn is(self, owed: &OwedEffect, key: &UserKey, peer: &UserId) -> bool {
        let severs = |wanted| matches!(owed.effect, Effect::Sever { why, .. } if why == wanted);
        let fits = match self {
            Self::Block => severs(Severance::Blocked),
            Self::Removal => removes(&owed.effect),
            Self::Answer | Self::SameAnswer(_) => match owed.effect {
                Effect::Confirm { agreement: said @ Some(_), .. } => self.takes(said),
                Effect::Refuse { why: Rejection::Declined, .. } => self.takes(None),
                Effect::Confirm { agreement: None, .. }
                | Effect::Refuse { .. }
                | Effect::Sever { .. }
                | Effect::Propose { .. }
                | Effect::Pend { .. }
                | Effect::Withdraw { .. }
                | Effect::Forget => false,
            },
        };
        owed.to == *peer && owed.from == key.user && owed.app == key.app && fits
    }

    /// Whether what was said is the answer that is meant.
    fn takes(self, said: Option<Agreement>) -> bool {
        match self {
            Self::SameAnswer(meant) => meant == said,
            Self::Block | Self::Removal | Self::Answer => true,
        }
    }
}

/// Whether `effect` comes of a removal: from both lists, or of an offer.
pub(super) fn removes(effect: &Effect) -> bool {
    matches!(effect, Effect::Sever { why: Severance::Deleted, .. } | Effect::Withdraw { .. })
}

/// Whether `owed` tells a partition that the account `key` is deleted.
pub(super) fn forgets(owed: &OwedEffect, key: &UserKey) -> bool {
    matches!(owed.effect, Effect::Forget) && owed.from == key.user && owed.app == key.app
}
