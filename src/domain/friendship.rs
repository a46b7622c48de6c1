//! State of friends, and what a caller may ask about them. What is not settled is in `offer.rs`, and
//! how the other side answers in `handshake.rs`.

use super::account::{last_values, set_custom};
use super::card::Texts;
use super::card::{Card, CardChange};
use super::command::{FormerFriend, FriendUpdate, NewFriend};
use super::event::{Event, OfferForm, RemovalReason};
use super::friend::{Friend, FriendView};
use super::id::{EdgeId, Timestamp, UserId};
use super::offer::{Offer, OfferState, Request};
use super::policy::Policy;
use super::rejection::Rejection;
use super::user::{Decided, Outcome, User};

// What a caller asks of the user.
impl User {
    /// Whether `peer` is in this user's friend list.
    pub fn has_friend(&self, peer: &UserId) -> bool {
        self.friends.contains(peer)
    }

    /// How many friends there are.
    pub fn friends_count(&self) -> usize {
        self.friends.len()
    }

    /// The record of `peer` in the friend list.
    pub fn friend(&self, peer: &UserId) -> Option<FriendView<'_>> {
        self.friends.get(peer)
    }

    /// The friend list by peer, from `start` on, at most `max` entries.
    pub fn friends_page(&self, start: usize, max: usize) -> impl Iterator<Item = FriendView<'_>> {
        self.friends.page(start, max)
    }

    /// Sequence numbers of the friend list: of its standard fields and of its custom ones. Each grows
    /// with each record that changed them, and is 0 if none ever did.
    pub fn friends_sequences(&self) -> (u32, u32) {
        (self.friends_sequence, self.custom_sequence)
    }

    /// The friend list, by peer.
    pub fn friends(&self) -> impl Iterator<Item = FriendView<'_>> {
        self.friends.iter()
    }

    /// Offers that are not settled, by peer.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.rare.offers.iter()
    }

    /// The offer to `peer` that is not settled.
    pub fn offer_to(&self, peer: &UserId) -> Option<&Offer> {
        self.rare.offers.get(peer)
    }

    /// The request of `peer`'s that waits for the user's confirmation.
    pub fn request_of(&self, peer: &UserId) -> Option<&Request> {
        self.rare.requests.get(peer)
    }

    /// Requests that wait for the user's confirmation, by peer.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.rare.requests.iter()
    }

    /// Offers a friendship. While a like offer to the same peer is open, the item waits for that one,
    /// and an unlike one has to come again; a pending one is offered anew, with the new words.
    ///
    /// Rejects, in this order: `AccountUnknown`, `SelfTarget`, `AlreadyFriend` (one-way),
    /// `PeerBlocked`, `RequestsForbidden`, `FriendListFull`, `TooManyGroups`. The peer may refuse
    /// with more. Rule: rest-api.md 4.2; of its checks those come last that are the peer's, who is not
    /// asked about what is refused here: where the order matters, the edge looks.
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
        if let Some(open) = self.open_offer_to(&peer) {
            let alike = open.form == form && open.forced == forced;
            return self.join_offer(open, item, alike, policy);
        }
        if !forced && self.profile().is_some_and(|profile| profile.requests_forbidden) {
            return Err(Rejection::RequestsForbidden);
        }
        self.offer(item, form, forced, policy)
    }

    /// Imports a friend: one-way, without the peer's consent, but not against a blocklist. One who
    /// is a friend already gets the new record: at once, unless they may block the user. Rule: rest-api.md 4.3, extensions.md 7.
    pub(super) fn import_friend(&self, item: &NewFriend, policy: &Policy) -> Decided {
        let peer = item.user;
        if !item.imported {
            return Err(Rejection::AccountUnknown);
        }
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        if self.blocks(&peer) && !policy.import_ignores_blocklist {
            return Err(Rejection::PeerBlocked);
        }
        // Only where a friendship outlasts a block may a friend block the user; and a request that still
        // waits there would have been refused with it.
        let waits = self.rare.offers.get(&peer).is_some_and(Offer::is_pending);
        let may_block = policy.remain_friends && !policy.import_ignores_blocklist && !waits;
        if self.has_friend(&peer) && !may_block {
            self.check_groups(&item.card.groups, policy)?;
            let card = item.card.clone();
            return Ok((vec![Event::FriendUpdated { peer, card }], Outcome::Recorded));
        }
        if let Some(open) = self.open_offer_to(&peer) {
            return self.join_offer(open, item, open.form == OfferForm::Import, policy);
        }
        self.offer(item, OfferForm::Import, false, policy)
    }

    fn open_offer_to(&self, peer: &UserId) -> Option<&Offer> {
        self.rare.offers.get(peer).filter(|offer| offer.state == OfferState::Open)
    }

    /// What becomes of an item that meets an open offer to the same peer, as of an entry before it. A like
    /// one waits for its answer, and what it says anew counts as far as it would then.
    fn join_offer(&self, open: &Offer, item: &NewFriend, alike: bool, policy: &Policy) -> Decided {
        let &Offer { peer, edge, form, forced, over, .. } = open;
        if !alike {
            return Ok((Vec::new(), Outcome::Occupied { peer }));
        }
        self.check_groups(&item.card.groups, policy)?;
        let card = item.card.clone();
        let said = open.renewed.as_ref().unwrap_or(&open.card);
        // One-way there is nothing to wait for, and nothing to overwrite.
        let (again, despite_block) = (true, self.blocks(&peer));
        let renewed =
            (form != OfferForm::OneWay && **said != card).then_some(Event::FriendOffered {
                peer,
                edge,
                form,
                forced,
                over,
                again,
                despite_block,
                card,
            });
        Ok((renewed.into_iter().collect(), Outcome::Offering { peer, edge }))
    }

    fn offer(&self, item: &NewFriend, form: OfferForm, forced: bool, policy: &Policy) -> Decided {
        let peer = item.user;
        let known = self.friends.get(&peer);
        if known.is_none() && self.friends_expected(&peer) >= policy.friends_max {
            return Err(Rejection::FriendListFull);
        }
        self.check_groups(&item.card.groups, policy)?;
        let card = item.card.clone();
        let mut events = Vec::with_capacity(2);
        let mut edge = EdgeId { offerer: self.id, version: self.version.next() };
        let mut over = known.map(|friend| friend.edge(self.id));
        let mut again = false;
        match self.rare.offers.get(&peer) {
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
        let despite_block = self.blocks(&peer);
        events.push(Event::FriendOffered {
            peer,
            edge,
            form,
            forced,
            over,
            again,
            despite_block,
            card,
        });
        Ok((events, Outcome::Offering { peer, edge }))
    }

    /// How many friends there are if the peers other than `peer` accept what is open or waits for
    /// them. Both ends of a friendship ask this, so that no answer, however late, leads past the
    /// limit.
    pub(super) fn friends_expected(&self, peer: &UserId) -> usize {
        let coming = |offer: &&Offer| {
            offer.is_unanswered() && offer.peer != *peer && !self.friends.contains(&offer.peer)
        };
        self.friends.len() + self.rare.offers.iter().filter(coming).count()
    }

    /// Changes the record of a friend. Repeat: the same values record nothing.
    ///
    /// Rejects: `NotFriend`, `TooManyGroups`. Rule: rest-api.md 4.4.
    pub(super) fn update_friend(&self, item: &FriendUpdate, policy: &Policy) -> Decided {
        let peer = item.user;
        let friend = self.friends.get(&peer).ok_or(Rejection::NotFriend)?;
        if let Some(groups) = &item.change.groups {
            self.check_groups(groups, policy)?;
        }
        let known = friend.card();
        let news = |value: &Option<Box<str>>, known: &str| value.clone().filter(|v| **v != *known);
        let custom = last_values(&item.change.custom).filter(|(tag, value)| {
            let known = known.and_then(|card| card.custom().find(|(known, _)| *known == &**tag));
            known.map_or("", |(_, value)| value) != &**value
        });
        let change = CardChange {
            remark: news(&item.change.remark, known.map_or("", |card| card.remark())),
            groups: item.change.groups.clone().filter(|groups| !are(friend.groups(), groups)),
            custom: custom.cloned().collect(),
        };
        let is_new = change != CardChange::default();
        let events = is_new.then_some(Event::FriendChanged { peer, change });
        Ok((events.into_iter().collect(), Outcome::Recorded))
    }

    /// What a new friendship says about one who is in the list already: a remark that is given, and
    /// groups besides those that there are.
    pub(super) fn supplement(&self, friend: FriendView<'_>, card: &Card) -> Option<Event> {
        let known = friend.card();
        let remark = Some(&card.remark).filter(|remark| {
            !remark.is_empty() && known.is_none_or(|known| *known.remark() != ***remark)
        });
        let mut groups: Vec<Box<str>> = friend.groups().map(Into::into).collect();
        let is_in = |group: &str| friend.groups().any(|known| known == group);
        groups.extend(card.groups.iter().filter(|group| !is_in(group)).cloned());
        let change = CardChange {
            remark: remark.cloned(),
            groups: Some(groups).filter(|groups| groups.len() > friend.groups().len()),
            custom: Vec::new(),
        };
        let peer = friend.peer;
        (change != CardChange::default()).then_some(Event::FriendChanged { peer, change })
    }

    /// Removes all friends; with `both`, the user from their lists as well. Offers to others stay.
    /// One outcome per friend; one if there is none, which with `both` waits for what was removed before.
    /// If one has to come again, none is removed: a record of this is of all that there were.
    /// Rule: rest-api.md 4.6.
    pub(super) fn clear_friends(&self, both: bool) -> Vec<(Vec<Event>, Outcome)> {
        let reason = if both { RemovalReason::ClearedBoth } else { RemovalReason::ClearedSingle };
        let cleared = self.friends.iter().map(|friend| {
            let outcome =
                if both { Outcome::Severing { peer: friend.peer } } else { Outcome::Recorded };
            self.part(&friend, reason, outcome)
        });
        let mut cleared: Vec<(Vec<Event>, Outcome)> = cleared.collect();
        let occupied = |(_, outcome): &(_, Outcome)| matches!(outcome, Outcome::Occupied { .. });
        if let Some((_, occupied)) = cleared.iter().find(|one| occupied(one)).cloned() {
            return vec![(Vec::new(), occupied); cleared.len()];
        }
        if cleared.is_empty() {
            let outcome = if both { Outcome::Clearing } else { Outcome::Recorded };
            cleared.push((Vec::new(), outcome));
        }
        // Each friend of a request would announce all of them.
        let mut announced = Vec::new();
        for (events, _) in &mut cleared {
            events.retain(|event| {
                let Event::OffersSettled { offered, waited, .. } = event else { return true };
                let is_new = !announced.contains(&(*offered, *waited));
                announced.push((*offered, *waited));
                is_new
            });
        }
        cleared
    }

    /// Ends a friendship by the owner's wish, with the offer to the peer that is under way: else its
    /// answer would bring the friend back after the removal. If an offer of the peer's has crossed it,
    /// a removal from the one list has to come again when both are answered: until then, nobody knows
    /// which of the two the peer will go on with.
    fn part(
        &self,
        friend: &FriendView<'_>,
        reason: RemovalReason,
        outcome: Outcome,
    ) -> (Vec<Event>, Outcome) {
        let (peer, edge) = (friend.peer, friend.edge(self.id));
        let offer = self.rare.offers.get(&peer).filter(|offer| offer.is_unanswered());
        let crossed = offer.is_some_and(|offer| offer.over != Some(edge)) && edge.offerer == peer;
        if crossed && outcome == Outcome::Recorded {
            return (Vec::new(), Outcome::Occupied { peer });
        }
        let mut events: Vec<Event> = self.end(friend, reason, false).collect();
        let taken = offer.map(|offer| Event::OfferWithdrawn { peer, edge: offer.edge });
        let waits = outcome == Outcome::Recorded && taken.is_some();
        events.extend(taken);
        (events, if waits { Outcome::Withdrawing { peer } } else { outcome })
    }

    /// Removes a friend; with `both`, the user from the peer's list as well. A request that waits for the
    /// peer is taken back.
    ///
    /// Rejects: `SelfTarget`, `NotFriend`. Rule: rest-api.md 4.5.
    pub(super) fn remove_friend(&self, target: &FormerFriend, both: bool) -> Decided {
        let peer = target.user;
        if peer == self.id {
            return Err(Rejection::SelfTarget);
        }
        match self.friends.get(&peer) {
            Some(friend) if both => {
                let reason = if target.has_me {
                    RemovalReason::DeletedBoth
                } else {
                    RemovalReason::DeletedOneWay
                };
                Ok(self.part(&friend, reason, Outcome::Severing { peer }))
            }
            Some(friend) => Ok(self.part(&friend, RemovalReason::DeletedSingle, Outcome::Recorded)),
            // Whose confirmation is awaited: the request is taken back.
            None if self.rare.offers.get(&peer).is_some_and(Offer::is_pending)
                && !target.has_me =>
            {
                let offer = self.rare.offers.get(&peer).into_iter();
                let taken = offer.map(|offer| Event::OfferWithdrawn { peer, edge: offer.edge });
                Ok((taken.collect(), Outcome::Withdrawing { peer }))
            }
            None if both && target.has_me => {
                let mut events = vec![Event::UnfriendAsked { peer }];
                let offer = self.rare.offers.get(&peer).filter(|offer| offer.is_unanswered());
                events.extend(offer.map(|offer| Event::OfferWithdrawn { peer, edge: offer.edge }));
                Ok((events, Outcome::Severing { peer }))
            }
            None => Err(Rejection::NotFriend),
        }
    }

    /// Ends a friendship. If it is not announced yet, because it waits for others of its request, it
    /// is announced now: subscribers hear of a beginning before they hear of the end.
    pub(super) fn end(
        &self,
        friend: &FriendView<'_>,
        reason: RemovalReason,
        announced: bool,
    ) -> impl Iterator<Item = Event> + use<> {
        let (peer, edge) = (friend.peer, friend.edge(self.id));
        let settled = self.unannounced(&peer);
        settled.into_iter().chain([Event::FriendRemoved { peer, edge, reason, announced }])
    }
}

