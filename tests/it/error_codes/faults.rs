//! The rows that need a fault of the node, and overload.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cordon::http::{Operation, error_code as code};
use serde_json::{Value, json};

use super::{Fault, NEED_A_FAULT, rows};
use crate::support::{
    Caller, Mount, Setup, TestNode, TestProcess, TestSubscriber, eventually, kafka,
};

use Operation as O;

fn rows_of(fault: Fault) -> BTreeSet<&'static str> {
    let rows = NEED_A_FAULT.iter().filter(|(_, needed)| *needed == fault);
    rows.map(|(row, _)| row.name).collect()
}

fn ask(caller: &mut Caller, operation: Operation, body: &Value) -> BTreeSet<&'static str> {
    rows(Some(operation), &caller.call(operation.command(), body))
}

fn nick(who: &str, nick: &str) -> Value {
    json!({"From_Account": who, "ProfileItem": [{"Tag": "Tag_Profile_IM_Nick", "Value": nick}]})
}

fn message(from: &str) -> Value {
    json!({"From_Account": from, "To_Account": from, "MsgRandom": 8,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}]})
}

fn friends(who: &str, whom: &str) -> Value {
    json!({"From_Account": who, "To_Account": [whom], "CheckType": "CheckResult_Type_Both"})
}

fn befriend(who: &str, whom: &str) -> Value {
    let item = json!({"To_Account": whom, "AddSource": "AddSource_Type_test"});
    json!({"From_Account": who, "AddFriendItem": [item]})
}

fn subscription() -> Value {
    json!({"Name": "audit", "Url": "http://receiver.example/", "Enabled": 0})
}

fn is_ready(node: &TestNode) -> bool {
    node.ops("/readyz").status() == 200
}

/// Writes until there is no room for more.
fn use_up(mount: &Mount, caller: &mut Caller) -> BTreeSet<&'static str> {
    mount.fill();
    let mut refused = BTreeSet::new();
    let mut number = 0;
    eventually("the journal is full", || {
        number += 1;
        refused = ask(caller, O::PortraitSet, &nick("amy", &format!("{number:0500}")));
        !refused.is_empty()
    });
    refused
}

#[test]
fn a_journal_that_cannot_be_written_is_told_in_the_words_of_each_call() {
    let setup = Setup::new().set("JOURNAL_SEGMENT_BYTES", "1 MiB").set("JOURNAL_PARTITIONS", "1");
    let Some(mount) = Mount::new(setup.data_dir(), "64m") else { return };
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    let mut seen = use_up(&mount, &mut caller);
    let block = json!({"From_Account": "amy", "To_Account": ["bob"]});
    for (operation, body) in [
        (O::BlackListAdd, &block),
        (O::FriendAdd, &befriend("amy", "bob")),
        (O::AccountImport, &json!({"UserID": "latecomer"})),
        (O::Sendmsg, &message("amy")),
        (O::SubscriptionSet, &subscription()),
    ] {
        seen.extend(ask(&mut caller, operation, body));
    }
    // Questions fail only until the state is rebuilt.
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut caller = node.caller();
            while !ended.load(Ordering::Relaxed) {
                mount.free();
                eventually("there is room again", || is_ready(&node));
                use_up(&mount, &mut caller);
            }
        });
        eventually("a question fails", || {
            seen.extend(ask(&mut caller, O::FriendCheck, &friends("amy", "bob")));
            seen.contains(code::FRIEND_CHECK_BROKEN.name)
        });
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen, rows_of(Fault::Journal));
    mount.free();
    eventually("there is room again", || is_ready(&node));
    assert_eq!(ask(&mut caller, O::BlackListAdd, &block), BTreeSet::new());
    drop(caller);
    node.stop();
}

