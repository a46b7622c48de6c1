//! The answers about deliveries, as they are sent.

use serde::Serialize;

use super::{DeliverySeen, EventSeen, LetterSeen, Page, StatusSeen};
use crate::domain::UserId;
use crate::http::webhook::seconds;
use crate::journal::{Offset, Partition};

#[derive(Serialize)]
pub(super) struct EventsAnswer {
    #[serde(rename = "Events")]
    items: Vec<EventItem>,
    #[serde(rename = "Cursor")]
    cursor: String,
    #[serde(rename = "Complete")]
    complete: u8,
}

impl EventsAnswer {
    pub(super) fn of(page: Page<EventSeen>) -> Self {
        let items = page.items.into_iter().map(EventItem::of).collect();
        Self { items, cursor: page.cursor, complete: page.complete.into() }
    }
}

#[derive(Serialize)]
struct EventItem {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Command")]
    command: &'static str,
    #[serde(rename = "Partition")]
    partition: Partition,
    #[serde(rename = "Offset")]
    offset: Offset,
    #[serde(rename = "From_Account")]
    user: UserId,
    #[serde(rename = "EventTime")]
    at_ms: i64,
    #[serde(rename = "Body")]
    body: String,
}

impl EventItem {
    fn of(event: EventSeen) -> Self {
        Self {
            id: event.id,
            command: event.command,
            partition: event.place.0,
            offset: event.place.1,
            user: event.user,
            at_ms: event.at.0,
            body: event.body,
        }
    }
}

#[derive(Serialize)]
pub(super) struct LettersAnswer {
    #[serde(rename = "DeadLetterItem")]
    items: Vec<LetterItem>,
    #[serde(rename = "Cursor")]
    cursor: String,
    #[serde(rename = "Complete")]
    complete: u8,
}

impl LettersAnswer {
    pub(super) fn of(page: Page<LetterSeen>) -> Self {
        let items = page.items.into_iter().map(LetterItem::of).collect();
        Self { items, cursor: page.cursor, complete: page.complete.into() }
    }
}

#[derive(Serialize)]
struct LetterItem {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Replay")]
    replay: u32,
    #[serde(rename = "Id")]
    id: Box<str>,
    #[serde(rename = "From_Account")]
    user: UserId,
    #[serde(rename = "Attempts")]
    attempts: u32,
    #[serde(rename = "Time")]
    at: i64,
    #[serde(rename = "Info")]
    info: Box<str>,
}

impl LetterItem {
    fn of(letter: LetterSeen) -> Self {
        Self {
            name: letter.name,
            replay: letter.replay,
            id: letter.id,
            user: letter.user,
            attempts: letter.attempts,
            at: seconds(letter.at),
            info: letter.error,
        }
    }
}

#[derive(Serialize)]
pub(super) struct LogAnswer {
    #[serde(rename = "DeliveryItem")]
    items: Vec<DeliveryItem>,
    #[serde(rename = "Cursor")]
    cursor: String,
    #[serde(rename = "Complete")]
    complete: u8,
}

impl LogAnswer {
    pub(super) fn of(page: Page<DeliverySeen>) -> Self {
        let items = page.items.into_iter().map(DeliveryItem::of).collect();
        Self { items, cursor: page.cursor, complete: page.complete.into() }
    }
}

#[derive(Serialize)]
struct DeliveryItem {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "From_Account")]
    user: UserId,
    #[serde(rename = "EventTime")]
    at_ms: i64,
    #[serde(rename = "State")]
    state: &'static str,
    #[serde(rename = "Attempts")]
    attempts: u32,
    #[serde(rename = "Info")]
    info: Box<str>,
}

impl DeliveryItem {
    fn of(seen: DeliverySeen) -> Self {
        Self {
            name: seen.name,
            id: seen.id,
            user: seen.user,
            at_ms: seen.at.0,
            state: seen.state,
            attempts: seen.attempts,
            info: seen.error,
        }
    }
}

#[derive(Serialize)]
pub(super) struct StatusAnswer {
    #[serde(rename = "StatusItem")]
    items: Vec<StatusItem>,
}

impl StatusAnswer {
    pub(super) fn of(statuses: Vec<StatusSeen>) -> Self {
        Self { items: statuses.into_iter().map(StatusItem::of).collect() }
    }
}

#[derive(Serialize)]
struct StatusItem {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Replay")]
    replay: u32,
    #[serde(rename = "Delivered")]
    delivered: u64,
    #[serde(rename = "Dead")]
    dead: u64,
    #[serde(rename = "LagRecords")]
    lag: u64,
    #[serde(rename = "Term")]
    term: u32,
    #[serde(rename = "DownSince")]
    down_since: i64,
    #[serde(rename = "Halted")]
    halted: Box<str>,
    #[serde(rename = "Info")]
    info: Box<str>,
    #[serde(rename = "ParkedItem")]
    parked: Vec<ParkedItem>,
}

impl StatusItem {
    fn of(seen: StatusSeen) -> Self {
        let parked = seen.parked.into_iter().map(|parked| ParkedItem {
            user: parked.user,
            partition: parked.place.0,
            offset: parked.place.1,
            attempts: parked.attempts,
            since: seconds(parked.since),
            info: parked.error,
        });
        Self {
            name: seen.name,
            replay: seen.replay,
            delivered: seen.delivered,
            dead: seen.dead,
            lag: seen.lag,
            term: seen.term,
            down_since: seen.down_since.map_or(0, seconds),
            halted: seen.halted,
            info: seen.error,
            parked: parked.collect(),
        }
    }
}

#[derive(Serialize)]
struct ParkedItem {
    #[serde(rename = "From_Account")]
    user: UserId,
    #[serde(rename = "Partition")]
    partition: Partition,
    #[serde(rename = "Offset")]
    offset: Offset,
    #[serde(rename = "Attempts")]
    attempts: u32,
    #[serde(rename = "Time")]
    since: i64,
    #[serde(rename = "Info")]
    info: Box<str>,
}
