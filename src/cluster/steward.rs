//! The task that keeps this node's seats in step with the view: reads the boards, decides, orders,
//! beats.

use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::members::{Beat, View};
use super::placement::StandbyMode;
use super::plan::{Me, Memory, plan, standing, warm};
use super::routes::{Owner, Routes};
use crate::actors::Seat;
use crate::journal::{Board, Epoch, Notice, Partition};

/// How often the node looks at everything, whatever it has heard.
const TICK: Duration = Duration::from_millis(250);
/// How often a node shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How often owners say again what they own, so that a lost notice heals.
const REPEAT_OWNERS: Duration = Duration::from_secs(30);
/// Notices taken at once before the node looks at what they mean.
const NOTICES_AT_ONCE: usize = 1024;

/// The partitions of this node, as the steward drives them. All methods return at once; what comes
/// of an order shows in the seats.
pub trait Seats: 'static {
    /// What this node has to do with each partition, in their order.
    fn seats(&self) -> Vec<Seat>;
    /// Changes whenever a seat does.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Begins to own a partition.
    fn claim(&self, partition: Partition);
    /// Finishes a partition's work and hands it over. Repeating it changes nothing.
    fn release(&self, partition: Partition);
    /// Follows exactly these, as far as they are not owned.
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
    /// How long a node may be silent before it is dead, by the board's clock.
    pub dead_after: Duration,
    /// How many nodes follow a partition.
    pub standby: StandbyMode,
}

/// A board and what is read from it.
pub type OpenBoard = (Arc<dyn Board>, Receiver<Notice>);

/// What the cluster tells the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    alive: Gauge,
    serving: Gauge,
    standing_by: Gauge,
    releases: Counter,
    rival_claims: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_members_alive", "Nodes that live", self.alive.clone());
        registry.register(
            "cordon_partitions_serving",
            "Partitions that this node owns",
            self.serving.clone(),
        );
        registry.register(
            "cordon_partitions_standing_by",
            "Partitions that this node follows and has caught up with",
            self.standing_by.clone(),
        );
        registry.register(
            "cordon_partition_releases",
            "Partitions handed over",
            self.releases.clone(),
        );
        registry.register(
            "cordon_partition_rival_claims",
            "Claims of others heard of for a partition that this node serves",
            self.rival_claims.clone(),
        );
    }
}

/// An owner, as posted under the partition's number.
#[derive(Serialize, Deserialize)]
struct Posted {
    epoch: Epoch,
    node: String,
    address: String,
}

/// The running steward. Dropping it ends it without handing anything over.
pub struct Handle {
    shared: Rc<Shared>,
    task: actix_web::rt::task::JoinHandle<()>,
    changes: watch::Receiver<u64>,
}

#[derive(Default)]
struct Shared {
    leaving: std::cell::Cell<bool>,
    asked: Notify,
    unready: std::cell::RefCell<Option<String>>,
    /// Partitions that are served or being claimed or handed over.
    held: std::cell::Cell<usize>,
}

