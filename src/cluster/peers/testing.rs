//! What the tests of this room share: nodes on real listeners, and raw ends of connections.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;

use super::*;
use crate::actors::{BlocklistPage, Elsewhere, View, Viewed};
use crate::clock::Clock;
use crate::cluster::routes::{Owner, Routes};
use crate::domain::{AppId, Timestamp, UserId, UserKey};
use crate::journal::Epoch;
use crate::pairing::Answer;

/// How long a test waits for what has to happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// The patience of an ask that is to be answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Waits until `is_so`.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "it did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs what blocks beside the test's thread, which the listeners need.
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    actix_web::rt::task::spawn_blocking(work).await.expect("it does not panic")
}

pub(super) fn key() -> Security {
    Security::Key(Key::new("the secret of the nodes in the tests").expect("a key"))
}

pub(super) fn other_key() -> Security {
    Security::Key(Key::new("the secret of some other nodes, too").expect("a key"))
}

/// TLS with the certificate of `who`, which takes certificates of `whose` authority.
pub(super) fn tls(whose: &str, who: &str) -> Security {
    let file = |name: String| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    };
    Security::Tls(Tls {
        ca: file(format!("{whose}-ca.pem")),
        certificate: file(format!("{who}.pem")),
        key: file(format!("{who}.key")),
    })
}

pub(super) fn question() -> Question {
    let key = UserKey { app: AppId(1), user: UserId::parse("amy").expect("a name") };
    Question::View { key, view: View::Blocklist { start: 3, max: 7 } }
}

pub(super) fn reply(total: usize) -> Reply {
    Reply::View(Viewed::Blocklist(BlocklistPage { total, ..BlocklistPage::default() }))
}

/// A message to `partition` that is told from others by `number`.
pub(super) fn message(partition: u16, number: u64) -> PairMessage {
    PairMessage::Answered {
        source: Partition(partition),
        destination: Partition(9),
        answer: Answer { durable: number, refused: None },
    }
}

pub(super) fn number(message: &PairMessage) -> u64 {
    match message {
        PairMessage::Answered { answer, .. } => answer.durable,
        PairMessage::Effects { .. } => panic!("the tests send none"),
    }
}

/// What a node does when it is asked.
pub(super) enum Reaction {
    Say(Result<Reply, ExecuteError>),
    Never,
}

type React = dyn Fn(Partition, &Question) -> Reaction + Send + Sync;

/// What a node of a test answers, and what it has heard.
#[derive(Clone)]
pub(super) struct Told(Arc<Inner>);

struct Inner {
    react: Box<React>,
    /// Messages to other partitions are not taken.
    owned: Mutex<Option<Partition>>,
    asked: Mutex<Vec<(Partition, Question, Duration)>>,
    heard: Mutex<Vec<PairMessage>>,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Told {
    pub(super) fn asked(&self) -> Vec<(Partition, Question, Duration)> {
        self.0.asked.lock().unwrap().clone()
    }

    pub(super) fn heard(&self) -> Vec<PairMessage> {
        self.0.heard.lock().unwrap().clone()
    }

    pub(super) fn own(&self, partition: u16) {
        *self.0.owned.lock().unwrap() = Some(Partition(partition));
    }

    /// While closed, whoever delivers is held.
    pub(super) fn close(&self, closed: bool) {
        *self.0.closed.lock().unwrap() = closed;
        self.0.opened.notify_all();
    }
}

impl Here for Told {
    async fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        let reaction = (self.0.react)(partition, &question);
        self.0.asked.lock().unwrap().push((partition, question, patience));
        match reaction {
            Reaction::Say(answer) => answer,
            Reaction::Never => std::future::pending().await,
        }
    }

    fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError> {
        if self.0.owned.lock().unwrap().is_some_and(|owned| owned != message.to()) {
            return Err(ExecuteError::Elsewhere);
        }
        self.0.heard.lock().unwrap().push(message);
        let closed = self.0.closed.lock().unwrap();
        drop(self.0.opened.wait_while(closed, |closed| *closed).unwrap());
        Ok(())
    }
}

/// A node: its listener and what it hears.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) told: Told,
    pub(super) routes: Arc<Routes>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    server: ServerHandle,
}

impl Node {
    /// A node on some port that answers by `react`.
    pub(super) fn start(
        name: &str,
        security: Security,
        react: impl Fn(Partition, &Question) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::on(listener, name, security, react)
    }

