//! Several partitions, read on together by a thread for one subscription.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

use super::{BATCHES_AHEAD_MAX, Fed, KEPT_BYTES_MAX, KEPT_RECORDS_MAX, READ_BYTES, bytes_of};
use crate::journal::{FOLLOWER_PATIENCE, Journal, JournalError, Offset, Partition, Place};

/// Subscriptions that a thread reads ahead for, at most; others read by themselves.
const READERS_AHEAD_MAX: usize = 4;

/// Reads several partitions on together, a little ahead and on a thread of its own, for a subscription
/// that is behind in many: where they lie in one file, it is gone through once and not once for each.
/// Who cannot take what was read for them drops out, and reads alone.
pub(in crate::webhooks) struct Together {
    batches: Receiver<Result<Batch, JournalError>>,
    ended: bool,
    members: BTreeMap<Partition, Member>,
    _seat: Seat,
}

/// Records of all members, in the order in which they were read; none at the end.
type Batch = Vec<(Partition, Fed)>;

/// The threads that read ahead.
pub(in crate::webhooks) struct Readers {
    /// How many more there may be.
    free: Cell<usize>,
    threads: RefCell<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(in crate::webhooks) fn new() -> Rc<Self> {
        Rc::new(Self { free: Cell::new(READERS_AHEAD_MAX), threads: RefCell::default() })
    }

    /// The right to have one, if any is left.
    pub(in crate::webhooks) fn seat(self: &Rc<Self>) -> Option<Seat> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Seat(Rc::clone(self)))
    }

    /// One of them.
    pub(in crate::webhooks) fn keep(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads.borrow_mut();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Waits until all have let go of the journal. Nobody may take what they read any more.
    pub(in crate::webhooks) fn join(&self) {
        for thread in self.threads.take() {
            // One that broke has let go, too.
            let _ = thread.join();
        }
    }
}

/// The right to have a thread that reads ahead.
pub(in crate::webhooks) struct Seat(Rc<Readers>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
    }
}

struct Member {
    /// The first offset that did not come yet.
    next: Offset,
    /// Read, and not taken yet.
    kept: VecDeque<Fed>,
    bytes: usize,
}

impl Member {
    fn at(&self) -> Offset {
        self.kept.front().map_or(self.next, |fed| fed.offset)
    }
}

impl Together {
    /// Begins to read; tells of `news` when there is something. Errors: there is no thread to be had.
    pub(in crate::webhooks) fn begin(
        journal: Arc<dyn Journal>,
        from: BTreeMap<Partition, Place>,
        news: Arc<Notify>,
        seat: Seat,
    ) -> io::Result<Self> {
        let member = |place: &Place| Member { next: place.next, kept: VecDeque::new(), bytes: 0 };
        let members = from.iter().map(|(partition, place)| (*partition, member(place))).collect();
        let (sender, batches) = sync_channel(BATCHES_AHEAD_MAX);
        let thread = thread::Builder::new().name("webhooks-read".to_owned());
        seat.0.keep(thread.spawn(move || read_ahead(&*journal, from, &sender, &news))?);
        Ok(Self { batches, ended: false, members, _seat: seat })
    }

    /// Whether nobody reads here any more.
    pub(in crate::webhooks) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `partition` is read on from `next` here.
    pub(in crate::webhooks) fn serves(&self, partition: Partition, next: Offset) -> bool {
        self.members.get(&partition).is_some_and(|member| member.at() == next)
    }

    /// The partition is read elsewhere, or not at all.
    pub(in crate::webhooks) fn leave(&mut self, partition: Partition) {
        self.members.remove(&partition);
    }

    /// Gives `take` one record of `partition` after the other until it has enough. Answers whether there
    /// may be more already.
    pub(in crate::webhooks) fn give(
        &mut self,
        partition: Partition,
        mut take: impl FnMut(&Fed) -> bool,
    ) -> Result<bool, JournalError> {
        let is_dry = self.members.get(&partition).is_none_or(|member| member.kept.is_empty());
        let some = !is_dry || self.receive()?;
        let Some(member) = self.members.get_mut(&partition) else { return Ok(true) };
        if member.kept.is_empty() && self.ended {
            // What has come since is nearer elsewhere.
            self.members.remove(&partition);
            return Ok(true);
        }
        while let Some(fed) = member.kept.pop_front() {
            member.bytes -= bytes_of(&fed);
            if !take(&fed) {
                break;
            }
        }
        Ok(some)
    }

    /// Takes what has been read for all. Answers whether there was anything.
    fn receive(&mut self) -> Result<bool, JournalError> {
        let batch = match self.batches.try_recv() {
            Ok(batch) => batch?,
            Err(TryRecvError::Empty) => return Ok(false),
            Err(TryRecvError::Disconnected) => Batch::new(),
        };
        self.ended |= batch.is_empty();
        for (partition, fed) in batch {
            // Who has dropped out is still read for, and that is all.
            let Some(member) = self.members.get_mut(&partition) else { continue };
            member.next = Offset(fed.offset.0 + 1);
            member.bytes += bytes_of(&fed);
            member.kept.push_back(fed);
            if member.kept.len() > KEPT_RECORDS_MAX || member.bytes > KEPT_BYTES_MAX {
                self.members.remove(&partition);
            }
        }
        Ok(true)
    }
}

/// Reads from `places` on until the end, an error, or nobody takes it any more.
fn read_ahead(
    journal: &dyn Journal,
    mut places: BTreeMap<Partition, Place>,
    batches: &SyncSender<Result<Batch, JournalError>>,
    news: &Notify,
) {
    let from: Vec<_> = places.iter().map(|(partition, place)| (*partition, place.next)).collect();
    let mut reader = match journal.reader_within(&from, FOLLOWER_PATIENCE) {
        Ok(reader) => reader,
        Err(error) => {
            if batches.send(Err(error)).is_ok() {
                news.notify_one();
            }
            return;
        }
    };
    loop {
        let batch = reader.next(READ_BYTES).map(|entries| {
            let fed = entries.iter().filter_map(|entry| {
                let place = places.get_mut(&entry.partition)?;
                let fed = Fed::of(entry, place.rule());
                *place = fed.behind();
                Some((entry.partition, fed))
            });
            fed.collect::<Batch>()
        });
        let is_last = batch.as_ref().map_or(true, Vec::is_empty);
        if batches.send(batch).is_err() {
            return;
        }
        news.notify_one();
        if is_last {
            return;
        }
    }
}
