//! What only the embedded journal promises: its files after crashes, damage and failing disks.
//! What every journal promises is in `tests/it/journal_contract.rs`.

mod damage;
mod failures;
mod opening;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::file::faults::Faults;
use super::folder::Folder;
use super::format::GROUP_HEADER_BYTES;
use super::scan::Scan;
use super::{Journal, Settings};
use crate::journal::{
    Entry, Journal as _, JournalError, Offset, Partition, ReadJournal, Settlement,
};

const PARTITIONS: u16 = 3;
const ONE: Partition = Partition(0);
const TWO: Partition = Partition(1);
const DEADLINE: Duration = Duration::from_secs(20);

fn settings(dir: &Path) -> Settings {
    Settings {
        partitions: PARTITIONS,
        segment_bytes: 1 << 20,
        pending_bytes_max: 1 << 20,
        ..Settings::new(dir)
    }
}

fn open(dir: &Path) -> Result<Arc<Journal>, JournalError> {
    Journal::open(settings(dir))
}

/// A journal on a disk that fails on demand, and looks every millisecond whether it still does.
fn open_on(dir: &Path, segment_bytes: u64, faults: &Faults) -> Arc<Journal> {
    let settings = Settings { segment_bytes, ..settings(dir) };
    Journal::start(settings, Duration::from_millis(1), faults.clone()).unwrap()
}

/// Appends one record as a group of its own, and waits until it is durable.
fn commit(journal: &Journal, partition: Partition, record: &str) {
    let mut settlements = attach(journal, partition);
    journal.append(partition, record.as_bytes()).unwrap();
    journal.flush();
    let settlement = settlements.blocking_recv();
    assert!(matches!(settlement, Some(Settlement::Durable { count: 1, .. })), "{settlement:?}");
}

fn attach(journal: &Journal, partition: Partition) -> UnboundedReceiver<Settlement> {
    let (sender, settlements) = unbounded_channel();
    journal.attach(partition, sender);
    settlements
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn read_entries(journal: &dyn ReadJournal) -> Result<Vec<Entry>, JournalError> {
    let from: Vec<_> =
        (0..journal.partitions()).map(|number| (Partition(number), Offset(0))).collect();
    let mut reader = journal.reader(&from)?;
    let mut entries = Vec::new();
    loop {
        let more = reader.next(100)?;
        if more.is_empty() {
            return Ok(entries);
        }
        entries.extend(more);
    }
}

/// All records, in order.
fn read_all(journal: &dyn ReadJournal) -> Vec<String> {
    let texts = read_entries(journal).unwrap().into_iter();
    texts.map(|entry| String::from_utf8(entry.bytes).unwrap()).collect()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    Folder::new(dir, PARTITIONS).segment_path(number)
}

/// The start and end of every group of the last segment.
fn groups(dir: &Path) -> Vec<(usize, usize)> {
    let folder = Folder::new(dir, PARTITIONS);
    let mut scan = Scan::at_segment(&folder, folder.last_segment().unwrap()).unwrap();
    let mut groups = Vec::new();
    loop {
        let start = scan.place().position as usize;
        if !scan.next_group(None).unwrap() {
            return groups;
        }
        while scan.next_record().unwrap().is_some() {}
        groups.push((start, scan.place().position as usize));
    }
}

/// What a power cut would leave of a journal with these records, a group each.
fn crashed(records: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).unwrap();
    for record in records {
        commit(&journal, ONE, record);
    }
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), image.path().join(entry.file_name())).unwrap();
    }
    image
}
