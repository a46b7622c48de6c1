//! Which subscriptions each app has: those of the settings, and those that were set by calls and are
//! kept by a stream of the app.
//!
//! Every node knows them all: it asks the streams' owners once a second whether anything has changed,
//! and at once after a change of its own. What it knows goes to the webhooks, which serve exactly that.
//! A subscription that was set has its place in every partition before anybody is told so, so it does
//! not matter that other nodes learn of it a moment later.
//!
//! The node that owns an app's stream ends its replays once they have told everything. Each node gives
//! up, in the partitions that it serves, the places of replays that have ended and of subscriptions that
//! were deleted. One that has only left the settings keeps its places: it may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::rt;
use anyhow::Context;
use futures_util::future::join_all;
use uuid::Uuid;

use super::seal::Sealer;
use super::settings::{webhook_certificate, webhook_guard};
use crate::actors::{ExecuteError, Seat, Users};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::{
    AppId, BeforeTerms, Command, DeliveryTerms, Format, Replay, SECRETS_MAX, SealedSecret,
    Subscription, Subscriptions, UserKey, keeper,
};
use crate::http::{DeskError, Source, State, SubscriptionSeen};
use crate::journal::{Cursor, Journal, Origin, Partition, partition_of};
use crate::webhooks::{self, Certificate, EndpointError, Guard, MAIN, Secret, SecretError, Signer};

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
    desks: Arc<webhooks::Desks>,
    apps: BTreeMap<AppId, Terms>,
    known: Mutex<BTreeMap<AppId, Arc<Known>>>,
    /// The order in which the webhooks are told.
    telling: tokio::sync::Mutex<()>,
    /// Something is known that they were not told.
    untold: AtomicBool,
    loaded: AtomicBool,
}

/// What the settings say about an app.
struct Terms {
    sealer: Sealer,
    configured: Vec<Configured>,
    wire: Wire,
}

/// What is known of an app's subscriptions, with what follows from it.
#[derive(Default)]
pub(super) struct Known {
    /// What was set by calls.
    pub(super) kept: Subscriptions,
    /// Every subscription, by name, also those of the settings.
    all: Vec<One>,
    /// Where addresses may lead that were set by calls.
    guard: Guard,
}

/// A subscription of the settings.
#[derive(Clone, Debug)]
struct Configured {
    subscription: Subscription,
    secrets: Vec<Secret>,
}

/// What the subscriptions of an app have in common, whoever set them.
struct Wire {
    /// Where addresses may lead that were set by calls.
    guard: Guard,
    certificate: Option<Certificate>,
}

