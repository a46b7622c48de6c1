//! From a cursor to a lane that goes on there, and back to the next cursor.

use std::collections::{BTreeMap, HashMap};

use super::{Lane, Queue, QueueState, Queued, SILENT_RECORDS_MAX, Scope, Spot, Target};
use crate::domain::{AppId, UserId};
use crate::journal::{Cursor, Filter, Offset, Parked, Partition, Place, Progress, Tally};
use crate::tags::CallbackCommand;

/// What one save of a cursor covers.
#[derive(Clone, Copy, Debug)]
pub(in crate::webhooks) struct SaveMark {
    pub(super) next: Offset,
    start: Offset,
    died: usize,
    pub(super) given_up: u64,
    silent: u64,
}

impl Lane {
    /// A lane that goes on where `cursor` says. Without one it begins: a replay at its own
    /// beginning, anything else at `end`, the partition's.
    pub(in crate::webhooks) fn begin(
        partition: Partition,
        app: AppId,
        scope: &Scope,
        cursor: Option<Cursor>,
        end: Place,
    ) -> Self {
        let begins = cursor.is_none();
        let Cursor { place, term, ended: _, progress } =
            cursor.unwrap_or_else(|| Cursor::begin(end));
        let named = |filter: &Filter| {
            let names = filter.commands.iter();
            let commands = names.filter_map(|name| CallbackCommand::from_name(name)).collect();
            (filter.from, commands)
        };
        let last = progress.last.as_deref().and_then(|id| id.parse().ok());
        let mut lane = Self {
            partition,
            app,
            replay: scope.replay.clone(),
            term,
            since: progress.since,
            floor: place.next,
            floor_at: None,
            restored: HashMap::new(),
            filters: progress.filters.iter().map(named).collect(),
            read: Spot { place: progress.resume.unwrap_or(place), seq: progress.seq, last },
            owed: BTreeMap::new(),
            open: 0,
            bytes: 0,
            users: HashMap::new(),
            parked_users: 0,
            parked_records: 0,
            out: 0,
            stalled: Vec::new(),
            given_up: 0,
            delivered: progress.delivered,
            dead: progress.dead,
            died: Vec::new(),
            dirty: false,
            stale: false,
            silent: 0,
            saved: place.next,
            halted: progress.halted,
            unreadable: false,
        };
        if lane.filters.is_empty() {
            // A cursor that keeps no count: it does from here on.
            lane.since = place.next;
            (lane.delivered, lane.dead) = (Tally::default(), Tally::default());
        }
        match (&scope.replay, scope.seek) {
            (Some(bounds), _) if begins => {
                lane.go_to(Target::Offset(bounds.from), Place::default());
            }
            (_, Some((term, target))) if term > lane.term => {
                lane.term = term;
                lane.go_to(target, end);
            }
            _ => lane.restore(progress.parked),
        }
        lane.adopt(scope.commands);
        lane
    }

    fn restore(&mut self, parked: Vec<Parked>) {
        for parked in parked {
            let queue = Queue {
                state: QueueState::Waiting,
                parked: true,
                attempts: parked.attempts,
                error: parked.error.clone(),
                ..Queue::new(parked.since)
            };
            self.users.insert(parked.user, queue);
            self.restored.insert(parked.user, parked);
        }
        self.parked_users = self.restored.len();
        self.forget_restored();
    }

    /// Begins anew at `target`, with nothing counted.
    fn go_to(&mut self, target: Target, end: Place) {
        let from = match target {
            Target::End => end,
            // What stands before a place is found by reading up to it.
            Target::Offset(offset) if offset >= self.floor && self.read.place.next <= offset => {
                self.read.place
            }
            Target::Offset(_) | Target::Time(_) => Place::default(),
        };
        (self.floor, self.floor_at) = match target {
            Target::Offset(offset) => (offset, None),
            Target::Time(at) => (Offset(u64::MAX), Some(at)),
            Target::End => (end.next, None),
        };
        self.since = self.floor;
        self.read = Spot { place: from, seq: 0, last: None };
        (self.delivered, self.dead) = (Tally::default(), Tally::default());
        self.filters.clear();
        self.saved = from.next;
        self.halted = None;
        self.dirty = true;
    }

    /// Whether there is a cursor that is worth a record of its own; before the lane is left, a smaller
    /// reason is enough. A cursor that was saved because a cursor was read would have no end, so only
    /// commits make one.
    pub(in crate::webhooks) fn worth_saving(&self, leaving: bool) -> bool {
        let silent_min = if leaving { 1 } else { SILENT_RECORDS_MAX };
        let moved = self.low_water().place.next > self.saved;
        let due = self.silent >= silent_min || self.is_over();
        !self.is_searching() && (self.dirty || (leaving && self.stale) || (due && moved))
    }

    /// Whether there is a cursor that tells attempts which the last one does not: worth a record now and
    /// then, because receivers may fail for days.
    pub(in crate::webhooks) fn is_stale(&self) -> bool {
        self.stale && !self.is_searching()
    }

