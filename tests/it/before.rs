//! Who is asked before something is done, and what their answer does. Rule: webhooks.md 1 to 4, 8.3,
//! 8.4, 10, 13 and 14.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cordon::domain::{Ground, Matter, Refusal, UserId, Verdict};
use serde_json::{Value, json};

use crate::support::{
    Answer, Caller, Heard, Reaction, Setup, Stopped, TestNode, TestSubscriber, audit, eventually,
    friends_wanted, unheard,
};

const EVERYBODY: [&str; 6] = ["amy", "bob", "carl", "dora", "eve", "fay"];

const ALL: &str =
    "Sns.CallbackPrevFriendAdd,Sns.CallbackPrevFriendResponse,C2C.CallbackBeforeSendMsg";

/// What can go wrong, by the setting that says what it counts as.
const FAILURES: [&str; 5] = ["TIMEOUT", "UNREACHABLE", "STATUS", "MALFORMED", "BUSY"];

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    (node, caller)
}

/// A subscriber who is asked and hears of nothing afterwards.
fn asks(subscriber: &TestSubscriber) -> Setup {
    Setup::new().webhook(subscriber).set("WEBHOOK_COMMANDS", ALL)
}

/// The same who hears of friends and messages afterwards, too.
fn asks_and_tells(subscriber: &TestSubscriber) -> Setup {
    let after = "Sns.CallbackFriendAdd,C2C.CallbackAfterSendMsg";
    Setup::new().webhook(subscriber).set("WEBHOOK_COMMANDS", &format!("{ALL},{after}"))
}

/// Every failure counts as a no.
fn strict(mut setup: Setup) -> Setup {
    for failure in FAILURES {
        setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{failure}"), "deny");
    }
    setup
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
fn a_client_adds_whom_the_receiver_allows() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks_and_tells(&subscriber));
    subscriber.react_by(|heard| match heard.command() {
        "Sns.CallbackPrevFriendAdd" => Reaction::Say(
            r#"{"ActionStatus":"OK","ErrorCode":1,"ErrorInfo":"","ResultItem":[
                {"To_Account":"bob","ResultCode":0,"ResultInfo":""},
                {"To_Account":"carl","ResultCode":38001,"ResultInfo":"not allowed"},
                {"To_Account":"dora","ResultCode":7,"ResultInfo":""},
                {"To_Account":"fay","ResultCode":38999,"ResultInfo":""}]}"#,
        ),
        _ => Reaction::Accept,
    });
    let answer = add(&mut caller, "amy", &["bob", "carl", "dora", "eve", "fay"]);
    assert_eq!(answer.codes(), [0, 38001, 38000, 0, 38999]);
    let forbidden = "Err_SNS_FriendAdd_Webhook_Forbid";
    assert_eq!(infos(&answer), ["", "not allowed", forbidden, "", forbidden]);
    assert_eq!(answer.failed(), ["carl", "dora", "fay"]);
    node.settle();
    let heard = subscriber.take();
    assert_eq!(commands(&heard), ["Sns.CallbackPrevFriendAdd", "Sns.CallbackFriendAdd"]);
    let asked = &heard[0];
    assert_eq!(asked.parameter("OptPlatform"), Some("Unknown"));
    assert_eq!(asked.parameter("CallbackCommand"), Some("Sns.CallbackPrevFriendAdd"));
    assert_eq!(asked.body["FriendItem"].as_array().expect("a list").len(), 5);
    assert_eq!(
        asked.body["FriendItem"][0],
        json!({"To_Account": "bob", "Remark": "r", "GroupName": "g",
            "AddSource": "AddSource_Type_test", "AddWording": "hello"})
    );
    let request = answer.header("cordon-request-id").expect("an id");
    assert_eq!(asked.id(), format!("{request}.Sns.CallbackPrevFriendAdd"));
    assert_eq!(heard[1].body["Admin_Account"], "");
    assert_eq!(heard[1].parameter("OptPlatform"), Some("Unknown"));
    let told: Vec<(String, String)> =
        heard[1].pairs().into_iter().filter(|(from, _)| from == "amy").collect();
    assert_eq!(told, [("amy".into(), "bob".into()), ("amy".into(), "eve".into())]);
    drop(caller);
    let stopped = node.stop();
    let records = records(&stopped, "VerdictGiven");
    assert_eq!(records.len(), 1);
    assert_eq!(types(&records[0]), ["VerdictGiven", "FriendOffered", "FriendOffered"]);
    let refusal =
        |user: &str, code: u32, info: &str| json!({"user": user, "code": code, "info": info});
    assert_eq!(
        verdicts(&stopped),
        [json!({"type": "VerdictGiven", "about": "friend_add", "by": "main", "ground": "answered",
            "allowed": ["bob", "eve"], "refused": [refusal("carl", 38001, "not allowed"),
            refusal("dora", 7, ""), refusal("fay", 38999, "")], "hidden": false, "before": null})]
    );
    let (code, history) = audit(&stopped.setup, &["history", "amy"]);
    assert_eq!(code, 0);
    assert!(
        history.contains("may add bob, eve and may not add carl (38001 \"not allowed\")"),
        "{history}"
    );
}

