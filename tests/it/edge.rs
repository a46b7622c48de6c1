//! Requests and answers as such. Rule: rest-api.md 1.1 to 1.9, extensions.md 1.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{ADMIN, Caller, Connection, Identity, Setup, TestNode, audit, eventually};

const CHECK: &str = "im_open_login_svc/account_check";

fn target(command: &str) -> String {
    format!("/v4/{command}?{}", Identity::default().query())
}

fn code_of(caller: &mut Caller, body: &[u8]) -> u64 {
    caller.call_with(CHECK, &Identity::default().query(), body).code()
}

/// A body of exactly so many bytes.
fn body_of(bytes: usize) -> Vec<u8> {
    let empty = json!({"CheckItem": [{"UserID": "amy"}], "More": ""}).to_string();
    let text = "x".repeat(bytes - empty.len());
    json!({"CheckItem": [{"UserID": "amy"}], "More": text}).to_string().into_bytes()
}

#[test]
fn every_answer_names_node_and_request_and_a_change_its_place() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    let mut requests = BTreeSet::new();
    let read = caller.blocks("amy", &["bob"]);
    let changed = caller.block("amy", &["bob"]);
    let again = caller.block("amy", &["bob"]);
    let refused = caller.call("sns/no_such_command", &json!({}));
    for answer in [&read, &changed, &again, &refused] {
        assert_eq!(answer.header("cordon-node"), Some("node-of-tests"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("X-Requested-With"));
        let request = answer.header("cordon-request-id").expect("a request has an id");
        assert_eq!(request.len(), 36);
        assert!(requests.insert(request.to_owned()));
    }
    for unchanged in [&read, &again, &refused] {
        assert_eq!(unchanged.header("cordon-position"), None);
    }
    // The place is that of the user's own record, which knows the request.
    let place = changed.header("cordon-position").expect("a change has a place");
    let replay = ["replay", "--json", "--limit", "1", "--from", place];
    let (code, text) = audit(node.setup(), &replay);
    assert_eq!(code, 0);
    let record: Value = serde_json::from_str(&text).expect("one record");
    let text = record.to_string();
    assert!(text.contains("UserBlocked") && text.contains("\"bob\""), "{text}");
    assert!(text.contains(changed.header("cordon-request-id").expect("an id")), "{text}");

    let many = json!({"Accounts": ["carl", "dora", "eve", "fred"]});
    let answer = caller.call("im_open_login_svc/multiaccount_import", &many).ok();
    let places = answer.header("cordon-position").expect("places");
    assert_eq!(places.split(',').count(), 4, "{places}");
}

#[test]
fn a_call_comes_from_whoever_a_proxy_of_ours_names_and_others_name_nobody() {
    let said = |setup: Setup| {
        let node = setup.start();
        let mut caller = node.caller();
        caller.import(&["amy", "bob"]);
        let body = json!({"From_Account": "amy", "To_Account": ["bob"]});
        let lines = "X-Forwarded-For: 1.2.3.4, 203.0.113.7\r\n";
        caller.call_with_lines("sns/black_list_add", lines, &body).ok();
        let (_, told) = audit(&node.stop().setup, &["history", "amy"]);
        told.lines().last().expect("a block").to_owned()
    };
    let believed = said(Setup::new().set("HTTP_TRUSTED_PROXIES", "127.0.0.0/8"));
    assert!(believed.contains("from 203.0.113.7 "), "{believed}");
    let own = said(Setup::new());
    assert!(own.contains("from 127.0.0.1 "), "{own}");
}

