//! Each rule, broken once.

use std::collections::BTreeSet;
use std::convert::Infallible;

use super::*;
use crate::audit::simulation::{Memory, World, id, key};
use crate::domain::{
    AllowType, Card, EdgeId, Event, OfferForm, ProfileChange, RemovalReason, Version,
};
use crate::journal::Cause;
use crate::journal::record::encode;

pub(super) const NAMES: [&str; 5] = ["amy", "bob", "carl", "dora", "emil"];

pub(super) fn report(memory: &Memory) -> Report {
    check(memory, &Options::default()).expect("memory is readable")
}

fn rules(findings: &Findings) -> BTreeSet<Rule> {
    findings.first.iter().map(|finding| finding.rule).collect()
}

/// Expects that exactly `rule` is found broken, and that each finding stands where a record stands.
fn expect_broken(memory: &Memory, rule: Rule) -> Report {
    let report = report(memory);
    assert_eq!(rules(&report.problems), BTreeSet::from([rule]), "{:#?}", report.problems);
    assert!(!report.holds);
    for finding in &report.problems.first {
        memory.index((finding.partition, finding.offset));
    }
    report
}

fn expect_clean(memory: &Memory) -> Report {
    let report = report(memory);
    assert!(report.holds, "{:#?}", report.problems);
    assert_eq!(report.warnings.total, 0, "{:#?}", report.warnings);
    report
}

/// Amy and bob, friends of each other, in a partition of their own each.
fn friends() -> World {
    let mut world = World::of(3, &NAMES);
    world.befriend("amy", "bob");
    assert_ne!(world.home("amy"), world.home("bob"));
    world
}

fn is_watermark(record: &Record) -> bool {
    matches!(record.body, Body::Watermark { .. })
}

fn has(record: &Record, owner: &str, which: impl Fn(&Event) -> bool) -> bool {
    match &record.body {
        Body::Commit(commit) => commit.key == key(owner) && commit.events.iter().any(which),
        _ => false,
    }
}

/// Makes an answer say that it changed nothing.
fn unsay(record: &mut Record) {
    let Body::Commit(Commit { cause: Some(cause), .. }) = &record.body else {
        panic!("{record:?} is no answer")
    };
    record.body = Body::Watermark { seen: vec![(cause.partition, cause.seq)] };
}

#[test]
fn an_empty_journal_holds() {
    let memory = Memory { partitions: 2, entries: Vec::new(), pauses: Vec::new() };
    let report = expect_clean(&memory);
    assert_eq!((report.records, report.partitions.len()), (0, 2));
    assert_eq!(report.partitions[1].hash, "0".repeat(32));
}

#[test]
fn a_right_history_holds_and_is_counted() {
    let mut world = friends();
    world.add("carl", &["dora"], OfferForm::OneWay, false);
    world.drain();
    world.block("amy", &["bob", "carl"]);
    assert_eq!(report(&world.memory).owed, world.owed());
    world.drain();
    world.befriend("dora", "emil");
    for partition in 0..3 {
        world.checkpoint(Partition(partition));
    }
    world.claim(Partition(0));
    let report = expect_clean(&world.memory);
    assert_eq!((report.users, report.claims, report.voids, report.owed), (5, 4, 0, 0));
    assert_eq!((report.blocks, report.friendships, report.hashes), (2, 2, 3));
    assert_eq!(report.records, world.memory.entries.len() as u64);
    assert_eq!(report.partitions.iter().map(|one| one.users).sum::<u64>(), 5);
    for one in &report.partitions {
        assert_eq!(one.hash, world.hash(one.partition).to_string());
        assert_eq!(one.epoch, Epoch(if one.partition.0 == 0 { 2 } else { 1 }));
    }
}

#[test]
fn a_record_that_is_none_is_a_problem_and_the_ones_behind_it_still_count() {
    let mut world = friends();
    let place = world.last(world.home("amy"));
    let index = world.memory.index(place);
    let text = String::from_utf8(world.memory.entries[index].bytes.clone()).expect("JSON");
    world.memory.entries[index].bytes = text.replace("\"v\":1", "\"v\":9").into_bytes();
    let found = report(&world.memory);
    assert!(rules(&found.problems).contains(&Rule::Readable));
    assert_eq!(found.voids, 0);
    assert_eq!((found.problems.first[0].partition, found.problems.first[0].offset), place);
}

