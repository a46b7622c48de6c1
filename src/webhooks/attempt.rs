//! One delivery attempt: sign, send, classify the outcome. Rule: webhooks.md 2 to 5.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::CONTENT_TYPE;
use awc::http::{StatusCode, header};
use awc::{Client, Connector};
use rustls::{ClientConfig, RootCertStore};
use serde::de::IgnoredAny;

use super::command::{BeforeCommand, CallbackCommand};
use super::endpoint::Endpoint;
use crate::domain::{AppId, Timestamp};
use crate::journal::Origin;

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

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Refused { status } => write!(f, "status {status}"),
            Self::Malformed { reason } => f.write_str(reason),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable { reason } => f.write_str(reason),
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
    /// Who caused the event: their address and platform stand in the query.
    pub by: Arc<Origin>,
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
        let address = self.endpoint.address(self.app, call.command, &call.by, now);
        match self.post(address, &call.id, call.body.clone(), now).await {
            Ok(body) => classify(&body),
            Err(failure) => failure,
        }
    }

    /// Asks once, at the time `now`, within the time limit; answers the body of a 200.
    /// Errors: any outcome but [`Outcome::Delivered`].
    pub(super) async fn ask(
        &self,
        command: BeforeCommand,
        id: &str,
        body: Vec<u8>,
        by: &Origin,
        now: Timestamp,
    ) -> Result<Bytes, Outcome> {
        let address = self.endpoint.address(self.app, command, by, now);
        let answer = tokio::time::timeout(self.timeout, self.post(address, id, body, now)).await;
        answer.unwrap_or(Err(Outcome::TimedOut))
    }

    async fn post(
        &self,
        address: String,
        id: &str,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<Bytes, Outcome> {
        let request = self
            .client
            .post(address)
            .insert_header(("webhook-id", id))
            .insert_header(("webhook-timestamp", now.unix_seconds().to_string()));
        let mut answer = match request.send_body(body).await {
            Ok(answer) => answer,
            Err(SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout)) => {
                return Err(Outcome::TimedOut);
            }
            Err(error) => return Err(Outcome::Unreachable { reason: error.to_string() }),
        };
        if answer.status() != StatusCode::OK {
            // The body is not read: the connection is closed with it.
            return Err(Outcome::Refused { status: answer.status().as_u16() });
        }
        match answer.body().limit(ANSWER_BYTES_MAX).await {
            Ok(body) => Ok(body),
            Err(PayloadError::Overflow) => {
                Err(Outcome::Malformed { reason: "the answer is too long" })
            }
            Err(error) => Err(Outcome::Unreachable { reason: error.to_string() }),
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;
    use crate::webhooks::testing::{APP, Answer, Heard, Place, Receiver, within};

    const NOW: Timestamp = Timestamp(1_669_872_112_000);
    const TIMEOUT: Duration = Duration::from_millis(2_000);

    fn caller(url: &str, timeout: Duration) -> Caller {
        let endpoint = Endpoint::parse(url, None).expect("an address");
        let tls = endpoint.is_secure().then(|| tls(RootCertStore::empty()).expect("TLS"));
        Caller::new(APP, endpoint, timeout, 4, tls)
    }

    fn call(id: &str) -> Call {
        Call {
            id: id.to_owned(),
            command: CallbackCommand::BlackListAdd,
            body: br#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[]}"#.to_vec(),
            by: Arc::new(Origin {
                operator: "administrator".into(),
                request: uuid::Uuid::nil(),
                ip: "127.0.0.1".into(),
                platform: "RESTAPI".into(),
            }),
        }
    }

    async fn outcome(answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Outcome {
        let receiver = Receiver::start(answer);
        let caller = caller(&receiver.url(), TIMEOUT);
        within("an outcome", caller.attempt(&call("0@1.x"), NOW)).await
    }

    #[actix_web::test]
    async fn a_json_object_with_200_is_a_success_whatever_it_says() {
        assert_eq!(outcome(|_| Answer::Ok).await, Outcome::Delivered);
        for text in ["{}", r#"{"ActionStatus":"FAIL","ErrorCode":1}"#, " {\"a\":[1,{}]}\n"] {
            assert_eq!(outcome(|_| Answer::Text(text)).await, Outcome::Delivered, "{text}");
        }
    }

    #[actix_web::test]
    async fn a_200_without_a_json_object_is_a_failure() {
        for text in ["", "OK", "[]", "null", "{", "{} {}", "{\"a\":}"] {
            let outcome = outcome(|_| Answer::Text(text)).await;
            assert!(matches!(outcome, Outcome::Malformed { .. }), "{text}: {outcome:?}");
        }
    }

    #[actix_web::test]
    async fn another_status_is_a_failure_even_with_a_json_object() {
        for status in [201, 204, 400, 404, 500, 503] {
            let expected = Outcome::Refused { status };
            assert_eq!(outcome(move |_| Answer::Status(status)).await, expected);
        }
    }

    #[actix_web::test]
    async fn a_redirect_is_a_failure_and_not_followed() {
        let receiver = Receiver::start(|heard| match &*heard.path {
            "/im" => Answer::Redirect("/elsewhere"),
            _ => Answer::Ok,
        });
        let caller = caller(&receiver.url(), TIMEOUT);
        let outcome = within("an outcome", caller.attempt(&call("0@1.x"), NOW)).await;
        assert_eq!(outcome, Outcome::Refused { status: 302 });
        assert_eq!(receiver.heard().len(), 1);
    }

    #[actix_web::test]
    async fn an_answer_that_is_too_long_is_none() {
        // Whitespace around an object is JSON, so nothing but the length is wrong with it.
        let text: &'static str = format!("{{}}{}", " ".repeat(ANSWER_BYTES_MAX)).leak();
        assert_eq!(
            outcome(move |_| Answer::Text(text)).await,
            Outcome::Malformed { reason: "the answer is too long" }
        );
        assert_eq!(
            outcome(move |_| Answer::Text(&text[..ANSWER_BYTES_MAX])).await,
            Outcome::Delivered
        );
    }

    #[actix_web::test]
    async fn no_answer_within_the_limit_is_a_timeout() {
        let receiver = Receiver::start(|_| Answer::Never);
        let caller = caller(&receiver.url(), Duration::from_millis(100));
        let outcome = within("an outcome", caller.attempt(&call("0@1.x"), NOW)).await;
        assert_eq!(outcome, Outcome::TimedOut);
    }

    #[actix_web::test]
    async fn nobody_listening_is_unreachable() {
        let place = Place::reserve();
        let outcome =
            within("an outcome", caller(&place.url(), TIMEOUT).attempt(&call("x"), NOW)).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    }

    #[actix_web::test]
    async fn one_connection_serves_many_calls() {
        let receiver = Receiver::start(|_| Answer::Ok);
        let caller = caller(&receiver.url(), TIMEOUT);
        for offset in 0..5 {
            let call = call(&format!("0@{offset}.x"));
            let outcome = within("an outcome", caller.attempt(&call, NOW)).await;
            assert_eq!(outcome, Outcome::Delivered);
        }
        let heard = receiver.heard();
        assert!(heard.iter().all(|call| call.peer == heard[0].peer), "{heard:?}");
    }

    #[actix_web::test]
    async fn a_receiver_that_speaks_no_tls_is_unreachable_over_https() {
        let receiver = Receiver::start(|_| Answer::Ok);
        let url = receiver.url().replace("http://", "https://");
        let outcome = within("an outcome", caller(&url, TIMEOUT).attempt(&call("x"), NOW)).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
        assert_eq!(receiver.heard().len(), 0);
    }

    const ROOT: &[u8] = include_bytes!("../../tests/fixtures/tls/ca.pem");
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/tls/receiver.pem");
    const KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/receiver.key");

    /// Serves one TLS connection, answers one request, and hands back what it read.
    fn serve_tls(listener: &TcpListener) -> std::io::Result<Vec<u8>> {
        use std::io::{Read, Write};
        let (certificate, key) = (
            CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate"),
            PrivateKeyDer::from_pem_slice(KEY).expect("a key"),
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![certificate], key)
            })
            .expect("a server's TLS");
        let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
        let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.ends_with(b"]}") {
            match stream.read(&mut chunk)? {
                0 => return Ok(request),
                count => request.extend_from_slice(&chunk[..count]),
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
        stream.flush()?;
        Ok(request)
    }

    async fn outcome_over_tls(roots: RootCertStore) -> (Outcome, std::io::Result<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}/im", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || serve_tls(&listener));
        let endpoint = Endpoint::parse(&url, None).expect("an address");
        let caller = Caller::new(APP, endpoint, TIMEOUT, 4, Some(tls(roots).expect("TLS")));
        let outcome = within("an outcome", caller.attempt(&call("0@1.x"), NOW)).await;
        (outcome, server.join().expect("the server does not panic"))
    }

    #[actix_web::test]
    async fn a_receiver_with_a_trusted_certificate_is_called_over_https() {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ROOT).expect("a root")).expect("a root");
        let (outcome, request) = outcome_over_tls(roots).await;
        assert_eq!(outcome, Outcome::Delivered);
        let request = String::from_utf8(request.expect("a request")).expect("text");
        assert!(request.starts_with("POST /im?SdkAppid=1400000001&"), "{request}");
        assert!(request.contains(" HTTP/1.1\r\n"), "{request}");
    }

    #[actix_web::test]
    async fn a_receiver_with_an_unknown_certificate_is_told_nothing() {
        let (outcome, request) = outcome_over_tls(RootCertStore::empty()).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
        assert!(request.is_err(), "{request:?}");
    }

    #[test]
    fn tls_is_set_up_with_the_ring_provider_and_http_1_1() {
        let config = tls(RootCertStore::empty()).expect("TLS");
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        let ring = rustls::crypto::ring::default_provider();
        let suites = |provider: &rustls::crypto::CryptoProvider| {
            provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        assert_eq!(suites(config.crypto_provider()), suites(&ring));
        // A slim container has no roots: that is an error to read, not a panic.
        assert!(matches!(system_tls(), Ok(_) | Err(TlsError::NoRoots(_))));
    }
}
