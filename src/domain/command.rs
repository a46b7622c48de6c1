//! Everything a caller may ask of one user.

use serde::{Deserialize, Serialize};

use super::event::{Card, OfferForm, ProfileChange};
use super::id::UserId;

/// A wish of a caller, addressed to one user. A batch has one outcome per item, in order.
///
/// Serialized between nodes only, never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Import the account, or update the profile of one that exists.
    ImportAccount(ProfileChange),
    /// Delete the account, for good.
    DeleteAccount,
    /// Put the targets on the blocklist; each ends a friendship with the user, on both sides.
    Block {
        /// Whom, in request order.
        targets: Vec<Target>,
    },
    /// Take the targets off the blocklist.
    Unblock {
        /// Whom, in request order.
        targets: Vec<Target>,
    },
    /// Ask for friendships, or make them.
    AddFriends {
        /// Whom, in request order.
        items: Vec<NewFriend>,
        /// What is wanted; also says whether it is an import.
        form: OfferForm,
        /// An administrator forces it.
        forced: bool,
    },
    /// Remove friends.
    RemoveFriends {
        /// Whom, in request order.
        targets: Vec<FormerFriend>,
        /// Remove the user from the targets' lists as well.
        both: bool,
    },
}

/// One target of a batch about blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The account.
    pub user: UserId,
    /// Whether that account was imported when it was looked up.
    pub imported: bool,
}

/// One wanted friend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFriend {
    /// The account.
    pub user: UserId,
    /// Whether that account was imported when it was looked up.
    pub imported: bool,
    /// What the record of the friend shall hold.
    pub card: Card,
}

/// One friend to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerFriend {
    /// The account.
    pub user: UserId,
    /// Whether the target had the user as a friend when that was looked up.
    pub has_me: bool,
}
