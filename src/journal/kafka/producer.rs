//! The node's one producer, and the fate of each record that is handed to it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::archive::Receipts;
use super::client::{self, Client, unreachable};
use super::metrics::Metrics;
use super::reader::Ends;
use crate::journal::{JournalError, Offset, Partition, Settlement};

/// How long the thread that takes acknowledgements waits at once: the time that a stop takes.
const POLL: Duration = Duration::from_millis(100);

/// Who is told what became of the records of each partition.
pub(super) struct Lanes {
    lanes: Vec<Mutex<Lane>>,
    pending_bytes: AtomicUsize,
    pending_bytes_max: usize,
    ends: Arc<Ends>,
    progress: watch::Sender<u64>,
    /// The producer cannot be used any more.
    fatal: AtomicBool,
    /// Why nothing gets through at present.
    trouble: Mutex<Option<String>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Lane {
    /// Grows with each attachment: what was appended under an earlier one is nobody's concern.
    generation: u64,
    settlements: Option<UnboundedSender<Settlement>>,
}

/// What comes back with an acknowledgement.
pub(super) enum Sent {
    /// A record of the journal.
    Record { partition: Partition, generation: u64, bytes: usize, at: Instant },
    /// A notice on a board.
    Notice,
    /// A part of a snapshot.
    Kept { receipts: Arc<Receipts>, bytes: usize },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lanes {
    pub(super) fn new(
        partitions: u16,
        pending_bytes_max: usize,
        ends: Arc<Ends>,
        metrics: Metrics,
    ) -> Self {
        Self {
            lanes: (0..partitions).map(|_| Mutex::default()).collect(),
            pending_bytes: AtomicUsize::new(0),
            pending_bytes_max,
            ends,
            progress: watch::Sender::new(0),
            fatal: AtomicBool::new(false),
            trouble: Mutex::new(None),
            metrics,
        }
    }

    pub(super) fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        if let Some(lane) = self.lanes.get(usize::from(partition.0)) {
            let mut lane = lock(lane);
            lane.generation += 1;
            lane.settlements = Some(settlements);
        }
    }

    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(super) fn writable(&self) -> Result<(), JournalError> {
        match &*lock(&self.trouble) {
            Some(reason) => Err(JournalError::Unavailable { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn settled(&self, sent: &Sent, result: Result<Offset, &dyn std::fmt::Display>) {
        let (partition, generation, bytes, at) = match sent {
            Sent::Record { partition, generation, bytes, at } => {
                (*partition, *generation, *bytes, *at)
            }
            Sent::Notice => {
                if let Err(error) = result {
                    tracing::warn!(%error, "a notice to the other nodes was lost");
                }
                return;
            }
            Sent::Kept { receipts, bytes } => return receipts.settle(*bytes, result.is_ok()),
        };
        let before = self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.pending_bytes.set(before.saturating_sub(bytes) as i64);
        let index = usize::from(partition.0);
        match result {
            Ok(offset) => {
                self.metrics.records.inc();
                self.metrics.bytes.inc_by(bytes as u64);
                self.metrics.produce_seconds.observe(at.elapsed().as_secs_f64());
                self.ends.note(partition, Offset(offset.0 + 1));
                if let Some(trouble) = lock(&self.trouble).take() {
                    tracing::info!(trouble, "kafka takes records again");
                }
                let lane = lock(&self.lanes[index]);
                if lane.generation == generation
                    && let Some(settlements) = &lane.settlements
                {
                    // An owner who is gone needs no answer.
                    let _ = settlements.send(Settlement::Durable { first: offset, count: 1 });
                }
                drop(lane);
                self.progress.send_modify(|progress| *progress += 1);
            }
            Err(error) => {
                self.metrics.failures.inc();
                let mut lane = lock(&self.lanes[index]);
                if lane.generation == generation
                    && let Some(settlements) = lane.settlements.take()
                {
                    tracing::warn!(%error, journal.partition = %partition, "a record was not acknowledged");
                    let _ = settlements.send(Settlement::Lost);
                }
            }
        }
    }

    /// Every owner hears that nobody knows what became of its records.
    fn lose_all(&self) {
        for lane in &self.lanes {
            if let Some(settlements) = lock(lane).settlements.take() {
                let _ = settlements.send(Settlement::Lost);
            }
        }
    }
}

/// Where acknowledgements and errors arrive.
struct Context(Arc<Lanes>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.0.fatal.store(true, Ordering::Release),
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let mut trouble = lock(&self.0.trouble);
                if trouble.is_none() {
                    tracing::error!(reason, "no broker of kafka is reached");
                    *trouble = Some("no broker of kafka is reached".into());
                }
            }
            _ => tracing::debug!(%error, reason, "kafka"),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            // The broker says so of a repeated batch that it has forgotten the place of.
            Ok(message) if message.offset() < 0 => {
                self.0.settled(&sent, Err(&"its offset is not known"));
            }
            Ok(message) => self.0.settled(&sent, Ok(Offset(message.offset() as u64))),
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                    self.0.fatal.store(true, Ordering::Release);
                }
                self.0.settled(&sent, Err(error));
            }
        }
    }
}

type Inner = BaseProducer<Context>;

/// The producer. Cheap to clone; the last clone ends it.
#[derive(Clone)]
pub(super) struct Producer {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
}

struct Shared {
    client: Client,
    topic: String,
    inner: RwLock<Arc<Inner>>,
}

