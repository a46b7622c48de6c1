//! Several subscriptions of an app: set, moved, replayed and deleted by calls, or in the settings.

mod alerts;
mod replays;
mod secrets;

use std::collections::BTreeSet;
use std::thread;

use cordon::journal::Partition;
use serde_json::{Value, json};

use crate::support::{
    APP, Caller, Heard, Identity, KEY, NOW_S, Reaction, Setup, TestNode, TestProcess,
    TestSubscriber, audit, block_on, eventually, kafka,
};

const EVERYBODY: [&str; 5] = ["amy", "bob", "carl", "dora", "eve"];
const ADD: &str = "Sns.CallbackBlackListAdd";
const DELETE: &str = "Sns.CallbackBlackListDelete";

fn people() -> (TestNode, Caller) {
    people_of(Setup::new())
}

fn people_of(setup: Setup) -> (TestNode, Caller) {
    let node = setup.start();
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    (node, caller)
}

/// A body of `subscription_set` with waits that suit a test: no call is repeated because the machine was
/// busy when it was answered.
fn terms(name: &str, url: &str, more: &Value) -> Value {
    let mut body = json!({"Name": name, "Url": url, "RetryMinMs": 20, "RetryMaxMs": 200,
        "TimeoutMs": 30_000});
    let fields = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

fn set(caller: &mut Caller, name: &str, url: &str, more: &Value) -> Value {
    caller.call("webhook/subscription_set", &terms(name, url, more)).ok().body
}

fn delete(caller: &mut Caller, name: &str) {
    caller.call("webhook/subscription_delete", &json!({ "Name": name })).ok();
}

fn listed(caller: &mut Caller) -> Vec<Value> {
    let answer = caller.call("webhook/subscription_list", &json!({})).ok();
    answer.body["SubscriptionItem"].as_array().expect("a list").clone()
}

fn tried(caller: &mut Caller, name: &str) -> Value {
    caller.call("webhook/subscription_test", &json!({ "Name": name })).ok().body
}

fn replay(caller: &mut Caller, body: &Value) -> Value {
    caller.call("webhook/replay_start", body).ok().body
}

fn replays(caller: &mut Caller) -> Vec<Value> {
    let answer = caller.call("webhook/replay_list", &json!({})).ok();
    answer.body["ReplayItem"].as_array().expect("a list").clone()
}

/// Who was blocked, in the order heard.
fn blocked(heard: &[Heard]) -> Vec<String> {
    heard.iter().flat_map(Heard::pairs).map(|(_, to)| to).collect()
}

/// The places that the app's subscriptions have in all partitions.
fn places(node: &TestNode) -> BTreeSet<String> {
    let users = node.users();
    let partitions = (0..users.partitions()).map(Partition);
    let each = block_on(async { users.asker().cursors(partitions, "webhook/").await });
    let each = each.into_iter().flat_map(|seen| seen.expect("the partitions are served").cursors);
    each.map(|(name, _)| name).collect()
}

#[test]
fn what_is_set_is_listed_until_it_is_deleted() {
    let (node, mut caller) = people();
    let url = "https://receiver.example/hook";
    let more = json!({"Commands": [DELETE, ADD], "Secret": "s3cret", "FailurePolicy": "skip",
        "PerSecond": 9, "BeforeOnTimeout": "deny"});
    let mut asked = terms("audit", url, &more);
    asked.as_object_mut().expect("an object").remove("TimeoutMs");
    let answer = caller.call("webhook/subscription_set", &asked).ok();
    assert!(answer.header("cordon-position").is_some());
    let items = listed(&mut caller);
    let [item] = &items[..] else { panic!("{items:?}") };
    for (field, value) in [
        ("Name", json!("audit")),
        ("Source", json!("call")),
        ("State", json!("serving")),
        ("Url", json!(url)),
        ("Commands", json!([ADD, DELETE])),
        ("FailurePolicy", json!("skip")),
        ("PerSecond", json!(9)),
        ("BeforeOnTimeout", json!("deny")),
        ("BeforeOnStatus", json!("allow")),
        ("TimeoutMs", json!(2000)),
        ("SecretItem", json!([{"Secret": "********", "Until": 0}])),
    ] {
        assert_eq!(item[field], value, "{field}");
    }
    let again = caller.call("webhook/subscription_set", &asked).ok();
    assert_eq!(again.header("cordon-position"), None, "the same again changes nothing");

    let name = format!("webhook/{APP}/audit");
    assert_eq!(places(&node), BTreeSet::from([name]));
    delete(&mut caller, "audit");
    delete(&mut caller, "audit");
    assert_eq!(listed(&mut caller), Vec::<Value>::new());
    eventually("its places are given up", || places(&node).is_empty());

    let stopped = node.stop();
    let (code, records) = audit(&stopped.setup, &["replay", "--json"]);
    assert_eq!(code, 0);
    assert!(records.contains("SubscriptionSet") && !records.contains("s3cret"), "{records}");
    let (code, told) = audit(&stopped.setup, &["history", "~webhooks"]);
    assert_eq!(code, 0, "{told}");
    let sentence =
        format!("set the subscription audit, which calls \"{url}\" for {ADD}, {DELETE}, signed");
    assert!(told.contains(&sentence), "{told}");
    assert!(told.contains("has no subscription audit any more"), "{told}");
}

#[test]
fn each_subscription_hears_what_it_asked_for_from_the_answer_on() {
    let (node, mut caller) = people();
    let (adds, deletes) = (TestSubscriber::start(), TestSubscriber::start());
    caller.block("amy", &["bob"]);
    set(&mut caller, "adds", &adds.url(), &json!({"Commands": [ADD]}));
    set(&mut caller, "deletes", &deletes.url(), &json!({"Commands": [DELETE]}));
    caller.block("amy", &["carl"]);
    caller.unblock("amy", &["bob"]);
    caller.block("eve", &["dora"]);
    adds.until_accepted(2);
    deletes.until_accepted(1);
    node.settle();
    let heard: BTreeSet<String> = blocked(&adds.take()).into_iter().collect();
    assert_eq!(heard, ["carl", "dora"].map(str::to_owned).into());
    assert_eq!(blocked(&deletes.take()), ["bob"]);

    // Asking for something else holds from then on.
    set(&mut caller, "adds", &adds.url(), &json!({"Commands": [DELETE]}));
    node.settle();
    caller.unblock("amy", &["carl"]);
    adds.until_accepted(1);
    assert_eq!(adds.take()[0].command(), DELETE);
}

#[test]
fn a_subscriber_that_fails_does_not_hold_up_another_one() {
    let (_node, mut caller) = people();
    let (bad, good) = (TestSubscriber::start(), TestSubscriber::start());
    bad.react(Reaction::Hangup);
    set(&mut caller, "bad", &bad.url(), &json!({}));
    set(&mut caller, "good", &good.url(), &json!({}));
    for target in ["bob", "carl", "dora", "eve"] {
        caller.block("amy", &[target]);
    }
    good.until_accepted(4);
    assert_eq!(blocked(&good.accepted()), ["bob", "carl", "dora", "eve"]);
    bad.until("it is tried", |heard| heard.len() > 1);
    assert!(bad.accepted().is_empty());
    bad.react(Reaction::Accept);
    bad.until_accepted(4);
    assert_eq!(blocked(&bad.accepted()), ["bob", "carl", "dora", "eve"]);
}

#[test]
fn a_changed_address_goes_on_where_the_old_one_stopped() {
    let (node, mut caller) = people();
    let (gone, new) = (TestSubscriber::away(), TestSubscriber::start());
    set(&mut caller, "audit", &gone.url(), &json!({}));
    caller.block("amy", &["bob", "carl"]);
    caller.block("amy", &["dora"]);
    set(&mut caller, "audit", &new.url(), &json!({}));
    new.until_accepted(2);
    assert_eq!(blocked(&new.take()), ["bob", "carl", "dora"]);

    // Switched off it waits, and so it does without an address.
    set(&mut caller, "audit", &new.url(), &json!({"Enabled": 0}));
    caller.block("amy", &["eve"]);
    assert_eq!(listed(&mut caller)[0]["State"], "off");
    set(&mut caller, "audit", "", &json!({}));
    assert_eq!(listed(&mut caller)[0]["State"], "pulled");
    let node = node.restart();
    let mut caller = node.caller();
    assert!(new.heard().is_empty());
    set(&mut caller, "audit", &new.url(), &json!({}));
    new.until_accepted(1);
    assert_eq!(blocked(&new.take()), ["eve"]);
}

#[test]
fn subscriptions_outlive_a_kill() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    caller.import(&EVERYBODY);
    set(&mut caller, "audit", &subscriber.url(), &json!({"Secret": "xxxxyyyy"}));
    caller.block("amy", &["bob"]);
    node.kill();
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    assert_eq!(listed(&mut caller)[0]["Name"], "audit");
    caller.block("amy", &["carl"]);
    subscriber.until("both are heard", |heard| {
        let heard: BTreeSet<String> = blocked(heard).into_iter().collect();
        heard == ["bob", "carl"].map(str::to_owned).into()
    });
    assert!(subscriber.heard().iter().all(|heard| heard.parameter("Sign").is_some()));
    node.kill();
    crate::support::verify(&setup);
}

