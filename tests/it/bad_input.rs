//! What no caller should send: every command gets it, and none is shaken. Rule: rest-api.md 1.8, 1.9.
//!
//! Fields and lists are those of `schemas/openapi.json`, so a new field is tried without a word here.
//! That each answer is HTTP 200 and as described, `support/wire.rs` checks.

use std::collections::BTreeSet;

use cordon::http::Operation;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, Description, Identity, Setup, TestNode, audit, object};

/// A body is too long; or whoever should answer has not, and the edge gave up.
const TIMED_OUT: u64 = 60008;
/// Codes that tell of trouble of the node: no request may bring them about, but for a body that is too long.
const TROUBLE: [u64; 10] =
    [30006, 30007, 40006, TIMED_OUT, 70169, 70500, 90994, 91000, 97994, 97999];

/// The longest body, in bytes. Rule: rest-api.md 1.8.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Entries of lists that are not limited. Rule: rest-api.md 1.8.
const MANY: usize = 1001;

/// What is put into each field in turn: of each JSON type, and what hardly is a value.
const VALUES: [&str; 17] = [
    "7",
    "-1",
    "1.5",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "-1e400",
    "\"x\"",
    "\"\"",
    r#""\u0000\n\ud83d\ude00""#,
    r#""\ud800""#,
    "true",
    "null",
    "[]",
    "[null,7,\"x\",{},[[]]]",
    "{}",
];

/// What stands for the value in a body that is still being made.
const MARK: &str = "@ here @";

/// One step into a body: a member of an object, or the first entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Member(String),
    Entry,
}

type Place = Vec<Step>;

/// A node, and what it was asked.
struct Trial {
    node: TestNode,
    caller: Caller,
    /// The ids of calls that were refused as a whole, and of those that were not.
    refused: BTreeSet<String>,
    taken: BTreeSet<String>,
}

impl Trial {
    fn start() -> Self {
        let setup = Setup::new().set("FRIEND_CUSTOM_FIELDS", "level");
        let node = setup.start();
        let mut caller = node.caller();
        caller.import(&["amy", "bob", "carl", "dora", "eve", "fred", "gina", "hugo"]);
        Self { node, caller, refused: BTreeSet::new(), taken: BTreeSet::new() }
    }

    /// Calls `operation`; the answer tells of no trouble, and of no change if it is a refusal.
    fn call(&mut self, operation: Operation, body: &[u8]) -> Answer {
        let answer = self.ask(operation, body);
        let codes = entries(&answer).chain([answer.code()]);
        let trouble = codes.filter(|code| TROUBLE.contains(code)).count();
        assert_eq!(trouble, 0, "{}", shown(operation, body, &answer));
        answer
    }

    /// The same with an answer that may tell of trouble.
    fn ask(&mut self, operation: Operation, body: &[u8]) -> Answer {
        let query = Identity::default().query();
        let answer = self.caller.call_with(operation.command(), &query, body);
        let request = answer.header("cordon-request-id").expect("a request has an id").to_owned();
        if answer.code() == 0 {
            self.taken.insert(request);
        } else {
            let position = answer.header("cordon-position");
            assert_eq!(position, None, "{}", shown(operation, body, &answer));
            self.refused.insert(request);
        }
        answer
    }

    /// Stops the node. Not one record of its journal is of a call that was refused as a whole.
    fn end(self) {
        let Self { node, caller, refused, taken } = self;
        drop(caller);
        let stopped = node.stop();
        let (code, text) = audit(&stopped.setup, &["replay", "--json"]);
        assert_eq!(code, 0, "{text}");
        let recorded: BTreeSet<String> = text
            .lines()
            .filter_map(|line| {
                let record: Value = serde_json::from_str(line).expect("a record is JSON");
                Some(record["by"]["request"].as_str()?.to_owned())
            })
            .collect();
        assert_eq!(recorded.intersection(&refused).next(), None, "a refused call was recorded");
        let changes = recorded.intersection(&taken).count();
        assert!(changes > 0 || taken.is_empty(), "records name the calls that they are of");
    }
}

/// The codes of an answer's entries.
fn entries(answer: &Answer) -> impl Iterator<Item = u64> {
    let lists = object(&answer.body).values().filter_map(Value::as_array);
    lists.flatten().filter_map(|entry| entry["ResultCode"].as_u64())
}

fn shown(operation: Operation, body: &[u8], answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&body[..body.len().min(300)]);
    format!("{} {body}\n{}", operation.command(), answer.text())
}

