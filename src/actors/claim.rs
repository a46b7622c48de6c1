//! A claim: what it is judged on, the record, and what it is read back for.

use std::sync::PoisonError;
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::ownership::{Keeping, drop_all};
use super::recovery::{Recovered, RecoveryError, read_to_the_end};
use super::snapshot::Snapshots;
use super::terms::Terms;
use crate::journal::record::encode;
use crate::journal::{Body, Epoch, Imprint, JournalError, Offset, Settlement, WriterRule};

/// How much longer than its lease a former owner is given, in tenths: clocks may run that differently.
pub(super) const LEASE_WAIT_TENTHS: u32 = 11;

/// Why a claim did not take effect.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error(transparent)]
    Recovery(#[from] Box<RecoveryError>),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal did not acknowledge the claim")]
    Unacknowledged,
    #[error("another owner claimed the partition at the same time")]
    Beaten,
    #[error("another owner has claimed the partition since")]
    Fenced,
    #[error("the state store does not keep up")]
    Store,
    #[error("the standby does not keep up")]
    Standby,
}

/// Claims the partition. Rule: cluster.md 2.3 `claim`, 6.
pub(super) async fn claim(
    keeping: &Keeping,
    terms: &mut Terms,
) -> Result<(Epoch, UnboundedReceiver<Settlement>), ClaimError> {
    let Keeping { ledger, registry, .. } = keeping;
    let (context, partition) = (&ledger.context, ledger.partition);
    if let Some(standby) = &context.standby {
        ledger.remember(standby.let_go(partition).await.ok_or(ClaimError::Standby)?);
    }
    let recovered = recovered(keeping).await?;
    let (epoch, vacated) = terms.before_claim(&recovered)?;
    let end = recovered.next;
    registry.adopt(ledger.restore(recovered));
    let (told, mut settlements) = unbounded_channel();
    // What rang in an earlier term is over.
    let _ = ledger.lost.notified().now_or_never();
    let _ = ledger.left.notified().now_or_never();
    ledger.attach(told);
    let nonce = Uuid::now_v7();
    terms.note_sent(nonce);
    let mut bytes = Vec::new();
    encode(epoch, 0, &Body::Claim { node: context.node.clone(), nonce }, &mut bytes);
    let sent = Instant::now();
    context.journal.append(partition, &bytes)?;
    context.journal.flush();
    let Some(Settlement::Durable { first, count: 1 }) = settlements.recv().await else {
        return Err(ClaimError::Unacknowledged);
    };
    let acknowledged = Instant::now();
    if context.alone && first == end {
        // Nobody else writes the journal, and nothing stands between the claim and what was read.
        terms.note_held(epoch);
        terms.note_served(epoch);
        ledger.note_claim(Imprint::of(first, &bytes));
        serve(keeping, epoch, first);
        return Ok((epoch, settlements));
    }
    let recovered = self::recovered(keeping).await?;
    terms.behind_claim(&recovered, (nonce, first), epoch)?;
    if let Some(lease) = context.journal.lease() {
        if vacated {
            context.seats.extend_lease(partition, sent, lease);
        } else {
            let over = acknowledged + lease * LEASE_WAIT_TENTHS / 10;
            tokio::time::sleep_until(over.into()).await;
        }
    }
    terms.note_served(epoch);
    take_office(keeping, recovered, epoch, first);
    Ok((epoch, settlements))
}

/// Serves from here on: the claim with `epoch` stands at `first`, behind what was recovered.
pub(super) fn take_office(keeping: &Keeping, recovered: Recovered, epoch: Epoch, first: Offset) {
    let Keeping { ledger, registry, .. } = keeping;
    registry.adopt(ledger.restore(recovered));
    serve(keeping, epoch, first);
}

fn serve(Keeping { ledger, .. }: &Keeping, epoch: Epoch, first: Offset) {
    ledger.claimed(WriterRule::new(epoch, first));
    ledger.begin_cursors();
    ledger.schedule_turn();
}

/// Recovers the partition's state, unless the start has done so. Spoilt rows are rebuilt, once, and
/// answer no questions meanwhile.
async fn recovered(keeping: &Keeping) -> Result<Recovered, ClaimError> {
    let Keeping { ledger, .. } = keeping;
    let context = &ledger.context;
    let by_start = {
        let mut by_start = context.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        by_start.remove(&ledger.partition)
    };
    if let Some(recovered) = by_start {
        return Ok(recovered);
    }
    // Each of them reads from the journal and writes into the store.
    let _turn = context.recoveries.acquire().await.map_err(|_| ClaimError::Store)?;
    let mut doubted = false;
    loop {
        let (done, written) = oneshot::channel();
        let barrier = move |_: &crate::store::Tables| {
            // The partition may be gone by now.
            let _ = done.send(());
        };
        context.store.run(barrier).map_err(|_| ClaimError::Store)?;
        written.await.map_err(|_| ClaimError::Store)?;
        let rebuild = ledger.rebuild.replace(false);
        if rebuild {
            drop_all(keeping);
        }
        let (journal, tables) = (context.journal.clone(), context.store.tables().clone());
        // The rows may have been those of a snapshot.
        let (archive, seats) =
            (context.archive.clone().filter(|_| !doubted), context.seats.clone());
        let (partition, kept_bytes_max) = (ledger.partition, context.settings.resident_bytes_max);
        let known = ledger.last();
        let work = move || {
            if rebuild {
                tables.clear(partition)?;
            }
            let archive = archive.as_deref();
            let is_over = || seats.is_closed();
            let snapshots = archive.map(|archive| Snapshots { archive, is_over: &is_over });
            read_to_the_end(&*journal, snapshots, &tables, &[partition], kept_bytes_max, known)
        };
        let done = tokio::task::spawn_blocking(work).await;
        match done.map_err(|_| ClaimError::Store)? {
            Ok(mut states) => return states.pop().ok_or(ClaimError::Store),
            Err(error) if error.spoilt_rows().is_some() && !doubted => {
                tracing::error!(
                    %error,
                    journal.partition = partition.0,
                    "rows of the state store are spoilt: rebuilding them from the journal"
                );
                doubted = true;
                ledger.rebuild.set(true);
            }
            Err(error) => return Err(Box::new(error).into()),
        }
    }
}
