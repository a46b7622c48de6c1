//! The composition root: builds a node out of the rooms, and takes it down in order.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use uuid::Uuid;

use crate::actors::{self, ExecuteError, Policies, Users};
use crate::clock::Clock;
use crate::config::{self, Config, JournalKind};
use crate::domain::{AppId, Command, Policy, ProfileChange, UserId, UserKey};
use crate::http::{self, ops};
use crate::journal::{Journal, Origin, Partition, ReaderRule, embedded};
use crate::store::{self, CursorMark, Store};
use crate::webhooks::{self, CursorError, Cursors, Position};

/// How long a start waits for the partitions before it serves without them.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often the node looks after itself.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// How long a node may be without a look before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    /// Where the API is served.
    pub address: SocketAddr,
    /// Where health and metrics are served.
    pub ops_address: SocketAddr,
    /// The door to the users.
    pub users: Users,
    store: Store,
    http: ServerHandle,
    ops: ServerHandle,
    webhooks: Arc<webhooks::Handle>,
    state: Arc<State>,
    caretaker: actix_web::rt::task::JoinHandle<()>,
}

/// What readiness is judged by.
struct State {
    journal: Arc<dyn Journal>,
    phase: Mutex<(Phase, Instant)>,
}

enum Phase {
    /// Not ready yet, or not any more, for this reason.
    Unready(String),
    Ready,
    Draining,
}

impl State {
    fn set(&self, phase: Phase) {
        let mut known = self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !matches!(known.0, Phase::Draining) {
            *known = (phase, Instant::now());
        }
    }

    fn ready(&self) -> Result<(), String> {
        let known = self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &known.0 {
            Phase::Draining => Err("the node is stopping".into()),
            // A full disk explains why partitions take no commands.
            Phase::Unready(reason) => Err(match self.journal.writable() {
                Ok(()) => reason.clone(),
                Err(error) => format!("{reason}: {error}"),
            }),
            Phase::Ready if known.1.elapsed() > STUCK_AFTER => {
                Err("the node has not looked after itself for a while".into())
            }
            Phase::Ready => self.journal.writable().map_err(|error| error.to_string()),
        }
    }
}

impl Node {
    /// Starts a node and waits until it takes commands, or for `START_PATIENCE`: then it serves
    /// what it can, and `/readyz` says what is wrong. Must be called inside an actix system.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self> {
        let listener = bind(config.server.listen.as_str())?;
        let ops_listener = bind(config.server.ops_listen.as_str())?;
        let address = listener.local_addr()?;
        let ops_address = ops_listener.local_addr()?;
        config::make_data_dir(&config.server.data_dir)?;

        let mut registry = Registry::default();
        let journal = open_journal(config, &mut registry)?;
        let store = open_store(config)?;
        let actors_metrics = actors::Metrics::default();
        actors_metrics.register(&mut registry);
        let parts = actors::Parts {
            node: config.node.name.as_str().to_owned(),
            journal: journal.clone(),
            store: store.clone(),
            clock: clock.clone(),
            policies: policies(config),
            settings: actor_settings(config, journal.partitions()),
            metrics: actors_metrics,
            elsewhere: Arc::new(actors::Alone),
        };
        let began = Instant::now();
        let users = Users::start(parts)?;
        tracing::info!(duration_ms = began.elapsed().as_millis() as u64, "the state is recovered");

        let webhook_metrics = webhooks::Metrics::default();
        webhook_metrics.register(&mut registry, journal.clone());
        let webhooks = webhooks::start(
            webhook_settings(config)?,
            journal.clone(),
            UserCursors(users.clone()),
            clock.clone(),
            webhook_metrics,
        )?;
        let http_metrics = http::Metrics::new();
        http_metrics.register(&mut registry);

        let starting = Phase::Unready("the node is starting".into());
        let state = Arc::new(State {
            journal: journal.clone(),
            phase: Mutex::new((starting, Instant::now())),
        });
        let readiness = {
            let state = state.clone();
            ops::Readiness::new(move || state.ready())
        };
        let ops_server = ops::serve(readiness, Arc::new(registry), ops_listener)?;
        let ops = ops_server.handle();
        actix_web::rt::spawn(ops_server);

        let webhooks = Arc::new(webhooks);
        let bringing_up = BringUp {
            users: users.clone(),
            webhooks: webhooks.clone(),
            partitions: (0..journal.partitions()).map(Partition).collect(),
            accounts: admins(config),
            done: false,
        };
        let caretaker = look_after(bringing_up, state.clone()).await;

