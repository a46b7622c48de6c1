//! Blocklists through the door. Rule: rest-api.md 3.

use serde_json::json;

use crate::support::{Caller, Setup, TestNode, TestSubscriber, names};

/// A node with a few accounts, and a caller.
fn people() -> (TestNode, Caller) {
    people_of(Setup::new())
}

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl", "dora", "eve"]);
    (node, caller)
}

#[test]
fn a_list_is_paged_from_the_oldest_block_on() {
    let (node, mut caller) = people();
    for (at, target) in ["dora", "bob", "eve", "carl"].into_iter().enumerate() {
        node.set_clock(1_700_000_200 + at as u32);
        caller.block("amy", &[target]);
    }
    // Whoever is blocked anew goes to the end.
    caller.unblock("amy", &["dora"]);
    node.set_clock(1_700_000_300);
    caller.block("amy", &["dora"]);

    let owned = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
    assert_eq!(caller.blocklist("amy", 0, 3), (owned(&["bob", "eve", "carl"]), 3));
    assert_eq!(caller.blocklist("amy", 3, 3), (owned(&["dora"]), 0));
    assert_eq!(caller.blocklist("amy", 2, 2), (owned(&["carl", "dora"]), 0));
    assert_eq!(caller.blocklist("amy", 0, 4000), (owned(&["bob", "eve", "carl", "dora"]), 0));
    assert_eq!(caller.blocklist("amy", 4, 3), (Vec::new(), 0));
    assert_eq!(caller.blocklist("amy", 1 << 40, 3), (Vec::new(), 0));
    assert_eq!(caller.blocklist("bob", 0, 3), (Vec::new(), 0));

    let answer = caller.call("sns/black_list_get", &json!({"From_Account": "amy"})).ok();
    assert_eq!(answer.names(), ["bob", "eve", "carl", "dora"], "paging fields may be left out");
    let times: Vec<u64> =
        answer.items().iter().filter_map(|item| item["AddBlackTimeStamp"].as_u64()).collect();
    assert_eq!(times, [1_700_000_201, 1_700_000_202, 1_700_000_203, 1_700_000_300]);

    for wrong in [json!({"MaxLimited": 0}), json!({"StartIndex": -1}), json!({"MaxLimited": "9"})] {
        let mut body = wrong.clone();
        body["From_Account"] = json!("amy");
        assert_eq!(caller.call("sns/black_list_get", &body).code(), 30001, "{wrong}");
    }
    let nobody = caller.call("sns/black_list_get", &json!({"From_Account": "nobody"}));
    assert_eq!(nobody.code(), 30003);
}

#[test]
fn a_list_takes_a_thousand_and_refuses_the_rest_of_a_request() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let all = names("x", 1002);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);

    let answer = caller.block("amy", &all[..1000]);
    assert_eq!(answer.codes(), [0; 1000]);
    assert_eq!(answer.names(), &all[..1000]);
    assert_eq!(answer.failed(), [""; 0]);
    node.settle();
    let heard = subscriber.take();
    assert_eq!(heard.len(), 1, "one request is one call");
    let pairs = heard[0].pairs();
    assert!(pairs.iter().map(|(_, to)| to.as_str()).eq(all[..1000].iter().copied()));
    assert!(pairs.iter().all(|(from, _)| from == "amy"));

    let full = caller.block("amy", &["bob"]);
    assert_eq!(full.codes(), [30013]);
    let text = "Err_SNS_BlackListAdd_BlackList_Num_Exceed_Threshold";
    assert_eq!(full.items()[0]["ResultInfo"], text);
    assert_eq!(caller.unblock("amy", &all[..1]).codes(), [0]);
    let answer = caller.block("amy", &["bob", "carl", all[5], "dora"]);
    assert_eq!(answer.codes(), [0, 30013, 30001, 30013], "earlier entries stay added");
    assert_eq!(answer.failed(), ["carl", all[5], "dora"]);

    let (listed, next) = caller.blocklist("amy", 0, 1000);
    assert_eq!((listed.len(), next), (1000, 0));
    assert_eq!(listed.last().map(String::as_str), Some("bob"));
    let relations = caller.blocks("amy", &all[..1000]);
    assert_eq!(relations.relations()[..2], ["NO", "AWithB"]);
    assert_eq!(caller.unblock("amy", &all[1..1000]).codes(), [0; 999]);
    assert_eq!(caller.blocklist("amy", 0, 1000).0, ["bob"]);
}

