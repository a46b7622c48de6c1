//! State of what is not settled: offers to peers, and requests of theirs.

use serde::{Deserialize, Serialize};

use super::card::Card;
use super::event::OfferForm;
use super::id::{EdgeId, UserId, Version};
use super::roll::Entry;
use super::user::User;

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
    /// What was said when it was asked for again while it was open: that holds if it comes to wait.
    pub renewed: Option<Box<Card>>,
    /// When it was made, in unix seconds.
    pub at: u32,
    /// Its place among the offers of its request: friendships are announced in the order of the call.
    pub place: u32,
    /// How far it has come.
    pub state: OfferState,
}

impl Offer {
    /// Whether it waits for the peer's confirmation.
    pub fn is_pending(&self) -> bool {
        self.state == OfferState::Pending
    }

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
        /// It had been waiting for the peer's answer: it is announced at once, and alone.
        waited: bool,
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

// How facts change the user.
impl User {
    /// The offer is made, or made anew. Of two who want the same friendship at once the first one's words
    /// count, unless it comes to wait; an import overwrites what there is.
    pub(super) fn note_offered(&mut self, mut offer: Offer) {
        let mut place = 0;
        for known in self.rare.offers.iter().filter(|known| known.edge == offer.edge) {
            place = place.max(known.place + 1);
        }
        match self.rare.offers.get_mut(&offer.peer).filter(|known| known.edge == offer.edge) {
            Some(known) if known.state == OfferState::Open && known.form != OfferForm::Import => {
                known.renewed = Some(offer.card);
                return;
            }
            Some(known) => offer.place = known.place,
            None => offer.place = place,
        }
        self.rare.offers.put(offer);
    }

    pub(super) fn note_offer(&mut self, peer: &UserId, edge: EdgeId, state: OfferState) {
        if let Some(offer) = self.rare.offers.get_mut(peer).filter(|offer| offer.edge == edge) {
            offer.state = state;
            if let Some(renewed) = offer.renewed.take().filter(|_| state == OfferState::Pending) {
                offer.card = renewed;
            }
        }
    }

    pub(super) fn drop_offer(&mut self, peer: &UserId, edge: &EdgeId) {
        if self.rare.offers.get(peer).is_some_and(|offer| offer.edge == *edge) {
            self.rare.offers.remove(peer);
        }
    }

    pub(super) fn note_settled(&mut self, offered: Version, after_waiting: bool) {
        self.rare.offers.retain(|offer| match offer.state {
            OfferState::Confirmed { waited, .. } => {
                offer.edge.version != offered || waited != after_waiting
            }
            OfferState::Open | OfferState::Pending => true,
        });
    }

    pub(super) fn drop_request(&mut self, peer: &UserId, edge: &EdgeId) {
        if self.rare.requests.get(peer).is_some_and(|request| request.edge == *edge) {
            self.rare.requests.remove(peer);
        }
    }
}
