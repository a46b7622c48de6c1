//! What counts as an answer.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[actix_web::test]
async fn a_json_object_with_200_is_a_success_whatever_it_says() {
    assert_eq!(outcome(|_| Answer::Ok).await, Outcome::Delivered);
    let refuses = r#"{"ActionStatus":"FAIL","ErrorCode":1}"#;
    assert_eq!(outcome(move |_| Answer::Text(refuses)).await, Outcome::Delivered);
}

#[actix_web::test]
async fn a_200_without_a_json_object_is_a_failure() {
    for text in ["", "OK", "[]"] {
        let outcome = outcome(|_| Answer::Text(text)).await;
        assert!(matches!(outcome, Outcome::Malformed { .. }), "{text}: {outcome:?}");
    }
}

#[actix_web::test]
async fn another_status_is_a_failure_even_with_a_json_object() {
    for status in [201, 204, 400, 404, 500, 503] {
        let expected = Outcome::Refused { status };
        assert_eq!(outcome(move |_| Answer::Status(status)).await, expected);
    }
}

#[actix_web::test]
async fn who_is_busy_says_so_with_429_or_with_503_and_for_how_long() {
    let busy = |seconds| Outcome::Busy { retry_after: Duration::from_secs(seconds) };
    assert_eq!(outcome(|_| Answer::Status(429)).await, busy(1));
    assert_eq!(outcome(|_| Answer::Later(429, "7")).await, busy(7));
    assert_eq!(outcome(|_| Answer::Later(503, "7")).await, busy(7));
    let moment = "Thu, 01 Dec 2022 05:22:52 GMT";
    assert_eq!(outcome(move |_| Answer::Later(429, moment)).await, busy(60));
    assert_eq!(outcome(|_| Answer::Later(500, "7")).await, Outcome::Refused { status: 500 });
}

#[actix_web::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let receiver = Receiver::start(|heard| match &*heard.path {
        "/im" => Answer::Redirect("/elsewhere"),
        _ => Answer::Ok,
    });
    let outcome = attempt(&caller(&receiver.url(), bounds())).await;
    assert_eq!(outcome, Outcome::Refused { status: 302 });
    assert_eq!(receiver.heard().len(), 1);
}

#[actix_web::test]
async fn an_answer_that_is_too_long_is_none_whether_it_says_so_or_not() {
    let too_long = Outcome::Malformed { reason: "the answer is too long" };
    // Whitespace around an object is JSON, so nothing but the length is wrong with it.
    let text: &'static str = format!("{{}}{}", " ".repeat(ANSWER_BYTES_MAX)).leak();
    assert_eq!(outcome(move |_| Answer::Text(text)).await, too_long);
    let fits = &text[..ANSWER_BYTES_MAX];
    assert_eq!(outcome(move |_| Answer::Text(fits)).await, Outcome::Delivered);

    let (url, endless) = raw(|mut stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [b"1000\r\n", &[b' '; 0x1000][..], b"\r\n"].concat();
        pour(&mut stream, head, &chunk)
    });
    assert_eq!(attempt(&caller(&url, bounds())).await, too_long);
    assert!(endless.join().expect("it ends") < POURED_MAX, "the caller reads on and on");
}

/// What a receiver pours into a connection whose other end does not let go of it.
const POURED_MAX: usize = 64 << 20;

/// Writes as long as it is read, and answers how much that was.
fn pour(stream: &mut TcpStream, head: &[u8], more: &[u8]) -> usize {
    let mut poured = head.len();
    let mut written = stream.write_all(head);
    while written.is_ok() && poured < POURED_MAX {
        written = stream.write_all(more);
        poured += more.len();
    }
    poured
}

#[actix_web::test]
async fn the_head_of_an_answer_is_bounded() {
    let (url, endless) =
        raw(|mut stream| pour(&mut stream, b"HTTP/1.1 200 OK\r\nx: ", &[b'x'; 0x1000]));
    let outcome = attempt(&caller(&url, bounds())).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    assert!(endless.join().expect("it ends") < POURED_MAX, "the caller reads on and on");

    let headers = "x: y\r\n".repeat(100);
    let text = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\n{{}}");
    let outcome = attempt(&caller(&says(text.leak().as_bytes()), bounds())).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[actix_web::test]
async fn an_answer_is_not_unpacked() {
    use flate2::{Compression, write::GzEncoder};
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(b"{}").expect("it is packed");
    let packed = packed.finish().expect("it is packed");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    let text = [head.as_bytes(), &packed].concat();
    let outcome = attempt(&caller(&says(text.leak()), bounds())).await;
    assert!(matches!(outcome, Outcome::Malformed { .. }), "{outcome:?}");
}

proptest! {
    #[test]
    fn whatever_a_receiver_says_the_wait_is_within_bounds(
        value in vec(any::<u8>(), 0..40),
        date in "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{1,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        now: i64,
    ) {
        for value in [&value[..], date.as_bytes()] {
            let wait = answer::retry_after(Some(value), Timestamp(now));
            prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait), "{wait:?}");
        }
    }
}
