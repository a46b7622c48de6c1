//! State = checkpoint + the records after it. Start, doubt, take-over and tests run this same fold.

mod following;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

pub(super) use following::Following;

use super::repeat::{LATELY, Lately, Repeats};
use super::snapshot::Snapshots;
use crate::domain::{User, UserKey};
use crate::journal::{
    Cursor, Imprint, Journal, JournalError, Offset, Partition, Place, ReaderRule, RecordError,
};
use crate::pairing::{Inbox, Outbox, OwedEffect};
use crate::store::row_set::RowSet;
use crate::store::rows::RowHash;
use crate::store::{CursorMark, Mark, OutboxMark, StoreError, Tables};

/// Bytes read from the journal at once by a standby; a recovery lets go of received effects as often.
pub(super) const READ_BYTES: usize = 4 << 20;
/// Bytes that a recovery reads at once. Few: the allocator gives larger heaps of small records back to
/// the system as soon as they are taken in, and has to clear fresh memory for the next ones.
const STEP_BYTES: usize = 64 << 10;

/// A partition's state behind the last record of the journal.
pub struct Recovered {
    /// Which partition.
    pub partition: Partition,
    /// The epoch in force and the number of its valid records.
    pub rule: ReaderRule,
    /// The first offset that was not read.
    pub next: Offset,
    /// The hash of all rows.
    pub hash: RowHash,
    /// The last record is the former owner's `release`.
    pub released: bool,
    /// One per source partition.
    pub inbox: Vec<Inbox>,
    /// One per destination partition.
    pub outbox: Vec<Outbox<Arc<OwedEffect>>>,
    /// Where the followers stand.
    pub cursors: BTreeMap<String, Cursor>,
    /// How many records were read.
    pub replayed: u64,
    /// The last claim among them that took effect: its nonce and its offset.
    pub claim: Option<(Uuid, Offset)>,
    /// The commands among them, the last ones.
    pub(super) done: Repeats,
    /// Places of the last seconds.
    pub(super) lately: Lately,
    /// The last record that counts.
    pub(super) last: Option<Imprint>,
    /// What the store could not take, because its disk is full or read-only.
    pub unsaved: Unsaved,
}

/// Users whose last records are in no checkpoint: they have to stay in memory until one is written.
#[derive(Default)]
pub struct Unsaved {
    /// The users, with the hash of their head rows.
    pub users: HashMap<UserKey, (User, RowHash)>,
    /// The rows that changed.
    pub rows: RowSet,
}

/// Why a partition cannot be recovered. None of these is ever passed over in silence.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is unreadable.
    #[error("partition {partition}, offset {offset}: {source}")]
    Record {
        /// Where.
        partition: Partition,
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// A record does not follow from the ones before it.
    #[error("partition {partition}, offset {offset}: {what}")]
    Order {
        /// Where.
        partition: Partition,
        /// Where.
        offset: Offset,
        /// What is wrong.
        what: String,
    },
    /// The rows are not those that the owner had at this place: the store has lost some in silence, or
    /// kept too many. It is rebuilt.
    #[error(
        "partition {partition}, offset {offset}: the state store has the row hash {here}, the owner \
         had {there}"
    )]
    Diverged {
        /// Which partition.
        partition: Partition,
        /// Where that is recorded.
        offset: Offset,
        /// The hash of the rows here.
        here: String,
        /// The owner's.
        there: String,
    },
    /// The rows of a user cannot be read. They are rebuilt.
    #[error("partition {partition}: {source}")]
    Rows {
        /// Which partition.
        partition: Partition,
        /// What is wrong with them.
        #[source]
        source: StoreError,
    },
    /// The journal ends before the checkpoint: durable records are missing.
    #[error(
        "partition {partition}: this node knows of durable records before offset {known}, the \
         journal ends at {journal}: it has lost them. Nothing is answered from what is left. Bring \
         the journal back; or, to go on without them, delete the state of all nodes, and the \
         topics of snapshots and owners, and have cordon verify name what does not fit together"
    )]
    JournalBehind {
        /// Which partition.
        partition: Partition,
        /// Behind the last record that is known.
        known: Offset,
        /// The journal's end.
        journal: Offset,
    },
    /// Another record stands where this node knows of a durable one. Rule: cluster.md 7, row 21.
    #[error(
        "partition {partition}: at offset {offset} stands another record than the one that this \
         node knows to be durable: the journal was cut off and has grown again, or it is another \
         one. Nothing is answered from it. Bring the journal back; or, to go on with this one, \
         delete the state of all nodes, and the topics of snapshots and owners, and have cordon verify name \
         what does not fit together"
    )]
    JournalDiffers {
        /// Which partition.
        partition: Partition,
        /// Where.
        offset: Offset,
    },
    /// Somebody else is waited for meanwhile, or the node stops.
    #[error("partition {partition}: the recovery was interrupted, because the node stops")]
    CutShort {
        /// Which partition.
        partition: Partition,
    },
}

