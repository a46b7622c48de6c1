//! Real nodes over real brokers, killed, stopped, cut and rolled while callers work on them; in the
//! end everything has to hold. Rule: cluster.md 7 and 14.
//!
//! Each kind of fault is suffered by default, over one broker or over three. `NEMESIS_ROUNDS` sets
//! another number of faults, `NEMESIS_SEED` other ones; `NEMESIS_ONLY` names the kinds that are chosen
//! from. Nodes have a network of their own where this user may make one (root, iproute2); elsewhere
//! nothing is cut.

mod caller;
pub(crate) mod proof;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use caller::{Worker, users};
use serde_json::json;

use crate::history::{Log, Operation, Recorder};
use crate::support::lan::Lan;
use crate::support::{
    Random, Setup, TestProcess, TestSubscriber, eventually, kafka, skip_without_root,
};

/// Of the default run.
const SEED: u64 = 0x00C0_FFEE;
const NODES: usize = 3;
const WORKERS: usize = 6;
/// How often a node that has nothing to write when it is stopped is stopped again, at most.
const CONTROLS_MAX: u64 = 4;
/// How long a process is stopped: longer than others take to declare it dead.
const STOPPED_FOR: Duration = Duration::from_secs(8);
/// How long a cut lasts: the same.
const CUT_FOR: Duration = Duration::from_secs(8);
/// How long an abandoned call may still be done: the node that has it may have been stopped, and
/// what it had in flight has to be decided.
const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// How long nothing is done between two faults.
const CALM: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillNode,
    StopNode,
    DrainNode,
    RollAll,
    KillBroker,
    StopBroker,
    CutNodes,
    CutKafka,
}

const FAULTS: [Fault; 8] = [
    Fault::KillNode,
    Fault::StopNode,
    Fault::CutKafka,
    Fault::DrainNode,
    Fault::KillBroker,
    Fault::CutNodes,
    Fault::StopBroker,
    Fault::RollAll,
];

/// What is suffered over one broker: a node that is stopped, killed, cut or left to others.
const OVER_ONE: [Fault; 5] =
    [Fault::KillNode, Fault::StopNode, Fault::CutKafka, Fault::RollAll, Fault::KillBroker];
/// What is suffered over three: one of them is missing, too.
const OVER_THREE: [Fault; 6] = [
    Fault::KillNode,
    Fault::StopNode,
    Fault::StopBroker,
    Fault::DrainNode,
    Fault::KillBroker,
    Fault::CutNodes,
];

/// Nodes, brokers and a receiver of webhooks.
struct World {
    // Before the network that they live in.
    nodes: Vec<Option<TestProcess>>,
    setups: Vec<Setup>,
    subscriber: TestSubscriber,
    kafka: kafka::Cluster,
    brokers: usize,
    lan: Option<Lan>,
    addresses: Vec<SocketAddr>,
}

impl World {
    fn new(tag: &str, brokers: usize, hook: Option<&str>) -> Option<Self> {
        let lan = match Lan::new(tag, NODES) {
            Ok(lan) => Some(lan),
            Err(reason) => {
                let reason = format!("nothing is cut, for want of a network: {reason}");
                skip_without_root(&reason, "To cut something, be root and install iproute2.");
                None
            }
        };
        let local = std::net::Ipv4Addr::LOCALHOST;
        let kafka = kafka::Cluster::start(lan.as_ref().map_or(local, Lan::kafka), brokers)?;
        if let Some(lan) = &lan {
            (0..brokers).for_each(|index| lan.wait_until_reached(kafka.socket(index)));
        }
        let subscriber = TestSubscriber::start_at(lan.as_ref().map_or(local, Lan::here));
        let mut setups = Setup::cluster(&kafka.bootstrap(), NODES);
        for (index, setup) in setups.iter_mut().enumerate() {
            let host = lan.as_ref().map_or(local, |lan| lan.node(index));
            let port = |offset: u16| match &lan {
                Some(_) => 7000 + offset,
                None => free_port(),
            };
            *setup = setup
                .clone()
                .webhook(&subscriber)
                // Less than a caller's patience: who is not answered hears of it.
                .set("HTTP_REQUEST_TIMEOUT_MS", "3000")
                .set("JOURNAL_PARTITIONS", "8")
                .set("LISTEN", &format!("{host}:{}", port(0)))
                .set("OPS_LISTEN", &format!("{host}:{}", port(1)))
                .set("NODE_LISTEN", &format!("{host}:{}", port(2)));
            if brokers > 1 {
                *setup = setup.clone().set("KAFKA_DEVELOPMENT", "false");
            }
            if let Some(hook) = hook {
                *setup = setup.clone().hook(hook, "1");
            }
        }
        let mut world = Self {
            nodes: Vec::new(),
            addresses: Vec::new(),
            setups,
            subscriber,
            kafka,
            brokers,
            lan,
        };
        let nodes = thread::scope(|scope| {
            let starting: Vec<_> = (0..NODES)
                .map(|node| {
                    scope.spawn({
                        let world = &world;
                        move || world.start_first(node)
                    })
                })
                .collect();
            let started = |(index, node): (usize, thread::ScopedJoinHandle<'_, _>)| {
                node.join().unwrap_or_else(|_| panic!("no start of {}", world.look(index)))
            };
            starting.into_iter().enumerate().map(started).collect::<Vec<_>>()
        });
        world.addresses = nodes.iter().map(|node| node.address).collect();
        world.nodes = nodes.into_iter().map(Some).collect();
        Some(world)
    }

