//! How far a subscription has come in a partition, kept where the journal keeps it.
//!
//! A cursor is a record of the partition itself, so it moves with the partition's ownership and
//! needs no second store. It moves only after the subscriber answered: a crash in between repeats
//! deliveries, which the receiver drops by `webhook-id`. The other order would lose some in
//! silence.

use std::future::Future;

use crate::journal::{Offset, Partition, ReaderRule};

/// A place from which a partition can be read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The first offset that is not done with.
    pub next: Offset,
    /// What decides which records count from there on: epoch and number in front of `next`.
    pub rule: ReaderRule,
}

/// Why a cursor could not be read or saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// This node does not own the partition, or not any more.
    #[error("the partition is not owned by this node")]
    NotOwned,
    /// The journal takes nothing at present. Try again later.
    #[error("the cursor cannot be saved at present: {0}")]
    Unavailable(String),
}

/// The keeper of cursors: whoever owns the partitions and appends to them.
///
/// The futures are awaited on the thread of the followers and need not be `Send`.
pub trait Cursors: Clone + Send + 'static {
    /// The last cursor of `subscription` in `partition`; `None` if there never was one.
    fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> impl Future<Output = Result<Option<Position>, CursorError>>;

    /// The end of `partition` at present, where a subscription that is new there begins.
    fn end(&self, partition: Partition) -> impl Future<Output = Result<Position, CursorError>>;

    /// Makes a cursor durable; resolves once it is.
    fn save(
        &self,
        partition: Partition,
        subscription: &str,
        position: Position,
    ) -> impl Future<Output = Result<(), CursorError>>;
}
