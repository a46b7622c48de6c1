//! `cordon webhooks`: what was delivered is held against the journal, and can be fetched from it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cordon::app::journal_dir;
use cordon::journal::{Journal, Offset, Partition, ReadJournal, Settlement, embedded};
use serde_json::{Value, json};

use crate::support::{
    ADMIN, APP, Caller, Heard, KEY, Reaction, Setup, TestNode, TestProcess, TestSubscriber, audit,
    eventually,
};

fn json_of(setup: &Setup, arguments: &[&str]) -> Value {
    let (code, text) = audit(setup, arguments);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).expect("it is JSON")
}

/// What became of the calls of the only subscription.
fn counts(setup: &Setup) -> Value {
    let report = json_of(setup, &["webhooks", "audit", "--json"]);
    assert_eq!(report["balanced"], true, "{report}");
    let subscriptions = report["subscriptions"].as_array().expect("a list");
    assert_eq!(subscriptions.len(), 1, "{report}");
    assert_eq!(subscriptions[0]["name"], "main");
    subscriptions[0]["counts"].clone()
}

fn number(counts: &Value, name: &str) -> u64 {
    counts[name].as_u64().unwrap_or_else(|| panic!("{name} in {counts}"))
}

fn lines(setup: &Setup, arguments: &[&str]) -> Vec<Value> {
    let (code, text) = audit(setup, arguments);
    assert_eq!(code, 0, "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

fn ids(heard: &[Heard]) -> BTreeSet<String> {
    heard.iter().map(|heard| heard.id().to_owned()).collect()
}

const EVERYBODY: [&str; 6] = ["amy", "bob", "carl", "dora", "eve", "zoe"];

#[test]
fn after_a_kill_the_audit_tells_what_was_delivered_what_is_parked_and_what_waits() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let process = TestProcess::start(&setup);
    let mut caller = process.caller();
    caller.import(&EVERYBODY);
    // Amy's calls fail; all others come through.
    subscriber.react_by(|heard| match heard.pairs()[0].0.as_str() {
        "amy" => Reaction::Status(500),
        _ => Reaction::Accept,
    });
    caller.block("amy", &["zoe"]);
    for user in ["bob", "carl", "dora", "eve"] {
        caller.block(user, &["zoe"]);
    }
    subscriber.until_accepted(4);
    eventually("amy is parked in a durable cursor", || {
        let list = lines(&setup, &["webhooks", "list", "--json"]);
        let partitions = list[0]["subscriptions"][0]["partitions"].as_array().cloned();
        let users = partitions
            .into_iter()
            .flatten()
            .flat_map(|one| one["users"].clone().as_array().cloned());
        users.flatten().any(|parked| parked["user"] == "amy")
    });
    process.kill();
    let now = counts(&setup);
    assert_eq!(number(&now, "calls"), 5);
    assert_eq!(number(&now, "dead"), 0);
    let open = number(&now, "parked") + number(&now, "waiting");
    assert_eq!(number(&now, "delivered") + open, 5);
    assert!(number(&now, "parked") == 1, "{now}");
    let parked = lines(&setup, &["webhooks", "log", "--state", "parked", "--json"]);
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (&parked[0]["user"], parked[0]["attempts"].as_u64() > Some(0)),
        (&json!("amy"), true)
    );
    // Everything is delivered after a restart, and the audit says so.
    subscriber.react(Reaction::Accept);
    let node = setup.clone().start();
    node.settle();
    drop(node.stop());
    let now = counts(&setup);
    assert_eq!(
        (number(&now, "delivered"), number(&now, "parked") + number(&now, "waiting")),
        (5, 0)
    );
    let told = lines(&setup, &["webhooks", "log", "--json"]);
    let told: BTreeSet<String> =
        told.iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(told, ids(&subscriber.heard()));
    let (code, table) = audit(&setup, &["webhooks", "audit"]);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("all balance"), "{table}");
}

