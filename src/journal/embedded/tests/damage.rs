//! Torn tails are cut, damage is named, and neither is taken for the other.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::damage::{apply, changes};
use crate::journal::embedded::ReadOnly;
use crate::journal::embedded::format::SegmentHeader;

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_before_it() {
    let dir = crashed(&["first", "second", "third"]);
    let path = segment(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let (start, end) = *groups(dir.path()).last().unwrap();
    for torn in start..end {
        // What a cut-short write leaves behind: nothing, the zeros from before, or anything.
        for rest in [None, Some(0_u8), Some(0xff), Some(b'g')] {
            let mut bytes = whole.clone();
            match rest {
                None => bytes.truncate(torn),
                Some(byte) => bytes[torn..end].fill(byte),
            }
            if bytes[..end.min(bytes.len())] == whole[..end] {
                continue;
            }
            fs::write(&path, &bytes).unwrap();
            let journal = open(dir.path()).unwrap();
            assert_eq!(read_all(&*journal), ["first", "second"], "byte {torn}, {rest:?}");
            assert_eq!(journal.end(ONE).unwrap(), Offset(2));
            if rest != Some(0xff) {
                continue;
            }
            assert_eq!(fs::metadata(&path).unwrap().len(), start as u64, "what is torn is gone");
            commit(&journal, ONE, "instead");
            drop(journal);
            assert_eq!(read_all(&*open(dir.path()).unwrap()), ["first", "second", "instead"]);
        }
    }
}

#[test]
fn a_torn_tail_is_left_alone_by_an_audit() {
    let dir = crashed(&["first", "second"]);
    let path = segment(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let (start, end) = *groups(dir.path()).last().unwrap();
    assert_eq!(ReadOnly::open(dir.path()).unwrap().torn_bytes().unwrap(), 0);
    bytes[end - 1] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let audit = ReadOnly::open(dir.path()).unwrap();
    assert_eq!(audit.torn_bytes().unwrap(), (bytes.len() - start) as u64);
    assert_eq!(read_all(&audit), ["first"]);
    assert_eq!(audit.end(ONE).unwrap(), Offset(1));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_flipped_bit_before_the_last_group_names_file_and_byte() {
    let dir = crashed(&["first", "second", "third"]);
    let path = segment(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    for (start, end) in &groups(dir.path())[..2] {
        for at in *start..*end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let expected = format!("{} byte {start}", path.display());
            for error in [
                open(dir.path()).unwrap_err(),
                ReadOnly::open(dir.path()).unwrap().end(ONE).unwrap_err(),
            ] {
                let JournalError::Corrupt { place, .. } = error else { panic!("{error}") };
                assert_eq!(place, expected, "byte {at}");
            }
            assert_eq!(fs::read(&path).unwrap(), bytes, "a damaged file is evidence");
        }
    }
}

#[test]
fn what_stands_before_the_damage_is_read_and_the_first_record_behind_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let records = [(ONE, "first"), (TWO, "second"), (TWO, "third"), (ONE, "fourth")];
    let journal = open(dir.path()).unwrap();
    records.iter().for_each(|(partition, record)| commit(&journal, *partition, record));
    drop(journal);
    let path = segment(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    assert!(ReadOnly::open(dir.path()).unwrap().damage().unwrap().is_none());
    let (groups, mut ends) = (groups(dir.path()), [Offset(0); 2]);
    for (index, (partition, _)) in records.iter().enumerate() {
        let (start, end) = groups[index];
        let mut bytes = whole.clone();
        bytes[end - 1] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let damage = ReadOnly::open(dir.path()).unwrap().damage().unwrap();
        let damage = damage.expect("it is damaged");
        let end = &mut ends[usize::from(partition.0)];
        assert_eq!((damage.at, damage.whole.end(*partition).unwrap()), ((*partition, *end), *end));
        let place = format!("{} byte {start}: ", path.display());
        assert!(damage.detail.starts_with(&place), "{}", damage.detail);
        let before: Vec<_> = records[..index].iter().map(|(_, record)| *record).collect();
        assert_eq!(read_all(&*damage.whole), before);
        end.0 += 1;
    }
}

#[test]
fn a_hole_of_zeros_before_the_last_group_is_damage() {
    let dir = crashed(&["first", "second", "third"]);
    let path = segment(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let (start, end) = groups(dir.path())[1];
    bytes[start..end].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(dir.path()), Err(JournalError::Corrupt { .. })));
}

#[test]
fn after_a_clean_close_damage_to_the_last_record_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).unwrap();
    commit(&journal, ONE, "only");
    drop(journal);
    let path = segment(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let (start, end) = groups(dir.path())[0];
    bytes[end - 1] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    let JournalError::Corrupt { place, .. } = error else { panic!("{error}") };
    assert_eq!(place, format!("{} byte {start}", path.display()));
}

#[test]
fn opening_and_closing_again_and_again_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    commit(&open(dir.path()).unwrap(), ONE, "only");
    let before = groups(dir.path()).len();
    for _ in 0..3 {
        drop(open(dir.path()).unwrap());
    }
    assert_eq!(groups(dir.path()).len(), before);
}

/// A journal of several segments, closed; answers its records.
fn several_segments(dir: &Path) -> Vec<String> {
    let journal = Journal::open(Settings { segment_bytes: 1000, ..settings(dir) }).unwrap();
    let records: Vec<String> = (0..30).map(|index| format!("{index:0100}")).collect();
    for record in &records {
        commit(&journal, ONE, record);
    }
    drop(journal);
    assert!(Folder::new(dir, PARTITIONS).last_segment().unwrap() >= 4);
    records
}

