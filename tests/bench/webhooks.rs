//! What subscribers are told per second, and what one of them can do to the others.
//!
//! `cargo bench --bench webhooks` prints one line per figure; names behind `--` choose: `rate`,
//! `backlog`, `hang`. The receiver runs on a thread of its own on the same machine. The journal lies in
//! a folder under `BENCH_TMP` (default `/var/tmp`, which must be on a disk and not in memory).

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordon::clock::Clock;
use cordon::domain::{AppId, DeliveryTerms, Event, MAIN, Timestamp, UserId, UserKey, Version};
use cordon::journal::{
    Body, Commit, Cursor, Epoch, Journal, Offset, Origin, Partition, Place, ReaderRule, Settlement,
    embedded, partition_of, record,
};
use cordon::webhooks::{
    CursorError, Cursors, Endpoint, Guard, Handle, Metrics, Signer, Subscription, Switches, start,
};
use futures_util::stream::{self, StreamExt};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::mpsc;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APP: AppId = AppId(1_400_000_001);
const PARTITIONS: u16 = 16;
const IN_FLIGHT: usize = 64;
const USERS: usize = 10_000;
/// Pairs of runs, with and without subscriptions that hang.
const HANG_ROUNDS: usize = 9;
/// How long each of them takes.
const HANG_SECONDS: u64 = 12;
/// Records that are appended before their durability is waited for.
const BATCH: usize = 1_000;

fn id(index: usize) -> UserId {
    UserId::parse(&format!("user{index:05}")).expect("the name is legal")
}

/// The owner of all partitions of a new journal.
struct Owner {
    journal: Arc<embedded::Journal>,
    settled: Vec<mpsc::UnboundedReceiver<Settlement>>,
    sent: Vec<u64>,
    by: Arc<Origin>,
}

impl Owner {
    fn new(name: &str) -> (Self, PathBuf) {
        let dir = std::env::var_os("BENCH_TMP").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let dir = dir.join(format!("cordon-webhooks-{name}-{}", std::process::id()));
        let settings =
            embedded::Settings { partitions: PARTITIONS, ..embedded::Settings::new(dir.clone()) };
        let journal = embedded::Journal::open(settings).expect("a new journal");
        let mut settled = Vec::new();
        for partition in (0..PARTITIONS).map(Partition) {
            let (sender, receiver) = mpsc::unbounded_channel();
            journal.attach(partition, sender);
            settled.push(receiver);
        }
        let by = Arc::new(Origin {
            operator: "administrator".into(),
            request: Uuid::nil(),
            ip: "127.0.0.1".into(),
            platform: "RESTAPI".into(),
        });
        let mut owner = Self { journal, settled, sent: vec![0; PARTITIONS.into()], by };
        for partition in (0..PARTITIONS).map(Partition) {
            owner.put(partition, 0, &Body::Claim { node: "bench".into(), nonce: Uuid::nil() });
            owner.wait(partition, 1);
        }
        (owner, dir)
    }

    fn put(&self, partition: Partition, n: u64, body: &Body) {
        let mut bytes = Vec::new();
        record::encode(Epoch(1), n, body, &mut bytes);
        self.journal.append(partition, &bytes).expect("the journal takes it");
        self.journal.flush();
    }

    fn wait(&mut self, partition: Partition, mut count: u64) {
        while count > 0 {
            match self.settled[usize::from(partition.0)].blocking_recv() {
                Some(Settlement::Durable { count: durable, .. }) => count -= durable,
                other => panic!("not durable: {other:?}"),
            }
        }
    }

    /// Appends a block of user `index` for each of `blocks` and waits until all are durable.
    fn block(&mut self, blocks: impl Iterator<Item = (usize, usize)>) {
        let mut waits = vec![0; PARTITIONS.into()];
        for (user, target) in blocks {
            let key = UserKey { app: APP, user: id(user) };
            let partition = partition_of(&key, PARTITIONS);
            let at = Timestamp(unix_ms());
            let target = UserId::parse(&format!("t{target:08}")).expect("a name");
            let body = Body::Commit(Commit {
                id: Uuid::nil(),
                key,
                version: Version(1),
                at,
                by: Arc::clone(&self.by),
                cause: None,
                events: vec![Event::UserBlocked { target, remain_friends: false }],
            });
            let slot = usize::from(partition.0);
            self.sent[slot] += 1;
            self.put(partition, self.sent[slot], &body);
            waits[slot] += 1;
        }
        for (slot, count) in waits.into_iter().enumerate() {
            self.wait(Partition(slot as u16), count);
        }
    }

