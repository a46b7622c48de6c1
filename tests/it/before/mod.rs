//! Who is asked before something is done, and what their answer does. Rule: webhooks.md 1 to 4, 8.3,
//! 8.4, 10, 13 and 14.

mod failures;
mod friends;
mod messages;
mod repeats;

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Heard, Setup, Stopped, TestNode, TestSubscriber, audit};

const EVERYBODY: [&str; 6] = ["amy", "bob", "carl", "dora", "eve", "fay"];

const ALL: &str =
    "Sns.CallbackPrevFriendAdd,Sns.CallbackPrevFriendResponse,C2C.CallbackBeforeSendMsg";

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    (node, caller)
}

/// A subscriber who is asked and hears of nothing afterwards.
fn asks(subscriber: &TestSubscriber) -> Setup {
    let setup = Setup::new().webhook(subscriber).set("WEBHOOK_COMMANDS", ALL);
    // An answer on a busy machine is an answer.
    setup.set("WEBHOOK_BEFORE_TIMEOUT_MS", "5000")
}

/// The same who hears of friends and messages afterwards, too.
fn asks_and_tells(subscriber: &TestSubscriber) -> Setup {
    let after = "Sns.CallbackFriendAdd,C2C.CallbackAfterSendMsg";
    asks(subscriber).set("WEBHOOK_COMMANDS", &format!("{ALL},{after}"))
}

fn wish(from: &str, to: &[&str]) -> Value {
    let item = |name: &&str| {
        json!({"To_Account": name, "AddSource": "AddSource_Type_test", "Remark": "r",
            "GroupName": "g", "AddWording": "hello"})
    };
    let items: Vec<Value> = to.iter().map(item).collect();
    json!({"From_Account": from, "AddFriendItem": items})
}

fn add(caller: &mut Caller, from: &str, to: &[&str]) -> Answer {
    caller.call_as_client("sns/friend_add", "", &wish(from, to)).ok()
}

fn respond(caller: &mut Caller, from: &str, to: &[&str]) -> Answer {
    let item = |name: &&str| {
        json!({"To_Account": name, "Remark": "r", "TagName": "g",
            "ResponseAction": "Response_Action_AgreeAndAdd"})
    };
    let items: Vec<Value> = to.iter().map(item).collect();
    let body = json!({"From_Account": from, "ResponseFriendItem": items});
    caller.call("sns/friend_response", &body).ok()
}

fn text(words: &str) -> Value {
    json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": words}}])
}

/// A message of amy's to bob.
fn message(seq: usize) -> Value {
    json!({"From_Account": "amy", "To_Account": "bob", "MsgSeq": seq, "MsgRandom": 8,
        "MsgBody": text("hi"), "CloudCustomData": "x"})
}

fn send(caller: &mut Caller, seq: usize) -> Answer {
    caller.call("openim/sendmsg", &message(seq))
}

fn commands(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(Heard::command).collect()
}

fn infos(answer: &Answer) -> Vec<&str> {
    answer.items().iter().map(|item| item["ResultInfo"].as_str().expect("a text")).collect()
}

/// The records that hold an event of this type.
fn records(stopped: &Stopped, event: &str) -> Vec<Value> {
    let (code, text) = audit(&stopped.setup, &["replay", "--json", "--type", event]);
    assert_eq!(code, 0, "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The events of a record, by their types.
fn types(record: &Value) -> Vec<&str> {
    let events = record["events"].as_array().expect("events");
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// Every verdict in the journal.
fn verdicts(stopped: &Stopped) -> Vec<Value> {
    let of = |record: &Value| {
        let events = record["events"].as_array().expect("events").clone();
        events.into_iter().filter(|event| event["type"] == "VerdictGiven").collect::<Vec<_>>()
    };
    records(stopped, "VerdictGiven").iter().flat_map(of).collect()
}

#[test]
fn nobody_is_asked_who_does_not_want_to_be() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    assert_eq!(add(&mut caller, "amy", &["bob"]).codes(), [0]);
    send(&mut caller, 1).ok();
    node.settle();
    let heard = subscriber.take();
    assert_eq!(commands(&heard), ["Sns.CallbackFriendAdd", "C2C.CallbackAfterSendMsg"]);
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 0);
}
