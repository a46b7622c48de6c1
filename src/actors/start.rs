//! How the room is opened and closed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Actor, Arbiter};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::context::{Commons, Context, Policies};
use super::elsewhere::Elsewhere;
use super::known::Known;
use super::lease::keep_leases;
use super::partition::PartitionActor;
use super::recovery::{RecoveryError, recover};
use super::seats::Seats;
use super::snapshot::{Schedule, Sweeper};
use super::standby::Standby;
use super::{Metrics, Settings, Users};
use crate::clock::Clock;
use crate::journal::{Archive, Journal, Partition};
use crate::store::Store;

/// Partitions that are recovered at the same time: each reads from the journal.
const RECOVERIES_MAX: usize = 4;

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

/// Everything that runs beside the callers.
#[derive(Default)]
pub(super) struct Threads {
    pub(super) arbiters: Vec<Arbiter>,
    others: Vec<JoinHandle<()>>,
    sweeper: Option<Sweeper>,
}

impl Commons {
    fn of(parts: Parts, partitions: u16, alone: bool) -> Self {
        Self {
            node: parts.node,
            partitions,
            journal: parts.journal,
            store: parts.store,
            clock: parts.clock,
            policies: Arc::new(parts.policies),
            known: Arc::new(Known::new(parts.settings.accounts_max, partitions)),
            settings: parts.settings,
            metrics: parts.metrics,
            followers: parts.followers.into(),
            alone,
            seats: Arc::new(Seats::new(partitions)),
            standby: None,
            archive: parts.archive,
            recovered: Arc::default(),
            recoveries: Arc::new(Semaphore::new(RECOVERIES_MAX)),
            elsewhere: parts.elsewhere,
            directory: Arc::new((0..partitions).map(|_| OnceLock::new()).collect()),
        }
    }
}

impl Threads {
    /// Starts all of them, the standby first: partitions ask it when they are claimed.
    fn start(commons: &mut Commons) -> Result<Self, StartError> {
        let mut threads = Self::default();
        if let Some(lease) = commons.journal.lease() {
            threads.keep(lease, commons)?;
        }
        if let Some(archive) = commons.archive.clone() {
            threads.sweep(archive, commons)?;
        }
        threads.populate(commons)?;
        Ok(threads)
    }

    /// What it takes where other nodes may own a partition: a standby, and somebody who keeps the leases.
    fn keep(&mut self, lease: Duration, commons: &mut Commons) -> std::io::Result<()> {
        let (standby, thread) = Standby::start(
            commons.journal.clone(),
            commons.archive.clone(),
            commons.store.clone(),
            commons.seats.clone(),
            &commons.settings,
        )?;
        commons.standby = Some(standby);
        self.others.push(thread);
        let (journal, seats) = (commons.journal.clone(), commons.seats.clone());
        self.others.push(keep_leases(journal, lease, seats, commons.directory.clone())?);
        Ok(())
    }

    /// Whoever makes the snapshots.
    fn sweep(&mut self, archive: Arc<dyn Archive>, commons: &Commons) -> std::io::Result<()> {
        let schedule = Schedule {
            records: commons.settings.snapshot_records,
            interval: commons.settings.snapshot_interval,
        };
        let (store, seats) = (commons.store.clone(), commons.seats.clone());
        let (sweeper, thread) = Sweeper::start(archive, store, seats, schedule)?;
        self.sweeper = Some(sweeper);
        self.others.push(thread);
        Ok(())
    }

    /// The threads of the partitions, which are dealt out to them in turn.
    fn populate(&mut self, commons: &Commons) -> std::io::Result<()> {
        let count = commons.settings.arbiters.max(1);
        self.arbiters = (0..count).map(|_| Arbiter::new()).collect();
        for (place, arbiter) in self.arbiters.iter().enumerate() {
            let commons = commons.clone();
            let (done, started) = std::sync::mpsc::channel();
            arbiter.spawn_fn(move || {
                let context = Context::new(commons);
                let all = (0..context.partitions).map(Partition);
                for partition in all.skip(place).step_by(count) {
                    let addr = PartitionActor::new(context.clone(), partition).start();
                    // Each slot is filled once, here.
                    let _ = context.directory[usize::from(partition.0)].set(addr);
                }
                // Whoever starts the room waits for it.
                let _ = done.send(());
            });
            started.recv().map_err(std::io::Error::other)?;
        }
        Ok(())
    }
}

impl Users {
    /// Starts the actors of every partition.
    ///
    /// Where nobody else can write the journal, they bring the state store up to its end and claim
    /// all partitions: see [`Users::ready`]. Otherwise no partition is owned before
    /// [`Users::claim`]. Errors: [`StartError`].
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let partitions = parts.journal.partitions();
        let alone = parts.journal.lease().is_none();
        let mut commons = Commons::of(parts, partitions, alone);
        if alone {
            // In one pass over the journal, which each partition's own would have to make as well.
            let all: Vec<Partition> = (0..partitions).map(Partition).collect();
            let kept_bytes_max = commons.settings.resident_bytes_max;
            let recovered =
                recover(&*commons.journal, commons.store.tables(), &all, kept_bytes_max)?;
            let by_partition = recovered.into_iter().map(|state| (state.partition, state));
            commons.recovered = Arc::new(Mutex::new(by_partition.collect()));
        }
        let threads = Threads::start(&mut commons)?;
        let users = Self {
            directory: commons.directory,
            known: commons.known,
            seats: commons.seats,
            standby: commons.standby,
            elsewhere: commons.elsewhere,
            alone,
            time_limit: commons.settings.time_limit,
            threads: Arc::new(Mutex::new(threads)),
        };
        if alone {
            (0..partitions).for_each(|partition| users.claim(Partition(partition)));
        }
        Ok(users)
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
        let ended = tokio::task::spawn_blocking(move || {
            for arbiter in arbiters {
                arbiter.stop();
                if arbiter.join().is_err() {
                    tracing::error!("a partition's thread has panicked");
                }
            }
            for thread in others {
                if thread.join().is_err() {
                    tracing::error!("a background thread of the partitions has panicked");
                }
            }
        });
        if ended.await.is_err() {
            tracing::error!("waiting for the threads of the partitions has failed");
        }
    }
}
