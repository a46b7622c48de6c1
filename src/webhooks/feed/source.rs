//! Where the feeds come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Afar, Feed, Tail};
use crate::domain::AppId;
use crate::journal::{Journal, Partition};

/// How long a journal that could not be read is left alone.
pub(super) const READ_RETRY: Duration = Duration::from_millis(1_000);
/// Reads of one partition behind which others have their turn.
const READS_IN_A_ROW_MAX: usize = 4;

/// The newest records of each partition that is followed.
pub(in crate::webhooks) type Feeds = BTreeMap<Partition, Feed>;

/// What the feeds are read from.
pub(in crate::webhooks) enum Source {
    /// A journal on this machine.
    Here(Here),
    /// One that a thread reads over a network.
    Afar(Afar),
}

impl Source {
    pub(in crate::webhooks) fn here(journal: Arc<dyn Journal>) -> Self {
        let progress = journal.progress();
        Self::Here(Here { journal, progress, tails: BTreeMap::new(), failing: false })
    }

    /// Reads the feeds on, and names the `apps` that it concerns. Answers whether there may be more.
    pub(in crate::webhooks) fn read(
        &mut self,
        feeds: &mut Feeds,
        apps: &mut BTreeSet<AppId>,
    ) -> bool {
        match self {
            Self::Here(here) => here.read(feeds, apps),
            Self::Afar(afar) => afar.read(feeds, apps),
        }
    }

    /// Waits until there may be something. Answers whether there ever can be again.
    pub(in crate::webhooks) async fn wait(&mut self) -> bool {
        match self {
            Self::Here(here) => here.wait().await,
            Self::Afar(afar) => afar.wait().await,
        }
    }
}

/// Reads in place.
pub(in crate::webhooks) struct Here {
    journal: Arc<dyn Journal>,
    progress: watch::Receiver<u64>,
    tails: BTreeMap<Partition, Tail>,
    failing: bool,
}

impl Here {
    fn read(&mut self, feeds: &mut Feeds, apps: &mut BTreeSet<AppId>) -> bool {
        // Seen before reading: what becomes durable during the read is waited for no longer.
        self.progress.borrow_and_update();
        let was_failing = std::mem::take(&mut self.failing);
        self.tails.retain(|partition, _| feeds.contains_key(partition));
        let mut more = false;
        for (partition, feed) in feeds {
            let tail = self.tails.remove(partition).filter(|tail| tail.next() == feed.next());
            let mut tail = tail.unwrap_or_else(|| Tail::new(*partition, feed.place));
            for reads in 1.. {
                match tail.read(&*self.journal) {
                    Ok(read) => {
                        let some = !read.is_empty();
                        feed.take(read, apps);
                        if !some || reads > READS_IN_A_ROW_MAX {
                            more |= some;
                            break;
                        }
                    }
                    Err(error) => {
                        if !was_failing {
                            tell_failure(*partition, &error);
                        }
                        self.failing = true;
                        break;
                    }
                }
            }
            self.tails.insert(*partition, tail);
        }
        more
    }

    async fn wait(&mut self) -> bool {
        if self.failing {
            sleep(READ_RETRY).await;
            return true;
        }
        self.progress.changed().await.is_ok()
    }
}

pub(super) fn tell_failure(partition: Partition, error: &dyn std::fmt::Display) {
    tracing::error!(
        journal.partition = partition.0,
        %error,
        "the journal cannot be read for the webhooks: trying again"
    );
}
