//! What the records of a journal owe to those who ask for all of it, derived from them again.
//!
//! The newest records of each partition are kept, without their bodies: cursors name records that were
//! read a moment ago. For a cursor that names older ones, they are read again.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::super::AuditError;
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::record::decode;
use crate::journal::{Body, Commit, Offset, Partition, ReadJournal};
use crate::tags::CallbackCommand;
use crate::webhooks::Switches;
use crate::webhooks::digest::{DeliveryId, hash};
use crate::webhooks::payload::{Payload, payloads};

/// Records with deliveries that are kept, over all partitions, at most.
const KEPT_RECORDS_MAX: usize = 262_144;
/// Those of one partition, at least: more than a follower reads ahead of its cursor.
const KEPT_RECORDS_MIN: usize = 1_024;
/// About how many bytes are read again at a time.
const READ_BYTES_MAX: usize = 1 << 20;

/// The deliveries that one record owes.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) offset: Offset,
    pub(super) at: Timestamp,
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// Each with its hash, in the order in which they are made.
    deliveries: SmallVec<[(CallbackCommand, u128); 1]>,
}

impl Owed {
    /// What a record of facts owes, if it owes anything.
    pub(super) fn of(partition: Partition, offset: Offset, commit: &Commit) -> Option<Self> {
        let hashed = |payload: Payload| {
            let id = DeliveryId { partition, offset, command: payload.command };
            (payload.command, hash(id, &payload.body))
        };
        let all = payloads(commit, Switches::ALL).into_iter().map(hashed);
        let deliveries: SmallVec<[_; 1]> = all.collect();
        let (app, user) = (commit.key.app, commit.key.user);
        (!deliveries.is_empty()).then_some(Self { offset, at: commit.at, app, user, deliveries })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.deliveries.len() as u64
    }

    /// Those that are wanted, in order.
    pub(super) fn wanted(
        &self,
        want: Switches,
    ) -> impl Iterator<Item = (CallbackCommand, u128)> + '_ {
        self.deliveries.iter().copied().filter(move |(command, _)| want.has(*command))
    }
}

/// One partition, as far as it was read.
pub(super) struct Shelf {
    partition: Partition,
    kept: VecDeque<Owed>,
    pub(super) kept_max: usize,
    /// From here on everything that owes something is kept.
    first: Offset,
    /// The first offset that was not read.
    pub(super) next: Offset,
    /// The records that count for nobody.
    voids: Vec<Offset>,
    /// A cursor of the partition was read: what records owe is kept from here on.
    pub(super) followed: bool,
}

impl Shelf {
    /// Nothing read yet, of one of so many partitions.
    pub(super) fn new(partition: Partition, partitions: u16) -> Self {
        let share = KEPT_RECORDS_MAX / usize::from(partitions.max(1));
        Self {
            partition,
            kept: VecDeque::new(),
            kept_max: share.max(KEPT_RECORDS_MIN),
            first: Offset(0),
            next: Offset(0),
            voids: Vec::new(),
            followed: false,
        }
    }

    /// The record at `offset` counts, and has these facts. Before there is a cursor, what they owe is
    /// only looked for if one asks.
    pub(super) fn put_facts(&mut self, offset: Offset, commit: &Commit) {
        if self.followed {
            return self.put(offset, Owed::of(self.partition, offset, commit));
        }
        self.next = Offset(offset.0 + 1);
        self.first = self.next;
    }

    /// The record at `offset` counts, and owes this.
    pub(super) fn put(&mut self, offset: Offset, owed: Option<Owed>) {
        self.next = Offset(offset.0 + 1);
        self.kept.extend(owed);
        if self.kept.len() > self.kept_max
            && let Some(oldest) = self.kept.pop_front()
        {
            self.first = Offset(oldest.offset.0 + 1);
        }
    }

    /// The record at `offset` counts for nobody.
    pub(super) fn void(&mut self, offset: Offset) {
        self.next = Offset(offset.0 + 1);
        self.voids.push(offset);
    }

    /// Shows `see` what each record from `from` up to `to` owes, those that were read.
    pub(super) fn visit(
        &self,
        journal: &dyn ReadJournal,
        from: Offset,
        to: Offset,
        see: &mut dyn FnMut(&Owed) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let to = to.min(self.next);
        if from >= to {
            return Ok(());
        }
        if from < self.first {
            self.read_again(journal, from, to.min(self.first), see)?;
        }
        let start = self.kept.partition_point(|owed| owed.offset < from);
        for owed in self.kept.range(start..).take_while(|owed| owed.offset < to) {
            see(owed)?;
        }
        Ok(())
    }

    /// What the record at `offset` owes, if it was read and owes something.
    pub(super) fn find(
        &self,
        journal: &dyn ReadJournal,
        offset: Offset,
    ) -> Result<Option<Owed>, AuditError> {
        let mut found = None;
        let Some(behind) = offset.0.checked_add(1) else { return Ok(None) };
        self.visit(journal, offset, Offset(behind), &mut |owed| {
            found = Some(owed.clone());
            Ok(())
        })?;
        Ok(found)
    }

    fn read_again(
        &self,
        journal: &dyn ReadJournal,
        from: Offset,
        to: Offset,
        see: &mut dyn FnMut(&Owed) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let mut reader = journal.reader(&[(self.partition, from)])?;
        loop {
            let entries = reader.next(READ_BYTES_MAX)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                if entry.offset >= to {
                    return Ok(());
                }
                if self.voids.binary_search(&entry.offset).is_ok() {
                    continue;
                }
                let Ok(record) = decode(&entry.bytes) else { continue };
                if let Body::Commit(commit) = &record.body
                    && let Some(owed) = Owed::of(self.partition, entry.offset, commit)
                {
                    see(&owed)?;
                }
            }
        }
    }
}
