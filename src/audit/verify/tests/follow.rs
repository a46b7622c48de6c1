//! What a record may say after what stood before it, and after what its user has heard.

use super::*;
use uuid::Uuid;

use crate::domain::{CallKey, Seek, SeekTo};

/// Expects that `broken` are found, whichever partition is read first.
fn expect_everywhere(world: &World, broken: &[Rule]) {
    let expected: BTreeSet<Rule> = broken.iter().copied().collect();
    let memory = &world.memory;
    for memory in [memory.clone(), memory.clone().sorted(false), memory.clone().sorted(true)] {
        let found = report(&memory);
        assert_eq!(rules(&found.problems), expected, "{:#?}", found.problems);
    }
}

fn append(world: &mut World, owner: &str, version: u64, events: Vec<Event>) {
    let mut commit = world.commit_of(owner, events);
    commit.version = Version(version);
    world.append(world.home(owner), &Body::Commit(commit));
}

fn added(peer: &str, edge: EdgeId) -> Event {
    Event::FriendAdded { peer: id(peer), edge, card: Card::default() }
}

fn removed(peer: &str, edge: EdgeId, reason: RemovalReason) -> Event {
    Event::FriendRemoved { peer: id(peer), edge, reason, announced: false }
}

fn edge(offerer: &str, version: u64) -> EdgeId {
    EdgeId { offerer: id(offerer), version: Version(version) }
}

fn removal_of_bob(world: &World) -> (Partition, Offset) {
    let removal =
        |record: &Record| has(record, "bob", |e| matches!(e, Event::FriendRemoved { .. }));
    *world.memory.places(removal).last().expect("he was let go of")
}

#[test]
fn a_friendship_that_nobody_offered_is_a_problem_also_when_it_is_over() {
    let mut world = World::of(3, &NAMES);
    world.block("amy", &["bob"]);
    world.drain();
    append(&mut world, "bob", 2, vec![added("amy", edge("amy", 2))]);
    append(
        &mut world,
        "bob",
        3,
        vec![removed("amy", edge("amy", 2), RemovalReason::DeletedSingle)],
    );
    expect_everywhere(&world, &[Rule::AnswersAsAsked]);
}

#[test]
fn a_friendship_in_answer_to_a_block_is_a_problem_also_when_it_is_over() {
    let mut world = friends();
    world.block("amy", &["bob"]);
    world.drain();
    let held = edge("amy", 2);
    world.memory.recommit(removal_of_bob(&world), |commit| {
        commit.events.push(added("amy", held));
    });
    append(&mut world, "bob", 4, vec![removed("amy", held, RemovalReason::DeletedSingle)]);
    expect_everywhere(&world, &[Rule::AnswersAsAsked, Rule::PartedWhenTaken]);
}

#[test]
fn a_block_that_is_taken_and_changes_nothing_is_a_problem_while_there_is_a_friend() {
    let mut world = friends();
    world.block("amy", &["bob"]);
    world.drain();
    world.memory.rewrite(removal_of_bob(&world), unsay);
    let removal = removed("amy", edge("amy", 2), RemovalReason::DeletedSingle);
    append(&mut world, "bob", 3, vec![removal]);
    expect_everywhere(&world, &[Rule::PartedWhenTaken]);
}

#[test]
fn a_request_outlasts_no_block() {
    let mut world = World::of(3, &NAMES);
    world.allow("bob", AllowType::NeedConfirm);
    world.add("amy", &["bob"], OfferForm::TwoWay, false);
    world.drain();
    world.block("amy", &["bob"]);
    world.drain();
    expect_clean(&world.memory);
    let drops = |record: &Record| has(record, "bob", |e| matches!(e, Event::RequestDropped { .. }));
    let place = world.memory.places(drops)[0];
    world.memory.rewrite(place, unsay);
    expect_everywhere(&world, &[Rule::PartedWhenTaken]);
}