#[test]
fn a_test_says_what_came_of_a_call_that_tells_nothing() {
    let (_node, mut caller) = people();
    let mut subscriber = TestSubscriber::start();
    set(&mut caller, "audit", &subscriber.url(), &json!({"Enabled": 0, "Secret": "xxxxyyyy"}));
    let answer = tried(&mut caller, "audit");
    assert_eq!((&answer["Result"], &answer["Status"]), (&json!("delivered"), &json!(200)));
    assert_eq!(answer["Info"], "");
    let heard = subscriber.take();
    assert_eq!(heard[0].body, json!({"CallbackCommand": "Cordon.Test", "EventTime": NOW_S * 1000}));
    assert_eq!(heard[0].parameter("CallbackCommand"), Some("Cordon.Test"));
    assert!(heard[0].parameter("Sign").is_some());
    assert!(heard[0].id().starts_with("test-"));
    subscriber.react(Reaction::Status(503));
    let answer = tried(&mut caller, "audit");
    assert_eq!((&answer["Result"], &answer["Status"]), (&json!("refused"), &json!(503)));
    subscriber.close();
    let answer = tried(&mut caller, "audit");
    assert_eq!((&answer["Result"], &answer["Status"]), (&json!("unreachable"), &json!(0)));
    assert_ne!(answer["Info"], "");
    set(&mut caller, "audit", "", &json!({}));
    assert_eq!(tried(&mut caller, "audit")["Result"], "pulled");
}