#[test]
fn whoever_has_everything_has_no_lag_whomever_it_is_asked_of() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    subscriber.react(Reaction::Status(500));
    caller.block("amy", &["zoe"]);
    subscriber.until("a failure", |heard| !heard.is_empty());
    let lag = |caller: &mut Caller| {
        let status = caller.call("webhook/status_get", &json!({"Name": "main"})).ok();
        status.body["StatusItem"][0]["LagRecords"].as_u64().expect("a number")
    };
    assert!(lag(&mut caller) > 0);
    subscriber.react(Reaction::Accept);
    subscriber.until_accepted(1);
    eventually("nothing is left to do", || lag(&mut caller) == 0);
    eventually("the metric says the same", || node.lags().values().all(|lag| *lag == 0.0));
    let (code, list) = audit(&setup, &["webhooks", "list"]);
    assert!(
        code == 0 && list.starts_with("app         subscription              owed  "),
        "{list}"
    );
}

#[test]
fn what_is_given_up_has_a_letter_and_can_be_listed() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_CALL_ONCE", "true");
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    subscriber.react_by(|heard| match heard.pairs()[0].0.as_str() {
        "amy" => Reaction::Status(500),
        _ => Reaction::Accept,
    });
    caller.block("amy", &["zoe"]);
    caller.block("bob", &["zoe"]);
    node.settle();
    let listed = caller.call("webhook/dead_letters_get", &json!({}));
    let status = caller.call("webhook/status_get", &json!({"Name": "main"}));
    let logged = |caller: &mut Caller, body: &Value| {
        let answer = caller.call("webhook/deliveries_get", body).ok();
        let items = answer.body["DeliveryItem"].as_array().expect("a list").clone();
        items.iter().map(|item| (item["From_Account"].clone(), item["State"].clone())).collect()
    };
    let all = [(json!("amy"), json!("dead")), (json!("bob"), json!("delivered"))];
    eventually("the log tells what became of both", || {
        let mut log: Vec<(Value, Value)> = logged(&mut caller, &json!({}));
        log.sort_by_key(|(user, _)| user.to_string());
        log == all
    });
    assert_eq!(logged(&mut caller, &json!({"State": "dead"})), all[..1]);
    assert_eq!(logged(&mut caller, &json!({"From_Account": "bob"})), all[1..]);
    let heard = subscriber.heard();
    let of_amy = heard.iter().find(|heard| heard.pairs()[0].0 == "amy").expect("it was tried");
    assert_eq!(logged(&mut caller, &json!({"Id": of_amy.id()})), all[..1]);
    assert_eq!(logged(&mut caller, &json!({"Id": "0@0.Sns.CallbackFriendAdd"})), []);
    drop(caller);
    drop(node.stop());
    let now = counts(&setup);
    assert_eq!((number(&now, "delivered"), number(&now, "dead")), (1, 1));
    let letters = lines(&setup, &["webhooks", "dead-letters", "--json"]);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["user"], "amy");
    let id = letters[0]["id"].as_str().expect("an id");
    let dead = lines(&setup, &["webhooks", "log", "--id", id, "--body", "--json"]);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["state"], "dead");
    let heard = subscriber.heard();
    let heard = heard.iter().find(|heard| heard.id() == id).expect("it was tried");
    assert_eq!(dead[0]["body"], heard.message.text());
    // The calls of the API tell the same, as far as cursors were durable by then.
    let items = listed.body["DeadLetterItem"].as_array().expect("a list");
    assert!(items.iter().all(|item| item["Id"] == id), "{items:?}");
    assert_eq!(status.body["StatusItem"][0]["Name"], "main");
}

