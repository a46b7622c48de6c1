//! One-to-one messages through the door. Rule: rest-api.md 8, extensions.md 4.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Setup, TestNode, TestSubscriber, audit, names};

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl"]);
    (node, caller)
}

fn text(words: &str) -> Value {
    json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": words}}])
}

/// A message of amy's to bob with `fields` instead of the usual ones.
fn message(fields: Value) -> Value {
    let mut body = json!({"From_Account": "amy", "To_Account": "bob", "MsgSeq": 7, "MsgRandom": 8,
        "MsgBody": text("hi")});
    let all = body.as_object_mut().expect("an object");
    for (name, value) in fields.as_object().expect("an object") {
        all.insert(name.clone(), value.clone());
    }
    body
}

fn send(caller: &mut Caller, fields: Value) -> Answer {
    caller.call("openim/sendmsg", &message(fields))
}

fn send_many(caller: &mut Caller, to: Value, fields: Value) -> Answer {
    let mut body = message(fields);
    body["To_Account"] = to;
    caller.call("openim/batchsendmsg", &body)
}

fn events(setup: &Setup) -> Vec<Value> {
    let (code, text) = audit(setup, &["replay", "--json", "--type", "MessageAccepted"]);
    assert_eq!(code, 0, "{text}");
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["events"][0].clone();
    text.lines().map(line).collect()
}

#[test]
fn a_message_is_in_the_journal_as_it_was_sent_and_told_to_subscribers() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let fields = json!({"CloudCustomData": "x", "MsgLifeTime": 9_999_999, "SyncOtherMachine": 2,
        "OnlineOnlyFlag": 1, "SendMsgControl": ["NoUnread"], "OfflinePushInfo": {"PushFlag": 0},
        "IsNeedReadReceipt": 1, "SupportMessageExtension": 1, "MsgTimeStamp": 5});
    let sent = send(&mut caller, fields).ok();
    assert_eq!(sent.body["MsgKey"], "7_8_1700000100");
    assert!(sent.header("cordon-position").is_some());
    node.settle();
    let heard = subscriber.take();
    let commands: Vec<&str> = heard.iter().map(|heard| heard.command()).collect();
    assert_eq!(commands, ["C2C.CallbackAfterSendMsg"]);
    let told = &heard[0].body;
    assert_eq!((&told["MsgBody"], &told["OnlineOnlyFlag"]), (&text("hi"), &json!(1)));
    let silent = json!({"MsgSeq": 9, "ForbidCallbackControl": ["ForbidAfterSendMsgCallback"]});
    send(&mut caller, silent).ok();
    node.settle();
    assert_eq!(subscriber.take().len(), 0);
    let stopped = node.stop();
    let expected = json!({"type": "MessageAccepted", "to": ["bob"], "seq": 7, "random": 8,
        "time": 1_700_000_100, "body": text("hi").to_string(), "custom_data": "x",
        "push": "{\"PushFlag\":0}", "life_time": 604_800, "online_only": true,
        "not_for_sender": true, "control": ["NoUnread"], "read_receipt": true, "extension": true});
    assert_eq!(events(&stopped.setup)[0], expected);
}

#[test]
fn blocks_and_strangers_do_not_stop_the_server() {
    let (_node, mut caller) = people_of(Setup::new().set("C2C_REQUIRE_FRIEND", "true"));
    caller.block("bob", &["amy"]);
    caller.block("amy", &["bob"]);
    send(&mut caller, json!({})).ok();
    // Without a sender it is the calling admin's.
    send(&mut caller, json!({"From_Account": null})).ok();
}

#[test]
fn an_equal_message_within_two_minutes_is_the_same_one() {
    let (node, mut caller) = people_of(Setup::new());
    let first = send(&mut caller, json!({})).ok();
    node.pass_ms(60_000);
    let again = send(&mut caller, json!({})).ok();
    assert_eq!(again.body["MsgKey"], first.body["MsgKey"]);
    assert_eq!(again.body["MsgTime"], first.body["MsgTime"]);
    assert!(again.header("cordon-position").is_none());
    for other in [
        json!({"MsgSeq": 6}),
        json!({"MsgRandom": 9}),
        json!({"MsgBody": text("ho")}),
        json!({"To_Account": "carl"}),
        json!({"From_Account": "carl"}),
        json!({"CloudCustomData": "y"}),
    ] {
        let answer = send(&mut caller, other.clone()).ok();
        assert_eq!(answer.body["MsgTime"], 1_700_000_160, "{other}");
    }
    // Also over a restart.
    let node = node.restart();
    let mut caller = node.caller();
    assert_eq!(send(&mut caller, json!({})).ok().body["MsgKey"], first.body["MsgKey"]);
    node.pass_ms(60_001);
    assert_eq!(send(&mut caller, json!({})).ok().body["MsgTime"], 1_700_000_220);
    let stopped = node.stop();
    assert_eq!(events(&stopped.setup).len(), 8);
}

