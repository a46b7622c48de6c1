//! Single deliveries: what became of each, and the letters of those that were given up.
//!
//! A line per delivery, written when the cursor that settles it is read: nothing is kept but what the
//! reckoning keeps. Deliveries that wait stand at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::ControlFlow;

use serde::Serialize;

use super::super::plain::Plain;
use super::super::walk::{Reading, Step, Walk, all_partitions};
use super::super::{AuditError, Format, until_closed};
use super::said::Streams;
use super::{Options, Range, Report, Settled, State, Watch, watched};
use crate::domain::{Timestamp, UserId};
use crate::journal::record::decode;
use crate::journal::{Admitted, Body, DeadLetter, Offset, Partition, ReadJournal};
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::payload::payloads;
use crate::webhooks::{CursorName, Switches};

/// The names of the states of a delivery.
pub const STATES: [&str; 4] = [DELIVERED, DEAD, PARKED, WAITING];
pub(super) const DELIVERED: &str = "delivered";
pub(super) const DEAD: &str = "dead";
pub(super) const PARKED: &str = "parked";
pub(super) const WAITING: &str = "waiting";

/// Which deliveries to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Of which subscriptions, and from which records.
    pub options: Options,
    /// Only this delivery.
    pub id: Option<DeliveryId>,
    /// Only deliveries about this user's events.
    pub user: Option<UserId>,
    /// Only deliveries in this one of [`STATES`].
    pub state: Option<String>,
    /// With the bodies.
    pub body: bool,
}

impl LogOptions {
    fn shows(&self, id: DeliveryId, user: UserId, at: Timestamp, state: &str) -> bool {
        self.id.is_none_or(|wanted| wanted == id)
            && self.user.is_none_or(|wanted| wanted == user)
            && self.state.as_ref().is_none_or(|wanted| wanted == state)
            && self.options.range.holds(id.partition, id.offset, at)
    }
}

/// One delivery, as it is written.
#[derive(Clone, Debug, Serialize)]
struct DeliveryLine<'a> {
    id: String,
    subscription: &'a str,
    seq: u64,
    user: UserId,
    at: Timestamp,
    state: &'static str,
    /// The cursor that was the first to know it.
    known_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// Since when it waits, or when it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl<'a> DeliveryLine<'a> {
    fn of(settled: &'a Settled<'_>) -> Self {
        let place = |offset: Offset| format!("{}@{offset}", settled.id.partition);
        let mut line = Self {
            id: settled.id.to_string(),
            subscription: settled.cursor,
            seq: settled.seq,
            user: settled.user,
            at: settled.at,
            state: settled.state.name(),
            known_at: settled.known_at.map(place),
            attempts: None,
            error: None,
            since: None,
            body: None,
        };
        match settled.state {
            State::Dead(DeadLetter { attempts, error, at, .. }) => {
                line.attempts = Some(*attempts);
                line.error = Some(error);
                line.since = Some(*at);
            }
            State::Parked { parked, first: true } => {
                line.attempts = Some(parked.attempts);
                line.error = Some(&parked.error);
                line.since = Some(parked.since);
            }
            State::Delivered | State::Parked { first: false, .. } | State::Waiting => {}
        }
        line
    }

    fn write(&self, format: Format, out: &mut dyn Write) -> Result<(), AuditError> {
        if format == Format::Json {
            let line = serde_json::to_string(self).map_err(std::io::Error::from)?;
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let known_at = self.known_at.as_ref();
        let known = known_at.map_or_else(String::new, |place| format!(", known at {place}"));
        let why = match (self.attempts, self.error) {
            (Some(attempts), Some(error)) => {
                format!(" after {attempts} attempts: {}", Plain(error))
            }
            _ => String::new(),
        };
        writeln!(
            out,
            "{at}  {id:<36}  {user:<20}  {subscription} {seq}: {state}{known}{why}",
            at = self.at,
            id = self.id,
            user = self.user.to_string(),
            subscription = Plain(self.subscription),
            seq = self.seq,
            state = self.state,
        )?;
        if let Some(body) = &self.body {
            writeln!(out, "    {}", Plain(body))?;
        }
        Ok(())
    }
}

impl State<'_> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered => DELIVERED,
            Self::Dead(_) => DEAD,
            Self::Parked { .. } => PARKED,
            Self::Waiting => WAITING,
        }
    }
}

struct Log<'a> {
    journal: &'a dyn ReadJournal,
    options: &'a LogOptions,
    out: &'a mut dyn Write,
}

impl Watch for Log<'_> {
    fn settled(&mut self, settled: &Settled<'_>) -> Result<(), AuditError> {
        let Settled { id, user, at, state, .. } = settled;
        if !self.options.shows(*id, *user, *at, state.name()) {
            return Ok(());
        }
        let mut line = DeliveryLine::of(settled);
        if self.options.body {
            line.body = body(self.journal, *id)?;
        }
        line.write(self.options.options.format, self.out)
    }
}

