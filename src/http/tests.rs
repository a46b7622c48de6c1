//! The edge from the outside: everything that is decided before the actors are asked, and how it
//! behaves on a real connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::edge::Edge;
use super::settings::{App, Limits, MessageRules, Settings};
use super::webhook::Nobody;
use super::{Metrics, Operation};
use crate::actors::Users;
use crate::clock::Clock;
use crate::domain::{AllowType, AppId, Timestamp};
use crate::usersig;
use crate::webhooks::{Consultant, Desks, consult};

const APP: AppId = AppId(1_400_000_001);
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIGNED_AT: i64 = 1_700_000_000;
const NOW: Timestamp = Timestamp(1_700_000_100_000);

/// No test here gets as far as the actors.
fn users() -> Users {
    Users::nobody()
}

fn settings() -> Settings {
    let app = App {
        id: APP,
        enabled: true,
        admins: vec!["administrator".to_owned()],
        keys: vec![KEY.to_owned()],
        limits: Limits::default(),
        delete_allowed: true,
        default_allow_type: AllowType::AllowAny,
        friend_fields: Vec::new(),
        profile_fields: Vec::new(),
        messages: MessageRules::default(),
    };
    let disabled = App { id: AppId(2), enabled: false, ..app.clone() };
    Settings { apps: vec![disabled, app], ..Settings::default() }
}

/// Nobody is asked.
fn desks(clock: &Clock) -> Arc<Desks> {
    Desks::new(Some(Vec::new()), clock.clone(), consult::Metrics::default())
}

struct Node {
    consultant: Consultant,
    edge: Edge,
    clock: Clock,
}

impl Node {
    fn new(settings: Settings) -> Self {
        let clock = Clock::fixed(NOW);
        let edge =
            Edge::new(settings, users(), Arc::new(Nobody), clock.clone(), Metrics::new()).unwrap();
        let consultant = Consultant::new(desks(&clock));
        Self { consultant, edge, clock }
    }

    async fn ask(&self, method: Method, target: &str, body: impl Into<Vec<u8>>) -> Value {
        let request = TestRequest::default().method(method).uri(target).set_payload(body.into());
        let response = self.edge.answer(request.to_request(), &self.consultant).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "*");
        assert_eq!(response.headers().get("cordon-node").unwrap(), "cordon");
        let id = response.headers().get("cordon-request-id").unwrap().to_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
        serde_json::from_slice(response.body()).unwrap()
    }

    async fn code(&self, target: &str, body: impl Into<Vec<u8>>) -> u64 {
        self.ask(Method::POST, target, body).await["ErrorCode"].as_u64().unwrap()
    }
}

fn signature(app: AppId, key: &str, identifier: &str) -> String {
    usersig::sign(app, key, identifier, 86_400, SIGNED_AT)
}

