//! After some failures in a row, a peer is left in peace for a moment. The time is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many failures in a row open the breaker. Rule: cluster.md 15.
const FAILURES_MAX: u32 = 5;
/// How long it stays open before one call may try again.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The breaker of one peer.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    pause_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made now. After the pause it is one, and further ones only once that
    /// one has succeeded, or after another pause.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.pause_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.pause_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// The peer has answered, whatever it said. Tells whether that ends a time without answers.
    pub(super) fn succeeded(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).pause_until.is_some()
    }

    /// The peer has not answered, or it was not the peer. Tells whether that opens the breaker.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.pause_until = Some(now + PAUSE);
        }
        state.failures == FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for failure in 1..=FAILURES_MAX {
            assert!(breaker.admits(now));
            assert_eq!(breaker.failed(now), failure == FAILURES_MAX);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_in_between_does_not() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(!breaker.admits(now));
        assert!(!breaker.admits(now + PAUSE / 2));

        let breaker = Breaker::default();
        for _ in 0..3 {
            (1..FAILURES_MAX).for_each(|_| assert!(!breaker.failed(now)));
            assert!(!breaker.succeeded());
        }
        assert!(breaker.admits(now));
    }

    #[test]
    fn after_the_pause_one_call_tries() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + PAUSE;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "one at a time");
        assert!(!breaker.failed(later), "it was open already");
        assert!(!breaker.admits(later + PAUSE / 2));
        assert!(breaker.admits(later + PAUSE));
        assert!(breaker.succeeded());
        assert!(breaker.admits(later + PAUSE) && breaker.admits(later + PAUSE));
    }

    #[test]
    fn a_try_that_never_ends_does_not_close_it_for_ever() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(breaker.admits(now + PAUSE));
        assert!(breaker.admits(now + PAUSE + PAUSE));
    }
}
