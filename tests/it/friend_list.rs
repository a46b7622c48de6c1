//! The friend list through the door: records, pages, look-ups. Rule: rest-api.md 4.4, 4.6, 4.8, 4.9.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Setup, TestNode, TestSubscriber, names};

fn people() -> (TestNode, Caller) {
    let node = Setup::new().set("FRIEND_CUSTOM_FIELDS", "Note,Mood").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl", "dora"]);
    (node, caller)
}

fn get(caller: &mut Caller, start: u64, sequences: (u64, u64)) -> Answer {
    let (standard, custom) = sequences;
    let body = json!({"From_Account": "amy", "StartIndex": start, "StandardSequence": standard,
        "CustomSequence": custom});
    caller.call("sns/friend_get", &body).ok()
}

fn look_up(caller: &mut Caller, whom: &[&str], tags: Value) -> Answer {
    let body = json!({"From_Account": "amy", "To_Account": whom, "TagList": tags});
    caller.call("sns/friend_get_list", &body).ok()
}

/// The fields of an entry, by tag.
fn fields(item: &Value, list: &str) -> Vec<(String, Value)> {
    let items = item[list].as_array().expect("a list of fields");
    let mut fields: Vec<(String, Value)> = items
        .iter()
        .map(|field| (field["Tag"].as_str().expect("a tag").to_owned(), field["Value"].clone()))
        .collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn update(caller: &mut Caller, whom: &str, fields: Value) -> Answer {
    let body = json!({"From_Account": "amy",
        "UpdateItem": [{"To_Account": whom, "SnsItem": fields}]});
    caller.call("sns/friend_update", &body).ok()
}

fn sequences(answer: &Answer) -> (u64, u64) {
    let number = |name: &str| answer.body[name].as_u64().expect("a number");
    (number("StandardSequence"), number("CustomSequence"))
}

#[test]
fn a_list_comes_in_pages_that_have_everybody_once_and_end() {
    let (node, mut caller) = people();
    let all = names("u", 250);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);
    assert!(caller.befriend("amy", &all).codes().iter().all(|code| *code == 0));
    let (mut seen, mut start) = (Vec::new(), 0);
    for page in [100, 100, 50] {
        let answer = get(&mut caller, start, (0, 0));
        assert_eq!(answer.body["FriendNum"], 250);
        assert_eq!(answer.items().len(), page);
        seen.extend(answer.names().into_iter().map(str::to_owned));
        start = answer.body["NextStartIndex"].as_u64().expect("a number");
        assert_eq!(answer.body["CompleteFlag"], u64::from(page == 50));
    }
    assert_eq!(start, 0);
    seen.sort_unstable();
    assert_eq!(seen, all);
    let behind = get(&mut caller, 250, (0, 0));
    assert_eq!((behind.items().len(), &behind.body["NextStartIndex"]), (0, &json!(0)));
    node.stop();
}

#[test]
fn an_empty_list_has_no_sequence_and_is_complete() {
    let (_node, mut caller) = people();
    let answer = get(&mut caller, 0, (0, 0));
    assert_eq!(sequences(&answer), (0, 0));
    assert_eq!(answer.body["UserDataItem"], json!([]));
    assert_eq!((&answer.body["FriendNum"], &answer.body["CompleteFlag"]), (&json!(0), &json!(1)));
}

#[test]
fn what_a_caller_has_by_sequence_is_left_out_of_the_first_page() {
    let (_node, mut caller) = people();
    let custom = json!({"Tag": "Tag_SNS_Custom_Note", "Value": "tall"});
    let item = json!({"To_Account": "bob", "AddSource": "AddSource_Type_test", "Remark": "Bobby",
        "CustomItem": [custom]});
    caller.call("sns/friend_import", &json!({"From_Account": "amy", "AddFriendItem": [item]})).ok();
    let all = get(&mut caller, 0, (0, 0));
    let known = sequences(&all);
    assert!(known.0 > 0 && known.1 > 0);
    let tags = |answer: &Answer| -> Vec<String> {
        fields(&answer.items()[0], "ValueItem").into_iter().map(|(tag, _)| tag).collect()
    };
    let standard = ["Tag_SNS_IM_AddSource", "Tag_SNS_IM_AddTime", "Tag_SNS_IM_Remark"];
    assert_eq!(tags(&all)[1..], standard);
    assert_eq!(tags(&get(&mut caller, 0, (known.0, 0))), ["Tag_SNS_Custom_Note"]);
    assert_eq!(tags(&get(&mut caller, 0, (0, known.1))), standard);
    assert_eq!(tags(&get(&mut caller, 0, known)), Vec::<String>::new());
    update(&mut caller, "bob", json!([{"Tag": "Tag_SNS_IM_Remark", "Value": "Rob"}]));
    let after = sequences(&get(&mut caller, 0, known));
    assert!(after.0 > known.0 && after.1 == known.1, "only standard fields changed: {after:?}");
}

