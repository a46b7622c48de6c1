//! Friend groups: make, remove, list. Rule: rest-api.md 5.

use serde::Serialize;

use super::answer::{Answered, Failure};
use super::batch::{Batch, ENTRIES_MAX, Results, entries, owner, tell_unknown};
use super::call::Call;
use super::card;
use super::error_code as code;
use super::shape::{Account, List, Listed, Malformed, Scalar, shape};
use crate::actors::GroupSeen;
use crate::domain::{Command, Rejection, Target, UserId};

shape! {
    /// The body of `group_add`.
    Add<'a> {
        from: Account<'a> = "From_Account",
        names: List<Scalar<'a>> = "GroupName",
        to: List<Listed<'a>> = "To_Account",
    }
}

shape! {
    /// The body of `group_delete`.
    Delete<'a> {
        from: Account<'a> = "From_Account",
        names: List<Scalar<'a>> = "GroupName",
    }
}

shape! {
    /// The body of `group_get`.
    Get<'a> {
        from: Account<'a> = "From_Account",
        names: List<Scalar<'a>> = "GroupName",
        members: Scalar<'a> = "NeedFriend",
        last: Scalar<'a> = "LastSequence",
    }
}

/// `group_add`.
pub(super) async fn add(call: &Call<'_>, body: &str) -> Answered {
    let asked: Add<'_> = call.parse(body)?;
    let names = names(call, &asked.names)?;
    let (batch, members) = match asked.to.items() {
        Ok(None) => (Batch::new(owner(&asked.from)?, 0), Vec::new()),
        // Libraries send an empty list when the caller named nobody.
        Ok(Some([])) => (Batch::new(owner(&asked.from)?, 0), Vec::new()),
        Ok(Some(_)) | Err(Malformed) => Batch::read(&asked.from, &asked.to)?,
    };
    let named = batch.len() > 0;
    let targets = members.iter().map(|user| Target { user: *user, imported: true }).collect();
    let command = Command::AddGroups { names, members: targets };
    let mut executed = batch.execute(call, command).await?;
    tell_unknown(call, batch.owner, &members, Rejection::NotFriend, &mut executed.outcomes).await;
    // Of a number that an owner does not tell, 0 is the one that says nothing.
    let sequence = executed.groups_sequence.unwrap_or_default();
    let results = named.then(|| batch.results(call.operation, executed.outcomes));
    Ok(call.success(&Added { results, sequence }).at(executed.position))
}

#[derive(Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    results: Option<Results<'a>>,
    #[serde(rename = "CurrentSequence")]
    sequence: u32,
}

/// `group_delete`.
pub(super) async fn delete(call: &Call<'_>, body: &str) -> Answered {
    let asked: Delete<'_> = call.parse(body)?;
    let names = names(call, &asked.names)?;
    let owner = owner(&asked.from)?;
    let executed = call.execute(owner, Command::RemoveGroups { names }).await;
    let executed = executed.map_err(|error| call.fault(&error))?;
    let sequence = executed.groups_sequence.unwrap_or_default();
    Ok(call.success(&Deleted { sequence }).at(executed.position))
}

#[derive(Serialize)]
struct Deleted {
    #[serde(rename = "CurrentSequence")]
    sequence: u32,
}

/// The required names of groups.
fn names(call: &Call<'_>, list: &List<Scalar<'_>>) -> Result<Vec<Box<str>>, Failure> {
    card::groups(entries(list)?).or_else(|Malformed| call.fails(code::REQUEST_INVALID))
}

/// `group_get`. A name that nobody has is left out of the answer.
pub(super) async fn get(call: &Call<'_>, body: &str) -> Answered {
    let asked: Get<'_> = call.parse(body)?;
    let names = match asked.names.items() {
        Ok(None | Some([])) => None,
        Ok(Some(items)) if items.len() <= ENTRIES_MAX => match card::groups(items) {
            Ok(names) => Some(names),
            Err(Malformed) => return call.fails(code::REQUEST_INVALID),
        },
        Ok(Some(_)) | Err(Malformed) => return call.fails(code::REQUEST_INVALID),
    };
    let members = matches!(asked.members.text(), Ok(Some("Need_Friend_Type_Yes")));
    let Ok(last) = asked.last.integer() else { return call.fails(code::REQUEST_INVALID) };
    let named = names.is_some();
    let key = call.key(owner(&asked.from)?);
    let found = call.asker().groups(key, names, members).await;
    let found = found.map_err(|error| call.fault(&error))?;
    if !found.imported {
        return call.fails(code::ACCOUNT_NOT_IMPORTED);
    }
    let unchanged =
        !named && last.is_some_and(|last| last != 0 && last == i64::from(found.sequence));
    let groups: Vec<GroupSeen> = if unchanged { Vec::new() } else { found.groups };
    let shown = |group: GroupSeen| Group {
        name: group.name,
        count: group.count,
        members: members.then_some(group.members),
    };
    Ok(call.success(&Groups {
        groups: groups.into_iter().map(shown).collect(),
        sequence: found.sequence,
    }))
}

#[derive(Serialize)]
struct Groups {
    #[serde(rename = "ResultItem")]
    groups: Vec<Group>,
    #[serde(rename = "CurrentSequence")]
    sequence: u32,
}

#[derive(Serialize)]
struct Group {
    #[serde(rename = "GroupName")]
    name: Box<str>,
    #[serde(rename = "FriendNumber")]
    count: usize,
    #[serde(rename = "To_Account", skip_serializing_if = "Option::is_none")]
    members: Option<Vec<UserId>>,
}
