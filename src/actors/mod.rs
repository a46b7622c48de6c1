//! One writer per user; actix stays inside this room.
//!
//! [`Users`] is the only door: execute a command on one user, or ask about some. Answers speak of
//! durable facts only.

mod checkpoint;
pub mod elsewhere;
mod incoming;
mod ledger;
mod ownership;
mod partition;
mod recovery;
mod registry;
#[cfg(test)]
mod tests;
mod user;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Arbiter, Handler, Message};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::{AppId, Block, Command, Policy, Rejection, UserId, UserKey};
use crate::journal::{Journal, Offset, Origin, Partition, partition_of};
use crate::store::{CursorMark, Store};
pub use elsewhere::{Elsewhere, Message as PairMessage, Question, Reply};
use ledger::Outgoing;
use partition::{
    Answered, Ask, Blocklist, Effects, Execute, Leave, LoadCursor, PartitionActor, SaveCursor,
    Standings,
};
pub use recovery::{Recovered, RecoveryError, recover};

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// One outcome per item, in request order; one for a command without a list.
    pub outcomes: Vec<Result<(), ItemError>>,
    /// Where the user's own record stands, if anything changed.
    pub position: Option<(Partition, Offset)>,
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

/// One page of a blocklist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocklistPage {
    /// The owner's account exists.
    pub imported: bool,
    /// The entries, oldest first.
    pub entries: Vec<Block>,
    /// How many entries the whole list has.
    pub total: usize,
    /// The list's sequence number.
    pub sequence: u32,
}

/// How often a starting node looks whether its partitions are claimed.
const READY_POLL: Duration = Duration::from_millis(2);

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiters: 1,
            residents_max: 12_500,
            resident_bytes_max: 32 << 20,
            idle_max: Duration::from_secs(300),
            mailbox_max: 64,
            partition_mailbox_max: 10_000,
            in_flight_max: 20_000,
            in_flight_bytes_max: 2 << 20,
            outbox_max: 200_000,
            time_limit: Duration::from_secs(3),
            checkpoint_interval: Duration::from_secs(1),
            checkpoint_records: 10_000,
            accounts_max: 1_000_000,
        }
    }
}

/// What the actors tell the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// User actors that live now.
    pub resident: Gauge,
    /// User actors started.
    pub started: Counter,
    /// User actors retired.
    pub retired: Counter,
    /// Times a partition had to read from the journal what became of it.
    pub doubts: Counter,
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cordon_users_resident", "User actors alive", self.resident.clone());
        registry.register("cordon_users_started", "User actors started", self.started.clone());
        registry.register("cordon_users_retired", "User actors retired", self.retired.clone());
        registry.register(
            "cordon_partition_doubts",
            "Times a partition read from the journal what became of it",
            self.doubts.clone(),
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
    pub(crate) accounts: Arc<Cache<UserKey, ()>>,
    pub(crate) metrics: Metrics,
    directory: Arc<Directory>,
}

type Directory = Vec<OnceLock<Addr<PartitionActor>>>;

impl Context {
    /// The rules of `app`; those of a new app if it has left the settings.
    fn policy(&self, app: AppId) -> &Policy {
        static DEFAULT: LazyLock<Policy> = LazyLock::new(Policy::default);
        self.policies.get(&app).unwrap_or_else(|| &DEFAULT)
    }

