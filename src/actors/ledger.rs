//! A partition's state on its owner: what is sent, what is final, what is owed, who waits.
//!
//! All actors of a partition live on one thread and share its ledger. A turn of a user actor is
//! *decide, evolve, append*, without a pause in between: its facts take their place in the journal's
//! order at once, and the next command of the same user is judged on them. Whatever leaves the
//! partition waits here until the journal has acknowledged all that it speaks of.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::Notify;
use uuid::Uuid;

use super::recovery::Recovered;
use super::waiting::{Desk, ReplyTo, Slot, Ticket};
use super::{Context, ExecuteError, ItemError};
use crate::domain::{
    EdgeId, Effect, Event, Rejection, Severance, Timestamp, UserId, UserKey, Version,
};
use crate::journal::record::encode;
use crate::journal::{
    Ack, Body, Cause, Commit, Durability, Offset, Origin, Partition, WriterRule, partition_of,
};
use crate::pairing::{Answer, Inbox, Outbox, OwedEffect, owed_by};
use crate::store::rows::{RowChange, RowHash};
use crate::store::{CursorMark, Mark, OutboxMark};

/// Effects in one message to another partition.
const EFFECTS_PER_BATCH: usize = 1000;
/// The shortest time after which unacknowledged effects are sent again; it doubles up to the longest.
const RESEND_MIN: Duration = Duration::from_millis(50);
const RESEND_MAX: Duration = Duration::from_secs(2);
/// Changed rows that may wait for the store before commands are refused.
const CHANGES_MAX: usize = 1_000_000;

/// Whether the partition takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It does.
    Serving,
    /// It answers what it knows; nothing can be recorded at present.
    ReadOnly,
    /// Its state is being read from the journal.
    Recovering,
    /// It is leaving: what is in flight is finished, nothing new is taken.
    Leaving,
}

/// An effect in an outbox, with those who wait for its acknowledgement.
struct Owed {
    effect: Arc<OwedEffect>,
    waiters: SmallVec<[Ticket; 1]>,
}

/// What is done when a record is final, with its offset; without one if its fate is unknown.
pub(super) type After = Box<dyn FnOnce(Option<Offset>)>;

/// A record that is appended and not final.
struct InFlight {
    bytes: usize,
    changes: Vec<RowChange>,
    hash: RowHash,
    seen: SmallVec<[(Partition, u64); 1]>,
    cursor: Option<(String, CursorMark)>,
    release: bool,
    requests: SmallVec<[(u64, bool); 1]>,
    resolved: SmallVec<[(Ticket, Result<(), ItemError>); 1]>,
    after: SmallVec<[After; 1]>,
}

struct State {
    status: Status,
    writer: WriterRule,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    hash: RowHash,
    final_hash: RowHash,
    released: bool,
    inbox: Vec<Inbox>,
    unmarked: BTreeMap<Partition, u64>,
    outbox: Vec<Outbox<Owed>>,
    resend: Vec<(Instant, Duration)>,
    owed: usize,
    cursors: BTreeMap<String, CursorMark>,
    changes: Vec<RowChange>,
    unsaved_records: u64,
    desk: Desk,
}

/// See the module.
pub(super) struct Ledger {
    pub(super) context: Rc<Context>,
    pub(super) partition: Partition,
    state: RefCell<State>,
    scratch: RefCell<Vec<u8>>,
    turn: Cell<bool>,
    era: Cell<u64>,
    /// The state store has an unreadable row: the next recovery starts from zero.
    pub(super) rebuild: Cell<bool>,
    /// Rings when the partition has to find out from the journal what became of it.
    pub(super) lost: Notify,
}

/// What a user's turn came to, to be recorded.
pub(super) struct Draft {
    pub(super) key: UserKey,
    pub(super) version: Version,
    pub(super) at: Timestamp,
    pub(super) by: Arc<Origin>,
    pub(super) cause: Option<Cause>,
    pub(super) events: Vec<Event>,
    pub(super) changes: Vec<RowChange>,
    pub(super) hash: RowHash,
}

/// What one item of a command waits for before it may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Only for the record, or for what it was judged on.
    Done(Result<(), ItemError>),
    /// For the peer's side of a severed friendship.
    Sever(UserId),
    /// For the same, owed since an earlier call.
    OwedSever(UserId),
    /// For the answer to an offer.
    Offer(UserId, EdgeId),
    /// For every partition to have forgotten the account.
    Forgetting,
}

