//! A small sorted list of entries, one per peer.

use super::id::UserId;

/// An entry that belongs to one peer.
pub trait Entry {
    /// Whom the entry is about.
    fn peer(&self) -> &UserId;
}

/// Entries sorted by peer: found by halving, kept without a hash table.
///
/// For lists that are short as a rule. Those that may be long are a [`super::packed::PackedRoll`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roll<T>(Vec<T>);

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Roll<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<T: Entry> Roll<T> {
    fn position(&self, peer: &UserId) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry.peer().cmp(peer))
    }

    /// The entry about `peer`.
    pub fn get(&self, peer: &UserId) -> Option<&T> {
        self.position(peer).ok().map(|index| &self.0[index])
    }

    /// The entry about `peer`, to change.
    pub fn get_mut(&mut self, peer: &UserId) -> Option<&mut T> {
        self.position(peer).ok().map(|index| &mut self.0[index])
    }

    /// Whether there is an entry about `peer`.
    pub fn contains(&self, peer: &UserId) -> bool {
        self.position(peer).is_ok()
    }

    /// Puts `entry` in, in place of one about the same peer.
    pub fn put(&mut self, entry: T) {
        match self.position(entry.peer()) {
            Ok(index) => self.0[index] = entry,
            Err(index) => self.0.insert(index, entry),
        }
    }

    /// Takes the entry about `peer` out.
    pub fn remove(&mut self, peer: &UserId) -> Option<T> {
        self.position(peer).ok().map(|index| self.0.remove(index))
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries, by peer.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// All entries, by peer, to change in what is not the peer.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }

    /// The bytes on the heap that the entries themselves take.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>()
    }
}

impl<T: Entry> FromIterator<T> for Roll<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut entries: Vec<T> = entries.into_iter().collect();
        entries.sort_by(|a, b| a.peer().cmp(b.peer()));
        entries.shrink_to_fit();
        Self(entries)
    }
}
