//! What somebody outside says to what a user is about to do, before it is done. Rule: webhooks.md 1.
//!
//! They are asked at the door, because an actor waits for nobody. The verdict comes with the command, and
//! is kept in the record of what it allowed, or in a record of its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::command::Command;
use super::id::UserId;
use super::rejection::Rejection;
use super::user::Decided;

/// The longest text of a refusal that is kept, in bytes.
pub const REFUSAL_BYTES_MAX: usize = 256;

/// A command, and what was said to it. What is refused is not done; the rest is decided as ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// What is wished.
    pub command: Command,
    /// What was said.
    pub verdict: Verdict,
}

/// What was said, or what counts as said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// What was asked about.
    pub about: Matter,
    /// Who was asked: the name of the subscription.
    pub by: Box<str>,
    /// How it came about.
    pub ground: Ground,
    /// With whom it may be done, in the order of the question.
    pub allowed: Vec<UserId>,
    /// With whom not, in the order of the question.
    pub refused: Vec<Refusal>,
    /// The refusal is not told: the answer is that of a success.
    pub hidden: bool,
    /// What a message said before the answer gave it other words.
    pub before: Option<Box<Words>>,
}

/// What is asked about beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matter {
    /// Friends are to be added.
    FriendAdd,
    /// Requests are to be answered.
    FriendResponse,
    /// A message is to be sent.
    Message,
}

/// How a verdict came about: by an answer, or by what the app has set for the want of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// It was answered.
    Answered,
    /// There was no answer in time.
    TimedOut,
    /// There was no connection, or it broke.
    Unreachable,
    /// The answer had another status than 200.
    Status,
    /// The answer was none: no JSON, another shape, or too long.
    Malformed,
    /// Nobody was asked: too many questions are open, or the subscriber counts as down.
    Busy,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// With whom.
    pub user: UserId,
    /// The code that was chosen; 0 if none was.
    pub code: u32,
    /// Its text, at most [`REFUSAL_BYTES_MAX`].
    pub info: Box<str>,
}

/// The words of a message, as its record keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Words {
    /// `MsgBody`, as JSON in a text.
    pub body: Box<str>,
    /// `CloudCustomData`.
    pub custom_data: Box<str>,
}

impl Verdict {
    /// The refusal about `user`, if there is one.
    pub fn refusal(&self, user: &UserId) -> Option<&Refusal> {
        self.refused.iter().find(|refusal| refusal.user == *user)
    }

    /// Whether nobody is refused.
    pub fn allows_all(&self) -> bool {
        self.refused.is_empty()
    }

    /// Whether nothing was asked: everything was known to be refused for another reason.
    pub fn is_silent(&self) -> bool {
        self.allowed.is_empty() && self.refused.is_empty()
    }

    /// A rough count of the bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let refused = self.refused.iter().map(|each| size_of::<Refusal>() + each.info.len());
        let before = self.before.iter().map(|words| words.body.len() + words.custom_data.len());
        size_of::<Self>()
            + self.by.len()
            + self.allowed.len() * size_of::<UserId>()
            + refused.sum::<usize>()
            + before.sum::<usize>()
    }
}

/// A verdict, to be looked up by user.
pub(super) struct Sentence {
    allowed: BTreeSet<UserId>,
    refused: BTreeSet<UserId>,
}

impl Verdict {
    /// Whether anything was said about `user`.
    pub fn names(&self, user: &UserId) -> bool {
        self.allowed.contains(user) || self.refused.iter().any(|refusal| refusal.user == *user)
    }
}

impl Sentence {
    pub(super) fn of(verdict: &Verdict) -> Self {
        Self {
            allowed: verdict.allowed.iter().copied().collect(),
            refused: verdict.refused.iter().map(|refusal| refusal.user).collect(),
        }
    }

    /// What is decided about `user`, as far as it may be done. What was not asked about, because it was
    /// refused when it was looked at, is not done either if that has changed since.
    pub(super) fn pass(&self, user: &UserId, decided: &dyn Fn() -> Decided) -> Decided {
        if self.refused.contains(user) {
            return Err(Rejection::Forbidden);
        }
        let decided = decided()?;
        if self.allowed.contains(user) { Ok(decided) } else { Err(Rejection::Forbidden) }
    }
}

impl Command {
    /// What is wished, and what was said to it.
    pub fn parts(&self) -> (&Self, Option<&Verdict>) {
        match self {
            Self::Judged(judged) => (&judged.command, Some(&judged.verdict)),
            command => (command, None),
        }
    }

    /// The same wish under `verdict`.
    #[must_use]
    pub fn under(&self, verdict: Verdict) -> Self {
        let (command, _) = self.parts();
        Self::Judged(Box::new(Judged { command: command.clone(), verdict }))
    }
}
