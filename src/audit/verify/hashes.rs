//! The row hash of each partition's state, rebuilt record by record, and what it is held against:
//! the hashes that owners wrote into the journal, and the rows of the local state store.

use super::report::{Noted, Rule};
use crate::journal::{Offset, Partition};
use crate::store::rows::RowHash;

/// What a state store holds of one partition at its last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRows {
    /// The partition.
    pub partition: Partition,
    /// The first offset that is not in the rows.
    pub next: Offset,
    /// The hash of the rows themselves, whatever hash the store has noted for them.
    pub hash: RowHash,
}

impl StoredRows {
    /// Hashes the rows, key and value, that the store holds of `partition` up to `next`. Mark and
    /// rows have to be of one checkpoint. Errors: the first one that reading a row gives.
    pub fn of<K: AsRef<[u8]>, V: AsRef<[u8]>, E>(
        partition: Partition,
        next: Offset,
        rows: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<Self, E> {
        let mut hash = RowHash::default();
        for row in rows {
            let (key, value) = row?;
            hash.toggle(RowHash::of(key.as_ref(), value.as_ref()));
        }
        Ok(Self { partition, next, hash })
    }
}

/// The hashes of all partitions.
pub(super) struct Hashes {
    live: Vec<RowHash>,
    stored: Vec<Option<StoredRows>>,
    compared: u64,
    /// Those in the journal that are over rows of another layout.
    incomparable: u64,
}

impl Hashes {
    pub(super) fn new(partitions: u16, stored: &[StoredRows], problems: &mut Noted) -> Self {
        let mut by_partition = vec![None; usize::from(partitions)];
        for rows in stored {
            match by_partition.get_mut(usize::from(rows.partition.0)) {
                Some(place) => *place = Some(*rows),
                None => problems.add(
                    Rule::StoreInsideJournal,
                    (rows.partition, rows.next),
                    format!("the journal has only {partitions} partitions"),
                ),
            }
        }
        Self {
            live: vec![RowHash::default(); usize::from(partitions)],
            stored: by_partition,
            compared: 0,
            incomparable: 0,
        }
    }

    /// The hash of the state so far, to bring up to date.
    pub(super) fn live(&mut self, partition: Partition) -> &mut RowHash {
        &mut self.live[usize::from(partition.0)]
    }

    /// How many hashes were compared.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// What could not be compared.
    pub(super) fn note(&self) -> Option<String> {
        (self.incomparable > 0).then(|| {
            format!(
                "{} row hashes in the journal are over rows of another layout, and are not compared",
                self.incomparable
            )
        })
    }

    /// Whether a store stands here.
    pub(super) fn awaits(&self, (partition, offset): (Partition, Offset)) -> bool {
        self.stored[usize::from(partition.0)].is_some_and(|rows| rows.next <= offset)
    }

    /// Everything before `offset` is in the state: compares with a store that stands here.
    pub(super) fn reach(&mut self, (partition, offset): (Partition, Offset), problems: &mut Noted) {
        let index = usize::from(partition.0);
        let Some(rows) = self.stored[index].take_if(|rows| rows.next <= offset) else { return };
        self.compared += 1;
        if rows.hash != self.live[index] {
            let detail = format!(
                "the state store has row hash {}, the journal up to here makes {}",
                rows.hash, self.live[index]
            );
            problems.add(Rule::StoreHash, (partition, rows.next), detail);
        }
    }

    /// Compares with the hash that a valid record holds.
    pub(super) fn compare(&mut self, place: (Partition, Offset), said: &str, problems: &mut Noted) {
        if !RowHash::is_comparable(said) {
            self.incomparable += 1;
            return;
        }
        self.compared += 1;
        let live = self.live[usize::from(place.0.0)];
        if live.differs_from(said) {
            let detail = format!("says row hash {said}, the journal up to here makes {live}");
            problems.add(Rule::JournalHash, place, detail);
        }
    }

    /// Compares with the stores that stand at the end of their partition or behind it.
    pub(super) fn finish(&mut self, ends: &[Offset], problems: &mut Noted) {
        for (index, end) in ends.iter().enumerate() {
            let partition = Partition(index as u16);
            self.reach((partition, *end), problems);
            if let Some(rows) = self.stored[index].take() {
                let detail =
                    format!("the state store stands at {}, behind the end {end}", rows.next);
                problems.add(Rule::StoreInsideJournal, (partition, *end), detail);
            }
        }
    }
}
