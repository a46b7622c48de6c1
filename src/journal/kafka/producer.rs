//! The node's one producer: what is handed to it, and what comes back.
//!
//! A thread takes what comes back. The library's `poll` stays for the whole time that it is given, and
//! turns in circles for the last millisecond of it; so it is given a long one, and whatever has to
//! happen at once happens in the callbacks.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::archive::Receipts;
use super::client::{self, Client, unreachable};
use super::labels::labels;
use super::pipelines::{Pipelines, Ticket};
use crate::journal::{JournalError, Offset, Partition};

/// How long the thread that takes acknowledgements looks at nothing else: a producer that is broken
/// for good is replaced this late, and one that is not needed any more ends this late.
const POLL: Duration = Duration::from_millis(500);
/// How long a sign of life of the brokers is waited for, while records do not get through.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long records on their way may take once the journal is left.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// What comes back with an acknowledgement.
pub(super) enum Sent {
    /// A record of the journal.
    Record(Ticket),
    /// A notice on a board.
    Notice,
    /// A part of a snapshot.
    Snapshot {
        /// Who waits for it.
        receipts: Arc<Receipts>,
        /// How large it is.
        bytes: usize,
    },
}

/// Where acknowledgements and errors arrive.
struct Context(Arc<Pipelines>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.health().cut_off(reason);
        }
        tracing::debug!(%error, kafka.reason = reason, "librdkafka reports an error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let health = self.0.health();
        let settled = match result {
            Ok(message) => {
                health.acknowledged();
                // The broker says so of a repeated batch whose place it has forgotten.
                u64::try_from(message.offset()).map_err(|_| "its offset is not known".to_owned())
            }
            Err((error, _)) => {
                if is_trouble(error) {
                    health.failed(error);
                }
                Err(error.to_string())
            }
        };
        match (*sent, settled) {
            (Sent::Record(ticket), Ok(offset)) => {
                self.0.acknowledged(&ticket, Offset(offset));
            }
            (Sent::Record(ticket), Err(reason)) => self.0.lost(&ticket, &reason),
            (Sent::Notice, Ok(_)) => {}
            (Sent::Notice, Err(reason)) => {
                tracing::warn!(error = reason, "a notice to the other nodes was lost");
            }
            (Sent::Snapshot { receipts, bytes }, settled) => {
                receipts.settle(bytes, settled.is_ok())
            }
        }
    }
}

/// Whether the failure of one record says something about the next ones.
fn is_trouble(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let own = [Code::PurgeQueue, Code::PurgeInflight, Code::MessageSizeTooLarge];
    !error.rdkafka_error_code().is_some_and(|code| own.contains(&code))
}

type Inner = BaseProducer<Context>;

/// The producer. Cheap to clone; the last clone ends it, on a thread of its own.
#[derive(Clone)]
pub(super) struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    topic: String,
    pipelines: Arc<Pipelines>,
    inner: RwLock<Arc<Inner>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pipelines.close();
    }
}

impl Producer {
    /// Starts the producer and its two threads.
    pub(super) fn start(client: Client, pipelines: Arc<Pipelines>) -> Result<Self, JournalError> {
        let inner = Arc::new(connect(&client, &pipelines)?);
        let topic = client.journal_topic();
        let current = inner.clone();
        let telling = pipelines.clone();
        let shared = Arc::new(Shared { client, topic, pipelines, inner: RwLock::new(current) });
        let weak = Arc::downgrade(&shared);
        spawn("kafka-tell", move || telling.tell_what_is_due())?;
        spawn("kafka-acks", move || take_acknowledgements(&weak, inner))?;
        Ok(Self { shared })
    }

    pub(super) fn pipelines(&self) -> &Pipelines {
        &self.shared.pipelines
    }

