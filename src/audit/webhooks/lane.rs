//! One subscription in one partition: each of its cursors is held against what the records owe.
//!
//! Kept in memory are running counts, the calls of parked users, and the letters that were written
//! for calls which the cursor has not passed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::AuditError;
use super::calls::{Owed, Shelf};
use super::report::{Counts, Finding, Findings, Rule};
use super::{Quiet, Range, Settled, State, Watch};
use crate::domain::{AppId, Replay, Timestamp, UserId};
use crate::journal::{Cursor, DeadLetter, Offset, Parked, Partition, Progress, ReadJournal, Tally};
use crate::webhooks::digest::CallId;
use crate::webhooks::{CallbackCommand, Switches};

/// Whose cursor it is, and in which partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) app: AppId,
    /// The name of the cursor.
    pub(super) cursor: Box<str>,
    pub(super) partition: Partition,
    /// The part of the past that is told, if it is a replay; `Err` if it is one that nobody knows.
    pub(super) replay: Result<Option<Replay>, ()>,
}

/// What a cursor is held against.
pub(super) struct Ground<'a> {
    pub(super) journal: &'a dyn ReadJournal,
    pub(super) shelf: &'a Shelf,
    pub(super) range: &'a Range,
    pub(super) findings: &'a mut Findings,
    pub(super) watch: &'a mut dyn Watch,
}

impl<'a> Ground<'a> {
    /// The same, for a look that nobody hears of.
    fn quiet<'b>(&self, findings: &'b mut Findings, watch: &'b mut dyn Watch) -> Ground<'b>
    where
        'a: 'b,
    {
        let (journal, shelf, range) = (self.journal, self.shelf, self.range);
        Ground { journal, shelf, range, findings, watch }
    }
}

/// A call that was passed and belongs to a parked user.
#[derive(Clone, Debug)]
struct Call {
    id: CallId,
    user: UserId,
    at: Timestamp,
    hash: u128,
    /// Which of its record's wanted calls it is.
    index: u64,
    /// Its place in the chain, from 1, and the call before it.
    seq: u64,
    before: Option<CallId>,
    in_range: bool,
}

/// A letter for a call that the cursor has not passed yet. After a crash the call is made again, and
/// may be accepted then.
#[derive(Clone, Debug)]
struct Pending {
    id: CallId,
    hash: u128,
    letter: DeadLetter,
    /// The record that says so.
    said_at: Offset,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) whose: Whose,
    pub(super) cursor: Cursor,
    /// The record that holds it.
    pub(super) said_at: Offset,
    pub(super) cursors: u64,
    /// The next cursor is the first one of a count.
    fresh: bool,
    /// Counts of the calls that were passed.
    pub(super) counts: Counts,
    since: Offset,
    place: Offset,
    /// The cursor keeps a count.
    counted: bool,
    filters: Vec<(Offset, Switches)>,
    owed: Tally,
    seq: u64,
    last: Option<CallId>,
    parked: BTreeMap<UserId, VecDeque<Call>>,
    dead: Tally,
    pending: Vec<Pending>,
    /// The ids that the last cursor told of and counted.
    told: BTreeSet<CallId>,
}

/// What the letters of a cursor came to.
#[derive(Default)]
struct Letters {
    /// Those that are counted with this cursor.
    counted: BTreeMap<CallId, DeadLetter>,
}

