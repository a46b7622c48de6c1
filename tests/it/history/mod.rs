//! What clients saw, held against what was promised. Rule: cluster.md 14, item 6.
//!
//! A [`Recorder`] writes down what clients ask and what they are answered; afterwards the checks look
//! at it without any node:
//!
//! - [`check`]: each block is a register that is linearizable over all nodes, and after the answer to a
//!   block nobody sees a friendship between the two (design.md 2, promise 2), nor anything else than
//!   what a befriending or unfriending was answered with (1);
//! - [`check_facts`]: what was acknowledged stands in the journal exactly once (promise 1);
//! - [`check_friends`]: some moment of the journal explains every look at a friendship, and every
//!   blocklist as a whole (1, 3);
//! - [`check_callbacks`]: subscribers heard of everything, in order, in the same bytes (promise 5).
//!
//! What is not known counts in favour of the node: an operation without an answer may have happened
//! at any time after it was asked, or not at all. A few of them excuse nearly everything, so after a
//! run with failures [`resolve`] first asks the journal what became of them. What cannot be decided
//! is no pass. The checks know of no deleted accounts and of no friendships that outlast a block.
//!
//! ```text
//! let recorder = Recorder::new();
//! recorder.ask(client, node, &mut caller, Call::new(Deed::Block, amy, &[bob]));   // by many threads
//! let operations = recorder.into_operations();
//! let log = Log::from_lines(&replayed)?;                      // cordon replay --all --json
//! check_facts(&operations, &log)?;
//! check(&resolve(&operations, &log))?;
//! let callbacks: Vec<Callback> = subscriber.heard().iter().map(Callback::from).collect();
//! check_callbacks(&callbacks, &Subscriber::of_all(app), &log)?;
//! ```

mod callbacks;
mod facts;
mod friendships;
mod log;
mod recorder;
mod registers;
mod resolve;
#[cfg(test)]
mod tests;
mod violation;
mod witness;

use std::fmt;

use cordon::domain::UserId;
use cordon::journal::{Offset, Partition};
use uuid::Uuid;

pub(crate) use callbacks::{Callback, Subscriber, check_callbacks};
pub(crate) use facts::check_facts;
pub(crate) use log::Log;
pub(crate) use recorder::{Invocation, Recorder};
pub(crate) use resolve::resolve;
pub(crate) use violation::{Violation, Violations};
pub(crate) use witness::check_friends;

/// Where a record stands.
pub(crate) type Place = (Partition, Offset);

/// Nanoseconds of one clock that never goes back.
pub(crate) type Nanos = u64;

/// What a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Block,
    Unblock,
    /// `friend_add` in both directions.
    Befriend,
    /// `friend_delete` of both directions.
    Unfriend,
    /// The whole blocklist, in one page.
    Blocklist,
    /// `black_list_check` of both directions.
    Blocks,
    /// `friend_check` of both directions.
    Friends,
}

impl Deed {
    /// Whether it is a question.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Blocklist | Self::Blocks | Self::Friends)
    }
}

/// One call: a batch with one item per target; without targets for a [`Deed::Blocklist`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) deed: Deed,
    pub(crate) owner: UserId,
    pub(crate) targets: Vec<UserId>,
}

/// Who has whom on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// The owner has the target.
    pub(crate) mine: bool,
    /// The target has the owner.
    pub(crate) theirs: bool,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A change was answered, with a code per target.
    Codes(Vec<u64>),
    /// The blocklist.
    Names(Vec<UserId>),
    /// A check was answered; `None` for an item that failed.
    Relations(Vec<Option<Relation>>),
    /// It was surely not done.
    Failed,
    /// Nobody was told, and the journal says that it was done, at some time between the two.
    Recorded,
    /// Nobody knows: no answer, a closed connection, a time-out.
    Unknown,
}

/// A call, when it was made, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// The node that was asked.
    pub(crate) node: usize,
    pub(crate) call: Call,
    pub(crate) invoked_at: Nanos,
    /// When the client stopped waiting, with or without an answer.
    pub(crate) answered_at: Option<Nanos>,
    pub(crate) outcome: Outcome,
    /// `Cordon-Request-Id` of the answer.
    pub(crate) request: Option<Uuid>,
    /// `Cordon-Position` of the answer.
    pub(crate) positions: Vec<Place>,
}

impl Operation {
    /// When at the latest it happened: never, if there is no answer.
    fn end(&self) -> Nanos {
        match self.outcome {
            Outcome::Unknown => Nanos::MAX,
            _ => self.answered_at.unwrap_or(Nanos::MAX),
        }
    }

