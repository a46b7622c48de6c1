//! What a record shows to consumers that filter without reading it: its key and its headers. Rule:
//! design.md 3.

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};
use serde::Deserialize;

/// What stands in a record's envelope, as far as consumers filter by it without reading the rest.
#[derive(Deserialize)]
struct Label<'a> {
    e: u64,
    #[serde(default)]
    n: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    app: Option<u64>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    events: Vec<EventLabel<'a>>,
}

#[derive(Deserialize)]
struct EventLabel<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// The key and the headers of a record; none for bytes that are no record. Rule: design.md 3.
pub(super) fn labels(record: &[u8]) -> (Option<String>, Option<OwnedHeaders>) {
    let Ok(label) = serde_json::from_slice::<Label<'_>>(record) else { return (None, None) };
    let key = match (label.app, &label.user) {
        (Some(app), Some(user)) => Some(format!("{app}/{user}")),
        _ => None,
    };
    let mut headers = OwnedHeaders::new_with_capacity(6);
    headers = with(headers, "kind", &label.kind);
    headers = with(headers, "e", &label.e.to_string());
    headers = with(headers, "n", &label.n.to_string());
    if let Some(id) = &label.id {
        headers = with(headers, "id", id);
    }
    if let Some(app) = label.app {
        headers = with(headers, "app", &app.to_string());
    }
    let mut types = String::new();
    for event in &label.events {
        // A record of a thousand blocks says it once.
        if !types.split(',').any(|known| known == event.kind) {
            if !types.is_empty() {
                types.push(',');
            }
            types.push_str(&event.kind);
        }
    }
    if !types.is_empty() {
        headers = with(headers, "types", &types);
    }
    (key, Some(headers))
}

fn with(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdkafka::message::Headers;

    use super::labels;
    use crate::damage::damaged;

    fn shown(record: &[u8]) -> (Option<String>, Vec<(String, String)>) {
        let (key, headers) = labels(record);
        let headers = headers.iter().flat_map(|headers| headers.iter()).map(|header| {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
            (header.key.to_owned(), value)
        });
        let shown = headers.collect();
        (key, shown)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_commit_is_keyed_by_its_user_and_says_its_events_in_the_headers() {
        let record =
            br#"{"v":1,"e":8,"n":412,"kind":"commit","id":"01","app":7,"user":"amy","version":17,
            "events":[{"type":"FriendRemoved","peer":"bob"},{"type":"UserBlocked","target":"bob"},
            {"type":"UserBlocked","target":"cat"}]}"#;
        let headers = pairs(&[
            ("kind", "commit"),
            ("e", "8"),
            ("n", "412"),
            ("id", "01"),
            ("app", "7"),
            ("types", "FriendRemoved,UserBlocked"),
        ]);
        assert_eq!(shown(record), (Some("7/amy".to_owned()), headers));
    }

    #[test]
    fn a_record_of_no_user_has_no_key() {
        let record = br#"{"v":1,"e":8,"n":0,"kind":"claim","node":"n3","nonce":"01"}"#;
        assert_eq!(shown(record), (None, pairs(&[("kind", "claim"), ("e", "8"), ("n", "0")])));
    }

    #[test]
    fn bytes_that_are_no_record_go_unlabelled() {
        assert_eq!(shown(b"\xff"), (None, Vec::new()));
        assert_eq!(shown(b"{\"partition\":1}"), (None, Vec::new()));
    }

    proptest! {
        #[test]
        fn whatever_is_copied_is_labelled_or_not(
            record in damaged(vec![
                include_bytes!("../../../tests/fixtures/records/UserBlocked.json").to_vec(),
                include_bytes!("../../../tests/fixtures/records/claim.json").to_vec(),
            ]),
        ) {
            let (key, headers) = shown(&record);
            let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
            prop_assert!(names.is_empty() || names.starts_with(&["kind", "e", "n"]));
            prop_assert!(key.is_none() || names.contains(&"app"));
        }
    }
}
