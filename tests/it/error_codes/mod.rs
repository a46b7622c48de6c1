//! Every code of the catalogue is answered, with its text, and stands in the contract.
//! Rule: rest-api.md 1.11, 2.3 and 11.

mod faults;
mod spec;

use std::collections::BTreeSet;

use cordon::domain::AppId;
use cordon::http::error_code as code;
use cordon::http::{ErrorCode, Operation};
use cordon::usersig;
use serde_json::{Value, json};

use crate::support::{ADMIN, APP, Answer, Caller, Identity, KEY, Setup, TestNode};

use Operation as O;

/// What makes a node answer a code that no request alone brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its journal cannot be written.
    Journal,
    /// The owner of the user's partition is another node, which says nothing.
    Owner,
    /// Whoever is asked beforehand is not there, and the app takes that for a no.
    Receiver,
}

/// The rows that need a fault of the node; each is brought about in [`faults`].
const NEED_A_FAULT: [(ErrorCode, Fault); 15] = [
    (code::MESSAGE_FORBIDDEN, Fault::Receiver),
    (code::FORBIDDEN, Fault::Receiver),
    (code::RELATIONS_BROKEN, Fault::Journal),
    (code::FRIEND_ADD_BROKEN, Fault::Journal),
    (code::FRIEND_CHECK_BROKEN, Fault::Journal),
    (code::RELATIONS_TIMED_OUT, Fault::Owner),
    (code::BLACK_LIST_CHECK_TIMED_OUT, Fault::Owner),
    (code::PROFILES_BROKEN, Fault::Journal),
    // The service of profiles has no code of its own for a timeout.
    (code::PORTRAIT_GET_BROKEN, Fault::Owner),
    (code::ACCOUNTS_TIMED_OUT, Fault::Owner),
    (code::ACCOUNTS_BROKEN, Fault::Journal),
    (code::MESSAGES_TIMED_OUT, Fault::Owner),
    (code::MESSAGES_BROKEN, Fault::Journal),
    (code::WEBHOOKS_TIMED_OUT, Fault::Owner),
    (code::WEBHOOKS_BROKEN, Fault::Journal),
];

/// The names of the rows that an answer to a call of `operation` has, in its envelope and its
/// entries. Fails if a number comes with a text that is not its own.
fn rows(operation: Option<Operation>, answer: &Answer) -> BTreeSet<&'static str> {
    let row = |number: &Value, text: &Value| {
        let is_it = |row: &&ErrorCode| {
            let message = match operation {
                Some(operation) => row.message.replace("<Operation>", operation.name()),
                None => row.message.to_owned(),
            };
            *number == row.number && *text == message
        };
        let row = code::ALL.iter().find(is_it);
        row.unwrap_or_else(|| panic!("{number} {text} is not in the catalogue")).name
    };
    let body = &answer.body;
    let entries = body.as_object().into_iter().flat_map(|fields| fields.values());
    let entries = entries.filter_map(Value::as_array).flatten();
    let entries = entries.map(|entry| (&entry["ResultCode"], &entry["ResultInfo"]));
    let all = entries.chain([(&body["ErrorCode"], &body["ErrorInfo"])]);
    all.filter(|(number, _)| number.is_u64() && **number != 0).map(|(n, t)| row(n, t)).collect()
}

/// An app that is off, one with limits of frequency, and one that deletes nobody.
const OFF: u32 = 1_400_000_002;
const LIMITED: u32 = 1_400_000_003;
const LASTING: u32 = 1_400_000_004;

/// A node on which every limit is near.
fn node() -> TestNode {
    let app = |id: u32, more: &str| format!("[[app]]\nid = {id}\nkeys = [\"{KEY}\"]\n{more}\n");
    let apps = [
        app(OFF, "enabled = false"),
        app(LIMITED, "rate_limits = \"im_open_login_svc/account_check=1, app_per_second=2\""),
        app(
            LASTING,
            "[app.account]\ndelete_allowed = false\n[[app.webhook.subscription]]\nname = \"pulled\"",
        ),
    ];
    Setup::new()
        .unset("RATE_LIMITS")
        .set("HTTP_BODY_BYTES_MAX", "4 KiB")
        .set("LIMITS_BLOCKS_MAX", "1")
        .set("LIMITS_FRIENDS_MAX", "1")
        .set("LIMITS_REQUESTS_MAX", "1")
        .set("LIMITS_GROUPS_MAX", "1")
        .set("C2C_MESSAGE_BYTES_MAX", "100")
        .set("C2C_BATCH_RECEIVERS_PER_MINUTE", "1")
        .set("WEBHOOK_SUBSCRIPTIONS_MAX", "1")
        .file(&apps.concat())
        .start()
}

