//! Stored records: the golden ones of every version must be read for ever, and what is written is
//! what `schemas/` says.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordon::domain::{
    Agreement, AllowType, AppId, BeforeTerms, CallKey, CameTo, Card, CardChange, DeliveryTerms,
    EdgeId, Event, FailurePolicy, Fallback, Format, Gender, Ground, KeptAnswer, Matter, Message,
    OfferForm, ProfileChange, Refusal, Rejection, RemovalReason, Replay, SealedSecret, Seek,
    SeekTo, Settled, Subscription, Timestamp, Traces, UserId, UserKey, Verdict, Version, Wanted,
    Words,
};
use cordon::journal::{
    Body, Cause, Commit, Cursor, Epoch, Kind, Offset, Origin, Partition, Place, Record, record,
};
use jsonschema::{Retrieve, Uri, Validator};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use serde_json::Value;
use uuid::Uuid;

/// Names every event, both as text and in a match that does not compile with one missing.
macro_rules! event_names {
    ($($name:ident),* $(,)?) => {
        const EVENT_NAMES: &[&str] = &[$(stringify!($name)),*];
        fn event_name(event: &Event) -> &'static str {
            match event { $(Event::$name { .. } => stringify!($name),)* }
        }
    };
}

event_names!(
    AccountImported,
    ProfileChanged,
    AccountDeleted,
    UserBlocked,
    UserUnblocked,
    FriendOffered,
    FriendRequested,
    FriendAccepted,
    FriendRefused,
    FriendAdded,
    FriendLinked,
    FriendUpdated,
    FriendRemoved,
    UnfriendAsked,
    OfferPending,
    OfferConfirmed,
    OfferEnded,
    OfferWithdrawn,
    OffersSettled,
    RequestDropped,
    PeerForgotten,
    FriendChanged,
    GroupsAdded,
    FriendsGrouped,
    GroupsRemoved,
    MessageAccepted,
    VerdictGiven,
    CallBegun,
    CallDone,
    CallAnswered,
    CallsForgotten,
    SubscriptionSet,
    SubscriptionDeleted,
    SubscriptionMoved,
    ReplayBegun,
    ReplayEnded,
);

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

/// Every kind that is no commit, by the same trick.
const CONTROL_KINDS: [Kind; 6] = [
    Kind::Claim,
    Kind::Watermark,
    Kind::Acknowledged,
    Kind::Cursor,
    Kind::Release,
    Kind::Checkpoint,
];

fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Commit => None,
        Kind::Claim => Some("claim"),
        Kind::Watermark => Some("watermark"),
        Kind::Acknowledged => Some("acknowledged"),
        Kind::Cursor => Some("cursor"),
        Kind::Release => Some("release"),
        Kind::Checkpoint => Some("checkpoint"),
    }
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the JSON files in a folder, without the ending.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root(folder)).expect("the folder is there");
    let names = entries.map(|entry| {
        let path = entry.expect("a readable folder").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    });
    names.collect()
}

/// Resolves the references between the schemas as anybody would who has the folder.
struct Schemas;

impl Retrieve for Schemas {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let path = uri.path().as_str().trim_start_matches('/');
        Ok(serde_json::from_slice(&fs::read(root("schemas").join(path))?)?)
    }
}

fn schema() -> Validator {
    jsonschema::options()
        .with_base_uri("file:///record.json")
        .with_retriever(Schemas)
        .build(&read_json(&root("schemas/record.json")))
        .expect("the schema is one")
}

fn encoded(record: &Record) -> Value {
    let mut bytes = Vec::new();
    record::encode(record.epoch, record.n, &record.body, &mut bytes);
    serde_json::from_slice(&bytes).expect("JSON was written")
}

#[test]
fn every_event_and_kind_has_a_golden_record_and_a_schema() {
    let events: BTreeSet<_> = EVENT_NAMES.iter().map(ToString::to_string).collect();
    assert_eq!(names("schemas/events"), events);
    let kinds = CONTROL_KINDS.into_iter().filter_map(kind_name).map(ToString::to_string);
    assert_eq!(names("tests/fixtures/records"), events.into_iter().chain(kinds).collect());
}

