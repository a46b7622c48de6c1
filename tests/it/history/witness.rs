//! Whether the journal explains every look at a friendship. Rule: design.md 2, promises 1 and 3.
//!
//! Who has whom as a friend is a register per direction, and the journal holds its changes in order.
//! A look saw what held at some moment between question and answer: behind a change whose call had
//! been asked by the time the look was answered, and before the next one, unless a call behind that
//! one had been answered before the look was asked.

use std::collections::BTreeMap;

use cordon::domain::{Event, UserId};

use super::resolve::{Span, Spans, told};
use super::{Deed, Log, Nanos, Operation, Outcome, Report, Violation, Violations};

/// Changes of whether one user has another as a friend, in order.
type Changes = BTreeMap<(UserId, UserId), Vec<(Span, bool)>>;

/// Holds what was seen of friendships against the journal. Errors: looks that no moment explains.
pub(crate) fn check_friends(operations: &[Operation], log: &Log) -> Result<Report, Violations> {
    let changes = changes(operations, log);
    let mut violations = Vec::new();
    let mut report = Report { operations: operations.len(), ..Report::default() };
    for operation in operations.iter().filter(|one| one.call.deed == Deed::Friends) {
        let Outcome::Relations(relations) = &operation.outcome else { continue };
        let owner = operation.call.owner;
        for (target, relation) in operation.call.targets.iter().zip(relations) {
            let Some(relation) = relation else { continue };
            for (pair, seen) in
                [((owner, *target), relation.mine), ((*target, owner), relation.theirs)]
            {
                report.looks_explained += 1;
                let known = changes.get(&pair).map_or(&[][..], Vec::as_slice);
                if !explains(known, operation.invoked_at, operation.end(), seen) {
                    let (owner, peer) = pair;
                    let at = operation.to_string();
                    violations.push(Violation::FriendUnexplained { owner, peer, seen, at });
                }
            }
        }
    }
    Violations::or(report, violations)
}

fn changes(operations: &[Operation], log: &Log) -> Changes {
    let spans = Spans::of(log, &told(operations));
    let mut changes = Changes::new();
    for (place, commit) in log.commits() {
        for event in &commit.events {
            let (peer, has) = match event {
                Event::FriendAdded { peer, .. } => (*peer, true),
                Event::FriendRemoved { peer, .. } => (*peer, false),
                _ => continue,
            };
            changes.entry((commit.key.user, peer)).or_default().push((spans.at[&place], has));
        }
    }
    changes
}

fn explains(changes: &[(Span, bool)], asked: Nanos, answered: Nanos, seen: bool) -> bool {
    let first = (Span { from: 0, until: 0 }, false);
    let states = std::iter::once(&first).chain(changes).enumerate();
    states.into_iter().any(|(index, (since, has))| {
        let ends = changes.get(index).map_or(Nanos::MAX, |(next, _)| next.until);
        *has == seen && since.from <= answered && ends >= asked
    })
}
