//! One actor per owned partition: the door for commands, questions and effects, and the task that
//! keeps the partition's right to write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context as ActorContext, Handler, Message};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::ledger::{Ledger, Outgoing, Status};
use super::recovery::{Recovered, RecoveryError, recover};
use super::registry::Registry;
use super::user::{Applied, Apply, Forget, ListBlocked, LookAt, Run};
use super::waiting::ReplyTo;
use super::{BlocklistPage, Context, ExecuteError, Standing};
use crate::domain::{AppId, Command, Effect, UserId, UserKey};
use crate::journal::record::{decode, encode};
use crate::journal::{
    Ack, Body, Durability, Epoch, JournalError, Offset, Origin, Partition, Settlement, WriterRule,
};
use crate::pairing::{Answer, OwedEffect};
use crate::store::CursorMark;

/// How often waiting requests, unanswered effects and idle actors are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How long the partition waits before it tries to claim again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the row hash is written into the journal, for audits.
const HASH_RECORD_INTERVAL: Duration = Duration::from_secs(600);
/// Effects of one source that may wait here; more are sent again later.
const INCOMING_MAX: usize = 100_000;
/// Users told of a deleted account between two looks at the store.
const FORGET_CHUNK: usize = 500;
/// How often a deletion looks whether its checkpoint is written.
const FORGET_POLL: Duration = Duration::from_millis(2);
/// Effects of one user on one other that are answered by one record.
const RUN_MAX: usize = 100;

/// See the module.
pub(super) struct PartitionActor {
    ledger: Rc<Ledger>,
    registry: Rc<Registry>,
    incoming: Vec<Rc<RefCell<Incoming>>>,
    checkpoint: Rc<RefCell<Pace>>,
}

/// Effects from one source partition, taken and not yet applied.
#[derive(Default)]
struct Incoming {
    queue: VecDeque<(u64, Arc<OwedEffect>)>,
    draining: bool,
}

/// When checkpoints and hash records are due.
struct Pace {
    writing: bool,
    last: Instant,
    last_hash: Instant,
}

impl PartitionActor {
    pub(super) fn new(context: Rc<Context>, partition: Partition) -> Self {
        let count = context.partitions;
        let ledger = Ledger::new(context, partition);
        let now = Instant::now();
        Self {
            registry: Registry::new(ledger.clone()),
            incoming: (0..count).map(|_| Rc::default()).collect(),
            checkpoint: Rc::new(RefCell::new(Pace { writing: false, last: now, last_hash: now })),
            ledger,
        }
    }

    fn readable(&self) -> Result<(), ExecuteError> {
        match self.ledger.status() {
            Status::Serving | Status::ReadOnly | Status::Leaving => Ok(()),
            Status::Recovering => Err(ExecuteError::Unavailable),
        }
    }

    fn tick(&self) {
        self.ledger.tick(Instant::now());
        self.registry.tick();
        if self.ledger.status() != Status::Serving {
            return;
        }
        let settings = &self.ledger.context.settings;
        let (due, hash_due) = {
            let pace = self.checkpoint.borrow();
            (
                pace.last.elapsed() >= settings.checkpoint_interval,
                pace.last_hash.elapsed() >= HASH_RECORD_INTERVAL,
            )
        };
        if hash_due {
            self.checkpoint.borrow_mut().last_hash = Instant::now();
            let hash = self.ledger.hash().to_string();
            self.ledger.append_control(&Body::Checkpoint { hash }, None);
            self.ledger.schedule_turn();
        }
        write_checkpoint(
            &self.ledger,
            &self.registry,
            &self.checkpoint,
            if due { 1 } else { settings.checkpoint_records },
        );
    }
}

impl Actor for PartitionActor {
    type Context = ActorContext<Self>;

    fn started(&mut self, here: &mut ActorContext<Self>) {
        here.set_mailbox_capacity(self.ledger.context.settings.partition_mailbox_max);
        here.run_interval(TICK, |actor, _| actor.tick());
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        let (incoming, pace) = (self.incoming.clone(), self.checkpoint.clone());
        actix::spawn(async move { own(&ledger, &registry, &incoming, &pace).await });
    }
}

