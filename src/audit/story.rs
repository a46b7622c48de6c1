//! Records as sentences. Pure; the subject of each sentence is the owner of the stream.

use std::fmt;

use crate::domain::{
    AllowType, Card, Effect, Event, Gender, OfferForm, ProfileChange, RemovalReason, Replay,
    SeekTo, Severance, Subscription, UserId, effects,
};

/// The stored names of all events, in the order of their definition.
pub const EVENT_TYPES: [&str; 35] = [
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
        Event::FriendOffered { peer, form, forced, card, .. } => {
            offered(*peer, *form, *forced, card)
        }
        Event::FriendRequested { peer, card, .. } => {
            format!("is asked by {peer} for a friendship{}", saying(card))
        }
        Event::FriendAccepted { peer, .. } => format!("accepted {peer}'s offer"),
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

fn removal(reason: RemovalReason) -> &'static str {
    match reason {
        RemovalReason::Blocked => "blocked",
        RemovalReason::BlockedByPeer => "blocked by them",
        RemovalReason::DeletedBoth => "removed from both lists",
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

/// Text of unknown origin, fit for a terminal: what could move the cursor, change colours or turn
/// the direction of writing is shown as an escape.
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || turns {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
                card: card.clone(),
            },
            Event::FriendRequested { peer, edge, card },
            Event::FriendAccepted { peer, offer: edge, edge, added: true, agreement: None },
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
}
