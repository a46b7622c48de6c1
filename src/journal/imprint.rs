//! What is remembered of a record, so that a journal that is not the same any more is found out.

use serde::{Deserialize, Serialize};

use super::{Entry, Offset};

/// A record's place and the CRC-32C of its bytes. A record that is durable stays: if another one stands at
/// its place, the journal was cut off there and has grown again, or it is another journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imprint {
    /// Its place.
    pub offset: Offset,
    /// The CRC-32C of its bytes.
    pub check: u32,
}

impl Imprint {
    /// That of the record at `offset`.
    pub fn of(offset: Offset, record: &[u8]) -> Self {
        Self { offset, check: crc32c::crc32c(record) }
    }

    /// Whether `entry` is at its place, and is another record.
    pub fn contradicts(&self, entry: &Entry) -> bool {
        entry.offset == self.offset && Self::of(entry.offset, &entry.bytes) != *self
    }
}
