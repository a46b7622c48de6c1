//! How many deliveries a replay would make, before it is begun.

use std::time::Instant;

use super::feed::{Said, Tail};
use super::subscription::Subscription;
use crate::journal::{JournalError, Offset, Partition, Place, ReadJournal};

/// How many deliveries `subscription`, a replay, would make; and whether everything was looked at before
/// `deadline`. Reads from disk, or over the network.
///
/// Errors: the journal cannot be read.
pub fn count(
    subscription: &Subscription,
    journal: &dyn ReadJournal,
    deadline: Instant,
) -> Result<(u64, bool), JournalError> {
    let ranges = subscription.replay.iter().flat_map(|replay| &replay.ranges);
    let mut count = 0;
    for (partition, _, until) in ranges {
        let partition = Partition(*partition);
        let Some(bounds) = subscription.scope(partition).replay else { continue };
        // Which records count is known from the partition's beginning on.
        let mut tail = Tail::new(partition, Place::default());
        while tail.next() < Offset(*until) {
            if Instant::now() >= deadline {
                return Ok((count, false));
            }
            let fed = tail.read(journal)?;
            if fed.is_empty() {
                break;
            }
            for fed in fed {
                let Said::Commit { deliveries: Some(deliveries), .. } = &fed.said else { continue };
                if deliveries.app != subscription.app {
                    continue;
                }
                let told =
                    bounds.narrow(subscription.commands, (partition, fed.offset), deliveries);
                count += deliveries.wanted(told).count() as u64;
            }
        }
    }
    Ok((count, true))
}
