//! What the journal says, read by the reader rule alone, and what has to follow from it.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use super::clients::{Call, Deed, Outcome};
use super::journal::Medium;
use super::{PARTITIONS, partition, user_key};
use crate::actors::recovery::recover;
use crate::actors::{ItemError, Standing};
use crate::audit::verify;
use crate::domain::{Event, OfferForm, Rejection, UserId};
use crate::journal::record::decode;
use crate::journal::{Admitted, Body, Commit, Offset, Partition, ReaderRule, Record};
use crate::store::Store;
use crate::store::rows::RowHash;

/// The durable records so far, and which of them count.
#[derive(Default)]
pub(super) struct Story {
    partitions: Vec<Chapter>,
}

#[derive(Default)]
struct Chapter {
    rule: ReaderRule,
    records: Vec<(Record, bool)>,
}

impl Story {
    pub(super) fn new() -> Self {
        Self { partitions: (0..PARTITIONS).map(|_| Chapter::default()).collect() }
    }

    /// Reads what has become durable since.
    pub(super) fn read_on(&mut self, medium: &Medium) {
        for (index, chapter) in self.partitions.iter_mut().enumerate() {
            for bytes in medium.records(Partition(index as u16), chapter.records.len()) {
                let record = decode(&bytes).expect("what was written is readable");
                let counts = chapter.rule.admit(&record) != Admitted::Void;
                chapter.records.push((record, counts));
            }
        }
    }

    pub(super) fn len(&self, partition: Partition) -> usize {
        self.partitions[usize::from(partition.0)].records.len()
    }

    /// How many records count for nobody.
    pub(super) fn voids(&self) -> usize {
        let all = self.partitions.iter().flat_map(|chapter| &chapter.records);
        all.filter(|(_, counts)| !counts).count()
    }

    /// How many claims took effect.
    pub(super) fn claims(&self) -> u64 {
        self.partitions.iter().map(|chapter| chapter.rule.epoch().0).sum()
    }

    fn commits(&self, partition: Partition) -> impl Iterator<Item = (usize, &Commit)> {
        let records = self.partitions[usize::from(partition.0)].records.iter().enumerate();
        records.filter_map(|(index, (record, counts))| match &record.body {
            Body::Commit(commit) if *counts => Some((index, commit)),
            _ => None,
        })
    }

    /// Whether what was answered stands where the answer says. Errors: what is there instead.
    pub(super) fn stands(&self, call: &Call, at: (Partition, Offset)) -> Result<(), String> {
        let records = &self.partitions[usize::from(at.0.0)].records;
        match records.get(at.1.0 as usize) {
            Some((Record { body: Body::Commit(commit), .. }, true))
                if commit.key.user == call.owner && commit.by.request == call.request =>
            {
                Ok(())
            }
            Some((record, counts)) => Err(format!("{:?}, counts: {counts}", record.body.kind())),
            None => Err("nothing durable".into()),
        }
    }

    /// Whether some moment from `from` records on explains what was seen.
    pub(super) fn explains(
        &self,
        owner: UserId,
        peer: UserId,
        from: usize,
        seen: Standing,
    ) -> bool {
        let mut now = (false, false);
        let mut explained = false;
        let wanted = (seen.blocks, seen.has_friend);
        for (index, commit) in self.commits(partition(owner)) {
            explained |= index >= from && now == wanted;
            for event in commit.events.iter().filter(|_| commit.key.user == owner) {
                match event {
                    Event::UserBlocked { target, .. } if *target == peer => now.0 = true,
                    Event::UserUnblocked { target } if *target == peer => now.0 = false,
                    Event::FriendAdded { peer: friend, .. } if *friend == peer => now.1 = true,
                    Event::FriendRemoved { peer: friend, .. } if *friend == peer => now.1 = false,
                    _ => {}
                }
            }
        }
        explained || now == wanted
    }

