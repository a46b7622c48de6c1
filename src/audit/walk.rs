//! The walk over records that all audits share.

use std::ops::ControlFlow;

use serde::Deserialize;
use uuid::Uuid;

use super::AuditError;
use super::progress::Progress;
use crate::journal::record::decode;
use crate::journal::{
    Admitted, Body, Commit, Epoch, Offset, Partition, ReadJournal, Reader, ReaderRule, Record,
    RecordError,
};

/// About how many bytes are read at a time. Few: the allocator gives larger heaps of small records back to
/// the system as soon as they are looked at, and has to clear fresh memory for the next ones. An audit
/// of 4.0 s took 2.8 with that switched off; what these steps alone gain was not measured.
const READ_BYTES_MAX: usize = 64 << 10;

/// All partitions of `journal`.
pub(super) fn all_partitions(journal: &dyn ReadJournal) -> Vec<Partition> {
    (0..journal.partitions()).map(Partition).collect()
}

/// One record on the way.
pub(super) struct Step {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    /// The record as stored.
    pub(super) bytes: Vec<u8>,
    pub(super) reading: Reading,
}

/// What the bytes of a record say.
pub(super) enum Reading {
    /// A record, and whether it counts.
    Record(Record, Admitted),
    /// No record that this program can read. What can be read of epoch and place says whether it
    /// counts; if that cannot be read either, it is taken to count.
    Unreadable {
        /// Why.
        error: RecordError,
        /// Whether it counts all the same.
        admitted: Admitted,
    },
}

/// Reads partitions from their beginning, because a reader can only tell from there which records count.
pub(super) struct Walk {
    reader: Box<dyn Reader>,
    rules: Vec<ReaderRule>,
    progress: Progress,
}

impl Walk {
    /// Begins at the first record of each of `partitions`.
    pub(super) fn over(
        journal: &dyn ReadJournal,
        partitions: &[Partition],
    ) -> Result<Self, AuditError> {
        let from: Vec<_> = partitions.iter().map(|partition| (*partition, Offset(0))).collect();
        let mut total = 0;
        for partition in partitions {
            total += journal.end(*partition)?.0;
        }
        Ok(Self {
            reader: journal.reader(&from)?,
            rules: vec![ReaderRule::default(); usize::from(journal.partitions())],
            progress: Progress::new(total),
        })
    }

    /// Hands over every record up to the present end, or until `visit` breaks. A second call goes on
    /// with what has come meanwhile.
    pub(super) fn run(
        &mut self,
        mut visit: impl FnMut(Step, &mut Progress) -> Result<ControlFlow<()>, AuditError>,
    ) -> Result<(), AuditError> {
        loop {
            let entries = self.reader.next(READ_BYTES_MAX)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                self.progress.step();
                let partitions = self.rules.len() as u16;
                let Some(rule) = self.rules.get_mut(usize::from(entry.partition.0)) else {
                    let partition = entry.partition;
                    return Err(AuditError::NoSuchPartition { partition, partitions });
                };
                let reading = read(&entry.bytes, rule);
                let step = Step {
                    partition: entry.partition,
                    offset: entry.offset,
                    bytes: entry.bytes,
                    reading,
                };
                if visit(step, &mut self.progress)?.is_break() {
                    self.progress.clear();
                    return Ok(());
                }
            }
        }
        self.progress.clear();
        Ok(())
    }

    /// Hands over the facts that count, as [`Walk::run`] does with every record. Answers how many records
    /// up to the offset `last`, or in all, count and cannot be read: any of them may be such a fact.
    pub(super) fn commits(
        &mut self,
        last: Option<Offset>,
        mut visit: impl FnMut(Offset, Commit) -> ControlFlow<()>,
    ) -> Result<u64, AuditError> {
        let mut unreadable = 0;
        self.run(|Step { offset, reading, .. }, _| {
            Ok(match reading {
                Reading::Record(Record { body: Body::Commit(commit), .. }, Admitted::Valid) => {
                    visit(offset, commit)
                }
                Reading::Unreadable { admitted: Admitted::Valid, .. } => {
                    unreadable += u64::from(last.is_none_or(|last| offset <= last));
                    ControlFlow::Continue(())
                }
                Reading::Record(..) | Reading::Unreadable { .. } => ControlFlow::Continue(()),
            })
        })?;
        Ok(unreadable)
    }

    /// The epoch in force in `partition` so far.
    pub(super) fn epoch(&self, partition: Partition) -> Epoch {
        self.rules[usize::from(partition.0)].epoch()
    }
}

/// The part of the envelope that every version will have.
#[derive(Deserialize)]
struct Place {
    e: Epoch,
    #[serde(default)]
    n: u64,
    kind: String,
}

/// Reads one record, given what the rule knows before it.
pub(super) fn read(bytes: &[u8], rule: &mut ReaderRule) -> Reading {
    let error = match decode(bytes) {
        Ok(record) => {
            let admitted = rule.admit(&record);
            return Reading::Record(record, admitted);
        }
        Err(error) => error,
    };
    let admitted = match serde_json::from_slice::<Place>(bytes) {
        // The rule looks at epoch, number and claims alone; any other body stands for the one that
        // cannot be read, so that the records behind it are still judged rightly.
        Ok(Place { e: epoch, n, kind }) => {
            let body = if kind == "claim" {
                Body::Claim { node: String::new(), nonce: Uuid::nil() }
            } else {
                Body::Watermark { seen: Vec::new() }
            };
            rule.admit(&Record { epoch, n, body })
        }
        Err(_) => Admitted::Valid,
    };
    Reading::Unreadable { error, admitted }
}
