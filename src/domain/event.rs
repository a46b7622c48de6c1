//! Every fact we keep, with its stored name.
//!
//! Events are never edited: a new shape is a new version of the record's envelope and an upcaster in
//! `journal/record.rs`. Their JSON Schemas are in `schemas/events/`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::card::{Card, CardChange};
use super::id::{EdgeId, UserId, Version};
use super::kept::{CallKey, KeptAnswer, Traces};
use super::message::Message;
use super::profile::ProfileChange;
use super::rejection::Rejection;
use super::seek::Seek;
use super::subscription::{Replay, Subscription};
use super::verdict::Verdict;

/// One fact about one user, the owner of the stream it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// The account exists from now on.
    AccountImported {},
    /// Profile fields got new values; absent ones kept theirs.
    ProfileChanged(ProfileChange),
    /// The account is gone, with everything that is its own but the traces of calls with keys.
    AccountDeleted {},
    /// `target` is on the owner's blocklist from now on; an edge or an open offer between the two
    /// has been ended by events before this one in the same record.
    UserBlocked {
        /// Who was blocked.
        target: UserId,
        /// The app keeps friendships over a block (`block.remain_friends`).
        #[serde(default, skip_serializing_if = "is_false")]
        remain_friends: bool,
    },
    /// `target` is off the owner's blocklist.
    UserUnblocked {
        /// Who was unblocked.
        target: UserId,
    },
    /// The owner wants `peer` as a friend and awaits the answer.
    FriendOffered {
        /// The wanted friend.
        peer: UserId,
        /// The id of the offer, and of the edge unless another offer crosses it.
        edge: EdgeId,
        /// What is wanted.
        form: OfferForm,
        /// An administrator forces it.
        #[serde(default, skip_serializing_if = "is_false")]
        forced: bool,
        /// The edge by which the owner had `peer` already; the offer asks for the other direction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<EdgeId>,
        /// The offer is open or pending and made anew, under its old id; `peer` takes it into account as
        /// far as it waits there.
        #[serde(default, skip_serializing_if = "is_false")]
        again: bool,
        /// The owner blocks `peer`; of the app, imports ask no blocklist
        /// (`friend.import_ignores_blocklist`).
        #[serde(default, skip_serializing_if = "is_false")]
        despite_block: bool,
        /// What the owner's record of the friend will hold.
        #[serde(default, skip_serializing_if = "Card::is_empty")]
        card: Card,
    },
    /// `peer` asks for the owner's friendship, and the owner has to confirm.
    FriendRequested {
        /// Who asks.
        peer: UserId,
        /// Their offer.
        edge: EdgeId,
        /// What came with the request.
        #[serde(default, skip_serializing_if = "Card::is_empty")]
        card: Card,
    },
    /// The owner accepts `peer`'s offer.
    FriendAccepted {
        /// Who offered.
        peer: UserId,
        /// Their offer.
        offer: EdgeId,
        /// The edge that both hold from now on: the offer's, or that of an offer of the owner's which
        /// `peer` accepted while theirs was waiting.
        edge: EdgeId,
        /// The owner's own list grew (with a `FriendAdded` in the same record).
        added: bool,
        /// The offer had been waiting for the owner, who now said this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agreement: Option<Agreement>,
        /// The owner blocks `peer`; of the app, imports ask no blocklist
        /// (`friend.import_ignores_blocklist`).
        #[serde(default, skip_serializing_if = "is_false")]
        despite_block: bool,
    },
    /// The owner refuses `peer`'s offer.
    FriendRefused {
        /// Who offered.
        peer: UserId,
        /// Their offer.
        offer: EdgeId,
        /// Why.
        why: Rejection,
    },
    /// `peer` is in the owner's friend list from now on, by `edge`.
    FriendAdded {
        /// The friend.
        peer: UserId,
        /// The friendship's id.
        edge: EdgeId,
        /// What the owner's record of the friend holds.
        #[serde(default, skip_serializing_if = "Card::is_empty")]
        card: Card,
    },
    /// `peer`, who was in the owner's list already, belongs to another edge from now on: the other
    /// direction came later, two offers crossed, or the other direction's offer was taken back.
    FriendLinked {
        /// The friend.
        peer: UserId,
        /// The friendship's new id.
        edge: EdgeId,
    },
    /// The owner's record of a friend was overwritten.
    FriendUpdated {
        /// The friend.
        peer: UserId,
        /// The new record.
        card: Card,
    },
    /// Fields of the owner's record of a friend got new values; absent ones kept theirs.
    FriendChanged {
        /// The friend.
        peer: UserId,
        /// The new values.
        #[serde(flatten)]
        change: CardChange,
    },
    /// The owner has these friend groups from now on; those that were there already are not named.
    GroupsAdded {
        /// Their names, in order.
        names: Vec<Box<str>>,
    },
    /// These friends are in these friend groups from now on.
    FriendsGrouped {
        /// The groups.
        names: Vec<Box<str>>,
        /// The friends.
        peers: Vec<UserId>,
    },
    /// The owner has these friend groups no longer, and no friend is in them.
    GroupsRemoved {
        /// Their names.
        names: Vec<Box<str>>,
    },
    /// `peer` is no longer in the owner's friend list.
    FriendRemoved {
        /// The former friend.
        peer: UserId,
        /// The friendship that ended.
        edge: EdgeId,
        /// Why.
        reason: RemovalReason,
        /// The record that caused this one announces the removal to subscribers.
        #[serde(default, skip_serializing_if = "is_false")]
        announced: bool,
    },
    /// The owner, who has no record of `peer`, asks `peer`'s side to forget the owner.
    UnfriendAsked {
        /// Who has the owner as a friend.
        peer: UserId,
    },
    /// The owner's offer to `peer` waits for `peer`'s confirmation.
    OfferPending {
        /// The wanted friend.
        peer: UserId,
        /// The offer.
        edge: EdgeId,
    },
    /// The owner's offer to `peer` is answered with yes.
    OfferConfirmed {
        /// The wanted friend.
        peer: UserId,
        /// The offer.
        edge: EdgeId,
        /// The owner's list grew.
        mine: bool,
        /// The peer's list grew.
        theirs: bool,
        /// The offer had been waiting for the peer, who then said this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agreement: Option<Agreement>,
    },
    /// The owner's offer to `peer` is over without a friendship.
    OfferEnded {
        /// The wanted friend.
        peer: UserId,
        /// The offer.
        edge: EdgeId,
        /// Why.
        why: Rejection,
    },
    /// The owner's offer to `peer` is taken back, because the owner ends what is between the two or
    /// the owner's account is deleted.
    OfferWithdrawn {
        /// The wanted friend.
        peer: UserId,
        /// The offer.
        edge: EdgeId,
    },
    /// All offers of one request are answered, or one that had been waiting is; these friendships
    /// came of it.
    OffersSettled {
        /// The version of the record with the offers.
        offered: Version,
        /// An administrator forced them.
        #[serde(default, skip_serializing_if = "is_false")]
        forced: bool,
        /// The offer had been waiting for the peer's answer.
        #[serde(default, skip_serializing_if = "is_false")]
        waited: bool,
        /// Whose lists grew, in the order of the request; older records have them by name.
        friends: Vec<Settled>,
    },
    /// `peer`'s account was deleted: the owner's blocklist, friend list and requests no longer name it.
    PeerForgotten {
        /// The deleted account.
        peer: UserId,
    },
    /// `peer`'s pending request is gone without an answer.
    RequestDropped {
        /// Who asked.
        peer: UserId,
        /// Their offer.
        edge: EdgeId,
    },
    /// A message of the owner's was taken over, to be handed on.
    MessageAccepted(Message),
    /// Somebody outside was asked before what this record does, or before something that it does not do
    /// for that reason.
    VerdictGiven(Verdict),
    /// A key stands for this call from now on. The owner is a book of kept answers.
    CallBegun {
        /// The call.
        #[serde(flatten)]
        call: CallKey,
        /// The request that brought it.
        request: Uuid,
    },
    /// This record does what a call with a key asked for.
    CallDone {
        /// The call.
        #[serde(flatten)]
        call: CallKey,
        /// The request that did it.
        request: Uuid,
        /// What a repeat would find done already.
        traces: Traces,
    },
    /// A call with a key was answered. The owner is a book of kept answers.
    CallAnswered {
        /// The call.
        #[serde(flatten)]
        call: CallKey,
        /// The request that was answered.
        request: Uuid,
        /// The answer.
        answer: KeptAnswer,
    },
    /// These calls are not kept any longer: they are too old, or there are too many.
    CallsForgotten {
        /// Their keys.
        keys: Vec<UserId>,
    },
    /// A subscription is as this says from now on. The owner is the stream that keeps an app's
    /// subscriptions, here and below.
    SubscriptionSet(Box<Subscription>),
    /// A subscription is no more.
    SubscriptionDeleted {
        /// Its name.
        name: Box<str>,
    },
    /// A subscription goes on from another place.
    SubscriptionMoved(Seek),
    /// A part of the past is told again.
    ReplayBegun(Box<Replay>),
    /// A replay is over.
    ReplayEnded {
        /// Its number.
        number: u32,
        /// It had told everything.
        completed: bool,
    },
}

