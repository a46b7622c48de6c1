//! Profiles: set and get. Rule: rest-api.md 7.

use serde::Serialize;

use super::account::ACCOUNTS_MAX;
use super::answer::{Answered, Failure, Info};
use super::call::Call;
use super::card::{self, TagValue};
use super::error_code::{self as code, ErrorCode};
use super::shape::{Account, List, Listed, Malformed, Object, Scalar, shape};
use crate::domain::{Command, Profile, ProfileChange, UserId};
use crate::tags;

/// The longest text of a field, in bytes. Rule: rest-api.md 7.1.
const TEXT_BYTES_MAX: usize = 500;

/// The longest location, in bytes. Rule: rest-api.md 7.1.
const LOCATION_BYTES_MAX: usize = 16;

shape! {
    /// The body of `portrait_set`.
    Set<'a> {
        from: Account<'a> = "From_Account",
        items: List<Object<TagValue<'a>>> = "ProfileItem",
    }
}

shape! {
    /// The body of `portrait_get`.
    Get<'a> {
        to: List<Listed<'a>> = "To_Account",
        tags: List<Scalar<'a>> = "TagList",
    }
}

/// `portrait_set`: all or nothing.
pub(super) async fn set(call: &Call<'_>, body: &str) -> Answered {
    let asked: Set<'_> = call.parse(body)?;
    let owner = match asked.from.name() {
        None | Some("") => return call.fails(code::PROFILE_REQUEST_INVALID),
        Some(name) => {
            UserId::parse(name).map_err(|_| Failure::Whole(code::PROFILE_ACCOUNT_NOT_IMPORTED))?
        }
    };
    let change = change(call, &asked.items).map_err(Failure::Whole)?;
    let executed = call.execute(owner, Command::SetProfile(change)).await;
    let executed = executed.map_err(|error| call.fault(&error))?;
    Ok(call.done().at(executed.position))
}

/// The new values; of a repeated tag the last one counts.
fn change(call: &Call<'_>, list: &List<Object<TagValue<'_>>>) -> Result<ProfileChange, ErrorCode> {
    let items = match list.items() {
        Ok(Some(items)) if (1..=card::FIELDS_MAX).contains(&items.len()) => items,
        Ok(Some(_) | None) | Err(Malformed) => return Err(code::PROFILE_REQUEST_INVALID),
    };
    let mut change = ProfileChange::default();
    for item in items {
        let item = item.given().map_err(|Malformed| code::PROFILE_REQUEST_INVALID)?;
        let tag = item.tag.text().ok().flatten().ok_or(code::PROFILE_REQUEST_INVALID)?;
        let value = &item.value;
        match tag {
            tags::NICK => change.nick = Some(text(value, TEXT_BYTES_MAX)?),
            tags::IMAGE => change.face_url = Some(text(value, TEXT_BYTES_MAX)?),
            tags::LOCATION => change.location = Some(text(value, LOCATION_BYTES_MAX)?),
            tags::SELF_SIGNATURE => change.self_signature = Some(text(value, TEXT_BYTES_MAX)?),
            tags::ALLOW_TYPE => change.allow_type = Some(one_of(value, &tags::ALLOW_TYPES)?),
            tags::GENDER => change.gender = Some(one_of(value, &tags::GENDERS)?),
            tags::ADMIN_FORBID_TYPE => {
                change.requests_forbidden = Some(one_of(value, &tags::ADMIN_FORBID_TYPES)?);
            }
            tags::BIRTHDAY => change.birthday = Some(number(value)?),
            tags::LANGUAGE => change.language = Some(number(value)?),
            tags::MSG_SETTINGS => change.msg_settings = Some(number(value)?),
            tags::LEVEL => change.level = Some(number(value)?),
            tags::ROLE => change.role = Some(number(value)?),
            tag if is_custom(tag) && call.app().has_profile_field(tag) => {
                card::set(&mut change.custom, tag, text(value, TEXT_BYTES_MAX)?);
            }
            _ => return Err(code::PROFILE_TAG_UNKNOWN),
        }
    }
    Ok(change)
}

fn is_custom(tag: &str) -> bool {
    tag.starts_with(tags::CUSTOM_PREFIX)
}

fn text(value: &Scalar<'_>, bytes_max: usize) -> Result<Box<str>, ErrorCode> {
    match value {
        Scalar::Text(text) if text.len() <= bytes_max => Ok((**text).into()),
        Scalar::Text(_) => Err(code::PROFILE_VALUE_TOO_LONG),
        Scalar::Integer(_) | Scalar::Absent | Scalar::Other => Err(code::PROFILE_VALUE_TYPE_WRONG),
    }
}

