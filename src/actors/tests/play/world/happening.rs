//! What may happen to nodes, journal and wire.

use std::time::Duration;

use super::{BEGAN_MS, LEASE_WAIT, TICK, World, partitions};
use crate::actors::ledger::Confirmation;
use crate::actors::snapshot;
use crate::actors::tests::play::PARTITIONS;
use crate::actors::tests::play::journal::Late;
use crate::actors::tests::play::node::Node;
use crate::actors::tests::play::office::Phase;
use crate::domain::Timestamp;
use crate::journal::{Durability, Partition, ReadJournal};

impl World<'_> {
    /// A message arrives, perhaps twice, or is lost.
    pub(super) fn deliver(&mut self, faulty: bool) {
        let count = self.wire.with(|messages| messages.len());
        if count == 0 {
            return;
        }
        let index = self.random.below(count);
        let keep = faulty && self.random.one_in(6);
        let message = self.wire.with(|messages| match keep {
            true => messages[index].clone(),
            false => messages.remove(index),
        });
        if faulty && self.random.one_in(10) {
            return;
        }
        let to = usize::from(message.to().0);
        let there = |node: &usize| self.nodes[*node].offices[to].is_there();
        let there: Vec<usize> = (0..self.nodes.len()).filter(there).collect();
        if !there.is_empty() {
            let node = there[self.random.below(there.len())];
            self.nodes[node].offices[to].deliver(message);
        }
    }

    /// What waits for the journal gets further.
    pub(super) fn sync(&mut self) {
        let order = |partition| (self.durability == Durability::PerPartition).then_some(partition);
        let busy = self.nodes.iter().map(|node| &node.handle).flat_map(|handle| {
            handle.busy().into_iter().map(move |partition| (handle.clone(), order(partition)))
        });
        let mut busy: Vec<_> = busy.collect();
        if !busy.is_empty() {
            let (handle, of) = busy.swap_remove(self.random.below(busy.len()));
            let count = 1 + self.random.below(handle.waiting(of));
            handle.sync(of, count);
        }
        if !self.ghosts.is_empty() {
            let ghost = self.random.below(self.ghosts.len());
            self.ghosts[ghost].sync(None, 1);
        }
    }

    /// A partition, if each has an order of its own.
    fn order(&mut self) -> Option<Partition> {
        match self.durability {
            Durability::Prefix => None,
            Durability::PerPartition => {
                Some(Partition(self.random.below(PARTITIONS.into()) as u16))
            }
        }
    }

    /// Nobody knows what became of what was appended.
    pub(super) fn lose(&mut self) {
        let node = self.random.below(self.nodes.len());
        let handle = self.nodes[node].handle.clone();
        let of = self.order();
        let stored = self.random.below(handle.waiting(of) + 1);
        let late = match self.random.below(3) {
            _ if of.is_none() => None,
            0 => None,
            1 => Some(Late::Whole),
            _ => Some(Late::WithAHole),
        };
        handle.lose(of, stored, late);
        if of.is_none() {
            self.hear_of_the_loss(node);
        }
    }

    /// In one order everybody hears of a loss at once, and what was on its way between partitions
    /// of the node is gone with what it followed from.
    fn hear_of_the_loss(&mut self, node: usize) {
        for office in &mut self.nodes[node].offices {
            while office.take_settlement(self.tick, LEASE_WAIT) {}
        }
        self.wire.with(Vec::clear);
    }

    pub(super) fn settle(&mut self) {
        let offices = self.nodes.iter_mut().flat_map(|node| &mut node.offices);
        let mut told: Vec<_> = offices.filter(|office| office.is_told()).collect();
        if !told.is_empty() {
            let office = told.swap_remove(self.random.below(told.len()));
            office.take_settlement(self.tick, LEASE_WAIT);
        }
    }

    /// A node dies; of what it had in flight some survives, and some of that comes late.
    pub(super) fn crash(&mut self) {
        self.tally.crashes += 1;
        let node = self.random.below(self.nodes.len());
        self.nodes[node].die();
        let handle = self.nodes[node].handle.clone();
        match self.durability {
            Durability::Prefix => {
                let kept = self.random.below(handle.waiting(None) + 1);
                handle.tear(None, kept);
                handle.sync(None, usize::MAX);
                self.wire.with(Vec::clear);
            }
            Durability::PerPartition => {
                for one in partitions() {
                    let kept = self.random.below(handle.waiting(Some(one)) + 1);
                    handle.tear(Some(one), kept);
                }
                self.ghosts.push(handle);
            }
        }
        self.ends.retain(|(asked, ..)| *asked != node);
        if self.random.one_in(4) {
            for one in partitions() {
                self.shelf.nodes[node].tables().clear(one).expect("the store is writable");
            }
        }
        self.nodes[node] = self.node(node);
    }

    /// Somebody is told to own a partition, whoever owns it now.
    pub(super) fn claim(&mut self) {
        let now = self.now();
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let others =
            |(other, node_of): (usize, &Node)| other != node && node_of.offices[one].serves();
        let is_owned = self.nodes.iter().enumerate().any(others);
        // Two who claim what the other has would never come to anything.
        if is_owned && !self.random.one_in(3) {
            return;
        }
        if matches!(self.nodes[node].offices[one].phase, Phase::Vacant | Phase::Doubtful) {
            self.nodes[node].claim(one, now);
        }
    }

    /// Another node claims what its owner, who hears nothing of it yet, goes on to answer for.
    pub(super) fn depose(&mut self) {
        let (now, one) = (self.now(), self.random.below(PARTITIONS.into()));
        let owners = self.nodes.iter().filter(|node| node.offices[one].serves()).count();
        let vacant = |node: &&Node| matches!(node.offices[one].phase, Phase::Vacant);
        let heir = self.nodes.iter().position(|node| vacant(&node));
        let (1, Some(heir)) = (owners, heir) else { return };
        self.nodes[heir].claim(one, now);
        let of = (self.durability == Durability::PerPartition).then_some(Partition(one as u16));
        self.nodes[heir].handle.sync(of, usize::MAX);
        self.nodes[heir].offices[one].take_settlement(self.tick, LEASE_WAIT);
    }

    /// Those who are to claim again do, and whoever has waited for a lease goes on.
    pub(super) fn keep(&mut self, again: bool) {
        let (now, tick) = (self.now(), self.tick);
        for node in &mut self.nodes {
            for one in 0..usize::from(PARTITIONS) {
                let office = &mut node.offices[one];
                office.heed();
                office.wait_out(tick);
                if again && matches!(office.phase, Phase::Doubtful) {
                    node.claim(one, now);
                }
            }
        }
    }

    pub(super) fn move_clock(&mut self) {
        self.tick += 1;
        self.clock.set(Timestamp(BEGAN_MS + 1_000 * self.tick as i64));
        let now = self.now();
        for node in &mut self.nodes {
            let seats = node.context.seats.clone();
            for (index, office) in node.offices.iter_mut().enumerate() {
                let one = Partition(index as u16);
                // Leases are known to a millisecond.
                if seats.lease_until(one).is_some_and(|until| until <= now + TICK / 2) {
                    seats.end_lease(one);
                }
                office.wait_out(self.tick);
                office.tick(now);
            }
        }
    }

    /// A node asks for the journal's ends, or hears of one.
    pub(super) fn confirm(&mut self) {
        if self.random.one_in(2) && !self.ends.is_empty() {
            let index = self.random.below(self.ends.len());
            let (node, one, confirmation) = self.ends.swap_remove(index);
            self.nodes[node].offices[usize::from(one.0)].confirm(confirmation);
            return;
        }
        let node = self.random.below(self.nodes.len());
        self.ask_for_ends(node);
    }

    pub(super) fn ask_for_ends(&mut self, node: usize) {
        let asked = self.now();
        for one in partitions() {
            if self.nodes[node].offices[usize::from(one.0)].serves() {
                let end = self.medium.end(one).expect("memory has an end");
                self.ends.push((node, one, Confirmation { asked, end }));
            }
        }
    }

    pub(super) fn housekeeping(&mut self) {
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let (kind, full) = (self.random.below(11), self.random.one_in(2));
        let node = &mut self.nodes[node];
        let (office, follower) = (&mut node.offices[one], &mut node.follower);
        let (of, tables) = (Partition(one as u16), node.context.store.tables());
        match kind {
            0 | 1 if office.is_there() => office.save(),
            2 if office.is_there() => office.state_hash(),
            3 => office.keeping.registry.sweep(Duration::ZERO, 4),
            4 if matches!(office.phase, Phase::Vacant) && !follower.follows(of) => {
                tables.clear(of).expect("the store is writable");
            }
            5 if office.is_there() => {
                let written = snapshot::write(&*self.archive, tables, of);
                written.expect("memory is writable");
            }
            6 => node.follow(),
            7 | 8 => drop(follower.step()),
            9 => follower.checkpoint_all(),
            10 if self.crowded => tables.set_full(full),
            _ => {}
        }
        // A standby whose checkpoint fails begins again later.
        if !self.crowded && self.nodes.iter().any(|node| node.follower.is_broken()) {
            self.complain("what is followed is not right".into());
        }
    }

    pub(super) fn leave(&mut self) {
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let patient = !self.random.one_in(3);
        self.nodes[node].offices[one].leave(patient);
    }
}
