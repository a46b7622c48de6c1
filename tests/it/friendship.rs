//! Friends through the door. Rule: rest-api.md 4.

use serde_json::{Value, json};

use crate::support::{Caller, Setup, TestNode, TestSubscriber, audit, names};

const EVERYBODY: [&str; 5] = ["amy", "bob", "carl", "dora", "eve"];

fn people() -> (TestNode, Caller) {
    people_of(Setup::new())
}

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    (node, caller)
}

fn single() -> Value {
    json!({"AddType": "Add_Type_Single"})
}

fn forced() -> Value {
    json!({"ForceAddFlags": 1})
}

#[test]
fn each_entry_of_an_addition_is_judged_by_itself() {
    let (_node, mut caller) = people();
    caller.block("amy", &["carl"]);
    caller.block("dora", &["amy"]);
    let item = |name: Value, source: &str| json!({"To_Account": name, "AddSource": source});
    let good = "AddSource_Type_test";
    let items = json!([
        item(json!("bob"), good),
        item(json!("bob"), good),
        item(json!("amy"), good),
        item(json!("carl"), good),
        item(json!("dora"), good),
        item(json!("nobody"), good),
        item(json!("no body"), good),
        item(json!("eve"), "AddSource_Type_muchtoolong"),
        item(json!("eve"), "elsewhere"),
        {"To_Account": "eve"},
        {"AddSource": good},
        item(json!("eve"), "AddSource_Type_ABCDEFGH"),
    ]);
    let body = json!({"From_Account": "amy", "AddFriendItem": items});
    let answer = caller.call("sns/friend_add", &body).ok();
    assert_eq!(
        answer.codes(),
        [0, 30001, 30001, 30515, 30525, 30003, 30002, 30001, 30001, 30001, 30001, 0]
    );
    assert_eq!(answer.failed().len(), 10);
    let text = |index: usize| answer.items()[index]["ResultInfo"].as_str().expect("a text");
    assert_eq!(text(1), "Err_SNS_FriendAdd_Friend_Exist");
    assert_eq!(text(3), "Err_SNS_FriendAdd_Friend_In_Self_BlackList");
    assert_eq!(text(4), "Err_SNS_FriendAdd_Self_In_Friend_BlackList");
    assert_eq!(text(6), "Err_SNS_FriendAdd_SdkAppId_Illegal");
    let friends = caller.friends("amy", &["bob", "carl", "dora", "eve"]);
    assert_eq!(friends.relations(), ["BothWay", "NoRelation", "NoRelation", "BothWay"]);

    for wrong in [json!({"AddType": "Both"}), json!({"ForceAddFlags": "1"}), json!({"AddType": 1})]
    {
        let mut body = wrong.clone();
        body["From_Account"] = json!("amy");
        body["AddFriendItem"] = json!([item(json!("bob"), good)]);
        assert_eq!(caller.call("sns/friend_add", &body).code(), 30001, "{wrong}");
    }
}

#[test]
fn the_missing_direction_is_added_and_announced_alone() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let news = || {
        node.settle();
        let heard = subscriber.take();
        assert!(heard.iter().all(|heard| heard.command() == "Sns.CallbackFriendAdd"));
        heard.iter().flat_map(|heard| heard.pairs()).collect::<Vec<_>>()
    };
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());

    assert_eq!(caller.add_friends("amy", &["bob"], &single()).codes(), [0]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["AWithB"]);
    assert_eq!(news(), [pair("amy", "bob")]);
    assert_eq!(caller.add_friends("amy", &["bob"], &single()).codes(), [30001]);
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [0]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["BothWay"]);
    assert_eq!(news(), [pair("bob", "amy")]);
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [30001]);
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [30001]);

    assert_eq!(caller.add_friends("carl", &["amy"], &single()).codes(), [0]);
    news();
    assert_eq!(caller.befriend("amy", &["carl"]).codes(), [0]);
    assert_eq!(caller.friends("amy", &["carl"]).relations(), ["BothWay"]);
    assert_eq!(news(), [pair("amy", "carl")]);
}

