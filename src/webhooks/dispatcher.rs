//! Follows the journal for one subscription: reads records, sends what they cause, moves the
//! cursors. One task, all of whose waiting is in one place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::{Caller, Outcome};
use super::cursor::{CursorError, Cursors, Position, SaveMark};
use super::followed::{Followed, Leave};
use super::health::{Attempt, Health};
use super::lane::Lane;
use super::retry::Next;
use super::{FollowError, Metrics, Schedule, Settings, Subscription};
use crate::clock::Clock;
use crate::domain::UserId;
use crate::journal::{Entry, Journal, Offset, Partition, Reader};

/// Bytes of records that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// How long a journal that could not be read is left alone, in milliseconds.
const READ_RETRY_MS: u64 = 1_000;

/// How long the save of a cursor may take, in milliseconds.
const SAVE_TIMEOUT_MS: u64 = 2_000;

/// What a dispatcher is told from outside.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin to follow.
    Follow { partitions: Vec<Partition>, reply: oneshot::Sender<Result<(), FollowError>> },
    /// Let go, with the cursors saved.
    Leave { partitions: Vec<Partition>, reply: oneshot::Sender<()> },
}

/// What came of something that the dispatcher waits for.
enum Happened {
    Registered {
        positions: Result<Vec<(Partition, Position)>, CursorError>,
        reply: oneshot::Sender<Result<(), FollowError>>,
    },
    Attempted {
        attempt: Attempt,
        outcome: Outcome,
        took: Duration,
    },
    Saved {
        partition: Partition,
        mark: SaveMark,
        result: Result<(), CursorError>,
    },
}

type Waiting = Pin<Box<dyn Future<Output = Happened>>>;

/// Follows the journal for one subscription.
pub(super) struct Dispatcher<C> {
    subscription: Subscription,
    name: Arc<str>,
    journal: Arc<dyn Journal>,
    cursors: C,
    clock: Clock,
    metrics: Metrics,
    caller: Rc<Caller>,
    schedule: Schedule,
    in_flight_max: usize,

    lanes: BTreeMap<Partition, Followed>,
    /// Reads all lanes that can take more; made anew when their set changes.
    reader: Option<Box<dyn Reader>>,
    read_not_before: Option<Instant>,
    read_fails: bool,
    ready: VecDeque<(Partition, UserId)>,
    parked: BinaryHeap<Reverse<(Instant, Partition, UserId)>>,
    in_flight: usize,
    health: Health,
    work: FuturesUnordered<Waiting>,
    leaves: Vec<(Vec<Partition>, oneshot::Sender<()>)>,
    ending: bool,
}

impl<C: Cursors> Dispatcher<C> {
    pub(super) fn new(
        subscription: Subscription,
        settings: &Settings,
        journal: Arc<dyn Journal>,
        cursors: C,
        clock: Clock,
        metrics: Metrics,
        caller: Caller,
    ) -> Self {
        let name: Arc<str> = subscription.name().into();
        let schedule = subscription.schedule;
        Self {
            health: Health::new(Arc::clone(&name)),
            name,
            subscription,
            journal,
            cursors,
            clock,
            metrics,
            caller: Rc::new(caller),
            schedule,
            in_flight_max: settings.in_flight_max.max(1),
            lanes: BTreeMap::new(),
            reader: None,
            read_not_before: None,
            read_fails: false,
            ready: VecDeque::new(),
            parked: BinaryHeap::new(),
            in_flight: 0,
            work: FuturesUnordered::new(),
            leaves: Vec::new(),
            ending: false,
        }
    }

    /// Runs until nobody can give orders any more and everything is let go.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut progress = self.journal.progress();
        let mut progress_told = true;
        loop {
            // Seen before reading: what becomes durable during the read wakes the loop again.
            progress.borrow_and_update();
            let now = Instant::now();
            let more = self.read(now);
            self.unpark(now);
            self.launch();
            self.save(now);
            self.let_go();
            if self.ending && self.lanes.is_empty() {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                order = orders.recv(), if !self.ending => self.obey(order),
                Some(happened) = self.work.next() => self.note(happened),
                changed = progress.changed(), if progress_told && !more => {
                    progress_told = changed.is_ok();
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
                () = tokio::task::yield_now(), if more => {}
                // Nothing can happen any more.
                else => return,
            }
        }
    }

    fn obey(&mut self, order: Option<Order>) {
        match order {
            Some(Order::Follow { partitions, reply }) => self.register(partitions, reply),
            Some(Order::Leave { partitions, reply }) => {
                for partition in &partitions {
                    self.begin_leaving(*partition);
                }
                self.leaves.push((partitions, reply));
            }
            None => {
                self.ending = true;
                for partition in self.lanes.keys().copied().collect::<Vec<_>>() {
                    self.begin_leaving(partition);
                }
            }
        }
    }

