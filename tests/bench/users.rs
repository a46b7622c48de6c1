//! What the actors cost without HTTP: memory of a resident user, durable blocks, batches, long lists.
//!
//! `cargo bench --bench users` prints one line per figure, with `BENCH_USERS` users (default 20 000),
//! and compares a thousand of them with `BENCH_MANY` (default 1 000 000). The journal lies in a folder
//! under `BENCH_TMP` (default `/var/tmp`, which must be on a disk and not in memory). `BENCH_LISTS`, like
//! `0+0,10+10`, prints nothing but the memory of users with so many friends and blocks.

mod deeds;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon::actors::{Alone, Metrics, Parts, Policies, Settings, Users};
use cordon::clock::Clock;
use cordon::domain::{Command, OfferForm, ProfileChange, Target};
use cordon::journal::embedded;
use cordon::store::{self, Store};

use self::deeds::{all, befriend, block, id, key, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEASURE: &str = "CORDON_BENCH_MEMORY";

async fn start(dir: &Path, cache_bytes: u64) -> (Users, Store, Metrics) {
    let metrics = Metrics::default();
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
        settings: Settings {
            residents_max: usize::MAX,
            resident_bytes_max: usize::MAX,
            // A slow disk is no matter here.
            time_limit: Duration::from_secs(60),
            ..Settings::default()
        },
        metrics: metrics.clone(),
        followers: Vec::new(),
        elsewhere: Arc::new(Alone),
        archive: None,
    })
    .expect("the state is recovered");
    users.ready(Duration::from_secs(60)).await;
    (users, store, metrics)
}

async fn stop((users, store, _): (Users, Store, Metrics)) {
    users.stop().await;
    store.close();
}

