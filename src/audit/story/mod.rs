//! Records as sentences. Pure; the subject of each sentence is the owner of the stream.

use super::plain::Plain;
use crate::domain::{
    AllowType, Card, Effect, Event, Gender, Ground, Matter, OfferForm, ProfileChange, Refusal,
    RemovalReason, Replay, SeekTo, Severance, Subscription, UserId, Verdict, effects,
};

/// The stored names of all events, in the order of their definition.
pub const EVENT_TYPES: [&str; 36] = [
    "AccountImported",
    "ProfileChanged",
    "AccountDeleted",
    "UserBlocked",
    "UserUnblocked",
    "FriendOffered",
    "FriendRequested",
    "FriendAccepted",
    "FriendRefused",
    "FriendAdded",
    "FriendLinked",
    "FriendUpdated",
    "FriendRemoved",
    "UnfriendAsked",
    "OfferPending",
    "OfferConfirmed",
    "OfferEnded",
    "OfferWithdrawn",
    "OffersSettled",
    "PeerForgotten",
    "RequestDropped",
    "FriendChanged",
    "GroupsAdded",
    "FriendsGrouped",
    "GroupsRemoved",
    "MessageAccepted",
    "VerdictGiven",
    "CallBegun",
    "CallDone",
    "CallAnswered",
    "CallsForgotten",
    "SubscriptionSet",
    "SubscriptionDeleted",
    "SubscriptionMoved",
    "ReplayBegun",
    "ReplayEnded",
];

/// The stored name of `event`.
pub fn event_type(event: &Event) -> &'static str {
    match event {
        Event::AccountImported {} => "AccountImported",
        Event::ProfileChanged(_) => "ProfileChanged",
        Event::AccountDeleted {} => "AccountDeleted",
        Event::UserBlocked { .. } => "UserBlocked",
        Event::UserUnblocked { .. } => "UserUnblocked",
        Event::FriendOffered { .. } => "FriendOffered",
        Event::FriendRequested { .. } => "FriendRequested",
        Event::FriendAccepted { .. } => "FriendAccepted",
        Event::FriendRefused { .. } => "FriendRefused",
        Event::FriendAdded { .. } => "FriendAdded",
        Event::FriendLinked { .. } => "FriendLinked",
        Event::FriendUpdated { .. } => "FriendUpdated",
        Event::FriendChanged { .. } => "FriendChanged",
        Event::GroupsAdded { .. } => "GroupsAdded",
        Event::FriendsGrouped { .. } => "FriendsGrouped",
        Event::GroupsRemoved { .. } => "GroupsRemoved",
        Event::MessageAccepted(_) => "MessageAccepted",
        Event::VerdictGiven(_) => "VerdictGiven",
        Event::CallBegun { .. } => "CallBegun",
        Event::CallDone { .. } => "CallDone",
        Event::CallAnswered { .. } => "CallAnswered",
        Event::CallsForgotten { .. } => "CallsForgotten",
        Event::SubscriptionSet(_) => "SubscriptionSet",
        Event::SubscriptionDeleted { .. } => "SubscriptionDeleted",
        Event::SubscriptionMoved(_) => "SubscriptionMoved",
        Event::ReplayBegun(_) => "ReplayBegun",
        Event::ReplayEnded { .. } => "ReplayEnded",
        Event::FriendRemoved { .. } => "FriendRemoved",
        Event::UnfriendAsked { .. } => "UnfriendAsked",
        Event::OfferPending { .. } => "OfferPending",
        Event::OfferConfirmed { .. } => "OfferConfirmed",
        Event::OfferEnded { .. } => "OfferEnded",
        Event::OfferWithdrawn { .. } => "OfferWithdrawn",
        Event::OffersSettled { .. } => "OffersSettled",
        Event::PeerForgotten { .. } => "PeerForgotten",
        Event::RequestDropped { .. } => "RequestDropped",
    }
}

/// Whether `event` names `user` besides its owner.
pub fn names(event: &Event, user: &UserId) -> bool {
    match event {
        Event::OffersSettled { friends, .. } => friends.iter().any(|friend| friend.peer == *user),
        Event::FriendsGrouped { peers, .. } => peers.contains(user),
        Event::MessageAccepted(message) => message.to.contains(user),
        Event::VerdictGiven(verdict) => {
            verdict.allowed.contains(user) || verdict.refusal(user).is_some()
        }
        other => other.peer().as_ref() == Some(user),
    }
}

