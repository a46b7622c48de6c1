//! One task per thread lets go of what the thread's partitions have appended and owe.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Poll;

use super::Context;
use super::ledger::Ledger;

/// Rounds of the thread's queue that a batch waits for the users it has told of effects: one is enough
/// unless they have more to do.
const ROUNDS_MAX: usize = 4;

/// The partitions of a thread that have something to let go of.
#[derive(Default)]
pub(crate) struct Turns {
    /// Held weakly: they hold this.
    waiting: RefCell<Vec<Weak<Ledger>>>,
    running: Cell<bool>,
    /// Effects that users of this thread were told of and have not answered.
    told: Cell<usize>,
}

impl Turns {
    /// A user was told of effects.
    pub(super) fn tell(&self) {
        self.told.set(self.told.get() + 1);
    }

    /// `count` users have answered, or will not.
    pub(super) fn answered(&self, count: usize) {
        self.told.set(self.told.get().saturating_sub(count));
    }
}

impl Ledger {
    /// Lets the actors that are ready have their turns, then sends what they owe to other partitions,
    /// then, when those have reacted too, lets the batch go to the journal: what belongs together is
    /// made durable together, and an idle node waits for nothing.
    pub(in crate::actors) fn schedule_turn(self: &Rc<Self>) {
        if self.turn.replace(true) {
            return;
        }
        let turns = &self.context.turns;
        turns.waiting.borrow_mut().push(Rc::downgrade(self));
        if !turns.running.replace(true) {
            actix::spawn(run(self.context.clone()));
        }
    }
}

async fn run(context: Rc<Context>) {
    let turns = &context.turns;
    let mut batch = Vec::new();
    loop {
        // Behind one look at the network: what has come in meanwhile goes into the same group. More of
        // them were measured, and none: both cost more processor time per call.
        tokio::task::yield_now().await;
        for round in 0..=ROUNDS_MAX {
            loop {
                let begun = std::mem::take(&mut *turns.waiting.borrow_mut());
                if begun.is_empty() {
                    break;
                }
                for ledger in begun.iter().filter_map(Weak::upgrade) {
                    // What is appended from here on gets a turn of its own.
                    ledger.turn.set(false);
                    context.send_all(ledger.partition, ledger.outgoing());
                    batch.push(ledger);
                }
            }
            if turns.told.get() == 0 || round == ROUNDS_MAX {
                break;
            }
            queue_again().await;
        }
        batch.drain(..).for_each(|ledger: Rc<Ledger>| ledger.close_turn());
        context.journal.flush();
        if turns.waiting.borrow().is_empty() {
            turns.running.set(false);
            return;
        }
    }
}

/// Returns behind everything that is ready on this thread. A task that yields would be put behind a
/// look at the network, too: a call of the system each time.
async fn queue_again() {
    let mut queued = false;
    std::future::poll_fn(|task| {
        if std::mem::replace(&mut queued, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
