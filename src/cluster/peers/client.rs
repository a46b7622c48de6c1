//! Calls to other nodes. The HTTP client stays on a thread of its own; whoever asks waits for a
//! channel, and whoever sends does not wait at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::auth::Key;
use super::batch::Queue;
use super::breaker::Breaker;
use super::call::{Answer, CallError, IN_FLIGHT_MAX, Manner, Whom};
use super::metrics::{Kind, Metrics};
use super::thread::{Call, Callers, Joining};
use super::wire::{self, Asking, BODY_BYTES_MAX, Hint};
use super::{PeersError, Security, Settings, check_name, tls};
use crate::actors::elsewhere::Asked;
use crate::actors::{Elsewhere, ExecuteError, PairMessage, Question, Reply};
use crate::clock::Clock;
use crate::cluster::routes::{Owner, Routes};
use crate::journal::Partition;

/// Peers that are known at the same time at most. Addresses change with every start of a node, and
/// those that nobody uses make room.
const PEERS_MAX: usize = 1024;

/// The other nodes, as [`Elsewhere`] wants them. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    node: Arc<str>,
    plain: bool,
    routes: Arc<Routes>,
    metrics: Metrics,
    peers: Mutex<BTreeMap<Whom, Arc<Peer>>>,
    joining: mpsc::Sender<Joining>,
}

/// One peer, as those who call it see it.
struct Peer {
    calls: mpsc::Sender<Call>,
    permits: Arc<Semaphore>,
    queue: Arc<Queue>,
    breaker: Arc<Breaker>,
}

impl Peers {
    /// Starts the client's thread. Owners are looked up in `routes`, and what peers say about owners
    /// is noted there.
    ///
    /// Errors: [`PeersError::Tls`], [`PeersError::Name`], [`PeersError::Thread`].
    pub fn start(
        settings: &Settings,
        routes: Arc<Routes>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, PeersError> {
        check_name(&settings.node)?;
        let (key, tls): (Option<Key>, Option<Arc<ClientConfig>>) = match &settings.security {
            Security::Plain => (None, None),
            Security::Key(key) => (Some(key.clone()), None),
            Security::Tls(files) => (None, Some(tls::for_calls(files)?)),
        };
        let node: Arc<str> = settings.node.as_str().into();
        let manner = Manner { node: node.clone(), key, tls, clock };
        let (joining, joined) = mpsc::channel(PEERS_MAX);
        let callers = Callers { manner, routes: routes.clone(), metrics: metrics.clone() };
        let runtime = move || match actix_web::rt::Runtime::new() {
            Ok(runtime) => runtime.block_on(callers.run(joined)),
            Err(error) => {
                tracing::error!(%error, "no other node can be called: the thread for that did not start")
            }
        };
        thread::Builder::new().name("peers".into()).spawn(runtime).map_err(PeersError::Thread)?;
        let plain = matches!(settings.security, Security::Plain);
        let peers = Mutex::default();
        Ok(Self(Arc::new(Inner { node, plain, routes, metrics, peers, joining })))
    }

    async fn answer(
        self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        if patience.is_zero() {
            return Err(ExecuteError::Elsewhere);
        }
        let deadline = Instant::now() + patience;
        let inner = &*self.0;
        let (whom, peer) = inner.owner(partition).ok_or(ExecuteError::Elsewhere)?;
        let Ok(permit) = peer.permits.clone().try_acquire_owned() else {
            inner.metrics.not_called(Kind::Ask, "overloaded");
            return Err(ExecuteError::Overloaded);
        };
        let body = serde_json::to_vec(&Asking { partition, question });
        let body = body.expect("a question has a form in JSON");
        if body.len() > BODY_BYTES_MAX {
            inner.metrics.not_called(Kind::Ask, "too_long");
            return Err(ExecuteError::Overloaded);
        }
        if !peer.breaker.admits(Instant::now()) {
            inner.metrics.not_called(Kind::Ask, "paused");
            return Err(ExecuteError::Elsewhere);
        }
        let (answer, answered) = oneshot::channel();
        let call = Call { body, deadline, answer, permit };
        // There is room for as many as there are permits.
        peer.calls.try_send(call).map_err(|_| ExecuteError::Elsewhere)?;
        let answered = tokio::select! {
            answered = answered => answered,
            // An owner that hangs would hold the question although another one has taken over. What it
            // has done is known to that one.
            () = inner.routes.moved(partition, &whom.node, &whom.address) => {
                return Err(ExecuteError::Interrupted);
            }
        };
        match answered {
            Ok(Ok(answer)) => inner.understand(&answer),
            Ok(Err(CallError::Unreachable(_))) => Err(ExecuteError::Elsewhere),
            Ok(Err(CallError::Broken(_) | CallError::TimedOut | CallError::Forged)) | Err(_) => {
                Err(ExecuteError::Interrupted)
            }
        }
    }
}

impl Elsewhere for Peers {
    fn ask(&self, partition: Partition, question: Question, patience: Duration) -> Asked {
        Box::pin(self.clone().answer(partition, question, patience))
    }

