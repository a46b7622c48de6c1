//! Serves one subscription: reads records, sends what they cause, saves cursors. One task, all of
//! whose waiting is in one place; what is done when is decided by the [`Line`].

mod away;
mod reading;
mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::away::{Away, Came};
use super::FollowError;
use super::caller::{Caller, Outcome};
use super::cursor::{CursorError, Cursors};
use super::feed::{Tail, Together};
use super::hub::{Hub, Listener};
use super::line::{Line, Millis, SaveToken, Sent};
use super::metrics::{Counts, Gauges, Metrics};
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::journal::{Cursor, Partition, Place};

/// How long a journal that could not be read is left alone, in milliseconds.
const READ_RETRY_MS: Millis = 1_000;

/// How long loading a cursor, or saving one, may take, in milliseconds.
const CURSOR_TIMEOUT_MS: u64 = 2_000;

/// What a dispatcher is told from outside.
pub(super) enum Order {
    /// Begin to follow.
    Follow { partitions: Vec<Partition>, reply: Option<oneshot::Sender<Result<(), FollowError>>> },
    /// Let go, with the cursors saved.
    Leave { partitions: Vec<Partition>, reply: oneshot::Sender<()> },
    /// Go on under other terms.
    Adopt { subscription: Rc<Subscription>, caller: Rc<Caller> },
    /// The subscription is no more: let go, and keep no cursors.
    Dismiss,
}

/// What came of something that the dispatcher waits for.
enum Happened {
    Registered {
        number: u64,
        loaded: Loaded,
        reply: Option<oneshot::Sender<Result<(), FollowError>>>,
    },
    Attempted {
        sent: Sent,
        outcome: Outcome,
        took: Duration,
    },
    Saved {
        partition: Partition,
        token: SaveToken,
        result: Result<(), CursorError>,
    },
    /// Partitions whose cursors could not be loaded are due again.
    ToRegister {
        number: u64,
        partitions: Vec<Partition>,
    },
    /// A cursor that is not kept any longer was dealt with.
    Dismissed,
}

/// The cursors that were loaded, or why not, with the ends of the partitions.
type Loaded = Vec<(Partition, Result<(Option<Cursor>, Place), CursorError>)>;

type Waiting = Pin<Box<dyn Future<Output = Happened>>>;

/// What all dispatchers are made with.
#[derive(Clone)]
pub(super) struct Tools<C> {
    pub(super) hub: Rc<Hub>,
    pub(super) cursors: C,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

/// See the module.
pub(super) struct Dispatcher<C> {
    tools: Tools<C>,
    subscription: Rc<Subscription>,
    name: Arc<str>,
    caller: Rc<Caller>,
    line: Line,
    listener: Listener,
    gauges: Arc<Gauges>,
    counts: Counts,
    began: Instant,
    /// Those that are read apart, because they are further behind: together as long as they keep pace.
    together: Option<Together>,
    tails: BTreeMap<Partition, Tail>,
    /// Reads that may wait, if any may.
    away: Option<Away>,
    /// Partitions that are not read at present, and when each is tried again.
    pauses: BTreeMap<Partition, Millis>,
    /// Those that could not be read the last time.
    unreadable: BTreeSet<Partition>,
    save_fails: BTreeSet<Partition>,
    /// The receiver has asked for patience since the last delivery that came through.
    put_off: bool,
    work: FuturesUnordered<Waiting>,
    leaves: Vec<(Vec<Partition>, oneshot::Sender<()>)>,
    /// Partitions whose cursors are being loaded, or are to be loaded once more, and by which order. One
    /// that is left meanwhile is in here no longer, and is not followed when its cursor comes.
    registering: BTreeMap<Partition, u64>,
    registrations: u64,
    /// Partitions that are to be followed anew once they are left.
    again: BTreeSet<Partition>,
    dismissed: bool,
    ending: bool,
}

fn leave(together: &mut Option<Together>, partition: Partition) {
    if let Some(together) = together {
        together.leave(partition);
    }
}

async fn returned(away: &mut Option<Away>) -> Came {
    match away {
        Some(away) => away.next().await,
        None => std::future::pending().await,
    }
}

impl<C: Cursors> Dispatcher<C> {
    pub(super) fn new(tools: Tools<C>, subscription: Rc<Subscription>, caller: Rc<Caller>) -> Self {
        let name: Arc<str> = subscription.cursor_name().into();
        let gauges = tools.metrics.watch(&subscription);
        Self {
            line: Line::new(Rc::clone(&subscription)),
            listener: tools.hub.listen(subscription.app, &gauges),
            gauges,
            counts: tools.metrics.counts(&subscription),
            name,
            subscription,
            caller,
            began: Instant::now(),
            together: None,
            tails: BTreeMap::new(),
            away: tools
                .hub
                .permits()
                .map(|permits| Away::new(Arc::clone(&tools.hub.journal), permits)),
            pauses: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            save_fails: BTreeSet::new(),
            put_off: false,
            work: FuturesUnordered::new(),
            leaves: Vec::new(),
            registering: BTreeMap::new(),
            registrations: 0,
            again: BTreeSet::new(),
            dismissed: false,
            ending: false,
            tools,
        }
    }

    fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    fn at(&self, time: Millis) -> Instant {
        self.began + Duration::from_millis(time)
    }

    /// Runs until nobody can give orders any more, or it is dismissed, and everything is let go.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let now = self.now();
            let had_enough = self.line.has_enough();
            let mut more = self.read(now);
            self.launch(now);
            // Who was thought to be ready may not have been.
            more |= had_enough && !self.line.has_enough();
            self.save(now);
            self.let_go();
            let hub = &self.tools.hub;
            self.gauges.note(&self.line, |partition| hub.next(partition));
            let quiet_since = self.line.quiet_since();
            self.listener.note_quiet(quiet_since.map(|since| self.at(since)));
            if self.ending && self.line.partitions().is_empty() && self.work.is_empty() {
                return;
            }
            let due = self.due(now);
            let due = due.map(|due| self.at(due));
            tokio::select! {
                order = orders.recv(), if !self.ending => self.obey(order),
                Some(happened) = self.work.next() => self.note_all(happened),
                came = returned(&mut self.away) => {
                    let now = self.now();
                    self.come(came, now);
                }
                () = self.listener.news.notified(), if !more => {}
                () = sleep_until(due.unwrap_or(self.began)), if due.is_some() => {}
                () = tokio::task::yield_now(), if more => {}
            }
        }
    }

    fn due(&self, now: Millis) -> Option<Millis> {
        let reads = self.pauses.values().copied().filter(|at| *at > now);
        self.line.due(now).into_iter().chain(reads).min()
    }

    fn obey(&mut self, order: Option<Order>) {
        match order {
            Some(Order::Follow { partitions, reply }) => self.register(partitions, reply),
            Some(Order::Leave { partitions, reply }) => {
                for partition in &partitions {
                    self.again.remove(partition);
                    self.registering.remove(partition);
                    self.line.leave(*partition);
                }
                self.leaves.push((partitions, reply));
            }
            Some(Order::Adopt { subscription, caller }) => {
                let mut moved = self.line.partitions();
                moved.retain(|partition| !self.subscription.goes_on_as(&subscription, *partition));
                self.line.adopt(Rc::clone(&subscription));
                (self.subscription, self.caller) = (subscription, caller);
                for partition in moved {
                    self.again.insert(partition);
                    self.line.leave(partition);
                }
            }
            Some(Order::Dismiss) => {
                (self.dismissed, self.ending) = (true, true);
                self.registering.clear();
                self.leave_all();
            }
            None => {
                self.ending = true;
                self.again.clear();
                self.registering.clear();
                self.leave_all();
            }
        }
    }

    fn leave_all(&mut self) {
        for partition in self.line.partitions() {
            self.line.leave(partition);
        }
    }

    /// Finds where each partition begins. A first cursor is durable before anybody is told.
    fn register(
        &mut self,
        partitions: Vec<Partition>,
        reply: Option<oneshot::Sender<Result<(), FollowError>>>,
    ) {
        let mut new = Vec::new();
        self.registrations += 1;
        let number = self.registrations;
        for partition in partitions {
            if !self.line.serves(partition) {
                self.registering.insert(partition, number);
                new.push(partition);
            } else if self.line.is_leaving(partition) {
                self.again.insert(partition);
            }
        }
        let (cursors, name) = (self.tools.cursors.clone(), Arc::clone(&self.name));
        let is_replay = self.subscription.replay.is_some();
        self.work.push(Box::pin(async move {
            let load = async |partition| {
                let (cursor, end) = cursors.load(partition, &name).await?;
                if cursor.is_none() && !is_replay {
                    cursors.save(partition, &name, Cursor::begin(end)).await?;
                    return Ok((Some(Cursor::begin(end)), end));
                }
                Ok((cursor, end))
            };
            let patience = Duration::from_millis(CURSOR_TIMEOUT_MS);
            let load = async |new| {
                let late = |_| Err(CursorError::Unavailable("no answer in time".to_owned()));
                (new, timeout(patience, load(new)).await.unwrap_or_else(late))
            };
            let loaded = join_all(new.into_iter().map(load)).await;
            Happened::Registered { number, loaded, reply }
        }));
    }

    /// Takes note of everything that has happened by now.
    fn note_all(&mut self, first: Happened) {
        let mut next = Some(first);
        while let Some(happened) = next {
            self.note(happened);
            next = self.work.next().now_or_never().flatten();
        }
    }

    fn note(&mut self, happened: Happened) {
        match happened {
            Happened::ToRegister { number, mut partitions } => {
                partitions.retain(|partition| self.registering.get(partition) == Some(&number));
                if !partitions.is_empty() {
                    self.register(partitions, None);
                }
            }
            Happened::Registered { number, loaded, reply } => {
                let result = self.registered(number, loaded);
                let reason = match (&result, self.ending) {
                    (_, true) => Err(FollowError::Ended),
                    (Ok(()) | Err((_, CursorError::NoRoom)), false) => Ok(()),
                    (Err((_, error)), false) => Err(FollowError::Cursor(error.clone())),
                };
                // Who asked may have gone away; the partitions are followed just the same.
                let fails = reason.is_err();
                let is_told = reply.is_some_and(|reply| reply.send(reason).is_ok()) && fails;
                if let Err((partitions, _)) = result
                    && !is_told
                {
                    self.work.push(Box::pin(async move {
                        sleep(Duration::from_millis(READ_RETRY_MS)).await;
                        Happened::ToRegister { number, partitions }
                    }));
                }
            }
            Happened::Attempted { sent, outcome, took } => self.settle(&sent, &outcome, took),
            Happened::Saved { partition, token, result } => {
                self.line.saved(partition, token, result.is_ok());
                match result {
                    Ok(()) => {
                        self.save_fails.remove(&partition);
                    }
                    Err(error) if self.save_fails.insert(partition) => tracing::warn!(
                        webhook.subscription = &*self.name,
                        journal.partition = partition.0,
                        %error,
                        "a webhook's cursor cannot be saved: a restart would deliver again"
                    ),
                    Err(_) => {}
                }
            }
            Happened::Dismissed => {}
        }
    }

    /// Follows those whose cursors were loaded and that were not left meanwhile. Errors: the others, and
    /// why.
    fn registered(
        &mut self,
        number: u64,
        loaded: Loaded,
    ) -> Result<(), (Vec<Partition>, CursorError)> {
        let now = self.now();
        let mut failed: Option<(Vec<Partition>, CursorError)> = None;
        for (partition, loaded) in loaded {
            if self.registering.get(&partition) != Some(&number) {
                continue;
            }
            match loaded {
                Ok((cursor, end)) => {
                    self.registering.remove(&partition);
                    self.gauges.add(partition, self.tools.hub.open(partition, end));
                    self.line.follow(partition, cursor, end, now);
                }
                Err(error) => {
                    let (left, why) =
                        failed.get_or_insert_with(|| (Vec::new(), CursorError::NoRoom));
                    left.push(partition);
                    if error != CursorError::NoRoom {
                        *why = error;
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Saves the cursors that moved, each at most once in a while.
    fn save(&mut self, now: Millis) {
        if self.dismissed {
            return;
        }
        for saving in self.line.saves(now, self.tools.hub.save_period_ms()) {
            let (partition, token) = (saving.partition, saving.mark);
            let save = self.save_cursor(partition, saving.cursor);
            self.work.push(Box::pin(async move {
                Happened::Saved { partition, token, result: save.await }
            }));
        }
    }

    fn save_cursor(
        &self,
        partition: Partition,
        cursor: Cursor,
    ) -> impl Future<Output = Result<(), CursorError>> + use<C> {
        let (cursors, name) = (self.tools.cursors.clone(), Arc::clone(&self.name));
        async move {
            let save = cursors.save(partition, &name, cursor);
            match timeout(Duration::from_millis(CURSOR_TIMEOUT_MS), save).await {
                Ok(result) => result,
                Err(_) => Err(CursorError::Unavailable("no answer in time".to_owned())),
            }
        }
    }

    /// Lets go of the lanes that are to be left and have nothing out.
    fn let_go(&mut self) {
        let left = if self.dismissed { self.line.left_at_once() } else { self.line.left() };
        for partition in left {
            self.gauges.remove(partition);
            self.tails.remove(&partition);
            self.pauses.remove(&partition);
            self.unreadable.remove(&partition);
            leave(&mut self.together, partition);
            if self.dismissed {
                let save = self.save_cursor(partition, Cursor::ended());
                self.work.push(Box::pin(async move {
                    // Whoever owns the partition next finds it without a subscription.
                    let _ = save.await;
                    Happened::Dismissed
                }));
            }
            if self.again.remove(&partition) {
                self.register(vec![partition], None);
            }
        }
        let line = &self.line;
        for (_, reply) in
            self.leaves.extract_if(.., |(left, _)| left.iter().all(|p| !line.serves(*p)))
        {
            // Who asked may have gone away.
            let _ = reply.send(());
        }
    }
}
