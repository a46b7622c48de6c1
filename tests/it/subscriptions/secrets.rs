//! What signs a subscription's calls, and what can be read of it.

use serde_json::json;

use super::{listed, people, set, tried};
use crate::support::{ADMIN, APP, Caller, Identity, KEY, NOW_S, TestNode, TestSubscriber, audit};

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
