//! What has to hold in the end, whatever was done to nodes, brokers and network.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use cordon::audit::verify;
use cordon::cli;
use cordon::domain::AppId;
use cordon::journal::kafka;
use serde_json::Value;

use crate::history::{
    Callback, Log, Operation, Outcome, Report, Subscriber, check, check_callbacks, check_facts,
    check_friends, resolve,
};
use crate::support::{APP, Setup, TestSubscriber};

/// How much there is to look at, of each kind, at least: on a busy machine a single round sees ten times as
/// much of most, and twice as much of the rarest.
const SEEN_MIN: usize = 5;
/// How long webhooks may take to be delivered, and effects to be taken, once all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing may come any more before they are looked at again.
const LOOK: Duration = Duration::from_millis(500);

fn journal(setup: &Setup) -> kafka::ReadOnly {
    let config = setup.config();
    kafka::ReadOnly::open(cordon::app::kafka_cluster(&config)).expect("a journal")
}

/// Every acknowledged fact stands in the journal where its answer said, and once; and what was read
/// fits into one order per block, with no friendship across an answered one. Answers what does not
/// hold, and how much was looked at.
pub(crate) fn histories(operations: &[Operation], log: &Log) -> (Vec<String>, Report) {
    let mut problems = Vec::new();
    let answered = operations.iter().filter(|one| one.outcome != Outcome::Unknown).count();
    let mut seen = Report { operations: answered, ..Report::default() };
    match check_facts(operations, log) {
        Ok(report) => seen.facts = report.facts,
        Err(violations) => problems.push(violations.to_string()),
    }
    match check_friends(operations, log) {
        Ok(Report { looks_explained, lists_explained, .. }) => {
            (seen.looks_explained, seen.lists_explained) = (looks_explained, lists_explained);
        }
        Err(violations) => problems.push(violations.to_string()),
    }
    match check(&resolve(operations, log)) {
        Ok(Report { blocks, looks_at_the_blocked, .. }) => {
            (seen.blocks, seen.looks_at_the_blocked) = (blocks, looks_at_the_blocked);
        }
        Err(violations) => problems.push(violations.to_string()),
    }
    eprintln!("{seen:?}");
    (problems, seen)
}

/// What was not looked at: nobody has broken a promise who was asked nothing.
pub(super) fn vacuous(seen: &Report) -> Vec<String> {
    let counts = [
        ("answered calls", seen.operations),
        ("facts", seen.facts),
        ("blocks", seen.blocks),
        ("looks at friendships across a block", seen.looks_at_the_blocked),
        ("looks at friendships", seen.looks_explained),
        ("blocklists", seen.lists_explained),
        ("webhooks", seen.callbacks),
    ];
    let few = counts.into_iter().filter(|(_, count)| *count < SEEN_MIN);
    few.map(|(what, count)| format!("only {count} {what} were looked at")).collect()
}

/// Nothing is owed to anybody's other side once all is well.
pub(super) fn owed(setup: &Setup) -> Option<String> {
    let began = Instant::now();
    loop {
        let report = verify::check(&journal(setup), &verify::Options::default());
        let owed = report.expect("a readable journal").owed;
        match owed {
            0 => return None,
            _ if began.elapsed() > PATIENCE => return Some(format!("{owed} effects are owed")),
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// What stands in the journal once nothing is written any more: a call that nobody waits for may still be
/// done.
pub(super) fn settled(setup: &Setup) -> Log {
    let began = Instant::now();
    let mut log = Log::of_kafka(setup);
    loop {
        std::thread::sleep(LOOK);
        let before = std::mem::replace(&mut log, Log::of_kafka(setup));
        if before.len() == log.len() || began.elapsed() > PATIENCE {
            return log;
        }
    }
}

/// Every expected call was heard, first ones in the journal's order per user, and each id has always
/// the same bytes. The journal is read again each time: what was heard of stands there by then.
pub(super) fn webhooks(subscriber: &TestSubscriber, setup: &Setup) -> Result<Report, String> {
    let began = Instant::now();
    loop {
        let heard: Vec<Callback> = subscriber.heard().iter().map(Callback::from).collect();
        match check_callbacks(&heard, &Subscriber::of_all(AppId(APP)), &Log::of_kafka(setup)) {
            Ok(report) => {
                eprintln!("{} webhooks owed, {} calls heard", report.callbacks, heard.len());
                return Ok(report);
            }
            Err(violations) if began.elapsed() > PATIENCE => return Err(violations.to_string()),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// `cordon verify` on the journal and on the store of each node.
pub(super) fn verified(setups: &[Setup]) -> Vec<String> {
    let mut problems = Vec::new();
    for setup in setups {
        let arguments = ["cordon", "verify", "--json"].map(OsString::from);
        let mut out = Vec::new();
        let code = cli::run(arguments, setup.environment(), &mut out);
        let text = String::from_utf8(out).expect("a report is text");
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        if code != 0 || report["holds"] != true {
            problems.push(format!("verify: {text}"));
        }
        if report["owed"] != 0 {
            problems.push(format!("nodes that have ended owe {} effects", report["owed"]));
        }
        if report["notes"].as_array().is_none_or(|notes| !notes.is_empty()) {
            problems.push(format!("the store was not compared: {}", report["notes"]));
        }
        eprintln!(
            "verified: {} records, {} void, {} claims, {} owed",
            report["records"], report["voids"], report["claims"], report["owed"]
        );
    }
    problems
}
