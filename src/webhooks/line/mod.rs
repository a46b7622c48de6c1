//! One subscription over all its partitions: whose delivery goes out next, when a failed one is tried
//! again, and whether the receiver counts as down. No IO; the time is handed in, so that every
//! interleaving of answers, crashes and lost partitions can be played through.

mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

pub(super) use self::verdict::Verdict;
use super::breaker::Breaker;
use super::feed::{Deliveries, Fed};
use super::lane::{Delivery, Lane, SaveMark, Start};
use super::retry::Schedule;
use super::subscription::Subscription;
use crate::domain::{FailurePolicy, Timestamp, UserId};
use crate::journal::{Cursor, Offset, Partition, Place};

/// Milliseconds of a clock that does not go back.
pub(super) type Millis = u64;

/// How long a record that could not be read again waits, in milliseconds.
const FETCH_AGAIN_MS: Millis = 1_000;

/// How far apart cursors are saved that tell nothing but further attempts, in milliseconds.
const STALE_SAVE_MS: Millis = 60_000;

/// How a subscription is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) enabled: bool,
    pub(super) schedule: Schedule,
    /// One attempt per delivery, whatever comes of it.
    pub(super) call_once: bool,
    pub(super) policy: FailurePolicy,
    /// Attempts after which the policy speaks.
    pub(super) attempts_max: u32,
    /// Deliveries out at the same time, at most.
    pub(super) in_flight_max: usize,
    /// Deliveries per second, if that is limited.
    pub(super) per_second: Option<u32>,
}

/// A delivery that is out.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) partition: Partition,
    pub(super) user: UserId,
    pub(super) delivery: Delivery,
    /// Tells this lane from one that follows the same partition later.
    lane: u64,
}

/// A record that is to be read again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetching {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    user: UserId,
    lane: u64,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Next {
    /// Make this delivery.
    Send(Sent),
    /// Read this record again.
    Fetch(Fetching),
}

/// A cursor that is to be saved.
#[derive(Debug)]
pub(super) struct Saving {
    pub(super) partition: Partition,
    pub(super) cursor: Cursor,
    pub(super) mark: SaveToken,
}

/// What is owed for a [`Saving`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SaveToken {
    mark: SaveMark,
    lane: u64,
}

struct Served {
    lane: Lane,
    id: u64,
    /// Not read, because its window is full, until it has room.
    full: bool,
    leaving: bool,
    last_save_tried: bool,
    saving: bool,
    save_not_before: Millis,
    /// The same for a cursor that tells nothing but further attempts.
    stale_save_not_before: Millis,
    /// The last cursor says that the receiver counts as down.
    told_down: bool,
}

impl Served {
    /// When the next cursor is worth saving.
    fn save_at(&self) -> Option<Millis> {
        if self.lane.worth_saving(false) {
            return Some(self.save_not_before);
        }
        self.lane.is_stale().then_some(self.stale_save_not_before)
    }
}

/// See the module.
pub(super) struct Line {
    subscription: Rc<Subscription>,
    terms: Terms,
    lanes: BTreeMap<Partition, Served>,
    lanes_made: u64,
    ready: VecDeque<(Partition, UserId)>,
    waiting: BinaryHeap<Reverse<(Millis, Partition, UserId)>>,
    out: usize,
    breaker: Breaker,
    /// Deliveries that have come through.
    through: u64,
    down_since: Option<Timestamp>,
    quiet_since: Option<Millis>,
    error: Option<Box<str>>,
    /// The receiver has asked for patience until then.
    paused_until: Millis,
    /// Deliveries that may go out at once, in thousandths, and when that was last counted.
    tokens: u64,
    counted_at: Millis,
}

impl Line {
    pub(super) fn new(subscription: Rc<Subscription>) -> Self {
        let terms = subscription.terms();
        Self {
            subscription,
            terms,
            lanes: BTreeMap::new(),
            lanes_made: 0,
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            out: 0,
            breaker: Breaker::default(),
            through: 0,
            down_since: None,
            quiet_since: None,
            error: None,
            paused_until: 0,
            tokens: u64::from(terms.per_second.unwrap_or(0)) * 1000,
            counted_at: 0,
        }
    }

    /// Begins to serve a partition from `cursor` on.
    pub(super) fn follow(
        &mut self,
        partition: Partition,
        cursor: Option<Cursor>,
        end: Place,
        now: Millis,
    ) {
        let down = cursor.as_ref().and_then(|cursor| cursor.progress.down_since);
        if let Some(down) = down {
            self.down_since.get_or_insert(down);
        }
        let scope = self.subscription.scope(partition);
        let lane = Lane::begin(partition, self.subscription.app, &scope, cursor, end);
        for (user, attempts) in lane.waiting() {
            let wait = self.terms.schedule.wait(attempts.max(1), user.as_str());
            let due = now + wait.as_millis() as Millis;
            self.waiting.push(Reverse((due, partition, user)));
        }
        self.lanes_made += 1;
        let served = Served {
            lane,
            id: self.lanes_made,
            full: false,
            leaving: false,
            last_save_tried: false,
            saving: false,
            save_not_before: now,
            stale_save_not_before: now + STALE_SAVE_MS,
            told_down: down.is_some(),
        };
        self.lanes.insert(partition, served);
    }

