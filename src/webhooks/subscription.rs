//! A subscription as it is served: what was set, with its secrets opened.

use super::caller::Certificate;
use super::cursor::CursorName;
use super::digest::DeliveryId;
use super::endpoint::Endpoint;
use super::format::Signer;
use super::guard::Guard;
use super::lane::{Bounds, Scope, Target};
use super::line::Terms;
use super::retry::Schedule;
use super::switches::Switches;
use crate::domain::{AppId, DeliveryTerms, Replay, Seek, SeekTo};
use crate::journal::{Offset, Partition};

/// One subscription, or a replay of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The app whose users it is about.
    pub app: AppId,
    /// Its name in the app.
    pub name: String,
    /// Where it is called.
    pub endpoint: Endpoint,
    /// Where that may lead.
    pub guard: Guard,
    /// What is shown to a receiver that asks who calls over `https`.
    pub certificate: Option<Certificate>,
    /// What deliveries look like, and what signs them.
    pub signer: Signer,
    /// The headers beside those of the format are sent.
    pub headers: bool,
    /// What it asked for.
    pub commands: Switches,
    /// Off: nothing is sent, and what is owed stays owed.
    pub enabled: bool,
    /// How deliveries are made and repeated.
    pub delivery: DeliveryTerms,
    /// The moves by operators that are in force, the last one behind the others.
    pub seeks: Vec<Seek>,
    /// The part of the past that is told, if this is a replay.
    pub replay: Option<Replay>,
}

impl Subscription {
    /// The name under which its cursors are kept. A cursor belongs to the name and not to the
    /// address, so a changed address goes on where the old one stopped.
    pub fn cursor_name(&self) -> String {
        self.named().to_string()
    }

    /// What metrics call it.
    pub(super) fn label(&self) -> String {
        self.named().label()
    }

    fn named(&self) -> CursorName<'_> {
        let replay = self.replay.as_ref().map(|replay| replay.number);
        CursorName { replay, ..CursorName::of(self.app, &self.name) }
    }

    /// What a lane of it tells.
    pub(super) fn scope(&self, partition: Partition) -> Scope {
        let bounds = |replay: &Replay| {
            let named = replay.ranges.iter().find(|(number, _, _)| *number == partition.0);
            let (_, from, until) = named.copied().unwrap_or_default();
            Bounds {
                from: Offset(from),
                until: Offset(until),
                since: replay.since,
                before: replay.until,
                users: replay.users.clone(),
                ids: replay.ids.iter().filter_map(|id| id.parse::<DeliveryId>().ok()).collect(),
            }
        };
        Scope {
            commands: self.commands,
            seek: self.seek(partition),
            replay: self.replay.as_ref().map(bounds),
        }
    }

    pub(super) fn terms(&self) -> Terms {
        let terms = &self.delivery;
        Terms {
            enabled: self.enabled,
            schedule: Schedule { first_ms: terms.retry_min_ms, max_ms: terms.retry_max_ms },
            call_once: terms.call_once,
            policy: terms.policy,
            attempts_max: terms.attempts_max.max(1),
            in_flight_max: terms.in_flight_max.max(1) as usize,
            per_second: terms.per_second,
        }
    }

    /// Whether a lane of `self` can go on under `other`: nothing moves or bounds it anew.
    pub(super) fn goes_on_as(&self, other: &Self, partition: Partition) -> bool {
        self.seek(partition) == other.seek(partition) && self.replay == other.replay
    }

    /// The last move of a partition: its term, and where to.
    fn seek(&self, partition: Partition) -> Option<(u32, Target)> {
        let mut moves = self.seeks.iter().rev().filter(|_| self.replay.is_none());
        moves.find_map(|seek| Some((seek.term, target(&seek.to, partition)?)))
    }
}

fn target(to: &SeekTo, partition: Partition) -> Option<Target> {
    match to {
        SeekTo::Offsets(offsets) => {
            let named = offsets.iter().find(|(number, _)| *number == partition.0);
            named.map(|(_, offset)| Target::Offset(Offset(*offset)))
        }
        SeekTo::Time(at) => Some(Target::Time(*at)),
        SeekTo::End => Some(Target::End),
    }
}
