//! Friend requests that wait: answer and list. Rule: extensions.md 2 and 3.

use serde::Serialize;

use super::answer::Answered;
use super::batch::{Batch, Who, entries, owner};
use super::beforehand;
use super::call::Call;
use super::card;
use super::error_code as code;
use super::page;
use super::shape::{Account, List, Malformed, Object, Scalar, shape};
use crate::actors::RequestSeen;
use crate::domain::{Agreement, Command, RequestAnswer, UserId};

shape! {
    /// The body of `friend_response`.
    Respond<'a> {
        from: Account<'a> = "From_Account",
        items: List<Object<card::Response<'a>>> = "ResponseFriendItem",
    }
}

shape! {
    /// The body of `pendency_get`.
    Get<'a> {
        from: Account<'a> = "From_Account",
        kind: Scalar<'a> = "PendencyType",
        start: Scalar<'a> = "StartIndex",
        max: Scalar<'a> = "MaxLimited",
    }
}

/// `friend_response`.
pub(super) async fn respond(call: &Call<'_>, body: &str) -> Answered {
    let asked: Respond<'_> = call.parse(body)?;
    let owner = owner(&asked.from)?;
    let mut named = Vec::new();
    for item in entries(&asked.items)? {
        let Ok(item) = item.given() else { return call.fails(code::REQUEST_INVALID) };
        let answer = item.answer().and_then(|(remark, groups)| {
            let agreement = match item.action.text()? {
                Some("Response_Action_AgreeAndAdd") => Some(Agreement::Both),
                Some("Response_Action_Agree") => Some(Agreement::OneWay),
                Some("Response_Action_Reject") => None,
                Some(_) | None => return Err(Malformed),
            };
            Ok((agreement, remark, groups))
        });
        named.push((item.to.name(), answer));
    }
    let (batch, answers) = Batch::judge(call, owner, named, Who::Known).await;
    let answers = answers.into_iter().map(|(user, (agreement, remark, groups))| RequestAnswer {
        user,
        agreement,
        remark,
        groups,
    });
    let command = Command::AnswerRequests { items: answers.collect() };
    let command = beforehand::about_answering(call, owner, command).await?;
    let (executed, verdict) = batch.execute_judged(call, command).await?;
    Ok(batch.answer_under(call.operation, executed, verdict.as_ref()))
}

/// `pendency_get`.
pub(super) async fn get(call: &Call<'_>, body: &str) -> Answered {
    let asked: Get<'_> = call.parse(body)?;
    let Ok((incoming, start, max)) = wanted(&asked) else {
        return call.fails(code::REQUEST_INVALID);
    };
    let key = call.key(owner(&asked.from)?);
    let page = call.asker().requests(key, incoming, start, max).await;
    let page = page.map_err(|error| call.fault(&error))?;
    if !page.imported {
        return call.fails(code::ACCOUNT_NOT_IMPORTED);
    }
    Ok(call.success(&Page {
        next: page::next(start, page.entries.len(), page.total),
        items: page.entries.into_iter().map(PendencyItem::from).collect(),
        total: page.total,
    }))
}

/// Whose requests, where the page starts, and how long it may be.
fn wanted(asked: &Get<'_>) -> Result<(bool, usize, usize), Malformed> {
    let incoming = match asked.kind.text()? {
        Some("Pendency_Type_ComeIn") => true,
        Some("Pendency_Type_SendOut") => false,
        Some(_) | None => return Err(Malformed),
    };
    Ok((incoming, asked.start.number()?.unwrap_or(0), page::items_max(&asked.max)?))
}

#[derive(Serialize)]
struct Page {
    #[serde(rename = "PendencyItem")]
    items: Vec<PendencyItem>,
    /// 0 at the end.
    #[serde(rename = "StartIndex")]
    next: usize,
    #[serde(rename = "PendencyNum")]
    total: usize,
}

#[derive(Serialize)]
struct PendencyItem {
    #[serde(rename = "To_Account")]
    user: UserId,
    #[serde(rename = "AddSource")]
    source: Box<str>,
    #[serde(rename = "AddWording")]
    wording: Box<str>,
    #[serde(rename = "AddTime")]
    at: u32,
}

impl From<RequestSeen> for PendencyItem {
    fn from(RequestSeen { peer, source, wording, at }: RequestSeen) -> Self {
        Self { user: peer, source, wording, at }
    }
}
