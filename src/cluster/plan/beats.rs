//! This node's own beats: when one is due, which of them were read back, and what follows from that.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use crate::cluster::members::Beat;

/// How often a node shows that it lives.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How soon after a beat another one may be due that has news.
pub(super) const BEAT_WITH_NEWS: Duration = Duration::from_millis(200);
/// How many sent beats are remembered. A beat that is read back after that many newer ones were sent says
/// nothing about the present.
const SENT_MAX: usize = 64;

/// What a node remembers of its beats. Durations count from its start, by its own clock.
#[derive(Clone, Debug)]
pub(super) struct Beats {
    incarnation: Uuid,
    next: u64,
    sent: VecDeque<(u64, Duration)>,
    due: Duration,
    /// When the newest beat that was read back had been sent.
    seen_as_of: Option<Duration>,
    /// When a later start under this node's name was last heard of.
    namesake: Option<Duration>,
}

impl Beats {
    pub(super) fn new(incarnation: Uuid) -> Self {
        Self {
            incarnation,
            next: 1,
            sent: VecDeque::new(),
            due: Duration::ZERO,
            seen_as_of: None,
            namesake: None,
        }
    }

    pub(super) fn is_due(&self, here: Duration) -> bool {
        here >= self.due
    }

    /// There is something that the others should know soon.
    pub(super) fn hurry(&mut self, here: Duration) {
        let next = self.sent.back().map_or(Duration::ZERO, |(_, at)| *at + BEAT_WITH_NEWS);
        self.due = self.due.min(next.max(here));
    }

    /// The number of the beat that is sent now.
    pub(super) fn send(&mut self, here: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        self.due = here + BEAT;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((number, here));
        number
    }

    /// A beat under this node's name was read.
    pub(super) fn read(&mut self, beat: &Beat, here: Duration) {
        if beat.incarnation == self.incarnation {
            let sent = self.sent.iter().find(|(number, _)| *number == beat.number);
            self.seen_as_of = self.seen_as_of.max(sent.map(|(_, at)| *at));
        } else if self.seen_as_of.is_some() && beat.incarnation > self.incarnation {
            // Before this node's own beat, it is what an earlier start has left behind, whose clock
            // may have been fast.
            self.namesake = Some(here);
        }
    }

    /// When the newest beat that was read back had been sent.
    pub(super) fn seen_as_of(&self) -> Option<Duration> {
        self.seen_as_of
    }

    /// When the last beat was sent.
    pub(super) fn last_sent(&self) -> Duration {
        self.sent.back().map_or(Duration::ZERO, |(_, at)| *at)
    }

    /// Whether the others have seen this node.
    pub(super) fn were_seen(&self) -> bool {
        self.seen_as_of.is_some()
    }

    /// Whether what was read is recent: a beat that was sent less than `dead_after` ago has come back.
    /// So long nobody can have taken this node for dead. One that was paused, or that is cut off from
    /// the board, finds out here, whatever it believes to have read last.
    pub(super) fn are_fresh(&self, here: Duration, dead_after: Duration) -> bool {
        self.seen_as_of.is_some_and(|sent| here.saturating_sub(sent) < dead_after)
    }

    /// Whether a later start under the same name lives: two nodes were given one name, or this one
    /// should be gone. By the node's own clock, because the board's stands still if nobody beats.
    pub(super) fn have_namesake(&self, here: Duration, dead_after: Duration) -> bool {
        self.namesake.is_some_and(|heard| here.saturating_sub(heard) < dead_after)
    }
}
