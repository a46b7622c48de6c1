//! The two ends of a channel: how one partition's effects reach another exactly once, in order.
//!
//! There is one channel per ordered pair of partitions, also from a partition to itself. Its numbers
//! are a pure function of the source's journal: each effect of each record, in order, from 1. The
//! source keeps what it owes in an [`Outbox`]; the destination keeps in an [`Inbox`] how much it has
//! taken. Both only count: they know no users, no clock and no network, which may lose, repeat and
//! reorder whatever it likes. [`owed_by`] says what is numbered.
//!
//! What the ends promise each other, and what breaks without it (cluster.md 4):
//!
//! - The destination takes a batch only if it begins where the last one ended; else a removal may be
//!   overtaken by the proposal that it came after.
//! - What is acknowledged is durable in the destination's journal, also an effect that changed
//!   nothing; else a crash, or an owner deposed without knowing it, swallows a removal.
//! - The destination's journal says how far it has taken: the highest number in a record's cause or
//!   in a watermark record. So its records stand there in the order of the numbers, and a record
//!   with number 7 says that 1 to 6 are done with. Effects of one batch may share a record only if
//!   they follow each other without another user's effect in between.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{AppId, Effect, Event, UserId, UserKey, Version, effects};
use crate::journal::{Commit, Origin, Partition, partition_of};

/// An effect on its way from one user to another: what travels between partitions and nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedEffect {
    /// The app of both.
    pub app: AppId,
    /// Whose fact asks for it.
    pub from: UserId,
    /// The version of that fact.
    pub version: Version,
    /// The user who is asked; with [`Effect::Forget`] it is every user of the partition.
    pub to: UserId,
    /// What is asked.
    pub effect: Effect,
    /// Who made the call that started it.
    pub origin: Arc<Origin>,
}

/// Hands what a record asks of others to `emit`, with the partition that it goes to, in order: the
/// whole definition of what the channels carry. A deleted account is forgotten in every partition.
pub fn owed_by(commit: &Commit, partitions: u16, mut emit: impl FnMut(Partition, OwedEffect)) {
    let owed = |to, effect| OwedEffect {
        app: commit.key.app,
        from: commit.key.user,
        version: commit.version,
        to,
        effect,
        origin: commit.by.clone(),
    };
    effects(&commit.events, |to, effect| {
        let receiver = UserKey { app: commit.key.app, user: to };
        emit(partition_of(&receiver, partitions), owed(to, effect));
    });
    if commit.events.iter().any(|event| matches!(event, Event::AccountDeleted {})) {
        for partition in (0..partitions).map(Partition) {
            emit(partition, owed(commit.key.user, Effect::Forget));
        }
    }
}

/// What a source partition owes to one destination partition: numbered entries, kept until they are
/// acknowledged.
///
/// `E` is the caller's: the effect with its receiver, and who waits for the acknowledgement. How
/// many entries may wait is the caller's bound, see [`Outbox::len`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox<E> {
    /// The number of the last acknowledged entry; `entries` begins behind it.
    acked: u64,
    /// The number of the last entry that was sent and not taken back by a rewind.
    sent: u64,
    entries: VecDeque<Owed<E>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owed<E> {
    /// The place, inside the source's epoch, of the record that it follows from.
    n: u64,
    entry: E,
}

/// A run of entries to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a, E> {
    /// The number before the first entry's.
    pub prev: u64,
    /// The entries, at least one, numbered `prev + 1` and so on.
    pub entries: Vec<&'a E>,
}

/// What a destination answers to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// Every entry up to this number is durable at the destination.
    pub durable: u64,
    /// The batch was not taken: the next one has to begin behind this number.
    pub refused: Option<u64>,
}

/// The destination has taken more than this source ever numbered: another owner of the source's
/// partition went on, or its journal has lost records. The source may not go on before it has claimed
/// the partition again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the destination has taken {durable} effects, the source knows of {last}")]
pub struct Overtaken {
    /// The last number at the source.
    pub last: u64,
    /// The last number that is durable at the destination.
    pub durable: u64,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self::restore(0)
    }
}

impl<E> Outbox<E> {
    /// An outbox whose first `acked` entries are known to be acknowledged and gone. The entries
    /// behind them are pushed again, from a checkpoint (with 0 for `n`) and from the journal's tail.
    pub fn restore(acked: u64) -> Self {
        Self { acked, sent: acked, entries: VecDeque::new() }
    }

