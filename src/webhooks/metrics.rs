//! What the webhooks count for the ops listener.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::caller::Outcome;
use super::cursor::CursorName;
use super::line::Line;
use super::series::{self, Labels, Series};
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::journal::{Journal, Offset, Partition};
use crate::tags::CallbackCommand;

/// The webhooks' metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Series<Attempt>,
    deliveries: Series<Delivery>,
    attempt_seconds: Histogram,
    watched: Arc<Mutex<Vec<Weak<Gauges>>>>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Attempt {
    outcome: &'static str,
}

/// How a delivery came to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Delivery {
    command: &'static str,
    /// `false` for one that was given up: a dead letter.
    delivered: &'static str,
}

/// How one subscription is doing on this node.
#[derive(Debug)]
pub(super) struct Gauges {
    labels: Labels,
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

    /// Records that the subscription is not done with, by partition; one more stands for news that it
    /// has not looked at.
    fn lags(&self, journal: &dyn Journal) -> BTreeMap<Partition, u64> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lags = lanes.iter().map(|(partition, lane)| {
            // Asked first: what is fed may be news, what is beyond it is not yet.
            let fed = lane.fed.load(Ordering::Acquire);
            (*partition, journal.known_end(*partition).0.saturating_sub(fed) + lane.behind)
        });
        let mut lags: BTreeMap<Partition, u64> = lags.collect();
        if let Some(mut first) = lags.first_entry() {
            *first.get_mut() += u64::from(self.stirred.load(Ordering::Acquire));
        }
        lags
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
            attempts: Series::new("cordon_webhook_attempts", "Delivery attempts by outcome"),
            deliveries: Series::new("cordon_webhook_deliveries", "Deliveries that are done with"),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            watched: Arc::default(),
        }
    }
}

impl Metrics {
    /// Names every metric in `registry`; the registry itself appends `_total` to counters. Lags are
    /// computed at each scrape, from the ends that `journal` tells and the time.
    pub fn register(&self, registry: &mut Registry, journal: Arc<dyn Journal>, clock: Clock) {
        registry.register_collector(Box::new(self.attempts.clone()));
        registry.register_collector(Box::new(self.deliveries.clone()));
        registry.register(
            "cordon_webhook_attempt_seconds",
            "How long one delivery attempt took",
            self.attempt_seconds.clone(),
        );
        let watched = Arc::clone(&self.watched);
        registry.register_collector(Box::new(Lines { journal, clock, watched }));
    }

    /// Records of `journal` that a subscription, or a replay of one, is not done with, in each
    /// partition in which it is followed here.
    pub(super) fn lags(
        &self,
        journal: &dyn Journal,
        of: &CursorName<'_>,
    ) -> BTreeMap<Partition, u64> {
        let labels = Labels::named(of);
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watched = watched.iter().filter_map(Weak::upgrade);
        let known = watched.find(|known| known.labels == labels);
        known.map_or_else(BTreeMap::new, |known| known.lags(journal))
    }

    /// The counters of a subscription.
    pub(super) fn counts(&self, of: &Subscription) -> Counts {
        Counts {
            attempts: self.attempts.of(of),
            deliveries: self.deliveries.of(of),
            attempt_seconds: self.attempt_seconds.clone(),
        }
    }

    /// Watches a subscription as long as what is answered lives.
    pub(super) fn watch(&self, of: &Subscription) -> Arc<Gauges> {
        let gauges = Arc::new(Gauges {
            labels: Labels::new(of),
            lanes: Mutex::default(),
            stirred: AtomicBool::new(false),
            out: AtomicI64::new(0),
            parked: AtomicI64::new(0),
            oldest: AtomicI64::new(0),
            down: AtomicBool::new(false),
            halted: AtomicBool::new(false),
        });
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // One of the same name that was deleted may still be at its last deliveries.
        let goes_on = |known: &Gauges| known.labels != gauges.labels;
        watched.retain(|known| known.upgrade().is_some_and(|known| goes_on(&known)));
        watched.push(Arc::downgrade(&gauges));
        gauges
    }
}

/// The counters of one subscription.
#[derive(Debug)]
pub(super) struct Counts {
    attempts: Arc<series::Counts<Attempt>>,
    deliveries: Arc<series::Counts<Delivery>>,
    attempt_seconds: Histogram,
}

impl Counts {
    /// An attempt has come to an end.
    pub(super) fn attempted(&self, outcome: &Outcome, seconds: f64) {
        self.attempts.add(Attempt { outcome: outcome.word() });
        self.attempt_seconds.observe(seconds);
    }

    /// A delivery is done with: delivered, or given up.
    pub(super) fn done(&self, command: CallbackCommand, delivered: bool) {
        let delivered = if delivered { "true" } else { "false" };
        self.deliveries.add(Delivery { command: command.name(), delivered });
    }
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
        i64::try_from(gauges.lags(&*self.journal).values().sum::<u64>()).unwrap_or(i64::MAX)
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
