//! A real receiver of webhooks, on loopback.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpSocket;
use serde_json::Value;

use super::DEADLINE;
use super::wire::Message;

/// One call that the receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) message: Message,
    pub(crate) body: Value,
    /// It was answered with 200.
    pub(crate) accepted: bool,
}

impl Heard {
    /// `CallbackCommand` of the body.
    pub(crate) fn command(&self) -> &str {
        self.body["CallbackCommand"].as_str().expect("a command")
    }

    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.message.header(name).unwrap_or_default()
    }

    /// The value of a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The pairs, from whom to whom.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.body["PairList"].as_array().expect("a list of pairs");
        let name = |value: &'_ Value| value.as_str().map(str::to_owned);
        pairs
            .iter()
            .map(|pair| (name(&pair["From_Account"]), name(&pair["To_Account"])))
            .map(|(from, to)| (from.expect("a name"), to.expect("a name")))
            .collect()
    }

    /// The id of the delivery, the same on every try.
    pub(crate) fn id(&self) -> &str {
        self.message.header("webhook-id").expect("a delivery has an id")
    }
}

/// What the receiver does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    Accept,
    /// Answers this status.
    Status(u16),
    /// Asks for patience: this many seconds.
    Busy(u64),
    /// Closes the connection without an answer.
    Hangup,
    /// Answers 200 with this text.
    Say(&'static str),
    /// Says nothing until the other side gives up.
    Hang,
}

struct Shared {
    heard: Mutex<Vec<Heard>>,
    news: Condvar,
    reaction: Mutex<Rule>,
}

type Rule = Arc<dyn Fn(&Heard) -> Reaction + Send + Sync>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver that can go away and come back under the same address.
pub(crate) struct TestSubscriber {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Bound and not listening: nobody else gets the port while the receiver is away.
    _reservation: TcpSocket,
    door: Option<Door>,
}

/// The listener of one presence.
struct Door {
    closed: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: thread::JoinHandle<()>,
}

impl TestSubscriber {
    /// A receiver that accepts everything.
    pub(crate) fn start() -> Self {
        let mut subscriber = Self::away();
        subscriber.open();
        subscriber
    }

    /// A receiver at an address of this host that others reach.
    pub(crate) fn start_at(host: Ipv4Addr) -> Self {
        let mut subscriber = Self::away_at(host);
        subscriber.open();
        subscriber
    }

    /// A receiver that is not there yet.
    pub(crate) fn away() -> Self {
        Self::away_at(Ipv4Addr::LOCALHOST)
    }

    fn away_at(host: Ipv4Addr) -> Self {
        let reservation = TcpSocket::new_v4().expect("a socket");
        reservation.set_reuseaddr(true).expect("an option of a socket");
        reservation.bind((host, 0).into()).expect("a free port");
        let address = reservation.local_addr().expect("an address");
        let shared = Shared {
            heard: Mutex::default(),
            news: Condvar::new(),
            reaction: Mutex::new(Arc::new(|_| Reaction::Accept)),
        };
        Self { shared: Arc::new(shared), address, _reservation: reservation, door: None }
    }

    /// Where it is, or will be.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.door.is_some()
    }

    /// Comes back: connections are taken again.
    pub(crate) fn open(&mut self) {
        assert!(self.door.is_none(), "it is open already");
        let listener = TcpListener::bind(self.address).expect("the port is reserved for it");
        let door = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (closed, streams) = (door.0.clone(), door.1.clone());
        let shared = self.shared.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                lock(&streams).push(stream.try_clone().expect("a second handle"));
                let shared = shared.clone();
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        self.door = Some(Door { closed: door.0, streams: door.1, thread });
    }

    /// Goes away: open connections break, new ones are refused.
    pub(crate) fn close(&mut self) {
        let Some(door) = self.door.take() else { return };
        door.closed.store(true, Ordering::Release);
        // Wakes the listener; it sees the mark before anything else.
        drop(TcpStream::connect(self.address));
        door.thread.join().expect("the receiver's thread ends");
        for stream in lock(&door.streams).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What it does with calls from now on.
    pub(crate) fn react(&self, reaction: Reaction) {
        self.react_by(move |_| reaction);
    }

    /// The same, call by call.
    pub(crate) fn react_by(&self, rule: impl Fn(&Heard) -> Reaction + Send + Sync + 'static) {
        *lock(&self.shared.reaction) = Arc::new(rule);
    }

    /// Every call so far, in the order of their answers.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        lock(&self.shared.heard).clone()
    }

    /// The calls that were answered with 200.
    pub(crate) fn accepted(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.accepted).collect()
    }

    /// Forgets the calls so far and answers them.
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *lock(&self.shared.heard))
    }

    /// Waits until the calls so far meet the condition.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&[Heard]) -> bool) {
        self.until_within(DEADLINE, what, condition);
    }

    /// The same with another deadline, for what may take longer.
    pub(crate) fn until_within(
        &self,
        deadline: Duration,
        what: &str,
        condition: impl Fn(&[Heard]) -> bool,
    ) {
        let began = Instant::now();
        let mut heard = lock(&self.shared.heard);
        while !condition(&heard) {
            let left = deadline.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "it was not heard in time: {what}");
            let woken = self.shared.news.wait_timeout(heard, left);
            heard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until as many calls were accepted.
    pub(crate) fn until_accepted(&self, count: usize) {
        let accepted = |heard: &[Heard]| heard.iter().filter(|heard| heard.accepted).count();
        self.until(&format!("{count} calls"), |heard| accepted(heard) >= count);
    }
}

impl Drop for TestSubscriber {
    fn drop(&mut self) {
        self.close();
    }
}

/// Takes the calls of one connection until it ends.
fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(message)) = Message::read(&mut reader) {
        let body = serde_json::from_slice(&message.body).expect("a webhook is JSON");
        let target = message.first.split(' ').nth(1).expect("a target").to_owned();
        assert!(message.first.starts_with("POST "), "{}", message.first);
        let mut heard = Heard { target, message, body, accepted: false };
        let rule = Arc::clone(&lock(&shared.reaction));
        let reaction = rule(&heard);
        heard.accepted = matches!(reaction, Reaction::Accept | Reaction::Say(_));
        // Heard before it is answered: whoever sees the delivery done sees it here.
        lock(&shared.heard).push(heard);
        shared.news.notify_all();
        let mut wait = String::new();
        let status = match reaction {
            Reaction::Accept | Reaction::Say(_) => 200,
            Reaction::Status(status) => status,
            Reaction::Busy(seconds) => {
                wait = format!("Retry-After: {seconds}\r\n");
                429
            }
            Reaction::Hangup => return drop(stream.shutdown(Shutdown::Both)),
            // Nothing more comes before the end.
            Reaction::Hang => return drop(reader.read_to_end(&mut Vec::new())),
        };
        let text = match reaction {
            Reaction::Say(text) => text,
            _ => r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#,
        };
        let answer = format!(
            "HTTP/1.1 {status} It\r\nContent-Type: application/json\r\n{wait}Content-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
