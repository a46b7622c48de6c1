//! How many deliveries a replay would tell.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::super::AuditError;
use super::super::walk::{Reading, Step, Walk, all_partitions};
use super::owed::Owed;
use super::said::Streams;
use super::{Options, Range};
use crate::domain::{AppId, UserId};
use crate::journal::{Admitted, Body, Filter, Offset, Partition, ReadJournal};
use crate::tags::CallbackCommand;
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::{CursorName, Switches};

/// What a replay is to tell: the intersection of all that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The app.
    pub app: AppId,
    /// Whose commands bound it.
    pub subscription: String,
    /// Which records.
    pub range: Range,
    /// Only these users; all if empty.
    pub users: Vec<UserId>,
    /// Only these commands; all that the subscription asks for if empty.
    pub commands: Vec<CallbackCommand>,
    /// Only these deliveries; all if empty.
    pub ids: Vec<DeliveryId>,
}

/// What a replay would tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// How many deliveries.
    pub calls: u64,
    /// Of how many records.
    pub records: u64,
    /// By command.
    pub commands: BTreeMap<&'static str, u64>,
    /// The range in each partition that has any: the first offset and the one behind the last.
    pub ranges: Vec<(Partition, Offset, Offset)>,
    /// Records that count and cannot be read: what they owe is not known.
    pub unreadable: u64,
}

/// Counts the deliveries that a replay of `selection` would tell.
///
/// What the subscription asks for at present is what its cursors say; without any it asks for
/// everything. Errors: [`AuditError::UnknownSubscription`].
pub fn count(journal: &dyn ReadJournal, selection: &Selection) -> Result<Counted, AuditError> {
    let Selection { app, subscription, range, users, commands, ids } = selection;
    let mut asked: BTreeMap<Partition, Filter> = BTreeMap::new();
    // Records by the deliveries that they owe: few sets, so that what is asked for may be found last.
    let mut sets: BTreeMap<(Partition, Vec<CallbackCommand>), (u64, Offset, Offset)> =
        BTreeMap::new();
    let (mut streams, mut known) = (Streams::default(), false);
    let mut unreadable = 0;
    let mut walk = Walk::over(journal, &all_partitions(journal))?;
    walk.run(|step, _| {
        let Step { partition, offset, reading, .. } = step;
        let record = match reading {
            Reading::Record(record, Admitted::Valid) => record,
            Reading::Unreadable { admitted, .. } if admitted != Admitted::Void => {
                unreadable += 1;
                return Ok(ControlFlow::Continue(()));
            }
            _ => return Ok(ControlFlow::Continue(())),
        };
        match record.body {
            Body::Cursor { subscription: cursor, cursor: said }
                if CursorName::parse(&cursor) == Some(CursorName::of(*app, subscription)) =>
            {
                known = true;
                if let Some(newest) = said.progress.filters.into_iter().next_back() {
                    asked.insert(partition, newest);
                }
            }
            Body::Commit(commit) => {
                streams.hear(&commit);
                if commit.key.app != *app
                    || !range.holds(partition, offset, commit.at)
                    || !(users.is_empty() || users.contains(&commit.key.user))
                {
                    return Ok(ControlFlow::Continue(()));
                }
                let Some(owed) = Owed::of(partition, offset, &commit) else {
                    return Ok(ControlFlow::Continue(()));
                };
                let wanted = owed.wanted(Switches::ALL).map(|(one, _)| one);
                let wanted = wanted.filter(|command| {
                    let id = DeliveryId { partition, offset, command: *command };
                    (commands.is_empty() || commands.contains(command))
                        && (ids.is_empty() || ids.contains(&id))
                });
                let wanted: Vec<CallbackCommand> = wanted.collect();
                if !wanted.is_empty() {
                    let behind = Offset(offset.0 + 1);
                    let set = sets.entry((partition, wanted)).or_insert((0, offset, behind));
                    (set.0, set.2) = (set.0 + 1, behind);
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let named =
        Options { app: Some(*app), subscription: Some(subscription.clone()), ..Options::default() };
    named.check_known(known || streams.know(&named))?;
    Ok(Counted { unreadable, ..sum(sets, &asked) })
}

fn sum(
    sets: BTreeMap<(Partition, Vec<CallbackCommand>), (u64, Offset, Offset)>,
    asked: &BTreeMap<Partition, Filter>,
) -> Counted {
    let mut counted = Counted::default();
    for ((partition, commands), (records, from, until)) in sets {
        let wanted = commands.into_iter().filter(|command| {
            asked
                .get(&partition)
                .is_none_or(|filter| filter.commands.iter().any(|name| **name == *command.name()))
        });
        let mut some = false;
        for command in wanted {
            some = true;
            counted.calls += records;
            *counted.commands.entry(command.name()).or_default() += records;
        }
        if !some {
            continue;
        }
        counted.records += records;
        match counted.ranges.last_mut().filter(|(known, ..)| *known == partition) {
            Some((_, first, last)) => (*first, *last) = (from.min(*first), until.max(*last)),
            None => counted.ranges.push((partition, from, until)),
        }
    }
    counted
}
