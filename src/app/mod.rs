//! The composition root: builds a node out of the rooms, and takes it down in order.

mod check;
mod cluster;
mod followers;
mod grounds;
mod operators;
mod phase;
mod settings;
mod subscribers;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use anyhow::{Context, Result};
use futures_util::future::{Either, select};
use prometheus_client::registry::Registry;
use tokio::task::{JoinHandle, spawn_local};

pub use self::check::check;
use self::cluster::Inside;
use self::followers::Followers;
use self::grounds::{Grounds, check_admins, open_journal};
use self::operators::Operators;
use self::phase::{Phase, State};
use self::settings::http_settings;
pub use self::settings::{kafka_cluster, kafka_settings};
use crate::actors::{ExecuteError, Users};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::{AppId, Command, ProfileChange, UserId, UserKey};
use crate::http;
use crate::journal::{Journal, JournalError, Origin, embedded};
use crate::store::{self, Store};
use crate::subscriptions::{self, Subscribers};
use crate::webhooks;

/// How long a start waits for the partitions before it serves without them.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often a starting node looks whether it is ready.
const START_POLL: Duration = Duration::from_millis(5);
/// How often the node looks after itself.
const LOOK_AFTER: Duration = Duration::from_millis(250);

/// A running node.
pub struct Node {
    /// Where the API is served.
    pub address: SocketAddr,
    /// Where health and metrics are served.
    pub ops_address: SocketAddr,
    /// The door to the users.
    pub users: Users,
    /// Which subscriptions each app has.
    pub subscribers: Arc<Subscribers>,
    store: Store,
    http: ServerHandle,
    operators: Operators,
    webhooks: Arc<webhooks::Handle>,
    cluster: Option<Inside>,
    caretaker: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Node {
    /// Starts a node and waits until it takes commands, or for `START_PATIENCE`: then it serves
    /// what it can, and `/readyz` says what is wrong. Must be called inside an actix system.
    ///
    /// Errors: an address is taken, a folder cannot be used, the journal or the state is not to be had.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self> {
        Self::start_until(config, clock, std::future::pending()).await
    }

    /// The same, but a node that is told to `stop` waits for nothing any more: it can be stopped.
    ///
    /// Errors: as [`Node::start`]'s.
    pub async fn start_until(
        config: &Config,
        clock: Clock,
        stop: impl Future<Output = ()>,
    ) -> Result<Self> {
        let listener = bind("listen", &config.server.listen)?;
        let operators = Operators::serve(&config.server.ops_listen).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            ops.address = %operators.address,
            "starting"
        );
        let begun = Self::begin(config, clock, stop, listener, operators.clone()).await;
        if begun.is_err() {
            operators.stop().await;
        }
        begun
    }

    /// Builds the node while operators are answered already.
    async fn begin(
        config: &Config,
        clock: Clock,
        stop: impl Future<Output = ()>,
        listener: TcpListener,
        operators: Operators,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        config::make_data_dir(&config.server.data_dir)?;

        let mut registry = Registry::default();
        let (journal, outside) = open_journal(config, &clock, &mut registry)?;
        operators.state.judge_by(journal.clone());
        check_admins(config)?;
        let store = open_store(config)?;
        let apps = subscribers::apps(config)?;
        let configured = subscribers::subscriptions(&apps)?;
        let mut grounds = Grounds { config, clock, journal, store, registry };
        let users = grounds.users(&configured, outside.as_ref())?;
        let webhooks = Arc::new(grounds.webhooks(configured, &users)?);
        let desks = grounds.desks();
        let Grounds { clock, journal, store, mut registry, .. } = grounds;
        let subscriptions_metrics = subscriptions::Metrics::default();
        subscriptions_metrics.register(&mut registry);
        let http_metrics = http::Metrics::new();
        http_metrics.register(&mut registry);

        let cluster = match outside {
            None => None,
            Some(outside) => {
                let clock = clock.clone();
                Some(outside.join(config, &users, &webhooks, clock, &mut registry)?)
            }
        };
        operators.show(registry);

        let subscribers = Arc::new(Subscribers::new(subscriptions::Parts {
            users: users.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            webhooks: &webhooks,
            desks: desks.clone(),
            metrics: subscriptions_metrics,
            apps,
            guard: self::subscribers::guard(config),
        }));
        let keeping = subscribers.begin();
        let caretaker = Caretaker {
            users: users.clone(),
            subscribers: subscribers.clone(),
            takes_part: cluster.as_ref().map(Inside::readiness),
            followers: Followers::new(users.clone(), webhooks.clone()),
            accounts: admins(config),
        };
        let caretaker = caretaker.begin(operators.state.clone(), stop).await;

        let server = http::serve(
            http_settings(config),
            users.clone(),
            subscribers.clone(),
            clock,
            http_metrics,
            desks,
            listener,
        )?;
        let http = server.handle();
        spawn_local(server);
        Ok(Self {
            address,
            ops_address: operators.address,
            users,
            subscribers,
            store,
            http,
            operators,
            webhooks,
            cluster,
            caretaker,
            keeping,
        })
    }

    /// Where other nodes reach this one, if it is one of several.
    pub fn node_address(&self) -> Option<&str> {
        self.cluster.as_ref().map(|cluster| cluster.address.as_str())
    }

    /// Stops in order: other nodes take over, no new calls, running ones finish, followers save their
    /// cursors, partitions are released, the store holds everything. If it is cut short nothing is lost:
    /// the journal has it all.
    pub async fn stop(mut self) {
        self.operators.state.set(Phase::Draining);
        if let Some(cluster) = &mut self.cluster {
            // Calls go on meanwhile, and find their owners elsewhere.
            cluster.leave().await;
        }
        self.http.stop(true).await;
        self.caretaker.abort();
        let _ = self.caretaker.await;
        self.keeping.abort();
        let _ = self.keeping.await;
        self.webhooks.stop().await;
        self.users.stop().await;
        if let Some(cluster) = self.cluster {
            cluster.close().await;
        }
        self.store.close();
        self.operators.stop().await;
    }
}

