//! What a verification found, and how it is written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Write};

use serde::Serialize;

use super::super::plain::Plain;
use super::super::{AuditError, Findings};
use super::promise::{FirstBroken, Promise, PromiseReport};
use crate::journal::{Epoch, Offset, Partition};

/// The rules that a journal keeps. The stored name of each (snake case) is part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// What was written can be read.
    Undamaged,
    /// Every record is one that this program knows.
    Readable,
    /// The offsets of a partition have no gap.
    OffsetsWithoutGap,
    /// The records of an epoch have no gap in their numbers (a warning: what stands behind one counts
    /// for nobody, and nobody was told of it).
    NumbersWithoutGap,
    /// No two records have the same epoch and number, unless one repeats the other.
    OneRecordPerNumber,
    /// A claim takes the next epoch (a warning: readers go by the order alone).
    NextEpoch,
    /// Nobody writes in an epoch that was not claimed.
    WrittenUnderClaim,
    /// Times of a partition do not run backwards (a warning: nothing depends on them).
    TimeForward,
    /// A record stands in the partition of its user.
    RightPartition,
    /// A record has an event.
    HasEvents,
    /// A user's versions have no gap.
    VersionsWithoutGap,
    /// An event follows from the state before it.
    EventsFollow,
    /// What a partition has taken from another one grows.
    AnswersForward,
    /// Nothing is taken that was never asked.
    AnswersAsked,
    /// What a partition says was acknowledged, its destination has taken.
    AcknowledgedTaken,
    /// A record names the fact that caused it.
    CauseMatches,
    /// Nobody is a friend of someone they block themselves.
    NoFriendBlocked,
    /// With nothing owed between two: none of them blocks the other while one has a friend in them.
    NeverBlockedAndFriends,
    /// With nothing owed between two: a friendship of both is in both lists, by the same edge.
    BothSides,
    /// With nothing owed between two: every offer is answered.
    OffersAnswered,
    /// A friendship ended by a peer's block answers that block.
    SeveredByBlock,
    /// What a user says to a peer's fact answers an effect of it that the record takes.
    AnswersAsAsked,
    /// After taking a peer's block, a user has no friendship with and no request of that peer.
    PartedWhenTaken,
    /// Nobody names a deleted account once every partition has heard of it (a warning: a call that
    /// crosses the deletion may).
    DeletedForgotten,
    /// A row hash in the journal is that of the state rebuilt up to it.
    JournalHash,
    /// The state store holds the state rebuilt up to its checkpoint.
    StoreHash,
    /// The state store's checkpoint lies inside the journal.
    StoreInsideJournal,
    /// A subscription's cursor moves forward.
    CursorForward,
    /// A subscription's cursor is not ahead of the journal.
    CursorInsideJournal,
    /// A cursor knows the epoch and the number before its offset.
    CursorPlace,
    /// What the cursors count is what the records owe. Rules: [`webhooks::Rule`].
    ///
    /// [`webhooks::Rule`]: super::super::webhooks::Rule
    Deliveries,
    /// A record and what it lists are within the limits that have a name.
    WithinLimits,
}

impl Rule {
    /// The name in the report.
    fn name(self) -> io::Result<String> {
        let name = serde_json::to_value(self)?;
        Ok(name.as_str().unwrap_or_default().to_owned())
    }
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The partition.
    pub partition: Partition,
    /// The record that shows it.
    pub offset: Offset,
    /// What is wrong there.
    pub detail: String,
}

/// Findings, and how many there are about each promise.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) all: Findings<Finding>,
    /// Of each promise that they are about: how many there are, and the first.
    pub(super) by_promise: BTreeMap<Promise, (u64, Finding)>,
}

impl Noted {
    /// One more, at `place`.
    pub(super) fn add(
        &mut self,
        rule: Rule,
        (partition, offset): (Partition, Offset),
        detail: impl Into<String>,
    ) {
        let finding = Finding { rule, partition, offset, detail: detail.into() };
        match self.by_promise.entry(rule.promise()) {
            Entry::Occupied(mut known) => known.get_mut().0 += 1,
            Entry::Vacant(free) => {
                free.insert((1, finding.clone()));
            }
        }
        self.all.add(finding);
    }
}

/// One partition, read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Which.
    pub partition: Partition,
    /// The offset behind the last record.
    pub end: Offset,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Users with at least one record.
    pub users: u64,
    /// The row hash of the state at the end: the layout's number, a hyphen and 32 hex digits.
    pub hash: String,
}

