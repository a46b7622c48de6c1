//! One delivery attempt: sign, send, classify the outcome. Rule: webhooks.md 2 to 5.

use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::CONTENT_TYPE;
use awc::http::{StatusCode, header};
use awc::{Client, Connector};
use rustls::{ClientConfig, RootCertStore};
use serde::de::IgnoredAny;

use super::command::CallbackCommand;
use super::endpoint::Endpoint;
use crate::domain::{AppId, Timestamp};

/// How much of a subscriber's answer is kept; a longer one is no answer.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long an idle connection is kept for the next call, in seconds: below the 15 s after which
/// common proxies close theirs, so that a call rarely meets a closing connection.
const KEEP_ALIVE_S: u64 = 10;

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The subscriber answered 200 with a JSON object; its codes are not looked at.
    Delivered,
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
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "malformed",
            Self::TimedOut => "timed_out",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// A delivery with all that its call says, whatever the number of the try.
#[derive(Clone, Debug)]
pub struct Call {
    /// Tells the delivery from every other: `<partition>@<offset>.<command>`, the same on every try.
    pub id: String,
    /// What it tells.
    pub command: CallbackCommand,
    /// The body, the same bytes on every try.
    pub body: Vec<u8>,
    /// The address of the client that caused the event.
    pub ip: Arc<str>,
    /// That client's platform.
    pub platform: Arc<str>,
}

/// Why no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The ring provider and the protocol versions do not fit together.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
    /// This system has no certificate that an `https` subscriber could be checked against.
    #[error("this system has no root certificates: {0}")]
    NoRoots(String),
}

/// TLS as calls over `https` use it: the ring provider and the system's root certificates.
/// Errors: [`TlsError`].
pub fn system_tls() -> Result<Arc<ClientConfig>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoRoots(reasons.join("; ")));
    }
    tls(roots)
}

fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    // The provider is named, because what rustls would pick by itself depends on which features the
    // other packages of the build switch on, and it panics when they switch on two.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes the calls of one subscription. It lives on one thread, as its client does.
pub struct Caller {
    client: Client,
    app: AppId,
    endpoint: Endpoint,
    timeout: Duration,
}

impl Caller {
    /// A caller with at most `connections_max` connections, none of which is open yet.
    ///
    /// `tls` is needed for an `https` endpoint only.
    pub fn new(
        app: AppId,
        endpoint: Endpoint,
        timeout: Duration,
        connections_max: usize,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let mut connector = Connector::new()
            .timeout(timeout)
            .handshake_timeout(timeout)
            .conn_keep_alive(Duration::from_secs(KEEP_ALIVE_S))
            .limit(connections_max);
        if let Some(tls) = tls {
            connector = connector.rustls_0_23(tls);
        }
        let client = Client::builder()
            .connector(connector)
            .disable_redirects()
            .no_default_headers()
            .add_default_header((header::USER_AGENT, concat!("cordon/", env!("CARGO_PKG_VERSION"))))
            .add_default_header((CONTENT_TYPE, "application/json"))
            // One limit stands over the whole attempt.
            .disable_timeout()
            .finish();
        Self { client, app, endpoint, timeout }
    }

    /// Makes one attempt, at the time `now`, within the time limit.
    pub async fn attempt(&self, call: &Call, now: Timestamp) -> Outcome {
        match tokio::time::timeout(self.timeout, self.send(call, now)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::TimedOut,
        }
    }

    async fn send(&self, call: &Call, now: Timestamp) -> Outcome {
        let address = self.endpoint.address(self.app, call.command, &call.ip, &call.platform, now);
        let request = self
            .client
            .post(address)
            .insert_header(("webhook-id", call.id.as_str()))
            .insert_header(("webhook-timestamp", now.unix_seconds().to_string()));
        let mut answer = match request.send_body(call.body.clone()).await {
            Ok(answer) => answer,
            Err(SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout)) => {
                return Outcome::TimedOut;
            }
            Err(error) => return Outcome::Unreachable { reason: error.to_string() },
        };
        if answer.status() != StatusCode::OK {
            // The body is not read: the connection is closed with it.
            return Outcome::Refused { status: answer.status().as_u16() };
        }
        match answer.body().limit(ANSWER_BYTES_MAX).await {
            Ok(body) => classify(&body),
            Err(PayloadError::Overflow) => Outcome::Malformed { reason: "the answer is too long" },
            Err(error) => Outcome::Unreachable { reason: error.to_string() },
        }
    }
}

/// Judges the body of a 200. `ErrorCode` is not looked at: for what has happened already, the
/// reference ignores it. Rule: webhooks.md 1 and 3.
fn classify(body: &[u8]) -> Outcome {
    // A map of nothing checks the whole syntax and keeps no value.
    match serde_json::from_slice::<std::collections::BTreeMap<String, IgnoredAny>>(body) {
        Ok(_) => Outcome::Delivered,
        Err(_) => Outcome::Malformed { reason: "the answer is no JSON object" },
    }
}
