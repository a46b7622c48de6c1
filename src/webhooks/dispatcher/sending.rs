//! Sends deliveries, and takes note of what came of each.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Dispatcher, Happened};
use crate::webhooks::breaker::Fault;
use crate::webhooks::caller::{Link, Outcome, Post};
use crate::webhooks::cursor::Cursors;
use crate::webhooks::feed::read_again;
use crate::webhooks::lane::Delivery;
use crate::webhooks::line::{Millis, Next, Sent, Verdict};

impl<C: Cursors> Dispatcher<C> {
    /// Sends off as many deliveries as may be out.
    pub(super) fn launch(&mut self, now: Millis) {
        while let Some(next) = self.line.next(now) {
            match next {
                Next::Send(sent) => {
                    let (caller, clock) = (Rc::clone(&self.caller), self.tools.clock.clone());
                    self.work.push(Box::pin(async move {
                        let began = Instant::now();
                        let outcome = caller.attempt(&post(&sent.delivery), clock.now()).await;
                        Happened::Attempted { sent, outcome, took: began.elapsed() }
                    }));
                }
                Next::Fetch(fetching) => match &mut self.away {
                    Some(away) => away.fetch(fetching),
                    None => {
                        let journal = &*self.tools.hub.journal;
                        let deliveries = read_again(journal, fetching.partition, fetching.offset);
                        self.fetched(fetching, deliveries, now);
                    }
                },
            }
        }
    }

    pub(super) fn settle(&mut self, sent: &Sent, outcome: &Outcome, took: Duration) {
        let at = self.tools.clock.now();
        self.counts.attempted(outcome, took.as_secs_f64());
        let was_down = self.line.is_down();
        let verdict = verdict(outcome, self.subscription.delivery.call_once);
        let settled = self.line.settle(sent, &verdict, self.now(), at);
        self.log(sent, outcome, took, was_down);
        let command = sent.delivery.id.command;
        if outcome.is_delivered() {
            self.counts.done(command, true);
        }
        let name = &*self.name;
        if settled.gave_up {
            self.counts.done(command, false);
            tracing::warn!(
                webhook.subscription = name,
                webhook.id = %sent.delivery.id,
                %outcome,
                "a webhook is given up, a dead letter now: cordon webhooks resend sends it again"
            );
        }
        if settled.went_down {
            tracing::warn!(
                webhook.subscription = name,
                %outcome,
                "the receiver seems to be down: one attempt at a time from now on, and none counts"
            );
        }
        if settled.came_back {
            tracing::info!(webhook.subscription = name, "the receiver answers again");
        }
        if settled.halted {
            tracing::error!(
                webhook.subscription = name,
                journal.partition = sent.partition.0,
                webhook.id = %sent.delivery.id,
                "a webhook has failed too often: the subscription stops in this partition until it is \
                 moved with cordon webhooks seek"
            );
        }
    }

    /// A delivery that fails is told once, when it begins to fail, and again when it has come through;
    /// of a receiver that is down, or asks for patience, not every delivery is told. No body, token or
    /// signature ever is.
    fn log(&mut self, sent: &Sent, outcome: &Outcome, took: Duration, was_down: bool) {
        macro_rules! tell {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    webhook.subscription = &*self.name,
                    webhook.id = %sent.delivery.id,
                    webhook.attempt = sent.delivery.attempts + 1,
                    duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    %outcome,
                    $message
                )
            };
        }
        let asks = matches!(outcome, Outcome::Busy { .. });
        if asks && !std::mem::replace(&mut self.put_off, asks) {
            tell!(warn, "the receiver asks for patience");
            return;
        }
        self.put_off &= !outcome.is_delivered();
        match (outcome.is_delivered(), sent.delivery.attempts) {
            _ if asks => tell!(debug, "webhook put off"),
            (true, 0) => tell!(debug, "webhook delivered"),
            (true, _) => tell!(info, "webhook delivered after failures"),
            (false, 0) if !was_down => tell!(warn, "webhook not delivered"),
            (false, _) => tell!(debug, "webhook not delivered"),
        }
    }
}

fn post(delivery: &Delivery) -> Post {
    let (record, payload) = (delivery.record(), delivery.payload());
    Post {
        id: delivery.id.to_string().into(),
        command: delivery.id.command.name(),
        at: record.at,
        body: payload.body.clone(),
        by: Arc::clone(&record.by),
        link: Some(Link {
            partition: delivery.id.partition,
            seq: delivery.seq,
            prev: delivery.prev,
        }),
        attempt: delivery.attempts.saturating_add(1),
    }
}

/// What an outcome means. Where each delivery is made once, whatever comes of it, a receiver that asks for
/// patience has refused it.
fn verdict(outcome: &Outcome, call_once: bool) -> Verdict {
    let failed = |fault| Verdict::Failed { fault, error: outcome.to_string() };
    match outcome {
        Outcome::Delivered => Verdict::Accepted,
        Outcome::Busy { retry_after } if !call_once => {
            Verdict::PutOff { wait_ms: retry_after.as_millis() as Millis }
        }
        Outcome::Busy { .. } | Outcome::Refused { .. } | Outcome::Malformed { .. } => {
            failed(Fault::Answer)
        }
        Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Guarded(_) => {
            failed(Fault::Silence)
        }
    }
}
