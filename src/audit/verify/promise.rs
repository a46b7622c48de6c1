//! The promises by number, which rules show each, and what no journal shows of it.

use serde::Serialize;

use super::super::AuditError;
use super::report::{Finding, Noted, Report, Rule};
use crate::domain::{UserKey, Version};
use crate::journal::record::decode;
use crate::journal::{Body, Offset, Partition, ReadJournal};

/// What the product promises. The number is the place in the list; the stored name is part of the
/// report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// What was answered survives.
    DurableBeforeSaid = 1,
    /// Nobody is blocked and a friend.
    NeverBlockedAndFriends,
    /// The changes of a user are in one order, and none is lost.
    SameUserOneOrder,
    /// Two nodes never both write a partition.
    OneWriter,
    /// Subscribers are told everything that they asked for.
    NothingUnsaid,
    /// The records alone make the state.
    ReplayIsTheSameProgram,
    /// Nothing grows without a limit.
    Bounded,
}

impl Promise {
    /// All of them, by number.
    pub const ALL: [Self; 7] = [
        Self::DurableBeforeSaid,
        Self::NeverBlockedAndFriends,
        Self::SameUserOneOrder,
        Self::OneWriter,
        Self::NothingUnsaid,
        Self::ReplayIsTheSameProgram,
        Self::Bounded,
    ];

    /// Its number, from 1.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its name, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::DurableBeforeSaid => "durable before said",
            Self::NeverBlockedAndFriends => "never blocked and friends",
            Self::SameUserOneOrder => "same user, one order",
            Self::OneWriter => "one writer",
            Self::NothingUnsaid => "nothing unsaid",
            Self::ReplayIsTheSameProgram => "replay is the same program",
            Self::Bounded => "bounded",
        }
    }

    /// What a journal alone does not show of it.
    pub fn unseen(self) -> &'static str {
        match self {
            Self::DurableBeforeSaid => {
                "which answers were given: records lost behind the last one leave no gap"
            }
            Self::NeverBlockedAndFriends => "what was read in between, while an effect was owed",
            Self::SameUserOneOrder => "in which order the calls came",
            Self::OneWriter => "what a deposed owner answered without writing it",
            Self::NothingUnsaid => {
                "whether a receiver has kept what it accepted, and what settings ask for"
            }
            Self::ReplayIsTheSameProgram => "the state of nodes between their checkpoints",
            Self::Bounded => "queues, waits and retries of running nodes, and the limits of apps",
        }
    }
}

impl Rule {
    /// The promise that is broken with the rule.
    pub fn promise(self) -> Promise {
        match self {
            Self::Undamaged
            | Self::Readable
            | Self::OffsetsWithoutGap
            | Self::NumbersWithoutGap
            | Self::AnswersAsked
            | Self::AcknowledgedTaken
            | Self::StoreInsideJournal => Promise::DurableBeforeSaid,
            Self::NoFriendBlocked
            | Self::NeverBlockedAndFriends
            | Self::BothSides
            | Self::OffersAnswered
            | Self::SeveredByBlock
            | Self::AnswersAsAsked
            | Self::PartedWhenTaken
            | Self::DeletedForgotten => Promise::NeverBlockedAndFriends,
            Self::TimeForward
            | Self::RightPartition
            | Self::HasEvents
            | Self::VersionsWithoutGap
            | Self::EventsFollow
            | Self::AnswersForward
            | Self::CauseMatches => Promise::SameUserOneOrder,
            Self::NextEpoch | Self::WrittenUnderClaim | Self::OneRecordPerNumber => {
                Promise::OneWriter
            }
            Self::CursorForward
            | Self::CursorInsideJournal
            | Self::CursorPlace
            | Self::Deliveries => Promise::NothingUnsaid,
            Self::JournalHash | Self::StoreHash => Promise::ReplayIsTheSameProgram,
            Self::WithinLimits => Promise::Bounded,
        }
    }
}

