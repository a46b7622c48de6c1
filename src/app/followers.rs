//! Webhooks go where the partitions are owned: followed as soon as this node serves one, let go
//! before or after it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::actors::{ExecuteError, Seat, Users};
use crate::journal::{Cursor, Epoch, Partition, Place};
use crate::webhooks::{self, CursorError, Cursors};

/// Partitions that are being let go of, at most: all that a node can own.
const LEAVING_MAX: usize = 4096;

/// Keeps the webhooks in step with the seats.
pub(super) struct Followers {
    users: Users,
    webhooks: Arc<webhooks::Handle>,
    followed: BTreeMap<Partition, Epoch>,
    /// Being let go of; orders about one partition are given one after the other.
    leaving: BTreeSet<Partition>,
    left: (mpsc::Sender<Partition>, mpsc::Receiver<Partition>),
}

impl Followers {
    pub(super) fn new(users: Users, webhooks: Arc<webhooks::Handle>) -> Self {
        Self {
            users,
            webhooks,
            followed: BTreeMap::new(),
            leaving: BTreeSet::new(),
            left: mpsc::channel(LEAVING_MAX),
        }
    }

    /// Follows what is served now and lets go of what is not any more.
    ///
    /// Errors: why something that is served is not followed yet; tried again by the next call.
    pub(super) async fn keep_up(&mut self) -> Result<(), String> {
        while let Ok(partition) = self.left.1.try_recv() {
            self.leaving.remove(&partition);
        }
        let mut served = BTreeMap::new();
        for (index, seat) in self.users.seats().into_iter().enumerate() {
            if let Seat::Serving { epoch, .. } = seat {
                served.insert(Partition(index as u16), epoch);
            }
        }
        // In another term of office others may have moved the cursors meanwhile.
        let gone = self.followed.iter().filter(|(known, epoch)| served.get(known) != Some(epoch));
        let gone: Vec<Partition> = gone.map(|(partition, _)| *partition).collect();
        gone.into_iter().for_each(|partition| self.leave(partition));
        let new: Vec<Partition> = served
            .keys()
            .filter(|known| !self.followed.contains_key(known) && !self.leaving.contains(known))
            .copied()
            .collect();
        if !new.is_empty() {
            self.followed.extend(new.iter().map(|partition| (*partition, served[partition])));
            if let Err(error) = self.webhooks.follow(&new).await {
                // Some may be followed, and not by all. It is begun anew.
                new.into_iter().for_each(|partition| self.leave(partition));
                return Err(error.to_string());
            }
        }
        match self.leaving.iter().find(|partition| served.contains_key(partition)) {
            Some(partition) => Err(format!("the webhooks of partition {partition} are ending")),
            None => Ok(()),
        }
    }

    fn leave(&mut self, partition: Partition) {
        self.followed.remove(&partition);
        self.leaving.insert(partition);
        let (webhooks, left) = (self.webhooks.clone(), self.left.0.clone());
        // Attempts under way end first, which may take as long as an attempt may.
        tokio::task::spawn_local(async move {
            webhooks.leave(&[partition]).await;
            let _ = left.send(partition).await;
        });
    }
}

/// The cursors of the followers lie in the partitions that they follow.
#[derive(Clone)]
pub(super) struct UserCursors(pub(super) Users);

fn cursor_error(error: ExecuteError) -> CursorError {
    match error {
        ExecuteError::Overloaded => CursorError::NoRoom,
        error => CursorError::Unavailable(error.to_string()),
    }
}

impl Cursors for UserCursors {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, Place), CursorError> {
        self.0.cursor(partition, subscription).await.map_err(cursor_error)
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        self.0.save_cursor(partition, subscription, cursor).await.map_err(cursor_error)
    }
}
