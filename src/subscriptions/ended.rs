//! What is over: replays that have told everything are ended, and the places of what is no more are
//! given up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Subscribers;
use super::known::Known;
use super::terms::Terms;
use crate::actors::Seat;
use crate::domain::{AppId, Command, Replay, UserKey, keeper};
use crate::journal::{Cursor, Origin, Partition, partition_of};
use crate::webhooks::{CURSORS, CursorName};

/// The name of a replay's cursors, whether its subscription is there or has left the settings.
pub(super) fn replay_cursor(app: AppId, replay: &Replay) -> String {
    let name = CursorName::of(app, &replay.subscription);
    CursorName { replay: Some(replay.number), ..name }.to_string()
}

impl Subscribers {
    pub(super) fn serves(&self, partition: Partition) -> bool {
        let seats = self.users.seats();
        matches!(seats.get(usize::from(partition.0)), Some(Seat::Serving { .. }))
    }

    /// Ends the replays that have told everything, of the apps whose streams this node owns.
    pub(super) async fn finish_replays(&self) {
        for app in self.apps.keys().copied() {
            let key = UserKey { app, user: keeper() };
            if !self.serves(partition_of(&key, self.users.partitions())) {
                continue;
            }
            let mut ended = false;
            let known = self.known(app);
            for replay in &known.kept.replays {
                if self.is_finished(app, replay).await {
                    let end = Command::EndReplay { number: replay.number, completed: true };
                    ended |= self.users.asker().execute(key, end, Origin::own()).await.is_ok();
                }
            }
            if ended {
                // What cannot be asked now is asked with the next look.
                let _ = self.renew(app).await;
            }
        }
    }

    async fn is_finished(&self, app: AppId, replay: &Replay) -> bool {
        let ranges = replay.ranges.iter().map(|(number, _, until)| (Partition(*number), *until));
        let ranges: BTreeMap<Partition, u64> = ranges.collect();
        let partitions: Vec<Partition> = ranges.keys().copied().collect();
        let Ok(cursors) = self.cursors(&replay_cursor(app, replay), &partitions).await else {
            return false;
        };
        ranges.iter().all(|(partition, until)| {
            cursors.get(partition).is_some_and(|cursor| {
                cursor.place.next.0 >= *until && cursor.progress.parked.is_empty()
            })
        })
    }

    /// Gives up the places of subscriptions that are gone, in the partitions that this node serves.
    ///
    /// The cursors are looked at first, and then what there is: whatever has a place was recorded before
    /// it got one, so nothing new is ever taken for something that is gone.
    pub(super) async fn sweep(&self) {
        let all = (0..self.users.partitions()).map(Partition);
        for partition in all.filter(|partition| self.serves(*partition)) {
            let seen = self.users.asker().cursors([partition], CURSORS).await.pop();
            let Some(Ok(seen)) = seen else { continue };
            let mut checked: BTreeMap<AppId, Option<Arc<Known>>> = BTreeMap::new();
            for (name, _) in seen.cursors {
                let Some(follower) = CursorName::parse(&name) else { continue };
                let app = follower.app;
                let Ok(terms) = self.terms(app) else { continue };
                if !is_gone(&follower, &self.known(app), terms) {
                    continue;
                }
                let fresh = match checked.get(&app) {
                    Some(fresh) => fresh.clone(),
                    None => self.refresh(app).await.is_ok().then(|| self.known(app)),
                };
                checked.insert(app, fresh.clone());
                let Some(known) = fresh else { continue };
                // Whatever is in the way, the next sweep meets it again.
                if is_gone(&follower, &known, terms)
                    && self.users.save_cursor(partition, &name, Cursor::ended()).await.is_ok()
                {
                    tracing::info!(
                        webhook.subscription = name,
                        journal.partition = partition.0,
                        "a subscription is gone: its place in the partition is given up"
                    );
                }
            }
        }
    }
}

/// Whether what has a place is no more: a replay that has ended, or a subscription that was deleted.
fn is_gone(follower: &CursorName<'_>, known: &Known, terms: &Terms) -> bool {
    match follower.replay {
        Some(number) => {
            let runs = known.kept.replays.iter().any(|replay| replay.number == number);
            number <= known.kept.last_replay && !runs
        }
        None => {
            let deleted = known.kept.deleted.iter().any(|name| **name == *follower.subscription);
            deleted && !terms.configures(follower.subscription)
        }
    }
}