#[test]
fn an_address_that_a_call_sets_leads_to_public_places_only() {
    let (_node, mut caller) = people_of(Setup::new().set("WEBHOOKS_ALLOWED_SUBNETS", ""));
    let subscriber = TestSubscriber::start();
    let url = subscriber.url();
    for url in [&url, "http://10.0.0.1/", "http://169.254.169.254/latest", "http://2130706433/"] {
        let answer = caller.call("webhook/subscription_set", &terms("audit", url, &json!({})));
        assert_eq!(answer.code(), 97002, "{}", answer.body);
    }
    // What a name leads to is seen when it is called.
    set(&mut caller, "audit", &url.replace("127.0.0.1", "localhost"), &json!({}));
    let answer = tried(&mut caller, "audit");
    assert_eq!((&answer["Result"], &answer["Status"]), (&json!("guarded"), &json!(0)));
    let elsewhere = json!({"Name": "audit", "Url": url});
    assert_eq!(caller.call("webhook/replay_start", &elsewhere).code(), 97002);
    assert!(subscriber.heard().is_empty());
}

#[test]
fn subscriptions_of_the_settings_are_served_beside_the_main_one_and_changed_there_alone() {
    let (main, other) = (TestSubscriber::start(), TestSubscriber::start());
    let file = format!(
        "[[app]]\nid = {APP}\n[[app.webhook.subscription]]\nname = \"other\"\nurl = \"{}\"\n\
         token = \"xxxxyyyy\"\ncommands = [\"{DELETE}\"]\n",
        other.url()
    );
    let (_node, mut caller) = people_of(Setup::new().webhook(&main).file(&file));
    caller.block("amy", &["bob"]);
    caller.unblock("amy", &["bob"]);
    main.until_accepted(2);
    other.until_accepted(1);
    assert_eq!(other.take()[0].command(), DELETE);
    let items = listed(&mut caller);
    let names: Vec<&Value> = items.iter().map(|item| &item["Name"]).collect();
    assert_eq!(names, ["main", "other"]);
    assert!(items.iter().all(|item| item["Source"] == "settings"));
    assert_eq!(items[1]["SecretItem"], json!([{"Secret": "********", "Until": 0}]));
    let refused = caller.call("webhook/subscription_set", &terms("other", "http://a", &json!({})));
    assert_eq!(refused.code(), 97012);
    let refused = caller.call("webhook/subscription_delete", &json!({"Name": "main"}));
    assert_eq!(refused.code(), 97012);
    // They are moved, tried and replayed like any other.
    assert_eq!(tried(&mut caller, "main")["Result"], "delivered");
    main.until("the test is heard", |heard| heard.len() == 3);
    main.take();
    assert_eq!(replay(&mut caller, &json!({"Name": "other"}))["Number"], 1);
    other.until_accepted(1);
    eventually("the replay ends", || replays(&mut caller).is_empty());
}

