//! What signs a subscription's calls, and what can be read of it.

use serde_json::json;

use super::{listed, people, people_of, set, tried};
use crate::support::{
    ADMIN, APP, Caller, Identity, KEY, NOW_S, Setup, TestNode, TestSubscriber, audit, eventually,
};

#[test]
fn a_new_secret_leaves_the_old_one_valid_for_a_while() {
    let (node, mut caller) = people();
    let subscriber = TestSubscriber::start();
    let url = subscriber.url();
    assert_eq!(set(&mut caller, "audit", &url, &json!({"Secret": "old"})).get("Secret"), None);
    let more = json!({"GenerateSecret": 1, "OverlapSeconds": 60});
    let answer = set(&mut caller, "audit", &url, &more);
    let secret = answer["Secret"].as_str().expect("it is shown once").to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    let secrets = |caller: &mut Caller| listed(caller)[0]["SecretItem"].clone();
    let mask = |until: i64| json!({"Secret": "********", "Until": until});
    assert_eq!(secrets(&mut caller), json!([mask(0), mask(NOW_S + 60)]));
    // The newest one signs.
    caller.block("amy", &["bob"]);
    subscriber.until_accepted(1);
    let heard = subscriber.take();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(format!("{secret}{NOW_S}"));
    let sign: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(heard[0].parameter("Sign"), Some(&*sign));
    // Once its time is over the old one goes with the next change.
    node.set_clock(u32::try_from(NOW_S + 60).expect("a time"));
    set(&mut caller, "audit", &url, &json!({"TimeoutMs": 1000}));
    assert_eq!(secrets(&mut caller), json!([mask(0)]));
    set(&mut caller, "audit", &url, &json!({"Secret": "newer", "OverlapSeconds": 0}));
    assert_eq!(secrets(&mut caller), json!([mask(0)]));
    set(&mut caller, "audit", &url, &json!({"Secret": ""}));
    assert_eq!(secrets(&mut caller), json!([]));
    let stopped = node.stop();
    let (_, records) = audit(&stopped.setup, &["replay", "--json"]);
    assert!(!records.contains(&secret[6..]));
}

#[test]
fn the_address_of_a_subscription_of_the_settings_is_shown_as_the_settings_are() {
    let subscriber = TestSubscriber::start();
    let hidden = format!("{}?token=hush", subscriber.url());
    let setup = Setup::new().webhook(&subscriber).set("WEBHOOK_URL", &hidden);
    let (_node, mut caller) = people_of(setup);
    let url = "https://receiver.example/hook?token=hush";
    set(&mut caller, "audit", url, &json!({"Enabled": 0}));
    let urls: Vec<_> = listed(&mut caller).iter().map(|item| item["Url"].clone()).collect();
    // Whoever sets one knows it.
    assert_eq!(urls, [json!(url), json!(format!("{}?********", subscriber.url()))]);
    caller.block("amy", &["bob"]);
    subscriber.until_accepted(1);
    assert_eq!(subscriber.heard()[0].parameter("token"), Some("hush"), "it is called as it is");
}

#[test]
fn a_subscription_whose_secret_cannot_be_read_is_held_and_never_sends_unsigned() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people();
    set(&mut caller, "audit", &subscriber.url(), &json!({"Secret": "xxxxyyyy"}));
    let stopped = node.stop();
    let other = "another key";
    let setup = stopped.setup.clone().set("APP_KEY", other);
    let node = TestNode::start(setup.clone(), NOW_S);
    let mut caller = node.caller_as(Identity::new(APP, other, ADMIN));
    caller.block("amy", &["bob"]);
    assert_eq!(listed(&mut caller)[0]["State"], "held");
    assert_eq!(tried(&mut caller, "audit")["Result"], "held");
    node.stop();
    assert!(subscriber.heard().is_empty());
    // During a change of keys both are there.
    let node = TestNode::start(setup.set("APP_KEY", &format!("{other},{KEY}")), NOW_S);
    subscriber.until_accepted(1);
    let mut caller = node.caller();
    assert_eq!(listed(&mut caller)[0]["State"], "serving");
    assert!(subscriber.take()[0].parameter("Sign").is_some());
}

#[test]
fn a_change_of_keys_loses_no_secret_whichever_of_the_keys_a_node_has() {
    let subscriber = TestSubscriber::start();
    let (node, mut caller) = people();
    set(&mut caller, "audit", &subscriber.url(), &json!({"Secret": "xxxxyyyy"}));
    let setup = node.stop().setup;
    let other = "another key";
    let node = TestNode::start(setup.clone().set("APP_KEY", &format!("{other},{KEY}")), NOW_S);
    eventually("the secret is sealed under both", || half_sealed(&node) == 0.0);
    node.stop();
    for (key, target) in [(other, "bob"), (KEY, "carl")] {
        let node = TestNode::start(setup.clone().set("APP_KEY", key), NOW_S);
        let mut caller = node.caller_as(Identity::new(APP, key, ADMIN));
        assert_eq!(listed(&mut caller)[0]["State"], "serving", "{key}");
        caller.block("amy", &[target]);
        subscriber.until_accepted(1);
        assert!(subscriber.take()[0].parameter("Sign").is_some(), "{key}");
        assert_eq!(half_sealed(&node), 0.0, "a node with one of the keys has nothing to add");
        node.stop();
    }
}

#[test]
fn a_subscription_that_is_held_shows_and_is_served_again_once_its_secret_is_set_anew() {
    let (node, mut caller) = people();
    let subscriber = TestSubscriber::start();
    set(&mut caller, "audit", &subscriber.url(), &json!({"Secret": "xxxxyyyy"}));
    let other = "another key";
    let node = TestNode::start(node.stop().setup.set("APP_KEY", other), NOW_S);
    let mut caller = node.caller_as(Identity::new(APP, other, ADMIN));
    assert_eq!(held(&node), 1.0);
    caller.block("amy", &["bob"]);
    // The one that cannot be read is replaced by it, and would sign for a day.
    set(&mut caller, "audit", &subscriber.url(), &json!({"Secret": "xxxxyyyy"}));
    assert_eq!((&listed(&mut caller)[0]["State"], held(&node)), (&json!("serving"), 0.0));
    subscriber.until_accepted(1);
    assert!(subscriber.take()[0].parameter("Sign").is_some());
}

fn held(node: &TestNode) -> f64 {
    node.samples("cordon_webhook_held_subscriptions").into_values().sum()
}

fn half_sealed(node: &TestNode) -> f64 {
    node.samples("cordon_webhook_half_sealed_subscriptions").into_values().sum()
}
