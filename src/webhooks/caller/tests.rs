//! Calls over real sockets. Where a name is looked up, the answer is made up; what happens then is not.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use actix_service::Service;
use actix_tls::connect::ConnectInfo;
use actix_web::rt::net::TcpSocket;
use awc::http::Uri;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::webhooks::command::CallbackCommand;
use crate::webhooks::guard::{Guard, Subnet};
use crate::webhooks::testing::{Answer, Heard, Place, Receiver, subscription, within};

const NOW: Timestamp = Timestamp(1_669_872_112_000);
/// Longer than any test may take: what ends a call is another bound.
const NEVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(100);

fn bounds() -> Bounds {
    Bounds { connect: NEVER, handshake: NEVER, first_byte: NEVER, total: NEVER }
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
        by: Arc::new(Origin {
            operator: "administrator".into(),
            request: uuid::Uuid::nil(),
            ip: "127.0.0.1".into(),
            platform: "RESTAPI".into(),
        }),
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

#[actix_web::test]
async fn the_first_byte_is_waited_for_within_its_bound() {
    let soon = Bounds { first_byte: SOON, ..bounds() };
    let receiver = Receiver::start(|_| Answer::Never);
    assert_eq!(attempt(&caller(&receiver.url(), soon)).await, Outcome::TimedOut);
    // A head that does not end is no beginning.
    let url = says(b"HTTP/1.1 200 OK\r\ncontent-le");
    assert_eq!(attempt(&caller(&url, soon)).await, Outcome::TimedOut);
}

#[actix_web::test]
async fn the_whole_answer_is_waited_for_within_the_total() {
    let soon = Bounds { total: SOON, ..bounds() };
    let receiver = Receiver::start(|_| Answer::Never);
    assert_eq!(attempt(&caller(&receiver.url(), soon)).await, Outcome::TimedOut);
    let url = says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{");
    assert_eq!(attempt(&caller(&url, soon)).await, Outcome::TimedOut);
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
    assert_eq!(short, Bounds { connect: SOON, handshake: SOON, first_byte: SOON, total: SOON });
    let long = Bounds::within(NEVER);
    assert_eq!((long.connect, long.handshake), (CONNECT_MAX, HANDSHAKE_MAX));
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

// Where a call may go.

fn guard(allowed: &[(Ipv4Addr, u8)]) -> Guard {
    let subnets = allowed.iter().map(|(base, prefix)| Subnet::new((*base).into(), *prefix));
    Guard::On { allowed: subnets.map(|subnet| subnet.expect("a subnet")).collect() }
}

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Names that lead where a test says, and who asked for them.
#[derive(Default)]
struct Names {
    known: Vec<Ipv4Addr>,
    /// It never answers.
    hangs: bool,
    asked: RefCell<Vec<(String, u16)>>,
}

impl Resolve for Names {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn std::error::Error>>> {
        self.asked.borrow_mut().push((host.to_owned(), port));
        if self.hangs {
            return std::future::pending().boxed_local();
        }
        let found = self.known.iter().map(|ip| SocketAddr::new((*ip).into(), port)).collect();
        async move { Ok(found) }.boxed_local()
    }
}

fn guarded_caller(url: &str, guard: Guard, names: Rc<Names>, bounds: Bounds) -> Caller {
    Caller::with_names(&Subscription { guard, ..subscription(url) }, bounds, 4, None, names)
}

#[actix_web::test]
async fn a_literal_address_that_is_not_public_is_not_called() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let call = async |guard| {
        attempt(&guarded_caller(&receiver.url(), guard, Rc::default(), bounds())).await
    };
    let refused = Outcome::Guarded(Guarded::Address(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(call(guard(&[])).await, refused);
    assert_eq!(receiver.heard().len(), 0);
    assert_eq!(call(guard(&[LOOPBACK])).await, Outcome::Delivered);
    assert_eq!(call(Guard::Off).await, Outcome::Delivered);
}

#[actix_web::test]
async fn a_literal_is_judged_where_the_connection_is_made_too() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let door = Door::new(guard(&[]), Rc::<Names>::default());
    let uri: Uri = receiver.url().parse().expect("a URL");
    let refused = within("an answer", door.call(ConnectInfo::new(uri))).await.map(|_| ());
    let Err(actix_tls::connect::ConnectError::Resolver(error)) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.is::<Guarded>(), "{error}");
}

#[actix_web::test]
async fn a_host_in_a_notation_of_its_own_is_not_even_looked_up() {
    let names = Rc::new(Names { known: vec![PUBLIC], ..Names::default() });
    for url in ["http://127.1/", "http://0x7f000001/", "http://receiver.example./"] {
        let caller = guarded_caller(url, guard(&[LOOPBACK]), Rc::clone(&names), bounds());
        assert_eq!(attempt(&caller).await, Outcome::Guarded(Guarded::Host), "{url}");
    }
    assert_eq!(*names.asked.borrow(), []);
}

/// What comes of a call to a name that leads to `known`, and how many lookups it took.
async fn call_by_name(
    known: &[Ipv4Addr],
    allowed: &[(Ipv4Addr, u8)],
    url: &str,
) -> (Outcome, usize) {
    let names = Rc::new(Names { known: known.to_vec(), ..Names::default() });
    let caller = guarded_caller(url, guard(allowed), Rc::clone(&names), bounds());
    let outcome = attempt(&caller).await;
    let asked = names.asked.borrow().len();
    (outcome, asked)
}

#[actix_web::test]
async fn a_name_that_leads_to_the_inside_at_all_is_not_called() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "receiver.example");
    let home = Ipv4Addr::LOCALHOST;
    let refused = |ip: Ipv4Addr| (Outcome::Guarded(Guarded::Address(ip.into())), 1);
    for (known, allowed, expected) in [
        (&[home][..], &[][..], refused(home)),
        (&[home, PUBLIC], &[], refused(home)),
        (&[PUBLIC, home], &[], refused(home)),
        (&[home, PRIVATE], &[LOOPBACK], refused(PRIVATE)),
        (&[home, PUBLIC, PRIVATE], &[LOOPBACK], refused(PRIVATE)),
    ] {
        assert_eq!(call_by_name(known, allowed, &url).await, expected, "{known:?}");
    }
    // Also one behind those that would be tried.
    let many = [vec![home; 20], vec![PRIVATE]].concat();
    assert_eq!(call_by_name(&many, &[LOOPBACK], &url).await, refused(PRIVATE));
    assert_eq!(receiver.heard().len(), 0);
    let delivered = (Outcome::Delivered, 1);
    assert_eq!(call_by_name(&[home], &[LOOPBACK], &url).await, delivered);
}

