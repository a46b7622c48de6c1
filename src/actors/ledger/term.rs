//! A term of office: how it begins and ends, and whether it still lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::mpsc::UnboundedSender;

use super::{After, Ledger, Owed, State, Status};
use crate::actors::recovery::Recovered;
use crate::actors::repeat::Repeats;
use crate::domain::{User, UserKey};
use crate::journal::{Body, Imprint, Offset, Place, Settlement, WriterRule};
use crate::pairing::Outbox;
use crate::store::row_set::RowSet;
use crate::store::rows::{RowChanges, RowHash};

/// How long a partition is served without a lease. Shorter troubles of the journal pass by themselves.
const LEASELESS_MAX: Duration = Duration::from_secs(10);

/// The journal's end, as asked for by the keeper of the leases.
#[derive(Clone, Copy, Debug)]
pub(in crate::actors) struct Confirmation {
    /// When it was asked for.
    pub(in crate::actors) asked: Instant,
    /// What was answered.
    pub(in crate::actors) end: Offset,
}

/// A record as it was handed to the journal.
#[derive(Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) bytes: usize,
    /// Of its bytes, as in its imprint.
    pub(super) check: u32,
    /// When, if that keeps a lease.
    pub(super) sent: Option<Instant>,
}

impl Written {
    pub(super) fn of(record: &[u8], sent: Option<Instant>) -> Self {
        Self { bytes: record.len(), check: crc32c::crc32c(record), sent }
    }
}

impl Ledger {
    /// Grows with each recovery: an actor of an earlier era may not act any more.
    pub(in crate::actors) fn era(&self) -> u64 {
        self.era.get()
    }

    /// How often the journal had lost what was in flight when this partition began to write it.
    pub(in crate::actors) fn losses(&self) -> u64 {
        self.losses.get()
    }

    /// The fate of this partition's records is told to `settlements` from now on.
    pub(in crate::actors) fn attach(&self, settlements: UnboundedSender<Settlement>) {
        let journal = &self.context.journal;
        journal.attach(self.partition, settlements);
        // In this order: a loss in between is told to this partition, too.
        self.losses.set(journal.losses());
    }

    pub(in crate::actors) fn status(&self) -> Status {
        self.state.borrow().status
    }

    /// Takes no new commands and, where another node takes over, answers no questions; what is in
    /// flight goes on.
    pub(in crate::actors) fn leave(&self) {
        let mut state = self.state.borrow_mut();
        state.status = Status::Leaving;
        state.confirmation = None;
        // The door, too, has nothing to say any more.
        self.context.seats.end_lease(self.partition);
    }

    /// Whether a record may still be appended.
    pub(in crate::actors) fn may_record(&self) -> bool {
        let state = self.state.borrow();
        matches!(state.status, Status::Serving | Status::Leaving) && !state.refused
    }

    /// Whether one more record that answers effects may be appended now, of those that may take one in
    /// `share` of the room: also while the outbox is full, because answering is what empties the
    /// outboxes of others.
    pub(in crate::actors) fn admits_effects(&self, share: usize) -> bool {
        let state = self.state.borrow();
        let limits = &self.context.settings;
        self.may_record()
            && state.in_flight.len() * share < limits.in_flight_max
            && state.in_flight_bytes * share < limits.in_flight_bytes_max
    }

    /// Appends the release as the last record of this term; `after` gets its outcome. No record may follow
    /// it: a node that read one would wait for a lease to end. Effects that users got and have not recorded
    /// are not acknowledged, and their sources send them again.
    pub(in crate::actors) fn release(&self, after: After) {
        self.leave();
        self.close_turn();
        self.append_acknowledged(0);
        let hash = self.hash().to_string();
        self.append_control(&Body::Release { hash }, Some(after));
        self.state.borrow_mut().status = Status::Released;
    }

    /// Forgets everything that is not final and answers all who wait that nothing can be said. The
    /// partition's actors go with it: they may hold what is not recorded.
    pub(in crate::actors) fn drop_unconfirmed(&self) {
        let in_flight = {
            let mut state = self.state.borrow_mut();
            state.status = Status::Recovering;
            state.in_flight_bytes = 0;
            state.unmarked.clear();
            state.outbox.iter_mut().for_each(|outbox| *outbox = Outbox::restore(outbox.acked()));
            state.stirred.clear();
            state.owed = 0;
            state.changes = RowChanges::default();
            state.unsaved = RowSet::default();
            state.unsaved_records = 0;
            state.confirmation = None;
            self.context.known.forget_partition(self.partition);
            state.desk.abandon(&self.context.interrupted());
            std::mem::take(&mut state.in_flight)
        };
        self.era.set(self.era.get() + 1);
        for record in in_flight {
            if let Some(done) = &record.done {
                self.state.borrow_mut().repeats.take_back(done);
            }
            record.after.into_iter().for_each(|after| after(None));
        }
    }

