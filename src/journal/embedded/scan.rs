//! Goes over the groups of the segments, in order, checking every byte.
//!
//! The same scan serves opening, the readers inside the owning process, and audits beside it. What
//! is no whole group is judged by what lies behind it: a group is only written once the one before
//! it is durable, so a whole group, or a next segment, proves that what stands before was
//! acknowledged and is damaged now. Nothing behind it means a tail that nobody was told of.
//!
//! That leaves one case no reader can tell: damage to the very last group after a crash looks like
//! a torn tail. A clean close therefore ends with an empty group.

use std::fs::File;
use std::ops::Range;

use super::folder::{Folder, failed, read_at};
use super::format::{
    GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, RECORD_HEADER_BYTES, SegmentHeader, first_record,
};
use crate::journal::{JournalError, Offset, Partition, RECORD_BYTES_MAX};

/// How much is read from disk at once, unless a group is larger.
const WINDOW_BYTES: usize = 256 << 10;

/// A place between two groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// The byte in the segment's file.
    pub(super) position: u64,
    /// The number of the group that starts there.
    pub(super) group: u64,
    /// The next offset of every partition, by partition.
    pub(super) next: Box<[u64]>,
}

/// How far a scan may go: the segment and the byte there; none for as far as groups are whole.
pub(super) type Limit = Option<(u64, u64)>;

/// What lies behind the last whole group of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing but zeros, which were put there ahead of the writes.
    Empty,
    /// Bytes that are no group: a write that was cut short.
    Torn,
    /// A whole group at this byte: what stands before it was acknowledged and is damaged.
    Damaged(u64),
}

/// A walk over the groups.
#[derive(Debug)]
pub(super) struct Scan {
    folder: Folder,
    file: File,
    place: Place,
    /// The unread records of the group at `place`, relative to `window`; none between groups.
    group: Option<Range<usize>>,
    window: Vec<u8>,
    /// Where `window` starts in the file.
    window_start: u64,
}

enum Found {
    Group(GroupHeader),
    NoGroup(&'static str),
}

impl Scan {
    /// Starts at the first group of `segment`.
    pub(super) fn at_segment(folder: &Folder, segment: u64) -> Result<Self, JournalError> {
        let (file, header) = folder.open_segment(segment)?;
        let header = header.map_err(|detail| JournalError::Corrupt {
            place: format!("{} byte 0", folder.segment_path(segment).display()),
            detail,
        })?;
        Ok(Self {
            folder: folder.clone(),
            file,
            place: first_place(header),
            group: None,
            window: Vec::new(),
            window_start: 0,
        })
    }

    /// Starts at a place where another scan, or the writer, has been.
    pub(super) fn at_place(folder: &Folder, place: Place) -> Result<Self, JournalError> {
        let path = folder.segment_path(place.segment);
        let file = File::open(&path).map_err(|source| failed("open", &path, source))?;
        let folder = folder.clone();
        Ok(Self { folder, file, place, group: None, window: Vec::new(), window_start: 0 })
    }

    /// Between groups, the place of the next one; inside a group, its own, with the offsets behind
    /// the records that were taken.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The bytes that [`Self::next_record`] spoke of.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.window[range]
    }

    /// Enters the next group, if one is there within `limit`. The group before it must be read out.
    pub(super) fn next_group(&mut self, limit: Limit) -> Result<bool, JournalError> {
        loop {
            if let Some((segment, position)) = limit
                && (self.place.segment, self.place.position) >= (segment, position)
            {
                return Ok(false);
            }
            let file_end = limit.filter(|(segment, _)| *segment == self.place.segment);
            let readable_end = file_end.map_or(u64::MAX, |(_, position)| position);
            let detail = match self.group_here(readable_end)? {
                Found::Group(header) => {
                    let start = (self.place.position - self.window_start) as usize;
                    self.group = Some(start + GROUP_HEADER_BYTES..start + header.group_bytes());
                    return Ok(true);
                }
                Found::NoGroup(detail) => detail,
            };
            let is_last = match limit {
                Some(_) => file_end.is_some(),
                None => !self.folder.has_segment(self.place.segment + 1)?,
            };
            if is_last {
                return match limit {
                    Some(_) => Err(self.corrupt(detail)),
                    None => self.judge_tail(detail),
                };
            }
            if !self.enter_next_segment(limit, detail)? {
                return Ok(false);
            }
        }
    }

    /// No group at the end of the last segment: is it the end?
    fn judge_tail(&mut self, detail: &'static str) -> Result<bool, JournalError> {
        if !matches!(self.tail()?, Tail::Damaged(_)) {
            return Ok(false);
        }
        // A running owner may have finished this group while the ones behind it were looked for.
        match self.group_here(u64::MAX)? {
            Found::Group(_) => self.next_group(None),
            Found::NoGroup(_) => Err(self.corrupt(detail)),
        }
    }

