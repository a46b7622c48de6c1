//! One record to the deliveries that it causes; pure. Rule: webhooks.md 7, 8, 13 and 14.
//!
//! A record causes at most one delivery per command. Bodies have the fields of the reference in the
//! order of its samples and no others, because strict receivers decode closed types.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::switches::Switches;
use crate::domain::{Event, Message, ProfileChange, RemovalReason, UserId};
use crate::journal::Commit;
use crate::tags;
use crate::tags::CallbackCommand;

/// One delivery owed to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
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

/// The deliveries that one record causes, in the order in which they are made; pairs in event order.
///
/// `FriendDelete` stands before `BlackListAdd`: the receiver never sees a blocked friend.
/// `FriendAdd` stands before `FriendDelete`, unless the record removes a friend and then adds the
/// same one again. Rule: webhooks.md 14.
pub fn payloads(commit: &Commit, switches: Switches) -> Vec<Payload> {
    let mut told = Told::default();
    for event in &commit.events {
        told.take(commit.key.user, event);
    }
    let mut payloads = Vec::new();
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
        payloads.extend(body.map(|body| Payload { command, body: body.into() }));
    }
    payloads
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
            | Event::VerdictGiven(_)
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
        // Whoever blocks a friend does not know whether they are one in return, and a look would cost each
        // block a question: both directions are told, as webhooks.md 14 has it for any friend. A receiver
        // may hear of the end of a direction that never was, but never misses one. A blocker who has no
        // such friend tells of none; then the direction of the blocked comes in a delivery of its own, below.
        RemovalReason::Blocked | RemovalReason::DeletedBoth => Announcement::Both,
        RemovalReason::DeletedSingle | RemovalReason::DeletedOneWay => Announcement::Own,
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

pub(super) fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body has nothing that JSON cannot say")
}

#[cfg(test)]
mod tests;