#[test]
fn no_other_calls_push_a_message_out_of_its_two_minutes() {
    let (node, mut caller) = people_of(Setup::new());
    let first = send(&mut caller, json!({})).ok();
    for _ in 0..60 {
        caller.block("amy", &["bob"]);
        caller.unblock("amy", &["bob"]);
    }
    let node = node.restart();
    let mut caller = node.caller();
    assert_eq!(send(&mut caller, json!({})).ok().body["MsgKey"], first.body["MsgKey"]);
    // What is sent anew after its time counts from then on.
    node.pass_ms(120_001);
    let anew = send(&mut caller, json!({})).ok();
    assert_ne!(anew.body["MsgKey"], first.body["MsgKey"]);
    node.pass_ms(119_000);
    assert_eq!(send(&mut caller, json!({})).ok().body["MsgKey"], anew.body["MsgKey"]);
    node.stop();
}

#[test]
fn each_part_of_a_message_that_is_wrong_has_its_code() {
    let (_node, mut caller) = people_of(Setup::new());
    let element = |kind: Value, content: Value| json!([{"MsgType": kind, "MsgContent": content}]);
    for (fields, code) in [
        (json!({"To_Account": null}), 90003),
        (json!({"To_Account": ""}), 90003),
        (json!({"To_Account": "nobody"}), 90003),
        (json!({"To_Account": 7}), 60015),
        (json!({"From_Account": "nobody"}), 90008),
        (json!({"From_Account": "no body"}), 90008),
        (json!({"MsgRandom": null}), 90005),
        (json!({"MsgRandom": "8"}), 90005),
        (json!({"MsgRandom": 4_294_967_296_u64}), 90005),
        (json!({"MsgRandom": -1}), 90005),
        (json!({"MsgSeq": "7"}), 20001),
        (json!({"MsgBody": null}), 90002),
        (json!({"MsgBody": []}), 90002),
        (json!({"MsgBody": "hi"}), 90007),
        (json!({"MsgBody": {"MsgType": "TIMTextElem"}}), 90007),
        (json!({"MsgBody": ["hi"]}), 90010),
        (json!({"MsgBody": element(json!("TIMNonsense"), json!({}))}), 90010),
        (json!({"MsgBody": element(json!(7), json!({}))}), 90010),
        (json!({"MsgBody": element(json!("TIMTextElem"), json!("hi"))}), 90010),
        (json!({"MsgBody": [{"MsgType": "TIMTextElem"}]}), 90010),
        (json!({"MsgTimeStamp": "now"}), 90006),
        (json!({"SyncOtherMachine": 3}), 90031),
        (json!({"OfflinePushInfo": []}), 90043),
        (json!({"MsgLifeTime": "long"}), 90044),
        (json!({"MsgLifeTime": -1}), 90044),
        (json!({"OnlineOnlyFlag": true}), 20001),
        (json!({"CloudCustomData": {}}), 20001),
        (json!({"SendMsgControl": "NoUnread"}), 20001),
        (json!({"ForbidCallbackControl": [7]}), 20001),
        (json!({"MsgBody": text(&"x".repeat(12 * 1024))}), 80002),
        (json!({"CloudCustomData": "x".repeat(12 * 1024)}), 80002),
    ] {
        let refused = send(&mut caller, fields.clone());
        assert_eq!(refused.code(), code, "{}", fields.to_string().get(..80).unwrap_or_default());
        assert!(refused.body.get("ErrorDisplay").is_none());
    }
    for body in ["", "[]", "{", "{\"a\":}"] {
        let identity = crate::support::Identity::default();
        let answer = caller.call_with("openim/sendmsg", &identity.query(), body.as_bytes());
        assert_eq!(answer.code(), 90001, "{body}");
    }
}

