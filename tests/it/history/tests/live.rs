//! A real node that is killed under load: what its clients saw passes every check.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cordon::domain::AppId;

use super::super::{
    Call, Callback, Deed, Log, Outcome, Recorder, Subscriber, check, check_callbacks, check_facts,
    check_friends, resolve,
};
use super::user;
use crate::support::{APP, Random, Setup, TestProcess, TestSubscriber, audit, eventually, verify};

const NAMES: [&str; 6] = ["amy", "bob", "carl", "dora", "eve", "finn"];
const CLIENTS: usize = 4;
const KILLS: usize = 2;
/// How many calls are answered between two kills.
const CALLS: usize = 250;

const DEEDS: [Deed; 7] = [
    Deed::Block,
    Deed::Unblock,
    Deed::Befriend,
    Deed::Unfriend,
    Deed::Blocklist,
    Deed::Blocks,
    Deed::Friends,
];

fn call(random: &mut Random) -> Call {
    let deed = DEEDS[random.below(DEEDS.len())];
    let owner = random.below(NAMES.len());
    let others = (1..NAMES.len()).map(|step| user(NAMES[(owner + step) % NAMES.len()]));
    let count = if deed == Deed::Blocklist { 0 } else { 1 + random.below(3) };
    let targets: Vec<_> = others.skip(random.below(3)).take(count).collect();
    Call::new(deed, user(NAMES[owner]), &targets)
}

fn replayed(setup: &Setup) -> Log {
    let (code, lines) = audit(setup, &["replay", "--all", "--json"]);
    assert_eq!(code, 0, "{lines}");
    Log::from_lines(&lines).expect("every line is a record")
}

/// Lets all clients call: until enough calls are answered, or until the node is killed then.
fn load(node: TestProcess, round: usize, recorder: &Recorder) -> Option<TestProcess> {
    let answered = AtomicUsize::new(0);
    let is_last = round == KILLS;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (mut caller, answered) = (node.caller(), &answered);
            let mut random = Random::new((round * CLIENTS + client) as u64);
            scope.spawn(move || {
                while !is_last || answered.load(Ordering::Relaxed) < CALLS {
                    let outcome = recorder.ask(client, round, &mut caller, call(&mut random));
                    if outcome == Outcome::Unknown {
                        return;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("the clients are answered", || answered.load(Ordering::Relaxed) >= CALLS);
        if is_last {
            return Some(node);
        }
        node.kill();
        None
    })
}

#[test]
fn what_clients_see_of_a_node_that_is_killed_passes_every_check() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber);
    let recorder = Recorder::new();
    let mut last = None;
    for round in 0..=KILLS {
        let node = TestProcess::start(&setup);
        if round == 0 {
            node.caller().import(&NAMES);
        }
        last = load(node, round, &recorder);
    }
    let all = Subscriber::of_all(AppId(APP));
    let heard = || -> Vec<Callback> { subscriber.heard().iter().map(Callback::from).collect() };
    let mut missing = None;
    eventually("the subscriber has heard of everything", || {
        missing = check_callbacks(&heard(), &all, &replayed(&setup)).err();
        missing.is_none()
    });
    let node = last.expect("the last one is not killed");
    node.terminate();
    assert!(node.wait().success());
    verify(&setup);

    let operations = recorder.into_operations();
    let log = replayed(&setup);
    let callbacks = check_callbacks(&heard(), &all, &log).unwrap();
    let facts = check_facts(&operations, &log).unwrap();
    let seen = check(&operations).unwrap();
    let friends = check_friends(&operations, &log).unwrap();
    let resolved = check(&resolve(&operations, &log)).unwrap();
    println!("{callbacks:?}\n{facts:?}\n{friends:?}\n{seen:?}\n{resolved:?}");
    assert!(operations.len() > KILLS * CALLS);
    assert!(callbacks.callbacks > 0 && facts.facts > 0);
    assert!(resolved.looks_at_the_blocked > 0 && friends.looks_explained > 0);
    assert!(friends.lists_explained > 0);
    let lost = operations.iter().filter(|operation| operation.outcome == Outcome::Unknown);
    assert!(lost.count() > 0, "the kills went unnoticed");
}
