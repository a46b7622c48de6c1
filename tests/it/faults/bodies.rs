//! The largest bodies, legal and not, as fast as they can be sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{MIB, ends_well, is_served_quickly, memory};
use crate::support::{Connection, Identity, Setup, TestProcess};

/// Connections of each kind.
const CONNECTIONS: usize = 4;
/// The largest legal body. Rule: rest-api.md 1.8.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long they go on.
const WHILE: Duration = Duration::from_secs(3);
/// What all of them may cost: a body that is read and its copy per connection, buffers, and what an
/// allocator keeps.
const BYTES_MAX: u64 = 96 * MIB;

/// A call of exactly so many bytes.
fn body_of(bytes: usize) -> Vec<u8> {
    let with = |more: &str| {
        json!({"CheckItem": [{"UserID": "amy"}], "More": more}).to_string().into_bytes()
    };
    with(&"x".repeat(bytes - with("").len()))
}

#[test]
fn bodies_of_a_mebibyte_at_full_rate_cost_little_and_hold_up_nobody() {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    is_served_quickly(&mut caller);
    let before = memory(&node);
    let ended = AtomicBool::new(false);
    // Legal, a little too long, and so long that nobody reads it.
    let kinds = [(BODY_BYTES_MAX, 0), (BODY_BYTES_MAX + 1, 60008), (4 * BODY_BYTES_MAX, 60008)];
    let answers = kinds.map(|_| AtomicUsize::new(0));
    let mut most = before;
    thread::scope(|scope| {
        for (kind, (bytes, code)) in kinds.into_iter().enumerate() {
            for _ in 0..CONNECTIONS {
                let (node, ended, answered) = (&node, &ended, &answers[kind]);
                scope.spawn(move || {
                    let body = body_of(bytes);
                    let target = format!(
                        "/v4/im_open_login_svc/account_check?{}",
                        Identity::default().query()
                    );
                    let mut connection = None;
                    while !ended.load(Ordering::Relaxed) {
                        let mut open = connection
                            .take()
                            .unwrap_or_else(|| Connection::open(node.address).expect("it listens"));
                        // A body that nobody reads may break the connection under its sender.
                        let Ok(answer) = open.ask("POST", &target, &body) else {
                            assert!(bytes > 2 * BODY_BYTES_MAX, "{bytes} bytes are not answered");
                            continue;
                        };
                        let text = answer.text();
                        assert!(
                            text.contains(&format!("\"ErrorCode\":{code},")),
                            "{bytes}: {text}"
                        );
                        answered.fetch_add(1, Ordering::Relaxed);
                        if answer.header("connection") != Some("close") {
                            connection = Some(open);
                        }
                    }
                });
            }
        }
        let began = Instant::now();
        while began.elapsed() < WHILE {
            is_served_quickly(&mut caller);
            is_served_quickly(&mut node.caller());
            most = most.max(memory(&node));
        }
        ended.store(true, Ordering::Relaxed);
    });
    let [legal, longer, unread] = answers.map(AtomicUsize::into_inner);
    eprintln!("{legal}, {longer}, {unread} answers; {} MiB, then {} MiB", before / MIB, most / MIB);
    assert!(legal > CONNECTIONS && longer > CONNECTIONS, "{legal}, {longer}");
    assert!(most < before + BYTES_MAX, "{} MiB, then {} MiB", before / MIB, most / MIB);
    ends_well(node, &setup);
}
