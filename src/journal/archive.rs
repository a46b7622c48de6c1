//! Where snapshots of partitions are kept, for nodes that begin without a store of their own.
//!
//! It lies beside the journal and holds nothing that the journal does not: whoever finds nothing
//! there, or nothing that is right, reads the journal from its beginning. Promises: the last value
//! under each key stays; values of one partition are read in the order in which they were put there.

use super::{JournalError, Partition};

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Where snapshots are kept. All methods block.
pub trait Archive: Send + Sync + 'static {
    /// Puts `entries` there one after the other; returns once all are durable. How many are in flight
    /// is bounded.
    ///
    /// Errors: [`JournalError::Unavailable`]; then some of them may be there.
    fn publish(
        &self,
        partition: Partition,
        entries: &mut dyn Iterator<Item = KeyValue>,
    ) -> Result<(), JournalError>;

    /// Hands everything that stands in `partition` to `each`, in order, as far as it was there when
    /// the reading began. Once `is_over`, which is asked again and again, it returns where it is.
    fn read(
        &self,
        partition: Partition,
        is_over: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), JournalError>;
}
