//! The place where a look goes on, as a text that only this server reads. It names a place in each
//! partition together with what the reader rule knows there, so that any node goes on with it, also
//! after a restart.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::{READ_BYTES_MAX, Standpoint};
use crate::audit::AuditError;
use crate::domain::Timestamp;
use crate::journal::record::decode;
use crate::journal::{Body, Epoch, Offset, Partition, Place, ReadJournal, Record};
use crate::webhooks::digest::DeliveryId;

/// The first byte of every text.
const LAYOUT: u8 = 1;
/// How far before a delivery's record to look for a place with a known epoch and number, nearest first.
const LOOKS_BACK: [u64; 3] = [256, 4_096, 32_768];
/// Bytes of the sum at the end of a text.
const SUM_BYTES: usize = 8;

/// Where a look goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    /// A place in each partition, and how many deliveries of the record there were answered already.
    pub(super) places: Vec<(Place, u32)>,
    /// Records before this are passed over.
    pub(super) since: Option<Timestamp>,
    /// No other partition is looked at. Not part of the text.
    pub(super) only: Option<Partition>,
}

/// A text is no place, or one of another journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor of this journal")]
pub struct ScanCursorError;

impl ScanCursor {
    /// The beginning of all `partitions`, or their first records at `since` or later.
    pub fn beginning(partitions: u16, since: Option<Timestamp>) -> Self {
        Self { places: vec![(Place::default(), 0); usize::from(partitions)], since, only: None }
    }

    /// These places, one in each partition.
    pub fn at(places: impl IntoIterator<Item = Place>) -> Self {
        Self {
            places: places.into_iter().map(|place| (place, 0)).collect(),
            since: None,
            only: None,
        }
    }

    /// In front of the record that one delivery tells of, if it is a record, or as little before it as is
    /// needed to know whether it counts.
    ///
    /// Errors: the journal cannot be read.
    pub fn in_front_of(
        journal: &dyn ReadJournal,
        id: DeliveryId,
        standpoints: &[Standpoint],
    ) -> Result<Option<Self>, AuditError> {
        let DeliveryId { partition, offset, .. } = id;
        if partition.0 >= journal.partitions() || offset >= journal.end(partition)? {
            return Ok(None);
        }
        let here = standpoints.iter().filter(|one| one.partition == partition);
        let mut known: Vec<Place> = here.map(|one| one.cursor.place).collect();
        let mut place = None;
        for back in LOOKS_BACK {
            let from = Offset(offset.0.saturating_sub(back));
            known.extend((from == Offset(0)).then(Place::default));
            let mut itself = None;
            visit(journal, (partition, from), offset, &mut |at, record| match record.body {
                Body::Cursor { cursor, .. } if !cursor.ended => known.push(cursor.place),
                _ if at == offset => itself = Some((record.epoch, record.n)),
                _ => {}
            })?;
            let Some((epoch, n)) = itself else { return Ok(None) };
            let Some(n) = n.checked_sub(1) else { return Ok(None) };
            let near = known.iter().filter(|place| (from..=offset).contains(&place.next));
            if let Some(near) = near.max_by_key(|place| place.next) {
                place = Some(*near);
                break;
            }
            // Nothing near it says what counts there; taken by itself, it does.
            place = Some(Place { next: offset, epoch, n });
        }
        let mut cursor = Self::beginning(journal.partitions(), None);
        cursor.places[usize::from(partition.0)].0 = place.unwrap_or_default();
        cursor.only = Some(partition);
        Ok(Some(cursor))
    }

    /// As a text.
    pub fn encode(&self) -> String {
        let mut bytes = vec![LAYOUT];
        number(&mut bytes, self.since.map_or(0, |since| since.0.unsigned_abs() + 1));
        for (Place { next, epoch, n }, answered) in &self.places {
            for value in [next.0, epoch.0, *n, u64::from(*answered)] {
                number(&mut bytes, value);
            }
        }
        bytes.extend(xxh3_64(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text of a cursor of a journal with that many partitions.
    ///
    /// Errors: it is not the text of such a cursor.
    pub fn decode(text: &str, partitions: u16) -> Result<Self, ScanCursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ScanCursorError)?;
        let (bytes, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(ScanCursorError)?;
        if *sum != xxh3_64(bytes).to_be_bytes() {
            return Err(ScanCursorError);
        }
        let mut rest = bytes.strip_prefix(&[LAYOUT]).ok_or(ScanCursorError)?;
        let since = take_number(&mut rest)?.checked_sub(1);
        let since = since.map(i64::try_from).transpose().map_err(|_| ScanCursorError)?;
        let mut places = Vec::with_capacity(usize::from(partitions));
        for _ in 0..partitions {
            let next = Offset(take_number(&mut rest)?);
            let epoch = Epoch(take_number(&mut rest)?);
            let n = take_number(&mut rest)?;
            let answered = take_number(&mut rest)?.try_into().map_err(|_| ScanCursorError)?;
            places.push((Place { next, epoch, n }, answered));
        }
        if !rest.is_empty() {
            return Err(ScanCursorError);
        }
        Ok(Self { places, since: since.map(Timestamp), only: None })
    }
}

/// Shows `see` each readable record of a partition, `to` included.
fn visit(
    journal: &dyn ReadJournal,
    from: (Partition, Offset),
    to: Offset,
    see: &mut dyn FnMut(Offset, Record),
) -> Result<(), AuditError> {
    let mut reader = journal.reader(&[from])?;
    loop {
        let entries = reader.next(READ_BYTES_MAX)?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            if entry.offset > to {
                return Ok(());
            }
            if let Ok(record) = decode(&entry.bytes) {
                see(entry.offset, record);
            }
        }
    }
}

/// Seven bits a byte, lowest first.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, ScanCursorError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ScanCursorError)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ScanCursorError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        let place = |next, n| Place { next: Offset(next), epoch: Epoch(3), n };
        let mut cursor = ScanCursor::at([place(0, 0), place(u64::MAX, u64::MAX), place(300, 7)]);
        cursor.places[1].1 = 5;
        for since in [None, Some(Timestamp(0)), Some(Timestamp(1_700_000_000_000))] {
            cursor.since = since;
            assert_eq!(ScanCursor::decode(&cursor.encode(), 3), Ok(cursor.clone()));
        }
        let text = cursor.encode();
        assert_eq!(ScanCursor::decode(&text, 2), Err(ScanCursorError));
        assert_eq!(ScanCursor::decode(&text, 4), Err(ScanCursorError));
        for place in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("letters");
            assert_eq!(ScanCursor::decode(&other, 3), Err(ScanCursorError), "{other}");
        }
        for text in ["", "A", "*", &"A".repeat(5000)] {
            assert_eq!(ScanCursor::decode(text, 1), Err(ScanCursorError));
        }
    }
}
