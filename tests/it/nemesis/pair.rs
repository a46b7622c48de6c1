//! What two users may look like, as far as one caller knows who alone works on them.
//!
//! The caller makes one call after the other, but an answer may never come: then the call may have
//! been done, or not, or be done at any later time. So there are several worlds that are possible,
//! and an answer that fits into none of them is a violation. Each call's effect on a world is the
//! specification; promise 2 is part of it: in a world where one blocks the other, nobody becomes a
//! friend, and a block that was answered leaves no world with a friendship.

use std::collections::BTreeSet;

/// One side of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn blocks(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    fn has_friend(self) -> u8 {
        match self {
            Self::A => 4,
            Self::B => 8,
        }
    }
}

const BLOCKED: u8 = 1 | 2;

/// A part of a call's effect that may happen on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Block(Side),
    Unblock(Side),
    /// The side has the other as a friend, unless one of them blocks the other.
    Befriend(Side),
    /// The side has not.
    Part(Side),
}

impl Effect {
    fn on(self, state: u8) -> u8 {
        match self {
            Self::Block(side) => (state | side.blocks()) & !side.has_friend(),
            Self::Unblock(side) => state & !side.blocks(),
            Self::Befriend(side) if state & BLOCKED == 0 => state | side.has_friend(),
            Self::Befriend(_) => state,
            Self::Part(side) => state & !side.has_friend(),
        }
    }
}

/// What a caller may do with a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Block(Side),
    Unblock(Side),
    Befriend(Side),
    Unfriend(Side),
}

impl Act {
    fn effects(self) -> [Effect; 2] {
        match self {
            Self::Block(side) => [Effect::Block(side), Effect::Part(side.other())],
            // Twice the same is once.
            Self::Unblock(side) => [Effect::Unblock(side), Effect::Unblock(side)],
            Self::Befriend(side) => [Effect::Befriend(side.other()), Effect::Befriend(side)],
            Self::Unfriend(side) => [Effect::Part(side), Effect::Part(side.other())],
        }
    }
}

/// A state, and the effects that may still come, as bits of [`Pair::open`].
type World = (u8, u32);

/// The most effects that may be open; beyond it the pair is left alone.
const OPEN_MAX: usize = 10;

/// Everything that is known of a pair.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    worlds: BTreeSet<World>,
    open: Vec<Effect>,
}

/// An answer that fits into no possible world.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

impl Pair {
    /// Two users who do not know each other.
    pub(super) fn strangers() -> Self {
        Self { worlds: BTreeSet::from([(0, 0)]), open: Vec::new() }
    }

    /// Two users of whom nothing is known.
    pub(super) fn anything() -> Self {
        Self { worlds: (0..16).map(|state| (state, 0)).collect(), open: Vec::new() }
    }

    /// Whether so little is known that more calls would tell nothing.
    pub(super) fn is_worn_out(&self) -> bool {
        self.open.len() + 2 > OPEN_MAX
    }

    /// Whatever may have happened meanwhile.
    fn settle(&mut self) {
        let mut reached: Vec<World> = self.worlds.iter().copied().collect();
        while let Some((state, left)) = reached.pop() {
            for (index, effect) in self.open.iter().enumerate() {
                let bit = 1 << index;
                if left & bit != 0 {
                    let world = (effect.on(state), left & !bit);
                    if self.worlds.insert(world) {
                        reached.push(world);
                    }
                }
            }
        }
    }

    fn open(&mut self, effects: &[Effect]) {
        for effect in effects {
            let bit = 1 << self.open.len();
            self.open.push(*effect);
            self.worlds = self.worlds.iter().map(|(state, left)| (*state, left | bit)).collect();
        }
        self.settle();
    }

    fn apply(&mut self, effect: Effect) {
        self.settle();
        self.worlds = self.worlds.iter().map(|(state, left)| (effect.on(*state), *left)).collect();
    }

    /// The call was answered with success.
    pub(super) fn done(&mut self, act: Act) -> Result<(), Violation> {
        match act {
            Act::Befriend(_) => {
                self.see("a friendship was made between two of whom none blocks", |state| {
                    state & BLOCKED == 0
                })?;
            }
            Act::Unblock(side) => self.saw_block(side, true)?,
            // A block is answered with success again while the other side is owed.
            Act::Block(_) | Act::Unfriend(_) => {}
        }
        let [first, second] = act.effects();
        self.apply(first);
        // What comes in between two parts of one call is seen by nobody who waits for its answer.
        self.worlds = self.worlds.iter().map(|(state, left)| (second.on(*state), *left)).collect();
        Ok(())
    }

    /// The fact is in force, the other user's side is owed.
    pub(super) fn owed(&mut self, act: Act) {
        let [first, second] = act.effects();
        match act {
            // The offer is recorded; nobody is a friend yet.
            Act::Befriend(_) => self.open(&[first, second]),
            Act::Block(_) | Act::Unblock(_) | Act::Unfriend(_) => {
                self.apply(first);
                self.open(&[second]);
            }
        }
    }

    /// There was no answer.
    pub(super) fn unknown(&mut self, act: Act) {
        let [first, second] = act.effects();
        self.open(&[first, second]);
    }