#[test]
fn the_wanted_friend_decides_unless_the_addition_is_forced() {
    let (_node, mut caller) = people();
    caller.allow("bob", "NeedConfirm");
    caller.allow("carl", "DenyAny");
    let both = ["bob", "carl"];
    assert_eq!(caller.befriend("amy", &both).codes(), [30539, 30516]);
    assert_eq!(caller.befriend("amy", &both).codes(), [30539, 30516], "asked again");
    assert_eq!(caller.add_friends("dora", &both, &single()).codes(), [0, 30516]);
    assert_eq!(caller.friends("dora", &both).relations(), ["AWithB", "NoRelation"]);
    assert_eq!(caller.add_friends("amy", &both, &forced()).codes(), [0, 0]);
    assert_eq!(caller.friends("amy", &both).relations(), ["BothWay", "BothWay"]);

    caller.block("bob", &["eve"]);
    caller.block("eve", &["carl"]);
    assert_eq!(caller.add_friends("eve", &both, &forced()).codes(), [30525, 30515]);
}

#[test]
fn who_may_not_ask_is_refused_unless_the_addition_is_forced() {
    let (_node, mut caller) = people();
    let forbidden = json!("AdminForbid_Type_SendOut");
    caller.set_profile("amy", &[("Tag_Profile_IM_AdminForbidType", forbidden)]).ok();
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [30009]);
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [0], "being asked is no asking");
    assert_eq!(caller.add_friends("amy", &["carl"], &forced()).codes(), [0]);
}

#[test]
fn what_only_the_wanted_friend_knows_comes_before_what_the_asker_may_not() {
    let setup = Setup::new().set("LIMITS_GROUPS_MAX", "1").set("LIMITS_FRIENDS_MAX", "1");
    let (_node, mut caller) = people_of(setup.set("BLOCK_REMAIN_FRIENDS", "true"));
    let add = |caller: &mut Caller, name: &str, group: &str, form: &str| {
        let item =
            json!({"To_Account": name, "AddSource": "AddSource_Type_test", "GroupName": group});
        let body = json!({"From_Account": "amy", "AddFriendItem": [item], "AddType": form});
        caller.call("sns/friend_add", &body).ok().codes()[0]
    };
    let (both, single) = ("Add_Type_Both", "Add_Type_Single");
    assert_eq!(add(&mut caller, "bob", "work", both), 0);
    caller.block("carl", &["amy"]);
    assert_eq!(add(&mut caller, "bob", "chess", both), 30001);
    assert_eq!(add(&mut caller, "carl", "", both), 30525, "and the list is full");
    assert_eq!(add(&mut caller, "carl", "chess", single), 30525);
    assert_eq!(add(&mut caller, "dora", "", both), 30010);
    let forbidden = json!("AdminForbid_Type_SendOut");
    caller.set_profile("amy", &[("Tag_Profile_IM_AdminForbidType", forbidden)]).ok();
    assert_eq!(add(&mut caller, "bob", "", both), 30001);
    assert_eq!(add(&mut caller, "carl", "", both), 30525);
    assert_eq!(add(&mut caller, "dora", "", both), 30009);
    // A block that leaves the friendship alone.
    caller.block("amy", &["bob", "dora"]);
    assert_eq!(add(&mut caller, "bob", "", both), 30001);
    assert_eq!(add(&mut caller, "dora", "", both), 30515);
}

