//! One delivery attempt, or one question: dress, send, read, classify. Rule: webhooks.md 2 to 5.
//!
//! Everything about it is bounded: the connection, TLS, the whole ([`Bounds`]), the answer
//! ([`ANSWER_BYTES_MAX`]; its head by the client, 128 KiB and 96 headers).
//! Redirects are not followed, no proxy is asked, nothing is decompressed. Where a call may go at all is
//! for the [`guard`](super::guard) to say.

mod answer;
mod connect;
mod tls;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_tls::connect::Resolve;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::StatusCode;
use awc::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use awc::{Client, Connector};
use bytes::Bytes;

pub use answer::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};
pub use tls::{Certificate, CertificateError, Tls, TlsError};

use super::digest::DeliveryId;
use super::endpoint::Endpoint;
use super::format::{Address, Dressed, Signer};
use super::guard::Guarded;
use super::subscription::Subscription;
use crate::domain::{AppId, Timestamp};
use crate::journal::{Origin, Partition};
use connect::{Door, SystemNames};

/// How much of a subscriber's answer is kept; a longer one is no answer.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may take to come about, with the lookup of its name.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long TLS on top of it may take.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long an idle connection is kept for the next call, in seconds: below the 15 s after which
/// common proxies close theirs, so that a call rarely meets a closing connection.
const KEEP_ALIVE_S: u64 = 10;

/// How long the parts of one call may take. The shortest limit that is met ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lookup of the name, and the connection.
    pub connect: Duration,
    /// TLS on top of it.
    pub handshake: Duration,
    /// From the beginning until the answer has ended.
    pub total: Duration,
}

impl Bounds {
    /// The bounds of a call that may take `total` in all.
    pub fn within(total: Duration) -> Self {
        Self { connect: CONNECT_MAX.min(total), handshake: HANDSHAKE_MAX.min(total), total }
    }
}

/// What is told or asked, on one try.
#[derive(Clone, Debug)]
pub struct Post {
    /// Tells it from every other, the same on every try.
    pub id: Box<str>,
    /// The name of what it tells or asks.
    pub command: &'static str,
    /// When what it is about happened.
    pub at: Timestamp,
    /// The body as the reference has it, the same bytes on every try.
    pub body: Bytes,
    /// Who caused it: their address and platform stand in the query.
    pub by: Arc<Origin>,
    /// Where it stands among the calls of its subscription; a question stands nowhere.
    pub link: Option<Link>,
    /// The number of the try, from 1.
    pub attempt: u32,
}

/// The place of a call in the chain of its subscription's calls in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The partition.
    pub partition: Partition,
    /// Its number, from 1.
    pub seq: u64,
    /// The call before it.
    pub prev: Option<DeliveryId>,
}

/// What came of one attempt at a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The subscriber answered 200 with a JSON object; its codes are not looked at.
    Delivered,
    /// The subscriber asks for patience: 429, or 503 with a `Retry-After`.
    Busy {
        /// For how long, [`RETRY_AFTER_MIN`] to [`RETRY_AFTER_MAX`].
        retry_after: Duration,
    },
    /// The subscriber answered another status; a redirect is one, too.
    Refused {
        /// The status.
        status: u16,
    },
    /// The answer was 200, but not with a JSON object of at most [`ANSWER_BYTES_MAX`].
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No whole answer within the time limit.
    TimedOut,
    /// No connection, or it broke before the answer.
    Unreachable {
        /// The operating system's or the protocol's word for it.
        reason: String,
    },
    /// The URL may not be called.
    Guarded(Guarded),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Busy { retry_after } => write!(f, "busy for {} s", retry_after.as_secs()),
            Self::Refused { status } => write!(f, "status {status}"),
            Self::Malformed { reason } => f.write_str(reason),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable { reason } => f.write_str(reason),
            Self::Guarded(guarded) => guarded.fmt(f),
        }
    }
}

impl Outcome {
    /// Whether the delivery is done with.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// One word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "malformed",
            Self::TimedOut => "timed_out",
            Self::Unreachable { .. } => "unreachable",
            Self::Guarded(_) => "guarded",
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No whole answer within the time limit.
    #[error("no answer in time")]
    TimedOut,
    /// No connection, or it broke before the answer.
    #[error("{reason}")]
    Unreachable {
        /// The operating system's or the protocol's word for it.
        reason: String,
    },
    /// Another status than 200; a redirect is one, too.
    #[error("status {0}")]
    Status(u16),
    /// A 200 without a JSON object of at most [`ANSWER_BYTES_MAX`].
    #[error("{reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The URL may not be called.
    #[error(transparent)]
    Guarded(#[from] Guarded),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TimedOut => Self::TimedOut,
            Failure::Unreachable { reason } => Self::Unreachable { reason },
            Failure::Status(status) => Self::Refused { status },
            Failure::Malformed { reason } => Self::Malformed { reason },
            Failure::Guarded(guarded) => Self::Guarded(guarded),
        }
    }
}

/// Makes the calls of one subscription. It lives on one thread, as its client does.
pub struct Caller {
    client: Client,
    app: AppId,
    endpoint: Endpoint,
    signer: Signer,
    all_headers: bool,
    bounds: Bounds,
    last: Cell<Option<Address>>,
    /// What the guard says of the URL as it is written.
    checked: Result<(), Guarded>,
}

