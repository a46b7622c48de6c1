//! Connections over time, and what is read of them.

use actix_web::rt::net::{TcpListener, TcpStream};
use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    drop(connection_of_second.state().take_in_hand(&mut Request::new()));
    second.write_all(b"PO").await.unwrap();
    assert_eq!(reads(&mut connection_of_second).await.0, 2);
    let (read, took) = reads(&mut connection_of_second).await;
    assert!(read == 0 && took >= PATIENCE.head / 2, "{read} bytes after {took:?}");
    other.shutdown().await.unwrap();
}

#[actix_web::test]
async fn a_request_in_hand_is_waited_for_and_an_idle_connection_as_long_as_it_may_idle() {
    let (_other, mut connection) = pair().await;
    let in_hand = connection.state().take_in_hand(&mut Request::new());
    let waited = timeout(PATIENCE.head * 5, connection.read(&mut [0; 100])).await;
    assert!(waited.is_err(), "it is our turn");
    drop(in_hand);
    let (read, took) = reads(&mut connection).await;
    assert!(read == 0 && took >= PATIENCE.idle, "{read} bytes after {took:?}");
}

#[actix_web::test]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let (_other, mut connection) = pair().await;
    let _in_hand = connection.state().take_in_hand(&mut Request::new());
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

#[actix_web::test]
async fn nothing_behind_the_body_of_a_request_in_hand_is_read() {
    // What is read here is no head that has to be finished, however long it takes.
    let patience = Patience { head: LATE / 4, ..PATIENCE };
    let (mut other, mut connection) = pair_with(patience).await;
    let state = connection.state();
    let body = || Payload::from(vec![b'x'; 10]);
    let mut none = Request::new();
    let mut declared = Request::with_payload(body());
    declared.headers_mut().insert(CONTENT_LENGTH, 150.into());
    for (request, readable) in [(&mut none, 0), (&mut declared, 150)] {
        let in_hand = state.take_in_hand(request);
        other.write_all(&[b'x'; 200]).await.unwrap();
        assert_eq!(reads_by_steps(&mut connection).await.iter().sum::<usize>(), readable);
        drop(in_hand);
        let rest = reads_by_steps(&mut connection).await;
        assert_eq!(rest.iter().sum::<usize>(), 200 - readable);
        assert!(rest.iter().all(|step| *step <= PATIENCE.read_bytes), "{rest:?}");
    }
    let mut streamed = Request::with_payload(body());
    let _in_hand = state.take_in_hand(&mut streamed);
    other.write_all(&[b'x'; 200]).await.unwrap();
    assert_eq!(reads_by_steps(&mut connection).await.iter().sum::<usize>(), 200);
    let read: Vec<_> = streamed.take_payload().collect().await;
    assert_eq!(read.into_iter().map(|chunk| chunk.unwrap().len()).sum::<usize>(), 10);
    other.write_all(&[b'x'; 200]).await.unwrap();
    assert!(reads_by_steps(&mut connection).await.is_empty(), "its end was read");
}

#[actix_web::test]
async fn whoever_waits_for_an_answer_to_be_given_is_read_again_when_it_was() {
    let (mut other, mut connection) = pair().await;
    other.write_all(b"more").await.unwrap();
    let in_hand = connection.state().take_in_hand(&mut Request::new());
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
