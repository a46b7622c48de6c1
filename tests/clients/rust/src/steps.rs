//! Named steps: each runs where it is written, and says how it went.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

pub const ADMIN: &str = "CORDON_APP_ADMIN";

#[derive(Default)]
pub struct Steps {
    failed: usize,
}

impl Steps {
    pub async fn step(&mut self, name: &str, step: impl Future<Output = Result<()>>) {
        match step.await {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                self.failed += 1;
                let why = format!("{error:#}");
                println!("FAIL {name}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }

    pub fn end(self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub fn env(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run it by run.sh"))
}

pub fn app() -> Result<u32> {
    Ok(env("CORDON_APP_ID")?.parse()?)
}

pub fn same<T: PartialEq + Serialize>(got: T, wanted: T) -> Result<()> {
    ensure!(got == wanted, "got {}, not {}", json!(got), json!(wanted));
    Ok(())
}

fn envelope(answer: &Value) -> Value {
    json!([answer["ActionStatus"], answer["ErrorCode"], answer["ErrorInfo"]])
}

/// What the library read, as it writes it.
pub fn ok(answer: impl Serialize) -> Result<Value> {
    let answer = serde_json::to_value(answer)?;
    same(envelope(&answer), json!(["OK", 0, ""]))?;
    Ok(answer)
}

pub fn failed(code: i32, answer: impl Serialize) -> Result<()> {
    let answer = serde_json::to_value(answer)?;
    same(json!([answer["ActionStatus"], answer["ErrorCode"]]), json!(["FAIL", code]))?;
    ensure!(answer["ErrorInfo"].as_str().is_some_and(|info| !info.is_empty()), "{answer}");
    Ok(())
}

/// One result for each account of the request, and those that failed once more.
pub fn results(answer: impl Serialize, wanted: &[(&str, i32, &str)]) -> Result<()> {
    let answer = ok(answer)?;
    let items: Value = (wanted.iter())
        .map(|(name, code, info)| json!({"To_Account": name, "ResultCode": code, "ResultInfo": info}))
        .collect();
    same(&answer["ResultItem"], &items)?;
    let bad: Vec<_> =
        wanted.iter().filter(|(_, code, _)| *code != 0).map(|(name, ..)| *name).collect();
    same(&answer["Fail_Account"], &if bad.is_empty() { Value::Null } else { json!(bad) })
}

/// A list whose order says nothing, nor that of a value which is a list itself.
pub fn sorted(list: &Value) -> Vec<String> {
    let mut items = list.as_array().cloned().unwrap_or_default();
    for value in items.iter_mut().filter_map(|item| item.get_mut("Value")?.as_array_mut()) {
        value.sort_by_key(Value::to_string);
    }
    let mut lines: Vec<_> = items.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}
