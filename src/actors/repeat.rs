//! What this partition has done lately, by request: a call that another node asks again, because it
//! never heard the answer, is done once and answered as the first time. Rule: cluster.md 2.4.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::domain::{EdgeId, Event, Rejection, Timestamp, UserId, UserKey};
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

/// What became of a user's own offer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answered {
    key: UserKey,
    edge: EdgeId,
    peer: UserId,
    came_to: Result<(), Rejection>,
}

/// What a record says about what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    at: Timestamp,
    key: UserKey,
    /// The call that the record is the command's of; nothing for a record that answers effects.
    call: Option<Call>,
    answers: SmallVec<[Answered; 1]>,
}

/// A command that is in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    request: Uuid,
    /// Whom its events are about.
    peers: SmallVec<[UserId; 2]>,
    /// It has an event about the account itself.
    account: bool,
    offers: SmallVec<[(UserId, EdgeId); 1]>,
}

impl Call {
    /// The same call has done more, when it was asked again.
    fn go_on(&mut self, more: Self) {
        self.peers.extend(more.peers);
        self.account |= more.account;
        self.offers.extend(more.offers);
    }
}

impl Done {
    /// What a record did, if that is worth remembering.
    pub(super) fn of(commit: &Commit) -> Option<Self> {
        let answers: SmallVec<[Answered; 1]> = commit
            .events
            .iter()
            .filter_map(|event| {
                let (peer, edge, came_to) = match event {
                    Event::OfferConfirmed { peer, edge, .. } => (*peer, *edge, Ok(())),
                    Event::OfferEnded { peer, edge, why } => (*peer, *edge, Err(*why)),
                    Event::OfferPending { peer, edge } => {
                        (*peer, *edge, Err(Rejection::ConfirmationNeeded))
                    }
                    _ => return None,
                };
                Some(Answered { key: commit.key, edge, peer, came_to })
            })
            .collect();
        let call = commit.cause.is_none().then(|| Call {
            request: commit.by.request,
            peers: commit.events.iter().filter_map(Event::peer).collect(),
            account: commit.events.iter().any(|event| event.peer().is_none()),
            offers: commit
                .events
                .iter()
                .filter_map(|event| match event {
                    Event::FriendOffered { peer, edge, .. } => Some((*peer, *edge)),
                    _ => None,
                })
                .collect(),
        });
        let said_nothing = call.is_none() && answers.is_empty();
        (!said_nothing).then_some(Self { at: commit.at, key: commit.key, call, answers })
    }
}

/// What a call that is asked again has done before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    peers: SmallVec<[UserId; 2]>,
    account: bool,
    answered: SmallVec<[(UserId, Result<(), Rejection>); 1]>,
}

impl Before {
    /// Whether it did something about `peer`.
    pub(super) fn touched(&self, peer: &UserId) -> bool {
        self.peers.contains(peer)
    }

    /// Whether it did something about the account itself.
    pub(super) fn touched_account(&self) -> bool {
        self.account
    }

    /// What `peer` answered to its offer, if that is known.
    pub(super) fn answer_of(&self, peer: &UserId) -> Option<Result<(), Rejection>> {
        self.answered.iter().find(|(known, _)| known == peer).map(|(_, came_to)| *came_to)
    }
}

type OfferName = (UserKey, UserId, EdgeId);

/// What was done lately: commands, and answers to offers.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    calls: HashMap<(Uuid, UserKey), Call, RandomState>,
    answers: HashMap<OfferName, Result<(), Rejection>, RandomState>,
    order: VecDeque<(Timestamp, Name)>,
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Call(Uuid, UserKey),
    Answer(OfferName),
}

impl Repeats {
    /// Remembers what a record did, in place of the oldest: as soon as it is sent, because the call
    /// may come again before it is final. What is answered then waits for the record, too.
    pub(super) fn note(&mut self, Done { at, key, call, answers }: Done) {
        for Answered { key, edge, peer, came_to } in answers {
            let name = (key, peer, edge);
            if self.answers.insert(name, came_to).is_none() {
                self.order.push_back((at, Name::Answer(name)));
            }
        }
        if let Some(call) = call {
            match self.calls.entry((call.request, key)) {
                Entry::Occupied(known) => known.into_mut().go_on(call),
                Entry::Vacant(vacant) => {
                    self.order.push_back((at, Name::Call(call.request, key)));
                    vacant.insert(call);
                }
            }
        }
        while let Some((since, oldest)) = self.order.front() {
            if self.order.len() <= REPEATS_MAX && at.0 - since.0 <= REPEATS_MS {
                break;
            }
            match oldest {
                Name::Call(request, key) => drop(self.calls.remove(&(*request, *key))),
                Name::Answer(name) => drop(self.answers.remove(name)),
            }
            self.order.pop_front();
        }
    }

