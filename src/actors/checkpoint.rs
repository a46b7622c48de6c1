//! When and how a partition's final records reach the state store.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::ledger::Ledger;
use super::registry::Registry;
use crate::journal::Partition;
use crate::store::Tables;

/// When checkpoints and hash records are due.
pub(super) struct Pace {
    pub(super) writing: bool,
    pub(super) failing: bool,
    pub(super) interval: Duration,
    pub(super) due: Instant,
    pub(super) last_hash: Instant,
}

impl Pace {
    /// Checkpoints `interval` apart, the first of them as much sooner as `partition` comes before the
    /// last of `partitions`: one after the other they disturb nobody.
    pub(super) fn new(interval: Duration, partition: Partition, partitions: u16) -> Self {
        let now = Instant::now();
        let first = interval * (u32::from(partition.0) + 1) / u32::from(partitions.max(1));
        Self { writing: false, failing: false, interval, due: now + first, last_hash: now }
    }
}

/// Hands what is final and not in the store to the store's thread, if it is enough.
pub(super) fn write_checkpoint(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    records_min: u64,
) {
    if pace.borrow().writing {
        return;
    }
    let Some(checkpoint) = ledger.checkpoint(records_min) else { return };
    {
        let mut pace = pace.borrow_mut();
        (pace.writing, pace.due) = (true, Instant::now() + pace.interval);
    }
    let (partition, era, n) = (ledger.partition, ledger.era(), checkpoint.mark.n);
    let (done, written) = oneshot::channel();
    let work = move |tables: &Tables| {
        let result = tables.write(partition, &checkpoint.rows, &checkpoint.mark);
        // The partition may be gone by now.
        let _ = done.send(result.map_err(|error| (error, checkpoint.rows)));
    };
    if let Err(error) = ledger.context.store.run(work) {
        tracing::warn!(
            %error,
            journal.partition = partition.0,
            "no checkpoint is written: the partition is claimed and read anew"
        );
        // Its rows are gone: it counts as being written until the partition is read anew.
        ledger.lost.notify_one();
        return;
    }
    let (ledger, registry, pace) = (ledger.clone(), registry.clone(), pace.clone());
    actix::spawn(async move {
        let result = written.await;
        pace.borrow_mut().writing = false;
        if ledger.era() != era {
            return;
        }
        match result {
            Ok(Ok(())) => {
                pace.borrow_mut().failing = false;
                ledger.context.seats.cramp(partition, false);
                registry.note_saved(n);
            }
            Ok(Err((error, rows))) => {
                // The journal has it all; the rows go with the next checkpoint.
                if !std::mem::replace(&mut pace.borrow_mut().failing, true) {
                    tracing::error!(
                        %error,
                        journal.partition = partition.0,
                        "the state store takes no rows: they stay in memory; if that lasts although \
                         there is room on the disk, restart the node"
                    );
                }
                ledger.keep_unsaved(rows);
                // Somebody else may have room.
                ledger.context.seats.cramp(partition, true);
            }
            Err(_) => {}
        }
    });
}
