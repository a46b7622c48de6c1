//! How far the subscriptions have come, as their cursor records say.

use std::collections::BTreeMap;

use super::report::{Findings, Lag, Rule};
use crate::journal::{Offset, Partition};

/// The cursor of each subscription in each partition.
#[derive(Default)]
pub(super) struct Cursors(BTreeMap<(String, Partition), Offset>);

impl Cursors {
    /// Takes a valid cursor record into account.
    pub(super) fn set(
        &mut self,
        (partition, offset): (Partition, Offset),
        subscription: String,
        next: Offset,
        problems: &mut Findings,
    ) {
        if next > offset {
            let detail = format!("{subscription} is done with all before {next}, ahead of itself");
            problems.add(Rule::CursorInsideJournal, (partition, offset), detail);
        }
        let known = self.0.entry((subscription, partition)).or_default();
        if next < *known {
            let detail = format!("goes back from {known} to {next}");
            problems.add(Rule::CursorForward, (partition, offset), detail);
        }
        *known = next;
    }

    /// What each subscription has before it, in partitions that end at `ends`.
    pub(super) fn lags(&self, ends: &[Offset]) -> Vec<Lag> {
        let mut lags: Vec<Lag> = Vec::new();
        for ((subscription, partition), next) in &self.0 {
            let records = ends[usize::from(partition.0)].0.saturating_sub(next.0);
            match lags.last_mut().filter(|lag| lag.subscription == *subscription) {
                Some(lag) => lag.records += records,
                None => lags.push(Lag { subscription: subscription.clone(), records }),
            }
        }
        lags
    }
}
