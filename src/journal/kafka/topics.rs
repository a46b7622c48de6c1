//! Sees to the topics at a start: those that are missing are created, the others looked at.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::client::{Client, QUESTION_TIMEOUT, Quiet, is_passing, unreachable};
use super::requirements::{COPYING, Found, IN_SYNC_MIN, TOPICS, Topic};
use super::{ClusterSettings, Settings};
use crate::journal::JournalError;

/// How long each step of a start waits for the cluster, and whoever only looks at a journal: a cluster
/// that is slow gets through all steps, and one that is gone ends the first.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits before it asks again.
const LOOK: Duration = Duration::from_millis(50);

type Admin = AdminClient<Quiet>;

/// What a journal is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A node serves what it holds.
    Serve,
    /// A copy fills it.
    Fill,
}

/// Creates the topics that are missing and checks those that are there. Nodes may do so at the same
/// time. With a copy, the mark of one that is not whole is among them.
pub(super) fn prepare(
    client: &Client,
    settings: &Settings,
    purpose: Purpose,
) -> Result<(), JournalError> {
    apart(|| prepare_all(client, settings, purpose)).map_err(|error| with_brokers(error, client))
}

/// Says of whom nothing was heard, and for how long.
pub(super) fn with_brokers(error: JournalError, client: &Client) -> JournalError {
    match error {
        JournalError::Unreachable { reason } => {
            let (brokers, asked_s) = (client.settings().brokers.join(","), PATIENCE.as_secs());
            let reason = format!("{reason}; asked for up to {asked_s} s: {brokers}");
            JournalError::Unreachable { reason }
        }
        error => error,
    }
}

/// Takes the mark of a copy away: what it has filled may be served.
pub(super) fn end_copy(client: &Client) -> Result<(), JournalError> {
    apart(|| unmark(client))
}

/// Runs questions to the cluster on a thread of their own, because the caller's may run a runtime
/// already.
fn apart<F>(questions: impl FnOnce() -> F + Send) -> Result<(), JournalError>
where
    F: Future<Output = Result<(), JournalError>>,
{
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|source| JournalError::Io {
                    action: "start a runtime for questions to kafka".into(),
                    source,
                })?;
            runtime.block_on(questions())
        });
        asking.join().unwrap_or_else(|_| {
            Err(JournalError::Unreachable { reason: "looking at kafka's topics panicked".into() })
        })
    })
}

async fn prepare_all(
    client: &Client,
    settings: &Settings,
    purpose: Purpose,
) -> Result<(), JournalError> {
    let admin = admin(client)?;
    let (mark, journal) = (client.settings().topic(COPYING.name), client.journal_topic());
    let mut wanted: Vec<(&Topic, String)> =
        TOPICS.iter().map(|topic| (topic, client.settings().topic(topic.name))).collect();
    let mut known = metadata(admin.inner(), client)?;
    refuse_without_journal(&known, &journal, &wanted)?;
    if purpose == Purpose::Fill {
        if !exists(&known, &mark) {
            refuse_records(&admin, &known, &journal)?;
        }
        wanted.push((&COPYING, mark.clone()));
    }
    let (mut missed, mut deadline) = (usize::MAX, Instant::now() + PATIENCE);
    loop {
        if purpose == Purpose::Serve {
            refuse_half(&known, client.settings())?;
        }
        let mut missing: Vec<&(&Topic, String)> =
            wanted.iter().filter(|(_, name)| topic(&known, name).is_none()).collect();
        if missing.len() < missed {
            (missed, deadline) = (missing.len(), Instant::now() + PATIENCE);
        }
        // The mark of a copy before the journal, and the journal before the others: beside them it is
        // never missing but if it is lost.
        for first in [&mark, &journal] {
            if missing.iter().any(|(_, name)| name == first) {
                missing.retain(|(_, name)| name == first);
            }
        }
        let Some((_, first)) = missing.first() else { break };
        if Instant::now() >= deadline {
            let reason = format!("kafka does not show the topic {first}, which was created");
            return Err(JournalError::Unreachable { reason });
        }
        // A topic that another node creates meanwhile, or that not all brokers know yet, is taken as it
        // is.
        create(&admin, settings, &missing).await?;
        tokio::time::sleep(LOOK).await;
        known = metadata(admin.inner(), client)?;
    }
    for (topic, name) in &wanted {
        let described = self::topic(&known, name).ok_or_else(|| JournalError::Unreachable {
            reason: format!("kafka does not show the topic {name}"),
        })?;
        let settings_found = settings_of(&admin, name).await?;
        let copies = described.partitions().iter().map(|partition| partition.replicas().len());
        let found = Found {
            name,
            partitions: partitions(described),
            copies: copies.min().unwrap_or(0).try_into().unwrap_or(u16::MAX),
            settings: settings_found,
        };
        topic.check(&found, settings)?;
    }
    Ok(())
}

