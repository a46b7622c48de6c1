//! The feeds of a journal that is read over a network: one thread with one reader for all partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::source::{Feeds, READ_RETRY, tell_failure};
use super::{BATCHES_AHEAD_MAX, Fed, READ_BYTES};
use crate::domain::AppId;
use crate::journal::{
    Entry, FOLLOWER_PATIENCE, Journal, JournalError, Offset, Partition, Place, Reader, unreadable,
};

/// How long a partition that alone cannot be read is set aside: at first, and at most. Each try may
/// hold the others as long as a read may take.
const ASIDE: Duration = Duration::from_secs(1);
const ASIDE_LONGEST: Duration = Duration::from_secs(60);

/// What is to be read of a partition, for the feed of that number.
type Wanted = BTreeMap<Partition, (u64, Place)>;

/// Records, each with the number of the feed that they were read for.
type Batch = Vec<(Partition, u64, Fed)>;

/// What the thread and the hub share.
#[derive(Default)]
struct Order {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

/// The hub's end. The thread ends when it is dropped, at the latest once its read has come back.
pub(in crate::webhooks) struct Afar {
    order: Arc<Order>,
    batches: mpsc::Receiver<Batch>,
    came: Option<Batch>,
    /// The feeds that the thread was told of.
    told: BTreeMap<Partition, u64>,
}

impl Afar {
    /// Begins to read. Errors: there is no thread to be had.
    pub(in crate::webhooks) fn begin(
        journal: Arc<dyn Journal>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let order = Arc::<Order>::default();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD_MAX);
        let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = thread::Builder::new().name("webhooks-feed".to_owned());
        let orders = Arc::clone(&order);
        let thread =
            thread.spawn(move || runtime.block_on(read_on(&*journal, &orders, &sender)))?;
        Ok((Self { order, batches, came: None, told: BTreeMap::new() }, thread))
    }

    pub(super) fn read(&mut self, feeds: &mut Feeds, apps: &mut BTreeSet<AppId>) -> bool {
        let are_told = feeds.len() == self.told.len()
            && feeds.iter().all(|(partition, feed)| self.told.get(partition) == Some(&feed.number));
        if !are_told {
            let wanted =
                feeds.iter().map(|(partition, feed)| (*partition, (feed.number, feed.place)));
            let wanted: Wanted = wanted.collect();
            self.told =
                wanted.iter().map(|(partition, (number, _))| (*partition, *number)).collect();
            *self.order.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
            self.order.changed.notify_one();
        }
        let Some(batch) = self.came.take().or_else(|| self.batches.try_recv().ok()) else {
            return false;
        };
        for (partition, number, fed) in batch {
            if let Some(feed) = feeds.get_mut(&partition).filter(|feed| feed.number == number) {
                feed.take([fed], apps);
            }
        }
        true
    }

    pub(super) async fn wait(&mut self) -> bool {
        if self.came.is_none() {
            self.came = self.batches.recv().await;
        }
        self.came.is_some()
    }
}

/// Reads what is wanted until nobody takes it any more or the journal ends.
async fn read_on(journal: &dyn Journal, order: &Order, batches: &mpsc::Sender<Batch>) {
    let mut progress = journal.progress();
    let mut following = Following::default();
    loop {
        // Seen before reading: what becomes durable during the read is waited for no longer.
        progress.borrow_and_update();
        let wanted = order.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        following.follow(&wanted);
        let batch = following.read(journal);
        if !batch.is_empty() {
            if batches.send(batch).await.is_err() {
                return;
            }
            continue;
        }
        let again = following.again();
        tokio::select! {
            changed = progress.changed(), if following.waits_for_news() => {
                if changed.is_err() {
                    return;
                }
            }
            () = order.changed.notified() => {}
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            () = batches.closed() => return,
        }
    }
}

/// A partition that cannot be read.
struct Aside {
    until: Instant,
    pause: Duration,
}