#[test]
fn entries_about_one_account_are_judged_one_after_the_other() {
    let (_node, mut caller) = people_of(Setup::new().set("LIMITS_GROUPS_MAX", "1"));
    let made = json!({"From_Account": "amy", "GroupName": ["work"]});
    caller.call("sns/group_add", &made).ok();
    let items = |name: &str, items: &[Value]| {
        let item = |one: &Value| {
            let mut item = one.clone();
            item["To_Account"] = json!(name);
            item["AddSource"] = json!("AddSource_Type_test");
            item
        };
        json!({"From_Account": "amy", "AddFriendItem": items.iter().map(item).collect::<Vec<_>>()})
    };
    let import = items("bob", &[json!({}), json!({"GroupName": ["new"]})]);
    assert_eq!(caller.call("sns/friend_import", &import).codes(), [0, 30011]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["AWithB"]);
    let grouped = json!({"GroupName": "new"});
    let add = items("carl", &[grouped.clone(), json!({})]);
    assert_eq!(caller.call("sns/friend_add", &add).codes(), [30011, 0]);
    let add = items("dora", &[json!({}), grouped]);
    assert_eq!(caller.call("sns/friend_add", &add).codes(), [0, 30001]);
    caller.allow("eve", "NeedConfirm");
    let add = items("eve", &[json!({"AddWording": "a"}), json!({"AddWording": "b"})]);
    assert_eq!(caller.call("sns/friend_add", &add).codes(), [30539, 30539]);
    for (who, kind) in [("eve", "ComeIn"), ("amy", "SendOut")] {
        let body = json!({"From_Account": who, "PendencyType": format!("Pendency_Type_{kind}")});
        let waiting = caller.call("sns/pendency_get", &body).ok();
        assert_eq!(waiting.body["PendencyItem"][0]["AddWording"], "b", "{kind}");
    }
}

#[test]
fn two_who_ask_each_other_are_friends() {
    let (node, mut caller) =
        people_of(Setup::new().set("FRIEND_DEFAULT_ALLOW_TYPE", "need_confirm"));
    assert_eq!(caller.befriend("amy", &["bob"]).codes(), [30539]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["NoRelation"]);
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [0]);
    node.settle();
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["BothWay"]);
    assert_eq!(caller.friends("bob", &["amy"]).relations(), ["BothWay"]);
}

#[test]
fn lists_and_requests_have_limits() {
    let setup = Setup::new().set("LIMITS_FRIENDS_MAX", "2").set("LIMITS_REQUESTS_MAX", "1");
    let (_node, mut caller) = people_of(setup);
    assert_eq!(caller.befriend("amy", &["bob", "carl", "dora"]).codes(), [0, 0, 30010]);
    assert_eq!(caller.befriend("dora", &["amy"]).codes(), [30014]);
    assert_eq!(caller.import_friends("amy", &["dora", "bob"]).codes(), [30010, 0]);
    assert_eq!(
        caller.add_friends("dora", &["amy"], &single()).codes(),
        [0],
        "amy's list is as it was"
    );
    caller.unfriend("amy", &["bob"], "Delete_Type_Single");
    assert_eq!(caller.befriend("amy", &["eve"]).codes(), [0]);

    caller.allow("bob", "NeedConfirm");
    assert_eq!(caller.befriend("dora", &["bob"]).codes(), [30539]);
    assert_eq!(caller.befriend("eve", &["bob"]).codes(), [30012]);
}

#[test]
fn groups_have_a_limit() {
    let (_node, mut caller) = people_of(Setup::new().set("LIMITS_GROUPS_MAX", "1"));
    let mut add = |name: &str, group: &str| {
        let item =
            json!({"To_Account": name, "AddSource": "AddSource_Type_test", "GroupName": group});
        let body = json!({"From_Account": "amy", "AddFriendItem": [item]});
        caller.call("sns/friend_add", &body).ok().codes()[0]
    };
    assert_eq!(add("bob", "work"), 0);
    assert_eq!(add("carl", "chess"), 30011);
    assert_eq!(add("carl", "work"), 0);
    assert_eq!(add("dora", ""), 0);
}

#[test]
fn an_import_is_silent_one_way_and_asks_only_blocklists() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.allow("bob", "DenyAny");
    caller.block("amy", &["carl"]);
    caller.block("dora", &["amy"]);
    node.settle();
    subscriber.take();
    let answer = caller.import_friends("amy", &["bob", "carl", "dora", "amy", "nobody", "e ve"]);
    assert_eq!(answer.codes(), [0, 30515, 30525, 30001, 30003, 30002]);
    assert_eq!(answer.items()[1]["ResultInfo"], "Err_SNS_FriendImport_Friend_In_Self_BlackList");
    let friends = caller.friends("amy", &["bob", "carl", "dora"]);
    assert_eq!(friends.relations(), ["AWithB", "NoRelation", "NoRelation"]);
    assert_eq!(caller.import_friends("amy", &["bob"]).codes(), [0], "the record is overwritten");
    node.settle();
    assert_eq!(subscriber.take().len(), 0);
}