/// Hands what is final and not in the store to the store's thread, if it is enough.
fn write_checkpoint(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    records_min: u64,
) {
    if pace.borrow().writing {
        return;
    }
    let Some(checkpoint) = ledger.checkpoint(records_min) else { return };
    pace.borrow_mut().writing = true;
    pace.borrow_mut().last = Instant::now();
    let (partition, era, n) = (ledger.partition, ledger.era(), checkpoint.mark.n);
    let (done, written) = oneshot::channel();
    let work = move |tables: &crate::store::Tables| {
        let result = tables.write(partition, &checkpoint.changes, &checkpoint.mark);
        // The partition may be gone by now.
        let _ = done.send(result.map_err(|error| (error, checkpoint.changes)));
    };
    if let Err(error) = ledger.context.store.run(work) {
        tracing::warn!(%error, journal.partition = %partition, "checkpoint put off");
        ledger.lost.notify_one();
    }
    let (ledger, registry, pace) = (ledger.clone(), registry.clone(), pace.clone());
    actix::spawn(async move {
        let result = written.await;
        pace.borrow_mut().writing = false;
        if ledger.era() != era {
            return;
        }
        match result {
            Ok(Ok(())) => registry.note_saved(n),
            Ok(Err((error, changes))) => {
                // The journal has it all; the rows go with the next checkpoint.
                tracing::error!(%error, journal.partition = %partition, "checkpoint failed");
                ledger.keep_changes(changes);
            }
            Err(_) => {}
        }
    });
}

