//! Keeps the leases: asks the journal, several times within each, whether anybody else has written to
//! the partitions that this node serves. Rule: cluster.md 6.
//!
//! One question for all of them at once, on a thread of its own, because it waits for the network. A
//! lease counts from the moment the question was *asked*. A partition that gets no answer
//! costs the others no lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ledger::Confirmation;
use super::partition::Confirm;
use super::seats::Seats;
use super::{Directory, addr};
use crate::journal::{Journal, JournalError, Partition};

/// Questions within a lease: one may be lost and the next one late.
const QUESTIONS_PER_LEASE: u32 = 4;
/// How long an answer is waited for, in parts of a lease: later than one whole it is worth nothing.
const PATIENCE: f64 = 0.9;

/// Starts the thread; it ends when `seats` are closed.
pub(super) fn keep_leases(
    journal: Arc<dyn Journal>,
    lease: Duration,
    seats: Arc<Seats>,
    directory: Arc<Directory>,
) -> std::io::Result<JoinHandle<()>> {
    let pause = lease / QUESTIONS_PER_LEASE;
    std::thread::Builder::new().name("leases".into()).spawn(move || {
        let mut silent: BTreeSet<Partition> = BTreeSet::new();
        loop {
            let serving = seats.serving();
            silent.retain(|partition| serving.contains(partition));
            let asked = Instant::now();
            let tell = |partition, told| {
                if let Some(home) = addr(&directory, partition) {
                    // A full mailbox: the next question comes soon.
                    let _ = home.try_send(Confirm(told));
                }
            };
            journal.each_end(&serving, lease.mul_f64(PATIENCE), &mut |partition, end| match end {
                Ok(end) => {
                    silent.remove(&partition);
                    tell(partition, Some(Confirmation { asked, end }));
                }
                // Its keeper reads what is left, and says what is missing.
                Err(JournalError::Shortened { .. }) => tell(partition, None),
                Err(error) => {
                    // One line, however many they are.
                    let is_first = silent.is_empty();
                    if silent.insert(partition) && is_first {
                        tracing::warn!(
                            journal.partition = partition.0,
                            %error,
                            "the journal does not confirm a lease: no calls are taken until it does, \
                             perhaps in other partitions, too"
                        );
                    }
                }
            });
            if seats.closes_within(pause.saturating_sub(asked.elapsed())) {
                return;
            }
        }
    })
}
