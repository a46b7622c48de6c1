//! The node is killed again and again under load, and nothing that it said is lost.
//!
//! Several callers work on users of their own, of whom every answer can be predicted, and on users
//! that they share. What a caller does not know when the node is killed it asks again, as a caller
//! should. The same folder serves all rounds, so that each starts from what the kills before left.
//!
//! `CRASH_ROUNDS` sets another number of kills, `CRASH_SEED` other choices.

mod ears;
mod own;
mod shared;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use self::ears::Ears;
use self::own::Own;
use self::shared::{Shared, check_shared_pairs, shared_names};
use crate::support::{
    Caller, Random, Reaction, Setup, TestProcess, TestSubscriber, eventually, verify,
};

const ROUNDS: usize = 20;
const CALLERS: usize = 6;
/// Users of each caller alone.
const OWN_USERS: usize = 4;

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
        Self { random: Random::new(seed), own, shared: Shared::new(index) }
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
