//! One actor per active user: decide, evolve, append.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use super::again::{Again, Rest};
use super::gathering::Gathering;
use super::incoming::Unheard;
use super::ledger::{Draft, Ledger, Owing, Plan};
use super::registry::Residence;
use super::repeat::DoneBefore;
use super::view::{View, Viewed};
use super::waiting::ReplyBy;
use super::{ExecuteError, Executed, ItemError, Standing};
use crate::domain::{
    BlocklistOrder, CallKey, Command, Event, Outcome, Rejection, User, UserId, Version,
};
use crate::journal::{Cause, Offset, Origin, Partition};
use crate::pairing::OwedEffect;
use crate::store::rows::{Before, RowHash};

/// Owns the block and friend sets of one user. Its turns never wait: what they record is in flight
/// when they end, and answers wait in the ledger until it is durable.
pub(super) struct UserActor {
    ledger: Rc<Ledger>,
    residence: Rc<Residence>,
    user: User,
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
    fn is_stale(&self) -> bool {
        self.era != self.ledger.era()
    }

    /// Whether the partition may still record what this actor makes of an effect.
    fn may_record(&self) -> bool {
        !self.is_stale() && self.ledger.may_record()
    }

    fn look(&self, peers: Vec<UserId>) -> Before {
        self.ledger.look(self.residence.key, self.head, &self.user, peers)
    }

    /// Closes the turn's record and puts its rows together.
    fn draft(
        &mut self,
        events: Vec<Event>,
        before: Before,
        at: crate::domain::Timestamp,
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

/// A caller's command.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Run {
    pub(super) command: Arc<Command>,
    pub(super) origin: Arc<Origin>,
    pub(super) call: Option<CallKey>,
    pub(super) reply: ReplyBy,
}

impl Handler<Run> for UserActor {
    type Result = ();

    fn handle(&mut self, run: Run, _: &mut Context<Self>) {
        let Run { command, origin, call, mut reply } = run;
        self.residence.command_arrived();
        let admitted =
            if self.is_stale() { Err(self.ledger.context.not_here()) } else { self.ledger.admit() };
        if let Err(error) = admitted {
            // Nobody may be left to hear it.
            let _ = reply.reply.send(Err(error));
            return;
        }
        let reimports = matches!(*command, Command::ImportAccount(_)) && !self.user.is_imported();
        if reimports
            && self.user.version() > Version(0)
            && self.ledger.owes_forget(self.residence.key)
        {
            let _ = reply.reply.send(Err(ExecuteError::TimedOut));
            return;
        }
        let context = self.ledger.context.clone();
        let at = context.clock.now();
        let kept = call.and_then(|call| self.user.kept(&call.key));
        let kept = kept.filter(|kept| kept.is_fresh(at));
        if let (Some(kept), Some(call)) = (kept, call)
            && kept.call != call
        {
            self.refuse(reply, Rejection::KeyReused);
            return;
        }
        let sent_at = kept.and_then(|kept| kept.traces.sent_at);
        let command = match kept.and_then(|kept| kept.traces.verdict.as_deref()) {
            // What was said first stands.
            Some(verdict) => Arc::new(command.under(verdict.clone())),
            None => command,
        };
        let kept = kept.map(|kept| DoneBefore::of_kept(self.user.id(), &kept.traces));
        // Whatever is said to it now, an equal message is the one that was taken over.
        if let (Command::Send(message), verdict) = command.parts()
            && let Some(time) = sent_at
                .or_else(|| self.ledger.sent_before(self.residence.key, message, verdict, at))
        {
            let lost = context.interrupted();
            let answer = move |offset: Option<Offset>| {
                let sent_at = Some(time);
                let outcomes = vec![Ok(())];
                let sent = Executed { outcomes, position: None, sent_at, groups_sequence: None };
                drop(reply.reply.send(offset.map(|_| sent).ok_or(lost)));
            };
            self.ledger.when_final(self.residence.changed(), Box::new(answer));
            return;
        }
        let of_groups =
            matches!(command.parts().0, Command::AddGroups { .. } | Command::RemoveGroups { .. });
        // What is kept knows the whole call; the other memory may have lost a part of it.
        let done = kept.or_else(|| self.ledger.done_before(origin.request, self.residence.key));
        let rest = match &done {
            Some(done) => Again { user: &self.user, done }.rest_of(command),
            None => Rest { command: Some(command), settled: Vec::new() },
        };
        let Rest { command: Some(command), settled } = rest else {
            reply.groups_sequence = of_groups.then(|| self.user.groups_sequence());
            let plans: Vec<Plan> = rest.settled.into_iter().map(|(_, plan)| plan).collect();
            self.ledger.answer_after(self.residence.changed(), self.residence.key, reply, &plans);
            return;
        };
        let mut scope = self.user.scope(&command);
        if let Some(call) = &call {
            let bytes = match &*command {
                Command::KeepAnswer(answer) => answer.body.len(),
                _ => 0,
            };
            scope.extend(self.user.scope_of_call(call, bytes, at));
        }
        let mut before = self.look(scope);
        let mut decision =
            match self.user.perform(&command, context.policy(self.residence.key.app), at) {
                Ok(decision) => decision,
                Err(rejection) => {
                    self.refuse(reply, rejection);
                    return;
                }
            };
        if done.as_ref().is_some_and(DoneBefore::is_judged) {
            decision.events.retain(|event| !matches!(event, Event::VerdictGiven(_)));
        }
        match (call, &*command) {
            (Some(call), Command::BeginCall) => {
                match self.user.begin_call(call, origin.request, at) {
                    Ok(begun) => decision.events.extend(begun),
                    Err(rejection) => {
                        self.refuse(reply, rejection);
                        return;
                    }
                }
            }
            (Some(call), Command::KeepAnswer(answer)) => {
                let kept = self.user.keep_answer(call, origin.request, answer.clone(), at);
                decision.events.extend(kept);
            }
            (Some(call), _) if !decision.events.is_empty() => {
                let scope = self.user.scope_of_done(&call, &decision.events, at);
                self.ledger.look_about(&mut before, &self.user, scope);
                self.user.keep_call(call, origin.request, &mut decision.events, at);
            }
            (Some(_) | None, _) => {}
        }
        let mut plans = Self::plans(command.parts().0, decision.outcomes);
        for (slot, plan) in settled {
            plans.insert(slot, plan);
        }
        reply.groups_sequence = of_groups.then(|| self.user.groups_sequence());
        if decision.events.is_empty() {
            self.ledger.answer_after(self.residence.changed(), self.residence.key, reply, &plans);
            return;
        }
        if matches!(*command, Command::DeleteAccount) {
            context.known.forget_account(&self.residence.key);
        }
        let draft = self.draft(decision.events, before, at, origin, None);
        let n = self.ledger.commit(draft, Some((reply, plans)));
        self.residence.note_change(n, &self.user);
    }
}

impl UserActor {
    /// Refuses a call as a whole, once what that was judged on is final: it may never have happened.
    fn refuse(&self, reply: ReplyBy, rejection: Rejection) {
        let lost = self.ledger.context.interrupted();
        let answer = move |offset: Option<Offset>| {
            let answer = offset.map_or(lost, |_| ExecuteError::Rejected(rejection));
            drop(reply.reply.send(Err(answer)));
        };
        self.ledger.when_final(self.residence.changed(), Box::new(answer));
    }

