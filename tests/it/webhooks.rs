//! What a subscriber hears. Rule: webhooks.md.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{
    Caller, Heard, Identity, NOW_S, Reaction, Setup, TestNode, TestSubscriber, eventually,
};

const EVERYBODY: [&str; 5] = ["amy", "bob", "carl", "dora", "eve"];

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    (node, caller)
}

fn commands(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(Heard::command).collect()
}

/// Who was blocked, in the order heard.
fn blocked(heard: &[Heard]) -> Vec<String> {
    heard.iter().flat_map(Heard::pairs).map(|(_, to)| to).collect()
}

#[test]
fn a_call_says_exactly_what_the_reference_says() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_TOKEN", "xxxxyyyy");
    let (node, mut caller) = people_of(setup);
    let answer = caller.block("amy", &["bob", "carl"]);
    node.settle();
    let heard = subscriber.take();
    assert_eq!(heard.len(), 1);
    let hash = Sha256::digest(format!("xxxxyyyy{NOW_S}"));
    let sign: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        heard[0].target,
        format!(
            "/hook?SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json\
             &ClientIP=127.0.0.1&OptPlatform=RESTAPI&Sign={sign}&RequestTime={NOW_S}"
        )
    );
    assert_eq!(
        heard[0].message.text(),
        r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"bob"},{"From_Account":"amy","To_Account":"carl"}]}"#
    );
    assert_eq!(heard[0].message.header("content-type"), Some("application/json"));
    let place = answer.header("cordon-position").expect("a place");
    assert_eq!(heard[0].id(), format!("{place}.Sns.CallbackBlackListAdd"));
}

#[test]
fn headers_tell_the_place_of_a_call_unless_they_are_switched_off() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    subscriber.react_by(|heard| match heard.header("webhook-attempt") {
        "1" => Reaction::Status(500),
        _ => Reaction::Accept,
    });
    let place =
        caller.block("amy", &["bob"]).header("cordon-position").expect("a place").to_owned();
    caller.block("amy", &["carl"]);
    node.settle();
    let heard = subscriber.take();
    let told = |name| heard.iter().map(|heard| heard.header(name)).collect::<Vec<_>>();
    assert_eq!(told("webhook-attempt"), ["1", "2", "1", "2"]);
    let (partition, _) = place.split_once('@').expect("a partition and an offset");
    let seq = [1, 2].map(|number| format!("{partition}:{number}"));
    assert_eq!(told("webhook-seq"), [&seq[0], &seq[0], &seq[1], &seq[1]]);
    assert_eq!(told("webhook-prev"), ["", "", heard[0].id(), heard[0].id()]);

    let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_HEADERS", "false");
    subscriber.react(Reaction::Accept);
    let (node, mut caller) = people_of(setup);
    caller.block("amy", &["bob"]);
    node.settle();
    let [heard] = &subscriber.take()[..] else { panic!("one call") };
    for name in ["id", "timestamp", "seq", "prev", "attempt", "signature"] {
        assert_eq!(heard.message.header(&format!("webhook-{name}")), None);
    }
}

#[test]
fn an_app_may_have_its_calls_made_and_signed_as_standard_webhooks_are() {
    const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let subscriber = TestSubscriber::start();
    let setup = Setup::new()
        .webhook(&subscriber)
        .set("WEBHOOK_FORMAT", "standard")
        .set("WEBHOOK_SECRETS", &format!("{NEW},{OLD}"))
        .set("WEBHOOK_HEADERS", "false");
    let (node, mut caller) = people_of(setup);
    caller.block("amy", &["bob"]);
    node.settle();
    let [heard] = &subscriber.take()[..] else { panic!("one call") };
    assert_eq!(heard.target, "/hook");
    assert_eq!(
        heard.body,
        json!({"type": "Sns.CallbackBlackListAdd", "timestamp": "2023-11-14T22:15:00.000Z",
            "data": {"CallbackCommand": "Sns.CallbackBlackListAdd",
                "PairList": [{"From_Account": "amy", "To_Account": "bob"}]}})
    );
    assert_eq!(heard.header("webhook-timestamp"), NOW_S.to_string());
    let signatures = [NEW, OLD].map(|secret| {
        let receiver = standardwebhooks::Webhook::new(secret).expect("a secret");
        receiver.sign(heard.id(), NOW_S, &heard.message.body).expect("it is text")
    });
    assert_eq!(heard.header("webhook-signature"), signatures.join(" "));
    assert_eq!(heard.message.header("webhook-seq"), None);
}

