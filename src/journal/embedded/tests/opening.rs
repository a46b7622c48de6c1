//! Who may open a journal, and what an audit sees beside its owner.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::journal::embedded::ReadOnly;

#[test]
fn a_second_opener_is_refused_until_the_first_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(&error, JournalError::Locked { path } if path == dir.path()), "{error}");
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let other = Settings { partitions: 9, ..settings(dir.path()) };
    let error = Journal::open(other).unwrap_err();
    assert!(
        matches!(error, JournalError::Partitions { found: PARTITIONS, expected: 9 }),
        "{error}"
    );
    let none = Settings { partitions: 0, ..settings(dir.path()) };
    assert!(matches!(Journal::open(none), Err(JournalError::Io { .. })));
}

#[test]
fn a_creation_that_was_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    fs::remove_file(dir.path().join("meta.json")).unwrap();
    let header = fs::read(segment(dir.path(), 1)).unwrap();
    for torn in [0, 1, header.len() - 1, header.len()] {
        fs::write(segment(dir.path(), 1), &header[..torn]).unwrap();
        drop(open(dir.path()).unwrap());
        fs::remove_file(dir.path().join("meta.json")).unwrap();
    }
}

#[test]
fn a_journal_without_its_settings_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    commit(&open(dir.path()).unwrap(), ONE, "kept");
    let meta = dir.path().join("meta.json");
    let bytes = fs::read(&meta).unwrap();
    fs::remove_file(&meta).unwrap();
    assert!(matches!(open(dir.path()), Err(JournalError::Corrupt { .. })));
    fs::write(&meta, b"{").unwrap();
    assert!(matches!(open(dir.path()), Err(JournalError::Corrupt { .. })));
    fs::write(&meta, bytes).unwrap();
    assert_eq!(read_all(&*open(dir.path()).unwrap()), ["kept"]);
}

#[test]
fn the_folder_is_for_its_owners_eyes_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    drop(open(&path).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut files = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    assert!(files.all(|file| mode(&file) == 0o600));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(open(&file.join("journal")), Err(JournalError::Io { .. })));
    assert!(matches!(ReadOnly::open(dir.path()), Err(JournalError::Io { .. })));
}

#[test]
fn an_audit_beside_the_owner_sees_what_is_durable_and_follows() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(Settings { segment_bytes: 600, ..settings(dir.path()) }).unwrap();
    let audit = ReadOnly::open(dir.path()).unwrap();
    assert_eq!(audit.partitions(), PARTITIONS);
    let mut reader = audit.reader(&[(ONE, Offset(0)), (TWO, Offset(0))]).unwrap();
    for index in 0..40_u64 {
        let partition = Partition((index % 2) as u16);
        commit(&journal, partition, &format!("{index:050}"));
        let entries = reader.next(usize::MAX).unwrap();
        assert_eq!(entries.len(), 1, "{index}");
        assert_eq!((entries[0].partition, entries[0].offset), (partition, Offset(index / 2)));
        assert_eq!(audit.end(partition).unwrap(), journal.end(partition).unwrap());
    }
    let tail = read_from(&audit, ONE, 17);
    assert_eq!(tail.first().map(|entry| entry.offset), Some(Offset(17)));
    assert_eq!(tail.len(), 3);
    let beyond = audit.reader(&[(ONE, Offset(21))]).err().unwrap();
    assert!(matches!(beyond, JournalError::NoSuchOffset { end: Offset(20), .. }), "{beyond}");
}

#[test]
fn an_audit_never_takes_a_running_write_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(Settings { segment_bytes: 8000, ..settings(dir.path()) }).unwrap();
    let audit = ReadOnly::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..2000_u64 {
                journal.append(ONE, &index.to_le_bytes()).unwrap();
                journal.flush();
                if index % 7 == 0 {
                    commit(&journal, TWO, "x");
                }
            }
        });
        let mut reader = audit.reader(&[(ONE, Offset(0))]).unwrap();
        let (mut seen, deadline) = (0_u64, Instant::now() + DEADLINE);
        while seen < 2000 {
            assert!(Instant::now() < deadline, "the records come in time");
            for entry in reader.next(1000).unwrap() {
                assert_eq!(entry.bytes, seen.to_le_bytes());
                seen += 1;
            }
            audit.end(TWO).unwrap();
        }
    });
}

#[test]
fn a_reader_outlives_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).unwrap();
    commit(&journal, ONE, "kept");
    let mut reader = journal.reader(&[(ONE, Offset(0))]).unwrap();
    drop(journal);
    assert_eq!(reader.next(1).unwrap().len(), 1);
    assert!(reader.next(1).unwrap().is_empty());
}

fn read_from(journal: &dyn ReadJournal, partition: Partition, offset: u64) -> Vec<Entry> {
    journal.reader(&[(partition, Offset(offset))]).unwrap().next(usize::MAX).unwrap()
}

#[test]
fn a_reader_starts_near_its_offset_wherever_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { segment_bytes: 3 << 20, ..settings(dir.path()) };
    let journal = Journal::open(small.clone()).unwrap();
    let padding = "x".repeat(100 << 10);
    for index in 0..80 {
        commit(&journal, Partition(index % 2), &padding);
    }
    let check = |journal: &dyn ReadJournal| {
        for offset in 0..40 {
            let entries = read_from(journal, TWO, offset);
            assert_eq!(entries.len() as u64, 40 - offset);
            assert_eq!(entries[0].offset, Offset(offset));
        }
        assert!(read_from(journal, TWO, 40).is_empty());
    };
    check(&*journal);
    check(&ReadOnly::open(dir.path()).unwrap());
    drop(journal);
    check(&*Journal::open(small).unwrap());
}
