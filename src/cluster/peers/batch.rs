//! Messages that wait for one peer. While a call with some is under way, all that come meanwhile go
//! into the next: an idle peer is sent to at once, and a busy one gets batches by itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::wire::{BATCH_MESSAGES_MAX, BODY_BYTES_MAX};

/// Messages that wait for one peer at most.
const MESSAGES_MAX: usize = 20_000;
/// Their bytes at most.
const BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// The queue of one peer. Many may push, one takes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// What goes into one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// A JSON list.
    pub(super) body: Vec<u8>,
    /// How many items it has.
    pub(super) messages: usize,
}

/// The queue is full, or the message is larger than any call. It is sent again by its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Queue {
    /// Adds a message, as JSON.
    pub(super) fn push(&self, message: Vec<u8>) -> Result<(), Refused> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = waiting.bytes + message.len();
        let fits = message.len() + "[]".len() <= BODY_BYTES_MAX;
        if !fits || bytes > BYTES_MAX || waiting.messages.len() >= MESSAGES_MAX {
            return Err(Refused);
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).messages.is_empty()
    }

    /// The oldest messages, as many as fit into one call, as soon as there is one. `None` once the
    /// queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(batch) = waiting.batch() {
                    return Some(batch);
                }
                if waiting.closed {
                    return None;
                }
            }
            // A wake-up between the look and this line is kept.
            self.wake.notified().await;
        }
    }

    /// Nothing more will be added.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.wake.notify_one();
    }
}

impl Waiting {
    fn batch(&mut self) -> Option<Batch> {
        let mut body = Vec::new();
        let mut messages = 0;
        while let Some(message) = self.messages.front() {
            // With the bracket or comma before it, and the bracket at the end.
            if messages == BATCH_MESSAGES_MAX || body.len() + message.len() + 2 > BODY_BYTES_MAX {
                break;
            }
            body.push(if messages == 0 { b'[' } else { b',' });
            body.extend_from_slice(message);
            messages += 1;
            self.bytes -= message.len();
            self.messages.pop_front();
        }
        body.push(b']');
        (messages > 0).then_some(Batch { body, messages })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn next(queue: &Queue) -> Option<Option<Batch>> {
        queue.next().now_or_never()
    }

    #[test]
    fn all_that_waits_goes_into_one_call_in_order() {
        let queue = Queue::default();
        assert_eq!(next(&queue), None);
        for message in ["1", "{}", "3"] {
            queue.push(message.into()).unwrap();
        }
        assert!(!queue.is_empty());
        assert_eq!(next(&queue), Some(Some(Batch { body: b"[1,{},3]".to_vec(), messages: 3 })));
        assert!(queue.is_empty());
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn a_call_is_bounded_by_count_and_by_bytes() {
        let queue = Queue::default();
        for _ in 0..=BATCH_MESSAGES_MAX {
            queue.push(b"1".to_vec()).unwrap();
        }
        assert_eq!(next(&queue).unwrap().unwrap().messages, BATCH_MESSAGES_MAX);
        assert_eq!(next(&queue).unwrap().unwrap().messages, 1);

        let half = vec![b'1'; BODY_BYTES_MAX / 2 - 1];
        for _ in 0..3 {
            queue.push(half.clone()).unwrap();
        }
        // Two halves, two brackets, a comma: one byte too many.
        assert_eq!(next(&queue).unwrap().unwrap().messages, 1);
        queue.push(vec![b'1'; BODY_BYTES_MAX / 2 - 2]).unwrap();
        assert_eq!(next(&queue).unwrap().unwrap().messages, 1);
        let batch = next(&queue).unwrap().unwrap();
        assert_eq!((batch.messages, batch.body.len()), (2, BODY_BYTES_MAX));
    }

    #[test]
    fn what_is_too_much_is_refused_and_room_is_made_by_taking() {
        let queue = Queue::default();
        assert_eq!(queue.push(vec![b'1'; BODY_BYTES_MAX - 1]), Err(Refused));
        for _ in 0..4 {
            queue.push(vec![b'1'; BODY_BYTES_MAX - 2]).unwrap();
        }
        assert_eq!(queue.push(vec![b'1'; 9]), Err(Refused));
        next(&queue).unwrap().unwrap();
        queue.push(vec![b'1'; 9]).unwrap();

        let queue = Queue::default();
        for _ in 0..MESSAGES_MAX {
            queue.push(b"1".to_vec()).unwrap();
        }
        assert_eq!(queue.push(b"1".to_vec()), Err(Refused));
    }

    #[test]
    fn a_closed_queue_ends_once_it_is_empty() {
        let queue = Queue::default();
        queue.push(b"1".to_vec()).unwrap();
        queue.close();
        assert!(next(&queue).unwrap().is_some());
        assert_eq!(next(&queue), Some(None));
    }
}
