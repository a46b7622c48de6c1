//! A partition's state while its records are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::super::ledger::CHANGES_MAX;
use super::super::repeat::{Done, Repeats};
use super::super::snapshot::{Snapshots, restore};
use super::{Recovered, RecoveryError, Unsaved};
use crate::domain::{User, UserKey};
use crate::journal::record::decode;
use crate::journal::{
    Admitted, Body, Commit, Entry, FOLLOWER_PATIENCE, Imprint, Journal, Offset, Partition,
    ReaderRule,
};
use crate::pairing::{Answer, Inbox, owed_by};
use crate::store::row_set::RowSet;
use crate::store::rows::{Before, RowChanges, RowHash};
use crate::store::{Mark, Tables};

/// Records replayed between two checkpoints: bounds the memory of a recovery from zero. Few in tests, whose
/// journals are short.
const RECORDS_PER_CHECKPOINT: u64 = if cfg!(test) { 16 } else { 20_000 };

/// A partition whose reading has begun, or what is wrong with it.
pub(super) type Begun = (Partition, Result<Following, RecoveryError>);

/// A user while records are read.
struct Folded {
    user: User,
    /// The hash of the head row, as it is in the hash of all rows.
    head: RowHash,
    /// The rows that have changed since they went into the hash, if any have.
    before: Option<Before>,
}

/// A partition's state while its records are read.
///
/// Rows and their hash are made of what the records of a while came to, not of each: when a hash is to
/// be compared, and before a checkpoint.
pub(in crate::actors) struct Following {
    recovered: Recovered,
    users: HashMap<UserKey, Box<Folded>, foldhash::fast::RandomState>,
    /// Those of them whose rows have changed.
    changed: Vec<UserKey>,
    /// `users` holds every user with a record, so the store need not be asked.
    knows_all: bool,
    /// How much the users may take if they are to be kept over a checkpoint.
    kept_bytes_max: usize,
    /// What the next checkpoint writes.
    rows: RowSet,
    scratch: Vec<u8>,
    since_checkpoint: u64,
    /// Checkpoints since then that the store did not take.
    put_off: u64,
    /// Where the journal ended when the reading began.
    end: Offset,
    /// The first offset that was not read: before the checkpoint while commands are looked for.
    reading: Offset,
    /// Records that are known to be durable, and have to be found.
    known: SmallVec<[Imprint; 2]>,
    /// Judges what is read before the checkpoint, from where it begins.
    echo: ReaderRule,
    echo_from: Offset,
    /// Other nodes may own the partition.
    shared: bool,
}

impl Following {
    /// The states of `partitions` at the store's checkpoints; per partition what is wrong, if so. Of each,
    /// users who take `kept_bytes_max` together are kept from one checkpoint to the next, instead of
    /// reading their rows again.
    pub(in crate::actors) fn begin(
        journal: &dyn Journal,
        snapshots: Option<Snapshots<'_>>,
        tables: &Tables,
        partitions: &[Partition],
        kept_bytes_max: usize,
    ) -> Vec<Begun> {
        let total = journal.partitions();
        let begin = |partition: Partition, end: Offset| {
            let mark = match tables.mark(partition) {
                Ok(Some(mark)) => mark,
                Ok(None) => match snapshots.filter(|_| end > Offset(0)) {
                    Some(snapshots) if restore(snapshots, tables, partition)? => {
                        tables.mark(partition)?.unwrap_or_default()
                    }
                    Some(_) | None => {
                        // Rows without a mark are left of a restore that was cut short.
                        tables.clear(partition)?;
                        Mark::default()
                    }
                },
                Err(error) => {
                    tracing::warn!(
                        %error,
                        journal.partition = partition.0,
                        "the checkpoint cannot be read: rebuilding the rows from the journal"
                    );
                    tables.clear(partition)?;
                    Mark::default()
                }
            };
            if mark.next > end {
                let (known, journal) = (mark.next, end);
                return Err(RecoveryError::JournalBehind { partition, known, journal });
            }
            let knows_all = mark == Mark::default();
            let known: SmallVec<[Imprint; 2]> = mark.last.into_iter().collect();
            let echo_from = mark.lately.next.min(mark.next);
            let reading = known.iter().map(|known| known.offset).chain([echo_from]).min();
            let reading = reading.unwrap_or(echo_from);
            let echo = ReaderRule::resume(mark.lately.epoch, mark.lately.n);
            Ok(Self {
                recovered: Recovered::from_mark(partition, mark, total)?,
                users: HashMap::default(),
                changed: Vec::new(),
                knows_all,
                kept_bytes_max,
                rows: RowSet::default(),
                scratch: Vec::new(),
                since_checkpoint: 0,
                put_off: 0,
                end,
                reading,
                known,
                echo_from,
                echo,
                shared: journal.lease().is_some(),
            })
        };
        let mut all = Vec::with_capacity(partitions.len());
        journal.each_end(partitions, FOLLOWER_PATIENCE, &mut |partition, end| {
            let begun = end.map_err(RecoveryError::from).and_then(|end| begin(partition, end));
            all.push((partition, begun));
        });
        all
    }

