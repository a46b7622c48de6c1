//! Reads records: inside the owning process up to the durable end, and beside it for audits.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::folder::{Folder, read_partitions};
use super::scan::{Limit, Scan, Tail, segment_before};
use super::writer::{Shared, lock};
use crate::journal::{Damage, Entry, JournalError, Offset, Partition, ReadJournal, Reader};

/// A journal open for audits, beside the process that owns it or without one.
///
/// Takes no lock, writes nothing, and leaves a torn tail alone. It reads up to the last whole group,
/// so it may see one whose sync is still under way, and which a failing disk may take back. Damage
/// before the tail is an error.
#[derive(Debug)]
pub struct ReadOnly {
    folder: Folder,
    /// How far it is read; none for as far as groups are whole.
    until: Limit,
    /// Stands at the end, as far as it was looked for.
    tail: Mutex<Scan>,
}

impl ReadOnly {
    /// Opens the journal in `dir`, with as many partitions as it has.
    ///
    /// Errors: [`JournalError::Io`] if there is none, [`JournalError::Corrupt`].
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let Some(partitions) = read_partitions(dir)? else {
            return Err(JournalError::Io {
                action: format!("open {}", dir.display()),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    "there is no journal (no meta.json)",
                ),
            });
        };
        let folder = Folder::new(dir, partitions);
        let last = folder.last_segment()?.max(1);
        // The owner may be creating the last segment just now.
        let whole = if last > 1 && folder.open_segment(last)?.1.is_err() { last - 1 } else { last };
        let tail = Mutex::new(Scan::at_segment(&folder, whole)?);
        Ok(Self { folder, until: None, tail })
    }

    /// Goes on to the end that the files have now; answers it, and the segment it lies in.
    fn end_now(&self) -> Result<(Box<[u64]>, u64), JournalError> {
        let mut tail = lock(&self.tail);
        while tail.skip_group(self.until)? {}
        let place = tail.place();
        Ok((place.next.clone(), place.segment))
    }
}

impl ReadJournal for ReadOnly {
    fn partitions(&self) -> u16 {
        self.folder.partitions()
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        let (next, last) = self.end_now()?;
        check_offsets(from, &next)?;
        let scan = Scan::at_segment(&self.folder, segment_before(&self.folder, last, from)?)?;
        Ok(Box::new(SegmentReader::new(scan, from, End::At(self.until))))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        let (next, _) = self.end_now()?;
        end_of(partition, &next)
    }

    fn torn_bytes(&self) -> Result<u64, JournalError> {
        self.end_now()?;
        let tail = lock(&self.tail);
        Ok(if tail.tail()? == Tail::Torn { tail.bytes_behind()? } else { 0 })
    }

    fn damage(&self) -> Result<Option<Damage>, JournalError> {
        let mut tail = Scan::at_segment(&self.folder, 1)?;
        let (end, error) = loop {
            let end = tail.place().clone();
            match tail.skip_group(self.until) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(JournalError::Corrupt { place, detail }) => break (end, (place, detail)),
                Err(error) => return Err(error),
            }
        };
        let tail = Scan::at_place(&self.folder, end.clone())?;
        let partition = tail.partition_here().unwrap_or_default();
        let at = (partition, end_of(partition, &end.next)?);
        let detail = format!("{}: {}; nothing behind it was read", error.0, error.1);
        let (folder, until) = (self.folder.clone(), Some((end.segment, end.position)));
        let whole = Box::new(Self { folder, until, tail: Mutex::new(tail) });
        Ok(Some(Damage { whole, at, detail }))
    }
}

/// Up to where a reader reads.
enum End {
    /// Up to what is durable by now in the process that owns the journal, which is this one.
    Owned(Arc<Shared>),
    At(Limit),
}

/// Reads from the segments of a folder.
pub(super) struct SegmentReader {
    scan: Scan,
    /// By partition: the first offset wanted; none if the partition is not.
    wanted: Vec<Option<Offset>>,
    end: End,
}

impl SegmentReader {
    fn new(scan: Scan, from: &[(Partition, Offset)], end: End) -> Self {
        let mut wanted = vec![None; scan.place().next.len()];
        for (partition, offset) in from {
            wanted[usize::from(partition.0)] = Some(*offset);
        }
        Self { scan, wanted, end }
    }

    /// A reader inside the owning process.
    pub(super) fn open(
        shared: &Arc<Shared>,
        from: &[(Partition, Offset)],
    ) -> Result<Self, JournalError> {
        let (start, last) = {
            let index = lock(&shared.index);
            check_offsets(from, &index.end().next)?;
            (index.start(from), index.end().segment)
        };
        let scan = match start {
            Some(place) => Scan::at_place(&shared.folder, place)?,
            None => Scan::at_segment(&shared.folder, segment_before(&shared.folder, last, from)?)?,
        };
        Ok(Self::new(scan, from, End::Owned(Arc::clone(shared))))
    }

    fn limit(&self) -> Limit {
        match &self.end {
            End::Owned(shared) => {
                let index = lock(&shared.index);
                Some((index.end().segment, index.end().position))
            }
            End::At(limit) => *limit,
        }
    }

    /// The next wanted record within `limit`.
    fn next_entry(&mut self, limit: Limit) -> Result<Option<Entry>, JournalError> {
        loop {
            while let Some((partition, offset, bytes)) = self.scan.next_record()? {
                if self.wanted[usize::from(partition.0)].is_some_and(|first| first <= offset) {
                    let bytes = self.scan.bytes(bytes).to_vec();
                    return Ok(Some(Entry { partition, offset, bytes }));
                }
            }
            if !self.scan.next_group(limit)? {
                return Ok(None);
            }
        }
    }
}

impl Reader for SegmentReader {
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let limit = self.limit();
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.is_empty() || bytes < bytes_max {
            match self.next_entry(limit) {
                Ok(Some(entry)) => {
                    bytes += entry.bytes.len();
                    entries.push(entry);
                }
                Ok(None) => break,
                Err(error) if entries.is_empty() => return Err(error),
                // What was read is right; the next call meets the error again.
                Err(_) => break,
            }
        }
        Ok(entries)
    }
}

/// The end of `partition` among the next offsets of all.
pub(super) fn end_of(partition: Partition, next: &[u64]) -> Result<Offset, JournalError> {
    match next.get(usize::from(partition.0)) {
        Some(end) => Ok(Offset(*end)),
        None => Err(JournalError::NoSuchOffset {
            partition,
            offset: Offset::default(),
            end: Offset::default(),
        }),
    }
}

fn check_offsets(from: &[(Partition, Offset)], next: &[u64]) -> Result<(), JournalError> {
    for (partition, offset) in from {
        let end = end_of(*partition, next)?;
        if *offset > end {
            return Err(JournalError::NoSuchOffset { partition: *partition, offset: *offset, end });
        }
    }
    Ok(())
}
