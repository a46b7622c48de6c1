//! Users whose next deliveries wait until a cursor is durable.

use std::collections::HashMap;

use super::{Lane, Queue, QueueState, SaveMark};
use crate::domain::{Timestamp, UserId};
use crate::journal::Offset;

/// What a user waits for: a cursor that covers so many deliveries given up and, if one of them was theirs,
/// is behind its record. Otherwise a crash would have it called again after the user's next delivery.
pub(super) struct Stall {
    pub(super) user: UserId,
    pub(super) given_up: u64,
    pub(super) died_at: Option<Offset>,
}

impl Stall {
    /// Whether the cursor of `mark` is what was waited for. A record of several deliveries that could not be
    /// parked, because so many are, holds the mark itself: then it is enough that the letter is durable.
    pub(super) fn is_over(&self, mark: &SaveMark, users: &HashMap<UserId, Queue>) -> bool {
        let is_passed = self.died_at.is_none_or(|at| {
            let front = users.get(&self.user).and_then(|queue| queue.records.front());
            at < mark.next
                || (at == mark.next && front.is_some_and(|front| front.spot.place.next == at))
        });
        self.given_up <= mark.given_up && is_passed
    }
}

impl Lane {
    /// The user's delivery is given up, and becomes a dead letter. Answers as [`Self::accepted`] does.
    /// The user's next delivery waits for a cursor behind that: otherwise a crash would have it told first.
    pub(in crate::webhooks) fn give_up(
        &mut self,
        user: UserId,
        at: Timestamp,
        error: &str,
    ) -> bool {
        let front = self.users.get(&user).and_then(|queue| queue.records.front());
        let Some((died_at, last)) =
            front.map(|front| (front.spot.place.next, front.done + 1 == front.total))
        else {
            return false;
        };
        if !last {
            // The record has more deliveries. It would hold the mark that they wait for.
            self.park(user);
        }
        self.finish(user, Some((at, error)), QueueState::Stalled);
        let given_up = self.given_up;
        self.stalled.push(Stall { user, given_up, died_at: Some(died_at) });
        false
    }

    /// The user waits for no cursor any more. Answers whether a delivery can go out.
    pub(super) fn resume(&mut self, user: UserId) -> bool {
        let Some(queue) = self.users.get_mut(&user) else { return false };
        if queue.state == QueueState::Stalled {
            queue.state = QueueState::Ready;
        }
        let has_more = !queue.records.is_empty();
        self.relax(user);
        has_more
    }
}
