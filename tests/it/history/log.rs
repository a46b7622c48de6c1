//! The journal as an audit shows it: every record, and which of them count.

use std::collections::{BTreeMap, HashMap};

use cordon::journal::record::decode;
use cordon::journal::{Admitted, Body, Commit, Offset, Partition, ReaderRule, Record};
use serde::Deserialize;
use uuid::Uuid;

use super::Place;

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
