//! What the deliveries came to, and how it is written.

use std::io::{self, Write};

use serde::Serialize;

use super::super::plain::Plain;
use super::super::{AuditError, Findings};
use crate::domain::{AppId, Timestamp};
use crate::journal::{Offset, Parked, Partition};

/// What cursors keep. The stored name of each (snake case) is part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every record is one that this program knows: what it owes cannot be told otherwise.
    Readable,
    /// A cursor is not ahead of itself.
    Ahead,
    /// Within a term a cursor goes forward.
    Forward,
    /// A term begins with a move that somebody asked for.
    Term,
    /// A place is given up when somebody has deleted the subscription.
    Ended,
    /// Within a term the first offset that counts stays.
    Since,
    /// What was asked for of deliveries that were passed stays.
    Filters,
    /// Each delivery that the records owe is delivered, dead, or belongs to a parked user.
    Count,
    /// Each delivery that counts as dead has a letter, and each letter names a delivery that was owed.
    Dead,
    /// A parked user waits with a delivery of theirs.
    Parked,
    /// A cursor knows the number and the name of the delivery before the place where reading begins.
    Chain,
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The name of the cursor.
    pub subscription: Box<str>,
    /// The partition.
    pub partition: Partition,
    /// The record that shows it.
    pub offset: Offset,
    /// What was expected there, and what was found.
    pub detail: String,
}

/// The deliveries of one subscription in one partition, or in all of them.
///
/// `calls` = `filtered` + `delivered` + `dead` + `parked` + `waiting`, in the range asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// What the records owe to a subscription that wants every command, from where the count begins.
    pub calls: u64,
    /// Those of them that were not asked for.
    pub filtered: u64,
    /// Those that the receiver accepted.
    pub delivered: u64,
    /// Those that were given up.
    pub dead: u64,
    /// Those that wait with a parked user.
    pub parked: u64,
    /// Those that the cursor has not passed.
    pub waiting: u64,
    /// All that is parked or waits, in whatever range.
    pub behind: u64,
    /// The time of the oldest of them.
    pub oldest: Option<Timestamp>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let Self { calls, filtered, delivered, dead, parked, waiting, behind, oldest } = other;
        self.calls += calls;
        self.filtered += filtered;
        self.delivered += delivered;
        self.dead += dead;
        self.parked += parked;
        self.waiting += waiting;
        self.behind += behind;
        self.oldest = self.oldest.into_iter().chain(*oldest).min();
    }

    /// Whether every delivery is in one of the columns.
    pub fn balance(&self) -> bool {
        let sum = self.filtered + self.delivered + self.dead + self.parked + self.waiting;
        sum == self.calls
    }
}

/// How a subscription stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: Partition,
    /// The first offset that is not done with, but for parked users.
    pub next: Offset,
    /// The term of its last move, which grows with each and is no count; 0 if there was none.
    pub term: u32,
    /// The record that says so.
    pub said_at: Offset,
    /// Cursors that were read.
    pub cursors: u64,
    /// The deliveries.
    pub counts: Counts,
    /// Users whose deliveries wait although the cursor has passed them.
    pub users: Vec<Parked>,
    /// Since when the receiver counts as down, if it does.
    pub down_since: Option<Timestamp>,
    /// Why nothing is sent any more, if that is so.
    pub halted: Option<Box<str>>,
    /// What the last failed attempt came to.
    pub error: Option<Box<str>>,
}

/// How a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscribed {
    /// The app.
    pub app: AppId,
    /// The subscription's name, with `/replay/<n>` behind it if it is a replay.
    pub name: Box<str>,
    /// It was dismissed, or has told everything.
    pub ended: bool,
    /// Its counts were held against the records.
    pub counted: bool,
    /// The deliveries of all partitions.
    pub counts: Counts,
    /// Age of the oldest delivery that is parked or waits, in seconds.
    pub lag_s: u64,
    /// Deliveries that are parked or wait.
    pub lag: u64,
    /// Each partition.
    pub partitions: Vec<PartitionReport>,
}

impl Subscribed {
    /// One of which no partition is known yet.
    pub(super) fn new(app: AppId, name: Box<str>) -> Self {
        Self {
            app,
            name,
            ended: true,
            counted: true,
            counts: Counts::default(),
            lag_s: 0,
            lag: 0,
            partitions: Vec::new(),
        }
    }

