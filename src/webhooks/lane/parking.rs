//! Users whose deliveries fail: they wait, and the low-water mark may pass their records.

use super::{Lane, PARKED_USERS_MAX, QueueState};
use crate::domain::{Timestamp, UserId};

/// How often a receiver may ask for patience with the same delivery, others coming through each time, before
/// that is a failure of this delivery: one that is busy meets a delivery a few times, hardly as often.
const PUT_OFFS_MAX: u32 = 16;

impl Lane {
    /// The reading position has reached the floor: users with nothing left are not parked any more.
    pub(super) fn forget_restored(&mut self) {
        if self.is_searching() {
            return;
        }
        for user in std::mem::take(&mut self.restored).into_keys() {
            self.relax(user);
        }
    }

    /// A user is parked no longer once everything before the mark is done and no record in part, and is
    /// forgotten once everything is.
    pub(super) fn relax(&mut self, user: UserId) {
        let Some(queue) = self.users.get_mut(&user) else { return };
        let front = queue.records.front().map(|front| (front.spot.place.next, front.done));
        let waits_for_more = self.restored.contains_key(&user);
        if queue.parked
            && !waits_for_more
            && queue.state != QueueState::Waiting
            && front.is_none_or(|(front, done)| done == 0 && self.owed.contains_key(&front))
        {
            queue.parked = false;
            self.parked_users -= 1;
            self.parked_records -= queue.records.len();
            for queued in &queue.records {
                if let Some(owed) = self.owed.get_mut(&queued.spot.place.next) {
                    owed.held = false;
                    self.open += usize::from(owed.left > 0);
                }
            }
            self.dirty = true;
        }
        if front.is_none() && !queue.parked && queue.state != QueueState::Stalled {
            self.users.remove(&user);
        }
    }

    /// How many attempts at the user's delivery have failed, the one that is out included: surely by the
    /// delivery's own fault, because others came through meanwhile; and in all.
    pub(in crate::webhooks) fn weigh(&self, user: UserId, streak: u64) -> (u32, u32) {
        let Some(queue) = self.users.get(&user) else { return (0, 0) };
        let sure = queue.attempts + if queue.streak == streak { 0 } else { queue.doubtful };
        (sure, queue.attempts.saturating_add(queue.doubtful).saturating_add(1))
    }

    /// The user's delivery failed, in the row of failures `streak`, and waits. Answers how many attempts
    /// it has had.
    pub(in crate::webhooks) fn failed(
        &mut self,
        user: UserId,
        streak: u64,
        at: Timestamp,
        error: &str,
    ) -> u32 {
        let Some(queue) = self.users.get_mut(&user) else { return 0 };
        if queue.attempts + queue.doubtful == 0 {
            queue.since = at;
        }
        if queue.streak != streak {
            // The row that they were in has ended: it was not the receiver.
            queue.attempts += std::mem::take(&mut queue.doubtful);
            queue.streak = streak;
        }
        queue.doubtful = queue.doubtful.saturating_add(1);
        queue.error = error.into();
        queue.state = QueueState::Waiting;
        let attempts = queue.attempts.saturating_add(queue.doubtful);
        self.out -= 1;
        self.stale = true;
        self.park(user);
        attempts
    }

    pub(super) fn park(&mut self, user: UserId) {
        let Some(queue) = self.users.get_mut(&user) else { return };
        if queue.parked || self.parked_users >= PARKED_USERS_MAX {
            return;
        }
        queue.parked = true;
        self.dirty = true;
        self.parked_users += 1;
        self.parked_records += queue.records.len();
        for (index, queued) in queue.records.iter_mut().enumerate() {
            if index > 0 {
                self.bytes -= std::mem::take(&mut queued.bytes);
                queued.deliveries = None;
            }
            if let Some(owed) = self.owed.get_mut(&queued.spot.place.next) {
                owed.held = true;
                self.open -= usize::from(owed.left > 0);
            }
        }
        self.settle();
    }

    /// The receiver asks for patience with the user's delivery, when `through` deliveries have come
    /// through by now. Answers whether it does so with this user alone.
    pub(in crate::webhooks) fn put_off(&mut self, user: UserId, through: u64) -> bool {
        let Some(queue) = self.users.get_mut(&user) else { return false };
        queue.put_offs = queue.put_offs.saturating_add(u32::from(queue.through < through));
        queue.through = through;
        queue.put_offs > PUT_OFFS_MAX
    }

    /// The user's delivery goes out again without having been spent.
    pub(in crate::webhooks) fn put_back(&mut self, user: UserId) -> bool {
        let Some(queue) = self.users.get_mut(&user) else { return false };
        self.out -= 1;
        queue.state = QueueState::Ready;
        true
    }

    /// The wait is over. Answers whether the user had been waiting and can go on.
    pub(in crate::webhooks) fn unpark(&mut self, user: UserId) -> bool {
        match self.users.get_mut(&user) {
            Some(queue) if queue.state == QueueState::Waiting => {
                queue.state = QueueState::Ready;
                let can_go_on = !queue.records.is_empty();
                if !can_go_on {
                    self.relax(user);
                }
                can_go_on
            }
            Some(_) | None => false,
        }
    }

    /// It was the receiver: the attempts of the row of failures `streak` are not spent.
    pub(in crate::webhooks) fn pardon(&mut self, streak: u64) {
        for queue in self.users.values_mut().filter(|queue| queue.streak == streak) {
            queue.doubtful = 0;
        }
    }

    /// Users who wait for their next attempt, with the attempts that they have had.
    pub(in crate::webhooks) fn waiting(&self) -> Vec<(UserId, u32)> {
        let waiting = self.users.iter().filter(|(_, queue)| queue.state == QueueState::Waiting);
        waiting.map(|(user, queue)| (*user, queue.attempts + queue.doubtful)).collect()
    }
}