/// Errors: there is no journal, and a topic that never was without one.
fn refuse_without_journal(
    known: &Metadata,
    journal: &str,
    wanted: &[(&Topic, String)],
) -> Result<(), JournalError> {
    let other = wanted.iter().find(|(_, name)| exists(known, name));
    let Some((_, other)) = other.filter(|_| !exists(known, journal)) else { return Ok(()) };
    let problem = format!(
        "it does not exist, but {other} does: the journal was deleted, or these are topics of \
         another one. Bring it back; or, to begin with an empty journal, delete the other topics \
         and the state of all nodes"
    );
    Err(JournalError::Topic { topic: journal.to_owned(), problem })
}

/// Errors: a copy has not filled the journal yet. Whoever read it would miss blocks.
pub(super) fn refuse_half(
    known: &Metadata,
    settings: &ClusterSettings,
) -> Result<(), JournalError> {
    let mark = settings.topic(COPYING.name);
    if !exists(known, &mark) {
        return Ok(());
    }
    let problem = format!(
        "it marks an unfinished copy into {}, and half a journal is not served. Let the copy end; or run \
         the same cordon migrate again, to resume it; or, to begin with another journal, delete this \
         topic last, after all others of that prefix",
        settings.topic("journal")
    );
    Err(JournalError::Topic { topic: mark, problem })
}

/// Errors: the journal has records, and no copy has begun it.
fn refuse_records(admin: &Admin, known: &Metadata, journal: &str) -> Result<(), JournalError> {
    let count = topic(known, journal).map_or(0, partitions);
    for partition in 0..count {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            let asked = admin.inner().fetch_watermarks(journal, partition.into(), QUESTION_TIMEOUT);
            match asked {
                Ok((_, end)) => break end,
                Err(error) => wait_after(&error, deadline)?,
            }
        };
        if end > 0 {
            let problem = format!(
                "it is not empty: partition {partition} ends at offset {end}. A journal is copied into \
                 topics that are empty or not there"
            );
            return Err(JournalError::Topic { topic: journal.to_owned(), problem });
        }
    }
    Ok(())
}

