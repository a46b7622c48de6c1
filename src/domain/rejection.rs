//! Every reason to refuse, by rule.

use serde::{Deserialize, Serialize};

/// A refusal by rule: the system worked. Its number and text are chosen at the API edge.
///
/// Stored inside events (snake case), so a variant is never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The caller's own account, or the other one, is not imported.
    #[error("the account is not imported")]
    AccountUnknown,
    /// A user may not be their own target.
    #[error("a user cannot be their own target")]
    SelfTarget,
    /// The target is on the blocklist already.
    #[error("the target is blocked already")]
    AlreadyBlocked,
    /// The blocklist holds as many users as it may.
    #[error("the blocklist is full")]
    BlocklistFull,
    /// The target is not on the blocklist.
    #[error("the target is not blocked")]
    NotBlocked,
    /// The wanted friendship exists.
    #[error("the two are friends already")]
    AlreadyFriend,
    /// There is no friendship to remove.
    #[error("the two are no friends")]
    NotFriend,
    /// The wanted friend is on the asker's own blocklist.
    #[error("the wanted friend is on the asker's blocklist")]
    PeerBlocked,
    /// The asker is on the wanted friend's blocklist.
    #[error("the asker is on the wanted friend's blocklist")]
    BlockedByPeer,
    /// An administrator has forbidden the asker to send friend requests.
    #[error("the asker may not send friend requests")]
    RequestsForbidden,
    /// The asker's friend list is full.
    #[error("the asker's friend list is full")]
    FriendListFull,
    /// The wanted friend's list is full.
    #[error("the wanted friend's list is full")]
    PeerFriendListFull,
    /// The user has as many friend groups as they may.
    #[error("too many friend groups")]
    TooManyGroups,
    /// The wanted friend accepts nobody.
    #[error("the wanted friend accepts nobody")]
    PeerAcceptsNobody,
    /// The wanted friend has as many pending requests as they may.
    #[error("the wanted friend has too many pending requests")]
    TooManyRequests,
    /// The wanted friend has to confirm: the request is pending.
    #[error("the wanted friend has to confirm")]
    ConfirmationNeeded,
    /// No request of that user waits for the answering one.
    #[error("there is no such request")]
    RequestUnknown,
    /// The key of the call stands for another call.
    #[error("the key of the call stands for another call")]
    KeyReused,
    /// The wanted friend has refused the request that waited.
    #[error("the wanted friend has refused")]
    Declined,
    /// The app has as many subscriptions as it may.
    #[error("too many subscriptions")]
    TooManySubscriptions,
    /// The app has no such subscription.
    #[error("there is no such subscription")]
    SubscriptionUnknown,
    /// A subscription of the standard format has no secret to sign with.
    #[error("the format needs a secret")]
    SecretMissing,
    /// As many replays run as may.
    #[error("too many replays are running")]
    TooManyReplays,
    /// There was never such a replay.
    #[error("there is no such replay")]
    ReplayUnknown,
}
