//! Where cursors are kept: by whoever owns the partitions and appends to them.
//!
//! A cursor moves only after the subscriber answered: a crash in between repeats calls, which the
//! receiver drops by `webhook-id`. The other order would lose some in silence.

use std::future::Future;

use crate::journal::{Cursor, Partition, Place};

/// Why a cursor could not be read or saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The journal takes nothing at present. Try again later.
    #[error("the cursor cannot be saved at present: {0}")]
    Unavailable(String),
}

/// The keeper of cursors.
///
/// The futures are awaited on the thread of the followers and need not be `Send`.
pub trait Cursors: Clone + Send + 'static {
    /// The last durable cursor of `subscription` in `partition`, `None` if there never was one; and
    /// the end of the partition at present, where a subscription that is new there begins.
    fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> impl Future<Output = Result<(Option<Cursor>, Place), CursorError>>;

    /// Makes a cursor durable; resolves once it is.
    fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> impl Future<Output = Result<(), CursorError>>;
}