#[test]
fn an_update_changes_the_fields_it_names_and_refuses_the_others() {
    let (node, mut caller) = people();
    caller.befriend("amy", &["bob"]);
    let set = |tag: &str, value: Value| json!([{"Tag": tag, "Value": value}]);
    for (fields, code) in [
        (set("Tag_SNS_IM_Remark", json!("Robert")), 0),
        (set("Tag_SNS_IM_Group", json!(["work", "chess", "work"])), 0),
        (set("Tag_SNS_Custom_Note", json!("tall")), 0),
        (set("Tag_SNS_Custom_Mood", json!(3)), 0),
        (set("Tag_SNS_Custom_Other", json!("x")), 30001),
        (set("Tag_SNS_IM_AddSource", json!("AddSource_Type_x")), 30001),
        (set("Tag_SNS_IM_Remark", json!("x".repeat(97))), 30001),
        (set("Tag_SNS_IM_Remark", json!(7)), 30001),
        (set("Tag_SNS_IM_Group", json!([7])), 30001),
        (set("Tag_SNS_IM_Group", json!("")), 30001),
        (json!([]), 30001),
        (json!([7]), 30001),
    ] {
        assert_eq!(update(&mut caller, "bob", fields.clone()).codes(), [code], "{fields}");
    }
    let found = look_up(&mut caller, &["bob"], json!(null));
    let expected = [
        ("Tag_SNS_Custom_Mood", json!("3")),
        ("Tag_SNS_Custom_Note", json!("tall")),
        ("Tag_SNS_IM_AddSource", json!("AddSource_Type_test")),
        ("Tag_SNS_IM_AddTime", json!(1_700_000_100)),
        ("Tag_SNS_IM_Group", json!(["work", "chess"])),
        ("Tag_SNS_IM_Remark", json!("Robert")),
    ];
    let expected = expected.map(|(tag, value)| (tag.to_owned(), value));
    assert_eq!(fields(&found.items()[0], "SnsProfileItem"), expected);
    // A bare text is a list of one; an empty value is none.
    let cleared = json!([{"Tag": "Tag_SNS_IM_Group", "Value": "work"},
        {"Tag": "Tag_SNS_IM_Remark", "Value": ""}, {"Tag": "Tag_SNS_Custom_Note", "Value": ""}]);
    assert_eq!(update(&mut caller, "bob", cleared).codes(), [0]);
    let found = look_up(&mut caller, &["bob"], json!(null));
    let left = fields(&found.items()[0], "SnsProfileItem");
    assert_eq!(left.iter().find(|(tag, _)| tag.ends_with("Group")).unwrap().1, json!(["work"]));
    assert!(!left.iter().any(|(tag, _)| tag.ends_with("Remark") || tag.ends_with("Note")));
    // The other side's record is its own.
    let theirs = json!({"From_Account": "bob", "To_Account": ["amy"]});
    let theirs = caller.call("sns/friend_get_list", &theirs).ok();
    assert!(!theirs.body.to_string().contains("work"));
    node.stop();
}

#[test]
fn a_change_of_one_of_many_friends_records_that_one() {
    let (node, mut caller) = people();
    let all = names("u", 300);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);
    caller.import_friends("amy", &all);
    let fields = json!([{"Tag": "Tag_SNS_IM_Remark", "Value": "one"}]);
    let answer = update(&mut caller, "u0007", fields.clone());
    let position = answer.header("cordon-position").expect("something changed").to_owned();
    assert!(update(&mut caller, "u0007", fields).header("cordon-position").is_none(), "a repeat");
    let stopped = node.stop();
    let (partition, offset) = position.split_once('@').expect("partition@offset");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (code, text) = crate::support::audit(&stopped.setup, &["replay", "--json"]);
    assert_eq!(code, 0, "{text}");
    let record = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|line| line["partition"] == number(partition) && line["offset"] == number(offset))
        .expect("the record");
    let events = json!([{"type": "FriendChanged", "peer": "u0007", "remark": "one"}]);
    assert_eq!(record["events"], events);
}

