//! Calls over real sockets. Where a name is looked up, the answer is made up; what happens then is not.

mod answers;
mod bounds;
mod guard;
mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;
use crate::tags::CallbackCommand;
use crate::webhooks::testing::{Answer, Heard, Place, Receiver, origin, subscription, within};

const NOW: Timestamp = Timestamp(1_669_872_112_000);
/// Longer than any test may take: what ends a call is another bound.
const NEVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(100);

fn bounds() -> Bounds {
    Bounds { connect: NEVER, handshake: NEVER, total: NEVER }
}

fn caller(url: &str, bounds: Bounds) -> Caller {
    Caller::new(&subscription(url), bounds, 4, None)
}

fn post(id: &str) -> Post {
    Post {
        id: id.into(),
        command: CallbackCommand::BlackListAdd.name(),
        at: NOW,
        body: Bytes::from_static(
            br#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[]}"#,
        ),
        by: Arc::new(origin()),
        link: None,
        attempt: 1,
    }
}

async fn attempt(caller: &Caller) -> Outcome {
    within("an outcome", caller.attempt(&post("0@1.x"), NOW)).await
}

async fn outcome(answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Outcome {
    let receiver = Receiver::start(answer);
    attempt(&caller(&receiver.url(), bounds())).await
}

/// Takes one connection, reads one request, and does with the stream what it likes.
fn raw<T: Send + 'static>(
    then: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/im", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        read_request(&mut stream).expect("a request");
        then(stream)
    });
    (url, thread)
}

fn read_request(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.ends_with(b"]}") {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(request)
}

/// Answers these bytes and holds the connection until the caller lets go of it.
fn says(text: &'static [u8]) -> String {
    let (url, _) = raw(move |mut stream| {
        stream.write_all(text).expect("it is sent");
        let _ = stream.read(&mut [0]);
    });
    url
}

/// Answers these bytes and closes the connection.
fn says_and_hangs_up(text: &'static [u8]) -> String {
    let (url, _) = raw(move |mut stream| stream.write_all(text).expect("it is sent"));
    url
}

#[actix_web::test]
async fn a_connection_that_breaks_before_the_end_of_the_answer_is_unreachable() {
    for text in [
        &b""[..],
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let outcome = attempt(&caller(&says_and_hangs_up(text), bounds())).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    }
}

#[actix_web::test]
async fn nobody_listening_is_unreachable() {
    let place = Place::reserve();
    let outcome = attempt(&caller(&place.url(), bounds())).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[actix_web::test]
async fn one_connection_serves_many_calls() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let caller = caller(&receiver.url(), bounds());
    for _ in 0..5 {
        assert_eq!(attempt(&caller).await, Outcome::Delivered);
    }
    let heard = receiver.heard();
    assert!(heard.iter().all(|call| call.peer == heard[0].peer), "{heard:?}");
}

#[actix_web::test]
async fn a_question_is_answered_with_the_object_or_with_what_was_wrong() {
    let ask = async |url: &str, bounds: Bounds| {
        within("an answer", caller(url, bounds).ask(&post("q"), NOW)).await
    };
    let answers = async |answer: fn(&Heard) -> Answer| {
        let receiver = Receiver::start(answer);
        ask(&receiver.url(), bounds()).await
    };
    let said = answers(|_| Answer::Text(r#"{"ErrorCode":7}"#)).await;
    assert_eq!(said, Ok(Bytes::from_static(br#"{"ErrorCode":7}"#)));
    assert_eq!(answers(|_| Answer::Later(429, "7")).await, Err(Failure::Status(429)));
    let malformed = Failure::Malformed { reason: "the answer is no JSON object" };
    assert_eq!(answers(|_| Answer::Text("[]")).await, Err(malformed));
    let receiver = Receiver::start(|_| Answer::Never);
    let soon = Bounds::within(SOON);
    assert_eq!(ask(&receiver.url(), soon).await, Err(Failure::TimedOut));
    let broken = ask(&says_and_hangs_up(b"HTTP/1.1"), bounds()).await;
    assert!(matches!(broken, Err(Failure::Unreachable { .. })), "{broken:?}");
}
