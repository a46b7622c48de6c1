//! The golden examples of rest-api.md 14, each on a node of its own.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{ADMIN, APP, Caller, Connection, NOW_S, Setup, TestNode, TestSubscriber};

const SPECIFICATION: &str = include_str!("../spec/rest-api.md");

/// The accounts of the starting state, beside the admin.
const ACCOUNTS: [&str; 5] = ["amy", "bob", "carl", "dora", "eve"];

/// The level 6 signature of rest-api.md 1.10.
const USERSIG: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgYQYAiRSa0oyCxKVbKyMANKQIRKMnOBAobmUIVQ0eLMdKDhoYHFFeluyVklZm4G7i4ZrhYGBkYWlVnhOQal*VmmEQbJfh7FhqEpQYU5ybZKtQC8ajPm";

/// Everything that a subscriber can hear of, and be asked about.
const COMMANDS: &str = "Sns.CallbackBlackListAdd,Sns.CallbackBlackListDelete,\
    Sns.CallbackFriendAdd,Sns.CallbackFriendDelete,Profile.CallbackPortraitSet,\
    C2C.CallbackAfterSendMsg,Sns.CallbackPrevFriendAdd,Sns.CallbackPrevFriendResponse,\
    C2C.CallbackBeforeSendMsg";

/// Lists whose order is free.
const UNORDERED: [&str; 3] = ["ValueItem", "SnsProfileItem", "ProfileItem"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub(crate) id: String,
    title: String,
    #[serde(rename = "unconfirmed")]
    _unconfirmed: Vec<String>,
    given: Given,
    #[serde(default)]
    steps: Vec<Step>,
    request: Option<Request>,
    response: Option<Value>,
    webhooks: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    clock: Option<u32>,
    blocks: Vec<(String, String, u32)>,
    friends: Vec<(String, String)>,
    friend_records: Vec<Map<String, Value>>,
    profiles: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) request: Request,
    pub(crate) response: Value,
    webhooks: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) path: String,
    method: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, Option<String>>,
    pub(crate) body: Option<Value>,
}

impl Example {
    pub(crate) fn steps(&self) -> Vec<Step> {
        match (&self.request, &self.response, &self.webhooks) {
            (Some(request), Some(response), Some(webhooks)) if self.steps.is_empty() => {
                let (request, response) = (request.clone(), response.clone());
                vec![Step { request, response, webhooks: webhooks.clone() }]
            }
            (None, None, None) => self.steps.clone(),
            _ => panic!("{} has neither one step nor several", self.id),
        }
    }
}

pub(crate) fn examples() -> Vec<Example> {
    let blocks = SPECIFICATION.split("```json golden\n").skip(1);
    let examples = blocks.map(|block| {
        let (text, _) = block.split_once("\n```").expect("a block ends");
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    });
    examples.collect()
}

#[test]
fn the_specification_has_as_many_examples_as_are_run() {
    assert_eq!(examples().len(), 28);
}

/// One test per quarter of the examples, so that they share the cores with other tests.
macro_rules! quarters {
    ($($name:ident: $quarter:literal;)*) => {$(
        #[test]
        fn $name() {
            let examples = examples();
            for (_, example) in examples.iter().enumerate().filter(|(at, _)| at % 4 == $quarter) {
                run(example);
            }
        }
    )*};
}

quarters! {
    examples_are_answered_as_written_first_quarter: 0;
    examples_are_answered_as_written_second_quarter: 1;
    examples_are_answered_as_written_third_quarter: 2;
    examples_are_answered_as_written_last_quarter: 3;
}

fn run(example: &Example) {
    let subscriber = TestSubscriber::start();
    let node = Setup::new().webhook(&subscriber).set("WEBHOOK_COMMANDS", COMMANDS).start();
    give(&node, &example.given);
    node.settle();
    subscriber.take();
    for (index, step) in example.steps().iter().enumerate() {
        let place = format!("{} ({}), step {}", example.id, example.title, index + 1);
        let answer = ask(&node, &step.request);
        if let Err(difference) = matches(&step.response, &answer, "") {
            panic!("{place}: {difference} in {answer}");
        }
        node.settle();
        let mut heard: Vec<String> =
            subscriber.take().iter().map(|heard| heard.command().to_owned()).collect();
        heard.sort_unstable();
        let mut expected = step.webhooks.clone();
        expected.sort_unstable();
        assert_eq!(heard, expected, "{place}: webhooks");
    }
    node.stop();
}

/// Brings about the state that an example starts from.
fn give(node: &TestNode, given: &Given) {
    let mut caller = node.caller();
    caller.import(&ACCOUNTS);
    for (account, values) in &given.profiles {
        let fields: Vec<_> =
            values.iter().map(|(tag, value)| (tag.as_str(), json!(value))).collect();
        caller.set_profile(account, &fields).ok();
    }
    for (owner, blocked, at) in &given.blocks {
        node.set_clock(*at);
        assert_eq!(caller.block(owner, &[blocked]).codes(), [0]);
    }
    node.set_clock(1_700_000_000);
    for (owner, friend) in &given.friends {
        assert_eq!(caller.import_friends(owner, &[friend]).codes(), [0]);
    }
    for record in &given.friend_records {
        import_record(&mut caller, record);
    }
    node.set_clock(given.clock.unwrap_or(NOW_S as u32));
}

