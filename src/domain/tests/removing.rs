//! rest-api.md 4.5: the end of a friendship by one of the friends.

use super::*;

fn severed() -> (String, Effect) {
    (
        "bob".to_owned(),
        Effect::Sever { why: Severance::Deleted, keep_friend: false, announced: true },
    )
}

#[test]
fn a_removal_from_one_list_leaves_the_other() {
    let mut amy = someone("amy").with_friend("bob", edge("bob", 7));
    let decision = amy.when(&remove(&["bob"], false, &["bob"]));
    let ended = removed("bob", edge("bob", 7), RemovalReason::DeletedSingle);
    assert_eq!(decision.events, [ended]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Recorded)]);
    assert_eq!(asked(&decision.events), []);
}

#[test]
fn a_removal_from_both_lists_waits_for_the_peer() {
    let mut amy = someone("amy").with_friend("bob", edge("bob", 7));
    let decision = amy.when(&remove(&["bob"], true, &["bob"]));
    let ended = removed("bob", edge("bob", 7), RemovalReason::DeletedBoth);
    assert_eq!(decision.events, [ended]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Severing { peer: id("bob") })]);
    assert_eq!(asked(&decision.events), [severed()]);

    let mut bob = someone("bob")
        .with_friend("amy", edge("bob", 7))
        .given(&[requested("amy", edge("amy", 9))]);
    let ended = Event::FriendRemoved {
        peer: id("amy"),
        edge: edge("bob", 7),
        reason: RemovalReason::DeletedByPeer,
        announced: true,
    };
    assert_eq!(bob.hears("amy", &[severed().1]), [ended], "a request is not what was removed");
}

#[test]
fn a_removal_from_both_lists_tells_of_the_one_that_had_the_other() {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 7));
    let events = amy.events(&remove(&["bob"], true, &[]));
    assert_eq!(events, [removed("bob", edge("amy", 7), RemovalReason::DeletedOneWay)]);
    // Had he got her meanwhile, he would tell of that himself.
    let mut bob = someone("bob").with_friend("amy", edge("bob", 7));
    let effect = asked(&events)[0].1.clone();
    let events = bob.hears("amy", &[effect]);
    assert_eq!(events, [removed("amy", edge("bob", 7), RemovalReason::DeletedByPeer)]);
}

#[test]
fn a_removal_from_both_lists_reaches_who_alone_has_the_other() {
    let mut amy = someone("amy");
    let decision = amy.when(&remove(&["bob"], true, &["bob"]));
    assert_eq!(decision.events, [Event::UnfriendAsked { peer: id("bob") }]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Severing { peer: id("bob") })]);
    let mut bob = someone("bob").with_friend("amy", edge("bob", 7));
    let effect = asked(&decision.events)[0].1.clone();
    let events = bob.hears("amy", &[effect]);
    assert_eq!(events, [removed("amy", edge("bob", 7), RemovalReason::DeletedByPeer)]);
}

#[test]
fn who_is_no_friend_is_not_removed() {
    let mut amy = someone("amy").with_friend("bob", edge("bob", 7));
    let single = amy.outcomes(&remove(&["amy", "cyd", "bob", "bob"], false, &["cyd"]));
    let not_friend = Err(Rejection::NotFriend);
    assert_eq!(single[..2], [Err(Rejection::SelfTarget), not_friend]);
    assert_eq!(single[3], not_friend, "the second of two equal ones");
    assert_eq!(amy.outcomes(&remove(&["cyd"], true, &[])), [not_friend]);
}

#[test]
fn a_removal_takes_an_own_offer_back_after_the_end() {
    let pending = Event::OfferPending { peer: id("bob"), edge: edge("amy", 3) };
    let over = |form| match offered("bob", edge("amy", 3), form) {
        Event::FriendOffered { peer, edge, form, forced, again, despite_block, card, .. } => {
            let over = Some(super::edge("amy", 1));
            Event::FriendOffered { peer, edge, form, forced, over, again, despite_block, card }
        }
        other => other,
    };
    let given =
        || someone("amy").with_friend("bob", edge("amy", 1)).given(&[over(OfferForm::TwoWay)]);
    let taken_back = Event::OfferWithdrawn { peer: id("bob"), edge: edge("amy", 3) };
    for both in [false, true] {
        for mut amy in [given(), given().given(std::slice::from_ref(&pending))] {
            let events = amy.events(&remove(&["bob"], both, &[]));
            assert!(matches!(events[0], Event::FriendRemoved { .. }));
            assert_eq!(events[1..], *std::slice::from_ref(&taken_back));
            assert_eq!(amy.user.offers().count(), 0);
        }
    }
}

#[test]
fn a_removal_from_one_list_waits_while_offers_cross() {
    let mut amy = someone("amy")
        .given(&[offered("bob", edge("amy", 2), OfferForm::TwoWay)])
        .with_friend("bob", edge("bob", 7));
    let decision = amy.when(&remove(&["bob"], false, &["bob"]));
    let occupied = Outcome::Occupied { peer: id("bob") };
    assert_eq!(decision, Decision { events: vec![], outcomes: vec![Ok(occupied)] });
    let decision = amy.when(&remove(&["bob"], true, &["bob"]));
    assert_eq!(decision.outcomes, [Ok(Outcome::Severing { peer: id("bob") })]);
}

#[test]
fn a_list_is_cleared_as_a_whole_or_not_at_all() {
    let mut amy = someone("amy")
        .given(&[offered("bob", edge("amy", 2), OfferForm::TwoWay)])
        .with_friend("bob", edge("bob", 7))
        .with_friend("cyd", edge("cyd", 3));
    let decision = amy.when(&Command::ClearFriends { both: false });
    let occupied = Ok(Outcome::Occupied { peer: id("bob") });
    assert_eq!(decision, Decision { events: vec![], outcomes: vec![occupied; 2] });
    let decision = amy.when(&Command::ClearFriends { both: true });
    assert!(decision.outcomes.iter().all(|one| matches!(one, Ok(Outcome::Severing { .. }))));
}
