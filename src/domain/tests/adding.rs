//! rest-api.md 4.2 and 4.3: what a caller asks for, and what the wanted friend says to it.

use super::*;

fn one(outcomes: &[Result<Outcome, Rejection>]) -> Result<Outcome, Rejection> {
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

fn remark(text: &str) -> Card {
    Card { remark: text.into(), ..Card::default() }
}

#[test]
fn an_offer_has_the_id_of_its_record_and_carries_source_and_words_only() {
    let mut amy = someone("amy");
    let card = Card {
        remark: "Bobby".into(),
        groups: vec!["Work".into()],
        source: "AddSource_Type_Web".into(),
        wording: "It is amy".into(),
        ..Card::default()
    };
    let decision = amy.when(&add_with(OfferForm::TwoWay, "bob", card.clone()));
    let offer = edge("amy", 2);
    assert_eq!(decision.outcomes, [Ok(Outcome::Offering { peer: id("bob"), edge: offer })]);
    let carried = Card { remark: "".into(), groups: Vec::new(), ..card };
    let proposal = Effect::Propose {
        edge: offer,
        form: OfferForm::TwoWay,
        forced: false,
        over: false,
        again: false,
        card: carried,
    };
    assert_eq!(asked(&decision.events), [("bob".to_owned(), proposal)]);
    assert!(!amy.user.has_friend(&id("bob")), "only offered");
}

#[test]
fn the_askers_checks_come_in_the_order_of_the_table() {
    let forbidden = || ProfileChange { requests_forbidden: Some(true), ..ProfileChange::default() };
    let unknown = |name| {
        let items = vec![NewFriend { imported: false, ..wanted(name, Card::default()) }];
        Command::AddFriends { items, form: OfferForm::OneWay, forced: false }
    };
    // Everything is wrong at once; each row puts one thing right.
    let worst = || {
        someone("amy")
            .under(|policy| (policy.friends_max, policy.groups_max) = (1, 0))
            .with_friend("bob", edge("amy", 1))
            .given(&[Event::ProfileChanged(forbidden())])
    };
    let one_way = |name| {
        add_with(OfferForm::OneWay, name, Card { groups: vec!["Work".into()], ..Card::default() })
    };
    let blocking = |name| worst().given(&[blocked(name)]);
    let mut rich = worst().given(&[Event::ProfileChanged(ProfileChange {
        requests_forbidden: Some(false),
        ..ProfileChange::default()
    })]);
    let cases = [
        (worst().outcomes(&unknown("amy")), Rejection::AccountUnknown),
        (worst().outcomes(&one_way("amy")), Rejection::SelfTarget),
        (blocking("bob").outcomes(&one_way("bob")), Rejection::AlreadyFriend),
        (blocking("cyd").outcomes(&one_way("cyd")), Rejection::PeerBlocked),
        (worst().outcomes(&one_way("cyd")), Rejection::RequestsForbidden),
        (rich.outcomes(&one_way("cyd")), Rejection::FriendListFull),
        (
            rich.under(|policy| policy.friends_max = 2).outcomes(&one_way("cyd")),
            Rejection::TooManyGroups,
        ),
    ];
    for (outcomes, rejection) in cases {
        assert_eq!(one(&outcomes), Err(rejection));
    }
}

#[test]
fn an_administrator_forces_past_the_ban_on_requests_but_not_past_a_blocklist() {
    let change = ProfileChange { requests_forbidden: Some(true), ..ProfileChange::default() };
    let mut amy = someone("amy").given(&[Event::ProfileChanged(change)]);
    assert!(one(&amy.outcomes(&force("bob"))).is_ok());
    amy.when(&block(&["cyd"]));
    assert_eq!(one(&amy.outcomes(&force("cyd"))), Err(Rejection::PeerBlocked));
}

/// What `bob` says to an offer of amy's.
fn answer(mut bob: Someone, proposal: &Effect) -> Vec<Event> {
    bob.hears("amy", std::slice::from_ref(proposal))
}

fn refused(why: Rejection) -> Vec<Event> {
    vec![Event::FriendRefused { peer: id("amy"), offer: edge("amy", 9), why }]
}

fn accepted(added: bool) -> Event {
    let (peer, offer) = (id("amy"), edge("amy", 9));
    let despite_block = false;
    Event::FriendAccepted { peer, offer, edge: offer, added, agreement: None, despite_block }
}

#[test]
fn the_wanted_friends_checks_come_in_the_order_of_the_table() {
    let offer = edge("amy", 9);
    let two_way = propose(offer, OfferForm::TwoWay);
    let one_way = propose(offer, OfferForm::OneWay);
    let forced = |form| Effect::Propose {
        edge: offer,
        form,
        forced: true,
        over: false,
        again: false,
        card: Card::default(),
    };
    let over = Effect::Propose {
        edge: offer,
        form: OfferForm::TwoWay,
        forced: false,
        over: true,
        again: false,
        card: Card::default(),
    };
    let full = |policy: &mut Policy| policy.friends_max = 1;
    let bob = || someone("bob");
    let friend = || bob().with_friend("amy", edge("bob", 3));
    let unknown = Someone { user: User::new(id("bob")), policy: Policy::default() };
    assert_eq!(answer(unknown, &two_way), refused(Rejection::AccountUnknown));
    assert_eq!(answer(friend().given(&[blocked("amy")]), &over), refused(Rejection::AlreadyFriend));
    let hostile = || bob().given(&[blocked("amy")]);
    for proposal in [&two_way, &one_way, &forced(OfferForm::TwoWay)] {
        assert_eq!(answer(hostile(), proposal), refused(Rejection::BlockedByPeer));
    }
    let busy = || bob().with_friend("cyd", edge("cyd", 1)).under(full);
    let deny = AllowType::DenyAny;
    assert_eq!(answer(busy().allowing(deny), &two_way), refused(Rejection::PeerFriendListFull));
    assert_eq!(answer(busy(), &one_way), [accepted(false)], "the asker's list alone grows");
    assert_eq!(answer(bob().allowing(deny), &two_way), refused(Rejection::PeerAcceptsNobody));
    assert_eq!(answer(bob().allowing(deny), &one_way), refused(Rejection::PeerAcceptsNobody));
    let forced = forced(OfferForm::TwoWay);
    assert_eq!(answer(bob().allowing(deny), &forced), [added("amy", offer), accepted(true)]);
    let confirm = AllowType::NeedConfirm;
    assert_eq!(answer(bob().allowing(confirm), &one_way), [accepted(false)]);
    assert_eq!(answer(bob().allowing(confirm), &two_way), [requested("amy", offer)]);
    let waiting = bob()
        .allowing(confirm)
        .given(&[requested("cyd", edge("cyd", 1))])
        .under(|policy| policy.requests_max = 1);
    assert_eq!(answer(waiting, &two_way), refused(Rejection::TooManyRequests));
    assert_eq!(answer(bob(), &two_way), [added("amy", offer), accepted(true)]);
}

#[test]
fn the_apps_default_holds_for_who_never_chose() {
    let confirming = |policy: &mut Policy| policy.default_allow_type = AllowType::NeedConfirm;
    let proposal = propose(edge("amy", 9), OfferForm::TwoWay);
    let bob = someone("bob").under(confirming);
    assert_eq!(answer(bob.clone(), &proposal), [requested("amy", edge("amy", 9))]);
    let open = bob.allowing(AllowType::AllowAny);
    assert_eq!(answer(open, &proposal), [added("amy", edge("amy", 9)), accepted(true)]);
}

#[test]
fn an_import_asks_blocklists_only_and_is_silent() {
    let mut amy = someone("amy");
    let mut bob = someone("bob")
        .allowing(AllowType::DenyAny)
        .with_friend("cyd", edge("cyd", 1))
        .under(|policy| policy.friends_max = 1);
    let events = amy.events(&add(OfferForm::Import, &["bob"]));
    settle_between(&mut amy, &mut bob, &events);
    assert!(amy.user.has_friend(&id("bob")));
    assert!(!bob.user.has_friend(&id("amy")));
    assert_eq!(amy.user.offers().count(), 0, "settled");

    let mut hostile = someone("bob").given(&[blocked("amy")]);
    let proposal = [propose(edge("amy", 9), OfferForm::Import)];
    assert_eq!(hostile.hears("amy", &proposal), refused(Rejection::BlockedByPeer));
    let mut lenient = hostile.under(|policy| policy.import_ignores_blocklist = true);
    let past_it = Event::FriendAccepted {
        peer: id("amy"),
        offer: edge("amy", 9),
        edge: edge("amy", 9),
        added: false,
        agreement: None,
        despite_block: true,
    };
    assert_eq!(lenient.hears("amy", &proposal), [past_it]);
}

#[test]
fn an_import_past_the_own_blocklist_is_right_only_where_the_app_allows_it() {
    let mut amy = someone("amy").given(&[blocked("bob")]);
    let import = add(OfferForm::Import, &["bob"]);
    assert_eq!(one(&amy.outcomes(&import)), Err(Rejection::PeerBlocked));
    let mut amy = amy.under(|policy| policy.import_ignores_blocklist = true);
    let events = amy.events(&import);
    assert!(matches!(events[..], [Event::FriendOffered { despite_block: true, .. }]));
}

#[test]
fn importing_a_friend_overwrites_the_record_at_once() {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    let card = Card { added_at: Some(1_600_000_000), ..remark("Bobby") };
    let decision = amy.when(&add_with(OfferForm::Import, "bob", card.clone()));
    assert_eq!(decision.events, [Event::FriendUpdated { peer: id("bob"), card: card.clone() }]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Recorded)]);
    let friend = amy.user.friends.get(&id("bob")).expect("a friend");
    assert_eq!((friend.at, friend.card().map(Card::from)), (1_600_000_000, Some(card)));
}