    /// Sends what one partition has for others. What does not arrive is sent again later.
    fn send_all(&self, from: Partition, outgoing: Vec<Outgoing>) {
        for message in outgoing {
            let to = match message {
                Outgoing::Effects { to, .. } | Outgoing::Answer { to, .. } => to,
            };
            let Some(addr) = self.directory.get(usize::from(to.0)).and_then(OnceLock::get) else {
                continue;
            };
            let sent = match message {
                Outgoing::Effects { prev, effects, .. } => addr
                    .try_send(Effects { source: from, prev, effects })
                    .map_err(|error| error.to_string()),
                Outgoing::Answer { answer, .. } => addr
                    .try_send(Answered { destination: from, answer })
                    .map_err(|error| error.to_string()),
            };
            if let Err(error) = sent {
                tracing::debug!(%error, journal.partition = %to, "a message between partitions waits");
            }
        }
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
}

/// The door to all users, on whatever arbiter they live. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    directory: Arc<Directory>,
    accounts: Arc<Cache<UserKey, ()>>,
    arbiters: Arc<Mutex<Vec<Arbiter>>>,
}

impl Users {
    /// Starts the actors of every partition, and brings the state store up to the journal's end.
    ///
    /// Errors: [`RecoveryError`]. Returns before the partitions are claimed: see [`Users::ready`].
    pub fn start(parts: Parts) -> Result<Self, RecoveryError> {
        let partitions = parts.journal.partitions();
        let all: Vec<Partition> = (0..partitions).map(Partition).collect();
        // In one pass over the journal; each partition then finds its checkpoint at the end.
        recover(&*parts.journal, parts.store.tables(), &all)?;
        let directory: Arc<Directory> =
            Arc::new((0..partitions).map(|_| OnceLock::new()).collect());
        let accounts = Arc::new(Cache::new(parts.settings.accounts_max));
        let policies = Arc::new(parts.policies);
        let arbiters: Vec<Arbiter> =
            (0..parts.settings.arbiters.max(1)).map(|_| Arbiter::new()).collect();
        for partition in all {
            let arbiter = &arbiters[usize::from(partition.0) % arbiters.len()];
            let (node, journal, store) =
                (parts.node.clone(), parts.journal.clone(), parts.store.clone());
            let (clock, settings) = (parts.clock.clone(), parts.settings.clone());
            let (policies, accounts) = (policies.clone(), accounts.clone());
            let (metrics, known) = (parts.metrics.clone(), directory.clone());
            let addr = PartitionActor::start_in_arbiter(&arbiter.handle(), move |_| {
                let context = Context {
                    node,
                    partitions,
                    journal,
                    store,
                    clock,
                    policies,
                    settings,
                    accounts,
                    metrics,
                    directory: known,
                };
                PartitionActor::new(Rc::new(context), partition)
            });
            // Each slot is filled once, here.
            let _ = directory[usize::from(partition.0)].set(addr);
        }
        Ok(Self { directory, accounts, arbiters: Arc::new(Mutex::new(arbiters)) })
    }