/// Why a subscription cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Directory {
    /// Of the apps of `config`; nothing that was set by calls is known yet.
    ///
    /// Errors: a certificate cannot be read; names the app.
    pub(super) fn new(
        config: &Config,
        users: Users,
        journal: Arc<dyn Journal>,
        clock: Clock,
        webhooks: &Arc<webhooks::Handle>,
        desks: Arc<webhooks::Desks>,
    ) -> anyhow::Result<Self> {
        let guard = webhook_guard(config);
        let terms = |app: &config::App| {
            let keys = app.keys.iter().map(config::Secret::reveal);
            let wire = Wire { guard: guard.clone(), certificate: certificate(app)? };
            let sealer = Sealer::new(app.id, keys);
            Ok((app.id, Terms { sealer, configured: configured(app), wire }))
        };
        Ok(Self {
            users,
            journal,
            clock,
            webhooks: Arc::downgrade(webhooks),
            desks,
            apps: config.apps.iter().map(terms).collect::<anyhow::Result<_>>()?,
            known: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            untold: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
        })
    }

    /// Keeps up until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut looks = 0_u32;
        loop {
            let changed = join_all(self.apps.keys().map(|app| self.refresh(*app))).await;
            let all = changed.iter().all(Result::is_ok);
            let is_first = all && !self.is_loaded();
            if is_first || self.untold.load(Ordering::Acquire) {
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

    /// Asks for what was set in `app`. Whoever learns of something new this way, it is told to those
    /// who serve it with the next look at the latest.
    pub(super) async fn refresh(&self, app: AppId) -> Result<(), ExecuteError> {
        let sequence = self.with(|known| known.get(&app).map(|known| known.kept.sequence));
        let Some(new) = self.users.subscriptions(app, sequence).await? else { return Ok(()) };
        let new = Arc::new(self.follow_from(app, *new));
        self.with(|known| {
            // Of two answers that cross, the later one stands.
            if known.get(&app).is_none_or(|k| k.kept.sequence < new.kept.sequence) {
                known.insert(app, new);
                self.untold.store(true, Ordering::Release);
            }
        });
        Ok(())
    }

    /// Asks for what was set in `app`, and has the webhooks serve it at once.
    pub(super) async fn renew(&self, app: AppId) -> Result<(), ExecuteError> {
        self.refresh(app).await?;
        self.tell().await;
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<AppId, Arc<Known>>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of `app` by now.
    pub(super) fn known(&self, app: AppId) -> Arc<Known> {
        self.with(|known| known.get(&app).cloned()).unwrap_or_default()
    }

    /// Has the webhooks serve what is known, and those be asked who want to be.
    async fn tell(&self) {
        let _turn = self.telling.lock().await;
        let telling = Telling::begin(&self.untold);
        self.desks.serve(self.asked(), &self.unknown());
        if let Some(webhooks) = self.webhooks.upgrade() {
            webhooks.serve(self.served()).await;
        }
        telling.done();
    }

    /// The apps of which nothing is known yet.
    fn unknown(&self) -> Vec<AppId> {
        self.with(|known| {
            self.apps.keys().filter(|app| !known.contains_key(app)).copied().collect()
        })
    }

    /// Everything that is served: subscriptions and replays of all apps.
    fn served(&self) -> Vec<webhooks::Subscription> {
        let apps = self.apps.keys().flat_map(|app| {
            let known = self.known(*app);
            let each = known.all.iter().map(|one| one.served.clone());
            let replays = known.kept.replays.iter().filter_map(|replay| known.replay(replay));
            each.chain(replays).collect::<Vec<_>>()
        });
        apps.collect()
    }

    /// What follows from what was `kept`. A subscription of the settings hides one of the same name that
    /// was set; it goes on where that one stood.
    fn follow_from(&self, app: AppId, kept: Subscriptions) -> Known {
        let Some(terms) = self.apps.get(&app) else { return Known { kept, ..Known::default() } };
        let mut all: BTreeMap<&str, One> = BTreeMap::new();
        for set in &kept.set {
            let opened = terms.open(set);
            if opened.is_none() {
                tracing::warn!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    "a subscription is held: its secrets cannot be read with the keys of the app"
                );
            }
            match One::of(app, set, opened.as_deref(), terms, &kept, Source::Call) {
                Ok(one) => drop(all.insert(&set.name, one)),
                // It was checked when it was set, perhaps by another version.
                Err(error) => tracing::error!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    %error,
                    "a subscription is not served"
                ),
            }
        }
        for Configured { subscription, secrets } in &terms.configured {
            let one = One::of(app, subscription, Some(secrets), terms, &kept, Source::Settings);
            all.extend(one.ok().map(|one| (&*subscription.name, one)));
        }
        let all = all.into_values().collect();
        Known { all, kept, guard: terms.wire.guard.clone() }
    }

    /// Whether the settings have a subscription of this name.
    pub(super) fn is_configured(&self, app: AppId, name: &str) -> bool {
        let configured = self.apps.get(&app).map_or(&[][..], |terms| &terms.configured);
        configured.iter().any(|known| *known.subscription.name == *name)
    }

    /// Seals and opens the secrets of `app`.
    pub(super) fn sealer(&self, app: AppId) -> Option<&Sealer> {
        self.apps.get(&app).map(|terms| &terms.sealer)
    }

    /// Who is asked before the fact.
    fn asked(&self) -> Vec<webhooks::Target> {
        self.apps.keys().flat_map(|app| self.known(*app).asked()).collect()
    }

    /// Whether `set` could be served, with these secrets before those that it has.
    ///
    /// Errors: no; [`DeskError::Url`] or [`DeskError::Secret`].
    pub(super) fn check(
        &self,
        app: AppId,
        set: &Subscription,
        new: Option<&str>,
        keeps: bool,
    ) -> Result<(), DeskError> {
        let terms = self.apps.get(&app).ok_or(DeskError::Broken)?;
        let url = set.url.as_deref().unwrap_or(NOWHERE);
        let endpoint = webhooks::Endpoint::parse(url).map_err(|_| DeskError::Url)?;
        terms.wire.guard.check(&endpoint).map_err(|_| DeskError::Url)?;
        let new = new.map(|text| Secret::new(text, None));
        let known = self.known(app);
        let kept = known.kept.get(&set.name).filter(|_| keeps);
        let kept = kept.and_then(|known| terms.open(known)).unwrap_or_default();
        let all: Vec<Secret> = new.into_iter().chain(kept).take(SECRETS_MAX).collect();
        match Signer::new(set.format, &all) {
            // Whether it has any is for its own stream to say.
            Ok(_) | Err(SecretError::Missing) => Ok(()),
            Err(_) => Err(DeskError::Secret),
        }
    }

    /// Where addresses may lead that are set by calls.
    pub(super) fn may_call(&self, app: AppId, url: &str) -> bool {
        let endpoint = webhooks::Endpoint::parse(url);
        let terms = self.apps.get(&app);
        let checked = terms.zip(endpoint.ok()).map(|(terms, at)| terms.wire.guard.check(&at));
        checked.is_some_and(|checked| checked.is_ok())
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
            let known = self.known(app);
            for replay in &known.kept.replays {
                if self.is_finished(&known, replay).await {
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

    async fn is_finished(&self, known: &Known, replay: &Replay) -> bool {
        let Some(served) = known.replay(replay) else { return false };
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

    /// Gives up, in the partitions that this node serves, the places of what is no more.
    ///
    /// The cursors are looked at first, and then what there is: whatever has a place was recorded before
    /// it got one, so nothing new is ever taken for something that is gone.
    async fn sweep(&self) {
        let all = (0..self.users.partitions()).map(Partition);
        for partition in all.filter(|partition| self.serves(*partition)) {
            let Ok(seen) = self.users.cursors(partition, CURSORS).await else { continue };
            let mut checked: BTreeMap<AppId, Option<Arc<Known>>> = BTreeMap::new();
            for (name, _) in seen.cursors {
                let Some(follower) = Follower::parse(&name) else { continue };
                let app = follower.app;
                if !self.apps.contains_key(&app) || !self.is_gone(&self.known(app), &follower) {
                    continue;
                }
                let fresh = match checked.get(&app) {
                    Some(fresh) => fresh.clone(),
                    None => self.refresh(app).await.is_ok().then(|| self.known(app)),
                };
                checked.insert(app, fresh.clone());
                let Some(known) = fresh else { continue };
                // Whatever is in the way, the next sweep meets it again.
                if self.is_gone(&known, &follower)
                    && self.users.save_cursor(partition, &name, Cursor::ended()).await.is_ok()
                {
                    tracing::info!(
                        webhook.subscription = name,
                        journal.partition = partition.0,
                        "the place of a subscription that is no more is given up"
                    );
                }
            }
        }
    }

    fn is_gone(&self, known: &Known, follower: &Follower<'_>) -> bool {
        match follower.replay {
            Some(number) => {
                let runs = known.kept.replays.iter().any(|replay| replay.number == number);
                number <= known.kept.last_replay && !runs
            }
            None => {
                let deleted = known.kept.deleted.iter().any(|name| **name == *follower.name);
                deleted && !self.is_configured(follower.app, follower.name)
            }
        }
    }
}

/// News on its way to those who serve it. Given up half way, it is to be told again.
struct Telling<'a> {
    untold: &'a AtomicBool,
    done: bool,
}

impl<'a> Telling<'a> {
    /// Before what is told is looked at: what comes meanwhile is told once more.
    fn begin(untold: &'a AtomicBool) -> Self {
        untold.store(false, Ordering::Release);
        Self { untold, done: false }
    }

    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.untold.store(true, Ordering::Release);
        }
    }
}

impl Terms {
    /// The secrets of what was set by calls; none if one of them cannot be read.
    fn open(&self, set: &Subscription) -> Option<Vec<Secret>> {
        let open = |secret: &SealedSecret| {
            let text = self.sealer.open(&set.name, &secret.sealed)?;
            Some(Secret::new(text, secret.until))
        };
        set.secrets.iter().map(open).collect()
    }
}

impl Known {
    /// Every subscription as it is shown, by name.
    pub(super) fn seen(&self) -> Vec<SubscriptionSeen> {
        self.all.iter().map(|one| one.seen.clone()).collect()
    }

    /// One subscription, as it is shown and as it is served.
    pub(super) fn find(&self, name: &str) -> Option<(&SubscriptionSeen, &webhooks::Subscription)> {
        let found = self.all.iter().find(|one| *one.seen.subscription.name == *name);
        found.map(|one| (&one.seen, &one.served))
    }

    /// Who is asked before the fact: `main` first, the others by name.
    fn asked(&self) -> Vec<webhooks::Target> {
        let (main, others): (Vec<&One>, Vec<&One>) =
            self.all.iter().partition(|one| *one.seen.subscription.name == *MAIN);
        main.into_iter().chain(others).filter_map(One::asked).collect()
    }

    /// A replay as it is served: on the terms of its subscription as they are now. None without that.
    pub(super) fn replay(&self, replay: &Replay) -> Option<webhooks::Subscription> {
        let (seen, served) = self.find(&replay.subscription)?;
        let mut served = served.clone();
        if let Some(url) = &replay.url {
            served.endpoint = webhooks::Endpoint::parse(url).ok()?;
            // Whoever asks for a replay does it by a call.
            served.guard = self.guard.clone();
            let subscription = &seen.subscription;
            let signs =
                subscription.format == Format::Reference || !subscription.secrets.is_empty();
            served.enabled = subscription.enabled && seen.state != State::Held && signs;
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
}

/// Whose cursor a name is: `webhook/<app>`, `…/<subscription>`, `…/replay/<number>`.
#[derive(Debug, PartialEq, Eq)]
struct Follower<'a> {
    app: AppId,
    name: &'a str,
    replay: Option<u32>,
}

impl<'a> Follower<'a> {
    fn parse(cursor: &'a str) -> Option<Self> {
        let parts: Vec<&str> = cursor.strip_prefix(CURSORS)?.split('/').collect();
        let app = AppId(parts.first()?.parse().ok()?);
        let (name, replay) = match parts[1..] {
            [] => (MAIN, None),
            ["replay", number] => (MAIN, Some(number.parse().ok()?)),
            [name] => (name, None),
            [name, "replay", number] => (name, Some(number.parse().ok()?)),
            _ => return None,
        };
        Some(Self { app, name, replay })
    }
}

/// A subscription as it is shown and as it is served.
struct One {
    seen: SubscriptionSeen,
    served: webhooks::Subscription,
}

impl One {
    /// `secrets` are those of the subscription, if they can be read.
    fn of(
        app: AppId,
        set: &Subscription,
        secrets: Option<&[Secret]>,
        terms: &Terms,
        known: &Subscriptions,
        source: Source,
    ) -> Result<Self, RuntimeError> {
        let seek = known.seek(&set.name);
        let mut served = runtime(app, set, secrets, &terms.wire, source)?;
        served.seek = seek.cloned();
        let state = match set {
            _ if secrets.is_none() => State::Held,
            Subscription { url: None, .. } => State::Pulled,
            Subscription { enabled: false, .. } => State::Off,
            _ => State::Serving,
        };
        served.enabled = state == State::Serving;
        let term = seek.map_or(0, |seek| seek.term);
        let seen = SubscriptionSeen { subscription: set.clone(), source, state, term };
        Ok(Self { seen, served })
    }

    /// Who is asked before the fact, if it asks for that.
    fn asked(&self) -> Option<webhooks::Target> {
        let set = &self.seen.subscription;
        let commands = set.commands.iter();
        let commands: BTreeSet<_> =
            commands.filter_map(|name| webhooks::BeforeCommand::from_name(name)).collect();
        (self.seen.state == State::Serving && !commands.is_empty()).then(|| webhooks::Target {
            subscription: webhooks::Subscription { seek: None, ..self.served.clone() },
            commands,
            terms: set.before,
        })
    }
}

/// Where the calls of a subscription would go that is only pulled: none are made.
const NOWHERE: &str = "http://nowhere.invalid/";

/// A subscription as the webhooks serve it. The one place where what was set becomes what is served.
/// Without `secrets` it cannot be signed, and is not to be enabled.
fn runtime(
    app: AppId,
    set: &Subscription,
    secrets: Option<&[Secret]>,
    wire: &Wire,
    source: Source,
) -> Result<webhooks::Subscription, RuntimeError> {
    let names = set.commands.iter();
    Ok(webhooks::Subscription {
        app,
        name: set.name.to_string(),
        endpoint: webhooks::Endpoint::parse(set.url.as_deref().unwrap_or(NOWHERE))?,
        guard: match source {
            // Who writes the settings may call whom they like.
            Source::Settings => Guard::Off,
            Source::Call => wire.guard.clone(),
        },
        certificate: wire.certificate.clone(),
        signer: match secrets {
            Some(secrets) => match Signer::new(set.format, secrets) {
                // Nothing goes there.
                Err(SecretError::Missing) if set.url.is_none() => Signer::unsigned(),
                signer => signer?,
            },
            None => Signer::unsigned(),
        },
        headers: set.headers,
        commands: names.filter_map(|name| webhooks::CallbackCommand::from_name(name)).collect(),
        enabled: set.enabled && set.url.is_some() && secrets.is_some(),
        delivery: set.delivery,
        seek: None,
        replay: None,
    })
}

fn certificate(app: &config::App) -> anyhow::Result<Option<Certificate>> {
    webhook_certificate(&app.webhook).with_context(|| format!("the webhooks of app {}", app.id))
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
    let open = |token: &Option<config::Secret>, others: &[config::Secret]| -> Vec<Secret> {
        let all = token.iter().chain(others);
        all.map(|secret| Secret::new(secret.reveal(), None)).collect()
    };
    // They are only counted: nobody sees them.
    let sealed = |count: usize| vec![SealedSecret { sealed: "".into(), until: None }; count];
    let of_main = open(&webhook.token, &webhook.secrets);
    let main = webhook.url.as_ref().map(|url| Configured {
        subscription: Subscription {
            name: MAIN.into(),
            url: Some(url.reveal().into()),
            commands: names(&webhook.commands),
            enabled: true,
            format: webhook.format,
            secrets: sealed(of_main.len()),
            headers: webhook.headers,
            delivery: DeliveryTerms {
                timeout_ms: webhook.timeout_ms,
                retry_min_ms: webhook.retry_min_ms,
                retry_max_ms: webhook.retry_max_ms,
                call_once: webhook.call_once,
                ..DeliveryTerms::default()
            },
            before: BeforeTerms {
                timeout_ms: webhook.before_timeout_ms,
                on_timeout: webhook.before_on_timeout,
                on_unreachable: webhook.before_on_unreachable,
                on_status: webhook.before_on_status,
                on_malformed: webhook.before_on_malformed,
                on_busy: webhook.before_on_busy,
            },
        },
        secrets: of_main,
    });
    let further = webhook.subscription.iter().map(|other| {
        let secrets = open(&other.token, &other.secrets);
        let subscription = Subscription {
            name: other.name.as_str().into(),
            url: other.url.as_ref().map(|url| url.reveal().into()),
            commands: names(&other.commands),
            enabled: other.enabled,
            format: other.format,
            secrets: sealed(secrets.len()),
            headers: other.headers,
            delivery: delivery_terms(other),
            before: before_terms(other),
        };
        Configured { subscription, secrets }
    });
    main.into_iter().chain(further).collect()
}

fn delivery_terms(of: &config::WebhookSubscription) -> DeliveryTerms {
    DeliveryTerms {
        timeout_ms: of.timeout_ms,
        retry_min_ms: of.retry_min_ms,
        retry_max_ms: of.retry_max_ms,
        call_once: of.call_once,
        policy: of.policy,
        attempts_max: of.attempts_max,
        in_flight_max: of.in_flight_max,
        per_second: (of.per_second > 0).then_some(of.per_second),
    }
}

fn before_terms(of: &config::WebhookSubscription) -> BeforeTerms {
    BeforeTerms {
        timeout_ms: of.before_timeout_ms,
        on_timeout: of.before_on_timeout,
        on_unreachable: of.before_on_unreachable,
        on_status: of.before_on_status,
        on_malformed: of.before_on_malformed,
        on_busy: of.before_on_busy,
    }
}

/// The subscriptions that stand in the settings, as they are served.
///
/// Errors: an address cannot be called, a secret cannot sign, a certificate cannot be read; names the
/// app and the subscription.
pub(super) fn subscriptions(config: &Config) -> anyhow::Result<Vec<webhooks::Subscription>> {
    let mut subscriptions = Vec::new();
    for app in &config.apps {
        let wire = Wire { guard: Guard::Off, certificate: certificate(app)? };
        for Configured { subscription, secrets } in configured(app) {
            let served = runtime(app.id, &subscription, Some(&secrets), &wire, Source::Settings);
            let name = &subscription.name;
            subscriptions
                .push(served.with_context(|| format!("the webhook {name} of app {}", app.id))?);
        }
    }
    Ok(subscriptions)
}

/// Starts the directory's work; it ends when it is aborted.
pub(super) fn begin(directory: &Arc<Directory>) -> rt::task::JoinHandle<()> {
    rt::spawn(Arc::clone(directory).run())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "Sns.CallbackPrevFriendAdd";

    fn named(name: &str) -> Subscription {
        Subscription {
            name: name.into(),
            url: Some(format!("http://{name}.example").into()),
            commands: vec![ASKED.into()],
            enabled: true,
            format: Format::Reference,
            secrets: Vec::new(),
            headers: true,
            delivery: DeliveryTerms::default(),
            before: BeforeTerms::default(),
        }
    }

    /// What is known of these, of which the one named `held` is held.
    fn known(set: &[Subscription], held: &str) -> Known {
        let kept = Subscriptions::default();
        let wire = Wire { guard: Guard::default(), certificate: None };
        let terms = Terms {
            sealer: Sealer::new(AppId(7), ["k"].into_iter()),
            configured: Vec::new(),
            wire,
        };
        let one = |set: &Subscription| {
            let secrets = (*set.name != *held).then_some(&[][..]);
            One::of(AppId(7), set, secrets, &terms, &kept, Source::Call)
        };
        let all = set.iter().map(one).collect::<Result<_, _>>().expect("addresses");
        Known { kept: Subscriptions::default(), all, guard: terms.wire.guard }
    }

    #[test]
    fn a_question_goes_to_the_main_subscription_before_the_others_by_name() {
        let asked = |set: &[Subscription], held| {
            known(set, held).asked().into_iter().next().map(|target| target.subscription.name)
        };
        let off = Subscription { enabled: false, ..named("a") };
        let pulled = Subscription { url: None, ..named("b") };
        let deaf = Subscription { commands: Vec::new(), ..named("c") };
        let all = [off, pulled, deaf, named("d"), named("e"), named(MAIN)];
        assert_eq!(asked(&all, "").as_deref(), Some(MAIN));
        assert_eq!(asked(&all, MAIN).as_deref(), Some("d"), "one that is held asks nobody");
        assert_eq!(asked(&all[..3], ""), None);
    }

    #[test]
    fn a_replay_has_the_terms_of_its_subscription_but_for_its_own_address_and_commands() {
        let add = "Sns.CallbackBlackListAdd";
        let both = vec![add.into(), "Sns.CallbackBlackListDelete".into()];
        let known = known(&[Subscription { commands: both, url: None, ..named("a") }], "");
        let replay = Replay {
            number: 3,
            subscription: "a".into(),
            url: Some("http://elsewhere.example".into()),
            since: None,
            until: None,
            ranges: vec![(0, 0, 1)],
            users: Vec::new(),
            commands: vec![add.into(), "Sns.CallbackFriendAdd".into()],
            ids: Vec::new(),
        };
        let served = known.replay(&replay).expect("there is such a subscription");
        assert_eq!(served.cursor_name(), "webhook/7/a/replay/3");
        assert!(served.enabled, "it has an address of its own");
        assert_eq!(served.commands.names().collect::<Vec<_>>(), [add]);
        let of_nobody = Replay { subscription: "b".into(), ..replay };
        assert_eq!(known.replay(&of_nobody), None);
    }

    #[test]
    fn a_cursors_name_tells_whose_it_is() {
        let app = AppId(7);
        for name in [MAIN, "audit", "replay"] {
            let cursor = webhooks::cursor_name(app, name);
            assert_eq!(Follower::parse(&cursor), Some(Follower { app, name, replay: None }));
            let of_replay = format!("{cursor}/replay/3");
            let follower = Follower { app, name, replay: Some(3) };
            assert_eq!(Follower::parse(&of_replay), Some(follower), "{of_replay}");
        }
        for cursor in ["audit/7", "webhook/", "webhook/x", "webhook/7/a/b", "webhook/7/a/replay/x"]
        {
            assert_eq!(Follower::parse(cursor), None, "{cursor}");
        }
    }
}
