//! Whether the journal explains every look at a friendship, and every blocklist as a whole. Rule:
//! design.md 2, promises 1 and 3; 4, a list is the answer of one actor.
//!
//! Who has whom as a friend is a register per direction, and the journal holds its changes in order.
//! A look saw what held at some moment between question and answer: behind a change whose call had
//! been asked by the time the look was answered, and before the next one, unless a call behind that
//! one had been answered before the look was asked. A blocklist is all of a user's entries at such a
//! moment: who finds one entry of a later moment finds none of an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use cordon::domain::{Event, UserId};

use super::resolve::{Span, Spans, told};
use super::{Deed, Log, Nanos, Operation, Outcome, Report, Violation, Violations};

/// Changes of whether one user has another as a friend, in order.
type Changes = BTreeMap<(UserId, UserId), Vec<(Span, bool)>>;

/// The blocklist of each user after each record that changed it.
type Lists = BTreeMap<UserId, Vec<(Span, BTreeSet<UserId>)>>;

/// Holds what was seen of friendships and blocklists against the journal. Errors: looks that no moment
/// explains.
pub(crate) fn check_friends(operations: &[Operation], log: &Log) -> Result<Report, Violations> {
    let spans = Spans::of(log, &told(operations));
    let (changes, lists) = (changes(&spans, log), lists(&spans, log));
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
                if !explains(&false, known, operation, &seen) {
                    let (owner, peer) = pair;
                    let at = operation.to_string();
                    violations.push(Violation::FriendUnexplained { owner, peer, seen, at });
                }
            }
        }
    }
    for operation in operations {
        let Outcome::Names(names) = &operation.outcome else { continue };
        report.lists_explained += 1;
        let owner = operation.call.owner;
        let known = lists.get(&owner).map_or(&[][..], Vec::as_slice);
        let seen: BTreeSet<UserId> = names.iter().copied().collect();
        if seen.len() < names.len() || !explains(&BTreeSet::new(), known, operation, &seen) {
            violations.push(Violation::ListUnexplained { owner, at: operation.to_string() });
        }
    }
    Violations::or(report, violations)
}

fn lists(spans: &Spans, log: &Log) -> Lists {
    let mut lists = Lists::new();
    for (place, commit) in log.commits() {
        let states = lists.entry(commit.key.user).or_default();
        let mut list = states.last().map(|(_, list)| list.clone()).unwrap_or_default();
        let mut changed = false;
        for event in &commit.events {
            changed |= match event {
                Event::UserBlocked { target, .. } => list.insert(*target),
                Event::UserUnblocked { target } => list.remove(target),
                _ => false,
            };
        }
        if changed {
            states.push((spans.at[&place], list));
        }
    }
    lists
}

fn changes(spans: &Spans, log: &Log) -> Changes {
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

/// Whether some state, the first one or one that a change has left, was there while the operation was
/// under way and is what was seen.
fn explains<T: PartialEq>(
    first: &T,
    changes: &[(Span, T)],
    operation: &Operation,
    seen: &T,
) -> bool {
    let (asked, answered) = (operation.invoked_at, operation.end());
    let start = Span { from: 0, until: 0 };
    let states = changes.iter().map(|(since, state)| (*since, state));
    let mut states = std::iter::once((start, first)).chain(states).enumerate();
    states.any(|(index, (since, state))| {
        let ends = changes.get(index).map_or(Nanos::MAX, |(next, _)| next.until);
        state == seen && since.from <= answered && ends >= asked
    })
}
