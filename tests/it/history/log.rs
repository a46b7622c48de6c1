//! The journal as an audit shows it: every record, and which of them count.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cordon::journal::record::decode;
use cordon::journal::{
    Admitted, Body, Commit, Offset, Partition, ReadJournal, ReaderRule, Record, kafka,
};
use serde::Deserialize;
use uuid::Uuid;

use super::Place;
use crate::support::Setup;

/// The records of all partitions, and whether each counts by the product's reader rule.
#[derive(Debug, Default)]
pub(crate) struct Log {
    records: BTreeMap<Place, (Record, bool)>,
}

/// What a line of a replay says beside the record.
#[derive(Deserialize)]
struct Line {
    partition: Partition,
    offset: Offset,
    #[serde(default)]
    void: bool,
    #[serde(default)]
    unreadable: Option<String>,
}

impl Log {
    /// From records in any order; of each partition all from its first on.
    pub(crate) fn from_records(records: impl IntoIterator<Item = (Place, Record)>) -> Self {
        let records = records.into_iter().map(|(place, record)| (place, (record, false)));
        let mut log = Self { records: records.collect() };
        let mut rules: HashMap<Partition, ReaderRule> = HashMap::new();
        for ((partition, _), (record, counts)) in &mut log.records {
            *counts = rules.entry(*partition).or_default().admit(record) != Admitted::Void;
        }
        log
    }

    /// All that nodes with these settings have written into Kafka.
    pub(crate) fn of_kafka(setup: &Setup) -> Self {
        let cluster = cordon::app::kafka_cluster(&setup.config());
        let journal = kafka::ReadOnly::open(cluster).expect("a journal");
        let partitions = (0..journal.partitions()).map(|index| (Partition(index), Offset(0)));
        let mut reader = journal.reader(&partitions.collect::<Vec<_>>()).expect("a reader");
        let mut records = Vec::new();
        loop {
            let entries = reader.next(1 << 20).expect("readable records");
            if entries.is_empty() {
                return Self::from_records(records);
            }
            for entry in entries {
                let record = decode(&entry.bytes).expect("a record");
                records.push(((entry.partition, entry.offset), record));
            }
        }
    }

    /// How many partitions have a record.
    pub(crate) fn partitions(&self) -> u16 {
        self.records.last_key_value().map_or(0, |((partition, _), _)| partition.0 + 1)
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The partitions that somebody claimed after `node` had them and had not let go of them.
    pub(crate) fn taken_from(&self, node: &str) -> BTreeSet<Partition> {
        let mut owners: BTreeMap<Partition, &str> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let counting = self.records.iter().filter(|(_, (_, counts))| *counts);
        for ((partition, _), (record, _)) in counting {
            match &record.body {
                Body::Claim { node: owner, .. } => {
                    let before = owners.insert(*partition, owner);
                    taken.extend((before == Some(node) && *owner != node).then_some(*partition));
                }
                Body::Release { .. } => {
                    owners.remove(partition);
                }
                _ => {}
            }
        }
        taken
    }

    /// From what `cordon replay --all --json` writes. Errors: what is wrong with a line, also one
    /// that calls a record void which counts, or the reverse.
    pub(crate) fn from_lines(text: &str) -> Result<Self, String> {
        let mut records = Vec::new();
        let mut void = Vec::new();
        for line in text.lines() {
            let told: Line =
                serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            if let Some(why) = told.unreadable {
                return Err(format!("{why}: {line}"));
            }
            let record = decode(line.as_bytes()).map_err(|error| format!("{error}: {line}"))?;
            let place = (told.partition, told.offset);
            records.push((place, record));
            if told.void {
                void.push(place);
            }
        }
        let log = Self::from_records(records);
        let other: Vec<Place> =
            log.records.iter().filter(|(_, (_, counts))| !counts).map(|(at, _)| *at).collect();
        void.sort_unstable();
        if void == other { Ok(log) } else { Err(format!("void are {other:?}, not {void:?}")) }
    }

    /// The record at `place`, and whether it counts.
    pub(super) fn at(&self, place: Place) -> Option<(&Record, bool)> {
        self.records.get(&place).map(|(record, counts)| (record, *counts))
    }

    /// Whether somebody claimed the partition after the record at `place`.
    pub(super) fn is_claimed_after(&self, place: Place) -> bool {
        let behind = self.records.range((place.0, place.1)..);
        behind
            .take_while(|(at, _)| at.0 == place.0)
            .any(|(_, (record, counts))| *counts && matches!(record.body, Body::Claim { .. }))
    }

    /// The commits that count, partition by partition in order.
    pub(super) fn commits(&self) -> impl Iterator<Item = (Place, &Commit)> {
        self.records.iter().filter_map(|(place, (record, counts))| match &record.body {
            Body::Commit(commit) if *counts => Some((*place, commit)),
            _ => None,
        })
    }

    /// The same, by the request that they came of, those of effects included.
    pub(super) fn by_request(&self) -> HashMap<Uuid, Vec<(Place, &Commit)>> {
        let mut requests: HashMap<Uuid, Vec<(Place, &Commit)>> = HashMap::new();
        for (place, commit) in self.commits() {
            requests.entry(commit.by.request).or_default().push((place, commit));
        }
        requests
    }
}