/// Looks after the node: what has to be done before it is ready, and how it is.
struct Caretaker {
    users: Users,
    subscribers: Arc<Subscribers>,
    /// Whether the node takes part in its cluster, if it has one.
    takes_part: Option<Box<dyn Fn() -> Result<(), String>>>,
    followers: Followers,
    /// Accounts that have to exist, until they do.
    accounts: Vec<UserKey>,
}

impl Caretaker {
    /// How the node is, as far as it can tell by itself.
    async fn look(&mut self) -> Phase {
        let health = self.users.health().await;
        match &self.takes_part {
            Some(takes_part) => {
                if let Err(reason) = takes_part() {
                    // What is served by now is followed all the same.
                    if self.subscribers.is_loaded() {
                        let _ = self.followers.keep_up().await;
                    }
                    return Phase::Unready(reason);
                }
            }
            None if health.serving < health.partitions => {
                let missing = health.partitions - health.serving;
                return Phase::Unready(format!(
                    "{missing} of {} partitions take no commands",
                    health.partitions
                ));
            }
            None => {}
        }
        if !self.subscribers.is_loaded() {
            return Phase::Unready("the subscriptions of the apps are not known yet".into());
        }
        if let Err(reason) = self.followers.keep_up().await {
            return Phase::Unready(reason);
        }
        while let Some(key) = self.accounts.last() {
            if let Err(error) = import(&self.users, *key).await {
                return Phase::Unready(error.to_string());
            }
            self.accounts.pop();
        }
        Phase::Ready
    }

    /// Brings the node up as far as it goes within the patience of a start and until `stop`, then
    /// keeps looking.
    async fn begin(mut self, state: Arc<State>, stop: impl Future<Output = ()>) -> JoinHandle<()> {
        let began = Instant::now();
        let coming_up = async {
            loop {
                let phase = self.look().await;
                if matches!(phase, Phase::Ready) || began.elapsed() >= START_PATIENCE {
                    break phase;
                }
                tokio::time::sleep(START_POLL).await;
            }
        };
        let phase = match select(pin!(coming_up), pin!(stop)).await {
            Either::Left((phase, _)) => phase,
            Either::Right(((), _)) => Phase::Draining,
        };
        if let Phase::Unready(reason) = &phase {
            tracing::error!(%reason, "the node serves, and is not ready yet");
        }
        state.set(phase);
        spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK_AFTER).await;
                state.set(self.look().await);
            }
        })
    }
}

