//! Which subscriptions each app has: those of the settings, and those that were set by calls and are
//! kept by a stream of the app.
//!
//! Every node knows them all: it asks the streams' owners once a second whether anything has changed,
//! and at once after a change of its own. What it knows goes to the webhooks, which serve exactly that.
//! A subscription that was set has its place in every partition before anybody is told so, so it does
//! not matter that other nodes learn of it a moment later.
//!
//! The node that owns an app's stream ends its replays once they have told everything. Each node ends,
//! in the partitions that it serves, cursors of subscriptions and replays that are no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::rt;
use futures_util::future::join_all;
use uuid::Uuid;

use super::seal::Sealer;
use crate::actors::{ExecuteError, Seat, Users};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::{
    AppId, BeforeTerms, Command, DeliveryTerms, FailurePolicy, Fallback, Format, Replay,
    SealedSecret, Subscription, Subscriptions, UserKey, keeper,
};
use crate::http::{Source, State, SubscriptionSeen};
use crate::journal::{Cursor, Journal, Origin, Partition, partition_of};
use crate::webhooks::{self, EndpointError, MAIN};

/// How often it is asked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often before everything is known for the first time.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many looks there are between two sweeps of cursors that belong to nothing any more.
const LOOKS_PER_SWEEP: u32 = 30;
/// Partitions that are asked at the same time.
const ASKED_AT_ONCE: usize = 64;

/// What the cursors of all subscriptions begin with.
const CURSORS: &str = "webhook/";

/// The subscriptions of all apps.
pub struct Directory {
    pub(super) users: Users,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Clock,
    webhooks: Weak<webhooks::Handle>,
    apps: BTreeMap<AppId, Terms>,
    known: Mutex<BTreeMap<AppId, Subscriptions>>,
    /// The order in which the webhooks are told.
    telling: tokio::sync::Mutex<()>,
    loaded: AtomicBool,
}

/// What the settings say about an app.
struct Terms {
    sealer: Sealer,
    configured: Vec<Configured>,
}

/// A subscription of the settings.
#[derive(Clone, Debug)]
struct Configured {
    subscription: Subscription,
    token: Option<String>,
}

/// Who answers a question before the fact, and on which terms.
#[derive(Clone, Debug)]
pub struct BeforeTarget {
    /// The subscription, with its address and secrets.
    pub subscription: webhooks::Subscription,
    /// What happens without an answer.
    pub terms: BeforeTerms,
}

impl Directory {
    /// Of the apps of `config`; nothing that was set by calls is known yet.
    ///
    /// Errors: an address in the settings cannot be called.
    pub(super) fn new(
        config: &Config,
        users: Users,
        journal: Arc<dyn Journal>,
        clock: Clock,
        webhooks: &Arc<webhooks::Handle>,
    ) -> Self {
        let terms = |app: &config::App| {
            let keys = app.keys.iter().map(config::Secret::reveal);
            Terms { sealer: Sealer::new(app.id, keys), configured: configured(app) }
        };
        Self {
            users,
            journal,
            clock,
            webhooks: Arc::downgrade(webhooks),
            apps: config.apps.iter().map(|app| (app.id, terms(app))).collect(),
            known: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            loaded: AtomicBool::new(false),
        }
    }

