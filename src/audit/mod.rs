//! The story told again, for people: [`replay`], [`history`], [`state`], [`verify`], and what became
//! of the calls that it caused: [`webhooks`].
//!
//! Promises: everything here only reads, takes no lock, and works beside a running node. Records are
//! streamed; what is kept in memory is named by the module that keeps it. Which records count is
//! decided by the same [`ReaderRule`](crate::journal::ReaderRule) and what they mean by the same
//! [`User::replay`](crate::domain::User::replay) as in a node. A folder, a running node and a Kafka
//! cluster are all the same to it: a [`ReadJournal`](crate::journal::ReadJournal). It knows neither
//! actors nor the API edge.

pub mod filter;
mod findings;
pub mod history;
mod plain;
mod progress;
pub mod replay;
#[cfg(test)]
mod simulation;
pub mod state;
pub mod story;
pub mod verify;
mod walk;
pub mod webhooks;

use std::io;

pub use filter::Filter;
pub use findings::{FINDINGS_SHOWN_MAX, Findings};

use crate::domain::{AppId, UserId, UserKey};
use crate::journal::{JournalError, Offset, Partition};

/// How a story is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

/// Why a story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The output cannot be written. A closed pipe is no error: the reader has seen enough.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// No event has this name.
    #[error("no event has the type {name:?}; the types are {}", story::EVENT_TYPES.join(", "))]
    UnknownType {
        /// The name asked for.
        name: String,
    },
    /// A partition that the journal does not have.
    #[error("there is no partition {partition}: the journal has 0 to {}", partitions - 1)]
    NoSuchPartition {
        /// The partition asked for.
        partition: Partition,
        /// How many the journal has.
        partitions: u16,
    },
    /// A place in a partition that does not hold the user's records.
    #[error("the records of {key} are in partition {home}, not in {partition}")]
    OtherPartition {
        /// The user.
        key: UserKey,
        /// Where the user's records are.
        home: Partition,
        /// The partition asked for.
        partition: Partition,
    },
    /// A place behind the end of its partition.
    #[error("there is no record at {partition}@{offset}: the next one will stand at {end}")]
    NoSuchOffset {
        /// The partition.
        partition: Partition,
        /// The offset asked for.
        offset: Offset,
        /// The end of the partition.
        end: Offset,
    },
    /// The journal says nothing of the user.
    #[error("{}", unknown(*user, *app, *unreadable))]
    UnknownUser {
        /// The user asked for.
        user: UserId,
        /// The app asked for; `None` for all of them.
        app: Option<AppId>,
        /// Records that could not be read: any of them may be the user's.
        unreadable: u64,
    },
    /// The journal says nothing of the subscription.
    #[error("{}", no_subscription(name.as_deref(), *app))]
    UnknownSubscription {
        /// The name asked for; `None` for any.
        name: Option<Box<str>>,
        /// The app asked for; `None` for all of them.
        app: Option<AppId>,
    },
    /// The journal knows the user in more than one app, and none was asked for.
    #[error("there is a {user} in several apps, so one has to be named: {}", listed(apps))]
    SeveralApps {
        /// The user asked for.
        user: UserId,
        /// The apps.
        apps: Vec<AppId>,
    },
}

fn unknown(user: UserId, app: Option<AppId>, unreadable: u64) -> String {
    let place = app.map(|app| format!(" in app {app}")).unwrap_or_default();
    let doubt = match unreadable {
        0 => String::new(),
        some => format!("; {some} records cannot be read"),
    };
    format!("there is no record of {user}{place}{doubt}")
}

fn no_subscription(name: Option<&str>, app: Option<AppId>) -> String {
    let place = app.map(|app| format!(" of app {app}")).unwrap_or_default();
    match name {
        Some(name) => format!("no such subscription in the journal: {}{place}", plain::Plain(name)),
        None => format!("no subscription{place} in the journal"),
    }
}

fn listed(apps: &[AppId]) -> String {
    let apps: Vec<String> = apps.iter().map(AppId::to_string).collect();
    apps.join(", ")
}

/// Takes the end of a pipe for the end of the story.
fn until_closed<T>(result: Result<T, AuditError>, seen: T) -> Result<T, AuditError> {
    match result {
        Err(AuditError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(seen),
        other => other,
    }
}
