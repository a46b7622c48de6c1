//! The listener for other nodes.
//!
//! A call is known for a node's before its body is read, and each is bounded: in time, in bytes, and
//! in how many there are.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Data, Payload, get, post};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::auth::{Covered, Key, Tag, hash};
use super::metrics::Metrics;
use super::nonces::{Nonce, Nonces};
use super::wire::{
    ASK, Asking, BATCH_MESSAGES_MAX, BODY_BYTES_MAX, BODY_HASH, DEADLINE_MS, FROM, Greeting, HOPS,
    HOPS_MAX, Hint, NONCE, PAIRING, PATIENCE_MAX, PING, SIGNATURE, TIMESTAMP_MS, TO,
};
use super::{Here, PeersError, Security, Settings, check_name, tls};
use crate::actors::{ExecuteError, PairMessage};
use crate::clock::Clock;
use crate::cluster::routes::Routes;
use crate::domain::Timestamp;
use crate::patience::{self, Patience, READ_BYTES, Terms};

/// Threads that take calls. Most of a call's work is done by the partitions' threads.
const WORKERS: usize = 2;
/// Connections per thread at most: a hundred peers with all that they may have under way.
const CONNECTIONS_MAX: usize = 16_384;
/// Calls under way at most.
const IN_FLIGHT_MAX: usize = 8192;
/// Bytes of bodies under way at most.
const BODIES_BYTES_MAX: usize = 128 << 20;
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a handshake may take, which is longer than another node waits for it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the head of a call may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its body may take, and nothing of an answer be taken.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long running answers may take to finish once the server is asked to stop.
const SHUTDOWN_TIMEOUT_S: u64 = 5;
/// How far ahead of this node's clock a call may be signed, in milliseconds: the caller has taken its
/// time from here, and clocks run a little apart.
const AHEAD_MS_MAX: i64 = 1000;
/// How often calls that are refused for a secret are told of in the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Lets other nodes ask `here` on `listener`, until the handle of the answered server stops it.
///
/// Must be called inside an actix system; the answered server is a future to be awaited or spawned.
/// Errors: [`PeersError::Exposed`], [`PeersError::Name`], [`PeersError::Tls`],
/// [`PeersError::Listener`].
pub fn serve<H: Here>(
    settings: &Settings,
    listener: TcpListener,
    here: H,
    routes: Arc<Routes>,
    clock: Clock,
    metrics: Metrics,
) -> Result<Server, PeersError> {
    check_name(&settings.node)?;
    let address = listener.local_addr().map_err(PeersError::Listener)?;
    let (key, tls) = match &settings.security {
        Security::Plain if !address.ip().is_loopback() => {
            return Err(PeersError::Exposed(address));
        }
        Security::Plain => (None, None),
        Security::Key(key) => (Some(key.clone()), None),
        Security::Tls(files) => {
            let config = tls::for_listener(files)?;
            (None, Some(patience::Tls { config, handshake: HANDSHAKE_TIMEOUT }))
        }
    };
    let gate = Arc::new(Gate {
        node: settings.node.clone(),
        key,
        routes,
        clock,
        metrics,
        start: Uuid::now_v7().as_u64_pair().1,
        nonces: Mutex::default(),
        told: Mutex::default(),
        calls: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        bytes: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
    });
    let terms = Terms {
        patience: Patience {
            head: HEAD_TIMEOUT,
            idle: KEEP_ALIVE,
            answer: BODY_TIMEOUT,
            read_bytes: READ_BYTES,
        },
        disconnect: DISCONNECT_TIMEOUT,
        workers: WORKERS,
        connections_max: CONNECTIONS_MAX,
        shutdown_timeout_s: SHUTDOWN_TIMEOUT_S,
    };
    let server = patience::serve(terms, listener, tls, move |app| {
        app.app_data(Data::from(Arc::clone(&gate)))
            .app_data(Data::new(here.clone()))
            .route(ASK, post().to(ask::<H>))
            .route(PAIRING, post().to(pairing::<H>))
            .route(PING, get().to(ping));
    });
    server.map_err(PeersError::Listener)
}

