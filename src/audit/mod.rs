//! The story told again, for people: [`replay`], [`history`] and [`verify`].
//!
//! Promises: everything here only reads, takes no lock, and works beside a running node. Records are
//! streamed; what is kept in memory is named by the module that keeps it. Which records count is
//! decided by the same [`ReaderRule`](crate::journal::ReaderRule) and what they mean by the same
//! [`User::replay`](crate::domain::User::replay) as in a node. A folder, a running node and a Kafka
//! cluster are all the same to it: a [`ReadJournal`](crate::journal::ReadJournal). It knows neither
//! actors nor the API edge.

pub mod filter;
pub mod history;
mod progress;
pub mod replay;
#[cfg(test)]
mod simulation;
pub mod story;
pub mod verify;
mod walk;

use std::io;

pub use filter::Filter;

use crate::journal::{JournalError, Partition};

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
}

/// Takes the end of a pipe for the end of the story.
fn until_closed<T>(result: Result<T, AuditError>, seen: T) -> Result<T, AuditError> {
    match result {
        Err(AuditError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(seen),
        other => other,
    }
}