#[test]
fn only_posts_to_commands_are_calls() {
    let node = Setup::new().start();
    let mut connection = Connection::open(node.address).expect("the node listens");
    let mut code = |method: &str, target: &str| {
        let answer = connection.ask(method, target, b"{}").expect("an answer");
        assert_eq!(answer.status(), 200, "{method} {target}");
        let body: Value = serde_json::from_str(answer.text()).expect("JSON");
        body["ErrorCode"].as_u64().expect("a number")
    };
    let query = Identity::default().query();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(code(method, &target(CHECK)), 60002, "{method}");
    }
    for path in ["/", "/v4", "/v4/sns", "/v5/sns/black_list_get", "/v4/sns/black_list_get/"] {
        assert_eq!(code("POST", &format!("{path}?{query}")), 60002, "{path}");
    }
    for path in ["//v4/sns/black_list_get", "/v4//black_list_get", "/v4/x/../sns/black_list_get"] {
        assert_eq!(code("POST", &format!("{path}?{query}")), 60002, "{path}");
    }
    for path in ["/v4/sns/Black_list_get", "/v4/SNS/black_list_get", "/v4/sns/black%5Flist_get"] {
        let code = code("POST", &format!("{path}?{query}"));
        assert!(matches!(code, 60002 | 60009), "{path}: {code}");
    }
    assert_eq!(code("POST", &format!("/healthz?{query}")), 60002, "it is for another listener");
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let node = Setup::new().start();
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(b"HEAD / HTTP/1.1\r\nHost: cordon\r\nConnection: close\r\n\r\n").expect("sent");
    let text = connection.receive_all().expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn a_body_has_a_largest_size_and_the_connection_survives() {
    let node = Setup::new().set("HTTP_BODY_BYTES_MAX", "1 KiB").start();
    let mut caller = node.caller();
    assert_eq!(code_of(&mut caller, &body_of(1024)), 0);
    assert_eq!(code_of(&mut caller, &body_of(1025)), 60008);
    assert_eq!(code_of(&mut caller, &body_of(1024)), 0);
    assert_eq!(code_of(&mut caller, &body_of(100_000)), 60008);
    assert_eq!(code_of(&mut caller, &body_of(1024)), 0);
    // Who is not let in is told that, whatever the size.
    let answer = caller.call_with(CHECK, "sdkappid=7", &body_of(100_000));
    assert_eq!(answer.code(), 60025);

    // Without a length that is known beforehand.
    let mut connection = Connection::open(node.address).expect("the node listens");
    for (bytes, expected) in [(1024, 0), (1025, 60008)] {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: cordon\r\nTransfer-Encoding: chunked\r\n\r\n",
            target(CHECK)
        );
        connection.send(head.as_bytes()).expect("sent");
        for chunk in body_of(bytes).chunks(300) {
            connection.send(format!("{:x}\r\n", chunk.len()).as_bytes()).expect("sent");
            connection.send(chunk).expect("sent");
            connection.send(b"\r\n").expect("sent");
        }
        connection.send(b"0\r\n\r\n").expect("sent");
        let answer = connection.receive_answer(&target(CHECK)).expect("an answer");
        let body: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert_eq!(body["ErrorCode"], expected, "{bytes} bytes");
    }
}

#[test]
fn what_is_no_json_object_is_refused_without_harm() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"CheckItem":[{{"UserID":"amy"}}],"More":{open}{close}}}"#)
    };
    assert_eq!(code_of(&mut caller, deep(64).as_bytes()), 0);
    for no_json in [
        &b""[..],
        b"[]",
        b"null",
        b"{",
        b"{}x",
        b"{\"CheckItem\":\xff}",
        deep(65).as_bytes(),
        "[".repeat(500_000).as_bytes(),
        "{\"a\":".repeat(100_000).as_bytes(),
    ] {
        let text = String::from_utf8_lossy(&no_json[..no_json.len().min(30)]).into_owned();
        assert_eq!(code_of(&mut caller, no_json), 60003, "{text}");
    }
    assert_eq!(code_of(&mut caller, br#"{"CheckItem":[{"UserID":1}]}"#), 60015);
    let lenient = br#"{"CheckItem":[{"UserID":"amy","More":null}],"CheckItems":[],"x":1.5e3}"#;
    assert_eq!(code_of(&mut caller, lenient), 0);
}

#[test]
fn requests_may_follow_each_other_on_a_connection_without_waiting() {
    let node = Setup::new().start();
    let body = json!({"CheckItem": [{"UserID": ADMIN}]}).to_string();
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: cordon\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        target(CHECK),
        body.len()
    );
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(request.repeat(20).as_bytes()).expect("sent");
    for _ in 0..20 {
        let answer = connection.receive_answer(&target(CHECK)).expect("an answer");
        assert!(answer.text().contains("\"Imported\""), "{}", answer.text());
    }
}

