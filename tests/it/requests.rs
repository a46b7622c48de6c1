//! Friend requests that wait, through the door. Rule: extensions.md 2 and 3.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Setup, TestNode, TestSubscriber, names};

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.set("FRIEND_DEFAULT_ALLOW_TYPE", "need_confirm").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl", "dora"]);
    (node, caller)
}

fn ask(caller: &mut Caller, who: &str, whom: &str, words: &str) -> Vec<u64> {
    let item = json!({"To_Account": whom, "AddSource": "AddSource_Type_test", "Remark": "mine",
        "AddWording": words});
    let body = json!({"From_Account": who, "AddFriendItem": [item]});
    caller.call("sns/friend_add", &body).ok().codes()
}

fn respond(caller: &mut Caller, who: &str, answers: &[(&str, &str)]) -> Answer {
    let item = |(whom, how): &(&str, &str)| {
        json!({"To_Account": whom, "Remark": "theirs", "TagName": "new",
            "ResponseAction": format!("Response_Action_{how}")})
    };
    let items: Vec<Value> = answers.iter().map(item).collect();
    let body = json!({"From_Account": who, "ResponseFriendItem": items});
    caller.call("sns/friend_response", &body).ok()
}

fn waiting(caller: &mut Caller, who: &str, kind: &str) -> Vec<String> {
    let body = json!({"From_Account": who, "PendencyType": format!("Pendency_Type_{kind}"),
        "StartIndex": 0, "MaxLimited": 100});
    let answer = caller.call("sns/pendency_get", &body).ok();
    answer.names().into_iter().map(str::to_owned).collect()
}

#[test]
fn a_request_waits_on_both_sides_until_it_is_answered() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    assert_eq!(ask(&mut caller, "amy", "bob", "hello"), [30539]);
    assert_eq!(ask(&mut caller, "amy", "bob", "hello again"), [30539]);
    let body = json!({"From_Account": "bob", "PendencyType": "Pendency_Type_ComeIn"});
    let answer = caller.call("sns/pendency_get", &body).ok();
    let item = json!({"To_Account": "amy", "AddSource": "AddSource_Type_test",
        "AddWording": "hello again", "AddTime": 1_700_000_100});
    assert_eq!(answer.body["PendencyItem"], json!([item]));
    assert_eq!((&answer.body["StartIndex"], &answer.body["PendencyNum"]), (&json!(0), &json!(1)));
    assert_eq!(waiting(&mut caller, "amy", "SendOut"), ["bob"]);
    assert!(waiting(&mut caller, "amy", "ComeIn").is_empty());
    node.settle();
    assert_eq!(subscriber.take().len(), 0);

    let answer = respond(&mut caller, "bob", &[("amy", "AgreeAndAdd"), ("amy", "AgreeAndAdd")]);
    assert_eq!(answer.codes(), [0, 30614]);
    let text = "Err_SNS_FriendResponse_Pendency_Not_Exist";
    assert_eq!(answer.items()[1]["ResultInfo"], text);
    assert_eq!(answer.failed(), ["amy"]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["BothWay"]);
    assert!(waiting(&mut caller, "amy", "SendOut").is_empty());
    let record = |caller: &mut Caller, who: &str, of: &str| {
        let body = json!({"From_Account": who, "To_Account": [of]});
        caller.call("sns/friend_get_list", &body).ok().items()[0]["SnsProfileItem"].to_string()
    };
    assert!(record(&mut caller, "amy", "bob").contains("mine"));
    let theirs = record(&mut caller, "bob", "amy");
    assert!(theirs.contains("theirs") && theirs.contains("[\"new\"]"), "{theirs}");
    assert!(theirs.contains("hello again"), "{theirs}");
    node.settle();
    let heard = subscriber.take();
    let [told] = &heard[..] else { panic!("{heard:?}") };
    let body = &told.body;
    let pair = |from: &str, to: &str| json!({"From_Account": from, "To_Account": to, "Initiator_Account": "amy"});
    assert_eq!(body["ClientCmd"], "friend_response");
    assert_eq!(body["PairList"], json!([pair("amy", "bob"), pair("bob", "amy")]));
    node.stop();
}

#[test]
fn who_agrees_only_gets_no_friend_and_who_refuses_leaves_nothing() {
    let (node, mut caller) = people_of(Setup::new());
    ask(&mut caller, "amy", "bob", "");
    ask(&mut caller, "amy", "carl", "");
    assert_eq!(respond(&mut caller, "bob", &[("amy", "Agree")]).codes(), [0]);
    assert_eq!(respond(&mut caller, "carl", &[("amy", "Reject")]).codes(), [0]);
    let relations = caller.friends("amy", &["bob", "carl"]);
    assert_eq!(relations.relations(), ["AWithB", "NoRelation"]);
    assert!(waiting(&mut caller, "amy", "SendOut").is_empty());
    assert_eq!(ask(&mut caller, "amy", "carl", ""), [30539], "it may be asked again");
    node.stop();
}

#[test]
fn a_block_a_deletion_of_the_account_and_an_asking_back_answer_what_waits() {
    let (node, mut caller) = people_of(Setup::new());
    for who in ["bob", "carl", "dora"] {
        ask(&mut caller, "amy", who, "");
    }
    caller.block("bob", &["amy"]);
    assert_eq!(respond(&mut caller, "bob", &[("amy", "AgreeAndAdd")]).codes(), [30614]);
    caller.delete_accounts(&["carl"]);
    assert_eq!(waiting(&mut caller, "amy", "SendOut"), ["dora"]);
    assert_eq!(ask(&mut caller, "dora", "amy", ""), [0], "who asks back agrees");
    assert!(waiting(&mut caller, "amy", "SendOut").is_empty());
    assert!(waiting(&mut caller, "dora", "ComeIn").is_empty());
    assert_eq!(caller.friends("amy", &["dora"]).relations(), ["BothWay"]);
    ask(&mut caller, "dora", "bob", "");
    caller.delete_accounts(&["dora"]);
    assert!(waiting(&mut caller, "bob", "ComeIn").is_empty());
    node.stop();
}