/// Something to send to another partition, on this node or another one.
pub(super) enum Outgoing {
    Effects { to: Partition, prev: u64, effects: Vec<Arc<OwedEffect>> },
    Answer { to: Partition, answer: Answer },
}

/// A checkpoint to be written.
pub(super) struct Checkpoint {
    pub(super) changes: Vec<RowChange>,
    pub(super) mark: Mark,
}

impl Ledger {
    pub(super) fn new(context: Rc<Context>, partition: Partition) -> Rc<Self> {
        let count = usize::from(context.partitions);
        let state = State {
            status: Status::Recovering,
            writer: WriterRule::new(crate::journal::Epoch(0), Offset(0)),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            hash: RowHash::default(),
            final_hash: RowHash::default(),
            released: false,
            inbox: vec![Inbox::default(); count],
            unmarked: BTreeMap::new(),
            outbox: (0..count).map(|_| Outbox::default()).collect(),
            resend: vec![(Instant::now(), RESEND_MIN); count],
            owed: 0,
            cursors: BTreeMap::new(),
            changes: Vec::new(),
            unsaved_records: 0,
            desk: Desk::default(),
        };
        Rc::new(Self {
            context,
            partition,
            state: RefCell::new(state),
            scratch: RefCell::default(),
            turn: Cell::new(false),
            era: Cell::new(0),
            rebuild: Cell::new(false),
            lost: Notify::new(),
        })
    }

    /// Grows with each recovery: an actor of an earlier era may not act any more.
    pub(super) fn era(&self) -> u64 {
        self.era.get()
    }

    pub(super) fn status(&self) -> Status {
        self.state.borrow().status
    }

    /// Takes no new commands; what is in flight goes on.
    pub(super) fn leave(&self) {
        self.state.borrow_mut().status = Status::Leaving;
    }

    /// Forgets everything that is not final and answers all who wait that nothing can be said. The
    /// partition's actors go with it: they may hold what is not recorded.
    pub(super) fn drop_unconfirmed(&self) {
        let in_flight = {
            let mut state = self.state.borrow_mut();
            state.status = Status::Recovering;
            state.in_flight_bytes = 0;
            state.unmarked.clear();
            state.changes = Vec::new();
            state.unsaved_records = 0;
            state.desk.abandon();
            std::mem::take(&mut state.in_flight)
        };
        self.era.set(self.era.get() + 1);
        for record in in_flight {
            record.after.into_iter().for_each(|after| after(None));
        }
    }