/// What is there before the cases: `foe` is blocked, `pat` and `sam` are friends and may have no
/// other, `shy` has a request, `loner` wants none, `mute` may send none.
fn prepare(caller: &mut Caller) {
    caller.import(&["amy", "bob", "foe", "pat", "sam", "eve", "fay", "shy", "loner", "mute"]);
    caller.block("amy", &["foe"]);
    caller.befriend("pat", &["sam"]);
    caller.allow("shy", "NeedConfirm");
    assert_eq!(caller.befriend("eve", &["shy"]).codes(), [30539]);
    caller.allow("loner", "DenyAny");
    let forbidden = json!("AdminForbid_Type_SendOut");
    caller.set_profile("mute", &[("Tag_Profile_IM_AdminForbidType", forbidden)]).ok();
    let off = json!({"Name": "off", "Url": "http://receiver.example/", "Enabled": 0});
    caller.call("webhook/subscription_set", &off).ok();
    for _ in 0..16 {
        // None of them ends, because nothing is sent.
        caller.call("webhook/replay_start", &json!({"Name": "off"})).ok();
    }
}

/// One request, and the row that its answer has.
struct Case {
    row: ErrorCode,
    operation: Option<Operation>,
    method: &'static str,
    target: String,
    body: String,
}

/// A call by the admin of the first app.
fn call(row: ErrorCode, operation: Operation, body: Value) -> Case {
    call_of(row, operation, &Identity::default().query(), &body.to_string())
}

fn call_of(row: ErrorCode, operation: Operation, query: &str, body: &str) -> Case {
    let target = format!("/v4/{}?{query}", operation.command());
    Case { row, operation: Some(operation), method: "POST", target, body: body.to_owned() }
}

/// What is refused at the door, whatever it asks for.
fn at_the_door() -> Vec<Case> {
    let call = |row, query: &str| call_of(row, O::AccountCheck, query, "{}");
    let of = |app, identifier| Identity::new(app, KEY, identifier);
    let with = |usersig: String| Identity { usersig, ..Identity::default() }.query();
    let at = |row, method, path: &str| {
        let target = format!("{path}?{}", Identity::default().query());
        Case { row, operation: None, method, target, body: "{}".to_owned() }
    };
    let limited = of(LIMITED, ADMIN).query();
    let nobody = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
    vec![
        at(code::URL_UNREADABLE, "GET", "/v4/sns/friend_get"),
        at(code::COMMAND_UNKNOWN, "POST", "/v4/sns/friend_get_all"),
        call(code::APP_ID_MISSING, ""),
        call(code::APP_ID_INVALID, "sdkappid=x"),
        call(code::PARAMETER_INVALID, "sdkappid=7"),
        call(code::APP_UNKNOWN, &of(7, ADMIN).query()),
        call(code::APP_DISABLED, &of(OFF, ADMIN).query()),
        call(code::SIGNATURE_ILLEGAL, &with("xxx".to_owned())),
        call(code::SIGNATURE_OF_OTHER_APP, &with(of(OFF, ADMIN).usersig)),
        call(code::SIGNATURE_OF_OTHER_IDENTIFIER, &with(of(APP, "amy").usersig)),
        call(code::SIGNATURE_FORGED, &with(Identity::new(APP, "another key", ADMIN).usersig)),
        call(
            code::SIGNATURE_EXPIRED,
            &with(usersig::sign(AppId(APP), KEY, ADMIN, 1, 1_700_000_000)),
        ),
        call(code::ADMIN_REQUIRED, &of(APP, "amy").query()),
        // The first call of each app takes its place.
        call_of(code::ACCOUNT_PARAMETER_ILLEGAL, O::AccountCheck, &limited, "{}"),
        call_of(code::COMMAND_TOO_FREQUENT, O::AccountCheck, &limited, &nobody),
        call_of(code::REQUEST_INVALID, O::FriendGet, &limited, "{}"),
        call_of(code::APP_TOO_FREQUENT, O::FriendGet, &limited, "{}"),
        call_of(code::TIMED_OUT, O::AccountCheck, &Identity::default().query(), &" ".repeat(4097)),
        call(code::ACCOUNT_PARAMETER_ILLEGAL, &Identity::default().query()),
        call_of(code::BODY_NOT_JSON, O::AccountCheck, &Identity::default().query(), "[]"),
        call_of(code::MESSAGE_BODY_NOT_JSON, O::Sendmsg, &Identity::default().query(), "[]"),
    ]
}