    /// Starts from what was recovered, without the right to write yet. Answers the users that have to
    /// be resident, because the store lacks rows of theirs.
    pub(in crate::actors) fn restore(
        &self,
        recovered: Recovered,
    ) -> HashMap<UserKey, (User, RowHash)> {
        self.context.known.forget_partition(self.partition);
        let mut state = self.state.borrow_mut();
        state.hash = recovered.hash;
        state.final_hash = recovered.hash;
        state.released = recovered.released;
        state.inbox = recovered.inbox;
        state.outbox = recovered
            .outbox
            .into_iter()
            .map(|mut known| {
                let mut outbox = Outbox::restore(known.acked());
                for effect in known.iter_mut() {
                    outbox.push(0, Owed { n: 0, effect: effect.clone(), waiters: SmallVec::new() });
                }
                outbox
            })
            .collect();
        state.owed = state.outbox.iter().map(Outbox::len).sum();
        state.stirred.clear();
        (0..state.outbox.len()).for_each(|index| state.stir(index));
        state.acked_n = 0;
        state.recorded_acks = state.outbox.iter().map(Outbox::acked).collect();
        state.unrecorded_acks = 0;
        state.repeats.absorb(recovered.done);
        state.lately = recovered.lately;
        state.last = recovered.last;
        state.cursors = recovered.cursors;
        state.unsaved_records = u64::from(!recovered.unsaved.rows.is_empty());
        state.changes = RowChanges::default();
        state.unsaved = recovered.unsaved.rows;
        state.status = Status::ReadOnly;
        state.refused = false;
        recovered.unsaved.users
    }

    /// Remembers commands that were read by the standby, and are in the store already.
    pub(in crate::actors) fn remember(&self, done: Repeats) {
        self.state.borrow_mut().repeats.absorb(done);
    }

    /// The last record that this node knows to be final.
    pub(in crate::actors) fn last(&self) -> Option<Imprint> {
        self.state.borrow().last
    }

    /// The claim stands right behind what was recovered.
    pub(in crate::actors) fn note_claim(&self, claim: Imprint) {
        self.state.borrow_mut().last = Some(claim);
    }

    /// The claim took effect: the partition takes commands.
    pub(in crate::actors) fn claimed(&self, writer: WriterRule) {
        let mut state = self.state.borrow_mut();
        state.writer = writer;
        state.released = false;
        state.status = Status::Serving;
    }

    /// The first offset not known yet, with the epoch and number before it.
    pub(in crate::actors) fn position(&self) -> Place {
        let writer = self.state.borrow().writer;
        Place { next: writer.next_offset(), epoch: writer.epoch(), n: writer.acknowledged() }
    }

    /// The number of the last record sent.
    pub(in crate::actors) fn sent(&self) -> u64 {
        self.state.borrow().writer.sent()
    }

    /// Whether nothing is in flight.
    pub(in crate::actors) fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.in_flight.is_empty() && state.unmarked.is_empty()
    }

    /// Whether the record `n` of this epoch is final.
    pub(in crate::actors) fn is_final(&self, n: u64) -> bool {
        self.state.borrow().writer.acknowledged() >= n
    }

    /// A gap in the journal was read and holds no claim.
    pub(in crate::actors) fn gap_is_rubbish(&self, to: Offset) {
        self.state.borrow_mut().writer.gap_is_rubbish(to);
    }

    /// Whether the partition may answer questions now. Rule: cluster.md 6.
    pub(in crate::actors) fn lease_holds(&self) -> bool {
        if self.context.alone || self.context.seats.lease_holds(self.partition) {
            return true;
        }
        self.context.metrics.lease_refusals.inc();
        false
    }

    /// Who can answer nobody for [`LEASELESS_MAX`] finds out from the journal whether it still is the
    /// owner: while nothing is in flight, nothing else would tell it.
    pub(in crate::actors) fn watch_lease(&self) {
        let serves = self.status() == Status::Serving && !self.context.alone;
        if !serves || self.context.seats.lease_holds(self.partition) {
            self.leaseless.set(None);
            return;
        }
        let now = self.context.seats.now();
        let since = self.leaseless.get().unwrap_or(now);
        if now.saturating_duration_since(since) < LEASELESS_MAX {
            self.leaseless.set(Some(since));
            return;
        }
        self.leaseless.set(None);
        tracing::warn!(
            journal.partition = self.partition.0,
            "the lease ran out: claiming the partition again"
        );
        self.lost.notify_one();
    }

    /// The journal lacks records that it had acknowledged to this node.
    pub(in crate::actors) fn lacks_records(&self) {
        if self.status() == Status::Serving {
            self.lost.notify_one();
        }
    }

    /// The journal's end was asked for: if nobody else has written behind what this owner knows, it
    /// still was the owner when the question was asked.
    pub(in crate::actors) fn confirm(&self, confirmation: Confirmation) {
        let mut state = self.state.borrow_mut();
        if state.status != Status::Serving {
            return;
        }
        state.confirmation = Some(confirmation);
        self.compare(&mut state);
        if state.confirmation.is_some() && state.in_flight.is_empty() {
            state.confirmation = None;
            self.foreign.set(Some(confirmation));
            self.suspicion.notify_one();
        }
    }

    /// Everything before the end that was asked for is known: the lease begins anew.
    pub(super) fn compare(&self, state: &mut State) {
        if let Some(Confirmation { asked, end }) = state.confirmation
            && state.writer.next_offset() >= end
        {
            state.confirmation = None;
            self.begin_lease(state, Some(asked));
        }
    }

    /// This owner still was the owner `since` then: when it asked for an end behind which it knows
    /// everything, or sent a record that has become final. Rule: cluster.md 6.
    pub(super) fn begin_lease(&self, state: &State, since: Option<Instant>) {
        // Who is leaving has given it up.
        if state.status == Status::Serving
            && let (Some(since), Some(lease)) = (since, self.context.journal.lease())
        {
            self.context.seats.extend_lease(self.partition, since, lease);
        }
    }
}
