//! One subscription in one partition: what is owed to whom, and how far it has come; no IO, no time.
//!
//! Each user has a queue of deliveries in journal order, of which the first one alone may be out. A record
//! is done with when all its deliveries are; the low-water mark is the first record that is not. A user
//! whose delivery fails is parked: the mark passes their records, and the cursor says where to find
//! them again. So one user's failing delivery keeps nobody else's from going on, also over a restart.
//!
//! The law of [`Progress`](crate::journal::Progress) holds for every cursor that a lane answers: of the
//! deliveries that the records up to it owe, each is counted as delivered, counted as dead, or belongs
//! to a parked user.

mod cursor;
mod delivery;
mod parking;
mod scope;
mod stall;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

pub(super) use self::cursor::SaveMark;
pub(super) use self::delivery::{Delivery, Start};
pub(super) use self::scope::{Bounds, Scope, Target};
use self::stall::Stall;
use super::digest::{DeliveryId, hash};
use super::feed::{Deliveries, Fed, Said};
use super::switches::Switches;
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::{DeadLetter, Offset, Parked, Partition, Place, Tally};

/// Records of one partition with deliveries that are not done, at most, per subscription; those of parked
/// users not counted.
pub const WINDOW_RECORDS_MAX: usize = 512;
/// Bytes of their bodies; a single larger body still goes out.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records between the low-water mark and the reading position: what a restart repeats at most.
pub const REPEATED_RECORDS_MAX: u64 = 8_192;
/// Users that the low-water mark passes although a delivery of theirs fails, at most. One more holds it.
pub const PARKED_USERS_MAX: usize = 100;
/// Records of theirs that wait, at most: with more, the partition is not read on.
pub(super) const PARKED_RECORDS_MAX: usize = 10_000;
/// Deliveries given up between two cursors, at most: with more, nothing goes out until one is saved.
pub(super) const DEAD_LETTERS_PER_CURSOR_MAX: usize = 256;
/// Changes of what is asked for that a cursor remembers, at most; a further one waits.
const FILTERS_MAX: usize = 16;
/// Records without a delivery for a subscription, after which its cursor is worth saving all the same.
pub const SILENT_RECORDS_MAX: u64 = 10_000;

/// A place in front of a record, with what the chain of deliveries was there.
#[derive(Clone, Debug, Default)]
struct Spot {
    place: Place,
    seq: u64,
    last: Option<DeliveryId>,
}

/// A partition as one subscription sees it.
pub(super) struct Lane {
    partition: Partition,
    app: AppId,
    replay: Option<Bounds>,
    term: u32,
    /// The first offset that counts.
    since: Offset,
    /// Everything before it is done with, but for what is parked. Until the reading position has
    /// come there nothing but parked users' records is looked for, and there is no cursor to save.
    floor: Offset,
    /// The floor is not known yet: it is in front of the first record of this time or later.
    floor_at: Option<Timestamp>,
    /// Whose records before the floor are not done with, and from where on.
    restored: HashMap<UserId, Parked>,
    filters: Vec<(Offset, Switches)>,
    read: Spot,
    owed: BTreeMap<Offset, Owed>,
    open: usize,
    bytes: usize,
    users: HashMap<UserId, Queue>,
    parked_users: usize,
    parked_records: usize,
    out: usize,
    /// Users who wait for a cursor.
    stalled: Vec<Stall>,
    /// Deliveries given up by this lane.
    given_up: u64,
    delivered: Tally,
    dead: Tally,
    died: Vec<DeadLetter>,
    /// Something happened that a cursor should tell.
    dirty: bool,
    /// Attempts were counted that the last cursor does not tell.
    stale: bool,
    /// Commits read since the last save.
    silent: u64,
    saved: Offset,
    halted: Option<Box<str>>,
    unreadable: bool,
}

/// A record with deliveries that are not done, or that waits for an earlier one to be.
struct Owed {
    spot: Spot,
    at: Timestamp,
    left: u64,
    /// The mark may pass it: its user is parked.
    held: bool,
    delivered: Tally,
    dead: Tally,
}

