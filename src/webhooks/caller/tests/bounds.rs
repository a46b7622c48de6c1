//! How long each part of a call may take.

use actix_web::rt::net::TcpSocket;
use rustls::RootCertStore;

use super::*;

#[actix_web::test]
async fn the_whole_answer_is_waited_for_within_the_total() {
    let soon = Bounds { total: SOON, ..bounds() };
    let receiver = Receiver::start(|_| Answer::Never);
    assert_eq!(attempt(&caller(&receiver.url(), soon)).await, Outcome::TimedOut);
    for text in
        [&b"HTTP/1.1 200 OK\r\ncontent-le"[..], b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"]
    {
        assert_eq!(attempt(&caller(&says(text), soon)).await, Outcome::TimedOut);
    }
}

#[actix_web::test]
async fn a_connection_comes_about_within_its_bound() {
    // A queue of two, filled: the system answers nobody else.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    let _listener = socket.listen(1).expect("it listens");
    let _queued = [0, 1].map(|_| TcpStream::connect(address).expect("there is room"));
    let soon = Bounds { connect: SOON, ..bounds() };
    let outcome = attempt(&caller(&format!("http://{address}/"), soon)).await;
    assert_eq!(outcome, Outcome::TimedOut);
}

#[actix_web::test]
async fn tls_comes_about_within_its_bound() {
    // It takes the connection and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/im", listener.local_addr().expect("an address"));
    let tls = Tls::with_roots(RootCertStore::empty()).expect("TLS");
    let soon = Bounds { handshake: SOON, ..bounds() };
    let caller = Caller::new(&subscription(&url), soon, 4, Some(&tls));
    assert_eq!(attempt(&caller).await, Outcome::TimedOut);
}

#[test]
fn no_part_of_a_call_may_take_longer_than_the_whole() {
    let short = Bounds::within(SOON);
    assert_eq!(short, Bounds { connect: SOON, handshake: SOON, total: SOON });
    let long = Bounds::within(NEVER);
    assert_eq!((long.connect, long.handshake), (CONNECT_MAX, HANDSHAKE_MAX));
}
