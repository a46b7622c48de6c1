//! The numbers and switches that an app's rules take.

use super::profile::AllowType;

/// What an app allows. Defaults: rest-api.md 2.1 and 13.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Users on one blocklist at most.
    pub blocks_max: usize,
    /// Friends of one user at most.
    pub friends_max: usize,
    /// Pending requests at one user at most.
    pub requests_max: usize,
    /// Friend groups of one user at most.
    pub groups_max: usize,
    /// Subscriptions of the app at most, beside those of its settings.
    pub subscriptions_max: usize,
    /// A block keeps the friendship (`block.remain_friends`).
    pub remain_friends: bool,
    /// An import asks no blocklist (`friend.import_ignores_blocklist`).
    pub import_ignores_blocklist: bool,
    /// The `AllowType` of a user who never set one (`friend.default_allow_type`).
    pub default_allow_type: AllowType,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            blocks_max: 1000,
            friends_max: 3000,
            requests_max: 100,
            groups_max: 32,
            subscriptions_max: 100,
            remain_friends: false,
            import_ignores_blocklist: false,
            default_allow_type: AllowType::AllowAny,
        }
    }
}
