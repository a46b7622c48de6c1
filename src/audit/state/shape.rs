//! A user's state as it is written: as a JSON object, or as lines for people.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::audit::AuditError;
use crate::audit::plain::Plain;
use crate::domain::{
    AllowType, AppId, Card, EdgeId, Gender, OfferForm, OfferState, Profile, Subscriptions,
    Timestamp, User, UserId, Version,
};
use crate::journal::{Offset, Partition};

/// The state of a user, as it is written: the fields and their names are those of the JSON object,
/// and stay. Times are RFC 3339 in UTC; those of entries are whole seconds, as the API answers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State<'a> {
    /// The user's app.
    pub app: AppId,
    /// The user.
    pub user: UserId,
    /// The user's partition.
    pub partition: Partition,
    /// Where the last record of the user stands that is taken into account; `null` if there is none.
    pub offset: Option<Offset>,
    /// When that record was made; `null` if there is none.
    pub at: Option<Timestamp>,
    /// Its version; 0 if there is none.
    pub version: Version,
    /// Whether the account exists.
    pub exists: bool,
    /// The profile: `allow_type` is `null` if it was never set, then the app's default is in force;
    /// other fields that were never set are empty or 0.
    pub profile: Cow<'a, Profile>,
    /// Whom the user blocks, oldest first.
    pub blocklist: Vec<Blocked>,
    /// The user's friends, by name.
    pub friends: Vec<Friend>,
    /// The user's offers that are not settled, by the name of the wanted friend.
    pub offers: Vec<Offer<'a>>,
    /// Requests that wait for the user's answer, by the name of who asks.
    pub requests: Vec<Request<'a>>,
    /// The names of the user's friend groups, oldest first; who is in them stands with the friends.
    pub groups: Vec<Box<str>>,
    /// Calls with keys that are kept.
    pub calls: Vec<Call>,
    /// What the stream that keeps an app's subscriptions knows of them, as in stored events; left out
    /// for everybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<&'a Subscriptions>,
}

/// A call with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The hash of its key.
    pub key: UserId,
    /// When it was last heard of.
    pub at: Timestamp,
    /// Whether it was answered.
    pub answered: bool,
}

/// An entry of a blocklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Who is blocked.
    pub peer: UserId,
    /// Since when.
    pub since: Timestamp,
}

/// A friend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Friend {
    /// The friend.
    pub peer: UserId,
    /// The id of the friendship, `<offerer>:<version>`.
    pub edge: EdgeId,
    /// When the friend was added.
    pub since: Timestamp,
    /// What is noted about the friend: those that are set of `remark`, `groups`, `source`,
    /// `wording`, `custom`, `added_at` and `remark_at`, as in stored events. `null` if none is.
    pub card: Option<Card>,
}

/// An offer of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Offer<'a> {
    /// The wanted friend.
    pub peer: UserId,
    /// The id of the offer.
    pub edge: EdgeId,
    /// `two_way`, `one_way` or `import`.
    pub form: OfferForm,
    /// An administrator forces it.
    pub forced: bool,
    /// How far it has come.
    pub state: Stage,
    /// What will be noted about the friend, as in [`Friend::card`].
    pub card: Option<&'a Card>,
}

/// How far an offer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `open`: there is no answer yet.
    Open,
    /// `pending`: the peer has to confirm.
    Pending,
    /// `confirmed`: accepted, and waits for the other answers of its request.
    Confirmed,
}

/// A request that waits for the user's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Request<'a> {
    /// Who asks.
    pub peer: UserId,
    /// The id of their offer.
    pub edge: EdgeId,
    /// When it came.
    pub since: Timestamp,
    /// Source and words of the request, as in [`Friend::card`].
    pub card: Option<&'a Card>,
}

impl<'a> State<'a> {
    /// `user` of app `app`, whose last record taken into account stands at `last`.
    pub(super) fn of(
        app: AppId,
        user: &'a User,
        partition: Partition,
        last: Option<(Offset, Timestamp)>,
    ) -> Self {
        let profile = user.profile().map_or_else(Cow::default, Cow::Borrowed);
        let calls = user.kept_calls().map(|kept| Call {
            key: kept.call.key,
            at: kept.at,
            answered: kept.answer.is_some(),
        });
        let since = Timestamp::from_unix_seconds;
        let blocks = user.blocklist();
        let blocked = blocks.iter().map(|one| Blocked { peer: one.peer, since: since(one.at) });
        let friends = user.friends().map(|friend| Friend {
            peer: friend.peer,
            edge: friend.edge(user.id()),
            since: since(friend.at),
            card: friend.card().map(Card::from),
        });
        let offers = user.offers().map(|offer| Offer {
            peer: offer.peer,
            edge: offer.edge,
            form: offer.form,
            forced: offer.forced,
            state: match offer.state {
                OfferState::Open => Stage::Open,
                OfferState::Pending => Stage::Pending,
                OfferState::Confirmed { .. } => Stage::Confirmed,
            },
            card: noted(&offer.card),
        });
        let requests = user.requests().map(|request| Request {
            peer: request.peer,
            edge: request.edge,
            since: since(request.at),
            card: noted(&request.card),
        });
        Self {
            app,
            user: user.id(),
            partition,
            offset: last.map(|(offset, _)| offset),
            at: last.map(|(_, at)| at),
            version: user.version(),
            exists: user.is_imported(),
            profile,
            blocklist: blocked.collect(),
            friends: friends.collect(),
            offers: offers.collect(),
            requests: requests.collect(),
            groups: user.groups(None).into_iter().map(|group| group.name).collect(),
            calls: calls.collect(),
            subscriptions: user.subscriptions(),
        }
    }
}

