//! The right to write a partition: recover, claim, take acknowledgements, leave.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::checkpoint::{Pace, write_checkpoint};
use super::claim::{ClaimError, claim};
use super::incoming::Incoming;
use super::ledger::{Confirmation, Ledger};
use super::metrics::Halted;
use super::registry::Registry;
use super::seats::Seat;
use super::terms::Terms;
use crate::journal::record::decode;
use crate::journal::{
    Ack, Body, Durability, Epoch, Journal, JournalError, Offset, Partition, Place, Settlement,
};

/// How long at least lies between two claims of a partition by one node. Short in tests, which are in
/// doubt often.
pub(super) const RETRY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1000 });
/// How long a partition that is handed over waits for what its own effects owe; the next owner sends
/// them again anyway. Long in tests, so that it is no race.
pub(super) const HAND_OVER_PATIENCE: Duration =
    Duration::from_millis(if cfg!(test) { 10_000 } else { 200 });
/// How often whoever leaves looks whether everything is settled.
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// A partition's parts, as those who keep it see them.
#[derive(Clone)]
pub(super) struct Keeping {
    pub(super) ledger: Rc<Ledger>,
    pub(super) registry: Rc<Registry>,
    pub(super) incoming: Rc<Incoming>,
    pub(super) pace: Rc<RefCell<Pace>>,
}

/// How a term of office ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The journal's answers leave a doubt: claim again and read.
    Doubt,
    /// Somebody else has claimed the partition.
    Fenced,
    /// This owner has released it.
    Released,
}

/// Keeps the partition whenever this node is told to.
pub(super) async fn keep(keeping: Keeping) {
    let ledger = &keeping.ledger;
    loop {
        while !ledger.wanted.get() {
            ledger.ordered.notified().await;
        }
        hold(&keeping).await;
        if ledger.context.alone {
            // Nobody else will have it: what is known here answers questions until the end.
            return;
        }
        ledger.wanted.set(false);
        ledger.context.seats.set(ledger.partition, Seat::Vacant);
    }
}

/// Recovers the partition, claims it, takes acknowledgements; from the start again when the
/// journal's answers leave a doubt; until it is released or lost to another owner.
async fn hold(keeping: &Keeping) {
    let Keeping { ledger, .. } = keeping;
    let (partition, seats) = (ledger.partition, ledger.context.seats.clone());
    let mut terms = Terms::default();
    let mut halted = None;
    let mut next_claim = Instant::now();
    loop {
        tokio::time::sleep_until(next_claim.into()).await;
        if !ledger.wanted.get() {
            if !ledger.context.alone {
                // What was recovered for a claim that came to nothing.
                drop_all(keeping);
            }
            return;
        }
        // Terms that end as soon as they begin would fill the journal with claims.
        next_claim = Instant::now() + RETRY;
        seats.set(partition, Seat::Claiming);
        match claim(keeping, &mut terms).await {
            Ok((epoch, settlements)) => {
                if halted.take().is_some() {
                    tracing::info!(journal.partition = partition.0, "commands are taken again");
                }
                ledger.context.metrics.claims.inc();
                seats.set(partition, Seat::Serving { epoch, cramped: false });
                let ending = take_settlements(ledger, settlements).await;
                if ending == Ending::Released && ledger.context.alone {
                    return;
                }
                seats.end_lease(partition);
                seats.set(partition, Seat::Claiming);
                drop_all(keeping);
                match ending {
                    Ending::Doubt => drop(ledger.context.metrics.doubts.inc()),
                    Ending::Fenced => {
                        ledger.context.metrics.fenced.inc();
                        return;
                    }
                    Ending::Released => return,
                }
            }
            Err(ClaimError::Fenced | ClaimError::Beaten) if !ledger.context.alone => {
                drop_all(keeping);
                ledger.context.metrics.fenced.inc();
                tracing::warn!(journal.partition = partition.0, "another node owns the partition");
                return;
            }
            // Nothing is in flight; meanwhile what was recovered answers questions.
            Err(error) => {
                halted.get_or_insert_with(|| {
                    tracing::error!(
                        %error,
                        journal.partition = partition.0,
                        "the partition cannot be claimed: it takes no commands; trying again"
                    );
                    Halted::new(&ledger.context.metrics)
                });
            }
        }
    }
}

