//! What is known of users without asking their actors: which accounts exist, and what one of a pair
//! keeps about the other.
//!
//! Only what is final is put in, and only on the thread of the owner's partition. The same thread takes
//! it out when a turn changes it, before anybody is answered about that turn. So a question that follows
//! an answer never finds what was true before it. Where others may own a partition, what is
//! known of it counts within the lease alone. What is put in counts until the partition's state is read
//! anew.

use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::sync::Cache;

use super::Standing;
use crate::domain::{UserId, UserKey};
use crate::journal::Partition;

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
    term: u32,
    blocks: bool,
    has_friend: bool,
}

/// See the module.
pub(super) struct Known {
    /// With the term in which they were put in.
    accounts: Cache<UserKey, u32>,
    pairs: Cache<Pair, Bond>,
    /// By partition, what is put in now; what has another term counts for nothing.
    terms: Box<[AtomicU32]>,
}

impl Known {
    /// Remembers at most this many accounts.
    pub(super) fn new(accounts_max: usize, partitions: u16) -> Self {
        Self {
            accounts: Cache::new(accounts_max),
            pairs: Cache::new(PAIRS_MAX.min(accounts_max)),
            terms: (0..partitions).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn term(&self, home: Partition) -> Option<u32> {
        self.terms.get(usize::from(home.0)).map(|term| term.load(Ordering::Acquire))
    }

    /// Whether it is known that the account, which lives in `home`, exists.
    pub(super) fn has_account(&self, home: Partition, key: &UserKey) -> bool {
        let term = self.term(home);
        self.accounts.get(key).is_some_and(|known| Some(known) == term)
    }

    /// What `owner`, an account that exists, keeps about `peer`, if that is known.
    pub(super) fn standing(
        &self,
        home: Partition,
        owner: UserKey,
        peer: UserId,
    ) -> Option<Standing> {
        let now = self.term(home);
        let Bond { term, blocks, has_friend } = self.pairs.get(&Pair { owner, peer })?;
        let counts = Some(term) == now && self.has_account(home, &owner);
        counts.then_some(Standing { owner_imported: true, blocks, has_friend })
    }

    /// What is kept about `peer` is final, and the owner's account exists if it says so.
    pub(super) fn note(&self, home: Partition, owner: UserKey, peer: UserId, standing: Standing) {
        let Standing { owner_imported, blocks, has_friend } = standing;
        let Some(term) = self.term(home).filter(|_| owner_imported) else { return };
        if !self.has_account(home, &owner) {
            self.accounts.insert(owner, term);
        }
        self.pairs.insert(Pair { owner, peer }, Bond { term, blocks, has_friend });
    }

    /// What `owner` keeps about `peer` changes.
    pub(super) fn forget_pair(&self, owner: UserKey, peer: UserId) {
        self.pairs.remove(&Pair { owner, peer });
    }

    /// The account is deleted.
    pub(super) fn forget_account(&self, key: &UserKey) {
        self.accounts.remove(key);
    }

    /// The partition's state is read anew: what was known of it may be wrong.
    pub(super) fn forget_partition(&self, home: Partition) {
        if let Some(term) = self.terms.get(usize::from(home.0)) {
            term.fetch_add(1, Ordering::Release);
        }
    }
}
