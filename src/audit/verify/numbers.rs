//! The numbers of an epoch's records: without a gap, and each for one record.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::Rule;
use super::report::Noted;
use crate::journal::{Epoch, Offset, Partition, Record};

/// Records whose bytes are remembered, by a hash, to be told from others with their number: more than
/// any owner has in flight over a broker that repeats.
const REMEMBERED_MAX: usize = 1024;

/// What is known of the epoch in force in one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    epoch: Epoch,
    /// The number of the last record that counts.
    last: u64,
    /// A number is missing. Said once of an epoch: nothing behind the gap can fit any more.
    gap: bool,
    /// The hashes of the last records that count, up to `last`.
    hashes: VecDeque<u64>,
}

impl Numbers {
    /// The epoch in force.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A claim takes effect.
    pub(super) fn claimed(&mut self, epoch: Epoch) {
        *self = Self { epoch, ..Self::default() };
    }

    /// A record counts.
    pub(super) fn valid(&mut self, n: u64, bytes: &[u8]) {
        self.last = n;
        if self.hashes.len() == REMEMBERED_MAX {
            self.hashes.pop_front();
        }
        self.hashes.push_back(xxh3_64(bytes));
    }

    /// A record counts for nobody. That is right; how it came about may not be.
    pub(super) fn void(
        &mut self,
        place: (Partition, Offset),
        record: &Record,
        bytes: &[u8],
        problems: &mut Noted,
        warnings: &mut Noted,
    ) {
        let (epoch, n, known) = (record.epoch, record.n, self.epoch);
        if epoch > known {
            let detail = format!("is of epoch {epoch}, which nobody has claimed after {known}");
            problems.add(Rule::WrittenUnderClaim, place, detail);
        }
        if epoch != known {
            return;
        }
        if n > self.last + 1 && !self.gap {
            self.gap = true;
            let detail =
                format!("has number {n} of epoch {epoch}, where {} follows", self.last + 1);
            warnings.add(Rule::NumbersWithoutGap, place, detail);
        }
        let back = usize::try_from(self.last.wrapping_sub(n)).unwrap_or(usize::MAX);
        let remembered = self.hashes.iter().rev().nth(back);
        if n <= self.last && remembered.is_some_and(|hash| *hash != xxh3_64(bytes)) {
            let detail = format!("is another record than the one with number {n} of epoch {epoch}");
            problems.add(Rule::OneRecordPerNumber, place, detail);
        }
    }
}
