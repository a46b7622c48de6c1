//! A disk that answers with `EIO`. The journal's own tests do this at every byte of a file that fails on
//! demand; here it is the whole program, which a variable of debug builds tells what fails.

use std::fs;
use std::path::{Path, PathBuf};

use cordon::domain::{AppId, UserId, UserKey};
use cordon::journal::partition_of;
use serde_json::json;

use super::ends_well;
use crate::support::{
    APP, Answer, Caller, Setup, TestProcess, TestSubscriber, eventually, keys_of_one_book, names,
    skip, verify,
};

/// A node whose disk fails as it is told.
struct OnABadDisk {
    setup: Setup,
    errors: PathBuf,
    /// None while it is changed for another.
    node: Option<TestProcess>,
    targets: Vec<String>,
    /// How many of the targets are blocked for certain.
    blocked: usize,
}

impl OnABadDisk {
    /// None for a release build, which cannot be told.
    fn start(setup: Setup) -> Option<Self> {
        let (setup, errors) = told_by_a_file(setup)?;
        let node = TestProcess::start(&setup);
        let targets = names("x", 50);
        let mut caller = node.caller();
        caller.import(&targets.iter().map(String::as_str).collect::<Vec<_>>());
        caller.import(&["amy"]);
        let mut disk = Self { setup, errors, node: Some(node), targets, blocked: 0 };
        for _ in 0..10 {
            assert_eq!(disk.block(&mut caller).ok().codes(), [0]);
            disk.blocked += 1;
        }
        Some(disk)
    }

    /// Has these operations fail from now on; none for a disk that is well.
    fn fails(&self, operations: &str) {
        tell(&self.errors, operations);
    }

    /// Blocks the next target.
    fn block(&self, caller: &mut Caller) -> Answer {
        let body = json!({"From_Account": "amy", "To_Account": [self.targets[self.blocked]]});
        caller.call("sns/black_list_add", &body)
    }

    /// What was acknowledged is there, and of the others at most the one that was asked for.
    fn check(&self) -> usize {
        let body = json!({"From_Account": "amy", "To_Account": self.targets,
            "CheckType": "BlackCheckResult_Type_Both"});
        let mut caller = self.node().caller();
        let mut answer = caller.call("sns/black_list_check", &body);
        // One that meets the moment in which a partition drops what is not durable is asked again.
        eventually("questions are answered", || {
            let answered = answer.code() == 0 && answer.codes().iter().all(|code| *code == 0);
            if !answered {
                answer = caller.call("sns/black_list_check", &body);
            }
            answered
        });
        let there = answer.relations().iter().take_while(|relation| **relation == "AWithB").count();
        assert!(answer.relations()[there..].iter().all(|relation| *relation == "NO"));
        there
    }

    fn readiness(&self) -> (u16, String) {
        let answer = self.node().ops("/readyz");
        (answer.status(), answer.text().to_owned())
    }

    fn node(&self) -> &TestProcess {
        self.node.as_ref().expect("it runs")
    }

    /// Ends the node, in order or not, and starts it again on a disk that is well.
    fn restart(&mut self, end: impl FnOnce(TestProcess)) {
        self.fails("");
        end(self.node.take().expect("it runs"));
        verify(&self.setup);
        self.node = Some(TestProcess::start(&self.setup));
    }

    fn end(mut self) {
        ends_well(self.node.take().expect("it runs"), &self.setup);
    }
}

/// A disk that fails as the file says; nothing for a release build, which cannot be told.
fn told_by_a_file(setup: Setup) -> Option<(Setup, PathBuf)> {
    if !cfg!(debug_assertions) {
        skip("a release build has no bad disk", "To run it, build for tests.", &[]);
        return None;
    }
    let errors = setup.folder().join("disk-errors");
    Some((setup.hook("TEST_DISK_ERRORS", &errors.display().to_string()), errors))
}

