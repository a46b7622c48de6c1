//! What this partition has done lately, by request: a call that another node asks again, because it
//! never heard the answer, is done once and answered as the first time. Rule: cluster.md 2.4. And a
//! message that its sender sends again is one message. Rule: rest-api.md 8.1.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use uuid::Uuid;

use xxhash_rust::xxh3::Xxh3;

use crate::domain::{
    CameTo, EdgeId, Event, Message, Rejection, Timestamp, Traces, UserId, UserKey, Verdict, Wanted,
};
use crate::journal::Commit;
use crate::journal::Place;

/// How many commands and answers are remembered per partition: those of ten seconds and more, also where
/// all that a node can do comes to a few partitions.
const REPEATS_MAX: usize = 50_000;
/// How many messages: more than an app may send in two minutes, by far.
const MESSAGES_MAX: usize = 200_000;
/// How long they are remembered, in milliseconds: longer than any caller goes on asking.
const REPEATS_MS: i64 = 600_000;
/// The most that one record may be later than the one before it, in milliseconds: a new owner's clock may
/// be far ahead of the former one's.
const STEP_MS_MAX: i64 = 60_000;

/// How far back a recovery looks for commands: longer than a call is asked again, whatever
/// `http.request_timeout_ms` is.
pub(super) const LATELY: Duration = Duration::from_secs(10);
/// How far back it looks for messages: a little longer than they are compared.
const MESSAGES_LATELY: Duration = Duration::from_secs(125);
/// How long an equal message is the same one, in milliseconds. Rule: rest-api.md 8.1.
const SAME_MESSAGE_MS: i64 = 120_000;

/// Whether an equal message said at `at` is the same one at `now`: also if the clock went back a little,
/// and not if it went back far.
fn is_lately(at: Timestamp, now: Timestamp) -> bool {
    now.0.abs_diff(at.0) <= SAME_MESSAGE_MS as u64
}

/// Places of the last seconds, one per checkpoint.
#[derive(Debug, Default)]
pub(super) struct Lately {
    places: VecDeque<(Instant, Place)>,
    /// When the last message was heard of.
    message: Option<Instant>,
}

impl Lately {
    /// The last known place is this one, and nothing later.
    pub(super) fn begin(place: Place) -> Self {
        Self { places: VecDeque::from([(Instant::now(), place)]), message: None }
    }

    /// A message was taken over, or read of.
    pub(super) fn note_message(&mut self) {
        self.message = Some(Instant::now());
    }

    /// A checkpoint stands at `place`; answers the place to look back to from there: `commands` back,
    /// or longer if there was a message.
    pub(super) fn note(&mut self, place: Place, commands: Duration) -> Place {
        let now = Instant::now();
        self.places.push_back((now, place));
        let message = self.message.is_some_and(|at| now.duration_since(at) < MESSAGES_LATELY);
        let back = if message { MESSAGES_LATELY } else { commands };
        // The oldest is kept while the one behind it is too young to take its part.
        while self.places.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= back) {
            self.places.pop_front();
        }
        self.places.front().map_or(place, |(_, place)| *place)
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
    message: Option<Said>,
}

/// A message that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    content: u128,
    /// `MsgTime`.
    time: u32,
}

/// What makes two messages of one sender the same one, besides the time: what the sender said, whatever
/// a verdict has made of it.
fn content(message: &Message, verdict: Option<&Verdict>) -> u128 {
    let before = verdict.and_then(|verdict| verdict.before.as_deref());
    let (body, custom_data) = match before {
        Some(words) => (&words.body, &words.custom_data),
        None => (&message.body, &message.custom_data),
    };
    let mut hash = Xxh3::new();
    for receiver in &message.to {
        hash.update(receiver.as_bytes());
        hash.update(&[0]);
    }
    hash.update(&message.seq.to_le_bytes());
    hash.update(&message.random.to_le_bytes());
    hash.update(custom_data.as_bytes());
    hash.update(&[0]);
    hash.update(body.as_bytes());
    hash.digest128()
}

/// A command that is in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    request: Uuid,
    /// Whom its events are about.
    peers: SmallVec<[UserId; 2]>,
    /// It has an event about what is the user's own.
    own: bool,
    /// It holds what was said to it beforehand.
    judged: bool,
    offers: SmallVec<[(UserId, EdgeId); 1]>,
}

impl Call {
    /// The same call has done more, when it was asked again; or the same record was read again.
    fn go_on(&mut self, more: Self) {
        self.peers.extend(more.peers);
        self.peers.sort_unstable();
        self.peers.dedup();
        self.own |= more.own;
        self.judged |= more.judged;
        self.offers.extend(more.offers);
        self.offers.sort_unstable();
        self.offers.dedup();
    }
}