#[test]
fn a_receiver_that_asks_for_patience_is_left_alone() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    subscriber.react_by(|heard| match heard.pairs()[0].0.as_str() {
        "amy" => Reaction::Busy(1),
        _ => Reaction::Accept,
    });
    caller.block("amy", &["bob"]);
    subscriber.until("the call that is put off", |heard| !heard.is_empty());
    let put_off = Instant::now();
    subscriber.react(Reaction::Accept);
    caller.block("carl", &["bob"]);
    node.settle();
    assert!(put_off.elapsed() > Duration::from_millis(900), "{:?}", put_off.elapsed());
    let heard = subscriber.take();
    let told: Vec<(&str, bool)> =
        heard.iter().map(|heard| (heard.header("webhook-attempt"), heard.accepted)).collect();
    assert_eq!(told, [("1", false), ("1", true), ("1", true)], "no attempt is spent");
}

#[test]
fn a_friendship_is_told_with_who_made_it_and_how() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.add_friends("amy", &["bob"], &json!({"ForceAddFlags": 1}));
    caller.add_friends("amy", &["carl"], &json!({"AddType": "Add_Type_Single"}));
    node.settle();
    let heard = subscriber.take();
    let pair = |from: &str, to: &str| json!({"From_Account": from, "To_Account": to, "Initiator_Account": "amy"});
    let body = |pairs, force| {
        json!({"CallbackCommand": "Sns.CallbackFriendAdd", "PairList": pairs,
            "ClientCmd": "friend_add", "Admin_Account": "administrator", "ForceFlag": force})
    };
    assert_eq!(heard[0].body, body(json!([pair("amy", "bob"), pair("bob", "amy")]), 1));
    assert_eq!(heard[1].body, body(json!([pair("amy", "carl")]), 0));
    assert_eq!(heard.len(), 2);
}

#[test]
fn what_fails_or_changes_nothing_is_not_told() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.block("amy", &["bob"]);
    node.settle();
    subscriber.take();
    caller.block("amy", &["bob", "nobody", "amy"]);
    caller.unblock("amy", &["carl"]);
    caller.befriend("amy", &["bob"]);
    caller.befriend("bob", &["amy"]);
    caller.unfriend("amy", &["carl"], "Delete_Type_Both");
    caller.import_friends("amy", &["dora"]);
    caller.delete_accounts(&["eve", "nobody"]);
    node.settle();
    assert_eq!(commands(&subscriber.take()), [""; 0]);
    assert_eq!(caller.block("amy", &["bob", "carl", "nobody"]).codes(), [30001, 0, 30003]);
    node.settle();
    assert_eq!(blocked(&subscriber.take()), ["carl"], "only entries that succeeded");
}

#[test]
fn a_subscriber_hears_only_what_it_asked_for() {
    let subscriber = TestSubscriber::start();
    let setup =
        Setup::new().webhook(&subscriber).set("WEBHOOK_COMMANDS", "Sns.CallbackFriendDelete");
    let (node, mut caller) = people_of(setup);
    caller.befriend("amy", &["bob"]);
    caller.block("amy", &["bob"]);
    caller.unblock("amy", &["bob"]);
    node.settle();
    assert_eq!(commands(&subscriber.take()), ["Sns.CallbackFriendDelete"]);
}

