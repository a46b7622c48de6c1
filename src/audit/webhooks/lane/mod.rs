//! One subscription in one partition: each of its cursors is held against what the records owe.
//!
//! Kept in memory are running counts, the deliveries of parked users, and the letters that were written
//! for deliveries which the cursor has not passed.

mod law;
mod letters;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::letters::{Letters, Pending};
use super::super::{AuditError, Findings};
use super::owed::{Owed, Shelf};
use super::report::{Counts, Finding, Rule};
use super::{Quiet, Range, Settled, State, Watch};
use crate::domain::{AppId, Replay, Timestamp, UserId};
use crate::journal::{Cursor, Offset, Parked, Partition, Progress, ReadJournal, Tally};
use crate::webhooks::Switches;
use crate::webhooks::digest::DeliveryId;

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
    pub(super) findings: &'a mut Findings<Finding>,
    pub(super) watch: &'a mut dyn Watch,
}

impl<'a> Ground<'a> {
    /// The same, for a look that nobody hears of.
    fn quiet<'b>(&self, findings: &'b mut Findings<Finding>, watch: &'b mut dyn Watch) -> Ground<'b>
    where
        'a: 'b,
    {
        let (journal, shelf, range) = (self.journal, self.shelf, self.range);
        Ground { journal, shelf, range, findings, watch }
    }
}

/// A delivery that was passed and belongs to a parked user.
#[derive(Clone, Debug)]
struct Delivery {
    id: DeliveryId,
    user: UserId,
    at: Timestamp,
    hash: u128,
    /// Which of its record's wanted deliveries it is.
    index: u64,
    /// Its place in the chain, from 1, and the delivery before it.
    seq: u64,
    before: Option<DeliveryId>,
    in_range: bool,
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
    /// How often another count began behind an end.
    begun_anew: u64,
    /// Where the last end is said.
    pub(super) ended_at: Offset,
    /// Counts of the deliveries that were passed.
    pub(super) counts: Counts,
    since: Offset,
    place: Offset,
    /// The cursor keeps a count.
    counted: bool,
    filters: Vec<(Offset, Switches)>,
    owed: Tally,
    seq: u64,
    last: Option<DeliveryId>,
    parked: BTreeMap<UserId, VecDeque<Delivery>>,
    dead: Tally,
    pending: Vec<Pending>,
    /// The ids that the last cursor told of and counted.
    told: BTreeSet<DeliveryId>,
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
            begun_anew: 0,
            ended_at: Offset(0),
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

