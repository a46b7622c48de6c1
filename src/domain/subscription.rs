//! Who hears of an app's events, and how: what operators set, move and replay; facts like any other.
//!
//! An app's subscriptions are kept by a stream of its own, under a name that no account can have.
//! Their secrets are sealed before they come here: the journal holds none that can be read.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::id::{Timestamp, UserId};
use super::policy::Policy;
use super::rejection::Rejection;
use super::seek::{Seek, SeekTo};
use super::user::{Decided, User, recorded};

/// The name of the stream that keeps an app's subscriptions; no account may be called so.
const KEEPER: &str = "~webhooks";

/// The stream that keeps an app's subscriptions.
pub fn keeper() -> UserId {
    UserId::parse(KEEPER).expect("it is a name")
}

/// Whether this is the name of the stream that keeps subscriptions.
pub fn is_keeper(name: &UserId) -> bool {
    name.as_str() == KEEPER
}

/// The name of the subscription that stands in the settings.
pub const MAIN: &str = "main";
/// Subscriptions of an app at most, whatever its settings say.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
/// The longest name of a subscription, in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// Replays of an app that run at the same time, at most.
pub const REPLAYS_MAX: usize = 16;
/// Calls that one replay may name, at most.
pub const REPLAYED_IDS_MAX: usize = 1000;
/// Users that one replay may name, at most.
pub const REPLAYED_USERS_MAX: usize = 100;
/// Secrets of a subscription at most: the one in use, and those that it replaces.
pub const SECRETS_MAX: usize = 4;

/// One subscription: what is asked for, where it goes and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subscription {
    /// 1 to 32 of `a` to `z`, `0` to `9` and `-`; unique in its app. The one of the settings file is
    /// called `main`.
    pub name: Box<str>,
    /// Where it is called; none for one that is only pulled.
    pub url: Option<Box<str>>,
    /// What is asked for, by the names on the wire.
    pub commands: Vec<Box<str>>,
    /// Off: nothing is sent and the cursors stay.
    pub enabled: bool,
    /// What calls look like.
    pub format: Format,
    /// Sealed secrets, newest first.
    pub secrets: Vec<SealedSecret>,
    /// The headers beside those of the format are sent.
    pub headers: bool,
    /// How calls are made and repeated.
    pub delivery: DeliveryTerms,
    /// What happens if a before-webhook is not answered.
    pub before: BeforeTerms,
}

/// What calls look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As the reference makes them. Rule: webhooks.md 2.
    #[default]
    Reference,
    /// As Standard Webhooks has them: `type`, `timestamp`, `data`, and a signature over all of it.
    Standard,
}

/// A secret that only the server can read.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The sealed text.
    pub sealed: Box<str>,
    /// Until when it signs, if another one has replaced it.
    pub until: Option<Timestamp>,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSecret").field("until", &self.until).finish_non_exhaustive()
    }
}

/// How calls are made and repeated. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliveryTerms {
    /// How long one attempt may take: [`Self::TIMEOUT_MS`].
    pub timeout_ms: u64,
    /// The wait before the second attempt: [`Self::RETRY_MIN_MS`].
    pub retry_min_ms: u64,
    /// The longest wait between two attempts: [`Self::RETRY_MAX_MS`].
    pub retry_max_ms: u64,
    /// One attempt per call, as in the reference with its retry switched off.
    pub call_once: bool,
    /// What happens to a call that fails again and again.
    pub policy: FailurePolicy,
    /// Attempts after which `policy` speaks, if it is not to hold the user: [`Self::ATTEMPTS_MAX`].
    pub attempts_max: u32,
    /// Calls in flight at most: [`Self::IN_FLIGHT_MAX`].
    pub in_flight_max: u32,
    /// Calls per second at most, if limited: [`Self::PER_SECOND`] without its 0.
    pub per_second: Option<u32>,
}

