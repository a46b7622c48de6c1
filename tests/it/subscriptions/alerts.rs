//! What an app is told of its own calls.

use serde_json::json;

use super::{ADD, people_of, set};
use crate::support::{Heard, Setup, TestSubscriber};

const ALERT: &str = "Alert.RequestOverLimit";
const LIMIT: u64 = 10;
/// More than four fifths of the limit.
const MANY: u64 = 13;

#[test]
fn of_a_limit_that_is_nearly_reached_those_who_ask_are_told_and_again_after_a_minute() {
    let limits = format!("sns/black_list_get={LIMIT}");
    let main = TestSubscriber::start();
    let (node, mut caller) = people_of(
        Setup::new().set("RATE_LIMITS", &limits).webhook(&main).set("WEBHOOK_TOKEN", "t"),
    );
    let (usual, others) = (TestSubscriber::start(), TestSubscriber::start());
    set(&mut caller, "usual", &usual.url(), &json!({}));
    set(&mut caller, "blocks", &others.url(), &json!({ "Commands": [ADD] }));
    set(&mut caller, "off", &others.url(), &json!({ "Enabled": 0 }));
    let get = json!({"From_Account": "amy"});
    let mut ask = |times| {
        let codes = (0..times).map(|_| caller.call("sns/black_list_get", &get).code());
        codes.filter(|code| *code == 60007).count() as u64
    };

    // Four fifths are not too many, as often as one likes.
    for _ in 0..3 {
        assert_eq!(ask(LIMIT * 8 / 10), 0);
        node.pass_ms(1_000);
    }
    for times in 1..=2 {
        assert_eq!(ask(MANY), MANY - LIMIT);
        for subscriber in [&main, &usual] {
            subscriber.until("an alert is heard", |heard| heard.len() >= times);
        }
        node.pass_ms(60_000);
    }
    for subscriber in [&main, &usual] {
        let heard = subscriber.take();
        assert_eq!(heard.len(), 2);
        heard.iter().for_each(assert_is_alert);
    }
    assert!(others.heard().is_empty());
}

fn assert_is_alert(heard: &Heard) {
    assert_eq!(heard.parameter("CallbackCommand"), Some(ALERT));
    assert_eq!(heard.parameter("ClientIP"), Some("127.0.0.1"));
    assert_eq!(heard.parameter("Sign").is_some(), heard.parameter("RequestTime").is_some());
    assert!(heard.id().starts_with("alert-"));
    let requests = heard.body["Request"].as_u64().expect("a number");
    // All of them, if they were made while it was waited for the end of the second.
    assert!((LIMIT * 8 / 10 + 1..=MANY).contains(&requests), "{requests}");
    let expected = json!({"CallbackCommand": ALERT, "ServiceName": "sns", "Command": "black_list_get",
        "Request": requests, "Limit": LIMIT});
    assert_eq!(heard.body, expected);
}
