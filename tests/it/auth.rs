//! Who may call, and how often. Rule: rest-api.md 1.5 to 1.10.

use serde_json::{Value, json};

use crate::support::{ADMIN, APP, Answer, Caller, Identity, KEY, NOW_S, Setup, TestSubscriber};

const OTHER_APP: u32 = 1_400_000_002;
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// The signatures of rest-api.md 1.10, all of one admin and valid for a day.
const STORED: &str = "eAEBrwBQ-3siVExTLnZlciI6IjIuMCIsIlRMUy5pZGVudGlmaWVyIjoiYWRtaW5pc3RyYXRvciIsIlRMUy5zZGthcHBpZCI6MTQwMDAwMDAwMSwiVExTLmV4cGlyZSI6ODY0MDAsIlRMUy50aW1lIjoxNzAwMDAwMDAwLCJUTFMuc2lnIjoiVVFzeGdGY2p0NkYwR0RoRTgwMDI4eWpXbDB1b2o1WDBjTkhzMVVkUnFsYz0ifQrwWjPw";
const WITH_USERBUF: &str = "eJw1zd0KgkAQBeB3mVvDtMINwaswySQJRcG7tV1lCn9a17Kid29Rm7v5zmHmA3EQ6Q8uwIaVbsBi3JHxWmKBI1NWYY2dFFQ2Yi507EbbFhnY5saYxpwSPrQoONhbSwUTSawUmGQuztp3XOR9oR5kXiLzp*P8b2OpsIzjwzsgrkfcU3*x6vSeLa-hkWqvNAmGtRZG6U76pNn7Zwe*PyrzO1I_";

/// Two apps; the second one has a list of its own in the settings file.
fn two_apps(subscriber: &TestSubscriber) -> Setup {
    Setup::new().unset("RATE_LIMITS").file(&format!(
        "[[app]]\nid = {OTHER_APP}\nkeys = [\"{OTHER_KEY}\"]\nadmins = [\"chief\"]\n\
         rate_limits = \"app_per_second=3\"\n[app.webhook]\nurl = \"{}\"\n\
         timeout_ms = 30000\n",
        subscriber.url()
    ))
}

fn check(caller: &mut Caller, query: &str) -> u64 {
    let body = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
    caller.call_with("im_open_login_svc/account_check", query, body.as_bytes()).code()
}

fn query(pairs: &[(&str, &str)]) -> String {
    let identity = Identity::default();
    let mut known = [
        ("sdkappid", APP.to_string()),
        ("identifier", ADMIN.to_owned()),
        ("usersig", identity.usersig),
        ("random", "7".to_owned()),
        ("contenttype", "json".to_owned()),
    ];
    for (name, value) in pairs {
        let entry = known.iter_mut().find(|(known, _)| known == name).expect("a parameter");
        entry.1 = (*value).to_owned();
    }
    let pairs: Vec<String> = known.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[test]
fn the_checks_run_in_their_order() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let of_other_app = Identity::new(OTHER_APP, KEY, ADMIN).usersig;
    let of_other_name = Identity::new(APP, KEY, "chief").usersig;
    let forged = Identity::new(APP, OTHER_KEY, ADMIN).usersig;
    let of_amy = Identity::new(APP, KEY, "amy").usersig;
    for (changes, code) in [
        // Each line breaks the check of its code and some of those behind it.
        (vec![("sdkappid", ""), ("identifier", "")], 60012),
        (vec![("sdkappid", "14x"), ("identifier", "")], 60006),
        (vec![("sdkappid", "+1400000001"), ("usersig", "")], 60006),
        (vec![("sdkappid", "4294967296"), ("usersig", "")], 60006),
        (vec![("identifier", ""), ("sdkappid", "7")], 60025),
        (vec![("usersig", ""), ("sdkappid", "7")], 60025),
        (vec![("contenttype", "xml"), ("sdkappid", "7")], 60025),
        (vec![("sdkappid", "7"), ("usersig", "xxx")], 70020),
        (vec![("usersig", "xxx"), ("identifier", "amy")], 70003),
        (vec![("usersig", &of_other_app), ("identifier", "amy")], 70014),
        (vec![("usersig", &of_other_name)], 70013),
        (vec![("usersig", &forged)], 70009),
        (vec![("usersig", &of_amy), ("identifier", "amy")], 60010),
        (vec![], 0),
    ] {
        assert_eq!(check(&mut caller, &query(&changes)), code, "{changes:?}");
    }
    for (query, code) in [("", 60012), ("sdkappid", 60012), ("sdkappid=1400000001", 60025)] {
        assert_eq!(check(&mut caller, query), code, "{query}");
    }
}

