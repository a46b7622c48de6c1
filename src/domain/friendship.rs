//! State of offers, requests and friends, and what a caller may ask about them. How the other side
//! answers is in `handshake.rs`.

use serde::{Deserialize, Serialize};

use super::command::{FormerFriend, NewFriend};
use super::event::{Card, Event, OfferForm, RemovalReason};
use super::id::{EdgeId, Timestamp, UserId, Version};
use super::policy::Policy;
use super::rejection::Rejection;
use super::roll::Entry;
use super::user::{Outcome, User};

/// One friend in a user's list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Friend {
    /// The friend.
    pub peer: UserId,
    /// The owner of the list offered the friendship, not the peer: half of the edge's id.
    pub offered_by_owner: bool,
    /// The other half of the edge's id.
    pub offered_at: Version,
    /// When the friend was added, in unix seconds.
    pub at: u32,
    /// The rest of the record, if any of it is set.
    pub card: Option<Box<Card>>,
}

impl Friend {
    /// The friendship's id, in the list of `owner`.
    pub fn edge(&self, owner: UserId) -> EdgeId {
        EdgeId {
            offerer: if self.offered_by_owner { owner } else { self.peer },
            version: self.offered_at,
        }
    }
}

/// A friendship that the owner offered to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offer {
    /// The wanted friend.
    pub peer: UserId,
    /// The offer's id.
    pub edge: EdgeId,
    /// What is wanted.
    pub form: OfferForm,
    /// An administrator forces it.
    pub forced: bool,
    /// The edge that the owner had with the peer at the time.
    pub over: Option<EdgeId>,
    /// What the owner's record of the friend will hold.
    pub card: Box<Card>,
    /// How far it has come.
    pub state: OfferState,
}

impl Offer {
    /// Whether the peer's yes or no is still to come.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.state, OfferState::Open | OfferState::Pending)
    }
}

/// How far an offer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OfferState {
    /// The peer has not answered.
    Open,
    /// The peer has to confirm.
    Pending,
    /// Accepted; kept until all offers of the same request are answered, to be announced together.
    Confirmed {
        /// The owner's list grew.
        mine: bool,
        /// The peer's list grew.
        theirs: bool,
    },
}

/// A peer's offer that waits for the owner's confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub peer: UserId,
    /// Their offer.
    pub edge: EdgeId,
    /// Source and words of the request.
    pub card: Box<Card>,
    /// When it came, in unix seconds.
    pub at: u32,
}

impl Entry for Friend {
    fn peer(&self) -> &UserId {
        &self.peer
    }
}

impl Entry for Offer {
    fn peer(&self) -> &UserId {
        &self.peer
    }
}

impl Entry for Request {
    fn peer(&self) -> &UserId {
        &self.peer
    }
}

type Decided = Result<(Vec<Event>, Outcome), Rejection>;

// What a caller asks of the user.
impl User {
    /// Whether `peer` is in this user's friend list.
    pub fn has_friend(&self, peer: &UserId) -> bool {
        self.friends.contains(peer)
    }

    /// The friend list, by peer.
    pub fn friends(&self) -> impl Iterator<Item = &Friend> {
        self.friends.iter()
    }

