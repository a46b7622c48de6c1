//! Reads a part of the journal, bounded in records, bytes and time, and can resume from there: the
//! deliveries that are owed, for callers who fetch them, and the letters of deliveries that were given up.

mod cursor;

use std::time::Instant;

pub use self::cursor::{ScanCursor, ScanCursorError};
use super::log::{DEAD, DELIVERED, PARKED, WAITING};
use crate::audit::AuditError;
use crate::audit::walk::{Reading, read};
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::{
    Admitted, Body, Commit, Cursor, DeadLetter, JournalError, Offset, Partition, Place, Progress,
    ReadJournal, Record,
};
use crate::tags::CallbackCommand;
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::payload::payloads;
use crate::webhooks::{CursorName, Switches};

/// About how many bytes are read at a time.
const READ_BYTES_MAX: usize = 256 * 1024;
/// How far one look goes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Records that are looked at.
    pub records: usize,
    /// Items that are answered.
    pub items: usize,
    /// Bytes of their bodies; a single larger one is answered all the same.
    pub bytes: usize,
    /// When it ends.
    pub deadline: Instant,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned<T> {
    /// What was found.
    pub items: Vec<T>,
    /// It reached the end of everything.
    pub complete: bool,
}

/// One delivery that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose event it tells.
    pub user: UserId,
    /// When that happened.
    pub at: Timestamp,
    /// The body, byte for byte as it is sent.
    pub body: String,
}

/// One letter of a delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The subscription.
    pub subscription: String,
    /// The replay of it, if it was one.
    pub replay: Option<u32>,
    /// The letter.
    pub letter: DeadLetter,
}

/// The deliveries that the records of `app` owe under `wanted`, from `cursor` on, which moves.
///
/// Errors: the journal cannot be read; the cursor has moved as far as it could.
pub fn owed_deliveries(
    journal: &dyn ReadJournal,
    app: AppId,
    wanted: Switches,
    cursor: &mut ScanCursor,
    reach: Reach,
) -> Result<Scanned<OwedDelivery>, AuditError> {
    let since = cursor.since;
    let mut items = Vec::new();
    let mut bytes = 0;
    let complete = scan(journal, cursor, reach, &mut |(partition, offset), record, answered| {
        let Body::Commit(commit) = &record.body else { return None };
        if commit.key.app != app || since.is_some_and(|since| commit.at < since) {
            return None;
        }
        let deliveries = told(partition, offset, commit).into_iter().enumerate();
        for (index, delivery) in deliveries.skip(answered as usize) {
            if !wanted.has(delivery.id.command) {
                continue;
            }
            let full = items.len() >= reach.items || bytes + delivery.body.len() > reach.bytes;
            if full && (!items.is_empty() || reach.items == 0) {
                return Some(index as u32);
            }
            bytes += delivery.body.len();
            items.push(delivery);
        }
        None
    })?;
    Ok(Scanned { items, complete })
}

fn told(partition: Partition, offset: Offset, commit: &Commit) -> Vec<OwedDelivery> {
    let payloads = payloads(commit, Switches::ALL).into_iter();
    let deliveries = payloads.map(|payload| OwedDelivery {
        id: DeliveryId { partition, offset, command: payload.command },
        user: commit.key.user,
        at: commit.at,
        body: String::from_utf8_lossy(&payload.body).into_owned(),
    });
    deliveries.collect()
}

/// The letters that cursors of `app` tell, of one subscription or of all, from `cursor` on, which
/// moves. A letter may come twice: the writer of its cursor did not learn that the cursor is durable,
/// and the next cursor tells it again.
///
/// Errors: the journal cannot be read; the cursor has moved as far as it could.
pub fn letters(
    journal: &dyn ReadJournal,
    app: AppId,
    subscription: Option<&str>,
    cursor: &mut ScanCursor,
    reach: Reach,
) -> Result<Scanned<Letter>, AuditError> {
    let since = cursor.since;
    let mut items: Vec<Letter> = Vec::new();
    let complete = scan(journal, cursor, reach, &mut |_, record, answered| {
        let Body::Cursor { subscription: name, cursor } = &record.body else { return None };
        let name = CursorName::parse(name).filter(|name| {
            name.app == app && subscription.is_none_or(|wanted| wanted == name.subscription)
        })?;
        let letters = cursor.progress.died.iter().enumerate().skip(answered as usize);
        for (index, letter) in letters {
            if since.is_some_and(|since| letter.at < since) {
                continue;
            }
            if items.len() >= reach.items {
                return Some(index as u32);
            }
            let subscription = name.subscription.to_owned();
            items.push(Letter { subscription, replay: name.replay, letter: letter.clone() });
        }
        None
    })?;
    Ok(Scanned { items, complete })
}

