//! A sorted list whose entries lie packed in one buffer: lists are most of what a resident user takes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Range;

use super::id::UserId;
use super::roll::Entry;

/// Entries of a run at most.
const RUN_MAX: u32 = 32;
/// What most entries pack to at most, without the name.
const REST_BYTES: usize = 32;

/// An entry that can lie packed.
pub trait Packed: Entry {
    /// The entry, read where it lies.
    type View<'a>;

    /// Writes everything but the peer's name. Equal entries are written alike.
    fn pack(&self, out: &mut Vec<u8>);

    /// Reads what [`Packed::pack`] wrote.
    fn view(peer: UserId, packed: Unpack<'_>) -> Self::View<'_>;
}

/// Entries by peer, one each, one behind the other in the order of their names.
///
/// Adding or removing an entry moves the entries behind it: a few kilobytes for a thousand entries. A
/// long list is kept in runs, and a binary search finds the right one; a short list is a single run.
pub struct PackedRoll<T> {
    /// Of each entry: the length of the name, the length of the rest, the name, the rest.
    bytes: Vec<u8>,
    #[expect(clippy::box_collection, reason = "a pointer is less than an empty list")]
    runs: Option<Box<Vec<Run>>>,
    len: u32,
    of: PhantomData<fn() -> T>,
}

/// Some entries one behind the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where the first one begins.
    start: u32,
    count: u32,
}

/// One entry, where it lies.
struct Lying<'a> {
    name: &'a [u8],
    rest: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

impl<'a> Lying<'a> {
    fn at(bytes: &'a [u8], start: usize) -> Self {
        let mut read = Unpack(&bytes[start + 1..]);
        let rest = read.number() as usize;
        let name_start = bytes.len() - read.0.len();
        let name_end = name_start + usize::from(bytes[start]);
        let end = name_end + rest;
        Self { name: &bytes[name_start..name_end], rest: &bytes[name_end..end], end }
    }
}

/// Where an entry lies, or would.
struct Place {
    run: usize,
    start: usize,
    /// Where it ends, if it is there.
    end: Option<usize>,
}

impl<T> PackedRoll<T> {
    fn runs(&self) -> &[Run] {
        self.runs.as_deref().map_or(&[], Vec::as_slice)
    }

    fn run(&self, index: usize) -> Run {
        self.runs().get(index).copied().unwrap_or(Run { start: 0, count: self.len })
    }

    fn find(&self, peer: &UserId) -> Place {
        let name = peer.as_bytes();
        let is_behind = |run: &Run| Lying::at(&self.bytes, run.start as usize).name <= name;
        let run = self.runs().partition_point(is_behind).saturating_sub(1);
        let Run { start, count } = self.run(run);
        let mut start = start as usize;
        for _ in 0..count {
            let entry = Lying::at(&self.bytes, start);
            match entry.name.cmp(name) {
                Ordering::Less => start = entry.end,
                Ordering::Equal => return Place { run, start, end: Some(entry.end) },
                Ordering::Greater => break,
            }
        }
        Place { run, start, end: None }
    }

    fn lying(&self) -> impl Iterator<Item = (usize, Lying<'_>)> {
        self.lying_from(0)
    }

    fn lying_from(&self, mut start: usize) -> impl Iterator<Item = (usize, Lying<'_>)> {
        std::iter::from_fn(move || {
            (start < self.bytes.len()).then(|| {
                let entry = Lying::at(&self.bytes, start);
                (std::mem::replace(&mut start, entry.end), entry)
            })
        })
    }

