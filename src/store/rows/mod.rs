//! How a user lies in rows, and the hash that finds a lost one.
//!
//! One head row per user, one row per peer that anything is between. The hash of a partition is the
//! exclusive or of its rows' hashes, so it does not depend on order and changes with each row.

#[cfg(test)]
mod tests;

use std::fmt;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use super::row_set::RowSet;
use crate::domain::{AppId, Event, Head, Relation, User, UserId, UserKey};
use crate::journal::Partition;

/// Which form rows have. Rows of another form are not read, and hashes over them say nothing: state
/// is rebuilt from the journal.
pub const LAYOUT: u32 = 7;

/// The order-independent hash of a set of rows; written as the layout's number, a hyphen and 32 hex
/// digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowHash(pub u128);

impl RowHash {
    /// The hash of one row.
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        Self(row_hash(key, xxh3_128(value)))
    }

    /// Whether a hash that was written is over rows of this layout. Any other says nothing.
    pub fn is_comparable(written: &str) -> bool {
        written.split_once('-').is_some_and(|(layout, _)| *layout == LAYOUT.to_string())
    }

    /// Whether a hash that was written says something else about the same rows.
    pub fn differs_from(&self, written: &str) -> bool {
        Self::is_comparable(written) && *written != self.to_string()
    }

    /// Puts a row in, or takes it out again.
    pub fn toggle(&mut self, row: Self) {
        self.0 ^= row.0;
    }
}

impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT}-{:032x}", self.0)
    }
}

/// Rows that got a new value, or none any more, in the order of their changes. They lie in one piece
/// of memory: a row of its own for each would cost two allocations.
#[derive(Clone, Debug, Default)]
pub struct RowChanges {
    bytes: Vec<u8>,
    rows: Vec<Span>,
    /// The first row that is still here.
    first: usize,
}

/// Where a row lies in the bytes: behind the one before it, key and value.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    key_bytes: u32,
    gone: bool,
    end: usize,
}

impl RowChanges {
    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.rows.len() - self.first
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes of the first row begin.
    fn start(&self) -> usize {
        self.first.checked_sub(1).map_or(0, |last| self.rows[last].end)
    }

    /// Key and new value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut start = self.start();
        self.rows[self.first..].iter().map(move |span| {
            let row = &self.bytes[std::mem::replace(&mut start, span.end)..span.end];
            let (key, value) = row.split_at(span.key_bytes as usize);
            (key, (!span.gone).then_some(value))
        })
    }

    /// Adds one.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.close(key.len(), value.is_none());
    }

    /// Takes what was written behind the last row as a new one.
    fn close(&mut self, key_bytes: usize, gone: bool) {
        self.rows.push(Span { key_bytes: key_bytes as u32, gone, end: self.bytes.len() });
    }

    /// Takes all out, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.first = 0;
    }

    /// Takes the first `count` of them out, into `rows`.
    pub fn move_first(&mut self, count: usize, rows: &mut RowSet) {
        self.iter().take(count).for_each(|(key, value)| rows.put(key, value));
        self.first += count.min(self.len());
        if self.is_empty() {
            self.clear();
        } else if self.first > self.len() {
            // What is left is moved to the front, less often than it is taken from there.
            let start = self.start();
            self.bytes.drain(..start);
            self.rows.drain(..self.first);
            self.rows.iter_mut().for_each(|span| span.end -= start);
            self.first = 0;
        }
    }
}

/// The value goes in as its hash, so that taking a row out needs no copy of its value.
fn row_hash(key: &[u8], value: u128) -> u128 {
    xxh3_128_with_seed(key, value as u64) ^ value
}

const HEAD: u8 = 0;
const RELATION: u8 = 1;

/// The key prefix of all rows of a partition.
pub fn partition_prefix(partition: Partition) -> [u8; 2] {
    partition.0.to_be_bytes()
}