fn tell(errors: &Path, operations: &str) {
    // Nobody reads half of it.
    let draft = errors.with_extension("draft");
    fs::write(&draft, operations).expect("a file of the test");
    fs::rename(draft, errors).expect("a file of the test");
}

fn end_in_order(node: TestProcess) {
    node.terminate();
    assert!(node.wait().success());
}

/// The journal of the first service that is asked cannot be written. Rule: rest-api.md 11.
const BROKEN: u64 = 30006;
/// The same of messages.
const MESSAGES_BROKEN: u64 = 91000;
/// What may be said of somebody who is not known at the moment.
const TROUBLE: [u64; 4] = [BROKEN, 30007, 60007, 60008];
/// What the system says.
const EIO: &str = "Input/output error";
/// Messages that a segment has no room for, and how long each is.
const MESSAGES: usize = 24;
const MESSAGE_BYTES: usize = 60_000;

#[test]
fn what_the_disk_does_not_take_is_not_acknowledged_and_the_node_goes_on_once_it_does() {
    let Some(mut disk) = OnABadDisk::start(Setup::new()) else { return };
    let mut caller = disk.node().caller();
    disk.fails("write");
    assert_eq!(disk.block(&mut caller).code(), BROKEN);
    let (status, reason) = disk.readiness();
    assert!(status == 503 && reason.contains(EIO), "{status}: {reason}");
    assert_eq!(disk.node().ops("/healthz").status(), 200);
    assert_eq!(disk.block(&mut caller).code(), BROKEN);
    assert_eq!(disk.check(), disk.blocked, "questions are answered, of durable facts");
    disk.fails("");
    eventually("the node is ready again", || disk.readiness().0 == 200);
    assert_eq!(disk.block(&mut caller).ok().codes(), [0]);
    disk.blocked += 1;
    drop(caller);
    disk.restart(end_in_order);
    assert_eq!(disk.check(), disk.blocked);
    disk.end();
}

#[test]
fn what_the_disk_may_have_lost_is_not_acknowledged_and_known_after_a_restart() {
    let Some(mut disk) = OnABadDisk::start(Setup::new()) else { return };
    for end in [end_in_order as fn(TestProcess), TestProcess::kill] {
        let mut caller = disk.node().caller();
        disk.fails("sync");
        assert_eq!(disk.block(&mut caller).code(), BROKEN);
        // The disk is well again, but what it holds is not known.
        disk.fails("");
        for _ in 0..3 {
            assert_eq!(disk.block(&mut caller).code(), BROKEN);
            let (status, reason) = disk.readiness();
            assert!(
                status == 503 && reason.contains("until the node is restarted"),
                "{status}: {reason}"
            );
        }
        assert_eq!(disk.check(), disk.blocked, "questions are answered, of durable facts");
        drop(caller);
        disk.restart(end);
        // The one in doubt was never acknowledged, so it may be there.
        let there = disk.check();
        assert!((disk.blocked..=disk.blocked + 1).contains(&there), "{there}");
        disk.blocked = there;
        assert_eq!(disk.block(&mut disk.node().caller()).ok().codes(), [0]);
        disk.blocked += 1;
        assert_eq!(disk.check(), disk.blocked);
    }
    disk.restart(TestProcess::kill);
    assert_eq!(disk.check(), disk.blocked);
    disk.end();
}

/// What lies in the journal's folder, byte by byte.
fn journal_of(setup: &Setup) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = fs::read_dir(setup.data_dir().join("journal")).expect("a folder");
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("a file"));
    let mut files: Vec<_> = listed.map(|entry| read(entry.expect("a file").path())).collect();
    files.sort();
    files
}

