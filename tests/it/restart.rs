//! A node that starts again gives the same answers, whatever is left of its state store.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{APP, Caller, Setup, Stopped, TestNode, TestProcess, TestSubscriber, names};

/// So many users do not fit into memory at once in these tests.
const USERS: usize = 40;

/// Relations of every kind between many users.
fn fill(caller: &mut Caller) {
    let all = names("u", USERS);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    caller.import(&all);
    for (at, owner) in all.iter().enumerate() {
        let others = |step: usize| -> Vec<&str> {
            (1..6).map(|turn| all[(at + turn * step) % USERS]).collect()
        };
        match at % 5 {
            0 => drop(caller.block(owner, &others(3))),
            1 => drop(caller.befriend(owner, &others(1))),
            2 => drop(caller.import_friends(owner, &others(7))),
            3 => {
                caller.befriend(owner, &others(2));
                caller.block(owner, &others(2)[..2]);
                caller.unblock(owner, &others(2)[..1]);
                caller.unfriend(owner, &others(2)[3..], "Delete_Type_Single");
            }
            _ => {
                let item = json!({"To_Account": others(1)[0], "AddSource": "AddSource_Type_test",
                    "Remark": "née \"x\"", "AddTime": 1_600_000_000, "GroupName": ["a", "b"]});
                let body = json!({"From_Account": owner, "AddFriendItem": [item]});
                caller.call("sns/friend_import", &body).ok();
            }
        }
    }
    for (at, owner) in all.iter().enumerate().filter(|(at, _)| at % 4 == 1) {
        caller.set_profile(owner, &[("Tag_Profile_IM_Level", json!(at))]).ok();
        let group = json!({"From_Account": owner, "GroupName": ["g", "h"],
            "To_Account": [all[(at + 1) % USERS]]});
        caller.call("sns/group_add", &group).ok();
        caller.allow(owner, "NeedConfirm");
        for asking in 2..6 {
            caller.befriend(all[(at + asking) % USERS], &[owner]);
        }
        let answers = ["AgreeAndAdd", "Agree", "Reject"].into_iter().enumerate();
        let answers = answers.map(|(asking, how)| {
            json!({"To_Account": all[(at + 2 + asking) % USERS],
                "ResponseAction": format!("Response_Action_{how}")})
        });
        let body = json!({"From_Account": owner,
            "ResponseFriendItem": answers.collect::<Vec<_>>()});
        caller.call("sns/friend_response", &body).ok();
        caller.allow(owner, "AllowAny");
    }
    caller.call("sns/friend_delete_all", &json!({"From_Account": all[9]})).ok();
    caller.delete_accounts(&[all[7], all[8]]);
}

/// What the node answers about everybody.
fn answers(caller: &mut Caller) -> Vec<Value> {
    let all = names("u", USERS);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut answers = Vec::new();
    for owner in &all {
        let list = json!({"From_Account": owner, "MaxLimited": 1000});
        answers.push(caller.call("sns/black_list_get", &list).body);
        for (command, check) in [
            ("sns/black_list_check", "BlackCheckResult_Type_Both"),
            ("sns/friend_check", "CheckResult_Type_Both"),
        ] {
            let body = json!({"From_Account": owner, "To_Account": all, "CheckType": check});
            answers.push(caller.call(command, &body).body);
        }
    }
    for owner in &all {
        for (command, more) in [
            ("sns/friend_get", json!({"StartIndex": 0})),
            ("sns/group_get", json!({"NeedFriend": "Need_Friend_Type_Yes"})),
            ("sns/pendency_get", json!({"PendencyType": "Pendency_Type_ComeIn"})),
            ("sns/pendency_get", json!({"PendencyType": "Pendency_Type_SendOut"})),
        ] {
            let mut body = more;
            body["From_Account"] = json!(owner);
            answers.push(caller.call(command, &body).body);
        }
    }
    let tags = json!(["Tag_Profile_IM_Nick", "Tag_Profile_IM_AllowType", "Tag_Profile_IM_Level"]);
    let profiles = json!({"To_Account": all, "TagList": tags});
    answers.push(caller.call("profile/portrait_get", &profiles).body);
    answers.push(json!(caller.account_statuses(&all)));
    answers
}

/// Fills a node, stops it, lets `change` do something to its folder, and compares the answers of
/// the next node with those of the first.
fn same_answers_after(setup: Setup, change: impl FnOnce(&Stopped)) -> TestNode {
    let node = setup.start();
    let mut caller = node.caller();
    fill(&mut caller);
    let before = answers(&mut caller);
    drop(caller);
    let stopped = node.stop();
    change(&stopped);
    let node = stopped.start();
    let after = answers(&mut node.caller());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    node
}

fn state_dir(stopped: &Stopped) -> PathBuf {
    stopped.setup.data_dir().join("state")
}

/// The files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_restart_changes_no_answer_and_records_nothing_of_its_own() {
    let node = same_answers_after(Setup::new(), |_| {});
    let started = node.samples("cordon_users_started_total")[""];
    assert!(started <= USERS as f64 + 1.0, "{started} users were started");
    assert_eq!(node.samples("cordon_partition_doubts_total")[""], 0.0);
}

#[test]
fn a_state_store_that_was_deleted_is_made_again() {
    let node = same_answers_after(Setup::new(), |stopped| {
        fs::remove_dir_all(state_dir(stopped)).expect("there is a store");
    });
    node.restart();
}