    /// What each item waits for. Rule: extensions.md 7, a repeat of a block whose removal is owed
    /// waits for the same removal.
    fn plans(command: &Command, outcomes: Vec<Result<Outcome, Rejection>>) -> Vec<Plan> {
        let plan = |(slot, outcome)| match outcome {
            Ok(Outcome::Recorded) => Plan::Done(Ok(())),
            Ok(Outcome::Severing { peer }) => Plan::Sever(peer),
            Ok(Outcome::Answering { peer }) => Plan::Answer(peer),
            Ok(Outcome::Offering { peer, edge }) => Plan::Offer(peer, edge),
            Ok(Outcome::Forgetting) => Plan::Forgetting,
            Ok(Outcome::Occupied { .. }) => Plan::Done(Err(ItemError::Owed)),
            Err(rejection) => {
                let refused = Err(ItemError::Rejected(rejection));
                match owed(command, slot, rejection) {
                    Some((what, peer)) => Plan::Owed(what, peer, refused),
                    None => Plan::Done(refused),
                }
            }
        };
        outcomes.into_iter().enumerate().map(plan).collect()
    }
}

/// What an earlier call may still owe for an item that is refused now.
fn owed(command: &Command, slot: usize, rejection: Rejection) -> Option<(Owing, UserId)> {
    match command {
        Command::Block { targets } if rejection == Rejection::AlreadyBlocked => {
            Some((Owing::Block, targets.get(slot)?.user))
        }
        Command::AnswerRequests { items } if rejection == Rejection::RequestUnknown => {
            let item = items.get(slot)?;
            Some((Owing::SameAnswer(item.agreement), item.user))
        }
        Command::Block { .. }
        | Command::AnswerRequests { .. }
        | Command::Unblock { .. }
        | Command::ImportAccount(_)
        | Command::DeleteAccount
        | Command::SetProfile(_)
        | Command::AddFriends { .. }
        | Command::RemoveFriends { .. }
        | Command::ClearFriends { .. }
        | Command::UpdateFriends { .. }
        | Command::AddGroups { .. }
        | Command::RemoveGroups { .. }
        | Command::Send(_)
        | Command::BeginCall
        | Command::KeepAnswer(_)
        | Command::SetSubscription { .. }
        | Command::SealAnew { .. }
        | Command::DeleteSubscription { .. }
        | Command::MoveSubscription { .. }
        | Command::BeginReplay { .. }
        | Command::EndReplay { .. }
        | Command::Judged(_) => None,
    }
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
