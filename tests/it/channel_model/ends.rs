//! The owners of both partitions of a channel, what their journals hold, and what is on the way.

use std::sync::Arc;

use cordon::journal::{Ack, Body, Epoch, Offset};
use cordon::pairing::{Answer, Inbox, Outbox};

use super::Mutation;
use crate::fence_model::journal::{Said, Writer, is_fenced, valid};

/// Every other command asks for something that is so already: its effect changes nothing.
fn changes_something(command: usize) -> bool {
    command.is_multiple_of(2)
}

/// An owner of the source's partition, deposed or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub(super) writer: Writer,
    pub(super) wire: Vec<Said>,
    /// How many commands its state consists of, those in flight included.
    facts: usize,
    pub(super) outbox: Outbox<Owed>,
    /// Acknowledged by the other side before the fact itself is known to be final.
    early: Vec<Owed>,
    /// The last record whose effect is acknowledged.
    acked_n: u64,
}

/// An effect, and the record that it follows from: its number in this epoch, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owed {
    n: u64,
    pub(super) command: usize,
}

/// The source's state behind its first `offset` records, as it is saved now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Checkpoint {
    offset: Offset,
    acked: u64,
    owed: Vec<usize>,
}

/// An owner of the destination's partition, deposed or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) writer: Writer,
    pub(super) wire: Vec<Said>,
    pub(super) inbox: Inbox,
}

/// Some of the commands, as bits.
pub(super) type Commands = u8;

pub(super) fn bits(commands: impl IntoIterator<Item = usize>) -> Commands {
    commands.into_iter().fold(0, |bits, command| bits | 1 << command)
}

fn take_first(wire: &mut Vec<Said>) -> Option<Said> {
    (!wire.is_empty()).then(|| wire.remove(0))
}

/// What is on the way. It stays there: it may arrive again, late, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Packet {
    /// The commands behind the number `prev`.
    Effects {
        prev: u64,
        commands: Vec<usize>,
    },
    Answer {
        durable: u64,
        refused: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) source_log: Vec<Said>,
    pub(super) destination_log: Vec<Said>,
    /// In the order of their epochs.
    pub(super) sources: Vec<Source>,
    pub(super) destinations: Vec<Destination>,
    /// In their own order, each once.
    pub(super) packets: Vec<Arc<Packet>>,
    pub(super) commands: usize,
    pub(super) checkpoint: Checkpoint,
    /// The commands whose callers heard that the other side is durable.
    pub(super) told: Commands,
}

/// The protocol with one guard taken away, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules(pub(super) Option<Mutation>);

impl Rules {
    fn lack(self, guard: Mutation) -> bool {
        self.0 == Some(guard)
    }
}

/// The commands whose effects the source owes, by their numbers in the channel, from 1.
pub(super) fn owed(source_log: &[Said]) -> Vec<usize> {
    commands(valid(source_log, None).map(|(_, said)| said))
}

fn commands<'l>(records: impl Iterator<Item = &'l Said>) -> Vec<usize> {
    let commands = records.filter_map(|said| match &said.body {
        Body::Commit(commit) => Some(Said::of(commit)),
        _ => None,
    });
    commands.collect()
}

/// What the destination's journal says: the number and the command of each effect that changed
/// something, and the last number that is done with.
pub(super) fn taken(destination_log: &[Said]) -> (Vec<(u64, usize)>, u64) {
    let (mut applied, mut last) = (Vec::new(), 0);
    for (_, said) in valid(destination_log, None) {
        if let Body::Commit(commit) = &said.body {
            let seq = commit.cause.map_or(0, |cause| cause.seq);
            applied.push((seq, Said::of(commit)));
        }
        last = last.max(number(said));
    }
    (applied, last)
}

/// The effects that [`taken`] should find if everything up to `last` was applied once, in order.
pub(super) fn expected(owed: &[usize], last: u64) -> Vec<(u64, usize)> {
    let numbered = (1..=last).zip(owed.iter().copied());
    numbered.filter(|(_, command)| changes_something(*command)).collect()
}

