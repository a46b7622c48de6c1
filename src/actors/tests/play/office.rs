//! A partition on a node: the product's own, and its keeper, taken apart into steps.
//!
//! What is re-enacted of `actors::ownership` is the order of its steps, because `keep` waits on
//! threads; each step is its own code.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use crate::actors::ledger::{Confirmation, Status};
use crate::actors::ownership::{ClaimError, Keeping, drop_all, has_claim, take_in, take_office};
use crate::actors::partition::{Answered, Confirm, Effects, Execute, PartitionActor, Standings};
use crate::actors::recovery::{Recovered, recover};
use crate::actors::terms::Terms;
use crate::actors::{Context, PairMessage};
use crate::domain::UserKey;
use crate::journal::record::encode;
use crate::journal::{Ack, Body, Epoch, Offset, Partition, Settlement};

/// How far the keeper of a partition has come.
pub(super) enum Phase {
    /// This node has nothing to do with it.
    Vacant,
    /// It lost nothing but certainty: it is to claim again.
    Doubtful,
    /// The claim is sent.
    Claiming {
        nonce: Uuid,
        epoch: Epoch,
        vacated: bool,
        sent: Instant,
    },
    /// The claim took effect; the former owner's lease is waited out until this tick.
    Waiting {
        until: u64,
        recovered: Box<Recovered>,
        epoch: Epoch,
        first: Offset,
    },
    Serving,
    /// Nothing new is taken; once the release is sent, whether it is final.
    Leaving {
        released: Option<Rc<Cell<bool>>>,
    },
}

impl Phase {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Vacant => "vacant",
            Self::Doubtful => "doubtful",
            Self::Claiming { .. } => "claiming",
            Self::Waiting { .. } => "waiting",
            Self::Serving => "serving",
            Self::Leaving { released: None } => "leaving",
            Self::Leaving { released: Some(_) } => "released",
        }
    }
}

enum Ending {
    Doubt,
    Fenced,
    Released,
}

/// One partition on one node.
pub(super) struct Office {
    actor: PartitionActor,
    here: actix::Context<PartitionActor>,
    pub(super) keeping: Keeping,
    terms: Terms,
    told: Option<UnboundedReceiver<Settlement>>,
    pub(super) phase: Phase,
    pub(super) partition: Partition,
}

impl Office {
    pub(super) fn new(context: Rc<Context>, partition: Partition) -> Self {
        let actor = PartitionActor::new(context, partition);
        Self {
            keeping: actor.keeping(),
            actor,
            here: actix::Context::new(),
            terms: Terms::default(),
            told: None,
            phase: Phase::Vacant,
            partition,
        }
    }

    /// Nothing of it does anything any more.
    pub(super) fn die(&mut self) {
        drop_all(&self.keeping);
        self.told = None;
    }