async fn unmark(client: &Client) -> Result<(), JournalError> {
    let admin = admin(client)?;
    let deadline = Instant::now() + PATIENCE;
    let mark = client.settings().topic(COPYING.name);
    let options =
        AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    while exists(&metadata(admin.inner(), client)?, &mark) {
        let deleted = admin.delete_topics(&[mark.as_str()], &options).await;
        let mut why = "it is still there".to_owned();
        let mut is_final = Instant::now() >= deadline;
        for result in deleted.map_err(|error| unreachable(&error))? {
            if let Err((_, code)) = result {
                why = code.to_string();
                is_final |= !is_passing(&KafkaError::MetadataFetch(code));
            }
        }
        if is_final {
            let problem = format!(
                "the copy is whole, but kafka does not delete this mark of it: {why}. Delete it; until \
                 then no node starts"
            );
            return Err(JournalError::Topic { topic: mark, problem });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn admin(client: &Client) -> Result<Admin, JournalError> {
    AdminClient::from_config_and_context(&client.config(), Quiet)
        .map_err(|error| unreachable(&error))
}

/// Whether the topic `name` is there, or about to be.
fn exists(known: &Metadata, name: &str) -> bool {
    known.topics().iter().any(|topic| topic.name() == name)
}

/// All topics of the cluster, asked for until it answers, or [`PATIENCE`] is over. Asked by name, a
/// broker might create what it does not have. Blocks.
pub(super) fn metadata(
    library: &rdkafka::client::Client<Quiet>,
    client: &Client,
) -> Result<Metadata, JournalError> {
    let (deadline, mut is_told) = (Instant::now() + PATIENCE, false);
    loop {
        let error = match library.fetch_metadata(None, QUESTION_TIMEOUT) {
            Ok(known) => return Ok(known),
            Err(error) => error,
        };
        if !std::mem::replace(&mut is_told, true) {
            let brokers = client.settings().brokers.join(",");
            tracing::warn!(kafka.brokers = brokers, %error, "no broker answers yet; asking again");
        }
        wait_after(&error, deadline)?;
    }
}

/// Waits a little after a trouble that may pass; gives up otherwise, and at the deadline.
fn wait_after(error: &KafkaError, deadline: Instant) -> Result<(), JournalError> {
    if !is_passing(error) || Instant::now() >= deadline {
        return Err(unreachable(error));
    }
    // A plain pause: the questions wait for the network anyway, on a thread of their own.
    std::thread::sleep(LOOK);
    Ok(())
}

/// The topic `name`, if it is there and not only about to be.
pub(super) fn topic<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a MetadataTopic> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
    (topic.error().is_none() && !topic.partitions().is_empty()).then_some(topic)
}

/// How many partitions `topic` has.
pub(super) fn partitions(topic: &MetadataTopic) -> u16 {
    topic.partitions().len().try_into().unwrap_or(u16::MAX)
}

async fn create(
    admin: &Admin,
    settings: &Settings,
    missing: &[&(&Topic, String)],
) -> Result<(), JournalError> {
    let in_sync = settings.replication.clamp(1, IN_SYNC_MIN).to_string();
    let new = missing.iter().map(|(topic, name)| {
        let partitions = i32::from(topic.partitions(settings.partitions));
        let copies = TopicReplication::Fixed(i32::from(settings.replication));
        let mut new = NewTopic::new(name, partitions, copies).set("min.insync.replicas", &in_sync);
        for (key, value) in topic.settings {
            new = new.set(key, value);
        }
        new
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let options =
        AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let created = admin.create_topics(&new, &options).await.map_err(|error| unreachable(&error))?;
    for result in created {
        match result {
            Ok(name) => tracing::info!(kafka.topic = name, "a topic is created in kafka"),
            // Another node was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            // The next look shows what became of it.
            Err((_, code)) if is_passing(&KafkaError::MetadataFetch(code)) => {}
            Err((topic, code)) => {
                let copies = settings.replication;
                let problem = format!("kafka does not create it with {copies} copies: {code}");
                return Err(JournalError::Topic { topic, problem });
            }
        }
    }
    Ok(())
}

/// What the topic `name` is set to.
async fn settings_of(admin: &Admin, name: &str) -> Result<HashMap<String, String>, JournalError> {
    let deadline = Instant::now() + PATIENCE;
    let question = [ResourceSpecifier::Topic(name)];
    let options = AdminOptions::new().request_timeout(Some(QUESTION_TIMEOUT));
    loop {
        let answers = admin.describe_configs(&question, &options).await;
        match answers.map(|mut answers| answers.pop()) {
            Ok(Some(Ok(described))) => {
                let entries = described.entries.into_iter();
                return Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect());
            }
            Ok(Some(Err(code))) | Err(KafkaError::AdminOp(code)) => {
                wait_after(&KafkaError::MetadataFetch(code), deadline)?;
            }
            Ok(None) => wait_after(&KafkaError::Canceled, deadline)?,
            Err(error) => wait_after(&error, deadline)?,
        }
    }
}
