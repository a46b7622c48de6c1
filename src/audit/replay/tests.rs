use std::io;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::audit::simulation::{APP, World, id};
use crate::audit::walk;
use crate::domain::{AppId, Event, OfferForm};
use crate::journal::ReaderRule;
use crate::journal::record::decode;

/// Amy blocks her friend bob; carl is somebody else.
fn world() -> World {
    let mut world = World::of(2, &["amy", "bob", "carl"]);
    world.befriend("amy", "bob");
    world.block("amy", &["bob"]);
    world.drain();
    world
}

fn lines(world: &World, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    let summary = run(&world.memory, options, &mut out).expect("memory is readable");
    let lines: Vec<String> =
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect();
    if options.format == Format::Json {
        assert_eq!(summary.shown, lines.len() as u64);
    }
    lines
}

fn json(filter: Filter) -> Options {
    Options { filter, format: Format::Json, ..Options::default() }
}

/// Who, in which version, of each shown line.
fn shown(world: &World, options: &Options) -> Vec<String> {
    let lines = lines(world, options);
    let name = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        match line["user"].as_str() {
            Some(user) => format!("{user}:{}", line["version"]),
            None => line["kind"].as_str().expect("a kind").to_owned(),
        }
    };
    lines.iter().map(name).collect()
}