/// How many things of one kind were checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What.
    pub what: &'static str,
    /// How many.
    pub count: u64,
}

/// The first record that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirstBroken {
    /// The rule, the place, and what is wrong there.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whose record it is, if it is a readable one of somebody.
    pub user: Option<UserKey>,
    /// Its version in their stream.
    pub version: Option<Version>,
}

/// What was found out about one promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromiseReport {
    /// Its number.
    pub number: u8,
    /// Its name.
    pub promise: Promise,
    /// No rule that shows it is broken.
    pub kept: bool,
    /// What was looked at.
    pub checked: Vec<Checked>,
    /// How often its rules are broken.
    pub problems: u64,
    /// How much is odd and breaks nothing.
    pub warnings: u64,
    /// The first record that breaks it.
    pub first: Option<FirstBroken>,
    /// What a journal alone does not show.
    pub unseen: &'static str,
}

/// What only the check itself has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) effects: u64,
    pub(super) pairs: u64,
    pub(super) cursors: u64,
    pub(super) calls: u64,
    pub(super) record_bytes_max: u64,
}

/// One report per promise, in order.
pub(super) fn promises(
    journal: &dyn ReadJournal,
    report: &Report,
    seen: Seen,
    (problems, warnings): (&Noted, &Noted),
) -> Result<Vec<PromiseReport>, AuditError> {
    let one = |promise: Promise| {
        let checked: &[(&'static str, u64)] = match promise {
            Promise::DurableBeforeSaid => {
                &[("records without a gap", report.records), ("effects", seen.effects)]
            }
            Promise::NeverBlockedAndFriends => &[
                ("pairs of users", seen.pairs),
                ("blocks", report.blocks),
                ("friendships", report.friendships),
            ],
            Promise::SameUserOneOrder => {
                &[("users", report.users), ("versions", report.commits), ("effects", seen.effects)]
            }
            Promise::OneWriter => {
                &[("claims", report.claims), ("writes that never counted", report.voids)]
            }
            Promise::NothingUnsaid => &[("cursors", seen.cursors), ("calls", seen.calls)],
            Promise::ReplayIsTheSameProgram => {
                &[("facts", report.commits), ("row hashes", report.hashes)]
            }
            Promise::Bounded => {
                &[("records", report.records), ("bytes of the largest one", seen.record_bytes_max)]
            }
        };
        let (count, first) = match problems.by_promise.get(&promise) {
            Some((count, first)) => (*count, Some(named(journal, first.clone())?)),
            None => (0, None),
        };
        Ok(PromiseReport {
            number: promise.number(),
            promise,
            kept: count == 0,
            checked: checked.iter().map(|&(what, count)| Checked { what, count }).collect(),
            problems: count,
            warnings: warnings.by_promise.get(&promise).map_or(0, |(count, _)| *count),
            first,
            unseen: promise.unseen(),
        })
    };
    Promise::ALL.into_iter().map(one).collect()
}

/// Reads once more whose record it is.
fn named(journal: &dyn ReadJournal, finding: Finding) -> Result<FirstBroken, AuditError> {
    // What is wrong with a store is the fault of no record; the place is where its rows end.
    let of_store = matches!(finding.rule, Rule::StoreHash | Rule::StoreInsideJournal);
    let commit = match record_at(journal, finding.partition, finding.offset)? {
        Some(Body::Commit(commit)) if !of_store => Some(commit),
        Some(_) | None => None,
    };
    let (user, version) = commit.map(|commit| (commit.key, commit.version)).unzip();
    Ok(FirstBroken { finding, user, version })
}

fn record_at(
    journal: &dyn ReadJournal,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Body>, AuditError> {
    if partition.0 >= journal.partitions() || offset >= journal.end(partition)? {
        return Ok(None);
    }
    let entries = journal.reader(&[(partition, offset)])?.next(1)?;
    let entry = entries.first().filter(|entry| entry.offset == offset);
    Ok(entry.and_then(|entry| decode(&entry.bytes).ok()).map(|record| record.body))
}
