//! A clock that jumps an hour ahead and back. The clock of a process cannot be set for it alone, so this
//! is a node in a thread of its own, which is handed a clock as the program hands it the machine's.

use std::time::{Duration, Instant};

use cordon::domain::AppId;
use cordon::usersig;
use serde_json::{Value, json};

use crate::support::{
    ADMIN, APP, Answer, Caller, Identity, KEY, NOW_S, Reaction, Setup, TestNode, TestSubscriber,
    audit, names,
};

const HOUR_S: i64 = 3600;

/// Where the clock is put, one after the other.
const JUMPS: [i64; 7] = [0, HOUR_S, 0, -HOUR_S, HOUR_S, -HOUR_S, 0];

/// How long a webhook may take that waits for nothing.
const PROMPT: Duration = Duration::from_secs(10);

fn put_clock(node: &TestNode, after_now_s: i64) {
    node.set_clock(u32::try_from(NOW_S + after_now_s).expect("a time of a test"));
}

/// The place in the journal that an answer names first.
fn place(answer: &Answer) -> (u64, u64) {
    let places = answer.header("cordon-position").expect("a change has a place");
    let first = places.split(',').next().and_then(|place| place.split_once('@'));
    let (partition, offset) = first.expect("a place has two parts");
    (partition.parse().expect("a number"), offset.parse().expect("a number"))
}

/// The versions of amy's records and whom they block, in the order of the journal.
fn recorded(node: &TestNode) -> (Vec<u64>, Vec<String>) {
    let (code, text) = audit(node.setup(), &["replay", "--json", "--user", "amy"]);
    assert_eq!(code, 0, "{text}");
    let (mut versions, mut targets) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of replay is JSON");
        let record = line.get("record").unwrap_or(&line);
        versions.push(record["version"].as_u64().unwrap_or_else(|| panic!("no version: {line}")));
        let events = record["events"].as_array().expect("events");
        let blocked = events.iter().filter(|event| event["type"] == "UserBlocked");
        targets.extend(blocked.map(|event| event["target"].as_str().expect("a name").to_owned()));
    }
    (versions, targets)
}

#[test]
fn a_clock_that_jumps_an_hour_loses_and_reorders_nothing() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("STORE_CHECKPOINT_INTERVAL_MS", "20");
    let mut node = setup.start();
    let targets = names("x", JUMPS.len() * 2);
    let all: Vec<&str> = targets.iter().map(String::as_str).collect();
    let mut caller = node.caller();
    caller.import(&all);
    caller.import(&["amy"]);
    let mut last = None;
    for (round, jump) in JUMPS.into_iter().enumerate() {
        put_clock(&node, jump);
        for target in &all[round * 2..round * 2 + 2] {
            let answer = caller.block("amy", &[target]);
            assert_eq!(answer.codes(), [0]);
            let (partition, offset) = place(&answer);
            if let Some((before, highest)) = last.replace((partition, offset)) {
                assert!(partition == before && offset > highest, "{offset} behind {highest}");
            }
        }
        // What is heard does not wait for the clock.
        let began = Instant::now();
        node.settle();
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        if round == JUMPS.len() / 2 {
            drop(caller);
            node = node.restart();
            caller = node.caller();
        }
    }
    assert_eq!(caller.blocks("amy", &all).relations(), vec!["AWithB"; all.len()]);
    let heard = subscriber.take().into_iter().flat_map(|heard| heard.pairs());
    assert_eq!(heard.map(|(_, to)| to).collect::<Vec<_>>(), all);
    let (versions, blocked) = recorded(&node);
    assert_eq!(blocked, all);
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    drop(caller);
    // The audit of the end looks at everything once more.
    node.stop();
}

fn is_let_in(caller: &mut Caller, usersig: &str) -> u64 {
    let identity = Identity { usersig: usersig.to_owned(), ..Identity::default() };
    let body = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
    caller.call_with("im_open_login_svc/account_check", &identity.query(), body.as_bytes()).code()
}

#[test]
fn an_expired_usersig_is_let_in_by_a_clock_that_jumped_back_and_no_longer_than_that() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    let sign = |expire_s| usersig::sign(AppId(APP), KEY, ADMIN, expire_s, NOW_S);
    // One that was let in before it expired, and one that was never seen.
    let (known, unknown) = (sign(600), sign(601));
    assert_eq!(is_let_in(&mut caller, &known), 0);
    for _ in 0..2 {
        put_clock(&node, 602);
        assert_eq!(is_let_in(&mut caller, &known), 70001);
        assert_eq!(is_let_in(&mut caller, &unknown), 70001);
        // Nobody can tell this from the time before.
        put_clock(&node, 602 - 300);
        assert_eq!(is_let_in(&mut caller, &known), 0);
        assert_eq!(is_let_in(&mut caller, &unknown), 0);
        // A clock that jumps ahead lets nobody in whom the right time keeps out.
        put_clock(&node, 602 + HOUR_S);
        assert_eq!(is_let_in(&mut caller, &known), 70001);
        assert_eq!(is_let_in(&mut caller, &unknown), 70001);
    }
    // Those that are valid are let in again when the clock is right again.
    let valid = sign(10 * HOUR_S as u64);
    put_clock(&node, 11 * HOUR_S);
    assert_eq!(is_let_in(&mut caller, &valid), 70001);
    put_clock(&node, 602);
    assert_eq!(is_let_in(&mut caller, &valid), 0);
}

#[test]
fn a_failing_webhook_is_tried_again_in_time_whatever_the_clock_does() {
    let subscriber = TestSubscriber::start();
    let node = Setup::new().webhook(&subscriber).start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob", "carl"]);
    subscriber.react(Reaction::Status(500));
    caller.block("amy", &["bob"]);
    for jump in JUMPS {
        let attempts = subscriber.heard().len();
        put_clock(&node, jump);
        let began = Instant::now();
        subscriber.until("one more attempt", |heard| heard.len() > attempts + 1);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    }
    put_clock(&node, -HOUR_S);
    subscriber.react(Reaction::Accept);
    caller.block("amy", &["carl"]);
    let began = Instant::now();
    node.settle();
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let accepted = subscriber.accepted().into_iter().flat_map(|heard| heard.pairs());
    assert_eq!(accepted.map(|(_, to)| to).collect::<Vec<_>>(), ["bob", "carl"]);
}

#[test]
fn a_clock_that_jumps_an_hour_locks_no_caller_out() {
    let node = Setup::new().unset("RATE_LIMITS").start();
    let mut caller = node.caller();
    caller.import(&["amy"]);
    let get = json!({"From_Account": "amy"});
    let code = |caller: &mut Caller| caller.call("sns/black_list_get", &get).code();
    while code(&mut caller) == 0 {}
    for jump in [-HOUR_S, HOUR_S, 0, 2 * HOUR_S, -2 * HOUR_S] {
        put_clock(&node, jump);
        assert_eq!(code(&mut caller), 0, "{jump}");
        // The bucket is as deep as before, and no deeper.
        let passed = (0..1000).take_while(|_| code(&mut caller) == 0).count();
        assert!((100..250).contains(&passed), "{passed} calls at {jump}");
    }
}
