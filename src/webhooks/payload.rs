//! One record to the calls that it causes; pure. Rule: webhooks.md 7, 8, 13 and 14.
//!
//! A record causes at most one call per command. Bodies have the fields of the reference in the
//! order of its samples and no others, because strict receivers decode closed types.

use actix_web::web::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::command::{CallbackCommand, Switches};
use crate::domain::{Event, Message, ProfileChange, RemovalReason, UserId};
use crate::journal::Commit;
use crate::tags;

/// One call owed to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What it tells.
    pub command: CallbackCommand,
    /// The JSON of the body, the same on every try.
    pub body: Bytes,
}

#[derive(Serialize)]
struct Pairs<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "PairList")]
    pairs: &'a [Pair],
}

#[derive(Clone, Copy, Serialize)]
struct Pair {
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "To_Account")]
    to: UserId,
}

#[derive(Serialize)]
struct FriendAddBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "PairList")]
    pairs: &'a [InitiatedPair],
    #[serde(rename = "ClientCmd")]
    client_command: &'static str,
    #[serde(rename = "Admin_Account")]
    admin: &'a str,
    #[serde(rename = "ForceFlag")]
    force: u8,
}

#[derive(Serialize)]
struct InitiatedPair {
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "To_Account")]
    to: UserId,
    #[serde(rename = "Initiator_Account")]
    initiator: UserId,
}

/// The value of `ClientCmd` for a friendship that came about at once. Rule: webhooks.md 14.
const REQUESTED: &str = "friend_add";

/// The value of `ClientCmd` for one that had waited for an answer. Rule: webhooks.md 14.
const ANSWERED: &str = "friend_response";

/// The value of `OptPlatform` for calls of the server API. Rule: webhooks.md 2.
const SERVER_PLATFORM: &str = "RESTAPI";

/// The calls that one record causes, in the order in which they are made; pairs in event order.
///
/// `FriendDelete` stands before `BlackListAdd`: the receiver never sees a blocked friend.
/// `FriendAdd` stands before `FriendDelete`, unless the record removes a friend and then adds the
/// same one again. Rule: webhooks.md 14.
pub fn deliveries(commit: &Commit, switches: Switches) -> Vec<Delivery> {
    let mut told = Told::default();
    for event in &commit.events {
        told.take(commit.key.user, event);
    }
    let mut deliveries = Vec::new();
    let mut order = CallbackCommand::ALL;
    if told.added_again {
        order.swap(0, 1);
    }
    for command in order.into_iter().filter(|command| switches.has(*command)) {
        let body = match command {
            CallbackCommand::FriendAdd => friend_add(&told, commit),
            CallbackCommand::FriendDelete => pairs(command, &told.unfriended),
            CallbackCommand::BlackListAdd => pairs(command, &told.blocked),
            CallbackCommand::BlackListDelete => pairs(command, &told.unblocked),
            CallbackCommand::PortraitSet => told.profile.map(|change| portrait_set(change, commit)),
            CallbackCommand::AfterSendMsg => {
                told.message.and_then(|message| after_send_msg(message, commit))
            }
            CallbackCommand::Test => None,
        };
        deliveries.extend(body.map(|body| Delivery { command, body: body.into() }));
    }
    deliveries
}

/// What the events of one record tell, sorted by command.
#[derive(Default)]
struct Told<'a> {
    befriended: Vec<InitiatedPair>,
    forced: bool,
    waited: bool,
    unfriended: Vec<Pair>,
    added_again: bool,
    blocked: Vec<Pair>,
    unblocked: Vec<Pair>,
    profile: Option<&'a ProfileChange>,
    message: Option<&'a Message>,
}