fn write_prefix(partition: Partition, key: &UserKey, out: &mut Vec<u8>) {
    let name = key.user.as_bytes();
    out.extend_from_slice(&partition.0.to_be_bytes());
    out.extend_from_slice(&key.app.0.to_be_bytes());
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

fn user_prefix(partition: Partition, key: &UserKey) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(2 + 4 + 1 + key.user.as_bytes().len() + 1 + 33);
    write_prefix(partition, key, &mut prefix);
    prefix
}

/// The key of the head row.
pub fn head_key(partition: Partition, key: &UserKey) -> Vec<u8> {
    let mut row = user_prefix(partition, key);
    row.push(HEAD);
    row
}

/// The key of the row about `peer`.
pub fn relation_key(partition: Partition, key: &UserKey, peer: &UserId) -> Vec<u8> {
    let mut row = user_prefix(partition, key);
    row.push(RELATION);
    row.extend_from_slice(peer.as_bytes());
    row
}

/// The key prefix of all rows of a user.
pub fn rows_prefix(partition: Partition, key: &UserKey) -> Vec<u8> {
    user_prefix(partition, key)
}

/// The key prefix of all rows of an app in a partition.
pub fn app_prefix(partition: Partition, app: AppId) -> [u8; 6] {
    let [high, low] = partition.0.to_be_bytes();
    let [a, b, c, d] = app.0.to_be_bytes();
    [high, low, a, b, c, d]
}

/// What comes before every key behind all rows of an app in a partition; none if no key does.
pub fn behind_app(partition: Partition, app: AppId) -> Option<[u8; 6]> {
    let place = (u64::from(partition.0) << 32 | u64::from(app.0)) + 1;
    let [0, 0, behind @ ..] = place.to_be_bytes() else { return None };
    Some(behind)
}

