//! Finds, starts and retires the user actors of one partition.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use foldhash::fast::RandomState;
use prometheus_client::metrics::gauge::Gauge;

use super::ExecuteError;
use super::ledger::Ledger;
use super::run::Run;
use super::user::{Apply, UserActor};
use crate::domain::{AppId, User, UserKey};
use crate::store::StoreError;
use crate::store::rows::RowHash;

/// What an actor takes beside its user: context, mailbox, registry entry. Measured, and held against
/// what users really take, by `cargo bench --bench users`.
const ACTOR_BYTES: usize = 1120;
/// Residents looked at in one sweep: bounds a sweep's share of the arbiter.
const SWEEP_MAX: usize = 100;
/// The same when an actor is started and there are too many.
const SWEEP_AT_START_MAX: usize = 16;

/// What the registry knows of a resident actor.
pub(super) struct Residence {
    pub(super) key: UserKey,
    /// The way to the actor, until it is retired: an actor ends when there is no way to it any more, and
    /// it holds its residence itself.
    addr: RefCell<Option<Addr<UserActor>>>,
    /// Messages on their way to it, and commands among them.
    pending: Cell<u32>,
    commands: Cell<u32>,
    /// When it was used last, in seconds since the registry's beginning.
    used: Cell<u32>,
    changed: Cell<u64>,
    bytes: Cell<usize>,
    total: Rc<Total>,
}

/// What the actors of a partition take in memory, about.
struct Total {
    bytes: Cell<usize>,
    /// The same over all partitions.
    gauge: Gauge,
}

impl Total {
    fn change(&self, before: usize, now: usize) {
        self.bytes.set(self.bytes.get() + now - before);
        self.gauge.inc_by(now as i64 - before as i64);
    }
}

impl Drop for Residence {
    fn drop(&mut self) {
        self.total.change(self.bytes.get(), 0);
    }
}

impl Residence {
    fn new(key: UserKey, used: u32, total: Rc<Total>) -> Rc<Self> {
        Rc::new(Self {
            key,
            addr: RefCell::default(),
            pending: Cell::new(0),
            commands: Cell::new(0),
            used: Cell::new(used),
            changed: Cell::new(0),
            bytes: Cell::new(0),
            total,
        })
    }

    fn addr(&self) -> Option<Addr<UserActor>> {
        self.addr.borrow().clone()
    }

    /// Nobody finds the actor any more: it ends once it has nothing left to do.
    fn retire(&self) {
        self.addr.take();
    }

    /// A message is on its way to the actor.
    fn expect(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    /// A message has reached the actor, or will not.
    pub(super) fn arrived(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
    }

    /// A command has reached the actor.
    pub(super) fn command_arrived(&self) {
        self.arrived();
        self.commands.set(self.commands.get().saturating_sub(1));
    }

    /// The actor appended record `n`.
    pub(super) fn note_change(&self, n: u64, user: &User) {
        self.changed.set(n);
        self.measure(user);
    }

    pub(super) fn measure(&self, user: &User) {
        let bytes = ACTOR_BYTES + user.heap_bytes();
        self.total.change(self.bytes.replace(bytes), bytes);
    }

    /// The last record that the actor appended in this epoch, 0 if none.
    pub(super) fn changed(&self) -> u64 {
        self.changed.get()
    }
}

/// A residence, to be found by whose it is.
struct Resident(Rc<Residence>);

impl std::borrow::Borrow<UserKey> for Resident {
    fn borrow(&self) -> &UserKey {
        &self.0.key
    }
}

impl Hash for Resident {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for Resident {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Resident {}

/// The resident actors of one partition.
pub(super) struct Registry {
    ledger: Rc<Ledger>,
    residents: RefCell<HashSet<Resident, RandomState>>,
    /// The same, in the order in which sweeps look at them.
    ring: RefCell<Vec<Rc<Residence>>>,
    hand: Cell<usize>,
    saved: Cell<u64>,
    /// An actor that is one too many stays, because its last record is in no checkpoint.
    cramped: Cell<bool>,
    total: Rc<Total>,
    began: Instant,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ring.borrow().iter().for_each(|residence| residence.retire());
    }
}

impl Registry {
    pub(super) fn new(ledger: Rc<Ledger>) -> Rc<Self> {
        let gauge = ledger.context.metrics.resident_bytes.clone();
        Rc::new(Self {
            ledger,
            residents: RefCell::default(),
            ring: RefCell::default(),
            hand: Cell::new(0),
            saved: Cell::new(0),
            cramped: Cell::new(false),
            total: Rc::new(Total { bytes: Cell::new(0), gauge }),
            began: Instant::now(),
        })
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }

