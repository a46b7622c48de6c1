//! What the webhooks count for the ops listener.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::caller::Outcome;
use super::command::CallbackCommand;
use super::line::Line;
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::journal::{Journal, Offset, Partition};

/// The webhooks' metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    attempt_seconds: Histogram,
    watched: Arc<Mutex<Vec<Weak<Gauges>>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    app: u32,
    subscription: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    app: u32,
    subscription: String,
    command: &'static str,
    /// `false` for one that was given up: a dead letter.
    delivered: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
    app: u32,
    subscription: String,
}

/// How one subscription is doing on this node.
#[derive(Debug)]
pub(super) struct Gauges {
    labels: LineLabels,
    lanes: Mutex<BTreeMap<Partition, LaneGauge>>,
    /// There is news that the subscription has not looked at.
    stirred: AtomicBool,
    out: AtomicI64,
    parked: AtomicI64,
    /// In milliseconds since 1970; 0 for nothing.
    oldest: AtomicI64,
    down: AtomicBool,
    halted: AtomicBool,
}

/// How far one partition is.
#[derive(Debug)]
struct LaneGauge {
    /// How far everybody has been told of what is new.
    fed: Arc<AtomicU64>,
    /// Records before that which the subscription is not done with.
    behind: u64,
}

impl Gauges {
    pub(super) fn add(&self, partition: Partition, fed: Arc<AtomicU64>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert(partition, LaneGauge { fed, behind: 0 });
    }

    pub(super) fn remove(&self, partition: Partition) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// There is news.
    pub(super) fn stir(&self) {
        self.stirred.store(true, Ordering::Release);
    }