/// The parameters of a good call, with some replaced or, by `None`, left out.
fn query(changes: &[(&str, Option<&str>)]) -> String {
    let signature = signature(APP, KEY, "administrator");
    let usual = [
        ("sdkappid", "1400000001"),
        ("identifier", "administrator"),
        ("usersig", &*signature),
        ("random", "42"),
        ("contenttype", "json"),
    ];
    let pairs = usual.iter().filter_map(|(name, value)| {
        let change = changes.iter().find(|(changed, _)| changed == name);
        let value = change.map_or(Some(*value), |(_, value)| *value)?;
        Some(format!("{name}={value}"))
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn target(command: &str, changes: &[(&str, Option<&str>)]) -> String {
    format!("/v4/{command}?{}", query(changes))
}

const ADD: &str = "sns/black_list_add";

/// A body that passes every check that all commands share, and fails in the command's own rules.
const NO_TARGETS: &str = r#"{"From_Account":"amy","To_Account":[]}"#;

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
    settings.apps[1].limits = Limits::PerCommand {
        overrides: [(Operation::FriendAdd, Some(1))].into(),
        whole_app: Some(2),
    };
    let node = Node::new(settings.clone());
    let [add, befriend] = [target(ADD, &[]), target("sns/friend_add", &[])];
    assert_eq!(node.code(&befriend, "").await, 60003);
    assert_eq!(node.code(&befriend, "").await, 60007);
    assert_eq!(node.code(&add, "").await, 60003);
    assert_eq!(node.code(&add, "").await, 60011);
    settings.apps[1].limits = Limits::Off;
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
    let specification = include_str!("../../tests/spec/rest-api.md");
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

/// Serves the API on a port of its own, and hands its address to `visit` on another thread.
async fn on_a_real_connection<T: Send + 'static>(
    settings: Settings,
    visit: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { workers: Some(1), ..settings };
    let clock = Clock::fixed(NOW);
    let desks = desks(&clock);
    let (users, nobody, metrics) = (users(), Arc::new(Nobody), Metrics::new());
    let server = super::serve(settings, users, nobody, clock, metrics, desks, listener).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let visited = actix_web::rt::task::spawn_blocking(move || visit(address)).await.unwrap();
    handle.stop(true).await;
    visited
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one answer and leaves the connection open: the status line and the body's code.
fn read_answer(connection: &mut TcpStream) -> (String, u64) {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (head.lines().next().unwrap().to_owned(), body["ErrorCode"].as_u64().unwrap())
}

#[actix_web::test]
async fn a_connection_outlives_refusals_with_unread_bodies() {
    let codes = on_a_real_connection(settings(), |address| {
        let mut connection = connect(address);
        let unknown = post("/v4/sns/nothing?x=1", NO_TARGETS);
        let unsigned = post(&target(ADD, &[("usersig", Some("xxx"))]), NO_TARGETS);
        let good = post(&target(ADD, &[]), NO_TARGETS);
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
        [unknown, unsigned, good.clone(), get, good].map(|request| {
            connection.write_all(request.as_bytes()).unwrap();
            let (status, code) = read_answer(&mut connection);
            assert_eq!(status, "http/1.1 200 ok");
            code
        })
    });
    assert_eq!(codes.await, [60009, 70003, 30001, 60002, 30001]);
}

#[actix_web::test]
async fn the_path_is_matched_as_it_came() {
    let codes = on_a_real_connection(settings(), |address| {
        let query = query(&[]);
        [
            "/v4/sns/black_list_add",
            "/v4/sns/black%5flist_add",
            "/v4/sns/./black_list_add",
            "/v4/x/../sns/black_list_add",
            "//v4/sns/black_list_add",
            "/v4/sns/black_list_add/",
            "/v4/sns/Black_list_add",
        ]
        .map(|path| {
            let mut connection = connect(address);
            let request = post(&format!("{path}?{query}"), NO_TARGETS);
            connection.write_all(request.as_bytes()).unwrap();
            read_answer(&mut connection).1
        })
    });
    assert_eq!(codes.await, [30001, 60009, 60002, 60002, 60002, 60002, 60009]);
}

#[actix_web::test]
async fn a_body_may_come_in_pieces_and_chunks() {
    let codes = on_a_real_connection(settings(), |address| {
        let target = target(ADD, &[]);
        let mut pieces = connect(address);
        for piece in post(&target, NO_TARGETS).as_bytes().chunks(7) {
            pieces.write_all(piece).unwrap();
        }
        let mut chunked = connect(address);
        let (first, second) = NO_TARGETS.split_at(9);
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        );
        chunked.write_all(request.as_bytes()).unwrap();
        [read_answer(&mut pieces).1, read_answer(&mut chunked).1]
    });
    assert_eq!(codes.await, [30001, 30001]);
}

#[actix_web::test]
async fn a_body_that_is_too_long_is_answered_and_not_cut_off() {
    let code = on_a_real_connection(settings(), |address| {
        let mut connection = connect(address);
        let body = " ".repeat(1024 * 1024 + 1);
        connection.write_all(post(&target(ADD, &[]), &body).as_bytes()).unwrap();
        read_answer(&mut connection).1
    });
    assert_eq!(code.await, 60008);
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_60008() {
    let settings = Settings { body_timeout: Duration::from_millis(50), ..settings() };
    let code = on_a_real_connection(settings, |address| {
        let mut connection = connect(address);
        let request = post(&target(ADD, &[]), NO_TARGETS);
        connection.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
        read_answer(&mut connection).1
    });
    assert_eq!(code.await, 60008);
}
