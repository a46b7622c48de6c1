//! The program as it is started, asked to stop, and read by operators. Rule: extensions.md 5 and 6.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::crash::{Mind, load};
use crate::support::{
    APP, Answer, Connection, Identity, KEY, Random, Reaction, STOP_MAX, Setup, TestProcess,
    TestSubscriber, ask_once, audit, command, eventually, holds_within, kafka, names, skip, soon,
    verify,
};

/// A filter that lets everything through.
const EVERYTHING: &str = "trace,actix_server=trace,fjall=trace,lsm_tree=trace";
/// The grace of calls under way, in seconds, and how long a stop may take that has none to wait for, on any
/// disk: far less.
const LONG_GRACE_S: &str = "120";
const PROMPT: Duration = Duration::from_secs(60);
/// The same for a node that is still starting: less than a start is patient.
const PROMPT_AT_START: Duration = Duration::from_secs(20);

#[test]
fn a_stop_under_load_is_clean_and_loses_nothing() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("JOURNAL_PARTITIONS", "8");
    let node = TestProcess::start(&setup);
    let mut minds = Mind::several(&mut node.caller(), &mut Random::new(7));
    load(node, &mut minds, 500, |node| {
        node.terminate();
        assert!(node.wait().success());
    });
    verify(&setup);
    let (_, records) = audit(&setup, &["replay", "--all", "--json"]);
    let last = last_kinds(&records);
    assert_eq!(last.len(), 8);
    assert!(last.values().all(|kind| kind == "release"), "{last:?}");

    let node = TestProcess::start(&setup);
    for mind in &mut minds {
        mind.check(&mut node.caller());
    }
    node.terminate();
    assert!(node.wait().success());
    verify(&setup);
}

/// Rule: a clean stop proves that all before it was acknowledged, so nothing of it passes for a torn tail.
#[test]
fn damage_to_the_last_record_before_a_clean_stop_is_found() {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    node.caller().import(&["amy", "bob"]);
    node.terminate();
    assert!(node.wait().success());
    let journal = setup.data_dir().join("journal");
    let files = fs::read_dir(&journal).expect("it is there");
    let segments = files.map(|file| file.expect("a file").path());
    let mut segments: Vec<PathBuf> =
        segments.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    let last = segments.pop().expect("a segment");
    let mut bytes = fs::read(&last).expect("readable");
    let release = br#""kind":"release""#;
    let place = bytes.windows(release.len()).rposition(|bytes| bytes == release);
    bytes[place.expect("the last record is one")] ^= 1;
    fs::write(&last, bytes).expect("writable");
    let (code, report) = audit(&setup, &["verify"]);
    assert_ne!(code, 0, "{report}");
    assert!(report.contains("wrong checksum"), "{report}");
}

/// The kind of the last record of each partition.
fn last_kinds(records: &str) -> BTreeMap<u64, String> {
    let records = records
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("a line of replay is JSON") });
    let kind = |record: Value| {
        let partition = record["partition"].as_u64().expect("a partition");
        let kind = record["record"]["kind"].as_str().or(record["kind"].as_str());
        (partition, kind.unwrap_or_else(|| panic!("no kind: {record}")).to_owned())
    };
    records.map(kind).collect()
}

#[test]
fn a_call_under_way_is_answered_before_the_end() {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    node.caller().import(&["amy", "bob"]);
    let body = json!({"From_Account": "amy", "To_Account": ["bob"]}).to_string();
    let target = format!("/v4/sns/black_list_add?{}", Identity::default().query());
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: cordon\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(node.address).expect("the node listens");
    connection.send(head.as_bytes()).expect("sent");
    // From now on the call is under way: the node waits for its body.
    assert_eq!(connection.receive().expect("an answer").status(), 100);
    node.terminate();
    eventually("nobody is let in any more", || Connection::open(node.address).is_err());
    connection.send(body.as_bytes()).expect("sent");
    let answer = Answer::of(connection.receive_answer(&target).expect("an answer")).ok();
    assert_eq!(answer.codes(), [0]);
    assert!(node.wait().success());
    verify(&setup);
}

