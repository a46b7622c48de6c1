//! The settings of a node as a whole, room by room.

use std::path::{Path, PathBuf};

use super::kind::{Address, Bytes, LogFilter, Name, Subnet};
use super::scope::section;
use super::secret::Secret;
use super::value::Choice;

/// What is logged when nobody says otherwise.
const LOG_LEVEL: &str = "info";

/// Bodies behind which the record of a call, which says more than its body, might not fit into Kafka.
pub(super) const BODY_BYTES_MAX: u64 = 2 << 20;

section! {
    /// What stands above all tables of the file.
    pub struct Server {
        /// The public listener: `host:port`; port 0 picks a free one.
        listen: Address = address("127.0.0.1:8080");
        /// The listener of health and metrics. It never serves the API, and the other never serves
        /// these.
        ops_listen: Address = address("127.0.0.1:9090");
        /// The folder of the embedded journal and the state store.
        data_dir: PathBuf = PathBuf::from("./data");
        /// How long calls under way may take to end once a stop was asked for.
        shutdown_grace_s: u64 = 10, in 0..=600, unit "s";
    }

    /// The API edge.
    pub struct Http {
        /// Threads that take calls.
        workers: usize = cores(), in 1..=1024, unit "threads";
        /// The largest body of a call.
        body_bytes_max: Bytes = Bytes::mib(1), in Bytes::kib(1).0..=BODY_BYTES_MAX;
        /// How long a call may take before it is answered with a timeout. Less than a recovery looks back
        /// for calls that were carried out and not answered.
        request_timeout_ms: u64 = 3000, in 100..=8_000, unit "ms";
        /// How long an idle connection stays open.
        keep_alive_s: u64 = 75, in 1..=3600, unit "s";
        /// Connections that are open at the same time.
        connections_max: usize = 25_000, in 1..=1_000_000, unit "connections";
        /// Subnets of proxies in front of the API: a call that they hand on comes from the last address in
        /// its `X-Forwarded-For` that is none of theirs.
        trusted_proxies: Vec<Subnet> = Vec::new(), in 0..=100, unit "subnets";
    }

    /// The journal, whichever it is.
    pub struct Journal {
        /// Which journal: `embedded` keeps it in the data folder, `kafka` in a Kafka cluster.
        kind: JournalKind = JournalKind::Embedded, env "CORDON_JOURNAL";
        /// Partitions, fixed when the journal is created.
        partitions: u16 = 16, in 1..=4096, unit "partitions";
        /// The size at which the embedded journal begins a new segment file.
        segment_bytes: Bytes = Bytes::mib(64), in Bytes::mib(1).0..=Bytes::mib(1024).0;
        /// Appended and not yet durable at most; beyond it, calls are answered as overload.
        pending_bytes_max: Bytes = Bytes::mib(64), in Bytes::mib(16).0..=Bytes::mib(1024).0;
    }

    /// The Kafka cluster, if that is the journal.
    pub struct Kafka {
        /// Bootstrap servers.
        brokers: Vec<Address> = Vec::new(), in 1..=64, unit "brokers";
        /// What the names of all topics begin with.
        prefix: Name = name("cordon."), in 1..=100, unit "characters";
        /// Copies of each record, on different brokers, that new topics get.
        replication: u16 = 3, in 1..=15, unit "copies";
        /// Topics that may lose acknowledged records are taken, and made with one copy: for a
        /// developer's machine.
        development: bool = false;
        /// How connections to brokers are protected: `plaintext`, `tls`, `sasl_plaintext` or
        /// `sasl_tls`.
        security: KafkaSecurity = KafkaSecurity::Plaintext;
        /// Whose certificates are trusted, as PEM; the system's if not set.
        ca_file: Option<PathBuf> = None;
        /// The certificate that is shown to brokers, as PEM.
        certificate_file: Option<PathBuf> = None;
        /// Its key, as PEM.
        key_file: Option<PathBuf> = None;
        /// How the password is shown to brokers.
        sasl_mechanism: KafkaSaslMechanism = KafkaSaslMechanism::ScramSha512;
        /// The name that is shown to brokers.
        sasl_username: Option<Secret> = None;
        /// Its password.
        sasl_password: Option<Secret> = None;
    }

    /// This node among others.
    pub struct Node {
        /// The node's name, unique in its cluster.
        name: Name = host_name(), in 1..=64, unit "characters";
        /// The listener for other nodes; without it, one on a loopback address that only nodes on
        /// this machine reach.
        listen: Option<Address> = None;
        /// The address at which other nodes reach that listener; without it, the listener's own.
        advertise: Option<Address> = None;
        /// The secret that all nodes share and sign their calls with.
        secret: Option<Secret> = None, in 32..=4096, unit "bytes";
        /// Another one whose calls are accepted as well, while the nodes change from one to the other.
        other_secret: Option<Secret> = None, in 32..=4096, unit "bytes";
        /// The certificates of the authority that signs the nodes' certificates, and no others.
        tls_ca_file: Option<PathBuf> = None;
        /// This node's certificate, for servers and clients.
        tls_certificate_file: Option<PathBuf> = None;
        /// The certificate's private key.
        tls_key_file: Option<PathBuf> = None;
        /// How long a node may be silent before others take over its partitions.
        dead_after_ms: u64 = 5000, in 2000..=60_000, unit "ms";
        /// Who keeps a warm copy of a partition beside its owner: one other node, or all.
        standby: Standby = Standby::One;
    }

    /// The users' actors.
    pub struct Actors {
        /// Threads that users live on.
        arbiters: usize = (cores() / 2).max(1), in 1..=1024, unit "threads";
        /// Users kept in memory, all partitions together.
        resident_users_max: usize = 200_000, in 1..=100_000_000, unit "users";
        /// Memory that they may take, roughly.
        resident_bytes_max: Bytes = Bytes::mib(512), in Bytes::mib(1).0..=Bytes::mib(1 << 20).0;
        /// How long a user nobody asks for stays in memory.
        idle_s: u64 = 300, in 1..=86_400, unit "s";
        /// Commands that wait for one user.
        mailbox_max: usize = 1024, in 1..=65_536, unit "commands";
        /// Commands that wait for one partition.
        partition_mailbox_max: usize = 10_000, in 1..=1_000_000, unit "commands";
        /// Records of one partition that are appended and not yet durable.
        in_flight_max: usize = 20_000, in 1..=1_000_000, unit "records";
        /// Effects of one partition that wait for the other user's side.
        outbox_max: usize = 200_000, in 1..=10_000_000, unit "effects";
    }

    /// The state store: a checkpoint of what the journal says.
    pub struct Store {
        /// The longest time between two checkpoints while something changes.
        checkpoint_interval_ms: u64 = 10_000, in 10..=600_000, unit "ms";
        /// The most records between two checkpoints.
        checkpoint_records: u64 = 10_000, in 1..=10_000_000, unit "records";
        /// With a journal in Kafka: records of a partition after which its owner writes a snapshot of it,
        /// for nodes that begin with an empty store; 0 for never.
        snapshot_records: u64 = 1_000_000, in 0..=1_000_000_000, unit "records";
        /// Time after which it does so anyway, if anything changed.
        snapshot_interval_s: u64 = 86_400, in 1..=31_536_000, unit "s";
        /// Memory for blocks read from disk.
        cache_bytes: Bytes = Bytes::mib(64), in Bytes::mib(1).0..=Bytes::mib(64 << 10).0;
    }

    /// The subscribers of all apps.
    pub struct Webhooks {
        /// Subnets that addresses set through the API may lead to, besides public addresses. What
        /// stands in this file may lead anywhere.
        allowed_subnets: Vec<Subnet> = Vec::new(), in 0..=100, unit "subnets";
    }

    /// What is logged, and how. Logs go to standard error.
    pub struct Log {
        /// `human` for people, `json` for machines.
        format: LogFormat = LogFormat::Human;
        /// What is logged: a level, and other levels for single rooms. Libraries that say much speak from
        /// `warn` on, unless they are named.
        level: LogFilter = LogFilter(LOG_LEVEL.to_owned());
    }
}

