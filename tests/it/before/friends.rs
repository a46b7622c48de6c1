//! Who may be added, and which request may be answered.

use serde_json::{Value, json};

use super::{
    add, asks, asks_and_tells, commands, infos, message, people_of, records, respond, types,
    verdicts, wish,
};
use crate::support::{Reaction, TestSubscriber, audit};

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
fn whom_the_wanted_friend_refuses_anyway_nobody_is_asked_about() {
    let subscriber = TestSubscriber::start();
    let limits = asks(&subscriber).set("LIMITS_FRIENDS_MAX", "3").set("LIMITS_REQUESTS_MAX", "1");
    let (_node, mut caller) = people_of(limits);
    caller.befriend("carl", &["bob", "eve", "fay"]);
    caller.allow("bob", "DenyAny");
    caller.allow("dora", "NeedConfirm");
    assert_eq!(caller.befriend("fay", &["dora"]).codes(), [30539]);
    let refused = ["bob", "carl", "dora"];
    assert_eq!(add(&mut caller, "amy", &refused).codes(), [30516, 30014, 30012]);
    assert_eq!(subscriber.take().len(), 0);
    // One of them would take one more, and one would let it wait.
    caller.unfriend("carl", &["eve"], "Delete_Type_Both");
    caller.call("sns/friend_delete", &json!({"From_Account": "fay", "To_Account": ["dora"]})).ok();
    assert_eq!(add(&mut caller, "amy", &refused).codes(), [30516, 0, 30539]);
    let items = subscriber.take()[0].body["FriendItem"].clone();
    let items = items.as_array().expect("a list").iter();
    let names: Vec<&str> = items.filter_map(|item| item["To_Account"].as_str()).collect();
    assert_eq!(names, ["carl", "dora"]);
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
    assert_eq!(subscriber.take().len(), 0, "carl refuses anyway");
    forced["AddFriendItem"][0]["To_Account"] = json!("eve");
    assert_eq!(caller.call_as_client("sns/friend_add", "", &forced).ok().codes(), [0]);
    assert_eq!(subscriber.take()[0].body["ForceAddFlags"], 0);
    forced["AddFriendItem"][0]["To_Account"] = json!("carl");
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
