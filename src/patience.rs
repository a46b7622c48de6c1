//! How long a connection may keep us waiting, beyond what the HTTP server sees to; and listeners whose
//! connections are [`Patient`].
//!
//! actix gives the head of a connection's first request its time, and an idle connection its own. The
//! head of a further request, and an answer that nobody takes, have no limit there: whoever was
//! answered once, and be it with a refusal, could hold a connection for ever with half a line.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_service::{
    Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long the other side may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between an answer and the next request, which the server sees to; here it is the last resort.
    pub idle: Duration,
    /// To take anything at all of an answer.
    pub answer: Duration,
}

/// What the connection and those who work on its requests know of each other.
#[derive(Debug)]
pub struct ConnectionState {
    patience: Patience,
    /// Requests that are worked on: what they may take has limits of its own.
    in_hand: Cell<usize>,
    /// Something came that is no whole request.
    in_head: Cell<bool>,
    /// When the next head has to be whole.
    due: Cell<Instant>,
}

impl ConnectionState {
    fn new(patience: Patience) -> Rc<Self> {
        let due = Cell::new(Instant::now() + patience.head);
        Rc::new(Self { patience, in_hand: Cell::new(0), in_head: Cell::new(false), due })
    }

    /// A head is whole: its request is in hand until what is answered here is dropped.
    pub fn take_in_hand(self: &Rc<Self>) -> InHand {
        self.in_hand.set(self.in_hand.get() + 1);
        InHand(Rc::clone(self))
    }

    fn heard(&self) {
        if self.in_hand.get() == 0 && !self.in_head.replace(true) {
            self.due.set(self.due.get().min(Instant::now() + self.patience.head));
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.in_hand.get() == 0 && now >= self.due.get()
    }
}

/// A request that is worked on.
#[derive(Debug)]
pub struct InHand(Rc<ConnectionState>);

impl Drop for InHand {
    fn drop(&mut self) {
        let ConnectionState { patience, in_hand, in_head, due } = &*self.0;
        in_hand.set(in_hand.get() - 1);
        in_head.set(false);
        // A part of the next head may have come with this request, and nothing more may ever come.
        due.set(Instant::now() + patience.idle + patience.head);
    }
}

/// A connection that ends when the other side takes longer than its [`Patience`].
///
/// It is looked at once in the time of a head, whatever happens on it, so that a request costs no
/// timer. What is over time lasts up to that much longer.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    state: Rc<ConnectionState>,
    look: Pin<Box<Sleep>>,
    /// Since when the other side takes nothing of what it is to be given.
    stuck_since: Option<Instant>,
}

impl<S> Patient<S> {
    /// Must be called inside a runtime with timers.
    pub fn new(stream: S, patience: Patience) -> Self {
        let look = Box::pin(sleep_until(Instant::now() + patience.head));
        Self { stream, state: ConnectionState::new(patience), look, stuck_since: None }
    }

    /// What those who work on its requests have to know.
    pub fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// Whether the other side has taken too long. Called whenever there is nothing to do but wait.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.state.patience;
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let stuck = self.stuck_since.is_some_and(|since| now >= since + patience.answer);
            if stuck || self.state.is_overdue(now) {
                return true;
            }
            self.look.as_mut().reset(now + patience.head);
        }
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match polled {
            Poll::Ready(_) => self.state.heard(),
            // As if they had hung up: the server has an orderly end for that.
            Poll::Pending if self.is_over(cx) => return Poll::Ready(Ok(())),
            Poll::Pending => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// Notes how a write went.
    fn wrote<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck_since = None;
            return polled;
        }
        self.stuck_since.get_or_insert_with(Instant::now);
        if self.is_over(cx) { Poll::Ready(Err(ErrorKind::TimedOut.into())) } else { polled }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

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

/// Serves `routes` on `listener`, behind `tls` if there is any, until the handle of the answered server
/// stops it.
///
/// Must be called inside an actix system; the answered server is a future to be awaited or spawned.
/// Errors: the listener cannot be used.
pub fn serve(
    terms: Terms,
    listener: TcpListener,
    tls: Option<ServerConfig>,
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
        Some(mut tls) => {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            server.listen("tls", listener, move || {
                let http = http(terms, stopping.clone(), routes.clone());
                // It has a limit of its own for the handshake.
                Acceptor::new(tls.clone())
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
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    G: Fn() -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let app = map_config(App::new().configure(routes), |()| AppConfig::default());
    let app = apply_fn_factory(app, |request: Request, app: &_| {
        let in_hand = request.conn_data::<Rc<ConnectionState>>().map(ConnectionState::take_in_hand);
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

#[cfg(test)]
mod tests {
    use actix_web::rt::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_millis(100),
        idle: Duration::from_millis(300),
        answer: Duration::from_millis(200),
    };
    /// Long after the last of them.
    const LATE: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, Patient<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (other, Patient::new(listener.accept().await.unwrap().0, PATIENCE))
    }

    async fn reads(connection: &mut Patient<TcpStream>) -> (usize, Duration) {
        let (began, mut bytes) = (Instant::now(), [0; 100]);
        let read = timeout(LATE, connection.read(&mut bytes)).await.expect("it ends");
        (read.unwrap(), began.elapsed())
    }

    #[actix_web::test]
    async fn a_head_that_is_begun_has_to_be_finished_the_first_and_every_other() {
        let (mut other, mut connection) = pair().await;
        assert_eq!(reads(&mut connection).await.0, 0, "nothing was said");
        let (mut second, mut connection_of_second) = pair().await;
        second.write_all(b"GET ").await.unwrap();
        assert_eq!(reads(&mut connection_of_second).await.0, 4);
        drop(connection_of_second.state().take_in_hand());
        second.write_all(b"PO").await.unwrap();
        assert_eq!(reads(&mut connection_of_second).await.0, 2);
        let (read, took) = reads(&mut connection_of_second).await;
        assert!(read == 0 && took >= PATIENCE.head / 2, "{read} bytes after {took:?}");
        other.shutdown().await.unwrap();
    }

    #[actix_web::test]
    async fn a_request_in_hand_is_waited_for_and_an_idle_connection_as_long_as_it_may_idle() {
        let (_other, mut connection) = pair().await;
        let in_hand = connection.state().take_in_hand();
        let waited = timeout(PATIENCE.head * 5, connection.read(&mut [0; 100])).await;
        assert!(waited.is_err(), "it is our turn");
        drop(in_hand);
        let (read, took) = reads(&mut connection).await;
        assert!(read == 0 && took >= PATIENCE.idle, "{read} bytes after {took:?}");
    }

    #[actix_web::test]
    async fn an_answer_that_nobody_takes_ends_the_connection() {
        let (_other, mut connection) = pair().await;
        let _in_hand = connection.state().take_in_hand();
        let answer = vec![b'x'; 64 << 20];
        let began = Instant::now();
        let written = timeout(LATE, connection.write_all(&answer)).await.expect("it ends");
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() >= PATIENCE.answer);
    }
}
