//! A user in rows: a head, and what is kept about each peer.

use serde::{Deserialize, Serialize};

use super::account::Profile;
use super::blocklist::Block;
use super::friend::{Friend, FriendView};
use super::id::{UserId, Version};
use super::kept::Kept;
use super::offer::{Offer, Request};
use super::subscription::Subscriptions;
use super::user::User;

/// What [`Head`] is written from.
#[derive(Debug, Serialize)]
pub struct HeadView<'a> {
    version: Version,
    imported: bool,
    profile: &'a Option<Box<Profile>>,
    block_sequence: u32,
    block_count: u32,
    friends_sequence: u32,
    custom_sequence: u32,
    groups_sequence: u32,
    groups: &'a [Box<str>],
    subscriptions: &'a Option<Box<Subscriptions>>,
}

/// The numbers and texts of a user that belong to no peer: the head row of the state store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Head {
    version: Version,
    imported: bool,
    profile: Option<Box<Profile>>,
    block_sequence: u32,
    block_count: u32,
    friends_sequence: u32,
    custom_sequence: u32,
    groups_sequence: u32,
    groups: Vec<Box<str>>,
    subscriptions: Option<Box<Subscriptions>>,
}

/// What [`Relation`] is written from.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RelationView<'a> {
    /// The peer is blocked.
    pub block: Option<Block>,
    /// The peer is a friend.
    pub friend: Option<FriendView<'a>>,
    /// The user offered a friendship.
    pub offer: Option<&'a Offer>,
    /// The peer's request waits for the user's confirmation.
    pub request: Option<&'a Request>,
    /// A call with a key that reads like the peer's name.
    pub kept: Option<&'a Kept>,
}

impl RelationView<'_> {
    /// Whether nothing is between the two.
    pub fn is_empty(&self) -> bool {
        self.block.is_none()
            && self.friend.is_none()
            && self.offer.is_none()
            && self.request.is_none()
            && self.kept.is_none()
    }
}

/// Everything between a user and one peer: a row of the state store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Relation {
    /// The peer is blocked.
    pub block: Option<Block>,
    /// The peer is a friend.
    pub friend: Option<Friend>,
    /// The user offered a friendship.
    pub offer: Option<Offer>,
    /// The peer's request waits for the user's confirmation.
    pub request: Option<Request>,
    /// A call with a key that reads like the peer's name.
    pub kept: Option<Kept>,
}

impl Head {
    /// Whether the account exists.
    pub fn is_imported(&self) -> bool {
        self.imported
    }
}

impl User {
    /// Puts a user together from the rows of the state store.
    pub fn restore(id: UserId, head: Head, relations: Vec<Relation>) -> Self {
        let mut user = Self {
            version: head.version,
            imported: head.imported,
            profile: head.profile,
            block_sequence: head.block_sequence,
            block_count: head.block_count,
            friends_sequence: head.friends_sequence,
            custom_sequence: head.custom_sequence,
            groups_sequence: head.groups_sequence,
            ..Self::new(id)
        };
        let rare = &mut *user.rare;
        (rare.groups, rare.subscriptions) = (head.groups, head.subscriptions);
        let (mut blocks, mut friends) = (Vec::new(), Vec::new());
        for relation in relations {
            blocks.extend(relation.block);
            friends.extend(relation.friend);
            relation.offer.into_iter().for_each(|offer| rare.offers.put(offer));
            relation.request.into_iter().for_each(|request| rare.requests.put(request));
            relation.kept.into_iter().for_each(|kept| rare.calls.put(kept));
        }
        user.blocks = blocks.into_iter().collect();
        user.friends = friends.into_iter().collect();
        user.rare.tidy();
        user
    }

    /// The head row, to be written.
    pub fn head(&self) -> HeadView<'_> {
        HeadView {
            version: self.version,
            imported: self.imported,
            profile: &self.profile,
            block_sequence: self.block_sequence,
            block_count: self.block_count,
            friends_sequence: self.friends_sequence,
            custom_sequence: self.custom_sequence,
            groups_sequence: self.groups_sequence,
            groups: &self.rare.groups,
            subscriptions: &self.rare.subscriptions,
        }
    }

    /// What is between the user and `peer`: the row about them, to be written.
    pub fn relation(&self, peer: &UserId) -> RelationView<'_> {
        RelationView {
            block: self.blocks.get(peer),
            friend: self.friends.get(peer),
            offer: self.rare.offers.get(peer),
            request: self.rare.requests.get(peer),
            kept: self.rare.calls.get(peer),
        }
    }
}
