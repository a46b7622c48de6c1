//! How long a failed delivery waits for its next attempt; pure.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// When a failed delivery is tried again.
///
/// The wait doubles from `first_ms` to `max_ms`; each is longer by up to half of it, so that users
/// whose deliveries failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The wait behind the first attempt, in milliseconds.
    pub first_ms: u64,
    /// The longest wait, in milliseconds, before it is made longer.
    pub max_ms: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { first_ms: 500, max_ms: 60_000 }
    }
}

impl Schedule {
    /// The wait after `attempts` attempts, at least one, at the delivery `id`.
    ///
    /// The jitter is a function of the id and the number: the same history has the same schedule.
    pub fn wait(&self, attempts: u32, id: &str) -> Duration {
        let shift = attempts.saturating_sub(1);
        let doubled = 1_u64
            .checked_shl(shift)
            .map_or(u64::MAX, |factor| self.first_ms.saturating_mul(factor));
        let full = doubled.min(self.max_ms);
        let jitter = xxh3_64_with_seed(id.as_bytes(), u64::from(attempts)) % (full / 2 + 1);
        Duration::from_millis(full.saturating_add(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3@77.Sns.CallbackBlackListAdd";

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_never_ends() {
        let schedule = Schedule::default();
        let full = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        let longest = [63, 64, 65, 66, 1000, u32::MAX].map(|attempts| (attempts, 60_000));
        for (attempts, full) in (1..).zip(full).chain(longest) {
            let wait = schedule.wait(attempts, ID).as_millis();
            assert!((full..=full + full / 2).contains(&wait), "attempt {attempts}: {wait} ms");
        }
    }

    #[test]
    fn calls_that_failed_together_come_back_apart() {
        let schedule = Schedule::default();
        let waits: std::collections::BTreeSet<Duration> = (0..100)
            .map(|offset| schedule.wait(9, &format!("0@{offset}.Sns.CallbackBlackListAdd")))
            .collect();
        assert!(waits.len() > 90, "{} different waits", waits.len());
        assert_eq!(schedule.wait(9, ID), schedule.wait(9, ID));
    }
}