impl Done {
    /// What a record did, if that is worth remembering.
    pub(super) fn of(commit: &Commit) -> Option<Self> {
        let answers: SmallVec<[Answered; 1]> = commit
            .events
            .iter()
            .filter_map(|event| {
                let (peer, edge, outcome) = event.offer_outcome()?;
                Some(Answered { key: commit.key, edge, peer, came_to: outcome.answer()? })
            })
            .collect();
        let call = commit.cause.is_none().then(|| Call {
            request: commit.by.request,
            peers: commit.events.iter().flat_map(Event::peers).copied().collect(),
            own: commit.events.iter().any(Event::is_own),
            judged: verdict_of(commit).is_some(),
            offers: commit.events.iter().filter_map(Event::offered).collect(),
        });
        let message = Self::of_message(commit).and_then(|done| done.message);
        let said_nothing = call.is_none() && answers.is_empty() && message.is_none();
        (!said_nothing).then_some(Self { at: commit.at, key: commit.key, call, answers, message })
    }

    /// The message that a record takes over, and nothing else: where calls are never asked again.
    pub(super) fn of_message(commit: &Commit) -> Option<Self> {
        let message = commit.events.iter().find_map(Event::message)?;
        let content = content(message, verdict_of(commit));
        let message = Some(Said { content, time: message.time });
        let answers = SmallVec::new();
        Some(Self { at: commit.at, key: commit.key, call: None, answers, message })
    }

    /// Whether it is about a message.
    pub(super) fn is_message(&self) -> bool {
        self.message.is_some()
    }
}

/// What was said beforehand to what a record does.
fn verdict_of(commit: &Commit) -> Option<&Verdict> {
    commit.events.iter().find_map(Event::verdict)
}

/// What a call that is asked again has done before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DoneBefore {
    peers: SmallVec<[UserId; 2]>,
    own: bool,
    judged: bool,
    /// Its offers, and what came of them.
    offers: SmallVec<[Offered; 1]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) peer: UserId,
    pub(super) edge: EdgeId,
    /// What the peer answered, if that is known.
    pub(super) came_to: Option<Result<(), Rejection>>,
}

impl DoneBefore {
    /// What the user `offerer` keeps of a call with a key, which nobody was told the end of.
    pub(super) fn of_kept(offerer: UserId, traces: &Traces) -> Self {
        let offered = |one: &Wanted| Offered {
            peer: one.peer,
            edge: EdgeId { offerer, version: one.offered },
            came_to: match one.came_to {
                CameTo::Open => None,
                CameTo::Made => Some(Ok(())),
                CameTo::Refused(why) => Some(Err(why)),
            },
        };
        let wanted = traces.wanted.iter();
        Self {
            peers: traces.peers.iter().copied().chain(wanted.clone().map(|one| one.peer)).collect(),
            own: traces.account,
            judged: traces.verdict.is_some(),
            offers: wanted.map(offered).collect(),
        }
    }

    /// The users that it changed something about, in the order of the events.
    pub(super) fn peers(&self) -> &[UserId] {
        &self.peers
    }

    /// Whether it did something about `peer`.
    pub(super) fn touched(&self, peer: &UserId) -> bool {
        self.peers.contains(peer)
    }

    /// Whether it did something about what is the user's own.
    pub(super) fn touched_own(&self) -> bool {
        self.own
    }

    /// Whether what was said to it beforehand is kept already.
    pub(super) fn is_judged(&self) -> bool {
        self.judged
    }

    /// The offers that it made.
    pub(super) fn offers(&self) -> &[Offered] {
        &self.offers
    }
}

type OfferName = (UserKey, UserId, EdgeId);

/// What was done lately: commands, answers to offers, and messages.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    calls: HashMap<(Uuid, UserKey), Call, RandomState>,
    answers: HashMap<OfferName, Result<(), Rejection>, RandomState>,
    messages: HashMap<(UserKey, u128), (Timestamp, u32), RandomState>,
    /// Calls and answers in the order in which they were heard of, and when by `now_ms`.
    order: VecDeque<(i64, Name)>,
    /// Messages in the order of their records.
    said: VecDeque<(Timestamp, UserKey, u128)>,
    /// The time of the last record. `now_ms` is the time that has passed by the records, without jumps.
    last: Option<Timestamp>,
    now_ms: i64,
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Call(Uuid, UserKey),
    Answer(OfferName),
}

