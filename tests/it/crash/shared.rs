//! Users that all callers work on.

use std::collections::BTreeMap;
use std::io;

use super::{CALLERS, Deed, OWED};
use crate::support::{Caller, Random, eventually};

/// Users of all callers together. Blocklists belong to one caller each, friendships to nobody.
const SHARED_USERS: usize = 12;

/// The most entries of one call about shared users.
const BATCH_MAX: usize = 3;

pub(super) fn shared_names() -> Vec<String> {
    (0..SHARED_USERS).map(|index| format!("shared{index:02}")).collect()
}

/// Users that all callers work on at once.
#[derive(Default)]
pub(super) struct Shared {
    /// Those whose blocklists are this caller's.
    owners: Vec<String>,
    all: Vec<String>,
    /// What was said last about each block: it is there, or it is not. Nothing, if the last call
    /// about it was not answered.
    said: BTreeMap<(String, String), bool>,
    /// How many blocks of each pair were acknowledged as new.
    pub(super) blocked: BTreeMap<(String, String), usize>,
}

impl Shared {
    pub(super) fn new(index: usize) -> Self {
        let all = shared_names();
        let owners = all.iter().skip(index).step_by(CALLERS).cloned().collect();
        Self { owners, all, ..Self::default() }
    }

    pub(super) fn call_once(&mut self, caller: &mut Caller, random: &mut Random) -> io::Result<()> {
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
    pub(super) fn check(&self, caller: &mut Caller) {
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
pub(super) fn check_shared_pairs(caller: &mut Caller) {
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