/// What the thread reads.
#[derive(Default)]
struct Following {
    places: Wanted,
    /// Reads all but those that are set aside.
    reader: Option<Box<dyn Reader>>,
    aside: BTreeMap<Partition, Aside>,
    /// Nothing can be read.
    failing: bool,
}

impl Following {
    /// Goes on with what is followed already, and begins with the rest.
    fn follow(&mut self, wanted: &Wanted) {
        let before = self.places.len();
        self.places.retain(|partition, (number, _)| {
            wanted.get(partition).is_some_and(|(wanted, _)| wanted == number)
        });
        let mut changed = self.places.len() < before;
        for (partition, begin) in wanted {
            self.places.entry(*partition).or_insert_with(|| {
                changed = true;
                *begin
            });
        }
        if changed {
            self.aside.retain(|partition, _| self.places.contains_key(partition));
            self.reader = None;
        }
    }

    /// Whether there is somebody to read for, and something to read from.
    fn waits_for_news(&self) -> bool {
        !self.failing && !self.places.is_empty()
    }

    /// When something is to be tried again that nothing announces.
    fn again(&self) -> Option<Duration> {
        if self.failing {
            return Some(READ_RETRY);
        }
        let next = self.aside.values().map(|aside| aside.until).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// The next records, none at the end.
    fn read(&mut self, journal: &dyn Journal) -> Batch {
        let now = Instant::now();
        if self.aside.values().any(|aside| aside.until <= now) {
            self.reader = None;
        }
        for now in [now, Instant::now()] {
            match self.read_together(journal, now) {
                Ok(entries) => {
                    self.failing = false;
                    self.aside.retain(|_, aside| aside.until > now);
                    return self.decode(entries);
                }
                Err(error) => {
                    if !self.set_aside(journal, &error, now) {
                        break;
                    }
                }
            }
        }
        Batch::new()
    }

    /// Those that are read at `now`, and from where.
    fn well(&self, now: Instant) -> Vec<(Partition, Offset)> {
        let is_well = |partition| self.aside.get(partition).is_none_or(|aside| aside.until <= now);
        let well = self.places.iter().filter(|(partition, _)| is_well(*partition));
        well.map(|(partition, (_, place))| (*partition, place.next)).collect()
    }

    fn read_together(
        &mut self,
        journal: &dyn Journal,
        now: Instant,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => {
                let from = self.well(now);
                if from.is_empty() {
                    return Ok(Vec::new());
                }
                journal.reader_within(&from, FOLLOWER_PATIENCE)?
            }
        };
        let entries = reader.next(READ_BYTES)?;
        self.reader = Some(reader);
        Ok(entries)
    }

    /// Finds out who it is that cannot be read. Answers whether the others can be read without them.
    fn set_aside(&mut self, journal: &dyn Journal, error: &JournalError, now: Instant) -> bool {
        let well = self.well(now);
        let ill = unreadable(journal, &well);
        if ill.is_empty() || ill.len() == well.len() && well.len() > 1 {
            if !std::mem::replace(&mut self.failing, true) {
                tracing::error!(
                    %error,
                    "the journal cannot be read for the webhooks: trying again"
                );
            }
            return false;
        }
        for (partition, error) in ill {
            let pause = self.aside.get(&partition).map(|aside| aside.pause * 2);
            if pause.is_none() {
                tell_failure(partition, &error);
            }
            let pause = pause.unwrap_or(ASIDE).min(ASIDE_LONGEST);
            self.aside.insert(partition, Aside { until: Instant::now() + pause, pause });
        }
        true
    }

    fn decode(&mut self, entries: Vec<Entry>) -> Batch {
        let fed = entries.iter().filter_map(|entry| {
            let (number, place) = self.places.get_mut(&entry.partition)?;
            let fed = Fed::of(entry, place.rule());
            *place = fed.behind();
            Some((entry.partition, *number, fed))
        });
        fed.collect()
    }
}
