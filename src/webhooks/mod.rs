//! What subscribers hear.
//!
//! The queue is the journal: a delivery is a pure function of a record and of a subscription, and
//! all that is kept is a cursor per subscription and partition. Promises: every call that a
//! subscription asks for is made until it was answered, at least once, in journal order per user,
//! with the same id and the same bytes on every try; an outage of the receiver costs lag, not
//! calls. The room knows neither actors nor the API edge.
//!
//! A subscription that was never seen in a partition begins at the partition's end, not at its
//! beginning: the history before it is nobody's concern at a new address. That end is made durable
//! as the first cursor by [`Handle::follow`], which a node awaits before it serves the partition,
//! so nothing that happens from then on is missed.
//!
//! [`command`] and [`payload`] say what is told, [`endpoint`] and [`attempt`] how, [`retry`] when again;
//! `dispatcher` follows the journal for one subscription, with one `lane` per partition,
//! of which `followed` says when it is read, saved and left.

pub mod attempt;
pub mod command;
pub mod cursor;
mod dispatcher;
pub mod endpoint;
mod followed;
mod health;
mod lane;
mod metrics;
pub mod payload;
pub mod retry;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

pub use attempt::TlsError;
pub use command::{CallbackCommand, Switches};
pub use cursor::{CursorError, Cursors, Position, SILENT_RECORDS_MAX};
pub use endpoint::{Endpoint, EndpointError};
pub use health::FAILURES_IN_A_ROW_MAX;
pub use lane::{REPEATED_RECORDS_MAX, WINDOW_BYTES_MAX, WINDOW_RECORDS_MAX};
pub use metrics::Metrics;
pub use retry::Schedule;

use crate::clock::Clock;
use crate::domain::AppId;
use crate::journal::{Journal, Partition};
use dispatcher::{Dispatcher, Order};

/// Orders that a dispatcher has not taken yet, at most.
const ORDERS_MAX: usize = 8;

/// One app's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The app whose users it is about. A cursor belongs to the app, not to the address, so a
    /// changed address goes on where the old one stopped.
    pub app: AppId,
    /// Where it is called.
    pub endpoint: Endpoint,
    /// What it asked for.
    pub commands: Switches,
    /// How long one delivery attempt may take, connect to last byte, in milliseconds (100 to
    /// 30 000). Rule: webhooks.md 4.
    pub attempt_timeout_ms: u64,
    /// When a failed delivery is tried again.
    pub schedule: Schedule,
}

impl Subscription {
    /// The name under which its cursors are kept.
    pub fn name(&self) -> String {
        format!("webhook/{}", self.app)
    }
}

/// What the webhooks of a node need to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The subscriptions, one per app at most.
    pub subscriptions: Vec<Subscription>,
    /// Deliveries in flight per subscription, at most (1 to 1024).
    pub in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { subscriptions: Vec::new(), in_flight_max: 64 }
    }
}

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
    /// A cursor could not be read, or the first one not be saved. None of the partitions is
    /// followed by that subscription; following them again is safe.
    #[error("a webhook's cursor is not available")]
    Cursor(#[from] CursorError),
    /// The webhooks have been stopped, or broke.
    #[error("the webhooks do not run")]
    Ended,
}

/// Starts the webhooks on a thread of their own; they follow no partition yet.
///
/// The thread is there because the HTTP client cannot leave its thread, and because journal reads
/// are reads from disk. Errors: [`StartError`].
pub fn start(
    settings: Settings,
    journal: Arc<dyn Journal>,
    cursors: impl Cursors,
    clock: Clock,
    metrics: Metrics,
) -> Result<Handle, StartError> {
    let secure = settings.subscriptions.iter().any(|s| s.endpoint.is_secure());
    let tls = if secure { Some(attempt::system_tls()?) } else { None };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, has_ended) = oneshot::channel();
    let mut dispatchers = Vec::new();
    let mut orders = Vec::new();
    for subscription in &settings.subscriptions {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        dispatchers.push(sender);
        orders.push((subscription.clone(), receiver));
    }
    thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
        let follow = async {
            join_all(orders.into_iter().map(|(subscription, orders)| {
                let caller = attempt::Caller::new(
                    subscription.app,
                    subscription.endpoint.clone(),
                    Duration::from_millis(subscription.attempt_timeout_ms),
                    settings.in_flight_max,
                    tls.clone(),
                );
                let dispatcher = Dispatcher::new(
                    subscription,
                    &settings,
                    Arc::clone(&journal),
                    cursors.clone(),
                    clock.clone(),
                    metrics.clone(),
                    caller,
                );
                tokio::task::spawn_local(dispatcher.run(orders))
            }))
            .await
        };
        for ending in LocalSet::new().block_on(&runtime, follow) {
            if let Err(error) = ending {
                tracing::error!(%error, "a webhook follower broke");
            }
        }
        // Nobody waits for the end of a handle that was dropped.
        let _ = ended.send(());
    })?;
    Ok(Handle { dispatchers, has_ended })
}

/// The running webhooks. Dropping it ends them as [`Handle::stop`] does, without waiting.
#[derive(Debug)]
pub struct Handle {
    dispatchers: Vec<mpsc::Sender<Order>>,
    has_ended: oneshot::Receiver<()>,
}

impl Handle {
    /// Follows `partitions` from their cursors on. A subscription without a cursor gets one at the
    /// partition's end, durable when this resolves: await it before the partitions are served.
    ///
    /// Repeat: a partition that is followed already stays as it is. Orders about one partition are
    /// given one at a time, each awaited before the next. Errors: [`FollowError`].
    pub async fn follow(&self, partitions: &[Partition]) -> Result<(), FollowError> {
        let answers = join_all(self.dispatchers.iter().map(async |dispatcher| {
            let (reply, answer) = oneshot::channel();
            let order = Order::Follow { partitions: partitions.to_vec(), reply };
            dispatcher.send(order).await.map_err(|_| FollowError::Ended)?;
            answer.await.map_err(|_| FollowError::Ended)?
        }));
        answers.await.into_iter().collect()
    }

    /// Lets go of `partitions`: attempts in flight end, cursors are saved. Bounded by the limit of
    /// an attempt and that of a save.
    pub async fn leave(&self, partitions: &[Partition]) {
        join_all(self.dispatchers.iter().map(async |dispatcher| {
            let (reply, left) = oneshot::channel();
            let order = Order::Leave { partitions: partitions.to_vec(), reply };
            // A dispatcher that has ended follows nothing.
            if dispatcher.send(order).await.is_ok() {
                let _ = left.await;
            }
        }))
        .await;
    }

    /// Lets go of all partitions and ends the thread. Bounded like [`Handle::leave`].
    pub async fn stop(self) {
        drop(self.dispatchers);
        // An error means that the thread broke, and it has ended just the same.
        let _ = self.has_ended.await;
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
