//! A journal in memory that several rooms write at once, as nodes of a cluster write one Kafka: each
//! through a handle of its own, that can be cut off, lose acknowledgements and write late.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::memory::{Log, lock};
use crate::journal::{
    Durability, Journal, JournalError, Offset, Partition, ReadJournal, Reader, Settlement,
};

/// What all handles share.
pub(super) struct Shared {
    pub(super) log: Log,
    lease: Duration,
}

/// One room's way to the journal.
pub(super) struct Handle {
    log: Log,
    lease: Duration,
    state: Mutex<State>,
    progress: watch::Sender<u64>,
}

struct State {
    attached: Vec<Option<UnboundedSender<Settlement>>>,
    cut: bool,
    /// What goes to this partition waits, and all else goes.
    held: Option<Partition>,
    /// Taken while cut off, or held.
    waiting: VecDeque<(Partition, Vec<u8>)>,
    /// The next record of this partition is stored, and its acknowledgement lost; and then nothing
    /// comes through any more, if so.
    loses: Option<(Partition, bool)>,
    /// Acknowledged records of this partition are missing, the journal says.
    shortened: Option<Partition>,
}

impl Shared {
    pub(super) fn new(partitions: u16, lease: Duration) -> Self {
        Self { log: Log::new(partitions), lease }
    }

    pub(super) fn handle(&self) -> Arc<Handle> {
        let state = State {
            attached: vec![None; usize::from(self.log.partitions())],
            cut: false,
            held: None,
            waiting: VecDeque::new(),
            loses: None,
            shortened: None,
        };
        Arc::new(Handle {
            log: self.log.clone(),
            lease: self.lease,
            state: Mutex::new(state),
            progress: watch::Sender::new(0),
        })
    }

    pub(super) fn records(&self, partition: Partition) -> Vec<Vec<u8>> {
        self.log.records(partition, 0)
    }
}

impl Handle {
    /// Nothing goes to the journal and nothing comes from it.
    pub(super) fn cut(&self) {
        lock(&self.state).cut = true;
    }

    /// What is written to `partition` waits until everything goes again.
    pub(super) fn hold(&self, partition: Partition) {
        lock(&self.state).held = Some(partition);
    }

    /// Whoever asks for the end of `partition` is told that acknowledged records are missing.
    pub(super) fn shorten(&self, partition: Partition) {
        lock(&self.state).shortened = Some(partition);
    }

    /// Everything goes again; what was taken meanwhile is stored late.
    pub(super) fn heal(&self) {
        let mut state = lock(&self.state);
        state.cut = false;
        state.held = None;
        state.shortened = None;
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
        let offset = self.log.push(partition, record);
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
        self.log.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        self.reachable()?;
        self.log.reader(from)
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.reachable()?;
        let end = self.log.end(partition)?;
        if lock(&self.state).shortened == Some(partition) {
            let known = Offset(end.0 + 1);
            return Err(JournalError::Shortened { partition, known, end });
        }
        Ok(end)
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
        if state.cut || state.held == Some(partition) {
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

    fn known_end(&self, partition: Partition) -> Offset {
        self.end(partition).unwrap_or_default()
    }

    fn writable(&self) -> Result<(), JournalError> {
        self.reachable()
    }
}
