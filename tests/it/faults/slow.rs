//! Callers who take their time, many of them: a connection is nothing that one may have for nothing.
//!
//! `SLOW_CONNECTIONS` sets another number of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{MIB, ends_well, is_served_quickly, memory};
use crate::support::{Identity, Setup, TestProcess};

/// How many there are, if the machine lets us open so many files, and at most.
const SLOW: usize = 2_000;
const SLOW_MAX: usize = 10_000;
/// And at least: fewer are no burden.
const SLOW_MIN: usize = 500;
/// Files of this process that are others' business.
const OTHER_FILES: u64 = 300;

/// How many are served where that is the limit, and how much they say while the next one waits.
const FEW: usize = 3;
const CONVERSATIONS: usize = 50;

/// What a slow one may cost.
const BYTES_EACH_MAX: u64 = 64 << 10;
/// The longest that one may last: a head has 5 s and is looked for every 5 s, a body has 10 s, and the
/// machine may be busy.
pub(super) const LAST_MAX: Duration = Duration::from_secs(28);

/// How often each says a little more.
pub(super) const DRIP_EVERY: Duration = Duration::from_millis(500);

/// What somebody says at first, and then goes on to say a byte at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing at all.
    Silent,
    /// The head of a call.
    Head,
    /// The body of a call.
    Body,
    /// The head of a second call, after the first was answered.
    SecondHead,
    /// The same, and the two came together.
    SecondHeadAtOnce,
}

const KINDS: [Kind; 5] =
    [Kind::Silent, Kind::Head, Kind::Body, Kind::SecondHead, Kind::SecondHeadAtOnce];

/// Who is not let in is answered as well, and may go on.
const REFUSED: &str = "GET /nothing HTTP/1.1\r\nHost: cordon\r\n\r\n";
/// The beginning of a head.
const BEGUN: &str = "POST /v4/sns/black";

/// A call with the beginning of a body of so many bytes.
pub(super) fn call(command: &str, body: &str, bytes: usize) -> String {
    format!(
        "POST /v4/{command}?{} HTTP/1.1\r\nHost: cordon\r\nContent-Length: {bytes}\r\n\r\n{body}",
        Identity::default().query(),
    )
}

impl Kind {
    /// What is said at once.
    fn begins_with(self) -> String {
        match self {
            Self::Silent => String::new(),
            Self::Head => BEGUN.to_owned(),
            Self::Body => call("sns/black_list_get", "{", 100_000),
            Self::SecondHead => REFUSED.to_owned(),
            Self::SecondHeadAtOnce => format!("{REFUSED}{BEGUN}"),
        }
    }

    /// Whether more comes byte after byte.
    fn drips(self) -> bool {
        !matches!(self, Self::Silent | Self::SecondHeadAtOnce)
    }
}

struct Slow {
    kind: Kind,
    stream: TcpStream,
    began: Instant,
    /// How long it lasted, once it was closed.
    lasted: Option<Duration>,
}

impl Slow {
    fn new(kind: Kind, address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("the node listens");
        stream.write_all(kind.begins_with().as_bytes()).expect("it is taken");
        if kind == Kind::SecondHead {
            let mut answer = [0; 4096];
            assert!(stream.read(&mut answer).expect("an answer") > 0);
            stream.write_all(BEGUN.as_bytes()).expect("it is taken");
        }
        stream.set_nonblocking(true).expect("an option of a socket");
        Self { kind, stream, began: Instant::now(), lasted: None }
    }

