//! Right histories for tests: users who act, channels that deliver, and the journal of it all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{
    Agreement, AllowType, AppId, Card, Command, Decision, Effect, FormerFriend, NewFriend,
    OfferForm, Policy, ProfileChange, RequestAnswer, Target, Timestamp, User, UserId, UserKey,
    Version,
};
use crate::journal::record::{decode, encode};
use crate::journal::{
    Body, Cause, Commit, Entry, Epoch, JournalError, Offset, Origin, Partition, Place, ReadJournal,
    Reader, Record, partition_of,
};
use crate::pairing::{OwedEffect, owed_by};
use crate::store::rows::{RowHash, rows};

pub(super) const APP: AppId = AppId(1_400_000_001);

pub(super) fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a test's names are valid")
}

pub(super) fn key(name: &str) -> UserKey {
    UserKey { app: APP, user: id(name) }
}

/// A journal in memory, in the order in which it became durable.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) partitions: u16,
    pub(super) entries: Vec<Entry>,
    /// Before these entries a reader stands at the end once.
    pub(super) pauses: Vec<usize>,
}

struct MemoryReader {
    entries: VecDeque<(usize, Entry)>,
    pauses: Vec<usize>,
}

impl ReadJournal for Memory {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        let wanted = |entry: &Entry| {
            from.iter()
                .any(|(partition, offset)| entry.partition == *partition && entry.offset >= *offset)
        };
        let entries = self.entries.iter().enumerate().filter(|(_, entry)| wanted(entry));
        let entries = entries.map(|(index, entry)| (index, entry.clone())).collect();
        Ok(Box::new(MemoryReader { entries, pauses: self.pauses.clone() }))
    }

    fn end(&self, partition: Partition) -> Result<Offset, JournalError> {
        let last = self.entries.iter().rev().find(|entry| entry.partition == partition);
        Ok(last.map_or(Offset(0), |entry| Offset(entry.offset.0 + 1)))
    }
}

impl Reader for MemoryReader {
    fn next(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut read = Vec::new();
        let mut bytes = 0;
        while let Some((index, entry)) = self.entries.front() {
            if self.pauses.first() == Some(index) {
                if read.is_empty() {
                    self.pauses.remove(0);
                }
                break;
            }
            bytes += entry.bytes.len();
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.extend(self.entries.pop_front().map(|(_, entry)| entry));
        }
        Ok(read)
    }
}

impl Memory {
    /// The index of the entry at a place.
    pub(super) fn index(&self, place: (Partition, Offset)) -> usize {
        let found = self.entries.iter().position(|e| (e.partition, e.offset) == place);
        found.expect("the test knows where its records stand")
    }

    /// Changes what the journal says at a place.
    pub(super) fn rewrite(&mut self, place: (Partition, Offset), change: impl FnOnce(&mut Record)) {
        let index = self.index(place);
        let mut record = decode(&self.entries[index].bytes).expect("what was written is readable");
        change(&mut record);
        self.entries[index].bytes.clear();
        encode(record.epoch, record.n, &record.body, &mut self.entries[index].bytes);
    }

    /// Changes a commit record at a place.
    pub(super) fn recommit(
        &mut self,
        place: (Partition, Offset),
        change: impl FnOnce(&mut Commit),
    ) {
        self.rewrite(place, |record| match &mut record.body {
            Body::Commit(commit) => change(commit),
            other => panic!("{other:?} is no commit"),
        });
    }

    /// The places of the records that `which` picks.
    pub(super) fn places(&self, which: impl Fn(&Record) -> bool) -> Vec<(Partition, Offset)> {
        let picked = self
            .entries
            .iter()
            .filter(|entry| decode(&entry.bytes).is_ok_and(|record| which(&record)));
        picked.map(|entry| (entry.partition, entry.offset)).collect()
    }

    /// The same records, one partition after the other.
    pub(super) fn sorted(mut self, backwards: bool) -> Self {
        self.entries.sort_by_key(|entry| entry.partition);
        if backwards {
            self.entries.sort_by_key(|entry| std::cmp::Reverse(entry.partition));
        }
        self
    }
}

