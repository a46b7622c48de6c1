//! A node that says nothing: what of a call goes on without it, and what does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{settle, start};
use crate::support::{Caller, Setup, TestProcess, eventually, kafka};

/// What `http.request_timeout_ms` is. Whatever the actors have to say they say within it: a little later
/// the edge gives up, and the whole call has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Of so many partitions, how many each of two nodes owns and stands by for once nothing moves any more: a
/// matter of their names alone.
const PARTITIONS: &str = "16";
const SHARES: [(f64, f64); 2] = [(9.0, 7.0), (7.0, 9.0)];

/// Two nodes of one cluster. Nobody is taken for dead while a test asks.
struct Pair {
    nodes: Vec<TestProcess>,
    /// Who lives on the first one, and who on the second.
    ours: Vec<String>,
    theirs: Vec<String>,
}

/// Nothing where there is no Kafka.
fn pair() -> Option<(Pair, Caller)> {
    let patient = |setup: Setup| {
        setup
            .set("NODE_DEAD_AFTER_MS", "60000")
            .set("JOURNAL_PARTITIONS", PARTITIONS)
            .set("HTTP_REQUEST_TIMEOUT_MS", &REQUEST_TIMEOUT.as_millis().to_string())
    };
    let setups: Vec<Setup> = Setup::cluster(kafka::shared()?, 2).into_iter().map(patient).collect();
    let nodes = start(&setups);
    settle(&nodes, &SHARES);
    let mut caller = nodes[0].caller();
    let users: Vec<String> = (0..40).map(|index| format!("user{index}")).collect();
    caller.import(&users.iter().map(String::as_str).collect::<Vec<_>>());
    // Who does not answer while the second node says nothing lives there: twice in a row, because on a
    // busy machine one of ours may be late once.
    let portraits = json!({"To_Account": users, "TagList": ["Tag_Profile_IM_Nick"]});
    nodes[1].pause();
    let mut missing = None;
    eventually("two looks in a row lack the same", || {
        let answer = caller.call("profile/portrait_get", &portraits);
        let lacks = |code: &u64| *code != 0;
        let now: Option<Vec<bool>> =
            (answer.code() == 0).then(|| answer.codes().iter().map(lacks).collect());
        let is_same = now.is_some() && now == missing;
        missing = now;
        is_same
    });
    nodes[1].resume();
    let missing = missing.expect("there was an answer");
    let (there, here): (Vec<_>, Vec<_>) =
        users.iter().cloned().zip(missing).partition(|(_, is_missing)| *is_missing);
    let names = |users: Vec<(String, bool)>| users.into_iter().map(|(name, _)| name).collect();
    let (ours, theirs) = (names(here), names(there));
    eventually("the second one answers again", || {
        caller.call("profile/portrait_get", &portraits).codes() == vec![0; users.len()]
    });
    Some((Pair { nodes, ours, theirs }, caller))
}

impl Pair {
    /// Six of each.
    fn names(&self) -> ([&str; 6], [&str; 6]) {
        (std::array::from_fn(|at| &*self.ours[at]), std::array::from_fn(|at| &*self.theirs[at]))
    }

    fn silence(&self) {
        self.nodes[1].pause();
    }

    fn end_silence(&self) {
        self.nodes[1].resume();
    }
}

#[test]
fn a_block_of_users_of_a_silent_node_is_in_force_and_owed() {
    let Some((pair, mut caller)) = pair() else { return };
    let ([amy, bob, ..], [cat, dan, ..]) = pair.names();
    assert_eq!(caller.befriend(amy, &[bob, cat]).codes(), [0, 0]);
    pair.silence();
    let blocked = caller.block(amy, &[cat, bob, dan, "nobody"]).ok();
    let codes = blocked.codes();
    assert_eq!(codes[..3], [30007, 0, 30007]);
    // Whose node does not say that they do not exist.
    assert!([30003, 30007].contains(&codes[3]), "{codes:?}");
    assert!(blocked.header("cordon-position").is_some());
    let mut listed = caller.blocklist(amy, 0, 10).0;
    listed.retain(|name| name != "nobody");
    assert_eq!(listed, [cat, bob, dan]);
    // With a key there is a question more before it, and one behind it.
    let body = json!({"From_Account": bob, "To_Account": [cat, amy]});
    let mut keys = (0..32).map(|number| format!("key{number}"));
    let begins = |key: &String| {
        let keyed = caller.call_keyed("sns/black_list_add", key, &body);
        // The book of some keys is at the silent node.
        assert!([0, 30007].contains(&keyed.code()), "{}", keyed.body);
        (keyed.code() == 0).then(|| assert_eq!(keyed.codes(), [30007, 0])).is_some()
    };
    let key = keys.find(begins).expect("the book of one of many is here");
    pair.end_silence();
    eventually("what is owed is done", || {
        let codes = caller.call(
            "sns/black_list_add",
            &json!({"From_Account": amy, "To_Account":
            [cat, dan]}),
        );
        codes.code() == 0 && codes.codes().iter().all(|code| [0, 30001].contains(code))
    });
    assert_eq!(caller.friends(cat, &[amy]).relations(), ["NoRelation"]);
    eventually("the keyed call comes again", || {
        let again = caller.call_keyed("sns/black_list_add", &key, &body);
        again.code() == 0 && again.codes() == [0, 0]
    });
}