#[test]
fn the_limits_of_both_lists_hold_when_requests_are_answered() {
    let (node, mut caller) = people_of(Setup::new().set("LIMITS_FRIENDS_MAX", "1"));
    assert_eq!(ask(&mut caller, "amy", "bob", ""), [30539]);
    assert_eq!(ask(&mut caller, "amy", "carl", ""), [30010], "the place is bob's");
    assert_eq!(ask(&mut caller, "dora", "bob", ""), [30539]);
    assert_eq!(respond(&mut caller, "bob", &[("dora", "AgreeAndAdd")]).codes(), [0]);
    let full = respond(&mut caller, "bob", &[("amy", "AgreeAndAdd")]);
    assert_eq!(full.codes(), [30010]);
    assert_eq!(respond(&mut caller, "bob", &[("amy", "Agree")]).codes(), [0]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["AWithB"]);
    node.stop();
}

#[test]
fn who_asked_may_take_the_request_back_by_a_removal() {
    let (node, mut caller) = people_of(Setup::new());
    assert_eq!(caller.unfriend("amy", &["bob"], "Delete_Type_Single").codes(), [31704]);
    ask(&mut caller, "amy", "bob", "");
    assert_eq!(caller.unfriend("amy", &["bob"], "Delete_Type_Single").codes(), [0]);
    node.settle();
    assert!(waiting(&mut caller, "amy", "SendOut").is_empty());
    assert!(waiting(&mut caller, "bob", "ComeIn").is_empty());
    assert_eq!(caller.unfriend("amy", &["bob"], "Delete_Type_Both").codes(), [31704]);
    node.stop();
}

#[test]
fn a_request_that_waits_takes_no_place_of_a_group() {
    let (node, mut caller) = people_of(Setup::new().set("LIMITS_GROUPS_MAX", "1"));
    let item = json!({"To_Account": "bob", "AddSource": "AddSource_Type_test", "GroupName": "one"});
    let body = json!({"From_Account": "amy", "AddFriendItem": [item]});
    assert_eq!(caller.call("sns/friend_add", &body).codes(), [30539]);
    let other = json!({"From_Account": "amy", "GroupName": ["two"]});
    caller.call("sns/group_add", &other).ok();
    assert_eq!(respond(&mut caller, "bob", &[("amy", "AgreeAndAdd")]).codes(), [0]);
    let groups = caller.call("sns/group_get", &json!({"From_Account": "amy"})).ok();
    assert_eq!(groups.items(), [json!({"GroupName": "two", "FriendNumber": 0})]);
    node.stop();
}

#[test]
fn what_is_said_about_one_who_is_in_the_list_already_is_noted() {
    let (node, mut caller) = people_of(Setup::new());
    caller.import_friends("bob", &["amy"]);
    ask(&mut caller, "amy", "bob", "");
    assert_eq!(respond(&mut caller, "bob", &[("amy", "AgreeAndAdd")]).codes(), [0]);
    let body = json!({"From_Account": "bob", "To_Account": ["amy"]});
    let record = caller.call("sns/friend_get_list", &body).ok().text().to_owned();
    assert!(record.contains("theirs") && record.contains("[\"new\"]"), "{record}");
    node.stop();
}

#[test]
fn what_is_no_answer_is_refused_by_entry() {
    let (_node, mut caller) = people_of(Setup::new());
    ask(&mut caller, "amy", "bob", "");
    let answer = respond(
        &mut caller,
        "bob",
        &[
            ("amy", "Maybe"),
            ("carl", "Agree"),
            ("nobody", "Agree"),
            ("a b", "Agree"),
            ("bob", "Agree"),
        ],
    );
    assert_eq!(answer.codes(), [30001, 30614, 30003, 30002, 30001]);
    assert_eq!(waiting(&mut caller, "bob", "ComeIn"), ["amy"]);
    for body in [
        json!({"From_Account": "bob"}),
        json!({"From_Account": "bob", "ResponseFriendItem": []}),
        json!({"From_Account": "bob", "ResponseFriendItem": [7]}),
    ] {
        assert_eq!(caller.call("sns/friend_response", &body).code(), 30001, "{body}");
    }
    for kind in [json!(null), json!("ComeIn"), json!(7)] {
        let body = json!({"From_Account": "bob", "PendencyType": kind});
        assert_eq!(caller.call("sns/pendency_get", &body).code(), 30001, "{body}");
    }
}

#[test]
fn requests_that_wait_come_in_pages() {
    let (_node, mut caller) = people_of(Setup::new());
    let all = names("u", 25);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);
    for who in &all {
        ask(&mut caller, who, "bob", "");
    }
    let (mut seen, mut start) = (Vec::new(), 0);
    loop {
        let body = json!({"From_Account": "bob", "PendencyType": "Pendency_Type_ComeIn",
            "StartIndex": start, "MaxLimited": 10});
        let page = caller.call("sns/pendency_get", &body).ok();
        assert_eq!(page.body["PendencyNum"], 25);
        seen.extend(page.names().into_iter().map(str::to_owned));
        start = page.body["StartIndex"].as_u64().expect("a number");
        if start == 0 {
            break;
        }
    }
    assert_eq!(seen, all);
}