    /// Whether the partition is served, or is being left.
    pub(super) fn serves(&self, partition: Partition) -> bool {
        self.lanes.contains_key(&partition)
    }

    /// Whether the partition is being left.
    pub(super) fn is_leaving(&self, partition: Partition) -> bool {
        self.lanes.get(&partition).is_some_and(|served| served.leaving)
    }

    /// The partitions that are served, or are being left.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.lanes.keys().copied().collect()
    }

    /// Begins to leave a partition: nothing more is sent, and what is out is waited for.
    pub(super) fn leave(&mut self, partition: Partition) {
        if let Some(served) = self.lanes.get_mut(&partition) {
            served.leaving = true;
        }
    }

    /// New terms, from now on. Not for what moves lanes or bounds them.
    pub(super) fn adopt(&mut self, subscription: Rc<Subscription>) {
        let terms = subscription.terms();
        let moved = subscription.endpoint != self.subscription.endpoint;
        if moved || terms.call_once != self.terms.call_once {
            // What the old address did says nothing of the new one, and where each delivery is made once
            // nobody waits for a receiver.
            self.breaker.forget();
            (self.down_since, self.quiet_since, self.paused_until) = (None, None, 0);
            self.tell_that_it_is_up();
            self.end_waits(|_| {});
        }
        self.terms = terms;
        for served in self.lanes.values_mut() {
            served.lane.adopt(subscription.commands);
        }
        self.subscription = subscription;
    }

    /// Where each lane is to be read on that can take more.
    pub(super) fn reads(&mut self) -> Vec<(Partition, Place)> {
        let mut reads = Vec::new();
        for (partition, served) in &mut self.lanes {
            if served.leaving || (served.full && !served.lane.has_room()) {
                continue;
            }
            let place = served.lane.reads_from();
            served.full = place.is_none();
            reads.extend(place.map(|place| (*partition, place)));
        }
        reads
    }

    /// Whether enough deliveries are ready that reading on would not help.
    pub(super) fn has_enough(&self) -> bool {
        self.ready.len() > 2 * self.terms.in_flight_max
    }

    /// Takes the next record of a partition. Answers whether the lane takes more.
    pub(super) fn take(&mut self, partition: Partition, fed: &Fed) -> bool {
        let Some(served) = self.lanes.get_mut(&partition) else { return false };
        if served.leaving {
            return false;
        }
        let ready = served.lane.take(fed);
        self.ready.extend(ready.map(|user| (partition, user)));
        served.lane.reads_from().is_some()
    }

    /// What is to be done next, if anything can be.
    pub(super) fn next(&mut self, now: Millis) -> Option<Next> {
        self.wake(now);
        self.refill(now);
        let limited = self.terms.per_second.is_some() && self.tokens < 1000;
        let max = self.breaker.allows(now, self.terms.in_flight_max);
        if !self.terms.enabled || limited || now < self.paused_until || self.out >= max {
            return None;
        }
        while let Some((partition, user)) = self.ready.pop_front() {
            let Some(served) = self.lanes.get_mut(&partition) else { continue };
            if served.leaving {
                continue;
            }
            let lane = served.id;
            match served.lane.start(user) {
                Start::Deliver(delivery) => {
                    self.out += 1;
                    self.tokens = self.tokens.saturating_sub(1000);
                    self.breaker.sent();
                    self.quiet_since.get_or_insert(now);
                    return Some(Next::Send(Sent { partition, user, delivery, lane }));
                }
                Start::Fetch(offset) => {
                    return Some(Next::Fetch(Fetching { partition, offset, user, lane }));
                }
                Start::Nothing => {}
            }
        }
        None
    }

    fn wake(&mut self, now: Millis) {
        while let Some(Reverse((due, partition, user))) = self.waiting.peek().copied() {
            if due > now {
                break;
            }
            self.waiting.pop();
            if let Some(served) = self.lanes.get_mut(&partition)
                && served.lane.unpark(user)
            {
                self.ready.push_back((partition, user));
            }
        }
    }

    fn refill(&mut self, now: Millis) {
        let Some(per_second) = self.terms.per_second.map(u64::from) else { return };
        let passed = now.saturating_sub(std::mem::replace(&mut self.counted_at, now));
        // A second's worth at most: what was not used is not saved up.
        self.tokens = self.tokens.saturating_add(passed * per_second).min(per_second * 1000);
    }

    /// A record was read again, or could not be.
    pub(super) fn fetched(
        &mut self,
        fetching: Fetching,
        deliveries: Option<Arc<Deliveries>>,
        now: Millis,
    ) {
        let Fetching { partition, user, lane, .. } = fetching;
        let served = self.lanes.get_mut(&partition).filter(|served| served.id == lane);
        let Some(served) = served else { return };
        if served.lane.fetched(user, deliveries) {
            self.ready.push_front((partition, user));
        } else {
            self.waiting.push(Reverse((now + FETCH_AGAIN_MS, partition, user)));
        }
    }

    /// The cursors that are to be saved now, each at most once in `period`; [`Self::saved`] is owed
    /// for each.
    pub(super) fn saves(&mut self, now: Millis, period: Millis) -> Vec<Saving> {
        let mut saves = Vec::new();
        for (partition, served) in &mut self.lanes {
            if served.saving || served.last_save_tried {
                continue;
            }
            let due = if served.leaving {
                served.lane.out() == 0 && served.lane.worth_saving(true)
            } else {
                served.save_at().is_some_and(|at| now >= at)
            };
            if !due {
                continue;
            }
            served.saving = true;
            // Tried once: what is lost with it is repeated, and that is all.
            served.last_save_tried = served.leaving;
            served.save_not_before = now + period;
            served.stale_save_not_before = now + STALE_SAVE_MS;
            served.told_down = self.down_since.is_some();
            let (mut cursor, mark) = served.lane.cursor();
            cursor.progress.down_since = self.down_since;
            cursor.progress.error.clone_from(&self.error);
            let mark = SaveToken { mark, lane: served.id };
            saves.push(Saving { partition: *partition, cursor, mark });
        }
        saves
    }

    /// What came of a save.
    pub(super) fn saved(&mut self, partition: Partition, token: SaveToken, durable: bool) {
        let commands = self.subscription.commands;
        let served = self.lanes.get_mut(&partition).filter(|served| served.id == token.lane);
        let Some(served) = served else { return };
        served.saving = false;
        if durable {
            let stalled = served.lane.saved(token.mark);
            self.ready.extend(stalled.into_iter().map(|user| (partition, user)));
            served.lane.adopt(commands);
        } else {
            served.lane.save_failed(token.mark);
        }
    }

    /// The partitions that are left: nothing of theirs is out or being saved any more.
    pub(super) fn left(&mut self) -> Vec<Partition> {
        let left = self.lanes.iter().filter(|(_, served)| {
            let saved = served.last_save_tried || !served.lane.worth_saving(true);
            served.leaving && served.lane.out() == 0 && !served.saving && saved
        });
        let left: Vec<Partition> = left.map(|(partition, _)| *partition).collect();
        for partition in &left {
            self.lanes.remove(partition);
        }
        self.forget_ready(&left);
        left
    }

    /// Forgets the ready users of partitions that were left: the next follower finds them again.
    fn forget_ready(&mut self, left: &[Partition]) {
        if !left.is_empty() {
            self.ready.retain(|(partition, _)| !left.contains(partition));
        }
    }

    /// Lets go of the partitions that are to be left at once, whatever is out.
    pub(super) fn left_at_once(&mut self) -> Vec<Partition> {
        let left = self.lanes.extract_if(.., |_, served| served.leaving).map(|(left, _)| left);
        let left: Vec<Partition> = left.collect();
        self.forget_ready(&left);
        left
    }

    /// The time of the oldest record with a delivery that is not done.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.lanes.values().filter_map(|served| served.lane.oldest()).min()
    }

    /// When something is due that nothing else announces.
    pub(super) fn due(&self, now: Millis) -> Option<Millis> {
        let waiting = self.waiting.peek().map(|Reverse((due, _, _))| *due);
        let saves = self.lanes.values().filter(|served| !served.saving && !served.leaving);
        let saves = saves.filter_map(Served::save_at);
        waiting.into_iter().chain(saves).chain(self.sends_at(now)).min()
    }

    /// When a delivery can go out that waits for the time alone.
    fn sends_at(&self, now: Millis) -> Option<Millis> {
        if !self.terms.enabled || self.ready.is_empty() {
            return None;
        }
        let probe = match (self.breaker.is_open(), self.breaker.probe_at()) {
            // The outcome of the probe is waited for.
            (true, None) => return None,
            (_, probe) => probe.unwrap_or(0),
        };
        let token = self.terms.per_second.filter(|_| self.tokens < 1000).map_or(0, |per_second| {
            let missing = 1000 - self.tokens;
            now + missing.div_ceil(u64::from(per_second.max(1))).max(1)
        });
        let at = self.paused_until.max(probe).max(token);
        (at > now).then_some(at)
    }

    /// Deliveries that are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Since when no delivery has come through, if any went out.
    pub(super) fn quiet_since(&self) -> Option<Millis> {
        self.quiet_since
    }

    /// Whether the receiver counts as down.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.is_open()
    }

    /// Users whose deliveries wait although the cursors have passed them.
    pub(super) fn parked_users(&self) -> usize {
        self.lanes.values().map(|served| served.lane.parked_users()).sum()
    }

    /// Of each partition: the first offset that is not read yet, and how many records before it have
    /// deliveries that are not done.
    pub(super) fn progress(&self) -> impl Iterator<Item = (Partition, Offset, usize)> {
        let lanes = self.lanes.iter().map(|(partition, served)| (*partition, &served.lane));
        lanes.map(|(partition, lane)| (partition, lane.next_offset(), lane.owed_records()))
    }

    /// Whether nothing goes out in some partition until an operator says how to go on.
    pub(super) fn is_halted(&self) -> bool {
        self.lanes.values().any(|served| served.lane.halted().is_some())
    }
}
