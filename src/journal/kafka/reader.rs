//! Reading: consumers with fixed assignments, kept warm, and the ends of partitions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};

use super::client::{Client, Consumer, QUESTION_TIMEOUT, is_passing, unreachable};
use crate::journal::{Entry, JournalError, Offset, Partition, Reader};

/// Idle consumers that are kept: each has a connection to every broker.
const IDLE_MAX: usize = 8;
/// How long a question that came at a bad moment waits before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a record that is known to be there may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What this node's own acknowledgements say about the partitions' ends.
pub(super) struct Ends(Vec<AtomicU64>);

impl Ends {
    pub(super) fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn note(&self, partition: Partition, end: Offset) {
        if let Some(known) = self.0.get(usize::from(partition.0)) {
            known.fetch_max(end.0, Ordering::AcqRel);
        }
    }

    fn get(&self, partition: Partition) -> u64 {
        self.0.get(usize::from(partition.0)).map_or(0, |end| end.load(Ordering::Acquire))
    }
}

/// Consumers that nobody uses at the moment.
pub(super) struct Pool {
    client: Client,
    idle: Mutex<Vec<Consumer>>,
}

impl Pool {
    pub(super) fn new(client: Client) -> Self {
        Self { client, idle: Mutex::default() }
    }

    fn take(&self) -> Result<Consumer, JournalError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(consumer) => Ok(consumer),
            None => self.client.consumer(false),
        }
    }

    fn give(&self, consumer: Consumer) {
        if consumer.unassign().is_err() {
            return end(vec![consumer]);
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(consumer);
        } else {
            drop(idle);
            end(vec![consumer]);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        end(std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Closes consumers on a thread of their own: closing may wait for brokers that are gone.
pub(super) fn end(consumers: Vec<Consumer>) {
    if !consumers.is_empty() {
        // Without a thread they are closed here.
        let closing = std::thread::Builder::new().name("kafka-close".into());
        let _ = closing.spawn(move || drop(consumers));
    }
}

/// Makes readers and answers for ends.
pub(super) struct Readers {
    topic: String,
    partitions: u16,
    pool: Arc<Pool>,
    ends: Arc<Ends>,
}

impl Readers {
    pub(super) fn new(client: &Client, pool: Arc<Pool>, ends: Arc<Ends>, partitions: u16) -> Self {
        Self { topic: client.journal_topic(), partitions, pool, ends }
    }

    /// The ends of `partitions` as their leaders tell them now.
    pub(super) fn ends(&self, partitions: &[Partition]) -> Result<Vec<Offset>, JournalError> {
        for partition in partitions {
            if partition.0 >= self.partitions {
                let (partition, end) = (*partition, Offset(0));
                return Err(JournalError::NoSuchOffset { partition, offset: end, end });
            }
        }
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + QUESTION_TIMEOUT;
        let ends = loop {
            let consumer = self.pool.take()?;
            match self.ask(&consumer, partitions) {
                Ok(ends) => {
                    self.pool.give(consumer);
                    break ends;
                }
                // After some troubles a client goes on not to know a partition that is there. A new
                // one knows it.
                Err(error) => {
                    end(vec![consumer]);
                    if !is_passing(&error) || Instant::now() >= deadline {
                        return Err(unreachable(&error));
                    }
                    std::thread::sleep(ASK_AGAIN);
                }
            }
        };
        let end = |partition: &Partition| {
            ends.get(&i32::from(partition.0)).copied().ok_or_else(|| JournalError::Unreachable {
                reason: format!("kafka did not tell the end of partition {partition}"),
            })
        };
        partitions.iter().map(end).collect()
    }

    fn ask(
        &self,
        consumer: &Consumer,
        partitions: &[Partition],
    ) -> Result<BTreeMap<i32, Offset>, KafkaError> {
        let mut question = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            // In place of a time: "the end" is answered with the offset behind the last record.
            question.add_partition_offset(&self.topic, i32::from(partition.0), At::End)?;
        }
        let answer = consumer.offsets_for_times(question, QUESTION_TIMEOUT)?;
        let mut ends = BTreeMap::new();
        for element in answer.elements() {
            element.error()?;
            if let At::Offset(end) = element.offset() {
                ends.insert(element.partition(), Offset(end as u64));
            }
        }
        Ok(ends)
    }

    pub(super) fn reader(
        &self,
        from: &[(Partition, Offset)],
    ) -> Result<Box<dyn Reader>, JournalError> {
        let partitions: Vec<Partition> = from.iter().map(|(partition, _)| *partition).collect();
        let ends = self.ends(&partitions)?;
        let mut places = BTreeMap::new();
        let mut assignment = TopicPartitionList::with_capacity(from.len());
        for ((partition, next), end) in from.iter().zip(ends) {
            if *next > end {
                let (partition, offset) = (*partition, *next);
                return Err(JournalError::NoSuchOffset { partition, offset, end });
            }
            places.insert(*partition, Place { next: *next, end });
            assignment
                .add_partition_offset(
                    &self.topic,
                    i32::from(partition.0),
                    At::Offset(next.0 as i64),
                )
                .map_err(|error| unreachable(&error))?;
        }
        let consumer = if from.is_empty() {
            None
        } else {
            let consumer = self.pool.take()?;
            consumer.assign(&assignment).map_err(|error| unreachable(&error))?;
            Some(consumer)
        };
        Ok(Box::new(KafkaReader {
            consumer,
            places,
            pool: self.pool.clone(),
            ends: self.ends.clone(),
        }))
    }
}

/// Where a reader stands in a partition.
struct Place {
    next: Offset,
    /// Records before it are known to be there.
    end: Offset,
}

struct KafkaReader {
    consumer: Option<Consumer>,
    places: BTreeMap<Partition, Place>,
    pool: Arc<Pool>,
    ends: Arc<Ends>,
}

impl KafkaReader {
    /// Whether something is known to be there that was not read.
    fn is_behind(&self) -> bool {
        self.places.iter().any(|(partition, place)| {
            place.next < place.end || place.next.0 < self.ends.get(*partition)
        })
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let deadline = Instant::now() + READ_TIMEOUT;
        loop {
            let Some(consumer) = &self.consumer else { return Ok(entries) };
            let behind = entries.is_empty() && self.is_behind();
            let patience = deadline.saturating_duration_since(Instant::now());
            let wait = if behind { patience } else { Duration::ZERO };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    let partition = Partition(message.partition() as u16);
                    let Some(place) = self.places.get_mut(&partition) else { continue };
                    let offset = Offset(message.offset() as u64);
                    if offset != place.next {
                        return Err(JournalError::Corrupt {
                            place: format!("partition {partition}, offset {}", place.next),
                            detail: format!("the next record stands at {offset}"),
                        });
                    }
                    place.next.0 += 1;
                    let record = message.payload().unwrap_or_default().to_vec();
                    bytes += record.len();
                    entries.push(Entry { partition, offset, bytes: record });
                    if bytes >= bytes_max {
                        return Ok(entries);
                    }
                }
                Some(Err(error)) if is_passing(&error) && !patience.is_zero() => {}
                Some(Err(error)) => return Err(broken(&error)),
                None if behind && patience.is_zero() => {
                    let reason = "kafka does not hand out records that are there".into();
                    return Err(JournalError::Unreachable { reason });
                }
                None if behind => {}
                None => return Ok(entries),
            }
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.pool.give(consumer);
        }
    }
}

fn broken(error: &KafkaError) -> JournalError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            JournalError::Corrupt {
                place: "kafka".into(),
                detail: format!("a record that is known to be there is not: {error}"),
            }
        }
        _ => unreachable(error),
    }
}
