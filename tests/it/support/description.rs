//! What `schemas/openapi.json` says: every answer that a test receives is held to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::wire::Message;

static DESCRIPTION: LazyLock<Description> = LazyLock::new(Description::read);

/// The description, compiled.
pub(crate) struct Description {
    /// As it is published.
    pub(crate) document: Value,
    /// By path.
    pub(crate) calls: BTreeMap<String, DescribedCall>,
    /// The answer to what is no described call.
    other: Validator,
    /// By name in lower case.
    headers: BTreeMap<String, DescribedHeader>,
}

/// One call.
pub(crate) struct DescribedCall {
    pub(crate) request: Validator,
    pub(crate) answer: Validator,
    /// The names in lower case of the headers that its answers may have.
    headers: Vec<String>,
}

struct DescribedHeader {
    required: bool,
    value: Validator,
}

/// A request or an answer is not as described.
#[derive(Debug)]
pub(crate) struct Undescribed(String);

impl fmt::Display for Undescribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails the test if `answer`, of the public listener to a request of `target`, is not as described.
pub(super) fn check(target: &str, answer: &Message) {
    let path = target.split('?').next().unwrap_or_default();
    if let Err(reason) = Description::get().judge(path, answer) {
        panic!("{path} answers {}\nwhich is not as described: {reason}", answer.text());
    }
}

impl Description {
    pub(crate) fn get() -> &'static Self {
        &DESCRIPTION
    }

    fn read() -> Self {
        let text = include_str!("../../../schemas/openapi.json");
        let document: Value = serde_json::from_str(text).expect("the description is JSON");
        let calls = object(&document["paths"]).iter().map(|(path, item)| {
            let call = &item["post"];
            let answer = &call["responses"]["200"];
            let headers = object(&answer["headers"]).keys().map(|name| name.to_lowercase());
            let described = DescribedCall {
                request: compile(&document, schema(&call["requestBody"])),
                answer: compile(&document, schema(answer)),
                headers: headers.collect(),
            };
            (path.clone(), described)
        });
        let headers = object(&document["components"]["headers"]).iter().map(|(name, header)| {
            let value = compile(&document, &header["schema"]);
            let required = header["required"].as_bool().expect("required is said");
            (name.to_lowercase(), DescribedHeader { required, value })
        });
        let (calls, headers) = (calls.collect(), headers.collect());
        let other = compile(&document, &json!({"$ref": "#/components/schemas/CommonFailure"}));
        Self { document, calls, other, headers }
    }

    /// Whether `body` is a request of the call at `path`.
    pub(crate) fn judge_request(&self, path: &str, body: &Value) -> Result<(), Undescribed> {
        match self.calls.get(path) {
            Some(call) => judge(&call.request, body),
            None => Ok(()),
        }
    }

    /// Whether `body` is an answer to what was asked at `path`.
    pub(crate) fn judge_answer(&self, path: &str, body: &Value) -> Result<(), Undescribed> {
        judge(self.calls.get(path).map_or(&self.other, |call| &call.answer), body)?;
        failed_are_named_in_order(body)
    }

    /// The same with its headers.
    fn judge(&self, path: &str, answer: &Message) -> Result<(), Undescribed> {
        let undescribed = |what: String| Err(Undescribed(what));
        let Ok(body) = serde_json::from_slice(&answer.body) else {
            return undescribed("it is no JSON".to_owned());
        };
        self.judge_answer(path, &body)?;
        let allowed = self.calls.get(path).map(|call| &call.headers);
        for (name, header) in &self.headers {
            match answer.header(name) {
                None if header.required => return undescribed(format!("{name} is missing")),
                None => {}
                Some(_) if !allowed.map_or(header.required, |allowed| allowed.contains(name)) => {
                    return undescribed(format!("{name} is too much"));
                }
                Some(value) => judge(&header.value, &json!(value))?,
            }
        }
        Ok(())
    }
}

/// The members of an object.
pub(crate) fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn schema(body: &Value) -> &Value {
    &body["content"]["application/json"]["schema"]
}

/// Compiles a schema of `document`, whose references point into its components.
pub(crate) fn compile(document: &Value, schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let built = jsonschema::draft202012::options().build(&schema);
    built.unwrap_or_else(|error| panic!("{error} in {schema}"))
}

fn judge(schema: &Validator, value: &Value) -> Result<(), Undescribed> {
    // Without the reasons it is several times as fast, and nearly always all that is asked.
    if schema.is_valid(value) {
        return Ok(());
    }
    Err(Undescribed(schema.iter_errors(value).map(|error| reason(&error)).collect()))
}

/// Of several forms a value may have, says for each why it is not that one.
fn reason(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::OneOfNotValid { context } => {
            let forms = context.iter().flat_map(|errors| errors.iter().map(reason));
            forms.collect()
        }
        _ => format!("\n  at {:?}: {error}", error.instance_path().as_str()),
    }
}

/// `Fail_Account` has the accounts of the failed entries, in their order, which a schema cannot say.
/// Rule: rest-api.md 2.2.
fn failed_are_named_in_order(answer: &Value) -> Result<(), Undescribed> {
    let Some(named) = answer["Fail_Account"].as_array() else { return Ok(()) };
    let lists = object(answer).values().filter_map(Value::as_array);
    let entries = lists.flatten().filter(|entry| entry["ResultCode"].is_u64());
    let failed = entries.filter(|entry| entry["ResultCode"] != 0).map(|entry| &entry["To_Account"]);
    if failed.eq(named) {
        Ok(())
    } else {
        Err(Undescribed("Fail_Account does not name the failed entries in order".to_owned()))
    }
}
