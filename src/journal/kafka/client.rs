//! How the cluster is spoken to: settings of producers and consumers. Rule: cluster.md 10.2.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::ClusterSettings;
use crate::journal::{JournalError, RECORD_BYTES_MAX};

/// How long a question to the cluster may take: a broker may be electing a leader meanwhile.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question that came at a bad moment waits before it is asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What the topics take: a little more than the largest record, because a batch of one has a frame
/// around it; so what is too large is refused here and not by a broker, where it would look like a
/// loss.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;

/// How connections to brokers are protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Encrypted, if so.
    pub tls: Option<Tls>,
    /// Who this client says it is, if the brokers ask.
    pub sasl: Option<Sasl>,
}

/// Encryption, and certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whose certificates are trusted, as PEM; the system's if not said.
    pub ca_file: Option<PathBuf>,
    /// This client's own certificate, as PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How they are shown.
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How a password is shown to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the names of the mechanisms")]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Makes producers and consumers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    settings: Arc<ClusterSettings>,
}

impl Client {
    pub(super) fn new(settings: ClusterSettings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    pub(super) fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    pub(super) fn journal_topic(&self) -> String {
        self.settings.topic("journal")
    }

    /// What all clients share.
    pub(super) fn config(&self) -> ClientConfig {
        let settings = &self.settings;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", settings.brokers.join(","))
            .set("client.id", &settings.client_id)
            .set("socket.timeout.ms", "6000")
            // This counts until the broker's first answer: a connection to a busy one that is given up
            // sooner than it answers never comes about. Nobody waits for the end of it. Questions,
            // records and leases have deadlines of their own; while one broker says nothing the
            // library connects to the others; and a way that carries again is found by the kernel,
            // which repeats its attempt within 4 s.
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "500")
            .set("topic.metadata.refresh.fast.interval.ms", "100")
            .set("allow.auto.create.topics", "false")
            .set("log.connection.close", "false");
        let protocol = match (&settings.security.tls, &settings.security.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &settings.security.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.certificate_file),
                ("ssl.key.location", &tls.key_file),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    config.set(name, file.display().to_string());
                }
            }
        }
        if let Some(sasl) = &settings.security.sasl {
            config
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", &sasl.password);
        }
        config
    }

    /// The settings of the node's one producer.
    pub(super) fn producer_config(&self) -> ClientConfig {
        let mut config = self.config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", "0")
            // Without linger a batch is a record or two, which zstd makes hardly smaller.
            .set("compression.type", "lz4")
            // Not lower: a local timeout desynchronises the producer's sequence numbers.
            .set("message.timeout.ms", "10000")
            .set("request.timeout.ms", "5000")
            .set("message.max.bytes", RECORD_BYTES_MAX.to_string())
            // What may be on its way is bounded by `pending_bytes_max`, before it comes here.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647");
        config
    }

    /// A consumer with fixed assignments. It belongs to no group: the library only hands out messages
    /// to one that could.
    pub(super) fn consumer(&self, manner: Manner) -> Result<Consumer, JournalError> {
        let mut config = self.config();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_uncommitted")
            .set("group.id", self.settings.topic("readers"))
            .set("fetch.min.bytes", "1")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("check.crcs", "true");
        match manner {
            Manner::Journal => config
                // What is added to an assignment waits for the question that is under way.
                .set("fetch.wait.max.ms", "50")
                // A journal's offset that is not there is an incident.
                .set("auto.offset.reset", "error"),
            Manner::Compacted => config
                .set("fetch.wait.max.ms", "500")
                // What compaction took away is not missed.
                .set("auto.offset.reset", "earliest")
                .set("enable.partition.eof", "true"),
        };
        BaseConsumer::from_config_and_context(&config, Quiet)
            .map(|consumer| Consumer(Some(consumer)))
            .map_err(|error| unreachable(&error))
    }
}

/// What a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Records without gaps, from given offsets.
    Journal,
    /// What compaction has left of a topic, from its beginning; its end is told.
    Compacted,
}

/// A consumer that ends on a thread of its own: ending may wait for brokers that are gone.
pub(super) struct Consumer(Option<BaseConsumer<Quiet>>);

impl std::ops::Deref for Consumer {
    type Target = BaseConsumer<Quiet>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is taken out only when it is dropped")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let consumer = self.0.take();
        // Without a thread it ends here.
        let ending = std::thread::Builder::new().name("kafka-close".into());
        let _ = ending.spawn(move || drop(consumer));
    }
}

/// The library's own log lines, as far as an operator wants to see them: what goes wrong reaches
/// callers as errors, so they are details here.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, kafka.reason = reason, "librdkafka reports an error");
    }
}

impl ConsumerContext for Quiet {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(kafka.facility = facility, kafka.message = message, "librdkafka logs");
        }
        _ => tracing::debug!(kafka.facility = facility, kafka.message = message, "librdkafka logs"),
    }
}

pub(super) fn unreachable(error: &KafkaError) -> JournalError {
    JournalError::Unreachable { reason: format!("kafka: {error}") }
}

/// The library goes on by itself after these, and a question may be asked again.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::RequestTimedOut
                | Code::NetworkException
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::BrokerNotAvailable
                | Code::KafkaStorageError
                // A leader that was elected just now, and one that does not know yet that it is not.
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
                // Brokers hear of a new topic one after the other.
                | Code::UnknownTopic
                | Code::UnknownTopicId
                | Code::InvalidFetchSessionEpoch
                | Code::ThrottlingQuotaExceeded
                // Nothing is asked of the group, so its rights and its coordinator do not matter.
                | Code::GroupAuthorizationFailed
                | Code::WaitingForCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator
        )
    )
}