#[test]
fn golden_records_are_read_and_written_as_they_stand() {
    let schema = schema();
    for name in names("tests/fixtures/records") {
        let golden = read_json(&root("tests/fixtures/records").join(format!("{name}.json")));
        if let Err(error) = schema.validate(&golden) {
            panic!("{name}: {error} at {}", error.instance_path());
        }
        let bytes = serde_json::to_vec(&golden).expect("JSON can be written");
        let record = record::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(encoded(&record), golden, "{name}");
        match &record.body {
            Body::Commit(commit) => {
                let mut events = commit.events.iter().map(event_name);
                assert!(events.any(|event| event == name), "{name} shows its event");
            }
            body => assert_eq!(kind_name(body.kind()), Some(name.as_str())),
        }
    }
}

#[test]
fn the_schema_refuses_what_is_incomplete_or_unknown() {
    let schema = schema();
    for name in names("tests/fixtures/records") {
        let golden = read_json(&root("tests/fixtures/records").join(format!("{name}.json")));
        let members: Vec<_> = golden.as_object().expect("an object").keys().cloned().collect();
        for member in members.iter().filter(|member| *member != "cause") {
            let mut incomplete = golden.clone();
            incomplete.as_object_mut().expect("an object").remove(member);
            assert!(!schema.is_valid(&incomplete), "{name} without {member}");
            // A record without its number is read, as number 0, and counts for no reader.
            let is_read = record::decode(incomplete.to_string().as_bytes()).is_ok();
            assert_eq!(is_read, member == "n", "{name} without {member}");
        }
        let mut unknown = golden.clone();
        unknown["later"] = Value::Bool(true);
        assert!(!schema.is_valid(&unknown), "{name}");
        if let Some(events) = golden.get("events") {
            for index in 0..events.as_array().expect("events").len() {
                let mut unknown = golden.clone();
                unknown["events"][index]["later"] = Value::Bool(true);
                assert!(!schema.is_valid(&unknown), "{name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_back_the_same(record in any_record()) {
        let mut bytes = b"before".to_vec();
        record::encode(record.epoch, record.n, &record.body, &mut bytes);
        prop_assert_eq!(record::decode(&bytes[6..]).expect("a record"), record);
    }
}

/// The JSON of `value`, with the members of each object turned by so many places.
fn turned(value: &Value, by: usize) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => {
            format!("[{}]", list(items.iter().map(|item| turned(item, by)).collect()))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), turned(value, by))
            };
            let mut members: Vec<String> = members.iter().map(member).collect();
            let by = by % members.len().max(1);
            members.rotate_left(by);
            format!("{{{}}}", list(members))
        }
        other => other.to_string(),
    }
}

