//! The friend list: change records, list, look up. Rule: rest-api.md 4.4, 4.8 and 4.9.

use futures_util::future::join;
use serde::Serialize;

use super::answer::{Answered, Info};
use super::batch::{Batch, Who, entries, owner, tell_unknown};
use super::call::Call;
use super::card;
use super::error_code as code;
use super::page;
use super::shape::{Account, List, Listed, Malformed, Object, Scalar, shape};
use crate::actors::{ExecuteError, FriendRecord};
use crate::domain::{Command, FriendUpdate, Profile, Rejection, UserId};
use crate::tags;

/// The size of a page of `friend_get`. Rule: rest-api.md 4.8.
const PAGE: usize = 100;

/// The most friends of one `friend_get_list`. Rule: rest-api.md 4.9.
const LOOKED_UP_MAX: usize = 100;

shape! {
    /// The body of `friend_update`.
    Update<'a> {
        from: Account<'a> = "From_Account",
        items: List<Object<card::Updated<'a>>> = "UpdateItem",
    }
}

shape! {
    /// The body of `friend_get`.
    Get<'a> {
        from: Account<'a> = "From_Account",
        start: Scalar<'a> = "StartIndex",
        sequence: Scalar<'a> = "StandardSequence",
        custom_sequence: Scalar<'a> = "CustomSequence",
    }
}

shape! {
    /// The body of `friend_get_list`.
    GetList<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
        tags: List<Scalar<'a>> = "TagList",
    }
}

/// `friend_update`.
pub(super) async fn update(call: &Call<'_>, body: &str) -> Answered {
    let asked: Update<'_> = call.parse(body)?;
    let owner = owner(&asked.from)?;
    let mut named = Vec::new();
    for item in entries(&asked.items)? {
        let Ok(item) = item.given() else { return call.fails(code::REQUEST_INVALID) };
        named.push((item.to.name(), item.change(&call.app().friend_fields)));
    }
    let (batch, changes) = Batch::judge(call, owner, named, Who::Named).await;
    let users: Vec<UserId> = changes.iter().map(|(user, _)| *user).collect();
    let items = changes.into_iter().map(|(user, change)| FriendUpdate { user, change }).collect();
    let mut executed = batch.execute(call, Command::UpdateFriends { items }).await?;
    tell_unknown(call, batch.owner, &users, Rejection::NotFriend, &mut executed.outcomes).await;
    Ok(batch.answer(call.operation, executed))
}

/// `friend_get`.
pub(super) async fn get(call: &Call<'_>, body: &str) -> Answered {
    let asked: Get<'_> = call.parse(body)?;
    let number = |field: &Scalar<'_>| match field.number() {
        Ok(number) => Ok(number.unwrap_or(0)),
        Err(Malformed) => call.fails(code::REQUEST_INVALID),
    };
    let start = number(&asked.start)?;
    let (known, known_custom) = (number(&asked.sequence)?, number(&asked.custom_sequence)?);
    let key = call.key(owner(&asked.from)?);
    let page = call.asker().friends(key, start, PAGE).await.map_err(|error| call.fault(&error))?;
    if !page.imported {
        return call.fails(code::ACCOUNT_NOT_IMPORTED);
    }
    // One library sends the sequences of the first page along with the others.
    let unchanged = |known: usize, now: u32| start == 0 && known != 0 && known == now as usize;
    let standard = !unchanged(known, page.sequence);
    let custom = !unchanged(known_custom, page.custom_sequence);
    let next = page::next(start, page.entries.len(), page.total);
    let items = page
        .entries
        .iter()
        .map(|record| UserData { name: record.peer, values: fields(record, standard, custom) });
    Ok(call.success(&Page {
        items: items.collect(),
        sequence: page.sequence,
        custom_sequence: page.custom_sequence,
        total: page.total,
        complete: u8::from(next == 0),
        next,
    }))
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(rename = "UserDataItem")]
    items: Vec<UserData<'a>>,
    #[serde(rename = "StandardSequence")]
    sequence: u32,
    #[serde(rename = "CustomSequence")]
    custom_sequence: u32,
    #[serde(rename = "FriendNum")]
    total: usize,
    #[serde(rename = "CompleteFlag")]
    complete: u8,
    /// 0 at the end.
    #[serde(rename = "NextStartIndex")]
    next: usize,
}

#[derive(Serialize)]
struct UserData<'a> {
    #[serde(rename = "To_Account")]
    name: UserId,
    #[serde(rename = "ValueItem")]
    values: Vec<Field<'a>>,
}

/// A field of a friend, or of their profile.
#[derive(Clone, Copy, Serialize)]
struct Field<'a> {
    #[serde(rename = "Tag")]
    tag: &'a str,
    #[serde(rename = "Value")]
    value: Value<'a>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(&'a str),
    Number(u32),
    Texts(&'a [Box<str>]),
}

/// The fields of a friend's record that have a value. Rule: rest-api.md 4.1.
fn fields(record: &FriendRecord, standard: bool, custom: bool) -> Vec<Field<'_>> {
    let card = &record.card;
    let mut fields = Vec::with_capacity(5);
    if standard {
        if !card.groups.is_empty() {
            fields.push(Field { tag: card::GROUP, value: Value::Texts(&card.groups) });
        }
        let texts = [
            (card::REMARK, &card.remark),
            (card::ADD_SOURCE, &card.source),
            (card::ADD_WORDING, &card.wording),
        ];
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        fields.extend(texts.map(|(tag, text)| Field { tag, value: Value::Text(text) }));
        fields.push(Field { tag: card::ADD_TIME, value: Value::Number(record.at) });
    }
    if custom {
        let texts = card.custom.iter().filter(|(_, text)| !text.is_empty());
        fields.extend(texts.map(|(tag, text)| Field { tag, value: Value::Text(text) }));
    }
    fields
}