    /// Adds one partition.
    pub(super) fn add(&mut self, part: PartitionReport) {
        self.counts.add(&part.counts);
        self.partitions.push(part);
    }

    fn of<T>(&self, of: impl Fn(&PartitionReport) -> Option<T>) -> impl Iterator<Item = T> {
        self.partitions.iter().filter_map(of)
    }
}

/// What the deliveries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether no rule is broken.
    pub balanced: bool,
    /// Records read.
    pub records: u64,
    /// Those of them that count and cannot be read: what they owe is not known.
    pub unreadable: u64,
    /// Cursors among them.
    pub cursors: u64,
    /// Deliveries of the partitions whose cursors could be held against the records.
    pub held: u64,
    /// The subscriptions, by app and name.
    pub subscriptions: Vec<Subscribed>,
    /// Broken rules.
    pub findings: Findings<Finding>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// One JSON object on one line.
    pub(super) fn write_json(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        serde_json::to_writer(&mut *out, self).map_err(io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    /// Lines for people: what is wrong, and what became of all deliveries.
    pub(super) fn write_table(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        for Finding { rule, subscription, partition, offset, detail } in &self.findings.first {
            let rule = serde_json::to_value(rule).map_err(io::Error::from)?;
            let rule = rule.as_str().unwrap_or_default();
            let (subscription, detail) = (Plain(subscription), Plain(detail));
            writeln!(out, "DIFFERENCE {partition}@{offset} {subscription} {rule}: {detail}")?;
        }
        let unshown = self.findings.total - self.findings.first.len() as u64;
        if unshown > 0 {
            writeln!(out, "DIFFERENCE and {unshown} more")?;
        }
        for note in &self.notes {
            writeln!(out, "note {}", Plain(note))?;
        }
        writeln!(
            out,
            "app         subscription               expected = delivered  + filtered   + dead      \
             + parked    + waiting"
        )?;
        for one in &self.subscriptions {
            let Counts { calls, filtered, delivered, dead, parked, waiting, .. } = one.counts;
            let ended = if one.ended { "  ended" } else { "" };
            writeln!(
                out,
                "{:<10}  {:<24}  {calls:<10} {delivered:<12} {filtered:<12} {dead:<11} {parked:<11} \
                 {waiting}{ended}",
                one.app.to_string(),
                Plain(&one.name).to_string(),
            )?;
        }
        let (records, cursors, total) = (self.records, self.cursors, self.findings.total);
        let verdict = if self.balanced { "all balance" } else { "NOT ALL BALANCE" };
        writeln!(out, "{records} records, {cursors} cursors, {total} differences: {verdict}")?;
        Ok(())
    }

    /// Lines for people: how far each subscription has come, and what it waits for.
    pub(super) fn write_list(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        writeln!(
            out,
            "app         subscription              owed        oldest    parked  dead    state"
        )?;
        for one in &self.subscriptions {
            let users = one.partitions.iter().map(|part| part.users.len()).sum::<usize>();
            let halted = one.of(|part| part.halted.clone()).next();
            let down = one.of(|part| part.down_since).min();
            let state = match (one.ended, halted, down) {
                (true, _, _) => "ended".to_owned(),
                (_, Some(reason), _) => format!("halted: {}", Plain(&reason)),
                (_, _, Some(since)) => format!("down since {since}"),
                (_, _, None) => "up".to_owned(),
            };
            let error = one.of(|part| part.error.clone()).next();
            let error = error.map_or_else(String::new, |e| format!(", last error: {}", Plain(&e)));
            writeln!(
                out,
                "{:<10}  {:<24}  {:<10}  {:<8}  {users:<6}  {:<6}  {state}{error}",
                one.app.to_string(),
                Plain(&one.name).to_string(),
                one.lag,
                format!("{} s", one.lag_s),
                one.counts.dead,
            )?;
            for part in &one.partitions {
                for Parked { user, first, attempts, since, error, .. } in &part.users {
                    let partition = part.partition;
                    writeln!(
                        out,
                        "            parked {user} at {partition}@{first} since {since}, {attempts} \
                         attempts: {}",
                        Plain(error)
                    )?;
                }
            }
        }
        for note in &self.notes {
            writeln!(out, "note {}", Plain(note))?;
        }
        Ok(())
    }
}
