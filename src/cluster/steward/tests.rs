//! The steward at work, over boards in memory, with seats that answer a moment later.

use std::future::ready;
use std::sync::{Mutex, PoisonError};

use actix_web::rt;
use tokio::sync::mpsc::{Sender, channel};

use super::*;
use crate::cluster::members::{Beat, NodeState};
use crate::journal::Epoch;

const PARTITIONS: u16 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A board in memory: all readers hear the same.
#[derive(Clone)]
struct Memory(Arc<Mutex<Posted>>);

struct Posted {
    notices: Vec<Notice>,
    readers: Vec<Sender<Notice>>,
}

impl Memory {
    fn new() -> Self {
        let (notices, readers) = (Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(Posted { notices, readers })))
    }

    fn open(&self) -> OpenBoard {
        let (reader, notices) = channel(10_000);
        let mut posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for notice in posted.notices.iter().chain([&Notice::CaughtUp]) {
            reader.try_send(notice.clone()).expect("there is room");
        }
        posted.readers.push(reader);
        (Arc::new(self.clone()), notices)
    }

    /// Nobody hears anything any more.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).readers.clear();
    }

    fn beats(&self) -> Vec<Beat> {
        let posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = |notice: &Notice| match notice {
            Notice::Posted { value, .. } => serde_json::from_slice(value).ok(),
            Notice::CaughtUp => None,
        };
        posted.notices.iter().filter_map(beat).collect()
    }
}

impl Board for Memory {
    fn post(&self, key: &str, value: &[u8]) {
        let mut posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = Notice::Posted { key: key.into(), value: value.to_vec() };
        posted.readers.retain(|reader| reader.try_send(notice.clone()).is_ok());
        posted.notices.push(notice);
    }
}

/// The journal, as far as nodes find out by it who owns what.
type Epochs = Rc<RefCell<Vec<u64>>>;

#[derive(Clone)]
struct Desk {
    seats: Rc<RefCell<Vec<Seat>>>,
    changes: Rc<watch::Sender<u64>>,
    epochs: Epochs,
    well: Rc<Cell<bool>>,
    asked: Rc<Cell<usize>>,
}

impl Desk {
    fn new(epochs: &Epochs) -> Self {
        Self {
            seats: Rc::new(RefCell::new(vec![Seat::Vacant; usize::from(PARTITIONS)])),
            changes: Rc::new(watch::channel(0).0),
            epochs: epochs.clone(),
            well: Rc::new(Cell::new(true)),
            asked: Rc::new(Cell::new(0)),
        }
    }

    fn set(&self, partition: Partition, seat: Seat) {
        self.seats.borrow_mut()[usize::from(partition.0)] = seat;
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn serving(&self) -> usize {
        self.seats.borrow().iter().filter(|seat| matches!(seat, Seat::Serving { .. })).count()
    }
}

impl Seats for Desk {
    fn seats(&self) -> Vec<Seat> {
        self.seats.borrow().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn claim(&self, partition: Partition) {
        self.set(partition, Seat::Claiming);
        let desk = self.clone();
        rt::spawn(async move {
            let epoch = &mut desk.epochs.borrow_mut()[usize::from(partition.0)];
            *epoch += 1;
            desk.set(partition, Seat::Serving { epoch: Epoch(*epoch), cramped: false });
        });
    }

    fn release(&self, partition: Partition) {
        self.set(partition, Seat::Leaving);
        let desk = self.clone();
        rt::spawn(async move { desk.set(partition, Seat::Vacant) });
    }

    fn stand_by(&self, partitions: BTreeSet<Partition>) {
        for partition in partitions {
            let seat = self.seats.borrow()[usize::from(partition.0)];
            if seat == Seat::Vacant {
                // Whoever follows at once is there when the release comes.
                self.set(partition, Seat::StandingBy { caught_up: true, released: false });
            }
        }
    }

    fn healthy(&self) -> impl Future<Output = bool> {
        self.asked.set(self.asked.get() + 1);
        ready(self.well.get())
    }
}

struct Cluster {
    members: Memory,
    owners: Memory,
    epochs: Epochs,
}

struct Node {
    desk: Desk,
    routes: Arc<Routes>,
    metrics: Metrics,
    steward: Handle,
}

impl Cluster {
    fn new() -> Self {
        let epochs = Rc::new(RefCell::new(vec![0; usize::from(PARTITIONS)]));
        Self { members: Memory::new(), owners: Memory::new(), epochs }
    }

