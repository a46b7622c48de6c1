//! What admins ask of the deliveries by calls: read from the journal, or from those who own it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use super::{Subscribers, SubscriptionError};
use crate::actors::{CursorsSeen, ExecuteError};
use crate::audit::AuditError;
use crate::audit::webhooks::{
    self as audit, Reach, ScanCursor, Scanned, Standpoint, letters, owed_deliveries,
};
pub use crate::audit::webhooks::{Delivered, Letter, OwedDelivery, STATES};
use crate::domain::{AppId, MAIN, Timestamp, UserId};
use crate::journal::{Cursor, JournalError, Offset, Partition, ReadJournal};
use crate::tags::CallbackCommand;
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::{CursorName, Switches};

/// Looks into the journal that go on at the same time; others wait.
const SCANS_AT_ONCE_MAX: usize = 4;
/// And those of one app: an app that asks for many waits behind its own, and not in front of others.
const SCANS_OF_APP_MAX: usize = SCANS_AT_ONCE_MAX / 2;
/// Records that one look takes in, at most.
const SCANNED_RECORDS_MAX: usize = 100_000;
/// How long one look may take.
const SCAN_TIME_MAX: Duration = Duration::from_millis(1_500);
/// Bytes of the bodies that one look answers; a single larger one is answered all the same.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Of which subscription; of all if none is named.
    pub name: Option<Box<str>>,
    /// Where it begins.
    pub from: PageFrom,
    /// How long it may be.
    pub items_max: usize,
}

/// Which page of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsWanted {
    /// The page; what the subscription asks for bounds what is told.
    pub page: PageWanted,
    /// Only these commands.
    pub commands: Vec<Box<str>>,
}

/// Which page of what became of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWanted {
    /// The page.
    pub page: PageWanted,
    /// Only this delivery.
    pub id: Option<String>,
    /// Only deliveries about this user's events.
    pub user: Option<UserId>,
    /// Only deliveries in this state.
    pub state: Option<&'static str>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFrom {
    /// With the first record that there is.
    Beginning,
    /// With the first record of this moment or later.
    Time(Timestamp),
    /// Behind the last record that there is.
    End,
    /// Where an earlier page ended.
    Cursor(String),
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins.
    pub cursor: String,
    /// There was nothing behind it.
    pub complete: bool,
}

impl<T> Page<T> {
    /// The same page of other items.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> Page<U> {
        let Self { items, cursor, complete } = self;
        Page { items: items.into_iter().map(item).collect(), cursor, complete }
    }
}

/// How a subscription, or a replay of one, stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Which replay of it; 0 for none.
    pub replay: u32,
    /// Deliveries that the receiver accepted.
    pub delivered: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Records that it is not done with, as `cordon_webhook_lag_records` has them; of a partition that
    /// another node owns, those behind the place that was saved last.
    pub lag: u64,
    /// The term of its last move, which grows with each and is no count; 0 if there was none.
    pub term: u32,
    /// Since when the receiver counts as down, if it does.
    pub down_since: Option<Timestamp>,
    /// Why nothing is sent any more, if that is so.
    pub halted: Box<str>,
    /// What the last failed attempt came to.
    pub error: Box<str>,
    /// Users whose deliveries wait.
    pub parked: Vec<ParkedUser>,
}

/// A user whose deliveries wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedUser {
    /// Who.
    pub user: UserId,
    /// The partition of their records.
    pub partition: Partition,
    /// The offset of the first whose delivery waits.
    pub offset: Offset,
    /// Attempts that were spent on it.
    pub attempts: u32,
    /// Since when it waits.
    pub since: Timestamp,
    /// What the last attempt came to.
    pub error: Box<str>,
}

static SCANS: Semaphore = Semaphore::const_new(SCANS_AT_ONCE_MAX);

/// The looks of an app into the journal.
pub(super) struct Looks(Arc<Semaphore>);

/// The right to one of them, until it is dropped.
pub(super) struct MayLook {
    _of_app: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'static>,
}

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SCANS_OF_APP_MAX)))
    }
}

impl Looks {
    async fn one(&self) -> Option<MayLook> {
        let of_app = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let of_all = SCANS.acquire().await.ok()?;
        Some(MayLook { _of_app: of_app, _of_all: of_all })
    }
}

impl Subscribers {
    /// Waits until `app` may look into the journal.
    pub(super) async fn may_look(&self, app: AppId) -> Result<MayLook, SubscriptionError> {
        self.terms(app)?.looks.one().await.ok_or(SubscriptionError::Broken)
    }

