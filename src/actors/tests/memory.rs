//! The records of a journal in memory. Who may write them, and when, is up to those who use it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::{Entry, JournalError, Offset, Partition, ReadJournal, Reader};

/// The records of each partition. Clones are the same one.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Vec<Vec<Vec<u8>>>>>);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    pub(super) fn new(partitions: u16) -> Self {
        Self(Arc::new(Mutex::new(vec![Vec::new(); usize::from(partitions)])))
    }

    pub(super) fn push(&self, partition: Partition, record: Vec<u8>) -> Offset {
        let mut log = lock(&self.0);
        let records = &mut log[usize::from(partition.0)];
        records.push(record);
        Offset(records.len() as u64 - 1)
    }

    /// Takes away what stands in `partition` from `from` on, and answers it.
    pub(super) fn cut_off(&self, partition: Partition, from: usize) -> Vec<Vec<u8>> {
        lock(&self.0)[usize::from(partition.0)].split_off(from)
    }

    /// The records of `partition` from `from` on.
    pub(super) fn records(&self, partition: Partition, from: usize) -> Vec<Vec<u8>> {
        self.portion(partition, from, usize::MAX)
    }

    /// The same, so many at most.
    pub(super) fn portion(&self, partition: Partition, from: usize, count: usize) -> Vec<Vec<u8>> {
        let log = lock(&self.0);
        log[usize::from(partition.0)].iter().skip(from).take(count).cloned().collect()
    }
}

impl ReadJournal for Log {
    fn partitions(&self) -> u16 {
        lock(&self.0).len() as u16
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(MemoryReader { log: self.clone(), from: from.to_vec() }))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        Ok(Offset(lock(&self.0)[usize::from(partition.0)].len() as u64))
    }
}

struct MemoryReader {
    log: Log,
    from: Vec<(Partition, Offset)>,
}

impl Reader for MemoryReader {
    fn next(&mut self, _: usize) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        for (partition, next) in &mut self.from {
            for bytes in self.log.records(*partition, next.0 as usize) {
                entries.push(Entry { partition: *partition, offset: *next, bytes });
                next.0 += 1;
            }
        }
        Ok(entries)
    }
}
