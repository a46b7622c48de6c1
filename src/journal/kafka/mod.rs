//! The journal of a cluster: a Kafka topic that all nodes write and read.
//!
//! One idempotent producer per node writes all its partitions; what counts is decided by the records
//! themselves ([`super::fence`]), so there are no transactions and no consumer groups. Readers are
//! consumers with fixed assignments, kept warm between uses. Rules: cluster.md 2 and 10.
//!
//! When a record of a partition is not acknowledged, its owner is told, and nothing more is taken
//! for that partition until the owner attaches again; other partitions go on.

mod archive;
mod board;
mod client;
mod health;
mod labels;
mod metrics;
mod pipelines;
mod producer;
mod read_only;
mod reader;
mod requirements;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::watch;

use self::client::{Client, QUESTION_TIMEOUT};
use self::pipelines::Pipelines;
use self::producer::Producer;
use self::reader::{Ends, Pool, READ_TIMEOUT, Readers};
use self::topics::Purpose;
use super::{
    Archive, Board, Durability, JournalError, Notice, Offset, Partition, ReadJournal, Reader,
    Settlement, TellEnd,
};

pub use self::client::{Sasl, SaslMechanism, Security, Tls};
pub use self::metrics::Metrics;
pub use self::read_only::ReadOnly;

/// How long an owner may answer questions after the journal has confirmed that it is the owner.
/// Rule: cluster.md 6.
pub const LEASE: Duration = Duration::from_secs(1);

/// What a journal in Kafka has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the cluster is, and how it is spoken to.
    pub cluster: ClusterSettings,
    /// How many partitions new topics get (1 to 4096); one with another number is refused.
    pub partitions: u16,
    /// Copies of everything, on different brokers. Fewer than two are for development only.
    pub replication: u16,
    /// One copy, or a broker that may lose acknowledged records, is enough.
    pub development: bool,
    /// How many bytes of records wait for acknowledgement at most; beyond it,
    /// [`JournalError::Full`].
    pub pending_bytes_max: usize,
}

/// Where a Kafka cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Bootstrap servers, `host:port` each.
    pub brokers: Vec<String>,
    /// What the names of all topics begin with.
    pub prefix: String,
    /// How connections are protected.
    pub security: Security,
    /// What brokers call this client in their logs.
    pub client_id: String,
}

impl ClusterSettings {
    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// A journal that this process writes together with others.
pub struct Journal {
    partitions: u16,
    client: Client,
    producer: Producer,
    readers: Readers,
    metrics: Metrics,
}

impl Journal {
    /// Connects to the cluster and sees to the topics: missing ones are created, those that are there
    /// have to be as the promises need them.
    ///
    /// Blocks; bounded. Errors: [`JournalError::Unreachable`], [`JournalError::Partitions`],
    /// [`JournalError::Topic`], also while a copy has not filled it.
    pub fn open(settings: Settings) -> Result<Arc<Self>, JournalError> {
        Self::open_for(Purpose::Serve, &settings)
    }

    /// The same for a copy that fills it: nobody else can open it before [`Self::end_copy`]. An
    /// interrupted copy may be resumed.
    ///
    /// Errors: as above; [`JournalError::Topic`] if it has records that no copy has begun.
    pub fn open_for_copy(settings: &Settings) -> Result<Arc<Self>, JournalError> {
        Self::open_for(Purpose::Fill, settings)
    }

    /// The copy is whole: nodes may serve it.
    ///
    /// Blocks; bounded. Errors: [`JournalError::Unreachable`], [`JournalError::Topic`].
    pub fn end_copy(&self) -> Result<(), JournalError> {
        topics::end_copy(&self.client)
    }

    fn open_for(purpose: Purpose, settings: &Settings) -> Result<Arc<Self>, JournalError> {
        let client = Client::new(settings.cluster.clone());
        topics::prepare(&client, settings, purpose)?;
        Self::connect(client, settings)
    }

    /// The journal over topics that are as they have to be.
    fn connect(client: Client, settings: &Settings) -> Result<Arc<Self>, JournalError> {
        let metrics = Metrics::new();
        let ends = Arc::new(Ends::new(settings.partitions));
        let pipelines = Arc::new(Pipelines::new(
            settings.partitions,
            settings.pending_bytes_max,
            ends.clone(),
            metrics.clone(),
        ));
        let producer = Producer::start(client.clone(), pipelines)?;
        let pool = Arc::new(Pool::new(client.clone()));
        let readers = Readers::new(&client, pool, ends, settings.partitions);
        Ok(Arc::new(Self { partitions: settings.partitions, client, producer, readers, metrics }))
    }

    /// What the journal counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where snapshots are kept.
    pub fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(archive::KafkaArchive::new(self.client.clone(), self.producer.clone()))
    }

    /// The board `name`, and what is read from it, from its beginning on. Reading ends when the
    /// receiver is dropped.
    ///
    /// Errors: [`JournalError::Unreachable`].
    pub fn board(&self, name: &str) -> Result<(Arc<dyn Board>, Receiver<Notice>), JournalError> {
        let topic = self.client.settings().topic(name);
        let notices = board::read(&self.client, &topic)?;
        Ok((Arc::new(board::KafkaBoard::new(self.producer.clone(), topic)), notices))
    }
}

impl ReadJournal for Journal {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        self.readers.reader(from, READ_TIMEOUT)
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        Ok(self.readers.ends(&[partition], QUESTION_TIMEOUT)?[0])
    }

    fn ends(&self, partitions: &[Partition]) -> Result<Vec<Offset>, JournalError> {
        self.readers.ends(partitions, QUESTION_TIMEOUT)
    }

    fn reader_within(
        &self,
        from: &[(Partition, Offset)],
        patience: Duration,
    ) -> Result<Box<dyn Reader>, JournalError> {
        self.readers.reader(from, patience)
    }

    fn each_end(&self, partitions: &[Partition], patience: Duration, tell: &mut TellEnd<'_>) {
        self.readers.each_end(partitions, patience, tell);
    }
}

impl super::Journal for Journal {
    fn durability(&self) -> Durability {
        Durability::PerPartition
    }

    fn lease(&self) -> Option<Duration> {
        Some(LEASE)
    }

    fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        self.producer.pipelines().attach(partition, settlements);
    }

    fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        self.producer.append(partition, record)
    }

    fn flush(&self) {
        // The producer sends as soon as it can, and batches by itself while it cannot.
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.producer.pipelines().progress()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn known_end(&self, partition: Partition) -> Offset {
        self.readers.known_end(partition)
    }

    fn writable(&self) -> Result<(), JournalError> {
        self.producer.pipelines().health().writable()
    }
}
