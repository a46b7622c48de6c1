//! Snapshots in a compacted topic with the journal's partitions.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};

use super::client::{Client, Consumer, Manner, QUESTION_TIMEOUT, is_passing, unreachable};
use super::producer::Producer;
use crate::journal::archive::{Archive, KeyValue};
use crate::journal::{JournalError, Partition};

/// Bytes on their way at most.
const IN_FLIGHT_MAX: usize = 8 << 20;
/// How long nothing may move before publishing or reading gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a full producer is left alone.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How long the reader waits at once.
const POLL: Duration = Duration::from_millis(200);

/// What became of the entries of one publication.
#[derive(Default)]
pub(super) struct Receipts {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Receipts {
    /// An entry of `bytes` bytes was acknowledged, or was not.
    pub(super) fn settle(&self, bytes: usize, well: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(bytes);
        state.1 |= !well;
        self.changed.notify_all();
    }

    /// Waits until at most `bytes` bytes are on their way.
    fn wait(&self, bytes: usize) -> Result<(), JournalError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut (usize, bool)| state.0 > bytes && !state.1;
        let waited = self.changed.wait_timeout_while(state, PATIENCE, waiting);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.1 || timeout.timed_out() {
            let reason = "a part of a snapshot was not acknowledged".into();
            return Err(JournalError::Unavailable { reason });
        }
        Ok(())
    }
}

pub(super) struct KafkaArchive {
    client: Client,
    producer: Producer,
    topic: String,
}

impl KafkaArchive {
    pub(super) fn new(client: Client, producer: Producer) -> Self {
        let topic = client.settings().topic("snapshots");
        Self { client, producer, topic }
    }

    fn tail(
        &self,
        consumer: &Consumer,
        partition: Partition,
        is_over: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), JournalError> {
        let index = i32::from(partition.0);
        let (begin, end) = consumer
            .fetch_watermarks(&self.topic, index, QUESTION_TIMEOUT)
            .map_err(|error| unreachable(&error))?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, index, At::Beginning)
            .map_err(|error| unreachable(&error))?;
        consumer.assign(&assignment).map_err(|error| unreachable(&error))?;
        let (mut next, mut moved) = (begin, Instant::now());
        while next < end && !is_over() {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    (next, moved) = (message.offset() + 1, Instant::now());
                    let key = message.key().unwrap_or_default();
                    each(key, message.payload().unwrap_or_default());
                }
                // Compaction may have taken the last entries away, so that none reaches the end.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if !is_passing(&error) => return Err(unreachable(&error)),
                Some(Err(_)) | None if moved.elapsed() > PATIENCE => {
                    let reason = "kafka does not hand out a snapshot".into();
                    return Err(JournalError::Unreachable { reason });
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(())
    }
}

impl Archive for KafkaArchive {
    fn publish(
        &self,
        partition: Partition,
        entries: &mut dyn Iterator<Item = KeyValue>,
    ) -> Result<(), JournalError> {
        let receipts = Arc::new(Receipts::default());
        for (key, value) in entries {
            receipts.wait(IN_FLIGHT_MAX)?;
            receipts.state.lock().unwrap_or_else(PoisonError::into_inner).0 += value.len();
            let began = Instant::now();
            loop {
                match self.producer.keep(&self.topic, partition, &key, &value, &receipts) {
                    Err(JournalError::Full) if began.elapsed() < PATIENCE => {
                        // A plain pause: others fill the producer too, so no receipt tells that it has room.
                        std::thread::sleep(FULL_PAUSE);
                    }
                    result => break result?,
                }
            }
        }
        receipts.wait(0)
    }

    fn read(
        &self,
        partition: Partition,
        is_over: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), JournalError> {
        self.tail(&self.client.consumer(Manner::Compacted)?, partition, is_over, each)
    }
}
