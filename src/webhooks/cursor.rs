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
    /// The last durable cursor of `subscription` in `partition`, `None` if there never was one; and
    /// the end of the partition at present, where a subscription that is new there begins.
    fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> impl Future<Output = Result<(Option<Position>, Position), CursorError>>;

    /// Makes a cursor durable; resolves once it is.
    fn save(
        &self,
        partition: Partition,
        subscription: &str,
        position: Position,
    ) -> impl Future<Output = Result<(), CursorError>>;
}

/// Records without a call for a subscription, after which its cursor is worth saving all the same.
pub const SILENT_RECORDS_MAX: u64 = 10_000;

/// When a cursor is worth a record of its own.
///
/// Only commits make it so. A cursor that was saved because a cursor was read would have no end.
pub(super) struct Bookmark {
    saved: Offset,
    /// Records with calls that were done with since the last save.
    done: u64,
    /// Commits that were read since then.
    read: u64,
}

/// What one save of a cursor covers.
pub(super) struct SaveMark {
    next: Offset,
    done: u64,
    read: u64,
}

impl Bookmark {
    pub(super) fn new(saved: Offset) -> Self {
        Self { saved, done: 0, read: 0 }
    }

    pub(super) fn note_read(&mut self) {
        self.read += 1;
    }

    pub(super) fn note_done(&mut self) {
        self.done += 1;
    }

    /// `low_water`, if that is to be saved while the partition is followed.
    pub(super) fn worth_saving(&self, low_water: Position) -> Option<Position> {
        let worth = self.done > 0 || self.read >= SILENT_RECORDS_MAX;
        (worth && low_water.next > self.saved).then_some(low_water)
    }

    /// `low_water`, if that is to be saved when the partition is left.
    pub(super) fn worth_leaving(&self, low_water: Position) -> Option<Position> {
        let worth = self.done > 0 || self.read > 0;
        (worth && low_water.next > self.saved).then_some(low_water)
    }

    /// Notes that a save of `position` is under way.
    pub(super) fn begin_save(&mut self, position: Position) -> SaveMark {
        let (done, read) = (std::mem::take(&mut self.done), std::mem::take(&mut self.read));
        SaveMark { next: position.next, done, read }
    }

    /// The save is durable.
    pub(super) fn saved(&mut self, mark: &SaveMark) {
        self.saved = mark.next;
    }

    /// The save failed: what it would have covered is still to be saved.
    pub(super) fn save_failed(&mut self, mark: &SaveMark) {
        self.done += mark.done;
        self.read += mark.read;
    }
}
