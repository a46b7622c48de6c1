//! What the topics have to be like, and why; pure. Rule: cluster.md 10.1.

use std::collections::HashMap;

use super::Settings;
use super::client::BATCH_BYTES_MAX;
use crate::journal::JournalError;

/// In-sync copies that an acknowledgement needs, outside development.
pub(super) const IN_SYNC_MIN: u16 = 2;

/// A topic that a cluster of nodes has.
#[derive(Debug)]
pub(super) struct Topic {
    /// Its name behind the prefix.
    pub(super) name: &'static str,
    kind: Kind,
    /// What it is created with.
    pub(super) settings: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Journal,
    Archive,
    Board,
}

/// Brokers take no record that says to be from more than an hour ahead of them, so nodes whose clocks are
/// that wrong could write nothing. Nobody reads the times.
const BROKERS_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

/// All topics, the journal first.
pub(super) const TOPICS: [Topic; 4] = [
    Topic {
        name: "journal",
        kind: Kind::Journal,
        settings: &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("compression.type", "producer"),
            ("max.message.bytes", "4194304"),
            BROKERS_TIME,
            ("unclean.leader.election.enable", "false"),
        ],
    },
    Topic {
        name: "snapshots",
        kind: Kind::Archive,
        settings: &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.3"),
            ("max.message.bytes", "4194304"),
            BROKERS_TIME,
            ("unclean.leader.election.enable", "false"),
        ],
    },
    Topic {
        name: "owners",
        kind: Kind::Board,
        settings: &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "600000"),
            BROKERS_TIME,
            ("unclean.leader.election.enable", "false"),
        ],
    },
    Topic {
        name: "members",
        kind: Kind::Board,
        settings: &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "600000"),
            BROKERS_TIME,
            ("unclean.leader.election.enable", "false"),
        ],
    },
];

/// The mark of a copy that is not whole: it is there from before the journal's topic is made until both
/// sides of the copy have been compared, and nothing stands in it.
pub(super) const COPYING: Topic =
    Topic { name: "copying", kind: Kind::Board, settings: &[("cleanup.policy", "compact")] };

/// A topic as it was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Its whole name.
    pub(super) name: &'a str,
    /// How many partitions it has.
    pub(super) partitions: u16,
    /// How many brokers keep the partition that the fewest keep.
    pub(super) copies: u16,
    /// Its settings, the brokers' defaults included.
    pub(super) settings: HashMap<String, String>,
}

impl Topic {
    /// How many partitions it has where the journal has `partitions`.
    pub(super) fn partitions(&self, partitions: u16) -> u16 {
        match self.kind {
            Kind::Journal | Kind::Archive => partitions,
            Kind::Board => 1,
        }
    }

    /// Refuses a topic that is not as the promises need it.
    ///
    /// Errors: [`JournalError::Partitions`], [`JournalError::Topic`].
    pub(super) fn check(&self, found: &Found<'_>, wanted: &Settings) -> Result<(), JournalError> {
        let expected = self.partitions(wanted.partitions);
        if found.partitions != expected {
            if self.kind == Kind::Journal {
                return Err(JournalError::Partitions { found: found.partitions, expected });
            }
            return found.refuse(format!("it has {} partitions, not {expected}", found.partitions));
        }
        if found.copies < IN_SYNC_MIN && !wanted.development {
            return found.refuse(format!(
                "it has {} copy of each record; {IN_SYNC_MIN} or more are needed \
                 (kafka.replication), or kafka.development = true on a machine that may lose \
                 everything",
                found.copies
            ));
        }
        let copies = found.copies.to_string();
        found.need(
            "min.insync.replicas",
            |count| number(count) <= i64::from(found.copies),
            || {
                format!(
                    "{copies} or less: it has no more copies, and no record could be acknowledged"
                )
            },
        )?;
        if self.kind == Kind::Journal {
            self.check_journal(found)?;
        } else {
            found.need(
                "cleanup.policy",
                |policy| policy == "compact",
                || "compact: the last value under each key stays".into(),
            )?;
        }
        if wanted.development {
            return Ok(());
        }
        found.need(
            "min.insync.replicas",
            |count| number(count) >= i64::from(IN_SYNC_MIN),
            || format!("{IN_SYNC_MIN} or more: an acknowledged record outlives a broker"),
        )?;
        found.need(
            "unclean.leader.election.enable",
            |enabled| enabled != "true",
            || "false: it takes acknowledged records away".into(),
        )
    }

    fn check_journal(&self, found: &Found<'_>) -> Result<(), JournalError> {
        found.need(
            "cleanup.policy",
            |policy| policy == "delete",
            || "delete: compaction takes facts away".into(),
        )?;
        for limit in ["retention.ms", "retention.bytes"] {
            found.need(
                limit,
                |limit| limit == "-1",
                || "-1: the journal is kept for ever".into(),
            )?;
        }
        found.need(
            "max.message.bytes",
            |bytes| number(bytes) >= BATCH_BYTES_MAX as i64,
            || format!("{BATCH_BYTES_MAX} or more: records can be that large"),
        )
    }
}

