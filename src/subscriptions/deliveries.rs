//! What admins ask of the deliveries by calls: read from the journal, or from those who own it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use super::Directory;
use crate::actors::{CursorsSeen, ExecuteError};
use crate::audit::AuditError;
use crate::audit::webhooks::{
    self as audit, Letter, OwedCall, Reach, ScanCursor, Standpoint, letters, owed_calls,
};
use crate::domain::{AppId, MAIN};
use crate::http::{
    Asked, Deliveries, DeliverySeen, DeskError, EventSeen, EventsWanted, LetterSeen, LogWanted,
    Page, PageFrom, PageWanted, ParkedSeen, StatusSeen,
};
use crate::journal::{Cursor, Journal, JournalError, Partition};
use crate::webhooks::digest::CallId;
use crate::webhooks::{CallbackCommand, CursorName, Switches};

/// Looks into the journal that go on at the same time; others wait.
const SCANS_AT_ONCE_MAX: usize = 4;
/// Records that one look takes in, at most.
const SCANNED_RECORDS_MAX: usize = 100_000;
/// How long one look may take.
const SCAN_TIME_MAX: Duration = Duration::from_millis(1_500);
/// Bytes of the bodies that one look answers; a single larger one is answered all the same.
const BODY_BYTES_MAX: usize = 1 << 20;

static SCANS: Semaphore = Semaphore::const_new(SCANS_AT_ONCE_MAX);

/// The right to look into the journal.
pub(super) async fn may_scan() -> Result<SemaphorePermit<'static>, DeskError> {
    SCANS.acquire().await.map_err(|_| DeskError::Broken)
}

impl Directory {
    /// Every partition's cursors of `app`, from whoever owns it.
    async fn cursors_everywhere(&self, app: AppId) -> Result<Vec<CursorsSeen>, ExecuteError> {
        let prefix = CursorName::of(app, MAIN).to_string();
        let partitions = (0..self.users.partitions()).map(Partition);
        self.users.asker().cursors(partitions, &prefix).await.into_iter().collect()
    }

    /// Where a page begins.
    async fn place(&self, app: AppId, from: &PageFrom) -> Result<ScanCursor, DeskError> {
        let partitions = self.users.partitions();
        Ok(match from {
            PageFrom::Beginning => ScanCursor::beginning(partitions, None),
            PageFrom::Time(since) => ScanCursor::beginning(partitions, Some(*since)),
            PageFrom::End => {
                ScanCursor::at(self.cursors_everywhere(app).await?.iter().map(|seen| seen.end))
            }
            PageFrom::Cursor(text) => {
                ScanCursor::decode(text, partitions).map_err(|_| DeskError::Cursor)?
            }
        })
    }

