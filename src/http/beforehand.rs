//! Asks the app's own server before something is done. Rule: webhooks.md 8.3, 8.4, 10, 14.
//!
//! What would be refused anyway is sorted out first; nobody is asked about it. The question is put here
//! and not in the turn of an actor, which waits for nobody outside. The verdict goes along with the
//! command; the user decides again with it and keeps it. A repeat of a call with a key is not asked about
//! again: the first verdict stands.

use std::collections::BTreeSet;

use super::answer::Failure;
use super::body;
use super::call::Call;
use super::idempotency;
use super::message;
use super::raw::Raw;
use super::relation::{self, Sides};
use crate::actors::{Asker, ExecuteError, ItemError};
use crate::domain::{
    Command, Ground, Matter, Message, NewFriend, OfferForm, RequestAnswer, UserId, Verdict, Words,
};
use crate::tags::BeforeCommand;
use crate::webhooks::{Question, Unreadable};

/// Items of a command that are answered without it: their places, in order, and why.
pub(super) type Settled = Vec<(usize, ItemError)>;

/// Asks about friends that `owner` wants to add. Answers the command that is left, and what of it is
/// settled: by the other side's word, which the owner could not know.
pub(super) async fn about_adding(
    call: &Call<'_>,
    owner: UserId,
    command: Command,
) -> Result<(Command, Settled), Failure> {
    let look = look(call, owner, &command, Matter::FriendAdd).await?;
    let Command::AddFriends { items, form, forced } = &command else {
        return Ok((look.over(command), Vec::new()));
    };
    // The friends to ask about: an earlier try of this call did not ask about them.
    let open = match &look {
        Look::Nothing | Look::Refused(_) => return Ok((look.over(command), Vec::new())),
        Look::Open(open) => open.clone(),
        Look::Said(verdict) => items.iter().map(|item| !verdict.names(&item.user)).collect(),
    };
    let (form, forced) = (*form, *forced);
    let refusals = refusals(call, owner, items, &open, (form, forced)).await?;
    let mut settled = Vec::new();
    let mut left = Vec::with_capacity(items.len());
    let mut wanted: Vec<&NewFriend> = Vec::with_capacity(items.len());
    let mut named = BTreeSet::new();
    for (slot, ((item, open), refusal)) in items.iter().zip(&open).zip(refusals).enumerate() {
        if !open {
            left.push(item.clone());
        } else if let Some(refusal) = refusal {
            settled.push((slot, refusal));
        } else {
            left.push(item.clone());
            // Of an account that is named twice somebody is asked once.
            if named.insert(item.user) {
                wanted.push(item);
            }
        }
    }
    let verdict = match look {
        Look::Said(verdict) => Some(verdict),
        _ if wanted.is_empty() => Some(unasked(Matter::FriendAdd)),
        _ => ask(call, &Question::FriendAdd { from: owner, items: &wanted, form }).await,
    };
    Ok((under(Command::AddFriends { items: left, form, forced }, verdict), settled))
}

/// Why each of `items` that is `open` would be refused by the wanted friend, or has no word of theirs. What
/// else is wrong with it the owner says.
async fn refusals(
    call: &Call<'_>,
    owner: UserId,
    items: &[NewFriend],
    open: &[bool],
    (form, forced): (OfferForm, bool),
) -> Result<Vec<Option<ItemError>>, Failure> {
    let users: Vec<UserId> = items.iter().map(|item| item.user).collect();
    let between = relation::between(call, call.before(), owner, &users, Sides::Single).await?;
    let asked = users.iter().zip(open).zip(between).enumerate();
    let asked = asked.filter(|(_, ((_, open), _))| **open);
    let asked = asked.filter_map(|(slot, ((user, _), both))| {
        let (ours, _) = both.ok()?;
        Some((slot, (call.key(*user), ours.has_friend)))
    });
    let (slots, asked): (Vec<usize>, Vec<_>) = asked.unzip();
    let said = call.before().would_refuse(asked, owner, (form, forced)).await;
    let mut refusals = vec![None; items.len()];
    for (slot, said) in slots.into_iter().zip(said) {
        refusals[slot] = match said {
            Ok(refusal) => refusal.map(ItemError::Rejected),
            Err(_) => Some(ItemError::Owed),
        };
    }
    Ok(refusals)
}

/// Asks about requests that `owner` wants to answer. Answers the command with what was said.
pub(super) async fn about_answering(
    call: &Call<'_>,
    owner: UserId,
    command: Command,
) -> Result<Command, Failure> {
    let look = look(call, owner, &command, Matter::FriendResponse).await?;
    let (Look::Open(open), Command::AnswerRequests { items }) = (&look, &command) else {
        return Ok(look.over(command));
    };
    let answered: Vec<&RequestAnswer> =
        items.iter().zip(open).filter(|(_, open)| **open).map(|(item, _)| item).collect();
    let verdict = if answered.is_empty() {
        Some(unasked(Matter::FriendResponse))
    } else {
        ask(call, &Question::FriendResponse { from: owner, items: &answered }).await
    };
    Ok(under(command, verdict))
}