#[test]
fn a_journal_that_cannot_be_read_is_a_reason_not_to_start_and_nothing_is_cut() {
    let Some(mut disk) = OnABadDisk::start(Setup::new()) else { return };
    for end in [end_in_order as fn(TestProcess), TestProcess::kill] {
        end(disk.node.take().expect("it runs"));
        let before = journal_of(&disk.setup);
        for operation in ["read", "create-journal"] {
            disk.fails(operation);
            let reason = TestProcess::refuse(&disk.setup);
            assert!(reason.contains(EIO), "{operation}: {reason}");
            assert!(journal_of(&disk.setup) == before, "{operation}: the journal was changed");
        }
        disk.fails("");
        disk.node = Some(TestProcess::start(&disk.setup));
        assert_eq!(disk.check(), disk.blocked);
        assert_eq!(disk.block(&mut disk.node().caller()).ok().codes(), [0]);
        disk.blocked += 1;
    }
    disk.end();
}

#[test]
fn a_first_start_that_could_not_create_something_is_made_good_by_the_next() {
    let Some((setup, errors)) = told_by_a_file(Setup::new()) else { return };
    for operation in ["create-journal", "create-segment", "create-settings", "create-store"] {
        tell(&errors, operation);
        let reason = TestProcess::refuse(&setup);
        assert!(reason.contains(EIO), "{operation}: {reason}");
    }
    tell(&errors, "");
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
    drop(caller);
    ends_well(node, &setup);
}

#[test]
fn a_segment_that_cannot_be_created_is_an_answer_and_created_later() {
    let setup = Setup::new().set("JOURNAL_SEGMENT_BYTES", "1 MiB");
    let Some(mut disk) = OnABadDisk::start(setup.set("C2C_MESSAGE_BYTES_MAX", "64 KiB")) else {
        return;
    };
    let mut caller = disk.node().caller();
    let text = "x".repeat(MESSAGE_BYTES);
    let mut send = |number: usize| {
        let body = json!({"From_Account": "amy", "To_Account": "x0000", "MsgSeq": number,
            "MsgRandom": number,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}]});
        caller.call("openim/sendmsg", &body).code()
    };
    disk.fails("create-segment");
    let sent = (0..MESSAGES).take_while(|number| send(*number) == 0).count();
    assert!(sent > 0 && sent < MESSAGES, "{sent} were taken");
    assert_eq!(send(sent), MESSAGES_BROKEN);
    let (status, reason) = disk.readiness();
    assert!(status == 503 && reason.contains(EIO), "{status}: {reason}");
    assert_eq!(disk.check(), disk.blocked, "questions are answered, of durable facts");
    disk.fails("");
    eventually("the node is ready again", || disk.readiness().0 == 200);
    assert!((sent..2 * MESSAGES).all(|number| send(number) == 0));
    assert!(journal_of(&disk.setup).len() > 3, "there are several segments");
    assert_eq!(disk.block(&mut disk.node().caller()).ok().codes(), [0]);
    disk.blocked += 1;
    for end in [TestProcess::kill as fn(TestProcess), end_in_order] {
        disk.restart(end);
        assert_eq!(disk.check(), disk.blocked);
    }
    disk.end();
}

#[test]
fn webhooks_wait_while_the_journal_cannot_be_read_and_none_is_left_out() {
    let subscriber = TestSubscriber::start();
    let Some(mut disk) = OnABadDisk::start(Setup::new().webhook(&subscriber)) else { return };
    subscriber.until_accepted(disk.blocked);
    let mut caller = disk.node().caller();
    for _ in 0..3 {
        let before = TestProcess::everything_said(&disk.setup).len();
        disk.fails("read");
        for _ in 0..5 {
            assert_eq!(disk.block(&mut caller).ok().codes(), [0], "it is written all the same");
            disk.blocked += 1;
        }
        let failed = "cannot be read for the webhooks";
        // Of this round: nothing is printed beside the log, so it grows at its end.
        let said = || TestProcess::everything_said(&disk.setup).split_off(before);
        eventually("the node says so", || said().contains(failed));
        assert_eq!(subscriber.accepted().len(), disk.blocked - 5);
        disk.fails("");
        subscriber.until_accepted(disk.blocked);
    }
    let told = subscriber.accepted().into_iter().flat_map(|heard| heard.pairs());
    let mut told: Vec<String> = told.map(|(_, target)| target).collect();
    // One whose answer came too late may have been told again.
    told.dedup();
    assert_eq!(told, disk.targets[..disk.blocked]);
    drop(caller);
    disk.end();
}