#[test]
fn who_is_refused_anyway_is_not_asked_about() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber));
    caller.block("amy", &["bob"]);
    caller.block("carl", &["amy"]);
    caller.befriend("amy", &["dora"]);
    let refused = ["bob", "carl", "dora", "nobody", "amy", "a b"];
    let answer = add(&mut caller, "amy", &refused);
    assert_eq!(answer.codes(), [30515, 30525, 30001, 30003, 30001, 30002]);
    assert_eq!(
        caller.call_as_client("sns/friend_add", "", &wish("nobody", &["bob"])).code(),
        30003
    );
    assert_eq!(subscriber.take().len(), 0, "of those nobody is asked");
    let some = [&refused[..], &["eve", "eve"]].concat();
    let answer = add(&mut caller, "amy", &some);
    assert_eq!(answer.codes(), [30515, 30525, 30001, 30003, 30001, 30002, 0, 30001]);
    let heard = subscriber.take();
    assert_eq!(heard.len(), 1);
    let items = heard[0].body["FriendItem"].as_array().expect("a list");
    let names: Vec<&Value> = items.iter().map(|item| &item["To_Account"]).collect();
    assert_eq!(names, ["eve"]);
    // A message to somebody unknown, or of somebody unknown.
    let mut unknown = message(1);
    unknown["To_Account"] = json!("nobody");
    assert_eq!(caller.call("openim/sendmsg", &unknown).code(), 90003);
    unknown = message(1);
    unknown["From_Account"] = json!("nobody");
    assert_eq!(caller.call("openim/sendmsg", &unknown).code(), 90008);
    assert_eq!(respond(&mut caller, "amy", &["bob"]).codes(), [30614]);
    assert_eq!(subscriber.take().len(), 0);
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 1);
}

#[test]
fn only_clients_are_asked_about_and_they_force_nothing() {
    let subscriber = TestSubscriber::start();
    let (_node, mut caller) = people_of(asks(&subscriber));
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [0]);
    assert_eq!(subscriber.take().len(), 0);
    caller.allow("carl", "DenyAny");
    let mut forced = wish("amy", &["carl"]);
    forced["ForceAddFlags"] = json!(1);
    let answer = caller.call_as_client("sns/friend_add", "", &forced).ok();
    assert_eq!(answer.codes(), [30516]);
    assert_eq!(subscriber.take()[0].body["ForceAddFlags"], 0);
    assert_eq!(caller.call("sns/friend_add", &forced).ok().codes(), [0]);
    // The header is about friends alone, and has one value.
    let block = json!({"From_Account": "amy", "To_Account": ["dora"]});
    caller.call_as_client("sns/black_list_add", "", &block).ok();
    let again = "Cordon-Acts-As: server\r\n";
    let target = "sns/friend_add";
    let wrong = caller.call_with_lines(target, again, &wish("amy", &["eve"]));
    assert_eq!(wrong.code(), 60002);
    assert_eq!(subscriber.take().len(), 0);
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

