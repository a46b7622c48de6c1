//! Journals and callbacks with one thing wrong, and their neighbours that are right.

use cordon::domain::{Event, RemovalReason};
use cordon::journal::{Body, Commit, Offset, Partition, Record};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::super::{
    Callback, Deed, Log, Operation, Outcome, Place, Subscriber, Violation, Violations,
    check_callbacks, check_facts,
};
use super::world::{APP, Pace, Played, plans, play};

const PACE: Pace = Pace { clients: 4, gap_max: 10, duration_max: 10, answered: 30 };

/// A history with a bit of everything, in which nothing is wrong.
fn played() -> Played {
    let mut runner = TestRunner::deterministic();
    play(&plans(PACE, 400).new_tree(&mut runner).expect("plans").current())
}

fn facts(operations: &[Operation], records: &[(Place, Record)]) -> Vec<Violation> {
    let log = Log::from_records(records.iter().cloned());
    check_facts(operations, &log).map_or_else(|Violations(found)| found, |_| Vec::new())
}

fn callbacks(callbacks: &[Callback], records: &[(Place, Record)]) -> Vec<Violation> {
    let log = Log::from_records(records.iter().cloned());
    let all = Subscriber::of_all(APP);
    check_callbacks(callbacks, &all, &log).map_or_else(|Violations(found)| found, |_| Vec::new())
}

fn commit(record: &mut Record) -> Option<&mut Commit> {
    match &mut record.body {
        Body::Commit(commit) => Some(commit),
        _ => None,
    }
}

/// The first operation that did `deed` to its first target, and was told so with its position.
fn done(played: &Played, deed: Deed) -> Operation {
    let is_it = |operation: &&Operation| {
        let codes = matches!(&operation.outcome, Outcome::Codes(codes) if codes[0] == 0);
        codes && operation.call.deed == deed && !operation.positions.is_empty()
    };
    played.operations.iter().find(is_it).expect("there is one").clone()
}

/// Takes the events that `is_it` names out of all records.
fn without(played: &Played, is_it: impl Fn(&Commit, &Event) -> bool) -> Vec<(Place, Record)> {
    let mut records = played.records.clone();
    for commit in records.iter_mut().filter_map(|(_, record)| commit(record)) {
        let kept = commit.events.iter().filter(|event| !is_it(commit, event)).cloned();
        commit.events = kept.collect();
    }
    records
}

#[test]
fn a_journal_with_every_fact_passes() {
    let played = played();
    assert_eq!(facts(&played.operations, &played.records), []);
    assert_eq!(callbacks(&played.callbacks, &played.records), []);
}

#[test]
fn a_fact_that_is_missing_is_found() {
    let played = played();
    for deed in [Deed::Block, Deed::Unblock, Deed::Befriend, Deed::Unfriend] {
        let operation = done(&played, deed);
        let (owner, lost) = (operation.call.owner, operation.call.targets[0]);
        let records = without(&played, |commit, event| {
            commit.key.user == owner && event.peer() == Some(lost)
        });
        let found = facts(&[operation], &records);
        let is_it = |violation: &Violation| matches!(violation, Violation::FactMissing { target, .. } if *target == lost);
        assert!(matches!(&found[..], [one] if is_it(one)), "{deed:?}: {found:?}");
    }
}

#[test]
fn a_friendship_that_the_other_side_never_confirmed_is_found() {
    let played = played();
    let operation = done(&played, Deed::Befriend);
    let request = operation.request.expect("it has one");
    let records = without(&played, |commit, event| {
        commit.by.request == request && matches!(event, Event::OfferConfirmed { .. })
    });
    let found = facts(&[operation], &records);
    assert!(!found.is_empty());
    assert!(found.iter().all(|one| matches!(one, Violation::FactMissing { .. })), "{found:?}");
}

#[test]
fn a_doubled_fact_is_found_and_a_void_copy_is_none() {
    let played = played();
    let operation = done(&played, Deed::Block);
    let place = operation.positions[0];
    let of_partition = |(at, _): &&(Place, Record)| at.0 == place.0;
    let (end, last) = played.records.iter().rfind(of_partition).expect("a last one").clone();
    let (_, record) = played.records.iter().find(|(at, _)| *at == place).expect("a record");
    let behind = (end.0, Offset(end.1.0 + 1));
    let mut records = played.records.clone();
    records.push((behind, record.clone()));
    assert_eq!(facts(&played.operations, &records), [], "it has its old number");
    let again = Record { n: last.n + 1, ..record.clone() };
    records.last_mut().expect("it is not empty").1 = again;
    let found = facts(&played.operations, &records);
    let is_it = |one: &Violation| matches!(one, Violation::FactTwice { first, second, .. } if *first == place && *second == behind);
    assert!(!found.is_empty() && found.iter().all(is_it), "{found:?}");
}

