//! One actor per active user: decide, evolve, append.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use super::gathering::Gathering;
use super::ledger::{Draft, Ledger, Plan};
use super::registry::Residence;
use super::repeat::DoneBefore;
use super::view::{View, Viewed};
use super::waiting::ReplyBy;
use super::{ExecuteError, Executed, ItemError, Standing};
use crate::domain::{
    BlocklistOrder, CallKey, Command, Event, NewFriend, Offer, Outcome, Rejection, User, UserId,
    Verdict, Version,
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
        let Run { command, origin, call, reply } = run;
        self.residence.arrived();
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
            let _ = reply.reply.send(Err(ExecuteError::Rejected(Rejection::KeyReused)));
            return;
        }
        let sent_at = kept.and_then(|kept| kept.traces.sent_at);
        let command = match kept.and_then(|kept| kept.traces.verdict.as_deref()) {
            // What was said first stands.
            Some(verdict) => Arc::new(command.under(verdict.clone())),
            None => command,
        };
        let kept = kept.map(|kept| DoneBefore::of_kept(&kept.traces));
        if let (Command::Send(message), verdict) = command.parts()
            && verdict.is_none_or(Verdict::allows_all)
            && let Some(time) = sent_at
                .or_else(|| self.ledger.sent_before(self.residence.key, message, verdict, at))
        {
            let lost = context.interrupted();
            let answer = move |offset: Option<Offset>| {
                let sent = Executed { outcomes: vec![Ok(())], position: None, sent_at: Some(time) };
                drop(reply.reply.send(offset.map(|_| sent).ok_or(lost)));
            };
            self.ledger.when_final(self.residence.changed(), Box::new(answer));
            return;
        }
        let done = self.ledger.done_before(origin.request, self.residence.key).or(kept);
        let (command, settled) = self.without_what_is_done(command, done.as_ref());
        let mut scope = self.user.scope(&command);
        if let Some(call) = &call {
            let bytes = match &*command {
                Command::KeepAnswer(answer) => answer.body.len(),
                _ => 0,
            };
            scope.extend(self.user.scope_of_call(call, bytes, at));
        }
        let before = self.look(scope);
        let mut decision =
            match self.user.perform(&command, context.policy(self.residence.key.app), at) {
                Ok(decision) => decision,
                Err(rejection) => {
                    let lost = context.interrupted();
                    let answer = move |offset: Option<Offset>| {
                        let answer = match (offset, done) {
                            // What it was judged on may never have happened.
                            (None, _) => Err(lost),
                            // The account that is unknown now is the one that this call has deleted.
                            (Some(_), Some(done)) if done.touched_account() => Ok(Executed {
                                outcomes: vec![Ok(())],
                                position: None,
                                sent_at: None,
                            }),
                            (Some(_), _) => Err(ExecuteError::Rejected(rejection)),
                        };
                        drop(reply.reply.send(answer));
                    };
                    self.ledger.when_final(self.residence.changed(), Box::new(answer));
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
                        let _ = reply.reply.send(Err(ExecuteError::Rejected(rejection)));
                        return;
                    }
                }
            }
            (Some(call), Command::KeepAnswer(answer)) => {
                let kept = self.user.keep_answer(call, origin.request, answer.clone(), at);
                decision.events.extend(kept);
            }
            (Some(call), _) if !decision.events.is_empty() => {
                self.user.keep_call(call, origin.request, &mut decision.events, at);
            }
            (Some(_) | None, _) => {}
        }
        let mut plans = self.plans(command.parts().0, decision.outcomes, done.as_ref());
        for (slot, plan) in settled {
            plans.insert(slot, plan);
        }
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
    /// The command without what this very call has done already, when its own answer was lost; and
    /// the places of that, in order. Asked again, the peer would say that the friendship exists; and
    /// what somebody else has undone since would be done a second time.
    fn without_what_is_done(
        &self,
        command: Arc<Command>,
        done: Option<&DoneBefore>,
    ) -> (Arc<Command>, Vec<(usize, Plan)>) {
        let Some(done) = done else { return (command, Vec::new()) };
        let (bare, verdict) = command.parts();
        let (rest, settled) = match bare {
            Command::AddFriends { items, form, forced } => {
                let (items, settled) = self.without_answered_offers(items, done);
                (Command::AddFriends { items, form: *form, forced: *forced }, settled)
            }
            Command::Block { targets } => {
                let is_owed = |peer| self.ledger.owes_sever(self.residence.key, peer);
                let first = |peer| match is_owed(peer) {
                    true => Plan::OwedSever(peer),
                    false => Plan::Done(Ok(())),
                };
                let again = Rejection::AlreadyBlocked;
                let (targets, settled) =
                    without_touched(targets, |one| one.user, first, again, done);
                (Command::Block { targets }, settled)
            }
            Command::Unblock { targets } => {
                let first = |_| Plan::Done(Ok(()));
                let again = Rejection::NotBlocked;
                let (targets, settled) =
                    without_touched(targets, |one| one.user, first, again, done);
                (Command::Unblock { targets }, settled)
            }
            Command::RemoveFriends { targets, both } => {
                let first = |_| Plan::Done(Ok(()));
                let again = Rejection::NotFriend;
                let (targets, settled) =
                    without_touched(targets, |one| one.user, first, again, done);
                (Command::RemoveFriends { targets, both: *both }, settled)
            }
            _ => return (command, Vec::new()),
        };
        if settled.is_empty() {
            return (command, settled);
        }
        let rest = match verdict {
            Some(verdict) => rest.under(verdict.clone()),
            None => rest,
        };
        (Arc::new(rest), settled)
    }

    fn without_answered_offers(
        &self,
        items: &[NewFriend],
        done: &DoneBefore,
    ) -> (Vec<NewFriend>, Vec<(usize, Plan)>) {
        let (mut rest, mut settled) = (Vec::new(), Vec::new());
        for (slot, item) in items.iter().enumerate() {
            let made = done.made_friends() && done.touched(&item.user);
            let made = (made && self.user.has_friend(&item.user)).then_some(Ok(()));
            let open = |offer: &Offer| offer.peer == item.user && offer.is_unanswered();
            match done.answer_of(&item.user).or(made) {
                Some(came_to) => {
                    settled.push((slot, Plan::Done(came_to.map_err(ItemError::Rejected))));
                }
                // Taken back by a removal since. Whoever still wants the friendship asks again.
                None if done.offered(&item.user) && !self.user.offers().any(open) => {
                    settled.push((slot, Plan::Done(Err(ItemError::Owed))));
                }
                None => rest.push(item.clone()),
            }
        }
        (rest, settled)
    }

    /// What each item waits for. Rule: extensions.md 7, a repeat of a block whose removal is owed
    /// waits for the same removal.
    /// An item that this very call has done before, when its answer was lost, is a success.
    fn plans(
        &self,
        command: &Command,
        outcomes: Vec<Result<Outcome, Rejection>>,
        done: Option<&DoneBefore>,
    ) -> Vec<Plan> {
        let blocked = |slot: usize| match command {
            Command::Block { targets } => targets.get(slot).map(|target| target.user),
            _ => None,
        };
        let already = |slot: usize, rejection: Rejection| match (command, rejection) {
            (Command::Block { targets }, Rejection::AlreadyBlocked)
            | (Command::Unblock { targets }, Rejection::NotBlocked) => {
                targets.get(slot).map(|target| target.user)
            }
            (Command::RemoveFriends { targets, .. }, Rejection::NotFriend) => {
                targets.get(slot).map(|target| target.user)
            }
            (Command::AnswerRequests { items }, Rejection::RequestUnknown) => {
                items.get(slot).map(|item| item.user)
            }
            _ => None,
        };
        let owed_answer = |slot: usize| match command {
            Command::AnswerRequests { items } => items.get(slot),
            _ => None,
        };
        // Each of what was done before answers one item: a second one about the same peer finds it so.
        let mut answered: Vec<UserId> = Vec::new();
        let mut plan = |(slot, outcome)| match outcome {
            Ok(Outcome::Recorded) => Plan::Done(Ok(())),
            Ok(Outcome::Severing { peer }) => Plan::Sever(peer),
            Ok(Outcome::Answering { peer }) => Plan::Answer(peer),
            Ok(Outcome::Offering { peer, edge }) => Plan::Offer(peer, edge),
            Ok(Outcome::Forgetting) => Plan::Forgetting,
            Ok(Outcome::Occupied { .. }) => Plan::Done(Err(ItemError::Owed)),
            Err(rejection) => {
                if rejection == Rejection::AlreadyBlocked
                    && let Some(peer) = blocked(slot)
                    && self.ledger.owes_sever(self.residence.key, peer)
                {
                    return Plan::OwedSever(peer);
                }
                if rejection == Rejection::RequestUnknown
                    && let Some(item) = owed_answer(slot)
                    && self.ledger.owes_answer(self.residence.key, item.user, item.agreement)
                {
                    return Plan::OwedAnswer(item.user);
                }
                match already(slot, rejection) {
                    Some(peer)
                        if done.is_some_and(|done| done.touched(&peer))
                            && !answered.contains(&peer) =>
                    {
                        answered.push(peer);
                        Plan::Done(Ok(()))
                    }
                    Some(_) | None => Plan::Done(Err(ItemError::Rejected(rejection))),
                }
            }
        };
        outcomes.into_iter().enumerate().map(&mut plan).collect()
    }
}

