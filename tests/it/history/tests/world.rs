//! A world in which everything happens at one instant, and histories that clients have of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cordon::domain::{
    AppId, Card, EdgeId, Event, OfferForm, RemovalReason, Settled, Timestamp, UserId, UserKey,
    Version,
};
use cordon::journal::{
    Body, Cause, Commit, Epoch, Offset, Origin, Partition, Record, partition_of,
};
use cordon::webhooks::{Switches, payload};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::super::{Call, Callback, Deed, Operation, Outcome, Place, Relation};
use super::user;

pub(super) const APP: AppId = AppId(1_400_000_001);
const NAMES: [&str; 4] = ["amy", "bob", "carl", "dora"];
const PARTITIONS: u16 = 2;

const DEEDS: [Deed; 7] = [
    Deed::Block,
    Deed::Unblock,
    Deed::Befriend,
    Deed::Unfriend,
    Deed::Blocklist,
    Deed::Blocks,
    Deed::Friends,
];

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    /// The peers' sides of a block follow so much later, and it is answered that they are owed.
    Owed(u64),
    /// It happens so much later, and is never answered.
    Late(u64),
    /// It never happens, and is never answered.
    Lost,
    /// It never happens, and that is answered.
    Refused,
}

/// A call of one client, with the times that it takes.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    client: usize,
    deed: Deed,
    owner: usize,
    /// Which of the others, as bits.
    targets: usize,
    gap: u64,
    before: u64,
    after: u64,
    fate: Fate,
}

/// How much goes on at once, and how much is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) clients: usize,
    pub(super) gap_max: u64,
    pub(super) duration_max: u64,
    pub(super) answered: u32,
}

pub(super) fn plans(pace: Pace, count: usize) -> impl Strategy<Value = Vec<Planned>> {
    let late = 0..20 * pace.duration_max;
    let fate = prop_oneof![
        pace.answered => Just(Fate::Answered),
        1 => late.clone().prop_map(Fate::Owed),
        1 => late.prop_map(Fate::Late),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Refused),
    ];
    let what = (0..pace.clients, select(&DEEDS[..]), 0..NAMES.len(), 1..8_usize);
    let when = (0..=pace.gap_max, 0..=pace.duration_max, 0..=pace.duration_max);
    let planned = (what, when, fate).prop_map(|(what, (gap, before, after), fate)| {
        let (client, deed, owner, targets) = what;
        Planned { client, deed, owner, targets, gap, before, after, fate }
    });
    vec(planned, count)
}

/// What happened, as everybody saw it.
pub(super) struct Played {
    pub(super) operations: Vec<Operation>,
    pub(super) records: Vec<(Place, Record)>,
    /// What a subscriber hears of it, by user in order.
    pub(super) callbacks: Vec<Callback>,
}

/// What happens at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A call.
    Call(usize),
    /// The peers' sides of the owed blocks of a call.
    Sever(usize),
}

pub(super) fn play(plans: &[Planned]) -> Played {
    let mut clocks = BTreeMap::new();
    let mut operations = Vec::new();
    let mut happenings = Vec::new();
    for (index, planned) in plans.iter().enumerate() {
        let clock = clocks.entry(planned.client).or_insert(0);
        let invoked_at = *clock + planned.gap;
        let answered_at = invoked_at + planned.before + planned.after;
        *clock = answered_at + 1;
        let at = invoked_at + planned.before;
        match planned.fate {
            Fate::Answered => happenings.push((at, Happening::Call(index))),
            Fate::Owed(later) => {
                happenings.push((at, Happening::Call(index)));
                happenings.push((at + later, Happening::Sever(index)));
            }
            Fate::Late(later) => happenings.push((at + later, Happening::Call(index))),
            Fate::Lost | Fate::Refused => {}
        }
        operations.push(Operation {
            client: planned.client,
            node: index % 3,
            call: planned.call(),
            invoked_at,
            answered_at: Some(answered_at),
            outcome: match planned.fate {
                Fate::Refused => Outcome::Failed,
                _ => Outcome::Unknown,
            },
            request: None,
            positions: Vec::new(),
        });
    }
    happenings.sort();
    let mut world = World::default();
    for (_, happening) in happenings {
        let (Happening::Call(index) | Happening::Sever(index)) = happening;
        let call = operations[index].call.clone();
        let request = Uuid::from_u128(index as u128 + 1);
        if let Happening::Sever(_) = happening {
            for target in &call.targets {
                world.sever_owed(call.owner, *target);
            }
            continue;
        }
        let owes = matches!(plans[index].fate, Fate::Owed(_));
        let (outcome, positions) = world.execute(&call, request, owes);
        if let Fate::Answered | Fate::Owed(_) = plans[index].fate {
            let operation = &mut operations[index];
            operation.outcome = outcome;
            operation.positions = positions;
            operation.request = Some(request);
        }
    }
    operations.sort_by_key(|operation| operation.invoked_at);
    Played { operations, callbacks: callbacks(&world.records), records: world.records }
}

