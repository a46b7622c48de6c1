//! The settings of one app: who may call, what its rules are, who hears of it.

use std::path::PathBuf;

use super::kind::{Bytes, FieldName};
use super::rate::RateLimits;
use super::scope::section;
use super::secret::{Secret, Url};
use super::subscription::WebhookSubscription;
use super::value::Choice;
use crate::domain::{AllowType, AppId, FailurePolicy, Fallback, Format, UserId};

/// The admin of an app that names none.
const ADMIN: &str = "administrator";
/// Friends, and requests, behind which the record of a deleted account might not fit into Kafka.
pub(super) const FRIENDS_MAX: u64 = 5_000;
pub(super) const REQUESTS_MAX: u64 = 5_000;
/// Friend groups, all of which each friend may be in.
const GROUPS_MAX: u64 = 100;

section! {
    /// One app.
    pub struct App {
        /// The SDKAppID.
        id: AppId = AppId(0);
        /// Calls for an app that is not enabled are refused.
        enabled: bool = true;
        /// The accounts that may call. They are imported by themselves.
        admins: Vec<UserId> = vec![UserId::parse(ADMIN).expect("it is a UserID")],
            in 1..=100, unit "accounts", env "CORDON_APP_ADMIN";
        /// The secret keys that a UserSig may be made with; several during a change of keys.
        keys: Vec<Secret> = Vec::new(), in 1..=10, unit "keys", env "CORDON_APP_KEY";
        /// How often each command may be called: `off`, or a table with other numbers than the
        /// default.
        rate_limits: RateLimits = RateLimits::default(), env "CORDON_RATE_LIMITS";
    } with {
        /// How much a user may have.
        limits: Limits;
        /// Blocking.
        block: Block;
        /// Friendship.
        friend: Friend;
        /// Profiles.
        profile: Profile;
        /// Messages from one user to another.
        c2c: C2c;
        /// Accounts.
        account: Account;
        /// The subscriber.
        webhook: Webhook;
    }

    /// How much one user may have.
    pub struct Limits {
        /// Users on a blocklist.
        blocks_max: usize = 1000, in 1..=100_000, unit "users";
        /// Friends.
        friends_max: usize = 3000, in 1..=FRIENDS_MAX, unit "users";
        /// Friend requests that wait for an answer.
        requests_max: usize = 100, in 1..=REQUESTS_MAX, unit "requests";
        /// Friend groups.
        groups_max: usize = 32, in 1..=GROUPS_MAX, unit "groups";
    }

    /// What a block does besides.
    pub struct Block {
        /// A block leaves the friendship as it is.
        remain_friends: bool = false;
    }

    /// How friends are made.
    pub struct Friend {
        /// Who may add a user that never chose: allow_any, need_confirm or deny_any.
        default_allow_type: AllowType = AllowType::AllowAny;
        /// An import asks no blocklist.
        import_ignores_blocklist: bool = false;
        /// What a user may keep about a friend besides: `Tag_SNS_Custom_` and one of these names of 1
        /// to 8 letters.
        custom_fields: Vec<FieldName> = Vec::new(), in 0..=20, unit "fields";
    }

    /// What a user tells about themselves.
    pub struct Profile {
        /// Fields besides the standard ones: `Tag_Profile_Custom_` and one of these names of 1 to 8
        /// letters.
        custom_fields: Vec<FieldName> = Vec::new(), in 0..=20, unit "fields";
    }

    /// Who may write to whom.
    pub struct C2c {
        /// The writer is not told that the receiver blocks them.
        blocked_send_looks_ok: bool = true;
        /// Only friends may write.
        require_friend: bool = false;
        /// A block in either direction stops both.
        block_stops_both: bool = false;
        /// The longest content of a message.
        message_bytes_max: Bytes = Bytes::kib(12), in 1..=65_536;
        /// How many receivers messages to many may have in a minute.
        batch_receivers_per_minute: u32 = 12_000, in 1..=1_000_000, unit "receivers";
    }

    /// What may be done with accounts.
    pub struct Account {
        /// Accounts may be deleted.
        delete_allowed: bool = true;
    }

    /// The subscriber of an app's events.
    pub struct Webhook {
        /// Where deliveries go; without it there are none.
        url: Option<Url> = None;
        /// What deliveries look like: `reference`, or `standard` for Standard Webhooks.
        format: Format = Format::Reference;
        /// The token that deliveries of the reference's format are signed with; without it they are
        /// not signed.
        token: Option<Secret> = None;
        /// What deliveries of the standard format are signed with, `whsec_` and base64, newest first;
        /// several during a change of secrets: each of them signs.
        secrets: Vec<Secret> = Vec::new(), in 0..=4, unit "secrets";
        /// Headers that tell a delivery's id, its place among the others and the number of the try.
        headers: bool = true;
        /// A certificate that is shown to receivers over https, as a PEM file, and what leads to its
        /// authority.
        client_certificate: Option<PathBuf> = None;
        /// Its private key, as a PEM file.
        client_key: Option<PathBuf> = None;
        /// What the subscriber hears of.
        commands: Vec<WebhookCommand> = WebhookCommand::AFTER.to_vec();
        /// How long one delivery attempt may take.
        timeout_ms: u64 = 2000, in 100..=30_000, unit "ms";
        /// The wait before the second attempt; each further wait is longer.
        retry_min_ms: u64 = 500, in 10..=600_000, unit "ms";
        /// The longest wait between two attempts.
        retry_max_ms: u64 = 60_000, in 10..=86_400_000, unit "ms";
        /// One attempt per delivery, as the reference does it: what fails is lost.
        call_once: bool = false;
        /// Off: deliveries wait.
        enabled: bool = true;
        /// What happens to a delivery that fails while others come through: hold-user, skip or halt.
        policy: FailurePolicy = FailurePolicy::HoldUser;
        /// Attempts after which the policy speaks; only those count that fail while others come through.
        attempts_max: u32 = 20, in 1..=1000, unit "attempts";
        /// Deliveries in flight at most.
        in_flight_max: u32 = 64, in 1..=1024, unit "deliveries";
        /// Deliveries per second at most; 0 for no limit.
        per_second: u32 = 0, in 0..=100_000, unit "deliveries";
        /// How many subscriptions the admins may set by calls, beside those that stand here.
        subscriptions_max: usize = 100, in 0..=1000, unit "subscriptions";
        /// Further subscribers, each a table `[[app.webhook.subscription]]` with a name.
        subscription: Vec<WebhookSubscription> = Vec::new(), in 0..=100, unit "subscriptions";
        /// How long a question before the fact may take in all.
        before_timeout_ms: u64 = 2000, in 100..=5000, unit "ms";
        /// What a question counts as that was not answered in time: allow or deny.
        before_on_timeout: Fallback = Fallback::Allow;
        /// What it counts as without a connection, or with one that broke: allow or deny.
        before_on_unreachable: Fallback = Fallback::Allow;
        /// What it counts as when it was answered with another status than 200: allow or deny.
        before_on_status: Fallback = Fallback::Allow;
        /// What it counts as when the answer was no JSON, of another shape, or too long: allow or deny.
        before_on_malformed: Fallback = Fallback::Allow;
        /// What it counts as when it was not asked, because too many questions are open or the subscriber
        /// counts as down: allow or deny.
        before_on_busy: Fallback = Fallback::Allow;
    }
}