#[test]
fn an_older_segment_is_checked_when_it_is_read_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let records = several_segments(dir.path());
    let path = segment(dir.path(), 2);
    let whole = fs::read(&path).unwrap();
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes[0] ^= 1,
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(SegmentHeader::bytes(PARTITIONS)),
        |bytes| {
            let end = bytes.len();
            bytes[end - 100 - GROUP_HEADER_BYTES..].fill(0);
        },
    ];
    for (index, damage) in damages.iter().enumerate() {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let journal = open(dir.path()).unwrap();
        let readers: [&dyn ReadJournal; 2] = [&*journal, &ReadOnly::open(dir.path()).unwrap()];
        for reader in readers {
            let error = read_entries(reader).unwrap_err();
            let JournalError::Corrupt { place, .. } = error else { panic!("{index}: {error}") };
            assert!(place.starts_with(&path.display().to_string()), "{index}: {place}");
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read_all(&*open(dir.path()).unwrap()), records);
}

#[test]
fn a_reader_hands_out_what_is_right_before_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let records = several_segments(dir.path());
    let path = segment(dir.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let journal = open(dir.path()).unwrap();
    let mut reader = journal.reader(&[(ONE, Offset(0))]).unwrap();
    let before = reader.next(usize::MAX).unwrap();
    assert!(!before.is_empty());
    for (entry, record) in before.iter().zip(&records) {
        assert_eq!(entry.bytes, record.as_bytes());
    }
    for _ in 0..2 {
        assert!(matches!(reader.next(1), Err(JournalError::Corrupt { .. })));
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    several_segments(dir.path());
    fs::remove_file(segment(dir.path(), 2)).unwrap();
    let error = open(dir.path()).unwrap_err();
    let JournalError::Corrupt { place, .. } = error else { panic!("{error}") };
    assert_eq!(place, segment(dir.path(), 2).display().to_string());
}

#[test]
fn a_segment_whose_creation_was_cut_short_at_any_byte_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let records = several_segments(dir.path());
    let folder = Folder::new(dir.path(), PARTITIONS);
    let last = folder.last_segment().unwrap();
    let header = fs::read(segment(dir.path(), last)).unwrap();
    for torn in 0..SegmentHeader::bytes(PARTITIONS) {
        fs::write(segment(dir.path(), last + 1), &header[..torn]).unwrap();
        assert_eq!(read_all(&ReadOnly::open(dir.path()).unwrap()), records);
        assert_eq!(read_all(&*open(dir.path()).unwrap()), records, "byte {torn}");
        assert_eq!(folder.last_segment().unwrap(), last);
    }
}

/// Rule: what was acknowledged is never passed over in silence.
#[test]
fn a_damaged_header_of_a_last_segment_with_records_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    several_segments(dir.path());
    let last = Folder::new(dir.path(), PARTITIONS).last_segment().unwrap();
    let path = segment(dir.path(), last);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let audit = ReadOnly::open(dir.path()).unwrap();
    let error = audit.end(ONE).unwrap_err();
    let JournalError::Corrupt { place, .. } = error else { panic!("{error}") };
    assert_eq!(place, format!("{} byte 0", path.display()));
    let damage = audit.damage().unwrap().expect("it is damaged");
    assert!(damage.whole.end(ONE).unwrap() > Offset(0), "what stands before it is read");
}

/// The records that are read, if they are.
fn read_texts(journal: &dyn ReadJournal) -> Option<Vec<String>> {
    let entries = read_entries(journal).ok()?.into_iter();
    Some(entries.map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_file_that_was_changed_anywhere_hands_out_what_was_written_or_an_error(
        of_settings: bool,
        changes in changes(&[]),
    ) {
        let records = ["first", "second", "third"];
        let dir = crashed(&records);
        let path = if of_settings { dir.path().join("meta.json") } else { segment(dir.path(), 1) };
        let mut bytes = fs::read(&path).unwrap();
        // Zeros that were put there ahead of the writes would be most of it.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        apply(&mut bytes, &changes);
        fs::write(&path, &bytes).unwrap();
        let audited = ReadOnly::open(dir.path()).ok();
        let opened = open(dir.path()).ok();
        for read in [
            audited.and_then(|journal| read_texts(&journal)),
            opened.and_then(|journal| read_texts(&*journal)),
        ].into_iter().flatten() {
            prop_assert!(records.starts_with(&read.iter().map(String::as_str).collect::<Vec<_>>()));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_header_panic(noise in vec(any::<u8>(), 0..200), partitions in 0..20_u16) {
        let whole = SegmentHeader { segment: 1, first_group: 1, next: vec![7; 19] }.encode();
        // Behind a right beginning and before a right checksum as well.
        for known in 0..=whole.len() {
            let mut bytes = [&whole[..known], &noise[..]].concat();
            drop(SegmentHeader::decode(&bytes, 1, partitions));
            if let Some(covered) = bytes.len().checked_sub(4) {
                let checksum = crc32c::crc32c(&bytes[..covered]).to_le_bytes();
                bytes[covered..].copy_from_slice(&checksum);
                drop(SegmentHeader::decode(&bytes, 1, partitions));
            }
        }
    }
}