    /// No group here, and a segment behind this one: goes there if nothing is missing in between.
    /// False if the next segment is only being created.
    fn enter_next_segment(
        &mut self,
        limit: Limit,
        detail: &'static str,
    ) -> Result<bool, JournalError> {
        let number = self.place.segment + 1;
        let (mut file, mut header) = self.folder.open_segment(number)?;
        if header.is_err() && limit.is_none() {
            // Nothing is written behind a header that is not durable.
            let header_bytes = SegmentHeader::bytes(self.folder.partitions()) as u64;
            let path = || self.folder.segment_path(number);
            let bytes = file.metadata().map_err(|source| failed("read", &path(), source))?.len();
            if bytes <= header_bytes && !self.folder.has_segment(number + 1)? {
                return Ok(false);
            }
            // A running owner may have finished it in the meantime.
            (file, header) = self.folder.open_segment(number)?;
        }
        let header = match header {
            Ok(header) => header,
            Err(detail) => {
                let place = format!("{} byte 0", self.folder.segment_path(number).display());
                return Err(JournalError::Corrupt { place, detail });
            }
        };
        let next = first_place(header);
        if next.group == self.place.group && next.next == self.place.next {
            *self = Self {
                folder: self.folder.clone(),
                file,
                place: next,
                group: None,
                window: std::mem::take(&mut self.window),
                window_start: 0,
            };
            self.window.clear();
            return Ok(true);
        }
        // As above: a running owner may have written the rest of this segment in the meantime.
        match self.group_here(u64::MAX)? {
            Found::Group(_) => Ok(true),
            Found::NoGroup(_) => Err(self.corrupt(detail)),
        }
    }

    /// Goes behind the next group, if one is there within `limit`.
    pub(super) fn skip_group(&mut self, limit: Limit) -> Result<bool, JournalError> {
        let is_there = self.next_group(limit)?;
        while self.next_record()?.is_some() {}
        Ok(is_there)
    }

    /// The partition of the first record here, if that much can be read, whether it is whole or not.
    pub(super) fn partition_here(&self) -> Option<Partition> {
        let mut group = vec![0; GROUP_HEADER_BYTES + RECORD_HEADER_BYTES + RECORD_BYTES_MAX];
        let read = self.read(&mut group, self.place.position).ok()?;
        let (partition, _) = first_record(group[..read].get(GROUP_HEADER_BYTES..)?)?;
        (partition.0 < self.folder.partitions()).then_some(partition)
    }

    /// The next record of the group, none at the group's end.
    pub(super) fn next_record(
        &mut self,
    ) -> Result<Option<(Partition, Offset, Range<usize>)>, JournalError> {
        let Some(unread) = self.group.clone() else { return Ok(None) };
        if unread.is_empty() {
            self.place.position = self.window_start + unread.end as u64;
            self.place.group += 1;
            self.group = None;
            return Ok(None);
        }
        let start = unread.start + RECORD_HEADER_BYTES;
        let (partition, bytes) = match first_record(&self.window[unread.clone()]) {
            Some((partition, bytes)) if partition.0 < self.folder.partitions() => {
                (partition, bytes)
            }
            Some(_) | None => {
                return Err(self.corrupt("the group has a right checksum around a wrong record"));
            }
        };
        let next = &mut self.place.next[usize::from(partition.0)];
        let offset = Offset(*next);
        *next += 1;
        self.group = Some(start + bytes..unread.end);
        Ok(Some((partition, offset, start..start + bytes)))
    }

    /// What lies behind the last group; to be asked between groups.
    pub(super) fn tail(&self) -> Result<Tail, JournalError> {
        let mut tail = Tail::Empty;
        let mut position = self.place.position;
        let mut chunk = vec![0; WINDOW_BYTES];
        loop {
            let read = self.read(&mut chunk, position)?;
            if chunk[..read].iter().any(|byte| *byte != 0) {
                tail = Tail::Torn;
                for (index, candidate) in chunk[..read].windows(GROUP_MAGIC.len()).enumerate() {
                    // Behind the place itself: a group there would have been found.
                    let at = position + index as u64;
                    if candidate == GROUP_MAGIC && at > self.place.position && self.is_group(at)? {
                        return Ok(Tail::Damaged(at));
                    }
                }
            }
            if read < chunk.len() {
                return Ok(tail);
            }
            // The last bytes are looked at again, since a magic may lie across the border.
            position += (read - (GROUP_MAGIC.len() - 1)) as u64;
        }
    }

    /// How many bytes the file has behind this place.
    pub(super) fn bytes_behind(&self) -> Result<u64, JournalError> {
        let path = self.folder.segment_path(self.place.segment);
        let bytes = self.file.metadata().map_err(|source| failed("read", &path, source))?.len();
        Ok(bytes.saturating_sub(self.place.position))
    }

