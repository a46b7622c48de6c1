//! Rows on their way to a checkpoint, each once.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::rows::RowChanges;

/// The least room that a value gets, in bytes: a little more than most need.
const ROOM_BYTES_MIN: usize = 32;

/// Rows with the values they had last, or none: a row that changes often lies here once. All of them
/// lie in one piece of memory.
#[derive(Debug, Default)]
pub struct RowSet {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    places: HashTable<u32>,
    hasher: RandomState,
}

/// Where a row lies in the bytes: its key, its value, and some room for a longer one.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    key_bytes: u32,
    value_bytes: u32,
    room: u32,
    gone: bool,
}

impl Row {
    fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..][..self.key_bytes as usize]
    }

    fn value(self, bytes: &[u8]) -> Option<&[u8]> {
        let value = &bytes[self.start + self.key_bytes as usize..][..self.value_bytes as usize];
        (!self.gone).then_some(value)
    }
}

impl RowSet {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Key and last value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|row| (row.key(&self.bytes), row.value(&self.bytes)))
    }

    /// Gives the row `key` a value, or none.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
        let is_it = |place: &u32| self.rows[*place as usize].key(&self.bytes) == key;
        let known = self.places.find(hash, is_it).map(|place| *place as usize);
        let (gone, value) = (value.is_none(), value.unwrap_or_default());
        match known {
            Some(place) if value.len() <= self.rows[place].room as usize => {
                let row = &mut self.rows[place];
                (row.gone, row.value_bytes) = (gone, value.len() as u32);
                let start = row.start + key.len();
                self.bytes[start..start + value.len()].copy_from_slice(value);
            }
            Some(place) => self.rows[place] = self.lay(key, value, gone),
            None => {
                let row = self.lay(key, value, gone);
                let Self { bytes, rows, places, hasher } = self;
                rows.push(row);
                let hash_of = |place: &u32| hasher.hash_one(rows[*place as usize].key(bytes));
                places.insert_unique(hash, (rows.len() - 1) as u32, hash_of);
            }
        }
    }

    /// Lays a row behind all others, with room for twice as much the next time: so that what is left
    /// behind is never more than what is in use.
    fn lay(&mut self, key: &[u8], value: &[u8], gone: bool) -> Row {
        let room = value.len().next_power_of_two().max(ROOM_BYTES_MIN);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.bytes.resize(start + key.len() + room, 0);
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        Row { start, key_bytes, value_bytes, room: room as u32, gone }
    }

    /// Puts the rows of `older` there that are not here.
    pub fn put_below(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        newer.iter().for_each(|(key, value)| self.put(key, value));
    }
}

impl From<&RowChanges> for RowSet {
    fn from(changes: &RowChanges) -> Self {
        let mut rows = Self::default();
        changes.iter().for_each(|(key, value)| rows.put(key, value));
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Change = (u8, Option<Vec<u8>>);

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        proptest::collection::vec((0u8..20, value), 0..100)
    }

    fn put_all(rows: &mut RowSet, changes: &[Change]) {
        changes.iter().for_each(|(key, value)| rows.put(&key_of(*key), value.as_deref()));
    }

    fn key_of(number: u8) -> Vec<u8> {
        vec![number; usize::from(number) + 1]
    }

    fn last<'a>(
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        changes.into_iter().map(|(key, value)| (key_of(*key), value.clone())).collect()
    }

    fn told(rows: &RowSet) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let told: Vec<_> = rows.iter().collect();
        assert_eq!(told.len(), rows.len());
        let told = told.into_iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        let map: BTreeMap<_, _> = told.collect();
        assert_eq!(map.len(), rows.len(), "a row is told twice");
        map
    }

    proptest! {
        #[test]
        fn each_row_is_there_once_with_its_last_value(changes in changes()) {
            let mut rows = RowSet::default();
            put_all(&mut rows, &changes);
            prop_assert_eq!(told(&rows), last(&changes));
        }

        #[test]
        fn older_rows_yield_to_newer_ones(older in changes(), newer in changes()) {
            let (mut below, mut rows) = (RowSet::default(), RowSet::default());
            put_all(&mut below, &older);
            put_all(&mut rows, &newer);
            rows.put_below(below);
            prop_assert_eq!(told(&rows), last(older.iter().chain(&newer)));
        }
    }

    #[test]
    fn a_row_that_comes_and_goes_takes_no_more_memory() {
        let mut rows = RowSet::default();
        rows.put(b"key", Some(b"value"));
        let bytes = rows.bytes.len();
        for _ in 0..1000 {
            rows.put(b"key", None);
            rows.put(b"key", Some(b"another value"));
        }
        assert_eq!((rows.len(), rows.bytes.len()), (1, bytes));
    }
}
