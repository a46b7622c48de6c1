//! What counts if there is no answer, or none that can be read.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ALL, add, asks, people_of, send, verdicts};
use crate::support::{Caller, Reaction, Setup, TestNode, TestSubscriber, eventually};

/// What can go wrong, by the setting that says what it counts as.
const FAILURES: [&str; 5] = ["TIMEOUT", "UNREACHABLE", "STATUS", "MALFORMED", "BUSY"];

/// Every failure counts as a no.
fn strict(mut setup: Setup) -> Setup {
    for failure in FAILURES {
        setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{failure}"), "deny");
    }
    setup
}

/// A receiver whose connections are reset: it closes them with the question unread.
fn resetting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // One byte is read, so the others are there.
            let _ = stream.read(&mut [0]);
        }
    });
    url
}

/// Asks about a friend and about a message; answers the two codes.
fn try_both(caller: &mut Caller, number: usize) -> [u64; 2] {
    let friend = format!("friend{number}");
    caller.import(&[&friend]);
    let added = add(caller, "amy", &[&friend]).codes()[0];
    [added, send(caller, number).code()]
}

#[test]
fn each_failure_counts_as_the_app_says() {
    let oversize: &'static str = format!("{{\"ErrorCode\":0}}{}", " ".repeat(64 << 10)).leak();
    // No answer that fits one of the two questions fits the other, but for the last.
    let malformed = [
        Reaction::Say("OK"),
        Reaction::Say("[]"),
        Reaction::Say(r#"{"ErrorCode":"0","ResultItem":{}}"#),
        Reaction::Say(oversize),
    ];
    let status = [Reaction::Status(500), Reaction::Status(302), Reaction::Status(204)];
    let cases: [(&str, &str, &[Reaction]); 4] = [
        ("TIMEOUT", "timed_out", &[Reaction::Hang]),
        ("UNREACHABLE", "unreachable", &[Reaction::Hangup]),
        ("STATUS", "status", &status),
        ("MALFORMED", "malformed", &malformed),
    ];
    for (failure, ground, reactions) in cases {
        for (policy, opposite, codes) in
            [("allow", "deny", [0, 0]), ("deny", "allow", [38000, 20006])]
        {
            let subscriber = TestSubscriber::start();
            let mut setup = asks(&subscriber);
            let waits_in_vain = failure == "TIMEOUT";
            if waits_in_vain {
                setup = setup.set("WEBHOOK_BEFORE_TIMEOUT_MS", "300");
            }
            for other in FAILURES {
                let counts = if other == failure { policy } else { opposite };
                setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{other}"), counts);
            }
            let (node, mut caller) = people_of(setup);
            for (number, reaction) in reactions.iter().enumerate() {
                subscriber.react(*reaction);
                assert_eq!(try_both(&mut caller, number), codes, "{reaction:?}, {policy}");
            }
            let tries = subscriber.take().len();
            // One whose short time was over before its connection was there is not made.
            let too_few = tries < 2 * reactions.len() && !waits_in_vain;
            assert!(tries <= 2 * reactions.len() && !too_few, "{tries}: one try each");
            drop(caller);
            let grounds: Vec<Value> =
                verdicts(&node.stop()).iter().map(|verdict| verdict["ground"].clone()).collect();
            assert_eq!(grounds, vec![json!(ground); 2 * reactions.len()]);
        }
    }
}

#[test]
fn a_receiver_that_refuses_or_resets_connections_is_unreachable() {
    let away = TestSubscriber::away();
    // No name server has to say so: no name has a label of 64 characters.
    let no_name = format!("http://{}.invalid/hook", "x".repeat(64));
    for url in [away.url(), resetting(), no_name] {
        for (policy, opposite, codes) in
            [("allow", "deny", [0, 0]), ("deny", "allow", [38000, 20006])]
        {
            let mut setup = Setup::new().set("WEBHOOK_URL", &url).set("WEBHOOK_COMMANDS", ALL);
            for other in FAILURES {
                let counts = if other == "UNREACHABLE" { policy } else { opposite };
                setup = setup.set(&format!("WEBHOOK_BEFORE_ON_{other}"), counts);
            }
            let (node, mut caller) = people_of(setup.set("WEBHOOK_BEFORE_TIMEOUT_MS", "5000"));
            assert_eq!(try_both(&mut caller, 1), codes, "{url}, {policy}");
            drop(caller);
            let grounds: Vec<Value> =
                verdicts(&node.stop()).iter().map(|verdict| verdict["ground"].clone()).collect();
            assert_eq!(grounds, [json!("unreachable"), json!("unreachable")], "{url}");
        }
    }
}

/// How many questions about messages came to `answer`.
fn asked(node: &TestNode, answer: &str) -> f64 {
    let name = format!(
        r#"app="1400000001",subscription="main",command="C2C.CallbackBeforeSendMsg",answer="{answer}""#
    );
    node.samples("cordon_webhook_questions_total").get(&name).copied().unwrap_or(0.0)
}

/// How long a question hangs, and how often this is tried until all is seen while all of them do.
const HANGS: Duration = Duration::from_secs(5);
const TRIES: usize = 4;

#[test]
fn a_receiver_that_hangs_has_room_for_so_many_questions_and_slows_nobody_else() {
    let is_seen = (0..TRIES).any(|_| is_seen_while_all_hang());
    assert!(is_seen, "the machine is too busy for so many questions in {HANGS:?}");
}

/// Answers whether everything was looked at while the questions hung; whatever was has to be right.
fn is_seen_while_all_hang() -> bool {
    let mut subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber).set("WEBHOOK_BEFORE_ON_BUSY", "deny"));
    subscriber.react(Reaction::Hang);
    let room = cordon::webhooks::consult::QUESTIONS_OPEN_MAX;
    let returned = AtomicUsize::new(0);
    let began = Instant::now();
    let all_hang = || began.elapsed() < HANGS;
    let seen = thread::scope(|scope| {
        for seq in 0..room {
            let (node, returned) = (&node, &returned);
            scope.spawn(move || {
                assert_eq!(send(&mut node.caller(), seq).code(), 0);
                returned.fetch_add(1, Ordering::Relaxed);
            });
        }
        eventually("all questions", || subscriber.heard().len() == room || !all_hang());
        let open = node.samples("cordon_webhook_questions_open")[""];
        let one_more = send(&mut caller, room).code();
        caller.block("carl", &["dora"]);
        assert_eq!(caller.blocklist("carl", 0, 10).0, ["dora"]);
        assert_eq!(caller.befriend("eve", &["fay"]).codes(), [0]);
        let returned = returned.load(Ordering::Relaxed);
        let seen = all_hang().then_some((open, one_more, returned));
        subscriber.close();
        seen
    });
    assert_eq!(returned.load(Ordering::Relaxed), room);
    assert_eq!(node.samples("cordon_webhook_questions_open")[""], 0.0);
    let Some(seen) = seen else { return false };
    assert_eq!(seen, (room as f64, 20006, 0), "there is no room for one more, and all hang still");
    let ended = asked(&node, "unreachable") + asked(&node, "timed_out");
    assert_eq!((asked(&node, "busy"), ended), (1.0, room as f64));
    true
}

#[test]
fn a_receiver_that_counts_as_down_is_not_waited_for_until_it_is_back() {
    let mut subscriber = TestSubscriber::away();
    let (node, mut caller) = people_of(strict(asks(&subscriber)));
    let mut seq = 0;
    let mut next = |caller: &mut Caller| {
        seq += 1;
        send(caller, seq).code()
    };
    for _ in 0..cordon::webhooks::FAILURES_IN_A_ROW_MAX {
        assert_eq!(next(&mut caller), 20006);
    }
    assert_eq!((asked(&node, "unreachable"), asked(&node, "busy")), (16.0, 0.0));
    // Where a second has passed meanwhile it was asked once more whether it is back.
    eventually("it is not asked any more", || {
        assert_eq!(next(&mut caller), 20006);
        asked(&node, "busy") == 1.0
    });
    subscriber.open();
    eventually("it is asked again", || next(&mut caller) == 0);
    assert_eq!(next(&mut caller), 0);
    assert_eq!(asked(&node, "allowed"), 2.0);
    assert_eq!(subscriber.take().len(), 2);
}
