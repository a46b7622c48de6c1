//! What time it is, as a value that is handed in.
//!
//! Rooms that need the time take a [`Clock`]; the core takes a [`Timestamp`]. A clock that stands
//! still makes every rule about time testable without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// Tells the time. Cheap to clone; clones of a fixed clock show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since 1970.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine. It may jump, also backwards.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `time` until it is [`set`](Self::set).
    pub fn fixed(time: Timestamp) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(time.0))))
    }

    /// Moves a fixed clock and all its clones to `time`, forwards or backwards. The clock of the
    /// machine is not ours to set: there it does nothing.
    pub fn set(&self, time: Timestamp) {
        match &self.0 {
            Source::System => {}
            Source::Fixed(shown) => shown.store(time.0, Ordering::Release),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_time(),
            Source::Fixed(shown) => Timestamp(shown.load(Ordering::Acquire)),
        }
    }
}

fn system_time() -> Timestamp {
    // A machine set to a date before 1970 gets 1970; no rule of ours is about such times.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_1970.as_millis().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_stands_still_until_it_is_set_for_all_its_clones() {
        let clock = Clock::fixed(Timestamp::from_unix_seconds(1_700_000_100));
        let clone = clock.clone();
        assert_eq!(clone.now(), Timestamp(1_700_000_100_000));
        clock.set(Timestamp(5));
        assert_eq!((clock.now(), clone.now()), (Timestamp(5), Timestamp(5)));
    }

    #[test]
    fn the_system_clock_cannot_be_set() {
        let clock = Clock::system();
        clock.set(Timestamp(0));
        assert!(clock.now() > Timestamp::from_unix_seconds(1_700_000_000));
    }
}