impl Lane {
    /// Nothing known yet.
    pub(super) fn new(whose: Whose) -> Self {
        Self {
            whose,
            cursor: Cursor::default(),
            said_at: Offset(0),
            cursors: 0,
            fresh: true,
            counts: Counts::default(),
            since: Offset(0),
            place: Offset(0),
            counted: false,
            filters: Vec::new(),
            owed: Tally::default(),
            seq: 0,
            last: None,
            parked: BTreeMap::new(),
            dead: Tally::default(),
            pending: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// Whether its counts can be held against the records.
    pub(super) fn is_counted(&self) -> bool {
        self.counted && self.whose.replay.is_ok()
    }

    /// Takes the cursor that stands at `said_at`.
    pub(super) fn take(
        &mut self,
        said_at: Offset,
        cursor: Cursor,
        ground: &mut Ground<'_>,
    ) -> Result<(), AuditError> {
        self.cursors += 1;
        let known = (self.cursor.term, self.cursor.place.next);
        let next = cursor.place.next;
        let before = std::mem::replace(&mut self.cursor, cursor);
        self.said_at = said_at;
        if self.cursor.ended {
            self.fresh = true;
            (self.parked, self.pending) = (BTreeMap::new(), Vec::new());
            return Ok(());
        }
        if next > said_at {
            let detail = format!("is done with all before {next}, ahead of itself");
            self.find(ground, Rule::Ahead, said_at, detail);
            self.fresh = true;
            return Ok(());
        }
        if std::mem::take(&mut self.fresh) {
            self.begin();
        } else if (self.cursor.term, next) < known {
            let detail = format!("goes back from {} to {next} within term {}", known.1, known.0);
            self.find(ground, Rule::Forward, said_at, detail);
            return self.take_for_granted(ground);
        } else if self.cursor.term > before.term {
            // Other partitions were moved, and this one goes on; or it begins anew.
            let progress = &self.cursor.progress;
            let goes_on = progress.since == self.since && next >= self.place && self.counted && {
                let mut findings = Findings::default();
                self.clone().hold(&mut ground.quiet(&mut findings, &mut Quiet))?;
                findings.total == 0
            };
            if !goes_on {
                self.begin();
            }
        } else if !self.keeps_since(ground, &before) {
            return self.take_for_granted(ground);
        }
        self.hold(ground)
    }

    /// Within a term the first offset that counts stays. One that is moved forward hides what lies
    /// before it.
    fn keeps_since(&mut self, ground: &mut Ground<'_>, before: &Cursor) -> bool {
        let progress = &self.cursor.progress;
        let counts = !progress.filters.is_empty();
        let since = progress.since;
        let detail = match (self.counted, counts) {
            (true, false) => "keeps no count any more".to_owned(),
            (false, false) => {
                self.begin();
                return true;
            }
            (true, true) if since == self.since => return true,
            // The count begins where the one before it stood, which kept none.
            (false, true) if since == before.place.next => {
                self.begin();
                return true;
            }
            (true, true) => format!("counts from {since} on, and counted from {}", self.since),
            (false, true) => {
                format!("counts from {since} on, and stood at {}", before.place.next)
            }
        };
        self.find(ground, Rule::Since, self.said_at, detail);
        false
    }

    /// Counts anew, from where the cursor says that its count begins.
    fn begin(&mut self) {
        let progress = &self.cursor.progress;
        self.counted = !progress.filters.is_empty();
        self.since = if self.counted { progress.since } else { self.cursor.place.next };
        self.place = self.since;
        self.counts = Counts::default();
        self.filters = Vec::new();
        (self.owed, self.dead) = (Tally::default(), Tally::default());
        (self.seq, self.last) = (0, None);
        (self.parked, self.pending, self.told) = <_>::default();
    }

    /// After a finding: what the cursor says is taken for right, so that each lie is found once.
    fn take_for_granted(&mut self, ground: &mut Ground<'_>) -> Result<(), AuditError> {
        self.begin();
        let mut findings = Findings::default();
        let watch = &mut *ground.watch;
        let (journal, shelf, range) = (ground.journal, ground.shelf, ground.range);
        self.hold(&mut Ground { journal, shelf, range, findings: &mut findings, watch })
    }

    /// What is asked for at `offset`.
    fn want(&self, owed: &Owed) -> Switches {
        let offset = owed.offset;
        if owed.app != self.whose.app || offset < self.since {
            return Switches::default();
        }
        let asked = self.filters.iter().rev().find(|(from, _)| *from <= offset);
        let asked = asked.map_or_else(Switches::default, |(_, commands)| *commands);
        match &self.whose.replay {
            Ok(Some(replay)) => narrow(replay, self.whose.partition, owed, asked),
            Ok(None) | Err(()) => asked,
        }
    }

    /// Holds the cursor against the records from the last place on.
    fn hold(&mut self, ground: &mut Ground<'_>) -> Result<(), AuditError> {
        self.adopt_filters(ground);
        let letters = self.letters(ground)?;
        let progress = std::mem::take(&mut self.cursor.progress);
        let from = self.place;
        let settled = self.pass(&progress, &letters, ground)?;
        if self.is_counted() {
            self.check_parked(&progress, ground);
            self.check_count(&progress, from, &settled, ground)?;
            self.check_chain(&progress, ground);
        }
        self.cursor.progress = progress;
        Ok(())
    }

    /// Of two words about what is asked for from an offset on, the later one counts; what was passed
    /// stays as it was.
    fn adopt_filters(&mut self, ground: &mut Ground<'_>) {
        let said = filters(&self.cursor.progress);
        let Some((first, _)) = said.first().copied() else { return };
        let rewritten = said.iter().find(|(from, commands)| {
            let known = self.filters.iter().rev().find(|(known, _)| known <= from);
            *from < self.place && known.is_some_and(|(_, known)| known != commands)
        });
        if let Some((from, _)) = rewritten {
            let detail = format!("says otherwise what was asked for from {from} on");
            self.find(ground, Rule::Filters, self.said_at, detail);
        }
        self.filters.retain(|(from, _)| *from < first);
        self.filters.extend(said);
        let place = self.place;
        let needless = self.filters.iter().skip(1).take_while(|(from, _)| *from <= place).count();
        self.filters.drain(..needless);
    }

    /// Reads the dead letters, and finds out which of them the cursor counts.
    fn letters(&mut self, ground: &mut Ground<'_>) -> Result<Letters, AuditError> {
        let next = self.cursor.place.next;
        let died = std::mem::take(&mut self.cursor.progress.died);
        let mut letters = Letters::default();
        let mut certain = Tally::default();
        let mut told = BTreeSet::new();
        for letter in &died {
            let Some((id, hash)) = self.owed_letter(letter, ground)? else { continue };
            self.pending.retain(|pending| pending.id != id);
            if id.offset >= next {
                let (letter, said_at) = (letter.clone(), self.said_at);
                self.pending.push(Pending { id, hash, letter, said_at });
                continue;
            }
            told.insert(id);
            if !self.told.contains(&id) && letters.counted.insert(id, letter.clone()).is_none() {
                certain.add(hash);
            }
        }
        self.cursor.progress.died = died;
        self.told = told;
        let passed: Vec<Pending> =
            self.pending.extract_if(.., |pending| pending.id.offset < next).collect();
        let said = self.cursor.progress.dead;
        if !self.is_counted() {
            self.dead = said;
            return Ok(letters);
        }
        let grown = less(said, self.dead);
        // The letters of a follower that crashed before it passed their calls count for nothing; the
        // later ones, of the one that passed them, do. So they are a tail of all, by age.
        let mut tail = certain;
        let mut taken = passed.len();
        while tail != grown && taken > 0 {
            let age = passed[taken - 1].said_at;
            while taken > 0 && passed[taken - 1].said_at == age {
                taken -= 1;
                tail.add(passed[taken].hash);
            }
        }
        if tail == grown {
            letters.counted.extend(passed.into_iter().skip(taken).map(|p| (p.id, p.letter)));
        } else {
            let detail = format!(
                "counts {} more calls as dead, and letters tell of {}",
                signed(grown.count),
                certain.count
            );
            self.find(ground, Rule::Dead, self.said_at, detail);
        }
        self.dead = said;
        Ok(letters)
    }

    /// The call that a letter names, if it was owed.
    fn owed_letter(
        &self,
        letter: &DeadLetter,
        ground: &mut Ground<'_>,
    ) -> Result<Option<(CallId, u128)>, AuditError> {
        let id = letter.id.parse::<CallId>().ok();
        let id = id.filter(|id| id.partition == self.whose.partition && id.offset < self.said_at);
        let owed = match id {
            Some(id) => ground.shelf.find(ground.journal, id.offset)?,
            None => None,
        };
        let owed = owed.filter(|owed| owed.user == letter.user);
        let wanted = owed.as_ref().zip(id).and_then(|(owed, id)| {
            let mut wanted = owed.wanted(self.want(owed));
            wanted.find(|(command, _)| *command == id.command).map(|(_, hash)| (id, hash))
        });
        if wanted.is_none() && self.is_counted() {
            let detail = format!("gives up {} of {}, which was never owed", letter.id, letter.user);
            self.find(ground, Rule::Dead, self.said_at, detail);
        }
        Ok(wanted)
    }

    /// Goes on to the cursor's place. Answers what is settled with it among what had been passed
    /// before: calls of parked users.
    fn pass(
        &mut self,
        progress: &Progress,
        letters: &Letters,
        ground: &mut Ground<'_>,
    ) -> Result<Vec<Call>, AuditError> {
        let waiting: BTreeMap<UserId, (Offset, u64)> =
            progress.parked.iter().map(|one| (one.user, (one.first, one.done))).collect();
        let waits = |call: &Call| {
            let place = waiting.get(&call.user);
            place.is_some_and(|place| (call.id.offset, call.index) >= *place)
        };
        let mut settled = Vec::new();
        for calls in self.parked.values_mut() {
            let done = calls.iter().take_while(|call| !waits(call)).count();
            settled.extend(calls.drain(..done));
        }
        self.parked.retain(|_, calls| !calls.is_empty());
        for call in &settled {
            self.settle(call, letters, ground)?;
        }
        let (journal, shelf) = (ground.journal, ground.shelf);
        let (from, to) = (self.place, self.cursor.place.next);
        shelf.visit(journal, from, to, &mut |owed| {
            for call in self.owe(owed, ground.range) {
                if waits(&call) {
                    self.parked.entry(call.user).or_default().push_back(call);
                } else {
                    self.settle(&call, letters, ground)?;
                }
            }
            Ok(())
        })?;
        self.place = to;
        Ok(settled)
    }

    /// The calls that a record owes, counted.
    fn owe(&mut self, owed: &Owed, range: &Range) -> Vec<Call> {
        if owed.app != self.whose.app || owed.offset < self.since {
            return Vec::new();
        }
        let in_range = range.holds(self.whose.partition, owed.offset, owed.at);
        let want = self.want(owed);
        let mut calls = Vec::new();
        for (index, (command, hash)) in owed.wanted(want).enumerate() {
            let id = CallId { partition: self.whose.partition, offset: owed.offset, command };
            self.seq += 1;
            self.owed.add(hash);
            let before = self.last.replace(id);
            let (user, at) = (owed.user, owed.at);
            let (index, seq) = (index as u64, self.seq);
            calls.push(Call { id, user, at, hash, index, seq, before, in_range });
        }
        if in_range {
            self.counts.calls += owed.count();
            self.counts.filtered += owed.count() - calls.len() as u64;
        }
        calls
    }

    fn settle(
        &mut self,
        call: &Call,
        letters: &Letters,
        ground: &mut Ground<'_>,
    ) -> Result<(), AuditError> {
        let dead = letters.counted.get(&call.id);
        if call.in_range {
            let count = match dead {
                Some(_) => &mut self.counts.dead,
                None => &mut self.counts.delivered,
            };
            *count += 1;
        }
        let state = dead.map_or(State::Delivered, State::Dead);
        self.tell(call, state, Some(self.said_at), ground.watch)
    }

    fn tell(
        &self,
        call: &Call,
        state: State<'_>,
        known_at: Option<Offset>,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        watch.settled(&Settled {
            cursor: &self.whose.cursor,
            app: self.whose.app,
            id: call.id,
            seq: call.seq,
            user: call.user,
            at: call.at,
            state,
            known_at,
        })
    }

    /// Each parked user waits with a call of theirs.
    fn check_parked(&mut self, progress: &Progress, ground: &mut Ground<'_>) {
        for Parked { user, first, done, .. } in &progress.parked {
            let front = self.parked.get(user).and_then(VecDeque::front);
            let front = front.map(|call| (call.id.offset, call.index));
            if front != Some((*first, *done)) {
                let found = match front {
                    Some((offset, index)) => format!("the first that waits is {index} of {offset}"),
                    None => "none of theirs waits".to_owned(),
                };
                let detail = format!("parks {user} at call {done} of {first}, and {found}");
                self.find(ground, Rule::Parked, self.said_at, detail);
            }
        }
    }

    /// The law of a cursor: what the records before it owe is delivered, dead, or parked.
    fn check_count(
        &mut self,
        progress: &Progress,
        from: Offset,
        settled: &[Call],
        ground: &mut Ground<'_>,
    ) -> Result<(), AuditError> {
        let mut waiting = Tally::default();
        self.parked.values().flatten().for_each(|call| waiting.add(call.hash));
        let mut said = progress.delivered;
        said.add_all(progress.dead);
        said.add_all(waiting);
        if said == self.owed {
            return Ok(());
        }
        let missing = less(self.owed, said);
        let mut culprit = self.gone(settled, missing);
        if culprit.is_none() && missing.count == 1 {
            let (partition, shelf) = (self.whose.partition, ground.shelf);
            shelf.visit(ground.journal, from, self.place, &mut |owed| {
                let mut wanted = owed.wanted(self.want(owed));
                if let Some((command, _)) = wanted.find(|(_, hash)| *hash == missing.digest) {
                    let id = CallId { partition, offset: owed.offset, command };
                    culprit = Some(format!("{id} of {} is in none of them", owed.user));
                }
                Ok(())
            })?;
        }
        let culprit = culprit.unwrap_or_else(|| match signed(missing.count) {
            0 => "the calls that were counted are others than those that were owed".to_owned(),
            some if some > 0 => format!("{some} are in none of them"),
            some => format!("{} are counted too many", some.unsigned_abs()),
        });
        let detail = format!(
            "owes {} calls (digest {:032x}) from {} up to {}, since {from} anew; {} delivered, {} dead \
             and {} parked make {} (digest {:032x}): {culprit}",
            self.owed.count,
            self.owed.digest,
            self.since,
            self.place,
            progress.delivered.count,
            progress.dead.count,
            waiting.count,
            said.count,
            said.digest,
        );
        self.find(ground, Rule::Count, self.said_at, detail);
        self.owed = said;
        Ok(())
    }

    /// Whose calls are gone, if those that are missing are all that one user had parked.
    fn gone(&self, settled: &[Call], missing: Tally) -> Option<String> {
        let mut lost: BTreeMap<UserId, (Tally, Offset)> = BTreeMap::new();
        for call in settled {
            let (tally, _) = lost.entry(call.user).or_insert((Tally::default(), call.id.offset));
            tally.add(call.hash);
        }
        let (user, (tally, first)) = lost.into_iter().find(|(_, (tally, _))| *tally == missing)?;
        let (count, partition) = (tally.count, self.whose.partition);
        Some(format!("{user} was parked at {partition}@{first}, and those {count} are gone"))
    }

    /// The number and the name of the last call before the place where reading begins again.
    fn check_chain(&mut self, progress: &Progress, ground: &mut Ground<'_>) {
        let first = self.parked.values().filter_map(VecDeque::front).min_by_key(|call| call.seq);
        let start = first.map_or(self.place, |call| call.id.offset);
        // The calls of the record that reading begins with are all counted behind it.
        let (seq, last) = match first {
            Some(call) if call.index == 0 => (call.seq - 1, call.before),
            Some(_) => return,
            None => (self.seq, self.last),
        };
        let said_start = progress.resume.map_or(self.cursor.place.next, |place| place.next);
        let said_last = progress.last.as_deref().map(str::to_owned);
        if (said_start, progress.seq, &said_last) == (start, seq, &last.map(|id| id.to_string())) {
            return;
        }
        let name = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
        let detail = format!(
            "reads on at {said_start} behind call {} ({}), where it is {start} behind call {seq} ({})",
            progress.seq,
            name(said_last),
            name(last.map(|id| id.to_string())),
        );
        self.find(ground, Rule::Chain, self.said_at, detail);
        if first.is_none() {
            self.seq = progress.seq;
            self.last = progress.last.as_deref().and_then(|id| id.parse().ok());
        }
    }

    /// What the cursor has not passed yet.
    pub(super) fn place(&self) -> Offset {
        self.place
    }

    /// A record behind the cursor's place, at the end of the journal.
    pub(super) fn wait(
        &mut self,
        owed: &Owed,
        range: &Range,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        for call in self.owe(owed, range) {
            self.counts.behind += 1;
            let oldest = self.counts.oldest.get_or_insert(call.at);
            *oldest = call.at.min(*oldest);
            self.counts.waiting += u64::from(call.in_range);
            self.tell(&call, State::Waiting, None, watch)?;
        }
        Ok(())
    }

    /// The calls of parked users, at the end of the journal.
    pub(super) fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), AuditError> {
        let parked = std::mem::take(&mut self.parked);
        let named: BTreeMap<UserId, Parked> =
            self.cursor.progress.parked.iter().map(|one| (one.user, one.clone())).collect();
        for call in parked.values().flatten() {
            self.counts.parked += u64::from(call.in_range);
            self.counts.behind += 1;
            let oldest = self.counts.oldest.get_or_insert(call.at);
            *oldest = call.at.min(*oldest);
            if let Some(parked) = named.get(&call.user) {
                let first = (call.id.offset, call.index) == (parked.first, parked.done);
                let state = State::Parked { parked, first };
                self.tell(call, state, Some(self.said_at), watch)?;
            }
        }
        Ok(())
    }

    fn find(&self, ground: &mut Ground<'_>, rule: Rule, offset: Offset, detail: String) {
        ground.findings.add(Finding {
            rule,
            subscription: self.whose.cursor.clone(),
            partition: self.whose.partition,
            offset,
            detail,
        });
    }
}

/// What a replay tells of a record, of what is asked for. The same rule as the follower's, said
/// once more on purpose.
pub(super) fn narrow(
    replay: &Replay,
    partition: Partition,
    owed: &Owed,
    asked: Switches,
) -> Switches {
    let offset = owed.offset.0;
    let ranges = &replay.ranges;
    let named = ranges
        .iter()
        .any(|(number, from, until)| *number == partition.0 && (*from..*until).contains(&offset));
    let inside = named
        && replay.since.is_none_or(|since| owed.at >= since)
        && replay.until.is_none_or(|until| owed.at < until)
        && (replay.users.is_empty() || replay.users.contains(&owed.user));
    if !inside {
        return Switches::default();
    }
    let wanted = CallbackCommand::ALL.into_iter().filter(|command| {
        let id = CallId { partition, offset: owed.offset, command: *command };
        let named = |names: &[Box<str>], name: &str| {
            names.is_empty() || names.iter().any(|known| **known == *name)
        };
        asked.has(*command)
            && named(&replay.commands, command.name())
            && named(&replay.ids, &id.to_string())
    });
    wanted.collect()
}

/// What was asked for from where on; of two words about the same place the later one counts.
fn filters(progress: &Progress) -> Vec<(Offset, Switches)> {
    let mut filters: Vec<(Offset, Switches)> = Vec::with_capacity(progress.filters.len());
    for filter in &progress.filters {
        let names = filter.commands.iter();
        let commands = names.filter_map(|name| CallbackCommand::from_name(name)).collect();
        filters.retain(|(from, _)| *from != filter.from);
        filters.push((filter.from, commands));
    }
    filters
}

/// `one` without `other`; both parts may pass zero.
fn less(one: Tally, other: Tally) -> Tally {
    Tally {
        count: one.count.wrapping_sub(other.count),
        digest: one.digest.wrapping_sub(other.digest),
    }
}

/// A difference of counts.
fn signed(count: u64) -> i64 {
    count.cast_signed()
}
