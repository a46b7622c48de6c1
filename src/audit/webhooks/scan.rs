//! A look at a part of the journal, bounded in records, bytes and time, that can be gone on with:
//! the calls that are owed, for whoever fetches them, and the letters of those that were given up.
//!
//! The place is a text that only this server reads. It names a place in each partition together with
//! what the reader rule knows there, so that any node goes on with it, also after a restart.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::super::AuditError;
use super::super::walk::{Reading, read};
use super::log::{DEAD, DELIVERED, PARKED, WAITING};
use super::named;
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::record::decode;
use crate::journal::{
    Admitted, Body, Commit, Cursor, DeadLetter, Epoch, JournalError, Offset, Partition, Place,
    ReadJournal, Record,
};
use crate::webhooks::digest::CallId;
use crate::webhooks::payload::deliveries;
use crate::webhooks::{CallbackCommand, Switches};

/// About how many bytes are read at a time.
const READ_BYTES_MAX: usize = 256 * 1024;
/// The first byte of every text.
const LAYOUT: u8 = 1;
/// Bytes of the sum at the end of a text.
const SUM_BYTES: usize = 8;

/// How far one look goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that are looked at.
    pub records: usize,
    /// Items that are answered.
    pub items: usize,
    /// Bytes of their bodies; a single larger one is answered all the same.
    pub bytes: usize,
    /// When it ends.
    pub deadline: Instant,
}

/// Where a look goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    /// A place in each partition, and how many calls of the record there were answered already.
    places: Vec<(Place, u8)>,
    /// Records before this are passed over.
    since: Option<Timestamp>,
    /// No other partition is looked at. Not part of the text.
    only: Option<Partition>,
}

/// A text is no place, or one of another journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor of this journal")]
pub struct ScanCursorError;

impl ScanCursor {
    /// The beginning of so many partitions, or the first records of a moment.
    pub fn beginning(partitions: u16, since: Option<Timestamp>) -> Self {
        Self { places: vec![(Place::default(), 0); usize::from(partitions)], since, only: None }
    }

    /// These places, one in each partition.
    pub fn at(places: impl IntoIterator<Item = Place>) -> Self {
        Self {
            places: places.into_iter().map(|place| (place, 0)).collect(),
            since: None,
            only: None,
        }
    }

    /// In front of the record that one call tells of, if it is a record.
    pub fn in_front_of(journal: &dyn ReadJournal, id: CallId) -> Result<Option<Self>, AuditError> {
        let CallId { partition, offset, .. } = id;
        if partition.0 >= journal.partitions() || offset >= journal.end(partition)? {
            return Ok(None);
        }
        let entries = journal.reader(&[(partition, offset)])?.next(1)?;
        let entry = entries.first().filter(|entry| entry.offset == offset);
        let Some(Ok(record)) = entry.map(|entry| decode(&entry.bytes)) else { return Ok(None) };
        let Some(n) = record.n.checked_sub(1) else { return Ok(None) };
        let mut cursor = Self::beginning(journal.partitions(), None);
        let place = Place { next: offset, epoch: record.epoch, n };
        cursor.places[usize::from(partition.0)] = (place, 0);
        cursor.only = Some(partition);
        Ok(Some(cursor))
    }

    /// As a text.
    pub fn encode(&self) -> String {
        let mut bytes = vec![LAYOUT];
        number(&mut bytes, self.since.map_or(0, |since| since.0.unsigned_abs() + 1));
        for (Place { next, epoch, n }, answered) in &self.places {
            for value in [next.0, epoch.0, *n, u64::from(*answered)] {
                number(&mut bytes, value);
            }
        }
        bytes.extend(xxh3_64(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a text says, of a journal with so many partitions.
    pub fn decode(text: &str, partitions: u16) -> Result<Self, ScanCursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ScanCursorError)?;
        let (bytes, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(ScanCursorError)?;
        if *sum != xxh3_64(bytes).to_be_bytes() {
            return Err(ScanCursorError);
        }
        let mut rest = bytes.strip_prefix(&[LAYOUT]).ok_or(ScanCursorError)?;
        let since = take_number(&mut rest)?.checked_sub(1);
        let since = since.map(i64::try_from).transpose().map_err(|_| ScanCursorError)?;
        let mut places = Vec::with_capacity(usize::from(partitions));
        for _ in 0..partitions {
            let next = Offset(take_number(&mut rest)?);
            let epoch = Epoch(take_number(&mut rest)?);
            let n = take_number(&mut rest)?;
            let answered = take_number(&mut rest)?.try_into().map_err(|_| ScanCursorError)?;
            places.push((Place { next, epoch, n }, answered));
        }
        if !rest.is_empty() {
            return Err(ScanCursorError);
        }
        Ok(Self { places, since: since.map(Timestamp), only: None })
    }
}

/// Seven bits a byte, lowest first.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, ScanCursorError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ScanCursorError)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ScanCursorError)
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned<T> {
    /// What was found.
    pub items: Vec<T>,
    /// It reached the end of everything.
    pub complete: bool,
}

/// One call that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedCall {
    /// Its id.
    pub id: CallId,
    /// Whose event it tells.
    pub user: UserId,
    /// When that happened.
    pub at: Timestamp,
    /// The body, byte for byte as it is sent.
    pub body: String,
}

/// One letter of a call that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The subscription.
    pub subscription: String,
    /// The replay of it, if it was one.
    pub replay: Option<u32>,
    /// The letter.
    pub letter: DeadLetter,
}

