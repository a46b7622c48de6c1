//! A minute in which the system lets a node run no more: longer than everything that it waits for itself.
//! One stands alone, under load, and one is of a cluster, whose others have long taken what it had.

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use cordon::clock::Clock;
use cordon::domain::{AppId, UserId};
use cordon::usersig;
use serde_json::{Value, json};

use super::slow::call;
use super::{has_not_panicked, holds_all_it_said, load_during, with_callers};
use crate::history::{Call, Deed, Invocation, Log, Outcome, Recorder};
use crate::nemesis::proof::histories;
use crate::support::{
    ADMIN, APP, Answer, Caller, Connection, Heard, Identity, KEY, Reaction, Setup, TestProcess,
    TestSubscriber, eventually, kafka, verify,
};

const MINUTE: Duration = Duration::from_secs(60);
/// For how long a UserSig is signed, and how long a connection may idle: less than the minute.
const SIGNED_FOR_S: u64 = 20;
const KEEP_ALIVE_S: &str = "20";
/// Connections of each kind.
const CONNECTIONS: usize = 4;
/// Answers before the minute and behind it.
const ANSWERS: usize = 100;
/// Users of the cluster: enough for each of its partitions.
const USERS: usize = 12;

/// How long between two questions of somebody who asks until they are answered.
const PACE: Duration = Duration::from_millis(100);

/// A connection that was asked something while nobody listened.
struct Asked(Connection, &'static str);

impl Asked {
    fn new(mut connection: Connection, command: &'static str, body: &Value) -> Self {
        let body = body.to_string();
        connection.send(call(command, &body, body.len()).as_bytes()).expect("the system takes it");
        Self(connection, command)
    }

    /// Errors: the connection was closed.
    fn answer(mut self) -> io::Result<Answer> {
        let message = self.0.receive_answer(&format!("/v4/{}", self.1))?;
        match message.status() {
            200 => Ok(Answer::of(message)),
            status => Err(io::Error::other(format!("HTTP status {status}"))),
        }
    }
}

/// Connections that have been used.
fn connections(node: &TestProcess, query: &str) -> Vec<Connection> {
    let body = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
    let target = format!("/v4/im_open_login_svc/account_check?{query}");
    let open = |_| {
        let mut connection = Connection::open(node.address).expect("it listens");
        let answer = connection.ask("POST", &target, body.as_bytes()).expect("it answers");
        Answer::of(answer).ok();
        connection
    };
    (0..CONNECTIONS).map(open).collect()
}

/// What somebody sees of a node that stands alone.
struct Alone<'s> {
    subscriber: &'s TestSubscriber,
    caller: Caller,
    keyed: Answer,
    idle: Vec<Connection>,
    calling: Vec<Connection>,
    signed: Vec<Connection>,
    /// Valid for less than the minute.
    identity: Identity,
    asked: Vec<Asked>,
    expired: Vec<Asked>,
}

fn is_amys(heard: &Heard) -> bool {
    heard.body["PairList"][0]["From_Account"] == "amy"
}

fn block(target: &str) -> Value {
    json!({"From_Account": "amy", "To_Account": [target]})
}

impl<'s> Alone<'s> {
    /// When this is done a webhook of amy's is under way, and its receiver says nothing.
    fn begin(node: &TestProcess, subscriber: &'s TestSubscriber) -> Self {
        let mut caller = node.caller();
        caller.import(&["amy", "bob", "carl", "dan", "late0", "late1", "late2", "late3"]);
        let now_s = i64::from(Clock::system().now().unix_seconds());
        let usersig = usersig::sign(AppId(APP), KEY, ADMIN, SIGNED_FOR_S, now_s);
        let identity = Identity { usersig, ..Identity::default() };
        let signed = connections(node, &identity.query());
        let keyed = caller.call_keyed("sns/black_list_add", "minute", &block("dan")).ok();
        subscriber.until("the first of amy's", |heard| heard.iter().any(is_amys));
        let valid = Identity::default().query();
        let (idle, calling) = (connections(node, &valid), connections(node, &valid));
        subscriber.react_by(|heard| if is_amys(heard) { Reaction::Hang } else { Reaction::Accept });
        assert_eq!(caller.block("amy", &["bob"]).codes(), [0]);
        let (asked, expired) = (Vec::new(), Vec::new());
        let count = |heard: &[Heard]| heard.iter().filter(|heard| is_amys(heard)).count();
        subscriber.until("the second of amy's", |heard| count(heard) > 1);
        Self { subscriber, caller, keyed, idle, calling, signed, identity, asked, expired }
    }