fn number(value: &Scalar<'_>) -> Result<u32, ErrorCode> {
    match value {
        Scalar::Integer(value) => {
            u32::try_from(*value).map_err(|_| code::PROFILE_VALUE_NOT_ALLOWED)
        }
        Scalar::Text(_) | Scalar::Absent | Scalar::Other => Err(code::PROFILE_VALUE_TYPE_WRONG),
    }
}

fn one_of<T: Copy>(value: &Scalar<'_>, names: &[(&str, T)]) -> Result<T, ErrorCode> {
    match value {
        Scalar::Text(text) => tags::meaning(names, text).ok_or(code::PROFILE_VALUE_NOT_ALLOWED),
        Scalar::Integer(_) | Scalar::Absent | Scalar::Other => Err(code::PROFILE_VALUE_TYPE_WRONG),
    }
}

/// `portrait_get`.
pub(super) async fn get(call: &Call<'_>, body: &str) -> Answered {
    let asked: Get<'_> = call.parse(body)?;
    let names = match asked.to.items() {
        Ok(Some(names)) if names.len() > ACCOUNTS_MAX => {
            return call.fails(code::PROFILE_REQUEST_INVALID);
        }
        Ok(Some(names)) if !names.is_empty() => names,
        Ok(Some(_) | None) | Err(Malformed) => return call.fails(code::PROFILE_ACCOUNTS_MISSING),
    };
    let wanted = wanted(call, &asked.tags).map_err(Failure::Whole)?;
    let users: Vec<Option<UserId>> =
        names.iter().map(|name| UserId::parse(name.name()).ok()).collect();
    let legal = users.iter().flatten().map(|user| call.key(*user));
    let mut profiles = call.asker().profiles(legal).await.into_iter();
    let found: Vec<Result<Box<Profile>, ErrorCode>> = users
        .into_iter()
        .map(|user| match user.and_then(|_| profiles.next()) {
            Some(Ok(Some(profile))) => Ok(profile),
            Some(Ok(None)) | None => Err(code::PROFILE_ACCOUNT_NOT_IMPORTED),
            Some(Err(error)) => Err(call.unheard(&error)),
        })
        .collect();
    let items = names.iter().zip(&found).map(|(name, found)| Shown {
        name: name.name(),
        fields: found.as_ref().ok().map(|profile| fields(call, profile, &wanted)),
        code: found.as_ref().err().map_or(0, |code| code.number),
        info: Info::of(found.as_ref().map(|_| ()).map_err(|code| *code), call.operation),
    });
    let items: Vec<Shown<'_>> = items.collect();
    let failed = items.iter().filter(|item| item.code != 0).map(|item| item.name).collect();
    Ok(call.success(&AllShown { items, failed }))
}

fn fields<'a>(call: &Call<'_>, profile: &'a Profile, wanted: &[&'a str]) -> Vec<tags::Item<'a>> {
    let default = call.app().default_allow_type;
    let field =
        |tag: &&'a str| Some(tags::Item { tag, value: tags::of_profile(profile, tag, default)? });
    wanted.iter().filter_map(field).collect()
}

/// The tags that are asked for, each once.
fn wanted<'a>(call: &Call<'_>, list: &'a List<Scalar<'_>>) -> Result<Vec<&'a str>, ErrorCode> {
    let items = match list.items() {
        Ok(Some(items)) if (1..=card::FIELDS_MAX).contains(&items.len()) => items,
        Ok(Some(_) | None) | Err(Malformed) => return Err(code::PROFILE_REQUEST_INVALID),
    };
    let none = Profile::default();
    let mut wanted: Vec<&str> = Vec::with_capacity(items.len());
    for item in items {
        let tag = item.text().ok().flatten().ok_or(code::PROFILE_REQUEST_INVALID)?;
        let exists = tags::of_profile(&none, tag, call.app().default_allow_type).is_some()
            && call.app().has_profile_field(tag);
        if !exists {
            return Err(code::PROFILE_TAG_UNKNOWN);
        }
        if !wanted.contains(&tag) {
            wanted.push(tag);
        }
    }
    Ok(wanted)
}

#[derive(Serialize)]
struct AllShown<'a> {
    #[serde(rename = "UserProfileItem")]
    items: Vec<Shown<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(rename = "ProfileItem", skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<tags::Item<'a>>>,
    #[serde(rename = "ResultCode")]
    code: u32,
    #[serde(rename = "ResultInfo")]
    info: Info,
}