#[test]
fn a_missing_record_is_a_problem() {
    let mut world = friends();
    let hash = world.hash(Partition(0)).to_string();
    world.append(Partition(0), &Body::Checkpoint { hash: hash.clone() });
    let place = world.last(Partition(0));
    world.claim(Partition(0));
    world.memory.entries.remove(world.memory.index(place));
    expect_broken(&world.memory, Rule::OffsetsWithoutGap);
}

#[test]
fn a_skipped_epoch_is_only_a_warning() {
    let mut world = friends();
    let body = Body::Claim { node: "n2".into(), nonce: uuid::Uuid::nil() };
    let mut bytes = Vec::new();
    encode(Epoch(5), 0, &body, &mut bytes);
    world.append_bytes(Partition(0), bytes);
    let report = report(&world.memory);
    assert!(report.holds);
    assert_eq!(rules(&report.warnings), BTreeSet::from([Rule::NextEpoch]));
}

#[test]
fn records_that_never_counted_are_counted_and_change_nothing() {
    let mut world = friends();
    let hash = world.hash(world.home("amy"));
    let block = Event::UserBlocked { target: id("bob"), remain_friends: false };
    let commit = world.commit_of("amy", vec![block]);
    world.append_void(world.home("amy"), &Body::Commit(commit));
    let index = world.memory.entries.len() - 1;
    let report = expect_clean(&world.memory);
    assert_eq!(report.voids, 1);
    assert_eq!(report.partitions[usize::from(world.home("amy").0)].hash, hash.to_string());
    // What counts for nobody need not be readable either.
    let text = String::from_utf8(world.memory.entries[index].bytes.clone()).expect("JSON");
    world.memory.entries[index].bytes = text.replace("UserBlocked", "Nonsense").into_bytes();
    assert_eq!(expect_clean(&world.memory).voids, 1);
}

#[test]
fn a_clock_that_runs_backwards_is_only_a_warning() {
    let mut world = friends();
    world.now.0 -= CLOCK_TOLERANCE_MS / 2;
    world.allow("amy", AllowType::DenyAny);
    expect_clean(&world.memory);
    world.now.0 -= CLOCK_TOLERANCE_MS * 2;
    world.allow("amy", AllowType::AllowAny);
    let report = report(&world.memory);
    assert!(report.holds);
    assert_eq!(rules(&report.warnings), BTreeSet::from([Rule::TimeForward]));
}

#[test]
fn a_user_in_the_wrong_partition_is_a_problem() {
    let mut world = friends();
    let commit = world.commit_of("fay", vec![Event::AccountImported {}]);
    world.append(Partition((world.home("fay").0 + 1) % 3), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::RightPartition);
}