#[test]
fn an_answer_to_a_request_is_asked_about_first() {
    let subscriber = TestSubscriber::start();
    let (_node, mut caller) = people_of(asks(&subscriber));
    caller.allow("amy", "NeedConfirm");
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [30539]);
    assert_eq!(caller.befriend("carl", &["amy"]).codes(), [30539]);
    subscriber.react(Reaction::Say(
        r#"{"ErrorCode":0,"ResultItem":[{"To_Account":"bob","ResultCode":38002,"ResultInfo":"wait"}]}"#,
    ));
    let answer = respond(&mut caller, "amy", &["bob", "dora", "carl"]);
    assert_eq!(answer.codes(), [38002, 30614, 0]);
    assert_eq!(infos(&answer)[0], "wait");
    let heard = subscriber.take();
    let item = |name: &str| {
        json!({"To_Account": name, "Remark": "r", "TagName": "g",
            "ResponseAction": "Response_Action_AgreeAndAdd"})
    };
    assert_eq!(heard[0].body["ResponseFriendItem"], json!([item("bob"), item("carl")]));
    assert_eq!(heard[0].body["Requester_Account"], "amy");
    assert_eq!(caller.friends("amy", &["bob", "carl"]).relations(), ["NoRelation", "BothWay"]);
    // The request still waits.
    subscriber.react(Reaction::Accept);
    assert_eq!(respond(&mut caller, "amy", &["bob"]).codes(), [0]);
    assert_eq!(subscriber.take()[0].parameter("OptPlatform"), Some("RESTAPI"));
    // By a client it is one of a client's.
    assert_eq!(caller.befriend("dora", &["amy"]).codes(), [30539]);
    let answer = json!({"From_Account": "amy", "ResponseFriendItem":
        [{"To_Account": "dora", "ResponseAction": "Response_Action_Reject"}]});
    assert_eq!(caller.call_as_client("sns/friend_response", "", &answer).ok().codes(), [0]);
    assert_eq!(subscriber.take()[0].parameter("OptPlatform"), Some("Unknown"));
}

