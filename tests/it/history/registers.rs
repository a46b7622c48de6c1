//! Whether there is one order of all operations that explains every answer about every block.
//!
//! Each pair of users is a register of its own, and pairs are independent: linearizability is local.
//! The search goes along time and keeps the configurations that are possible, each with the value
//! and with which of the open operations have happened. Operations happen only when the answer of
//! one forces them to: changes whose records are known in the order of these, of others that are
//! alike the one first that is answered first. Those without an answer stay open for ever; since
//! they are all alike, it is enough to count them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cordon::domain::UserId;

use super::{Deed, Nanos, Operation, Outcome, Place, Relation, Verdict, Violation};

/// Configurations of one pair at one time, at most.
const CONFIGURATIONS_MAX: usize = 10_000;

/// How many operations are shown beside the one that nothing explains.
const SHOWN_MAX: usize = 16;

/// What an operation does with the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Act {
    /// It finds this value.
    Find(bool),
    /// The user is blocked from here on, whatever was before.
    Block,
    /// The user was blocked, and is not from here on.
    Unblock,
    /// Nobody knows whether it ever happens; then the user is blocked from there on, or is not.
    Perhaps(bool),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    act: Act,
    invoked: Nanos,
    answered: Nanos,
    /// Where its record stands, if it has one: the changes happened in the order of their records.
    place: Option<Place>,
    /// Its place in the history.
    operation: usize,
}

type Pair = (UserId, UserId);

/// Answers how many pairs there are.
pub(super) fn check(operations: &[Operation], violations: &mut Vec<Violation>) -> usize {
    let pairs = pairs(operations);
    for (&(owner, target), entries) in &pairs {
        let Err(found) = explain(entries) else { continue };
        let (at, too_many) = match found {
            Unexplained::NoOrder(at) => (at, false),
            Unexplained::TooMany(at) => (at, true),
        };
        let text = |entry: &Entry| operations[entry.operation].to_string();
        violations.push(if too_many {
            Violation::TooConcurrent { owner, target, at: text(&at) }
        } else {
            let among = entries.iter().filter(|entry| entry.invoked < at.answered);
            let mut among: Vec<String> = among.map(text).collect();
            among.drain(..among.len().saturating_sub(SHOWN_MAX));
            Violation::NotLinearizable { owner, target, at: text(&at), among }
        });
    }
    pairs.len()
}

/// The operations on each block, in the order in which they were asked.
fn pairs(operations: &[Operation]) -> BTreeMap<Pair, Vec<Entry>> {
    let mut pairs: BTreeMap<Pair, Vec<Entry>> = BTreeMap::new();
    let mut known: BTreeMap<UserId, BTreeSet<UserId>> = BTreeMap::new();
    for Operation { call, outcome, .. } in operations {
        if let Deed::Block | Deed::Unblock | Deed::Blocklist | Deed::Blocks = call.deed {
            let names = if let Outcome::Names(names) = outcome { names.as_slice() } else { &[] };
            known.entry(call.owner).or_default().extend(call.targets.iter().chain(names));
        }
    }
    for (index, operation) in operations.iter().enumerate() {
        let Operation { call, outcome, invoked_at, .. } = operation;
        let mut note = |owner, target, act| {
            let (act, answered) = match act {
                Act::Block if operation.end() == Nanos::MAX => (Act::Perhaps(true), Nanos::MAX),
                Act::Unblock if operation.end() == Nanos::MAX => (Act::Perhaps(false), Nanos::MAX),
                Act::Perhaps(_) => (act, Nanos::MAX),
                Act::Block | Act::Unblock | Act::Find(_) => (act, operation.end()),
            };
            let place = match operation.positions[..] {
                [place] if matches!(act, Act::Block | Act::Unblock) => Some(place),
                _ => None,
            };
            let entry = Entry { act, invoked: *invoked_at, answered, place, operation: index };
            pairs.entry((owner, target)).or_default().push(entry);
        };
        match (call.deed, outcome) {
            (Deed::Block | Deed::Unblock, _) => {
                for (target, verdict) in operation.items().filter(|(to, _)| *to != call.owner) {
                    if let Some(act) = act(call.deed == Deed::Block, verdict) {
                        note(call.owner, target, act);
                    }
                }
            }
            (Deed::Blocklist, Outcome::Names(names)) => {
                let names: BTreeSet<UserId> = names.iter().copied().collect();
                for target in known.get(&call.owner).into_iter().flatten() {
                    note(call.owner, *target, Act::Find(names.contains(target)));
                }
            }
            (Deed::Blocks, Outcome::Relations(relations)) => {
                for (target, relation) in call.targets.iter().zip(relations) {
                    if let Some(Relation { mine, theirs }) = *relation {
                        note(call.owner, *target, Act::Find(mine));
                        note(*target, call.owner, Act::Find(theirs));
                    }
                }
            }
            (
                Deed::Blocklist | Deed::Blocks | Deed::Befriend | Deed::Unfriend | Deed::Friends,
                _,
            ) => {}
        }
    }
    for entries in pairs.values_mut() {
        entries.sort_by_key(|entry| entry.invoked);
    }
    pairs
}