    /// The first offset that was not read.
    pub(in crate::actors) fn next(&self) -> Offset {
        self.reading
    }

    /// A record that is known to be durable has to be found, if it is not before what is read.
    pub(super) fn expect(&mut self, known: Option<Imprint>) {
        self.known.extend(known.filter(|known| known.offset >= self.reading));
    }

    /// Goes on with another reader: the last record that counts has to be found there again. What was cut
    /// and has grown past [`Self::next`] meanwhile is another journal.
    pub(in crate::actors) fn read_anew(&mut self) {
        let Some(last) = self.recovered.last else { return };
        self.known.retain(|known| known.offset >= self.reading && *known != last);
        self.known.push(last);
        // Its commands are remembered already.
        self.echo_from = self.echo_from.max(self.reading);
        self.reading = self.reading.min(last.offset);
    }

    /// Remembers commands that were read before.
    pub(in crate::actors) fn remember(&mut self, done: Repeats) {
        self.recovered.done.absorb(done);
    }

    /// Everything that was there when the reading began has been read.
    pub(in crate::actors) fn caught_up(&self) -> bool {
        self.recovered.next >= self.end
    }

    /// The last valid record is the former owner's release.
    pub(in crate::actors) fn released(&self) -> bool {
        self.recovered.released
    }

    /// The last commands that were read.
    pub(in crate::actors) fn take_done(self) -> Repeats {
        self.recovered.done
    }

    /// Lets go of effects whose destination, read beside their source, has taken them: a rebuild
    /// from zero would otherwise hold every effect that ever was.
    pub(in crate::actors) fn release_received(states: &mut BTreeMap<Partition, Self>) {
        let mut states: Vec<&mut Self> = states.values_mut().collect();
        for source in 0..states.len() {
            for destination in 0..states.len() {
                let (from, to) =
                    (states[source].recovered.partition, states[destination].recovered.partition);
                // Of thousands of partitions there are millions of pairs.
                if states[source].recovered.outbox[usize::from(to.0)].is_empty() {
                    continue;
                }
                let durable = states[destination].recovered.inbox[usize::from(from.0)].seen();
                let outbox = &mut states[source].recovered.outbox[usize::from(to.0)];
                // A destination that was read further than its source is asked again after the start.
                if let Ok(released) = outbox.take_answer(Answer { durable, refused: None }) {
                    released.for_each(drop);
                }
            }
        }
    }

    /// Writes what was read since the last checkpoint into the store.
    pub(in crate::actors) fn checkpoint(&mut self, tables: &Tables) -> Result<(), RecoveryError> {
        if self.since_checkpoint == 0 {
            return Ok(());
        }
        self.hash();
        let mark = self.recovered.mark();
        tables.write(self.recovered.partition, &self.rows, &mark)?;
        self.rows = RowSet::default();
        (self.since_checkpoint, self.put_off) = (0, 0);
        let bytes = |known: &Folded| size_of::<Folded>() + known.user.heap_bytes();
        let kept: usize = self.users.values().map(|known| bytes(known)).sum();
        if kept > self.kept_bytes_max {
            self.users = HashMap::default();
            self.knows_all = false;
        }
        Ok(())
    }

    /// The checkpoint that is due. A store that cannot be written is no reason to stop reading as long as
    /// there is room for what it lacks.
    fn checkpoint_if_due(&mut self, tables: &Tables) -> Result<(), RecoveryError> {
        if self.since_checkpoint < RECORDS_PER_CHECKPOINT * (1 + self.put_off) {
            return Ok(());
        }
        match self.checkpoint(tables) {
            Err(RecoveryError::Store(_)) if self.rows.len() < CHANGES_MAX => {
                self.put_off += 1;
                Ok(())
            }
            result => result,
        }
    }

    /// The last checkpoint. If the store cannot be written, what it lacks goes along instead: a full
    /// disk is no reason not to answer questions.
    ///
    /// Errors: the journal has ended before a record that is known to be durable; nothing is written.
    pub(super) fn finish(mut self, tables: &Tables) -> Result<Recovered, RecoveryError> {
        if let Some(lost) = self.known.iter().find(|known| known.offset >= self.reading) {
            let partition = self.recovered.partition;
            let (known, journal) = (Offset(lost.offset.0 + 1), self.reading);
            return Err(RecoveryError::JournalBehind { partition, known, journal });
        }
        if self.since_checkpoint > 0 {
            self.hash();
            let mark = self.recovered.mark();
            if let Err(error) = tables.write(self.recovered.partition, &self.rows, &mark) {
                let partition = self.recovered.partition;
                tracing::warn!(
                    %error,
                    journal.partition = partition.0,
                    "the state store takes no rows: they stay in memory"
                );
                let users = self.users.into_iter();
                let users = users.map(|(key, known)| (key, (known.user, known.head))).collect();
                self.recovered.unsaved = Unsaved { users, rows: self.rows };
            }
        }
        Ok(self.recovered)
    }