#[test]
fn parameters_come_in_any_order_with_empty_pairs_and_escapes() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let usersig = Identity::default().usersig;
    let escaped = usersig.replace('*', "%2A").replace('-', "%2D").replace('_', "%5f");
    for query in [
        format!("usersig={usersig}&&identifier={ADMIN}&sdkappid={APP}"),
        format!("&sdkappid={APP}&identifier=administr%61tor&usersig={escaped}&random=42&"),
        format!("sdkappid={APP}&identifier={ADMIN}&usersig={usersig}&contenttype=json&more=%20"),
    ] {
        assert_eq!(check(&mut caller, &query), 0, "{query}");
    }
    let broken = format!("sdkappid={APP}&identifier={ADMIN}&usersig={usersig}&random=%zz");
    assert_eq!(check(&mut caller, &broken), 60002);
}

#[test]
fn signatures_of_every_library_are_valid_to_their_last_second() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let without_padding = WITH_USERBUF.trim_end_matches('_');
    for usersig in [STORED, WITH_USERBUF, without_padding] {
        node.set_clock(NOW_S as u32);
        let query = query(&[("usersig", usersig)]);
        assert_eq!(check(&mut caller, &query), 0);
        node.set_clock(1_700_086_400);
        assert_eq!(check(&mut caller, &query), 0);
        node.set_clock(1_700_086_401);
        assert_eq!(check(&mut caller, &query), 70001, "also one that was verified before");
    }
    node.set_clock(1_700_000_000 - 15 * 60);
    assert_eq!(check(&mut caller, &query(&[("usersig", STORED)])), 0);
    // One that nobody has verified yet.
    let fresh = Setup::new().start();
    fresh.set_clock(1_700_000_000 - 15 * 60 - 1);
    let mut caller = fresh.caller();
    assert_eq!(check(&mut caller, &query(&[("usersig", STORED)])), 70003, "made in the future");
}

#[test]
fn every_key_and_every_admin_of_an_app_opens_the_door() {
    let setup = Setup::new()
        .set("APP_KEY", &format!("{KEY},{OTHER_KEY}"))
        .set("APP_ADMIN", "administrator,robot");
    let node = setup.start();
    for (key, admin, code) in [
        (KEY, ADMIN, 0),
        (OTHER_KEY, ADMIN, 0),
        (OTHER_KEY, "robot", 0),
        ("0123", ADMIN, 70009),
        (KEY, "amy", 60010),
    ] {
        let identity = Identity::new(APP, key, admin);
        let mut caller = node.caller_as(identity.clone());
        assert_eq!(check(&mut caller, &identity.query()), code, "{key}, {admin}");
    }
    let mut caller = node.caller();
    assert_eq!(caller.account_statuses(&["robot", "amy"]), ["Imported", "NotImported"]);
}

#[test]
fn an_app_that_is_off_lets_nobody_in() {
    let node = Setup::new().set("APP_ENABLED", "false").start();
    let mut caller = node.caller();
    assert_eq!(check(&mut caller, &query(&[])), 60016);
    assert_eq!(check(&mut caller, &query(&[("usersig", "xxx")])), 60016);
}

