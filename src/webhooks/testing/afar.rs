//! A journal as it is over a network: of some partitions nobody answers, and who asks for them waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::journal::{
    Durability, Entry, Journal, JournalError, Offset, Partition, ReadJournal, Reader, Settlement,
    embedded,
};

/// How long somebody waits who says nothing of patience: for ever, as tests go.
const UNTIL_IT_HEALS: Duration = Duration::from_secs(3_600);

/// See the module. What is written goes through.
#[derive(Clone)]
pub(super) struct Afar {
    journal: Arc<embedded::Journal>,
    network: Arc<Network>,
}

#[derive(Default)]
struct Network {
    cut: Mutex<BTreeSet<Partition>>,
    changed: Condvar,
}

impl Network {
    fn cut(&self) -> MutexGuard<'_, BTreeSet<Partition>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody answers for all of `partitions`.
    fn reach(&self, partitions: &[Partition], patience: Duration) -> Result<(), JournalError> {
        let is_cut = |cut: &mut BTreeSet<Partition>| partitions.iter().any(|one| cut.contains(one));
        let waited = self.changed.wait_timeout_while(self.cut(), patience, is_cut);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            return Err(JournalError::Unreachable { reason: "nobody answers".to_owned() });
        }
        Ok(())
    }
}

impl Afar {
    pub(super) fn new(journal: Arc<embedded::Journal>) -> Self {
        Self { journal, network: Arc::default() }
    }

    /// From now on nobody answers for these, and for all others.
    pub(super) fn cut(&self, cut: &[u16]) {
        *self.network.cut() = cut.iter().copied().map(Partition).collect();
        self.network.changed.notify_all();
    }
}

impl ReadJournal for Afar {
    fn partitions(&self) -> u16 {
        self.journal.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        self.reader_within(from, UNTIL_IT_HEALS)
    }

    fn reader_within(
        &self,
        from: &[(Partition, Offset)],
        patience: Duration,
    ) -> Result<Box<dyn Reader>, JournalError> {
        let partitions: Vec<Partition> = from.iter().map(|(partition, _)| *partition).collect();
        self.network.reach(&partitions, patience)?;
        let reader = |place: &(Partition, Offset)| Ok((place.0, self.journal.reader(&[*place])?));
        let readers: Result<_, JournalError> = from.iter().map(reader).collect();
        Ok(Box::new(AfarReader { network: self.network.clone(), readers: readers?, patience }))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.network.reach(&[partition], UNTIL_IT_HEALS)?;
        self.journal.end(partition)
    }

    fn each_end(
        &self,
        partitions: &[Partition],
        patience: Duration,
        tell: &mut crate::journal::TellEnd<'_>,
    ) {
        for partition in partitions {
            let reached = self.network.reach(&[*partition], patience);
            tell(*partition, reached.and_then(|()| self.journal.end(*partition)));
        }
    }
}

impl Journal for Afar {
    fn durability(&self) -> Durability {
        Durability::PerPartition
    }

    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        self.journal.attach(partition, settlements);
    }

    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        self.journal.append(partition, record)
    }

    fn flush(&self) {
        self.journal.flush();
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.journal.progress()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn known_end(&self, partition: Partition) -> Offset {
        self.journal.known_end(partition)
    }

    fn writable(&self) -> Result<(), JournalError> {
        self.journal.writable()
    }
}

struct AfarReader {
    network: Arc<Network>,
    readers: Vec<(Partition, Box<dyn Reader>)>,
    patience: Duration,
}

impl Reader for AfarReader {
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        for (partition, reader) in &mut self.readers {
            if !self.network.cut().contains(partition) {
                let entries = reader.next(bytes_max)?;
                if !entries.is_empty() {
                    return Ok(entries);
                }
            }
        }
        let partitions: Vec<Partition> = self.readers.iter().map(|(one, _)| *one).collect();
        self.network.reach(&partitions, self.patience)?;
        Ok(Vec::new())
    }
}
