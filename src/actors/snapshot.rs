//! Snapshots of partitions: written by their owner from time to time, read by a node whose store
//! knows nothing of the partition. Rule: cluster.md 8.
//!
//! A snapshot is the rows of one checkpoint in numbered chunks, and a note behind them with the
//! checkpoint's own mark. Two are kept, in two slots, so that a half-written one never spoils the
//! last whole one. A reader compares the hash of the rows with the one in the mark, and uses the snapshot
//! only if they are equal.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::recovery::RecoveryError;
use super::seats::Seats;
use crate::journal::{Archive, JournalError, Offset, Partition};
use crate::store::row_set::RowSet;
use crate::store::rows::{LAYOUT, RowChanges, RowHash, parse_key};
use crate::store::{Mark, Store, StoreError, Tables};

/// How often to check whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes of rows in one chunk, about.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows that are written into the store at once.
const ROWS_AT_ONCE: usize = 10_000;
/// The key of the note; of another one for rows of another layout.
fn note_key() -> Vec<u8> {
    format!("note.{LAYOUT}").into_bytes()
}

/// When snapshots are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// After this many records since the last one; never if 0.
    pub(super) records: u64,
    /// Or after this time, if anything changed.
    pub(super) interval: Duration,
}

/// What stands behind a whole snapshot.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Tells its chunks from those of others: the offset of its checkpoint.
    sweep: u64,
    slot: Slot,
    chunks: u64,
    rows: u64,
    mark_bytes: usize,
}

/// Where a snapshot's chunks are: each one takes the place of the last but one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Slot {
    #[default]
    A,
    B,
}

impl Slot {
    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn name(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

/// A part of a snapshot.
#[derive(Serialize, Deserialize)]
struct Chunk {
    sweep: u64,
    number: u64,
    /// Key and value of each row.
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// A part of the encoded mark, behind all rows.
    mark: Vec<u8>,
}

/// Where a recovery finds snapshots, and what cuts its reading short.
#[derive(Clone, Copy)]
pub(super) struct Snapshots<'a> {
    pub(super) archive: &'a dyn Archive,
    /// Asked again and again.
    pub(super) is_over: &'a dyn Fn() -> bool,
}

/// Writes a snapshot of the last checkpoint of `partition`; answers where it stands.
pub(super) fn write(
    archive: &dyn Archive,
    tables: &Tables,
    partition: Partition,
) -> Result<Offset, Failure> {
    let Some((mark, mut rows)) = tables.image(partition)? else { return Ok(Offset(0)) };
    let sweep = mark.next.0;
    let slot = last_note(archive, &|| false, partition)?
        .map_or_else(Slot::default, |last| last.slot.other());
    let encoded = postcard::to_stdvec(&mark).map_err(StoreError::from)?;
    let mark_bytes = encoded.len();
    let mut parts = encoded.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
    let (mut number, mut count) = (0, 0);
    let mut failure = None;
    let chunks = std::iter::from_fn(|| {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            match rows.next() {
                Some(Ok((key, value))) => {
                    bytes += key.len() + value.len();
                    chunk.push((key, value));
                }
                Some(Err(error)) => {
                    failure = Some(error);
                    return None;
                }
                None => break,
            }
        }
        let part = if chunk.is_empty() { parts.next()? } else { Vec::new() };
        count += chunk.len() as u64;
        let entry = Chunk { sweep, number, rows: chunk, mark: part };
        let key = format!("{}.{LAYOUT}/{number}", slot.name());
        number += 1;
        Some((key.into_bytes(), postcard::to_stdvec(&entry).ok()?))
    });
    archive.publish(partition, &mut { chunks })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let note = Note { sweep, slot, chunks: number, rows: count, mark_bytes };
    let note = postcard::to_stdvec(&note).map_err(StoreError::from)?;
    archive.publish(partition, &mut std::iter::once((note_key(), note)))?;
    Ok(mark.next)
}

/// What stands behind the last whole snapshot of `partition`, if there is one.
fn last_note(
    archive: &dyn Archive,
    is_over: &dyn Fn() -> bool,
    partition: Partition,
) -> Result<Option<Note>, JournalError> {
    let mut note = None;
    archive.read(partition, is_over, &mut |key, value| {
        if key == note_key() {
            note = postcard::from_bytes(value).ok();
        }
    })?;
    Ok(note)
}

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fills the empty store of `partition` from its last snapshot. Answers whether it did; if not, the
/// store is as empty as before. Errors: [`RecoveryError::CutShort`]; then rows without a mark are left.
pub(super) fn restore(
    snapshots: Snapshots<'_>,
    tables: &Tables,
    partition: Partition,
) -> Result<bool, RecoveryError> {
    let began = Instant::now();
    let restored = try_restore(snapshots, tables, partition);
    if (snapshots.is_over)() {
        return Err(RecoveryError::CutShort { partition });
    }
    Ok(match restored {
        Ok(Some(rows)) => {
            tracing::info!(
                journal.partition = partition.0,
                rows,
                duration_ms = began.elapsed().as_millis() as u64,
                "restored from the snapshot"
            );
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(
                %error,
                journal.partition = partition.0,
                "the snapshot cannot be used: reading the journal instead"
            );
            if let Err(error) = tables.clear(partition) {
                tracing::warn!(
                    %error,
                    journal.partition = partition.0,
                    "rows of an unusable snapshot cannot be removed"
                );
            }
            false
        }
    })
}