    fn start(&self, node: &str) -> Node {
        let settings = Settings {
            node: node.into(),
            address: format!("{node}:7000"),
            dead_after: PATIENCE,
            standby: StandbyMode::One,
        };
        let (desk, metrics) = (Desk::new(&self.epochs), Metrics::default());
        let routes = Arc::new(Routes::new(PARTITIONS));
        let (members, owners) = (self.members.open(), self.owners.open());
        let steward =
            start(settings, members, owners, routes.clone(), desk.clone(), metrics.clone());
        Node { desk, routes, metrics, steward }
    }
}

impl Node {
    /// Waits until `what` is true at the end of a look.
    async fn until(&mut self, what: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !what(self) {
            let looked = tokio::time::timeout_at(deadline, self.steward.looks.changed()).await;
            looked.expect("in time").expect("the steward goes on");
        }
    }

    fn is_ready(&self) -> bool {
        self.steward.readiness()().is_ok()
    }

    fn owners(&self) -> Vec<Option<String>> {
        let owner = |name| self.routes.owner(Partition(name)).map(|owner| owner.node);
        (0..PARTITIONS).map(owner).collect()
    }
}

#[actix_web::test]
async fn a_node_that_is_alone_takes_everything_and_says_so() {
    let cluster = Cluster::new();
    let mut node = cluster.start("a");
    assert!(!node.is_ready());
    node.until(|node| node.desk.serving() == 4 && node.is_ready()).await;
    assert_eq!(node.owners(), vec![Some("a".to_owned()); 4]);
    assert_eq!((node.metrics.claims.get(), node.metrics.mismatches.get()), (4, 0));
    assert_eq!((node.metrics.alive.get(), node.metrics.serving.get()), (1, 4));
    node.steward.stop().await;
}

#[actix_web::test]
async fn a_node_that_leaves_hands_over_to_the_other_and_is_done() {
    let cluster = Cluster::new();
    let mut first = cluster.start("a");
    first.until(Node::is_ready).await;
    let mut second = cluster.start("b");
    second.until(Node::is_ready).await;
    first.steward.leave(PATIENCE).await;
    assert_eq!(first.desk.serving(), 0);
    assert!(!first.is_ready());
    let farewell = cluster.members.beats().into_iter().rfind(|beat| beat.node == "a");
    let farewell = farewell.expect("it has beaten");
    assert_eq!((farewell.state, farewell.warm), (NodeState::Leaving, BTreeSet::new()));
    first.steward.stop().await;
    second.until(|node| node.desk.serving() == 4).await;
    second.until(|node| node.owners() == vec![Some("b".to_owned()); 4]).await;
    assert_eq!(*cluster.epochs.borrow(), [2; 4], "no claim but those of the hand-over");
    second.steward.stop().await;
}

#[actix_web::test]
async fn a_node_that_is_not_well_stops_beating() {
    let cluster = Cluster::new();
    let mut node = cluster.start("a");
    node.until(|_| !cluster.members.beats().is_empty()).await;
    node.desk.well.set(false);
    let (beats, asked) = (cluster.members.beats().len(), node.desk.asked.get());
    node.until(|node| node.desk.asked.get() >= asked + 3).await;
    assert_eq!(cluster.members.beats().len(), beats);
    node.desk.well.set(true);
    node.until(|_| cluster.members.beats().len() > beats).await;
    node.steward.stop().await;
}

#[actix_web::test]
async fn a_node_that_is_told_nothing_any_more_neither_beats_nor_takes_part() {
    let cluster = Cluster::new();
    let mut node = cluster.start("a");
    node.until(Node::is_ready).await;
    cluster.owners.close();
    node.until(|node| !node.is_ready()).await;
    let beats = cluster.members.beats().len();
    // It still looks, and still leaves.
    node.steward.leave(Duration::from_millis(10)).await;
    node.until(|node| node.desk.serving() == 0).await;
    assert_eq!(cluster.members.beats().len(), beats);
    node.steward.stop().await;
}
