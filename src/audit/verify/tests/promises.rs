//! Each promise, broken once by a journal that breaks no other: the report names it, and the record.

use super::*;
use crate::domain::UserKey;
use crate::journal::{Cursor, Entry, Filter, Parked, Place, Progress};

type At = (Partition, Offset);

/// Expects that `promise` alone is broken, first by the record at `place`, whose user and version are
/// named.
fn expect(memory: &Memory, promise: Promise, place: At, whose: Option<(&str, u64)>) {
    let found = report(memory);
    let numbers: Vec<u8> = found.promises.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    let broken: Vec<_> = found.promises.iter().filter(|one| !one.kept).collect();
    let [broken] = &broken[..] else { panic!("{broken:#?}") };
    assert_eq!((broken.promise, broken.number), (promise, promise.number()));
    let first = broken.first.as_ref().expect("a broken promise has a first record");
    assert_eq!((first.finding.partition, first.finding.offset), place);
    assert_eq!(first.finding.rule.promise(), promise);
    let whose: Option<(UserKey, Version)> =
        whose.map(|(name, version)| (key(name), Version(version)));
    assert_eq!(first.user.zip(first.version), whose);
    assert!(!found.holds);

    let mut text = Vec::new();
    run(memory, &Options::default(), &mut text).expect("memory is readable");
    let text = String::from_utf8(text).expect("text");
    let line = format!("promise {}, {}: BROKEN; ", promise.number(), promise.title());
    let mut lines = text.lines().skip_while(|one| !one.starts_with(&line)).skip(1);
    let place = match whose {
        Some((user, version)) => {
            format!("{}@{} of {user}, version {version}, against ", place.0, place.1)
        }
        None => format!("{}@{}, against ", place.0, place.1),
    };
    let said = lines.next().expect("the line behind says by which record");
    assert!(said.starts_with(&format!("  first broken by {place}")), "{said}");
    assert_eq!(text.matches(": BROKEN;").count(), 1, "{text}");
}

/// The version that `name` stands at.
fn version(world: &World, name: &str) -> u64 {
    world.users[&key(name)].version().0
}

#[test]
fn a_lost_record_breaks_durable_before_said() {
    let mut world = friends();
    world.checkpoint(Partition(0));
    let lost = world.last(Partition(0));
    world.claim(Partition(0));
    world.memory.entries.remove(world.memory.index(lost));
    let behind = (lost.0, Offset(lost.1.0 + 1));
    expect(&world.memory, Promise::DurableBeforeSaid, behind, None);
}

#[test]
fn a_friend_who_is_blocked_breaks_never_blocked_and_friends() {
    let mut world = friends();
    let block = Event::UserBlocked { target: id("bob"), remain_friends: false };
    let commit = world.commit_of("amy", vec![block]);
    let (home, next) = (world.home("amy"), version(&world, "amy") + 1);
    let place = (home, world.append(home, &Body::Commit(commit)));
    expect(&world.memory, Promise::NeverBlockedAndFriends, place, Some(("amy", next)));
}

#[test]
fn a_version_that_does_not_follow_breaks_same_user_one_order() {
    let mut world = friends();
    world.allow("amy", AllowType::AllowAny);
    let place = world.last(world.home("amy"));
    world.memory.recommit(place, |commit| commit.version = commit.version.next());
    let wrong = version(&world, "amy") + 1;
    expect(&world.memory, Promise::SameUserOneOrder, place, Some(("amy", wrong)));
}

#[test]
fn a_record_of_an_epoch_that_nobody_claimed_breaks_one_writer() {
    let mut world = friends();
    let commit = world.commit_of("amy", vec![Event::AccountImported {}]);
    let (home, next) = (world.home("amy"), version(&world, "amy") + 1);
    let offset = world.append_numbered(home, Epoch(9), 1, &Body::Commit(commit));
    expect(&world.memory, Promise::OneWriter, (home, offset), Some(("amy", next)));
}

#[test]
fn a_cursor_that_passes_a_call_breaks_nothing_unsaid() {
    let only = Partition(0);
    let mut world = World::of(1, &NAMES);
    world.block("amy", &["bob"]);
    world.drain();
    let end = world.memory.end(only).expect("memory has an end");
    let commands: Vec<Box<str>> = vec!["Sns.CallbackBlackListAdd".into()];
    let progress = Progress {
        since: Offset(1),
        filters: vec![Filter { from: Offset(0), commands }],
        ..Progress::default()
    };
    let place = Place { next: end, epoch: Epoch(1), n: end.0 - 1 };
    let cursor = Box::new(Cursor { place, progress, ..Cursor::default() });
    let subscription = format!("webhook/{}", key("amy").app);
    let offset = world.append(only, &Body::Cursor { subscription, cursor });
    expect(&world.memory, Promise::NothingUnsaid, (only, offset), None);
}

#[test]
fn another_row_hash_breaks_replay_is_the_same_program() {
    let mut world = friends();
    let hash = world.hash(world.home("amy")).to_string();
    let home = world.home("bob");
    let place = (home, world.append(home, &Body::Checkpoint { hash }));
    expect(&world.memory, Promise::ReplayIsTheSameProgram, place, None);
}

#[test]
fn a_record_that_kafka_would_not_take_is_only_a_warning() {
    let mut world = friends();
    let names = vec!["x".repeat(RECORD_BYTES_MAX).into()];
    let commit = world.commit_of("amy", vec![Event::GroupsAdded { names }]);
    let home = world.home("amy");
    world.append(home, &Body::Commit(commit));
    let found = report(&world.memory);
    assert!(found.holds);
    assert_eq!(rules(&found.warnings), BTreeSet::from([Rule::WithinLimits]));
}

