//! Connections over time, and what is read of them.

use std::sync::Arc;

use actix_http::{BoxedPayloadStream, Payload};
use actix_web::rt;
use actix_web::rt::net::TcpListener;
use actix_web::web::Bytes;
use futures_util::future::{FutureExt, join, join_all};
use futures_util::{StreamExt, stream};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::ResolvesServerCertUsingSni;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use super::*;

const PATIENCE: Patience = Patience {
    head: Duration::from_millis(100),
    idle: Duration::from_millis(300),
    answer: Duration::from_millis(200),
    read_bytes: 64,
};
/// Long after the last of them.
const LATE: Duration = Duration::from_secs(20);
/// What is read here is no head that has to be finished, however long it takes.
const UNHURRIED: Patience = Patience { head: Duration::from_secs(5), ..PATIENCE };

async fn pair() -> (TcpStream, Patient<TcpStream>) {
    pair_with(PATIENCE).await
}

async fn pair_with(patience: Patience) -> (TcpStream, Patient<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (other, Patient::new(listener.accept().await.unwrap().0, patience))
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

/// How much is read at once, by and by, until nothing comes any more, or the end.
async fn reads_by_steps(connection: &mut Patient<TcpStream>) -> Vec<usize> {
    let mut steps = Vec::new();
    let waited = PATIENCE.head / 2;
    let mut bytes = [0; 1000];
    while let Ok(read) = timeout(waited, connection.read(&mut bytes)).await {
        match read.unwrap() {
            0 => break,
            read => steps.push(read),
        }
    }
    steps
}

#[actix_web::test]
async fn what_comes_is_looked_at_before_more_is_read() {
    let (mut other, mut connection) = pair().await;
    other.write_all(&[b'x'; 100]).await.unwrap();
    connection.stream.readable().await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = [0; 1000];
    let mut next = || {
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = Pin::new(&mut connection).poll_read(&mut cx, &mut buffer);
        polled.map(|read| read.map(|()| buffer.filled().len()).unwrap())
    };
    let seen = [next(), next(), next(), next()];
    assert_eq!(seen, [Poll::Ready(64), Poll::Pending, Poll::Ready(36), Poll::Pending]);
}

async fn reads_all(connection: &mut Patient<TcpStream>) -> usize {
    reads_by_steps(connection).await.iter().sum()
}

#[actix_web::test]
async fn nothing_is_read_while_a_request_without_a_body_is_in_hand() {
    let (mut other, mut connection) = pair_with(UNHURRIED).await;
    let in_hand = connection.state().take_in_hand();
    other.write_all(&[b'x'; 200]).await.unwrap();
    assert_eq!(reads_all(&mut connection).await, 0);
    drop(in_hand);
    let rest = reads_by_steps(&mut connection).await;
    assert_eq!(rest.iter().sum::<usize>(), 200);
    assert!(rest.iter().all(|step| *step <= PATIENCE.read_bytes), "{rest:?}");
}

#[actix_web::test]
async fn of_a_body_is_read_what_is_missing_while_its_reader_waits_and_nothing_behind_it() {
    const CAME: usize = 50;
    const MISSING: usize = 100;
    let (mut other, mut connection) = pair_with(UNHURRIED).await;
    let state = connection.state();
    // Where a body of unknown length ends, nobody knows before its end is read.
    for (declared, readable) in [(Some(CAME + MISSING), MISSING), (None, MISSING + CAME)] {
        let (sender, mut receiver) = unbounded_channel::<Bytes>();
        let fed = stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|chunk| chunk.map(Ok)));
        let payload: BoxedPayloadStream = Box::pin(fed);
        let payload = Payload::Stream { payload };
        let mut body = Body::new(payload, declared, Some(Rc::clone(&state)));
        let in_hand = Rc::clone(&state).take_in_hand();
        let feed = |bytes| sender.send(vec![b'x'; bytes].into()).unwrap();
        feed(CAME);
        other.write_all(&[b'x'; MISSING + CAME]).await.unwrap();
        assert_eq!(reads_all(&mut connection).await, 0, "nobody wants it");
        assert_eq!(body.next().await.unwrap().unwrap().len(), CAME);
        assert_eq!(reads_all(&mut connection).await, 0, "nobody wants more of it");
        assert!(body.next().now_or_never().is_none());
        assert_eq!(reads_all(&mut connection).await, readable);
        feed(MISSING);
        drop(sender);
        assert_eq!(body.next().await.unwrap().unwrap().len(), MISSING);
        assert!(body.next().await.is_none());
        other.write_all(&[b'x'; CAME]).await.unwrap();
        assert_eq!(reads_all(&mut connection).await, 0, "its end was read");
        drop(in_hand);
        assert_eq!(reads_all(&mut connection).await, MISSING + 2 * CAME - readable);
    }
}

#[actix_web::test]
async fn whoever_waits_for_an_answer_to_be_given_is_read_again_when_it_was() {
    let (mut other, mut connection) = pair().await;
    other.write_all(b"more").await.unwrap();
    let in_hand = connection.state().take_in_hand();
    let (began, mut bytes) = (Instant::now(), [0; 10]);
    let read = async { timeout(LATE, connection.read(&mut bytes)).await };
    let answered = async { drop(in_hand) };
    let (read, ()) = join(read, answered).await;
    assert_eq!(read.expect("an end").unwrap(), 4);
    // What nobody wakes is looked at once more when its time is over.
    assert!(began.elapsed() < LATE / 2, "it is woken");
}

#[actix_web::test]
async fn who_takes_no_answer_is_not_listened_to_until_they_do() {
    let (mut other, mut connection) = pair().await;
    other.write_all(b"more").await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let answer = vec![b'x'; 1 << 20];
    let mut owed = 0;
    while let Poll::Ready(written) = Pin::new(&mut connection).poll_write(&mut cx, &answer) {
        owed += written.unwrap();
    }
    let mut bytes = [0; 10];
    assert!(connection.stream.readable().await.is_ok());
    assert!(
        Pin::new(&mut connection).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes)).is_pending()
    );
    let mut taken = vec![0; owed];
    other.read_exact(&mut taken).await.unwrap();
    connection.write_all(b"last").await.unwrap();
    assert_eq!(connection.read(&mut bytes).await.unwrap(), 4);
}

#[actix_web::test]
async fn as_many_handshakes_may_wait_as_there_may_be_connections() {
    /// More than actix lets a thread have by default.
    const SILENT: usize = 300;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    let terms = Terms {
        patience: PATIENCE,
        disconnect: PATIENCE.head,
        workers: 1,
        connections_max: SILENT + 1,
        shutdown_timeout_s: 0,
    };
    let tls = Tls { config, handshake: LATE * 2 };
    let server = serve(terms, listener, Some(tls), |_| {}).unwrap();
    let handle = server.handle();
    rt::spawn(server);
    let silent = join_all((0..SILENT).map(|_| TcpStream::connect(address))).await;
    assert!(silent.iter().all(Result::is_ok));
    let mut another = TcpStream::connect(address).await.unwrap();
    another.write_all(b"no handshake").await.unwrap();
    let answered = timeout(LATE, another.read_to_end(&mut Vec::new())).await;
    assert!(answered.is_ok(), "it is its turn at once");
    handle.stop(false).await;
}