/// The request that the description gives as an example.
fn example(operation: Operation) -> Value {
    let call = described(operation);
    call["requestBody"]["content"]["application/json"]["example"].clone()
}

fn described(operation: Operation) -> &'static Value {
    let path = format!("/v4/{}", operation.command());
    &Description::get().document["paths"][path]["post"]
}

/// Every field of a request and every entry of a list, with the schemas that hold there.
fn places(operation: Operation) -> Vec<(Place, Vec<&'static Value>)> {
    let body = &described(operation)["requestBody"]["content"]["application/json"];
    let mut places: Vec<(Place, Vec<&Value>)> = Vec::new();
    walk(&body["schema"], &mut Vec::new(), &mut |place, schema| match places
        .iter_mut()
        .find(|(known, _)| known == place)
    {
        Some((_, schemas)) => schemas.push(schema),
        None => places.push((place.clone(), vec![schema])),
    });
    places
}

fn walk(schema: &'static Value, place: &mut Place, with: &mut impl FnMut(&Place, &'static Value)) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let target = Description::get().document.pointer(pointer).expect("a reference resolves");
        walk(target, place, with);
    }
    if !place.is_empty() {
        with(place, schema);
    }
    for forms in ["allOf", "anyOf", "oneOf"] {
        for form in schema[forms].as_array().into_iter().flatten() {
            walk(form, place, with);
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        place.push(Step::Member(name.clone()));
        walk(field, place, with);
        place.pop();
    }
    if schema["items"].is_object() {
        place.push(Step::Entry);
        walk(&schema["items"], place, with);
        place.pop();
    }
}

/// The value at `place`, which is made if it is not there.
fn at<'v>(body: &'v mut Value, place: &[Step]) -> &'v mut Value {
    place.iter().fold(body, |value, step| match step {
        Step::Member(name) => {
            if !value.is_object() {
                *value = json!({});
            }
            &mut value[name]
        }
        Step::Entry => {
            if value.as_array().is_none_or(Vec::is_empty) {
                *value = json!([null]);
            }
            &mut value[0]
        }
    })
}

/// The example with the text `value` at `place`, and without the forms of which that one is another.
fn with(operation: Operation, place: &[Step], value: &str) -> String {
    let mut body = example(operation);
    let forms = forms(operation);
    if let Some(Step::Member(name)) = place.first()
        && forms.contains(&&**name)
    {
        body.as_object_mut().expect("an object").retain(|field, _| !forms.contains(&&**field));
    }
    *at(&mut body, place) = json!(MARK);
    body.to_string().replace(&format!("\"{MARK}\""), value)
}

/// The fields of which one is enough.
fn forms(operation: Operation) -> Vec<&'static str> {
    let reference = &described(operation)["requestBody"]["content"]["application/json"]["schema"];
    let pointer = reference["$ref"].as_str().expect("a reference").trim_start_matches('#');
    let schema = Description::get().document.pointer(pointer).expect("a reference resolves");
    let forms = schema["anyOf"].as_array().into_iter().flatten();
    forms.filter_map(|form| form["required"][0].as_str()).collect()
}

/// Whether the place is one of an account, which has to be a text.
fn names_an_account(place: &[Step]) -> bool {
    const ACCOUNTS: [&str; 5] = ["From_Account", "To_Account", "UserID", "Identifier", "Accounts"];
    let name = place.iter().rev().find_map(|step| match step {
        Step::Member(name) => Some(&**name),
        Step::Entry => None,
    });
    name.is_some_and(|name| ACCOUNTS.contains(&name))
}

fn not_json(operation: Operation) -> u64 {
    if operation.command().starts_with("openim/") { 90001 } else { 60003 }
}

#[test]
fn every_field_takes_a_value_of_any_type_and_is_answered() {
    let mut trial = Trial::start();
    let mut calls = 0;
    for operation in Operation::ALL {
        for (place, schemas) in places(*operation) {
            let is_list = schemas.iter().any(|schema| schema["type"] == "array");
            for value in VALUES {
                let answer = trial.call(*operation, with(*operation, &place, value).as_bytes());
                let is_text = value.starts_with('"');
                let is_absent = value == "null" && place.last() != Some(&Step::Entry);
                let no_number = value.contains("e400");
                if names_an_account(&place) && !is_list && !is_text && !is_absent && !no_number {
                    assert_eq!(answer.code(), 60015, "{} {place:?} {value}", operation.command());
                }
                calls += 1;
            }
        }
    }
    assert!(calls > 2000, "{calls}");
    trial.end();
}