    /// Starts from what was recovered, without the right to write yet.
    pub(super) fn restore(&self, recovered: Recovered) {
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
                    outbox.push(0, Owed { effect: effect.clone(), waiters: SmallVec::new() });
                }
                outbox
            })
            .collect();
        state.owed = state.outbox.iter().map(Outbox::len).sum();
        state.cursors = recovered.cursors;
        state.status = Status::ReadOnly;
    }

    /// The claim took effect: the partition takes commands.
    pub(super) fn claimed(&self, writer: WriterRule) {
        let mut state = self.state.borrow_mut();
        state.writer = writer;
        state.released = false;
        state.status = Status::Serving;
    }

    /// The hash of all rows, as of the last record appended.
    pub(super) fn hash(&self) -> RowHash {
        self.state.borrow().hash
    }

    /// Where the follower `subscription` stands, by its last final record.
    pub(super) fn cursor(&self, subscription: &str) -> Option<CursorMark> {
        self.state.borrow().cursors.get(subscription).copied()
    }

    /// The first offset not known yet, with the epoch and number before it.
    pub(super) fn position(&self) -> CursorMark {
        let writer = self.state.borrow().writer;
        CursorMark { next: writer.next_offset(), epoch: writer.epoch(), n: writer.acknowledged() }
    }

    /// Effects that no destination has acknowledged yet.
    pub(super) fn owed(&self) -> usize {
        self.state.borrow().owed
    }

    /// Whether one more command may be recorded now.
    pub(super) fn admit(&self) -> Result<(), ExecuteError> {
        let state = self.state.borrow();
        let limits = &self.context.settings;
        if state.status != Status::Serving {
            return Err(ExecuteError::Unavailable);
        }
        if state.in_flight.len() >= limits.in_flight_max
            || state.in_flight_bytes >= limits.in_flight_bytes_max
            || state.owed >= limits.outbox_max
            || state.changes.len() >= CHANGES_MAX
        {
            return Err(ExecuteError::Overloaded);
        }
        Ok(())
    }

    /// Whether one more record that answers effects may be appended now: also while the outbox is
    /// full, because answering is what empties the outboxes of others.
    pub(super) fn admits_effects(&self) -> bool {
        let state = self.state.borrow();
        let limits = &self.context.settings;
        matches!(state.status, Status::Serving | Status::Leaving)
            && state.in_flight.len() < limits.in_flight_max
            && state.in_flight_bytes < limits.in_flight_bytes_max
    }

    /// The number of the last record sent.
    pub(super) fn sent(&self) -> u64 {
        self.state.borrow().writer.sent()
    }

    /// Whether nothing is in flight.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.in_flight.is_empty() && state.unmarked.is_empty()
    }

    /// Whether the record `n` of this epoch is final.
    pub(super) fn is_final(&self, n: u64) -> bool {
        self.state.borrow().writer.acknowledged() >= n
    }

    /// Appends a record that belongs to no user.
    /// Somebody has to call [`Ledger::schedule_turn`] or flush the journal.
    pub(super) fn append_control(&self, body: &Body, after: Option<After>) {
        let (seen, cursor) = match body {
            Body::Watermark { seen } => (SmallVec::from_slice(seen), None),
            Body::Cursor { subscription, next, epoch, n } => {
                let mark = CursorMark { next: *next, epoch: *epoch, n: *n };
                (SmallVec::new(), Some((subscription.clone(), mark)))
            }
            Body::Commit(_)
            | Body::Claim { .. }
            | Body::Release { .. }
            | Body::Checkpoint { .. } => (SmallVec::new(), None),
        };
        self.append(
            body,
            InFlight {
                bytes: 0,
                changes: Vec::new(),
                hash: self.hash(),
                seen,
                cursor,
                release: matches!(body, Body::Release { .. }),
                requests: SmallVec::new(),
                resolved: SmallVec::new(),
                after: after.into_iter().collect(),
            },
        );
    }

    fn append(&self, body: &Body, mut record: InFlight) -> u64 {
        let (n, appended) = {
            let mut state = self.state.borrow_mut();
            let n = state.writer.send();
            let mut scratch = self.scratch.borrow_mut();
            scratch.clear();
            encode(state.writer.epoch(), n, body, &mut scratch);
            record.bytes = scratch.len();
            state.in_flight_bytes += record.bytes;
            state.in_flight.push_back(record);
            (n, self.context.journal.append(self.partition, &scratch))
        };
        if let Err(error) = appended {
            // The state has moved on and the journal has not: as bad as an append that was lost.
            tracing::warn!(%error, journal.partition = %self.partition, "append refused");
            self.lost.notify_one();
        }
        n
    }

    /// Records a user's turn; answers its number inside the epoch. The reply goes out once all that
    /// it speaks of is durable, on both sides.
    pub(super) fn commit(
        self: &Rc<Self>,
        draft: Draft,
        reply: Option<(ReplyTo, Vec<Plan>)>,
    ) -> u64 {
        let resolved = self.resolve_offers(draft.key, &draft.events);
        let awaited = reply.as_ref().map(|(_, plans)| Awaited::of(plans)).unwrap_or_default();
        let request = reply.map(|(reply, plans)| self.wait(draft.key, reply, &plans));
        let seen = draft.cause.iter().map(|cause| (cause.partition, cause.seq)).collect();
        let commit = Commit {
            id: Uuid::now_v7(),
            key: draft.key,
            version: draft.version,
            at: draft.at,
            by: draft.by,
            cause: draft.cause,
            events: draft.events,
        };
        let body = Body::Commit(commit);
        {
            let mut state = self.state.borrow_mut();
            state.hash = draft.hash;
            if let Some(cause) = draft.cause {
                // The record says it of itself and of what came before it in the channel.
                state.unmarked.remove(&cause.partition);
            }
        }
        let n = self.append(
            &body,
            InFlight {
                bytes: 0,
                changes: draft.changes,
                hash: draft.hash,
                seen,
                cursor: None,
                release: false,
                requests: request.map(|request| (request, true)).into_iter().collect(),
                resolved,
                after: SmallVec::new(),
            },
        );
        if let Body::Commit(commit) = &body {
            self.owe(n, commit, request, &awaited);
        }
        self.schedule_turn();
        n
    }

    /// Puts the record's effects into the outboxes, with the request that waits for them. The
    /// request's items and the effects stand in the same order.
    fn owe(&self, n: u64, commit: &Commit, request: Option<u64>, awaited: &Awaited) {
        let mut severing = awaited.severing.iter().peekable();
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
                    Effect::Forget => {
                        waiters.extend(awaited.forgetting.map(|slot| Ticket { request, slot }))
                    }
                    _ => {}
                }
            }
            state.outbox[usize::from(to.0)].push(n, Owed { effect: Arc::new(effect), waiters });
            state.owed += 1;
        });
    }

    /// Answers once everything up to record `n` is final: for turns that record nothing.
    pub(super) fn answer_after(&self, n: u64, key: UserKey, reply: ReplyTo, plans: &[Plan]) {
        let request = self.wait(key, reply, plans);
        let mut state = self.state.borrow_mut();
        match state.in_flight_at(n) {
            Some(record) => record.requests.push((request, false)),
            None => state.desk.recorded(request, None, self.partition),
        }
    }

    /// Calls `after` once everything up to record `n` is final.
    pub(super) fn when_final(&self, n: u64, after: After) {
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

    /// Whether an earlier block of `peer` by `key` still waits for the peer's side.
    pub(super) fn owes_sever(&self, key: UserKey, peer: UserId) -> bool {
        let destination = self.destination(key, peer);
        let mut state = self.state.borrow_mut();
        state.outbox[destination].iter_mut().any(|owed| severs(&owed.effect, &key, &peer))
    }

    /// Whether a deletion of the account `key` has not reached every partition: it may not be
    /// imported again before, or the new account would be forgotten with the old one.
    pub(super) fn owes_forget(&self, key: UserKey) -> bool {
        let mut state = self.state.borrow_mut();
        state.owed > 0
            && state.outbox.iter_mut().any(|outbox| {
                outbox.iter_mut().any(|owed| {
                    matches!(owed.effect.effect, Effect::Forget)
                        && owed.effect.from == key.user
                        && owed.effect.app == key.app
                })
            })
    }

    fn destination(&self, key: UserKey, peer: UserId) -> usize {
        let receiver = UserKey { app: key.app, user: peer };
        usize::from(partition_of(&receiver, self.context.partitions).0)
    }

    fn wait(&self, key: UserKey, reply: ReplyTo, plans: &[Plan]) -> u64 {
        let slots = plans.iter().map(|plan| match plan {
            Plan::Done(result) => Slot::Done(*result),
            Plan::Sever(_) | Plan::OwedSever(_) | Plan::Offer(..) => Slot::Open(1),
            Plan::Forgetting => Slot::Open(u32::from(self.context.partitions)),
        });
        let deadline = Instant::now() + self.context.settings.time_limit;
        let mut state = self.state.borrow_mut();
        let request = state.desk.open(reply, slots.collect(), deadline);
        for (slot, plan) in plans.iter().enumerate() {
            let ticket = Ticket { request, slot: slot as u32 };
            match plan {
                Plan::Done(_) | Plan::Sever(_) | Plan::Forgetting => {}
                Plan::Offer(peer, edge) => {
                    state.desk.await_offer((key, *peer, edge.version), ticket);
                }
                Plan::OwedSever(peer) => {
                    let destination = self.destination(key, *peer);
                    let owed = state.outbox[destination]
                        .iter_mut()
                        .rev()
                        .find(|owed| severs(&owed.effect, &key, peer));
                    match owed {
                        Some(owed) => owed.waiters.push(ticket),
                        None => state.desk.fill(ticket, Ok(()), self.partition),
                    }
                }
            }
        }
        request
    }

    /// Who waits for offers that these events answer, and what they are told once that is final.
    fn resolve_offers(
        &self,
        key: UserKey,
        events: &[Event],
    ) -> SmallVec<[(Ticket, Result<(), ItemError>); 1]> {
        let mut state = self.state.borrow_mut();
        let mut resolved = SmallVec::new();
        for event in events {
            let (peer, edge, result) = match event {
                Event::OfferConfirmed { peer, edge, .. } => (peer, edge, Ok(())),
                Event::OfferEnded { peer, edge, why } => (peer, edge, Err(*why)),
                Event::OfferPending { peer, edge } => {
                    (peer, edge, Err(Rejection::ConfirmationNeeded))
                }
                Event::OfferWithdrawn { peer, edge } => {
                    (peer, edge, Err(Rejection::AccountUnknown))
                }
                _ => continue,
            };
            let result = result.map_err(ItemError::Rejected);
            let tickets = state.desk.offer_answered(&(key, *peer, edge.version));
            resolved.extend(tickets.into_iter().map(|ticket| (ticket, result)));
        }
        resolved
    }

    /// The journal says that the next `count` records stand at `first` and behind it.
    pub(super) fn acknowledged(&self, first: Offset, count: u64) -> (Ack, Vec<Outgoing>) {
        let mut afters: SmallVec<[(After, Offset); 4]> = SmallVec::new();
        let mut answers: BTreeMap<Partition, Answer> = BTreeMap::new();
        let ack = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let ack = state.writer.acknowledge(first, count);
            let Ack::Final { .. } = ack else { return (ack, Vec::new()) };
            for index in 0..count {
                let Some(record) = state.in_flight.pop_front() else { break };
                let offset = Offset(first.0 + index);
                state.in_flight_bytes -= record.bytes;
                state.final_hash = record.hash;
                state.unsaved_records += 1;
                state.released = record.release;
                state.changes.extend(record.changes);
                for (source, seq) in record.seen {
                    let answer = state.inbox[usize::from(source.0)].note_durable(seq);
                    answers.insert(source, answer);
                }
                if let Some((subscription, mark)) = record.cursor {
                    state.cursors.insert(subscription, mark);
                }
                for (request, own) in record.requests {
                    state.desk.recorded(request, own.then_some(offset), self.partition);
                }
                for (ticket, result) in record.resolved {
                    state.desk.fill(ticket, result, self.partition);
                }
                afters.extend(record.after.into_iter().map(|after| (after, offset)));
            }
            ack
        };
        for (after, offset) in afters {
            after(Some(offset));
        }
        let answers = answers.into_iter();
        (ack, answers.map(|(to, answer)| Outgoing::Answer { to, answer }).collect())
    }

    /// A gap in the journal was read and holds no claim.
    pub(super) fn gap_is_rubbish(&self, to: Offset) {
        self.state.borrow_mut().writer.gap_is_rubbish(to);
    }

    pub(super) fn epoch(&self) -> crate::journal::Epoch {
        self.state.borrow().writer.epoch()
    }

    /// Effects have come in from `source`. Errors: the answer to send instead of taking them.
    pub(super) fn take_effects(
        &self,
        source: Partition,
        prev: u64,
        count: usize,
    ) -> Result<(), Answer> {
        self.state.borrow_mut().inbox[usize::from(source.0)].take(prev, count)
    }

    /// Effects of `source` up to `seq` changed nothing here: a watermark record will say so.
    pub(super) fn mark_seen(self: &Rc<Self>, source: Partition, seq: u64) {
        self.state.borrow_mut().unmarked.insert(source, seq);
        self.schedule_turn();
    }

    /// An answer has come in from `destination`.
    pub(super) fn take_answer(self: &Rc<Self>, destination: Partition, answer: Answer) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let index = usize::from(destination.0);
        let outbox = &mut state.outbox[index];
        let before = outbox.len();
        match outbox.take_answer(answer) {
            Ok(released) => {
                for owed in released {
                    for ticket in owed.waiters {
                        state.desk.fill(ticket, Ok(()), self.partition);
                    }
                }
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    journal.partition = %self.partition,
                    destination.partition = %destination,
                    "claiming again to find out what became of this partition"
                );
                self.lost.notify_one();
                return;
            }
        }
        let released = before - state.outbox[index].len();
        state.owed -= released;
        if released > 0 {
            // The channel moves: what is behind has its time from now on.
            state.resend[index] = (Instant::now() + RESEND_MIN, RESEND_MIN);
        }
        if answer.refused.is_some() {
            self.schedule_turn();
        }
    }

    /// What is to be sent to other partitions now.
    pub(super) fn outgoing(&self) -> Vec<Outgoing> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let ready = match self.context.journal.durability() {
            Durability::Prefix => u64::MAX,
            Durability::PerPartition => state.writer.acknowledged(),
        };
        let mut outgoing = Vec::new();
        for (index, outbox) in state.outbox.iter_mut().enumerate() {
            if outbox.len() == outbox.in_flight() {
                continue;
            }
            let idle = outbox.in_flight() == 0;
            while let Some(batch) = outbox.batch(ready, EFFECTS_PER_BATCH) {
                let effects = batch.entries.iter().map(|owed| owed.effect.clone()).collect();
                let to = Partition(index as u16);
                outgoing.push(Outgoing::Effects { to, prev: batch.prev, effects });
            }
            if idle {
                let (due, wait) = &mut state.resend[index];
                *due = Instant::now() + *wait;
            }
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

    /// Sends again what was not acknowledged in time, and answers those whose time is up.
    pub(super) fn tick(self: &Rc<Self>, now: Instant) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.desk.expire(now, self.partition);
        let mut again = false;
        for (outbox, (due, wait)) in state.outbox.iter_mut().zip(&mut state.resend) {
            if outbox.is_empty() {
                continue;
            }
            if outbox.in_flight() > 0 && *due <= now {
                outbox.rewind();
                *wait = (*wait * 2).min(RESEND_MAX);
                *due = now + *wait;
            }
            again = true;
        }
        if again {
            self.schedule_turn();
        }
    }

    /// Lets the actors that are ready have their turns, then sends what they owe to other partitions,
    /// then, when those have reacted too, lets the batch go to the journal: what belongs together is
    /// made durable together, and an idle node waits for nothing.
    pub(super) fn schedule_turn(self: &Rc<Self>) {
        if self.turn.replace(true) {
            return;
        }
        let ledger = self.clone();
        actix::spawn(async move {
            tokio::task::yield_now().await;
            // What is appended from here on gets a turn of its own.
            ledger.turn.set(false);
            ledger.context.send_all(ledger.partition, ledger.outgoing());
            for _ in 0..SETTLE_ROUNDS {
                tokio::task::yield_now().await;
            }
            ledger.append_watermarks();
            ledger.context.journal.flush();
        });
    }

    /// Takes what a checkpoint holds, if there is enough to write one.
    pub(super) fn checkpoint(&self, records_min: u64) -> Option<Checkpoint> {
        let mut state = self.state.borrow_mut();
        if state.unsaved_records < records_min.max(1) {
            return None;
        }
        state.unsaved_records = 0;
        let n = state.writer.acknowledged();
        let outbox = state.outbox.iter().map(|outbox| OutboxMark {
            acked: outbox.acked(),
            owed: outbox.owed(n).map(|owed| owed.effect.clone()).collect(),
        });
        let mark = Mark {
            next: state.writer.next_offset(),
            epoch: state.writer.epoch(),
            n,
            hash: state.final_hash.0,
            released: state.released,
            inbox: state.inbox.iter().map(Inbox::durable).collect(),
            outbox: outbox.collect(),
            cursors: state.cursors.clone().into_iter().collect(),
        };
        Some(Checkpoint { changes: std::mem::take(&mut state.changes), mark })
    }

    /// A checkpoint could not be written: its rows go with the next one.
    pub(super) fn keep_changes(&self, mut changes: Vec<RowChange>) {
        let mut state = self.state.borrow_mut();
        changes.append(&mut state.changes);
        state.changes = changes;
        state.unsaved_records += 1;
    }
}

