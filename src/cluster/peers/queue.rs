//! Messages that wait for one node, and how that node has behaved.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::BODY_BYTES_MAX;

/// Bytes that wait for one node at most; what does not fit is dropped, and sent again by the
/// channel that it belongs to.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Messages in one call at most.
const MESSAGES_MAX: usize = 1000;
/// Failures in a row after which a node is left alone for a while.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// One node, as its callers know it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A call with messages is under way: what comes meanwhile goes with the next one.
    pub(super) sending: bool,
    /// Questions under way.
    pub(super) asking: usize,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Peer {
    /// Takes an encoded message. Answers whether there was room.
    pub(super) fn push(&mut self, message: Vec<u8>) -> bool {
        if self.bytes + message.len() > QUEUE_BYTES_MAX {
            return false;
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
        true
    }

    /// The body of the next call, a JSON array; nothing if nothing waits.
    pub(super) fn batch(&mut self) -> Option<(Vec<u8>, usize)> {
        let mut body = vec![b'['];
        let mut count = 0;
        while count < MESSAGES_MAX
            && let Some(next) = self.waiting.front()
            && (count == 0 || body.len() + next.len() + 2 <= BODY_BYTES_MAX)
            && let Some(next) = self.waiting.pop_front()
        {
            if count > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&next);
            self.bytes -= next.len();
            count += 1;
        }
        body.push(b']');
        (count > 0).then_some((body, count))
    }

    /// Drops what waits: the node is not there.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        std::mem::take(&mut self.waiting).len()
    }

    /// Whether the node is left alone at present.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Takes note of how a call went.
    pub(super) fn note(&mut self, well: bool, now: Instant) {
        if well {
            self.failures = 0;
            self.paused_until = None;
        } else {
            self.failures += 1;
            if self.failures >= FAILURES_MAX {
                self.paused_until = Some(now + PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_together_in_order() {
        let mut peer = Peer::default();
        assert_eq!(peer.batch(), None);
        for text in ["1", "2", "3"] {
            assert!(peer.push(text.as_bytes().to_vec()));
        }
        assert_eq!(peer.batch(), Some((b"[1,2,3]".to_vec(), 3)));
        assert_eq!(peer.batch(), None);
        assert_eq!(peer.bytes, 0);
    }

    #[test]
    fn a_call_and_a_queue_are_bounded() {
        let mut peer = Peer::default();
        let big = vec![b'1'; 1 << 20];
        let taken = (0..100).filter(|_| peer.push(big.clone())).count();
        assert_eq!(taken, 8);
        let (body, count) = peer.batch().expect("something waits");
        assert!(body.len() <= BODY_BYTES_MAX && count == 3, "{count}");
        assert_eq!(peer.clear(), 5);
        for _ in 0..=MESSAGES_MAX {
            peer.push(b"1".to_vec());
        }
        assert_eq!(peer.batch().map(|(_, count)| count), Some(MESSAGES_MAX));
        assert_eq!(peer.batch().map(|(_, count)| count), Some(1));
    }

    #[test]
    fn a_node_that_fails_is_left_alone_for_a_while_and_tried_again() {
        let (mut peer, start) = (Peer::default(), Instant::now());
        for _ in 0..FAILURES_MAX - 1 {
            peer.note(false, start);
            assert!(!peer.is_paused(start));
        }
        peer.note(false, start);
        assert!(peer.is_paused(start));
        assert!(!peer.is_paused(start + PAUSE));
        peer.note(true, start);
        assert!(!peer.is_paused(start));
    }
}
