//! Who is there: the nodes as they tell it themselves on a board, judged by this node's own beats.
//!
//! A node's own beats are the clock by which it judges the others: whoever is dead was not heard of for so
//! long before a beat of this node's was *sent* that stands behind everything that was read. So it does
//! not matter how late the board is read, nor what clocks show, the brokers' included; and if the board
//! stands still, or is not reached, no beat comes back, time stands still, and nobody is declared
//! dead. A view is made of the last beat of each node, so that a reader for whom older notices are
//! gone has the same one. Rule: cluster.md 3.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// Its store takes no rows: others are fitter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cramped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    beat: Beat,
    /// When it was read.
    heard: Duration,
    /// The place of the beat among all that were read.
    place: u64,
}

/// All nodes that were heard of. Durations count from this node's start, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    dead_after: Duration,
    now: Duration,
    members: BTreeMap<String, Member>,
    read: u64,
    /// Everything that stood on the board at first has been read.
    whole: bool,
    /// Notices that were no beats.
    unreadable: u64,
}

impl View {
    /// Nobody is there. A node is dead when it was not heard of for longer than `dead_after`.
    pub fn new(dead_after: Duration) -> Self {
        Self {
            dead_after,
            now: Duration::ZERO,
            members: BTreeMap::new(),
            read: 0,
            whole: false,
            unreadable: 0,
        }
    }

    /// Takes the next notice of the board in, which was read at `here`; answers the beat, if it is one.
    /// A notice that is no beat is only counted.
    pub fn apply(&mut self, notice: &Notice, here: Duration) -> Option<&Beat> {
        let Notice::Posted { key, value } = notice else {
            self.whole = true;
            return None;
        };
        let beat = match value.len() {
            ..=BEAT_BYTES_MAX => serde_json::from_slice::<Beat>(value).ok(),
            _ => None,
        };
        let Some(beat) = beat.filter(|beat| beat.node == *key) else {
            self.unreadable += 1;
            return None;
        };
        self.read += 1;
        self.members.insert(key.clone(), Member { beat, heard: here, place: self.read });
        if self.members.len() > MEMBERS_MAX {
            let silent = self.members.iter().min_by_key(|(_, member)| member.place);
            let name = silent.map(|(name, _)| name.clone()).unwrap_or_default();
            self.members.remove(&name);
        }
        self.members.get(key).map(|member| &member.beat)
    }

    /// A beat of this node's own was read that it had sent at `sent`: the board's time is at least that.
    pub fn advance(&mut self, sent: Duration) {
        self.now = self.now.max(sent);
    }

