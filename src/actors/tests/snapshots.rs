//! A node without a store begins from the owner's snapshot.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::*;
use crate::actors::snapshot::{Snapshots, restore, write};
use crate::damage::{apply, changes};
use crate::journal::archive::KeyValue;
use crate::journal::{Archive, JournalError};
use crate::store::row_set::RowSet;

/// What was published, in order.
#[derive(Default)]
pub(super) struct Shelf(Mutex<BTreeMap<Partition, Vec<KeyValue>>>);

impl Archive for Shelf {
    fn publish(
        &self,
        partition: Partition,
        entries: &mut dyn Iterator<Item = KeyValue>,
    ) -> Result<(), JournalError> {
        self.0.lock().expect("a lock").entry(partition).or_default().extend(entries);
        Ok(())
    }

    fn read(
        &self,
        partition: Partition,
        is_over: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), JournalError> {
        for (key, value) in self.0.lock().expect("a lock").get(&partition).into_iter().flatten() {
            if is_over() {
                break;
            }
            each(key, value);
        }
        Ok(())
    }
}

fn rows(store: &Store, partition: Partition) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.tables().partition_rows(partition).collect::<Result<_, _>>().expect("readable rows")
}

fn restores(archive: &dyn Archive, store: &Store, partition: Partition) -> bool {
    let snapshots = Snapshots { archive, is_over: &|| false };
    restore(snapshots, store.tables(), partition).expect("nothing cuts it short")
}

fn empty_store(dir: &Path) -> Store {
    let settings = store::Settings { dir: dir.join("other"), cache_bytes: 1 << 20 };
    Store::open(&settings).expect("the store opens")
}

/// A store with friends and blocks in it, closed in order, and where amy lives.
async fn filled(dir: &Path) -> (Store, Partition) {
    let room = start(dir).await;
    let names: Vec<String> = (0..300).map(|index| format!("user{index}")).collect();
    import(&room, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for name in &names[1..200] {
        assert_eq!(run(&room, "user0", block(name)).await, [Ok(())]);
    }
    room.stop().await;
    let settings = store::Settings { dir: dir.join("state"), cache_bytes: 1 << 20 };
    let store = Store::open(&settings).expect("the store opens again");
    (store, partition_of(&key("user0"), 16))
}

#[actix::test]
async fn a_snapshot_restores_every_row_and_the_checkpoint() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, home) = filled(here.path()).await;
    let shelf = Shelf::default();
    // Twice: the later one counts.
    write(&shelf, store.tables(), home).expect("it is written");
    write(&shelf, store.tables(), home).expect("it is written");
    let other = empty_store(there.path());
    assert!(restores(&shelf, &other, home));
    assert_eq!(rows(&other, home), rows(&store, home));
    assert!(rows(&other, home).len() > 199);
    assert_eq!(other.tables().mark(home).unwrap(), store.tables().mark(home).unwrap());
    other.close();
    store.close();
}

#[actix::test]
async fn a_restore_that_is_cut_short_reads_no_further_and_begins_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, home) = filled(here.path()).await;
    let shelf = Shelf::default();
    write(&shelf, store.tables(), home).expect("it is written");
    let parts = shelf.0.lock().unwrap()[&home].len();
    let other = empty_store(there.path());
    // The archive is read twice, and nothing is missing before the note.
    for looks_max in 0..2 * parts - 1 {
        let looks = Cell::new(0);
        let is_over = || looks.replace(looks.get() + 1) >= looks_max;
        let snapshots = Snapshots { archive: &shelf, is_over: &is_over };
        let restored = restore(snapshots, other.tables(), home);
        assert!(matches!(restored, Err(RecoveryError::CutShort { .. })), "{looks_max}");
        assert!(looks.get() <= looks_max + 3, "it went on: {} looks", looks.get());
        assert_eq!(other.tables().mark(home).unwrap(), None, "{looks_max}");
    }
    assert!(restores(&shelf, &other, home));
    assert_eq!(rows(&other, home), rows(&store, home));
    other.close();
    store.close();
}

