//! Friend groups through the door. Rule: rest-api.md 5.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Setup, TestNode, names};

fn people() -> (TestNode, Caller) {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl"]);
    caller.befriend("amy", &["bob"]);
    (node, caller)
}

fn add(caller: &mut Caller, names: Value, to: Value) -> Answer {
    let body = json!({"From_Account": "amy", "GroupName": names, "To_Account": to});
    caller.call("sns/group_add", &body)
}

fn get(caller: &mut Caller, how: Value) -> Answer {
    let mut body = how;
    body["From_Account"] = json!("amy");
    caller.call("sns/group_get", &body).ok()
}

fn sequence(answer: &Answer) -> u64 {
    answer.body["CurrentSequence"].as_u64().expect("a number")
}

#[test]
fn groups_are_made_once_and_take_friends_in() {
    let (node, mut caller) = people();
    assert_eq!(sequence(&get(&mut caller, json!({}))), 0);
    let made = add(&mut caller, json!(["work"]), json!(null)).ok();
    assert!(made.body.get("ResultItem").is_none());
    let again = add(&mut caller, json!(["work", "chess"]), json!(["bob", "carl", "nobody", "bob"]));
    assert_eq!(again.codes(), [0, 30001, 30003, 0]);
    assert_eq!(again.items()[1]["ResultInfo"], "Err_SNS_GroupAdd_Friend_Not_Exist");
    assert_eq!(again.failed(), ["carl", "nobody"]);
    assert!(sequence(&again) > sequence(&made));
    let repeated = add(&mut caller, json!(["work"]), json!(["bob"])).ok();
    assert_eq!(sequence(&repeated), sequence(&again), "nothing has changed");
    let all = get(&mut caller, json!({"NeedFriend": "Need_Friend_Type_Yes"}));
    let group = |name: &str| json!({"GroupName": name, "FriendNumber": 1, "To_Account": ["bob"]});
    assert_eq!(all.items(), [group("work"), group("chess")]);
    node.stop();
}

/// Between nodes an answer has room for 50,000 members: the others are asked for again.
#[test]
fn all_members_of_all_groups_are_shown_however_many_they_are() {
    let node = Setup::new().set("LIMITS_GROUPS_MAX", "100").start();
    let mut caller = node.caller();
    let friends = names("x", 600);
    let everybody: Vec<&str> = friends.iter().map(String::as_str).collect();
    caller.import(&["amy"]);
    caller.import(&everybody);
    assert_eq!(caller.import_friends("amy", &everybody).codes(), [0; 600]);
    let groups = names("group", 100);
    assert_eq!(add(&mut caller, json!(groups), json!(friends)).codes(), [0; 600]);
    let all = get(&mut caller, json!({"NeedFriend": "Need_Friend_Type_Yes"}));
    let group =
        |name: &String| json!({"GroupName": name, "FriendNumber": 600, "To_Account": friends});
    assert_eq!(all.items(), groups.iter().map(group).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn a_group_that_goes_leaves_its_friends() {
    let (node, mut caller) = people();
    add(&mut caller, json!(["work", "chess"]), json!(["bob"])).ok();
    let before = sequence(&get(&mut caller, json!({})));
    let body = json!({"From_Account": "amy", "GroupName": ["chess", "unknown"]});
    let gone = caller.call("sns/group_delete", &body).ok();
    assert!(sequence(&gone) > before);
    assert_eq!(gone.body.as_object().map(serde_json::Map::len), Some(5));
    let left = get(&mut caller, json!({"GroupName": ["chess", "work"]}));
    assert_eq!(left.items(), [json!({"GroupName": "work", "FriendNumber": 1})]);
    let record = json!({"From_Account": "amy", "To_Account": ["bob"],
        "TagList": ["Tag_SNS_IM_Group"]});
    let record = caller.call("sns/friend_get_list", &record).ok();
    let fields = json!([{"Tag": "Tag_SNS_IM_Group", "Value": ["work"]}]);
    assert_eq!(record.items()[0]["SnsProfileItem"], fields);
    node.restart().stop();
}

#[test]
fn what_a_caller_has_by_sequence_is_not_sent_again() {
    let (_node, mut caller) = people();
    add(&mut caller, json!(["work"]), json!(null)).ok();
    let known = sequence(&get(&mut caller, json!({})));
    let same = get(&mut caller, json!({"LastSequence": known}));
    assert_eq!((same.items().len(), sequence(&same)), (0, known));
    let named = get(&mut caller, json!({"LastSequence": known, "GroupName": ["work"]}));
    assert_eq!(named.items().len(), 1, "what is named is always sent");
    // Who is in a group is part of it.
    add(&mut caller, json!(["work"]), json!(["bob"])).ok();
    assert_eq!(get(&mut caller, json!({"LastSequence": known})).items().len(), 1);
    let known = sequence(&get(&mut caller, json!({})));
    caller.unfriend("amy", &["bob"], "Delete_Type_Single");
    let after = get(&mut caller, json!({"LastSequence": known}));
    assert_eq!(after.items(), [json!({"GroupName": "work", "FriendNumber": 0})]);
}

#[test]
fn answers_are_as_described_where_the_app_allows_more_groups_than_usual() {
    let node = Setup::new().set("LIMITS_GROUPS_MAX", "40").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.befriend("amy", &["bob"]);
    let most: Vec<String> = names("g", 40);
    assert_eq!(add(&mut caller, json!(most), json!(["bob"])).codes(), [0]);
    assert_eq!(get(&mut caller, json!({})).items().len(), 40);
    let record = json!({"From_Account": "amy", "To_Account": ["bob"],
        "TagList": ["Tag_SNS_IM_Group"]});
    let record = caller.call("sns/friend_get_list", &record).ok();
    let fields = json!([{"Tag": "Tag_SNS_IM_Group", "Value": most}]);
    assert_eq!(record.items()[0]["SnsProfileItem"], fields);
}

#[test]
fn there_are_as_many_groups_as_may_be_however_they_come_about() {
    let (node, mut caller) = people();
    let most: Vec<String> = names("g", 31);
    add(&mut caller, json!(most), json!(null)).ok();
    let item = |group: &str| {
        json!({"To_Account": "carl", "AddSource": "AddSource_Type_test",
        "GroupName": group})
    };
    let befriend = |group: &str| json!({"From_Account": "amy", "AddFriendItem": [item(group)]});
    assert_eq!(caller.call("sns/friend_add", &befriend("last")).codes(), [0]);
    assert_eq!(add(&mut caller, json!(["more"]), json!(null)).code(), 30011);
    assert_eq!(add(&mut caller, json!(["last"]), json!(["bob"])).codes(), [0]);
    let body = json!({"From_Account": "amy", "UpdateItem": [{"To_Account": "bob",
        "SnsItem": [{"Tag": "Tag_SNS_IM_Group", "Value": ["more"]}]}]});
    let refused = caller.call("sns/friend_update", &body).ok();
    assert_eq!(refused.codes(), [30011]);
    let text = "Err_SNS_FriendUpdate_Group_Num_Exceed_Threshold";
    assert_eq!(refused.items()[0]["ResultInfo"], text);
    for wrong in [json!([]), json!(null), json!("work"), json!([""]), json!(["x".repeat(31)])] {
        assert_eq!(add(&mut caller, wrong.clone(), json!(null)).code(), 30001, "{wrong}");
    }
    node.stop();
}
