//! A real node in a thread of its own, with a clock that the test moves.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use cordon::actors::Users;
use cordon::app::Node;
use cordon::cli;
use cordon::clock::Clock;
use cordon::domain::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

use super::record_schema::check_records;
use super::wire::{Message, ask_once};
use super::{Caller, Identity, Setup, eventually};

/// A running node. Its end, by [`TestNode::stop`] or by dropping it, checks the whole journal and
/// state store, so that every test is a test of the audit, too.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) ops_address: SocketAddr,
    pub(crate) clock: Clock,
    setup: Setup,
    running: Option<Running>,
}

struct Running {
    users: Users,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// A node that has been stopped and can be started again in the same folder.
pub(crate) struct Stopped {
    pub(crate) setup: Setup,
    now: Timestamp,
}

impl Stopped {
    pub(crate) fn start(self) -> TestNode {
        TestNode::start(self.setup, i64::from(self.now.unix_seconds()))
    }
}

impl TestNode {
    pub(crate) fn start(setup: Setup, now_s: i64) -> Self {
        Self::try_start(setup, now_s).unwrap_or_else(|error| panic!("the node starts: {error}"))
    }

    /// Starts a node that may refuse to start; answers its reason then.
    pub(crate) fn try_start(setup: Setup, now_s: i64) -> Result<Self, String> {
        let config = setup.config();
        let clock = Clock::fixed(Timestamp::from_unix_seconds(
            u32::try_from(now_s).expect("a time of a test"),
        ));
        let (started, start) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let told = clock.clone();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                match Node::start(&config, told).await {
                    Ok(node) => {
                        let users = node.users.clone();
                        let _ = started.send(Ok((node.address, node.ops_address, users)));
                        // An error means that the test has ended.
                        let _ = stopped.await;
                        node.stop().await;
                    }
                    Err(error) => drop(started.send(Err(format!("{error:#}")))),
                }
            });
        });
        let (address, ops_address, users) = start.recv().expect("the node's thread answers")?;
        let running = Some(Running { users, stop, thread });
        Ok(Self { address, ops_address, clock, setup, running })
    }

    /// A caller of the first app, with a connection of its own.
    pub(crate) fn caller(&self) -> Caller {
        self.caller_as(Identity::default())
    }

    pub(crate) fn caller_as(&self, identity: Identity) -> Caller {
        Caller::new(self.address, identity)
    }

    /// The settings it was started with.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The door behind the edge, for what has no call yet.
    pub(crate) fn users(&self) -> &Users {
        &self.running.as_ref().expect("the node runs").users
    }

    /// Sets the clock, in seconds since 1970.
    pub(crate) fn set_clock(&self, now_s: u32) {
        self.clock.set(Timestamp::from_unix_seconds(now_s));
    }

    /// Moves the clock forward.
    pub(crate) fn pass_ms(&self, ms: i64) {
        self.clock.set(Timestamp(self.clock.now().0 + ms));
    }

    /// Asks the listener for operators.
    pub(crate) fn ops(&self, path: &str) -> Message {
        ask_once(self.ops_address, "GET", path).expect("the ops listener answers")
    }

    /// The value of each sample whose line begins with `name`, by the text between the braces.
    pub(crate) fn samples(&self, name: &str) -> BTreeMap<String, f64> {
        self.ops("/metrics").samples(name)
    }

    /// Waits until every consequence of what was answered has happened: no user owes another one
    /// anything, and every webhook has been delivered.
    ///
    /// One look at each subscription after the answers suffices: it was done with all that was
    /// durable then. What comes later are cursors of webhooks, which cause none.
    pub(crate) fn settle(&self) {
        eventually("nothing is owed", || self.owed() == 0);
        let mut behind = self.lags();
        eventually("the webhooks are delivered", || {
            let lags = self.lags();
            // A replay that has ended has no lag.
            behind.retain(|lane, _| lags.get(lane).is_some_and(|lag| *lag != 0.0));
            behind.is_empty()
        });
    }

    fn owed(&self) -> usize {
        block_on(self.users().health()).owed
    }

    /// Records that the webhooks are not done with, by subscription.
    pub(crate) fn lags(&self) -> BTreeMap<String, f64> {
        self.samples("cordon_webhook_lag_records")
    }

    /// Stops the node and checks what it leaves.
    pub(crate) fn stop(mut self) -> Stopped {
        self.end();
        check(&self.setup);
        Stopped { setup: self.setup.clone(), now: self.clock.now() }
    }

    /// Stops the node and starts it again in the same folder.
    pub(crate) fn restart(self) -> Self {
        self.stop().start()
    }

    fn end(&mut self) {
        let Some(Running { users, stop, thread }) = self.running.take() else { return };
        drop(users);
        let _ = stop.send(());
        if thread.join().is_err() {
            // Its message has been printed by the thread itself.
            assert!(thread::panicking(), "the node's thread panicked");
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.end();
            if !thread::panicking() {
                check(&self.setup);
            }
        }
    }
}

/// Waits for what the actors answer; they have threads of their own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime for one wait").block_on(future)
}

/// Checks what a node has left.
#[track_caller]
fn check(setup: &Setup) {
    verify(setup);
    check_records(setup);
}

/// Runs `cordon verify` on the data folder of a node that does not run; everything has to hold, and
/// everything has to have been compared. Answers the report.
#[track_caller]
pub(crate) fn verify(setup: &Setup) -> Value {
    let (code, text) = audit(setup, &["verify", "--json"]);
    assert_eq!(code, 0, "cordon verify: {text}");
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    assert_eq!(report["holds"], true, "{text}");
    // A node that was killed may have been in the middle of a write.
    let notes = report["notes"].as_array().expect("a list");
    let cut_short = |note: &Value| note.as_str().is_some_and(|note| note.contains("cut short"));
    assert!(notes.iter().all(cut_short), "{text}");
    report
}

/// Runs a command of the program in this process; answers its exit code and what it prints.
pub(crate) fn audit(setup: &Setup, arguments: &[&str]) -> (u8, String) {
    let arguments = ["cordon"].iter().chain(arguments).map(OsString::from);
    let mut out = Vec::new();
    let code = cli::run(arguments, setup.environment(), &mut out);
    (code, String::from_utf8(out).expect("what is printed is text"))
}
