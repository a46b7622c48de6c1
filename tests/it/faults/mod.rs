//! What machines, disks, callers and receivers do to a node that is meant to go on, done to the real
//! program through its real doors. Kills are in `crash`, full and read-only disks in `disk.rs`.

mod bodies;
mod clock;
mod deaf;
mod disk_errors;
mod memory;
mod minute;
mod receivers;
mod slow;
mod stopped;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crash::Mind;
use crate::support::{Caller, Random, Setup, TestProcess, verify};

/// How long a call may take while somebody else is a burden to the node: far more than it takes, on a
/// machine with other things to do, and far less than a wait for the burden to go.
const QUICK: Duration = Duration::from_secs(4);
/// So many calls that are not, one behind the other, are the burden's doing; fewer are the machine's.
const SLOW_CALLS: usize = 3;

const MIB: u64 = 1 << 20;

/// The memory that the node holds.
fn memory(node: &TestProcess) -> u64 {
    node.bytes_of("VmRSS").expect("the node runs")
}

/// One call that is answered, and quickly: one of a few, where the machine has other things to do.
#[track_caller]
fn is_served_quickly(caller: &mut Caller) {
    let mut slow = Vec::new();
    while slow.len() < SLOW_CALLS {
        let began = Instant::now();
        caller.call("im_open_login_svc/account_import", &json!({"UserID": "amy"})).ok();
        let took = began.elapsed();
        if took < QUICK {
            return;
        }
        slow.push(took);
    }
    panic!("calls took {slow:?}");
}

/// A node, and callers who know what it said to them.
fn with_callers(setup: &Setup, seed: u64) -> (TestProcess, Vec<Mind>) {
    let node = TestProcess::start(setup);
    let minds = Mind::several(&mut node.caller(), &mut Random::new(seed));
    (node, minds)
}

/// Lets all callers call while `disturb` does something to the node; it is told of how many answers
/// there were. A wrong answer panics in its caller, and who is not answered asks again.
fn load_during(
    minds: &mut [Mind],
    node: &mut TestProcess,
    disturb: impl FnOnce(&mut TestProcess, &AtomicUsize),
) {
    let (answered, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for mind in minds {
            let mut caller = node.caller().wary();
            let (answered, ended) = (&answered, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let answer =
                        mind.ask_again(&mut caller).and_then(|()| mind.call_once(&mut caller));
                    match answer {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        // Nobody may be there at the moment.
                        Err(_) => thread::yield_now(),
                    }
                }
            });
        }
        // A disturbance that fails must not leave the callers calling.
        let ended = Ended(&ended);
        disturb(node, &answered);
        drop(ended);
    });
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Everything is as it was said; the node stops in order, and what it leaves passes the audit.
fn holds_all_it_said(node: TestProcess, minds: &mut [Mind], setup: &Setup) {
    for mind in minds {
        mind.check(&mut node.caller());
    }
    ends_well(node, setup);
}

/// The node stops in order, nothing in it has ever panicked, and what it leaves passes the audit.
pub(crate) fn ends_well(node: TestProcess, setup: &Setup) {
    node.terminate();
    assert!(node.wait().success());
    verify(setup);
    has_not_panicked(&TestProcess::everything_said(setup));
}

#[track_caller]
fn has_not_panicked(said: &str) {
    assert!(!said.contains("panicked"), "{said}");
}
