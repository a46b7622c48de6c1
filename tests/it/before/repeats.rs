//! Calls with a key: asked about once, and the verdict that is kept stands.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cordon::domain::{Ground, Matter, Refusal, UserId, Verdict};

use super::{EVERYBODY, asks, infos, message, people_of, verdicts, wish};
use crate::support::{Caller, Reaction, TestSubscriber, friends_wanted, unheard};

#[test]
fn a_repeat_under_a_key_is_not_asked_about_again() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber));
    let refusal = r#"{"ErrorCode":0,"ResultItem":[{"To_Account":"bob","ResultCode":38001,"ResultInfo":"no"}]}"#;
    subscriber.react_by(move |heard| match heard.command() {
        "Sns.CallbackPrevFriendAdd" => Reaction::Say(refusal),
        _ => Reaction::Say(r#"{"ErrorCode":120001,"ErrorInfo":"spam"}"#),
    });
    let key = "Idempotency-Key: one\r\n";
    let add = |caller: &mut Caller| {
        caller.call_as_client("sns/friend_add", key, &wish("amy", &["bob", "carl"])).ok()
    };
    let first = add(&mut caller);
    assert_eq!(first.codes(), [38001, 0]);
    let said = caller.call_keyed("openim/sendmsg", "two", &message(1));
    assert_eq!(said.code(), 120_001);
    assert_eq!(subscriber.take().len(), 2);
    subscriber.react(Reaction::Accept);
    // Also over a restart.
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    assert_eq!(add(&mut caller).text(), first.text());
    assert_eq!(caller.call_keyed("openim/sendmsg", "two", &message(1)).text(), said.text());
    assert_eq!(subscriber.take().len(), 0);
    // The same words by the server itself are another call.
    let plain = caller.call_keyed("sns/friend_add", "one", &wish("amy", &["bob", "carl"]));
    assert_eq!(plain.code(), 60002);
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 2);
}

#[test]
fn of_two_verdicts_on_one_call_with_a_key_the_first_that_is_kept_stands() {
    let subscriber = TestSubscriber::start();
    let (node, _caller) = people_of(asks(&subscriber));
    let count = AtomicUsize::new(0);
    subscriber.react_by(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Reaction::Say(
            r#"{"ResultItem":[{"To_Account":"bob","ResultCode":38001,"ResultInfo":"no"}]}"#,
        ),
        _ => Reaction::Accept,
    });
    for round in 0..5 {
        let (from, lines) =
            (EVERYBODY[2 + round % 4], format!("Idempotency-Key: round{round}\r\n"));
        let answers: Vec<String> = thread::scope(|scope| {
            let ask = || {
                let mut caller = node.caller();
                let body = wish(from, &["bob"]);
                caller.call_as_client("sns/friend_add", &lines, &body).ok().text().to_owned()
            };
            let both = [scope.spawn(ask), scope.spawn(ask)];
            both.into_iter().map(|asking| asking.join().expect("an answer")).collect()
        });
        assert_eq!(answers[0], answers[1]);
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// What was said of friends who are to be added.
fn verdict(allowed: &[&str], refused: Vec<Refusal>) -> Verdict {
    Verdict {
        about: Matter::FriendAdd,
        by: "main".into(),
        ground: Ground::Answered,
        allowed: allowed.iter().map(|name| user(name)).collect(),
        refused,
        hidden: false,
        before: None,
    }
}

#[test]
fn who_was_settled_without_asking_is_so_again_under_the_first_verdict() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(asks(&subscriber));
    assert_eq!(caller.block("bob", &["amy"]).codes(), [0]);
    let body = wish("amy", &["bob", "carl", "dora"]);
    // Nobody was asked about bob, who blocks amy, and nothing was said of dora.
    let said = verdict(&["carl"], Vec::new());
    let asked = format!("sns/friend_add as client\n{body}");
    unheard(&node, "settled", &asked, "amy", friends_wanted(&["carl"]).under(said));
    let again = caller.call_as_client("sns/friend_add", "Idempotency-Key: settled\r\n", &body).ok();
    assert_eq!(again.codes(), [30525, 0, 38000]);
}

#[test]
fn a_verdict_on_a_call_with_a_key_that_nobody_was_answered_stands() {
    let subscriber = TestSubscriber::start();
    let (node, caller) = people_of(asks(&subscriber));
    let body = wish("amy", &["bob", "carl"]);
    let refused = Refusal { user: user("bob"), code: 38_005, info: "earlier".into() };
    let said = verdict(&["carl"], vec![refused]);
    let asked = format!("sns/friend_add as client\n{body}");
    let wanted = friends_wanted(&["bob", "carl"]).under(said);
    let request = unheard(&node, "lost", &asked, "amy", wanted);
    // The node stops before it answers.
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    let again = caller.call_as_client("sns/friend_add", "Idempotency-Key: lost\r\n", &body).ok();
    assert_eq!((again.codes(), infos(&again)), (vec![38_005, 0], vec!["earlier", ""]));
    assert_eq!(again.header("cordon-request-id"), Some(&*request.to_string()));
    assert_eq!(subscriber.take().len(), 0, "nobody is asked again");
    drop(caller);
    assert_eq!(verdicts(&node.stop()).len(), 1);
}
