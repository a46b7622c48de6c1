//! `Idempotency-Key` through the door. Rule: extensions.md 1.

use cordon::domain::{
    Card, Command, FormerFriend, Message, NewFriend, OfferForm, ProfileChange, UserId,
};
use serde_json::{Value, json};

use crate::support::{
    Answer, Caller, Setup, TestNode, TestProcess, audit, friends_wanted, outlived, unheard,
};

fn people() -> (TestNode, Caller) {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl"]);
    (node, caller)
}

fn block(targets: &[&str]) -> Value {
    json!({"From_Account": "amy", "To_Account": targets})
}

fn same(first: &Answer, again: &Answer) {
    assert_eq!(first.text(), again.text());
    assert_eq!(first.header("cordon-position"), again.header("cordon-position"));
}

#[test]
fn a_repeat_is_answered_as_the_first_time_byte_for_byte() {
    let (node, mut caller) = people();
    let body = block(&["bob", "nobody", "bob"]);
    let first = caller.call_keyed("sns/black_list_add", "k1", &body).ok();
    assert_eq!(first.codes(), [0, 30003, 30001]);
    caller.import(&["nobody"]);
    caller.unblock("amy", &["bob"]);
    same(&first, &caller.call_keyed("sns/black_list_add", "k1", &body));
    assert!(caller.blocklist("amy", 0, 10).0.is_empty(), "nothing was done again");
    // Without the key, and under another one, it is another call.
    assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
    let other = caller.call_keyed("sns/black_list_add", "k2", &body).ok();
    assert_eq!(other.codes(), [30001, 0, 30001]);
    let node = node.restart();
    let mut caller = node.caller();
    same(&first, &caller.call_keyed("sns/black_list_add", "k1", &body));
    same(&other, &caller.call_keyed("sns/black_list_add", "k2", &body));
    node.stop();
}

#[test]
fn a_call_that_failed_as_a_whole_is_answered_so_again() {
    let (_node, mut caller) = people();
    let body = json!({"From_Account": "amy", "GroupName": []});
    let first = caller.call_keyed("sns/group_add", "k", &body);
    assert_eq!(first.code(), 30001);
    same(&first, &caller.call_keyed("sns/group_add", "k", &body));
    let profile = json!({"From_Account": "amy",
        "ProfileItem": [{"Tag": "Tag_Profile_IM_Nonsense", "Value": 1}]});
    let first = caller.call_keyed("profile/portrait_set", "p", &profile);
    assert_eq!(first.code(), 40009);
    same(&first, &caller.call_keyed("profile/portrait_set", "p", &profile));
}

#[test]
fn a_key_stands_for_one_path_and_body() {
    let (_node, mut caller) = people();
    caller.call_keyed("sns/black_list_add", "k", &block(&["bob"])).ok();
    let other = caller.call_keyed("sns/black_list_add", "k", &block(&["carl"]));
    assert_eq!(other.code(), 60002);
    assert!(other.body.get("ErrorDisplay").is_none());
    assert_eq!(caller.call_keyed("sns/black_list_delete", "k", &block(&["bob"])).code(), 60002);
    assert_eq!(caller.blocklist("amy", 0, 10).0, ["bob"]);
    for wrong in ["", &"x".repeat(65), "a\tb", "\u{e4}"] {
        let answer = caller.call_keyed("sns/black_list_add", wrong, &block(&["bob"]));
        assert_eq!(answer.code(), 60002, "{wrong:?}");
    }
    // Who only looks needs no key.
    let look = json!({"From_Account": "amy"});
    caller.call_keyed("sns/black_list_get", "k", &look).ok();
}

#[test]
fn a_key_stands_for_one_call_in_the_whole_app() {
    let (_node, mut caller) = people();
    caller.call_keyed("sns/black_list_add", "k", &block(&["bob"])).ok();
    let of_another = json!({"From_Account": "carl", "To_Account": ["bob"]});
    assert_eq!(caller.call_keyed("sns/black_list_add", "k", &of_another).code(), 60002);
    assert!(caller.blocklist("carl", 0, 10).0.is_empty());
    let import = json!({"UserID": "dora"});
    caller.call_keyed("im_open_login_svc/account_import", "i", &import).ok();
    let many = json!({"Accounts": ["dora", "eve"]});
    let refused = caller.call_keyed("im_open_login_svc/multiaccount_import", "i", &many);
    assert_eq!(refused.code(), 60002);
    assert_eq!(caller.account_statuses(&["eve"]), ["NotImported"]);
}

