//! The turn of a user's command: admit, recall, decide, record.

use std::sync::Arc;

use actix::{Context, Handler, Message};

use super::again::{Again, Rest};
use super::ledger::{Owing, Plan};
use super::repeat::DoneBefore;
use super::user::UserActor;
use super::waiting::ReplyBy;
use super::{ExecuteError, Executed, ItemError};
use crate::domain::{CallKey, Command, Event, Outcome, Rejection, Timestamp, UserId, Version};
use crate::journal::{Offset, Origin};
use crate::store::rows::Before;

/// A caller's command.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Run {
    pub(super) command: Arc<Command>,
    pub(super) origin: Arc<Origin>,
    pub(super) call: Option<CallKey>,
    pub(super) reply: ReplyBy,
}

/// The call that a command is, or is a part of.
#[derive(Clone, Copy)]
struct Call {
    request: uuid::Uuid,
    key: Option<CallKey>,
    /// When its turn came.
    at: Timestamp,
}

/// What is left to decide, by what the call has done before.
struct Left {
    command: Arc<Command>,
    /// What the items that are done come to, by their places, in order.
    settled: Vec<(usize, Plan)>,
    /// What was said beforehand is recorded already.
    judged: bool,
}

/// What is to be recorded.
struct Decided {
    command: Arc<Command>,
    events: Vec<Event>,
    /// What each item waits for.
    plans: Vec<Plan>,
    /// The rows, as they were.
    before: Before,
}

/// What is answered when nothing is to be recorded.
enum Answer {
    /// The call as a whole is refused.
    Refused(Rejection),
    /// The message was taken over before, with this `MsgTime`; what that came to.
    Sent(u32, Vec<Result<(), ItemError>>),
    /// What each item comes to, or waits for.
    Items(Vec<Plan>),
}

impl Handler<Run> for UserActor {
    type Result = ();

    fn handle(&mut self, run: Run, _: &mut Context<Self>) {
        let Run { command, origin, call, mut reply } = run;
        self.residence.command_arrived();
        if let Err(error) = self.admit(&command) {
            // Nobody may be left to hear it.
            let _ = reply.reply.send(Err(error));
            return;
        }
        let at = self.ledger.context.clock.now();
        let call = Call { request: origin.request, key: call, at };
        let changes_groups =
            matches!(command.parts().0, Command::AddGroups { .. } | Command::RemoveGroups { .. });
        let decided = self.recall(command, &call).and_then(|left| self.decide(left, &call));
        reply.groups_sequence = changes_groups.then(|| self.user.groups_sequence());
        match decided {
            Ok(decided) => self.record(decided, origin, at, reply),
            Err(answer) => self.answer(answer, reply),
        }
    }
}

impl UserActor {
    /// Whether the command may have its turn here and now. Errors: what is answered at once.
    fn admit(&self, command: &Command) -> Result<(), ExecuteError> {
        if self.is_stale() {
            return Err(self.ledger.context.not_here());
        }
        self.ledger.admit()?;
        let reimports = matches!(command, Command::ImportAccount(_))
            && !self.user.is_imported()
            && self.user.version() > Version(0);
        // The new account would be forgotten with the old one.
        if reimports && self.ledger.owes_forget(self.residence.key) {
            return Err(ExecuteError::TimedOut);
        }
        Ok(())
    }

    /// Looks for what the call has done before. Errors: the answer, if that is all of it.
    fn recall(&self, command: Arc<Command>, call: &Call) -> Result<Left, Answer> {
        let kept = call.key.and_then(|key| self.user.kept(&key.key));
        let kept = kept.filter(|kept| kept.is_fresh(call.at));
        if kept.is_some_and(|kept| call.key != Some(kept.call)) {
            return Err(Answer::Refused(Rejection::KeyReused));
        }
        let traces = kept.map(|kept| &kept.traces);
        let command = match traces.and_then(|traces| traces.verdict.as_deref()) {
            // What was said first stands.
            Some(verdict) => Arc::new(command.under(verdict.clone())),
            None => command,
        };
        let key = self.residence.key;
        // Whatever is said to it now, an equal message is the one that was taken over.
        if let (Command::Send(message), verdict) = command.parts() {
            if let Some(traces) = traces
                && let Some(time) = traces.sent_at
            {
                // Somebody whom nobody knew then may be known by now.
                let unknown = Err(ItemError::Rejected(Rejection::AccountUnknown));
                let to = message.to.iter();
                let sent = to.map(|to| if traces.sent_to(to) { Ok(()) } else { unknown });
                return Err(Answer::Sent(time, sent.collect()));
            }
            if let Some(time) = self.ledger.sent_before(key, message, verdict, call.at) {
                return Err(Answer::Sent(time, vec![Ok(())]));
            }
        }
        // What is kept knows the whole call; the other memory may have lost a part of it.
        let done = traces
            .map(|traces| DoneBefore::of_kept(self.user.id(), traces))
            .or_else(|| self.ledger.done_before(call.request, key));
        let Some(done) = done else {
            return Ok(Left { command, settled: Vec::new(), judged: false });
        };
        let Rest { command, settled } = Again { user: &self.user, done: &done }.rest_of(command);
        match command {
            Some(command) => Ok(Left { command, settled, judged: done.is_judged() }),
            None => Err(Answer::Items(settled.into_iter().map(|(_, plan)| plan).collect())),
        }
    }

