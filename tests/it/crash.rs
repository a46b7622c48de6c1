//! The node is killed again and again under load, and nothing that it said is lost.
//!
//! Several callers work on users of their own, of whom every answer can be predicted, and on users
//! that they share. What a caller does not know when the node is killed it asks again, as a caller
//! should. The same folder serves all rounds, so that each starts from what the kills before left.
//!
//! `CRASH_ROUNDS` sets another number of kills, `CRASH_SEED` other choices.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::{
    Caller, Heard, Random, Reaction, Setup, TestProcess, TestSubscriber, eventually, soon, verify,
};

const ROUNDS: usize = 20;
const CALLERS: usize = 6;
/// Users of each caller alone.
const OWN_USERS: usize = 4;
/// Users of all callers together. Blocklists belong to one caller each, friendships to nobody.
const SHARED_USERS: usize = 12;

/// The most entries of one call about shared users.
const BATCH_MAX: usize = 3;

const FRIEND_ADD: &str = "Sns.CallbackFriendAdd";
const FRIEND_DELETE: &str = "Sns.CallbackFriendDelete";
const BLOCK_ADD: &str = "Sns.CallbackBlackListAdd";
const BLOCK_DELETE: &str = "Sns.CallbackBlackListDelete";

/// The peer's side did not answer in time: to be asked again.
const OWED: u64 = 30007;

#[test]
fn nothing_that_was_said_is_lost_when_the_node_is_killed() {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let seed = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let mut random = Random::new(seed.unwrap_or(0x00C0_FFEE));
    let mut subscriber = TestSubscriber::start();

    // Not everybody fits into memory, and checkpoints come often: kills meet those as well.
    let setup = Setup::new()
        .webhook(&subscriber)
        .set("JOURNAL_PARTITIONS", "8")
        .set("ACTORS_RESIDENT_USERS_MAX", "16")
        .set("STORE_CHECKPOINT_INTERVAL_MS", "20");
    let mut node = TestProcess::start(&setup);
    let mut minds = Mind::several(&mut node.caller(), &mut random);
    let mut ears = Ears::default();
    for round in 0..rounds {
        match random.below(4) {
            0 => subscriber.react(Reaction::Status(500)),
            1 => subscriber.close(),
            _ => {}
        }
        let calls = 50 + random.below(600);
        load(node, &mut minds, calls, TestProcess::kill);
        verify(&setup);
        node = TestProcess::start(&setup);
        for mind in &mut minds {
            mind.check(&mut node.caller());
        }
        check_shared_pairs(&mut node.caller());
        subscriber.react(Reaction::Accept);
        if !subscriber.is_open() {
            subscriber.open();
        }
        if random.below(3) == 0 || round + 1 == rounds {
            ears.catch_up(&subscriber, &minds);
        }
    }
    node.terminate();
    assert!(node.wait().success());
    verify(&setup);
    ears.listen(subscriber.take());
    assert_eq!(ears.missing(&minds), [""; 0]);
    let said = TestProcess::everything_said(&setup);
    assert!(!said.contains("panicked"), "{said}");
    let blocks: usize = minds.iter().map(|mind| mind.shared.blocked.values().sum::<usize>()).sum();
    assert!(blocks > rounds, "the callers had hardly anything to do: {blocks} blocks");
}

fn shared_names() -> Vec<String> {
    (0..SHARED_USERS).map(|index| format!("shared{index:02}")).collect()
}

