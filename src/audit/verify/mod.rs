//! Rebuilds everything from zero and checks that the promises were kept.
//!
//! One pass over all partitions, with the reader rule and the fold that a node uses. It keeps the
//! states of all users, a note for each pair of users that was ever mentioned, and the effects that
//! are not taken yet; it does not keep the records. The rules are the variants of [`Rule`].
//!
//! Beside a running node the journal grows meanwhile. What was asked is durable before it is
//! answered, so when the end was reached once, reading goes on once more; an answer of that second
//! stretch whose question is still missing counts as not checked instead of broken.

mod channels;
mod cursors;
mod follow;
mod hashes;
mod numbers;
mod people;
mod promise;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use channels::Channels;
use cursors::Cursors;
use hashes::Hashes;
use numbers::Numbers;
use people::People;
use promise::{Seen, promises};

pub use hashes::StoredRows;
pub use promise::{Checked, FirstBroken, Promise, PromiseReport};
use report::Noted;
pub use report::{Finding, Lag, PartitionReport, Report, Rule};

use super::walk::{Reading, Step, Walk, all_partitions};
use super::webhooks::{self, Quiet, Reckoning};
use super::{AuditError, Format, until_closed};
use crate::domain::{AppId, Timestamp};
use crate::journal::{
    Admitted, Body, Commit, Cursor, Damage, Epoch, JournalError, Offset, Partition,
    RECORD_BYTES_MAX, ReadJournal, Record, partition_of,
};
use crate::webhooks::PARKED_USERS_MAX;

/// How far the times of a partition may run backwards before it is worth a warning, in milliseconds:
/// a new owner's clock may be behind the old one's.
pub const CLOCK_TOLERANCE_MS: i64 = 10_000;

/// What to verify, and how to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the state store holds, read before the journal; empty if there is none to compare.
    pub stored: Vec<StoredRows>,
    /// Things that the report shall mention, such as a store that could not be opened.
    pub notes: Vec<String>,
    /// The apps that let imports pass blocklists (`friend.import_ignores_blocklist`). Only for records
    /// of earlier versions, which do not say themselves that they did.
    pub import_ignores_blocklist: BTreeSet<AppId>,
    /// How.
    pub format: Format,
}

