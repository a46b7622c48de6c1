//! The rules of asking, with a real receiver.

use prometheus_client::registry::Registry;

use super::super::FAILURES_IN_A_ROW_MAX;
use super::super::testing::{APP, Answer, Place, Receiver, id, origin, subscription, within};
use super::*;
use crate::domain::{Matter, Message, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_100_000);

fn target(name: &str, url: &str, commands: &[BeforeCommand]) -> Target {
    Target {
        subscription: Subscription { name: name.to_owned(), ..subscription(url) },
        commands: commands.iter().copied().collect(),
        terms: BeforeTerms { on_busy: Fallback::Deny, ..BeforeTerms::default() },
    }
}

fn desks(targets: Vec<Target>) -> Arc<Desks> {
    let desks = Desks::new(Clock::fixed(NOW), Metrics::default());
    desks.serve(targets, &[]);
    desks
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

async fn ask(consultant: &Consultant) -> Option<Verdict> {
    let message = message();
    let question = Question::Message { from: id("amy"), message: &message };
    consultant.about_message(APP, &question, &origin(), |_, _| Ok(None)).await
}

async fn ground(consultant: &Consultant) -> Ground {
    within("a verdict", ask(consultant)).await.expect("somebody is asked").ground
}

/// Asks until nobody is asked any more, because the receiver counts as down. Answers that verdict, and how
/// often the receiver was not reached before: on a busy machine a probe may be due in between.
async fn until_it_counts_as_down(consultant: &Consultant) -> (Verdict, u32) {
    let mut unreachable = 0;
    loop {
        let verdict = within("a verdict", ask(consultant)).await.expect("somebody is asked");
        if verdict.ground == Ground::Busy {
            return (verdict, unreachable);
        }
        assert_eq!(verdict.ground, Ground::Unreachable);
        unreachable += 1;
        assert!(unreachable < 2 * FAILURES_IN_A_ROW_MAX, "it counts as down");
    }
}

const MESSAGE: [BeforeCommand; 1] = [BeforeCommand::BeforeSendMsg];

#[actix_web::test]
async fn the_first_of_an_app_that_asks_for_a_command_is_asked() {
    let receivers: Vec<Receiver> = (0..3).map(|_| Receiver::start(|_| Answer::Ok)).collect();
    let desks = desks(vec![
        target("a", &receivers[0].url(), &[BeforeCommand::PrevFriendAdd]),
        target("b", &receivers[1].url(), &MESSAGE),
        target("c", &receivers[2].url(), &MESSAGE),
    ]);
    let consultant = Consultant::new(desks);
    let verdict = within("a verdict", ask(&consultant)).await.expect("somebody is asked");
    assert_eq!((&*verdict.by, verdict.about), ("b", Matter::Message));
    assert_eq!((verdict.allowed, verdict.refused), (vec![id("bob")], Vec::new()));
    let heard: Vec<usize> = receivers.iter().map(|receiver| receiver.heard().len()).collect();
    assert_eq!(heard, [0, 1, 0]);
    assert_eq!(consultant.is_asked(APP, BeforeCommand::PrevFriendResponse), Some(false));
    assert_eq!(consultant.is_asked(AppId(7), BeforeCommand::BeforeSendMsg), Some(false));
}

#[actix_web::test]
async fn of_an_app_that_is_not_known_yet_nobody_says_that_it_asks_for_nothing() {
    let consultant = Consultant::new(desks(Vec::new()));
    let asked = || consultant.is_asked(APP, BeforeCommand::BeforeSendMsg);
    assert_eq!(asked(), Some(false));
    consultant.desks.serve(Vec::new(), &[APP]);
    assert_eq!(asked(), None);
    assert_eq!(consultant.is_asked(AppId(7), BeforeCommand::BeforeSendMsg), Some(false));
}

#[actix_web::test]
async fn who_is_asked_can_be_changed_at_any_time() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let consultant = Consultant::new(desks(Vec::new()));
    assert_eq!(ask(&consultant).await, None);
    consultant.desks.serve(vec![target("a", &receiver.url(), &MESSAGE)], &[]);
    assert_eq!(ground(&consultant).await, Ground::Answered);
    let other = Receiver::start(|_| Answer::Status(500));
    consultant.desks.serve(vec![target("a", &other.url(), &MESSAGE)], &[]);
    assert_eq!(ground(&consultant).await, Ground::Status);
    assert_eq!(consultant.callers.borrow().len(), 1, "connections to nobody are let go of");
    consultant.desks.serve(Vec::new(), &[]);
    assert_eq!(ask(&consultant).await, None);
    assert_eq!((receiver.heard().len(), other.heard().len()), (1, 1));
}

