//! `cordon migrate`: the same journal, kept elsewhere from now on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::arguments::MigrateArgs;
use super::audit::lenient_apps;
use crate::app;
use crate::audit::{Format, verify};
use crate::clock::Clock;
use crate::config::{Config, Environment, make_data_dir};
use crate::journal::copy::{Digest, copy};
use crate::journal::{Journal, ReadJournal, embedded, kafka};

/// How many records pass between two words about the progress.
const SAY_EVERY: u64 = 1_000_000;

pub(super) fn migrate(
    args: &MigrateArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let config = args.settings.load(environment)?;
    let data_dir = args.data_dir.as_deref().unwrap_or(&config.server.data_dir);
    let folder = app::journal_dir(data_dir);
    let mut settings = app::kafka_settings(&config);
    if !args.kafka.is_empty() {
        settings.cluster.brokers.clone_from(&args.kafka);
    }
    if settings.cluster.brokers.is_empty() {
        bail!("which Kafka cluster? give --kafka, or kafka.brokers (CORDON_KAFKA_BROKERS)");
    }
    let rules = verify::Options {
        import_ignores_blocklist: lenient_apps(&config),
        format: Format::Table,
        ..verify::Options::default()
    };
    tracing::info!(kafka.brokers = settings.cluster.brokers.join(","), "asking the brokers");
    let kafka_name = format!("{}journal", settings.cluster.prefix);
    if args.back {
        let from = kafka::ReadOnly::open(settings.cluster)?;
        if folder.exists() {
            bail!("{} exists: a copy needs a new folder, so move it away first", folder.display());
        }
        // A node would take half a journal for a whole one. What a copy that was broken off has left there
        // is gone on with.
        let draft = app::unfinished_dir(data_dir);
        make_data_dir(data_dir)?;
        let to = open_embedded(&config, &draft, from.partitions())?;
        carry((&from, &kafka_name), (&*to, &folder.display().to_string()), &rules, out)?;
        drop(to);
        let kept = fs::rename(&draft, &folder).and_then(|()| File::open(data_dir)?.sync_all());
        kept.with_context(|| {
            format!("the copy is whole but cannot be renamed to {}", folder.display())
        })?;
        unmark_moved(data_dir)
    } else {
        if !folder.exists() {
            bail!(
                "there is no journal at {}: name its data folder with --data-dir",
                folder.display()
            );
        }
        // Opened for writing, so that no node can write it meanwhile.
        let partitions = embedded::ReadOnly::open(&folder)?.partitions();
        let from = open_embedded(&config, &folder, partitions)?;
        settings.partitions = partitions;
        let to = kafka::Journal::open_for_copy(&settings)?;
        carry((&*from, &folder.display().to_string()), (&*to, &kafka_name), &rules, out)?;
        // Before anybody may serve the copy: two journals that go on by themselves are none.
        mark_moved(data_dir, &kafka_name)?;
        Ok(to.end_copy()?)
    }
}

/// Says in the data folder that its journal has moved; durable when this returns.
fn mark_moved(data_dir: &Path, to: &str) -> Result<()> {
    let mark = app::moved_mark(data_dir);
    let write = || {
        let mut file = File::create(&mark)?;
        writeln!(file, "copied to {to} at {}", Clock::system().now())?;
        file.sync_all()?;
        File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", mark.display()))
}

/// The journal is back.
fn unmark_moved(data_dir: &Path) -> Result<()> {
    let mark = app::moved_mark(data_dir);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {} by hand", mark.display()))
        }
        _ => Ok(()),
    }
}

fn open_embedded(
    config: &Config,
    folder: &Path,
    partitions: u16,
) -> Result<Arc<embedded::Journal>> {
    Ok(embedded::Journal::open(embedded::Settings {
        partitions,
        segment_bytes: config.journal.segment_bytes.0,
        ..embedded::Settings::new(folder)
    })?)
}

/// Copies one named journal into another; both have to hold what is promised by `rules`.
fn carry(
    (from, from_name): (&dyn ReadJournal, &str),
    (to, to_name): (&dyn Journal, &str),
    rules: &verify::Options,
    out: &mut impl Write,
) -> Result<()> {
    check(from, from_name, rules)?;
    writeln!(out, "{from_name} holds what was promised")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut said = 0;
    let copied = runtime.block_on(copy(from, to, |so_far| {
        if so_far.records / SAY_EVERY > said {
            said = so_far.records / SAY_EVERY;
            tracing::info!(records = so_far.records, bytes = so_far.bytes, "copied so far");
        }
    }))?;
    writeln!(
        out,
        "{} records copied, {} bytes, digest {}",
        copied.records, copied.bytes, copied.digest
    )?;
    if copied.found > 0 {
        writeln!(out, "{} of them were there already, from an interrupted copy", copied.found)?;
    }
    check(to, to_name, rules)?;
    for (side, name) in [(from, from_name), (to, to_name)] {
        let digest =
            Digest::of(side).with_context(|| format!("{name} cannot be read after the copy"))?;
        if digest != copied.digest {
            bail!(
                "{name} was written during the copy: stop every node that uses it, and begin again"
            );
        }
    }
    writeln!(out, "{to_name} holds the same, record by record")?;
    Ok(())
}

/// Verifies one side; its report is printed only if something is wrong with it.
fn check(journal: &dyn ReadJournal, name: &str, rules: &verify::Options) -> Result<()> {
    let mut report = Vec::new();
    if !verify::run(journal, rules, &mut report)?.holds {
        bail!("{name} fails verification:\n{}", String::from_utf8_lossy(&report));
    }
    Ok(())
}