#[test]
fn a_message_is_sent_refused_or_hidden_as_the_receiver_says() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks_and_tells(&subscriber));
    let mut heard_after = |seq: usize, answer: &'static str| {
        subscriber.react_by(move |heard| match heard.command() {
            "C2C.CallbackBeforeSendMsg" => Reaction::Say(answer),
            _ => Reaction::Accept,
        });
        let answer = send(&mut caller, seq);
        node.settle();
        let heard = subscriber.take();
        assert_eq!(heard[0].command(), "C2C.CallbackBeforeSendMsg");
        assert_eq!(heard[0].body["MsgBody"], text("hi"));
        (answer, heard.get(1).map(|heard| heard.body.clone()))
    };
    let (sent, told) = heard_after(1, r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#);
    assert_eq!((sent.code(), &told.expect("it is told")["MsgBody"]), (0, &text("hi")));
    let (refused, told) = heard_after(2, r#"{"ErrorCode":1,"ErrorInfo":"no"}"#);
    assert_eq!((refused.code(), told), (20006, None));
    let (hidden, told) = heard_after(3, r#"{"ErrorCode":2}"#);
    assert_eq!((hidden.ok().body["MsgKey"].clone(), told), (json!("3_8_1700000100"), None));
    let (refused, told) = heard_after(4, r#"{"ErrorCode":120001,"ErrorInfo":"spam"}"#);
    assert_eq!((refused.code(), &refused.body["ErrorInfo"], told), (120_001, &json!("spam"), None));
    let (refused, _) = heard_after(5, r#"{"ErrorCode":130000,"ErrorInfo":""}"#);
    assert_eq!(refused.code(), 130_000);
    let (changed, told) = heard_after(
        6,
        r#"{"ErrorCode":0,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"h*"}}],"CloudCustomData":"y"}"#,
    );
    let told = told.expect("it is told");
    assert_eq!((changed.code(), &told["MsgBody"]), (0, &text("h*")));
    assert_eq!(told["CloudCustomData"], "y");
    let mut unasked = message(7);
    unasked["ForbidCallbackControl"] = json!(["ForbidBeforeSendMsgCallback"]);
    caller.call("openim/sendmsg", &unasked).ok();
    node.settle();
    assert_eq!(commands(&subscriber.take()), ["C2C.CallbackAfterSendMsg"]);
    // Sent again, a message in other words is known by its own.
    let again = send(&mut caller, 6).ok();
    assert!(again.header("cordon-position").is_none());
    node.settle();
    assert_eq!(commands(&subscriber.take()), ["C2C.CallbackBeforeSendMsg"]);
    drop(caller);
    let stopped = node.stop();
    let accepted = records(&stopped, "MessageAccepted");
    let bodies: Vec<Value> = accepted
        .iter()
        .flat_map(|record| record["events"].as_array().expect("events"))
        .filter(|event| event["type"] == "MessageAccepted")
        .map(|event| serde_json::from_str(event["body"].as_str().expect("a text")).expect("JSON"))
        .collect();
    assert_eq!(bodies, [text("hi"), text("h*"), text("hi")]);
    let verdicts = verdicts(&stopped);
    let codes: Vec<&Value> =
        verdicts.iter().map(|verdict| &verdict["refused"][0]["code"]).collect();
    let none = &Value::Null;
    assert_eq!(codes, [none, &json!(1), &json!(0), &json!(120_001), &json!(130_000), none]);
    assert_eq!(verdicts[2]["hidden"], true);
    let before = json!({"body": text("hi").to_string(), "custom_data": "x"});
    assert_eq!(verdicts[5]["before"], before);
}

#[test]
fn words_that_no_message_can_have_are_no_answer() {
    let subscriber = TestSubscriber::start();
    let setup = asks(&subscriber).set("WEBHOOK_BEFORE_ON_MALFORMED", "deny");
    let (_node, mut caller) = people_of(setup);
    let long: &'static str =
        format!(r#"{{"ErrorCode":0,"CloudCustomData":"{}"}}"#, "x".repeat(13_000)).leak();
    for (seq, answer) in [
        r#"{"ErrorCode":0,"MsgBody":[]}"#,
        r#"{"ErrorCode":0,"MsgBody":"hi"}"#,
        r#"{"ErrorCode":0,"MsgBody":[{"MsgType":"TIMNonsense","MsgContent":{}}]}"#,
        r#"{"ErrorCode":0,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"\ud800"}}]}"#,
        long,
    ]
    .into_iter()
    .enumerate()
    {
        subscriber.react(Reaction::Say(answer));
        assert_eq!(send(&mut caller, seq).code(), 20006, "{answer}");
    }
}

/// A receiver whose connections are reset: it closes them with the question unread.
fn resetting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // One byte is read, so the others are there.
            let _ = stream.read(&mut [0]);
        }
    });
    url
}

/// Asks about a friend and about a message; answers the two codes.
fn try_both(caller: &mut Caller, number: usize) -> [u64; 2] {
    let friend = format!("friend{number}");
    caller.import(&[&friend]);
    let added = add(caller, "amy", &[&friend]).codes()[0];
    [added, send(caller, number).code()]
}

#[test]
fn each_failure_counts_as_the_app_says() {
    let oversize: &'static str = format!("{{\"ErrorCode\":0}}{}", " ".repeat(64 << 10)).leak();
    // No answer that fits one of the two questions fits the other, but for the last.
    let malformed = [
        Reaction::Say("OK"),
        Reaction::Say("[]"),
        Reaction::Say(r#"{"ErrorCode":"0","ResultItem":{}}"#),
        Reaction::Say(oversize),
    ];
    let status = [Reaction::Status(500), Reaction::Status(302), Reaction::Status(204)];
    let cases: [(&str, &str, &[Reaction]); 4] = [
        ("TIMEOUT", "timed_out", &[Reaction::Hang]),
        ("UNREACHABLE", "unreachable", &[Reaction::Hangup]),
        ("STATUS", "status", &status),
        ("MALFORMED", "malformed", &malformed),
    ];
    for (failure, ground, reactions) in cases {
        for (policy, opposite, codes) in
            [("allow", "deny", [0, 0]), ("deny", "allow", [38000, 20006])]
        {
            let subscriber = TestSubscriber::start();
            let mut setup = asks(&subscriber).set("WEBHOOK_BEFORE_TIMEOUT_MS", "300");
            for other in FAILURES {
                let counts = if other == failure { policy } else { opposite };
                setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{other}"), counts);
            }
            let (node, mut caller) = people_of(setup);
            for (number, reaction) in reactions.iter().enumerate() {
                subscriber.react(*reaction);
                assert_eq!(try_both(&mut caller, number), codes, "{reaction:?}, {policy}");
            }
            assert_eq!(subscriber.take().len(), 2 * reactions.len(), "one try each");
            drop(caller);
            let grounds: Vec<Value> =
                verdicts(&node.stop()).iter().map(|verdict| verdict["ground"].clone()).collect();
            assert_eq!(grounds, vec![json!(ground); 2 * reactions.len()]);
        }
    }
}

#[test]
fn a_receiver_that_refuses_or_resets_connections_is_unreachable() {
    let away = TestSubscriber::away();
    for url in [away.url(), resetting(), "http://no-such-host.invalid/hook".to_owned()] {
        for (policy, opposite, codes) in
            [("allow", "deny", [0, 0]), ("deny", "allow", [38000, 20006])]
        {
            let mut setup = Setup::new().set("WEBHOOK_URL", &url).set("WEBHOOK_COMMANDS", ALL);
            for other in FAILURES {
                let counts = if other == "UNREACHABLE" { policy } else { opposite };
                setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{other}"), counts);
            }
            let (node, mut caller) = people_of(setup.set("WEBHOOK_BEFORE_TIMEOUT_MS", "5000"));
            assert_eq!(try_both(&mut caller, 1), codes, "{url}, {policy}");
            drop(caller);
            let grounds: Vec<Value> =
                verdicts(&node.stop()).iter().map(|verdict| verdict["ground"].clone()).collect();
            assert_eq!(grounds, [json!("unreachable"), json!("unreachable")], "{url}");
        }
    }
}

/// How many questions about messages came to `answer`.
fn asked(node: &TestNode, answer: &str) -> f64 {
    let name = format!(
        r#"app="1400000001",subscription="main",command="C2C.CallbackBeforeSendMsg",answer="{answer}""#
    );
    node.samples("cordon_webhook_questions_total").get(&name).copied().unwrap_or(0.0)
}

#[test]
fn a_receiver_that_hangs_has_room_for_so_many_questions_and_slows_nobody_else() {
    let mut subscriber = TestSubscriber::start();
    let setup = asks(&subscriber)
        .set("WEBHOOK_BEFORE_TIMEOUT_MS", "5000")
        .set("WEBHOOK_BEFORE_ON_BUSY", "deny");
    let (node, mut caller) = people_of(setup);
    subscriber.react(Reaction::Hang);
    let room = cordon::webhooks::consult::QUESTIONS_OPEN_MAX;
    let returned = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seq in 0..room {
            let (node, returned) = (&node, &returned);
            scope.spawn(move || {
                assert_eq!(send(&mut node.caller(), seq).code(), 0);
                returned.fetch_add(1, Ordering::Relaxed);
            });
        }
        subscriber.until("all questions", |heard| heard.len() == room);
        assert_eq!(node.samples("cordon_webhook_questions_open")[""], room as f64);
        assert_eq!(send(&mut caller, room).code(), 20006, "there is no room for it");
        caller.block("carl", &["dora"]);
        assert_eq!(caller.blocklist("carl", 0, 10).0, ["dora"]);
        assert_eq!(caller.befriend("eve", &["fay"]).codes(), [0]);
        assert_eq!(returned.load(Ordering::Relaxed), 0, "all of them hang still");
        subscriber.close();
    });
    assert_eq!(returned.load(Ordering::Relaxed), room);
    assert_eq!((asked(&node, "busy"), asked(&node, "unreachable")), (1.0, room as f64));
    assert_eq!(node.samples("cordon_webhook_questions_open")[""], 0.0);
}