    /// Offers that are not settled, by peer.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.iter()
    }

    /// Requests that wait for the user's confirmation, by peer.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter()
    }

    /// Offers a friendship. While a like offer to the same peer is open, the item waits for that one,
    /// and an unlike one has to come again; a pending one is offered anew, with the new words.
    ///
    /// Rejects, in this order: `AccountUnknown`, `SelfTarget`, `AlreadyFriend` (one-way),
    /// `PeerBlocked`, `RequestsForbidden`, `FriendListFull`, `TooManyGroups`. The peer may refuse
    /// with more. Rule: rest-api.md 4.2; those of its checks that are the peer's come after ours.
    pub(super) fn add_friend(
        &self,
        item: &NewFriend,
        form: OfferForm,
        forced: bool,
        policy: &Policy,
    ) -> Decided {
        let peer = item.user;
        if !item.imported {
            return Err(Rejection::AccountUnknown);
        }
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        let known = self.friends.get(&peer);
        if known.is_some() && !form.is_two_way() {
            return Err(Rejection::AlreadyFriend);
        }
        if self.blocks(&peer) {
            return Err(Rejection::PeerBlocked);
        }
        if let Some(offer) = self.offers.get(&peer).filter(|o| o.state == OfferState::Open) {
            let alike = offer.form == form && offer.forced == forced;
            return Ok((Vec::new(), Self::await_answer(offer, alike)));
        }
        if !forced && self.profile().is_some_and(|profile| profile.requests_forbidden) {
            return Err(Rejection::RequestsForbidden);
        }
        self.offer(item, form, forced, policy)
    }

    /// Imports a friend: one-way, without the peer's consent, but not against a blocklist. One who
    /// is a friend already gets the new record. Rule: rest-api.md 4.3, extensions.md 7.
    pub(super) fn import_friend(&self, item: &NewFriend, policy: &Policy) -> Decided {
        let peer = item.user;
        if !item.imported {
            return Err(Rejection::AccountUnknown);
        }
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        if self.has_friend(&peer) {
            self.check_groups(&item.card, policy)?;
            let card = item.card.clone();
            return Ok((vec![Event::FriendUpdated { peer, card }], Outcome::Recorded));
        }
        if self.blocks(&peer) && !policy.import_ignores_blocklist {
            return Err(Rejection::PeerBlocked);
        }
        if let Some(offer) = self.offers.get(&peer).filter(|o| o.state == OfferState::Open) {
            let alike = offer.form == OfferForm::Import && *offer.card == item.card;
            return Ok((Vec::new(), Self::await_answer(offer, alike)));
        }
        self.offer(item, OfferForm::Import, false, policy)
    }

    fn await_answer(offer: &Offer, alike: bool) -> Outcome {
        let peer = offer.peer;
        if alike {
            Outcome::Offering { peer, edge: offer.edge }
        } else {
            Outcome::Occupied { peer }
        }
    }

    fn offer(&self, item: &NewFriend, form: OfferForm, forced: bool, policy: &Policy) -> Decided {
        let peer = item.user;
        let known = self.friends.get(&peer);
        if known.is_none() && self.friends_expected(&peer) >= policy.friends_max {
            return Err(Rejection::FriendListFull);
        }
        self.check_groups(&item.card, policy)?;
        let card = item.card.clone();
        let mut events = Vec::with_capacity(2);
        let mut edge = EdgeId { offerer: self.id, version: self.version.next() };
        let mut over = known.map(|friend| friend.edge(self.id));
        let mut again = false;
        match self.offers.get(&peer) {
            // Made anew, an offer keeps its id: the yes to it may be on the way. A friendship that has
            // come about meanwhile came of an offer that crossed it, not before it.
            Some(before) if before.is_unanswered() && before.form == form => {
                (edge, over, again) = (before.edge, before.over, true);
            }
            Some(before) if before.is_unanswered() => {
                events.push(Event::OfferWithdrawn { peer, edge: before.edge });
            }
            // A confirmed one that waits to be announced with others of its request would be
            // overwritten.
            Some(_) => events.extend(self.unannounced(&peer)),
            None => {}
        }
        events.push(Event::FriendOffered { peer, edge, form, forced, over, again, card });
        Ok((events, Outcome::Offering { peer, edge }))
    }

    /// How many friends there are if the peers other than `peer` accept what is open. Both ends of a
    /// friendship ask this, so that answers on the way never lead past the limit.
    pub(super) fn friends_expected(&self, peer: &UserId) -> usize {
        let coming = |offer: &&Offer| {
            offer.state == OfferState::Open && offer.over.is_none() && offer.peer != *peer
        };
        self.friends.len() + self.offers.iter().filter(coming).count()
    }

    fn check_groups(&self, card: &Card, policy: &Policy) -> Result<(), Rejection> {
        let new = card.groups.iter().filter(|group| !self.groups.contains(group)).count();
        if new > 0 && self.groups.len() + new > policy.groups_max {
            return Err(Rejection::TooManyGroups);
        }
        Ok(())
    }

    /// Removes a friend; with `both`, the user from the peer's list as well. An offer to the peer that
    /// is under way is taken back: else its answer would bring the friend back after the removal. If
    /// an offer of the peer's has crossed it, a removal from the one list has to come again when both
    /// are answered: until then, nobody knows which of the two the peer will go on with.
    ///
    /// Rejects: `SelfTarget`, `NotFriend`. Rule: rest-api.md 4.5.
    pub(super) fn remove_friend(&self, target: &FormerFriend, both: bool) -> Decided {
        let peer = target.user;
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        let offer = self.offers.get(&peer).filter(|offer| offer.is_unanswered());
        let withdrawn = offer.map(|offer| Event::OfferWithdrawn { peer, edge: offer.edge });
        let (mut events, outcome): (Vec<Event>, Outcome) = match self.friends.get(&peer) {
            Some(friend) if both => {
                let ended = self.end(friend, RemovalReason::DeletedBoth, false);
                (ended.collect(), Outcome::Severing { peer })
            }
            Some(friend) => {
                if offer.is_some_and(|offer| offer.over != Some(friend.edge(self.id))) {
                    return Ok((Vec::new(), Outcome::Occupied { peer }));
                }
                let ended = self.end(friend, RemovalReason::DeletedSingle, false);
                (ended.collect(), Outcome::Recorded)
            }
            None if both && target.has_me => {
                (vec![Event::UnfriendAsked { peer }], Outcome::Severing { peer })
            }
            None => return Err(Rejection::NotFriend),
        };
        events.extend(withdrawn);
        Ok((events, outcome))
    }

    /// Ends a friendship. If it is not announced yet, because it waits for others of its request, it
    /// is announced now: subscribers hear of a beginning before they hear of the end.
    pub(super) fn end(
        &self,
        friend: &Friend,
        reason: RemovalReason,
        announced: bool,
    ) -> impl Iterator<Item = Event> + use<> {
        let (peer, edge) = (friend.peer, friend.edge(self.id));
        let settled = self.unannounced(&peer);
        settled.into_iter().chain([Event::FriendRemoved { peer, edge, reason, announced }])
    }
}