#[test]
fn a_position_that_names_nothing_or_something_else_is_found() {
    let played = played();
    let operation = done(&played, Deed::Block);
    let (partition, offset) = operation.positions[0];
    let nowhere = (partition, Offset(1_000_000));
    let claim = (partition, Offset(0));
    let other = played.records.iter().find(|(at, record)| {
        let others =
            matches!(&record.body, Body::Commit(commit) if commit.key.user != operation.call.owner);
        at.0 == partition && others
    });
    let other = other.map_or(claim, |(at, _)| *at);
    for place in [nowhere, claim, other] {
        let wrong = Operation { positions: vec![place], ..operation.clone() };
        let found = facts(&[wrong], &played.records);
        let is_it = |one: &Violation| matches!(one, Violation::PositionWrong { place: at, .. } if *at == place);
        assert!(matches!(&found[..], [one] if is_it(one)), "{found:?}");
    }
    // A record that is void by now.
    let mut records = played.records.clone();
    let at = records.iter().position(|(at, _)| *at == (partition, offset)).expect("a record");
    records[at].1.n += 7;
    let found = facts(&[operation], &records);
    assert!(
        matches!(&found[0], Violation::PositionWrong { found, .. } if found == "a void record")
    );
}

#[test]
fn a_fact_of_what_was_refused_is_found() {
    let played = played();
    for (deed, code) in [(Deed::Block, 30001), (Deed::Block, 30003), (Deed::Unblock, 30001)] {
        let mut operation = done(&played, deed);
        if let Outcome::Codes(codes) = &mut operation.outcome {
            codes[0] = code;
        }
        let found = facts(&[operation], &played.records);
        assert!(matches!(found[..], [Violation::FactOfTheRefused { .. }]), "{found:?}");
    }
    let failed = Operation { outcome: Outcome::Failed, ..done(&played, Deed::Befriend) };
    let found = facts(&[failed], &played.records);
    assert!(matches!(found[..], [Violation::FactOfTheRefused { .. }]), "{found:?}");
}

#[test]
fn a_change_may_wait_for_the_end_of_another_but_not_of_a_settled_one() {
    may_wait(Deed::Block);
    may_wait(Deed::Unfriend);
}

fn may_wait(deed: Deed) {
    let played = played();
    let first = done(&played, deed);
    let end = first.answered_at.expect("it was answered");
    let again = |invoked_at, first: &Operation| {
        let request = Some(Uuid::from_u128(u128::MAX));
        let positions = Vec::new();
        Operation {
            invoked_at,
            answered_at: Some(u64::MAX - 1),
            request,
            positions,
            ..first.clone()
        }
    };
    let owed = Outcome::Codes(vec![30007; first.call.targets.len()]);
    let owed = Operation { outcome: owed, ..first.clone() };
    assert_eq!(facts(&[owed.clone(), again(end + 1, &owed)], &played.records), []);
    let (request, owner) = (first.request, first.call.owner);
    let target = first.call.targets[0];
    let alone = without(&played, |commit, event| {
        let ends = matches!(
            event,
            Event::UserBlocked { .. }
                | Event::FriendRemoved { reason: RemovalReason::DeletedBoth, .. }
        );
        ends && event.peer() == Some(target)
            && commit.key.user == owner
            && Some(commit.by.request) != request
    });
    let mut answered = again(end + 1, &first);
    answered.call.targets.truncate(1);
    answered.outcome = Outcome::Codes(vec![0]);
    let found = facts(&[first, answered], &alone);
    assert!(matches!(found[..], [Violation::FactMissing { .. }]), "{found:?}");
}

#[test]
fn a_callback_that_never_arrived_is_found() {
    let played = played();
    let mut heard = played.callbacks.clone();
    let missing = heard.remove(heard.len() / 2).id;
    let found = callbacks(&heard, &played.records);
    assert!(
        matches!(&found[..], [Violation::CallbackMissing { id, .. }] if *id == missing),
        "{found:?}"
    );
    // Refused on every try is the same as never heard; refused at first is not.
    let mut heard = played.callbacks.clone();
    heard[3].accepted = false;
    assert!(matches!(callbacks(&heard, &played.records)[..], [Violation::CallbackMissing { .. }]));
    heard.push(Callback { accepted: true, ..heard[3].clone() });
    assert_eq!(callbacks(&heard, &played.records), []);
}

