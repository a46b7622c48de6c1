//! Deliveries: fetch what is owed, see what was given up, and how everything stands.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::desk::Asked;
use super::subscription::commands;
use super::{ID_BYTES_MAX, Named, ask, moment, name_if_given, seconds};
use crate::domain::{AppId, Timestamp, UserId};
use crate::http::answer::{Answered, Failure};
use crate::http::call::Call;
use crate::http::error_code as code;
use crate::http::page;
use crate::http::shape::{Account, List, Malformed, Scalar, shape};
use crate::journal::{Offset, Partition};

/// What can become of a call.
const STATES: [&str; 4] = ["delivered", "dead", "parked", "waiting"];
/// The longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 256 * 1024;

/// What a node knows of its deliveries, beside the subscriptions.
pub trait Deliveries {
    /// The calls that are owed, from a place on.
    fn events(&self, app: AppId, wanted: EventsWanted) -> Asked<'_, Page<EventSeen>>;

    /// The calls that were given up, from a place on.
    fn dead_letters(&self, app: AppId, wanted: PageWanted) -> Asked<'_, Page<LetterSeen>>;

    /// What became of calls, from a place on.
    fn log(&self, app: AppId, wanted: LogWanted) -> Asked<'_, Page<DeliverySeen>>;

    /// How each subscription stands, or the one that is named.
    fn statuses(&self, app: AppId, name: Option<Box<str>>) -> Asked<'_, Vec<StatusSeen>>;
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Of which subscription; of all if none is named.
    pub name: Option<Box<str>>,
    /// Where it begins.
    pub from: PageFrom,
    /// How long it may be.
    pub items_max: usize,
}

/// Which page of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsWanted {
    /// The page; what the subscription asks for bounds what is told.
    pub page: PageWanted,
    /// Only these commands.
    pub commands: Vec<Box<str>>,
}

/// Which page of what became of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWanted {
    /// The page.
    pub page: PageWanted,
    /// Only this call.
    pub id: Option<String>,
    /// Only calls about this user's events.
    pub user: Option<UserId>,
    /// Only calls in this state.
    pub state: Option<&'static str>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeliverySeen {
    /// The subscription.
    pub name: String,
    /// The call.
    pub id: String,
    /// Whose event it tells.
    #[serde(rename = "From_Account")]
    pub user: UserId,
    /// When that happened.
    #[serde(rename = "EventTime", serialize_with = "in_ms")]
    pub at: Timestamp,
    /// One word.
    pub state: &'static str,
    /// Attempts that were spent on it, if that is known.
    pub attempts: u32,
    /// What the last attempt came to, if that is known.
    #[serde(rename = "Info")]
    pub error: Box<str>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFrom {
    /// With the first record that there is.
    Beginning,
    /// With the first record of this moment or later.
    Time(Timestamp),
    /// Behind the last record that there is.
    End,
    /// Where an earlier page ended.
    Cursor(String),
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins.
    pub cursor: String,
    /// There was nothing behind it.
    pub complete: bool,
}

/// A call that is owed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventSeen {
    /// Its id.
    pub id: String,
    /// What it tells.
    pub command: &'static str,
    /// The partition of its record.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// Whose event it is.
    #[serde(rename = "From_Account")]
    pub user: UserId,
    /// When that happened.
    #[serde(rename = "EventTime", serialize_with = "in_ms")]
    pub at: Timestamp,
    /// The body, byte for byte as it is sent.
    pub body: String,
}

/// A call that was given up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LetterSeen {
    /// The subscription.
    pub name: String,
    /// Which replay of it; 0 for none.
    pub replay: u32,
    /// Its id.
    pub id: Box<str>,
    /// Whose event it tells.
    #[serde(rename = "From_Account")]
    pub user: UserId,
    /// Attempts that were spent on it.
    pub attempts: u32,
    /// When it was given up.
    #[serde(rename = "Time", serialize_with = "in_seconds")]
    pub at: Timestamp,
    /// What the last attempt came to.
    #[serde(rename = "Info")]
    pub error: Box<str>,
}