    /// A door behind which nobody is, for tests of what happens before it.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self {
            directory: Arc::default(),
            accounts: Arc::new(Cache::new(1)),
            arbiters: Arc::default(),
        }
    }

    fn partition(&self, key: &UserKey) -> usize {
        usize::from(partition_of(key, self.directory.len() as u16).0)
    }

    fn send<M>(&self, partition: usize, message: M) -> Result<(), ExecuteError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        actix::Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        let addr = self.directory[partition].get().ok_or(ExecuteError::Unavailable)?;
        addr.try_send(message).map_err(|error| match error {
            SendError::Full(_) => ExecuteError::Overloaded,
            SendError::Closed(_) => ExecuteError::Unavailable,
        })
    }

    /// Executes `command` on the user `key` and waits until what the answer says is durable on both
    /// sides, or the time limit has passed.
    pub async fn execute(
        &self,
        key: UserKey,
        command: Command,
        origin: Origin,
    ) -> Result<Executed, ExecuteError> {
        let (reply, answer) = oneshot::channel();
        let origin = Arc::new(origin);
        self.send(self.partition(&key), Execute { key, command, origin, reply })?;
        answer.await.unwrap_or(Err(ExecuteError::Unavailable))
    }

    /// Whether each of `users` is imported, in order.
    pub async fn imported(&self, app: AppId, users: &[UserId]) -> Result<Vec<bool>, ExecuteError> {
        let mut imported: Vec<bool> = users
            .iter()
            .map(|user| self.accounts.get(&UserKey { app, user: *user }).is_some())
            .collect();
        let unknown: Vec<usize> = (0..users.len()).filter(|index| !imported[*index]).collect();
        if unknown.is_empty() {
            return Ok(imported);
        }
        let pairs: Vec<(UserId, UserId)> =
            unknown.iter().map(|index| (users[*index], users[*index])).collect();
        for (index, standing) in unknown.into_iter().zip(self.standings(app, &pairs).await?) {
            imported[index] = standing.owner_imported;
        }
        Ok(imported)
    }

    /// What each pair's first user keeps about the second, in order.
    pub async fn standings(
        &self,
        app: AppId,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Standing>, ExecuteError> {
        let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, (owner, _)) in pairs.iter().enumerate() {
            let partition = self.partition(&UserKey { app, user: *owner });
            by_partition.entry(partition).or_default().push(index);
        }
        let mut answers = Vec::with_capacity(by_partition.len());
        for (partition, indexes) in by_partition {
            let (reply, answer) = oneshot::channel();
            let pairs = indexes.iter().map(|index| pairs[*index]).collect();
            self.send(partition, Standings { app, pairs, reply })?;
            answers.push((indexes, answer));
        }
        let mut standings = vec![Standing::default(); pairs.len()];
        for (indexes, answer) in answers {
            let answered = answer.await.unwrap_or(Err(ExecuteError::Unavailable))?;
            for (index, standing) in indexes.into_iter().zip(answered) {
                standings[index] = standing;
            }
        }
        Ok(standings)
    }

    /// A page of `key`'s blocklist: at most `max` entries from `start` on.
    pub async fn blocklist(
        &self,
        key: UserKey,
        start: usize,
        max: usize,
    ) -> Result<BlocklistPage, ExecuteError> {
        let (reply, answer) = oneshot::channel();
        self.send(self.partition(&key), Blocklist { key, start, max, reply })?;
        answer.await.unwrap_or(Err(ExecuteError::Unavailable))
    }

    /// Where the follower `subscription` stands in `partition` by its last durable cursor, and the
    /// end of what is durable there.
    pub async fn cursor(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<CursorMark>, CursorMark), ExecuteError> {
        let addr = self.addr(partition)?;
        let load = LoadCursor { subscription: subscription.to_owned() };
        addr.send(load).await.ok().flatten().ok_or(ExecuteError::Unavailable)
    }

    /// Makes durable where the follower `subscription` stands in `partition`.
    pub async fn save_cursor(
        &self,
        partition: Partition,
        subscription: &str,
        mark: CursorMark,
    ) -> Result<(), ExecuteError> {
        let (reply, answer) = oneshot::channel();
        let save = SaveCursor { subscription: subscription.to_owned(), mark, reply };
        self.send(usize::from(partition.0), save)?;
        answer.await.unwrap_or(Err(ExecuteError::Unavailable))
    }

    fn addr(&self, partition: Partition) -> Result<&Addr<PartitionActor>, ExecuteError> {
        let slot = self.directory.get(usize::from(partition.0));
        slot.and_then(OnceLock::get).ok_or(ExecuteError::Unavailable)
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
        let mut leaving = Vec::new();
        for slot in self.directory.iter() {
            let (reply, left) = oneshot::channel();
            if let Some(addr) = slot.get() {
                addr.do_send(Leave { reply });
                leaving.push(left);
            }
        }
        for left in leaving {
            // An arbiter that is gone has nothing left to finish.
            let _ = left.await;
        }
        let arbiters = {
            let mut known = self.arbiters.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *known)
        };
        let ended = actix_web::rt::task::spawn_blocking(move || {
            for arbiter in arbiters {
                arbiter.stop();
                if arbiter.join().is_err() {
                    tracing::error!("a partition's thread has panicked");
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
