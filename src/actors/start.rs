//! How the room is opened and closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use actix::{Actor, Arbiter};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::context::{Context, Directory, Policies};
use super::elsewhere::Elsewhere;
use super::known::Known;
use super::lease::keep_leases;
use super::partition::PartitionActor;
use super::recovery::{RecoveryError, recover};
use super::seats::Seats;
use super::snapshot::{Schedule, Sweeper};
use super::standby::Standby;
use super::turns::Turns;
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
            let kept_bytes_max = parts.settings.resident_bytes_max;
            recover(&*parts.journal, parts.store.tables(), &all, kept_bytes_max)?;
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
                    &parts.settings,
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
                    tracing::error!("a background thread of the partitions has panicked");
                }
            }
        });
        if ended.await.is_err() {
            tracing::error!("waiting for the threads of the partitions has failed");
        }
    }
}
