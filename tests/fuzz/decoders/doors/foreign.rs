//! What comes from a disk, a broker or another node. The first byte says for what the rest is taken.

use std::fmt::Debug;
use std::time::Duration;

use cordon::actors::{ExecuteError, PairMessage, Question, Reply};
use cordon::audit::webhooks::ScanCursor;
use cordon::cluster::members::View;
use cordon::cluster::owners::Owners;
use cordon::domain::{User, UserId};
use cordon::journal::{Cursor, Notice, Partition, record};
use cordon::store::{Mark, rows};
use cordon::webhooks::{CursorName, DeliveryId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The doors, each under the first byte that opens it.
const DOORS: [fn(&[u8]); 12] = [
    record,
    json::<Question>,
    json::<Vec<PairMessage>>,
    json::<Result<Reply, ExecuteError>>,
    json::<Cursor>,
    notice_of_members,
    notice_of_owners,
    row_key,
    row,
    mark,
    cursor_name,
    page,
];
/// Partitions of the journal that is asked for.
const PARTITIONS: u16 = 3;

/// Panics if something is read that is not written as it was read.
pub(crate) fn open(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    DOORS[usize::from(*first) % DOORS.len()](bytes);
}

fn record(bytes: &[u8]) {
    let Ok(read) = record::decode(bytes) else { return };
    let mut written = Vec::new();
    record::encode(read.epoch, read.n, &read.body, &mut written);
    assert_eq!(record::decode(&written).expect("what was written is read"), read);
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
    let written = serde_json::to_vec(&read).expect("it has a form in JSON");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("what was written is read"), read);
}

fn posted(key: &str, value: Vec<u8>) -> Notice {
    Notice::Posted { key: key.to_owned(), value }
}

fn notice_of_members(bytes: &[u8]) {
    let mut view = View::new(Duration::from_secs(5));
    let Some(read) = view.apply(&posted("a", bytes.to_vec()), Duration::ZERO).cloned() else {
        return assert_eq!(view.unreadable(), 1);
    };
    let written = serde_json::to_vec(&read).expect("a beat is JSON");
    assert_eq!(view.apply(&posted("a", written), Duration::ZERO), Some(&read));
}

fn notice_of_owners(bytes: &[u8]) {
    let mut owners = Owners::new(PARTITIONS);
    let Some(read) = owners.apply(&posted("1", bytes.to_vec())).map(|(_, tenure)| tenure.clone())
    else {
        return assert_eq!(owners.unreadable(), 1);
    };
    let written = serde_json::to_vec(&read).expect("a claim is JSON");
    assert_eq!(owners.apply(&posted("1", written)), Some((Partition(1), &read)));
}

fn row_key(bytes: &[u8]) {
    let Some((partition, key, peer)) = rows::parse_key(bytes) else { return };
    match peer {
        Some(peer) => assert_eq!(rows::relation_key(partition, &key, &peer), bytes),
        None => assert!(bytes.starts_with(&rows::head_key(partition, &key))),
    }
}

fn row(bytes: &[u8]) {
    let head = rows::decode_head(bytes).unwrap_or_default();
    let relations: Vec<_> = rows::decode_relation(bytes).into_iter().collect();
    let amy = UserId::parse("amy").expect("a name");
    let user = User::restore(amy, head.clone(), relations);
    let written = rows::rows(Partition(0), cordon::domain::AppId(7), &user);
    assert_eq!(rows::decode_head(&written[0].1), Ok(head));
    for (_, row) in &written[1..] {
        rows::decode_relation(row).expect("what was written is read");
    }
}

fn mark(bytes: &[u8]) {
    let Ok(read) = postcard::from_bytes::<Mark>(bytes) else { return };
    let written = postcard::to_stdvec(&read).expect("postcard can say it");
    assert_eq!(postcard::from_bytes::<Mark>(&written), Ok(read.clone()));
    for cursor in read.cursors {
        drop(cursor.read());
    }
}

fn cursor_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(read) = CursorName::parse(&text) {
        assert_eq!(CursorName::parse(&read.to_string()), Some(read));
    }
    if let Ok(read) = text.parse::<DeliveryId>() {
        assert_eq!(read.to_string(), text);
    }
}

fn page(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = ScanCursor::decode(&text, PARTITIONS) {
        assert_eq!(ScanCursor::decode(&read.encode(), PARTITIONS), Ok(read));
    }
}
