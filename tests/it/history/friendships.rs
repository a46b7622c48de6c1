//! Whether anybody saw a friendship between two of whom one blocks the other. Rule: design.md 2,
//! promise 2.
//!
//! From the answer of a block on, until an unblock of it may have happened and a befriending after
//! that, nobody who asks sees a friendship, in whatever direction, on whatever node. And nobody sees
//! less than what was answered: after a befriending there is a friendship of both until something may
//! have ended it, after an unfriending there is none until another befriending may have happened.

use std::collections::BTreeMap;

use cordon::domain::UserId;

use super::{Deed, Nanos, Operation, Outcome, Verdict, Violation};

/// Two users, the smaller name first.
type Pair = [UserId; 2];

/// When something was asked and answered, and its place in the history.
#[derive(Clone, Copy, Debug)]
struct Span {
    invoked: Nanos,
    answered: Nanos,
    operation: usize,
}

/// What was done and seen between two users.
#[derive(Default)]
struct Between {
    /// Blocks that were answered as settled, by who of the two blocks.
    blocks: [Vec<Span>; 2],
    /// Unblocks that may have happened, likewise.
    unblocks: [Vec<Span>; 2],
    /// Befriendings that may have happened.
    befriendings: Vec<Span>,
    /// Befriendings that were answered as done.
    made: Vec<Span>,
    /// Unfriendings that were answered as done.
    ended: Vec<Span>,
    /// What may have ended a friendship.
    partings: Vec<Span>,
    /// Looks at the friendship.
    looks: Vec<(Span, Seen)>,
}

/// What was seen of a friendship, in both directions.
#[derive(Clone, Copy)]
struct Seen {
    /// At least one has the other.
    any: bool,
    /// Each has the other, as far as was asked.
    both: bool,
}

impl Seen {
    const SOME: Self = Self { any: true, both: true };
}

/// Answers how many looks fell on a blocked pair.
pub(super) fn check(operations: &[Operation], violations: &mut Vec<Violation>) -> usize {
    let mut looks = 0;
    for (pair, between) in pairs(operations) {
        let text = |span: Span| operations[span.operation].to_string();
        between.check_stale(|change, seen| {
            let among = operations.iter().filter(|one| one.changes_between(pair));
            let among = among.map(Operation::to_string).collect();
            let (change, seen) = (text(change), text(seen));
            violations.push(Violation::FriendsStale { change, seen, among });
        });
        looks += between.check(|block, seen| {
            let (block, seen) = (text(block), text(seen));
            violations.push(Violation::FriendsDespiteBlock { block, seen });
        });
    }
    looks
}

fn pairs(operations: &[Operation]) -> BTreeMap<Pair, Between> {
    let mut pairs: BTreeMap<Pair, Between> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let (deed, owner) = (operation.call.deed, operation.call.owner);
        let span =
            Span { invoked: operation.invoked_at, answered: operation.end(), operation: index };
        if let (Deed::Friends, Outcome::Relations(relations)) = (deed, &operation.outcome) {
            for (target, relation) in operation.call.targets.iter().zip(relations) {
                if let Some(relation) = relation {
                    let between = pairs.entry(pair(owner, *target)).or_default();
                    let any = relation.mine || relation.theirs;
                    let both = relation.mine && relation.theirs;
                    between.looks.push((span, Seen { any, both }));
                }
            }
        }
        for (target, verdict) in operation.items() {
            if deed.is_read() || verdict == Verdict::NotDone {
                continue;
            }
            let between = pairs.entry(pair(owner, target)).or_default();
            let side = usize::from(owner > target);
            // Without an answer to the item it may happen as late as it likes.
            let open = Span { answered: Nanos::MAX, ..span };
            match (deed, verdict) {
                (Deed::Block | Deed::Unfriend, Verdict::Done) => between.partings.push(span),
                // The other side follows when it likes.
                (Deed::Block | Deed::Unfriend, Verdict::Owed | Verdict::Recorded)
                | (Deed::Block | Deed::Unfriend, Verdict::Unknown) => between.partings.push(open),
                _ => {}
            }
            match (deed, verdict) {
                // Whoever is told that it was there already is told that it is settled.
                (Deed::Block, Verdict::Done | Verdict::Already) => {
                    between.blocks[side].push(span);
                }
                (Deed::Unblock, Verdict::Done) => between.unblocks[side].push(span),
                (Deed::Unblock, Verdict::Owed | Verdict::Unknown) => {
                    between.unblocks[side].push(open);
                }
                (Deed::Unblock, Verdict::Recorded) => between.unblocks[side].push(span),
                (Deed::Unfriend, Verdict::Done) => between.ended.push(span),
                (Deed::Befriend, Verdict::Recorded) => between.befriendings.push(span),
                // Whoever gets a friend, or has one, has seen the friendship.
                (Deed::Befriend, Verdict::Done) => {
                    between.befriendings.push(span);
                    between.made.push(span);
                    between.looks.push((span, Seen::SOME));
                }
                (Deed::Befriend, Verdict::Already) => between.looks.push((span, Seen::SOME)),
                (Deed::Befriend, Verdict::Owed | Verdict::Unknown) => {
                    between.befriendings.push(open);
                }
                _ => {}
            }
        }
    }
    pairs
}

