//! Bodies byte by byte, as the reference has them.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::domain::{
    AllowType, AppId, Card, CardChange, EdgeId, OfferForm, Rejection, Settled, Timestamp, UserKey,
    Version,
};
use crate::journal::Origin;
use crate::webhooks::testing::origin;

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name of a test")
}

fn edge() -> EdgeId {
    EdgeId { offerer: id("amy"), version: Version(1) }
}

fn record(platform: &str, events: Vec<Event>) -> Commit {
    Commit {
        id: Uuid::nil(),
        key: UserKey { app: AppId(1_400_000_001), user: id("amy") },
        version: Version(2),
        at: Timestamp(0),
        by: Arc::new(Origin { platform: platform.into(), ..origin() }),
        cause: None,
        events,
    }
}

fn deliveries(events: Vec<Event>) -> Vec<(CallbackCommand, String)> {
    texts(&record("RESTAPI", events), Switches::ALL)
}

fn texts(commit: &Commit, switches: Switches) -> Vec<(CallbackCommand, String)> {
    payloads(commit, switches)
        .into_iter()
        .map(|delivery| {
            let text = String::from_utf8(delivery.body.to_vec()).expect("a body is JSON");
            assert_matches_schema(delivery.command, &text);
            (delivery.command, text)
        })
        .collect()
}

fn assert_matches_schema(command: CallbackCommand, body: &str) {
    let schema = match command {
        CallbackCommand::FriendAdd => {
            include_str!("../../../schemas/webhooks/Sns.CallbackFriendAdd.json")
        }
        CallbackCommand::FriendDelete => {
            include_str!("../../../schemas/webhooks/Sns.CallbackFriendDelete.json")
        }
        CallbackCommand::BlackListAdd => {
            include_str!("../../../schemas/webhooks/Sns.CallbackBlackListAdd.json")
        }
        CallbackCommand::BlackListDelete => {
            include_str!("../../../schemas/webhooks/Sns.CallbackBlackListDelete.json")
        }
        CallbackCommand::PortraitSet => {
            include_str!("../../../schemas/webhooks/Profile.CallbackPortraitSet.json")
        }
        CallbackCommand::AfterSendMsg => {
            include_str!("../../../schemas/webhooks/C2C.CallbackAfterSendMsg.json")
        }
        CallbackCommand::Test => include_str!("../../../schemas/webhooks/Cordon.Test.json"),
    };
    let schema = serde_json::from_str(schema).expect("a schema is JSON");
    let body = serde_json::from_str(body).expect("a body is JSON");
    let verdict = jsonschema::validate(&schema, &body);
    assert!(verdict.is_ok(), "{command}: {verdict:?}");
}

fn blocked(target: &str) -> Event {
    Event::UserBlocked { target: id(target), remain_friends: false }
}

fn removed(peer: &str, reason: RemovalReason, announced: bool) -> Event {
    Event::FriendRemoved { peer: id(peer), edge: edge(), reason, announced }
}

fn settled(friends: &[(&str, bool, bool)]) -> Event {
    let friends = friends
        .iter()
        .map(|(peer, mine, theirs)| Settled { peer: id(peer), mine: *mine, theirs: *theirs })
        .collect();
    Event::OffersSettled { offered: Version(1), forced: false, waited: false, friends }
}

#[test]
fn all_blocked_targets_of_a_record_stand_in_one_call() {
    assert_eq!(
        deliveries(vec![blocked("bob"), blocked("carl")]),
        [(
            CallbackCommand::BlackListAdd,
            r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"bob"},{"From_Account":"amy","To_Account":"carl"}]}"#.to_owned()
        )]
    );
}

#[test]
fn an_unblock_is_announced() {
    assert_eq!(
        deliveries(vec![Event::UserUnblocked { target: id("bob") }]),
        [(
            CallbackCommand::BlackListDelete,
            r#"{"CallbackCommand":"Sns.CallbackBlackListDelete","PairList":[{"From_Account":"amy","To_Account":"bob"}]}"#.to_owned()
        )]
    );
}

#[test]
fn a_block_of_a_friend_announces_both_directions_before_the_block() {
    // The first target is no friend, so the block is the first event of the record.
    let events =
        vec![blocked("carl"), removed("bob", RemovalReason::Blocked, false), blocked("bob")];
    assert_eq!(
        deliveries(events),
        [
            (
                CallbackCommand::FriendDelete,
                r#"{"CallbackCommand":"Sns.CallbackFriendDelete","PairList":[{"From_Account":"amy","To_Account":"bob"},{"From_Account":"bob","To_Account":"amy"}]}"#.to_owned()
            ),
            (
                CallbackCommand::BlackListAdd,
                r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"carl"},{"From_Account":"amy","To_Account":"bob"}]}"#.to_owned()
            ),
        ]
    );
}

