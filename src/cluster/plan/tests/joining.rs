//! When a node that was started counts as joined.

use super::*;

#[test]
fn a_node_joins_until_it_has_caught_up_and_knows_all_owners() {
    let mut mind = Mind::seated(BEHIND);
    assert_eq!(mind.beats(0).state, NodeState::Joining);
    mind.other("old", NodeState::Active, all(), 0);
    mind.look(0);
    mind.seats.fill(WARM);
    mind.look(1);
    assert!(mind.planner.unready(millis(1), &mind.seats).is_some(), "no owners");
    mind.owned_by("old", Uuid::nil(), 3);
    mind.look(2);
    assert_eq!(mind.planner.unready(millis(2), &mind.seats), None);
    assert_eq!(mind.beats(2).state, NodeState::Active);
    // It has joined, whatever happens to single partitions afterwards.
    mind.seats.fill(BEHIND);
    mind.look(3);
    assert_eq!(mind.beats(3).state, NodeState::Active);
}

#[test]
fn partitions_without_an_owner_are_waited_for_a_minute() {
    let mut mind = Mind::seated(BEHIND);
    mind.beats(0);
    mind.look(0);
    mind.beats(59_999);
    mind.look(59_999);
    assert!(mind.planner.unready(millis(59_999), &mind.seats).is_some());
    mind.beats(60_000);
    mind.look(60_000);
    assert_eq!(mind.planner.unready(millis(60_000), &mind.seats), None);
}

/// Otherwise nodes that are started anew one after the other were all cold once the last warm one stopped.
#[test]
fn what_others_serve_is_caught_up_with_before_a_node_has_joined_however_long_it_takes() {
    let mut mind = Mind::seated(BEHIND);
    mind.beats(0);
    mind.other("old", NodeState::Active, all(), 0);
    mind.owned_by("old", Uuid::nil(), 3);
    mind.look(0);
    for minute in 1..60 {
        let at = minute * 60_000;
        mind.other("old", NodeState::Active, all(), at);
        mind.beats(at);
        mind.look(at);
        let unready = mind.planner.unready(millis(at), &mind.seats).expect("it is behind");
        assert!(unready.contains(&format!("not caught up with {PARTITIONS}")), "{unready}");
    }
    mind.seats.fill(WARM);
    let at = 60 * 60_000;
    mind.other("old", NodeState::Active, all(), at);
    mind.beats(at);
    mind.look(at);
    assert_eq!(mind.planner.unready(millis(at), &mind.seats), None);
}