    /// Takes the next record in.
    pub(in crate::actors) fn apply(
        &mut self,
        entry: &Entry,
        tables: &Tables,
    ) -> Result<(), RecoveryError> {
        let (partition, offset) = (entry.partition, entry.offset);
        if self.known.iter().any(|known| known.contradicts(entry)) {
            return Err(RecoveryError::JournalDiffers { partition, offset });
        }
        let record = decode(&entry.bytes).map_err(|source| RecoveryError::Record {
            partition,
            offset,
            source,
        })?;
        self.reading = Offset(offset.0 + 1);
        if offset < self.recovered.next {
            // It is in the checkpoint already; whether it was a command is not.
            let valid = offset >= self.echo_from && self.echo.admit(&record) == Admitted::Valid;
            if valid && let Body::Commit(commit) = &record.body {
                self.remember_done(commit);
            }
            return Ok(());
        }
        let state = &mut self.recovered;
        state.next = Offset(offset.0 + 1);
        state.replayed += 1;
        self.since_checkpoint += 1;
        let admitted = state.rule.admit(&record);
        if admitted == Admitted::Void {
            return Ok(());
        }
        state.last = Some(Imprint::of(offset, &entry.bytes));
        state.released = matches!(record.body, Body::Release { .. });
        match record.body {
            Body::Commit(commit) => self.commit(commit, offset, tables)?,
            Body::Watermark { seen } => {
                for (source, seq) in seen {
                    self.seen(source, seq);
                }
            }
            Body::Acknowledged { out } => self.acknowledged(&out),
            Body::Cursor { subscription, cursor } if cursor.ended => {
                state.cursors.remove(&subscription);
            }
            Body::Cursor { subscription, cursor } => {
                state.cursors.insert(subscription, *cursor);
            }
            Body::Claim { nonce, .. } => state.claim = Some((nonce, offset)),
            Body::Release { hash } | Body::Checkpoint { hash } => {
                let here = self.hash();
                if here.differs_from(&hash) {
                    let here = here.to_string();
                    return Err(RecoveryError::Diverged { partition, offset, here, there: hash });
                }
            }
        }
        self.checkpoint_if_due(tables)
    }

    fn acknowledged(&mut self, out: &[(Partition, u64)]) {
        for (destination, seq) in out {
            let Some(outbox) = self.recovered.outbox.get_mut(usize::from(destination.0)) else {
                continue;
            };
            // The owner said so of effects that stand before its record, so all of them were pushed.
            if let Ok(released) = outbox.take_answer(Answer { durable: *seq, refused: None }) {
                released.for_each(drop);
            }
        }
    }

    fn seen(&mut self, source: Partition, seq: u64) {
        if let Some(inbox) = self.recovered.inbox.get_mut(usize::from(source.0)) {
            *inbox = Inbox::restore(inbox.seen().max(seq));
        }
    }

    fn commit(
        &mut self,
        commit: Commit,
        offset: Offset,
        tables: &Tables,
    ) -> Result<(), RecoveryError> {
        let partition = self.recovered.partition;
        let total = self.recovered.outbox.len() as u16;
        let known = match self.users.entry(commit.key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let (user, head) = if self.knows_all {
                    (User::new(commit.key.user), RowHash::default())
                } else {
                    let stored = tables.user(partition, &commit.key);
                    stored.map_err(|source| RecoveryError::Rows { partition, source })?
                };
                free.insert(Box::new(Folded { user, head, before: None }))
            }
        };
        let Folded { user, head, before } = &mut **known;
        if user.version().next() != commit.version {
            let what = format!(
                "{} is at version {}, the record says {}",
                commit.key,
                user.version(),
                commit.version
            );
            return Err(RecoveryError::Order { partition, offset, what });
        }
        match before {
            Some(before) => before.look_also(user, &commit.events, &mut self.scratch),
            None => {
                self.changed.push(commit.key);
                let (key, events, scratch) = (commit.key, &commit.events, &mut self.scratch);
                *before =
                    Some(Before::look_for_events(partition, key, *head, user, events, scratch));
            }
        }
        user.replay(commit.version, &commit.events, commit.at);
        let outbox = &mut self.recovered.outbox;
        owed_by(&commit, total, |to, owed| {
            outbox[usize::from(to.0)].push(0, Arc::new(owed));
        });
        if let Some(cause) = commit.cause {
            self.seen(cause.partition, cause.seq);
        }
        self.remember_done(&commit);
        Ok(())
    }

    /// Brings rows and hash up to what was read; answers the hash.
    fn hash(&mut self) -> RowHash {
        let hash = &mut self.recovered.hash;
        let mut changes = RowChanges::default();
        for key in self.changed.drain(..) {
            let Some(known) = self.users.get_mut(&key) else { continue };
            let Some(before) = known.before.take() else { continue };
            known.head = before.compare(&known.user, hash, &mut changes);
            changes.move_first(changes.len(), &mut self.rows);
        }
        *hash
    }

    fn remember_done(&mut self, commit: &Commit) {
        // Where nobody else can own the partition, nobody asks again.
        let done = if self.shared { Done::of(commit) } else { Done::of_message(commit) };
        let Some(done) = done else { return };
        if done.is_message() {
            self.recovered.lately.note_message();
        }
        self.recovered.done.note(done);
    }
}
