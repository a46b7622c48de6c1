//! What all subscriptions of a node share on their thread: the feeds, and who is told of news.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::feed::{Fed, Feed, Feeds, Readers, Seat, Source};
use super::metrics::Gauges;
use crate::domain::AppId;
use crate::journal::{Journal, Offset, Partition, Place};

/// Reads of a journal over a network that subscriptions make at the same time.
const READS_AWAY_MAX: usize = 16;
/// After this many records, subscriptions without deliveries in them are told, too, so that they keep up.
const SILENT_NEWS: usize = 256;
/// How long at least lies between two saves of one cursor, in milliseconds.
const SAVE_PERIOD_MIN_MS: u64 = 1_000;
/// Cursors that a node saves in a second at most, when all have something to say.
const SAVES_PER_SECOND: u64 = 500;

/// How long a receiver has let nobody through, behind which its news comes after that of the others.
const QUIET: Duration = Duration::from_secs(1);
/// How long after.
const LATE_NEWS: Duration = Duration::from_millis(200);

/// Somebody who is told of news about an app.
struct Told {
    app: AppId,
    news: Arc<Notify>,
    /// Where it is counted what they have not read.
    gauges: Arc<Gauges>,
    quiet_since: Rc<Cell<Option<Instant>>>,
    /// There is news that they are told late.
    is_owed: Cell<bool>,
}

impl Told {
    fn tell(&self) {
        self.is_owed.set(false);
        self.news.notify_one();
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_since.get().is_some_and(|since| now.duration_since(since) > QUIET)
    }
}

/// See the module.
pub(super) struct Hub {
    pub(super) journal: Arc<dyn Journal>,
    feeds: RefCell<Feeds>,
    feeds_made: Cell<u64>,
    listeners: RefCell<BTreeMap<u64, Told>>,
    listeners_made: Cell<u64>,
    changed: Notify,
    readers: Rc<Readers>,
    /// For reads that may wait.
    permits: Arc<Semaphore>,
}

/// Somebody who is told of news; no longer once it is dropped.
pub(super) struct Listener {
    hub: Rc<Hub>,
    number: u64,
    pub(super) news: Arc<Notify>,
    quiet_since: Rc<Cell<Option<Instant>>>,
}

impl Listener {
    /// Since when nobody came through, if anybody tried. What is sent to a receiver that does not
    /// answer costs the most, so its news is for when the others have had theirs.
    pub(super) fn note_quiet(&self, since: Option<Instant>) {
        self.quiet_since.set(since);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.listeners.borrow_mut().remove(&self.number);
    }
}

impl Hub {
    pub(super) fn new(journal: Arc<dyn Journal>, readers: Rc<Readers>) -> Rc<Self> {
        Rc::new(Self {
            journal,
            feeds: RefCell::default(),
            feeds_made: Cell::new(0),
            listeners: RefCell::default(),
            listeners_made: Cell::new(0),
            changed: Notify::new(),
            readers,
            permits: Arc::new(Semaphore::new(READS_AWAY_MAX)),
        })
    }

    /// Tells of news about `app` from now on.
    pub(super) fn listen(self: &Rc<Self>, app: AppId, gauges: &Arc<Gauges>) -> Listener {
        let number = self.listeners_made.get() + 1;
        self.listeners_made.set(number);
        let news = Arc::new(Notify::new());
        let quiet_since = Rc::new(Cell::new(None));
        let told = Told {
            app,
            news: Arc::clone(&news),
            gauges: Arc::clone(gauges),
            quiet_since: Rc::clone(&quiet_since),
            is_owed: Cell::new(false),
        };
        self.listeners.borrow_mut().insert(number, told);
        Listener { hub: Rc::clone(self), number, news, quiet_since }
    }

    /// Keeps the newest records of a partition from `place` on, if it does not yet. Answers how far
    /// it has read, for those who watch the lag.
    pub(super) fn open(&self, partition: Partition, place: Place) -> Arc<AtomicU64> {
        let mut feeds = self.feeds.borrow_mut();
        let feed = feeds.entry(partition).or_insert_with(|| {
            self.changed.notify_one();
            self.feeds_made.update(|made| made + 1);
            Feed::new(self.feeds_made.get(), place)
        });
        feed.mark()
    }

    /// The right to read ahead for somebody who is far behind, if not too many have it.
    pub(super) fn seat(&self) -> Option<Seat> {
        self.readers.seat()
    }

    /// What is needed of for each read of this journal, if a read may wait.
    pub(super) fn permits(&self) -> Option<Arc<Semaphore>> {
        self.journal.is_remote().then(|| Arc::clone(&self.permits))
    }

    /// The first offset of a partition that was not read for all.
    pub(super) fn next(&self, partition: Partition) -> Option<Offset> {
        self.feeds.borrow().get(&partition).map(Feed::next)
    }

    /// The partition is followed no longer.
    pub(super) fn close(&self, partition: Partition) {
        self.feeds.borrow_mut().remove(&partition);
        self.changed.notify_one();
    }

    /// Gives `take` the records from `next` on until it has enough, if they are all kept. Answers
    /// whether they are.
    pub(super) fn give(
        &self,
        partition: Partition,
        next: Offset,
        mut take: impl FnMut(&Fed) -> bool,
    ) -> bool {
        let feeds = self.feeds.borrow();
        let Some(records) = feeds.get(&partition).and_then(|feed| feed.from(next)) else {
            return false;
        };
        for fed in records {
            if !take(fed) {
                break;
            }
        }
        true
    }

    /// How long lies between two saves of one cursor, in milliseconds: longer when there are many.
    pub(super) fn save_period_ms(&self) -> u64 {
        let lanes = self.listeners.borrow().len() * self.feeds.borrow().len();
        (lanes as u64 * 1_000 / SAVES_PER_SECOND).max(SAVE_PERIOD_MIN_MS)
    }

    /// Reads what becomes durable from `source`, and tells the subscriptions that it concerns. Ends with
    /// the journal.
    pub(super) async fn read(self: Rc<Self>, mut source: Source) {
        let mut late: Option<Instant> = None;
        loop {
            let mut apps = BTreeSet::new();
            let more = source.read(&mut self.feeds.borrow_mut(), &mut apps);
            self.tell(&apps);
            let now = Instant::now();
            if late.is_some_and(|late| late <= now) {
                late = None;
                let listeners = self.listeners.borrow();
                listeners.values().filter(|told| told.is_owed.get()).for_each(Told::tell);
            } else if self.listeners.borrow().values().any(|told| told.is_owed.get()) {
                late.get_or_insert(now + LATE_NEWS);
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                goes_on = source.wait() => {
                    if !goes_on {
                        tracing::error!("the webhooks read the journal no longer");
                        return;
                    }
                }
                () = self.changed.notified() => {}
                () = sleep_until(late.unwrap_or(now)), if late.is_some() => {}
            }
        }
    }

    /// Tells everybody of what was read who waits for news about one of `apps`.
    fn tell(&self, apps: &BTreeSet<AppId>) {
        let mut everybody = false;
        for feed in self.feeds.borrow_mut().values_mut() {
            everybody |= feed.is_news_to_all(SILENT_NEWS);
        }
        let now = Instant::now();
        for told in self.listeners.borrow().values() {
            if everybody || apps.contains(&told.app) {
                told.gauges.stir();
                if told.is_quiet(now) {
                    told.is_owed.set(true);
                } else {
                    told.tell();
                }
            }
        }
        // Every subscription that is concerned has been told, or counts as stirred until it is.
        self.feeds.borrow().values().for_each(Feed::note_mark);
    }
}