#[test]
fn an_import_of_a_friend_is_refused_when_either_blocks_the_other() {
    let (_node, mut caller) = people_of(Setup::new().set("BLOCK_REMAIN_FRIENDS", "true"));
    caller.befriend("amy", &["bob", "carl", "dora"]);
    caller.block("amy", &["bob"]);
    caller.block("carl", &["amy"]);
    let answer = caller.import_friends("amy", &["bob", "carl", "dora"]);
    assert_eq!(answer.codes(), [30515, 30525, 0]);
    let friends = caller.friends("amy", &["bob", "carl", "dora"]);
    assert_eq!(friends.relations(), ["BothWay"; 3]);
}

#[test]
fn an_import_may_ignore_blocklists_if_the_app_says_so() {
    let setup = Setup::new().set("FRIEND_IMPORT_IGNORES_BLOCKLIST", "true");
    let (_node, mut caller) = people_of(setup);
    caller.block("amy", &["carl"]);
    caller.block("dora", &["amy"]);
    assert_eq!(caller.import_friends("amy", &["carl", "dora"]).codes(), [0, 0]);
    assert_eq!(caller.friends("amy", &["carl", "dora"]).relations(), ["AWithB", "AWithB"]);
    assert_eq!(caller.befriend("amy", &["carl"]).codes(), [30515], "an addition does not");
}

#[test]
fn a_removal_is_of_one_side_or_of_both() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.befriend("amy", &["bob", "carl", "dora"]);
    caller.import_friends("eve", &["amy"]);
    caller.import_friends("carl", &["dora"]);
    node.settle();
    subscriber.take();
    assert_eq!(caller.unfriend("carl", &["dora"], "Delete_Type_Both").codes(), [0]);

    assert_eq!(caller.unfriend("amy", &["bob"], "Delete_Type_Single").codes(), [0]);
    assert_eq!(caller.friends("amy", &["bob"]).relations(), ["BWithA"]);
    let answer = caller.unfriend("amy", &["bob"], "Delete_Type_Single");
    assert_eq!(answer.codes(), [31704]);
    assert_eq!(answer.items()[0]["ResultInfo"], "Err_SNS_FriendDelete_Not_Friend");
    assert_eq!(answer.failed(), [""; 0], "never for removals");

    // With both sides meant, either direction counts, and once.
    let targets = ["bob", "carl", "eve", "amy", "nobody", "e ve", "bob", "carl"];
    let answer = caller.unfriend("amy", &targets, "Delete_Type_Both");
    assert_eq!(answer.codes(), [0, 0, 0, 30001, 30003, 30002, 31704, 31704]);
    let everybody = ["bob", "carl", "dora", "eve"];
    assert_eq!(
        caller.friends("amy", &everybody).relations(),
        ["NoRelation", "NoRelation", "BothWay", "NoRelation"]
    );
    let without_type = json!({"From_Account": "amy", "To_Account": ["dora"]});
    assert_eq!(caller.call("sns/friend_delete", &without_type).ok().codes(), [0]);
    assert_eq!(caller.friends("amy", &["dora"]).relations(), ["BWithA"], "single by default");
    let wrong = json!({"From_Account": "amy", "To_Account": ["dora"], "DeleteType": "Both"});
    assert_eq!(caller.call("sns/friend_delete", &wrong).code(), 30001);

    node.settle();
    let heard = subscriber.take();
    let mut pairs: Vec<(String, String)> = heard.iter().flat_map(|heard| heard.pairs()).collect();
    pairs.sort_unstable();
    let expected = [
        ("amy", "bob"),
        ("amy", "carl"),
        ("amy", "dora"),
        ("bob", "amy"),
        ("carl", "amy"),
        ("carl", "dora"),
        ("eve", "amy"),
    ];
    assert_eq!(pairs, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
    assert!(heard.iter().all(|heard| heard.command() == "Sns.CallbackFriendDelete"));
}

