//! A node: the product's own partitions, and the standby without its thread.

use std::collections::HashMap as Policies;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::journal::Handle;
use super::office::{Office, Phase};
use crate::actors::context::Commons;
use crate::actors::elsewhere::{Asked, Question};
use crate::actors::known::Known;
use crate::actors::recovery::{RecoveryError, recover};
use crate::actors::seats::Seats;
use crate::actors::standby::Follower;
use crate::actors::{Context, Elsewhere, ExecuteError, Metrics, PairMessage, Settings};
use crate::clock::Clock;
use crate::journal::{Archive, Journal, Partition, ReadJournal};
use crate::store::Store;

/// Messages that may be on their way at once; more are lost.
const WIRE_MAX: usize = 400;

/// All messages that are on their way between partitions.
#[derive(Default)]
pub(super) struct Wire(Mutex<Vec<PairMessage>>);

impl Wire {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Vec<PairMessage>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A node's end of the wire.
struct Link {
    wire: Arc<Wire>,
    handle: Arc<Handle>,
}

impl Elsewhere for Link {
    fn ask(&self, _: Partition, _: Question, _: Duration) -> Asked {
        Box::pin(std::future::ready(Err(ExecuteError::Elsewhere)))
    }

    fn owner(&self, _: Partition) -> Option<String> {
        None
    }

    fn send(&self, message: PairMessage) {
        if !self.handle.is_dead() {
            self.wire.with(|messages| {
                if messages.len() < WIRE_MAX {
                    messages.push(message);
                }
            });
        }
    }
}

pub(super) struct Node {
    pub(super) handle: Arc<Handle>,
    /// Its standby, without the thread.
    pub(super) follower: Follower,
    /// Of its first thread.
    pub(super) context: Rc<Context>,
    pub(super) offices: Vec<Office>,
    /// It has read the journal, if it has to before it claims.
    begun: bool,
}

impl Node {
    /// Each partition lives on a thread of its own if they are `apart`.
    pub(super) fn new(
        name: &str,
        handle: Arc<Handle>,
        store: Store,
        clock: Clock,
        wire: Arc<Wire>,
        archive: Arc<dyn Archive>,
        apart: bool,
    ) -> Self {
        let alone = handle.lease().is_none();
        let archive = (!alone).then_some(archive);
        let partitions = handle.partitions();
        let seats = Arc::new(Seats::new(partitions));
        let settings = Settings {
            residents_max: 3,
            // Now and then more than what is kept over a checkpoint.
            resident_bytes_max: 8 << 10,
            checkpoint_interval: Duration::ZERO,
            ..Settings::default()
        };
        let follower =
            Follower::new(handle.clone(), archive.clone(), store.clone(), seats.clone(), &settings);
        let known = Arc::new(Known::new(16, partitions));
        let elsewhere = Arc::new(Link { wire, handle: handle.clone() });
        let thread = || {
            Context::new(Commons {
                node: name.into(),
                partitions,
                journal: handle.clone(),
                store: store.clone(),
                clock: clock.clone(),
                policies: Arc::new(Policies::new()),
                settings: settings.clone(),
                metrics: Metrics::default(),
                followers: Arc::from(["main".to_owned()]),
                alone,
                known: known.clone(),
                seats: seats.clone(),
                standby: None,
                archive: archive.clone(),
                recovered: Arc::default(),
                recoveries: Arc::new(Semaphore::new(1)),
                elsewhere: elsewhere.clone(),
                // Nobody's: what goes to another thread is on the wire.
                directory: Arc::new((0..partitions).map(|_| Default::default()).collect()),
            })
        };
        let context = thread();
        let office = |partition| {
            let context = if apart { thread() } else { context.clone() };
            Office::new(context, Partition(partition))
        };
        let offices = (0..partitions).map(office).collect();
        Self { handle, follower, context, offices, begun: !alone }
    }

    /// Begins to own a partition that may have been followed so far.
    pub(super) fn claim(&mut self, one: usize) {
        if !self.begin() {
            return;
        }
        let office = &mut self.offices[one];
        if !office.stopping {
            let done = self.follower.let_go(office.partition);
            office.keeping.ledger.remember(done);
            office.claim();
        }
    }

    /// `Users::start`, where nobody else can write: everything is read in one pass. Answers whether it has
    /// been.
    fn begin(&mut self) -> bool {
        if !self.begun {
            let Commons { journal, store, settings, .. } = &**self.context;
            let all: Vec<Partition> = (0..self.context.partitions).map(Partition).collect();
            let kept_bytes_max = settings.resident_bytes_max;
            match recover(&**journal, store.tables(), &all, kept_bytes_max) {
                Ok(_) => self.begun = true,
                Err(RecoveryError::Journal(_)) => {}
                Err(
                    RecoveryError::JournalBehind { partition, .. }
                    | RecoveryError::JournalDiffers { partition, .. },
                ) => self.offices[usize::from(partition.0)].halted = true,
                Err(error) => panic!("the journal is right: {error}"),
            }
        }
        self.begun
    }

    /// Whether its process has been stopped, and has nothing more to do.
    pub(super) fn is_stopped(&self) -> bool {
        self.offices.iter().all(Office::is_stopped)
    }

    /// Follows whatever others may own.
    pub(super) fn follow(&mut self) {
        let vacant = self.offices.iter().filter(|office| matches!(office.phase, Phase::Vacant));
        self.follower.follow(vacant.map(|office| office.partition).collect());
    }

    /// Nothing of it does anything any more.
    pub(super) fn die(&mut self) {
        self.handle.die();
        for office in &mut self.offices {
            office.die();
        }
    }
}
