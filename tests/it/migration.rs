//! `cordon migrate`: from one machine to a cluster, and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Setup, audit, kafka};

/// What is said of the records that were copied.
fn copied(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(" records copied, "))
}

#[test]
fn a_journal_moves_under_the_rules_of_its_apps_and_back_into_a_folder_for_its_owner_alone() {
    let Some(kafka) = kafka::shared() else { return };
    let cluster = Setup::cluster(kafka, 1).remove(0);
    let setup = cluster.set("JOURNAL", "embedded").set("FRIEND_IMPORT_IGNORES_BLOCKLIST", "true");
    let node = setup.clone().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
    assert_eq!(caller.import_friends("amy", &["bob"]).codes(), [0]);
    drop(caller);
    node.stop();

    let (code, there) = audit(&setup, &["migrate"]);
    assert_eq!(code, 0, "{there}");
    let folder = setup.folder().join("new/data");
    let data_dir = folder.to_str().expect("a path of text");
    let (code, back) = audit(&setup, &["migrate", "--back", "--data-dir", data_dir]);
    assert_eq!(code, 0, "{back}");
    assert!(copied(&there).is_some() && copied(&there) == copied(&back), "{there}{back}");
    let mode = fs::metadata(folder).expect("the folder is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
