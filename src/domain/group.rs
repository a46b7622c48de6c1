//! State and rules of friend groups. Rule: rest-api.md 2.1 and 5.

use std::collections::{BTreeMap, BTreeSet};

use super::card::Card;
use super::command::Target;
use super::event::Event;
use super::friend::FriendView;
use super::id::UserId;
use super::offer::OfferState;
use super::policy::Policy;
use super::rejection::Rejection;
use super::user::{Decision, Outcome, User};

/// One friend group, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Box<str>,
    /// The friends in it, by name.
    pub members: Vec<UserId>,
}

impl FriendView<'_> {
    fn is_in(&self, group: &str) -> bool {
        self.groups().any(|known| known == group)
    }
}

impl User {
    /// The friend groups, in the order in which they were made: those of `names`, or all if
    /// nothing is said. Unknown names are left out.
    pub fn groups(&self, names: Option<&[Box<str>]>) -> Vec<Group> {
        let asked: Option<BTreeSet<&str>> =
            names.map(|names| names.iter().map(|name| &**name).collect());
        let is_asked = |name: &&str| asked.as_ref().is_none_or(|asked| asked.contains(name));
        let wanted: Vec<&str> =
            self.rare.groups.iter().map(|name| &**name).filter(is_asked).collect();
        let places: BTreeMap<&str, usize> =
            wanted.iter().enumerate().map(|(place, name)| (*name, place)).collect();
        let mut members: Vec<Vec<UserId>> = vec![Vec::new(); wanted.len()];
        // Each friend is read once, however many groups there are.
        for friend in self.friends.iter() {
            for place in friend.groups().filter_map(|name| places.get(name)) {
                members[*place].push(friend.peer);
            }
        }
        let groups = wanted.into_iter().zip(members);
        groups.map(|(name, members)| Group { name: name.into(), members }).collect()
    }

    /// Grows with each record that changed the groups or who is in them; 0 if none ever did.
    pub fn groups_sequence(&self) -> u32 {
        self.groups_sequence
    }

    /// Whether `groups` fit beside those that there are and those that come with friends who accept
    /// what is open.
    pub(super) fn check_groups(
        &self,
        groups: &[Box<str>],
        policy: &Policy,
    ) -> Result<(), Rejection> {
        if groups.iter().all(|group| self.rare.groups.contains(group)) {
            return Ok(());
        }
        let open = self.rare.offers.iter().filter(|offer| offer.state == OfferState::Open);
        let coming = groups.iter().chain(open.flat_map(|offer| &offer.card.groups));
        let mut new: Vec<_> = coming.filter(|group| !self.rare.groups.contains(group)).collect();
        new.sort_unstable();
        new.dedup();
        if self.rare.groups.len() + new.len() > policy.groups_max {
            return Err(Rejection::TooManyGroups);
        }
        Ok(())
    }

    /// Makes groups and puts friends into all of them. A group that exists is no error.
    ///
    /// Rejects as a whole: `TooManyGroups`; per member: `NotFriend`, or `AccountUnknown` for an
    /// account that is not imported.
    pub(super) fn add_groups(
        &self,
        names: &[Box<str>],
        members: &[Target],
        policy: &Policy,
    ) -> Result<Decision, Rejection> {
        self.check_groups(names, policy)?;
        let mut events = Vec::new();
        let new: Vec<Box<str>> =
            names.iter().filter(|name| !self.rare.groups.contains(name)).cloned().collect();
        if !new.is_empty() {
            events.push(Event::GroupsAdded { names: new });
        }
        let mut peers: Vec<UserId> = Vec::new();
        let mut outcomes = Vec::with_capacity(members.len().max(1));
        for member in members {
            match self.friends.get(&member.user) {
                Some(friend) => {
                    if !names.iter().all(|name| friend.is_in(name)) {
                        peers.push(member.user);
                    }
                    outcomes.push(Ok(Outcome::Recorded));
                }
                None if member.imported => outcomes.push(Err(Rejection::NotFriend)),
                None => outcomes.push(Err(Rejection::AccountUnknown)),
            }
        }
        peers.sort_unstable();
        peers.dedup();
        if !peers.is_empty() {
            events.push(Event::FriendsGrouped { names: names.to_vec(), peers });
        }
        if members.is_empty() {
            outcomes.push(Ok(Outcome::Recorded));
        }
        Ok(Decision { events, outcomes })
    }

    /// Removes groups. Unknown names are ignored.
    pub(super) fn remove_groups(&self, names: &[Box<str>]) -> Option<Event> {
        let known: Vec<Box<str>> =
            self.rare.groups.iter().filter(|group| names.contains(group)).cloned().collect();
        (!known.is_empty()).then_some(Event::GroupsRemoved { names: known })
    }

    /// `card` with the groups that still fit: a request may have waited long for its answer, and takes
    /// no places meanwhile.
    pub(super) fn fitting(&self, card: &Card, policy: &Policy) -> Card {
        let mut places = policy.groups_max.saturating_sub(self.rare.groups.len());
        let mut card = card.clone();
        card.groups.retain(|group| {
            let is_new = !self.rare.groups.contains(group);
            let fits = !is_new || places > 0;
            places -= usize::from(is_new && fits);
            fits
        });
        card
    }

    /// The friends who are in one of `names`.
    pub(super) fn members_of<'a>(
        &'a self,
        names: &'a [Box<str>],
    ) -> impl Iterator<Item = UserId> + 'a {
        let members = self.friends.iter().filter(|friend| names.iter().any(|n| friend.is_in(n)));
        members.map(|friend| friend.peer)
    }

    pub(super) fn note_groups(&mut self, names: &[Box<str>]) {
        for name in names {
            if !self.rare.groups.contains(name) {
                self.rare.groups.push(name.clone());
            }
        }
        if !names.is_empty() {
            self.groups_sequence = self.sequence_now();
        }
    }

    pub(super) fn note_grouped(&mut self, names: &[Box<str>], peers: &[UserId]) {
        self.note_groups(names);
        for peer in peers {
            self.change_card(peer, |card| {
                for name in names {
                    if !card.groups.contains(name) {
                        card.groups.push(name.clone());
                    }
                }
            });
        }
        self.friends_sequence = self.sequence_now();
    }

    pub(super) fn note_groups_removed(&mut self, names: &[Box<str>]) {
        let members: Vec<UserId> = self.members_of(names).collect();
        for peer in &members {
            self.change_card(peer, |card| card.groups.retain(|group| !names.contains(group)));
        }
        self.rare.groups.retain(|group| !names.contains(group));
        self.groups_sequence = self.sequence_now();
        if !members.is_empty() {
            self.friends_sequence = self.sequence_now();
        }
    }
}
