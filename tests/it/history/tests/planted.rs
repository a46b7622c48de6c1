//! Histories of a few operations: each with one thing wrong, and its neighbours that are right.

use super::super::{Deed, Operation, Outcome, Relation, Violation, check};
use super::{asked, befriend, block, by, friends, list, related, unblock, unknown};

#[track_caller]
fn holds(operations: &[Operation]) {
    check(operations).unwrap();
}

#[track_caller]
fn no_order(operations: &[Operation]) {
    let violations = check(operations).unwrap_err().0;
    let is_one = |violation: &Violation| matches!(violation, Violation::NotLinearizable { .. });
    assert!(violations.iter().all(is_one), "{violations:?}");
    assert_eq!(violations.len(), 1, "{violations:?}");
}

#[track_caller]
fn friends_despite_block(operations: &[Operation]) {
    let violations = check(operations).unwrap_err().0;
    let is_one = |violation: &Violation| matches!(violation, Violation::FriendsDespiteBlock { .. });
    assert!(!violations.is_empty() && violations.iter().all(is_one), "{violations:?}");
}

#[test]
fn nothing_is_fine() {
    holds(&[]);
}

#[test]
fn a_lost_write_is_found() {
    holds(&[block(1, 2, 0), list(3, 4, &["bob"])]);
    no_order(&[block(1, 2, 0), list(3, 4, &[])]);
    no_order(&[block(1, 2, 0), unblock(3, 4, 0), list(5, 6, &["bob"])]);
}

#[test]
fn a_stale_read_is_found() {
    let change = [block(1, 2, 0), list(3, 4, &["bob"]), unblock(5, 6, 0)];
    holds(&[&change[..], &[list(5, 9, &["bob"])]].concat());
    no_order(&[&change[..], &[list(7, 9, &["bob"])]].concat());
    no_order(&[&change[..], &[related(7, 9, Deed::Blocks, true, false)]].concat());
}

#[test]
fn a_read_that_goes_back_is_found_although_the_change_is_not_answered() {
    let change = unknown(block(1, 2, 0));
    holds(&[change.clone(), list(3, 4, &[]), list(5, 6, &["bob"])]);
    no_order(&[change, list(3, 4, &["bob"]), list(5, 6, &[])]);
}

#[test]
fn what_nobody_did_is_found() {
    no_order(&[list(1, 2, &["bob"])]);
    no_order(&[related(1, 2, Deed::Blocks, false, true)]);
}

#[test]
fn what_nobody_knows_may_happen_late_once_or_never() {
    let lost = unknown(unblock(3, 4, 0));
    holds(&[block(1, 2, 0), lost.clone(), list(90, 91, &["bob"])]);
    holds(&[block(1, 2, 0), lost.clone(), list(5, 6, &["bob"]), list(90, 91, &[])]);
    let twice = [list(5, 6, &[]), block(7, 8, 0), list(9, 10, &[])];
    no_order(&[&[block(1, 2, 0), lost.clone()], &twice[..]].concat());
    holds(&[&[block(1, 2, 0), lost.clone(), lost], &twice[..]].concat());
}

#[test]
fn what_is_not_asked_yet_has_not_happened() {
    no_order(&[list(1, 2, &["bob"]), unknown(block(3, 4, 0))]);
}

#[test]
fn what_surely_failed_did_not_happen() {
    let failed = Operation { outcome: Outcome::Failed, ..block(1, 2, 0) };
    holds(&[failed.clone(), list(3, 4, &[])]);
    no_order(&[failed, list(3, 4, &["bob"])]);
    no_order(&[block(1, 2, 30003), list(3, 4, &["bob"])]);
}

#[test]
fn a_block_that_is_owed_is_in_force() {
    holds(&[block(1, 2, 30007), list(3, 4, &["bob"])]);
    no_order(&[block(1, 2, 30007), list(3, 4, &[])]);
    holds(&[block(1, 2, 30007), block(3, 4, 0), list(5, 6, &["bob"])]);
    no_order(&[asked(1, 2, Deed::Unblock, &["bob"], Outcome::Codes(vec![0]))]);
}

#[test]
fn an_already_says_what_was() {
    holds(&[block(1, 2, 0), block(3, 4, 30001), unblock(5, 6, 0), unblock(7, 8, 30001)]);
    no_order(&[block(1, 2, 30001)]);
    no_order(&[block(1, 2, 0), unblock(3, 4, 30001)]);
    no_order(&[block(1, 2, 0), unblock(3, 4, 0), block(5, 6, 30001)]);
}

#[test]
fn of_two_unblocks_at_once_one_takes_the_block() {
    holds(&[block(1, 2, 0), unblock(3, 9, 0), unblock(3, 9, 30001)]);
    no_order(&[block(1, 2, 0), unblock(3, 9, 0), unblock(3, 9, 0)]);
    holds(&[block(1, 2, 0), unblock(3, 9, 0), unblock(3, 9, 0), block(4, 5, 0)]);
}

#[test]
fn items_of_a_batch_are_judged_one_by_one() {
    let codes = Outcome::Codes(vec![0, 30003, 30007]);
    let batch = asked(1, 2, Deed::Block, &["bob", "carl", "dora"], codes);
    holds(&[batch.clone(), list(3, 4, &["bob", "dora"])]);
    no_order(&[batch.clone(), list(3, 4, &["bob"])]);
    no_order(&[batch, list(3, 4, &["bob", "carl", "dora"])]);
}

#[test]
fn too_many_at_once_is_no_pass() {
    let mut operations: Vec<Operation> = (0..65).map(|_| block(1, 1000, 0)).collect();
    operations.push(list(2000, 2001, &["bob"]));
    let violations = check(&operations).unwrap_err().0;
    assert!(matches!(violations[..], [Violation::TooConcurrent { .. }]), "{violations:?}");
}

