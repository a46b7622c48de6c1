//! The journal, read once for all subscriptions: what is new is decoded and derived a single time,
//! and kept a while for those who are close behind. Who is further behind reads for themselves.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

use super::command::{CallbackCommand, Switches};
use super::payload::{Delivery, deliveries};
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::{
    Admitted, Body, Entry, Journal, JournalError, Offset, Origin, Partition, Place, Reader,
    ReaderRule, record,
};

/// Bytes of records that are read at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Subscriptions that a thread reads ahead for, at most; others read by themselves.
const READERS_AHEAD_MAX: usize = 4;
/// Batches that are read ahead, at most.
const BATCHES_AHEAD_MAX: usize = 4;
/// Records of a partition that are kept for those close behind, at most.
const KEPT_RECORDS_MAX: usize = 1024;
/// Bytes of their bodies.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What one record owes to whoever asked for all of it.
#[derive(Debug)]
pub(super) struct Calls {
    /// Whose event it is.
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// When it happened.
    pub(super) at: Timestamp,
    /// Who caused it.
    pub(super) by: Arc<Origin>,
    /// One per command at most, in the order in which they are made.
    pub(super) calls: Vec<Delivery>,
}

impl Calls {
    /// The calls that are wanted, in order, with their places among all.
    pub(super) fn wanted(
        &self,
        want: Switches,
    ) -> impl DoubleEndedIterator<Item = (usize, CallbackCommand)> + '_ {
        let each = self.calls.iter().map(|call| call.command).enumerate();
        each.filter(move |(_, command)| want.has(*command))
    }

    fn bytes(&self) -> usize {
        self.calls.iter().map(|call| call.body.len()).sum()
    }
}

/// A record, as the subscriptions see it.
#[derive(Clone, Debug)]
pub(super) struct Fed {
    pub(super) offset: Offset,
    /// What the reader rule knows behind the record.
    pub(super) after: ReaderRule,
    pub(super) said: Said,
}

/// What a record says to subscriptions.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// Facts, with the calls that tell them, if there are any.
    Commit {
        /// When.
        at: Timestamp,
        /// The calls.
        calls: Option<Arc<Calls>>,
    },
    /// Nothing: it speaks of the journal itself, or counts for nobody.
    Other,
    /// It is no record.
    Unreadable,
}

impl Fed {
    /// Decodes an entry, given what the rule knows before it.
    pub(super) fn of(entry: &Entry, mut rule: ReaderRule) -> Self {
        let offset = entry.offset;
        let said = match record::decode(&entry.bytes) {
            Ok(record) => match (rule.admit(&record), record.body) {
                (Admitted::Valid, Body::Commit(commit)) => {
                    let calls = deliveries(&commit, Switches::ALL);
                    let at = commit.at;
                    let calls = (!calls.is_empty()).then(|| {
                        let (app, user) = (commit.key.app, commit.key.user);
                        Arc::new(Calls { app, user, at, by: commit.by, calls })
                    });
                    Said::Commit { at, calls }
                }
                (Admitted::Valid | Admitted::Claimed | Admitted::Void, _) => Said::Other,
            },
            Err(error) => {
                tracing::error!(
                    journal.partition = entry.partition.0,
                    journal.offset = offset.0,
                    %error,
                    "a record is not readable: its partition's webhooks stop in front of it"
                );
                Said::Unreadable
            }
        };
        Self { offset, after: rule, said }
    }
}

/// Reads one partition on from a place.
pub(super) struct Tail {
    partition: Partition,
    reader: Option<Box<dyn Reader>>,
    place: Place,
    /// Read, and not taken yet.
    kept: VecDeque<Fed>,
}

impl Tail {
    pub(super) fn new(partition: Partition, place: Place) -> Self {
        Self { partition, reader: None, place, kept: VecDeque::new() }
    }

    /// The first offset that was not taken yet.
    pub(super) fn at(&self) -> Offset {
        self.kept.front().map_or(self.place.next, |fed| fed.offset)
    }

    /// Gives `take` one record after the other until it has enough, and reads more when there are
    /// none. Answers whether there was something.
    pub(super) fn give(
        &mut self,
        journal: &dyn Journal,
        mut take: impl FnMut(&Fed) -> bool,
    ) -> Result<bool, JournalError> {
        if self.kept.is_empty() {
            self.kept = self.read(journal)?.into();
        }
        let some = !self.kept.is_empty();
        while let Some(fed) = self.kept.pop_front() {
            if !take(&fed) {
                break;
            }
        }
        Ok(some)
    }

    /// The first offset that is not read yet.
    pub(super) fn next(&self) -> Offset {
        self.place.next
    }

    /// The next records that are durable by now, none at the end.
    pub(super) fn read(&mut self, journal: &dyn Journal) -> Result<Vec<Fed>, JournalError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => journal.reader(&[(self.partition, self.place.next)])?,
        };
        let entries = reader.next(READ_BYTES)?;
        self.reader = Some(reader);
        let fed = entries.iter().map(|entry| {
            let fed = Fed::of(entry, self.place.rule());
            self.place = Place::new(Offset(entry.offset.0 + 1), fed.after);
            fed
        });
        Ok(fed.collect())
    }
}

/// Reads several partitions on together, a little ahead and on a thread of its own, for a subscription
/// that is behind in many: where they lie in one file, it is gone through once and not once for each.
/// Who cannot take what was read for them drops out, and reads alone.
pub(super) struct Together {
    batches: Receiver<Result<Batch, JournalError>>,
    ended: bool,
    members: BTreeMap<Partition, Member>,
    _seat: Seat,
}

/// Records of all members, in the order in which they were read; none at the end.
type Batch = Vec<(Partition, Fed)>;

