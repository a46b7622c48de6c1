//! What must be true of a world that has come to rest.

use std::collections::BTreeMap;

use super::shelf::Written;
use super::{APP, World};
use crate::audit::webhooks::{Options, Report, reconcile};
use crate::domain::UserId;
use crate::journal::{Cursor, Offset, Partition, Tally};
use crate::tags::CallbackCommand;
use crate::webhooks::digest::{DeliveryId, hash};
use crate::webhooks::feed::{Fed, Said};
use crate::webhooks::switches::Switches;

impl World {
    pub(super) fn check(&self) {
        for (index, shelf) in self.shelves.iter().enumerate() {
            let partition = Partition(index as u16);
            for pair in shelf.cursors.windows(2) {
                let place = |cursor: &Cursor| (cursor.term, cursor.place.next);
                assert!(place(&pair[0]) <= place(&pair[1]), "seed {}: back", self.seed);
            }
            let mut filters: BTreeMap<(Offset, Offset), Switches> = BTreeMap::new();
            for cursor in &shelf.cursors {
                balances(self.seed, partition, &shelf.fed, cursor, &mut filters);
            }
            let last = shelf.cursors.last().expect("a cursor");
            // A lane that was moved to a moment that no record has come to yet has no cursor since.
            let moved = self.moves.get(&partition).copied();
            let searches = moved == Some(None);
            let term = moved.flatten().unwrap_or_default();
            assert!(searches || last.term == term, "seed {}: {last:?}, not {term}", self.seed);
            assert!(searches || last.progress.parked.is_empty(), "seed {}: {last:?}", self.seed);
        }
        self.audit();
        if !self.moved {
            self.check_all_told();
        }
        if !self.moved && !self.changed {
            for ((partition, seq), (id, prev)) in &self.chain {
                let before = self.chain.get(&(*partition, seq - 1)).map(|(id, _)| *id);
                if before.is_some() {
                    assert_eq!(*prev, before, "seed {}: the chain before {id}", self.seed);
                }
                assert!((*seq == 1) == prev.is_none(), "seed {}: {id}", self.seed);
            }
        }
    }

    /// The audit comes to the same end: all balance, and nothing waits. Of a world without moves and
    /// changes it counts exactly the deliveries that were made.
    fn audit(&self) -> Report {
        let written = Written(self.shelves.iter().map(|shelf| shelf.entries.clone()).collect());
        let report = reconcile(&written, &Options::default()).expect("memory is readable");
        assert!(report.balanced, "seed {}: {:#?}", self.seed, report.findings);
        let [one] = &report.subscriptions[..] else { panic!("seed {}: {report:#?}", self.seed) };
        let counts = one.counts;
        // Before it has found the moment that it was moved to, a follower says nothing new.
        assert!(counts.balance() && (self.moved || one.lag == 0), "seed {}: {counts:?}", self.seed);
        if !self.moved && !self.changed {
            let owed =
                self.shelves.iter().flat_map(|shelf| &shelf.fed).map(|fed| match &fed.said {
                    Said::Commit { deliveries: Some(deliveries), .. } if deliveries.app == APP => {
                        deliveries.payloads.len()
                    }
                    _ => 0,
                });
            assert_eq!(counts.delivered + counts.dead, owed.sum::<usize>() as u64);
            assert!(counts.dead <= self.dead.len() as u64, "seed {}: {counts:?}", self.seed);
        }
        report
    }

    /// Nothing is lost, and per user the order is the journal's.
    fn check_all_told(&self) {
        let mut last: BTreeMap<UserId, (Offset, usize)> = BTreeMap::new();
        for (id, user) in &self.accepted {
            let place = CallbackCommand::ALL.iter().position(|command| *command == id.command);
            // What was not asked for when it was passed, and is asked for after a crash, comes late.
            if self.changed && id.command != CallbackCommand::BlackListAdd {
                continue;
            }
            let here = (id.offset, place.expect("a command"));
            let before = last.insert(*user, here);
            assert!(before.is_none_or(|before| before < here), "seed {}: {id}", self.seed);
        }
        let always: Switches = if self.changed {
            [CallbackCommand::BlackListAdd].into_iter().collect()
        } else {
            Switches::ALL
        };
        for (index, shelf) in self.shelves.iter().enumerate() {
            let partition = Partition(index as u16);
            for fed in &shelf.fed {
                let Said::Commit { deliveries: Some(deliveries), .. } = &fed.said else { continue };
                for (_, command) in deliveries.wanted(always).filter(|_| deliveries.app == APP) {
                    let id = DeliveryId { partition, offset: fed.offset, command };
                    let told = self.accepted.iter().any(|(known, _)| *known == id);
                    let dead = self.dead.contains(&id.to_string());
                    assert!(told || dead, "seed {}: {id} is lost", self.seed);
                }
            }
        }
    }
}

/// The law of a cursor's count: what the records before it owe is delivered, dead, or parked.
fn balances(
    seed: u64,
    partition: Partition,
    fed: &[Fed],
    cursor: &Cursor,
    filters: &mut BTreeMap<(Offset, Offset), Switches>,
) {
    let progress = &cursor.progress;
    if progress.filters.is_empty() {
        return;
    }
    // Of a change that was lost with a crash, the later word counts.
    if let Some(first) = progress.filters.first() {
        filters.retain(|(since, from), _| *since == progress.since && *from < first.from);
    }
    for filter in &progress.filters {
        let names = filter.commands.iter();
        let commands = names.filter_map(|name| CallbackCommand::from_name(name)).collect();
        filters.insert((progress.since, filter.from), commands);
    }
    let (mut owed, mut waiting) = (Tally::default(), Tally::default());
    for fed in fed.iter().take(cursor.place.next.0 as usize).skip(progress.since.0 as usize) {
        let Said::Commit { deliveries: Some(deliveries), .. } = &fed.said else { continue };
        if deliveries.app != APP {
            continue;
        }
        let want = filters.range(..=(progress.since, fed.offset)).next_back();
        let want = want.map_or_else(Switches::default, |(_, commands)| *commands);
        let parked = progress.parked.iter().find(|parked| parked.user == deliveries.user);
        for (place, (index, command)) in deliveries.wanted(want).enumerate() {
            let hash = hash(
                DeliveryId { partition, offset: fed.offset, command },
                &deliveries.payloads[index].body,
            );
            owed.add(hash);
            let waits = parked.is_some_and(|parked| {
                fed.offset > parked.first
                    || (fed.offset == parked.first && place as u64 >= parked.done)
            });
            if waits {
                waiting.add(hash);
            }
        }
    }
    let mut said = progress.delivered;
    said.add_all(progress.dead);
    said.add_all(waiting);
    assert_eq!(said, owed, "seed {seed}: partition {partition}: {cursor:?}");
}