impl DeliveryTerms {
    /// The terms of whoever says nothing about them.
    pub const DEFAULT: Self = Self {
        timeout_ms: 2_000,
        retry_min_ms: 500,
        retry_max_ms: 60_000,
        call_once: false,
        policy: FailurePolicy::HoldUser,
        attempts_max: 20,
        in_flight_max: 64,
        per_second: None,
    };
    /// How long one attempt may be given.
    pub const TIMEOUT_MS: RangeInclusive<u64> = 100..=30_000;
    /// How long the wait before the second attempt may be.
    pub const RETRY_MIN_MS: RangeInclusive<u64> = 10..=600_000;
    /// How long the longest wait may be.
    pub const RETRY_MAX_MS: RangeInclusive<u64> = 10..=86_400_000;
    /// How many attempts there may be before the policy speaks.
    pub const ATTEMPTS_MAX: RangeInclusive<u64> = 1..=1000;
    /// How many calls may be in flight.
    pub const IN_FLIGHT_MAX: RangeInclusive<u64> = 1..=1024;
    /// How many calls a second may have, as it is asked for: 0 stands for no limit.
    pub const PER_SECOND: RangeInclusive<u64> = 0..=100_000;
}

impl Default for DeliveryTerms {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What happens to a call that fails again and again, while others come through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// Its user's calls wait until it comes through; nobody else's do.
    #[default]
    HoldUser,
    /// It becomes a dead letter, and the user's next call goes out.
    Skip,
    /// The subscription stops in this partition until an operator says how to go on.
    Halt,
}

/// What goes on if a before-webhook gives no verdict, by what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BeforeTerms {
    /// How long it may take in all, in milliseconds: [`Self::TIMEOUT_MS`].
    pub timeout_ms: u64,
    /// No answer in time.
    pub on_timeout: Fallback,
    /// No connection, or it broke.
    pub on_unreachable: Fallback,
    /// Another status than 200.
    pub on_status: Fallback,
    /// No JSON, the wrong shape, or too long.
    pub on_malformed: Fallback,
    /// Too many questions are open, or the receiver counts as down.
    pub on_busy: Fallback,
}

impl BeforeTerms {
    /// The terms of whoever says nothing about them.
    pub const DEFAULT: Self = Self {
        timeout_ms: 2_000,
        on_timeout: Fallback::Allow,
        on_unreachable: Fallback::Allow,
        on_status: Fallback::Allow,
        on_malformed: Fallback::Allow,
        on_busy: Fallback::Allow,
    };
    /// How long a question may be given.
    pub const TIMEOUT_MS: RangeInclusive<u64> = 100..=5_000;
}

impl Default for BeforeTerms {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a missing verdict counts as. Rule: webhooks.md 4 and 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The operation goes on.
    #[default]
    Allow,
    /// The operation is refused.
    Deny,
}

/// A part of the past that is told again, on a lane of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replay {
    /// Its number in the app, from 1.
    pub number: u32,
    /// Whose terms it has; what that subscription asks for bounds what is told.
    pub subscription: Box<str>,
    /// Another place to call.
    pub url: Option<Box<str>>,
    /// The first moment, if any.
    pub since: Option<Timestamp>,
    /// The moment behind the last, if any.
    pub until: Option<Timestamp>,
    /// The range in each partition: the first offset and the one behind the last. Partitions that are
    /// not named are not told.
    pub ranges: Vec<(u16, u64, u64)>,
    /// Only these users; all if empty.
    pub users: Vec<UserId>,
    /// Only these commands; all that the subscription asks for if empty.
    pub commands: Vec<Box<str>>,
    /// Only these calls, by their ids; all if empty.
    pub ids: Vec<Box<str>>,
}

/// Everything that is kept about an app's subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subscriptions {
    /// Grows with each change.
    pub sequence: u64,
    /// Those that were set, by name.
    pub set: Vec<Subscription>,
    /// The moves of each one that was moved, by name and term: the last one, and those before it that
    /// are the last ones of some partition. Also of one of the settings file.
    pub seeks: Vec<Seek>,
    /// Replays that have not ended, by number.
    pub replays: Vec<Replay>,
    /// The number of the last replay.
    pub last_replay: u32,
    /// Names that were deleted and not set again, the oldest first: their places in the partitions are
    /// given up. At most [`SUBSCRIPTIONS_MAX`].
    pub deleted: Vec<Box<str>>,
}

/// What becomes of a subscription's secrets when it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// They stay.
    #[default]
    Keep,
    /// There are none any more.
    Remove,
    /// Another one takes their place.
    Replace {
        /// The new one, sealed.
        sealed: Box<str>,
        /// How long the ones before it go on signing, in milliseconds.
        overlap_ms: u32,
    },
}

