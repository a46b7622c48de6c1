//! Whether records get through at present. Never more than what was seen: the last failures, and
//! whether a broker answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use std::sync::Mutex;

use super::metrics::Metrics;
use super::pipelines::lock;
use crate::journal::JournalError;

/// How long a record that was not acknowledged counts as a sign of trouble. As long as the next one
/// may take to show that nothing has changed.
const FAILURE_MEMORY: Duration = Duration::from_secs(15);

/// What is known of the way to the brokers.
pub(super) struct Health {
    /// Whether there is a trouble: spares the acknowledgements its lock.
    troubled: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    metrics: Metrics,
}

struct Trouble {
    reason: String,
    /// When a record was last not acknowledged, if it was that.
    failed_at: Option<Instant>,
}

impl Health {
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.writable.set(1);
        Self { troubled: AtomicBool::new(false), trouble: Mutex::new(None), metrics }
    }

    pub(super) fn writable(&self) -> Result<(), JournalError> {
        match &*lock(&self.trouble) {
            Some(trouble) => Err(JournalError::Unavailable { reason: trouble.reason.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// No broker is reached.
    pub(super) fn cut_off(&self, reason: &str) {
        self.suffer(format!("no broker of kafka is reached: {reason}"), None);
    }

    /// A record was not acknowledged.
    pub(super) fn failed(&self, reason: &dyn std::fmt::Display) {
        self.suffer(format!("kafka does not take records: {reason}"), Some(Instant::now()));
    }

    fn suffer(&self, reason: String, failed_at: Option<Instant>) {
        let mut trouble = lock(&self.trouble);
        if trouble.is_none() {
            tracing::error!(
                error = reason,
                "kafka cannot be written: changes are refused until it can"
            );
        }
        let known = trouble.as_ref().and_then(|trouble| trouble.failed_at);
        *trouble = Some(Trouble { reason, failed_at: failed_at.or(known) });
        self.troubled.store(true, Ordering::Relaxed);
        self.metrics.writable.set(0);
    }

    /// A record, of whatever kind, was acknowledged.
    pub(super) fn acknowledged(&self) {
        if self.is_troubled() {
            self.recover(|_| true);
        }
    }

    /// A broker has answered. Whether it takes records is another question, which the next one
    /// answers.
    pub(super) fn answered(&self) {
        let old = |at: Instant| at.elapsed() >= FAILURE_MEMORY;
        self.recover(|trouble| trouble.failed_at.is_none_or(old));
    }

    fn recover(&self, over: impl FnOnce(&Trouble) -> bool) {
        let mut trouble = lock(&self.trouble);
        if trouble.take_if(|trouble| over(trouble)).is_some() {
            self.troubled.store(false, Ordering::Relaxed);
            self.metrics.writable.set(1);
            tracing::info!("kafka can be written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_answers_ends_being_cut_off() {
        let health = Health::new(Metrics::new());
        health.cut_off("1/1 brokers are down");
        let refused = health.writable().expect_err("it cannot be written").to_string();
        assert!(refused.contains("no broker of kafka is reached: 1/1"), "{refused}");
        health.answered();
        health.writable().expect("it can be written");
    }

    #[test]
    fn only_an_acknowledgement_ends_a_failure_at_once() {
        let health = Health::new(Metrics::new());
        health.failed(&"too few copies");
        health.cut_off("a broker went away");
        health.answered();
        assert!(health.writable().is_err());
        health.acknowledged();
        health.writable().expect("it can be written");
    }
}
