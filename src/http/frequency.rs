//! How often something may be asked: a token bucket per app and command. Rule: rest-api.md 1.6.

use std::sync::atomic::{AtomicI64, Ordering};

use super::settings::CALLS_PER_SECOND_MAX;
use crate::domain::Timestamp;

/// How far the clock may go back without being noticed, in milliseconds: threads read it at
/// slightly different times.
const BACKWARDS_MS: i64 = 1000;

/// A bucket that holds as many calls as may be made in a while and refills at that rate.
///
/// Kept as one number, the moment (in ticks) at which the bucket will be full again, so that a call
/// costs one atomic exchange and all threads share one bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Calls that it holds: as many ticks go by in a millisecond.
    calls: i64,
    /// What one call costs.
    call_ticks: i64,
    full_at: AtomicI64,
}

impl Bucket {
    /// A full bucket for `calls` a second, 1 to [`CALLS_PER_SECOND_MAX`].
    pub(super) fn new(calls: u32) -> Self {
        Self::of(calls, 1000)
    }

    /// A full bucket for `calls` a minute, 1 to [`CALLS_PER_SECOND_MAX`].
    pub(super) fn per_minute(calls: u32) -> Self {
        Self::of(calls, 60_000)
    }

    /// A limit of `n` calls in `while_ms` refills `n` ticks a millisecond.
    fn of(calls: u32, while_ms: i64) -> Self {
        let calls = calls.clamp(1, CALLS_PER_SECOND_MAX).into();
        Self { calls, call_ticks: while_ms, full_at: AtomicI64::new(i64::MIN) }
    }

    /// Takes one call out, if one is left.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        self.take_many(1, now)
    }

    /// Takes `count` calls out, if so many are left.
    pub(super) fn take_many(&self, count: usize, now: Timestamp) -> bool {
        let size = self.calls * self.call_ticks;
        let cost = self.call_ticks.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX));
        let now = now.0.saturating_mul(self.calls);
        let taken = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
            // A bucket cannot be emptier than empty: if it seems so, the clock went back.
            let went_back = full_at > now.saturating_add(size + BACKWARDS_MS * self.calls);
            let full_at = if went_back { now } else { full_at.max(now) };
            let after = full_at.saturating_add(cost);
            (after <= now.saturating_add(size)).then_some(after)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_100_000);

    fn later(ms: i64) -> Timestamp {
        Timestamp(NOW.0 + ms)
    }

    fn calls_passed(bucket: &Bucket, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_full_bucket_holds_the_calls_of_one_second() {
        for limit in [1, 100, 200] {
            assert_eq!(calls_passed(&Bucket::new(limit), NOW), limit as usize);
        }
    }

    #[test]
    fn it_refills_at_the_limit_per_second_and_never_above_its_size() {
        let bucket = Bucket::new(200);
        assert_eq!(calls_passed(&bucket, NOW), 200);
        assert_eq!(calls_passed(&bucket, later(4)), 0);
        assert_eq!(calls_passed(&bucket, later(5)), 1);
        assert_eq!(calls_passed(&bucket, later(505)), 100);
        assert_eq!(calls_passed(&bucket, later(60_000)), 200);
    }

    #[test]
    fn a_limit_per_minute_may_be_used_up_at_once() {
        let bucket = Bucket::per_minute(12_000);
        assert!(bucket.take_many(11_999, NOW) && !bucket.take_many(2, NOW) && bucket.take(NOW));
        assert!(!bucket.take(NOW));
        assert!(bucket.take_many(200, later(1000)) && !bucket.take(later(1000)));
        assert!(bucket.take_many(12_000, later(61_000)));
    }

    #[test]
    fn a_refused_call_costs_nothing() {
        let bucket = Bucket::new(1);
        assert!(bucket.take(NOW));
        assert!((1..1000).all(|ms| !bucket.take(later(ms))));
        assert!(bucket.take(later(1000)));
    }

    #[test]
    fn a_clock_that_goes_back_an_hour_does_not_lock_callers_out() {
        let bucket = Bucket::new(200);
        assert_eq!(calls_passed(&bucket, NOW), 200);
        assert!(bucket.take(later(-3_600_000)));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_gives_nothing_away() {
        let bucket = Bucket::new(200);
        assert_eq!(calls_passed(&bucket, NOW), 200);
        assert_eq!(calls_passed(&bucket, later(-900)), 0);
    }

    #[test]
    fn the_largest_limit_does_not_overflow() {
        let bucket = Bucket::new(u32::MAX);
        assert!(bucket.take(NOW));
        assert!(bucket.take(Timestamp(253_402_300_799_000)));
    }
}