#[test]
fn a_table_tells_one_event_a_line() {
    insta::assert_snapshot!(lines(&world(), &Options::default()).join("\n"), @r#"
    2026-11-22T10:10:00.007Z  0@1           1400000001/amy        has an account from now on; by administrator from 10.0.0.7
    2026-11-22T10:10:00.014Z  1@1           1400000001/bob        has an account from now on; by administrator from 10.0.0.7
    2026-11-22T10:10:00.021Z  0@2           1400000001/carl       has an account from now on; by administrator from 10.0.0.7
    2026-11-22T10:10:00.028Z  0@3           1400000001/amy        offered bob a friendship, saying "hello"; by administrator from 10.0.0.7
    2026-11-22T10:10:00.031Z  1@2           1400000001/bob        has amy as a friend (edge amy:2); by administrator from 10.0.0.7, because of amy's record 2
    2026-11-22T10:10:00.031Z  1@2           1400000001/bob        accepted amy's offer; by administrator from 10.0.0.7, because of amy's record 2
    2026-11-22T10:10:00.034Z  0@4           1400000001/amy        has bob as a friend (edge amy:2); by administrator from 10.0.0.7, because of bob's record 2
    2026-11-22T10:10:00.034Z  0@4           1400000001/amy        got a yes from bob; by administrator from 10.0.0.7, because of bob's record 2
    2026-11-22T10:10:00.034Z  0@4           1400000001/amy        has every answer to the request of version 2: bob; by administrator from 10.0.0.7, because of bob's record 2
    2026-11-22T10:10:00.041Z  0@5           1400000001/amy        is no longer a friend of bob (blocked); by administrator from 10.0.0.7
    2026-11-22T10:10:00.041Z  0@5           1400000001/amy        blocked bob; by administrator from 10.0.0.7
    2026-11-22T10:10:00.044Z  1@3           1400000001/bob        is no longer a friend of amy (blocked by them); by administrator from 10.0.0.7, because of amy's record 4
    "#);
}

#[test]
fn json_lines_are_the_records_as_stored_with_their_place() {
    let world = world();
    let options = Options { all: true, ..json(Filter::default()) };
    let lines = lines(&world, &options);
    assert_eq!(lines.len(), world.memory.entries.len());
    for (line, entry) in lines.iter().zip(&world.memory.entries) {
        let place = format!("{{\"partition\":{},\"offset\":{},", entry.partition, entry.offset);
        let stored = std::str::from_utf8(&entry.bytes).expect("text");
        assert_eq!(*line, format!("{place}{}", &stored[1..]));
    }
}

#[test]
fn a_record_of_another_writer_comes_on_one_line() {
    let mut world = World::of(1, &[]);
    let commit = world.commit_of("amy", vec![Event::AccountImported {}]);
    world.append(Partition(0), &Body::Commit(commit));
    let entry = world.memory.entries.last_mut().expect("a record");
    let stored: serde_json::Value = serde_json::from_slice(&entry.bytes).expect("JSON");
    entry.bytes = serde_json::to_vec_pretty(&stored).expect("JSON");
    assert_eq!(shown(&world, &json(Filter::default())), ["amy:1"]);
}

#[test]
fn filters_pick_events() {
    let world = world();
    let all = ["amy:1", "bob:1", "carl:1", "amy:2", "bob:2", "amy:3", "amy:4", "bob:3"];
    let none: [&str; 0] = [];
    let show = |filter| shown(&world, &json(filter));
    assert_eq!(show(Filter::default()), all);
    let app = |app| Filter { app: Some(app), ..Filter::default() };
    assert_eq!(show(app(APP)), all);
    assert_eq!(show(app(AppId(1))), none);
    let user = |name| Filter { user: Some(id(name)), ..Filter::default() };
    assert_eq!(show(user("carl")), ["carl:1"]);
    assert_eq!(show(user("bob")), ["bob:1", "amy:2", "bob:2", "amy:3", "amy:4", "bob:3"]);
    let pair = |a, b| Filter { pair: Some((id(a), id(b))), ..Filter::default() };
    assert_eq!(show(pair("bob", "amy")), ["amy:2", "bob:2", "amy:3", "amy:4", "bob:3"]);
    assert_eq!(show(pair("bob", "carl")), none);
    let types = |name: &str| Filter { types: vec![name.into()], ..Filter::default() };
    assert_eq!(show(types("FriendRemoved")), ["amy:4", "bob:3"]);
    let both = Filter { user: Some(id("amy")), ..types("AccountImported") };
    assert_eq!(show(both), ["amy:1"]);
    // Known, and nothing is to be shown of them.
    let both = Filter { user: Some(id("carl")), ..types("FriendRemoved") };
    assert_eq!(show(both), none);
    for unknown in [user("zoe"), Filter { app: Some(AppId(1)), ..user("amy") }] {
        let result = run(&world.memory, &json(unknown), &mut Vec::new());
        assert!(matches!(result, Err(AuditError::UnknownUser { .. })), "{result:?}");
    }
}

#[test]
fn an_event_has_to_meet_the_whole_filter_by_itself() {
    let mut world = World::of(1, &["amy", "bob", "carl"]);
    world.block("amy", &["bob", "carl"]);
    let options = Options {
        filter: Filter { app: Some(APP), pair: Some((id("amy"), id("carl"))), ..Filter::default() },
        ..Options::default()
    };
    let lines = lines(&world, &options);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(" amy ") && lines[0].contains("blocked carl"), "{lines:?}");
}

#[test]
fn time_is_a_half_open_range() {
    let mut world = World::of(1, &["amy"]);
    let first = world.now;
    world.import("bob");
    let options = json(Filter { since: Some(world.now), ..Filter::default() });
    assert_eq!(shown(&world, &options), ["bob:1"]);
    let options = json(Filter { until: Some(world.now), ..Filter::default() });
    assert_eq!(shown(&world, &options), ["amy:1"]);
    let now = Some(first);
    let options = json(Filter { since: now, until: now, ..Filter::default() });
    assert!(shown(&world, &options).is_empty());
}

#[test]
fn a_start_names_the_only_partitions_to_show() {
    let world = world();
    let home = world.home("amy");
    let from = |offset| Options {
        from: vec![(home, Offset(offset))],
        all: true,
        ..json(Filter::default())
    };
    let every = world.memory.entries.iter().filter(|entry| entry.partition == home).count();
    assert_eq!(lines(&world, &from(0)).len(), every);
    assert_eq!(lines(&world, &from(2)).len(), every - 2);
    let options = Options { from: vec![(Partition(7), Offset(0))], ..Options::default() };
    let refused = run(&world.memory, &options, &mut Vec::new());
    assert!(matches!(refused, Err(AuditError::NoSuchPartition { partitions: 2, .. })));
}