impl Handle {
    /// Tells whether this node takes part: it has read the boards, is seen by the others, and every
    /// partition has an owner. The reason if not.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + use<> {
        let shared = self.shared.clone();
        move || match &*shared.unready.borrow() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Tells the others that this node leaves and hands everything over; returns when nothing is held
    /// any more, or after `patience`.
    pub async fn leave(&mut self, patience: Duration) {
        self.shared.leaving.set(true);
        self.shared.asked.notify_one();
        let deadline = Instant::now() + patience;
        loop {
            self.changes.borrow_and_update();
            if self.shared.held.get() == 0 && self.shared.unready.borrow().is_some() {
                return;
            }
            if tokio::time::timeout_at(deadline, self.changes.changed()).await.is_err() {
                return;
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
    let shared = Rc::new(Shared::default());
    *shared.unready.borrow_mut() = Some("the node is joining the cluster".into());
    let (looks, changes) = watch::channel(0);
    let steward = Steward {
        view: View::new(settings.dead_after),
        incarnation: Uuid::now_v7(),
        settings,
        members: members.0,
        owners: owners.0,
        owners_whole: false,
        routes,
        seats,
        metrics,
        memory: Memory::default(),
        follow: BTreeSet::new(),
        releasing: BTreeSet::new(),
        beat_due: Instant::now(),
        repeat_due: Instant::now() + REPEAT_OWNERS,
        posted: Vec::new(),
        shared: shared.clone(),
        looks,
    };
    let task = actix_web::rt::spawn(steward.run(members.1, owners.1));
    Handle { shared, task, changes }
}

struct Steward<S> {
    settings: Settings,
    incarnation: Uuid,
    view: View,
    members: Arc<dyn Board>,
    owners: Arc<dyn Board>,
    owners_whole: bool,
    routes: Arc<Routes>,
    seats: S,
    metrics: Metrics,
    memory: Memory,
    follow: BTreeSet<Partition>,
    /// Being handed over.
    releasing: BTreeSet<Partition>,
    beat_due: Instant,
    repeat_due: Instant,
    /// The epochs under which this node has said that it owns partitions.
    posted: Vec<Option<Epoch>>,
    shared: Rc<Shared>,
    looks: watch::Sender<u64>,
}

impl<S: Seats> Steward<S> {
    async fn run(mut self, mut members: Receiver<Notice>, mut owners: Receiver<Notice>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.seats.changes();
        let shared = self.shared.clone();
        let (mut beats, mut claims) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = members.recv_many(&mut beats, NOTICES_AT_ONCE) => {
                    if count == 0 { return }
                    beats.drain(..).for_each(|notice| self.view.apply(&notice));
                }
                count = owners.recv_many(&mut claims, NOTICES_AT_ONCE) => {
                    if count == 0 { return }
                    claims.drain(..).for_each(|notice| self.hear(&notice));
                }
                Ok(()) = changes.changed() => {}
                () = shared.asked.notified() => self.beat_due = Instant::now(),
                _ = tick.tick() => {}
            }
            self.look();
            self.beat().await;
        }
    }

    /// Takes a notice about an owner in.
    fn hear(&mut self, notice: &Notice) {
        let Notice::Posted { key, value, .. } = notice else {
            self.owners_whole = true;
            return;
        };
        let posted = serde_json::from_slice::<Posted>(value).ok();
        let (Ok(partition), Some(posted)) = (key.parse().map(Partition), posted) else { return };
        let Posted { epoch, node, address } = posted;
        let rival = node != self.settings.node;
        let news = self.routes.note(partition, Owner { epoch, node, address });
        let seat = self.seats.seats().get(usize::from(partition.0)).copied();
        if news && rival && matches!(seat, Some(Seat::Serving { .. })) {
            self.metrics.rival_claims.inc();
        }
    }

    /// Decides and orders.
    fn look(&mut self) {
        let seats = self.seats.seats();
        let me = Me {
            node: &self.settings.node,
            leaving: self.shared.leaving.get(),
            standby: self.settings.standby,
        };
        if self.owners_whole || me.leaving {
            let orders = plan(&self.view, &self.routes, &seats, me, &mut self.memory);
            orders.claim.iter().for_each(|partition| self.seats.claim(*partition));
            let serves = |partition: &Partition| {
                matches!(seats.get(usize::from(partition.0)), Some(Seat::Serving { .. }))
            };
            self.releasing.retain(serves);
            for partition in orders.release {
                if self.releasing.insert(partition) {
                    self.metrics.releases.inc();
                    self.seats.release(partition);
                }
            }
            self.follow.clone_from(&orders.follow);
            // Said each time: what was owned a moment ago may be followed now.
            self.seats.stand_by(orders.follow);
        }
        self.announce(&seats);
        let held = |seat: &&Seat| !matches!(seat, Seat::Vacant | Seat::StandingBy { .. });
        self.shared.held.set(seats.iter().filter(held).count());
        let unready = self.unready(&seats);
        *self.shared.unready.borrow_mut() = unready;
        self.metrics.alive.set(self.view.alive().count() as i64);
        let serving = seats.iter().filter(|seat| matches!(seat, Seat::Serving { .. })).count();
        self.metrics.serving.set(serving as i64);
        let warm = |seat: &&Seat| matches!(seat, Seat::StandingBy { caught_up: true, .. });
        self.metrics.standing_by.set(seats.iter().filter(warm).count() as i64);
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// Says what this node has begun to own, and from time to time what it owns.
    fn announce(&mut self, seats: &[Seat]) {
        self.posted.resize(seats.len(), None);
        let now = Instant::now();
        let repeat = now >= self.repeat_due;
        if repeat {
            self.repeat_due = now + REPEAT_OWNERS;
        }
        for (index, seat) in seats.iter().enumerate() {
            let Seat::Serving { epoch } = *seat else {
                self.posted[index] = None;
                continue;
            };
            if self.posted[index] == Some(epoch) && !repeat {
                continue;
            }
            self.posted[index] = Some(epoch);
            let (node, address) = (self.settings.node.clone(), self.settings.address.clone());
            let partition = Partition(index as u16);
            let owner = Owner { epoch, node: node.clone(), address: address.clone() };
            self.routes.note(partition, owner);
            let posted = Posted { epoch, node, address };
            if let Ok(value) = serde_json::to_vec(&posted) {
                self.owners.post(&partition.to_string(), &value);
            }
        }
    }

    fn unready(&self, seats: &[Seat]) -> Option<String> {
        if self.shared.leaving.get() {
            return Some("the node is leaving the cluster".into());
        }
        if !self.view.is_whole() || !self.owners_whole {
            return Some("the cluster's notice boards are being read".into());
        }
        if self.view.find(&self.settings.node).is_none() {
            return Some("the cluster does not see this node".into());
        }
        let nobody = |partition: &u16| self.routes.owner(Partition(*partition)).is_none();
        let ownerless = (0..seats.len() as u16).filter(nobody).count();
        (ownerless > 0)
            .then(|| format!("{ownerless} of {} partitions have no owner yet", seats.len()))
    }

    /// Shows that this node lives, if it is due and the node is well.
    async fn beat(&mut self) {
        if Instant::now() < self.beat_due || !self.seats.healthy().await {
            return;
        }
        self.beat_due = Instant::now() + BEAT;
        let warm = warm(&self.seats.seats());
        let beat = Beat {
            node: self.settings.node.clone(),
            incarnation: self.incarnation,
            address: self.settings.address.clone(),
            state: standing(self.shared.leaving.get(), &self.follow, &warm),
            warm,
        };
        if let Ok(value) = serde_json::to_vec(&beat) {
            self.members.post(&self.settings.node, &value);
        }
    }
}