/// How long ago the place of one subscription was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The subscription's name.
    pub subscription: String,
    /// Records, of whatever kind, behind the place that was saved last; over the partitions in which
    /// it ever set a cursor.
    pub records: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether no rule is broken.
    pub holds: bool,
    /// What that says of each promise, by number.
    pub promises: Vec<PromiseReport>,
    /// Records read.
    pub records: u64,
    /// Those of them that are facts about a user and count.
    pub commits: u64,
    /// Those that never counted: late writes of a former owner, lost claims, duplicates.
    pub voids: u64,
    /// Claims that took effect.
    pub claims: u64,
    /// Row hashes in the journal that were compared.
    pub hashes: u64,
    /// Users with at least one record.
    pub users: u64,
    /// Entries of all blocklists.
    pub blocks: u64,
    /// Pairs of users with at least one of them on the other's friend list.
    pub friendships: u64,
    /// Effects on other users that are not taken yet.
    pub owed: u64,
    /// The partitions, in order.
    pub partitions: Vec<PartitionReport>,
    /// The subscriptions, by name.
    pub lags: Vec<Lag>,
    /// Broken rules.
    pub problems: Findings<Finding>,
    /// What is odd and breaks nothing.
    pub warnings: Findings<Finding>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
}

impl Report {
    /// One JSON object on one line.
    pub(super) fn write_json(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        serde_json::to_writer(&mut *out, self).map_err(io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    /// Lines for people.
    pub(super) fn write_table(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        for (word, findings) in [("PROBLEM", &self.problems), ("warning", &self.warnings)] {
            for finding in &findings.first {
                let Finding { rule, partition, offset, detail } = finding;
                let rule = rule.name()?;
                writeln!(out, "{word} {partition}@{offset} against {rule}: {}", Plain(detail))?;
            }
            let unshown = findings.total - findings.first.len() as u64;
            if unshown > 0 {
                writeln!(out, "{word} and {unshown} more")?;
            }
        }
        for one in &self.promises {
            one.write(out)?;
        }
        for note in &self.notes {
            writeln!(out, "note {}", Plain(note))?;
        }
        writeln!(out, "partition  epoch  end         users       row hash")?;
        for one in self.partitions.iter().filter(|one| one.users > 0) {
            writeln!(
                out,
                "{:<9}  {:<5}  {:<10}  {:<10}  {}",
                one.partition.0, one.epoch.0, one.end.0, one.users, one.hash
            )?;
        }
        let empty = self.partitions.iter().filter(|one| one.users == 0).count();
        if empty > 0 {
            writeln!(out, "{empty} partitions hold no user")?;
        }
        for lag in &self.lags {
            let (name, records) = (Plain(&lag.subscription), lag.records);
            writeln!(out, "webhook {name}: {records} records since its place was saved")?;
        }
        let counts = [
            ("records", self.records),
            ("commits", self.commits),
            ("voids", self.voids),
            ("claims", self.claims),
            ("hashes compared", self.hashes),
            ("users", self.users),
            ("blocks", self.blocks),
            ("friendships", self.friendships),
            ("owed", self.owed),
            ("warnings", self.warnings.total),
            ("problems", self.problems.total),
        ];
        for (name, count) in counts {
            writeln!(out, "{name}: {count}")?;
        }
        let verdict = if self.holds { "all holds" } else { "NOT ALL HOLDS" };
        writeln!(out, "{verdict}, {}.{:03} s", self.duration_ms / 1000, self.duration_ms % 1000)?;
        Ok(())
    }
}

impl PromiseReport {
    fn write(&self, out: &mut dyn Write) -> Result<(), AuditError> {
        let word = if self.kept { "kept" } else { "BROKEN" };
        write!(out, "promise {}, {}: {word}; checked", self.number, self.promise.title())?;
        for (index, checked) in self.checked.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma} {} {}", checked.count, checked.what)?;
        }
        writeln!(out)?;
        if let Some(FirstBroken { finding, user, version }) = &self.first {
            let Finding { rule, partition, offset, detail } = finding;
            write!(out, "  first broken by {partition}@{offset}")?;
            if let (Some(user), Some(version)) = (user, version) {
                write!(out, " of {}, version {version}", Plain(&user.to_string()))?;
            }
            writeln!(out, ", against {}: {}", rule.name()?, Plain(detail))?;
        }
        writeln!(out, "  not in a journal: {}", self.unseen)?;
        Ok(())
    }
}
