//! Accounts: import, import many, delete, check. Rule: rest-api.md 6.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::answer::{Answered, Failure, Info};
use super::call::Call;
use super::edge::is_trouble;
use super::error_code::{self as code, ErrorCode};
use super::shape::{Account, List, Listed, Malformed, Object, Scalar, shape};
use crate::actors::{ExecuteError, Executed};
use crate::domain::{Command, ProfileChange, UserId, is_book, is_keeper};
use crate::journal::{Offset, Partition};

/// The most accounts of one call. Rule: rest-api.md 1.8.
pub(super) const ACCOUNTS_MAX: usize = 100;

/// How many accounts of one call are worked on at a time.
pub(super) const ACCOUNTS_IN_FLIGHT_MAX: usize = 32;

/// The longest nick and face URL, in bytes. Rule: rest-api.md 6.1.
const PROFILE_BYTES_MAX: usize = 500;

shape! {
    /// The body of `account_import`.
    Import<'a> {
        user: Account<'a> = "UserID",
        /// The old name of `UserID`.
        identifier: Account<'a> = "Identifier",
        nick: Scalar<'a> = "Nick",
        face_url: Scalar<'a> = "FaceUrl",
    }
}

shape! {
    /// The body of `multiaccount_import`, in its new and its old form.
    ImportMany<'a> {
        list: List<Object<Import<'a>>> = "AccountList",
        names: List<Listed<'a>> = "Accounts",
    }
}

shape! {
    /// The body of `account_delete`.
    Delete<'a> {
        items: List<Object<Named<'a>>> = "DeleteItem",
    }
}

shape! {
    /// The body of `account_check`.
    Check<'a> {
        items: List<Object<Named<'a>>> = "CheckItem",
    }
}

shape! {
    /// An entry that names an account.
    Named<'a> {
        user: Account<'a> = "UserID",
    }
}

/// `account_import`.
pub(super) async fn import(call: &Call<'_>, body: &str) -> Answered {
    let asked: Import<'_> = call.parse(body)?;
    let name = asked.user.name().or_else(|| asked.identifier.name()).unwrap_or_default();
    let Some(user) = legal(name) else { return call.fails(code::ACCOUNT_PARAMETER_ILLEGAL) };
    let change = change(&asked).map_err(Failure::Whole)?;
    let done = settle(call, call.execute(user, Command::ImportAccount(change)).await)?;
    done.verdict.map_err(Failure::Whole)?;
    Ok(call.done().at(done.position))
}

/// The name of an account that may exist.
fn legal(name: &str) -> Option<UserId> {
    UserId::parse(name).ok().filter(|user| !is_book(user) && !is_keeper(user))
}

/// What the fields beside the name ask for. Empty ones count as not given.
fn change(asked: &Import<'_>) -> Result<ProfileChange, ErrorCode> {
    let value = |field: &Scalar<'_>| match field.text() {
        Ok(Some(text)) if text.len() > PROFILE_BYTES_MAX => Err(code::PROFILE_VALUE_TOO_LONG),
        Ok(text) => Ok(text.filter(|text| !text.is_empty()).map(Box::from)),
        Err(Malformed) => Err(code::ACCOUNT_PARAMETER_ILLEGAL),
    };
    let nick = value(&asked.nick)?;
    let face_url = value(&asked.face_url)?;
    Ok(ProfileChange { nick, face_url, ..ProfileChange::default() })
}

/// What a command on one account came to.
struct Done {
    verdict: Result<(), ErrorCode>,
    position: Option<(Partition, Offset)>,
}

/// Fails with the whole call if an account knows its key for another one's.
fn settle(call: &Call<'_>, executed: Result<Executed, ExecuteError>) -> Result<Done, Failure> {
    match executed {
        Ok(executed) => {
            let failed = executed.outcomes.into_iter().find_map(Result::err);
            let verdict = failed.map_or(Ok(()), |error| Err(code::of_item(call.operation, error)));
            Ok(Done { verdict, position: executed.position })
        }
        Err(error) => match call.fault(&error) {
            Failure::Whole(code) => Ok(Done { verdict: Err(code), position: None }),
            other @ (Failure::Common(_) | Failure::Body) => Err(other),
        },
    }
}