    /// Whether there is an entry about `peer`.
    pub fn contains(&self, peer: &UserId) -> bool {
        self.find(peer).end.is_some()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The peers, by name.
    pub fn peers(&self) -> impl Iterator<Item = UserId> {
        self.lying().map(|(_, entry)| UserId::of_valid(entry.name))
    }

    /// Takes the entry about `peer` out; answers whether there was one.
    pub fn remove(&mut self, peer: &UserId) -> bool {
        let Place { run, start, end: Some(end) } = self.find(peer) else { return false };
        self.bytes.drain(start..end);
        self.len -= 1;
        if let Some(runs) = &mut self.runs {
            runs[run].count -= 1;
            runs[run + 1..].iter_mut().for_each(|run| run.start -= (end - start) as u32);
            if runs[run].count == 0 {
                runs.remove(run);
            }
            if runs.is_empty() {
                self.runs = None;
            }
        }
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        true
    }

    /// Notes that an entry of `bytes` came into a run; one that is too long becomes two.
    fn note_entry(&mut self, run: usize, bytes: usize) {
        self.len += 1;
        if self.runs.is_none() && self.len > RUN_MAX {
            self.runs = Some(Box::new(vec![Run { start: 0, count: self.len - 1 }]));
        }
        let Some(runs) = &mut self.runs else { return };
        runs[run].count += 1;
        runs[run + 1..].iter_mut().for_each(|run| run.start += bytes as u32);
        let Run { start, count } = runs[run];
        if count > RUN_MAX {
            let half = count / 2;
            let end = |start, _| Lying::at(&self.bytes, start).end;
            let middle = (0..half).fold(start as usize, end) as u32;
            runs[run].count = half;
            runs.insert(run + 1, Run { start: middle, count: count - half });
        }
    }

    /// The bytes that the entries take on the heap.
    pub fn heap_bytes(&self) -> usize {
        let runs = |runs: &Vec<Run>| size_of::<Vec<Run>>() + runs.capacity() * size_of::<Run>();
        self.bytes.capacity() + self.runs.as_deref().map_or(0, runs)
    }
}

impl<T: Packed> PackedRoll<T> {
    fn view(entry: Lying<'_>) -> T::View<'_> {
        T::view(UserId::of_valid(entry.name), Unpack(entry.rest))
    }

    /// The entry about `peer`.
    pub fn get(&self, peer: &UserId) -> Option<T::View<'_>> {
        let Place { start, end: Some(_), .. } = self.find(peer) else { return None };
        Some(self.at(start))
    }

    /// The entry that lies at `start`, as [`PackedRoll::placed`] said and the list was not changed since.
    pub fn at(&self, start: usize) -> T::View<'_> {
        Self::view(Lying::at(&self.bytes, start))
    }

    /// All entries, by peer, each with where it lies.
    pub fn placed(&self) -> impl Iterator<Item = (usize, T::View<'_>)> {
        self.lying().map(|(start, entry)| (start, Self::view(entry)))
    }

    /// All entries, by peer.
    pub fn iter(&self) -> impl Iterator<Item = T::View<'_>> {
        self.placed().map(|(_, view)| view)
    }

    /// The entries from the one with this number on, by peer, at most `max`.
    pub fn page(&self, first: usize, max: usize) -> impl Iterator<Item = T::View<'_>> {
        let (mut start, mut skip) = (0, first);
        for run in self.runs() {
            start = run.start as usize;
            if skip < run.count as usize {
                break;
            }
            skip -= run.count as usize;
        }
        let entries = self.lying_from(start).skip(if first < self.len() { skip } else { first });
        entries.take(max).map(|(_, entry)| Self::view(entry))
    }

    /// Puts `entry` in, in place of one about the same peer.
    pub fn put(&mut self, entry: &T) {
        let place = self.find(entry.peer());
        let packed = packed(entry);
        if let Some(end) = place.end {
            return self.replace(place.run, place.start..end, packed);
        }
        let (start, end) = (place.start, self.bytes.len());
        make_room(&mut self.bytes, packed.len());
        self.bytes.resize(end + packed.len(), 0);
        self.bytes.copy_within(start..end, start + packed.len());
        self.bytes[start..start + packed.len()].copy_from_slice(&packed);
        self.note_entry(place.run, packed.len());
    }
}

impl<T> PackedRoll<T> {
    /// Lays `packed` where an entry of the run `run` lies: what is behind it is moved once, or not at all.
    fn replace(&mut self, run: usize, old: Range<usize>, packed: Vec<u8>) {
        let (before, now) = (old.len() as u32, packed.len() as u32);
        make_room(&mut self.bytes, packed.len().saturating_sub(old.len()));
        self.bytes.splice(old, packed);
        let behind = self.runs.iter_mut().flat_map(|runs| &mut runs[run + 1..]);
        behind.for_each(|run| run.start = run.start - before + now);
    }
}

/// The entry as it lies in the list.
fn packed<T: Packed>(entry: &T) -> Vec<u8> {
    let name = entry.peer().as_bytes();
    let mut packed = Vec::with_capacity(2 + name.len() + REST_BYTES);
    packed.extend_from_slice(&[name.len() as u8, 0]);
    packed.extend_from_slice(name);
    entry.pack(&mut packed);
    let rest = packed.len() - name.len() - 2;
    if rest <= 0x7f {
        packed[1] = rest as u8;
    } else {
        let mut number = Vec::new();
        pack_number(&mut number, rest as u64);
        packed.splice(1..2, number);
    }
    packed
}

/// Makes room for `more`, and for a quarter of what there is: a list that grows is seldom moved, and
/// little of it is spare.
fn make_room(list: &mut Vec<u8>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 4));
    }
}