/// A user's deliveries.
struct Queue {
    records: VecDeque<Queued>,
    state: QueueState,
    /// The mark may pass this user's records.
    parked: bool,
    /// Attempts spent on the first delivery.
    attempts: u32,
    /// Attempts at it in the row of failures `streak`, which may turn out to be the receiver's fault.
    doubtful: u32,
    streak: u64,
    /// How often the receiver has asked for patience with the first delivery although others came through
    /// in between, and how many had when it did last.
    put_offs: u32,
    through: u64,
    since: Timestamp,
    error: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    /// The first delivery may go out.
    Ready,
    /// The first delivery is out, or is being read again.
    Out,
    /// The first delivery waits for its next attempt.
    Waiting,
    /// The first delivery, if there is one, waits until a cursor is behind the dead letter before it.
    Stalled,
}

/// A record of a user with deliveries that are not done.
struct Queued {
    spot: Spot,
    want: Switches,
    total: u64,
    done: u64,
    /// The deliveries; read again when needed, if they are not kept.
    deliveries: Option<Arc<Deliveries>>,
    bytes: usize,
}

impl Queue {
    fn new(at: Timestamp) -> Self {
        Self {
            records: VecDeque::new(),
            state: QueueState::Ready,
            parked: false,
            attempts: 0,
            doubtful: 0,
            streak: 0,
            put_offs: 0,
            through: 0,
            since: at,
            error: "".into(),
        }
    }
}

impl Lane {
    /// Asks for `commands` from here on. Answers whether that is so; if not, it is to be tried again
    /// once a cursor was saved.
    pub(super) fn adopt(&mut self, commands: Switches) -> bool {
        let full = self.filters.len() >= FILTERS_MAX;
        match self.filters.last_mut() {
            None => self.filters.push((Offset(0), commands)),
            Some((_, known)) if *known == commands => {}
            // Nothing counts yet.
            Some((_, known)) if self.floor_at.is_some() => *known = commands,
            Some(_) if full => return false,
            Some((from, _)) => {
                let from = (*from).max(self.read.place.next).max(self.floor);
                self.filters.push((from, commands));
                self.dirty = true;
            }
        }
        true
    }

    /// Where it is to be read on, if it is.
    pub(super) fn reads_from(&self) -> Option<Place> {
        let over = self.replay.as_ref().is_some_and(|bounds| self.read.place.next >= bounds.until);
        // Before the floor no cursor can say that it has stopped.
        let halted = self.halted.is_some() && !self.is_searching();
        let stopped = over || self.unreadable || halted;
        (!stopped && !self.exceeds(1)).then_some(self.read.place)
    }

    /// Whether reading is worth while again after a pause: every limit is less than half used. So a full
    /// lane does not ask for a new reader with each delivery.
    pub(super) fn has_room(&self) -> bool {
        !self.exceeds(2)
    }

    fn exceeds(&self, divisor: usize) -> bool {
        // What is looked for before the floor was within the limits when it was parked.
        if self.is_searching() {
            return false;
        }
        let low = self.low_water().place.next.0;
        self.open >= WINDOW_RECORDS_MAX / divisor
            || self.bytes >= WINDOW_BYTES_MAX / divisor
            || self.parked_records >= PARKED_RECORDS_MAX / divisor
            || self.read.place.next.0.saturating_sub(low) >= REPEATED_RECORDS_MAX / divisor as u64
    }

    /// Deliveries that are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Users that the mark has passed.
    pub(super) fn parked_users(&self) -> usize {
        self.parked_users
    }

    /// The first offset that is not read yet.
    pub(super) fn next_offset(&self) -> Offset {
        self.read.place.next
    }

    /// Records with deliveries that are not done.
    pub(super) fn owed_records(&self) -> usize {
        self.open + self.parked_records
    }

