//! Receivers of webhooks that take up a call and keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpSocket;
use serde_json::json;

use super::{MIB, QUICK, SLOW_CALLS, ends_well, memory};
use crate::support::{
    Caller, Heard, Reaction, Setup, TestProcess, TestSubscriber, block_on, names,
};

/// Connections, and whose doings each of them tells in turn: more than are parked one by one.
const CALLERS: usize = 4;
const USERS_EACH: usize = 50;
/// How often each connection tells of some messages, and of a block or the end of one: until the node has
/// all in memory that it ever will, the window of a subscription and what is read ahead, and then as often
/// again and more.
const FIRST_ROUNDS: usize = 36;
const MORE_ROUNDS: usize = 32;
const MESSAGES: usize = 4;
/// How long a message is.
const MESSAGE_BYTES: usize = 60_000;
/// What the node may hold more for each call that comes on top: much less than the call. It is nothing but
/// what an allocator keeps one time and not the other; with a good receiver it is as much.
const BYTES_PER_CALL_MAX: u64 = MESSAGE_BYTES as u64 / 2;

/// How soon a receiver that counted as down is called again: it is looked for every 30 s at the latest. And
/// how many calls are waited for at once then.
const BACK_WITHIN: Duration = Duration::from_secs(75);
const STEP: usize = 100;

const ADDED: &str = "Sns.CallbackBlackListAdd";
const DELETED: &str = "Sns.CallbackBlackListDelete";

/// A receiver's address at which connections are taken and nothing is ever read.
struct DeafReceiver {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl DeafReceiver {
    fn start_at(address: SocketAddr) -> Self {
        let listening = async {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            // The system reads as little as it may in its place.
            socket.set_recv_buffer_size(2048)?;
            socket.bind(address)?;
            socket.listen(1024)?.into_std()
        };
        let listener: TcpListener = block_on(listening).expect("a listener");
        listener.set_nonblocking(false).expect("an option of a socket");
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if until.load(Ordering::Acquire) {
                    break;
                }
                kept.extend(stream);
            }
            kept.len()
        });
        Self { address, ended, thread: Some(thread) }
    }

    /// Goes away; answers how many connections it had.
    fn end(&mut self) -> usize {
        self.ended.store(true, Ordering::Release);
        drop(TcpStream::connect(self.address));
        self.thread.take().map_or(0, |thread| thread.join().expect("it ends"))
    }
}

/// What a user did, in the words of the receiver.
type News = (String, Option<u64>);

