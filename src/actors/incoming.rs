//! Effects of other partitions' records, applied in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::checkpoint::{Pace, write_checkpoint};
use super::ledger::Ledger;
use super::registry::Registry;
use super::user::{Applied, Apply, Forget};
use crate::domain::{Effect, UserKey};
use crate::journal::{Offset, Partition};
use crate::pairing::OwedEffect;
use crate::store::Tables;

/// Users told of a deleted account between two looks at the store.
const FORGET_CHUNK: usize = 500;
/// Effects of one user on one other that are answered by one record.
const RUN_MAX: usize = 100;

/// Effects from one source partition, taken and not yet applied.
#[derive(Default)]
pub(super) struct Incoming {
    pub(super) queue: VecDeque<(u64, Arc<OwedEffect>)>,
    pub(super) draining: bool,
}

/// Applies the effects of one source in order: the record of one is appended before the next is
/// handed to its user, because the journal says how far a channel has come by its last record.
pub(super) async fn drain(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    incoming: &RefCell<Incoming>,
    source: Partition,
) {
    let era = ledger.era();
    loop {
        while !ledger.admits_effects() {
            if ledger.era() != era {
                return;
            }
            if !all_final(ledger).await {
                return;
            }
        }
        let (key, seq, effects) = {
            let mut incoming = incoming.borrow_mut();
            let Some((mut seq, first)) = incoming.queue.pop_front() else { return };
            let mut effects = vec![first];
            while effects.len() < RUN_MAX
                && incoming.queue.front().is_some_and(|(_, next)| {
                    next.to == effects[0].to
                        && next.from == effects[0].from
                        && next.app == effects[0].app
                        && !matches!(effects[0].effect, Effect::Forget)
                        && !matches!(next.effect, Effect::Forget)
                })
                && let Some((next_seq, next)) = incoming.queue.pop_front()
            {
                seq = next_seq;
                effects.push(next);
            }
            (UserKey { app: effects[0].app, user: effects[0].to }, seq, effects)
        };
        if matches!(effects[0].effect, Effect::Forget) {
            match forget(ledger, registry, pace, &effects[0]).await {
                _ if ledger.era() != era => return,
                Some(()) => ledger.mark_seen(source, seq),
                None => {
                    ledger.lost.notify_one();
                    return;
                }
            }
            continue;
        }
        if nothing_to_sever(ledger, registry, &key, &effects) {
            ledger.mark_seen(source, seq);
            continue;
        }
        match registry.ask(key, Apply { source, effects, seq }).await {
            _ if ledger.era() != era => return,
            Some(Applied::Recorded) => {}
            Some(Applied::Nothing) => ledger.mark_seen(source, seq),
            Some(Applied::Stale) | None => {
                // What was taken and not applied may only be forgotten together with the inbox.
                ledger.lost.notify_one();
                return;
            }
        }
    }
}

/// Returns when everything that is sent now is final; answers whether it is.
async fn all_final(ledger: &Ledger) -> bool {
    let (done, settled) = oneshot::channel();
    let after = move |offset: Option<Offset>| {
        // Whoever waits may have been dropped meanwhile.
        let _ = done.send(offset.is_some());
    };
    ledger.when_final(ledger.sent(), Box::new(after));
    settled.await.unwrap_or(false)
}

/// Makes every user of the partition forget a deleted account. Nothing if the partition was recovered
/// meanwhile, or its store fails; then the effect is not done with and comes again.
///
/// Found by a scan of the store's rows on the store's thread, a bounded number of users at a time,
/// after a checkpoint of everything that was recorded before.
async fn forget(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    effect: &OwedEffect,
) -> Option<()> {
    let (partition, era) = (ledger.partition, ledger.era());
    let target = ledger.sent();
    if !all_final(ledger).await {
        return None;
    }
    while registry.saved() < target {
        // If it cannot be written now, the partition's own next one will do.
        write_checkpoint(ledger, registry, pace, 1);
        registry.next_save().await;
        if ledger.era() != era {
            return None;
        }
    }
    let (app, peer) = (effect.app, effect.from);
    let mut after = None;
    loop {
        let (done, owners) = oneshot::channel();
        let scan = move |tables: &Tables| {
            // The partition may be gone by now.
            let _ = done.send(tables.who_names(partition, app, &peer, after, FORGET_CHUNK));
        };
        ledger.context.store.run(scan).ok()?;
        let owners = owners.await.ok()?.map_err(|error| registry.store_failed(&error)).ok()?;
        after = owners.last().copied();
        let last = owners.len() < FORGET_CHUNK;
        for owner in owners {
            let message = Forget { peer, by: effect.origin.clone() };
            match registry.ask(owner, message).await? {
                Applied::Recorded | Applied::Nothing => {}
                Applied::Stale => return None,
            }
        }
        if last {
            return Some(());
        }
    }
}

/// A user without an actor whose rows hold nothing about the peer has nothing to let go of: most of
/// a batch against strangers ends here, without waking anybody.
fn nothing_to_sever(
    ledger: &Ledger,
    registry: &Registry,
    key: &UserKey,
    effects: &[Arc<OwedEffect>],
) -> bool {
    if registry.is_resident(key)
        || !effects.iter().all(|owed| matches!(owed.effect, Effect::Sever { .. }))
    {
        return false;
    }
    let tables = ledger.context.store.tables();
    tables.relation(ledger.partition, key, &effects[0].from).is_ok_and(|row| row.is_none())
}
