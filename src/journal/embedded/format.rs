//! The bytes of a segment file; pure. All numbers are little endian.
//!
//! ```text
//! segment = header group* zero*
//! header  = magic[8] format:u32 partitions:u16 0:u16 segment:u64 first_group:u64
//!           (next_offset:u64)[partitions] crc32c:u32 of all before it
//! group   = magic[4] payload_bytes:u32 number:u64 crc32c:u32 of (payload_bytes number payload) payload
//! payload = (partition:u16 bytes:u32 record[bytes])*
//! ```
//!
//! Offsets are not stored with the records: the header says where each partition stands at the start
//! of the segment, and every record is one further.

use crate::journal::Partition;

/// The version of this layout.
pub(super) const FORMAT: u32 = 1;

/// The bytes of a group before its payload.
pub(super) const GROUP_HEADER_BYTES: usize = 20;

/// The bytes of a record's frame before the record.
pub(super) const RECORD_HEADER_BYTES: usize = 6;

const SEGMENT_MAGIC: [u8; 8] = *b"\xffCORDON\n";

/// What a group starts with. Its first byte never occurs in UTF-8, so no JSON record holds one.
pub(super) const GROUP_MAGIC: [u8; 4] = [0xff, b'g', b'r', 0xfe];

const SEGMENT_FIXED_BYTES: usize = 32;

/// What stands at the start of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The segment's number, from 1.
    pub(super) segment: u64,
    /// The number of its first group.
    pub(super) first_group: u64,
    /// The next offset of every partition, by partition.
    pub(super) next: Vec<u64>,
}

impl SegmentHeader {
    /// How many bytes a header takes.
    pub(super) fn bytes(partitions: u16) -> usize {
        SEGMENT_FIXED_BYTES + 8 * usize::from(partitions) + 4
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let partitions = self.next.len() as u16;
        let mut bytes = Vec::with_capacity(Self::bytes(partitions));
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&partitions.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.first_group.to_le_bytes());
        for next in &self.next {
            bytes.extend_from_slice(&next.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header of segment `segment`. Errors: what is wrong with it.
    pub(super) fn decode(bytes: &[u8], segment: u64, partitions: u16) -> Result<Self, String> {
        if bytes.len() < Self::bytes(partitions) {
            return Err("the file is shorter than a segment's header".to_owned());
        }
        let (covered, rest) = bytes.split_at(Self::bytes(partitions) - 4);
        if !covered.starts_with(&SEGMENT_MAGIC) {
            return Err("the file does not start like a segment".to_owned());
        }
        if crc32c::crc32c(covered) != u32_at(rest, 0) {
            return Err("the segment's header has a wrong checksum".to_owned());
        }
        let (format, found, number) =
            (u32_at(covered, 8), u16_at(covered, 12), u64_at(covered, 16));
        if (format, found, number) != (FORMAT, partitions, segment) {
            return Err(format!(
                "the header says format {format}, {found} partitions, segment {number}; \
                 expected {FORMAT}, {partitions}, {segment}"
            ));
        }
        let (next, _) = covered[SEGMENT_FIXED_BYTES..].as_chunks::<8>();
        Ok(Self {
            segment,
            first_group: u64_at(covered, 24),
            next: next.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
        })
    }
}

/// What stands at the start of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// The bytes of the payload.
    pub(super) payload_bytes: u32,
    /// Rises by one from group to group, over all segments, from 1.
    pub(super) number: u64,
    checksum: u32,
}

impl GroupHeader {
    /// Reads the start of a group; none if no group starts here.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES || !bytes.starts_with(&GROUP_MAGIC) {
            return None;
        }
        Some(Self {
            payload_bytes: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            checksum: u32_at(bytes, 16),
        })
    }

    /// The bytes of the whole group.
    pub(super) fn group_bytes(self) -> usize {
        GROUP_HEADER_BYTES + self.payload_bytes as usize
    }

    /// Whether `group`, header and payload, is what was written.
    pub(super) fn is_intact(self, group: &[u8]) -> bool {
        group.len() == self.group_bytes() && checksum(group) == self.checksum
    }
}

/// Makes a group of `frame`: room for the header, then the payload.
pub(super) fn seal_group(frame: &mut [u8], number: u64) {
    let payload_bytes = (frame.len() - GROUP_HEADER_BYTES) as u32;
    frame[..4].copy_from_slice(&GROUP_MAGIC);
    frame[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    let checksum = checksum(frame);
    frame[16..20].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(group: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&group[4..16]), &group[GROUP_HEADER_BYTES..])
}

/// Puts a record behind what `payload` holds.
pub(super) fn push_record(payload: &mut Vec<u8>, partition: Partition, record: &[u8]) {
    payload.extend_from_slice(&partition.0.to_le_bytes());
    payload.extend_from_slice(&(record.len() as u32).to_le_bytes());
    payload.extend_from_slice(record);
}

/// The partition and length of the record that starts `payload`; none if no whole record does.
pub(super) fn first_record(payload: &[u8]) -> Option<(Partition, usize)> {
    if payload.len() < RECORD_HEADER_BYTES {
        return None;
    }
    let bytes = u32_at(payload, 2) as usize;
    (bytes <= payload.len() - RECORD_HEADER_BYTES).then(|| (Partition(u16_at(payload, 0)), bytes))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_found() {
        let header = SegmentHeader { segment: 7, first_group: 99, next: vec![3, 0, u64::MAX] };
        let bytes = header.encode();
        assert_eq!(bytes.len(), SegmentHeader::bytes(3));
        assert_eq!(SegmentHeader::decode(&bytes, 7, 3), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged, 7, 3).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_group_is_found() {
        let mut group = vec![0; GROUP_HEADER_BYTES];
        push_record(&mut group, Partition(5), b"{\"v\":1}");
        seal_group(&mut group, 12);
        let intact = |group: &[u8]| {
            GroupHeader::decode(group)
                .is_some_and(|header| header.number == 12 && header.is_intact(group))
        };
        assert!(intact(&group));
        assert_eq!(first_record(&group[GROUP_HEADER_BYTES..]), Some((Partition(5), 7)));
        for bit in 0..group.len() * 8 {
            let mut damaged = group.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!intact(&damaged), "bit {bit}");
        }
    }
}
