//! What was told is told again: by a move, or by a replay.

use std::collections::BTreeSet;
use std::sync::mpsc;

use serde_json::{Value, json};

use super::{
    ADD, DELETE, blocked, delete, listed, people, people_of, places, replay, replays, set,
};
use crate::support::{
    APP, Caller, DEADLINE, Heard, NOW_S, Reaction, Setup, TestSubscriber, audit, eventually,
};

#[test]
fn a_subscription_goes_on_from_where_it_is_moved_to() {
    let (node, mut caller) = people();
    let mut subscriber = TestSubscriber::start();
    set(&mut caller, "audit", &subscriber.url(), &json!({"Commands": [ADD]}));
    caller.block("amy", &["bob"]);
    caller.block("amy", &["carl"]);
    subscriber.until_accepted(2);
    let first: Vec<String> = subscriber.take().iter().map(|heard| heard.id().to_owned()).collect();
    let seek = |caller: &mut Caller, to: Value| {
        let mut body = to;
        body["Name"] = json!("audit");
        caller.call("webhook/subscription_seek", &body)
    };
    let offsets: Vec<Value> =
        (0..4).map(|number| json!({"Partition": number, "Offset": 0})).collect();
    let moved = seek(&mut caller, json!({ "Offsets": offsets })).ok();
    let moved = moved.body["Moves"].as_u64().expect("a number");
    subscriber.until_accepted(2);
    let again: Vec<String> = subscriber.take().iter().map(|heard| heard.id().to_owned()).collect();
    assert_eq!(again, first);

    // To the end: what waits is left out.
    subscriber.close();
    caller.block("amy", &["dora"]);
    assert_eq!(seek(&mut caller, json!({"End": 1})).ok().body["Moves"], moved + 1);
    node.settle();
    subscriber.open();
    caller.block("amy", &["eve"]);
    subscriber.until_accepted(1);
    assert_eq!(blocked(&subscriber.take()), ["eve"]);

    // To a time: the clock stands still, so everything is at or behind it.
    assert_eq!(seek(&mut caller, json!({ "Time": NOW_S })).ok().body["Moves"], moved + 2);
    subscriber.until_accepted(4);
    assert_eq!(blocked(&subscriber.take()), ["bob", "carl", "dora", "eve"]);
    for wrong in [
        json!({}),
        json!({"End": 0}),
        json!({"End": 1, "Time": NOW_S}),
        json!({"Offsets": [{"Partition": 0}]}),
        json!({"Offsets": [{"Partition": 0, "Offset": 0}, {"Partition": 0, "Offset": 1}]}),
    ] {
        assert_eq!(seek(&mut caller, wrong).code(), 97007);
    }
    for outside in [json!({"Partition": 4, "Offset": 0}), json!({"Partition": 0, "Offset": 1000})] {
        assert_eq!(seek(&mut caller, json!({"Offsets": [outside]})).code(), 97008);
    }
    assert_eq!(listed(&mut caller)[0]["Moves"], moved + 2);
}

/// Rule: a move to the end leaves out what was answered before it, and nothing after it, however long
/// the calls that are out keep a partition where it is.
#[test]
fn what_is_answered_after_a_move_to_the_end_is_told() {
    let (_node, mut caller) = people();
    let subscriber = TestSubscriber::start();
    let (out, is_out) = mpsc::channel();
    subscriber.react_by(move |_| {
        // Only the first one is waited for.
        let _ = out.send(());
        Reaction::Hang
    });
    // The first call is waited for to its end.
    let terms = json!({"Commands": [ADD], "TimeoutMs": 2000});
    set(&mut caller, "audit", &subscriber.url(), &terms);
    caller.block("amy", &["bob"]);
    is_out.recv_timeout(DEADLINE).expect("a call is out");
    caller.call("webhook/subscription_seek", &json!({"Name": "audit", "End": 1})).ok();
    caller.block("amy", &["carl"]);
    subscriber.react(Reaction::Accept);
    subscriber.until_accepted(1);
    assert_eq!(blocked(&subscriber.accepted()), ["carl"]);
}