fn try_restore(
    Snapshots { archive, is_over }: Snapshots<'_>,
    tables: &Tables,
    partition: Partition,
) -> Result<Option<u64>, Failure> {
    let Some(note) = last_note(archive, is_over, partition)? else { return Ok(None) };
    // Rows of an attempt that was cut short.
    tables.clear(partition)?;
    let mut filling = Filling {
        tables,
        partition,
        note,
        chunks: 0,
        rows: 0,
        hash: RowHash::default(),
        waiting: RowChanges::default(),
        mark: Vec::new(),
        strange: false,
        failure: None,
    };
    archive.read(partition, is_over, &mut |_, value| filling.take(value))?;
    filling.finish().map(Some)
}

struct Filling<'t> {
    tables: &'t Tables,
    partition: Partition,
    note: Note,
    chunks: u64,
    rows: u64,
    hash: RowHash,
    waiting: RowChanges,
    mark: Vec<u8>,
    /// The snapshot has a row of another partition. It must not be written: the other partition would
    /// never remove it.
    strange: bool,
    failure: Option<StoreError>,
}

impl Filling<'_> {
    fn take(&mut self, value: &[u8]) {
        let Ok(chunk) = postcard::from_bytes::<Chunk>(value) else { return };
        let is_next = chunk.sweep == self.note.sweep && chunk.number == self.chunks;
        if !is_next || self.strange || self.failure.is_some() {
            return;
        }
        self.chunks += 1;
        self.mark.extend_from_slice(&chunk.mark);
        for (key, value) in chunk.rows {
            if parse_key(&key).is_none_or(|(partition, ..)| partition != self.partition) {
                self.strange = true;
                return;
            }
            self.rows += 1;
            self.hash.toggle(RowHash::of(&key, &value));
            self.waiting.push(&key, Some(&value));
        }
        if self.waiting.len() >= ROWS_AT_ONCE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.waiting);
        if let Err(error) = self.tables.fill(&rows) {
            self.failure.get_or_insert(error);
        }
    }

    fn finish(mut self) -> Result<u64, Failure> {
        if !self.strange {
            self.flush();
        }
        if let Some(error) = self.failure {
            return Err(error.into());
        }
        let wrong = |what: &str| {
            let place = format!("the snapshot of partition {}", self.partition);
            Err(JournalError::Corrupt { place, detail: what.to_owned() }.into())
        };
        if self.strange {
            return wrong("it has a row that is none of the partition's");
        }
        let Note { chunks, rows, mark_bytes, sweep, .. } = self.note;
        if (self.chunks, self.rows, self.mark.len()) != (chunks, rows, mark_bytes) {
            return wrong("a part of it is missing");
        }
        let mark: Mark = postcard::from_bytes(&self.mark).map_err(StoreError::from)?;
        if mark.hash != self.hash.0 || mark.next.0 != sweep {
            return wrong("its rows are not those of its checkpoint");
        }
        // Only now do the rows count.
        self.tables.write(self.partition, &RowSet::default(), &mark)?;
        Ok(self.rows)
    }
}

/// The thread that writes snapshots. Dropping it ends the thread.
pub(super) struct Sweeper {
    _running: Sender<()>,
}

impl Sweeper {
    pub(super) fn start(
        archive: Arc<dyn Archive>,
        store: Store,
        seats: Arc<Seats>,
        schedule: Schedule,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (running, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || sweep(&*archive, &store, &seats, schedule, &ended))?;
        Ok((Self { _running: running }, thread))
    }
}

fn sweep(
    archive: &dyn Archive,
    store: &Store,
    seats: &Seats,
    schedule: Schedule,
    ended: &Receiver<()>,
) {
    let mut last: HashMap<Partition, (Instant, Offset)> = HashMap::new();
    let pause = LOOK.min(schedule.interval);
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let serving = seats.serving();
        last.retain(|partition, _| serving.contains(partition));
        for partition in serving {
            if schedule.records == 0 || seats.is_closed() {
                break;
            }
            let next = match store.tables().mark(partition) {
                Ok(Some(mark)) => mark.next,
                Ok(None) | Err(_) => continue,
            };
            let (when, before) = match last.get(&partition) {
                Some(known) => *known,
                // The former owner's, or one of before a restart.
                None => match last_note(archive, &|| seats.is_closed(), partition) {
                    Ok(note) => {
                        let known = (Instant::now(), Offset(note.map_or(0, |note| note.sweep)));
                        *last.entry(partition).or_insert(known)
                    }
                    Err(_) => continue,
                },
            };
            let records = next.0.saturating_sub(before.0);
            let due =
                records >= schedule.records || (records > 0 && when.elapsed() >= schedule.interval);
            if !due {
                continue;
            }
            let began = Instant::now();
            match write(archive, store.tables(), partition) {
                Ok(written) => {
                    tracing::info!(
                        journal.partition = partition.0,
                        journal.offset = written.0,
                        duration_ms = began.elapsed().as_millis() as u64,
                        "snapshot written"
                    );
                    last.insert(partition, (Instant::now(), written));
                }
                // The next look tries again; nothing depends on it.
                Err(error) => {
                    tracing::warn!(
                        %error,
                        journal.partition = partition.0,
                        "no snapshot was written: trying again later"
                    );
                }
            }
        }
    }
}
