//! Where an app's subscriptions are moved to by operators.

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::id::Timestamp;
use super::subscription::{NAME_BYTES_MAX, Subscriptions};
use super::user::{Decided, User, recorded};

/// An operator has moved a subscription: each partition goes on from the place given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seek {
    /// The subscription.
    pub name: Box<str>,
    /// Grows with each move, also if the subscription is deleted and set again: it is the sequence of the
    /// app's stream behind this event.
    pub term: u32,
    /// Where to.
    pub to: SeekTo,
}

/// Where a subscription is moved to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// These partitions to these offsets; others go where they were moved to before, or have gone there.
    Offsets(Vec<(u16, u64)>),
    /// All partitions to the first record of this time or later.
    Time(Timestamp),
    /// All partitions to their ends.
    End,
}

impl Seek {
    /// Whether it still moves some partition behind a later move of the same subscription. Partitions that
    /// the later one moves are taken out.
    fn outlasts(&mut self, later: &SeekTo) -> bool {
        match (&mut self.to, later) {
            (_, SeekTo::Time(_) | SeekTo::End) => false,
            (SeekTo::Time(_) | SeekTo::End, SeekTo::Offsets(_)) => true,
            (SeekTo::Offsets(named), SeekTo::Offsets(moved)) => {
                named.retain(|(number, _)| moved.iter().all(|(moved, _)| moved != number));
                !named.is_empty()
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let named = match &self.to {
            SeekTo::Offsets(named) => named.len(),
            SeekTo::Time(_) | SeekTo::End => 0,
        };
        size_of::<Self>() + NAME_BYTES_MAX + named * size_of::<(u16, u64)>()
    }
}

impl Subscriptions {
    /// The moves of the subscription of this name that are in force, the last one behind the others.
    pub fn moves(&self, name: &str) -> impl DoubleEndedIterator<Item = &Seek> {
        self.seeks.iter().filter(move |known| *known.name == *name)
    }

    /// The last move of the subscription of this name.
    pub fn last_move(&self, name: &str) -> Option<&Seek> {
        self.moves(name).next_back()
    }

    /// The term of a move that is recorded with the next record, behind so many other events.
    pub(super) fn next_term(&self, others: u64) -> u32 {
        let sequence = self.sequence.saturating_add(others).saturating_add(1);
        u32::try_from(sequence).unwrap_or(u32::MAX)
    }
}

impl User {
    /// Moves a subscription. Each move is one of its own, also to where the last one went.
    ///
    /// Rejects: `SubscriptionUnknown` for one that was not set, unless it is `configured`: stands in
    /// the settings, which only the caller knows.
    pub(super) fn move_subscription(&self, name: &str, to: &SeekTo, configured: bool) -> Decided {
        self.find_subscription(name, configured)?;
        let term = self.subscriptions().map_or(1, |known| known.next_term(0));
        recorded(vec![Event::SubscriptionMoved(Seek { name: name.into(), term, to: to.clone() })])
    }

    pub(super) fn note_move(&mut self, seek: &Seek) {
        let seeks = &mut self.changed_subscriptions().seeks;
        seeks.retain_mut(|other| other.name != seek.name || other.outlasts(&seek.to));
        let place = seeks.partition_point(|other| other.name <= seek.name);
        seeks.insert(place, seek.clone());
    }
}
