//! One writer per user; actix stays inside this room.
//!
//! [`Users`] is the only door: execute a command on one user, or ask about some. Answers speak of
//! durable facts only.

mod again;
mod checkpoint;
pub mod elsewhere;
mod gathering;
mod incoming;
mod known;
mod lease;
mod ledger;
mod ownership;
mod partition;
mod questions;
mod recovery;
mod registry;
mod repeat;
mod seats;
mod snapshot;
mod standby;
#[cfg(test)]
mod tests;
mod turns;
mod user;
mod view;
mod waiting;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Arbiter, Handler, Message};
use futures_util::future::join_all;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock::Clock;
use crate::domain::{AppId, CallKey, Command, Policy, Rejection, UserKey};
use crate::journal::{Archive, Journal, Offset, Origin, Partition, partition_of};
use crate::store::Store;
pub use elsewhere::{Alone, CursorsSeen, Elsewhere, Message as PairMessage, Question, Reply};
use incoming::Incoming;
use known::Known;
use lease::keep_leases;
use ledger::Outgoing;
use partition::{
    Answered, Ask, BeginCursor, Claim, Effects, Execute, Leave, LoadCursors, Look, PartitionActor,
    Standings,
};
pub use recovery::{Recovered, RecoveryError, recover};
pub use seats::Seat;
use seats::Seats;
use snapshot::{Schedule, Sweeper};
use standby::Standby;
use turns::Turns;
use user::Applied;
pub use view::{
    BlocklistPage, FriendRecord, FriendsPage, GroupSeen, Groups, RequestSeen, RequestsPage, View,
    Viewed,
};
use waiting::ReplyBy;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// One outcome per item, in request order; one for a command without a list.
    pub outcomes: Vec<Result<(), ItemError>>,
    /// Where the user's own record stands, if anything changed.
    pub position: Option<(Partition, Offset)>,
    /// `MsgTime` of an equal message that was sent shortly before, if this one is a repetition of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u32>,
}

/// Why one item of a batch is not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemError {
    /// Refused by rule, by the user or by the peer.
    Rejected(Rejection),
    /// The fact is durable, but the peer's side did not answer in time: it is owed, and repeating
    /// the call waits for it. Code 30007.
    Owed,
}

/// Why a call as a whole has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ExecuteError {
    /// Refused by rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A queue is full: nothing was recorded.
    #[error("too many calls are waiting")]
    Overloaded,
    /// No answer within the time limit; the command may or may not be recorded.
    #[error("no answer in time")]
    TimedOut,
    /// The journal cannot be written or the partition is not served at present: nothing that this
    /// answer could speak of is durable.
    #[error("the journal cannot be written")]
    Unavailable,
    /// This node does not own the user's partition, or not yet, and nothing was done.
    #[error("the user's partition is not owned here")]
    Elsewhere,
    /// The owner lost the partition, or its connection, before it could tell what became of the
    /// command. Asking again with the same origin does it once.
    #[error("the owner of the user's partition changed meanwhile")]
    Interrupted,
}

/// What one user keeps about another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The owner's account exists.
    pub owner_imported: bool,
    /// The peer is on the owner's blocklist.
    pub blocks: bool,
    /// The peer is in the owner's friend list.
    pub has_friend: bool,
}

/// How often a starting node looks whether its partitions are claimed.
const READY_POLL: Duration = Duration::from_millis(2);

/// How long a question whose owner is not found waits before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Partitions that are recovered at the same time: each reads from the journal.
const RECOVERIES_MAX: usize = 4;