/// The calls that the records of `app` owe under `wanted`, from `cursor` on, which moves.
pub fn owed_calls(
    journal: &dyn ReadJournal,
    app: AppId,
    wanted: Switches,
    cursor: &mut ScanCursor,
    limits: Limits,
) -> Result<Scanned<OwedCall>, AuditError> {
    let since = cursor.since;
    let mut items = Vec::new();
    let mut bytes = 0;
    let complete = scan(journal, cursor, limits, &mut |(partition, offset), record, answered| {
        let Body::Commit(commit) = &record.body else { return None };
        if commit.key.app != app || since.is_some_and(|since| commit.at < since) {
            return None;
        }
        let calls = told(partition, offset, commit).into_iter().enumerate();
        for (index, call) in calls.skip(usize::from(answered)) {
            if !wanted.has(call.id.command) {
                continue;
            }
            let full = items.len() >= limits.items || bytes + call.body.len() > limits.bytes;
            if full && (!items.is_empty() || limits.items == 0) {
                return Some(index as u8);
            }
            bytes += call.body.len();
            items.push(call);
        }
        None
    })?;
    Ok(Scanned { items, complete })
}

fn told(partition: Partition, offset: Offset, commit: &Commit) -> Vec<OwedCall> {
    let calls = deliveries(commit, Switches::ALL).into_iter();
    let calls = calls.map(|call| OwedCall {
        id: CallId { partition, offset, command: call.command },
        user: commit.key.user,
        at: commit.at,
        body: String::from_utf8_lossy(&call.body).into_owned(),
    });
    calls.collect()
}

/// The letters that cursors of `app` tell, of one subscription or of all, from `cursor` on, which
/// moves. One may be told twice: by a cursor of which its writer did not hear that it is durable, and
/// by the next one.
pub fn letters(
    journal: &dyn ReadJournal,
    app: AppId,
    subscription: Option<&str>,
    cursor: &mut ScanCursor,
    limits: Limits,
) -> Result<Scanned<Letter>, AuditError> {
    let since = cursor.since;
    let mut items: Vec<Letter> = Vec::new();
    let complete = scan(journal, cursor, limits, &mut |_, record, answered| {
        let Body::Cursor { subscription: name, cursor } = &record.body else { return None };
        let (_, name, replay) = named(name).filter(|(of, name, _)| {
            *of == app && subscription.is_none_or(|wanted| wanted == *name)
        })?;
        let letters = cursor.progress.died.iter().enumerate().skip(usize::from(answered));
        for (index, letter) in letters {
            if since.is_some_and(|since| letter.at < since) {
                continue;
            }
            if items.len() >= limits.items {
                return Some(index as u8);
            }
            let subscription = name.to_owned();
            items.push(Letter { subscription, replay, letter: letter.clone() });
        }
        None
    })?;
    Ok(Scanned { items, complete })
}

/// Which calls somebody asks after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Of this subscription only.
    pub subscription: Option<String>,
    /// Only this call.
    pub id: Option<CallId>,
    /// Only calls about this user's events.
    pub user: Option<UserId>,
    /// Only calls in this one of [`STATES`](super::STATES).
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

/// What is known of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The subscription.
    pub subscription: String,
    /// The call.
    pub id: CallId,
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

/// What became of the calls of `app` that are asked after, from `cursor` on, which moves. Replays
/// are left out.
///
/// Whether a call that a cursor has passed was delivered or given up is said by the cursor that
/// passed it first, so that one is looked for behind the page.
pub fn delivered(
    journal: &dyn ReadJournal,
    app: AppId,
    asked: &Asked,
    standpoints: &[Standpoint],
    cursor: &mut ScanCursor,
    limits: Limits,
) -> Result<Scanned<Delivered>, AuditError> {
    let since = cursor.since;
    let mut items: Vec<Delivered> = Vec::new();
    let mut looked = 0;
    let complete = scan(journal, cursor, limits, &mut |(partition, offset), record, answered| {
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
                let found = found.into_iter().enumerate().skip(usize::from(answered));
                for (index, item) in found {
                    if items.len() >= limits.items {
                        return Some(index as u8);
                    }
                    items.push(item);
                }
                None
            }
            Body::Cursor { subscription, cursor } => {
                note_cursor(&mut items, app, partition, subscription, cursor);
                None
            }
            _ => None,
        }
    })?;
    let mut ahead = cursor.clone();
    let left = limits.records.saturating_sub(looked);
    if !complete && items.iter().any(|item| item.state.is_none()) {
        scan(journal, &mut ahead, Limits { records: left, ..limits }, &mut |place, record, _| {
            if let Body::Cursor { subscription, cursor } = &record.body {
                note_cursor(&mut items, app, place.0, subscription, cursor);
            }
            items.iter().all(|item| item.state.is_some()).then_some(0)
        })?;
    }
    items.retain(|item| asked.state.as_deref().is_none_or(|wanted| item.state == Some(wanted)));
    Ok(Scanned { items, complete: complete || asked.id.is_some() })
}