/// Asks about a message of `sender`'s to one receiver. Answers the command with what was said, and in
/// the words that it was given.
pub(super) async fn about_message(
    call: &Call<'_>,
    sender: UserId,
    mut message: Message,
) -> Result<Command, Failure> {
    let app = call.app();
    if !is_asked(call, BeforeCommand::BeforeSendMsg)? {
        return Ok(Command::Send(message));
    }
    if let Some(verdict) = said_before(call, call.before(), sender).await? {
        return Ok(Command::Send(message).under(verdict));
    }
    // Who is unknown is refused by the command, and by what was not asked about if known meanwhile.
    if call.imported(call.before(), &[sender]).await? != [true] {
        return Ok(Command::Send(message).under(unasked(Matter::Message)));
    }
    let mut words = None;
    let question = Question::Message { from: sender, message: &message };
    let reword = |body: Option<&str>, custom_data: Option<&str>| {
        let before = Words { body: message.body.clone(), custom_data: message.custom_data.clone() };
        let after = Words {
            body: body.map_or_else(|| before.body.clone(), Into::into),
            custom_data: custom_data.map_or_else(|| before.custom_data.clone(), Into::into),
        };
        if after == before {
            return Ok(None);
        }
        let bytes = after.body.len() + after.custom_data.len() + message.push.len();
        if bytes > app.messages.bytes_max || !may_be_said(&after.body) {
            return Err(Unreadable);
        }
        words = Some(after);
        Ok(Some(before))
    };
    let by = call.origin();
    let asked = call.consultant.about_message(app.id, &question, &by, reword);
    let Some(verdict) = call.outside(asked).await else { return Ok(Command::Send(message)) };
    if let Some(Words { body, custom_data }) = words {
        (message.body, message.custom_data) = (body, custom_data);
    }
    Ok(Command::Send(message).under(verdict))
}

/// Whether a text can be the `MsgBody` of a message, by the rules for those of callers.
fn may_be_said(text: &str) -> bool {
    let fits = body::text(text.as_bytes()).is_ok();
    let read = serde_json::from_str::<Raw<'_>>(text).ok().filter(|_| fits);
    read.and_then(Raw::text).is_some_and(|text| message::check_elements(text).is_ok())
}

/// The verdict that holds for a call that was carried out: of a call with a key, the one that was kept.
pub(super) async fn standing(
    call: &Call<'_>,
    owner: UserId,
    verdict: Option<Verdict>,
) -> Result<Option<Verdict>, Failure> {
    Ok(said_before(call, call.behind(), owner).await?.or(verdict))
}

/// What was said when this call, which has a key, was made before.
async fn said_before(
    call: &Call<'_>,
    asker: Asker<'_>,
    owner: UserId,
) -> Result<Option<Verdict>, Failure> {
    let traces = idempotency::traces(call, asker, owner).await;
    let traces = traces.map_err(|error| call.fault(&error))?;
    Ok(traces.and_then(|traces| traces.verdict).map(|verdict| *verdict))
}

/// Whether anybody wants to be asked. A node that has just started and does not know that yet refuses
/// what may have to be asked about.
fn is_asked(call: &Call<'_>, about: BeforeCommand) -> Result<bool, Failure> {
    let is_asked = call.consultant.is_asked(call.app().id, about);
    is_asked.ok_or_else(|| call.fault(&ExecuteError::Unavailable))
}

/// What there is to ask about.
enum Look {
    /// Nothing: nobody wants to be asked.
    Nothing,
    /// Nothing: the call as a whole is refused. If it is not when it is carried out, nobody was asked.
    Refused(Verdict),
    /// It was asked about before, and this was said.
    Said(Verdict),
    /// These items are not refused anyway, as far as their owner knows.
    Open(Vec<bool>),
}

impl Look {
    /// The command, if nobody is asked now.
    fn over(self, command: Command) -> Command {
        match self {
            Self::Refused(verdict) | Self::Said(verdict) => command.under(verdict),
            Self::Nothing | Self::Open(_) => command,
        }
    }
}

async fn look(
    call: &Call<'_>,
    owner: UserId,
    command: &Command,
    about: Matter,
) -> Result<Look, Failure> {
    let asked = match about {
        Matter::FriendAdd => BeforeCommand::PrevFriendAdd,
        Matter::FriendResponse => BeforeCommand::PrevFriendResponse,
        Matter::Message => BeforeCommand::BeforeSendMsg,
    };
    if !is_asked(call, asked)? {
        return Ok(Look::Nothing);
    }
    if let Some(verdict) = said_before(call, call.before(), owner).await? {
        return Ok(Look::Said(verdict));
    }
    match call.before().foresee(call.key(owner), command.clone()).await {
        Ok(outcomes) => Ok(Look::Open(outcomes.iter().map(Result::is_ok).collect())),
        // Carrying it out says why.
        Err(ExecuteError::Rejected(_)) => Ok(Look::Refused(unasked(about))),
        Err(error) => Err(call.fault(&error)),
    }
}

async fn ask(call: &Call<'_>, question: &Question<'_>) -> Option<Verdict> {
    let by = call.origin();
    call.outside(call.consultant.about_friends(call.app().id, question, &by)).await
}

fn under(command: Command, verdict: Option<Verdict>) -> Command {
    match verdict {
        Some(verdict) => command.under(verdict),
        None => command,
    }
}

/// The verdict on what nobody was asked about: nothing of it may be done.
fn unasked(about: Matter) -> Verdict {
    Verdict {
        about,
        by: "".into(),
        ground: Ground::Answered,
        allowed: Vec::new(),
        refused: Vec::new(),
        hidden: false,
        before: None,
    }
}