/// What the room needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that partitions share.
    pub arbiters: usize,
    /// Resident actors per partition at most.
    pub residents_max: usize,
    /// Bytes that the resident actors of a partition take at most, about.
    pub resident_bytes_max: usize,
    /// How long an actor stays without being used.
    pub idle_max: Duration,
    /// Messages that wait for one user at most.
    pub mailbox_max: usize,
    /// Messages that wait for one partition at most.
    pub partition_mailbox_max: usize,
    /// Records of a partition in flight at most.
    pub in_flight_max: usize,
    /// Bytes of a partition in flight at most; all partitions together stay under what the journal
    /// takes.
    pub in_flight_bytes_max: usize,
    /// Effects that a partition owes to others before it refuses commands.
    pub outbox_max: usize,
    /// How long a request waits for the other side.
    pub time_limit: Duration,
    /// Time between two checkpoints of a partition at most, while it changes.
    pub checkpoint_interval: Duration,
    /// Records between two checkpoints of a partition at most.
    pub checkpoint_records: u64,
    /// Accounts whose existence is remembered, over all partitions.
    pub accounts_max: usize,
    /// Records after which a partition's owner writes a snapshot; 0 for never.
    pub snapshot_records: u64,
    /// Time after which it does, if anything changed.
    pub snapshot_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiters: 1,
            residents_max: 12_500,
            resident_bytes_max: 32 << 20,
            idle_max: Duration::from_secs(300),
            mailbox_max: 1024,
            partition_mailbox_max: 10_000,
            in_flight_max: 20_000,
            in_flight_bytes_max: 2 << 20,
            outbox_max: 200_000,
            time_limit: Duration::from_secs(3),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_records: 10_000,
            accounts_max: 1_000_000,
            snapshot_records: 1_000_000,
            snapshot_interval: Duration::from_secs(86_400),
        }
    }
}

/// What the actors tell the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// User actors that live now.
    pub resident: Gauge,
    /// What they take in memory, about: what the bound on it counts.
    pub resident_bytes: Gauge,
    /// User actors started.
    pub started: Counter,
    /// User actors retired.
    pub retired: Counter,
    /// Claims that took effect.
    pub claims: Counter,
    /// Times a partition had to read from the journal what became of it.
    pub doubts: Counter,
    /// Times another owner was found to have claimed a partition.
    pub fenced: Counter,
    /// Records of others found behind this owner's own, that count for nobody.
    pub void: Counter,
    /// Effects that their destinations have not acknowledged.
    pub owed: Gauge,
    /// Questions and commands put off because the journal had not confirmed the owner in time.
    pub lease_refusals: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_users_resident", "User actors alive", self.resident.clone());
        registry.register(
            "cordon_users_resident_bytes",
            "Memory that the user actors alive take, about",
            self.resident_bytes.clone(),
        );
        registry.register("cordon_users_started", "User actors started", self.started.clone());
        registry.register("cordon_users_retired", "User actors retired", self.retired.clone());
        registry.register(
            "cordon_partition_doubts",
            "Times a partition read from the journal what became of it",
            self.doubts.clone(),
        );
        registry.register(
            "cordon_partition_claims",
            "Claims that took effect",
            self.claims.clone(),
        );
        registry.register(
            "cordon_partition_fenced",
            "Times another owner was found to have claimed a partition",
            self.fenced.clone(),
        );
        registry.register(
            "cordon_records_void",
            "Records of others behind an owner's own, that count for nobody",
            self.void.clone(),
        );
        registry.register(
            "cordon_effects_owed",
            "Effects on other users that their side has not acknowledged",
            self.owed.clone(),
        );
        registry.register(
            "cordon_lease_refusals",
            "Questions and commands put off because the owner was not confirmed in time",
            self.lease_refusals.clone(),
        );
    }
}

/// Which apps have which rules.
pub type Policies = HashMap<AppId, Policy>;

/// What all actors of a partition share.
pub(crate) struct Context {
    pub(crate) node: String,
    pub(crate) partitions: u16,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) policies: Arc<Policies>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    /// Whose cursors each partition keeps.
    pub(crate) followers: Arc<[String]>,
    /// Nobody else can own a partition while this process runs.
    alone: bool,
    known: Arc<Known>,
    seats: Arc<Seats>,
    standby: Option<Standby>,
    archive: Option<Arc<dyn Archive>>,
    /// Recoveries that may run at the same time.
    recoveries: Arc<Semaphore>,
    elsewhere: Arc<dyn Elsewhere>,
    directory: Arc<Directory>,
    turns: Turns,
    /// What the partitions of this thread take, by partition.
    neighbours: RefCell<Vec<Weak<Incoming>>>,
}

type Directory = Vec<OnceLock<Addr<PartitionActor>>>;

fn addr(directory: &Directory, partition: Partition) -> Option<&Addr<PartitionActor>> {
    directory.get(usize::from(partition.0)).and_then(OnceLock::get)
}

