//! The task that keeps this node's seats in step with the view: reads the boards, decides, orders,
//! beats.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::metrics::Metrics;
use super::placement::StandbyMode;
use super::plan::{Me, Orders, Planner};
use super::routes::Routes;
use crate::actors::Seat;
use crate::journal::{Board, Notice, Partition};

/// How often the node looks at everything, whatever it has heard.
const TICK: Duration = Duration::from_millis(250);
/// Notices taken at once before the node looks at what they mean.
const NOTICES_AT_ONCE: usize = 1024;

/// The partitions of this node, as the steward drives them. All methods return at once; what comes
/// of an order shows in the seats.
pub trait Seats: 'static {
    /// What this node has to do with each partition, in their order.
    fn seats(&self) -> Vec<Seat>;
    /// Changes whenever a seat does.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Begins to own a partition: when this returns, its seat is [`Seat::Claiming`]. A seat that is
    /// vacant or stands by afterwards means that the claim came to nothing.
    fn claim(&self, partition: Partition);
    /// Finishes a partition's work and hands it over; one that is being claimed is given up, before or
    /// after the claim takes effect. Repeated while the seat shows no effect; that changes nothing.
    fn release(&self, partition: Partition);
    /// Follows exactly these, as far as they are not owned. Said again at every look, so that what was
    /// owned a moment ago is followed as soon as it is not.
    fn stand_by(&self, partitions: BTreeSet<Partition>);
    /// Whether the node's own threads answer: one that is stuck must stop beating.
    fn healthy(&self) -> impl Future<Output = bool>;
}

/// What a steward has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The node's name, unique in its cluster.
    pub node: String,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// How long a node may be silent before it is dead.
    pub dead_after: Duration,
    /// How many nodes follow a partition.
    pub standby: StandbyMode,
}

/// A board and what is read from it.
pub type OpenBoard = (Arc<dyn Board>, Receiver<Notice>);

/// The running steward. Dropping it ends it without handing anything over.
pub struct Handle {
    shared: Rc<Shared>,
    task: tokio::task::JoinHandle<()>,
    looks: watch::Receiver<u64>,
}

struct Shared {
    /// How long the node may take to leave, once it was asked to.
    leaving: Cell<Option<Duration>>,
    asked: Notify,
    unready: RefCell<Option<String>>,
    /// The node has left: it holds nothing, and the others were told.
    left: Cell<bool>,
}

