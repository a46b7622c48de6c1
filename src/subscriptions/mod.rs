//! Which subscriptions each app has, and what its admins ask about them: those of the settings, and
//! those that were set by calls and are kept by a stream of the app.
//!
//! [`Subscribers`] is the only door. Every node knows all subscriptions: it asks the streams' owners once a
//! second whether anything has changed, and at once after a change of its own. What it knows goes to the
//! webhooks, which serve exactly that. A subscription that was set has its place in every partition before
//! anybody is told so, so it does not matter that other nodes learn of it a moment later.
//!
//! The node that owns an app's stream ends its replays once they have told everything, and seals secrets
//! anew when the app's keys have changed. Each node gives
//! up, in the partitions that it serves, the places of replays that have ended and of subscriptions that
//! were deleted. One that has only left the settings keeps its places: it may come back.
//!
//! The room knows neither the API edge nor the settings file: it is told its [`App`]s.

mod admin;
mod deliveries;
mod ended;
mod known;
#[cfg(any(test, fuzzing))]
mod nobody;
mod replays;
mod seal;
mod sealing;
mod terms;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::{JoinHandle, spawn_local};

pub use self::admin::{NewSecret, SetSubscription, SubscriptionWasSet, Tested};
pub use self::deliveries::{
    Delivered, EventsWanted, Letter, LogWanted, OwedDelivery, Page, PageFrom, PageWanted,
    ParkedUser, STATES, Status,
};
use self::known::{Known, One};
pub use self::known::{Source, State, SubscriptionSeen, UnservableError};
pub use self::replays::{Counted, ReplaySeen};
pub use self::sealing::Metrics;
use self::terms::Terms;
pub use self::terms::{App, Configured};
use crate::actors::{ExecuteError, Users};
use crate::clock::Clock;
use crate::domain::{AppId, SeekTo, Subscriptions};
use crate::journal::{Cursor, Offset, Partition, ReadJournal};
use crate::webhooks::{self, Guard};

/// How often to ask for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often before everything is known for the first time.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many looks there are between two sweeps of cursors that belong to nothing any more.
const LOOKS_PER_SWEEP: u32 = 30;
/// Partitions that are asked at the same time.
const ASKED_AT_ONCE: usize = 64;

/// Where a change stands in the journal.
type Place = (Partition, Offset);

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The actors refused, or had no answer.
    #[error(transparent)]
    Actors(#[from] ExecuteError),
    /// There is no such subscription.
    #[error("there is no such subscription")]
    Unknown,
    /// It stands in the settings, and is changed there.
    #[error("the subscription stands in the settings")]
    OfSettings,
    /// Nothing can be called there.
    #[error("the address cannot be called")]
    Url,
    /// It cannot sign the calls of the format.
    #[error("the secret cannot sign the calls of the format")]
    Secret,
    /// There is no such partition, or an id that no call has.
    #[error("the range lies outside the journal")]
    Range,
    /// The place is none of the journal.
    #[error("the cursor is not of this journal")]
    Cursor,
    /// The journal could not be read, or a secret not be sealed; or the settings have no such app.
    #[error("it cannot be done at present")]
    Broken,
}

/// What the subscriptions need of the other rooms.
pub struct Parts<'p> {
    /// The door to the streams that keep what was set, and to the owners of cursors.
    pub users: Users,
    /// Where owed and given up deliveries are looked up.
    pub journal: Arc<dyn ReadJournal>,
    /// The time.
    pub clock: Clock,
    /// Who serves the subscriptions.
    pub webhooks: &'p Arc<webhooks::Handle>,
    /// Where those are asked who want to be asked beforehand.
    pub desks: Arc<webhooks::Desks>,
    /// How many subscriptions the apps' keys do not fit.
    pub metrics: Metrics,
    /// The apps, each id once.
    pub apps: Vec<App>,
    /// Where addresses may lead that are set by calls.
    pub guard: Guard,
}

/// The subscriptions of all apps.
pub struct Subscribers {
    users: Users,
    journal: Arc<dyn ReadJournal>,
    clock: Clock,
    webhooks: Weak<webhooks::Handle>,
    desks: Arc<webhooks::Desks>,
    apps: BTreeMap<AppId, Terms>,
    known: Mutex<BTreeMap<AppId, Arc<Known>>>,
    /// The order in which the webhooks are told.
    telling: tokio::sync::Mutex<()>,
    /// Something is known that they were not told.
    untold: AtomicBool,
    loaded: AtomicBool,
    metrics: Metrics,
}