/// Whether a subscription may be called so.
pub fn is_subscription_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

impl SealedSecret {
    /// Whether it still signs.
    pub fn signs(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl SecretChange {
    /// The secrets that follow from `known`, newest first. Those whose time is over are left out, and
    /// so are the oldest while there are too many.
    fn apply(&self, known: &[SealedSecret], at: Timestamp) -> Vec<SealedSecret> {
        let signing = known.iter().filter(|secret| secret.signs(at)).cloned();
        let mut secrets: Vec<SealedSecret> = match self {
            Self::Keep => signing.collect(),
            Self::Remove => Vec::new(),
            Self::Replace { sealed, overlap_ms } => {
                let end = Timestamp(at.0.saturating_add(i64::from(*overlap_ms)));
                let replaced = signing.map(|secret| {
                    let until = secret.until.map_or(end, |until| until.min(end));
                    SealedSecret { until: Some(until), ..secret }
                });
                let new = SealedSecret { sealed: sealed.clone(), until: None };
                std::iter::once(new).chain(replaced.filter(|secret| secret.signs(at))).collect()
            }
        };
        secrets.truncate(SECRETS_MAX);
        secrets
    }
}

impl Subscriptions {
    /// The subscription of this name, if it was set.
    pub fn get(&self, name: &str) -> Option<&Subscription> {
        self.set.iter().find(|known| *known.name == *name)
    }

    /// A rough count of the bytes that it holds on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let lists = |replay: &Replay| {
            replay.ranges.len() * size_of::<(u16, u64, u64)>()
                + replay.users.len() * size_of::<UserId>()
                + replay.ids.len() * 64
        };
        size_of::<Self>()
            + self.set.len() * (size_of::<Subscription>() + 1024)
            + self.seeks.iter().map(Seek::heap_bytes).sum::<usize>()
            + self.deleted.len() * (size_of::<Box<str>>() + NAME_BYTES_MAX)
            + self.replays.iter().map(|replay| size_of::<Replay>() + lists(replay)).sum::<usize>()
    }
}

impl User {
    /// What is kept about the app's subscriptions, if this is the stream that keeps them.
    pub fn subscriptions(&self) -> Option<&Subscriptions> {
        self.rare.subscriptions.as_deref()
    }

    /// Sets a subscription, or changes it: its terms are replaced as a whole, its secrets as `change`
    /// says. One that was deleted begins at the ends of all partitions. Repeat: the same again records
    /// nothing.
    ///
    /// Rejects: `TooManySubscriptions`; `SecretMissing` for one of the standard format without any.
    pub(super) fn set_subscription(
        &self,
        wanted: &Subscription,
        change: &SecretChange,
        policy: &Policy,
        at: Timestamp,
    ) -> Decided {
        let set = self.subscriptions().map_or(&[][..], |known| &known.set);
        let known = set.iter().find(|known| known.name == wanted.name);
        if known.is_none() && set.len() >= policy.subscriptions_max.min(SUBSCRIPTIONS_MAX) {
            return Err(Rejection::TooManySubscriptions);
        }
        let secrets = change.apply(known.map_or(&[], |known| &known.secrets), at);
        if wanted.format == Format::Standard && wanted.url.is_some() && secrets.is_empty() {
            return Err(Rejection::SecretMissing);
        }
        let wanted = Subscription { secrets, ..wanted.clone() };
        if known == Some(&wanted) {
            return recorded(Vec::new());
        }
        let kept = self.subscriptions();
        let moved = kept.filter(|kept| kept.deleted.contains(&wanted.name)).map(|kept| {
            // Places of the deleted one that are not given up yet are not the new one's.
            let (name, term) = (wanted.name.clone(), kept.next_term(1));
            Event::SubscriptionMoved(Seek { name, term, to: SeekTo::End })
        });
        let set = Event::SubscriptionSet(Box::new(wanted));
        recorded([set].into_iter().chain(moved).collect())
    }