fn noted(card: &Card) -> Option<&Card> {
    Some(card).filter(|card| !card.is_empty())
}

/// Writes `state` as one JSON object on one line.
pub(super) fn write_json(state: &State<'_>, out: &mut dyn Write) -> Result<(), AuditError> {
    let mut line = serde_json::to_vec(state).map_err(io::Error::from)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}

/// Writes `state` for people.
pub(super) fn write_table(state: &State<'_>, out: &mut dyn Write) -> Result<(), AuditError> {
    let State { app, user, partition, version, profile, .. } = state;
    match (state.offset, state.at) {
        (Some(offset), Some(at)) => {
            writeln!(out, "{app}/{user}  #{version}  {at}  {partition}@{offset}")?;
        }
        _ => writeln!(out, "{app}/{user}  nothing is recorded yet")?,
    }
    row(out, "account", if state.exists { "exists" } else { "does not exist" })?;
    row(out, "nick", Text(&profile.nick))?;
    row(out, "face", Text(&profile.face_url))?;
    let allow = match profile.allow_type {
        None => "as the app says",
        Some(AllowType::AllowAny) => "anybody may add them",
        Some(AllowType::NeedConfirm) => "they confirm new friends",
        Some(AllowType::DenyAny) => "nobody may add them",
    };
    row(out, "new friends", allow)?;
    let may = if profile.requests_forbidden { "may not be sent" } else { "may be sent" };
    row(out, "own requests", may)?;
    write_rest(profile, out)?;
    row(out, "blocklist", state.blocklist.len())?;
    for Blocked { peer, since } in &state.blocklist {
        writeln!(out, "  {peer:<20}  since {since}")?;
    }
    row(out, "friends", state.friends.len())?;
    for Friend { peer, edge, since, card } in &state.friends {
        writeln!(out, "  {peer:<20}  since {since}, edge {edge}{}", Noted(card.as_ref()))?;
    }
    row(out, "offers", state.offers.len())?;
    for Offer { peer, edge, form, forced, state, card } in &state.offers {
        let form = match form {
            OfferForm::TwoWay => "two-way",
            OfferForm::OneWay => "one-way",
            OfferForm::Import => "import",
        };
        let forced = if *forced { ", forced" } else { "" };
        let state = match state {
            Stage::Open => "has no answer yet",
            Stage::Pending => "waits for them to confirm",
            Stage::Confirmed => "accepted, waits for the others of its request",
        };
        writeln!(out, "  {peer:<20}  {form}{forced}, {state}, edge {edge}{}", Noted(*card))?;
    }
    row(out, "requests", state.requests.len())?;
    for Request { peer, edge, since, card } in &state.requests {
        writeln!(out, "  {peer:<20}  since {since}, edge {edge}{}", Noted(*card))?;
    }
    if !state.groups.is_empty() {
        row(out, "groups", state.groups.len())?;
    }
    for name in &state.groups {
        writeln!(out, "  {}", Text(name))?;
    }
    if !state.calls.is_empty() {
        row(out, "calls", state.calls.len())?;
    }
    for Call { key, at, answered } in &state.calls {
        let how = if *answered { "answered" } else { "not answered" };
        writeln!(out, "  {key}  {how}, {at}")?;
    }
    if let Some(known) = state.subscriptions {
        row(out, "subscribers", known.set.len())?;
        for set in &known.set {
            let place = set.url.as_deref().unwrap_or_default();
            let off = if set.enabled { "" } else { ", off" };
            writeln!(out, "  {:<20}  {}{off}", Plain(&set.name).to_string(), Text(place))?;
        }
        row(out, "replays", known.replays.len())?;
        for replay in &known.replays {
            writeln!(out, "  {:<20}  of {}", replay.number, Plain(&replay.subscription))?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The fields of a profile that no rule reads, as far as they were set.
fn write_rest(profile: &Profile, out: &mut dyn Write) -> Result<(), AuditError> {
    match profile.gender {
        Gender::Unknown => {}
        Gender::Female => row(out, "gender", "female")?,
        Gender::Male => row(out, "gender", "male")?,
    }
    let texts = [("location", &profile.location), ("signature", &profile.self_signature)];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        row(out, name, Text(text))?;
    }
    let numbers = [
        ("birthday", profile.birthday),
        ("language", profile.language),
        ("settings", profile.msg_settings),
        ("level", profile.level),
        ("role", profile.role),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        row(out, name, number)?;
    }
    for (tag, value) in &profile.custom {
        row(out, &Plain(tag).to_string(), Text(value))?;
    }
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, value: impl fmt::Display) -> Result<(), AuditError> {
    writeln!(out, "{name:<12}  {value}")?;
    Ok(())
}

/// A text that somebody chose, or a dash for none.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { write!(f, "\"{}\"", Plain(self.0)) }
    }
}

/// What is set of a card, each with a comma before it.
struct Noted<'a>(Option<&'a Card>);

impl fmt::Display for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(card) = self.0 else { return Ok(()) };
        let Card { remark, groups, source, wording, custom, added_at: _, remark_at } = card;
        let texts = [("remark", remark), ("source", source), ("saying", wording)];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            write!(f, ", {name} \"{}\"", Plain(text))?;
        }
        for group in groups {
            write!(f, ", group \"{}\"", Plain(group))?;
        }
        for (tag, value) in custom {
            write!(f, ", {} \"{}\"", Plain(tag), Plain(value))?;
        }
        match remark_at {
            Some(at) => write!(f, ", remark of {}", Timestamp::from_unix_seconds(*at)),
            None => Ok(()),
        }
    }
}