    /// Whether it may change something between the two.
    fn changes_between(&self, [one, other]: [UserId; 2]) -> bool {
        let Call { deed, owner, targets, .. } = &self.call;
        let is_of =
            |owner_is: UserId, about: UserId| *owner == owner_is && targets.contains(&about);
        !deed.is_read() && (is_of(one, other) || is_of(other, one))
    }

    /// Each target with what became of it.
    fn items(&self) -> impl Iterator<Item = (UserId, Verdict)> {
        let verdict = |index: usize| match &self.outcome {
            Outcome::Codes(codes) => {
                codes.get(index).map_or(Verdict::Unknown, |code| Verdict::of(self.call.deed, *code))
            }
            Outcome::Failed => Verdict::NotDone,
            Outcome::Recorded => Verdict::Recorded,
            Outcome::Unknown | Outcome::Names(_) | Outcome::Relations(_) => Verdict::Unknown,
        };
        self.call.targets.iter().enumerate().map(move |(index, target)| (*target, verdict(index)))
    }
}

/// What became of one item of a change. Rule: rest-api.md 3.2, 3.3, 4.2, 4.5; cluster.md 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Done.
    Done,
    /// It is in force, and something on the other side is owed.
    Owed,
    /// It was so already.
    Already,
    /// Refused by another rule.
    NotDone,
    /// Done, and nobody was told.
    Recorded,
    Unknown,
}

impl Verdict {
    fn of(deed: Deed, code: u64) -> Self {
        match (deed, code) {
            (_, 0) => Self::Done,
            (Deed::Block, 30007) => Self::Owed,
            (_, 30001) | (Deed::Unfriend, 31704) => Self::Already,
            // Internal errors and time-outs; a befriending that waits for an answer may go on.
            (_, 30006..=30008) | (Deed::Befriend, 30539) => Self::Unknown,
            _ => Self::NotDone,
        }
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) operations: usize,
    /// Pairs of users whose block was looked at, by direction.
    pub(crate) blocks: usize,
    /// How often a friendship was looked at while a block between the two was answered.
    pub(crate) looks_at_the_blocked: usize,
    /// How often the journal explained who was seen as a friend.
    pub(crate) looks_explained: usize,
    /// How often the journal explained a whole blocklist.
    pub(crate) lists_explained: usize,
    /// Items whose fact was looked for in the journal.
    pub(crate) facts: usize,
    /// Calls that a subscriber was owed.
    pub(crate) callbacks: usize,
}

/// Holds the answers of all nodes against each other. Errors: what was promised and not kept, or
/// could not be decided.
pub(crate) fn check(operations: &[Operation]) -> Result<Report, Violations> {
    let mut violations = Vec::new();
    let blocks = registers::check(operations, &mut violations);
    let looks_at_the_blocked = friendships::check(operations, &mut violations);
    let operations = operations.len();
    let report = Report { operations, blocks, looks_at_the_blocked, ..Report::default() };
    Violations::or(report, violations)
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |nanos: Nanos| nanos as f64 / 1e6;
        let Call { deed, owner, targets } = &self.call;
        write!(f, "{:.3} ms to ", ms(self.invoked_at))?;
        match self.answered_at {
            Some(at) => write!(f, "{:.3} ms", ms(at))?,
            None => write!(f, "the end")?,
        }
        let (client, node) = (self.client, self.node);
        write!(f, ", client {client}, node {node}: {deed:?} {owner} {targets:?} -> ")?;
        match &self.outcome {
            Outcome::Codes(codes) => write!(f, "{codes:?}")?,
            Outcome::Names(names) => write!(f, "{names:?}")?,
            Outcome::Relations(relations) => {
                let texts = relations.iter().map(|relation| match relation {
                    None => "failed",
                    Some(Relation { mine: true, theirs: true }) => "both ways",
                    Some(Relation { mine: true, theirs: false }) => "one way",
                    Some(Relation { mine: false, theirs: true }) => "the other way",
                    Some(Relation { mine: false, theirs: false }) => "no",
                });
                write!(f, "[{}]", texts.collect::<Vec<_>>().join(", "))?;
            }
            Outcome::Failed => write!(f, "surely not")?,
            Outcome::Recorded => write!(f, "done, says the journal")?,
            Outcome::Unknown => write!(f, "nobody knows")?,
        }
        Ok(())
    }
}