impl Producer {
    /// Starts the producer and the thread that takes its acknowledgements.
    pub(super) fn start(client: Client, lanes: Arc<Lanes>) -> Result<Self, JournalError> {
        let inner = RwLock::new(Arc::new(connect(&client, &lanes)?));
        let topic = client.journal_topic();
        let shared = Arc::new(Shared { client, topic, inner });
        let (weak, told) = (Arc::downgrade(&shared), lanes.clone());
        thread::Builder::new()
            .name("kafka-acks".into())
            .spawn(move || take_acknowledgements(&weak, &told))
            .map_err(|source| JournalError::Io {
                action: "start the thread for Kafka's acknowledgements".into(),
                source,
            })?;
        Ok(Self { shared, lanes })
    }

    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn inner(&self) -> Arc<Inner> {
        self.shared.inner.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        let lanes = &self.lanes;
        let Some(lane) = lanes.lanes.get(usize::from(partition.0)) else {
            let end = Offset(0);
            return Err(JournalError::NoSuchOffset { partition, offset: end, end });
        };
        // Held until the record is in the producer's queue, so that its place is behind those that
        // were appended before.
        let lane = lock(lane);
        if lane.settlements.is_none() {
            let reason = "the partition's owner has not attached since a loss".into();
            return Err(JournalError::Unavailable { reason });
        }
        let bytes = record.len();
        let pending = lanes.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        if pending + bytes > lanes.pending_bytes_max {
            lanes.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(JournalError::Full);
        }
        let (key, headers) = labels(record);
        let generation = lane.generation;
        let sent = Box::new(Sent::Record { partition, generation, bytes, at: Instant::now() });
        let mut message = BaseRecord::with_opaque_to(&self.shared.topic, sent)
            .partition(i32::from(partition.0))
            .payload(record);
        if let Some(key) = &key {
            message = message.key(key.as_bytes());
        }
        if let Some(headers) = headers {
            message = message.headers(headers);
        }
        self.inner().send(message).map_err(|(error, _)| {
            lanes.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => JournalError::Full,
                _ => JournalError::Unavailable { reason: format!("kafka: {error}") },
            }
        })
    }

    /// Puts a part of a snapshot into `topic`. Errors: [`JournalError::Full`],
    /// [`JournalError::Unavailable`]; then `receipts` hear nothing of it.
    pub(super) fn keep(
        &self,
        topic: &str,
        partition: Partition,
        key: &[u8],
        value: &[u8],
        receipts: &Arc<Receipts>,
    ) -> Result<(), JournalError> {
        let sent = Sent::Kept { receipts: receipts.clone(), bytes: value.len() };
        let message = BaseRecord::with_opaque_to(topic, Box::new(sent))
            .partition(i32::from(partition.0))
            .key(key)
            .payload(value);
        self.inner().send(message).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => JournalError::Full,
            _ => JournalError::Unavailable { reason: format!("kafka: {error}") },
        })
    }

    /// Puts a message into the first partition of `topic`. What becomes of it is only logged.
    pub(super) fn post(&self, topic: &str, key: &str, value: &[u8]) {
        let message = BaseRecord::with_opaque_to(topic, Box::new(Sent::Notice))
            .partition(0)
            .key(key)
            .payload(value);
        if let Err((error, _)) = self.inner().send(message) {
            tracing::warn!(%error, topic, "a notice to the other nodes was lost");
        }
    }
}

fn connect(client: &Client, lanes: &Arc<Lanes>) -> Result<Inner, JournalError> {
    let config = client.producer_config();
    BaseProducer::from_config_and_context(&config, Context(lanes.clone()))
        .map_err(|error| unreachable(&error))
}

/// Runs until the producer is dropped. A producer that is broken for good is replaced: then nobody
/// knows what became of what was in flight.
fn take_acknowledgements(shared: &Weak<Shared>, lanes: &Arc<Lanes>) {
    while let Some(shared) = shared.upgrade() {
        let inner = shared.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        inner.poll(POLL);
        if lanes.fatal.swap(false, Ordering::AcqRel) {
            lanes.metrics.restarts.inc();
            tracing::error!("kafka's producer is broken for good and replaced");
            match connect(&shared.client, lanes) {
                Ok(new) => {
                    *shared.inner.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    lanes.lose_all();
                }
                Err(error) => {
                    tracing::error!(%error, "kafka's producer cannot be replaced yet");
                    lanes.fatal.store(true, Ordering::Release);
                    lanes.lose_all();
                }
            }
        }
    }
}

/// What stands in a record's envelope, as far as consumers filter by it without reading the rest.
#[derive(Deserialize)]
struct Label<'a> {
    e: u64,
    #[serde(default)]
    n: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    app: Option<u64>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    events: Vec<EventLabel<'a>>,
}

#[derive(Deserialize)]
struct EventLabel<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// The key and the headers of a record; none for bytes that are no record. Rule: design.md 3.
pub(super) fn labels(record: &[u8]) -> (Option<String>, Option<OwnedHeaders>) {
    let Ok(label) = serde_json::from_slice::<Label<'_>>(record) else { return (None, None) };
    let key = match (label.app, &label.user) {
        (Some(app), Some(user)) => Some(format!("{app}/{user}")),
        _ => None,
    };
    let mut headers = OwnedHeaders::new_with_capacity(6);
    let mut put = |key: &str, value: &str| {
        let known = std::mem::replace(&mut headers, OwnedHeaders::new_with_capacity(0));
        headers = known.insert(Header { key, value: Some(value) });
    };
    put("kind", &label.kind);
    put("e", &label.e.to_string());
    put("n", &label.n.to_string());
    if let Some(id) = &label.id {
        put("id", id);
    }
    if let Some(app) = label.app {
        put("app", &app.to_string());
    }
    let mut types = String::new();
    for event in &label.events {
        // A record of a thousand blocks says it once.
        if !types.split(',').any(|known| known == event.kind) {
            if !types.is_empty() {
                types.push(',');
            }
            types.push_str(&event.kind);
        }
    }
    if !types.is_empty() {
        put("types", &types);
    }
    (key, Some(headers))
}
