//! The other nodes, as far as this room knows them: questions to the owner of a partition, and
//! messages between partitions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::view::{View, Viewed};
use super::{ExecuteError, Executed, Standing};
use crate::domain::{AppId, CallKey, Command, UserId, UserKey};
use crate::journal::{Cursor, Origin, Partition, Place};
use crate::pairing::{Answer, OwedEffect};

/// What the owner of a partition is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// Execute a command on one user. Asked again with the same origin it is done once.
    Execute {
        /// The user.
        key: UserKey,
        /// What to do.
        command: Arc<Command>,
        /// Who asked for it.
        origin: Arc<Origin>,
        /// The caller's own key for the call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<CallKey>,
    },
    /// What does each pair's first user keep about the second?
    Standings {
        /// The app of all.
        app: AppId,
        /// The first ones all belong to the partition.
        pairs: Vec<(UserId, UserId)>,
    },
    /// What does one user show?
    View {
        /// Who.
        key: UserKey,
        /// What of it.
        view: View,
    },
    /// Give a follower a cursor at the partition's end, if it has none of a term or a later one there yet.
    BeginCursor {
        /// The follower's name.
        subscription: String,
        /// The term.
        #[serde(default, skip_serializing_if = "is_first")]
        term: u32,
    },
    /// Where do the followers stand whose names begin like this?
    Cursors {
        /// How the names begin.
        prefix: String,
    },
}

/// Whether nobody has moved a follower yet.
fn is_first(term: &u32) -> bool {
    *term == 0
}

/// Where followers stand in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorsSeen {
    /// The end of what is durable in the partition.
    pub end: Place,
    /// The followers' names and cursors, by name.
    pub cursors: Vec<(String, Cursor)>,
}

/// What the owner answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "with", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Question::Execute`].
    Executed(Executed),
    /// To [`Question::Standings`], in order.
    Standings(Vec<Standing>),
    /// To [`Question::View`].
    View(Viewed),
    /// To [`Question::BeginCursor`] and [`Question::Cursors`].
    Cursors(CursorsSeen),
}

/// A message between two partitions: part of a channel. It may be lost, repeated and overtaken; the
/// ends of the channel see to the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// Effects of `source`'s records on users of `destination`.
    Effects {
        /// Whose records ask for them.
        source: Partition,
        /// Whose users are asked.
        destination: Partition,
        /// The number before the first one's.
        prev: u64,
        /// The effects, numbered `prev + 1` and so on.
        effects: Vec<Arc<OwedEffect>>,
        /// How often the journal had lost what was in flight when the source began to write it. Other
        /// nodes are told of final records alone, and need not know.
        #[serde(skip)]
        losses: u64,
    },
    /// How far `destination` has come with the effects of `source`.
    Answered {
        /// Whom to tell.
        source: Partition,
        /// Who answers.
        destination: Partition,
        /// The answer.
        answer: Answer,
    },
}

impl Message {
    /// The partition that it goes to.
    pub fn to(&self) -> Partition {
        match self {
            Self::Effects { destination, .. } => *destination,
            Self::Answered { source, .. } => *source,
        }
    }
}

/// The answer to a question, to come.
pub type Asked = Pin<Box<dyn Future<Output = Result<Reply, ExecuteError>> + Send>>;

/// The other nodes.
pub trait Elsewhere: Send + Sync + 'static {
    /// Asks the owner of `partition`, once, `patience` long at most.
    ///
    /// Errors: [`ExecuteError::Elsewhere`] if nobody was found who owns it: nothing was done, and
    /// asking again later is right. [`ExecuteError::Interrupted`] if the connection broke or the
    /// owner lost the partition meanwhile: asking again with the same origin is right. What the
    /// owner itself answers comes as it is.
    fn ask(&self, partition: Partition, question: Question, patience: Duration) -> Asked;

    /// The name of the node that owns `partition`, as far as is known.
    fn owner(&self, partition: Partition) -> Option<String>;

    /// Sends `message` to the owner of the partition that it goes to, if one is known and takes it.
    /// Never waits.
    fn send(&self, message: Message);
}

/// There are no other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Elsewhere for Alone {
    fn ask(&self, _: Partition, _: Question, _: Duration) -> Asked {
        Box::pin(std::future::ready(Err(ExecuteError::Elsewhere)))
    }

    fn owner(&self, _: Partition) -> Option<String> {
        None
    }

    fn send(&self, _: Message) {}
}
