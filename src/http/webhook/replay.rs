//! Replays: start, list, end.

use serde::Serialize;

use super::subscription::{OFFSETS_MAX, commands};
use super::{ID_BYTES_MAX, Named, ask, moment, name, name_if_given, seconds, switch, whole};
use crate::domain::subscription::{REPLAYED_IDS_MAX, REPLAYED_USERS_MAX};
use crate::domain::{Replay, UserId};
use crate::http::answer::{Answered, Failure};
use crate::http::call::Call;
use crate::http::error_code as code;
use crate::http::shape::{List, Listed, Malformed, Object, Scalar, shape};
use crate::subscriptions::ReplaySeen;

shape! {
    /// The body of `replay_start`.
    Start<'a> {
        name: Scalar<'a> = "Name",
        url: Scalar<'a> = "Url",
        since: Scalar<'a> = "Since",
        until: Scalar<'a> = "Until",
        ranges: List<Object<Range<'a>>> = "Ranges",
        users: List<Listed<'a>> = "To_Account",
        commands: List<Scalar<'a>> = "Commands",
        ids: List<Scalar<'a>> = "Ids",
        dry_run: Scalar<'a> = "DryRun",
    }
}

shape! {
    /// A part of a partition.
    Range<'a> {
        partition: Scalar<'a> = "Partition",
        from: Scalar<'a> = "From",
        until: Scalar<'a> = "Until",
    }
}

shape! {
    /// The body of `replay_end`.
    End<'a> {
        number: Scalar<'a> = "Number",
    }
}

/// `replay_start`. With `DryRun` it only says how many calls that would be.
pub(in crate::http) async fn start(call: &Call<'_>, body: &str) -> Answered {
    let asked: Start<'_> = call.parse(body)?;
    let wanted = replay(&asked)?;
    let app = call.app().id;
    if switch(&asked.dry_run, false)? {
        let counted = ask(call, call.subscribers.count(app, wanted)).await?;
        let complete = counted.complete.into();
        return Ok(call.success(&Counted { count: counted.deliveries, complete }));
    }
    let (number, position) =
        ask(call, call.subscribers.start_replay(app, wanted, call.origin())).await?;
    Ok(call.success(&Started { number }).at(position))
}

#[derive(Serialize)]
struct Counted {
    #[serde(rename = "Count")]
    count: u64,
    /// 0 if there was no time to look at everything.
    #[serde(rename = "Complete")]
    complete: u8,
}

#[derive(Serialize)]
struct Started {
    #[serde(rename = "Number")]
    number: u32,
}

fn replay(asked: &Start<'_>) -> Result<Replay, Failure> {
    let wrong = Failure::Whole(code::WEBHOOK_RANGE_WRONG);
    let url = match asked.url.text() {
        Ok(None | Some("")) => None,
        Ok(Some(url)) => Some(Box::from(url)),
        Err(Malformed) => return Err(Failure::Whole(code::WEBHOOK_URL_WRONG)),
    };
    let users = asked.users.items().map_err(|Malformed| wrong)?.unwrap_or_default();
    let ids = asked.ids.items().map_err(|Malformed| wrong)?.unwrap_or_default();
    let ranges = asked.ranges.items().map_err(|Malformed| wrong)?;
    let is_empty = ranges.is_some_and(<[_]>::is_empty);
    let ranges = ranges.unwrap_or_default();
    let too_many = users.len() > REPLAYED_USERS_MAX
        || ids.len() > REPLAYED_IDS_MAX
        || ranges.len() > OFFSETS_MAX;
    // Calls that are named say themselves where they stand.
    if too_many || is_empty || (!ids.is_empty() && !ranges.is_empty()) {
        return Err(wrong);
    }
    let user = |listed: &Listed<'_>| UserId::parse(listed.name()).map_err(|_| wrong);
    let id = |id: &Scalar<'_>| {
        let id = id.text().ok().flatten().filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
        id.map(Box::from).ok_or(wrong)
    };
    let range = |range: &Object<Range<'_>>| {
        let range = range.given().map_err(|Malformed| wrong)?;
        match (whole(&range.partition), whole(&range.from), whole(&range.until)) {
            (Some(partition), Some(from), Some(until)) if from < until => {
                Ok((partition, from, until))
            }
            _ => Err(wrong),
        }
    };
    let mut ranges = ranges.iter().map(range).collect::<Result<Vec<_>, Failure>>()?;
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(wrong);
    }
    let since = moment(&asked.since, code::WEBHOOK_RANGE_WRONG)?;
    let until = moment(&asked.until, code::WEBHOOK_RANGE_WRONG)?;
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        return Err(wrong);
    }
    Ok(Replay {
        number: 0,
        subscription: name(&asked.name)?.into(),
        url,
        since,
        until,
        ranges,
        users: users.iter().map(user).collect::<Result<_, _>>()?,
        commands: commands(&asked.commands)?.unwrap_or_default(),
        ids: ids.iter().map(id).collect::<Result<_, _>>()?,
    })
}

/// `replay_list`: the replays that run, with what came of them so far.
pub(in crate::http) async fn list(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let wanted = name_if_given(&asked.name)?;
    let mut seen = ask(call, call.subscribers.replays(call.app().id)).await?;
    seen.retain(|seen| wanted.is_none_or(|wanted| *seen.replay.subscription == *wanted));
    Ok(call.success(&Running { items: seen.iter().map(Item::from).collect() }))
}

#[derive(Serialize)]
struct Running<'a> {
    #[serde(rename = "ReplayItem")]
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    number: u32,
    name: &'a str,
    url: &'a str,
    /// 0 if there is no bound, here and below.
    since: i64,
    until: i64,
    ranges: Vec<RangeItem>,
    #[serde(rename = "To_Account")]
    users: &'a [UserId],
    commands: &'a [Box<str>],
    ids: &'a [Box<str>],
    delivered: u64,
    dead: u64,
    parked: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RangeItem {
    partition: u16,
    from: u64,
    until: u64,
}

impl<'a> From<&'a ReplaySeen> for Item<'a> {
    fn from(seen: &'a ReplaySeen) -> Self {
        let replay = &seen.replay;
        let range = |(partition, from, until): &(u16, u64, u64)| RangeItem {
            partition: *partition,
            from: *from,
            until: *until,
        };
        Self {
            number: replay.number,
            name: &replay.subscription,
            url: replay.url.as_deref().unwrap_or_default(),
            since: replay.since.map_or(0, seconds),
            until: replay.until.map_or(0, seconds),
            ranges: replay.ranges.iter().map(range).collect(),
            users: &replay.users,
            commands: &replay.commands,
            ids: &replay.ids,
            delivered: seen.delivered,
            dead: seen.dead,
            parked: seen.parked,
        }
    }
}

/// `replay_end`. Repeat: one that has ended stays so.
pub(in crate::http) async fn end(call: &Call<'_>, body: &str) -> Answered {
    let asked: End<'_> = call.parse(body)?;
    let Some(number) = whole(&asked.number) else { return call.fails(code::REPLAY_UNKNOWN) };
    let position =
        ask(call, call.subscribers.end_replay(call.app().id, number, call.origin())).await?;
    Ok(call.done().at(position))
}
