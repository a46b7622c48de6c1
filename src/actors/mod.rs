//! One writer per user; actix stays inside this room.
//!
//! [`Users`] is the only door, before which an [`Asker`] stands: execute a command on one user, or ask
//! about some. Answers speak of durable facts only.

mod again;
mod asking;
mod checkpoint;
mod claim;
mod context;
pub mod elsewhere;
mod gathering;
mod incoming;
mod known;
mod lease;
mod ledger;
mod metrics;
mod outcome;
mod ownership;
mod partition;
mod questions;
mod recovery;
mod registry;
mod repeat;
mod run;
mod seats;
mod settings;
mod snapshot;
mod standby;
mod start;
mod terms;
#[cfg(test)]
mod tests;
mod turns;
mod user;
mod view;
mod waiting;

use std::collections::BTreeSet;
#[cfg(any(test, fuzzing))]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Addr, Handler, Message};
use tokio::sync::{oneshot, watch};

pub use asking::Asker;
pub use context::Policies;
use context::{Context, Directory, addr, deliver};
pub use elsewhere::{Alone, CursorsSeen, Elsewhere, Message as PairMessage, Question, Reply};
use known::Known;
pub use metrics::Metrics;
pub use outcome::{ExecuteError, Executed, ItemError, Standing};
use partition::{
    Ask, BeginCursor, Claim, Execute, Leave, LoadCursors, Look, PartitionActor, Standings, TICK,
};
pub use recovery::{Recovered, RecoveryError, recover};
pub use seats::Seat;
use seats::Seats;
pub use settings::Settings;
use standby::Standby;
use start::Threads;
pub use start::{Parts, StartError};
pub use view::{
    BlocklistPage, FriendRecord, FriendsPage, GroupSeen, Groups, RequestSeen, RequestsPage, View,
    Viewed,
};
use waiting::ReplyBy;

use crate::domain::UserKey;
use crate::journal::{Partition, partition_of};

/// How often a starting node looks whether its partitions are claimed.
const READY_POLL: Duration = Duration::from_millis(2);

/// The door to all users, on whatever arbiter or node they live. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    directory: Arc<Directory>,
    known: Arc<Known>,
    seats: Arc<Seats>,
    standby: Option<Standby>,
    elsewhere: Arc<dyn Elsewhere>,
    alone: bool,
    time_limit: Duration,
    threads: Arc<Mutex<Threads>>,
}

