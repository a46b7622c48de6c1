//! One request from its head to its answer.

use std::cell::Cell;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::{Request, Response};
use actix_web::dev::RequestHead;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, HeaderName, HeaderValue,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use tokio::time::timeout_at;
use uuid::Uuid;

use super::acting;
use super::answer::{Answer, Answered, Failure};
use super::body::{self, Bounds};
use super::call::Call;
use super::error_code::{self as code, ErrorCode};
use super::gate::Gate;
use super::idempotency;
use super::metrics::{Code, Metrics};
use super::proxy;
use super::query::{self, Query};
use super::settings::{ANSWER_GRACE, Settings};
use super::{Operation, handle};
use crate::actors::Users;
use crate::clock::Clock;
use crate::domain::AppId;
use crate::patience::Body;
use crate::subscriptions::Subscribers;
use crate::webhooks::{BEFORE_TIMEOUT_MAX_MS, Consultant, Subnet};

static CORDON_NODE: HeaderName = HeaderName::from_static("cordon-node");
static CORDON_REQUEST_ID: HeaderName = HeaderName::from_static("cordon-request-id");
static CORDON_POSITION: HeaderName = HeaderName::from_static("cordon-position");

/// Everything that answers a request; shared by all workers.
pub(super) struct Edge {
    gate: Gate,
    users: Users,
    subscribers: Arc<Subscribers>,
    clock: Clock,
    metrics: Metrics,
    node: HeaderValue,
    body: Bounds,
    request_timeout: Duration,
    trusted_proxies: Vec<Subnet>,
}

/// What a request came to, and what is known of who made it.
struct Handled {
    operation: Option<Operation>,
    app: Option<AppId>,
    answered: Answered,
}

impl Edge {
    /// Errors: the node's name cannot stand in a header.
    pub(super) fn new(
        settings: Settings,
        users: Users,
        subscribers: Arc<Subscribers>,
        clock: Clock,
        metrics: Metrics,
    ) -> io::Result<Self> {
        Ok(Self {
            gate: Gate::new(&settings),
            users,
            subscribers,
            clock,
            metrics,
            node: HeaderValue::try_from(&settings.node)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
            body: Bounds { bytes_max: settings.body_bytes_max, timeout: settings.body_timeout },
            request_timeout: settings.request_timeout,
            trusted_proxies: settings.trusted_proxies,
        })
    }

    /// Answers `request`: always with HTTP 200. Rule: rest-api.md 1.3.
    pub(super) async fn answer(
        &self,
        mut request: Request,
        consultant: &Consultant,
    ) -> Response<Bytes> {
        let started = Instant::now();
        let id = Uuid::now_v7();
        let peer = request.peer_addr().map(|address| address.ip());
        let payload = Body::of(&mut request);
        let (head, _) = request.into_parts();
        let peer = peer.map(|peer| proxy::origin(peer, head.headers(), &self.trusted_proxies));
        let Handled { operation, app, answered } =
            self.handle(&head, payload, (id, peer, started), consultant).await;
        let is_of_body = answered == Err(Failure::Body);
        let answer = answered.unwrap_or_else(|failure| Answer::failure(failure, operation));
        let code = if is_of_body { Code::Body } else { Code::new(answer.code) };
        // A call that came again is known by the id under which it was done.
        let id = answer.request.unwrap_or(id);
        let took = started.elapsed();
        self.metrics.count(operation, code, took);
        log(id, app, operation, (answer.code, code.is_trouble()), took);
        self.render(answer, id)
    }

    async fn handle(
        &self,
        head: &RequestHead,
        payload: Body,
        (request, peer, started): (Uuid, Option<IpAddr>, Instant),
        consultant: &Consultant,
    ) -> Handled {
        let (operation, query) = match read(head) {
            Ok(read) => read,
            Err(code) => {
                let answered = self.refuse(head, payload, code).await;
                return Handled { operation: None, app: None, answered };
            }
        };
        let now = self.clock.now();
        let (app, answered) = match self.gate.admit(&query, now) {
            Ok(caller) => {
                let app = caller.app.id;
                let (counted, alarm) = caller.app.count(operation, now);
                let users = &self.users;
                let subscribers = &*self.subscribers;
                let (key, as_client) = (None, false);
                let deadline = Cell::new(started);
                let call = Call {
                    operation,
                    caller,
                    request,
                    peer,
                    now,
                    key,
                    as_client,
                    users,
                    deadline,
                    subscribers,
                    consultant,
                };
                if let Some(alarm) = alarm {
                    let near = alarm.counted(self.clock.clone());
                    subscribers.alert(app, near, call.origin());
                }
                let answered = match counted {
                    Ok(()) => self.carry_out(head, payload, call).await,
                    Err(code) => self.refuse(head, payload, code).await,
                };
                (Some(app), answered)
            }
            Err(code) => (None, self.refuse(head, payload, code).await),
        };
        Handled { operation: Some(operation), app, answered }
    }

    async fn refuse(&self, head: &RequestHead, payload: Body, code: ErrorCode) -> Answered {
        body::skip(head, payload, self.body).await;
        Err(Failure::Common(code))
    }

