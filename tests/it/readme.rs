//! README.md says nothing about calls, settings and webhooks that the program does not do. Its lines
//! are read as a user would paste them, and what it prints beside them is what has to be answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cordon::config::{Config, Environment};
use cordon::http::Operation;
use serde_json::{Value, json};

use crate::support::{ADMIN, APP, Answer, Connection, Identity, Setup, TestNode, audit};

const README: &str = include_str!("../../README.md");

/// The end of each chapter of README that is read, and its beginning.
const TOUR: (&str, &str) = ("## A tour of five minutes", "## Operating it");
const SETTINGS: (&str, &str) = ("### Settings", "### The data folder");
const API: (&str, &str) = ("## The API", "## What is not there yet");
const WEBHOOKS: (&str, &str) = ("### Webhooks", "### Beyond the reference");

/// Numbers that depend on when something was done, or in how many records.
const OF_THE_MOMENT: [&str; 7] = [
    "AddBlackTimeStamp",
    "AddTime",
    "CurrentSequence",
    "CurruentSequence",
    "CustomSequence",
    "MsgTime",
    "StandardSequence",
];

/// The tables of settings that an app decides about its users with.
const RULES: [&str; 6] = ["limits", "block", "friend", "profile", "c2c", "account"];

fn chapter((from, to): (&str, &str)) -> &'static str {
    let at = |heading: &str| {
        let line = format!("\n{heading}\n");
        README.find(&line).unwrap_or_else(|| panic!("README has no {heading}"))
    };
    &README[at(from)..at(to)]
}

/// The fenced blocks of `text`: their language and lines.
fn blocks(text: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), inside.take()) {
            (Some(language), None) => inside = Some((language, Vec::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, mut lines))) => {
                lines.push(line);
                inside = Some((language, lines));
            }
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "the last block has no end");
    blocks
}

