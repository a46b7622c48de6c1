//! What records and channels have to keep, broken once each.

use super::*;
use crate::journal::{Cursor, Filter, Place, Progress};

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
    // Amy's is the offer, whoever is named.
    let (one, both) = (vec![Rule::CauseMatches], vec![Rule::CauseMatches, Rule::AnswersAsAsked]);
    for (wrong, broken) in [((id("amy"), Version(1)), one), ((id("carl"), Version(2)), both)] {
        let mut memory = world.memory.clone();
        memory.recommit(place, |commit| {
            let cause = commit.cause.as_mut().expect("an answer");
            (cause.user, cause.version) = wrong;
        });
        assert_eq!(rules(&report(&memory).problems), broken.into_iter().collect());
    }
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
                cursor: Box::new(Cursor::begin(Place {
                    next: Offset(next),
                    epoch: Epoch(epoch),
                    n,
                })),
            },
        );
        expect_broken(&world.memory, rule);
    }
}

#[test]
fn a_cursor_knows_the_place_where_it_reads_on_and_counts_what_is_owed() {
    let only = Partition(0);
    let mut world = World::of(1, &NAMES);
    world.block("amy", &["bob"]);
    world.drain();
    let end = world.memory.end(only).expect("memory is readable");
    let place = |next: u64| Place { next: Offset(next), epoch: Epoch(1), n: next - 1 };
    let commands: Vec<Box<str>> = vec!["Sns.CallbackBlackListAdd".into()];
    let progress = Progress {
        since: Offset(1),
        filters: vec![Filter { from: Offset(0), commands }],
        ..Progress::default()
    };
    let mut cursor = Cursor { place: place(end.0), progress, ..Cursor::default() };
    let expect = |cursor: &Cursor, rule| {
        let mut world = world.clone();
        let subscription = format!("webhook/{}", key("amy").app);
        world.append(only, &Body::Cursor { subscription, cursor: Box::new(cursor.clone()) });
        expect_broken(&world.memory, rule)
    };
    let report = expect(&cursor, Rule::Deliveries);
    let said = &report.problems.first[0].detail;
    assert!(said.contains("of amy is in none of them"), "{said}");
    cursor.progress.filters.clear();
    cursor.progress.resume = Some(Place { n: 77, ..place(2) });
    expect(&cursor, Rule::CursorPlace);
    cursor.progress.resume = Some(place(end.0 + 1));
    expect(&cursor, Rule::CursorPlace);
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
fn a_partition_that_says_more_was_taken_of_it_than_was_is_a_problem() {
    let mut world = friends();
    let (amy, bob) = (world.home("amy"), world.home("bob"));
    let taken = 1;
    world.append(amy, &Body::Acknowledged { out: vec![(bob, taken)] });
    expect_clean(&world.memory);
    world.append(amy, &Body::Acknowledged { out: vec![(bob, taken + 100)] });
    expect_broken(&world.memory, Rule::AcknowledgedTaken);
}
