//! What came of a delivery, and what that means for its user and for its receiver.

use std::cmp::Reverse;

use super::{Line, Millis, Sent, Terms};
use crate::domain::{FailurePolicy, Timestamp, UserId};
use crate::webhooks::breaker::{FAILURES_IN_A_ROW_MAX, Fault};
use crate::webhooks::lane::Lane;

/// How much of what went wrong is kept, in bytes.
const ERROR_BYTES_MAX: usize = 120;

/// What came of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::webhooks) enum Verdict {
    /// It was accepted.
    Accepted,
    /// The receiver asks for patience.
    PutOff {
        /// For how long.
        wait_ms: Millis,
    },
    /// It failed.
    Failed {
        /// Where that lay.
        fault: Fault,
        /// What happened, for people.
        error: String,
    },
}

/// What a settled delivery meant for its subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::webhooks) struct Settled {
    /// The receiver counts as down from now on.
    pub(in crate::webhooks) went_down: bool,
    /// It is back.
    pub(in crate::webhooks) came_back: bool,
    /// The delivery is a dead letter.
    pub(in crate::webhooks) gave_up: bool,
    /// Nothing goes out any more in this partition.
    pub(in crate::webhooks) halted: bool,
}

/// What a verdict comes to.
#[derive(Clone, Copy)]
enum Outcome<'a> {
    Accepted,
    PutOff { wait_ms: Millis },
    Failed(Failure<'a>),
}

#[derive(Clone, Copy)]
struct Failure<'a> {
    fault: Fault,
    error: &'a str,
    /// The next attempt waits so long in any case.
    wait_min_ms: Millis,
}

/// How the receiver was before the verdict.
#[derive(Clone, Copy)]
struct Before {
    /// The row of failures that one more belonged to.
    streak: u64,
    down: bool,
}

impl Line {
    /// Takes note of what came of a delivery.
    pub(in crate::webhooks) fn settle(
        &mut self,
        sent: &Sent,
        verdict: &Verdict,
        now: Millis,
        at: Timestamp,
    ) -> Settled {
        self.out -= 1;
        let before = Before { streak: self.breaker.streak(), down: self.breaker.is_open() };
        let outcome = self.outcome(sent, verdict);
        let mut settled = self.note_receiver(sent.user, outcome, now);
        let ready = match outcome {
            Outcome::Accepted => self.lane_of(sent).is_some_and(|lane| lane.accepted(sent.user)),
            Outcome::PutOff { .. } => {
                self.lane_of(sent).is_some_and(|lane| lane.put_back(sent.user))
            }
            Outcome::Failed(failure) => {
                self.note_failure(sent, failure, before, (now, at), &mut settled)
            }
        };
        if ready {
            self.ready.push_back((sent.partition, sent.user));
        }
        if settled.went_down {
            self.down_since.get_or_insert(at);
            self.end_waits(|lane| lane.pardon(before.streak));
        }
        if settled.came_back {
            // Nobody waits for the end of a wait that the outage caused.
            self.end_waits(|_| {});
            self.tell_that_it_is_up();
        }
        settled
    }

