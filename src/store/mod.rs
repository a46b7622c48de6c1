//! The local state store: rows, checkpoint, row hash; disposable.
//!
//! A checkpoint of a partition is one atomic batch: the rows that changed since the last one, and a
//! [`Mark`] that says up to which record they stand. It holds final records only and is never synced
//! on purpose: the journal is the truth, and a store that was lost, or lags, costs time alone.
//! Writing happens on one thread of its own; reading on any. It knows nothing of actors.

mod apps;
mod mark;
pub mod row_set;
pub mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, Readable};

use crate::domain::{AppId, Head, Relation, User, UserId, UserKey};
use crate::journal::Partition;
#[cfg(debug_assertions)]
use crate::journal::bad_disk::told_to_fail;
pub use mark::{CursorMark, Mark, OutboxMark};
use row_set::RowSet;
use rows::{RowChanges, RowHash};

/// Checkpoints and recoveries that may wait for the store's thread: some for each partition that there
/// may be.
const JOBS_MAX: usize = 16_384;

/// Rows that are taken out in one batch.
const CLEARED_AT_ONCE: usize = 10_000;

/// What the store needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder. May be deleted while nothing runs.
    pub dir: PathBuf,
    /// Memory for cached blocks, in bytes.
    pub cache_bytes: u64,
}

/// What can go wrong with the store. All but `InUse` is cured by deleting its folder.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says no.
    #[error("the state store at {}: {source}", path.display())]
    Database {
        /// Its folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: Box<fjall::Error>,
    },
    /// Another process has it open.
    #[error("the state store at {} is in use by another process, like `cordon verify`", path.display())]
    InUse {
        /// Its folder.
        path: PathBuf,
    },
    /// A row is not readable.
    #[error("the state store has an unreadable row: {0}")]
    Row(#[from] postcard::Error),
    /// A key is not readable.
    #[error("the state store has a row with a malformed key")]
    Key,
    /// A user has rows and no head row.
    #[error("the state store has lost the head row of {0}")]
    Headless(UserKey),
    /// The store's thread is gone or behind.
    #[error("the state store does not keep up")]
    Busy,
}

/// A handle on the store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    tables: Tables,
    jobs: SyncSender<Job>,
    thread: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

/// The tables, for reading and for the store's own thread.
#[derive(Clone)]
pub struct Tables {
    database: Database,
    rows: Keyspace,
    marks: Keyspace,
    path: Arc<Path>,
    /// Checkpoints fail, as on a full disk.
    #[cfg(test)]
    full: Arc<std::sync::atomic::AtomicBool>,
}

/// A checkpoint as it was at one moment: its mark, and its rows, key and value.
pub type Image = (Mark, Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>>>);

type Work = Box<dyn FnOnce(&Tables) + Send>;

enum Job {
    Work(Work),
    Stop,
}

impl Store {
    /// Opens the store, or makes an empty one.
    ///
    /// Errors: [`StoreError::InUse`], or the store or its thread cannot be started.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        let tables = Tables::open(settings)?;
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let worker = tables.clone();
        let thread = std::thread::Builder::new()
            .name("cordon-store".into())
            .spawn(move || work(&worker, &queue))
            .map_err(|error| StoreError::Database {
                path: settings.dir.clone(),
                source: Box::new(fjall::Error::Io(error)),
            })?;
        Ok(Self { tables, jobs, thread: Arc::new(std::sync::Mutex::new(Some(thread))) })
    }

    /// The same without a thread: what is handed over waits for [`Hand::work`].
    #[cfg(test)]
    pub(crate) fn by_hand(settings: &Settings) -> Result<(Self, Hand), StoreError> {
        let tables = Tables::open(settings)?;
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let hand = Hand { tables: tables.clone(), queue };
        Ok((Self { tables, jobs, thread: Arc::default() }, hand))
    }

    /// The tables, to read from.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Runs `work` on the store's thread, behind everything handed over before. Errors:
    /// [`StoreError::Busy`]; then `work` will not run.
    pub fn run(&self, work: impl FnOnce(&Tables) + Send + 'static) -> Result<(), StoreError> {
        self.jobs.try_send(Job::Work(Box::new(work))).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => StoreError::Busy,
        })
    }

    /// Waits until everything handed over is written, and ends the thread.
    pub fn close(&self) {
        // The thread may be gone already; then there is nothing left to wait for.
        let _ = self.jobs.send(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the state store's thread has panicked");
        }
    }
}