/// Lets all callers call until `calls` have been answered, and ends the node under them.
pub(crate) fn load(
    node: TestProcess,
    minds: &mut [Mind],
    calls: usize,
    end: impl FnOnce(TestProcess),
) {
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let callers: Vec<_> = minds
            .iter_mut()
            .map(|mind| {
                let (mut caller, answered) = (node.caller(), &answered);
                scope.spawn(move || {
                    while mind.call_once(&mut caller).is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        eventually("the callers are answered", || {
            let ended = callers.iter().any(thread::ScopedJoinHandle::is_finished);
            ended || answered.load(Ordering::Relaxed) >= calls
        });
        end(node);
    });
    // The threads ended because they were not answered: an answer that is wrong panics in them.
}

/// What one caller has done, and what it knows.
pub(crate) struct Mind {
    random: Random,
    own: Own,
    shared: Shared,
}

impl Mind {
    /// Imports the users of several callers.
    pub(crate) fn several(caller: &mut Caller, random: &mut Random) -> Vec<Self> {
        let minds: Vec<Self> = (0..CALLERS).map(|index| Self::new(index, random.next())).collect();
        let own = minds.iter().flat_map(|mind| mind.own.names.clone());
        let names: Vec<String> = own.chain(shared_names()).collect();
        caller.import(&names.iter().map(String::as_str).collect::<Vec<_>>());
        minds
    }

    fn new(index: usize, seed: u64) -> Self {
        let own = Own::new((0..OWN_USERS).map(|user| format!("own{index}-{user}")).collect());
        let all = shared_names();
        let owners = all.iter().skip(index).step_by(CALLERS).cloned().collect();
        let shared = Shared { owners, all, ..Shared::default() };
        Self { random: Random::new(seed), own, shared }
    }

    /// Asks again what was not answered, and holds the node to all that was.
    pub(crate) fn check(&mut self, caller: &mut Caller) {
        self.ask_again(caller).expect("the node answers");
        self.own.check(caller);
        self.shared.check(caller);
    }

    /// Asks again what was not answered. Errors: the node does not answer.
    pub(crate) fn ask_again(&mut self, caller: &mut Caller) -> io::Result<()> {
        self.own.ask_again(caller)
    }

    /// Errors: the node did not answer.
    pub(crate) fn call_once(&mut self, caller: &mut Caller) -> io::Result<()> {
        if self.random.below(2) == 0 {
            self.own.call_once(caller, &mut self.random)
        } else {
            self.shared.call_once(caller, &mut self.random)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Befriend,
    Unfriend,
    Block,
    Unblock,
}

impl Deed {
    const ALL: [Self; 4] = [Self::Befriend, Self::Unfriend, Self::Block, Self::Unblock];

    /// Asks for it; answers the code of each target.
    fn ask(self, caller: &mut Caller, owner: &str, targets: &[&str]) -> io::Result<Vec<u64>> {
        let wanted = |name: &&str| json!({"To_Account": name, "AddSource": "AddSource_Type_test"});
        let (command, body) = match self {
            Self::Befriend => {
                let wanted: Vec<Value> = targets.iter().map(wanted).collect();
                ("sns/friend_add", json!({"From_Account": owner, "AddFriendItem": wanted}))
            }
            Self::Unfriend => {
                let both = "Delete_Type_Both";
                let body =
                    json!({"From_Account": owner, "To_Account": targets, "DeleteType": both});
                ("sns/friend_delete", body)
            }
            Self::Block => {
                ("sns/black_list_add", json!({"From_Account": owner, "To_Account": targets}))
            }
            Self::Unblock => {
                ("sns/black_list_delete", json!({"From_Account": owner, "To_Account": targets}))
            }
        };
        Ok(caller.try_call(command, &body)?.ok().codes())
    }
}

/// Users that nobody else touches: whatever is asked about them, the answer is known beforehand.
struct Own {
    names: Vec<String>,
    /// Who blocks whom.
    blocks: BTreeSet<(usize, usize)>,
    /// Who are friends, the smaller number first.
    friends: BTreeSet<(usize, usize)>,
    /// What subscribers have to hear of each user, in order.
    news: Vec<Vec<(&'static str, usize)>>,
    /// What was asked when the node was killed.
    unanswered: Option<(Deed, usize, usize)>,
}

impl Own {
    fn new(names: Vec<String>) -> Self {
        let news = vec![Vec::new(); names.len()];
        Self { names, news, blocks: BTreeSet::new(), friends: BTreeSet::new(), unanswered: None }
    }

    fn call_once(&mut self, caller: &mut Caller, random: &mut Random) -> io::Result<()> {
        let owner = random.below(self.names.len());
        let target = (owner + 1 + random.below(self.names.len() - 1)) % self.names.len();
        self.ask(caller, Deed::ALL[random.below(4)], owner, target, false)
    }

    /// Asks again what the node was asked when it was killed: nobody knows what became of it.
    fn ask_again(&mut self, caller: &mut Caller) -> io::Result<()> {
        let Some((deed, owner, target)) = self.unanswered else { return Ok(()) };
        self.ask(caller, deed, owner, target, true)
    }

    fn ask(
        &mut self,
        caller: &mut Caller,
        deed: Deed,
        owner: usize,
        target: usize,
        mut again: bool,
    ) -> io::Result<()> {
        loop {
            self.unanswered = Some((deed, owner, target));
            let codes = deed.ask(caller, &self.names[owner], &[&self.names[target]])?;
            self.unanswered = None;
            if codes != [OWED] {
                self.take(deed, owner, target, codes[0], again);
                return Ok(());
            }
            again = true;
        }
    }

    /// Holds the answer to what is known, and takes it into account. Asked again, a deed may turn
    /// out to be done.
    fn take(&mut self, deed: Deed, owner: usize, target: usize, code: u64, again: bool) {
        let pair = (owner.min(target), owner.max(target));
        let blocked = self.blocks.contains(&(owner, target));
        let friends = self.friends.contains(&pair);
        let (done, new) = match deed {
            Deed::Befriend if blocked => (30515, false),
            Deed::Befriend if self.blocks.contains(&(target, owner)) => (30525, false),
            Deed::Befriend => (30001, !friends),
            Deed::Unfriend => (31704, friends),
            Deed::Block => (30001, !blocked),
            Deed::Unblock => (30001, blocked),
        };
        let expected = if new { 0 } else { done };
        assert!(
            code == expected || again && code == done,
            "{deed:?} by {} of {}: {code} instead of {expected}",
            self.names[owner],
            self.names[target],
        );
        if !new {
            return;
        }
        let news = &mut self.news[owner];
        match deed {
            Deed::Befriend => {
                self.friends.insert(pair);
                news.push((FRIEND_ADD, target));
            }
            Deed::Unfriend => {
                self.friends.remove(&pair);
                news.push((FRIEND_DELETE, target));
            }
            Deed::Block => {
                self.blocks.insert((owner, target));
                if self.friends.remove(&pair) {
                    news.push((FRIEND_DELETE, target));
                }
                news.push((BLOCK_ADD, target));
            }
            Deed::Unblock => {
                self.blocks.remove(&(owner, target));
                news.push((BLOCK_DELETE, target));
            }
        }
    }

    /// Everything is as it was said, on both sides.
    fn check(&self, caller: &mut Caller) {
        let numbers = 0..self.names.len();
        for owner in numbers.clone() {
            let others: Vec<usize> = numbers.clone().filter(|other| *other != owner).collect();
            let names: Vec<&str> = others.iter().map(|other| self.names[*other].as_str()).collect();
            let relation = |a_has_b, b_has_a, none| match (a_has_b, b_has_a) {
                (false, false) => none,
                (true, false) => "AWithB",
                (false, true) => "BWithA",
                (true, true) => "BothWay",
            };
            let blocks = others.iter().map(|other| {
                let has = |from: usize, to: usize| self.blocks.contains(&(from, to));
                relation(has(owner, *other), has(*other, owner), "NO")
            });
            let friends = others.iter().map(|other| {
                let both = self.friends.contains(&(owner.min(*other), owner.max(*other)));
                relation(both, both, "NoRelation")
            });
            let name = &self.names[owner];
            let expected: Vec<&str> = blocks.collect();
            assert_eq!(caller.blocks(name, &names).relations(), expected, "{name}: {names:?}");
            let expected: Vec<&str> = friends.collect();
            assert_eq!(caller.friends(name, &names).relations(), expected, "{name}: {names:?}");
        }
    }
}

/// Users that all callers work on at once.
#[derive(Default)]
struct Shared {
    /// Those whose blocklists are this caller's.
    owners: Vec<String>,
    all: Vec<String>,
    /// What was said last about each block: it is there, or it is not. Nothing, if the last call
    /// about it was not answered.
    said: BTreeMap<(String, String), bool>,
    /// How many blocks of each pair were acknowledged as new.
    blocked: BTreeMap<(String, String), usize>,
}

impl Shared {
    fn call_once(&mut self, caller: &mut Caller, random: &mut Random) -> io::Result<()> {
        let deed = Deed::ALL[random.below(4)];
        let owners = match deed {
            Deed::Block | Deed::Unblock => &self.owners,
            Deed::Befriend | Deed::Unfriend => &self.all,
        };
        let owner = owners[random.below(owners.len())].clone();
        let first = random.below(self.all.len());
        let others = self.all.iter().cycle().skip(first).filter(|name| **name != owner).cloned();
        let targets: Vec<String> = others.take(1 + random.below(BATCH_MAX)).collect();
        let pairs = targets.iter().map(|target| (owner.clone(), target.clone()));
        let pairs: Vec<(String, String)> = pairs.collect();
        let changes = matches!(deed, Deed::Block | Deed::Unblock);
        if changes {
            for pair in &pairs {
                self.said.remove(pair);
            }
        }
        let names: Vec<&str> = targets.iter().map(String::as_str).collect();
        let codes = deed.ask(caller, &owner, &names)?;
        for (pair, code) in pairs.into_iter().zip(codes) {
            match (deed, code) {
                (Deed::Block, 0) => {
                    *self.blocked.entry(pair.clone()).or_default() += 1;
                    self.said.insert(pair, true);
                }
                (Deed::Block, 30001) => drop(self.said.insert(pair, true)),
                (Deed::Unblock, 0 | 30001) => drop(self.said.insert(pair, false)),
                (Deed::Block, OWED) => {}
                (Deed::Befriend, 0 | 30001 | 30515 | 30525 | OWED) => {}
                (Deed::Unfriend, 0 | 31704 | OWED) => {}
                (deed, code) => panic!("{deed:?} of {pair:?} is answered {code}"),
            }
        }
        Ok(())
    }

    /// Every acknowledged block is there and has ended the friendship on both sides; every
    /// acknowledged unblock is there.
    fn check(&self, caller: &mut Caller) {
        for owner in &self.owners {
            let said = self.said.iter().filter(|((from, _), _)| from == owner);
            let (names, expected): (Vec<&str>, Vec<bool>) =
                said.map(|((_, to), blocked)| (to.as_str(), *blocked)).unzip();
            if names.is_empty() {
                continue;
            }
            let blocks = caller.blocks(owner, &names);
            let friends = caller.friends(owner, &names);
            let relations = blocks.relations().into_iter().zip(friends.relations());
            for ((name, expected), (block, friend)) in names.iter().zip(expected).zip(relations) {
                let blocked = matches!(block, "AWithB" | "BothWay");
                assert_eq!(blocked, expected, "{owner} blocks {name}: {block}");
                assert!(!blocked || friend == "NoRelation", "{owner}, {name}: {block}, {friend}");
            }
        }
    }
}

/// Never blocked and friends, whoever of the two blocks. A block that nobody was told of may still
/// be on its way to the other side.
fn check_shared_pairs(caller: &mut Caller) {
    let all = shared_names();
    for owner in &all {
        let names: Vec<&str> =
            all.iter().filter(|name| *name != owner).map(String::as_str).collect();
        eventually("no friendship across a block", || {
            let friends = caller.friends(owner, &names);
            let blocks = caller.blocks(owner, &names);
            blocks
                .relations()
                .iter()
                .zip(friends.relations())
                .all(|(block, friend)| *block == "NO" || friend == "NoRelation")
        });
    }
}

/// What the subscriber has heard, each delivery once, in the order in which it was heard first.
#[derive(Default)]
struct Ears {
    known: BTreeSet<String>,
    /// What was heard of each user.
    news: BTreeMap<String, Vec<(&'static str, String)>>,
    /// How often each was blocked by each.
    blocks: BTreeMap<(String, String), usize>,
    /// Where in the journal the last news of each user stands.
    places: BTreeMap<String, u64>,
}

impl Ears {
    /// Takes calls into account. What a user did is heard in the order of the journal, however often
    /// the node is killed.
    fn listen(&mut self, heard: Vec<Heard>) {
        for heard in heard.into_iter().filter(|heard| heard.accepted) {
            if !self.known.insert(heard.id().to_owned()) {
                continue;
            }
            let (_, rest) = heard.id().split_once('@').expect("an id has a place");
            let place = rest.split('.').next().and_then(|text| text.parse().ok());
            let place: u64 = place.expect("a place has an offset");
            let user = whose(&heard);
            let before = self.places.insert(user.clone(), place);
            assert!(before.is_none_or(|before| before <= place), "{user}: {before:?}, {place}");

            let commands = [FRIEND_ADD, FRIEND_DELETE, BLOCK_ADD, BLOCK_DELETE];
            let command = commands.into_iter().find(|command| *command == heard.command());
            let command = command.expect("a command that is known");
            let pairs = heard.pairs();
            self.news.entry(user).or_default().push((command, pairs[0].1.clone()));
            if command == BLOCK_ADD {
                for pair in pairs {
                    *self.blocks.entry(pair).or_default() += 1;
                }
            }
        }
    }

    /// What the callers know of and was not heard, or not as they know it.
    fn missing(&self, minds: &[Mind]) -> Vec<String> {
        let mut missing = Vec::new();
        for mind in minds {
            for (name, news) in mind.own.names.iter().zip(&mind.own.news) {
                let told = |(command, target): &(&'static str, usize)| {
                    (*command, mind.own.names[*target].clone())
                };
                let expected: Vec<_> = news.iter().map(told).collect();
                let heard = self.news.get(name).map_or(&[][..], Vec::as_slice);
                if heard != expected {
                    let same = heard.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                    missing.push(format!(
                        "{name}, number {same} of {}: {:?} instead of {:?}",
                        expected.len(),
                        heard.get(same),
                        expected.get(same)
                    ));
                }
            }
            for (pair, count) in &mind.shared.blocked {
                let heard = self.blocks.get(pair).copied().unwrap_or_default();
                if heard < *count {
                    missing.push(format!("{pair:?}: {heard} of {count} blocks"));
                }
            }
        }
        missing
    }

    /// Waits until the subscriber has heard all that the callers know of.
    fn catch_up(&mut self, subscriber: &TestSubscriber, minds: &[Mind]) {
        let mut missing = Vec::new();
        let caught_up = soon(|| {
            self.listen(subscriber.take());
            missing = self.missing(minds);
            missing.is_empty()
        });
        assert!(caught_up, "{missing:?}");
    }
}

/// Whose record a call tells of. The one who asked for a friendship may have had their half of it
/// already; otherwise the record's owner comes first.
fn whose(heard: &Heard) -> String {
    match heard.body["PairList"][0]["Initiator_Account"].as_str() {
        Some(initiator) => initiator.to_owned(),
        None => heard.pairs()[0].0.clone(),
    }
}
