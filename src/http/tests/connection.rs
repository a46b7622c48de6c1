//! How the edge behaves on a real connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::http::serve;

/// Serves the API on a port of its own, and hands its address to `visit` on another thread.
async fn on_a_real_connection<T: Send + 'static>(
    settings: Settings,
    visit: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { workers: Some(1), ..settings };
    let clock = Clock::fixed(NOW);
    let desks = desks(&clock);
    let subscribers = Arc::new(Subscribers::nobody(clock.clone(), desks.clone()));
    let (users, metrics) = (users(), Metrics::new());
    let server = serve(settings, users, subscribers, clock, metrics, desks, listener).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let visited = actix_web::rt::task::spawn_blocking(move || visit(address)).await.unwrap();
    handle.stop(true).await;
    visited
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one answer and leaves the connection open: the status line and the body's code.
fn read_answer(connection: &mut TcpStream) -> (String, u64) {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (head.lines().next().unwrap().to_owned(), body["ErrorCode"].as_u64().unwrap())
}

#[actix_web::test]
async fn a_connection_outlives_refusals_with_unread_bodies() {
    let codes = on_a_real_connection(settings(), |address| {
        let mut connection = connect(address);
        let unknown = post("/v4/sns/nothing?x=1", NO_TARGETS);
        let unsigned = post(&target(ADD, &[("usersig", Some("xxx"))]), NO_TARGETS);
        let good = post(&target(ADD, &[]), NO_TARGETS);
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
        [unknown, unsigned, good.clone(), get, good].map(|request| {
            connection.write_all(request.as_bytes()).unwrap();
            let (status, code) = read_answer(&mut connection);
            assert_eq!(status, "http/1.1 200 ok");
            code
        })
    });
    assert_eq!(codes.await, [60009, 70003, 30001, 60002, 30001]);
}

#[actix_web::test]
async fn the_path_is_matched_as_it_came() {
    let codes = on_a_real_connection(settings(), |address| {
        let query = query(&[]);
        [
            "/v4/sns/black_list_add",
            "/v4/sns/black%5flist_add",
            "/v4/sns/./black_list_add",
            "/v4/x/../sns/black_list_add",
            "//v4/sns/black_list_add",
            "/v4/sns/black_list_add/",
            "/v4/sns/Black_list_add",
        ]
        .map(|path| {
            let mut connection = connect(address);
            let request = post(&format!("{path}?{query}"), NO_TARGETS);
            connection.write_all(request.as_bytes()).unwrap();
            read_answer(&mut connection).1
        })
    });
    assert_eq!(codes.await, [30001, 60009, 60002, 60002, 60002, 60002, 60009]);
}

#[actix_web::test]
async fn a_body_may_come_in_pieces_and_chunks() {
    let codes = on_a_real_connection(settings(), |address| {
        let target = target(ADD, &[]);
        let mut pieces = connect(address);
        for piece in post(&target, NO_TARGETS).as_bytes().chunks(7) {
            pieces.write_all(piece).unwrap();
        }
        let mut chunked = connect(address);
        let (first, second) = NO_TARGETS.split_at(9);
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        );
        chunked.write_all(request.as_bytes()).unwrap();
        [read_answer(&mut pieces).1, read_answer(&mut chunked).1]
    });
    assert_eq!(codes.await, [30001, 30001]);
}

#[actix_web::test]
async fn a_body_that_is_too_long_is_answered_and_not_cut_off() {
    let code = on_a_real_connection(settings(), |address| {
        let mut connection = connect(address);
        let body = " ".repeat(1024 * 1024 + 1);
        connection.write_all(post(&target(ADD, &[]), &body).as_bytes()).unwrap();
        read_answer(&mut connection).1
    });
    assert_eq!(code.await, 60008);
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_60008() {
    let settings = Settings { body_timeout: Duration::from_millis(50), ..settings() };
    let code = on_a_real_connection(settings, |address| {
        let mut connection = connect(address);
        let request = post(&target(ADD, &[]), NO_TARGETS);
        connection.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
        read_answer(&mut connection).1
    });
    assert_eq!(code.await, 60008);
}