/// A kind of delivery, by the name that the subscriber sees.
///
/// Rule: webhooks.md 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookCommand(pub &'static str);

impl WebhookCommand {
    /// What is said after the fact. On unless settings say otherwise.
    pub const AFTER: [Self; 7] = [
        Self("Sns.CallbackBlackListAdd"),
        Self("Sns.CallbackBlackListDelete"),
        Self("Sns.CallbackFriendAdd"),
        Self("Sns.CallbackFriendDelete"),
        Self("Profile.CallbackPortraitSet"),
        Self("C2C.CallbackAfterSendMsg"),
        Self("Alert.RequestOverLimit"),
    ];

    /// A client comes or goes. There are no clients here, so the name is accepted and nothing is ever sent.
    /// Off unless settings name it, so that nobody expects it.
    pub const UNSENT: Self = Self("State.StateChange");

    /// What is asked before the fact. Off unless settings say otherwise.
    pub const BEFORE: [Self; 3] = [
        Self("Sns.CallbackPrevFriendAdd"),
        Self("Sns.CallbackPrevFriendResponse"),
        Self("C2C.CallbackBeforeSendMsg"),
    ];
}

impl Choice for WebhookCommand {
    const CHOICES: &'static [(&'static str, Self)] = &{
        let [a, b, c, d, e, f, g] = Self::AFTER;
        let h = Self::UNSENT;
        let [i, j, k] = Self::BEFORE;
        [
            (a.0, a),
            (b.0, b),
            (c.0, c),
            (d.0, d),
            (e.0, e),
            (f.0, f),
            (g.0, g),
            (h.0, h),
            (i.0, i),
            (j.0, j),
            (k.0, k),
        ]
    };
}