/// Does everything that `users` do; every call is answered, and quickly. Answers what is to be heard of
/// each.
fn live(
    caller: &mut Caller,
    users: &[String],
    rounds: Range<usize>,
) -> BTreeMap<String, Vec<News>> {
    let text = "x".repeat(MESSAGE_BYTES);
    let mut news: BTreeMap<String, Vec<News>> = BTreeMap::new();
    let mut slow = 0;
    let mut quick = |command: &str, body| {
        let began = Instant::now();
        let answer = caller.call(command, &body).ok();
        let took = began.elapsed();
        slow = if took < QUICK { 0 } else { slow + 1 };
        assert!(slow < SLOW_CALLS, "{command} took {took:?}, as slow as those before it");
        answer
    };
    for round in rounds {
        for message in 0..MESSAGES {
            let number = round * MESSAGES + message;
            let user = &users[number % users.len()];
            let body = json!({"From_Account": user, "To_Account": "listener", "MsgSeq": number,
                "MsgRandom": number,
                "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}]});
            quick("openim/sendmsg", body);
            let told = ("C2C.CallbackAfterSendMsg".to_owned(), Some(number as u64));
            news.entry(user.clone()).or_default().push(told);
        }
        let (command, heard) = match round % 2 {
            0 => ("sns/black_list_add", ADDED),
            _ => ("sns/black_list_delete", DELETED),
        };
        let user = &users[round / 2 % users.len()];
        let body = json!({"From_Account": user, "To_Account": ["nuisance"]});
        assert_eq!(quick(command, body).codes(), [0]);
        news.entry(user.clone()).or_default().push((heard.to_owned(), None));
    }
    news
}

/// What the receiver has heard of each user, each call once and in the order of first hearing.
fn heard(subscriber: &TestSubscriber) -> BTreeMap<String, Vec<News>> {
    let mut known = BTreeSet::new();
    let mut all: BTreeMap<String, Vec<News>> = BTreeMap::new();
    for heard in subscriber.accepted() {
        if known.insert(heard.id().to_owned()) {
            let user = match heard.body["From_Account"].as_str() {
                Some(writer) => writer.to_owned(),
                None => heard.pairs()[0].0.clone(),
            };
            let number = heard.body["MsgSeq"].as_u64();
            all.entry(user).or_default().push((heard.command().to_owned(), number));
        }
    }
    all
}

/// Waits until so many calls were heard, however often each, as long as there are more and more.
fn until_heard(subscriber: &TestSubscriber, calls: usize) {
    let different = |heard: &[Heard]| {
        let accepted = heard.iter().filter(|heard| heard.accepted);
        accepted.map(Heard::id).collect::<BTreeSet<_>>().len()
    };
    subscriber.until_within(BACK_WITHIN, "it is called again", |heard| different(heard) > 0);
    for count in (STEP..calls).step_by(STEP).chain([calls]) {
        subscriber.until(&format!("{count} calls"), |heard| different(heard) >= count);
    }
}

/// Lets users live while the receiver is ill and `cure` it then: memory does not follow what is owed, and
/// all is heard, in order.
fn everything_is_heard_later(
    setup: &Setup,
    mut subscriber: TestSubscriber,
    cure: impl FnOnce(&mut TestSubscriber),
) {
    let node = TestProcess::start(setup);
    let users = names("user", CALLERS * USERS_EACH);
    let mut caller = node.caller();
    caller.import(&users.iter().map(String::as_str).collect::<Vec<_>>());
    caller.import(&["listener", "nuisance"]);
    let mut callers: Vec<Caller> = (0..CALLERS).map(|_| node.caller()).collect();
    let mut owed: BTreeMap<String, Vec<News>> = BTreeMap::new();
    let mut live_on = |rounds: Range<usize>| {
        thread::scope(|scope| {
            let lives: Vec<_> = users
                .chunks(USERS_EACH)
                .zip(&mut callers)
                .map(|(users, caller)| (users, caller, rounds.clone()))
                .map(|(users, caller, rounds)| scope.spawn(move || live(caller, users, rounds)))
                .collect();
            let news = lives.into_iter().flat_map(|life| life.join().expect("it is answered"));
            news.for_each(|(user, mut news)| owed.entry(user).or_default().append(&mut news));
        });
        (memory(&node), owed.values().map(Vec::len).sum::<usize>())
    };
    let before = memory(&node);
    let (first, few) = live_on(0..FIRST_ROUNDS);
    let (then, many) = live_on(FIRST_ROUNDS..FIRST_ROUNDS + MORE_ROUNDS);
    let each = then.saturating_sub(first) / (many - few) as u64;
    let mib = [before, first, then].map(|bytes| bytes / MIB);
    let told = format!("{mib:?} MiB with 0, {few}, {many} calls owed, {each} bytes for each more");
    eprintln!("{told}");
    assert!(each < BYTES_PER_CALL_MAX, "{told}");
    assert!(subscriber.accepted().is_empty(), "it is ill");

    cure(&mut subscriber);
    until_heard(&subscriber, many);
    ends_well(node, setup);
    assert_eq!(heard(&subscriber), owed);
}

fn setup(subscriber: &TestSubscriber) -> Setup {
    let setup = Setup::new().webhook(subscriber).set("C2C_MESSAGE_BYTES_MAX", "64 KiB");
    setup.set("WEBHOOK_TIMEOUT_MS", "800")
}

#[test]
fn a_receiver_that_takes_calls_up_and_never_reads_them_hears_everything_in_the_end() {
    let subscriber = TestSubscriber::away();
    let mut deaf = DeafReceiver::start_at(subscriber.address());
    everything_is_heard_later(&setup(&subscriber), subscriber, move |subscriber| {
        assert!(deaf.end() > 1, "it was called");
        subscriber.open();
    });
}

#[test]
fn a_receiver_that_never_answers_hears_everything_in_the_end() {
    let subscriber = TestSubscriber::start();
    subscriber.react(Reaction::Hang);
    everything_is_heard_later(&setup(&subscriber), subscriber, |subscriber| {
        assert!(!subscriber.heard().is_empty(), "it was called");
        subscriber.react(Reaction::Accept);
    });
}
