//! Whether what was acknowledged is in the journal, once. Rule: design.md 2, promise 1.

use std::collections::{HashMap, HashSet};

use cordon::domain::{EdgeId, Event, RemovalReason, UserId, UserKey};
use cordon::journal::{Body, Commit, Record};
use uuid::Uuid;

use super::{Deed, Log, Nanos, Operation, Outcome, Place, Report, Verdict, Violation, Violations};

/// Holds the answers against the journal. Errors: an acknowledged fact that is not there or is there
/// twice, one of a change that was refused, a position that names something else.
pub(crate) fn check_facts(operations: &[Operation], log: &Log) -> Result<Report, Violations> {
    let facts = Facts::of(operations, log);
    let mut violations = Vec::new();
    once(log, &mut violations);
    let mut report = Report { operations: operations.len(), ..Report::default() };
    for operation in operations.iter().filter(|operation| !operation.call.deed.is_read()) {
        let own = facts.own(operation);
        positions(operation, log, &mut violations);
        for (target, verdict) in operation.items() {
            let found =
                own.iter().find(|(_, commit)| has_fact(commit, operation.call.deed, target));
            match verdict {
                Verdict::Done | Verdict::Owed => {
                    report.facts += 1;
                    let is_there = match found {
                        Some((_, commit)) => facts.is_complete(operation, target, commit),
                        None => facts.is_of_another(operation, target),
                    };
                    if !is_there {
                        let of = operation.to_string();
                        violations.push(Violation::FactMissing { of, target });
                    }
                }
                Verdict::Already | Verdict::NotDone => {
                    // What the other side refuses was asked of it, and that is a fact.
                    let is_told = matches!(operation.call.deed, Deed::Block | Deed::Unblock);
                    let twice = operation.call.targets.iter().filter(|one| **one == target);
                    if let Some((place, _)) = found.filter(|_| is_told && twice.count() == 1) {
                        let (of, place) = (operation.to_string(), *place);
                        violations.push(Violation::FactOfTheRefused { of, target, place });
                    }
                }
                Verdict::Recorded | Verdict::Unknown => {}
            }
        }
        if let (Outcome::Failed, Some((place, _))) = (&operation.outcome, own.first()) {
            let (of, target, place) = (operation.to_string(), operation.call.owner, *place);
            violations.push(Violation::FactOfTheRefused { of, target, place });
        }
    }
    Violations::or(report, violations)
}

/// Whether the record says what was acknowledged about `target`.
fn has_fact(commit: &Commit, deed: Deed, target: UserId) -> bool {
    commit.events.iter().any(|event| match (deed, event) {
        (Deed::Block, Event::UserBlocked { target: peer, .. })
        | (Deed::Unblock, Event::UserUnblocked { target: peer })
        | (Deed::Befriend, Event::FriendOffered { peer, .. })
        | (Deed::Unfriend, Event::FriendRemoved { peer, .. } | Event::UnfriendAsked { peer }) => {
            *peer == target
        }
        _ => false,
    })
}

/// No fact of one request about one user stands there twice.
fn once(log: &Log, violations: &mut Vec<Violation>) {
    let mut seen: HashMap<(Uuid, UserKey, &Event), Place> = HashMap::new();
    for (place, commit) in log.commits().filter(|(_, commit)| !commit.by.request.is_nil()) {
        for event in &commit.events {
            let fact = (commit.by.request, commit.key, event);
            if let Some(first) = seen.insert(fact, place) {
                let fact = format!("{}: {event:?} of request {}", commit.key, commit.by.request);
                violations.push(Violation::FactTwice { fact, first, second: place });
            }
        }
    }
}

/// Every position of the answer names a record that counts, of the same user and request.
fn positions(operation: &Operation, log: &Log, violations: &mut Vec<Violation>) {
    for &place in &operation.positions {
        let found = match log.at(place) {
            None => "nothing".to_owned(),
            Some((_, false)) => "a void record".to_owned(),
            Some((Record { body: Body::Commit(commit), .. }, true)) => {
                let is_own = operation.request.is_none_or(|id| id == commit.by.request);
                if commit.key.user == operation.call.owner && is_own {
                    continue;
                }
                format!("a record of {} by request {}", commit.key, commit.by.request)
            }
            Some((record, true)) => format!("a {:?}", record.body.kind()),
        };
        violations.push(Violation::PositionWrong { of: operation.to_string(), place, found });
    }
}

