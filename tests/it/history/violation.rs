//! What was promised and not kept.

use std::fmt;

use cordon::domain::UserId;

use super::Place;

/// One broken promise, or a question that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// No order of the operations explains the answers about this block.
    NotLinearizable { owner: UserId, target: UserId, at: String, among: Vec<String> },
    /// There are too many orders to try: nothing is known about this block.
    TooConcurrent { owner: UserId, target: UserId, at: String },
    /// A friendship was seen although a block had been answered.
    FriendsDespiteBlock { block: String, seen: String },
    /// A look at a friendship does not show what was answered before.
    FriendsStale { change: String, seen: String, among: Vec<String> },
    /// No moment of the journal explains a whole blocklist.
    ListUnexplained { owner: UserId, at: String },
    /// No moment of the journal explains what was seen of a friendship.
    FriendUnexplained { owner: UserId, peer: UserId, seen: bool, at: String },
    /// A change was acknowledged, and no fact of it is in the journal.
    FactMissing { of: String, target: UserId },
    /// The same fact stands in the journal twice for one request.
    FactTwice { fact: String, first: Place, second: Place },
    /// A change was refused, and its fact is in the journal all the same.
    FactOfTheRefused { of: String, target: UserId, place: Place },
    /// What stands at the position of an answer is not what the answer speaks of.
    PositionWrong { of: String, place: Place, found: String },
    /// A subscriber never took a call that it was owed.
    CallbackMissing { id: String, user: UserId },
    /// A subscriber heard of a later fact of a user before an earlier one.
    CallbackOutOfOrder { user: UserId, before: String, id: String },
    /// A call has other bytes than its record says, on some try.
    CallbackChanged { id: String, body: String, expected: String },
    /// A call has no record behind it.
    CallbackUnfounded { id: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(partition, offset): &Place| format!("{partition}@{offset}");
        match self {
            Self::NotLinearizable { owner, target, at, among } => {
                write!(
                    f,
                    "no order explains whether {owner} blocks {target} at\n    {at}\n  among"
                )?;
                among.iter().try_for_each(|operation| write!(f, "\n    {operation}"))
            }
            Self::TooConcurrent { owner, target, at } => {
                write!(f, "undecided whether {owner} blocks {target}: too many orders at\n    {at}")
            }
            Self::FriendsDespiteBlock { block, seen } => {
                write!(f, "a friendship was seen:\n    {seen}\n  although blocked:\n    {block}")
            }
            Self::FriendsStale { change, seen, among } => {
                write!(
                    f,
                    "seen:\n    {seen}\n  although done, and not undone:\n    {change}\n  among"
                )?;
                among.iter().try_for_each(|operation| write!(f, "\n    {operation}"))
            }
            Self::ListUnexplained { owner, at } => {
                write!(f, "no moment of the journal explains the blocklist of {owner}:\n    {at}")
            }
            Self::FriendUnexplained { owner, peer, seen, at } => {
                let has = if *seen { "has" } else { "has not" };
                write!(f, "no moment of the journal explains that {owner} {has} {peer}:\n    {at}")
            }
            Self::FactMissing { of, target } => {
                write!(f, "no fact about {target} in the journal for\n    {of}")
            }
            Self::FactTwice { fact, first, second } => {
                write!(f, "twice in the journal, at {} and {}: {fact}", text(first), text(second))
            }
            Self::FactOfTheRefused { of, target, place } => {
                write!(f, "refused for {target}, and recorded at {}:\n    {of}", text(place))
            }
            Self::PositionWrong { of, place, found } => {
                write!(f, "{found} stands at {}, the position of\n    {of}", text(place))
            }
            Self::CallbackMissing { id, user } => {
                write!(f, "the subscriber never heard {id} of {user}")
            }
            Self::CallbackOutOfOrder { user, before, id } => {
                write!(f, "the subscriber heard {before} before {id} of {user}")
            }
            Self::CallbackChanged { id, body, expected } => {
                write!(f, "{id} says\n    {body}\n  instead of\n    {expected}")
            }
            Self::CallbackUnfounded { id } => write!(f, "no valid record causes {id}"),
        }
    }
}

/// All that a check found.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Violations(pub(crate) Vec<Violation>);

impl Violations {
    /// `value`, unless there is something to complain of.
    pub(super) fn or<T>(value: T, found: Vec<Violation>) -> Result<T, Self> {
        if found.is_empty() { Ok(value) } else { Err(Self(found)) }
    }
}

/// How many are told in full.
const TOLD_MAX: usize = 10;

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations", self.0.len())?;
        self.0.iter().take(TOLD_MAX).try_for_each(|violation| write!(f, "\n- {violation}"))
    }
}

/// For `unwrap` and `expect`: people read it.
impl fmt::Debug for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
