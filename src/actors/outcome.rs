//! What callers hear: what a command came to, and why there is no answer.

use serde::{Deserialize, Serialize};

use crate::domain::Rejection;
use crate::journal::{Offset, Partition};

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// One outcome per item, in request order; one for a command without a list. Of a message that a call
    /// with this key has sent before, one per receiver: who is refused was none of its receivers.
    pub outcomes: Vec<Result<(), ItemError>>,
    /// Where the user's own record stands, if anything changed.
    pub position: Option<(Partition, Offset)>,
    /// `MsgTime` of an equal message that was sent shortly before, if this one is a repetition of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u32>,
    /// The sequence number of the friend groups after a command about those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_sequence: Option<u32>,
}

/// Why one item of a batch is not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemError {
    /// Refused by rule, by the user or by the peer.
    Rejected(Rejection),
    /// The fact is durable, but the peer's side did not answer in time: it is owed, and repeating
    /// the call waits for it. Code 30007.
    Owed,
}

/// Why a call as a whole has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
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
    /// This node does not own the user's partition, or not yet, and nothing was done.
    #[error("the user's partition is not owned here")]
    Elsewhere,
    /// The owner lost the partition, or its connection, before it could tell what became of the
    /// command. Asking again with the same origin does it once.
    #[error("the owner of the user's partition changed meanwhile")]
    Interrupted,
}

/// What one user keeps about another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The owner's account exists.
    pub owner_imported: bool,
    /// The peer is on the owner's blocklist.
    pub blocks: bool,
    /// The peer is in the owner's friend list.
    pub has_friend: bool,
}