#[test]
fn what_is_kept_reads_like_no_other_row_and_ends_with_its_day() {
    let (node, mut caller) = people();
    // The hash of the key "x" as a name: one row for both.
    let hash = "2d711642b726b04401627ca9fbac32f5";
    caller.import(&[hash]);
    let both = block(&["bob", hash]);
    assert_eq!(caller.call_keyed("sns/black_list_add", "x", &both).codes(), [0, 0]);
    let node = node.restart();
    let mut caller = node.caller();
    caller.befriend("amy", &["carl"]);
    node.pass_ms(24 * 60 * 60 * 1000 + 1);
    let clear = json!({"From_Account": "amy"});
    caller.call_keyed("sns/friend_delete_all", "y", &clear).ok();
    let delete = json!({"DeleteItem": [{"UserID": "amy"}, {"UserID": "amy"}]});
    let deleted = caller.call_keyed("im_open_login_svc/account_delete", "z", &delete).ok();
    assert_eq!(deleted.codes(), [0, 70107]);
    node.stop();
}

#[test]
fn a_book_of_kept_answers_is_no_account() {
    let (_node, mut caller) = people();
    let name = "~kept-answers-0001";
    let import = json!({ "UserID": name });
    assert_eq!(caller.call("im_open_login_svc/account_import", &import).code(), 70402);
    let many = json!({"Accounts": ["dora", name]});
    let many = caller.call("im_open_login_svc/multiaccount_import", &many).ok();
    assert_eq!(many.body["FailAccounts"], json!([name]));
    assert_eq!(caller.block("amy", &[name]).codes(), [30003]);
}

#[test]
fn a_key_is_free_again_after_a_day() {
    let (node, mut caller) = people();
    caller.call_keyed("sns/black_list_add", "k", &block(&["bob"])).ok();
    node.pass_ms(24 * 60 * 60 * 1000);
    let last = caller.call_keyed("sns/black_list_add", "k", &block(&["bob"]));
    assert_eq!(last.codes(), [0]);
    node.pass_ms(1);
    assert_eq!(caller.call_keyed("sns/black_list_add", "k", &block(&["bob"])).codes(), [30001]);
    node.pass_ms(24 * 60 * 60 * 1000 + 1);
    assert_eq!(caller.call_keyed("sns/black_list_add", "k", &block(&["carl"])).codes(), [0]);
    node.stop();
}

#[test]
fn every_kind_of_change_is_kept() {
    let (node, mut caller) = people();
    let friend = json!({"To_Account": "bob", "AddSource": "AddSource_Type_test"});
    let account = |name: &str| json!({ "UserID": name });
    let text = json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}]);
    let calls = [
        ("sns/friend_add", json!({"From_Account": "amy", "AddFriendItem": [friend]})),
        (
            "sns/group_add",
            json!({"From_Account": "amy", "GroupName": ["g"], "To_Account": ["bob"]}),
        ),
        ("sns/friend_delete", json!({"From_Account": "amy", "To_Account": ["bob"]})),
        ("sns/friend_import", json!({"From_Account": "amy", "AddFriendItem": [friend]})),
        ("sns/friend_delete_all", json!({"From_Account": "amy", "DeleteType": "Delete_Type_Both"})),
        ("sns/group_delete", json!({"From_Account": "amy", "GroupName": ["g"]})),
        ("sns/black_list_add", block(&["carl"])),
        ("sns/black_list_delete", block(&["carl"])),
        (
            "profile/portrait_set",
            json!({"From_Account": "amy",
            "ProfileItem": [{"Tag": "Tag_Profile_IM_Level", "Value": 3}]}),
        ),
        (
            "openim/sendmsg",
            json!({"From_Account": "amy", "To_Account": "bob", "MsgRandom": 1,
            "MsgBody": text}),
        ),
        (
            "openim/batchsendmsg",
            json!({"To_Account": ["bob", "nobody"], "MsgRandom": 1,
            "MsgBody": text}),
        ),
        ("im_open_login_svc/account_import", json!({"UserID": "dora"})),
        ("im_open_login_svc/multiaccount_import", json!({"Accounts": ["eve"]})),
        (
            "im_open_login_svc/account_delete",
            json!({"DeleteItem": [account("dora"), account("nobody")]}),
        ),
    ];
    let first: Vec<Answer> = calls
        .iter()
        .enumerate()
        .map(|(at, (command, body))| caller.call_keyed(command, &format!("k{at}"), body))
        .collect();
    let node = node.restart();
    let mut caller = node.caller();
    for (at, ((command, body), first)) in calls.iter().zip(&first).enumerate() {
        assert_eq!(first.code(), 0, "{command}");
        assert!(first.header("cordon-position").is_some(), "{command}");
        same(first, &caller.call_keyed(command, &format!("k{at}"), body));
    }
    node.stop();
}

