//! What has to hold in the end, whatever was done to nodes, brokers and network.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use cordon::cli;
use cordon::journal::{
    Admitted, Body, Commit, Offset, Partition, ReadJournal, ReaderRule, kafka, record,
};
use cordon::webhooks::{Switches, payload};
use serde_json::Value;

use super::caller::Acknowledged;
use crate::support::{Heard, Setup};

/// Every record that counts, by its place.
pub(super) type Valid = BTreeMap<(Partition, Offset), Commit>;

/// The whole journal, by the rule that every reader follows.
pub(super) fn read(setup: &Setup) -> Valid {
    let config = setup.config();
    let journal = kafka::ReadOnly::open(cordon::app::kafka_cluster(&config)).expect("a journal");
    let partitions = (0..journal.partitions()).map(|index| (Partition(index), Offset(0)));
    let mut reader = journal.reader(&partitions.collect::<Vec<_>>()).expect("a reader");
    let mut rules: BTreeMap<Partition, ReaderRule> = BTreeMap::new();
    let mut valid = Valid::new();
    loop {
        let entries = reader.next(1 << 20).expect("readable records");
        if entries.is_empty() {
            return valid;
        }
        for entry in entries {
            let record = record::decode(&entry.bytes).expect("a record");
            let admitted = rules.entry(entry.partition).or_default().admit(&record);
            if admitted == Admitted::Valid
                && let Body::Commit(commit) = record.body
            {
                valid.insert((entry.partition, entry.offset), commit);
            }
        }
    }
}

/// Every acknowledged fact stands in the journal where its answer said, and once.
pub(super) fn acknowledged(valid: &Valid, acknowledged: &[Acknowledged]) -> Vec<String> {
    let mut problems = Vec::new();
    for Acknowledged { place, request, what } in acknowledged {
        match valid.get(place) {
            Some(commit) if commit.by.request == *request => {}
            Some(_) => problems.push(format!("{what}: another record stands at {place:?}")),
            None => problems.push(format!("{what}: nothing that counts stands at {place:?}")),
        }
    }
    let mut done = BTreeSet::new();
    for (place, commit) in valid.iter().filter(|(_, commit)| commit.cause.is_none()) {
        for event in &commit.events {
            let event = serde_json::to_value(event).expect("an event is JSON");
            let peer = event.get("peer").or(event.get("target"));
            let fact = (
                commit.by.request,
                commit.key,
                event["type"].to_string(),
                peer.map(Value::to_string),
            );
            if !done.insert(fact) {
                problems.push(format!("{place:?}: a second {event} for one request"));
            }
        }
    }
    problems
}

/// Every expected call was heard, first ones in the journal's order per user, and each id has always
/// the same bytes.
pub(super) fn webhooks(valid: &Valid, heard: &[Heard]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, heard) in heard.iter().filter(|heard| heard.accepted).enumerate() {
        let body = bodies.entry(heard.id()).or_insert(&heard.message.body);
        if *body != heard.message.body {
            problems.push(format!("{}: other bytes the second time", heard.id()));
        }
        order.entry(heard.id()).or_insert(index);
    }
    let mut last: BTreeMap<_, (String, usize)> = BTreeMap::new();
    let mut expected = 0;
    for ((partition, offset), commit) in valid {
        for delivery in payload::deliveries(commit, Switches::ALL) {
            expected += 1;
            let id = format!("{partition}@{offset}.{}", delivery.command.name());
            let Some(place) = order.remove(id.as_str()) else {
                problems.push(format!("{id} was never heard"));
                continue;
            };
            if bodies[id.as_str()] != delivery.body {
                problems.push(format!("{id} was heard with another body"));
            }
            let before = last.insert(commit.key, (id.clone(), place));
            if let Some((earlier, at)) = before
                && at > place
            {
                problems.push(format!("{id} was heard before {earlier}"));
            }
        }
    }
    problems.extend(order.into_keys().map(|id| format!("{id} is of no record that counts")));
    if problems.is_empty() {
        eprintln!("webhooks: {expected} expected, {} calls heard", heard.len());
    }
    problems
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
            "verify: {} records, {} void, {} claims, owed {}",
            report["records"], report["voids"], report["claims"], report["owed"]
        );
    }
    problems
}