#[test]
fn callbacks_of_one_user_out_of_order_are_found() {
    let played = played();
    let place = |callback: &Callback| -> (u16, u64) {
        let (partition, rest) = callback.id.split_once('@').expect("a place");
        let (offset, _) = rest.split_once('.').expect("a command");
        (partition.parse().expect("a number"), offset.parse().expect("a number"))
    };
    let owner = |callback: &Callback| {
        let (partition, offset) = place(callback);
        let at = (Partition(partition), Offset(offset));
        let (_, record) = played.records.iter().find(|(place, _)| *place == at).expect("a record");
        let Body::Commit(commit) = &record.body else { panic!("a callback of no commit") };
        commit.key.user
    };
    let heard = &played.callbacks;
    let first = owner(&heard[0]);
    let next = (1..heard.len()).find(|at| owner(&heard[*at]) == first).expect("another one");
    let other = (1..heard.len()).find(|at| owner(&heard[*at]) != first).expect("another user");
    let swapped = |with: usize| {
        let mut heard = heard.clone();
        let moved = heard.remove(0);
        heard.insert(with, moved);
        callbacks(&heard, &played.records)
    };
    if other < next {
        assert_eq!(swapped(other), [], "users do not wait for each other");
    }
    let found = swapped(next);
    assert!(matches!(found[..], [Violation::CallbackOutOfOrder { .. }]), "{found:?}");
    // A repetition of what arrived before is no disorder.
    let mut repeated = heard.clone();
    repeated.push(heard[0].clone());
    assert_eq!(callbacks(&repeated, &played.records), []);
}

#[test]
fn other_bytes_under_the_same_id_are_found() {
    let played = played();
    let mut heard = played.callbacks.clone();
    let mut again = heard[0].clone();
    again.body.push(b' ');
    heard.push(again);
    let found = callbacks(&heard, &played.records);
    assert!(matches!(found[..], [Violation::CallbackChanged { .. }]), "{found:?}");
}

#[test]
fn a_callback_without_a_valid_record_is_found() {
    let played = played();
    let mut heard = played.callbacks.clone();
    heard.push(Callback { id: "0@0.Sns.CallbackFriendAdd".to_owned(), ..heard[0].clone() });
    let found = callbacks(&heard, &played.records);
    assert!(matches!(found[..], [Violation::CallbackUnfounded { .. }]), "{found:?}");
}

#[test]
fn a_subscriber_that_comes_later_is_owed_what_is_behind() {
    let played = played();
    let log = Log::from_records(played.records.iter().cloned());
    let mut late = Subscriber::of_all(APP);
    let end = |partition| {
        let of_it = played.records.iter().filter(|((other, _), _)| *other == Partition(partition));
        of_it.map(|((_, offset), _)| Offset(offset.0 + 1)).max().unwrap_or_default()
    };
    late.since = [0, 1].map(|partition| (Partition(partition), end(partition))).into();
    assert_eq!(check_callbacks(&[], &late, &log).unwrap().callbacks, 0);
}

#[test]
fn a_line_that_is_no_record_or_lies_about_it_is_an_error() {
    let claim = r#"{"partition":0,"offset":0,"v":1,"e":1,"n":0,"kind":"claim","node":"a","nonce":"00000000-0000-0000-0000-000000000001"}"#;
    let told = |line: &str| Log::from_lines(&format!("{claim}\n{line}\n")).map(drop);
    let checkpoint = |before: &str, n: u64| {
        format!(
            r#"{{"partition":0,"offset":1,{before}"v":1,"e":1,"n":{n},"kind":"checkpoint","hash":""}}"#
        )
    };
    assert_eq!(told(&checkpoint("", 1)), Ok(()));
    assert_eq!(told(&checkpoint(r#""void":true,"#, 2)), Ok(()));
    told(&checkpoint("", 2)).expect_err("it is void");
    told(&checkpoint(r#""void":true,"#, 1)).expect_err("it counts");
    told("no JSON").expect_err("it is no line");
    told(r#"{"partition":0,"offset":1,"void":false,"unreadable":"so"}"#).expect_err("unreadable");
}
