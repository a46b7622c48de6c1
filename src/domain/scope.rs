//! The users that a command, an event or an effect may change something about.

use super::command::Command;
use super::event::Event;
use super::id::{UserId, Version};
use super::offer::OfferState;
use super::user::User;

fn sorted(peers: impl IntoIterator<Item = UserId>) -> Vec<UserId> {
    let mut peers: Vec<UserId> = peers.into_iter().collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

impl User {
    /// The peers whose rows `command` can change, and no others that exist: what a caller looks at
    /// before and after to find the rows that did change.
    pub fn scope(&self, command: &Command) -> Vec<UserId> {
        let named: Vec<UserId> = match command {
            Command::ImportAccount(_)
            | Command::SetProfile(_)
            | Command::Send(_)
            | Command::BeginCall
            | Command::KeepAnswer(_)
            | Command::SetSubscription { .. }
            | Command::SealAnew { .. }
            | Command::DeleteSubscription { .. }
            | Command::MoveSubscription { .. }
            | Command::BeginReplay { .. }
            | Command::EndReplay { .. } => Vec::new(),
            Command::Judged(judged) => return self.scope(&judged.command),
            Command::DeleteAccount | Command::ClearFriends { .. } => return self.peers(),
            Command::UpdateFriends { items } => {
                return sorted(items.iter().map(|item| item.user));
            }
            Command::AddGroups { members, .. } => {
                return sorted(members.iter().map(|member| member.user));
            }
            Command::RemoveGroups { names } => return sorted(self.members_of(names)),
            Command::AnswerRequests { items } => items.iter().map(|item| item.user).collect(),
            Command::Block { targets } | Command::Unblock { targets } => {
                targets.iter().map(|target| target.user).collect()
            }
            Command::AddFriends { items, .. } => items.iter().map(|item| item.user).collect(),
            Command::RemoveFriends { targets, .. } => {
                targets.iter().map(|target| target.user).collect()
            }
        };
        self.with_offers(named)
    }

    /// Like [`User::scope`], for the events of a record.
    pub fn scope_of_events(&self, events: &[Event]) -> Vec<UserId> {
        let mut named: Vec<UserId> = events.iter().filter_map(Event::peer).collect();
        for event in events {
            match event {
                Event::AccountDeleted {} => named.extend(self.peers()),
                Event::OffersSettled { offered, .. } => named.extend(self.offered_at(*offered)),
                Event::FriendsGrouped { peers, .. } => named.extend(peers),
                Event::GroupsRemoved { names } => named.extend(self.members_of(names)),
                Event::CallBegun { call, .. }
                | Event::CallDone { call, .. }
                | Event::CallAnswered { call, .. } => {
                    named.push(call.key);
                }
                Event::CallsForgotten { keys } => named.extend(keys),
                Event::OfferConfirmed { peer, .. }
                | Event::OfferPending { peer, .. }
                | Event::OfferEnded { peer, .. } => {
                    named.extend(self.calls_awaiting(&[*peer]));
                }
                // The row of the peer at most.
                Event::UserBlocked { .. }
                | Event::UserUnblocked { .. }
                | Event::FriendOffered { .. }
                | Event::FriendRequested { .. }
                | Event::FriendAccepted { .. }
                | Event::FriendRefused { .. }
                | Event::FriendAdded { .. }
                | Event::FriendLinked { .. }
                | Event::FriendUpdated { .. }
                | Event::FriendChanged { .. }
                | Event::FriendRemoved { .. }
                | Event::UnfriendAsked { .. }
                | Event::OfferWithdrawn { .. }
                | Event::PeerForgotten { .. }
                | Event::RequestDropped { .. }
                // Only the head row, which is looked at in any case.
                | Event::AccountImported {}
                | Event::ProfileChanged(_)
                | Event::GroupsAdded { .. }
                | Event::MessageAccepted(_)
                | Event::VerdictGiven(_)
                | Event::SubscriptionSet(_)
                | Event::SubscriptionDeleted { .. }
                | Event::SubscriptionMoved(_)
                | Event::ReplayBegun(_)
                | Event::ReplayEnded { .. } => {}
            }
        }
        sorted(named)
    }

    /// Like [`User::scope`], for `count` effects of `peer`'s, one after the other.
    pub fn scope_of_effects(&self, peer: UserId, count: usize) -> Vec<UserId> {
        let mut named = self.with_offers(vec![peer]);
        // Behind the first one an offer may be confirmed that was open before; if the next one ends that
        // friendship, the whole request is announced early.
        if count > 1
            && let Some(offer) = self.rare.offers.get(&peer)
        {
            named.extend(self.offered_at(offer.edge.version));
        }
        sorted(named)
    }

    /// An announcement closes every offer of its request. It comes with the request's last answer, or
    /// early, when a confirmed friendship of the request is about to end; any other answer leaves the
    /// rest of the request alone, however large it is.
    fn with_offers(&self, mut named: Vec<UserId>) -> Vec<UserId> {
        named.sort_unstable();
        named.dedup();
        let calls = self.calls_awaiting(&named);
        let mut settling: Vec<Version> = Vec::new();
        for offer in named.iter().filter_map(|peer| self.rare.offers.get(peer)) {
            let version = offer.edge.version;
            let mut same = self.rare.offers.iter().filter(|other| other.edge.version == version);
            if !settling.contains(&version)
                && (matches!(offer.state, OfferState::Confirmed { .. })
                    || !same.any(|other| {
                        other.state == OfferState::Open && named.binary_search(&other.peer).is_err()
                    }))
            {
                settling.push(version);
            }
        }
        if !settling.is_empty() || !calls.is_empty() {
            for version in settling {
                named.extend(self.offered_at(version));
            }
            named.extend(calls);
            named.sort_unstable();
            named.dedup();
        }
        named
    }

    fn offered_at(&self, version: Version) -> impl Iterator<Item = UserId> {
        let offers = self.rare.offers.iter().filter(move |offer| offer.edge.version == version);
        offers.map(|offer| offer.peer)
    }

    /// Every peer that a row is about, by name, each once.
    pub fn peers(&self) -> Vec<UserId> {
        let mut peers: Vec<UserId> = self
            .blocks
            .peers()
            .chain(self.friends.peers())
            .chain(self.rare.offers.iter().map(|offer| offer.peer))
            .chain(self.rare.requests.iter().map(|request| request.peer))
            .chain(self.rare.calls.iter().map(|kept| kept.call.key))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}