impl<T: Packed> FromIterator<T> for PackedRoll<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut roll = Self::default();
        entries.into_iter().for_each(|entry| roll.put(&entry));
        roll.bytes.shrink_to_fit();
        roll
    }
}

impl<T> Default for PackedRoll<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), runs: None, len: 0, of: PhantomData }
    }
}

impl<T> Clone for PackedRoll<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), runs: self.runs.clone(), ..*self }
    }
}

// Equal entries are packed alike; how they are parted into runs is no matter.
impl<T> PartialEq for PackedRoll<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for PackedRoll<T> {}

impl<T> Hash for PackedRoll<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<T: Packed> fmt::Debug for PackedRoll<T>
where
    for<'a> T::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Packs a number: seven bits in each byte, the lowest first.
pub(super) fn pack_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Packs a text: its length, then its bytes.
pub(super) fn pack_text(out: &mut Vec<u8>, text: &str) {
    pack_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is left to be read of something packed. Only what was packed here is ever read, as it was
/// packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpack<'a>(&'a [u8]);

impl<'a> Unpack<'a> {
    pub(super) const NOTHING: Self = Self(&[]);

    #[cfg(test)]
    pub(super) fn of(packed: &'a [u8]) -> Self {
        Self(packed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub(super) fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte <= 0x7f {
                return number;
            }
        }
    }

    /// A number that was packed as its four bytes, the lowest first.
    pub(super) fn fixed(&mut self) -> u32 {
        let bytes = self.bytes(4).try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    }

    pub(super) fn text(&mut self) -> &'a str {
        let len = self.number() as usize;
        std::str::from_utf8(self.bytes(len)).expect("a text was packed")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::Block;

    fn id(number: u16) -> UserId {
        UserId::parse(&format!("user{number}")).unwrap()
    }

    fn block(number: u16, place: u32) -> Block {
        Block { peer: id(number), place, at: !place }
    }

    fn filled(count: u16) -> PackedRoll<Block> {
        (0..count).map(|number| block(number, u32::from(number))).collect()
    }

    proptest! {
        /// Whatever comes and goes, the list holds what a map would, in its order, and little more.
        #[test]
        fn a_packed_roll_is_a_sorted_map(
            changes in prop::collection::vec((0..400_u16, prop::option::of(any::<u32>())), 0..900),
        ) {
            let (mut roll, mut map) = (PackedRoll::default(), BTreeMap::new());
            for (number, place) in changes {
                match place {
                    Some(place) => {
                        let place = place >> (place % 32);
                        roll.put(&block(number, place));
                        map.insert(id(number), block(number, place));
                    }
                    None => {
                        prop_assert_eq!(roll.remove(&id(number)), map.remove(&id(number)).is_some());
                    }
                }
                prop_assert_eq!(roll.get(&id(number)), map.get(&id(number)).copied());
            }
            prop_assert_eq!(roll.len(), map.len());
            prop_assert!(roll.iter().eq(map.values().copied()));
            prop_assert!(roll.peers().eq(map.keys().copied()));
            let tidy: PackedRoll<Block> = map.values().copied().collect();
            prop_assert!(roll == tidy);
            prop_assert!(roll.page(0, map.len()).eq(map.values().copied()));
            let start = map.len() / 3;
            prop_assert!(roll.page(start, 50).eq(map.values().copied().skip(start).take(50)));
            prop_assert!(roll.heap_bytes() <= 3 * tidy.heap_bytes() + 64, "{}", roll.heap_bytes());
        }
    }

    #[test]
    fn a_page_is_a_part_of_the_list() {
        let roll = filled(9);
        let page = |start, max| roll.page(start, max).map(|block| block.place).collect::<Vec<_>>();
        assert_eq!(page(2, 3), [2, 3, 4]);
        assert_eq!(page(7, 3), [7, 8]);
        assert!(page(usize::MAX, usize::MAX).is_empty());
        assert!(roll.placed().all(|(start, block)| roll.at(start) == block));
    }

    #[test]
    fn an_empty_list_takes_nothing() {
        let mut roll = filled(300);
        (0..300).for_each(|number| assert!(roll.remove(&id(number))));
        assert_eq!((roll.heap_bytes(), roll.len()), (0, 0));
    }

    #[test]
    fn numbers_and_texts_are_read_as_they_were_packed() {
        let numbers = [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX];
        let text = "ö".repeat(100);
        let mut packed = Vec::new();
        numbers.iter().for_each(|number| pack_number(&mut packed, *number));
        pack_text(&mut packed, &text);
        let mut read = Unpack(&packed);
        assert_eq!(numbers.map(|_| read.number()), numbers);
        assert_eq!((read.text(), read.is_empty()), (&*text, true));
    }
}