/// Says so if there are users whom no call reaches: most likely the settings are those of another
/// folder.
fn warn_of_unknown_apps(config: &Config, store: &Store) {
    // A store that cannot be read is made anew, and has told so.
    let mut apps = store.tables().apps().unwrap_or_default();
    apps.retain(|known| config.apps.iter().all(|app| app.id != *known));
    if !apps.is_empty() {
        let ids: Vec<String> = apps.iter().map(AppId::to_string).collect();
        tracing::warn!(
            app.ids = ids.join(","),
            "the data folder has users of apps that the settings do not have: no call reaches them"
        );
    }
}

async fn import(users: &Users, key: UserKey) -> Result<(), ExecuteError> {
    if users.asker().imported(key.app, &[key.user]).await == [Ok(true)] {
        return Ok(());
    }
    let import = Command::ImportAccount(ProfileChange::default());
    users.asker().execute(key, import, Origin::own()).await.map(|_| ())
}

/// The accounts that exist by themselves: the admins of every app.
fn admins(config: &Config) -> Vec<UserKey> {
    let keys = config
        .apps
        .iter()
        .flat_map(|app| app.admins.iter().map(|admin| UserKey { app: app.id, user: *admin }));
    keys.collect()
}

/// Listens where `setting` says.
fn bind(setting: &str, address: &config::Address) -> Result<TcpListener> {
    TcpListener::bind(address.as_str())
        .with_context(|| format!("{setting}: cannot listen on {address}"))
}

fn open_embedded(config: &Config, registry: &mut Registry) -> Result<Arc<dyn Journal>> {
    // An empty journal in place of the one that is only half there is an empty world.
    let unfinished = unfinished_dir(&config.server.data_dir);
    anyhow::ensure!(
        !unfinished.exists(),
        "{} is an unfinished copy of a journal, which is not served: run the same cordon migrate --back \
         again to resume it, or remove the folder",
        unfinished.display()
    );
    let moved = moved_mark(&config.server.data_dir);
    anyhow::ensure!(
        !moved.exists(),
        "the journal of this folder was copied to Kafka and may be served from there; served here as well, \
         it would miss what was written since. Set journal.kind = \"kafka\"; to serve it here again all the \
         same, remove {}",
        moved.display()
    );
    let journal = embedded::Journal::open(embedded::Settings {
        partitions: config.journal.partitions,
        segment_bytes: config.journal.segment_bytes.0,
        pending_bytes_max: config.journal.pending_bytes_max.as_usize(),
        ..embedded::Settings::new(journal_dir(&config.server.data_dir))
    });
    let journal = match journal {
        Err(error @ JournalError::Corrupt { .. }) => {
            let advice = "restore the journal from a backup: a damaged one is not served";
            return Err(anyhow::Error::new(error).context(advice));
        }
        opened => opened?,
    };
    journal.metrics().register(registry);
    Ok(journal)
}

/// Where the embedded journal lies in the data folder.
pub fn journal_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("journal")
}

/// Where a copy of a journal lies in the data folder until it is whole.
pub fn unfinished_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("journal.unfinished")
}

/// Is there once the embedded journal was copied to Kafka: it is served nowhere else then.
pub fn moved_mark(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("journal.moved")
}

/// Where the state store lies in the data folder. May be deleted while the node is down.
pub fn state_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("state")
}

/// Opens the state store; one that cannot be opened is thrown away and rebuilt from the journal.
fn open_store(config: &Config) -> Result<Store> {
    let settings = store::Settings {
        dir: state_dir(&config.server.data_dir),
        cache_bytes: config.store.cache_bytes.0,
    };
    match Store::open(&settings) {
        Ok(store) => Ok(store),
        // An audit has it open; throwing it away would be a lie to that audit.
        Err(error @ store::StoreError::InUse { .. }) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the state store is unusable: rebuilding it from the journal");
            fs::remove_dir_all(&settings.dir)
                .with_context(|| format!("cannot remove {}", settings.dir.display()))?;
            Ok(Store::open(&settings)?)
        }
    }
}

/// The accounts that a development app has from the start, so that its first call finds somebody.
///
/// Errors: why the first one that failed was not imported.
pub async fn import_samples(users: &Users, app: AppId) -> Result<(), ExecuteError> {
    for name in SAMPLES {
        let user = UserId::parse(name).expect("the sample names are legal");
        import(users, UserKey { app, user }).await?;
    }
    Ok(())
}

/// Who they are.
pub const SAMPLES: [&str; 2] = ["amy", "bob"];
