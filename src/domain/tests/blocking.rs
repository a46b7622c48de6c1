//! rest-api.md 3: the blocklist.

use super::*;

#[test]
fn blocking_records_the_fact_and_waits_for_the_peer() {
    let mut amy = someone("amy");
    let decision = amy.when(&block(&["bob"]));
    assert_eq!(decision.events, [blocked("bob")]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Severing { peer: id("bob") })]);
    assert!(amy.user.blocks(&id("bob")));
    assert_eq!(asked(&decision.events), [("bob".to_owned(), sever(false))]);
}

#[test]
fn blocking_twice_records_one_fact() {
    let mut amy = someone("amy").given(&[blocked("bob")]);
    let decision = amy.when(&block(&["bob"]));
    assert_eq!(decision.events, []);
    assert_eq!(decision.outcomes, [Err(Rejection::AlreadyBlocked)]);
}

#[test]
fn the_second_of_two_equal_targets_is_refused() {
    let mut amy = someone("amy");
    let decision = amy.when(&block(&["bob", "bob"]));
    assert_eq!(decision.events, [blocked("bob")]);
    assert_eq!(decision.outcomes[1], Err(Rejection::AlreadyBlocked));
}

#[test]
fn a_list_that_fills_up_in_a_request_keeps_what_came_before() {
    let mut amy = someone("amy").under(|policy| policy.blocks_max = 2);
    let outcomes = amy.outcomes(&block(&["bob", "cyd", "dan", "bob"]));
    assert_eq!(outcomes[2..], [Err(Rejection::BlocklistFull), Err(Rejection::AlreadyBlocked)]);
    assert_eq!(amy.page(0, 9), ["bob", "cyd"]);
}

#[test]
fn nobody_blocks_themselves() {
    let mut amy = someone("amy");
    let decision = amy.when(&block(&["amy", "bob"]));
    assert_eq!(decision.outcomes[0], Err(Rejection::SelfTarget));
    assert_eq!(decision.events, [blocked("bob")], "the others are not undone");
}

#[test]
fn an_account_that_is_not_imported_is_not_blocked() {
    let mut amy = someone("amy").given(&[blocked("cyd")]);
    let targets =
        ["bob", "cyd"].map(|name| Target { user: id(name), imported: false }).into_iter().collect();
    let outcomes = amy.outcomes(&Command::Block { targets });
    assert_eq!(outcomes, [Err(Rejection::AccountUnknown), Err(Rejection::AlreadyBlocked)]);
}

#[test]
fn a_caller_who_is_not_imported_is_refused_as_a_whole() {
    let mut user = User::new(id("amy"));
    let decided = user.perform(&block(&["bob"]), &Policy::default(), NOW);
    assert_eq!(decided, Err(Rejection::AccountUnknown));
}

#[test]
fn a_block_ends_the_friendship_and_tells_the_peer_so() {
    let mut amy = someone("amy").with_friend("bob", edge("bob", 7));
    let events = amy.events(&block(&["bob", "cyd"]));
    let ended = removed("bob", edge("bob", 7), RemovalReason::Blocked);
    assert_eq!(events, [ended, blocked("bob"), blocked("cyd")]);
    assert!(!amy.user.has_friend(&id("bob")));
    let asked = asked(&events);
    assert_eq!(asked, [("bob".to_owned(), sever(true)), ("cyd".to_owned(), sever(false))]);
}

#[test]
fn a_block_ends_the_own_offer_and_refuses_the_peers_request() {
    let mut amy = someone("amy")
        .given(&[offered("bob", edge("amy", 2), OfferForm::TwoWay)])
        .given(&[requested("bob", edge("bob", 5))]);
    let events = amy.events(&block(&["bob"]));
    let peer = id("bob");
    let expected = [
        Event::OfferEnded { peer, edge: edge("amy", 2), why: Rejection::PeerBlocked },
        Event::FriendRefused { peer, offer: edge("bob", 5), why: Rejection::BlockedByPeer },
        blocked("bob"),
    ];
    assert_eq!(events, expected);
    assert_eq!(amy.user.offers().count() + amy.user.requests().count(), 0);
    let refuse = Effect::Refuse { offer: edge("bob", 5), why: Rejection::BlockedByPeer };
    assert_eq!(asked(&events), [("bob".to_owned(), refuse), ("bob".to_owned(), sever(false))]);
}

#[test]
fn being_blocked_ends_the_friendship_and_drops_the_blockers_request() {
    let mut bob = someone("bob")
        .with_friend("amy", edge("bob", 9))
        .given(&[requested("amy", edge("amy", 4))]);
    let events = bob.hears("amy", &[sever(true)]);
    let ended = Event::FriendRemoved {
        peer: id("amy"),
        edge: edge("bob", 9),
        reason: RemovalReason::BlockedByPeer,
        announced: true,
    };
    assert_eq!(events, [ended, Event::RequestDropped { peer: id("amy"), edge: edge("amy", 4) }]);
    assert_eq!(asked(&events), [], "nothing comes back");
}

