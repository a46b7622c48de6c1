//! One subscription in one partition: what is owed to whom, and the low-water mark; no IO.
//!
//! Each user has a queue of calls in journal order, of which the first one alone may be in flight.
//! A record is done with when all its calls are; the low-water mark is the first record that is
//! not. Nothing but that mark survives a restart, so everything behind it is repeated.

use std::collections::btree_map::BTreeMap;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::attempt::Call;
use super::command::Switches;
use super::cursor::Position;
use super::payload::deliveries;
use crate::domain::{AppId, UserId};
use crate::journal::{Admitted, Body, Entry, Offset, Partition, ReaderRule, RecordError, record};

/// Records of one partition with calls that are not done, at most, per subscription.
pub const WINDOW_RECORDS_MAX: usize = 512;

/// Bytes of their bodies; a single larger body still goes out.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records between the low-water mark and the reading position: what a restart repeats at most.
pub const REPEATED_RECORDS_MAX: u64 = 65_536;

/// Records without a call for this subscription, after which the cursor is worth saving.
pub const SILENT_RECORDS_MAX: u64 = 10_000;

/// A partition as one subscription sees it.
pub(super) struct Lane {
    partition: Partition,
    /// The reading position.
    read: Position,
    owed: BTreeMap<Offset, Owed>,
    owed_bytes: usize,
    users: HashMap<UserId, Queue>,
    in_flight: usize,
    saved: Offset,
    /// Records with calls that were done with since the cursor was saved.
    done_since_save: u64,
    /// Commits that were read since then.
    read_since_save: u64,
    /// The low-water mark, for the lag that others look at.
    mark: Arc<AtomicU64>,
}

/// A record with calls that are not done.
struct Owed {
    /// What the reader rule knew in front of the record.
    rule: ReaderRule,
    calls: usize,
}

struct Queue {
    calls: VecDeque<(Offset, Arc<Call>)>,
    /// Attempts at the first call so far.
    attempts: u32,
    state: QueueState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// The first call may go out.
    Ready,
    /// The first call is out.
    InFlight,
    /// The first call waits for its next attempt.
    Parked,
}

impl Lane {
    pub(super) fn new(partition: Partition, from: Position) -> Self {
        Self {
            partition,
            read: from,
            owed: BTreeMap::new(),
            owed_bytes: 0,
            users: HashMap::new(),
            in_flight: 0,
            saved: from.next,
            done_since_save: 0,
            read_since_save: 0,
            mark: Arc::new(AtomicU64::new(from.next.0)),
        }
    }

    /// The first offset to be read.
    pub(super) fn next_offset(&self) -> Offset {
        self.read.next
    }