#[test]
fn a_receiver_that_counts_as_down_is_not_waited_for_until_it_is_back() {
    let mut subscriber = TestSubscriber::away();
    let (node, mut caller) = people_of(strict(asks(&subscriber)));
    let mut seq = 0;
    let mut next = |caller: &mut Caller| {
        seq += 1;
        send(caller, seq).code()
    };
    for _ in 0..cordon::webhooks::FAILURES_IN_A_ROW_MAX {
        assert_eq!(next(&mut caller), 20006);
    }
    assert_eq!((asked(&node, "unreachable"), asked(&node, "busy")), (16.0, 0.0));
    assert_eq!(next(&mut caller), 20006);
    assert_eq!((asked(&node, "unreachable"), asked(&node, "busy")), (16.0, 1.0));
    subscriber.open();
    eventually("it is asked again", || next(&mut caller) == 0);
    assert_eq!(next(&mut caller), 0);
    assert_eq!(asked(&node, "allowed"), 2.0);
    assert_eq!(subscriber.take().len(), 2);
}

#[test]
fn a_repeat_under_a_key_is_not_asked_about_again() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber));
    let refusal = r#"{"ErrorCode":0,"ResultItem":[{"To_Account":"bob","ResultCode":38001,"ResultInfo":"no"}]}"#;
    subscriber.react_by(move |heard| match heard.command() {
        "Sns.CallbackPrevFriendAdd" => Reaction::Say(refusal),
        _ => Reaction::Say(r#"{"ErrorCode":120001,"ErrorInfo":"spam"}"#),
    });
    let key = "Idempotency-Key: one\r\n";
    let add = |caller: &mut Caller| {
        caller.call_as_client("sns/friend_add", key, &wish("amy", &["bob", "carl"])).ok()
    };
    let first = add(&mut caller);
    assert_eq!(first.codes(), [38001, 0]);
    let said = caller.call_keyed("openim/sendmsg", "two", &message(1));
    assert_eq!(said.code(), 120_001);
    assert_eq!(subscriber.take().len(), 2);
    subscriber.react(Reaction::Accept);
    // Also over a restart.
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    assert_eq!(add(&mut caller).text(), first.text());
    assert_eq!(caller.call_keyed("openim/sendmsg", "two", &message(1)).text(), said.text());
    assert_eq!(subscriber.take().len(), 0);
    // The same words by the server itself are another call.
    let plain = caller.call_keyed("sns/friend_add", "one", &wish("amy", &["bob", "carl"]));
    assert_eq!(plain.code(), 60002);
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 2);
}

