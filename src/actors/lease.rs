//! Keeps the leases: asks the journal, several times within each, whether anybody else has written to
//! the partitions that this node serves. Rule: cluster.md 6.
//!
//! One question for all of them at once, on a thread of its own, because it waits for the network. A
//! lease counts from the moment the question was *asked*.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ledger::Confirmation;
use super::partition::Confirm;
use super::seats::Seats;
use super::{Directory, addr};
use crate::journal::Journal;

/// Questions within a lease: one may be lost and the next one late.
const QUESTIONS_PER_LEASE: u32 = 4;

/// Starts the thread; it ends when `seats` are closed.
pub(super) fn keep_leases(
    journal: Arc<dyn Journal>,
    lease: Duration,
    seats: Arc<Seats>,
    directory: Arc<Directory>,
) -> std::io::Result<JoinHandle<()>> {
    let pause = lease / QUESTIONS_PER_LEASE;
    std::thread::Builder::new().name("leases".into()).spawn(move || {
        let mut told = false;
        loop {
            let serving = seats.serving();
            let asked = Instant::now();
            if !serving.is_empty() {
                match journal.ends(&serving) {
                    Ok(ends) => {
                        told = false;
                        for (partition, end) in serving.into_iter().zip(ends) {
                            if let Some(partition) = addr(&directory, partition) {
                                // A full mailbox: the next question comes soon.
                                let _ = partition.try_send(Confirm(Confirmation { asked, end }));
                            }
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(%error, "the leases are not confirmed");
                        }
                    }
                }
            }
            if seats.closes_within(pause.saturating_sub(asked.elapsed())) {
                return;
            }
        }
    })
}
