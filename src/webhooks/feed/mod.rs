//! The journal, read once for all subscriptions: what is new is decoded and derived a single time,
//! and kept a while for those who are close behind. Who is further behind reads for themselves.
//!
//! A read of a file is made in place. One that may wait for a network is made on another thread
//! ([`afar`] for all, `dispatcher::away` for one subscription): one partition that cannot be read for a
//! while must not hold the deliveries of all others.

mod afar;
mod source;
mod tail;
mod together;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use self::afar::Afar;
pub(super) use self::source::{Feeds, Source};
pub(super) use self::tail::{Tail, read_again};
pub(super) use self::together::{Readers, Seat, Together};
use super::payload::{Payload, payloads};
use super::switches::Switches;
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::{Admitted, Body, Entry, Offset, Origin, Place, ReaderRule, record};
use crate::tags::CallbackCommand;

/// Bytes of records that are read at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Batches that are read ahead, at most.
const BATCHES_AHEAD_MAX: usize = 4;
/// Records of a partition that are kept for those close behind, at most.
const KEPT_RECORDS_MAX: usize = 1024;
/// Bytes of their bodies.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What one record owes to a subscription that wants every command.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// Whose event it is.
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// When it happened.
    pub(super) at: Timestamp,
    /// Who caused it.
    pub(super) by: Arc<Origin>,
    /// One per command at most, in the order in which they are made.
    pub(super) payloads: Vec<Payload>,
}

impl Deliveries {
    /// The deliveries that are wanted, in order, with their places among all.
    pub(super) fn wanted(
        &self,
        want: Switches,
    ) -> impl DoubleEndedIterator<Item = (usize, CallbackCommand)> + '_ {
        let each = self.payloads.iter().map(|payload| payload.command).enumerate();
        each.filter(move |(_, command)| want.has(*command))
    }

    fn bytes(&self) -> usize {
        self.payloads.iter().map(|payload| payload.body.len()).sum()
    }
}

/// A record, as the subscriptions see it.
#[derive(Clone, Debug)]
pub(super) struct Fed {
    pub(super) offset: Offset,
    /// What the reader rule knows behind the record.
    pub(super) after: ReaderRule,
    pub(super) said: Said,
}

/// What a record says to subscriptions.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// Facts, with the deliveries that tell them, if there are any.
    Commit {
        /// When.
        at: Timestamp,
        /// The deliveries.
        deliveries: Option<Arc<Deliveries>>,
    },
    /// Nothing: it speaks of the journal itself, or counts for nobody.
    Other,
    /// It is no record.
    Unreadable,
}

impl Fed {
    /// Decodes an entry, given what the rule knows before it.
    pub(super) fn of(entry: &Entry, mut rule: ReaderRule) -> Self {
        let offset = entry.offset;
        let said = match record::decode(&entry.bytes) {
            Ok(record) => match (rule.admit(&record), record.body) {
                (Admitted::Valid, Body::Commit(commit)) => {
                    let payloads = payloads(&commit, Switches::ALL);
                    let at = commit.at;
                    let deliveries = (!payloads.is_empty()).then(|| {
                        let (app, user) = (commit.key.app, commit.key.user);
                        Arc::new(Deliveries { app, user, at, by: commit.by, payloads })
                    });
                    Said::Commit { at, deliveries }
                }
                (Admitted::Valid | Admitted::Claimed | Admitted::Void, _) => Said::Other,
            },
            Err(error) => {
                tracing::error!(
                    journal.partition = entry.partition.0,
                    journal.offset = offset.0,
                    %error,
                    "a record cannot be read, and the webhooks of its partition stop: run cordon verify"
                );
                Said::Unreadable
            }
        };
        Self { offset, after: rule, said }
    }

    /// Where to read on behind it.
    pub(super) fn behind(&self) -> Place {
        Place::new(Offset(self.offset.0 + 1), self.after)
    }
}

/// The newest records of one partition, kept for all subscriptions.
pub(super) struct Feed {
    /// Tells it from others of its partition, before it and behind it.
    number: u64,
    /// Where it is read on.
    place: Place,
    kept: VecDeque<Fed>,
    bytes: usize,
    /// Records read since everybody was told of news.
    untold: usize,
    /// How far everybody has been told, for those who watch the lag.
    mark: Arc<AtomicU64>,
}

impl Feed {
    /// Begins at `place`, with nothing kept.
    pub(super) fn new(number: u64, place: Place) -> Self {
        Self {
            number,
            place,
            kept: VecDeque::new(),
            bytes: 0,
            untold: 0,
            mark: Arc::new(AtomicU64::new(place.next.0)),
        }
    }

    /// Takes what was read on, and names the `apps` that it concerns.
    fn take(&mut self, read: impl IntoIterator<Item = Fed>, apps: &mut BTreeSet<AppId>) {
        for fed in read {
            if let Said::Commit { deliveries: Some(deliveries), .. } = &fed.said {
                apps.insert(deliveries.app);
            }
            self.place = fed.behind();
            self.untold += 1;
            self.bytes += bytes_of(&fed);
            self.kept.push_back(fed);
        }
        while self.kept.len() > KEPT_RECORDS_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= bytes_of(&oldest);
        }
    }

    /// The records from `next` on, if they are all here; nothing if that is the end; `None` for
    /// somebody who has to read for themselves.
    pub(super) fn from(&self, next: Offset) -> Option<impl Iterator<Item = &Fed>> {
        let first = self.kept.front().map_or(self.next(), |fed| fed.offset);
        if next < first || next > self.next() {
            return None;
        }
        let index = self.kept.partition_point(|fed| fed.offset < next);
        Some(self.kept.range(index..))
    }

    /// The first offset that was not read.
    pub(super) fn next(&self) -> Offset {
        self.place.next
    }

    /// The offset up to which everybody has been told; shared, so that others can read it later.
    pub(super) fn mark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.mark)
    }

    /// Everybody has been told of what was read.
    pub(super) fn note_mark(&self) {
        self.mark.store(self.next().0, Ordering::Release);
    }

    /// Whether enough was read that subscriptions without deliveries in it must be told, too; resets the
    /// count.
    pub(super) fn is_news_to_all(&mut self, records_min: usize) -> bool {
        let is_news = self.untold >= records_min;
        if is_news {
            self.untold = 0;
        }
        is_news
    }
}

fn bytes_of(fed: &Fed) -> usize {
    match &fed.said {
        Said::Commit { deliveries: Some(deliveries), .. } => deliveries.bytes(),
        Said::Commit { deliveries: None, .. } | Said::Other | Said::Unreadable => 0,
    }
}