/// How a subscription, or a replay of one, stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusSeen {
    /// Its name.
    pub name: String,
    /// Which replay of it; 0 for none.
    pub replay: u32,
    /// Calls that were delivered.
    pub delivered: u64,
    /// Calls that were given up.
    pub dead: u64,
    /// Records that it is not done with, as `cordon_webhook_lag_records` has them; of a partition that
    /// another node owns, those behind the place that was saved last.
    #[serde(rename = "LagRecords")]
    pub lag: u64,
    /// The term of its last move, which grows with each and is no count; 0 if there was none.
    pub term: u32,
    /// Since when the receiver counts as down, if it does.
    #[serde(serialize_with = "in_seconds_or_0")]
    pub down_since: Option<Timestamp>,
    /// Why nothing is sent any more, if that is so.
    pub halted: Box<str>,
    /// What the last failed attempt came to.
    #[serde(rename = "Info")]
    pub error: Box<str>,
    /// Users whose calls wait.
    #[serde(rename = "ParkedItem")]
    pub parked: Vec<ParkedSeen>,
}

/// A user whose calls wait.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ParkedSeen {
    /// Who.
    #[serde(rename = "From_Account")]
    pub user: UserId,
    /// The partition of their records.
    pub partition: Partition,
    /// The offset of the first whose call waits.
    pub offset: Offset,
    /// Attempts that were spent on it.
    pub attempts: u32,
    /// Since when it waits.
    #[serde(rename = "Time", serialize_with = "in_seconds")]
    pub since: Timestamp,
    /// What the last attempt came to.
    #[serde(rename = "Info")]
    pub error: Box<str>,
}

fn in_ms<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.0)
}

fn in_seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(seconds(*at))
}

fn in_seconds_or_0<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.map_or(0, seconds))
}

/// A page as it is sent, and how its items are called there.
struct PageAnswer<T>(&'static str, Page<T>);

impl<T: Serialize> Serialize for PageAnswer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, Page { items, cursor, complete }) = self;
        let mut members = serializer.serialize_map(Some(3))?;
        members.serialize_entry(name, items)?;
        members.serialize_entry("Cursor", cursor)?;
        members.serialize_entry("Complete", &u8::from(*complete))?;
        members.end()
    }
}

shape! {
    /// The body of `events_get`.
    Events<'a> {
        name: Scalar<'a> = "Name",
        cursor: Scalar<'a> = "Cursor",
        from: Scalar<'a> = "From",
        since: Scalar<'a> = "Since",
        max: Scalar<'a> = "MaxLimited",
        commands: List<Scalar<'a>> = "Commands",
    }
}

shape! {
    /// The body of `dead_letters_get`.
    Letters<'a> {
        name: Scalar<'a> = "Name",
        cursor: Scalar<'a> = "Cursor",
        since: Scalar<'a> = "Since",
        max: Scalar<'a> = "MaxLimited",
    }
}

shape! {
    /// The body of `deliveries_get`.
    Log<'a> {
        name: Scalar<'a> = "Name",
        cursor: Scalar<'a> = "Cursor",
        since: Scalar<'a> = "Since",
        max: Scalar<'a> = "MaxLimited",
        id: Scalar<'a> = "Id",
        user: Account<'a> = "From_Account",
        state: Scalar<'a> = "State",
    }
}

/// `events_get`: the same ids and the same bytes as a receiver is sent.
pub(in crate::http) async fn events(call: &Call<'_>, body: &str) -> Answered {
    let asked: Events<'_> = call.parse(body)?;
    let end = match asked.from.text() {
        Ok(None | Some("Beginning")) => false,
        Ok(Some("End")) => true,
        Ok(Some(_)) | Err(Malformed) => return call.fails(code::WEBHOOK_CURSOR_WRONG),
    };
    let mut page = wanted(&asked.name, &asked.cursor, &asked.since, &asked.max)?;
    if end && page.from == PageFrom::Beginning {
        page.from = PageFrom::End;
    }
    let commands = commands(&asked.commands)?.unwrap_or_default();
    let wanted = EventsWanted { page, commands };
    let page = ask(call, call.webhooks.events(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("Events", page)))
}