    /// A place behind the claims.
    fn beginning() -> Place {
        Place::new(Offset(1), ReaderRule::resume(Epoch(1), 0))
    }
}

fn unix_ms() -> i64 {
    Clock::system().now().0
}

/// Cursors in memory, which begin behind the claims.
#[derive(Clone, Default)]
struct Memory {
    known: Arc<Mutex<HashMap<(Partition, String), Cursor>>>,
    /// How many records each partition has behind its claim, as its owner would know.
    sent: Arc<[u64]>,
}

impl Cursors for Memory {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, Place), CursorError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = known.get(&(partition, subscription.to_owned())).cloned();
        let sent = self.sent[usize::from(partition.0)];
        let end = Place::new(Offset(1 + sent), ReaderRule::resume(Epoch(1), sent));
        Ok((Some(cursor.unwrap_or_else(|| Cursor::begin(Owner::beginning()))), end))
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((partition, subscription.to_owned()), cursor);
        Ok(())
    }
}

/// What the receiver has heard.
#[derive(Default)]
struct Heard {
    count: AtomicUsize,
    /// The last target of each user, to see the order.
    last: Mutex<HashMap<String, String>>,
    disordered: AtomicU64,
    /// How long after its record each call came, in milliseconds; kept if asked for.
    lags_ms: Mutex<Option<Vec<u32>>>,
}

/// Keeps the calling thread, and those that it will start, on one processor: of bursts of 40 ms, where
/// two threads are put decides more than what they do.
fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    // Where that cannot be had, the figures are noisier.
    let _ = sched_setaffinity(None, &only);
}

/// Answers every call with an empty object, on `count` connections.
fn receive(heard: Arc<Heard>) -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        stay_on(1);
        actix_web::rt::System::new().block_on(async move {
            let server = actix_web::HttpServer::new(move || {
                let heard = Arc::clone(&heard);
                actix_web::App::new().default_service(actix_web::web::to(
                    move |request: actix_web::HttpRequest, body: actix_web::web::Bytes| {
                        note(&heard, &request, &body);
                        async { actix_web::HttpResponse::Ok().body("{}") }
                    },
                ))
            });
            let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a port");
            sender.send(server.addrs()[0].port()).expect("somebody waits");
            server.run().await.expect("it runs");
        });
    });
    port.recv().expect("a port")
}