#[test]
fn what_needs_no_word_of_a_silent_node_is_done_and_told() {
    let Some((pair, mut caller)) = pair() else { return };
    let ([amy, bob, carl, ..], [cat, dan, eve, fay, ..]) = pair.names();
    assert_eq!(caller.befriend(amy, &[bob, cat]).codes(), [0, 0]);
    assert_eq!(caller.block(amy, &[dan]).codes(), [0]);
    pair.silence();
    let unblocked = caller.unblock(amy, &[dan, eve]).ok();
    assert_eq!(unblocked.codes(), [0, 30001]);
    assert!(unblocked.header("cordon-position").is_some());
    let group = json!({"From_Account": amy, "GroupName": ["g"], "To_Account": [bob, cat, eve]});
    let grouped = caller.call("sns/group_add", &group).ok();
    assert_eq!(grouped.codes()[..2], [0, 0], "{}", grouped.body);
    assert!(grouped.header("cordon-position").is_some());
    let change = |who: &str| {
        let remark = json!([{"Tag": "Tag_SNS_IM_Remark", "Value": "r"}]);
        json!({"To_Account": who, "SnsItem": remark})
    };
    let update =
        json!({"From_Account": amy, "UpdateItem": [change(bob), change(cat), change(eve)]});
    let updated = caller.call("sns/friend_update", &update).ok();
    assert_eq!(updated.codes()[..2], [0, 0], "{}", updated.body);
    // Whom the silent node may know as a friend of amy's is not told to be none.
    let removed = caller.unfriend(amy, &[cat, fay], "Delete_Type_Both").ok();
    assert_eq!(removed.codes(), [30007, 30007]);
    let removed = caller.unfriend(amy, &[bob, eve], "Delete_Type_Single").ok();
    assert_eq!(removed.codes(), [0, 31704]);
    assert!(removed.header("cordon-position").is_some());
    let began = Instant::now();
    let added = caller.befriend(amy, &[carl, eve]).ok();
    assert_eq!(added.codes(), [0, 30007]);
    // The half of it that is left for the change is not needed.
    assert!(began.elapsed() < REQUEST_TIMEOUT, "{:?}", began.elapsed());
    pair.end_silence();
    eventually("the removal is done", || {
        let check = json!({"From_Account": cat, "To_Account": [amy],
            "CheckType": "CheckResult_Type_Both"});
        let answer = caller.call("sns/friend_check", &check);
        answer.code() == 0 && answer.relations() == ["NoRelation"]
    });
}

#[test]
fn a_look_at_many_lacks_the_users_of_a_silent_node_alone() {
    let Some((pair, mut caller)) = pair() else { return };
    let ([amy, bob, carl, ..], [cat, dan, ..]) = pair.names();
    assert_eq!(caller.befriend(amy, &[bob, cat]).codes(), [0, 0]);
    pair.silence();
    let to = json!([bob, cat, carl, dan]);
    let both = |kind: &str| json!({"From_Account": amy, "To_Account": to, "CheckType": kind});
    let looks: [(&str, Value); 4] = [
        ("sns/black_list_check", both("BlackCheckResult_Type_Both")),
        ("sns/friend_check", both("CheckResult_Type_Single")),
        ("sns/message_check", json!({"From_Account": amy, "To_Account": to})),
        (
            "sns/friend_get_list",
            json!({"From_Account": amy, "To_Account": [bob, cat],
                "TagList": ["Tag_Profile_IM_AllowType"]}),
        ),
    ];
    for (command, body) in &looks {
        let codes = caller.call(command, body).ok().codes();
        let expected = [0, 30007, 0, 30007];
        assert_eq!(codes, expected[..codes.len()], "{command}");
    }
    pair.end_silence();
    for (command, body) in &looks {
        eventually("all are heard again", || {
            let answer = caller.call(command, body);
            answer.code() == 0 && answer.codes().iter().all(|code| *code == 0)
        });
    }
}