/// Keeps the partition: recovers it, claims it, takes acknowledgements; from the start again when
/// the journal's answers leave a doubt.
async fn own(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    incoming: &[Rc<RefCell<Incoming>>],
    pace: &Rc<RefCell<Pace>>,
) {
    let partition = ledger.partition;
    let mut told = false;
    loop {
        match claim(ledger).await {
            Ok(settlements) => {
                if told {
                    tracing::info!(journal.partition = %partition, "the partition takes commands again");
                }
                told = false;
                take_settlements(ledger, settlements).await;
                ledger.context.metrics.doubts.inc();
            }
            Err(error) => {
                if !told {
                    tracing::error!(%error, journal.partition = %partition, "no commands are taken");
                    told = true;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        if ledger.status() == Status::Leaving {
            return;
        }
        ledger.drop_unconfirmed();
        registry.clear();
        for source in incoming {
            source.borrow_mut().queue.clear();
        }
        pace.borrow_mut().writing = false;
    }
}

/// Why a claim did not take effect.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Recovery(#[from] Box<RecoveryError>),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal did not acknowledge the claim")]
    Unacknowledged,
    #[error("another owner claimed the partition at the same time")]
    Beaten,
    #[error("the state store does not keep up")]
    Store,
}

/// Claims the partition. Rule: cluster.md 2.3, `claim`.
async fn claim(ledger: &Rc<Ledger>) -> Result<UnboundedReceiver<Settlement>, ClaimError> {
    let journal = &ledger.context.journal;
    let recovered = recovered(ledger).await?;
    let epoch = Epoch(recovered.rule.epoch().0 + 1);
    ledger.restore(recovered);
    let (told, mut settlements) = unbounded_channel();
    journal.attach(ledger.partition, told);
    let nonce = Uuid::now_v7();
    let node = ledger.context.node.clone();
    let mut bytes = Vec::new();
    encode(epoch, 0, &Body::Claim { node, nonce }, &mut bytes);
    journal.append(ledger.partition, &bytes)?;
    journal.flush();
    let Some(Settlement::Durable { first, count: 1 }) = settlements.recv().await else {
        return Err(ClaimError::Unacknowledged);
    };
    let recovered = self::recovered(ledger).await?;
    if recovered.claim != Some((nonce, first)) {
        return Err(ClaimError::Beaten);
    }
    ledger.restore(recovered);
    ledger.claimed(WriterRule::new(epoch, first));
    ledger.schedule_turn();
    Ok(settlements)
}

async fn recovered(ledger: &Rc<Ledger>) -> Result<Recovered, ClaimError> {
    let journal = ledger.context.journal.clone();
    let partition = ledger.partition;
    let rebuild = ledger.rebuild.replace(false);
    let (done, result) = oneshot::channel();
    let work = move |tables: &crate::store::Tables| {
        let cleared = if rebuild { tables.clear(partition) } else { Ok(()) };
        let result = cleared
            .map_err(RecoveryError::from)
            .and_then(|()| recover(&*journal, tables, &[partition]));
        // The partition may be gone by now.
        let _ = done.send(result);
    };
    ledger.context.store.run(work).map_err(|_| ClaimError::Store)?;
    let mut states = result.await.map_err(|_| ClaimError::Store)?.map_err(Box::new)?;
    states.pop().ok_or(ClaimError::Store)
}

/// Takes acknowledgements until one leaves a doubt, or somebody else raises one.
async fn take_settlements(ledger: &Rc<Ledger>, mut settlements: UnboundedReceiver<Settlement>) {
    loop {
        let settlement = {
            let next = std::pin::pin!(settlements.recv());
            let lost = std::pin::pin!(ledger.lost.notified());
            match futures_util::future::select(next, lost).await {
                futures_util::future::Either::Left((settlement, _)) => settlement,
                futures_util::future::Either::Right(_) => return,
            }
        };
        let Some(Settlement::Durable { first, count }) = settlement else { return };
        loop {
            let (ack, outgoing) = ledger.acknowledged(first, count);
            ledger.context.send_all(ledger.partition, outgoing);
            match ack {
                Ack::Final { .. } => break,
                Ack::Gap { from, to } => match gap_has_claim(ledger, from, to).await {
                    Ok(false) => ledger.gap_is_rubbish(to),
                    Ok(true) => {
                        tracing::warn!(journal.partition = %ledger.partition, "fenced by another owner");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, journal.partition = %ledger.partition, "doubt");
                        return;
                    }
                },
                Ack::Doubt => return,
            }
        }
        if ledger.context.journal.durability() == Durability::PerPartition {
            ledger.context.send_all(ledger.partition, ledger.outgoing());
        }
    }
}

/// Whether another owner's claim stands in `[from, to)`. Rule: cluster.md 2.3, `o > next`.
async fn gap_has_claim(
    ledger: &Rc<Ledger>,
    from: Offset,
    to: Offset,
) -> Result<bool, JournalError> {
    let (journal, partition, epoch) =
        (ledger.context.journal.clone(), ledger.partition, ledger.epoch());
    let read = move || {
        let mut reader = journal.reader(&[(partition, from)])?;
        loop {
            let entries = reader.next(1 << 20)?;
            if entries.is_empty() {
                let end = journal.end(partition)?;
                return Err(JournalError::NoSuchOffset { partition, offset: to, end });
            }
            for entry in entries {
                if entry.offset >= to {
                    return Ok(false);
                }
                let claims = decode(&entry.bytes).is_ok_and(|record| {
                    matches!(record.body, Body::Claim { .. }) && record.epoch > epoch
                });
                if claims {
                    return Ok(true);
                }
            }
        }
    };
    match actix::spawn(async move { actix_web::rt::task::spawn_blocking(read).await }).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => {
            Err(JournalError::Unavailable { reason: "the read ended early".into() })
        }
    }
}

/// Execute a command on a user of this partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Execute {
    pub(super) key: UserKey,
    pub(super) command: Command,
    pub(super) origin: Arc<Origin>,
    pub(super) reply: ReplyTo,
}

impl Handler<Execute> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Execute, _: &mut ActorContext<Self>) {
        let Execute { key, command, origin, reply } = message;
        // Refused here already, so that a partition that is full starts no actors.
        if let Err(error) = self.ledger.admit() {
            let _ = reply.send(Err(error));
            return;
        }
        if let Err((error, run)) = self.registry.send(key, Run { command, origin, reply }) {
            let _ = run.reply.send(Err(error));
        }
    }
}

/// What do users of this partition keep about others?
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Standings {
    pub(super) app: AppId,
    pub(super) pairs: Vec<(UserId, UserId)>,
    pub(super) reply: oneshot::Sender<Result<Vec<Standing>, ExecuteError>>,
}

