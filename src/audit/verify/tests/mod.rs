//! Each rule, broken once; and right histories, which break none.

mod follow;
mod hashes;
mod journal;
mod promises;
mod random;
mod users;
mod written;

use std::collections::BTreeSet;

use super::*;
use crate::audit::simulation::{APP, Memory, World, id, key};
use crate::audit::{FINDINGS_SHOWN_MAX, Findings};
use crate::domain::{
    AllowType, AppId, Card, EdgeId, Event, OfferForm, ProfileChange, RemovalReason, Version,
};
use crate::journal::Cause;
use crate::journal::record::encode;

const NAMES: [&str; 5] = ["amy", "bob", "carl", "dora", "emil"];

fn report(memory: &Memory) -> Report {
    check(memory, &Options::default()).expect("memory is readable")
}

fn rules(findings: &Findings<Finding>) -> BTreeSet<Rule> {
    findings.first.iter().map(|finding| finding.rule).collect()
}

/// Expects that exactly `rule` is found broken, and that each finding stands where a record stands.
fn expect_broken(memory: &Memory, rule: Rule) -> Report {
    let report = report(memory);
    assert_eq!(rules(&report.problems), BTreeSet::from([rule]), "{:#?}", report.problems);
    assert!(!report.holds);
    for finding in &report.problems.first {
        memory.index((finding.partition, finding.offset));
    }
    report
}

fn expect_clean(memory: &Memory) -> Report {
    let report = report(memory);
    assert!(report.holds, "{:#?}", report.problems);
    assert_eq!(report.warnings.total, 0, "{:#?}", report.warnings);
    report
}

/// Amy and bob, friends of each other, in a partition of their own each.
fn friends() -> World {
    let mut world = World::of(3, &NAMES);
    world.befriend("amy", "bob");
    assert_ne!(world.home("amy"), world.home("bob"));
    world
}

fn is_watermark(record: &Record) -> bool {
    matches!(record.body, Body::Watermark { .. })
}

fn has(record: &Record, owner: &str, which: impl Fn(&Event) -> bool) -> bool {
    match &record.body {
        Body::Commit(commit) => commit.key == key(owner) && commit.events.iter().any(which),
        _ => false,
    }
}

/// Makes an answer say that it changed nothing.
fn unsay(record: &mut Record) {
    let Body::Commit(Commit { cause: Some(cause), .. }) = &record.body else {
        panic!("{record:?} is no answer")
    };
    record.body = Body::Watermark { seen: vec![(cause.partition, cause.seq)] };
}