/// Which deliveries somebody asks after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Of this subscription only.
    pub subscription: Option<String>,
    /// Only this delivery.
    pub id: Option<DeliveryId>,
    /// Only deliveries about this user's events.
    pub user: Option<UserId>,
    /// Only deliveries in this one of [`STATES`](super::STATES).
    pub state: Option<String>,
}

/// A subscription's newest cursor in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standpoint {
    /// The subscription.
    pub subscription: String,
    /// The partition.
    pub partition: Partition,
    /// The cursor.
    pub cursor: Cursor,
}

/// What is known of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The subscription.
    pub subscription: String,
    /// The delivery.
    pub id: DeliveryId,
    /// Whose event it tells.
    pub user: UserId,
    /// When that happened.
    pub at: Timestamp,
    /// One of [`STATES`](super::STATES); `None` if it is done with, and it was not looked far enough
    /// to know how.
    pub state: Option<&'static str>,
    /// Attempts that were spent on it, if that is known.
    pub attempts: u32,
    /// What the last attempt came to, if that is known.
    pub error: Box<str>,
}

/// What became of the deliveries of `app` that are asked after, from `cursor` on, which moves. Replays
/// are left out.
///
/// Whether a delivery that a cursor has passed was delivered or given up is said by the cursor that
/// passed it first, so that one is looked for behind the page.
///
/// Errors: the journal cannot be read; the cursor has moved as far as it could.
pub fn delivered(
    journal: &dyn ReadJournal,
    app: AppId,
    asked: &Asked,
    standpoints: &[Standpoint],
    cursor: &mut ScanCursor,
    reach: Reach,
) -> Result<Scanned<Delivered>, AuditError> {
    let since = cursor.since;
    let mut items: Vec<Delivered> = Vec::new();
    let mut looked = 0;
    let complete = scan(journal, cursor, reach, &mut |(partition, offset), record, answered| {
        looked += 1;
        match &record.body {
            Body::Commit(commit)
                if commit.key.app == app
                    && since.is_none_or(|since| commit.at >= since)
                    && asked.user.is_none_or(|user| commit.key.user == user) =>
            {
                if asked.id.is_some_and(|id| offset > id.offset) {
                    return Some(0);
                }
                let found = of_record(asked, standpoints, (partition, offset), commit);
                for (number, item) in found.into_iter().filter(|(number, _)| *number >= answered) {
                    if items.len() >= reach.items {
                        return Some(number);
                    }
                    items.push(item);
                }
                None
            }
            Body::Cursor { subscription, cursor } => {
                note_cursor(&mut items, standpoints, (app, partition), subscription, cursor);
                None
            }
            _ => None,
        }
    })?;
    let mut ahead = cursor.clone();
    let left = reach.records.saturating_sub(looked);
    if !complete && items.iter().any(|item| item.state.is_none()) {
        scan(journal, &mut ahead, Reach { records: left, ..reach }, &mut |place, record, _| {
            if let Body::Cursor { subscription, cursor } = &record.body {
                note_cursor(&mut items, standpoints, (app, place.0), subscription, cursor);
            }
            items.iter().all(|item| item.state.is_some()).then_some(0)
        })?;
    }
    // An item of unknown state may be in the wanted state, and this page is not read again: keep it.
    items.retain(|item| {
        asked.state.as_deref().is_none_or(|wanted| item.state.is_none_or(|state| state == wanted))
    });
    Ok(Scanned { items, complete: complete || asked.id.is_some() })
}

/// The deliveries of one record, as the newest cursors have them, each under its number among all that the
/// record could owe. Of those that a cursor is done with, all: what was asked for then is said by the
/// cursor that passed them.
fn of_record(
    asked: &Asked,
    standpoints: &[Standpoint],
    (partition, offset): (Partition, Offset),
    commit: &Commit,
) -> Vec<(u32, Delivered)> {
    let mut items = Vec::new();
    let here = standpoints.iter().filter(|one| {
        one.partition == partition
            && asked.subscription.as_ref().is_none_or(|wanted| *wanted == one.subscription)
    });
    let payloads = payloads(commit, Switches::ALL);
    for (place, Standpoint { subscription, cursor, .. }) in here.enumerate() {
        let progress = &cursor.progress;
        if offset < progress.since {
            continue;
        }
        let still_matters = offset >= progress.resume.unwrap_or(cursor.place).next;
        let want = if still_matters { in_force(progress, offset) } else { Switches::ALL };
        let wanted = payloads.iter().enumerate().filter(|(_, payload)| want.has(payload.command));
        for (index, (number, payload)) in wanted.enumerate() {
            let id = DeliveryId { partition, offset, command: payload.command };
            if asked.id.is_some_and(|wanted| wanted != id) {
                continue;
            }
            let user = commit.key.user;
            let parked = progress.parked.iter().find(|parked| {
                parked.user == user && (offset, index as u64) >= (parked.first, parked.done)
            });
            let mut item = Delivered {
                subscription: subscription.clone(),
                id,
                user,
                at: commit.at,
                state: None,
                attempts: 0,
                error: "".into(),
            };
            if offset >= cursor.place.next {
                item.state = Some(WAITING);
            } else if let Some(parked) = parked {
                item.state = Some(PARKED);
                if (offset, index as u64) == (parked.first, parked.done) {
                    (item.attempts, item.error) = (parked.attempts, parked.error.clone());
                }
            }
            items.push(((place * payloads.len() + number) as u32, item));
        }
    }
    items
}