#[test]
fn lists_that_are_empty_or_too_long_are_refused_or_fail_by_entry() {
    let mut trial = Trial::start();
    let mut refused = BTreeSet::new();
    for operation in Operation::ALL {
        for (place, schemas) in places(*operation) {
            if !schemas.iter().any(|schema| schema["type"] == "array") {
                continue;
            }
            let mut body = example(*operation);
            let entry = at(&mut body, &[&place[..], &[Step::Entry]].concat()).to_string();
            let entry = if entry == "null" { "\"x\"".to_owned() } else { entry };
            let max = schemas.iter().find_map(|schema| schema["maxItems"].as_u64());
            let many = max.map_or(MANY, |max| max as usize + 1);
            let long = format!("[{}]", vec![entry; many].join(","));
            let body = with(*operation, &place, &long);
            let answer = trial.call(*operation, body.as_bytes());
            if max.is_some() && place.len() == 1 {
                assert_ne!(answer.code(), 0, "{} {place:?}", operation.command());
                refused.insert(answer.code());
            } else if max.is_some() {
                let failed = answer.code() != 0 || entries(&answer).any(|code| code != 0);
                assert!(failed, "{} {place:?}: {}", operation.command(), answer.text());
            }
            let empty = trial.call(*operation, with(*operation, &place, "[]").as_bytes());
            if schemas.iter().any(|schema| schema["minItems"] == 1) && place.len() == 1 {
                assert_ne!(empty.code(), 0, "{} {place:?}", operation.command());
            }
        }
    }
    assert_eq!(refused, BTreeSet::from([30001, 40001, 70402, 90011, 97003, 97007, 97008]));
    trial.end();
}

#[test]
fn names_that_are_too_long_are_no_accounts() {
    let mut trial = Trial::start();
    for operation in Operation::ALL {
        for (place, schemas) in places(*operation) {
            if !names_an_account(&place) || schemas.iter().any(|s| s["type"] == "array") {
                continue;
            }
            for bytes in [33, 100_000] {
                let name = format!("\"{}\"", "x".repeat(bytes));
                let answer = trial.call(*operation, with(*operation, &place, &name).as_bytes());
                let failed = object(&answer.body).values().filter_map(Value::as_array).flatten();
                // An entry that failed, or its name in a list of those that did.
                let failed = failed.filter(|entry| entry["ResultCode"] != 0).count();
                assert!(answer.code() != 0 || failed > 0, "{} {place:?}", operation.command());
            }
        }
    }
    trial.end();
}

#[test]
fn bodies_that_are_too_deep_too_long_or_no_text_are_refused_by_every_command() {
    let mut trial = Trial::start();
    for operation in Operation::ALL {
        let example = example(*operation).to_string();
        let open = example.strip_suffix('}').expect("an object");
        let deep = |levels: usize| {
            format!("{open},\"More\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        let objects = |levels: usize| format!("{open},\"More\":{}", "{\"a\":".repeat(levels - 1));
        let mut no_text = format!("{open},\"More\":\"").into_bytes();
        no_text.extend_from_slice(b"\xc3\x28\"}");
        for body in [
            deep(65).into_bytes(),
            deep(100_000).into_bytes(),
            objects(65).into_bytes(),
            objects(100_000).into_bytes(),
            no_text,
            b"\xff\xfe".to_vec(),
            open.as_bytes().to_vec(),
            format!("[{example}]").into_bytes(),
            format!("{example}{example}").into_bytes(),
            Vec::new(),
        ] {
            assert_eq!(trial.call(*operation, &body).code(), not_json(*operation));
        }
        let padded = |bytes: usize| {
            let frame = format!("{open},\"More\":\"\"}}").len();
            format!("{open},\"More\":\"{}\"}}", "x".repeat(bytes - frame)).into_bytes()
        };
        assert_eq!(trial.ask(*operation, &padded(BODY_BYTES_MAX + 1)).code(), TIMED_OUT);
        // The longest that is read, and the deepest, fail by what they say if at all.
        for body in [padded(BODY_BYTES_MAX), deep(64).into_bytes()] {
            assert_eq!(trial.call(*operation, &body).code(), 0, "{}", operation.command());
        }
    }
    trial.end();
}
