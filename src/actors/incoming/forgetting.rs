//! Deleted accounts that every user of a partition has to let go of.
//!
//! Nobody knows who names an account, so the store's rows of its app are looked through, and the
//! channel that the deletion came by stands meanwhile. Deletions that come while one is looked for
//! share the next look, whichever channels they came by: a call that deletes a hundred accounts costs
//! a few.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Incoming, Run};
use crate::actors::user::{Applied, Forget, Named};
use crate::domain::{AppId, UserId, UserKey};
use crate::journal::{Origin, Partition};
use crate::store::Tables;

/// Users told of deleted accounts between two looks at the store.
const FOUND_MAX: usize = 500;
/// Rows that one look at the store passes: others wait for its thread meanwhile.
const ROWS_MAX: usize = 20_000;
/// Their records take one in so many of what may be in flight: the rest is for commands and for what
/// others ask.
const SHARE: usize = 2;

/// What waits to be forgotten: one run of each channel at most.
#[derive(Default)]
pub(super) struct Forgetting {
    waiting: Vec<Deletions>,
    /// Somebody forgets, and goes on with what waits.
    busy: bool,
}

/// Deletions in one app, one behind the other in the channel of `source`, and the number of the last.
struct Deletions {
    source: Partition,
    app: AppId,
    accounts: Vec<(UserId, Arc<Origin>)>,
    seq: u64,
}

impl Forgetting {
    /// What is forgotten next: all that waits of one app. Nothing is a rest.
    fn next(&mut self) -> Option<(AppId, Vec<Deletions>)> {
        let Some(Deletions { app, .. }) = self.waiting.first() else {
            self.busy = false;
            return None;
        };
        let app = *app;
        let (next, later) = self.waiting.drain(..).partition(|waiting| waiting.app == app);
        self.waiting = later;
        Some((app, next))
    }
}

impl Incoming {
    /// Makes all users forget the accounts that `run` says were deleted; then its channel goes on.
    pub(super) fn forget(self: &Rc<Self>, source: Partition, run: Run, era: u64) {
        let Run { key, effects, seq } = run;
        let accounts = effects.iter().map(|owed| (owed.from, owed.origin.clone())).collect();
        let mut forgetting = self.forgetting.borrow_mut();
        forgetting.waiting.push(Deletions { source, app: key.app, accounts, seq });
        if !std::mem::replace(&mut forgetting.busy, true) {
            actix::spawn(Rc::clone(self).forget_all(era));
        }
    }

    /// Forgets until nothing waits.
    async fn forget_all(self: Rc<Self>, era: u64) {
        while self.goes_on(era) {
            let Some((app, deletions)) = self.forgetting.borrow_mut().next() else { return };
            let accounts =
                deletions.iter().flat_map(|deletions| deletions.accounts.iter().cloned());
            let forgotten = self.forgotten(app, accounts.collect(), era).await;
            if !self.goes_on(era) {
                return;
            }
            if forgotten.is_none() {
                self.ledger.lost.notify_one();
                return;
            }
            for Deletions { source, seq, .. } in deletions {
                self.ledger.mark_seen(source, seq);
                self.go_on(source);
            }
        }
    }

    /// Makes every user of `app` in the partition forget `accounts`. Nothing if the partition was
    /// recovered or released meanwhile, or its store cannot be read; then the effects are not done with
    /// and come again.
    ///
    /// Whoever has an actor and records that no checkpoint holds is asked. All others are found by a look
    /// through the store's rows on the store's thread, a bounded number of rows and users at a time.
    async fn forgotten(
        &self,
        app: AppId,
        accounts: BTreeMap<UserId, Arc<Origin>>,
        era: u64,
    ) -> Option<()> {
        let Self { ledger, registry, .. } = self;
        let partition = ledger.partition;
        let peers: Arc<BTreeSet<UserId>> = Arc::new(accounts.keys().copied().collect());
        let forget = async |owner: UserKey, peer: UserId| {
            let by = accounts.get(&peer)?.clone();
            if !self.has_room(SHARE, era).await {
                return None;
            }
            match registry.ask(owner, Forget { peer, by }).await? {
                Applied::Recorded | Applied::Nothing => Some(()),
                Applied::Stale => None,
            }
        };
        for owner in registry.unsaved(app) {
            for peer in registry.ask(owner, Named(peers.clone())).await? {
                forget(owner, peer).await?;
            }
        }
        let mut from = None;
        loop {
            let (done, naming) = oneshot::channel();
            let (peers, bounds) = (peers.clone(), (FOUND_MAX, ROWS_MAX));
            let look = move |tables: &Tables| {
                // The partition may be gone by now.
                let _ = done.send(tables.who_names((partition, app), &peers, from, bounds));
            };
            ledger.context.store.run(look).ok()?;
            let naming = naming.await.ok()?.map_err(|error| registry.store_failed(&error)).ok()?;
            for (owner, peer) in naming.found {
                forget(owner, peer).await?;
            }
            if naming.next.is_none() {
                return Some(());
            }
            from = naming.next;
        }
    }
}
