//! What callers ask, what they are told, and what they may hold against the nodes because of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;
use uuid::Uuid;

use super::{NAMES, user_id};
use crate::actors::{ExecuteError, Executed, ItemError, Standing};
use crate::domain::{
    Agreement, AllowType, CallKey, Card, CardChange, Command, FormerFriend, FriendUpdate,
    NewFriend, OfferForm, ProfileChange, Rejection, RequestAnswer, Target, UserId,
};
use crate::journal::Origin;

/// What a caller may ask of one user about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Import,
    Delete,
    /// Whether friends have to be confirmed from now on.
    Confirms(bool),
    Block,
    Unblock,
    Add(OfferForm),
    Remove {
        both: bool,
        has_me: bool,
    },
    Clear {
        both: bool,
    },
    Answer(Option<Agreement>),
    Remark(u8),
}

impl Deed {
    /// Whether a friendship may come of it.
    fn bonds(self) -> bool {
        matches!(self, Self::Add(_) | Self::Answer(Some(_)))
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(Executed),
    Refused(Rejection),
    /// Nobody knows: it may still happen.
    Unknown,
}

/// A call, asked again with the same request while owners change; with a key, perhaps with another one.
#[derive(Debug)]
pub(super) struct Call {
    /// The last one is asked with.
    pub(super) requests: Vec<Uuid>,
    pub(super) key: Option<CallKey>,
    pub(super) owner: UserId,
    pub(super) deed: Deed,
    pub(super) targets: Vec<UserId>,
    /// The step at which it was asked first.
    pub(super) asked: u64,
    pub(super) asks: u32,
    pub(super) answer: Option<Receiver<Result<Executed, ExecuteError>>>,
    pub(super) outcome: Option<Outcome>,
    /// Who was asked last.
    pub(super) node: usize,
}

impl Call {
    pub(super) fn command(&self) -> Arc<Command> {
        let targets = || self.targets.iter().copied();
        Arc::new(match self.deed {
            Deed::Import => Command::ImportAccount(ProfileChange::default()),
            Deed::Delete => Command::DeleteAccount,
            Deed::Confirms(confirms) => {
                let allow = if confirms { AllowType::NeedConfirm } else { AllowType::AllowAny };
                let allow_type = Some(allow);
                Command::SetProfile(ProfileChange { allow_type, ..ProfileChange::default() })
            }
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
            Deed::Clear { both } => Command::ClearFriends { both },
            Deed::Answer(agreement) => {
                let item =
                    |user| RequestAnswer { user, agreement, remark: "".into(), groups: Vec::new() };
                Command::AnswerRequests { items: targets().map(item).collect() }
            }
            Deed::Remark(remark) => {
                let remark = Some(remark.to_string().into());
                let change = CardChange { remark, ..CardChange::default() };
                let item = |user| FriendUpdate { user, change: change.clone() };
                Command::UpdateFriends { items: targets().map(item).collect() }
            }
        })
    }

