//! Row hashes in the journal and in a state store.

use std::convert::Infallible;

use super::*;

#[test]
fn a_row_hash_that_is_another_is_a_problem() {
    let mut world = friends();
    let hash = world.hash(world.home("amy")).to_string();
    world.append(world.home("bob"), &Body::Release { hash });
    expect_broken(&world.memory, Rule::JournalHash);
}

#[test]
fn a_row_hash_of_another_layout_is_not_compared_and_is_named() {
    let mut world = friends();
    world.checkpoint(Partition(0));
    world.append(Partition(0), &Body::Checkpoint { hash: format!("1-{:032x}", 7) });
    let report = expect_clean(&world.memory);
    assert_eq!(report.hashes, 1);
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    assert!(report.notes[0].starts_with("1 row hashes in the journal are over rows of another"));
}

#[test]
fn a_store_is_compared_at_the_place_of_its_checkpoint() {
    let mut world = friends();
    let home = world.home("amy");
    let next = Offset(world.last(home).1.0 + 1);
    let rows = world.rows(home);
    world.block("amy", &["bob"]);
    world.drain();
    let stored = |next, rows: &[(Vec<u8>, Vec<u8>)]| {
        let rows = rows.iter().map(|(key, value)| Ok::<_, Infallible>((key, value)));
        let Ok(stored) = StoredRows::of(home, next, rows);
        let options = Options { stored: vec![stored], ..Options::default() };
        check(&world.memory, &options).expect("readable")
    };
    let report = stored(next, &rows);
    assert!(report.holds && report.hashes == 1, "{:?}", report.problems);
    let end = Offset(world.last(home).1.0 + 1);
    assert!(stored(end, &world.rows(home)).holds, "a store at the very end");
    let lost = stored(next, &rows[1..]);
    assert_eq!(rules(&lost.problems), BTreeSet::from([Rule::StoreHash]));
    let stale = stored(end, &rows);
    assert_eq!(rules(&stale.problems), BTreeSet::from([Rule::StoreHash]));
    let ahead = stored(Offset(end.0 + 1), &world.rows(home));
    assert_eq!(rules(&ahead.problems), BTreeSet::from([Rule::StoreInsideJournal]));
}

#[test]
fn a_folder_is_verified_beside_the_process_that_owns_it() {
    use crate::journal::Journal as _;
    use crate::journal::embedded::{Journal, ReadOnly, Settings};
    use crate::store;
    use crate::store::row_set::RowSet;
    use crate::store::rows::RowChanges;

    let mut world = friends();
    world.block("amy", &["bob", "carl"]);
    world.drain();
    world.checkpoint(Partition(0));
    let folder = tempfile::tempdir().expect("a folder for the test");
    let dir = folder.path().join("journal");
    let settings = Settings { partitions: 3, ..Settings::new(&dir) };
    let journal = Journal::open(settings).expect("a new journal");
    let (settled, mut settlements) = tokio::sync::mpsc::unbounded_channel();
    for partition in 0..3 {
        journal.attach(Partition(partition), settled.clone());
    }
    for entry in &world.memory.entries {
        journal.append(entry.partition, &entry.bytes).expect("room");
    }
    journal.flush();
    let mut durable = 0;
    while durable < world.memory.entries.len() as u64 {
        match settlements.blocking_recv() {
            Some(crate::journal::Settlement::Durable { count, .. }) => durable += count,
            other => panic!("{other:?}"),
        }
    }
    let settings = store::Settings { dir: folder.path().join("store"), cache_bytes: 1 << 20 };
    let store = store::Store::open(&settings).expect("a new store");
    let home = world.home("amy");
    let mut rows = RowChanges::default();
    world.rows(home).iter().for_each(|(key, value)| rows.push(key, Some(value)));
    let next = Offset(world.last(home).1.0 + 1);
    let mark = store::Mark { next, ..store::Mark::default() };
    store.tables().write(home, &RowSet::from(&rows), &mark).expect("written");
    let verify = || {
        let next = store.tables().mark(home).expect("readable").expect("a mark").next;
        let rows = store.tables().partition_rows(home);
        let stored = vec![StoredRows::of(home, next, rows).expect("readable")];
        let options = Options { stored, ..Options::default() };
        check(&ReadOnly::open(&dir).expect("the journal is there"), &options).expect("readable")
    };
    let found = verify();
    assert!(found.holds, "{:#?}", found.problems);
    assert_eq!((found.records, found.hashes), (durable, 2));
    let owned = check(&*journal, &Options::default()).expect("readable");
    assert_eq!(owned.partitions, found.partitions);
    let mut lost = RowChanges::default();
    lost.push(rows.iter().next().expect("a row").0, None);
    store.tables().write(home, &RowSet::from(&lost), &mark).expect("written");
    assert_eq!(rules(&verify().problems), BTreeSet::from([Rule::StoreHash]));
    store.close();
}