/// Rounds of the arbiter's queue between sending effects and closing the batch: the receiving
/// partition, its user actor, and one to spare.
const SETTLE_ROUNDS: usize = 4;

impl State {
    /// The record `n` of this epoch, while it is in flight.
    fn in_flight_at(&mut self, n: u64) -> Option<&mut InFlight> {
        let index = n.checked_sub(self.writer.acknowledged() + 1)?;
        self.in_flight.get_mut(usize::try_from(index).ok()?)
    }
}

/// The items that wait for acknowledgements of effects.
#[derive(Default)]
struct Awaited {
    /// Those that wait for a peer's side, in order.
    severing: Vec<(UserId, u32)>,
    /// The one that waits for every partition.
    forgetting: Option<u32>,
}

impl Awaited {
    fn of(plans: &[Plan]) -> Self {
        let mut awaited = Self::default();
        for (slot, plan) in (0..).zip(plans) {
            match plan {
                Plan::Sever(peer) => awaited.severing.push((*peer, slot)),
                Plan::Forgetting => awaited.forgetting = Some(slot),
                Plan::Done(_) | Plan::OwedSever(_) | Plan::Offer(..) => {}
            }
        }
        awaited
    }
}

/// Whether `owed` is the removal that a block of `peer` by `key` owes.
fn severs(owed: &OwedEffect, key: &UserKey, peer: &UserId) -> bool {
    owed.to == *peer
        && owed.from == key.user
        && owed.app == key.app
        && matches!(owed.effect, Effect::Sever { why: Severance::Blocked, .. })
}