#[test]
fn idle_connections_do_not_hold_up_a_stop() {
    let node = TestProcess::start(&Setup::new().set("SHUTDOWN_GRACE_S", LONG_GRACE_S));
    let mut callers: Vec<_> = (0..4).map(|_| node.caller()).collect();
    for caller in &mut callers {
        caller.import(&["amy"]);
    }
    let began = Instant::now();
    node.terminate();
    assert!(node.wait().success());
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    drop(callers);
}

#[test]
fn a_node_that_is_told_to_stop_while_it_starts_does_not_finish_its_start() {
    if !cfg!(debug_assertions) {
        skip("a release build has no bad disk", "To run it, build for tests.", &[]);
        return;
    }
    let setup = Setup::new();
    let errors = setup.folder().join("disk-errors");
    let setup = setup.hook("TEST_DISK_ERRORS", &errors.display().to_string());
    let node = TestProcess::start(&setup);
    node.caller().import(&["amy"]);
    node.terminate();
    assert!(node.wait().success());

    // Nobody may claim a partition: a start is patient with that for longer than a stop may take.
    fs::write(&errors, "write").expect("a file of the test");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let log = setup.folder().join("log.txt");
        let mut child = command(&setup)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file of the test"))
            .spawn()
            .expect("the program starts");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let recovered = soon(|| said().contains("the state is recovered"));
        let began = Instant::now();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("it has an id");
        let told = kill_process(pid, signal);
        let ended = soon(|| child.try_wait().is_ok_and(|status| status.is_some()));
        let took = began.elapsed();
        // Also one that would go on.
        let _ = child.kill();
        let output = child.wait_with_output().expect("it has ended");
        let is_prompt = took < PROMPT_AT_START;
        assert!(recovered && told.is_ok() && ended && is_prompt, "{took:?}: {}", said());
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}: {}", said());
    }
    fs::remove_file(errors).expect("a file of the test");
    verify(&setup);
}

/// The program in a start of which nothing is expected yet.
struct Starting {
    child: Child,
    log: PathBuf,
}

impl Starting {
    fn of(setup: &Setup) -> Self {
        let mut command = command(setup);
        command.arg("serve");
        Self::by(command, setup)
    }

    fn by(mut command: Command, setup: &Setup) -> Self {
        let log = setup.folder().join("log.txt");
        let child = command
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file of the test"))
            .spawn()
            .expect("the program starts");
        Self { child, log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a file of the test")
    }

    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it has an id"), signal).expect("it takes signals");
    }