#[actix_web::test]
async fn questions_are_counted_while_their_subscriber_is_asked_whatever_changes_about_it() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let metrics = Metrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let asked = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.starts_with("cordon_webhook_questions_total{"))
    };
    let count = |count: u32| {
        Some(format!(
            r#"cordon_webhook_questions_total{{app="1400000001",subscription="a",command="{}",answer="allowed"}} {count}"#,
            MESSAGE[0].name()
        ))
    };
    let served = |url: &str| vec![target("a", url, &MESSAGE)];
    let desks = Desks::new(Clock::fixed(NOW), metrics);
    desks.serve(served(&receiver.url()), &[]);
    let consultant = Consultant::new(Arc::clone(&desks));
    assert_eq!(ground(&consultant).await, Ground::Answered);
    assert_eq!(asked(), count(1));
    let other = Receiver::start(|_| Answer::Ok);
    desks.serve(served(&other.url()), &[]);
    assert_eq!(ground(&consultant).await, Ground::Answered);
    assert_eq!(asked(), count(2));
    desks.serve(Vec::new(), &[]);
    assert_eq!(asked(), None);
}

#[actix_web::test]
async fn what_is_known_of_a_receiver_outlives_a_change_of_others() {
    let place = Place::reserve();
    let consultant = Consultant::new(desks(vec![target("a", &place.url(), &MESSAGE)]));
    let (_, unreachable) = until_it_counts_as_down(&consultant).await;
    assert!(unreachable >= FAILURES_IN_A_ROW_MAX, "after {unreachable}");
    let friends = target("b", &place.url(), &[BeforeCommand::PrevFriendAdd]);
    consultant.desks.serve(vec![friends, target("a", &place.url(), &MESSAGE)], &[]);
    let (verdict, unreachable) = until_it_counts_as_down(&consultant).await;
    assert!(unreachable < FAILURES_IN_A_ROW_MAX, "it was forgotten: {unreachable}");
    assert_eq!(verdict.refused.len(), 0);
}

/// Rule: what is set for a failure holds also while nobody is asked because of it.
#[actix_web::test]
async fn who_counts_as_down_is_settled_as_the_failure_that_says_so() {
    let place = Place::reserve();
    let mut target = target("a", &place.url(), &MESSAGE);
    target.terms =
        BeforeTerms { on_unreachable: Fallback::Deny, on_busy: Fallback::Allow, ..target.terms };
    let consultant = Consultant::new(desks(vec![target]));
    let (verdict, unreachable) = until_it_counts_as_down(&consultant).await;
    assert!(unreachable >= FAILURES_IN_A_ROW_MAX, "after {unreachable}");
    assert_eq!(verdict.refused.len(), 1);
}

#[actix_web::test]
async fn an_asker_that_goes_away_leaves_its_room_to_others() {
    let receiver = Receiver::start(|_| Answer::Never);
    let consultant = Consultant::new(desks(vec![target("a", &receiver.url(), &MESSAGE)]));
    let desk = consultant.desks.find(APP, BeforeCommand::BeforeSendMsg).expect("it is there");
    {
        let asking = std::pin::pin!(ask(&consultant));
        let heard = std::pin::pin!(receiver.until("a question", |heard| heard.len() == 1));
        let first = futures_util::future::select(asking, heard).await;
        assert!(matches!(first, futures_util::future::Either::Right(_)), "it hangs");
        assert_eq!(desk.state().open, 1);
    }
    assert_eq!(desk.state().open, 0);
    assert!(!desk.state().breaker.is_open());
}

#[actix_web::test]
async fn an_asker_that_goes_away_takes_no_probe_along() {
    let place = Place::reserve();
    let consultant = Consultant::new(desks(vec![target("a", &place.url(), &MESSAGE)]));
    let desk = consultant.desks.find(APP, BeforeCommand::BeforeSendMsg).expect("it is there");
    let mut state = desk.state();
    for _ in 0..FAILURES_IN_A_ROW_MAX {
        state.breaker.failed(0, id("amy"), Fault::Silence);
    }
    assert!(state.breaker.is_open());
    let due = state.breaker.probe_at().expect("a probe is waited for");
    state.breaker.sent();
    assert_eq!(state.breaker.allows(due, QUESTIONS_OPEN_MAX), 0);
    state.open += 1;
    drop(state);
    drop(Open { desks: &consultant.desks, desk: &desk, closed: false });
    let state = desk.state();
    assert_eq!((state.open, state.breaker.allows(due, QUESTIONS_OPEN_MAX)), (0, 1));
}