#[test]
fn an_import_of_a_friend_asks_blocklists_where_friendships_outlast_a_block() {
    let keeps = |policy: &mut Policy| policy.remain_friends = true;
    let amy = || someone("amy").under(keeps).with_friend("bob", edge("amy", 1));
    let import = add_with(OfferForm::Import, "bob", remark("Bobby"));
    let blocks = |name| Event::UserBlocked { target: id(name), remain_friends: true };
    let refused = one(&amy().given(&[blocks("bob")]).outcomes(&import));
    assert_eq!(refused, Err(Rejection::PeerBlocked));
    let mut hostile = someone("bob").given(&[blocks("amy")]);
    let mut asks = amy();
    let events = asks.events(&import);
    settle_between(&mut asks, &mut hostile, &events);
    assert_eq!(card_of(&asks, "bob"), Card::default(), "as before");
    let (mut asks, mut bob) = (amy(), someone("bob"));
    let events = asks.events(&import);
    settle_between(&mut asks, &mut bob, &events);
    assert_eq!(card_of(&asks, "bob"), remark("Bobby"));
    assert_eq!(asks.edge_of("bob"), Some(edge("amy", 1)), "the friendship is the same");
    // Whose confirmation is awaited has not blocked.
    let pending = Event::OfferPending { peer: id("bob"), edge: edge("amy", 3) };
    let two_way = offered("bob", edge("amy", 3), OfferForm::TwoWay);
    let mut waits = amy().given(&[two_way]).given(&[pending]);
    assert_eq!(one(&waits.outcomes(&import)), Ok(Outcome::Recorded));
    assert_eq!(waits.offer_state("bob"), Some(OfferState::Pending));
    let lenient = amy().under(|policy| policy.import_ignores_blocklist = true);
    let mut lenient = lenient.given(&[blocks("bob")]);
    assert_eq!(one(&lenient.outcomes(&import)), Ok(Outcome::Recorded));
}