/// The cells of each row of the table with these headings.
fn table(text: &'static str, headings: &str) -> Vec<Vec<&'static str>> {
    let mut lines = text.lines().skip_while(|line| *line != headings).skip(2);
    let rows = lines.by_ref().map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    assert!(!rows.is_empty(), "no table {headings}");
    rows
}

fn unquoted(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// One line that calls the API.
struct Line {
    command: &'static str,
    /// The line of the request's head that it adds, with its end.
    header: String,
    body: &'static str,
    /// The answer that stands below.
    shown: Option<Value>,
}

impl Line {
    /// Reads `curl -sw '\n' "$url/COMMAND?$query" [-H 'HEADER'] -d 'BODY'`, or `call COMMAND 'BODY'`.
    fn read(line: &'static str) -> Option<Self> {
        let (command, header, body) = if let Some(rest) = line.strip_prefix("call ") {
            let (command, body) = rest.split_once(' ')?;
            (command, None, body)
        } else {
            let rest = line.strip_prefix("curl ")?;
            let rest = rest.strip_prefix(r#"-sw '\n' "$url/"#);
            let parts = rest.and_then(|rest| rest.split_once(r#"?$query" "#));
            let parts = parts.and_then(|(command, rest)| Some((command, rest.split_once("-d ")?)));
            let Some((command, (header, body))) = parts else {
                panic!("a curl of another form: {line}")
            };
            let header = header.trim_end().strip_prefix("-H ").map(quoted);
            (command, header, body)
        };
        let header = header.map(|header| format!("{header}\r\n")).unwrap_or_default();
        Some(Self { command, header, body: quoted(body), shown: None })
    }

    fn ask(&self, node: &TestNode, query: &str) -> Answer {
        let target = format!("/v4/{}?{query}", self.command);
        let mut connection = Connection::open(node.address).expect("the node listens");
        let answer = connection.ask_with("POST", &target, &self.header, self.body.as_bytes());
        Answer::of(answer.expect("the node answers"))
    }

    /// Asks, and holds the answer to what README says and does not say of it.
    fn hold(&self, node: &TestNode, query: &str) -> Answer {
        let answer = self.ask(node, query);
        let place = format!("{} {}", self.command, self.body);
        assert_eq!(answer.code(), 0, "{place}: {}", answer.body);
        match &self.shown {
            Some(shown) => assert!(alike("", shown, &answer.body), "{place}: {}", answer.text()),
            // A reader takes what is not shown for a success.
            None => assert!(
                !failed(&answer.body) && answer.body["ActionStatus"] == "OK",
                "{place}: {}",
                answer.text()
            ),
        }
        answer
    }
}

fn quoted(text: &'static str) -> &'static str {
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let inner = inner.filter(|inner| !inner.contains('\''));
    inner.unwrap_or_else(|| panic!("it is not in single quotes: {text}"))
}

/// The lines of a chapter that call, each with its answer: the lines of a block of text are the answers
/// to the last lines of the block of commands before it.
fn lines(text: &'static str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut unanswered = 0;
    for (language, block) in blocks(text) {
        if language == "sh" {
            let calls = block.into_iter().filter_map(Line::read);
            let before = lines.len();
            lines.extend(calls);
            unanswered = lines.len() - before;
        } else if language == "text" && unanswered > 0 {
            assert!(block.len() <= unanswered, "more answers than calls: {block:?}");
            let first = lines.len() - block.len();
            for (line, answer) in lines[first..].iter_mut().zip(block) {
                let shown = serde_json::from_str(answer);
                line.shown = Some(shown.unwrap_or_else(|error| panic!("{error} in {answer}")));
            }
            unanswered = 0;
        }
    }
    lines
}

/// Whether an answer is the one that is shown, but for the numbers of the moment.
fn alike(name: &str, shown: &Value, found: &Value) -> bool {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            let tag = shown.get("Tag").and_then(Value::as_str).unwrap_or_default();
            let is_time = tag.ends_with("AddTime");
            let same = |(name, value): (&String, &Value)| {
                let of = if is_time { "AddTime" } else { name.as_str() };
                found.get(name).is_some_and(|found| alike(of, value, found))
            };
            shown.len() == found.len() && shown.iter().all(same)
        }
        (Value::Array(shown), Value::Array(found)) => {
            let mut pairs = shown.iter().zip(found);
            shown.len() == found.len() && pairs.all(|(shown, found)| alike("", shown, found))
        }
        (Value::String(shown), Value::String(found)) if name == "MsgKey" => {
            let chosen = |key: &str| key.rsplit_once('_').map(|(chosen, _)| chosen.to_owned());
            chosen(shown).is_some() && chosen(shown) == chosen(found)
        }
        (Value::Number(_), Value::Number(found)) if OF_THE_MOMENT.contains(&name) => found.is_u64(),
        _ => shown == found,
    }
}

/// Whether an entry of the answer tells of a failure.
fn failed(answer: &Value) -> bool {
    match answer {
        Value::Object(fields) => {
            let code = fields.get("ResultCode").and_then(Value::as_u64).unwrap_or(0);
            code != 0 || fields.values().any(failed)
        }
        Value::Array(items) => items.iter().any(failed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What a shell would have in the variables of the first block of commands.
fn variables(text: &'static str) -> BTreeMap<&'static str, &'static str> {
    let (_, first) = blocks(text).into_iter().find(|(language, _)| *language == "sh").unwrap();
    first.into_iter().filter_map(|line| line.split_once('=')).collect()
}

/// README's query for the app of the tests.
fn query() -> String {
    let variables = variables(chapter(API));
    assert!(variables["sig"].starts_with("$(target/release/cordon usersig"));
    assert!(variables["app"].contains("data/development-app.json"));
    let query = variables["query"].trim_matches('"');
    let usersig = Identity::default().usersig;
    let query = query.replace("$app", &APP.to_string()).replace("$sig", &usersig);
    assert!(query.contains(ADMIN) && !query.contains('$'), "{query}");
    query
}

#[test]
fn every_call_is_called_and_every_answer_is_as_printed() {
    let node = Setup::new().start();
    let query = query();
    let lines = lines(chapter(API));
    let mut called = BTreeSet::new();
    let mut positions: BTreeMap<&str, Vec<Option<String>>> = BTreeMap::new();
    for line in &lines {
        let answer = line.hold(&node, &query);
        called.insert(line.command);
        if !line.header.is_empty() {
            assert!(line.header.starts_with("Idempotency-Key: "), "{}", line.header);
            let position = answer.header("cordon-position").map(str::to_owned);
            positions.entry(line.header.as_str()).or_default().push(position);
        }
    }
    let all: BTreeSet<&str> = Operation::ALL.iter().map(|operation| operation.command()).collect();
    assert_eq!(called, all);
    let [twice] = positions.values().collect::<Vec<_>>()[..] else { panic!("{positions:?}") };
    assert!(matches!(&twice[..], [Some(first), Some(again)] if first == again), "{twice:?}");
    assert!(lines.iter().filter(|line| line.shown.is_some()).count() > 10);
    node.stop();
}

#[test]
fn the_tour_is_answered_as_printed_and_stays_so_over_a_restart() {
    let node = Setup::new().start();
    let query = query();
    let lines = lines(chapter(TOUR));
    assert!(lines.len() > 8 && lines.iter().all(|line| line.shown.is_some()));
    let (last, first) = lines.split_last_chunk::<2>().map(|(first, last)| (last, first)).unwrap();
    for line in first {
        line.hold(&node, &query);
    }
    let history = told(&node, &["history", "dora"]);
    let place = history.lines().nth(1).and_then(|line| line.split_whitespace().nth(2));
    let state = told(&node, &["state", "dora", "--at", place.expect("the second record")]);
    for (command, found) in [("cordon history dora", history), ("cordon state dora --at", state)] {
        assert_eq!(shape(&printed(command).join("\n")), shape(&found), "{command}");
    }
    let node = node.restart();
    for line in last {
        line.hold(&node, &query);
    }
    node.stop();
}

/// What an audit command says of the node's journal.
fn told(node: &TestNode, arguments: &[&str]) -> String {
    let (code, text) = audit(node.setup(), arguments);
    assert_eq!(code, 0, "{text}");
    text
}

/// The block of text below the command that begins so.
fn printed(command: &str) -> Vec<&'static str> {
    let blocks = blocks(chapter(TOUR));
    let is_command = |lines: &[&str]| lines.len() == 1 && lines[0].starts_with(command);
    let below = blocks.windows(2).find(|pair| is_command(&pair[0].1));
    below.unwrap_or_else(|| panic!("README has no {command}"))[1].1.clone()
}

/// A text without what its numbers and the widths of its columns say.
fn shape(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let masked =
        |line: String| line.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>().concat();
    text.lines().map(|line| masked(words(line))).collect()
}

#[test]
fn the_lines_go_where_a_node_without_settings_listens() {
    let config = Config::parse(None, &Environment::new()).expect("the defaults");
    let url = format!("http://{}/v4", config.server.listen.as_str());
    assert_eq!(variables(chapter(API))["url"], url);
    assert!(chapter(TOUR).contains(&format!("\"{url}/$1?")));
}

#[test]
fn the_table_of_calls_has_each_call_once_in_the_order_of_the_contract() {
    let rows = table(chapter(API), "| call | notes |");
    let named: Vec<&str> = rows.iter().map(|row| unquoted(row[0])).collect();
    let all: Vec<&str> = Operation::ALL.iter().map(|operation| operation.command()).collect();
    assert_eq!(named, all);
}

#[test]
fn the_table_of_settings_has_every_rule_of_an_app_with_its_default() {
    // Without an app of its own, the table shows what any app has.
    let setup = ["APP_ID", "APP_KEY", "RATE_LIMITS"].into_iter().fold(Setup::new(), Setup::unset);
    let (code, text) = audit(&setup, &["config", "--json"]);
    assert_eq!(code, 0, "{text}");
    let settings: Value = serde_json::from_str(&text).expect("settings are JSON");
    let text = |setting: &Value, name: &str| setting[name].as_str().expect("a text").to_owned();
    let rules = settings.as_array().expect("a list").iter().filter_map(|setting| {
        let path = text(setting, "path").strip_prefix("app.")?.to_owned();
        let (table, _) = path.split_once('.')?;
        RULES.contains(&table).then(|| (path.clone(), text(setting, "default")))
    });
    let rules: Vec<(String, String)> = rules.collect();
    let rows = table(chapter(SETTINGS), "| setting of an app | default | what it decides |");
    let cell = |cell: &str| unquoted(cell).to_owned();
    let told: Vec<_> = rows.iter().map(|row| (cell(row[0]), cell(row[1]))).collect();
    assert_eq!(told, rules);
}

#[test]
fn every_settings_file_that_is_shown_is_one_that_the_program_takes() {
    let blocks = blocks(README);
    let files = blocks.iter().filter(|(language, _)| *language == "toml");
    let mut count = 0;
    for (_, lines) in files {
        let text = lines.join("\n");
        if let Err(error) = Config::parse(Some(("README.md", &text)), &Environment::new()) {
            panic!("{error} in\n{text}");
        }
        count += 1;
    }
    assert!(count > 1, "{count}");
}

#[test]
fn the_table_of_webhooks_has_those_that_are_sent() {
    let rows = table(chapter(WEBHOOKS), "| command | when |");
    let told: BTreeSet<String> = rows.iter().map(|row| unquoted(row[0]).to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/webhooks");
    let files = fs::read_dir(folder).expect("the folder of schemas");
    let names = files.map(|file| file.expect("an entry").file_name().into_string().expect("text"));
    let described = names.map(|name| name.trim_end_matches(".json").to_owned());
    assert_eq!(told, described.collect());
}

#[test]
fn an_answer_is_another_one_by_any_value_but_those_of_the_moment() {
    let shown = json!({"MsgKey": "7_8_100", "MsgTime": 100, "L": [{"Tag": "Tag_SNS_IM_AddTime",
        "Value": 5}, {"Tag": "Tag_SNS_IM_Remark", "Value": "x"}]});
    let with = |pointer: &str, value: Value| {
        let mut other = shown.clone();
        *other.pointer_mut(pointer).expect("it is there") = value;
        alike("", &shown, &other)
    };
    assert!(with("/MsgKey", json!("7_8_200")) && with("/MsgTime", json!(200)));
    assert!(with("/L/0/Value", json!(6)));
    assert!(!with("/MsgKey", json!("7_9_100")) && !with("/MsgTime", json!("100")));
    assert!(!with("/L/0/Tag", json!("Tag_SNS_IM_Remark")) && !with("/L/1/Value", json!("y")));
    assert!(!with("/L", json!([])) && !with("/L/1", json!({"Tag": "Tag_SNS_IM_Remark"})));
    assert!(failed(&json!({"ResultItem": [{"ResultCode": 0}, {"ResultCode": 30001}]})));
    assert!(!failed(&json!({"ResultItem": [{"ResultCode": 0}], "ErrorCode": 0})));
}
