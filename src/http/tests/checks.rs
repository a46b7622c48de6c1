//! What is decided before the actors are asked.

use proptest::prelude::*;
use serde_json::json;

use super::super::query::Query;
use super::*;

#[actix_web::test]
async fn a_good_call_comes_to_the_commands_own_rules() {
    let answer = Node::new(settings()).ask(Method::POST, &target(ADD, &[]), NO_TARGETS).await;
    let expected = json!({
        "ActionStatus": "FAIL", "ErrorCode": 30001,
        "ErrorInfo": "Err_SNS_BlackListAdd_Request_Invalid", "ErrorDisplay": "",
    });
    assert_eq!(answer, expected);
}

/// Each line fails its own check and every later one, so a wrong order shows.
#[actix_web::test]
async fn the_checks_run_in_the_order_of_1_9() {
    let forged = signature(APP, "another key", "administrator");
    let of_amy = signature(APP, KEY, "amy");
    let amy_forged = signature(APP, "another key", "amy");
    let other_app = signature(AppId(1), "another key", "amy");
    let node = Node::new(settings());
    let late = Node::new(settings());
    late.clock.set(Timestamp::from_unix_seconds(1_700_086_401));
    let no = None;
    let junk: &[u8] = b"[";
    for (node, path, changes, expected) in [
        (&node, "/nothing", &[("sdkappid", no)][..], 60002),
        (&node, "/v4/sns/nothing", &[("random", Some("%zz"))], 60002),
        (&node, "/v4/sns/nothing", &[("sdkappid", no)], 60009),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", no), ("identifier", no)], 60012),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", Some("")), ("usersig", no)], 60012),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", Some("x")), ("usersig", no)], 60006),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", Some("+5")), ("usersig", no)], 60006),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", Some("4294967296"))], 60006),
        (&node, "/v4/sns/black_list_add", &[("sdkappid", Some("7")), ("usersig", no)], 60025),
        (
            &node,
            "/v4/sns/black_list_add",
            &[("sdkappid", Some("7")), ("identifier", Some(""))],
            60025,
        ),
        (
            &node,
            "/v4/sns/black_list_add",
            &[("sdkappid", Some("7")), ("contenttype", Some("xml"))],
            60025,
        ),
        (
            &node,
            "/v4/sns/black_list_add",
            &[("sdkappid", Some("7")), ("usersig", Some("xxx"))],
            70020,
        ),
        (
            &node,
            "/v4/sns/black_list_add",
            &[("sdkappid", Some("2")), ("usersig", Some("xxx"))],
            60016,
        ),
        (&node, "/v4/sns/black_list_add", &[("usersig", Some("xxx"))], 70003),
        (&late, "/v4/sns/black_list_add", &[("usersig", Some(&*other_app))], 70014),
        (&late, "/v4/sns/black_list_add", &[("usersig", Some(&*amy_forged))], 70013),
        (&late, "/v4/sns/black_list_add", &[("usersig", Some(&*forged))], 70009),
        (
            &late,
            "/v4/sns/black_list_add",
            &[("identifier", Some("amy")), ("usersig", Some(&*of_amy))],
            70001,
        ),
        (
            &node,
            "/v4/sns/black_list_add",
            &[("identifier", Some("amy")), ("usersig", Some(&*of_amy))],
            60010,
        ),
        (&node, "/v4/sns/black_list_add", &[], 60003),
    ] {
        let target = format!("{path}?{}", query(changes));
        let answer = node.ask(Method::POST, &target, junk).await;
        assert_eq!(answer["ErrorCode"], expected, "{path} {changes:?}");
        let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(names, ["ActionStatus", "ErrorCode", "ErrorInfo"], "{path} {changes:?}");
    }
    assert_eq!(node.code(&target(ADD, &[]), r#"{"To_Account":[7]}"#).await, 60015);
}

#[actix_web::test]
async fn any_method_but_post_is_60002() {
    let node = Node::new(settings());
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS, Method::DELETE] {
        for target in ["/".to_owned(), target(ADD, &[])] {
            let answer = node.ask(method.clone(), &target, "").await;
            assert_eq!(answer["ErrorInfo"], "HTTP parse Error", "{method} {target}");
        }
    }
}

#[actix_web::test]
async fn the_frequency_is_checked_before_the_body_and_per_command() {
    let node = Node::new(settings());
    let add = target(ADD, &[]);
    for _ in 0..Operation::BlackListAdd.calls_per_second() {
        assert_eq!(node.code(&add, "").await, 60003);
    }
    assert_eq!(node.code(&add, "").await, 60007);
    assert_eq!(node.code(&target("sns/black_list_delete", &[]), "").await, 60003);
    node.clock.set(Timestamp(NOW.0 + 5));
    assert_eq!((node.code(&add, "").await, node.code(&add, "").await), (60003, 60007));
}

