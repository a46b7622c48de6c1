//! What `schemas/record.json` says: the records that a node of a test writes are held to it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

use super::{Setup, audit};

/// How many of a journal's records are looked at, the last ones: each takes a millisecond.
const RECORDS_MAX: usize = 300;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let record = serde_json::from_slice(&read("record.json").expect("it is there"));
    jsonschema::options()
        .with_base_uri("file:///record.json")
        .with_retriever(Schemas)
        .build(&record.expect("the schema is JSON"))
        .expect("the schema is one")
});

/// Resolves the references between the schemas as anybody would who has the folder.
struct Schemas;

impl Retrieve for Schemas {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(&read(uri.path().as_str().trim_start_matches('/'))?)?)
    }
}

fn read(name: &str) -> std::io::Result<Vec<u8>> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name))
}

/// The schema of a stored record, compiled.
pub(crate) fn record_schema() -> &'static Validator {
    &SCHEMA
}

/// Fails the test if one of the last [`RECORDS_MAX`] records in the journal is not as described. What a
/// test has put there that cannot be read is none.
#[track_caller]
pub(super) fn check_records(setup: &Setup) {
    let (_, lines) = audit(setup, &["replay", "--all", "--json"]);
    let before = lines.lines().count().saturating_sub(RECORDS_MAX);
    for line in lines.lines().skip(before) {
        let mut record: Value = serde_json::from_str(line).expect("a line of replay is JSON");
        let members = record.as_object_mut().expect("a record is an object");
        if members.contains_key("unreadable") {
            continue;
        }
        for added in ["partition", "offset", "void"] {
            members.remove(added);
        }
        if let Err(error) = record_schema().validate(&record) {
            panic!("{line}\nis not as described: {error} at {}", error.instance_path());
        }
    }
}
