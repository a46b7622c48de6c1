//! The aggregate: one user's state, and how facts change it. What commands come to is in `perform.rs`.

use super::account::Profile;
use super::blocklist::Block;
use super::effect::Effect;
use super::event::Event;
use super::friend::Friend;
use super::id::{EdgeId, Timestamp, UserId, Version};
use super::kept::CameTo;
use super::offer::{Offer, OfferState, Request};
use super::packed::PackedRoll;
use super::policy::Policy;
use super::rare::Rare;
use super::rejection::Rejection;

/// One account with its blocklist, friends, open offers and pending requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    pub(super) id: UserId,
    pub(super) version: Version,
    pub(super) imported: bool,
    pub(super) profile: Option<Box<Profile>>,
    pub(super) block_sequence: u32,
    pub(super) block_count: u32,
    pub(super) friends_sequence: u32,
    pub(super) custom_sequence: u32,
    pub(super) groups_sequence: u32,
    pub(super) blocks: PackedRoll<Block>,
    pub(super) friends: PackedRoll<Friend>,
    pub(super) rare: Rare,
}

/// What follows from a command: the facts, and one outcome per item in request order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The facts of one record; none means that nothing changes.
    pub events: Vec<Event>,
    /// What each item of the batch came to; one for a command without a list.
    pub outcomes: Vec<Result<Outcome, Rejection>>,
}

/// What an accepted item still waits for before it may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only for the record itself.
    Recorded,
    /// For the peer to have let go of the friendship.
    Severing {
        /// The peer.
        peer: UserId,
    },
    /// For the peer to have let go of an offer that is taken back.
    Withdrawing {
        /// The peer.
        peer: UserId,
    },
    /// For all peers to have let go of friendships that earlier calls have removed from both lists.
    Clearing,
    /// For every partition to have forgotten the account.
    Forgetting,
    /// For the peer to have heard an answer to the request that waited.
    Answering {
        /// The peer.
        peer: UserId,
    },
    /// For the peer's answer to an offer.
    Offering {
        /// The peer.
        peer: UserId,
        /// The offer.
        edge: EdgeId,
    },
    /// For nothing: an open offer of another kind to the same peer is in the way, and nothing is
    /// recorded. The call may be repeated once that one is answered.
    Occupied {
        /// The peer.
        peer: UserId,
    },
}

/// What follows from one item of a batch.
pub(super) type Decided = Result<(Vec<Event>, Outcome), Rejection>;

/// The item is done with `events`.
pub(super) fn recorded(events: Vec<Event>) -> Decided {
    Ok((events, Outcome::Recorded))
}

impl User {
    /// A user without any record.
    pub fn new(id: UserId) -> Self {
        Self {
            id,
            version: Version(0),
            imported: false,
            profile: None,
            block_sequence: 0,
            block_count: 0,
            friends_sequence: 0,
            custom_sequence: 0,
            groups_sequence: 0,
            blocks: PackedRoll::default(),
            friends: PackedRoll::default(),
            rare: Rare::default(),
        }
    }

    /// Who this is.
    pub fn id(&self) -> UserId {
        self.id
    }

    /// The version of the last record taken into account.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the account exists.
    pub fn is_imported(&self) -> bool {
        self.imported
    }

    /// The number of the record that is being made, as a sequence number: it grows with each record,
    /// without a counter of its own to keep in step, and fits 31 bits, as answers must.
    pub(super) fn sequence_now(&self) -> u32 {
        u32::try_from(self.version.next().0).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
    }