    /// Says a byte more, and looks whether the other side has had enough.
    fn go_on(&mut self) {
        if self.lasted.is_some() {
            return;
        }
        let broke = self.kind.drips()
            && self.stream.write(b"x").is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        let mut text = [0; 4096];
        let closed = loop {
            match self.stream.read(&mut text) {
                Ok(0) => break true,
                // What is said on the way out.
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        if broke || closed {
            self.lasted = Some(self.began.elapsed());
        }
    }
}

/// As many as wanted, or as the files suffice for: the node may open as many as this process.
fn count() -> usize {
    let wanted = std::env::var("SLOW_CONNECTIONS").ok().and_then(|text| text.parse().ok());
    let wanted: usize = wanted.unwrap_or(SLOW).min(SLOW_MAX);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to its maximum");
    let room = maximum.map_or(usize::MAX, |files| files.saturating_sub(OTHER_FILES) as usize);
    let count = wanted.min(room);
    assert!(count >= SLOW_MIN, "{count} connections are too few: {maximum:?} files may be open");
    count
}

#[test]
fn slow_callers_hold_up_nobody_cost_little_and_are_let_go() {
    let count = count();
    let setup = Setup::new().set("HTTP_KEEP_ALIVE_S", "8");
    let node = TestProcess::start(&setup);
    is_served_quickly(&mut node.caller());
    let before = memory(&node);

    let kinds = KINDS.iter().cycle().take(count);
    let mut slow: Vec<Slow> = kinds.map(|kind| Slow::new(*kind, node.address)).collect();
    // Where operators ask nobody reads bodies.
    let ops = node.ops_address();
    let of_ops = KINDS.iter().filter(|kind| **kind != Kind::Body);
    slow.extend(of_ops.map(|kind| Slow::new(*kind, ops)));
    let mut caller = node.caller();
    let began = Instant::now();
    let mut most = 0;
    while slow.iter().any(|slow| slow.lasted.is_none()) {
        let round = Instant::now();
        slow.iter_mut().for_each(Slow::go_on);
        most = most.max(memory(&node));
        is_served_quickly(&mut caller);
        is_served_quickly(&mut node.caller());
        if began.elapsed() > LAST_MAX {
            break;
        }
        // They are as slow as this.
        thread::sleep(DRIP_EVERY.saturating_sub(round.elapsed()));
    }
    for kind in KINDS {
        let of_kind = slow.iter().filter(|slow| slow.kind == kind);
        let open = of_kind.clone().filter(|slow| slow.lasted.is_none()).count();
        let longest = of_kind.filter_map(|slow| slow.lasted).max();
        eprintln!("{kind:?}: {open} still open, the longest closed one lasted {longest:?}");
    }
    eprintln!("{} MiB before, {} MiB with {count}", before / MIB, most / MIB);
    let open: Vec<Kind> = slow.iter().filter(|s| s.lasted.is_none()).map(|s| s.kind).collect();
    assert!(open.is_empty(), "{} are still there, such as {:?}", open.len(), open[0]);
    let bound = before + 16 * MIB + BYTES_EACH_MAX * count as u64;
    assert!(most < bound, "{} MiB", most / MIB);
    ends_well(node, &setup);
}

/// Says something and hears an answer.
fn converse(stream: &mut TcpStream) {
    stream.write_all(REFUSED.as_bytes()).expect("it is taken");
    hear(stream);
}

fn hear(stream: &mut TcpStream) {
    let mut answer = [0; 4096];
    assert!(stream.read(&mut answer).expect("an answer in time") > 0, "it is let go");
}

#[test]
fn only_so_many_connections_are_served_and_the_next_one_when_one_has_gone() {
    let setup = Setup::new();
    let setup = setup.set("HTTP_WORKERS", "1").set("HTTP_CONNECTIONS_MAX", &FEW.to_string());
    let node = TestProcess::start(&setup);
    let connect = || {
        let stream = TcpStream::connect(node.address).expect("the node listens");
        stream.set_read_timeout(Some(LAST_MAX)).expect("an option of a socket");
        stream
    };
    let mut served: Vec<TcpStream> = (0..FEW).map(|_| connect()).collect();
    served.iter_mut().for_each(converse);
    let mut next = connect();
    next.write_all(REFUSED.as_bytes()).expect("the system takes it");
    for _ in 0..CONVERSATIONS {
        served.iter_mut().for_each(converse);
    }
    next.set_nonblocking(true).expect("an option of a socket");
    let early = next.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "it is not its turn");
    next.set_nonblocking(false).expect("an option of a socket");
    drop(served.pop());
    hear(&mut next);
    drop((served, next));
    ends_well(node, &setup);
}
