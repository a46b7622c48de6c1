//! A node whose disk is full, and one whose folder cannot be written.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Caller, Setup, TestNode, eventually, names};

/// A small file system in memory.
struct Mount(std::path::PathBuf);

impl Mount {
    /// None where the test may not mount.
    fn new(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder for the mount");
        let options = format!("size={size},mode=700");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], at).then(|| Self(at.to_owned()))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("there is room at first");
        // Smaller and smaller pieces, so that not one block is left.
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).expect("there was ballast");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

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

/// A node on a disk that has just become full, with what was blocked and acknowledged before.
fn on_a_full_disk(test: &str, check: impl FnOnce(TestNode, &Mount, &[&str], usize)) {
    let setup = Setup::new().set("JOURNAL_SEGMENT_BYTES", "1 MiB");
    let Some(mount) = Mount::new(setup.data_dir(), "256m") else {
        eprintln!("SKIPPED: {test}: may not mount a tmpfs");
        return;
    };
    let node = setup.start();
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
    drop(caller);
    let all: Vec<&str> = targets.iter().map(String::as_str).collect();
    check(node, &mount, &all, 1 + blocked.len());
}

/// Nobody knows of the one that was refused; all before it are there, and all behind it are not.
fn check_blocks(node: &TestNode, targets: &[&str], acknowledged: usize) {
    let answer = node.caller().blocks("amy", targets);
    let relations = answer.relations();
    let (before, behind) = relations.split_at(acknowledged);
    assert!(before.iter().all(|relation| *relation == "AWithB"));
    assert!(behind[1..].iter().all(|relation| *relation == "NO"));
}

#[test]
fn a_full_disk_is_an_answer_and_loses_nothing() {
    let test = "a_full_disk_is_an_answer_and_loses_nothing";
    on_a_full_disk(test, |node, mount, targets, acknowledged| {
        eventually("the node says that it is not ready", || node.ops("/readyz").status() == 503);
        assert_eq!(node.ops("/healthz").status(), 200);
        let calls = node.samples("cordon_http_calls_total");
        assert!(calls[r#"command="sns/black_list_add",code="30006""#] >= 1.0);
        let question = json!({"From_Account": "amy", "To_Account": targets,
            "CheckType": "BlackCheckResult_Type_Both"});
        let answers = || node.caller().call("sns/black_list_check", &question).code() == 0;
        eventually("questions are answered while the disk is full", answers);
        check_blocks(&node, targets, acknowledged);
        mount.free();
        let node = node.restart();
        assert_eq!(node.ops("/readyz").status(), 200);
        check_blocks(&node, targets, acknowledged);
        assert_eq!(node.caller().block("amy", &targets[acknowledged + 1..]).failed(), [""; 0]);
        node.stop();
    });
}

#[test]
fn a_node_goes_on_by_itself_once_there_is_room_again() {
    let test = "a_node_goes_on_by_itself_once_there_is_room_again";
    on_a_full_disk(test, |node, mount, targets, acknowledged| {
        eventually("the node says that it is not ready", || node.ops("/readyz").status() == 503);
        mount.free();
        eventually("the node is ready again", || node.ops("/readyz").status() == 200);
        check_blocks(&node, targets, acknowledged);
        assert_eq!(node.caller().block("amy", &targets[acknowledged + 1..]).failed(), [""; 0]);
        let node = node.restart();
        assert_eq!(node.caller().blocklist("amy", 0, 1).0, ["x0000"]);
        node.stop();
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_a_reason_not_to_start() {
    let setup = Setup::new();
    let Some(mount) = Mount::new(setup.data_dir(), "256m") else {
        eprintln!("SKIPPED: a_folder_that_cannot_be_written: may not mount a tmpfs");
        return;
    };
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    drop(caller);
    let stopped = node.stop();
    assert!(run("mount", &["-o", "remount,ro"], &mount.0));
    let reason = TestNode::try_start(stopped.setup.clone(), 1_700_000_200).err();
    let reason = reason.expect("nothing can be written there");
    assert!(reason.contains("Read-only file system"), "{reason}");
    assert!(run("mount", &["-o", "remount,rw"], &mount.0));
    let node = stopped.start();
    assert_eq!(node.caller().blocks("amy", &["bob"]).relations(), ["AWithB"]);
    node.stop();
}
