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
use crate::journal::JournalError;

/// How long a question to the cluster may take: a broker may be electing a leader meanwhile.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

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
            .set("socket.connection.setup.timeout.ms", "3000")
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
            .set("compression.type", "zstd")
            // Not lower: a local timeout desynchronises the producer's sequence numbers.
            .set("message.timeout.ms", "10000")
            .set("request.timeout.ms", "5000")
            .set("message.max.bytes", "1048576")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "262144");
        config
    }

    /// A consumer with fixed assignments that knows no group.
    pub(super) fn consumer(&self, from_start: bool) -> Result<Consumer, JournalError> {
        let mut config = self.config();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_uncommitted")
            // librdkafka has no messages for a consumer without one; it is never joined.
            .set("group.id", self.settings.topic("readers"))
            .set("fetch.wait.max.ms", "50")
            .set("fetch.min.bytes", "1")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            // A journal's offset that is not there is an incident.
            .set("auto.offset.reset", if from_start { "earliest" } else { "error" })
            .set("check.crcs", "true");
        BaseConsumer::from_config_and_context(&config, Quiet).map_err(|error| unreachable(&error))
    }
}

pub(super) type Consumer = BaseConsumer<Quiet>;

/// The library's own log lines, as far as an operator wants to see them: what goes wrong reaches
/// callers as errors, so they are details here.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Quiet {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, message, "kafka");
        }
        _ => tracing::debug!(facility, message, "kafka"),
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
            Code::PartitionEOF
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NetworkException
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
        )
    )
}
