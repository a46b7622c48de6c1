//! cluster.md 5: answers, requests that wait, offers that cross, announcements.

use super::*;

const TWO_WAY: OfferForm = OfferForm::TwoWay;

#[test]
fn a_yes_adds_the_friend_and_is_announced() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["bob"]));
    let offer = edge("amy", 2);
    let events = amy.hears("bob", &[confirm(offer)]);
    let confirmed = Event::OfferConfirmed {
        peer: id("bob"),
        edge: offer,
        mine: true,
        theirs: true,
        agreement: None,
    };
    assert_eq!(events, [added("bob", offer), confirmed, settled(2, &[("bob", true, true)])]);
    assert_eq!(amy.user.offers().count(), 0);
}

#[test]
fn a_no_ends_the_offer_and_announces_nothing() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["bob"]));
    let why = Rejection::BlockedByPeer;
    let events = amy.hears("bob", &[Effect::Refuse { offer: edge("amy", 2), why }]);
    assert_eq!(events, [Event::OfferEnded { peer: id("bob"), edge: edge("amy", 2), why }]);
    assert_eq!(amy.user.offers().count(), 0);
}

#[test]
fn an_answer_touches_only_the_offer_that_it_names() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["bob"]));
    let other = edge("amy", 1);
    let why = Rejection::BlockedByPeer;
    for effect in
        [confirm(other), Effect::Refuse { offer: other, why }, Effect::Pend { offer: other }]
    {
        assert_eq!(amy.hears("bob", std::slice::from_ref(&effect)), [], "{effect:?}");
    }
    assert_eq!(amy.offer_state("bob"), Some(OfferState::Open));
}

#[test]
fn a_one_way_friendship_is_in_the_askers_list_alone() {
    let (mut amy, mut bob) = (someone("amy"), someone("bob"));
    let events = amy.events(&add(OfferForm::OneWay, &["bob"]));
    let proposal = asked(&events)[0].1.clone();
    let answer = bob.hears("amy", &[proposal]);
    let yes = asked(&answer)[0].1.clone();
    let events = amy.hears("bob", &[yes]);
    assert_eq!(events.last(), Some(&settled(2, &[("bob", true, false)])));
    assert!(amy.user.has_friend(&id("bob")) && !bob.user.has_friend(&id("amy")));
}

#[test]
fn all_friendships_of_a_request_are_announced_once_when_the_last_is_answered() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["eve", "dan", "cyd", "bob"]));
    let offer = edge("amy", 2);
    let announced = |events: &[Event]| {
        events.iter().filter(|event| matches!(event, Event::OffersSettled { .. })).count()
    };
    assert_eq!(announced(&amy.hears("dan", &[confirm(offer)])), 0);
    let refuse = Effect::Refuse { offer, why: Rejection::PeerAcceptsNobody };
    assert_eq!(announced(&amy.hears("cyd", &[refuse])), 0);
    assert_eq!(announced(&amy.hears("eve", &[Effect::Pend { offer }])), 0);
    let events = amy.hears("bob", &[confirm(offer)]);
    let friends = [("dan", true, true), ("bob", true, true)];
    assert_eq!(events.last(), Some(&settled(2, &friends)), "in the order of the request");
    assert_eq!(announced(&events), 1);
    let late = amy.hears("eve", &[confirm(offer)]);
    assert_eq!(late.last(), Some(&settled(2, &[("eve", true, true)])), "confirmed later");
}

#[test]
fn a_block_of_the_last_one_awaited_announces_the_others() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["bob", "cyd"]));
    amy.hears("bob", &[confirm(edge("amy", 2))]);
    let events = amy.events(&block(&["cyd"]));
    assert_eq!(events.last(), Some(&settled(2, &[("bob", true, true)])));
}

#[test]
fn a_friendship_is_announced_before_its_end() {
    let offer = edge("amy", 2);
    let given = || {
        let mut amy = someone("amy");
        amy.when(&add(TWO_WAY, &["bob", "cyd"]));
        amy.hears("bob", &[confirm(offer)]);
        amy
    };
    let beginning = settled(2, &[("bob", true, true)]);
    for events in [
        given().events(&block(&["bob"])),
        given().events(&remove(&["bob"], false, &[])),
        given().events(&remove(&["bob"], true, &["bob"])),
        given().hears("bob", &[sever(true)]),
    ] {
        assert_eq!(events[0], beginning);
        assert!(matches!(events[1], Event::FriendRemoved { .. }), "{events:?}");
    }
    assert_eq!(given().user.forget(id("bob"), NOW)[0], beginning);
    assert_eq!(given().events(&Command::DeleteAccount)[0], beginning);
}

