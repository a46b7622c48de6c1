//! Follows partitions that other nodes own, so that this node's store is near their ends when it has
//! to take one over. Rule: cluster.md 3, 8.
//!
//! One thread with one reader folds all of them, as a recovery does, and writes their checkpoints.
//! A partition is let go of before it is claimed: then its rows belong to its actor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::recovery::{Following, READ_BYTES, RecoveryError};
use super::repeat::Repeats;
use super::seats::{Seat, Seats};
use super::settings::Settings;
use super::snapshot::Snapshots;
use crate::journal::{
    Archive, FOLLOWER_PATIENCE, Journal, JournalError, Partition, Reader, unreadable,
};
use crate::store::Store;

/// Orders that the thread has not taken yet, at most.
const ORDERS_MAX: usize = 4096;
/// How often the thread looks for new records when there were none: the delay that a standby adds to
/// a hand-over.
const POLL: Duration = Duration::from_millis(10);
/// Time between two of a standby's checkpoints at most: what is in none yet delays a take-over.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How long a partition or a journal that could not be read is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// The partitions that the thread was told of.
#[derive(Default)]
struct Told {
    /// Those to follow, as it was told last.
    follow: BTreeSet<Partition>,
    /// All that it may have to do with: those that it has not been told to let go of since.
    held: BTreeSet<Partition>,
}

enum Order {
    Follow(BTreeSet<Partition>),
    LetGo(Partition, oneshot::Sender<Repeats>),
    Stop,
}

/// The thread's other end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Standby {
    orders: SyncSender<Order>,
    told: Arc<Mutex<Told>>,
    /// How many wait for the thread to let go of something.
    waiting: Arc<AtomicUsize>,
}

impl Standby {
    /// Starts the thread; it follows nothing yet.
    pub(super) fn start(
        journal: Arc<dyn Journal>,
        archive: Option<Arc<dyn Archive>>,
        store: Store,
        seats: Arc<Seats>,
        settings: &Settings,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, queue) = sync_channel(ORDERS_MAX);
        let follower = Follower::new(journal, archive, store, seats, settings);
        let waiting = follower.waiting.clone();
        let thread = std::thread::Builder::new()
            .name("standby".into())
            .spawn(move || follower.run(&queue))?;
        Ok((Self { orders, told: Arc::default(), waiting }, thread))
    }

    /// Follows exactly `partitions` from now on.
    pub(super) fn follow(&self, partitions: BTreeSet<Partition>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever steers says it again and again; the queue is for what is new.
        if told.follow != partitions
            && self.orders.try_send(Order::Follow(partitions.clone())).is_ok()
        {
            told.held.extend(&partitions);
            told.follow = partitions;
        }
    }

    /// Lets go of `partition`; afterwards the store holds everything that was read of it. Answers the
    /// last commands that were read; nothing if the thread is told more than it can do, and may still
    /// follow it. A restore of whatever partition is cut short for it, once: who claims again what they
    /// hold wait for nothing.
    pub(super) async fn let_go(&self, partition: Partition) -> Option<Repeats> {
        let (reply, gone) = oneshot::channel();
        let ordered = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.held.contains(&partition) {
                return Some(Repeats::default());
            }
            self.waiting.fetch_add(1, Ordering::Release);
            let ordered = self.orders.try_send(Order::LetGo(partition, reply));
            if ordered.is_ok() {
                told.follow.remove(&partition);
                told.held.remove(&partition);
            } else {
                self.waiting.fetch_sub(1, Ordering::Release);
            }
            ordered
        };
        match ordered {
            Ok(()) => Some(gone.await.unwrap_or_default()),
            Err(TrySendError::Full(_)) => None,
            // A thread that has ended follows nothing.
            Err(TrySendError::Disconnected(_)) => Some(Repeats::default()),
        }
    }

    /// Ends the thread behind everything that it was told before.
    pub(super) fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
    }
}

pub(super) struct Follower {
    journal: Arc<dyn Journal>,
    archive: Option<Arc<dyn Archive>>,
    store: Store,
    seats: Arc<Seats>,
    checkpoint_interval: Duration,
    /// Of each partition: users who stay in memory from one checkpoint to the next.
    kept_bytes_max: usize,
    /// How many wait for one to be let go of.
    waiting: Arc<AtomicUsize>,
    wanted: BTreeSet<Partition>,
    followed: BTreeMap<Partition, Following>,
    /// Reads all that is followed; made anew when that changes.
    reader: Option<Box<dyn Reader>>,
    /// Commands of partitions that are not followed any more, for whoever claims them next.
    heard: BTreeMap<Partition, Repeats>,
    /// Not followed before this moment, because something was wrong with it.
    broken: BTreeMap<Partition, Instant>,
    /// Somebody was told that the journal, or a part of it, cannot be followed.
    unread_told: bool,
    checkpointed: Instant,
}

