//! A journal in memory whose disk, or brokers, are moved by hand: what is appended waits until
//! somebody says that it became durable, that nobody knows, or that its writer died.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::trouble::{Portions, Trouble};
use crate::actors::tests::memory::{Log, lock};
use crate::journal::{
    Durability, Journal, JournalError, Offset, Partition, ReadJournal, Reader, Settlement,
};

/// What all nodes share.
#[derive(Clone)]
pub(super) struct Medium {
    log: Log,
    durability: Durability,
    /// Nothing if nobody else can write.
    lease: Option<Duration>,
    pub(super) trouble: Arc<Trouble>,
    /// How often records were lost that had been acknowledged.
    cuts: Arc<AtomicUsize>,
}

/// One node's way to it, from its start to its death.
pub(super) struct Handle {
    medium: Medium,
    state: Mutex<State>,
    progress: watch::Sender<u64>,
}

struct State {
    lanes: Vec<Lane>,
    /// Appended and not durable, in the order of the appends.
    queue: VecDeque<Waiting>,
    dead: bool,
    /// Of everything that waited, in the one order of all.
    losses: u64,
}

#[derive(Default)]
struct Lane {
    /// Grows with each attachment: what was appended under an earlier one is nobody's concern.
    generation: u64,
    /// Nothing before the first attachment and after a loss.
    told: Option<UnboundedSender<Settlement>>,
    /// Behind the last record that was acknowledged to this node.
    known_end: u64,
    /// After so many more appends one is refused.
    refuses_after: Option<usize>,
}

/// How often the log stores what it was given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    One,
    /// Twice; told is where it stands first.
    ToldOfTheFirst,
    /// Twice; told is where it stands then, because nobody heard of the first time.
    ToldOfTheSecond,
}

/// How what was lost comes after all.
#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    Whole,
    WithAHole,
}

struct Waiting {
    partition: Partition,
    generation: u64,
    bytes: Vec<u8>,
}

impl Medium {
    pub(super) fn new(partitions: u16, durability: Durability, lease: Option<Duration>) -> Self {
        let (trouble, cuts) = Default::default();
        Self { log: Log::new(partitions), durability, lease, trouble, cuts }
    }

    pub(super) fn handle(&self) -> Arc<Handle> {
        let lanes = (0..self.log.partitions()).map(|_| Lane::default()).collect();
        let state = State { lanes, queue: VecDeque::new(), dead: false, losses: 0 };
        Arc::new(Handle {
            medium: self.clone(),
            state: Mutex::new(state),
            progress: watch::Sender::new(0),
        })
    }

    /// The records of `partition` from `from` on.
    pub(super) fn records(&self, partition: Partition, from: usize) -> Vec<Vec<u8>> {
        self.log.records(partition, from)
    }

    /// The same, so many at most.
    pub(super) fn portion(&self, partition: Partition, from: usize, count: usize) -> Vec<Vec<u8>> {
        self.log.portion(partition, from, count)
    }