#[test]
fn an_edge_that_was_let_go_of_is_not_formed_again() {
    let mut world = friends();
    world.remove("bob", "amy", false);
    let commit = world.commit_of("bob", vec![added("amy", edge("amy", 2))]);
    world.append(world.home("bob"), &Body::Commit(commit));
    expect_everywhere(&world, &[Rule::AnswersAsAsked]);
    // Nor is an own offer accepted twice.
    let mut world = friends();
    world.remove("amy", "bob", false);
    let commit = world.commit_of("amy", vec![added("bob", edge("amy", 2))]);
    world.append(world.home("amy"), &Body::Commit(commit));
    expect_everywhere(&world, &[Rule::EventsFollow, Rule::AnswersAsAsked]);
}

#[test]
fn a_removal_by_a_block_answers_that_block_and_no_later_act() {
    let mut world = friends();
    world.block("amy", &["bob"]);
    world.drain();
    world.unblock("amy", &["bob"]);
    world.befriend("amy", "bob");
    world.remove("amy", "bob", true);
    world.drain();
    expect_clean(&world.memory);
    world.memory.recommit(removal_of_bob(&world), |commit| {
        for event in &mut commit.events {
            if let Event::FriendRemoved { reason, .. } = event {
                *reason = RemovalReason::BlockedByPeer;
            }
        }
    });
    expect_everywhere(&world, &[Rule::SeveredByBlock]);
}

#[test]
fn what_does_not_follow_from_the_state_before_is_a_problem() {
    let mut world = friends();
    world.block("amy", &["carl"]);
    world.drain();
    let dora = id("dora");
    let next = world.users[&key("amy")].version().0 + 1;
    let offer = |peer: &str, version| Event::FriendOffered {
        peer: id(peer),
        edge: edge("amy", version),
        form: OfferForm::TwoWay,
        forced: false,
        over: None,
        again: false,
        despite_block: false,
        card: Card::default(),
    };
    let seek = Seek { name: "all".into(), term: 2, to: SeekTo::End };
    let names = vec!["family".into()];
    let wrong = [
        Event::AccountImported {},
        Event::AccountDeleted {},
        Event::UserBlocked { target: id("carl"), remain_friends: false },
        Event::UserBlocked { target: id("amy"), remain_friends: false },
        Event::UserUnblocked { target: dora },
        offer("carl", next),
        offer("dora", next - 1),
        offer("bob", next),
        removed("bob", edge("amy", 1), RemovalReason::DeletedSingle),
        removed("dora", edge("amy", 2), RemovalReason::DeletedSingle),
        Event::FriendUpdated { peer: dora, card: Card::default() },
        Event::FriendsGrouped { names: names.clone(), peers: vec![dora] },
        Event::GroupsRemoved { names },
        Event::UnfriendAsked { peer: id("bob") },
        Event::OfferWithdrawn { peer: id("bob"), edge: edge("amy", 2) },
        Event::OffersSettled {
            offered: Version(2),
            forced: false,
            waited: false,
            friends: Vec::new(),
        },
        Event::PeerForgotten { peer: dora },
        Event::SubscriptionDeleted { name: "all".into() },
        Event::SubscriptionMoved(seek),
        Event::ReplayEnded { number: 1, completed: true },
        Event::CallsForgotten { keys: vec![dora] },
    ];
    for event in wrong {
        let mut world = world.clone();
        append(&mut world, "amy", next, vec![event.clone()]);
        let place = world.last(world.home("amy"));
        let found = report(&world.memory).problems.first;
        let found: Vec<_> = found.iter().filter(|one| one.rule == Rule::EventsFollow).collect();
        let [found] = &found[..] else { panic!("{event:?}: {found:#?}") };
        assert_eq!((found.partition, found.offset), place, "{event:?}");
    }
    // A call is begun once.
    let call = CallKey { key: dora, asked: dora };
    let begun = || Event::CallBegun { call, request: Uuid::nil() };
    append(&mut world, "amy", next, vec![begun()]);
    expect_clean(&world.memory);
    append(&mut world, "amy", next + 1, vec![begun()]);
    expect_everywhere(&world, &[Rule::EventsFollow]);
}
