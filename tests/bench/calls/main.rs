//! What calls cost through the real door, beside what they could cost at least.
//!
//! `cargo bench --bench calls` starts the product, a server that keeps nothing and what else it is told
//! of, gives all of them the same loads in turns, prints a table, and keeps every single figure as
//! JSON. Only ratios within one run mean something: disks and processors vary by a factor of two within
//! minutes. Settings are variables of the environment:
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `BENCH_TMP` | `/var/tmp` | where journals lie; it must be on the disk that is to be measured |
//! | `BENCH_ROUNDS` | 3 | rounds, of which the median is told |
//! | `BENCH_SECONDS` | 2 | how long each load takes |
//! | `BENCH_CONNECTIONS` | `1 8 32 128` | |
//! | `BENCH_ACCOUNTS` | 20000 | the ring of accounts |
//! | `BENCH_WORK` | all | parts of names of loads, with commas between them; `restart` for what comes last |
//! | `BENCH_KAFKA` | | if set, the product over a Kafka broker of its own as well; see `tests/it/support/kafka` |
//! | `BENCH_BESIDE` | | other servers, like `rival=127.0.0.1:8081`; they must take the same app and key |
//! | `BENCH_OUT` | in `target/tmp` | the file with all figures |

mod ceiling;
// What tests need of it is more than a bench does.
#[allow(dead_code)]
#[path = "../../it/support/kafka/mod.rs"]
mod kafka;
mod load;
mod noop;
mod restart;
mod server;
#[allow(dead_code)]
#[path = "../../it/support/skipped.rs"]
mod skipped;
mod table;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use load::{Door, Request};
use server::Server;
use table::{Figure, Table};
use work::{Ring, Work, Writer, seeds};

/// How Java runs the broker: as Kafka's own script starts it.
const BROKER_JAVA: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];
/// Connections that make the ring.
const SEEDING: usize = 64;
/// Accounts that keep a blocklist free for long batches, per second of all loads.
const BLANK_PER_SECOND: u64 = 2_500;
/// Loads that are worth only one number of connections, and that number.
const FEW: usize = 32;