    /// Puts other seals on secrets of a subscription, and changes nothing else. Repeat: a secret that is
    /// not there under the old seal stays as it is.
    pub(super) fn seal_anew(&self, name: &str, seals: &[(Box<str>, Box<str>)]) -> Decided {
        let Some(known) = self.subscriptions().and_then(|known| known.get(name)) else {
            return recorded(Vec::new());
        };
        let mut anew = known.clone();
        for secret in &mut anew.secrets {
            if let Some((_, seal)) = seals.iter().find(|(old, _)| *old == secret.sealed) {
                secret.sealed = seal.clone();
            }
        }
        let is_new = anew != *known;
        recorded(is_new.then(|| Event::SubscriptionSet(Box::new(anew))).into_iter().collect())
    }

    /// Deletes a subscription, with its replays. Repeat: one that is not there is deleted already.
    pub(super) fn delete_subscription(&self, name: &str) -> Decided {
        let Some(known) = self.subscriptions().filter(|known| known.get(name).is_some()) else {
            return recorded(Vec::new());
        };
        let replays = known.replays.iter().filter(|replay| *replay.subscription == *name);
        let ended =
            replays.map(|replay| Event::ReplayEnded { number: replay.number, completed: false });
        recorded(ended.chain([Event::SubscriptionDeleted { name: name.into() }]).collect())
    }

    /// Begins to tell a part of the past again, under the next number.
    ///
    /// Rejects: `SubscriptionUnknown` as a move does; `TooManyReplays`.
    pub(super) fn begin_replay(&self, wanted: &Replay, configured: bool) -> Decided {
        self.find_subscription(&wanted.subscription, configured)?;
        let (running, last) =
            self.subscriptions().map_or((0, 0), |known| (known.replays.len(), known.last_replay));
        if running >= REPLAYS_MAX {
            return Err(Rejection::TooManyReplays);
        }
        let replay = Replay { number: last.saturating_add(1), ..wanted.clone() };
        recorded(vec![Event::ReplayBegun(Box::new(replay))])
    }

    /// Ends a replay. Repeat: one that has ended stays so.
    ///
    /// Rejects: `ReplayUnknown` for a number that there never was.
    pub(super) fn end_replay(&self, number: u32, completed: bool) -> Decided {
        let known = self.subscriptions();
        if known.is_some_and(|known| known.replays.iter().any(|replay| replay.number == number)) {
            return recorded(vec![Event::ReplayEnded { number, completed }]);
        }
        let last = known.map_or(0, |known| known.last_replay);
        if (1..=last).contains(&number) {
            recorded(Vec::new())
        } else {
            Err(Rejection::ReplayUnknown)
        }
    }

    pub(super) fn find_subscription(&self, name: &str, configured: bool) -> Result<(), Rejection> {
        let is_set = self.subscriptions().is_some_and(|known| known.get(name).is_some());
        if is_set || configured { Ok(()) } else { Err(Rejection::SubscriptionUnknown) }
    }

    pub(super) fn note_subscription(&mut self, set: &Subscription) {
        let known = self.changed_subscriptions();
        known.deleted.retain(|name| *name != set.name);
        match known.set.binary_search_by(|other| other.name.cmp(&set.name)) {
            Ok(place) => known.set[place] = set.clone(),
            Err(place) => known.set.insert(place, set.clone()),
        }
    }

    pub(super) fn note_subscription_deleted(&mut self, name: &str) {
        let known = self.changed_subscriptions();
        known.set.retain(|set| *set.name != *name);
        known.seeks.retain(|seek| *seek.name != *name);
        known.deleted.retain(|other| **other != *name);
        known.deleted.push(name.into());
        if known.deleted.len() > SUBSCRIPTIONS_MAX {
            known.deleted.remove(0);
        }
    }

    pub(super) fn note_replay(&mut self, replay: &Replay) {
        let known = self.changed_subscriptions();
        known.replays.retain(|other| other.number != replay.number);
        known.replays.push(replay.clone());
        known.replays.sort_by_key(|replay| replay.number);
        known.last_replay = known.last_replay.max(replay.number);
    }

    pub(super) fn note_replay_ended(&mut self, number: u32) {
        self.changed_subscriptions().replays.retain(|replay| replay.number != number);
    }

    pub(super) fn changed_subscriptions(&mut self) -> &mut Subscriptions {
        let known = self.rare.subscriptions.get_or_insert_default();
        known.sequence = known.sequence.saturating_add(1);
        known
    }
}
