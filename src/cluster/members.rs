//! Who is there: the nodes as they tell it themselves on a board, judged by the board's own clock.
//!
//! Every node that has read the same notices has the same view, whatever its own clock shows and
//! however late it reads. If the board stands still, time stands still, and nobody is declared
//! dead. A view is made of the last beat of each node and the newest time alone, so that a reader
//! for whom older notices are gone has the same one. Rule: cluster.md 3.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::journal::{Notice, Partition};

/// The longest notice that is read as a beat: several times what 4096 warm partitions take.
pub const BEAT_BYTES_MAX: usize = 64 << 10;
/// Nodes that are remembered, dead ones included; those that were silent longest are forgotten first.
pub const MEMBERS_MAX: usize = 1024;

/// How a node is, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
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
    /// This start of it. Later starts have greater ones, as far as clocks can be trusted.
    pub incarnation: Uuid,
    /// The place among the beats of this start, from 1: by it a node knows, when it reads the beat
    /// back, how long ago it was sent.
    pub number: u64,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// How it is.
    pub state: NodeState,
    /// The partitions that it owns, or could own at once; of a node that leaves, those that it still
    /// holds.
    pub warm: BTreeSet<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    beat: Beat,
    last: Timestamp,
}

/// All nodes that were heard of, and the board's clock.
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

    /// Takes the next notice of the board in; answers the beat, if it is one. What is none is counted
    /// and changes nothing else, except that its time is the board's too.
    pub fn apply(&mut self, notice: &Notice) -> Option<&Beat> {
        let Notice::Posted { key, value, at } = notice else {
            self.whole = true;
            return None;
        };
        self.now = Timestamp(self.now.0.max(at.0));
        let beat = match value.len() {
            ..=BEAT_BYTES_MAX => serde_json::from_slice::<Beat>(value).ok(),
            _ => None,
        };
        let Some(beat) = beat.filter(|beat| beat.node == *key) else {
            self.unreadable += 1;
            return None;
        };
        self.members.insert(key.clone(), Member { beat, last: *at });
        if self.members.len() > MEMBERS_MAX {
            let silent = self.members.iter().min_by_key(|(name, member)| (member.last, *name));
            let name = silent.map(|(name, _)| name.clone()).unwrap_or_default();
            self.members.remove(&name);
        }
        self.members.get(key).map(|member| &member.beat)
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
        i128::from(self.now.0) - i128::from(member.last.0) <= self.dead_after.as_millis() as i128
    }

    /// The nodes that live, by name.
    pub fn alive(&self) -> impl Iterator<Item = &Beat> {
        self.members.values().filter(|member| self.is_alive(member)).map(|member| &member.beat)
    }

    /// The nodes that live and stay, by name.
    pub fn staying(&self) -> impl Iterator<Item = &Beat> {
        self.alive().filter(|beat| beat.state != NodeState::Leaving)
    }

    /// The living node of this name.
    pub fn find(&self, node: &str) -> Option<&Beat> {
        self.members.get(node).filter(|member| self.is_alive(member)).map(|member| &member.beat)
    }

    /// The living node of this name, if this very start of it is what lives.
    pub fn find_start(&self, node: &str, incarnation: Uuid) -> Option<&Beat> {
        self.find(node).filter(|beat| beat.incarnation == incarnation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEAD_AFTER: Duration = Duration::from_secs(5);

    fn beat(node: &str, state: NodeState) -> Beat {
        Beat {
            node: node.into(),
            incarnation: Uuid::nil(),
            number: 1,
            address: format!("{node}:7000"),
            state,
            warm: BTreeSet::from([Partition(3)]),
        }
    }

    fn notice(key: &str, value: &[u8], at: i64) -> Notice {
        Notice::Posted { key: key.into(), value: value.to_vec(), at: Timestamp(at) }
    }

    fn posted(beat: &Beat, at: i64) -> Notice {
        notice(&beat.node, &serde_json::to_vec(beat).expect("a beat is JSON"), at)
    }

    fn names<'a>(beats: impl Iterator<Item = &'a Beat>) -> Vec<&'a str> {
        beats.map(|beat| beat.node.as_str()).collect()
    }

    #[test]
    fn a_beat_stands_on_the_board_like_this() {
        let text = serde_json::to_string(&beat("a", NodeState::Joining)).expect("a beat is JSON");
        let expected = concat!(
            r#"{"node":"a","incarnation":"00000000-0000-0000-0000-000000000000","number":1,"#,
            r#""address":"a:7000","state":"joining","warm":[3]}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_node_is_dead_when_the_boards_clock_has_passed_its_last_beat_by_more_than_the_limit() {
        let mut view = View::new(DEAD_AFTER);
        view.apply(&posted(&beat("a", NodeState::Active), 1_000));
        view.apply(&posted(&beat("b", NodeState::Active), 6_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        view.apply(&posted(&beat("b", NodeState::Active), 6_001));
        assert_eq!(names(view.alive()), ["b"]);
        assert!(view.find("a").is_none());
        view.apply(&posted(&beat("a", NodeState::Joining), 6_002));
        assert_eq!(names(view.alive()), ["a", "b"]);
    }

    #[test]
    fn nobody_dies_while_the_board_stands_still() {
        let mut view = View::new(DEAD_AFTER);
        view.apply(&posted(&beat("a", NodeState::Active), 1_000));
        view.apply(&Notice::CaughtUp);
        assert_eq!(names(view.alive()), ["a"]);
        assert!(view.is_whole());
        assert_eq!(view.now(), Timestamp(1_000));
    }

    #[test]
    fn who_leaves_is_alive_and_does_not_stay() {
        let mut view = View::new(DEAD_AFTER);
        view.apply(&posted(&beat("a", NodeState::Leaving), 1_000));
        view.apply(&posted(&beat("b", NodeState::Joining), 1_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        assert_eq!(names(view.staying()), ["b"]);
    }

    #[test]
    fn an_earlier_start_is_not_the_one_that_lives() {
        let mut view = View::new(DEAD_AFTER);
        view.apply(&posted(&beat("a", NodeState::Active), 1_000));
        assert!(view.find_start("a", Uuid::nil()).is_some());
        assert!(view.find_start("a", Uuid::max()).is_none());
    }

    #[test]
    fn what_is_no_beat_is_counted_and_moves_the_clock_alone() {
        let mut view = View::new(DEAD_AFTER);
        let long = vec![b' '; BEAT_BYTES_MAX + 1];
        for (key, value) in [("a", &b"{}"[..]), ("a", b"\xff"), ("b", b""), ("a", &long)] {
            assert_eq!(view.apply(&notice(key, value, 9)), None);
        }
        // Somebody else's name.
        let value = serde_json::to_vec(&beat("a", NodeState::Active)).expect("a beat is JSON");
        assert_eq!(view.apply(&notice("b", &value, 10)), None);
        assert_eq!((view.unreadable(), view.now()), (5, Timestamp(10)));
        assert_eq!(view.alive().count(), 0);
    }

    #[test]
    fn who_was_silent_longest_is_forgotten_first_when_there_are_too_many() {
        let mut view = View::new(DEAD_AFTER);
        for index in 0..=MEMBERS_MAX {
            view.apply(&posted(&beat(&format!("node-{index}"), NodeState::Active), index as i64));
        }
        assert_eq!(view.alive().count(), MEMBERS_MAX);
        assert!(view.find("node-0").is_none());
        assert!(view.find("node-1").is_some());
    }

    proptest! {
        #[test]
        fn older_notices_under_a_key_may_be_missing(
            beats in prop::collection::vec((0..4_usize, 0..3_000_i64), 1..40),
        ) {
            let mut at = 0;
            let notices: Vec<Notice> = beats.into_iter().map(|(node, later)| {
                at += later;
                posted(&beat(["a", "b", "c", "d"][node], NodeState::Active), at)
            }).collect();
            let key = |notice: &Notice| match notice {
                Notice::Posted { key, .. } => Some(key.clone()),
                Notice::CaughtUp => None,
            };
            let (mut whole, mut compacted) = (View::new(DEAD_AFTER), View::new(DEAD_AFTER));
            for (index, notice) in notices.iter().enumerate() {
                whole.apply(notice);
                if notices[index + 1..].iter().all(|later| key(later) != key(notice)) {
                    compacted.apply(notice);
                }
            }
            prop_assert_eq!(whole, compacted);
        }

        #[test]
        fn no_notice_makes_a_view_panic(
            key in ".*",
            value in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<i64>(),
        ) {
            let mut view = View::new(DEAD_AFTER);
            view.apply(&notice(&key, &value, at));
            view.apply(&posted(&beat("a", NodeState::Active), at));
            view.apply(&posted(&beat("b", NodeState::Active), i64::MAX));
            view.apply(&posted(&beat("c", NodeState::Active), i64::MIN));
            prop_assert!(view.find("b").is_some() && view.find("c").is_none());
        }
    }
}