impl Subscribers {
    /// Nothing that was set by calls is known yet.
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts { users, journal, clock, webhooks, desks, metrics, apps, guard } = parts;
        let terms = |app: App| (app.id, Terms::of(app, &guard));
        Self {
            users,
            journal,
            clock,
            webhooks: Arc::downgrade(webhooks),
            desks,
            apps: apps.into_iter().map(terms).collect(),
            known: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            untold: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            metrics,
        }
    }

    /// Begins to keep up; ends when it is aborted.
    pub fn begin(self: &Arc<Self>) -> JoinHandle<()> {
        spawn_local(Arc::clone(self).run())
    }

    /// Keeps up until it is aborted.
    async fn run(self: Arc<Self>) {
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
                self.seal_anew().await;
                if looks.is_multiple_of(LOOKS_PER_SWEEP) {
                    self.sweep().await;
                }
                looks = looks.wrapping_add(1);
            }
            tokio::time::sleep(if self.is_loaded() { LOOK_EVERY } else { FIRST_LOOK_EVERY }).await;
        }
    }

    /// Whether everything was known once: before that nothing is followed.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Asks for what was set in `app`. What is new reaches the rooms that serve it with the next look at
    /// the latest.
    async fn refresh(&self, app: AppId) -> Result<(), ExecuteError> {
        let sequence = self.with(|known| known.get(&app).map(|known| known.kept.sequence));
        let Some(new) = self.users.asker().subscriptions(app, sequence).await? else {
            return Ok(());
        };
        let new = Arc::new(self.follow_from(app, *new));
        self.with(|known| {
            // Of two answers that cross, the later one stands.
            if known.get(&app).is_none_or(|k| k.kept.sequence < new.kept.sequence) {
                self.metrics.note(app, &new);
                known.insert(app, new);
                self.untold.store(true, Ordering::Release);
            }
        });
        Ok(())
    }

    /// Asks for what was set in `app`, and has the webhooks serve it at once.
    async fn renew(&self, app: AppId) -> Result<(), ExecuteError> {
        self.refresh(app).await?;
        self.tell().await;
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<AppId, Arc<Known>>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of `app` by now.
    fn known(&self, app: AppId) -> Arc<Known> {
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
        let now = self.clock.now();
        let mut all: BTreeMap<&str, One> = BTreeMap::new();
        let mut half_sealed = Vec::new();
        for set in &kept.set {
            if terms.half_sealed(set, now).next().is_some() {
                half_sealed.push(set.name.clone());
            }
            let opened = terms.open(set, now);
            if opened.is_none() {
                tracing::warn!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    "a subscription is held: no key of the app opens its secrets; add the key that \
                     sealed them, or set them again"
                );
            }
            match One::of(app, set, opened.as_deref(), terms, &kept, Source::Call) {
                Ok(one) => drop(all.insert(&set.name, one)),
                // It was checked when it was set, perhaps by another version.
                Err(error) => tracing::error!(
                    app.id = app.0,
                    webhook.subscription = &*set.name,
                    %error,
                    "a subscription cannot be served: set it again"
                ),
            }
        }
        for Configured { subscription, shown, secrets } in &terms.configured {
            let one = One::of(app, subscription, Some(secrets), terms, &kept, Source::Settings);
            if let Ok(mut one) = one {
                one.seen.subscription.url.clone_from(shown);
                all.insert(&subscription.name, one);
            }
        }
        let all = all.into_values().collect();
        Known { all, kept, half_sealed, guard: terms.wire.guard.clone() }
    }

    /// What the settings say about `app`. Errors: they have no such app.
    fn terms(&self, app: AppId) -> Result<&Terms, SubscriptionError> {
        self.apps.get(&app).ok_or(SubscriptionError::Broken)
    }

    /// Who is asked before the fact.
    fn asked(&self) -> Vec<webhooks::Target> {
        self.apps.keys().flat_map(|app| self.known(*app).asked()).collect()
    }

    /// Gives the subscription a place in every partition, whoever owns it: at its end, if the subscription
    /// was moved there and has not gone there yet.
    async fn begin_everywhere(&self, app: AppId, name: &str) -> Result<(), ExecuteError> {
        self.refresh(app).await?;
        let known = self.known(app);
        let to_end = known.kept.last_move(name).filter(|seek| seek.to == SeekTo::End);
        let term = to_end.map_or(0, |seek| seek.term);
        let name = webhooks::CursorName::of(app, name).to_string();
        let all: Vec<Partition> = (0..self.users.partitions()).map(Partition).collect();
        for some in all.chunks(ASKED_AT_ONCE) {
            let begun = some.iter().map(|one| self.users.asker().begin_cursor(*one, &name, term));
            join_all(begun).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        Ok(())
    }

    /// Records that the subscription of this name, or the replay, is not done with, in each partition
    /// in which it is followed here.
    fn lags(&self, of: &webhooks::CursorName<'_>) -> BTreeMap<Partition, u64> {
        let webhooks = self.webhooks.upgrade();
        webhooks.map_or_else(BTreeMap::new, |webhooks| webhooks.lags(of))
    }

    /// Where the follower `cursor` stands in each of `partitions`, as far as it has a place there.
    async fn cursors(
        &self,
        cursor: &str,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, Cursor>, ExecuteError> {
        let seen = self.users.asker().cursors(partitions.iter().copied(), cursor).await;
        let mut found = BTreeMap::new();
        for (partition, seen) in partitions.iter().zip(seen) {
            let mut exactly = seen?.cursors.into_iter().filter(|(name, _)| name == cursor);
            found.extend(exactly.next().map(|(_, cursor)| (*partition, cursor)));
        }
        Ok(found)
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