/// The items about whom the call has done nothing yet, and what the others come to: the `first` one
/// about a peer was done, and a second one about the same peer found it so `again`.
fn without_touched<T: Copy>(
    items: &[T],
    user: impl Fn(&T) -> UserId,
    first: impl Fn(UserId) -> Plan,
    again: Rejection,
    done: &DoneBefore,
) -> (Vec<T>, Vec<(usize, Plan)>) {
    let (mut rest, mut settled) = (Vec::new(), Vec::new());
    let mut told: Vec<UserId> = Vec::new();
    for (slot, item) in items.iter().enumerate() {
        let peer = user(item);
        if !done.touched(&peer) {
            rest.push(*item);
        } else if told.contains(&peer) {
            settled.push((slot, Plan::Done(Err(ItemError::Rejected(again)))));
        } else {
            told.push(peer);
            settled.push((slot, first(peer)));
        }
    }
    (rest, settled)
}

/// Effects of one user's facts on this one, in order.
#[derive(Message)]
#[rtype(result = "Applied")]
pub(super) struct Apply {
    pub(super) source: Partition,
    pub(super) effects: Vec<Arc<OwedEffect>>,
    /// The channel number of the last one.
    pub(super) seq: u64,
}

/// What effects came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::MessageResponse)]
pub(super) enum Applied {
    /// A record answers them.
    Recorded,
    /// They change nothing.
    Nothing,
    /// The partition was recovered meanwhile.
    Stale,
}

impl Handler<Apply> for UserActor {
    type Result = Applied;

    fn handle(&mut self, Apply { source, effects, seq }: Apply, _: &mut Context<Self>) -> Applied {
        self.residence.arrived();
        if self.is_stale() {
            return Applied::Stale;
        }
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
        if self.is_stale() {
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
            self.ledger.context.known.note(self.residence.key, peer, standing);
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
