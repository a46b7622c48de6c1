//! What is asked before the fact; pure. Rule: webhooks.md 8.3, 8.4 and 10.
//!
//! Bodies have the fields of the reference in the order of its tables and no others.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::payload::json;
use crate::domain::{
    Agreement, Matter, Message, NewFriend, OfferForm, RequestAnswer, Timestamp, UserId,
};
use crate::tags::BeforeCommand;

/// A question about what `from` is about to do.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Friends are to be added.
    FriendAdd {
        /// By whom.
        from: UserId,
        /// Whom.
        items: &'a [&'a NewFriend],
        /// In which way.
        form: OfferForm,
    },
    /// Requests are to be answered.
    FriendResponse {
        /// By whom.
        from: UserId,
        /// Whose, and how.
        items: &'a [&'a RequestAnswer],
    },
    /// A message is to be sent, to one receiver.
    Message {
        /// By whom.
        from: UserId,
        /// The message.
        message: &'a Message,
    },
}

impl Question<'_> {
    /// What is asked, by its name on the wire.
    pub fn command(&self) -> BeforeCommand {
        match self {
            Self::FriendAdd { .. } => BeforeCommand::PrevFriendAdd,
            Self::FriendResponse { .. } => BeforeCommand::PrevFriendResponse,
            Self::Message { .. } => BeforeCommand::BeforeSendMsg,
        }
    }

    /// What it is about.
    pub fn matter(&self) -> Matter {
        match self {
            Self::FriendAdd { .. } => Matter::FriendAdd,
            Self::FriendResponse { .. } => Matter::FriendResponse,
            Self::Message { .. } => Matter::Message,
        }
    }

    /// Who wants it.
    pub fn from(&self) -> UserId {
        match self {
            Self::FriendAdd { from, .. }
            | Self::FriendResponse { from, .. }
            | Self::Message { from, .. } => *from,
        }
    }

    /// With whom, in order.
    pub fn users(&self) -> Vec<UserId> {
        match self {
            Self::FriendAdd { items, .. } => items.iter().map(|item| item.user).collect(),
            Self::FriendResponse { items, .. } => items.iter().map(|item| item.user).collect(),
            Self::Message { message, .. } => message.to.clone(),
        }
    }

    /// The body of the call that asks it.
    pub fn body(&self, at: Timestamp) -> Vec<u8> {
        let command = self.command().name();
        match self {
            Self::FriendAdd { from, items, form } => json(&FriendAddBody {
                command,
                requester: *from,
                from: *from,
                items: items.iter().map(|item| WantedItem::of(item)).collect(),
                form: if form.is_two_way() { "Add_Type_Both" } else { "Add_Type_Single" },
                force: 0,
                at_ms: at.0,
            }),
            Self::FriendResponse { from, items } => json(&FriendResponseBody {
                command,
                requester: *from,
                from: *from,
                items: items.iter().map(|item| AnsweredItem::of(item)).collect(),
                at_ms: at.0,
            }),
            Self::Message { from, message } => json(&MessageBody {
                command,
                from: *from,
                to: message.to.first().copied(),
                seq: message.seq,
                random: message.random,
                time: message.time,
                key: message.key(),
                online_only: u8::from(message.online_only),
                body: RawValue::from_string(message.body.to_string()).ok(),
                custom_data: &message.custom_data,
                at_ms: at.0,
            }),
        }
    }
}

#[derive(Serialize)]
struct FriendAddBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "Requester_Account")]
    requester: UserId,
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "FriendItem")]
    items: Vec<WantedItem<'a>>,
    #[serde(rename = "AddType")]
    form: &'static str,
    #[serde(rename = "ForceAddFlags")]
    force: u8,
    #[serde(rename = "EventTime")]
    at_ms: i64,
}

#[derive(Serialize)]
struct WantedItem<'a> {
    #[serde(rename = "To_Account")]
    user: UserId,
    #[serde(rename = "Remark")]
    remark: &'a str,
    #[serde(rename = "GroupName")]
    group: &'a str,
    #[serde(rename = "AddSource")]
    source: &'a str,
    #[serde(rename = "AddWording")]
    wording: &'a str,
}

impl<'a> WantedItem<'a> {
    fn of(item: &'a NewFriend) -> Self {
        let card = &item.card;
        Self {
            user: item.user,
            remark: &card.remark,
            group: first(&card.groups),
            source: &card.source,
            wording: &card.wording,
        }
    }
}

#[derive(Serialize)]
struct FriendResponseBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "Requester_Account")]
    requester: UserId,
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "ResponseFriendItem")]
    items: Vec<AnsweredItem<'a>>,
    #[serde(rename = "EventTime")]
    at_ms: i64,
}

#[derive(Serialize)]
struct AnsweredItem<'a> {
    #[serde(rename = "To_Account")]
    user: UserId,
    #[serde(rename = "Remark")]
    remark: &'a str,
    #[serde(rename = "TagName")]
    group: &'a str,
    #[serde(rename = "ResponseAction")]
    action: &'static str,
}

impl<'a> AnsweredItem<'a> {
    fn of(item: &'a RequestAnswer) -> Self {
        let action = match item.agreement {
            Some(Agreement::Both) => "Response_Action_AgreeAndAdd",
            Some(Agreement::OneWay) => "Response_Action_Agree",
            None => "Response_Action_Reject",
        };
        Self { user: item.user, remark: &item.remark, group: first(&item.groups), action }
    }
}

