//! What is asked for, and from which place on.

use super::{Ground, Lane};
use crate::audit::webhooks::owed::Owed;
use crate::audit::webhooks::report::Rule;
use crate::domain::Replay;
use crate::journal::{Offset, Partition, Progress};
use crate::tags::CallbackCommand;
use crate::webhooks::Switches;
use crate::webhooks::digest::DeliveryId;

impl Lane {
    /// What is asked for at `offset`.
    pub(super) fn want(&self, owed: &Owed) -> Switches {
        let offset = owed.offset;
        if owed.app != self.whose.app || offset < self.since {
            return Switches::default();
        }
        let asked = self.filters.iter().rev().find(|(from, _)| *from <= offset);
        let asked = asked.map_or_else(Switches::default, |(_, commands)| *commands);
        match &self.whose.replay {
            Ok(Some(replay)) => narrow(replay, self.whose.partition, owed, asked),
            Ok(None) | Err(()) => asked,
        }
    }

    /// Of two words about what is asked for from an offset on, the later one counts; what was passed
    /// stays as it was.
    pub(super) fn adopt_filters(&mut self, ground: &mut Ground<'_>) {
        let said = filters(&self.cursor.progress);
        let Some((first, _)) = said.first().copied() else { return };
        let rewritten = said.iter().find(|(from, commands)| {
            let known = self.filters.iter().rev().find(|(known, _)| known <= from);
            *from < self.place && known.is_some_and(|(_, known)| known != commands)
        });
        if let Some((from, _)) = rewritten {
            let detail = format!("says otherwise what was asked for from {from} on");
            self.find(ground, Rule::Filters, self.said_at, detail);
        }
        self.filters.retain(|(from, _)| *from < first);
        self.filters.extend(said);
        let place = self.place;
        let needless = self.filters.iter().skip(1).take_while(|(from, _)| *from <= place).count();
        self.filters.drain(..needless);
    }
}

/// What a replay tells of a record, of what is asked for. The same rule as the follower's, said
/// once more on purpose.
fn narrow(replay: &Replay, partition: Partition, owed: &Owed, asked: Switches) -> Switches {
    let offset = owed.offset.0;
    let ranges = &replay.ranges;
    let named = ranges
        .iter()
        .any(|(number, from, until)| *number == partition.0 && (*from..*until).contains(&offset));
    let inside = named
        && replay.since.is_none_or(|since| owed.at >= since)
        && replay.until.is_none_or(|until| owed.at < until)
        && (replay.users.is_empty() || replay.users.contains(&owed.user));
    if !inside {
        return Switches::default();
    }
    let wanted = CallbackCommand::ALL.into_iter().filter(|command| {
        let id = DeliveryId { partition, offset: owed.offset, command: *command };
        let named = |names: &[Box<str>], name: &str| {
            names.is_empty() || names.iter().any(|known| **known == *name)
        };
        asked.has(*command)
            && named(&replay.commands, command.name())
            && named(&replay.ids, &id.to_string())
    });
    wanted.collect()
}

/// What was asked for from where on; of two words about the same place the later one counts.
fn filters(progress: &Progress) -> Vec<(Offset, Switches)> {
    let mut filters: Vec<(Offset, Switches)> = Vec::with_capacity(progress.filters.len());
    for filter in &progress.filters {
        let names = filter.commands.iter();
        let commands = names.filter_map(|name| CallbackCommand::from_name(name)).collect();
        filters.retain(|(from, _)| *from != filter.from);
        filters.push((filter.from, commands));
    }
    filters
}