fn unblock(target: usize) -> Command {
    Command::Unblock { targets: vec![Target { user: id(target), imported: true }] }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Imports `count` users and gives each of them so many friends and blocks.
async fn prepare(users: &Users, count: usize, (friends, blocks): (usize, usize)) {
    let import = |user| run(users, user, Command::ImportAccount(ProfileChange::default()));
    all(256, (0..count).map(import)).await;
    let lists = |user: usize| async move {
        run(users, user, befriend((1..=friends).map(|d| (user + d) % count), OfferForm::Import))
            .await;
        run(users, user, block((1..=blocks).map(|d| (user + friends + d) % count))).await;
    };
    if friends + blocks > 0 {
        all(256, (0..count).map(lists)).await;
    }
}

/// Prints the memory that each of `count` users takes once all are resident.
async fn memory(dir: &Path, count: usize, lists: &str) {
    // Next to no cache, because what it holds would be counted as the users'.
    let node = start(dir, 1 << 20).await;
    let (users, metrics) = (&node.0, &node.2);
    let touch = |user| async move {
        users.asker().blocklist(key(user), 0, 1).await.expect("a page");
    };
    // The first pass over a few warms what is not the users' own.
    let few = 100;
    all(64, (0..few).map(touch)).await;
    let (before, counted) = (resident_bytes(), metrics.resident_bytes.get());
    all(64, (few..count).map(touch)).await;
    let each = (resident_bytes() - before) / (count - few);
    let counted = (metrics.resident_bytes.get() - counted) as usize / (count - few);
    println!(
        "memory of each of {count} resident users with {lists} friends + blocks: {each} bytes, by the \
         bound on it {counted}"
    );
    stop(node).await;
    let share = each as f64 / counted as f64;
    assert!((0.8..1.2).contains(&share), "the bound on memory counts something else");
}

/// Prepares users in `dir` and measures them in a process of its own, because the memory of this one
/// has had other uses.
fn measure(system: &actix_web::rt::SystemRunner, root: &Path, count: usize, lists: &str) {
    let dir = tempfile::tempdir_in(root).expect("a folder");
    let (friends, blocks) = lists.split_once('+').expect("friends+blocks");
    let numbers = (friends.parse().expect("a count"), blocks.parse().expect("a count"));
    system.block_on(async {
        let node = start(dir.path(), 64 << 20).await;
        prepare(&node.0, count, numbers).await;
        stop(node).await;
    });
    let measured = std::process::Command::new(std::env::current_exe().expect("this program"))
        .env(MEASURE, format!("{}|{count}|{lists}", dir.path().display()))
        .status()
        .expect("it is started");
    assert!(measured.success());
}

/// The processor time that this process has used.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let behind_name = text.rsplit(')').next().expect("a name in brackets");
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Prints what a block and its end cost, by the length of the lists, in turns.
async fn flatness(users: &Users, count: usize) {
    const EACH: usize = 16;
    const LENGTHS: [usize; 2] = [10, 900];
    let first = |length: usize| if length == LENGTHS[0] { 0 } else { EACH };
    for length in LENGTHS {
        for user in first(length)..first(length) + EACH {
            run(
                users,
                user,
                befriend((1..=length).map(|d| (user + 100 + d) % count), OfferForm::Import),
            )
            .await;
            run(users, user, block((1..=length).map(|d| (user + 1100 + d) % count))).await;
        }
    }
    let mut spent = [Duration::ZERO; 2];
    let mut calls = 0;
    for round in 0..24 {
        for (spent, length) in spent.iter_mut().zip(LENGTHS) {
            let call = |index: usize| async move {
                let user = first(length) + index;
                for turn in 0..20 {
                    // All over the list.
                    let target = (user + 2100 + (round * 20 + turn) * 97 % (count - 2100)) % count;
                    run(users, user, block(std::iter::once(target))).await;
                    run(users, user, unblock(target)).await;
                }
            };
            let began = cpu();
            all(EACH, (0..EACH).map(call)).await;
            *spent += cpu() - began;
        }
        calls += EACH * 20;
    }
    for (spent, length) in spent.iter().zip(LENGTHS) {
        let each = spent.as_secs_f64() / calls as f64;
        println!("processor time of a block and its end, {length} entries: {:.1} us", each * 1e6);
    }
}

/// Prints what a block and its end cost among a few users and among many, all of them resident, in turns.
async fn breadth(root: &Path, counts: [usize; 2]) {
    /// Blocks of a turn, many at once.
    const CALLS: usize = 4_000;
    const AT_ONCE: usize = 64;
    let dirs = counts.map(|_| tempfile::tempdir_in(root).expect("a folder"));
    let mut nodes = Vec::new();
    for (dir, count) in dirs.iter().zip(counts) {
        let node = start(dir.path(), 64 << 20).await;
        prepare(&node.0, count, (0, 0)).await;
        nodes.push(node);
    }
    let mut spent = [Duration::ZERO; 2];
    let rounds = 12;
    for round in 0..rounds {
        for ((spent, count), (users, ..)) in spent.iter_mut().zip(counts).zip(&nodes) {
            // A stride that shares no factor with the count comes to each user before one comes again.
            let user = |index: usize| (round * CALLS + index) * 7_919 % count;
            let call = |index: usize| async move {
                let (user, target) = (user(index), user(index + count / 3));
                run(users, user, block(std::iter::once(target))).await;
                run(users, user, unblock(target)).await;
            };
            let began = cpu();
            all(AT_ONCE, (0..CALLS).map(call)).await;
            *spent += cpu() - began;
        }
    }
    for (spent, count) in spent.iter().zip(counts) {
        let each = spent.as_secs_f64() / (rounds * CALLS) as f64;
        println!("processor time of a block and its end among {count} users: {:.1} us", each * 1e6);
    }
    for node in nodes {
        stop(node).await;
    }
}

async fn speed(dir: &Path, count: usize) {
    let node = start(dir, 64 << 20).await;
    let users = &node.0;
    let began = Instant::now();
    prepare(users, count, (10, 10)).await;
    let each = began.elapsed().as_secs_f64() / count as f64;
    println!("a user with 10 friends and 10 blocks made: {:.1} us", each * 1e6);

    let mut next = 0;
    for connections in [1, 32, 128] {
        let calls = if connections == 1 { 2_000 } else { count };
        let (began, spent) = (Instant::now(), cpu());
        // Each user's friends are blocked in turn.
        let call = |index: usize| async move {
            let (user, friend) = (index % count, 1 + index / count);
            run(users, user, block(std::iter::once((user + friend) % count))).await;
        };
        all(connections, (next..next + calls).map(call)).await;
        let rate = calls as f64 / began.elapsed().as_secs_f64();
        let each = (cpu() - spent).as_secs_f64() / calls as f64 * 1e6;
        println!(
            "blocks of a friend, {connections} at a time: {rate:.0} per second, {each:.1} us of a processor each"
        );
        next += calls;
    }

    let began = Instant::now();
    let batches = 200;
    let batch =
        |user: usize| run(users, user, block((1000..1900).map(move |d| (user + d) % count)));
    all(8, (0..batches).map(|index| batch(index * (count / batches)))).await;
    let rate = (batches * 900) as f64 / began.elapsed().as_secs_f64();
    println!("targets of batches of 900: {rate:.0} per second");

    stop(node).await;
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let system = actix_web::rt::System::new();
    if let Ok(told) = std::env::var(MEASURE) {
        let mut told = told.split('|');
        let mut next = || told.next().expect("folder, count and lists");
        let (dir, count) = (Path::new(next()), next().parse().expect("a count"));
        system.block_on(memory(dir, count, next()));
        return;
    }
    let count = number("BENCH_USERS", 20_000);
    let root = std::env::var_os("BENCH_TMP").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
    let lists = std::env::var("BENCH_LISTS");
    if lists.is_err() {
        let dir = tempfile::tempdir_in(&root).expect("a folder");
        system.block_on(speed(dir.path(), count));
        let dir = tempfile::tempdir_in(&root).expect("a folder");
        system.block_on(async {
            let node = start(dir.path(), 64 << 20).await;
            prepare(&node.0, count, (0, 0)).await;
            flatness(&node.0, count).await;
            stop(node).await;
        });
        system.block_on(breadth(&root, [1_000, number("BENCH_MANY", 1_000_000)]));
    }
    for lists in lists.as_deref().unwrap_or("0+0,10+10,30+10").split(',') {
        measure(&system, &root, count, lists);
    }
}