    /// The time of the oldest record with a delivery that is not done.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let owed = self.owed.values().find(|owed| owed.left > 0).map(|owed| owed.at);
        if self.parked_users == 0 {
            return owed;
        }
        let parked = self.users.values().filter(|queue| queue.parked).map(|queue| queue.since);
        owed.into_iter().chain(parked).min()
    }

    /// Whether a replay has told everything.
    fn is_over(&self) -> bool {
        let read = self.read.place.next;
        self.users.is_empty() && self.replay.as_ref().is_some_and(|bounds| read >= bounds.until)
    }

    /// Where a cursor would stand: the first record that is not done with.
    fn low_water(&self) -> &Spot {
        self.owed.values().next().map_or(&self.read, |owed| &owed.spot)
    }

    fn is_searching(&self) -> bool {
        self.read.place.next < self.floor
    }

    fn want(&self, offset: Offset, deliveries: &Deliveries) -> Switches {
        let asked = self.filters.iter().rev().find(|(from, _)| *from <= offset);
        let asked = asked.map_or_else(Switches::default, |(_, commands)| *commands);
        match &self.replay {
            Some(bounds) => bounds.narrow(asked, (self.partition, offset), deliveries),
            None => asked,
        }
    }

    /// Takes the next record of the partition and queues the deliveries that it causes. Answers the
    /// record's user if a delivery of theirs can go out now that could not before.
    ///
    /// A record that cannot be read is where the lane stops: to skip it is to lose what it says.
    pub(super) fn take(&mut self, fed: &Fed) -> Option<UserId> {
        if fed.offset < self.read.place.next || self.unreadable {
            return None;
        }
        let (deliveries, at) = match &fed.said {
            Said::Commit { at, deliveries } => (deliveries.as_ref(), Some(*at)),
            Said::Other => (None, None),
            Said::Unreadable => {
                self.unreadable = true;
                return None;
            }
        };
        if let (Some(floor_at), Some(at)) = (self.floor_at, at)
            && at >= floor_at
        {
            self.floor_at = None;
            (self.floor, self.since) = (fed.offset, fed.offset);
        }
        let was_searching = self.is_searching();
        let mut spot = self.read.clone();
        // Records may be missing that count for nobody.
        spot.place.next = fed.offset;
        self.read.place = Place::new(Offset(fed.offset.0 + 1), fed.after);
        if at.is_some() && fed.offset >= self.floor {
            self.silent += 1;
        }
        let deliveries =
            deliveries.filter(|deliveries| deliveries.app == self.app && fed.offset >= self.since);
        let ready = deliveries.and_then(|deliveries| self.queue(fed.offset, spot, deliveries));
        if was_searching && !self.is_searching() {
            self.forget_restored();
        }
        self.settle();
        ready
    }

    fn queue(
        &mut self,
        offset: Offset,
        spot: Spot,
        deliveries: &Arc<Deliveries>,
    ) -> Option<UserId> {
        let want = self.want(offset, deliveries);
        let total = deliveries.wanted(want).count() as u64;
        let (_, last) = deliveries.wanted(want).last()?;
        self.read.seq += total;
        self.read.last = Some(DeliveryId { partition: self.partition, offset, command: last });
        let mut done = 0;
        let user = deliveries.user;
        if offset < self.floor {
            let parked = self.restored.get(&user).filter(|parked| offset >= parked.first)?;
            if offset == parked.first {
                done = parked.done.min(total.saturating_sub(1));
            }
        }
        let queue = self.users.entry(user).or_insert_with(|| Queue::new(deliveries.at));
        if offset >= self.floor {
            let owed = Owed {
                spot: spot.clone(),
                at: deliveries.at,
                left: total,
                held: queue.parked,
                delivered: Tally::default(),
                dead: Tally::default(),
            };
            self.open += usize::from(!owed.held);
            self.owed.insert(offset, owed);
        }
        let was_idle = queue.state == QueueState::Ready && queue.records.is_empty();
        let kept = !queue.parked || queue.records.is_empty();
        let wanted =
            deliveries.wanted(want).map(|(index, _)| deliveries.payloads[index].body.len());
        let bytes = if kept { wanted.sum() } else { 0 };
        self.bytes += bytes;
        self.parked_records += usize::from(queue.parked);
        let deliveries = kept.then(|| Arc::clone(deliveries));
        queue.records.push_back(Queued { spot, want, total, done, deliveries, bytes });
        was_idle.then_some(user)
    }

    /// What `user`, who is ready, needs. A delivery that is answered is out from now on.
    pub(super) fn start(&mut self, user: UserId) -> Start {
        let Some(queue) = self.users.get_mut(&user) else { return Start::Nothing };
        if queue.state != QueueState::Ready {
            return Start::Nothing;
        }
        let Some(front) = queue.records.front() else { return Start::Nothing };
        if self.halted.is_some() || self.died.len() >= DEAD_LETTERS_PER_CURSOR_MAX {
            self.stalled.push(Stall { user, given_up: 0, died_at: None });
            return Start::Nothing;
        }
        let offset = front.spot.place.next;
        let Some(deliveries) = &front.deliveries else {
            queue.state = QueueState::Out;
            return Start::Fetch(offset);
        };
        let mut wanted = deliveries.wanted(front.want).skip(front.done as usize);
        let Some((index, command)) = wanted.next() else { return Start::Nothing };
        let id = |command| DeliveryId { partition: self.partition, offset, command };
        let before = deliveries.wanted(front.want).take(front.done as usize).last();
        self.out += 1;
        queue.state = QueueState::Out;
        Start::Deliver(Delivery {
            id: id(command),
            seq: front.spot.seq + front.done + 1,
            prev: before.map(|(_, command)| id(command)).or(front.spot.last),
            attempts: queue.attempts + queue.doubtful,
            all: Arc::clone(deliveries),
            index,
        })
    }

    /// The record that [`Start::Fetch`] asked for, if it was read.
    pub(super) fn fetched(&mut self, user: UserId, deliveries: Option<Arc<Deliveries>>) -> bool {
        let Some(queue) = self.users.get_mut(&user) else { return false };
        let Some(front) = queue.records.front_mut() else { return false };
        let Some(deliveries) = deliveries else {
            queue.state = QueueState::Waiting;
            return false;
        };
        let wanted =
            deliveries.wanted(front.want).map(|(index, _)| deliveries.payloads[index].body.len());
        front.bytes = wanted.sum();
        self.bytes += front.bytes;
        front.deliveries = Some(deliveries);
        queue.state = QueueState::Ready;
        true
    }

    /// The user's delivery was accepted. Answers whether another one can go out.
    pub(super) fn accepted(&mut self, user: UserId) -> bool {
        self.finish(user, None, QueueState::Ready)
    }

    /// The user's delivery is given up after its only attempt. Answers as [`Self::accepted`] does.
    pub(super) fn give_up_at_once(&mut self, user: UserId, at: Timestamp, error: &str) -> bool {
        self.finish(user, Some((at, error)), QueueState::Ready)
    }

    fn finish(&mut self, user: UserId, dead: Option<(Timestamp, &str)>, then: QueueState) -> bool {
        let Some(queue) = self.users.get_mut(&user) else { return false };
        let Some(front) = queue.records.front_mut() else { return false };
        let Some(deliveries) = &front.deliveries else { return false };
        let next = deliveries.wanted(front.want).nth(front.done as usize);
        let Some((index, command)) = next else { return false };
        let offset = front.spot.place.next;
        let id = DeliveryId { partition: self.partition, offset, command };
        let hash = hash(id, &deliveries.payloads[index].body);
        self.out -= 1;
        front.done += 1;
        queue.state = then;
        let attempts = queue.attempts + queue.doubtful + 1;
        (queue.attempts, queue.doubtful, queue.put_offs) = (0, 0, 0);
        let parked = queue.parked;
        if front.done == front.total {
            self.bytes -= front.bytes;
            self.parked_records -= usize::from(parked);
            queue.records.pop_front();
        }
        let has_more = !queue.records.is_empty();
        let (delivered, given_up) = match self.owed.get_mut(&offset) {
            Some(owed) => {
                owed.left -= 1;
                self.open -= usize::from(owed.left == 0 && !owed.held);
                (&mut owed.delivered, &mut owed.dead)
            }
            None => (&mut self.delivered, &mut self.dead),
        };
        match dead {
            None => delivered.add(hash),
            Some((at, error)) => {
                given_up.add(hash);
                self.given_up += 1;
                let id = id.to_string().into();
                self.died.push(DeadLetter { id, user, attempts, at, error: error.into() });
                self.dirty = true;
            }
        }
        self.dirty |= parked;
        self.relax(user);
        self.settle();
        has_more
    }

    /// Nothing goes out any more until an operator says how to go on.
    pub(super) fn halt(&mut self, reason: &str) {
        self.halted = Some(reason.into());
        self.dirty = true;
    }

    /// Why nothing goes out any more, if that is so.
    pub(super) fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Takes what is done with from the front, as far as it goes, and counts it.
    fn settle(&mut self) {
        while let Some(first) = self.owed.first_entry() {
            if first.get().left > 0 && !first.get().held {
                break;
            }
            let owed = first.remove();
            self.delivered.add_all(owed.delivered);
            self.dead.add_all(owed.dead);
            self.dirty = true;
        }
    }
}
