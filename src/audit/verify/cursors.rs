//! How far the subscriptions have come, as their cursor records say.
//!
//! Kept in memory are the claims and the void records of each partition, by offset: they tell which
//! epoch and number stand before any offset, and a follower that starts with others would take every
//! record for void.

use std::collections::BTreeMap;

use super::report::{Lag, Noted, Rule};
use crate::journal::{Cursor, Epoch, Offset, Partition, Place};

/// The cursor of each subscription in each partition.
pub(super) struct Cursors {
    cursors: BTreeMap<(String, Partition), (u32, Offset)>,
    grounds: Vec<Ground>,
}

/// The records of one partition that are not numbered.
#[derive(Default)]
struct Ground {
    claims: Vec<(Offset, Epoch)>,
    voids: Vec<Offset>,
}

impl Ground {
    /// The epoch in force before `next`, and the number of its records that count.
    fn before(&self, next: Offset) -> (Epoch, u64) {
        let claims = self.claims.partition_point(|(offset, _)| *offset < next);
        let (first, epoch) = match claims.checked_sub(1).map(|last| self.claims[last]) {
            Some((claim, epoch)) => (claim.0 + 1, epoch),
            None => (0, Epoch(0)),
        };
        let voids = self.voids.partition_point(|offset| *offset < next)
            - self.voids.partition_point(|offset| offset.0 < first);
        (epoch, (next.0 - first.min(next.0)) - voids as u64)
    }
}

impl Cursors {
    pub(super) fn new(partitions: u16) -> Self {
        let grounds = (0..partitions).map(|_| Ground::default()).collect();
        Self { cursors: BTreeMap::new(), grounds }
    }

    pub(super) fn claimed(&mut self, (partition, offset): (Partition, Offset), epoch: Epoch) {
        self.grounds[usize::from(partition.0)].claims.push((offset, epoch));
    }

    pub(super) fn void(&mut self, (partition, offset): (Partition, Offset)) {
        self.grounds[usize::from(partition.0)].voids.push(offset);
    }

    /// Takes a valid cursor record into account.
    pub(super) fn set(
        &mut self,
        (partition, offset): (Partition, Offset),
        subscription: String,
        cursor: &Cursor,
        problems: &mut Noted,
    ) {
        let Place { next, epoch, n } = cursor.place;
        if next > offset {
            let detail = format!("{subscription} is done with all before {next}, ahead of itself");
            problems.add(Rule::CursorInsideJournal, (partition, offset), detail);
        } else {
            let ground = self.grounds[usize::from(partition.0)].before(next);
            if ground != (epoch, n) {
                let detail = format!(
                    "{subscription} has epoch {epoch} and number {n} before {next}, where {} and {} stand",
                    ground.0, ground.1
                );
                problems.add(Rule::CursorPlace, (partition, offset), detail);
            }
        }
        if let Some(resume) = cursor.progress.resume {
            let ground = self.grounds[usize::from(partition.0)].before(resume.next);
            if resume.next > next || ground != (resume.epoch, resume.n) {
                let detail = format!(
                    "{subscription} reads on at {} with epoch {} and number {}, where {} and {} stand",
                    resume.next, resume.epoch, resume.n, ground.0, ground.1
                );
                problems.add(Rule::CursorPlace, (partition, offset), detail);
            }
        }
        if cursor.ended {
            self.cursors.remove(&(subscription, partition));
            return;
        }
        let known = self.cursors.entry((subscription, partition)).or_default();
        // Only an operator moves a follower back, and that begins a new term.
        if (cursor.term, next) < *known {
            let detail = format!("goes back from {} to {next}", known.1);
            problems.add(Rule::CursorForward, (partition, offset), detail);
        }
        *known = (cursor.term, next);
    }

    /// What each subscription has before it, in partitions that end at `ends`.
    pub(super) fn lags(&self, ends: &[Offset]) -> Vec<Lag> {
        let mut lags: Vec<Lag> = Vec::new();
        for ((subscription, partition), (_, next)) in &self.cursors {
            let records = ends[usize::from(partition.0)].0.saturating_sub(next.0);
            match lags.last_mut().filter(|lag| lag.subscription == *subscription) {
                Some(lag) => lag.records += records,
                None => lags.push(Lag { subscription: subscription.clone(), records }),
            }
        }
        lags
    }
}