/// Checks the journal and writes the report. Whether all holds is [`Report::holds`].
///
/// Errors: the journal cannot be read, or the report not be written. What does not hold is no
/// error.
pub fn run(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Report, AuditError> {
    let report = check(journal, options)?;
    let written = match options.format {
        Format::Json => report.write_json(out),
        Format::Table => report.write_table(out),
    };
    until_closed(written.and_then(|()| Ok(out.flush()?)), ())?;
    Ok(report)
}

/// Checks the journal; of one that is damaged, what stands before the damage.
///
/// Errors: the journal cannot be read, for another reason than damage.
pub fn check(journal: &dyn ReadJournal, options: &Options) -> Result<Report, AuditError> {
    match check_whole(journal, options, None) {
        Err(AuditError::Journal(error @ JournalError::Corrupt { .. })) => {
            match journal.damage()? {
                Some(Damage { whole, at, detail }) => {
                    check_whole(&*whole, options, Some((at, detail)))
                }
                None => Err(error.into()),
            }
        }
        checked => checked,
    }
}

/// Checks a journal that is whole, or the part before `damage`.
fn check_whole(
    journal: &dyn ReadJournal,
    options: &Options,
    damage: Option<((Partition, Offset), String)>,
) -> Result<Report, AuditError> {
    let started = Instant::now();
    let mut check = Check::new(journal, options)?;
    let torn_bytes = if damage.is_none() { journal.torn_bytes()? } else { 0 };
    if let Some((at, detail)) = damage {
        check.problems.add(Rule::Undamaged, at, detail);
        check.report.notes.push("a damaged journal is not served: restore it from a backup".into());
    }
    let mut walk = Walk::over(journal, &all_partitions(journal))?;
    for late in [false, true] {
        check.late = late;
        walk.run(|step, _| {
            check.step(step)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if !check.channels.is_ahead() {
            break;
        }
    }
    let mut report = check.finish()?;
    for one in &mut report.partitions {
        one.epoch = walk.epoch(one.partition);
    }
    if torn_bytes > 0 {
        report.notes.push(format!(
            "the last {torn_bytes} bytes are of a write that was cut short, or is under way: nobody was \
             told of it, and the next start cuts it"
        ));
    }
    report.duration_ms = started.elapsed().as_millis() as u64;
    Ok(report)
}

struct Check<'a> {
    journal: &'a dyn ReadJournal,
    partitions: u16,
    /// The first offset of each partition that was not read.
    ends: Vec<Offset>,
    numbers: Vec<Numbers>,
    seen: Seen,
    /// The latest time of each partition.
    times: Vec<Option<Timestamp>>,
    channels: Channels,
    people: People,
    hashes: Hashes,
    cursors: Cursors,
    deliveries: Reckoning<'a>,
    /// The end was reached once already.
    late: bool,
    report: Report,
    problems: Noted,
    warnings: Noted,
}

impl<'a> Check<'a> {
    fn new(journal: &'a dyn ReadJournal, options: &Options) -> Result<Self, AuditError> {
        let replays = webhooks::replays(journal)?;
        let deliveries = webhooks::Options { replays, ..webhooks::Options::default() };
        let mut problems = Noted::default();
        let partitions = journal.partitions();
        let count = usize::from(partitions);
        Ok(Self {
            journal,
            partitions,
            ends: vec![Offset(0); count],
            numbers: vec![Numbers::default(); count],
            seen: Seen::default(),
            times: vec![None; count],
            channels: Channels::new(partitions),
            people: People::new(partitions, options.import_ignores_blocklist.clone()),
            hashes: Hashes::new(partitions, &options.stored, &mut problems),
            cursors: Cursors::new(partitions),
            deliveries: Reckoning::new(journal, deliveries),
            late: false,
            report: Report { notes: options.notes.clone(), ..Report::default() },
            problems,
            warnings: Noted::default(),
        })
    }

    fn step(&mut self, step: Step) -> Result<(), AuditError> {
        let place = (step.partition, step.offset);
        self.deliveries.step(place, &step.reading, &mut Quiet)?;
        let end = &mut self.ends[usize::from(step.partition.0)];
        if step.offset != *end {
            let detail = format!("stands where offset {end} follows");
            self.problems.add(Rule::OffsetsWithoutGap, place, detail);
        }
        *end = Offset(step.offset.0 + 1);
        self.report.records += 1;
        self.measure(place, step.bytes.len());
        if self.hashes.awaits(place) {
            self.people.hash(place.0, self.hashes.live(place.0));
            self.hashes.reach(place, &mut self.problems);
        }
        let (record, admitted) = match step.reading {
            Reading::Record(record, admitted) => (record, admitted),
            Reading::Unreadable { admitted: Admitted::Void, .. } => {
                self.void(place);
                return Ok(());
            }
            Reading::Unreadable { error, .. } => {
                self.problems.add(Rule::Readable, place, error.to_string());
                return Ok(());
            }
        };
        match admitted {
            Admitted::Void => {
                let numbers = &mut self.numbers[usize::from(place.0.0)];
                let (problems, warnings) = (&mut self.problems, &mut self.warnings);
                numbers.void(place, &record, &step.bytes, problems, warnings);
                self.void(place);
            }
            Admitted::Claimed => self.claimed(place, record.epoch),
            Admitted::Valid => {
                self.numbers[usize::from(place.0.0)].valid(record.n, &step.bytes);
                self.valid(place, record);
            }
        }
        Ok(())
    }

    fn measure(&mut self, place: (Partition, Offset), bytes: usize) {
        self.seen.record_bytes_max = self.seen.record_bytes_max.max(bytes as u64);
        if bytes > RECORD_BYTES_MAX {
            // The embedded journal takes it, and only the largest lists that settings allow make it.
            let detail = format!("has {bytes} bytes, Kafka takes at most {RECORD_BYTES_MAX}");
            self.warnings.add(Rule::WithinLimits, place, detail);
        }
    }

    fn void(&mut self, place: (Partition, Offset)) {
        self.report.voids += 1;
        self.cursors.void(place);
    }

    fn claimed(&mut self, place: (Partition, Offset), epoch: Epoch) {
        self.report.claims += 1;
        let numbers = &mut self.numbers[usize::from(place.0.0)];
        let known = numbers.epoch();
        if epoch.0 != known.0 + 1 {
            let detail = format!("claims epoch {epoch} after epoch {known}");
            self.warnings.add(Rule::NextEpoch, place, detail);
        }
        numbers.claimed(epoch);
        self.cursors.claimed(place, epoch);
    }

    fn valid(&mut self, place: (Partition, Offset), record: Record) {
        if self.numbers[usize::from(place.0.0)].epoch() == Epoch(0) {
            let detail = "is written before anybody has claimed the partition".to_owned();
            self.problems.add(Rule::WrittenUnderClaim, place, detail);
        }
        let problems = &mut self.problems;
        match record.body {
            Body::Commit(commit) => self.commit(place, &commit),
            Body::Watermark { seen } => {
                self.channels.watermark(place, &seen, self.late, &self.people, problems);
            }
            Body::Acknowledged { out } => self.channels.acknowledged(place, &out, self.late),
            Body::Cursor { subscription, cursor } => self.cursor(place, subscription, &cursor),
            Body::Release { hash } | Body::Checkpoint { hash } => {
                self.people.hash(place.0, self.hashes.live(place.0));
                self.hashes.compare(place, &hash, problems);
            }
            // A claim is never merely valid.
            Body::Claim { .. } => {}
        }
    }

    fn cursor(&mut self, place: (Partition, Offset), subscription: String, cursor: &Cursor) {
        self.seen.cursors += 1;
        let parked = cursor.progress.parked.len();
        if parked > PARKED_USERS_MAX {
            let detail = format!("parks {parked} users, at most {PARKED_USERS_MAX} are");
            self.problems.add(Rule::WithinLimits, place, detail);
        }
        self.cursors.set(place, subscription, cursor, &mut self.problems);
    }

    fn commit(&mut self, place: (Partition, Offset), commit: &Commit) {
        let problems = &mut self.problems;
        self.report.commits += 1;
        let home = partition_of(&commit.key, self.partitions);
        if home != place.0 {
            let detail = format!("{} belongs into partition {home}", commit.key);
            problems.add(Rule::RightPartition, place, detail);
        }
        if commit.events.is_empty() {
            problems.add(Rule::HasEvents, place, format!("{} has no event", commit.key));
        }
        let time = &mut self.times[usize::from(place.0.0)];
        match *time {
            Some(latest) if commit.at.0 < latest.0 - CLOCK_TOLERANCE_MS => {
                let detail = format!("is of {}, after a record of {latest}", commit.at);
                self.warnings.add(Rule::TimeForward, place, detail);
            }
            Some(latest) if commit.at < latest => {}
            _ => *time = Some(commit.at),
        }
        let waits = self.channels.wait(place.0);
        let needs = self.people.replay(place, commit, waits, problems);
        self.channels.answer(place, (commit, needs), self.late, &self.people, problems);
        self.channels.ask(place.0, commit, &self.people, problems);
    }

    fn finish(mut self) -> Result<Report, AuditError> {
        let deliveries = self.deliveries.finish(&mut Quiet)?;
        self.seen.calls = deliveries.held;
        self.report.notes.extend(deliveries.notes);
        for finding in deliveries.findings.first {
            // What cursors say of themselves has rules of its own here.
            if !matches!(
                finding.rule,
                webhooks::Rule::Readable | webhooks::Rule::Ahead | webhooks::Rule::Forward
            ) {
                let place = (finding.partition, finding.offset);
                let detail = format!("{} {}", finding.subscription, finding.detail);
                self.problems.add(Rule::Deliveries, place, detail);
            }
        }
        let (report, problems) = (&mut self.report, &mut self.problems);
        for partition in (0..self.partitions).map(Partition) {
            self.people.hash(partition, self.hashes.live(partition));
        }
        self.hashes.finish(&self.ends, problems);
        let remainder = self.channels.finish(problems);
        report.owed = remainder.owed;
        self.seen.effects = remainder.asked;
        if remainder.ahead > 0 {
            report.notes.push(format!(
                "{} answers were written while this was read, and are not checked",
                remainder.ahead
            ));
        }
        for (index, end) in self.ends.iter().enumerate() {
            let partition = Partition(index as u16);
            report.partitions.push(PartitionReport {
                partition,
                end: *end,
                epoch: Epoch(0),
                users: 0,
                hash: self.hashes.live(partition).to_string(),
            });
        }
        self.people.finish(&remainder.unsettled, report, problems, &mut self.warnings);
        report.hashes = self.hashes.compared();
        report.notes.extend(self.hashes.note());
        report.lags = self.cursors.lags(&self.ends);
        report.holds = self.problems.all.total == 0;
        self.seen.pairs = self.people.pairs();
        let findings = (&self.problems, &self.warnings);
        report.promises = promises(self.journal, report, self.seen, findings)?;
        report.problems = self.problems.all;
        report.warnings = self.warnings.all;
        Ok(self.report)
    }
}
