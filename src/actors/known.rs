//! What is known of users without asking their actors: which accounts exist, and what one of a pair
//! keeps about the other.
//!
//! Only what is final is put in, and only on the thread of the owner's partition, which is also where
//! it is taken out when a turn changes it: before anybody is answered about that turn. So whoever asks
//! behind an answer never finds what was true before it. Where others may own a partition, what is
//! known of it counts within the lease alone, and is forgotten with the partition.

use quick_cache::sync::Cache;

use super::Standing;
use crate::domain::{UserId, UserKey};
use crate::journal::{Partition, partition_of};

/// Pairs that are remembered at most, over all partitions: about 30 MB.
const PAIRS_MAX: usize = 250_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    owner: UserKey,
    peer: UserId,
}

/// What the owner of a pair keeps about the peer.
#[derive(Clone, Copy)]
struct Bond {
    blocks: bool,
    has_friend: bool,
}

/// See the module.
pub(super) struct Known {
    accounts: Cache<UserKey, ()>,
    pairs: Cache<Pair, Bond>,
}

impl Known {
    /// Remembers at most this many accounts.
    pub(super) fn new(accounts_max: usize) -> Self {
        Self { accounts: Cache::new(accounts_max), pairs: Cache::new(PAIRS_MAX.min(accounts_max)) }
    }

    /// Whether it is known that the account exists.
    pub(super) fn has_account(&self, key: &UserKey) -> bool {
        self.accounts.get(key).is_some()
    }

    /// What `owner`, an account that exists, keeps about `peer`, if that is known.
    pub(super) fn standing(&self, owner: UserKey, peer: UserId) -> Option<Standing> {
        let Bond { blocks, has_friend } = self.pairs.get(&Pair { owner, peer })?;
        self.has_account(&owner).then_some(Standing { owner_imported: true, blocks, has_friend })
    }

    /// What is kept about `peer` is final, and the owner's account exists if it says so.
    pub(super) fn note(&self, owner: UserKey, peer: UserId, standing: Standing) {
        let Standing { owner_imported, blocks, has_friend } = standing;
        if !owner_imported {
            return;
        }
        if !self.has_account(&owner) {
            self.accounts.insert(owner, ());
        }
        self.pairs.insert(Pair { owner, peer }, Bond { blocks, has_friend });
    }

    /// What `owner` keeps about `peer` changes.
    pub(super) fn forget_pair(&self, owner: UserKey, peer: UserId) {
        self.pairs.remove(&Pair { owner, peer });
    }

    /// The account is deleted.
    pub(super) fn forget_account(&self, key: &UserKey) {
        self.accounts.remove(key);
    }

    /// Somebody else may own the partition from now on.
    pub(super) fn forget_partition(&self, partition: Partition, partitions: u16) {
        let is_other = |key: &UserKey| partition_of(key, partitions) != partition;
        self.accounts.retain(|key, ()| is_other(key));
        self.pairs.retain(|pair, _| is_other(&pair.owner));
    }
}