#[actix_web::test]
async fn a_name_without_an_address_is_unreachable() {
    let (outcome, _) = call_by_name(&[], &[], "http://receiver.example/").await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[actix_web::test]
async fn the_names_of_the_system_are_judged_like_any_others() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let call = async |guard| {
        let caller = Caller::new(&Subscription { guard, ..subscription(&url) }, bounds(), 4, None);
        attempt(&caller).await
    };
    let outcome = call(guard(&[])).await;
    let Outcome::Guarded(Guarded::Address(address)) = outcome else { panic!("{outcome:?}") };
    assert!(address.is_loopback());
    // Nobody listens on the other one that it may lead to.
    assert_eq!(call(Guard::Off).await, Outcome::Delivered);
    let outcome = attempt(&caller("http://does-not-exist.invalid/", bounds())).await;
    let Outcome::Unreachable { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("the name is not found: "), "{reason}");
}

#[actix_web::test]
async fn the_other_end_of_the_connection_is_judged_too() {
    let receiver = Receiver::start(|_| Answer::Ok);
    // The system leads this address to the loopback one.
    let url = receiver.url().replace("127.0.0.1", "0.0.0.0");
    let call = async |allowed: &[(Ipv4Addr, u8)]| {
        attempt(&guarded_caller(&url, guard(allowed), Rc::default(), bounds())).await
    };
    let unspecified = (Ipv4Addr::UNSPECIFIED, 32);
    let refused = Outcome::Guarded(Guarded::Address(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(call(&[unspecified]).await, refused);
    assert_eq!(receiver.heard().len(), 0);
    assert_eq!(call(&[unspecified, LOOPBACK]).await, Outcome::Delivered);
}

#[actix_web::test]
async fn an_address_that_fails_gives_way_to_the_next_one() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "receiver.example");
    // Nobody listens at the first.
    let known = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST];
    assert_eq!(call_by_name(&known, &[LOOPBACK], &url).await, (Outcome::Delivered, 1));
}

