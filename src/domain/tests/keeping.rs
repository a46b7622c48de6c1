//! Calls with keys. Rule: extensions.md 1.

use uuid::Uuid;

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn call(key: &str, asked: &str) -> CallKey {
    CallKey { key: id(key), asked: id(asked) }
}

fn answer(bytes: usize) -> KeptAnswer {
    KeptAnswer { code: 0, body: "x".repeat(bytes).into(), positions: vec![(3, 7)] }
}

/// A book, which is no account.
fn book() -> Someone {
    let user = User::new(book_of(&id("0123456789abcdef0123456789abcdef")));
    Someone { user, policy: Policy::default() }
}

fn keep(amy: &mut Someone, key: &str, bytes: usize, at: Timestamp) -> Vec<Event> {
    let events = amy.user.keep_answer(call(key, "this"), Uuid::nil(), answer(bytes), at);
    amy.close(&events);
    events
}

#[test]
fn the_first_answer_stays_and_what_was_done_before_it_is_known() {
    let mut amy = someone("amy");
    let mut events = amy.user.perform(&block(&["bob"]), &amy.policy, NOW).expect("decided").events;
    amy.user.keep_call(call("k", "this"), Uuid::nil(), &mut events, NOW);
    assert!(matches!(events.last(), Some(Event::CallDone { .. })));
    amy.close(&events);
    let kept = amy.user.kept(&id("k")).expect("it is kept");
    assert_eq!((kept.traces.peers.as_slice(), &kept.answer), (&[id("bob")][..], &None));
    assert_eq!(keep(&mut amy, "k", 2, NOW).len(), 1);
    assert_eq!(keep(&mut amy, "k", 3, NOW), [], "it was answered already");
    let kept = amy.user.kept(&id("k")).expect("it is kept");
    assert_eq!(kept.answer.as_deref(), Some(&answer(2)));
    assert_eq!(kept.traces.peers, [id("bob")], "and nothing is forgotten with it");
}

/// Amy asks under the key "k", and these are friends that she wanted, in request order.
fn ask(amy: &mut Someone, command: &Command) {
    let mut events = amy.user.perform(command, &amy.policy, NOW).expect("decided").events;
    amy.user.keep_call(call("k", "this"), Uuid::nil(), &mut events, NOW);
    amy.close(&events);
}

/// What came of the friends that the call wanted.
fn came_to(amy: &Someone) -> Vec<(String, CameTo)> {
    let traces = &amy.user.kept(&id("k")).expect("it is kept").traces;
    assert_eq!(traces.peers, []);
    traces.wanted.iter().map(|one| (one.peer.to_string(), one.came_to)).collect()
}

fn named(peer: &str, came_to: CameTo) -> (String, CameTo) {
    (peer.to_owned(), came_to)
}

#[test]
fn an_offer_is_known_by_its_key_also_over_a_friend_of_the_user_s_alone() {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    ask(&mut amy, &add(OfferForm::TwoWay, &["bob", "cyd", "bob"]));
    assert_eq!(came_to(&amy), [named("bob", CameTo::Open), named("cyd", CameTo::Open)]);
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    ask(&mut amy, &add(OfferForm::Import, &["bob", "bob"]));
    assert_eq!(came_to(&amy), [named("bob", CameTo::Made)]);
}

#[test]
fn what_came_of_a_later_offer_is_not_what_came_of_the_one_that_was_taken_back() {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    ask(&mut amy, &add(OfferForm::TwoWay, &["bob"]));
    amy.when(&remove(&["bob"], false, &["bob"]));
    let later = EdgeId { offerer: id("amy"), version: amy.user.version().next() };
    amy.when(&add(OfferForm::TwoWay, &["bob"]));
    assert!(!amy.hears("bob", &[confirm(later)]).is_empty());
    assert_eq!(came_to(&amy), [named("bob", CameTo::Open)]);
}

#[test]
fn who_is_wanted_in_another_form_than_before_is_kept_as_wanted_alone() {
    let mut amy = someone("amy");
    amy.when(&add(OfferForm::TwoWay, &["bob"]));
    amy.hears("bob", &[Effect::Pend { offer: edge("amy", 2) }]);
    ask(&mut amy, &add(OfferForm::OneWay, &["bob"]));
    assert_eq!(came_to(&amy), [named("bob", CameTo::Open)]);
}