/// Receivers of webhooks get the content as it is: what a JSON parser stumbles over would stop them
/// for good.
#[test]
fn content_that_no_receiver_could_read_is_no_json() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let identity = crate::support::Identity::default();
    let elements = |content: &str| {
        format!(r#"[{{"MsgType":"TIMCustomElem","MsgContent":{{"Data":{content}}}}}]"#)
    };
    for (content, code) in [
        (r#""\ud800""#, 90001),
        (r#"{"x":["\udc00\ud800"]}"#, 90001),
        (r#"{"\ud800":1}"#, 90001),
        ("1e400", 90001),
        ("[[-1e999]]", 90001),
        (r#"[1.5e308,-0,18446744073709551616,"\ud83d\ude00\u0000",null]"#, 0),
    ] {
        let body =
            format!(r#"{{"To_Account":"bob","MsgRandom":8,"MsgBody":{}}}"#, elements(content));
        let answer = caller.call_with("openim/sendmsg", &identity.query(), body.as_bytes());
        assert_eq!(answer.code(), code, "{content}");
    }
    node.settle();
    assert_eq!(subscriber.take().len(), 1);
}

#[test]
fn a_message_to_many_says_whom_it_does_not_reach() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let all = send_many(&mut caller, json!(["bob", "carl", "bob"]), json!({})).ok();
    assert_eq!(all.body["MsgKey"], "7_8_1700000100");
    assert_eq!(all.body["ActionStatus"], "OK");
    assert!(all.body.get("ErrorList").is_none());
    let some = send_many(&mut caller, json!(["bob", "nobody", "a b"]), json!({"MsgSeq": 9})).ok();
    assert_eq!(some.body["ActionStatus"], "SomeError");
    let unknown = |name: &str| json!({"To_Account": name, "ErrorCode": 70107});
    assert_eq!(some.body["ErrorList"], json!([unknown("nobody"), unknown("a b")]));
    for (to, fields, code) in [
        (json!(["nobody"]), json!({}), 90012),
        (json!([]), json!({}), 90029),
        (json!(null), json!({}), 90029),
        (json!("bob"), json!({}), 90028),
        (json!(names("u", 501)), json!({}), 90011),
        (json!([7]), json!({}), 60015),
        (json!(["bob"]), json!({"MsgBody": text(&"x".repeat(12 * 1024))}), 90055),
        (json!(["bob"]), json!({"From_Account": "nobody"}), 90008),
    ] {
        assert_eq!(send_many(&mut caller, to.clone(), fields).code(), code, "{to}");
    }
    node.settle();
    assert_eq!(subscriber.take().len(), 0, "of those nobody is told");
    let stopped = node.stop();
    let receivers: Vec<Value> =
        events(&stopped.setup).into_iter().map(|event| event["to"].clone()).collect();
    assert_eq!(receivers, [json!(["bob", "carl"]), json!(["bob"])]);
}

#[test]
fn messages_to_many_are_counted_by_receiver() {
    let (node, mut caller) =
        people_of(Setup::new().unset("RATE_LIMITS").set("C2C_BATCH_RECEIVERS_PER_MINUTE", "3"));
    let to = |caller: &mut Caller, seq: u64| {
        send_many(caller, json!(["bob", "carl"]), json!({"MsgSeq": seq})).code()
    };
    assert_eq!((to(&mut caller, 1), to(&mut caller, 2)), (0, 90057));
    node.pass_ms(60_000);
    assert_eq!(to(&mut caller, 3), 0);
}

fn verdicts(caller: &mut Caller, who: &str, whom: &[&str]) -> Vec<(String, u64, u64)> {
    let body = json!({"From_Account": who, "To_Account": whom});
    let answer = caller.call("sns/message_check", &body).ok();
    let verdict = |item: &Value| {
        let number = |name: &str| item[name].as_u64().expect("a number");
        let verdict = item["Verdict"].as_str().expect("a verdict").to_owned();
        (verdict, number("ErrorCodeForSender"), number("ResultCode"))
    };
    answer.items().iter().map(verdict).collect()
}

#[test]
fn a_block_stops_whom_it_names_and_two_stop_both() {
    let looks = Setup::new().set("C2C_BLOCKED_SEND_LOOKS_OK", "false");
    let (_node, mut caller) = people_of(looks);
    let allowed = || ("Allowed".to_owned(), 0, 0);
    let stopped = || ("BlockedByReceiver".to_owned(), 20007, 0);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [allowed()]);
    caller.block("amy", &["bob"]);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [allowed()]);
    assert_eq!(verdicts(&mut caller, "bob", &["amy"]), [stopped()]);
    caller.block("bob", &["amy"]);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [stopped()]);
    assert_eq!(verdicts(&mut caller, "bob", &["amy"]), [stopped()]);
    let failed = verdicts(&mut caller, "amy", &["nobody", "a b", "amy"]);
    let codes: Vec<u64> = failed.into_iter().map(|(_, _, code)| code).collect();
    assert_eq!(codes, [30003, 30002, 30001]);
    let unknown = json!({"From_Account": "nobody", "To_Account": ["bob"]});
    assert_eq!(caller.call("sns/message_check", &unknown).code(), 30003);
}

#[test]
fn an_app_may_ask_for_friends_or_stop_both_sides_of_a_block() {
    let (_node, mut caller) = people_of(Setup::new().set("C2C_REQUIRE_FRIEND", "true"));
    let strangers = |code| ("NotFriend".to_owned(), code, 0);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [strangers(20009)]);
    caller.import_friends("amy", &["bob"]);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [strangers(20010)]);
    assert_eq!(verdicts(&mut caller, "bob", &["amy"]), [strangers(20011)]);
    caller.import_friends("bob", &["amy"]);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [("Allowed".to_owned(), 0, 0)]);

    let (_node, mut caller) = people_of(Setup::new().set("C2C_BLOCK_STOPS_BOTH", "true"));
    caller.block("amy", &["bob"]);
    let by_sender = ("BlockedBySender".to_owned(), 20007, 0);
    assert_eq!(verdicts(&mut caller, "amy", &["bob"]), [by_sender]);
    // By default the blocked one is told that it was sent.
    let by_receiver = ("BlockedByReceiver".to_owned(), 0, 0);
    assert_eq!(verdicts(&mut caller, "bob", &["amy"]), [by_receiver]);
}
