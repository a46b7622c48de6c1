//! One actor per active user: decide, evolve, append. What a command comes to is in `run.rs`; here is
//! what others of the room ask of it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use super::Standing;
use super::gathering::Gathering;
use super::incoming::Unheard;
use super::ledger::{Draft, Ledger};
use super::registry::Residence;
use super::view::{View, Viewed};
use crate::domain::{BlocklistOrder, Event, Timestamp, User, UserId};
use crate::journal::{Cause, Origin, Partition};
use crate::pairing::OwedEffect;
use crate::store::rows::{Before, RowHash};

/// Owns the block and friend sets of one user. Its turns never wait: what they record is in flight
/// when they end, and answers wait in the ledger until it is durable.
pub(super) struct UserActor {
    pub(super) ledger: Rc<Ledger>,
    pub(super) residence: Rc<Residence>,
    pub(super) user: User,
    head: RowHash,
    era: u64,
    /// For whoever turns the pages of the blocklist.
    order: Option<BlocklistOrder>,
}

impl UserActor {
    pub(super) fn new(
        ledger: Rc<Ledger>,
        residence: Rc<Residence>,
        user: User,
        head: RowHash,
    ) -> Self {
        let era = ledger.era();
        residence.measure(&user);
        Self { ledger, residence, user, head, era, order: None }
    }

    /// The partition was recovered since this actor was started: its state may not be the journal's.
    pub(super) fn is_stale(&self) -> bool {
        self.era != self.ledger.era()
    }

    /// Whether the partition may still record what this actor makes of an effect.
    fn may_record(&self) -> bool {
        !self.is_stale() && self.ledger.may_record()
    }

    pub(super) fn look(&self, peers: Vec<UserId>) -> Before {
        self.ledger.look(self.residence.key, self.head, &self.user, peers)
    }

    /// Closes the turn's record and puts its rows together.
    pub(super) fn draft(
        &mut self,
        events: Vec<Event>,
        before: Before,
        at: Timestamp,
        by: Arc<Origin>,
        cause: Option<Cause>,
    ) -> Draft {
        self.user.recorded();
        let (head, hash, rows) = self.ledger.note_rows(before, &self.user);
        self.head = head;
        let version = self.user.version();
        Draft { key: self.residence.key, version, at, by, cause, events, rows, hash }
    }
}

impl Actor for UserActor {
    type Context = Context<Self>;
}

/// Effects of one user's facts on this one, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Apply {
    pub(super) source: Partition,
    pub(super) effects: Vec<Arc<OwedEffect>>,
    /// The channel number of the last one.
    pub(super) seq: u64,
    pub(super) unheard: Unheard,
}

/// What effects came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::MessageResponse)]
pub(super) enum Applied {
    /// A record answers them.
    Recorded,
    /// They change nothing.
    Nothing,
    /// The partition was recovered or released meanwhile.
    Stale,
}

impl Handler<Apply> for UserActor {
    type Result = ();

    fn handle(&mut self, apply: Apply, _: &mut Context<Self>) {
        let Apply { source, effects, seq, unheard } = apply;
        self.residence.arrived();
        // What a lost era has taken nobody waits for any more; what a partition that is released has
        // taken comes again.
        if self.may_record() {
            let applied = self.apply(source, &effects, seq);
            self.ledger.context.applied(self.ledger.partition, source, seq, applied);
        }
        unheard.heard();
    }
}

impl UserActor {
    fn apply(&mut self, source: Partition, effects: &[Arc<OwedEffect>], seq: u64) -> Applied {
        let Some(last) = effects.last() else { return Applied::Nothing };
        let context = self.ledger.context.clone();
        let at = context.clock.now();
        let before = self.look(self.user.scope_of_effects(last.from, effects.len()));
        let policy = context.policy(self.residence.key.app);
        let each = effects.iter().map(|owed| &owed.effect);
        let events = self.user.react(last.from, each, policy, at);
        if events.is_empty() {
            return Applied::Nothing;
        }
        let cause = Cause { partition: source, seq, user: last.from, version: last.version };
        let draft = self.draft(events, before, at, last.origin.clone(), Some(cause));
        let n = self.ledger.commit(draft, None);
        self.residence.note_change(n, &self.user);
        Applied::Recorded
    }
}

/// Which of these does the user keep something about?
#[derive(Message)]
#[rtype(result = "Vec<UserId>")]
pub(super) struct Named(pub(super) Arc<BTreeSet<UserId>>);

impl Handler<Named> for UserActor {
    type Result = Vec<UserId>;

    fn handle(&mut self, Named(peers): Named, _: &mut Context<Self>) -> Vec<UserId> {
        self.residence.arrived();
        peers.iter().filter(|peer| self.user.names(peer)).copied().collect()
    }
}

/// The account `peer` is gone: let go of it. Recorded without a cause, because the channel is not
/// done with the deletion before every user of the partition is.
#[derive(Message)]
#[rtype(result = "Applied")]
pub(super) struct Forget {
    pub(super) peer: UserId,
    pub(super) by: Arc<Origin>,
}

impl Handler<Forget> for UserActor {
    type Result = Applied;

    fn handle(&mut self, Forget { peer, by }: Forget, _: &mut Context<Self>) -> Applied {
        self.residence.arrived();
        if !self.may_record() {
            return Applied::Stale;
        }
        let at = self.ledger.context.clock.now();
        let before = self.look(self.user.scope_of_effects(peer, 1));
        let events = self.user.forget(peer, at);
        if events.is_empty() {
            return Applied::Nothing;
        }
        let draft = self.draft(events, before, at, by, None);
        let n = self.ledger.commit(draft, None);
        self.residence.note_change(n, &self.user);
        Applied::Recorded
    }
}

/// What does the user keep about `peer`?
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LookAt {
    pub(super) peer: UserId,
    pub(super) slot: usize,
    pub(super) into: Arc<Gathering>,
}

/// What does the user show?
#[derive(Message)]
#[rtype(result = "Seen")]
pub(super) struct Show(pub(super) View);

/// An answer, and the record up to which it has to be final before anybody hears it.
#[derive(actix::MessageResponse)]
pub(super) struct Seen {
    pub(super) answer: Viewed,
    pub(super) n: u64,
}

impl Handler<LookAt> for UserActor {
    type Result = ();

    fn handle(&mut self, LookAt { peer, slot, into }: LookAt, _: &mut Context<Self>) {
        self.residence.arrived();
        if self.is_stale() {
            return;
        }
        let standing = Standing {
            owner_imported: self.user.is_imported(),
            blocks: self.user.blocks(&peer),
            has_friend: self.user.has_friend(&peer),
        };
        let n = self.residence.changed();
        if self.ledger.is_final(n) {
            let (known, home) = (&self.ledger.context.known, self.ledger.partition);
            known.note(home, self.residence.key, peer, standing);
        }
        into.put(slot, standing, n, &self.ledger);
    }
}

impl Handler<Show> for UserActor {
    type Result = Seen;

    fn handle(&mut self, Show(view): Show, _: &mut Context<Self>) -> Seen {
        self.residence.arrived();
        let context = &self.ledger.context;
        let rules = (context.policy(self.residence.key.app), context.clock.now());
        let answer = view.of(&self.user, &mut self.order, rules);
        Seen { answer, n: self.residence.changed() }
    }
}
