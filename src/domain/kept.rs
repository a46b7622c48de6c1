//! Calls that carry a key of the caller's own, and what they were answered: a call that comes again
//! under its key is done once and answered as the first time. Rule: extensions.md 1,
//! `Idempotency-Key`.
//!
//! An app's keys are spread over a number of books, which are streams like those of users: a book says
//! for which call a key stands, and what that was answered. What a call did is kept by the users whom
//! it changed, in the record of the change.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::event::Event;
use super::id::{EdgeId, Timestamp, UserId, Version};
use super::rejection::Rejection;
use super::roll::{Entry, Roll};
use super::user::User;
use super::verdict::Verdict;

/// How long an answer is kept, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// How many books an app has.
const BOOKS: u32 = 1024;
/// What the names of books begin with; no account may be called so.
const BOOK_PREFIX: &str = "~kept-answers-";

/// How much is kept in one place; the oldest gives way to the new.
struct Room {
    calls_max: usize,
    bytes_max: usize,
}

/// Of a book.
const BOOK: Room = Room { calls_max: 4096, bytes_max: 4 << 20 };
/// Of a user: nobody asks for it any more once the call was answered. Small in tests, where it has to
/// be full now and then.
const USER: Room = Room { calls_max: 100, bytes_max: if cfg!(test) { 200 } else { 1 << 20 } };

/// The book in which the key is found.
pub fn book_of(key: &UserId) -> UserId {
    let digits = key.as_str().get(..8).unwrap_or_default();
    let number = u32::from_str_radix(digits, 16).unwrap_or_default() % BOOKS;
    UserId::parse(&format!("{BOOK_PREFIX}{number:04}")).expect("a prefix and digits are a name")
}

/// Whether this is the name of a book.
pub fn is_book(name: &UserId) -> bool {
    name.as_str().starts_with(BOOK_PREFIX)
}

/// A call with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallKey {
    /// The hash of the key that the caller chose, 32 hex digits.
    pub key: UserId,
    /// The hash of what is asked, 32 hex digits: the same key may not stand for something else.
    pub asked: UserId,
}

/// What is kept of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kept {
    /// Which call.
    pub call: CallKey,
    /// The id of the request that did it: a repeat takes it over.
    pub request: Uuid,
    /// When it was last heard of.
    pub at: Timestamp,
    /// What it did, as far as a repeat has to know.
    pub traces: Traces,
    /// What it was answered; none while nobody was.
    pub answer: Option<Box<KeptAnswer>>,
}

/// What a call has done, as far as a repeat of it would find it done already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct Traces {
    /// The users that it changed something about or wrote to, except those it wanted as friends.
    pub peers: Vec<UserId>,
    /// It did something about the account itself: its profile and its friend groups, too.
    pub account: bool,
    /// The `MsgTime` of the message that it sent.
    pub sent_at: Option<u32>,
    /// What was said to it beforehand: it stands, and nobody is asked again.
    #[serde(default)]
    pub verdict: Option<Box<Verdict>>,
    /// Whom it wanted as friends.
    #[serde(default)]
    pub wanted: Vec<Wanted>,
}

/// A friend that a call wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// The wanted friend.
    pub peer: UserId,
    /// The version of the record with the offer.
    pub offered: Version,
    /// What came of it.
    pub came_to: CameTo,
}

/// What came of a wish for a friend: what the call is answered, however often it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameTo {
    /// The peer has not answered the offer, or the user has taken it back before that.
    Open,
    /// The friend was there already, or the peer's answer was yes.
    Made,
    /// The offer was refused, or waits for the peer.
    Refused(Rejection),
}

impl Serialize for Traces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { peers, account, sent_at, verdict, wanted } = self;
        let whole = !serializer.is_human_readable();
        let mut traces = serializer.serialize_struct("Traces", 5)?;
        traces.serialize_field("peers", peers)?;
        traces.serialize_field("account", account)?;
        traces.serialize_field("sent_at", sent_at)?;
        // The rows of the state store have no names of fields; texts leave out what they never had.
        if whole || verdict.is_some() {
            traces.serialize_field("verdict", verdict)?;
        }
        if whole || !wanted.is_empty() {
            traces.serialize_field("wanted", wanted)?;
        }
        traces.end()
    }
}

/// An answer, as it went out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// `ErrorCode`.
    pub code: u32,
    /// The body.
    pub body: Box<str>,
    /// Where the changes stand: partitions and offsets.
    pub positions: Vec<(u16, u64)>,
}

/// The calls that are kept, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeptCalls {
    list: Roll<Kept>,
    /// What they hold on the heap beside the list: counted as they come and go, for there may be many.
    bytes: usize,
}

impl KeptCalls {
    pub(super) const fn new() -> Self {
        Self { list: Roll::new(), bytes: 0 }
    }

    pub(super) fn get(&self, key: &UserId) -> Option<&Kept> {
        self.list.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.list.iter()
    }

