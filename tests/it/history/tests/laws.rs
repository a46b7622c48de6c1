//! What really happened in some order always passes; one wrong answer is found in most cases.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::{
    Deed, Log, Operation, Outcome, Subscriber, check, check_callbacks, check_facts, check_friends,
    resolve,
};
use super::world::{APP, Pace, plans, play};
use crate::support::Random;

/// Everybody at once, and much is lost.
const STORM: Pace = Pace { clients: 12, gap_max: 5, duration_max: 40, answered: 6 };

/// Some overlap, little is lost.
const BREEZE: Pace = Pace { clients: 3, gap_max: 40, duration_max: 10, answered: 60 };

proptest! {
    #[test]
    fn what_happened_passes(plans in plans(STORM, 300)) {
        let played = play(&plans);
        check(&played.operations).unwrap();
        let log = Log::from_records(played.records);
        check(&resolve(&played.operations, &log)).unwrap();
        check_facts(&played.operations, &log).unwrap();
        check_friends(&played.operations, &log).unwrap();
        check_callbacks(&played.callbacks, &Subscriber::of_all(APP), &log).unwrap();
    }
}

/// Turns one answer of a question round; answers whether there was one.
fn lie(operations: &mut [Operation], random: &mut Random) -> bool {
    let is_read = |operation: &&mut Operation| {
        let answered = !matches!(operation.outcome, Outcome::Unknown | Outcome::Failed);
        answered && operation.call.deed.is_read()
    };
    let mut reads: Vec<&mut Operation> = operations.iter_mut().filter(is_read).collect();
    if reads.is_empty() {
        return false;
    }
    let which = random.below(reads.len());
    match &mut reads[which].outcome {
        Outcome::Names(names) => match names.pop() {
            Some(_) => {}
            None => names.push(super::user("carl")),
        },
        Outcome::Relations(relations) => {
            let which = random.below(relations.len());
            let relation = relations[which].as_mut().expect("no item of these fails");
            relation.mine = !relation.mine;
        }
        Outcome::Codes(_) | Outcome::Failed | Outcome::Recorded | Outcome::Unknown => {}
    }
    true
}

/// Turns one answer about blocks round in each of many histories; answers how many of 100 are found.
fn found_of_a_hundred(pace: Pace, with_the_journal: bool) -> usize {
    let mut runner = TestRunner::deterministic();
    let mut random = Random::new(7);
    let (mut lies, mut found) = (0, 0);
    while lies < 100 {
        let plans = plans(pace, 150).new_tree(&mut runner).expect("plans").current();
        let played = play(&plans);
        let log = Log::from_records(played.records);
        let mut operations = played.operations;
        if with_the_journal {
            operations = resolve(&operations, &log);
        }
        check(&operations).unwrap();
        // A friendship that is not seen, or seen without a block, breaks no promise.
        operations.retain(|operation| operation.call.deed != Deed::Friends);
        if lie(&mut operations, &mut random) {
            lies += 1;
            found += usize::from(check(&operations).is_err());
        }
    }
    println!("{found} of {lies} lies found, {pace:?}, with the journal: {with_the_journal}");
    found
}

#[test]
fn one_wrong_answer_is_found_in_most_cases() {
    assert!(found_of_a_hundred(BREEZE, false) > 70);
    assert!(found_of_a_hundred(BREEZE, true) > 80);
}

#[test]
fn the_journal_finds_wrong_answers_that_hide_behind_lost_ones() {
    let alone = found_of_a_hundred(STORM, false);
    assert!(found_of_a_hundred(STORM, true) > alone);
}

#[test]
fn a_long_history_is_checked_quickly() {
    let mut runner = TestRunner::deterministic();
    let plans = plans(STORM, 100_000).new_tree(&mut runner).expect("plans").current();
    let played = play(&plans);
    let began = Instant::now();
    let report = check(&played.operations).unwrap();
    println!("{report:?} in {:?}", began.elapsed());
    assert_eq!(report.operations, 100_000);
    let log = Log::from_records(played.records);
    let began = Instant::now();
    let report = check(&resolve(&played.operations, &log)).unwrap();
    println!("{report:?} in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_friendship_that_was_not_there_is_found_in_most_cases() {
    let mut runner = TestRunner::deterministic();
    let mut random = Random::new(11);
    let (mut lies, mut found) = (0, 0);
    while lies < 100 {
        let plans = plans(BREEZE, 150).new_tree(&mut runner).expect("plans").current();
        let played = play(&plans);
        let log = Log::from_records(played.records);
        check_friends(&played.operations, &log).unwrap();
        let mut operations = played.operations;
        // The other questions are not about friends.
        operations.retain(|one| !one.call.deed.is_read() || one.call.deed == Deed::Friends);
        if lie(&mut operations, &mut random) {
            lies += 1;
            found += usize::from(check_friends(&operations, &log).is_err());
        }
    }
    println!("{found} of {lies} lies found");
    assert!(found > 70, "{found}");
}
