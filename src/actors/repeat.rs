//! What this partition has done lately, by request: a call that another node asks again, because it
//! never heard the answer, is done once and answered as the first time. Rule: cluster.md 2.4.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::domain::{Timestamp, UserId, UserKey};
use crate::journal::Commit;
use crate::store::CursorMark;

/// How many are remembered per partition.
const REPEATS_MAX: usize = 10_000;
/// How long they are remembered, in milliseconds: longer than any caller goes on asking.
const REPEATS_MS: i64 = 600_000;

/// How far back a recovery looks for commands: longer than a call is asked again.
const LATELY: Duration = Duration::from_secs(10);

/// Places of the last seconds, one per checkpoint.
#[derive(Debug, Default)]
pub(super) struct Lately(VecDeque<(Instant, CursorMark)>);

impl Lately {
    /// The last known place is this one, and nothing later.
    pub(super) fn begin(place: CursorMark) -> Self {
        Self(VecDeque::from([(Instant::now(), place)]))
    }

    /// A checkpoint stands at `place`; answers the place to look back to from there.
    pub(super) fn note(&mut self, place: CursorMark) -> CursorMark {
        let now = Instant::now();
        self.0.push_back((now, place));
        // The oldest is kept while the one behind it is too young to take its part.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= LATELY) {
            self.0.pop_front();
        }
        self.0.front().map_or(place, |(_, place)| *place)
    }
}

/// A command that is in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    request: Uuid,
    key: UserKey,
    at: Timestamp,
    /// Whom its events are about.
    peers: SmallVec<[UserId; 2]>,
    /// It has an event about the account itself.
    account: bool,
}

impl Done {
    /// What a command's record did; nothing for a record that answers effects.
    pub(super) fn of(commit: &Commit) -> Option<Self> {
        if commit.cause.is_some() {
            return None;
        }
        let peers = commit.events.iter().filter_map(|event| event.peer()).collect();
        let account = commit.events.iter().any(|event| event.peer().is_none());
        Some(Self { request: commit.by.request, key: commit.key, at: commit.at, peers, account })
    }

    /// Whether it did something about `peer`.
    pub(super) fn touched(&self, peer: &UserId) -> bool {
        self.peers.contains(peer)
    }

    /// Whether it did something about the account itself.
    pub(super) fn touched_account(&self) -> bool {
        self.account
    }
}

/// The commands that were done lately.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    done: HashMap<(Uuid, UserKey), Done, RandomState>,
    order: VecDeque<(Uuid, UserKey)>,
}

impl Repeats {
    /// Remembers a command whose record is final, in place of the oldest.
    pub(super) fn note(&mut self, done: Done) {
        let (name, now) = ((done.request, done.key), done.at);
        if self.done.insert(name, done).is_none() {
            self.order.push_back(name);
        }
        while let Some(oldest) = self.order.front() {
            let old = |done: &Done| now.0 - done.at.0 > REPEATS_MS;
            if self.order.len() <= REPEATS_MAX && !self.done.get(oldest).is_none_or(old) {
                break;
            }
            self.done.remove(oldest);
            self.order.pop_front();
        }
    }

    /// What `request` has done to `key` already.
    pub(super) fn find(&self, request: Uuid, key: UserKey) -> Option<&Done> {
        self.done.get(&(request, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AppId;

    fn done(number: u128, at: i64) -> Done {
        Done {
            request: Uuid::from_u128(number),
            key: UserKey { app: AppId(1), user: UserId::parse("amy").expect("a name") },
            at: Timestamp(at),
            peers: SmallVec::new(),
            account: true,
        }
    }

    #[test]
    fn what_was_done_lately_is_found_by_its_request_and_user() {
        let mut repeats = Repeats::default();
        repeats.note(done(1, 0));
        let key = done(1, 0).key;
        assert_eq!(repeats.find(Uuid::from_u128(1), key), Some(&done(1, 0)));
        assert_eq!(repeats.find(Uuid::from_u128(2), key), None);
        let bob = UserKey { user: UserId::parse("bob").expect("a name"), ..key };
        assert_eq!(repeats.find(Uuid::from_u128(1), bob), None);
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many_or_they_are_too_old() {
        let mut repeats = Repeats::default();
        let key = done(0, 0).key;
        for number in 0..=REPEATS_MAX as u128 {
            repeats.note(done(number, 0));
        }
        assert_eq!(repeats.find(Uuid::from_u128(0), key), None);
        assert!(repeats.find(Uuid::from_u128(1), key).is_some());
        repeats.note(done(u128::MAX, REPEATS_MS + 1));
        assert_eq!(repeats.find(Uuid::from_u128(1), key), None);
        assert_eq!((repeats.done.len(), repeats.order.len()), (1, 1));
    }
}
