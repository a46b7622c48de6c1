//! Notice boards: compacted topics of one partition, tailed from their beginning.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::{
    ASK_AGAIN, Client, Consumer, Manner, QUESTION_TIMEOUT, is_passing, unreachable,
};
use super::producer::Producer;
use super::topics::PATIENCE;
use crate::journal::{Board, JournalError, Notice};

/// Notices that were read and not heard yet, at most.
const NOTICES_MAX: usize = 4096;
/// How long the reading thread waits at once: the time that its end takes.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct KafkaBoard {
    producer: Producer,
    topic: String,
}

impl KafkaBoard {
    pub(super) fn new(producer: Producer, topic: String) -> Self {
        Self { producer, topic }
    }
}

impl Board for KafkaBoard {
    fn post(&self, key: &str, value: &[u8]) {
        self.producer.post(&self.topic, key, value);
    }
}

/// Reads the board in `topic` from its beginning on, on a thread of its own.
pub(super) fn read(client: &Client, topic: &str) -> Result<Receiver<Notice>, JournalError> {
    let (consumer, end) = with_end(client, topic)?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, At::Beginning)
        .map_err(|error| unreachable(&error))?;
    consumer.assign(&assignment).map_err(|error| unreachable(&error))?;
    let (notices, heard) = channel(NOTICES_MAX);
    let topic = topic.to_owned();
    thread::Builder::new()
        .name("board".into())
        .spawn(move || tail(&consumer, &topic, end, &notices))
        .map_err(|source| JournalError::Io {
            action: "start the thread that reads a notice board".into(),
            source,
        })?;
    Ok(heard)
}

/// A consumer, and where the board ends, asked for as patiently as all else at a start. Of a board that
/// was made just now the leader may not know that it is; as for the ends of the journal, a new consumer
/// asks again then.
fn with_end(client: &Client, topic: &str) -> Result<(Consumer, i64), JournalError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let consumer = client.consumer(Manner::Compacted)?;
        match consumer.fetch_watermarks(topic, 0, QUESTION_TIMEOUT) {
            Ok((_, end)) => return Ok((consumer, end)),
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                drop(consumer);
                // A plain pause: the question waits for the network anyway, and ends at the deadline.
                thread::sleep(ASK_AGAIN);
            }
            Err(error) => return Err(unreachable(&error)),
        }
    }
}

/// Tells everything in order until nobody listens. `end` is where the board ended when the reading
/// began.
fn tail(consumer: &Consumer, topic: &str, end: i64, notices: &Sender<Notice>) {
    let mut caught_up = end == 0;
    if caught_up && notices.blocking_send(Notice::CaughtUp).is_err() {
        return;
    }
    let mut troubled = false;
    while !notices.is_closed() {
        let (notice, next) = match consumer.poll(POLL) {
            Some(Ok(message)) => {
                troubled = false;
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                let value = message.payload().unwrap_or_default().to_vec();
                (Some(Notice::Posted { key, value }), message.offset() + 1)
            }
            // Compaction may have taken the last notices away, so that none reaches the end.
            Some(Err(KafkaError::PartitionEOF(_))) => (None, i64::MAX),
            // The library tries again by itself.
            Some(Err(error)) => {
                if !is_passing(&error) && !std::mem::replace(&mut troubled, true) {
                    tracing::warn!(
                        %error,
                        kafka.topic = topic,
                        "a notice board cannot be read at present"
                    );
                }
                continue;
            }
            None => continue,
        };
        if notice.is_some_and(|notice| notices.blocking_send(notice).is_err()) {
            return;
        }
        if !caught_up && next >= end {
            caught_up = true;
            if notices.blocking_send(Notice::CaughtUp).is_err() {
                return;
            }
        }
    }
}
