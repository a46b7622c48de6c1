//! What it costs to read a journal again: from its files to the state that it makes.
//!
//! `cargo bench --bench replay` prints one line per step (words behind `--` choose from them), the first
//! three each with all that the steps before it do:
//! reading and checking the files; reading what the records say; taking it into account in memory; the
//! recovery of a node into an empty state store; `cordon verify`. A figure is the CPU time of the whole
//! process, its best of `BENCH_ROUNDS` (default 3), so it is per core, whatever else the machine does.
//!
//! The journal is made by the product's own actors: `BENCH_USERS` (default 40000) accounts, each with
//! a friendship that is offered and accepted, two friends who were imported, three blocks, one of them of
//! a friend; and one in ten blocks 100 at once (`BENCH_BATCHES=0` leaves that out). It is made in a
//! folder under `BENCH_TMP` (default `/var/tmp`); with `BENCH_JOURNAL` it is kept in that folder, and
//! used again if it is there, to compare two versions by the same records.

mod deeds;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cordon::actors::{Alone, Metrics, Parts, Policies, Settings, Users, recover};
use cordon::audit::verify;
use cordon::clock::Clock;
use cordon::domain::{Command, OfferForm, ProfileChange, User, UserKey};
use cordon::journal::{Body, Entry, Offset, Partition, ReadJournal, embedded, record};
use cordon::store::{self, Store};

use self::deeds::{all, befriend, block, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls that are under way at once while the journal is made.
const IN_FLIGHT: usize = 256;
/// One user in so many blocks a batch.
const BATCH_EVERY: usize = 10;
const BATCH: usize = 100;
const READ_BYTES: usize = 1 << 20;
/// Units of `/proc/self/stat` in a second.
const TICKS: f64 = 100.0;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn make(journal: &Path, state: &Path, count: usize, batches: bool) {
    let journal = embedded::Journal::open(embedded::Settings::new(journal)).expect("a journal");
    let settings = store::Settings { dir: state.to_owned(), cache_bytes: 64 << 20 };
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
    let import = |user| {
        let users = users.clone();
        async move { run(&users, user, Command::ImportAccount(ProfileChange::default())).await }
    };
    all(IN_FLIGHT, (0..count).map(import)).await;
    let live = |user: usize| {
        let users = users.clone();
        let other = move |distance: usize| (user + distance) % count;
        async move {
            run(&users, user, befriend([other(1)].into_iter(), OfferForm::TwoWay)).await;
            run(&users, user, befriend((2..4).map(other), OfferForm::Import)).await;
            for distance in [2, 51, 52] {
                run(&users, user, block([other(distance)].into_iter())).await;
            }
            if batches && user.is_multiple_of(BATCH_EVERY) {
                run(&users, user, block((100..100 + BATCH).map(other))).await;
            }
        }
    };
    all(IN_FLIGHT, (0..count).map(live)).await;
    users.stop().await;
    store.close();
}

/// The CPU time that this process has had, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = text.rsplit_once(") ").expect("a name in brackets");
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
}

/// The CPU time of `work`, the best of some rounds.
fn timed(rounds: usize, work: &mut dyn FnMut()) -> f64 {
    let round = |_| {
        let began = cpu();
        work();
        cpu() - began
    };
    (0..rounds).map(round).fold(f64::INFINITY, f64::min).max(1.0 / TICKS)
}

fn scan(journal: &Path, mut see: impl FnMut(Entry)) {
    let journal = embedded::ReadOnly::open(journal).expect("a journal");
    let from: Vec<_> = (0..journal.partitions()).map(|p| (Partition(p), Offset(0))).collect();
    let mut reader = journal.reader(&from).expect("it is readable");
    loop {
        let entries = reader.next(READ_BYTES).expect("it is readable");
        if entries.is_empty() {
            return;
        }
        entries.into_iter().for_each(&mut see);
    }
}

fn decoded(entry: &Entry) -> record::Record {
    record::decode(&entry.bytes).expect("it was written by this program")
}

fn main() {
    let root = std::env::var_os("BENCH_TMP").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
    let folder = tempfile::tempdir_in(root).expect("a folder");
    let kept = std::env::var_os("BENCH_JOURNAL").map(PathBuf::from);
    let dir = kept.unwrap_or_else(|| folder.path().join("journal"));
    if !dir.exists() {
        let (count, batches) = (number("BENCH_USERS", 40_000), number("BENCH_BATCHES", 1) > 0);
        let state = folder.path().join("made");
        actix_web::rt::System::new().block_on(make(&dir, &state, count, batches));
    }
    let rounds = number("BENCH_ROUNDS", 3);
    let (mut records, mut commits, mut events, mut bytes) = (0_usize, 0_usize, 0_usize, 0_usize);
    scan(&dir, |entry| {
        (records, bytes) = (records + 1, bytes + entry.bytes.len());
        if let Body::Commit(commit) = decoded(&entry).body {
            (commits, events) = (commits + 1, events + commit.events.len());
        }
    });
    println!("{records} records, {commits} of them commits with {events} events, {bytes} bytes");
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let told = |what: &str, work: &mut dyn FnMut()| {
        if !chosen.is_empty() && !chosen.iter().any(|word| what.contains(word.as_str())) {
            return;
        }
        let seconds = timed(rounds, work);
        let rate = |count: usize| count as f64 / seconds;
        println!(
            "{what}: {:.0} events/s, {:.0} records/s per core ({seconds:.2} s)",
            rate(events),
            rate(records)
        );
    };
    told("read the files", &mut || scan(&dir, |entry| drop(std::hint::black_box(entry))));
    told("and decode", &mut || scan(&dir, |entry| drop(std::hint::black_box(decoded(&entry)))));
    told("and evolve", &mut || {
        let mut users: HashMap<UserKey, User, foldhash::fast::RandomState> = HashMap::default();
        scan(&dir, |entry| {
            if let Body::Commit(commit) = decoded(&entry).body {
                let user = users.entry(commit.key).or_insert_with(|| User::new(commit.key.user));
                user.replay(commit.version, &commit.events, commit.at);
            }
        });
        std::hint::black_box(users);
    });
    let mut round = 0;
    told("recovery into an empty store", &mut || {
        round += 1;
        let settings = store::Settings {
            dir: folder.path().join(format!("state{round}")),
            cache_bytes: 64 << 20,
        };
        let store = Store::open(&settings).expect("a store");
        let journal = embedded::Journal::open(embedded::Settings::new(&dir)).expect("a journal");
        let partitions: Vec<_> = (0..journal.partitions()).map(Partition).collect();
        let kept_bytes_max = Settings::default().resident_bytes_max;
        let states = recover(&*journal, store.tables(), &partitions, kept_bytes_max);
        let states = states.expect("a state");
        assert_eq!(states.iter().map(|state| state.replayed).sum::<u64>(), records as u64);
        store.close();
    });
    told("verify", &mut || {
        let journal = embedded::ReadOnly::open(&dir).expect("a journal");
        let report = verify::check(&journal, &verify::Options::default()).expect("readable");
        assert!(report.holds, "{:?}", report.problems);
    });
}
