use super::*;
use crate::domain::{
    BeforeTerms, CallKey, CardChange, DeliveryTerms, EdgeId, Format, KeptAnswer, Message,
    Rejection, SealedSecret, Seek, Settled, Timestamp, Traces, Version,
};

/// One of each event, in the order of their definition.
fn all() -> Vec<Event> {
    let peer = UserId::parse("bob").expect("a name");
    let edge = EdgeId { offerer: peer, version: Version(3) };
    let card = Card { wording: "hi\u{1b}[2J".into(), ..Card::default() };
    let change = ProfileChange {
        nick: Some("Amy".into()),
        face_url: None,
        allow_type: Some(AllowType::NeedConfirm),
        requests_forbidden: Some(true),
        gender: Some(Gender::Female),
        birthday: Some(19_990_102),
        custom: vec![("Tag_Profile_Custom_a".into(), "b".into())],
        ..ProfileChange::default()
    };
    let form = OfferForm::TwoWay;
    let why = Rejection::PeerAcceptsNobody;
    let reason = RemovalReason::BlockedByPeer;
    let friends = vec![Settled { peer, mine: true, theirs: true }];
    let groups = || vec!["Work".into(), "Cli\u{1b}mbing".into()];
    let key = UserId::parse("0123456789abcdef0123456789abcdef").expect("a name");
    let (call, request) = (CallKey { key, asked: key }, uuid::Uuid::nil());
    let answer = KeptAnswer { code: 0, body: "{}".into(), positions: Vec::new() };
    let subscription = Subscription {
        name: "audit".into(),
        url: Some("https://receiver.example/hook".into()),
        commands: vec!["Sns.CallbackBlackListAdd".into()],
        enabled: true,
        format: Format::Reference,
        secrets: vec![SealedSecret { sealed: "v1.c2VhbGVk".into(), until: None }],
        headers: true,
        delivery: DeliveryTerms::default(),
        before: BeforeTerms::default(),
    };
    let replay = Replay {
        number: 1,
        subscription: "audit".into(),
        url: Some("http://elsewhere.example".into()),
        since: Some(Timestamp(0)),
        until: None,
        ranges: vec![(0, 5, 9), (1, 0, 4)],
        users: vec![peer],
        commands: vec!["Sns.CallbackBlackListAdd".into()],
        ids: vec!["0@5.Sns.CallbackBlackListAdd".into()],
    };
    let verdict = Verdict {
        about: Matter::Message,
        by: "main".into(),
        ground: Ground::Answered,
        allowed: Vec::new(),
        refused: vec![Refusal { user: peer, code: 120_001, info: "n\u{1b}o".into() }],
        hidden: false,
        before: None,
    };
    let message = Message {
        to: vec![peer],
        seq: 7,
        random: 8,
        time: 1_700_000_000,
        body: "[]".into(),
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
    vec![
        Event::AccountImported {},
        Event::ProfileChanged(change),
        Event::AccountDeleted {},
        Event::UserBlocked { target: peer, remain_friends: false },
        Event::UserUnblocked { target: peer },
        Event::FriendOffered {
            peer,
            edge,
            form,
            forced: true,
            over: None,
            again: false,
            despite_block: false,
            card: card.clone(),
        },
        Event::FriendRequested { peer, edge, card },
        Event::FriendAccepted {
            peer,
            offer: edge,
            edge,
            added: true,
            agreement: None,
            despite_block: false,
        },
        Event::FriendRefused { peer, offer: edge, why },
        Event::FriendAdded { peer, edge, card: Card::default() },
        Event::FriendLinked { peer, edge },
        Event::FriendUpdated { peer, card: Card::default() },
        Event::FriendRemoved { peer, edge, reason, announced: true },
        Event::UnfriendAsked { peer },
        Event::OfferPending { peer, edge },
        Event::OfferConfirmed { peer, edge, mine: true, theirs: true, agreement: None },
        Event::OfferEnded { peer, edge, why },
        Event::OfferWithdrawn { peer, edge },
        Event::OffersSettled { offered: Version(3), forced: false, waited: false, friends },
        Event::PeerForgotten { peer },
        Event::RequestDropped { peer, edge },
        Event::FriendChanged { peer, change: CardChange::default() },
        Event::GroupsAdded { names: groups() },
        Event::FriendsGrouped { names: groups(), peers: vec![peer] },
        Event::GroupsRemoved { names: groups() },
        Event::MessageAccepted(message),
        Event::VerdictGiven(verdict),
        Event::CallBegun { call, request },
        Event::CallDone { call, request, traces: Traces::default() },
        Event::CallAnswered { call, request, answer },
        Event::CallsForgotten { keys: vec![call.key] },
        Event::SubscriptionSet(Box::new(subscription)),
        Event::SubscriptionDeleted { name: "audit".into() },
        Event::SubscriptionMoved(Seek {
            name: "audit".into(),
            term: 2,
            to: SeekTo::Offsets(vec![(0, 5), (3, 0)]),
        }),
        Event::ReplayBegun(Box::new(replay)),
        Event::ReplayEnded { number: 1, completed: true },
    ]
}

#[test]
fn the_names_are_the_stored_ones() {
    let stored: Vec<String> = all()
        .iter()
        .map(|event| {
            let json = serde_json::to_value(event).expect("JSON");
            assert_eq!(json["type"], event_type(event));
            event_type(event).to_owned()
        })
        .collect();
    assert_eq!(stored, EVENT_TYPES);
}

#[test]
fn each_event_reads_as_a_sentence_that_a_terminal_can_bear() {
    let said: Vec<String> = all().iter().map(sentence).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    has an account from now on
    changed the profile: nick "Amy", they confirm new friends, they may not send friend requests, gender female, birthday 19990102, Tag_Profile_Custom_a "b"
    has no account any more
    blocked bob
    unblocked bob
    offered bob a friendship, forced, saying "hi\u{1b}[2J"
    is asked by bob for a friendship, saying "hi\u{1b}[2J"
    accepted bob's offer
    refused bob's offer (the wanted friend accepts nobody)
    has bob as a friend (edge bob:3)
    has bob as a friend by another edge (bob:3)
    has a new record of the friend bob
    is no longer a friend of bob (blocked by them)
    asked bob to end the friendship
    waits for bob to confirm
    got a yes from bob
    got no friendship with bob (the wanted friend accepts nobody)
    took the offer to bob back
    has every answer to the request of version 3: bob
    no longer names bob, whose account is gone
    has no request from bob any more
    has a changed record of the friend bob
    has new friend groups: "Work", "Cli\u{1b}mbing"
    put friends into the groups "Work", "Cli\u{1b}mbing": bob
    removed the friend groups "Work", "Cli\u{1b}mbing"
    sent the message 7_8_1700000000 to bob
    may not write to bob (120001 "n\u{1b}o"): says main
    was asked for a call with the key 0123456789abcdef0123456789abcdef
    did what the call with the key 0123456789abcdef0123456789abcdef asks
    answered the call with the key 0123456789abcdef0123456789abcdef with the code 0
    forgot calls with keys: 1
    set the subscription audit, which calls "https://receiver.example/hook" for Sns.CallbackBlackListAdd, signed
    has no subscription audit any more
    moved the subscription audit to 0@5, 3@0 (move 2)
    began the replay 1 of audit: from 1970-01-01T00:00:00.000Z, of bob, only Sns.CallbackBlackListAdd, calls: 1, to "http://elsewhere.example", 0@5..9 1@0..4
    finished the replay 1
    "#);
}

#[test]
fn a_settlement_names_every_friend_of_it() {
    let bob = UserId::parse("bob").expect("a name");
    let carl = UserId::parse("carl").expect("a name");
    for event in all() {
        let about_bob = !matches!(
            event,
            Event::AccountImported {}
                | Event::ProfileChanged(_)
                | Event::AccountDeleted {}
                | Event::GroupsAdded { .. }
                | Event::GroupsRemoved { .. }
                | Event::CallBegun { .. }
                | Event::CallDone { .. }
                | Event::CallAnswered { .. }
                | Event::CallsForgotten { .. }
                | Event::SubscriptionSet(_)
                | Event::SubscriptionDeleted { .. }
                | Event::SubscriptionMoved(_)
                | Event::ReplayBegun(_)
                | Event::ReplayEnded { .. }
        );
        assert_eq!(names(&event, &bob), about_bob, "{event:?}");
        assert!(!names(&event, &carl));
    }
}

#[test]
fn the_demand_of_a_block_is_the_block_whatever_else_it_ends() {
    let peer = UserId::parse("bob").expect("a name");
    let edge = EdgeId { offerer: peer, version: Version(3) };
    let events = [
        Event::FriendRefused { peer, offer: edge, why: Rejection::BlockedByPeer },
        Event::UserBlocked { target: peer, remain_friends: false },
    ];
    assert_eq!(demand(&events, peer), Some("block"));
    assert_eq!(demand(&events, UserId::parse("carl").expect("a name")), None);
}
