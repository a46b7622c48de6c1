//! What one user's fact asks of another user. Rule: cluster.md 5.

use serde::{Deserialize, Serialize};

use super::card::Card;
use super::event::{Agreement, Event, OfferForm, RemovalReason};
use super::id::{EdgeId, UserId};
use super::rejection::Rejection;

/// A demand on another user, derived from a record and delivered exactly once, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// Let go of the friendship with the sender, whatever its id.
    Sever {
        /// Why.
        why: Severance,
        /// The friendship survives (`block.remain_friends`); only a pending request goes.
        keep_friend: bool,
        /// The sender's record announces the removal of both directions.
        announced: bool,
    },
    /// The sender wants a friendship.
    Propose {
        /// The offer.
        edge: EdgeId,
        /// What is wanted.
        form: OfferForm,
        /// An administrator forces it.
        forced: bool,
        /// The sender has the receiver as a friend already.
        over: bool,
        /// The offer was pending and is made anew: it counts only as far as it still waits.
        again: bool,
        /// Where the request comes from, and its words.
        card: Card,
    },
    /// The sender accepts the receiver's offer.
    Confirm {
        /// The receiver's offer.
        offer: EdgeId,
        /// The edge that both hold.
        edge: EdgeId,
        /// The sender's list grew, and nobody has announced it.
        added: bool,
        /// The offer had been waiting for the sender, who said this.
        agreement: Option<Agreement>,
    },
    /// The receiver's offer waits for the sender's confirmation.
    Pend {
        /// The receiver's offer.
        offer: EdgeId,
    },
    /// The sender refuses the receiver's offer.
    Refuse {
        /// The receiver's offer.
        offer: EdgeId,
        /// Why.
        why: Rejection,
    },
    /// The sender takes back an offer: drop it, or let go of the friendship that came of it.
    Withdraw {
        /// The sender's offer.
        offer: EdgeId,
    },
    /// The sender's account is gone: nobody may go on naming it. Goes to partitions as a whole, since
    /// the sender does not know who names it; see [`crate::pairing::owed_by`].
    Forget,
}

/// Why a friendship is severed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Severance {
    /// The sender blocked the receiver.
    Blocked,
    /// The sender removed the friendship from both lists.
    Deleted,
    /// The sender's account is gone.
    AccountDeleted,
}

impl Severance {
    /// The reason as the receiver's record keeps it.
    pub fn removal_reason(self) -> RemovalReason {
        match self {
            Self::Blocked => RemovalReason::BlockedByPeer,
            Self::Deleted => RemovalReason::DeletedByPeer,
            Self::AccountDeleted => RemovalReason::PeerAccountDeleted,
        }
    }
}

/// Hands each effect of one record's `events` to `emit`, with its receiver, in order.
///
/// A pure function of the record: the journal is the outbox.
pub fn effects(events: &[Event], mut emit: impl FnMut(UserId, Effect)) {
    let mut removed = None;
    for event in events {
        match event {
            Event::UserBlocked { target, remain_friends } => {
                let announced = removed == Some(target);
                emit(
                    *target,
                    Effect::Sever {
                        why: Severance::Blocked,
                        keep_friend: *remain_friends,
                        announced,
                    },
                );
            }
            Event::FriendRemoved { peer, reason, .. } => match reason {
                RemovalReason::Blocked => removed = Some(peer),
                RemovalReason::DeletedBoth | RemovalReason::ClearedBoth => {
                    emit(*peer, sever(Severance::Deleted, true));
                }
                RemovalReason::DeletedOneWay => emit(*peer, sever(Severance::Deleted, false)),
                RemovalReason::AccountDeleted => {
                    emit(*peer, sever(Severance::AccountDeleted, true));
                }
                // The rest needs no act of the peer.
                RemovalReason::BlockedByPeer
                | RemovalReason::DeletedByPeer
                | RemovalReason::DeletedSingle
                | RemovalReason::ClearedSingle
                | RemovalReason::PeerAccountDeleted
                | RemovalReason::Withdrawn => {}
            },
            Event::UnfriendAsked { peer } => emit(*peer, sever(Severance::Deleted, false)),
            Event::FriendOffered {
                peer,
                edge,
                form,
                forced,
                over,
                again,
                despite_block: _,
                card,
            } => emit(
                *peer,
                Effect::Propose {
                    edge: *edge,
                    form: *form,
                    forced: *forced,
                    over: over.is_some(),
                    again: *again,
                    card: Card {
                        source: card.source.clone(),
                        wording: card.wording.clone(),
                        ..Card::default()
                    },
                },
            ),
            Event::FriendAccepted { peer, offer, edge, added, agreement, despite_block: _ } => {
                emit(
                    *peer,
                    Effect::Confirm {
                        offer: *offer,
                        edge: *edge,
                        added: *added,
                        agreement: *agreement,
                    },
                )
            }
            Event::FriendRequested { peer, edge, .. } => {
                emit(*peer, Effect::Pend { offer: *edge });
            }
            Event::FriendRefused { peer, offer, why } => {
                emit(*peer, Effect::Refuse { offer: *offer, why: *why });
            }
            Event::OfferWithdrawn { peer, edge } => {
                emit(*peer, Effect::Withdraw { offer: *edge });
            }
            Event::AccountImported {}
            | Event::ProfileChanged(_)
            | Event::AccountDeleted {}
            | Event::UserUnblocked { .. }
            | Event::FriendAdded { .. }
            | Event::FriendLinked { .. }
            | Event::FriendUpdated { .. }
            | Event::FriendChanged { .. }
            | Event::GroupsAdded { .. }
            | Event::FriendsGrouped { .. }
            | Event::GroupsRemoved { .. }
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
            | Event::ReplayEnded { .. }
            | Event::OfferPending { .. }
            | Event::OfferConfirmed { .. }
            | Event::OfferEnded { .. }
            | Event::OffersSettled { .. }
            | Event::RequestDropped { .. }
            | Event::PeerForgotten { .. } => {}
        }
    }
}

fn sever(why: Severance, announced: bool) -> Effect {
    Effect::Sever { why, keep_friend: false, announced }
}
