//! What the journal says of changes that nobody was told about.

use std::thread;

use cordon::domain::{EdgeId, Event, Version};
use cordon::journal::{Offset, Partition};
use uuid::Uuid;

use super::super::{
    Call, Deed, Log, Operation, Outcome, Recorder, Violation, check, check_friends, resolve,
};
use super::world::World;
use super::{asked, befriend, block, friends, list, unblock, unknown, user};

/// The operations, those without an answer as well as the others, as they came about in `world`.
fn told(world: &mut World, operation: Operation, number: u128) -> Operation {
    let request = Uuid::from_u128(number);
    let (_, positions) = world.execute(&operation.call, request, false);
    Operation { request: Some(request), positions, ..operation }
}

fn in_secret(world: &mut World, operation: &Operation, number: u128) {
    world.execute(&operation.call, Uuid::from_u128(number), false);
}

fn seen(world: World, operations: &[Operation]) -> bool {
    check(&resolve(operations, &Log::from_records(world.records))).is_ok()
}

#[test]
fn what_is_not_in_the_journal_excuses_nothing() {
    let lost = [unknown(unblock(3, 4, 0)), unknown(befriend(3, 4, 0))];
    let friends = friends(20, 21, true, true);
    let mut world = World::default();
    let block = told(&mut world, block(5, 6, 0), 1);
    let history = [&lost[..], &[block, friends]].concat();
    assert!(check(&history).is_ok());
    assert!(!seen(world, &history));
}

/// What the journal does not explain.
fn unexplained(world: &World, operations: &[Operation]) -> Vec<Violation> {
    let log = Log::from_records(world.records.clone());
    check_friends(operations, &log).map_or_else(|found| found.0, |_| Vec::new())
}

#[test]
fn what_was_answered_with_0_is_seen_on_both_sides() {
    let done = |deed| asked(5, 6, deed, &["bob"], Outcome::Codes(vec![0]));
    let mut world = World::default();
    let made = told(&mut world, befriend(1, 2, 0), 1);
    for (mine, theirs) in [(false, true), (true, false)] {
        let history = [made.clone(), friends(3, 4, mine, theirs)];
        let found = unexplained(&world, &history);
        assert!(matches!(found[..], [Violation::FriendUnexplained { .. }]), "{found:?}");
    }
    assert_eq!(unexplained(&world, &[made.clone(), friends(3, 4, true, true)]), []);
    assert_eq!(unexplained(&world, &[made.clone(), friends(1, 2, false, false)]), []);
    for (number, deed) in [(2, Deed::Unfriend), (3, Deed::Block)] {
        let mut world = World::default();
        let made = told(&mut world, befriend(1, 2, 0), 1);
        let ended = told(&mut world, done(deed), number);
        let history = |read| [made.clone(), ended.clone(), read];
        assert_eq!(unexplained(&world, &history(friends(7, 8, false, false))), []);
        assert_eq!(unexplained(&world, &history(friends(6, 8, true, true))), []);
        for (mine, theirs) in [(true, false), (false, true)] {
            let found = unexplained(&world, &history(friends(7, 8, mine, theirs)));
            assert!(matches!(found[..], [Violation::FriendUnexplained { .. }]), "{found:?}");
        }
    }
}

#[test]
fn a_blocklist_is_of_one_moment() {
    let block = |from, to, name| asked(from, to, Deed::Block, &[name], Outcome::Codes(vec![0]));
    let mut world = World::default();
    let first = told(&mut world, block(1, 2, "bob"), 1);
    let second = told(&mut world, block(3, 4, "carl"), 2);
    let history = |names: &[&str]| [list(0, 10, names), first.clone(), second.clone()];
    for right in [&[][..], &["bob"], &["bob", "carl"]] {
        assert_eq!(unexplained(&world, &history(right)), []);
    }
    // Each entry alone is right at some moment.
    let torn = history(&["carl"]);
    assert!(check(&torn).is_ok());
    for wrong in [&torn, &history(&["bob", "bob"])] {
        let found = unexplained(&world, wrong);
        assert!(matches!(found[..], [Violation::ListUnexplained { .. }]), "{found:?}");
    }
}

