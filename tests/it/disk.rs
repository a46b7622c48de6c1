//! A node whose disk is full, and one whose folder cannot be written: the real program, which never panics.

use serde_json::json;

use crate::faults::ends_well;
use crate::support::{Caller, Mount, Setup, TestProcess, eventually, names};

/// Blocks on and on, until a call is refused; answers how many succeeded and the code.
fn block_until_refused(caller: &mut Caller, targets: &[String]) -> (Vec<String>, u64) {
    let mut blocked = Vec::new();
    for target in targets {
        let body = json!({"From_Account": "amy", "To_Account": [target]});
        let answer = caller.call("sns/black_list_add", &body);
        match answer.code() {
            0 if answer.codes() == [0] => blocked.push(target.clone()),
            0 => panic!("{}", answer.body),
            code => return (blocked, code),
        }
    }
    (blocked, 0)
}

/// A node on a disk that has just become full.
struct OnAFullDisk {
    // Before the disk that it is on.
    node: TestProcess,
    setup: Setup,
    targets: Vec<String>,
    /// How many of them were blocked and acknowledged before.
    acknowledged: usize,
    mount: Mount,
}

impl OnAFullDisk {
    /// None where the test may not mount.
    fn new() -> Option<Self> {
        let setup = Setup::new().set("JOURNAL_SEGMENT_BYTES", "1 MiB");
        let mount = Mount::new(setup.data_dir(), "256m")?;
        let node = TestProcess::start(&setup);
        let mut caller = node.caller();
        let targets = names("x", 1000);
        caller.import(&targets.iter().map(String::as_str).collect::<Vec<_>>());
        caller.import(&["amy"]);
        assert_eq!(caller.block("amy", &[&targets[0]]).codes(), [0]);

        mount.fill();
        let (blocked, code) = block_until_refused(&mut caller, &targets[1..]);
        assert_eq!(code, 30006, "after {} blocks", blocked.len());
        let import = json!({"UserID": "latecomer"});
        let answer = caller.call("im_open_login_svc/account_import", &import);
        assert_eq!(answer.code(), 70500, "{}", answer.body);
        eventually("the node says that it is not ready", || node.ops("/readyz").status() == 503);
        Some(Self { node, setup, targets, acknowledged: 1 + blocked.len(), mount })
    }

    /// Nobody knows of the one that was refused; all before it are there, and all behind it are not.
    fn check_blocks(&self) {
        let targets: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        let answer = self.node.caller().blocks("amy", &targets);
        let relations = answer.relations();
        let (before, behind) = relations.split_at(self.acknowledged);
        assert!(before.iter().all(|relation| *relation == "AWithB"));
        assert!(behind[1..].iter().all(|relation| *relation == "NO"));
    }

    /// There is room again: the others are blocked now, and the node ends in order.
    fn blocks_the_others(self) {
        let others: Vec<&str> =
            self.targets[self.acknowledged + 1..].iter().map(String::as_str).collect();
        assert_eq!(self.node.caller().block("amy", &others).failed(), [""; 0]);
        ends_well(self.node, &self.setup);
        let node = TestProcess::start(&self.setup);
        let last = others[others.len() - 1];
        let relations = node.caller().blocks("amy", &[&self.targets[0], last]);
        assert_eq!(relations.relations(), ["AWithB"; 2]);
        ends_well(node, &self.setup);
    }
}

#[test]
fn a_full_disk_is_an_answer_and_loses_nothing() {
    let Some(mut disk) = OnAFullDisk::new() else { return };
    let node = &disk.node;
    assert_eq!(node.ops("/healthz").status(), 200);
    let calls = node.ops("/metrics").samples("cordon_http_calls_total");
    assert!(calls[r#"command="sns/black_list_add",code="30006""#] >= 1.0);
    let question = json!({"From_Account": "amy", "To_Account": disk.targets,
        "CheckType": "BlackCheckResult_Type_Both"});
    let answers = || node.caller().call("sns/black_list_check", &question).code() == 0;
    eventually("questions are answered while the disk is full", answers);
    disk.check_blocks();
    disk.mount.free();
    ends_well(disk.node, &disk.setup);
    disk.node = TestProcess::start(&disk.setup);
    assert_eq!(disk.node.ops("/readyz").status(), 200);
    disk.check_blocks();
    disk.blocks_the_others();
}

#[test]
fn a_node_that_is_killed_on_a_full_disk_is_whole_once_there_is_room_again() {
    let Some(mut disk) = OnAFullDisk::new() else { return };
    disk.node.kill();
    disk.mount.free();
    disk.node = TestProcess::start(&disk.setup);
    disk.check_blocks();
    disk.blocks_the_others();
}

#[test]
fn a_node_goes_on_by_itself_once_there_is_room_again() {
    let Some(disk) = OnAFullDisk::new() else { return };
    disk.mount.free();
    eventually("the node is ready again", || disk.node.ops("/readyz").status() == 200);
    disk.check_blocks();
    disk.blocks_the_others();
}

#[test]
fn a_folder_that_cannot_be_written_is_a_reason_not_to_start() {
    let setup = Setup::new();
    let Some(mount) = Mount::new(setup.data_dir(), "256m") else { return };
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    drop(caller);
    ends_well(node, &setup);
    mount.remount("ro");
    let reason = TestProcess::refuse(&setup);
    assert!(reason.contains("Read-only file system"), "{reason}");
    mount.remount("rw");
    let node = TestProcess::start(&setup);
    assert_eq!(node.caller().blocks("amy", &["bob"]).relations(), ["AWithB"]);
    ends_well(node, &setup);
}
