//! The right to write a partition: recover, claim, take acknowledgements, leave.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::checkpoint::{Pace, write_checkpoint};
use super::incoming::Incoming;
use super::ledger::{Ledger, Status};
use super::recovery::{Recovered, RecoveryError, recover};
use super::registry::Registry;
use crate::journal::record::{decode, encode};
use crate::journal::{Ack, Body, Durability, Epoch, JournalError, Offset, Settlement, WriterRule};

/// How long the partition waits before it tries to claim again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the partition: recovers it, claims it, takes acknowledgements; from the start again when
/// the journal's answers leave a doubt.
pub(super) async fn own(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    incoming: &[Rc<RefCell<Incoming>>],
    pace: &Rc<RefCell<Pace>>,
) {
    let partition = ledger.partition;
    let mut told = false;
    loop {
        match claim(ledger, registry).await {
            Ok(settlements) => {
                if told {
                    tracing::info!(journal.partition = %partition, "the partition takes commands again");
                }
                told = false;
                take_settlements(ledger, settlements).await;
                if ledger.status() == Status::Leaving {
                    return;
                }
                ledger.context.metrics.doubts.inc();
                ledger.drop_unconfirmed();
                registry.clear();
                for source in incoming {
                    source.borrow_mut().queue.clear();
                }
                pace.borrow_mut().writing = false;
            }
            // Nothing is in flight; meanwhile what was recovered answers questions.
            Err(error) => {
                if !told {
                    tracing::error!(%error, journal.partition = %partition, "no commands are taken");
                    told = true;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Why a claim did not take effect.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Recovery(#[from] Box<RecoveryError>),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal did not acknowledge the claim")]
    Unacknowledged,
    #[error("another owner claimed the partition at the same time")]
    Beaten,
    #[error("the state store does not keep up")]
    Store,
}

/// Claims the partition. Rule: cluster.md 2.3, `claim`.
async fn claim(
    ledger: &Rc<Ledger>,
    registry: &Registry,
) -> Result<UnboundedReceiver<Settlement>, ClaimError> {
    let journal = &ledger.context.journal;
    let recovered = recovered(ledger).await?;
    let epoch = Epoch(recovered.rule.epoch().0 + 1);
    registry.adopt(ledger.restore(recovered));
    let (told, mut settlements) = unbounded_channel();
    journal.attach(ledger.partition, told);
    let nonce = Uuid::now_v7();
    let node = ledger.context.node.clone();
    let mut bytes = Vec::new();
    encode(epoch, 0, &Body::Claim { node, nonce }, &mut bytes);
    journal.append(ledger.partition, &bytes)?;
    journal.flush();
    let Some(Settlement::Durable { first, count: 1 }) = settlements.recv().await else {
        return Err(ClaimError::Unacknowledged);
    };
    let recovered = self::recovered(ledger).await?;
    if recovered.claim != Some((nonce, first)) {
        return Err(ClaimError::Beaten);
    }
    registry.adopt(ledger.restore(recovered));
    ledger.claimed(WriterRule::new(epoch, first));
    ledger.schedule_turn();
    Ok(settlements)
}

async fn recovered(ledger: &Rc<Ledger>) -> Result<Recovered, ClaimError> {
    let journal = ledger.context.journal.clone();
    let partition = ledger.partition;
    let rebuild = ledger.rebuild.replace(false);
    let (done, result) = oneshot::channel();
    let work = move |tables: &crate::store::Tables| {
        let cleared = if rebuild { tables.clear(partition) } else { Ok(()) };
        let result = cleared
            .map_err(RecoveryError::from)
            .and_then(|()| recover(&*journal, tables, &[partition]));
        // The partition may be gone by now.
        let _ = done.send(result);
    };
    ledger.context.store.run(work).map_err(|_| ClaimError::Store)?;
    let mut states = result.await.map_err(|_| ClaimError::Store)?.map_err(Box::new)?;
    states.pop().ok_or(ClaimError::Store)
}

/// Takes acknowledgements until one leaves a doubt, or somebody else raises one.
async fn take_settlements(ledger: &Rc<Ledger>, mut settlements: UnboundedReceiver<Settlement>) {
    loop {
        let settlement = {
            let next = std::pin::pin!(settlements.recv());
            let lost = std::pin::pin!(ledger.lost.notified());
            match futures_util::future::select(next, lost).await {
                futures_util::future::Either::Left((settlement, _)) => settlement,
                futures_util::future::Either::Right(_) => return,
            }
        };
        let Some(Settlement::Durable { first, count }) = settlement else { return };
        loop {
            let (ack, outgoing) = ledger.acknowledged(first, count);
            ledger.context.send_all(ledger.partition, outgoing);
            match ack {
                Ack::Final { .. } => break,
                Ack::Gap { from, to } => match gap_has_claim(ledger, from, to).await {
                    Ok(false) => ledger.gap_is_rubbish(to),
                    Ok(true) => {
                        tracing::warn!(journal.partition = %ledger.partition, "fenced by another owner");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, journal.partition = %ledger.partition, "doubt");
                        return;
                    }
                },
                Ack::Doubt => return,
            }
        }
        if ledger.context.journal.durability() == Durability::PerPartition {
            ledger.context.send_all(ledger.partition, ledger.outgoing());
        }
    }
}

/// Whether another owner's claim stands in `[from, to)`. Rule: cluster.md 2.3, `o > next`.
async fn gap_has_claim(
    ledger: &Rc<Ledger>,
    from: Offset,
    to: Offset,
) -> Result<bool, JournalError> {
    let (journal, partition, epoch) =
        (ledger.context.journal.clone(), ledger.partition, ledger.epoch());
    let read = move || {
        let mut reader = journal.reader(&[(partition, from)])?;
        loop {
            let entries = reader.next(1 << 20)?;
            if entries.is_empty() {
                let end = journal.end(partition)?;
                return Err(JournalError::NoSuchOffset { partition, offset: to, end });
            }
            for entry in entries {
                if entry.offset >= to {
                    return Ok(false);
                }
                let claims = decode(&entry.bytes).is_ok_and(|record| {
                    matches!(record.body, Body::Claim { .. }) && record.epoch > epoch
                });
                if claims {
                    return Ok(true);
                }
            }
        }
    };
    match actix::spawn(async move { actix_web::rt::task::spawn_blocking(read).await }).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => {
            Err(JournalError::Unavailable { reason: "the read ended early".into() })
        }
    }
}

pub(super) async fn leave(
    ledger: Rc<Ledger>,
    registry: Rc<Registry>,
    pace: Rc<RefCell<Pace>>,
    serving: bool,
) {
    if !serving {
        return;
    }
    // Effects that this node's partitions owe each other are finished first: the tick of each
    // goes on meanwhile. What is owed to others stays owed, in the journal.
    let patience = Instant::now() + ledger.context.settings.time_limit;
    while (ledger.owed() > 0 || !ledger.is_settled()) && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ledger.leave();
    let (done, released) = oneshot::channel();
    let hash = ledger.hash().to_string();
    let after = move |_| {
        let _ = done.send(());
    };
    ledger.append_control(&Body::Release { hash }, Some(Box::new(after)));
    ledger.context.journal.flush();
    // Without an answer the journal cannot be written; then there is nothing to wait for.
    let _ = released.await;
    pace.borrow_mut().writing = false;
    write_checkpoint(&ledger, &registry, &pace, 1);
}