#[test]
fn both_sides_get_their_record_of_the_friend() {
    let (mut amy, mut bob) = (someone("amy"), someone("bob"));
    let card = Card { source: "AddSource_Type_Web".into(), ..remark("Bobby") };
    let events = amy.events(&add_with(OfferForm::TwoWay, "bob", card.clone()));
    settle_between(&mut amy, &mut bob, &events);
    let (hers, his) = (
        amy.user.friends.get(&id("bob")).expect("a friend"),
        bob.user.friends.get(&id("amy")).expect("a friend"),
    );
    assert_eq!(hers.card().map(Card::from), Some(card.clone()));
    assert_eq!(his.card().map(Card::from), Some(Card { remark: "".into(), ..card }));
    assert_eq!((hers.at, his.at), (NOW.unix_seconds(), NOW.unix_seconds()));
    assert_eq!(amy.edge_of("bob"), bob.edge_of("amy"));
}

#[test]
fn a_missing_direction_is_added_and_both_hold_one_friendship() {
    let offer = edge("amy", 3);
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    let mut bob = someone("bob");
    let events = amy.events(&add(OfferForm::TwoWay, &["bob"]));
    settle_between(&mut amy, &mut bob, &events);
    assert_eq!((amy.edge_of("bob"), bob.edge_of("amy")), (Some(offer), Some(offer)));

    // The other way round: only the wanted friend has the asker.
    let mut amy = someone("amy");
    let mut bob = someone("bob").with_friend("amy", edge("bob", 2));
    let events = amy.events(&add(OfferForm::TwoWay, &["bob"]));
    settle_between(&mut amy, &mut bob, &events);
    assert_eq!(amy.edge_of("bob"), Some(edge("amy", 2)));
    assert_eq!(bob.edge_of("amy"), Some(edge("amy", 2)));
}

