//! `cordon migrate`: from one machine to a cluster, and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Caller, Setup, TestProcess, audit, command, kafka};

/// Of the records that are copied, how many are there when a copy of a test is killed.
const COPIED: u64 = 7;

/// What `fill` leaves behind, moved to the cluster: the settings, and what was said of the copy;
/// nothing where there is no Kafka.
fn moved(setting: (&str, &str), fill: impl FnOnce(&mut Caller)) -> Option<(Setup, String)> {
    let cluster = Setup::cluster(kafka::shared()?, 1).remove(0);
    let setup = cluster.set("JOURNAL", "embedded").set(setting.0, setting.1);
    let node = setup.clone().start();
    fill(&mut node.caller());
    node.stop();
    let (code, said) = audit(&setup, &["migrate"]);
    assert_eq!(code, 0, "{said}");
    Some((setup, said))
}

/// What is said of the records that were copied.
fn copied(said: &str) -> &str {
    let line = said.lines().find(|line| line.contains(" records copied, "));
    line.unwrap_or_else(|| panic!("nothing was copied: {said}"))
}

#[test]
fn both_sides_are_verified_under_the_rules_of_the_settings() {
    let lenient = ("FRIEND_IMPORT_IGNORES_BLOCKLIST", "true");
    moved(lenient, |caller| {
        caller.import(&["amy", "bob"]);
        assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
        assert_eq!(caller.import_friends("amy", &["bob"]).codes(), [0]);
    });
}

#[test]
fn a_journal_comes_back_as_it_went_into_a_folder_for_its_owner_alone() {
    let few = ("JOURNAL_PARTITIONS", "2");
    let Some((setup, there)) = moved(few, |caller| caller.import(&["amy"])) else { return };
    let folder = setup.folder().join("new/data");
    let data_dir = folder.to_str().expect("a path of text");
    let (code, back) = audit(&setup, &["migrate", "--back", "--data-dir", data_dir]);
    assert_eq!(code, 0, "{back}");
    assert!(folder.join("journal/meta.json").exists());
    assert!(!folder.join("journal.unfinished").exists());
    assert_eq!(copied(&back), copied(&there));
    let mode = fs::metadata(&folder).expect("the folder is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Runs the program, which has to fail; answers what it says.
fn refused(setup: &Setup, arguments: &[&str]) -> String {
    let output = command(setup).args(arguments).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("what is said is text")
}

/// Begins a copy and kills it in the middle.
fn break_off(setup: &Setup, arguments: &[&str]) {
    let setup = setup.clone().hook("TEST_COPY_DIES", &COPIED.to_string());
    let output = command(&setup).args(arguments).output().expect("the program runs");
    assert_eq!(output.status.code(), None, "it is killed: {output:?}");
}

/// The same copy again, which has to end.
fn go_on(setup: &Setup, arguments: &[&str]) {
    let (code, said) = audit(setup, arguments);
    assert_eq!(code, 0, "{said}");
    let found = format!("{COPIED} of them were there already, from an interrupted copy");
    assert!(said.contains(&found), "{said}");
}

fn fill(caller: &mut Caller) {
    caller.import(&["amy", "bob", "carl"]);
    assert_eq!(caller.block("amy", &["bob", "carl"]).codes(), [0, 0]);
    assert_eq!(caller.block("carl", &["amy"]).codes(), [0]);
}

fn assert_whole(node: &TestProcess) {
    let mut caller = node.caller();
    assert_eq!(caller.blocklist("amy", 0, 10).0, ["bob", "carl"]);
    assert_eq!(caller.blocklist("carl", 0, 10).0, ["amy"]);
}

/// Rule: half a journal is a world without some of its blocks.
#[test]
fn half_a_copy_in_kafka_is_served_by_nobody_until_the_same_command_has_ended_it() {
    let Some(brokers) = kafka::shared() else { return };
    let there = Setup::cluster(brokers, 1).remove(0);
    let here = there.clone().set("JOURNAL", "embedded");
    let node = here.clone().start();
    fill(&mut node.caller());
    node.stop();
    break_off(&here, &["migrate"]);
    let elsewhere = there.folder().join("elsewhere").display().to_string();
    for arguments in [
        &["serve"][..],
        &["verify", "--kafka", brokers],
        &["migrate", "--back", "--data-dir", &elsewhere],
    ] {
        let said = refused(&there, arguments);
        let expected = "copying: it marks an unfinished copy into ";
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(said.contains("run the same cordon migrate again"), "{arguments:?}: {said}");
    }
    go_on(&here, &["migrate"]);
    let node = TestProcess::start(&there);
    assert_whole(&node);
    // What a cluster serves is no copy's, and stays servable.
    let said = refused(&here, &["migrate"]);
    assert!(said.contains("journal: it is not empty: partition "), "{said}");
    node.kill();
    TestProcess::start(&there).kill();
}

#[test]
fn half_a_copy_in_a_folder_is_served_by_nobody_until_the_same_command_has_ended_it() {
    let Some((setup, _)) = moved(("JOURNAL_PARTITIONS", "2"), fill) else { return };
    let folder = setup.folder().join("new");
    let data_dir = folder.to_str().expect("a path of text");
    let back = ["migrate", "--back", "--data-dir", data_dir];
    let here = setup.clone().set("DATA_DIR", data_dir);
    break_off(&setup, &back);
    let said = refused(&here, &["serve"]);
    assert!(said.contains("journal.unfinished is an unfinished copy"), "{said}");
    go_on(&setup, &back);
    assert_whole(&TestProcess::start(&here));
}

/// Rule: what goes on in two places misses the blocks of the other one.
#[test]
fn a_journal_that_has_moved_is_served_where_it_was_only_once_it_is_back() {
    let Some((here, _)) = moved(("JOURNAL_PARTITIONS", "2"), fill) else { return };
    let said = refused(&here, &["serve"]);
    assert!(said.contains("was copied to Kafka") && said.contains("journal.moved"), "{said}");
    let (code, said) = audit(&here, &["verify"]);
    assert_eq!(code, 0, "an audit reads it all the same: {said}");
    let journal = here.data_dir().join("journal");
    fs::rename(&journal, here.folder().join("put away")).expect("it can be put away");
    let (code, said) = audit(&here, &["migrate", "--back"]);
    assert_eq!(code, 0, "{said}");
    assert_whole(&TestProcess::start(&here));
}
