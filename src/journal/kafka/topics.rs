//! The topics, as the promises need them: created if missing, refused if otherwise. Rule:
//! cluster.md 10.1.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::Settings;
use super::client::{Client, QUESTION_TIMEOUT, Quiet, unreachable};
use crate::journal::JournalError;

/// How long a start waits for the cluster and its topics.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits between two looks at new topics.
const LOOK: Duration = Duration::from_millis(50);
/// In-sync copies that an acknowledgement needs, outside development.
const IN_SYNC_MIN: u16 = 2;

/// A topic that a cluster of nodes has.
struct Topic {
    name: &'static str,
    one_partition: bool,
    settings: &'static [(&'static str, &'static str)],
}

const TOPICS: [Topic; 4] = [
    Topic {
        name: "journal",
        one_partition: false,
        settings: &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("compression.type", "producer"),
            ("max.message.bytes", "1048576"),
            ("message.timestamp.type", "CreateTime"),
            ("unclean.leader.election.enable", "false"),
        ],
    },
    Topic {
        name: "snapshots",
        one_partition: false,
        settings: &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.3"),
            ("max.message.bytes", "1048576"),
        ],
    },
    Topic {
        name: "owners",
        one_partition: true,
        settings: &[("cleanup.policy", "compact"), ("segment.ms", "600000")],
    },
    Topic {
        name: "members",
        one_partition: true,
        settings: &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "600000"),
            ("message.timestamp.type", "LogAppendTime"),
        ],
    },
];

type Admin = AdminClient<Quiet>;

/// Creates the topics that are missing and checks those that are there.
pub(super) fn prepare(client: &Client, settings: &Settings) -> Result<(), JournalError> {
    // On a thread of its own, because the caller's may run a runtime already.
    std::thread::scope(|scope| {
        let preparing = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|source| JournalError::Io {
                    action: "start a runtime for questions to kafka".into(),
                    source,
                })?;
            runtime.block_on(prepare_all(client, settings))
        });
        preparing.join().unwrap_or_else(|_| {
            Err(JournalError::Unreachable { reason: "looking at kafka's topics panicked".into() })
        })
    })
}