/// Whether `known` are these groups, in their order.
fn are(known: Texts<'_>, groups: &[Box<str>]) -> bool {
    known.eq(groups.iter().map(|group| &**group))
}

// How facts change the user.
impl User {
    pub(super) fn note_friend(&mut self, peer: UserId, edge: EdgeId, card: &Card, at: Timestamp) {
        self.note_groups(&card.groups);
        self.touch_friends(!card.custom.is_empty(), !card.groups.is_empty());
        self.friends.put(&Friend {
            peer,
            offered_by_owner: edge.offerer == self.id,
            offered_at: edge.version,
            stood_before: false,
            at: card.added_at.unwrap_or(at.unix_seconds()),
            card: Some(Box::new(card.clone())),
        });
    }

    pub(super) fn note_link(&mut self, peer: &UserId, edge: EdgeId) {
        let owner = self.id;
        self.change_friend(peer, |friend| {
            friend.offered_by_owner = edge.offerer == owner;
            friend.offered_at = edge.version;
            friend.stood_before = true;
        });
    }

    pub(super) fn note_card(&mut self, peer: &UserId, card: &Card) {
        self.note_groups(&card.groups);
        let Some(friend) = self.friends.get(peer) else { return };
        let before = friend.card().map(Card::from).unwrap_or_default();
        self.touch_friends(before.custom != card.custom, before.groups != card.groups);
        self.change_friend(peer, |friend| {
            friend.at = card.added_at.unwrap_or(friend.at);
            friend.card = Some(Box::new(card.clone()));
        });
    }

