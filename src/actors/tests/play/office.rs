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

use crate::actors::claim::{ClaimError, LEASE_WAIT_TENTHS, take_office};
use crate::actors::ledger::{Confirmation, Status};
use crate::actors::ownership::{Gap, Keeping, drop_all, judge_gap, take_in};
use crate::actors::partition::{Answered, Confirm, Effects, Execute, PartitionActor, Standings};
use crate::actors::recovery::{Recovered, RecoveryError, read_to_the_end};
use crate::actors::snapshot::Snapshots;
use crate::actors::terms::Terms;
use crate::actors::{Context, PairMessage};
use crate::domain::UserKey;
use crate::journal::record::encode;
use crate::journal::{Ack, Body, Epoch, Offset, Partition, Settlement};

/// How far the keeper of a partition has come.
pub(super) enum Phase {
    /// This node has nothing to do with it.
    Vacant,
    /// It lost nothing but certainty, or could not read: it is to claim again.
    Doubtful,
    /// The claim is sent.
    Claiming {
        nonce: Uuid,
        epoch: Epoch,
        vacated: bool,
        sent: Instant,
    },
    /// The claim took effect; the former owner's lease is waited out until then.
    Waiting {
        until: Instant,
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
    /// Its process is stopping, where nobody else takes over.
    pub(super) stopping: bool,
    /// It has found that records are missing which it knows of.
    pub(super) halted: bool,
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
            stopping: false,
            halted: false,
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
        if (context.alone || context.seats.lease_holds(self.partition))
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

    pub(super) fn confirm(&mut self, confirmation: Option<Confirmation>) {
        actix::Handler::handle(&mut self.actor, Confirm(confirmation), &mut self.here);
    }

    /// `claim::recovered`. Errors: as there, but that nothing except what `trouble` does may happen.
    fn recovered(&self) -> Result<Recovered, Box<RecoveryError>> {
        let ledger = &self.keeping.ledger;
        let context = self.context();
        let (journal, tables) = (&*context.journal, context.store.tables());
        let kept_bytes_max = context.settings.resident_bytes_max;
        let mut doubted = false;
        loop {
            if ledger.rebuild.replace(false) {
                drop_all(&self.keeping);
                tables.clear(self.partition).expect("memory is writable");
            }
            let archive = context.archive.as_deref().filter(|_| !doubted);
            let snapshots = archive.map(|archive| Snapshots { archive, is_over: &|| false });
            let (all, known) = ([self.partition], ledger.last());
            match read_to_the_end(journal, snapshots, tables, &all, kept_bytes_max, known) {
                Ok(mut states) => return Ok(states.pop().expect("one was asked for")),
                Err(error) if error.spoilt_rows().is_some() && !doubted => {
                    doubted = true;
                    ledger.rebuild.set(true);
                }
                Err(
                    error @ (RecoveryError::Journal(_)
                    | RecoveryError::JournalBehind { .. }
                    | RecoveryError::JournalDiffers { .. }),
                ) => return Err(Box::new(error)),
                Err(error) => panic!("the journal is right: {error}"),
            }
        }
    }

    /// `hold`, when the partition cannot be recovered.
    fn put_off(&mut self, error: &RecoveryError) {
        self.halted |= !matches!(error, RecoveryError::Journal(_));
        self.phase = Phase::Doubtful;
    }

    /// `claim::claim`, up to where it waits for the journal.
    pub(super) fn claim(&mut self) {
        let context = self.context();
        let recovered = match self.recovered() {
            Ok(recovered) => recovered,
            Err(error) => return self.put_off(&error),
        };
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
        let sent = context.seats.now();
        context.journal.append(self.partition, &bytes).expect("it is attached");
        self.phase = Phase::Claiming { nonce, epoch, vacated, sent };
    }

    /// `hold`, when another owner was there first.
    fn beaten(&mut self) {
        drop_all(&self.keeping);
        self.phase = Phase::Vacant;
        self.terms = Terms::default();
    }

    /// `hold`, when a term ends.
    fn end(&mut self, ending: &Ending) {
        if matches!(ending, Ending::Released) && self.context().alone {
            self.phase = Phase::Vacant;
            return;
        }
        self.context().seats.end_lease(self.partition);
        drop_all(&self.keeping);
        match ending {
            Ending::Doubt => self.phase = Phase::Doubtful,
            Ending::Fenced | Ending::Released => {
                assert!(!self.context().alone, "nobody else writes");
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
    pub(super) fn take_settlement(&mut self) -> bool {
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
                self.claimed(nonce, epoch, first, vacated.then_some(sent));
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

    /// `claim::claim`, behind the journal's answer.
    fn claimed(&mut self, nonce: Uuid, epoch: Epoch, first: Offset, vacated: Option<Instant>) {
        let context = self.context();
        let acknowledged = context.seats.now();
        let recovered = match self.recovered() {
            Ok(recovered) => recovered,
            Err(error) => return self.put_off(&error),
        };
        match self.terms.behind_claim(&recovered, (nonce, first), epoch) {
            Ok(()) => {}
            Err(ClaimError::Beaten) => return self.beaten(),
            Err(error) => panic!("{error}"),
        }
        match (context.journal.lease(), vacated) {
            (None, _) => self.serve(recovered, epoch, first),
            (Some(lease), Some(sent)) => {
                context.seats.extend_lease(self.partition, sent, lease);
                self.serve(recovered, epoch, first);
            }
            (Some(lease), None) => {
                let until = acknowledged + lease * LEASE_WAIT_TENTHS / 10;
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
    pub(super) fn wait_out(&mut self) {
        let now = self.context().seats.now();
        if matches!(&self.phase, Phase::Waiting { until, .. } if now >= *until)
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
        let place = ledger.position();
        match judge_gap(journal, self.partition, (place.epoch, place.n), from, to) {
            Ok(Gap::Rubbish) => {
                ledger.gap_is_rubbish(to);
                None
            }
            Ok(Gap::Claim) => Some(Ending::Fenced),
            Ok(Gap::Unforeseen) => Some(Ending::Doubt),
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

    /// The process is stopping.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing of it is waited for any more, if its process is stopping.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopping && !matches!(self.phase, Phase::Serving | Phase::Leaving { .. })
    }

    /// `ownership::leave`: first nothing new is taken, later the release is sent.
    pub(super) fn leave(&mut self, patient: bool) {
        let ledger = self.keeping.ledger.clone();
        let alone = self.context().alone;
        match &self.phase {
            Phase::Serving if !alone => {
                ledger.leave();
                self.phase = Phase::Leaving { released: None };
            }
            // Whoever is alone goes on to serve meanwhile.
            Phase::Serving | Phase::Leaving { released: None } => {
                if patient && (ledger.owed() > 0 || !ledger.is_settled()) {
                    return;
                }
                let released = Rc::new(Cell::new(false));
                let done = released.clone();
                ledger.release(Box::new(move |offset| done.set(offset.is_some())));
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
    pub(super) fn tick(&self) {
        let Keeping { ledger, registry, .. } = &self.keeping;
        ledger.tick(ledger.context.seats.now());
        ledger.watch_lease();
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
