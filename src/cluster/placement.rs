//! Who should own a partition, and who should stand by: pure functions of what was read.
//!
//! Rendezvous hashing: each node has a weight for each partition, and the heaviest one that is fit
//! owns it. So a departure moves only what the departed had, each partition to the node that stood
//! by for it, and a node that joins takes only its own share, once it is warm. Rule: cluster.md 3.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::members::{Beat, View};
use super::owners::Owners;
use crate::journal::Partition;

/// How many nodes follow a partition under [`StandbyMode::One`]: its owner-to-be and one more.
const FOLLOWERS: usize = 2;

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

/// The order of the nodes for each partition. It is worked out anew only when nodes come or go: with
/// a hundred nodes and thousands of partitions that is what takes time.
#[derive(Clone, Debug)]
pub struct Placement {
    nodes: Vec<String>,
    /// By partition: places in `nodes`, the heaviest first.
    ranks: Vec<Vec<u16>>,
}

impl Placement {
    /// Nobody is there.
    pub fn new(partitions: u16) -> Self {
        Self { nodes: Vec::new(), ranks: vec![Vec::new(); usize::from(partitions)] }
    }

    /// Takes note of who stays.
    pub fn refresh(&mut self, view: &View) {
        if view.staying().map(|beat| &beat.node).eq(&self.nodes) {
            return;
        }
        self.nodes = view.staying().map(|beat| beat.node.clone()).collect();
        for (partition, ranks) in (0..).map(Partition).zip(&mut self.ranks) {
            let weigh = |(place, node): (usize, &String)| (weight(node, partition), place as u16);
            let mut weighed: Vec<_> = self.nodes.iter().enumerate().map(weigh).collect();
            // The nodes stand in the order of their names: so do equal ones afterwards.
            weighed.sort_by_key(|(weight, place)| (Reverse(*weight), *place));
            *ranks = weighed.into_iter().map(|(_, place)| place).collect();
        }
    }

