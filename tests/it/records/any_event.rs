//! Any event.

use cordon::domain::{
    Agreement, AllowType, BeforeTerms, CallKey, CameTo, Card, CardChange, DeliveryTerms, EdgeId,
    Event, FailurePolicy, Fallback, Format, Gender, Ground, KeptAnswer, Matter, Message, OfferForm,
    ProfileChange, Refusal, Rejection, RemovalReason, Replay, SealedSecret, Seek, SeekTo, Settled,
    Subscription, Timestamp, Traces, UserId, Verdict, Version, Wanted, Words,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

/// All values of an enum without fields, checked for completeness by a match.
macro_rules! all_of {
    ($enum:ident: $($value:ident),* $(,)?) => {{
        let values = vec![$($enum::$value),*];
        for value in &values {
            match value { $($enum::$value => {})* }
        }
        values
    }};
}

pub(super) fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

pub(super) fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(String::into_boxed_str)
}

pub(super) fn user() -> impl Strategy<Value = UserId> {
    "[!-~]{1,32}".prop_map(|name| UserId::parse(&name).expect("a name of the right shape"))
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    any::<u64>().prop_map(Version)
}

fn edge() -> impl Strategy<Value = EdgeId> {
    (user(), version()).prop_map(|(offerer, version)| EdgeId { offerer, version })
}

prop_compose! {
    fn card()(
        remark in text(),
        groups in vec(text(), 0..3),
        source in text(),
        wording in text(),
        custom in vec((text(), text()), 0..3),
        added_at in option::of(any::<u32>()),
        remark_at in option::of(any::<u32>()),
    ) -> Card {
        Card { remark, groups, source, wording, custom, added_at, remark_at }
    }
}

prop_compose! {
    fn profile_change()(
        nick in option::of(text()),
        face_url in option::of(text()),
        allow_type in option::of(select(all_of!(AllowType: AllowAny, NeedConfirm, DenyAny))),
        requests_forbidden in option::of(any::<bool>()),
        gender in option::of(select(all_of!(Gender: Unknown, Female, Male))),
        [birthday, language, msg_settings, level, role] in any::<[Option<u32>; 5]>(),
        [location, self_signature] in [option::of(text()), option::of(text())],
        custom in fields(),
        by_import in any::<bool>(),
    ) -> ProfileChange {
        ProfileChange {
            nick,
            face_url,
            allow_type,
            requests_forbidden,
            gender,
            birthday,
            location,
            self_signature,
            language,
            msg_settings,
            level,
            role,
            custom,
            by_import,
        }
    }
}

fn form() -> impl Strategy<Value = OfferForm> {
    select(all_of!(OfferForm: TwoWay, OneWay, Import))
}

fn reason() -> impl Strategy<Value = RemovalReason> {
    select(all_of!(RemovalReason:
        Blocked,
        BlockedByPeer,
        DeletedBoth,
        DeletedOneWay,
        DeletedByPeer,
        DeletedSingle,
        ClearedBoth,
        ClearedSingle,
        AccountDeleted,
        PeerAccountDeleted,
        Withdrawn,
    ))
}

fn why() -> impl Strategy<Value = Rejection> {
    select(all_of!(Rejection:
        AccountUnknown,
        SelfTarget,
        AlreadyBlocked,
        BlocklistFull,
        NotBlocked,
        AlreadyFriend,
        NotFriend,
        PeerBlocked,
        BlockedByPeer,
        RequestsForbidden,
        FriendListFull,
        PeerFriendListFull,
        TooManyGroups,
        PeerAcceptsNobody,
        TooManyRequests,
        ConfirmationNeeded,
        RequestUnknown,
        KeyReused,
        Declined,
        TooManySubscriptions,
        SubscriptionUnknown,
        SecretMissing,
        TooManyReplays,
        ReplayUnknown,
        Forbidden,
    ))
}

prop_compose! {
    fn settled()(peer in user(), mine in any::<bool>(), theirs in any::<bool>()) -> Settled {
        Settled { peer, mine, theirs }
    }
}

fn agreement() -> impl Strategy<Value = Option<Agreement>> {
    option::of(select(all_of!(Agreement: Both, OneWay)))
}

fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
    vec("[a-z]{1,8}".prop_map(Into::into), 1..3)
}

fn fields() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    vec(("Tag_SNS_Custom_[a-z]{1,8}".prop_map(Into::into), ".{0,8}".prop_map(Into::into)), 0..3)
}

fn card_change() -> impl Strategy<Value = CardChange> {
    (option::of(".{0,8}".prop_map(Into::into)), option::of(texts()), fields())
        .prop_map(|(remark, groups, custom)| CardChange { remark, groups, custom })
}

