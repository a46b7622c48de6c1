//! `cordon migrate`: from one machine to a cluster, and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Caller, Setup, audit, kafka};

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
    let unfinished = folder.join("journal.unfinished");
    fs::create_dir_all(&unfinished).expect("a folder of the test");
    let (code, said) = audit(&setup, &["migrate", "--back", "--data-dir", data_dir]);
    assert_eq!(code, 1, "{said}");
    fs::remove_dir_all(&folder).expect("a folder of the test");
    let (code, back) = audit(&setup, &["migrate", "--back", "--data-dir", data_dir]);
    assert_eq!(code, 0, "{back}");
    assert!(folder.join("journal/meta.json").exists() && !unfinished.exists());
    assert_eq!(copied(&back), copied(&there));
    let mode = fs::metadata(&folder).expect("the folder is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