    pub(super) fn on(
        listener: TcpListener,
        name: &str,
        security: Security,
        react: impl Fn(Partition, &Question) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let told = Told(Arc::new(Inner {
            react: Box::new(react),
            owned: Mutex::default(),
            asked: Mutex::default(),
            heard: Mutex::default(),
            closed: Mutex::default(),
            opened: Condvar::new(),
        }));
        let (routes, metrics) = (Arc::new(Routes::new(8)), Metrics::default());
        let clock = Clock::fixed(NOW);
        let settings = Settings { node: name.into(), security };
        let server = serve(
            &settings,
            listener,
            told.clone(),
            routes.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let server = server.expect("it serves");
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let name = name.to_owned();
        Self { name, address, told, routes, clock, metrics, server: handle }
    }

    /// A node that answers every question with a page.
    pub(super) fn answering(name: &str, security: Security) -> Self {
        Self::start(name, security, |_, _| Reaction::Say(Ok(reply(1))))
    }

    pub(super) fn owner(&self, epoch: u64) -> Owner {
        owner(&self.name, self.address, epoch)
    }

    pub(super) async fn stop(self) {
        self.server.stop(true).await;
    }
}

pub(super) fn owner(node: &str, address: SocketAddr, epoch: u64) -> Owner {
    Owner { epoch: Epoch(epoch), node: node.into(), address: address.to_string() }
}

/// A node that calls others: its name is `a`.
pub(super) struct Caller {
    pub(super) peers: Peers,
    pub(super) routes: Arc<Routes>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Caller {
    pub(super) fn start(security: Security) -> Self {
        let (routes, metrics) = (Arc::new(Routes::new(8)), Metrics::default());
        let clock = Clock::fixed(NOW);
        let settings = Settings { node: "a".into(), security };
        let peers = Peers::start(&settings, routes.clone(), clock.clone(), metrics.clone());
        Self { peers: peers.expect("it starts"), routes, clock, metrics }
    }

    /// One that knows `node` as the owner of partition 0.
    pub(super) fn of(security: Security, node: &Node) -> Self {
        let caller = Self::start(security);
        caller.routes.note(Partition(0), node.owner(1));
        caller
    }

    pub(super) fn ask(
        &self,
        partition: u16,
    ) -> impl Future<Output = Result<Reply, ExecuteError>> + use<> {
        self.ask_for(partition, PATIENCE)
    }

    pub(super) fn ask_for(
        &self,
        partition: u16,
        patience: Duration,
    ) -> impl Future<Output = Result<Reply, ExecuteError>> + use<> {
        self.peers.ask(Partition(partition), question(), patience)
    }
}

/// A listener whose connections the test answers by hand.
pub(super) struct Raw {
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

impl Raw {
    pub(super) fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { address: listener.local_addr().expect("an address"), listener }
    }

    /// Takes one connection and reads one request.
    pub(super) async fn accept(&self) -> (TcpStream, Vec<u8>) {
        let listener = self.listener.try_clone().expect("a listener");
        beside(move || {
            let mut stream = listener.accept().expect("a connection").0;
            let request = read_message(&mut stream);
            (stream, request)
        })
        .await
    }
}

/// Sends bytes and answers what comes back: the status and the whole text.
pub(super) async fn send_raw(address: SocketAddr, request: Vec<u8>) -> (u16, String) {
    beside(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(&request).expect("it is sent");
        let answer = String::from_utf8(read_message(&mut stream)).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), answer)
    })
    .await
}

/// Reads a head and as much of a body as it announces.
pub(super) fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut message = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let head = message.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&message[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
            if message.len() >= head + 4 + length {
                return message;
            }
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => message.extend_from_slice(&chunk[..count]),
            _ => return message,
        }
    }
}

/// A request as a node without key or certificate makes it, with these headers besides.
pub(super) fn request(headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut all = vec![
        ("x-cordon-from", "a"),
        ("x-cordon-to", "b"),
        ("x-cordon-deadline-ms", "1000"),
        ("x-cordon-hops", "1"),
    ];
    let length = body.len().to_string();
    all.push(("content-length", &length));
    all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    let mut text = "POST /internal/v1/ask HTTP/1.1\r\nhost: b\r\n".to_owned();
    for (name, value) in all {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{text}\r\n{body}").into_bytes()
}