    pub(super) fn put(&mut self, kept: Kept) {
        self.remove(&kept.call.key);
        self.bytes += kept.heap_bytes();
        self.list.put(kept);
    }

    pub(super) fn remove(&mut self, key: &UserId) -> Option<Kept> {
        let kept = self.list.remove(key)?;
        self.bytes -= kept.heap_bytes();
        Some(kept)
    }

    /// The calls with an offer to `peer` that is not answered.
    fn awaiting(&self, peer: &UserId) -> impl Iterator<Item = UserId> {
        let awaits = |kept: &&Kept| kept.traces.wanted.iter().any(|one| one.awaits(peer));
        self.list.iter().filter(awaits).map(|kept| kept.call.key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What came of all offers that are not answered.
    pub(super) fn close_offers(&mut self, came_to: CameTo) {
        for kept in self.list.iter_mut() {
            let wanted = kept.traces.wanted.iter_mut();
            let open = wanted.filter(|one| one.came_to == CameTo::Open);
            open.for_each(|one| one.came_to = came_to);
        }
    }

    /// What came of the offer to `peer` that was made at `offered`, if nothing has yet.
    fn note_came_to(&mut self, peer: &UserId, offered: Version, came_to: CameTo) {
        for kept in self.list.iter_mut() {
            let wanted = kept.traces.wanted.iter_mut();
            let answered = wanted.filter(|one| one.awaits(peer) && one.offered == offered);
            answered.for_each(|one| one.came_to = came_to);
        }
    }

    /// A rough count of the bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.list.heap_bytes() + self.bytes
    }
}

impl Entry for Kept {
    fn peer(&self) -> &UserId {
        &self.call.key
    }
}

impl Kept {
    /// Whether it still counts.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.0 - self.at.0 <= KEPT_MS
    }

    /// A rough count of the bytes that it holds on the heap.
    fn heap_bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.body.len()) + self.traces.bytes()
    }
}

impl Wanted {
    fn awaits(&self, peer: &UserId) -> bool {
        self.peer == *peer && self.came_to == CameTo::Open
    }
}

impl Traces {
    fn bytes(&self) -> usize {
        let verdict = self.verdict.as_ref().map_or(0, |verdict| verdict.bytes());
        let wanted = self.wanted.len() * size_of::<Wanted>();
        self.peers.len() * size_of::<UserId>() + wanted + verdict
    }

    /// Whether the call's message went to `receiver`.
    pub fn sent_to(&self, receiver: &UserId) -> bool {
        self.peers.binary_search(receiver).is_ok()
    }

    /// What `events` of one record, which has this `version`, leave behind.
    fn of(events: &[Event], version: Version) -> Self {
        let mut traces = Self::default();
        for event in events {
            match event {
                Event::FriendOffered { peer, edge, .. } => {
                    traces.want(*peer, edge.version, CameTo::Open);
                }
                // Of an import: nobody is asked.
                Event::FriendUpdated { peer, .. } => traces.want(*peer, version, CameTo::Made),
                Event::MessageAccepted(message) => {
                    traces.sent_at = Some(message.time);
                    traces.peers.extend(&message.to);
                }
                Event::VerdictGiven(verdict) => traces.verdict = Some(Box::new(verdict.clone())),
                event => {
                    traces.account |= event.is_own();
                    traces.peers.extend(event.peers());
                }
            }
        }
        let Self { peers, wanted, .. } = &mut traces;
        peers.retain(|peer| wanted.iter().all(|one| one.peer != *peer));
        peers.sort_unstable();
        peers.dedup();
        traces
    }

    /// The first item about a peer is the one that counts.
    fn want(&mut self, peer: UserId, offered: Version, came_to: CameTo) {
        if self.wanted.iter().all(|one| one.peer != peer) {
            self.wanted.push(Wanted { peer, offered, came_to });
        }
    }
}

impl User {
    /// What is kept of the call `key`.
    pub fn kept(&self, key: &UserId) -> Option<&Kept> {
        self.rare.calls.get(key)
    }

    /// The calls that are kept, by key.
    pub fn kept_calls(&self) -> impl Iterator<Item = &Kept> {
        self.rare.calls.iter()
    }

    /// The keys whose rows change when a call is kept at `at`, `bytes` of an answer with it.
    pub fn scope_of_call(&self, call: &CallKey, bytes: usize, at: Timestamp) -> Vec<UserId> {
        let mut keys = self.outdated(&call.key, bytes, at);
        keys.push(call.key);
        keys
    }

    /// The same when `events` are kept as what the call did: for how much is kept of it, and so for whom
    /// it leaves no room, is known only then.
    pub fn scope_of_done(&self, call: &CallKey, events: &[Event], at: Timestamp) -> Vec<UserId> {
        let traces = Traces::of(events, self.version.next());
        self.scope_of_call(call, traces.bytes(), at)
    }