/// `event` as a sentence without its subject: "blocked bob".
pub fn sentence(event: &Event) -> String {
    match event {
        Event::AccountImported {} => "has an account from now on".into(),
        Event::ProfileChanged(change) => format!("changed the profile: {}", profile(change)),
        Event::AccountDeleted {} => "has no account any more".into(),
        Event::UserBlocked { target, remain_friends: false } => format!("blocked {target}"),
        Event::UserBlocked { target, remain_friends: true } => {
            format!("blocked {target}, a friendship stays")
        }
        Event::UserUnblocked { target } => format!("unblocked {target}"),
        Event::FriendOffered { peer, form, forced, despite_block, card, .. } => {
            offered(*peer, *form, *forced, card) + despite(*despite_block)
        }
        Event::FriendRequested { peer, card, .. } => {
            format!("is asked by {peer} for a friendship{}", saying(card))
        }
        Event::FriendAccepted { peer, despite_block, .. } => {
            format!("accepted {peer}'s offer{}", despite(*despite_block))
        }
        Event::FriendRefused { peer, why, .. } => format!("refused {peer}'s offer ({why})"),
        Event::FriendAdded { peer, edge, .. } => format!("has {peer} as a friend (edge {edge})"),
        Event::FriendLinked { peer, edge } => {
            format!("has {peer} as a friend by another edge ({edge})")
        }
        Event::FriendUpdated { peer, .. } => format!("has a new record of the friend {peer}"),
        Event::FriendChanged { peer, .. } => format!("has a changed record of the friend {peer}"),
        Event::GroupsAdded { names } => format!("has new friend groups: {}", listed(names)),
        Event::FriendsGrouped { names, peers } => {
            let peers: Vec<&str> = peers.iter().map(UserId::as_str).collect();
            format!("put friends into the groups {}: {}", listed(names), peers.join(", "))
        }
        Event::GroupsRemoved { names } => format!("removed the friend groups {}", listed(names)),
        Event::MessageAccepted(message) => {
            let to: Vec<&str> = message.to.iter().map(UserId::as_str).collect();
            format!("sent the message {} to {}", message.key(), to.join(", "))
        }
        Event::VerdictGiven(verdict) => judgement(verdict),
        Event::CallBegun { call, .. } => format!("was asked for a call with the key {}", call.key),
        Event::CallDone { call, .. } => format!("did what the call with the key {} asks", call.key),
        Event::CallAnswered { call, answer, .. } => {
            format!("answered the call with the key {} with the code {}", call.key, answer.code)
        }
        Event::CallsForgotten { keys } => format!("forgot calls with keys: {}", keys.len()),
        Event::SubscriptionSet(set) => subscribed(set),
        Event::SubscriptionDeleted { name } => {
            format!("has no subscription {} any more", Plain(name))
        }
        Event::SubscriptionMoved(seek) => format!(
            "moved the subscription {} {} (move {})",
            Plain(&seek.name),
            destination(&seek.to),
            seek.term
        ),
        Event::ReplayBegun(replay) => replayed(replay),
        Event::ReplayEnded { number, completed: true } => format!("finished the replay {number}"),
        Event::ReplayEnded { number, completed: false } => format!("ended the replay {number}"),
        Event::FriendRemoved { peer, reason, .. } => {
            format!("is no longer a friend of {peer} ({})", removal(*reason))
        }
        Event::UnfriendAsked { peer } => format!("asked {peer} to end the friendship"),
        Event::OfferPending { peer, .. } => format!("waits for {peer} to confirm"),
        Event::OfferConfirmed { peer, .. } => format!("got a yes from {peer}"),
        Event::OfferEnded { peer, why, .. } => format!("got no friendship with {peer} ({why})"),
        Event::OfferWithdrawn { peer, .. } => format!("took the offer to {peer} back"),
        Event::OffersSettled { offered, friends, .. } if friends.is_empty() => {
            format!("has every answer to the request of version {offered}")
        }
        Event::OffersSettled { offered, friends, .. } => {
            let names: Vec<&str> = friends.iter().map(|friend| friend.peer.as_str()).collect();
            format!("has every answer to the request of version {offered}: {}", names.join(", "))
        }
        Event::PeerForgotten { peer } => format!("no longer names {peer}, whose account is gone"),
        Event::RequestDropped { peer, .. } => format!("has no request from {peer} any more"),
    }
}