impl Planned {
    fn call(&self) -> Call {
        let owner = user(NAMES[self.owner]);
        let others = NAMES.iter().map(|name| user(name)).filter(|name| *name != owner);
        let chosen = others.enumerate().filter(|(bit, _)| self.targets >> bit & 1 == 1);
        let targets: Vec<UserId> = chosen.map(|(_, name)| name).collect();
        let targets = if self.deed == Deed::Blocklist { Vec::new() } else { targets };
        Call { deed: self.deed, owner, targets }
    }
}

/// All that a subscriber is owed, told without any failure.
fn callbacks(records: &[(Place, Record)]) -> Vec<Callback> {
    let mut callbacks = Vec::new();
    for ((partition, offset), record) in records {
        let Body::Commit(commit) = &record.body else { continue };
        for delivery in payload::payloads(commit, Switches::ALL) {
            let id = format!("{partition}@{offset}.{}", delivery.command);
            callbacks.push(Callback { id, body: delivery.body.into(), accepted: true });
        }
    }
    callbacks
}

/// A change: the request, and the version of the owner's record of it.
type Act = (Uuid, Version);

#[derive(Default)]
pub(super) struct World {
    blocks: BTreeSet<(UserId, UserId)>,
    /// Who has whom, by which friendship.
    friends: BTreeMap<(UserId, UserId), EdgeId>,
    /// Blocks whose other side is owed.
    owed: BTreeMap<(UserId, UserId), Act>,
    versions: BTreeMap<UserId, u64>,
    /// The records of all partitions, in the order in which they came about.
    pub(super) records: Vec<(Place, Record)>,
    ends: [u64; PARTITIONS as usize],
}

impl World {
    pub(super) fn execute(
        &mut self,
        call: &Call,
        request: Uuid,
        owes: bool,
    ) -> (Outcome, Vec<Place>) {
        let owner = call.owner;
        match call.deed {
            Deed::Blocklist => {
                let mine = self.blocks.iter().filter(|(from, _)| *from == owner);
                (Outcome::Names(mine.map(|(_, to)| *to).collect()), Vec::new())
            }
            Deed::Blocks => self.relations(call, |world, pair| world.blocks.contains(&pair)),
            Deed::Friends => self.relations(call, |world, pair| world.friends.contains_key(&pair)),
            Deed::Block | Deed::Unblock | Deed::Befriend | Deed::Unfriend => {
                self.change(call, request, owes)
            }
        }
    }

    fn relations(
        &self,
        call: &Call,
        has: impl Fn(&Self, (UserId, UserId)) -> bool,
    ) -> (Outcome, Vec<Place>) {
        let relation = |target: &UserId| {
            let (mine, theirs) = ((call.owner, *target), (*target, call.owner));
            Some(Relation { mine: has(self, mine), theirs: has(self, theirs) })
        };
        (Outcome::Relations(call.targets.iter().map(relation).collect()), Vec::new())
    }

    fn change(&mut self, call: &Call, request: Uuid, owes: bool) -> (Outcome, Vec<Place>) {
        let owner = call.owner;
        let (mut events, mut codes) = (Vec::new(), Vec::new());
        let version = self.versions.get(&owner).copied().unwrap_or_default() + 1;
        let edge = EdgeId { offerer: owner, version: Version(version) };
        for &target in &call.targets {
            let blocked = self.blocks.contains(&(owner, target));
            let code = match call.deed {
                Deed::Block if blocked && self.owed.contains_key(&(owner, target)) => 30007,
                Deed::Block if blocked => 30001,
                Deed::Block => {
                    events.extend(self.end(owner, target, RemovalReason::Blocked));
                    events.push(Event::UserBlocked { target, remain_friends: false });
                    self.blocks.insert((owner, target));
                    if owes && self.friends.contains_key(&(target, owner)) { 30007 } else { 0 }
                }
                Deed::Unblock if !blocked => 30001,
                Deed::Unblock => {
                    self.sever_owed(owner, target);
                    events.push(Event::UserUnblocked { target });
                    self.blocks.remove(&(owner, target));
                    0
                }
                Deed::Befriend if blocked => 30515,
                Deed::Befriend if self.blocks.contains(&(target, owner)) => 30525,
                Deed::Befriend if self.friends.contains_key(&(owner, target)) => 30001,
                Deed::Befriend => {
                    events.push(Event::FriendOffered {
                        peer: target,
                        edge,
                        form: OfferForm::TwoWay,
                        forced: false,
                        over: None,
                        again: false,
                        despite_block: false,
                        card: Card::default(),
                    });
                    0
                }
                _ => match self.end(owner, target, RemovalReason::DeletedBoth) {
                    None => 31704,
                    Some(event) => {
                        events.push(event);
                        0
                    }
                },
            };
            codes.push(code);
        }
        let positions = self.record(owner, request, None, events);
        let act = (request, edge.version);
        for (&target, &code) in call.targets.iter().zip(&codes) {
            match (call.deed, code) {
                (Deed::Block, 30007) => {
                    self.owed.entry((owner, target)).or_insert(act);
                }
                (Deed::Block, 0) => self.sever(owner, target, RemovalReason::BlockedByPeer, act),
                (Deed::Unfriend, 0) => {
                    self.sever(owner, target, RemovalReason::DeletedByPeer, act);
                }
                (Deed::Befriend, 0) => self.join(owner, target, edge, request),
                _ => {}
            }
        }
        (Outcome::Codes(codes), positions.into_iter().collect())
    }