#[test]
fn the_limit_of_a_list_is_a_setting() {
    let (node, mut caller) = people_of(Setup::new().set("LIMITS_BLOCKS_MAX", "2"));
    assert_eq!(caller.block("amy", &["bob", "carl", "dora"]).codes(), [0, 0, 30013]);
    // A restart does not forget how full the list is.
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    assert_eq!(caller.block("amy", &["dora"]).codes(), [30013]);
    assert_eq!(caller.unblock("amy", &["bob"]).codes(), [0]);
    assert_eq!(caller.block("amy", &["dora", "eve"]).codes(), [0, 30013]);
}

#[test]
fn each_entry_is_judged_by_itself_and_in_order() {
    let (_node, mut caller) = people();
    let long = "x".repeat(33);
    let targets = ["bob", "bob", "amy", "", "b ob", long.as_str(), "nobody", "carl"];
    let answer = caller.block("amy", &targets);
    assert_eq!(answer.names(), targets);
    assert_eq!(answer.codes(), [0, 30001, 30001, 30002, 30002, 30002, 30003, 0]);
    assert_eq!(answer.failed(), &targets[1..7]);
    let texts: Vec<&str> =
        answer.items().iter().filter_map(|item| item["ResultInfo"].as_str()).collect();
    let illegal = "Err_SNS_BlackListAdd_SdkAppId_Illegal";
    assert_eq!(
        texts,
        [
            "",
            "Err_SNS_BlackListAdd_Already_Exist",
            "Err_SNS_BlackListAdd_Request_Invalid",
            illegal,
            illegal,
            illegal,
            "Err_SNS_BlackListAdd_Account_Not_Exist",
            "",
        ]
    );
    assert_eq!(answer.body["ErrorDisplay"], "");

    let answer = caller.unblock("amy", &["dora", "bob", "bob", "nobody", "b ob", "amy"]);
    assert_eq!(answer.codes(), [30001, 0, 30001, 30003, 30002, 30001]);
    assert_eq!(answer.failed(), ["dora", "bob", "nobody", "b ob", "amy"]);

    let answer = caller.blocks("amy", &["carl", "nobody", "amy", "b ob"]);
    assert_eq!(answer.codes(), [0, 30003, 30001, 30002]);
    assert_eq!(answer.relations(), ["AWithB", "NO", "NO", "NO"]);
    assert_eq!(answer.failed(), ["nobody", "amy", "b ob"]);
}

#[test]
fn names_are_compared_byte_by_byte() {
    let (_node, mut caller) = people();
    caller.import(&["Bob", "b~!ob", "01234567890123456789012345678901"]);
    caller.block("amy", &["bob", "b~!ob", "01234567890123456789012345678901"]);
    let answer = caller.blocks("amy", &["bob", "Bob", "b~!ob", "01234567890123456789012345678901"]);
    assert_eq!(answer.relations(), ["AWithB", "NO", "AWithB", "AWithB"]);
}

#[test]
fn the_sequence_grows_with_each_request_that_changes_the_list() {
    let (_node, mut caller) = people();
    let sequence = |caller: &mut Caller| {
        let answer = caller.call("sns/black_list_get", &json!({"From_Account": "amy"})).ok();
        assert_eq!(answer.body["CurruentSequence"], answer.body["CurrentSequence"]);
        answer.body["CurrentSequence"].as_u64().expect("a number")
    };
    let mut known = 0;
    assert_eq!(sequence(&mut caller), known);
    for (step, grows) in [("+bob", true), ("+bob", false), ("+carl", true), ("-bob", true)] {
        let (sign, name) = step.split_at(1);
        if sign == "+" {
            caller.block("amy", &[name])
        } else {
            caller.unblock("amy", &[name])
        };
        let now = sequence(&mut caller);
        assert_eq!(now > known, grows, "{step}: {known}, {now}");
        known = now;
    }
    caller.befriend("amy", &["dora"]);
    assert_eq!(sequence(&mut caller), known, "friends are another list");
}

