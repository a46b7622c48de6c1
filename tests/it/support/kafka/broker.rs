//! One broker, which is a controller as well: a process that never outlives this one.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::distribution::Distribution;
use super::{CLUSTER_ID, Quiet, text};

/// How long a broker may take to start or to stop, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a broker may take to tell who lives.
const ASK_FOR: Duration = Duration::from_secs(1);
/// How often an end that nothing announces is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Free ports are sought in this many places at most.
const PORT_TRIES: usize = 100;
/// Below this no port is chosen.
const PORT_MIN: u16 = 10_000;
/// Where the kernel's own choice of ports begins if it does not tell.
const KERNELS_PORTS: u16 = 32_768;

/// Waits for the word to begin, so that there is somebody who would end the broker before there is
/// a broker. With the test's process gone nobody gives the word.
const BEGIN: &str = r#"read -r word && exec "$@" </dev/null"#;
/// Ends the broker once standard input closes, which the kernel sees to however the test's process
/// ends, and clears up behind it.
const GUARD: &str = r#"cat; if [ "$2" ]; then docker kill "$2"; fi; kill -9 "$1"
n=0; until rm -rf "$3" || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.1; done"#;

/// Where a broker lives, also while it does not run: its folder and its ports.
pub(super) struct Place {
    host: Ipv4Addr,
    port: u16,
    controller_port: u16,
    folder: TempDir,
}

impl Place {
    pub(super) fn new(host: Ipv4Addr) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("cordon-kafka-").tempdir().map_err(text)?;
        let port = free_port(host, None)?;
        Ok(Self { host, port, controller_port: free_port(host, Some(port))?, folder })
    }

    /// Where clients find it.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn settings(&self) -> PathBuf {
        self.folder().join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder().join("broker.log")
    }

    /// Writes the settings of broker `index` of `places`, which is this one; answers where.
    pub(super) fn write_settings(&self, index: usize, places: &[Self]) -> Result<PathBuf, String> {
        let voters = places.iter().enumerate().map(|(index, place)| {
            format!("{}@{}:{}", index + 1, place.host, place.controller_port)
        });
        let voters = voters.collect::<Vec<_>>().join(",");
        let (id, host, port, controller) = (index + 1, self.host, self.port, self.controller_port);
        let (copies, in_sync) = (places.len().min(3), places.len().min(2));
        // The cleaner's buffer and the indexes would take more memory than all the rest.
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}\n\
             advertised.listeners=PLAINTEXT://{host}:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={data}\n\
             offsets.topic.replication.factor={copies}\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr={in_sync}\n\
             share.coordinator.state.topic.replication.factor={copies}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             log.segment.bytes=33554432\n\
             log.index.size.max.bytes=131072\n\
             log.cleaner.dedupe.buffer.size=4194304\n\
             num.network.threads=2\n\
             num.io.threads=4\n\
             background.threads=2\n\
             group.initial.rebalance.delay.ms=0\n\
             replica.lag.time.max.ms=10000\n\
             broker.session.timeout.ms=6000\n\
             auto.create.topics.enable=false\n",
            data = self.data().display(),
        );
        fs::write(self.settings(), settings).map_err(text)?;
        Ok(self.settings())
    }

    /// Makes everything that broker `index` of `places`, which is this one, finds when it starts.
    pub(super) fn prepare(
        &self,
        distribution: &Distribution,
        index: usize,
        places: &[Self],
    ) -> Result<(), String> {
        self.write_settings(index, places)?;
        fs::create_dir(self.data()).map_err(text)?;
        let identity = format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={}\n", index + 1);
        fs::write(self.data().join("meta.properties"), identity).map_err(text)?;
        let features = distribution.features();
        fs::copy(&features, self.data().join(features.file_name().unwrap_or_default()))
            .map_err(text)?;
        Ok(())
    }

    /// The end of what the broker logged.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A running broker; ends when dropped.
pub(super) struct Broker {
    child: Child,
    guard: Child,
    pid: Pid,
    container: Option<String>,
}

impl Broker {
    /// Starts the broker that lives at `place`.
    pub(super) fn start(distribution: &Distribution, place: &Place) -> Result<Self, String> {
        Self::run(distribution.command(place), distribution.container(place), place)
    }

    /// The same with Java as `java` runs it, in the container of that name if in any.
    pub(super) fn run(
        java: Command,
        container: Option<String>,
        place: &Place,
    ) -> Result<Self, String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(place.log());
        let log = log.map_err(text)?;
        let mut child = Command::new("sh");
        child.args(["-c", BEGIN, "broker"]).arg(java.get_program()).args(java.get_args());
        child.arg("kafka.Kafka").arg(place.settings()).stdin(Stdio::piped());
        child.stdout(log.try_clone().map_err(text)?).stderr(log);
        if let Some(folder) = java.get_current_dir() {
            child.current_dir(folder);
        }
        // A Ctrl-C is for the tests, which then end the brokers.
        let mut child = child.process_group(0).spawn().map_err(text)?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(child.id().to_string());
        guard.arg(container.as_deref().unwrap_or_default()).arg(place.folder());
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.process_group(0).spawn().map_err(text)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        let mut word = child.stdin.take().ok_or("no way to begin")?;
        word.write_all(b"begin\n").map_err(text)?;
        Ok(Self { child, guard, pid, container })
    }

    /// Waits until it answers clients, and knows of `count` living brokers. Errors: it ended, or
    /// took too long; with what it logged last.
    pub(super) fn wait_until_seen(&mut self, place: &Place, count: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A client that has heard of other brokers would ask any of them.
            let client: BaseConsumer<Quiet> = ClientConfig::new()
                .set("bootstrap.servers", place.address())
                .set("reconnect.backoff.ms", "20")
                .set("reconnect.backoff.max.ms", "50")
                .create_with_context(Quiet)
                .map_err(text)?;
            let seen = client.fetch_metadata(None, ASK_FOR);
            if seen.is_ok_and(|seen| seen.brokers().len() >= count) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().map_err(text)? {
                return Err(format!("a broker ended, {status}:\n{}", place.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!("a broker did not answer in time:\n{}", place.last_words()));
            }
        }
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    pub(super) fn pause(&self, paused: bool) {
        if let Some(container) = &self.container {
            docker(if paused { "pause" } else { "unpause" }, container);
        } else {
            let signal = if paused { Signal::STOP } else { Signal::CONT };
            kill_process(self.pid, signal).expect("a broker takes signals");
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(mut self) -> Result<(), String> {
        kill_process(self.pid, Signal::TERM).map_err(text)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().map_err(text)?.is_none() {
            if Instant::now() > deadline {
                return Err("a broker did not stop in time".to_owned());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The guard first: it would end whatever has this process id next.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        if let Some(container) = &self.container {
            docker("kill", container);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A container that is gone already needs nothing.
fn docker(what: &str, container: &str) {
    let _ = Command::new("docker").args([what, container]).output();
}

/// A port of `host` that nobody has, and that nobody gets by chance while its broker is down: below
/// those that the kernel hands out. Not `taken` either.
fn free_port(host: Ipv4Addr, taken: Option<u16>) -> Result<u16, String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    let end = first.unwrap_or(KERNELS_PORTS).max(PORT_MIN + 1);
    for _ in 0..PORT_TRIES {
        // Its keys are random.
        let number = RandomState::new().build_hasher().finish();
        let port = PORT_MIN + (number % u64::from(end - PORT_MIN)) as u16;
        if Some(port) != taken && TcpListener::bind((host, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no free port at {host}"))
}