    /// A rough count of the bytes this user holds, for the bound on resident memory.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.blocks.heap_bytes()
            + self.friends.heap_bytes()
            + self.rare.heap_bytes()
            + self.profile.as_ref().map_or(0, |profile| profile.heap_bytes())
    }

    /// Answers what follows from effects of `peer`'s facts, in order, and takes it into account.
    /// No event means that they change nothing here.
    pub fn react<'a>(
        &mut self,
        peer: UserId,
        effects: impl IntoIterator<Item = &'a Effect>,
        policy: &Policy,
        at: Timestamp,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for effect in effects {
            let caused = self.answer(peer, effect, policy);
            for event in &caused {
                self.evolve(event, at);
            }
            events.extend(caused);
            self.settle(&mut events, at);
        }
        events
    }

    /// Whether the user keeps something about `peer` that a deletion of the account takes away.
    pub fn names(&self, peer: &UserId) -> bool {
        self.blocks.contains(peer)
            || self.friends.contains(peer)
            || self.rare.requests.contains(peer)
    }

    /// Forgets `peer`, whose account is gone, and takes that into account. An offer stays: its answer,
    /// a refusal, is on the way. No event means that nothing names them.
    pub fn forget(&mut self, peer: UserId, at: Timestamp) -> Vec<Event> {
        if !self.names(&peer) {
            return Vec::new();
        }
        let mut events: Vec<Event> = self.unannounced(&peer).into_iter().collect();
        events.push(Event::PeerForgotten { peer });
        for event in &events {
            self.evolve(event, at);
        }
        events
    }

    /// Closes a record: the user's version moves on by one.
    pub fn recorded(&mut self) {
        self.version = self.version.next();
        self.rare.tidy();
    }

    /// Takes the events of one record of the journal into account.
    pub fn replay(&mut self, version: Version, events: &[Event], at: Timestamp) {
        for event in events {
            self.evolve(event, at);
        }
        self.version = version;
        self.rare.tidy();
    }

    /// Takes a fact into account. Total: what the journal holds has happened, so it never fails.
    ///
    /// During a record, `self.version` is still that of the record before.
    pub fn evolve(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::AccountImported {} => self.imported = true,
            Event::ProfileChanged(change) => self.change_profile(change),
            Event::AccountDeleted {} => self.forget_everything(),
            Event::UserBlocked { target, .. } => self.note_block(*target, at),
            Event::UserUnblocked { target } => self.note_unblock(target),
            Event::FriendOffered {
                peer,
                edge,
                form,
                forced,
                over,
                again: _,
                despite_block: _,
                card,
            } => {
                self.note_offered(Offer {
                    peer: *peer,
                    edge: *edge,
                    form: *form,
                    forced: *forced,
                    over: *over,
                    card: Box::new(card.clone()),
                    renewed: None,
                    at: at.unix_seconds(),
                    place: 0,
                    state: OfferState::Open,
                });
            }
            Event::FriendRequested { peer, edge, card } => {
                self.rare.requests.put(Request {
                    peer: *peer,
                    edge: *edge,
                    card: Box::new(card.clone()),
                    at: at.unix_seconds(),
                });
            }
            Event::FriendAccepted { peer, .. } => {
                self.rare.requests.remove(peer);
            }
            Event::FriendRefused { peer, offer, .. } => self.drop_request(peer, offer),
            Event::RequestDropped { peer, edge } => self.drop_request(peer, edge),
            Event::FriendAdded { peer, edge, card } => self.note_friend(*peer, *edge, card, at),
            Event::FriendLinked { peer, edge } => self.note_link(peer, *edge),
            Event::FriendUpdated { peer, card } => self.note_card(peer, card),
            Event::FriendChanged { peer, change } => self.note_card_change(peer, change),
            Event::GroupsAdded { names } => self.note_groups(names),
            Event::FriendsGrouped { names, peers } => self.note_grouped(names, peers),
            Event::GroupsRemoved { names } => self.note_groups_removed(names),
            Event::FriendRemoved { peer, .. } => self.note_unfriended(peer),
            Event::OfferPending { peer, edge } => {
                self.note_offer(peer, *edge, OfferState::Pending);
                let waits = CameTo::Refused(Rejection::ConfirmationNeeded);
                self.note_came_to(peer, edge, waits);
            }
            Event::OfferConfirmed { peer, edge, mine, theirs, agreement } => {
                let waited = agreement.is_some();
                let state = OfferState::Confirmed { mine: *mine, theirs: *theirs, waited };
                self.note_offer(peer, *edge, state);
                self.note_came_to(peer, edge, CameTo::Made);
            }
            Event::OfferEnded { peer, edge, why } => {
                self.drop_offer(peer, edge);
                self.note_came_to(peer, edge, CameTo::Refused(*why));
            }
            Event::OfferWithdrawn { peer, edge } => self.drop_offer(peer, edge),
            Event::OffersSettled { offered, waited, .. } => self.note_settled(*offered, *waited),
            Event::PeerForgotten { peer } => self.note_forgotten(peer),
            // The journal hands messages on; nothing here depends on them.
            Event::UnfriendAsked { .. } | Event::MessageAccepted(_) | Event::VerdictGiven(_) => {}
            Event::CallBegun { call, request } => {
                self.note_call(*call, *request, None, None, at);
            }
            Event::CallDone { call, request, traces } => {
                self.note_call(*call, *request, Some(traces), None, at);
            }
            Event::CallAnswered { call, request, answer } => {
                self.note_call(*call, *request, None, Some(answer), at);
            }
            Event::CallsForgotten { keys } => {
                for key in keys {
                    self.rare.calls.remove(key);
                }
            }
            Event::SubscriptionSet(set) => self.note_subscription(set),
            Event::SubscriptionDeleted { name } => self.note_subscription_deleted(name),
            Event::SubscriptionMoved(seek) => self.note_move(seek),
            Event::ReplayBegun(replay) => self.note_replay(replay),
            Event::ReplayEnded { number, .. } => self.note_replay_ended(*number),
        }
    }
}