#[test]
fn who_clears_all_friends_announces_those_of_one_request_once() {
    for both in [false, true] {
        let mut amy = someone("amy");
        amy.when(&add(TWO_WAY, &["bob", "cyd", "dan"]));
        amy.hears("bob", &[confirm(edge("amy", 2))]);
        amy.hears("cyd", &[confirm(edge("amy", 2))]);
        let events = amy.events(&Command::ClearFriends { both });
        let announced = |event: &&Event| matches!(event, Event::OffersSettled { .. });
        let all: Vec<&Event> = events.iter().filter(announced).collect();
        assert_eq!(all, [&settled(2, &[("bob", true, true), ("cyd", true, true)])], "{both}");
    }
}

#[test]
fn a_run_that_confirms_a_friendship_and_ends_it_changes_the_rows_of_the_whole_request() {
    let mut amy = someone("amy");
    amy.when(&add(TWO_WAY, &["bob", "cyd"]));
    let run = [confirm(edge("amy", 2)), sever(true)];
    let scope = amy.user.scope_of_effects(id("bob"), run.len());
    let events = amy.hears("bob", &run);
    assert!(events.iter().any(|event| matches!(event, Event::OffersSettled { .. })), "{events:?}");
    assert_eq!(scope, [id("bob"), id("cyd")]);
}

#[test]
fn a_request_that_waits_is_pending_on_both_sides() {
    let mut amy = someone("amy");
    let mut bob = someone("bob").allowing(AllowType::NeedConfirm);
    let events = amy.events(&add(TWO_WAY, &["bob"]));
    settle_between(&mut amy, &mut bob, &events);
    assert_eq!(amy.offer_state("bob"), Some(OfferState::Pending));
    let request = bob.user.requests().next().expect("a request");
    assert_eq!((request.peer, request.edge), (id("amy"), edge("amy", 2)));
}

/// Amy's offer waits at bob.
fn pending() -> (Someone, Someone) {
    let mut amy = someone("amy");
    let mut bob = someone("bob").allowing(AllowType::NeedConfirm);
    let events = amy.events(&add(TWO_WAY, &["bob"]));
    settle_between(&mut amy, &mut bob, &events);
    (amy, bob)
}

#[test]
fn a_pending_offer_made_anew_keeps_its_id_and_brings_new_words() {
    let (mut amy, mut bob) = pending();
    let card = Card { wording: "Please".into(), ..Card::default() };
    let decision = amy.when(&add_with(TWO_WAY, "bob", card.clone()));
    let offer = edge("amy", 2);
    assert_eq!(decision.outcomes, [Ok(Outcome::Offering { peer: id("bob"), edge: offer })]);
    settle_between(&mut amy, &mut bob, &decision.events);
    let request = bob.user.requests().next().expect("a request");
    assert_eq!((request.edge, &*request.card), (offer, &card));
    assert_eq!(amy.offer_state("bob"), Some(OfferState::Pending));
}

#[test]
fn a_pending_offer_made_anew_is_judged_anew() {
    let (mut amy, bob) = pending();
    let mut open = bob.allowing(AllowType::AllowAny);
    let events = amy.events(&add(TWO_WAY, &["bob"]));
    settle_between(&mut amy, &mut open, &events);
    assert_eq!(
        (amy.edge_of("bob"), open.edge_of("amy")),
        (Some(edge("amy", 2)), Some(edge("amy", 2)))
    );
    assert_eq!(open.user.requests().count(), 0);

    let (mut amy, mut bob) = pending();
    let events = amy.events(&force("bob"));
    settle_between(&mut amy, &mut bob, &events);
    assert!(amy.user.has_friend(&id("bob")) && bob.user.has_friend(&id("amy")));

    let (mut amy, bob) = pending();
    let mut closed = bob.allowing(AllowType::DenyAny);
    let events = amy.events(&add(TWO_WAY, &["bob"]));
    settle_between(&mut amy, &mut closed, &events);
    assert_eq!((amy.offer_state("bob"), closed.user.requests().count()), (None, 0));
}

#[test]
fn an_offer_made_anew_counts_only_as_far_as_it_still_waits() {
    let mut bob = someone("bob");
    let again = Effect::Propose {
        edge: edge("amy", 2),
        form: TWO_WAY,
        forced: true,
        over: false,
        again: true,
        card: Card::default(),
    };
    assert_eq!(bob.hears("amy", &[again]), []);
}

