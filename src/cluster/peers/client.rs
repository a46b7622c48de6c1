//! Calls to other nodes, from a thread of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awc::error::{ConnectError, SendRequestError};
use awc::{Client, Connector};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::auth::{Call, SIGNATURE, Signer};
use super::queue::Peer;
use super::{
    ANSWER_GRACE, ASK_PATH, Asking, BODY_BYTES_MAX, CONNECT_TIMEOUT, DEADLINE, HOPS, Hint,
    IN_FLIGHT_MAX, PAIRING_PATH, PeersError, Settings, Trust, tls,
};
use crate::actors::elsewhere::Asked;
use crate::actors::{Elsewhere, ExecuteError, PairMessage, Question, Reply};
use crate::clock::Clock;
use crate::cluster::routes::{Owner, Routes};
use crate::journal::Partition;

/// Questions and messages that the thread has not taken yet, at most.
const JOBS_MAX: usize = 16_384;
/// How long a call with messages may take.
const PAIRING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// What calls to other nodes tell the operator. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    forwards: Family<Labels, Counter>,
    seconds: Histogram,
    dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let forwards: Family<Labels, Counter> = Family::default();
        // Shown from the start, so that nothing of them is not the same as none.
        for (kind, outcome) in [("ask", "answered"), ("pairing", "taken")] {
            drop(forwards.get_or_create(&Labels { kind, outcome }));
        }
        Self {
            forwards,
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            dropped: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cordon_node_forwards",
            "Calls to other nodes by kind and outcome",
            self.forwards.clone(),
        );
        registry.register_with_unit(
            "cordon_node_ask",
            "How long questions to other nodes took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "cordon_node_dropped_messages",
            "Messages between partitions that found no room or no owner, and are sent again",
            self.dropped.clone(),
        );
    }

    fn count(&self, kind: &'static str, outcome: &'static str) {
        self.forwards.get_or_create(&Labels { kind, outcome }).inc();
    }
}

enum Job {
    Ask {
        partition: Partition,
        question: Question,
        patience: Duration,
        reply: oneshot::Sender<Result<Reply, ExecuteError>>,
    },
    Send(PairMessage),
}

/// The way to the other nodes. Cheap to clone; the last clone ends the thread.
#[derive(Clone)]
pub struct Peers {
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
}

impl Peers {
    /// Starts the thread. Errors: [`PeersError`].
    pub fn start(
        settings: Settings,
        routes: Arc<Routes>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, PeersError> {
        let tls = match &settings.trust {
            Trust::Tls(files) => Some(tls::client(files)?),
            Trust::Loopback | Trust::Secret(_) => None,
        };
        let signer = match &settings.trust {
            Trust::Secret(key) => Some(Signer::new(key)),
            Trust::Loopback | Trust::Tls(_) => None,
        };
        let (jobs, mut queue) = mpsc::channel(JOBS_MAX);
        let counted = metrics.clone();
        std::thread::Builder::new().name("peers".into()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let mut connector = Connector::new()
                    .timeout(CONNECT_TIMEOUT)
                    .handshake_timeout(CONNECT_TIMEOUT)
                    .conn_keep_alive(KEEP_ALIVE)
                    .limit(0);
                let scheme = if tls.is_some() { "https" } else { "http" };
                if let Some(tls) = tls {
                    connector = connector.rustls_0_23(tls);
                }
                let client = Client::builder()
                    .connector(connector)
                    .disable_redirects()
                    .no_default_headers()
                    .finish();
                let caller = Rc::new(Caller {
                    settings,
                    routes,
                    clock,
                    metrics: counted,
                    signer,
                    scheme,
                    client,
                    peers: RefCell::default(),
                });
                while let Some(job) = queue.recv().await {
                    caller.take(job);
                }
            });
        })?;
        Ok(Self { jobs, metrics })
    }
}

impl Elsewhere for Peers {
    fn ask(&self, partition: Partition, question: Question, patience: Duration) -> Asked {
        let (reply, answer) = oneshot::channel();
        let job = Job::Ask { partition, question, patience, reply };
        if self.jobs.try_send(job).is_err() {
            self.metrics.count("ask", "overload");
            return Box::pin(std::future::ready(Err(ExecuteError::Overloaded)));
        }
        Box::pin(async move { answer.await.unwrap_or(Err(ExecuteError::Interrupted)) })
    }

