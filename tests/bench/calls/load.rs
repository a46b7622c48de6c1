//! A closed loop: every connection has one request out, and looks at its answer before the next one.
//!
//! One thread, no HTTP library: what the load costs is taken from the server's processors.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use futures_util::future::join_all;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// One request, and what its answer must hold.
#[derive(Default)]
pub(super) struct Request {
    /// The command with its service, like `sns/black_list_add`.
    pub(super) command: &'static str,
    pub(super) body: Vec<u8>,
    /// What the answer must hold somewhere.
    pub(super) expected: &'static str,
    /// What it must not hold anywhere.
    pub(super) unwanted: Option<&'static str>,
}

/// Where requests go, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// The query that every call has.
    pub(super) query: String,
}

/// What a load came to.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) calls: u64,
    pub(super) took: Duration,
    /// In microseconds, sorted.
    pub(super) latencies: Vec<u32>,
}

impl Measured {
    pub(super) fn rate(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// The latency that `share` of the calls kept below, in milliseconds.
    pub(super) fn percentile_ms(&self, share: f64) -> f64 {
        let at = (self.latencies.len().saturating_sub(1) as f64 * share) as usize;
        self.latencies.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }
}

/// Sends what `next` writes until it writes nothing more, or for as long as `seconds` say, over so many
/// connections. Panics at the first answer that is not right: such a figure would be worth nothing.
pub(super) fn run(
    door: &Door,
    connections: usize,
    seconds: Option<Duration>,
    mut next: impl FnMut(&mut Request) -> bool,
) -> Measured {
    let next = RefCell::new(&mut next as &mut dyn FnMut(&mut Request) -> bool);
    let latencies = RefCell::new(Vec::new());
    let calls = Cell::new(0);
    let took = actix_web::rt::System::new().block_on(async {
        let opened = join_all((0..connections).map(|_| TcpStream::connect(door.address))).await;
        let began = Instant::now();
        let ends = seconds.map(|seconds| began + seconds);
        let each = opened.into_iter().map(async |stream| {
            let mut connection = Connection::new(stream.expect("the server takes connections"));
            let mut request = Request::default();
            while ends.is_none_or(|ends| Instant::now() < ends) && {
                let mut next = next.borrow_mut();
                (*next)(&mut request)
            } {
                let sent = Instant::now();
                let answer = tokio::time::timeout(ANSWER_MAX, connection.call(door, &request));
                let answer = answer.await.expect("an answer in time").expect("an answer");
                check(&request, answer);
                let took = sent.elapsed().as_micros();
                latencies.borrow_mut().push(u32::try_from(took).unwrap_or(u32::MAX));
                calls.set(calls.get() + 1);
            }
        });
        join_all(each).await;
        began.elapsed()
    });
    let mut latencies = latencies.into_inner();
    latencies.sort_unstable();
    Measured { calls: calls.get(), took, latencies }
}

fn check(request: &Request, answer: &[u8]) {
    let holds = |text: &str| {
        let text = text.as_bytes();
        answer.windows(text.len()).any(|window| window == text)
    };
    let right = holds(request.expected) && !request.unwanted.is_some_and(holds);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    assert!(right, "{}: {} was answered {}", request.command, shown(&request.body), shown(answer));
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    read: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP takes it");
        Self { stream, out: Vec::new(), read: Vec::new() }
    }

    async fn call(&mut self, door: &Door, request: &Request) -> io::Result<&[u8]> {
        self.out.clear();
        let (command, query, length) = (request.command, &door.query, request.body.len());
        write!(
            self.out,
            "POST /v4/{command}?{query} HTTP/1.1\r\nHost: bench\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )?;
        self.out.extend_from_slice(&request.body);
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.try_write(&self.out[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.read.clear();
        loop {
            if let Some((head, length)) = head(&self.read)
                && self.read.len() >= head + length
            {
                return Ok(&self.read[head..head + length]);
            }
            let filled = self.read.len();
            assert!(filled < ANSWER_BYTES_MAX, "the answer is too long");
            self.read.resize(filled + READ_BYTES, 0);
            let read = self.stream.try_read(&mut self.read[filled..]);
            self.read.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The lengths of an answer's head and of its body, once the head is whole.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((end, length.expect("a length")))
}