    /// Whether `key` has an actor.
    pub(super) fn is_resident(&self, key: &UserKey) -> bool {
        self.residents.borrow().contains(key)
    }

    /// How many actors there are.
    pub(super) fn len(&self) -> usize {
        self.residents.borrow().len()
    }

    /// The actor of `key`, started if need be, with one more message on its way to it: from here on
    /// no sweep retires it, also not the one that makes room for it. Retired with a message on its
    /// way it would record what the next actor of the same user knows nothing of.
    fn resident(&self, key: UserKey) -> Result<Rc<Residence>, StoreError> {
        if let Some(residence) = self.known(&key) {
            return Ok(residence);
        }
        let tables = self.ledger.context.store.tables();
        let (user, head) = tables.user(self.ledger.partition, &key)?;
        Ok(self.start(key, user, head, 0))
    }

    /// The actor of `key`, if there is one, with one more message on its way to it.
    fn known(&self, key: &UserKey) -> Option<Rc<Residence>> {
        let residents = self.residents.borrow();
        let Resident(residence) = residents.get(key)?;
        residence.used.set(self.now());
        residence.expect();
        Some(residence.clone())
    }

    /// Hands a question to the actor of `key`; without an actor the question comes back. It waits in the
    /// mailbox whatever its limit: who asks, and how much, is bounded at the partition's door.
    pub(super) fn tell_resident<M>(&self, key: &UserKey, message: M) -> Result<(), M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        UserActor: Handler<M>,
        Context<UserActor>: ToEnvelope<UserActor, M>,
    {
        let Some(residence) = self.known(key) else { return Err(message) };
        let addr = residence.addr.borrow();
        match &*addr {
            Some(addr) => addr.do_send(message),
            None => return Err(message),
        }
        Ok(())
    }

    /// Makes the users resident whose rows the store lacks. All other residents are dropped.
    pub(super) fn adopt(&self, users: HashMap<UserKey, (User, RowHash)>) {
        self.clear();
        for (key, (user, head)) in users {
            // As if its first record of this epoch were in no checkpoint: it stays until one is written.
            self.start(key, user, head, 1).arrived();
        }
    }

    /// Starts an actor, with one message on its way to it.
    fn start(&self, key: UserKey, user: User, head: RowHash, changed: u64) -> Rc<Residence> {
        let context = &self.ledger.context;
        let residence = Residence::new(key, self.now(), self.total.clone());
        residence.expect();
        residence.changed.set(changed);
        let actor = UserActor::new(self.ledger.clone(), residence.clone(), user, head);
        residence.addr.replace(Some(actor.start()));
        self.residents.borrow_mut().insert(Resident(residence.clone()));
        self.ring.borrow_mut().push(residence.clone());
        context.metrics.started.inc();
        context.metrics.resident.inc();
        let limits = &context.settings;
        if self.len() > limits.residents_max || self.total.bytes.get() > limits.resident_bytes_max {
            self.sweep(limits.idle_max, SWEEP_AT_START_MAX);
        }
        residence
    }

    pub(super) fn store_failed(&self, error: &StoreError) {
        tracing::error!(
            %error,
            journal.partition = self.ledger.partition.0,
            "the state store cannot be read: rebuilding the rows from the journal"
        );
        self.ledger.rebuild.set(true);
        self.ledger.lost.notify_one();
    }