    fn context(&self) -> Rc<Context> {
        self.keeping.ledger.context.clone()
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Whether it takes messages of other partitions, as the door of a node has it.
    pub(super) fn is_there(&self) -> bool {
        self.keeping.ledger.status() == Status::Serving
    }

    pub(super) fn execute(&mut self, message: Execute) {
        actix::Handler::handle(&mut self.actor, message, &mut self.here);
    }

    /// As at the door of a node: what is known there is answered there.
    pub(super) fn look(&mut self, message: Standings) {
        let context = self.context();
        if context.seats.lease_holds(self.partition)
            && let [(owner, peer)] = message.pairs[..]
            && let key = (UserKey { app: message.app, user: owner })
            && let Some(standing) = context.known.standing(self.partition, key, peer)
        {
            let _ = message.reply.send(Ok(vec![standing]));
            return;
        }
        actix::Handler::handle(&mut self.actor, message, &mut self.here);
    }

    pub(super) fn deliver(&mut self, message: PairMessage) {
        match message {
            PairMessage::Effects { source, prev, effects, losses, .. } => {
                let message = Effects { source, prev, effects, losses };
                actix::Handler::handle(&mut self.actor, message, &mut self.here);
            }
            PairMessage::Answered { destination, answer, .. } => {
                let message = Answered { destination, answer };
                actix::Handler::handle(&mut self.actor, message, &mut self.here);
            }
        }
    }

    pub(super) fn confirm(&mut self, confirmation: Confirmation) {
        actix::Handler::handle(&mut self.actor, Confirm(confirmation), &mut self.here);
    }

    fn recovered(&self) -> Recovered {
        let context = self.context();
        let tables = context.store.tables();
        if self.keeping.ledger.rebuild.replace(false) {
            tables.clear(self.partition).expect("memory is writable");
        }
        let archive = context.archive.as_deref();
        let states = recover(
            &*context.journal,
            archive,
            tables,
            &[self.partition],
            context.settings.resident_bytes_max,
        );
        states.expect("the journal is right").pop().expect("one was asked for")
    }

    /// `ownership::claim`, up to where it waits for the journal.
    pub(super) fn claim(&mut self, now: Instant) {
        let context = self.context();
        let recovered = self.recovered();
        let judged = self.terms.before_claim(&recovered);
        let Ok((epoch, vacated)) = judged else { return self.beaten() };
        let Keeping { ledger, registry, .. } = &self.keeping;
        registry.adopt(ledger.restore(recovered));
        let (told, settlements) = unbounded_channel();
        ledger.attach(told);
        self.told = Some(settlements);
        let nonce = Uuid::now_v7();
        self.terms.note_sent(nonce);
        let mut bytes = Vec::new();
        encode(epoch, 0, &Body::Claim { node: context.node.clone(), nonce }, &mut bytes);
        context.journal.append(self.partition, &bytes).expect("it is attached");
        self.phase = Phase::Claiming { nonce, epoch, vacated, sent: now };
    }

    /// `hold`, when another owner was there first.
    fn beaten(&mut self) {
        drop_all(&self.keeping);
        self.phase = Phase::Vacant;
        self.terms = Terms::default();
    }

    /// `hold`, when a term ends.
    fn end(&mut self, ending: &Ending) {
        self.context().seats.end_lease(self.partition);
        drop_all(&self.keeping);
        match ending {
            Ending::Doubt => self.phase = Phase::Doubtful,
            Ending::Fenced | Ending::Released => {
                self.phase = Phase::Vacant;
                self.terms = Terms::default();
            }
        }
    }

    /// Whether there is a settlement to be taken.
    pub(super) fn is_told(&self) -> bool {
        let waits = matches!(self.phase, Phase::Waiting { .. });
        !waits && self.told.as_ref().is_some_and(|told| !told.is_empty())
    }

    /// Takes the next settlement, if there is one; answers whether there was.
    pub(super) fn take_settlement(&mut self, tick: u64, wait: u64) -> bool {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return false;
        }
        let Some(settlement) = self.told.as_mut().and_then(|told| told.try_recv().ok()) else {
            return false;
        };
        match (&self.phase, settlement) {
            (
                Phase::Claiming { nonce, epoch, vacated, sent },
                Settlement::Durable { first, count: 1 },
            ) => {
                let (nonce, epoch, vacated, sent) = (*nonce, *epoch, *vacated, *sent);
                self.claimed(nonce, epoch, first, vacated.then_some(sent), tick + wait);
            }
            (Phase::Claiming { .. }, _) => self.phase = Phase::Doubtful,
            (Phase::Serving | Phase::Leaving { .. }, Settlement::Durable { first, count }) => {
                if let Some(ending) = self.settle(first, count) {
                    self.end(&ending);
                }
            }
            (Phase::Serving | Phase::Leaving { .. }, Settlement::Lost) => self.end(&Ending::Doubt),
            (Phase::Vacant | Phase::Doubtful | Phase::Waiting { .. }, _) => {}
        }
        true
    }

    /// `ownership::claim`, behind the journal's answer.
    fn claimed(
        &mut self,
        nonce: Uuid,
        epoch: Epoch,
        first: Offset,
        vacated: Option<Instant>,
        until: u64,
    ) {
        let recovered = self.recovered();
        match self.terms.behind_claim(&recovered, (nonce, first), epoch) {
            Ok(()) => {}
            Err(ClaimError::Beaten) => return self.beaten(),
            Err(error) => panic!("{error}"),
        }
        let context = self.context();
        match vacated {
            Some(sent) => {
                let lease = context.journal.lease().expect("others may write, too");
                context.seats.extend_lease(self.partition, sent, lease);
                self.serve(recovered, epoch, first);
            }
            None => {
                let recovered = Box::new(recovered);
                self.phase = Phase::Waiting { until, recovered, epoch, first };
            }
        }
    }

    fn serve(&mut self, recovered: Recovered, epoch: Epoch, first: Offset) {
        self.terms.note_served(epoch);
        take_office(&self.keeping, recovered, epoch, first);
        self.phase = Phase::Serving;
    }