/// Writes the journal of `from` once more below `to`, with each record as `change` leaves it.
fn write_again(from: &Path, to: &Path, change: impl Fn(String) -> String) {
    let old = embedded::ReadOnly::open(&journal_dir(from)).expect("a journal");
    let partitions: Vec<Partition> = (0..old.partitions()).map(Partition).collect();
    let settings = embedded::Settings {
        partitions: old.partitions(),
        ..embedded::Settings::new(journal_dir(to))
    };
    let new = embedded::Journal::open(settings).expect("a new journal");
    let (settled, mut settlements) = tokio::sync::mpsc::unbounded_channel();
    partitions.iter().for_each(|partition| new.attach(*partition, settled.clone()));
    let from: Vec<_> = partitions.iter().map(|partition| (*partition, Offset(0))).collect();
    let mut reader = old.reader(&from).expect("a reader");
    let mut open = 0;
    loop {
        let entries = reader.next(1 << 20).expect("it is readable");
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            let text = change(String::from_utf8(entry.bytes).expect("a record is text"));
            new.append(entry.partition, text.as_bytes()).expect("there is room");
            open += 1;
        }
    }
    new.flush();
    while open > 0 {
        match settlements.blocking_recv().expect("the journal settles") {
            Settlement::Durable { count, .. } => open -= count,
            Settlement::Lost => panic!("the journal lost something"),
        }
    }
}