impl<'a> Told<'a> {
    fn take(&mut self, owner: UserId, event: &'a Event) {
        match event {
            Event::UserBlocked { target, remain_friends: _ } => {
                self.blocked.push(Pair { from: owner, to: *target });
            }
            Event::UserUnblocked { target } => {
                self.unblocked.push(Pair { from: owner, to: *target });
            }
            Event::FriendRemoved { peer, edge: _, reason, announced } => {
                let mine = Pair { from: owner, to: *peer };
                let theirs = Pair { from: *peer, to: owner };
                match announcement(*reason, *announced) {
                    Announcement::Both => self.unfriended.extend([mine, theirs]),
                    Announcement::Own => self.unfriended.push(mine),
                    Announcement::None => {}
                }
            }
            // The offerer's `OffersSettled` announces a friendship; here it only says in which
            // order a removal and an addition of the same friend happened.
            Event::FriendAdded { peer, .. } => {
                self.added_again |=
                    self.unfriended.iter().any(|pair| pair.from == owner && pair.to == *peer);
            }
            Event::OffersSettled { offered: _, forced, waited, friends } => {
                self.waited |= *waited;
                for friend in friends {
                    let initiator = owner;
                    let peer = friend.peer;
                    if friend.mine {
                        self.befriended.push(InitiatedPair { from: owner, to: peer, initiator });
                    }
                    if friend.theirs {
                        self.befriended.push(InitiatedPair { from: peer, to: owner, initiator });
                    }
                    self.forced |= *forced;
                }
            }
            // What vanishes with a peer's account is not announced, see `announcement`.
            Event::PeerForgotten { peer: _ } => {}
            // Of what an import brings nobody is told. Rule: rest-api.md 10.
            Event::ProfileChanged(change) => {
                self.profile = Some(change).filter(|change| !change.by_import);
            }
            Event::MessageAccepted(message) => {
                self.message = Some(message).filter(|message| !message.untold);
            }
            Event::AccountImported {}
            | Event::AccountDeleted {}
            | Event::FriendOffered { .. }
            | Event::FriendRequested { .. }
            | Event::FriendAccepted { .. }
            | Event::FriendRefused { .. }
            | Event::FriendLinked { .. }
            | Event::FriendUpdated { .. }
            | Event::FriendChanged { .. }
            | Event::GroupsAdded { .. }
            | Event::FriendsGrouped { .. }
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
            | Event::UnfriendAsked { .. }
            | Event::OfferPending { .. }
            | Event::OfferConfirmed { .. }
            | Event::OfferEnded { .. }
            | Event::OfferWithdrawn { .. }
            | Event::RequestDropped { .. } => {}
        }
    }
}

/// Which directions of an ended friendship the owner's record announces.
enum Announcement {
    Both,
    Own,
    None,
}

fn announcement(reason: RemovalReason, announced: bool) -> Announcement {
    match reason {
        RemovalReason::Blocked | RemovalReason::DeletedBoth => Announcement::Both,
        RemovalReason::DeletedSingle => Announcement::Own,
        // The peer's record speaks for both directions if it had a friendship to end; if only the
        // owner had one, nobody else announces its end.
        RemovalReason::BlockedByPeer | RemovalReason::DeletedByPeer => {
            if announced {
                Announcement::None
            } else {
                Announcement::Own
            }
        }
        // Rule: webhooks.md 8.2.
        RemovalReason::ClearedBoth | RemovalReason::ClearedSingle => Announcement::None,
        // Whether the reference announces what vanishes with an account is unconfirmed
        // (webhooks.md 13): nothing is said, and this is its only place. The end of an
        // accepted offer that was taken back needs no announcement either: its beginning had none.
        RemovalReason::AccountDeleted
        | RemovalReason::PeerAccountDeleted
        | RemovalReason::Withdrawn => Announcement::None,
    }
}

fn pairs(command: CallbackCommand, pairs: &[Pair]) -> Option<Vec<u8>> {
    (!pairs.is_empty()).then(|| json(&Pairs { command: command.name(), pairs }))
}