        let server =
            http::serve(http_settings(config), users.clone(), clock, http_metrics, listener)?;
        let http = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { address, ops_address, users, store, http, ops, webhooks, state, caretaker })
    }

    /// Stops in order: no new calls, running ones finish, followers save their cursors, partitions
    /// are released, the store holds everything. If it is cut short nothing is lost: the journal has
    /// it all.
    pub async fn stop(self) {
        self.state.set(Phase::Draining);
        self.http.stop(true).await;
        self.caretaker.abort();
        // Whoever else held the handle has just been ended.
        let _ = self.caretaker.await;
        if let Some(webhooks) = Arc::into_inner(self.webhooks) {
            webhooks.stop().await;
        }
        self.users.stop().await;
        self.store.close();
        self.ops.stop(false).await;
    }
}

/// What has to be done once before a node is ready; it is tried again until it succeeds.
struct BringUp {
    users: Users,
    webhooks: Arc<webhooks::Handle>,
    partitions: Vec<Partition>,
    accounts: Vec<UserKey>,
    done: bool,
}

impl BringUp {
    async fn attempt(&mut self) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
        self.webhooks.follow(&self.partitions).await.map_err(|error| error.to_string())?;
        for key in &self.accounts {
            import(&self.users, *key).await.map_err(|error| error.to_string())?;
        }
        self.done = true;
        Ok(())
    }

    /// How the node is, as far as it can tell by itself.
    async fn look(&mut self) -> Phase {
        let health = self.users.health().await;
        if health.serving < health.partitions {
            let missing = health.partitions - health.serving;
            return Phase::Unready(format!(
                "{missing} of {} partitions take no commands",
                health.partitions
            ));
        }
        match self.attempt().await {
            Ok(()) => Phase::Ready,
            Err(reason) => Phase::Unready(reason),
        }
    }
}

/// Brings the node up as far as it goes within the patience of a start, then keeps looking.
async fn look_after(
    mut bringing_up: BringUp,
    state: Arc<State>,
) -> actix_web::rt::task::JoinHandle<()> {
    bringing_up.users.ready(START_PATIENCE).await;
    let phase = bringing_up.look().await;
    if let Phase::Unready(reason) = &phase {
        tracing::error!(%reason, "the node serves without being ready");
    }
    state.set(phase);
    actix_web::rt::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_AFTER).await;
            state.set(bringing_up.look().await);
        }
    })
}

async fn import(users: &Users, key: UserKey) -> Result<(), ExecuteError> {
    if users.imported(key.app, &[key.user]).await? == [true] {
        return Ok(());
    }
    let origin = Origin {
        operator: "cordon".into(),
        request: Uuid::now_v7(),
        ip: "".into(),
        platform: "RESTAPI".into(),
    };
    users.execute(key, Command::ImportAccount(ProfileChange::default()), origin).await.map(|_| ())
}

/// The accounts that exist by themselves: the admins of every app.
fn admins(config: &Config) -> Vec<UserKey> {
    let keys = config
        .apps
        .iter()
        .flat_map(|app| app.admins.iter().map(|admin| UserKey { app: app.id, user: *admin }));
    keys.collect()
}

fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

fn open_journal(config: &Config, registry: &mut Registry) -> Result<Arc<dyn Journal>> {
    match config.journal.kind {
        JournalKind::Embedded => {
            let journal = embedded::Journal::open(embedded::Settings {
                partitions: config.journal.partitions,
                segment_bytes: config.journal.segment_bytes.0,
                pending_bytes_max: config.journal.pending_bytes_max.as_usize(),
                ..embedded::Settings::new(journal_dir(&config.server.data_dir))
            })?;
            journal.metrics().register(registry);
            Ok(journal)
        }
        JournalKind::Kafka => bail!(
            "a journal in Kafka is not in this version yet: set journal.kind (CORDON_JOURNAL) to \
             embedded"
        ),
    }
}

/// Where the embedded journal lies in the data folder.
pub fn journal_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("journal")
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

fn policies(config: &Config) -> Policies {
    let policy = |app: &config::App| Policy {
        blocks_max: app.limits.blocks_max,
        friends_max: app.limits.friends_max,
        requests_max: app.limits.requests_max,
        groups_max: app.limits.groups_max,
        remain_friends: app.block.remain_friends,
        import_ignores_blocklist: app.friend.import_ignores_blocklist,
        default_allow_type: app.friend.default_allow_type,
    };
    config.apps.iter().map(|app| (app.id, policy(app))).collect()
}

