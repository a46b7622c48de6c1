//! Who hears of an app's events, and how: what operators set, move and replay; facts like any other.
//!
//! An app's subscriptions are kept by a stream of its own, under a name that no account can have.
//! Their secrets are sealed before they come here: the journal holds none that can be read.

use serde::{Deserialize, Serialize};

use super::id::{Timestamp, UserId};

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

/// Subscriptions of an app at most.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// How long one attempt may take, 100 to 30 000.
    pub timeout_ms: u64,
    /// The wait before the second attempt, 10 to 600 000.
    pub retry_min_ms: u64,
    /// The longest wait between two attempts, 10 to 86 400 000.
    pub retry_max_ms: u64,
    /// One attempt per call, as in the reference with its retry switched off.
    pub call_once: bool,
    /// What happens to a call that fails again and again.
    pub policy: FailurePolicy,
    /// Attempts after which `policy` speaks, if it is not to hold the user, 1 to 1000.
    pub attempts_max: u32,
    /// Calls in flight at most, 1 to 1024.
    pub in_flight_max: u32,
    /// Calls per second at most, if limited, 1 to 100 000.
    pub per_second: Option<u32>,
}

impl Default for DeliveryTerms {
    fn default() -> Self {
        Self {
            timeout_ms: 2_000,
            retry_min_ms: 500,
            retry_max_ms: 60_000,
            call_once: false,
            policy: FailurePolicy::HoldUser,
            attempts_max: 20,
            in_flight_max: 64,
            per_second: None,
        }
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
    /// How long it may take in all, in milliseconds, 100 to 5000.
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

impl Default for BeforeTerms {
    fn default() -> Self {
        Self {
            timeout_ms: 2_000,
            on_timeout: Fallback::Allow,
            on_unreachable: Fallback::Allow,
            on_status: Fallback::Allow,
            on_malformed: Fallback::Allow,
            on_busy: Fallback::Allow,
        }
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

/// An operator has moved a subscription: each partition goes on from the place given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seek {
    /// The subscription.
    pub name: Box<str>,
    /// How often it was moved, this one included.
    pub term: u32,
    /// Where to.
    pub to: SeekTo,
}

/// Where a subscription is moved to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// These partitions to these offsets; others stay.
    Offsets(Vec<(u16, u64)>),
    /// All partitions to the first record of this time or later.
    Time(Timestamp),
    /// All partitions to their ends.
    End,
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
    /// The last move of each one that was moved, by name; also of one of the settings file.
    pub seeks: Vec<Seek>,
    /// Replays that have not ended, by number.
    pub replays: Vec<Replay>,
    /// The number of the last replay.
    pub last_replay: u32,
}
