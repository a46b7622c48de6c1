//! What few users have, out of the way of the many who have none of it.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use super::card::Card;
use super::kept::KeptCalls;
use super::offer::{Offer, Request};
use super::roll::Roll;
use super::subscription::Subscriptions;

/// What a card takes on the heap, about: its fields and their texts.
const CARD_BYTES: usize = size_of::<Card>() + 32;

/// What few users have for long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Belongings {
    pub(super) groups: Vec<Box<str>>,
    pub(super) offers: Roll<Offer>,
    pub(super) requests: Roll<Request>,
    pub(super) calls: KeptCalls,
    pub(super) subscriptions: Option<Box<Subscriptions>>,
}

static NOTHING: Belongings = Belongings {
    groups: Vec::new(),
    offers: Roll::new(),
    requests: Roll::new(),
    calls: KeptCalls::new(),
    subscriptions: None,
};

/// [`Belongings`] that take no room while there are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare(Option<Box<Belongings>>);

impl Rare {
    /// Gives back what is empty.
    pub(super) fn tidy(&mut self) {
        if self.0.as_deref() == Some(&NOTHING) {
            self.0 = None;
        }
    }

    /// A rough count of the bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let Some(all) = self.0.as_deref() else { return 0 };
        size_of::<Belongings>()
            + all.groups.capacity() * size_of::<Box<str>>()
            + all.groups.iter().map(|group| group.len()).sum::<usize>()
            + all.offers.heap_bytes()
            + all.requests.heap_bytes()
            + (all.offers.len() + all.requests.len()) * CARD_BYTES
            + all.calls.heap_bytes()
            + all.subscriptions.as_ref().map_or(0, |known| known.heap_bytes())
    }
}

impl Deref for Rare {
    type Target = Belongings;

    fn deref(&self) -> &Belongings {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Belongings {
        self.0.get_or_insert_with(|| Box::new(NOTHING.clone()))
    }
}

// Nothing is the same as a box with nothing in it.
impl PartialEq for Rare {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Rare {}

impl Hash for Rare {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