/// What a look for the users who name somebody came to.
#[derive(Debug, Default)]
pub struct Naming {
    /// Whose row is about whom.
    pub found: Vec<(UserKey, UserId)>,
    /// Where the next look begins; nothing if this was the last one.
    pub next: Option<Vec<u8>>,
}

/// What takes the place of the store's thread, for tests in which nothing happens by itself.
#[cfg(test)]
pub(crate) struct Hand {
    tables: Tables,
    queue: Receiver<Job>,
}

#[cfg(test)]
impl Hand {
    /// Does everything that was handed over; answers how much that was.
    pub(crate) fn work(&self) -> usize {
        let mut done = 0;
        while let Ok(Job::Work(job)) = self.queue.try_recv() {
            job(&self.tables);
            done += 1;
        }
        done
    }
}

fn work(tables: &Tables, queue: &Receiver<Job>) {
    while let Ok(Job::Work(job)) = queue.recv() {
        job(tables);
    }
}

/// What the tables are called, without their layout.
const NAMES: [&str; 2] = ["rows", "marks"];

fn table(name: &str) -> String {
    format!("{name}.{}", rows::LAYOUT)
}

fn database(settings: &Settings) -> Result<Database, StoreError> {
    // For its owner's eyes only.
    let created = DirBuilder::new().recursive(true).mode(0o700).create(&settings.dir);
    #[cfg(debug_assertions)]
    let created = created.and_then(|()| told_to_fail("create-store"));
    created.map_err(|error| failed(settings, error.into()))?;
    let database = Database::builder(&settings.dir)
        .cache_size(settings.cache_bytes)
        .manual_journal_persist(true)
        .worker_threads(1)
        .open();
    database.map_err(|source| failed(settings, source))
}

fn failed(settings: &Settings, source: fjall::Error) -> StoreError {
    match source {
        fjall::Error::Locked => StoreError::InUse { path: settings.dir.clone() },
        source => StoreError::Database { path: settings.dir.clone(), source: Box::new(source) },
    }
}

impl Tables {
    /// Opens the tables of a node: makes those that are missing, and takes those of other layouts away.
    fn open(settings: &Settings) -> Result<Self, StoreError> {
        let fail = |source| failed(settings, source);
        let database = database(settings)?;
        for old in database.list_keyspace_names() {
            if !old.ends_with(&format!(".{}", rows::LAYOUT)) {
                let old = database.keyspace(&old, KeyspaceCreateOptions::default).map_err(fail)?;
                database.delete_keyspace(old).map_err(fail)?;
            }
        }
        Self::of(database, settings)
    }

    /// Opens the tables that a node has left, to read them; none if they are of another layout.
    ///
    /// Errors: [`StoreError::InUse`], or the tables cannot be opened.
    pub fn existing(settings: &Settings) -> Result<Option<Self>, StoreError> {
        let database = database(settings)?;
        let there = NAMES.iter().all(|name| database.keyspace_exists(&table(name)));
        there.then(|| Self::of(database, settings)).transpose()
    }

    fn of(database: Database, settings: &Settings) -> Result<Self, StoreError> {
        let open = |name: &str| {
            let opened = database.keyspace(&table(name), KeyspaceCreateOptions::default);
            opened.map_err(|source| failed(settings, source))
        };
        let [rows, marks] = NAMES;
        let (rows, marks) = (open(rows)?, open(marks)?);
        let path = Arc::from(settings.dir.as_path());
        Ok(Self {
            database,
            rows,
            marks,
            path,
            #[cfg(test)]
            full: Arc::default(),
        })
    }

