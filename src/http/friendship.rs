//! Friends: add, import, delete, look up. Rule: rest-api.md 4.

use std::collections::BTreeSet;

use serde::Serialize;

use super::answer::{Answered, Failure};
use super::batch::{Batch, RelationItem, Relations, Who, entries, owner, tell_unknown};
use super::beforehand;
use super::call::Call;
use super::card;
use super::error_code as code;
use super::relation::{self, Names, Sides};
use super::shape::{Account, List, Listed, Malformed, Object, Scalar, shape};
use crate::actors::{ItemError, Standing};
use crate::domain::{Card, Command, FormerFriend, NewFriend, OfferForm, Rejection, UserId};

const RELATIONS: Names = Names {
    none: "CheckResult_Type_NoRelation",
    a_with_b: "CheckResult_Type_AWithB",
    b_with_a: "CheckResult_Type_BWithA",
    both_way: "CheckResult_Type_BothWay",
};

shape! {
    /// The body of `friend_add`.
    Add<'a> {
        from: Account<'a> = "From_Account",
        items: List<Object<card::Wanted<'a>>> = "AddFriendItem",
        form: Scalar<'a> = "AddType",
        force: Scalar<'a> = "ForceAddFlags",
    }
}

shape! {
    /// The body of `friend_import`.
    Import<'a> {
        from: Account<'a> = "From_Account",
        items: List<Object<card::Imported<'a>>> = "AddFriendItem",
    }
}

shape! {
    /// The body of `friend_delete`.
    Delete<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
        sides: Scalar<'a> = "DeleteType",
    }
}

shape! {
    /// The body of `friend_delete_all`.
    DeleteAll<'a> {
        from: Account<'a> = "From_Account",
        sides: Scalar<'a> = "DeleteType",
    }
}

shape! {
    /// The body of `friend_check`.
    Check<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
        sides: Scalar<'a> = "CheckType",
    }
}

/// `friend_add`.
pub(super) async fn add(call: &Call<'_>, body: &str) -> Answered {
    let asked: Add<'_> = call.parse(body)?;
    let form = match asked.form.text() {
        Ok(None | Some("Add_Type_Both")) => OfferForm::TwoWay,
        Ok(Some("Add_Type_Single")) => OfferForm::OneWay,
        Ok(Some(_)) | Err(Malformed) => return call.fails(code::REQUEST_INVALID),
    };
    let forced = match asked.force.integer() {
        // Clients force nothing.
        Ok(Some(1)) => !call.as_client,
        // One library calls the ordinary way 2.
        Ok(Some(_) | None) => false,
        Err(Malformed) => return call.fails(code::REQUEST_INVALID),
    };
    let mut wanted = Vec::new();
    for item in entries(&asked.items)? {
        let Ok(item) = item.given() else { return call.fails(code::REQUEST_INVALID) };
        wanted.push((item.to.name(), item.card()));
    }
    offer(call, owner(&asked.from)?, wanted, form, forced).await
}

/// `friend_import`.
pub(super) async fn import(call: &Call<'_>, body: &str) -> Answered {
    let asked: Import<'_> = call.parse(body)?;
    let mut wanted = Vec::new();
    for item in entries(&asked.items)? {
        let Ok(item) = item.given() else { return call.fails(code::REQUEST_INVALID) };
        wanted.push((item.to.name(), item.card(&call.app().friend_fields)));
    }
    offer(call, owner(&asked.from)?, wanted, OfferForm::Import, false).await
}

/// Offers friendships: what is left to the users is judged by them. Rule: rest-api.md 4.2.
async fn offer(
    call: &Call<'_>,
    owner: UserId,
    wanted: Vec<(Option<&str>, Result<Card, Malformed>)>,
    form: OfferForm,
    forced: bool,
) -> Answered {
    let (batch, wanted) = Batch::judge(call, owner, wanted, Who::Known).await;
    let users: Vec<UserId> = wanted.iter().map(|(user, _)| *user).collect();
    let items = wanted.into_iter().map(|(user, card)| NewFriend { user, imported: true, card });
    let items = items.collect();
    let command = Command::AddFriends { items, form, forced };
    let (command, settled) = if call.as_client {
        beforehand::about_adding(call, owner, command).await?
    } else {
        (command, Vec::new())
    };
    let (mut executed, verdict) = batch.execute_judged(call, command).await?;
    for (slot, error) in settled {
        executed.outcomes.insert(slot.min(executed.outcomes.len()), Err(error));
    }
    if form != OfferForm::Import {
        let_peers_speak(call, owner, &users, form, &mut executed.outcomes).await;
        refuse_repeats(&users, &mut executed.outcomes);
    }
    Ok(batch.answer_under(call.operation, executed, verdict.as_ref()))
}