    /// Nothing that was open can happen any more: long enough has passed.
    pub(super) fn close(&mut self) {
        self.settle();
        self.worlds = self.worlds.iter().map(|(state, _)| (*state, 0)).collect();
        self.open.clear();
    }

    fn see(&mut self, what: &str, holds: impl Fn(u8) -> bool) -> Result<(), Violation> {
        self.settle();
        let fitting: BTreeSet<World> =
            self.worlds.iter().copied().filter(|(state, _)| holds(*state)).collect();
        if fitting.is_empty() {
            let states: BTreeSet<String> =
                self.worlds.iter().map(|(state, _)| format!("{state:04b}")).collect();
            return Err(Violation(format!("{what}, but it can only be one of {states:?}")));
        }
        self.worlds = fitting;
        Ok(())
    }

    /// Somebody was told whether `side` blocks the other.
    pub(super) fn saw_block(&mut self, side: Side, blocks: bool) -> Result<(), Violation> {
        let what = format!("{side:?} was said to block the other: {blocks}");
        self.see(&what, |state| (state & side.blocks() != 0) == blocks)
    }

    /// Somebody was told that one of the two blocks the other.
    pub(super) fn saw_some_block(&mut self) -> Result<(), Violation> {
        self.see("one was said to block the other", |state| state & BLOCKED != 0)
    }

    /// Somebody was told, in one answer, who has whom as a friend. The two sides were asked one
    /// after the other, in whatever order.
    pub(super) fn saw_friends(&mut self, a: bool, b: bool) -> Result<(), Violation> {
        let has =
            |side: Side, known: bool| move |state: u8| (state & side.has_friend() != 0) == known;
        let what = format!("A was said to have B: {a}, and B to have A: {b}");
        let (mut first, mut second) = (self.clone(), self.clone());
        let one =
            first.see(&what, has(Side::A, a)).and_then(|()| first.see(&what, has(Side::B, b)));
        let two =
            second.see(&what, has(Side::B, b)).and_then(|()| second.see(&what, has(Side::A, a)));
        match (one, two) {
            (Ok(()), Ok(())) => {
                *self = first;
                self.worlds.extend(second.worlds);
            }
            (Ok(()), Err(_)) => *self = first,
            (Err(_), Ok(())) => *self = second,
            (Err(violation), Err(_)) => return Err(violation),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_was_answered_leaves_no_friendship_and_a_lost_one_is_found() {
        let mut pair = Pair::strangers();
        pair.done(Act::Befriend(Side::A)).expect("it fits");
        pair.saw_friends(true, true).expect("they are friends");
        pair.done(Act::Block(Side::B)).expect("it fits");
        pair.saw_friends(false, false).expect("they were parted");
        assert!(pair.clone().saw_friends(true, false).is_err(), "a stale read is found");
        assert!(pair.clone().saw_block(Side::B, false).is_err(), "a lost block is found");
        assert!(pair.saw_block(Side::A, true).is_err(), "a block by nobody is found");
    }

    #[test]
    fn a_call_without_an_answer_may_be_done_at_any_later_time_and_once() {
        let mut pair = Pair::strangers();
        pair.unknown(Act::Block(Side::A));
        pair.saw_block(Side::A, false).expect("not done yet");
        pair.saw_block(Side::A, true).expect("done now");
        pair.done(Act::Unblock(Side::A)).expect("it fits");
        assert!(pair.clone().done(Act::Unblock(Side::A)).is_err(), "there is no block any more");
        assert!(pair.saw_block(Side::A, true).is_err(), "once is enough");
    }

    #[test]
    fn a_removal_that_is_owed_may_be_seen_later_but_never_taken_back() {
        let mut pair = Pair::strangers();
        pair.done(Act::Befriend(Side::A)).expect("it fits");
        pair.owed(Act::Block(Side::A));
        assert!(pair.clone().saw_friends(true, true).is_err(), "the own side is removed at once");
        pair.saw_friends(false, true).expect("the other side is owed");
        pair.saw_friends(false, false).expect("and comes");
        assert!(pair.saw_friends(false, true).is_err());
    }

    #[test]
    fn an_offer_that_crosses_a_block_makes_nobody_a_friend() {
        let mut pair = Pair::strangers();
        pair.unknown(Act::Befriend(Side::A));
        pair.done(Act::Block(Side::B)).expect("it fits");
        assert!(pair.clone().done(Act::Befriend(Side::A)).is_err());
        assert!(pair.clone().saw_friends(true, false).is_err());
        pair.saw_friends(false, false).expect("blocked");
    }

    #[test]
    fn what_can_not_happen_any_more_is_forgotten() {
        let mut pair = Pair::strangers();
        for _ in 0..4 {
            pair.unknown(Act::Block(Side::A));
        }
        assert!(!pair.is_worn_out());
        pair.unknown(Act::Block(Side::B));
        assert!(pair.is_worn_out());
        pair.close();
        assert!(!pair.is_worn_out());
        pair.saw_block(Side::A, true).expect("one of them was done");
        assert!(pair.saw_block(Side::A, false).is_err(), "and nothing takes it back");
    }
}
