//! A node whose disk is full, and one whose folder cannot be written.

use serde_json::json;

use crate::support::{Caller, Mount, Setup, TestNode, eventually, names};

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
fn on_a_full_disk(check: impl FnOnce(TestNode, &Mount, &[&str], usize)) {
    let setup = Setup::new().set("JOURNAL_SEGMENT_BYTES", "1 MiB");
    let Some(mount) = Mount::new(setup.data_dir(), "256m") else { return };
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
    on_a_full_disk(|node, mount, targets, acknowledged| {
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
    on_a_full_disk(|node, mount, targets, acknowledged| {
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
    let Some(mount) = Mount::new(setup.data_dir(), "256m") else { return };
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    drop(caller);
    let stopped = node.stop();
    mount.remount("ro");
    let reason = TestNode::try_start(stopped.setup.clone(), 1_700_000_200).err();
    let reason = reason.expect("nothing can be written there");
    assert!(reason.contains("Read-only file system"), "{reason}");
    mount.remount("rw");
    let node = stopped.start();
    assert_eq!(node.caller().blocks("amy", &["bob"]).relations(), ["AWithB"]);
    node.stop();
}