#[test]
fn a_pending_offer_in_another_form_is_taken_back_first() {
    let (mut amy, mut bob) = pending();
    let decision = amy.when(&add(OfferForm::OneWay, &["bob"]));
    let taken_back = Event::OfferWithdrawn { peer: id("bob"), edge: edge("amy", 2) };
    assert_eq!(decision.events[0], taken_back);
    settle_between(&mut amy, &mut bob, &decision.events);
    assert_eq!(bob.user.requests().count(), 0);
    assert!(amy.user.has_friend(&id("bob")) && !bob.user.has_friend(&id("amy")));
}

#[test]
fn who_asks_for_the_same_has_confirmed_it() {
    let (mut amy, mut bob) = pending();
    let mut amy = {
        amy.policy.default_allow_type = AllowType::NeedConfirm;
        amy
    };
    let events = bob.events(&add(TWO_WAY, &["amy"]));
    settle_between(&mut bob, &mut amy, &events);
    assert!(amy.user.has_friend(&id("bob")) && bob.user.has_friend(&id("amy")));
    assert_eq!(amy.edge_of("bob"), bob.edge_of("amy"));
    for user in [&amy.user, &bob.user] {
        assert_eq!(user.offers().count() + user.requests().count(), 0, "{user:?}");
    }
}

#[test]
fn offers_that_cross_end_in_one_friendship_whatever_comes_first() {
    for confirming in [false, true] {
        let allow = if confirming { AllowType::NeedConfirm } else { AllowType::AllowAny };
        let (mut amy, mut bob) = (someone("amy").allowing(allow), someone("bob").allowing(allow));
        let hers = asked(&amy.events(&add(TWO_WAY, &["bob"])))[0].1.clone();
        let his = asked(&bob.events(&add(TWO_WAY, &["amy"])))[0].1.clone();
        let her_yes = asked(&amy.hears("bob", &[his]))[0].1.clone();
        let his_yes = asked(&bob.hears("amy", &[hers]))[0].1.clone();
        let last = amy.hears("bob", &[his_yes]);
        // Each direction is announced once, by the side whose offer was accepted.
        assert_eq!(last.last(), Some(&settled(3, &[("bob", false, true)])));
        let last = bob.hears("amy", &[her_yes]);
        assert_eq!(last.last(), Some(&settled(3, &[("amy", false, true)])));
        assert_eq!(amy.edge_of("bob"), Some(edge("amy", 3)), "the smaller one");
        assert_eq!(bob.edge_of("amy"), Some(edge("amy", 3)));
        assert_eq!(amy.user.offers().count() + bob.user.offers().count(), 0);
    }
}

#[test]
fn an_offer_that_crosses_brings_the_own_record_of_the_friend() {
    let mut amy = someone("amy");
    let card = Card { remark: "Bobby".into(), ..Card::default() };
    amy.when(&add_with(TWO_WAY, "bob", card.clone()));
    amy.hears("bob", &[propose(edge("bob", 4), TWO_WAY)]);
    let friend = amy.user.friends.get(&id("bob")).expect("a friend");
    assert_eq!(friend.card().map(Card::from), Some(card));
}

#[test]
fn a_withdrawal_drops_the_request_or_ends_what_came_of_the_offer() {
    let offer = edge("amy", 4);
    let withdraw = [Effect::Withdraw { offer }];
    let mut bob = someone("bob").given(&[requested("amy", offer)]);
    let dropped = Event::RequestDropped { peer: id("amy"), edge: offer };
    assert_eq!(bob.hears("amy", &withdraw), [dropped]);

    let mut bob = someone("bob").with_friend("amy", offer);
    let ended = Event::FriendRemoved {
        peer: id("amy"),
        edge: offer,
        reason: RemovalReason::Withdrawn,
        announced: true,
    };
    assert_eq!(bob.hears("amy", &withdraw), [ended]);

    let mut bob = someone("bob")
        .with_friend("amy", edge("bob", 2))
        .given(&[requested("amy", edge("amy", 9))]);
    assert_eq!(bob.hears("amy", &withdraw), [], "of another offer");
}

#[test]
fn effects_of_one_run_stand_in_one_record_and_are_judged_in_order() {
    let offer = edge("amy", 4);
    let mut bob = someone("bob");
    let before = bob.user.version();
    let events = bob.hears("amy", &[propose(offer, TWO_WAY), sever(true)]);
    assert!(matches!(
        events[..],
        [Event::FriendAdded { .. }, Event::FriendAccepted { .. }, Event::FriendRemoved { .. }]
    ));
    assert_eq!(bob.user.version(), before.next());
    assert!(!bob.user.has_friend(&id("amy")));
}
