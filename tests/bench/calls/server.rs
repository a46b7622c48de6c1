//! The servers that are measured: each a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cordon::domain::AppId;
use cordon::usersig;

use super::load::Door;

pub(super) const APP: AppId = AppId(1_400_000_001);
pub(super) const ADMIN: &str = "administrator";
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// How long a server may take to begin, or to recover.
const READY_MAX: Duration = Duration::from_secs(300);
/// How long the signature of all calls is valid.
const SIGNED_S: u64 = 86_400;

/// A server that runs until it is dropped.
pub(super) struct Server {
    process: Child,
    pub(super) door: Door,
    /// From its start until it served.
    pub(super) ready: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The query of every call.
pub(super) fn query() -> String {
    let now = cordon::clock::Clock::system().now();
    let signed = usersig::sign(APP, KEY, ADMIN, SIGNED_S, now.0.div_euclid(1000));
    format!("sdkappid={APP}&identifier={ADMIN}&usersig={signed}&random=4294967295&contenttype=json")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    /// The product, with its state in `dir` and these settings besides.
    pub(super) fn cordon(dir: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cordon"));
        command.arg("serve");
        command.env("CORDON_DATA_DIR", dir);
        command.env("CORDON_APP_ID", APP.to_string()).env("CORDON_APP_KEY", KEY);
        command.env("CORDON_RATE_LIMITS", "off").env("CORDON_LOG_LEVEL", "warn");
        let (port, ops) = (free_port(), free_port());
        command.env("CORDON_LISTEN", format!("127.0.0.1:{port}"));
        command.env("CORDON_OPS_LISTEN", format!("127.0.0.1:{ops}"));
        command.envs(settings.iter().copied());
        Self::start(command, port)
    }

    /// This program, as the server that keeps nothing.
    pub(super) fn noop() -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(super::noop::PORT, port.to_string());
        Self::start(command, port)
    }

    /// Starts it, and waits for the first line that it prints.
    fn start(mut command: Command, port: u16) -> Self {
        let began = Instant::now();
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it is started");
        let out = process.stdout.take().expect("it prints");
        let (sender, printed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Only the first one is waited for.
                let _ = sender.send(line);
            }
        });
        printed.recv_timeout(READY_MAX).expect("the server begins to serve");
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let ready = began.elapsed();
        Self { process, door: Door { address, query: query() }, ready }
    }

    /// The processor time that it has taken so far, in seconds.
    pub(super) fn cpu_s(&self) -> f64 {
        let text = self.proc("stat");
        // Behind the name, which may hold anything, in brackets: the state is field 3.
        let fields = text.rsplit_once(')').expect("stat has a name").1;
        let ticks = |field: usize| -> f64 {
            let text = fields.split_whitespace().nth(field - 3).expect("stat has it");
            text.parse().expect("a number")
        };
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        (ticks(14) + ticks(15)) / per_second
    }

    /// The memory that it holds, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let text = self.proc("statm");
        let pages: u64 =
            text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        pages * rustix::param::page_size() as u64
    }

    fn proc(&self, file: &str) -> String {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.process.id()));
        std::fs::read_to_string(path).expect("Linux tells of processes")
    }

    /// Ends it as a failure of power would, as far as a process can feel it.
    pub(super) fn kill(mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it is gone");
    }
}
