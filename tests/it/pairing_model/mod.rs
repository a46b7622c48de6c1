//! The pairing protocol in every order of events. Rule: cluster.md 4 and 5.
//!
//! The models drive the product's own `User::perform`, `User::react`, `effects`, `Outbox` and `Inbox`,
//! and look at what [`history`] keeps: the invariants. [`exchange`] takes the channels for granted and goes far into the handshakes; [`network`] has the
//! channels over a network that loses, repeats and reorders, with crashes of both sides;
//! [`walks`] are long and random. Each mutation
//! takes one guard away, and the checker has to notice.
//!
//! `CORDON_MODEL_OPS` sets another number of operations, for a deeper run: one more takes about
//! ten times as long.

mod exchange;
mod history;
mod network;
mod people;
mod walks;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// How many operations a model makes: what the environment says, or `usual`.
fn operations(usual: usize) -> usize {
    std::env::var("CORDON_MODEL_OPS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Every invariant holds in every state, and what should be possible happens.
fn assert_holds<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model.checker().spawn_bfs().join();
    println!("{} states, {} steps deep", checker.unique_state_count(), checker.max_depth());
    for property in checker.model().properties() {
        let found = checker.discovery(property.name).map(|path| path.into_actions());
        match property.expectation {
            Expectation::Sometimes => assert!(found.is_some(), "never: {}", property.name),
            Expectation::Always | Expectation::Eventually => {
                assert!(found.is_none(), "broken: {}: {found:#?}", property.name);
            }
        }
    }
}

/// There is a history that breaks `invariant`.
fn assert_breaks<M>(model: M, invariant: &'static str, why: &dyn Debug)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let enough = HasDiscoveries::AnyOf([invariant].into());
    let checker = model.checker().finish_when(enough).spawn_bfs().join();
    let found = checker.discoveries();
    println!("{why:?}: {} states", checker.unique_state_count());
    assert!(found.contains_key(invariant), "{why:?} breaks {:?}", found.keys());
}
