//! What the journal says of changes that nobody was told about.

use std::thread;

use cordon::journal::{Offset, Partition};
use uuid::Uuid;

use super::super::{Call, Deed, Log, Operation, Outcome, Recorder, check, resolve};
use super::world::World;
use super::{befriend, block, friends, list, unblock, unknown, user};

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
