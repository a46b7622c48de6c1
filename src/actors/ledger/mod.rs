//! A partition's state on its owner: what is sent, what is final, what is owed, who waits.
//!
//! All actors of a partition live on one thread and share its ledger. A turn of a user actor is
//! *decide, evolve, append*, without a pause in between: its facts take their place in the journal's
//! order at once, and the next command of the same user is judged on them. Whatever leaves the
//! partition waits here until the journal has acknowledged all that it speaks of.

mod answers;
mod channels;
mod cursors;
mod saving;
mod state;
mod term;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tracing::field::display;
use uuid::Uuid;

use answers::Awaited;
pub(in crate::actors) use channels::Owing;
use state::{InFlight, Owed, State};
pub(in crate::actors) use term::Confirmation;
use term::Written;

use crate::actors::repeat::{Done, DoneBefore};
use crate::actors::waiting::ReplyBy;
use crate::actors::{Context, ExecuteError, ItemError};
use crate::domain::{EdgeId, Event, Message, Timestamp, UserId, UserKey, Verdict, Version};
use crate::journal::record::encode;
use crate::journal::{Ack, Body, Cause, Commit, Imprint, Offset, Origin, Partition};
use crate::pairing::{Answer, OwedEffect};
use crate::store::rows::RowHash;

/// Changed rows that may wait for the store before commands are refused, or a recovery ends.
pub(in crate::actors) const CHANGES_MAX: usize = 1_000_000;

/// Whether the partition takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Status {
    /// It does.
    Serving,
    /// It answers what it knows; nothing can be recorded at present.
    ReadOnly,
    /// Its state is being read from the journal.
    Recovering,
    /// It is leaving: what is in flight is finished, nothing new is taken.
    Leaving,
    /// Its release is appended: nothing may stand behind it.
    Released,
}

/// What is done when a record is final, with its offset; without one if its fate is unknown.
pub(in crate::actors) type After = Box<dyn FnOnce(Option<Offset>)>;

/// See the module.
pub(in crate::actors) struct Ledger {
    pub(in crate::actors) context: Rc<Context>,
    pub(in crate::actors) partition: Partition,
    state: RefCell<State>,
    /// Memory for records and rows to be encoded in.
    scratch: RefCell<Vec<u8>>,
    /// It waits for a turn in [`crate::actors::turns`].
    pub(in crate::actors) turn: Cell<bool>,
    /// How often what was in flight was dropped, for a recovery. Counted in memory and for this node alone,
    /// unlike an epoch, which the journal knows. What began in an earlier era and goes on (an actor, effects
    /// that were taken, a checkpoint, a leave) may record nothing any more.
    era: Cell<u64>,
    /// How often the journal had lost what all its writers had in flight, when this partition began to
    /// write it. Partitions hear effects only of those that know of as many: what came before a loss may
    /// follow from a record that is lost.
    losses: Cell<u64>,
    /// Since when it serves without a lease.
    leaseless: Cell<Option<Instant>>,
    /// Reading the partition's rows has failed: the next recovery makes them anew.
    pub(in crate::actors) rebuild: Cell<bool>,
    /// Rings when the partition has to find out from the journal what became of it.
    pub(in crate::actors) lost: Arc<Notify>,
    /// Whether this node shall own the partition.
    pub(in crate::actors) wanted: Cell<bool>,
    /// Rings when that changes.
    pub(in crate::actors) ordered: Notify,
    /// Rings when the partition has been released.
    pub(in crate::actors) left: Notify,
    /// The journal's end lies behind all known records: somebody else has written there. To be read.
    pub(in crate::actors) foreign: Cell<Option<Confirmation>>,
    /// Rings when that is so.
    pub(in crate::actors) suspicion: Notify,
    /// The part of this partition in the count of what is owed.
    counted: Cell<usize>,
}

/// What a user's turn came to, to be recorded.
pub(in crate::actors) struct Draft {
    pub(in crate::actors) key: UserKey,
    pub(in crate::actors) version: Version,
    pub(in crate::actors) at: Timestamp,
    pub(in crate::actors) by: Arc<Origin>,
    pub(in crate::actors) cause: Option<Cause>,
    pub(in crate::actors) events: Vec<Event>,
    pub(in crate::actors) rows: usize,
    pub(in crate::actors) hash: RowHash,
}