impl Found<'_> {
    /// Refuses the setting `name` if it does not `fit`. One that brokers do not tell fits: they are too
    /// old to have it.
    fn need(
        &self,
        name: &str,
        fits: impl FnOnce(&str) -> bool,
        needed: impl FnOnce() -> String,
    ) -> Result<(), JournalError> {
        match self.settings.get(name) {
            Some(value) if !fits(value) => {
                self.refuse(format!("{name} is {value}, and has to be {}", needed()))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, problem: String) -> Result<(), JournalError> {
        Err(JournalError::Topic { topic: self.name.to_owned(), problem })
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterSettings, Security};
    use super::*;

    fn wanted(development: bool) -> Settings {
        Settings {
            cluster: ClusterSettings {
                brokers: Vec::new(),
                prefix: "t.".into(),
                security: Security::default(),
                client_id: "t".into(),
            },
            partitions: 8,
            replication: 3,
            development,
            pending_bytes_max: 1 << 20,
        }
    }

    /// The topic `name` as it is created, with three copies.
    fn found(name: &'static str) -> (&'static Topic, Found<'static>) {
        let topic = TOPICS.iter().find(|topic| topic.name == name).expect("a topic");
        let own = [("min.insync.replicas", "2")].into_iter().chain(topic.settings.iter().copied());
        let settings = own.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        (topic, Found { name, partitions: topic.partitions(8), copies: 3, settings })
    }

    /// What is said of the topic `name` once `setting` has another value.
    fn refusal(name: &'static str, setting: &str, value: &str, development: bool) -> String {
        let (topic, mut found) = found(name);
        found.settings.insert(setting.to_owned(), value.to_owned());
        match topic.check(&found, &wanted(development)) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn topics_as_they_are_created_are_right() {
        for topic in &TOPICS {
            let (topic, found) = found(topic.name);
            topic.check(&found, &wanted(false)).expect("it is right");
        }
    }

    #[test]
    fn each_setting_that_breaks_a_promise_is_refused_with_its_value_and_what_is_needed() {
        let cases = [
            ("journal", "cleanup.policy", "compact", "has to be delete: compaction"),
            ("journal", "cleanup.policy", "compact,delete", "has to be delete: compaction"),
            ("journal", "retention.ms", "604800000", "has to be -1: the journal is kept for ever"),
            ("journal", "retention.bytes", "1", "has to be -1: the journal is kept for ever"),
            ("journal", "max.message.bytes", "1000", "has to be 4194304 or more"),
            ("journal", "min.insync.replicas", "4", "has to be 3 or less"),
            ("snapshots", "cleanup.policy", "delete", "has to be compact"),
            ("owners", "cleanup.policy", "delete", "has to be compact"),
            ("members", "cleanup.policy", "delete", "has to be compact"),
        ];
        for (topic, setting, value, needed) in cases {
            for development in [false, true] {
                let refusal = refusal(topic, setting, value, development);
                let named = format!("the topic {topic}: {setting} is {value}, and {needed}");
                assert!(refusal.starts_with(&named), "{refusal}");
            }
        }
    }

    #[test]
    fn what_may_lose_acknowledged_records_is_for_development_only() {
        for topic in ["journal", "snapshots", "owners", "members"] {
            for (setting, value) in
                [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")]
            {
                let refusal = self::refusal(topic, setting, value, false);
                assert!(refusal.contains(&format!("{setting} is {value}")), "{refusal}");
                assert_eq!(self::refusal(topic, setting, value, true), "");
            }
            let (topic, found) = found(topic);
            let mut settings = found.settings.clone();
            settings.insert("min.insync.replicas".into(), "1".into());
            let found = Found { copies: 1, settings, ..found };
            let refused = topic.check(&found, &wanted(false)).expect_err("one copy").to_string();
            assert!(refused.contains("it has 1 copy of each record; 2 or more"), "{refused}");
            topic.check(&found, &wanted(true)).expect("development takes one copy");
        }
    }

    #[test]
    fn another_number_of_partitions_is_refused_with_both() {
        let (topic, mut found) = found("journal");
        found.partitions = 3;
        let refused = topic.check(&found, &wanted(true)).expect_err("three").to_string();
        assert_eq!(
            refused,
            "the journal has 3 partitions, the settings say 8: set journal.partitions to 3"
        );
        let (topic, mut found) = self::found("members");
        found.partitions = 2;
        let refused = topic.check(&found, &wanted(true)).expect_err("two").to_string();
        assert_eq!(refused, "the topic members: it has 2 partitions, not 1");
    }
}
