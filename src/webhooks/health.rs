//! How a receiver is doing, and what the log is told about it.
//!
//! Rule: a delivery that fails is told once, when it begins to fail, and again when it has come
//! through; a receiver that is down is told once, not with every delivery that waits for it. No
//! body, token or signature is ever told.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Call, Outcome};
use crate::domain::UserId;
use crate::journal::{Offset, Partition};

/// Failed attempts in a row, over all users, after which the receiver counts as down: from then on
/// one attempt at a time finds out whether it is back.
pub const FAILURES_IN_A_ROW_MAX: u32 = 16;

/// One attempt, as far as it is known beforehand.
pub(super) struct Attempt {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) user: UserId,
    pub(super) call: Arc<Call>,
    /// How many attempts went before.
    pub(super) index: u32,
}

/// The health of one subscription's receiver.
pub(super) struct Health {
    subscription: Arc<str>,
    failures_in_a_row: u32,
}

impl Health {
    pub(super) fn new(subscription: Arc<str>) -> Self {
        Self { subscription, failures_in_a_row: 0 }
    }

    /// Whether the receiver counts as down.
    pub(super) fn is_down(&self) -> bool {
        self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX
    }

    /// Takes an outcome into account. Answers whether the receiver is back from being down.
    pub(super) fn note(&mut self, attempt: &Attempt, outcome: &Outcome, took: Duration) -> bool {
        self.log(attempt, outcome, took);
        let was_down = self.is_down();
        if outcome.is_delivered() {
            self.failures_in_a_row = 0;
            if was_down {
                tracing::info!(webhook.subscription = &*self.subscription, "the receiver is back");
            }
            return was_down;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.is_down() && !was_down {
            tracing::warn!(
                webhook.subscription = &*self.subscription,
                "the receiver seems to be down: one attempt at a time from now on"
            );
        }
        false
    }

    fn log(&self, attempt: &Attempt, outcome: &Outcome, took: Duration) {
        macro_rules! tell {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    webhook.subscription = &*self.subscription,
                    webhook.command = attempt.call.command.name(),
                    webhook.attempt = attempt.index,
                    journal.partition = attempt.partition.0,
                    journal.offset = attempt.offset.0,
                    duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    ?outcome,
                    $message
                )
            };
        }
        match (outcome.is_delivered(), attempt.index) {
            (true, 0) => tell!(debug, "webhook delivered"),
            (true, _) => tell!(info, "webhook delivered after failures"),
            (false, 0) if !self.is_down() => tell!(warn, "webhook not delivered"),
            (false, _) => tell!(debug, "webhook not delivered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Origin;
    use crate::webhooks::CallbackCommand;

    fn attempt() -> Attempt {
        let call = Call {
            id: "0@1.Sns.CallbackBlackListAdd".to_owned(),
            command: CallbackCommand::BlackListAdd,
            body: Vec::new(),
            by: Arc::new(Origin {
                operator: "administrator".into(),
                request: uuid::Uuid::nil(),
                ip: "127.0.0.1".into(),
                platform: "RESTAPI".into(),
            }),
        };
        Attempt {
            partition: Partition(0),
            offset: Offset(1),
            user: UserId::parse("amy").expect("a name"),
            call: Arc::new(call),
            index: 0,
        }
    }

    #[test]
    fn failures_in_a_row_mean_down_and_one_success_means_back() {
        let mut health = Health::new("webhook/1".into());
        let attempt = attempt();
        for _ in 1..FAILURES_IN_A_ROW_MAX {
            health.note(&attempt, &Outcome::TimedOut, Duration::ZERO);
        }
        assert!(!health.is_down());
        assert!(!health.note(&attempt, &Outcome::Delivered, Duration::ZERO), "it was not down");
        for _ in 0..FAILURES_IN_A_ROW_MAX {
            health.note(&attempt, &Outcome::TimedOut, Duration::ZERO);
        }
        assert!(health.is_down());
        assert!(health.note(&attempt, &Outcome::Delivered, Duration::ZERO), "it is back");
        assert!(!health.is_down());
    }
}