    fn send(&self, message: PairMessage) {
        if self.jobs.try_send(Job::Send(message)).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

struct Caller {
    settings: Settings,
    routes: Arc<Routes>,
    clock: Clock,
    metrics: Metrics,
    signer: Option<Signer>,
    scheme: &'static str,
    client: Client,
    peers: RefCell<HashMap<String, Peer>>,
}

/// A whole answer of another node.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Why there is none.
enum Failed {
    /// The call never reached the other node.
    Unsent,
    /// It may have.
    Unknown,
}

impl Caller {
    fn take(self: &Rc<Self>, job: Job) {
        match job {
            Job::Ask { partition, question, patience, reply } => {
                let Some(owner) = self.other_owner(partition) else {
                    self.metrics.count("ask", "no_owner");
                    let _ = reply.send(Err(ExecuteError::Elsewhere));
                    return;
                };
                let error = {
                    let mut peers = self.peers.borrow_mut();
                    let peer = peers.entry(owner.address.clone()).or_default();
                    if peer.is_paused(Instant::now()) {
                        Some((ExecuteError::Elsewhere, "paused"))
                    } else if peer.asking >= IN_FLIGHT_MAX {
                        Some((ExecuteError::Overloaded, "overload"))
                    } else {
                        peer.asking += 1;
                        None
                    }
                };
                if let Some((error, outcome)) = error {
                    self.metrics.count("ask", outcome);
                    let _ = reply.send(Err(error));
                    return;
                }
                let caller = self.clone();
                actix_web::rt::spawn(async move {
                    let answer = caller.ask(&owner, partition, question, patience).await;
                    if let Some(peer) = caller.peers.borrow_mut().get_mut(&owner.address) {
                        peer.asking -= 1;
                    }
                    // Whoever asked may have given up.
                    let _ = reply.send(answer);
                });
            }
            Job::Send(message) => self.send(&message),
        }
    }

    /// The owner of `partition`, if it is another node.
    fn other_owner(&self, partition: Partition) -> Option<Owner> {
        self.routes.owner(partition).filter(|owner| owner.address != self.settings.address)
    }

    async fn ask(
        &self,
        owner: &Owner,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        let began = Instant::now();
        let Ok(body) = serde_json::to_vec(&Asking { partition, question }) else {
            return Err(ExecuteError::Unavailable);
        };
        let deadline = patience.as_millis().to_string();
        let limit = patience + ANSWER_GRACE;
        let answer = self.call(&owner.address, ASK_PATH, &deadline, body, limit).await;
        self.note(&owner.address, answer.is_ok());
        self.metrics.seconds.observe(began.elapsed().as_secs_f64());
        let (outcome, answer) = match answer {
            Ok(Answer { status: 200, body }) => match serde_json::from_slice(&body) {
                Ok(answer) => ("answered", answer),
                Err(_) => ("unreadable", Err(ExecuteError::Interrupted)),
            },
            Ok(Answer { status: 421, body }) => {
                self.take_hint(&body);
                ("not_there", Err(ExecuteError::Elsewhere))
            }
            Ok(Answer { status: 503, .. }) => ("overload", Err(ExecuteError::Overloaded)),
            Ok(Answer { status, .. }) => {
                tracing::warn!(status, peer = owner.address, "a node refuses a question");
                ("refused", Err(ExecuteError::Elsewhere))
            }
            Err(Failed::Unsent) => ("unreached", Err(ExecuteError::Elsewhere)),
            Err(Failed::Unknown) => ("broken", Err(ExecuteError::Interrupted)),
        };
        self.metrics.count("ask", outcome);
        answer
    }

    /// A node that does not own a partition has said who does.
    fn take_hint(&self, body: &[u8]) {
        if let Ok(Some(hint)) = serde_json::from_slice::<Option<Hint>>(body) {
            let Hint { partition, epoch, node, address } = hint;
            self.routes.note(partition, Owner { epoch, node, address });
        }
    }

    fn note(&self, address: &str, well: bool) {
        if let Some(peer) = self.peers.borrow_mut().get_mut(address) {
            peer.note(well, Instant::now());
        }
    }

    fn send(self: &Rc<Self>, message: &PairMessage) {
        let owner = self.other_owner(message.to());
        let encoded = serde_json::to_vec(message).ok();
        let (Some(owner), Some(encoded)) = (owner, encoded) else {
            self.metrics.dropped.inc();
            return;
        };
        {
            let mut peers = self.peers.borrow_mut();
            let peer = peers.entry(owner.address.clone()).or_default();
            if peer.is_paused(Instant::now()) || !peer.push(encoded) {
                self.metrics.dropped.inc();
                return;
            }
            if std::mem::replace(&mut peer.sending, true) {
                return;
            }
        }
        let caller = self.clone();
        actix_web::rt::spawn(async move { caller.send_all(owner.address).await });
    }

    /// Sends what waits for one node, call after call, until nothing does.
    async fn send_all(&self, address: String) {
        loop {
            let batch = {
                let mut peers = self.peers.borrow_mut();
                let Some(peer) = peers.get_mut(&address) else { return };
                let batch = peer.batch();
                peer.sending = batch.is_some();
                batch
            };
            let Some((body, count)) = batch else { return };
            let answer = self.call(&address, PAIRING_PATH, "", body, PAIRING_TIMEOUT).await;
            self.note(&address, answer.is_ok());
            let outcome = match answer {
                Ok(Answer { status: 200, body }) => {
                    for hint in serde_json::from_slice::<Vec<Hint>>(&body).unwrap_or_default() {
                        let Hint { partition, epoch, node, address } = hint;
                        self.routes.note(partition, Owner { epoch, node, address });
                    }
                    "taken"
                }
                Ok(Answer { status, .. }) => {
                    tracing::warn!(status, peer = address, "a node refuses messages");
                    "refused"
                }
                Err(Failed::Unsent) => "unreached",
                Err(Failed::Unknown) => "broken",
            };
            self.metrics.count("pairing", outcome);
            if outcome != "taken" {
                let mut peers = self.peers.borrow_mut();
                let dropped = peers.get_mut(&address).map_or(0, Peer::clear) + count;
                self.metrics.dropped.inc_by(dropped as u64);
            }
        }
    }

    async fn call(
        &self,
        address: &str,
        path: &str,
        deadline: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, Failed> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Failed::Unsent);
        }
        let call = Call { path, deadline, hops: "1", body: &body };
        let signed = self
            .signer
            .as_ref()
            .map(|signer| signer.sign(&self.settings.node, self.clock.now(), call));
        let url = format!("{}://{address}{path}", self.scheme);
        let mut request = self
            .client
            .post(url)
            .timeout(limit)
            .insert_header(("content-type", "application/json"))
            .insert_header((DEADLINE, deadline))
            .insert_header((HOPS, "1"));
        if let Some((signature, _)) = &signed {
            request = request.insert_header((SIGNATURE, signature.as_str()));
        }
        let whole = async {
            let mut response = request.send_body(body).await.map_err(|error| failure(&error))?;
            let status = response.status().as_u16();
            let answer = response.body().limit(BODY_BYTES_MAX).await;
            let body = answer.map_err(|_| Failed::Unknown)?.to_vec();
            let header = response.headers().get(SIGNATURE).and_then(|value| value.to_str().ok());
            let header = header.map(str::to_owned);
            Ok((status, body, header))
        };
        let (status, body, header) =
            tokio::time::timeout(limit, whole).await.map_err(|_| Failed::Unknown)??;
        self.believe(signed.map(|(_, number)| number), header.as_deref(), status, &body)?;
        Ok(Answer { status, body })
    }

    /// An answer that is not signed by a node of this cluster is none.
    fn believe(
        &self,
        number: Option<Uuid>,
        header: Option<&str>,
        status: u16,
        body: &[u8],
    ) -> Result<(), Failed> {
        let (Some(signer), Some(number)) = (&self.signer, number) else { return Ok(()) };
        if signer.is_answer(header, number, status, body) {
            return Ok(());
        }
        tracing::warn!(status, "an answer between nodes is not signed with this cluster's key");
        Err(Failed::Unknown)
    }
}

fn failure(error: &SendRequestError) -> Failed {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => Failed::Unknown,
        SendRequestError::Connect(_) | SendRequestError::Url(_) => Failed::Unsent,
        _ => Failed::Unknown,
    }
}