/// One friendship of an [`Event::OffersSettled`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settled {
    /// The friend.
    pub peer: UserId,
    /// The owner's list grew.
    pub mine: bool,
    /// The peer's list grew.
    pub theirs: bool,
}

/// What an offer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferForm {
    /// Both get the other as a friend.
    TwoWay,
    /// Only the offerer gets a friend.
    OneWay,
    /// Like `OneWay`, for migration: silent, and only blocklists are asked.
    Import,
}

impl OfferForm {
    /// Whether the peer's list is to grow as well.
    pub fn is_two_way(self) -> bool {
        self == Self::TwoWay
    }
}

/// What a user says to a request that waits for them, if it is not a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Both get the other as a friend.
    Both,
    /// Only the asker gets a friend.
    OneWay,
}

/// Why a friendship ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// The owner blocked the peer.
    Blocked,
    /// The peer blocked the owner.
    BlockedByPeer,
    /// The owner removed the friendship from both lists.
    DeletedBoth,
    /// The same, but the peer's list did not have the owner when that was looked up: if it has by now, the
    /// peer's own record announces that.
    DeletedOneWay,
    /// The peer removed the friendship from both lists.
    DeletedByPeer,
    /// The owner removed the peer from the owner's list only.
    DeletedSingle,
    /// The owner cleared the whole list, and left the lists of everybody on it. Nobody is told.
    ClearedBoth,
    /// The owner cleared the whole list. Nobody is told.
    ClearedSingle,
    /// The owner's account was deleted.
    AccountDeleted,
    /// The peer's account was deleted.
    PeerAccountDeleted,
    /// The peer took back the offer that the owner had accepted.
    Withdrawn,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}