#[test]
fn a_replay_tells_a_part_of_the_past_again_and_ends_by_itself() {
    let (node, mut caller) = people();
    let (live, again) = (TestSubscriber::start(), TestSubscriber::start());
    set(&mut caller, "audit", &live.url(), &json!({"Commands": [ADD, DELETE]}));
    caller.block("amy", &["bob"]);
    caller.block("carl", &["dora"]);
    caller.unblock("amy", &["bob"]);
    live.until_accepted(3);
    let told = live.take();
    let of_amy = json!({"Name": "audit", "To_Account": ["amy"], "Commands": [ADD]});
    let mut counting = of_amy.clone();
    counting["DryRun"] = json!(1);
    let counted = replay(&mut caller, &counting);
    assert_eq!((&counted["Count"], &counted["Complete"]), (&json!(1), &json!(1)));
    assert!(replays(&mut caller).is_empty(), "nothing has begun");

    assert_eq!(replay(&mut caller, &of_amy)["Number"], 1);
    live.until_accepted(1);
    let heard = live.take();
    let first = told.iter().find(|heard| heard.pairs()[0].0 == "amy" && heard.command() == ADD);
    let first = first.expect("it was told");
    assert_eq!((heard[0].id(), &heard[0].body), (first.id(), &first.body));
    eventually("the replay ends", || replays(&mut caller).is_empty());
    eventually("its places are given up", || {
        places(&node) == BTreeSet::from([format!("webhook/{APP}/audit")])
    });

    // Named by their ids, and to another address; what is new goes on meanwhile.
    let ids: Vec<&str> = told.iter().map(Heard::id).collect();
    let body = json!({"Name": "audit", "Ids": ids, "Url": again.url()});
    assert_eq!(replay(&mut caller, &body)["Number"], 2);
    again.until_accepted(3);
    caller.block("eve", &["amy"]);
    live.until_accepted(1);
    assert_eq!(blocked(&live.take()), ["amy"]);
    eventually("the replay ends", || replays(&mut caller).is_empty());
    assert_eq!(again.take().len(), 3);

    // Nothing lies in the future.
    let none = json!({"Name": "audit", "Since": NOW_S + 1, "DryRun": 1});
    assert_eq!(replay(&mut caller, &none)["Count"], 0);
    for wrong in [
        json!({"Name": "audit", "Ids": ["x"]}),
        json!({"Name": "audit", "Ranges": [{"Partition": 9, "From": 0, "Until": 1}]}),
        json!({"Name": "audit", "Ranges": [{"Partition": 0, "From": 1, "Until": 1}]}),
        json!({"Name": "audit", "Since": NOW_S, "Until": NOW_S}),
    ] {
        assert_eq!(caller.call("webhook/replay_start", &wrong).code(), 97008, "{wrong}");
    }
    let (code, told) = audit(&node.stop().setup, &["history", "~webhooks"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("began the replay 1 of audit: of amy, only"), "{told}");
    assert!(told.contains("finished the replay 1"), "{told}");
}

#[test]
fn a_replay_of_what_has_no_address_is_signed_too() {
    let (_node, mut caller) = people();
    let subscriber = TestSubscriber::start();
    let pulled = json!({"Name": "pulled", "Format": "standard", "GenerateSecret": 1});
    caller.call("webhook/subscription_set", &pulled).ok();
    caller.block("amy", &["bob"]);
    let wanted = json!({"Name": "pulled", "Url": subscriber.url()});
    replay(&mut caller, &wanted);
    subscriber.until_accepted(1);
    assert!(subscriber.heard()[0].header("webhook-signature").starts_with("v1,"));

    // Nothing goes out unsigned that is to be signed.
    let bare = json!({"Name": "bare", "Format": "standard"});
    caller.call("webhook/subscription_set", &bare).ok();
    let wanted = json!({"Name": "bare", "Url": subscriber.url()});
    assert_eq!(caller.call("webhook/replay_start", &wanted).code(), 97005);
}

/// Rule: the `Sign` of the reference says nothing about the body, so whoever is told it could say anything
/// in the name of this node.
#[test]
fn nobody_is_lent_the_sign_of_a_subscription_of_the_settings() {
    let (live, again) = (TestSubscriber::start(), TestSubscriber::start());
    let file = format!(
        "[[app]]\nid = {APP}\n[[app.webhook.subscription]]\nname = \"unsigned\"\nurl = \"{0}\"\n\
         [[app.webhook.subscription]]\nname = \"whole\"\nurl = \"{0}\"\nformat = \"standard\"\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
        live.url()
    );
    let setup = Setup::new().webhook(&live).set("WEBHOOK_TOKEN", "wonderland").file(&file);
    let (_node, mut caller) = people_of(setup);
    caller.block("amy", &["bob"]);
    live.until_accepted(3);
    let elsewhere = |name: &str| json!({"Name": name, "Url": again.url()});
    assert_eq!(caller.call("webhook/replay_start", &elsewhere("main")).code(), 97012);
    // What is not signed so is told to whom the admin likes, and where the settings say, everything is.
    for (number, body) in
        [elsewhere("unsigned"), elsewhere("whole"), json!({"Name": "main"})].iter().enumerate()
    {
        assert_eq!(replay(&mut caller, body)["Number"], number + 1, "{body}");
    }
    again.until_accepted(2);
    assert!(again.heard().iter().all(|heard| heard.parameter("Sign").is_none()));
    live.until_accepted(4);
}

#[test]
fn a_replay_goes_on_after_a_restart_and_is_ended_by_a_call() {
    let (node, mut caller) = people();
    let mut subscriber = TestSubscriber::start();
    set(&mut caller, "audit", &subscriber.url(), &json!({}));
    for target in ["bob", "carl", "dora"] {
        caller.block("amy", &[target]);
    }
    // Until the node has the last answer, too: else that call is made once more, beside the replay.
    node.settle();
    assert_eq!(subscriber.take().len(), 3);
    subscriber.close();
    assert_eq!(replay(&mut caller, &json!({"Name": "audit"}))["Number"], 1);
    let node = node.restart();
    let mut caller = node.caller();
    let running = replays(&mut caller);
    assert_eq!((&running[0]["Number"], &running[0]["Name"]), (&json!(1), &json!("audit")));
    subscriber.open();
    subscriber.until_accepted(3);
    assert_eq!(blocked(&subscriber.take()), ["bob", "carl", "dora"]);
    eventually("the replay ends", || replays(&mut caller).is_empty());

    subscriber.close();
    assert_eq!(replay(&mut caller, &json!({"Name": "audit"}))["Number"], 2);
    caller.call("webhook/replay_end", &json!({"Number": 2})).ok();
    caller.call("webhook/replay_end", &json!({"Number": 2})).ok();
    assert!(replays(&mut caller).is_empty());
    assert_eq!(caller.call("webhook/replay_end", &json!({"Number": 3})).code(), 97014);
    // A deleted subscription takes its replays with it.
    assert_eq!(replay(&mut caller, &json!({"Name": "audit"}))["Number"], 3);
    delete(&mut caller, "audit");
    assert!(replays(&mut caller).is_empty());
    eventually("all places are given up", || places(&node).is_empty());
}

#[test]
fn a_replay_of_a_subscription_that_left_the_settings_is_listed_and_can_be_ended() {
    let mut subscriber = TestSubscriber::start();
    let (node, mut caller) = people_of(Setup::new().webhook(&subscriber));
    caller.block("amy", &["bob"]);
    node.settle();
    subscriber.close();
    assert_eq!(replay(&mut caller, &json!({"Name": "main"}))["Number"], 1);
    drop(caller);
    let node = node.stop().setup.unset("WEBHOOK_URL").start();
    let mut caller = node.caller();
    assert!(listed(&mut caller).is_empty(), "it has left");
    let running = replays(&mut caller);
    assert_eq!(running.len(), 1, "{running:?}");
    assert_eq!((&running[0]["Number"], &running[0]["Name"]), (&json!(1), &json!("main")));
    caller.call("webhook/replay_end", &json!({"Number": 1})).ok();
    assert!(replays(&mut caller).is_empty());
}
