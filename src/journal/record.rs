//! The envelope around events: encode, decode, upcast. Shape: design.md 3, `schemas/record.json`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cursor::{Cursor, Place, Progress};
use super::{Epoch, Offset, Partition, verbatim};
use crate::domain::{AppId, Event, Timestamp, UserId, UserKey, Version};

/// The version of the envelope that this program writes.
pub const ENVELOPE_VERSION: u8 = 1;

/// One entry of the journal, atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner's term of office.
    pub epoch: Epoch,
    /// The place inside the epoch, from 1; 0 for a claim.
    pub n: u64,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Facts about one user.
    Commit(Commit),
    /// A node takes the partition over.
    Claim {
        /// The node's name.
        node: String,
        /// Tells this claim from another one of the same node.
        nonce: Uuid,
    },
    /// Effects were received that change nothing here.
    Watermark {
        /// Source partition and the last channel sequence received from it.
        seen: Vec<(Partition, u64)>,
    },
    /// Effects of this partition's records are durable at their destinations: whoever rebuilds the
    /// partition from here on owes only what is behind them.
    Acknowledged {
        /// Destination partition and the last channel sequence that it has acknowledged.
        out: Vec<(Partition, u64)>,
    },
    /// How far a follower has come; it moves with the partition's ownership.
    Cursor {
        /// The subscription's name.
        subscription: String,
        /// Where it stands in this partition.
        cursor: Box<Cursor>,
    },
    /// The owner leaves the partition in order.
    Release {
        /// The row hash of the state up to here: the number of the rows' layout, a hyphen, 32 hex digits.
        hash: String,
    },
    /// A statement about the state up to here, for audits.
    Checkpoint {
        /// The row hash of the state up to here: the number of the rows' layout, a hyphen, 32 hex digits.
        hash: String,
    },
}

/// The events of one command, or of one run of effects, on one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The record's own id, a UUID v7.
    pub id: Uuid,
    /// Whose facts these are.
    pub key: UserKey,
    /// The user's stream version.
    pub version: Version,
    /// When.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: Arc<Origin>,
    /// The effects that this record answers, if a peer's record caused it.
    pub cause: Option<Cause>,
    /// At least one.
    pub events: Vec<Event>,
}

/// Who asked for a change. An effect carries the origin of its cause along.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The account that made the call.
    pub operator: Box<str>,
    /// The request's id, also in the logs and in the answer's `Cordon-Request-Id`.
    pub request: Uuid,
    /// The caller's address.
    pub ip: Box<str>,
    /// `RESTAPI` for the server API.
    pub platform: Box<str>,
}

impl Origin {
    /// Of what a node asks for by itself, under a new id.
    pub fn own() -> Self {
        Self {
            operator: "cordon".into(),
            request: Uuid::now_v7(),
            ip: "".into(),
            platform: "RESTAPI".into(),
        }
    }
}

/// Which effects a record answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The partition whose record asked for it.
    pub partition: Partition,
    /// The last effect's number in the channel between the two partitions.
    pub seq: u64,
    /// Whose fact it was.
    pub user: UserId,
    /// The version of that fact in their stream.
    pub version: Version,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON of a record.
    #[error("malformed record: {0}")]
    Shape(#[from] serde_json::Error),
    /// Written by a later version of this program.
    #[error("the record has envelope version {0}, this program knows up to {ENVELOPE_VERSION}")]
    Version(u8),
    /// A field that its kind needs is missing.
    #[error("a record of kind {kind:?} lacks {field:?}")]
    Missing {
        /// The record's kind.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
}

/// The kind of a record, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Body says what each is")]
pub enum Kind {
    Commit,
    Claim,
    Watermark,
    Acknowledged,
    Cursor,
    Release,
    Checkpoint,
}

/// The JSON of a record. One flat struct, because a flattened enum costs a second parse.
#[derive(Serialize, Deserialize)]
struct Stored<E, O, S, P> {
    v: u8,
    e: Epoch,
    #[serde(default)]
    n: u64,
    kind: Kind,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    app: Option<AppId>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    by: Option<O>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    events: Option<E>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    node: Option<S>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    nonce: Option<Uuid>,
    #[serde(rename = "in", default = "none", skip_serializing_if = "Option::is_none")]
    seen: Option<Vec<(Partition, u64)>>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    out: Option<Vec<(Partition, u64)>>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    subscription: Option<S>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    next: Option<Offset>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    at_epoch: Option<Epoch>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    at_n: Option<u64>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    term: Option<u32>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    ended: Option<bool>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    progress: Option<P>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    hash: Option<S>,
}

fn none<T>() -> Option<T> {
    None
}

impl<E, O, S, P> Stored<E, O, S, P> {
    fn new(epoch: Epoch, n: u64, kind: Kind) -> Self {
        Self {
            v: ENVELOPE_VERSION,
            e: epoch,
            n,
            kind,
            id: None,
            app: None,
            user: None,
            version: None,
            at: None,
            by: None,
            cause: None,
            events: None,
            node: None,
            nonce: None,
            seen: None,
            out: None,
            subscription: None,
            next: None,
            at_epoch: None,
            at_n: None,
            term: None,
            ended: None,
            progress: None,
            hash: None,
        }
    }
}

impl Body {
    /// The kind, as stored.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Commit(_) => Kind::Commit,
            Self::Claim { .. } => Kind::Claim,
            Self::Watermark { .. } => Kind::Watermark,
            Self::Acknowledged { .. } => Kind::Acknowledged,
            Self::Cursor { .. } => Kind::Cursor,
            Self::Release { .. } => Kind::Release,
            Self::Checkpoint { .. } => Kind::Checkpoint,
        }
    }
}