#[test]
fn a_check_of_friends_knows_its_types_and_their_old_spelling() {
    let (_node, mut caller) = people();
    caller.import_friends("amy", &["bob"]);
    caller.import_friends("carl", &["amy"]);
    let mut check = |check_type: Value| {
        let body = json!({"From_Account": "amy", "To_Account": ["bob", "carl", "dora", "nobody"],
            "CheckType": check_type});
        caller.call("sns/friend_check", &body)
    };
    for one_side in ["CheckResult_Type_Single", "CheckResult_Type_Singal"] {
        let answer = check(json!(one_side)).ok();
        let relations = answer.relations();
        assert_eq!(relations, ["AWithB", "NoRelation", "NoRelation", "NoRelation"]);
    }
    let answer = check(json!("CheckResult_Type_Both")).ok();
    assert_eq!(answer.relations(), ["AWithB", "BWithA", "NoRelation", "NoRelation"]);
    assert_eq!(answer.codes(), [0, 0, 0, 30003]);
    assert_eq!(answer.failed(), ["nobody"]);
    assert_eq!(check(json!("BlackCheckResult_Type_Both")).code(), 30001);
}

#[test]
fn a_thousand_friends_are_lost_in_one_block() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    let all = names("x", 1000);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);
    for hundred in all.chunks(100) {
        assert_eq!(caller.befriend("amy", hundred).codes(), [0; 100]);
    }
    assert_eq!(caller.friends("amy", &all).relations(), ["BothWay"; 1000]);
    node.settle();
    let heard = subscriber.take();
    assert_eq!(heard.len(), 10, "one request is one call");
    assert!(heard.iter().all(|heard| heard.pairs().len() == 200));

    assert_eq!(caller.block("amy", &all).codes(), [0; 1000]);
    assert_eq!(caller.friends("amy", &all).relations(), ["NoRelation"; 1000]);
    node.settle();
    let heard = subscriber.take();
    let commands: Vec<&str> = heard.iter().map(|heard| heard.command()).collect();
    assert_eq!(commands, ["Sns.CallbackFriendDelete", "Sns.CallbackBlackListAdd"]);
    assert_eq!((heard[0].pairs().len(), heard[1].pairs().len()), (2000, 1000));
}

#[test]
fn of_an_account_named_twice_in_an_import_the_last_entry_counts() {
    let (node, mut caller) = people();
    let item = |name: &str, remark: &str| json!({"To_Account": name, "AddSource": "AddSource_Type_test", "Remark": remark});
    let items = [item("bob", "one"), item("carl", ""), item("bob", "two"), item("nobody", "")];
    let body = json!({"From_Account": "amy", "AddFriendItem": items});
    let answer = caller.call("sns/friend_import", &body).ok();
    assert_eq!(answer.codes(), [0, 0, 0, 30003]);
    let (_, records) =
        audit(node.setup(), &["replay", "--json", "--user", "amy", "--type", "FriendAdded"]);
    assert!(records.contains(r#""remark":"two""#), "{records}");
    assert!(!records.contains(r#""remark":"one""#), "{records}");
}

/// What an asker was told stays as it was told, whoever else asks meanwhile.
#[test]
fn many_who_ask_and_block_at_once_leave_no_friend_behind_a_block() {
    let (node, mut caller) = people();
    std::thread::scope(|scope| {
        for owner in EVERYBODY {
            let mut caller = node.caller();
            scope.spawn(move || {
                let others = EVERYBODY.into_iter().filter(|name| *name != owner);
                let others: Vec<&str> = others.collect();
                for turn in 0..20 {
                    caller.befriend(owner, &others);
                    let target = others[turn % others.len()];
                    let answer = caller.block(owner, &[target]);
                    assert_eq!(answer.codes(), [0]);
                    assert_eq!(caller.friends(owner, &[target]).relations(), ["NoRelation"]);
                    assert_eq!(caller.unblock(owner, &[target]).codes(), [0]);
                }
                caller.block(owner, &others);
            });
        }
    });
    for owner in EVERYBODY {
        let others: Vec<&str> = EVERYBODY.into_iter().filter(|name| *name != owner).collect();
        assert_eq!(caller.blocks(owner, &others).relations(), ["BothWay"; 4]);
        assert_eq!(caller.friends(owner, &others).relations(), ["NoRelation"; 4]);
    }
}
