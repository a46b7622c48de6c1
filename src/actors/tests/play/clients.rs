//! What callers ask, what they are told, and what they may hold against the nodes because of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;
use uuid::Uuid;

use crate::actors::{ExecuteError, Executed, ItemError, Standing};
use crate::domain::{
    Card, Command, FormerFriend, NewFriend, OfferForm, ProfileChange, Rejection, Target, UserId,
};
use crate::journal::Origin;

/// What a caller may ask of one user about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Import,
    Block,
    Unblock,
    Add(OfferForm),
    Remove { both: bool, has_me: bool },
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(Executed),
    Refused(Rejection),
    /// Nobody knows: it may still happen.
    Unknown,
}

/// A call, asked again with the same request while owners change.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Uuid,
    pub(super) owner: UserId,
    pub(super) deed: Deed,
    pub(super) targets: Vec<UserId>,
    /// The step at which it was asked first.
    pub(super) asked: u64,
    pub(super) asks: u32,
    pub(super) answer: Option<Receiver<Result<Executed, ExecuteError>>>,
    pub(super) outcome: Option<Outcome>,
}

impl Call {
    pub(super) fn command(&self) -> Arc<Command> {
        let targets = || self.targets.iter().copied();
        Arc::new(match self.deed {
            Deed::Import => Command::ImportAccount(ProfileChange::default()),
            Deed::Block => {
                let targets = targets().map(|user| Target { user, imported: true }).collect();
                Command::Block { targets }
            }
            Deed::Unblock => {
                let targets = targets().map(|user| Target { user, imported: true }).collect();
                Command::Unblock { targets }
            }
            Deed::Add(form) => {
                let card = Card::default();
                let item = |user| NewFriend { user, imported: true, card: card.clone() };
                Command::AddFriends { items: targets().map(item).collect(), form, forced: false }
            }
            Deed::Remove { both, has_me } => {
                let targets = targets().map(|user| FormerFriend { user, has_me }).collect();
                Command::RemoveFriends { targets, both }
            }
        })
    }

    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::new(Origin {
            operator: "administrator".into(),
            request: self.request,
            ip: "10.0.0.7".into(),
            platform: "RESTAPI".into(),
        })
    }

    /// Each target with what became of it, if that was said.
    pub(super) fn items(&self) -> impl Iterator<Item = (UserId, Result<(), ItemError>)> {
        let outcomes = match &self.outcome {
            Some(Outcome::Done(executed)) => &executed.outcomes[..],
            _ => &[],
        };
        self.targets.iter().copied().zip(outcomes.iter().copied())
    }
}

/// A question about two users, asked of the owners of both.
pub(super) struct Look {
    pub(super) owner: UserId,
    pub(super) peer: UserId,
    pub(super) asked: u64,
    /// How many records of the owner's partition were durable when it was asked.
    pub(super) durable: usize,
    pub(super) answer: Receiver<Result<Vec<Standing>, ExecuteError>>,
}

/// What was said about one's block of another, and is not called into question by anything since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) blocked: bool,
    /// The other side's part was said to be done as well.
    pub(super) severed: bool,
    /// Since which step.
    pub(super) since: u64,
}

#[derive(Default)]
struct Side {
    /// Unblocks and blocks that were asked and not answered.
    open: [u32; 2],
    /// The step at which the last unblock, and the last block, was answered.
    ended: [u64; 2],
    said: Option<Said>,
}

/// What callers know of blocks, by who blocks whom.
#[derive(Default)]
pub(super) struct Known(BTreeMap<(UserId, UserId), Side>);

fn kind(deed: Deed) -> Option<usize> {
    match deed {
        Deed::Unblock => Some(0),
        Deed::Block => Some(1),
        Deed::Import | Deed::Add(_) | Deed::Remove { .. } => None,
    }
}

impl Known {
    pub(super) fn said(&self, owner: UserId, target: UserId) -> Option<Said> {
        self.0.get(&(owner, target)).and_then(|side| side.said)
    }

    pub(super) fn note_asked(&mut self, call: &Call) {
        let Some(kind) = kind(call.deed) else { return };
        for target in &call.targets {
            let side = self.0.entry((call.owner, *target)).or_default();
            side.open[kind] += 1;
            side.said = side.said.filter(|said| said.blocked == (kind == 1));
        }
    }

    /// What is unknown stays open: it may happen at any time.
    pub(super) fn note_answered(&mut self, call: &Call, step: u64) {
        let Some(kind) = kind(call.deed) else { return };
        if matches!(call.outcome, None | Some(Outcome::Unknown)) {
            return;
        }
        for target in &call.targets {
            let side = self.0.entry((call.owner, *target)).or_default();
            side.open[kind] -= 1;
            side.ended[kind] = step;
        }
        for (target, outcome) in call.items() {
            let side = self.0.entry((call.owner, target)).or_default();
            let (blocked, severed) = match (kind, outcome) {
                (1, Ok(()) | Err(ItemError::Rejected(Rejection::AlreadyBlocked))) => (true, true),
                (1, Err(ItemError::Owed)) => (true, false),
                (0, Ok(()) | Err(ItemError::Rejected(Rejection::NotBlocked))) => (false, false),
                _ => continue,
            };
            let other = 1 - kind;
            if side.open[other] == 0 && side.ended[other] < call.asked {
                let before = side.said.filter(|said| said.blocked == blocked);
                let since = match before {
                    Some(said) if said.severed || !severed => said.since,
                    _ => step,
                };
                let severed = severed || before.is_some_and(|said| said.severed);
                side.said = Some(Said { blocked, severed, since });
            }
        }
    }
}
