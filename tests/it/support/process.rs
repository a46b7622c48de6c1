//! The real program, as an operator runs it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wire::{Message, ask_once};
use super::{Caller, Identity, Setup, eventually, holds_within, soon};

/// How long a stop may take: a node leaves its cluster, answers what is under way, and writes down what it
/// has, each with a patience of its own.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(120);

/// The program that these tests were built with.
const PROGRAM: &str = env!("CARGO_BIN_EXE_cordon");

/// `cordon serve`, with its output kept in the folder of its setup.
pub(crate) struct TestProcess {
    pub(crate) address: SocketAddr,
    child: Child,
    setup: Setup,
    /// Reads what is printed, to the end.
    output: Option<JoinHandle<()>>,
}

impl TestProcess {
    /// Starts the program and waits until it says where it listens.
    pub(crate) fn start(setup: &Setup) -> Self {
        Self::try_start(setup).unwrap_or_else(|said| panic!("it ended: {said}"))
    }

    /// The same of one that may end instead. Errors: what it said.
    pub(crate) fn try_start(setup: &Setup) -> Result<Self, String> {
        Self::start_by(command(setup), setup)
    }

    /// Starts the program, which has to refuse and to end by itself; answers what it said.
    #[track_caller]
    pub(crate) fn refuse(setup: &Setup) -> String {
        let log = || fs::read_to_string(log_path(setup)).unwrap_or_default();
        let before = log().len();
        let mut program = command(setup);
        let program = program.arg("serve").stdout(Stdio::null()).stderr(append(&log_path(setup)));
        let mut child = program.spawn().expect("the program starts");
        let mut status = None;
        soon(|| {
            status = child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        // Also one that does not refuse.
        let _ = child.kill();
        let _ = child.wait();
        let said = log().split_off(before);
        assert!(status.is_some_and(|status| !status.success()), "{status:?}: {said}");
        said
    }

    /// The same on a host of a test's network.
    pub(crate) fn try_start_in(namespace: &str, setup: &Setup) -> Result<Self, String> {
        let program = command(setup);
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", namespace]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.current_dir(setup.folder());
        Self::start_by(inside, setup)
    }

    fn start_by(mut command: Command, setup: &Setup) -> Result<Self, String> {
        let log = || fs::read_to_string(log_path(setup)).unwrap_or_default();
        let before = log().len();
        let mut child = command
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(append(&log_path(setup)))
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut printed = append(&output_path(setup));
        let mut keep = move |line: &str| {
            use std::io::Write;
            writeln!(printed, "{line}").expect("the output can be kept");
        };
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.kill();
                let _ = child.wait();
                return Err(log().split_off(before));
            };
            keep(&line);
            if let Some(address) = line.strip_prefix("cordon listens on http://") {
                break address.parse().expect("an address");
            }
        };
        let output =
            thread::spawn(move || lines.map_while(Result::ok).for_each(|line| keep(&line)));
        Ok(Self { address, child, setup: setup.clone(), output: Some(output) })
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.address, Identity::default())
    }

    /// Ends it without notice.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed, also if it has ended");
        self.child.wait().expect("it has ended");
        self.finish();
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it in the middle of whatever it does.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it takes signals");
    }

    /// Its id among the machine's processes.
    pub(crate) fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.expect("a process has an id")
    }

    /// How much of something it has, in bytes: `VmRSS` for the memory that it holds. None once it has
    /// ended.
    pub(crate) fn bytes_of(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    /// How many files it has open, connections among them.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Asks the listener for operators.
    pub(crate) fn ops(&self, path: &str) -> Message {
        ask_once(self.ops_address(), "GET", path).expect("the ops listener answers")
    }

    /// Where operators ask, as it stands in the log.
    pub(crate) fn ops_address(&self) -> SocketAddr {
        let mut address: Option<SocketAddr> = None;
        eventually("the log says where operators ask", || {
            let log = fs::read_to_string(log_path(&self.setup)).unwrap_or_default();
            let last = log.lines().rev().find_map(|line| line.split_once("ops.address="));
            let text = last.and_then(|(_, rest)| rest.split_whitespace().next());
            address = text.and_then(|text| text.parse().ok());
            address.is_some()
        });
        address.expect("it was found")
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let mut status = None;
        let ended = holds_within(STOP_MAX, || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(ended, "the program does not end within {STOP_MAX:?}");
        self.finish();
        status.expect("it has ended")
    }

    fn finish(&mut self) {
        if let Some(output) = self.output.take() {
            output.join().expect("its output is read");
        }
    }

    /// Everything that it and those before it in the folder printed and logged.
    pub(crate) fn everything_said(setup: &Setup) -> String {
        let read = |path| fs::read_to_string(path).expect("it is kept");
        read(output_path(setup)) + &read(log_path(setup))
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        // After a failed test; otherwise it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(log_path(&self.setup)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// The program with the variables of `setup` and no others of ours.
pub(crate) fn command(setup: &Setup) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORDON_") {
            command.env_remove(name);
        }
    }
    command.envs(setup.environment()).current_dir(setup.folder());
    command.envs(setup.hooks().iter().map(|(hook, value)| (hook, value)));
    command
}

fn append(path: &PathBuf) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a file of the test")
}

fn log_path(setup: &Setup) -> PathBuf {
    setup.folder().join("stderr.txt")
}

fn output_path(setup: &Setup) -> PathBuf {
    setup.folder().join("stdout.txt")
}