/// Drops everything that may not be the journal's.
pub(super) fn drop_all(keeping: &Keeping) {
    let Keeping { ledger, registry, incoming, pace } = keeping;
    ledger.drop_unconfirmed();
    registry.clear();
    incoming.clear();
    pace.borrow_mut().writing = false;
}

/// What the keeper of a partition waits for.
enum Happened {
    Settled(Option<Settlement>),
    Lost,
    Foreign,
    Left,
}

/// Takes acknowledgements until the term ends.
async fn take_settlements(
    ledger: &Rc<Ledger>,
    mut settlements: UnboundedReceiver<Settlement>,
) -> Ending {
    loop {
        let happened = tokio::select! {
            biased;
            () = ledger.left.notified() => Happened::Left,
            settlement = settlements.recv() => Happened::Settled(settlement),
            () = ledger.lost.notified() => Happened::Lost,
            () = ledger.suspicion.notified() => Happened::Foreign,
        };
        let ended = match happened {
            Happened::Left => Some(Ending::Released),
            Happened::Lost => Some(Ending::Doubt),
            Happened::Settled(Some(Settlement::Durable { first, count })) => {
                settle(ledger, first, count).await
            }
            Happened::Settled(_) => Some(Ending::Doubt),
            Happened::Foreign => match ledger.foreign.take() {
                Some(confirmation) => look_into(ledger, confirmation).await,
                None => None,
            },
        };
        if let Some(ending) = ended {
            return ending;
        }
    }
}

/// The next `count` records stand at `first` and behind it.
async fn settle(ledger: &Rc<Ledger>, first: Offset, count: u64) -> Option<Ending> {
    loop {
        match take_in(ledger, first, count) {
            Ack::Final { .. } => return None,
            Ack::Gap { from, to } => {
                if let Some(ending) = read_gap(ledger, from, to).await {
                    return Some(ending);
                }
            }
            Ack::Doubt => return Some(Ending::Doubt),
        }
    }
}

/// Takes an acknowledgement in, and sends out what it makes final. Behind a gap, nothing is final yet.
pub(super) fn take_in(ledger: &Ledger, first: Offset, count: u64) -> Ack {
    let (ack, outgoing) = ledger.acknowledged(first, count);
    ledger.context.send_all(ledger.partition, outgoing);
    let per_partition = ledger.context.journal.durability() == Durability::PerPartition;
    if matches!(ack, Ack::Final { .. }) && per_partition {
        ledger.context.send_all(ledger.partition, ledger.outgoing());
    }
    ack
}

/// Somebody else has written behind everything that is known, and nothing of our own is in flight.
async fn look_into(ledger: &Rc<Ledger>, confirmation: Confirmation) -> Option<Ending> {
    let from = ledger.position().next;
    if from < confirmation.end
        && let Some(ending) = read_gap(ledger, from, confirmation.end).await
    {
        return Some(ending);
    }
    ledger.confirm(confirmation);
    None
}

/// Reads what others have written in `[from, to)`: it counts for nobody, unless there is a claim.
async fn read_gap(ledger: &Rc<Ledger>, from: Offset, to: Offset) -> Option<Ending> {
    let partition = ledger.partition;
    #[cfg(debug_assertions)]
    if ignores_gaps() {
        ledger.gap_is_rubbish(to);
        return None;
    }
    match gap_between(ledger, from, to).await {
        Ok(Gap::Rubbish) => {
            ledger.context.metrics.void.inc_by(to.0 - from.0);
            ledger.gap_is_rubbish(to);
            None
        }
        Ok(Gap::Claim) => {
            tracing::warn!(journal.partition = partition.0, "fenced: another node has claimed it");
            Some(Ending::Fenced)
        }
        Ok(Gap::Unforeseen) => {
            let told = "the journal holds something else than was acknowledged: reading it";
            tracing::warn!(journal.partition = partition.0, "{told}");
            Some(Ending::Doubt)
        }
        Err(error) => {
            tracing::warn!(
                %error,
                journal.partition = partition.0,
                "the outcome of a write is unknown: reading the journal"
            );
            Some(Ending::Doubt)
        }
    }
}

