//! Somebody who asks at the door, and until when they wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::{ExecuteError, Executed, Question, Reply, Users};
use crate::domain::{CallKey, Command, UserKey};
use crate::journal::{Origin, Partition};

/// How long a question whose owner is not found waits before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Questions of one call that are on their way to one node at a time: a sixteenth of those that a node
/// may be asked at all.
pub(super) const ASKED_AT_ONCE: usize = 16;

/// Somebody who asks: whatever they ask, one question after the other, is over at one deadline.
///
/// Errors of every question: [`ExecuteError::TimedOut`] at the deadline, which is also what becomes of an
/// owner that is not found; [`ExecuteError::Overloaded`] if too many wait at the owner; and
/// [`ExecuteError::Unavailable`] if the owner has nothing to say that is durable.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub(super) users: &'a Users,
    pub(super) deadline: Instant,
}

impl Users {
    /// Somebody who waits as long as a request may.
    pub fn asker(&self) -> Asker<'_> {
        self.until(Instant::now() + self.time_limit)
    }

    /// Somebody who waits until `deadline`.
    pub fn until(&self, deadline: Instant) -> Asker<'_> {
        Asker { users: self, deadline }
    }

    /// Returns when this node owns `partition`.
    async fn is_taken_over(&self, partition: Partition, changes: &mut watch::Receiver<u64>) {
        while !self.owns(partition) {
            changes.changed().await.expect("who tells of changes lives as long as the seats");
        }
    }
}

impl Asker<'_> {
    /// Waits for half of the time that is left, so that there is some for what comes next.
    pub fn by_half(self) -> Self {
        let now = Instant::now();
        Self { deadline: now + self.deadline.saturating_duration_since(now) / 2, ..self }
    }

    /// Waits for `least`, also where less time is left.
    pub fn at_least(self, least: Duration) -> Self {
        Self { deadline: self.deadline.max(Instant::now() + least), ..self }
    }

    /// Asks the owner of `partition`, wherever that is, until somebody has answered or the deadline
    /// has passed: owners change, and a question in between is asked again.
    pub(super) async fn ask(
        self,
        partition: Partition,
        question: Question,
    ) -> Result<Reply, ExecuteError> {
        let Self { users, deadline } = self;
        if users.alone {
            return users.answer_by(partition, question, deadline).await;
        }
        let mut changes = users.seats.changes();
        loop {
            changes.borrow_and_update();
            let answer = if users.owns(partition) {
                users.answer_by(partition, question.clone(), deadline).await
            } else {
                let patience = deadline.saturating_duration_since(Instant::now());
                // An owner that hangs would hold the question although this node has taken over.
                tokio::select! {
                    answer = users.elsewhere.ask(partition, question.clone(), patience) => answer,
                    () = users.is_taken_over(partition, &mut changes) => continue,
                }
            };
            if !matches!(answer, Err(ExecuteError::Elsewhere | ExecuteError::Interrupted)) {
                return answer;
            }
            if Instant::now() + ASK_AGAIN >= deadline {
                return Err(ExecuteError::TimedOut);
            }
            // Whichever comes first: this node may just become the owner itself.
            let _ = timeout(ASK_AGAIN, changes.changed()).await;
        }
    }

    /// Asks each question of its partition's owner; answers in their order. Of one node
    /// [`ASKED_AT_ONCE`] are asked at a time, and all nodes side by side: one that says nothing holds
    /// up nobody else's answers, and at the deadline its own are [`ExecuteError::TimedOut`].
    pub(super) async fn ask_each(
        self,
        questions: impl IntoIterator<Item = (Partition, Question)>,
    ) -> Vec<Result<Reply, ExecuteError>> {
        let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut answers = Vec::new();
        for (place, (partition, question)) in questions.into_iter().enumerate() {
            let users = self.users;
            let whose = (users.owns(partition), users.elsewhere.owner(partition));
            let asked = async move { (place, self.ask(partition, question).await) };
            lanes.entry(whose).or_default().push(asked);
            answers.push(Err(ExecuteError::TimedOut));
        }
        let lanes = lanes.into_values();
        let lanes = lanes.map(|lane| stream::iter(lane).buffer_unordered(ASKED_AT_ONCE));
        let mut answered = stream::select_all(lanes.map(Box::pin));
        let gathered = async {
            while let Some((place, answer)) = answered.next().await {
                answers[place] = answer;
            }
        };
        if self.users.alone {
            // Nobody is asked elsewhere.
            gathered.await;
        } else {
            // Who has answered by then has.
            let _ = timeout_at(self.deadline.into(), gathered).await;
        }
        answers
    }

    /// Executes `command` on the user `key` and waits until what the answer says is durable on both
    /// sides, or the deadline has passed.
    ///
    /// Errors: those of every [`Asker`], and [`ExecuteError::Rejected`] if all of it is refused.
    pub async fn execute(
        self,
        key: UserKey,
        command: Command,
        origin: Origin,
    ) -> Result<Executed, ExecuteError> {
        self.execute_call(key, command, origin, None).await
    }

    /// The same for a call with a key of the caller's own: what it does is kept with the change, so
    /// that a repeat does it once.
    ///
    /// Errors: also [`Rejection::KeyReused`](crate::domain::Rejection::KeyReused).
    pub async fn execute_call(
        self,
        key: UserKey,
        command: Command,
        origin: Origin,
        call: Option<CallKey>,
    ) -> Result<Executed, ExecuteError> {
        let (command, origin) = (Arc::new(command), Arc::new(origin));
        let question = Question::Execute { key, command, origin, call };
        match self.ask(self.users.partition(&key), question).await? {
            Reply::Executed(executed) => Ok(executed),
            Reply::Standings(_) | Reply::View(_) | Reply::Cursors(_) => {
                Err(ExecuteError::Unavailable)
            }
        }
    }
}