impl Caller {
    /// A caller with at most `connections_max` connections, none of which is open yet.
    ///
    /// `tls` is needed for an `https` endpoint only.
    pub fn new(
        subscription: &Subscription,
        bounds: Bounds,
        connections_max: usize,
        tls: Option<&Tls>,
    ) -> Self {
        Self::with_names(subscription, bounds, connections_max, tls, Rc::new(SystemNames))
    }

    fn with_names(
        subscription: &Subscription,
        bounds: Bounds,
        connections_max: usize,
        tls: Option<&Tls>,
        names: Rc<dyn Resolve>,
    ) -> Self {
        let mut connector = Connector::new()
            .connector(Door::new(subscription.guard.clone(), names))
            .timeout(bounds.connect)
            .handshake_timeout(bounds.handshake)
            .conn_keep_alive(Duration::from_secs(KEEP_ALIVE_S))
            .limit(connections_max);
        if let Some(tls) = tls {
            connector = connector.rustls_0_23(tls.config(subscription.certificate.as_ref()));
        }
        let client = Client::builder()
            .connector(connector)
            .disable_redirects()
            .no_default_headers()
            .add_default_header((USER_AGENT, concat!("cordon/", env!("CARGO_PKG_VERSION"))))
            .add_default_header((CONTENT_TYPE, "application/json"))
            // The bounds stand over each call.
            .disable_timeout()
            .finish();
        Self {
            client,
            app: subscription.app,
            endpoint: subscription.endpoint.clone(),
            signer: subscription.signer.clone(),
            all_headers: subscription.headers,
            bounds,
            last: Cell::default(),
            checked: subscription.guard.check(&subscription.endpoint),
        }
    }

    /// Makes one attempt at a delivery, at the time `now`.
    pub async fn attempt(&self, post: &Post, now: Timestamp) -> Outcome {
        match self.exchange(post, now).await {
            Ok(answer) if answer.is_busy() => {
                let value = answer.retry_after.as_ref().map(HeaderValue::as_bytes);
                Outcome::Busy { retry_after: answer::retry_after(value, now) }
            }
            Ok(answer) => answer.object().map_or_else(Outcome::from, |_| Outcome::Delivered),
            Err(failure) => failure.into(),
        }
    }

    /// Asks once, at the time `now`, and hands the JSON object of the answer back.
    ///
    /// Errors: [`Failure`].
    pub async fn ask(&self, post: &Post, now: Timestamp) -> Result<Bytes, Failure> {
        self.exchange(post, now).await?.object()
    }

    async fn exchange(&self, post: &Post, now: Timestamp) -> Result<Answer, Failure> {
        self.checked?;
        let exchange = self.send(post, now);
        tokio::time::timeout(self.bounds.total, exchange).await.map_err(|_| Failure::TimedOut)?
    }

    async fn send(&self, post: &Post, now: Timestamp) -> Result<Answer, Failure> {
        let mut last = self.last.take();
        let dressed =
            self.signer.dress(self.app, &self.endpoint, post, self.all_headers, now, &mut last);
        self.last.set(last);
        let Dressed { uri, body, headers } = dressed.map_err(unreachable)?;
        let mut request = self.client.post(uri).no_decompress();
        for header in headers {
            request = request.insert_header(header);
        }
        let mut answer = request.send_body(body).await.map_err(failed)?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).cloned();
        if status != StatusCode::OK {
            // The body is not read: the connection is closed with it.
            return Ok(Answer { status, retry_after, body: Bytes::new() });
        }
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length: Option<usize> = length.and_then(|digits| digits.trim().parse().ok());
        match answer.body().limit(ANSWER_BYTES_MAX).await {
            // The client takes the end of the connection for the end of the body. Of a chunked one it
            // does not tell; there the object itself has to be whole.
            Ok(body) if length.is_some_and(|length| length != body.len()) => {
                Err(unreachable("the connection broke before the end of the answer"))
            }
            Ok(body) => Ok(Answer { status, retry_after, body }),
            Err(PayloadError::Overflow) => {
                Err(Failure::Malformed { reason: "the answer is too long" })
            }
            Err(error) => Err(unreachable(error)),
        }
    }
}

/// What a receiver answered.
struct Answer {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    body: Bytes,
}

impl Answer {
    fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            || (self.status == StatusCode::SERVICE_UNAVAILABLE && self.retry_after.is_some())
    }

    fn object(self) -> Result<Bytes, Failure> {
        if self.status != StatusCode::OK {
            return Err(Failure::Status(self.status.as_u16()));
        }
        if !answer::is_object(&self.body) {
            return Err(Failure::Malformed { reason: "the answer is no JSON object" });
        }
        Ok(self.body)
    }
}

fn failed(error: SendRequestError) -> Failure {
    match error {
        SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout) => {
            Failure::TimedOut
        }
        SendRequestError::Connect(ConnectError::Resolver(error)) => {
            match error.downcast_ref::<Guarded>() {
                Some(guarded) => Failure::Guarded(*guarded),
                None => Failure::Unreachable { reason: format!("the name is not found: {error}") },
            }
        }
        error => unreachable(error),
    }
}

fn unreachable(error: impl fmt::Display) -> Failure {
    Failure::Unreachable { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