struct Facts<'a> {
    log: &'a Log,
    by_request: HashMap<Uuid, Vec<(Place, &'a Commit)>>,
    /// Who blocked whom, who removed whom, and who made an offer to whom that was answered with yes, by the
    /// requests, and where.
    changes: HashMap<(Deed, UserId, UserId), Vec<(Uuid, Place)>>,
    /// When the answer to each request said that it is done.
    settled: HashMap<(Uuid, UserId), Nanos>,
    /// The offers that were answered with yes, by who made them to whom.
    confirmed: HashSet<(UserId, UserId, EdgeId)>,
}

impl<'a> Facts<'a> {
    fn of(operations: &[Operation], log: &'a Log) -> Self {
        let mut confirmed = HashSet::new();
        for (_, commit) in log.commits() {
            for event in &commit.events {
                if let Event::OfferConfirmed { peer, edge, .. } = event {
                    confirmed.insert((commit.key.user, *peer, *edge));
                }
            }
        }
        let mut changes: HashMap<_, Vec<(Uuid, Place)>> = HashMap::new();
        for (place, commit) in log.commits() {
            let owner = commit.key.user;
            for event in &commit.events {
                let change = match event {
                    Event::UserBlocked { target, .. } => (Deed::Block, owner, *target),
                    Event::FriendRemoved {
                        peer,
                        reason: RemovalReason::DeletedBoth | RemovalReason::DeletedOneWay,
                        ..
                    }
                    | Event::UnfriendAsked { peer } => (Deed::Unfriend, owner, *peer),
                    Event::FriendOffered { peer, edge, .. }
                        if confirmed.contains(&(owner, *peer, *edge)) =>
                    {
                        (Deed::Befriend, owner, *peer)
                    }
                    _ => continue,
                };
                changes.entry(change).or_default().push((commit.by.request, place));
            }
        }
        let mut settled = HashMap::new();
        for operation in operations {
            let Some(request) = operation.request else { continue };
            for (target, _) in operation.items().filter(|(_, verdict)| *verdict == Verdict::Done) {
                settled.insert((request, target), operation.end());
            }
        }
        Self { log, by_request: log.by_request(), changes, settled, confirmed }
    }

    /// The records that the caller's own user got by the operation.
    fn own(&self, operation: &Operation) -> Vec<(Place, &'a Commit)> {
        let mut own = match operation.request {
            Some(request) => self.by_request.get(&request).cloned().unwrap_or_default(),
            None => {
                let at =
                    operation.positions.iter().filter_map(|place| match self.log.at(*place)? {
                        (Record { body: Body::Commit(commit), .. }, true) => Some((*place, commit)),
                        _ => None,
                    });
                at.collect()
            }
        };
        own.retain(|(_, commit)| commit.key.user == operation.call.owner && commit.cause.is_none());
        own
    }

    /// Whether the change was another request's, and this one waited for its end: a block or a removal
    /// whose other side was owed, or an offer that was open. Whoever takes a partition over does not know
    /// what of it has arrived before it has asked again: then also for one that was settled.
    fn is_of_another(&self, operation: &Operation, target: UserId) -> bool {
        let change = (operation.call.deed, operation.call.owner, target);
        let mut requests = self.changes.get(&change).into_iter().flatten();
        requests.any(|(request, place)| {
            let settled = self.settled.get(&(*request, target));
            settled.is_none_or(|at| *at > operation.invoked_at) || self.log.is_claimed_after(*place)
        })
    }

    /// Whether the other side's part is there, too: the yes to an offer.
    fn is_complete(&self, operation: &Operation, target: UserId, commit: &Commit) -> bool {
        let owner = operation.call.owner;
        let mut offered = commit.events.iter().filter_map(|event| match event {
            Event::FriendOffered { peer, edge, .. } if *peer == target => Some(*edge),
            _ => None,
        });
        operation.call.deed != Deed::Befriend
            || offered.any(|edge| self.confirmed.contains(&(owner, target, edge)))
    }
}
