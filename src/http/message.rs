//! One-to-one messages from the server: taken over, to be handed on. Blocks, friendships and muting
//! are not asked here. Rule: rest-api.md 8.

use serde::Serialize;

use super::answer::{Answer, Answered, Failure};
use super::beforehand;
use super::call::Call;
use super::error_code::{self as code, ErrorCode};
use super::idempotency;
use super::raw::Raw;
use super::shape::{self, Account, List, Listed, Malformed, Object, Scalar, shape};
use crate::actors::ItemError;
use crate::domain::{Command, Message, Refusal, Rejection, UserId};

/// The most receivers of `batchsendmsg`. Rule: rest-api.md 1.8.
const RECEIVERS_MAX: usize = 500;

/// The longest that a message may wait for its receiver, in seconds; more counts as that.
const LIFE_TIME_MAX_S: u32 = 604_800;

/// The most entries of `SendMsgControl` and `ForbidCallbackControl`, and the longest of them, in
/// bytes.
const CONTROLS_MAX: usize = 16;
const CONTROL_BYTES_MAX: usize = 64;

/// What a message may consist of.
const ELEMENTS: [&str; 9] = [
    "TIMTextElem",
    "TIMFaceElem",
    "TIMLocationElem",
    "TIMCustomElem",
    "TIMSoundElem",
    "TIMImageElem",
    "TIMFileElem",
    "TIMVideoFileElem",
    "TIMRelayElem",
];

shape! {
    /// The receiver of `sendmsg`.
    Receiver<'a> {
        to: Account<'a> = "To_Account",
    }
}

shape! {
    /// The receivers of `batchsendmsg`.
    Receivers<'a> {
        to: List<Listed<'a>> = "To_Account",
    }
}

shape! {
    /// The body of both calls without who receives.
    Send<'a> {
        from: Account<'a> = "From_Account",
        body: Raw<'a> = "MsgBody",
        random: Scalar<'a> = "MsgRandom",
        seq: Scalar<'a> = "MsgSeq",
        time: Scalar<'a> = "MsgTimeStamp",
        life_time: Scalar<'a> = "MsgLifeTime",
        online_only: Scalar<'a> = "OnlineOnlyFlag",
        sync: Scalar<'a> = "SyncOtherMachine",
        forbidden: List<Scalar<'a>> = "ForbidCallbackControl",
        control: List<Scalar<'a>> = "SendMsgControl",
        custom_data: Scalar<'a> = "CloudCustomData",
        extension: Scalar<'a> = "SupportMessageExtension",
        read_receipt: Scalar<'a> = "IsNeedReadReceipt",
        push: Raw<'a> = "OfflinePushInfo",
    }
}

shape! {
    /// An element of `MsgBody`.
    Element<'a> {
        kind: Scalar<'a> = "MsgType",
        content: Raw<'a> = "MsgContent",
    }
}

/// `sendmsg`.
pub(super) async fn send(call: &Call<'_>, body: &str) -> Answered {
    let Receiver { to } = call.parse(body)?;
    let asked: Send<'_> = call.parse(body)?;
    let receiver = to.name().and_then(|name| UserId::parse(name).ok());
    let Some(receiver) = receiver else { return call.fails(code::RECEIVER_UNKNOWN) };
    let sender = sender(call, &asked.from)?;
    let forbidden = controls(&asked.forbidden).map_err(Failure::Whole)?;
    let untold = forbidden.iter().any(|control| &**control == "ForbidAfterSendMsgCallback");
    let message = asked.message(call, code::MESSAGE_TOO_LONG).map_err(Failure::Whole)?;
    let imported = idempotency::imported(call, call.before(), sender, &[receiver]).await;
    if call.all_known(imported)? != [true] {
        return call.fails(code::RECEIVER_UNKNOWN);
    }
    let message = Message { to: vec![receiver], untold, ..message };
    let command = if forbidden.iter().any(|control| &**control == "ForbidBeforeSendMsgCallback") {
        Command::Send(message)
    } else {
        beforehand::about_message(call, sender, message).await?
    };
    let sent = match accept(call, sender, command).await? {
        Sending::Done(sent) => sent,
        Sending::Refused(refusal) => return refused(call, refusal),
    };
    let data = Sent { time: sent.message.time, key: sent.message.key() };
    Ok(call.success(&data).at(sent.position))
}

#[derive(Serialize)]
struct Sent {
    #[serde(rename = "MsgTime")]
    time: u32,
    #[serde(rename = "MsgKey")]
    key: String,
}

