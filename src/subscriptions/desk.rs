//! What admins ask of the subscriptions by calls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::{spawn_blocking, spawn_local};

use super::deliveries::may_scan;
use super::seal::SealError;
use super::{Directory, replay_cursor};
use crate::actors::{ExecuteError, Executed};
use crate::domain::subscription::REQUEST_OVER_LIMIT;
use crate::domain::{
    AppId, Command, Format, Replay, SecretChange, SeekTo, Subscription, UserKey, keeper,
};
use crate::http::{
    Alarm, Asked, Counted, DeskError, NewSecret, ReplaySeen, SetSubscription, State,
    SubscriptionSeen, SubscriptionWasSet, Tested, Webhooks,
};
use crate::journal::{Offset, Origin, Partition};
use crate::webhooks::{self, CallId, CursorName, Outcome, RequestOverLimit};

/// How long counting the calls of a replay may take.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// The longest wait, in ms, for the second that the alarm is about to end. It is only reached when the
/// clock goes back.
const ALARM_WAIT_MAX_MS: i64 = 2_000;

/// How long a deletion waits for the other nodes to hear of it.
const GONE_PATIENCE: Duration = Duration::from_millis(1500);
/// How often it looks.
const GONE_POLL: Duration = Duration::from_millis(20);

/// Where a change stands.
type Place = (Partition, Offset);

impl Directory {
    /// Has the app's stream carry out `command`, and takes note of what follows.
    async fn change(
        &self,
        app: AppId,
        command: Command,
        by: Origin,
    ) -> Result<Option<Place>, DeskError> {
        let key = UserKey { app, user: keeper() };
        let executed = self.users.asker().execute(key, command, by).await?;
        let Executed { outcomes, position, .. } = executed;
        match outcomes.into_iter().find_map(Result::err) {
            Some(crate::actors::ItemError::Rejected(rejection)) => {
                return Err(DeskError::Actors(rejection.into()));
            }
            Some(crate::actors::ItemError::Owed) | None => {}
        }
        Ok(position)
    }

    async fn set(
        &self,
        app: AppId,
        wanted: SetSubscription,
        by: Origin,
    ) -> Result<SubscriptionWasSet, DeskError> {
        let SetSubscription { subscription, secret } = wanted;
        if self.is_configured(app, &subscription.name) {
            return Err(DeskError::OfSettings);
        }
        let (new, keeps) = match &secret {
            NewSecret::Keep => (None, true),
            NewSecret::Remove => (None, false),
            NewSecret::Given { text, .. } => (Some(text.as_str()), true),
            NewSecret::Generated { .. } => (None, true),
        };
        self.check(app, &subscription, new, keeps)?;
        let (change, shown) = self.sealed(app, &subscription, secret)?;
        let name = subscription.name.clone();
        let set = Command::SetSubscription { subscription: Box::new(subscription), secret: change };
        let position = self.change(app, set, by).await?;
        // It is answered with success once no event of any user can be missed.
        self.begin_everywhere(app, &name).await?;
        self.renew(app).await?;
        Ok(SubscriptionWasSet { secret: shown, position })
    }

    /// What becomes of the secrets, sealed; and the one that was made up, in clear.
    fn sealed(
        &self,
        app: AppId,
        subscription: &Subscription,
        secret: NewSecret,
    ) -> Result<(SecretChange, Option<String>), DeskError> {
        let sealer = self.sealer(app).ok_or(DeskError::Broken)?;
        let name = &*subscription.name;
        let broken = |error: SealError| {
            tracing::error!(
                app.id = app.0,
                webhook.subscription = name,
                %error,
                "a secret could not be sealed"
            );
            DeskError::Broken
        };
        let seal = |text: &str| sealer.seal(name, text).map_err(broken);
        match secret {
            NewSecret::Keep => Ok((SecretChange::Keep, None)),
            NewSecret::Remove => Ok((SecretChange::Remove, None)),
            NewSecret::Given { text, overlap_ms } => {
                let known = self.known(app);
                let newest = known.kept.get(name).and_then(|known| known.secrets.first());
                let same = newest.and_then(|newest| sealer.open(name, &newest.sealed));
                if same.as_deref() == Some(&text) {
                    return Ok((SecretChange::Keep, None));
                }
                Ok((SecretChange::Replace { sealed: seal(&text)?, overlap_ms }, None))
            }
            NewSecret::Generated { overlap_ms } => {
                let text = sealer.make_up().map_err(broken)?;
                Ok((SecretChange::Replace { sealed: seal(&text)?, overlap_ms }, Some(text)))
            }
        }
    }

