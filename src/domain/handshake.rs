//! What another user's fact asks of the user: answers to offers, and their announcement. The handshake
//! of cluster.md 5, checked by the model in `tests/it/pairing_model`.

use super::about::OfferOutcome;
use super::card::Card;
use super::command::RequestAnswer;
use super::effect::{Effect, Severance};
use super::event::{Agreement, Event, OfferForm, RemovalReason, Settled};
use super::id::{EdgeId, Timestamp, UserId, Version};
use super::offer::{Offer, OfferState};
use super::policy::Policy;
use super::profile::AllowType;
use super::rejection::Rejection;
use super::user::{Outcome, User};

impl User {
    /// Answers what follows from one effect of `peer`'s. Rule: the table of cluster.md 5.
    pub(super) fn answer(&self, peer: UserId, effect: &Effect, policy: &Policy) -> Vec<Event> {
        match effect {
            Effect::Sever { why, keep_friend, announced } => {
                self.be_severed(peer, *why, *keep_friend, *announced)
            }
            Effect::Propose { edge, form, forced, over, again, card } => {
                let waits =
                    self.rare.requests.get(&peer).is_some_and(|request| request.edge == *edge);
                if *again && !waits {
                    // It was answered by now, and the answer is on the way.
                    return Vec::new();
                }
                match self.consider(peer, *form, *forced, *over, policy) {
                    Ok(Consent::Now) => self.accept(peer, (*edge, *form), card, None, policy),
                    Ok(Consent::Later) => {
                        vec![Event::FriendRequested { peer, edge: *edge, card: card.clone() }]
                    }
                    Err(why) => vec![Event::FriendRefused { peer, offer: *edge, why }],
                }
            }
            Effect::Confirm { offer, edge, added, agreement } => {
                let confirmed =
                    Confirmed { offer: *offer, edge: *edge, theirs: *added, agreement: *agreement };
                self.confirmed(peer, confirmed, policy)
            }
            Effect::Pend { offer } => match self.open_offer(&peer, offer) {
                Some(_) => vec![Event::OfferPending { peer, edge: *offer }],
                None => Vec::new(),
            },
            Effect::Refuse { offer, why } => match self.open_offer(&peer, offer) {
                Some(_) => vec![Event::OfferEnded { peer, edge: *offer, why: *why }],
                None => Vec::new(),
            },
            Effect::Withdraw { offer } => self.release(peer, offer),
            // Asked of the partition, which tells each user that names the sender.
            Effect::Forget => Vec::new(),
        }
    }

    /// Lets go of an offer of `peer`'s that is taken back, whether it waits or was accepted already.
    /// Nobody has announced it: that is the offerer's part, when it is confirmed. A friend who was in
    /// the list before the offer stays there, by an edge of the user's own.
    fn release(&self, peer: UserId, offer: &EdgeId) -> Vec<Event> {
        let request = self.rare.requests.get(&peer).filter(|request| request.edge == *offer);
        let friend = self.friends.get(&peer).filter(|friend| friend.edge(self.id) == *offer);
        let dropped = request.map(|_| Event::RequestDropped { peer, edge: *offer });
        let mut events: Vec<Event> = dropped.into_iter().collect();
        match friend {
            Some(friend) if friend.stood_before() => {
                let edge = EdgeId { offerer: self.id, version: self.version.next() };
                events.push(Event::FriendLinked { peer, edge });
            }
            Some(friend) => events.extend(self.end(&friend, RemovalReason::Withdrawn, true)),
            None => {}
        }
        events
    }

    fn open_offer(&self, peer: &UserId, edge: &EdgeId) -> Option<&Offer> {
        self.rare.offers.get(peer).filter(|offer| offer.edge == *edge && offer.is_unanswered())
    }

    fn be_severed(
        &self,
        peer: UserId,
        why: Severance,
        keep_friend: bool,
        announced: bool,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        // An unanswered offer of our own is not cancelled here: its answer is on the way.
        if let Some(friend) = self.friends.get(&peer).filter(|_| !keep_friend) {
            events.extend(self.end(&friend, why.removal_reason(), announced));
        }
        let drops_request = match why {
            Severance::Blocked | Severance::AccountDeleted => true,
            Severance::Deleted => false,
        };
        if let Some(request) = self.rare.requests.get(&peer).filter(|_| drops_request) {
            let offer = request.edge;
            events.push(if keep_friend {
                // The offer was open when the peer blocked us, and is not ended there.
                Event::FriendRefused { peer, offer, why: Rejection::PeerBlocked }
            } else {
                Event::RequestDropped { peer, edge: offer }
            });
        }
        events
    }

    /// Why the user would refuse an offer of `peer`'s, who has the user as a friend already if it is `over`
    /// that; nothing if they would accept it or let it wait.
    pub fn would_refuse(
        &self,
        peer: UserId,
        form: OfferForm,
        forced: bool,
        over: bool,
        policy: &Policy,
    ) -> Option<Rejection> {
        self.consider(peer, form, forced, over, policy).err()
    }