#[test]
fn a_record_without_an_event_is_a_problem() {
    let mut world = friends();
    let commit = world.commit_of("amy", Vec::new());
    world.append(world.home("amy"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::HasEvents);
}

#[test]
fn a_gap_between_versions_is_a_problem() {
    let mut world = friends();
    world.allow("amy", AllowType::AllowAny);
    let place = world.last(world.home("amy"));
    world.memory.recommit(place, |commit| commit.version = commit.version.next());
    expect_broken(&world.memory, Rule::VersionsWithoutGap);
}

#[test]
fn taking_less_than_before_is_a_problem() {
    let mut world = friends();
    let seen = vec![(world.home("amy"), 0)];
    world.append(world.home("bob"), &Body::Watermark { seen });
    expect_broken(&world.memory, Rule::AnswersForward);
}

#[test]
fn answering_twice_is_a_problem() {
    let mut world = friends();
    let cause =
        Cause { partition: world.home("amy"), seq: 1, user: id("amy"), version: Version(2) };
    let change = Event::FriendUpdated { peer: id("amy"), card: Card::default() };
    let mut commit = world.commit_of("bob", vec![change]);
    commit.cause = Some(cause);
    world.append(world.home("bob"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::AnswersForward);
}

#[test]
fn repeating_a_watermark_is_right() {
    let mut world = friends();
    world.block("amy", &["carl"]);
    world.drain();
    let place = world.memory.places(is_watermark)[0];
    let bytes = world.memory.entries[world.memory.index(place)].bytes.clone();
    let Body::Watermark { seen } = crate::journal::record::decode(&bytes).expect("readable").body
    else {
        panic!("a watermark")
    };
    world.append(place.0, &Body::Watermark { seen });
    expect_clean(&world.memory);
}

#[test]
fn taking_what_nobody_asked_is_a_problem() {
    let mut world = friends();
    world.append(world.home("bob"), &Body::Watermark { seen: vec![(world.home("amy"), 99)] });
    expect_broken(&world.memory, Rule::AnswersAsked);
}

#[test]
fn naming_a_cause_that_is_another_is_a_problem() {
    let accepts = |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendAdded { .. }));
    let world = friends();
    let place = world.memory.places(accepts)[0];
    for wrong in [(id("amy"), Version(1)), (id("carl"), Version(2))] {
        let mut memory = world.memory.clone();
        memory.recommit(place, |commit| {
            let cause = commit.cause.as_mut().expect("an answer");
            (cause.user, cause.version) = wrong;
        });
        expect_broken(&memory, Rule::CauseMatches);
    }
}

#[test]
fn blocking_a_friend_who_stays_one_is_a_problem() {
    let mut world = friends();
    let block = Event::UserBlocked { target: id("bob"), remain_friends: false };
    let commit = world.commit_of("amy", vec![block]);
    world.append(world.home("amy"), &Body::Commit(commit));
    // Bob has not heard of it: between the two it is only amy's own list that is wrong.
    let found = expect_broken(&world.memory, Rule::NoFriendBlocked);
    assert_eq!(found.owed, 1);
}

#[test]
fn a_block_that_keeps_friends_keeps_them() {
    let mut world = friends();
    world.policy.remain_friends = true;
    world.block("amy", &["bob"]);
    world.drain();
    expect_clean(&world.memory);
    world.policy.remain_friends = false;
    world.unblock("amy", &["bob"]);
    world.block("amy", &["bob"]);
    world.drain();
    let report = expect_clean(&world.memory);
    assert_eq!((report.blocks, report.friendships), (1, 0));
}

#[test]
fn having_someone_as_a_friend_who_blocks_them_is_a_problem() {
    let mut world = friends();
    world.block("amy", &["bob"]);
    let owed = expect_clean(&world.memory);
    assert_eq!((owed.owed, owed.friendships), (1, 1), "the removal is on its way");
    world.drain();
    expect_clean(&world.memory);
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.rewrite(place, unsay);
    let found = report(&world.memory);
    // The friendship was of both, so it is one-sided as well.
    let expected = BTreeSet::from([Rule::NeverBlockedAndFriends, Rule::BothSides]);
    assert_eq!(rules(&found.problems), expected);
}

#[test]
fn an_import_past_a_blocklist_is_right_only_where_the_app_allows_it() {
    let mut world = World::of(3, &NAMES);
    world.policy.import_ignores_blocklist = true;
    world.block("amy", &["bob"]);
    world.drain();
    world.add("amy", &["bob"], OfferForm::Import, false);
    world.add("bob", &["amy"], OfferForm::Import, false);
    world.drain();
    let found = report(&world.memory);
    let expected = BTreeSet::from([Rule::NoFriendBlocked, Rule::NeverBlockedAndFriends]);
    assert_eq!(rules(&found.problems), expected);
    let options = Options { import_ignores_blocklist: true, ..Options::default() };
    assert!(check(&world.memory, &options).expect("readable").holds);
}

