//! A command's turn: which rule decides what, one line to a command.

use super::command::Command;
use super::event::{Event, OfferForm};
use super::id::{Timestamp, UserId};
use super::message::Message;
use super::policy::Policy;
use super::rejection::Rejection;
use super::user::{Decided, Decision, Outcome, User, recorded};
use super::verdict::{Sentence, Verdict};

impl User {
    /// Answers what follows from `command` and takes it into account, item after item, so that
    /// each item is judged on what the ones before it came to.
    ///
    /// No event means the wish is already true or refused. If there are events they belong to one
    /// record with the version `self.version().next()` of before; [`User::recorded`] closes it.
    /// What a verdict refuses is rejected with [`Rejection::Forbidden`], before anything else.
    /// Rejects as a whole: [`Rejection::AccountUnknown`], except for an import, and for what the
    /// streams of calls with keys and of subscriptions are asked; [`Rejection::TooManyGroups`].
    pub fn perform(
        &mut self,
        command: &Command,
        policy: &Policy,
        at: Timestamp,
    ) -> Result<Decision, Rejection> {
        if !self.imported && command.needs_account() {
            return Err(Rejection::AccountUnknown);
        }
        let (command, verdict) = command.parts();
        let sentence = verdict.map(Sentence::of);
        let judged = |user: &UserId, decided: &dyn Fn() -> Decided| match &sentence {
            Some(sentence) => sentence.pass(user, decided),
            None => decided(),
        };
        let mut turn = Turn { user: self, at, decision: Decision::default() };
        turn.keep(verdict);
        match command {
            Command::ImportAccount(change) => turn.one(|user| recorded(user.import(change))),
            Command::DeleteAccount => turn.one(|user| Ok((user.delete(), Outcome::Forgetting))),
            Command::SetProfile(change) => {
                turn.one(|user| recorded(user.changes_of_profile(change).into_iter().collect()));
            }
            Command::Block { targets } => {
                turn.each(targets, |user, target| user.block(target, policy));
                turn.settle();
            }
            Command::Unblock { targets } => turn.each(targets, |user, target| user.unblock(target)),
            Command::AddFriends { items, form: OfferForm::Import, .. } => {
                turn.each(items, |user, item| {
                    judged(&item.user, &|| user.import_friend(item, policy))
                });
            }
            Command::AddFriends { items, form, forced } => {
                turn.each(items, |user, item| {
                    judged(&item.user, &|| user.add_friend(item, *form, *forced, policy))
                });
            }
            Command::RemoveFriends { targets, both } => {
                turn.each(targets, |user, target| user.remove_friend(target, *both));
                turn.settle();
            }
            Command::ClearFriends { both } => {
                turn.user.clear_friends(*both).into_iter().for_each(|one| turn.take(Ok(one)));
                turn.settle();
            }
            Command::UpdateFriends { items } => {
                turn.each(items, |user, item| user.update_friend(item, policy));
            }
            Command::AnswerRequests { items } => {
                turn.each(items, |user, item| {
                    judged(&item.user, &|| user.answer_request(item, policy))
                });
            }
            Command::AddGroups { names, members } => {
                let decision = turn.user.add_groups(names, members, policy)?;
                turn.take_all(decision);
            }
            Command::RemoveGroups { names } => {
                turn.one(|user| recorded(user.remove_groups(names).into_iter().collect()));
            }
            Command::Send(message) => turn.one(|_| send(message, verdict)),
            // The actor knows under which key.
            Command::BeginCall | Command::KeepAnswer(_) => turn.one(|_| recorded(Vec::new())),
            Command::SetSubscription { subscription, secret } => {
                turn.one(|user| user.set_subscription(subscription, secret, policy, at));
            }
            Command::SealAnew { name, seals } => turn.one(|user| user.seal_anew(name, seals)),
            Command::DeleteSubscription { name } => turn.one(|user| user.delete_subscription(name)),
            Command::MoveSubscription { name, to, configured } => {
                turn.one(|user| user.move_subscription(name, to, *configured));
            }
            Command::BeginReplay { replay, configured } => {
                turn.one(|user| user.begin_replay(replay, *configured));
            }
            Command::EndReplay { number, completed } => {
                turn.one(|user| user.end_replay(*number, *completed));
            }
            // Taken apart above; a verdict is about no other one.
            Command::Judged(_) => turn.one(|_| Err(Rejection::Forbidden)),
        }
        Ok(turn.decision)
    }
}

/// Takes a message over, if that is allowed. What is refused in secret is answered as if it were.
fn send(message: &Message, verdict: Option<&Verdict>) -> Decided {
    match verdict {
        Some(verdict) if !verdict.allows_all() && verdict.hidden => recorded(Vec::new()),
        Some(verdict) if !verdict.allows_all() => Err(Rejection::Forbidden),
        Some(_) | None => recorded(vec![Event::MessageAccepted(message.clone())]),
    }
}

/// A decision while it is made: what is decided is taken into account at once.
struct Turn<'a> {
    user: &'a mut User,
    at: Timestamp,
    decision: Decision,
}

impl Turn<'_> {
    /// Keeps what was said beforehand, if anything was.
    fn keep(&mut self, verdict: Option<&Verdict>) {
        let given = verdict.filter(|verdict| !verdict.is_silent());
        self.decision.events.extend(given.cloned().map(Event::VerdictGiven));
    }

    /// Decides on what has no items.
    fn one(&mut self, decide: impl FnOnce(&User) -> Decided) {
        let decided = decide(self.user);
        self.take(decided);
    }

    /// Decides on each item, in order.
    fn each<T>(&mut self, items: &[T], decide: impl Fn(&User, &T) -> Decided) {
        for item in items {
            let decided = decide(self.user, item);
            self.take(decided);
        }
    }

    fn take(&mut self, decided: Decided) {
        self.decision.outcomes.push(match decided {
            Ok((events, outcome)) => {
                for event in &events {
                    self.user.evolve(event, self.at);
                }
                self.decision.events.extend(events);
                Ok(outcome)
            }
            Err(rejection) => Err(rejection),
        });
    }

    /// Takes what was decided on all items at once.
    fn take_all(&mut self, decision: Decision) {
        for event in &decision.events {
            self.user.evolve(event, self.at);
        }
        self.decision = decision;
    }

    /// Announces what came of the requests that were ended.
    fn settle(&mut self) {
        self.user.settle(&mut self.decision.events, self.at);
    }
}