impl Handler<Standings> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Standings, _: &mut ActorContext<Self>) {
        let Standings { app, pairs, reply } = message;
        if let Err(error) = self.readable() {
            let _ = reply.send(Err(error));
            return;
        }
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        actix::spawn(async move {
            let era = ledger.era();
            let mut answers = Vec::with_capacity(pairs.len());
            let mut last = 0;
            for (owner, peer) in pairs {
                let key = UserKey { app, user: owner };
                let Some((standing, n)) = standing(&ledger, &registry, key, peer).await else {
                    let _ = reply.send(Err(ExecuteError::Unavailable));
                    return;
                };
                if standing.owner_imported && ledger.is_final(n) {
                    // On the thread that also records deletions, so that none is missed.
                    ledger.context.accounts.insert(key, ());
                }
                last = last.max(n);
                answers.push(standing);
            }
            if ledger.era() != era {
                let _ = reply.send(Err(ExecuteError::Unavailable));
                return;
            }
            let answer = move |offset: Option<Offset>| {
                let result = offset.map(|_| answers).ok_or(ExecuteError::Unavailable);
                let _ = reply.send(result);
            };
            ledger.when_final(last, Box::new(answer));
        });
    }
}

/// From the actor if there is one, else from the store's rows: then every record of the user is in
/// a checkpoint, or an actor would be resident.
async fn standing(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    key: UserKey,
    peer: UserId,
) -> Option<(Standing, u64)> {
    if registry.is_resident(&key) {
        let seen = registry.ask(key, LookAt { peer }).await?;
        return Some((seen.answer, seen.n));
    }
    let tables = ledger.context.store.tables();
    let read = || {
        let relation = tables.relation(ledger.partition, &key, &peer)?.unwrap_or_default();
        let known = ledger.context.accounts.get(&key).is_some();
        let imported =
            known || tables.head(ledger.partition, &key)?.is_some_and(|head| head.is_imported());
        Ok(Standing {
            owner_imported: imported,
            blocks: relation.block.is_some(),
            has_friend: relation.friend.is_some(),
        })
    };
    match read() {
        Ok(standing) => Some((standing, 0)),
        Err(error) => {
            registry.store_failed(&error);
            None
        }
    }
}

/// A page of a user's blocklist.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Blocklist {
    pub(super) key: UserKey,
    pub(super) start: usize,
    pub(super) max: usize,
    pub(super) reply: oneshot::Sender<Result<BlocklistPage, ExecuteError>>,
}

impl Handler<Blocklist> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Blocklist, _: &mut ActorContext<Self>) {
        let Blocklist { key, start, max, reply } = message;
        if let Err(error) = self.readable() {
            let _ = reply.send(Err(error));
            return;
        }
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        actix::spawn(async move {
            let Some(seen) = registry.ask(key, ListBlocked { start, max }).await else {
                let _ = reply.send(Err(ExecuteError::Unavailable));
                return;
            };
            let answer = move |offset: Option<Offset>| {
                let _ = reply.send(offset.map(|_| seen.answer).ok_or(ExecuteError::Unavailable));
            };
            ledger.when_final(seen.n, Box::new(answer));
        });
    }
}

/// Effects of another partition's records on users of this one.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Effects {
    pub(super) source: Partition,
    pub(super) prev: u64,
    pub(super) effects: Vec<Arc<OwedEffect>>,
}

impl Handler<Effects> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Effects, _: &mut ActorContext<Self>) {
        let Effects { source, prev, effects } = message;
        let Some(incoming) = self.incoming.get(usize::from(source.0)) else { return };
        // Whoever gets no answer sends again.
        if self.ledger.status() != Status::Serving
            || incoming.borrow().queue.len() + effects.len() > INCOMING_MAX
        {
            return;
        }
        let here = self.ledger.partition;
        if let Err(answer) = self.ledger.take_effects(source, prev, effects.len()) {
            self.ledger.context.send_all(here, vec![Outgoing::Answer { to: source, answer }]);
            return;
        }
        {
            let mut incoming = incoming.borrow_mut();
            incoming.queue.extend((prev + 1..).zip(effects));
            if std::mem::replace(&mut incoming.draining, true) {
                return;
            }
        }
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        let (pace, incoming) = (self.checkpoint.clone(), incoming.clone());
        actix::spawn(async move {
            drain(&ledger, &registry, &pace, &incoming, source).await;
            incoming.borrow_mut().draining = false;
        });
    }
}