#[test]
fn a_friendship_of_both_in_one_list_is_a_problem() {
    let mut world = friends();
    let edge = EdgeId { offerer: id("amy"), version: Version(2) };
    let removed = Event::FriendRemoved {
        peer: id("bob"),
        edge,
        reason: RemovalReason::DeletedByPeer,
        announced: false,
    };
    let commit = world.commit_of("amy", vec![removed]);
    world.append(world.home("amy"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::BothSides);
}

#[test]
fn two_edges_for_one_friendship_are_a_problem() {
    let mut world = friends();
    let edge = EdgeId { offerer: id("bob"), version: Version(9) };
    let linked = Event::FriendLinked { peer: id("bob"), edge };
    let commit = world.commit_of("amy", vec![linked]);
    world.append(world.home("amy"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::BothSides);
}

#[test]
fn a_friend_removed_from_one_list_alone_may_stay_in_the_other() {
    let mut world = friends();
    world.remove("amy", "bob", false);
    assert_eq!(expect_clean(&world.memory).friendships, 1);
    world.delete("amy");
    world.drain();
    assert_eq!(expect_clean(&world.memory).friendships, 0, "a deleted account is forgotten");
}

#[test]
fn an_offer_that_nobody_answers_is_a_problem() {
    let mut world = World::of(3, &NAMES);
    world.add("amy", &["bob"], OfferForm::OneWay, false);
    expect_clean(&world.memory);
    world.pump(world.busy()[0], 1);
    let accepts =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendAccepted { .. }));
    let place = world.memory.places(accepts)[0];
    world.memory.rewrite(place, unsay);
    expect_broken(&world.memory, Rule::OffersAnswered);
}