/// What an item of a change does, if it says or does anything. A block that is answered 0 may have
/// been there, with its removal owed.
fn act(blocks: bool, verdict: Verdict) -> Option<Act> {
    match (blocks, verdict) {
        (true, Verdict::Done | Verdict::Owed | Verdict::Recorded) => Some(Act::Block),
        (false, Verdict::Done | Verdict::Recorded) => Some(Act::Unblock),
        (_, Verdict::Already) => Some(Act::Find(blocks)),
        (_, Verdict::Owed | Verdict::Unknown) => Some(Act::Perhaps(blocks)),
        (_, Verdict::NotDone) => None,
    }
}

enum Unexplained {
    NoOrder(Entry),
    TooMany(Entry),
}

/// One way in which it may have gone so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    is_blocked: bool,
    /// Which of the open operations have happened.
    happened: u64,
    /// How many of those without an answer have blocked, and have unblocked.
    perhaps: [u32; 2],
}

/// The answered operations that are open, with their bits.
#[derive(Default)]
struct Open {
    entries: Vec<(u32, Entry)>,
    bits: u64,
}

impl Open {
    /// Answers the operation's bit, if there is one left.
    fn add(&mut self, entry: Entry) -> Option<u32> {
        let bit = Some(self.bits.trailing_ones()).filter(|bit| *bit < u64::BITS)?;
        self.bits |= 1 << bit;
        self.entries.push((bit, entry));
        Some(bit)
    }

    fn remove(&mut self, bit: u32) {
        self.bits &= !(1 << bit);
        self.entries.retain(|(other, _)| *other != bit);
    }

    /// The open operations that do `act`, have not happened, and may be next: of those without a
    /// record the one that is answered first, and the one whose record is first of all.
    fn next(&self, act: Act, happened: u64) -> impl Iterator<Item = u32> {
        let open = || self.entries.iter().filter(move |(bit, _)| happened >> bit & 1 == 0);
        let placed = open().filter(|(_, entry)| entry.place.is_some());
        let first = placed.min_by_key(|(_, entry)| entry.place);
        let others = open().filter(|(_, entry)| entry.place.is_none() && entry.act == act);
        let other = others.min_by_key(|(_, entry)| entry.answered);
        let next = [first.filter(|(_, entry)| entry.act == act), other];
        next.into_iter().flatten().map(|(bit, _)| *bit)
    }

    /// Lets everything happen that only looks and finds what is: that never spoils anything.
    fn look(&self, mut one: Configuration) -> Configuration {
        for (bit, entry) in &self.entries {
            if entry.act == Act::Find(one.is_blocked) {
                one.happened |= 1 << bit;
            }
        }
        one
    }

