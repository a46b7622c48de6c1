//! What is durable, and what has been: the invariants of cluster.md 5.

use std::collections::BTreeSet;

use cordon::domain::{Agreement, EdgeId, Event, OfferState, Outcome, Policy, RemovalReason, User};
use stateright::{Model, Property};

use super::people::{AT, Wish, name, number, pairs};

/// What the final records have come to, by user and then by peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    /// By which friendship the first has the second.
    held: Vec<Vec<Option<EdgeId>>>,
    /// The number of the first one's record that blocked the second.
    blocked: Vec<Vec<Option<u64>>>,
    /// Whether that block was answered.
    answered: Vec<Vec<bool>>,
    /// Whether the first has asked for a two-way friendship that nobody has ended or refused since.
    hoped: Vec<Vec<bool>>,
    /// How often subscribers heard that the first has the second, less how often that this is over.
    heard: Vec<Vec<i8>>,
    /// By user: whether the account was ever deleted. Subscribers hear nothing of what vanishes with it.
    deleted: Vec<bool>,
    /// Whether the first ever cleared a list that the second was on, which nobody is told of.
    cleared: Vec<Vec<bool>>,
    /// By user: the friendships that are over, with the peer, since one request has one id for all.
    removed: Vec<BTreeSet<(usize, EdgeId)>>,
    reformed: bool,
}

impl History {
    pub(super) fn new(users: usize) -> Self {
        Self {
            held: vec![vec![None; users]; users],
            blocked: vec![vec![None; users]; users],
            answered: vec![vec![false; users]; users],
            hoped: vec![vec![false; users]; users],
            heard: vec![vec![0; users]; users],
            deleted: vec![false; users],
            cleared: vec![vec![false; users]; users],
            removed: vec![BTreeSet::new(); users],
            reformed: false,
        }
    }

    fn form(&mut self, who: usize, peer: usize, edge: EdgeId) {
        self.reformed |= self.removed[who].contains(&(peer, edge));
        if let Some(old) = self.held[who][peer].replace(edge) {
            self.removed[who].insert((peer, old));
        }
    }

    fn end_hope(&mut self, who: usize, peer: usize) {
        self.hoped[who][peer] = false;
        self.hoped[peer][who] = false;
    }

    /// Takes the record `n` of `who`, which is final by now, into account.
    pub(super) fn note(&mut self, who: usize, n: u64, events: &[Event]) {
        for event in events {
            match event {
                Event::FriendAdded { peer, edge, .. } | Event::FriendLinked { peer, edge } => {
                    self.form(who, number(peer), *edge);
                }
                Event::FriendRemoved { peer, edge, reason, announced } => {
                    let peer = number(peer);
                    self.held[who][peer] = None;
                    self.removed[who].insert((peer, *edge));
                    let heard = i8::from(!announced);
                    self.heard[who][peer] -= heard;
                    match reason {
                        RemovalReason::Blocked
                        | RemovalReason::DeletedBoth
                        | RemovalReason::AccountDeleted => {
                            self.heard[peer][who] -= heard;
                            self.end_hope(who, peer);
                        }
                        RemovalReason::DeletedSingle | RemovalReason::DeletedOneWay => {
                            self.end_hope(who, peer);
                        }
                        RemovalReason::ClearedBoth | RemovalReason::ClearedSingle => {
                            self.cleared[who][peer] = true;
                            self.end_hope(who, peer);
                        }
                        RemovalReason::PeerAccountDeleted
                        | RemovalReason::BlockedByPeer
                        | RemovalReason::DeletedByPeer
                        | RemovalReason::Withdrawn => {}
                    }
                }
                Event::UnfriendAsked { peer } => self.end_hope(who, number(peer)),
                Event::UserBlocked { target, .. } => {
                    self.blocked[who][number(target)] = Some(n);
                    self.end_hope(who, number(target));
                }
                Event::UserUnblocked { target } => {
                    self.blocked[who][number(target)] = None;
                    self.answered[who][number(target)] = false;
                }
                Event::AccountDeleted {} => {
                    self.deleted[who] = true;
                    self.blocked[who].fill(None);
                    self.answered[who].fill(false);
                    (0..self.held.len()).for_each(|peer| self.end_hope(who, peer));
                }
                Event::FriendOffered { peer, form, again, .. } => {
                    // One made anew may be answered by a yes to the first, with an end behind it.
                    let hoped = &mut self.hoped[who][number(peer)];
                    *hoped = form.is_two_way() && (*hoped || !again);
                }
                Event::OfferEnded { peer, .. } | Event::OfferWithdrawn { peer, .. } => {
                    self.hoped[who][number(peer)] = false;
                }
                Event::OfferConfirmed { peer, agreement: Some(Agreement::OneWay), .. } => {
                    self.hoped[who][number(peer)] = false;
                }
                Event::OffersSettled { friends, .. } => {
                    for friend in friends {
                        let peer = number(&friend.peer);
                        self.heard[who][peer] += i8::from(friend.mine);
                        self.heard[peer][who] += i8::from(friend.theirs);
                    }
                }
                Event::PeerForgotten { peer } => {
                    let peer = number(peer);
                    let edge = self.held[who][peer].take();
                    self.removed[who].extend(edge.map(|edge| (peer, edge)));
                    self.blocked[who][peer] = None;
                    self.answered[who][peer] = false;
                    self.end_hope(who, peer);
                }
                Event::AccountImported {}
                | Event::ProfileChanged(_)
                | Event::FriendRequested { .. }
                | Event::FriendAccepted { .. }
                | Event::FriendRefused { .. }
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
                | Event::RequestDropped { .. } => {}
            }
        }
    }

