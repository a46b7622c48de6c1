//! Reading: consumers with fixed assignments, kept warm, and the ends of partitions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};

use super::client::{
    ASK_AGAIN, Client, Consumer, Manner, QUESTION_TIMEOUT, is_passing, unreachable,
};
use super::pipelines::lock;
use super::topics;
use crate::journal::{Entry, JournalError, Offset, Partition, Reader, TellEnd};

/// Idle consumers that are kept: each has a connection to every broker.
const IDLE_MAX: usize = 8;
/// How long one is kept: nobody takes what the library tells it meanwhile.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a record that is known to be there may take to come.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Consumers that nobody uses at the moment, the last used one last.
pub(super) struct Pool {
    client: Client,
    idle: Mutex<Vec<(Consumer, Instant)>>,
}

impl Pool {
    pub(super) fn new(client: Client) -> Self {
        Self { client, idle: Mutex::default() }
    }

    fn take(&self) -> Result<Consumer, JournalError> {
        match lock(&self.idle).pop() {
            Some((consumer, _)) => Ok(consumer),
            None => self.client.consumer(Manner::Journal),
        }
    }

    fn give(&self, consumer: Consumer) {
        if consumer.unassign().is_err() {
            return;
        }
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        idle.retain(|(_, since)| now.duration_since(*since) < IDLE_TIME_MAX);
        if idle.len() < IDLE_MAX {
            idle.push((consumer, now));
        }
    }
}

/// Makes readers and answers for ends.
pub(super) struct Readers {
    topic: String,
    partitions: u16,
    pool: Arc<Pool>,
    ends: Arc<Ends>,
    /// Some leader did not answer the last question: each is asked by itself.
    apart: AtomicBool,
}

impl Readers {
    pub(super) fn new(client: &Client, pool: Arc<Pool>, ends: Arc<Ends>, partitions: u16) -> Self {
        let apart = AtomicBool::new(false);
        Self { topic: client.journal_topic(), partitions, pool, ends, apart }
    }

    /// The end of `partition` as far as this node's own acknowledgements tell it.
    pub(super) fn known_end(&self, partition: Partition) -> Offset {
        Offset(self.ends.get(partition))
    }

    /// A record before `end` has been acknowledged.
    #[cfg(test)]
    pub(super) fn note_end(&self, partition: Partition, end: Offset) {
        self.ends.note(partition, end);
    }