    /// Finds where each partition begins. A first cursor is durable before anybody is told.
    fn register(
        &mut self,
        partitions: Vec<Partition>,
        reply: oneshot::Sender<Result<(), FollowError>>,
    ) {
        let new: Vec<Partition> =
            partitions.into_iter().filter(|p| !self.lanes.contains_key(p)).collect();
        let (cursors, name) = (self.cursors.clone(), Arc::clone(&self.name));
        self.work.push(Box::pin(async move {
            let positions = try_join_all(new.into_iter().map(async |partition| {
                let position = match cursors.load(partition, &name).await? {
                    (Some(position), _) => position,
                    (None, end) => {
                        cursors.save(partition, &name, end).await?;
                        end
                    }
                };
                Ok((partition, position))
            }))
            .await;
            Happened::Registered { positions, reply }
        }));
    }

    fn begin_leaving(&mut self, partition: Partition) {
        if let Some(followed) = self.lanes.get_mut(&partition) {
            followed.leaving = true;
            self.reader = None;
        }
    }

    fn note(&mut self, happened: Happened) {
        match happened {
            Happened::Registered { positions, reply } => {
                let result = match positions {
                    Ok(_) if self.ending => Err(FollowError::Ended),
                    Ok(positions) => {
                        self.follow(positions);
                        Ok(())
                    }
                    Err(error) => Err(FollowError::Cursor(error)),
                };
                // Who asked may have gone away; the partitions are followed just the same.
                let _ = reply.send(result);
            }
            Happened::Attempted { attempt, outcome, took } => {
                self.metrics.attempted(self.subscription.app, &outcome, took.as_secs_f64());
                self.settle(&attempt, &outcome, took);
            }
            Happened::Saved { partition, mark, result } => {
                let Some(followed) = self.lanes.get_mut(&partition) else { return };
                if let Err(error) = followed.end_save(&mark, result) {
                    tracing::warn!(
                        webhook.subscription = &*self.name,
                        journal.partition = partition.0,
                        %error,
                        "a webhook's cursor cannot be saved"
                    );
                }
            }
        }
    }

    fn follow(&mut self, positions: Vec<(Partition, Position)>) {
        for (partition, position) in positions {
            if self.lanes.contains_key(&partition) {
                continue;
            }
            let lane = Lane::new(partition, position);
            self.metrics.watch(&self.name, partition, lane.mark());
            self.lanes.insert(partition, Followed::new(lane, Instant::now()));
            self.reader = None;
        }
    }

