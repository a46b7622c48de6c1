//! Who may write, and which records count: the whole of layer 1. Rule: cluster.md 2.2 and 2.3.
//!
//! The journal itself decides. An owner claims a partition by appending a claim with the next epoch;
//! each of its records carries the epoch and its number inside it. The same [`ReaderRule`] serves
//! recovery, webhooks and audits, and any consumer outside.

use super::{Body, Epoch, Offset, Record};

/// Decides which records of a partition count. Feed it every record in offset order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderRule {
    epoch: Epoch,
    n: u64,
}

/// What a reader makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It counts.
    Valid,
    /// A claim that took effect.
    Claimed,
    /// It never happened: a zombie's late write, the loser of a race, or a duplicate.
    Void,
}

impl ReaderRule {
    /// Starts behind a record with this epoch and number.
    pub fn resume(epoch: Epoch, n: u64) -> Self {
        Self { epoch, n }
    }

    /// The epoch in force, 0 before the first claim.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of valid records in this epoch.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Judges the next record.
    pub fn admit(&mut self, record: &Record) -> Admitted {
        if let Body::Claim { .. } = record.body {
            if record.epoch <= self.epoch {
                return Admitted::Void;
            }
            *self = Self { epoch: record.epoch, n: 0 };
            return Admitted::Claimed;
        }
        if record.epoch != self.epoch || record.n != self.n + 1 {
            return Admitted::Void;
        }
        self.n = record.n;
        Admitted::Valid
    }
}

/// Numbers an owner's records and judges their acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterRule {
    epoch: Epoch,
    sent: u64,
    acknowledged: u64,
    next: Offset,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Every reader will apply the records up to this number.
    Final {
        /// The number of the last final record.
        n: u64,
    },
    /// Foreign records lie in between: read `[from, to)`; without a claim of a higher epoch there,
    /// call [`WriterRule::gap_is_rubbish`], with one the owner is fenced.
    Gap {
        /// The first offset to read.
        from: Offset,
        /// The offset behind the last one to read.
        to: Offset,
    },
    /// The fate of what is in flight is unknown: claim again and read.
    Doubt,
}

impl WriterRule {
    /// An owner whose claim with `epoch` stands at `claim`.
    pub fn new(epoch: Epoch, claim: Offset) -> Self {
        Self { epoch, sent: 0, acknowledged: 0, next: Offset(claim.0 + 1) }
    }

    /// The owner's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the last record sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The number of the last final record.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The first offset that is not known yet.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Numbers the next record.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Judges that the next `count` records stand at `first` and behind it.
    pub fn acknowledge(&mut self, first: Offset, count: u64) -> Ack {
        if first < self.next || self.acknowledged + count > self.sent {
            return Ack::Doubt;
        }
        if first > self.next {
            return Ack::Gap { from: self.next, to: first };
        }
        self.acknowledged += count;
        self.next = Offset(first.0 + count);
        Ack::Final { n: self.acknowledged }
    }

    /// The gap before `to` was read and holds no claim: what lies there counts for nobody.
    pub fn gap_is_rubbish(&mut self, to: Offset) {
        self.next = to;
    }
}

#[cfg(test)]
mod tests;
