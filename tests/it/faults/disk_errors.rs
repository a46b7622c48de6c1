//! A disk that answers with `EIO`. The journal's own tests do this at every byte of a file that fails on
//! demand; here it is the whole program, which a variable of debug builds tells what fails.

use std::fs;
use std::path::PathBuf;

use crate::support::{Answer, Caller, Setup, TestProcess, eventually, names, skip, verify};

use serde_json::json;

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
    fn start() -> Option<Self> {
        if !cfg!(debug_assertions) {
            skip("a release build has no bad disk", "To run it, build for tests.", &[]);
            return None;
        }
        let setup = Setup::new();
        let errors = setup.folder().join("disk-errors");
        let setup = setup.hook("TEST_DISK_ERRORS", &errors.display().to_string());
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
        // Nobody reads half of it.
        let draft = self.errors.with_extension("draft");
        fs::write(&draft, operations).expect("a file of the test");
        fs::rename(draft, &self.errors).expect("a file of the test");
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
            let answered = answer.code() == 0;
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
        end_in_order(self.node.take().expect("it runs"));
        verify(&self.setup);
        let said = TestProcess::everything_said(&self.setup);
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn end_in_order(node: TestProcess) {
    node.terminate();
    assert!(node.wait().success());
}

/// The journal of the first service that is asked cannot be written. Rule: rest-api.md 11.
const BROKEN: u64 = 30006;

#[test]
fn what_the_disk_does_not_take_is_not_acknowledged_and_the_node_goes_on_once_it_does() {
    let Some(mut disk) = OnABadDisk::start() else { return };
    let mut caller = disk.node().caller();
    disk.fails("write");
    assert_eq!(disk.block(&mut caller).code(), BROKEN);
    let (status, reason) = disk.readiness();
    assert!(status == 503 && reason.contains("Input/output error"), "{status}: {reason}");
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
    let Some(mut disk) = OnABadDisk::start() else { return };
    for end in [end_in_order as fn(TestProcess), TestProcess::kill] {
        let mut caller = disk.node().caller();
        disk.fails("sync");
        assert_eq!(disk.block(&mut caller).code(), BROKEN);
        // The disk is well again, but what it holds is not known.
        disk.fails("");
        for _ in 0..3 {
            assert_eq!(disk.block(&mut caller).code(), BROKEN);
            let (status, reason) = disk.readiness();
            assert!(status == 503 && reason.contains("until the next start"), "{status}: {reason}");
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