fn friend_add(told: &Told<'_>, commit: &Commit) -> Option<Vec<u8>> {
    let by_server_api = &*commit.by.platform == SERVER_PLATFORM;
    (!told.befriended.is_empty()).then(|| {
        json(&FriendAddBody {
            command: CallbackCommand::FriendAdd.name(),
            pairs: &told.befriended,
            client_command: if told.waited { ANSWERED } else { REQUESTED },
            admin: if by_server_api { &commit.by.operator } else { "" },
            force: u8::from(told.forced),
        })
    })
}

#[derive(Serialize)]
struct PortraitSetBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "Operator_Account")]
    operator: &'a str,
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "EventTime")]
    at_ms: i64,
    #[serde(rename = "ProfileItem")]
    items: Vec<tags::Item<'a>>,
}

fn portrait_set(change: &ProfileChange, commit: &Commit) -> Vec<u8> {
    json(&PortraitSetBody {
        command: CallbackCommand::PortraitSet.name(),
        operator: &commit.by.operator,
        from: commit.key.user,
        at_ms: commit.at.0,
        items: tags::of_change(change),
    })
}

#[derive(Serialize)]
struct AfterSendMsgBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "To_Account")]
    to: UserId,
    #[serde(rename = "MsgSeq")]
    seq: u32,
    #[serde(rename = "MsgRandom")]
    random: u32,
    #[serde(rename = "MsgTime")]
    time: u32,
    #[serde(rename = "MsgKey")]
    key: String,
    #[serde(rename = "OnlineOnlyFlag")]
    online_only: u8,
    #[serde(rename = "SendMsgResult")]
    result: u32,
    #[serde(rename = "ErrorInfo")]
    info: &'static str,
    #[serde(rename = "MsgBody")]
    body: Box<RawValue>,
    #[serde(rename = "CloudCustomData")]
    custom_data: &'a str,
    #[serde(rename = "EventTime")]
    at_ms: i64,
}

/// The value of `ErrorInfo` for a message that was taken over. Rule: webhooks.md 11.
const MESSAGE_TAKEN: &str = "send msg succeed";

