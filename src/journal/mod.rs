//! The durable, ordered record: one trait, two adapters, and the rules every reader and writer
//! follows.
//!
//! Promises: records of one partition are read in the order of their offsets; what was acknowledged
//! stays; a record is read whole or not at all. It knows nothing of actors and HTTP.

mod apart;
pub mod archive;
#[cfg(debug_assertions)]
pub(crate) mod bad_disk;
pub mod board;
pub mod copy;
pub mod cursor;
pub mod embedded;
pub mod fence;
mod imprint;
pub mod kafka;
pub mod partitioner;
pub mod record;
mod verbatim;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

pub use apart::{FOLLOWER_PATIENCE, unreadable};
pub use archive::Archive;
pub use board::{Board, Notice};
pub use cursor::{Cursor, DeadLetter, Filter, Parked, Place, Progress, Tally};
pub use fence::{Ack, Admitted, ReaderRule, WriterRule};
pub use imprint::Imprint;
pub use partitioner::partition_of;
pub use record::{Body, Cause, Commit, Kind, Origin, Record, RecordError};

/// The largest record that a journal has, in bytes: more than any command makes.
pub const RECORD_BYTES_MAX: usize = 4_000_000;

/// One ordered slice of the journal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Partition(pub u16);

/// A place in a partition, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// A term of office over a partition; 0 before the first claim.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of records handed to [`Journal::append`], in the order in which they were handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The next `count` records are durable, at `first` and the offsets behind it.
    Durable {
        /// The first one's offset.
        first: Offset,
        /// How many, at least 1.
        count: u64,
    },
    /// The next record and everything behind it were not acknowledged. They may or may not be there:
    /// claim again and read before deciding anything.
    Lost,
}

/// The order in which records of different partitions become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the order of [`Journal::append`] over all partitions: if a record is durable, so is every
    /// record appended before it, in whatever partition (prefix durability).
    Prefix,
    /// In the order of each partition alone.
    PerPartition,
}

/// Is told the end of a partition, or why it is not known.
pub type TellEnd<'a> = dyn FnMut(Partition, Result<Offset, JournalError>) + 'a;

/// The journal as audits see it: something to read. All methods block: on the disk, or
/// on the network for seconds.
pub trait ReadJournal: Send + Sync + 'static {
    /// How many partitions there are, fixed when the journal was created.
    fn partitions(&self) -> u16;

    /// Reads each of `from`'s partitions from its offset on, durable records only.
    ///
    /// Errors: [`JournalError::NoSuchOffset`] for an offset behind the partition's end.
    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError>;

    /// A reader that waits at most `patience` for a record that is known to exist, and then fails. For
    /// followers of several partitions, who try again.
    fn reader_within(
        &self,
        from: &[(Partition, Offset)],
        patience: Duration,
    ) -> Result<Box<dyn Reader>, JournalError> {
        // A disk is not waited for.
        let _ = patience;
        self.reader(from)
    }

    /// The offset behind the last durable record of `partition`.
    fn end(&self, partition: Partition) -> Result<Offset, JournalError>;

    /// The ends of several partitions, in order: for a journal that is asked over a network, all in
    /// one question.
    fn ends(&self, partitions: &[Partition]) -> Result<Vec<Offset>, JournalError> {
        partitions.iter().map(|partition| self.end(*partition)).collect()
    }

    /// Tells the ends of several partitions, each as soon as it is known and within about `patience`:
    /// who is not answered takes nobody else's answer away.
    fn each_end(&self, partitions: &[Partition], patience: Duration, tell: &mut TellEnd<'_>) {
        let _ = patience;
        for partition in partitions {
            tell(*partition, self.end(*partition));
        }
    }

    /// Where the journal is damaged first. `None` if it is not, or it cannot be told.
    fn damage(&self) -> Result<Option<Damage>, JournalError> {
        Ok(None)
    }

    /// How many bytes behind the last record are not a whole record: of a write that was interrupted, or is
    /// under way. No caller was told of it. `0` if that is unknown.
    fn torn_bytes(&self) -> Result<u64, JournalError> {
        Ok(0)
    }
}

/// The first damage of a journal.
pub struct Damage {
    /// Everything before it.
    pub whole: Box<dyn ReadJournal>,
    /// The first unreadable record, as far as its remains say which it is; else the next one of
    /// partition 0.
    pub at: (Partition, Offset),
    /// File and byte, and what is wrong there.
    pub detail: String,
}