    pub(super) fn origin(&self) -> Arc<Origin> {
        Arc::new(Origin {
            operator: "administrator".into(),
            request: self.requests.last().copied().unwrap_or_default(),
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
    /// Unblocks and blocks that were asked and not answered. A deletion of either is an unblock.
    open: [u32; 2],
    /// The step at which the last unblock, and the last block, was answered.
    ended: [u64; 2],
    said: Option<Said>,
    /// Calls of which a friendship may come still.
    bonds: u32,
    /// The step at which the last one was answered.
    bonded: u64,
    /// Since a removal or deletion, and until a friendship is wanted: the step.
    apart: Option<u64>,
}

/// What callers know of an account.
#[derive(Default)]
struct Account {
    imports: u32,
    imported: u64,
    /// Since a deletion, and until an import is asked for: the step.
    gone: Option<u64>,
}

/// What callers know of blocks, by who blocks whom; and of accounts.
#[derive(Default)]
pub(super) struct Known {
    sides: BTreeMap<(UserId, UserId), Side>,
    accounts: BTreeMap<UserId, Account>,
}

/// Blocks and unblocks.
fn kind(deed: Deed) -> Option<usize> {
    match deed {
        Deed::Unblock => Some(0),
        Deed::Block => Some(1),
        _ => None,
    }
}

fn both(one: UserId, other: UserId) -> [(UserId, UserId); 2] {
    [(one, other), (other, one)]
}

/// Both sides of everything between `owner` and others.
fn all_sides(owner: UserId) -> impl Iterator<Item = (UserId, UserId)> {
    let others = NAMES.map(user_id).into_iter().filter(move |other| *other != owner);
    others.flat_map(move |other| both(owner, other))
}

impl Known {
    pub(super) fn said(&self, owner: UserId, target: UserId) -> Option<Said> {
        self.sides.get(&(owner, target)).and_then(|side| side.said)
    }

    /// Since when the two have nothing to do with each other.
    pub(super) fn apart(&self, owner: UserId, peer: UserId) -> Option<u64> {
        self.sides.get(&(owner, peer)).and_then(|side| side.apart)
    }

    /// Since when the account is gone.
    pub(super) fn gone(&self, owner: UserId) -> Option<u64> {
        self.accounts.get(&owner).and_then(|account| account.gone)
    }

    pub(super) fn note_asked(&mut self, call: &Call) {
        if let Some(kind) = kind(call.deed) {
            for target in &call.targets {
                let side = self.sides.entry((call.owner, *target)).or_default();
                side.open[kind] += 1;
                side.said = side.said.filter(|said| said.blocked == (kind == 1));
            }
        }
        if call.deed.bonds() {
            for pair in call.targets.iter().flat_map(|target| both(call.owner, *target)) {
                let side = self.sides.entry(pair).or_default();
                side.bonds += 1;
                side.apart = None;
            }
        }
        match call.deed {
            Deed::Delete => {
                for pair in all_sides(call.owner) {
                    let side = self.sides.entry(pair).or_default();
                    side.open[0] += 1;
                    side.said = side.said.filter(|said| !said.blocked);
                }
            }
            Deed::Import => {
                let account = self.accounts.entry(call.owner).or_default();
                account.imports += 1;
                account.gone = None;
            }
            _ => {}
        }
    }

    /// What is unknown stays open: it may happen at any time.
    pub(super) fn note_answered(&mut self, call: &Call, step: u64) {
        if matches!(call.outcome, None | Some(Outcome::Unknown)) {
            return;
        }
        if let Some(kind) = kind(call.deed) {
            self.note_block(call, kind, step);
        }
        if call.deed.bonds() {
            let is_owed = |target| call.items().any(|item| item == (target, Err(ItemError::Owed)));
            let settled = call.targets.iter().filter(|target| !is_owed(**target));
            for pair in settled.flat_map(|target| both(call.owner, *target)) {
                let side = self.sides.entry(pair).or_default();
                side.bonds -= 1;
                side.bonded = step;
            }
        }
        let ended = |side: &mut Side| {
            if side.bonds == 0 && side.bonded < call.asked {
                side.apart.get_or_insert(step);
            }
        };
        match call.deed {
            Deed::Remove { both: of_both, has_me } => {
                for (target, _) in call.items().filter(|(_, outcome)| outcome.is_ok()) {
                    let sides = if of_both && has_me { 2 } else { 1 };
                    for pair in both(call.owner, target).into_iter().take(sides) {
                        ended(self.sides.entry(pair).or_default());
                    }
                }
            }
            Deed::Clear { .. } if matches!(&call.outcome, Some(Outcome::Done(done)) if done.outcomes.iter().all(Result::is_ok)) => {
                for (owner, other) in all_sides(call.owner) {
                    if owner == call.owner {
                        ended(self.sides.entry((owner, other)).or_default());
                    }
                }
            }
            Deed::Delete => self.note_deleted(call, step),
            Deed::Import => {
                let account = self.accounts.entry(call.owner).or_default();
                account.imports -= 1;
                account.imported = step;
            }
            _ => {}
        }
    }

    fn note_block(&mut self, call: &Call, kind: usize, step: u64) {
        for target in &call.targets {
            let side = self.sides.entry((call.owner, *target)).or_default();
            side.open[kind] -= 1;
            side.ended[kind] = step;
        }
        for (target, outcome) in call.items() {
            let side = self.sides.entry((call.owner, target)).or_default();
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

    fn note_deleted(&mut self, call: &Call, step: u64) {
        let done = match &call.outcome {
            Some(Outcome::Done(executed)) => executed.outcomes[0].is_ok(),
            _ => false,
        };
        let owed = matches!(call.outcome, Some(Outcome::Done(_))) && !done;
        let account = self.accounts.entry(call.owner).or_default();
        if (done || owed) && account.imports == 0 && account.imported < call.asked {
            account.gone.get_or_insert(step);
        }
        if owed {
            // Others may hear of it at any time.
            return;
        }
        for pair in all_sides(call.owner) {
            let side = self.sides.entry(pair).or_default();
            side.open[0] -= 1;
            side.ended[0] = step;
            if done && side.open[1] == 0 && side.ended[1] < call.asked {
                let known = side.said.is_some_and(|said| !said.blocked);
                let free = Said { blocked: false, severed: false, since: step };
                side.said = if known { side.said } else { Some(free) };
            }
            if done && side.bonds == 0 && side.bonded < call.asked {
                side.apart.get_or_insert(step);
            }
        }
    }
}