/// The calls of one record, as the newest cursors have them.
fn of_record(
    asked: &Asked,
    standpoints: &[Standpoint],
    (partition, offset): (Partition, Offset),
    commit: &Commit,
) -> Vec<Delivered> {
    let mut items = Vec::new();
    let here = standpoints.iter().filter(|one| {
        one.partition == partition
            && asked.subscription.as_ref().is_none_or(|wanted| *wanted == one.subscription)
    });
    for Standpoint { subscription, cursor, .. } in here {
        let progress = &cursor.progress;
        if offset < progress.since {
            continue;
        }
        let filters = progress.filters.iter();
        let filter = filters.rev().find(|filter| filter.from <= offset);
        let filter = filter.or(progress.filters.first());
        let names = filter.map_or(&[][..], |filter| &filter.commands);
        let want: Switches =
            names.iter().filter_map(|name| CallbackCommand::from_name(name)).collect();
        for (index, call) in deliveries(commit, want).into_iter().enumerate() {
            let id = CallId { partition, offset, command: call.command };
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
            items.push(item);
        }
    }
    items
}

/// What a cursor says of calls that are done with.
fn note_cursor(
    items: &mut [Delivered],
    app: AppId,
    partition: Partition,
    name: &str,
    cursor: &Cursor,
) {
    let Some((of, name, None)) = named(name) else { return };
    let open = items.iter_mut().filter(|item| {
        of == app
            && item.id.partition == partition
            && item.subscription == name
            && item.state.is_none()
    });
    for item in open {
        let progress = &cursor.progress;
        if let Some(letter) = progress.died.iter().find(|letter| *letter.id == *item.id.to_string())
        {
            (item.attempts, item.error) = (letter.attempts, letter.error.clone());
        }
        let parked = progress.parked.iter();
        let waits = parked.filter(|parked| parked.user == item.user);
        let waits = waits.map(|parked| parked.first).next().is_some_and(|at| at <= item.id.offset);
        if item.id.offset < cursor.place.next && !waits {
            item.state = Some(if item.attempts > 0 { DEAD } else { DELIVERED });
        }
    }
}

/// Takes a record of which so many items were taken before. Answers how many are by now, if it cannot
/// take all of them.
type See<'a> = dyn FnMut((Partition, Offset), &Record, u8) -> Option<u8> + 'a;

/// Shows `see` every record that counts, until it says how much of one it has taken, or a limit is
/// reached. Answers whether the end of everything was.
fn scan(
    journal: &dyn ReadJournal,
    cursor: &mut ScanCursor,
    limits: Limits,
    see: &mut See<'_>,
) -> Result<bool, AuditError> {
    let from = cursor.places.iter().enumerate();
    let from: Vec<_> = from
        .map(|(index, (place, _))| (Partition(index as u16), place.next))
        .filter(|(partition, _)| cursor.only.is_none_or(|only| only == *partition))
        .collect();
    let mut reader = journal.reader(&from)?;
    let mut left = limits.records;
    loop {
        if left == 0 || Instant::now() >= limits.deadline {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        let place = |next, n| Place { next: Offset(next), epoch: Epoch(3), n };
        let mut cursor = ScanCursor::at([place(0, 0), place(u64::MAX, u64::MAX), place(300, 7)]);
        cursor.places[1].1 = 5;
        for since in [None, Some(Timestamp(0)), Some(Timestamp(1_700_000_000_000))] {
            cursor.since = since;
            assert_eq!(ScanCursor::decode(&cursor.encode(), 3), Ok(cursor.clone()));
        }
        let text = cursor.encode();
        assert_eq!(ScanCursor::decode(&text, 2), Err(ScanCursorError));
        assert_eq!(ScanCursor::decode(&text, 4), Err(ScanCursorError));
        for place in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("letters");
            assert_eq!(ScanCursor::decode(&other, 3), Err(ScanCursorError), "{other}");
        }
        for text in ["", "A", "*", &"A".repeat(5000)] {
            assert_eq!(ScanCursor::decode(text, 1), Err(ScanCursorError));
        }
    }
}