/// The journal as the rest of the program sees it. Its own methods return at once; none waits for
/// durability.
///
/// After a [`Settlement::Lost`] the partition takes nothing more until its owner attaches again: an
/// owner who has not heard of the loss yet must not get later records durable behind the hole. An
/// adapter with [`Durability::Prefix`] tells *every* partition of a loss, because records of one
/// partition may rest on lost ones of another.
pub trait Journal: ReadJournal {
    /// What order durability has.
    fn durability(&self) -> Durability;

    /// How long an owner may answer questions on the strength of a confirmation that it still is the
    /// owner; nothing if nobody else can write this journal while it is open. Rule: cluster.md 6.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Where the fate of `partition`'s appended records is told from now on: each append's exactly
    /// once, in order. The queue is bounded by what its owner has in flight.
    ///
    /// Attaching again is also how an owner says that it has heard of a loss and starts afresh.
    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>);

    /// How often everything in flight was lost, where one loss is everybody's ([`Durability::Prefix`]):
    /// counted before anybody is told of it.
    fn losses(&self) -> u64 {
        0
    }

    /// Puts one encoded record behind all that were appended to `partition` before.
    ///
    /// Errors: [`JournalError::Full`] when more is in flight than the adapter takes,
    /// [`JournalError::Unavailable`] while it cannot write, or since a loss after which `partition`
    /// was not attached again; then nothing was appended.
    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError>;

    /// Says that a batch may go out now if the journal is idle. Without it, appended records may
    /// wait for company.
    fn flush(&self);

    /// Changes whenever more records became durable: what a follower at the end waits for. The value
    /// itself only grows.
    fn progress(&self) -> watch::Receiver<u64>;

    /// Whether reading asks other machines, and may wait for them for seconds: then it is for a thread
    /// on which nobody else waits.
    fn is_remote(&self) -> bool {
        false
    }

    /// The offset behind the last record of `partition` that this process knows to be durable, told
    /// without asking anybody: the end, as long as nobody else writes the partition.
    fn known_end(&self, partition: Partition) -> Offset;

    /// Whether records can be written at present; the reason if not.
    fn writable(&self) -> Result<(), JournalError>;
}

/// One record as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// The encoded record.
    pub bytes: Vec<u8>,
}

/// Reads some partitions, each in order; between partitions in the order of durability where the
/// journal has one.
pub trait Reader: Send {
    /// The next records that are durable by now, up to about `bytes_max` bytes but at least one if
    /// there is one; empty at the end. Never waits for records to come.
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError>;
}

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// More is in flight than the adapter takes. Try again later.
    #[error("too many records are in flight")]
    Full,
    /// Nothing can be written at present: disk full, read-only, or broken.
    #[error("the journal cannot be written: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// What keeps the journal does not answer at present.
    #[error("the journal cannot be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// Another process holds the journal.
    #[error("the journal at {} is in use by another process", path.display())]
    Locked {
        /// Its folder.
        path: PathBuf,
    },
    /// A record that was durable is not readable any more. Never skipped.
    #[error("the journal is damaged at {place}: {detail}")]
    Corrupt {
        /// File and byte, or partition and offset.
        place: String,
        /// What is wrong there.
        detail: String,
    },
    /// The journal was created with other settings than asked for.
    #[error(
        "the journal has {found} partitions, the settings say {expected}: set journal.partitions to {found}"
    )]
    Partitions {
        /// What the journal has.
        found: u16,
        /// What was asked for.
        expected: u16,
    },
    /// A topic of the journal is not as the promises need it.
    #[error("the topic {topic}: {problem}")]
    Topic {
        /// Its name.
        topic: String,
        /// What is wrong with it, and what is needed.
        problem: String,
    },
    /// An offset that the journal does not hold.
    #[error("partition {partition} has no offset {offset}: it ends at {end}")]
    NoSuchOffset {
        /// The partition.
        partition: Partition,
        /// The offset asked for.
        offset: Offset,
        /// The partition's end.
        end: Offset,
    },
    /// Records that were acknowledged to this process are not there any more. Rule: cluster.md 7, row 21.
    #[error(
        "partition {partition} of the journal ends at {end}, and records before {known} were \
         acknowledged to this node: the journal has lost them"
    )]
    Shortened {
        /// The partition.
        partition: Partition,
        /// The offset behind the last record that was acknowledged.
        known: Offset,
        /// The partition's end.
        end: Offset,
    },
    /// The operating system said no.
    #[error("{action}: {source}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}