    /// Every partition's cursors of `app`, from whoever owns it.
    async fn cursors_everywhere(&self, app: AppId) -> Result<Vec<CursorsSeen>, ExecuteError> {
        let prefix = CursorName::of(app, MAIN).to_string();
        let partitions = (0..self.users.partitions()).map(Partition);
        self.users.asker().cursors(partitions, &prefix).await.into_iter().collect()
    }

    /// Where a page begins.
    async fn place(&self, app: AppId, from: &PageFrom) -> Result<ScanCursor, SubscriptionError> {
        self.terms(app)?;
        let partitions = self.users.partitions();
        Ok(match from {
            PageFrom::Beginning => ScanCursor::beginning(partitions, None),
            PageFrom::Time(since) => ScanCursor::beginning(partitions, Some(*since)),
            PageFrom::End => {
                ScanCursor::at(self.cursors_everywhere(app).await?.iter().map(|seen| seen.end))
            }
            PageFrom::Cursor(text) => {
                ScanCursor::decode(text, partitions).map_err(|_| SubscriptionError::Cursor)?
            }
        })
    }

    /// Lets `scan` look into the journal, on a thread that may wait.
    async fn look<T: Send + 'static>(
        &self,
        app: AppId,
        mut cursor: ScanCursor,
        items_max: usize,
        scan: impl FnOnce(&dyn ReadJournal, &mut ScanCursor, Reach) -> Result<Scanned<T>, AuditError>
        + Send
        + 'static,
    ) -> Result<Page<T>, SubscriptionError> {
        let permit = self.may_look(app).await?;
        let journal = self.journal.clone();
        let scanned = spawn_blocking(move || {
            // Kept as long as it lasts, not as long as somebody waits for it.
            let _permit = permit;
            let reach = Reach {
                records: SCANNED_RECORDS_MAX,
                items: items_max,
                bytes: BODY_BYTES_MAX,
                deadline: Instant::now() + SCAN_TIME_MAX,
            };
            let Scanned { items, complete } = scan(&*journal, &mut cursor, reach)?;
            Ok::<_, AuditError>(Page { items, cursor: cursor.encode(), complete })
        });
        match scanned.await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(AuditError::Journal(JournalError::NoSuchOffset { .. }))) => {
                Err(SubscriptionError::Cursor)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "an API call cannot read the journal");
                Err(SubscriptionError::Broken)
            }
            Err(error) => {
                tracing::error!(%error, "a read of the journal panicked");
                Err(SubscriptionError::Broken)
            }
        }
    }

    /// The deliveries that are owed, from a place on.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn events(
        &self,
        app: AppId,
        wanted: EventsWanted,
    ) -> Result<Page<OwedDelivery>, SubscriptionError> {
        let EventsWanted { page, commands } = wanted;
        let asked: Switches = match &page.name {
            None => Switches::ALL,
            Some(name) => {
                self.refresh(app).await?;
                let known = self.known(app);
                let (seen, _) = known.find(name).ok_or(SubscriptionError::Unknown)?;
                switches(&seen.subscription.commands)
            }
        };
        let named = if commands.is_empty() { Switches::ALL } else { switches(&commands) };
        let both = CallbackCommand::ALL.into_iter();
        let both: Switches = both.filter(|one| asked.has(*one) && named.has(*one)).collect();
        let cursor = self.place(app, &page.from).await?;
        let look = self.look(app, cursor, page.items_max, move |journal, cursor, reach| {
            owed_deliveries(journal, app, both, cursor, reach)
        });
        look.await
    }

    /// The deliveries that were given up, from a place on.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn dead_letters(
        &self,
        app: AppId,
        wanted: PageWanted,
    ) -> Result<Page<Letter>, SubscriptionError> {
        let cursor = self.place(app, &wanted.from).await?;
        let look = self.look(app, cursor, wanted.items_max, move |journal, cursor, reach| {
            letters(journal, app, wanted.name.as_deref(), cursor, reach)
        });
        look.await
    }

    /// What became of deliveries, from a place on.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn log(
        &self,
        app: AppId,
        wanted: LogWanted,
    ) -> Result<Page<Delivered>, SubscriptionError> {
        let LogWanted { page, id, user, state } = wanted;
        let id = match id.map(|id| id.parse::<DeliveryId>()).transpose() {
            Ok(id) => id,
            // No delivery is called so.
            Err(_) => {
                let cursor = self.place(app, &page.from).await?.encode();
                return Ok(Page { items: Vec::new(), cursor, complete: true });
            }
        };
        let mut standpoints = Vec::new();
        for (index, seen) in self.cursors_everywhere(app).await?.into_iter().enumerate() {
            let partition = Partition(index as u16);
            standpoints.extend(seen.cursors.into_iter().filter_map(|(kept, cursor)| {
                let name = CursorName::parse(&kept);
                let name = name.filter(|name| name.app == app && name.replay.is_none())?;
                Some(Standpoint { subscription: name.subscription.to_owned(), partition, cursor })
            }));
        }
        let subscription = page.name.as_deref().map(str::to_owned);
        if subscription.is_some()
            && !standpoints.iter().any(|one| Some(&one.subscription) == subscription.as_ref())
        {
            return Err(SubscriptionError::Unknown);
        }
        let asked = audit::Asked { subscription, id, user, state: state.map(str::to_owned) };
        let cursor = self.place(app, &page.from).await?;
        let look = self.look(app, cursor, page.items_max, move |journal, cursor, reach| {
            if let Some(id) = asked.id {
                match ScanCursor::in_front_of(journal, id, &standpoints)? {
                    Some(place) => *cursor = place,
                    None => return Ok(Scanned { items: Vec::new(), complete: true }),
                }
            }
            audit::delivered(journal, app, &asked, &standpoints, cursor, reach)
        });
        look.await
    }

    /// How each subscription stands, or the one that is named.
    ///
    /// Errors: there is none of this name, or a partition is out of reach.
    pub async fn statuses(
        &self,
        app: AppId,
        wanted: Option<Box<str>>,
    ) -> Result<Vec<Status>, SubscriptionError> {
        let mut statuses: BTreeMap<(String, u32), Status> = BTreeMap::new();
        let mut lags: BTreeMap<String, BTreeMap<Partition, u64>> = BTreeMap::new();
        for (index, seen) in self.cursors_everywhere(app).await?.into_iter().enumerate() {
            let partition = Partition(index as u16);
            for (kept, cursor) in seen.cursors {
                let Some(name) = CursorName::parse(&kept) else { continue };
                let CursorName { app: of, subscription, replay } = name;
                if of != app || wanted.as_deref().is_some_and(|wanted| wanted != subscription) {
                    continue;
                }
                let replay = replay.unwrap_or(0);
                let status = statuses.entry((subscription.to_owned(), replay)).or_default();
                (status.name, status.replay) = (subscription.to_owned(), replay);
                // What is followed elsewhere is known by the place that was saved last.
                let saved = || seen.end.next.0.saturating_sub(cursor.place.next.0);
                let here = lags.entry(kept.clone()).or_insert_with(|| self.lags(&name));
                status.lag += here.get(&partition).copied().unwrap_or_else(saved);
                note(status, partition, cursor);
            }
        }
        if wanted.is_some() && statuses.is_empty() {
            return Err(SubscriptionError::Unknown);
        }
        Ok(statuses.into_values().collect())
    }
}

