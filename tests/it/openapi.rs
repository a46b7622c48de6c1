//! `schemas/openapi.json` is a valid description, complete, equal to the contract, and strict.
//!
//! That the server keeps to it is proved by every other test: `support/wire.rs` holds each answer
//! of a public listener to the description.

use std::collections::BTreeSet;

use cordon::http::{Operation, error_code};
use serde_json::{Value, json};

use crate::golden::{Request, Step, examples, expanded};
use crate::support::{Description, compile, object};

/// Codes of a call as a whole that say that its body is not as it should be.
const BODY_REFUSED: [u64; 4] = [30001, 40605, 60003, 60015];

#[test]
fn the_document_is_openapi_3_1() {
    let document = &Description::get().document;
    let version = document["openapi"].as_str().expect("a version");
    assert!(version.starts_with("3.1."), "{version}");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for name in ["title", "description"] {
        assert!(document["info"][name].is_string(), "{name}");
    }
    let mut ids = BTreeSet::new();
    let tags = document["tags"].as_array().expect("tags");
    for (path, item) in object(&document["paths"]) {
        assert_eq!(object(item).keys().collect::<Vec<_>>(), ["post"], "{path}");
        let call = &item["post"];
        assert!(ids.insert(call["operationId"].as_str().expect("an id")), "{path}");
        assert!(tags.iter().any(|tag| tag["name"] == call["tags"][0]), "{path}");
        assert_eq!(call["requestBody"]["required"], true, "{path}");
        assert_eq!(object(&call["responses"]).keys().collect::<Vec<_>>(), ["200"], "{path}");
    }
}

#[test]
fn every_reference_resolves_and_every_component_is_used() {
    let document = &Description::get().document;
    let mut named = BTreeSet::new();
    walk(document, &mut |value| {
        if let Some(reference) = value.get("$ref") {
            let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
            let pointer = pointer.expect("a reference points into the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
            named.insert(pointer.to_owned());
        }
    });
    for (kind, components) in object(&document["components"]) {
        for name in object(components).keys() {
            assert!(named.contains(&format!("/components/{kind}/{name}")), "{name} is not used");
        }
    }
}

#[test]
fn every_schema_is_one_of_json_schema_2020_12() {
    let document = &Description::get().document;
    for (name, schema) in object(&document["components"]["schemas"]) {
        if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
            panic!("{name}: {error}");
        }
        compile(document, schema);
    }
    for (name, parameter) in object(&document["components"]["parameters"]) {
        assert_eq!(parameter["name"], **name);
        compile(document, &parameter["schema"]);
    }
}

#[test]
fn every_call_and_field_is_explained() {
    let document = &Description::get().document;
    for (path, item) in object(&document["paths"]) {
        let sentence = item["post"]["summary"].as_str().expect("a sentence");
        assert!(sentence.ends_with('.'), "{path}: {sentence}");
    }
    let explained = |value: &Value| {
        let text = value["description"].as_str();
        text.map_or(value.get("$ref").is_some(), |text| text.ends_with('.'))
    };
    for (name, schema) in object(&document["components"]["schemas"]) {
        assert!(explained(schema), "{name}");
        for (field, value) in schema["properties"].as_object().into_iter().flatten() {
            // A condition on a field that is explained elsewhere has no text of its own.
            assert!(explained(value) || value["not"].is_object(), "{name}.{field}");
        }
    }
}

#[test]
fn the_described_calls_are_the_served_ones() {
    let served: BTreeSet<String> =
        Operation::ALL.iter().map(|operation| format!("/v4/{}", operation.command())).collect();
    let described: BTreeSet<String> = Description::get().calls.keys().cloned().collect();
    assert_eq!(described, served);
}

#[test]
fn every_code_that_is_answered_is_described() {
    let mut described = BTreeSet::new();
    walk(&Description::get().document["components"]["schemas"], &mut |value| {
        for name in ["ErrorCode", "ResultCode"] {
            let code = &value["properties"][name];
            for list in [&code["enum"], &code["anyOf"][0]["enum"]] {
                described.extend(list.as_array().into_iter().flatten().filter_map(Value::as_u64));
            }
        }
    });
    for code in error_code::ALL {
        assert!(described.contains(&u64::from(code.number)), "{} {}", code.number, code.name);
    }
}

