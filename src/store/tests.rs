//! The store as a whole: partitions, users, and who may open it.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::damage::damaged;
use crate::journal::{Cursor, Filter, Offset, Progress};

#[test]
fn a_partition_is_cleared_whatever_its_size_and_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
    let store = Store::open(&settings).unwrap();
    let (one, two) = (Partition(1), Partition(2));
    for partition in [one, two] {
        let mut rows = RowSet::default();
        for number in 0..CLEARED_AT_ONCE as u32 + 1 {
            let key = [&rows::partition_prefix(partition)[..], &number.to_be_bytes()].concat();
            rows.put(&key, Some(b"value"));
        }
        store.tables().write(partition, &rows, &Mark::default()).unwrap();
    }
    store.tables().clear(one).unwrap();
    assert_eq!(store.tables().partition_rows(one).count(), 0);
    assert_eq!(store.tables().mark(one).unwrap(), None);
    assert_eq!(store.tables().partition_rows(two).count(), CLEARED_AT_ONCE + 1);
    assert_eq!(store.tables().mark(two).unwrap(), Some(Mark::default()));
    store.close();
}

#[test]
fn a_user_with_rows_and_without_a_head_row_is_no_new_user() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
    let store = Store::open(&settings).unwrap();
    let id = |name| UserId::parse(name).unwrap();
    let key = UserKey { app: AppId(1), user: id("amy") };
    let amy = User::new(key.user);
    let relation = postcard::to_stdvec(&amy.relation(&id("bob"))).unwrap();
    let mut rows = RowSet::default();
    rows.put(&rows::relation_key(Partition(1), &key, &id("bob")), Some(&relation));
    store.tables().write(Partition(1), &rows, &Mark::default()).unwrap();
    let user = |partition| store.tables().user(Partition(partition), &key);
    assert!(matches!(user(1), Err(StoreError::Headless(whose)) if whose == key));
    assert!(user(2).is_ok_and(|(user, _)| !user.is_imported()));
    store.close();
}

/// A look that went through the rows of other apps would let their deletions hold up everybody.
#[test]
fn a_look_for_who_names_somebody_passes_the_rows_of_one_app_alone_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
    let store = Store::open(&settings).unwrap();
    let id = |name: &str| UserId::parse(name).unwrap();
    let here = Partition(1);
    let mut rows = RowSet::default();
    for (app, owner, peer) in [
        (1, "amy", "bob"),
        (2, "amy", "bob"),
        (2, "amy", "carl"),
        (2, "dora", "bob"),
        (2, "dora", "emil"),
        (3, "amy", "bob"),
    ] {
        let key = UserKey { app: AppId(app), user: id(owner) };
        rows.put(&rows::relation_key(here, &key, &id(peer)), Some(b"what is kept"));
    }
    store.tables().write(here, &rows, &Mark::default()).unwrap();

    let peers = BTreeSet::from(["bob", "carl"].map(id));
    let named = [("amy", "bob"), ("amy", "carl"), ("dora", "bob")];
    for (found_max, rows_max, looks) in [(9, 9, 1), (1, 9, 4), (9, 1, 4), (9, 2, 2)] {
        let (mut found, mut from, mut count) = (Vec::new(), None, 0);
        loop {
            let bounds = (found_max, rows_max);
            let naming = store.tables().who_names((here, AppId(2)), &peers, from, bounds).unwrap();
            assert!(naming.found.len() <= found_max.min(rows_max));
            found.extend(naming.found);
            count += 1;
            from = naming.next;
            if from.is_none() {
                break;
            }
        }
        let key = |(owner, peer)| (UserKey { app: AppId(2), user: id(owner) }, id(peer));
        assert_eq!((found, count), (named.map(key).to_vec(), looks), "{found_max} {rows_max}");
    }
    store.close();
}

#[test]
fn a_store_that_is_open_already_is_in_use_and_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
    let first = Store::open(&settings).unwrap();
    // Whoever took this for damage would delete a store that another process reads.
    assert!(matches!(Store::open(&settings), Err(StoreError::InUse { .. })));
    first.close();
    drop(first);
    assert!(Store::open(&settings).is_ok());
}

#[test]
fn an_audit_finds_the_state_of_another_layout_and_leaves_it_there() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
    let names = |database: &Database| {
        let names = database.list_keyspace_names();
        names.iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let open = || Database::builder(&settings.dir).open().unwrap();
    let other = open();
    other.keyspace("rows.0", KeyspaceCreateOptions::default).unwrap();
    drop(other);
    assert!(Tables::existing(&settings).unwrap().is_none());
    assert_eq!(names(&open()), ["rows.0"]);

    let store = Store::open(&settings).unwrap();
    store.tables().write(Partition(1), &RowSet::default(), &Mark::default()).unwrap();
    store.close();
    drop(store);
    assert!(!names(&open()).contains(&"rows.0".to_owned()), "a node has no use for it");
    let tables = Tables::existing(&settings).unwrap().expect("the layout of this version");
    assert_eq!(tables.mark(Partition(1)).unwrap(), Some(Mark::default()));
    assert!(matches!(Tables::existing(&settings), Err(StoreError::InUse { .. })));
}

#[test]
fn the_folder_is_for_its_owners_eyes_only() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let store = Store::open(&Settings { dir: dir.clone(), cache_bytes: 1 << 20 }).unwrap();
    let mode = std::fs::metadata(dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    store.close();
}

/// A mark with everything in it.
fn mark() -> Vec<u8> {
    let filters = vec![Filter { from: Offset(7), commands: vec!["a".into()] }];
    let progress = Progress { since: Offset(7), filters, ..Progress::default() };
    let mark = Mark {
        next: Offset(9),
        inbox: vec![1, 2, 300],
        outbox: vec![OutboxMark { acked: 5, owed: Vec::new() }],
        cursors: vec![CursorMark::new("webhook/7", &Cursor { progress, ..Cursor::default() })],
        ..Mark::default()
    };
    postcard::to_stdvec(&mark).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_mark_that_was_damaged_is_a_mark_or_an_error(bytes in damaged(vec![mark()])) {
        if let Ok(read) = postcard::from_bytes::<Mark>(&bytes) {
            let written = postcard::to_stdvec(&read).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Mark>(&written).ok(), Some(read.clone()));
            for cursor in read.cursors {
                if let Ok((name, cursor)) = cursor.read() {
                    prop_assert_eq!(CursorMark::new(&name, &cursor).read().unwrap().1, cursor);
                }
            }
        }
    }
}
