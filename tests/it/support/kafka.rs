//! A real Apache Kafka for the tests: one broker for all of them, or a cluster of their own that
//! can be broken.
//!
//! `CORDON_TEST_KAFKA=host:port` names a cluster that runs already. Otherwise Maven fetches the one of
//! `tests/kafka/pom.xml` and Java runs it on loopback ports, or Docker does where Java is missing.
//! Where none of it is possible, the tests that need it say so loudly and pass without having run;
//! with `CI` set that is a failure.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The version of Kafka, as in the pom.
const VERSION: &str = "4.1.1";
/// How long a cluster may take to start: the first time it is fetched.
const PATIENCE: Duration = Duration::from_secs(120);
/// Any cluster id will do.
const CLUSTER_ID: &str = "Y29yZG9uLXRlc3RzLWthZg";
/// The variable that names a running cluster.
const GIVEN: &str = "CORDON_TEST_KAFKA";

/// The bootstrap address of a broker that all tests share; nothing if there is no way to have one.
pub(crate) fn shared() -> Option<&'static str> {
    static SHARED: OnceLock<Option<(String, Option<Cluster>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        if let Ok(given) = std::env::var(GIVEN) {
            return Some((given, None));
        }
        match Cluster::try_start(Ipv4Addr::LOCALHOST, 1) {
            Ok(cluster) => Some((cluster.bootstrap(), Some(cluster))),
            Err(reason) => {
                skip(&reason);
                None
            }
        }
    });
    shared.as_ref().map(|(bootstrap, _)| bootstrap.as_str())
}

/// Says that a test does not run; fails where it has to.
fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "the tests on Kafka have to run here: {reason}");
    eprintln!(
        "SKIPPED: the tests on Kafka did not run: {reason}. Install Java 17 and Maven, or Docker, or \
         set {GIVEN}=host:port."
    );
}

/// Brokers of its own for one test. They end with it, and with this process however that ends.
pub(crate) struct Cluster {
    host: Ipv4Addr,
    brokers: Vec<Broker>,
    class_path: String,
    _folder: TempDir,
}

struct Broker {
    port: u16,
    settings: PathBuf,
    log: PathBuf,
    running: Option<Running>,
}

struct Running {
    /// Ends the broker when its standard input closes.
    guard: Child,
    broker: Pid,
}

impl Cluster {
    /// Starts `brokers` brokers at `host`, each a controller as well; nothing if there is no way to.
    pub(crate) fn start(host: Ipv4Addr, brokers: usize) -> Option<Self> {
        Self::try_start(host, brokers).map_err(|reason| skip(&reason)).ok()
    }

    fn try_start(host: Ipv4Addr, count: usize) -> Result<Self, String> {
        let class_path = class_path()?;
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let ports: Vec<(u16, u16)> =
            (0..count).map(|_| (free_port(host), free_port(host))).collect();
        let mut brokers = Vec::new();
        for (index, (port, _)) in ports.iter().enumerate() {
            let own = folder.path().join(format!("broker-{}", index + 1));
            fs::create_dir(&own).map_err(|error| error.to_string())?;
            let settings = own.join("server.properties");
            fs::write(&settings, properties(host, index + 1, &ports, &own.join("data")))
                .map_err(|error| error.to_string())?;
            run_once(
                java(&class_path)
                    .arg("kafka.tools.StorageTool")
                    .args(["format", "-t", CLUSTER_ID, "-c"])
                    .arg(&settings),
            )?;
            let log = own.join("broker.log");
            brokers.push(Broker { port: *port, settings, log, running: None });
        }
        let mut cluster = Self { host, brokers, class_path, _folder: folder };
        for index in 0..count {
            cluster.run(index)?;
        }
        cluster.wait_for(count)?;
        Ok(cluster)
    }