/// Whoever wants all of them may name each.
#[test]
fn lists_of_webhook_commands_have_room_for_all_there_are() {
    let schemas = &Description::get().document["components"]["schemas"];
    let commands = schemas["CallbackCommand"]["enum"].as_array().expect("a list").len();
    let reference = json!("#/components/schemas/CallbackCommand");
    let mut lists = 0;
    walk(schemas, &mut |value| {
        if value["items"]["$ref"] == reference {
            assert_eq!(value["maxItems"], commands, "{value}");
            lists += 1;
        }
    });
    assert!(lists >= 2, "{lists}");
}

#[test]
fn every_example_request_is_as_described() {
    let description = Description::get();
    for (path, item) in object(&description.document["paths"]) {
        let example = &item["post"]["requestBody"]["content"]["application/json"]["example"];
        if let Err(reason) = description.judge_request(path, example) {
            panic!("{path}: {reason}");
        }
    }
}

/// Every step of the golden examples, with what to call it.
fn steps() -> impl Iterator<Item = (String, Step)> {
    examples().into_iter().flat_map(|example| {
        let steps = example.steps().into_iter().enumerate();
        steps.map(move |(index, step)| (format!("{}, step {}", example.id, index + 1), step))
    })
}

#[test]
fn every_golden_request_and_answer_is_as_described() {
    let description = Description::get();
    let mut described = BTreeSet::new();
    let mut refused = 0;
    for (place, Step { request: Request { path, body, .. }, response, .. }) in steps() {
        let answer = filled(&response);
        if let Err(reason) = description.judge_answer(&path, &answer) {
            panic!("{place}: {answer} {reason}");
        }
        let Some(body) = body else { continue };
        let verdict = description.judge_request(&path, &expanded(&body));
        if response["ErrorCode"].as_u64().is_some_and(|code| BODY_REFUSED.contains(&code)) {
            assert!(verdict.is_err(), "{place}: {body} is refused");
            refused += 1;
        } else if let Err(reason) = verdict {
            panic!("{place}: {body} {reason}");
        }
        described.insert(path);
    }
    assert!(described.len() > 15 && refused > 3, "{described:?}, {refused}");
}

/// Writes out the placeholders of rest-api.md 14.
fn filled(answer: &Value) -> Value {
    match answer {
        Value::String(text) if text == "$int" => json!(1),
        Value::String(text) if text == "$string" => json!("text"),
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), filled(value))).collect())
        }
        _ => answer.clone(),
    }
}

/// No value of any golden answer may be `null`, of another type, missing, or one too many.
#[test]
fn an_answer_with_one_wrong_value_is_refused() {
    let description = Description::get();
    let mut tried = 0;
    for (place, Step { request, response, .. }) in steps() {
        let wrong = spoilt(&filled(&response));
        tried += wrong.len();
        for value in wrong {
            assert!(description.judge_answer(&request.path, &value).is_err(), "{place}: {value}");
        }
    }
    assert!(tried > 1000, "{tried}");
}

