//! A process that the system does not let run for a while.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::{holds_all_it_said, load_during, with_callers};
use crate::support::{Setup, TestSubscriber, eventually};

/// How long the node stands still: less than a call may take, and more than that.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_millis(3500)];

/// Answers between two pauses.
const ANSWERS: usize = 200;

#[test]
fn a_node_that_stands_still_for_a_while_goes_on_by_itself_and_has_lost_nothing() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new()
        .webhook(&subscriber)
        .set("JOURNAL_PARTITIONS", "8")
        .set("HTTP_REQUEST_TIMEOUT_MS", "3000");
    let (mut node, mut minds) = with_callers(&setup, 11);
    load_during(&mut minds, &mut node, |node, answered| {
        let more_are_answered = || {
            let before = answered.load(Ordering::Relaxed);
            eventually("callers are answered", || {
                answered.load(Ordering::Relaxed) >= before + ANSWERS
            });
        };
        for pause in PAUSES {
            more_are_answered();
            node.pause();
            // The fault itself.
            thread::sleep(pause);
            node.resume();
        }
        more_are_answered();
    });
    holds_all_it_said(node, &mut minds, &setup);
}
