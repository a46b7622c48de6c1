//! What became of the deliveries that subscribers are owed: [`audit`], [`list`], [`log`], [`dead_letters`]
//! and [`count`].
//!
//! What is owed is derived from the records again, with the rule that the follower has; what became
//! of it is what the cursors say. [`audit`] holds the one against the other, cursor by cursor: of
//! the deliveries that the records up to a cursor's place owe, each is counted as delivered, counted as
//! dead, or belongs to a parked user, by number and by digest. One pass over all partitions; memory
//! is bounded by what `owed` and `lane` keep, whatever the number of deliveries.

mod count;
mod lane;
mod log;
mod owed;
mod report;
mod said;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

pub use count::{Counted, Selection, count};
pub use log::{LogOptions, STATES, Summary, dead_letters, log};
pub use report::{Counts, Finding, PartitionReport, Report, Rule, Subscribed};
pub use scan::{
    Asked, Delivered, Letter, OwedDelivery, Reach, ScanCursor, ScanCursorError, Scanned,
    Standpoint, delivered, letters, owed_deliveries,
};

use super::walk::{Reading, Step, Walk, all_partitions};
use super::{AuditError, Format, until_closed};
use crate::domain::{AppId, Event, Replay, Timestamp, UserId};
use crate::journal::record::decode;
use crate::journal::{
    Admitted, Body, Commit, Cursor, DeadLetter, Entry, Offset, Parked, Partition, ReadJournal,
    Record,
};
use crate::webhooks::CursorName;
use crate::webhooks::digest::DeliveryId;
use lane::{Ground, Lane, Whose};
use owed::Shelf;
use said::Streams;

/// How the event that begins a replay is stored.
const REPLAY_BEGUN: &[u8] = br#""ReplayBegun""#;
/// Replays begin in the stream of an app's subscriptions alone, whose name begins with this and stands
/// among the first bytes of its records: few others are looked at to their end.
const STREAM_MARK: u8 = b'~';
const HEAD_BYTES: usize = 256;
/// About how many bytes are read at a time.
const READ_BYTES_MAX: usize = 1 << 20;

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A moment.
    Time(Timestamp),
    /// Places; partitions that are not named are not bound.
    Places(Vec<(Partition, Offset)>),
}

/// Which records' deliveries are counted. Without bounds: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// From here on.
    pub from: Option<Bound>,
    /// Up to here, and not including it.
    pub to: Option<Bound>,
}

impl Range {
    /// Whether a record lies in it.
    pub fn holds(&self, partition: Partition, offset: Offset, at: Timestamp) -> bool {
        let place = |places: &[(Partition, Offset)]| {
            places.iter().find(|(named, _)| *named == partition).map(|(_, offset)| *offset)
        };
        let from = match &self.from {
            None => true,
            Some(Bound::Time(from)) => at >= *from,
            Some(Bound::Places(places)) => place(places).is_none_or(|from| offset >= from),
        };
        let to = match &self.to {
            None => true,
            Some(Bound::Time(to)) => at < *to,
            Some(Bound::Places(places)) => place(places).is_none_or(|to| offset < to),
        };
        from && to
    }
}

/// What to look at, and how to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only this app.
    pub app: Option<AppId>,
    /// Only the subscription of this name, with its replays.
    pub subscription: Option<String>,
    /// The records whose deliveries are counted.
    pub range: Range,
    /// Replays and what they tell, by app, beside those that the journal tells of.
    pub replays: Vec<(AppId, Replay)>,
    /// The present moment.
    pub now: Timestamp,
    /// How.
    pub format: Format,
}

