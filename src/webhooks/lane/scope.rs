//! Which part of a partition a lane delivers, and which commands.

use crate::domain::{Timestamp, UserId};
use crate::journal::{Offset, Partition};
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::feed::Deliveries;
use crate::webhooks::switches::Switches;

/// What a lane tells, and to which part of its partition it is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::webhooks) struct Scope {
    /// What is asked for.
    pub(in crate::webhooks) commands: Switches,
    /// The last move of the partition by an operator: its term, and where to.
    pub(in crate::webhooks) seek: Option<(u32, Target)>,
    /// Bound to a part of the past, if it is a replay.
    pub(in crate::webhooks) replay: Option<Bounds>,
}

/// Where an operator has moved a lane to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhooks) enum Target {
    /// This offset.
    Offset(Offset),
    /// The first record of this time or later.
    Time(Timestamp),
    /// The end: the cursor of this term if there is one, else as it is when the lane hears of it.
    End,
}

/// What a replay tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::webhooks) struct Bounds {
    /// The first offset.
    pub(in crate::webhooks) from: Offset,
    /// The one behind the last.
    pub(in crate::webhooks) until: Offset,
    /// Records of this time or later.
    pub(in crate::webhooks) since: Option<Timestamp>,
    /// Records before this time.
    pub(in crate::webhooks) before: Option<Timestamp>,
    /// Only these users, if any.
    pub(in crate::webhooks) users: Vec<UserId>,
    /// Only these deliveries, if any.
    pub(in crate::webhooks) ids: Vec<DeliveryId>,
}

impl Bounds {
    /// Which of the commands `asked` for are told of a record.
    pub(in crate::webhooks) fn narrow(
        &self,
        asked: Switches,
        id: (Partition, Offset),
        deliveries: &Deliveries,
    ) -> Switches {
        let inside = (self.from..self.until).contains(&id.1)
            && self.since.is_none_or(|since| deliveries.at >= since)
            && self.before.is_none_or(|before| deliveries.at < before)
            && (self.users.is_empty() || self.users.contains(&deliveries.user));
        if !inside {
            return Switches::default();
        }
        if self.ids.is_empty() {
            return asked;
        }
        let named = self.ids.iter().filter(|known| (known.partition, known.offset) == id);
        named.map(|known| known.command).filter(|command| asked.has(*command)).collect()
    }
}