#[test]
fn the_first_thing_that_came_of_an_offer_stays() {
    let answers = |amy: &mut Someone, offer: EdgeId| {
        amy.hears("bob", &[confirm(offer)]);
        let why = Rejection::PeerAcceptsNobody;
        amy.hears("cyd", &[Effect::Refuse { offer, why }]);
        amy.hears("dan", &[Effect::Pend { offer }]);
        amy.hears("dan", &[confirm(offer)]);
    };
    let mut amy = someone("amy");
    let offer = edge("amy", 2);
    ask(&mut amy, &add(OfferForm::TwoWay, &["bob", "cyd", "dan", "eve"]));
    answers(&mut amy, edge("amy", 1));
    let all = ["bob", "cyd", "dan", "eve"];
    assert_eq!(came_to(&amy), all.map(|peer| named(peer, CameTo::Open)), "of other offers");
    answers(&mut amy, offer);
    let known = [
        named("bob", CameTo::Made),
        named("cyd", CameTo::Refused(Rejection::PeerAcceptsNobody)),
        named("dan", CameTo::Refused(Rejection::ConfirmationNeeded)),
    ];
    let open = |open| [&known[..], &[named("eve", open)]].concat();
    assert_eq!(came_to(&amy), open(CameTo::Open));
    let mut blocks = amy.clone();
    blocks.when(&block(&["bob", "eve"]));
    assert_eq!(came_to(&blocks), open(CameTo::Refused(Rejection::PeerBlocked)));
    amy.when(&Command::DeleteAccount);
    assert_eq!(came_to(&amy), open(CameTo::Refused(Rejection::AccountUnknown)));
}

#[test]
fn after_a_day_a_call_gives_way_to_the_next_one() {
    let mut amy = book();
    keep(&mut amy, "k1", 2, NOW);
    assert_eq!(keep(&mut amy, "k2", 2, Timestamp(NOW.0 + DAY_MS)).len(), 1);
    let events = keep(&mut amy, "k3", 2, Timestamp(NOW.0 + DAY_MS + 1));
    assert_eq!(events[0], Event::CallsForgotten { keys: vec![id("k1")] });
    assert!(amy.user.kept(&id("k1")).is_none() && amy.user.kept(&id("k2")).is_some());
}

#[test]
fn answers_take_a_bounded_room_and_the_oldest_go_first() {
    let mut amy = book();
    let mebibyte = 1 << 20;
    for (ms, key) in (0..).zip(["k1", "k2", "k3", "k4"]) {
        assert_eq!(keep(&mut amy, key, mebibyte, Timestamp(NOW.0 + ms)).len(), 1);
    }
    let events = keep(&mut amy, "k5", mebibyte + 1, Timestamp(NOW.0 + 9));
    assert_eq!(events[0], Event::CallsForgotten { keys: vec![id("k1"), id("k2")] });
    assert_eq!(amy.user.kept_calls().count(), 3);
}

#[test]
fn a_user_keeps_few_calls_because_nobody_asks_once_they_are_answered() {
    let mut amy = someone("amy");
    for number in 0..150 {
        let mut events = Vec::new();
        let call = call(&format!("k{number:03}"), "this");
        amy.user.keep_call(call, Uuid::nil(), &mut events, Timestamp(NOW.0 + number));
        amy.close(&events);
    }
    assert_eq!(amy.user.kept_calls().count(), 100);
    assert!(amy.user.kept(&id("k149")).is_some() && amy.user.kept(&id("k049")).is_none());
}

#[test]
fn a_key_stands_for_the_call_that_began_with_it() {
    let mut amy = book();
    let first = Uuid::from_u128(1);
    let begin = |amy: &mut Someone, asked: &str| {
        let begun = amy.user.begin_call(call("k", asked), first, NOW);
        begun.map(|events| events.len())
    };
    assert_eq!(begin(&mut amy, "this"), Ok(1));
    assert_eq!(begin(&mut amy, "this"), Ok(0));
    assert_eq!(begin(&mut amy, "that"), Err(Rejection::KeyReused));
    assert_eq!(amy.user.kept(&id("k")).expect("it is kept").request, first);
}

#[test]
fn a_key_that_stood_for_another_call_a_day_ago_starts_anew() {
    let mut amy = book();
    keep(&mut amy, "k", 2, NOW);
    let later = Timestamp(NOW.0 + DAY_MS + 1);
    let events = amy.user.keep_answer(call("k", "that"), Uuid::nil(), answer(3), later);
    assert_eq!(events.len(), 1);
    let kept = amy.user.kept(&id("k")).expect("it is kept");
    assert_eq!((kept.call.asked, kept.answer.as_deref()), (id("that"), Some(&answer(3))));
}