impl Context {
    /// The rules of `app`; those of a new app if it has left the settings.
    fn policy(&self, app: AppId) -> &Policy {
        static DEFAULT: LazyLock<Policy> = LazyLock::new(Policy::default);
        self.policies.get(&app).unwrap_or_else(|| &DEFAULT)
    }

    /// Why a partition takes nothing that it does not own.
    fn not_here(&self) -> ExecuteError {
        if self.alone { ExecuteError::Unavailable } else { ExecuteError::Elsewhere }
    }

    /// What those hear who wait when certainty about a partition is lost.
    fn interrupted(&self) -> ExecuteError {
        if self.alone { ExecuteError::Unavailable } else { ExecuteError::Interrupted }
    }

    /// Lets the partitions of this thread find `incoming`, that of `partition`.
    fn settle_in(&self, partition: Partition, incoming: &Rc<Incoming>) {
        let mut neighbours = self.neighbours.borrow_mut();
        neighbours.resize(usize::from(self.partitions), Weak::new());
        neighbours[usize::from(partition.0)] = Rc::downgrade(incoming);
    }

    fn neighbour(&self, partition: Partition) -> Option<Rc<Incoming>> {
        self.neighbours.borrow().get(usize::from(partition.0))?.upgrade()
    }

    /// A user of `home` has answered effects of `source` up to `seq`.
    fn applied(&self, home: Partition, source: Partition, seq: u64, applied: Applied) {
        if let Some(incoming) = self.neighbour(home) {
            incoming.applied(source, seq, applied);
        }
    }

    /// Sends what one partition has for others. What does not arrive is sent again later.
    fn send_all(&self, from: Partition, outgoing: Vec<Outgoing>) {
        for message in outgoing {
            let (Outgoing::Effects { to, .. } | Outgoing::Answer { to, .. }) = message;
            let is_here = self.alone || matches!(self.seats.get(to), Seat::Serving { .. });
            if is_here && let Some(neighbour) = self.neighbour(to) {
                neighbour.take_in(from, message);
                continue;
            }
            let message = match message {
                Outgoing::Effects { to, prev, effects } => {
                    PairMessage::Effects { source: from, destination: to, prev, effects }
                }
                Outgoing::Answer { to, answer } => {
                    PairMessage::Answered { source: to, destination: from, answer }
                }
            };
            if is_here {
                deliver(&self.directory, message);
            } else {
                self.elsewhere.send(message);
            }
        }
    }
}

/// Hands a message over to a partition of this node.
fn deliver(directory: &Directory, message: PairMessage) {
    let to = message.to();
    let Some(addr) = addr(directory, to) else { return };
    let sent = match message {
        PairMessage::Effects { source, prev, effects, .. } => {
            addr.try_send(Effects { source, prev, effects }).map_err(|error| error.to_string())
        }
        PairMessage::Answered { destination, answer, .. } => {
            addr.try_send(Answered { destination, answer }).map_err(|error| error.to_string())
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, journal.partition = %to, "a message between partitions waits");
    }
}

/// What [`Users::start`] is given.
pub struct Parts {
    /// The node's name, written into claims.
    pub node: String,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The state store.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// The rules of each app.
    pub policies: Policies,
    /// The room's settings.
    pub settings: Settings,
    /// Where the actors count.
    pub metrics: Metrics,
    /// Who follows every partition from the first moment on, by the names of their cursors.
    pub followers: Vec<String>,
    /// The other nodes.
    pub elsewhere: Arc<dyn Elsewhere>,
    /// Where snapshots are kept, if anywhere.
    pub archive: Option<Arc<dyn Archive>>,
}

/// Why the room cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A partition's state cannot be rebuilt.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A thread cannot be started.
    #[error("a thread of the actors cannot be started")]
    Thread(#[from] std::io::Error),
}

/// The door to all users, on whatever arbiter or node they live. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    directory: Arc<Directory>,
    known: Arc<Known>,
    seats: Arc<Seats>,
    standby: Option<Standby>,
    elsewhere: Arc<dyn Elsewhere>,
    alone: bool,
    time_limit: Duration,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Default)]
struct Threads {
    arbiters: Vec<Arbiter>,
    others: Vec<JoinHandle<()>>,
    sweeper: Option<Sweeper>,
}

