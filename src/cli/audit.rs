//! `cordon replay`, `history`, `state` and `verify`: which journal, which state store, how it ended.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};

use super::arguments::{HistoryArgs, JournalArgs, ReplayArgs, StateArgs, VerifyArgs};
use crate::app;
use crate::audit::verify::StoredRows;
use crate::audit::webhooks::Bound;
use crate::audit::{Filter, Format, history, replay, state, verify};
use crate::config::{Config, Environment};
use crate::domain::{AppId, Timestamp};
use crate::journal::{Offset, Partition, ReadJournal, embedded, kafka};
use crate::store::{self, StoreError, Tables};

/// Memory for the state store's blocks while it is checked.
const STORE_CACHE_BYTES: u64 = 16 << 20;

pub(super) fn open(args: &JournalArgs, environment: &Environment) -> Result<Box<dyn ReadJournal>> {
    Ok(match args.cluster(environment)? {
        Some(cluster) => Box::new(kafka::ReadOnly::open(cluster)?),
        None => {
            Box::new(embedded::ReadOnly::open(&app::journal_dir(&args.data_dir(environment)?))?)
        }
    })
}

pub(super) fn format(args: &JournalArgs) -> Format {
    if args.json { Format::Json } else { Format::Table }
}

/// Errors: records cannot be read, so what was printed may be incomplete.
pub(super) fn all_read(unreadable: u64) -> Result<()> {
    if unreadable > 0 {
        bail!("{unreadable} records cannot be read, so this may be incomplete: run cordon verify");
    }
    Ok(())
}

/// One end of a range. Errors: several moments, or moments beside places.
pub(super) fn bound(said: &[Bound]) -> Result<Option<Bound>> {
    let mut bound: Option<Bound> = None;
    for one in said {
        bound = Some(match (bound, one) {
            (None, one) => one.clone(),
            (Some(Bound::Places(mut known)), Bound::Places(places)) => {
                known.extend(places);
                Bound::Places(known)
            }
            (Some(_), _) => bail!("--from and --to each take one moment, or places"),
        });
    }
    Ok(bound)
}

/// The same, as the one of both that it is.
pub(super) fn moment_or_places(
    bound: Option<Bound>,
) -> (Option<Timestamp>, Vec<(Partition, Offset)>) {
    match bound {
        None => (None, Vec::new()),
        Some(Bound::Time(at)) => (Some(at), Vec::new()),
        Some(Bound::Places(places)) => (None, places),
    }
}

pub(super) fn replay(
    args: &ReplayArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let named = args.user.map(|user| user.beside(args.app)).transpose()?;
    let (since, places) = moment_or_places(bound(&args.from)?);
    let options = replay::Options {
        filter: Filter {
            app: named.map_or(args.app, |(app, _)| app),
            user: named.map(|(_, user)| user),
            pair: args.pair,
            types: args.types.clone(),
            since,
            until: args.to,
        },
        from: places,
        limit: args.limit,
        all: args.all,
        format: format(&args.journal),
    };
    all_read(replay::run(&*open(&args.journal, environment)?, &options, out)?.unreadable)
}

pub(super) fn history(
    args: &HistoryArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let (app, user) = args.user.beside(args.app)?;
    let options = history::Options {
        app,
        user,
        since: args.from,
        until: args.to,
        format: format(&args.journal),
    };
    all_read(history::run(&*open(&args.journal, environment)?, &options, out)?.unreadable)
}

pub(super) fn state(
    args: &StateArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let (app, user) = args.user.beside(args.app)?;
    let options = state::Options { app, user, at: args.at, format: format(&args.journal) };
    all_read(state::run(&*open(&args.journal, environment)?, &options, out)?.unreadable)
}

pub(super) fn verify(
    args: &VerifyArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let journal = open(&args.journal, environment)?;
    let folder = args.journal.store_dir(environment)?;
    // Before the journal, so that the journal is never behind what is compared with it.
    let (stored, notes) = match folder.map(|folder| stored(&folder, journal.partitions())) {
        Some(Ok(stored)) => (stored, Vec::new()),
        Some(Err(note)) => (Vec::new(), vec![note]),
        None => (Vec::new(), Vec::new()),
    };
    // Settings that cannot be read say nothing: an audit of a folder needs none.
    let config = args.journal.settings.load(environment);
    let options = verify::Options {
        stored,
        notes,
        import_ignores_blocklist: config.map(|config| lenient_apps(&config)).unwrap_or_default(),
        format: format(&args.journal),
    };
    let report = verify::run(&*journal, &options, out)?;
    if !report.holds {
        bail!("verification failed: each problem is listed above");
    }
    Ok(())
}

/// The apps of the settings that let imports pass blocklists.
pub(super) fn lenient_apps(config: &Config) -> BTreeSet<AppId> {
    let lenient = config.apps.iter().filter(|app| app.friend.import_ignores_blocklist);
    lenient.map(|app| app.id).collect()
}

/// What the state store holds of each partition; a note if that cannot be compared.
fn stored(folder: &Path, partitions: u16) -> Result<Vec<StoredRows>, String> {
    if !folder.exists() {
        return Err("there is no state store; the next start makes one".into());
    }
    let settings = store::Settings { dir: folder.to_owned(), cache_bytes: STORE_CACHE_BYTES };
    let tables = match Tables::existing(&settings) {
        Ok(Some(tables)) => tables,
        Ok(None) => {
            return Err("the state store was made by another version, and was not compared".into());
        }
        Err(StoreError::InUse { .. }) => {
            return Err("a node is running, so its state store was not compared".into());
        }
        Err(error) => return Err(format!("the state store was not compared: {error}")),
    };
    let read = |partition| {
        let Some(mark) = tables.mark(partition)? else { return Ok(None) };
        StoredRows::of(partition, mark.next, tables.partition_rows(partition)).map(Some)
    };
    let stored: Result<Vec<Option<StoredRows>>, StoreError> =
        (0..partitions).map(Partition).map(read).collect();
    match stored {
        Ok(stored) => Ok(stored.into_iter().flatten().collect()),
        Err(error) => Err(format!("the state store was not compared: {error}")),
    }
}