/// Of what the owner refuses without a word of the wanted friends, lets that come first which they would
/// have refused before it. Nothing is recorded of it; while they cannot be heard, the owner's word
/// stands. Rule: rest-api.md 4.2.
async fn let_peers_speak(
    call: &Call<'_>,
    owner: UserId,
    users: &[UserId],
    form: OfferForm,
    outcomes: &mut [Result<(), ItemError>],
) {
    // What a later entry of the call has made was not there yet.
    let mut made = BTreeSet::new();
    let entries = outcomes.iter_mut().zip(users).rev();
    let refused = entries.filter_map(|(outcome, user)| match outcome {
        Ok(()) => {
            made.insert(*user);
            None
        }
        Err(ItemError::Rejected(own)) if relation::may_come_later(*own) && !made.contains(user) => {
            Some((own, *user))
        }
        Err(_) => None,
    });
    let (refused, users): (Vec<_>, Vec<_>) = refused.unzip();
    if users.is_empty() {
        return;
    }
    let between = relation::between(call, call.behind(), owner, &users, Sides::Both).await;
    let Ok(between) = between else { return };
    for (own, both) in refused.into_iter().zip(between) {
        if let Ok(both) = both {
            *own = relation::foremost(*own, form, both);
        }
    }
}

/// The user decides on all entries of a call before the outcome of any offer is known. So an entry that
/// waited for an earlier entry's offer finds the friend that the earlier one made.
/// Rule: rest-api.md 2.2.
fn refuse_repeats(users: &[UserId], outcomes: &mut [Result<(), ItemError>]) {
    let mut made = BTreeSet::new();
    for (outcome, user) in outcomes.iter_mut().zip(users).filter(|(outcome, _)| outcome.is_ok()) {
        if !made.insert(*user) {
            *outcome = Err(ItemError::Rejected(Rejection::AlreadyFriend));
        }
    }
}

/// `friend_delete`.
pub(super) async fn delete(call: &Call<'_>, body: &str) -> Answered {
    let asked: Delete<'_> = call.parse(body)?;
    let both = deletes_both(call, &asked.sides)?;
    let (batch, users) = Batch::read(&asked.from, &asked.to)?;
    let mut unheard = Vec::new();
    let targets = if both {
        let standings = relation::standings_about(call, batch.owner, &users).await;
        // An entry that repeats one before it finds nothing left. Rule: rest-api.md 2.2.
        let mut named = BTreeSet::new();
        let found = users.iter().zip(standings).enumerate();
        let former = |(slot, (user, standing)): (usize, (&UserId, Result<Standing, _>))| {
            let is_new = named.insert(*user);
            if is_new && standing.is_err() {
                unheard.push(slot);
            }
            // Who did not say that they have the owner lets go of them all the same, and tells of it.
            let has_me = is_new && standing.is_ok_and(|standing| standing.has_friend);
            FormerFriend { user: *user, has_me }
        };
        found.map(former).collect()
    } else {
        users.iter().map(|user| FormerFriend { user: *user, has_me: false }).collect()
    };
    let mut executed = batch.execute(call, Command::RemoveFriends { targets, both }).await?;
    let stranger = Err(ItemError::Rejected(Rejection::NotFriend));
    for slot in unheard {
        // They may have the owner as a friend, and were not asked to let go.
        if let Some(outcome) = executed.outcomes.get_mut(slot).filter(|it| **it == stranger) {
            *outcome = Err(ItemError::Owed);
        }
    }
    tell_unknown(call, batch.owner, &users, Rejection::NotFriend, &mut executed.outcomes).await;
    Ok(batch.answer(call.operation, executed))
}

/// `DeleteType`. Rule: rest-api.md 4.5.
fn deletes_both(call: &Call<'_>, sides: &Scalar<'_>) -> Result<bool, Failure> {
    match sides.text() {
        Ok(None | Some("Delete_Type_Single")) => Ok(false),
        Ok(Some("Delete_Type_Both")) => Ok(true),
        Ok(Some(_)) | Err(Malformed) => call.fails(code::REQUEST_INVALID),
    }
}

/// `friend_delete_all`.
pub(super) async fn delete_all(call: &Call<'_>, body: &str) -> Answered {
    let asked: DeleteAll<'_> = call.parse(body)?;
    let both = deletes_both(call, &asked.sides)?;
    let command = Command::ClearFriends { both };
    let executed = call.execute(owner(&asked.from)?, command).await;
    let executed = executed.map_err(|error| call.fault(&error))?;
    // A removal that is not done yet will be; a caller who repeats the call waits for it.
    if let Some(error) = executed.outcomes.into_iter().find_map(Result::err) {
        return call.fails(code::of_item(call.operation, error));
    }
    Ok(call.done().at(executed.position))
}

/// `friend_check`.
pub(super) async fn check(call: &Call<'_>, body: &str) -> Answered {
    let asked: Check<'_> = call.parse(body)?;
    let sides = match asked.sides.text() {
        // Old scripts misspell it.
        Ok(Some("CheckResult_Type_Single" | "CheckResult_Type_Singal")) => Sides::Single,
        Ok(Some("CheckResult_Type_Both")) => Sides::Both,
        Ok(Some(_) | None) | Err(Malformed) => return call.fails(code::REQUEST_INVALID),
    };
    let (batch, targets) = Batch::read(&asked.from, &asked.to)?;
    let found =
        relation::look(call, batch.owner, &targets, sides, |s| s.has_friend, &RELATIONS).await?;
    let Relations { items, failed } = batch.relations(call.operation, found, RELATIONS.none);
    Ok(call.success(&Checked { items, failed }))
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(rename = "InfoItem")]
    items: Vec<RelationItem<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}