async fn prepare_all(client: &Client, settings: &Settings) -> Result<(), JournalError> {
    let admin = AdminClient::from_config_and_context(&client.config(), Quiet)
        .map_err(|error| unreachable(&error))?;
    let deadline = Instant::now() + PATIENCE;
    let names: Vec<String> =
        TOPICS.iter().map(|topic| client.settings().topic(topic.name)).collect();
    let known = loop {
        match metadata(&admin) {
            Ok(known) => break known,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    let missing = TOPICS.iter().zip(&names).filter(|(_, name)| partitions(&known, name).is_none());
    let missing: Vec<(&Topic, &String)> = missing.collect();
    if !missing.is_empty() {
        create(&admin, settings, &missing).await?;
        // Brokers hear of new topics one after the other.
        loop {
            let known = metadata(&admin)?;
            if names.iter().all(|name| partitions(&known, name).is_some()) {
                break;
            }
            if Instant::now() >= deadline {
                return Err(JournalError::Unreachable {
                    reason: "kafka does not show the topics that it has created".into(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    let known = metadata(&admin)?;
    for (topic, name) in TOPICS.iter().zip(&names) {
        check_partitions(&known, topic, name, settings)?;
        check_settings(&admin, topic, name, settings).await?;
    }
    Ok(())
}

fn metadata(admin: &Admin) -> Result<Metadata, JournalError> {
    admin.inner().fetch_metadata(None, QUESTION_TIMEOUT).map_err(|error| unreachable(&error))
}

/// How many partitions the topic `name` has, if it is there and every partition has a leader.
pub(super) fn partitions(metadata: &Metadata, name: &str) -> Option<u16> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
    let whole = topic.error().is_none()
        && !topic.partitions().is_empty()
        && topic.partitions().iter().all(|partition| partition.leader() >= 0);
    whole.then(|| topic.partitions().len().try_into().unwrap_or(u16::MAX))
}

async fn create(
    admin: &Admin,
    settings: &Settings,
    missing: &[(&Topic, &String)],
) -> Result<(), JournalError> {
    let in_sync = settings.replication.clamp(1, IN_SYNC_MIN).to_string();
    let new = missing.iter().map(|(topic, name)| {
        let partitions = if topic.one_partition { 1 } else { i32::from(settings.partitions) };
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
            Ok(name) => tracing::info!(topic = name, "created in kafka"),
            // Another node was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                let problem = format!("kafka does not create it: {code}");
                return Err(JournalError::Topic { topic, problem });
            }
        }
    }
    Ok(())
}

fn check_partitions(
    known: &Metadata,
    topic: &Topic,
    name: &str,
    settings: &Settings,
) -> Result<(), JournalError> {
    let expected = if topic.one_partition { 1 } else { settings.partitions };
    let found = partitions(known, name).unwrap_or(0);
    if found != expected {
        if topic.name == "journal" {
            return Err(JournalError::Partitions { found, expected });
        }
        let problem = format!("it has {found} partitions, not {expected}");
        return Err(JournalError::Topic { topic: name.to_owned(), problem });
    }
    let described = known.topics().iter().find(|known| known.name() == name);
    let copies = described
        .into_iter()
        .flat_map(|described| described.partitions())
        .map(|partition| partition.replicas().len())
        .min()
        .unwrap_or(0);
    if copies < usize::from(IN_SYNC_MIN) && !settings.development {
        let problem = format!(
            "it has {copies} copy of each record; at least {IN_SYNC_MIN} are needed \
             (kafka.replication), or kafka.development = true on a machine that may lose everything"
        );
        return Err(JournalError::Topic { topic: name.to_owned(), problem });
    }
    Ok(())
}

/// Holds the topic's settings against what the promises need.
async fn check_settings(
    admin: &Admin,
    topic: &Topic,
    name: &str,
    settings: &Settings,
) -> Result<(), JournalError> {
    let question = [ResourceSpecifier::Topic(name)];
    let options = AdminOptions::new().request_timeout(Some(QUESTION_TIMEOUT));
    let mut answers =
        admin.describe_configs(&question, &options).await.map_err(|error| unreachable(&error))?;
    let answer = answers.pop().ok_or_else(|| JournalError::Unreachable {
        reason: format!("kafka does not tell the settings of {name}"),
    })?;
    let described = answer.map_err(|code| JournalError::Unreachable {
        reason: format!("kafka does not tell the settings of {name}: {code}"),
    })?;
    let known: HashMap<&str, &str> = described
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
        .collect();
    let refuse = |setting: &str, found: &str, needed: &str| {
        let problem = format!("{setting} is {found}, and has to be {needed}");
        Err(JournalError::Topic { topic: name.to_owned(), problem })
    };
    let get = |setting: &str| known.get(setting).copied().unwrap_or_default();
    let policy = get("cleanup.policy");
    let compacted = topic.name != "journal";
    if policy != if compacted { "compact" } else { "delete" } {
        return refuse("cleanup.policy", policy, if compacted { "compact" } else { "delete" });
    }
    if !compacted {
        // Compaction or an age limit would take facts away.
        for setting in ["retention.ms", "retention.bytes"] {
            if get(setting) != "-1" {
                return refuse(setting, get(setting), "-1: the journal is kept for ever");
            }
        }
    }
    if topic.name == "members" && get("message.timestamp.type") != "LogAppendTime" {
        let found = get("message.timestamp.type");
        return refuse("message.timestamp.type", found, "LogAppendTime: it is the cluster's clock");
    }
    if settings.development {
        return Ok(());
    }
    let in_sync = get("min.insync.replicas").parse().unwrap_or(0);
    if in_sync < IN_SYNC_MIN {
        return refuse(
            "min.insync.replicas",
            get("min.insync.replicas"),
            "2 or more, so that an acknowledged record outlives a broker",
        );
    }
    if get("unclean.leader.election.enable") == "true" {
        return refuse(
            "unclean.leader.election.enable",
            "true",
            "false: it takes acknowledged records away",
        );
    }
    Ok(())
}
