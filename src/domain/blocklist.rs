//! State and rules of blocking.

use serde::{Deserialize, Serialize};

use super::command::Target;
use super::event::{Event, RemovalReason};
use super::id::{Timestamp, UserId, Version};
use super::offer::Offer;
use super::packed::{Packed, Unpack, pack_number};
use super::policy::Policy;
use super::rejection::Rejection;
use super::roll::Entry;
use super::user::{Outcome, User};

/// One entry of a blocklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Who is blocked.
    pub peer: UserId,
    /// Its place: the oldest entry has the smallest number.
    pub place: u32,
    /// When, in unix seconds.
    pub at: u32,
}

/// In which order the entries of a blocklist came; kept beside the list while somebody turns its
/// pages, so that each costs no more than its own length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocklistOrder(Box<Order>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    /// Of the user, when it was taken.
    version: Version,
    /// Where in the list the entries lie, which is sorted by name.
    starts: Box<[u32]>,
}

impl Entry for Block {
    fn peer(&self) -> &UserId {
        &self.peer
    }
}

impl Packed for Block {
    type View<'a> = Self;

    fn pack(&self, out: &mut Vec<u8>) {
        pack_number(out, self.place.into());
        out.extend_from_slice(&self.at.to_le_bytes());
    }

    fn view(peer: UserId, mut packed: Unpack<'_>) -> Self {
        Self { peer, place: packed.number() as u32, at: packed.fixed() }
    }
}

impl User {
    /// Whether `peer` is on this user's blocklist.
    pub fn blocks(&self, peer: &UserId) -> bool {
        self.blocks.contains(peer)
    }

    /// How many users are on the blocklist.
    pub fn blocked_count(&self) -> usize {
        self.blocks.len()
    }

    /// The blocklist's sequence number: it grows with each record that changed the list and is 0 if
    /// none ever did. Rule: rest-api.md 3.4.
    pub fn blocklist_sequence(&self) -> u32 {
        self.block_sequence
    }

    /// The whole blocklist, oldest first.
    pub fn blocklist(&self) -> Vec<Block> {
        let order = self.blocklist_order();
        self.blocklist_page(&order, 0, usize::MAX).unwrap_or_default()
    }

    /// The order of the blocklist, oldest first, until the user changes.
    pub fn blocklist_order(&self) -> BlocklistOrder {
        let placed = self.blocks.placed();
        let mut order: Vec<(u32, u32)> =
            placed.map(|(start, block)| (block.place, start as u32)).collect();
        order.sort_unstable();
        let starts = order.into_iter().map(|(_, start)| start).collect();
        BlocklistOrder(Box::new(Order { version: self.version, starts }))
    }

    /// The blocklist from `start` on, at most `max` entries; nothing if the user has changed since
    /// `order` was taken. Rule: rest-api.md 3.4.
    pub fn blocklist_page(
        &self,
        order: &BlocklistOrder,
        start: usize,
        max: usize,
    ) -> Option<Vec<Block>> {
        let Order { version, starts } = &*order.0;
        if *version != self.version || starts.len() != self.blocks.len() {
            return None;
        }
        let page = starts.iter().skip(start).take(max);
        Some(page.map(|start| self.blocks.at(*start as usize)).collect())
    }

    /// Puts `target` on the blocklist, ending what is between the two.
    ///
    /// Repeat: blocking a blocked user is refused with [`Rejection::AlreadyBlocked`] and records
    /// nothing. Rejects: `SelfTarget`, `AlreadyBlocked`, `AccountUnknown`, `BlocklistFull`.
    /// Rule: rest-api.md 3.1 and 3.2; cluster.md 5, `Block`.
    pub(super) fn block(
        &self,
        target: &Target,
        policy: &Policy,
    ) -> Result<(Vec<Event>, Outcome), Rejection> {
        let peer = target.user;
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        if self.blocks(&peer) {
            return Err(Rejection::AlreadyBlocked);
        }
        if !target.imported {
            return Err(Rejection::AccountUnknown);
        }
        if self.blocks.len() >= policy.blocks_max {
            return Err(Rejection::BlocklistFull);
        }
        let mut events = Vec::with_capacity(2);
        // Where friendships outlast a block, so does an offer that the peer may have accepted by now.
        let ends = |offer: &&Offer| offer.is_unanswered() && !policy.remain_friends;
        if let Some(offer) = self.rare.offers.get(&peer).filter(ends) {
            events.push(Event::OfferEnded { peer, edge: offer.edge, why: Rejection::PeerBlocked });
        }
        if let Some(request) = self.rare.requests.get(&peer) {
            events.push(Event::FriendRefused {
                peer,
                offer: request.edge,
                why: Rejection::BlockedByPeer,
            });
        }
        if let Some(friend) = self.friends.get(&peer).filter(|_| !policy.remain_friends) {
            events.extend(self.end(&friend, RemovalReason::Blocked, false));
        }
        events.push(Event::UserBlocked { target: peer, remain_friends: policy.remain_friends });
        Ok((events, Outcome::Severing { peer }))
    }

    /// Takes `target` off the blocklist, also when its account is gone by now.
    ///
    /// Rejects: `NotBlocked`, or `AccountUnknown` when the account is not imported either.
    /// Rule: rest-api.md 3.3.
    pub(super) fn unblock(&self, target: &Target) -> Result<(Vec<Event>, Outcome), Rejection> {
        if self.blocks(&target.user) {
            return Ok((vec![Event::UserUnblocked { target: target.user }], Outcome::Recorded));
        }
        Err(if target.imported { Rejection::NotBlocked } else { Rejection::AccountUnknown })
    }

    pub(super) fn note_block(&mut self, peer: UserId, at: Timestamp) {
        self.block_count = self.block_count.saturating_add(1);
        self.touch_blocklist();
        self.blocks.put(&Block { peer, place: self.block_count, at: at.unix_seconds() });
    }

    pub(super) fn note_unblock(&mut self, peer: &UserId) {
        self.touch_blocklist();
        self.blocks.remove(peer);
    }

    fn touch_blocklist(&mut self) {
        self.block_sequence = self.sequence_now();
    }
}