/// Takes a row key apart: whose row it is, and which peer it is about.
pub fn parse_key(row: &[u8]) -> Option<(Partition, UserKey, Option<UserId>)> {
    let (partition, rest) = row.split_first_chunk::<2>()?;
    let (app, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    let (kind, peer) = rest.split_first()?;
    let user = UserId::parse(std::str::from_utf8(name).ok()?).ok()?;
    let peer = match *kind {
        HEAD => None,
        RELATION => Some(UserId::parse(std::str::from_utf8(peer).ok()?).ok()?),
        _ => return None,
    };
    let key = UserKey { app: AppId(u32::from_be_bytes(*app)), user };
    Some((Partition(u16::from_be_bytes(*partition)), key, peer))
}

/// Reads a head row.
///
/// Errors: it is none.
pub fn decode_head(value: &[u8]) -> Result<Head, postcard::Error> {
    postcard::from_bytes(value)
}

/// Reads a row about a peer.
///
/// Errors: it is none.
pub fn decode_relation(value: &[u8]) -> Result<Relation, postcard::Error> {
    postcard::from_bytes(value)
}

/// Writes a row's value behind what is in `out`.
fn encode(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(value, std::mem::take(out))
        .expect("rows hold nothing that postcard cannot say");
}

/// Writes the row about `peer`; false if there is none.
fn encode_relation(user: &User, peer: &UserId, out: &mut Vec<u8>) -> bool {
    let relation = user.relation(peer);
    let is_there = !relation.is_empty();
    if is_there {
        encode(&relation, out);
    }
    is_there
}

/// Every row of `user`: key and value. What a state rebuilt from zero is hashed by.
pub fn rows(partition: Partition, app: AppId, user: &User) -> Vec<(Vec<u8>, Vec<u8>)> {
    let key = UserKey { app, user: user.id() };
    let mut head = Vec::new();
    encode(&user.head(), &mut head);
    let relations = user.peers().into_iter().filter_map(|peer| {
        let mut value = Vec::new();
        let is_there = encode_relation(user, &peer, &mut value);
        is_there.then(|| (relation_key(partition, &key, &peer), value))
    });
    std::iter::once((head_key(partition, &key), head)).chain(relations).collect()
}

/// The rows that a record may change, as they were before it.
pub struct Before {
    partition: Partition,
    key: UserKey,
    head: RowHash,
    /// About whom, and the hash of the row's value; nothing if no row of the user was ever written,
    /// so that none needs to be looked at.
    relations: Option<Relations>,
}

type Relations = SmallVec<[(UserId, Option<u128>); 1]>;

impl Before {
    /// Looks at the rows about `peers` before `user` changes. `head` is the hash of the head row as
    /// it was written last, zero if it never was; `scratch` is memory to work in.
    pub fn look(
        partition: Partition,
        key: UserKey,
        head: RowHash,
        user: &User,
        mut peers: Vec<UserId>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        // Looked at twice, a row would go into the hash twice, which is not at all.
        peers.sort_unstable();
        peers.dedup();
        let relations = peers
            .into_iter()
            .map(|peer| {
                scratch.clear();
                let is_there = encode_relation(user, &peer, scratch);
                (peer, is_there.then(|| xxh3_128(scratch)))
            })
            .collect();
        Self { partition, key, head, relations: Some(relations) }
    }

    /// The pairs that the rows are about.
    pub fn peers(&self) -> impl Iterator<Item = (UserKey, UserId)> {
        self.relations.iter().flatten().map(|(peer, _)| (self.key, *peer))
    }

    /// The same for the rows that `events` can change, to be followed by more of them: see
    /// [`Before::look_also`].
    pub fn look_for_events(
        partition: Partition,
        key: UserKey,
        head: RowHash,
        user: &User,
        events: &[Event],
        scratch: &mut Vec<u8>,
    ) -> Self {
        if head == RowHash::default() {
            return Self { partition, key, head, relations: None };
        }
        Self::look(partition, key, head, user, user.scope_of_events(events), scratch)
    }
}

impl Before {
    /// Looks at the rows that more `events` can change, before they do: one comparison may stand for
    /// many records. Of a row that was looked at already only the first look counts.
    pub fn look_also(&mut self, user: &User, events: &[Event], scratch: &mut Vec<u8>) {
        if self.relations.is_some() {
            self.look_about(user, user.scope_of_events(events), scratch);
        }
    }

    /// The same for the rows about more `peers`.
    pub fn look_about(&mut self, user: &User, peers: Vec<UserId>, scratch: &mut Vec<u8>) {
        let Some(relations) = &mut self.relations else { return };
        for peer in peers {
            if let Err(place) = relations.binary_search_by(|(known, _)| known.cmp(&peer)) {
                scratch.clear();
                let is_there = encode_relation(user, &peer, scratch);
                relations.insert(place, (peer, is_there.then(|| xxh3_128(scratch))));
            }
        }
    }

    /// Compares with the rows after the change: adds each changed row to `changes`, brings `hash` up to
    /// date, and answers the hash of the head row as it is to be written now.
    pub fn compare(self, user: &User, hash: &mut RowHash, changes: &mut RowChanges) -> RowHash {
        let unwritten = || user.peers().into_iter().map(|peer| (peer, None)).collect();
        for (peer, known) in self.relations.unwrap_or_else(unwritten) {
            let start = changes.bytes.len();
            write_prefix(self.partition, &self.key, &mut changes.bytes);
            changes.bytes.push(RELATION);
            changes.bytes.extend_from_slice(peer.as_bytes());
            let key_bytes = changes.bytes.len() - start;
            let is_there = encode_relation(user, &peer, &mut changes.bytes);
            let (key, value) = changes.bytes[start..].split_at(key_bytes);
            let now = is_there.then(|| xxh3_128(value));
            if now == known {
                changes.bytes.truncate(start);
                continue;
            }
            for value in [known, now].into_iter().flatten() {
                hash.toggle(RowHash(row_hash(key, value)));
            }
            changes.close(key_bytes, !is_there);
        }
        let start = changes.bytes.len();
        write_prefix(self.partition, &self.key, &mut changes.bytes);
        changes.bytes.push(HEAD);
        let key_bytes = changes.bytes.len() - start;
        encode(&user.head(), &mut changes.bytes);
        let (key, value) = changes.bytes[start..].split_at(key_bytes);
        let head = RowHash::of(key, value);
        hash.toggle(self.head);
        hash.toggle(head);
        changes.close(key_bytes, false);
        head
    }
}