#[test]
fn rows_that_cannot_be_read_are_never_taken_for_rows_that_are_not_there() {
    // Most users are nobody's actors, and are read from rows.
    let setup = Setup::new()
        .set("ACTORS_RESIDENT_USERS_MAX", "4")
        .set("STORE_CHECKPOINT_INTERVAL_MS", "20");
    let Some(mut disk) = OnABadDisk::start(setup) else { return };
    let mut caller = disk.node().caller();
    caller.import(&["bob"]);
    for target in &disk.targets {
        assert_eq!(caller.block(target, &["bob"]).codes(), [0]);
    }
    // Who was answered rightly; of the others it is said that nobody knows.
    let mut right = || {
        let mut ask = |target: &String| {
            let body = json!({"From_Account": target, "StartIndex": 0, "MaxLimited": 10,
                "LastSequence": 0});
            let answer = caller.call("sns/black_list_get", &body);
            let is_answered = answer.code() == 0;
            assert!(!is_answered || answer.names() == ["bob"], "{target}: {}", answer.body);
            assert!(is_answered || TROUBLE.contains(&answer.code()), "{target}: {}", answer.body);
            is_answered
        };
        disk.targets.iter().filter(|target| ask(target)).count()
    };
    eventually("all are answered", || right() == disk.targets.len());
    for _ in 0..3 {
        disk.fails("rows");
        eventually("rows are read", || right() < disk.targets.len());
        // Nobody has to do anything.
        disk.fails("");
        eventually("all are answered again", || right() == disk.targets.len());
    }
    assert_eq!(disk.check(), disk.blocked);
    drop(caller);
    disk.restart(TestProcess::kill);
    assert_eq!(disk.check(), disk.blocked);
    disk.end();
}

/// Of an account that nobody can read it is not known whether it was imported; the other one was.
#[test]
fn an_import_that_half_of_it_met_trouble_is_not_kept_as_its_answer() {
    let Some(mut disk) = OnABadDisk::start(Setup::new()) else { return };
    let import = "im_open_login_svc/multiaccount_import";
    let ([first, key], book) = keys_of_one_book();
    let user = |name: &str| UserId::parse(name).expect("a name");
    let partitions = disk.setup.config().journal.partitions;
    let home = |user| partition_of(&UserKey { app: AppId(APP), user }, partitions);
    // A partition with an account that cannot be read answers nobody for a while: not the others' one.
    let unknown = names("unknown", 50).into_iter().find(|name| {
        let home_of_unknown = home(user(name));
        home_of_unknown != home(book) && home_of_unknown != home(user("known"))
    });
    let unknown = &*unknown.expect("there are several partitions");
    disk.node().caller().import(&["known", unknown]);
    disk.restart(end_in_order);
    let mut caller = disk.node().caller();
    // What is in memory from here on: one of the accounts, and the book of both keys.
    caller.call_keyed(import, &first, &json!({"Accounts": ["known"]})).ok();
    disk.fails("rows");
    let entry = |name: &str| json!({"UserID": name, "Nick": "new"});
    let body = json!({"AccountList": [entry("known"), entry(unknown)]});
    let half = caller.call_keyed(import, &key, &body).ok();
    assert_eq!(half.body["FailAccounts"], json!([unknown]));
    disk.fails("");
    eventually("the other account is imported as well", || {
        caller.call_keyed(import, &key, &body).body["FailAccounts"] == json!([])
    });
    drop(caller);
    disk.end();
}
