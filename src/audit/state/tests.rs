use serde_json::{Value, json};

use super::*;
use crate::audit::simulation::{APP, World, id, key};
use crate::domain::{
    AllowType, Card, Command, Event, NewFriend, OfferForm, ProfileChange, Version,
};
use crate::journal::{Body, Epoch};

fn options(name: &str, at: Option<Moment>) -> Options {
    Options { app: Some(APP), user: id(name), at, format: Format::Table }
}

fn written(world: &World, options: &Options) -> Result<String, AuditError> {
    let mut out = Vec::new();
    run(&world.memory, options, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

fn table(world: &World, name: &str, at: Option<Moment>) -> String {
    written(world, &options(name, at)).expect("memory is readable")
}

fn object(world: &World, name: &str, at: Option<Moment>) -> Value {
    let options = Options { format: Format::Json, ..options(name, at) };
    let text = written(world, &options).expect("memory is readable");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// The places and times of a user's records, in order.
fn records(world: &World, name: &str) -> Vec<(Moment, Moment, Version)> {
    let commits = world.memory.entries.iter().filter_map(|entry| {
        match crate::journal::record::decode(&entry.bytes).ok()?.body {
            Body::Commit(commit) if commit.key == key(name) => Some((
                Moment::Place(entry.partition, entry.offset),
                Moment::Time(commit.at),
                commit.version,
            )),
            _ => None,
        }
    });
    commits.collect()
}

/// Amy and bob become friends, amy blocks both others, and lets carl off again.
fn world() -> World {
    let mut world = World::of(3, &["amy", "bob", "carl"]);
    world.befriend("amy", "bob");
    world.block("amy", &["carl", "bob"]);
    world.drain();
    world.unblock("amy", &["carl"]);
    world
}

fn peers(list: &Value) -> Vec<&str> {
    let peers = list.as_array().expect("a list").iter();
    peers.map(|entry| entry["peer"].as_str().expect("a name")).collect()
}

#[test]
fn the_state_of_each_step_is_found_by_place_and_by_time() {
    let world = world();
    let steps = records(&world, "amy");
    let expected: [(&[&str], &[&str], &[&str]); 5] = [
        (&[], &[], &[]),
        (&[], &[], &["bob"]),
        (&[], &["bob"], &[]),
        (&["carl", "bob"], &[], &[]),
        (&["bob"], &[], &[]),
    ];
    assert_eq!(steps.len(), expected.len());
    for ((place, time, version), (blocked, friends, offers)) in steps.into_iter().zip(expected) {
        let state = object(&world, "amy", Some(place));
        assert_eq!(state["version"], json!(version));
        assert_eq!(peers(&state["blocklist"]), blocked, "{version}");
        assert_eq!(peers(&state["friends"]), friends, "{version}");
        assert_eq!(peers(&state["offers"]), offers, "{version}");
        assert_eq!(object(&world, "amy", Some(time)), state);
        let Moment::Time(time) = time else { panic!("a time") };
        let before = object(&world, "amy", Some(Moment::Time(Timestamp(time.0 - 1))));
        assert_eq!(before["version"], json!(version.0 - 1));
    }
    assert_eq!(object(&world, "amy", None)["version"], 5);
}

#[test]
fn between_two_records_the_earlier_one_is_in_force() {
    let world = world();
    // Carl's first record lies between amy's first and second.
    let (between, _, _) = records(&world, "carl")[0];
    assert_eq!(object(&world, "amy", Some(between))["version"], 1);
}

#[test]
fn a_state_reads_like_this() {
    let mut world = world();
    world.allow("bob", AllowType::NeedConfirm);
    let card = Card {
        remark: "from work\u{1b}[2J".into(),
        groups: vec!["team".into()],
        source: "AddSource_Type_Web".into(),
        wording: "hi".into(),
        ..Card::default()
    };
    let item = NewFriend { user: id("bob"), imported: true, card };
    let (form, forced) = (OfferForm::TwoWay, false);
    world.perform("carl", &Command::AddFriends { items: vec![item], form, forced });
    let open = table(&world, "carl", None);
    assert!(open.contains("two-way, has no answer yet, edge carl:2, remark"), "{open}");
    world.drain();
    insta::assert_snapshot!(table(&world, "carl", None), @r#"
    1400000001/carl  #3  2026-11-22T10:10:00.074Z  1@9
    account       exists
    nick          -
    face          -
    new friends   as the app says
    own requests  may be sent
    blocklist     0
    friends       0
    offers        1
      bob                   two-way, waits for them to confirm, edge carl:2, remark "from work\u{1b}[2J", source "AddSource_Type_Web", saying "hi", group "team"
    requests      0
    "#);
    insta::assert_snapshot!(table(&world, "bob", None), @r#"
    1400000001/bob  #5  2026-11-22T10:10:00.071Z  2@5
    account       exists
    nick          -
    face          -
    new friends   they confirm new friends
    own requests  may be sent
    blocklist     0
    friends       0
    offers        0
    requests      1
      carl                  since 2026-11-22T10:10:00.000Z, edge carl:2, source "AddSource_Type_Web", saying "hi"
    "#);
    insta::assert_snapshot!(table(&world, "amy", Some(records(&world, "amy")[2].0)), @r#"
    1400000001/amy  #3  2026-11-22T10:10:00.034Z  1@4
    account       exists
    nick          -
    face          -
    new friends   as the app says
    own requests  may be sent
    blocklist     0
    friends       1
      bob                   since 2026-11-22T10:10:00.000Z, edge amy:2, saying "hello"
    offers        0
    requests      0
    "#);
    insta::assert_snapshot!(table(&world, "amy", None), @r#"
    1400000001/amy  #5  2026-11-22T10:10:00.054Z  1@7
    account       exists
    nick          -
    face          -
    new friends   as the app says
    own requests  may be sent
    blocklist     1
      bob                   since 2026-11-22T10:10:00.000Z
    friends       0
    offers        0
    requests      0
    "#);
    insta::assert_snapshot!(table(&world, "amy", Some(Moment::Time(Timestamp(0)))), @r#"
    1400000001/amy  nothing is recorded yet
    account       does not exist
    nick          -
    face          -
    new friends   as the app says
    own requests  may be sent
    blocklist     0
    friends       0
    offers        0
    requests      0
    "#);
}

#[test]
fn the_json_object_has_these_fields() {
    let mut world = world();
    let change = ProfileChange {
        nick: Some("Bob".into()),
        allow_type: Some(AllowType::NeedConfirm),
        requests_forbidden: Some(true),
        ..ProfileChange::default()
    };
    world.perform("bob", &Command::ImportAccount(change));
    world.add("carl", &["bob"], OfferForm::TwoWay, false);
    world.drain();
    let Moment::Place(_, offset) = records(&world, "bob")[4].0 else { panic!("a place") };
    assert_eq!(
        object(&world, "bob", None),
        json!({
            "app": APP, "user": "bob", "partition": world.home("bob"), "offset": offset,
            "at": "2026-11-22T10:10:00.071Z", "version": 5, "exists": true,
            "profile": {
                "nick": "Bob", "face_url": "", "allow_type": "need_confirm",
                "requests_forbidden": true, "gender": "unknown", "birthday": 0, "location": "",
                "self_signature": "", "language": 0, "msg_settings": 0, "level": 0, "role": 0,
                "custom": [],
            },
            "blocklist": [], "friends": [], "offers": [], "groups": [], "calls": [],
            "requests": [{
                "peer": "carl", "edge": "carl:2", "since": "2026-11-22T10:10:00.000Z",
                "card": { "wording": "hello" },
            }],
        })
    );
    let offer = json!([{
        "peer": "bob", "edge": "carl:2", "form": "two_way", "forced": false, "state": "pending",
        "card": { "wording": "hello" },
    }]);
    assert_eq!(object(&world, "carl", None)["offers"], offer);
    let blocked = json!([{ "peer": "bob", "since": "2026-11-22T10:10:00.000Z" }]);
    assert_eq!(object(&world, "amy", None)["blocklist"], blocked);
    let friend = json!([{
        "peer": "bob", "edge": "amy:2", "since": "2026-11-22T10:10:00.000Z",
        "card": { "wording": "hello" },
    }]);
    let befriended = Some(records(&world, "amy")[2].0);
    assert_eq!(object(&world, "amy", befriended)["friends"], friend);
}

#[test]
fn who_is_not_there_yet_or_any_more_has_no_account() {
    let mut world = world();
    let state = object(&world, "carl", Some(Moment::Time(Timestamp(0))));
    assert_eq!((&state["exists"], &state["version"]), (&json!(false), &json!(0)));
    assert_eq!((&state["offset"], &state["at"]), (&Value::Null, &Value::Null));
    let claim = Moment::Place(world.home("carl"), Offset(0));
    assert_eq!(object(&world, "carl", Some(claim)), state);
    world.delete("carl");
    world.drain();
    let state = object(&world, "carl", None);
    assert_eq!((&state["exists"], &state["version"]), (&json!(false), &json!(2)));
}

#[test]
fn who_is_nowhere_is_unknown() {
    let mut world = world();
    let error = written(&world, &options("dora", None)).expect_err("nobody knows dora");
    assert_eq!(error.to_string(), "there is no record of dora in app 1400000001");
    world.append_bytes(world.home("dora"), b"nonsense".to_vec());
    let options = Options { app: None, ..options("dora", None) };
    let error = written(&world, &options).expect_err("nobody knows dora");
    assert_eq!(error.to_string(), "there is no record of dora; 1 records cannot be read");
}

#[test]
fn the_app_has_to_be_named_where_there_are_several() {
    let mut world = world();
    let unnamed = Options { app: None, ..options("amy", None) };
    assert_eq!(written(&world, &unnamed).expect("one app"), table(&world, "amy", None));
    let elsewhere = UserKey { app: AppId(7), user: id("amy") };
    let events = vec![Event::AccountImported {}];
    let commit = Commit { key: elsewhere, version: Version(1), ..world.commit_of("amy", events) };
    world.append(partition_of(&elsewhere, 3), &Body::Commit(commit));
    let error = written(&world, &unnamed).expect_err("two apps");
    assert!(error.to_string().ends_with("one has to be named: 7, 1400000001"), "{error}");
    let named = Options { app: Some(AppId(7)), ..unnamed };
    assert!(written(&world, &named).expect("one of them").starts_with("7/amy  #1  "));
    assert!(table(&world, "amy", None).starts_with("1400000001/amy  #5  "));
}

#[test]
fn a_place_has_to_be_one_of_the_users_partition() {
    let world = world();
    let (home, other) = (world.home("amy"), world.home("bob"));
    assert_ne!(home, other);
    let refused = |place| written(&world, &options("amy", Some(place))).expect_err("refused");
    let error = refused(Moment::Place(other, Offset(0))).to_string();
    let said = format!("the records of 1400000001/amy are in partition {home}, not in {other}");
    assert_eq!(error, said);
    let end = Offset(world.last(home).1.0 + 1);
    let error = refused(Moment::Place(home, end));
    assert!(matches!(error, AuditError::NoSuchOffset { .. }), "{error}");
}

#[test]
fn a_clock_that_went_backwards_leaves_no_hole() {
    let mut world = world();
    let late = world.now;
    world.now = Timestamp(late.0 - 60_000);
    world.block("amy", &["carl"]);
    let early = world.now;
    let expected = object(&world, "amy", None);
    assert_eq!(expected["version"], 6);
    for time in [early, Timestamp(late.0 - 1), late] {
        assert_eq!(object(&world, "amy", Some(Moment::Time(time))), expected);
    }
}

#[test]
fn what_never_counted_is_no_state_and_what_cannot_be_read_is_counted() {
    let mut world = world();
    let home = world.home("amy");
    let now = object(&world, "amy", None);
    let commit = world.commit_of("amy", vec![Event::AccountDeleted {}]);
    world.append_void(home, &Body::Commit(commit));
    assert_eq!(object(&world, "amy", None), now);
    let before = Moment::Place(home, world.last(home).1);
    let void = odd(Epoch(0), 1);
    world.append_bytes(home, void);
    world.append_bytes(home, b"nonsense".to_vec());
    world.append_bytes(world.home("bob"), b"nonsense".to_vec());
    let unreadable = |at| {
        let summary = run(&world.memory, &options("amy", at), &mut Vec::new());
        summary.expect("readable").unreadable
    };
    assert_eq!((unreadable(None), unreadable(Some(before))), (1, 0));
}

/// A record of a kind that nobody knows.
fn odd(epoch: Epoch, n: u64) -> Vec<u8> {
    format!("{{\"v\":1,\"e\":{epoch},\"n\":{n},\"kind\":\"odd\"}}").into_bytes()
}