fn listed(names: &[Box<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", Plain(name))).collect();
    names.join(", ")
}

fn offered(peer: UserId, form: OfferForm, forced: bool, card: &Card) -> String {
    let wish = match form {
        OfferForm::TwoWay => format!("offered {peer} a friendship"),
        OfferForm::OneWay => format!("asked to have {peer} as a friend"),
        OfferForm::Import => format!("is to have {peer} as a friend, imported"),
    };
    format!("{wish}{}{}", if forced { ", forced" } else { "" }, saying(card))
}

fn despite(block: bool) -> &'static str {
    if block { ", past the own blocklist" } else { "" }
}

/// What was set, without its secrets: also sealed they are nobody's business.
fn subscribed(set: &Subscription) -> String {
    let place = match &set.url {
        Some(url) => format!("calls \"{}\"", Plain(url)),
        None => "is only pulled".to_owned(),
    };
    let off = if set.enabled { "" } else { ", off" };
    let secrets = match set.secrets.len() {
        0 => String::new(),
        1 => ", signed".to_owned(),
        more => format!(", signed with {more} secrets"),
    };
    format!(
        "set the subscription {}, which {place} for {}{off}{secrets}",
        Plain(&set.name),
        Plain(&set.commands.join(", ")),
    )
}

fn destination(to: &SeekTo) -> String {
    match to {
        SeekTo::Offsets(offsets) => {
            let places = offsets.iter().map(|(partition, offset)| format!("{partition}@{offset}"));
            format!("to {}", places.collect::<Vec<_>>().join(", "))
        }
        SeekTo::Time(at) => format!("to {at}"),
        SeekTo::End => "to the end".to_owned(),
    }
}

fn replayed(replay: &Replay) -> String {
    let mut bounds = Vec::new();
    bounds.extend(replay.since.map(|since| format!("from {since}")));
    bounds.extend(replay.until.map(|until| format!("before {until}")));
    if !replay.users.is_empty() {
        let users: Vec<&str> = replay.users.iter().map(UserId::as_str).collect();
        bounds.push(format!("of {}", users.join(", ")));
    }
    if !replay.commands.is_empty() {
        bounds.push(format!("only {}", Plain(&replay.commands.join(", "))));
    }
    if !replay.ids.is_empty() {
        bounds.push(format!("calls: {}", replay.ids.len()));
    }
    bounds.extend(replay.url.as_ref().map(|url| format!("to \"{}\"", Plain(url))));
    let ranges = replay.ranges.iter().map(|(p, from, until)| format!("{p}@{from}..{until}"));
    bounds.push(ranges.collect::<Vec<_>>().join(" "));
    format!(
        "began the replay {} of {}: {}",
        replay.number,
        Plain(&replay.subscription),
        bounds.join(", ")
    )
}

fn saying(card: &Card) -> String {
    if card.wording.is_empty() {
        return String::new();
    }
    format!(", saying \"{}\"", Plain(&card.wording))
}

/// "may add bob and not carl (38001 \"no\"), says main".
fn judgement(verdict: &Verdict) -> String {
    let wish = match verdict.about {
        Matter::FriendAdd => "add",
        Matter::FriendResponse => "answer",
        Matter::Message => "write to",
    };
    let allowed: Vec<&str> = verdict.allowed.iter().map(UserId::as_str).collect();
    let refused: Vec<String> = verdict.refused.iter().map(refusal).collect();
    let mut said = Vec::new();
    if !allowed.is_empty() {
        said.push(format!("may {wish} {}", allowed.join(", ")));
    }
    if !refused.is_empty() {
        said.push(format!("may not {wish} {}", refused.join(", ")));
    }
    let mut more = match verdict.ground {
        Ground::Answered => format!("says {}", Plain(&verdict.by)),
        ground => format!("because {} {}", Plain(&verdict.by), want(ground)),
    };
    if verdict.hidden {
        more.push_str(", without being told");
    }
    if verdict.before.is_some() {
        more.push_str(", in other words");
    }
    format!("{}: {more}", said.join(" and "))
}

