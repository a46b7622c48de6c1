//! Everything a caller may ask of one user.

use serde::{Deserialize, Serialize};

use super::card::{Card, CardChange};
use super::event::{Agreement, OfferForm};
use super::id::UserId;
use super::kept::KeptAnswer;
use super::message::Message;
use super::profile::ProfileChange;
use super::seek::SeekTo;
use super::subscription::{Replay, SecretChange, Subscription};
use super::verdict::Judged;

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
    /// Remove all friends.
    ClearFriends {
        /// Remove the user from their lists as well.
        both: bool,
    },
    /// Change records of friends.
    UpdateFriends {
        /// Which and how, in request order.
        items: Vec<FriendUpdate>,
    },
    /// Answer requests that wait for the user.
    AnswerRequests {
        /// Which and how, in request order.
        items: Vec<RequestAnswer>,
    },
    /// Make friend groups, and put friends into all of them. One outcome per member; one if there
    /// is none.
    AddGroups {
        /// The groups, each once.
        names: Vec<Box<str>>,
        /// The friends, in request order.
        members: Vec<Target>,
    },
    /// Remove friend groups; the friends in them stay friends.
    RemoveGroups {
        /// The groups.
        names: Vec<Box<str>>,
    },
    /// Give profile fields new values.
    SetProfile(ProfileChange),
    /// Take a message over.
    Send(Message),
    /// Let the key, under which this command comes, stand for its call.
    BeginCall,
    /// Keep what the call with a key, under which this command comes, is answered.
    KeepAnswer(KeptAnswer),
    /// Set a subscription, or change it.
    SetSubscription {
        /// All of it but its secrets.
        subscription: Box<Subscription>,
        /// What becomes of those.
        secret: SecretChange,
    },
    /// Keep secrets of a subscription under other seals.
    SealAnew {
        /// Its name.
        name: Box<str>,
        /// Each sealed text so far, and the one in its place.
        seals: Vec<(Box<str>, Box<str>)>,
    },
    /// Delete a subscription.
    DeleteSubscription {
        /// Its name.
        name: Box<str>,
    },
    /// Let a subscription go on from another place.
    MoveSubscription {
        /// Its name.
        name: Box<str>,
        /// Where to.
        to: SeekTo,
        /// It stands in the settings.
        configured: bool,
    },
    /// Tell a part of the past again.
    BeginReplay {
        /// Which part; the number is given here.
        replay: Box<Replay>,
        /// Its subscription stands in the settings.
        configured: bool,
    },
    /// End a replay.
    EndReplay {
        /// Its number.
        number: u32,
        /// It has told everything.
        completed: bool,
    },
    /// Do what the app's own server was asked about, as far as it allowed it: adding friends, answering
    /// requests, sending messages.
    Judged(Box<Judged>),
}

impl Command {
    /// Whether only somebody whose account exists can be asked for it: all but an import, and but what
    /// the streams of calls with keys and of subscriptions are asked.
    pub(super) fn needs_account(&self) -> bool {
        match self {
            Self::DeleteAccount
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::AddFriends { .. }
            | Self::RemoveFriends { .. }
            | Self::ClearFriends { .. }
            | Self::UpdateFriends { .. }
            | Self::AnswerRequests { .. }
            | Self::AddGroups { .. }
            | Self::RemoveGroups { .. }
            | Self::SetProfile(_)
            | Self::Send(_)
            | Self::Judged(_) => true,
            Self::ImportAccount(_)
            | Self::BeginCall
            | Self::KeepAnswer(_)
            | Self::SetSubscription { .. }
            | Self::SealAnew { .. }
            | Self::DeleteSubscription { .. }
            | Self::MoveSubscription { .. }
            | Self::BeginReplay { .. }
            | Self::EndReplay { .. } => false,
        }
    }
}

/// New values for one friend's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendUpdate {
    /// The friend.
    pub user: UserId,
    /// The new values.
    pub change: CardChange,
}

/// An answer to one waiting request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswer {
    /// Who asked.
    pub user: UserId,
    /// What is said; `None` is no.
    pub agreement: Option<Agreement>,
    /// The remark that the answering user's record of the friend gets.
    pub remark: Box<str>,
    /// Its friend groups.
    pub groups: Vec<Box<str>>,
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