#[track_caller]
fn stale(operations: &[Operation]) {
    let violations = check(operations).unwrap_err().0;
    let is_one = |violation: &Violation| matches!(violation, Violation::FriendsStale { .. });
    assert!(!violations.is_empty() && violations.iter().all(is_one), "{violations:?}");
}

fn unfriend(from: u64, to: u64, code: u64) -> Operation {
    asked(from, to, Deed::Unfriend, &["bob"], Outcome::Codes(vec![code]))
}

#[test]
fn a_stale_look_at_a_friendship_is_found() {
    let made = befriend(1, 2, 0);
    holds(&[made.clone(), friends(3, 4, true, true)]);
    holds(&[made.clone(), friends(2, 4, false, false)]);
    for (mine, theirs) in [(false, false), (true, false), (false, true)] {
        stale(&[made.clone(), friends(3, 4, mine, theirs)]);
        // What may have ended it excuses that, as long as it may not lie before.
        let excuses = [
            block(3, 9, 0),
            unknown(block(0, 1, 0)),
            block(0, 1, 30007),
            unfriend(4, 9, 0),
            by("bob", 2, 3, Deed::Unfriend, &["amy"], Outcome::Codes(vec![0])),
        ];
        for excuse in excuses {
            holds(&[made.clone(), excuse, friends(3, 4, mine, theirs)]);
        }
        stale(&[unfriend(0, 0, 0), made.clone(), friends(3, 4, mine, theirs), block(5, 6, 0)]);
    }
}

#[test]
fn a_friendship_that_outlasts_its_end_is_found() {
    let ended = [befriend(1, 2, 0), unfriend(3, 4, 0)];
    holds(&[&ended[..], &[friends(5, 6, false, false)]].concat());
    for (mine, theirs) in [(true, true), (true, false), (false, true)] {
        let seen = friends(5, 6, mine, theirs);
        stale(&[&ended[..], std::slice::from_ref(&seen)].concat());
        let again = by("bob", 4, 9, Deed::Befriend, &["amy"], Outcome::Codes(vec![30007]));
        holds(&[&ended[..], &[again, seen]].concat());
    }
}

#[test]
fn a_resurrected_friendship_is_found() {
    let blocked = [befriend(1, 2, 0), friends(3, 4, true, true), block(5, 6, 0)];
    holds(&[&blocked[..], &[friends(5, 7, true, true), friends(7, 8, false, false)]].concat());
    for (mine, theirs) in [(true, false), (false, true), (true, true)] {
        friends_despite_block(&[&blocked[..], &[friends(7, 8, mine, theirs)]].concat());
        let relation = Outcome::Relations(vec![Some(Relation { mine: theirs, theirs: mine })]);
        let other_side = by("bob", 7, 8, Deed::Friends, &["amy"], relation);
        friends_despite_block(&[&blocked[..], &[other_side]].concat());
    }
}

#[test]
fn a_friendship_after_an_unblock_has_to_be_made_anew() {
    let blocked = [block(5, 6, 0), unblock(11, 13, 0)];
    let seen = friends(14, 16, true, true);
    let with = |operation| [&blocked[..], &[operation, seen.clone()]].concat();
    friends_despite_block(&[&blocked[..], std::slice::from_ref(&seen)].concat());
    friends_despite_block(&with(befriend(1, 10, 0)));
    holds(&with(befriend(1, 12, 0)));
    holds(&with(befriend(14, 15, 0)));
    holds(&with(unknown(befriend(1, 2, 0))));
    friends_despite_block(&with(befriend(17, 18, 0)));
    let other_way = by("bob", 14, 15, Deed::Befriend, &["amy"], Outcome::Codes(vec![0]));
    holds(&with(other_way));
}

#[test]
fn an_unblock_counts_from_when_it_was_asked() {
    let blocked = [block(5, 6, 0), unknown(befriend(1, 2, 0))];
    let with = |operation| [&blocked[..], &[operation, friends(14, 16, true, true)]].concat();
    holds(&with(unknown(unblock(2, 3, 0))));
    holds(&with(unknown(unblock(15, 17, 0))));
    friends_despite_block(&with(unknown(unblock(17, 18, 0))));
    friends_despite_block(&with(unblock(7, 8, 30003)));
}

#[test]
fn each_direction_of_a_block_holds_by_itself() {
    let reverse = |from, to, deed| by("bob", from, to, deed, &["amy"], Outcome::Codes(vec![0]));
    let history = [block(1, 2, 0), reverse(3, 4, Deed::Block), unblock(5, 6, 0)];
    let befriended = [befriend(9, 10, 30525), unknown(befriend(9, 10, 0))];
    let seen = [friends(11, 12, true, true)];
    friends_despite_block(&[&history[..], &befriended, &seen].concat());
    let unblocked = [reverse(7, 8, Deed::Unblock)];
    holds(&[&history[..], &unblocked, &befriended, &seen].concat());
}

#[test]
fn a_block_whose_removal_is_owed_promises_nothing_yet() {
    holds(&[block(5, 6, 30007), friends(7, 8, false, true)]);
    friends_despite_block(&[block(5, 6, 30007), block(7, 8, 0), friends(9, 10, false, true)]);
    friends_despite_block(&[block(5, 6, 30007), block(7, 8, 30001), friends(9, 10, false, true)]);
}

#[test]
fn whoever_is_befriended_has_seen_a_friendship() {
    friends_despite_block(&[block(1, 2, 0), befriend(3, 4, 0)]);
    friends_despite_block(&[block(1, 2, 0), befriend(3, 4, 30001)]);
    holds(&[block(1, 2, 0), befriend(3, 4, 30515)]);
    holds(&[block(1, 4, 0), befriend(3, 5, 0)]);
}