/// Blocks, friends, groups and requests.
fn of_relations() -> Vec<Case> {
    let to = |who: &str, whom: &str| json!({"From_Account": who, "To_Account": [whom]});
    let add = |who: &str, whom: &str| {
        let item = json!({"To_Account": whom, "AddSource": "AddSource_Type_test"});
        json!({"From_Account": who, "AddFriendItem": [item]})
    };
    let groups = json!({"From_Account": "amy", "GroupName": ["work", "chess"]});
    let grouped = json!({"From_Account": "amy", "GroupName": ["work"], "To_Account": ["b ob"]});
    let agree = json!({"From_Account": "amy", "ResponseFriendItem":
        [{"To_Account": "bob", "ResponseAction": "Response_Action_Agree"}]});
    vec![
        call(code::ACCOUNT_NOT_TEXT, O::FriendGet, json!({"From_Account": 7})),
        call(code::REQUEST_INVALID, O::BlackListAdd, json!({"From_Account": "amy"})),
        call(code::ACCOUNT_ILLEGAL, O::FriendDelete, to("amy", "b ob")),
        call(code::ACCOUNT_NOT_IMPORTED, O::FriendGet, json!({"From_Account": "nobody"})),
        call(code::ALREADY_BLOCKED, O::BlackListAdd, to("amy", "foe")),
        call(code::NOT_BLOCKED, O::BlackListDelete, to("amy", "bob")),
        call(code::BLOCKLIST_FULL, O::BlackListAdd, to("amy", "bob")),
        call(code::ALREADY_FRIEND, O::FriendAdd, add("pat", "sam")),
        call(code::FRIEND_LIST_FULL, O::FriendAdd, add("pat", "bob")),
        call(code::PEER_FRIEND_LIST_FULL, O::FriendAdd, add("bob", "pat")),
        call(code::PEER_BLOCKED, O::FriendAdd, add("amy", "foe")),
        call(code::BLOCKED_BY_PEER, O::FriendAdd, add("foe", "amy")),
        call(code::REQUESTS_FORBIDDEN, O::FriendAdd, add("mute", "bob")),
        call(code::PEER_ACCEPTS_NOBODY, O::FriendAdd, add("bob", "loner")),
        call(code::CONFIRMATION_NEEDED, O::FriendAdd, add("eve", "shy")),
        call(code::TOO_MANY_REQUESTS, O::FriendAdd, add("fay", "shy")),
        call(code::REQUEST_UNKNOWN, O::FriendResponse, agree),
        call(code::TOO_MANY_GROUPS, O::GroupAdd, groups),
        call(code::GROUP_ADD_ACCOUNT_ILLEGAL, O::GroupAdd, grouped),
        call(code::FRIEND_UNKNOWN, O::FriendGetList, to("amy", "bob")),
        call(code::NOT_FRIEND, O::FriendDelete, to("amy", "bob")),
    ]
}

/// Accounts and profiles.
fn of_accounts() -> Vec<Case> {
    let set = |who: &str, tag: &str, value: Value| {
        let tag = format!("Tag_Profile_IM_{tag}");
        json!({"From_Account": who, "ProfileItem": [{"Tag": tag, "Value": value}]})
    };
    let delete = json!({"DeleteItem": [{"UserID": "nobody"}]});
    let lasting = Identity::new(LASTING, KEY, ADMIN).query();
    vec![
        call(code::ACCOUNT_PARAMETER_ILLEGAL, O::AccountImport, json!({})),
        call(code::ACCOUNT_UNKNOWN, O::AccountDelete, delete.clone()),
        call_of(code::DELETION_FORBIDDEN, O::AccountDelete, &lasting, &delete.to_string()),
        call(code::PROFILE_REQUEST_INVALID, O::PortraitSet, json!({})),
        call(code::PROFILE_ACCOUNTS_MISSING, O::PortraitGet, json!({})),
        call(code::PROFILE_ACCOUNT_NOT_IMPORTED, O::PortraitSet, set("x", "Level", json!(1))),
        call(code::PROFILE_TAG_UNKNOWN, O::PortraitSet, set("amy", "Shoes", json!(1))),
        call(code::PROFILE_VALUE_TOO_LONG, O::PortraitSet, set("amy", "Location", long(17))),
        call(code::PROFILE_VALUE_NOT_ALLOWED, O::PortraitSet, set("amy", "Level", json!(-1))),
        call(code::PROFILE_VALUE_TYPE_WRONG, O::PortraitSet, set("amy", "Level", json!("1"))),
    ]
}

