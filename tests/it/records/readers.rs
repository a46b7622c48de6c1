//! What is written is read back the same, by both readers.

use cordon::journal::{Record, record};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::any_record::any_record;
use super::encoded;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_back_the_same(record in any_record()) {
        let mut bytes = b"before".to_vec();
        record::encode(record.epoch, record.n, &record.body, &mut bytes);
        prop_assert_eq!(record::decode(&bytes[6..]).expect("a record"), record);
    }
}

/// The JSON of `value`, with the members of each object turned by so many places.
fn turned(value: &Value, by: usize) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => {
            format!("[{}]", list(items.iter().map(|item| turned(item, by)).collect()))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), turned(value, by))
            };
            let mut members: Vec<String> = members.iter().map(member).collect();
            let by = by % members.len().max(1);
            members.rotate_left(by);
            format!("{{{}}}", list(members))
        }
        other => other.to_string(),
    }
}

/// What bytes say, if they are a record; and the same of them with a space in front, which no record
/// has that this program wrote.
fn read_twice(bytes: &[u8]) -> [Option<Record>; 2] {
    [bytes.to_vec(), [b" ", bytes].concat()].map(|bytes| record::decode(&bytes).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// There is one reader for what this program writes and one for all JSON.
    #[test]
    fn a_record_says_the_same_however_it_is_written(record in any_record(), by in 0..30_usize) {
        let text = turned(&encoded(&record), by);
        prop_assert_eq!(record::decode(text.as_bytes()).expect("a record"), record);
    }

    #[test]
    fn a_record_that_was_changed_is_the_same_to_both_readers(
        record in any_record(),
        (at, from, to) in any::<(Index, Index, Index)>(),
        change in 0..4_usize,
        byte in prop_oneof![any::<u8>(), select(br#"0123456789"\{}[],:-+.eZ tfn"#.to_vec())],
    ) {
        let mut bytes = Vec::new();
        record::encode(record.epoch, record.n, &record.body, &mut bytes);
        // Between members, so that what is copied or lost is often a whole one.
        let places: Vec<usize> = (0..bytes.len()).filter(|at| b",{[]}".contains(&bytes[*at])).collect();
        let (from, to) = (*from.get(&places), *to.get(&places));
        let part = bytes[from.min(to)..from.max(to)].to_vec();
        match change {
            0 => *at.get_mut(&mut bytes) = byte,
            1 => bytes.insert(at.index(bytes.len()), byte),
            2 => drop(bytes.drain(from.min(to)..from.max(to))),
            _ => drop(bytes.splice(from..from, part)),
        }
        let [one, other] = read_twice(&bytes);
        prop_assert_eq!(&one, &other, "{}", String::from_utf8_lossy(&bytes));
        if let Some(record) = one {
            let mut again = Vec::new();
            record::encode(record.epoch, record.n, &record.body, &mut again);
            prop_assert_eq!(record::decode(&again).ok(), Some(record));
        }
    }
}