    /// The Sever of the record `n` of `who` is durable at `peer`: its caller has an answer.
    pub(super) fn note_severed(&mut self, who: usize, peer: usize, n: u64) {
        self.answered[who][peer] |= self.blocked[who][peer] == Some(n);
    }

    pub(super) fn has_friend(&self, who: usize, peer: usize) -> bool {
        self.held[who][peer].is_some()
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        pairs(self.held.len())
    }

    /// Whether the second knows of the friendship that the first has by the second's offer.
    fn is_known(&self, a: usize, b: usize) -> bool {
        let Some(edge) = self.held[a][b].filter(|edge| edge.offerer == name(b)) else {
            return true;
        };
        self.held[b][a] == Some(edge) || self.removed[b].contains(&(a, edge))
    }

    fn are_mutual_friends(&self, a: usize, b: usize) -> bool {
        self.has_friend(a, b) && self.has_friend(b, a)
    }

    fn is_between(&self, a: usize, b: usize) -> bool {
        self.has_friend(a, b) || self.has_friend(b, a)
    }
}

/// What the invariants look at.
pub(super) trait Scene {
    fn history(&self) -> &History;
    fn users(&self) -> Vec<&User>;
    /// Nothing is under way and everything is final.
    fn is_quiet(&self) -> bool;
    fn under_way(&self) -> usize;
}

/// What the invariants need to know of a model.
pub(super) trait Bounds {
    fn has_one_way(&self) -> bool;
    /// A block leaves a friendship as it is: there is nothing to say about the two together.
    fn keeps_friends(&self) -> bool;
    fn operations(&self) -> usize;
}

/// No operation asks for more than a withdrawal, a refusal and a removal of one peer.
const EFFECTS_PER_OPERATION: usize = 3;

