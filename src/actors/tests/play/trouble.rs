//! What may happen to a partition of the journal between two looks at it, and how it is read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::journal::{Handle, Medium};
use crate::actors::tests::memory::lock;
use crate::journal::{Entry, JournalError, Offset, Partition, ReadJournal, Reader};

/// Records of a partition that one read gives at most, so that something may happen between two.
const PORTION: usize = 7;

/// What happens.
pub(super) enum Twist {
    /// It cannot be read until that is mended, as a partition without a leader.
    Silence,
    /// So many of the records that wait at somebody's become durable.
    Arrival(Arc<Handle>, usize),
}

/// What will happen to which partition, and after how many more looks at it.
#[derive(Default)]
pub(super) struct Trouble {
    twists: Mutex<BTreeMap<Partition, (usize, Twist)>>,
    counts: Mutex<Counts>,
}

/// How often something happened.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    /// Looks at what could not be read.
    pub(super) unread: usize,
    /// Records that came while somebody read.
    pub(super) arrived: usize,
    /// Records that were not taken.
    pub(super) refused: usize,
}

impl Trouble {
    /// Something happens to `partition` after so many looks at it, and nothing else.
    pub(super) fn plan(&self, partition: Partition, looks: usize, twist: Twist) {
        lock(&self.twists).insert(partition, (looks, twist));
    }

    /// Nothing is wrong with `partition`, and nothing will be.
    pub(super) fn mend(&self, partition: Partition) {
        // What waits at a handle that nobody else has any more is dropped without the lock.
        let mended = lock(&self.twists).remove(&partition);
        drop(mended);
    }

    pub(super) fn is_silent(&self, partition: Partition) -> bool {
        matches!(lock(&self.twists).get(&partition), Some((0, Twist::Silence)))
    }

    /// A record was not taken.
    pub(super) fn note_refused(&self) {
        lock(&self.counts).refused += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Somebody looks at `partition`.
    pub(super) fn look(&self, partition: Partition) -> Result<(), JournalError> {
        let happened = {
            let mut twists = lock(&self.twists);
            match twists.get_mut(&partition) {
                None => return Ok(()),
                Some((looks @ 1.., _)) => {
                    *looks -= 1;
                    return Ok(());
                }
                Some((_, Twist::Silence)) => {
                    lock(&self.counts).unread += 1;
                    let reason = format!("partition {partition} has no leader");
                    return Err(JournalError::Unreachable { reason });
                }
                Some((_, Twist::Arrival(..))) => twists.remove(&partition),
            }
        };
        if let Some((_, Twist::Arrival(handle, count))) = happened {
            lock(&self.counts).arrived += handle.waiting(Some(partition)).min(count);
            handle.sync(Some(partition), count);
        }
        Ok(())
    }
}

/// Reads what is there, a portion at a time.
pub(super) struct Portions {
    medium: Medium,
    from: Vec<(Partition, Offset)>,
    cuts: usize,
}

impl Portions {
    pub(super) fn new(medium: Medium, from: &[(Partition, Offset)]) -> Self {
        Self { cuts: medium.cuts(), medium, from: from.to_vec() }
    }
}

impl Reader for Portions {
    fn next(&mut self, _: usize) -> Result<Vec<Entry>, JournalError> {
        for (partition, next) in &self.from {
            self.medium.trouble.look(*partition)?;
            // Brokers say so of a place whose record they had and have no more.
            let end = self.medium.end(*partition)?;
            if *next > end || self.medium.cuts() != self.cuts {
                let (partition, offset) = (*partition, *next);
                return Err(JournalError::NoSuchOffset { partition, offset, end });
            }
        }
        let mut entries = Vec::new();
        for (partition, next) in &mut self.from {
            for bytes in self.medium.portion(*partition, next.0 as usize, PORTION) {
                entries.push(Entry { partition: *partition, offset: *next, bytes });
                next.0 += 1;
            }
        }
        Ok(entries)
    }
}
