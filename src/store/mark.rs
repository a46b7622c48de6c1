//! What a checkpoint says beside its rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::journal::{Cursor, Epoch, Imprint, Offset, Place};
use crate::pairing::OwedEffect;

/// Up to where a partition's rows stand, and the partition's own state there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The first offset that is not in the rows.
    pub next: Offset,
    /// The epoch in force before `next`.
    pub epoch: Epoch,
    /// The number of valid records of that epoch before `next`.
    pub n: u64,
    /// The hash of all rows of the partition.
    pub hash: u128,
    /// The last record before `next` is a `release`.
    pub released: bool,
    /// How much was taken from each source partition.
    pub inbox: Vec<u64>,
    /// What is owed to each destination partition.
    pub outbox: Vec<OutboxMark>,
    /// The follower cursors kept in this partition.
    pub cursors: Vec<CursorMark>,
    /// A place some seconds before `next`: from there on it is read again which commands were done
    /// lately.
    pub lately: Place,
    /// The last record before `next` that counts. It has to stand in the journal still.
    pub last: Option<Imprint>,
}

/// What is owed to one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMark {
    /// The number of the last acknowledged effect.
    pub acked: u64,
    /// The effects behind it.
    pub owed: Vec<Arc<OwedEffect>>,
}

/// A follower's cursor. Its progress is kept as JSON, which leaves out what is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorMark {
    subscription: String,
    place: Place,
    term: u32,
    progress: String,
}

impl CursorMark {
    /// The cursor of `subscription`, to be written.
    pub fn new(subscription: &str, cursor: &Cursor) -> Self {
        let progress = serde_json::to_string(&cursor.progress);
        Self {
            subscription: subscription.to_owned(),
            place: cursor.place,
            term: cursor.term,
            progress: progress.expect("a progress has nothing that JSON cannot say"),
        }
    }

    /// Whose cursor it is, and the cursor.
    ///
    /// Errors: [`StoreError::Row`] if its progress is unreadable.
    pub fn read(self) -> Result<(String, Cursor), StoreError> {
        let progress = serde_json::from_str(&self.progress)
            .map_err(|_| StoreError::Row(postcard::Error::DeserializeBadEncoding))?;
        let cursor = Cursor { place: self.place, term: self.term, ended: false, progress };
        Ok((self.subscription, cursor))
    }
}
