//! One partition, read on from a place.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Deliveries, Fed, READ_BYTES, Said};
use crate::journal::{
    JournalError, Offset, Partition, Place, ReadJournal, Reader, ReaderRule, record,
};

/// Reads one partition on from a place.
pub(in crate::webhooks) struct Tail {
    partition: Partition,
    reader: Option<Box<dyn Reader>>,
    place: Place,
    /// Read, and not taken yet.
    kept: VecDeque<Fed>,
}

impl Tail {
    pub(in crate::webhooks) fn new(partition: Partition, place: Place) -> Self {
        Self { partition, reader: None, place, kept: VecDeque::new() }
    }

    /// The first offset that was not taken yet.
    pub(in crate::webhooks) fn at(&self) -> Offset {
        self.kept.front().map_or(self.place.next, |fed| fed.offset)
    }

    /// Whether nothing is there to be given.
    pub(in crate::webhooks) fn is_dry(&self) -> bool {
        self.kept.is_empty()
    }

    /// Reads on if nothing is there to be given. Answers whether something is.
    pub(in crate::webhooks) fn fill(
        &mut self,
        journal: &dyn ReadJournal,
    ) -> Result<bool, JournalError> {
        if self.kept.is_empty() {
            self.kept = self.read(journal)?.into();
        }
        Ok(!self.kept.is_empty())
    }

    /// Gives `take` one record after the other, of those that are there, until it has enough.
    pub(in crate::webhooks) fn give(&mut self, mut take: impl FnMut(&Fed) -> bool) {
        while let Some(fed) = self.kept.pop_front() {
            if !take(&fed) {
                break;
            }
        }
    }

    /// The first offset that is not read yet.
    pub(in crate::webhooks) fn next(&self) -> Offset {
        self.place.next
    }

    /// The next records that are durable by now, none at the end.
    pub(in crate::webhooks) fn read(
        &mut self,
        journal: &dyn ReadJournal,
    ) -> Result<Vec<Fed>, JournalError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => journal.reader(&[(self.partition, self.place.next)])?,
        };
        let entries = reader.next(READ_BYTES)?;
        self.reader = Some(reader);
        let fed = entries.iter().map(|entry| {
            let fed = Fed::of(entry, self.place.rule());
            self.place = fed.behind();
            fed
        });
        Ok(fed.collect())
    }
}

/// The deliveries of one record that was read before, and counted.
pub(in crate::webhooks) fn read_again(
    journal: &dyn ReadJournal,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Arc<Deliveries>>, JournalError> {
    let entries = journal.reader(&[(partition, offset)])?.next(1)?;
    let entry = entries.first().filter(|entry| entry.offset == offset);
    let Some(Ok(record)) = entry.map(|entry| record::decode(&entry.bytes)) else {
        return Ok(None);
    };
    let rule = ReaderRule::resume(record.epoch, record.n.saturating_sub(1));
    let fed = entry.map(|entry| Fed::of(entry, rule));
    Ok(match fed.map(|fed| fed.said) {
        Some(Said::Commit { deliveries, .. }) => deliveries,
        Some(Said::Other | Said::Unreadable) | None => None,
    })
}