impl Users {
    /// Starts the actors of every partition.
    ///
    /// Where nobody else can write the journal, they bring the state store up to its end and claim
    /// all partitions: see [`Users::ready`]. Otherwise no partition is owned before
    /// [`Users::claim`]. Errors: [`StartError`].
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let partitions = parts.journal.partitions();
        let all: Vec<Partition> = (0..partitions).map(Partition).collect();
        let lease = parts.journal.lease();
        let alone = lease.is_none();
        if alone {
            // In one pass over the journal; each partition then finds its checkpoint at the end.
            recover(&*parts.journal, None, parts.store.tables(), &all)?;
        }
        let seats = Arc::new(Seats::new(partitions));
        let directory: Arc<Directory> =
            Arc::new((0..partitions).map(|_| OnceLock::new()).collect());
        let mut threads = Threads::default();
        let standby = match lease {
            None => None,
            Some(lease) => {
                let (standby, thread) = Standby::start(
                    parts.journal.clone(),
                    parts.archive.clone(),
                    parts.store.clone(),
                    seats.clone(),
                    parts.settings.checkpoint_interval,
                )?;
                threads.others.push(thread);
                let (journal, directory) = (parts.journal.clone(), directory.clone());
                threads.others.push(keep_leases(journal, lease, seats.clone(), directory)?);
                Some(standby)
            }
        };
        let sweeper = match &parts.archive {
            None => None,
            Some(archive) => {
                let schedule = Schedule {
                    records: parts.settings.snapshot_records,
                    interval: parts.settings.snapshot_interval,
                };
                let (archive, store) = (archive.clone(), parts.store.clone());
                let (sweeper, thread) = Sweeper::start(archive, store, seats.clone(), schedule)?;
                threads.others.push(thread);
                Some(sweeper)
            }
        };
        threads.sweeper = sweeper;
        let known = Arc::new(Known::new(parts.settings.accounts_max, partitions));
        let policies = Arc::new(parts.policies);
        let followers: Arc<[String]> = parts.followers.into();
        let recoveries = Arc::new(Semaphore::new(RECOVERIES_MAX));
        threads.arbiters = (0..parts.settings.arbiters.max(1)).map(|_| Arbiter::new()).collect();
        for (place, arbiter) in threads.arbiters.iter().enumerate() {
            let (node, journal, store) =
                (parts.node.clone(), parts.journal.clone(), parts.store.clone());
            let (clock, settings) = (parts.clock.clone(), parts.settings.clone());
            let (policies, known) = (policies.clone(), known.clone());
            let (metrics, directory) = (parts.metrics.clone(), directory.clone());
            let followers = followers.clone();
            let (seats, standby) = (seats.clone(), standby.clone());
            let (recoveries, elsewhere) = (recoveries.clone(), parts.elsewhere.clone());
            let archive = parts.archive.clone();
            let arbiters = threads.arbiters.len();
            let (done, started) = std::sync::mpsc::channel();
            arbiter.spawn_fn(move || {
                let context = Rc::new(Context {
                    node,
                    partitions,
                    journal,
                    store,
                    clock,
                    policies,
                    settings,
                    metrics,
                    followers,
                    alone,
                    known,
                    seats,
                    standby,
                    archive,
                    recoveries,
                    elsewhere,
                    directory,
                    turns: Turns::default(),
                    neighbours: RefCell::default(),
                });
                for partition in (0..partitions).map(Partition).skip(place).step_by(arbiters) {
                    let addr = PartitionActor::new(context.clone(), partition).start();
                    // Each slot is filled once, here.
                    let _ = context.directory[usize::from(partition.0)].set(addr);
                }
                // Whoever starts the room waits for it.
                let _ = done.send(());
            });
            started.recv().map_err(std::io::Error::other)?;
        }
        let users = Self {
            directory,
            known,
            seats,
            standby,
            elsewhere: parts.elsewhere,
            alone,
            time_limit: parts.settings.time_limit,
            threads: Arc::new(Mutex::new(threads)),
        };
        if alone {
            (0..partitions).for_each(|partition| users.claim(Partition(partition)));
        }
        Ok(users)
    }

    /// A door behind which nobody is, for tests of what happens before it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn nobody() -> Self {
        Self {
            directory: Arc::new(vec![OnceLock::new()]),
            known: Arc::new(Known::new(1, 1)),
            seats: Arc::new(Seats::new(1)),
            standby: None,
            elsewhere: Arc::new(Alone),
            alone: true,
            time_limit: Duration::ZERO,
            threads: Arc::default(),
        }
    }

    fn partition(&self, key: &UserKey) -> Partition {
        partition_of(key, self.directory.len() as u16)
    }

    fn send<M>(&self, partition: Partition, message: M) -> Result<(), ExecuteError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        actix::Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        self.addr(partition)?.try_send(message).map_err(|error| match error {
            SendError::Full(_) => ExecuteError::Overloaded,
            SendError::Closed(_) if self.alone => ExecuteError::Unavailable,
            SendError::Closed(_) => ExecuteError::Elsewhere,
        })
    }

    /// Whether what is known without asking an actor counts. To be asked before looking: what is found
    /// then was true at this moment or later.
    fn may_know(&self, partition: Partition) -> bool {
        self.alone || self.seats.lease_holds(partition)
    }

    fn owns(&self, partition: Partition) -> bool {
        self.alone || matches!(self.seats.get(partition), Seat::Serving { .. })
    }

    /// Asks the owner of `partition`, wherever that is, until somebody has answered or the time limit
    /// has passed: owners change, and a question in between is asked again.
    async fn ask(&self, partition: Partition, question: Question) -> Result<Reply, ExecuteError> {
        if self.alone {
            return self.answer(partition, question, self.time_limit).await;
        }
        let deadline = Instant::now() + self.time_limit;
        let mut changes = self.seats.changes();
        loop {
            changes.borrow_and_update();
            let patience = deadline.saturating_duration_since(Instant::now());
            let answer = if self.owns(partition) {
                self.answer(partition, question.clone(), patience).await
            } else {
                self.elsewhere.ask(partition, question.clone(), patience).await
            };
            if !matches!(answer, Err(ExecuteError::Elsewhere | ExecuteError::Interrupted)) {
                return answer;
            }
            if Instant::now() + ASK_AGAIN >= deadline {
                return Err(ExecuteError::TimedOut);
            }
            // Whichever comes first: this node may just become the owner itself.
            let _ = tokio::time::timeout(ASK_AGAIN, changes.changed()).await;
        }
    }

    /// Answers as the owner of `partition`, for another node or for this one; `patience` long at
    /// most.
    ///
    /// Errors: [`ExecuteError::Elsewhere`] if this node does not own it.
    pub async fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        if !self.owns(partition) {
            return Err(ExecuteError::Elsewhere);
        }
        let lost = if self.alone { ExecuteError::Unavailable } else { ExecuteError::Interrupted };
        match question {
            Question::Execute { key, command, origin, call } => {
                let (reply, answer) = oneshot::channel();
                let deadline = Instant::now() + patience.min(self.time_limit);
                let reply = ReplyBy { reply, deadline };
                self.send(partition, Execute { key, command, origin, call, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Executed)
            }
            Question::Standings { app, pairs } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, Standings { app, pairs, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Standings)
            }
            Question::View { key, view } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, Look { key, view, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::View)
            }
            Question::BeginCursor { subscription } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, BeginCursor { subscription, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Cursors)
            }
            Question::Cursors { prefix } => {
                let addr = self.addr(partition)?;
                let cursors = addr.send(LoadCursors { prefix }).await.ok().flatten();
                cursors.map(Reply::Cursors).ok_or(lost)
            }
        }
    }

    /// Takes a message of another node's partition. Errors: [`ExecuteError::Elsewhere`] if this
    /// node does not own the partition that it goes to.
    pub fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError> {
        if !self.owns(message.to()) {
            return Err(ExecuteError::Elsewhere);
        }
        deliver(&self.directory, message);
        Ok(())
    }

    /// Executes `command` on the user `key` and waits until what the answer says is durable on both
    /// sides, or the time limit has passed.
    pub async fn execute(
        &self,
        key: UserKey,
        command: Command,
        origin: Origin,
    ) -> Result<Executed, ExecuteError> {
        self.execute_call(key, command, origin, None).await
    }

    /// The same for a call with a key of the caller's own: what it does is kept with the change, so
    /// that a repeat does it once.
    ///
    /// Errors: also [`Rejection::KeyReused`].
    pub async fn execute_call(
        &self,
        key: UserKey,
        command: Command,
        origin: Origin,
        call: Option<CallKey>,
    ) -> Result<Executed, ExecuteError> {
        let (command, origin) = (Arc::new(command), Arc::new(origin));
        let question = Question::Execute { key, command, origin, call };
        match self.ask(self.partition(&key), question).await? {
            Reply::Executed(executed) => Ok(executed),
            Reply::Standings(_) | Reply::View(_) | Reply::Cursors(_) => {
                Err(ExecuteError::Unavailable)
            }
        }
    }

    /// How many partitions the journal has.
    pub fn partitions(&self) -> u16 {
        self.directory.len() as u16
    }

    fn addr(&self, partition: Partition) -> Result<&Addr<PartitionActor>, ExecuteError> {
        addr(&self.directory, partition).ok_or(ExecuteError::Unavailable)
    }

    /// What this node has to do with each partition, in their order.
    pub fn seats(&self) -> Vec<Seat> {
        self.seats.all()
    }

    /// Changes whenever a seat does.
    pub fn seat_changes(&self) -> watch::Receiver<u64> {
        self.seats.changes()
    }

    /// Begins to own `partition`. What comes of it shows in [`Users::seats`]: it becomes vacant again
    /// if somebody else claims it.
    pub fn claim(&self, partition: Partition) {
        if let Ok(addr) = self.addr(partition) {
            self.seats.set(partition, Seat::Claiming);
            addr.do_send(Claim);
        }
    }

    /// Hands `partition` over in order; returns when its release is durable, or it was lost.
    pub async fn release(&self, partition: Partition) {
        let (reply, left) = oneshot::channel();
        if let Ok(addr) = self.addr(partition) {
            addr.do_send(Leave { reply });
            // An arbiter that is gone has nothing left to finish.
            let _ = left.await;
        }
    }

    /// Follows exactly `partitions` from now on, as far as they are not this node's own.
    pub fn stand_by(&self, mut partitions: BTreeSet<Partition>) {
        let Some(standby) = &self.standby else { return };
        partitions.retain(|partition| {
            matches!(self.seats.get(*partition), Seat::Vacant | Seat::StandingBy { .. })
        });
        standby.follow(partitions);
    }

    /// How many partitions take commands, of how many, and how many effects are owed.
    pub async fn health(&self) -> Health {
        let mut health = Health { serving: 0, partitions: self.directory.len(), owed: 0 };
        for slot in self.directory.iter() {
            if let Some(addr) = slot.get()
                && let Ok(answer) = addr.send(Ask).await
            {
                health.serving += usize::from(answer.serving);
                health.owed += answer.owed;
            }
        }
        health
    }

    /// Waits until every partition takes commands, `patience` long at most; answers how it stands.
    pub async fn ready(&self, patience: Duration) -> Health {
        let start = Instant::now();
        loop {
            let health = self.health().await;
            if health.serving == health.partitions || start.elapsed() >= patience {
                return health;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Leaves every partition in order: what is in flight is finished and released, and a checkpoint
    /// of everything is handed to the store. Afterwards nothing holds the journal or the store on this
    /// room's behalf.
    pub async fn stop(&self) {
        join_all(
            (0..self.directory.len() as u16).map(|partition| self.release(Partition(partition))),
        )
        .await;
        if let Some(standby) = &self.standby {
            standby.stop();
        }
        let Threads { arbiters, others, sweeper } = {
            let mut known = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *known)
        };
        self.seats.close();
        drop(sweeper);
        let ended = actix_web::rt::task::spawn_blocking(move || {
            for arbiter in arbiters {
                arbiter.stop();
                if arbiter.join().is_err() {
                    tracing::error!("a partition's thread has panicked");
                }
            }
            for thread in others {
                if thread.join().is_err() {
                    tracing::error!("a thread beside the partitions has panicked");
                }
            }
        });
        if ended.await.is_err() {
            tracing::error!("the partitions' threads were not waited for");
        }
    }
}

/// How the partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Partitions that take commands.
    pub serving: usize,
    /// All partitions of the node.
    pub partitions: usize,
    /// Effects that no destination has acknowledged yet.
    pub owed: usize,
}