#[test]
fn a_failed_call_is_repeated_with_the_same_bytes_until_it_is_accepted() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    for (reaction, target) in [
        (Reaction::Status(500), "bob"),
        (Reaction::Status(302), "carl"),
        (Reaction::Hangup, "dora"),
    ] {
        subscriber.react(reaction);
        caller.block("amy", &[target]);
        subscriber.until("some attempts", |heard| heard.len() >= 3);
        subscriber.react(Reaction::Accept);
        node.settle();
        let heard = subscriber.take();
        let first = &heard[0];
        assert_eq!(first.pairs()[0].1, target);
        assert!(heard.iter().all(|heard| heard.id() == first.id()), "{reaction:?}");
        assert!(heard.iter().all(|heard| heard.message.body == first.message.body));
        let accepted = heard.iter().filter(|heard| heard.accepted).count();
        assert_eq!(accepted, 1, "{reaction:?}");
    }
}

#[test]
fn whose_calls_fail_holds_up_nobody_else() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    subscriber.react_by(|heard| match heard.pairs()[0].0.as_str() {
        "amy" => Reaction::Status(503),
        _ => Reaction::Accept,
    });
    caller.block("amy", &["bob"]);
    caller.block("amy", &["carl"]);
    caller.unblock("amy", &["bob"]);
    for owner in ["bob", "carl", "dora"] {
        caller.block(owner, &["eve"]);
    }
    subscriber.until_accepted(3);
    let is_tried_again = |heard: &[Heard]| heard.iter().filter(|one| !one.accepted).count() > 1;
    subscriber.until("amy's first call is tried again", is_tried_again);
    assert!(subscriber.accepted().iter().all(|heard| heard.pairs()[0].1 == "eve"));
    let of_amy = subscriber.heard();
    let of_amy: Vec<&Heard> = of_amy.iter().filter(|heard| !heard.accepted).collect();
    assert!(of_amy.iter().all(|heard| heard.id() == of_amy[0].id()), "the others wait behind it");

    subscriber.react(Reaction::Accept);
    node.settle();
    let accepted = subscriber.accepted();
    let of_amy: Vec<&Heard> = accepted.iter().filter(|heard| heard.pairs()[0].0 == "amy").collect();
    let told: Vec<(&str, String)> =
        of_amy.iter().map(|heard| (heard.command(), heard.pairs()[0].1.clone())).collect();
    let (add, delete) = ("Sns.CallbackBlackListAdd", "Sns.CallbackBlackListDelete");
    assert_eq!(told, [(add, "bob".into()), (add, "carl".into()), (delete, "bob".into())]);
}

#[test]
fn an_outage_of_the_receiver_costs_lag_and_no_call() {
    let mut subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    subscriber.close();
    let mut expected: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for turn in 0..5 {
        for owner in EVERYBODY {
            for target in EVERYBODY.into_iter().filter(|name| *name != owner) {
                let command = if turn % 2 == 0 {
                    caller.block(owner, &[target]);
                    "Sns.CallbackBlackListAdd"
                } else {
                    caller.unblock(owner, &[target]);
                    "Sns.CallbackBlackListDelete"
                };
                expected.entry(owner).or_default().push((command, target));
            }
        }
    }
    // The last of them may not have been read for the webhooks yet.
    eventually("all of it is owed", || node.lags().values().sum::<f64>() >= 100.0);
    assert_eq!(node.ops("/readyz").status(), 200, "an outage elsewhere is no reason to stop");
    assert_eq!(subscriber.heard().len(), 0);

    subscriber.open();
    node.settle();
    let heard = subscriber.accepted();
    assert_eq!(heard.len(), 100, "each once");
    for (owner, expected) in expected {
        let of_owner: Vec<(&str, String)> = heard
            .iter()
            .filter(|heard| heard.pairs()[0].0 == owner)
            .map(|heard| (heard.command(), heard.pairs()[0].1.clone()))
            .collect();
        assert!(
            of_owner.iter().map(|(command, target)| (*command, target.as_str())).eq(expected),
            "{owner}: {of_owner:?}"
        );
    }
}

