//! What the partitions of one thread share, and how they reach each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use actix::Addr;
use tokio::sync::Semaphore;

use super::elsewhere::{Elsewhere, Message as PairMessage};
use super::incoming::Incoming;
use super::known::Known;
use super::ledger::Outgoing;
use super::partition::{Answered, Effects, PartitionActor};
use super::recovery::Recovered;
use super::seats::{Seat, Seats};
use super::standby::Standby;
use super::turns::Turns;
use super::user::Applied;
use super::{ExecuteError, Metrics, Settings};
use crate::clock::Clock;
use crate::domain::{AppId, Policy};
use crate::journal::{Archive, Journal, Partition};
use crate::store::Store;

/// Which apps have which rules.
pub type Policies = HashMap<AppId, Policy>;

/// What the partitions of all threads share.
#[derive(Clone)]
pub(super) struct Commons {
    pub(super) node: String,
    pub(super) partitions: u16,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) policies: Arc<Policies>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    /// Whose cursors each partition keeps.
    pub(super) followers: Arc<[String]>,
    /// Nobody else can own a partition while this process runs.
    pub(super) alone: bool,
    pub(super) known: Arc<Known>,
    pub(super) seats: Arc<Seats>,
    pub(super) standby: Option<Standby>,
    pub(super) archive: Option<Arc<dyn Archive>>,
    /// What the start has recovered of each partition that it is alone with, until the first claim.
    pub(super) recovered: Arc<Mutex<BTreeMap<Partition, Recovered>>>,
    /// Recoveries that may run at the same time.
    pub(super) recoveries: Arc<Semaphore>,
    pub(super) elsewhere: Arc<dyn Elsewhere>,
    pub(super) directory: Arc<Directory>,
}

/// What the partitions of one thread share, with what all threads do.
pub(super) struct Context {
    commons: Commons,
    pub(super) turns: Turns,
    /// What the partitions of this thread take, by partition.
    neighbours: RefCell<Vec<Weak<Incoming>>>,
}

impl Deref for Context {
    type Target = Commons;

    fn deref(&self) -> &Commons {
        &self.commons
    }
}

/// The partitions' actors.
pub(super) type Directory = Vec<OnceLock<Addr<PartitionActor>>>;

pub(super) fn addr(directory: &Directory, partition: Partition) -> Option<&Addr<PartitionActor>> {
    directory.get(usize::from(partition.0)).and_then(OnceLock::get)
}

impl Context {
    pub(super) fn new(commons: Commons) -> Rc<Self> {
        Rc::new(Self { commons, turns: Turns::default(), neighbours: RefCell::default() })
    }

    /// The rules of `app`; those of a new app if it has left the settings.
    pub(super) fn policy(&self, app: AppId) -> &Policy {
        static DEFAULT: LazyLock<Policy> = LazyLock::new(Policy::default);
        self.policies.get(&app).unwrap_or_else(|| &DEFAULT)
    }

    /// Why a partition takes nothing that it does not own.
    pub(super) fn not_here(&self) -> ExecuteError {
        if self.alone { ExecuteError::Unavailable } else { ExecuteError::Elsewhere }
    }

    /// What those hear who wait when certainty about a partition is lost.
    pub(super) fn interrupted(&self) -> ExecuteError {
        if self.alone { ExecuteError::Unavailable } else { ExecuteError::Interrupted }
    }

    /// Lets the partitions of this thread find `incoming`, that of `partition`.
    pub(super) fn settle_in(&self, partition: Partition, incoming: &Rc<Incoming>) {
        let mut neighbours = self.neighbours.borrow_mut();
        neighbours.resize(usize::from(self.partitions), Weak::new());
        neighbours[usize::from(partition.0)] = Rc::downgrade(incoming);
    }

    /// What `partition` takes, if it lives on this thread.
    fn neighbour(&self, partition: Partition) -> Option<Rc<Incoming>> {
        self.neighbours.borrow().get(usize::from(partition.0))?.upgrade()
    }

    /// A user of `home` has answered effects of `source` up to `seq`.
    pub(super) fn applied(&self, home: Partition, source: Partition, seq: u64, applied: Applied) {
        if let Some(incoming) = self.neighbour(home) {
            incoming.applied(source, seq, applied);
        }
    }

    /// Sends what one partition has for others. What does not arrive is sent again later.
    pub(super) fn send_all(&self, from: Partition, outgoing: Vec<Outgoing>) {
        for message in outgoing {
            let is_here = self.alone
                || match message {
                    Outgoing::Effects { to, .. } => {
                        matches!(self.seats.get(to), Seat::Serving { .. })
                    }
                    Outgoing::Answer { to, .. } => self.seats.get(to).hears_answers(),
                };
            let (Outgoing::Effects { to, .. } | Outgoing::Answer { to, .. }) = message;
            if is_here && let Some(neighbour) = self.neighbour(to) {
                neighbour.take_in(from, message);
                continue;
            }
            let message = match message {
                Outgoing::Effects { to, prev, effects, losses } => {
                    PairMessage::Effects { source: from, destination: to, prev, effects, losses }
                }
                Outgoing::Answer { to, answer } => {
                    PairMessage::Answered { source: to, destination: from, answer }
                }
            };
            if is_here && addr(&self.directory, to).is_some() {
                deliver(&self.directory, message);
            } else {
                self.elsewhere.send(message);
            }
        }
    }
}

/// Hands a message over to a partition of this node.
pub(super) fn deliver(directory: &Directory, message: PairMessage) {
    let to = message.to();
    let Some(addr) = addr(directory, to) else { return };
    let sent = match message {
        PairMessage::Effects { source, prev, effects, losses, .. } => addr
            .try_send(Effects { source, prev, effects, losses })
            .map_err(|error| error.to_string()),
        PairMessage::Answered { destination, answer, .. } => {
            addr.try_send(Answered { destination, answer }).map_err(|error| error.to_string())
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, journal.partition = to.0, "a message between partitions waits");
    }
}
