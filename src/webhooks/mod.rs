//! What subscribers hear.
//!
//! The queue is the journal: a delivery is a pure function of a record and of what a subscription asks
//! for, and all that is kept is a cursor per subscription and partition. Promises: every delivery that a
//! subscription asks for is made until it was accepted, at least once, in journal order per user,
//! with the same id and the same bytes on every try; an outage of the receiver costs lag, not
//! deliveries. The room knows neither actors nor the API edge.
//!
//! A *delivery* is what a record owes to a subscription, whatever comes of it; a *call* is one HTTP request:
//! an attempt at a delivery, a question, or a word at once.
//!
//! A subscription that was never seen in a partition begins at the partition's end, not at its
//! beginning: the history before it is nobody's concern at a new address. That end is made durable
//! as the first cursor by [`Handle::follow`], which a node awaits before it serves the partition,
//! so nothing that happens from then on is missed.
//!
//! [`payload`] says what is told, [`digest`] how it is named and counted,
//! [`format`](mod@format) what it looks like on the wire, [`guard`] where it may go, [`caller`] how it
//! gets there. `feed` and `hub` read the journal once for all. `line` decides for one subscription what
//! goes out next, with one `lane` per partition, `breaker` and [`retry`]: no IO, no clock. `dispatcher`
//! does what they say. [`consult`] is apart: it asks before the fact. So is `at_once`, whose calls no record
//! speaks of.

mod at_once;
mod breaker;
pub mod caller;
pub mod consult;
mod count;
pub mod cursor;
pub mod digest;
mod dispatcher;
pub mod endpoint;
mod feed;
pub mod format;
pub mod guard;
mod hub;
mod lane;
mod line;
mod metrics;
pub mod payload;
pub mod retry;
mod series;
pub mod subscription;
mod switches;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};

pub use at_once::{AT_ONCE_PATIENCE, RequestOverLimit, alert, test};
pub use breaker::{FAILING_USERS_MIN, FAILURES_IN_A_ROW_MAX};
pub use caller::{
    Bounds, Caller, Certificate, CertificateError, Failure, Link, Outcome, Post, Tls, TlsError,
};
pub use consult::answer::Unreadable;
pub use consult::question::Question;
pub use consult::{BEFORE_TIMEOUT_MAX_MS, Consultant, Desks, Target};
pub use count::count;
pub use cursor::{CURSORS, CursorError, CursorName, Cursors};
pub use digest::DeliveryId;
pub use endpoint::{Endpoint, EndpointError};
pub use format::{Secret, SecretError, Signer};
pub use guard::{Guard, Guarded, Subnet};
pub use lane::{
    PARKED_USERS_MAX, REPEATED_RECORDS_MAX, SILENT_RECORDS_MAX, WINDOW_BYTES_MAX,
    WINDOW_RECORDS_MAX,
};
pub use metrics::Metrics;
pub use retry::Schedule;
pub use subscription::Subscription;
pub use switches::Switches;

use crate::clock::Clock;
use crate::journal::{Journal, Partition};
use dispatcher::{Dispatcher, Order, Tools};
use feed::{Afar, Readers, Source};
use hub::Hub;

/// Orders that a dispatcher, or all of them together, have not taken yet, at most.
const ORDERS_MAX: usize = 8;

