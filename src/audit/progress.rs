//! How far a long audit has come, on standard error, for a person who waits.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A shorter wait needs no word.
const SILENT: Duration = Duration::from_secs(1);
/// How often the line changes.
const EVERY: Duration = Duration::from_millis(200);
/// How many records pass between two looks at the clock.
const LOOK_EVERY: u64 = 256;

/// One line that is written over and over, and only to a terminal.
pub(super) struct Progress {
    enabled: bool,
    shown: bool,
    next: Instant,
    done: u64,
    total: u64,
}

impl Progress {
    /// Counts towards `total` records.
    pub(super) fn new(total: u64) -> Self {
        Self {
            enabled: std::io::stderr().is_terminal(),
            shown: false,
            next: Instant::now() + SILENT,
            done: 0,
            total,
        }
    }

    /// One more record.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if !self.enabled || !self.done.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let now = Instant::now();
        if now >= self.next {
            self.next = now + EVERY;
            self.shown = true;
            // A terminal that cannot be written to is no reason to stop an audit.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", line(self.done, self.total));
        }
    }

    /// Takes the line away, so that something else can be written there.
    pub(super) fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: u64) -> String {
    // Beside a running node there may be more records by now than there were at the start.
    let total = total.max(done).max(1);
    format!("read {done} of {total} records ({} %)", u128::from(done) * 100 / u128::from(total))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_share_never_passes_a_hundred_and_never_divides_by_zero() {
        assert_eq!(line(512, 1024), "read 512 of 1024 records (50 %)");
        assert_eq!(line(7, 3), "read 7 of 7 records (100 %)");
        assert_eq!(line(0, 0), "read 0 of 1 records (0 %)");
    }
}