fn pair(a: UserId, b: UserId) -> Pair {
    if a < b { [a, b] } else { [b, a] }
}

/// The best of all spans up to one, or from one on, for each.
fn running<'s>(
    spans: impl Iterator<Item = &'s Span>,
    better: impl Fn(&Span, &Span) -> bool,
) -> Vec<Span> {
    let mut best: Vec<Span> = Vec::new();
    for span in spans {
        let kept = best.last().copied().filter(|last| !better(span, last));
        best.push(kept.unwrap_or(*span));
    }
    best
}

impl Between {
    /// Whether each look shows what was answered before it, unless something that may lie between the
    /// two has changed it.
    fn check_stale(&self, mut complain: impl FnMut(Span, Span)) {
        for (look, seen) in &self.looks {
            // Of the changes answered before the look, the one that was asked last excuses least.
            let last = |changes: &[Span]| {
                let before = changes.iter().filter(|change| change.answered < look.invoked);
                before.max_by_key(|change| change.invoked).copied()
            };
            let excused = |change: &Span, others: &[Span]| {
                let lies = |other: &Span| {
                    other.answered >= change.invoked && other.invoked <= look.answered
                };
                others.iter().any(lies)
            };
            if let Some(made) = last(&self.made).filter(|_| !seen.both)
                && !excused(&made, &self.partings)
            {
                complain(made, *look);
            }
            if let Some(ended) = last(&self.ended).filter(|_| seen.any)
                && !excused(&ended, &self.befriendings)
            {
                complain(ended, *look);
            }
        }
    }

    /// What begins when something else ends may have happened before it.
    fn check(mut self, mut complain: impl FnMut(Span, Span)) -> usize {
        // Of the blocks answered before a look, the one that was asked last excludes most.
        let last_asked = self.blocks.each_mut().map(|blocks| {
            blocks.sort_by_key(|block| block.answered);
            running(blocks.iter(), |block, last| block.invoked > last.invoked)
        });
        // Of the unblocks that may be behind a block, the one that was asked first excuses most.
        let first_asked = self.unblocks.each_mut().map(|unblocks| {
            unblocks.sort_by_key(|unblock| unblock.answered);
            let mut first =
                running(unblocks.iter().rev(), |unblock, first| unblock.invoked < first.invoked);
            first.reverse();
            first
        });
        // Of the befriendings asked before a look, the one that was answered last excuses most.
        self.befriendings.sort_by_key(|befriending| befriending.invoked);
        let last_answered =
            running(self.befriendings.iter(), |one, last| one.answered > last.answered);
        let mut looks = 0;
        for (look, seen) in &self.looks {
            for side in [0, 1] {
                let before = self.blocks[side].partition_point(|b| b.answered < look.invoked);
                let Some(block) = before.checked_sub(1).map(|at| last_asked[side][at]) else {
                    continue;
                };
                let behind =
                    self.unblocks[side].partition_point(|unblock| unblock.answered < block.invoked);
                let unblock = first_asked[side].get(behind).filter(|u| u.invoked <= look.answered);
                let excused = unblock.is_some_and(|unblock| {
                    let asked =
                        self.befriendings.partition_point(|one| one.invoked <= look.answered);
                    let last = asked.checked_sub(1).map(|at| last_answered[at].answered);
                    last >= Some(unblock.invoked.max(block.invoked))
                });
                looks += usize::from(unblock.is_none());
                if seen.any && !excused {
                    complain(block, *look);
                }
            }
        }
        looks
    }
}
