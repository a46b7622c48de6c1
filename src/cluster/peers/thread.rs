//! The client's thread: a caller for each peer, with questions side by side and messages one call after
//! the other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::batch::{Batch, Queue};
use super::breaker::Breaker;
use super::call::{Answer, CONNECT_TIMEOUT, CallError, Caller, IN_FLIGHT_MAX, Manner, Whom};
use super::metrics::{Kind, Metrics};
use super::wire::{ASK, Hint, PAIRING};
use crate::cluster::routes::Routes;

/// How long messages may take to be taken; nothing waits for them there.
const BATCH_PATIENCE: Duration = Duration::from_secs(1);

/// A peer that is to be called from now on.
pub(super) struct Joining {
    pub(super) whom: Whom,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) queue: Arc<Queue>,
    pub(super) breaker: Arc<Breaker>,
}

/// A question on its way.
pub(super) struct Call {
    pub(super) body: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Answer, CallError>>,
    /// Given back once the call is over, whether or not somebody still waits for it.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What all callers share.
pub(super) struct Callers {
    pub(super) manner: Manner,
    pub(super) routes: Arc<Routes>,
    pub(super) metrics: Metrics,
}

impl Callers {
    /// Makes a caller for each peer that joins; ends once nobody can call any more and all calls are
    /// over.
    pub(super) async fn run(self, mut joined: mpsc::Receiver<Joining>) {
        let mut tasks = JoinSet::new();
        while let Some(Joining { whom, calls, permits, queue, breaker }) = joined.recv().await {
            while tasks.try_join_next().is_some() {}
            let caller = Caller::new(whom.clone(), self.manner.clone());
            let metrics = self.metrics.clone();
            let peer = Rc::new(PeerCaller { whom, caller, breaker, metrics });
            tasks.spawn_local(peer.clone().ask(calls, permits));
            tasks.spawn_local(peer.deliver(queue, self.routes.clone()));
        }
        // Connections are closed by tasks, which a runtime that has ended does not run.
        while tasks.join_next().await.is_some() {}
    }
}

/// The caller of one peer.
struct PeerCaller {
    whom: Whom,
    caller: Caller,
    breaker: Arc<Breaker>,
    metrics: Metrics,
}

impl PeerCaller {
    async fn ask(self: Rc<Self>, mut calls: mpsc::Receiver<Call>, permits: Arc<Semaphore>) {
        while let Some(Call { body, deadline, answer, permit }) = calls.recv().await {
            let peer = self.clone();
            tokio::task::spawn_local(async move {
                let answered = peer.call(Kind::Ask, ASK, body, deadline).await;
                drop(peer);
                drop(permit);
                // Whoever asked may have gone.
                let _ = answer.send(answered);
            });
        }
        // All permits at once: no call is under way.
        let _ = permits.acquire_many(IN_FLIGHT_MAX as u32).await;
    }

    /// One call after the other, so that messages stay in order.
    async fn deliver(self: Rc<Self>, queue: Arc<Queue>, routes: Arc<Routes>) {
        while let Some(Batch { body, messages }) = queue.next().await {
            if !self.breaker.admits(Instant::now()) {
                self.metrics.dropped("paused", messages);
                continue;
            }
            let deadline = Instant::now() + BATCH_PATIENCE;
            match self.call(Kind::Pairing, PAIRING, body, deadline).await {
                Ok(Answer { status: 200, body }) => {
                    let hints: Vec<Hint> = serde_json::from_slice(&body).unwrap_or_default();
                    for Hint { partition, owner } in hints {
                        routes.note(partition, owner);
                    }
                }
                Ok(_) => self.metrics.dropped("refused", messages),
                Err(_) => self.metrics.dropped("unanswered", messages),
            }
        }
    }

    async fn call(
        &self,
        kind: Kind,
        path: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let began = Instant::now();
        self.metrics.calling(kind);
        let answered = self.caller.call(path, body, deadline).await;
        let took = began.elapsed();
        let outcome = match &answered {
            Ok(Answer { status: 200, .. }) => "answered",
            Ok(Answer { status: 421, .. }) => "elsewhere",
            Ok(_) => "refused",
            Err(CallError::Unreachable(_)) => "unreachable",
            Err(CallError::Broken(_)) => "broken",
            Err(CallError::TimedOut) => "timed_out",
            Err(CallError::Forged) => "forged",
        };
        let Whom { node, address } = &self.whom;
        match &answered {
            Ok(_) => {
                if self.breaker.succeeded() {
                    tracing::info!(
                        peer.node = node,
                        peer.address = address,
                        "a node answers again"
                    );
                }
            }
            // Whoever hardly had time to wait says nothing about the peer.
            Err(CallError::TimedOut) if took < CONNECT_TIMEOUT => {}
            Err(error) => {
                if self.breaker.failed(Instant::now()) {
                    tracing::warn!(
                        ?error,
                        peer.node = node,
                        peer.address = address,
                        "{}",
                        error.told()
                    );
                }
            }
        }
        self.metrics.called(kind, outcome, took);
        answered
    }
}
