//! The journal as audits see it: read beside running nodes, nothing created, nothing written.

use std::sync::Arc;

use super::client::{Client, Manner, QUESTION_TIMEOUT};
use super::reader::{Ends, Pool, READ_TIMEOUT, Readers};
use super::{ClusterSettings, topics};
use crate::journal::{JournalError, Offset, Partition, ReadJournal, Reader};
use rdkafka::consumer::Consumer as _;

/// A journal in Kafka that is only read.
pub struct ReadOnly {
    partitions: u16,
    readers: Readers,
}

impl ReadOnly {
    /// Connects to the cluster. Blocks; bounded: it waits as long as a step of a start, 30 s.
    ///
    /// Errors: [`JournalError::Unreachable`]; [`JournalError::Topic`] if there is no journal, or half a
    /// copy of one.
    pub fn open(cluster: ClusterSettings) -> Result<Self, JournalError> {
        let client = Client::new(cluster);
        let topic = client.journal_topic();
        let consumer = client.consumer(Manner::Journal)?;
        let metadata = topics::metadata(consumer.client(), &client)
            .map_err(|error| topics::with_brokers(error, &client))?;
        topics::refuse_half(&metadata, client.settings())?;
        let partitions = match topics::topic(&metadata, &topic) {
            Some(topic) => topics::partitions(topic),
            None => {
                let problem = "it does not exist: there is no journal".into();
                return Err(JournalError::Topic { topic, problem });
            }
        };
        let ends = Arc::new(Ends::new(partitions));
        let pool = Arc::new(Pool::new(client.clone()));
        Ok(Self { partitions, readers: Readers::new(&client, pool, ends, partitions) })
    }
}

impl ReadJournal for ReadOnly {
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
}