    /// How often it was given up.
    pub(super) fn ends(&self) -> u64 {
        self.begun_anew + u64::from(self.cursor.ended)
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
            self.ended_at = said_at;
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
        } else if before.ended || self.cursor.term > before.term {
            // Either this partition goes on, because only others were moved or the end was not known; or
            // it begins anew.
            let follows = self.cursor.progress.since == self.since && next >= self.place;
            let goes_on = follows && self.counted && {
                let mut findings = Findings::default();
                self.clone().hold(&mut ground.quiet(&mut findings, &mut Quiet))?;
                findings.total == 0
            };
            // Without a count, nothing lies between the two.
            self.begun_anew += u64::from(before.ended && !goes_on && (self.counted || !follows));
            if !goes_on {
                self.begin();
            }
        } else if (self.cursor.term, next) < known {
            let detail = format!("goes back from {} to {next} within term {}", known.1, known.0);
            self.find(ground, Rule::Forward, said_at, detail);
            return self.take_for_granted(ground);
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

    /// Goes on to the cursor's place. Answers what is settled with it among what had been passed
    /// before: deliveries of parked users.
    fn pass(
        &mut self,
        progress: &Progress,
        letters: &Letters,
        ground: &mut Ground<'_>,
    ) -> Result<Vec<Delivery>, AuditError> {
        let waiting: BTreeMap<UserId, (Offset, u64)> =
            progress.parked.iter().map(|one| (one.user, (one.first, one.done))).collect();
        let waits = |delivery: &Delivery| {
            let place = waiting.get(&delivery.user);
            place.is_some_and(|place| (delivery.id.offset, delivery.index) >= *place)
        };
        let mut settled = Vec::new();
        for deliveries in self.parked.values_mut() {
            let done = deliveries.iter().take_while(|delivery| !waits(delivery)).count();
            settled.extend(deliveries.drain(..done));
        }
        self.parked.retain(|_, deliveries| !deliveries.is_empty());
        for delivery in &settled {
            self.settle(delivery, letters, ground)?;
        }
        let (journal, shelf) = (ground.journal, ground.shelf);
        let (from, to) = (self.place, self.cursor.place.next);
        shelf.visit(journal, from, to, &mut |owed| {
            for delivery in self.owe(owed, ground.range) {
                if waits(&delivery) {
                    self.parked.entry(delivery.user).or_default().push_back(delivery);
                } else {
                    self.settle(&delivery, letters, ground)?;
                }
            }
            Ok(())
        })?;
        self.place = to;
        Ok(settled)
    }

    /// The deliveries that a record owes, counted.
    fn owe(&mut self, owed: &Owed, range: &Range) -> Vec<Delivery> {
        if owed.app != self.whose.app || owed.offset < self.since {
            return Vec::new();
        }
        let in_range = range.holds(self.whose.partition, owed.offset, owed.at);
        let want = self.want(owed);
        let mut deliveries = Vec::new();
        for (index, (command, hash)) in owed.wanted(want).enumerate() {
            let id = DeliveryId { partition: self.whose.partition, offset: owed.offset, command };
            self.seq += 1;
            self.owed.add(hash);
            let before = self.last.replace(id);
            let (user, at) = (owed.user, owed.at);
            let (index, seq) = (index as u64, self.seq);
            deliveries.push(Delivery { id, user, at, hash, index, seq, before, in_range });
        }
        if in_range {
            self.counts.calls += owed.count();
            self.counts.filtered += owed.count() - deliveries.len() as u64;
        }
        deliveries
    }

    fn settle(
        &mut self,
        delivery: &Delivery,
        letters: &Letters,
        ground: &mut Ground<'_>,
    ) -> Result<(), AuditError> {
        let dead = letters.counted.get(&delivery.id);
        if delivery.in_range {
            let count = match dead {
                Some(_) => &mut self.counts.dead,
                None => &mut self.counts.delivered,
            };
            *count += 1;
        }
        let state = dead.map_or(State::Delivered, State::Dead);
        self.tell(delivery, state, Some(self.said_at), ground.watch)
    }

    fn tell(
        &self,
        delivery: &Delivery,
        state: State<'_>,
        known_at: Option<Offset>,
        watch: &mut dyn Watch,
    ) -> Result<(), AuditError> {
        watch.settled(&Settled {
            cursor: &self.whose.cursor,
            app: self.whose.app,
            id: delivery.id,
            seq: delivery.seq,
            user: delivery.user,
            at: delivery.at,
            state,
            known_at,
        })
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
        for delivery in self.owe(owed, range) {
            self.counts.behind += 1;
            let oldest = self.counts.oldest.get_or_insert(delivery.at);
            *oldest = delivery.at.min(*oldest);
            self.counts.waiting += u64::from(delivery.in_range);
            self.tell(&delivery, State::Waiting, None, watch)?;
        }
        Ok(())
    }

    /// The deliveries of parked users, at the end of the journal.
    pub(super) fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), AuditError> {
        let parked = std::mem::take(&mut self.parked);
        let named: BTreeMap<UserId, Parked> =
            self.cursor.progress.parked.iter().map(|one| (one.user, one.clone())).collect();
        for delivery in parked.values().flatten() {
            self.counts.parked += u64::from(delivery.in_range);
            self.counts.behind += 1;
            let oldest = self.counts.oldest.get_or_insert(delivery.at);
            *oldest = delivery.at.min(*oldest);
            if let Some(parked) = named.get(&delivery.user) {
                let first = (delivery.id.offset, delivery.index) == (parked.first, parked.done);
                let state = State::Parked { parked, first };
                self.tell(delivery, state, Some(self.said_at), watch)?;
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