#[test]
fn friends_in_both_directions_are_already_friends() {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    let mut bob = someone("bob").with_friend("amy", edge("amy", 1));
    let events = amy.events(&add(OfferForm::TwoWay, &["bob"]));
    let proposal = asked(&events)[0].1.clone();
    let answer = bob.hears("amy", &[proposal]);
    let [(_, refusal)] = &asked(&answer)[..] else { panic!("{answer:?}") };
    let ended =
        Event::OfferEnded { peer: id("bob"), edge: edge("amy", 3), why: Rejection::AlreadyFriend };
    assert_eq!(amy.hears("bob", std::slice::from_ref(refusal)), [ended]);
    assert_eq!(amy.edge_of("bob"), Some(edge("amy", 1)));
}

#[test]
fn a_like_item_waits_for_the_open_offer_and_an_unlike_one_comes_again() {
    let mut amy = someone("amy");
    amy.when(&add(OfferForm::OneWay, &["bob"]));
    let waits = Outcome::Offering { peer: id("bob"), edge: edge("amy", 2) };
    let occupied = Outcome::Occupied { peer: id("bob") };
    for (command, outcome) in [
        (add(OfferForm::OneWay, &["bob"]), waits),
        (add(OfferForm::TwoWay, &["bob"]), occupied),
        (force("bob"), occupied),
        (add(OfferForm::Import, &["bob"]), occupied),
    ] {
        let decision = amy.when(&command);
        assert_eq!(decision, Decision { events: vec![], outcomes: vec![Ok(outcome)] });
    }
    let mut amy = someone("amy");
    let import = |text| add_with(OfferForm::Import, "bob", remark(text));
    amy.when(&import("Bobby"));
    assert_eq!(one(&amy.outcomes(&import("Bobby"))), Ok(waits));
    let decision = amy.when(&import("Robert"));
    assert_eq!(one(&decision.outcomes), Ok(waits));
    let first = propose(edge("amy", 2), OfferForm::Import);
    let yes = someone("bob").hears("amy", &[first, asked(&decision.events)[0].1.clone()]);
    let yes: Vec<Effect> = asked(&yes).into_iter().map(|(_, effect)| effect).collect();
    amy.hears("bob", &yes);
    assert_eq!(card_of(&amy, "bob"), remark("Robert"), "the record is overwritten");
}

fn card_of(user: &Someone, peer: &str) -> Card {
    let friend = user.user.friends.get(&id(peer)).expect("a friend");
    friend.card().map(Card::from).unwrap_or_default()
}