#[derive(Clone)]
struct OnTheWay {
    seq: u64,
    effect: OwedEffect,
}

impl OnTheWay {
    /// Whether one record may answer both.
    fn follows(&self, first: &Self) -> bool {
        let whose = |one: &Self| (one.effect.from, one.effect.to);
        whose(self) == whose(first) && self.effect.effect != Effect::Forget
    }
}

/// Users, channels and a journal, all in one thread.
#[derive(Clone)]
pub(super) struct World {
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
    pub(super) memory: Memory,
    pub(super) users: BTreeMap<UserKey, User>,
    terms: Vec<(Epoch, u64)>,
    asked: BTreeMap<(Partition, Partition), u64>,
    channels: BTreeMap<(Partition, Partition), VecDeque<OnTheWay>>,
}

impl World {
    /// Nobody, and every partition claimed.
    pub(super) fn new(partitions: u16) -> Self {
        let mut world = Self {
            policy: Policy::default(),
            now: Timestamp(1_795_342_200_000),
            memory: Memory { partitions, entries: Vec::new(), pauses: Vec::new() },
            users: BTreeMap::new(),
            terms: vec![(Epoch(0), 0); usize::from(partitions)],
            asked: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        for partition in 0..partitions {
            world.claim(Partition(partition));
        }
        world
    }

    /// A world of these users.
    pub(super) fn of(partitions: u16, names: &[&str]) -> Self {
        let mut world = Self::new(partitions);
        for name in names {
            world.import(name);
        }
        world
    }

    pub(super) fn home(&self, name: &str) -> Partition {
        partition_of(&key(name), self.memory.partitions)
    }

    /// Where the last record of `partition` stands.
    pub(super) fn last(&self, partition: Partition) -> (Partition, Offset) {
        let end = self.memory.end(partition).expect("memory has an end");
        (partition, Offset(end.0 - 1))
    }

    /// Puts bytes at the end of `partition`.
    pub(super) fn append_bytes(&mut self, partition: Partition, bytes: Vec<u8>) -> Offset {
        let offset = self.memory.end(partition).expect("memory has an end");
        self.memory.entries.push(Entry { partition, offset, bytes });
        offset
    }

    /// Puts a numbered record at the end of `partition`.
    pub(super) fn append(&mut self, partition: Partition, body: &Body) -> Offset {
        let (epoch, n) = &mut self.terms[usize::from(partition.0)];
        *n += 1;
        let (epoch, n) = (*epoch, *n);
        self.append_numbered(partition, epoch, n, body)
    }

    /// Puts a record with any number at the end of `partition`.
    pub(super) fn append_numbered(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        n: u64,
        body: &Body,
    ) -> Offset {
        let mut bytes = Vec::new();
        encode(epoch, n, body, &mut bytes);
        self.append_bytes(partition, bytes)
    }

    /// Puts a record at the end of `partition` that never counts: its owner was deposed before.
    pub(super) fn append_void(&mut self, partition: Partition, body: &Body) -> Offset {
        let (epoch, n) = self.terms[usize::from(partition.0)];
        self.append_numbered(partition, Epoch(epoch.0 - 1), n + 1, body)
    }

    /// A node takes `partition` over.
    pub(super) fn claim(&mut self, partition: Partition) {
        let term = &mut self.terms[usize::from(partition.0)];
        *term = (Epoch(term.0.0 + 1), 0);
        let epoch = term.0;
        let body = Body::Claim { node: "n1".into(), nonce: Uuid::nil() };
        self.append_numbered(partition, epoch, 0, &body);
    }

    /// The row hash of `partition`, from its users' rows.
    pub(super) fn hash(&self, partition: Partition) -> RowHash {
        let mut hash = RowHash::default();
        for (key, value) in self.rows(partition) {
            hash.toggle(RowHash::of(&key, &value));
        }
        hash
    }

    /// All rows of `partition`.
    pub(super) fn rows(&self, partition: Partition) -> Vec<(Vec<u8>, Vec<u8>)> {
        let here = |key: &UserKey| partition_of(key, self.memory.partitions) == partition;
        let users = self.users.iter().filter(|(key, user)| here(key) && user.version().0 > 0);
        users.flat_map(|(key, user)| rows(partition, key.app, user)).collect()
    }

    /// The owner of `partition` says what its state is.
    pub(super) fn checkpoint(&mut self, partition: Partition) {
        let hash = self.hash(partition).to_string();
        self.append(partition, &Body::Checkpoint { hash });
    }

    /// A subscription is done with all before `next`.
    pub(super) fn cursor(&mut self, partition: Partition, next: Offset, epoch: Epoch, n: u64) {
        let cursor = Box::new(crate::journal::Cursor::begin(Place { next, epoch, n }));
        let body = Body::Cursor { subscription: "all".into(), cursor };
        self.append(partition, &body);
    }

    pub(super) fn commit_of(&self, name: &str, events: Vec<crate::domain::Event>) -> Commit {
        let version = self.users.get(&key(name)).map_or(Version(0), User::version).next();
        Commit {
            id: Uuid::from_u128(self.memory.entries.len() as u128),
            key: key(name),
            version,
            at: self.now,
            by: origin(),
            cause: None,
            events,
        }
    }

    fn user(&mut self, key: UserKey) -> &mut User {
        self.users.entry(key).or_insert_with(|| User::new(key.user))
    }

    fn is_imported(&self, name: &str) -> bool {
        self.users.get(&key(name)).is_some_and(User::is_imported)
    }

    /// A user wishes something.
    pub(super) fn perform(&mut self, name: &str, command: &Command) -> Decision {
        self.now.0 += 7;
        let (policy, now, key) = (self.policy.clone(), self.now, key(name));
        let Ok(decision) = self.user(key).perform(command, &policy, now) else {
            return Decision::default();
        };
        if !decision.events.is_empty() {
            let commit = self.commit_of(name, decision.events.clone());
            self.record(commit);
        }
        decision
    }

    /// Records a commit of a user whose state has it already, and puts its effects on their way.
    pub(super) fn record(&mut self, commit: Commit) {
        let home = partition_of(&commit.key, self.memory.partitions);
        self.user(commit.key).recorded();
        let mut asked = Vec::new();
        owed_by(&commit, self.memory.partitions, |to, effect| asked.push((to, effect)));
        self.append(home, &Body::Commit(commit));
        for (destination, effect) in asked {
            let channel = (home, destination);
            let seq = self.asked.entry(channel).or_default();
            *seq += 1;
            let on_the_way = OnTheWay { seq: *seq, effect };
            self.channels.entry(channel).or_default().push_back(on_the_way);
        }
    }

    /// Which channels have something on the way.
    pub(super) fn busy(&self) -> Vec<(Partition, Partition)> {
        let busy = self.channels.iter().filter(|(_, on_the_way)| !on_the_way.is_empty());
        busy.map(|(channel, _)| *channel).collect()
    }

    /// How many effects are on the way.
    pub(super) fn owed(&self) -> u64 {
        self.channels.values().map(|on_the_way| on_the_way.len() as u64).sum()
    }

    /// Delivers up to `max` effects of a channel as one batch.
    pub(super) fn pump(&mut self, channel: (Partition, Partition), max: usize) {
        let Some(on_the_way) = self.channels.get_mut(&channel) else { return };
        let count = max.min(on_the_way.len());
        let mut batch: VecDeque<OnTheWay> = on_the_way.drain(..count).collect();
        let mut unsaid = None;
        while let Some(first) = batch.pop_front() {
            if first.effect.effect == Effect::Forget {
                self.forget(channel.1, &first.effect);
                unsaid = Some(first.seq);
                continue;
            }
            let mut run = vec![first];
            while batch.front().is_some_and(|next| next.follows(&run[0])) {
                run.extend(batch.pop_front());
            }
            unsaid = self.deliver(channel.0, &run);
        }
        if let Some(seq) = unsaid {
            self.append(channel.1, &Body::Watermark { seen: vec![(channel.0, seq)] });
        }
    }

    /// Every user of a partition forgets an account.
    fn forget(&mut self, partition: Partition, gone: &OwedEffect) {
        let here = |key: &UserKey| partition_of(key, self.memory.partitions) == partition;
        let owners: Vec<UserKey> = self.users.keys().copied().filter(here).collect();
        for owner in owners {
            let now = self.now;
            let events = self.user(owner).forget(gone.from, now);
            if !events.is_empty() {
                let by = gone.origin.clone();
                let commit = Commit { by, ..self.commit_of(owner.user.as_str(), events) };
                self.record(commit);
            }
        }
    }

    /// Answers the number of a run that changed nothing.
    fn deliver(&mut self, source: Partition, run: &[OnTheWay]) -> Option<u64> {
        self.now.0 += 3;
        let (policy, now) = (self.policy.clone(), self.now);
        let OnTheWay { seq, effect: last } = run.last()?;
        let to = UserKey { app: last.app, user: last.to };
        let caused = run.iter().map(|one| &one.effect.effect);
        let events = self.user(to).react(last.from, caused, &policy, now);
        if events.is_empty() {
            return Some(*seq);
        }
        let cause = Cause { partition: source, seq: *seq, user: last.from, version: last.version };
        let commit = Commit {
            cause: Some(cause),
            by: last.origin.clone(),
            ..self.commit_of(last.to.as_str(), events)
        };
        self.record(commit);
        None
    }

    /// Delivers until nothing is on the way.
    pub(super) fn drain(&mut self) {
        while let Some(channel) = self.busy().first().copied() {
            self.pump(channel, usize::MAX);
        }
    }

    pub(super) fn import(&mut self, name: &str) {
        self.perform(name, &Command::ImportAccount(ProfileChange::default()));
    }

    pub(super) fn allow(&mut self, name: &str, allow_type: AllowType) {
        let change = ProfileChange { allow_type: Some(allow_type), ..ProfileChange::default() };
        self.perform(name, &Command::ImportAccount(change));
    }

    fn targets(&self, names: &[&str]) -> Vec<Target> {
        let target = |name: &&str| Target { user: id(name), imported: self.is_imported(name) };
        names.iter().map(target).collect()
    }

    pub(super) fn block(&mut self, name: &str, targets: &[&str]) {
        let targets = self.targets(targets);
        self.perform(name, &Command::Block { targets });
    }

    pub(super) fn unblock(&mut self, name: &str, targets: &[&str]) {
        let targets = self.targets(targets);
        self.perform(name, &Command::Unblock { targets });
    }

    pub(super) fn add(&mut self, name: &str, peers: &[&str], form: OfferForm, forced: bool) {
        let item = |peer: &&str| NewFriend {
            user: id(peer),
            imported: self.is_imported(peer),
            card: Card { wording: "hello".into(), ..Card::default() },
        };
        let items = peers.iter().map(item).collect();
        self.perform(name, &Command::AddFriends { items, form, forced });
    }

    pub(super) fn remove(&mut self, name: &str, peer: &str, both: bool) {
        let has_me = self.users.get(&key(peer)).is_some_and(|user| user.has_friend(&id(name)));
        let targets = vec![FormerFriend { user: id(peer), has_me }];
        self.perform(name, &Command::RemoveFriends { targets, both });
    }

    /// Lets go of all friends.
    pub(super) fn clear(&mut self, name: &str, both: bool) {
        self.perform(name, &Command::ClearFriends { both });
    }

    /// Answers a request that waits; nothing said is no.
    pub(super) fn answer(&mut self, name: &str, peer: &str, agreement: Option<Agreement>) {
        let (remark, groups) = ("".into(), Vec::new());
        let items = vec![RequestAnswer { user: id(peer), agreement, remark, groups }];
        self.perform(name, &Command::AnswerRequests { items });
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.perform(name, &Command::DeleteAccount);
    }

    /// Two who are friends of each other.
    pub(super) fn befriend(&mut self, a: &str, b: &str) {
        self.add(a, &[b], OfferForm::TwoWay, false);
        self.drain();
    }
}

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        operator: "administrator".into(),
        request: Uuid::from_u128(1),
        ip: "10.0.0.7".into(),
        platform: "RESTAPI".into(),
    })
}
