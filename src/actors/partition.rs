//! One actor per owned partition: the door for commands, questions and effects.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context as ActorContext, Handler, Message};
use tokio::sync::oneshot;

use super::checkpoint::{Pace, write_checkpoint};
use super::gathering::{Gathering, Reply};
use super::incoming::Incoming;
use super::ledger::{Confirmation, Ledger, Status};
use super::ownership::{Keeping, keep, leave};
use super::registry::Registry;
use super::run::Run;
use super::user::{LookAt, Show};
use super::view::{View, Viewed};
use super::waiting::ReplyBy;
use super::{Context, CursorsSeen, ExecuteError, Standing};
use crate::domain::{AppId, CallKey, Command, UserId, UserKey};
use crate::journal::{Body, Cursor, Offset, Origin, Partition, Place};
use crate::pairing::{Answer, OwedEffect};
use crate::store::StoreError;

/// How often waiting requests, unanswered effects and idle actors are looked after.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often the row hash is written into the journal, for audits.
const HASH_RECORD_INTERVAL: Duration = Duration::from_secs(600);
/// Followers that have a cursor in a partition, at most.
const CURSORS_MAX: usize = 8192;

/// See the module.
pub(super) struct PartitionActor {
    ledger: Rc<Ledger>,
    registry: Rc<Registry>,
    incoming: Rc<Incoming>,
    checkpoint: Rc<RefCell<Pace>>,
}

impl PartitionActor {
    pub(super) fn new(context: Rc<Context>, partition: Partition) -> Self {
        let interval = context.settings.checkpoint_interval;
        let pace = Rc::new(RefCell::new(Pace::new(interval, partition, context.partitions)));
        let ledger = Ledger::new(context.clone(), partition);
        let registry = Registry::new(ledger.clone());
        let incoming = Incoming::new(ledger.clone(), registry.clone());
        context.settle_in(partition, &incoming);
        Self { ledger, registry, incoming, checkpoint: pace }
    }

    /// Whether questions may be answered. Where nobody else can own the partition, that is whenever
    /// something is known of it; else only as its owner, within the lease.
    fn readable(&self) -> Result<(), ExecuteError> {
        let context = &self.ledger.context;
        let known = match self.ledger.status() {
            Status::Serving => self.ledger.lease_holds(),
            Status::ReadOnly | Status::Leaving | Status::Released => context.alone,
            Status::Recovering => false,
        };
        if known { Ok(()) } else { Err(context.not_here()) }
    }

    pub(super) fn keeping(&self) -> Keeping {
        Keeping {
            ledger: self.ledger.clone(),
            registry: self.registry.clone(),
            incoming: self.incoming.clone(),
            pace: self.checkpoint.clone(),
        }
    }

    fn tick(&self) {
        self.ledger.tick(Instant::now());
        self.ledger.watch_lease();
        self.registry.tick();
        self.ledger.count_owed();
        if self.ledger.status() != Status::Serving {
            return;
        }
        let settings = &self.ledger.context.settings;
        let (due, hash_due) = {
            let pace = self.checkpoint.borrow();
            (
                Instant::now() >= pace.due || self.registry.is_cramped(),
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
        actix::spawn(keep(self.keeping()));
    }
}

/// Execute a command on a user of this partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Execute {
    pub(super) key: UserKey,
    pub(super) command: Arc<Command>,
    pub(super) origin: Arc<Origin>,
    pub(super) call: Option<CallKey>,
    pub(super) reply: ReplyBy,
}

impl Handler<Execute> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Execute, _: &mut ActorContext<Self>) {
        let Execute { key, command, origin, call, reply } = message;
        // Refused here already, so that a partition that is full starts no actors.
        if let Err(error) = self.ledger.admit() {
            let _ = reply.reply.send(Err(error));
            return;
        }
        if let Err((error, run)) = self.registry.send(key, Run { command, origin, call, reply }) {
            let _ = run.reply.reply.send(Err(error));
        }
    }
}

/// What do users of this partition keep about others?
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Standings {
    pub(super) app: AppId,
    pub(super) pairs: Vec<(UserId, UserId)>,
    pub(super) reply: Reply,
}