#[test]
fn entries_about_one_account_are_judged_one_after_the_other() {
    let card = |remark: &str, wording: &str, group: &str| Card {
        remark: remark.into(),
        wording: wording.into(),
        groups: Some(group).filter(|group| !group.is_empty()).into_iter().map(Into::into).collect(),
        ..Card::default()
    };
    let entries = |form, first: &Card, second: &Card| Command::AddFriends {
        items: vec![wanted("bob", first.clone()), wanted("bob", second.clone())],
        form,
        forced: false,
    };
    let full = || someone("amy").under(|policy| policy.groups_max = 0);
    let (plain, grouped) = (card("one", "a", ""), card("two", "b", "new"));
    for form in [OfferForm::TwoWay, OfferForm::OneWay, OfferForm::Import] {
        let waits = Ok(Outcome::Offering { peer: id("bob"), edge: edge("amy", 2) });
        let too_many = Err(Rejection::TooManyGroups);
        assert_eq!(full().outcomes(&entries(form, &plain, &grouped)), [waits, too_many]);
        assert_eq!(full().outcomes(&entries(form, &grouped, &plain)), [too_many, waits]);

        // Friends at once: the second comes too late, but for an import.
        let (mut amy, mut bob) = (someone("amy"), someone("bob"));
        let second = card("two", "b", "");
        let events = amy.events(&entries(form, &plain, &second));
        settle_between(&mut amy, &mut bob, &events);
        let kept = if form == OfferForm::Import { &second } else { &plain };
        assert_eq!(card_of(&amy, "bob"), *kept, "{form:?}");
    }
    // A request that waits: the second replaces it, also if one has been waiting before.
    let (mut amy, mut bob) = (someone("amy"), someone("bob").allowing(AllowType::NeedConfirm));
    for (first, second) in [("a", "b"), ("c", "d")] {
        let (first, second) = (card("one", first, ""), card("two", second, ""));
        let events = amy.events(&entries(OfferForm::TwoWay, &first, &second));
        settle_between(&mut amy, &mut bob, &events);
        assert_eq!(amy.offer_state("bob"), Some(OfferState::Pending));
        let offer = amy.user.offers().next().expect("the offer");
        assert_eq!(*offer.card, second);
        assert_eq!(bob.user.requests().next().expect("the request").card.wording, second.wording);
    }
}

#[test]
fn offers_on_the_way_count_against_the_limit_of_friends() {
    let two = |policy: &mut Policy| policy.friends_max = 2;
    let mut amy = someone("amy").under(two).with_friend("bob", edge("amy", 1));
    let names = ["cyd", "dan", "bob"];
    let outcomes = amy.outcomes(&add(OfferForm::TwoWay, &names));
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(Rejection::FriendListFull));
    assert!(outcomes[2].is_ok(), "one who is in the list takes no place");
    let theirs = [propose(edge("eve", 1), OfferForm::TwoWay)];
    let refused = Event::FriendRefused {
        peer: id("eve"),
        offer: edge("eve", 1),
        why: Rejection::PeerFriendListFull,
    };
    assert_eq!(amy.hears("eve", &theirs), [refused]);
    let theirs = [propose(edge("cyd", 1), OfferForm::TwoWay)];
    assert!(matches!(amy.hears("cyd", &theirs)[..], [Event::FriendAdded { .. }, _]));
}

#[test]
fn a_request_over_a_friend_who_is_lost_meanwhile_counts_against_the_limit() {
    let two = |policy: &mut Policy| policy.friends_max = 2;
    let mut amy = someone("amy").under(two).with_friend("bob", edge("amy", 1));
    let offer = EdgeId { offerer: id("amy"), version: amy.user.version().next() };
    amy.when(&add(OfferForm::TwoWay, &["bob"]));
    amy.hears("bob", &[Effect::Pend { offer }]);
    amy.when(&add(OfferForm::Import, &["cyd"]));
    let import = amy.user.offer_to(&id("cyd")).expect("the offer").edge;
    amy.hears("cyd", &[confirm(import)]);
    amy.hears(
        "bob",
        &[Effect::Sever { why: Severance::Deleted, keep_friend: false, announced: true }],
    );
    assert!(!amy.user.has_friend(&id("bob")) && amy.user.has_friend(&id("cyd")));
    assert_eq!(
        one(&amy.outcomes(&add(OfferForm::OneWay, &["dan"]))),
        Err(Rejection::FriendListFull)
    );
}

#[test]
fn a_new_friend_group_takes_a_place_and_a_known_one_does_not() {
    let one_group = |policy: &mut Policy| policy.groups_max = 1;
    let group = |name: &str| Card { groups: vec![name.into()], ..Card::default() };
    let mut amy = someone("amy").under(one_group);
    let mut bob = someone("bob");
    let events = amy.events(&add_with(OfferForm::TwoWay, "bob", group("Work")));
    settle_between(&mut amy, &mut bob, &events);
    let full = amy.outcomes(&add_with(OfferForm::TwoWay, "cyd", group("Climbing")));
    assert_eq!(one(&full), Err(Rejection::TooManyGroups));
    assert!(one(&amy.outcomes(&add_with(OfferForm::TwoWay, "cyd", group("Work")))).is_ok());
}
