//! What may happen to nodes, journal and wire.

use std::sync::Arc;
use std::time::Duration;

use super::{BEGAN_MS, World, partitions};
use crate::actors::ledger::Confirmation;
use crate::actors::snapshot;
use crate::actors::tests::play::PARTITIONS;
use crate::actors::tests::play::journal::{Copies, Handle, Late};
use crate::actors::tests::play::node::Node;
use crate::actors::tests::play::office::{Office, Phase};
use crate::actors::tests::play::trouble::Twist;
use crate::domain::Timestamp;
use crate::journal::{Durability, FOLLOWER_PATIENCE, JournalError, Partition, ReadJournal};

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
            let goes = |one: &Partition| !self.medium.trouble.is_silent(*one);
            let busy = handle.busy().into_iter().filter(goes);
            busy.map(move |partition| (handle.clone(), order(partition))).collect::<Vec<_>>()
        });
        let mut busy: Vec<_> = busy.collect();
        if !busy.is_empty() {
            let (handle, of) = busy.swap_remove(self.random.below(busy.len()));
            let count = 1 + self.random.below(handle.waiting(of));
            let copies = match self.random.below(4) {
                0 if self.stutters && of.is_some() => Copies::ToldOfTheFirst,
                1 if self.stutters && of.is_some() => Copies::ToldOfTheSecond,
                _ => Copies::One,
            };
            self.tally.copied += if copies == Copies::One { 0 } else { count };
            handle.sync_copies(of, count, copies);
        }
        if !self.ghosts.is_empty() {
            let ghost = self.random.below(self.ghosts.len());
            self.ghosts[ghost].sync(None, 1);
        }
    }

    /// Soon a partition cannot be read, or nothing of a file that all have in common.
    pub(super) fn silence(&mut self) {
        let looks = self.random.below(6);
        let silent: Vec<Partition> = match self.order() {
            Some(one) => vec![one],
            None => partitions().collect(),
        };
        for one in silent {
            self.medium.trouble.plan(one, looks, Twist::Silence);
        }
    }

    /// What somebody has appended becomes durable while somebody reads: soon, and perhaps who claims now.
    pub(super) fn arrive(&mut self) {
        let handles = self.nodes.iter().map(|node| &node.handle).chain(&self.ghosts).cloned();
        let mut busy: Vec<(Arc<Handle>, Partition)> = handles
            .flat_map(|handle| handle.busy().into_iter().map(move |one| (handle.clone(), one)))
            .collect();
        if busy.is_empty() || self.alone() {
            return;
        }
        let (handle, one) = busy.swap_remove(self.random.below(busy.len()));
        let (looks, count) = (self.random.below(8), 1 + self.random.below(3));
        self.medium.trouble.plan(one, looks, Twist::Arrival(handle, count));
        let index = usize::from(one.0);
        let may =
            |node: &Node| matches!(node.offices[index].phase, Phase::Vacant | Phase::Doubtful);
        if let Some(reader) = self.nodes.iter_mut().find(|node| may(node)) {
            reader.claim(index);
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
        if of.is_none() && self.random.one_in(2) {
            self.hear_of_the_loss(node);
        }
    }

    /// Everybody hears of a loss at once, and what was on its way between partitions of the node is
    /// gone with what it followed from.
    fn hear_of_the_loss(&mut self, node: usize) {
        for office in &mut self.nodes[node].offices {
            while office.take_settlement() {}
        }
        self.wire.with(Vec::clear);
    }

    /// Soon the journal does not take a record of a partition.
    pub(super) fn refuse(&mut self) {
        let node = self.random.below(self.nodes.len());
        let one = Partition(self.random.below(PARTITIONS.into()) as u16);
        self.nodes[node].handle.refuse(one, self.random.below(3));
    }

    pub(super) fn settle(&mut self) {
        let offices = self.nodes.iter_mut().flat_map(|node| &mut node.offices);
        let mut told: Vec<_> = offices.filter(|office| office.is_told()).collect();
        if !told.is_empty() {
            let office = told.swap_remove(self.random.below(told.len()));
            office.take_settlement();
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
            self.nodes[node].claim(one);
        }
    }

    /// Another node claims what its owner, who hears nothing of it yet, goes on to answer for.
    pub(super) fn depose(&mut self) {
        let one = self.random.below(PARTITIONS.into());
        let owners = self.nodes.iter().filter(|node| node.offices[one].serves()).count();
        let vacant = |node: &&Node| matches!(node.offices[one].phase, Phase::Vacant);
        let heir = self.nodes.iter().position(|node| vacant(&node));
        let (1, Some(heir)) = (owners, heir) else { return };
        self.nodes[heir].claim(one);
        let of = (self.durability == Durability::PerPartition).then_some(Partition(one as u16));
        self.nodes[heir].handle.sync(of, usize::MAX);
        self.nodes[heir].offices[one].take_settlement();
    }

    /// Those who are to claim again do, and whoever has waited for a lease goes on.
    pub(super) fn keep(&mut self, again: bool) {
        let alone = self.alone();
        for node in &mut self.nodes {
            for one in 0..usize::from(PARTITIONS) {
                let office = &mut node.offices[one];
                office.heed();
                office.wait_out();
                let is_due = match office.phase {
                    Phase::Doubtful => true,
                    // All that there is belongs to whoever is alone.
                    Phase::Vacant => alone,
                    _ => false,
                };
                if office.stopping && office.serves() {
                    office.leave(!self.random.one_in(8));
                } else if again && is_due {
                    node.claim(one);
                }
            }
        }
        if alone && self.nodes[0].is_stopped() {
            self.start_again();
        }
    }

    /// The process has ended in order: what it had in flight is written.
    fn start_again(&mut self) {
        self.nodes[0].die();
        self.nodes[0].handle.sync(None, usize::MAX);
        self.wire.with(Vec::clear);
        self.nodes[0] = self.node(0);
        self.tally.stops += 1;
    }

    pub(super) fn move_clock(&mut self) {
        self.tick += 1;
        self.clock.set(Timestamp(BEGAN_MS + 1_000 * self.tick as i64));
        for one in partitions() {
            if self.random.one_in(4) && self.medium.trouble.is_silent(one) {
                self.medium.trouble.mend(one);
            }
        }
        // All of them at once.
        for (index, node) in self.nodes.iter().enumerate() {
            node.context.seats.set_ahead(self.ahead(index));
        }
        for node in &mut self.nodes {
            node.follower.mend();
            for office in &mut node.offices {
                office.wait_out();
                office.tick();
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
        if self.alone() {
            return;
        }
        let Node { handle, context, offices, .. } = &self.nodes[node];
        let served = offices.iter().filter(|office| office.serves());
        let served: Vec<Partition> = served.map(|office| office.partition).collect();
        let (asked, ends) = (context.seats.now(), &mut self.ends);
        handle.each_end(&served, FOLLOWER_PATIENCE, &mut |one, end| match end {
            Ok(end) => ends.push((node, one, Some(Confirmation { asked, end }))),
            Err(JournalError::Shortened { .. }) => ends.push((node, one, None)),
            Err(_) => {}
        });
    }

    pub(super) fn housekeeping(&mut self) {
        let (node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        let (kind, full) = (self.random.below(11), self.random.one_in(2));
        let alone = self.alone();
        let node = &mut self.nodes[node];
        let (office, follower) = (&mut node.offices[one], &mut node.follower);
        let (of, tables) = (Partition(one as u16), node.context.store.tables());
        match kind {
            0 | 1 if office.is_there() => office.save(),
            2 if office.is_there() => office.state_hash(),
            3 => office.keeping.registry.sweep(Duration::ZERO, 4),
            // Whoever is alone has nobody beside, and answers from what it had.
            4..=9 if alone => {}
            // What only the store knows would be gone.
            4 if self.shrunk => {}
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
        // A standby whose checkpoint fails, or who cannot read, begins again later.
        let may_be = self.crowded || self.medium.trouble.counts().unread > 0;
        if !may_be && self.nodes.iter().any(|node| node.follower.is_broken()) {
            self.complain("what is followed is not right".into());
        }
    }

    pub(super) fn leave(&mut self) {
        if self.alone() {
            return self.nodes[0].offices.iter_mut().for_each(Office::stop);
        }
        let (mut node, one) =
            (self.random.below(self.nodes.len()), self.random.below(PARTITIONS.into()));
        if !self.nodes[node].offices[one].serves() {
            node = self.nodes.len() - 1 - node;
        }
        let patient = !self.random.one_in(3);
        for _ in 0..self.random.below(6) {
            // Users are told of it, and nobody has a turn before the partition is left.
            self.deliver(true);
        }
        let office = &mut self.nodes[node].offices[one];
        office.leave(patient);
        if !patient {
            office.leave(false);
        }
    }
}