/// The bytes of a delivery's body as the reference has them.
fn body(journal: &dyn ReadJournal, id: DeliveryId) -> Result<Option<String>, AuditError> {
    let entries = journal.reader(&[(id.partition, id.offset)])?.next(1)?;
    let entry = entries.first().filter(|entry| entry.offset == id.offset);
    let Some(Ok(record)) = entry.map(|entry| decode(&entry.bytes)) else { return Ok(None) };
    let Body::Commit(commit) = record.body else { return Ok(None) };
    let only: Switches = [id.command].into_iter().collect();
    let payload = payloads(&commit, only).pop();
    Ok(payload.map(|payload| String::from_utf8_lossy(&payload.body).into_owned()))
}

/// Writes what became of each delivery that is asked for. A closed pipe ends it without an error.
///
/// Errors: the journal cannot be read, or the output not be written.
pub fn log(
    journal: &dyn ReadJournal,
    options: &LogOptions,
    out: &mut dyn Write,
) -> Result<Report, AuditError> {
    let mut watch = Log { journal, options, out };
    let counted = Options { range: Range::default(), ..options.options.clone() };
    let report = watched(journal, &counted, &mut watch);
    let flushed = report.and_then(|report| Ok(watch.out.flush().map(|()| report)?));
    until_closed(flushed, Report { balanced: true, ..Report::default() })
}

/// A letter, as it is written.
#[derive(Serialize)]
struct LetterLine<'a> {
    subscription: &'a str,
    /// The cursor that tells of it.
    said_at: String,
    #[serde(flatten)]
    letter: &'a DeadLetter,
}

/// What a look at the letters came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Letters written.
    pub shown: u64,
    /// Records that count and cannot be read: any of them may tell of a letter.
    pub unreadable: u64,
}

/// Writes the letters of the deliveries that were given up; the range is about when. After a crash a
/// delivery may have been made again all the same: [`log`] tells what became of it.
///
/// Errors: as [`log`]'s.
pub fn dead_letters(
    journal: &dyn ReadJournal,
    options: &LogOptions,
    out: &mut dyn Write,
) -> Result<Summary, AuditError> {
    let mut summary = Summary::default();
    let mut told: BTreeMap<(String, Partition), BTreeSet<Box<str>>> = BTreeMap::new();
    let (mut streams, mut known) = (Streams::default(), false);
    let mut walk = Walk::over(journal, &all_partitions(journal))?;
    let result = walk.run(|step, progress| {
        let Step { partition, offset, reading, .. } = step;
        let record = match reading {
            Reading::Record(record, Admitted::Valid) => record,
            Reading::Unreadable { admitted, .. } if admitted != Admitted::Void => {
                summary.unreadable += 1;
                return Ok(ControlFlow::Continue(()));
            }
            _ => return Ok(ControlFlow::Continue(())),
        };
        let (subscription, cursor) = match record.body {
            Body::Cursor { subscription, cursor } => (subscription, cursor),
            Body::Commit(commit) => {
                streams.hear(&commit);
                return Ok(ControlFlow::Continue(()));
            }
            _ => return Ok(ControlFlow::Continue(())),
        };
        let name = CursorName::parse(&subscription);
        if !name.is_some_and(|name| options.options.wants(name.app, name.subscription)) {
            return Ok(ControlFlow::Continue(()));
        }
        known = true;
        let died = &cursor.progress.died;
        // What a cursor told that was not known to be durable, the next one tells again.
        let before = told.remove(&(subscription.clone(), partition)).unwrap_or_default();
        for letter in died.iter().filter(|letter| !before.contains(&letter.id)) {
            let Ok(id) = letter.id.parse::<DeliveryId>() else { continue };
            if !options.shows(id, letter.user, letter.at, DEAD) {
                continue;
            }
            progress.clear();
            write_letter(&subscription, (partition, offset), letter, options, out)?;
            summary.shown += 1;
        }
        if !died.is_empty() {
            let ids = died.iter().map(|letter| letter.id.clone()).collect();
            told.insert((subscription, partition), ids);
        }
        Ok(ControlFlow::Continue(()))
    });
    until_closed(result.and_then(|()| Ok(out.flush()?)), ())?;
    options.options.check_known(known || streams.know(&options.options))?;
    Ok(summary)
}

fn write_letter(
    subscription: &str,
    (partition, offset): (Partition, Offset),
    letter: &DeadLetter,
    options: &LogOptions,
    out: &mut dyn Write,
) -> Result<(), AuditError> {
    if options.options.format == Format::Json {
        let said_at = format!("{partition}@{offset}");
        let line = LetterLine { subscription, said_at, letter };
        let line = serde_json::to_string(&line).map_err(std::io::Error::from)?;
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let DeadLetter { id, user, attempts, at, error } = letter;
    writeln!(
        out,
        "{at}  {id:<36}  {user:<20}  {}: given up after {attempts} attempts: {}",
        Plain(subscription),
        Plain(error),
    )?;
    Ok(())
}
