//! The outcome of a delivery attempt and its index to what comes next; pure.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::attempt::Outcome;

/// When a failed delivery is tried again.
///
/// The wait doubles from `first_ms` to `max_ms`; each is shortened by up to half of it, so that
/// users whose deliveries failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The wait behind the first attempt, in milliseconds.
    pub first_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// Every delivery gets one attempt, whatever comes of it (`webhook.call_once`), as in the
    /// reference with its retry switched off. Rule: extensions.md 7.
    pub call_once: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { first_ms: 200, max_ms: 60_000, call_once: false }
    }
}

/// What comes after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery is done with; the user's next one may go out.
    Advance,
    /// The same delivery again, after this wait. There is no last attempt.
    RetryAfter(Duration),
}

impl Schedule {
    /// What comes after the attempt with this index, from 0, at the delivery `id`.
    ///
    /// The jitter is a function of the id and the index: the same history has the same schedule.
    pub fn next(&self, outcome: &Outcome, attempt_index: u32, id: &str) -> Next {
        if self.call_once || outcome.is_delivered() {
            return Next::Advance;
        }
        let doubled = self.first_ms.saturating_mul(1_u64.checked_shl(attempt_index).unwrap_or(0));
        // A shift beyond 64 bits leaves 0: by then the longest wait has long been reached.
        let overflown = attempt_index >= u64::BITS || doubled > self.max_ms;
        let full = if overflown { self.max_ms } else { doubled };
        let jitter = xxh3_64_with_seed(id.as_bytes(), u64::from(attempt_index)) % (full / 2 + 1);
        Next::RetryAfter(Duration::from_millis(full - jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3@77.Sns.CallbackBlackListAdd";

    fn wait_ms(schedule: &Schedule, attempt_index: u32, id: &str) -> u64 {
        match schedule.next(&Outcome::TimedOut, attempt_index, id) {
            Next::RetryAfter(wait) => u64::try_from(wait.as_millis()).expect("a short wait"),
            Next::Advance => panic!("a failed delivery is given up"),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_never_ends() {
        let schedule = Schedule::default();
        let full = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        for (attempt_index, full) in full.into_iter().enumerate() {
            let wait = wait_ms(&schedule, attempt_index as u32, ID);
            assert!((full / 2..=full).contains(&wait), "attempt {attempt_index}: {wait} ms");
        }
        for attempt_index in [63, 64, 65, 1000, u32::MAX] {
            let wait = wait_ms(&schedule, attempt_index, ID);
            assert!((30_000..=60_000).contains(&wait), "attempt {attempt_index}: {wait} ms");
        }
    }

    #[test]
    fn deliveries_that_failed_together_come_back_apart() {
        let schedule = Schedule::default();
        let waits: std::collections::BTreeSet<u64> = (0..100)
            .map(|offset| wait_ms(&schedule, 9, &format!("0@{offset}.Sns.CallbackBlackListAdd")))
            .collect();
        assert!(waits.len() > 90, "{} different waits", waits.len());
        assert_eq!(wait_ms(&schedule, 9, ID), wait_ms(&schedule, 9, ID));
    }

    #[test]
    fn what_was_delivered_is_done_and_everything_else_is_tried_again() {
        let schedule = Schedule::default();
        assert_eq!(schedule.next(&Outcome::Delivered, 5, ID), Next::Advance);
        let failures = [
            Outcome::Refused { status: 500 },
            Outcome::Malformed { reason: "no JSON object" },
            Outcome::TimedOut,
            Outcome::Unreachable { reason: "connection refused".to_owned() },
        ];
        for failure in failures {
            assert!(matches!(schedule.next(&failure, 0, ID), Next::RetryAfter(_)), "{failure:?}");
        }
    }

    #[test]
    fn call_once_gives_every_delivery_one_attempt() {
        let schedule = Schedule { call_once: true, ..Schedule::default() };
        assert_eq!(schedule.next(&Outcome::TimedOut, 0, ID), Next::Advance);
        assert_eq!(schedule.next(&Outcome::Refused { status: 503 }, 0, ID), Next::Advance);
    }
}
