//! What the models of the protocols share: their bounds, and how the checker is asked.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// A bound of a model: what the environment says, or `usual`. One more of anything takes about ten
/// times as long.
pub(crate) fn bound(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How many operations a model makes: `CORDON_MODEL_OPS`, or `usual`.
pub(crate) fn operations(usual: usize) -> usize {
    bound("CORDON_MODEL_OPS", usual)
}

/// How many things go wrong in a model: `CORDON_MODEL_FAULTS`, or `usual`.
pub(crate) fn faults(usual: usize) -> usize {
    bound("CORDON_MODEL_FAULTS", usual)
}

/// Every invariant holds in every state, and what should be possible happens.
#[track_caller]
pub(crate) fn assert_holds<M>(model: M)
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
#[track_caller]
pub(crate) fn assert_breaks<M>(model: M, invariant: &'static str, why: &dyn Debug)
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