    /// The ends of `partitions` as their leaders tell them now, within `patience`; of each, the error if
    /// what it tells cannot be.
    fn all_ends(
        &self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<Result<Offset, JournalError>>, JournalError> {
        // Known before it is asked for: what comes meanwhile may be behind the answer.
        let known: Vec<Offset> = partitions.iter().map(|one| self.known_end(*one)).collect();
        let ends = self.ask_for_ends(partitions, patience)?;
        let judge = |((partition, known), end): ((&Partition, Offset), Offset)| {
            let partition = *partition;
            if end < known {
                Err(JournalError::Shortened { partition, known, end })
            } else {
                Ok(end)
            }
        };
        Ok(partitions.iter().zip(known).zip(ends).map(judge).collect())
    }

    /// See [`ReadJournal::ends`](crate::journal::ReadJournal::ends).
    pub(super) fn ends(
        &self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<Offset>, JournalError> {
        self.all_ends(partitions, patience)?.into_iter().collect()
    }

    fn ask_for_ends(
        &self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<Offset>, JournalError> {
        for partition in partitions {
            if partition.0 >= self.partitions {
                let (partition, end) = (*partition, Offset(0));
                return Err(JournalError::NoSuchOffset { partition, offset: end, end });
            }
        }
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + patience;
        let ends = loop {
            let consumer = self.pool.take()?;
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.ask(&consumer, partitions, patience) {
                Ok(ends) => {
                    self.pool.give(consumer);
                    break ends;
                }
                // After some troubles a client goes on not to know a partition that is there. A new
                // one knows it.
                Err(error) => {
                    drop(consumer);
                    if !is_passing(&error) || Instant::now() >= deadline {
                        return Err(unreachable(&error));
                    }
                    // A plain pause: the question waits for the network anyway, and ends at the deadline.
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

    /// See [`ReadJournal::each_end`](crate::journal::ReadJournal::each_end). One question for all as
    /// long as all leaders answer it: the library has an answer for all or for none. Otherwise one per
    /// leader, all at the same time, each with half the patience.
    pub(super) fn each_end(
        &self,
        partitions: &[Partition],
        patience: Duration,
        tell: &mut TellEnd<'_>,
    ) {
        if !self.apart.load(Ordering::Relaxed) {
            if let Ok(ends) = self.all_ends(partitions, patience) {
                partitions.iter().zip(ends).for_each(|(partition, end)| tell(*partition, end));
                return;
            }
            self.apart.store(true, Ordering::Relaxed);
        }
        let patience = patience / 2;
        let groups = match self.by_leader(partitions, patience) {
            Ok(groups) => groups,
            Err(error) => return tell_all(partitions, &error, tell),
        };
        let (sender, answers) = channel();
        let mut all_told = true;
        std::thread::scope(|scope| {
            for (leader, group) in groups {
                let sender = sender.clone();
                let ask = move || {
                    let ends = match leader {
                        Some(_) => self.all_ends(&group, patience),
                        None => {
                            Err(JournalError::Unreachable { reason: "it has no leader".into() })
                        }
                    };
                    // It is heard to the end.
                    let _ = sender.send((group, ends));
                };
                let thread = std::thread::Builder::new().name("kafka-ends".to_owned());
                // Who cannot be asked is not told.
                all_told &= thread.spawn_scoped(scope, ask).is_ok();
            }
            drop(sender);
            for (group, ends) in answers {
                match ends {
                    Ok(ends) => {
                        group.iter().zip(ends).for_each(|(partition, end)| tell(*partition, end));
                    }
                    Err(error) => {
                        all_told = false;
                        tell_all(&group, &error, tell);
                    }
                }
            }
        });
        self.apart.store(!all_told, Ordering::Relaxed);
    }

    /// Who leads which of `partitions` at present.
    fn by_leader(
        &self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<BTreeMap<Option<i32>, Vec<Partition>>, JournalError> {
        let consumer = self.pool.take()?;
        let metadata = consumer.fetch_metadata(Some(&self.topic), patience);
        let metadata = metadata.map_err(|error| unreachable(&error))?;
        self.pool.give(consumer);
        let leads: BTreeMap<i32, i32> = topics::topic(&metadata, &self.topic)
            .iter()
            .flat_map(|topic| topic.partitions())
            .map(|partition| (partition.id(), partition.leader()))
            .collect();
        let mut groups: BTreeMap<Option<i32>, Vec<Partition>> = BTreeMap::new();
        for partition in partitions {
            let leader = leads.get(&i32::from(partition.0)).copied().filter(|leader| *leader >= 0);
            groups.entry(leader).or_default().push(*partition);
        }
        Ok(groups)
    }

    fn ask(
        &self,
        consumer: &Consumer,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<BTreeMap<i32, Offset>, KafkaError> {
        let mut question = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            // In place of a time: "the end" is answered with the offset behind the last record.
            question.add_partition_offset(&self.topic, i32::from(partition.0), At::End)?;
        }
        let answer = consumer.offsets_for_times(question, patience)?;
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
        patience: Duration,
    ) -> Result<Box<dyn Reader>, JournalError> {
        let partitions: Vec<Partition> = from.iter().map(|(partition, _)| *partition).collect();
        let ends = self.ends(&partitions, patience.min(QUESTION_TIMEOUT))?;
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
            topic: self.topic.clone(),
            consumer,
            places,
            patience,
            failed: None,
            ended: false,
            pool: self.pool.clone(),
            ends: self.ends.clone(),
        }))
    }
}

fn tell_all(partitions: &[Partition], error: &JournalError, tell: &mut TellEnd<'_>) {
    for partition in partitions {
        tell(*partition, Err(JournalError::Unreachable { reason: error.to_string() }));
    }
}

/// Where a reader stands in a partition.
struct Place {
    next: Offset,
    /// Records before it are known to be there.
    end: Offset,
}

struct KafkaReader {
    topic: String,
    consumer: Option<Consumer>,
    places: BTreeMap<Partition, Place>,
    /// How long a record that is known to be there may take to come.
    patience: Duration,
    /// What went wrong behind records that were handed out first.
    failed: Option<JournalError>,
    /// Something went wrong that is told once and could be taken for an end afterwards.
    ended: bool,
    pool: Arc<Pool>,
    ends: Arc<Ends>,
}

impl KafkaReader {
    /// A partition with a record that is known to exist and was not read, and its offset.
    fn behind(&self) -> Option<(Partition, Offset)> {
        let unread = |(partition, place): (&Partition, &Place)| {
            let end = place.end.0.max(self.ends.get(*partition));
            (place.next.0 < end).then_some((*partition, place.next))
        };
        self.places.iter().find_map(unread)
    }

    /// The next record, waiting for it up to `wait`.
    fn poll(&mut self, wait: Duration) -> Polled {
        let Some(consumer) = &self.consumer else { return Polled::Nothing };
        match consumer.poll(wait) {
            None => Polled::Nothing,
            Some(Err(error)) if is_passing(&error) => Polled::Hindrance(error),
            Some(Err(error)) => Polled::Broken(self.broken(&error)),
            Some(Ok(message)) => {
                let partition = Partition(message.partition() as u16);
                let offset = Offset(message.offset() as u64);
                // Else it is of an assignment before this one.
                let known = self.places.get_mut(&partition).filter(|place| place.next <= offset);
                let Some(place) = known else {
                    return Polled::Hindrance(KafkaError::NoMessageReceived);
                };
                let next = place.next;
                if next < offset {
                    return Polled::Broken(JournalError::Corrupt {
                        place: self.at(partition, next),
                        detail: format!("it is not there; the next record stands at {offset}"),
                    });
                }
                place.next.0 += 1;
                let bytes = message.payload().unwrap_or_default().to_vec();
                Polled::Read(Entry { partition, offset, bytes })
            }
        }
    }

    fn at(&self, partition: Partition, offset: Offset) -> String {
        format!("topic {}, partition {partition}, offset {offset}", self.topic)
    }

    fn broken(&self, error: &KafkaError) -> JournalError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::LogTruncation
                | Code::BadMessage
                | Code::BadCompression
                | Code::InvalidMessage,
            ) => JournalError::Corrupt {
                place: match self.behind() {
                    Some((partition, next)) => self.at(partition, next),
                    None => format!("topic {}", self.topic),
                },
                detail: error.to_string(),
            },
            _ => unreachable(error),
        }
    }
}

/// What came of one look for the next record.
enum Polled {
    Read(Entry),
    Nothing,
    /// There may be more behind it.
    Hindrance(KafkaError),
    Broken(JournalError),
}

impl Reader for KafkaReader {
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut hindrance = None;
        let deadline = Instant::now() + self.patience;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.ended {
            let reason = "this reader has failed before".into();
            return Err(JournalError::Unreachable { reason });
        }
        loop {
            let behind = if entries.is_empty() { self.behind() } else { None };
            let patience = deadline.saturating_duration_since(Instant::now());
            let wait = if behind.is_some() { patience } else { Duration::ZERO };
            match self.poll(wait) {
                Polled::Read(entry) => {
                    bytes += entry.bytes.len();
                    entries.push(entry);
                    if bytes >= bytes_max {
                        return Ok(entries);
                    }
                }
                Polled::Broken(error) => {
                    self.ended = true;
                    if entries.is_empty() {
                        return Err(error);
                    }
                    self.failed = Some(error);
                    return Ok(entries);
                }
                Polled::Hindrance(error) if !patience.is_zero() => hindrance = Some(error),
                Polled::Hindrance(_) | Polled::Nothing => match behind {
                    None => return Ok(entries),
                    Some((partition, next)) if patience.is_zero() => {
                        let place = self.at(partition, next);
                        let why = hindrance.map(|error| format!(": {error}"));
                        let reason = format!(
                            "kafka does not hand out {place}, which is there{}",
                            why.unwrap_or_default()
                        );
                        return Err(JournalError::Unreachable { reason });
                    }
                    Some(_) => {}
                },
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