/// `batchsendmsg`.
pub(super) async fn send_many(call: &Call<'_>, body: &str) -> Answered {
    let Receivers { to } = call.parse(body)?;
    let asked: Send<'_> = call.parse(body)?;
    let names = match to.items() {
        Ok(Some(names)) if names.len() > RECEIVERS_MAX => {
            return call.fails(code::TOO_MANY_RECEIVERS);
        }
        Ok(Some(names)) if !names.is_empty() => names,
        Ok(Some(_) | None) => return call.fails(code::RECEIVERS_MISSING),
        Err(Malformed) => return call.fails(code::RECEIVERS_NOT_ARRAY),
    };
    let sender = sender(call, &asked.from)?;
    let message = asked.message(call, code::BATCH_MESSAGE_TOO_LONG).map_err(Failure::Whole)?;
    let users: Vec<Option<UserId>> =
        names.iter().map(|name| UserId::parse(name.name()).ok()).collect();
    let legal: Vec<UserId> = users.iter().copied().flatten().collect();
    let imported = idempotency::imported(call, call.before(), sender, &legal).await;
    let mut imported = call.all_known(imported)?.into_iter();
    let known = users.into_iter().map(|user| user.filter(|_| imported.next() == Some(true)));
    let known: Vec<Option<UserId>> = known.collect();
    let mut receivers: Vec<UserId> = known.iter().copied().flatten().collect();
    receivers.sort_unstable();
    receivers.dedup();
    if receivers.is_empty() {
        return call.fails(code::ALL_RECEIVERS_UNKNOWN);
    }
    if !call.app().count_receivers(receivers.len(), call.now) {
        return call.fails(code::TOO_MANY_MESSAGES);
    }
    let message = Message { to: receivers, untold: true, ..message };
    let sent = match accept(call, sender, Command::Send(message)).await? {
        Sending::Done(sent) => sent,
        Sending::Refused(refusal) => return refused(call, refusal),
    };
    // Whoever was unknown when the message was sent has not received it, also if they are known by now.
    let is_unknown = |user: &Option<UserId>| user.is_none_or(|user| sent.left_out.contains(&user));
    let unknown = names.iter().zip(&known).filter(|(_, user)| is_unknown(user));
    let unknown: Vec<NotSent<'_>> = unknown
        .map(|(name, _)| NotSent { name: name.name(), code: code::ACCOUNT_UNKNOWN.number })
        .collect();
    let data = SentMany {
        status: if unknown.is_empty() { "OK" } else { "SomeError" },
        code: 0,
        info: "",
        key: sent.message.key(),
        unknown,
    };
    Ok(Answer::own(&data, 0).at(sent.position))
}

/// The one answer whose envelope says that some of it failed. Rule: rest-api.md 8.2.
#[derive(Serialize)]
struct SentMany<'a> {
    #[serde(rename = "ActionStatus")]
    status: &'static str,
    #[serde(rename = "ErrorCode")]
    code: u32,
    #[serde(rename = "ErrorInfo")]
    info: &'static str,
    #[serde(rename = "MsgKey")]
    key: String,
    #[serde(rename = "ErrorList", skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<NotSent<'a>>,
}

#[derive(Serialize)]
struct NotSent<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(rename = "ErrorCode")]
    code: u32,
}

/// Who sends: the calling admin if nobody is named.
fn sender(call: &Call<'_>, from: &Account<'_>) -> Result<UserId, Failure> {
    let name = from.name().filter(|name| !name.is_empty()).unwrap_or(call.caller.operator);
    UserId::parse(name).map_err(|_| Failure::Whole(code::SENDER_UNKNOWN))
}

/// A message that is in the journal.
struct Accepted {
    /// With the time of the first one if it repeats one.
    message: Message,
    /// Who of its receivers was none of the first one's.
    left_out: Vec<UserId>,
    position: Option<(crate::journal::Partition, crate::journal::Offset)>,
}

/// What becomes of a message.
enum Sending {
    Done(Accepted),
    /// The app's own server refused the message, perhaps in these words.
    Refused(Option<Refusal>),
}

/// Carries out a [`Command::Send`].
async fn accept(call: &Call<'_>, sender: UserId, command: Command) -> Result<Sending, Failure> {
    let (bare, verdict) = command.parts();
    let (Command::Send(message), verdict) = (bare.clone(), verdict.cloned()) else {
        return call.fails(code::MESSAGES_BROKEN);
    };
    let executed = call.execute(sender, command).await;
    let executed = executed.map_err(|error| call.fault(&error))?;
    if executed.outcomes.contains(&Err(ItemError::Rejected(Rejection::Forbidden))) {
        let verdict = beforehand::standing(call, sender, verdict).await?;
        return Ok(Sending::Refused(
            verdict.and_then(|verdict| verdict.refused.into_iter().next()),
        ));
    }
    let refused = executed.outcomes.iter().zip(&message.to).filter(|(outcome, _)| outcome.is_err());
    let left_out = refused.map(|(_, receiver)| *receiver).collect();
    let time = executed.sent_at.unwrap_or(message.time);
    let message = Message { time, ..message };
    Ok(Sending::Done(Accepted { message, left_out, position: executed.position }))
}

