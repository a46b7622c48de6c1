//! What several users answer, for one who waits for all of it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::ledger::Ledger;
use super::{ExecuteError, Standing};
use crate::journal::Offset;

/// Where the answers go.
pub(super) type Reply = oneshot::Sender<Result<Vec<Standing>, ExecuteError>>;

/// Collects answers that come one by one. It goes from user to user, and the last one sends it to the
/// asker, so that no task waits for each single answer. If it is dropped earlier, because an actor or its
/// partition is gone, the asker gets that as an error. Everything that holds it is on one thread.
pub(super) struct Gathering(Mutex<Gathered>);

struct Gathered {
    answers: Vec<Standing>,
    missing: usize,
    /// The last record that one of the answers speaks of.
    n: u64,
    reply: Option<Reply>,
    lost: ExecuteError,
}

impl Gathering {
    /// Gathers `count` answers for `reply`; `lost` is what is said if they do not come.
    pub(super) fn begin(count: usize, reply: Reply, lost: ExecuteError) -> Self {
        Self(Mutex::new(Gathered {
            answers: vec![Standing::default(); count],
            missing: count,
            n: 0,
            reply: Some(reply),
            lost,
        }))
    }

    /// Takes the answer for `slot`, which speaks of nothing behind record `n`. The last one goes out
    /// with all others, once what they speak of is final.
    pub(super) fn put(&self, slot: usize, answer: Standing, n: u64, ledger: &Ledger) {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.answers[slot] = answer;
        gathered.missing -= 1;
        gathered.n = gathered.n.max(n);
        if gathered.missing > 0 {
            return;
        }
        let Some(reply) = gathered.reply.take() else { return };
        let (answers, n) = (std::mem::take(&mut gathered.answers), gathered.n);
        // Whoever asked may not wait any more.
        if ledger.is_final(n) {
            let _ = reply.send(Ok(answers));
            return;
        }
        let lost = gathered.lost.clone();
        let after = move |offset: Option<Offset>| {
            let _ = reply.send(offset.map(|_| answers).ok_or(lost));
        };
        ledger.when_final(n, Box::new(after));
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let all = std::mem::take(&mut self.answers);
            let _ = reply.send(if self.missing == 0 { Ok(all) } else { Err(self.lost.clone()) });
        }
    }
}