#[test]
fn only_admins_have_to_do_with_subscriptions_and_no_account_is_called_like_their_stream() {
    let (node, mut caller) = people();
    let mut amy = node.caller_as(Identity::new(APP, KEY, "amy"));
    for command in ["subscription_set", "subscription_list", "subscription_delete", "replay_start"]
    {
        let refused = amy.call(&format!("webhook/{command}"), &json!({"Name": "audit"}));
        assert_eq!(refused.code(), 60010, "{command}");
    }
    let import = json!({"UserID": "~webhooks"});
    assert_eq!(caller.call("im_open_login_svc/account_import", &import).code(), 70402);
    set(&mut caller, "audit", "http://receiver.example", &json!({"Enabled": 0}));
    assert_eq!(caller.block("amy", &["~webhooks"]).codes(), [30003]);
    assert_eq!(caller.delete_accounts(&["~webhooks"]).codes(), [70107]);
    assert_eq!(listed(&mut caller).len(), 1);
    node.stop();
    let refused = TestNode::try_start(Setup::new().set("APP_ADMIN", "~webhooks"), NOW_S);
    let reason = refused.err().expect("such a node does not start");
    assert!(reason.contains("the name ~webhooks is reserved"), "{reason}");
}

#[test]
fn what_is_set_through_one_node_is_served_by_all() {
    let Some(kafka) = kafka::shared() else { return };
    let setups = Setup::cluster(kafka, 3);
    let nodes: Vec<TestProcess> = thread::scope(|scope| {
        let starting: Vec<_> =
            setups.iter().map(|setup| scope.spawn(|| TestProcess::start(setup))).collect();
        starting.into_iter().map(|node| node.join().expect("the node starts")).collect()
    });
    let mut callers: Vec<Caller> = nodes.iter().map(TestProcess::caller).collect();
    let names: Vec<String> = (0..12).map(|index| format!("user{index}")).collect();
    callers[0].import(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let subscriber = TestSubscriber::start();
    set(&mut callers[1], "audit", &subscriber.url(), &json!({"Commands": [ADD]}));
    // However a node learns of it, it serves it from then on.
    callers.iter_mut().for_each(|caller| assert_eq!(listed(caller)[0]["Name"], "audit"));
    for (index, name) in names.iter().enumerate() {
        callers[index % 3].block(name, &[&names[(index + 1) % names.len()]]);
    }
    let who = |heard: &[Heard]| -> BTreeSet<String> {
        heard.iter().flat_map(Heard::pairs).map(|(from, _)| from).collect()
    };
    subscriber.until("everybody's block is heard", |heard| who(heard).len() == names.len());
    // A replay is finished wherever the stream of the app lives.
    subscriber.take();
    replay(&mut callers[2], &json!({"Name": "audit", "To_Account": [names[0]]}));
    subscriber.until_accepted(1);
    eventually("the replay ends", || replays(&mut callers[0]).is_empty());
    eventually("no node has a place of it", || {
        callers[0].call("webhook/subscription_delete", &json!({"Name": "audit"})).code() == 0
    });
    // The others learn of it within a moment: then nothing is heard of what another one hears.
    let other = TestSubscriber::start();
    set(&mut callers[1], "other", &other.url(), &json!({"Commands": [ADD]}));
    eventually("nobody calls any more", || {
        subscriber.take();
        other.take();
        for (index, name) in names.iter().enumerate() {
            callers[index % 3].unblock(name, &[&names[(index + 1) % names.len()]]);
            callers[index % 3].block(name, &[&names[(index + 1) % names.len()]]);
        }
        other.until("everybody's block is heard", |heard| who(heard).len() == names.len());
        subscriber.heard().is_empty()
    });
}
