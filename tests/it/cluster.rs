//! Several nodes over one Kafka, called through every door.

use std::thread;

use serde_json::json;

use crate::support::{Setup, TestProcess, eventually, kafka};

/// Three running nodes; nothing where there is no Kafka.
fn three() -> Option<(Vec<Setup>, Vec<TestProcess>)> {
    let setups = Setup::cluster(kafka::shared()?, 3);
    let nodes = start(&setups);
    Some((setups, nodes))
}

/// Starts nodes at the same time, as a deployment does.
fn start(setups: &[Setup]) -> Vec<TestProcess> {
    thread::scope(|scope| {
        let starting: Vec<_> =
            setups.iter().map(|setup| scope.spawn(|| TestProcess::start(setup))).collect();
        starting.into_iter().map(|node| node.join().expect("the node starts")).collect()
    })
}

#[test]
fn any_node_answers_for_every_user_and_all_see_what_was_answered() {
    let Some((_, nodes)) = three() else { return };
    let mut callers: Vec<_> = nodes.iter().map(TestProcess::caller).collect();
    let names: Vec<String> = (0..12).map(|index| format!("user{index}")).collect();
    callers[0].import(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (index, pair) in names.chunks(2).enumerate() {
        let [amy, bob] = [&*pair[0], &*pair[1]];
        let caller = |offset: usize| (index + offset) % 3;
        let (first, second, third) = (caller(0), caller(1), caller(2));
        assert_eq!(callers[first].befriend(amy, &[bob]).codes(), [0]);
        assert_eq!(callers[second].friends(bob, &[amy]).relations(), ["BothWay"]);
        assert_eq!(callers[second].block(bob, &[amy]).codes(), [0]);
        assert_eq!(callers[third].friends(amy, &[bob]).relations(), ["NoRelation"]);
        assert_eq!(callers[first].blocklist(bob, 0, 10).0, [amy]);
    }
}

#[test]
fn what_a_killed_node_had_goes_on_elsewhere_and_nothing_acknowledged_is_lost() {
    let Some((setups, mut nodes)) = three() else { return };
    let names: Vec<String> = (0..30).map(|index| format!("user{index}")).collect();
    let mut caller = nodes[1].caller();
    caller.import(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for pair in names.chunks(2) {
        assert_eq!(caller.block(&pair[0], &[&pair[1]]).codes(), [0]);
    }
    nodes.remove(0).kill();
    for pair in names.chunks(2) {
        let body = json!({"From_Account": pair[0], "StartIndex": 0, "MaxLimited": 10,
            "LastSequence": 0});
        let mut found = Vec::new();
        eventually("the partition is taken over", || {
            let answer = caller.call("sns/black_list_get", &body);
            let well = answer.body["ErrorCode"] == 0;
            if well {
                found = answer.names().into_iter().map(str::to_owned).collect();
            }
            well
        });
        assert_eq!(found, [&*pair[1]]);
    }
    // It comes back, takes its share, and answers.
    let back = TestProcess::start(&setups[0]);
    assert_eq!(back.caller().blocklist("user0", 0, 10).0, ["user1"]);
}

#[test]
fn a_node_that_is_asked_to_stop_hands_its_partitions_over_without_a_failed_call() {
    let Some((_, mut nodes)) = three() else { return };
    let mut caller = nodes[1].caller();
    caller.import(&["amy", "bob"]);
    let leaving = nodes.remove(0);
    leaving.terminate();
    let stopped = thread::spawn(move || leaving.wait());
    while !stopped.is_finished() {
        assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
        assert_eq!(caller.unblock("amy", &["bob"]).codes(), [0]);
    }
    assert!(stopped.join().expect("it ends").success());
}
