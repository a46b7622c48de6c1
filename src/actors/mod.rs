//! One writer per user; actix stays inside this room.
//!
//! [`Users`] is the only door: execute a command on one user, or ask about some. Answers speak of
//! durable facts only.

use crate::domain::{AppId, Block, Command, Rejection, UserId, UserKey};
use crate::journal::{Offset, Origin, Partition};

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// One outcome per item, in request order; one for a command without a list.
    pub outcomes: Vec<Result<(), ItemError>>,
    /// Where the user's own record stands, if anything changed.
    pub position: Option<(Partition, Offset)>,
}

/// Why one item of a batch is not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemError {
    /// Refused by rule, by the user or by the peer.
    Rejected(Rejection),
    /// The fact is durable, but the peer's side did not answer in time: it is owed, and repeating
    /// the call waits for it. Code 30007.
    Owed,
}

/// Why a call as a whole has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// Refused by rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A queue is full: nothing was recorded.
    #[error("too many calls are waiting")]
    Overloaded,
    /// No answer within the time limit; the command may or may not be recorded.
    #[error("no answer in time")]
    TimedOut,
    /// The journal cannot be written or the partition is not served at present: nothing that this
    /// answer could speak of is durable.
    #[error("the journal cannot be written")]
    Unavailable,
}

/// What one user keeps about another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The owner's account exists.
    pub owner_imported: bool,
    /// The peer is on the owner's blocklist.
    pub blocks: bool,
    /// The peer is in the owner's friend list.
    pub has_friend: bool,
}

/// One page of a blocklist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlocklistPage {
    /// The owner's account exists.
    pub imported: bool,
    /// The entries, oldest first.
    pub entries: Vec<Block>,
    /// How many entries the whole list has.
    pub total: usize,
    /// The list's sequence number.
    pub sequence: u32,
}

/// The door to all users, on whatever arbiter they live. Cheap to clone.
#[derive(Clone)]
pub struct Users {}

impl Users {
    /// Executes `command` on the user `key` and waits until what the answer says is durable on both
    /// sides, or the time limit has passed.
    pub async fn execute(
        &self,
        key: UserKey,
        command: Command,
        origin: Origin,
    ) -> Result<Executed, ExecuteError> {
        let _ = (key, command, origin);
        std::future::pending().await
    }

    /// Whether each of `users` is imported, in order.
    pub async fn imported(&self, app: AppId, users: &[UserId]) -> Result<Vec<bool>, ExecuteError> {
        let _ = (app, users);
        std::future::pending().await
    }

    /// What each pair's first user keeps about the second, in order.
    pub async fn standings(
        &self,
        app: AppId,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Standing>, ExecuteError> {
        let _ = (app, pairs);
        std::future::pending().await
    }

    /// A page of `key`'s blocklist: at most `max` entries from `start` on.
    pub async fn blocklist(
        &self,
        key: UserKey,
        start: usize,
        max: usize,
    ) -> Result<BlocklistPage, ExecuteError> {
        let _ = (key, start, max);
        std::future::pending().await
    }
}