    /// The node stands still, and the UserSig has expired.
    fn ask(&mut self) {
        for (index, connection) in self.calling.drain(..).enumerate() {
            let body = block(&format!("late{index}"));
            self.asked.push(Asked::new(connection, "sns/black_list_add", &body));
        }
        for mut connection in self.signed.drain(..) {
            let body = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
            let command = "im_open_login_svc/account_check";
            let text = call(command, &body, body.len());
            let text = text.replace(&Identity::default().query(), &self.identity.query());
            connection.send(text.as_bytes()).expect("the system takes it");
            self.expired.push(Asked(connection, command));
        }
        self.subscriber.react(Reaction::Accept);
    }

    /// The node runs again.
    fn end(self, node: &TestProcess) {
        let mut blocked = vec!["bob".to_owned(), "dan".to_owned()];
        for (index, asked) in self.asked.into_iter().enumerate() {
            // Whoever idled for too long may be let go without an answer.
            if asked.answer().is_ok_and(|answer| answer.code() == 0 && answer.codes() == [0]) {
                blocked.push(format!("late{index}"));
            }
        }
        for asked in self.expired {
            assert!(
                asked.answer().map_or(70001, |answer| answer.code()) == 70001,
                "it has expired"
            );
        }
        for mut connection in self.idle {
            assert_eq!(connection.receive_all().expect("it is let go"), "");
        }
        let mut caller = node.caller();
        let look = json!({"CheckItem": [{"UserID": "amy"}]}).to_string();
        let command = "im_open_login_svc/account_check";
        let late = caller.call_with(command, &self.identity.query(), look.as_bytes());
        assert_eq!(late.code(), 70001, "the UserSig has expired");
        let again = caller.call_keyed("sns/black_list_add", "minute", &block("dan"));
        assert_eq!(again.text(), self.keyed.text());
        assert_eq!(caller.block("amy", &["carl"]).codes(), [0]);
        blocked.push("carl".to_owned());
        let all: Vec<&str> = blocked.iter().map(String::as_str).collect();
        assert_eq!(caller.blocks("amy", &all).relations(), vec!["AWithB"; all.len()]);
        eventually("the node is ready", || node.ops("/readyz").status() == 200);
        drop(self.caller);
        // All of it is heard, in order, and the one that was under way under its old name.
        let is_carls = |heard: &Heard| is_amys(heard) && heard.pairs()[0].1 == "carl";
        self.subscriber.until("the last of amy's", |heard| heard.iter().any(is_carls));
        let heard = self.subscriber.heard().into_iter().filter(is_amys);
        let bobs: Vec<Heard> = heard.filter(|heard| heard.pairs()[0].1 == "bob").collect();
        assert!(bobs.len() > 1 && bobs.iter().all(|heard| heard.id() == bobs[0].id()));
        let accepted = self.subscriber.accepted().into_iter().filter(is_amys);
        let mut told: Vec<String> = accepted.map(|heard| heard.pairs()[0].1.clone()).collect();
        told.dedup();
        let of = |name: &str| told.iter().position(|told| told == name);
        assert!(of("dan") < of("bob") && of("bob") < of("carl"), "{told:?}");
        assert!(all.into_iter().all(|name| of(name).is_some()), "{told:?}");
    }
}

/// Two nodes over one Kafka, one of which is to stand still.
struct Together<'r> {
    setups: Vec<Setup>,
    nodes: Vec<TestProcess>,
    callers: Vec<Caller>,
    recorder: &'r Recorder,
    calling: Vec<Connection>,
    asked: Vec<(Invocation<'r>, Asked)>,
}

/// Which of the two it is: the one that has more.
const STILL: usize = 0;
const OTHER: usize = 1;

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

fn owner(index: usize) -> UserId {
    user(&format!("user{index}"))
}

fn about(deed: Deed, index: usize, target: &str) -> Call {
    let targets = [user(target)];
    // A blocklist is somebody's, and about nobody.
    let count = if deed == Deed::Blocklist { 0 } else { 1 };
    Call::new(deed, owner(index), &targets[..count])
}