// How facts change the user.
impl User {
    pub(super) fn note_friend(&mut self, peer: UserId, edge: EdgeId, card: &Card, at: Timestamp) {
        self.note_groups(card);
        self.friends.put(Friend {
            peer,
            offered_by_owner: edge.offerer == self.id,
            offered_at: edge.version,
            at: card.added_at.unwrap_or(at.unix_seconds()),
            card: (!card.is_empty()).then(|| Box::new(card.clone())),
        });
    }

    pub(super) fn note_link(&mut self, peer: &UserId, edge: EdgeId) {
        let owner = self.id;
        if let Some(friend) = self.friends.get_mut(peer) {
            friend.offered_by_owner = edge.offerer == owner;
            friend.offered_at = edge.version;
        }
    }

    pub(super) fn note_card(&mut self, peer: &UserId, card: &Card) {
        self.note_groups(card);
        if let Some(friend) = self.friends.get_mut(peer) {
            friend.at = card.added_at.unwrap_or(friend.at);
            friend.card = (!card.is_empty()).then(|| Box::new(card.clone()));
        }
    }

    fn note_groups(&mut self, card: &Card) {
        for group in &card.groups {
            if !self.groups.contains(group) {
                self.groups.push(group.clone());
            }
        }
    }

    pub(super) fn note_offer(&mut self, peer: &UserId, edge: EdgeId, state: OfferState) {
        if let Some(offer) = self.offers.get_mut(peer).filter(|offer| offer.edge == edge) {
            offer.state = state;
        }
    }

    pub(super) fn drop_offer(&mut self, peer: &UserId, edge: &EdgeId) {
        if self.offers.get(peer).is_some_and(|offer| offer.edge == *edge) {
            self.offers.remove(peer);
        }
    }

    pub(super) fn note_settled(&mut self, offered: Version) {
        self.offers.retain(|offer| {
            offer.edge.version != offered || !matches!(offer.state, OfferState::Confirmed { .. })
        });
    }

    pub(super) fn drop_request(&mut self, peer: &UserId, edge: &EdgeId) {
        if self.requests.get(peer).is_some_and(|request| request.edge == *edge) {
            self.requests.remove(peer);
        }
    }
}
