//! Effects of other partitions' records, applied in order.

mod forgetting;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use self::forgetting::Forgetting;
use super::ledger::{Ledger, Outgoing, Status};
use super::registry::Registry;
use super::user::{Applied, Apply};
use crate::domain::{Effect, UserKey};
use crate::journal::{Offset, Partition};
use crate::pairing::OwedEffect;

/// Effects of one source that may wait here; more are sent again later.
const WAITING_MAX: usize = 100_000;
/// Effects of one user on one other that are answered by one record; deletions that are forgotten
/// together.
const RUN_MAX: usize = 100;

/// What a partition takes from others, and from itself.
pub(super) struct Incoming {
    ledger: Rc<Ledger>,
    registry: Rc<Registry>,
    /// By source.
    channels: Box<[RefCell<Channel>]>,
    forgetting: RefCell<Forgetting>,
    /// Users that were told of effects and have not answered.
    told: Cell<usize>,
}

/// Effects from one source partition, taken and not yet applied.
#[derive(Default)]
struct Channel {
    queue: VecDeque<(u64, Arc<OwedEffect>)>,
    /// Some of them are being applied, in order.
    busy: bool,
}

/// Some effects of one user on one other, or some deletions in one app; the number of the last, and
/// whom they are for.
struct Run {
    key: UserKey,
    effects: Vec<Arc<OwedEffect>>,
    seq: u64,
}

/// Rings if effects get lost on their way to a user: what was taken and not applied may only be
/// forgotten together with the inbox.
pub(super) struct Unheard(pub(super) Option<Arc<Notify>>);

impl Unheard {
    /// They have arrived.
    pub(super) fn heard(mut self) {
        self.0 = None;
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(lost) = &self.0 {
            lost.notify_one();
        }
    }
}

impl Incoming {
    pub(super) fn new(ledger: Rc<Ledger>, registry: Rc<Registry>) -> Rc<Self> {
        let channels = (0..ledger.context.partitions).map(|_| RefCell::default()).collect();
        Rc::new(Self {
            ledger,
            registry,
            channels,
            forgetting: RefCell::default(),
            told: Cell::new(0),
        })
    }

    /// Takes what another partition of this thread has for this one.
    pub(super) fn take_in(self: &Rc<Self>, from: Partition, message: Outgoing) {
        match message {
            Outgoing::Effects { prev, effects, losses, .. } => {
                self.take(from, prev, effects, losses);
            }
            Outgoing::Answer { answer, .. } => self.ledger.take_answer(from, answer),
        }
    }

    /// Takes effects of `source`, numbered from `prev + 1` on, if the source knows of as many losses of
    /// the journal as this partition does. A source that has not learned of a loss may send effects of
    /// records that will never exist.
    pub(super) fn take(
        self: &Rc<Self>,
        source: Partition,
        prev: u64,
        effects: Vec<Arc<OwedEffect>>,
        losses: u64,
    ) {
        let Some(channel) = self.channels.get(usize::from(source.0)) else { return };
        // Whoever gets no answer sends again.
        if self.ledger.status() != Status::Serving
            || losses != self.ledger.losses()
            || channel.borrow().queue.len() + effects.len() > WAITING_MAX
        {
            return;
        }
        if let Err(answer) = self.ledger.take_effects(source, prev, effects.len()) {
            let (context, here) = (&self.ledger.context, self.ledger.partition);
            context.send_all(here, vec![Outgoing::Answer { to: source, answer }]);
            return;
        }
        {
            let mut channel = channel.borrow_mut();
            channel.queue.extend((prev + 1..).zip(effects));
            if std::mem::replace(&mut channel.busy, true) {
                return;
            }
        }
        self.go_on(source);
    }

    /// Forgets what was taken.
    pub(super) fn clear(&self) {
        self.channels.iter().for_each(|channel| drop(channel.take()));
        drop(self.forgetting.take());
        self.ledger.context.turns.answered(self.told.take());
    }

