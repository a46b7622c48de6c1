//! A journal in memory that several rooms write at once, as nodes of a cluster write one Kafka: each
//! through a handle of its own, that can be cut off, lose acknowledgements and write late.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::journal::{
    Durability, Entry, Journal, JournalError, Offset, Partition, ReadJournal, Reader, Settlement,
};

type Log = Vec<Vec<Vec<u8>>>;

/// What all handles share.
pub(super) struct Shared {
    log: Arc<Mutex<Log>>,
    lease: Duration,
}

/// One room's way to the journal.
pub(super) struct Handle {
    log: Arc<Mutex<Log>>,
    lease: Duration,
    state: Mutex<State>,
    progress: watch::Sender<u64>,
}

struct State {
    attached: Vec<Option<UnboundedSender<Settlement>>>,
    cut: bool,
    /// Taken while cut off.
    waiting: VecDeque<(Partition, Vec<u8>)>,
    /// The next record of this partition is stored, and its acknowledgement lost; and then nothing
    /// comes through any more, if so.
    loses: Option<(Partition, bool)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(partitions: u16, lease: Duration) -> Self {
        Self { log: Arc::new(Mutex::new(vec![Vec::new(); usize::from(partitions)])), lease }
    }

    pub(super) fn handle(&self) -> Arc<Handle> {
        let partitions = lock(&self.log).len();
        let state = State {
            attached: vec![None; partitions],
            cut: false,
            waiting: VecDeque::new(),
            loses: None,
        };
        Arc::new(Handle {
            log: self.log.clone(),
            lease: self.lease,
            state: Mutex::new(state),
            progress: watch::Sender::new(0),
        })
    }

    pub(super) fn records(&self, partition: Partition) -> Vec<Vec<u8>> {
        lock(&self.log)[usize::from(partition.0)].clone()
    }
}

impl Handle {
    /// Nothing goes to the journal and nothing comes from it.
    pub(super) fn cut(&self) {
        lock(&self.state).cut = true;
    }

    /// Everything goes again; what was taken meanwhile is stored late.
    pub(super) fn heal(&self) {
        let mut state = lock(&self.state);
        state.cut = false;
        for (partition, record) in std::mem::take(&mut state.waiting) {
            self.store(&mut state, partition, record);
        }
    }

    /// The next record of `partition` is stored, and nobody told so.
    pub(super) fn lose_next(&self, partition: Partition) {
        lock(&self.state).loses = Some((partition, false));
    }

    /// The same, and it is the last that comes through.
    pub(super) fn lose_next_and_cut(&self, partition: Partition) {
        lock(&self.state).loses = Some((partition, true));
    }

    fn store(&self, state: &mut State, partition: Partition, record: Vec<u8>) {
        let index = usize::from(partition.0);
        let offset = {
            let mut log = lock(&self.log);
            log[index].push(record);
            Offset(log[index].len() as u64 - 1)
        };
        let loses = state.loses.take_if(|(loses, _)| *loses == partition);
        let lost = loses.is_some();
        state.cut |= loses.is_some_and(|(_, cut)| cut);
        let settlement =
            if lost { Settlement::Lost } else { Settlement::Durable { first: offset, count: 1 } };
        if let Some(attached) = &state.attached[index] {
            let _ = attached.send(settlement);
        }
        if lost {
            state.attached[index] = None;
        }
        self.progress.send_modify(|progress| *progress += 1);
    }

    fn reachable(&self) -> Result<(), JournalError> {
        match lock(&self.state).cut {
            true => Err(JournalError::Unavailable { reason: "cut off".into() }),
            false => Ok(()),
        }
    }
}

impl ReadJournal for Handle {
    fn partitions(&self) -> u16 {
        lock(&self.log).len() as u16
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        self.reachable()?;
        Ok(Box::new(MemoryReader { log: self.log.clone(), from: from.to_vec() }))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.reachable()?;
        Ok(Offset(lock(&self.log)[usize::from(partition.0)].len() as u64))
    }
}

struct MemoryReader {
    log: Arc<Mutex<Log>>,
    from: Vec<(Partition, Offset)>,
}

impl Reader for MemoryReader {
    fn next(&mut self, _: usize) -> Result<Vec<Entry>, JournalError> {
        let log = lock(&self.log);
        let mut entries = Vec::new();
        for (partition, next) in &mut self.from {
            for bytes in log[usize::from(partition.0)].iter().skip(next.0 as usize) {
                let bytes = bytes.clone();
                entries.push(Entry { partition: *partition, offset: *next, bytes });
                next.0 += 1;
            }
        }
        Ok(entries)
    }
}

impl Journal for Handle {
    fn durability(&self) -> Durability {
        Durability::PerPartition
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.lease)
    }

    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        lock(&self.state).attached[usize::from(partition.0)] = Some(settlements);
    }

    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        let mut state = lock(&self.state);
        if state.attached[usize::from(partition.0)].is_none() {
            return Err(JournalError::Unavailable { reason: "not attached".into() });
        }
        if state.cut {
            state.waiting.push_back((partition, record.to_vec()));
        } else {
            self.store(&mut state, partition, record.to_vec());
        }
        Ok(())
    }

    fn flush(&self) {}

    fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn writable(&self) -> Result<(), JournalError> {
        self.reachable()
    }
}