#[test]
fn a_state_store_that_is_rubbish_is_made_again() {
    same_answers_after(Setup::new(), |stopped| {
        for file in files(&state_dir(stopped)) {
            fs::write(file, b"rubbish").expect("it can be overwritten");
        }
    });
}

#[test]
fn a_state_store_from_yesterday_is_brought_up_to_date() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let names = names("u", USERS);
    caller.import(&names.iter().map(String::as_str).collect::<Vec<_>>());
    caller.block(&names[0], &[&names[1], &names[9]]);
    drop(caller);
    let stopped = node.stop();
    let state = state_dir(&stopped);
    let kept = stopped.setup.folder().join("yesterday");
    copy(&state, &kept);
    let node = stopped.start();
    let mut caller = node.caller();
    fill(&mut caller);
    let before = answers(&mut caller);
    drop(caller);
    let stopped = node.stop();
    fs::remove_dir_all(&state).expect("there is a store");
    copy(&kept, &state);
    let node = stopped.start();
    assert_eq!(answers(&mut node.caller()), before);
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("it lies there"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder can be made");
        fs::copy(file, target).expect("a file can be copied");
    }
}

#[test]
fn a_torn_record_at_the_end_of_the_journal_was_never_promised() {
    same_answers_after(Setup::new(), |stopped| {
        let mut segments = files(&stopped.setup.data_dir().join("journal"));
        segments.retain(|path| fs::metadata(path).is_ok_and(|data| data.len() > 1000));
        segments.sort();
        let last = segments.last().expect("a segment has records");
        let mut bytes = fs::read(last).expect("it can be read");
        bytes.extend_from_slice(b"\x40\x00\x00\x00 a record that was never finished");
        fs::write(last, bytes).expect("it can be written");
    });
}

#[test]
fn users_who_do_not_fit_into_memory_answer_from_the_store() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new()
        .webhook(&subscriber)
        .set("ACTORS_RESIDENT_USERS_MAX", "4")
        .set("STORE_CHECKPOINT_INTERVAL_MS", "10");
    let node = same_answers_after(setup, |_| {});
    let mut caller = node.caller();
    // Changes go on as well, on both sides.
    let all = names("u", USERS);
    for pair in all.chunks(2).filter(|pair| pair[0] != "u0008") {
        let answer = caller.befriend(&pair[0], &[&pair[1]]);
        assert!(matches!(answer.codes()[..], [0 | 30001 | 30003 | 30515 | 30525]), "{answer:?}");
    }
    for owner in all.iter().filter(|name| !["u0007", "u0008"].contains(&name.as_str())) {
        let targets = names("u", 6);
        let others: Vec<&str> =
            targets.iter().filter(|name| *name != owner).map(String::as_str).collect();
        let answer = caller.block(owner, &others);
        assert!(answer.codes().iter().all(|code| [0, 30001].contains(code)), "{answer:?}");
        assert!(caller.friends(owner, &others).relations().iter().all(|r| *r == "NoRelation"));
    }
    crate::support::eventually("users are retired", || {
        node.samples("cordon_users_retired_total")[""] > 0.0
    });
}

#[test]
fn the_number_of_partitions_does_not_change() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    drop(caller);
    let stopped = node.stop();
    let other = stopped.setup.clone().set("JOURNAL_PARTITIONS", "5");
    let reason = TestNode::try_start(other, 1_700_000_200).err().expect("it is refused");
    assert!(reason.contains("partitions"), "{reason}");
    let node = stopped.start();
    assert_eq!(node.caller().blocks("amy", &["bob"]).relations(), ["AWithB"]);
}

#[test]
fn users_of_an_app_that_the_settings_do_not_have_are_told_of() {
    let setup = Setup::new();
    let told = format!("app.ids=\"{APP}\"");
    for (app, is_told) in [(APP, false), (APP, false), (APP + 1, true)] {
        let node = TestProcess::start(&setup.clone().set("APP_ID", &app.to_string()));
        node.terminate();
        assert!(node.wait().success());
        let said = TestProcess::everything_said(&setup);
        assert_eq!(said.contains(&told), is_told, "{said}");
    }
}

/// A start reads what no checkpoint holds once, not once more for each partition that was quiet meanwhile.
#[test]
fn a_start_after_a_kill_reads_the_journal_about_once() {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    let names = names("u", 900);
    let peers: Vec<&str> = names.iter().map(String::as_str).collect();
    caller.import(&["amy"]);
    caller.import(&peers);
    let journal = setup.data_dir().join("journal");
    while folder_bytes(&journal) < 4 << 20 {
        caller.block("amy", &peers).ok();
        caller.unblock("amy", &peers).ok();
    }
    node.kill();
    let bytes = folder_bytes(&journal);
    let node = TestProcess::start(&setup);
    let io = fs::read_to_string(format!("/proc/{}/io", node.pid().as_raw_nonzero()));
    let io = io.expect("Linux counts what a process reads");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("it is said");
    let read: u64 = read.parse().expect("a number");
    assert!(read < 4 * bytes, "{read} bytes were read, the journal has {bytes}");
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder");
    files.map(|file| file.expect("a file").metadata().expect("it is there").len()).sum()
}
