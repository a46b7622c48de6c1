//! Listeners whose connections are [`Patient`].

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Payload, Protocol, Request};
use actix_service::{
    Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_tls::accept::{TlsError, max_concurrent_tls_connect};
use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use rustls::ServerConfig;
use tokio::io::AsyncWrite;

use super::{Body, ConnectionState, Patience, Patient, Readable};

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long the other side may take.
    pub patience: Patience,
    /// How long a connection may take to close.
    pub disconnect: Duration,
    /// Threads.
    pub workers: usize,
    /// Connections per thread at most.
    pub connections_max: usize,
    /// How long running answers may take to finish once the server is asked to stop, in seconds.
    pub shutdown_timeout_s: u64,
}

/// The TLS of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificates and whom they convince.
    pub config: ServerConfig,
    /// How long a handshake may take.
    pub handshake: Duration,
}

/// Serves `routes` on `listener`, behind `tls` if there is any, until the handle of the answered server
/// stops it.
///
/// Must be called inside an actix system; the answered server is a future to be awaited or spawned.
/// Errors: the listener cannot be used.
pub fn serve(
    terms: Terms,
    listener: TcpListener,
    tls: Option<Tls>,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let server = Server::build()
        .workers(terms.workers)
        .max_concurrent_connections(terms.connections_max)
        .shutdown_timeout(terms.shutdown_timeout_s)
        .disable_signals();
    let signal = server.graceful_shutdown_signal();
    let stopping = move || {
        let signal = signal.clone();
        async move { signal.notified().await }
    };
    let server = match tls {
        None => server.listen("plain", listener, move || {
            let http = http(terms, stopping.clone(), routes.clone());
            fn_service(move |stream: TcpStream| {
                let connection = connection(terms, stream, |stream| stream);
                async move { Ok(connection) }
            })
            .and_then(http)
        }),
        Some(Tls { mut config, handshake }) => {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            // A thread takes no connection more while so many of its handshakes last: what strangers hold
            // is to cost them connections, as everywhere.
            max_concurrent_tls_connect(terms.connections_max);
            server.listen("tls", listener, move || {
                let http = http(terms, stopping.clone(), routes.clone());
                let mut acceptor = Acceptor::new(config.clone());
                acceptor.set_handshake_timeout(handshake);
                acceptor
                    .map_err(|error| match error {
                        TlsError::Tls(error) => DispatchError::Io(error),
                        TlsError::Timeout => DispatchError::SlowRequestTimeout,
                        TlsError::Service(never) => match never {},
                    })
                    .and_then(fn_service(move |stream: TlsStream<TcpStream>| {
                        let connection = connection(terms, stream, |stream| stream.get_ref().0);
                        async move { Ok(connection) }
                    }))
                    .and_then(http)
            })
        }
    };
    Ok(server?.run())
}

type Connection<S> = (Patient<S>, Protocol, Option<SocketAddr>);

fn connection<S>(terms: Terms, stream: S, socket: fn(&S) -> &TcpStream) -> Connection<S> {
    let (nodelay, peer) = (socket(&stream).set_nodelay(true), socket(&stream).peer_addr());
    // Without it answers wait for each other; a connection that is gone already may refuse.
    drop(nodelay);
    (Patient::new(stream, terms.patience), Protocol::Http1, peer.ok())
}

/// HTTP over patient connections. A request is in hand until it is answered.
fn http<S, G, F>(
    terms: Terms,
    stopping: G,
    routes: impl Fn(&mut ServiceConfig),
) -> impl ServiceFactory<Connection<S>, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    S: Readable + AsyncWrite + Unpin + 'static,
    G: Fn() -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let app = map_config(App::new().configure(routes), |()| AppConfig::default());
    let app = apply_fn_factory(app, |mut request: Request, app: &_| {
        let in_hand = ConnectionState::take(&request);
        if !matches!(request.payload(), Payload::None) {
            let payload = Box::pin(Body::of(&mut request));
            *request.payload() = Payload::Stream { payload };
        }
        let answer = Service::call(app, request);
        async move {
            let answer = answer.await;
            drop(in_hand);
            answer
        }
    });
    HttpService::<_, _, BoxBody>::build()
        .keep_alive(terms.patience.idle)
        .client_request_timeout(terms.patience.head)
        .client_disconnect_timeout(terms.disconnect)
        .graceful_shutdown_signal(stopping)
        .on_connect_ext(|connection: &Patient<S>, data| {
            data.insert(connection.state());
        })
        .finish(app)
}
