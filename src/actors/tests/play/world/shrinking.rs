//! A journal that loses what it has acknowledged. Rule: cluster.md 7, row 21.
//!
//! What callers were told counts for nothing then. One law is left: whoever knows of a record that is
//! missing does not own the partition again, and does not forget it by reading on.

use std::sync::Arc;

use uuid::Uuid;

use super::{Tally, World, partitions};
use crate::actors::tests::play::office::Phase;
use crate::journal::record::encode;
use crate::journal::{Body, Epoch, Imprint, Partition, ReadJournal};

/// Steps behind the loss.
const STEPS: usize = 80;
/// Records that are lost at most.
const LOST_MAX: usize = 6;
/// The epochs that come then.
const EPOCH_AFTER: u64 = 1000;

impl World<'_> {
    /// Goes on behind a loss. Errors: who knows of it serves, or has forgotten it.
    pub(in crate::actors::tests::play) async fn shrink(mut self) -> Result<Tally, String> {
        let earlier = self.problems.pop();
        let one = self.lose_acknowledged();
        let mut wrong = None;
        for step in 0..STEPS {
            let before: Vec<_> = (0..self.nodes.len()).map(|node| self.stands(node, one)).collect();
            let handles: Vec<_> = self.nodes.iter().map(|node| node.handle.clone()).collect();
            self.step().await;
            for (node, (knew, served)) in before.into_iter().enumerate() {
                let (knows, serves) = self.stands(node, one);
                let is_the_same = Arc::ptr_eq(&handles[node], &self.nodes[node].handle);
                if is_the_same && knew && (!knows || (serves && !served)) {
                    wrong.get_or_insert(format!(
                        "step {step} behind the loss: node {node} knows of a record of {one} that is \
                         missing; knows of it still: {knows}, serves: {serves}"
                    ));
                }
            }
        }
        for node in &mut self.nodes {
            self.tally.halted += node.offices.iter().filter(|office| office.halted).count();
            node.die();
        }
        self.turns(super::QUIET_ROUNDS).await;
        earlier.or(wrong).map_or(Ok(self.tally), Err)
    }

    /// Some of the last records of a partition are gone, and so is the right of those who wrote them to go
    /// on behind them. Where one file is all there is, that happens while nobody has it open.
    fn lose_acknowledged(&mut self) -> Partition {
        if self.alone() {
            self.crash();
        }
        partitions().for_each(|one| self.medium.trouble.mend(one));
        let one = partitions().max_by_key(|one| self.medium.end(*one).unwrap_or_default());
        let one = one.expect("there are some");
        let end = self.medium.end(one).expect("memory has an end").0 as usize;
        let lost = 1 + self.random.below(LOST_MAX);
        self.medium.cut_off(one, end.saturating_sub(lost));
        // Somebody who knows of nothing may have gone on meanwhile.
        let grown = if self.random.one_in(3) { 0 } else { lost + self.random.below(3) };
        for epoch in (EPOCH_AFTER..).take(grown) {
            let mut bytes = Vec::new();
            let body = Body::Claim { node: "three".into(), nonce: Uuid::now_v7() };
            encode(Epoch(epoch), 0, &body, &mut bytes);
            self.medium.grow(one, bytes);
        }
        for node in &self.nodes {
            node.handle.lose(Some(one), 0, None);
        }
        self.shrunk = true;
        one
    }

    /// Whether a node knows of a record that is not there, and whether its claim took effect.
    fn stands(&self, node: usize, one: Partition) -> (bool, bool) {
        let node = &self.nodes[node];
        let office = &node.offices[usize::from(one.0)];
        let mark = node.context.store.tables().mark(one).expect("the store is readable");
        let known = [mark.and_then(|mark| mark.last), office.keeping.ledger.last()];
        let is_missing = |known: Imprint| {
            let there = self.medium.portion(one, known.offset.0 as usize, 1).into_iter().next();
            there.is_none_or(|bytes| Imprint::of(known.offset, &bytes) != known)
        };
        let knows = known.into_iter().flatten().any(is_missing);
        (knows, matches!(office.phase, Phase::Serving | Phase::Waiting { .. }))
    }
}