/// The calls that are asked about name one group at most.
fn first(groups: &[Box<str>]) -> &str {
    groups.first().map_or("", |group| group)
}

#[derive(Serialize)]
struct MessageBody<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'static str,
    #[serde(rename = "From_Account")]
    from: UserId,
    #[serde(rename = "To_Account")]
    to: Option<UserId>,
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
    #[serde(rename = "MsgBody")]
    body: Option<Box<RawValue>>,
    #[serde(rename = "CloudCustomData")]
    custom_data: &'a str,
    #[serde(rename = "EventTime")]
    at_ms: i64,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::Card;

    const AT: Timestamp = Timestamp(1_700_000_100_123);

    fn id(name: &str) -> UserId {
        UserId::parse(name).expect("a name of a test")
    }

    fn text(question: Question<'_>) -> String {
        let text = String::from_utf8(question.body(AT)).expect("a body is text");
        let schema = match question.command() {
            BeforeCommand::PrevFriendAdd => {
                include_str!("../../../schemas/webhooks/Sns.CallbackPrevFriendAdd.json")
            }
            BeforeCommand::PrevFriendResponse => {
                include_str!("../../../schemas/webhooks/Sns.CallbackPrevFriendResponse.json")
            }
            BeforeCommand::BeforeSendMsg => {
                include_str!("../../../schemas/webhooks/C2C.CallbackBeforeSendMsg.json")
            }
        };
        let schema: Value = serde_json::from_str(schema).expect("a schema is JSON");
        let body: Value = serde_json::from_str(&text).expect("a body is JSON");
        let verdict = jsonschema::validate(&schema, &body);
        assert!(verdict.is_ok(), "{verdict:?}");
        let named: Vec<&String> =
            schema["properties"].as_object().expect("fields").keys().collect();
        let told = body.as_object().expect("an object").keys();
        assert!(told.eq(named), "{body}");
        text
    }

    #[test]
    fn friends_to_add_are_asked_about_as_the_reference_does() {
        let card = Card {
            remark: "Bobby".into(),
            groups: vec!["work".into()],
            source: "AddSource_Type_Android".into(),
            wording: "hello".into(),
            ..Card::default()
        };
        let bob = NewFriend { user: id("bob"), imported: true, card };
        let carl = NewFriend { user: id("carl"), imported: true, card: Card::default() };
        let question =
            Question::FriendAdd { from: id("amy"), items: &[&bob, &carl], form: OfferForm::TwoWay };
        assert_eq!(
            text(question),
            r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"amy","From_Account":"amy","FriendItem":[{"To_Account":"bob","Remark":"Bobby","GroupName":"work","AddSource":"AddSource_Type_Android","AddWording":"hello"},{"To_Account":"carl","Remark":"","GroupName":"","AddSource":"","AddWording":""}],"AddType":"Add_Type_Both","ForceAddFlags":0,"EventTime":1700000100123}"#
        );
        let single =
            Question::FriendAdd { from: id("amy"), items: &[&bob], form: OfferForm::OneWay };
        assert!(text(single).contains(r#""AddType":"Add_Type_Single""#));
    }

    #[test]
    fn requests_to_answer_are_asked_about_as_the_reference_does() {
        let answer = |name: &str, agreement| RequestAnswer {
            user: id(name),
            agreement,
            remark: "r".into(),
            groups: vec!["g".into()],
        };
        let items = [
            answer("bob", Some(Agreement::Both)),
            answer("carl", Some(Agreement::OneWay)),
            answer("dora", None),
        ];
        let items: Vec<&RequestAnswer> = items.iter().collect();
        let item = |name: &str, action: &str| {
            format!(
                r#"{{"To_Account":"{name}","Remark":"r","TagName":"g","ResponseAction":"Response_Action_{action}"}}"#
            )
        };
        assert_eq!(
            text(Question::FriendResponse { from: id("amy"), items: &items }),
            format!(
                r#"{{"CallbackCommand":"Sns.CallbackPrevFriendResponse","Requester_Account":"amy","From_Account":"amy","ResponseFriendItem":[{},{},{}],"EventTime":1700000100123}}"#,
                item("bob", "AgreeAndAdd"),
                item("carl", "Agree"),
                item("dora", "Reject"),
            )
        );
    }

    #[test]
    fn a_message_is_asked_about_as_the_reference_does() {
        let message = Message {
            to: vec![id("bob")],
            seq: 7,
            random: 8,
            time: 1_700_000_100,
            body: r#"[{"MsgType":"TIMTextElem", "MsgContent":{"Text":"hi"}}]"#.into(),
            custom_data: "x".into(),
            push: "".into(),
            life_time: None,
            online_only: true,
            not_for_sender: false,
            control: Vec::new(),
            read_receipt: false,
            extension: false,
            untold: false,
        };
        assert_eq!(
            text(Question::Message { from: id("amy"), message: &message }),
            r#"{"CallbackCommand":"C2C.CallbackBeforeSendMsg","From_Account":"amy","To_Account":"bob","MsgSeq":7,"MsgRandom":8,"MsgTime":1700000100,"MsgKey":"7_8_1700000100","OnlineOnlyFlag":1,"MsgBody":[{"MsgType":"TIMTextElem", "MsgContent":{"Text":"hi"}}],"CloudCustomData":"x","EventTime":1700000100123}"#
        );
    }
}
