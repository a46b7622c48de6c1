//! Who is there: the nodes as they tell it themselves on a board, judged by the board's own clock.
//!
//! Every node that has read the same notices has the same view, whatever its own clock shows and
//! however late it reads. If the board stands still, time stands still, and nobody is declared
//! dead. Rule: cluster.md 3.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::journal::{Notice, Partition};

/// How a node is, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has come up and reads what it needs.
    Joining,
    /// It takes part.
    Active,
    /// It hands over what it has and stops.
    Leaving,
}

/// A node's sign of life, posted under its name about once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The node's name.
    pub node: String,
    /// This start of it.
    pub incarnation: Uuid,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// How it is.
    pub state: Standing,
    /// The partitions whose state it has read to near their ends, or owns.
    pub warm: BTreeSet<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    beat: Beat,
    last: Timestamp,
}

/// All nodes that were ever heard of, and the board's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    dead_after: Duration,
    now: Timestamp,
    members: BTreeMap<String, Member>,
    /// Everything that stood on the board at first has been read.
    whole: bool,
    /// Notices that were no beats.
    unreadable: u64,
}

impl View {
    /// Nobody is there. A node is dead when its last beat is older than `dead_after`.
    pub fn new(dead_after: Duration) -> Self {
        Self {
            dead_after,
            now: Timestamp(0),
            members: BTreeMap::new(),
            whole: false,
            unreadable: 0,
        }
    }

    /// Takes the next notice of the board in.
    pub fn apply(&mut self, notice: &Notice) {
        let Notice::Posted { key, value, at } = notice else {
            self.whole = true;
            return;
        };
        self.now = Timestamp(self.now.0.max(at.0));
        match serde_json::from_slice::<Beat>(value) {
            Ok(beat) if beat.node == *key => {
                self.members.insert(key.clone(), Member { beat, last: *at });
            }
            Ok(_) | Err(_) => self.unreadable += 1,
        }
    }

    /// The board's time: that of its newest notice.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether everything that stood there at first has been read.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Notices that were no beats.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn is_alive(&self, member: &Member) -> bool {
        self.now.0 - member.last.0 <= self.dead_after.as_millis() as i64
    }

    /// The nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = &Beat> {
        self.members.values().filter(|member| self.is_alive(member)).map(|member| &member.beat)
    }

    /// The nodes that live and stay.
    pub fn staying(&self) -> impl Iterator<Item = &Beat> {
        self.alive().filter(|beat| beat.state != Standing::Leaving)
    }

    /// The living node of this name.
    pub fn find(&self, node: &str) -> Option<&Beat> {
        self.members.get(node).filter(|member| self.is_alive(member)).map(|member| &member.beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: &str, state: Standing) -> Beat {
        Beat {
            node: node.into(),
            incarnation: Uuid::nil(),
            address: format!("{node}:7000"),
            state,
            warm: BTreeSet::from([Partition(3)]),
        }
    }

    fn posted(beat: &Beat, at: i64) -> Notice {
        let value = serde_json::to_vec(beat).expect("a beat is JSON");
        Notice::Posted { key: beat.node.clone(), value, at: Timestamp(at) }
    }

    fn names<'a>(beats: impl Iterator<Item = &'a Beat>) -> Vec<&'a str> {
        beats.map(|beat| beat.node.as_str()).collect()
    }

    #[test]
    fn a_node_is_dead_when_the_boards_clock_has_passed_its_last_beat_by_more_than_the_limit() {
        let mut view = View::new(Duration::from_secs(5));
        view.apply(&posted(&beat("a", Standing::Active), 1_000));
        view.apply(&posted(&beat("b", Standing::Active), 6_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        view.apply(&posted(&beat("b", Standing::Active), 6_001));
        assert_eq!(names(view.alive()), ["b"]);
        assert!(view.find("a").is_none());
        view.apply(&posted(&beat("a", Standing::Joining), 6_002));
        assert_eq!(names(view.alive()), ["a", "b"]);
    }

    #[test]
    fn nobody_dies_while_the_board_stands_still() {
        let mut view = View::new(Duration::from_secs(5));
        view.apply(&posted(&beat("a", Standing::Active), 1_000));
        view.apply(&Notice::CaughtUp);
        assert_eq!(names(view.alive()), ["a"]);
        assert!(view.is_whole());
        assert_eq!(view.now(), Timestamp(1_000));
    }

    #[test]
    fn who_leaves_is_alive_and_does_not_stay() {
        let mut view = View::new(Duration::from_secs(5));
        view.apply(&posted(&beat("a", Standing::Leaving), 1_000));
        view.apply(&posted(&beat("b", Standing::Joining), 1_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        assert_eq!(names(view.staying()), ["b"]);
    }

    #[test]
    fn what_is_no_beat_is_counted_and_moves_the_clock_alone() {
        let mut view = View::new(Duration::from_secs(5));
        for (key, value) in [("a", &b"{}"[..]), ("a", b"\xff"), ("b", b"")] {
            view.apply(&Notice::Posted {
                key: key.into(),
                value: value.to_vec(),
                at: Timestamp(9),
            });
        }
        let Notice::Posted { value, .. } = posted(&beat("a", Standing::Active), 10) else {
            unreachable!("it is posted")
        };
        // Somebody else's name.
        view.apply(&Notice::Posted { key: "b".into(), value, at: Timestamp(10) });
        assert_eq!((view.unreadable(), view.now()), (4, Timestamp(10)));
        assert_eq!(view.alive().count(), 0);
    }
}
