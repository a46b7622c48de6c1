//! A partition's records as a model holds them, read with the product's own rule.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

use cordon::domain::{AppId, Event, Timestamp, UserId, UserKey, Version};
use cordon::journal::{
    Admitted, Body, Cause, Commit, Epoch, Offset, Origin, Partition, ReaderRule, Record, WriterRule,
};
use uuid::Uuid;

/// Time stands still, so that it tells no two states apart.
const AT: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn amy() -> UserId {
    UserId::parse("amy").expect("a name")
}

pub(crate) fn bob() -> UserId {
    UserId::parse("bob").expect("a name")
}

/// One request each, whose id is the command's number.
static ORIGINS: LazyLock<Vec<Arc<Origin>>> = LazyLock::new(|| {
    let origin = |command| Origin {
        operator: "administrator".into(),
        request: Uuid::from_u128(command),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    };
    (0..16).map(|command| Arc::new(origin(command))).collect()
});

/// One record of a log. Two with the same epoch, number, kind and id are the same to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said(Arc<Record>);

impl Said {
    pub(crate) fn new(epoch: Epoch, n: u64, body: Body) -> Self {
        Self(Arc::new(Record { epoch, n, body }))
    }

    pub(crate) fn claim(epoch: Epoch, node: usize, nonce: usize) -> Self {
        let nonce = Uuid::from_u128(nonce as u128);
        Self::new(epoch, 0, Body::Claim { node: node.to_string(), nonce })
    }

    pub(crate) fn release(epoch: Epoch, n: u64) -> Self {
        Self::new(epoch, n, Body::Release { hash: String::new() })
    }

    /// What came of `command`, which was decided behind `decided_on` commands before it.
    pub(crate) fn command(epoch: Epoch, n: u64, command: usize, decided_on: usize) -> Self {
        let target = bob();
        let event = Event::UserBlocked { target, remain_friends: false };
        Self::commit(epoch, n, command, (amy(), decided_on, event), None)
    }

    /// What came of the effect number `seq` of a command.
    pub(crate) fn effect(epoch: Epoch, n: u64, command: usize, seq: u64) -> Self {
        let cause = Cause { partition: Partition(0), seq, user: amy(), version: Version(seq) };
        let event = Event::PeerForgotten { peer: amy() };
        Self::commit(epoch, n, command, (bob(), 0, event), Some(cause))
    }

    /// Effects up to `seq` came and changed nothing.
    pub(crate) fn watermark(epoch: Epoch, n: u64, seq: u64) -> Self {
        Self::new(epoch, n, Body::Watermark { seen: vec![(Partition(0), seq)] })
    }

    fn commit(
        epoch: Epoch,
        n: u64,
        command: usize,
        (user, before, event): (UserId, usize, Event),
        cause: Option<Cause>,
    ) -> Self {
        let body = Body::Commit(Commit {
            id: Uuid::from_u128(command as u128),
            key: UserKey { app: AppId(1), user },
            version: Version(before as u64 + 1),
            at: AT,
            by: ORIGINS[command].clone(),
            cause,
            events: vec![event],
        });
        Self::new(epoch, n, body)
    }

    /// Where it stands among records in no order.
    pub(crate) fn key(&self) -> (u64, u64, u128) {
        let id = match &self.body {
            Body::Commit(commit) => commit.id,
            Body::Claim { nonce, .. } => *nonce,
            _ => Uuid::nil(),
        };
        (self.epoch.0, self.n, id.as_u128())
    }

    /// The command that a commit is about.
    pub(crate) fn of(commit: &Commit) -> usize {
        commit.by.request.as_u128() as usize
    }
}

impl Deref for Said {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0
    }
}

impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.epoch.hash(state);
        self.n.hash(state);
        self.body.kind().hash(state);
        match &self.body {
            Body::Commit(commit) => {
                let seq = commit.cause.map(|cause| cause.seq);
                (commit.id.as_u128(), commit.version.0, seq).hash(state);
            }
            Body::Claim { nonce, .. } => nonce.as_u128().hash(state),
            Body::Watermark { seen } => seen.hash(state),
            Body::Acknowledged { out } => out.hash(state),
            Body::Cursor { .. } | Body::Release { .. } | Body::Checkpoint { .. } => {}
        }
    }
}

/// What a reader does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Blindness {
    Epochs,
    Numbers,
}

/// Reads `log` with the product's rule; a blind reader sees what it wants to see.
pub(crate) fn read(
    log: &[Said],
    blind: Option<Blindness>,
) -> impl Iterator<Item = (Offset, &Said, Admitted)> {
    let mut rule = ReaderRule::default();
    (0..).map(Offset).zip(log).map(move |(offset, said)| {
        let is_claim = matches!(said.body, Body::Claim { .. });
        let admitted = match blind.filter(|_| !is_claim) {
            None => rule.admit(said),
            Some(blind) => {
                let mut seen = Record::clone(said);
                match blind {
                    Blindness::Epochs => seen.epoch = rule.epoch(),
                    Blindness::Numbers => seen.n = rule.n() + 1,
                }
                rule.admit(&seen)
            }
        };
        (offset, said, admitted)
    })
}

/// The records that count.
pub(crate) fn valid(
    log: &[Said],
    blind: Option<Blindness>,
) -> impl Iterator<Item = (Offset, &Said)> {
    read(log, blind)
        .filter(|(_, _, admitted)| *admitted != Admitted::Void)
        .map(|(offset, said, _)| (offset, said))
}

/// Whether a claim of a later epoch than `epoch` stands in `gap`. Rule: cluster.md 2.3, `o > next`.
pub(crate) fn is_fenced(gap: &[Said], epoch: Epoch) -> bool {
    gap.iter().any(|said| matches!(said.body, Body::Claim { .. }) && said.epoch > epoch)
}

/// The product's writer rule, with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writer(WriterRule);

impl Writer {
    pub(crate) fn new(epoch: Epoch, claim: Offset) -> Self {
        Self(WriterRule::new(epoch, claim))
    }
}

impl Deref for Writer {
    type Target = WriterRule;

    fn deref(&self) -> &WriterRule {
        &self.0
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut WriterRule {
        &mut self.0
    }
}

impl Hash for Writer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let rule = &self.0;
        (rule.epoch(), rule.sent(), rule.acknowledged(), rule.next_offset()).hash(state);
    }
}