/// What bytes say, if they are a record; and the same of them with a space in front, which no record
/// has that this program wrote.
fn read_twice(bytes: &[u8]) -> [Option<Record>; 2] {
    [bytes.to_vec(), [b" ", bytes].concat()].map(|bytes| record::decode(&bytes).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// There is one reader for what this program writes and one for all JSON.
    #[test]
    fn a_record_says_the_same_however_it_is_written(record in any_record(), by in 0..30_usize) {
        let text = turned(&encoded(&record), by);
        prop_assert_eq!(record::decode(text.as_bytes()).expect("a record"), record);
    }

    #[test]
    fn a_record_that_was_changed_is_the_same_to_both_readers(
        record in any_record(),
        (at, from, to) in any::<(Index, Index, Index)>(),
        change in 0..4_usize,
        byte in prop_oneof![any::<u8>(), select(br#"0123456789"\{}[],:-+.eZ tfn"#.to_vec())],
    ) {
        let mut bytes = Vec::new();
        record::encode(record.epoch, record.n, &record.body, &mut bytes);
        // Between members, so that what is copied or lost is often a whole one.
        let places: Vec<usize> = (0..bytes.len()).filter(|at| b",{[]}".contains(&bytes[*at])).collect();
        let (from, to) = (*from.get(&places), *to.get(&places));
        let part = bytes[from.min(to)..from.max(to)].to_vec();
        match change {
            0 => *at.get_mut(&mut bytes) = byte,
            1 => bytes.insert(at.index(bytes.len()), byte),
            2 => drop(bytes.drain(from.min(to)..from.max(to))),
            _ => drop(bytes.splice(from..from, part)),
        }
        let [one, other] = read_twice(&bytes);
        prop_assert_eq!(one, other, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_is_written_is_what_the_schema_says() {
    let schema = schema();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let checked = runner.run(&any_record(), |record| {
        let json = encoded(&record);
        match schema.validate(&json) {
            Ok(()) => Ok(()),
            Err(error) => Err(TestCaseError::fail(format!("{error} in {json}"))),
        }
    });
    checked.expect("every record satisfies the schema");
}

fn any_record() -> impl Strategy<Value = Record> {
    let record = (any::<u64>(), 1_u64.., any_body());
    record.prop_map(|(epoch, n, body)| {
        let n = if body.kind() == Kind::Claim { 0 } else { n };
        Record { epoch: Epoch(epoch), n, body }
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let hash = || "[0-9a-f]{32}";
    prop_oneof![
        8 => any_commit().prop_map(Body::Commit),
        1 => (any::<String>(), uuid()).prop_map(|(node, nonce)| Body::Claim { node, nonce }),
        1 => vec((any::<u16>().prop_map(Partition), any::<u64>()), 0..4)
            .prop_map(|seen| Body::Watermark { seen }),
        1 => vec((any::<u16>().prop_map(Partition), any::<u64>()), 0..4)
            .prop_map(|out| Body::Acknowledged { out }),
        1 => (any::<String>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(subscription, next, epoch, n)| Body::Cursor {
                subscription,
                cursor: Box::new(Cursor::begin(Place {
                    next: Offset(next),
                    epoch: Epoch(epoch),
                    n,
                })),
            }
        ),
        1 => hash().prop_map(|hash| Body::Release { hash }),
        1 => hash().prop_map(|hash| Body::Checkpoint { hash }),
    ]
}

prop_compose! {
    fn any_commit()(
        id in uuid(),
        app in any::<u32>(),
        user in user(),
        version in version(),
        // Up to the last moment that RFC 3339 can write.
        at in 0_i64..253_402_300_800_000,
        by in origin(),
        cause in option::of(cause()),
        events in vec(event(), 1..6),
    ) -> Commit {
        let key = UserKey { app: AppId(app), user };
        Commit { id, key, version, at: Timestamp(at), by: Arc::new(by), cause, events }
    }
}

prop_compose! {
    fn origin()(
        operator in text(), request in uuid(), ip in text(), platform in text(),
    ) -> Origin {
        Origin { operator, request, ip, platform }
    }
}

prop_compose! {
    fn cause()(
        partition in any::<u16>(), seq in any::<u64>(), user in user(), version in version(),
    ) -> Cause {
        Cause { partition: Partition(partition), seq, user, version }
    }
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(String::into_boxed_str)
}

fn user() -> impl Strategy<Value = UserId> {
    "[!-~]{1,32}".prop_map(|name| UserId::parse(&name).expect("a name of the right shape"))
}

fn version() -> impl Strategy<Value = Version> {
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

/// Any event; the names in `event_names!` keep this list honest: see the test below.
fn event() -> impl Strategy<Value = Event> {
    let yes = any::<bool>;
    prop_oneof![
        Just(Event::AccountImported {}),
        profile_change().prop_map(Event::ProfileChanged),
        Just(Event::AccountDeleted {}),
        (user(), yes())
            .prop_map(|(target, remain_friends)| Event::UserBlocked { target, remain_friends }),
        user().prop_map(|target| Event::UserUnblocked { target }),
        (user(), edge(), form(), yes(), option::of(edge()), yes(), card()).prop_map(
            |(peer, edge, form, forced, over, again, card)| Event::FriendOffered {
                peer,
                edge,
                form,
                forced,
                over,
                again,
                card
            }
        ),
        (user(), edge(), card()).prop_map(|(peer, edge, card)| Event::FriendRequested {
            peer,
            edge,
            card
        }),
        (user(), edge(), edge(), yes(), agreement()).prop_map(
            |(peer, offer, edge, added, agreement)| Event::FriendAccepted {
                peer,
                offer,
                edge,
                added,
                agreement
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

#[test]
fn the_generated_events_are_of_every_kind() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let event = event().new_tree(&mut runner).expect("an event").current();
        seen.insert(event_name(&event));
    }
    assert_eq!(seen, EVENT_NAMES.iter().copied().collect());
}
