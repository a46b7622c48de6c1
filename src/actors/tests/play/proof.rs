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
    /// How often was read on.
    readings: u64,
    /// Accounts that are there, and in which reading that was read.
    risen: BTreeMap<UserId, u64>,
}

#[derive(Default)]
struct Chapter {
    rule: ReaderRule,
    /// The last record that counts is a release.
    released: bool,
    records: Vec<(Record, bool)>,
}

impl Story {
    pub(super) fn new() -> Self {
        let partitions = (0..PARTITIONS).map(|_| Chapter::default()).collect();
        Self { partitions, ..Self::default() }
    }

    /// Reads what has become durable since. Answers what is wrong with it: something stands behind a
    /// release, or an account that is there is forgotten with the one before it. Partitions are read one
    /// after the other, so only what earlier readings have shown counts as before.
    pub(super) fn read_on(&mut self, medium: &Medium) -> Option<String> {
        self.readings += 1;
        let (mut forgotten, mut behind) = (Vec::new(), None);
        for (index, chapter) in self.partitions.iter_mut().enumerate() {
            for bytes in medium.records(Partition(index as u16), chapter.records.len()) {
                let record = decode(&bytes).expect("what was written is readable");
                let counts = chapter.rule.admit(&record) != Admitted::Void;
                if counts {
                    let is_release = matches!(record.body, Body::Release { .. });
                    let is_claim = matches!(record.body, Body::Claim { .. });
                    if std::mem::replace(&mut chapter.released, is_release) && !is_claim {
                        behind = Some(format!("{:?} stands behind a release", record.body.kind()));
                    }
                }
                if let Body::Commit(commit) = &record.body
                    && counts
                {
                    for event in &commit.events {
                        match event {
                            Event::AccountImported {} => {
                                self.risen.insert(commit.key.user, self.readings);
                            }
                            Event::AccountDeleted {} => drop(self.risen.remove(&commit.key.user)),
                            Event::PeerForgotten { peer } => forgotten.push(*peer),
                            _ => {}
                        }
                    }
                }
                chapter.records.push((record, counts));
            }
        }
        let is_there =
            |peer: &UserId| self.risen.get(peer).is_some_and(|since| *since < self.readings);
        let forgotten = forgotten.into_iter().find(is_there);
        behind.or(forgotten.map(|peer| format!("{peer} is forgotten and there")))
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
                if commit.key.user == call.owner && call.requests.contains(&commit.by.request) =>
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
        let mut now = (false, false, false);
        let mut explained = false;
        let wanted = (seen.owner_imported, seen.blocks, seen.has_friend);
        for (index, commit) in self.commits(partition(owner)) {
            explained |= index >= from && now == wanted;
            for event in commit.events.iter().filter(|_| commit.key.user == owner) {
                match event {
                    Event::AccountImported {} => now.0 = true,
                    Event::AccountDeleted {} => now = (false, false, false),
                    Event::UserBlocked { target, .. } if *target == peer => now.1 = true,
                    Event::UserUnblocked { target } if *target == peer => now.1 = false,
                    Event::FriendAdded { peer: friend, .. } if *friend == peer => now.2 = true,
                    Event::FriendRemoved { peer: friend, .. } if *friend == peer => now.2 = false,
                    Event::PeerForgotten { peer: gone } if *gone == peer => {
                        now = (now.0, false, false)
                    }
                    _ => {}
                }
            }
        }
        explained || now == wanted
    }