    /// Where a client begins.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses = self.brokers.iter().map(|broker| format!("{}:{}", self.host, broker.port));
        addresses.collect::<Vec<_>>().join(",")
    }

    fn run(&mut self, index: usize) -> Result<(), String> {
        let broker = &mut self.brokers[index];
        let log = fs::OpenOptions::new().create(true).append(true).open(&broker.log);
        let log = log.map_err(|error| error.to_string())?;
        // The pipe closes with this process, however it ends; no broker outlives it.
        let mut guard = Command::new("sh");
        guard.args(["-c", "\"$@\" >&2 & echo $!; cat >/dev/null; kill -9 $!", "guard"]);
        let command = java(&self.class_path);
        guard.arg(command.get_program()).args(command.get_args());
        guard.arg("kafka.Kafka").arg(&broker.settings);
        let mut guard = guard
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("a broker does not start: {error}"))?;
        let mut line = String::new();
        let output = guard.stdout.take().ok_or("the guard says nothing")?;
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("no process id: {line}"))?;
        broker.running = Some(Running { guard, broker: pid });
        Ok(())
    }

    /// Waits until clients see `count` brokers.
    fn wait_for(&self, count: usize) -> Result<(), String> {
        let client: BaseConsumer<Quiet> = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("reconnect.backoff.max.ms", "100")
            .create_with_context(Quiet)
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = client.fetch_metadata(None, Duration::from_secs(1));
            if seen.is_ok_and(|metadata| metadata.brokers().len() == count) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.brokers[0].log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(20)..].join("\n");
                return Err(format!("Kafka did not start in time:\n{last}"));
            }
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        if let Some(running) = &self.brokers[index].running {
            kill_process(running.broker, signal).expect("the broker takes signals");
        }
    }

    /// Ends a broker without notice.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut running) = self.brokers[index].running.take() {
            let _ = kill_process(running.broker, Signal::KILL);
            drop(running.guard.stdin.take());
            let _ = running.guard.wait();
        }
    }

    /// Stops a broker in the middle of whatever it does.
    pub(crate) fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Lets a stopped broker go on.
    pub(crate) fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// Starts a broker that was killed, in its old folder.
    pub(crate) fn restart(&mut self, index: usize) {
        self.run(index).expect("the broker starts");
    }

    /// Waits until all brokers are there.
    pub(crate) fn wait(&self) {
        self.wait_for(self.brokers.len()).expect("all brokers come back");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.brokers.len() {
            self.kill(index);
        }
    }
}

fn free_port(host: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

fn properties(host: Ipv4Addr, id: usize, ports: &[(u16, u16)], data: &Path) -> String {
    let voters = ports.iter().enumerate();
    let voters: Vec<String> =
        voters.map(|(index, (_, port))| format!("{}@{host}:{port}", index + 1)).collect();
    let (port, controller) = ports[id - 1];
    let copies = ports.len().min(3);
    let in_sync = copies.min(2);
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={}\n\
         listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}\n\
         advertised.listeners=PLAINTEXT://{host}:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor={copies}\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.replication.factor={copies}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         log.segment.bytes=33554432\n\
         log.index.size.max.bytes=131072\n\
         group.initial.rebalance.delay.ms=0\n\
         replica.lag.time.max.ms=10000\n\
         broker.session.timeout.ms=6000\n\
         auto.create.topics.enable=false\n",
        voters.join(","),
        data.display(),
    )
}

fn java(class_path: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path]);
    command
}

fn run_once(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Where Kafka's classes lie; fetched on first use and kept with what is built.
fn class_path() -> Result<String, String> {
    run_once(Command::new("java").arg("-version"))?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let kept = target.join("kafka").join(format!("classpath-{VERSION}.txt"));
    let known = |text: &String| text.split(':').all(|file| Path::new(file.trim()).exists());
    if let Ok(text) = fs::read_to_string(&kept)
        && known(&text)
    {
        return Ok(text.trim().to_owned());
    }
    fs::create_dir_all(kept.parent().ok_or("no folder")?).map_err(|error| error.to_string())?;
    let fresh = kept.with_extension(format!("{}.new", std::process::id()));
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
    run_once(
        Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(pom)
            .arg("dependency:build-classpath")
            .arg(format!("-Dmdep.outputFile={}", fresh.display())),
    )?;
    let text = fs::read_to_string(&fresh).map_err(|error| error.to_string())?;
    fs::rename(&fresh, &kept).map_err(|error| error.to_string())?;
    Ok(text.trim().to_owned())
}

/// A client whose log lines nobody reads: brokers come and go here.
struct Quiet;

impl rdkafka::ClientContext for Quiet {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
}

impl rdkafka::consumer::ConsumerContext for Quiet {}