fn of_messages() -> Vec<Case> {
    let words = json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}]);
    let message = |to: Value, fields: Value| {
        let mut body = json!({"To_Account": to, "MsgRandom": 8, "MsgBody": words});
        let all = body.as_object_mut().expect("an object");
        all.extend(fields.as_object().expect("an object").clone());
        body
    };
    let one = |row, fields| call(row, O::Sendmsg, message(json!("bob"), fields));
    let many = |row, to, fields| call(row, O::Batchsendmsg, message(to, fields));
    vec![
        one(code::MESSAGE_REQUEST_INVALID, json!({"MsgSeq": "7"})),
        one(code::MESSAGE_TOO_LONG, json!({"CloudCustomData": long(100)})),
        one(code::MESSAGE_BODY_MISSING, json!({"MsgBody": []})),
        one(code::RECEIVER_UNKNOWN, json!({"To_Account": "nobody"})),
        one(code::MESSAGE_RANDOM_WRONG, json!({"MsgRandom": "8"})),
        one(code::MESSAGE_TIME_WRONG, json!({"MsgTimeStamp": "now"})),
        one(code::MESSAGE_BODY_NOT_ARRAY, json!({"MsgBody": "hi"})),
        one(code::SENDER_UNKNOWN, json!({"From_Account": "nobody"})),
        one(code::MESSAGE_ELEMENT_WRONG, json!({"MsgBody": ["hi"]})),
        one(code::MESSAGE_SYNC_WRONG, json!({"SyncOtherMachine": 3})),
        one(code::MESSAGE_PUSH_WRONG, json!({"OfflinePushInfo": []})),
        one(code::MESSAGE_LIFE_TIME_WRONG, json!({"MsgLifeTime": "long"})),
        many(code::TOO_MANY_RECEIVERS, json!(vec!["b"; 501]), json!({})),
        many(code::ALL_RECEIVERS_UNKNOWN, json!(["nobody"]), json!({})),
        many(code::RECEIVERS_NOT_ARRAY, json!("bob"), json!({})),
        many(code::RECEIVERS_MISSING, json!([]), json!({})),
        many(code::BATCH_MESSAGE_TOO_LONG, json!(["bob"]), json!({"CloudCustomData": long(100)})),
        many(code::TOO_MANY_MESSAGES, json!(["amy", "bob"]), json!({})),
    ]
}

/// Webhooks.
fn of_webhooks() -> Vec<Case> {
    let set = |row, fields: Value| {
        let mut body = json!({"Name": "off"});
        body.as_object_mut()
            .expect("it is one")
            .extend(fields.as_object().expect("fields").clone());
        call(row, O::SubscriptionSet, body)
    };
    let lasting = Identity::new(LASTING, KEY, ADMIN).query();
    let pulled = json!({"Name": "pulled"}).to_string();
    vec![
        set(code::WEBHOOK_NAME_WRONG, json!({"Name": "Off"})),
        set(code::WEBHOOK_URL_WRONG, json!({"Url": "ftp://receiver.example"})),
        set(code::WEBHOOK_COMMANDS_WRONG, json!({"Commands": ["Sns.Callback"]})),
        set(code::WEBHOOK_FORMAT_WRONG, json!({"Format": "xml"})),
        set(code::WEBHOOK_SECRET_WRONG, json!({"Url": "http://a", "Format": "standard"})),
        set(code::WEBHOOK_NUMBER_WRONG, json!({"TimeoutMs": 99})),
        set(code::TOO_MANY_SUBSCRIPTIONS, json!({"Name": "other"})),
        call(code::WEBHOOK_PLACE_WRONG, O::SubscriptionSeek, json!({"Name": "off"})),
        call(code::WEBHOOK_CURSOR_WRONG, O::EventsGet, json!({"Cursor": "?"})),
        call(code::WEBHOOK_RANGE_WRONG, O::ReplayStart, json!({"Name": "off", "Ranges": []})),
        call(code::SUBSCRIPTION_UNKNOWN, O::SubscriptionTest, json!({"Name": "nobody"})),
        call_of(code::SUBSCRIPTION_OF_SETTINGS, O::SubscriptionDelete, &lasting, &pulled),
        call(code::REPLAY_UNKNOWN, O::ReplayEnd, json!({"Number": 17})),
        call(code::TOO_MANY_REPLAYS, O::ReplayStart, json!({"Name": "off"})),
    ]
}

fn long(bytes: usize) -> Value {
    json!("x".repeat(bytes))
}

#[test]
fn every_code_of_the_catalogue_is_answered_by_a_request_unless_it_needs_a_fault() {
    let node = node();
    let mut caller = node.caller();
    prepare(&mut caller);
    let mut seen = BTreeSet::new();
    let cases = [at_the_door(), of_relations(), of_accounts(), of_messages(), of_webhooks()];
    for Case { row, operation, method, target, body } in cases.into_iter().flatten() {
        let answer = Answer::of(caller.ask(method, &target, body.as_bytes()).expect("an answer"));
        let found = rows(operation, &answer);
        assert_eq!(found, BTreeSet::from([row.name]), "{target} {body}: {}", answer.body);
        seen.extend(found);
    }
    let faults = NEED_A_FAULT.iter().map(|(row, _)| row.name);
    for name in faults {
        assert!(seen.insert(name), "{name} needs no fault");
    }
    let all: BTreeSet<&str> = code::ALL.iter().map(|row| row.name).collect();
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "no case brings about {missing:?}");
}