#[test]
fn a_removal_by_a_block_that_nobody_made_is_a_problem() {
    let removed = |edge| Event::FriendRemoved {
        peer: id("amy"),
        edge,
        reason: RemovalReason::BlockedByPeer,
        announced: true,
    };
    let edge = EdgeId { offerer: id("amy"), version: Version(2) };
    // Without any cause.
    let mut world = friends();
    world.remove("amy", "bob", false);
    let commit = world.commit_of("bob", vec![removed(edge)]);
    world.append(world.home("bob"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::SeveredByBlock);
    // By another act of hers, which is no block.
    let mut world = friends();
    world.remove("amy", "bob", true);
    world.drain();
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.recommit(place, |commit| commit.events = vec![removed(edge)]);
    expect_broken(&world.memory, Rule::SeveredByBlock);
}

#[test]
fn naming_a_deleted_account_is_a_warning_once_all_have_heard_of_it() {
    let mut world = World::of(3, &NAMES);
    world.block("amy", &["bob"]);
    world.drain();
    world.delete("bob");
    assert_eq!(expect_clean(&world.memory).owed, 3, "every partition is still to hear of it");
    let forgets = |event: &Event| matches!(event, Event::PeerForgotten { .. });
    world.drain();
    expect_clean(&world.memory);
    let place = world.memory.places(|record| has(record, "amy", forgets))[0];
    world.memory.recommit(place, |commit| commit.events = vec![Event::ProfileChanged(change())]);
    let report = report(&world.memory);
    assert!(report.holds);
    assert_eq!(rules(&report.warnings), BTreeSet::from([Rule::DeletedForgotten]));
}

fn change() -> ProfileChange {
    ProfileChange { nick: Some("Amy".into()), ..ProfileChange::default() }
}

#[test]
fn a_row_hash_that_is_another_is_a_problem() {
    let mut world = friends();
    let hash = world.hash(world.home("amy")).to_string();
    world.append(world.home("bob"), &Body::Release { hash });
    expect_broken(&world.memory, Rule::JournalHash);
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
    use crate::store::rows::RowChange;

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
    let row = |(key, value)| RowChange { key, value: Some(value) };
    let rows: Vec<RowChange> = world.rows(home).into_iter().map(row).collect();
    let next = Offset(world.last(home).1.0 + 1);
    let mark = store::Mark { next, ..store::Mark::default() };
    store.tables().write(home, &rows, &mark).expect("written");
    let verify = || {
        let read = |partition| StoredRows::read(store.tables(), Partition(partition));
        let stored: Vec<StoredRows> = (0..3).filter_map(|p| read(p).expect("readable")).collect();
        assert_eq!(stored.len(), 1);
        let options = Options { stored, ..Options::default() };
        check(&ReadOnly::open(&dir).expect("the journal is there"), &options).expect("readable")
    };
    let found = verify();
    assert!(found.holds, "{:#?}", found.problems);
    assert_eq!((found.records, found.hashes), (durable, 2));
    let owned = check(&*journal, &Options::default()).expect("readable");
    assert_eq!(owned.partitions, found.partitions);
    let lost = RowChange { key: rows[0].key.clone(), value: None };
    store.tables().write(home, &[lost], &mark).expect("written");
    assert_eq!(rules(&verify().problems), BTreeSet::from([Rule::StoreHash]));
    store.close();
}

#[test]
fn cursors_move_forward_inside_the_journal_and_know_their_place() {
    let mut world = World::of(1, &NAMES);
    let only = Partition(0);
    let commit = world.commit_of("amy", Vec::new());
    world.append_void(only, &Body::Commit(commit)); // Offset 6.
    world.cursor(only, Offset(4), Epoch(1), 3);
    world.cursor(only, Offset(8), Epoch(1), 6);
    world.claim(only);
    world.cursor(only, Offset(10), Epoch(2), 0);
    let report = expect_clean(&world.memory);
    assert_eq!(report.lags, [Lag { subscription: "all".into(), records: 1 }]);
    for (next, epoch, n, rule) in [
        (9, 1, 7, Rule::CursorForward),
        (99, 2, 1, Rule::CursorInsideJournal),
        (11, 2, 0, Rule::CursorPlace),
        (11, 1, 1, Rule::CursorPlace),
    ] {
        let mut world = world.clone();
        world.append_numbered(
            only,
            Epoch(2),
            2,
            &Body::Cursor {
                subscription: "all".into(),
                next: Offset(next),
                epoch: Epoch(epoch),
                n,
            },
        );
        expect_broken(&world.memory, rule);
    }
}

#[test]
fn an_answer_read_before_its_question_is_right_if_the_question_follows() {
    let world = friends();
    let offers = |record: &Record| has(record, "amy", |e| matches!(e, Event::FriendOffered { .. }));
    let accepts = |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendAdded { .. }));
    let mut memory = world.memory.clone();
    let offer = memory.places(offers)[0];
    // Bob's partition is read to its end first, then amy's comes.
    memory.entries.sort_by_key(|entry| entry.partition == offer.0);
    expect_clean(&memory);
    memory.pauses = vec![memory.entries.iter().position(|e| e.partition == offer.0).expect("amy")];
    expect_clean(&memory);
    // An answer that comes in the second stretch may have its question in the third.
    let mut memory = world.memory;
    let accept = memory.places(accepts)[0];
    memory.entries.retain(|entry| entry.partition != offer.0);
    memory.pauses = vec![memory.index(accept)];
    memory.entries.push(memory.entries[0].clone());
    let report = report(&memory);
    assert!(!rules(&report.problems).contains(&Rule::CauseMatches));
}

#[test]
fn findings_are_all_counted_and_the_first_ones_shown() {
    let mut world = friends();
    for _ in 0..FINDINGS_SHOWN_MAX + 5 {
        world.append(Partition(0), &Body::Checkpoint { hash: "wrong\u{1b}[2J".into() });
    }
    let mut text = Vec::new();
    let found = run(&world.memory, &Options::default(), &mut text).expect("readable");
    assert_eq!(found.problems.total, FINDINGS_SHOWN_MAX as u64 + 5);
    assert_eq!(found.problems.first.len(), FINDINGS_SHOWN_MAX);
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("PROBLEM and 5 more\n"), "{text}");
    assert!(text.contains(" journal_hash: says row hash wrong\\u{1b}[2J"), "{text}");
    assert!(text.contains("\nowed: 0\n") && text.contains("NOT ALL HOLDS"), "{text}");
}

#[test]
fn the_report_is_one_json_object() {
    let mut text = Vec::new();
    let options = Options { format: Format::Json, ..Options::default() };
    run(&friends().memory, &options, &mut text).expect("readable");
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    let report: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(report["holds"], true);
    assert_eq!(report["friendships"], 1);
    assert_eq!(report["partitions"][2]["partition"], 2);
}