    /// The former owner's lease may be over.
    pub(super) fn wait_out(&mut self, tick: u64) {
        if matches!(&self.phase, Phase::Waiting { until, .. } if tick >= *until)
            && let Phase::Waiting { recovered, epoch, first, .. } =
                std::mem::replace(&mut self.phase, Phase::Vacant)
        {
            self.serve(*recovered, epoch, first);
        }
    }

    /// `ownership::settle`.
    fn settle(&mut self, first: Offset, count: u64) -> Option<Ending> {
        let ledger = self.keeping.ledger.clone();
        loop {
            match take_in(&ledger, first, count) {
                Ack::Final { .. } => return None,
                Ack::Gap { from, to } => {
                    if let Some(ending) = self.read_gap(from, to) {
                        return Some(ending);
                    }
                }
                Ack::Doubt => return Some(Ending::Doubt),
            }
        }
    }

    /// `ownership::read_gap`.
    fn read_gap(&self, from: Offset, to: Offset) -> Option<Ending> {
        let ledger = &self.keeping.ledger;
        let journal = &*ledger.context.journal;
        match has_claim(journal, self.partition, ledger.epoch(), from, to) {
            Ok(false) => {
                ledger.gap_is_rubbish(to);
                None
            }
            Ok(true) => Some(Ending::Fenced),
            Err(_) => Some(Ending::Doubt),
        }
    }

    /// What rang since the last look: `ownership::take_settlements` without the settlements.
    pub(super) fn heed(&mut self) {
        if !matches!(self.phase, Phase::Serving | Phase::Leaving { .. }) {
            return;
        }
        let ledger = self.keeping.ledger.clone();
        if let Phase::Leaving { released: Some(released) } = &self.phase
            && released.get()
        {
            self.save();
            return self.end(&Ending::Released);
        }
        if rings(&ledger.lost) {
            return self.end(&Ending::Doubt);
        }
        if rings(&ledger.suspicion)
            && let Some(confirmation) = ledger.foreign.take()
        {
            let from = ledger.position().next;
            if from < confirmation.end
                && let Some(ending) = self.read_gap(from, confirmation.end)
            {
                return self.end(&ending);
            }
            ledger.confirm(confirmation);
        }
    }

    /// `ownership::leave`: first nothing new is taken, later the release is sent.
    pub(super) fn leave(&mut self, patient: bool) {
        let ledger = self.keeping.ledger.clone();
        match &self.phase {
            Phase::Serving => {
                ledger.leave();
                self.phase = Phase::Leaving { released: None };
            }
            Phase::Leaving { released: None } => {
                if patient && (ledger.owed() > 0 || !ledger.is_settled()) {
                    return;
                }
                ledger.append_acknowledged(0);
                let released = Rc::new(Cell::new(false));
                let done = released.clone();
                let hash = ledger.hash().to_string();
                let after = move |offset: Option<Offset>| done.set(offset.is_some());
                ledger.append_control(&Body::Release { hash }, Some(Box::new(after)));
                self.phase = Phase::Leaving { released: Some(released) };
            }
            _ => {}
        }
    }

    /// The store takes what is final; `checkpoint::write_checkpoint` without its thread.
    pub(super) fn save(&self) {
        let Keeping { ledger, registry, .. } = &self.keeping;
        if let Some(checkpoint) = ledger.checkpoint(1) {
            let tables = ledger.context.store.tables();
            match tables.write(self.partition, &checkpoint.rows, &checkpoint.mark) {
                Ok(()) => registry.note_saved(checkpoint.mark.n),
                Err(_) => ledger.keep_unsaved(checkpoint.rows),
            }
        }
    }

    /// `PartitionActor::tick`.
    pub(super) fn tick(&self, now: Instant) {
        let Keeping { ledger, registry, .. } = &self.keeping;
        ledger.tick(now);
        registry.tick();
        if ledger.status() == Status::Recovering {
            assert!(ledger.outgoing().is_empty(), "what it follows from may be lost");
        }
    }

    /// The owner says what its rows are.
    pub(super) fn state_hash(&self) {
        let ledger = &self.keeping.ledger;
        let hash = ledger.hash().to_string();
        ledger.append_control(&Body::Checkpoint { hash }, None);
        ledger.schedule_turn();
    }
}

fn rings(bell: &Notify) -> bool {
    let rung: Pin<Box<_>> = Box::pin(bell.notified());
    rung.now_or_never().is_some()
}