impl Repeats {
    /// Remembers what a record did, in place of the oldest: as soon as it is sent, because the call
    /// may come again before it is final. What is answered then waits for the record, too.
    pub(super) fn note(&mut self, Done { at, key, call, answers, message }: Done) {
        let later_ms = self.last.replace(at).map_or(0, |last| at.0.saturating_sub(last.0));
        self.now_ms += later_ms.clamp(0, STEP_MS_MAX);
        for Answered { key, edge, peer, came_to } in answers {
            self.note_answer((key, peer, edge), came_to);
        }
        if let Some(said) = message {
            self.note_message(at, key, said);
        }
        if let Some(call) = call {
            self.note_call(key, call);
        }
        self.forget_messages(at);
        self.forget_calls();
    }

    fn note_answer(&mut self, name: OfferName, came_to: Result<(), Rejection>) {
        // The first one is what the caller was told.
        if let Entry::Vacant(vacant) = self.answers.entry(name) {
            self.order.push_back((self.now_ms, Name::Answer(name)));
            vacant.insert(came_to);
        }
    }

    fn note_call(&mut self, key: UserKey, call: Call) {
        match self.calls.entry((call.request, key)) {
            Entry::Occupied(known) => known.into_mut().go_on(call),
            Entry::Vacant(vacant) => {
                self.order.push_back((self.now_ms, Name::Call(call.request, key)));
                vacant.insert(call);
            }
        }
    }

    fn note_message(&mut self, at: Timestamp, key: UserKey, Said { content, time }: Said) {
        // What is known of the message may be this record already, or a later one.
        let known = self.messages.get(&(key, content));
        if known.is_none_or(|(last, _)| *last < at || !is_lately(*last, at)) {
            self.messages.insert((key, content), (at, time));
            self.said.push_back((at, key, content));
        }
    }

    /// Those that nothing is compared with at `now`. By the clock alone, as they are compared.
    fn forget_messages(&mut self, now: Timestamp) {
        while let Some((since, key, content)) = self.said.front() {
            if self.said.len() <= MESSAGES_MAX && is_lately(*since, now) {
                break;
            }
            // It may have been said again since.
            if self.messages.get(&(*key, *content)).is_some_and(|(last, _)| last == since) {
                self.messages.remove(&(*key, *content));
            }
            self.said.pop_front();
        }
    }

    fn forget_calls(&mut self) {
        while let Some((since_ms, oldest)) = self.order.front() {
            if self.order.len() <= REPEATS_MAX && self.now_ms - since_ms <= REPEATS_MS {
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
        if let Some(Said { content, .. }) = &done.message {
            self.messages.remove(&(done.key, *content));
        }
    }

    /// When the sender `key` sent an equal message shortly before `now`: its `MsgTime`.
    pub(super) fn sent_before(
        &self,
        key: UserKey,
        message: &Message,
        verdict: Option<&Verdict>,
        now: Timestamp,
    ) -> Option<u32> {
        if self.messages.is_empty() {
            return None;
        }
        let (at, time) = self.messages.get(&(key, content(message, verdict)))?;
        is_lately(*at, now).then_some(*time)
    }

    /// Takes over what another memory knows; of what both know nothing is kept twice, however often it
    /// is taken over: a claim that comes to nothing reads the same records again.
    pub(super) fn absorb(&mut self, mut other: Self) {
        for (_, name) in std::mem::take(&mut other.order) {
            match name {
                Name::Call(request, key) => {
                    let Some(call) = other.calls.remove(&(request, key)) else { continue };
                    self.note_call(key, call);
                }
                Name::Answer(name) => {
                    let Some(came_to) = other.answers.remove(&name) else { continue };
                    self.note_answer(name, came_to);
                }
            }
            self.forget_calls();
        }
        for (at, key, content) in other.said {
            let Some((_, time)) = other.messages.get(&(key, content)) else { continue };
            self.note_message(at, key, Said { content, time: *time });
            self.forget_messages(at);
        }
    }

    /// What `request` has done to `key` already.
    pub(super) fn find(&self, request: Uuid, key: UserKey) -> Option<DoneBefore> {
        let call = self.calls.get(&(request, key))?;
        let offered = |(peer, edge): &(UserId, EdgeId)| Offered {
            peer: *peer,
            edge: *edge,
            came_to: self.answers.get(&(key, *peer, *edge)).copied(),
        };
        Some(DoneBefore {
            peers: call.peers.clone(),
            own: call.own,
            judged: call.judged,
            offers: call.offers.iter().map(offered).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
