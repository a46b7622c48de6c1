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
    /// Of whom it is asked; of every user of the partition if it is an [`Effect::Forget`].
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
    /// Errors: the answer to send if the batch is not taken. Whether it overlaps, repeats or leaves a
    /// gap makes no difference: the source goes to the number that it is told.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An outbox with the entries 1 to `count`, each from a record of its own.
    fn outbox(count: u64) -> Outbox<u64> {
        let mut outbox = Outbox::default();
        for number in 1..=count {
            assert_eq!(outbox.push(number, number), number);
        }
        outbox
    }

    fn batch(outbox: &mut Outbox<u64>, n: u64, max: usize) -> Option<(u64, Vec<u64>)> {
        let batch = outbox.batch(n, max)?;
        Some((batch.prev, batch.entries.into_iter().copied().collect()))
    }

    fn answer(outbox: &mut Outbox<u64>, durable: u64, refused: Option<u64>) -> Vec<u64> {
        outbox.take_answer(Answer { durable, refused }).expect("known numbers").collect()
    }

    #[test]
    fn what_is_sent_is_kept_until_it_is_acknowledged_and_then_handed_over_once() {
        let mut outbox = outbox(3);
        assert_eq!(batch(&mut outbox, u64::MAX, 10), Some((0, vec![1, 2, 3])));
        assert_eq!(batch(&mut outbox, u64::MAX, 10), None);
        assert_eq!((outbox.len(), outbox.in_flight()), (3, 3));
        assert_eq!(answer(&mut outbox, 2, None), [1, 2]);
        assert_eq!(answer(&mut outbox, 2, None), Vec::<u64>::new());
        assert_eq!((outbox.acked(), outbox.len(), outbox.in_flight()), (2, 1, 1));
        assert_eq!(answer(&mut outbox, 3, None), [3]);
        assert!(outbox.is_empty());
        assert_eq!(outbox.last(), 3);
    }

    #[test]
    fn what_is_not_final_is_not_sent() {
        let mut outbox = outbox(3);
        assert_eq!(batch(&mut outbox, 0, 10), None);
        assert_eq!(batch(&mut outbox, 2, 10), Some((0, vec![1, 2])));
        assert_eq!(outbox.owed(2).copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(batch(&mut outbox, 3, 10), Some((2, vec![3])));
    }

    #[test]
    fn a_batch_is_bounded_and_the_next_one_follows() {
        let mut outbox = outbox(3);
        assert_eq!(batch(&mut outbox, 3, 2), Some((0, vec![1, 2])));
        assert_eq!(batch(&mut outbox, 3, 2), Some((2, vec![3])));
    }

    #[test]
    fn a_refusal_moves_the_source_to_where_the_destination_reads() {
        let mut outbox = outbox(5);
        batch(&mut outbox, 5, 4);
        assert_eq!(answer(&mut outbox, 1, Some(2)), [1]);
        assert_eq!(batch(&mut outbox, 5, 10), Some((2, vec![3, 4, 5])), "a gap: back");
        outbox.rewind();
        assert_eq!(answer(&mut outbox, 1, Some(4)), Vec::<u64>::new());
        assert_eq!(batch(&mut outbox, 5, 10), Some((4, vec![5])), "a repetition: on");
    }

    #[test]
    fn an_old_refusal_never_moves_the_source_before_what_is_acknowledged() {
        let mut outbox = outbox(3);
        batch(&mut outbox, 3, 3);
        answer(&mut outbox, 2, None);
        assert_eq!(answer(&mut outbox, 0, Some(0)), Vec::<u64>::new());
        assert_eq!(batch(&mut outbox, 3, 3), Some((2, vec![3])));
    }

    #[test]
    fn a_rewind_sends_again_what_is_not_acknowledged() {
        let mut outbox = outbox(3);
        batch(&mut outbox, 3, 3);
        answer(&mut outbox, 1, None);
        outbox.rewind();
        assert_eq!(batch(&mut outbox, 3, 3), Some((1, vec![2, 3])));
    }

    #[test]
    fn a_destination_that_has_taken_what_was_never_numbered_stops_the_source() {
        let mut outbox = outbox(2);
        batch(&mut outbox, 2, 2);
        let before = outbox.clone();
        let answer = Answer { durable: 3, refused: None };
        assert_eq!(outbox.take_answer(answer).err(), Some(Overtaken { last: 2, durable: 3 }));
        assert_eq!(outbox, before);
    }

    #[test]
    fn a_checkpoint_numbers_on_where_it_ended() {
        let mut before = outbox(4);
        batch(&mut before, 4, 4);
        answer(&mut before, 2, None);
        let mut after = Outbox::restore(before.acked());
        for entry in before.owed(3) {
            after.push(0, *entry);
        }
        assert_eq!(after.push(1, 4), 4);
        assert_eq!(batch(&mut after, 1, 9), Some((2, vec![3, 4])));
        assert_eq!(after.iter_mut().rev().position(|entry| *entry == 3), Some(1));
    }

    #[test]
    fn a_destination_takes_only_what_begins_where_it_ended() {
        let mut inbox = Inbox::restore(4);
        assert_eq!(inbox.take(4, 2), Ok(()));
        let refusal = Err(Answer { durable: 4, refused: Some(6) });
        assert_eq!(inbox.take(4, 2), refusal, "repeated");
        assert_eq!(inbox.take(5, 2), refusal, "overlapping");
        assert_eq!(inbox.take(7, 2), refusal, "a gap");
        assert_eq!(inbox.take(6, usize::MAX), refusal, "beyond every number");
        assert_eq!(inbox.seen(), 6);
    }

    #[test]
    fn a_destination_answers_only_what_is_durable() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(0, 3), Ok(()));
        assert_eq!(inbox.durable(), 0);
        assert_eq!(inbox.note_durable(2), Answer { durable: 2, refused: None });
        assert_eq!(inbox.note_durable(1), Answer { durable: 2, refused: None });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        MakeFinal,
        Send(usize),
        /// Delivers the batch at this place of those under way, and keeps it there.
        Deliver(prop::sample::Index),
        LoseBatch(prop::sample::Index),
        MakeDurable,
        DeliverAnswer(prop::sample::Index),
        LoseAnswer(prop::sample::Index),
        Rewind,
        Checkpoint,
        SourceCrash,
        DestinationCrash,
    }

    fn step() -> impl Strategy<Value = Step> {
        use Step::*;
        prop_oneof![
            4 => Just(Push),
            4 => Just(MakeFinal),
            6 => (1..4_usize).prop_map(Send),
            8 => any::<prop::sample::Index>().prop_map(Deliver),
            2 => any::<prop::sample::Index>().prop_map(LoseBatch),
            4 => Just(MakeDurable),
            6 => any::<prop::sample::Index>().prop_map(DeliverAnswer),
            2 => any::<prop::sample::Index>().prop_map(LoseAnswer),
            1 => Just(Rewind),
            2 => Just(Checkpoint),
            1 => Just(SourceCrash),
            1 => Just(DestinationCrash),
        ]
    }

    /// Both ends over a bad network, with what each side's journal holds.
    #[derive(Default)]
    struct Channel {
        outbox: Outbox<u64>,
        /// How many records the source has appended, and how many of them are final.
        appended: u64,
        finals: u64,
        /// The source's checkpoint: what was acknowledged then.
        checkpoint: u64,
        inbox: Inbox,
        /// What the destination has appended; the first `inbox.durable()` are final.
        taken: Vec<u64>,
        batches: Vec<(u64, Vec<u64>)>,
        answers: Vec<Answer>,
        /// The numbers that were handed over as acknowledged since the last crash of the source.
        released: Vec<u64>,
    }

    impl Channel {
        fn send(&mut self, max: usize) {
            self.batches.extend(batch(&mut self.outbox, self.finals, max));
        }

        fn deliver(&mut self, at: usize) {
            let (prev, entries) = self.batches[at].clone();
            match self.inbox.take(prev, entries.len()) {
                Ok(()) => self.taken.extend(entries),
                Err(refusal) => self.answers.push(refusal),
            }
        }

        fn deliver_answer(&mut self, at: usize) {
            let answer = self.answers[at];
            self.released.extend(self.outbox.take_answer(answer).expect("one owner"));
        }

        fn step(&mut self, step: &Step) {
            match step {
                Step::Push => {
                    self.appended += 1;
                    self.outbox.push(self.appended, self.appended);
                }
                Step::MakeFinal => self.finals = (self.finals + 1).min(self.appended),
                Step::Send(max) => self.send(*max),
                Step::Deliver(at) if !self.batches.is_empty() => {
                    self.deliver(at.index(self.batches.len()));
                }
                Step::LoseBatch(at) if !self.batches.is_empty() => {
                    self.batches.swap_remove(at.index(self.batches.len()));
                }
                Step::MakeDurable => {
                    let seq = (self.inbox.durable() + 1).min(self.inbox.seen());
                    self.answers.push(self.inbox.note_durable(seq));
                }
                Step::DeliverAnswer(at) if !self.answers.is_empty() => {
                    self.deliver_answer(at.index(self.answers.len()));
                }
                Step::LoseAnswer(at) if !self.answers.is_empty() => {
                    self.answers.swap_remove(at.index(self.answers.len()));
                }
                Step::Rewind => self.outbox.rewind(),
                Step::Checkpoint => self.checkpoint = self.outbox.acked(),
                Step::SourceCrash => {
                    // What was not final is void, and its numbers are given to other records.
                    self.appended = self.finals;
                    self.outbox = Outbox::restore(self.checkpoint);
                    for number in self.checkpoint + 1..=self.finals {
                        self.outbox.push(number, number);
                    }
                    self.released.clear();
                }
                Step::DestinationCrash => {
                    self.taken.truncate(self.inbox.durable() as usize);
                    self.inbox = Inbox::restore(self.inbox.durable());
                }
                Step::Deliver(_)
                | Step::LoseBatch(_)
                | Step::DeliverAnswer(_)
                | Step::LoseAnswer(_) => {}
            }
        }

        fn check(&self) {
            let numbers: Vec<u64> = (1..=self.taken.len() as u64).collect();
            assert_eq!(self.taken, numbers, "each entry once, in order");
            assert!(self.taken.len() as u64 <= self.finals, "only final records have effects");
            assert!(self.outbox.acked() <= self.inbox.durable(), "acknowledged is durable");
            assert!(self.released.windows(2).all(|pair| pair[0] < pair[1]), "handed over once");
        }
    }

    proptest! {
        #[test]
        fn effects_arrive_once_in_order_over_a_bad_network(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut channel = Channel::default();
            for step in &steps {
                channel.step(step);
                channel.check();
            }
            // The network gets better: everything arrives, and a resend after silence is enough.
            channel.finals = channel.appended;
            for _ in 0..4 {
                channel.outbox.rewind();
                channel.send(usize::MAX);
                if let Some(last) = channel.batches.len().checked_sub(1) {
                    channel.deliver(last);
                }
                let seen = channel.inbox.seen();
                channel.answers.push(channel.inbox.note_durable(seen));
                channel.deliver_answer(channel.answers.len() - 1);
                channel.check();
            }
            prop_assert_eq!(channel.taken.len() as u64, channel.finals);
            prop_assert!(channel.outbox.is_empty());
        }
    }
}
