//! Audits the channels between partitions: which effects were sent, and which were taken.
//!
//! The numbers of a channel are a function of the source's records (cluster.md 4), so they are
//! counted here once more and compared with what the destinations say they have taken. Kept in
//! memory is what is not taken yet; a journal that gives its partitions out of step costs memory
//! for the difference.

use std::collections::{HashMap, HashSet, VecDeque};

use super::follow::{Asked, Need};
use super::people::People;
use super::report::{Noted, Rule};
use crate::domain::{AppId, UserId, UserKey, Version};
use crate::journal::{Commit, Offset, Partition};
use crate::pairing::owed_by;

/// Two users of one app, the smaller name first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    app: AppId,
    users: (UserId, UserId),
}

impl Pair {
    pub(super) fn of(app: AppId, a: UserId, b: UserId) -> Self {
        Self { app, users: (a.min(b), a.max(b)) }
    }
}

/// All channels of a journal.
pub(super) struct Channels {
    partitions: u16,
    /// By source and destination.
    channels: HashMap<(Partition, Partition), Channel, foldhash::fast::RandomState>,
    /// By destination, how many answers wait for their questions.
    waiting: Vec<usize>,
}

/// What is left when everything was read.
pub(super) struct Remainder {
    /// Effects that were asked.
    pub(super) asked: u64,
    /// Those of them that are not taken.
    pub(super) owed: u64,
    /// The pairs of users with an effect on the way.
    pub(super) unsettled: HashSet<Pair>,
    /// Answers whose question was not read yet: the journal went on meanwhile.
    pub(super) ahead: u64,
}

#[derive(Default)]
struct Channel {
    /// How many effects the source's records have asked.
    asked: u64,
    /// Those not taken, oldest first; the last one has the number `asked`.
    owed: VecDeque<Owed>,
    /// The last number that the destination says it has taken.
    taken: u64,
    /// Answers to effects that were not read yet.
    waiting: VecDeque<Answer>,
    /// The last number that the source says the destination has taken, and where it says so.
    acknowledged: Option<(u64, Offset)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Demand {
    from: UserKey,
    version: Version,
    to: UserId,
}

/// An effect that was asked and is not taken.
struct Owed {
    demand: Demand,
    asked: Asked,
}

impl Owed {
    fn is_between(&self, other: &Demand) -> bool {
        (self.demand.from, self.demand.to) == (other.from, other.to)
    }
}

struct Answer {
    seq: u64,
    /// What a record with a cause says it answers; `None` for a watermark.
    said: Option<Demand>,
    /// Which effects its events have to answer.
    needs: Box<[Need]>,
    offset: Offset,
    /// It was read when the end had been reached once already.
    late: bool,
}

impl Channels {
    pub(super) fn new(partitions: u16) -> Self {
        let waiting = vec![0; usize::from(partitions)];
        Self { partitions, channels: HashMap::default(), waiting }
    }

    /// Whether `partition` has answered what was not read yet.
    pub(super) fn wait(&self, partition: Partition) -> bool {
        self.waiting[usize::from(partition.0)] > 0
    }

    /// Numbers the effects of a valid record in `partition`.
    pub(super) fn ask(
        &mut self,
        partition: Partition,
        commit: &Commit,
        people: &People,
        problems: &mut Noted,
    ) {
        owed_by(commit, self.partitions, |destination, owed| {
            let channel = self.channels.entry((partition, destination)).or_default();
            channel.asked += 1;
            let demand = Demand { from: commit.key, version: owed.version, to: owed.to };
            channel.owed.push_back(Owed { demand, asked: Asked::by(&owed.effect) });
            let settled = channel.settle(partition, destination, people, problems);
            self.waiting[usize::from(destination.0)] -= settled;
        });
    }

    /// Takes the cause of a valid record in `partition` into account, whose events have to answer what
    /// `needs` says. `people` have taken the record.
    pub(super) fn answer(
        &mut self,
        (partition, offset): (Partition, Offset),
        (commit, needs): (&Commit, Box<[Need]>),
        late: bool,
        people: &People,
        problems: &mut Noted,
    ) {
        let Some(cause) = commit.cause else { return };
        let said = Demand {
            from: UserKey { app: commit.key.app, user: cause.user },
            version: cause.version,
            to: commit.key.user,
        };
        let answer = Answer { seq: cause.seq, said: Some(said), needs, offset, late };
        self.take(cause.partition, partition, answer, people, problems);
    }

    /// Takes a valid watermark record in `partition` into account.
    pub(super) fn watermark(
        &mut self,
        (partition, offset): (Partition, Offset),
        seen: &[(Partition, u64)],
        late: bool,
        people: &People,
        problems: &mut Noted,
    ) {
        for (source, seq) in seen {
            let answer = Answer { seq: *seq, said: None, needs: Box::default(), offset, late };
            self.take(*source, partition, answer, people, problems);
        }
    }

    /// Takes what a valid record in `partition` says of its own effects into account. What is read late
    /// may speak of records that came behind the reader's back.
    pub(super) fn acknowledged(
        &mut self,
        (partition, offset): (Partition, Offset),
        out: &[(Partition, u64)],
        late: bool,
    ) {
        for (destination, seq) in out {
            let channel = self.channels.entry((partition, *destination)).or_default();
            if !late {
                channel.acknowledged = Some((*seq, offset));
            }
        }
    }

