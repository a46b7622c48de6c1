//! A disk that fails: nothing is acknowledged that is not there, and no hole is written over.

use super::*;
use crate::journal::embedded::file::faults::Plan;

fn next(settlements: &mut UnboundedReceiver<Settlement>) -> Settlement {
    settlements.blocking_recv().unwrap()
}

fn wait_until_writable(journal: &Journal) {
    wait_until("the journal can be written", || journal.writable().is_ok());
}

#[test]
fn a_full_disk_loses_what_is_in_flight_at_whatever_byte_it_is_full() {
    // More bytes than the group has are for the zeros ahead of it, which are no reason to fail.
    let group_bytes = GROUP_HEADER_BYTES + 6 + "lost".len();
    for bytes_left in 0..group_bytes {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let journal = open_on(dir.path(), 1 << 20, &faults);
        commit(&journal, ONE, "kept");
        let mut one = attach(&journal, ONE);
        let mut two = attach(&journal, TWO);
        faults.set(Plan { bytes_left: Some(bytes_left), ..Plan::default() });
        journal.append(ONE, b"lost").unwrap();
        journal.flush();
        // Every partition is told, whether or not it had something in flight.
        assert_eq!((next(&mut one), next(&mut two)), (Settlement::Lost, Settlement::Lost));
        assert_eq!(one.blocking_recv(), None, "nothing more is said before the next attach");
        let refused = journal.append(ONE, b"early").unwrap_err();
        assert!(matches!(refused, JournalError::Unavailable { .. }), "{refused}");
        assert_eq!(journal.end(ONE).unwrap(), Offset(1));

        faults.set(Plan::default());
        wait_until_writable(&journal);
        let behind_a_hole = journal.append(ONE, b"unaware").unwrap_err();
        assert!(matches!(behind_a_hole, JournalError::Unavailable { .. }), "{behind_a_hole}");
        commit(&journal, ONE, "afresh");
        assert_eq!(read_all(&*journal), ["kept", "afresh"]);
        drop(journal);
        assert_eq!(read_all(&*open(dir.path()).unwrap()), ["kept", "afresh"]);
    }
}

#[test]
fn a_disk_too_full_for_zeros_still_takes_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let journal = open_on(dir.path(), 1 << 20, &faults);
    let group_bytes = GROUP_HEADER_BYTES + 6 + "kept".len();
    faults.set(Plan { bytes_left: Some(group_bytes + 10), ..Plan::default() });
    commit(&journal, ONE, "kept");
    journal.writable().unwrap();
}

#[test]
fn what_piles_up_behind_a_failing_write_is_lost_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let journal = open_on(dir.path(), 1 << 20, &faults);
    let mut one = attach(&journal, ONE);
    faults.set(Plan { bytes_left: Some(5), ..Plan::default() });
    let mut taken = 0;
    while journal.append(ONE, b"lost").is_ok() {
        journal.flush();
        taken += 1;
        assert!(taken < 1_000_000, "the failure is noticed");
    }
    assert_eq!(next(&mut one), Settlement::Lost);
    assert_eq!(journal.losses(), 1, "counted before it is told");
    assert_eq!(one.blocking_recv(), None);
    faults.set(Plan::default());
    wait_until_writable(&journal);
    assert_eq!(journal.end(ONE).unwrap(), Offset(0));
    assert!(read_all(&*journal).is_empty());
}

#[test]
fn a_failed_sync_is_final_until_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let journal = open_on(dir.path(), 1 << 20, &faults);
    commit(&journal, ONE, "kept");
    let mut one = attach(&journal, ONE);
    faults.set(Plan { sync_fails: true, ..Plan::default() });
    journal.append(ONE, b"doubtful").unwrap();
    journal.flush();
    assert_eq!(next(&mut one), Settlement::Lost);
    // The disk is fine again, but nobody knows what the kernel has dropped.
    faults.set(Plan::default());
    let _one = attach(&journal, ONE);
    for _ in 0..3 {
        assert!(matches!(journal.append(ONE, b"x"), Err(JournalError::Unavailable { .. })));
    }
    let reason = journal.writable().unwrap_err().to_string();
    assert!(reason.contains("until the node is restarted"), "{reason}");
    assert_eq!(read_all(&*journal), ["kept"], "a reader sees durable records only");
    drop(journal);
    // The record was whole in the file, so it may stay; now it is durable.
    let journal = open(dir.path()).unwrap();
    assert_eq!(read_all(&*journal), ["kept", "doubtful"]);
    commit(&journal, ONE, "afresh");
    drop(journal);
    assert_eq!(read_all(&*open(dir.path()).unwrap()), ["kept", "doubtful", "afresh"]);
}

#[test]
fn a_file_that_cannot_be_cut_back_is_final_too() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let journal = open_on(dir.path(), 1 << 20, &faults);
    let mut one = attach(&journal, ONE);
    faults.set(Plan { bytes_left: Some(7), cut_fails: true, ..Plan::default() });
    journal.append(ONE, b"lost").unwrap();
    journal.flush();
    assert_eq!(next(&mut one), Settlement::Lost);
    faults.set(Plan::default());
    let reason = journal.writable().unwrap_err().to_string();
    assert!(reason.contains("until the node is restarted"), "{reason}");
    drop(journal);
    assert!(read_all(&*open(dir.path()).unwrap()).is_empty());
}

#[test]
fn a_segment_that_cannot_be_started_is_started_later() {
    for bytes_left in [0, 1, 30, 59] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let journal = open_on(dir.path(), 200, &faults);
        let filler = "x".repeat(100);
        commit(&journal, ONE, &filler);
        let mut one = attach(&journal, ONE);
        faults.set(Plan { bytes_left: Some(bytes_left), ..Plan::default() });
        journal.append(ONE, filler.as_bytes()).unwrap();
        journal.flush();
        assert_eq!(next(&mut one), Settlement::Lost);
        assert!(!segment(dir.path(), 2).exists(), "no half segment is left");
        faults.set(Plan::default());
        wait_until_writable(&journal);
        commit(&journal, ONE, "afresh");
        assert!(segment(dir.path(), 2).exists());
        assert_eq!(read_all(&*journal), [filler.as_str(), "afresh"]);
        drop(journal);
        assert_eq!(read_all(&*open(dir.path()).unwrap()), [filler.as_str(), "afresh"]);
    }
}

#[test]
fn closing_makes_what_is_in_flight_durable() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).unwrap();
    let mut one = attach(&journal, ONE);
    journal.append(ONE, b"in flight").unwrap();
    drop(journal);
    assert_eq!(next(&mut one), Settlement::Durable { first: Offset(0), count: 1 });
    assert_eq!(read_all(&*open(dir.path()).unwrap()), ["in flight"]);
}

#[test]
fn the_metrics_count_what_is_durable_and_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let journal = open_on(dir.path(), 1 << 20, &faults);
    commit(&journal, ONE, "kept");
    let mut one = attach(&journal, ONE);
    faults.set(Plan { sync_fails: true, ..Plan::default() });
    journal.append(ONE, b"lost").unwrap();
    journal.flush();
    assert_eq!(next(&mut one), Settlement::Lost);
    let mut registry = prometheus_client::registry::Registry::default();
    journal.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "cordon_journal_commits_total 1",
        "cordon_journal_records_total 1",
        "cordon_journal_failures_total 1",
        "cordon_journal_writable 0",
        "cordon_journal_commit_batch_records_sum 1.0",
        "cordon_journal_fsync_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