    /// Gives the next user the effects that are for them. The record of one user is appended before the
    /// next user is told: the last record in the journal says how far the channel has come.
    fn go_on(self: &Rc<Self>, source: Partition) {
        // Of this moment: when a task has its turn the partition may be lost.
        let era = self.ledger.era();
        loop {
            if !self.ledger.admits_effects(1) {
                actix::spawn(Rc::clone(self).go_on_later(source, era));
                return;
            }
            let Some(run) = self.next(source) else { return };
            if matches!(run.effects[0].effect, Effect::Forget) {
                self.forget(source, run, era);
                return;
            }
            if self.nothing_to_sever(&run) {
                self.ledger.mark_seen(source, run.seq);
                continue;
            }
            let Run { key, effects, seq } = run;
            let unheard = Unheard(Some(self.ledger.lost.clone()));
            if self.registry.tell(key, Apply { source, effects, seq, unheard }) {
                self.told.set(self.told.get() + 1);
                self.ledger.context.turns.tell();
            }
            return;
        }
    }

    /// The user has answered the effects of `source` up to `seq`.
    pub(super) fn applied(self: &Rc<Self>, source: Partition, seq: u64, applied: Applied) {
        self.told.set(self.told.get().saturating_sub(1));
        self.ledger.context.turns.answered(1);
        if applied == Applied::Nothing {
            self.ledger.mark_seen(source, seq);
        }
        self.go_on(source);
    }

    /// The next effects of `source` that one record may answer, or that are forgotten together. Without
    /// one the channel rests.
    fn next(&self, source: Partition) -> Option<Run> {
        let mut channel = self.channels[usize::from(source.0)].borrow_mut();
        let Some((mut seq, first)) = channel.queue.pop_front() else {
            channel.busy = false;
            return None;
        };
        let is_deletion = |owed: &OwedEffect| matches!(owed.effect, Effect::Forget);
        let joins = |first: &OwedEffect, next: &OwedEffect| match is_deletion(first) {
            true => is_deletion(next) && next.app == first.app,
            false => {
                !is_deletion(next)
                    && (next.to, next.from, next.app) == (first.to, first.from, first.app)
            }
        };
        let mut effects = vec![first];
        while effects.len() < RUN_MAX
            && channel.queue.front().is_some_and(|(_, next)| joins(&effects[0], next))
            && let Some((next_seq, next)) = channel.queue.pop_front()
        {
            seq = next_seq;
            effects.push(next);
        }
        Some(Run { key: UserKey { app: effects[0].app, user: effects[0].to }, effects, seq })
    }

    /// The same when there is room for one more record.
    async fn go_on_later(self: Rc<Self>, source: Partition, era: u64) {
        if self.has_room(1, era).await {
            self.go_on(source);
        }
    }

    /// Whether what was taken in the era `era` may still be recorded.
    fn goes_on(&self, era: u64) -> bool {
        self.ledger.era() == era && self.ledger.may_record()
    }

    /// Waits until one more record may be appended, of those that may take one in `share` of the room.
    /// Answers whether it may; if not, what was taken goes on no more.
    async fn has_room(&self, share: usize, era: u64) -> bool {
        while self.goes_on(era) {
            if self.ledger.admits_effects(share) {
                return true;
            }
            if !self.all_final().await {
                return false;
            }
        }
        false
    }

    /// Returns when everything that is sent now is final; answers whether it is.
    async fn all_final(&self) -> bool {
        let (done, settled) = oneshot::channel();
        let after = move |offset: Option<Offset>| {
            // Whoever waits may have been dropped meanwhile.
            let _ = done.send(offset.is_some());
        };
        self.ledger.when_final(self.ledger.sent(), Box::new(after));
        settled.await.unwrap_or(false)
    }

    /// A user without an actor whose rows hold nothing about the peer has nothing to let go of: most of
    /// a batch against strangers ends here, without waking anybody.
    fn nothing_to_sever(&self, run: &Run) -> bool {
        let Self { ledger, registry, .. } = self;
        if registry.is_resident(&run.key)
            || !run.effects.iter().all(|owed| matches!(owed.effect, Effect::Sever { .. }))
        {
            return false;
        }
        let tables = ledger.context.store.tables();
        let row = tables.relation(ledger.partition, &run.key, &run.effects[0].from);
        row.is_ok_and(|row| row.is_none())
    }
}
