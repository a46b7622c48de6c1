//! What came of a call, and what that means for its user and for its receiver.

use std::cmp::Reverse;

use super::{Line, Millis, Sent};
use crate::domain::{FailurePolicy, Timestamp};
use crate::webhooks::breaker::{FAILURES_IN_A_ROW_MAX, Fault};
use crate::webhooks::lane::Lane;

/// How much of what went wrong is kept, in bytes.
const ERROR_BYTES_MAX: usize = 120;

/// What came of one call.
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

/// What a settled call meant for its subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::webhooks) struct Settled {
    /// The receiver counts as down from now on.
    pub(in crate::webhooks) went_down: bool,
    /// It is back.
    pub(in crate::webhooks) came_back: bool,
    /// The call is a dead letter.
    pub(in crate::webhooks) gave_up: bool,
    /// Nothing goes out any more in this partition.
    pub(in crate::webhooks) halted: bool,
}

impl Line {
    /// Takes note of what came of a call.
    pub(in crate::webhooks) fn settle(
        &mut self,
        sent: &Sent,
        verdict: &Verdict,
        now: Millis,
        at: Timestamp,
    ) -> Settled {
        self.out -= 1;
        let mut settled = Settled::default();
        let streak = self.breaker.streak();
        let was_down = self.breaker.is_open();
        let (alone, at_least_ms);
        let verdict = match verdict {
            Verdict::PutOff { wait_ms } if self.is_put_off_alone(sent) => {
                let error = "the receiver asks for patience with this user alone".to_owned();
                alone = Verdict::Failed { fault: Fault::Answer, error };
                at_least_ms = *wait_ms;
                &alone
            }
            other => {
                at_least_ms = 0;
                other
            }
        };
        match verdict {
            Verdict::Accepted => {
                self.quiet_since = None;
                self.through += 1;
                self.breaker.succeeded();
                settled.came_back = self.down_since.take().is_some();
            }
            Verdict::PutOff { wait_ms } => {
                self.quiet_since = None;
                self.breaker.put_off();
                self.paused_until = self.paused_until.max(now + wait_ms);
            }
            Verdict::Failed { fault, error } => {
                self.error = Some(short(error).into());
                // The reference's way: a call is done with, whatever comes of it.
                if !self.terms.call_once {
                    settled.went_down = self.breaker.failed(now, sent.user, *fault);
                }
            }
        }
        let (partition, user) = (sent.partition, sent.user);
        // A partition that was left meanwhile: whoever serves it makes the call again.
        let served = self.lanes.get_mut(&partition).filter(|served| served.id == sent.lane);
        let ready = served.is_some_and(|served| {
            let lane = &mut served.lane;
            let Verdict::Failed { error, .. } = verdict else {
                return match verdict {
                    Verdict::Accepted => lane.accepted(user),
                    _ => lane.put_back(user),
                };
            };
            let error = short(error);
            if self.terms.call_once {
                settled.gave_up = true;
                return lane.give_up_at_once(user, at, error);
            }
            if was_down {
                return lane.put_back(user);
            }
            // An attempt that failed while nobody came through may be the receiver's fault. If the
            // receiver answers, and would count as down by now if it were down, it is not.
            let (sure, all) = lane.weigh(user, streak);
            let answers = matches!(verdict, Verdict::Failed { fault: Fault::Answer, .. });
            let judged = sure >= self.terms.attempts_max
                || (answers && all > self.terms.attempts_max.max(FAILURES_IN_A_ROW_MAX));
            let judged = judged && !settled.went_down;
            if judged && self.terms.policy == FailurePolicy::Skip {
                settled.gave_up = true;
                return lane.give_up(user, at, error);
            }
            let attempts = lane.failed(user, streak, at, error);
            if judged && self.terms.policy == FailurePolicy::Halt {
                settled.halted = true;
                lane.halt(&format!("{} has failed {attempts} times: {error}", sent.call.id));
            }
            let wait = self.terms.schedule.wait(attempts, &sent.call.id.to_string());
            let wait_ms = (wait.as_millis() as Millis).max(at_least_ms);
            self.waiting.push(Reverse((now + wait_ms, partition, user)));
            false
        });
        if ready {
            self.ready.push_back((partition, user));
        }
        if settled.went_down {
            self.down_since.get_or_insert(at);
            self.end_waits(|lane| lane.pardon(streak));
        }
        if settled.came_back {
            // Nobody waits for the end of a wait that the outage caused.
            self.end_waits(|_| {});
            self.tell_that_it_is_up();
        }
        settled
    }

    /// The receiver asks for patience with a call. Answers whether it does so with its user alone.
    fn is_put_off_alone(&mut self, sent: &Sent) -> bool {
        let served = self.lanes.get_mut(&sent.partition).filter(|served| served.id == sent.lane);
        let through = self.through;
        served.is_some_and(|served| served.lane.put_off(sent.user, through))
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

/// The beginning of a text that is kept.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
