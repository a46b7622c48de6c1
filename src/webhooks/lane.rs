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
use super::cursor::{Bookmark, Position};
use super::payload::deliveries;
use crate::domain::{AppId, UserId};
use crate::journal::{Admitted, Body, Entry, Offset, Partition, ReaderRule, RecordError, record};

/// Records of one partition with calls that are not done, at most, per subscription.
pub const WINDOW_RECORDS_MAX: usize = 512;

/// Bytes of their bodies; a single larger body still goes out.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records between the low-water mark and the reading position: what a restart repeats at most.
pub const REPEATED_RECORDS_MAX: u64 = 65_536;

/// A partition as one subscription sees it.
pub(super) struct Lane {
    partition: Partition,
    /// The reading position.
    read: Position,
    owed: BTreeMap<Offset, Owed>,
    owed_bytes: usize,
    users: HashMap<UserId, Queue>,
    in_flight: usize,
    pub(super) bookmark: Bookmark,
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
            bookmark: Bookmark::new(from.next),
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
                self.bookmark.note_read();
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
                by: Arc::clone(&commit.by),
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
                self.bookmark.note_done();
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
        self.bookmark.worth_saving(self.low_water())
    }

    /// The cursor to save before the lane is left.
    pub(super) fn cursor_at_the_end(&self) -> Option<Position> {
        self.bookmark.worth_leaving(self.low_water())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EdgeId, Event, RemovalReason, Version};
    use crate::journal::Epoch;
    use crate::webhooks::cursor::SILENT_RECORDS_MAX;
    use crate::webhooks::testing::{APP, blocks, commit, id};
    use uuid::Uuid;

    /// A lane and the journal in front of it.
    struct Scene {
        lane: Lane,
        offset: u64,
        n: u64,
    }

    impl Scene {
        fn new() -> Self {
            let mut scene =
                Self { lane: Lane::new(Partition(3), Position::default()), offset: 0, n: 0 };
            let claim = Body::Claim { node: "test".to_owned(), nonce: Uuid::nil() };
            assert_eq!(scene.put(1, 0, &claim), None);
            scene
        }

        fn put(&mut self, epoch: u64, n: u64, body: &Body) -> Option<UserId> {
            let mut bytes = Vec::new();
            record::encode(Epoch(epoch), n, body, &mut bytes);
            let entry = Entry { partition: Partition(3), offset: Offset(self.offset), bytes };
            self.offset += 1;
            self.lane.take(&entry, APP, Switches::ALL).expect("it is a record")
        }

        fn take(&mut self, body: &Body) -> Option<UserId> {
            self.n += 1;
            self.put(1, self.n, body)
        }

        fn cursor(&mut self) {
            let body = Body::Cursor {
                subscription: "webhook/1".to_owned(),
                next: Offset(0),
                epoch: Epoch(0),
                n: 0,
            };
            assert_eq!(self.take(&body), None);
        }

        fn deliver(&mut self, user: &str) -> (Offset, String) {
            let (offset, call, _) = self.lane.start(&id(user)).expect("a call is ready");
            self.lane.advance(&id(user));
            (offset, call.id.clone())
        }

        fn save(&mut self) -> Option<Position> {
            let position = self.lane.cursor_worth_saving()?;
            let mark = self.lane.bookmark.begin_save(position);
            self.lane.bookmark.saved(&mark);
            Some(position)
        }
    }

    #[test]
    fn only_the_first_call_of_a_user_can_go_out() {
        let mut scene = Scene::new();
        assert_eq!(scene.take(&blocks("amy", "bob")), Some(id("amy")));
        assert_eq!(scene.take(&blocks("amy", "carl")), None, "amy is ready already");
        assert_eq!(scene.take(&blocks("dora", "bob")), Some(id("dora")));
        let (offset, call, index) = scene.lane.start(&id("amy")).expect("the first one");
        assert_eq!((offset, &*call.id, index), (Offset(1), "3@1.Sns.CallbackBlackListAdd", 0));
        assert!(scene.lane.start(&id("amy")).is_none(), "one is in flight");
        scene.lane.park(&id("amy"));
        assert!(scene.lane.start(&id("amy")).is_none(), "it waits");
        assert!(scene.lane.unpark(&id("amy")));
        assert!(!scene.lane.unpark(&id("amy")), "it waits no more");
        let (offset, again, index) = scene.lane.start(&id("amy")).expect("the first one again");
        assert_eq!((offset, &again.id, index), (Offset(1), &call.id, 1));
        assert!(scene.lane.advance(&id("amy")), "amy has another one");
        assert_eq!(scene.deliver("amy").0, Offset(2));
        assert_eq!(scene.lane.in_flight(), 0);
    }

    #[test]
    fn the_low_water_mark_is_the_first_record_that_is_not_done_with() {
        let mut scene = Scene::new();
        scene.take(&blocks("amy", "bob"));
        scene.take(&blocks("bob", "amy"));
        let at = |next, n| Position { next: Offset(next), rule: ReaderRule::resume(Epoch(1), n) };
        assert_eq!(scene.lane.low_water(), at(1, 0));
        scene.deliver("bob");
        assert_eq!(scene.lane.low_water(), at(1, 0), "amy's is older");
        assert_eq!(scene.save(), Some(at(1, 0)), "the claim in front of it is done with");
        scene.deliver("amy");
        assert_eq!(scene.lane.low_water(), at(3, 2));
        assert_eq!(scene.save(), Some(at(3, 2)));
    }

    #[test]
    fn a_record_with_two_calls_is_done_with_after_both() {
        let mut scene = Scene::new();
        let edge = EdgeId { offerer: id("amy"), version: Version(1) };
        let removed = Event::FriendRemoved {
            peer: id("bob"),
            edge,
            reason: RemovalReason::Blocked,
            announced: false,
        };
        let blocked = Event::UserBlocked { target: id("bob"), remain_friends: false };
        scene.take(&commit("amy", vec![removed, blocked]));
        assert_eq!(scene.deliver("amy").1, "3@1.Sns.CallbackFriendDelete");
        assert_eq!(scene.lane.low_water().next, Offset(1));
        assert_eq!(scene.deliver("amy").1, "3@1.Sns.CallbackBlackListAdd");
        assert_eq!(scene.lane.low_water().next, Offset(2));
    }

    #[test]
    fn a_cursor_alone_is_never_worth_a_cursor() {
        let mut scene = Scene::new();
        scene.take(&blocks("amy", "bob"));
        scene.deliver("amy");
        assert!(scene.save().is_some());
        for _ in 0..2 * SILENT_RECORDS_MAX {
            scene.cursor();
            scene.take(&Body::Watermark { seen: Vec::new() });
        }
        assert_eq!(scene.lane.low_water().next, Offset(scene.offset), "they are done with");
        assert_eq!(scene.lane.cursor_worth_saving(), None);
        assert_eq!(scene.lane.cursor_at_the_end(), None);
    }

    #[test]
    fn records_without_a_call_are_worth_a_cursor_once_there_are_many() {
        let mut scene = Scene::new();
        let silent = commit("amy", vec![]);
        for _ in 1..SILENT_RECORDS_MAX {
            scene.take(&silent);
        }
        assert_eq!(scene.lane.cursor_worth_saving(), None);
        assert!(scene.lane.cursor_at_the_end().is_some(), "leaving saves what there is");
        scene.take(&silent);
        assert!(scene.save().is_some());
        assert_eq!(scene.lane.cursor_worth_saving(), None);
    }

    #[test]
    fn a_failed_save_is_owed_on() {
        let mut scene = Scene::new();
        scene.take(&blocks("amy", "bob"));
        scene.deliver("amy");
        let position = scene.lane.cursor_worth_saving().expect("it moved");
        let mark = scene.lane.bookmark.begin_save(position);
        assert_eq!(scene.lane.cursor_worth_saving(), None, "it is under way");
        scene.lane.bookmark.save_failed(&mark);
        assert_eq!(scene.lane.cursor_worth_saving(), Some(position));
    }

    #[test]
    fn a_void_record_causes_no_call() {
        let mut scene = Scene::new();
        assert_eq!(scene.put(0, 1, &blocks("amy", "zombie")), None, "an old epoch");
        assert_eq!(scene.put(1, 2, &blocks("amy", "hole")), None, "a number too far");
        assert_eq!(scene.take(&blocks("amy", "valid")), Some(id("amy")));
        assert_eq!(scene.deliver("amy").0, Offset(3));
    }

    #[test]
    fn the_window_is_full_by_number_and_by_bytes_and_has_room_at_half() {
        let mut scene = Scene::new();
        for _ in 0..WINDOW_RECORDS_MAX {
            assert!(!scene.lane.is_full());
            scene.take(&blocks("amy", "bob"));
        }
        assert!(scene.lane.is_full());
        for _ in 0..WINDOW_RECORDS_MAX / 2 {
            scene.deliver("amy");
            assert!(!scene.lane.has_room());
        }
        scene.deliver("amy");
        assert!(scene.lane.has_room());

        let mut scene = Scene::new();
        let blocked = Event::UserBlocked { target: id("bob"), remain_friends: false };
        let batch = commit("amy", vec![blocked; 1000]);
        let mut records = 0;
        while !scene.lane.is_full() {
            scene.take(&batch);
            records += 1;
        }
        assert!(records < WINDOW_RECORDS_MAX, "{records} records");
        for _ in 0..records {
            scene.deliver("amy");
        }
        assert!(scene.lane.has_room());
    }

    #[test]
    fn one_stuck_user_ends_reading_when_a_restart_would_repeat_too_much() {
        let mut scene = Scene::new();
        scene.take(&blocks("amy", "stuck"));
        while scene.offset - 1 < REPEATED_RECORDS_MAX {
            assert!(!scene.lane.is_full());
            scene.take(&commit("bob", vec![]));
        }
        scene.take(&commit("bob", vec![]));
        assert!(scene.lane.is_full());
        scene.deliver("amy");
        assert!(scene.lane.has_room());
    }

    #[test]
    fn bytes_that_are_no_record_are_not_passed() {
        let mut scene = Scene::new();
        let entry =
            Entry { partition: Partition(3), offset: Offset(1), bytes: b"rubbish".to_vec() };
        assert!(scene.lane.take(&entry, APP, Switches::ALL).is_err());
        assert_eq!(scene.lane.next_offset(), Offset(1));
        assert_eq!(scene.lane.low_water().next, Offset(1));
    }
}
