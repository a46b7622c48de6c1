//! What a node knows of a partition, and what it does with what it hears.

use std::collections::VecDeque;

use cordon::journal::{Ack, Body, Epoch, Offset};

use super::Mutation;
use super::journal::{Said, Writer, is_fenced, valid};

/// Some of the commands, as bits.
pub(super) type Commands = u8;

pub(super) fn bits(commands: &[usize]) -> Commands {
    commands.iter().fold(0, |bits, command| bits | 1 << command)
}

/// How many claims had been acknowledged: the model's clock. All that a lease has to be compared
/// with is when claims were acknowledged.
pub(super) type Moment = u8;

/// A record that was handed to the client library.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) said: Said,
    pub(super) at: Moment,
}

/// What the library says of a record: where it stands, or that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settled {
    pub(super) offset: Option<Offset>,
    /// When the record was sent.
    pub(super) at: Moment,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Office {
    #[default]
    None,
    /// Its claim is on the way.
    Candidate {
        nonce: usize,
        epoch: Epoch,
    },
    Owner(Owner),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) writer: Writer,
    /// The commands that the state consists of, those in flight included.
    pub(super) seen: Vec<usize>,
    /// How many of them were there when the claim took effect.
    inherited: usize,
    /// When the claim was acknowledged, if others may still answer on the strength of a lease.
    pub(super) waits_since: Option<Moment>,
    /// When the last thing was sent that confirmed the office.
    pub(super) lease: Moment,
    pub(super) releases: bool,
}

impl Owner {
    /// How many of the commands seen are known to be final.
    pub(super) fn finals(&self) -> usize {
        self.seen.len().min(self.inherited + self.writer.acknowledged() as usize)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.writer.acknowledged() == self.writer.sent()
    }
}

/// A question that was looked up, and is answered once all that was seen is final.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// What somebody had been told before it was asked.
    told: Commands,
    seen: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) office: Office,
    pub(super) wire: VecDeque<Sent>,
    pub(super) settlements: VecDeque<Settled>,
    /// Commands whose callers wait for this node to answer, also over a doubt.
    pub(super) pending: Vec<usize>,
    pub(super) question: Option<Question>,
    /// The last term in which it did not have to wait any more.
    served: Option<Epoch>,
}

impl Node {
    pub(super) fn owner(&self) -> Option<&Owner> {
        match &self.office {
            Office::Owner(owner) => Some(owner),
            Office::None | Office::Candidate { .. } => None,
        }
    }

    pub(super) fn owner_mut(&mut self) -> Option<&mut Owner> {
        match &mut self.office {
            Office::Owner(owner) => Some(owner),
            Office::None | Office::Candidate { .. } => None,
        }
    }

    fn send(&mut self, said: Said, at: Moment) {
        self.wire.push_back(Sent { said, at });
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) log: Vec<Said>,
    pub(super) nodes: Vec<Node>,
    /// What nobody waits for any more and may land at any time or never.
    pub(super) strays: Vec<Said>,
    pub(super) now: Moment,
    /// No lease that rests on something sent before this moment is good any more.
    pub(super) lapsed: Moment,
    pub(super) commands: usize,
    pub(super) claims: usize,
    pub(super) faults: usize,
    /// What callers were told: it is done.
    pub(super) told: Commands,
    /// What callers were told: it is surely not done.
    pub(super) refused: Commands,
    /// An answer did not show what had been told before it was asked for.
    pub(super) missed: bool,
}

/// The protocol with one guard taken away, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules(pub(super) Option<Mutation>);

impl Rules {
    pub(super) fn lack(self, guard: Mutation) -> bool {
        self.0 == Some(guard)
    }

    pub(super) fn commands(self, log: &[Said]) -> Vec<usize> {
        let commands = valid(log, self.blindness()).filter_map(|(_, said)| match &said.body {
            Body::Commit(commit) => Some(Said::of(commit)),
            _ => None,
        });
        commands.collect()
    }

    fn epoch(self, log: &[Said]) -> Epoch {
        valid(log, self.blindness()).last().map_or(Epoch(0), |(_, said)| said.epoch)
    }

    /// Whether `owner` may answer questions. Rule: cluster.md 6.
    pub(super) fn may_answer(self, owner: &Owner, lapsed: Moment) -> bool {
        let has_lease = owner.lease >= lapsed || self.lack(Mutation::LeaseIsNotAskedFor);
        let holds = !owner.releases || self.lack(Mutation::AnswersBehindItsRelease);
        has_lease && holds && owner.waits_since.is_none()
    }
}