    fn owner(&self, partition: Partition) -> Option<String> {
        self.0.routes.owner(partition).map(|owner| owner.node)
    }

    fn send(&self, message: PairMessage) {
        let inner = &*self.0;
        let Some((_, peer)) = inner.owner(message.to()) else {
            inner.metrics.dropped("no_owner", 1);
            return;
        };
        let message = serde_json::to_vec(&message).expect("a message has a form in JSON");
        if peer.queue.push(message).is_err() {
            inner.metrics.dropped("queue_full", 1);
        }
    }
}

impl Inner {
    /// The peer that owns `partition`, if it is one and can be called.
    fn owner(&self, partition: Partition) -> Option<(Whom, Arc<Peer>)> {
        let Owner { node, address, .. } = self.routes.owner(partition)?;
        if node == *self.node {
            return None;
        }
        let whom = Whom { node, address };
        let peer = self.peer(&whom)?;
        Some((whom, peer))
    }

    fn peer(&self, whom: &Whom) -> Option<Arc<Peer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(whom) {
            return Some(peer.clone());
        }
        let Whom { node, address } = whom;
        if !wire::is_callable(address) || check_name(node).is_err() {
            tracing::debug!(
                peer.node = ?node,
                peer.address = ?address,
                "a notice names a node or an address that cannot be"
            );
            return None;
        }
        if self.plain && !wire::is_loopback(address) {
            tracing::debug!(
                peer.node = node,
                peer.address = address,
                "a node on another machine is not called without node.secret or node.tls_*_file"
            );
            return None;
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, peer| !peer.is_idle());
            if peers.len() >= PEERS_MAX {
                return None;
            }
        }
        let (calls, called) = mpsc::channel(IN_FLIGHT_MAX);
        let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let (queue, breaker) = (Arc::<Queue>::default(), Arc::<Breaker>::default());
        let joining = Joining {
            whom: whom.clone(),
            calls: called,
            permits: permits.clone(),
            queue: queue.clone(),
            breaker: breaker.clone(),
        };
        self.joining.try_send(joining).ok()?;
        let peer = Arc::new(Peer { calls, permits, queue, breaker });
        peers.insert(whom.clone(), peer.clone());
        Some(peer)
    }

    /// What an answer to a question says.
    fn understand(&self, answer: &Answer) -> Result<Reply, ExecuteError> {
        match answer.status {
            200 => match serde_json::from_slice(&answer.body) {
                Ok(result) => result,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the answer of another node cannot be read: does it run another version?"
                    );
                    Err(ExecuteError::Interrupted)
                }
            },
            421 => {
                if let Ok(Some(Hint { partition, owner })) = serde_json::from_slice(&answer.body) {
                    self.routes.note(partition, owner);
                }
                Err(ExecuteError::Elsewhere)
            }
            503 => Err(ExecuteError::Overloaded),
            // Refused before anything was done.
            400..=499 | 508 => Err(ExecuteError::Elsewhere),
            _ => Err(ExecuteError::Interrupted),
        }
    }
}

impl Peer {
    fn is_idle(&self) -> bool {
        self.permits.available_permits() == IN_FLIGHT_MAX && self.queue.is_empty()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.queue.close();
    }
}
