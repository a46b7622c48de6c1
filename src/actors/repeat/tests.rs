use super::*;
use crate::domain::{AppId, Version};

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

fn key() -> UserKey {
    UserKey { app: AppId(1), user: id("amy") }
}

fn edge(version: u64) -> EdgeId {
    EdgeId { offerer: key().user, version: Version(version) }
}

fn done(number: u128, at: i64) -> Done {
    let call = Call {
        request: Uuid::from_u128(number),
        peers: SmallVec::new(),
        own: true,
        judged: false,
        offers: SmallVec::from_iter([(id("bob"), edge(7))]),
    };
    Done {
        key: key(),
        at: Timestamp(at),
        call: Some(call),
        answers: SmallVec::new(),
        message: None,
    }
}

#[test]
fn what_was_done_lately_is_found_by_its_request_and_user() {
    let mut repeats = Repeats::default();
    repeats.note(done(1, 0));
    let before = repeats.find(Uuid::from_u128(1), key()).expect("it was done");
    assert!(before.touched_own() && !before.touched(&id("bob")));
    assert_eq!(repeats.find(Uuid::from_u128(2), key()), None);
    assert_eq!(repeats.find(Uuid::from_u128(1), UserKey { user: id("bob"), ..key() }), None);
}

#[test]
fn what_was_answered_to_an_offer_of_the_call_is_known_and_nothing_of_other_offers() {
    let mut repeats = Repeats::default();
    repeats.note(done(1, 0));
    let answered = |version, came_to| Done {
        call: None,
        answers: SmallVec::from_iter([Answered {
            key: key(),
            edge: edge(version),
            peer: id("bob"),
            came_to,
        }]),
        ..done(1, 0)
    };
    repeats.note(answered(6, Ok(())));
    let answer = |repeats: &Repeats| {
        let before = repeats.find(Uuid::from_u128(1), key()).expect("it was done");
        before.offers()[0].came_to
    };
    assert_eq!(answer(&repeats), None);
    repeats.note(answered(7, Err(Rejection::AlreadyFriend)));
    assert_eq!(answer(&repeats), Some(Err(Rejection::AlreadyFriend)));
}

#[test]
fn an_equal_message_of_the_last_two_minutes_is_known_by_its_time() {
    let message = |seq: u32, to: &str, body: &str| Message {
        to: vec![id(to)],
        seq,
        random: 8,
        time: 1_700_000_000 + seq,
        body: body.into(),
        custom_data: "".into(),
        push: "".into(),
        life_time: None,
        online_only: false,
        not_for_sender: false,
        control: Vec::new(),
        read_receipt: false,
        extension: false,
        untold: false,
    };
    let mut repeats = Repeats::default();
    let first = message(7, "bob", "hi");
    let said = Said { content: content(&first, None), time: first.time };
    let sent = Done { call: None, message: Some(said), ..done(1, 5000) };
    repeats.note(sent.clone());
    let before = |repeats: &Repeats, message: &Message, ms: i64| {
        repeats.sent_before(key(), message, None, Timestamp(5000 + ms))
    };
    // A later time alone makes no other message.
    let again = Message { time: first.time + 60, ..first.clone() };
    assert_eq!(before(&repeats, &again, SAME_MESSAGE_MS), Some(first.time));
    assert_eq!(before(&repeats, &again, SAME_MESSAGE_MS + 1), None);
    // A clock that went back an hour makes no message an old one for an hour.
    assert_eq!(before(&repeats, &again, -SAME_MESSAGE_MS), Some(first.time));
    assert_eq!(before(&repeats, &again, -SAME_MESSAGE_MS - 1), None);
    for other in [message(6, "bob", "hi"), message(7, "carl", "hi"), message(7, "bob", "ho")] {
        assert_eq!(before(&repeats, &other, 0), None);
    }
    repeats.take_back(&sent);
    assert_eq!(before(&repeats, &again, 0), None);
}

#[test]
fn a_message_that_is_said_again_counts_from_then_on_and_others_do_not_push_it_out() {
    let said = |content: u128, at: i64| Done {
        call: None,
        message: Some(Said { content, time: 1 }),
        ..done(1, at)
    };
    let mut repeats = Repeats::default();
    repeats.note(said(1, 0));
    repeats.note(said(1, SAME_MESSAGE_MS));
    repeats.note(said(2, SAME_MESSAGE_MS + 1));
    assert!(repeats.messages.contains_key(&(key(), 1)));
    for number in 0..2 * REPEATS_MAX as u128 {
        repeats.note(done(number, SAME_MESSAGE_MS + 2));
    }
    assert!(repeats.messages.contains_key(&(key(), 1)));
    repeats.note(said(3, 2 * SAME_MESSAGE_MS + 1));
    assert_eq!(repeats.messages.len(), 2);
    assert_eq!(repeats.said.len(), 2);
}

#[test]
fn what_may_not_be_in_the_journal_is_taken_back() {
    let mut repeats = Repeats::default();
    repeats.note(done(1, 0));
    repeats.take_back(&done(1, 0));
    assert_eq!(repeats.find(Uuid::from_u128(1), key()), None);
}

#[test]
fn the_oldest_are_forgotten_when_there_are_too_many_or_they_are_too_old() {
    let mut repeats = Repeats::default();
    for number in 0..=REPEATS_MAX as u128 {
        repeats.note(done(number, 0));
    }
    assert_eq!(repeats.find(Uuid::from_u128(0), key()), None);
    assert!(repeats.find(Uuid::from_u128(1), key()).is_some());
    for number in 1..=11 {
        repeats.note(done(u128::MAX, number * STEP_MS_MAX));
    }
    assert_eq!(repeats.find(Uuid::from_u128(1), key()), None);
    assert_eq!((repeats.calls.len(), repeats.order.len()), (1, 1));
}

#[test]
fn a_new_owners_clock_that_is_far_ahead_makes_nothing_forgotten() {
    let (mut read, mut repeats) = (Repeats::default(), Repeats::default());
    read.note(done(1, 0));
    repeats.absorb(read);
    for (number, at) in [(2, 10 * REPEATS_MS), (3, 0), (4, 10 * REPEATS_MS)] {
        repeats.note(done(number, at));
    }
    for number in 1..=4 {
        assert!(repeats.find(Uuid::from_u128(number), key()).is_some(), "{number}");
    }
}

#[test]
fn records_that_are_read_again_and_again_take_no_more_room_than_once() {
    let call = |peers: &[&str], at: i64| {
        let mut done = done(1, at);
        let call = done.call.as_mut().expect("it is a call");
        call.peers = peers.iter().map(|name| id(name)).collect();
        Done { message: Some(Said { content: 1, time: 1 }), ..done }
    };
    let read = || {
        let mut repeats = Repeats::default();
        repeats.note(call(&["bob", "amy"], 0));
        repeats.note(call(&["amy", "carl"], SAME_MESSAGE_MS));
        repeats
    };
    let mut repeats = read();
    for _ in 0..3 {
        repeats.absorb(read());
    }
    let before = repeats.find(Uuid::from_u128(1), key()).expect("it was done");
    assert_eq!(before.peers(), ["amy", "bob", "carl"].map(id));
    assert_eq!(before.offers().len(), 1);
    assert_eq!((repeats.order.len(), repeats.said.len()), (1, 2));
    assert_eq!(repeats.messages[&(key(), 1)].0, Timestamp(SAME_MESSAGE_MS));
}