/// One delivery of which something is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The name of the cursor that speaks of it.
    pub cursor: &'a str,
    /// The app.
    pub app: AppId,
    /// The delivery.
    pub id: DeliveryId,
    /// Its place in the chain of deliveries of the subscription and its partition, from 1.
    pub seq: u64,
    /// Whose event it tells.
    pub user: UserId,
    /// When that happened.
    pub at: Timestamp,
    /// What became of it.
    pub state: State<'a>,
    /// Where the first cursor stands that knows it.
    pub known_at: Option<Offset>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// The receiver accepted it.
    Delivered,
    /// It was given up.
    Dead(&'a DeadLetter),
    /// Its user is parked.
    Parked {
        /// With what.
        parked: &'a Parked,
        /// It is the one that failed; others of the user wait behind it.
        first: bool,
    },
    /// The cursor has not come to it.
    Waiting,
}

/// Somebody who hears of each delivery when it is settled, and of all others at the end.
pub trait Watch {
    /// What became of one delivery.
    fn settled(&mut self, settled: &Settled<'_>) -> Result<(), AuditError>;
}

/// Nobody watches.
pub(super) struct Quiet;

impl Watch for Quiet {
    fn settled(&mut self, _: &Settled<'_>) -> Result<(), AuditError> {
        Ok(())
    }
}

/// Holds all cursors against the journal and writes what became of the deliveries. Whether all is right
/// is [`Report::balanced`].
///
/// Errors: the journal cannot be read, or the report not be written. What is not right is no
/// error.
pub fn audit(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Report, AuditError> {
    told(journal, options, out, Report::write_table)
}

/// Writes how far each subscription has come, and what it waits for.
///
/// Errors: as [`audit`]'s.
pub fn list(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Report, AuditError> {
    told(journal, options, out, Report::write_list)
}

fn told(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
    table: fn(&Report, &mut dyn Write) -> Result<(), AuditError>,
) -> Result<Report, AuditError> {
    let report = reconcile(journal, options)?;
    let written = match options.format {
        Format::Json => report.write_json(out),
        Format::Table => table(&report, out),
    };
    until_closed(written.and_then(|()| Ok(out.flush()?)), ())?;
    Ok(report)
}

/// Holds all cursors against the journal.
///
/// Errors: the journal cannot be read.
pub fn reconcile(journal: &dyn ReadJournal, options: &Options) -> Result<Report, AuditError> {
    watched(journal, options, &mut Quiet)
}

/// The same, with somebody who hears of each delivery.
///
/// Errors: the journal cannot be read, or those of `watch`.
pub fn watched(
    journal: &dyn ReadJournal,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Report, AuditError> {
    let mut options = options.clone();
    options.replays.extend(replays(journal)?);
    let mut reckoning = Reckoning::new(journal, options);
    let mut walk = Walk::over(journal, &all_partitions(journal))?;
    walk.run(|step, _| {
        let Step { partition, offset, reading, .. } = &step;
        reckoning.step((*partition, *offset), reading, watch)?;
        Ok(ControlFlow::Continue(()))
    })?;
    reckoning.finish(watch)
}

/// What each replay was to tell. A partition that is read later may hold the word on one whose
/// cursors are read before, so this is looked for beforehand.
pub(super) fn replays(journal: &dyn ReadJournal) -> Result<Vec<(AppId, Replay)>, AuditError> {
    let from: Vec<_> =
        all_partitions(journal).into_iter().map(|partition| (partition, Offset(0))).collect();
    let mut reader = journal.reader(&from)?;
    let mut replays = Vec::new();
    loop {
        let entries = reader.next(READ_BYTES_MAX)?;
        if entries.is_empty() {
            return Ok(replays);
        }
        let told = |entry: &&Entry| {
            let head = &entry.bytes[..entry.bytes.len().min(HEAD_BYTES)];
            head.contains(&STREAM_MARK)
                && entry.bytes.windows(REPLAY_BEGUN.len()).any(|bytes| bytes == REPLAY_BEGUN)
        };
        for entry in entries.iter().filter(told) {
            if let Ok(Record { body: Body::Commit(commit), .. }) = decode(&entry.bytes) {
                learn(&mut replays, &commit);
            }
        }
    }
}

fn learn(replays: &mut Vec<(AppId, Replay)>, commit: &Commit) {
    for event in &commit.events {
        if let Event::ReplayBegun(replay) = event {
            let app = commit.key.app;
            let known = |(of, known): &(AppId, Replay)| *of == app && known.number == replay.number;
            if !replays.iter().any(known) {
                replays.push((app, (**replay).clone()));
            }
        }
    }
}

/// All subscriptions on their way through the journal.
pub(super) struct Reckoning<'a> {
    journal: &'a dyn ReadJournal,
    options: Options,
    shelves: Vec<Shelf>,
    lanes: BTreeMap<(Box<str>, Partition), Lane>,
    streams: Streams,
    report: Report,
}

impl<'a> Reckoning<'a> {
    /// Nothing read yet.
    pub(super) fn new(journal: &'a dyn ReadJournal, options: Options) -> Self {
        let partitions = journal.partitions();
        let shelves = (0..partitions).map(|number| Shelf::new(Partition(number), partitions));
        Self {
            journal,
            options,
            shelves: shelves.collect(),
            lanes: BTreeMap::new(),
            streams: Streams::default(),
            report: Report::default(),
        }
    }

    /// Keeps fewer records of each partition.
    #[cfg(test)]
    fn keep_at_most(&mut self, kept_max: usize) {
        self.shelves.iter_mut().for_each(|shelf| shelf.kept_max = kept_max);
    }

    /// Takes the next record of a partition.
    pub(super) fn step(
        &mut self,
        (partition, offset): (Partition, Offset),
        reading: &Reading,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        self.report.records += 1;
        let Some(shelf) = self.shelves.get_mut(usize::from(partition.0)) else {
            let partitions = self.journal.partitions();
            return Err(AuditError::NoSuchPartition { partition, partitions });
        };
        match reading {
            Reading::Record(_, Admitted::Void)
            | Reading::Unreadable { admitted: Admitted::Void, .. } => shelf.void(offset),
            Reading::Record(record, Admitted::Valid | Admitted::Claimed) => {
                return self.record((partition, offset), record, watch);
            }
            Reading::Unreadable { error, .. } => {
                shelf.put(offset, None);
                self.report.unreadable += 1;
                self.report.findings.add(Finding {
                    rule: Rule::Readable,
                    subscription: "".into(),
                    partition,
                    offset,
                    detail: format!("what it owes cannot be told: {error}"),
                });
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        (partition, offset): (Partition, Offset),
        record: &Record,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        let shelf = &mut self.shelves[usize::from(partition.0)];
        match &record.body {
            Body::Commit(commit) => {
                shelf.put_facts(offset, commit);
                learn(&mut self.options.replays, commit);
                self.streams.hear(commit);
            }
            Body::Cursor { subscription, cursor } => {
                shelf.put(offset, None);
                self.cursor((partition, offset), subscription, cursor, watch)?;
            }
            Body::Claim { .. }
            | Body::Watermark { .. }
            | Body::Acknowledged { .. }
            | Body::Release { .. }
            | Body::Checkpoint { .. } => shelf.put(offset, None),
        }
        Ok(())
    }

    fn cursor(
        &mut self,
        (partition, offset): (Partition, Offset),
        name: &str,
        cursor: &Cursor,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        let Some(CursorName { app, subscription, replay }) = CursorName::parse(name) else {
            return Ok(());
        };
        if !self.options.wants(app, subscription) {
            return Ok(());
        }
        self.report.cursors += 1;
        self.shelves[usize::from(partition.0)].followed = true;
        let lane = self.lanes.entry((name.into(), partition)).or_insert_with(|| {
            let replay = match replay {
                None => Ok(None),
                Some(number) => self.options.replay(app, number).cloned().map(Some).ok_or(()),
            };
            Lane::new(Whose { app, cursor: name.into(), partition, replay })
        });
        let mut ground = Ground {
            journal: self.journal,
            shelf: &self.shelves[usize::from(partition.0)],
            range: &self.options.range,
            findings: &mut self.report.findings,
            watch,
        };
        lane.take(offset, cursor.clone(), &mut ground)
    }

    /// What was found, once everything is read.
    pub(super) fn finish(mut self, watch: &mut dyn Watch) -> Result<Report, AuditError> {
        for lane in self.lanes.values_mut().filter(|lane| !lane.cursor.ended) {
            lane.finish(watch)?;
        }
        self.wait(watch)?;
        let Self { journal, options, lanes, mut streams, mut report, .. } = self;
        options.check_known(!lanes.is_empty() || streams.know(&options))?;
        streams.check(journal, &lanes, &mut report.findings)?;
        report.notes.extend(streams.notes(journal.partitions(), &options, &lanes));
        for ((cursor, partition), lane) in lanes {
            let Some(named) = CursorName::parse(&cursor) else { continue };
            let (app, name) = (named.app, named.label());
            let counted = lane.is_counted();
            let Lane { whose, cursor: newest, said_at, cursors, counts, .. } = lane;
            report.held += if counted { counts.calls } else { 0 };
            let last = report.subscriptions.last();
            if last.is_none_or(|one| one.app != app || *one.name != name) {
                report.subscriptions.push(Subscribed::new(app, name.into()));
            }
            let Some(subscribed) = report.subscriptions.last_mut() else { continue };
            subscribed.ended &= newest.ended;
            subscribed.counted &= whose.replay.is_ok();
            subscribed.add(PartitionReport {
                partition,
                next: newest.place.next,
                term: newest.term,
                said_at,
                cursors,
                counts,
                users: newest.progress.parked,
                down_since: newest.progress.down_since,
                halted: newest.progress.halted,
                error: newest.progress.error,
            });
        }
        for one in &mut report.subscriptions {
            one.lag = one.counts.behind;
            let age = one.counts.oldest.map_or(0, |oldest| options.now.0 - oldest.0);
            one.lag_s = u64::try_from(age / 1000).unwrap_or(0);
            if !one.counted {
                let note = format!(
                    "{} of app {} is not held against the records: the journal does not say what it \
                     was to tell",
                    one.name, one.app
                );
                report.notes.push(note);
            }
        }
        report.balanced = report.findings.total == 0;
        Ok(report)
    }

    /// Shows each follower what it has before it: one reading per partition, whatever their number.
    fn wait(&mut self, watch: &mut dyn Watch) -> Result<(), AuditError> {
        for (index, shelf) in self.shelves.iter().enumerate() {
            let partition = Partition(index as u16);
            let here = self.lanes.values_mut();
            let here = here.filter(|lane| lane.whose.partition == partition && !lane.cursor.ended);
            let mut here: Vec<&mut Lane> = here.collect();
            let Some(from) = here.iter().map(|lane| lane.place()).min() else { continue };
            shelf.visit(self.journal, from, shelf.next, &mut |owed| {
                for lane in here.iter_mut().filter(|lane| lane.place() <= owed.offset) {
                    lane.wait(owed, &self.options.range, watch)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Options {
    fn wants(&self, app: AppId, subscription: &str) -> bool {
        self.app.is_none_or(|wanted| wanted == app)
            && self.subscription.as_ref().is_none_or(|wanted| wanted == subscription)
    }

    /// Errors: [`AuditError::UnknownSubscription`] if some are named, and none of those is known.
    fn check_known(&self, known: bool) -> Result<(), AuditError> {
        if known || (self.app.is_none() && self.subscription.is_none()) {
            return Ok(());
        }
        let name = self.subscription.as_deref().map(Into::into);
        Err(AuditError::UnknownSubscription { name, app: self.app })
    }

    fn replay(&self, app: AppId, number: u32) -> Option<&Replay> {
        let known = self.replays.iter().find(|(of, replay)| *of == app && replay.number == number);
        known.map(|(_, replay)| replay)
    }
}