#[actix::test]
async fn a_snapshot_that_was_cut_short_spoils_no_whole_one() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, home) = filled(here.path()).await;
    let shelf = Shelf::default();
    let write_next = || {
        let mut mark = store.tables().mark(home).unwrap().expect("a checkpoint");
        mark.next.0 += 1;
        store.tables().write(home, &RowSet::default(), &mark).expect("a later checkpoint");
        write(&shelf, store.tables(), home).expect("it is written");
        shelf.0.lock().unwrap()[&home].clone()
    };
    let other = empty_store(there.path());
    for round in 0..8 {
        let whole = write_next();
        let note = whole.last().cloned().expect("a note");
        // Each part in the place of the one with the same key, and the note of before.
        let mut compacted: BTreeMap<_, _> = write_next().into_iter().collect();
        compacted.insert(note.0, note.1);
        let torn = Shelf(Mutex::new(BTreeMap::from([(home, compacted.into_iter().collect())])));
        assert!(restores(&torn, &other, home), "round {round}");
        other.tables().clear(home).expect("it is empty again");
    }
    other.close();
    store.close();
}

#[actix::test]
async fn a_snapshot_that_is_not_whole_is_not_used() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, home) = filled(here.path()).await;
    let other = empty_store(there.path());
    let whole = Shelf::default();
    assert!(!restores(&whole, &other, home), "there is none");
    write(&whole, store.tables(), home).expect("it is written");
    let kept = whole.0.lock().unwrap()[&home].clone();
    for missing in 0..kept.len() {
        let mut kept = kept.clone();
        kept.remove(missing);
        let shelf = Shelf(Mutex::new(BTreeMap::from([(home, kept)])));
        assert!(!restores(&shelf, &other, home), "without part {missing}");
        assert!(rows(&other, home).is_empty());
        assert_eq!(other.tables().mark(home).unwrap(), None);
    }
    // A later one that was never finished spoils nothing, unless it took the same slot.
    let mut torn = kept.clone();
    torn.push((b"other/0".to_vec(), kept[0].1[..3].to_vec()));
    let shelf = Shelf(Mutex::new(BTreeMap::from([(home, torn)])));
    assert!(restores(&shelf, &other, home));
    other.close();
    store.close();
}

/// A part of a snapshot as it lies in the archive: sweep, number, rows, and a part of the mark.
type Part = (u64, u64, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

#[actix::test]
async fn a_snapshot_that_was_damaged_is_used_whole_or_not_at_all_and_touches_no_other_partition() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, home) = filled(here.path()).await;
    let other = empty_store(there.path());
    let shelf = Shelf::default();
    write(&shelf, store.tables(), home).expect("it is written");
    let kept = shelf.0.lock().unwrap()[&home].clone();
    let whole = rows(&store, home);
    let elsewhere = (0..16).map(Partition).filter(|partition| *partition != home);
    let elsewhere: Vec<Partition> = elsewhere.collect();
    let restored = |kept: Vec<KeyValue>| {
        let shelf = Shelf(Mutex::new(BTreeMap::from([(home, kept)])));
        let is_restored = restores(&shelf, &other, home);
        let found = rows(&other, home);
        assert_eq!(found, if is_restored { whole.clone() } else { Vec::new() });
        assert!(elsewhere.iter().all(|partition| rows(&other, *partition).is_empty()));
        other.tables().clear(home).expect("it is empty again");
        is_restored
    };

    let away = elsewhere[0].0.to_be_bytes();
    for (place, start) in [&away[..], &[], &[0; 70_000]].into_iter().enumerate() {
        let mut kept = kept.clone();
        let mut part: Part = postcard::from_bytes(&kept[0].1).expect("a part");
        let key = &mut part.2[0].0;
        *key = if place == 0 { [start, &key[2..]].concat() } else { start.to_vec() };
        kept[0].1 = postcard::to_stdvec(&part).expect("a part");
        assert!(!restored(kept), "{place}");
    }
    let mut runner = TestRunner::new(ProptestConfig::with_cases(100));
    let damage = (any::<Index>(), changes(&[]));
    let held = runner.run(&damage, |(which, changes)| {
        let mut kept = kept.clone();
        let value = &mut which.get_mut(&mut kept).1;
        let before = value.clone();
        apply(value, &changes);
        let is_same = *value == before;
        let is_restored = restored(kept);
        if is_same && !is_restored {
            return Err(TestCaseError::fail("a whole one is used"));
        }
        Ok(())
    });
    held.expect("it holds for all");
    other.close();
    store.close();
}