impl Handler<Standings> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Standings, _: &mut ActorContext<Self>) {
        let Standings { app, pairs, reply } = message;
        if let Err(error) = self.readable() {
            let _ = reply.send(Err(error));
            return;
        }
        let (count, lost) = (pairs.len(), self.ledger.context.interrupted());
        let gathering = Arc::new(Gathering::begin(count, reply, lost));
        for (slot, (owner, peer)) in pairs.into_iter().enumerate() {
            let key = UserKey { app, user: owner };
            let look = LookAt { peer, slot, into: gathering.clone() };
            let Err(LookAt { .. }) = self.registry.tell_resident(&key, look) else { continue };
            match self.stored(key, peer) {
                Ok(standing) => gathering.put(slot, standing, 0, &self.ledger),
                Err(error) => return self.registry.store_failed(&error),
            }
        }
    }
}

impl PartitionActor {
    /// What the store's rows say about a user without an actor: every record of theirs is in a
    /// checkpoint, or an actor would be resident.
    fn stored(&self, key: UserKey, peer: UserId) -> Result<Standing, StoreError> {
        let (context, partition) = (&self.ledger.context, self.ledger.partition);
        let tables = context.store.tables();
        let relation = tables.relation(partition, &key, &peer)?.unwrap_or_default();
        let owner_imported = context.known.has_account(partition, &key)
            || tables.head(partition, &key)?.is_some_and(|head| head.is_imported());
        let standing = Standing {
            owner_imported,
            blocks: relation.block.is_some(),
            has_friend: relation.friend.is_some(),
        };
        context.known.note(partition, key, peer, standing);
        Ok(standing)
    }
}

/// What does a user of this partition show?
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Look {
    pub(super) key: UserKey,
    pub(super) view: View,
    pub(super) reply: oneshot::Sender<Result<Viewed, ExecuteError>>,
}

impl Handler<Look> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Look, _: &mut ActorContext<Self>) {
        let Look { key, view, reply } = message;
        if let Err(error) = self.readable() {
            let _ = reply.send(Err(error));
            return;
        }
        let (ledger, registry) = (self.ledger.clone(), self.registry.clone());
        // Of this moment: when the task has its turn the partition may be lost, and the store alone
        // knows less than the actors did.
        let (era, lost) = (ledger.era(), ledger.context.interrupted());
        actix::spawn(async move {
            let seen = registry.ask(key, Show(view)).await;
            let Some(seen) = seen.filter(|_| ledger.era() == era) else {
                let _ = reply.send(Err(lost));
                return;
            };
            let answer = move |offset: Option<Offset>| {
                let _ = reply.send(offset.map(|_| seen.answer).ok_or(lost));
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
    pub(super) losses: u64,
}

impl Handler<Effects> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Effects, _: &mut ActorContext<Self>) {
        let Effects { source, prev, effects, losses } = message;
        self.incoming.take(source, prev, effects, losses);
    }
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

/// Where does the follower stand, and where does the partition? Without an answer the partition is not
/// served here.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LoadCursor {
    pub(super) subscription: String,
    pub(super) reply: oneshot::Sender<(Option<Cursor>, Place)>,
}

impl Handler<LoadCursor> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: LoadCursor, _: &mut ActorContext<Self>) {
        let LoadCursor { subscription, reply } = message;
        if self.ledger.status() != Status::Serving {
            return;
        }
        self.ledger.when_cursor_final(subscription, move |stands| {
            if let Some(stands) = stands {
                // Whoever asked may not wait any more.
                let _ = reply.send(stands);
            }
        });
    }
}

/// Record where a follower stands. The reply comes when that is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SaveCursor {
    pub(super) subscription: String,
    pub(super) cursor: Cursor,
    pub(super) reply: oneshot::Sender<Result<(), ExecuteError>>,
}