    /// Hands a command to the actor of `key`, starting it if need be. Errors: `Overloaded` when as many
    /// as may wait are on their way to it; the command comes back.
    #[expect(clippy::result_large_err, reason = "a box would cost each command an allocation")]
    pub(super) fn send(&self, key: UserKey, run: Run) -> Result<(), (ExecuteError, Run)> {
        let residence = match self.resident(key) {
            Ok(residence) => residence,
            Err(error) => {
                self.store_failed(&error);
                return Err((ExecuteError::Unavailable, run));
            }
        };
        // actix bounds the messages of each sender, and would let every clone of an address send one.
        if residence.commands.get() as usize >= self.ledger.context.settings.mailbox_max {
            residence.arrived();
            return Err((ExecuteError::Overloaded, run));
        }
        let addr = residence.addr.borrow();
        let Some(addr) = &*addr else { return Err((ExecuteError::Unavailable, run)) };
        residence.commands.set(residence.commands.get() + 1);
        addr.do_send(run);
        Ok(())
    }

    /// Tells the actor of `key` of effects, starting it if need be. If the store fails it is not told, and
    /// the partition is read anew.
    pub(super) fn tell(&self, key: UserKey, apply: Apply) -> bool {
        match self.resident(key) {
            Ok(residence) => residence.addr.borrow().as_ref().is_some_and(|addr| {
                addr.do_send(apply);
                true
            }),
            Err(error) => {
                self.store_failed(&error);
                false
            }
        }
    }

    /// Asks the actor of `key`. Nothing if it is gone meanwhile.
    pub(super) async fn ask<M>(&self, key: UserKey, message: M) -> Option<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        UserActor: Handler<M>,
        Context<UserActor>: ToEnvelope<UserActor, M>,
    {
        let residence = match self.resident(key) {
            Ok(residence) => residence,
            Err(error) => {
                self.store_failed(&error);
                return None;
            }
        };
        residence.addr()?.send(message).await.ok()
    }

    /// A checkpoint holds every record up to `n`.
    pub(super) fn note_saved(&self, n: u64) {
        self.saved.set(n);
        self.cramped.set(false);
    }

    /// The users of `app` whose last record is in no checkpoint.
    pub(super) fn unsaved(&self, app: AppId) -> Vec<UserKey> {
        let ring = self.ring.borrow();
        let unsaved = ring.iter().filter(|known| known.changed() > self.saved.get());
        unsaved.map(|known| known.key).filter(|key| key.app == app).collect()
    }

    /// Whether a checkpoint is wanted before its time, because more actors than there may be wait for it.
    pub(super) fn is_cramped(&self) -> bool {
        self.cramped.get()
    }

    /// Drops all actors: their state may not be the journal's.
    pub(super) fn clear(&self) {
        let count = self.len();
        self.residents.take();
        self.ring.take().iter().for_each(|residence| residence.retire());
        self.hand.set(0);
        self.saved.set(0);
        self.ledger.context.metrics.resident.dec_by(count as i64);
    }

    /// Retires actors that nobody used for `idle_max`, and more of them while there are too many or
    /// they take too much memory; looks at `looks` of them at most. An actor stays while a message is
    /// on its way to it or a record of its is in no checkpoint.
    pub(super) fn sweep(&self, idle_max: Duration, looks: usize) {
        let settings = &self.ledger.context.settings;
        let now = self.now();
        let mut residents = self.residents.borrow_mut();
        let mut ring = self.ring.borrow_mut();
        for _ in 0..looks.min(ring.len()) {
            let index = self.hand.get() % ring.len().max(1);
            let Some(residence) = ring.get(index) else { break };
            self.hand.set(index + 1);
            let idle = Duration::from_secs(now.saturating_sub(residence.used.get()).into());
            let crowded = residents.len() > settings.residents_max
                || self.total.bytes.get() > settings.resident_bytes_max;
            let saved = residence.changed() <= self.saved.get();
            if crowded && !saved {
                self.cramped.set(true);
            }
            let free = residence.pending.get() == 0 && saved;
            if free && (idle >= idle_max || crowded) {
                residents.remove(&residence.key);
                residence.retire();
                ring.swap_remove(index);
                self.hand.set(index);
                let metrics = &self.ledger.context.metrics;
                metrics.retired.inc();
                metrics.resident.dec();
            }
        }
    }

    /// The regular sweep.
    pub(super) fn tick(&self) {
        self.sweep(self.ledger.context.settings.idle_max, SWEEP_MAX);
    }
}
