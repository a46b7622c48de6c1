//! What admins ask of replays: how much one would tell, begin, list and end them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::ended::replay_cursor;
use super::known::may_go_elsewhere;
use super::{Place, Subscribers, SubscriptionError};
use crate::domain::{AppId, Command, Replay};
use crate::journal::{Origin, Partition, Progress};
use crate::webhooks::{self, DeliveryId};

/// How long counting the deliveries of a replay may take.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// How much a replay would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Deliveries.
    pub deliveries: u64,
    /// Everything was looked at; there may be more otherwise.
    pub complete: bool,
}

/// A replay that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaySeen {
    /// What was asked for.
    pub replay: Replay,
    /// Deliveries that the receiver accepted.
    pub delivered: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Users whose deliveries wait.
    pub parked: u64,
}

impl Subscribers {
    /// Counts what a replay would tell. No ranges mean all that there is.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn count(&self, app: AppId, wanted: Replay) -> Result<Counted, SubscriptionError> {
        let replay = self.bounded(app, wanted).await?;
        let told = self.known(app).replay(&replay).ok_or(SubscriptionError::Unknown)?;
        let (permit, journal) = (self.may_look(app).await?, self.journal.clone());
        let counted = spawn_blocking(move || {
            let _permit = permit;
            webhooks::count(&told, &*journal, Instant::now() + COUNT_PATIENCE)
        });
        let counted = counted.await;
        let counted = counted.ok().and_then(Result::ok).ok_or(SubscriptionError::Broken)?;
        Ok(Counted { deliveries: counted.0, complete: counted.1 })
    }

    /// Begins a replay; no ranges mean all that there is by now. Answers its number.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn start_replay(
        &self,
        app: AppId,
        wanted: Replay,
        by: Origin,
    ) -> Result<(u32, Option<Place>), SubscriptionError> {
        let replay = self.bounded(app, wanted).await?;
        let configured = self.terms(app)?.configures(&replay.subscription);
        let request = by.request;
        let command = Command::BeginReplay { replay: Box::new(replay.clone()), configured };
        let position = self.change(app, command, by).await?;
        self.renew(app).await?;
        let known = self.known(app);
        // The newest replay with the same terms. Of two with the same terms, either will do.
        let mine = known.kept.replays.iter().rev();
        let mut mine = mine.filter(|known| Replay { number: 0, ..(*known).clone() } == replay);
        let number = mine.next().map(|known| known.number).unwrap_or_else(|| {
            tracing::debug!(request.id = %request, "a replay was over before it was looked at");
            known.kept.last_replay
        });
        Ok((number, position))
    }

    /// The replays that run.
    ///
    /// Errors: they, or their cursors, are not known at present.
    pub async fn replays(&self, app: AppId) -> Result<Vec<ReplaySeen>, SubscriptionError> {
        self.refresh(app).await?;
        let mut seen = Vec::new();
        let known = self.known(app);
        for replay in &known.kept.replays {
            let partitions: Vec<Partition> =
                replay.ranges.iter().map(|(number, _, _)| Partition(*number)).collect();
            let cursors = self.cursors(&replay_cursor(app, replay), &partitions).await?;
            let sum = |count: fn(&Progress) -> u64| {
                cursors.values().map(|cursor| count(&cursor.progress)).sum()
            };
            seen.push(ReplaySeen {
                delivered: sum(|progress| progress.delivered.count),
                dead: sum(|progress| progress.dead.count),
                parked: sum(|progress| progress.parked.len() as u64),
                replay: replay.clone(),
            });
        }
        Ok(seen)
    }

    /// Ends a replay, whatever it has not told. Answers where that stands, if it ran.
    ///
    /// Errors: there was no such replay, or the stream that keeps it has no answer.
    pub async fn end_replay(
        &self,
        app: AppId,
        number: u32,
        by: Origin,
    ) -> Result<Option<Place>, SubscriptionError> {
        let end = Command::EndReplay { number, completed: false };
        let position = self.change(app, end, by).await?;
        self.renew(app).await?;
        Ok(position)
    }

    /// The replay with the ranges that it is about, each inside its partition.
    async fn bounded(&self, app: AppId, wanted: Replay) -> Result<Replay, SubscriptionError> {
        self.refresh(app).await?;
        let known = self.known(app);
        let (seen, _) = known.find(&wanted.subscription).ok_or(SubscriptionError::Unknown)?;
        if let Some(url) = &wanted.url {
            self.terms(app)?.check_url(url)?;
            may_go_elsewhere(seen)?;
        }
        let ends = self.ends().await?;
        let mut ranges = wanted.ranges;
        if !wanted.ids.is_empty() {
            let ids = wanted.ids.iter().map(|id| id.parse::<DeliveryId>());
            let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|_| SubscriptionError::Range)?;
            let mut around: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
            for DeliveryId { partition, offset, .. } in ids {
                let behind = offset.0.saturating_add(1);
                let range = around.entry(partition.0).or_insert((offset.0, behind));
                *range = (range.0.min(offset.0), range.1.max(behind));
            }
            let each = around.into_iter();
            ranges = each.map(|(partition, (from, until))| (partition, from, until)).collect();
        } else if ranges.is_empty() {
            let all = ends.iter().filter(|(_, end)| end.0 > 0);
            ranges = all.map(|(partition, end)| (partition.0, 0, end.0)).collect();
        }
        for (partition, from, until) in &mut ranges {
            let end = ends.get(&Partition(*partition)).ok_or(SubscriptionError::Range)?;
            *until = (*until).min(end.0);
            if from >= until {
                return Err(SubscriptionError::Range);
            }
        }
        Ok(Replay { ranges, ..wanted })
    }
}