#[test]
fn more_parked_users_than_the_limit_break_bounded() {
    let mut world = World::of(1, &NAMES);
    let only = Partition(0);
    let parked = |index| Parked {
        user: id(&format!("user{index}")),
        first: Offset(0),
        done: 0,
        attempts: 1,
        since: world.now,
        error: "".into(),
    };
    let users = |count: usize| (0..count).map(parked).collect::<Vec<_>>();
    let cursor = |parked| {
        let progress = Progress { parked, ..Progress::default() };
        let place = Place { next: Offset(1), epoch: Epoch(1), n: 0 };
        let cursor = Box::new(Cursor { place, progress, ..Cursor::default() });
        Body::Cursor { subscription: "all".into(), cursor }
    };
    let (most, more) = (cursor(users(PARKED_USERS_MAX)), cursor(users(PARKED_USERS_MAX + 1)));
    world.append(only, &most);
    expect_clean(&world.memory);
    let place = (only, world.append(only, &more));
    expect(&world.memory, Promise::Bounded, place, None);
}

#[test]
fn a_second_record_with_a_number_is_a_problem_unless_it_repeats_the_first() {
    let mut world = friends();
    let home = world.home("amy");
    let written = world.last(home);
    let bytes = world.memory.entries[world.memory.index(written)].bytes.clone();
    let n = crate::journal::record::decode(&bytes).expect("a record").n;
    world.append_bytes(home, bytes);
    assert_eq!(expect_clean(&world.memory).voids, 1);
    world.append_numbered(home, Epoch(1), n, &Body::Watermark { seen: Vec::new() });
    let found = report(&world.memory);
    assert_eq!(rules(&found.problems), BTreeSet::from([Rule::OneRecordPerNumber]));
    assert_eq!(
        (found.problems.first[0].partition, found.problems.first[0].offset),
        world.last(home)
    );
    // Nothing is said of what was written under another claim.
    world.memory.entries.pop();
    world.claim(home);
    world.append_numbered(home, Epoch(1), n, &Body::Watermark { seen: Vec::new() });
    expect_clean(&world.memory);
}

#[test]
fn a_record_before_any_claim_is_a_problem() {
    let mut world = friends();
    let home = world.home("amy");
    let claims = |world: &World| {
        let is_claim = |entry: &Entry| {
            let record = crate::journal::record::decode(&entry.bytes).expect("a record");
            entry.partition == home && matches!(record.body, Body::Claim { .. })
        };
        world.memory.entries.iter().position(is_claim)
    };
    let first = claims(&world).expect("it was claimed");
    let mut bytes = Vec::new();
    encode(Epoch(0), 1, &Body::Watermark { seen: Vec::new() }, &mut bytes);
    world.memory.entries[first].bytes = bytes;
    let found = report(&world.memory);
    assert!(rules(&found.problems).contains(&Rule::WrittenUnderClaim), "{:#?}", found.problems);
    let named = found.problems.first.iter().find(|one| one.rule == Rule::WrittenUnderClaim);
    assert_eq!(named.map(|one| (one.partition, one.offset)), Some((home, Offset(0))));
}

#[test]
fn a_number_that_does_not_follow_is_only_a_warning_and_said_once() {
    let mut world = friends();
    let home = world.home("amy");
    for n in [900, 901] {
        let body = Body::Watermark { seen: Vec::new() };
        world.append_numbered(home, Epoch(1), n, &body);
    }
    let found = report(&world.memory);
    assert!(found.holds, "{:#?}", found.problems);
    assert_eq!((found.voids, found.warnings.total), (2, 1));
    assert_eq!(rules(&found.warnings), BTreeSet::from([Rule::NumbersWithoutGap]));
    assert_eq!(found.promises[0].warnings, 1);
    world.claim(home);
    world.append_numbered(home, Epoch(2), 5, &Body::Watermark { seen: Vec::new() });
    assert_eq!(report(&world.memory).warnings.total, 2, "once of each epoch");
}

#[test]
fn what_was_looked_at_is_counted_and_what_cannot_be_is_said() {
    let world = friends();
    let mut text = Vec::new();
    let options = Options { format: Format::Json, ..Options::default() };
    run(&world.memory, &options, &mut text).expect("memory is readable");
    let told: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let promises = told["promises"].as_array().expect("a list");
    assert_eq!(promises.len(), Promise::ALL.len());
    let count = |promise: usize, what: &str| {
        let checked = promises[promise - 1]["checked"].as_array().expect("a list");
        let one = checked.iter().find(|one| one["what"] == what);
        one.and_then(|one| one["count"].as_u64()).unwrap_or_else(|| panic!("{what}: {checked:?}"))
    };
    let largest = world.memory.entries.iter().map(|entry| entry.bytes.len() as u64).max();
    assert_eq!(count(1, "records without a gap"), world.memory.entries.len() as u64);
    assert_eq!((count(2, "pairs of users"), count(2, "friendships")), (2, 1));
    assert_eq!((count(3, "users"), count(4, "claims")), (5, 3));
    assert_eq!(Some(count(7, "bytes of the largest one")), largest);
    for one in promises {
        assert_eq!((one["kept"].as_bool(), one["first"].is_null()), (Some(true), true));
        assert!(one["unseen"].as_str().is_some_and(|text| !text.is_empty()), "{one}");
    }
}