/// Applies the effects of one source in order: the record of one is appended before the next is
/// handed to its user, because the journal says how far a channel has come by its last record.
async fn drain(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    incoming: &RefCell<Incoming>,
    source: Partition,
) {
    let era = ledger.era();
    loop {
        while !ledger.admits_effects() {
            if ledger.era() != era {
                return;
            }
            let (room, made) = oneshot::channel();
            ledger.when_final(
                ledger.sent(),
                Box::new(move |_| {
                    // The effects may be dropped meanwhile.
                    let _ = room.send(());
                }),
            );
            if made.await.is_err() {
                return;
            }
        }
        let (key, seq, effects) = {
            let mut incoming = incoming.borrow_mut();
            let Some((mut seq, first)) = incoming.queue.pop_front() else { return };
            let mut effects = vec![first];
            while effects.len() < RUN_MAX
                && incoming.queue.front().is_some_and(|(_, next)| {
                    next.to == effects[0].to
                        && next.from == effects[0].from
                        && next.app == effects[0].app
                        && !matches!(effects[0].effect, Effect::Forget)
                        && !matches!(next.effect, Effect::Forget)
                })
                && let Some((next_seq, next)) = incoming.queue.pop_front()
            {
                seq = next_seq;
                effects.push(next);
            }
            (UserKey { app: effects[0].app, user: effects[0].to }, seq, effects)
        };
        if matches!(effects[0].effect, Effect::Forget) {
            match forget(ledger, registry, pace, &effects[0]).await {
                _ if ledger.era() != era => return,
                Some(()) => ledger.mark_seen(source, seq),
                None => {
                    ledger.lost.notify_one();
                    return;
                }
            }
            continue;
        }
        if nothing_to_sever(ledger, registry, &key, &effects) {
            ledger.mark_seen(source, seq);
            continue;
        }
        match registry.ask(key, Apply { source, effects, seq }).await {
            _ if ledger.era() != era => return,
            Some(Applied::Recorded) => {}
            Some(Applied::Nothing) => ledger.mark_seen(source, seq),
            Some(Applied::Stale) | None => {
                // What was taken and not applied may only be forgotten together with the inbox.
                ledger.lost.notify_one();
                return;
            }
        }
    }
}

/// Makes every user of the partition forget a deleted account. Nothing if the partition was recovered
/// meanwhile, or its store fails; then the effect is not done with and comes again.
///
/// Found by a scan of the store's rows on the store's thread, a bounded number of users at a time,
/// after a checkpoint of everything that was recorded before.
async fn forget(
    ledger: &Rc<Ledger>,
    registry: &Rc<Registry>,
    pace: &Rc<RefCell<Pace>>,
    effect: &OwedEffect,
) -> Option<()> {
    let (partition, era) = (ledger.partition, ledger.era());
    let target = ledger.sent();
    while registry.saved() < target {
        if ledger.era() != era {
            return None;
        }
        write_checkpoint(ledger, registry, pace, 1);
        tokio::time::sleep(FORGET_POLL).await;
    }
    let (app, peer) = (effect.app, effect.from);
    let mut after = None;
    loop {
        let (done, owners) = oneshot::channel();
        let scan = move |tables: &crate::store::Tables| {
            // The partition may be gone by now.
            let _ = done.send(tables.who_names(partition, app, &peer, after, FORGET_CHUNK));
        };
        ledger.context.store.run(scan).ok()?;
        let owners = owners.await.ok()?.map_err(|error| registry.store_failed(&error)).ok()?;
        after = owners.last().copied();
        let last = owners.len() < FORGET_CHUNK;
        for owner in owners {
            let message = Forget { peer, by: effect.origin.clone() };
            match registry.ask(owner, message).await? {
                Applied::Recorded | Applied::Nothing => {}
                Applied::Stale => return None,
            }
        }
        if last {
            return Some(());
        }
    }
}