/// Writes the JSON of a record behind what `into` holds.
pub fn encode(epoch: Epoch, n: u64, body: &Body, into: &mut Vec<u8>) {
    let mut stored: Stored<&[Event], &Origin, &str, &Progress> = Stored::new(epoch, n, body.kind());
    match body {
        Body::Commit(commit) => {
            stored.id = Some(commit.id);
            stored.app = Some(commit.key.app);
            stored.user = Some(commit.key.user);
            stored.version = Some(commit.version);
            stored.at = Some(commit.at);
            stored.by = Some(&commit.by);
            stored.cause = commit.cause;
            stored.events = Some(&commit.events);
        }
        Body::Claim { node, nonce } => {
            stored.node = Some(node);
            stored.nonce = Some(*nonce);
        }
        Body::Watermark { seen } => stored.seen = Some(seen.clone()),
        Body::Acknowledged { out } => stored.out = Some(out.clone()),
        Body::Cursor { subscription, cursor } => {
            let Cursor { place, term, ended, progress } = &**cursor;
            stored.subscription = Some(subscription);
            stored.next = Some(place.next);
            stored.at_epoch = Some(place.epoch);
            stored.at_n = Some(place.n);
            stored.term = Some(*term).filter(|term| *term > 0);
            stored.ended = Some(*ended).filter(|ended| *ended);
            stored.progress = Some(progress).filter(|progress| **progress != Progress::default());
        }
        Body::Release { hash } | Body::Checkpoint { hash } => stored.hash = Some(hash),
    }
    serde_json::to_writer(into, &stored).expect("a record has nothing that JSON cannot say");
}

/// Reads the JSON of a record. Errors: [`RecordError`].
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    verbatim::read(bytes).map_or_else(|| decode_any(bytes), Ok)
}