    async fn carry_out(&self, head: &RequestHead, payload: Body, mut call: Call<'_>) -> Answered {
        let body = body::read(head, payload, self.body).await?;
        let text = |code| Failure::Common(call.operation.common(code));
        let body = body::text(&body).map_err(text)?;
        call.as_client = acting::as_client(head, call.operation).map_err(Failure::Common)?;
        // Its time begins when there is something to do.
        let deadline = Instant::now() + self.request_timeout;
        call.deadline.set(deadline);
        // The actors answer within it; this limit is for the case that they do not.
        let asking = if call.operation.asks() { BEFORE_TIMEOUT_MAX_MS } else { 0 };
        let limit = (deadline + ANSWER_GRACE + Duration::from_millis(asking)).into();
        let answered = match idempotency::key(head, call.operation).map_err(Failure::Common)? {
            None => timeout_at(limit, handle(&call, body)).await,
            Some(key) => timeout_at(limit, idempotency::carry_out(call, key, body)).await,
        };
        answered.unwrap_or(Err(Failure::Whole(code::TIMED_OUT)))
    }

    fn render(&self, answer: Answer, id: Uuid) -> Response<Bytes> {
        let mut response = Response::with_body(StatusCode::OK, Bytes::from(answer.body));
        let headers = response.headers_mut();
        headers.reserve(7);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("X-Requested-With"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(CORDON_NODE.clone(), self.node.clone());
        let mut id_text = [0; uuid::fmt::Hyphenated::LENGTH];
        let id_text = id.hyphenated().encode_lower(&mut id_text);
        let visible = "digits and hyphens may stand in a header";
        headers.insert(CORDON_REQUEST_ID.clone(), HeaderValue::from_str(id_text).expect(visible));
        if !answer.positions.is_empty() {
            let mut text = String::new();
            for (partition, offset) in &answer.positions {
                let comma = if text.is_empty() { "" } else { "," };
                write!(text, "{comma}{partition}@{offset}").expect("a text takes every byte");
            }
            let positions = HeaderValue::try_from(text).expect(visible);
            headers.insert(CORDON_POSITION.clone(), positions);
        }
        response
    }
}

/// Checks 1 and 2: the request line names a command.
fn read(head: &RequestHead) -> Result<(Operation, Query<'_>), ErrorCode> {
    let path = head.uri.path();
    if head.method != Method::POST || !query::has_form(path) {
        return Err(code::URL_UNREADABLE);
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let query = query.map_err(|query::Undecodable| code::URL_UNREADABLE)?;
    let operation = Operation::at(path).ok_or(code::COMMAND_UNKNOWN)?;
    Ok((operation, query))
}

/// The codes that tell of trouble on our side, and not of the request.
const TROUBLE: [ErrorCode; 11] = [
    code::TIMED_OUT,
    code::RELATIONS_BROKEN,
    code::RELATIONS_TIMED_OUT,
    code::ACCOUNTS_BROKEN,
    code::ACCOUNTS_TIMED_OUT,
    code::PROFILES_BROKEN,
    code::PORTRAIT_GET_BROKEN,
    code::MESSAGES_BROKEN,
    code::MESSAGES_TIMED_OUT,
    code::WEBHOOKS_BROKEN,
    code::WEBHOOKS_TIMED_OUT,
];

/// Whether the code tells of trouble on our side.
pub(super) fn is_trouble(number: u32) -> bool {
    TROUBLE.iter().any(|code| code.number == number)
}

/// One event per request, without anything that the caller sent.
fn log(
    request: Uuid,
    app: Option<AppId>,
    operation: Option<Operation>,
    (number, is_trouble): (u32, bool),
    took: Duration,
) {
    let command = operation.map(Operation::command);
    let app = app.map(|app| app.0);
    let duration_ms = took.as_micros() as f64 / 1000.0;
    if is_trouble {
        tracing::warn!(
            request.id = %request, app.id = app, command, code = number, duration_ms,
            "a call could not be answered",
        );
    } else {
        tracing::debug!(
            request.id = %request, app.id = app, command, code = number, duration_ms,
            "a call was answered",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_of_every_code_of_trouble() {
        let mut known: Vec<u32> = TROUBLE.iter().map(|code| code.number).collect();
        known.sort_unstable();
        known.dedup();
        for (text, begin) in [
            (include_str!("../../README.md"), "| `cordon_http_calls_total"),
            (
                include_str!("../../compose/prometheus/alerts.yml"),
                "        expr: sum by (code) (rate(cordon_http_calls_total{code=~\"",
            ),
        ] {
            let row = text.lines().find_map(|line| line.strip_prefix(begin));
            let row = row.expect("a row of the table, or a rule");
            let told = row.split('"').next().expect("all of it, or a list of codes");
            let told = told.split(|letter: char| !letter.is_ascii_digit());
            let mut told: Vec<u32> = told.filter_map(|number| number.parse().ok()).collect();
            told.sort_unstable();
            assert_eq!(told, known);
        }
    }
}