    /// Whether a whole group that is not older than the expected one stands at `position`.
    fn is_group(&self, position: u64) -> Result<bool, JournalError> {
        let mut header = [0; GROUP_HEADER_BYTES];
        let read = self.read(&mut header, position)?;
        let Some(header) = GroupHeader::decode(&header[..read]) else { return Ok(false) };
        if header.number < self.place.group
            || header.group_bytes() as u64 > self.file_bytes()?.saturating_sub(position)
        {
            return Ok(false);
        }
        let mut group = vec![0; header.group_bytes()];
        let read = self.read(&mut group, position)?;
        Ok(header.is_intact(&group[..read]))
    }

    /// Looks for the expected group, a second time from disk if what was read ahead has none.
    fn group_here(&mut self, readable_end: u64) -> Result<Found, JournalError> {
        let found = self.group_in_window(readable_end)?;
        if matches!(found, Found::Group(_)) {
            return Ok(found);
        }
        self.window.clear();
        let found = self.group_in_window(readable_end)?;
        if matches!(found, Found::NoGroup(_)) {
            self.window.clear();
        }
        Ok(found)
    }

    fn group_in_window(&mut self, readable_end: u64) -> Result<Found, JournalError> {
        let start = self.fill(GROUP_HEADER_BYTES, readable_end)?;
        let Some(header) = GroupHeader::decode(&self.window[start..]) else {
            return Ok(Found::NoGroup("no group starts here where one was written"));
        };
        if header.number != self.place.group {
            return Ok(Found::NoGroup("the group has a wrong number"));
        }
        let group_end = self.place.position + header.group_bytes() as u64;
        // Asked before memory is taken for a length that may be rubbish.
        if group_end > self.window_end() && group_end > readable_end.min(self.file_bytes()?) {
            return Ok(Found::NoGroup("the group is longer than what is there"));
        }
        let start = self.fill(header.group_bytes(), readable_end)?;
        let group = self.window.get(start..start + header.group_bytes());
        match group {
            Some(group) if header.is_intact(group) => Ok(Found::Group(header)),
            Some(_) | None => Ok(Found::NoGroup("the group has a wrong checksum")),
        }
    }

    /// Gets `bytes` bytes from the place on into the window, if the file has them before
    /// `readable_end`; answers where they start there.
    fn fill(&mut self, bytes: usize, readable_end: u64) -> Result<usize, JournalError> {
        let position = self.place.position;
        if position >= self.window_start && position + bytes as u64 <= self.window_end() {
            return Ok((position - self.window_start) as usize);
        }
        let wanted = (bytes.max(WINDOW_BYTES) as u64).min(readable_end.saturating_sub(position));
        let mut window = std::mem::take(&mut self.window);
        window.resize(wanted as usize, 0);
        let read = self.read(&mut window, position)?;
        window.truncate(read);
        window.shrink_to(16 * WINDOW_BYTES);
        self.window = window;
        self.window_start = position;
        Ok(0)
    }

    fn window_end(&self) -> u64 {
        self.window_start + self.window.len() as u64
    }

    fn file_bytes(&self) -> Result<u64, JournalError> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(source) => Err(failed("read", &self.path(), source)),
        }
    }

    fn read(&self, into: &mut [u8], position: u64) -> Result<usize, JournalError> {
        read_at(&self.file, into, position).map_err(|source| failed("read", &self.path(), source))
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.segment_path(self.place.segment)
    }

    fn corrupt(&self, detail: &str) -> JournalError {
        JournalError::Corrupt {
            place: format!("{} byte {}", self.path().display(), self.place.position),
            detail: format!("{detail} (group {})", self.place.group),
        }
    }
}

fn first_place(header: SegmentHeader) -> Place {
    let position = SegmentHeader::bytes(header.next.len() as u16) as u64;
    Place {
        segment: header.segment,
        position,
        group: header.first_group,
        next: header.next.into_boxed_slice(),
    }
}

/// The last segment up to `last` that starts at or before each of `from`: where a reader starts.
pub(super) fn segment_before(
    folder: &Folder,
    last: u64,
    from: &[(Partition, Offset)],
) -> Result<u64, JournalError> {
    // Invariant: segment `low` starts early enough; the first one starts at 0.
    let (mut low, mut behind) = (1, last + 1);
    while low + 1 < behind {
        let middle = low + (behind - low) / 2;
        let scan = Scan::at_segment(folder, middle)?;
        if starts_before(&scan.place.next, from) {
            low = middle;
        } else {
            behind = middle;
        }
    }
    Ok(low)
}

/// Whether a place with these next offsets lies at or before each of `from`.
pub(super) fn starts_before(next: &[u64], from: &[(Partition, Offset)]) -> bool {
    from.iter().all(|(partition, offset)| next[usize::from(partition.0)] <= offset.0)
}