prop_compose! {
    fn message()(
        to in vec(user(), 1..3),
        (seq, random, time) in any::<(u32, u32, u32)>(),
        body in ".{0,20}",
        (custom_data, push) in (".{0,8}", ".{0,8}"),
        life_time in option::of(any::<u32>()),
        (online_only, not_for_sender, untold) in any::<(bool, bool, bool)>(),
        control in texts(),
        (read_receipt, extension) in any::<(bool, bool)>(),
    ) -> Message {
        Message {
            to,
            seq,
            random,
            time,
            body: body.into(),
            custom_data: custom_data.into(),
            push: push.into(),
            life_time,
            online_only,
            not_for_sender,
            control,
            read_receipt,
            extension,
            untold,
        }
    }
}

fn ground() -> impl Strategy<Value = Ground> {
    select(all_of!(Ground: Answered, TimedOut, Unreachable, Status, Malformed, Busy))
}

prop_compose! {
    fn refusal()(user in user(), code in any::<u32>(), info in text()) -> Refusal {
        Refusal { user, code, info }
    }
}

prop_compose! {
    fn words()(body in text(), custom_data in text()) -> Words {
        Words { body, custom_data }
    }
}

prop_compose! {
    fn verdict()(
        about in select(all_of!(Matter: FriendAdd, FriendResponse, Message)),
        by in text(),
        ground in ground(),
        allowed in vec(user(), 0..3),
        refused in vec(refusal(), 0..3),
        hidden in any::<bool>(),
        before in option::of(words()),
    ) -> Verdict {
        Verdict { about, by, ground, allowed, refused, hidden, before: before.map(Box::new) }
    }
}

prop_compose! {
    fn traces()(
        peers in vec(user(), 0..3),
        account in any::<bool>(),
        sent_at in option::of(any::<u32>()),
        verdict in option::of(verdict()),
        wanted in vec(wanted(), 0..3),
    ) -> Traces {
        Traces { peers, account, sent_at, verdict: verdict.map(Box::new), wanted }
    }
}

prop_compose! {
    fn wanted()(
        peer in user(),
        offered in any::<u64>(),
        came_to in select(vec![CameTo::Open, CameTo::Made]),
    ) -> Wanted {
        Wanted { peer, offered: Version(offered), came_to }
    }
}

fn call() -> impl Strategy<Value = CallKey> {
    let hash = || "[0-9a-f]{32}".prop_map(|text| UserId::parse(&text).expect("a name"));
    (hash(), hash()).prop_map(|(key, asked)| CallKey { key, asked })
}

/// Any event; the names in `event_names!` keep this list honest: see the test of them.
pub(super) fn event() -> impl Strategy<Value = Event> {
    let yes = any::<bool>;
    prop_oneof![
        Just(Event::AccountImported {}),
        profile_change().prop_map(Event::ProfileChanged),
        Just(Event::AccountDeleted {}),
        (user(), yes())
            .prop_map(|(target, remain_friends)| Event::UserBlocked { target, remain_friends }),
        user().prop_map(|target| Event::UserUnblocked { target }),
        (user(), edge(), form(), yes(), option::of(edge()), yes(), yes(), card()).prop_map(
            |(peer, edge, form, forced, over, again, despite_block, card)| Event::FriendOffered {
                peer,
                edge,
                form,
                forced,
                over,
                again,
                despite_block,
                card
            }
        ),
        (user(), edge(), card()).prop_map(|(peer, edge, card)| Event::FriendRequested {
            peer,
            edge,
            card
        }),
        (user(), edge(), edge(), yes(), agreement(), yes()).prop_map(
            |(peer, offer, edge, added, agreement, despite_block)| Event::FriendAccepted {
                peer,
                offer,
                edge,
                added,
                agreement,
                despite_block
            }
        ),
        (user(), edge(), why()).prop_map(|(peer, offer, why)| Event::FriendRefused {
            peer,
            offer,
            why
        }),
        (user(), edge(), card()).prop_map(|(peer, edge, card)| Event::FriendAdded {
            peer,
            edge,
            card
        }),
        (user(), edge()).prop_map(|(peer, edge)| Event::FriendLinked { peer, edge }),
        (user(), card()).prop_map(|(peer, card)| Event::FriendUpdated { peer, card }),
        (user(), edge(), reason(), yes()).prop_map(|(peer, edge, reason, announced)| {
            Event::FriendRemoved { peer, edge, reason, announced }
        }),
        user().prop_map(|peer| Event::UnfriendAsked { peer }),
        (user(), edge()).prop_map(|(peer, edge)| Event::OfferPending { peer, edge }),
        (user(), edge(), yes(), yes(), agreement()).prop_map(
            |(peer, edge, mine, theirs, agreement)| Event::OfferConfirmed {
                peer,
                edge,
                mine,
                theirs,
                agreement
            }
        ),
        (user(), edge(), why()).prop_map(|(peer, edge, why)| Event::OfferEnded { peer, edge, why }),
        (user(), edge()).prop_map(|(peer, edge)| Event::OfferWithdrawn { peer, edge }),
        (version(), yes(), yes(), vec(settled(), 0..4)).prop_map(
            |(offered, forced, waited, friends)| Event::OffersSettled {
                offered,
                forced,
                waited,
                friends
            }
        ),
        (user(), card_change()).prop_map(|(peer, change)| Event::FriendChanged { peer, change }),
        texts().prop_map(|names| Event::GroupsAdded { names }),
        (texts(), vec(user(), 1..3))
            .prop_map(|(names, peers)| Event::FriendsGrouped { names, peers }),
        texts().prop_map(|names| Event::GroupsRemoved { names }),
        message().prop_map(Event::MessageAccepted),
        verdict().prop_map(Event::VerdictGiven),
        (call(), uuid()).prop_map(|(call, request)| Event::CallBegun { call, request }),
        (call(), uuid(), traces()).prop_map(|(call, request, traces)| Event::CallDone {
            call,
            request,
            traces
        }),
        (call(), uuid(), any::<u32>(), ".{0,20}", vec(any::<(u16, u64)>(), 0..2)).prop_map(
            |(call, request, code, body, positions)| Event::CallAnswered {
                call,
                request,
                answer: KeptAnswer { code, body: body.into(), positions }
            }
        ),
        vec(user(), 1..3).prop_map(|keys| Event::CallsForgotten { keys }),
        subscription().prop_map(|set| Event::SubscriptionSet(Box::new(set))),
        subscription_name().prop_map(|name| Event::SubscriptionDeleted { name }),
        (subscription_name(), any::<u32>(), seek_to())
            .prop_map(|(name, term, to)| Event::SubscriptionMoved(Seek { name, term, to })),
        replay().prop_map(|replay| Event::ReplayBegun(Box::new(replay))),
        (any::<u32>(), yes())
            .prop_map(|(number, completed)| Event::ReplayEnded { number, completed }),
        user().prop_map(|peer| Event::PeerForgotten { peer }),
        (user(), edge()).prop_map(|(peer, edge)| Event::RequestDropped { peer, edge }),
    ]
}

