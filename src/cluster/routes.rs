//! Who owns each partition now, as far as this node has heard: the claim with the highest epoch.

use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::journal::{Epoch, Partition};

/// The owner of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The epoch that it claimed.
    pub epoch: Epoch,
    /// Its name.
    pub node: String,
    /// Where other nodes reach it: `host:port` of its listener for nodes.
    pub address: String,
}

/// The owners of all partitions. Shared by those who learn of claims and those who look for an owner.
#[derive(Debug)]
pub struct Routes {
    owners: RwLock<Vec<Option<Owner>>>,
    changes: watch::Sender<u64>,
}

impl Routes {
    /// Nobody owns any of `partitions` yet.
    pub fn new(partitions: u16) -> Self {
        let owners = RwLock::new(vec![None; usize::from(partitions)]);
        Self { owners, changes: watch::Sender::new(0) }
    }

    /// Who owns `partition`, if anybody was heard of.
    pub fn owner(&self, partition: Partition) -> Option<Owner> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        owners.get(usize::from(partition.0)).cloned().flatten()
    }

    /// Returns when `partition` is owned by somebody else than `node` at `address`.
    pub async fn moved(&self, partition: Partition, node: &str, address: &str) {
        let mut changes = self.changes();
        let is_there = |owner: Option<Owner>| {
            owner.is_some_and(|owner| owner.node == node && owner.address == address)
        };
        while is_there(self.owner(partition)) {
            changes.changed().await.expect("who tells of changes lives as long as the routes");
        }
    }

    /// Takes note of a claim. Answers whether it was news: an older epoch than the one known, or a
    /// partition that does not exist, changes nothing.
    pub fn note(&self, partition: Partition, owner: Owner) -> bool {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = owners.get_mut(usize::from(partition.0)) else { return false };
        if known.as_ref().is_some_and(|known| known.epoch >= owner.epoch) {
            return false;
        }
        *known = Some(owner);
        drop(owners);
        self.changes.send_modify(|changes| *changes += 1);
        true
    }

    /// Changes whenever an owner does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(node: &str, epoch: u64) -> Owner {
        Owner { epoch: Epoch(epoch), node: node.into(), address: format!("{node}:7000") }
    }

    #[test]
    fn the_claim_with_the_highest_epoch_wins_in_whatever_order_they_are_heard_of() {
        let routes = Routes::new(2);
        assert_eq!(routes.owner(Partition(1)), None);
        assert!(routes.note(Partition(1), owner("a", 3)));
        assert!(!routes.note(Partition(1), owner("b", 2)));
        assert!(!routes.note(Partition(1), owner("b", 3)));
        assert_eq!(routes.owner(Partition(1)), Some(owner("a", 3)));
        assert!(routes.note(Partition(1), owner("b", 4)));
        assert_eq!(routes.owner(Partition(1)), Some(owner("b", 4)));
        assert_eq!(routes.owner(Partition(0)), None);
    }

    #[test]
    fn a_partition_that_does_not_exist_has_no_owner() {
        let routes = Routes::new(2);
        assert!(!routes.note(Partition(2), owner("a", 1)));
        assert_eq!(routes.owner(Partition(2)), None);
    }

    #[test]
    fn a_partition_has_moved_when_another_node_or_another_address_owns_it() {
        let routes = Routes::new(1);
        let moved = |node, address| {
            let moved = routes.moved(Partition(0), node, address);
            futures_util::FutureExt::now_or_never(moved).is_some()
        };
        routes.note(Partition(0), owner("a", 1));
        assert!(!moved("a", "a:7000"));
        routes.note(Partition(0), owner("a", 2));
        assert!(!moved("a", "a:7000"), "it has claimed it again");
        assert!(moved("a", "a:7001") && moved("b", "a:7000"));
    }

    #[test]
    fn whoever_waits_hears_of_news_only() {
        let routes = Routes::new(1);
        let mut changes = routes.changes();
        routes.note(Partition(0), owner("a", 1));
        assert!(changes.has_changed().unwrap());
        changes.borrow_and_update();
        routes.note(Partition(0), owner("b", 1));
        assert!(!changes.has_changed().unwrap());
    }
}