    async fn test(&self, app: AppId, name: &str, by: Origin) -> Result<Tested, DeskError> {
        self.refresh(app).await?;
        let known = self.known(app);
        let (seen, served) = known.find(name).ok_or(DeskError::Unknown)?;
        let none =
            |result, info: &str| Tested { result, status: None, took_ms: 0, info: info.to_owned() };
        match seen.state {
            State::Serving | State::Off => {}
            State::Pulled => return Ok(none("pulled", "it has no address")),
            State::Held => {
                return Ok(none(
                    "held",
                    "its secrets cannot be read with the keys that the app has",
                ));
            }
        }
        let began = Instant::now();
        let outcome = webhooks::test(served, by, &self.clock).await;
        let status = match outcome {
            Outcome::Delivered | Outcome::Malformed { .. } => Some(200),
            Outcome::Refused { status } => Some(status),
            // 503 with a time counts as this, too.
            Outcome::Busy { .. } => Some(429),
            Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Guarded(_) => None,
        };
        Ok(Tested {
            result: outcome.word(),
            status,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            info: if outcome.is_delivered() { String::new() } else { outcome.to_string() },
        })
    }

    /// Tells everybody who wants to hear it, as far as is known by now, that a limit is near.
    fn alert(&self, alarm: Alarm, by: Origin) {
        let wants = |names: &[Box<str>]| names.iter().any(|name| **name == *REQUEST_OVER_LIMIT);
        let known = self.known(alarm.app());
        let told = known.serving().filter(|(set, _)| wants(&set.commands));
        let told: Vec<_> = told.map(|(_, served)| served.clone()).collect();
        let clock = self.clock.clone();
        spawn_local(async move {
            let left_ms = (alarm.ends_at().0 - clock.now().0).clamp(0, ALARM_WAIT_MAX_MS);
            tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
            let (app, command, limit) = (alarm.app(), alarm.command(), alarm.limit());
            let requests = alarm.requests();
            tracing::warn!(
                app.id = app.0,
                command,
                requests,
                limit,
                "calls of a command are close to the limit for a second, or above it"
            );
            let near = RequestOverLimit { command, requests, limit };
            let calls = told.iter().map(|served| webhooks::alert(served, near, by.clone(), &clock));
            for (served, outcome) in told.iter().zip(join_all(calls).await) {
                if !outcome.is_delivered() {
                    let name = &*served.name;
                    tracing::warn!(
                        app.id = app.0, webhook.subscription = name, %outcome,
                        "a subscriber was not told that a limit is near"
                    );
                }
            }
        });
    }

    async fn seek(
        &self,
        app: AppId,
        name: Box<str>,
        to: SeekTo,
        by: Origin,
    ) -> Result<(u32, Option<Place>), DeskError> {
        if let SeekTo::Offsets(offsets) = &to {
            let ends = self.ends().await?;
            let fits = |(partition, offset): &(u16, u64)| {
                ends.get(&Partition(*partition)).is_some_and(|end| Offset(*offset) <= *end)
            };
            if !offsets.iter().all(fits) {
                return Err(DeskError::Range);
            }
        }
        let configured = self.is_configured(app, &name);
        let to_end = to == SeekTo::End;
        let command = Command::MoveSubscription { name: name.clone(), to, configured };
        let position = self.change(app, command, by).await?;
        if to_end {
            // It is answered with success once no event from then on can be left out.
            self.begin_everywhere(app, &name).await?;
        }
        self.renew(app).await?;
        let term = self.known(app).kept.last_move(&name).map_or(0, |seek| seek.term);
        Ok((term, position))
    }

    /// Waits until no partition holds a place of the subscription any more, so that one that is set
    /// under the same name begins anew. Errors: it takes longer, or a partition is out of reach; the
    /// subscription is deleted, and the same call may be made again to wait for the rest.
    async fn wait_until_gone(&self, app: AppId, name: &str) -> Result<(), DeskError> {
        let cursor = CursorName::of(app, name).to_string();
        let all: Vec<Partition> = (0..self.users.partitions()).map(Partition).collect();
        let deadline = Instant::now() + GONE_PATIENCE;
        while !self.cursors(&cursor, &all).await?.is_empty() {
            if Instant::now() >= deadline {
                return Err(ExecuteError::TimedOut.into());
            }
            tokio::time::sleep(GONE_POLL).await;
        }
        Ok(())
    }

    /// The ends of all partitions.
    async fn ends(&self) -> Result<BTreeMap<Partition, Offset>, DeskError> {
        let journal = self.journal.clone();
        let ends = spawn_blocking(move || {
            let all: Vec<Partition> = (0..journal.partitions()).map(Partition).collect();
            let ends = journal.ends(&all)?;
            Ok::<_, crate::journal::JournalError>(all.into_iter().zip(ends).collect())
        });
        ends.await.ok().and_then(Result::ok).ok_or(DeskError::Broken)
    }