    /// Promise 1, and that a call that was asked again is done once.
    pub(super) fn check_calls(&self, calls: &[Call]) -> Result<(), String> {
        let mut facts: BTreeMap<(Uuid, UserId), Vec<&Event>> = BTreeMap::new();
        for (_, commit) in (0..PARTITIONS).flat_map(|index| self.commits(Partition(index))) {
            if commit.cause.is_none() {
                let known = facts.entry((commit.by.request, commit.key.user)).or_default();
                known.extend(&commit.events);
            }
        }
        let none = Vec::new();
        for call in calls {
            let own = facts.get(&(call.request, call.owner)).unwrap_or(&none);
            let count = |target: UserId| {
                let is_it = |event: &&&Event| match (call.deed, event) {
                    (Deed::Block, Event::UserBlocked { target: peer, .. })
                    | (Deed::Unblock, Event::UserUnblocked { target: peer })
                    | (Deed::Add(_), Event::FriendOffered { peer, .. })
                    | (
                        Deed::Remove { .. },
                        Event::FriendRemoved { peer, .. } | Event::UnfriendAsked { peer },
                    ) => *peer == target,
                    _ => false,
                };
                own.iter().filter(is_it).count()
            };
            for &target in &call.targets {
                if count(target) > 1 {
                    return Err(format!("done {} times: {call:?}", count(target)));
                }
            }
            for (target, outcome) in call.items() {
                let (refused, done) = (count(target) == 0, count(target) == 1);
                let right = match (call.deed, outcome) {
                    (Deed::Unblock, Ok(())) => done,
                    // It may have waited for what another call has done.
                    (Deed::Block, Ok(()) | Err(ItemError::Owed)) => {
                        done || self.ever(call.owner, |event| {
                            matches!(event, Event::UserBlocked { target: t, .. } if *t == target)
                        })
                    }
                    (Deed::Block | Deed::Unblock, Err(ItemError::Rejected(_))) => refused,
                    (Deed::Add(OfferForm::Import), _) => true,
                    (Deed::Add(_), Ok(())) => self.ever(call.owner, |event| {
                        matches!(event, Event::OfferConfirmed { peer, .. } if *peer == target)
                    }),
                    _ => true,
                };
                if !right {
                    return Err(format!("{target}: {outcome:?}, {own:?}: {call:?}"));
                }
            }
            if let Some(Outcome::Refused(rejection)) = &call.outcome
                && !own.is_empty()
                && *rejection != Rejection::AccountUnknown
            {
                return Err(format!("refused and done: {call:?}"));
            }
        }
        Ok(())
    }

    fn ever(&self, owner: UserId, is_it: impl Fn(&Event) -> bool) -> bool {
        let mut commits = self.commits(partition(owner));
        commits.any(|(_, commit)| commit.key.user == owner && commit.events.iter().any(&is_it))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, chapter) in self.partitions.iter().enumerate() {
            for (offset, (record, counts)) in chapter.records.iter().enumerate() {
                let Record { epoch, n, body } = record;
                let void = if *counts { "" } else { " void" };
                writeln!(f, "{index}@{offset}{void} {epoch}:{n} {body:?}")?;
            }
        }
        Ok(())
    }
}

/// All rows of a partition and their hash, from zero.
type Rebuilt = (RowHash, Vec<(Vec<u8>, Vec<u8>)>);

/// Replays into an empty store: every partition by itself, or all together.
fn replay(medium: &Medium, store: &Store, together: bool) -> Result<Vec<Rebuilt>, String> {
    let tables = store.tables();
    let all: Vec<Partition> = (0..PARTITIONS).map(Partition).collect();
    for one in &all {
        tables.clear(*one).map_err(|error| error.to_string())?;
    }
    let groups: Vec<&[Partition]> =
        if together { vec![&all] } else { all.iter().rev().map(std::slice::from_ref).collect() };
    let mut rebuilt = BTreeMap::new();
    for group in groups {
        let states = recover(&*medium.handle(), None, tables, group);
        for state in states.map_err(|error| error.to_string())? {
            let rows: Result<Vec<_>, _> = tables.partition_rows(state.partition).collect();
            let rows = rows.map_err(|error| error.to_string())?;
            rebuilt.insert(state.partition, (state.hash, rows));
        }
    }
    Ok(rebuilt.into_values().collect())
}

/// Promises 2, 3, 4 and 6 over everything that was written, once all has come to rest. `live` is
/// what each owner has.
pub(super) fn check_journal(
    medium: &Medium,
    store: &Store,
    live: &[RowHash],
    twice: bool,
) -> Result<(), String> {
    let first = replay(medium, store, true)?;
    if twice && replay(medium, store, false)? != first {
        return Err("two replays differ".into());
    }
    for (index, ((hash, _), live)) in first.iter().zip(live).enumerate() {
        if hash != live {
            return Err(format!("partition {index}: replayed {hash}, live {live}"));
        }
    }
    let report = verify::check(medium, &verify::Options::default());
    let report = report.map_err(|error| error.to_string())?;
    if !report.holds || report.owed != 0 {
        return Err(format!("owed {}: {:#?}", report.owed, report.problems));
    }
    Ok(())
}

/// Promise 2 by the states themselves: nobody blocks whom they, or who, has as a friend; and no
/// offer is open.
pub(super) fn check_people(store: &Store, names: &[UserId]) -> Result<(), String> {
    let mut users = BTreeMap::new();
    for &name in names {
        let read = store.tables().user(partition(name), &user_key(name));
        let (user, _) = read.map_err(|error| error.to_string())?;
        users.insert(name, user);
    }
    for (amy, one) in &users {
        if let Some(offer) = one.offers().next() {
            return Err(format!("{amy}'s offer is open: {offer:?}"));
        }
        for (bob, other) in users.iter().filter(|(bob, _)| *bob != amy) {
            if one.blocks(bob) && (one.has_friend(bob) || other.has_friend(amy)) {
                return Err(format!("{amy} blocks {bob}, and they are friends"));
            }
        }
    }
    Ok(())
}