    fn start(&self, node: usize) -> TestProcess {
        self.try_start(node).unwrap_or_else(|said| panic!("node {node} ended: {said}"))
    }

    /// Before anything has happened. A node that reaches no broker at its start ends, and whoever runs
    /// nodes starts it again; so does this, once, and says so: brokers that have just been started on
    /// a busy machine are not what is tried here.
    fn start_first(&self, node: usize) -> TestProcess {
        self.try_start(node).unwrap_or_else(|said| {
            assert!(said.contains("the journal is not reached"), "node {node} ended: {said}");
            eprintln!("node {node} is started again, because it ended: {said}");
            self.start(node)
        })
    }

    /// Errors: what it said before it ended.
    fn try_start(&self, node: usize) -> Result<TestProcess, String> {
        match &self.lan {
            Some(lan) => TestProcess::try_start_in(&lan.name(node), &self.setups[node]),
            None => TestProcess::try_start(&self.setups[node]),
        }
    }

    /// What there is to see of what a node needs.
    fn look(&self, node: usize) -> String {
        let way = self.lan.as_ref().map(|lan| lan.look(node)).unwrap_or_default();
        format!("node {node}; {way}\n{}", self.kafka.last_words())
    }

    fn can(&self, fault: Fault) -> bool {
        match fault {
            Fault::CutNodes | Fault::CutKafka => self.lan.is_some(),
            _ => true,
        }
    }

    /// One fault from its beginning to its end.
    fn suffer(&mut self, fault: Fault, random: &mut Random) {
        let (node, broker) = (random.below(NODES), random.below(self.brokers));
        match fault {
            Fault::KillNode => {
                self.nodes[node].take().expect("it runs").kill();
                // Others take over meanwhile, or not yet.
                thread::sleep(Duration::from_millis(random.below(9_000) as u64));
                self.nodes[node] = Some(self.start(node));
            }
            Fault::StopNode => {
                let stopped = self.nodes[node].as_ref().expect("it runs");
                stopped.pause();
                thread::sleep(STOPPED_FOR);
                stopped.resume();
            }
            Fault::DrainNode => self.roll(node),
            Fault::RollAll => (0..NODES).for_each(|node| self.roll(node)),
            Fault::KillBroker => {
                self.kafka.kill(broker);
                thread::sleep(Duration::from_millis(random.below(4_000) as u64));
                self.kafka.restart(broker);
                self.kafka.wait();
            }
            Fault::StopBroker => {
                self.kafka.pause(broker);
                thread::sleep(STOPPED_FOR);
                self.kafka.resume(broker);
            }
            Fault::CutNodes => {
                let lan = self.lan.as_ref().expect("a network");
                let other = lan.node((node + 1) % NODES);
                lan.cut(node, other);
                thread::sleep(CUT_FOR);
                lan.heal();
            }
            Fault::CutKafka => {
                let lan = self.lan.as_ref().expect("a network");
                lan.cut(node, lan.kafka());
                thread::sleep(CUT_FOR);
                lan.heal();
            }
        }
    }