#[test]
fn what_is_owed_survives_a_restart_and_what_was_told_is_not_told_again() {
    let mut subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.block("amy", &["bob"]);
    caller.block("dora", &["bob"]);
    node.settle();
    assert_eq!(subscriber.take().len(), 2);
    subscriber.close();
    caller.block("amy", &["carl"]);
    caller.unblock("amy", &["bob"]);
    drop(caller);
    let node = node.restart();
    let mut caller = node.caller();
    caller.block("amy", &["eve"]);
    subscriber.open();
    node.settle();
    let heard = subscriber.take();
    let told: Vec<(&str, String)> =
        heard.iter().map(|heard| (heard.command(), heard.pairs()[0].1.clone())).collect();
    let (add, delete) = ("Sns.CallbackBlackListAdd", "Sns.CallbackBlackListDelete");
    assert_eq!(told, [(add, "carl".into()), (delete, "bob".into()), (add, "eve".into())]);

    drop(caller);
    let node = node.restart();
    node.settle();
    assert_eq!(subscriber.take().len(), 0);
}

#[test]
fn a_subscriber_that_comes_later_hears_nothing_of_what_was_before() {
    let (node, mut caller) = people_of(Setup::new());
    caller.block("amy", &["bob"]);
    drop(caller);
    let mut stopped = node.stop();
    let subscriber = TestSubscriber::start();
    stopped.setup = stopped.setup.webhook(&subscriber);
    let node = stopped.start();
    let mut caller = node.caller();
    caller.block("amy", &["carl"]);
    node.settle();
    assert_eq!(blocked(&subscriber.take()), ["carl"]);
}

#[test]
fn an_app_may_have_each_call_made_once_as_the_reference_does() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_CALL_ONCE", "true");
    let (node, mut caller) = people_of(setup);
    subscriber.react(Reaction::Status(500));
    caller.block("amy", &["bob"]);
    node.settle();
    subscriber.react(Reaction::Accept);
    caller.block("amy", &["carl"]);
    node.settle();
    assert_eq!(blocked(&subscriber.take()), ["bob", "carl"]);
    let given_up = r#"app="1400000001",subscription="main",command="Sns.CallbackBlackListAdd",delivered="false""#;
    eventually("it is counted", || {
        node.samples("cordon_webhook_deliveries_total").get(given_up) == Some(&1.0)
    });
}

#[test]
fn each_app_has_its_own_way_of_being_told() {
    let patient = TestSubscriber::start();
    let hasty = TestSubscriber::start();
    let key = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    let setup = Setup::new().webhook(&patient).file(&format!(
        "[[app]]\nid = 1400000002\nkeys = [\"{key}\"]\n[app.webhook]\nurl = \"{}\"\n\
         call_once = true\ntimeout_ms = 30000\n",
        hasty.url()
    ));
    let (node, mut first) = people_of(setup);
    let mut second = node.caller_as(Identity::new(1_400_000_002, key, "administrator"));
    second.import(&["amy", "bob"]);
    patient.react(Reaction::Status(500));
    hasty.react(Reaction::Status(500));
    first.block("amy", &["bob"]);
    second.block("amy", &["bob"]);
    patient.until("a repetition", |heard| heard.len() >= 2);
    patient.react(Reaction::Accept);
    node.settle();
    assert_eq!(hasty.heard().len(), 1);
    assert_eq!(patient.accepted().len(), 1);
}

#[test]
fn what_webhooks_do_can_be_seen() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.block("amy", &["bob"]);
    node.settle();
    let attempts = node.samples("cordon_webhook_attempts_total");
    assert_eq!(attempts[r#"app="1400000001",subscription="main",outcome="delivered""#], 1.0);
    let deliveries = node.samples("cordon_webhook_deliveries_total");
    let blocks = r#"app="1400000001",subscription="main",command="Sns.CallbackBlackListAdd",delivered="true""#;
    assert_eq!(deliveries[blocks], 1.0);
    assert_eq!(node.samples("cordon_webhook_attempt_seconds_count")[""], 1.0);
    let lags: Vec<String> = node.lags().into_keys().collect();
    assert_eq!(lags, [r#"app="1400000001",subscription="main""#]);
}
