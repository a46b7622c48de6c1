//! Stored records: the golden ones of every version must be read for ever, and what is written is
//! what `schemas/` says.

mod any_event;
mod any_record;
mod readers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cordon::domain::Event;
use cordon::journal::{Body, Kind, Record, record};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value;

use self::any_event::event;
use self::any_record::any_record;
use crate::support::record_schema;

/// Names every event, both as text and in a match that does not compile with one missing.
macro_rules! event_names {
    ($($name:ident),* $(,)?) => {
        const EVENT_NAMES: &[&str] = &[$(stringify!($name)),*];
        fn event_name(event: &Event) -> &'static str {
            match event { $(Event::$name { .. } => stringify!($name),)* }
        }
    };
}

event_names!(
    AccountImported,
    ProfileChanged,
    AccountDeleted,
    UserBlocked,
    UserUnblocked,
    FriendOffered,
    FriendRequested,
    FriendAccepted,
    FriendRefused,
    FriendAdded,
    FriendLinked,
    FriendUpdated,
    FriendRemoved,
    UnfriendAsked,
    OfferPending,
    OfferConfirmed,
    OfferEnded,
    OfferWithdrawn,
    OffersSettled,
    RequestDropped,
    PeerForgotten,
    FriendChanged,
    GroupsAdded,
    FriendsGrouped,
    GroupsRemoved,
    MessageAccepted,
    VerdictGiven,
    CallBegun,
    CallDone,
    CallAnswered,
    CallsForgotten,
    SubscriptionSet,
    SubscriptionDeleted,
    SubscriptionMoved,
    ReplayBegun,
    ReplayEnded,
);

/// Every kind that is no commit, by the same trick.
const CONTROL_KINDS: [Kind; 6] = [
    Kind::Claim,
    Kind::Watermark,
    Kind::Acknowledged,
    Kind::Cursor,
    Kind::Release,
    Kind::Checkpoint,
];

fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Commit => None,
        Kind::Claim => Some("claim"),
        Kind::Watermark => Some("watermark"),
        Kind::Acknowledged => Some("acknowledged"),
        Kind::Cursor => Some("cursor"),
        Kind::Release => Some("release"),
        Kind::Checkpoint => Some("checkpoint"),
    }
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the JSON files in a folder, without the ending.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root(folder)).expect("the folder is there");
    let names = entries.map(|entry| {
        let path = entry.expect("a readable folder").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    });
    names.collect()
}

fn encoded(record: &Record) -> Value {
    let mut bytes = Vec::new();
    record::encode(record.epoch, record.n, &record.body, &mut bytes);
    serde_json::from_slice(&bytes).expect("JSON was written")
}

#[test]
fn every_event_and_kind_has_a_golden_record_and_a_schema() {
    let events: BTreeSet<_> = EVENT_NAMES.iter().map(ToString::to_string).collect();
    assert_eq!(names("schemas/events"), events);
    let kinds = CONTROL_KINDS.into_iter().filter_map(kind_name).map(ToString::to_string);
    assert_eq!(names("tests/fixtures/records"), events.into_iter().chain(kinds).collect());
}

#[test]
fn golden_records_are_read_and_written_as_they_stand() {
    let schema = record_schema();
    for name in names("tests/fixtures/records") {
        let golden = read_json(&root("tests/fixtures/records").join(format!("{name}.json")));
        if let Err(error) = schema.validate(&golden) {
            panic!("{name}: {error} at {}", error.instance_path());
        }
        let bytes = serde_json::to_vec(&golden).expect("JSON can be written");
        let record = record::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(encoded(&record), golden, "{name}");
        match &record.body {
            Body::Commit(commit) => {
                let mut events = commit.events.iter().map(event_name);
                assert!(events.any(|event| event == name), "{name} shows its event");
            }
            body => assert_eq!(kind_name(body.kind()), Some(name.as_str())),
        }
    }
}

#[test]
fn the_schema_refuses_what_is_incomplete_or_unknown() {
    let schema = record_schema();
    for name in names("tests/fixtures/records") {
        let golden = read_json(&root("tests/fixtures/records").join(format!("{name}.json")));
        let members: Vec<_> = golden.as_object().expect("an object").keys().cloned().collect();
        for member in members.iter().filter(|member| *member != "cause") {
            let mut incomplete = golden.clone();
            incomplete.as_object_mut().expect("an object").remove(member);
            assert!(!schema.is_valid(&incomplete), "{name} without {member}");
            // A record without its number is read, as number 0, and counts for no reader.
            let is_read = record::decode(incomplete.to_string().as_bytes()).is_ok();
            assert_eq!(is_read, member == "n", "{name} without {member}");
        }
        let mut unknown = golden.clone();
        unknown["later"] = Value::Bool(true);
        assert!(!schema.is_valid(&unknown), "{name}");
        if let Some(events) = golden.get("events") {
            for index in 0..events.as_array().expect("events").len() {
                let mut unknown = golden.clone();
                unknown["events"][index]["later"] = Value::Bool(true);
                assert!(!schema.is_valid(&unknown), "{name}");
            }
        }
    }
}

#[test]
fn what_is_written_is_what_the_schema_says() {
    let schema = record_schema();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let checked = runner.run(&any_record(), |record| {
        let json = encoded(&record);
        match schema.validate(&json) {
            Ok(()) => Ok(()),
            Err(error) => Err(TestCaseError::fail(format!("{error} in {json}"))),
        }
    });
    checked.expect("every record satisfies the schema");
}

#[test]
fn the_generated_events_are_of_every_kind() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let event = event().new_tree(&mut runner).expect("an event").current();
        seen.insert(event_name(&event));
    }
    assert_eq!(seen, EVENT_NAMES.iter().copied().collect());
}