    /// Decides, and takes it into account. Errors: the answer, if nothing follows.
    fn decide(&mut self, left: Left, call: &Call) -> Result<Decided, Answer> {
        let Left { command, settled, judged } = left;
        let mut before = self.look(self.scope(&command, call));
        let policy = self.ledger.context.policy(self.residence.key.app);
        let mut decision = self.user.perform(&command, policy, call.at).map_err(Answer::Refused)?;
        let events = &mut decision.events;
        if judged {
            events.retain(|event| event.verdict().is_none());
        }
        self.keep(&command, call, events, &mut before).map_err(Answer::Refused)?;
        let mut plans = plans(command.parts().0, decision.outcomes);
        for (slot, plan) in settled {
            plans.insert(slot, plan);
        }
        if decision.events.is_empty() {
            return Err(Answer::Items(plans));
        }
        Ok(Decided { command, events: decision.events, plans, before })
    }

    /// The peers and keys whose rows the command can change.
    fn scope(&self, command: &Command, call: &Call) -> Vec<UserId> {
        let mut scope = self.user.scope(command);
        if let Some(key) = &call.key {
            let bytes =
                if let Command::KeepAnswer(answer) = command { answer.body.len() } else { 0 };
            scope.extend(self.user.scope_of_call(key, bytes, call.at));
        }
        scope
    }

    /// Adds to `events` what is kept of a call with a key.
    fn keep(
        &mut self,
        command: &Command,
        call: &Call,
        events: &mut Vec<Event>,
        before: &mut Before,
    ) -> Result<(), Rejection> {
        let Call { request, key: Some(key), at } = *call else { return Ok(()) };
        if let Command::BeginCall = command {
            events.extend(self.user.begin_call(key, request, at)?);
        } else if let Command::KeepAnswer(answer) = command {
            events.extend(self.user.keep_answer(key, request, answer.clone(), at));
        } else if !events.is_empty() {
            let scope = self.user.scope_of_done(&key, events, at);
            self.ledger.look_about(before, &self.user, scope);
            self.user.keep_call(key, request, events, at);
        }
        Ok(())
    }

    /// Records what was decided; the reply waits for all that it speaks of.
    fn record(&mut self, decided: Decided, by: Arc<Origin>, at: Timestamp, reply: ReplyBy) {
        let Decided { command, events, plans, before } = decided;
        if matches!(*command, Command::DeleteAccount) {
            self.ledger.context.known.forget_account(&self.residence.key);
        }
        let draft = self.draft(events, before, at, by, None);
        let n = self.ledger.commit(draft, Some((reply, plans)));
        self.residence.note_change(n, &self.user);
    }

    /// Answers once what was judged on is final: it may never have happened.
    fn answer(&self, answer: Answer, reply: ReplyBy) {
        let answered = match answer {
            Answer::Items(plans) => {
                let (n, key) = (self.residence.changed(), self.residence.key);
                self.ledger.answer_after(n, key, reply, &plans);
                return;
            }
            Answer::Refused(rejection) => Err(ExecuteError::Rejected(rejection)),
            Answer::Sent(time, outcomes) => Ok(Executed {
                outcomes,
                position: None,
                sent_at: Some(time),
                groups_sequence: None,
            }),
        };
        let lost = self.ledger.context.interrupted();
        let answer = move |offset: Option<Offset>| {
            let answered = offset.map_or(Err(lost), |_| answered);
            drop(reply.reply.send(answered));
        };
        self.ledger.when_final(self.residence.changed(), Box::new(answer));
    }
}

/// What each item waits for. Rule: extensions.md 7, a repeat of what is owed waits for the same.
fn plans(command: &Command, outcomes: Vec<Result<Outcome, Rejection>>) -> Vec<Plan> {
    let plan = |(slot, outcome)| match outcome {
        Ok(Outcome::Recorded) => Plan::Done(Ok(())),
        Ok(Outcome::Severing { peer }) => Plan::Sever(peer),
        Ok(Outcome::Answering { peer }) => Plan::Answer(peer),
        Ok(Outcome::Withdrawing { peer }) => Plan::Withdraw(peer),
        Ok(Outcome::Clearing) => Plan::OwedRemovals,
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

/// What an earlier call may still owe for an item that is refused now.
fn owed(command: &Command, slot: usize, rejection: Rejection) -> Option<(Owing, UserId)> {
    match command {
        Command::Block { targets } if rejection == Rejection::AlreadyBlocked => {
            Some((Owing::Block, targets.get(slot)?.user))
        }
        Command::RemoveFriends { targets, .. } if rejection == Rejection::NotFriend => {
            Some((Owing::Removal, targets.get(slot)?.user))
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