    /// Judges a proposal. Rule: rest-api.md 4.2, the checks that are the wanted friend's.
    fn consider(
        &self,
        peer: UserId,
        form: OfferForm,
        forced: bool,
        over: bool,
        policy: &Policy,
    ) -> Result<Consent, Rejection> {
        if !self.imported {
            return Err(Rejection::AccountUnknown);
        }
        let known = self.has_friend(&peer);
        if form.is_two_way() && over && known {
            return Err(Rejection::AlreadyFriend);
        }
        let import = form == OfferForm::Import;
        if self.blocks(&peer) && !(import && policy.import_ignores_blocklist) {
            return Err(Rejection::BlockedByPeer);
        }
        if import {
            return Ok(Consent::Now);
        }
        if form.is_two_way() && !known && self.friends_expected(&peer) >= policy.friends_max {
            return Err(Rejection::PeerFriendListFull);
        }
        if forced {
            return Ok(Consent::Now);
        }
        match self.allow_type(policy) {
            AllowType::DenyAny => Err(Rejection::PeerAcceptsNobody),
            AllowType::AllowAny => Ok(Consent::Now),
            AllowType::NeedConfirm if !form.is_two_way() => Ok(Consent::Now),
            // Who has asked for the same friendship has confirmed it.
            AllowType::NeedConfirm if self.crossing_offer(&peer).is_some() => Ok(Consent::Now),
            AllowType::NeedConfirm
                if !self.rare.requests.contains(&peer)
                    && self.rare.requests.len() >= policy.requests_max =>
            {
                Err(Rejection::TooManyRequests)
            }
            AllowType::NeedConfirm => Ok(Consent::Later),
        }
    }

    fn crossing_offer(&self, peer: &UserId) -> Option<&Offer> {
        self.rare.offers.get(peer).filter(|offer| offer.form.is_two_way() && offer.is_unanswered())
    }

    /// Answers a request that waits for the user. What is answered with yes is as if it had been
    /// accepted when it came.
    ///
    /// Rejects: `SelfTarget`, `RequestUnknown`, `FriendListFull`, `TooManyGroups`. Rule: extensions.md 2.
    pub(super) fn answer_request(
        &self,
        answer: &RequestAnswer,
        policy: &Policy,
    ) -> Result<(Vec<Event>, Outcome), Rejection> {
        let peer = answer.user;
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        let request = self.rare.requests.get(&peer).ok_or(Rejection::RequestUnknown)?;
        let offer = request.edge;
        let events = match answer.agreement {
            None => vec![Event::FriendRefused { peer, offer, why: Rejection::Declined }],
            Some(Agreement::OneWay) => {
                let asked = (offer, OfferForm::OneWay);
                self.accept(peer, asked, &request.card, answer.agreement, policy)
            }
            Some(Agreement::Both) => {
                let is_new = !self.has_friend(&peer);
                if is_new && self.friends_expected(&peer) >= policy.friends_max {
                    return Err(Rejection::FriendListFull);
                }
                self.check_groups(&answer.groups, policy)?;
                let card = Card {
                    remark: answer.remark.clone(),
                    groups: answer.groups.clone(),
                    ..(*request.card).clone()
                };
                let asked = (offer, OfferForm::TwoWay);
                self.accept(peer, asked, &card, answer.agreement, policy)
            }
        };
        Ok((events, Outcome::Answering { peer }))
    }

    fn accept(
        &self,
        peer: UserId,
        (offer, form): (EdgeId, OfferForm),
        card: &Card,
        agreement: Option<Agreement>,
        policy: &Policy,
    ) -> Vec<Event> {
        let edge = offer;
        if !form.is_two_way() {
            let (added, despite_block) = (false, self.blocks(&peer));
            return vec![Event::FriendAccepted {
                peer,
                offer,
                edge,
                added,
                agreement,
                despite_block,
            }];
        }
        // An offer of our own that crosses this one stays open: the peer may have taken this one back
        // already, and knows nothing of what we do here. Its answer is on the way, see `confirmed`.
        let known = self.friends.get(&peer);
        let joined = match known {
            Some(_) => Event::FriendLinked { peer, edge },
            None => {
                let card = self.crossing_offer(&peer).map_or(card, |mine| &mine.card);
                Event::FriendAdded { peer, edge, card: self.fitting(card, policy) }
            }
        };
        let added = known.is_none();
        let supplement = known.and_then(|friend| self.supplement(friend, card));
        let despite_block = false;
        let accepted = Event::FriendAccepted { peer, offer, edge, added, agreement, despite_block };
        [joined].into_iter().chain(supplement).chain([accepted]).collect()
    }

