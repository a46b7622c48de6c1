//! Who should own a partition, and who should stand by: pure functions of the view.
//!
//! Rendezvous hashing: each node has a weight for each partition, and the heaviest one that is fit
//! owns it. So a departure moves only what the departed had, each partition to the node that stood
//! by for it, and a node that joins takes only its own share. Rule: cluster.md 3.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::members::{Beat, View};
use super::routes::Routes;
use crate::journal::Partition;

/// How many nodes follow a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandbyMode {
    /// One beside the owner.
    #[default]
    One,
    /// Every node: for small clusters.
    All,
}

fn weight(node: &str, partition: Partition) -> u64 {
    xxh3_64_with_seed(node.as_bytes(), u64::from(partition.0))
}

/// The nodes that stay, the heaviest for `partition` first.
fn ranked(view: &View, partition: Partition) -> Vec<&Beat> {
    let mut ranked: Vec<&Beat> = view.staying().collect();
    ranked.sort_by_key(|beat| (Reverse(weight(&beat.node, partition)), &beat.node));
    ranked
}

/// Whether a node could serve `partition` at once.
fn is_fit(beat: &Beat, partition: Partition, routes: &Routes) -> bool {
    let owns = || {
        let owner = routes.owner(partition);
        owner.is_some_and(|owner| owner.node == beat.node && owner.address == beat.address)
    };
    beat.warm.contains(&partition) || owns()
}

/// Who should own `partition`: the heaviest node that is fit, or the heaviest of all if none is.
pub fn owner<'v>(view: &'v View, routes: &Routes, partition: Partition) -> Option<&'v Beat> {
    let ranked = ranked(view, partition);
    let fit = ranked.iter().find(|beat| is_fit(beat, partition, routes));
    fit.or(ranked.first()).copied()
}