pub(super) fn invariants<M>() -> Vec<Property<M>>
where
    M: Model + Bounds,
    M::State: Scene,
{
    vec![
        Property::always("I1 nobody has a friend whom he blocks", |model: &M, scene: &M::State| {
            let users = scene.users();
            model.keeps_friends()
                || pairs(users.len())
                    .all(|(a, b)| !(users[a].blocks(&name(b)) && users[a].has_friend(&name(b))))
        }),
        Property::always(
            "I2 in the end blocked is not befriended",
            |model: &M, scene: &M::State| {
                let history = scene.history();
                let holds = |(a, b): (usize, usize)| {
                    history.blocked[a][b].is_none() || !history.is_between(a, b)
                };
                model.keeps_friends() || !scene.is_quiet() || history.pairs().all(holds)
            },
        ),
        Property::always("I3 in the end friendship is mutual", |model: &M, scene: &M::State| {
            let history = scene.history();
            let one_way = model.has_one_way();
            let holds = |(a, b): (usize, usize)| {
                if one_way {
                    history.is_known(a, b)
                } else {
                    history.held[a][b] == history.held[b][a]
                }
            };
            !scene.is_quiet() || history.pairs().all(holds)
        }),
        Property::always("I4 in the end no offer is open", |_, scene: &M::State| {
            !scene.is_quiet() || pairs(scene.users().len()).all(|(a, b)| are_even(scene, a, b))
        }),
        Property::always("I5 what is over never comes back", |_, scene: &M::State| {
            !scene.history().reformed
        }),
        Property::always("I6 an answered block is kept", |model: &M, scene: &M::State| {
            let history = scene.history();
            let holds =
                |(a, b): (usize, usize)| !history.answered[a][b] || !history.is_between(a, b);
            model.keeps_friends() || history.pairs().all(holds)
        }),
        Property::always("I7 no echo goes on", |model: &M, scene: &M::State| {
            scene.under_way() <= EFFECTS_PER_OPERATION * model.operations()
        }),
        Property::always("I8 subscribers hear of every end", |_, scene: &M::State| {
            let history = scene.history();
            let holds = |(a, b): (usize, usize)| {
                history.deleted[a]
                    || history.deleted[b]
                    || history.cleared[a][b]
                    || history.cleared[b][a]
                    || history.heard[a][b] <= i8::from(history.has_friend(a, b))
            };
            !scene.is_quiet() || history.pairs().all(holds)
        }),
        Property::always("I9 who asked last and was not refused has it", |_, scene: &M::State| {
            let (history, users) = (scene.history(), scene.users());
            let waits = |a: usize, b: usize| users[a].relation(&name(b)).offer.is_some();
            let holds = |(a, b): (usize, usize)| {
                !history.hoped[a][b] || waits(a, b) || history.are_mutual_friends(a, b)
            };
            !scene.is_quiet() || history.pairs().all(holds)
        }),
        Property::always("I10 a block leaves nothing waiting", |_, scene: &M::State| {
            let history = scene.history();
            let holds = |(a, b): (usize, usize)| {
                history.blocked[a][b].is_none()
                    || is_answered(scene, a, b) && is_answered(scene, b, a)
            };
            !scene.is_quiet() || history.pairs().all(holds)
        }),
        Property::always("I11 in the end nobody names who is gone", |_, scene: &M::State| {
            let users = scene.users();
            let holds = |(a, b): (usize, usize)| {
                users[a].is_imported() || users[b].relation(&name(a)).is_empty()
            };
            !scene.is_quiet() || pairs(users.len()).all(holds)
        }),
        Property::always("I12 in the end every friend can be removed", |_, scene: &M::State| {
            let users = scene.users();
            let holds = |(a, b): (usize, usize)| {
                let removal = Wish::RemoveSingle.command(&[b], &[], &[]);
                let removed = users[a].clone().perform(&removal, &Policy::default(), AT);
                let waits = |outcome: &_| matches!(outcome, Ok(Outcome::Occupied { .. }));
                !removed.is_ok_and(|removed| removed.outcomes.iter().any(waits))
            };
            !scene.is_quiet() || pairs(users.len()).all(holds)
        }),
        Property::sometimes("two become friends", |_, scene: &M::State| {
            scene.is_quiet() && scene.history().are_mutual_friends(0, 1)
        }),
        Property::sometimes("a block is answered", |_, scene: &M::State| {
            scene.history().answered[0][1]
        }),
        Property::sometimes("a friendship is over", |_, scene: &M::State| {
            let history = scene.history();
            scene.is_quiet() && !history.removed[0].is_empty() && !history.removed[1].is_empty()
        }),
    ]
}

/// Whether no offer from `a` to `b` waits, on neither side.
fn is_answered(scene: &impl Scene, a: usize, b: usize) -> bool {
    let users = scene.users();
    users[a].relation(&name(b)).offer.is_none() && users[b].relation(&name(a)).request.is_none()
}

/// Whether the offer from `a` to `b` is either gone on both sides or pending on both.
fn are_even(scene: &impl Scene, a: usize, b: usize) -> bool {
    let users = scene.users();
    let offer = users[a].relation(&name(b)).offer;
    let request = users[b].relation(&name(a)).request;
    match (offer, request) {
        (None, None) => true,
        (Some(offer), Some(request)) => {
            offer.state == OfferState::Pending && offer.edge == request.edge
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}