    /// The replay with the ranges that it is about, each inside its partition.
    async fn bounded(&self, app: AppId, wanted: Replay) -> Result<Replay, DeskError> {
        self.refresh(app).await?;
        let known = self.known(app);
        if known.find(&wanted.subscription).is_none() {
            return Err(DeskError::Unknown);
        }
        if let Some(url) = &wanted.url {
            self.may_call(app, url).then_some(()).ok_or(DeskError::Url)?;
            // One that was only pulled so far need not have had a secret.
            let set = known.find(&wanted.subscription).map(|(seen, _)| &seen.subscription);
            if set.is_some_and(|set| set.format == Format::Standard && set.secrets.is_empty()) {
                return Err(DeskError::Secret);
            }
        }
        let ends = self.ends().await?;
        let mut ranges = wanted.ranges;
        if !wanted.ids.is_empty() {
            let ids = wanted.ids.iter().map(|id| id.parse::<CallId>());
            let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|_| DeskError::Range)?;
            let mut around: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
            for CallId { partition, offset, .. } in ids {
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
            let end = ends.get(&Partition(*partition)).ok_or(DeskError::Range)?;
            *until = (*until).min(end.0);
            if from >= until {
                return Err(DeskError::Range);
            }
        }
        Ok(Replay { ranges, ..wanted })
    }

    async fn count(&self, app: AppId, wanted: Replay) -> Result<Counted, DeskError> {
        let replay = self.bounded(app, wanted).await?;
        let told = self.known(app).replay(&replay).ok_or(DeskError::Unknown)?;
        let (permit, journal) = (may_scan().await?, self.journal.clone());
        let counted = spawn_blocking(move || {
            let _permit = permit;
            webhooks::count(&told, &*journal, Instant::now() + COUNT_PATIENCE)
        });
        let counted = counted.await;
        let counted = counted.ok().and_then(Result::ok).ok_or(DeskError::Broken)?;
        Ok(Counted { calls: counted.0, complete: counted.1 })
    }

    async fn start_replay(
        &self,
        app: AppId,
        wanted: Replay,
        by: Origin,
    ) -> Result<(u32, Option<Place>), DeskError> {
        let replay = self.bounded(app, wanted).await?;
        let configured = self.is_configured(app, &replay.subscription);
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

    async fn replays(&self, app: AppId) -> Result<Vec<ReplaySeen>, DeskError> {
        self.refresh(app).await?;
        let mut seen = Vec::new();
        let known = self.known(app);
        for replay in &known.kept.replays {
            let partitions: Vec<Partition> =
                replay.ranges.iter().map(|(number, _, _)| Partition(*number)).collect();
            let cursors = self.cursors(&replay_cursor(app, replay), &partitions).await?;
            let sum = |count: fn(&crate::journal::Progress) -> u64| {
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
}

impl Webhooks for Directory {
    fn set(
        &self,
        app: AppId,
        wanted: SetSubscription,
        by: Origin,
    ) -> Asked<'_, SubscriptionWasSet> {
        Box::pin(self.set(app, wanted, by))
    }

    fn list(&self, app: AppId) -> Asked<'_, Vec<SubscriptionSeen>> {
        Box::pin(async move {
            self.refresh(app).await?;
            Ok(self.known(app).seen())
        })
    }

    fn delete(&self, app: AppId, name: Box<str>, by: Origin) -> Asked<'_, Option<Place>> {
        Box::pin(async move {
            if self.is_configured(app, &name) {
                return Err(DeskError::OfSettings);
            }
            let command = Command::DeleteSubscription { name: name.clone() };
            let position = self.change(app, command, by).await?;
            self.renew(app).await?;
            self.wait_until_gone(app, &name).await?;
            Ok(position)
        })
    }

    fn alert(&self, alarm: Alarm, by: Origin) {
        self.alert(alarm, by);
    }

    fn test(&self, app: AppId, name: Box<str>, by: Origin) -> Asked<'_, Tested> {
        Box::pin(async move { self.test(app, &name, by).await })
    }

    fn seek(
        &self,
        app: AppId,
        name: Box<str>,
        to: SeekTo,
        by: Origin,
    ) -> Asked<'_, (u32, Option<Place>)> {
        Box::pin(self.seek(app, name, to, by))
    }

    fn count(&self, app: AppId, wanted: Replay) -> Asked<'_, Counted> {
        Box::pin(self.count(app, wanted))
    }

    fn start_replay(
        &self,
        app: AppId,
        wanted: Replay,
        by: Origin,
    ) -> Asked<'_, (u32, Option<Place>)> {
        Box::pin(self.start_replay(app, wanted, by))
    }

    fn replays(&self, app: AppId) -> Asked<'_, Vec<ReplaySeen>> {
        Box::pin(self.replays(app))
    }

    fn end_replay(&self, app: AppId, number: u32, by: Origin) -> Asked<'_, Option<Place>> {
        Box::pin(async move {
            let end = Command::EndReplay { number, completed: false };
            let position = self.change(app, end, by).await?;
            self.renew(app).await?;
            Ok(position)
        })
    }
}