fn note(heard: &Heard, request: &actix_web::HttpRequest, body: &[u8]) {
    heard.count.fetch_add(1, Ordering::Relaxed);
    let mut lags = heard.lags_ms.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::str::from_utf8(body).unwrap_or_default();
    if let Some(lags) = &mut *lags {
        let at = text.find("\"t").and_then(|at| text[at + 2..].split('"').next());
        let at_ms: u64 = at.and_then(|at| at.parse().ok()).unwrap_or_default();
        // The target is when the record was made, in milliseconds modulo 10^8.
        let now = unix_ms().unsigned_abs() % 100_000_000;
        lags.push(u32::try_from(now.saturating_sub(at_ms)).unwrap_or(u32::MAX));
    } else {
        let mut names = text.split('"').skip(7).step_by(4);
        let (Some(user), Some(target)) = (names.next(), names.next()) else { return };
        let mut last = heard.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(user.to_owned(), target.to_owned());
        let is_bare = request.path().starts_with("/bare");
        if !is_bare && before.is_some_and(|before| *before > *target) {
            heard.disordered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn subscription(name: &str, url: &str) -> Subscription {
    Subscription {
        app: APP,
        name: name.to_owned(),
        endpoint: Endpoint::parse(url).expect("an address"),
        guard: Guard::Off,
        certificate: None,
        signer: Signer::unsigned(),
        headers: true,
        commands: Switches::ALL,
        enabled: true,
        delivery: DeliveryTerms { in_flight_max: IN_FLIGHT as u32, ..DeliveryTerms::default() },
        seeks: Vec::new(),
        replay: None,
    }
}

fn follow(owner: &Owner, subscriptions: Vec<Subscription>) -> Handle {
    let journal = owner.journal.clone();
    let clock = Clock::system();
    let cursors = Memory { sent: owner.sent.as_slice().into(), ..Memory::default() };
    let handle = start(subscriptions, journal, cursors, clock, Metrics::default());
    let handle = handle.expect("the webhooks start");
    let all: Vec<Partition> = (0..PARTITIONS).map(Partition).collect();
    block_on(handle.follow(&all)).expect("they follow");
    handle
}

fn block_on<F: Future>(future: F) -> F::Output {
    actix_web::rt::System::new().block_on(future)
}

fn until(count: usize, heard: &Heard) {
    while heard.count.load(Ordering::Relaxed) < count {
        // Between two looks, so that waiting takes no processor from what is measured.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Posts `count` calls over the client that the webhooks use, as fast as it goes: all of them the same,
/// with the query, the headers and the body of a delivery.
fn bare(count: usize, port: u16) -> f64 {
    block_on(async move {
        let connector = awc::Connector::new().limit(IN_FLIGHT);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .add_default_header(("user-agent", "cordon/0.1.0"))
            .add_default_header(("content-type", "application/json"))
            .finish();
        let url: awc::http::Uri = format!(
            "http://127.0.0.1:{port}/bare?SdkAppid={APP}&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI"
        )
        .parse()
        .expect("an address");
        let body = r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"user00000","To_Account":"t00000000"}]}"#;
        let began = Instant::now();
        stream::iter(0..count)
            .for_each_concurrent(IN_FLIGHT, |_| async {
                let request = client
                    .post(url.clone())
                    .insert_header(("webhook-id", "15@100000.Sns.CallbackBlackListAdd"))
                    .insert_header(("webhook-timestamp", "1700000000"))
                    .insert_header(("webhook-seq", "15:100000"))
                    .insert_header(("webhook-prev", "15@99999.Sns.CallbackBlackListAdd"))
                    .insert_header(("webhook-attempt", "1"));
                let mut answer = request.send_body(body).await.expect("an answer");
                answer.body().await.expect("a body");
            })
            .await;
        count as f64 / began.elapsed().as_secs_f64()
    })
}

fn backlog(count: usize) -> (f64, Arc<Heard>, u16) {
    let (mut owner, dir) = Owner::new("backlog");
    for first in (0..count).step_by(BATCH) {
        owner.block((first..count.min(first + BATCH)).map(|index| (index % USERS, index)));
    }
    let heard = Arc::new(Heard::default());
    let port = receive(Arc::clone(&heard));
    let began = Instant::now();
    let handle = follow(&owner, vec![subscription(MAIN, &format!("http://127.0.0.1:{port}/hook"))]);
    until(count, &heard);
    let rate = count as f64 / began.elapsed().as_secs_f64();
    block_on(handle.stop());
    let _ = std::fs::remove_dir_all(dir);
    (rate, heard, port)
}

fn rate() {
    for round in 1..=3 {
        let (rate, _, port) = backlog(100_000);
        let bare = bare(100_000, port);
        println!(
            "rate {round}: {rate:.0} deliveries/s, bare client {bare:.0}/s, ratio {:.2}",
            rate / bare
        );
    }
}

fn million() {
    let (rate, heard, port) = backlog(1_000_000);
    let disordered = heard.disordered.load(Ordering::Relaxed);
    let bare = bare(200_000, port);
    println!(
        "backlog of 1,000,000: {rate:.0} deliveries/s, bare client {bare:.0}/s, ratio {:.2}, \
         {disordered} out of order",
        rate / bare
    );
}

/// Connections that nobody answers on, at most.
const SILENT_HELD: usize = 4_000;

/// Takes connections and never answers.
fn silence() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        stay_on(1);
        let mut held: VecDeque<TcpStream> = VecDeque::new();
        for stream in listener.incoming().flatten() {
            // Whoever made the oldest has let go of it long ago.
            if held.len() == SILENT_HELD {
                held.pop_front();
            }
            held.push_back(stream);
        }
    });
    port
}

