//! The embedded journal on a real disk that is full, and on one that is read-only.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon::journal::embedded::{self, Settings};
use cordon::journal::{Journal, JournalError, Offset, Partition, ReadJournal, Settlement};
use tokio::sync::mpsc::unbounded_channel;

use crate::support::Mount;

const ONE: Partition = Partition(0);

fn open(dir: &Path) -> Result<Arc<embedded::Journal>, JournalError> {
    let segment_bytes = 1 << 20;
    embedded::Journal::open(Settings { partitions: 1, segment_bytes, ..Settings::new(dir) })
}

/// Appends records of `bytes` bytes, one at a time, until one is lost; answers how many are not.
fn fill(journal: &embedded::Journal, bytes: usize) -> u64 {
    let (sender, mut settlements) = unbounded_channel();
    journal.attach(ONE, sender);
    let record = vec![b'x'; bytes];
    for durable in 0.. {
        journal.append(ONE, &record).expect("the loss is told before the journal refuses");
        journal.flush();
        match settlements.blocking_recv() {
            Some(Settlement::Durable { .. }) => {}
            Some(Settlement::Lost) => return durable,
            None => panic!("the journal lives"),
        }
    }
    unreachable!("the disk has an end")
}

#[test]
fn a_full_disk_and_a_read_only_one_are_answers() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let Some(mount) = Mount::new(dir.path(), "4m") else { return };
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![b'x'; 1 << 20]).expect("there is room at first");
    let journal_dir = dir.path().join("journal");
    let journal = open(&journal_dir).expect("the journal opens");
    let durable = fill(&journal, 10_000);
    assert!(durable > 100, "{durable}");
    assert_eq!(journal.end(ONE).expect("an end"), Offset(durable));
    let reason = journal.writable().expect_err("the disk is full").to_string();
    assert!(reason.contains("No space left"), "{reason}");

    mount.free();
    let deadline = Instant::now() + Duration::from_secs(20);
    while journal.writable().is_err() {
        assert!(Instant::now() < deadline, "the journal notices that there is room again");
        std::thread::yield_now();
    }
    let more = fill(&journal, 10_000);
    assert!(more > 50, "{more}");
    drop(journal);

    mount.remount("ro");
    let error = open(&journal_dir).expect_err("nothing can be written there");
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    let audit = embedded::ReadOnly::open(&journal_dir).expect("it can be read");
    assert_eq!(audit.end(ONE).expect("an end"), Offset(durable + more));
}