#[test]
fn a_limit_counts_records() {
    let options = |limit| Options { limit: Some(limit), ..json(Filter::default()) };
    assert_eq!(shown(&world(), &options(2)), ["amy:1", "bob:1"]);
    assert!(shown(&world(), &options(0)).is_empty());
}

#[test]
fn what_never_counted_is_shown_only_when_asked_for_and_marked() {
    let mut world = World::of(1, &["amy"]);
    let commit = world.commit_of("amy", vec![Event::UserUnblocked { target: id("bob") }]);
    world.append_void(Partition(0), &Body::Commit(commit));
    assert_eq!(lines(&world, &Options::default()).len(), 1);
    let all = lines(&world, &Options { all: true, ..Options::default() });
    assert!(all[0].contains("claimed by n1"), "{all:?}");
    assert!(all[2].contains("VOID unblocked bob"), "{all:?}");
    let all = lines(&world, &Options { all: true, ..json(Filter::default()) });
    assert!(all[2].starts_with("{\"partition\":0,\"offset\":2,\"void\":true,\"v\":1"));
}

#[test]
fn what_cannot_be_read_is_always_shown() {
    let mut world = World::of(1, &["amy"]);
    world.append_bytes(Partition(0), b"{\"v\":1,\"e\":1,\"n\":2,\"kind\":\"odd\"}".to_vec());
    world.append_bytes(Partition(0), b"\x1b[2J".to_vec());
    let filter = || Filter { user: Some(id("bob")), ..Filter::default() };
    for options in [json(filter()), Options { filter: filter(), ..Options::default() }] {
        let mut out = Vec::new();
        let summary = run(&world.memory, &options, &mut out).expect("readable");
        assert_eq!(summary, Summary { shown: 2, unreadable: 2 });
        let out = String::from_utf8(out).expect("text");
        assert!(!out.contains('\u{1b}') && out.to_lowercase().contains("unreadable"), "{out}");
    }
}

#[test]
fn an_unknown_event_type_is_refused() {
    let options = json(Filter { types: vec!["Blocked".into()], ..Filter::default() });
    let refused = run(&world().memory, &options, &mut Vec::new());
    assert!(matches!(refused, Err(AuditError::UnknownType { name }) if name == "Blocked"));
}

/// Takes some writes, then fails.
struct Pipe(usize, io::ErrorKind);

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(self.1)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_ends_the_story_and_a_full_disk_is_an_error() {
    let world = world();
    let closed = run(&world.memory, &Options::default(), &mut Pipe(2, io::ErrorKind::BrokenPipe));
    assert_eq!(closed.expect("quiet").shown, 2);
    let full = run(&world.memory, &Options::default(), &mut Pipe(2, io::ErrorKind::StorageFull));
    assert!(matches!(full, Err(AuditError::Output(_))));
}

#[test]
fn an_offer_of_one_way_reads_differently() {
    let mut world = World::of(1, &["amy", "bob"]);
    world.add("amy", &["bob"], OfferForm::OneWay, true);
    let lines = lines(&world, &Options::default());
    let said = "asked to have bob as a friend, forced, saying \"hello\"";
    assert!(lines[2].contains(said), "{lines:?}");
}

proptest! {
    #[test]
    fn whatever_stands_in_a_journal_is_read_or_refused(
        which: Index,
        at: Index,
        noise in vec(any::<u8>(), 0..12),
        length in 0..12_usize,
    ) {
        let world = world();
        let entries = &world.memory.entries;
        let mut bytes = entries[which.index(entries.len())].bytes.clone();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + length).min(bytes.len()), noise);
        let mut rule = ReaderRule::default();
        match walk::read(&bytes, &mut rule) {
            walk::Reading::Record(record, _) => prop_assert_eq!(decode(&bytes).ok(), Some(record)),
            walk::Reading::Unreadable { .. } => prop_assert!(decode(&bytes).is_err()),
        }
    }
}
