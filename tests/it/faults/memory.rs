//! A node that gets no more memory: it answers, or refuses, or ends and comes back whole.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use super::{MIB, has_not_panicked, load_during, with_callers};
use crate::support::{Caller, Setup, TestProcess, eventually, names, verify};

/// How much memory it gets beyond what it has when the limit comes.
const MORE: [u64; 3] = [MIB / 2, 4 * MIB, 24 * MIB];

/// How long the load goes on if the node lives, and how much there is to do at least.
const WHILE: Duration = Duration::from_millis(2500);
const ANSWERS: usize = 100;

/// Makes the node keep more and more: big profiles of ever more users. Ends when it is not answered.
fn want_memory(caller: &mut Caller, prefix: &str, until: Instant) {
    let nick = "n".repeat(500);
    let profile = |name: &String| {
        let items = ["Tag_Profile_IM_Nick", "Tag_Profile_IM_SelfSignature"]
            .map(|tag| json!({"Tag": tag, "Value": &nick}));
        json!({"From_Account": name, "ProfileItem": items})
    };
    for group in 0.. {
        let names = names(&format!("{prefix}{group}-"), 100);
        let accounts: Value = json!({ "Accounts": names });
        let imported = caller.try_call("im_open_login_svc/multiaccount_import", &accounts);
        let profiles = names.iter().take(20).map(profile);
        let mut answers = profiles.map(|body| caller.try_call("profile/portrait_set", &body));
        if imported.is_err() || answers.any(|answer| answer.is_err()) || Instant::now() >= until {
            return;
        }
    }
}

#[test]
fn a_node_without_more_memory_answers_or_ends_and_has_lost_nothing() {
    // What the allocator sets aside would count as memory that the node has.
    let setup = Setup::new().hook("MIMALLOC_ARENA_EAGER_COMMIT", "0");
    let (mut node, mut minds) = with_callers(&setup, 5);
    let mut ends = 0;
    for more in MORE {
        let before = TestProcess::everything_said(&setup).len();
        load_during(&mut minds, &mut node, |node, answered| {
            eventually("callers are answered", || answered.load(Ordering::Relaxed) >= ANSWERS);
            let has = node.bytes_of("VmData").expect("it runs");
            let limit = Rlimit { current: Some(has + more), maximum: None };
            prlimit(Some(node.pid()), Resource::Data, limit).expect("a limit can be set");
            let until = Instant::now() + WHILE;
            thread::scope(|scope| {
                for prefix in ["a", "b"] {
                    let mut caller = node.caller().wary();
                    let prefix = format!("{prefix}{more}-");
                    scope.spawn(move || want_memory(&mut caller, &prefix, until));
                }
            });
            // Whether it lives on or not: it does not hang.
            let mut caller = node.caller().wary().patient_for(Duration::from_secs(5));
            eventually("the node answers, or has ended", || {
                node.has_ended()
                    || caller
                        .try_call("sns/black_list_get", &json!({"From_Account": "own0-0"}))
                        .is_ok()
            });
        });
        // One that lives is ended as hard as one that had enough.
        let ended = node.has_ended();
        ends += usize::from(ended);
        eprintln!(
            "with {} KiB more the node {}",
            more / 1024,
            if ended { "ended" } else { "lived" }
        );
        node.kill();
        if !ended {
            // One that could not have what it needed may have said so in any way.
            has_not_panicked(&TestProcess::everything_said(&setup)[before..]);
        }
        verify(&setup);
        node = TestProcess::start(&setup);
        for mind in &mut minds {
            mind.check(&mut node.caller());
        }
    }
    assert!(ends > 0, "the limit was never met");
    node.terminate();
    assert!(node.wait().success());
}
