//! One call to one peer: sign, send, read the answer within its bounds, and know it for the peer's.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awc::error::{ConnectError, SendRequestError};
use awc::http::StatusCode;
use awc::http::header::{CONTENT_TYPE, USER_AGENT};
use awc::{Client, Connector};
use bytes::Bytes;
use rustls::ClientConfig;
use uuid::Uuid;

use super::auth::{Covered, Key, hash};
use super::nonces::{Nonce, session};
use super::wire::{
    BODY_BYTES_MAX, BODY_HASH, DEADLINE_MS, FROM, Greeting, HOPS, NONCE, SIGNATURE, TIMESTAMP_MS,
    TO,
};
use crate::clock::Clock;

/// Questions under way to one peer at most. Rule: cluster.md 15.
pub(super) const IN_FLIGHT_MAX: usize = 256;
/// How long a connection may take to come about. Rule: cluster.md 15.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long an idle connection is kept: less than a listener keeps it, so that a call rarely meets a
/// closing one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a connection is used at all: names may have gone to other addresses.
const LIFETIME: Duration = Duration::from_secs(600);
/// What is taken off the deadline for the way back, so that the peer's own word of a passed deadline
/// arrives: a tenth, and no more than this.
const WAY_BACK_MAX: Duration = Duration::from_millis(50);
/// This node is the first to send the call, and nobody passes one on.
const HOPS_HERE: &str = "1";

/// Which node, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Whom {
    pub(super) node: String,
    pub(super) address: String,
}

/// How this node calls others.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) node: Arc<str>,
    pub(super) key: Option<Key>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) clock: Clock,
}

/// An answer that the peer has given, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// Nothing was sent.
    Unreachable(String),
    /// It broke, and the peer may have done what it was asked.
    Broken(String),
    /// No whole answer until the deadline; the same holds.
    TimedOut,
    /// Somebody answered who need not be the peer.
    Forged,
}

impl CallError {
    /// What an operator may do about it.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::TimedOut => "a node does not answer",
            Self::Forged => {
                "a node answers without proof that it is one: node.secret is not the same there"
            }
        }
    }
}

/// Calls one peer. It lives on one thread, as its client does.
pub(super) struct Caller {
    client: Client,
    base: String,
    whom: Whom,
    manner: Manner,
    /// The caller's half of its sessions.
    session: u64,
    calls: Cell<u64>,
    /// The start of the peer's listener, as it has told, and how far its clock is ahead of this node's,
    /// in milliseconds. Nobody was heard before the first answer.
    start: Cell<u64>,
    ahead_ms: Cell<i64>,
}

impl Caller {
    /// No connection is open yet.
    pub(super) fn new(whom: Whom, manner: Manner) -> Self {
        // A client per peer: its limit of connections is its own, and who hangs holds nobody else.
        let mut connector = Connector::new()
            .timeout(CONNECT_TIMEOUT)
            .handshake_timeout(CONNECT_TIMEOUT)
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(LIFETIME)
            // And one for messages.
            .limit(IN_FLIGHT_MAX + 1);
        let mut scheme = "http";
        if let Some(tls) = &manner.tls {
            connector = connector.rustls_0_23(Arc::clone(tls));
            scheme = "https";
        }
        let client = Client::builder()
            .connector(connector)
            .disable_redirects()
            .no_default_headers()
            .add_default_header((USER_AGENT, concat!("cordon/", env!("CARGO_PKG_VERSION"))))
            .add_default_header((CONTENT_TYPE, "application/json"))
            // One limit stands over the whole call.
            .disable_timeout()
            .finish();
        let base = format!("{scheme}://{}", whom.address);
        let (_, session) = Uuid::now_v7().as_u64_pair();
        let (calls, start, ahead_ms) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Self { client, base, whom, manner, session, calls, start, ahead_ms }
    }

    /// Makes one call that is over at `deadline`. If the peer's listener was started since the last one,
    /// or a clock has jumped, it says so, and the call is signed anew, once.
    pub(super) async fn call(
        &self,
        path: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let body = Bytes::from(body);
        let called = async {
            let answer = self.send(path, body.clone(), deadline).await?;
            if !self.is_greeted(&answer) {
                return Ok(answer);
            }
            self.send(path, body, deadline).await
        };
        let in_time = tokio::time::timeout_at(deadline.into(), called).await;
        in_time.unwrap_or(Err(CallError::TimedOut))
    }

    /// Whether the peer has taken nothing and said for whom and when calls are to be signed. Its clock is
    /// taken to show a little less than it does, by the way of the answer: then calls seem older there than
    /// they are, and never younger.
    fn is_greeted(&self, answer: &Answer) -> bool {
        if self.manner.key.is_none() || answer.status != StatusCode::PRECONDITION_FAILED.as_u16() {
            return false;
        }
        let Ok(Greeting { start, now_ms }) = serde_json::from_slice(&answer.body) else {
            return false;
        };
        self.start.set(start);
        self.ahead_ms.set(now_ms.saturating_sub(self.manner.clock.now().0));
        true
    }

    async fn send(&self, path: &str, body: Bytes, deadline: Instant) -> Result<Answer, CallError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Err(CallError::TimedOut);
        }
        let patience = patience - WAY_BACK_MAX.min(patience / 10);
        let deadline_ms = patience.as_millis().to_string();
        let (from, to) = (&*self.manner.node, self.whom.node.as_str());
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .insert_header((FROM, from))
            .insert_header((TO, to))
            .insert_header((HOPS, HOPS_HERE))
            .insert_header((DEADLINE_MS, deadline_ms.as_str()));
        let mut signed = None;
        if let Some(key) = &self.manner.key {
            self.calls.set(self.calls.get() + 1);
            let now_ms = self.manner.clock.now().0.saturating_add(self.ahead_ms.get());
            let timestamp_ms = now_ms.to_string();
            let session = session(self.start.get(), self.session);
            let nonce = Nonce { session, number: self.calls.get() }.text();
            let body_hash = hash(&body);
            let tag = key.sign_call(&Covered {
                method: "POST",
                path,
                from,
                to,
                deadline_ms: &deadline_ms,
                hops: HOPS_HERE,
                timestamp_ms: &timestamp_ms,
                nonce: &nonce,
                body_hash: &body_hash,
            });
            request = request
                .insert_header((TIMESTAMP_MS, timestamp_ms))
                .insert_header((NONCE, nonce))
                .insert_header((BODY_HASH, body_hash))
                .insert_header((SIGNATURE, tag.text()));
            signed = Some((key, tag));
        }
        let mut answer = request.send_body(body).await.map_err(told)?;
        let status = answer.status().as_u16();
        let signature = answer.headers().get(SIGNATURE);
        let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let body = answer.body().limit(BODY_BYTES_MAX).await;
        let body = body.map_err(|error| CallError::Broken(error.to_string()))?.to_vec();
        match signed {
            Some((key, tag)) if !key.check_answer(&tag, status, &body, &signature) => {
                Err(CallError::Forged)
            }
            _ => Ok(Answer { status, body }),
        }
    }
}

/// Whether anything was sent. A connection that ends before the answer is told as an error of
/// connecting, too.
fn told(error: SendRequestError) -> CallError {
    let text = error.to_string();
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => CallError::Broken(text),
        SendRequestError::Connect(_) | SendRequestError::Url(_) => CallError::Unreachable(text),
        _ => CallError::Broken(text),
    }
}