/// Executes a command on each user. Each stands there once: a second command of one call on one user
/// would be taken for the first one, asked again.
async fn execute_all(
    call: &Call<'_>,
    commands: impl IntoIterator<Item = (UserId, Command)>,
) -> Result<Vec<(UserId, Done)>, Failure> {
    let done = commands.into_iter().map(|(user, command)| async move {
        settle(call, call.execute(user, command).await).map(|done| (user, done))
    });
    stream::iter(done).buffered(ACCOUNTS_IN_FLIGHT_MAX).try_collect().await
}

/// `multiaccount_import`.
///
/// An illegal name or too long a value fails its entry alone; of several values for one field of an
/// account the last one counts. The answer has no room for the reason, so if the actors failed and not
/// one account was imported, the call fails with their code.
pub(super) async fn import_many(call: &Call<'_>, body: &str) -> Answered {
    let asked: ImportMany<'_> = call.parse(body)?;
    let illegal = Failure::Whole(code::ACCOUNT_PARAMETER_ILLEGAL);
    let mut accounts: Vec<(&str, Result<ProfileChange, ErrorCode>)> = Vec::new();
    if let Some(items) = asked.list.items().map_err(|Malformed| illegal)? {
        for item in items {
            let item = item.given().map_err(|Malformed| illegal)?;
            accounts.push((item.user.name().ok_or(illegal)?, change(item)));
        }
    } else if let Some(names) = asked.names.items().map_err(|Malformed| illegal)? {
        accounts.extend(names.iter().map(|name| (name.name(), Ok(ProfileChange::default()))));
    }
    if accounts.is_empty() || accounts.len() > ACCOUNTS_MAX {
        return Err(illegal);
    }
    let names: Vec<&str> = accounts.iter().map(|(name, _)| *name).collect();
    let mut changes: BTreeMap<UserId, ProfileChange> = BTreeMap::new();
    let entries = accounts.into_iter().map(|(name, change)| {
        let user = legal(name).ok_or(code::ACCOUNT_PARAMETER_ILLEGAL)?;
        let ProfileChange { nick, face_url, .. } = change?;
        let known = changes.entry(user).or_default();
        known.nick = nick.or(known.nick.take());
        known.face_url = face_url.or(known.face_url.take());
        Ok(user)
    });
    let entries: Vec<Result<UserId, ErrorCode>> = entries.collect();
    let commands = changes.into_iter().map(|(user, change)| (user, Command::ImportAccount(change)));
    let done = execute_all(call, commands).await?;
    let verdicts: BTreeMap<UserId, Result<(), ErrorCode>> =
        done.iter().map(|(user, done)| (*user, done.verdict)).collect();
    let verdicts = entries.into_iter().map(|entry| verdicts[&entry?]);
    let verdicts: Vec<Result<(), ErrorCode>> = verdicts.collect();
    let codes = || verdicts.iter().filter_map(|verdict| verdict.err());
    if verdicts.iter().all(Result::is_err) {
        let of_request = [code::ACCOUNT_PARAMETER_ILLEGAL, code::PROFILE_VALUE_TOO_LONG];
        if let Some(fault) = codes().find(|code| !of_request.contains(code)) {
            return call.fails(fault);
        }
    }
    let failed = names.into_iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_err());
    let failed = failed.map(|(name, _)| name).collect();
    let positions = done.iter().filter_map(|(_, done)| done.position);
    let mut answer = call.success(&ImportedMany { failed }).at(positions);
    answer.unsettled = codes().any(|code| is_trouble(code.number));
    Ok(answer)
}

#[derive(Serialize)]
struct ImportedMany<'a> {
    /// Also without failures. Rule: rest-api.md 6.2.
    #[serde(rename = "FailAccounts")]
    failed: Vec<&'a str>,
}