    /// Whether the offer of `asker`'s that `call` has answered is closed on their side as well.
    pub(super) fn has_heard(&self, asker: UserId, call: &Call) -> bool {
        let own = self.commits(partition(call.owner)).filter(|(_, commit)| {
            commit.key.user == call.owner && call.requests.contains(&commit.by.request)
        });
        let answered = own.flat_map(|(_, commit)| &commit.events).find_map(|event| match event {
            Event::FriendAccepted { peer, offer, .. }
            | Event::FriendRefused { peer, offer, .. } => (*peer == asker).then_some(*offer),
            _ => None,
        });
        // Another call's answer is what that one speaks of.
        answered.is_none_or(|offer| {
            self.ever(asker, |event| match event {
                Event::OfferConfirmed { edge, .. }
                | Event::OfferEnded { edge, .. }
                | Event::OfferWithdrawn { edge, .. } => *edge == offer,
                _ => false,
            })
        })
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
        for call in calls {
            let own: Vec<&Event> = call
                .requests
                .iter()
                .filter_map(|request| facts.get(&(*request, call.owner)))
                .flatten()
                .copied()
                .collect();
            if let Some(event) = twice(&own) {
                return Err(format!("done twice: {event:?}: {call:?}"));
            }
            let is_done = |target: UserId| {
                own.iter().any(|event| match (call.deed, event) {
                    (Deed::Block, Event::UserBlocked { target: peer, .. })
                    | (Deed::Unblock, Event::UserUnblocked { target: peer })
                    | (Deed::Add(_), Event::FriendOffered { peer, .. })
                    | (Deed::Answer(Some(_)), Event::FriendAccepted { peer, .. })
                    | (Deed::Answer(None), Event::FriendRefused { peer, .. })
                    | (
                        Deed::Remove { .. },
                        Event::FriendRemoved { peer, .. } | Event::UnfriendAsked { peer },
                    ) => *peer == target,
                    _ => false,
                })
            };
            let ever = |is_it: &dyn Fn(&Event) -> bool| self.ever(call.owner, is_it);
            for (target, outcome) in call.items() {
                let done = is_done(target);
                let waits = Err(ItemError::Rejected(Rejection::ConfirmationNeeded));
                let right = match (call.deed, outcome) {
                    (Deed::Unblock, Ok(())) => done,
                    // It may have waited for what another call has done.
                    (Deed::Block, Ok(()) | Err(ItemError::Owed)) => {
                        done || ever(
                            &|event| matches!(event, Event::UserBlocked { target: t, .. } if *t == target),
                        )
                    }
                    (Deed::Answer(_), Ok(()) | Err(ItemError::Owed)) => {
                        done || ever(&|event| match event {
                            Event::FriendAccepted { peer, .. }
                            | Event::FriendRefused { peer, .. } => *peer == target,
                            _ => false,
                        })
                    }
                    (
                        Deed::Block | Deed::Unblock | Deed::Answer(_),
                        Err(ItemError::Rejected(_)),
                    ) => !done,
                    (Deed::Add(OfferForm::Import), _) => true,
                    (Deed::Add(_), Ok(())) => ever(
                        &|event| matches!(event, Event::OfferConfirmed { peer, .. } if *peer == target),
                    ),
                    (Deed::Add(_), outcome) if outcome == waits => ever(
                        &|event| matches!(event, Event::OfferPending { peer, .. } if *peer == target),
                    ),
                    _ => true,
                };
                if !right {
                    return Err(format!("{target}: {outcome:?}, {own:?}: {call:?}"));
                }
            }
            let refused = match &call.outcome {
                Some(Outcome::Refused(rejection)) => Some(*rejection),
                _ => None,
            };
            // The rest of it may have come to an account that was deleted meanwhile.
            let whole = matches!(call.deed, Deed::Import | Deed::Delete | Deed::Confirms(_));
            if let Some(rejection) = refused
                && !own.is_empty()
                && (whole || rejection != Rejection::AccountUnknown)
            {
                return Err(format!("refused and done: {call:?}"));
            }
            let deletes = |event: &&Event| matches!(event, Event::AccountDeleted {});
            if call.deed == Deed::Delete
                && matches!(call.outcome, Some(Outcome::Done(_)))
                && !own.iter().any(deletes)
            {
                return Err(format!("said to be done: {call:?}"));
            }
        }
        Ok(())
    }

    fn ever(&self, owner: UserId, is_it: impl Fn(&Event) -> bool) -> bool {
        let mut commits = self.commits(partition(owner));
        commits.any(|(_, commit)| commit.key.user == owner && commit.events.iter().any(&is_it))
    }
}

/// An event of a call that says again what one before it has said.
fn twice<'e>(events: &[&'e Event]) -> Option<&'e Event> {
    let mut said = Vec::new();
    let told_once = |event: &&&Event| {
        let again = matches!(
            event,
            Event::CallDone { .. } | Event::CallsForgotten { .. } | Event::OffersSettled { .. }
        );
        !again
    };
    events.iter().filter(told_once).copied().find(|event| {
        let is_new = (std::mem::discriminant(*event), event.peer());
        let known = said.contains(&is_new);
        said.push(is_new);
        known
    })
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
        // With all users in memory, and with none.
        let kept_bytes_max = if together { usize::MAX } else { 0 };
        let states = recover(&*medium.handle(), tables, group, kept_bytes_max);
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

/// Promise 2 by the states themselves: nobody blocks whom they, or who, has as a friend; what waits
/// for an answer does so on both sides; and of a deleted account nothing is left.
pub(super) fn check_people(store: &Store, names: &[UserId]) -> Result<(), String> {
    let mut users = BTreeMap::new();
    for &name in names {
        let read = store.tables().user(partition(name), &user_key(name));
        let (user, _) = read.map_err(|error| error.to_string())?;
        users.insert(name, user);
    }
    for (amy, one) in &users {
        for offer in one.offers() {
            let waits = users.get(&offer.peer).is_some_and(|peer| {
                peer.requests().any(|request| request.peer == *amy && request.edge == offer.edge)
            });
            if !offer.is_pending() || !waits {
                return Err(format!("{amy}'s offer is open: {offer:?}"));
            }
        }
        for request in one.requests() {
            let waits = users.get(&request.peer).is_some_and(|peer| {
                peer.offers().any(|offer| offer.peer == *amy && offer.edge == request.edge)
            });
            if !waits {
                return Err(format!("{amy} is asked, and nobody asks: {request:?}"));
            }
        }
        for (bob, other) in users.iter().filter(|(bob, _)| *bob != amy) {
            if one.blocks(bob) && (one.has_friend(bob) || other.has_friend(amy)) {
                return Err(format!("{amy} blocks {bob}, and they are friends"));
            }
            let gone = !one.is_imported();
            if gone && (one.has_friend(bob) || one.blocks(bob) || other.has_friend(amy)) {
                return Err(format!("{amy} is gone, and something is left about {bob}"));
            }
        }
    }
    Ok(())
}
