//! One friend in a list, as it is put in and as it is read where it lies.

use serde::{Deserialize, Serialize, Serializer};

use super::card::Card;
use super::card::{self, CardView, Texts};
use super::id::{EdgeId, UserId, Version};
use super::packed::{Packed, Unpack, pack_number};
use super::roll::Entry;

/// One friend in a user's list, as it is put in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Friend {
    /// The friend.
    pub peer: UserId,
    /// The owner of the list offered the friendship, not the peer: half of the edge's id.
    pub offered_by_owner: bool,
    /// The other half of the edge's id.
    pub offered_at: Version,
    /// The friend was in the list before this edge: taking the edge back does not end the friendship.
    pub stood_before: bool,
    /// When the friend was added, in unix seconds.
    pub at: u32,
    /// The rest of the record, if any of it is set.
    pub card: Option<Box<Card>>,
}

/// One friend, read where it lies. Written into a row like the [`Friend`] that is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename = "Friend")]
pub struct FriendView<'a> {
    /// The friend.
    pub peer: UserId,
    offered_by_owner: bool,
    offered_at: Version,
    stood_before: bool,
    /// When the friend was added, in unix seconds.
    pub at: u32,
    #[serde(serialize_with = "whole_card")]
    card: Unpack<'a>,
}

fn whole_card<S: Serializer>(card: &Unpack<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    CardView::read(*card).serialize(serializer)
}

impl<'a> FriendView<'a> {
    /// The friendship's id, in the list of `owner`.
    pub fn edge(&self, owner: UserId) -> EdgeId {
        EdgeId {
            offerer: if self.offered_by_owner { owner } else { self.peer },
            version: self.offered_at,
        }
    }

    /// The friend was in the list before there was this edge.
    pub(super) fn stood_before(&self) -> bool {
        self.stood_before
    }

    /// The rest of the record, if any of it is set.
    pub fn card(&self) -> Option<CardView<'a>> {
        CardView::read(self.card)
    }

    /// The bytes that the rest of the record takes.
    pub fn card_bytes(&self) -> usize {
        self.card.len()
    }

    /// The groups that hold the friend.
    pub(super) fn groups(&self) -> Texts<'a> {
        self.card().map_or(Texts::NONE, |card| card.groups())
    }
}

impl From<FriendView<'_>> for Friend {
    fn from(view: FriendView<'_>) -> Self {
        Self {
            peer: view.peer,
            offered_by_owner: view.offered_by_owner,
            offered_at: view.offered_at,
            stood_before: view.stood_before,
            at: view.at,
            card: view.card().map(|card| Box::new(card.into())),
        }
    }
}

const OFFERED_BY_OWNER: u8 = 1;
const STOOD_BEFORE: u8 = 1 << 1;

impl Packed for Friend {
    type View<'a> = FriendView<'a>;

    fn pack(&self, out: &mut Vec<u8>) {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.push(
            bit(self.offered_by_owner, OFFERED_BY_OWNER) | bit(self.stood_before, STOOD_BEFORE),
        );
        pack_number(out, self.offered_at.0);
        out.extend_from_slice(&self.at.to_le_bytes());
        if let Some(card) = &self.card {
            card::pack(card, out);
        }
    }

    fn view(peer: UserId, mut packed: Unpack<'_>) -> FriendView<'_> {
        let bits = packed.byte();
        FriendView {
            peer,
            offered_by_owner: bits & OFFERED_BY_OWNER != 0,
            stood_before: bits & STOOD_BEFORE != 0,
            offered_at: Version(packed.number()),
            at: packed.fixed(),
            card: packed,
        }
    }
}

impl Entry for Friend {
    fn peer(&self) -> &UserId {
        &self.peer
    }
}
