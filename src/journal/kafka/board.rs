//! Notice boards: compacted topics of one partition, tailed from their beginning.

use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::{Client, Consumer, QUESTION_TIMEOUT, unreachable};
use super::producer::Producer;
use super::reader::end;
use crate::domain::Timestamp;
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
    let consumer = client.consumer(true)?;
    let (_, behind) = consumer
        .fetch_watermarks(topic, 0, QUESTION_TIMEOUT)
        .map_err(|error| unreachable(&error))?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, At::Beginning)
        .map_err(|error| unreachable(&error))?;
    consumer.assign(&assignment).map_err(|error| unreachable(&error))?;
    let (notices, heard) = channel(NOTICES_MAX);
    thread::Builder::new()
        .name("board".into())
        .spawn(move || {
            tail(&consumer, behind, &notices);
            end(vec![consumer]);
        })
        .map_err(|source| JournalError::Io {
            action: "start the thread that reads a notice board".into(),
            source,
        })?;
    Ok(heard)
}

/// Tells everything in order; `end` is where the board ended when the reading began.
fn tail(consumer: &Consumer, end: i64, notices: &Sender<Notice>) {
    let mut caught_up = false;
    let mut next = 0;
    while !notices.is_closed() {
        if !caught_up && (next >= end || is_empty(consumer, next, end)) {
            caught_up = true;
            if notices.blocking_send(Notice::CaughtUp).is_err() {
                return;
            }
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                next = message.offset() + 1;
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                let value = message.payload().unwrap_or_default().to_vec();
                let at = Timestamp(message.timestamp().to_millis().unwrap_or_default());
                if notices.blocking_send(Notice::Posted { key, value, at }).is_err() {
                    return;
                }
            }
            // The library tries again by itself.
            Some(Err(error)) => tracing::debug!(%error, "a notice board is not read at present"),
            None => {}
        }
    }
}

/// Whether nothing is left before `end`: compaction may have taken the last records away.
fn is_empty(consumer: &Consumer, next: i64, end: i64) -> bool {
    let position = consumer.position().ok().and_then(|list| {
        list.elements().first().and_then(|element| match element.offset() {
            At::Offset(offset) => Some(offset),
            _ => None,
        })
    });
    position.is_some_and(|position| position.max(next) >= end)
}