/// Every way to spoil `value` in one place.
fn spoilt(value: &Value) -> Vec<Value> {
    let mut all = vec![Value::Null];
    match value {
        Value::Number(number) => all.push(json!(number.to_string())),
        Value::String(_) => all.push(json!(7)),
        Value::Array(items) => {
            all.push(json!({}));
            for (index, item) in items.iter().enumerate() {
                all.extend(spoilt(item).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[index] = item;
                    Value::Array(items)
                }));
            }
        }
        Value::Object(fields) => {
            let with = |name: &str, field: Value| {
                let mut fields = fields.clone();
                fields.insert(name.to_owned(), field);
                Value::Object(fields)
            };
            all.push(with("Invalid_Account", json!(["bob"])));
            for (name, field) in fields {
                all.extend(spoilt(field).into_iter().map(|field| with(name, field)));
                // The friends in a group are the one list that an answer may leave out.
                if !(name == "To_Account" && fields.contains_key("FriendNumber")) {
                    let fewer = fields.iter().filter(|(other, _)| *other != name);
                    let fewer = fewer.map(|(name, field)| (name.clone(), field.clone()));
                    all.push(Value::Object(fewer.collect()));
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    all
}

const OK: &str = r#""ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ErrorDisplay":"""#;

/// Each is refused, and accepted once it is put right.
#[test]
fn an_answer_against_the_contract_is_refused() {
    let fine = r#"{"To_Account":"bob","ResultCode":0,"ResultInfo":""}"#;
    let failed = r#"{"To_Account":"bob","ResultCode":30001,"ResultInfo":"x"}"#;
    let page = |fields: &str| format!(r#"{{"BlackListItem":[],"StartIndex":0,{fields},{OK}}}"#);
    let relation = |item: &str| {
        format!(
            r#"{{"BlackListCheckItem":[{{"To_Account":"bob",{item},"ResultCode":0,"ResultInfo":""}}],{OK}}}"#
        )
    };
    let results = |item: &str, more: &str| format!(r#"{{"ResultItem":[{item}]{more},{OK}}}"#);
    let whole = |code: u32, more: &str| {
        format!(r#"{{"ActionStatus":"FAIL","ErrorCode":{code},"ErrorInfo":"x"{more}}}"#)
    };
    let display = r#","ErrorDisplay":"""#;
    let (add, delete) = ("sns/black_list_add", "sns/friend_delete");
    let cases = [
        ("an empty Fail_Account", add, results(fine, r#","Fail_Account":[]"#), results(fine, "")),
        (
            "a needless Fail_Account",
            add,
            results(fine, r#","Fail_Account":["bob"]"#),
            results(fine, ""),
        ),
        (
            "no Fail_Account",
            add,
            results(failed, ""),
            results(failed, r#","Fail_Account":["bob"]"#),
        ),
        (
            "another Fail_Account",
            add,
            results(failed, r#","Fail_Account":["eve"]"#),
            results(failed, r#","Fail_Account":["bob"]"#),
        ),
        (
            "Fail_Account of friend_delete",
            delete,
            results(failed, r#","Fail_Account":["bob"]"#),
            results(failed, ""),
        ),
        (
            "a code of another call",
            add,
            results(&failed.replace("30001", "31704"), r#","Fail_Account":["bob"]"#),
            results(failed, r#","Fail_Account":["bob"]"#),
        ),
        (
            "a failed entry without a text",
            add,
            results(&failed.replace("\"x\"", "\"\""), r#","Fail_Account":["bob"]"#),
            results(failed, r#","Fail_Account":["bob"]"#),
        ),
        (
            "a text of a success",
            add,
            results(&fine.replace("\"ResultInfo\":\"\"", "\"ResultInfo\":\"OK\""), ""),
            results(fine, ""),
        ),
        (
            "results of a failure",
            add,
            whole(30001, &format!(r#"{display},"ResultItem":[{fine}]"#)),
            whole(30001, display),
        ),
        ("no ErrorDisplay of sns", add, whole(30001, ""), whole(30001, display)),
        ("ErrorDisplay of a common check", add, whole(60015, display), whole(60015, "")),
        (
            "ErrorDisplay of accounts",
            "im_open_login_svc/account_import",
            whole(70402, display),
            whole(70402, ""),
        ),
        ("a failure with code 0", add, whole(0, display), whole(30003, display)),
        (
            "a failure without a text",
            add,
            whole(30003, display).replace("\"x\"", "\"\""),
            whole(30003, display),
        ),
        ("SomeError", add, results(fine, "").replace("\"OK\"", "\"SomeError\""), results(fine, "")),
        (
            "one spelling alone",
            "sns/black_list_get",
            page(r#""CurrentSequence":1"#),
            page(r#""CurrentSequence":1,"CurruentSequence":1"#),
        ),
        (
            "33 bits",
            "sns/black_list_get",
            page(r#""CurrentSequence":1,"CurruentSequence":2147483648"#),
            page(r#""CurrentSequence":1,"CurruentSequence":2147483647"#),
        ),
        (
            "a fraction",
            "sns/black_list_get",
            page(r#""CurrentSequence":1,"CurruentSequence":1.5"#),
            page(r#""CurrentSequence":1,"CurruentSequence":1"#),
        ),
        (
            "a relation of friends",
            "sns/black_list_check",
            relation(r#""Relation":"CheckResult_Type_NoRelation""#),
            relation(r#""Relation":"BlackCheckResult_Type_NO""#),
        ),
    ];
    let description = Description::get();
    for (what, call, wrong, right) in cases {
        let judge = |text: &str| {
            let body = serde_json::from_str(text).expect("JSON");
            description.judge_answer(&format!("/v4/{call}"), &body)
        };
        if let Err(reason) = judge(&right) {
            panic!("{what}: {right} {reason}");
        }
        assert!(judge(&wrong).is_err(), "{what}: {wrong}");
    }
}

/// Calls `with` for `value` and everything in it.
fn walk<'a>(value: &'a Value, with: &mut impl FnMut(&'a Value)) {
    with(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, with)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