    /// Reads on, as far as the windows allow. Answers whether more may be there already.
    fn read(&mut self, now: Instant) -> bool {
        if self.read_not_before.is_some_and(|at| at > now) {
            return false;
        }
        self.read_not_before = None;
        let from: Vec<(Partition, Offset)> = self
            .lanes
            .iter()
            .filter(|(_, followed)| followed.is_read())
            .map(|(partition, followed)| (*partition, followed.lane.next_offset()))
            .collect();
        if from.is_empty() {
            return false;
        }
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => self.journal.reader(&from),
        };
        let read = reader.and_then(|mut reader| Ok((reader.next(READ_BYTES)?, reader)));
        match read {
            Ok((entries, reader)) => {
                self.reader = Some(reader);
                self.read_fails = false;
                let more = !entries.is_empty();
                for entry in entries {
                    self.take(&entry);
                }
                more
            }
            Err(error) => {
                if !std::mem::replace(&mut self.read_fails, true) {
                    tracing::error!(
                        webhook.subscription = &*self.name,
                        %error,
                        "the journal cannot be read for a webhook"
                    );
                }
                self.read_not_before = Some(now + Duration::from_millis(READ_RETRY_MS));
                false
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        let Some(followed) = self.lanes.get_mut(&entry.partition) else { return };
        if !followed.is_read() {
            // Read ahead of a full window: it will be read again.
            return;
        }
        match followed.lane.take(entry, self.subscription.app, self.subscription.commands) {
            Ok(ready) => {
                self.ready.extend(ready.map(|user| (entry.partition, user)));
                if followed.lane.is_full() {
                    followed.full = true;
                    self.reader = None;
                }
            }
            Err(error) => {
                tracing::error!(
                    webhook.subscription = &*self.name,
                    journal.partition = entry.partition.0,
                    journal.offset = entry.offset.0,
                    %error,
                    "a record is not readable: its partition's webhooks stop in front of it"
                );
                followed.halted = true;
                self.reader = None;
            }
        }
    }

    /// Makes those ready whose wait is over.
    fn unpark(&mut self, now: Instant) {
        while let Some(Reverse((due, partition, user))) = self.parked.peek().copied() {
            if due > now {
                break;
            }
            self.parked.pop();
            if let Some(followed) = self.lanes.get_mut(&partition)
                && followed.lane.unpark(&user)
            {
                self.ready.push_back((partition, user));
            }
        }
    }

    /// Sends off as many calls as may be in flight.
    fn launch(&mut self) {
        let in_flight_max = if self.health.is_down() { 1 } else { self.in_flight_max };
        while self.in_flight < in_flight_max {
            let Some((partition, user)) = self.ready.pop_front() else { return };
            let Some(followed) = self.lanes.get_mut(&partition) else { continue };
            if followed.leaving {
                continue;
            }
            let Some((offset, call, index)) = followed.lane.start(&user) else { continue };
            self.in_flight += 1;
            let attempt = Attempt { partition, offset, user, call, index };
            let (caller, clock) = (Rc::clone(&self.caller), self.clock.clone());
            self.work.push(Box::pin(async move {
                let began = Instant::now();
                let outcome = caller.attempt(&attempt.call, clock.now()).await;
                Happened::Attempted { attempt, outcome, took: began.elapsed() }
            }));
        }
    }

    fn settle(&mut self, attempt: &Attempt, outcome: &Outcome, took: Duration) {
        self.in_flight -= 1;
        if self.health.note(attempt, outcome, took) {
            self.unpark_all();
        }
        let Some(followed) = self.lanes.get_mut(&attempt.partition) else { return };
        match self.schedule.next(outcome, attempt.index, &attempt.call.id) {
            Next::Advance => {
                let command = attempt.call.command;
                self.metrics.done(self.subscription.app, command, outcome.is_delivered());
                if followed.lane.advance(&attempt.user) {
                    self.ready.push_back((attempt.partition, attempt.user));
                }
                if followed.full && followed.lane.has_room() {
                    followed.full = false;
                    self.reader = None;
                }
            }
            Next::RetryAfter(wait) => {
                followed.lane.park(&attempt.user);
                let due = Instant::now() + wait;
                self.parked.push(Reverse((due, attempt.partition, attempt.user)));
            }
        }
    }

    /// After an outage nobody waits for the end of a backoff that the outage caused.
    fn unpark_all(&mut self) {
        for Reverse((_, partition, user)) in std::mem::take(&mut self.parked) {
            if let Some(followed) = self.lanes.get_mut(&partition)
                && followed.lane.unpark(&user)
            {
                self.ready.push_back((partition, user));
            }
        }
    }

    /// Saves the cursors that moved, each at most once in a while.
    fn save(&mut self, now: Instant) {
        for (partition, followed) in &mut self.lanes {
            if let Some((position, mark)) = followed.begin_save(now) {
                self.work.push(saving(&self.cursors, *partition, &self.name, position, mark));
            }
        }
    }

    /// Lets go of the lanes that are to be left and have nothing in flight.
    fn let_go(&mut self) {
        let mut left = Vec::new();
        for (partition, followed) in &mut self.lanes {
            match followed.leave() {
                Leave::NotYet => {}
                Leave::Save(position, mark) => {
                    self.work.push(saving(&self.cursors, *partition, &self.name, position, mark));
                }
                Leave::Done => left.push(*partition),
            }
        }
        for partition in left {
            self.lanes.remove(&partition);
            self.metrics.unwatch(&self.name, partition);
        }
        let lanes = &self.lanes;
        for (_, reply) in
            self.leaves.extract_if(.., |(left, _)| left.iter().all(|p| !lanes.contains_key(p)))
        {
            // Who asked may have gone away.
            let _ = reply.send(());
        }
    }

    /// When the next thing is due that nothing else announces.
    fn wake(&self) -> Option<Instant> {
        let parked = self.parked.peek().map(|Reverse((due, _, _))| *due);
        let saves = self.lanes.values().filter_map(Followed::save_due);
        parked.into_iter().chain(saves).chain(self.read_not_before).min()
    }
}

fn saving(
    cursors: &impl Cursors,
    partition: Partition,
    subscription: &Arc<str>,
    position: Position,
    mark: SaveMark,
) -> Waiting {
    let (cursors, subscription) = (cursors.clone(), Arc::clone(subscription));
    Box::pin(async move {
        let save = cursors.save(partition, &subscription, position);
        let result = match timeout(Duration::from_millis(SAVE_TIMEOUT_MS), save).await {
            Ok(result) => result,
            Err(_) => Err(CursorError::Unavailable("no answer in time".to_owned())),
        };
        Happened::Saved { partition, mark, result }
    })
}