    fn fail(&self, source: fjall::Error) -> StoreError {
        StoreError::Database { path: self.path.to_path_buf(), source: Box::new(source) }
    }

    /// Errors: the disk is a bad one, of a test.
    fn readable(&self) -> Result<(), StoreError> {
        #[cfg(debug_assertions)]
        told_to_fail("rows").map_err(|error| self.fail(error.into()))?;
        Ok(())
    }

    /// Lets checkpoints fail from now on, or no more.
    #[cfg(test)]
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes a checkpoint: all of it or nothing.
    ///
    /// Errors: the store cannot be written.
    pub fn write(
        &self,
        partition: Partition,
        rows: &RowSet,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(self.fail(fjall::Error::Io(std::io::ErrorKind::StorageFull.into())));
        }
        let mut batch = self.batch_of(rows.iter());
        let mark = postcard::to_stdvec(mark)?;
        batch.insert(&self.marks, partition.0.to_be_bytes(), mark);
        batch.commit().map_err(|error| self.fail(error))
    }

    /// The mark of `partition`'s last checkpoint.
    ///
    /// Errors: the store cannot be read, or a row of it.
    pub fn mark(&self, partition: Partition) -> Result<Option<Mark>, StoreError> {
        self.readable()?;
        let value = self.marks.get(partition.0.to_be_bytes()).map_err(|error| self.fail(error))?;
        Ok(value.map(|value| postcard::from_bytes(&value)).transpose()?)
    }

    /// The user `key`, with the hash of their head row; a new one if nothing is recorded.
    ///
    /// Errors: the store cannot be read, or a row of it; [`StoreError::Headless`].
    pub fn user(&self, partition: Partition, key: &UserKey) -> Result<(User, RowHash), StoreError> {
        self.readable()?;
        let mut head = None;
        let mut relations = Vec::new();
        for row in self.rows.prefix(rows::rows_prefix(partition, key)) {
            let (name, value) = row.into_inner().map_err(|error| self.fail(error))?;
            match rows::parse_key(&name) {
                Some((_, _, None)) => {
                    head = Some((rows::decode_head(&value)?, RowHash::of(&name, &value)));
                }
                Some((_, _, Some(_))) => relations.push(rows::decode_relation(&value)?),
                None => return Err(StoreError::Key),
            }
        }
        match head {
            None if relations.is_empty() => Ok((User::new(key.user), RowHash::default())),
            None => Err(StoreError::Headless(*key)),
            Some((head, hash)) => Ok((User::restore(key.user, head, relations), hash)),
        }
    }

    /// The head row of `key`.
    ///
    /// Errors: the store cannot be read, or a row of it.
    pub fn head(&self, partition: Partition, key: &UserKey) -> Result<Option<Head>, StoreError> {
        self.readable()?;
        let value =
            self.rows.get(rows::head_key(partition, key)).map_err(|error| self.fail(error))?;
        Ok(value.map(|value| rows::decode_head(&value)).transpose()?)
    }

    /// The row of `key` about `peer`.
    ///
    /// Errors: the store cannot be read, or a row of it.
    pub fn relation(
        &self,
        partition: Partition,
        key: &UserKey,
        peer: &UserId,
    ) -> Result<Option<Relation>, StoreError> {
        self.readable()?;
        let row = rows::relation_key(partition, key, peer);
        let value = self.rows.get(row).map_err(|error| self.fail(error))?;
        Ok(value.map(|value| rows::decode_relation(&value)).transpose()?)
    }

    /// Every row of `partition`, key and value, as of the moment of the call.
    pub fn partition_rows(
        &self,
        partition: Partition,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        let tables = self.clone();
        self.rows.prefix(rows::partition_prefix(partition)).map(move |row| {
            let (key, value) = row.into_inner().map_err(|error| tables.fail(error))?;
            Ok((key.to_vec(), value.to_vec()))
        })
    }

    /// The mark of `partition`'s last checkpoint and every row of it, as they were together at the moment
    /// of the call.
    ///
    /// Errors: the store cannot be read, or the mark.
    pub fn image(&self, partition: Partition) -> Result<Option<Image>, StoreError> {
        let snapshot = self.database.snapshot();
        let mark = snapshot.get(&self.marks, partition.0.to_be_bytes());
        let Some(mark) = mark.map_err(|error| self.fail(error))? else { return Ok(None) };
        let mark: Mark = postcard::from_bytes(&mark)?;
        let tables = self.clone();
        let rows = snapshot.prefix(&self.rows, rows::partition_prefix(partition));
        let rows = rows.map(move |row| {
            let (key, value) = row.into_inner().map_err(|error| tables.fail(error))?;
            Ok((key.to_vec(), value.to_vec()))
        });
        Ok(Some((mark, Box::new(rows))))
    }

    /// Puts rows there that belong to no checkpoint yet: until a mark is written with [`Tables::write`]
    /// they count for nothing.
    ///
    /// Errors: the store cannot be written.
    pub fn fill(&self, changes: &RowChanges) -> Result<(), StoreError> {
        self.batch_of(changes.iter()).commit().map_err(|error| self.fail(error))
    }

    fn batch_of<'r>(
        &self,
        rows: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
    ) -> OwnedWriteBatch {
        let mut batch = self.database.batch();
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch
    }

    /// Which users of `app` in `partition` have a row about one of `peers`, as far as checkpoints know: from
    /// `from` on, the beginning or where the last look ended, until `found_max` are found or `rows_max`
    /// rows were looked at. Reads every key of the app once in the end: deletions are rare, and an
    /// index for them would be paid for by each block.
    ///
    /// Errors: the rows cannot be read.
    pub fn who_names(
        &self,
        (partition, app): (Partition, AppId),
        peers: &BTreeSet<UserId>,
        from: Option<Vec<u8>>,
        (found_max, rows_max): (usize, usize),
    ) -> Result<Naming, StoreError> {
        let prefix = rows::app_prefix(partition, app);
        let mut naming = Naming::default();
        let rows = self.rows.range(from.unwrap_or_else(|| prefix.to_vec())..);
        for (looked_at, row) in rows.enumerate() {
            let key = row.key().map_err(|error| self.fail(error))?;
            if !key.starts_with(&prefix) {
                break;
            }
            if looked_at >= rows_max || naming.found.len() >= found_max {
                naming.next = Some(key.to_vec());
                break;
            }
            let (_, owner, about) = rows::parse_key(&key).ok_or(StoreError::Key)?;
            if let Some(peer) = about.filter(|peer| peers.contains(peer)) {
                naming.found.push((owner, peer));
            }
        }
        Ok(naming)
    }

    /// Takes the mark and every row of `partition` out, to rebuild it from zero. The mark goes first: rows
    /// without one count for nothing, and are taken out at the next start if this is cut short.
    ///
    /// Errors: the store cannot be read or written.
    pub fn clear(&self, partition: Partition) -> Result<(), StoreError> {
        self.readable()?;
        let place = partition.0.to_be_bytes();
        // A disk that takes nothing is asked for nothing if there is nothing to take out.
        if self.marks.get(place).map_err(|error| self.fail(error))?.is_some() {
            self.marks.remove(place).map_err(|error| self.fail(error))?;
        }
        let mut rows = self.rows.prefix(rows::partition_prefix(partition)).peekable();
        while rows.peek().is_some() {
            let mut batch = self.database.batch();
            for row in rows.by_ref().take(CLEARED_AT_ONCE) {
                batch.remove(&self.rows, row.key().map_err(|error| self.fail(error))?);
            }
            batch.commit().map_err(|error| self.fail(error))?;
        }
        Ok(())
    }
}
