//! The listener for other nodes.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::{Bytes, Data, PayloadConfig, get, post};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use uuid::Uuid;

use super::auth::{Call, SIGNATURE, Signer};
use super::{
    ASK_PATH, Asking, BODY_BYTES_MAX, DEADLINE, HOPS, HOPS_MAX, Hint, PAIRING_PATH, PING_PATH,
    PeersError, Settings, Trust, tls,
};
use crate::actors::{ExecuteError, PairMessage, Question, Reply};
use crate::clock::Clock;
use crate::cluster::routes::Routes;
use crate::journal::Partition;

/// Open connections at most.
const CONNECTIONS_MAX: usize = 4096;
/// Threads that take calls of other nodes.
const WORKERS: usize = 1;
/// How long the head of a call may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long running calls may take to finish once the listener is asked to stop.
const SHUTDOWN_TIMEOUT_S: u64 = 3;
/// The longest time that an owner takes for an answer, whatever the caller would wait.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// This node, as others ask it: answered here or not at all, never passed on.
pub trait Here: Clone + Send + 'static {
    /// Answers as the owner of `partition`. Errors: [`ExecuteError::Elsewhere`] if it is not.
    fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> impl Future<Output = Result<Reply, ExecuteError>>;

    /// Takes a message. Errors: [`ExecuteError::Elsewhere`] if this node does not own the partition
    /// that it goes to.
    fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError>;
}

impl Here for crate::actors::Users {
    fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> impl Future<Output = Result<Reply, ExecuteError>> {
        Self::answer(self, partition, question, patience)
    }

    fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError> {
        Self::deliver(self, message)
    }
}

/// What the handlers share.
struct Listening<H> {
    here: H,
    routes: Arc<Routes>,
    clock: Clock,
    signer: Option<Arc<Signer>>,
}

/// Serves other nodes on `listener`. Errors: [`PeersError`].
pub fn serve<H: Here>(
    settings: &Settings,
    listener: TcpListener,
    here: H,
    routes: Arc<Routes>,
    clock: Clock,
) -> Result<Server, PeersError> {
    settings.check(listener.local_addr()?)?;
    let signer = match &settings.trust {
        Trust::Secret(key) => Some(Arc::new(Signer::new(key))),
        Trust::Loopback | Trust::Tls(_) => None,
    };
    let server = HttpServer::new(move || {
        let listening = Listening {
            here: here.clone(),
            routes: routes.clone(),
            clock: clock.clone(),
            signer: signer.clone(),
        };
        App::new()
            .app_data(Data::new(listening))
            .app_data(PayloadConfig::new(BODY_BYTES_MAX))
            .route(ASK_PATH, post().to(ask::<H>))
            .route(PAIRING_PATH, post().to(pairing::<H>))
            .route(PING_PATH, get().to(ping))
    })
    .workers(WORKERS)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
    .disable_signals();
    let server = match &settings.trust {
        Trust::Tls(files) => server.listen_rustls_0_23(listener, tls::server(files)?)?,
        Trust::Loopback | Trust::Secret(_) => server.listen(listener)?,
    };
    Ok(server.run())
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The call's number, if it is one of this cluster; how it is refused if not.
fn believe<H>(
    listening: &Listening<H>,
    request: &HttpRequest,
    path: &str,
    body: &[u8],
) -> Result<Option<Uuid>, HttpResponse> {
    let Some(signer) = &listening.signer else { return Ok(None) };
    let call =
        Call { path, deadline: header(request, DEADLINE), hops: header(request, HOPS), body };
    let signature = request.headers().get(SIGNATURE).and_then(|value| value.to_str().ok());
    match signer.verify(signature, listening.clock.now(), call) {
        Ok(number) => Ok(Some(number)),
        Err(error) => {
            let peer = request.peer_addr().map(|peer| peer.to_string());
            tracing::warn!(%error, peer, path, "a call between nodes is refused");
            Err(HttpResponse::Unauthorized().body(error.to_string()))
        }
    }
}

fn respond<H>(
    listening: &Listening<H>,
    number: Option<Uuid>,
    status: StatusCode,
    body: Vec<u8>,
) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header(ContentType::json());
    if let (Some(signer), Some(number)) = (&listening.signer, number) {
        let signature = signer.sign_answer(number, status.as_u16(), &body);
        response.insert_header((SIGNATURE, signature));
    }
    response.body(body)
}

/// Who owns `partition`, as far as this node knows.
fn hint<H>(listening: &Listening<H>, partition: Partition) -> Option<Hint> {
    let owner = listening.routes.owner(partition)?;
    Some(Hint { partition, epoch: owner.epoch, node: owner.node, address: owner.address })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

async fn ask<H: Here>(
    request: HttpRequest,
    body: Bytes,
    listening: Data<Listening<H>>,
) -> HttpResponse {
    let number = match believe(&listening, &request, ASK_PATH, &body) {
        Ok(number) => number,
        Err(refusal) => return refusal,
    };
    let respond = |status, body| respond(&listening, number, status, body);
    let deadline = header(&request, DEADLINE).parse();
    let hops = header(&request, HOPS).parse::<u8>();
    let asking = serde_json::from_slice::<Asking>(&body);
    let (Ok(deadline), Ok(hops), Ok(Asking { partition, question })) = (deadline, hops, asking)
    else {
        return respond(StatusCode::BAD_REQUEST, json(&"not a question"));
    };
    if hops > HOPS_MAX {
        return respond(StatusCode::LOOP_DETECTED, json(&"too many nodes were passed"));
    }
    let patience = Duration::from_millis(deadline).min(PATIENCE_MAX);
    match listening.here.answer(partition, question, patience).await {
        Err(ExecuteError::Elsewhere) => {
            respond(StatusCode::MISDIRECTED_REQUEST, json(&hint(&listening, partition)))
        }
        answer => respond(StatusCode::OK, json(&answer)),
    }
}

async fn pairing<H: Here>(
    request: HttpRequest,
    body: Bytes,
    listening: Data<Listening<H>>,
) -> HttpResponse {
    let number = match believe(&listening, &request, PAIRING_PATH, &body) {
        Ok(number) => number,
        Err(refusal) => return refusal,
    };
    let respond = |status, body| respond(&listening, number, status, body);
    let Ok(messages) = serde_json::from_slice::<Vec<PairMessage>>(&body) else {
        return respond(StatusCode::BAD_REQUEST, json(&"not messages"));
    };
    let mut hints: Vec<Hint> = Vec::new();
    for message in messages {
        let to = message.to();
        if listening.here.deliver(message).is_err()
            && !hints.iter().any(|known| known.partition == to)
        {
            hints.extend(hint(&listening, to));
        }
    }
    respond(StatusCode::OK, json(&hints))
}

async fn ping() -> HttpResponse {
    HttpResponse::Ok().body("pong")
}