/// A user without an actor whose rows hold nothing about the peer has nothing to let go of: most of
/// a batch against strangers ends here, without waking anybody.
fn nothing_to_sever(
    ledger: &Ledger,
    registry: &Registry,
    key: &UserKey,
    effects: &[Arc<OwedEffect>],
) -> bool {
    if registry.is_resident(key)
        || !effects.iter().all(|owed| matches!(owed.effect, Effect::Sever { .. }))
    {
        return false;
    }
    let tables = ledger.context.store.tables();
    tables.relation(ledger.partition, key, &effects[0].from).is_ok_and(|row| row.is_none())
}

/// How far another partition has come with effects of this one.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Answered {
    pub(super) destination: Partition,
    pub(super) answer: Answer,
}

impl Handler<Answered> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Answered, _: &mut ActorContext<Self>) {
        self.ledger.take_answer(message.destination, message.answer);
    }
}

/// Where does the follower stand, and where does the partition?
#[derive(Message)]
#[rtype(result = "Option<(Option<CursorMark>, CursorMark)>")]
pub(super) struct LoadCursor {
    pub(super) subscription: String,
}

impl Handler<LoadCursor> for PartitionActor {
    type Result = Option<(Option<CursorMark>, CursorMark)>;

    fn handle(&mut self, message: LoadCursor, _: &mut ActorContext<Self>) -> Self::Result {
        (self.ledger.status() == Status::Serving)
            .then(|| (self.ledger.cursor(&message.subscription), self.ledger.position()))
    }
}

/// Record where a follower stands. The reply comes when that is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SaveCursor {
    pub(super) subscription: String,
    pub(super) mark: CursorMark,
    pub(super) reply: oneshot::Sender<Result<(), ExecuteError>>,
}

impl Handler<SaveCursor> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: SaveCursor, _: &mut ActorContext<Self>) {
        let SaveCursor { subscription, mark: CursorMark { next, epoch, n }, reply } = message;
        if let Err(error) = self.ledger.admit() {
            let _ = reply.send(Err(error));
            return;
        }
        let after = move |offset: Option<Offset>| {
            let _ = reply.send(offset.map(|_| ()).ok_or(ExecuteError::Unavailable));
        };
        let body = Body::Cursor { subscription, next, epoch, n };
        self.ledger.append_control(&body, Some(Box::new(after)));
        self.ledger.schedule_turn();
    }
}

/// How is the partition?
#[derive(Message)]
#[rtype(result = "Health")]
pub(super) struct Ask;

/// What [`Ask`] answers.
#[derive(Clone, Copy, Debug, actix::MessageResponse)]
pub(super) struct Health {
    pub(super) serving: bool,
    pub(super) owed: usize,
}

impl Handler<Ask> for PartitionActor {
    type Result = Health;

    fn handle(&mut self, _: Ask, _: &mut ActorContext<Self>) -> Health {
        Health { serving: self.ledger.status() == Status::Serving, owed: self.ledger.owed() }
    }
}

/// Leave the partition in order: finish what is in flight, release it, write the checkpoint.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Leave {
    pub(super) reply: oneshot::Sender<()>,
}

impl Handler<Leave> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Leave, _: &mut ActorContext<Self>) {
        let serving = self.ledger.status() == Status::Serving;
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        let pace = self.checkpoint.clone();
        let leaving = leave(ledger, registry, pace, serving);
        actix::spawn(async move {
            leaving.await;
            let _ = message.reply.send(());
        });
    }
}

async fn leave(ledger: Rc<Ledger>, registry: Rc<Registry>, pace: Rc<RefCell<Pace>>, serving: bool) {
    if !serving {
        return;
    }
    // Effects that this node's partitions owe each other are finished first: the tick of each
    // goes on meanwhile. What is owed to others stays owed, in the journal.
    let patience = Instant::now() + ledger.context.settings.time_limit;
    while (ledger.owed() > 0 || !ledger.is_settled()) && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ledger.leave();
    let (done, released) = oneshot::channel();
    let hash = ledger.hash().to_string();
    let after = move |_| {
        let _ = done.send(());
    };
    ledger.append_control(&Body::Release { hash }, Some(Box::new(after)));
    ledger.context.journal.flush();
    // Without an answer the journal cannot be written; then there is nothing to wait for.
    let _ = released.await;
    pace.borrow_mut().writing = false;
    write_checkpoint(&ledger, &registry, &pace, 1);
}