#[test]
fn equal_calls_at_the_same_time_are_one_call() {
    let (node, mut caller) = people();
    for round in 0..10_u32 {
        let key = format!("round {round}");
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..6)
                .map(|_| {
                    let mut caller = node.caller();
                    let key = &key;
                    scope.spawn(move || {
                        let body = block(&["bob", "carl", "nobody"]);
                        caller.call_keyed("sns/black_list_add", key, &body)
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller")).collect()
        });
        assert_eq!(answers[0].codes(), [0, 0, 30003]);
        answers.iter().for_each(|answer| same(&answers[0], answer));
        let id = answers[0].header("cordon-request-id");
        assert!(answers.iter().all(|answer| answer.header("cordon-request-id") == id));
        assert_eq!(caller.unblock("amy", &["bob", "carl"]).codes(), [0, 0]);
    }
    node.stop();
}

/// Adds friends of amy's in both directions, under the key "lost", and nobody is answered.
fn add_unheard(node: &TestNode, names: &[&str]) -> Value {
    let item = |name: &&str| json!({"To_Account": name, "AddSource": "AddSource_Type_test"});
    let items: Vec<Value> = names.iter().map(item).collect();
    let body = json!({"From_Account": "amy", "AddFriendItem": items});
    unheard(node, "lost", &format!("sns/friend_add\n{body}"), "amy", friends_wanted(names));
    body
}

/// The same call again, to a node that has started since: nothing is offered again.
fn add_again(node: TestNode, body: &Value) -> (TestNode, Answer) {
    let offered = |node: TestNode| {
        let stopped = node.stop();
        let (_, offers) = audit(&stopped.setup, &["replay", "--json", "--type", "FriendOffered"]);
        (stopped.start(), offers)
    };
    let (node, before) = offered(node);
    let answer = node.caller().call_keyed("sns/friend_add", "lost", body).ok();
    let (node, behind) = offered(node);
    assert_eq!(behind, before);
    (node, answer)
}

#[test]
fn an_offer_that_was_refused_is_answered_so_again_whatever_the_peer_wants_by_now() {
    let (node, mut caller) = people();
    caller.allow("bob", "DenyAny");
    caller.allow("carl", "NeedConfirm");
    let body = add_unheard(&node, &["bob", "carl"]);
    caller.allow("bob", "AllowAny");
    let agree = json!({"To_Account": "amy", "ResponseAction": "Response_Action_AgreeAndAdd"});
    let agreed = json!({"From_Account": "carl", "ResponseFriendItem": [agree]});
    assert_eq!(caller.call("sns/friend_response", &agreed).ok().codes(), [0]);
    drop(caller);
    let (node, again) = add_again(node, &body);
    assert_eq!(again.codes(), [30516, 30539]);
    let relations = node.caller().friends("amy", &["bob", "carl"]);
    assert_eq!(relations.relations(), ["NoRelation", "BothWay"]);
    node.stop();
}

#[test]
fn an_offer_over_a_friend_of_the_user_s_alone_is_not_made_again() {
    let (node, mut caller) = people();
    caller.import_friends("amy", &["bob", "carl"]);
    let body = add_unheard(&node, &["bob", "carl"]);
    caller.unfriend("amy", &["carl"], "Delete_Type_Both");
    drop(caller);
    let (node, again) = add_again(node, &body);
    assert_eq!(again.codes(), [0, 0]);
    let relations = node.caller().friends("amy", &["bob", "carl"]);
    assert_eq!(relations.relations(), ["BothWay", "NoRelation"]);
    node.stop();
}

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

fn text() -> Value {
    json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}])
}