/// The partitions that `node` should follow, whether it owns them by then or not: those for which it
/// is one of the two heaviest, or all.
pub fn followed_by(
    view: &View,
    node: &str,
    partitions: u16,
    mode: StandbyMode,
) -> BTreeSet<Partition> {
    let follows = |partition: &Partition| match mode {
        StandbyMode::All => true,
        StandbyMode::One => ranked(view, *partition).iter().take(2).any(|beat| beat.node == node),
    };
    (0..partitions).map(Partition).filter(follows).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::members::Standing;
    use crate::cluster::routes::Owner;
    use crate::domain::Timestamp;
    use crate::journal::{Epoch, Notice};

    const PARTITIONS: u16 = 128;

    fn all() -> impl Iterator<Item = Partition> {
        (0..PARTITIONS).map(Partition)
    }

    fn view<'a>(beats: impl IntoIterator<Item = (&'a str, Standing, BTreeSet<Partition>)>) -> View {
        let mut view = View::new(Duration::from_secs(5));
        for (node, state, warm) in beats {
            let beat = Beat {
                node: node.into(),
                incarnation: Uuid::nil(),
                address: format!("{node}:7000"),
                state,
                warm,
            };
            let value = serde_json::to_vec(&beat).expect("a beat is JSON");
            view.apply(&Notice::Posted { key: node.into(), value, at: Timestamp(1) });
        }
        view
    }

    fn warm<'a>(names: impl IntoIterator<Item = &'a String>) -> View {
        let beats =
            names.into_iter().map(|name| (name.as_str(), Standing::Active, all().collect()));
        view(beats)
    }

    fn owners(view: &View, routes: &Routes) -> BTreeMap<Partition, String> {
        let owner = |partition| owner(view, routes, partition).map(|beat| beat.node.clone());
        all().filter_map(|partition| Some((partition, owner(partition)?))).collect()
    }

    fn nodes(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("node-{index}")).collect()
    }

    #[test]
    fn nobody_owns_anything_where_nobody_is() {
        assert!(owners(&view([]), &Routes::new(PARTITIONS)).is_empty());
    }

    #[test]
    fn a_node_that_is_not_warm_owns_nothing_unless_nobody_is() {
        let routes = Routes::new(PARTITIONS);
        let cold = view([
            ("a", Standing::Joining, BTreeSet::new()),
            ("b", Standing::Active, all().collect()),
        ]);
        assert!(owners(&cold, &routes).values().all(|owner| owner == "b"));
        let all_cold = view([
            ("a", Standing::Joining, BTreeSet::new()),
            ("b", Standing::Joining, BTreeSet::new()),
        ]);
        let owners = owners(&all_cold, &routes);
        assert_eq!(owners.values().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn who_owns_a_partition_now_is_fit_for_it_and_an_earlier_life_at_another_address_is_not() {
        let routes = Routes::new(PARTITIONS);
        for partition in all() {
            let address = "a:7000".into();
            routes.note(partition, Owner { epoch: Epoch(1), node: "a".into(), address });
        }
        let cold =
            [("a", Standing::Active, BTreeSet::new()), ("b", Standing::Joining, BTreeSet::new())];
        assert!(owners(&view(cold.clone()), &routes).values().all(|owner| owner == "a"));
        for partition in all() {
            let address = "a:9999".into();
            routes.note(partition, Owner { epoch: Epoch(2), node: "a".into(), address });
        }
        assert!(owners(&view(cold), &routes).values().any(|owner| owner == "b"));
    }

    #[test]
    fn who_leaves_owns_nothing_and_the_standby_takes_over() {
        let routes = Routes::new(PARTITIONS);
        let before = owners(&warm(&nodes(3)), &routes);
        let leaving = view(nodes(3).iter().map(|name| {
            let state = if name == "node-1" { Standing::Leaving } else { Standing::Active };
            (name.as_str(), state, all().collect())
        }));
        let after = owners(&leaving, &routes);
        for (partition, owner) in &before {
            if owner == "node-1" {
                assert_ne!(&after[partition], "node-1");
            } else {
                assert_eq!(&after[partition], owner, "undisturbed");
            }
        }
    }

    proptest! {
        #[test]
        fn a_departure_moves_only_what_the_departed_had_and_to_its_standby(
            count in 2..12_usize,
            gone in any::<prop::sample::Index>(),
        ) {
            let names = nodes(count);
            let gone = &names[gone.index(count)];
            let whole = warm(&names);
            let routes = Routes::new(PARTITIONS);
            let before = owners(&whole, &routes);
            let after = owners(&warm(names.iter().filter(|name| *name != gone)), &routes);
            for (partition, owner) in &before {
                let heir = &after[partition];
                if owner == gone {
                    let follows = followed_by(&whole, heir, PARTITIONS, StandbyMode::One);
                    prop_assert!(follows.contains(partition));
                } else {
                    prop_assert_eq!(heir, owner);
                }
            }
        }

        #[test]
        fn shares_are_even_within_reason(count in 3..12_usize) {
            let mut shares: BTreeMap<String, usize> = BTreeMap::new();
            for owner in owners(&warm(&nodes(count)), &Routes::new(PARTITIONS)).into_values() {
                *shares.entry(owner).or_default() += 1;
            }
            let fair = usize::from(PARTITIONS) / count;
            prop_assert!(shares.values().all(|share| *share <= 2 * fair + 4), "{shares:?}");
            prop_assert_eq!(shares.len(), count);
        }

        #[test]
        fn every_partition_is_followed_by_two_nodes(count in 2..12_usize) {
            let names = nodes(count);
            let view = warm(&names);
            let mut followers = BTreeMap::<Partition, usize>::new();
            for name in &names {
                for partition in followed_by(&view, name, PARTITIONS, StandbyMode::One) {
                    *followers.entry(partition).or_default() += 1;
                }
            }
            prop_assert!(all().all(|partition| followers[&partition] == 2));
            let all_of_them = followed_by(&view, &names[0], PARTITIONS, StandbyMode::All);
            prop_assert_eq!(all_of_them.len(), usize::from(PARTITIONS));
        }
    }
}
