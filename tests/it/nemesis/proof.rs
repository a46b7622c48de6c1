//! What has to hold in the end, whatever was done to nodes, brokers and network.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use cordon::cli;
use cordon::domain::AppId;
use cordon::journal::{Offset, Partition, ReadJournal, kafka, record};
use serde_json::Value;

use crate::history::{
    Callback, Log, Operation, Subscriber, check, check_callbacks, check_facts, check_friends,
    resolve,
};
use crate::support::{APP, Setup, TestSubscriber};

/// How long webhooks may take to be delivered once all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing may come any more before they are looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// The whole journal.
pub(super) fn read(setup: &Setup) -> Log {
    let config = setup.config();
    let journal = kafka::ReadOnly::open(cordon::app::kafka_cluster(&config)).expect("a journal");
    let partitions = (0..journal.partitions()).map(|index| (Partition(index), Offset(0)));
    let mut reader = journal.reader(&partitions.collect::<Vec<_>>()).expect("a reader");
    let mut records = Vec::new();
    loop {
        let entries = reader.next(1 << 20).expect("readable records");
        if entries.is_empty() {
            return Log::from_records(records);
        }
        for entry in entries {
            let record = record::decode(&entry.bytes).expect("a record");
            records.push(((entry.partition, entry.offset), record));
        }
    }
}

/// Every acknowledged fact stands in the journal where its answer said, and once; and what was read
/// fits into one order per block, with no friendship across an answered one.
pub(super) fn histories(operations: &[Operation], log: &Log) -> Vec<String> {
    let mut problems = Vec::new();
    match check_facts(operations, log) {
        Ok(report) => eprintln!("{} facts stand where they were said to", report.facts),
        Err(violations) => problems.push(violations.to_string()),
    }
    match check_friends(operations, log) {
        Ok(report) => eprintln!("{} looks at friends explained", report.looks_explained),
        Err(violations) => problems.push(violations.to_string()),
    }
    match check(&resolve(operations, log)) {
        Ok(report) => eprintln!(
            "{} operations, {} blocks linearizable, {} looks at friendships across a block",
            report.operations, report.blocks, report.looks_at_the_blocked
        ),
        Err(violations) => problems.push(violations.to_string()),
    }
    problems
}

/// Every expected call was heard, first ones in the journal's order per user, and each id has always
/// the same bytes.
pub(super) fn webhooks(subscriber: &TestSubscriber, log: &Log) -> Vec<String> {
    let began = Instant::now();
    loop {
        let heard: Vec<Callback> = subscriber.heard().iter().map(Callback::from).collect();
        match check_callbacks(&heard, &Subscriber::of_all(AppId(APP)), log) {
            Ok(report) => {
                eprintln!("{} webhooks owed, {} calls heard", report.callbacks, heard.len());
                return Vec::new();
            }
            Err(violations) if began.elapsed() > PATIENCE => return vec![violations.to_string()],
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// `cordon verify` on the journal and on the store of each node.
pub(super) fn verify(setups: &[Setup]) -> Vec<String> {
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