#[test]
fn a_block_that_keeps_the_friend_announces_the_block_alone() {
    let events = vec![Event::UserBlocked { target: id("bob"), remain_friends: true }];
    let commands: Vec<_> = deliveries(events).into_iter().map(|(command, _)| command).collect();
    assert_eq!(commands, [CallbackCommand::BlackListAdd]);
}

#[test]
fn a_removal_announces_the_directions_that_its_reason_says() {
    const BOTH: &[(&str, &str)] = &[("amy", "bob"), ("bob", "amy")];
    const OWN: &[(&str, &str)] = &[("amy", "bob")];
    let cases = [
        (RemovalReason::Blocked, false, BOTH),
        (RemovalReason::DeletedBoth, false, BOTH),
        (RemovalReason::DeletedOneWay, false, OWN),
        (RemovalReason::DeletedSingle, false, OWN),
        (RemovalReason::BlockedByPeer, false, OWN),
        (RemovalReason::DeletedByPeer, false, OWN),
        (RemovalReason::BlockedByPeer, true, &[]),
        (RemovalReason::DeletedByPeer, true, &[]),
        (RemovalReason::AccountDeleted, false, &[]),
        (RemovalReason::PeerAccountDeleted, false, &[]),
        (RemovalReason::PeerAccountDeleted, true, &[]),
        (RemovalReason::Withdrawn, false, &[]),
        (RemovalReason::Withdrawn, true, &[]),
    ];
    for (reason, announced, pairs) in cases {
        let deliveries = deliveries(vec![removed("bob", reason, announced)]);
        let expected: Vec<String> = pairs
            .iter()
            .map(|(from, to)| format!(r#"{{"From_Account":"{from}","To_Account":"{to}"}}"#))
            .collect();
        let expected = (!pairs.is_empty()).then(|| {
            format!(
                r#"{{"CallbackCommand":"Sns.CallbackFriendDelete","PairList":[{}]}}"#,
                expected.join(",")
            )
        });
        let told: Vec<String> = deliveries.into_iter().map(|(_, body)| body).collect();
        assert_eq!(told, Vec::from_iter(expected), "{reason:?}, announced: {announced}");
    }
}

#[test]
fn settled_offers_announce_each_list_that_grew() {
    let events =
        vec![settled(&[("bob", true, true), ("carl", true, false), ("dora", false, true)])];
    assert_eq!(
        deliveries(events),
        [(
            CallbackCommand::FriendAdd,
            concat!(
                r#"{"CallbackCommand":"Sns.CallbackFriendAdd","PairList":["#,
                r#"{"From_Account":"amy","To_Account":"bob","Initiator_Account":"amy"},"#,
                r#"{"From_Account":"bob","To_Account":"amy","Initiator_Account":"amy"},"#,
                r#"{"From_Account":"amy","To_Account":"carl","Initiator_Account":"amy"},"#,
                r#"{"From_Account":"dora","To_Account":"amy","Initiator_Account":"amy"}],"#,
                r#""ClientCmd":"friend_add","Admin_Account":"administrator","ForceFlag":0}"#
            )
            .to_owned()
        )]
    );
}

#[test]
fn the_administrator_is_named_for_the_server_api_alone() {
    let commit = record("iOS", vec![settled(&[("bob", true, false)])]);
    let deliveries = texts(&commit, Switches::ALL);
    assert!(deliveries[0].1.contains(r#""Admin_Account":"","ForceFlag":0"#), "{deliveries:?}");
}

#[test]
fn a_forced_friendship_says_so() {
    let friends = vec![Settled { peer: id("bob"), mine: true, theirs: true }];
    let deliveries = deliveries(vec![Event::OffersSettled {
        offered: Version(1),
        forced: true,
        waited: false,
        friends,
    }]);
    assert!(deliveries[0].1.ends_with(r#""ForceFlag":1}"#), "{deliveries:?}");
}

fn message() -> Message {
    Message {
        to: vec![id("bob")],
        seq: 7,
        random: 8,
        time: 1_700_000_100,
        body: r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]"#.into(),
        custom_data: "x".into(),
        push: "".into(),
        life_time: None,
        online_only: false,
        not_for_sender: false,
        control: Vec::new(),
        read_receipt: false,
        extension: false,
        untold: false,
    }
}

#[test]
fn a_changed_profile_is_announced_with_the_new_values_and_who_made_them() {
    let change = ProfileChange {
        nick: Some("Amy".into()),
        allow_type: Some(AllowType::DenyAny),
        birthday: Some(19_990_102),
        custom: vec![("Tag_Profile_Custom_a".into(), "b".into())],
        ..ProfileChange::default()
    };
    assert_eq!(
        deliveries(vec![Event::ProfileChanged(change)]),
        [(
            CallbackCommand::PortraitSet,
            r#"{"CallbackCommand":"Profile.CallbackPortraitSet","Operator_Account":"administrator","From_Account":"amy","EventTime":0,"ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"Amy"},{"Tag":"Tag_Profile_IM_AllowType","Value":"AllowType_Type_DenyAny"},{"Tag":"Tag_Profile_IM_BirthDay","Value":19990102},{"Tag":"Tag_Profile_Custom_a","Value":"b"}]}"#.to_owned()
        )]
    );
}

#[test]
fn a_message_is_announced_with_its_body_as_it_was_sent() {
    assert_eq!(
        deliveries(vec![Event::MessageAccepted(message())]),
        [(
            CallbackCommand::AfterSendMsg,
            r#"{"CallbackCommand":"C2C.CallbackAfterSendMsg","From_Account":"amy","To_Account":"bob","MsgSeq":7,"MsgRandom":8,"MsgTime":1700000100,"MsgKey":"7_8_1700000100","OnlineOnlyFlag":0,"SendMsgResult":0,"ErrorInfo":"send msg succeed","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"x","EventTime":0}"#.to_owned()
        )]
    );
}

#[test]
fn a_request_that_was_accepted_later_says_so() {
    let friends = vec![Settled { peer: id("bob"), mine: true, theirs: true }];
    let settled =
        Event::OffersSettled { offered: Version(1), forced: false, waited: true, friends };
    let said = deliveries(vec![settled]);
    assert!(said[0].1.contains(r#""ClientCmd":"friend_response""#), "{said:?}");
}

#[test]
fn what_announces_nothing_is_silent() {
    let card = Card::default();
    let (peer, offer, edge) = (id("bob"), edge(), edge());
    let silent = [
        settled(&[]),
        settled(&[("bob", false, false)]),
        Event::AccountImported {},
        Event::ProfileChanged(ProfileChange {
            nick: Some("Amy".into()),
            by_import: true,
            ..ProfileChange::default()
        }),
        Event::MessageAccepted(Message { untold: true, ..message() }),
        removed("bob", RemovalReason::ClearedBoth, false),
        removed("bob", RemovalReason::ClearedSingle, false),
        Event::FriendChanged { peer, change: CardChange::default() },
        Event::GroupsAdded { names: Vec::new() },
        Event::FriendsGrouped { names: Vec::new(), peers: vec![peer] },
        Event::GroupsRemoved { names: Vec::new() },
        Event::AccountDeleted {},
        Event::FriendAdded { peer, edge, card: card.clone() },
        Event::FriendAccepted {
            peer,
            offer,
            edge,
            added: true,
            agreement: None,
            despite_block: false,
        },
        Event::FriendLinked { peer, edge },
        Event::FriendUpdated { peer, card: card.clone() },
        Event::FriendOffered {
            peer,
            edge,
            form: OfferForm::TwoWay,
            forced: false,
            over: None,
            again: false,
            despite_block: false,
            card: card.clone(),
        },
        Event::FriendRequested { peer, edge, card },
        Event::FriendRefused { peer, offer, why: Rejection::PeerBlocked },
        Event::UnfriendAsked { peer },
        Event::OfferPending { peer, edge },
        Event::OfferConfirmed { peer, edge, mine: true, theirs: true, agreement: None },
        Event::OfferEnded { peer, edge, why: Rejection::PeerBlocked },
        Event::OfferWithdrawn { peer, edge },
        Event::RequestDropped { peer, edge },
        Event::PeerForgotten { peer },
    ];
    for event in silent {
        assert_eq!(deliveries(vec![event.clone()]), [], "{event:?}");
    }
}

#[test]
fn only_the_commands_that_are_on_are_called() {
    let events = vec![
        settled(&[("dora", true, true)]),
        removed("bob", RemovalReason::Blocked, false),
        blocked("bob"),
        Event::UserUnblocked { target: id("carl") },
        Event::ProfileChanged(ProfileChange { level: Some(3), ..ProfileChange::default() }),
        Event::MessageAccepted(message()),
    ];
    let commit = record("RESTAPI", events);
    for command in CallbackCommand::ALL {
        let deliveries = texts(&commit, Switches::from_iter([command]));
        let commands: Vec<_> = deliveries.into_iter().map(|(command, _)| command).collect();
        assert_eq!(commands, [command]);
    }
    assert_eq!(texts(&commit, Switches::default()), []);
    assert_eq!(texts(&commit, Switches::ALL).len(), CallbackCommand::ALL.len());
}

#[test]
fn a_friend_removed_and_added_again_by_one_record_is_a_friend_in_the_end() {
    let again = Event::FriendAdded { peer: id("bob"), edge: edge(), card: Card::default() };
    let removal = removed("bob", RemovalReason::BlockedByPeer, false);
    let settling = settled(&[("bob", true, false)]);
    let cases = [
        (
            vec![removal.clone(), again, settling.clone()],
            [CallbackCommand::FriendDelete, CallbackCommand::FriendAdd],
        ),
        (vec![settling, removal], [CallbackCommand::FriendAdd, CallbackCommand::FriendDelete]),
    ];
    for (events, expected) in cases {
        let commands: Vec<_> = deliveries(events).into_iter().map(|(command, _)| command).collect();
        assert_eq!(commands, expected);
    }
}
