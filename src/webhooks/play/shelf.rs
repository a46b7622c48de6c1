//! The journal of a played world, in memory.

use crate::journal::{
    Body, Cursor, Entry, Epoch, JournalError, Offset, Partition, Place, ReadJournal, Reader,
    ReaderRule, record,
};
use crate::webhooks::feed::Fed;

/// One partition: its records, and its cursor.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) fed: Vec<Fed>,
    /// What was written, byte for byte.
    pub(super) entries: Vec<Entry>,
    n: u64,
    rule: ReaderRule,
    pub(super) cursor: Option<Cursor>,
    /// Every durable cursor, for the laws.
    pub(super) cursors: Vec<Cursor>,
}

impl Shelf {
    pub(super) fn put(&mut self, partition: Partition, body: &Body) {
        let (mut bytes, claims) = (Vec::new(), matches!(body, Body::Claim { .. }));
        if !claims {
            self.n += 1;
        }
        record::encode(Epoch(1), if claims { 0 } else { self.n }, body, &mut bytes);
        let entry = Entry { partition, offset: Offset(self.fed.len() as u64), bytes };
        let fed = Fed::of(&entry, self.rule);
        self.rule = fed.after;
        self.fed.push(fed);
        self.entries.push(entry);
    }

    pub(super) fn end(&self) -> Place {
        Place::new(Offset(self.fed.len() as u64), self.rule)
    }
}

/// All that was written, as an audit reads it.
pub(super) struct Written(pub(super) Vec<Vec<Entry>>);

/// What an audit has before it.
struct Rest(Vec<Entry>);

impl ReadJournal for Written {
    fn partitions(&self) -> u16 {
        self.0.len() as u16
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        let part = |(partition, offset): &(Partition, Offset)| {
            self.0[usize::from(partition.0)].iter().skip(offset.0 as usize).cloned()
        };
        Ok(Box::new(Rest(from.iter().flat_map(part).collect())))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        Ok(Offset(self.0[usize::from(partition.0)].len() as u64))
    }
}

impl Reader for Rest {
    fn next(&mut self, _: usize) -> Result<Vec<Entry>, JournalError> {
        Ok(std::mem::take(&mut self.0))
    }
}