/// The same, however it is written.
fn decode_any(bytes: &[u8]) -> Result<Record, RecordError> {
    let stored: Stored<Vec<Event>, Arc<Origin>, String, Progress> = serde_json::from_slice(bytes)?;
    if stored.v != ENVELOPE_VERSION {
        return Err(RecordError::Version(stored.v));
    }
    let kind = stored.kind;
    let missing = |field| RecordError::Missing { kind, field };
    let body = match kind {
        Kind::Commit => Body::Commit(Commit {
            id: stored.id.ok_or_else(|| missing("id"))?,
            key: UserKey {
                app: stored.app.ok_or_else(|| missing("app"))?,
                user: stored.user.ok_or_else(|| missing("user"))?,
            },
            version: stored.version.ok_or_else(|| missing("version"))?,
            at: stored.at.ok_or_else(|| missing("at"))?,
            by: stored.by.ok_or_else(|| missing("by"))?,
            cause: stored.cause,
            events: stored.events.ok_or_else(|| missing("events"))?,
        }),
        Kind::Claim => Body::Claim {
            node: stored.node.ok_or_else(|| missing("node"))?,
            nonce: stored.nonce.ok_or_else(|| missing("nonce"))?,
        },
        Kind::Watermark => Body::Watermark { seen: stored.seen.ok_or_else(|| missing("in"))? },
        Kind::Acknowledged => Body::Acknowledged { out: stored.out.ok_or_else(|| missing("out"))? },
        Kind::Cursor => Body::Cursor {
            subscription: stored.subscription.ok_or_else(|| missing("subscription"))?,
            cursor: Box::new(Cursor {
                place: Place {
                    next: stored.next.ok_or_else(|| missing("next"))?,
                    epoch: stored.at_epoch.ok_or_else(|| missing("at_epoch"))?,
                    n: stored.at_n.ok_or_else(|| missing("at_n"))?,
                },
                term: stored.term.unwrap_or_default(),
                ended: stored.ended.unwrap_or_default(),
                progress: stored.progress.unwrap_or_default(),
            }),
        },
        Kind::Release => Body::Release { hash: stored.hash.ok_or_else(|| missing("hash"))? },
        Kind::Checkpoint => Body::Checkpoint { hash: stored.hash.ok_or_else(|| missing("hash"))? },
    };
    Ok(Record { epoch: stored.e, n: stored.n, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EdgeId;

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("a name of the right shape")
    }

    #[test]
    fn a_commit_stands_in_the_journal_like_this() {
        let edge = EdgeId { offerer: user("amy"), version: Version(9) };
        let body = Body::Commit(Commit {
            id: Uuid::from_u128(0x0193_1f5e_7c4b_7000_8000_0000_0000_0001),
            key: UserKey { app: AppId(1_400_000_001), user: user("amy") },
            version: Version(17),
            at: Timestamp(1_795_341_600_123),
            by: Arc::new(Origin {
                operator: "administrator".into(),
                request: Uuid::from_u128(1),
                ip: "10.0.0.7".into(),
                platform: "RESTAPI".into(),
            }),
            cause: None,
            events: vec![
                Event::FriendRemoved {
                    peer: user("bob"),
                    edge,
                    reason: crate::domain::RemovalReason::Blocked,
                    announced: false,
                },
                Event::UserBlocked { target: user("bob"), remain_friends: false },
            ],
        });
        let mut bytes = Vec::new();
        encode(Epoch(8), 412, &body, &mut bytes);
        // Subscribers and audits compare bytes: the order of the members is part of the promise.
        let expected = concat!(
            r#"{"v":1,"e":8,"n":412,"kind":"commit","id":"01931f5e-7c4b-7000-8000-000000000001","#,
            r#""app":1400000001,"user":"amy","version":17,"at":"2026-11-22T10:00:00.123Z","#,
            r#""by":{"operator":"administrator","#,
            r#""request":"00000000-0000-0000-0000-000000000001","#,
            r#""ip":"10.0.0.7","platform":"RESTAPI"},"#,
            r#""events":[{"type":"FriendRemoved","peer":"bob","edge":"amy:9","reason":"blocked"},"#,
            r#"{"type":"UserBlocked","target":"bob"}]}"#,
        );
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(decode(&bytes).expect("a record"), Record { epoch: Epoch(8), n: 412, body });
    }

    #[test]
    fn a_member_that_is_not_known_is_no_error() {
        let text = br#"{"v":1,"e":2,"n":3,"kind":"checkpoint","hash":"00","later":[1]}"#;
        let body = Body::Checkpoint { hash: "00".to_owned() };
        assert_eq!(decode(text).expect("a record"), Record { epoch: Epoch(2), n: 3, body });
    }

    #[test]
    fn what_is_no_record_says_why() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "malformed record"),
            (b"\xff", "malformed record"),
            (b"[]", "malformed record"),
            (br#"{"v":1,"e":1,"kind":"edict"}"#, "malformed record"),
            (br#"{"v":2,"e":1,"n":1,"kind":"release","hash":""}"#, "envelope version 2"),
            (br#"{"v":1,"e":1,"n":1,"kind":"release"}"#, "of kind Release lacks \"hash\""),
            (br#"{"v":1,"e":1,"n":0,"kind":"claim","node":"a"}"#, "of kind Claim lacks \"nonce\""),
        ];
        for (bytes, reason) in cases {
            let error = decode(bytes).expect_err("no record").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