#[test]
fn of_two_verdicts_on_one_call_with_a_key_the_first_that_is_kept_stands() {
    let subscriber = TestSubscriber::start();
    let (node, _caller) = people_of(asks(&subscriber));
    let count = AtomicUsize::new(0);
    subscriber.react_by(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Reaction::Say(
            r#"{"ResultItem":[{"To_Account":"bob","ResultCode":38001,"ResultInfo":"no"}]}"#,
        ),
        _ => Reaction::Accept,
    });
    for round in 0..5 {
        let (from, lines) =
            (EVERYBODY[2 + round % 4], format!("Idempotency-Key: round{round}\r\n"));
        let answers: Vec<String> = thread::scope(|scope| {
            let ask = || {
                let mut caller = node.caller();
                let body = wish(from, &["bob"]);
                caller.call_as_client("sns/friend_add", &lines, &body).ok().text().to_owned()
            };
            let both = [scope.spawn(ask), scope.spawn(ask)];
            both.into_iter().map(|asking| asking.join().expect("an answer")).collect()
        });
        assert_eq!(answers[0], answers[1]);
    }
}

#[test]
fn a_verdict_on_a_call_with_a_key_that_nobody_was_answered_stands() {
    let subscriber = TestSubscriber::start();
    let (node, caller) = people_of(asks(&subscriber));
    let body = wish("amy", &["bob", "carl"]);
    let user = |name: &str| UserId::parse(name).expect("a name");
    let add = friends_wanted(&["bob", "carl"]).under(Verdict {
        about: Matter::FriendAdd,
        by: "main".into(),
        ground: Ground::Answered,
        allowed: vec![user("carl")],
        refused: vec![Refusal { user: user("bob"), code: 38_005, info: "earlier".into() }],
        hidden: false,
        before: None,
    });
    let asked = format!("sns/friend_add as client\n{body}");
    let request = unheard(&node, "lost", &asked, "amy", add);
    // The node stops before it answers.
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    let again = caller.call_as_client("sns/friend_add", "Idempotency-Key: lost\r\n", &body).ok();
    assert_eq!((again.codes(), infos(&again)), (vec![38_005, 0], vec!["earlier", ""]));
    assert_eq!(again.header("cordon-request-id"), Some(&*request.to_string()));
    assert_eq!(subscriber.take().len(), 0, "nobody is asked again");
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 1);
}
