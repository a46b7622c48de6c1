//! What was appended and is not written yet, in order, and whether the journal takes more.

use std::collections::VecDeque;

use super::format::{GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, push_record};
use crate::journal::{JournalError, Partition};

/// The payload from which on a group takes no further record. It bounds what a reader holds in
/// memory, since a group is checked as a whole.
pub(super) const GROUP_BYTES_MAX: usize = 4 << 20;

/// Records that become durable together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Room for the group's header, then the framed records.
    pub(super) frame: Vec<u8>,
    /// How many records.
    pub(super) records: u64,
    /// How many records of each of the batch's partitions, in the order of their first one.
    pub(super) counts: Vec<(Partition, u64)>,
    /// By partition: its place in `counts`, plus one; 0 for none.
    places: Vec<u16>,
}

impl Batch {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            frame: vec![0; GROUP_HEADER_BYTES],
            records: 0,
            counts: Vec::new(),
            places: vec![0; usize::from(partitions)],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    fn payload_bytes(&self) -> usize {
        self.frame.len() - GROUP_HEADER_BYTES
    }

    fn push(&mut self, partition: Partition, record: &[u8]) {
        push_record(&mut self.frame, partition, record);
        self.records += 1;
        let place = &mut self.places[usize::from(partition.0)];
        if *place == 0 {
            self.counts.push((partition, 1));
            *place = self.counts.len() as u16;
        } else {
            self.counts[usize::from(*place) - 1].1 += 1;
        }
    }

    /// Empties the batch; keeps its memory for the next one unless a giant record blew it up.
    pub(super) fn clear(&mut self) {
        for (partition, _) in self.counts.drain(..) {
            self.places[usize::from(partition.0)] = 0;
        }
        self.frame.truncate(GROUP_HEADER_BYTES);
        self.frame.shrink_to(2 * GROUP_BYTES_MAX);
        self.records = 0;
    }
}

/// Whether the journal takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It does.
    Writable,
    /// A write failed; the writer tries again from time to time.
    Failing {
        /// Why.
        reason: String,
    },
    /// What is on disk is in doubt until the process starts again.
    Broken {
        /// Why.
        reason: String,
    },
}

impl Health {
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match self {
            Self::Writable => Ok(()),
            Self::Failing { reason } | Self::Broken { reason } => {
                Err(JournalError::Unavailable { reason: reason.clone() })
            }
        }
    }
}

/// The records between `append` and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) health: Health,
    /// The journal is being closed: the writer ends once nothing is left.
    pub(super) closing: bool,
    /// By partition: records were lost and the owner has not attached since.
    refused: Vec<bool>,
    full: VecDeque<Batch>,
    open: Batch,
    bytes: usize,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(partitions: u16, bytes_max: usize) -> Self {
        Self {
            health: Health::Writable,
            closing: false,
            refused: vec![false; usize::from(partitions)],
            full: VecDeque::new(),
            open: Batch::new(partitions),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes one record in, or says why not.
    pub(super) fn push(&mut self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        self.health.check()?;
        match self.refused.get(usize::from(partition.0)) {
            Some(false) => {}
            Some(true) => {
                let reason = format!(
                    "records were lost and partition {partition} was not attached again since"
                );
                return Err(JournalError::Unavailable { reason });
            }
            None => {
                let reason = format!("there is no partition {partition}");
                return Err(JournalError::Unavailable { reason });
            }
        }
        let bytes = RECORD_HEADER_BYTES + record.len();
        if bytes > self.bytes_max - self.bytes {
            return Err(JournalError::Full);
        }
        if !self.open.is_empty() && self.open.payload_bytes() + bytes > GROUP_BYTES_MAX {
            let next = Batch::new(self.refused.len() as u16);
            self.full.push_back(std::mem::replace(&mut self.open, next));
        }
        self.open.push(partition, record);
        self.bytes += bytes;
        Ok(())
    }

    /// Swaps the oldest batch with `spare`, which is empty; false if there is none.
    pub(super) fn take(&mut self, spare: &mut Batch) -> bool {
        if let Some(batch) = self.full.pop_front() {
            *spare = batch;
        } else if self.open.is_empty() {
            return false;
        } else {
            std::mem::swap(&mut self.open, spare);
        }
        self.bytes -= spare.payload_bytes();
        true
    }

    /// Drops everything, and takes nothing from any partition before it is attached again.
    pub(super) fn lose(&mut self, health: Health) {
        self.health = health;
        self.full.clear();
        self.open.clear();
        self.bytes = 0;
        self.refused.fill(true);
    }

    /// The owner of `partition` starts afresh.
    pub(super) fn readmit(&mut self, partition: Partition) {
        if let Some(refused) = self.refused.get_mut(usize::from(partition.0)) {
            *refused = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_out_in_order_and_none_outgrows_a_group() {
        let mut queue = Queue::new(2, 64 << 20);
        let record = vec![b'x'; 1 << 20];
        for index in 0..9 {
            queue.push(Partition(index % 2), &record).unwrap();
        }
        let mut taken = Vec::new();
        let mut batch = Batch::new(2);
        while queue.take(&mut batch) {
            assert!(batch.payload_bytes() <= GROUP_BYTES_MAX);
            taken.push((batch.records, batch.counts.clone()));
            batch.clear();
        }
        assert!(queue.is_empty());
        let (even, odd) = (Partition(0), Partition(1));
        assert_eq!(
            taken,
            [
                (3, vec![(even, 2), (odd, 1)]),
                (3, vec![(odd, 2), (even, 1)]),
                (3, vec![(even, 2), (odd, 1)])
            ]
        );
    }

    #[test]
    fn a_record_larger_than_a_group_travels_alone() {
        let mut queue = Queue::new(1, 64 << 20);
        queue.push(Partition(0), b"before").unwrap();
        queue.push(Partition(0), &vec![b'x'; GROUP_BYTES_MAX + 1]).unwrap();
        queue.push(Partition(0), b"behind").unwrap();
        let mut batch = Batch::new(1);
        for _ in 0..3 {
            assert!(queue.take(&mut batch));
            assert_eq!(batch.records, 1);
            batch.clear();
        }
        assert!(!queue.take(&mut batch));
    }

    #[test]
    fn after_a_loss_a_partition_is_refused_until_it_is_attached_again() {
        let mut queue = Queue::new(2, 1 << 20);
        queue.push(Partition(0), b"lost").unwrap();
        queue.lose(Health::Failing { reason: "disk full".to_owned() });
        assert!(queue.is_empty());
        queue.readmit(Partition(0));
        let failing = queue.push(Partition(0), b"early").unwrap_err();
        assert_eq!(failing.to_string(), "the journal cannot be written: disk full");
        queue.health = Health::Writable;
        queue.push(Partition(0), b"afresh").unwrap();
        let behind_a_hole = queue.push(Partition(1), b"x").unwrap_err();
        assert!(matches!(behind_a_hole, JournalError::Unavailable { .. }), "{behind_a_hole}");
    }
}
