//! Which message is sent, and in which words.

use serde_json::{Value, json};

use super::{asks, asks_and_tells, commands, message, people_of, records, send, text, verdicts};
use crate::support::{Reaction, TestSubscriber};

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
fn an_equal_message_is_answered_like_the_first_whatever_is_said_to_it_now() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber));
    let first = send(&mut caller, 1).ok();
    node.pass_ms(3_000);
    for said in [
        r#"{"ErrorCode":1,"ErrorInfo":"no"}"#,
        r#"{"ErrorCode":2}"#,
        r#"{"ErrorCode":120001,"ErrorInfo":"spam"}"#,
    ] {
        subscriber.react(Reaction::Say(said));
        let again = send(&mut caller, 1).ok();
        assert_eq!(again.body["MsgKey"], first.body["MsgKey"], "{said}");
        assert_eq!(again.body["MsgTime"], first.body["MsgTime"], "{said}");
        assert!(again.header("cordon-position").is_none(), "{said}");
    }
    // One that was never taken over is judged each time.
    subscriber.react(Reaction::Say(r#"{"ErrorCode":1}"#));
    assert_eq!(send(&mut caller, 2).code(), 20006);
    subscriber.react(Reaction::Accept);
    assert_eq!(send(&mut caller, 2).code(), 0);
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