impl State {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            log: Vec::new(),
            nodes: vec![Node::default(); nodes],
            strays: Vec::new(),
            now: 0,
            lapsed: 0,
            commands: 0,
            claims: 0,
            faults: 0,
            told: 0,
            refused: 0,
            missed: false,
        }
    }

    pub(super) fn claim(&mut self, rules: Rules, who: usize) {
        let epoch = Epoch(rules.epoch(&self.log).0 + 1);
        let nonce = self.claims;
        self.claims += 1;
        let node = &mut self.nodes[who];
        node.office = Office::Candidate { nonce, epoch };
        node.send(Said::claim(epoch, who, nonce), self.now);
    }

    /// Decides on the state that includes what is in flight.
    pub(super) fn submit(&mut self, who: usize) -> Option<()> {
        let command = self.commands;
        self.commands += 1;
        let node = &mut self.nodes[who];
        let owner = node.owner_mut()?;
        let n = owner.writer.send();
        let said = Said::command(owner.writer.epoch(), n, command, owner.seen.len());
        owner.seen.push(command);
        node.pending.push(command);
        node.send(said, self.now);
        Some(())
    }

    pub(super) fn release(&mut self, who: usize) -> Option<()> {
        let node = &mut self.nodes[who];
        let owner = node.owner_mut()?;
        owner.releases = true;
        let n = owner.writer.send();
        let said = Said::release(owner.writer.epoch(), n);
        node.send(said, self.now);
        Some(())
    }

    pub(super) fn land(&mut self, who: usize) -> Option<()> {
        let Sent { said, at } = self.nodes[who].wire.pop_front()?;
        let offset = Some(Offset(self.log.len() as u64));
        self.log.push(said);
        self.nodes[who].settlements.push_back(Settled { offset, at });
        Some(())
    }

    /// The library writes a record once more. Whoever waits for it hears of the first place, or of
    /// the second.
    pub(super) fn repeat(&mut self, offset: usize, told: bool) -> Option<()> {
        let second = Offset(self.log.len() as u64);
        self.log.push(self.log[offset].clone());
        if told {
            let first = Some(Offset(offset as u64));
            let mut all = self.nodes.iter_mut().flat_map(|node| &mut node.settlements);
            all.find(|settled| settled.offset == first)?.offset = Some(second);
        }
        Some(())
    }

    /// The office is gone, or in doubt: everything that is not confirmed is dropped, and what the
    /// callers asked for is kept. Rule: cluster.md 2.4.
    fn step_down(&mut self, rules: Rules, who: usize) {
        let found = bits(&rules.commands(&self.log));
        let node = &mut self.nodes[who];
        node.office = Office::None;
        node.settlements.clear();
        node.question = None;
        self.strays.extend(node.wire.drain(..).map(|sent| sent.said));
        self.strays.sort_by_key(Said::key);
        if rules.lack(Mutation::DoubtIsDecidedWithoutAClaim) {
            let pending = bits(&std::mem::take(&mut node.pending));
            self.told |= pending & found;
            self.refused |= pending & !found;
        }
    }

    pub(super) fn crash(&mut self, rules: Rules, who: usize) {
        self.nodes[who].pending.clear();
        self.nodes[who].served = None;
        self.step_down(rules, who);
    }

    pub(super) fn hear(&mut self, rules: Rules, who: usize) -> Option<()> {
        let Settled { offset, at } = self.nodes[who].settlements.pop_front()?;
        match (offset, &self.nodes[who].office) {
            (Some(offset), Office::Candidate { nonce, epoch }) => {
                let (nonce, epoch) = (*nonce, *epoch);
                self.read_back(rules, who, (offset, at), nonce, epoch);
            }
            (Some(offset), Office::Owner(_)) => self.acknowledge(rules, who, (offset, at)),
            (None, _) | (_, Office::None) => self.step_down(rules, who),
        }
        Some(())
    }

    /// The claim stands at `offset`. Rule: cluster.md 2.3, `claim`.
    fn read_back(
        &mut self,
        rules: Rules,
        who: usize,
        (offset, at): (Offset, Moment),
        mine: usize,
        epoch: Epoch,
    ) {
        let (mut in_force, mut released, mut is_release) = (None, false, false);
        let (mut last_owner, mut was_mine) = (None, false);
        let (mut last_term, mut before) = (None, None);
        for (offset, said) in valid(&self.log, rules.blindness()) {
            if let Body::Claim { node, nonce } = &said.body {
                in_force = Some((offset, nonce.as_u128() as usize));
                released = is_release;
                was_mine = last_owner.replace(node) == Some(node);
                before = last_term.replace(said.epoch);
            }
            is_release = matches!(said.body, Body::Release { .. });
        }
        if in_force != Some((offset, mine)) && !rules.lack(Mutation::ClaimIsNotReadBack) {
            self.step_down(rules, who);
            return;
        }
        self.now += 1;
        let seen = rules.commands(&self.log);
        let hastens = rules.lack(Mutation::TakeOverDoesNotWait)
            || was_mine && rules.lack(Mutation::OwnReclaimDoesNotWait);
        // Nobody answers any more who had the partition before a term in which the wait was over.
        let served = before.is_some() && self.nodes[who].served == before;
        let waits = !released && !served && !hastens;
        // Everything before the claim is decided and everything later of older epochs is void: each
        // command in doubt is done, or never will be.
        let node = &mut self.nodes[who];
        self.refused |= bits(&node.pending) & !bits(&seen);
        node.pending.retain(|command| seen.contains(command));
        node.served = if waits { node.served } else { Some(epoch) };
        node.office = Office::Owner(Owner {
            writer: Writer::new(epoch, offset),
            inherited: seen.len(),
            seen,
            waits_since: waits.then_some(self.now),
            lease: at,
            releases: false,
        });
        self.answer(who);
    }

    /// The next record in flight stands at `offset`. Rule: cluster.md 2.3, `ack`.
    fn acknowledge(&mut self, rules: Rules, who: usize, (offset, at): (Offset, Moment)) {
        let Some(owner) = self.nodes[who].owner_mut() else { return };
        let blind = rules.lack(Mutation::OffsetsAreNotLookedAt);
        let offset = if blind { owner.writer.next_offset() } else { offset };
        let mut ack = owner.writer.acknowledge(offset, 1);
        if let Ack::Gap { from, to } = ack {
            let gap = &self.log[from.0 as usize..to.0 as usize];
            if is_fenced(gap, owner.writer.epoch()) && !rules.lack(Mutation::GapIsNotRead) {
                self.step_down(rules, who);
                return;
            }
            owner.writer.gap_is_rubbish(to);
            ack = owner.writer.acknowledge(offset, 1);
        }
        let Ack::Final { .. } = ack else {
            self.step_down(rules, who);
            return;
        };
        let late = rules.lack(Mutation::LeaseCountsFromTheAcknowledgement);
        owner.lease = owner.lease.max(if late { self.now } else { at });
        let is_over = owner.releases && owner.is_settled();
        self.answer(who);
        if is_over {
            self.nodes[who].office = Office::None;
        }
    }

    /// Nothing is in flight, and the log ends where the owner believes. Rule: cluster.md 6, `owner`.
    pub(super) fn confirm(&mut self, who: usize) -> Option<()> {
        let owner = self.nodes[who].owner_mut()?;
        owner.lease = self.now;
        Some(())
    }

    /// The leases of everybody who confirmed by something sent before the claim are over.
    pub(super) fn end_wait(&mut self, who: usize) -> Option<()> {
        let owner = self.nodes[who].owner_mut()?;
        let (since, epoch) = (owner.waits_since.take()?, owner.writer.epoch());
        self.nodes[who].served = Some(epoch);
        self.lapsed = self.lapsed.max(since);
        self.answer(who);
        Some(())
    }

    /// Answers the callers whose answers speak of final records only.
    fn answer(&mut self, who: usize) {
        let Node { office: Office::Owner(owner), pending, question, .. } = &mut self.nodes[who]
        else {
            return;
        };
        if owner.waits_since.is_some() {
            return;
        }
        let finals = &owner.seen[..owner.finals()];
        let ready = bits(pending) & bits(finals);
        pending.retain(|command| ready & 1 << *command == 0);
        self.told |= ready;
        if let Some(asked) = question.take_if(|asked| asked.seen <= finals.len()) {
            let seen = bits(&owner.seen[..asked.seen]);
            self.tell(asked.told, seen);
        }
    }

    fn tell(&mut self, told_before: Commands, seen: Commands) {
        self.missed |= told_before & !seen != 0;
        self.told |= seen;
    }

    /// Somebody asks, and the owner looks it up at once.
    pub(super) fn ask(&mut self, rules: Rules, who: usize) -> Option<()> {
        let owner = self.nodes[who].owner()?;
        let seen = owner.seen.len();
        if owner.finals() == seen || rules.lack(Mutation::AnswersBeforeItIsFinal) {
            let seen = bits(&owner.seen);
            self.tell(self.told, seen);
        } else {
            self.nodes[who].question = Some(Question { told: self.told, seen });
        }
        Some(())
    }
}
