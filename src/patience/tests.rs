//! Connections over time.

use actix_web::rt::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const LIMITS: Limits = Limits {
    head: Duration::from_millis(100),
    idle: Duration::from_millis(300),
    answer: Duration::from_millis(200),
};
/// Long after the last of them.
const LATE: Duration = Duration::from_secs(20);

async fn pair() -> (TcpStream, Patient<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (other, Patient::new(listener.accept().await.unwrap().0, LIMITS))
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
    drop(connection_of_second.standing().take_in_hand());
    second.write_all(b"PO").await.unwrap();
    assert_eq!(reads(&mut connection_of_second).await.0, 2);
    let (read, took) = reads(&mut connection_of_second).await;
    assert!(read == 0 && took >= LIMITS.head / 2, "{read} bytes after {took:?}");
    other.shutdown().await.unwrap();
}

#[actix_web::test]
async fn a_request_in_hand_is_waited_for_and_an_idle_connection_as_long_as_it_may_idle() {
    let (_other, mut connection) = pair().await;
    let in_hand = connection.standing().take_in_hand();
    let waited = timeout(LIMITS.head * 5, connection.read(&mut [0; 100])).await;
    assert!(waited.is_err(), "it is our turn");
    drop(in_hand);
    let (read, took) = reads(&mut connection).await;
    assert!(read == 0 && took >= LIMITS.idle, "{read} bytes after {took:?}");
}

#[actix_web::test]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let (_other, mut connection) = pair().await;
    let _in_hand = connection.standing().take_in_hand();
    let answer = vec![b'x'; 64 << 20];
    let began = Instant::now();
    let written = timeout(LATE, connection.write_all(&answer)).await.expect("it ends");
    assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() >= LIMITS.answer);
}