/// What one item of a command waits for before it may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Plan {
    /// Only for the record, or for what it was judged on.
    Done(Result<(), ItemError>),
    /// For the peer's side of a severed friendship.
    Sever(UserId),
    /// For the peer to have heard an answer.
    Answer(UserId),
    /// For the peer to have let go of an offer.
    Withdraw(UserId),
    /// For what is owed to the peer since an earlier call. If nothing is, this is the answer.
    Owed(Owing, UserId, Result<(), ItemError>),
    /// For the answer to an offer.
    Offer(UserId, EdgeId),
    /// For every partition to have forgotten the account.
    Forgetting,
    /// For the same, owed since an earlier call.
    OwedForgetting,
    /// For every peer to have heard of the removals that earlier calls owe.
    OwedRemovals,
}

/// Something to send to another partition, on this node or another one.
pub(in crate::actors) enum Outgoing {
    Effects { to: Partition, prev: u64, effects: Vec<Arc<OwedEffect>>, losses: u64 },
    Answer { to: Partition, answer: Answer },
}

impl Ledger {
    pub(in crate::actors) fn new(context: Rc<Context>, partition: Partition) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State::new(usize::from(context.partitions))),
            context,
            partition,
            scratch: RefCell::default(),
            turn: Cell::new(false),
            era: Cell::new(0),
            losses: Cell::new(0),
            leaseless: Cell::new(None),
            rebuild: Cell::new(false),
            lost: Arc::default(),
            wanted: Cell::new(false),
            ordered: Notify::new(),
            left: Notify::new(),
            foreign: Cell::new(None),
            suspicion: Notify::new(),
            counted: Cell::new(0),
        })
    }

    /// Effects that no destination has acknowledged yet.
    pub(in crate::actors) fn owed(&self) -> usize {
        self.state.borrow().owed
    }

    /// Brings the count of what is owed up to date.
    pub(in crate::actors) fn count_owed(&self) {
        let owed = if self.status() == Status::Recovering { 0 } else { self.owed() };
        let before = self.counted.replace(owed);
        self.context.metrics.owed.inc_by(owed as i64 - before as i64);
    }

    /// Whether one more command may be recorded now.
    pub(in crate::actors) fn admit(&self) -> Result<(), ExecuteError> {
        let state = self.state.borrow();
        let limits = &self.context.settings;
        if state.status != Status::Serving || state.refused || !self.lease_holds() {
            return Err(self.context.not_here());
        }
        if state.in_flight.len() >= limits.in_flight_max
            || state.in_flight_bytes >= limits.in_flight_bytes_max
            || state.owed >= limits.outbox_max
            || state.changes.len() + state.unsaved.len() >= CHANGES_MAX
        {
            return Err(ExecuteError::Overloaded);
        }
        Ok(())
    }

    /// Appends a record of no user. Somebody has to call [`Ledger::schedule_turn`] or flush the journal.
    pub(in crate::actors) fn append_control(&self, body: &Body, after: Option<After>) {
        let (seen, cursor) = match body {
            Body::Watermark { seen } => (SmallVec::from_slice(seen), None),
            Body::Cursor { subscription, cursor } => {
                (SmallVec::new(), Some((subscription.clone(), cursor.clone())))
            }
            Body::Commit(_)
            | Body::Claim { .. }
            | Body::Acknowledged { .. }
            | Body::Release { .. }
            | Body::Checkpoint { .. } => (SmallVec::new(), None),
        };
        self.append(
            body,
            InFlight {
                written: Written::default(),
                rows: 0,
                hash: self.hash(),
                seen,
                cursor,
                release: matches!(body, Body::Release { .. }),
                done: None,
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
            // Whoever is alone needs no lease.
            let sent = (!self.context.alone).then(|| self.context.seats.now());
            record.written = Written::of(&scratch, sent);
            state.in_flight_bytes += record.written.bytes;
            state.in_flight.push_back(record);
            // Behind a record that is missing none counts.
            let appended = if state.refused {
                Ok(())
            } else {
                self.context.journal.append(self.partition, &scratch)
            };
            state.refused |= appended.is_err();
            (n, appended)
        };
        if let Err(error) = appended {
            // The state has moved on and the journal has not: as bad as an append that was lost.
            let request = match body {
                Body::Commit(commit) => Some(display(commit.by.request)),
                _ => None,
            };
            tracing::warn!(
                %error,
                request.id = request,
                journal.partition = self.partition.0,
                "the journal refused a record: the partition is claimed and read anew"
            );
            self.lost.notify_one();
        }
        n
    }

    /// Records a user's turn; answers its number inside the epoch. The reply goes out once all that
    /// it speaks of is durable, on both sides.
    pub(in crate::actors) fn commit(
        self: &Rc<Self>,
        draft: Draft,
        reply: Option<(ReplyBy, Vec<Plan>)>,
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
        // Where nobody else can own the partition, nobody asks again.
        let done = if self.context.alone { Done::of_message(&commit) } else { Done::of(&commit) };
        let body = Body::Commit(commit);
        {
            let mut state = self.state.borrow_mut();
            state.hash = draft.hash;
            if let Some(done) = &done {
                if done.is_message() {
                    state.lately.note_message();
                }
                state.repeats.note(done.clone());
            }
            if let Some(cause) = draft.cause {
                // The record says it of itself and of what came before it in the channel.
                state.unmarked.remove(&cause.partition);
            }
        }
        let n = self.append(
            &body,
            InFlight {
                written: Written::default(),
                rows: draft.rows,
                hash: draft.hash,
                seen,
                cursor: None,
                release: false,
                done,
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

    /// The journal says that the next `count` records stand at `first` and behind it.
    pub(in crate::actors) fn acknowledged(
        &self,
        first: Offset,
        count: u64,
    ) -> (Ack, Vec<Outgoing>) {
        let mut afters: SmallVec<[(After, Offset); 4]> = SmallVec::new();
        let mut answers: SmallVec<[(Partition, Answer); 1]> = SmallVec::new();
        let ack = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if state.refused {
                return (Ack::Doubt, Vec::new());
            }
            let ack = state.writer.acknowledge(first, count);
            let Ack::Final { .. } = ack else { return (ack, Vec::new()) };
            let (mut rows, mut sent) = (0, None);
            for index in 0..count {
                let Some(record) = state.in_flight.pop_front() else { break };
                let offset = Offset(first.0 + index);
                state.in_flight_bytes -= record.written.bytes;
                state.final_hash = record.hash;
                state.unsaved_records += 1;
                state.last = Some(Imprint { offset, check: record.written.check });
                state.released = record.release;
                rows += record.rows;
                sent = record.written.sent;
                for (source, seq) in record.seen {
                    let answer = state.inbox[usize::from(source.0)].note_durable(seq);
                    match answers.iter_mut().find(|known| known.0 == source) {
                        Some(known) => known.1 = answer,
                        None => answers.push((source, answer)),
                    }
                }
                match record.cursor {
                    Some((subscription, cursor)) if cursor.ended => {
                        state.cursors.remove(&subscription);
                    }
                    Some((subscription, cursor)) => {
                        state.cursors.insert(subscription, *cursor);
                    }
                    None => {}
                }
                for (request, own) in record.requests {
                    state.desk.recorded(request, own.then_some(offset), self.partition);
                }
                for (ticket, result) in record.resolved {
                    state.desk.fill(ticket, result, self.partition);
                }
                afters.extend(record.after.into_iter().map(|after| (after, offset)));
            }
            state.changes.move_first(rows, &mut state.unsaved);
            self.compare(state);
            self.begin_lease(state, sent);
            ack
        };
        for (after, offset) in afters {
            after(Some(offset));
        }
        let answers = answers.into_iter();
        (ack, answers.map(|(to, answer)| Outgoing::Answer { to, answer }).collect())
    }

    /// What `request` has done to the user `key` already, if it was heard before.
    pub(in crate::actors) fn done_before(&self, request: Uuid, key: UserKey) -> Option<DoneBefore> {
        if self.context.alone {
            return None;
        }
        self.state.borrow().repeats.find(request, key)
    }

    /// When the sender `key` sent an equal message shortly before `now`: its `MsgTime`.
    pub(in crate::actors) fn sent_before(
        &self,
        key: UserKey,
        message: &Message,
        verdict: Option<&Verdict>,
        now: Timestamp,
    ) -> Option<u32> {
        self.state.borrow().repeats.sent_before(key, message, verdict, now)
    }
}