/// Which journal a node writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// Segment files in the data folder.
    Embedded,
    /// Topics of a Kafka cluster.
    Kafka,
}

impl Choice for JournalKind {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("embedded", Self::Embedded), ("kafka", Self::Kafka)];
}

/// How connections to brokers are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaSecurity {
    /// Not at all.
    Plaintext,
    /// Encrypted.
    Tls,
    /// A password over an open connection.
    SaslPlaintext,
    /// A password over an encrypted connection.
    SaslTls,
}

impl Choice for KafkaSecurity {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("plaintext", Self::Plaintext),
        ("tls", Self::Tls),
        ("sasl_plaintext", Self::SaslPlaintext),
        ("sasl_tls", Self::SaslTls),
    ];
}

/// How a password is shown to brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the names of the mechanisms")]
pub enum KafkaSaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Choice for KafkaSaslMechanism {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("PLAIN", Self::Plain),
        ("SCRAM-SHA-256", Self::ScramSha256),
        ("SCRAM-SHA-512", Self::ScramSha512),
    ];
}

/// Who keeps a warm copy of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// The node that would own it next.
    One,
    /// Every node: right for a small cluster.
    All,
}

impl Choice for Standby {
    const CHOICES: &'static [(&'static str, Self)] = &[("one", Self::One), ("all", Self::All)];
}

