//! Which signed calls were taken already: a call counts once.
//!
//! A nonce is a session, one per caller and start of a peer, and a number that grows with each call. So
//! what has been seen is a window of bits per session instead of a set of all nonces of a minute. A
//! listener does not know what an earlier start of it has taken, so it takes no calls of that time: half
//! of a session is a word that is different at each start.

use std::collections::HashMap;

use uuid::Uuid;

use super::wire::PATIENCE_MAX;
use crate::domain::Timestamp;

/// How far calls of one session may overtake each other: later than that, a call is not taken. At a
/// hundred thousand calls per second, it is more than the time that a connection may take.
const WINDOW: u64 = 1 << 16;
/// Sessions that are remembered at most; each takes 8 KiB.
const SESSIONS_MAX: usize = 1024;

/// Tells a call from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce {
    pub(super) session: Uuid,
    pub(super) number: u64,
}

/// The session of the caller `caller` with the listener of the start `start`.
pub(super) fn session(start: u64, caller: u64) -> Uuid {
    Uuid::from_u64_pair(start, caller)
}

impl Nonce {
    /// The start of the listener that the call was made for.
    pub(super) fn start(self) -> u64 {
        self.session.as_u64_pair().0
    }

    pub(super) fn text(self) -> String {
        format!("{}.{}", self.session.simple(), self.number)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (session, number) = text.split_once('.')?;
        Some(Self { session: session.parse().ok()?, number: number.parse().ok()? })
    }
}

/// The calls that were taken within the time in which they count.
#[derive(Debug, Default)]
pub(super) struct Nonces(HashMap<Uuid, Session>);

#[derive(Debug)]
struct Session {
    newest: u64,
    /// One bit per number, of the last [`WINDOW`] numbers.
    seen: Box<[u64]>,
    /// The latest time at which a call of it was signed.
    last: Timestamp,
}

impl Nonces {
    /// Takes note of a call that was signed at `at` and counts at `now`. Answers whether it may be
    /// taken: it is the first with its nonce, as far as that can be told.
    pub(super) fn take(&mut self, nonce: Nonce, at: Timestamp, now: Timestamp) -> bool {
        if !self.0.contains_key(&nonce.session) && self.0.len() >= SESSIONS_MAX {
            // Every call of such a session has become too old by itself.
            let patience_ms = PATIENCE_MAX.as_millis() as i64;
            self.0.retain(|_, session| session.last.0.saturating_add(patience_ms) >= now.0);
            if self.0.len() >= SESSIONS_MAX {
                return false;
            }
        }
        let session = self.0.entry(nonce.session).or_insert_with(|| Session {
            newest: nonce.number,
            seen: vec![0; (WINDOW / 64) as usize].into_boxed_slice(),
            last: at,
        });
        session.last = session.last.max(at);
        session.take(nonce.number)
    }
}

impl Session {
    fn take(&mut self, number: u64) -> bool {
        if number > self.newest {
            if number - self.newest >= WINDOW {
                self.seen.fill(0);
            } else {
                (self.newest + 1..=number).for_each(|number| self.mark(number, false));
            }
            self.newest = number;
        } else if self.newest - number >= WINDOW {
            return false;
        }
        let (word, bit) = place(number);
        let is_first = self.seen[word] & bit == 0;
        self.mark(number, true);
        is_first
    }

    fn mark(&mut self, number: u64, seen: bool) {
        let (word, bit) = place(number);
        if seen { self.seen[word] |= bit } else { self.seen[word] &= !bit }
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = number % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn nonce(session: u128, number: u64) -> Nonce {
        Nonce { session: Uuid::from_u128(session), number }
    }

    #[test]
    fn a_nonce_is_read_as_it_is_written() {
        let nonce = nonce(7, u64::MAX);
        assert_eq!(Nonce::parse(&nonce.text()), Some(nonce));
        for text in ["", ".", "7.7", "00000000000000000000000000000007", "x.1"] {
            assert_eq!(Nonce::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_call_counts_once_in_whatever_order_calls_come() {
        let mut nonces = Nonces::default();
        for number in [3, 1, 2, 70_000, 69_999, WINDOW, u64::MAX, u64::MAX - WINDOW + 1] {
            assert!(nonces.take(nonce(1, number), NOW, NOW), "{number}");
            assert!(!nonces.take(nonce(1, number), NOW, NOW), "{number}");
        }
        assert!(nonces.take(nonce(2, 3), NOW, NOW), "another session counts for itself");
    }

    #[test]
    fn what_is_behind_the_window_is_not_taken() {
        let mut nonces = Nonces::default();
        assert!(nonces.take(nonce(1, WINDOW), NOW, NOW));
        assert!(!nonces.take(nonce(1, 0), NOW, NOW));
        assert!(nonces.take(nonce(1, 1), NOW, NOW));
    }

    #[test]
    fn sessions_are_bounded_and_forgotten_once_their_calls_are_too_old() {
        let mut nonces = Nonces::default();
        let sessions = SESSIONS_MAX as u128;
        for session in 0..sessions {
            assert!(nonces.take(nonce(session, 1), NOW, NOW));
        }
        assert!(!nonces.take(nonce(sessions, 1), NOW, NOW));
        let edge = Timestamp(NOW.0 + PATIENCE_MAX.as_millis() as i64);
        assert!(!nonces.take(nonce(sessions, 1), edge, edge));
        let later = Timestamp(edge.0 + 1);
        assert!(nonces.take(nonce(sessions, 1), later, later));
        assert_eq!(nonces.0.len(), 1);
    }

    proptest! {
        #[test]
        fn within_the_window_the_bits_are_a_set(
            numbers in prop::collection::vec(0..WINDOW, 1..300),
        ) {
            let mut nonces = Nonces::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(
                    nonces.take(nonce(1, number), NOW, NOW),
                    set.insert(number)
                );
            }
        }
    }
}
