//! Bytes as a disk, a broker or a stranger may hand them over: what property tests of decoders feed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Words of JSON that may stand where they should not.
const JSON: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "7",
    "-1",
    "1.5",
    "1e400",
    "18446744073709551616",
    "\"x\"",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[",
    "{\"a\":",
    "\u{e4}",
];
/// The longest bytes that are made of nothing.
const NOISE_BYTES_MAX: usize = 200;
/// Changes to one example at most.
const CHANGES_MAX: usize = 6;

/// One change to some bytes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Insert(Index, Vec<u8>),
    Replace(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

/// A few changes; they put in words of JSON and `words`.
pub(crate) fn changes(words: &[&'static str]) -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let words = [JSON, words].concat();
    let word = select(words).prop_map(|word| word.as_bytes().to_vec());
    // The largest lengths that there are, as postcard writes them and as they are.
    let length = select(vec![
        vec![0xff_u8, 0xff, 0xff, 0xff, 0x0f],
        vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0xff; 4],
        vec![0xff; 8],
    ]);
    let put = prop_oneof![4 => word, 1 => length, 1 => vec(any::<u8>(), 1..9)];
    let change = prop_oneof![
        4 => (at(), put).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        4 => (at(), 1..30_usize).prop_map(|(at, bytes)| Change::Remove(at, bytes)),
        4 => (at(), 1..60_usize, 1..40_usize)
            .prop_map(|(at, bytes, times)| Change::Repeat(at, bytes, times)),
        1 => at().prop_map(Change::Cut),
    ];
    vec(change, 0..CHANGES_MAX)
}

/// Makes the changes, one after the other.
pub(crate) fn apply(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        let (Change::Insert(at, _)
        | Change::Replace(at, _)
        | Change::Remove(at, _)
        | Change::Repeat(at, ..)
        | Change::Cut(at)) = change;
        let at = at.index(bytes.len() + 1);
        let until = |count: usize| (at + count).min(bytes.len());
        match change {
            Change::Insert(_, put) => drop(bytes.splice(at..at, put.iter().copied())),
            Change::Replace(_, byte) => drop(bytes.splice(at..until(1), [*byte])),
            Change::Remove(_, count) => drop(bytes.drain(at..until(*count))),
            Change::Repeat(_, count, times) => {
                let again = bytes[at..until(*count)].repeat(*times);
                bytes.splice(at..at, again);
            }
            Change::Cut(_) => bytes.truncate(at),
        }
    }
}

/// One of `examples`, as it is or changed at some places, cut or lengthened; or any bytes.
pub(crate) fn damaged(examples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed = (select(examples), changes(&[])).prop_map(|(mut bytes, changes)| {
        apply(&mut bytes, &changes);
        bytes
    });
    prop_oneof![9 => changed, 1 => vec(any::<u8>(), 0..NOISE_BYTES_MAX)]
}
