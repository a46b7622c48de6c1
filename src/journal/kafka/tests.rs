//! What a record looks like to consumers that filter without reading it.

use rdkafka::message::Headers;

use super::producer::labels;

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