/// What was asked for at `offset`, by a cursor for whose filters it still matters.
fn in_force(progress: &Progress, offset: Offset) -> Switches {
    let filter = progress.filters.iter().rev().find(|filter| filter.from <= offset);
    let names = filter.map_or(&[][..], |filter| &filter.commands);
    names.iter().filter_map(|name| CallbackCommand::from_name(name)).collect()
}

/// What a cursor says of deliveries that are done with. Those that were not asked for when it passed them
/// are left out.
fn note_cursor(
    items: &mut Vec<Delivered>,
    standpoints: &[Standpoint],
    (app, partition): (AppId, Partition),
    name: &str,
    cursor: &Cursor,
) {
    let Some(CursorName { app: of, subscription, replay: None }) = CursorName::parse(name) else {
        return;
    };
    let progress = &cursor.progress;
    // Another count, before a move, says nothing of what the newest cursor has told.
    let goes_on = standpoints.iter().any(|one| {
        (one.partition, &*one.subscription) == (partition, subscription)
            && one.cursor.progress.since == progress.since
    });
    if of != app || !goes_on {
        return;
    }
    items.retain_mut(|item| {
        let DeliveryId { offset, command, .. } = item.id;
        if item.id.partition != partition
            || item.subscription != subscription
            || item.state.is_some()
        {
            return true;
        }
        if let Some(letter) = progress.died.iter().find(|letter| *letter.id == *item.id.to_string())
        {
            (item.attempts, item.error) = (letter.attempts, letter.error.clone());
        }
        let waits = progress.parked.iter().find(|parked| parked.user == item.user);
        if offset >= cursor.place.next || waits.is_some_and(|parked| parked.first <= offset) {
            return true;
        }
        item.state = Some(if item.attempts > 0 { DEAD } else { DELIVERED });
        in_force(progress, offset).has(command)
    });
}

/// Gets a record and how many of its items were taken already; returns the new count if not all fit.
type See<'a> = dyn FnMut((Partition, Offset), &Record, u32) -> Option<u32> + 'a;

/// Shows `see` every record that counts, until it says how much of one it has taken, or a limit is
/// reached. Answers whether the end of everything was.
fn scan(
    journal: &dyn ReadJournal,
    cursor: &mut ScanCursor,
    reach: Reach,
    see: &mut See<'_>,
) -> Result<bool, AuditError> {
    let from = cursor.places.iter().enumerate();
    let from: Vec<_> = from
        .map(|(index, (place, _))| (Partition(index as u16), place.next))
        .filter(|(partition, _)| cursor.only.is_none_or(|only| only == *partition))
        .collect();
    let mut reader = journal.reader(&from)?;
    let mut left = reach.records;
    loop {
        if left == 0 || Instant::now() >= reach.deadline {
            return Ok(false);
        }
        let entries = reader.next(READ_BYTES_MAX)?;
        if entries.is_empty() {
            return Ok(true);
        }
        for entry in entries {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            let known = cursor.places.get_mut(usize::from(entry.partition.0));
            let Some((place, answered)) = known.filter(|(place, _)| place.next <= entry.offset)
            else {
                continue;
            };
            let mut rule = place.rule();
            match read(&entry.bytes, &mut rule) {
                Reading::Record(record, Admitted::Valid) => {
                    let taken = see((entry.partition, entry.offset), &record, *answered);
                    if let Some(taken) = taken {
                        *answered = taken;
                        return Ok(false);
                    }
                }
                Reading::Record(_, Admitted::Claimed | Admitted::Void)
                | Reading::Unreadable { admitted: Admitted::Void, .. } => {}
                // What it owes cannot be told, and to pass it over is to lose it.
                Reading::Unreadable { error, .. } => {
                    let place = format!("{}@{}", entry.partition, entry.offset);
                    let detail = error.to_string();
                    return Err(JournalError::Corrupt { place, detail }.into());
                }
            }
            (*place, *answered) = (Place::new(Offset(entry.offset.0 + 1), rule), 0);
        }
    }
}
