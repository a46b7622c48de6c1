//! The thread that makes batches durable, and what it shares with the rest of the program.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::file::{Failure, SegmentFile};
use super::folder::Folder;
use super::format::{SegmentHeader, seal_group};
use super::index::Index;
use super::metrics::Metrics;
use super::queue::{Batch, Health, Queue};
use crate::journal::{Offset, Partition, Settlement};

/// The groups that are worth zeros ahead of them, by their size in bytes: overwriting zeros saves
/// the sync from making a new file length durable as well, which shows while groups are small.
const FILL_AHEAD_GROUP_BYTES_MAX: u64 = 32 << 10;

/// How many zeros are written ahead at a time: as many bytes as the segment has, within these.
const FILL_AHEAD_BYTES_MIN: u64 = 64 << 10;
const FILL_AHEAD_BYTES_MAX: u64 = 1 << 20;

/// How many zeros have to fit for a full disk to count as writable again.
const PROBE_BYTES: usize = 64 << 10;

/// What the writer, the appenders and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) queue: Mutex<Queue>,
    /// The writer waits, under the queue's lock.
    pub(super) wake: Condvar,
    /// Set and cleared under the queue's lock; read without it, to spare a busy journal the lock.
    pub(super) asleep: AtomicBool,
    /// Where the fate of records is told, by partition. Locked before the queue where both are.
    pub(super) attached: Mutex<Vec<Option<UnboundedSender<Settlement>>>>,
    /// How often everything in flight was lost. Changed with `attached` locked.
    pub(super) losses: AtomicU64,
    pub(super) index: Mutex<Index>,
    /// The number of durable groups.
    pub(super) progress: watch::Sender<u64>,
    pub(super) metrics: Metrics,
}

/// Locks; a panic elsewhere is no reason for one here, since no lock is left in a half-made state.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Wanted {
    Commit,
    Probe,
    End,
}

