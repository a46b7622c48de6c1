//! The settings of a node under test: a folder of its own, free ports, one app.

use std::path::Path;
use std::sync::Arc;

use cordon::config::{Config, Environment};
use tempfile::TempDir;

use super::{TestNode, TestSubscriber};

/// The app of rest-api.md 14, its key and its admin.
pub(crate) const APP: u32 = 1_400_000_001;
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const ADMIN: &str = "administrator";

/// What the clock of a test shows at first, in seconds since 1970. Rule: rest-api.md 14.
pub(crate) const NOW_S: i64 = 1_700_000_100;

/// When the UserSigs of tests are signed, and how long they are valid: also for a node with the
/// clock of the machine.
pub(super) const SIGNED_AT_S: i64 = 1_700_000_000;
pub(super) const EXPIRE_S: u64 = 100 * 365 * 86_400;

/// The settings of one node, as variables. One of them may name a file with further apps.
#[derive(Clone)]
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    environment: Environment,
    hooks: Vec<(String, String)>,
}

impl Setup {
    /// Few partitions and threads, because several nodes of tests run at once on small machines.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder for the test");
        let data_dir = folder.path().join("data").display().to_string();
        Self { folder: Arc::new(folder), environment: Environment::new(), hooks: Vec::new() }
            .set("LISTEN", "127.0.0.1:0")
            .set("OPS_LISTEN", "127.0.0.1:0")
            .set("DATA_DIR", &data_dir)
            .set("NODE_NAME", "node-of-tests")
            .set("HTTP_WORKERS", "2")
            // The machine may be busy: as long as a call may take at all.
            .set("HTTP_REQUEST_TIMEOUT_MS", "8000")
            .set("JOURNAL_PARTITIONS", "4")
            .set("ACTORS_ARBITERS", "2")
            .set("APP_ID", &APP.to_string())
            .set("APP_KEY", KEY)
            // Subscribers of tests are on this machine.
            .set("WEBHOOKS_ALLOWED_SUBNETS", "127.0.0.0/8")
            // Buckets do not refill while the clock stands still.
            .set("RATE_LIMITS", "off")
    }

    /// Sets the variable `CORDON_<name>`.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(format!("CORDON_{name}"), value.to_owned());
        self
    }

    /// Takes the variable `CORDON_<name>` away.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.environment.remove(&format!("CORDON_{name}"));
        self
    }

    /// The settings of `count` nodes of one cluster over the Kafka at `bootstrap`, with topics of
    /// their own.
    pub(crate) fn cluster(bootstrap: &str, count: usize) -> Vec<Self> {
        let prefix = format!("test.{}.", uuid::Uuid::now_v7());
        let node = |index: usize| {
            Self::new()
                .set("JOURNAL", "kafka")
                .set("KAFKA_BROKERS", bootstrap)
                .set("KAFKA_PREFIX", &prefix)
                .set("KAFKA_DEVELOPMENT", "true")
                .set("NODE_NAME", &format!("n{}", index + 1))
                .set("NODE_SECRET", KEY)
        };
        (0..count).map(node).collect()
    }

    /// Has the app's webhooks sent to `subscriber`, with waits that suit a test: none is repeated because
    /// the machine was busy when it was answered.
    pub(crate) fn webhook(self, subscriber: &TestSubscriber) -> Self {
        self.set("WEBHOOK_URL", &subscriber.url())
            .set("WEBHOOK_TIMEOUT_MS", "30000")
            .set("WEBHOOK_RETRY_MIN_MS", "20")
            .set("WEBHOOK_RETRY_MAX_MS", "200")
    }

    /// Has a node of a test do what no node should: a variable that only debug builds know.
    pub(crate) fn hook(mut self, variable: &str, value: &str) -> Self {
        self.hooks.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Those variables, and what they say.
    pub(crate) fn hooks(&self) -> &[(String, String)] {
        &self.hooks
    }

    /// Names a settings file with this text, beside the variables.
    pub(crate) fn file(self, text: &str) -> Self {
        let path = self.folder().join("cordon.toml");
        std::fs::write(&path, text).expect("a file of the test");
        self.set("CONFIG", &path.display().to_string())
    }

    /// The folder that is removed with the last of those who know it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's data folder.
    pub(crate) fn data_dir(&self) -> &Path {
        Path::new(&self.environment["CORDON_DATA_DIR"])
    }

    /// The variables.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The settings, read by the product's own reader.
    pub(crate) fn config(&self) -> Config {
        let parsed = Config::load(None, &self.environment);
        parsed.unwrap_or_else(|error| panic!("the settings of a test: {error}"))
    }

    /// Starts a node with a clock that stands still at [`NOW_S`].
    pub(crate) fn start(self) -> TestNode {
        TestNode::start(self, NOW_S)
    }
}
