//! How far a follower has come in a partition, as its cursor records say it.
//!
//! A cursor is a record of the partition itself, so it is as durable as what it speaks of and moves
//! with the partition. What a subscriber is owed, was told and could not be told follows from the
//! records and the last cursor alone; no copy of a delivery is kept anywhere.

use serde::{Deserialize, Serialize};

use super::{Epoch, Offset, ReaderRule};
use crate::domain::{Timestamp, UserId};

/// A place from which a partition can be read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The first offset that is not read yet.
    pub next: Offset,
    /// The epoch in force before it.
    pub epoch: Epoch,
    /// The number of valid records of that epoch before it.
    pub n: u64,
}

impl Place {
    /// The place in front of `next`, where `rule` knows what stands before it.
    pub fn new(next: Offset, rule: ReaderRule) -> Self {
        Self { next, epoch: rule.epoch(), n: rule.n() }
    }

    /// What decides which records count from there on.
    pub fn rule(&self) -> ReaderRule {
        ReaderRule::resume(self.epoch, self.n)
    }
}

/// Where a follower stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The first offset that is not done with, but for what the progress says of parked users.
    pub place: Place,
    /// Which move of an operator the follower has followed last; 0 if none. A cursor of a later term may
    /// lie before one of an earlier term; within a term it only goes forward.
    pub term: u32,
    /// The follower has come to its end, or was dismissed: the cursor is not kept any longer.
    pub ended: bool,
    /// What became of the calls before that place.
    pub progress: Progress,
}

impl Cursor {
    /// The cursor of a follower that begins at `place`.
    pub fn begin(place: Place) -> Self {
        let progress = Progress { since: place.next, ..Progress::default() };
        Self { place, progress, ..Self::default() }
    }

    /// The cursor of a follower that is no more: of the last term there is.
    pub fn ended() -> Self {
        Self { term: u32::MAX, ended: true, ..Self::default() }
    }
}

/// What became of the calls of a subscription in a partition.
///
/// Law: of the calls that the records from `since` up to the cursor's place owe under `filters`,
/// each is in `delivered`, in `dead`, or belongs to a user in `parked` at or behind their first one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The first offset that counts.
    pub since: Offset,
    /// What was asked for from which offset on, oldest first; only those that still matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where reading begins after a restart, if that is before the cursor's place: at the first call
    /// of a parked user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Place>,
    /// How many calls the records from `since` up to where reading begins owe.
    #[serde(skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// The id of the last one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<str>>,
    /// What was delivered.
    #[serde(skip_serializing_if = "Tally::is_empty")]
    pub delivered: Tally,
    /// What was given up.
    #[serde(skip_serializing_if = "Tally::is_empty")]
    pub dead: Tally,
    /// Users whose calls wait although the cursor has passed them, at most a hundred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<Parked>,
    /// The calls that were given up since the cursor before this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub died: Vec<DeadLetter>,
    /// Since when the receiver counts as down, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Why nothing is sent any more until an operator says so, if that is the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<Box<str>>,
    /// What the last failed attempt came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
}

/// What a subscription asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// From which offset on.
    pub from: Offset,
    /// The commands, by their names on the wire.
    pub commands: Vec<Box<str>>,
}

/// Calls, counted and added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The sum of their hashes, whatever their order: 128 bits.
    #[serde(with = "hex")]
    pub digest: u128,
}

impl Tally {
    /// Adds one call, by its hash.
    pub fn add(&mut self, hash: u128) {
        self.count += 1;
        self.digest = self.digest.wrapping_add(hash);
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: Self) {
        self.count += other.count;
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A user whose calls wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Who.
    pub user: UserId,
    /// The record of their first call that was not delivered. Everything of theirs behind it waits,
    /// too.
    pub first: Offset,
    /// How many calls of that record were delivered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u64,
    /// Attempts that were spent on that call.
    pub attempts: u32,
    /// Since when it waits.
    pub since: Timestamp,
    /// What the last attempt came to.
    pub error: Box<str>,
}

/// A call that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its id: `<partition>@<offset>.<command>`.
    pub id: Box<str>,
    /// Whose event it tells.
    pub user: UserId,
    /// Attempts that were spent on it.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// What the last attempt came to.
    pub error: Box<str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// 128 bits as 32 hex digits: JSON's numbers are too short.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_of_nothing_is_short_and_what_is_written_is_read_back() {
        let empty = Progress { since: Offset(7), ..Progress::default() };
        let text = serde_json::to_string(&empty).expect("JSON");
        assert_eq!(text, r#"{"since":7}"#);
        let mut full = empty.clone();
        full.delivered.add(u128::MAX);
        full.delivered.add(3);
        full.filters = vec![Filter { from: Offset(7), commands: vec!["a".into()] }];
        full.resume = Some(Place { next: Offset(8), epoch: Epoch(1), n: 3 });
        full.parked = vec![Parked {
            user: UserId::parse("amy").expect("a name"),
            first: Offset(8),
            done: 1,
            attempts: 4,
            since: Timestamp(5),
            error: "500".into(),
        }];
        for progress in [empty, full] {
            let text = serde_json::to_string(&progress).expect("JSON");
            assert_eq!(serde_json::from_str::<Progress>(&text).expect("a progress"), progress);
        }
    }

    #[test]
    fn a_tally_does_not_depend_on_the_order() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        [1, u128::MAX, 77].into_iter().for_each(|hash| one.add(hash));
        [77, 1, u128::MAX].into_iter().for_each(|hash| other.add(hash));
        assert_eq!(one, other);
        let mut twice = one;
        twice.add_all(other);
        assert_eq!(twice.count, 6);
    }
}