fn refusal(refusal: &Refusal) -> String {
    match (refusal.code, &*refusal.info) {
        (0, _) => refusal.user.to_string(),
        (code, "") => format!("{} ({code})", refusal.user),
        (code, info) => format!("{} ({code} \"{}\")", refusal.user, Plain(info)),
    }
}

fn want(ground: Ground) -> &'static str {
    match ground {
        Ground::Answered => "answered",
        Ground::TimedOut => "did not answer in time",
        Ground::Unreachable => "was not reached",
        Ground::Status => "answered with another status than 200",
        Ground::Malformed => "gave no readable answer",
        Ground::Busy => "was not asked: too many questions, or it counts as down",
    }
}

fn removal(reason: RemovalReason) -> &'static str {
    match reason {
        RemovalReason::Blocked => "blocked",
        RemovalReason::BlockedByPeer => "blocked by them",
        RemovalReason::DeletedBoth => "removed from both lists",
        RemovalReason::DeletedOneWay => "removed from both lists, of which this one alone had them",
        RemovalReason::DeletedByPeer => "removed from both lists by them",
        RemovalReason::DeletedSingle => "removed from this list",
        RemovalReason::ClearedBoth => "all were removed, from both lists",
        RemovalReason::ClearedSingle => "all were removed from this list",
        RemovalReason::AccountDeleted => "account deleted",
        RemovalReason::PeerAccountDeleted => "their account was deleted",
        RemovalReason::Withdrawn => "the accepted offer was taken back",
    }
}

fn profile(change: &ProfileChange) -> String {
    let mut fields = Vec::new();
    if let Some(nick) = &change.nick {
        fields.push(format!("nick \"{}\"", Plain(nick)));
    }
    if let Some(face_url) = &change.face_url {
        fields.push(format!("face \"{}\"", Plain(face_url)));
    }
    if let Some(allow) = change.allow_type {
        fields.push(
            match allow {
                AllowType::AllowAny => "anybody may add them",
                AllowType::NeedConfirm => "they confirm new friends",
                AllowType::DenyAny => "nobody may add them",
            }
            .into(),
        );
    }
    if let Some(forbidden) = change.requests_forbidden {
        let verb = if forbidden { "may not" } else { "may" };
        fields.push(format!("they {verb} send friend requests"));
    }
    let texts = [("location", &change.location), ("signature", &change.self_signature)];
    for (name, text) in texts {
        fields.extend(text.as_ref().map(|text| format!("{name} \"{}\"", Plain(text))));
    }
    fields.extend(change.gender.map(|gender| {
        let gender = match gender {
            Gender::Unknown => "unknown",
            Gender::Female => "female",
            Gender::Male => "male",
        };
        format!("gender {gender}")
    }));
    let numbers = [
        ("birthday", change.birthday),
        ("language", change.language),
        ("message settings", change.msg_settings),
        ("level", change.level),
        ("role", change.role),
    ];
    for (name, number) in numbers {
        fields.extend(number.map(|number| format!("{name} {number}")));
    }
    for (tag, value) in &change.custom {
        fields.push(format!("{tag} \"{}\"", Plain(value)));
    }
    fields.join(", ")
}

/// What `events` of one record ask of `receiver`, as the noun of a reason: "block". The last demand
/// is the record's point: a block refuses a pending request first, on the way.
pub fn demand(events: &[Event], receiver: UserId) -> Option<&'static str> {
    let mut demand = None;
    effects(events, |to, effect| {
        if to == receiver {
            demand = Some(noun(&effect));
        }
    });
    demand
}

fn noun(effect: &Effect) -> &'static str {
    match effect {
        Effect::Sever { why: Severance::Blocked, .. } => "block",
        Effect::Sever { why: Severance::Deleted, .. } => "removal of the friendship",
        Effect::Sever { why: Severance::AccountDeleted, .. } => "account deletion",
        Effect::Propose { .. } => "offer",
        Effect::Confirm { .. } => "accept",
        Effect::Pend { .. } => "need to confirm",
        Effect::Refuse { .. } => "refusal",
        Effect::Withdraw { .. } => "withdrawal",
        Effect::Forget => "account deletion",
    }
}

#[cfg(test)]
mod tests;
