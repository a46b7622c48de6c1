//! Every setting: default, unit, limits; read and checked once.
//!
//! Settings come from a TOML file and from the environment; the environment wins. What is unknown
//! or out of its limits is refused with its line or variable and with what is allowed, all faults
//! at once. Each setting stands in one place, `node.rs` or `app.rs`; reading, checking, printing
//! and the names of variables follow from there. Printing never shows a secret. This room knows
//! values, not what is done with them.
//!
//! A variable is named after the table and the setting: `http.workers` is `CORDON_HTTP_WORKERS`,
//! and `webhook.url` of an app is `CORDON_WEBHOOK_URL`. Rule: extensions.md 6.

mod app;
mod apps;
mod development;
mod fault;
mod kind;
mod node;
mod rate;
mod scope;
mod secret;
mod show;
mod subscription;
#[cfg(test)]
mod tests;
mod together;
mod value;
mod webhook;

use std::path::Path;

use toml::de::DeTable;

pub use app::{Account, App, Block, C2c, Friend, Limits};
pub use apps::meant_app;
pub use development::{development_app, existing_development_app, make_data_dir};
pub use fault::{ConfigError, Fault, Place};
pub use kind::{Address, Bytes, LogFilter, Name, Subnet};
pub use node::{
    Actors, Http, Journal, JournalKind, Kafka, KafkaSaslMechanism, KafkaSecurity, Log, LogFormat,
    Node, NodeTls, Server, Standby, Store, Webhooks,
};
pub use rate::{COMMANDS, RateLimits};
pub use scope::{Environment, Setting, Source};
pub use secret::{Secret, Url};
pub use subscription::WebhookSubscription;
pub use webhook::{Before, ClientCertificate, Delivery, Others, Receiver, Webhook, WebhookCommand};

use scope::{Listens, Loader, PREFIX, Scope, Section};

/// The variable that names the file when the command line does not.
const FILE_VARIABLE: &str = "CORDON_CONFIG";

/// All settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners, data folder, stop.
    pub server: Server,
    /// The API edge.
    pub http: Http,
    /// The journal.
    pub journal: Journal,
    /// The Kafka cluster.
    pub kafka: Kafka,
    /// This node among others.
    pub node: Node,
    /// The users' actors.
    pub actors: Actors,
    /// The state store.
    pub store: Store,
    /// The subscribers of all apps.
    pub webhooks: Webhooks,
    /// What is logged.
    pub log: Log,
    /// The apps, no two with the same id. Empty when neither the file nor the environment has one:
    /// see [`Config::ensure_app`].
    pub apps: Vec<App>,
    /// What the environment says about an app that has no id yet.
    nameless: App,
    settings: Vec<Setting>,
}

/// The variables of this process that are ours.
pub fn environment() -> Environment {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    ours.collect()
}

impl Config {
    /// Reads the settings from `file`, else from the file that `CORDON_CONFIG` names, else from
    /// none, and from `environment`.
    ///
    /// Errors: [`ConfigError::Unreadable`], and [`ConfigError::Refused`] with every fault.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let named = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(Path::new);
        let Some(path) = file.or(named) else {
            return Self::parse(None, environment);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(Some((&path.display().to_string(), &text)), environment)
    }

    /// Reads the settings from `file`, its name and text, and from `environment`.
    ///
    /// Errors: [`ConfigError::Refused`].
    pub fn parse(
        file: Option<(&str, &str)>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let parsed = DeTable::parse(file.map_or("", |(_, text)| text));
        let mut loader = Loader::new(file, environment);
        let table = match &parsed {
            Ok(document) => document.get_ref(),
            Err(error) => {
                // The error itself would print the line, and with it perhaps a secret.
                let place = loader.line(error.span().map_or(0, |span| span.start));
                loader.refuse(place, "", error.message());
                return Err(ConfigError::Refused(loader.faults));
            }
        };
        let mut root =
            Scope::new(&mut loader, String::new(), PREFIX.to_owned(), Some(table), Listens::All);
        let server = Server::read(&mut root);
        let http = root.section("http");
        let journal: Journal = root.section("journal");
        let kafka: Kafka = root.section("kafka");
        let node: Node = root.section("node");
        let actors = root.section("actors");
        let store = root.section("store");
        let webhooks = root.section("webhooks");
        let log = root.section("log");
        let tables = apps::tables(&mut root);
        root.refuse_unknown();
        let (apps, nameless) = apps::read(&mut loader, &tables);

        loader.variable(FILE_VARIABLE);
        loader.refuse_unknown_variables();
        if journal.kind == JournalKind::Kafka && kafka.brokers.is_empty() {
            loader.refuse(Place::Nowhere, "kafka.brokers", "a journal in Kafka needs some");
        }
        for (setting, reason) in kafka.conflicts().into_iter().chain(node.conflicts()) {
            loader.refuse(Place::Nowhere, setting, reason);
        }
        let Loader { settings, mut faults, .. } = loader;
        if !faults.is_empty() {
            faults.sort();
            return Err(ConfigError::Refused(faults));
        }
        Ok(Self {
            server,
            http,
            journal,
            kafka,
            node,
            actors,
            store,
            webhooks,
            log,
            apps,
            nameless,
            settings,
        })
    }

    /// Sees to it that there is an app: if none is configured, the data folder's own development
    /// app, made on first use. Answers it if so.
    ///
    /// Errors: the data folder cannot be read or written.
    pub fn ensure_app(&mut self) -> anyhow::Result<Option<&App>> {
        if !self.apps.is_empty() {
            return Ok(None);
        }
        let App { id, keys, .. } = development_app(&self.server.data_dir)?;
        self.apps.push(App { id, keys, ..self.nameless.clone() });
        Ok(self.apps.first())
    }

    /// What is wrong with the setting at `path`, found by the code that uses its value.
    pub fn fault(&self, path: String, reason: impl ToString) -> Fault {
        let known = self.settings.iter().find(|setting| setting.path == path);
        let place = known.map_or(Place::Nowhere, |setting| setting.place.clone());
        Fault { place, setting: path, reason: reason.to_string() }
    }

    /// Every setting as it is in force, in the order in which people look for them.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}