#[actix_web::test]
async fn an_app_as_a_whole_may_have_a_limit_or_none_at_all() {
    let mut settings = settings();
    settings.apps[1].rate_limits = RateLimits::PerCommand {
        overrides: [(Operation::FriendAdd, Some(1))].into(),
        whole_app: Some(2),
    };
    let node = Node::new(settings.clone());
    let [add, befriend] = [target(ADD, &[]), target("sns/friend_add", &[])];
    assert_eq!(node.code(&befriend, "").await, 60003);
    assert_eq!(node.code(&befriend, "").await, 60007);
    assert_eq!(node.code(&add, "").await, 60003);
    assert_eq!(node.code(&add, "").await, 60011);
    settings.apps[1].rate_limits = RateLimits::Off;
    let node = Node::new(settings);
    for _ in 0..1000 {
        assert_eq!(node.code(&befriend, "").await, 60003);
    }
}

#[actix_web::test]
async fn a_remembered_signature_still_expires_and_opens_nothing_else() {
    let node = Node::new(settings());
    let good = target(ADD, &[]);
    assert_eq!(node.code(&good, NO_TARGETS).await, 30001);
    assert_eq!(node.code(&good, NO_TARGETS).await, 30001);
    let as_amy = target(ADD, &[("identifier", Some("amy"))]);
    assert_eq!(node.code(&as_amy, NO_TARGETS).await, 70013);
    node.clock.set(Timestamp::from_unix_seconds(1_700_086_400));
    assert_eq!(node.code(&good, NO_TARGETS).await, 30001);
    node.clock.set(Timestamp::from_unix_seconds(1_700_086_401));
    assert_eq!(node.code(&good, NO_TARGETS).await, 70001);
}

#[actix_web::test]
async fn bodies_that_are_no_json_object_are_60003() {
    let node = Node::new(settings());
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    for body in [&b""[..], b"[]", b"null", b"{", b"{\"x\":\"\xff\"}", deep.as_bytes()] {
        assert_eq!(node.code(&target(ADD, &[]), body).await, 60003);
    }
}

#[actix_web::test]
async fn a_body_may_have_1_mib_and_no_byte_more() {
    let node = Node::new(settings());
    let of_bytes = |bytes: usize| format!("{NO_TARGETS}{}", " ".repeat(bytes - NO_TARGETS.len()));
    assert_eq!(node.code(&target(ADD, &[]), of_bytes(1024 * 1024)).await, 30001);
    assert_eq!(node.code(&target(ADD, &[]), of_bytes(1024 * 1024 + 1)).await, 60008);
}