/// Adds what the cursor of one partition says.
fn note(status: &mut Status, partition: Partition, cursor: Cursor) {
    let Cursor { term, progress, .. } = cursor;
    status.delivered += progress.delivered.count;
    status.dead += progress.dead.count;
    status.term = status.term.max(term);
    status.down_since = status.down_since.into_iter().chain(progress.down_since).min();
    if let Some(halted) = progress.halted {
        status.halted = halted;
    }
    if let Some(error) = progress.error {
        status.error = error;
    }
    status.parked.extend(progress.parked.into_iter().map(|parked| ParkedUser {
        user: parked.user,
        partition,
        offset: parked.first,
        attempts: parked.attempts,
        since: parked.since,
        error: parked.error,
    }));
}

fn switches(names: &[Box<str>]) -> Switches {
    names.iter().filter_map(|name| CallbackCommand::from_name(name)).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_app_that_looks_much_waits_for_itself_and_nobody_for_it() {
        let (greedy, other) = (Looks::default(), Looks::default());
        let mut looking = Vec::new();
        for _ in 0..SCANS_OF_APP_MAX {
            looking.push(greedy.one().await);
        }
        let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(greedy.one())).collect();
        assert!(waiting.iter_mut().all(|look| look.now_or_never().is_none()));
        looking.push(other.one().await);
        looking.clear();
        assert!(waiting.remove(0).await.is_some(), "it is its turn");
    }
}