/// `friend_get_list`.
pub(super) async fn get_list(call: &Call<'_>, body: &str) -> Answered {
    let asked: GetList<'_> = call.parse(body)?;
    if entries(&asked.to)?.len() > LOOKED_UP_MAX {
        return call.fails(code::REQUEST_INVALID);
    }
    let Ok(wanted) = wanted(&asked.tags) else { return call.fails(code::REQUEST_INVALID) };
    let (batch, users) = Batch::read(&asked.from, &asked.to)?;
    let key = call.key(batch.owner);
    let found = call.asker().friend_records(key, users.clone()).await;
    let found = found.map_err(|error| call.fault(&error))?;
    let Some(records) = found else { return call.fails(code::ACCOUNT_NOT_IMPORTED) };
    let strangers = users.iter().zip(&records).filter(|(_, record)| record.is_none());
    let strangers: Vec<UserId> = strangers.map(|(user, _)| *user).collect();
    let imported = call.asker().imported(call.app().id, &strangers);
    let (imported, profiles) = join(imported, profiles(call, &wanted, &records)).await;
    let (mut imported, mut profiles) = (imported.iter(), profiles.iter());
    let expected = records.iter().map(|record| match record {
        Some(record) if wanted.of_profile => match profiles.next() {
            Some(Ok(profile)) => Ok((record, profile.as_deref())),
            Some(Err(error)) => Err(call.unheard(error)),
            None => Err(code::broken(call.operation)),
        },
        Some(record) => Ok((record, None)),
        None => Err(match imported.next() {
            Some(Ok(true)) => code::FRIEND_UNKNOWN,
            Some(Ok(false)) => code::ACCOUNT_NOT_IMPORTED,
            Some(Err(error)) => call.unheard(error),
            None => code::broken(call.operation),
        }),
    });
    let items = batch.verdicts(call.operation, expected).map(|(name, found)| Looked {
        name,
        fields: found.ok().map(|(record, profile)| wanted.of(record, profile, call)),
        code: found.err().map_or(0, |code| code.number),
        info: Info::of(found.map(|_| ()), call.operation),
    });
    let items: Vec<Looked<'_>> = items.collect();
    let failed = items.iter().filter(|item| item.code != 0).map(|item| item.name).collect();
    Ok(call.success(&LookedUp { items, failed }))
}

/// The profiles of the friends, in order, if any field of them is wanted. A friend whose account is
/// being deleted has none any more.
async fn profiles(
    call: &Call<'_>,
    wanted: &Wanted<'_>,
    records: &[Option<FriendRecord>],
) -> Vec<Result<Option<Box<Profile>>, ExecuteError>> {
    if !wanted.of_profile {
        return Vec::new();
    }
    let peers = records.iter().flatten().map(|record| call.key(record.peer));
    call.asker().profiles(peers).await
}

/// Which fields are asked for; all of friends if nothing is said.
struct Wanted<'a> {
    tags: Option<Vec<&'a str>>,
    of_profile: bool,
}

fn wanted<'a>(tags: &'a List<Scalar<'_>>) -> Result<Wanted<'a>, Malformed> {
    let Some(items) = tags.items()? else { return Ok(Wanted { tags: None, of_profile: false }) };
    // Missing is not empty: a required list that names nothing is refused. Rule: rest-api.md 2.3, 4.9.
    if !(1..=card::FIELDS_MAX).contains(&items.len()) {
        return Err(Malformed);
    }
    let mut tags: Vec<&str> = Vec::with_capacity(items.len());
    for item in items {
        let tag = item.text()?.ok_or(Malformed)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let of_profile = tags.iter().any(|tag| tag.starts_with("Tag_Profile_"));
    Ok(Wanted { tags: Some(tags), of_profile })
}

impl<'a> Wanted<'a> {
    fn of<'r: 'o, 'o>(
        &self,
        record: &'r FriendRecord,
        profile: Option<&'o Profile>,
        call: &Call<'_>,
    ) -> Vec<Field<'o>>
    where
        'a: 'o,
    {
        let known: Vec<Field<'o>> = fields(record, true, true);
        let Some(tags) = &self.tags else { return known };
        let default = call.app().default_allow_type;
        let field = |tag: &&'a str| {
            if let Some(field) = known.iter().find(|field| field.tag == *tag) {
                return Some(*field);
            }
            let declared = call.app().has_profile_field(tag);
            let value = profile.filter(|_| declared)?;
            let value = match tags::of_profile(value, tag, default)? {
                tags::Value::Text(text) => Value::Text(text),
                tags::Value::Number(number) => Value::Number(number),
            };
            Some(Field { tag, value })
        };
        tags.iter().filter_map(field).collect()
    }
}

#[derive(Serialize)]
struct LookedUp<'a> {
    #[serde(rename = "InfoItem")]
    items: Vec<Looked<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}

#[derive(Serialize)]
struct Looked<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(rename = "SnsProfileItem", skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Field<'a>>>,
    #[serde(rename = "ResultCode")]
    code: u32,
    #[serde(rename = "ResultInfo")]
    info: Info,
}