    /// Opens the book at `call` and takes that into account. No event if the call is there already.
    ///
    /// Rejects: `KeyReused` if the key stands for another one.
    pub fn begin_call(
        &mut self,
        call: CallKey,
        request: Uuid,
        at: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        match self.kept(&call.key).filter(|known| known.is_fresh(at)) {
            Some(known) if known.call != call => Err(Rejection::KeyReused),
            Some(_) => Ok(Vec::new()),
            None => {
                let mut events = Vec::new();
                self.keep(&call, Event::CallBegun { call, request }, 0, &mut events, at);
                Ok(events)
            }
        }
    }

    /// Notes, and takes into account, that `events` of the record at hand do what `call` asks.
    pub fn keep_call(
        &mut self,
        call: CallKey,
        request: Uuid,
        events: &mut Vec<Event>,
        at: Timestamp,
    ) {
        let traces = Traces::of(events, self.version.next());
        let bytes = traces.bytes();
        self.keep(&call, Event::CallDone { call, request, traces }, bytes, events, at);
    }

    /// Answers what follows from `answer` being given to `call`, and takes it into account. Repeat:
    /// the first answer stays.
    pub fn keep_answer(
        &mut self,
        call: CallKey,
        request: Uuid,
        answer: KeptAnswer,
        at: Timestamp,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let known = self.kept(&call.key).filter(|known| known.is_fresh(at));
        if known.is_none_or(|known| known.answer.is_none()) {
            let bytes = answer.body.len();
            let answered = Event::CallAnswered { call, request, answer };
            self.keep(&call, answered, bytes, &mut events, at);
        }
        events
    }

    fn keep(
        &mut self,
        call: &CallKey,
        kept: Event,
        bytes: usize,
        events: &mut Vec<Event>,
        at: Timestamp,
    ) {
        let keys = self.outdated(&call.key, bytes, at);
        let forgotten = (!keys.is_empty()).then_some(Event::CallsForgotten { keys });
        for event in forgotten.into_iter().chain([kept]) {
            self.evolve(&event, at);
            events.push(event);
        }
    }

    /// The calls that are forgotten when another one is kept: those that are too old, and the oldest
    /// while there are too many.
    fn outdated(&self, key: &UserId, bytes: usize, at: Timestamp) -> Vec<UserId> {
        let Room { calls_max, bytes_max } = if is_book(&self.id) { BOOK } else { USER };
        let others = || self.rare.calls.iter().filter(|kept| kept.call.key != *key);
        let (mut count, mut total, mut old) = (1, bytes, false);
        for kept in others() {
            count += 1;
            total += kept.heap_bytes();
            old |= !kept.is_fresh(at);
        }
        if !old && count <= calls_max && total <= bytes_max {
            return Vec::new();
        }
        let mut oldest: Vec<&Kept> = others().collect();
        oldest.sort_by_key(|kept| kept.at);
        let outdated = oldest.into_iter().take_while(|kept| {
            let goes = !kept.is_fresh(at) || count > calls_max || total > bytes_max;
            count -= usize::from(goes);
            total -= if goes { kept.heap_bytes() } else { 0 };
            goes
        });
        outdated.map(|kept| kept.call.key).collect()
    }

    /// The calls whose rows change when an offer to one of `peers` is answered.
    pub(super) fn calls_awaiting(&self, peers: &[UserId]) -> Vec<UserId> {
        peers.iter().flat_map(|peer| self.rare.calls.awaiting(peer)).collect()
    }

    pub(super) fn note_came_to(&mut self, peer: &UserId, edge: &EdgeId, came_to: CameTo) {
        if self.rare.calls.awaiting(peer).next().is_some() {
            self.rare.calls.note_came_to(peer, edge.version, came_to);
        }
    }

    pub(super) fn note_call(
        &mut self,
        call: CallKey,
        request: Uuid,
        traces: Option<&Traces>,
        answer: Option<&KeptAnswer>,
        at: Timestamp,
    ) {
        let known = self.rare.calls.remove(&call.key);
        let known = known.filter(|known| known.call == call && known.is_fresh(at));
        let known = known.map(|known| (known.traces, known.answer));
        let (mut all, answered) = known.unwrap_or_default();
        if let Some(Traces { peers, account, sent_at, verdict, wanted }) = traces {
            all.peers.extend(peers);
            all.peers.sort_unstable();
            all.peers.dedup();
            all.account |= account;
            all.sent_at = all.sent_at.or(*sent_at);
            wanted.iter().for_each(|one| all.want(one.peer, one.offered, one.came_to));
            // The first one stands.
            all.verdict = all.verdict.or_else(|| verdict.clone());
        }
        let answer = answer.map(|answer| Box::new(answer.clone())).or(answered);
        self.rare.calls.put(Kept { call, request, at, traces: all, answer });
    }
}