fn message(to: &[&str]) -> Message {
    Message {
        to: to.iter().map(|name| id(name)).collect(),
        seq: 1,
        random: to.len() as u32,
        time: 1_700_000_000,
        body: text().to_string().into(),
        custom_data: "".into(),
        push: "".into(),
        life_time: None,
        online_only: false,
        not_for_sender: false,
        control: Vec::new(),
        read_receipt: false,
        extension: false,
        untold: false,
    }
}

/// An account that is made after the message was sent has not received it.
#[test]
fn a_message_that_was_sent_has_the_receivers_of_the_first_time() {
    let (node, mut caller) = people();
    let body = json!({"From_Account": "amy", "To_Account": ["eve", "carl", "nobody", "bob"],
        "MsgSeq": 1, "MsgRandom": 2, "MsgBody": text()});
    let asked = format!("openim/batchsendmsg\n{body}");
    unheard(&node, "lost", &asked, "amy", Command::Send(message(&["bob", "carl"])));
    caller.import(&["eve"]);
    caller.delete_accounts(&["carl"]);
    node.settle();
    let again = caller.call_keyed("openim/batchsendmsg", "lost", &body).ok();
    let unknown = |name: &str| json!({"To_Account": name, "ErrorCode": 70107});
    assert_eq!(again.body["ActionStatus"], "SomeError");
    assert_eq!(again.body["ErrorList"], json!([unknown("eve"), unknown("nobody")]));
    assert_eq!(again.body["MsgKey"], "1_2_1700000000");
    same(&again, &caller.call_keyed("openim/batchsendmsg", "lost", &body));
    node.stop();
}

#[test]
fn an_entry_that_names_again_whom_the_call_has_removed_is_refused_as_the_first_time() {
    let (node, mut caller) = people();
    caller.befriend("amy", &["bob"]);
    let body = json!({"From_Account": "amy", "To_Account": ["bob", "bob"]});
    let target = FormerFriend { user: id("bob"), has_me: true };
    let remove = Command::RemoveFriends { targets: vec![target; 2], both: false };
    unheard(&node, "lost", &format!("sns/friend_delete\n{body}"), "amy", remove);
    caller.delete_accounts(&["bob"]);
    node.settle();
    let again = caller.call_keyed("sns/friend_delete", "lost", &body).ok();
    assert_eq!(again.codes(), [0, 31704]);
    node.stop();
}