    /// Patience that the receiver asks for again and again with one user alone is a failure of that
    /// user's delivery.
    fn outcome<'a>(&mut self, sent: &Sent, verdict: &'a Verdict) -> Outcome<'a> {
        match verdict {
            Verdict::Accepted => Outcome::Accepted,
            Verdict::PutOff { wait_ms } if self.is_put_off_alone(sent) => {
                Outcome::Failed(Failure {
                    fault: Fault::Answer,
                    error: "the receiver asks for patience with this user alone",
                    wait_min_ms: *wait_ms,
                })
            }
            Verdict::PutOff { wait_ms } => Outcome::PutOff { wait_ms: *wait_ms },
            Verdict::Failed { fault, error } => {
                Outcome::Failed(Failure { fault: *fault, error: short(error), wait_min_ms: 0 })
            }
        }
    }

    /// Takes note of what it says of the receiver.
    fn note_receiver(&mut self, user: UserId, outcome: Outcome<'_>, now: Millis) -> Settled {
        let mut settled = Settled::default();
        match outcome {
            Outcome::Accepted => {
                self.quiet_since = None;
                self.through += 1;
                self.breaker.succeeded();
                settled.came_back = self.down_since.take().is_some();
            }
            Outcome::PutOff { wait_ms } => {
                self.quiet_since = None;
                self.breaker.put_off();
                self.paused_until = self.paused_until.max(now + wait_ms);
            }
            Outcome::Failed(Failure { fault, error, .. }) => {
                self.error = Some(error.into());
                // The reference's way: a delivery is done with, whatever comes of it.
                if !self.terms.call_once {
                    settled.went_down = self.breaker.failed(now, user, fault);
                }
            }
        }
        settled
    }

    /// The delivery is given up, goes out again at once, or waits. Answers whether its user's next one can
    /// go out.
    fn note_failure(
        &mut self,
        sent: &Sent,
        failure: Failure<'_>,
        before: Before,
        (now, at): (Millis, Timestamp),
        settled: &mut Settled,
    ) -> bool {
        let (terms, user) = (self.terms, sent.user);
        let Some(lane) = self.lane_of(sent) else { return false };
        if terms.call_once {
            settled.gave_up = true;
            return lane.give_up_at_once(user, at, failure.error);
        }
        if before.down {
            return lane.put_back(user);
        }
        let judged = !settled.went_down
            && is_its_own_fault(lane.weigh(user, before.streak), failure.fault, &terms);
        if judged && terms.policy == FailurePolicy::Skip {
            settled.gave_up = true;
            return lane.give_up(user, at, failure.error);
        }
        let attempts = lane.failed(user, before.streak, at, failure.error);
        if judged && terms.policy == FailurePolicy::Halt {
            settled.halted = true;
            let (id, error) = (&sent.delivery.id, failure.error);
            lane.halt(&format!("{id} has failed {attempts} times: {error}"));
        }
        let wait = terms.schedule.wait(attempts, &sent.delivery.id.to_string());
        let wait_ms = (wait.as_millis() as Millis).max(failure.wait_min_ms);
        self.waiting.push(Reverse((now + wait_ms, sent.partition, user)));
        false
    }

    /// The lane that the delivery is of. None for a partition that was left meanwhile: whoever serves it makes
    /// the delivery again.
    fn lane_of(&mut self, sent: &Sent) -> Option<&mut Lane> {
        let served = self.lanes.get_mut(&sent.partition)?;
        (served.id == sent.lane).then_some(&mut served.lane)
    }

    /// The receiver asks for patience with a delivery. Answers whether it does so with its user alone.
    fn is_put_off_alone(&mut self, sent: &Sent) -> bool {
        let through = self.through;
        self.lane_of(sent).is_some_and(|lane| lane.put_off(sent.user, through))
    }

    /// Where the last cursor says that the receiver counts as down, the next one says that it is up.
    pub(super) fn tell_that_it_is_up(&mut self) {
        let told = self.lanes.values_mut().filter(|served| served.told_down);
        told.for_each(|served| served.lane.touch());
    }

    pub(super) fn end_waits(&mut self, also: impl Fn(&mut Lane)) {
        for served in self.lanes.values_mut() {
            also(&mut served.lane);
        }
        for Reverse((_, partition, user)) in std::mem::take(&mut self.waiting) {
            if let Some(served) = self.lanes.get_mut(&partition)
                && served.lane.unpark(user)
            {
                self.ready.push_back((partition, user));
            }
        }
    }
}

/// Whether a delivery has failed by its own fault, so often that the policy speaks. An attempt that failed
/// while nobody came through may be the receiver's fault. If the receiver answers, and would count as
/// down by now if it were down, it is not.
fn is_its_own_fault((sure, all): (u32, u32), fault: Fault, terms: &Terms) -> bool {
    sure >= terms.attempts_max
        || (fault == Fault::Answer && all > terms.attempts_max.max(FAILURES_IN_A_ROW_MAX))
}

/// The beginning of a text that is kept.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