    /// The next cursor has something to say that does not come from the lane.
    pub(in crate::webhooks) fn touch(&mut self) {
        self.dirty = true;
    }

    /// The cursor to save now. [`Self::saved`] or [`Self::save_failed`] is owed from then on.
    pub(in crate::webhooks) fn cursor(&mut self) -> (Cursor, SaveMark) {
        let low = self.low_water().clone();
        let parked: Vec<(&UserId, &Queue, &Queued)> = self
            .users
            .iter()
            .filter(|(_, queue)| queue.parked)
            .filter_map(|(user, queue)| Some((user, queue, queue.records.front()?)))
            .filter(|(_, _, front)| front.spot.place.next < low.place.next)
            .collect();
        let start = parked.iter().map(|(_, _, front)| &front.spot);
        let start = start.min_by_key(|spot| spot.place.next);
        let resume = start.map(|spot| spot.place);
        let Spot { place, seq, last } = start.unwrap_or(&low).clone();
        let mut parked: Vec<Parked> = parked
            .into_iter()
            .map(|(user, queue, front)| Parked {
                user: *user,
                first: front.spot.place.next,
                done: front.done,
                attempts: queue.attempts + queue.doubtful,
                since: queue.since,
                error: queue.error.clone(),
            })
            .collect();
        parked.sort_unstable_by_key(|parked| parked.first);
        let filters = self.filters.iter().map(|(from, commands)| Filter {
            from: *from,
            commands: commands.names().map(Into::into).collect(),
        });
        let progress = Progress {
            since: self.since,
            filters: filters.collect(),
            resume,
            seq,
            last: last.map(|id| id.to_string().into()),
            delivered: self.delivered,
            dead: self.dead,
            parked,
            died: self.died.clone(),
            down_since: None,
            halted: self.halted.clone(),
            error: None,
        };
        (self.dirty, self.stale) = (false, false);
        let mark = SaveMark {
            next: low.place.next,
            start: place.next,
            died: self.died.len(),
            given_up: self.given_up,
            silent: std::mem::take(&mut self.silent),
        };
        (Cursor { place: low.place, term: self.term, ended: false, progress }, mark)
    }

    /// The cursor is durable. Answers the users who waited for that and have more deliveries.
    pub(in crate::webhooks) fn saved(&mut self, mark: SaveMark) -> Vec<UserId> {
        self.saved = mark.next;
        self.died.drain(..mark.died.min(self.died.len()));
        // What was in force between two cursors is said by the two together.
        let needless = self.filters.iter().skip(1).take_while(|(from, _)| *from <= mark.start);
        let needless = needless.count();
        self.filters.drain(..needless);
        if self.halted.is_some() {
            return Vec::new();
        }
        let users = &self.users;
        let covered = self.stalled.extract_if(.., |stall| stall.is_over(&mark, users));
        let covered: Vec<UserId> = covered.map(|stall| stall.user).collect();
        covered.into_iter().filter(|user| self.resume(*user)).collect()
    }

    /// The save failed: what it would have covered is still to be saved.
    pub(in crate::webhooks) fn save_failed(&mut self, mark: SaveMark) {
        self.dirty = true;
        self.silent += mark.silent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::journal::{Epoch, ReaderRule};
    use crate::webhooks::feed::{Fed, Said};
    use crate::webhooks::switches::Switches;

    const PARTITION: Partition = Partition(0);
    /// The cursor's place.
    const FLOOR: u64 = 5;

    fn at(offset: u64) -> Place {
        Place::new(Offset(offset), ReaderRule::resume(Epoch(1), offset))
    }

    /// A lane that goes on with a user who was parked before its cursor's place.
    fn searching() -> Lane {
        let parked = Parked {
            user: UserId::parse("amy").expect("a name"),
            first: Offset(1),
            done: 0,
            attempts: 1,
            since: Timestamp(0),
            error: "".into(),
        };
        let progress =
            Progress { resume: Some(at(1)), parked: vec![parked], ..Progress::default() };
        let cursor = Cursor { place: at(FLOOR), term: 0, ended: false, progress };
        let scope = Scope { commands: Switches::ALL, ..Scope::default() };
        Lane::begin(PARTITION, AppId(1), &scope, Some(cursor), at(9))
    }

    /// Rule: a halt is durable, and before its floor a lane has no cursor to say so.
    #[test]
    fn a_lane_that_halts_before_its_floor_reads_on_to_it_and_says_so_there() {
        let mut lane = searching();
        lane.halt("it has failed too often");
        for offset in 1..FLOOR {
            assert!(!lane.worth_saving(false), "offset {offset}");
            assert_eq!(lane.reads_from().map(|place| place.next), Some(Offset(offset)));
            let after = ReaderRule::resume(Epoch(1), offset + 1);
            lane.take(&Fed { offset: Offset(offset), after, said: Said::Other });
        }
        assert_eq!(lane.reads_from(), None);
        assert!(lane.worth_saving(false));
        assert!(lane.cursor().0.progress.halted.is_some());
    }
}