impl Handle {
    /// Tells whether this node takes part: it has read the boards, is seen by the others, has caught up
    /// with what it follows, and every partition has an owner. The reason if not.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + use<> {
        let shared = self.shared.clone();
        move || match &*shared.unready.borrow() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Tells the other nodes that this one leaves, and hands everything over: each partition when another
    /// node is warm for it, or after half of `patience` to any node. Returns when nothing is held any more
    /// and the others were told, or after `patience`.
    pub async fn leave(&mut self, patience: Duration) {
        self.shared.leaving.set(Some(patience));
        self.shared.asked.notify_one();
        let deadline = Instant::now() + patience;
        while !self.shared.left.get() {
            match tokio::time::timeout_at(deadline, self.looks.changed()).await {
                Ok(Ok(())) => {}
                // The steward has ended, or the time is over.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Ends the steward; afterwards it holds nothing any more.
    pub async fn stop(mut self) {
        self.task.abort();
        // An aborted task ends with an error.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the steward on the caller's thread.
pub fn start(
    settings: Settings,
    members: OpenBoard,
    owners: OpenBoard,
    routes: Arc<Routes>,
    seats: impl Seats,
    metrics: Metrics,
) -> Handle {
    let shared = Rc::new(Shared {
        leaving: Cell::new(None),
        asked: Notify::new(),
        unready: RefCell::new(Some("the node is joining the cluster".into())),
        left: Cell::new(false),
    });
    let (looked, looks) = watch::channel(0);
    let Settings { node, address, dead_after, standby } = settings;
    let partitions = seats.seats().len() as u16;
    let me = Me { node, incarnation: Uuid::now_v7(), address };
    let steward = Steward {
        planner: Planner::new(me, partitions, dead_after, standby),
        began: Instant::now(),
        members: members.0,
        owners: owners.0,
        routes,
        seats,
        metrics,
        gave_way: false,
        deaf: false,
        shared: shared.clone(),
        looked,
    };
    let task = tokio::task::spawn_local(steward.run(members.1, owners.1));
    Handle { shared, task, looks }
}

struct Steward<S> {
    planner: Planner,
    began: Instant,
    members: Arc<dyn Board>,
    owners: Arc<dyn Board>,
    routes: Arc<Routes>,
    seats: S,
    metrics: Metrics,
    gave_way: bool,
    /// A board is not read any more.
    deaf: bool,
    shared: Rc<Shared>,
    looked: watch::Sender<u64>,
}

impl<S: Seats> Steward<S> {
    async fn run(mut self, mut members: Receiver<Notice>, mut owners: Receiver<Notice>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.seats.changes();
        let shared = self.shared.clone();
        let (mut beats, mut claims) = (Vec::new(), Vec::new());
        let (mut members_open, mut owners_open) = (true, true);
        loop {
            tokio::select! {
                count = members.recv_many(&mut beats, NOTICES_AT_ONCE), if members_open => {
                    members_open = self.is_open(count, "members");
                    let here = self.here();
                    beats.drain(..).for_each(|notice| self.planner.hear_member(&notice, here));
                }
                count = owners.recv_many(&mut claims, NOTICES_AT_ONCE), if owners_open => {
                    owners_open = self.is_open(count, "owners");
                    for notice in claims.drain(..) {
                        if let Some((partition, owner)) = self.planner.hear_owner(&notice) {
                            self.routes.note(partition, owner);
                        }
                    }
                }
                Ok(()) = changes.changed() => {}
                () = shared.asked.notified() => {
                    if let Some(patience) = shared.leaving.get() {
                        self.planner.leave(self.here(), patience);
                    }
                }
                _ = tick.tick() => {}
            }
            let orders = self.planner.look(self.here(), &self.seats.seats());
            self.carry_out(orders);
            // A node that is told nothing any more must not look alive.
            self.deaf = !(members_open && owners_open);
            if !self.deaf {
                self.beat().await;
            }
            self.report();
        }
    }

    /// The node's own time since it was started.
    fn here(&self) -> Duration {
        self.began.elapsed()
    }

    fn is_open(&self, count: usize, board: &str) -> bool {
        if count == 0 {
            tracing::error!(
                cluster.board = board,
                "a notice board is not read any more: other nodes will take over; restart this one"
            );
        }
        count > 0
    }

    fn carry_out(&mut self, orders: Orders) {
        let Orders { claim, release, follow, post, mismatches } = orders;
        for partition in claim {
            self.metrics.claims.inc();
            self.seats.claim(partition);
        }
        for partition in release {
            self.metrics.releases.inc();
            self.seats.release(partition);
        }
        self.seats.stand_by(follow);
        for (partition, tenure) in post {
            if let Ok(value) = serde_json::to_vec(&tenure) {
                self.owners.post(&partition.to_string(), &value);
            }
            self.routes.note(partition, tenure.owner());
        }
        self.metrics.mismatches.inc_by(mismatches);
    }

    /// Shows that this node lives, if it is due and the node is well.
    async fn beat(&mut self) {
        if !self.planner.beat_is_due(self.here()) || !self.seats.healthy().await {
            return;
        }
        let beat = self.planner.beat(self.here(), &self.seats.seats());
        if let Ok(value) = serde_json::to_vec(&beat) {
            self.members.post(&beat.node, &value);
        }
    }

    /// Tells those who wait, and the operator, how things stand.
    fn report(&mut self) {
        let (here, seats) = (self.here(), self.seats.seats());
        let gives_way = self.planner.gives_way(here);
        if gives_way && !self.gave_way {
            tracing::error!(
                "another node with the same node.name was started later: this one gives way"
            );
        }
        self.gave_way = gives_way;
        let deaf = self.deaf.then(|| "a notice board is not read any more".to_owned());
        *self.shared.unready.borrow_mut() = deaf.or_else(|| self.planner.unready(here, &seats));
        self.shared.left.set(self.planner.has_left(here, &seats));
        self.metrics.show(&self.planner, &seats);
        self.looked.send_modify(|looks| *looks += 1);
    }
}

#[cfg(test)]
mod tests;
