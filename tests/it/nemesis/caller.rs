//! A caller who works on pairs of its own through all nodes, and believes nothing.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cordon::journal::{Offset, Partition};
use serde_json::{Value, json};
use uuid::Uuid;

use super::pair::{Act, Pair, Side, Violation};
use crate::support::{Answer, Caller, Identity, Random};

/// Pairs of each caller.
pub(super) const PAIRS: usize = 4;
/// The longest pause between two calls.
const PAUSE_MS: usize = 15;
/// How long a caller waits for an answer: longer than a node that lives takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an open call may still be done: a node that was stopped in the middle of it has gone on,
/// and whatever it had in flight has been decided.
pub(super) const OPEN_FOR: Duration = Duration::from_secs(25);

/// A fact that was acknowledged, and where it was said to stand.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) place: (Partition, Offset),
    pub(super) request: Uuid,
    pub(super) what: String,
}

/// How calls went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) owed: u64,
    pub(super) failed: u64,
    pub(super) broken: u64,
    /// The longest time that some call was repeated before it was answered.
    pub(super) longest: Duration,
}

struct Known {
    names: [String; 2],
    pair: Pair,
    uncertain_since: Option<Instant>,
}

fn caller(address: &SocketAddr) -> Caller {
    Caller::new(*address, Identity::default()).patient_for(PATIENCE)
}

pub(super) struct Worker {
    nodes: Vec<Caller>,
    pairs: Vec<Known>,
    random: Random,
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) violations: Vec<String>,
    pub(super) tally: Tally,
    failing_since: Option<Instant>,
}

impl Worker {
    pub(super) fn new(number: usize, addresses: &[SocketAddr], seed: u64) -> Self {
        let pairs = (0..PAIRS).map(|pair| Known {
            names: [format!("w{number}p{pair}a"), format!("w{number}p{pair}b")],
            pair: Pair::strangers(),
            uncertain_since: None,
        });
        Self {
            nodes: addresses.iter().map(caller).collect(),
            pairs: pairs.collect(),
            random: Random::new(seed),
            acknowledged: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
            failing_since: None,
        }
    }

    /// The users that it works on.
    pub(super) fn names(&self) -> Vec<String> {
        self.pairs.iter().flat_map(|known| known.names.clone()).collect()
    }