/// What all calls pass.
struct Gate {
    node: String,
    key: Option<Key>,
    routes: Arc<Routes>,
    clock: Clock,
    metrics: Metrics,
    /// By chance, so that no other start has the same.
    start: u64,
    nonces: Mutex<Nonces>,
    /// When a refusal was last told of.
    told: Mutex<Option<Instant>>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A call that was made by a node, as far as its head can tell.
struct Known {
    /// Its signature, if calls have one.
    tag: Option<Tag>,
    /// It was made for this start of the listener, and its caller still waits.
    counts: bool,
}

/// A call that was let in.
struct Admitted {
    patience: Duration,
    length: usize,
    /// The hash of the body that was announced, if it was signed.
    body_hash: Option<String>,
    _permits: [OwnedSemaphorePermit; 2],
}

/// Why a call is refused unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It is not known for a node's, or was taken already.
    Stranger,
    /// It was signed for another start of this node, or its caller does not wait any more.
    Outdated,
    /// It is not of the form of cluster.md 15.
    Malformed,
    /// It was meant for another node.
    Misdirected,
    /// It came through too many nodes.
    Hops,
    /// Its body is too long.
    TooLong,
    /// Its body does not arrive.
    Slow,
    /// Too much is under way.
    Overloaded,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Stranger => StatusCode::UNAUTHORIZED,
            Self::Outdated => StatusCode::PRECONDITION_FAILED,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Hops => StatusCode::LOOP_DETECTED,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Outdated => "outdated",
            Self::Malformed => "malformed",
            Self::Misdirected => "misdirected",
            Self::Hops => "hops",
            Self::TooLong => "too_long",
            Self::Slow => "slow",
            Self::Overloaded => "overloaded",
        }
    }
}

type Answered = Result<(StatusCode, Vec<u8>), Refusal>;

async fn ask<H: Here>(
    gate: Data<Gate>,
    here: Data<H>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    gate.pass(&request, payload, async |call: &Admitted, body: Vec<u8>| {
        let Asking { partition, question } =
            serde_json::from_slice(&body).map_err(|_| Refusal::Malformed)?;
        let answer = here.answer(partition, question, call.patience);
        let answer = match timeout(call.patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ExecuteError::TimedOut),
        };
        if answer == Err(ExecuteError::Elsewhere) {
            let hint = Hint::about(partition, &gate.routes, &gate.node);
            return Ok((StatusCode::MISDIRECTED_REQUEST, json(&hint)));
        }
        let body = json(&answer);
        if body.len() > BODY_BYTES_MAX {
            // What was asked is done; only the answer cannot be told.
            return Ok((StatusCode::OK, json(&Err::<(), _>(ExecuteError::TimedOut))));
        }
        Ok((StatusCode::OK, body))
    })
    .await
}

async fn pairing<H: Here>(
    gate: Data<Gate>,
    here: Data<H>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    gate.pass(&request, payload, async |_: &Admitted, body: Vec<u8>| {
        let messages: Vec<PairMessage> =
            serde_json::from_slice(&body).map_err(|_| Refusal::Malformed)?;
        if messages.len() > BATCH_MESSAGES_MAX {
            return Err(Refusal::TooLong);
        }
        let mut hints: Vec<Hint> = Vec::new();
        for message in messages {
            let partition = message.to();
            let known = hints.iter().any(|hint| hint.partition == partition);
            if here.deliver(message).is_err() && !known {
                hints.extend(Hint::about(partition, &gate.routes, &gate.node));
            }
        }
        Ok((StatusCode::OK, json(&hints)))
    })
    .await
}

async fn ping() -> HttpResponse {
    HttpResponse::Ok().body("pong\n")
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("an answer has a form in JSON")
}

