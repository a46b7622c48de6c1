//! What has to hold between users, broken once each.

use super::*;

#[test]
fn blocking_a_friend_who_stays_one_is_a_problem() {
    let mut world = friends();
    let block = Event::UserBlocked { target: id("bob"), remain_friends: false };
    let commit = world.commit_of("amy", vec![block]);
    world.append(world.home("amy"), &Body::Commit(commit));
    // Bob has not heard of it: between the two it is only amy's own list that is wrong.
    let found = expect_broken(&world.memory, Rule::NoFriendBlocked);
    assert_eq!(found.owed, 1);
}

#[test]
fn a_block_that_keeps_friends_keeps_them() {
    let mut world = friends();
    world.policy.remain_friends = true;
    world.block("amy", &["bob"]);
    world.drain();
    expect_clean(&world.memory);
    world.policy.remain_friends = false;
    world.unblock("amy", &["bob"]);
    world.block("amy", &["bob"]);
    world.drain();
    let report = expect_clean(&world.memory);
    assert_eq!((report.blocks, report.friendships), (1, 0));
}

#[test]
fn having_someone_as_a_friend_who_blocks_them_is_a_problem() {
    let mut world = friends();
    world.block("amy", &["bob"]);
    let owed = expect_clean(&world.memory);
    assert_eq!((owed.owed, owed.friendships), (1, 1), "the removal is on its way");
    world.drain();
    expect_clean(&world.memory);
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.rewrite(place, unsay);
    let found = report(&world.memory);
    // The friendship was of both, so it is one-sided as well.
    let expected = [Rule::NeverBlockedAndFriends, Rule::BothSides, Rule::PartedWhenTaken];
    let expected = BTreeSet::from(expected);
    assert_eq!(rules(&found.problems), expected);
}

#[test]
fn an_import_past_a_blocklist_is_right_if_its_records_say_so() {
    let mut world = World::of(3, &NAMES);
    world.policy.import_ignores_blocklist = true;
    world.block("amy", &["bob"]);
    world.drain();
    world.add("amy", &["bob"], OfferForm::Import, false);
    world.add("bob", &["amy"], OfferForm::Import, false);
    world.drain();
    // Whatever the settings are now.
    expect_clean(&world.memory);

    // Records of earlier versions say nothing, and are judged by the settings of their app.
    let passes = |event: &mut Event| match event {
        Event::FriendOffered { despite_block, .. }
        | Event::FriendAccepted { despite_block, .. } => std::mem::take(despite_block),
        _ => false,
    };
    let says = |record: &Record| match &record.body {
        Body::Commit(commit) => commit.events.clone().iter_mut().any(passes),
        _ => false,
    };
    let places = world.memory.places(says);
    assert_eq!(places.len(), 2, "amy's offer, and her yes to bob's");
    for place in places {
        world.memory.recommit(place, |commit| {
            commit.events.iter_mut().for_each(|event| _ = passes(event));
        });
    }
    let broken = [Rule::NoFriendBlocked, Rule::NeverBlockedAndFriends, Rule::EventsFollow];
    let found = |app| {
        let import_ignores_blocklist = BTreeSet::from([app]);
        let options = Options { import_ignores_blocklist, ..Options::default() };
        rules(&check(&world.memory, &options).expect("readable").problems)
    };
    assert_eq!(found(AppId(APP.0 + 1)), BTreeSet::from(broken), "it is another app's setting");
    assert_eq!(found(APP), BTreeSet::new());
}

#[test]
fn a_block_behind_an_import_past_another_one_ends_the_friendship() {
    let mut world = World::of(3, &NAMES);
    world.policy.import_ignores_blocklist = true;
    world.block("amy", &["bob"]);
    world.add("bob", &["amy"], OfferForm::Import, false);
    world.drain();
    world.unblock("amy", &["bob"]);
    world.block("amy", &["bob"]);
    world.drain();
    assert_eq!(expect_clean(&world.memory).friendships, 0);
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.rewrite(place, unsay);
    let expected = [Rule::NeverBlockedAndFriends, Rule::PartedWhenTaken];
    assert_eq!(rules(&report(&world.memory).problems), BTreeSet::from(expected));
}