    /// What stands in `partition` from `from` on is lost, although it was acknowledged.
    pub(super) fn cut_off(&self, partition: Partition, from: usize) {
        self.log.cut_off(partition, from);
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody else writes.
    pub(super) fn grow(&self, partition: Partition, record: Vec<u8>) {
        self.log.push(partition, record);
    }

    pub(super) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Handle {
    /// How many records wait, of all partitions if none is named.
    pub(super) fn waiting(&self, of: Option<Partition>) -> usize {
        let state = lock(&self.state);
        state.queue.iter().filter(|one| of.is_none_or(|of| one.partition == of)).count()
    }

    /// The partitions of which records wait.
    pub(super) fn busy(&self) -> BTreeSet<Partition> {
        lock(&self.state).queue.iter().map(|one| one.partition).collect()
    }

    pub(super) fn is_dead(&self) -> bool {
        lock(&self.state).dead
    }

    /// The first `count` that wait become durable as one group, and their owners are told: of
    /// `partition` alone, or in the one order of all if none is named.
    pub(super) fn sync(&self, partition: Option<Partition>, count: usize) {
        self.sync_copies(partition, count, Copies::One);
    }

    /// The same; more than one copy is of one partition.
    pub(super) fn sync_copies(&self, partition: Option<Partition>, count: usize, copies: Copies) {
        let mut state = lock(&self.state);
        let mut groups: Vec<Option<(Offset, u64)>> = vec![None; state.lanes.len()];
        let taken = state.take(partition, count);
        for one in &taken {
            let index = usize::from(one.partition.0);
            let offset = self.store(one);
            if one.generation == state.lanes[index].generation {
                groups[index].get_or_insert((offset, 0)).1 += 1;
            }
        }
        if copies != Copies::One {
            for one in &taken {
                self.store(one);
            }
        }
        for (lane, group) in state.lanes.iter_mut().zip(groups) {
            if let (Some(told), Some((mut first, count))) = (&lane.told, group) {
                if copies == Copies::ToldOfTheSecond {
                    first.0 += taken.len() as u64;
                }
                lane.known_end = lane.known_end.max(first.0 + count);
                // Whoever has let go of the partition needs no answer.
                let _ = told.send(Settlement::Durable { first, count });
            }
        }
        self.progress.send_modify(|progress| *progress += 1);
    }

    /// Nobody will know what became of what waits: the first `stored` are there, the others never
    /// come, or come `late`, and then perhaps without the first of them.
    pub(super) fn lose(&self, partition: Option<Partition>, stored: usize, late: Option<Late>) {
        let mut state = lock(&self.state);
        for one in state.take(partition, stored) {
            self.store(&one);
        }
        let gone = match late {
            None => usize::MAX,
            Some(Late::WithAHole) => 1,
            Some(Late::Whole) => 0,
        };
        state.take(partition, gone);
        state.losses += u64::from(partition.is_none());
        for (index, lane) in state.lanes.iter_mut().enumerate() {
            if partition.is_none_or(|partition| usize::from(partition.0) == index)
                && let Some(told) = lane.told.take()
            {
                let _ = told.send(Settlement::Lost);
            }
        }
    }

    /// After `count` more appends to `partition` one is refused, as when too much is in flight.
    pub(super) fn refuse(&self, partition: Partition, count: usize) {
        lock(&self.state).lanes[usize::from(partition.0)].refuses_after = Some(count);
    }

    /// The node is dead: it hears nothing and writes nothing more.
    pub(super) fn die(&self) {
        let mut state = lock(&self.state);
        state.dead = true;
        state.lanes.iter_mut().for_each(|lane| lane.told = None);
    }

    /// What waits behind the first `kept` of `partition`, or of all, never comes.
    pub(super) fn tear(&self, partition: Option<Partition>, kept: usize) {
        let mut state = lock(&self.state);
        let first: Vec<Waiting> = state.take(partition, kept);
        state.take(partition, usize::MAX);
        for one in first.into_iter().rev() {
            state.queue.push_front(one);
        }
    }

    fn store(&self, one: &Waiting) -> Offset {
        self.medium.log.push(one.partition, one.bytes.clone())
    }
}

impl State {
    /// Takes the first `count` out, of one partition or of all.
    fn take(&mut self, partition: Option<Partition>, count: usize) -> Vec<Waiting> {
        let mut taken = Vec::new();
        let mut rest = VecDeque::new();
        for one in self.queue.drain(..) {
            let wanted = partition.is_none_or(|partition| one.partition == partition);
            if wanted && taken.len() < count {
                taken.push(one);
            } else {
                rest.push_back(one);
            }
        }
        self.queue = rest;
        taken
    }
}

impl ReadJournal for Medium {
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        self.log.reader(from)
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.log.end(partition)
    }
}

impl ReadJournal for Handle {
    fn partitions(&self) -> u16 {
        self.medium.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        for &(partition, offset) in from {
            let end = self.end(partition)?;
            if offset > end {
                return Err(JournalError::NoSuchOffset { partition, offset, end });
            }
        }
        Ok(Box::new(Portions::new(self.medium.clone(), from)))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.medium.trouble.look(partition)?;
        let end = self.medium.end(partition)?;
        let known = Offset(lock(&self.state).lanes[usize::from(partition.0)].known_end);
        // As the adapter for Kafka says it.
        if end < known {
            return Err(JournalError::Shortened { partition, known, end });
        }
        Ok(end)
    }
}

impl Journal for Handle {
    fn durability(&self) -> Durability {
        self.medium.durability
    }

    fn lease(&self) -> Option<Duration> {
        self.medium.lease
    }

    fn losses(&self) -> u64 {
        lock(&self.state).losses
    }

    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        let mut state = lock(&self.state);
        let lane = &mut state.lanes[usize::from(partition.0)];
        lane.generation += 1;
        lane.told = Some(settlements);
        lane.refuses_after = None;
    }

    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        let mut state = lock(&self.state);
        let State { lanes, dead, .. } = &mut *state;
        let lane = &mut lanes[usize::from(partition.0)];
        if *dead || lane.told.is_none() {
            return Err(JournalError::Unavailable { reason: "not attached".into() });
        }
        if lane.refuses_after.take_if(|count| *count == 0).is_some() {
            self.medium.trouble.note_refused();
            return Err(JournalError::Full);
        }
        lane.refuses_after = lane.refuses_after.map(|count| count - 1);
        let (generation, bytes) = (lane.generation, record.to_vec());
        state.queue.push_back(Waiting { partition, generation, bytes });
        Ok(())
    }

    fn flush(&self) {}

    fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn known_end(&self, partition: Partition) -> Offset {
        self.medium.end(partition).unwrap_or_default()
    }

    fn writable(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
