//! Whether each event follows from what stood before it: from the user's own state at once, and from
//! the effects that its record answers as soon as both were read.
//!
//! What is here mirrors the decisions of `domain`, as far as settings have no say in them. An edge is
//! formed by one offer, an offer is made and answered once, and an effect is taken once: so an edge
//! that was let go of is never formed again.

use super::report::Rule;
use crate::domain::{
    EdgeId, Effect, Event, OfferForm, OfferState, RemovalReason, Severance, User, UserId, Version,
};
use crate::journal::Commit;

/// What an effect asks, as far as answers to it are told apart. The versions are those of offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To let go of a friendship.
    Sever(Severance),
    /// An offer is made.
    Propose(Version),
    /// An offer of the receiver's is answered with yes.
    Confirm(Version),
    /// It waits.
    Pend(Version),
    /// It is answered with no.
    Refuse(Version),
    /// An offer of the sender's is taken back.
    Withdraw(Version),
    /// Anything else: the answer names nobody for it.
    Else,
}

impl Asked {
    pub(super) fn by(effect: &Effect) -> Self {
        match effect {
            Effect::Sever { why, keep_friend: false, .. } => Self::Sever(*why),
            Effect::Propose { edge, again: false, .. } => Self::Propose(edge.version),
            Effect::Confirm { offer, .. } => Self::Confirm(offer.version),
            Effect::Pend { offer } => Self::Pend(offer.version),
            Effect::Refuse { offer, .. } => Self::Refuse(offer.version),
            Effect::Withdraw { offer } => Self::Withdraw(offer.version),
            // A request that is made anew stands there already.
            Effect::Sever { keep_friend: true, .. }
            | Effect::Propose { again: true, .. }
            | Effect::Forget => Self::Else,
        }
    }

    /// Whether nothing is left between the two behind it, neither friendship nor request of the
    /// sender's.
    pub(super) fn parts(self) -> bool {
        matches!(self, Self::Sever(Severance::Blocked | Severance::AccountDeleted))
    }

    /// Whether something may be between the two behind it.
    pub(super) fn joins(self) -> bool {
        matches!(self, Self::Propose(_) | Self::Confirm(_))
    }
}

/// Which effect an event has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// This one.
    One(Asked),
    /// The end of a request: the sender parts, or takes it back.
    Dropped(Version),
}

impl Need {
    pub(super) fn is_met_by(self, asked: Asked) -> bool {
        match self {
            Self::One(needed) => needed == asked,
            Self::Dropped(offer) => asked.parts() || asked == Asked::Withdraw(offer),
        }
    }

    /// The rule that is broken if no effect meets it.
    pub(super) fn rule(self) -> Rule {
        match self {
            Self::One(Asked::Sever(Severance::Blocked)) => Rule::SeveredByBlock,
            Self::One(_) | Self::Dropped(_) => Rule::AnswersAsAsked,
        }
    }
}

/// The user before an event of one of their records.
pub(super) struct Ground<'a> {
    pub(super) user: &'a User,
    pub(super) commit: &'a Commit,
    /// Imports pass blocklists also where their records do not say so.
    pub(super) import_ignores_blocklist: bool,
}