    fn confirmed(
        &self,
        peer: UserId,
        Confirmed { offer, edge, theirs, agreement }: Confirmed,
        policy: &Policy,
    ) -> Vec<Event> {
        // A user who closes an offer before its answer severs or withdraws in the same record. So a yes
        // that comes later is about nothing that the peer still has.
        let Some(mine) = self.open_offer(&peer, &offer) else { return Vec::new() };
        let two_way = mine.form.is_two_way() && agreement != Some(Agreement::OneWay);
        let holds = self.friends.get(&peer).map(|friend| friend.edge(self.id));
        // Another edge than the offer's is that of the peer's own offer, which we have accepted while
        // ours was waiting: that one we hold, or have let go of since.
        let is_new = edge == offer;
        let grew = is_new && holds.is_none();
        let mut events = Vec::with_capacity(3);
        match holds {
            None if is_new => {
                let card = self.fitting(&mine.card, policy);
                events.push(Event::FriendAdded { peer, edge, card });
            }
            // If we hold an offer of the peer's that crossed ours, the peer is about to learn that, and
            // holds ours: both go on with the smaller of the two.
            Some(held) if is_new && two_way && (mine.over == Some(held) || edge < held) => {
                events.push(Event::FriendLinked { peer, edge });
            }
            None | Some(_) => {}
        }
        if let Some(friend) = self.friends.get(&peer).filter(|_| is_new) {
            let card = self.fitting(&mine.card, policy);
            if mine.form == OfferForm::Import {
                events.push(Event::FriendUpdated { peer, card });
            } else {
                events.extend(self.supplement(friend, &card));
            }
        }
        events.push(Event::OfferConfirmed { peer, edge: offer, mine: grew, theirs, agreement });
        if let Some(request) = self.rare.requests.get(&peer).filter(|_| two_way) {
            let offer = request.edge;
            let (added, agreement, despite_block) = (false, None, false);
            events.push(Event::FriendAccepted {
                peer,
                offer,
                edge,
                added,
                agreement,
                despite_block,
            });
        }
        events
    }

    /// Announces what came of the requests whose last open offer was answered just now: all
    /// friendships of one request stand in one event, because subscribers hear of them in one call.
    /// One that had been waiting for the peer's answer is announced alone: that was another call.
    pub(super) fn settle(&mut self, events: &mut Vec<Event>, at: Timestamp) {
        let waited = events.iter().find_map(|event| {
            let (_, edge, outcome) = event.offer_outcome()?;
            (outcome == OfferOutcome::Made { waited: true }).then_some(edge.version)
        });
        if let Some(event) = waited.and_then(|offered| self.settlement(offered, true)) {
            self.evolve(&event, at);
            events.push(event);
        }
        let over = events.iter().filter_map(Event::offer_outcome);
        let mut answered: Vec<Version> = over.map(|(_, edge, _)| edge.version).collect();
        answered.dedup();
        for offered in answered {
            let mut offers = self.rare.offers.iter().filter(|offer| offer.edge.version == offered);
            if offers.any(|offer| offer.state == OfferState::Open) {
                continue;
            }
            if let Some(event) = self.settlement(offered, false) {
                self.evolve(&event, at);
                events.push(event);
            }
        }
    }

    /// The announcement that is owed for the friendship with `peer`, with the others of its request.
    pub(super) fn unannounced(&self, peer: &UserId) -> Option<Event> {
        let confirmed = self.rare.offers.get(peer).filter(|offer| !offer.is_unanswered())?;
        self.settlement(confirmed.edge.version, false)
    }

    /// What came of the offers made at `offered`, as far as they are confirmed and not announced.
    fn settlement(&self, offered: Version, after_waiting: bool) -> Option<Event> {
        let mut forced = false;
        let mut confirmed = false;
        let mut friends = Vec::new();
        let offers = self.rare.offers.iter();
        let mut offers: Vec<&Offer> =
            offers.filter(|offer| offer.edge.version == offered).collect();
        offers.sort_by_key(|offer| offer.place);
        for offer in offers {
            let OfferState::Confirmed { mine, theirs, waited } = offer.state else { continue };
            if waited != after_waiting {
                continue;
            }
            confirmed = true;
            forced = offer.forced;
            if offer.form != OfferForm::Import && (mine || theirs) {
                friends.push(Settled { peer: offer.peer, mine, theirs });
            }
        }
        confirmed.then_some(Event::OffersSettled {
            offered,
            forced,
            waited: after_waiting,
            friends,
        })
    }

    /// The announcements still owed, for an account that is deleted.
    pub(super) fn settlements(&self) -> Vec<Event> {
        let mut versions: Vec<Version> =
            self.rare.offers.iter().map(|offer| offer.edge.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions.into_iter().filter_map(|offered| self.settlement(offered, false)).collect()
    }
}

/// The peer's yes to an offer.
struct Confirmed {
    offer: EdgeId,
    /// The edge that both hold.
    edge: EdgeId,
    /// The peer's list grew.
    theirs: bool,
    /// The offer had been waiting for the peer, who said this.
    agreement: Option<Agreement>,
}

/// How a proposal is accepted.
enum Consent {
    Now,
    Later,
}