#[test]
fn a_look_up_answers_fields_of_friends_and_of_their_profiles() {
    let (_node, mut caller) = people();
    caller.befriend("amy", &["bob"]);
    caller.set_profile("bob", &[("Tag_Profile_IM_Level", json!(7))]).ok();
    let tags = json!([
        "Tag_Profile_IM_Level",
        "Tag_Profile_IM_Nick",
        "Tag_SNS_IM_Remark",
        "Tag_SNS_IM_AddSource",
        "Tag_Nonsense"
    ]);
    let found = look_up(&mut caller, &["bob", "carl", "nobody", "a b"], tags);
    assert_eq!(found.codes(), [0, 30001, 30003, 30002]);
    assert_eq!(found.failed(), ["carl", "nobody", "a b"]);
    let text = "Err_SNS_FriendGetList_Friend_Not_Exist";
    assert_eq!(found.items()[1]["ResultInfo"], text);
    assert!(found.items()[1].get("SnsProfileItem").is_none());
    let expected = [
        ("Tag_Profile_IM_Level", json!(7)),
        ("Tag_Profile_IM_Nick", json!("")),
        ("Tag_SNS_IM_AddSource", json!("AddSource_Type_test")),
    ];
    let expected = expected.map(|(tag, value)| (tag.to_owned(), value));
    assert_eq!(fields(&found.items()[0], "SnsProfileItem"), expected);
    let many: Vec<String> = names("u", 101);
    let body = json!({"From_Account": "amy", "To_Account": many});
    assert_eq!(caller.call("sns/friend_get_list", &body).code(), 30001);
}

#[test]
fn a_list_of_tags_that_is_missing_asks_for_all_of_friends_and_an_empty_one_is_refused() {
    let (_node, mut caller) = people();
    caller.befriend("amy", &["bob"]);
    let mut asked = |tags: Value| {
        let body = json!({"From_Account": "amy", "To_Account": ["bob"], "TagList": tags});
        caller.call("sns/friend_get_list", &body)
    };
    let all = asked(json!(null)).ok();
    let found: Vec<String> =
        fields(&all.items()[0], "SnsProfileItem").into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(found, ["Tag_SNS_IM_AddSource", "Tag_SNS_IM_AddTime"]);
    assert_eq!(asked(json!([])).code(), 30001);
}

#[test]
fn all_friends_are_removed_in_silence_from_one_list_or_from_both() {
    let subscriber = TestSubscriber::start();
    let node = Setup::new().webhook(&subscriber).start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl", "dora"]);
    caller.befriend("amy", &["bob", "carl"]);
    caller.block("amy", &["dora"]);
    let group = json!({"From_Account": "amy", "GroupName": ["work"], "To_Account": ["bob"]});
    caller.call("sns/group_add", &group).ok();
    node.settle();
    subscriber.take();
    let clear = |caller: &mut Caller, how: Option<&str>| {
        let body = json!({"From_Account": "amy", "DeleteType": how});
        caller.call("sns/friend_delete_all", &body)
    };
    let cleared = clear(&mut caller, None).ok();
    assert_eq!(cleared.body.as_object().map(serde_json::Map::len), Some(4), "{}", cleared.body);
    assert_eq!(caller.friends("amy", &["bob", "carl"]).relations(), ["BWithA", "BWithA"]);
    assert_eq!(caller.befriend("amy", &["bob", "carl"]).codes(), [0, 0]);
    clear(&mut caller, Some("Delete_Type_Both")).ok();
    assert_eq!(caller.friends("amy", &["bob", "carl"]).relations(), ["NoRelation"; 2]);
    clear(&mut caller, Some("Delete_Type_Both")).ok();
    assert_eq!(clear(&mut caller, Some("Both")).code(), 30001);
    let groups = caller.call("sns/group_get", &json!({"From_Account": "amy"})).ok();
    assert_eq!(groups.items(), [json!({"GroupName": "work", "FriendNumber": 0})]);
    assert_eq!(caller.blocklist("amy", 0, 10).0, ["dora"]);
    node.settle();
    let heard = subscriber.take();
    let commands: Vec<&str> = heard.iter().map(|heard| heard.command()).collect();
    assert_eq!(commands, ["Sns.CallbackFriendAdd"], "the two that were missing, and no removal");
    node.stop();
}