impl Ground<'_> {
    fn held(&self, peer: &UserId) -> Option<EdgeId> {
        self.user.friend(peer).map(|friend| friend.edge(self.user.id()))
    }

    /// An offer of the user's that is not answered.
    fn offers(&self, peer: &UserId, edge: &EdgeId) -> bool {
        self.user.offer_to(peer).is_some_and(|offer| offer.edge == *edge && offer.is_unanswered())
    }

    fn is_unanswered(&self, peer: &UserId) -> bool {
        self.user.offer_to(peer).is_some_and(|offer| offer.is_unanswered())
    }

    /// A request of the peer's waits.
    fn waits(&self, peer: &UserId, edge: &EdgeId) -> bool {
        self.user.request_of(peer).is_some_and(|request| request.edge == *edge)
    }

    fn is_caused_by(&self, peer: &UserId) -> bool {
        self.commit.cause.is_some_and(|cause| cause.user == *peer)
    }

    /// An edge may be that of a request or of a proposal, or of an own offer.
    fn may_hold(&self, peer: &UserId, edge: &EdgeId) -> bool {
        edge.offerer == *peer || self.offers(peer, edge)
    }

    fn is_own_of_this_record(&self, edge: &EdgeId) -> bool {
        (edge.offerer, edge.version) == (self.user.id(), self.commit.version)
    }

    /// Whether the user may have to do with the peer: with somebody whom they block only if the
    /// event says so.
    fn may_meet(&self, peer: &UserId, despite_block: bool) -> bool {
        let blocks = self.user.blocks(peer);
        blocks == despite_block || blocks && self.import_ignores_blocklist
    }

    /// Whether `event` may come next.
    pub(super) fn admits(&self, event: &Event) -> bool {
        let user = self.user;
        match event {
            Event::AccountImported {} => !user.is_imported(),
            Event::ProfileChanged(_) | Event::MessageAccepted(_) => user.is_imported(),
            Event::AccountDeleted {} => {
                user.is_imported()
                    && user.friends_count() == 0
                    && user.requests().next().is_none()
                    && !user.offers().any(|offer| offer.is_unanswered())
            }
            Event::UserBlocked { target, remain_friends } => {
                user.is_imported()
                    && *target != user.id()
                    && !user.blocks(target)
                    && user.request_of(target).is_none()
                    && (*remain_friends || !self.is_unanswered(target))
            }
            Event::UserUnblocked { target } => user.blocks(target),
            Event::FriendOffered {
                peer, edge, form, over, again: false, despite_block, ..
            } => {
                user.is_imported()
                    && *peer != user.id()
                    && self.may_meet(peer, *despite_block)
                    && (*form == OfferForm::Import || !user.blocks(peer))
                    && self.is_own_of_this_record(edge)
                    && *over == self.held(peer)
                    && (*form != OfferForm::OneWay || over.is_none())
                    && !self.is_unanswered(peer)
            }
            Event::FriendOffered { peer, edge, form, over, again: true, .. } => {
                let known = user.offer_to(peer).filter(|known| known.is_unanswered());
                known.is_some_and(|known| {
                    (known.edge, known.form, known.over) == (*edge, *form, *over)
                })
            }
            Event::FriendRequested { peer, edge, .. } => {
                user.is_imported() && edge.offerer == *peer && !user.blocks(peer)
            }
            Event::FriendAccepted { peer, offer, edge, added, despite_block, .. } => {
                offer.offerer == *peer
                    && self.may_meet(peer, *despite_block)
                    && (!added || self.held(peer) == Some(*edge))
            }
            Event::FriendRefused { peer, offer, .. } => offer.offerer == *peer,
            Event::FriendAdded { peer, edge, .. } => {
                user.is_imported() && !user.has_friend(peer) && self.may_hold(peer, edge)
            }
            Event::FriendLinked { peer, edge } => {
                self.held(peer).is_some_and(|held| held != *edge)
                    && (self.may_hold(peer, edge) || self.is_own_of_this_record(edge))
            }
            Event::FriendUpdated { peer, .. } | Event::FriendChanged { peer, .. } => {
                user.has_friend(peer)
            }
            Event::FriendsGrouped { peers, .. } => peers.iter().all(|peer| user.has_friend(peer)),
            Event::GroupsAdded { names } => user.groups(Some(names)).is_empty(),
            Event::GroupsRemoved { names } => user.groups(Some(names)).len() == names.len(),
            Event::FriendRemoved { peer, edge, .. } => self.held(peer) == Some(*edge),
            Event::UnfriendAsked { peer } => user.is_imported() && !user.has_friend(peer),
            Event::OfferPending { peer, edge } | Event::OfferWithdrawn { peer, edge } => {
                self.offers(peer, edge)
            }
            Event::OfferConfirmed { peer, edge, mine, .. } => {
                self.offers(peer, edge) && (!mine || self.held(peer) == Some(*edge))
            }
            Event::OfferEnded { peer, edge, .. } => {
                let blocks = |event: &Event| matches!(event, Event::UserBlocked { target, .. } if target == peer);
                let is_own = self.commit.cause.is_none();
                self.offers(peer, edge) && (!is_own || self.commit.events.iter().any(blocks))
            }
            Event::OffersSettled { offered, waited, .. } => user.offers().any(|offer| {
                let OfferState::Confirmed { waited: has_waited, .. } = offer.state else {
                    return false;
                };
                offer.edge.version == *offered && has_waited == *waited
            }),
            Event::PeerForgotten { peer } => {
                user.blocks(peer) || user.has_friend(peer) || user.request_of(peer).is_some()
            }
            Event::RequestDropped { peer, edge } => self.waits(peer, edge),
            Event::SubscriptionSet(set) => {
                let known = user.subscriptions().and_then(|known| known.get(&set.name));
                known != Some(&**set)
            }
            Event::SubscriptionDeleted { name } => {
                user.subscriptions().is_some_and(|known| known.get(name).is_some())
            }
            Event::SubscriptionMoved(seek) => {
                let known = user.subscriptions();
                let last = known.and_then(|known| known.last_move(&seek.name));
                let sequence = known.map_or(0, |known| known.sequence);
                seek.term > last.map_or(0, |last| last.term) && u64::from(seek.term) <= sequence + 1
            }
            Event::ReplayBegun(replay) => {
                let last = user.subscriptions().map_or(0, |known| known.last_replay);
                replay.number == last.saturating_add(1)
            }
            Event::ReplayEnded { number, .. } => user
                .subscriptions()
                .is_some_and(|known| known.replays.iter().any(|one| one.number == *number)),
            Event::CallsForgotten { keys } => keys.iter().all(|key| user.kept(key).is_some()),
            Event::CallBegun { call, .. } => {
                user.kept(&call.key).is_none_or(|known| !known.is_fresh(self.commit.at))
            }
            Event::CallAnswered { call, .. } => user
                .kept(&call.key)
                .is_none_or(|known| known.answer.is_none() || !known.is_fresh(self.commit.at)),
            Event::VerdictGiven(_) | Event::CallDone { .. } => true,
        }
    }

    /// Which effect of the peer's `event` has to answer, if it needs one; and whether its record has a
    /// cause of that peer's.
    pub(super) fn needs(&self, event: &Event) -> Option<(Need, bool)> {
        let (peer, need) = match event {
            Event::FriendRemoved { peer, edge, reason, .. } => match reason {
                RemovalReason::BlockedByPeer => (peer, Asked::Sever(Severance::Blocked)),
                RemovalReason::DeletedByPeer => (peer, Asked::Sever(Severance::Deleted)),
                RemovalReason::PeerAccountDeleted => {
                    (peer, Asked::Sever(Severance::AccountDeleted))
                }
                RemovalReason::Withdrawn => (peer, Asked::Withdraw(edge.version)),
                RemovalReason::Blocked
                | RemovalReason::DeletedBoth
                | RemovalReason::DeletedOneWay
                | RemovalReason::DeletedSingle
                | RemovalReason::ClearedBoth
                | RemovalReason::ClearedSingle
                | RemovalReason::AccountDeleted => return None,
            },
            Event::FriendAdded { peer, edge, .. } | Event::FriendLinked { peer, edge } => {
                if self.waits(peer, edge) {
                    return None;
                }
                let own = self.offers(peer, edge);
                match self.held(peer) {
                    _ if edge.offerer == *peer => (peer, Asked::Propose(edge.version)),
                    // What the peer takes back was accepted by the edge that is held.
                    Some(held) if !own => (peer, Asked::Withdraw(held.version)),
                    _ => (peer, Asked::Confirm(edge.version)),
                }
            }
            Event::FriendRequested { peer, edge: offer, .. }
            | Event::FriendAccepted { peer, offer, .. }
            | Event::FriendRefused { peer, offer, .. } => {
                if self.waits(peer, offer) {
                    return None;
                }
                (peer, Asked::Propose(offer.version))
            }
            Event::OfferPending { peer, edge } => (peer, Asked::Pend(edge.version)),
            Event::OfferConfirmed { peer, edge, .. } => (peer, Asked::Confirm(edge.version)),
            // Without a cause it is the owner's own block that ends it.
            Event::OfferEnded { peer, edge, .. } => {
                self.commit.cause?;
                (peer, Asked::Refuse(edge.version))
            }
            Event::RequestDropped { peer, edge } => {
                return Some((Need::Dropped(edge.version), self.is_caused_by(peer)));
            }
            Event::AccountImported {}
            | Event::ProfileChanged(_)
            | Event::AccountDeleted {}
            | Event::UserBlocked { .. }
            | Event::UserUnblocked { .. }
            | Event::FriendOffered { .. }
            | Event::FriendUpdated { .. }
            | Event::FriendChanged { .. }
            | Event::GroupsAdded { .. }
            | Event::FriendsGrouped { .. }
            | Event::GroupsRemoved { .. }
            | Event::UnfriendAsked { .. }
            | Event::OfferWithdrawn { .. }
            | Event::OffersSettled { .. }
            | Event::PeerForgotten { .. }
            | Event::MessageAccepted(_)
            | Event::VerdictGiven(_)
            | Event::CallBegun { .. }
            | Event::CallDone { .. }
            | Event::CallAnswered { .. }
            | Event::CallsForgotten { .. }
            | Event::SubscriptionSet(_)
            | Event::SubscriptionDeleted { .. }
            | Event::SubscriptionMoved(_)
            | Event::ReplayBegun(_)
            | Event::ReplayEnded { .. } => return None,
        };
        Some((Need::One(need), self.is_caused_by(peer)))
    }
}