    pub(super) fn note_card_change(&mut self, peer: &UserId, change: &CardChange) {
        let CardChange { remark, groups, custom } = change;
        self.note_groups(groups.as_deref().unwrap_or_default());
        if !self.friends.contains(peer) {
            return;
        }
        self.touch_friends(!custom.is_empty(), groups.is_some());
        self.change_card(peer, |card| {
            if let Some(remark) = remark {
                card.remark.clone_from(remark);
            }
            if let Some(groups) = groups {
                card.groups.clone_from(groups);
            }
            set_custom(&mut card.custom, custom);
        });
    }

    fn change_friend(&mut self, peer: &UserId, change: impl FnOnce(&mut Friend)) {
        let Some(mut friend) = self.friends.get(peer).map(Friend::from) else { return };
        change(&mut friend);
        self.friends.put(&friend);
    }

    /// Changes a friend's record.
    pub(super) fn change_card(&mut self, peer: &UserId, change: impl FnOnce(&mut Card)) {
        self.change_friend(peer, |friend| change(friend.card.get_or_insert_default()));
    }

    pub(super) fn note_unfriended(&mut self, peer: &UserId) {
        let Some(friend) = self.friends.get(peer) else { return };
        let custom = friend.card().is_some_and(|card| card.custom().next().is_some());
        let groups = friend.groups().len() > 0;
        self.friends.remove(peer);
        self.touch_friends(custom, groups);
    }

    fn touch_friends(&mut self, custom: bool, groups: bool) {
        let now = self.sequence_now();
        self.friends_sequence = now;
        if custom {
            self.custom_sequence = now;
        }
        if groups {
            self.groups_sequence = now;
        }
    }
}