impl Gate {
    /// Lets `look` answer the call if it may come in. A refusal is signed only if the call was
    /// signed: otherwise a stranger could have refusals made for calls of others.
    async fn pass(
        &self,
        request: &HttpRequest,
        payload: Payload,
        look: impl AsyncFnOnce(&Admitted, Vec<u8>) -> Answered,
    ) -> HttpResponse {
        let head = Head(request);
        let Known { mut tag, counts } = match self.know(head) {
            Ok(known) => known,
            Err(refusal) => {
                self.tell(refusal, head);
                return self.answer(None, Err(refusal));
            }
        };
        let answered = async {
            let call = self.admit(head)?;
            let body = read(payload, call.length).await?;
            if call.body_hash.as_ref().is_some_and(|announced| *announced != hash(&body)) {
                // Whoever changed the body may let the right one follow.
                return Err(Refusal::Stranger);
            }
            if !counts {
                return Err(Refusal::Outdated);
            }
            look(&call, body).await
        }
        .await;
        if answered == Err(Refusal::Stranger) {
            tag = None;
        }
        self.answer(tag, answered)
    }

    /// What the head tells: if calls are signed, it is made with the key, and either it does not count
    /// or it comes for the first time.
    fn know(&self, head: Head<'_>) -> Result<Known, Refusal> {
        let Some(key) = &self.key else { return Ok(Known { tag: None, counts: true }) };
        let known = head.covered().and_then(|call| {
            let tag = key.check_call(&call, head.text(SIGNATURE)?)?;
            let signed_at = Timestamp(call.timestamp_ms.parse().ok()?);
            let patience = patience(head).ok()?;
            let nonce = Nonce::parse(call.nonce)?;
            let now = self.clock.now();
            let age_ms = now.0.saturating_sub(signed_at.0);
            let waits =
                -AHEAD_MS_MAX <= age_ms && i128::from(age_ms) <= patience.as_millis() as i128;
            let counts = waits && nonce.start() == self.start;
            // Only what is signed is remembered, so that strangers cannot fill the memory.
            let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
            (!counts || nonces.take(nonce, signed_at, now))
                .then_some(Known { tag: Some(tag), counts })
        });
        known.ok_or(Refusal::Stranger)
    }

    /// Says that a caller is no node of this cluster, if that was not said a moment ago: whoever reaches
    /// the listener could fill the log.
    fn tell(&self, refusal: Refusal, head: Head<'_>) {
        if refusal != Refusal::Stranger || !self.may_tell(Instant::now()) {
            return;
        }
        // What the caller says of itself may be anything.
        let (node, address) = (head.text(FROM), head.0.peer_addr());
        tracing::warn!(
            peer.node = ?node,
            peer.address = ?address,
            "a call is refused: it is not signed with this node's node.secret, or came twice"
        );
    }

    fn may_tell(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if may {
            *told = Some(now);
        }
        may
    }

    fn admit(&self, head: Head<'_>) -> Result<Admitted, Refusal> {
        let hops: u32 = head.number(HOPS)?;
        if hops > HOPS_MAX {
            return Err(Refusal::Hops);
        }
        if head.text(TO).ok_or(Refusal::Malformed)? != self.node {
            return Err(Refusal::Misdirected);
        }
        let patience = patience(head)?;
        let length: usize = head.number(CONTENT_LENGTH.as_str())?;
        if length > BODY_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let permits = |semaphore: &Arc<Semaphore>, count| {
            let permits = Arc::clone(semaphore).try_acquire_many_owned(count);
            permits.map_err(|_| Refusal::Overloaded)
        };
        let _permits = [permits(&self.calls, 1)?, permits(&self.bytes, length as u32)?];
        let body_hash = self.key.as_ref().and(head.text(BODY_HASH)).map(str::to_owned);
        Ok(Admitted { patience, length, body_hash, _permits })
    }