#[test]
fn a_friendship_of_both_in_one_list_is_a_problem() {
    let mut world = friends();
    world.remove("amy", "bob", true);
    world.drain();
    expect_clean(&world.memory);
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.rewrite(place, unsay);
    expect_broken(&world.memory, Rule::BothSides);
}

#[test]
fn two_edges_for_one_friendship_are_a_problem() {
    let mut world = friends();
    let edge = EdgeId { offerer: id("bob"), version: Version(9) };
    let linked = Event::FriendLinked { peer: id("bob"), edge };
    let commit = world.commit_of("amy", vec![linked]);
    world.append(world.home("amy"), &Body::Commit(commit));
    // And it is one that bob never offered.
    let expected = BTreeSet::from([Rule::BothSides, Rule::AnswersAsAsked]);
    assert_eq!(rules(&report(&world.memory).problems), expected);
}

#[test]
fn a_friend_removed_from_one_list_alone_may_stay_in_the_other() {
    let mut world = friends();
    world.remove("amy", "bob", false);
    assert_eq!(expect_clean(&world.memory).friendships, 1);
    world.delete("amy");
    world.drain();
    assert_eq!(expect_clean(&world.memory).friendships, 0, "a deleted account is forgotten");
}

#[test]
fn an_offer_that_nobody_answers_is_a_problem() {
    let mut world = World::of(3, &NAMES);
    world.add("amy", &["bob"], OfferForm::OneWay, false);
    expect_clean(&world.memory);
    world.pump(world.busy()[0], 1);
    let accepts =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendAccepted { .. }));
    let place = world.memory.places(accepts)[0];
    world.memory.rewrite(place, unsay);
    expect_broken(&world.memory, Rule::OffersAnswered);
}

#[test]
fn a_removal_by_a_block_that_nobody_made_is_a_problem() {
    let removed = |edge| Event::FriendRemoved {
        peer: id("amy"),
        edge,
        reason: RemovalReason::BlockedByPeer,
        announced: true,
    };
    let edge = EdgeId { offerer: id("amy"), version: Version(2) };
    // Without any cause.
    let mut world = friends();
    world.remove("amy", "bob", false);
    let commit = world.commit_of("bob", vec![removed(edge)]);
    world.append(world.home("bob"), &Body::Commit(commit));
    expect_broken(&world.memory, Rule::SeveredByBlock);
    // By another act of hers, which is no block.
    let mut world = friends();
    world.remove("amy", "bob", true);
    world.drain();
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    let place = world.memory.places(removal)[0];
    world.memory.recommit(place, |commit| commit.events = vec![removed(edge)]);
    expect_broken(&world.memory, Rule::SeveredByBlock);
}

#[test]
fn naming_a_deleted_account_is_a_warning_once_all_have_heard_of_it() {
    let mut world = World::of(3, &NAMES);
    world.block("amy", &["bob"]);
    world.drain();
    world.delete("bob");
    assert_eq!(expect_clean(&world.memory).owed, 3, "every partition is still to hear of it");
    let forgets = |event: &Event| matches!(event, Event::PeerForgotten { .. });
    world.drain();
    expect_clean(&world.memory);
    let place = world.memory.places(|record| has(record, "amy", forgets))[0];
    world.memory.recommit(place, |commit| commit.events = vec![Event::ProfileChanged(change())]);
    let report = report(&world.memory);
    assert!(report.holds);
    assert_eq!(rules(&report.warnings), BTreeSet::from([Rule::DeletedForgotten]));
}

fn change() -> ProfileChange {
    ProfileChange { nick: Some("Amy".into()), ..ProfileChange::default() }
}