impl Shared {
    /// Tells the fate of `partition`'s records to `settlements` from now on.
    pub(super) fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        let mut attached = lock(&self.attached);
        if let Some(place) = attached.get_mut(usize::from(partition.0)) {
            *place = Some(settlements);
            lock(&self.queue).readmit(partition);
        }
    }

    /// Waits until there is something to do; a batch to commit is put into `batch`.
    fn wait(&self, batch: &mut Batch, probe_after: Option<Duration>) -> Wanted {
        let mut queue = lock(&self.queue);
        let probe_at = probe_after.map(|wait| Instant::now() + wait);
        loop {
            // Straight after a group, whatever came in meanwhile goes out, flushed or not.
            if queue.take(batch) {
                return Wanted::Commit;
            }
            if queue.closing {
                return Wanted::End;
            }
            self.asleep.store(true, Ordering::SeqCst);
            queue = match probe_at {
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(probe_at) => {
                    let left = probe_at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        self.asleep.store(false, Ordering::SeqCst);
                        return Wanted::Probe;
                    }
                    let waited = self.wake.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            self.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Drops what is in flight, and tells every partition.
    fn lose(&self, health: Health) {
        let mut attached = lock(&self.attached);
        self.losses.fetch_add(1, Ordering::SeqCst);
        lock(&self.queue).lose(health);
        self.metrics.writable.set(0);
        for settlements in attached.iter_mut() {
            // An owner that is gone needs no answer.
            if let Some(settlements) = settlements.take() {
                let _ = settlements.send(Settlement::Lost);
            }
        }
    }

    /// Tells the owners of a batch's records, and then everybody who waits for more.
    fn settle(&self, batch: &Batch, position: u64) {
        let mut settled = Vec::with_capacity(batch.counts.len());
        let group = {
            let mut index = lock(&self.index);
            for (partition, count) in &batch.counts {
                let first = index.next(*partition).map_or(Offset(0), Offset);
                settled.push((*partition, Settlement::Durable { first, count: *count }));
            }
            index.advance(position, &batch.counts);
            index.end().group
        };
        {
            let attached = lock(&self.attached);
            for (partition, settlement) in settled {
                if let Some(Some(settlements)) = attached.get(usize::from(partition.0)) {
                    let _ = settlements.send(settlement);
                }
            }
        }
        self.progress.send_replace(group - 1);
    }
}

/// The writer's own state.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: SegmentFile,
    /// The length of the segment's file; zeros lie between the last group and it.
    file_bytes: u64,
    segment_bytes: u64,
    probe_interval: Duration,
    /// The last group holds records.
    ends_with_records: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writable,
    /// The last write failed, or the last start of a segment.
    Failing {
        in_roll: bool,
    },
    Broken,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: SegmentFile,
        file_bytes: u64,
        ends_with_records: bool,
        segment_bytes: u64,
        probe_interval: Duration,
    ) -> Self {
        let state = State::Writable;
        Self { shared, file, file_bytes, segment_bytes, probe_interval, ends_with_records, state }
    }

    /// Writes until the journal is closed and nothing is left.
    pub(super) fn run(mut self) {
        let mut batch = Batch::new(self.shared.folder.partitions());
        loop {
            let probe_after = match self.state {
                State::Failing { .. } => Some(self.probe_interval),
                State::Writable | State::Broken => None,
            };
            match self.shared.wait(&mut batch, probe_after) {
                Wanted::Commit => {
                    self.commit(&mut batch);
                    batch.clear();
                }
                Wanted::Probe => self.probe(),
                Wanted::End => break,
            }
        }
        if self.ends_with_records && self.state == State::Writable {
            // An empty group proves that everything before it was acknowledged.
            self.commit(&mut batch);
        }
    }

    fn commit(&mut self, batch: &mut Batch) {
        match self.write(&mut batch.frame) {
            Ok(position) => {
                let metrics = &self.shared.metrics;
                metrics.groups.inc();
                metrics.records.inc_by(batch.records);
                metrics.bytes.inc_by(batch.frame.len() as u64);
                metrics.batch_records.observe(batch.records as f64);
                self.ends_with_records = !batch.is_empty();
                self.shared.settle(batch, position);
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Makes one group durable; answers the position behind it.
    fn write(&mut self, group: &mut [u8]) -> Result<u64, Failure> {
        let (mut position, number) = self.end();
        let bytes = group.len() as u64;
        let header_bytes = SegmentHeader::bytes(self.shared.folder.partitions()) as u64;
        if position + bytes > self.segment_bytes && position > header_bytes {
            self.roll()?;
            position = header_bytes;
        }
        seal_group(group, number);
        self.file.write(group, position).map_err(Failure::Refused)?;
        let end = position + bytes;
        if end > self.file_bytes {
            self.file_bytes = end;
            if bytes <= FILL_AHEAD_GROUP_BYTES_MAX {
                self.fill_ahead();
            }
        }
        let started = Instant::now();
        self.file.sync().map_err(Failure::Doubt)?;
        self.shared.metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(end)
    }

    /// The position behind the last group, and the number of the next.
    fn end(&self) -> (u64, u64) {
        let index = lock(&self.shared.index);
        (index.end().position, index.end().group)
    }

    fn fill_ahead(&mut self) {
        let zeros = self.file_bytes.clamp(FILL_AHEAD_BYTES_MIN, FILL_AHEAD_BYTES_MAX);
        let zeros = zeros.min(self.segment_bytes.saturating_sub(self.file_bytes));
        // Only a convenience: if it does not fit, the group still may.
        if zeros > 0 && self.file.write(&vec![0; zeros as usize], self.file_bytes).is_ok() {
            self.file_bytes += zeros;
        }
    }

    /// Starts the next segment.
    fn roll(&mut self) -> Result<(), Failure> {
        let header = {
            let index = lock(&self.shared.index);
            let end = index.end();
            SegmentHeader {
                segment: end.segment + 1,
                first_group: end.group,
                next: end.next.to_vec(),
            }
        };
        self.state = State::Failing { in_roll: true };
        let file = SegmentFile::create(
            &self.shared.folder,
            &header,
            #[cfg(test)]
            self.file.faults.clone(),
        )?;
        self.state = State::Writable;
        // The zeros at the end of the old segment are only a waste; readers expect either.
        let (old_end, _) = self.end();
        let _ = self.file.cut(old_end);
        self.file = file;
        self.file_bytes = SegmentHeader::bytes(header.next.len() as u16) as u64;
        lock(&self.shared.index).enter_segment(header.segment, self.file_bytes);
        self.shared.metrics.segment.set(header.segment);
        Ok(())
    }

    /// Gives up what is in flight.
    fn fail(&mut self, failure: Failure) {
        self.shared.metrics.failures.inc();
        let in_roll = self.state == State::Failing { in_roll: true };
        let health = self.after(failure, in_roll);
        tracing::error!(
            journal.health = ?health,
            "a write to the journal failed: its records are lost, and their callers are told"
        );
        self.shared.lose(health);
    }

    /// Puts the file back in order after `failure`, and says how things stand.
    fn after(&mut self, failure: Failure, in_roll: bool) -> Health {
        let refused = match failure {
            Failure::Refused(error) if in_roll => Ok(error),
            Failure::Refused(error) => self.cut_back().map(|()| error),
            Failure::Doubt(error) => Err(error),
        };
        match refused {
            Ok(error) => {
                self.state = State::Failing { in_roll };
                Health::Failing { reason: error.to_string() }
            }
            Err(error) => {
                self.state = State::Broken;
                let reason =
                    format!("what is on disk is unknown until the node is restarted: {error}");
                Health::Broken { reason }
            }
        }
    }

    fn cut_back(&mut self) -> io::Result<()> {
        let (position, _) = self.end();
        self.file.cut(position)?;
        self.file_bytes = position;
        self.file.sync()
    }

    /// Finds out whether writing works again, with nothing that matters: zeros behind the end, or
    /// the segment that could not be started.
    fn probe(&mut self) {
        let in_roll = self.state == State::Failing { in_roll: true };
        let tried = if in_roll { self.roll() } else { self.write_zeros() };
        match tried {
            Ok(()) => {
                self.state = State::Writable;
                lock(&self.shared.queue).health = Health::Writable;
                self.shared.metrics.writable.set(1);
                tracing::info!("the journal can be written again");
            }
            Err(failure) => {
                let health = self.after(failure, in_roll);
                lock(&self.shared.queue).health = health;
            }
        }
    }

    fn write_zeros(&mut self) -> Result<(), Failure> {
        let (position, _) = self.end();
        self.file.write(&[0; PROBE_BYTES], position).map_err(Failure::Refused)?;
        self.file_bytes = self.file_bytes.max(position + PROBE_BYTES as u64);
        self.file.sync().map_err(Failure::Doubt)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the writer ended by a fault of its own".to_owned();
            self.shared.lose(Health::Broken { reason });
        }
    }
}
