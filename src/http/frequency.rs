//! How often something may be asked: a token bucket per app and command. Rule: rest-api.md 1.6.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::Operation;
use super::settings::CALLS_PER_SECOND_MAX;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::webhooks::RequestOverLimit;

/// Above how much of a limit somebody is told, in hundredths. Rule: the reference, "API Overclocking Alarm
/// Callbacks".
const ALARM_PERCENT: u64 = 80;
/// The pause between two alarms about the same command, in milliseconds.
const ALARM_PAUSE_MS: i64 = 60_000;
/// The longest wait, in ms, for the second that the alarm is about to end. It is only reached when the
/// clock goes back.
const ALARM_WAIT_MAX_MS: i64 = 2_000;

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

/// How often an app calls one command, and how often it may.
#[derive(Debug)]
pub(super) struct Frequency {
    bucket: Bucket,
    limit: u32,
    /// The calls of the second that runs, refused ones too, and those of the one before it.
    running: AtomicU64,
    ended: AtomicU64,
    /// Until when nobody is told again.
    quiet_until: AtomicI64,
}

/// Calls of one second, kept as one number: the second since 1970, as far as it has room, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calls {
    second: u32,
    count: u32,
}

impl Calls {
    fn of(number: u64) -> Self {
        Self { second: (number >> 32) as u32, count: number as u32 }
    }

    fn number(self) -> u64 {
        u64::from(self.second) << 32 | u64::from(self.count)
    }

    /// Those of `second` with one more. A thread whose clock is a little behind counts with the others.
    fn and_one(self, second: u32) -> Self {
        match self.second.wrapping_sub(second) {
            0 | 1 => Self { count: self.count.saturating_add(1), ..self },
            _ => Self { second, count: 1 },
        }
    }
}

impl Frequency {
    /// `limit` a second, 1 to [`CALLS_PER_SECOND_MAX`].
    pub(super) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            bucket: Bucket::new(limit),
            limit: limit.clamp(1, CALLS_PER_SECOND_MAX),
            running: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            quiet_until: AtomicI64::new(i64::MIN),
        })
    }

    /// Counts one call. Answers whether it may be made, and the second to raise an alarm about, if any.
    pub(super) fn count(&self, now: Timestamp) -> (bool, Option<u32>) {
        let second = now.0.div_euclid(1000) as u32;
        let calls = self.note(second);
        let alarms = u64::from(calls.count) == u64::from(self.limit) * ALARM_PERCENT / 100 + 1;
        let is_told = alarms && {
            let until = self.quiet_until.load(Ordering::Relaxed);
            // So long is no pause: the clock went back.
            now.0 >= until || until > now.0.saturating_add(ALARM_PAUSE_MS)
        };
        if is_told {
            self.quiet_until.store(now.0.saturating_add(ALARM_PAUSE_MS), Ordering::Relaxed);
        }
        (self.bucket.take(now), is_told.then_some(calls.second))
    }

    /// Notes a call in `second`; answers the calls of the second that it was counted in. One call of a
    /// second gets each number.
    fn note(&self, second: u32) -> Calls {
        let one_more = |number| Some(Calls::of(number).and_one(second).number());
        let before = self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        let before = Calls::of(before.unwrap_or_else(|number| number));
        let after = before.and_one(second);
        if after.second != before.second {
            self.ended.store(before.number(), Ordering::Release);
        }
        after
    }

    /// The calls of `second`, as long as that was not long ago.
    fn calls(&self, second: u32) -> Option<u32> {
        let known =
            [&self.running, &self.ended].map(|calls| Calls::of(calls.load(Ordering::Acquire)));
        known.into_iter().find(|calls| calls.second == second).map(|calls| calls.count)
    }
}

/// A command is called nearly as often as it may be.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    pub(super) operation: Operation,
    pub(super) frequency: Arc<Frequency>,
    pub(super) second: u32,
    pub(super) at: Timestamp,
}

impl Alarm {
    /// Waits until the second is over, and tells how often the command was called in it.
    pub(super) async fn counted(self, clock: Clock) -> RequestOverLimit {
        let left_ms = (self.ends_at().0 - clock.now().0).clamp(0, ALARM_WAIT_MAX_MS);
        tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
        RequestOverLimit {
            command: self.operation.command(),
            requests: self.requests(),
            limit: self.frequency.limit,
        }
    }

    /// When the second is over.
    fn ends_at(&self) -> Timestamp {
        let second = self.at.0.div_euclid(1000);
        let ahead = self.second.wrapping_sub(second as u32);
        Timestamp((second + i64::from(ahead) + 1) * 1000)
    }

    /// The calls of the second, refused ones too.
    fn requests(&self) -> u32 {
        // Somebody who asks too late hears what is certain.
        let least = u64::from(self.frequency.limit) * ALARM_PERCENT / 100 + 1;
        self.frequency.calls(self.second).unwrap_or(u32::try_from(least).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls so often within the second that begins at `from`; answers how many may be made, and of how
    /// many seconds somebody is told.
    fn called(frequency: &Frequency, times: usize, from: i64) -> (usize, Vec<u32>) {
        let counted = (0..times).map(|_| frequency.count(later(from)));
        let (may, told): (Vec<bool>, Vec<Option<u32>>) = counted.unzip();
        (may.into_iter().filter(|may| *may).count(), told.into_iter().flatten().collect())
    }

    #[test]
    fn of_a_limit_that_is_nearly_reached_somebody_is_told_once_a_minute() {
        let frequency = Frequency::new(200);
        let second = (NOW.0 / 1000) as u32;
        assert_eq!(called(&frequency, 160, 0), (160, vec![]));
        assert_eq!(called(&frequency, 160, 1000), (160, vec![]));
        assert_eq!(called(&frequency, 161, 2000), (161, vec![second + 2]));
        assert_eq!(called(&frequency, 500, 3000), (200, vec![]));
        assert_eq!(called(&frequency, 500, 61_000), (200, vec![]));
        assert_eq!(called(&frequency, 500, 62_000), (200, vec![second + 62]));
    }

    #[test]
    fn calls_that_are_refused_count_and_are_known_when_the_second_is_over() {
        let frequency = Frequency::new(200);
        let (_, told) = called(&frequency, 510, 0);
        assert_eq!(frequency.calls(told[0]), Some(510));
        called(&frequency, 3, 1000);
        assert_eq!(frequency.calls(told[0]), Some(510));
        called(&frequency, 3, 2000);
        assert_eq!(frequency.calls(told[0]), None);
    }

    #[test]
    fn a_thread_whose_clock_is_a_little_behind_counts_with_the_others() {
        let frequency = Frequency::new(200);
        called(&frequency, 100, 1000);
        called(&frequency, 100, 999);
        assert_eq!(frequency.calls((NOW.0 / 1000) as u32 + 1), Some(200));
    }

    #[test]
    fn a_clock_that_goes_back_an_hour_silences_no_alarm() {
        let frequency = Frequency::new(10);
        assert_eq!(called(&frequency, 9, 0).1.len(), 1);
        assert_eq!(called(&frequency, 9, -3_600_000).1.len(), 1);
    }

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
