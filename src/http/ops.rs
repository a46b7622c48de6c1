//! What operators and their tools ask, on a listener of its own: health and metrics.
//! Rule: extensions.md 5.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::web::{Data, get};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::patience::{self, Patience, Terms};

/// Open connections at most: a handful of probes and scrapers.
const CONNECTIONS_MAX: usize = 64;
/// Bytes that are taken in at once of a connection, and in which all its questions are that wait: with
/// the answer on its way, and the next one made, that is what somebody costs who reads nothing.
const READ_BYTES: usize = 1 << 10;

/// How long the head of a question may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long nothing of an answer may be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long running answers may take to finish once the server is asked to stop.
const SHUTDOWN_TIMEOUT_S: u64 = 1;

/// The content type of the text that metrics are encoded in.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Says whether the node serves, or why not. Cheap to clone.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Asks `ready` each time; it answers at once.
    pub fn new(ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ready))
    }

    /// The reason why the node does not serve, if it does not.
    ///
    /// Errors: that reason, for people.
    pub fn check(&self) -> Result<(), String> {
        (self.0)()
    }
}

/// Serves health and metrics on `listener`, until the handle of the answered server stops it. Until there
/// is a `registry`, nothing is measured.
///
/// Errors: the listener cannot be used.
pub fn serve(
    readiness: Readiness,
    registry: Arc<OnceLock<Registry>>,
    listener: TcpListener,
) -> io::Result<Server> {
    let terms = Terms {
        patience: Patience {
            head: HEAD_TIMEOUT,
            idle: KEEP_ALIVE,
            answer: ANSWER_TIMEOUT,
            read_bytes: READ_BYTES,
        },
        disconnect: DISCONNECT_TIMEOUT,
        workers: 1,
        connections_max: CONNECTIONS_MAX,
        shutdown_timeout_s: SHUTDOWN_TIMEOUT_S,
    };
    patience::serve(terms, listener, None, move |app| {
        app.app_data(Data::new(readiness.clone()))
            .app_data(Data::from(Arc::clone(&registry)))
            .route("/healthz", get().to(healthz))
            .route("/readyz", get().to(readyz))
            .route("/metrics", get().to(metrics));
    })
}

async fn healthz() -> HttpResponse {
    plain(HttpResponse::Ok(), "ok\n".to_owned())
}

async fn readyz(readiness: Data<Readiness>) -> HttpResponse {
    match readiness.check() {
        Ok(()) => plain(HttpResponse::Ok(), "ready\n".to_owned()),
        Err(reason) => plain(HttpResponse::ServiceUnavailable(), format!("{reason}\n")),
    }
}

fn plain(mut response: actix_web::HttpResponseBuilder, text: String) -> HttpResponse {
    response.content_type(ContentType::plaintext()).body(text)
}

async fn metrics(registry: Data<OnceLock<Registry>>) -> HttpResponse {
    let mut text = String::new();
    let nothing = Registry::default();
    let registry = registry.get().unwrap_or(&nothing);
    encode(&mut text, registry).expect("a text takes every byte");
    HttpResponse::Ok().content_type(METRICS_TYPE).body(text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> (u16, String, String) {
        let mut response =
            awc::Client::new().get(format!("http://{address}{path}")).send().await.unwrap();
        let content_type = response.headers().get("content-type");
        let content_type = content_type.map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = response.body().await.unwrap();
        (response.status().as_u16(), content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[actix_web::test]
    async fn health_readiness_and_metrics_are_answered() {
        let ready = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ready);
        let readiness = Readiness::new(move || {
            if seen.load(Ordering::Relaxed) { Ok(()) } else { Err("recovering".to_owned()) }
        });
        let mut registry = Registry::default();
        super::super::Metrics::new().register(&mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Arc::new(OnceLock::new());
        let server = serve(readiness, Arc::clone(&shown), listener).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);

        assert_eq!(ask(address, "/healthz").await.0, 200);
        let (status, _, reason) = ask(address, "/readyz").await;
        assert_eq!((status, reason.as_str()), (503, "recovering\n"));
        ready.store(true, Ordering::Relaxed);
        assert_eq!(ask(address, "/readyz").await.0, 200);
        let nothing = (200, METRICS_TYPE.to_owned(), "# EOF\n".to_owned());
        assert_eq!(ask(address, "/metrics").await, nothing);
        shown.set(registry).unwrap();
        let (status, content_type, text) = ask(address, "/metrics").await;
        assert_eq!((status, content_type.as_str()), (200, METRICS_TYPE));
        assert!(text.contains("cordon_http_calls_total") && text.ends_with("# EOF\n"));
        assert_eq!(ask(address, "/v4/sns/black_list_add").await.0, 404);
        handle.stop(true).await;
    }
}