#[test]
fn being_blocked_leaves_an_own_offer_to_its_answer() {
    let offer = edge("bob", 2);
    let mut bob = someone("bob").given(&[offered("amy", offer, OfferForm::TwoWay)]);
    assert_eq!(bob.hears("amy", &[sever(false)]), []);
    assert_eq!(bob.offer_state("amy"), Some(OfferState::Open));
    bob.hears("amy", &[Effect::Refuse { offer, why: Rejection::BlockedByPeer }]);
    assert_eq!(bob.offer_state("amy"), None);
}

#[test]
fn being_blocked_twice_changes_nothing_the_second_time() {
    let mut bob = someone("bob").with_friend("amy", edge("bob", 9));
    bob.hears("amy", &[sever(true)]);
    assert_eq!(bob.hears("amy", &[sever(false)]), []);
}

#[test]
fn friends_remain_where_the_app_says_so() {
    let keeps = |policy: &mut Policy| policy.remain_friends = true;
    let mut amy = someone("amy").under(keeps).with_friend("bob", edge("amy", 2));
    let events = amy.events(&block(&["bob"]));
    assert_eq!(events, [Event::UserBlocked { target: id("bob"), remain_friends: true }]);
    assert!(amy.user.has_friend(&id("bob")));

    let mut bob = someone("bob").with_friend("amy", edge("amy", 2));
    let asked = asked(&events);
    assert_eq!(bob.hears("amy", &[asked[0].1.clone()]), []);
    assert!(bob.user.has_friend(&id("amy")));
}

#[test]
fn an_open_offer_outlasts_a_block_where_friends_do_and_is_refused_if_it_waits() {
    let offer = edge("amy", 2);
    let keeps = |policy: &mut Policy| policy.remain_friends = true;
    let given = [offered("bob", offer, OfferForm::TwoWay)];
    let mut amy = someone("amy").under(keeps).given(&given);
    let events = amy.events(&block(&["bob"]));
    assert_eq!(amy.offer_state("bob"), Some(OfferState::Open));

    let mut bob = someone("bob").given(&[requested("amy", offer)]);
    settle_between(&mut amy, &mut bob, &events);
    assert_eq!(amy.offer_state("bob"), None);
    assert_eq!(bob.user.requests().count(), 0);
}

#[test]
fn unblocking_takes_off_the_list_and_brings_nothing_back() {
    let mut amy = someone("amy").with_friend("bob", edge("bob", 7));
    amy.when(&block(&["bob"]));
    let decision = amy.when(&unblock(&["bob"]));
    assert_eq!(decision.events, [Event::UserUnblocked { target: id("bob") }]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Recorded)]);
    assert!(!amy.user.blocks(&id("bob")) && !amy.user.has_friend(&id("bob")));
    assert_eq!(asked(&decision.events), []);
}

#[test]
fn who_is_not_blocked_is_not_unblocked() {
    let mut amy = someone("amy").given(&[blocked("bob")]);
    let outcomes = amy.outcomes(&unblock(&["bob", "bob", "cyd"]));
    assert_eq!(outcomes[1..], [Err(Rejection::NotBlocked), Err(Rejection::NotBlocked)]);
}

#[test]
fn a_gone_account_is_unblocked_if_it_is_on_the_list() {
    let mut amy = someone("amy").given(&[blocked("bob")]);
    let targets =
        ["bob", "cyd"].map(|name| Target { user: id(name), imported: false }).into_iter().collect();
    let outcomes = amy.outcomes(&Command::Unblock { targets });
    assert_eq!(outcomes, [Ok(Outcome::Recorded), Err(Rejection::AccountUnknown)]);
}

#[test]
fn the_sequence_grows_with_each_request_that_changed_the_list_and_no_other() {
    let mut amy = someone("amy");
    assert_eq!(amy.sequence(), 0, "never touched");
    amy.when(&block(&["bob", "cyd", "dan"]));
    let first = amy.sequence();
    assert!(first > 0);
    amy.when(&block(&["bob"]));
    amy.when(&add(OfferForm::TwoWay, &["eve"]));
    assert_eq!(amy.sequence(), first);
    amy.when(&unblock(&["bob"]));
    assert!(amy.sequence() > first);
}

#[test]
fn the_whole_request_grows_the_sequence_once() {
    let mut one = someone("amy");
    let mut many = someone("amy");
    one.when(&block(&["bob"]));
    many.when(&block(&["bob", "cyd", "dan"]));
    assert_eq!(one.sequence(), many.sequence());
}

#[test]
fn a_page_is_oldest_first_also_after_unblocking_and_blocking_again() {
    let mut amy = someone("amy");
    amy.when(&block(&["dan", "bob"]));
    amy.when(&block(&["cyd"]));
    amy.when(&unblock(&["dan"]));
    amy.when(&block(&["dan"]));
    assert_eq!(amy.page(0, 9), ["bob", "cyd", "dan"]);
    assert_eq!(amy.page(1, 1), ["cyd"]);
    assert_eq!(amy.page(3, 9), [""; 0]);
    assert_eq!(amy.user.blocked_count(), 3);
}

#[test]
fn an_entry_says_when() {
    let mut amy = someone("amy");
    amy.when(&block(&["bob"]));
    assert_eq!(amy.user.blocklist()[0].at, NOW.unix_seconds());
}