#[test]
fn a_check_of_one_side_sees_only_that_side() {
    let (_node, mut caller) = people();
    caller.block("amy", &["bob"]);
    caller.block("carl", &["amy"]);
    let single = json!({"From_Account": "amy", "To_Account": ["bob", "carl", "dora"],
        "CheckType": "BlackCheckResult_Type_Single"});
    let answer = caller.call("sns/black_list_check", &single).ok();
    assert_eq!(answer.relations(), ["AWithB", "NO", "NO"]);
    let answer = caller.blocks("amy", &["bob", "carl", "dora"]);
    assert_eq!(answer.relations(), ["AWithB", "BWithA", "NO"]);
    for wrong in [json!("CheckResult_Type_Both"), json!(1), json!(null)] {
        let body = json!({"From_Account": "amy", "To_Account": ["bob"], "CheckType": wrong});
        assert_eq!(caller.call("sns/black_list_check", &body).code(), 30001, "{wrong}");
    }
}

#[test]
fn a_block_ends_every_form_of_friendship_for_good() {
    let (_node, mut caller) = people();
    caller.befriend("amy", &["bob"]);
    caller.import_friends("amy", &["carl"]);
    caller.import_friends("dora", &["amy"]);
    let everybody = ["bob", "carl", "dora", "eve"];
    assert_eq!(
        caller.friends("amy", &everybody).relations(),
        ["BothWay", "AWithB", "BWithA", "NoRelation"]
    );
    assert_eq!(caller.block("amy", &everybody).codes(), [0; 4]);
    assert_eq!(caller.friends("amy", &everybody).relations(), ["NoRelation"; 4]);
    for name in everybody {
        assert_eq!(caller.friends(name, &["amy"]).relations(), ["NoRelation"]);
        assert_eq!(caller.befriend(name, &["amy"]).codes(), [30525]);
        assert_eq!(caller.befriend("amy", &[name]).codes(), [30515]);
    }
    assert_eq!(caller.unblock("amy", &everybody).codes(), [0; 4]);
    assert_eq!(caller.friends("amy", &everybody).relations(), ["NoRelation"; 4]);
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [0]);
}

#[test]
fn a_block_may_leave_friends_if_the_app_says_so() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("BLOCK_REMAIN_FRIENDS", "true");
    let (node, mut caller) = people_of(setup);
    caller.befriend("amy", &["bob"]);
    node.settle();
    subscriber.take();
    assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["BothWay"]);
    node.settle();
    let heard = subscriber.take();
    let commands: Vec<&str> = heard.iter().map(|heard| heard.command()).collect();
    assert_eq!(commands, ["Sns.CallbackBlackListAdd"]);
    assert_eq!(caller.unfriend("bob", &["amy"], "Delete_Type_Both").codes(), [0]);
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [30525]);
}

#[test]
fn a_block_drops_the_requests_between_the_two() {
    let (_node, mut caller) = people_of(Setup::new().set("LIMITS_REQUESTS_MAX", "1"));
    caller.allow("bob", "NeedConfirm");
    caller.allow("dora", "NeedConfirm");
    // The asked one blocks, then the asking one does; each time the one place is free again.
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [30539]);
    assert_eq!(caller.befriend("carl", &["bob"]).codes(), [30012]);
    caller.block("bob", &["amy"]);
    assert_eq!(caller.befriend("carl", &["bob"]).codes(), [30539]);

    assert_eq!(caller.befriend("amy", &["dora"]).codes(), [30539]);
    assert_eq!(caller.befriend("carl", &["dora"]).codes(), [30012]);
    caller.block("amy", &["dora"]);
    assert_eq!(caller.befriend("carl", &["dora"]).codes(), [30539]);
}