impl<'r> Together<'r> {
    /// None where there is no Kafka, which has been said then.
    fn begin(recorder: &'r Recorder) -> Option<Self> {
        let setups = Setup::cluster(kafka::shared()?, 2);
        let nodes: Vec<TestProcess> = thread::scope(|scope| {
            let starting: Vec<_> =
                setups.iter().map(|setup| scope.spawn(|| TestProcess::start(setup))).collect();
            starting.into_iter().map(|node| node.join().expect("it starts")).collect()
        });
        let callers = nodes.iter().map(TestProcess::caller).collect();
        let (calling, asked) = (Vec::new(), Vec::new());
        let mut together = Self { setups, nodes, callers, recorder, calling, asked };
        eventually("all partitions are served", || {
            together.serving(STILL) > 1.0
                && together.serving(STILL) + together.serving(OTHER) == 4.0
        });
        let names: Vec<String> = (0..USERS).map(|index| format!("user{index}")).collect();
        let names = names.iter().map(String::as_str);
        let targets = ["amy", "first", "second", "third", "late"];
        together.callers[STILL].import(&names.chain(targets).collect::<Vec<_>>());
        (0..USERS).for_each(|index| together.insist(STILL, Deed::Block, index, "first"));
        let valid = Identity::default().query();
        together.calling.extend(connections(&together.nodes[STILL], &valid));
        together.calling.extend(connections(&together.nodes[STILL], &valid));
        Some(together)
    }

    fn serving(&self, node: usize) -> f64 {
        self.nodes[node].ops("/metrics").samples("cordon_partitions_serving")[""]
    }

    /// Asks until it is answered.
    fn insist(&mut self, node: usize, deed: Deed, index: usize, target: &str) {
        let (recorder, caller) = (self.recorder, &mut self.callers[node]);
        eventually("somebody answers", || {
            let outcome = recorder.ask(node, node, caller, about(deed, index, target));
            let is_answered =
                matches!(outcome, Outcome::Names(_)) || outcome == Outcome::Codes(vec![0]);
            if !is_answered {
                thread::sleep(PACE);
            }
            is_answered
        });
    }

    /// One stands still, and is asked, and the other takes what it had.
    fn go_on(&mut self) {
        self.nodes[STILL].pause();
        for (index, connection) in self.calling.drain(..).enumerate() {
            let deed = if index % 2 == 0 { Deed::Block } else { Deed::Blocklist };
            let call = about(deed, index, "late");
            let (command, body) = call.request();
            let invocation = self.recorder.invoke(10 + index, STILL, call);
            self.asked.push((invocation, Asked::new(connection, command, &body)));
        }
        for index in 0..USERS {
            self.insist(OTHER, Deed::Unblock, index, "first");
            self.insist(OTHER, Deed::Block, index, "second");
        }
    }

    /// Both run again: whatever is answered now has to be true. Answers what stands in the journal then.
    fn end(mut self) -> Log {
        for (invocation, asked) in self.asked.drain(..) {
            invocation.settle(asked.answer());
        }
        for index in 0..USERS {
            self.insist(STILL, Deed::Blocklist, index, "amy");
            self.insist(STILL, Deed::Block, index, "third");
            self.insist(OTHER, Deed::Blocklist, index, "amy");
        }
        eventually("it has its share again", || self.serving(STILL) > 1.0);
        self.nodes.iter().for_each(TestProcess::terminate);
        for node in self.nodes {
            assert!(node.wait().success());
        }
        for setup in &self.setups {
            assert_eq!(verify(setup)["owed"], 0);
            has_not_panicked(&TestProcess::everything_said(setup));
        }
        Log::of_kafka(&self.setups[STILL])
    }
}

#[test]
fn a_node_that_stands_still_for_a_minute_goes_on_by_itself_and_has_lost_nothing() {
    let recorder = Recorder::new();
    let mut together = Together::begin(&recorder);
    let subscriber = TestSubscriber::start();
    let setup = Setup::new()
        .webhook(&subscriber)
        .set("JOURNAL_PARTITIONS", "8")
        .set("WEBHOOK_TIMEOUT_MS", "800")
        .set("HTTP_KEEP_ALIVE_S", KEEP_ALIVE_S);
    let (mut node, mut minds) = with_callers(&setup, 12);
    load_during(&mut minds, &mut node, |node, answered| {
        let more_are_answered = || {
            let before = answered.load(Ordering::Relaxed);
            eventually("callers are answered", || {
                answered.load(Ordering::Relaxed) >= before + ANSWERS
            });
        };
        more_are_answered();
        let mut alone = Alone::begin(node, &subscriber);
        node.pause();
        let began = Instant::now();
        if let Some(together) = &mut together {
            together.go_on();
        }
        // The fault itself.
        thread::sleep(MINUTE.saturating_sub(began.elapsed()));
        alone.ask();
        node.resume();
        if let Some(together) = &together {
            together.nodes[STILL].resume();
        }
        alone.end(node);
        more_are_answered();
    });
    holds_all_it_said(node, &mut minds, &setup);
    let Some(log) = together.map(Together::end) else { return };
    let (problems, seen) = histories(&recorder.into_operations(), &log);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(seen.facts >= 4 * USERS && !log.taken_from("n1").is_empty(), "{seen:?}");
}