    pub(super) fn append(&self, partition: Partition, record: &[u8]) -> Result<(), JournalError> {
        // Held until the record is in the producer's queue, so that its place is behind those that
        // were appended before.
        let turn = self.shared.pipelines.turn(partition, record.len())?;
        let (key, headers) = labels(record);
        let sent = Box::new(Sent::Record(turn.ticket()));
        let mut message = BaseRecord::with_opaque_to(&self.shared.topic, sent)
            .partition(i32::from(partition.0))
            .payload(record);
        message.key = key.as_deref().map(str::as_bytes);
        message.headers = headers;
        let taken = self.send(message);
        match &taken {
            Ok(()) => turn.taken(),
            Err(_) => turn.refused(),
        }
        taken
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
        let sent = Sent::Snapshot { receipts: receipts.clone(), bytes: value.len() };
        let message = BaseRecord::with_opaque_to(topic, Box::new(sent))
            .partition(i32::from(partition.0))
            .key(key)
            .payload(value);
        self.send(message)
    }

    /// Puts a message into the first partition of `topic`. What becomes of it is only logged.
    pub(super) fn post(&self, topic: &str, key: &str, value: &[u8]) {
        let message = BaseRecord::with_opaque_to(topic, Box::new(Sent::Notice))
            .partition(0)
            .key(key)
            .payload(value);
        if let Err(error) = self.send(message) {
            tracing::warn!(%error, kafka.topic = topic, "a notice to the other nodes was lost");
        }
    }

    fn send<K, P>(&self, message: BaseRecord<'_, K, P, Box<Sent>>) -> Result<(), JournalError>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        self.shared.inner().send(message).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => JournalError::Full,
            _ => JournalError::Unavailable { reason: format!("kafka: {error}") },
        })
    }
}

impl Shared {
    /// Held while something is handed over, never longer: only the thread that takes the
    /// acknowledgements keeps a producer alive, so that it ends there.
    fn inner(&self) -> RwLockReadGuard<'_, Arc<Inner>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new producer in place of one that is broken for good: then nobody knows what became of
    /// what was on its way. Answers it.
    fn replace(&self, broken: &Arc<Inner>, fault: &str) -> Arc<Inner> {
        let pipelines = &self.pipelines;
        tracing::error!(error = fault, "kafka's producer has failed for good: replacing it");
        pipelines.health().failed(&fault);
        // Before there is a new one: it must take nothing from owners who have not heard.
        pipelines.lose_all();
        match connect(&self.client, pipelines) {
            Ok(new) => {
                let new = Arc::new(new);
                *self.inner.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
                pipelines.metrics().restarts.inc();
                new
            }
            Err(error) => {
                tracing::error!(%error, "kafka's producer cannot be replaced yet: trying again");
                broken.clone()
            }
        }
    }
}

fn connect(client: &Client, pipelines: &Arc<Pipelines>) -> Result<Inner, JournalError> {
    BaseProducer::from_config_and_context(&client.producer_config(), Context(pipelines.clone()))
        .map_err(|error| unreachable(&error))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), JournalError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned
        .map(drop)
        .map_err(|source| JournalError::Io { action: format!("start the thread {name}"), source })
}

/// Runs until the producer is let go of, and ends it then.
fn take_acknowledgements(shared: &Weak<Shared>, mut inner: Arc<Inner>) {
    loop {
        inner.poll(POLL);
        let Some(shared) = shared.upgrade() else { break };
        // The error itself arrives under the name of its cause, which need not be fatal.
        if let Some((_, fault)) = inner.client().fatal_error() {
            let new = shared.replace(&inner, &fault);
            let broken = std::mem::replace(&mut inner, new);
            if !Arc::ptr_eq(&broken, &inner) {
                end(broken);
            }
        } else if shared.pipelines.health().is_troubled() {
            let answer = inner.client().fetch_metadata(Some(&shared.topic), PROBE_TIMEOUT);
            if answer.is_ok() {
                shared.pipelines.health().answered();
            }
        }
    }
    // Nobody hears of it any more; but what the others read should be what was meant.
    let _ = inner.flush(CLOSE_PATIENCE);
}

/// Ends a producer on a thread of its own: it waits for brokers that may be gone.
fn end(broken: Arc<Inner>) {
    // Without a thread it ends here.
    let _ = spawn("kafka-close", move || drop(broken));
}