    /// One call, whatever comes of it.
    pub(super) fn step(&mut self) {
        let index = self.random.below(self.pairs.len());
        let known = &mut self.pairs[index];
        if known.uncertain_since.is_some_and(|since| since.elapsed() > OPEN_FOR) {
            known.pair.close();
            known.uncertain_since = None;
        }
        let side = if self.random.below(2) == 0 { Side::A } else { Side::B };
        let worn_out = self.pairs[index].pair.is_worn_out();
        match self.random.below(10) {
            0..=2 if !worn_out => self.act(index, Act::Block(side)),
            3 | 4 if !worn_out => self.act(index, Act::Unblock(side)),
            5 | 6 if !worn_out => self.act(index, Act::Befriend(side)),
            7 if !worn_out => self.act(index, Act::Unfriend(side)),
            8 => self.look_at_friends(index, side),
            _ => self.look_at_blocks(index, side),
        }
        std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS) as u64));
    }

    /// Everything again, when nothing can be open any more: now each question has to be answered.
    pub(super) fn look_at_all(&mut self) {
        for index in 0..self.pairs.len() {
            self.pairs[index].pair.close();
            for side in [Side::A, Side::B] {
                let before = self.tally;
                self.look_at_friends(index, side);
                self.look_at_blocks(index, side);
                let failed = self.tally.failed + self.tally.broken;
                if failed > before.failed + before.broken {
                    let name = &self.pairs[index].names[0];
                    self.violations.push(format!("{name}: no answer although all is well"));
                }
            }
        }
    }

    fn call(&mut self, command: &str, body: &Value) -> io::Result<Answer> {
        let node = self.random.below(self.nodes.len());
        let answer = self.nodes[node].try_call(command, body);
        match &answer {
            Ok(answer) if answer.code() == 0 => {
                self.tally.answered += 1;
                if let Some(since) = self.failing_since.take() {
                    self.tally.longest = self.tally.longest.max(since.elapsed());
                }
            }
            Ok(_) => self.tally.failed += 1,
            Err(_) => self.tally.broken += 1,
        }
        if !answer.as_ref().is_ok_and(|answer| answer.code() == 0) {
            self.failing_since.get_or_insert_with(Instant::now);
        }
        answer
    }

    fn act(&mut self, index: usize, act: Act) {
        let side = match act {
            Act::Block(side) | Act::Unblock(side) | Act::Befriend(side) | Act::Unfriend(side) => {
                side
            }
        };
        let [owner, peer] = self.names_of(index, side);
        let (command, body) = match act {
            Act::Block(_) => {
                ("sns/black_list_add", json!({"From_Account": owner, "To_Account": [peer]}))
            }
            Act::Unblock(_) => {
                ("sns/black_list_delete", json!({"From_Account": owner, "To_Account": [peer]}))
            }
            Act::Befriend(_) => (
                "sns/friend_add",
                json!({"From_Account": owner, "AddType": "Add_Type_Both", "AddFriendItem":
                    [{"To_Account": peer, "AddSource": "AddSource_Type_test"}]}),
            ),
            Act::Unfriend(_) => (
                "sns/friend_delete",
                json!({"From_Account": owner, "To_Account": [peer],
                    "DeleteType": "Delete_Type_Both"}),
            ),
        };
        let answer = self.call(command, &body);
        let code = match &answer {
            Ok(answer) if answer.code() == 0 => Some(answer.codes()[0]),
            Ok(_) | Err(_) => None,
        };
        let known = &mut self.pairs[index];
        let pair = &mut known.pair;
        let mut uncertain = false;
        let seen = match (act, code) {
            (_, Some(0)) => pair.done(act),
            (_, Some(30007)) => {
                self.tally.owed += 1;
                uncertain = true;
                pair.owed(act);
                Ok(())
            }
            (_, None) => {
                uncertain = true;
                pair.unknown(act);
                Ok(())
            }
            (Act::Block(side), Some(30001)) => pair.saw_block(side, true),
            (Act::Unblock(side), Some(_)) => pair.saw_block(side, false),
            (Act::Befriend(_), Some(30515 | 30525)) => pair.saw_some_block(),
            // Friends already, or none: each side alone may say so.
            (Act::Befriend(_) | Act::Unfriend(_), Some(_)) => Ok(()),
            (Act::Block(_), Some(code)) => Err(Violation(format!("a block was answered {code}"))),
        };
        if uncertain {
            known.uncertain_since = Some(Instant::now());
        }
        self.judge(index, &format!("{act:?}"), seen);
        if let Ok(answer) = &answer {
            self.acknowledge(answer, code, &format!("{owner} {act:?} {peer}"));
        }
    }

    fn acknowledge(&mut self, answer: &Answer, code: Option<u64>, what: &str) {
        let (Some(0 | 30007), Some(places)) = (code, answer.header("cordon-position")) else {
            return;
        };
        let request = answer.header("cordon-request-id").and_then(|text| text.parse().ok());
        let place = places.split(',').next().and_then(|place| {
            let (partition, offset) = place.split_once('@')?;
            Some((Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)))
        });
        let (Some(request), Some(place)) = (request, place) else {
            self.violations.push(format!("{what}: no place like {places}"));
            return;
        };
        self.acknowledged.push(Acknowledged { place, request, what: what.to_owned() });
    }

    fn look_at_friends(&mut self, index: usize, side: Side) {
        let [owner, peer] = self.names_of(index, side);
        let body = json!({"From_Account": owner, "To_Account": [peer],
            "CheckType": "CheckResult_Type_Both"});
        let Ok(answer) = self.call("sns/friend_check", &body) else { return };
        if answer.code() != 0 || answer.codes() != [0] {
            return;
        }
        let (mine, theirs) = match answer.relations()[0] {
            "BothWay" => (true, true),
            "AWithB" => (true, false),
            "BWithA" => (false, true),
            "NoRelation" => (false, false),
            other => panic!("an unknown relation: {other}"),
        };
        let (a, b) = if side == Side::A { (mine, theirs) } else { (theirs, mine) };
        let seen = self.pairs[index].pair.saw_friends(a, b);
        self.judge(index, "friends", seen);
    }

    fn look_at_blocks(&mut self, index: usize, side: Side) {
        let [owner, peer] = self.names_of(index, side);
        let body = json!({"From_Account": owner, "StartIndex": 0, "MaxLimited": 100,
            "LastSequence": 0});
        let Ok(answer) = self.call("sns/black_list_get", &body) else { return };
        if answer.code() != 0 {
            return;
        }
        let blocks = answer.names().contains(&peer.as_str());
        let seen = self.pairs[index].pair.saw_block(side, blocks);
        self.judge(index, "blocklist", seen);
    }

    fn names_of(&self, index: usize, side: Side) -> [String; 2] {
        let [a, b] = self.pairs[index].names.clone();
        if side == Side::A { [a, b] } else { [b, a] }
    }

    fn judge(&mut self, index: usize, after: &str, seen: Result<(), Violation>) {
        if let Err(Violation(what)) = seen {
            let name = &self.pairs[index].names[0];
            self.violations.push(format!("{name}, {after}: {what}"));
            // Whatever it is now, it is looked at afresh.
            self.pairs[index].pair = Pair::anything();
        }
    }
}