#[actix_web::test]
async fn account_calls_have_no_error_display() {
    let node = Node::new(settings());
    let over = |item: &str| format!("[{}]", vec![item; 101].join(","));
    for (command, body, expected) in [
        ("account_import", "{}".to_owned(), 70402),
        ("account_import", r#"{"UserID":""}"#.to_owned(), 70402),
        ("account_import", r#"{"UserID":"a b","Identifier":"amy"}"#.to_owned(), 70402),
        ("account_import", r#"{"UserID":7}"#.to_owned(), 60015),
        ("account_import", r#"{"Identifier":7}"#.to_owned(), 60015),
        ("account_import", r#"{"UserID":"amy","Nick":7}"#.to_owned(), 70402),
        ("account_import", format!(r#"{{"UserID":"amy","Nick":"{}"}}"#, "n".repeat(501)), 40601),
        ("multiaccount_import", "{}".to_owned(), 70402),
        ("multiaccount_import", r#"{"Accounts":[]}"#.to_owned(), 70402),
        ("multiaccount_import", r#"{"Accounts":[7]}"#.to_owned(), 60015),
        ("multiaccount_import", r#"{"AccountList":[7]}"#.to_owned(), 70402),
        ("multiaccount_import", r#"{"AccountList":[{}],"Accounts":["amy"]}"#.to_owned(), 70402),
        ("multiaccount_import", format!(r#"{{"Accounts":{}}}"#, over("\"a\"")), 70402),
        (
            "account_delete",
            r#"{"DeleteItem":[{"UserID":"amy"},{"UserID":"a b"}]}"#.to_owned(),
            70402,
        ),
        ("account_delete", r#"{"DeleteItem":[{"UserID":7}]}"#.to_owned(), 60015),
        ("account_check", r#"{"CheckItem":[]}"#.to_owned(), 70402),
        ("account_check", format!(r#"{{"CheckItem":{}}}"#, over(r#"{"UserID":"a"}"#)), 70402),
    ] {
        let target = target(&format!("im_open_login_svc/{command}"), &[]);
        let answer = node.ask(Method::POST, &target, body.clone()).await;
        assert_eq!(answer["ErrorCode"], expected, "{command} {body}");
        assert_eq!(answer.get("ErrorDisplay"), None, "{command} {body}");
    }
}

#[actix_web::test]
async fn deletion_of_accounts_can_be_switched_off() {
    let mut settings = settings();
    settings.apps[1].delete_allowed = false;
    let node = Node::new(settings);
    let target = target("im_open_login_svc/account_delete", &[]);
    assert_eq!(node.code(&target, r#"{"DeleteItem":[{"UserID":"amy"}]}"#).await, 71000);
}

#[actix_web::test]
async fn unknown_enum_values_and_pages_are_30001() {
    let node = Node::new(settings());
    for (command, members) in [
        ("black_list_check", ""),
        ("black_list_check", r#","CheckType":"CheckResult_Type_Both""#),
        ("black_list_check", r#","CheckType":7"#),
        ("friend_check", r#","CheckType":"BlackCheckResult_Type_Both""#),
        ("friend_delete", r#","DeleteType":"Both""#),
        ("friend_add", r#","AddFriendItem":[7]"#),
        ("friend_add", r#","AddFriendItem":[{"To_Account":"bob"}],"AddType":"Both""#),
        ("friend_add", r#","AddFriendItem":[{"To_Account":"bob"}],"ForceAddFlags":"1""#),
        ("friend_import", r#","AddFriendItem":[]"#),
        ("black_list_get", r#","MaxLimited":0"#),
        ("black_list_get", r#","StartIndex":-1"#),
        ("black_list_get", r#","StartIndex":"0""#),
    ] {
        let body = format!(r#"{{"From_Account":"amy","To_Account":["bob"]{members}}}"#);
        let answer = node.ask(Method::POST, &target(&format!("sns/{command}"), &[]), body).await;
        assert_eq!(answer["ErrorCode"], 30001, "{command} {members}");
        assert_eq!(answer["ErrorDisplay"], "", "{command} {members}");
    }
}

/// G01 to G08 end before the actors.
#[actix_web::test]
async fn the_golden_examples_of_the_common_rules_hold() {
    let specification = include_str!("../../../tests/spec/rest-api.md");
    let (_, examples) = specification.split_once("### 14.1 Common rules").unwrap();
    let (examples, _) = examples.split_once("### 14.2").unwrap();
    let blocks = examples.split("```json golden\n").skip(1);
    let mut ran = 0;
    for block in blocks {
        let example: Value = serde_json::from_str(block.split_once("```").unwrap().0).unwrap();
        let node = Node::new(settings());
        if let Some(clock) = example["given"]["clock"].as_u64() {
            node.clock.set(Timestamp::from_unix_seconds(clock.try_into().unwrap()));
        }
        let steps = example["steps"].as_array().cloned().unwrap_or(vec![example.clone()]);
        for step in steps {
            let request = &step["request"];
            let method = request["method"].as_str().unwrap_or("POST").parse().unwrap();
            let changes = request["query"].as_object().cloned().unwrap_or_default();
            let changes: Vec<_> =
                changes.iter().map(|(name, value)| (&**name, value.as_str())).collect();
            let target = format!("{}?{}", request["path"].as_str().unwrap(), query(&changes));
            let body = request.get("body").map_or(String::new(), Value::to_string);
            let mut answer = node.ask(method, &target, body).await;
            if step["response"]["ErrorInfo"] == "$string" {
                assert!(answer["ErrorInfo"].is_string());
                answer["ErrorInfo"] = json!("$string");
            }
            assert_eq!(answer, step["response"], "{}", example["id"]);
            ran += 1;
        }
    }
    assert_eq!(ran, 9);
}

proptest! {
    #[test]
    fn a_query_of_any_text_is_decoded_or_refused(
        text in "([a-z]{0,3}|sdkappid|identifier|usersig|contenttype|[%&=+]|%[0-9a-fA-F]{2}|.){0,40}",
    ) {
        if let Ok(query) = Query::parse(&text) {
            // What needs no escape says what it says.
            if !text.contains('%') {
                let named = |name: &str| text.split('&').any(|pair| {
                    pair.strip_prefix(name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('='))
                });
                prop_assert_eq!(!query.sdkappid.is_empty(), named("sdkappid"));
                prop_assert_eq!(!query.usersig.is_empty(), named("usersig"));
            }
        } else {
            prop_assert!(text.contains('%'));
        }
    }
}