#[actix_web::test]
async fn calls_that_need_the_same_name_wait_for_one_lookup_within_their_bound() {
    let names = Rc::new(Names { hangs: true, ..Names::default() });
    let soon = Bounds { connect: SOON, ..bounds() };
    let url = "http://receiver.example/";
    let caller = guarded_caller(url, guard(&[]), Rc::clone(&names), soon);
    for _ in 0..2 {
        let outcomes = join_all((0..3).map(|_| attempt(&caller))).await;
        assert_eq!(outcomes, [Outcome::TimedOut, Outcome::TimedOut, Outcome::TimedOut]);
    }
    assert_eq!(*names.asked.borrow(), [("receiver.example".to_owned(), 80)]);
}

// TLS.

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn roots(name: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(name)).expect("a root")).expect("a root");
    roots
}

/// Serves one TLS connection, answers one request, and hands back what it read. Clients have to show
/// a certificate of `clients`, if that is given.
fn serve_tls(listener: &TcpListener, clients: Option<&str>) -> std::io::Result<Vec<u8>> {
    let certificate = CertificateDer::from_pem_file(fixture("receiver.pem")).expect("one");
    let key = PrivateKeyDer::from_pem_file(fixture("receiver.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the versions of the provider");
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(roots(ca));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let config = config.with_single_cert(vec![certificate], key).expect("they go together");
    let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
    let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
    let request = read_request(&mut stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
    stream.flush()?;
    Ok(request)
}

async fn call_over_tls(
    roots: RootCertStore,
    clients: Option<&'static str>,
    shown: Option<&str>,
) -> (Outcome, std::io::Result<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/im", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || serve_tls(&listener, clients));
    let certificate = shown.map(|name| {
        let files = [format!("{name}.pem"), format!("{name}.key")].map(|file| fixture(&file));
        Certificate::load(&files[0], &files[1]).expect("they go together")
    });
    let tls = Tls::with_roots(roots).expect("TLS");
    let subscription = Subscription { certificate, ..subscription(&url) };
    let outcome = attempt(&Caller::new(&subscription, bounds(), 4, Some(&tls))).await;
    (outcome, server.join().expect("the server does not panic"))
}

#[actix_web::test]
async fn a_receiver_with_a_trusted_certificate_is_called_over_https() {
    let (outcome, request) = call_over_tls(roots("ca.pem"), None, None).await;
    assert_eq!(outcome, Outcome::Delivered);
    let request = String::from_utf8(request.expect("a request")).expect("text");
    assert!(request.starts_with("POST /im?SdkAppid=1400000001&"), "{request}");
    assert!(request.contains(" HTTP/1.1\r\n"), "{request}");
}

#[actix_web::test]
async fn a_receiver_with_an_unknown_certificate_is_told_nothing() {
    let (outcome, request) = call_over_tls(RootCertStore::empty(), None, None).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    assert!(request.is_err(), "{request:?}");
}

#[actix_web::test]
async fn a_receiver_that_asks_who_calls_is_shown_the_certificate() {
    let (outcome, _) = call_over_tls(roots("ca.pem"), Some("nodes-ca.pem"), Some("node")).await;
    assert_eq!(outcome, Outcome::Delivered);
    for shown in [None, Some("stranger")] {
        let (outcome, request) = call_over_tls(roots("ca.pem"), Some("nodes-ca.pem"), shown).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{shown:?}: {outcome:?}");
        assert!(request.is_err(), "{request:?}");
    }
}

#[actix_web::test]
async fn a_receiver_that_speaks_no_tls_is_unreachable_over_https() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("http://", "https://");
    let tls = Tls::with_roots(roots("ca.pem")).expect("TLS");
    let outcome = attempt(&Caller::new(&subscription(&url), bounds(), 4, Some(&tls))).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    assert_eq!(receiver.heard().len(), 0);
}
