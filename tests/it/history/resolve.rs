//! What the journal knows of the changes that nobody was told about.
//!
//! A record has its place in its partition's order. It came after every operation was asked whose
//! records stand before it, and it was final before any operation was answered whose own record
//! stands behind it. So the journal says of each change without an answer whether it happened, and
//! about when. What is answered with 0 waits for the other side: its record was final by then, too.

use std::collections::{BTreeMap, HashMap};

use cordon::domain::{EdgeId, Event, RemovalReason, UserId, Version};
use cordon::journal::{Commit, Partition};
use uuid::Uuid;

use super::{Call, Deed, Log, Nanos, Operation, Outcome, Place, Verdict};

/// The history with every change that nobody was told about either taken out, because it is not in
/// the journal, or said to have happened in some span of time. `log` is the journal after everything
/// has come to rest: what is not in it never happened.
pub(crate) fn resolve(operations: &[Operation], log: &Log) -> Vec<Operation> {
    let told = told(operations);
    let spans = Spans::of(log, &told);
    let ends = ends_of_offers(log, &spans);
    let mut resolved: Vec<Operation> = operations.iter().filter_map(what_was_told).collect();
    for (place, commit) in log.commits().filter(|(_, commit)| commit.cause.is_none()) {
        let span = spans.at[&place];
        for event in &commit.events {
            let owner = commit.key.user;
            let (deed, target, until) = match event {
                Event::UserBlocked { target, .. } => (Deed::Block, *target, span.until),
                Event::UserUnblocked { target } => (Deed::Unblock, *target, span.until),
                // The other side follows later.
                Event::FriendRemoved { peer, reason: RemovalReason::DeletedBoth, .. }
                | Event::UnfriendAsked { peer } => (Deed::Unfriend, *peer, Nanos::MAX),
                // What had come of the offer by then is ended when the other side hears of it.
                Event::OfferWithdrawn { peer, .. } if takes_back_alone(commit, *peer) => {
                    (Deed::Unfriend, *peer, Nanos::MAX)
                }
                Event::FriendOffered { peer, edge, .. } => {
                    let end = ends.get(&(owner, *peer, *edge)).copied();
                    (Deed::Befriend, *peer, end.unwrap_or(Nanos::MAX))
                }
                _ => continue,
            };
            let asked = told.get(&commit.by.request).copied();
            if !asked.is_some_and(|operation| is_told(operation, deed, target)) {
                resolved.push(Operation {
                    client: asked.map_or(0, |operation| operation.client),
                    node: asked.map_or(0, |operation| operation.node),
                    call: Call::new(deed, owner, &[target]),
                    invoked_at: span.from,
                    answered_at: (until != Nanos::MAX).then_some(until),
                    outcome: Outcome::Recorded,
                    request: Some(commit.by.request),
                    positions: vec![place],
                });
            }
        }
    }
    resolved.sort_by_key(|operation| operation.invoked_at);
    resolved
}

/// Whether a removal of `peer` has taken back an offer, and not a block or another offer has.
fn takes_back_alone(commit: &Commit, peer: UserId) -> bool {
    let also = |event: &Event| match event {
        Event::UserBlocked { target, .. } => *target == peer,
        Event::FriendOffered { peer: to, .. } => *to == peer,
        _ => false,
    };
    !commit.events.iter().any(also)
}

/// The changes that were answered, by request.
pub(super) fn told(operations: &[Operation]) -> HashMap<Uuid, &Operation> {
    operations
        .iter()
        .filter_map(|operation| Some((operation.request?, operation)))
        .filter(|(_, operation)| matches!(operation.outcome, Outcome::Codes(_)))
        .collect()
}

/// Whether the answer said what became of the item.
fn is_told(operation: &Operation, deed: Deed, target: UserId) -> bool {
    operation.call.deed == deed
        && operation.items().any(|(to, verdict)| to == target && verdict != Verdict::Unknown)
}

/// The operation with the items only of which the answer said what became of them.
fn what_was_told(operation: &Operation) -> Option<Operation> {
    if operation.call.deed.is_read() {
        return Some(operation.clone());
    }
    let told: Vec<bool> =
        operation.items().map(|(_, verdict)| verdict != Verdict::Unknown).collect();
    if !told.contains(&true) {
        return None;
    }
    let mut kept = operation.clone();
    let mut each = told.iter();
    kept.call.targets.retain(|_| each.next().is_some_and(|told| *told));
    if let Outcome::Codes(codes) = &mut kept.outcome {
        let mut each = told.iter();
        codes.retain(|_| each.next().is_some_and(|told| *told));
    }
    Some(kept)
}

/// Between which times something happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Nanos,
    pub(super) until: Nanos,
}

pub(super) struct Spans {
    pub(super) at: BTreeMap<Place, Span>,
}

impl Spans {
    pub(super) fn of(log: &Log, told: &HashMap<Uuid, &Operation>) -> Self {
        let commits: Vec<(Place, &Commit)> = log.commits().collect();
        let operation = |commit: &Commit| told.get(&commit.by.request).copied();
        let mut at = BTreeMap::new();
        let mut from: HashMap<Partition, Nanos> = HashMap::new();
        for (place, commit) in &commits {
            let from = from.entry(place.0).or_default();
            *from = operation(commit).map_or(0, |operation| operation.invoked_at).max(*from);
            at.insert(*place, Span { from: *from, until: Nanos::MAX });
        }
        let mut asked: HashMap<Uuid, Version> = HashMap::new();
        for (_, commit) in commits.iter().filter(|(_, commit)| commit.cause.is_none()) {
            asked.insert(commit.by.request, commit.version);
        }
        let mut until: HashMap<Partition, Nanos> = HashMap::new();
        for (place, commit) in commits.iter().rev() {
            let until = until.entry(place.0).or_insert(Nanos::MAX);
            let awaits = |operation: &&Operation| {
                commit.cause.is_none()
                    || asked
                        .get(&commit.by.request)
                        .is_some_and(|version| is_awaited(operation, commit, *version))
            };
            if let Some(operation) = operation(commit).filter(awaits) {
                *until = operation.end().min(*until);
            }
            if let Some(span) = at.get_mut(place) {
                span.until = *until;
            }
        }
        Self { at }
    }
}

/// Whether the answer waits for a record that an effect caused, `asked` being the version of the
/// caller's own record: it does for the other side's, and for the yes to an offer, not for every record
/// that follows of it.
fn is_awaited(operation: &Operation, commit: &Commit, asked: Version) -> bool {
    let Call { deed, owner, .. } = &operation.call;
    let Some(cause) = commit.cause else { return true };
    let is_done = |target: UserId| {
        operation.items().any(|(to, verdict)| to == target && verdict == Verdict::Done)
    };
    if commit.key.user != *owner {
        return cause.user == *owner && cause.version == asked && is_done(commit.key.user);
    }
    let is_yes = |event: &Event| matches!(event, Event::OfferConfirmed { peer, edge, .. } if *peer == cause.user && edge.version == asked);
    *deed == Deed::Befriend && is_done(cause.user) && commit.events.iter().any(is_yes)
}

/// When at the latest each offer was over: what came of it had come of it by then.
fn ends_of_offers(log: &Log, spans: &Spans) -> HashMap<(UserId, UserId, EdgeId), Nanos> {
    let mut ends = HashMap::new();
    for (place, commit) in log.commits() {
        for event in &commit.events {
            if let Event::OfferConfirmed { peer, edge, .. } | Event::OfferEnded { peer, edge, .. } =
                event
            {
                ends.insert((commit.key.user, *peer, *edge), spans.at[&place].until);
            }
        }
    }
    ends
}