    /// Numbers `entry`, which follows from the record `n` of the source's epoch, and answers its
    /// number. Records come in order: `n` never falls.
    pub fn push(&mut self, n: u64, entry: E) -> u64 {
        debug_assert!(self.entries.back().is_none_or(|last| last.n <= n));
        self.entries.push_back(Owed { n, entry });
        self.last()
    }

    /// The next entries to send, at most `max`, as far as they follow from records up to `n`; none
    /// if all of those were sent. They count as sent from now on.
    ///
    /// With per-partition durability `n` is the last final record: what is not final may turn out
    /// void, and an effect of it would be a lie. With prefix durability it may be any.
    pub fn batch(&mut self, n: u64, max: usize) -> Option<Batch<'_, E>> {
        let prev = self.sent;
        let waiting = self.entries.range(self.in_flight()..);
        let entries: Vec<&E> =
            waiting.take_while(|owed| owed.n <= n).take(max).map(|owed| &owed.entry).collect();
        self.sent += entries.len() as u64;
        (!entries.is_empty()).then_some(Batch { prev, entries })
    }

    /// Takes an answer into account: goes back, or on, to where the destination wants to read, and
    /// hands over the entries that are acknowledged by it, oldest first. Answers may come late, in
    /// any order and more than once.
    ///
    /// Errors: [`Overtaken`]; then nothing has changed.
    pub fn take_answer(
        &mut self,
        answer: Answer,
    ) -> Result<impl Iterator<Item = E> + use<'_, E>, Overtaken> {
        let last = self.last();
        if answer.durable > last {
            return Err(Overtaken { last, durable: answer.durable });
        }
        let released = answer.durable.saturating_sub(self.acked);
        self.acked += released;
        // What a destination has taken and not made durable is only a hint: it may forget it again.
        self.sent = answer.refused.unwrap_or(self.sent).clamp(self.acked, last);
        Ok(self.entries.drain(..released as usize).map(|owed| owed.entry))
    }

    /// Everything unacknowledged is to be sent again: there was no answer in time, or the
    /// destination has a new owner.
    pub fn rewind(&mut self) {
        self.sent = self.acked;
    }

    /// The number of the last acknowledged entry.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The number of the newest entry.
    pub fn last(&self) -> u64 {
        self.acked + self.entries.len() as u64
    }

    /// How many entries are not acknowledged.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries were sent and are not acknowledged.
    pub fn in_flight(&self) -> usize {
        (self.sent - self.acked) as usize
    }

    /// The entries that are not acknowledged and follow from records up to `n`, oldest first: with
    /// [`Outbox::acked`], what a checkpoint at `n` holds.
    pub fn owed(&self, n: u64) -> impl Iterator<Item = &E> {
        self.entries.iter().take_while(move |owed| owed.n <= n).map(|owed| &owed.entry)
    }

    /// The entries that are not acknowledged, oldest first, to look for one and wait for it too.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut E> {
        self.entries.iter_mut().map(|owed| &mut owed.entry)
    }
}

/// How much a destination partition has taken from one source partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inbox {
    /// The last number taken, durable or not.
    seen: u64,
    /// The last number whose record is final in the destination's journal.
    durable: u64,
}

impl Inbox {
    /// An inbox that has taken everything up to `seen`, as the destination's journal says: the
    /// highest number of a cause or a watermark from that source among its valid records.
    pub fn restore(seen: u64) -> Self {
        Self { seen, durable: seen }
    }

    /// Takes a batch of `count` entries behind the number `prev`, if it begins where the last one
    /// ended. The caller then runs each of them through its user, appends the records in order, ends
    /// with a watermark record if the last entries changed nothing, and answers only after
    /// [`Inbox::note_durable`].
    ///
    /// Errors: the answer to send if the batch is not taken. It does not matter whether the batch overlaps,
    /// repeats or leaves a gap: the source goes on from the number in the answer.
    pub fn take(&mut self, prev: u64, count: usize) -> Result<(), Answer> {
        let last = prev.checked_add(count as u64).filter(|_| prev == self.seen);
        let Some(last) = last else {
            return Err(Answer { durable: self.durable, refused: Some(self.seen) });
        };
        self.seen = last;
        Ok(())
    }

    /// Every entry up to `seq` is in a record that is final, and answers that.
    pub fn note_durable(&mut self, seq: u64) -> Answer {
        debug_assert!(seq <= self.seen);
        self.durable = self.durable.max(seq.min(self.seen));
        Answer { durable: self.durable, refused: None }
    }

    /// The last number taken, durable or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The last number that is durable, and may be acknowledged.
    pub fn durable(&self) -> u64 {
        self.durable
    }
}

#[cfg(test)]
mod tests;
