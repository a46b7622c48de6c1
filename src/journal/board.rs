//! A notice board that all nodes of a cluster read: the last notice under each key, in one order.
//!
//! It lies beside the journal, because whoever keeps the one can keep the other (a compacted topic).
//! Nothing on it is a truth: who owns a partition is decided by the partition's own records alone.
//! Promises: all readers see the same notices in the same order; older notices under a key may be missing,
//! the last one never is.

/// Where notices are put up.
pub trait Board: Send + Sync + 'static {
    /// Replaces what stands under `key` by `value`. Returns at once. A notice that cannot be posted is
    /// logged and lost, so a caller that needs it posts it again.
    fn post(&self, key: &str, value: &[u8]);
}

/// What a reader of a board hears, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A notice was put up.
    Posted {
        /// Its key.
        key: String,
        /// What it says.
        value: Vec<u8>,
    },
    /// Everything that stood there when the reader came has been read. Told once.
    CaughtUp,
}
