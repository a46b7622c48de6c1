//! Accounts through the door. Rule: rest-api.md 6.

use serde_json::{Value, json};

use crate::support::{Caller, Setup, TestNode, TestSubscriber, names};

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl", "dora"]);
    (node, caller)
}

#[test]
fn accounts_are_imported_once_and_answers_have_no_display_text() {
    let (_node, mut caller) = people_of(Setup::new());
    let call = "im_open_login_svc/account_import";
    for body in [
        json!({"UserID": "eve", "Nick": "Eve", "FaceUrl": ""}),
        json!({"UserID": "eve"}),
        json!({"Identifier": "fred", "Type": 0}),
        json!({"UserID": "gina", "Identifier": "no name", "Nick": null}),
        json!({"UserID": "hugo", "Nick": "x".repeat(500)}),
    ] {
        let answer = caller.call(call, &body).ok();
        assert_eq!(answer.body, json!({"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}));
    }
    for (body, code) in [
        (json!({}), 70402),
        (json!({"UserID": ""}), 70402),
        (json!({"UserID": "e ve"}), 70402),
        (json!({"UserID": "é"}), 70402),
        (json!({"UserID": "x".repeat(33)}), 70402),
        (json!({"UserID": 7}), 60015),
        (json!({"UserID": "ivan", "Nick": "x".repeat(501)}), 40601),
        (json!({"UserID": "ivan", "FaceUrl": "x".repeat(501)}), 40601),
    ] {
        let answer = caller.call(call, &body);
        assert_eq!(answer.code(), code, "{body}");
        assert!(answer.body.get("ErrorDisplay").is_none());
    }
    let statuses =
        caller.account_statuses(&["eve", "fred", "gina", "hugo", "ivan", "administrator"]);
    let imported = |yes| if yes { "Imported" } else { "NotImported" };
    assert_eq!(statuses, [true, true, true, true, false, true].map(imported));
}

#[test]
fn a_hundred_accounts_are_imported_at_once() {
    let (_node, mut caller) = people_of(Setup::new());
    let call = "im_open_login_svc/multiaccount_import";
    let hundred = names("x", 100);
    caller.call(call, &json!({ "Accounts": hundred })).ok();
    let entries: Vec<Value> = hundred.iter().map(|name| json!({"UserID": name})).collect();
    assert_eq!(
        caller.call(call, &json!({"AccountList": entries})).ok().body["FailAccounts"],
        json!([])
    );
    assert_eq!(caller.call(call, &json!({"Accounts": names("y", 101)})).code(), 70402);
    assert_eq!(caller.call(call, &json!({"Accounts": []})).code(), 70402);
    assert_eq!(caller.call(call, &json!({})).code(), 70402);
    assert_eq!(caller.account_statuses(&["x0099", "y0000"]), ["Imported", "NotImported"]);

    // Names and values that are not legal fail alone.
    let list = json!([{"UserID": "ivan"}, {"UserID": "i van"}, {"UserID": "jan", "Nick": "x".repeat(501)}]);
    let answer = caller.call(call, &json!({ "AccountList": list })).ok();
    assert_eq!(answer.body["FailAccounts"], json!(["i van", "jan"]));
    assert_eq!(caller.account_statuses(&["ivan", "jan"]), ["Imported", "NotImported"]);
}

#[test]
fn of_several_entries_for_one_account_each_counts_for_the_fields_that_it_has() {
    let (_node, mut caller) = people_of(Setup::new());
    let list = json!([
        {"UserID": "eve", "Nick": "first", "FaceUrl": "face"},
        {"UserID": "fred", "Nick": "Fred"},
        {"UserID": "eve", "Nick": "last"},
        {"UserID": "eve", "Nick": "x".repeat(501)},
        {"UserID": "eve", "Nick": "", "FaceUrl": null},
        {"UserID": "fred", "FaceUrl": "y"},
    ]);
    let call = "im_open_login_svc/multiaccount_import";
    let answer = caller.call(call, &json!({ "AccountList": list })).ok();
    assert_eq!(answer.body["FailAccounts"], json!(["eve"]), "the one that is too long");
    let tags = ["Tag_Profile_IM_Nick", "Tag_Profile_IM_Image"];
    let body = json!({"To_Account": ["eve", "fred"], "TagList": tags});
    let shown = caller.call("profile/portrait_get", &body).ok();
    let profiles = shown.body["UserProfileItem"].as_array().expect("a list");
    let values = profiles.iter().map(|profile| {
        let value = |at: usize| profile["ProfileItem"][at]["Value"].clone();
        json!([value(0), value(1)])
    });
    assert_eq!(values.collect::<Value>(), json!([["last", "face"], ["Fred", "y"]]));
}

#[test]
fn a_deleted_account_is_forgotten_by_everybody() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.import(&["eve", "fred"]);
    caller.allow("fred", "NeedConfirm");
    caller.befriend("bob", &["amy", "dora"]);
    caller.import_friends("carl", &["bob"]);
    caller.block("eve", &["bob", "carl"]);
    caller.block("bob", &["eve"]);
    assert_eq!(caller.befriend("bob", &["fred"]).codes(), [30539]);
    node.settle();
    subscriber.take();

    let answer = caller.delete_accounts(&["bob", "nobody"]);
    assert_eq!(answer.codes(), [0, 70107]);
    assert_eq!(answer.items()[1]["UserID"], "nobody");
    assert_eq!(answer.items()[1]["ResultInfo"], "Err_TLS_PT_Open_Login_Account_Not_Exist");
    assert_eq!(caller.account_statuses(&["bob"]), ["NotImported"]);
    assert_eq!(caller.blocklist("eve", 0, 10).0, ["carl"]);
    for name in ["amy", "carl", "dora", "eve"] {
        assert_eq!(caller.friends(name, &["bob"]).codes(), [30003], "{name}");
    }
    assert_eq!(caller.block("amy", &["bob"]).codes(), [30003]);
    let from_bob = json!({"From_Account": "bob", "To_Account": ["amy"]});
    assert_eq!(caller.call("sns/black_list_add", &from_bob).code(), 30003);

    // A new account of that name begins with nothing, on either side.
    caller.import(&["bob"]);
    let everybody = ["amy", "carl", "dora", "eve", "fred"];
    assert_eq!(caller.friends("bob", &everybody).relations(), ["NoRelation"; 5]);
    assert_eq!(caller.blocks("bob", &everybody).relations(), ["NO"; 5]);
    assert_eq!(caller.blocklist("bob", 0, 10), (Vec::new(), 0));
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [0]);
    node.settle();
    let heard = subscriber.take();
    let commands: Vec<&str> = heard.iter().map(|heard| heard.command()).collect();
    assert_eq!(commands, ["Sns.CallbackFriendAdd"], "nothing is said of what vanishes");

    // It is the same after a restart that reads everything again.
    drop(caller);
    let stopped = node.stop();
    std::fs::remove_dir_all(stopped.setup.data_dir().join("state")).expect("there is a store");
    let node = stopped.start();
    let mut caller = node.caller();
    assert_eq!(
        caller.friends("bob", &everybody).relations(),
        ["BothWay", "NoRelation", "NoRelation", "NoRelation", "NoRelation"]
    );
    assert_eq!(caller.blocklist("eve", 0, 10).0, ["carl"]);
}

#[test]
fn a_deletion_names_one_to_a_hundred_legal_accounts() {
    let (_node, mut caller) = people_of(Setup::new());
    let call = "im_open_login_svc/account_delete";
    let items =
        |names: &[String]| -> Value { names.iter().map(|name| json!({"UserID": name})).collect() };
    for wrong in
        [json!([]), items(&names("x", 101)), json!([{"UserID": "amy"}, {"UserID": "a my"}])]
    {
        assert_eq!(caller.call(call, &json!({"DeleteItem": wrong})).code(), 70402);
    }
    assert_eq!(caller.call(call, &json!({"DeleteItem": [{"UserID": 7}]})).code(), 60015);
    assert_eq!(caller.account_statuses(&["amy"]), ["Imported"], "nothing was deleted");
    let hundred = names("x", 100);
    caller.import(&hundred.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = caller.call(call, &json!({"DeleteItem": items(&hundred)})).ok();
    assert_eq!(answer.codes(), [0; 100]);
}

#[test]
fn an_app_may_forbid_deletions() {
    let (_node, mut caller) = people_of(Setup::new().set("ACCOUNT_DELETE_ALLOWED", "false"));
    let body = json!({"DeleteItem": [{"UserID": "amy"}]});
    assert_eq!(caller.call("im_open_login_svc/account_delete", &body).code(), 71000);
    assert_eq!(caller.account_statuses(&["amy"]), ["Imported"]);
}

#[test]
fn a_check_tells_of_each_account() {
    let (_node, mut caller) = people_of(Setup::new());
    let answer = caller.call(
        "im_open_login_svc/account_check",
        &json!({"CheckItem": [{"UserID": "amy"}, {"UserID": "nobody"}, {"UserID": "a my"}]}),
    );
    let answer = answer.ok();
    assert_eq!(answer.codes(), [0, 0, 70402]);
    let many: Vec<Value> = names("x", 101).iter().map(|name| json!({"UserID": name})).collect();
    let answer = caller.call("im_open_login_svc/account_check", &json!({"CheckItem": many}));
    assert_eq!(answer.code(), 70402);
}