/// What came of the call is in its record: whom it named may be gone since.
#[test]
fn what_was_done_is_not_judged_anew_when_an_account_is_gone_since() {
    let (node, mut caller) = people();
    let text = text();
    let friend = json!({"To_Account": "bob", "AddSource": "AddSource_Type_test"});
    let card = Card { source: "AddSource_Type_test".into(), ..Card::default() };
    let imported = vec![NewFriend { user: id("bob"), imported: true, card }];
    let (form, forced) = (OfferForm::Import, false);
    let calls = [
        (
            "openim/sendmsg",
            json!({"From_Account": "amy", "To_Account": "bob", "MsgSeq": 1, "MsgRandom": 1,
                "MsgBody": text}),
            Command::Send(message(&["bob"])),
        ),
        (
            "openim/batchsendmsg",
            json!({"From_Account": "amy", "To_Account": ["bob", "carl", "nobody"], "MsgSeq": 1,
                "MsgRandom": 2, "MsgBody": text}),
            Command::Send(message(&["bob", "carl"])),
        ),
        (
            "sns/friend_import",
            json!({"From_Account": "amy", "AddFriendItem": [friend]}),
            Command::AddFriends { items: imported, form, forced },
        ),
        (
            "sns/friend_add",
            json!({"From_Account": "carl", "AddFriendItem": [friend]}),
            friends_wanted(&["bob"]),
        ),
    ];
    for (at, (command, body, wanted)) in calls.iter().enumerate() {
        let owner = body["From_Account"].as_str().expect("a name");
        unheard(&node, &format!("lost {at}"), &format!("{command}\n{body}"), owner, wanted.clone());
    }
    caller.delete_accounts(&["bob"]);
    node.settle();
    let again: Vec<Answer> = calls
        .iter()
        .enumerate()
        .map(|(at, (command, body, _))| {
            caller.call_keyed(command, &format!("lost {at}"), body).ok()
        })
        .collect();
    assert_eq!(again[0].body["MsgTime"], 1_700_000_000);
    assert_eq!(again[1].body["MsgKey"], "1_2_1700000000");
    assert_eq!(again[1].body["ErrorList"], json!([{"To_Account": "nobody", "ErrorCode": 70107}]));
    assert_eq!((again[2].codes(), again[3].codes()), (vec![0], vec![0]));
    // Another call is judged as ever.
    let (command, body, _) = &calls[0];
    assert_eq!(caller.call_keyed(command, "another", body).code(), 90003);
    node.stop();
}

/// A book that is full forgets calls which an account still knows.
#[test]
fn a_key_that_an_account_knows_for_another_call_fails_the_call_as_a_whole() {
    let (node, mut caller) = people();
    for (command, body) in [
        ("im_open_login_svc/account_import", json!({"UserID": "amy", "Nick": "x"})),
        (
            "im_open_login_svc/multiaccount_import",
            json!({"AccountList": [{"UserID": "amy", "Nick": "x"}, {"UserID": "dora"}]}),
        ),
        (
            "im_open_login_svc/account_delete",
            json!({"DeleteItem": [{"UserID": "amy"}, {"UserID": "nobody"}]}),
        ),
    ] {
        let change = ProfileChange { nick: Some(command.into()), ..ProfileChange::default() };
        outlived(&node, command, "another call", "amy", Command::ImportAccount(change));
        let refused = caller.call_keyed(command, command, &body);
        assert_eq!(refused.code(), 60002, "{command}: {}", refused.body);
    }
    assert_eq!(caller.account_statuses(&["amy"]), ["Imported"]);
    node.stop();
}

/// A call whose answer nobody heard: killed at once, at whatever point it had come to.
#[test]
fn a_call_that_a_kill_cut_short_is_done_once_when_it_comes_again() {
    let setup = Setup::new();
    let mut process = TestProcess::start(&setup);
    process.caller().import(&["amy", "bob", "carl"]);
    for round in 0..12_u32 {
        let key = format!("round {round}");
        let (command, body) = if round % 2 == 0 {
            ("sns/black_list_add", block(&["bob"]))
        } else {
            let friend = json!({"To_Account": "carl", "AddSource": "AddSource_Type_test"});
            ("sns/friend_add", json!({"From_Account": "amy", "AddFriendItem": [friend]}))
        };
        let mut caller = process.caller();
        let asked = std::thread::spawn({
            let (key, body) = (key.clone(), body.clone());
            move || caller.try_call_keyed(command, &key, &body).ok()
        });
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 250));
        process.kill();
        let first = asked.join().expect("a caller");
        process = TestProcess::start(&setup);
        let mut caller = process.caller();
        let again = caller.call_keyed(command, &key, &body).ok();
        assert_eq!(again.codes(), [0], "round {round}: never done before, or done by this call");
        if let Some(first) = first {
            same(&first, &again);
        }
        same(&again, &caller.call_keyed(command, &key, &body));
        caller.unblock("amy", &["bob"]);
        caller.unfriend("amy", &["carl"], "Delete_Type_Both");
    }
    process.terminate();
    assert!(process.wait().success());
    crate::support::verify(&setup);
}
