//! The catalogue: every code this server answers, in one table, and the one place where a refusal
//! or a fault becomes a code.
//!
//! The numbers and texts are rest-api.md 1.11, 2.3 and 11; texts without a source are ours. Callers
//! compare some of the texts, so a change here is a change for outsiders: a test holds this table
//! equal to `schemas/error_codes.json`.

use std::fmt;
use std::ops::RangeInclusive;

use serde::ser::{Serialize, Serializer};

use super::answer::Failure;
use super::{Operation, Service};
use crate::actors::{ExecuteError, ItemError};
use crate::domain::Rejection;
use crate::usersig;

/// What stands in a message for the operation's name.
const PLACEHOLDER: &str = "<Operation>";

/// One way to fail, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// `ErrorCode` or `ResultCode`.
    pub number: u32,
    /// What we call it; unique in [`ALL`], while several share one number.
    pub name: &'static str,
    /// `ErrorInfo` or `ResultInfo`; `<Operation>` in it stands for the name of the operation.
    pub message: &'static str,
}

impl ErrorCode {
    /// The text as it goes out, for a call of `operation`. Only codes of commands name one.
    pub(super) fn text(self, operation: Option<Operation>) -> Text {
        Text { code: self, operation }
    }
}

/// An error text with the operation's name filled in.
#[derive(Clone, Copy)]
pub(super) struct Text {
    code: ErrorCode,
    operation: Option<Operation>,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.code.message;
        match (self.operation, message.split_once(PLACEHOLDER)) {
            (Some(operation), Some((before, after))) => {
                f.write_str(before)?;
                f.write_str(operation.name())?;
                f.write_str(after)
            }
            (Some(_), None) | (None, _) => f.write_str(message),
        }
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! catalogue {
    ($($name:ident = $number:literal, $message:literal;)*) => {
        $(
            #[doc = concat!(stringify!($number), ": `", $message, "`")]
            pub const $name: ErrorCode =
                ErrorCode { number: $number, name: stringify!($name), message: $message };
        )*

        /// Every code that is answered, by number.
        pub const ALL: &[ErrorCode] = &[$($name),*];
    };
}

catalogue! {
    MESSAGE_REQUEST_INVALID = 20001, "request invalid";
    MESSAGE_FORBIDDEN = 20006, "message refused by webhook";
    REQUEST_INVALID = 30001, "Err_SNS_<Operation>_Request_Invalid";
    ALREADY_BLOCKED = 30001, "Err_SNS_<Operation>_Already_Exist";
    NOT_BLOCKED = 30001, "Err_SNS_<Operation>_Not_Exist";
    ALREADY_FRIEND = 30001, "Err_SNS_<Operation>_Friend_Exist";
    FRIEND_UNKNOWN = 30001, "Err_SNS_<Operation>_Friend_Not_Exist";
    ACCOUNT_ILLEGAL = 30002, "Err_SNS_<Operation>_SdkAppId_Illegal";
    GROUP_ADD_ACCOUNT_ILLEGAL = 30002, "ERR_SDKAPPID_ILLEGAL";
    ACCOUNT_NOT_IMPORTED = 30003, "Err_SNS_<Operation>_Account_Not_Exist";
    RELATIONS_BROKEN = 30006, "Err_SNS_<Operation>_Internal_Error";
    FRIEND_ADD_BROKEN = 30006, "Err_SNS_FriendAdd_Unpack_Profile_Data_Fail";
    FRIEND_CHECK_BROKEN = 30006, "Err_SNS_FriendCheck_Check_Relation_Exec_Task_Fail";
    RELATIONS_TIMED_OUT = 30007, "Err_SNS_<Operation>_Timeout";
    BLACK_LIST_CHECK_TIMED_OUT = 30007, "Err_SNS_BlackListCheck_Check_Reverse_BlackList_Fail";
    REQUESTS_FORBIDDEN = 30009, "Err_SNS_<Operation>_Admin_Forbid";
    FRIEND_LIST_FULL = 30010, "Err_SNS_<Operation>_My_Friend_Num_Exceed_Threshold";
    TOO_MANY_GROUPS = 30011, "Err_SNS_<Operation>_Group_Num_Exceed_Threshold";
    TOO_MANY_REQUESTS = 30012, "Err_SNS_<Operation>_Pendency_Num_Exceed_Threshold";
    BLOCKLIST_FULL = 30013, "Err_SNS_<Operation>_BlackList_Num_Exceed_Threshold";
    PEER_FRIEND_LIST_FULL = 30014, "Err_SNS_<Operation>_Peer_Friend_Num_Exceed_Threshold";
    PEER_BLOCKED = 30515, "Err_SNS_<Operation>_Friend_In_Self_BlackList";
    PEER_ACCEPTS_NOBODY = 30516, "Err_SNS_<Operation>_Friend_Allow_Type_Forbid";
    BLOCKED_BY_PEER = 30525, "Err_SNS_<Operation>_Self_In_Friend_BlackList";
    CONFIRMATION_NEEDED = 30539, "Err_SNS_<Operation>_Need_Confirm";
    REQUEST_UNKNOWN = 30614, "Err_SNS_<Operation>_Pendency_Not_Exist";
    NOT_FRIEND = 31704, "Err_SNS_<Operation>_Not_Friend";
    FORBIDDEN = 38000, "Err_SNS_<Operation>_Webhook_Forbid";
    PROFILE_REQUEST_INVALID = 40001, "Err_Profile_Comm_Decode_Fail";
    PROFILE_ACCOUNTS_MISSING = 40002, "Err_Profile_<Operation>_To_Account_Missing";
    PROFILE_ACCOUNT_NOT_IMPORTED = 40003, "Err_Profile_<Operation>_Account_Not_Exist";
    PROFILES_BROKEN = 40006, "Err_Profile_<Operation>_Internal_Error";
    PORTRAIT_GET_BROKEN = 40006, "Err_Profile_PortraitGet_Read_Custom_Data_Fail";
    PROFILE_TAG_UNKNOWN = 40009, "Err_Profile_<Operation>_Tag_Not_Exist";
    PROFILE_VALUE_TOO_LONG = 40601, "Err_Profile_<Operation>_Value_Too_Long";
    PROFILE_VALUE_NOT_ALLOWED = 40605, "Err_Profile_<Operation>_Value_Not_Allowed";
    PROFILE_VALUE_TYPE_WRONG = 40610, "Err_Profile_<Operation>_Value_Type_Wrong";
    URL_UNREADABLE = 60002, "HTTP parse Error";
    BODY_NOT_JSON = 60003, "Request Json Parse Error";
    APP_ID_INVALID = 60006, "sdkappid invalid";
    COMMAND_TOO_FREQUENT = 60007, "request over frequency limit";
    TIMED_OUT = 60008, "service timeout or request format error,please check and try again";
    COMMAND_UNKNOWN = 60009, "request resource error";
    ADMIN_REQUIRED = 60010, "admin account required";
    APP_TOO_FREQUENT = 60011, "sdkappid over frequency limit";
    APP_ID_MISSING = 60012, "sdkappid missing";
    ACCOUNT_NOT_TEXT = 60015, "body account invalid";
    APP_DISABLED = 60016, "sdkappid disabled";
    PARAMETER_INVALID = 60025, "url parameter invalid";
    SIGNATURE_EXPIRED = 70001, "UserSig expired";
    SIGNATURE_ILLEGAL = 70003, "The UserSig in use is illegal. Please regenerate UserSig through official API.";
    SIGNATURE_FORGED = 70009, "UserSig verification Failed. The UserSig in use maybe generated by Secret Key from other SDKAppID. Please regenerate UserSig by Secret Key from its own SDKAppID.";
    SIGNATURE_OF_OTHER_IDENTIFIER = 70013, "identifier not match";
    SIGNATURE_OF_OTHER_APP = 70014, "sdkappid not match";
    APP_UNKNOWN = 70020, "sdkappid not exist";
    ACCOUNT_UNKNOWN = 70107, "Err_TLS_PT_Open_Login_Account_Not_Exist";
    ACCOUNTS_TIMED_OUT = 70169, "account service timeout";
    ACCOUNT_PARAMETER_ILLEGAL = 70402, "account parameter illegal";
    ACCOUNTS_BROKEN = 70500, "account service internal error";
    DELETION_FORBIDDEN = 71000, "account deletion not allowed";
    MESSAGE_TOO_LONG = 80002, "message too long";
    MESSAGE_BODY_NOT_JSON = 90001, "Fail to Parse json data of body, Please check it";
    MESSAGE_BODY_MISSING = 90002, "MsgBody missing or empty";
    RECEIVER_UNKNOWN = 90003, "To_Account missing or not imported";
    MESSAGE_RANDOM_WRONG = 90005, "MsgRandom missing or not an integer";
    MESSAGE_TIME_WRONG = 90006, "MsgTimeStamp not an integer";
    MESSAGE_BODY_NOT_ARRAY = 90007, "MsgBody not an array";
    SENDER_UNKNOWN = 90008, "From_Account not imported";
    MESSAGE_ELEMENT_WRONG = 90010, "element of MsgBody wrong";
    TOO_MANY_RECEIVERS = 90011, "too many receivers";
    ALL_RECEIVERS_UNKNOWN = 90012, "invalid To_Account";
    RECEIVERS_NOT_ARRAY = 90028, "To_Account not an array";
    RECEIVERS_MISSING = 90029, "To_Account empty";
    MESSAGE_SYNC_WRONG = 90031, "SyncOtherMachine wrong";
    MESSAGE_PUSH_WRONG = 90043, "OfflinePushInfo wrong";
    MESSAGE_LIFE_TIME_WRONG = 90044, "MsgLifeTime not an integer";
    BATCH_MESSAGE_TOO_LONG = 90055, "message too long";
    TOO_MANY_MESSAGES = 90057, "too many messages in a minute";
    MESSAGES_TIMED_OUT = 90994, "message service timeout";
    MESSAGES_BROKEN = 91000, "message service internal error";
    WEBHOOK_NAME_WRONG = 97001, "Name missing or wrong";
    WEBHOOK_URL_WRONG = 97002, "Url wrong";
    WEBHOOK_COMMANDS_WRONG = 97003, "Commands wrong";
    WEBHOOK_FORMAT_WRONG = 97004, "Format wrong";
    WEBHOOK_SECRET_WRONG = 97005, "Secret missing or wrong";
    WEBHOOK_NUMBER_WRONG = 97006, "value out of range";
    WEBHOOK_PLACE_WRONG = 97007, "Offsets, Time or End wrong";
    WEBHOOK_RANGE_WRONG = 97008, "range of the replay wrong";
    WEBHOOK_CURSOR_WRONG = 97009, "Cursor, From or Since wrong";
    SUBSCRIPTION_UNKNOWN = 97011, "no such subscription";
    SUBSCRIPTION_OF_SETTINGS = 97012, "subscription stands in the settings";
    TOO_MANY_SUBSCRIPTIONS = 97013, "too many subscriptions";
    REPLAY_UNKNOWN = 97014, "no such replay";
    TOO_MANY_REPLAYS = 97015, "too many replays";
    WEBHOOKS_TIMED_OUT = 97994, "webhook service timeout";
    WEBHOOKS_BROKEN = 97999, "webhook service internal error";
}

/// The codes by which an app's own server refuses friends; they are handed on. Rule: webhooks.md 8.3.
pub(super) const FRIENDS_REFUSED: RangeInclusive<u32> = 38_000..=39_000;
/// The codes by which it refuses messages; they are handed on. Rule: webhooks.md 10.
pub(super) const MESSAGE_REFUSED: RangeInclusive<u32> = 120_001..=130_000;

/// `ErrorCodeForSender` when a block stops a message. Rule: extensions.md 4.
pub(super) const BLOCKED_SEND: u32 = 20007;
/// The same without any friendship, where one is asked for.
pub(super) const SEND_TO_STRANGER: u32 = 20009;
/// The same when the receiver does not have the sender as a friend.
pub(super) const SEND_BY_NO_FRIEND: u32 = 20010;
/// The same when the sender does not have the receiver as a friend.
pub(super) const SEND_TO_NO_FRIEND: u32 = 20011;

/// What an illegal account among the entries of a call of `operation` is called.
/// Rule: rest-api.md 5 for the one that differs.
pub(super) fn illegal_account(operation: Operation) -> ErrorCode {
    match operation {
        Operation::GroupAdd => GROUP_ADD_ACCOUNT_ILLEGAL,
        _ => ACCOUNT_ILLEGAL,
    }
}

/// What an inner fault of `operation`'s service is called.
pub(super) fn broken(operation: Operation) -> ErrorCode {
    match (operation, operation.service()) {
        (Operation::FriendAdd, _) => FRIEND_ADD_BROKEN,
        (Operation::FriendCheck, _) => FRIEND_CHECK_BROKEN,
        (Operation::PortraitGet, _) => PORTRAIT_GET_BROKEN,
        (_, Service::Relations) => RELATIONS_BROKEN,
        (_, Service::Profiles) => PROFILES_BROKEN,
        (_, Service::Messages) => MESSAGES_BROKEN,
        (_, Service::Accounts) => ACCOUNTS_BROKEN,
        (_, Service::Webhooks) => WEBHOOKS_BROKEN,
    }
}

/// What a timeout inside `operation`'s service is called.
pub(super) fn timed_out(operation: Operation) -> ErrorCode {
    match (operation, operation.service()) {
        (Operation::BlackListCheck, _) => BLACK_LIST_CHECK_TIMED_OUT,
        (_, Service::Relations) => RELATIONS_TIMED_OUT,
        // The profile service has no code of its own for that.
        (_, Service::Profiles) => broken(operation),
        (_, Service::Messages) => MESSAGES_TIMED_OUT,
        (_, Service::Accounts) => ACCOUNTS_TIMED_OUT,
        (_, Service::Webhooks) => WEBHOOKS_TIMED_OUT,
    }
}

/// The code of a call that has no answer.
pub(super) fn of_execute(operation: Operation, error: &ExecuteError) -> ErrorCode {
    match error {
        ExecuteError::Rejected(rejection) => of_rejection(operation, *rejection),
        ExecuteError::Overloaded => TIMED_OUT,
        ExecuteError::TimedOut | ExecuteError::Elsewhere | ExecuteError::Interrupted => {
            timed_out(operation)
        }
        ExecuteError::Unavailable => broken(operation),
    }
}

/// How a call fails as a whole that has no answer. A key that stands for another call is a fault of the
/// URL that it stands in, for every service.
pub(super) fn of_call(operation: Operation, error: &ExecuteError) -> Failure {
    if let ExecuteError::Rejected(Rejection::KeyReused) = error {
        return Failure::Common(URL_UNREADABLE);
    }
    Failure::Whole(of_execute(operation, error))
}

/// The code of an entry whose owner had no answer, while others may have: the call goes on, so that too
/// much to do is no fault of the whole call there.
pub(super) fn of_entry(operation: Operation, error: &ExecuteError) -> ErrorCode {
    match error {
        ExecuteError::Overloaded => timed_out(operation),
        ExecuteError::Rejected(_)
        | ExecuteError::TimedOut
        | ExecuteError::Elsewhere
        | ExecuteError::Interrupted
        | ExecuteError::Unavailable => of_execute(operation, error),
    }
}

/// The code of one item of a command.
pub(super) fn of_item(operation: Operation, error: ItemError) -> ErrorCode {
    match error {
        ItemError::Rejected(rejection) => of_rejection(operation, rejection),
        ItemError::Owed => timed_out(operation),
    }
}

/// The code of a refusal by rule. What no rule of the operation's service says is a fault of ours.
pub(super) fn of_rejection(operation: Operation, rejection: Rejection) -> ErrorCode {
    let service = operation.service();
    let of = |owner: Service, code| if service == owner { code } else { broken(operation) };
    let relation = |code| of(Service::Relations, code);
    let webhook = |code| of(Service::Webhooks, code);
    match rejection {
        Rejection::AccountUnknown => match service {
            Service::Relations => ACCOUNT_NOT_IMPORTED,
            Service::Accounts => ACCOUNT_UNKNOWN,
            Service::Profiles => PROFILE_ACCOUNT_NOT_IMPORTED,
            Service::Messages => SENDER_UNKNOWN,
            Service::Webhooks => broken(operation),
        },
        Rejection::Forbidden => match service {
            Service::Relations => FORBIDDEN,
            Service::Messages => MESSAGE_FORBIDDEN,
            Service::Accounts | Service::Profiles | Service::Webhooks => broken(operation),
        },
        Rejection::SelfTarget => relation(REQUEST_INVALID),
        Rejection::AlreadyBlocked => relation(ALREADY_BLOCKED),
        Rejection::BlocklistFull => relation(BLOCKLIST_FULL),
        Rejection::NotBlocked => relation(NOT_BLOCKED),
        Rejection::AlreadyFriend => relation(ALREADY_FRIEND),
        Rejection::NotFriend if operation == Operation::FriendDelete => NOT_FRIEND,
        Rejection::NotFriend => relation(FRIEND_UNKNOWN),
        Rejection::PeerBlocked => relation(PEER_BLOCKED),
        Rejection::BlockedByPeer => relation(BLOCKED_BY_PEER),
        Rejection::RequestsForbidden => relation(REQUESTS_FORBIDDEN),
        Rejection::FriendListFull => relation(FRIEND_LIST_FULL),
        Rejection::PeerFriendListFull => relation(PEER_FRIEND_LIST_FULL),
        Rejection::TooManyGroups => relation(TOO_MANY_GROUPS),
        Rejection::PeerAcceptsNobody | Rejection::Declined => relation(PEER_ACCEPTS_NOBODY),
        Rejection::TooManyRequests => relation(TOO_MANY_REQUESTS),
        Rejection::ConfirmationNeeded => relation(CONFIRMATION_NEEDED),
        Rejection::RequestUnknown => relation(REQUEST_UNKNOWN),
        Rejection::KeyReused => relation(URL_UNREADABLE),
        Rejection::TooManySubscriptions => webhook(TOO_MANY_SUBSCRIPTIONS),
        Rejection::SubscriptionUnknown => webhook(SUBSCRIPTION_UNKNOWN),
        Rejection::SecretMissing => webhook(WEBHOOK_SECRET_WRONG),
        Rejection::TooManyReplays => webhook(TOO_MANY_REPLAYS),
        Rejection::ReplayUnknown => webhook(REPLAY_UNKNOWN),
    }
}

/// The code of a signature that does not open the door. Rule: rest-api.md 1.9, checks 8 to 12.
impl From<usersig::Error> for ErrorCode {
    fn from(error: usersig::Error) -> Self {
        match error {
            usersig::Error::Malformed => SIGNATURE_ILLEGAL,
            usersig::Error::WrongApp => SIGNATURE_OF_OTHER_APP,
            usersig::Error::WrongIdentifier => SIGNATURE_OF_OTHER_IDENTIFIER,
            usersig::Error::Forged => SIGNATURE_FORGED,
            usersig::Error::Expired => SIGNATURE_EXPIRED,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Row {
        code: u32,
        name: String,
        message: String,
    }

    #[test]
    fn the_table_equals_the_published_one() {
        let published: Vec<Row> =
            serde_json::from_str(include_str!("../../schemas/error_codes.json")).unwrap();
        let rows: Vec<Row> = ALL
            .iter()
            .map(|code| Row {
                code: code.number,
                name: code.name.to_owned(),
                message: code.message.to_owned(),
            })
            .collect();
        assert_eq!(rows, published);
    }

    #[test]
    fn names_are_unique_and_numbers_ascend() {
        let names: BTreeSet<&str> = ALL.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.is_sorted_by_key(|code| code.number));
    }

    #[test]
    fn every_text_of_the_specification_is_in_the_table() {
        let specification = include_str!("../../tests/spec/rest-api.md");
        let (_, from) = specification.split_once("## 11. Text values").unwrap();
        let (section, _) = from.split_once("## 12.").unwrap();
        let mut compared = 0;
        for row in section.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let Ok(number) = cells[0].parse::<u32>() else { continue };
            let (place, text) = (cells[1], cells[2].trim_matches('`'));
            let place = match place {
                "client answer to a request" => "friend_response",
                "openim" | "profile" => "any",
                place => place,
            };
            let operation = Operation::ALL
                .iter()
                .find(|operation| operation.command().ends_with(&format!("/{place}")))
                .copied();
            assert!(operation.is_some() || place == "common" || place.starts_with("any"), "{row}");
            let found = ALL
                .iter()
                .any(|code| code.number == number && code.text(operation).to_string() == text);
            assert!(found, "{row}");
            compared += 1;
        }
        assert!(compared > 45, "only {compared} rows were found");
    }

