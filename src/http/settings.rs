//! What the API edge needs to be told: the apps it serves and the limits it keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Operation;
use crate::domain::{AllowType, AppId};
use crate::webhooks::Subnet;

/// The most calls per second that a limit may allow.
pub const CALLS_PER_SECOND_MAX: u32 = 1_000_000;

/// Settings of the public listener. [`Settings::default`] has no app: every call is answered 70020.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name, sent as `Cordon-Node`: visible ASCII.
    pub node: String,
    /// The apps served here, each id once.
    pub apps: Vec<App>,
    /// The longest request body, in bytes. A longer one is answered 60008. Rule: rest-api.md 1.8.
    pub body_bytes_max: usize,
    /// How long reading one request body may take, and how long a caller may take nothing of an answer.
    pub body_timeout: Duration,
    /// How long the actors take for one call at most. The edge waits [`ANSWER_GRACE`] longer before
    /// it answers 60008 by itself.
    pub request_timeout: Duration,
    /// Threads that serve connections; `None` = one per core.
    pub workers: Option<usize>,
    /// Open connections per worker; more wait in the listener's queue. With `body_bytes_max` it
    /// bounds the memory that callers can take.
    pub connections_max: usize,
    /// How long an idle connection is kept open.
    pub keep_alive: Duration,
    /// How long the head of a request may take; that of a further request on a connection up to twice
    /// as long.
    pub head_timeout: Duration,
    /// How long a closing connection may take to close.
    pub disconnect_timeout: Duration,
    /// How long running calls may take to finish once the server is asked to stop, in whole seconds.
    pub shutdown_timeout_s: u64,
    /// Verified UserSigs remembered at most. Those of 2 KiB and less are remembered.
    pub verified_signatures_max: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Subnet>,
}

/// How much longer than the actors the edge waits before it gives up.
pub const ANSWER_GRACE: Duration = Duration::from_millis(500);

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: "cordon".to_owned(),
            apps: Vec::new(),
            body_bytes_max: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(3),
            workers: None,
            connections_max: 8192,
            keep_alive: Duration::from_secs(75),
            head_timeout: Duration::from_secs(5),
            disconnect_timeout: Duration::from_secs(1),
            shutdown_timeout_s: 5,
            verified_signatures_max: 10_000,
            trusted_proxies: Vec::new(),
        }
    }
}

/// One app, and who may call for it.
#[derive(Clone)]
pub struct App {
    /// Its SDKAppID.
    pub id: AppId,
    /// Off: every call is answered 60016.
    pub enabled: bool,
    /// The identifiers that may call.
    pub admins: Vec<String>,
    /// The secret keys; several during a change of keys, each is tried.
    pub keys: Vec<String>,
    /// How often it may be called.
    pub rate_limits: RateLimits,
    /// Whether `account_delete` works; off, it is answered 71000.
    pub delete_allowed: bool,
    /// The `AllowType` of a user who never set one.
    pub default_allow_type: AllowType,
    /// The names of the custom fields of friends.
    pub friend_fields: Vec<String>,
    /// The names of the custom fields of profiles.
    pub profile_fields: Vec<String>,
    /// What holds for messages.
    pub messages: MessageRules,
}

/// What holds for one-to-one messages of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRules {
    /// The longest `MsgBody`, with `CloudCustomData`, in bytes. Rule: rest-api.md 1.8.
    pub bytes_max: usize,
    /// Receivers of `batchsendmsg` per minute. Rule: rest-api.md 1.6.
    pub batch_receivers_per_minute: u32,
    /// The writer is not told that the receiver blocks them.
    pub blocked_send_looks_ok: bool,
    /// Only friends may write.
    pub require_friend: bool,
    /// A block in either direction stops both.
    pub block_stops_both: bool,
}

impl Default for MessageRules {
    fn default() -> Self {
        Self {
            bytes_max: 12 * 1024,
            batch_receivers_per_minute: 12_000,
            blocked_send_looks_ok: true,
            require_friend: false,
            block_stops_both: false,
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys stay out: with one, whoever reads the log could call.
        f.debug_struct("App")
            .field("id", &self.id)
            .field("enabled", &self.enabled)
            .field("admins", &self.admins)
            .field("rate_limits", &self.rate_limits)
            .field("delete_allowed", &self.delete_allowed)
            .field("default_allow_type", &self.default_allow_type)
            .field("friend_fields", &self.friend_fields)
            .field("profile_fields", &self.profile_fields)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// How often an app may be called, in calls per second: 1 to [`CALLS_PER_SECOND_MAX`], larger
/// values count as that. Rule: rest-api.md 1.6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimits {
    /// No limit at all, for load tests.
    Off,
    /// Every command has its documented limit, except these.
    PerCommand {
        /// What holds instead of [`Operation::calls_per_second`]; none is no limit.
        overrides: BTreeMap<Operation, Option<u32>>,
        /// All commands together, if that is limited too.
        whole_app: Option<u32>,
    },
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::PerCommand { overrides: BTreeMap::new(), whole_app: None }
    }
}

impl RateLimits {
    /// Calls per second of `operation`, if limited.
    pub fn of(&self, operation: Operation) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::PerCommand { overrides, .. } => {
                overrides.get(&operation).copied().unwrap_or(Some(operation.calls_per_second()))
            }
        }
    }

    /// Calls per second of all commands together, if limited.
    pub fn of_whole_app(&self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::PerCommand { whole_app, .. } => *whole_app,
        }
    }
}