impl Handler<SaveCursor> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: SaveCursor, _: &mut ActorContext<Self>) {
        let SaveCursor { subscription, cursor, reply } = message;
        if let Err(error) = self.ledger.admit() {
            let _ = reply.send(Err(error));
            return;
        }
        // A follower of an earlier term of office may be behind the one that moved it since.
        let known = self.ledger.cursor_sent(&subscription);
        if known.is_some_and(|(term, place)| (cursor.term, cursor.place.next) < (term, place.next))
        {
            let _ = reply.send(Ok(()));
            return;
        }
        // A node that does not know that the follower has ended must not begin it again.
        let is_new = known.is_none();
        if is_new && (cursor.ended || self.ledger.cursors_count() >= CURSORS_MAX) {
            let _ = reply.send(if cursor.ended { Ok(()) } else { Err(ExecuteError::Overloaded) });
            return;
        }
        let after = move |offset: Option<Offset>| {
            let _ = reply.send(offset.map(|_| ()).ok_or(ExecuteError::Unavailable));
        };
        let body = Body::Cursor { subscription, cursor: Box::new(cursor) };
        self.ledger.append_control(&body, Some(Box::new(after)));
        self.ledger.schedule_turn();
    }
}

/// Give a follower the first cursor of a term, at the partition's end.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BeginCursor {
    pub(super) subscription: String,
    pub(super) term: u32,
    pub(super) reply: oneshot::Sender<Result<CursorsSeen, ExecuteError>>,
}

impl Handler<BeginCursor> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: BeginCursor, _: &mut ActorContext<Self>) {
        let BeginCursor { subscription, term, reply } = message;
        let full = || {
            self.ledger.cursors_count() >= CURSORS_MAX
                && self.ledger.cursor_sent(&subscription).is_none()
        };
        let admitted = self.ledger.admit();
        if let Err(error) =
            admitted.and_then(|()| if full() { Err(ExecuteError::Overloaded) } else { Ok(()) })
        {
            let _ = reply.send(Err(error));
            return;
        }
        let lost = self.ledger.context.interrupted();
        let ledger = self.ledger.clone();
        let name = subscription.clone();
        let after = move |offset: Option<Offset>| {
            let seen = |_| CursorsSeen { end: ledger.position(), cursors: ledger.cursors(&name) };
            let _ = reply.send(offset.map(seen).ok_or(lost));
        };
        self.ledger.begin_cursor(&subscription, term, Some(Box::new(after)));
        self.ledger.schedule_turn();
    }
}

/// Where do followers stand?
#[derive(Message)]
#[rtype(result = "Option<CursorsSeen>")]
pub(super) struct LoadCursors {
    pub(super) prefix: String,
}

impl Handler<LoadCursors> for PartitionActor {
    type Result = Option<CursorsSeen>;

    fn handle(&mut self, message: LoadCursors, _: &mut ActorContext<Self>) -> Self::Result {
        self.readable().ok()?;
        let cursors = self.ledger.cursors(&message.prefix);
        Some(CursorsSeen { end: self.ledger.position(), cursors })
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
/// Answered when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Leave {
    pub(super) reply: oneshot::Sender<()>,
}

impl Handler<Leave> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Leave, _: &mut ActorContext<Self>) {
        self.ledger.wanted.set(false);
        let serving = self.ledger.status() == Status::Serving;
        // Others have their turns before the task below.
        let era = self.ledger.era();
        let keeping = self.keeping();
        actix::spawn(async move {
            if serving {
                leave(keeping, era).await;
            }
            let _ = message.reply.send(());
        });
    }
}

/// Own the partition from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Claim;

impl Handler<Claim> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Claim, _: &mut ActorContext<Self>) {
        self.ledger.wanted.set(true);
        self.ledger.ordered.notify_one();
    }
}

/// The journal's end was asked for on behalf of the leases. Without one, it lacks records that it had
/// acknowledged to this node.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Confirm(pub(super) Option<Confirmation>);

impl Handler<Confirm> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Confirm(confirmation): Confirm, _: &mut ActorContext<Self>) {
        match confirmation {
            Some(confirmation) => self.ledger.confirm(confirmation),
            None => self.ledger.lacks_records(),
        }
    }
}