    /// Those who stay, the heaviest for `partition` first, and whether they could serve it at once:
    /// they say that they are warm, or own it by the very start that lives; and have room for it.
    fn ranked<'v>(
        &self,
        view: &'v View,
        owners: &Owners,
        partition: Partition,
    ) -> impl Iterator<Item = (&'v Beat, bool)> {
        let holder = owners.highest(partition);
        let ranks = self.ranks.get(usize::from(partition.0)).map_or(&[][..], Vec::as_slice);
        ranks.iter().filter_map(move |place| {
            let beat = view.find(self.nodes.get(usize::from(*place))?)?;
            let owns = holder.is_some_and(|holder| {
                holder.node == beat.node && holder.incarnation == beat.incarnation
            });
            let is_warm = owns || beat.warm.contains(&partition);
            Some((beat, is_warm && !beat.cramped))
        })
    }

    /// Who should own `partition` if it were not `without`, and whether that node is fit: the heaviest
    /// that is, or the heaviest of all if none is.
    pub fn heir<'v>(
        &self,
        view: &'v View,
        owners: &Owners,
        partition: Partition,
        without: Option<&str>,
    ) -> Option<(&'v Beat, bool)> {
        let mut first = None;
        for (beat, fit) in self.ranked(view, owners, partition) {
            if Some(beat.node.as_str()) == without {
                continue;
            }
            if fit {
                return Some((beat, fit));
            }
            first = first.or(Some((beat, fit)));
        }
        first
    }

    /// Whether `node` should follow `partition`, if it does not own it: it is one of the two heaviest,
    /// or one of the two heaviest that are fit. So a node that joins puts nobody out who is warm before
    /// it is warm itself, and a crash meanwhile finds somebody who stands by.
    pub fn follows(
        &self,
        view: &View,
        owners: &Owners,
        partition: Partition,
        node: &str,
        mode: StandbyMode,
    ) -> bool {
        let mut fit_before = 0;
        for (before, (beat, fit)) in self.ranked(view, owners, partition).enumerate() {
            let counts = before < FOLLOWERS || fit && fit_before < FOLLOWERS;
            if beat.node == node {
                return mode == StandbyMode::All || counts;
            }
            fit_before += usize::from(fit);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::members::NodeState;
    use crate::cluster::owners::Tenure;
    use crate::journal::{Epoch, Notice};

    const PARTITIONS: u16 = 128;

    fn all() -> impl Iterator<Item = Partition> {
        (0..PARTITIONS).map(Partition)
    }

    /// What was read, and the order that follows.
    struct Read {
        view: View,
        owners: Owners,
        placement: Placement,
    }

    impl Read {
        fn new() -> Self {
            let view = View::new(Duration::from_secs(5));
            Self { view, owners: Owners::new(PARTITIONS), placement: Placement::new(PARTITIONS) }
        }

        /// All of them active and warm for everything.
        fn warm<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
            let mut read = Self::new();
            for name in names {
                read.beat(name, NodeState::Active, all());
            }
            read
        }

        fn beat(&mut self, node: &str, state: NodeState, warm: impl Iterator<Item = Partition>) {
            let (incarnation, address) = (Uuid::nil(), format!("{node}:7000"));
            let (node, warm) = (node.to_owned(), warm.collect());
            let beat = Beat { node, incarnation, number: 1, address, state, warm, cramped: false };
            let value = serde_json::to_vec(&beat).expect("a beat is JSON");
            let notice = Notice::Posted { key: beat.node, value };
            self.view.apply(&notice, Duration::ZERO);
            self.placement.refresh(&self.view);
        }

        fn owned(&mut self, node: &str, incarnation: Uuid) {
            for partition in all() {
                let (epoch, address) = (Epoch(incarnation.as_u128() as u64 + 1), String::new());
                let tenure = Tenure { epoch, node: node.into(), incarnation, address };
                let value = serde_json::to_vec(&tenure).expect("a claim is JSON");
                let key = partition.to_string();
                self.owners.apply(&Notice::Posted { key, value });
            }
        }

        fn owners(&self) -> BTreeMap<Partition, String> {
            let owner = |partition| self.placement.heir(&self.view, &self.owners, partition, None);
            let named = |name| owner(name).map(|(beat, _)| (name, beat.node.clone()));
            all().filter_map(named).collect()
        }

        fn follows(&self, node: &str, partition: Partition, mode: StandbyMode) -> bool {
            self.placement.follows(&self.view, &self.owners, partition, node, mode)
        }
    }

    fn nodes(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("node-{index}")).collect()
    }

    fn names(max: usize) -> impl Strategy<Value = Vec<String>> {
        let names = prop::collection::btree_set("[a-z0-9.-]{1,20}", 3..=max);
        names.prop_map(|names| names.into_iter().collect())
    }

    #[test]
    fn nobody_owns_anything_where_nobody_is() {
        assert!(Read::new().owners().is_empty());
        assert!(!Read::new().follows("a", Partition(0), StandbyMode::All));
    }

    #[test]
    fn a_node_that_is_not_warm_owns_nothing_unless_nobody_is() {
        let mut read = Read::new();
        read.beat("a", NodeState::Joining, [].into_iter());
        read.beat("b", NodeState::Active, all());
        assert!(read.owners().values().all(|owner| owner == "b"));
        read.beat("b", NodeState::Joining, [].into_iter());
        assert_eq!(read.owners().values().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn who_owns_a_partition_now_is_fit_for_it_and_an_earlier_start_is_not() {
        let mut read = Read::new();
        read.beat("a", NodeState::Active, [].into_iter());
        read.beat("b", NodeState::Joining, [].into_iter());
        read.owned("a", Uuid::nil());
        assert!(read.owners().values().all(|owner| owner == "a"));
        read.owned("a", Uuid::from_u128(1));
        assert!(read.owners().values().any(|owner| owner == "b"));
    }

    #[test]
    fn a_joiner_puts_nobody_out_who_is_warm_before_it_is_warm_itself() {
        let mut read = Read::warm(&nodes(2));
        read.beat("joiner", NodeState::Joining, [].into_iter());
        let share = |read: &Read, node: &str| {
            all().filter(|name| read.follows(node, *name, StandbyMode::One)).count()
        };
        assert_eq!((share(&read, "node-0"), share(&read, "node-1")), (128, 128));
        assert!(share(&read, "joiner") > 0);
        read.beat("joiner", NodeState::Active, all());
        let shares = ["node-0", "node-1", "joiner"].map(|node| share(&read, node));
        assert_eq!(shares.iter().sum::<usize>(), 2 * 128);
    }

    proptest! {
        #[test]
        fn a_departure_moves_only_what_the_departed_had_and_to_its_standby(
            names in names(20),
            gone in any::<prop::sample::Index>(),
            leaves in any::<bool>(),
        ) {
            let gone = &names[gone.index(names.len())];
            let whole = Read::warm(&names);
            let mut left = Read::warm(names.iter().filter(|name| *name != gone));
            if leaves {
                left.beat(gone, NodeState::Leaving, all());
            }
            let after = left.owners();
            for (partition, owner) in &whole.owners() {
                let heir = &after[partition];
                if owner == gone {
                    prop_assert_ne!(heir, gone);
                    prop_assert!(whole.follows(heir, *partition, StandbyMode::One));
                    let (view, owners) = (&whole.view, &whole.owners);
                    let told = whole.placement.heir(view, owners, *partition, Some(gone));
                    prop_assert_eq!(told.map(|(beat, fit)| (&beat.node, fit)), Some((heir, true)));
                } else {
                    prop_assert_eq!(heir, owner);
                }
            }
        }

        #[test]
        fn a_join_moves_a_share_and_only_to_the_joiner(names in names(20)) {
            let (joiner, others) = names.split_first().expect("there are several");
            let before = Read::warm(others).owners();
            let after = Read::warm(&names).owners();
            let moved: Vec<_> = all().filter(|name| before[name] != after[name]).collect();
            prop_assert!(moved.iter().all(|partition| after[partition] == *joiner));
            let fair = usize::from(PARTITIONS) / names.len();
            prop_assert!(moved.len() <= 3 * fair + 6, "{} of {fair}", moved.len());
        }

        #[test]
        fn shares_are_even_within_reason(names in names(20)) {
            let mut shares: BTreeMap<String, usize> = BTreeMap::new();
            for owner in Read::warm(&names).owners().into_values() {
                *shares.entry(owner).or_default() += 1;
            }
            let fair = usize::from(PARTITIONS) / names.len();
            prop_assert!(shares.values().all(|share| *share <= 3 * fair + 6), "{shares:?}");
            // With few nodes nobody is left out.
            prop_assert!(names.len() > 5 || shares.len() == names.len());
        }

        #[test]
        fn the_order_in_which_notices_were_read_and_nodes_came_is_of_no_account(names in names(12)) {
            let backwards = names.iter().rev();
            prop_assert_eq!(Read::warm(&names).owners(), Read::warm(backwards).owners());
        }

        #[test]
        fn every_partition_is_followed_by_two_nodes_or_by_all(names in names(12)) {
            let read = Read::warm(&names);
            let followers = |partition, mode| {
                names.iter().filter(|name| read.follows(name, partition, mode)).count()
            };
            for partition in all() {
                prop_assert_eq!(followers(partition, StandbyMode::One), 2);
                prop_assert_eq!(followers(partition, StandbyMode::All), names.len());
            }
        }
    }
}
