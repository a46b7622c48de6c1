//! How often a command may be called: a token bucket per app and command. Rule: rest-api.md 1.6.

use std::sync::atomic::{AtomicI64, Ordering};

use super::settings::CALLS_PER_SECOND_MAX;
use crate::domain::Timestamp;

/// What one call costs, in ticks. A limit of `n` calls per second refills `n` ticks a millisecond.
const CALL_TICKS: i64 = 1000;

/// How far the clock may go back without being noticed, in milliseconds: threads read it at
/// slightly different times.
const BACKWARDS_MS: i64 = 1000;

/// A bucket that holds as many calls as may be made in a second and refills at that rate.
///
/// Kept as one number, the moment (in ticks) at which the bucket will be full again, so that a call
/// costs one atomic exchange and all threads share one bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: i64,
    full_at: AtomicI64,
}

impl Bucket {
    /// A full bucket for `per_second` calls, 1 to [`CALLS_PER_SECOND_MAX`].
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.clamp(1, CALLS_PER_SECOND_MAX).into();
        Self { per_second, full_at: AtomicI64::new(i64::MIN) }
    }

    /// Takes one call out, if one is left.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        let size = self.per_second * CALL_TICKS;
        let now = now.0.saturating_mul(self.per_second);
        let taken = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
            // A bucket cannot be emptier than empty: if it seems so, the clock went back.
            let went_back = full_at > now.saturating_add(size + BACKWARDS_MS * self.per_second);
            let full_at = if went_back { now } else { full_at.max(now) };
            let after = full_at.saturating_add(CALL_TICKS);
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