impl Follower {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        archive: Option<Arc<dyn Archive>>,
        store: Store,
        seats: Arc<Seats>,
        settings: &Settings,
    ) -> Self {
        Self {
            journal,
            archive,
            store,
            seats,
            checkpoint_interval: settings.checkpoint_interval.min(CHECKPOINT_INTERVAL_MAX),
            kept_bytes_max: settings.resident_bytes_max,
            waiting: Arc::default(),
            wanted: BTreeSet::new(),
            followed: BTreeMap::new(),
            reader: None,
            heard: BTreeMap::new(),
            broken: BTreeMap::new(),
            unread_told: false,
            checkpointed: Instant::now(),
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let mut wait = Duration::ZERO;
        loop {
            let mut order = match orders.recv_timeout(wait) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.checkpoint_all(),
            };
            while let Some(taken) = order {
                match taken {
                    Order::Follow(wanted) => self.wanted = wanted,
                    Order::LetGo(partition, reply) => {
                        self.waiting.fetch_sub(1, Ordering::Release);
                        // Whoever claims it may have given up meanwhile.
                        let _ = reply.send(self.let_go(partition));
                    }
                    Order::Stop => return self.checkpoint_all(),
                }
                order = orders.try_recv().ok();
            }
            self.adjust();
            wait = if self.step() { Duration::ZERO } else { POLL };
            if self.checkpointed.elapsed() >= self.checkpoint_interval {
                self.checkpoint_all();
            }
        }
    }

    /// See [`Standby::let_go`].
    pub(super) fn let_go(&mut self, partition: Partition) -> Repeats {
        self.wanted.remove(&partition);
        self.drop_followed(partition);
        self.heard.remove(&partition).unwrap_or_default()
    }

    fn drop_followed(&mut self, partition: Partition) {
        if let Some(following) = self.followed.get_mut(&partition)
            && let Err(error) = following.checkpoint(self.store.tables())
        {
            tracing::warn!(
                %error,
                journal.partition = partition.0,
                "the standby could not write its checkpoint"
            );
        }
        self.forget_followed(partition);
    }

    /// Follows a partition no further; what was read behind the last checkpoint counts for nothing.
    fn forget_followed(&mut self, partition: Partition) {
        let Some(following) = self.followed.remove(&partition) else { return };
        self.reader = None;
        self.seats.stand_by(partition, Seat::Vacant);
        self.heard.entry(partition).or_default().absorb(following.take_done());
    }

    /// Follows what is wanted and nothing else.
    fn adjust(&mut self) {
        let missing = self.missing();
        if missing.is_empty() {
            return;
        }
        // Rows that its actor has handed over before are written first.
        let (done, written) = std::sync::mpsc::channel();
        let barrier = move |_: &crate::store::Tables| {
            // Whoever waits for it does so below.
            let _ = done.send(());
        };
        if self.store.run(barrier).is_ok() && written.recv().is_ok() {
            self.begin(missing);
        }
    }

    /// Lets go of what is not wanted; answers what is and is not followed yet.
    fn missing(&mut self) -> Vec<Partition> {
        let extra: Vec<Partition> =
            self.followed.keys().filter(|known| !self.wanted.contains(known)).copied().collect();
        extra.into_iter().for_each(|partition| self.drop_followed(partition));
        let now = Instant::now();
        self.broken.retain(|_, until| *until > now);
        let is_missing = |wanted: &&Partition| {
            !self.followed.contains_key(wanted) && !self.broken.contains_key(wanted)
        };
        self.wanted.iter().filter(is_missing).copied().collect()
    }

    /// Begins to follow `missing`, whose rows are all written: all partitions with a checkpoint, or one
    /// without. The latter may need a restore from a snapshot, which is interrupted when somebody waits
    /// for this thread, and begun again.
    fn begin(&mut self, missing: Vec<Partition>) {
        let tables = self.store.tables();
        let has_mark = |one: &Partition| matches!(tables.mark(*one), Ok(Some(_)));
        let (mut missing, without): (Vec<_>, Vec<_>) = missing.into_iter().partition(has_mark);
        missing.extend(without.first());
        let is_over = || self.seats.is_closed() || self.waiting.load(Ordering::Acquire) > 0;
        let archive = self.archive.as_deref();
        let snapshots = archive.map(|archive| Snapshots { archive, is_over: &is_over });
        let (tables, kept_bytes_max) = (self.store.tables(), self.kept_bytes_max);
        let mut unread = None;
        let begun = Following::begin(&*self.journal, snapshots, tables, &missing, kept_bytes_max);
        for (partition, following) in begun {
            match following {
                Ok(mut following) => {
                    following.remember(self.heard.remove(&partition).unwrap_or_default());
                    self.followed.insert(partition, following);
                }
                Err(RecoveryError::Journal(error)) => {
                    unread.get_or_insert(error);
                    self.broken.insert(partition, Instant::now() + RETRY);
                }
                Err(RecoveryError::CutShort { .. }) => {}
                Err(error) => self.give_up(partition, &error),
            }
        }
        self.reader = None;
        self.note_unread(unread);
    }

    /// One line, however many partitions it is.
    fn note_unread(&mut self, unread: Option<JournalError>) {
        match unread {
            Some(error) if !std::mem::replace(&mut self.unread_told, true) => {
                tracing::warn!(
                    %error,
                    "the standby cannot read the journal, or a part of it: trying again"
                );
            }
            Some(_) => {}
            None => self.unread_told = false,
        }
    }

    /// Never skipped in silence: the partition is not followed further, and the log says why.
    fn give_up(&mut self, partition: Partition, error: &RecoveryError) {
        tracing::error!(
            %error,
            journal.partition = partition.0,
            "this node cannot stand by for the partition: trying again later"
        );
        // A checkpoint now would stand behind a record whose rows it lacks.
        self.forget_followed(partition);
        if error.spoilt_rows().is_some()
            && let Err(error) = self.store.tables().clear(partition)
        {
            tracing::error!(
                %error,
                journal.partition = partition.0,
                "spoilt rows of the standby cannot be removed"
            );
        }
        self.broken.insert(partition, Instant::now() + RETRY);
    }

    /// Follows exactly `wanted`, whose rows are all written.
    #[cfg(test)]
    pub(super) fn follow(&mut self, wanted: BTreeSet<Partition>) {
        self.wanted = wanted;
        let missing = self.missing();
        self.begin(missing);
    }

    #[cfg(test)]
    pub(super) fn follows(&self, partition: Partition) -> bool {
        self.followed.contains_key(&partition)
    }

    /// What was wrong is over.
    #[cfg(test)]
    pub(super) fn mend(&mut self) {
        self.broken.clear();
    }

    /// Whether anything was wrong lately.
    #[cfg(test)]
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Reads a little more. Answers whether there was something.
    pub(super) fn step(&mut self) -> bool {
        if self.followed.is_empty() {
            return false;
        }
        let entries = match self.read() {
            Ok(entries) => entries,
            Err(error) => {
                self.reader = None;
                self.drop_unreadable(error);
                return false;
            }
        };
        let more = !entries.is_empty();
        for entry in entries {
            let partition = entry.partition;
            let Some(following) = self.followed.get_mut(&partition) else { continue };
            if let Err(error) = following.apply(&entry, self.store.tables()) {
                self.give_up(partition, &error);
            }
        }
        if more {
            Following::release_received(&mut self.followed);
        }
        for (partition, following) in &self.followed {
            let (caught_up, released) = (following.caught_up(), following.released());
            self.seats.stand_by(*partition, Seat::StandingBy { caught_up, released });
        }
        more
    }

    /// After a read of all has failed: goes on without those that cannot be read.
    fn drop_unreadable(&mut self, error: JournalError) {
        let followed = self.followed.iter();
        let from: Vec<_> = followed.map(|(name, known)| (*name, known.next())).collect();
        for partition in unreadable(&*self.journal, &from).into_keys() {
            // What was read of it is whole, and is written down before it is let go of.
            self.drop_followed(partition);
            self.broken.insert(partition, Instant::now() + RETRY);
        }
        self.note_unread(Some(error));
    }

    fn read(&mut self) -> Result<Vec<crate::journal::Entry>, JournalError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                self.followed.values_mut().for_each(Following::read_anew);
                let followed = self.followed.iter();
                let from: Vec<_> = followed.map(|(name, known)| (*name, known.next())).collect();
                self.reader.insert(self.journal.reader_within(&from, FOLLOWER_PATIENCE)?)
            }
        };
        reader.next(READ_BYTES)
    }

    pub(super) fn checkpoint_all(&mut self) {
        self.checkpointed = Instant::now();
        let mut failed = Vec::new();
        for (partition, following) in &mut self.followed {
            if let Err(error) = following.checkpoint(self.store.tables()) {
                failed.push((*partition, error));
            }
        }
        for (partition, error) in failed {
            self.give_up(partition, &error);
        }
    }
}