fn import_record(caller: &mut Caller, record: &Map<String, Value>) {
    let mut item = record.clone();
    let owner = item.remove("From_Account").expect("a record has an owner");
    let body = json!({"From_Account": owner, "AddFriendItem": [item]});
    assert_eq!(caller.call("sns/friend_import", &body).ok().codes(), [0]);
}

fn ask(node: &TestNode, request: &Request) -> Value {
    let app = APP.to_string();
    let default = [
        ("sdkappid", app.as_str()),
        ("identifier", ADMIN),
        ("usersig", USERSIG),
        ("random", "42"),
        ("contenttype", "json"),
    ];
    let mut query = String::new();
    for (name, value) in default {
        let value = match request.query.get(name) {
            None => Some(value),
            Some(changed) => changed.as_deref(),
        };
        let Some(value) = value else { continue };
        query.push_str(if query.is_empty() { "?" } else { "&" });
        query.push_str(&format!("{name}={value}"));
    }
    let body = request.body.as_ref().map(|body| expanded(body).to_string()).unwrap_or_default();
    let target = format!("{}{query}", request.path);
    let method = request.method.as_deref().unwrap_or("POST");
    let mut connection = Connection::open(node.address).expect("the node listens");
    let answer = connection.ask(method, &target, body.as_bytes()).expect("the node answers");
    assert_eq!(answer.status(), 200, "{target}");
    serde_json::from_str(answer.text()).expect("an answer is JSON")
}

/// Writes out `{"$list": [prefix, count]}`.
pub(crate) fn expanded(value: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get("$list") {
            Some(list) => {
                let prefix = list[0].as_str().expect("a prefix");
                let count = list[1].as_u64().expect("a count");
                (1..=count).map(|index| json!(format!("{prefix}{index:04}"))).collect()
            }
            None => {
                let fields = fields.iter().map(|(name, field)| (name.clone(), expanded(field)));
                Value::Object(fields.collect())
            }
        },
        Value::Array(items) => items.iter().map(expanded).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Compares as rest-api.md 14 says; answers the first difference.
fn matches(expected: &Value, found: &Value, name: &str) -> Result<(), String> {
    let differ = || Err(format!("{name}: {found} instead of {expected}"));
    match (expected, found) {
        (Value::String(text), _) if text == "$int" => {
            if found.is_u64() || found.is_i64() {
                Ok(())
            } else {
                differ()
            }
        }
        (Value::String(text), _) if text == "$string" => {
            if found.is_string() {
                Ok(())
            } else {
                differ()
            }
        }
        (Value::Object(expected), Value::Object(found)) => {
            let extra = found.keys().find(|key| !expected.contains_key(*key) && *key != "MsgId");
            if let Some(extra) = extra {
                return Err(format!("{name}: the key {extra} is too much"));
            }
            for (key, value) in expected {
                let Some(found) = found.get(key) else {
                    return Err(format!("{name}: the key {key} is missing"));
                };
                matches(value, found, key)?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(found)) => {
            if expected.len() != found.len() {
                return differ();
            }
            if UNORDERED.contains(&name) {
                let found_all = expected
                    .iter()
                    .all(|one| found.iter().any(|other| matches(one, other, "").is_ok()));
                return if found_all { Ok(()) } else { differ() };
            }
            let pairs = expected.iter().zip(found);
            pairs.into_iter().try_for_each(|(one, other)| matches(one, other, name))
        }
        _ if expected == found => Ok(()),
        _ => differ(),
    }
}

/// The rules of comparing are rules of the specification, too.
#[test]
fn answers_are_compared_as_the_specification_says() {
    let same = |expected, found| matches(&expected, &found, "").is_ok();
    assert!(same(json!({"A": "$int", "B": "$string"}), json!({"B": "x", "A": 3, "MsgId": "y"})));
    assert!(!same(json!({"A": "$int"}), json!({"A": "3"})));
    assert!(!same(json!({"A": 1}), json!({"A": 1, "B": 2})));
    assert!(!same(json!({"A": 1, "B": 2}), json!({"A": 1})));
    assert!(!same(json!([1, 2]), json!([2, 1])));
    assert!(!same(json!([1]), json!([1, 1])));
    assert!(same(json!({"ValueItem": [1, 2]}), json!({"ValueItem": [2, 1]})));
    assert!(!same(json!({"ValueItem": [1, 2]}), json!({"ValueItem": [2, 3]})));
    assert_eq!(expanded(&json!({"T": {"$list": ["x", 2]}})), json!({"T": ["x0001", "x0002"]}));
}