#[test]
fn more_requests_may_wait_on_a_connection_than_are_read_at_once() {
    const WAITING: usize = 48;
    /// So that none is cut where the node stops to read for a while.
    const BYTES: usize = 512;
    let node = Setup::new().start();
    let target = target("sns/black_list_get");
    let body = json!({"From_Account": ADMIN, "StartIndex": 0, "MaxLimited": 9, "LastSequence": 0});
    let body = body.to_string();
    let begin = format!("POST {target} HTTP/1.1\r\nHost: cordon\r\n");
    let end = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let padding = BYTES - begin.len() - end.len() - "X-Padding: \r\n".len();
    let request = format!("{begin}X-Padding: {}\r\n{end}", "x".repeat(padding));
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(request.repeat(WAITING).as_bytes()).expect("sent");
    for number in 0..WAITING {
        let answer = connection.receive_answer(&target).expect("an answer");
        assert_eq!(answer.header("connection"), None, "{number}");
    }
}

#[test]
fn what_is_wrong_with_a_body_or_a_head_is_no_trouble_of_the_node() {
    let node = Setup::new().set("HTTP_BODY_BYTES_MAX", "1 KiB").start();
    assert_eq!(code_of(&mut node.caller(), &body_of(1025)), 60008);
    let calls = node.samples("cordon_http_calls_total");
    let command = r#"command="im_open_login_svc/account_check""#;
    assert_eq!(calls.get(&format!(r#"{command},code="body""#)), Some(&1.0));
    assert_eq!(calls.get(&format!(r#"{command},code="60008""#)), None, "it calls nobody out");
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(b"no HTTP\r\n\r\n").expect("sent");
    assert_eq!(connection.receive().expect("an answer").status(), 400);
    eventually("it is counted", || {
        node.samples("cordon_http_malformed_connections_total").into_values().sum::<f64>() == 1.0
    });
}

#[test]
fn a_caller_who_waits_to_be_asked_for_the_body_is_asked() {
    let node = Setup::new().start();
    let body = json!({"CheckItem": [{"UserID": ADMIN}]}).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: cordon\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        target(CHECK),
        body.len()
    );
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(head.as_bytes()).expect("sent");
    assert_eq!(connection.receive().expect("an answer").status(), 100);
    connection.send(body.as_bytes()).expect("sent");
    let answer = connection.receive_answer(&target(CHECK)).expect("an answer");
    assert!(answer.text().contains("\"Imported\""), "{}", answer.text());
}

#[test]
fn operators_ask_on_a_listener_of_their_own() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    assert_eq!(caller.call("sns/nothing", &json!({})).code(), 60009);
    assert_eq!((node.ops("/healthz").status(), node.ops("/readyz").status()), (200, 200));
    assert_eq!(node.ops(&target(CHECK)).status(), 404);
    let metrics = node.ops("/metrics");
    for name in [
        "cordon_http_calls_total",
        "cordon_http_call_duration_seconds_bucket",
        "cordon_users_resident",
        "cordon_users_started_total",
        "cordon_users_retired_total",
        "cordon_partition_doubts_total",
        "cordon_journal_",
    ] {
        assert!(metrics.text().lines().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(metrics.text().ends_with("# EOF\n"));
    let calls = node.samples("cordon_http_calls_total");
    assert_eq!(calls[r#"command="sns/black_list_add",code="0""#], 1.0);
    assert_eq!(calls[r#"command="none",code="60009""#], 1.0);
}

#[test]
fn a_folder_has_one_node_at_a_time() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    let second = TestNode::try_start(node.setup().clone(), 1_700_000_200);
    let reason = second.err().expect("the folder is in use");
    assert!(reason.contains("journal"), "{reason}");
    assert_eq!(caller.block("amy", &["bob"]).codes(), [0], "the first one goes on");
}
