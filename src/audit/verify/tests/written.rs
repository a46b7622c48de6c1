//! What a report counts, and how it is written.

use super::*;
use crate::store::rows::{LAYOUT, RowHash};

#[test]
fn findings_are_all_counted_and_the_first_ones_shown() {
    let mut world = friends();
    for _ in 0..FINDINGS_SHOWN_MAX + 5 {
        world.append(Partition(0), &Body::Checkpoint { hash: format!("{LAYOUT}-wrong\u{1b}[2J") });
    }
    let mut text = Vec::new();
    let found = run(&world.memory, &Options::default(), &mut text).expect("readable");
    assert_eq!(found.problems.total, FINDINGS_SHOWN_MAX as u64 + 5);
    assert_eq!(found.problems.first.len(), FINDINGS_SHOWN_MAX);
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("PROBLEM and 5 more\n"), "{text}");
    let said = format!(" journal_hash: says row hash {LAYOUT}-wrong\\u{{1b}}[2J");
    assert!(text.contains(&said), "{text}");
    assert!(text.contains("\nowed: 0\n") && text.contains("NOT ALL HOLDS"), "{text}");
}

#[test]
fn the_report_is_one_json_object() {
    let mut text = Vec::new();
    let options = Options { format: Format::Json, ..Options::default() };
    run(&friends().memory, &options, &mut text).expect("readable");
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    let report: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(report["holds"], true);
    assert_eq!(report["friendships"], 1);
    assert_eq!(report["partitions"][2]["partition"], 2);
}

#[test]
fn an_empty_journal_holds() {
    let memory = Memory { partitions: 2, entries: Vec::new(), pauses: Vec::new() };
    let report = expect_clean(&memory);
    assert_eq!((report.records, report.partitions.len()), (0, 2));
    assert_eq!(report.partitions[1].hash, RowHash::default().to_string());
}

#[test]
fn a_right_history_holds_and_is_counted() {
    let mut world = friends();
    world.add("carl", &["dora"], OfferForm::OneWay, false);
    world.drain();
    world.block("amy", &["bob", "carl"]);
    assert_eq!(report(&world.memory).owed, world.owed());
    world.drain();
    world.befriend("dora", "emil");
    for partition in 0..3 {
        world.checkpoint(Partition(partition));
    }
    world.claim(Partition(0));
    let report = expect_clean(&world.memory);
    assert_eq!((report.users, report.claims, report.voids, report.owed), (5, 4, 0, 0));
    assert_eq!((report.blocks, report.friendships, report.hashes), (2, 2, 3));
    assert_eq!(report.records, world.memory.entries.len() as u64);
    assert_eq!(report.partitions.iter().map(|one| one.users).sum::<u64>(), 5);
    for one in &report.partitions {
        assert_eq!(one.hash, world.hash(one.partition).to_string());
        assert_eq!(one.epoch, Epoch(if one.partition.0 == 0 { 2 } else { 1 }));
    }
}