/// Makes sure that the port of [`silence`] is what it says.
fn is_silent(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it takes connections");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").expect("it is sent");
    assert!(stream.read(&mut [0]).is_err(), "it answers");
}

/// A receiver, the port it listens on, and one that nobody answers on.
struct Receivers {
    heard: Arc<Heard>,
    port: u16,
    silent: u16,
}

/// The lag of `well` subscriptions beside `hanging` ones, in milliseconds: median and p99.
fn lags(receivers: &Receivers, well: usize, hanging: usize) -> (u32, u32) {
    let Receivers { heard, port, silent } = receivers;
    let (mut owner, dir) = Owner::new("hang");
    heard.count.store(0, Ordering::Relaxed);
    *heard.lags_ms.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    let mut subscriptions: Vec<Subscription> = (0..well)
        .map(|n| subscription(&format!("well-{n}"), &format!("http://127.0.0.1:{port}/{n}")))
        .collect();
    subscriptions.extend(
        (0..hanging).map(|n| {
            subscription(&format!("hanging-{n}"), &format!("http://127.0.0.1:{silent}/{n}"))
        }),
    );
    let handle = follow(&owner, subscriptions);
    let began = Instant::now();
    let mut events = 0;
    while began.elapsed() < Duration::from_secs(HANG_SECONDS) {
        let at = (unix_ms().unsigned_abs() % 100_000_000) as usize;
        owner.block(std::iter::once((events % USERS, at)));
        events += 1;
        // The pace of the events.
        std::thread::sleep(Duration::from_millis(500));
    }
    until(well * events, heard);
    block_on(handle.stop());
    let _ = std::fs::remove_dir_all(dir);
    let lags = heard.lags_ms.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut lags = lags.expect("they are kept");
    // The first seconds belong to the connections being made.
    lags.drain(..lags.len() / 4);
    lags.sort_unstable();
    (lags[lags.len() / 2], lags[lags.len() * 99 / 100])
}

fn hang() {
    stay_on(0);
    let heard = Arc::new(Heard::default());
    let port = receive(Arc::clone(&heard));
    let silent = silence();
    is_silent(silent);
    let receivers = Receivers { heard, port, silent };
    // Short runs that take turns: the pace of the machine changes from minute to minute.
    let mut rounds: Vec<[(u32, u32); 2]> = Vec::new();
    for round in 0..HANG_ROUNDS {
        let mut lags = [0, 100].map(|hanging| (hanging, (0, 0)));
        if round % 2 == 1 {
            lags.reverse();
        }
        for (hanging, measured) in &mut lags {
            *measured = self::lags(&receivers, 900, *hanging);
        }
        lags.sort_unstable();
        let [(_, alone), (_, beside)] = lags;
        println!(
            "900 subscriptions {round}: lag p50 {} ms, p99 {} ms; beside 100 that hang p50 {} ms, \
             p99 {} ms",
            alone.0, alone.1, beside.0, beside.1
        );
        rounds.push([alone, beside]);
    }
    type Round = [(u32, u32); 2];
    let middle = |of: &dyn Fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        [all.len() / 4, all.len() / 2, all.len() * 3 / 4].map(|at| all[at])
    };
    let [_, alone, _] = middle(&|round| f64::from(round[0].1));
    let [_, beside, _] = middle(&|round| f64::from(round[1].1));
    let [low, ratio, high] = middle(&|round| f64::from(round[1].1) / f64::from(round[0].1));
    println!(
        "900 subscriptions: median of the p99 {alone:.0} ms, beside 100 that hang {beside:.0} ms; \
         ratio {:.2}, of each round {ratio:.2} ({low:.2} to {high:.2} for half of them)",
        beside / alone
    );
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if wanted("rate") {
        rate();
    }
    if wanted("backlog") {
        million();
    }
    if wanted("hang") {
        hang();
    }
}