    /// The first offset that is not done with, for whoever watches the lag.
    pub(super) fn mark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.mark)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing more may be read for the time being.
    pub(super) fn is_full(&self) -> bool {
        self.exceeds(1)
    }

    /// Whether so much is done with that reading is worth while again: less than half of every
    /// limit, so that a full lane does not ask for a new reader with each call.
    pub(super) fn has_room(&self) -> bool {
        !self.exceeds(2)
    }

    fn exceeds(&self, divisor: usize) -> bool {
        let repeated = self.read.next.0 - self.low_water().next.0;
        self.owed.len() >= WINDOW_RECORDS_MAX / divisor
            || self.owed_bytes >= WINDOW_BYTES_MAX / divisor
            || repeated >= REPEATED_RECORDS_MAX / divisor as u64
    }

    /// Where a restart would begin: the first record that is not done with.
    pub(super) fn low_water(&self) -> Position {
        match self.owed.first_key_value() {
            Some((offset, owed)) => Position { next: *offset, rule: owed.rule },
            None => self.read,
        }
    }

    /// Takes the next entry of the partition and queues the calls that it causes. Answers the
    /// record's user if their queue was empty and has a call now.
    ///
    /// Errors: bytes that are no record. Nothing has been taken then, and nothing behind them
    /// must be: to skip a record is to lose what it says.
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        app: AppId,
        switches: Switches,
    ) -> Result<Option<UserId>, RecordError> {
        if entry.offset < self.read.next {
            return Ok(None);
        }
        let record = record::decode(&entry.bytes)?;
        let rule_before = self.read.rule;
        let admitted = self.read.rule.admit(&record);
        self.read.next = Offset(entry.offset.0 + 1);
        let ready = match (admitted, record.body) {
            (Admitted::Valid, Body::Commit(commit)) => {
                self.read_since_save += 1;
                if commit.key.app == app {
                    self.queue(entry.offset, rule_before, &commit, switches)
                } else {
                    None
                }
            }
            // Records that speak of the journal itself, a cursor among them, only move the mark:
            // a cursor saved because of a cursor would have no end.
            (Admitted::Valid | Admitted::Claimed | Admitted::Void, _) => None,
        };
        self.note_mark();
        Ok(ready)
    }

    fn queue(
        &mut self,
        offset: Offset,
        rule: ReaderRule,
        commit: &crate::journal::Commit,
        switches: Switches,
    ) -> Option<UserId> {
        let deliveries = deliveries(commit, switches);
        if deliveries.is_empty() {
            return None;
        }
        let user = commit.key.user;
        let ip: Arc<str> = (&*commit.by.ip).into();
        let platform: Arc<str> = (&*commit.by.platform).into();
        self.owed.insert(offset, Owed { rule, calls: deliveries.len() });
        let was_idle = !self.users.contains_key(&user);
        let queue = self.users.entry(user).or_insert_with(|| Queue {
            calls: VecDeque::new(),
            attempts: 0,
            state: QueueState::Ready,
        });
        for delivery in deliveries {
            self.owed_bytes += delivery.body.len();
            let call = Call {
                id: format!("{}@{offset}.{}", self.partition, delivery.command),
                command: delivery.command,
                body: delivery.body,
                ip: Arc::clone(&ip),
                platform: Arc::clone(&platform),
            };
            queue.calls.push_back((offset, Arc::new(call)));
        }
        was_idle.then_some(user)
    }

    /// Sends off the first call of a user who is ready: the call, its offset, and the index of
    /// the attempt.
    pub(super) fn start(&mut self, user: &UserId) -> Option<(Offset, Arc<Call>, u32)> {
        let queue = self.users.get_mut(user).filter(|queue| queue.state == QueueState::Ready)?;
        let (offset, call) = queue.calls.front()?;
        queue.state = QueueState::InFlight;
        self.in_flight += 1;
        Some((*offset, Arc::clone(call), queue.attempts))
    }

    /// The user's call in flight is done with. Answers whether the user has another one.
    pub(super) fn advance(&mut self, user: &UserId) -> bool {
        let Some(queue) = self.users.get_mut(user) else { return false };
        let Some((offset, call)) = queue.calls.pop_front() else { return false };
        queue.state = QueueState::Ready;
        queue.attempts = 0;
        let has_more = !queue.calls.is_empty();
        if !has_more {
            self.users.remove(user);
        }
        self.in_flight -= 1;
        self.owed_bytes -= call.body.len();
        if let Some(owed) = self.owed.get_mut(&offset) {
            owed.calls -= 1;
            if owed.calls == 0 {
                self.owed.remove(&offset);
                self.done_since_save += 1;
            }
        }
        self.note_mark();
        has_more
    }

    /// The user's call in flight failed and waits.
    pub(super) fn park(&mut self, user: &UserId) {
        let Some(queue) = self.users.get_mut(user) else { return };
        queue.state = QueueState::Parked;
        queue.attempts = queue.attempts.saturating_add(1);
        self.in_flight -= 1;
    }

    /// The wait is over. Answers whether the user had been waiting.
    pub(super) fn unpark(&mut self, user: &UserId) -> bool {
        match self.users.get_mut(user) {
            Some(queue) if queue.state == QueueState::Parked => {
                queue.state = QueueState::Ready;
                true
            }
            Some(_) | None => false,
        }
    }

    fn note_mark(&self) {
        self.mark.store(self.low_water().next.0, Ordering::Relaxed);
    }

    /// The cursor to save, if it moved by something that is worth a record of its own.
    pub(super) fn cursor_worth_saving(&self) -> Option<Position> {
        let worth = self.done_since_save > 0 || self.read_since_save >= SILENT_RECORDS_MAX;
        self.moved_cursor().filter(|_| worth)
    }

    /// The cursor to save before the lane is left.
    pub(super) fn cursor_at_the_end(&self) -> Option<Position> {
        let worth = self.done_since_save > 0 || self.read_since_save > 0;
        self.moved_cursor().filter(|_| worth)
    }

    fn moved_cursor(&self) -> Option<Position> {
        let low_water = self.low_water();
        (low_water.next > self.saved).then_some(low_water)
    }

    /// Notes that a save of `position` is under way.
    pub(super) fn begin_save(&mut self, position: Position) -> SaveMark {
        SaveMark {
            done: std::mem::take(&mut self.done_since_save),
            read: std::mem::take(&mut self.read_since_save),
            next: position.next,
        }
    }

    /// The save is durable.
    pub(super) fn saved(&mut self, mark: &SaveMark) {
        self.saved = mark.next;
    }

    /// The save failed: what it would have covered is still to be saved.
    pub(super) fn save_failed(&mut self, mark: &SaveMark) {
        self.done_since_save += mark.done;
        self.read_since_save += mark.read;
    }
}

/// What one save of a cursor covers.
pub(super) struct SaveMark {
    done: u64,
    read: u64,
    next: Offset,
}