/// Up to which effect a record of the destination is done.
fn number(said: &Said) -> u64 {
    match &said.body {
        Body::Commit(commit) => commit.cause.map_or(0, |cause| cause.seq),
        Body::Watermark { seen } => seen[0].1,
        _ => 0,
    }
}

/// Puts a claim at the end of `log`, and answers the right to write behind it. That nobody comes in
/// between is what layer 1 is for.
fn claim(log: &mut Vec<Said>) -> Writer {
    let last = valid(log, None).last().map_or(0, |(_, said)| said.epoch.0);
    let (epoch, offset) = (Epoch(last + 1), Offset(log.len() as u64));
    log.push(Said::claim(epoch, 0, log.len()));
    Writer::new(epoch, offset)
}

/// Puts a record of `writer` at the end of `log`; answers whether it is final.
fn land(log: &mut Vec<Said>, writer: &mut Writer, said: Said, fences: bool) -> bool {
    let offset = Offset(log.len() as u64);
    let mut ack = writer.acknowledge(offset, 1);
    if let Ack::Gap { from, to } = ack
        && !(fences && is_fenced(&log[from.0 as usize..to.0 as usize], writer.epoch()))
    {
        writer.gap_is_rubbish(to);
        ack = writer.acknowledge(offset, 1);
    }
    log.push(said);
    matches!(ack, Ack::Final { .. })
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            source_log: Vec::new(),
            destination_log: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            packets: Vec::new(),
            commands: 0,
            checkpoint: Checkpoint::default(),
            told: 0,
        };
        state.take_over_source(Rules(None), &Checkpoint::default());
        state.take_over_destination();
        state
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.checkpoint == Checkpoint::default()
    }

    /// A fact, which asks for one effect of the other side.
    pub(super) fn decide(&mut self, who: usize) {
        let command = self.commands;
        self.commands += 1;
        let source = &mut self.sources[who];
        let n = source.writer.send();
        let said = Said::command(source.writer.epoch(), n, command, source.facts);
        source.facts += 1;
        source.outbox.push(n, Owed { n, command });
        source.wire.push(said);
    }

    pub(super) fn land_fact(&mut self, rules: Rules, who: usize) -> Option<()> {
        let source = &mut self.sources[who];
        let said = take_first(&mut source.wire)?;
        let fences = !rules.lack(Mutation::SourceIsNotFenced);
        if !land(&mut self.source_log, &mut source.writer, said, fences) {
            self.sources.remove(who);
            return Some(());
        }
        let n = source.writer.acknowledged();
        let ready = source.early.extract_if(.., |owed| owed.n <= n);
        self.told |= bits(ready.map(|owed| owed.command));
        Some(())
    }

    pub(super) fn send(&mut self, rules: Rules, who: usize) -> Option<()> {
        let source = &mut self.sources[who];
        let early = rules.lack(Mutation::SentBeforeFinal);
        let n = if early { u64::MAX } else { source.writer.acknowledged() };
        let batch = source.outbox.batch(n, usize::MAX)?;
        let (prev, commands) =
            (batch.prev, batch.entries.into_iter().map(|owed| owed.command).collect());
        self.put(Packet::Effects { prev, commands });
        Some(())
    }

    pub(super) fn resend(&mut self, who: usize) {
        self.sources[who].outbox.rewind();
    }

    /// Saves the state behind the last final record, unless it would say that an effect of a record
    /// behind that is acknowledged: a recovery would number it once more.
    pub(super) fn save(&mut self, rules: Rules, who: usize) {
        let source = &self.sources[who];
        let n = source.writer.acknowledged();
        if source.acked_n > n && !rules.lack(Mutation::SavedBehindWhatIsAcknowledged) {
            return;
        }
        self.checkpoint = Checkpoint {
            offset: source.writer.next_offset(),
            acked: source.outbox.acked(),
            owed: source.outbox.owed(n).map(|owed| owed.command).collect(),
        };
    }

    /// Somebody else claims the source's partition, or its owner once more after a crash. The last
    /// owner need not know.
    pub(super) fn take_over_source(&mut self, rules: Rules, saved: &Checkpoint) {
        let old = self.sources.last().map(|source| source.outbox.clone());
        let writer = claim(&mut self.source_log);
        let behind = &self.source_log[saved.offset.0 as usize..];
        let behind = if rules.lack(Mutation::VoidRecordsHaveEffects) {
            commands(behind.iter())
        } else {
            let valid = valid(&self.source_log, None);
            commands(valid.filter(|(at, _)| *at >= saved.offset).map(|(_, said)| said))
        };
        let mut outbox = Outbox::restore(saved.acked);
        for &command in saved.owed.iter().chain(&behind) {
            outbox.push(0, Owed { n: 0, command });
        }
        match old {
            Some(old) if rules.lack(Mutation::OutboxOfMemoryIsKept) => outbox = old,
            Some(old) if rules.lack(Mutation::SentIsTakenForAcknowledged) => {
                let durable = (old.acked() + old.in_flight() as u64).min(outbox.last());
                outbox.take_answer(Answer { durable, refused: None }).into_iter().for_each(drop);
            }
            Some(_) | None => {}
        }
        let facts = owed(&self.source_log).len();
        let (wire, early) = (Vec::new(), Vec::new());
        self.sources.push(Source { writer, wire, facts, outbox, early, acked_n: 0 });
    }

    pub(super) fn take_over_destination(&mut self) {
        let writer = claim(&mut self.destination_log);
        let inbox = Inbox::restore(taken(&self.destination_log).1);
        self.destinations.push(Destination { writer, wire: Vec::new(), inbox });
    }

    fn put(&mut self, packet: Packet) {
        if let Err(place) = self.packets.binary_search_by(|known| known.as_ref().cmp(&packet)) {
            self.packets.insert(place, Arc::new(packet));
        }
    }

    fn answer(&mut self, Answer { durable, refused }: Answer) {
        self.put(Packet::Answer { durable, refused });
    }

    pub(super) fn take(&mut self, rules: Rules, who: usize, prev: u64, effects: &[usize]) {
        let destination = &mut self.destinations[who];
        let seen = destination.inbox.seen();
        if prev > seen && rules.lack(Mutation::GapsAreTaken) {
            destination.inbox = Inbox::restore(prev);
        }
        let last = prev + effects.len() as u64;
        let repeats = last <= seen && rules.lack(Mutation::RepetitionsAreTaken);
        if let Err(refusal) = destination.inbox.take(prev, effects.len())
            && !repeats
        {
            self.answer(refusal);
            return;
        }
        let epoch = destination.writer.epoch();
        for (seq, command) in (prev + 1..).zip(effects) {
            if changes_something(*command) {
                let n = destination.writer.send();
                destination.wire.push(Said::effect(epoch, n, *command, seq));
            }
        }
        if effects.last().is_some_and(|command| !changes_something(*command)) {
            if rules.lack(Mutation::NothingToDoIsNotRecorded) {
                let answer = destination.inbox.note_durable(destination.inbox.seen());
                self.answer(answer);
                return;
            }
            let n = destination.writer.send();
            destination.wire.push(Said::watermark(epoch, n, last));
        }
        if rules.lack(Mutation::AnsweredBeforeDurable) {
            self.answer(Answer { durable: last, refused: None });
        }
    }

    pub(super) fn land_effect(&mut self, rules: Rules, who: usize) -> Option<()> {
        let destination = &mut self.destinations[who];
        let said = take_first(&mut destination.wire)?;
        let seq = number(&said);
        let fences = !rules.lack(Mutation::DestinationIsNotFenced);
        if land(&mut self.destination_log, &mut destination.writer, said, fences) {
            let answer = destination.inbox.note_durable(seq);
            self.answer(answer);
        } else {
            self.destinations.remove(who);
        }
        Some(())
    }

    pub(super) fn take_answer(&mut self, rules: Rules, who: usize, answer: Answer) {
        let source = &mut self.sources[who];
        let n = source.writer.acknowledged();
        let Ok(released) = source.outbox.take_answer(answer) else {
            // It has to claim again before it goes on.
            self.sources.remove(who);
            return;
        };
        for owed in released {
            source.acked_n = source.acked_n.max(owed.n);
            if owed.n <= n || rules.lack(Mutation::ToldBeforeItsOwnRecordIsFinal) {
                self.told |= bits([owed.command]);
            } else {
                source.early.push(owed);
            }
        }
    }
}