/// Rule: webhooks.md 10.
fn refused(call: &Call<'_>, refusal: Option<Refusal>) -> Answered {
    match refusal.filter(|refusal| code::MESSAGE_REFUSED.contains(&refusal.code)) {
        Some(Refusal { code, info, .. }) if !info.is_empty() => Ok(Answer::refusal(code, &info)),
        Some(Refusal { code, .. }) => Ok(Answer::refusal(code, code::MESSAGE_FORBIDDEN.message)),
        None => call.fails(code::MESSAGE_FORBIDDEN),
    }
}

impl Send<'_> {
    /// The message, still without receivers. Errors: the code of the first part that is wrong.
    fn message(&self, call: &Call<'_>, too_long: ErrorCode) -> Result<Message, ErrorCode> {
        let invalid = |Malformed| code::MESSAGE_REQUEST_INVALID;
        let flag = |field: &Scalar<'_>| field.flag().map_err(invalid);
        let random = self.random.number().ok().flatten().ok_or(code::MESSAGE_RANDOM_WRONG)?;
        let body = self.body().map_err(|code| match code {
            code::MESSAGE_TOO_LONG => too_long,
            code => code,
        })?;
        self.time.integer().map_err(|Malformed| code::MESSAGE_TIME_WRONG)?;
        let life_time: Option<u64> =
            self.life_time.number().map_err(|Malformed| code::MESSAGE_LIFE_TIME_WRONG)?;
        let not_for_sender = match self.sync.integer() {
            Ok(None | Some(1)) => false,
            Ok(Some(2)) => true,
            Ok(Some(_)) | Err(Malformed) => return Err(code::MESSAGE_SYNC_WRONG),
        };
        let push = self.push.text().unwrap_or_default();
        if !push.is_empty() && !push.starts_with('{') {
            return Err(code::MESSAGE_PUSH_WRONG);
        }
        let custom_data = self.custom_data.text().map_err(invalid)?.unwrap_or_default();
        if body.len() + custom_data.len() + push.len() > call.app().messages.bytes_max {
            return Err(too_long);
        }
        // Any number will do; this one is at hand.
        let any = call.request.as_u128() as u32;
        Ok(Message {
            to: Vec::new(),
            seq: self.seq.number().map_err(invalid)?.unwrap_or(any),
            random,
            time: call.now.unix_seconds(),
            body: body.into(),
            custom_data: custom_data.into(),
            push: push.into(),
            life_time: life_time
                .map(|value| u32::try_from(value).unwrap_or(u32::MAX).min(LIFE_TIME_MAX_S)),
            online_only: flag(&self.online_only)?.unwrap_or(false),
            not_for_sender,
            control: controls(&self.control)?,
            read_receipt: flag(&self.read_receipt)?.unwrap_or(false),
            extension: flag(&self.extension)?.unwrap_or(false),
            untold: false,
        })
    }

    /// `MsgBody`, whose elements are right.
    fn body(&self) -> Result<&str, ErrorCode> {
        let text = self.body.text().ok_or(code::MESSAGE_BODY_MISSING)?;
        check_elements(text)?;
        Ok(text)
    }
}

/// Whether a text is a list of elements that a message can have. Errors: the code of what is wrong.
pub(super) fn check_elements(text: &str) -> Result<(), ErrorCode> {
    let elements: List<Object<Element<'_>>> =
        serde_json::from_str(text).map_err(|_| code::MESSAGE_BODY_NOT_JSON)?;
    let Ok(Some(elements)) = elements.items() else { return Err(code::MESSAGE_BODY_NOT_ARRAY) };
    if elements.is_empty() {
        return Err(code::MESSAGE_BODY_MISSING);
    }
    // More than are kept are too long a message, whatever `c2c.message_bytes_max` allows.
    if elements.len() >= shape::KEPT_MAX {
        return Err(code::MESSAGE_TOO_LONG);
    }
    let is_right = |element: &Object<Element<'_>>| {
        let element = element.given()?;
        let known = element.kind.text()?.is_some_and(|kind| ELEMENTS.contains(&kind));
        let content = element.content.text().is_some_and(|content| content.starts_with('{'));
        Ok::<_, Malformed>(known && content)
    };
    if elements.iter().all(|element| is_right(element) == Ok(true)) {
        Ok(())
    } else {
        Err(code::MESSAGE_ELEMENT_WRONG)
    }
}

fn controls(list: &List<Scalar<'_>>) -> Result<Vec<Box<str>>, ErrorCode> {
    let read = || -> Result<Vec<Box<str>>, Malformed> {
        let items = list.items()?.unwrap_or_default();
        if items.len() > CONTROLS_MAX {
            return Err(Malformed);
        }
        let text = |item: &Scalar<'_>| match item.text()? {
            Some(text) if text.len() <= CONTROL_BYTES_MAX => Ok(text.into()),
            Some(_) | None => Err(Malformed),
        };
        items.iter().map(text).collect()
    };
    read().map_err(|Malformed| code::MESSAGE_REQUEST_INVALID)
}
