//! What one event says by itself. Each question is answered for every event by name, so that a new
//! event has to answer it, too.

use super::event::Event;
use super::id::{EdgeId, UserId};
use super::message::Message;
use super::rejection::Rejection;
use super::verdict::Verdict;

/// Whom or what an event is about.
enum About<'a> {
    /// One peer, whose row it changes.
    Peer(&'a UserId),
    /// What is the owner's own, and these peers.
    Own(&'a [UserId]),
    /// What other events of the record, or the keys of calls, are about.
    Other,
}

/// What became of an offer of the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferOutcome {
    /// The peer said yes.
    Made {
        /// Only after the offer had been waiting for the peer.
        waited: bool,
    },
    /// The peer has to confirm it.
    Pending,
    /// It is over without a friendship.
    Refused(Rejection),
    /// The owner took it back.
    Withdrawn,
}

impl OfferOutcome {
    /// What the owner's call is answered; nothing if the peer said nothing.
    pub fn answer(self) -> Option<Result<(), Rejection>> {
        match self {
            Self::Made { .. } => Some(Ok(())),
            Self::Pending => Some(Err(Rejection::ConfirmationNeeded)),
            Self::Refused(why) => Some(Err(why)),
            Self::Withdrawn => None,
        }
    }
}

impl Event {
    /// Whom the event is about, each of them.
    pub fn peers(&self) -> &[UserId] {
        match self.about() {
            About::Peer(peer) => std::slice::from_ref(peer),
            About::Own(peers) => peers,
            About::Other => &[],
        }
    }

    /// Whether a command of the owner's asked for it, and it is about no one peer: for the account, its
    /// profile, its friend groups, an app's subscriptions.
    pub fn is_own(&self) -> bool {
        matches!(self.about(), About::Own(_))
    }

    /// The peer whose row the event is about, if it is about one.
    pub fn peer(&self) -> Option<UserId> {
        match self.about() {
            About::Peer(peer) => Some(*peer),
            About::Own(_) | About::Other => None,
        }
    }

    fn about(&self) -> About<'_> {
        match self {
            Self::UserBlocked { target: peer, .. }
            | Self::UserUnblocked { target: peer }
            | Self::FriendOffered { peer, .. }
            | Self::FriendRequested { peer, .. }
            | Self::FriendAccepted { peer, .. }
            | Self::FriendRefused { peer, .. }
            | Self::FriendAdded { peer, .. }
            | Self::FriendLinked { peer, .. }
            | Self::FriendUpdated { peer, .. }
            | Self::FriendChanged { peer, .. }
            | Self::FriendRemoved { peer, .. }
            | Self::UnfriendAsked { peer }
            | Self::OfferPending { peer, .. }
            | Self::OfferConfirmed { peer, .. }
            | Self::OfferEnded { peer, .. }
            | Self::OfferWithdrawn { peer, .. }
            | Self::PeerForgotten { peer }
            | Self::RequestDropped { peer, .. } => About::Peer(peer),
            Self::FriendsGrouped { peers, .. } => About::Own(peers),
            Self::AccountImported {}
            | Self::ProfileChanged(_)
            | Self::AccountDeleted {}
            | Self::GroupsAdded { .. }
            | Self::GroupsRemoved { .. }
            | Self::SubscriptionSet(_)
            | Self::SubscriptionDeleted { .. }
            | Self::SubscriptionMoved(_)
            | Self::ReplayBegun(_)
            | Self::ReplayEnded { .. } => About::Own(&[]),
            Self::OffersSettled { .. }
            | Self::MessageAccepted(_)
            | Self::VerdictGiven(_)
            | Self::CallBegun { .. }
            | Self::CallDone { .. }
            | Self::CallAnswered { .. }
            | Self::CallsForgotten { .. } => About::Other,
        }
    }

    /// What the event says became of an offer of the owner's: the wanted friend, the offer, and that.
    pub fn offer_outcome(&self) -> Option<(UserId, EdgeId, OfferOutcome)> {
        match self {
            Self::OfferConfirmed { peer, edge, agreement, .. } => {
                Some((*peer, *edge, OfferOutcome::Made { waited: agreement.is_some() }))
            }
            Self::OfferPending { peer, edge } => Some((*peer, *edge, OfferOutcome::Pending)),
            Self::OfferEnded { peer, edge, why } => {
                Some((*peer, *edge, OfferOutcome::Refused(*why)))
            }
            Self::OfferWithdrawn { peer, edge } => Some((*peer, *edge, OfferOutcome::Withdrawn)),
            Self::AccountImported {}
            | Self::ProfileChanged(_)
            | Self::AccountDeleted {}
            | Self::UserBlocked { .. }
            | Self::UserUnblocked { .. }
            | Self::FriendOffered { .. }
            | Self::FriendRequested { .. }
            | Self::FriendAccepted { .. }
            | Self::FriendRefused { .. }
            | Self::FriendAdded { .. }
            | Self::FriendLinked { .. }
            | Self::FriendUpdated { .. }
            | Self::FriendChanged { .. }
            | Self::GroupsAdded { .. }
            | Self::FriendsGrouped { .. }
            | Self::GroupsRemoved { .. }
            | Self::FriendRemoved { .. }
            | Self::UnfriendAsked { .. }
            | Self::OffersSettled { .. }
            | Self::PeerForgotten { .. }
            | Self::RequestDropped { .. }
            | Self::MessageAccepted(_)
            | Self::VerdictGiven(_)
            | Self::CallBegun { .. }
            | Self::CallDone { .. }
            | Self::CallAnswered { .. }
            | Self::CallsForgotten { .. }
            | Self::SubscriptionSet(_)
            | Self::SubscriptionDeleted { .. }
            | Self::SubscriptionMoved(_)
            | Self::ReplayBegun(_)
            | Self::ReplayEnded { .. } => None,
        }
    }

    /// The offer that the event makes: the wanted friend, and the offer.
    pub fn offered(&self) -> Option<(UserId, EdgeId)> {
        if let Self::FriendOffered { peer, edge, .. } = self { Some((*peer, *edge)) } else { None }
    }

    /// The message that the event takes over.
    pub fn message(&self) -> Option<&Message> {
        if let Self::MessageAccepted(message) = self { Some(message) } else { None }
    }

    /// What was said beforehand to what the record does.
    pub fn verdict(&self) -> Option<&Verdict> {
        if let Self::VerdictGiven(verdict) = self { Some(verdict) } else { None }
    }
}