#[test]
fn two_apps_know_nothing_of_each_other() {
    let subscriber = TestSubscriber::start();
    let node = two_apps(&subscriber).start();
    let mut first = node.caller();
    let mut second = node.caller_as(Identity::new(OTHER_APP, OTHER_KEY, "chief"));
    first.import(&["amy", "bob", "carl"]);
    second.import(&["amy", "bob"]);
    first.befriend("amy", &["bob"]);
    first.block("amy", &["carl"]);
    node.pass_ms(1000);
    assert_eq!(second.friends("amy", &["bob"]).relations(), ["NoRelation"]);
    assert_eq!(second.block("amy", &["carl", "bob"]).codes(), [30003, 0]);
    node.pass_ms(1000);
    assert_eq!(first.friends("amy", &["bob"]).relations(), ["BothWay"]);
    assert_eq!(first.blocks("amy", &["bob"]).relations(), ["NO"]);
    second.delete_accounts(&["bob"]);
    assert_eq!(first.friends("amy", &["bob"]).relations(), ["BothWay"]);
    node.settle();
    let heard = subscriber.take();
    let apps: Vec<_> = heard.iter().map(|heard| heard.parameter("SdkAppid")).collect();
    assert_eq!(apps, [Some("1400000002")], "only the second app has a webhook");

    let across = Identity { app: OTHER_APP, ..Identity::default() };
    assert_eq!(check(&mut second, &across.query()), 70014);
}

/// The codes of calls, one after another.
fn codes(caller: &mut Caller, command: &str, body: &Value, calls: usize) -> Vec<u64> {
    (0..calls).map(|_| caller.call(command, body).code()).collect()
}

#[test]
fn a_command_that_is_called_too_often_is_refused_until_its_bucket_refills() {
    let node = Setup::new().unset("RATE_LIMITS").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    let get = json!({"From_Account": "amy"});
    let call = "sns/black_list_get";
    // Who is not let in, and what is no call, costs nothing.
    let forged = query(&[("usersig", "xxx")]);
    for _ in 0..10 {
        assert_eq!(caller.call_with(call, &forged, b"{}").code(), 70003);
    }
    assert_eq!(codes(&mut caller, call, &get, 200), [0; 200]);
    assert_eq!(codes(&mut caller, call, &get, 3), [60007; 3]);
    let refused = caller.call(call, &get);
    let expected = json!({"ActionStatus": "FAIL", "ErrorCode": 60007,
        "ErrorInfo": "request over frequency limit"});
    assert_eq!(refused.body, expected);
    caller.block("amy", &["bob"]);
    node.pass_ms(4);
    assert_eq!(codes(&mut caller, call, &get, 1), [60007]);
    node.pass_ms(1);
    assert_eq!(codes(&mut caller, call, &get, 2), [0, 60007]);
    node.pass_ms(60_000);
    let after_a_minute = codes(&mut caller, call, &get, 201);
    assert_eq!(after_a_minute.iter().filter(|code| **code == 0).count(), 200);
    let calls = node.samples("cordon_http_calls_total");
    assert_eq!(calls[r#"command="sns/black_list_get",code="60007""#], 7.0);
}

#[test]
fn limits_are_settings_and_belong_to_an_app() {
    let subscriber = TestSubscriber::start();
    let limits = "sns/black_list_get=2, sns/friend_check=off";
    let node = two_apps(&subscriber).set("RATE_LIMITS", limits).start();
    let mut first = node.caller();
    first.import(&["amy"]);
    let get = json!({"From_Account": "amy"});
    assert_eq!(codes(&mut first, "sns/black_list_get", &get, 3), [0, 0, 60007]);
    let friends = json!({"From_Account": "amy", "To_Account": ["administrator"],
        "CheckType": "CheckResult_Type_Single"});
    assert_eq!(codes(&mut first, "sns/friend_check", &friends, 300), [0; 300]);
    // The variable is about all apps.
    let mut second = node.caller_as(Identity::new(OTHER_APP, OTHER_KEY, "chief"));
    let get = json!({"From_Account": "chief"});
    assert_eq!(codes(&mut second, "sns/black_list_get", &get, 3), [0, 0, 60007]);
}

#[test]
fn an_app_as_a_whole_may_be_limited() {
    let subscriber = TestSubscriber::start();
    let node = two_apps(&subscriber).start();
    let mut caller = node.caller_as(Identity::new(OTHER_APP, OTHER_KEY, "chief"));
    let get = json!({"From_Account": "chief"});
    let statuses = json!({"CheckItem": [{"UserID": "chief"}]});
    assert_eq!(codes(&mut caller, "sns/black_list_get", &get, 2), [0, 0]);
    let call = "im_open_login_svc/account_check";
    assert_eq!(codes(&mut caller, call, &statuses, 2), [0, 60011]);
    let answer: Answer = node.caller().call(call, &statuses);
    assert_eq!(answer.code(), 0, "the other app is not limited");
}