impl Users {
    /// A door without any partitions behind it, for tests of what happens in front of it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn nobody() -> Self {
        Self {
            directory: Arc::new(vec![OnceLock::new()]),
            known: Arc::new(Known::new(1, 1)),
            seats: Arc::new(Seats::new(1)),
            standby: None,
            elsewhere: Arc::new(Alone),
            alone: true,
            time_limit: Duration::ZERO,
            threads: Arc::default(),
        }
    }

    fn partition(&self, key: &UserKey) -> Partition {
        partition_of(key, self.directory.len() as u16)
    }

    fn send<M>(&self, partition: Partition, message: M) -> Result<(), ExecuteError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        actix::Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        self.addr(partition)?.try_send(message).map_err(|error| match error {
            SendError::Full(_) => ExecuteError::Overloaded,
            SendError::Closed(_) if self.alone => ExecuteError::Unavailable,
            SendError::Closed(_) => ExecuteError::Elsewhere,
        })
    }

    /// Whether what is known without asking an actor counts. To be asked before looking: what is found
    /// then was true at this moment or later.
    fn may_know(&self, partition: Partition) -> bool {
        self.alone || self.seats.lease_holds(partition)
    }

    fn owns(&self, partition: Partition) -> bool {
        self.alone || matches!(self.seats.get(partition), Seat::Serving { .. })
    }

    /// Answers as the owner of `partition`, for another node. A command is answered within `patience`;
    /// for any other question the caller keeps its own time limit.
    ///
    /// Errors: [`ExecuteError::Elsewhere`] if this node does not own it.
    pub async fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        let deadline = Instant::now() + patience.min(self.time_limit);
        self.answer_by(partition, question, deadline).await
    }

    async fn answer_by(
        &self,
        partition: Partition,
        question: Question,
        deadline: Instant,
    ) -> Result<Reply, ExecuteError> {
        if !self.owns(partition) {
            return Err(ExecuteError::Elsewhere);
        }
        let lost = if self.alone { ExecuteError::Unavailable } else { ExecuteError::Interrupted };
        match question {
            Question::Execute { key, command, origin, call } => {
                let (reply, answer) = oneshot::channel();
                // Late replies are only noticed at a tick: one tick earlier, to answer in time.
                let reply = ReplyBy::new(reply, deadline.checked_sub(TICK).unwrap_or(deadline));
                self.send(partition, Execute { key, command, origin, call, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Executed)
            }
            Question::Standings { app, pairs } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, Standings { app, pairs, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Standings)
            }
            Question::View { key, view } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, Look { key, view, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::View)
            }
            Question::BeginCursor { subscription, term } => {
                let (reply, answer) = oneshot::channel();
                self.send(partition, BeginCursor { subscription, term, reply })?;
                answer.await.unwrap_or(Err(lost)).map(Reply::Cursors)
            }
            Question::Cursors { prefix } => {
                let addr = self.addr(partition)?;
                let cursors = addr.send(LoadCursors { prefix }).await.ok().flatten();
                cursors.map(Reply::Cursors).ok_or(lost)
            }
        }
    }

    /// Takes a message of another node's partition. Errors: [`ExecuteError::Elsewhere`] if this
    /// node does not own the partition that it goes to.
    pub fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError> {
        let is_here = match message {
            PairMessage::Effects { destination, .. } => self.owns(destination),
            PairMessage::Answered { source, .. } => {
                self.alone || self.seats.get(source).hears_answers()
            }
        };
        if !is_here {
            return Err(ExecuteError::Elsewhere);
        }
        deliver(&self.directory, message);
        Ok(())
    }

    /// How many partitions the journal has.
    pub fn partitions(&self) -> u16 {
        self.directory.len() as u16
    }

    fn addr(&self, partition: Partition) -> Result<&Addr<PartitionActor>, ExecuteError> {
        addr(&self.directory, partition).ok_or(ExecuteError::Unavailable)
    }

    /// What this node has to do with each partition, in their order.
    pub fn seats(&self) -> Vec<Seat> {
        self.seats.all()
    }

    /// Changes whenever a seat does.
    pub fn seat_changes(&self) -> watch::Receiver<u64> {
        self.seats.changes()
    }

    /// Begins to own `partition`. What comes of it shows in [`Users::seats`]: it becomes vacant again
    /// if somebody else claims it.
    pub fn claim(&self, partition: Partition) {
        if let Ok(addr) = self.addr(partition) {
            self.seats.set(partition, Seat::Claiming);
            addr.do_send(Claim);
        }
    }

    /// Hands `partition` over in order; returns when its release is durable, or it was lost.
    pub async fn release(&self, partition: Partition) {
        let (reply, left) = oneshot::channel();
        if let Ok(addr) = self.addr(partition) {
            addr.do_send(Leave { reply });
            // An arbiter that is gone has nothing left to finish.
            let _ = left.await;
        }
    }

    /// Follows exactly `partitions` from now on, as far as they are not this node's own.
    pub fn stand_by(&self, mut partitions: BTreeSet<Partition>) {
        let Some(standby) = &self.standby else { return };
        partitions.retain(|partition| {
            matches!(self.seats.get(*partition), Seat::Vacant | Seat::StandingBy { .. })
        });
        standby.follow(partitions);
    }

    /// How many partitions take commands, of how many, and how many effects are owed.
    pub async fn health(&self) -> Health {
        let mut health = Health { serving: 0, partitions: self.directory.len(), owed: 0 };
        for slot in self.directory.iter() {
            if let Some(addr) = slot.get()
                && let Ok(answer) = addr.send(Ask).await
            {
                health.serving += usize::from(answer.serving);
                health.owed += answer.owed;
            }
        }
        health
    }

    /// Waits until every partition takes commands, `patience` long at most; answers how it stands.
    pub async fn ready(&self, patience: Duration) -> Health {
        let start = Instant::now();
        loop {
            let health = self.health().await;
            if health.serving == health.partitions || start.elapsed() >= patience {
                return health;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }
}

/// How the partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Partitions that take commands.
    pub serving: usize,
    /// All partitions of the node.
    pub partitions: usize,
    /// Effects that no destination has acknowledged yet.
    pub owed: usize,
}