impl RecoveryError {
    /// The partition whose rows are to blame, or may be: with rows made anew it may go well.
    pub(super) fn spoilt_rows(&self) -> Option<Partition> {
        match self {
            Self::Order { partition, .. }
            | Self::Diverged { partition, .. }
            | Self::Rows { partition, .. } => Some(*partition),
            Self::Journal(_)
            | Self::Store(_)
            | Self::Record { .. }
            | Self::JournalBehind { .. }
            | Self::JournalDiffers { .. }
            | Self::CutShort { .. } => None,
        }
    }
}

impl Recovered {
    fn from_mark(partition: Partition, mark: Mark, partitions: u16) -> Result<Self, StoreError> {
        let count = usize::from(partitions);
        let mut inbox: Vec<Inbox> = mark.inbox.into_iter().map(Inbox::restore).collect();
        inbox.resize_with(count, Inbox::default);
        let mut outbox: Vec<_> = mark
            .outbox
            .into_iter()
            .map(|owed| {
                let mut outbox = Outbox::restore(owed.acked);
                for effect in owed.owed {
                    outbox.push(0, effect);
                }
                outbox
            })
            .collect();
        outbox.resize_with(count, Outbox::default);
        let cursors: Result<_, StoreError> =
            mark.cursors.into_iter().map(CursorMark::read).collect();
        Ok(Self {
            partition,
            rule: ReaderRule::resume(mark.epoch, mark.n),
            next: mark.next,
            hash: RowHash(mark.hash),
            released: mark.released,
            inbox,
            outbox,
            cursors: cursors?,
            replayed: 0,
            claim: None,
            done: Repeats::default(),
            lately: Lately::begin(mark.lately),
            last: mark.last,
            unsaved: Unsaved::default(),
        })
    }

    /// The checkpoint of this state.
    pub fn mark(&mut self) -> Mark {
        let (epoch, n) = (self.rule.epoch(), self.rule.n());
        Mark {
            lately: self.lately.note(Place { next: self.next, epoch, n }, LATELY),
            next: self.next,
            last: self.last,
            epoch: self.rule.epoch(),
            n: self.rule.n(),
            hash: self.hash.0,
            released: self.released,
            inbox: self.inbox.iter().map(Inbox::seen).collect(),
            outbox: self
                .outbox
                .iter()
                .map(|outbox| OutboxMark {
                    acked: outbox.acked(),
                    owed: outbox.owed(u64::MAX).cloned().collect(),
                })
                .collect(),
            cursors: self.cursors.iter().map(|(name, at)| CursorMark::new(name, at)).collect(),
        }
    }
}

/// Brings the store up to the journal's end for each of `partitions`, and answers their states: from the
/// store's checkpoint, else from the journal's beginning.
///
/// Rows that turn out not to be the owner's, or not to be readable, are made anew from the journal's
/// beginning, once. Users of each partition who take `kept_bytes_max` together stay in memory meanwhile.
///
/// Blocks. Errors: [`RecoveryError`]; what was checkpointed stays.
pub fn recover(
    journal: &dyn Journal,
    tables: &Tables,
    partitions: &[Partition],
    kept_bytes_max: usize,
) -> Result<Vec<Recovered>, RecoveryError> {
    let mut rebuilt = BTreeSet::new();
    loop {
        let result = read_to_the_end(journal, None, tables, partitions, kept_bytes_max, None);
        match result.as_ref().err().map(|error| (error, error.spoilt_rows())) {
            Some((error, Some(partition))) if rebuilt.insert(partition) => {
                tracing::error!(
                    %error,
                    journal.partition = partition.0,
                    "rows of the state store are spoilt: rebuilding them from the journal"
                );
                tables.clear(partition)?;
            }
            _ => return result,
        }
    }
}

/// The same, but spoilt rows are an error: the caller has them rebuilt. A partition without a checkpoint
/// begins from its snapshot. The record `known` has to be in the journal, whatever the store says.
pub(super) fn read_to_the_end(
    journal: &dyn Journal,
    snapshots: Option<Snapshots<'_>>,
    tables: &Tables,
    partitions: &[Partition],
    kept_bytes_max: usize,
    known: Option<Imprint>,
) -> Result<Vec<Recovered>, RecoveryError> {
    let mut states = BTreeMap::new();
    let begun = Following::begin(journal, snapshots, tables, partitions, kept_bytes_max);
    for (partition, state) in begun {
        let mut state = state?;
        state.expect(known);
        states.insert(partition, state);
    }
    let from: Vec<(Partition, Offset)> =
        states.iter().map(|(partition, state)| (*partition, state.next())).collect();
    let mut reader = journal.reader(&from)?;
    let mut bytes = 0;
    loop {
        let entries = reader.next(STEP_BYTES)?;
        if entries.is_empty() {
            break;
        }
        if let Some(&partition) = partitions.first()
            && snapshots.is_some_and(|snapshots| (snapshots.is_over)())
        {
            return Err(RecoveryError::CutShort { partition });
        }
        for entry in entries {
            bytes += entry.bytes.len();
            let state = states.get_mut(&entry.partition).expect("only these are read");
            state.apply(&entry, tables)?;
        }
        if bytes >= READ_BYTES {
            bytes = 0;
            Following::release_received(&mut states);
        }
    }
    Following::release_received(&mut states);
    states.into_values().map(|state| state.finish(tables)).collect()
}
