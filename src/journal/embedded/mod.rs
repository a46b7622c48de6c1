//! The default journal: checksummed segment files in one folder, for one process.
//!
//! One thread writes. What was appended while it made a group durable is its next group, so an idle
//! journal commits at once and a busy one batches by itself, without timers. All partitions share
//! one order of bytes, so what is durable is a prefix of what was appended. The claim on the
//! folder is a file lock, which the operating system gives back when the process dies.
//!
//! What is found on opening and reading: `scan.rs`. What stands in the files: `format.rs`.
//!
//! When a write fails, everything in flight is lost and every partition is told; the journal then
//! tries by itself, once a second, whether it can write again. When a sync fails, it takes nothing
//! until the next start, because nobody can say what is on disk.

mod file;
mod folder;
mod format;
mod index;
mod metrics;
mod queue;
mod reader;
mod recovery;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use self::file::SegmentFile;
use self::queue::Queue;
use self::reader::SegmentReader;
use self::recovery::{Recovered, recover};
use self::writer::{Shared, Writer, lock};
use super::{Durability, JournalError, Offset, Partition, ReadJournal, Reader, Settlement};

pub use self::metrics::Metrics;
pub use self::reader::ReadOnly;

/// How long the journal waits after a failed write before it tries again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The upper bound of [`Settings::pending_bytes_max`]: a record's length has to fit its frame.
const PENDING_BYTES_LIMIT: usize = 1 << 30;

/// What an embedded journal has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder; created if need be, held by one process at a time.
    pub dir: PathBuf,
    /// How many partitions a new journal gets (1 to 4096, default 64); an old one keeps its number,
    /// and opening it with another is refused.
    pub partitions: u16,
    /// From how many bytes on a new segment is started (1 MiB to 4 GiB, default 64 MiB). Opening a
    /// journal reads its last segment.
    pub segment_bytes: u64,
    /// How many bytes of records wait for the disk at most (1 MiB to 1 GiB, default 64 MiB); beyond
    /// it, [`JournalError::Full`]. A record larger than this is never taken.
    pub pending_bytes_max: usize,
}

impl Settings {
    /// Default settings for a journal in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partitions: 64,
            segment_bytes: 64 << 20,
            pending_bytes_max: 64 << 20,
        }
    }
}

/// A journal that this process owns. Dropping it writes what is in flight and lets the folder go;
/// its readers go on.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// Held until the writer has ended.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `settings.dir`, or creates it. Everything that is found there is durable
    /// from then on; a torn tail, which nobody was told of, is cut.
    ///
    /// Errors: [`JournalError::Locked`], [`JournalError::Partitions`], [`JournalError::Corrupt`],
    /// [`JournalError::Io`].
    pub fn open(settings: Settings) -> Result<Arc<Self>, JournalError> {
        Self::start(
            settings,
            PROBE_INTERVAL,
            #[cfg(test)]
            file::faults::Faults::default(),
        )
    }

    fn start(
        settings: Settings,
        probe_interval: Duration,
        #[cfg(test)] faults: file::faults::Faults,
    ) -> Result<Arc<Self>, JournalError> {
        let recovered = recover(&settings)?;
        let Recovered { folder, lock, index, file, file_bytes, ends_with_records } = recovered;
        let partitions = folder.partitions();
        let metrics = Metrics::new();
        metrics.writable.set(1);
        metrics.segment.set(index.end().segment);
        let shared = Arc::new(Shared {
            folder,
            queue: Mutex::new(Queue::new(
                partitions,
                settings.pending_bytes_max.min(PENDING_BYTES_LIMIT),
            )),
            wake: Condvar::new(),
            asleep: AtomicBool::new(false),
            attached: Mutex::new(vec![None; usize::from(partitions)]),
            losses: AtomicU64::new(0),
            progress: watch::Sender::new(index.end().group - 1),
            index: Mutex::new(index),
            metrics,
        });
        let file = SegmentFile::new(
            file,
            #[cfg(test)]
            faults,
        );
        let writer = Writer::new(
            Arc::clone(&shared),
            file,
            file_bytes,
            ends_with_records,
            settings.segment_bytes,
            probe_interval,
        );
        let writer = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| JournalError::Io {
                action: "start the journal's thread".to_owned(),
                source,
            })?;
        Ok(Arc::new(Self { shared, writer: Some(writer), _lock: lock }))
    }

    /// What the journal counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

impl ReadJournal for Journal {
    fn partitions(&self) -> u16 {
        self.shared.folder.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(SegmentReader::open(&self.shared, from)?))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        reader::end_of(partition, &lock(&self.shared.index).end().next)
    }
}

impl super::Journal for Journal {
    fn durability(&self) -> Durability {
        Durability::Prefix
    }

    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        self.shared.attach(partition, settlements);
    }

    fn losses(&self) -> u64 {
        self.shared.losses.load(Ordering::SeqCst)
    }

    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        lock(&self.shared.queue).push(partition, record)
    }

    fn flush(&self) {
        // The writer says that it sleeps under the queue's lock, after it saw nothing there. So either
        // this sees it asleep, or it sees what was appended before this call.
        if self.shared.asleep.load(Ordering::SeqCst) && !lock(&self.shared.queue).is_empty() {
            self.shared.wake.notify_one();
        }
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progress.subscribe()
    }

    fn known_end(&self, partition: Partition) -> Offset {
        self.end(partition).unwrap_or_default()
    }

    fn writable(&self) -> Result<(), JournalError> {
        lock(&self.shared.queue).health.check()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer has panicked");
        }
    }
}
