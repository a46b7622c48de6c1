//! What somebody outside says beforehand. Rule: webhooks.md 8.3, 8.4 and 10.

use uuid::Uuid;

use super::*;
use crate::domain::{Ground, Judged, Matter, Message, Refusal, RequestAnswer, Verdict, Words};

fn refusal(name: &str) -> Refusal {
    Refusal { user: id(name), code: 38_001, info: "no".into() }
}

fn verdict(about: Matter, allowed: &[&str], refused: &[&str]) -> Verdict {
    Verdict {
        about,
        by: "main".into(),
        ground: Ground::Answered,
        allowed: allowed.iter().map(|name| id(name)).collect(),
        refused: refused.iter().map(|name| refusal(name)).collect(),
        hidden: false,
        before: None,
    }
}

fn of_friends(allowed: &[&str], refused: &[&str]) -> Verdict {
    verdict(Matter::FriendAdd, allowed, refused)
}

fn message() -> Message {
    Message {
        to: vec![id("bob")],
        seq: 7,
        random: 8,
        time: 1_700_000_100,
        body: "[]".into(),
        custom_data: "".into(),
        push: "".into(),
        life_time: None,
        online_only: false,
        not_for_sender: false,
        control: Vec::new(),
        read_receipt: false,
        extension: false,
        untold: false,
    }
}

#[test]
fn who_is_refused_is_not_added_and_the_verdict_stands_in_the_same_record() {
    let mut amy = someone("amy");
    let said = of_friends(&["bob"], &["cyd"]);
    let command = add(OfferForm::TwoWay, &["bob", "cyd"]).under(said.clone());
    let Decision { events, outcomes } = amy.when(&command);
    let offer = edge("amy", amy.user.version().0);
    assert_eq!(
        events,
        [Event::VerdictGiven(said), offered("bob", offer, OfferForm::TwoWay)],
        "the verdict first"
    );
    let waits = Outcome::Offering { peer: id("bob"), edge: offer };
    assert_eq!(outcomes, [Ok(waits), Err(Rejection::Forbidden)]);
    assert_eq!(amy.offer_state("cyd"), None);
}

#[test]
fn a_refusal_of_all_is_recorded_alone() {
    let mut amy = someone("amy");
    let version = amy.user.version();
    let said = of_friends(&[], &["bob"]);
    let decision = amy.when(&add(OfferForm::TwoWay, &["bob"]).under(said.clone()));
    assert_eq!(decision.events, [Event::VerdictGiven(said)]);
    assert_eq!(decision.outcomes, [Err(Rejection::Forbidden)]);
    assert_eq!(amy.user.version(), version.next());
}

#[test]
fn what_was_not_asked_about_is_not_done_and_says_why_if_it_can() {
    let mut amy = someone("amy");
    amy.when(&block(&["cyd"]));
    let command = add(OfferForm::TwoWay, &["bob", "cyd", "dan"]).under(of_friends(&["dan"], &[]));
    let outcomes = amy.outcomes(&command);
    assert_eq!(outcomes[..2], [Err(Rejection::Forbidden), Err(Rejection::PeerBlocked)]);
    assert!(outcomes[2].is_ok());
    // Nobody was asked about anything: of that nothing is recorded.
    let command = add(OfferForm::TwoWay, &["bob", "cyd"]).under(of_friends(&[], &[]));
    let decision = amy.when(&command);
    assert_eq!(decision.events, []);
    assert_eq!(decision.outcomes, [Err(Rejection::Forbidden), Err(Rejection::PeerBlocked)]);
}

#[test]
fn an_answer_that_is_refused_leaves_the_request_waiting() {
    let mut amy = someone("amy");
    amy.policy.default_allow_type = AllowType::NeedConfirm;
    amy.hears("bob", &[propose(edge("bob", 3), OfferForm::TwoWay)]);
    let answer = RequestAnswer {
        user: id("bob"),
        agreement: Some(Agreement::Both),
        remark: "".into(),
        groups: Vec::new(),
    };
    let command = Command::AnswerRequests { items: vec![answer] };
    let refused = command.under(verdict(Matter::FriendResponse, &[], &["bob"]));
    assert_eq!(amy.outcomes(&refused), [Err(Rejection::Forbidden)]);
    assert!(amy.user.requests().next().is_some());
    let allowed = command.under(verdict(Matter::FriendResponse, &["bob"], &[]));
    assert!(amy.outcomes(&allowed)[0].is_ok());
    assert!(amy.user.has_friend(&id("bob")));
}

#[test]
fn a_message_is_recorded_unless_it_is_refused_or_hidden() {
    let mut amy = someone("amy");
    let send = Command::Send(message());
    let said = |allowed: &[&str], refused: &[&str], hidden| Verdict {
        hidden,
        ..verdict(Matter::Message, allowed, refused)
    };
    let cases = [
        (said(&["bob"], &[], false), Ok(Outcome::Recorded), true),
        (said(&[], &["bob"], false), Err(Rejection::Forbidden), false),
        (said(&[], &["bob"], true), Ok(Outcome::Recorded), false),
    ];
    for (said, outcome, sent) in cases {
        let decision = amy.when(&send.under(said.clone()));
        assert_eq!(decision.outcomes, [outcome]);
        let accepted = sent.then(|| Event::MessageAccepted(message()));
        let expected: Vec<Event> =
            [Event::VerdictGiven(said)].into_iter().chain(accepted).collect();
        assert_eq!(decision.events, expected);
    }
}

#[test]
fn a_verdict_takes_the_place_of_another_one() {
    let first = add(OfferForm::OneWay, &["bob"]).under(of_friends(&["bob"], &[]));
    let second = first.under(of_friends(&[], &["bob"]));
    let Command::Judged(judged) = second else { panic!("it is judged") };
    let Judged { command, verdict } = *judged;
    assert_eq!(command, add(OfferForm::OneWay, &["bob"]));
    assert_eq!(verdict, of_friends(&[], &["bob"]));
}

#[test]
fn a_call_with_a_key_keeps_its_first_verdict() {
    let mut amy = someone("amy");
    let call = CallKey { key: id("k"), asked: id("this") };
    let before = Words { body: "[]".into(), custom_data: "".into() };
    let first = Verdict { before: Some(Box::new(before)), ..of_friends(&["bob"], &["cyd"]) };
    for said in [first.clone(), of_friends(&["cyd"], &[])] {
        let mut events = vec![Event::VerdictGiven(said)];
        amy.user.keep_call(call, Uuid::nil(), &mut events, NOW);
        amy.close(&events);
    }
    let kept = amy.user.kept(&call.key).expect("it is kept");
    assert_eq!(kept.traces.verdict.as_deref(), Some(&first));
}