    /// Lets `scan` look into the journal, on a thread that may wait. Answers where the next look
    /// begins, too.
    async fn look<T: Send + 'static>(
        &self,
        mut cursor: ScanCursor,
        items: usize,
        scan: impl FnOnce(&dyn Journal, &mut ScanCursor, Reach) -> Result<T, AuditError>
        + Send
        + 'static,
    ) -> Result<(T, String), DeskError> {
        let permit = may_scan().await?;
        let journal = self.journal.clone();
        let scanned = spawn_blocking(move || {
            // Kept as long as it lasts, not as long as somebody waits for it.
            let _permit = permit;
            let reach = Reach {
                records: SCANNED_RECORDS_MAX,
                items,
                bytes: BODY_BYTES_MAX,
                deadline: Instant::now() + SCAN_TIME_MAX,
            };
            let found = scan(&*journal, &mut cursor, reach);
            found.map(|found| (found, cursor.encode()))
        });
        match scanned.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(AuditError::Journal(JournalError::NoSuchOffset { .. }))) => {
                Err(DeskError::Cursor)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "an API call cannot read the journal");
                Err(DeskError::Broken)
            }
            Err(error) => {
                tracing::error!(%error, "a read of the journal panicked");
                Err(DeskError::Broken)
            }
        }
    }

    async fn events_page(
        &self,
        app: AppId,
        wanted: EventsWanted,
    ) -> Result<Page<EventSeen>, DeskError> {
        let EventsWanted { page, commands } = wanted;
        let asked: Switches = match &page.name {
            None => Switches::ALL,
            Some(name) => {
                self.refresh(app).await?;
                let known = self.known(app);
                let (seen, _) = known.find(name).ok_or(DeskError::Unknown)?;
                switches(&seen.subscription.commands)
            }
        };
        let named = if commands.is_empty() { Switches::ALL } else { switches(&commands) };
        let both = CallbackCommand::ALL.into_iter();
        let both: Switches = both.filter(|one| asked.has(*one) && named.has(*one)).collect();
        let cursor = self.place(app, &page.from).await?;
        let look = self.look(cursor, page.items_max, move |journal, cursor, reach| {
            owed_calls(journal, app, both, cursor, reach)
        });
        let (scanned, cursor) = look.await?;
        let items = scanned.items.into_iter().map(|OwedCall { id, user, at, body }| EventSeen {
            id: id.to_string(),
            command: id.command.name(),
            partition: id.partition,
            offset: id.offset,
            user,
            at,
            body,
        });
        Ok(Page { items: items.collect(), cursor, complete: scanned.complete })
    }

    async fn letters_page(
        &self,
        app: AppId,
        wanted: PageWanted,
    ) -> Result<Page<LetterSeen>, DeskError> {
        let cursor = self.place(app, &wanted.from).await?;
        let look = self.look(cursor, wanted.items_max, move |journal, cursor, reach| {
            letters(journal, app, wanted.name.as_deref(), cursor, reach)
        });
        let (scanned, cursor) = look.await?;
        let items =
            scanned.items.into_iter().map(|Letter { subscription, replay, letter }| LetterSeen {
                name: subscription,
                replay: replay.unwrap_or(0),
                id: letter.id,
                user: letter.user,
                attempts: letter.attempts,
                at: letter.at,
                error: letter.error,
            });
        Ok(Page { items: items.collect(), cursor, complete: scanned.complete })
    }

    async fn log_page(
        &self,
        app: AppId,
        wanted: LogWanted,
    ) -> Result<Page<DeliverySeen>, DeskError> {
        let LogWanted { page, id, user, state } = wanted;
        let id = match id.map(|id| id.parse::<CallId>()).transpose() {
            Ok(id) => id,
            // No call is called so.
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
            return Err(DeskError::Unknown);
        }
        let asked = audit::Asked { subscription, id, user, state: state.map(str::to_owned) };
        let cursor = self.place(app, &page.from).await?;
        let look = self.look(cursor, page.items_max, move |journal, cursor, reach| {
            if let Some(id) = asked.id {
                match ScanCursor::in_front_of(journal, id, &standpoints)? {
                    Some(place) => *cursor = place,
                    None => return Ok(audit::Scanned { items: Vec::new(), complete: true }),
                }
            }
            audit::delivered(journal, app, &asked, &standpoints, cursor, reach)
        });
        let (scanned, cursor) = look.await?;
        let items = scanned.items.into_iter().map(|item| DeliverySeen {
            name: item.subscription,
            id: item.id.to_string(),
            user: item.user,
            at: item.at,
            state: item.state.unwrap_or("passed"),
            attempts: item.attempts,
            error: item.error,
        });
        Ok(Page { items: items.collect(), cursor, complete: scanned.complete })
    }

    async fn all_statuses(
        &self,
        app: AppId,
        wanted: Option<Box<str>>,
    ) -> Result<Vec<StatusSeen>, DeskError> {
        let mut statuses: BTreeMap<(String, u32), StatusSeen> = BTreeMap::new();
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
            return Err(DeskError::Unknown);
        }
        Ok(statuses.into_values().collect())
    }
}

/// Adds what the cursor of one partition says.
fn note(status: &mut StatusSeen, partition: Partition, cursor: Cursor) {
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
    status.parked.extend(progress.parked.into_iter().map(|parked| ParkedSeen {
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

impl Deliveries for Directory {
    fn events(&self, app: AppId, wanted: EventsWanted) -> Asked<'_, Page<EventSeen>> {
        Box::pin(self.events_page(app, wanted))
    }

    fn dead_letters(&self, app: AppId, wanted: PageWanted) -> Asked<'_, Page<LetterSeen>> {
        Box::pin(self.letters_page(app, wanted))
    }

    fn log(&self, app: AppId, wanted: LogWanted) -> Asked<'_, Page<DeliverySeen>> {
        Box::pin(self.log_page(app, wanted))
    }

    fn statuses(&self, app: AppId, name: Option<Box<str>>) -> Asked<'_, Vec<StatusSeen>> {
        Box::pin(self.all_statuses(app, name))
    }
}