    #[test]
    fn rejections_have_the_codes_of_the_specification() {
        use Operation as O;
        use Rejection as R;
        for (operation, rejection, number, text) in [
            (O::BlackListAdd, R::AlreadyBlocked, 30001, "Err_SNS_BlackListAdd_Already_Exist"),
            (O::BlackListAdd, R::SelfTarget, 30001, "Err_SNS_BlackListAdd_Request_Invalid"),
            (O::BlackListDelete, R::NotBlocked, 30001, "Err_SNS_BlackListDelete_Not_Exist"),
            (O::FriendAdd, R::AlreadyFriend, 30001, "Err_SNS_FriendAdd_Friend_Exist"),
            (O::FriendAdd, R::ConfirmationNeeded, 30539, "Err_SNS_FriendAdd_Need_Confirm"),
            (O::FriendAdd, R::PeerBlocked, 30515, "Err_SNS_FriendAdd_Friend_In_Self_BlackList"),
            (O::FriendAdd, R::BlockedByPeer, 30525, "Err_SNS_FriendAdd_Self_In_Friend_BlackList"),
            (O::FriendAdd, R::AccountUnknown, 30003, "Err_SNS_FriendAdd_Account_Not_Exist"),
            (O::FriendDelete, R::NotFriend, 31704, "Err_SNS_FriendDelete_Not_Friend"),
            (O::AccountDelete, R::AccountUnknown, 70107, "Err_TLS_PT_Open_Login_Account_Not_Exist"),
        ] {
            let code = of_rejection(operation, rejection);
            assert_eq!((code.number, &*code.text(Some(operation)).to_string()), (number, text));
        }
    }

    #[test]
    fn faults_have_the_codes_of_their_service() {
        let number = |operation, error: ExecuteError| of_execute(operation, &error).number;
        for (operation, timed_out, broken) in
            [(Operation::BlackListAdd, 30007, 30006), (Operation::AccountImport, 70169, 70500)]
        {
            assert_eq!(number(operation, ExecuteError::TimedOut), timed_out);
            assert_eq!(number(operation, ExecuteError::Unavailable), broken);
            assert_eq!(number(operation, ExecuteError::Overloaded), 60008);
        }
    }
}