#[test]
fn an_owner_that_says_nothing_is_a_timeout_in_the_words_of_each_call() {
    let Some(kafka) = kafka::shared() else { return };
    // Nobody takes over while this test asks.
    let patient = |setup: Setup| {
        setup
            .set("NODE_DEAD_AFTER_MS", "60000")
            .set("HTTP_REQUEST_TIMEOUT_MS", "500")
            // So many that either node is the rightful owner of some.
            .set("JOURNAL_PARTITIONS", "16")
    };
    let setups: Vec<Setup> = Setup::cluster(kafka, 2).into_iter().map(patient).collect();
    let nodes: Vec<TestProcess> = thread::scope(|scope| {
        let starting: Vec<_> =
            setups.iter().map(|setup| scope.spawn(|| TestProcess::start(setup))).collect();
        starting.into_iter().map(|node| node.join().expect("the node starts")).collect()
    });
    let mut caller = nodes[0].caller();
    let users: Vec<String> = (0..40).map(|index| format!("user{index}")).collect();
    // Half a second is short while partitions are handed over.
    eventually("all are imported", || {
        let answer =
            caller.call("im_open_login_svc/multiaccount_import", &json!({ "Accounts": users }));
        answer.code() == 0 && answer.body["FailAccounts"] == json!([])
    });
    let get = |who: &str| json!({ "From_Account": who });
    let mut found = None;
    eventually("the other node owns a partition", || {
        nodes[1].pause();
        // Time and again: once may be the machine's doing.
        let mut is_silent = |user: &str| !ask(&mut caller, O::BlackListGet, &get(user)).is_empty();
        found = users.iter().find(|user| (0..3).all(|_| is_silent(user)));
        if found.is_none() {
            nodes[1].resume();
        }
        found.is_some()
    });
    let theirs = found.expect("one was found");
    let check = json!({"From_Account": theirs, "To_Account": [theirs],
        "CheckType": "BlackCheckResult_Type_Single"});
    let portrait = json!({"To_Account": [theirs], "TagList": ["Tag_Profile_IM_Nick"]});
    let calls = [
        (O::BlackListGet, get(theirs)),
        (O::BlackListCheck, check),
        (O::PortraitGet, portrait),
        (O::AccountImport, json!({"UserID": theirs, "Nick": "Nick"})),
        (O::Sendmsg, message(theirs)),
        (O::SubscriptionSet, subscription()),
    ];
    let mut seen = BTreeSet::new();
    for (operation, body) in &calls {
        seen.extend(ask(&mut caller, *operation, body));
    }
    nodes[1].resume();
    assert_eq!(seen, rows_of(Fault::Owner));
    for (operation, body) in &calls[2..] {
        eventually("the owner answers", || ask(&mut caller, *operation, body).is_empty());
    }
}

#[test]
fn a_receiver_that_is_not_there_may_be_a_refusal_in_the_words_of_each_call() {
    let receiver = TestSubscriber::away();
    let asked = "Sns.CallbackPrevFriendResponse,C2C.CallbackBeforeSendMsg";
    let setup = Setup::new().webhook(&receiver).set("WEBHOOK_COMMANDS", asked);
    let node = setup.set("WEBHOOK_BEFORE_ON_UNREACHABLE", "deny").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.allow("amy", "NeedConfirm");
    assert_eq!(caller.befriend("bob", &["amy"]).codes(), [30539]);
    let agree = json!({"From_Account": "amy", "ResponseFriendItem":
        [{"To_Account": "bob", "ResponseAction": "Response_Action_Agree"}]});
    let mut seen = ask(&mut caller, O::FriendResponse, &agree);
    seen.extend(ask(&mut caller, O::Sendmsg, &message("amy")));
    assert_eq!(seen, rows_of(Fault::Receiver));
    node.stop();
}

#[test]
fn more_than_a_partition_takes_is_refused_as_overload() {
    let setup = Setup::new().set("JOURNAL_PARTITIONS", "1").set("ACTORS_IN_FLIGHT_MAX", "1");
    let node = setup.start();
    let refused = AtomicBool::new(false);
    thread::scope(|scope| {
        for user in 0..8 {
            let (node, refused) = (&node, &refused);
            scope.spawn(move || {
                let mut caller = node.caller();
                let mut number = 0;
                eventually("somebody is refused", || {
                    number += 1;
                    let import =
                        json!({"UserID": format!("user{user}"), "Nick": number.to_string()});
                    let rows = ask(&mut caller, O::AccountImport, &import);
                    assert!(rows.is_empty() || rows == BTreeSet::from([code::TIMED_OUT.name]));
                    refused.fetch_or(!rows.is_empty(), Ordering::Relaxed);
                    refused.load(Ordering::Relaxed)
                });
            });
        }
    });
    let mut caller = node.caller();
    caller.call("im_open_login_svc/account_import", &json!({"UserID": "user0"})).ok();
    node.stop();
}
