//! Which partition a user belongs to: Kafka's default partitioner, computed here.

use super::Partition;
use crate::domain::UserKey;

/// The partition of `key` among `partitions`, as Kafka's Java client would choose it for the record
/// key `<sdkappid>/<user_id>`: murmur2 of the key, sign bit cleared, modulo. Rule: design.md 3.
pub fn partition_of(key: &UserKey, partitions: u16) -> Partition {
    use std::io::Write;
    // 10 digits, a slash and 32 bytes of name.
    let mut text = [0_u8; 43];
    let mut rest = &mut text[..];
    write!(rest, "{}/", key.app).expect("a u32 has at most ten digits");
    let unused = rest.len();
    let name = key.user.as_bytes();
    let start = text.len() - unused;
    text[start..start + name.len()].copy_from_slice(name);
    let hash = murmur2(&text[..start + name.len()]) & 0x7fff_ffff;
    Partition((hash % u32::from(partitions)) as u16)
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash: u32 = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (index, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    // The values of Apache Kafka's own UtilsTest.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (text, hash) in cases {
            assert_eq!(murmur2(text) as i32, hash);
        }
    }
}
