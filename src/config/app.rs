//! The settings of one app: who may call, what its rules are, who hears of it.

use super::kind::{Bytes, FieldName};
use super::rate::RateLimits;
use super::scope::section;
use super::secret::Secret;
use super::webhook::Webhook;
use crate::domain::{AllowType, AppId, UserId};

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
}
