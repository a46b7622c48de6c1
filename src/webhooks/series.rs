//! Counters that end with the subscription they speak of: names are never used up, and a listener for
//! operators that tells of every one there ever was would tell of ever more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::cursor::CursorName;
use super::subscription::Subscription;

/// Which subscription a series is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    app: u32,
    subscription: String,
}

impl Labels {
    pub(super) fn new(of: &Subscription) -> Self {
        Self { app: of.app.0, subscription: of.label() }
    }

    pub(super) fn named(name: &CursorName<'_>) -> Self {
        Self { app: name.app.0, subscription: name.label() }
    }
}

/// What was counted of one subscription, by what else is said of it, as long as somebody counts.
#[derive(Debug)]
pub(super) struct Counts<L> {
    of: Labels,
    counted: Mutex<BTreeMap<L, u64>>,
}

impl<L: Ord> Counts<L> {
    /// One more.
    pub(super) fn add(&self, what: L) {
        *lock(&self.counted).entry(what).or_default() += 1;
    }
}

/// A counter of all subscriptions. Cheap to clone; clones count together.
pub(super) struct Series<L> {
    name: &'static str,
    help: &'static str,
    all: Arc<Mutex<Vec<Weak<Counts<L>>>>>,
}

impl<L> Series<L> {
    /// Nothing is counted yet.
    pub(super) fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, all: Arc::default() }
    }

    /// What is counted of a subscription. Those who count the same one at a time count together.
    pub(super) fn of(&self, subscription: &Subscription) -> Arc<Counts<L>> {
        let of = Labels::new(subscription);
        let mut all = lock(&self.all);
        all.retain(|counts| counts.strong_count() > 0);
        let mut known = all.iter().filter_map(Weak::upgrade);
        known.find(|counts| counts.of == of).unwrap_or_else(|| {
            let counts = Arc::new(Counts { of, counted: Mutex::default() });
            all.push(Arc::downgrade(&counts));
            counts
        })
    }
}

impl<L> Clone for Series<L> {
    fn clone(&self) -> Self {
        Self { name: self.name, help: self.help, all: Arc::clone(&self.all) }
    }
}

impl<L> fmt::Debug for Series<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<L: EncodeLabelSet + Clone + Ord + Send + 'static> Collector for Series<L> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let all: Vec<_> = lock(&self.all).iter().filter_map(Weak::upgrade).collect();
        let mut family =
            encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        for counts in all {
            for (what, count) in &*lock(&counts.counted) {
                let labels = (counts.of.clone(), what.clone());
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
