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

use std::collections::BTreeMap;
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
    known: Mutex<BTreeMap<AppId, Arc<Known>>>,
    /// The order in which the webhooks are told.
    telling: tokio::sync::Mutex<()>,
    loaded: AtomicBool,
}

/// What the settings say about an app.
struct Terms {
    sealer: Sealer,
    configured: Vec<Configured>,
}

/// What is known of an app's subscriptions, with what follows from it.
#[derive(Default)]
pub(super) struct Known {
    /// What was set by calls.
    pub(super) kept: Subscriptions,
    /// Every subscription, by name, also those of the settings.
    all: Vec<One>,
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
        let sequence = self.with(|known| known.get(&app).map(|known| known.kept.sequence));
        let Some(new) = self.users.subscriptions(app, sequence).await? else { return Ok(false) };
        let new = Arc::new(self.follow_from(app, *new));
        Ok(self.with(|known| {
            // Of two answers that cross, the later one stands.
            let is_new = known.get(&app).is_none_or(|k| k.kept.sequence < new.kept.sequence);
            if is_new {
                known.insert(app, new);
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

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<AppId, Arc<Known>>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of `app` by now.
    pub(super) fn known(&self, app: AppId) -> Arc<Known> {
        self.with(|known| known.get(&app).cloned()).unwrap_or_default()
    }

    /// Has the webhooks serve what is known.
    async fn tell(&self) {
        let _turn = self.telling.lock().await;
        if let Some(webhooks) = self.webhooks.upgrade() {
            webhooks.serve(self.served()).await;
        }
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
        let Some(terms) = self.apps.get(&app) else { return Known { kept, all: Vec::new() } };
        let mut all: BTreeMap<&str, One> = BTreeMap::new();
        for set in &kept.set {
            let open = |secret: &SealedSecret| terms.sealer.open(&set.name, &secret.sealed);
            let opened: Vec<Option<String>> = set.secrets.iter().map(open).collect();
            let held = opened.iter().any(Option::is_none);
            if held {
                tracing::warn!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    "a subscription is held: its secrets cannot be read with the keys of the app"
                );
            }
            let token = opened.into_iter().next().flatten();
            match One::of(app, set, token.as_deref(), held, &kept, Source::Call) {
                Ok(one) => drop(all.insert(&set.name, one)),
                // It was checked when it was set, perhaps by another version.
                Err(error) => tracing::error!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    %error,
                    "a subscription is not served: its address cannot be called"
                ),
            }
        }
        for Configured { subscription, token } in &terms.configured {
            let one = One::of(app, subscription, token.as_deref(), false, &kept, Source::Settings);
            all.extend(one.ok().map(|one| (&*subscription.name, one)));
        }
        let all = all.into_values().collect();
        Known { all, kept }
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

    /// Who answers the question `command` of `app` before the fact: the first that asks for it, `main`
    /// before the others, those by name. None if nobody is to be asked.
    pub fn before(&self, app: AppId, command: &str) -> Option<BeforeTarget> {
        let known = self.known(app);
        let asks = |one: &&One| {
            let is_asked = one.seen.subscription.commands.iter().any(|name| **name == *command);
            is_asked && one.seen.state == State::Serving
        };
        let is_other = |one: &&One| *one.seen.subscription.name != *MAIN;
        let found = known.all.iter().filter(asks).min_by_key(is_other)?;
        let terms = found.seen.subscription.before;
        Some(BeforeTarget { subscription: found.served.clone(), terms })
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
                if !checked.contains_key(&app) {
                    let fresh = self.refresh(app).await.is_ok().then(|| self.known(app));
                    checked.insert(app, fresh);
                }
                let Some(Some(known)) = checked.get(&app) else { continue };
                // Whatever is in the way, the next sweep meets it again.
                if self.is_gone(known, &follower)
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

    /// A replay as it is served: on the terms of its subscription as they are now. None without that.
    pub(super) fn replay(&self, replay: &Replay) -> Option<webhooks::Subscription> {
        let (seen, served) = self.find(&replay.subscription)?;
        let mut served = served.clone();
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

#[cfg(test)]
mod tests {
    use super::*;

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