/// The threads that read ahead.
pub(super) struct Readers {
    /// How many more there may be.
    free: Cell<usize>,
    threads: RefCell<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { free: Cell::new(READERS_AHEAD_MAX), threads: RefCell::default() })
    }

    /// The right to have one, if any is left.
    pub(super) fn seat(self: &Rc<Self>) -> Option<Seat> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Seat(Rc::clone(self)))
    }

    /// Waits until all have let go of the journal. Nobody may take what they read any more.
    pub(super) fn join(&self) {
        for thread in self.threads.take() {
            // One that broke has let go, too.
            let _ = thread.join();
        }
    }
}

/// The right to have a thread that reads ahead.
pub(super) struct Seat(Rc<Readers>);

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
    pub(super) fn begin(
        journal: Arc<dyn Journal>,
        from: BTreeMap<Partition, Place>,
        news: Arc<Notify>,
        seat: Seat,
    ) -> io::Result<Self> {
        let member = |place: &Place| Member { next: place.next, kept: VecDeque::new(), bytes: 0 };
        let members = from.iter().map(|(partition, place)| (*partition, member(place))).collect();
        let (sender, batches) = sync_channel(BATCHES_AHEAD_MAX);
        let thread = thread::Builder::new().name("webhooks-read".to_owned());
        let thread = thread.spawn(move || read_ahead(&*journal, from, &sender, &news))?;
        let mut threads = seat.0.threads.borrow_mut();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        drop(threads);
        Ok(Self { batches, ended: false, members, _seat: seat })
    }

    /// Whether nobody reads here any more.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `partition` is read on from `next` here.
    pub(super) fn serves(&self, partition: Partition, next: Offset) -> bool {
        self.members.get(&partition).is_some_and(|member| member.at() == next)
    }

    /// The partition is read elsewhere, or not at all.
    pub(super) fn leave(&mut self, partition: Partition) {
        self.members.remove(&partition);
    }

    /// Gives `take` one record of `partition` after the other until it has enough. Answers whether there
    /// may be more already.
    pub(super) fn give(
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
    let mut reader = match journal.reader(&from) {
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
                *place = Place::new(Offset(entry.offset.0 + 1), fed.after);
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

/// The newest records of one partition, kept for all subscriptions.
pub(super) struct Feed {
    tail: Tail,
    kept: VecDeque<Fed>,
    bytes: usize,
    /// Records read since everybody was told of news.
    untold: usize,
    /// How far everybody has been told, for those who watch the lag.
    mark: Arc<AtomicU64>,
}

impl Feed {
    /// Begins at `place`, with nothing kept.
    pub(super) fn new(partition: Partition, place: Place) -> Self {
        Self {
            tail: Tail::new(partition, place),
            kept: VecDeque::new(),
            bytes: 0,
            untold: 0,
            mark: Arc::new(AtomicU64::new(place.next.0)),
        }
    }

    /// Reads on; answers whether there was something, and names the `apps` that it concerns.
    pub(super) fn read_on(
        &mut self,
        journal: &dyn Journal,
        apps: &mut BTreeSet<AppId>,
    ) -> Result<bool, JournalError> {
        let fed = self.tail.read(journal)?;
        let some = !fed.is_empty();
        self.untold += fed.len();
        for fed in fed {
            if let Said::Commit { calls: Some(calls), .. } = &fed.said {
                apps.insert(calls.app);
            }
            self.bytes += bytes_of(&fed);
            self.kept.push_back(fed);
        }
        while self.kept.len() > KEPT_RECORDS_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= bytes_of(&oldest);
        }
        Ok(some)
    }

    /// The records from `next` on, if they are all here; nothing if that is the end; `None` for
    /// somebody who has to read for themselves.
    pub(super) fn from(&self, next: Offset) -> Option<impl Iterator<Item = &Fed>> {
        let first = self.kept.front().map_or(self.tail.next(), |fed| fed.offset);
        if next < first || next > self.tail.next() {
            return None;
        }
        let index = self.kept.partition_point(|fed| fed.offset < next);
        Some(self.kept.range(index..))
    }

    /// The first offset that was not read.
    pub(super) fn next(&self) -> Offset {
        self.tail.next()
    }

    /// Up to which offset everybody has been told, for whoever looks at it later as well.
    pub(super) fn mark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.mark)
    }

    /// Everybody has been told of what was read.
    pub(super) fn note_mark(&self) {
        self.mark.store(self.tail.next().0, Ordering::Release);
    }

    /// Whether so much was read that also those are to be told whom it does not concern. Counts
    /// anew then.
    pub(super) fn is_news_to_all(&mut self, records_min: usize) -> bool {
        let is_news = self.untold >= records_min;
        if is_news {
            self.untold = 0;
        }
        is_news
    }
}

/// The calls of one record that was read before, and counted.
pub(super) fn read_again(
    journal: &dyn Journal,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Arc<Calls>>, JournalError> {
    let entries = journal.reader(&[(partition, offset)])?.next(1)?;
    let entry = entries.first().filter(|entry| entry.offset == offset);
    let Some(Ok(record)) = entry.map(|entry| record::decode(&entry.bytes)) else {
        return Ok(None);
    };
    let rule = ReaderRule::resume(record.epoch, record.n.saturating_sub(1));
    let fed = entry.map(|entry| Fed::of(entry, rule));
    Ok(match fed.map(|fed| fed.said) {
        Some(Said::Commit { calls, .. }) => calls,
        Some(Said::Other | Said::Unreadable) | None => None,
    })
}

fn bytes_of(fed: &Fed) -> usize {
    match &fed.said {
        Said::Commit { calls: Some(calls), .. } => calls.bytes(),
        Said::Commit { calls: None, .. } | Said::Other | Said::Unreadable => 0,
    }
}
