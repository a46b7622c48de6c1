//! State and rules of accounts and the profile fields that other rules read.

use serde::{Deserialize, Serialize};

use super::event::{Event, RemovalReason};
use super::id::UserId;
use super::kept::CameTo;
use super::policy::Policy;
use super::profile::{AllowType, Gender, ProfileChange};
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
    /// `Tag_Profile_IM_Gender`.
    pub gender: Gender,
    /// `Tag_Profile_IM_BirthDay`.
    pub birthday: u32,
    /// `Tag_Profile_IM_Location`.
    pub location: Box<str>,
    /// `Tag_Profile_IM_SelfSignature`.
    pub self_signature: Box<str>,
    /// `Tag_Profile_IM_Language`.
    pub language: u32,
    /// `Tag_Profile_IM_MsgSettings`.
    pub msg_settings: u32,
    /// `Tag_Profile_IM_Level`.
    pub level: u32,
    /// `Tag_Profile_IM_Role`.
    pub role: u32,
    /// Custom fields that have a value: tag and value.
    pub custom: Vec<(Box<str>, Box<str>)>,
}

/// The value, if it is a new one.
fn news<T: Clone + PartialEq>(given: &Option<T>, known: &T) -> Option<T> {
    given.clone().filter(|value| value != known)
}

impl Profile {
    /// What of `change` is new.
    fn news(&self, change: &ProfileChange) -> ProfileChange {
        ProfileChange {
            nick: news(&change.nick, &self.nick),
            face_url: news(&change.face_url, &self.face_url),
            allow_type: change.allow_type.filter(|value| Some(*value) != self.allow_type),
            requests_forbidden: news(&change.requests_forbidden, &self.requests_forbidden),
            gender: news(&change.gender, &self.gender),
            birthday: news(&change.birthday, &self.birthday),
            location: news(&change.location, &self.location),
            self_signature: news(&change.self_signature, &self.self_signature),
            language: news(&change.language, &self.language),
            msg_settings: news(&change.msg_settings, &self.msg_settings),
            level: news(&change.level, &self.level),
            role: news(&change.role, &self.role),
            custom: last_values(&change.custom)
                .filter(|(tag, value)| self.custom_field(tag) != &**value)
                .cloned()
                .collect(),
            by_import: change.by_import,
        }
    }

    /// The bytes that it takes on the heap, less what allocations are rounded up by.
    pub(super) fn heap_bytes(&self) -> usize {
        let texts = [&self.nick, &self.face_url, &self.location, &self.self_signature];
        let custom = self.custom.iter().map(|(tag, value)| tag.len() + value.len());
        size_of::<Self>()
            + texts.into_iter().map(|text| text.len()).sum::<usize>()
            + self.custom.capacity() * size_of::<(Box<str>, Box<str>)>()
            + custom.sum::<usize>()
    }

    /// The value of a custom field; empty if it has none.
    pub fn custom_field(&self, tag: &str) -> &str {
        let found = self.custom.iter().find(|(known, _)| **known == *tag);
        found.map_or("", |(_, value)| value)
    }

    fn take(&mut self, change: &ProfileChange) {
        let ProfileChange {
            nick,
            face_url,
            allow_type,
            requests_forbidden,
            gender,
            birthday,
            location,
            self_signature,
            language,
            msg_settings,
            level,
            role,
            custom,
            by_import: _,
        } = change;
        set(&mut self.nick, nick);
        set(&mut self.face_url, face_url);
        self.allow_type = allow_type.or(self.allow_type);
        set(&mut self.requests_forbidden, requests_forbidden);
        set(&mut self.gender, gender);
        set(&mut self.birthday, birthday);
        set(&mut self.location, location);
        set(&mut self.self_signature, self_signature);
        set(&mut self.language, language);
        set(&mut self.msg_settings, msg_settings);
        set(&mut self.level, level);
        set(&mut self.role, role);
        set_custom(&mut self.custom, custom);
    }
}

fn set<T: Clone>(known: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        known.clone_from(value);
    }
}

/// The values that count: of several for one field the last.
pub(super) fn last_values(
    new: &[(Box<str>, Box<str>)],
) -> impl Iterator<Item = &(Box<str>, Box<str>)> {
    new.iter().enumerate().filter_map(|(at, field)| {
        let comes_again = new[at + 1..].iter().any(|(tag, _)| *tag == field.0);
        (!comes_again).then_some(field)
    })
}

/// Puts new values into custom fields; an empty one takes the field out.
pub(super) fn set_custom(known: &mut Vec<(Box<str>, Box<str>)>, new: &[(Box<str>, Box<str>)]) {
    for (tag, value) in new {
        match known.iter().position(|(known, _)| known == tag) {
            Some(at) if value.is_empty() => drop(known.remove(at)),
            Some(at) => known[at].1.clone_from(value),
            None if value.is_empty() => {}
            None => known.push((tag.clone(), value.clone())),
        }
    }
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
        let given = |value: &Option<Box<str>>| value.clone().filter(|value| !value.is_empty());
        events.extend(self.changes_of_profile(&ProfileChange {
            nick: given(&change.nick),
            face_url: given(&change.face_url),
            by_import: true,
            ..change.clone()
        }));
        events
    }

    /// Gives profile fields new values. Repeat: the same values record nothing.
    /// Rule: rest-api.md 7.2.
    pub(super) fn changes_of_profile(&self, change: &ProfileChange) -> Option<Event> {
        let news = match &self.profile {
            Some(profile) => profile.news(change),
            None => Profile::default().news(change),
        };
        let nothing = ProfileChange { by_import: change.by_import, ..ProfileChange::default() };
        (news != nothing).then_some(Event::ProfileChanged(news))
    }

    pub(super) fn change_profile(&mut self, change: &ProfileChange) {
        self.profile.get_or_insert_default().take(change);
    }

    /// Deletes the account: ends its friendships on both sides, refuses the requests it holds and
    /// takes back its own. Rule: rest-api.md 6.3.
    pub(super) fn delete(&self) -> Vec<Event> {
        let offers = self
            .rare
            .offers
            .iter()
            .filter(|offer| offer.is_unanswered())
            .map(|offer| Event::OfferWithdrawn { peer: offer.peer, edge: offer.edge });
        let requests = self.rare.requests.iter().map(|request| Event::FriendRefused {
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
        self.note_unfriended(peer);
        self.rare.requests.remove(peer);
    }

    /// What is left of a deleted account is its version, so that the stream goes on without a gap
    /// and no edge id is ever used again; and its calls with keys, because they may come again: an
    /// offer of theirs that is open came to nothing.
    pub(super) fn forget_everything(&mut self) {
        let calls = std::mem::take(&mut self.rare.calls);
        *self = Self { version: self.version, ..Self::new(self.id) };
        if !calls.is_empty() {
            self.rare.calls = calls;
            self.rare.calls.close_offers(CameTo::Refused(Rejection::AccountUnknown));
        }
    }
}