fn actor_settings(config: &Config, partitions: u16) -> actors::Settings {
    let share = usize::from(partitions.max(1));
    actors::Settings {
        arbiters: config.actors.arbiters,
        residents_max: (config.actors.resident_users_max / share).max(1),
        resident_bytes_max: config.actors.resident_bytes_max.as_usize() / share,
        idle_max: Duration::from_secs(config.actors.idle_s),
        mailbox_max: config.actors.mailbox_max,
        partition_mailbox_max: config.actors.partition_mailbox_max,
        in_flight_max: config.actors.in_flight_max,
        // Half of it, because the last record admitted may be a large one.
        in_flight_bytes_max: config.journal.pending_bytes_max.as_usize() / share / 2,
        outbox_max: config.actors.outbox_max,
        time_limit: Duration::from_millis(config.http.request_timeout_ms),
        checkpoint_interval: Duration::from_millis(config.store.checkpoint_interval_ms),
        checkpoint_records: config.store.checkpoint_records,
        ..actors::Settings::default()
    }
}

fn http_settings(config: &Config) -> http::Settings {
    let app = |app: &config::App| http::App {
        id: app.id,
        enabled: app.enabled,
        admins: app.admins.iter().map(ToString::to_string).collect(),
        keys: app.keys.iter().map(|key| key.reveal().to_owned()).collect(),
        limits: limits(app),
        delete_allowed: app.account.delete_allowed,
    };
    let workers = config.http.workers;
    http::Settings {
        node: config.node.name.as_str().to_owned(),
        apps: config.apps.iter().map(app).collect(),
        body_bytes_max: config.http.body_bytes_max.as_usize(),
        request_timeout: Duration::from_millis(config.http.request_timeout_ms),
        workers: Some(workers),
        connections_max: config.http.connections_max.div_ceil(workers.max(1)),
        keep_alive: Duration::from_secs(config.http.keep_alive_s),
        shutdown_timeout_s: config.server.shutdown_grace_s,
        ..http::Settings::default()
    }
}

fn limits(app: &config::App) -> http::Limits {
    if app.rate_limits == config::RateLimits::Off {
        return http::Limits::Off;
    }
    let overrides = http::Operation::ALL.iter().map(|operation| {
        let limit = app.rate_limits.per_second(operation.command());
        (*operation, limit.unwrap_or(http::settings::CALLS_PER_SECOND_MAX))
    });
    http::Limits::PerCommand {
        overrides: overrides.collect(),
        whole_app: app.rate_limits.app_per_second(),
    }
}

fn webhook_settings(config: &Config) -> Result<webhooks::Settings> {
    let mut settings = webhooks::Settings::default();
    for app in &config.apps {
        let Some(url) = &app.webhook.url else { continue };
        let token = app.webhook.token.as_ref().map(config::Secret::reveal);
        let endpoint = webhooks::Endpoint::parse(url.reveal(), token)
            .with_context(|| format!("the webhook of app {}", app.id))?;
        let names = app.webhook.commands.iter().map(|command| command.0);
        settings.subscriptions.push(webhooks::Subscription {
            app: app.id,
            endpoint,
            commands: names.filter_map(webhooks::CallbackCommand::from_name).collect(),
            attempt_timeout_ms: app.webhook.timeout_ms,
            schedule: webhooks::Schedule {
                first_ms: app.webhook.retry_min_ms,
                max_ms: app.webhook.retry_max_ms,
                call_once: app.webhook.call_once,
            },
        });
    }
    Ok(settings)
}

/// The cursors of the followers lie in the partitions that they follow.
#[derive(Clone)]
struct UserCursors(Users);

fn position(mark: CursorMark) -> Position {
    Position { next: mark.next, rule: ReaderRule::resume(mark.epoch, mark.n) }
}

fn cursor_error(error: ExecuteError) -> CursorError {
    CursorError::Unavailable(error.to_string())
}

impl Cursors for UserCursors {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Position>, Position), CursorError> {
        let (cursor, end) = self.0.cursor(partition, subscription).await.map_err(cursor_error)?;
        Ok((cursor.map(position), position(end)))
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        position: Position,
    ) -> Result<(), CursorError> {
        let mark =
            CursorMark { next: position.next, epoch: position.rule.epoch(), n: position.rule.n() };
        self.0.save_cursor(partition, subscription, mark).await.map_err(cursor_error)
    }
}

/// The accounts that a development app has from the start, so that its first call finds somebody.
pub async fn import_samples(users: &Users, app: AppId) -> Result<(), ExecuteError> {
    for name in SAMPLES {
        let user = UserId::parse(name).expect("the sample names are legal");
        import(users, UserKey { app, user }).await?;
    }
    Ok(())
}

/// Who they are.
pub const SAMPLES: [&str; 2] = ["amy", "bob"];