#[test]
fn what_is_in_the_journal_happened_between_its_neighbours() {
    let lost = unknown(unblock(3, 4, 0));
    let mut world = World::default();
    let first = told(&mut world, block(1, 2, 0), 1);
    in_secret(&mut world, &lost, 2);
    let again = told(&mut world, block(5, 6, 0), 3);
    let history = |read| [first.clone(), lost.clone(), again.clone(), read];
    let log = || Log::from_records(world.records.clone());
    let passes = |read| check(&resolve(&history(read), &log())).is_ok();
    assert!(passes(list(3, 4, &[])));
    assert!(passes(list(3, 4, &["bob"])));
    // Without the journal, it might have happened after the second block.
    assert!(check(&history(list(7, 8, &[]))).is_ok());
    assert!(!passes(list(7, 8, &[])));
}

/// A removal waits until the peer has let go of an offer that it took back, so it may be left without an
/// answer.
#[test]
fn an_offer_that_was_taken_back_in_secret_may_end_what_came_of_it() {
    let mut world = World::default();
    let made = told(&mut world, befriend(1, 2, 0), 1);
    let history = [made, friends(9, 10, false, false)];
    let records = world.records.clone();
    assert!(check(&resolve(&history, &Log::from_records(records))).is_err());
    let edge = EdgeId { offerer: user("bob"), version: Version(7) };
    let taken_back = Event::OfferWithdrawn { peer: user("amy"), edge };
    world.record(user("bob"), Uuid::from_u128(2), None, vec![taken_back]);
    assert!(seen(world, &history));
}

#[test]
fn an_item_that_nobody_knows_of_is_looked_up_as_well() {
    let mut world = World::default();
    let first = told(&mut world, block(1, 2, 0), 1);
    let broken =
        |operation: Operation| Operation { outcome: Outcome::Codes(vec![30006]), ..operation };
    let second = broken(told(&mut world, unblock(3, 4, 0), 2));
    let records = world.records.clone();
    let resolved = resolve(&[first.clone(), second], &Log::from_records(records));
    let is_it = |one: &&Operation| one.outcome == Outcome::Recorded;
    assert_eq!(resolved.iter().filter(is_it).count(), 1, "{resolved:?}");
    let never = broken(unblock(5, 6, 0));
    let never = Operation { request: Some(Uuid::from_u128(3)), ..never };
    let resolved = resolve(&[first, never], &Log::from_records(world.records));
    assert!(resolved.iter().all(|one| one.call.deed == Deed::Block || is_it(&one)));
}

#[test]
fn a_recorder_keeps_what_many_clients_did_also_what_was_given_up() {
    let recorder = Recorder::new();
    thread::scope(|scope| {
        for client in 0..4 {
            let recorder = &recorder;
            scope.spawn(move || {
                for step in 0..50 {
                    let call = Call::new(Deed::Block, user("amy"), &[user("bob")]);
                    let invocation = recorder.invoke(client, 0, call);
                    if step % 2 == 0 {
                        let place = (Partition(0), Offset(step));
                        invocation.end(Outcome::Codes(vec![0]), None, vec![place]);
                    }
                }
            });
        }
    });
    let operations = recorder.into_operations();
    assert_eq!(operations.len(), 200);
    let given_up = operations.iter().filter(|one| one.outcome == Outcome::Unknown);
    assert!(given_up.clone().all(|one| one.answered_at.is_none()));
    assert_eq!(given_up.count(), 100);
    assert!(operations.is_sorted_by_key(|one| one.invoked_at));
    let mut answered = operations.iter().filter(|one| one.outcome != Outcome::Unknown);
    assert!(answered.all(|one| one.answered_at >= Some(one.invoked_at)));
}
