//! Deliveries: fetch what is owed, see what was given up, and how everything stands.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::subscription::commands;
use super::{ID_BYTES_MAX, Named, ask, moment, name_if_given, seconds};
use crate::domain::{Timestamp, UserId};
use crate::http::answer::{Answered, Failure};
use crate::http::call::Call;
use crate::http::error_code as code;
use crate::http::page;
use crate::http::shape::{Account, List, Malformed, Scalar, shape};
use crate::journal::{Offset, Partition};
use crate::subscriptions::{
    Delivered, EventsWanted, Letter, LogWanted, OwedDelivery, Page, PageFrom, PageWanted,
    ParkedUser, STATES, Status,
};

/// The longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 256 * 1024;

/// What became of a delivery.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeliveryItem {
    /// The subscription.
    name: String,
    /// The delivery.
    id: String,
    /// Whose event it tells.
    #[serde(rename = "From_Account")]
    user: UserId,
    /// When that happened.
    #[serde(rename = "EventTime", serialize_with = "in_ms")]
    at: Timestamp,
    /// One word.
    state: &'static str,
    /// Attempts that were spent on it, if that is known.
    attempts: u32,
    /// What the last attempt came to, if that is known.
    #[serde(rename = "Info")]
    error: Box<str>,
}

impl From<Delivered> for DeliveryItem {
    fn from(of: Delivered) -> Self {
        Self {
            name: of.subscription,
            id: of.id.to_string(),
            user: of.user,
            at: of.at,
            state: of.state.unwrap_or("passed"),
            attempts: of.attempts,
            error: of.error,
        }
    }
}

/// A delivery that is owed.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventItem {
    /// Its id.
    id: String,
    /// What it tells.
    command: &'static str,
    /// The partition of its record.
    partition: Partition,
    /// The record's offset.
    offset: Offset,
    /// Whose event it is.
    #[serde(rename = "From_Account")]
    user: UserId,
    /// When that happened.
    #[serde(rename = "EventTime", serialize_with = "in_ms")]
    at: Timestamp,
    /// The body, byte for byte as it is sent.
    body: String,
}

impl From<OwedDelivery> for EventItem {
    fn from(OwedDelivery { id, user, at, body }: OwedDelivery) -> Self {
        let (command, partition, offset) = (id.command.name(), id.partition, id.offset);
        Self { id: id.to_string(), command, partition, offset, user, at, body }
    }
}

/// A delivery that was given up.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct LetterItem {
    /// The subscription.
    name: String,
    /// Which replay of it; 0 for none.
    replay: u32,
    /// Its id.
    id: Box<str>,
    /// Whose event it tells.
    #[serde(rename = "From_Account")]
    user: UserId,
    /// Attempts that were spent on it.
    attempts: u32,
    /// When it was given up.
    #[serde(rename = "Time", serialize_with = "in_seconds")]
    at: Timestamp,
    /// What the last attempt came to.
    #[serde(rename = "Info")]
    error: Box<str>,
}

impl From<Letter> for LetterItem {
    fn from(Letter { subscription, replay, letter }: Letter) -> Self {
        Self {
            name: subscription,
            replay: replay.unwrap_or(0),
            id: letter.id,
            user: letter.user,
            attempts: letter.attempts,
            at: letter.at,
            error: letter.error,
        }
    }
}

/// How a subscription, or a replay of one, stands.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusItem {
    /// Its name.
    name: String,
    /// Which replay of it; 0 for none.
    replay: u32,
    /// Deliveries that the receiver accepted.
    delivered: u64,
    /// Deliveries that were given up.
    dead: u64,
    /// Records that it is not done with, as `cordon_webhook_lag_records` has them; of a partition that
    /// another node owns, those behind the place that was saved last.
    #[serde(rename = "LagRecords")]
    lag: u64,
    /// The term of its last move, which grows with each and is no count; 0 if there was none.
    term: u32,
    /// Since when the receiver counts as down, if it does.
    #[serde(serialize_with = "in_seconds_or_0")]
    down_since: Option<Timestamp>,
    /// Why nothing is sent any more, if that is so.
    halted: Box<str>,
    /// What the last failed attempt came to.
    #[serde(rename = "Info")]
    error: Box<str>,
    /// Users whose deliveries wait.
    #[serde(rename = "ParkedItem")]
    parked: Vec<ParkedItem>,
}

impl From<Status> for StatusItem {
    fn from(of: Status) -> Self {
        Self {
            name: of.name,
            replay: of.replay,
            delivered: of.delivered,
            dead: of.dead,
            lag: of.lag,
            term: of.term,
            down_since: of.down_since,
            halted: of.halted,
            error: of.error,
            parked: of.parked.into_iter().map(ParkedItem::from).collect(),
        }
    }
}

/// A user whose deliveries wait.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct ParkedItem {
    /// Who.
    #[serde(rename = "From_Account")]
    user: UserId,
    /// The partition of their records.
    partition: Partition,
    /// The offset of the first whose delivery waits.
    offset: Offset,
    /// Attempts that were spent on it.
    attempts: u32,
    /// Since when it waits.
    #[serde(rename = "Time", serialize_with = "in_seconds")]
    since: Timestamp,
    /// What the last attempt came to.
    #[serde(rename = "Info")]
    error: Box<str>,
}

impl From<ParkedUser> for ParkedItem {
    fn from(ParkedUser { user, partition, offset, attempts, since, error }: ParkedUser) -> Self {
        Self { user, partition, offset, attempts, since, error }
    }
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
    let page = ask(call, call.subscribers.events(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("Events", page.map(EventItem::from))))
}

/// `dead_letters_get`.
pub(in crate::http) async fn dead_letters(call: &Call<'_>, body: &str) -> Answered {
    let asked: Letters<'_> = call.parse(body)?;
    let wanted = wanted(&asked.name, &asked.cursor, &asked.since, &asked.max)?;
    let page = ask(call, call.subscribers.dead_letters(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("DeadLetterItem", page.map(LetterItem::from))))
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
    let page = ask(call, call.subscribers.log(call.app().id, wanted)).await?;
    Ok(call.success(&PageAnswer("DeliveryItem", page.map(DeliveryItem::from))))
}

/// `status_get`.
pub(in crate::http) async fn status(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let name = name_if_given(&asked.name)?.map(Box::from);
    let statuses = ask(call, call.subscribers.statuses(call.app().id, name)).await?;
    let items = statuses.into_iter().map(StatusItem::from).collect();
    Ok(call.success(&StatusAnswer { items }))
}

#[derive(serde::Serialize)]
struct StatusAnswer {
    #[serde(rename = "StatusItem")]
    items: Vec<StatusItem>,
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