    fn take(
        &mut self,
        source: Partition,
        destination: Partition,
        answer: Answer,
        people: &People,
        problems: &mut Noted,
    ) {
        let channel = self.channels.entry((source, destination)).or_default();
        let place = (destination, answer.offset);
        let (seq, taken) = (answer.seq, channel.taken);
        // A watermark may repeat what is known; a record is always the first to answer.
        let forward = seq > taken || (seq == taken && answer.said.is_none());
        if !forward {
            let detail =
                format!("takes {seq} from partition {source}, which was taken up to {taken}");
            problems.add(Rule::AnswersForward, place, detail);
            return;
        }
        channel.taken = seq;
        channel.waiting.push_back(answer);
        let settled = channel.settle(source, destination, people, problems);
        let waiting = &mut self.waiting[usize::from(destination.0)];
        *waiting = *waiting + 1 - settled;
    }

    /// What is left after the last record. An answer that still lacks its question is a problem
    /// unless it was read late, when the question may have come behind the reader's back.
    pub(super) fn finish(&self, problems: &mut Noted) -> Remainder {
        let mut remainder = Remainder { asked: 0, owed: 0, unsettled: HashSet::new(), ahead: 0 };
        // In their order, so that two runs over one journal say the same.
        let mut channels: Vec<_> = self.channels.iter().collect();
        channels.sort_unstable_by_key(|(ends, _)| **ends);
        for ((source, destination), channel) in channels {
            remainder.asked += channel.asked;
            remainder.owed += channel.owed.len() as u64;
            let answers = channel.waiting.iter().filter_map(|answer| answer.said.as_ref());
            for demand in channel.owed.iter().map(|owed| &owed.demand).chain(answers) {
                let Demand { from, to, .. } = *demand;
                remainder.unsettled.insert(Pair::of(from.app, from.user, to));
            }
            if let Some((seq, offset)) = channel.acknowledged
                && seq > channel.taken
            {
                let taken = channel.taken;
                let detail = format!(
                    "says that partition {destination} has taken {seq}, which has taken only {taken}"
                );
                problems.add(Rule::AcknowledgedTaken, (*source, offset), detail);
            }
            for answer in &channel.waiting {
                if answer.late {
                    remainder.ahead += 1;
                    continue;
                }
                let (seq, asked) = (answer.seq, channel.asked);
                let detail =
                    format!("takes {seq} from partition {source}, which has asked only {asked}");
                problems.add(Rule::AnswersAsked, (*destination, answer.offset), detail);
            }
        }
        remainder
    }

    /// Whether answers were read whose questions were not.
    pub(super) fn is_ahead(&self) -> bool {
        self.channels.values().any(|channel| !channel.waiting.is_empty())
    }
}

impl Channel {
    /// Brings answers and questions together, as far as both were read; answers how many.
    fn settle(
        &mut self,
        source: Partition,
        destination: Partition,
        people: &People,
        problems: &mut Noted,
    ) -> usize {
        let mut settled = 0;
        while self.waiting.front().is_some_and(|answer| answer.seq <= self.asked)
            && let Some(answer) = self.waiting.pop_front()
        {
            settled += 1;
            let first = self.asked - self.owed.len() as u64 + 1;
            let count = (answer.seq + 1).saturating_sub(first) as usize;
            self.hold(count, &answer, (source, destination), people, problems);
            self.owed.drain(..count);
        }
        settled
    }

    /// Holds an answer against the questions that it settles, the first `count` of those that are owed.
    fn hold(
        &self,
        count: usize,
        answer: &Answer,
        (source, destination): (Partition, Partition),
        people: &People,
        problems: &mut Noted,
    ) {
        let place = (destination, answer.offset);
        let taken = || self.owed.range(..count);
        if let (Some(said), Some(last)) = (answer.said, taken().next_back()) {
            let asked = last.demand;
            if said != asked {
                let detail = format!(
                    "says that {}:{} asked {} in effect {} of partition {source}, which was {}:{} to {}",
                    said.from,
                    said.version,
                    said.to,
                    answer.seq,
                    asked.from,
                    asked.version,
                    asked.to
                );
                problems.add(Rule::CauseMatches, place, detail);
                return;
            }
            // One record answers effects of one user on one other that follow each other.
            let run = || taken().rev().take_while(|owed| owed.is_between(&said));
            for need in &answer.needs {
                if !run().any(|owed| need.is_met_by(owed.asked)) {
                    let Demand { from, to, version } = said;
                    let detail = format!(
                        "{to} says {need:?}, which {from} has not asked up to version {version}"
                    );
                    problems.add(need.rule(), place, detail);
                }
            }
        }
        for (index, owed) in taken().enumerate().filter(|(_, owed)| owed.asked.parts()) {
            let Demand { from, to, version } = owed.demand;
            let key = UserKey { app: from.app, user: to };
            if people.named_behind(place, &key, &from.user)
                && !self
                    .owed
                    .range(index..count)
                    .any(|later| later.asked.joins() && later.is_between(&owed.demand))
            {
                let detail =
                    format!("{key} keeps {from} behind the parting of their version {version}");
                problems.add(Rule::PartedWhenTaken, place, detail);
            }
        }
    }
}
