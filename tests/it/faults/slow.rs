//! Callers who take their time, many of them: a connection is nothing that one may have for nothing.
//!
//! `SLOW_CONNECTIONS` sets another number of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{MIB, ends_well, is_served_quickly, memory};
use crate::support::{CI, Identity, Setup, TestProcess, skip};

/// How many there are, if the machine lets us open so many files. There are ports for twice as many.
const SLOW: usize = 10_000;
/// And at least: fewer are no burden.
const SLOW_MIN: usize = 1_000;
/// How many of them are there at the same time at least, if the last has come before the first is let go.
const AT_ONCE_MIN: f64 = 0.9;
const FIRST_LET_GO_AFTER: Duration = Duration::from_secs(5);
/// Who connects them.
const OPENERS: usize = 4;
/// Files of this process that are others' business, and of the node.
const OTHER_FILES: u64 = 300;
const NODE_FILES: usize = 100;

/// How many connections are served where more come, and how many more.
const WITHIN: usize = 500;
const BEYOND: usize = 500;

/// How many are served where that is the limit, and how much they say while the next one waits.
const FEW: usize = 3;
const CONVERSATIONS: usize = 50;

/// What a slow one may cost, and all of them beside that.
const BYTES_EACH_MAX: u64 = 48 << 10;
const BYTES_MAX: u64 = 16 * MIB;
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

/// Those that are borne longest come first.
const KINDS: [Kind; 5] =
    [Kind::Body, Kind::SecondHead, Kind::SecondHeadAtOnce, Kind::Head, Kind::Silent];

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

/// As many as wanted, or as the files suffice for: the node may open as many as this process. None where
/// that is no burden, which has been said then.
fn count() -> Option<usize> {
    let wanted = std::env::var("SLOW_CONNECTIONS").ok().and_then(|text| text.parse().ok());
    let wanted: usize = wanted.unwrap_or(SLOW);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to its maximum");
    let room = maximum.map_or(usize::MAX, |files| files.saturating_sub(OTHER_FILES) as usize);
    if room < wanted {
        let reason = format!("of {wanted} slow callers there is room for {room}");
        skip(&reason, "To have all, raise the hard limit of open files: ulimit -Hn.", &[CI]);
    }
    Some(wanted.min(room)).filter(|count| *count >= SLOW_MIN)
}

/// As many of each of these kinds, one kind after the other; `others` are served meanwhile.
fn connect(
    address: SocketAddr,
    kinds: &[Kind],
    count: usize,
    mut others: impl FnMut(),
) -> Vec<Slow> {
    let of_each = count.div_ceil(kinds.len());
    thread::scope(|scope| {
        let opener = |first: usize| {
            let slow = move |index| Slow::new(kinds[index / of_each], address);
            move || (first..count).step_by(OPENERS).map(slow).collect::<Vec<_>>()
        };
        let openers: Vec<_> = (0..OPENERS).map(|first| scope.spawn(opener(first))).collect();
        while openers.iter().any(|opener| !opener.is_finished()) {
            others();
            thread::sleep(DRIP_EVERY);
        }
        openers.into_iter().flat_map(|opener| opener.join().expect("it connects")).collect()
    })
}

/// What a node had at most.
struct Most {
    bytes: u64,
    files: usize,
}

/// Goes on with the slow ones until all are let go, which takes `last_max` at most; `others` are served
/// meanwhile.
fn outlast(
    node: &TestProcess,
    slow: &mut [Slow],
    last_max: Duration,
    mut others: impl FnMut(),
) -> Most {
    let began = Instant::now();
    let mut most = Most { bytes: 0, files: 0 };
    while slow.iter().any(|slow| slow.lasted.is_none()) && began.elapsed() < last_max {
        let round = Instant::now();
        most.bytes = most.bytes.max(memory(node));
        most.files = most.files.max(node.open_files());
        slow.iter_mut().for_each(Slow::go_on);
        others();
        // They are as slow as this.
        thread::sleep(DRIP_EVERY.saturating_sub(round.elapsed()));
    }
    for kind in KINDS {
        let of_kind = slow.iter().filter(|slow| slow.kind == kind);
        let open = of_kind.clone().filter(|slow| slow.lasted.is_none()).count();
        let longest = of_kind.filter_map(|slow| slow.lasted).max();
        eprintln!("{kind:?}: {open} still open, the longest closed one lasted {longest:?}");
    }
    let open: Vec<Kind> = slow.iter().filter(|s| s.lasted.is_none()).map(|s| s.kind).collect();
    assert!(open.is_empty(), "{} are still there, such as {:?}", open.len(), open[0]);
    most
}

/// So many connections cost no more than they may.
fn cost_little(before: u64, most: u64, connections: usize) {
    let each = most.saturating_sub(before) / connections as u64;
    eprintln!(
        "{} MiB, then {} MiB with {connections}: {each} bytes each",
        before / MIB,
        most / MIB
    );
    assert!(most < before + BYTES_MAX + BYTES_EACH_MAX * connections as u64, "{each} bytes each");
}

/// All of them are within the limit that is set by default.
#[test]
fn slow_callers_hold_up_nobody_cost_little_and_are_let_go() {
    let Some(count) = count() else { return };
    let setup = Setup::new().set("HTTP_KEEP_ALIVE_S", "8");
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    is_served_quickly(&mut caller);
    let (before, files) = (memory(&node), node.open_files());

    let mut others = || {
        is_served_quickly(&mut caller);
        is_served_quickly(&mut node.caller());
    };
    let began = Instant::now();
    let mut slow = connect(node.address, &KINDS, count, &mut others);
    let took = began.elapsed();
    // Where operators ask nobody reads bodies.
    let of_ops = KINDS.into_iter().filter(|kind| *kind != Kind::Body);
    slow.extend(of_ops.map(|kind| Slow::new(kind, node.ops_address())));
    let most = outlast(&node, &mut slow, LAST_MAX, others);
    let at_once = most.files.saturating_sub(files);
    let told =
        format!("of {count} slow callers, who came in {took:.1?}, {at_once} were there at once");
    eprintln!("{told}");
    if (at_once as f64) < AT_ONCE_MIN * count as f64 {
        assert!(took > FIRST_LET_GO_AFTER, "{told}");
        skip(&told, "To have all at once, run it on a machine with less to do.", &[]);
    }
    assert!(at_once > SLOW_MIN, "{told}");
    cost_little(before, most.bytes, at_once);
    ends_well(node, &setup);
}

#[test]
fn slow_callers_beyond_the_limit_cost_nothing_and_have_their_turn() {
    if count().is_none() {
        return;
    }
    // What waits for its turn waits in the system, which has room for some.
    let kinds = [Kind::Body, Kind::SecondHeadAtOnce, Kind::Head, Kind::Silent];
    let setup = Setup::new().set("HTTP_KEEP_ALIVE_S", "8");
    let setup = setup.set("HTTP_CONNECTIONS_MAX", &WITHIN.to_string());
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    is_served_quickly(&mut caller);
    let (before, files) = (memory(&node), node.open_files());

    let mut others = || is_served_quickly(&mut caller);
    let mut slow = connect(node.address, &kinds, WITHIN + BEYOND, &mut others);
    let most = outlast(&node, &mut slow, 3 * LAST_MAX, others);
    let at_once = most.files.saturating_sub(files);
    assert!(at_once < WITHIN + NODE_FILES, "{at_once} of {WITHIN} were there at once");
    assert!(at_once as f64 > AT_ONCE_MIN * WITHIN as f64, "{at_once} of {WITHIN} were there");
    cost_little(before, most.bytes, WITHIN);
    is_served_quickly(&mut node.caller());
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