    /// The subscription has looked at what is new. `next` answers how far a partition was read for
    /// all.
    pub(super) fn note(&self, line: &Line, next: impl Fn(Partition) -> Option<Offset>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, read, owed) in line.progress() {
            if let Some(gauge) = lanes.get_mut(&partition) {
                let unread = next(partition).map_or(0, |next| next.0.saturating_sub(read.0));
                gauge.behind = unread + owed as u64;
            }
        }
        self.stirred.store(false, Ordering::Release);
        drop(lanes);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.out.store(count(line.out()), Ordering::Relaxed);
        self.parked.store(count(line.parked_users()), Ordering::Relaxed);
        let oldest = line.oldest().map_or(0, |Timestamp(at)| at);
        self.oldest.store(oldest, Ordering::Relaxed);
        self.down.store(line.is_down(), Ordering::Relaxed);
        self.halted.store(line.is_halted(), Ordering::Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            deliveries: Family::default(),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            watched: Arc::default(),
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters. Lags are
    /// computed at each scrape, from the ends that `journal` tells and the time.
    pub fn register(&self, registry: &mut Registry, journal: Arc<dyn Journal>, clock: Clock) {
        registry.register(
            "cordon_webhook_attempts",
            "Delivery attempts by outcome",
            self.attempts.clone(),
        );
        registry.register(
            "cordon_webhook_deliveries",
            "Deliveries that are done with",
            self.deliveries.clone(),
        );
        registry.register(
            "cordon_webhook_attempt_seconds",
            "How long one delivery attempt took",
            self.attempt_seconds.clone(),
        );
        let watched = Arc::clone(&self.watched);
        registry.register_collector(Box::new(Lines { journal, clock, watched }));
    }

    /// The counters of a subscription.
    pub(super) fn counts(&self, of: &Subscription) -> Counts {
        Counts {
            metrics: self.clone(),
            app: of.app.0,
            subscription: of.label(),
            passes: of.replay.is_some(),
            attempts: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// Watches a subscription as long as what is answered lives.
    pub(super) fn watch(&self, of: &Subscription) -> Arc<Gauges> {
        let gauges = Arc::new(Gauges {
            labels: LineLabels { app: of.app.0, subscription: of.label() },
            lanes: Mutex::default(),
            stirred: AtomicBool::new(false),
            out: AtomicI64::new(0),
            parked: AtomicI64::new(0),
            oldest: AtomicI64::new(0),
            down: AtomicBool::new(false),
            halted: AtomicBool::new(false),
        });
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|known| known.strong_count() > 0);
        watched.push(Arc::downgrade(&gauges));
        gauges
    }
}

/// The counters of one subscription: each is looked up by its labels once, and not with every call.
#[derive(Debug)]
pub(super) struct Counts {
    metrics: Metrics,
    app: u32,
    subscription: String,
    /// It is a replay: there would be ever more of them.
    passes: bool,
    attempts: Vec<(&'static str, Counter)>,
    deliveries: Vec<((CallbackCommand, bool), Counter)>,
}

impl Counts {
    /// An attempt has come to an end.
    pub(super) fn attempted(&mut self, outcome: &Outcome, seconds: f64) {
        let outcome = outcome.word();
        let Self { metrics, app, subscription, attempts, .. } = &mut *self;
        let counter = known(attempts, outcome, || {
            let labels = attempt_labels(*app, subscription, outcome);
            metrics.attempts.get_or_create(&labels).clone()
        });
        counter.inc();
        metrics.attempt_seconds.observe(seconds);
    }

    /// A call is done with: delivered, or given up.
    pub(super) fn done(&mut self, command: CallbackCommand, delivered: bool) {
        let Self { metrics, app, subscription, deliveries, .. } = self;
        let counter = known(deliveries, (command, delivered), || {
            let labels = delivery_labels(*app, subscription, command, delivered);
            metrics.deliveries.get_or_create(&labels).clone()
        });
        counter.inc();
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        if !self.passes {
            return;
        }
        for (outcome, _) in &self.attempts {
            self.metrics.attempts.remove(&attempt_labels(self.app, &self.subscription, outcome));
        }
        for ((command, delivered), _) in &self.deliveries {
            let labels = delivery_labels(self.app, &self.subscription, *command, *delivered);
            self.metrics.deliveries.remove(&labels);
        }
    }
}

fn attempt_labels(app: u32, subscription: &str, outcome: &'static str) -> AttemptLabels {
    AttemptLabels { app, subscription: subscription.to_owned(), outcome }
}

fn delivery_labels(
    app: u32,
    subscription: &str,
    command: CallbackCommand,
    delivered: bool,
) -> DeliveryLabels {
    DeliveryLabels {
        app,
        subscription: subscription.to_owned(),
        command: command.name(),
        delivered: if delivered { "true" } else { "false" },
    }
}

/// The counter of `key`, found or made.
fn known<K: PartialEq>(
    counters: &mut Vec<(K, Counter)>,
    key: K,
    make: impl FnOnce() -> Counter,
) -> &Counter {
    let at = counters.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        counters.push((key, make()));
        counters.len() - 1
    });
    &counters[at].1
}

/// How the subscriptions are doing.
struct Lines {
    journal: Arc<dyn Journal>,
    clock: Clock,
    watched: Arc<Mutex<Vec<Weak<Gauges>>>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Lines {
    fn lag(&self, gauges: &Gauges) -> i64 {
        let lanes = gauges.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lags = lanes.iter().map(|(partition, lane)| {
            // Asked first: what is fed may be news, what is beyond it is not yet.
            let fed = lane.fed.load(Ordering::Acquire);
            self.journal.known_end(*partition).0.saturating_sub(fed) + lane.behind
        });
        let lag: u64 = lags.sum::<u64>() + u64::from(gauges.stirred.load(Ordering::Acquire));
        i64::try_from(lag).unwrap_or(i64::MAX)
    }

    fn oldest_s(&self, gauges: &Gauges) -> i64 {
        match gauges.oldest.load(Ordering::Relaxed) {
            0 => 0,
            at => (self.clock.now().0 - at).max(0) / 1000,
        }
    }
}

impl Collector for Lines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let watched: Vec<Arc<Gauges>> = {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.iter().filter_map(Weak::upgrade).collect()
        };
        let mut tell = |name, help, value: &dyn Fn(&Gauges) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for gauges in &watched {
                let gauge = ConstGauge::new(value(gauges));
                gauge.encode(family.encode_family(&gauges.labels)?)?;
            }
            Ok(())
        };
        let load = |count: &AtomicI64| count.load(Ordering::Relaxed);
        let flag = |flag: &AtomicBool| i64::from(flag.load(Ordering::Relaxed));
        tell(
            "cordon_webhook_lag_records",
            "Records that a subscription is not done with, on this node",
            &|gauges| self.lag(gauges),
        )?;
        tell(
            "cordon_webhook_oldest_seconds",
            "The age of the oldest event with a call that is not done",
            &|gauges| self.oldest_s(gauges),
        )?;
        tell("cordon_webhook_in_flight", "Calls that are out", &|gauges| load(&gauges.out))?;
        tell(
            "cordon_webhook_parked_users",
            "Users whose calls wait while others are told",
            &|gauges| load(&gauges.parked),
        )?;
        tell("cordon_webhook_down", "The receiver counts as down", &|gauges| flag(&gauges.down))?;
        tell(
            "cordon_webhook_halted",
            "Nothing goes out in some partition until an operator says how to go on",
            &|gauges| flag(&gauges.halted),
        )
    }
}