/// The three files of a node's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeTls<'n> {
    /// The authority's certificates.
    pub ca: &'n Path,
    /// The node's certificate.
    pub certificate: &'n Path,
    /// Its private key.
    pub key: &'n Path,
}

impl Node {
    /// Where the listener for other nodes is bound: by default on a loopback address and any port.
    pub fn listen_or_default(&self) -> Address {
        self.listen.clone().unwrap_or_else(|| address("127.0.0.1:0"))
    }

    /// The address that other nodes are told, once the listener is bound to `port`. A port 0 stands
    /// for that one.
    pub fn reached_at(&self, port: u16) -> Address {
        let told = self.advertise.clone().unwrap_or_else(|| self.listen_or_default());
        match told.port() {
            0 => told.with_port(port),
            _ => told,
        }
    }

    /// The files of TLS between nodes, if that is set.
    pub fn tls(&self) -> Option<NodeTls<'_>> {
        Some(NodeTls {
            ca: self.tls_ca_file.as_deref()?,
            certificate: self.tls_certificate_file.as_deref()?,
            key: self.tls_key_file.as_deref()?,
        })
    }

    /// What does not go together, by setting.
    pub(super) fn conflicts(&self) -> Vec<(&'static str, &'static str)> {
        let mut conflicts = Vec::new();
        let files = [
            ("node.tls_ca_file", &self.tls_ca_file),
            ("node.tls_certificate_file", &self.tls_certificate_file),
            ("node.tls_key_file", &self.tls_key_file),
        ];
        if files.iter().any(|(_, file)| file.is_some()) {
            let missing = files.iter().filter(|(_, file)| file.is_none());
            conflicts.extend(
                missing.map(|(name, _)| (*name, "TLS between nodes needs all three files")),
            );
            if self.secret.is_some() {
                conflicts.push(("node.secret", "nodes use a secret or TLS, not both"));
            }
        }
        if self.other_secret.is_some() && self.secret.is_none() {
            conflicts.push(("node.other_secret", "nodes sign with node.secret, which is missing"));
        }
        let told = self.advertise.as_ref().or(self.listen.as_ref());
        if told.is_some_and(Address::is_wildcard) {
            let reason = "other nodes need an address that leads to this one";
            conflicts.push(("node.advertise", reason));
        }
        conflicts
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people, in colour on a terminal.
    Human,
    /// A JSON object per line.
    Json,
}

impl Choice for LogFormat {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("human", Self::Human), ("json", Self::Json)];
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("the default is a host and a port")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("the default is a name")
}

/// The machine's name as the kernel tells it. A name of our own stands in where it does not.
fn host_name() -> Name {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Name::parse(told.trim()).unwrap_or_else(|| name("node-1"))
}
