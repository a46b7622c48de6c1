//! Whether a receiver counts as down; pure.
//!
//! A receiver is down when nobody comes through: after a row of failures that no success interrupts,
//! and that is no single user's doing. From then on one delivery at a time finds out whether it is back,
//! after growing waits, and no attempt is spent: an outage costs lag alone.

use std::collections::BTreeSet;

use crate::domain::UserId;

/// Failed attempts in a row, after which a receiver may count as down.
pub const FAILURES_IN_A_ROW_MAX: u32 = 16;
/// How many users the failures must be spread over, unless no connection could be made at all: a failure
/// that one user's events cause is not the receiver's.
pub const FAILING_USERS_MIN: usize = 4;
/// The wait in front of the first probe, in milliseconds; each further one is twice as long.
const PROBE_MIN_MS: u64 = 1_000;
/// The longest one.
const PROBE_MAX_MS: u64 = 30_000;

/// Where a failure lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The receiver answered, but not as it should.
    Answer,
    /// There was no answer.
    Silence,
}

/// See the module. Times in milliseconds of any clock that does not go back.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The number of the present row of failures.
    streak: u64,
    failures: u32,
    silent: u32,
    users: BTreeSet<UserId>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    probe_at: u64,
    wait_ms: u64,
    probing: bool,
}

impl Breaker {
    /// The number of the row of failures that the next failure belongs to.
    pub(super) fn streak(&self) -> u64 {
        self.streak
    }

    /// Whether the receiver counts as down.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How many deliveries may be out at `now`, of at most `max`.
    pub(super) fn allows(&self, now: u64, max: usize) -> usize {
        match &self.open {
            None => max,
            Some(open) => usize::from(!open.probing && now >= open.probe_at),
        }
    }

    /// Nothing that was known of the receiver counts any more.
    pub(super) fn forget(&mut self) {
        *self = Self { streak: self.streak + 1, ..Self::default() };
    }

    /// A delivery went out.
    pub(super) fn sent(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// When the next probe is due, if one is waited for.
    pub(super) fn probe_at(&self) -> Option<u64> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.probe_at)
    }

    /// A delivery came through. Answers whether the receiver had counted as down.
    pub(super) fn succeeded(&mut self) -> bool {
        self.streak += u64::from(self.failures > 0);
        self.failures = 0;
        self.silent = 0;
        self.users.clear();
        self.open.take().is_some()
    }

    /// The receiver asks for patience: it is there.
    pub(super) fn put_off(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// A delivery of `user` failed. Answers whether the receiver counts as down since this very failure.
    pub(super) fn failed(&mut self, now: u64, user: UserId, fault: Fault) -> bool {
        if let Some(open) = &mut self.open {
            // Several may have been out when it opened.
            if open.probing {
                open.probing = false;
                open.wait_ms = (open.wait_ms * 2).min(PROBE_MAX_MS);
                open.probe_at = now + open.wait_ms;
            }
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.silent += u32::from(fault == Fault::Silence);
        if self.users.len() < FAILING_USERS_MIN {
            self.users.insert(user);
        }
        let opens = self.failures >= FAILURES_IN_A_ROW_MAX
            && (self.users.len() >= FAILING_USERS_MIN || self.silent == self.failures);
        if opens {
            let wait_ms = PROBE_MIN_MS;
            self.open = Some(Open { probe_at: now + wait_ms, wait_ms, probing: false });
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> UserId {
        UserId::parse(name).expect("a name")
    }

    fn down() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_IN_A_ROW_MAX {
            assert!(!breaker.failed(0, id("amy"), Fault::Silence));
        }
        assert!(breaker.failed(0, id("amy"), Fault::Silence));
        breaker
    }

    #[test]
    fn a_row_of_failures_of_several_users_or_without_any_answer_is_an_outage() {
        assert!(down().is_open());
        let mut breaker = Breaker::default();
        let users = ["amy", "bob", "carl", "dora"];
        let opened: Vec<bool> = (0..FAILURES_IN_A_ROW_MAX as usize)
            .map(|n| breaker.failed(0, id(users[n % 4]), Fault::Answer))
            .collect();
        assert_eq!(opened.iter().position(|opened| *opened), Some(15));
    }

    #[test]
    fn what_a_receiver_answers_to_one_user_is_no_outage() {
        let mut breaker = Breaker::default();
        for _ in 0..1000 {
            assert!(!breaker.failed(0, id("amy"), Fault::Answer));
        }
    }

    #[test]
    fn a_success_ends_the_row() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..FAILURES_IN_A_ROW_MAX {
                assert!(!breaker.failed(0, id("amy"), Fault::Silence));
            }
            let streak = breaker.streak();
            assert!(!breaker.succeeded());
            assert!(breaker.streak() > streak);
        }
    }

    #[test]
    fn an_outage_is_probed_one_call_at_a_time_after_growing_waits() {
        let mut breaker = down();
        assert_eq!(breaker.allows(999, 64), 0);
        let mut now = 1_000;
        for wait in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(breaker.allows(now, 64), 1);
            breaker.sent();
            assert_eq!((breaker.allows(now, 64), breaker.probe_at()), (0, None));
            assert!(!breaker.failed(now, id("bob"), Fault::Silence));
            assert_eq!(breaker.probe_at(), Some(now + wait));
            now += wait;
        }
        assert!(breaker.succeeded(), "it is back");
        assert_eq!(breaker.allows(now, 64), 64);
    }
}
