//! The checks find what is wrong, and nothing else.

mod laws;
mod live;
mod planted;
mod recorded;
mod resolved;
mod world;

use cordon::domain::UserId;

use super::{Call, Deed, Operation, Outcome, Relation};

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

/// An operation of amy that was asked and answered at these times.
fn asked(from: u64, to: u64, deed: Deed, targets: &[&str], outcome: Outcome) -> Operation {
    by("amy", from, to, deed, targets, outcome)
}

fn by(
    owner: &str,
    from: u64,
    to: u64,
    deed: Deed,
    targets: &[&str],
    outcome: Outcome,
) -> Operation {
    Operation {
        client: 0,
        node: 0,
        call: Call::new(deed, user(owner), &users(targets)),
        invoked_at: from,
        answered_at: Some(to),
        outcome,
        request: None,
        positions: Vec::new(),
    }
}

fn block(from: u64, to: u64, code: u64) -> Operation {
    asked(from, to, Deed::Block, &["bob"], Outcome::Codes(vec![code]))
}

fn unblock(from: u64, to: u64, code: u64) -> Operation {
    asked(from, to, Deed::Unblock, &["bob"], Outcome::Codes(vec![code]))
}

fn befriend(from: u64, to: u64, code: u64) -> Operation {
    asked(from, to, Deed::Befriend, &["bob"], Outcome::Codes(vec![code]))
}

/// Nobody knows whether it happened.
fn unknown(operation: Operation) -> Operation {
    Operation { outcome: Outcome::Unknown, ..operation }
}

fn list(from: u64, to: u64, names: &[&str]) -> Operation {
    asked(from, to, Deed::Blocklist, &[], Outcome::Names(users(names)))
}

fn related(from: u64, to: u64, deed: Deed, mine: bool, theirs: bool) -> Operation {
    let relation = Some(Relation { mine, theirs });
    asked(from, to, deed, &["bob"], Outcome::Relations(vec![relation]))
}

fn friends(from: u64, to: u64, mine: bool, theirs: bool) -> Operation {
    related(from, to, Deed::Friends, mine, theirs)
}