    /// Keeps up until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut looks = 0_u32;
        loop {
            let changed = join_all(self.apps.keys().map(|app| self.refresh(*app))).await;
            let all = changed.iter().all(Result::is_ok);
            let is_first = all && !self.is_loaded();
            if is_first || changed.iter().any(|changed| *changed == Ok(true)) {
                self.tell().await;
            }
            if is_first {
                self.loaded.store(true, Ordering::Release);
            }
            if self.is_loaded() {
                self.finish_replays().await;
                if looks.is_multiple_of(LOOKS_PER_SWEEP) {
                    self.sweep().await;
                }
                looks = looks.wrapping_add(1);
            }
            tokio::time::sleep(if self.is_loaded() { LOOK_EVERY } else { FIRST_LOOK_EVERY }).await;
        }
    }

    /// Whether everything was known once: before that nothing is followed.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Asks for what was set in `app`; answers whether it is something new.
    pub(super) async fn refresh(&self, app: AppId) -> Result<bool, ExecuteError> {
        let sequence = self.with(|known| known.get(&app).map(|known| known.sequence));
        let Some(new) = self.users.subscriptions(app, sequence).await? else { return Ok(false) };
        Ok(self.with(|known| {
            // Of two answers that cross, the later one stands.
            let is_new = known.get(&app).is_none_or(|known| known.sequence < new.sequence);
            if is_new {
                known.insert(app, *new);
            }
            is_new
        }))
    }

    /// Asks for what was set in `app`, and has the webhooks serve it at once.
    pub(super) async fn renew(&self, app: AppId) -> Result<(), ExecuteError> {
        self.refresh(app).await?;
        self.tell().await;
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<AppId, Subscriptions>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was set in `app`, as far as it is known here.
    pub(super) fn known(&self, app: AppId) -> Subscriptions {
        self.with(|known| known.get(&app).cloned().unwrap_or_default())
    }

    /// Has the webhooks serve what is known.
    async fn tell(&self) {
        let _turn = self.telling.lock().await;
        if let Some(webhooks) = self.webhooks.upgrade() {
            webhooks.serve(self.served()).await;
        }
    }

    /// Everything that is served: subscriptions and replays of all apps.
    pub(super) fn served(&self) -> Vec<webhooks::Subscription> {
        let apps = self.apps.keys().flat_map(|app| {
            let known = self.known(*app);
            let each = self.all(*app, &known).into_iter().map(|one| one.served);
            let replays = known.replays.iter().filter_map(|replay| self.replay(*app, replay));
            each.chain(replays).collect::<Vec<_>>()
        });
        apps.collect()
    }

    /// Every subscription of `app`, by name. One of the settings hides one of the same name that was
    /// set; it goes on where that one stood.
    fn all(&self, app: AppId, known: &Subscriptions) -> Vec<One> {
        let Some(terms) = self.apps.get(&app) else { return Vec::new() };
        let mut all: BTreeMap<&str, One> = BTreeMap::new();
        for set in &known.set {
            let opened: Vec<Option<String>> = set
                .secrets
                .iter()
                .map(|secret| terms.sealer.open(&set.name, &secret.sealed))
                .collect();
            let held = opened.iter().any(Option::is_none);
            let token = opened.into_iter().next().flatten();
            let one = One::of(app, set, token.as_deref(), held, known, Source::Call);
            match one {
                Ok(one) => drop(all.insert(&set.name, one)),
                // It was checked when it was set; nothing is sent to what is no address any more.
                Err(error) => tracing::error!(
                    app.id = app.0, webhook.subscription = &*set.name, %error,
                    "a subscription's address cannot be called"
                ),
            }
            if held {
                tracing::warn!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    "a subscription is held: its secrets cannot be read with the keys that the app has"
                );
            }
        }
        for Configured { subscription, token } in &terms.configured {
            let one = One::of(app, subscription, token.as_deref(), false, known, Source::Settings);
            all.extend(one.ok().map(|one| (&*subscription.name, one)));
        }
        all.into_values().collect()
    }

    /// Every subscription of `app` as it is shown.
    pub(super) fn seen(&self, app: AppId) -> Vec<SubscriptionSeen> {
        let known = self.known(app);
        self.all(app, &known).into_iter().map(|one| one.seen).collect()
    }

    /// One subscription of `app`, as it is shown and as it is served.
    pub(super) fn find(
        &self,
        app: AppId,
        name: &str,
    ) -> Option<(SubscriptionSeen, webhooks::Subscription)> {
        let known = self.known(app);
        let all = self.all(app, &known).into_iter();
        all.map(|one| (one.seen, one.served)).find(|(seen, _)| *seen.subscription.name == *name)
    }

    /// Whether the settings have a subscription of this name.
    pub(super) fn is_configured(&self, app: AppId, name: &str) -> bool {
        let configured = self.apps.get(&app).map_or(&[][..], |terms| &terms.configured);
        configured.iter().any(|known| *known.subscription.name == *name)
    }

    /// A replay as it is served: on the terms of its subscription as they are now.
    pub(super) fn replay(&self, app: AppId, replay: &Replay) -> Option<webhooks::Subscription> {
        let (seen, mut served) = self.find(app, &replay.subscription)?;
        if let Some(url) = &replay.url {
            served.endpoint = served.endpoint.elsewhere(url).ok()?;
            served.enabled = seen.subscription.enabled && seen.state != State::Held;
        }
        if !replay.commands.is_empty() {
            let narrowed = seen.subscription.commands.iter();
            let narrowed = narrowed.filter(|name| replay.commands.contains(name));
            let narrowed = narrowed.filter_map(|name| webhooks::CallbackCommand::from_name(name));
            served.commands = narrowed.collect();
        }
        served.seek = None;
        served.replay = Some(replay.clone());
        Some(served)
    }

    /// Seals and opens the secrets of `app`.
    pub(super) fn sealer(&self, app: AppId) -> Option<&Sealer> {
        self.apps.get(&app).map(|terms| &terms.sealer)
    }

    /// Who answers the question `command` of `app` before the fact: the first that asks for it, `main`
    /// before the others, those by name. None if nobody is to be asked.
    pub fn before(&self, app: AppId, command: &str) -> Option<BeforeTarget> {
        let known = self.known(app);
        let mut all = self.all(app, &known);
        all.sort_by_key(|one| *one.seen.subscription.name != *MAIN);
        let asks = |one: &One| {
            let is_asked = one.seen.subscription.commands.iter().any(|name| **name == *command);
            is_asked && one.seen.state == State::Serving
        };
        let found = all.into_iter().find(asks)?;
        let terms = found.seen.subscription.before;
        Some(BeforeTarget { subscription: found.served, terms })
    }

    /// Gives the subscription a place in every partition, whoever owns it.
    pub(super) async fn begin_everywhere(
        &self,
        app: AppId,
        name: &str,
    ) -> Result<(), ExecuteError> {
        let name = webhooks::cursor_name(app, name);
        let all: Vec<Partition> = (0..self.users.partitions()).map(Partition).collect();
        for some in all.chunks(ASKED_AT_ONCE) {
            let begun = some.iter().map(|partition| self.users.begin_cursor(*partition, &name));
            join_all(begun).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        Ok(())
    }

    /// Where the follower `cursor` stands in each of `partitions`, as far as it has a place there.
    pub(super) async fn cursors(
        &self,
        cursor: &str,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, Cursor>, ExecuteError> {
        let mut found = BTreeMap::new();
        for some in partitions.chunks(ASKED_AT_ONCE) {
            let seen = some.iter().map(async |partition| {
                let seen = self.users.cursors(*partition, cursor).await?;
                let mut exactly = seen.cursors.into_iter().filter(|(name, _)| name == cursor);
                Ok::<_, ExecuteError>((*partition, exactly.next().map(|(_, cursor)| cursor)))
            });
            for seen in join_all(seen).await {
                let (partition, cursor) = seen?;
                found.extend(cursor.map(|cursor| (partition, cursor)));
            }
        }
        Ok(found)
    }

    fn serves(&self, partition: Partition) -> bool {
        let seats = self.users.seats();
        matches!(seats.get(usize::from(partition.0)), Some(Seat::Serving { .. }))
    }

    /// Ends the replays that have told everything, of the apps whose streams this node owns.
    async fn finish_replays(&self) {
        for app in self.apps.keys().copied() {
            let key = UserKey { app, user: keeper() };
            if !self.serves(partition_of(&key, self.users.partitions())) {
                continue;
            }
            let mut ended = false;
            for replay in self.known(app).replays {
                if self.is_finished(app, &replay).await {
                    let end = Command::EndReplay { number: replay.number, completed: true };
                    ended |= self.users.execute(key, end, own_origin()).await.is_ok();
                }
            }
            if ended {
                // What cannot be asked now is asked with the next look.
                let _ = self.renew(app).await;
            }
        }
    }

    async fn is_finished(&self, app: AppId, replay: &Replay) -> bool {
        let Some(served) = self.replay(app, replay) else { return false };
        let ranges = replay.ranges.iter().map(|(number, _, until)| (Partition(*number), *until));
        let ranges: BTreeMap<Partition, u64> = ranges.collect();
        let partitions: Vec<Partition> = ranges.keys().copied().collect();
        let Ok(cursors) = self.cursors(&served.cursor_name(), &partitions).await else {
            return false;
        };
        ranges.iter().all(|(partition, until)| {
            cursors.get(partition).is_some_and(|cursor| {
                cursor.place.next.0 >= *until && cursor.progress.parked.is_empty()
            })
        })
    }

    /// Ends, in the partitions that this node serves, cursors of what is no more.
    ///
    /// The cursors are looked at first and what there is afterwards: what has a place in a partition was
    /// recorded before, so a new subscription is never taken for one that is gone.
    async fn sweep(&self) {
        let all = (0..self.users.partitions()).map(Partition);
        for partition in all.filter(|partition| self.serves(*partition)) {
            let Ok(seen) = self.users.cursors(partition, CURSORS).await else { continue };
            let named = |(name, _): &(String, Cursor)| Some((app_of(name)?, name.clone()));
            let mut orphans: Vec<(AppId, String)> = {
                let served = self.names();
                let cursors = seen.cursors.iter().filter_map(named);
                cursors.filter(|(_, name)| !served.contains(name)).collect()
            };
            // An app that is not in the settings at present keeps its places.
            orphans.retain(|(app, _)| self.apps.contains_key(app));
            let apps: BTreeSet<AppId> = orphans.iter().map(|(app, _)| *app).collect();
            for app in apps {
                if self.refresh(app).await.is_err() {
                    orphans.retain(|(other, _)| *other != app);
                }
            }
            let served = self.names();
            for (_, name) in orphans.into_iter().filter(|(_, name)| !served.contains(name)) {
                // Whatever is in the way, the next sweep meets it again.
                if self.users.save_cursor(partition, &name, Cursor::ended()).await.is_ok() {
                    tracing::info!(
                        webhook.subscription = name,
                        journal.partition = partition.0,
                        "the place of a subscription that is no more is given up"
                    );
                }
            }
        }
    }

    /// The names of all cursors that belong to something.
    fn names(&self) -> BTreeSet<String> {
        let apps = self.apps.keys().flat_map(|app| {
            let known = self.known(*app);
            let configured = self.apps.get(app).map_or(&[][..], |terms| &terms.configured);
            let set = known.set.iter().chain(configured.iter().map(|known| &known.subscription));
            let subscriptions = set.map(|set| webhooks::cursor_name(*app, &set.name));
            let replays = known.replays.iter();
            let replays = replays.filter_map(|replay| self.replay(*app, replay));
            let replays = replays.map(|replay| replay.cursor_name());
            subscriptions.chain(replays).collect::<Vec<_>>()
        });
        apps.collect()
    }
}

/// A subscription as it is shown and as it is served.
struct One {
    seen: SubscriptionSeen,
    served: webhooks::Subscription,
}

impl One {
    fn of(
        app: AppId,
        set: &Subscription,
        token: Option<&str>,
        held: bool,
        known: &Subscriptions,
        source: Source,
    ) -> Result<Self, EndpointError> {
        let seek = known.seek(&set.name);
        let mut served = runtime(app, set, token)?;
        served.seek = seek.cloned();
        let state = match set {
            _ if held => State::Held,
            Subscription { url: None, .. } => State::Pulled,
            Subscription { enabled: false, .. } => State::Off,
            _ => State::Serving,
        };
        served.enabled = state == State::Serving;
        let term = seek.map_or(0, |seek| seek.term);
        let seen = SubscriptionSeen { subscription: set.clone(), source, state, term };
        Ok(Self { seen, served })
    }
}

/// Where the calls of a subscription would go that is only pulled: none are made.
const NOWHERE: &str = "http://nowhere.invalid/";

/// A subscription as the webhooks serve it, with its newest secret opened. The one place where what was
/// set becomes what is served.
///
/// Errors: nothing can be called at its address.
pub(super) fn runtime(
    app: AppId,
    set: &Subscription,
    token: Option<&str>,
) -> Result<webhooks::Subscription, EndpointError> {
    let names = set.commands.iter();
    Ok(webhooks::Subscription {
        app,
        name: set.name.to_string(),
        endpoint: webhooks::Endpoint::parse(set.url.as_deref().unwrap_or(NOWHERE), token)?,
        commands: names.filter_map(|name| webhooks::CallbackCommand::from_name(name)).collect(),
        enabled: set.enabled && set.url.is_some(),
        delivery: set.delivery,
        seek: None,
        replay: None,
    })
}

/// The app that a cursor's name is about.
fn app_of(cursor: &str) -> Option<AppId> {
    let rest = cursor.strip_prefix(CURSORS)?;
    rest.split('/').next()?.parse().ok().map(AppId)
}

/// Who asks for what the node does by itself.
fn own_origin() -> Origin {
    Origin {
        operator: "cordon".into(),
        request: Uuid::now_v7(),
        ip: "".into(),
        platform: "RESTAPI".into(),
    }
}

/// The subscriptions of an app's settings: the main one first, if it has an address.
fn configured(app: &config::App) -> Vec<Configured> {
    let webhook = &app.webhook;
    let names = |commands: &[config::WebhookCommand]| -> Vec<Box<str>> {
        commands.iter().map(|command| command.0.into()).collect()
    };
    let secrets = |token: &Option<config::Secret>| {
        let secret = token.iter().map(|_| SealedSecret { sealed: "".into(), until: None });
        secret.collect::<Vec<_>>()
    };
    let reveal = |token: &Option<config::Secret>| token.as_ref().map(|t| t.reveal().to_owned());
    let main = webhook.url.as_ref().map(|url| Configured {
        subscription: Subscription {
            name: MAIN.into(),
            url: Some(url.reveal().into()),
            commands: names(&webhook.commands),
            enabled: true,
            format: Format::Reference,
            secrets: secrets(&webhook.token),
            headers: true,
            delivery: DeliveryTerms {
                timeout_ms: webhook.timeout_ms,
                retry_min_ms: webhook.retry_min_ms,
                retry_max_ms: webhook.retry_max_ms,
                call_once: webhook.call_once,
                ..DeliveryTerms::default()
            },
            before: BeforeTerms::default(),
        },
        token: reveal(&webhook.token),
    });
    let further = webhook.subscription.iter().map(|other| Configured {
        subscription: Subscription {
            name: other.name.as_str().into(),
            url: other.url.as_ref().map(|url| url.reveal().into()),
            commands: names(&other.commands),
            enabled: other.enabled,
            format: match other.format {
                config::WebhookFormat::Reference => Format::Reference,
                config::WebhookFormat::Standard => Format::Standard,
            },
            secrets: secrets(&other.token),
            headers: other.headers,
            delivery: delivery_terms(other),
            before: before_terms(other),
        },
        token: reveal(&other.token),
    });
    main.into_iter().chain(further).collect()
}

fn delivery_terms(of: &config::WebhookSubscription) -> DeliveryTerms {
    DeliveryTerms {
        timeout_ms: of.timeout_ms,
        retry_min_ms: of.retry_min_ms,
        retry_max_ms: of.retry_max_ms,
        call_once: of.call_once,
        policy: match of.policy {
            config::WebhookPolicy::HoldUser => FailurePolicy::HoldUser,
            config::WebhookPolicy::Skip => FailurePolicy::Skip,
            config::WebhookPolicy::Halt => FailurePolicy::Halt,
        },
        attempts_max: of.attempts_max,
        in_flight_max: of.in_flight_max,
        per_second: (of.per_second > 0).then_some(of.per_second),
    }
}

fn before_terms(of: &config::WebhookSubscription) -> BeforeTerms {
    let fallback = |fallback| match fallback {
        config::WebhookFallback::Allow => Fallback::Allow,
        config::WebhookFallback::Deny => Fallback::Deny,
    };
    BeforeTerms {
        timeout_ms: of.before_timeout_ms,
        on_timeout: fallback(of.before_on_timeout),
        on_unreachable: fallback(of.before_on_unreachable),
        on_status: fallback(of.before_on_status),
        on_malformed: fallback(of.before_on_malformed),
        on_busy: fallback(of.before_on_busy),
    }
}

/// The subscriptions that stand in the settings, as they are served.
///
/// Errors: an address cannot be called; names the app and the subscription.
pub(super) fn subscriptions(config: &Config) -> anyhow::Result<Vec<webhooks::Subscription>> {
    use anyhow::Context;
    let each = config.apps.iter().flat_map(|app| {
        configured(app).into_iter().map(|Configured { subscription, token }| {
            runtime(app.id, &subscription, token.as_deref())
                .with_context(|| format!("the webhook {} of app {}", subscription.name, app.id))
        })
    });
    each.collect()
}

/// Starts the directory's work; it ends when it is aborted.
pub(super) fn begin(directory: &Arc<Directory>) -> rt::task::JoinHandle<()> {
    rt::spawn(Arc::clone(directory).run())
}
