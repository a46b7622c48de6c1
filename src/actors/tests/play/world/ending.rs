//! How a play comes to rest, and what has to hold then.

use super::super::node::Node;
use super::{LOOKS_MAX, QUIET_ROUNDS, REST_TICKS, Tally, World, partitions};
use crate::actors::tests::play::clients::Outcome;
use crate::actors::tests::play::office::Phase;
use crate::actors::tests::play::proof::{check_journal, check_people};
use crate::actors::tests::play::{NAMES, user_id};

impl World<'_> {
    /// Nothing breaks any more: one owner each, until nothing is left to do.
    pub(in crate::actors::tests::play) async fn come_to_rest(&mut self) {
        let heirs: Vec<usize> = partitions().map(|_| self.random.below(self.nodes.len())).collect();
        partitions().for_each(|one| self.medium.trouble.mend(one));
        for _ in 0..REST_TICKS {
            self.step += 1;
            for (one, heir) in heirs.iter().enumerate() {
                for (node, of) in self.nodes.iter_mut().enumerate() {
                    match of.offices[one].phase {
                        // Whoever else is in doubt has been told to let go.
                        Phase::Vacant | Phase::Doubtful if node == *heir => of.claim(one),
                        Phase::Leaving { .. } => of.offices[one].leave(false),
                        Phase::Serving if of.offices[one].stopping => of.offices[one].leave(false),
                        // What the partition does by itself from time to time.
                        Phase::Serving => of.offices[one].save(),
                        _ => {}
                    }
                }
            }
            self.ask(true);
            for _ in 0..3 {
                for handle in self.nodes.iter().map(|node| &node.handle).chain(&self.ghosts) {
                    handle.sync(None, usize::MAX);
                }
                for office in self.nodes.iter_mut().flat_map(|node| &mut node.offices) {
                    while office.take_settlement() {}
                }
                while self.wire.with(|messages| !messages.is_empty()) {
                    self.deliver(false);
                }
                self.turns(QUIET_ROUNDS).await;
                self.keep(false);
                self.hear();
            }
            for node in 0..self.nodes.len() {
                self.ask_for_ends(node);
            }
            for (node, one, confirmation) in std::mem::take(&mut self.ends) {
                self.nodes[node].offices[usize::from(one.0)].confirm(confirmation);
            }
            self.keep(false);
            if self.is_at_rest(&heirs) {
                return;
            }
            self.move_clock();
        }
        let busy = |of: &Node| {
            let busy = of.offices.iter().map(|office| {
                let ledger = &office.keeping.ledger;
                (office.phase.name(), ledger.status(), ledger.owed(), ledger.is_settled())
            });
            busy.collect::<Vec<_>>()
        };
        let offices: Vec<_> = self.nodes.iter().map(busy).collect();
        let open = self.calls.iter().find(|call| call.outcome.is_none());
        let call = open.map(|call| (call.owner, &call.deed, &call.targets));
        self.complain(format!(
            "it does not come to rest: {call:?} is not answered; of each node's partitions, how \
             it stands, how many effects it owes, and whether all is final: {offices:?}"
        ));
    }

    fn is_at_rest(&self, heirs: &[usize]) -> bool {
        let calm = |(one, heir): (usize, &usize)| {
            self.nodes.iter().enumerate().all(|(node, of)| {
                let office = &of.offices[one];
                let ledger = &office.keeping.ledger;
                match node == *heir {
                    true => office.serves() && ledger.owed() == 0 && ledger.is_settled(),
                    false => matches!(office.phase, Phase::Vacant | Phase::Doubtful),
                }
            })
        };
        heirs.iter().enumerate().all(calm)
            && self.calls.iter().all(|call| call.outcome.is_some())
            && self.wire.with(|messages| messages.is_empty())
            && self.nodes.iter().all(|node| node.handle.waiting(None) == 0)
            && self.ghosts.iter().all(|ghost| ghost.waiting(None) == 0)
    }

    /// Holds everything that was said and seen against what is written. Errors: what is wrong, and
    /// the records if `told`.
    pub(in crate::actors::tests::play) async fn end(mut self, told: bool) -> Result<Tally, String> {
        let proven = self.prove().await;
        for node in &mut self.nodes {
            node.die();
        }
        // Those who were told that all is over go.
        self.turns(QUIET_ROUNDS).await;
        let story = |problem| if told { format!("{problem}\n{}", self.story) } else { problem };
        proven.map(|()| self.tally).map_err(story)
    }

    async fn prove(&mut self) -> Result<(), String> {
        if self.problems.is_empty() {
            self.look_at_everything().await;
        }
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        if self.nodes.iter().flat_map(|node| &node.offices).any(|office| office.halted) {
            return Err("a partition has halted, and nothing is missing".into());
        }
        self.story.check_calls(&self.calls)?;
        let live = partitions().map(|one| {
            let index = usize::from(one.0);
            let owner = self.nodes.iter().find(|node| node.offices[index].serves());
            owner.expect("all is served").offices[index].keeping.ledger.hash()
        });
        let live: Vec<_> = live.collect();
        check_journal(&self.medium, &self.shelf.replay, &live, self.random.one_in(4))?;
        check_people(&self.shelf.replay, &NAMES.map(user_id))?;
        let unknown = self.calls.iter().filter(|call| call.outcome == Some(Outcome::Unknown));
        self.tally.unknown = unknown.count();
        self.tally.voids = self.story.voids();
        self.tally.claims = self.story.claims();
        self.tally.records = partitions().map(|one| self.story.len(one)).sum();
        let counts = self.medium.trouble.counts();
        (self.tally.unread, self.tally.arrived) = (counts.unread, counts.arrived);
        self.tally.refused = counts.refused;
        self.tally.state = live.iter().fold(0, |all, one| all ^ one.0);
        Ok(())
    }

    /// Everybody's last word.
    async fn look_at_everything(&mut self) {
        self.step += 1;
        let before = self.tally.looks;
        let mut asked = 0;
        for owner in NAMES.map(user_id) {
            for peer in NAMES.map(user_id).into_iter().filter(|peer| *peer != owner) {
                self.look_at(owner, peer, None);
                asked += 1;
            }
        }
        for _ in 0..LOOKS_MAX {
            if self.looks.is_empty() {
                break;
            }
            self.turns(QUIET_ROUNDS).await;
            self.hear();
        }
        if self.tally.looks - before < asked {
            self.complain(format!("{} of {asked} looks answered", self.tally.looks - before));
        }
    }
}
