//! Reads of a journal that is asked over a network. Each is made on a thread of its own, and of a
//! partition one of a kind at a time: whoever cannot be read holds nobody else up.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::journal::{Journal, JournalError, Partition};
use crate::webhooks::feed::{Deliveries, Tail, read_again};
use crate::webhooks::line::Fetching;

/// What a read came to.
pub(super) enum Came {
    /// Of a partition that is read on.
    Tail {
        partition: Partition,
        tail: Tail,
        /// Whether there is something.
        some: Result<bool, JournalError>,
    },
    /// Of records that were read before.
    Again { partition: Partition, deliveries: Vec<(Fetching, Fetched)> },
    /// Its thread broke.
    Broken { partition: Partition },
}

/// The deliveries of a record that was read again.
pub(super) type Fetched = Result<Option<Arc<Deliveries>>, JournalError>;

type Read = Pin<Box<dyn Future<Output = Came>>>;

/// See the module.
pub(super) struct Away {
    journal: Arc<dyn Journal>,
    permits: Arc<Semaphore>,
    reads: FuturesUnordered<Read>,
    /// Partitions that are being read on.
    tails: BTreeSet<Partition>,
    /// Partitions with a record that is being read again, and the records to read next.
    again: BTreeMap<Partition, Vec<Fetching>>,
}

impl Away {
    /// At most as many reads as there are `permits` are made at the same time.
    pub(super) fn new(journal: Arc<dyn Journal>, permits: Arc<Semaphore>) -> Self {
        Self {
            journal,
            permits,
            reads: FuturesUnordered::new(),
            tails: BTreeSet::new(),
            again: BTreeMap::new(),
        }
    }

    /// Whether a partition is being read on.
    pub(super) fn has(&self, partition: Partition) -> bool {
        self.tails.contains(&partition)
    }

    /// Reads a partition on.
    pub(super) fn fill(&mut self, partition: Partition, mut tail: Tail) {
        self.tails.insert(partition);
        let journal = Arc::clone(&self.journal);
        self.read(partition, move || {
            let some = tail.fill(&*journal);
            Came::Tail { partition, tail, some }
        });
    }

    /// Reads a record again.
    pub(super) fn fetch(&mut self, fetching: Fetching) {
        let partition = fetching.partition;
        if let Some(next) = self.again.get_mut(&partition) {
            // At most one per user, and the users of a lane are bounded.
            next.push(fetching);
            return;
        }
        self.again.insert(partition, Vec::new());
        self.fetch_all(partition, vec![fetching]);
    }

    fn fetch_all(&mut self, partition: Partition, all: Vec<Fetching>) {
        let journal = Arc::clone(&self.journal);
        self.read(partition, move || {
            let mut deliveries = Vec::with_capacity(all.len());
            let mut failed = false;
            for fetching in all {
                // The first who waits in vain has waited for all.
                let read = if failed {
                    Ok(None)
                } else {
                    read_again(&*journal, partition, fetching.offset)
                };
                failed |= read.is_err();
                deliveries.push((fetching, read));
            }
            Came::Again { partition, deliveries }
        });
    }

    fn read(&self, partition: Partition, read: impl FnOnce() -> Came + Send + 'static) {
        let permits = Arc::clone(&self.permits);
        self.reads.push(Box::pin(async move {
            // They are never closed.
            let _permit = permits.acquire_owned().await;
            spawn_blocking(read).await.unwrap_or(Came::Broken { partition })
        }));
    }

    /// The next read that comes back; never, if none is out.
    pub(super) async fn next(&mut self) -> Came {
        let came = match self.reads.next().await {
            Some(came) => came,
            None => std::future::pending().await,
        };
        self.note(&came);
        came
    }

    /// One that has come back by now.
    pub(super) fn now(&mut self) -> Option<Came> {
        let came = self.reads.next().now_or_never().flatten()?;
        self.note(&came);
        Some(came)
    }

    fn note(&mut self, came: &Came) {
        match came {
            Came::Tail { partition, .. } => {
                self.tails.remove(partition);
            }
            Came::Again { partition, .. } => {
                let next = self.again.remove(partition).filter(|next| !next.is_empty());
                if let Some(next) = next {
                    self.again.insert(*partition, Vec::new());
                    self.fetch_all(*partition, next);
                }
            }
            Came::Broken { partition } => {
                tracing::error!(
                    journal.partition = partition.0,
                    "a read of the journal for a webhook panicked"
                );
                self.tails.remove(partition);
                self.again.remove(partition);
            }
        }
    }
}