    fn end(&mut self, owner: UserId, peer: UserId, reason: RemovalReason) -> Option<Event> {
        let edge = self.friends.remove(&(owner, peer))?;
        let announced = reason != RemovalReason::Blocked && reason != RemovalReason::DeletedBoth;
        Some(Event::FriendRemoved { peer, edge, reason, announced })
    }

    fn sever(&mut self, owner: UserId, peer: UserId, reason: RemovalReason, act: Act) {
        let ended = self.end(peer, owner, reason);
        self.record(peer, act.0, Some((owner, act.1)), ended.into_iter().collect());
    }

    fn sever_owed(&mut self, owner: UserId, peer: UserId) {
        if let Some(act) = self.owed.remove(&(owner, peer)) {
            self.sever(owner, peer, RemovalReason::BlockedByPeer, act);
        }
    }

    fn join(&mut self, owner: UserId, peer: UserId, edge: EdgeId, request: Uuid) {
        let card = Card::default();
        let theirs = self.friends.insert((peer, owner), edge).is_none();
        let mut events = Vec::new();
        if theirs {
            events.push(Event::FriendAdded { peer: owner, edge, card: card.clone() });
        }
        events.push(Event::FriendAccepted {
            peer: owner,
            offer: edge,
            edge,
            added: theirs,
            agreement: None,
            despite_block: false,
        });
        self.record(peer, request, Some((owner, edge.version)), events);
        let answered = Version(self.versions[&peer]);
        self.friends.insert((owner, peer), edge);
        let friends = vec![Settled { peer, mine: true, theirs }];
        let events = vec![
            Event::FriendAdded { peer, edge, card },
            Event::OfferConfirmed { peer, edge, mine: true, theirs, agreement: None },
            Event::OffersSettled { offered: edge.version, forced: false, waited: false, friends },
        ];
        self.record(owner, request, Some((peer, answered)), events);
    }

    pub(super) fn record(
        &mut self,
        owner: UserId,
        request: Uuid,
        cause: Option<(UserId, Version)>,
        events: Vec<Event>,
    ) -> Option<Place> {
        if events.is_empty() {
            return None;
        }
        let key = UserKey { app: APP, user: owner };
        let version = self.versions.entry(owner).or_default();
        *version += 1;
        let version = Version(*version);
        let partition = partition_of(&key, PARTITIONS);
        let by = Origin {
            operator: "administrator".into(),
            request,
            ip: "127.0.0.1".into(),
            platform: "RESTAPI".into(),
        };
        let cause = cause.map(|(user, version)| Cause { partition, seq: 1, user, version });
        let commit = Commit {
            id: request,
            key,
            version,
            at: Timestamp(1_700_000_000_000),
            by: Arc::new(by),
            cause,
            events,
        };
        Some(self.append(partition, Body::Commit(commit)))
    }

    fn append(&mut self, partition: Partition, body: Body) -> Place {
        let end = &mut self.ends[usize::from(partition.0)];
        if *end == 0 {
            *end = 1;
            let body = Body::Claim { node: "node".to_owned(), nonce: Uuid::nil() };
            let claim = Record { epoch: Epoch(1), n: 0, body };
            self.records.push(((partition, Offset(0)), claim));
        }
        let place = (partition, Offset(*end));
        self.records.push((place, Record { epoch: Epoch(1), n: *end, body }));
        *end += 1;
        place
    }
}