/// The names in a required list of 1 to [`ACCOUNTS_MAX`] objects.
fn names<'a>(list: &'a List<Object<Named<'_>>>) -> Result<Vec<&'a str>, Failure> {
    let illegal = Failure::Whole(code::ACCOUNT_PARAMETER_ILLEGAL);
    let items = list.items().map_err(|Malformed| illegal)?.unwrap_or_default();
    if items.is_empty() || items.len() > ACCOUNTS_MAX {
        return Err(illegal);
    }
    let name = |item: &'a Object<Named<'_>>| item.given().ok()?.user.name();
    items.iter().map(|item| name(item).ok_or(illegal)).collect()
}

/// `account_delete`. An illegal name fails the call before anything is deleted: who deletes for good
/// should mean what they write.
pub(super) async fn delete(call: &Call<'_>, body: &str) -> Answered {
    let asked: Delete<'_> = call.parse(body)?;
    let names = names(&asked.items)?;
    let users: Result<Vec<UserId>, _> = names.iter().map(|name| UserId::parse(name)).collect();
    let Ok(users) = users else { return call.fails(code::ACCOUNT_PARAMETER_ILLEGAL) };
    if !call.app().delete_allowed {
        return call.fails(code::DELETION_FORBIDDEN);
    }
    let mut each = users.clone();
    each.sort_unstable();
    each.dedup();
    let commands = each.into_iter().map(|user| (user, Command::DeleteAccount));
    let done = execute_all(call, commands).await?;
    let mut verdicts: BTreeMap<UserId, Result<(), ErrorCode>> =
        done.iter().map(|(user, done)| (*user, done.verdict)).collect();
    let items = names.into_iter().zip(users).map(|(name, user)| {
        // An entry that repeats one before it finds the account gone.
        let gone = Err(code::ACCOUNT_UNKNOWN);
        let verdict = verdicts.get_mut(&user).map_or(gone, |known| match *known {
            Ok(()) => std::mem::replace(known, gone),
            Err(code) => Err(code),
        });
        Item::of(name, verdict, call)
    });
    let items = items.collect();
    let positions = done.iter().filter_map(|(_, done)| done.position);
    Ok(call.success(&Deleted { items }).at(positions))
}

#[derive(Serialize)]
struct Deleted<'a> {
    #[serde(rename = "ResultItem")]
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    #[serde(rename = "ResultCode")]
    code: u32,
    #[serde(rename = "ResultInfo")]
    info: Info,
    #[serde(rename = "UserID")]
    name: &'a str,
}

impl<'a> Item<'a> {
    fn of(name: &'a str, verdict: Result<(), ErrorCode>, call: &Call<'_>) -> Self {
        Self {
            code: verdict.err().map_or(0, |code| code.number),
            info: Info::of(verdict, call.operation),
            name,
        }
    }
}

/// `account_check`. An illegal name is not imported, which is what was asked; the entry's code says
/// why it never will be, and the other entries keep their answers.
pub(super) async fn check(call: &Call<'_>, body: &str) -> Answered {
    let asked: Check<'_> = call.parse(body)?;
    let names = names(&asked.items)?;
    let users: Vec<Option<UserId>> = names.iter().map(|name| UserId::parse(name).ok()).collect();
    let legal: Vec<UserId> = users.iter().copied().flatten().collect();
    let mut imported = call.imported(call.asker(), &legal).await?.into_iter();
    let items = names.into_iter().zip(users).map(|(name, user)| {
        let verdict = user.map(|_| ()).ok_or(code::ACCOUNT_PARAMETER_ILLEGAL);
        let known = user.is_some() && imported.next() == Some(true);
        CheckedItem {
            name,
            code: verdict.err().map_or(0, |code| code.number),
            info: Info::of(verdict, call.operation),
            status: if known { "Imported" } else { "NotImported" },
        }
    });
    Ok(call.success(&Checked { items: items.collect() }))
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(rename = "ResultItem")]
    items: Vec<CheckedItem<'a>>,
}

#[derive(Serialize)]
struct CheckedItem<'a> {
    #[serde(rename = "UserID")]
    name: &'a str,
    #[serde(rename = "ResultCode")]
    code: u32,
    #[serde(rename = "ResultInfo")]
    info: Info,
    #[serde(rename = "AccountStatus")]
    status: &'static str,
}