    /// The configurations one step behind `one`.
    fn steps(&self, one: Configuration, perhaps: [u32; 2]) -> impl Iterator<Item = Configuration> {
        let happens = move |is_blocked, bit| {
            self.look(Configuration { is_blocked, happened: one.happened | 1_u64 << bit, ..one })
        };
        let block = self.next(Act::Block, one.happened).map(move |bit| happens(true, bit));
        let unblock = self.next(Act::Unblock, one.happened).filter(move |_| one.is_blocked);
        let unblock = unblock.map(move |bit| happens(false, bit));
        let turn = usize::from(one.is_blocked);
        let turned = (one.perhaps[turn] < perhaps[turn]).then(|| {
            let mut turned = Configuration { is_blocked: !one.is_blocked, ..one };
            turned.perhaps[turn] += 1;
            self.look(turned)
        });
        block.chain(unblock).chain(turned)
    }
}

/// Configurations without those that are like another one and have used up more.
#[derive(Default)]
struct Frontier {
    best: HashMap<(bool, u64), Vec<[u32; 2]>>,
    count: usize,
}

impl Frontier {
    /// Answers whether it is worth keeping.
    fn add(&mut self, one: Configuration) -> bool {
        let used = self.best.entry((one.is_blocked, one.happened)).or_default();
        let mine = one.perhaps;
        if used.iter().any(|other| other[0] <= mine[0] && other[1] <= mine[1]) {
            return false;
        }
        let before = used.len();
        used.retain(|other| other[0] < mine[0] || other[1] < mine[1]);
        self.count = self.count + 1 + used.len() - before;
        used.push(mine);
        true
    }

    fn into_configurations(self) -> Vec<Configuration> {
        let all = self.best.into_iter().flat_map(|((is_blocked, happened), used)| {
            used.into_iter().map(move |perhaps| Configuration { is_blocked, happened, perhaps })
        });
        all.collect()
    }
}

/// Errors: the operation whose answer no order explains, or at which there are too many to try.
fn explain(entries: &[Entry]) -> Result<(), Unexplained> {
    let mut moments: Vec<(Nanos, bool, usize)> = Vec::with_capacity(2 * entries.len());
    for (index, entry) in entries.iter().enumerate() {
        moments.push((entry.invoked, false, index));
        if entry.answered != Nanos::MAX {
            moments.push((entry.answered, true, index));
        }
    }
    // What begins when something else ends may have happened before it.
    moments.sort_unstable();
    let mut open = Open::default();
    let mut bits = vec![0; entries.len()];
    let mut perhaps = [0, 0];
    let mut possible = vec![Configuration { is_blocked: false, happened: 0, perhaps }];
    for (_, is_answer, index) in moments {
        let entry = entries[index];
        if is_answer {
            let bit = bits[index];
            possible =
                until_happened(possible, bit, &open, perhaps).ok_or(Unexplained::TooMany(entry))?;
            if possible.is_empty() {
                return Err(Unexplained::NoOrder(entry));
            }
            open.remove(bit);
        } else if let Act::Perhaps(blocks) = entry.act {
            perhaps[usize::from(!blocks)] += 1;
        } else if entry.answered != Nanos::MAX {
            bits[index] = open.add(entry).ok_or(Unexplained::TooMany(entry))?;
            for one in &mut possible {
                *one = open.look(*one);
            }
        }
    }
    Ok(())
}

/// All configurations behind `possible` in which the operation `bit` has just happened, or has
/// happened before; it is not open any more. Nothing if there are too many.
fn until_happened(
    possible: Vec<Configuration>,
    bit: u32,
    open: &Open,
    perhaps: [u32; 2],
) -> Option<Vec<Configuration>> {
    let (mut before, mut behind) = (Frontier::default(), Frontier::default());
    let mut waiting = possible;
    while let Some(one) = waiting.pop() {
        if one.happened >> bit & 1 == 1 {
            behind.add(Configuration { happened: one.happened & !(1 << bit), ..one });
        } else if before.add(one) {
            waiting.extend(open.steps(one, perhaps));
        }
        if before.count + behind.count > CONFIGURATIONS_MAX {
            return None;
        }
    }
    Some(behind.into_configurations())
}