    fn answer(&self, call: Option<Tag>, answered: Answered) -> HttpResponse {
        let (status, body) = answered.unwrap_or_else(|refusal| {
            self.metrics.refused(refusal.word());
            let body = match refusal {
                Refusal::Outdated => {
                    json(&Greeting { start: self.start, now_ms: self.clock.now().0 })
                }
                _ => b"null".to_vec(),
            };
            (refusal.status(), body)
        });
        let mut response = HttpResponse::build(status);
        if let (Some(key), Some(call)) = (&self.key, call) {
            let signature = key.sign_answer(&call, status.as_u16(), &body);
            response.insert_header((SIGNATURE, signature.text()));
        }
        response.content_type("application/json").body(body)
    }
}

/// How long the caller waits.
fn patience(head: Head<'_>) -> Result<Duration, Refusal> {
    Ok(Duration::from_millis(head.number(DEADLINE_MS)?).min(PATIENCE_MAX))
}

/// Reads the whole body, which is `length` bytes long.
async fn read(mut payload: Payload, length: usize) -> Result<Vec<u8>, Refusal> {
    let collected = timeout(BODY_TIMEOUT, async {
        let mut body = Vec::with_capacity(length);
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Refusal::Slow)?;
            if body.len() + chunk.len() > length {
                return Err(Refusal::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    });
    collected.await.unwrap_or(Err(Refusal::Slow))
}

/// The headers of a call.
#[derive(Clone, Copy)]
struct Head<'r>(&'r HttpRequest);

impl<'r> Head<'r> {
    fn text(self, name: &str) -> Option<&'r str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    fn number<N: std::str::FromStr>(self, name: &str) -> Result<N, Refusal> {
        let digits = self.text(name).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse().ok()).ok_or(Refusal::Malformed)
    }

    fn covered(self) -> Option<Covered<'r>> {
        Some(Covered {
            method: self.0.method().as_str(),
            path: self.0.uri().path_and_query()?.as_str(),
            from: self.text(FROM)?,
            to: self.text(TO)?,
            deadline_ms: self.text(DEADLINE_MS)?,
            hops: self.text(HOPS)?,
            timestamp_ms: self.text(TIMESTAMP_MS)?,
            nonce: self.text(NONCE)?,
            body_hash: self.text(BODY_HASH)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn gate() -> Gate {
        Gate {
            node: "b".into(),
            key: None,
            routes: Arc::new(Routes::new(1)),
            clock: Clock::system(),
            metrics: Metrics::default(),
            start: 0,
            nonces: Mutex::default(),
            told: Mutex::default(),
            calls: Arc::new(Semaphore::new(2)),
            bytes: Arc::new(Semaphore::new(10)),
        }
    }

    fn call(length: usize) -> HttpRequest {
        TestRequest::post()
            .insert_header((TO, "b"))
            .insert_header((HOPS, "1"))
            .insert_header((DEADLINE_MS, "100000"))
            .insert_header((CONTENT_LENGTH, length.to_string()))
            .to_http_request()
    }

    #[test]
    fn calls_under_way_and_their_bytes_are_bounded() {
        let gate = gate();
        let admit = |length| gate.admit(Head(&call(length)));
        let first = admit(5).expect("there is room");
        assert_eq!(admit(6).err(), Some(Refusal::Overloaded), "too many bytes");
        let second = admit(5).expect("there is room");
        assert_eq!(admit(0).err(), Some(Refusal::Overloaded), "too many calls");
        drop((first, second));
        assert!(admit(10).is_ok());
    }

    #[test]
    fn refusals_do_not_fill_the_log() {
        let (gate, now) = (gate(), Instant::now());
        let told = [0, 1, 9, 10, 11].map(|s| gate.may_tell(now + Duration::from_secs(s)));
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_the_bound() {
        let call = gate().admit(Head(&call(0))).expect("there is room");
        assert_eq!(call.patience, PATIENCE_MAX);
    }
}