/// `dead_letters_get`.
pub(in crate::http) async fn dead_letters(call: &Call<'_>, body: &str) -> Answered {
    let asked: Letters<'_> = call.parse(body)?;
    let wanted = wanted(&asked.name, &asked.cursor, &asked.since, &asked.max)?;
    let page = ask(call, call.webhooks.dead_letters(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("DeadLetterItem", page)))
}

/// `deliveries_get`.
pub(in crate::http) async fn log(call: &Call<'_>, body: &str) -> Answered {
    let asked: Log<'_> = call.parse(body)?;
    let page = wanted(&asked.name, &asked.cursor, &asked.since, &asked.max)?;
    let wrong = Failure::Whole(code::WEBHOOK_NUMBER_WRONG);
    let id = asked.id.text().map_err(|Malformed| wrong)?;
    if id.is_some_and(|id| id.len() > ID_BYTES_MAX) {
        return Err(wrong);
    }
    let user = asked.user.name().map(UserId::parse).transpose().map_err(|_| wrong)?;
    let state = match asked.state.text().map_err(|Malformed| wrong)? {
        None => None,
        Some(state) => Some(*STATES.iter().find(|known| **known == state).ok_or(wrong)?),
    };
    let wanted = LogWanted { page, id: id.map(str::to_owned), user, state };
    let page = ask(call, call.webhooks.log(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("DeliveryItem", page)))
}

/// `status_get`.
pub(in crate::http) async fn status(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let name = name_if_given(&asked.name)?.map(Box::from);
    let items = ask(call, call.webhooks.statuses(call.app().id, name)).await?;
    Ok(call.success(&StatusAnswer { items }))
}

#[derive(serde::Serialize)]
struct StatusAnswer {
    #[serde(rename = "StatusItem")]
    items: Vec<StatusSeen>,
}

fn wanted(
    name: &Scalar<'_>,
    cursor: &Scalar<'_>,
    since: &Scalar<'_>,
    max: &Scalar<'_>,
) -> Result<PageWanted, Failure> {
    let since = moment(since, code::WEBHOOK_CURSOR_WRONG)?;
    let from = match cursor.text() {
        Ok(None | Some("")) => since.map_or(PageFrom::Beginning, PageFrom::Time),
        Ok(Some(cursor)) if cursor.len() <= CURSOR_BYTES_MAX => PageFrom::Cursor(cursor.to_owned()),
        Ok(Some(_)) | Err(Malformed) => return Err(Failure::Whole(code::WEBHOOK_CURSOR_WRONG)),
    };
    let wrong = |Malformed| Failure::Whole(code::WEBHOOK_NUMBER_WRONG);
    let items_max = page::items_max(max).map_err(wrong)?;
    Ok(PageWanted { name: name_if_given(name)?.map(Box::from), from, items_max })
}

#[cfg(any(test, fuzzing))]
impl Deliveries for super::desk::Nobody {
    fn events(&self, _: AppId, _: EventsWanted) -> Asked<'_, Page<EventSeen>> {
        Self::refuse()
    }

    fn dead_letters(&self, _: AppId, _: PageWanted) -> Asked<'_, Page<LetterSeen>> {
        Self::refuse()
    }

    fn log(&self, _: AppId, _: LogWanted) -> Asked<'_, Page<DeliverySeen>> {
        Self::refuse()
    }

    fn statuses(&self, _: AppId, _: Option<Box<str>>) -> Asked<'_, Vec<StatusSeen>> {
        Self::refuse()
    }
}