/// Why the webhooks cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A subscription is called over `https`, which cannot be spoken.
    #[error("webhooks over https cannot be sent")]
    Tls(#[from] TlsError),
    /// The thread or its runtime could not be created.
    #[error("the thread of the webhooks cannot be started")]
    Thread(#[from] io::Error),
}

/// Why partitions are not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// A cursor could not be read, or the first one not be saved, though there is room for it. Some of the
    /// partitions may be followed all the same: they are to be left, before they are followed again.
    #[error("a webhook's cursor is not available")]
    Cursor(#[from] CursorError),
    /// The webhooks have been stopped, or broke.
    #[error("the webhooks do not run")]
    Ended,
}

/// What the webhooks are told from outside.
#[derive(Debug)]
enum Command {
    Follow { partitions: Vec<Partition>, reply: oneshot::Sender<Result<(), FollowError>> },
    Leave { partitions: Vec<Partition>, reply: oneshot::Sender<()> },
    Serve { subscriptions: Vec<Subscription>, reply: oneshot::Sender<()> },
    Stop,
}

/// Starts the webhooks on a thread of their own; they follow no partition yet.
///
/// The thread is there because the HTTP client cannot leave its thread, and because journal reads
/// block on the disk. Those that may wait for a network are made by others. Errors: [`StartError`].
pub fn start(
    subscriptions: Vec<Subscription>,
    journal: Arc<dyn Journal>,
    cursors: impl Cursors,
    clock: Clock,
    metrics: Metrics,
) -> Result<Handle, StartError> {
    let tls = Tls::system();
    let secure = subscriptions.iter().any(|s| s.endpoint.is_secure());
    let tls = if secure { Some(tls?) } else { tls.ok() };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let afar = journal.is_remote().then(|| Afar::begin(Arc::clone(&journal))).transpose()?;
    let (ended, has_ended) = watch::channel(());
    let (commands, orders) = mpsc::channel(ORDERS_MAX);
    let (known, watched) = (Arc::clone(&journal), metrics.clone());
    thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
        let readers = Readers::new();
        let source = match afar {
            Some((afar, thread)) => {
                readers.keep(thread);
                Source::Afar(afar)
            }
            None => Source::here(Arc::clone(&journal)),
        };
        let run = async {
            let hub = Hub::new(journal, Rc::clone(&readers));
            let reading = tokio::task::spawn_local(Rc::clone(&hub).read(source));
            let tools = Tools { hub, cursors, clock, metrics };
            let mut all = All { tools, tls, followed: BTreeSet::new(), served: BTreeMap::new() };
            all.serve(subscriptions);
            all.run(orders).await;
            reading.abort();
        };
        LocalSet::new().block_on(&runtime, run);
        // Nobody takes what they read any more.
        readers.join();
        // A name server that does not answer holds nobody up.
        runtime.shutdown_background();
        drop(ended);
    })?;
    Ok(Handle { commands, has_ended, journal: known, watched })
}

/// All subscriptions of the node.
struct All<C> {
    tools: Tools<C>,
    tls: Option<Tls>,
    followed: BTreeSet<Partition>,
    /// By the names of their cursors.
    served: BTreeMap<String, Serving>,
}

struct Serving {
    subscription: Rc<Subscription>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl<C: Cursors> All<C> {
    async fn run(&mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Follow { partitions, reply } => {
                    self.followed.extend(&partitions);
                    let _ = reply.send(self.follow(&partitions).await);
                }
                Command::Leave { partitions, reply } => {
                    for partition in &partitions {
                        self.followed.remove(partition);
                    }
                    let left = self.served.values().map(|serving| {
                        let (reply, left) = oneshot::channel();
                        let order = Order::Leave { partitions: partitions.clone(), reply };
                        let orders = serving.orders.clone();
                        async move {
                            // A dispatcher that has ended follows nothing.
                            if orders.send(order).await.is_ok() {
                                let _ = left.await;
                            }
                        }
                    });
                    let left = join_all(left);
                    let hub = Rc::clone(&self.tools.hub);
                    // Attempts under way end first, which may take as long as an attempt may.
                    tokio::task::spawn_local(async move {
                        left.await;
                        partitions.iter().for_each(|partition| hub.close(*partition));
                        let _ = reply.send(());
                    });
                }
                Command::Serve { subscriptions, reply } => {
                    self.serve(subscriptions);
                    let _ = reply.send(());
                }
                Command::Stop => break,
            }
        }
        let ending = std::mem::take(&mut self.served).into_values().map(|serving| {
            drop(serving.orders);
            serving.task
        });
        for ended in join_all(ending).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a webhook follower panicked");
            }
        }
    }

    async fn follow(&self, partitions: &[Partition]) -> Result<(), FollowError> {
        let answers = join_all(self.served.values().map(async |serving| {
            let (reply, answer) = oneshot::channel();
            let order = Order::Follow { partitions: partitions.to_vec(), reply: Some(reply) };
            serving.orders.send(order).await.map_err(|_| FollowError::Ended)?;
            answer.await.map_err(|_| FollowError::Ended)?
        }));
        answers.await.into_iter().collect()
    }

    /// Serves exactly these from now on.
    fn serve(&mut self, subscriptions: Vec<Subscription>) {
        let mut wanted: BTreeMap<String, Subscription> =
            subscriptions.into_iter().map(|wanted| (wanted.cursor_name(), wanted)).collect();
        self.served.retain(|name, serving| {
            let kept = wanted.contains_key(name);
            if !kept {
                let orders = serving.orders.clone();
                tokio::task::spawn_local(async move {
                    let _ = orders.send(Order::Dismiss).await;
                });
            }
            kept
        });
        self.served.retain(|name, serving| {
            let Some(subscription) = wanted.remove(name) else { return true };
            if *serving.subscription == subscription {
                return true;
            }
            let subscription = Rc::new(subscription);
            let caller = caller(&subscription, self.tls.as_ref());
            let order = Order::Adopt { subscription: Rc::clone(&subscription), caller };
            serving.subscription = subscription;
            let orders = serving.orders.clone();
            tokio::task::spawn_local(async move {
                let _ = orders.send(order).await;
            });
            true
        });
        for (name, subscription) in wanted {
            let subscription = Rc::new(subscription);
            let caller = caller(&subscription, self.tls.as_ref());
            let dispatcher = Dispatcher::new(self.tools.clone(), Rc::clone(&subscription), caller);
            let (orders, receiver) = mpsc::channel(ORDERS_MAX);
            let task = tokio::task::spawn_local(dispatcher.run(receiver));
            let partitions = self.followed.iter().copied().collect();
            let order = Order::Follow { partitions, reply: None };
            let first = orders.try_send(order);
            debug_assert!(first.is_ok(), "a new queue has room");
            self.served.insert(name, Serving { subscription, orders, task });
        }
    }
}