fn subscription_name() -> impl Strategy<Value = Box<str>> {
    "[a-z0-9-]{1,32}".prop_map(String::into_boxed_str)
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0_i64..253_402_300_800_000).prop_map(Timestamp)
}

fn seek_to() -> impl Strategy<Value = SeekTo> {
    prop_oneof![
        vec(any::<(u16, u64)>(), 0..3).prop_map(SeekTo::Offsets),
        moment().prop_map(SeekTo::Time),
        Just(SeekTo::End),
    ]
}

fn fallback() -> impl Strategy<Value = Fallback> {
    select(all_of!(Fallback: Allow, Deny))
}

prop_compose! {
    fn delivery_terms()(
        (timeout_ms, retry_min_ms, retry_max_ms) in any::<(u64, u64, u64)>(),
        call_once in any::<bool>(),
        policy in select(all_of!(FailurePolicy: HoldUser, Skip, Halt)),
        (attempts_max, in_flight_max) in any::<(u32, u32)>(),
        per_second in option::of(any::<u32>()),
    ) -> DeliveryTerms {
        DeliveryTerms {
            timeout_ms, retry_min_ms, retry_max_ms, call_once, policy, attempts_max, in_flight_max,
            per_second,
        }
    }
}

prop_compose! {
    fn before_terms()(
        timeout_ms in any::<u64>(),
        on_timeout in fallback(),
        on_unreachable in fallback(),
        on_status in fallback(),
        on_malformed in fallback(),
        on_busy in fallback(),
    ) -> BeforeTerms {
        BeforeTerms { timeout_ms, on_timeout, on_unreachable, on_status, on_malformed, on_busy }
    }
}

prop_compose! {
    fn subscription()(
        name in subscription_name(),
        url in option::of(text()),
        commands in texts(),
        (enabled, headers) in any::<(bool, bool)>(),
        format in select(all_of!(Format: Reference, Standard)),
        secrets in vec((text(), option::of(moment())), 0..3),
        delivery in delivery_terms(),
        before in before_terms(),
    ) -> Subscription {
        let secrets = secrets.into_iter().map(|(sealed, until)| SealedSecret { sealed, until });
        let secrets = secrets.collect();
        Subscription { name, url, commands, enabled, format, secrets, headers, delivery, before }
    }
}

prop_compose! {
    fn replay()(
        number in any::<u32>(),
        subscription in subscription_name(),
        url in option::of(text()),
        since in option::of(moment()),
        until in option::of(moment()),
        ranges in vec(any::<(u16, u64, u64)>(), 0..3),
        users in vec(user(), 0..3),
        commands in texts(),
        ids in texts(),
    ) -> Replay {
        Replay { number, subscription, url, since, until, ranges, users, commands, ids }
    }
}
