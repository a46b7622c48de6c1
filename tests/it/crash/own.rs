//! Users that one caller works on alone.

use std::collections::BTreeSet;
use std::io;

use super::{BLOCK_ADD, BLOCK_DELETE, Deed, FRIEND_ADD, FRIEND_DELETE, OWED};
use crate::support::{Caller, Random};

/// Users that nobody else touches: whatever is asked about them, the answer is known beforehand.
pub(super) struct Own {
    pub(super) names: Vec<String>,
    /// Who blocks whom.
    blocks: BTreeSet<(usize, usize)>,
    /// Who are friends, the smaller number first.
    friends: BTreeSet<(usize, usize)>,
    /// What subscribers have to hear of each user, in order.
    pub(super) news: Vec<Vec<(&'static str, usize)>>,
    /// What was asked when the node was killed.
    unanswered: Option<(Deed, usize, usize)>,
}

impl Own {
    pub(super) fn new(names: Vec<String>) -> Self {
        let news = vec![Vec::new(); names.len()];
        Self { names, news, blocks: BTreeSet::new(), friends: BTreeSet::new(), unanswered: None }
    }

    pub(super) fn call_once(&mut self, caller: &mut Caller, random: &mut Random) -> io::Result<()> {
        let owner = random.below(self.names.len());
        let target = (owner + 1 + random.below(self.names.len() - 1)) % self.names.len();
        self.ask(caller, Deed::ALL[random.below(4)], owner, target, false)
    }

    /// Asks again what the node was asked when it was killed: nobody knows what became of it.
    pub(super) fn ask_again(&mut self, caller: &mut Caller) -> io::Result<()> {
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
    pub(super) fn check(&self, caller: &mut Caller) {
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