fn caller(subscription: &Subscription, tls: Option<&Tls>) -> Rc<Caller> {
    let bounds = Bounds::within(Duration::from_millis(subscription.delivery.timeout_ms));
    let connections_max = subscription.delivery.in_flight_max as usize;
    Rc::new(Caller::new(subscription, bounds, connections_max, tls))
}

/// The running webhooks. Dropping it ends them as [`Handle::stop`] does, without waiting.
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// Has no sender any more once the thread has ended.
    has_ended: watch::Receiver<()>,
    journal: Arc<dyn Journal>,
    watched: Metrics,
}

impl Handle {
    /// Records that the subscription of this name, or the replay, is not done with, in each partition in
    /// which it is followed here.
    pub fn lags(&self, of: &CursorName<'_>) -> BTreeMap<Partition, u64> {
        self.watched.lags(&*self.journal, of)
    }

    /// Serves exactly `subscriptions` from now on: new ones in the partitions that are followed,
    /// changed ones under their new terms; those that are missing keep no cursors.
    pub async fn serve(&self, subscriptions: Vec<Subscription>) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Serve { subscriptions, reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Follows `partitions` from their cursors on. A subscription without a cursor gets one at the
    /// partition's end, durable when this resolves: await it before the partitions are served. One for
    /// whose cursor there is no room follows as soon as there is, and keeps no other from following.
    ///
    /// Repeat: a partition that is followed already stays as it is. Orders about one partition are
    /// given one at a time, each awaited before the next. Errors: [`FollowError`].
    pub async fn follow(&self, partitions: &[Partition]) -> Result<(), FollowError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Follow { partitions: partitions.to_vec(), reply };
        self.commands.send(command).await.map_err(|_| FollowError::Ended)?;
        answer.await.map_err(|_| FollowError::Ended)?
    }

    /// Lets go of `partitions`: attempts in flight end, cursors are saved. Bounded by the limit of
    /// an attempt and that of a save.
    pub async fn leave(&self, partitions: &[Partition]) {
        let (reply, left) = oneshot::channel();
        let command = Command::Leave { partitions: partitions.to_vec(), reply };
        if self.commands.send(command).await.is_ok() {
            let _ = left.await;
        }
    }

    /// Lets go of all partitions and ends the thread. Bounded like [`Handle::leave`].
    pub async fn stop(&self) {
        // Fails if it has ended already.
        let _ = self.commands.send(Command::Stop).await;
        while self.has_ended.clone().changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod play;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