    /// The record may not be in the journal. What is known of its call from records that are comes
    /// again with the recovery.
    pub(super) fn take_back(&mut self, done: &Done) {
        if let Some(call) = &done.call {
            self.calls.remove(&(call.request, done.key));
        }
        for Answered { key, edge, peer, .. } in &done.answers {
            self.answers.remove(&(*key, *peer, *edge));
        }
    }

    /// What `request` has done to `key` already.
    pub(super) fn find(&self, request: Uuid, key: UserKey) -> Option<Before> {
        let call = self.calls.get(&(request, key))?;
        let answered = call
            .offers
            .iter()
            .filter_map(|(peer, edge)| Some((*peer, *self.answers.get(&(key, *peer, *edge))?)));
        Some(Before {
            peers: call.peers.clone(),
            account: call.account,
            answered: answered.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AppId, Version};

    fn id(name: &str) -> UserId {
        UserId::parse(name).expect("a name")
    }

    fn key() -> UserKey {
        UserKey { app: AppId(1), user: id("amy") }
    }

    fn edge(version: u64) -> EdgeId {
        EdgeId { offerer: key().user, version: Version(version) }
    }

    fn done(number: u128, at: i64) -> Done {
        let call = Call {
            request: Uuid::from_u128(number),
            peers: SmallVec::new(),
            account: true,
            offers: SmallVec::from_iter([(id("bob"), edge(7))]),
        };
        Done { key: key(), at: Timestamp(at), call: Some(call), answers: SmallVec::new() }
    }

    #[test]
    fn what_was_done_lately_is_found_by_its_request_and_user() {
        let mut repeats = Repeats::default();
        repeats.note(done(1, 0));
        let before = repeats.find(Uuid::from_u128(1), key()).expect("it was done");
        assert!(before.touched_account() && !before.touched(&id("bob")));
        assert_eq!(repeats.find(Uuid::from_u128(2), key()), None);
        assert_eq!(repeats.find(Uuid::from_u128(1), UserKey { user: id("bob"), ..key() }), None);
    }

    #[test]
    fn what_was_answered_to_an_offer_of_the_call_is_known_and_nothing_of_other_offers() {
        let mut repeats = Repeats::default();
        repeats.note(done(1, 0));
        let answered = |version, came_to| Done {
            call: None,
            answers: SmallVec::from_iter([Answered {
                key: key(),
                edge: edge(version),
                peer: id("bob"),
                came_to,
            }]),
            ..done(1, 0)
        };
        repeats.note(answered(6, Ok(())));
        let answer = |repeats: &Repeats| {
            repeats.find(Uuid::from_u128(1), key()).expect("it was done").answer_of(&id("bob"))
        };
        assert_eq!(answer(&repeats), None);
        repeats.note(answered(7, Err(Rejection::AlreadyFriend)));
        assert_eq!(answer(&repeats), Some(Err(Rejection::AlreadyFriend)));
    }

    #[test]
    fn what_may_not_be_in_the_journal_is_taken_back() {
        let mut repeats = Repeats::default();
        repeats.note(done(1, 0));
        repeats.take_back(&done(1, 0));
        assert_eq!(repeats.find(Uuid::from_u128(1), key()), None);
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many_or_they_are_too_old() {
        let mut repeats = Repeats::default();
        for number in 0..=REPEATS_MAX as u128 {
            repeats.note(done(number, 0));
        }
        assert_eq!(repeats.find(Uuid::from_u128(0), key()), None);
        assert!(repeats.find(Uuid::from_u128(1), key()).is_some());
        repeats.note(done(u128::MAX, REPEATS_MS + 1));
        assert_eq!(repeats.find(Uuid::from_u128(1), key()), None);
        assert_eq!((repeats.calls.len(), repeats.order.len()), (1, 1));
    }
}
