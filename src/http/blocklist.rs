//! Blocklists: put on, take off, list, look up. Rule: rest-api.md 3.

use serde::Serialize;

use super::answer::Answered;
use super::batch::{Batch, RelationItem, Relations, owner, tell_unknown};
use super::call::Call;
use super::error_code as code;
use super::page;
use super::relation::{self, Names, Sides};
use super::shape::{Account, List, Listed, Malformed, Scalar, shape};
use crate::domain::{Command, Rejection, Target, UserId};

const RELATIONS: Names = Names {
    none: "BlackCheckResult_Type_NO",
    a_with_b: "BlackCheckResult_Type_AWithB",
    b_with_a: "BlackCheckResult_Type_BWithA",
    both_way: "BlackCheckResult_Type_BothWay",
};

shape! {
    /// The body of `black_list_add` and `black_list_delete`.
    Change<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
    }
}

shape! {
    /// The body of `black_list_get`. `LastSequence` is not looked at: some callers pass the current
    /// one back while paging, and would lose pages if an equal one meant "unchanged".
    Get<'a> {
        from: Account<'a> = "From_Account",
        start: Scalar<'a> = "StartIndex",
        max: Scalar<'a> = "MaxLimited",
    }
}

shape! {
    /// The body of `black_list_check`.
    Check<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
        sides: Scalar<'a> = "CheckType",
    }
}

/// `black_list_add`.
pub(super) async fn add(call: &Call<'_>, body: &str) -> Answered {
    let asked: Change<'_> = call.parse(body)?;
    let (batch, users) = Batch::read(&asked.from, &asked.to)?;
    let imported = call.before().imported(call.app().id, &users).await;
    // While its node says nothing, an account is taken to exist: whoever wants to be safe from somebody
    // does not have to wait for that one's node. If nobody is there, nobody is harmed by the block.
    let targets = users
        .into_iter()
        .zip(imported)
        .map(|(user, imported)| Target { user, imported: imported.unwrap_or(true) });
    let command = Command::Block { targets: targets.collect() };
    let executed = batch.execute(call, command).await?;
    Ok(batch.answer(call.operation, executed))
}

/// `black_list_delete`.
pub(super) async fn delete(call: &Call<'_>, body: &str) -> Answered {
    let asked: Change<'_> = call.parse(body)?;
    let (batch, users) = Batch::read(&asked.from, &asked.to)?;
    let targets = users.iter().map(|user| Target { user: *user, imported: true }).collect();
    let mut executed = batch.execute(call, Command::Unblock { targets }).await?;
    tell_unknown(call, batch.owner, &users, Rejection::NotBlocked, &mut executed.outcomes).await;
    Ok(batch.answer(call.operation, executed))
}

/// `black_list_get`.
pub(super) async fn get(call: &Call<'_>, body: &str) -> Answered {
    let asked: Get<'_> = call.parse(body)?;
    let (Ok(start), Ok(max)) = (asked.start.number(), page::items_max(&asked.max)) else {
        return call.fails(code::REQUEST_INVALID);
    };
    let start = start.unwrap_or(0);
    let key = call.key(owner(&asked.from)?);
    let page = call.asker().blocklist(key, start, max).await.map_err(|error| call.fault(&error))?;
    if !page.imported {
        return call.fails(code::ACCOUNT_NOT_IMPORTED);
    }
    let items = page.entries.iter();
    let items = items.map(|block| BlackListItem { user: block.peer, at: block.at }).collect();
    Ok(call.success(&Page {
        items,
        next: page::next(start, page.entries.len(), page.total),
        sequence: page.sequence,
        sequence_again: page.sequence,
    }))
}

#[derive(Serialize)]
struct Page {
    #[serde(rename = "BlackListItem")]
    items: Vec<BlackListItem>,
    /// 0 at the end.
    #[serde(rename = "StartIndex")]
    next: usize,
    /// The misspelling is part of the contract.
    #[serde(rename = "CurruentSequence")]
    sequence: u32,
    #[serde(rename = "CurrentSequence")]
    sequence_again: u32,
}

#[derive(Serialize)]
struct BlackListItem {
    #[serde(rename = "To_Account")]
    user: UserId,
    #[serde(rename = "AddBlackTimeStamp")]
    at: u32,
}

/// `black_list_check`.
pub(super) async fn check(call: &Call<'_>, body: &str) -> Answered {
    let asked: Check<'_> = call.parse(body)?;
    let sides = match asked.sides.text() {
        Ok(Some("BlackCheckResult_Type_Single")) => Sides::Single,
        Ok(Some("BlackCheckResult_Type_Both")) => Sides::Both,
        Ok(Some(_) | None) | Err(Malformed) => return call.fails(code::REQUEST_INVALID),
    };
    let (batch, targets) = Batch::read(&asked.from, &asked.to)?;
    let found =
        relation::look(call, batch.owner, &targets, sides, |s| s.blocks, &RELATIONS).await?;
    let Relations { items, failed } = batch.relations(call.operation, found, RELATIONS.none);
    Ok(call.success(&Checked { items, failed }))
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(rename = "BlackListCheckItem")]
    items: Vec<RelationItem<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}