    /// The board's time: when this node had sent the newest of its beats that it has read.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Whether a beat that is sent at `here` would show somebody to be dead, and none was at `last`.
    pub fn suspects(&self, last: Duration, here: Duration) -> bool {
        let dies_at = |member: &Member| member.heard + self.dead_after;
        self.members.values().map(dies_at).any(|at| last <= at && at < here)
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
        self.now.saturating_sub(member.heard) <= self.dead_after
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
    use crate::damage::damaged;

    const DEAD_AFTER: Duration = Duration::from_secs(5);

    fn beat(node: &str, state: NodeState) -> Beat {
        Beat {
            node: node.into(),
            incarnation: Uuid::nil(),
            number: 1,
            address: format!("{node}:7000"),
            state,
            warm: BTreeSet::from([Partition(3)]),
            cramped: false,
        }
    }

    fn notice(key: &str, value: &[u8]) -> Notice {
        Notice::Posted { key: key.into(), value: value.to_vec() }
    }

    fn posted(beat: &Beat) -> Notice {
        notice(&beat.node, &serde_json::to_vec(beat).expect("a beat is JSON"))
    }

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Reads a beat of an active node.
    fn hear(view: &mut View, node: &str, ms: u64) {
        view.apply(&posted(&beat(node, NodeState::Active)), millis(ms));
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
    fn a_node_is_dead_when_a_beat_that_was_sent_long_after_its_last_one_was_read_has_come_back() {
        let mut view = View::new(DEAD_AFTER);
        hear(&mut view, "a", 1_000);
        hear(&mut view, "b", 6_000);
        view.advance(millis(6_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        view.advance(millis(6_001));
        assert_eq!(names(view.alive()), ["b"]);
        assert!(view.find("a").is_none());
        hear(&mut view, "a", 6_002);
        assert_eq!(names(view.alive()), ["a", "b"]);
        // An earlier beat that is read late says nothing new.
        view.advance(millis(1));
        assert_eq!(view.now(), millis(6_001));
    }

    #[test]
    fn nobody_dies_while_the_board_stands_still_or_is_read_late() {
        let mut view = View::new(DEAD_AFTER);
        hear(&mut view, "a", 1_000);
        view.apply(&Notice::CaughtUp, millis(60_000));
        assert_eq!(names(view.alive()), ["a"]);
        assert!(view.is_whole());
        assert_eq!(view.now(), Duration::ZERO);
        // All that was posted meanwhile comes at once, in any number of pieces.
        hear(&mut view, "b", 60_000);
        view.advance(millis(3_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        hear(&mut view, "a", 60_001);
        view.advance(millis(59_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
    }

    #[test]
    fn one_beat_settles_who_may_be_dead() {
        let mut view = View::new(DEAD_AFTER);
        hear(&mut view, "a", 1_000);
        assert!(!view.suspects(millis(5_500), millis(6_000)));
        assert!(view.suspects(millis(5_500), millis(6_001)));
        assert!(!view.suspects(millis(6_001), millis(7_000)), "it is under way");
    }

    #[test]
    fn who_leaves_is_alive_and_does_not_stay() {
        let mut view = View::new(DEAD_AFTER);
        view.apply(&posted(&beat("a", NodeState::Leaving)), millis(1_000));
        view.apply(&posted(&beat("b", NodeState::Joining)), millis(1_000));
        assert_eq!(names(view.alive()), ["a", "b"]);
        assert_eq!(names(view.staying()), ["b"]);
    }

    #[test]
    fn an_earlier_start_is_not_the_one_that_lives() {
        let mut view = View::new(DEAD_AFTER);
        hear(&mut view, "a", 1_000);
        assert!(view.find_start("a", Uuid::nil()).is_some());
        assert!(view.find_start("a", Uuid::max()).is_none());
    }

    #[test]
    fn what_is_no_beat_is_counted_and_changes_nothing_else() {
        let mut view = View::new(DEAD_AFTER);
        let long = vec![b' '; BEAT_BYTES_MAX + 1];
        for (key, value) in [("a", &b"{}"[..]), ("a", b"\xff"), ("b", b""), ("a", &long)] {
            assert_eq!(view.apply(&notice(key, value), millis(9)), None);
        }
        // Somebody else's name.
        let value = serde_json::to_vec(&beat("a", NodeState::Active)).expect("a beat is JSON");
        assert_eq!(view.apply(&notice("b", &value), millis(10)), None);
        assert_eq!((view.unreadable(), view.now()), (5, Duration::ZERO));
        assert_eq!(view.alive().count(), 0);
    }

    #[test]
    fn who_was_silent_longest_is_forgotten_first_when_there_are_too_many() {
        let mut view = View::new(DEAD_AFTER);
        for index in 0..=MEMBERS_MAX {
            // All stood there at first.
            hear(&mut view, &format!("node-{}", MEMBERS_MAX - index), 0);
        }
        assert_eq!(view.alive().count(), MEMBERS_MAX);
        assert!(view.find(&format!("node-{MEMBERS_MAX}")).is_none());
        assert!(view.find("node-0").is_some());
    }

    proptest! {
        #[test]
        fn older_notices_under_a_key_may_be_missing(
            beats in prop::collection::vec((0..4_usize, 0..3_000_u64), 1..40),
        ) {
            let (mut whole, mut compacted) = (View::new(DEAD_AFTER), View::new(DEAD_AFTER));
            let mut at = Duration::ZERO;
            for (index, (node, later)) in beats.iter().enumerate() {
                at += millis(*later);
                let name = ["a", "b", "c", "d"][*node];
                let notice = posted(&beat(name, NodeState::Active));
                whole.apply(&notice, at);
                if beats[index + 1..].iter().all(|(later, _)| later != node) {
                    compacted.apply(&notice, at);
                }
            }
            for view in [&mut whole, &mut compacted] {
                view.advance(at);
            }
            prop_assert_eq!(names(whole.alive()), names(compacted.alive()));
        }

        #[test]
        fn no_notice_makes_a_view_panic(
            key in prop_oneof![Just("a".to_owned()), ".*"],
            value in damaged(vec![serde_json::to_vec(&beat("a", NodeState::Active)).unwrap()]),
            at in any::<u32>(),
        ) {
            let mut view = View::new(DEAD_AFTER);
            let at = Duration::from_secs(at.into());
            if let Some(read) = view.apply(&notice(&key, &value), at).cloned() {
                prop_assert_eq!(view.apply(&posted(&read), at), Some(&read));
            }
            view.apply(&posted(&beat("a", NodeState::Active)), at);
            view.advance(at + DEAD_AFTER);
            prop_assert!(view.find("a").is_some());
        }
    }
}