/// The negative control of the tests: without a look at what others wrote, acknowledged facts are
/// lost, and the tests have to notice. Not in a release build.
#[cfg(debug_assertions)]
fn ignores_gaps() -> bool {
    static IGNORES: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("TEST_IGNORE_GAPS").is_some());
    *IGNORES
}

/// What stands in a gap between an owner's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing that counts for anybody.
    Rubbish,
    /// Another owner's claim.
    Claim,
    /// A record of the owner's own that counts instead of the one that was acknowledged, which is its
    /// copy; or one of a later term whose claim stands where the owner had records of its own.
    Unforeseen,
}

/// What stands in `[from, to)`. Rule: cluster.md 2.3, `o > next`.
async fn gap_between(ledger: &Rc<Ledger>, from: Offset, to: Offset) -> Result<Gap, JournalError> {
    let (journal, partition) = (ledger.context.journal.clone(), ledger.partition);
    let Place { epoch, n, .. } = ledger.position();
    let read = move || judge_gap(&*journal, partition, (epoch, n), from, to);
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(_) => Err(JournalError::Unavailable { reason: "the read ended early".into() }),
    }
}

/// What the records in `[from, to)` mean to an owner who knows that many records of its epoch. Blocks.
pub(super) fn judge_gap(
    journal: &dyn Journal,
    partition: Partition,
    known: (Epoch, u64),
    from: Offset,
    to: Offset,
) -> Result<Gap, JournalError> {
    let mut reader = journal.reader(&[(partition, from)])?;
    loop {
        let entries = reader.next(1 << 20)?;
        if entries.is_empty() {
            let end = journal.end(partition)?;
            return Err(JournalError::NoSuchOffset { partition, offset: to, end });
        }
        for entry in entries {
            if entry.offset >= to {
                return Ok(Gap::Rubbish);
            }
            // One that cannot be read may be a claim.
            let record = decode(&entry.bytes).map_err(|error| JournalError::Corrupt {
                place: format!("{partition}@{}", entry.offset),
                detail: error.to_string(),
            })?;
            match record.body {
                Body::Claim { .. } if record.epoch > known.0 => return Ok(Gap::Claim),
                _ if (record.epoch, record.n) > known => {
                    return Ok(Gap::Unforeseen);
                }
                _ => {}
            }
            if entry.offset.0 + 1 == to.0 {
                return Ok(Gap::Rubbish);
            }
        }
    }
}

/// Hands the partition over: finishes what is in flight, releases it, writes the checkpoint. Only if
/// it is still served in the era `era`: what was lost since then is nobody's to release.
pub(super) async fn leave(keeping: Keeping, era: u64) {
    let Keeping { ledger, registry, pace, .. } = &keeping;
    let context = &ledger.context;
    if ledger.era() != era {
        return;
    }
    let patience = if context.alone {
        // Effects that this node's partitions owe each other are finished first: the tick of each
        // goes on meanwhile. What is owed to others stays owed, in the journal.
        context.settings.time_limit
    } else {
        // Others wait for the partition: nothing new is taken from here on.
        ledger.leave();
        context.seats.set(ledger.partition, Seat::Leaving);
        HAND_OVER_PATIENCE
    };
    let until = Instant::now() + patience;
    while (ledger.owed() > 0 || !ledger.is_settled()) && Instant::now() < until {
        tokio::time::sleep(LEAVE_POLL).await;
    }
    if ledger.era() != era {
        // It was lost meanwhile.
        return;
    }
    let (done, released) = oneshot::channel();
    let after = move |_| {
        let _ = done.send(());
    };
    ledger.release(Box::new(after));
    context.journal.flush();
    // Without an answer the journal cannot be written; then there is nothing to wait for.
    let _ = released.await;
    if ledger.era() != era {
        return;
    }
    // The one that is being written first: if it fails, its rows go with this one.
    while pace.borrow().writing {
        tokio::time::sleep(LEAVE_POLL).await;
        if ledger.era() != era {
            return;
        }
    }
    write_checkpoint(ledger, registry, pace, 1);
    ledger.left.notify_one();
}
