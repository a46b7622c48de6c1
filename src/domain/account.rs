//! State and rules of accounts and the profile fields that other rules read.

use serde::{Deserialize, Serialize};

use super::event::{AllowType, Event, ProfileChange, RemovalReason};
use super::id::UserId;
use super::policy::Policy;
use super::rejection::Rejection;
use super::user::User;

/// Profile fields that were set at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// `Tag_Profile_IM_Nick`.
    pub nick: Box<str>,
    /// `Tag_Profile_IM_Image`.
    pub face_url: Box<str>,
    /// `Tag_Profile_IM_AllowType`; `None` = the app's default.
    pub allow_type: Option<AllowType>,
    /// `Tag_Profile_IM_AdminForbidType` is `AdminForbid_Type_SendOut`.
    pub requests_forbidden: bool,
}

impl User {
    /// The profile, if any field was ever set.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_deref()
    }

    /// Whom the user lets add them. Rule: rest-api.md 4.2, "an account that never set `AllowType`".
    pub(super) fn allow_type(&self, policy: &Policy) -> AllowType {
        self.profile
            .as_ref()
            .and_then(|profile| profile.allow_type)
            .unwrap_or(policy.default_allow_type)
    }

    /// Imports the account or updates it. Repeat: the same values record nothing. An empty nick or
    /// face URL counts as not given. Rule: rest-api.md 6.1.
    pub(super) fn import(&self, change: &ProfileChange) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.imported {
            events.push(Event::AccountImported {});
        }
        let profile = self.profile.as_deref().cloned().unwrap_or_default();
        let given = |value: &Option<Box<str>>, known: &str| {
            value.clone().filter(|value| !value.is_empty() && **value != *known)
        };
        let change = ProfileChange {
            nick: given(&change.nick, &profile.nick),
            face_url: given(&change.face_url, &profile.face_url),
            allow_type: change.allow_type.filter(|value| Some(*value) != profile.allow_type),
            requests_forbidden: change
                .requests_forbidden
                .filter(|value| *value != profile.requests_forbidden),
        };
        if change != ProfileChange::default() {
            events.push(Event::ProfileChanged(change));
        }
        events
    }

    pub(super) fn change_profile(&mut self, change: &ProfileChange) {
        let profile = self.profile.get_or_insert_default();
        if let Some(nick) = &change.nick {
            profile.nick = nick.clone();
        }
        if let Some(face_url) = &change.face_url {
            profile.face_url = face_url.clone();
        }
        if change.allow_type.is_some() {
            profile.allow_type = change.allow_type;
        }
        if let Some(forbidden) = change.requests_forbidden {
            profile.requests_forbidden = forbidden;
        }
    }

    /// Deletes the account: ends its friendships on both sides, refuses the requests it holds and
    /// takes back its own. Rule: rest-api.md 6.3.
    pub(super) fn delete(&self) -> Vec<Event> {
        let offers = self
            .offers
            .iter()
            .filter(|offer| offer.is_unanswered())
            .map(|offer| Event::OfferWithdrawn { peer: offer.peer, edge: offer.edge });
        let requests = self.requests.iter().map(|request| Event::FriendRefused {
            peer: request.peer,
            offer: request.edge,
            why: Rejection::AccountUnknown,
        });
        let friends = self.friends.iter().map(|friend| Event::FriendRemoved {
            peer: friend.peer,
            edge: friend.edge(self.id),
            reason: RemovalReason::AccountDeleted,
            announced: false,
        });
        let settled = self.settlements().into_iter();
        settled
            .chain(friends)
            .chain(offers)
            .chain(requests)
            .chain([Event::AccountDeleted {}])
            .collect()
    }

    pub(super) fn note_forgotten(&mut self, peer: &UserId) {
        if self.blocks.contains(peer) {
            self.note_unblock(peer);
        }
        self.friends.remove(peer);
        self.requests.remove(peer);
    }

    /// What is left of a deleted account is its version, so that the stream goes on without a gap
    /// and no edge id is ever used again.
    pub(super) fn forget_everything(&mut self) {
        *self = Self { version: self.version, ..Self::new(self.id) };
    }
}