    /// Waits for its end. Answers whether that was orderly, and what it printed.
    fn end(&mut self) -> (bool, String) {
        let mut status = None;
        let ended = holds_within(STOP_MAX, || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(ended, "{}", self.said());
        let mut printed = String::new();
        if let Some(mut output) = self.child.stdout.take() {
            output.read_to_string(&mut printed).expect("text");
        }
        (status.is_some_and(|status| status.success()), printed)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // After a failed test; otherwise it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn operators_are_answered_while_the_journal_is_read_and_a_stop_meanwhile_is_orderly() {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    node.caller().import(&["amy"]);
    node.terminate();
    assert!(node.wait().success());

    // A file of the journal that cannot be read before the test says so.
    let meta = setup.data_dir().join("journal/meta.json");
    let content = fs::read(&meta).expect("a journal");
    fs::remove_file(&meta).expect("a file of the journal");
    assert!(Command::new("mkfifo").arg(&meta).status().expect("mkfifo runs").success());
    let mut node = Starting::of(&setup);
    let mut address: Option<SocketAddr> = None;
    eventually("the log says where operators ask", || {
        let said = node.said();
        let told = said.split_once("ops.address=").and_then(|(_, rest)| rest.lines().next());
        address = told.and_then(|text| text.trim().parse().ok());
        address.is_some()
    });
    let address = address.expect("it was found");
    let ask = |path| {
        let answer = ask_once(address, "GET", path).expect("operators are answered");
        (answer.status(), answer.text().to_owned())
    };
    assert_eq!(ask("/healthz").0, 200);
    assert_eq!(ask("/readyz"), (503, "the node is starting\n".to_owned()));
    assert_eq!(ask("/metrics"), (200, "# EOF\n".to_owned()));
    node.terminate();
    assert_eq!(ask("/healthz").0, 200);
    // Waits until somebody reads.
    fs::write(&meta, &content).expect("a file of the test");
    assert_eq!(node.end(), (true, String::new()), "{}", node.said());
    fs::remove_file(&meta).expect("a file of the test");
    fs::write(&meta, &content).expect("a file of the journal");
    verify(&setup);
}

#[test]
fn a_node_serves_also_when_nobody_reads_what_it_prints() {
    let setup = Setup::new();
    let mut node = Starting::of(&setup);
    drop(node.child.stdout.take());
    eventually("it is ready", || node.said().contains("cordon::cli::serve: ready"));
    assert!(node.said().contains("where the node listens"), "{}", node.said());
    node.terminate();
    assert!(node.end().0, "{}", node.said());
    let (_, records) = audit(&setup, &["replay", "--all", "--json"]);
    assert!(last_kinds(&records).values().all(|kind| kind == "release"));
}

#[test]
fn a_node_stops_in_order_when_its_terminal_is_closed_unless_it_was_started_to_outlive_it() {
    let setup = Setup::new();
    let mut node = Starting::of(&setup);
    eventually("it is ready", || node.said().contains("cordon::cli::serve: ready"));
    node.signal(Signal::HUP);
    assert!(node.end().0, "{}", node.said());
    assert!(node.said().contains("cordon::cli::serve: stopped"), "{}", node.said());

    let program = command(&setup);
    let mut outliving = Command::new("sh");
    outliving.args(["-c", "trap '' HUP; exec \"$0\" serve"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => outliving.env(name, value),
            None => outliving.env_remove(name),
        };
    }
    outliving.current_dir(setup.folder());
    let mut node = Starting::by(outliving, &setup);
    eventually("it is ready", || node.said().contains("cordon::cli::serve: ready"));
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).expect("Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let ignored = u64::from_str_radix(mask.trim(), 16).expect("a number");
    assert_eq!(ignored & 1, 1, "the first signal is ignored: {mask}");
    node.signal(Signal::HUP);
    node.terminate();
    assert!(node.end().0, "{}", node.said());
}

/// Nothing that was said has one of these texts in it.
#[track_caller]
fn has_none_of(said: &str, secrets: &[&str]) {
    for secret in secrets {
        let line = said.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[test]
fn nothing_secret_is_printed_or_logged() {
    let (token, secret) = ("t0ken-of-the-subscriber", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    for (format, variable, value) in [
        ("reference", "WEBHOOK_TOKEN", token),
        ("standard", "WEBHOOK_SECRETS", &*format!("whsec_{secret}")),
    ] {
        let subscriber = TestSubscriber::start();
        let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_FORMAT", format);
        let setup = setup.set(variable, value).set("LOG_LEVEL", EVERYTHING);
        let node = TestProcess::start(&setup);
        let mut caller = node.caller();
        caller.import(&["amy", "bob"]);
        caller.befriend("amy", &["bob"]);
        subscriber.react(Reaction::Status(500));
        let block = json!({"From_Account": "amy", "To_Account": ["bob"]});
        caller.call_keyed("sns/black_list_add", "key-of-a-call", &block).ok();
        subscriber.until("failures", |heard| heard.len() >= 3);
        subscriber.react(Reaction::Accept);
        let forged = Identity::new(APP, "another key", "administrator");
        let expired = "xxx".repeat(30);
        for usersig in [&forged.usersig, &expired] {
            let query = Identity { usersig: usersig.clone(), ..Identity::default() }.query();
            let body = br#"{"From_Account":"amy","To_Account":["secret-body"]}"#;
            assert_ne!(caller.call_with("sns/black_list_add", &query, body).code(), 0);
        }
        let own = Identity::default();
        caller.call_with("sns/black_list_add", &own.query(), b"{\"secret-body\":");
        node.terminate();
        assert!(node.wait().success());
        let said = TestProcess::everything_said(&setup);
        assert!(said.contains("a call was answered") && said.contains("webhook not delivered"));
        assert!(said.contains("TRACE"), "it was said all that can be");
        has_none_of(&said, &[KEY, token, secret, "key-of-a-call", "secret-body", "PairList"]);
        has_none_of(&said, &[&own.usersig, &forged.usersig, &expired]);
        for heard in subscriber.heard() {
            has_none_of(&said, heard.parameter("Sign").as_slice());
            let signatures = heard.header("webhook-signature").split(' ');
            has_none_of(&said, &signatures.filter(|one| !one.is_empty()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nodes_that_talk_to_each_other_say_nothing_secret() {
    let Some(kafka) = kafka::shared() else { return };
    let secret = "what-all-nodes-of-this-cluster-share";
    let trace = |setup: Setup| setup.set("NODE_SECRET", secret).set("LOG_LEVEL", EVERYTHING);
    let setups: Vec<Setup> = Setup::cluster(kafka, 2).into_iter().map(trace).collect();
    let nodes: Vec<TestProcess> = thread::scope(|scope| {
        let starting: Vec<_> =
            setups.iter().map(|setup| scope.spawn(|| TestProcess::start(setup))).collect();
        starting.into_iter().map(|node| node.join().expect("it starts")).collect()
    });
    let names = names("secret-name", 20);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for node in &nodes {
        node.caller().import(&names);
        names.chunks(2).for_each(|pair| drop(node.caller().befriend(pair[0], &pair[1..])));
    }
    nodes.iter().for_each(TestProcess::terminate);
    assert!(nodes.into_iter().all(|node| node.wait().success()));
    for setup in &setups {
        let said = TestProcess::everything_said(setup);
        assert!(said.contains("TRACE"), "it was said all that can be");
        has_none_of(&said, &[secret, KEY, &Identity::default().usersig]);
    }
}

#[test]
fn without_settings_there_is_an_app_to_try() {
    let setup = Setup::new().unset("APP_ID").unset("APP_KEY").unset("RATE_LIMITS");
    let node = TestProcess::start(&setup);
    let address: SocketAddr = node.address;
    eventually("an example is printed", || printed(&setup).contains("-d '"));
    let said = printed(&setup);
    let example = said.lines().find(|line| line.starts_with("curl ")).expect("an example");
    let parts: Vec<&str> = example.split('\'').collect();
    let target = parts[1].strip_prefix(&format!("http://{address}")).expect("a call of the node");
    let mut connection = Connection::open(address).expect("the node listens");
    let answer = connection.ask("POST", target, parts[3].as_bytes()).expect("an answer");
    assert_eq!(Answer::of(answer).ok().codes(), [0]);

    // The program signs for the same app.
    let output = command(&setup).args(["usersig", "--identifier", "administrator"]).output();
    let usersig = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let app = target.split(['=', '&']).nth(1).and_then(|id| id.parse().ok()).expect("an app");
    let identity =
        Identity { app, identifier: "administrator".into(), usersig: usersig.trim().into() };
    let target = format!("/v4/sns/black_list_get?{}", identity.query());
    let answer = connection.ask("POST", &target, br#"{"From_Account":"amy"}"#).expect("an answer");
    assert_eq!(Answer::of(answer).ok().names(), ["bob"]);

    // What is shown to the newcomer stays out of the log.
    node.terminate();
    assert!(node.wait().success());
    let log = fs::read_to_string(setup.folder().join("stderr.txt")).expect("a log");
    let shown = target_usersig(parts[1]);
    assert!(!log.contains(shown) && !log.contains(usersig.trim()), "{log}");
}

fn target_usersig(target: &str) -> &str {
    let (_, rest) = target.split_once("usersig=").expect("a signature");
    rest.split('&').next().expect("it ends")
}

fn printed(setup: &Setup) -> String {
    fs::read_to_string(setup.folder().join("stdout.txt")).unwrap_or_default()
}

#[test]
fn settings_that_are_wrong_and_addresses_in_use_end_a_start() {
    let node = TestProcess::start(&Setup::new());
    let address = node.address.to_string();
    for (setup, reason) in [
        (Setup::new().set("LISTNE", "127.0.0.1:0"), "CORDON_LISTNE"),
        (Setup::new().set("HTTP_WORKERS", "none"), "CORDON_HTTP_WORKERS"),
        (Setup::new().set("LISTEN", &address), address.as_str()),
        (Setup::new().set("APP_KEY", ""), "CORDON_APP_KEY"),
        (Setup::new().set("JOURNAL", "kafka"), "kafka"),
    ] {
        let output = command(&setup).arg("serve").output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{reason}");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains(reason), "{reason}: {log}");
        assert!(!log.contains(KEY), "{log}");
    }
    node.terminate();
    assert!(node.wait().success());
}
