//! What the actors cost without HTTP: memory of a resident user, durable blocks, batches, long lists.
//!
//! `cargo bench --bench users` prints one line per figure. The journal lies in a folder under
//! `BENCH_TMP` (default `/var/tmp`, which must be on a disk and not in memory).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon::actors::{Alone, Metrics, Parts, Policies, Settings, Users};
use cordon::clock::Clock;
use cordon::domain::{
    AppId, Card, Command, NewFriend, OfferForm, ProfileChange, Target, UserId, UserKey,
};
use cordon::journal::{Origin, embedded};
use cordon::store::{self, Store};
use futures_util::stream::{self, StreamExt};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APP: AppId = AppId(1_400_000_001);
const MEASURE: &str = "CORDON_BENCH_MEMORY";

fn id(index: usize) -> UserId {
    UserId::parse(&format!("user{index:07}")).expect("the name is legal")
}

fn key(index: usize) -> UserKey {
    UserKey { app: APP, user: id(index) }
}

fn origin() -> Origin {
    Origin {
        operator: "administrator".into(),
        request: Uuid::now_v7(),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    }
}

async fn start(dir: &Path, cache_bytes: u64) -> (Users, Store) {
    let journal =
        embedded::Journal::open(embedded::Settings::new(dir.join("journal"))).expect("a journal");
    let settings = store::Settings { dir: dir.join("state"), cache_bytes };
    let store = Store::open(&settings).expect("a store");
    let users = Users::start(Parts {
        node: "bench".into(),
        journal,
        store: store.clone(),
        clock: Clock::system(),
        policies: Policies::new(),
        settings: Settings { resident_bytes_max: 1 << 30, ..Settings::default() },
        metrics: Metrics::default(),
        followers: Vec::new(),
        elsewhere: Arc::new(Alone),
        archive: None,
    })
    .expect("the state is recovered");
    users.ready(Duration::from_secs(60)).await;
    (users, store)
}

async fn stop((users, store): (Users, Store)) {
    users.stop().await;
    store.close();
}

async fn all<F: Future<Output = ()>>(connections: usize, calls: impl Iterator<Item = F>) {
    stream::iter(calls).buffer_unordered(connections).collect::<Vec<()>>().await;
}

async fn run(users: &Users, user: usize, command: Command) {
    let done = users.execute(key(user), command, origin()).await.expect("it is executed");
    assert!(done.outcomes.iter().all(Result::is_ok), "{done:?}");
}

fn block(targets: impl Iterator<Item = usize>) -> Command {
    Command::Block { targets: targets.map(|t| Target { user: id(t), imported: true }).collect() }
}

fn befriend(targets: impl Iterator<Item = usize>) -> Command {
    let card = Card { source: "AddSource_Type_bench".into(), ..Card::default() };
    let item = |t| NewFriend { user: id(t), imported: true, card: card.clone() };
    Command::AddFriends {
        items: targets.map(item).collect(),
        form: OfferForm::Import,
        forced: false,
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Prints the memory that each of `count` users takes once all are resident: friends 10, blocks 10.
async fn memory(dir: &Path, count: usize) {
    // Next to no cache, because what it holds would be counted as the users'.
    let (users, store) = start(dir, 1 << 20).await;
    let touch = |user| {
        let users = users.clone();
        async move {
            users.blocklist(key(user), 0, 1).await.expect("a page");
        }
    };
    // The first pass over a few warms what is not the users' own.
    all(64, (0..100).map(touch)).await;
    let before = resident_bytes();
    all(64, (0..count).map(touch)).await;
    let each = (resident_bytes() - before) / count;
    println!("memory of a resident user with 10 friends and 10 blocks: {each} bytes");
    stop((users, store)).await;
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

async fn speed(dir: &Path, count: usize) {
    let (users, store) = start(dir, 64 << 20).await;
    let import = |user| {
        let users = users.clone();
        async move { run(&users, user, Command::ImportAccount(ProfileChange::default())).await }
    };
    all(256, (0..count).map(import)).await;
    let began = Instant::now();
    let prepare = |user: usize| {
        let users = users.clone();
        async move {
            run(&users, user, befriend((1..=10).map(|d| (user + d) % count))).await;
            run(&users, user, block((11..=20).map(|d| (user + d) % count))).await;
        }
    };
    all(256, (0..count).map(prepare)).await;
    let each = began.elapsed().as_secs_f64() / count as f64;
    println!("a user's 10 friends and 10 blocks made: {:.1} us", each * 1e6);

    let mut next = 0;
    for connections in [1, 32, 128] {
        let calls = if connections == 1 { 2_000 } else { count };
        let began = Instant::now();
        // Each user's friends are blocked in turn.
        let call = |index: usize| {
            let users = users.clone();
            async move {
                let (user, friend) = (index % count, 1 + index / count);
                run(&users, user, block(std::iter::once((user + friend) % count))).await;
            }
        };
        all(connections, (next..next + calls).map(call)).await;
        let rate = calls as f64 / began.elapsed().as_secs_f64();
        println!("blocks of a friend, {connections} at a time: {rate:.0} per second");
        next += calls;
    }

    let began = Instant::now();
    let batches = 200;
    let batch = |user: usize| {
        let users = users.clone();
        async move { run(&users, user, block((1000..1900).map(|d| (user + d) % count))).await }
    };
    all(8, (0..batches).map(|index| batch(index * (count / batches)))).await;
    let rate = (batches * 900) as f64 / began.elapsed().as_secs_f64();
    println!("targets of batches of 900: {rate:.0} per second");

    for (entries, first) in [(10, count / 2 + 7), (900, 0)] {
        let user = first;
        let mut times = Vec::new();
        for target in 0..80 {
            let began = Instant::now();
            run(&users, user, block(std::iter::once((user + 2100 + target) % count))).await;
            times.push(began.elapsed());
        }
        println!("p50 of a block with {entries} entries: {:?}", percentile(&mut times, 0.5));
    }
    stop((users, store)).await;
}

fn main() {
    let system = actix_web::rt::System::new();
    if let Ok(dir) = std::env::var(MEASURE) {
        let (dir, count) = dir.split_once('|').expect("folder and count");
        system.block_on(memory(Path::new(dir), count.parse().expect("a count")));
        return;
    }
    let count: usize =
        std::env::var("BENCH_USERS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let root = std::env::var_os("BENCH_TMP").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
    let dir = tempfile::tempdir_in(root).expect("a folder");
    system.block_on(speed(dir.path(), count));
    // In a process of its own, because this one's memory has had other uses.
    let measured = std::process::Command::new(std::env::current_exe().expect("this program"))
        .env(MEASURE, format!("{}|{count}", dir.path().display()))
        .status()
        .expect("it is started");
    assert!(measured.success());
}