/// Nothing for a message of many receivers: of those nobody is told. Rule: rest-api.md 8.2.
fn after_send_msg(message: &Message, commit: &Commit) -> Option<Vec<u8>> {
    let [to] = message.to[..] else { return None };
    let body = RawValue::from_string(message.body.to_string()).ok()?;
    Some(json(&AfterSendMsgBody {
        command: CallbackCommand::AfterSendMsg.name(),
        from: commit.key.user,
        to,
        seq: message.seq,
        random: message.random,
        time: message.time,
        key: message.key(),
        online_only: u8::from(message.online_only),
        result: 0,
        info: MESSAGE_TAKEN,
        body,
        custom_data: &message.custom_data,
        at_ms: commit.at.0,
    }))
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body has nothing that JSON cannot say")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        AllowType, AppId, Card, CardChange, EdgeId, OfferForm, Rejection, Settled, Timestamp,
        UserKey, Version,
    };
    use crate::journal::Origin;

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
            by: Arc::new(Origin {
                operator: "administrator".into(),
                request: Uuid::nil(),
                ip: "127.0.0.1".into(),
                platform: platform.into(),
            }),
            cause: None,
            events,
        }
    }

    fn calls(events: Vec<Event>) -> Vec<(CallbackCommand, String)> {
        texts(&record("RESTAPI", events), Switches::ALL)
    }

    fn texts(commit: &Commit, switches: Switches) -> Vec<(CallbackCommand, String)> {
        deliveries(commit, switches)
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
                include_str!("../../schemas/webhooks/Sns.CallbackFriendAdd.json")
            }
            CallbackCommand::FriendDelete => {
                include_str!("../../schemas/webhooks/Sns.CallbackFriendDelete.json")
            }
            CallbackCommand::BlackListAdd => {
                include_str!("../../schemas/webhooks/Sns.CallbackBlackListAdd.json")
            }
            CallbackCommand::BlackListDelete => {
                include_str!("../../schemas/webhooks/Sns.CallbackBlackListDelete.json")
            }
            CallbackCommand::PortraitSet => {
                include_str!("../../schemas/webhooks/Profile.CallbackPortraitSet.json")
            }
            CallbackCommand::AfterSendMsg => {
                include_str!("../../schemas/webhooks/C2C.CallbackAfterSendMsg.json")
            }
            CallbackCommand::Test => include_str!("../../schemas/webhooks/Cordon.Test.json"),
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
            calls(vec![blocked("bob"), blocked("carl")]),
            [(
                CallbackCommand::BlackListAdd,
                r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"bob"},{"From_Account":"amy","To_Account":"carl"}]}"#.to_owned()
            )]
        );
    }

    #[test]
    fn an_unblock_is_announced() {
        assert_eq!(
            calls(vec![Event::UserUnblocked { target: id("bob") }]),
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
            calls(events),
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
        let commands: Vec<_> = calls(events).into_iter().map(|(command, _)| command).collect();
        assert_eq!(commands, [CallbackCommand::BlackListAdd]);
    }

    #[test]
    fn a_removal_announces_the_directions_that_its_reason_says() {
        const BOTH: &[(&str, &str)] = &[("amy", "bob"), ("bob", "amy")];
        const OWN: &[(&str, &str)] = &[("amy", "bob")];
        let cases = [
            (RemovalReason::Blocked, false, BOTH),
            (RemovalReason::DeletedBoth, false, BOTH),
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
            let calls = calls(vec![removed("bob", reason, announced)]);
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
            let told: Vec<String> = calls.into_iter().map(|(_, body)| body).collect();
            assert_eq!(told, Vec::from_iter(expected), "{reason:?}, announced: {announced}");
        }
    }

    #[test]
    fn settled_offers_announce_each_list_that_grew() {
        let events =
            vec![settled(&[("bob", true, true), ("carl", true, false), ("dora", false, true)])];
        assert_eq!(
            calls(events),
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
        let calls = texts(&commit, Switches::ALL);
        assert!(calls[0].1.contains(r#""Admin_Account":"","ForceFlag":0"#), "{calls:?}");
    }

    #[test]
    fn a_forced_friendship_says_so() {
        let friends = vec![Settled { peer: id("bob"), mine: true, theirs: true }];
        let calls = calls(vec![Event::OffersSettled {
            offered: Version(1),
            forced: true,
            waited: false,
            friends,
        }]);
        assert!(calls[0].1.ends_with(r#""ForceFlag":1}"#), "{calls:?}");
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
            calls(vec![Event::ProfileChanged(change)]),
            [(
                CallbackCommand::PortraitSet,
                r#"{"CallbackCommand":"Profile.CallbackPortraitSet","Operator_Account":"administrator","From_Account":"amy","EventTime":0,"ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"Amy"},{"Tag":"Tag_Profile_IM_AllowType","Value":"AllowType_Type_DenyAny"},{"Tag":"Tag_Profile_IM_BirthDay","Value":19990102},{"Tag":"Tag_Profile_Custom_a","Value":"b"}]}"#.to_owned()
            )]
        );
    }

    #[test]
    fn a_message_is_announced_with_its_body_as_it_was_sent() {
        assert_eq!(
            calls(vec![Event::MessageAccepted(message())]),
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
        let said = calls(vec![settled]);
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
            Event::FriendAccepted { peer, offer, edge, added: true, agreement: None },
            Event::FriendLinked { peer, edge },
            Event::FriendUpdated { peer, card: card.clone() },
            Event::FriendOffered {
                peer,
                edge,
                form: OfferForm::TwoWay,
                forced: false,
                over: None,
                again: false,
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
            assert_eq!(calls(vec![event.clone()]), [], "{event:?}");
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
            let calls = texts(&commit, Switches::from_iter([command]));
            let commands: Vec<_> = calls.into_iter().map(|(command, _)| command).collect();
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
            let commands: Vec<_> = calls(events).into_iter().map(|(command, _)| command).collect();
            assert_eq!(commands, expected);
        }
    }
}