    /// Stops a node in order and starts it again.
    fn roll(&mut self, node: usize) {
        let stopping = self.nodes[node].take().expect("it runs");
        stopping.terminate();
        assert!(stopping.wait().success(), "a node that is asked to stop ends well");
        self.nodes[node] = Some(self.start(node));
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs callers against a world that suffers `rounds` faults, the `first` of them in order and then any
/// of `faults`; answers what they saw.
fn run(
    world: &mut World,
    (first, faults): (&[Fault], &[Fault]),
    rounds: u64,
    seed: u64,
) -> Vec<Operation> {
    let mut random = Random::new(seed);
    let mut workers: Vec<Worker> =
        (0..WORKERS).map(|number| Worker::new(number, &world.addresses, random.next())).collect();
    let names = users();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let importing = world.nodes[0].as_ref().expect("it runs");
    let accounts = json!({ "Accounts": names });
    eventually("all are imported", || {
        let import = "im_open_login_svc/multiaccount_import";
        let answer = importing.caller().call(import, &accounts);
        answer.code() == 0 && answer.body["FailAccounts"] == json!([])
    });

    let (recorder, ended) = (Recorder::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        for worker in &mut workers {
            let (recorder, ended) = (&recorder, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    worker.step(recorder);
                }
            });
        }
        for round in 0..rounds {
            thread::sleep(CALM);
            let fault = match first.get(round as usize) {
                Some(fault) => *fault,
                None => faults[random.below(faults.len())],
            };
            let began = Instant::now();
            world.suffer(fault, &mut random);
            eprintln!("round {round}: {fault:?}, {:.1} s", began.elapsed().as_secs_f64());
        }
        thread::sleep(CALM);
        ended.store(true, Ordering::Relaxed);
    });
    // Calls that nobody waits for any more come to their end.
    thread::sleep(SETTLED_AFTER);
    let answered: u64 = workers.iter().map(|worker| worker.tally.answered).sum();
    let unanswered: u64 = workers.iter().map(|worker| worker.tally.unanswered).sum();
    let longest = workers.iter().map(|worker| worker.tally.longest).max().unwrap_or_default();
    let mut took: Vec<Duration> =
        workers.iter_mut().flat_map(|worker| worker.tally.took.drain(..)).collect();
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    eprintln!(
        "{answered} calls answered (p50 {:.1?}, p99 {:.1?}), {unanswered} not; longest without an \
         answer {:.1} s",
        at(50),
        at(99),
        longest.as_secs_f64(),
    );
    recorder.into_operations()
}

/// Everything that has to hold; what does not.
fn prove(world: &mut World, operations: &[Operation]) -> Vec<String> {
    let log = proof::settled(&world.setups[0]);
    let (mut problems, mut seen) = proof::histories(operations, &log);
    match proof::webhooks(&world.subscriber, &world.setups[0]) {
        Ok(report) => seen.callbacks = report.callbacks,
        Err(violations) => problems.push(violations),
    }
    problems.extend(proof::vacuous(&seen));
    problems.extend(proof::owed(&world.setups[0]));
    for node in &mut world.nodes {
        let node = node.take().expect("it runs");
        node.terminate();
        if !node.wait().success() {
            problems.push("a node does not end well".into());
        }
    }
    problems.extend(proof::verified(&world.setups));
    problems
}

fn nothing_is_lost(tag: &str, brokers: usize, first: &[Fault]) {
    let Some(mut world) = World::new(tag, brokers, None) else { return };
    let only = std::env::var("NEMESIS_ONLY").ok();
    let chosen =
        |fault: &Fault| only.as_ref().is_none_or(|only| only.contains(&format!("{fault:?}")));
    let possible = |faults: &[Fault]| -> Vec<Fault> {
        let faults = faults.iter().copied();
        faults.filter(|fault| chosen(fault) && world.can(*fault)).collect()
    };
    let (rounds, seed) =
        (number("NEMESIS_ROUNDS", first.len() as u64), number("NEMESIS_SEED", SEED));
    let (first, faults) = (possible(first), possible(&FAULTS));
    let operations = run(&mut world, (&first, &faults), rounds, seed);
    let problems = prove(&mut world, &operations);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn nothing_is_lost_doubled_or_reordered_over_one_broker() {
    nothing_is_lost("a", 1, &OVER_ONE);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_over_three_brokers() {
    nothing_is_lost("c", 3, &OVER_THREE);
}

#[test]
fn each_fault_is_suffered_by_default() {
    for fault in FAULTS {
        assert!(OVER_ONE.contains(&fault) || OVER_THREE.contains(&fault), "{fault:?}");
    }
}

/// The negative control: what would not be noticed here would not be noticed above. A node has to be
/// stopped while it has something to write, so it is stopped until that was so.
#[test]
fn an_owner_that_does_not_look_at_what_others_wrote_loses_facts_and_is_found_out() {
    let found = (0..CONTROLS_MAX).any(|control| {
        let world = World::new("x", 1, Some("TEST_IGNORE_GAPS"));
        // Without a broker there is nothing to be found.
        let Some(mut world) = world else { return true };
        let stop = &[Fault::StopNode][..];
        let operations = run(&mut world, (stop, stop), 2, SEED + control);
        !proof::histories(&operations, &Log::of_kafka(&world.setups[0])).0.is_empty()
    });
    assert!(found, "a nemesis that cannot fail proves nothing");
}