#[test]
fn a_journal_that_says_otherwise_than_what_was_told_is_found_out() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    caller.block("amy", &["bob", "carl"]);
    let place =
        caller.block("dora", &["eve"]).header("cordon-position").expect("a place").to_owned();
    node.settle();
    drop(caller);
    drop(node.stop());
    assert_eq!(number(&counts(&setup), "delivered"), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().to_str().expect("a path");
    let (old, new) = (r#""target":"eve""#, r#""target":"zoe""#);
    write_again(setup.data_dir(), folder.path(), |record| record.replace(old, new));
    let (code, text) = audit(&setup, &["webhooks", "audit", "--json", "--data-dir", data_dir]);
    assert_eq!(code, 1, "{text}");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    let finding = &report["findings"]["first"][0];
    let partition = place.split_once('@').expect("a place").0;
    assert_eq!(finding["rule"], "count", "{report}");
    assert_eq!(finding["partition"].to_string(), partition);
    assert_eq!(finding["subscription"], format!("webhook/{APP}"));
}

#[test]
fn what_cannot_be_read_is_not_passed_over_in_silence() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    caller.block("dora", &["eve"]);
    node.settle();
    drop(caller);
    drop(node.stop());
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().to_str().expect("a path");
    write_again(setup.data_dir(), folder.path(), |record| {
        let of_a_later_version = record.contains(r#""target":"eve""#);
        if of_a_later_version { record.replace(r#"{"v":1,"#, r#"{"v":99,"#) } else { record }
    });
    let app = APP.to_string();
    for command in
        [&["log"][..], &["dead-letters"], &["list"], &["replay", "--dry-run", "--app", &app]]
    {
        let command = [&["webhooks"][..], command].concat();
        assert_eq!(audit(&setup, &command).0, 0, "{command:?}");
        let command = [&command[..], &["--data-dir", data_dir]].concat();
        let (code, text) = audit(&setup, &command);
        assert_eq!(code, 1, "{command:?}: {text}");
    }
}

/// All pages of `events_get` from `body` on.
fn fetch(caller: &mut Caller, body: &Value) -> (Vec<Value>, String) {
    let (mut events, mut body) = (Vec::new(), body.clone());
    loop {
        let answer = caller.call("webhook/events_get", &body).ok();
        let page = answer.body["Events"].as_array().expect("a list").clone();
        assert!(page.len() <= body["MaxLimited"].as_u64().unwrap_or(100) as usize);
        events.extend(page);
        let cursor = answer.body["Cursor"].as_str().expect("a cursor").to_owned();
        if answer.body["Complete"] == 1 {
            return (events, cursor);
        }
        body["Cursor"] = json!(cursor);
    }
}

#[test]
fn whoever_fetches_gets_the_same_ids_and_bytes_as_whoever_is_told() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    caller.befriend("amy", &["bob"]);
    // One record, two calls.
    caller.block("amy", &["bob", "carl"]);
    for user in ["bob", "carl", "dora"] {
        caller.block(user, &["zoe"]);
        caller.unblock(user, &["zoe"]);
    }
    node.settle();
    let told: Vec<(String, String)> = {
        let heard = subscriber.accepted();
        let mut told: Vec<_> =
            heard.iter().map(|h| (h.id().to_owned(), h.message.text().to_owned())).collect();
        told.sort();
        told
    };
    assert_eq!(told.len(), 9);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let sorted = |events: &[Value]| {
        let mut all: Vec<_> =
            events.iter().map(|event| (text(&event["Id"]), text(&event["Body"]))).collect();
        all.sort();
        all
    };
    for max in [1, 2, 100] {
        let (events, _) = fetch(&mut caller, &json!({"MaxLimited": max, "Name": "main"}));
        assert_eq!(sorted(&events), told, "pages of {max}");
    }
    let only = json!({"Commands": ["Sns.CallbackFriendAdd"]});
    assert_eq!(fetch(&mut caller, &only).0.len(), 1);
    // A cursor outlives the node, and goes on with what is new.
    let (nothing, end) = fetch(&mut caller, &json!({"From": "End"}));
    assert_eq!(nothing, Vec::<Value>::new());
    let (_, behind) = fetch(&mut caller, &json!({}));
    drop(caller);
    let node: TestNode = node.restart();
    let mut caller = node.caller();
    caller.block("eve", &["zoe"]);
    for cursor in [end, behind] {
        let (new, _) = fetch(&mut caller, &json!({"Cursor": cursor}));
        assert_eq!(new.len(), 1);
        assert_eq!(new[0]["From_Account"], "eve");
    }
    let wrong = caller.call("webhook/events_get", &json!({"Cursor": "x"}));
    assert_eq!(wrong.code(), 97009);
    let unknown = caller.call("webhook/events_get", &json!({"Name": "nobody"}));
    assert_eq!(unknown.code(), 97011);
    node.settle();
}

#[test]
fn a_replay_is_counted_from_the_journal_and_started_at_a_node() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    caller.block("amy", &["zoe"]);
    caller.block("bob", &["zoe"]);
    node.settle();
    subscriber.take();
    let app = APP.to_string();
    let count = ["webhooks", "replay", "--dry-run", "--app", &app, "--user", "amy", "--json"];
    assert_eq!(json_of(&setup, &count)["calls"], 1);
    // The command line signs by the clock of the machine.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    node.set_clock(u32::try_from(now.as_secs()).expect("a time of this century"));
    let url = format!("http://{}", node.address);
    let node_args = ["--url", &url, "--app", &app, "--key", KEY, "--admin", ADMIN];
    let replay = [&["webhooks", "replay", "--user", "amy"][..], &node_args].concat();
    let (code, text) = audit(&setup, &replay);
    assert_eq!((code, text.as_str()), (0, "replay 1 has begun\n"));
    subscriber.until("the replay tells it again", |heard| heard.iter().any(|heard| heard.accepted));
    assert!(subscriber.heard().iter().all(|heard| heard.pairs()[0].0 == "amy"));
    let seek = [&["webhooks", "seek", "--end"][..], &node_args].concat();
    assert_eq!(audit(&setup, &seek).0, 0);
    let wrong =
        [&["webhooks", "seek", "--end", "--subscription", "nobody"][..], &node_args].concat();
    assert_eq!(audit(&setup, &wrong).0, 1);
    node.settle();
    drop(caller);
    drop(node.stop());
    assert_eq!(audit(&setup, &["webhooks", "audit"]).0, 0);
    // What a replay was to tell, and nobody knows, is not held against anything.
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().to_str().expect("a path");
    write_again(setup.data_dir(), folder.path(), |record| {
        let begun = record.contains("ReplayBegun");
        if begun { record.replace(r#""number":1,"#, r#""number":2,"#) } else { record }
    });
    let (code, text) =
        audit(&setup, &["webhooks", "audit", "--subscription", "main", "--data-dir", data_dir]);
    assert!(text.contains("note main/replay/1 of app"), "{text}");
    assert_eq!(code, 1, "{text}");
}