/// How the run is made.
struct Plan {
    tmp: PathBuf,
    rounds: usize,
    seconds: u64,
    connections: Vec<usize>,
    ring: Ring,
    wanted: Vec<String>,
    beside: Vec<(String, String)>,
    out: PathBuf,
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn number(name: &str, default: &str) -> u64 {
    setting(name, default).parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

impl Plan {
    fn of_environment() -> Self {
        let connections = setting("BENCH_CONNECTIONS", "1 8 32 128");
        let connections = connections.split_whitespace();
        let beside = setting("BENCH_BESIDE", "");
        let beside = beside.split_whitespace().map(|one| {
            let (name, address) = one.split_once('=').expect("BENCH_BESIDE is name=address");
            (name.to_owned(), address.to_owned())
        });
        let (rounds, seconds) = (number("BENCH_ROUNDS", "3"), number("BENCH_SECONDS", "2"));
        let wanted = setting("BENCH_WORK", "");
        let default_out = concat!(env!("CARGO_TARGET_TMPDIR"), "/calls.json");
        Self {
            tmp: setting("BENCH_TMP", "/var/tmp").into(),
            rounds: rounds as usize,
            seconds,
            connections: connections.map(|text| text.parse().expect("numbers")).collect(),
            ring: Ring {
                accounts: number("BENCH_ACCOUNTS", "20000").max(10_000),
                friends: 30,
                blocks: 10,
                blank: BLANK_PER_SECOND * seconds * rounds,
            },
            wanted: wanted.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            beside: beside.collect(),
            out: setting("BENCH_OUT", default_out).into(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part))
    }

    /// The loads, and over how many connections.
    fn loads(&self) -> Vec<(Work, usize)> {
        let all = [Work::Block, Work::Check, Work::List].into_iter();
        let all = all.flat_map(|work| self.connections.iter().map(move |count| (work, *count)));
        let once = [Work::Mixed, Work::Befriend, Work::Batch(100), Work::Batch(900)];
        let all = all.chain(once.map(|work| (work, FEW)));
        all.filter(|(work, _)| self.wants(&work.name())).collect()
    }
}

/// One of those that are measured.
struct Measured {
    name: String,
    door: Door,
    /// None for a server that was not started here.
    server: Option<Server>,
    writer: Writer,
}

impl Measured {
    fn seed(&self, ring: Ring) {
        for mut seeds in seeds(ring) {
            load::run(&self.door, SEEDING, None, &mut seeds);
        }
    }

    fn measure(&mut self, round: usize, work: Work, connections: usize, seconds: u64) -> Figure {
        let cpu = |server: &Option<Server>| server.as_ref().map(Server::cpu_s);
        let before = cpu(&self.server);
        let writer = &mut self.writer;
        let next = |request: &mut Request| writer.write(work, request);
        let limit = Some(Duration::from_secs(seconds));
        let measured = load::run(&self.door, connections, limit, next);
        assert!(
            measured.calls > 0,
            "all pairs of the ring are blocked: more BENCH_ACCOUNTS, or less time"
        );
        let took = cpu(&self.server).zip(before).map(|(after, before)| after - before);
        Figure {
            round,
            server: self.name.clone(),
            work: work.name(),
            connections,
            calls: measured.calls,
            per_second: measured.rate(),
            p50_ms: measured.percentile_ms(0.5),
            p99_ms: measured.percentile_ms(0.99),
            cpu_us: took.map(|took| took * 1e6 / measured.calls.max(1) as f64),
        }
    }
}

fn main() {
    if let Ok(port) = std::env::var(noop::PORT) {
        noop::serve(port.parse().expect("a port"));
        return;
    }
    let plan = Plan::of_environment();
    let dir = tempfile::tempdir_in(&plan.tmp).expect("a folder");
    let loads = plan.loads();
    let mut table = Table::new(&plan.out);

    let cordon = Server::cordon(dir.path(), &[]);
    let noop = Server::noop();
    let started = |name: &str, server: Server, keeps| Measured {
        name: name.to_owned(),
        door: server.door.clone(),
        server: Some(server),
        writer: Writer::new(plan.ring, keeps),
    };
    let mut all = vec![started("cordon", cordon, true)];
    if let Some(bootstrap) = std::env::var_os("BENCH_KAFKA").and_then(|_| kafka::shared()) {
        let settings = [
            ("CORDON_JOURNAL", "kafka"),
            ("CORDON_KAFKA_BROKERS", bootstrap),
            ("CORDON_KAFKA_DEVELOPMENT", "true"),
            ("CORDON_NODE_SECRET", server::KEY),
        ];
        let over_kafka = Server::cordon(&dir.path().join("kafka"), &settings);
        all.push(started("kafka", over_kafka, true));
    }
    for (name, address) in &plan.beside {
        let door = Door { address: address.parse().expect("an address"), query: server::query() };
        let writer = Writer::new(plan.ring, true);
        all.push(Measured { name: name.clone(), door, server: None, writer });
    }
    for one in &all {
        eprintln!("seeding {}", one.name);
        one.seed(plan.ring);
    }
    all.push(started("noop", noop, false));

    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        table.note_sync(ceiling::sync(dir.path()));
        for (work, connections) in &loads {
            for one in &mut all {
                if one.name != "noop" || work.suits_noop() {
                    table.note(one.measure(round, *work, *connections, plan.seconds));
                }
            }
        }
        // What drifts does not always meet the same one.
        all.reverse();
    }
    table.print();
    let cordon = all.into_iter().find(|one| one.name == "cordon").expect("it was measured");
    if plan.wants("restart") {
        let server = cordon.server.expect("it was started here");
        restart::measure(&mut table, server, dir.path(), plan.ring, &cordon.writer);
    }
    table.keep();
}
