//! `cordon webhooks`: how deliveries stand, and what an operator does about it.
//!
//! What only reads goes to the journal itself; what changes something asks a running node.

use std::io::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::arguments::{
    DeadLettersArgs, LogArgs, NodeOptions, SelectionArgs, SubscribedArgs, UserArg,
    WebhookReplayArgs, WebhookResendArgs, WebhookSeekArgs, WebhooksAuditArgs, WebhooksCommand,
};
use super::audit::{all_read, bound, format, moment_or_places, open};
use super::call::call;
use crate::audit::Format;
use crate::audit::webhooks::{
    self, Bound, Counted, LogOptions, Options, Range, Selection, audit, count,
};
use crate::clock::Clock;
use crate::config::Environment;
use crate::domain::subscription::REPLAYED_IDS_MAX;
use crate::domain::{AppId, MAIN, Timestamp, UserId};
use crate::journal::{Offset, Partition};

/// How calls of the API name what is asked for. Rule: extensions.md.
mod field {
    pub(super) const NAME: &str = "Name";
    pub(super) const URL: &str = "Url";
    pub(super) const SINCE: &str = "Since";
    pub(super) const UNTIL: &str = "Until";
    pub(super) const RANGES: &str = "Ranges";
    pub(super) const PARTITION: &str = "Partition";
    pub(super) const FROM: &str = "From";
    pub(super) const USERS: &str = "To_Account";
    pub(super) const COMMANDS: &str = "Commands";
    pub(super) const IDS: &str = "Ids";
    pub(super) const OFFSETS: &str = "Offsets";
    pub(super) const OFFSET: &str = "Offset";
    pub(super) const TIME: &str = "Time";
    pub(super) const END: &str = "End";
}

/// The call that begins a replay.
const REPLAY_START: &str = "webhook/replay_start";
/// The call that moves a subscription.
const SUBSCRIPTION_SEEK: &str = "webhook/subscription_seek";

pub(super) fn webhooks(
    command: &WebhooksCommand,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    match command {
        WebhooksCommand::List(args) => list(args, environment, out),
        WebhooksCommand::Audit(args) => reconcile(args, environment, out),
        WebhooksCommand::Log(args) => log(args, environment, out),
        WebhooksCommand::DeadLetters(args) => dead_letters(args, environment, out),
        WebhooksCommand::Replay(args) => replay(args, environment, out),
        WebhooksCommand::Seek(args) => seek(args, environment, out),
        WebhooksCommand::Resend(args) => resend(args, environment, out),
    }
}

fn options(args: &SubscribedArgs, range: Range) -> Options {
    Options {
        app: args.app,
        subscription: args.subscription.clone(),
        range,
        replays: Vec::new(),
        now: Clock::system().now(),
        format: format(&args.journal),
    }
}

/// The same of one user's events, if one is named.
fn options_of(
    args: &SubscribedArgs,
    range: Range,
    user: Option<UserArg>,
) -> Result<(Options, Option<UserId>)> {
    let named = user.map(|user| user.beside(args.app)).transpose()?;
    let app = named.map_or(args.app, |(app, _)| app);
    let options = Options { app, ..options(args, range) };
    Ok((options, named.map(|(_, user)| user)))
}

fn list(args: &SubscribedArgs, environment: &Environment, out: &mut impl Write) -> Result<()> {
    let options = options(args, Range::default());
    let report = webhooks::list(&*open(&args.journal, environment)?, &options, out)?;
    all_read(report.unreadable)
}

fn reconcile(
    args: &WebhooksAuditArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let range = Range { from: bound(&args.from)?, to: bound(&args.to)? };
    let options = options(&args.subscribed, range);
    let report = audit(&*open(&args.subscribed.journal, environment)?, &options, out)?;
    if !report.balanced {
        bail!("the cursors do not balance: each difference is listed above");
    }
    if !report.subscriptions.iter().all(|one| one.counted) {
        bail!("the audit is incomplete: each cursor that could not be checked has a note above");
    }
    Ok(())
}

fn log_options(args: &LogArgs) -> Result<LogOptions> {
    let range = Range { from: bound(&args.from)?, to: bound(&args.to)? };
    let (options, user) = options_of(&args.subscribed, range, args.user)?;
    Ok(LogOptions { options, id: args.id, user, state: args.state.clone(), body: args.body })
}

fn log(args: &LogArgs, environment: &Environment, out: &mut impl Write) -> Result<()> {
    let journal = open(&args.subscribed.journal, environment)?;
    all_read(webhooks::log(&*journal, &log_options(args)?, out)?.unreadable)
}

fn dead_letters(
    args: &DeadLettersArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let bound = |at: Option<Timestamp>| at.map(Bound::Time);
    let range = Range { from: bound(args.from), to: bound(args.to) };
    let (options, user) = options_of(&args.subscribed, range, args.user)?;
    let options = LogOptions { options, id: args.id, user, ..LogOptions::default() };
    let journal = open(&args.subscribed.journal, environment)?;
    all_read(webhooks::dead_letters(&*journal, &options, out)?.unreadable)
}

/// The users that are named, and their app: the one of `--app`, or the one that stands in front of them.
fn users_of(users: &[UserArg], app: Option<AppId>) -> Result<(Option<AppId>, Vec<UserId>)> {
    let mut ids = Vec::new();
    let mut named = app;
    for user in users {
        let (of, id) = user.beside(app)?;
        match (named, of) {
            (Some(one), Some(other)) if one != other => {
                bail!("a replay is of one app, and the users are named with {one} and {other}")
            }
            _ => named = named.or(of),
        }
        ids.push(id);
    }
    Ok((named, ids))
}

fn replay(args: &WebhookReplayArgs, environment: &Environment, out: &mut impl Write) -> Result<()> {
    let range = Range { from: bound(&args.selection.from)?, to: bound(&args.selection.to)? };
    let (app, users) = users_of(&args.selection.users, args.node.app)?;
    let node = NodeOptions { app, ..args.node.clone() };
    if args.dry_run {
        let selection = Selection {
            app: node.app(&args.journal.settings, environment)?,
            subscription: args.selection.subscription.clone().unwrap_or_else(|| MAIN.to_owned()),
            range,
            users,
            commands: args.selection.commands.clone(),
            ids: args.selection.ids.clone(),
        };
        let counted = count(&*open(&args.journal, environment)?, &selection)?;
        write_counted(&counted, format(&args.journal), out)?;
        return all_read(counted.unreadable);
    }
    let body = replay_body(&args.selection, &users, args.to_url.as_deref(), &range)?;
    let answer = call(&node.complete(&args.journal.settings, environment)?, REPLAY_START, &body)?;
    writeln!(out, "replay {} has begun", answer["Number"])?;
    Ok(())
}

fn write_counted(counted: &Counted, format: Format, out: &mut impl Write) -> Result<()> {
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string(counted)?)?;
        return Ok(());
    }
    writeln!(out, "{} calls of {} records", counted.calls, counted.records)?;
    for (command, calls) in &counted.commands {
        writeln!(out, "{command:<32}  {calls}")?;
    }
    for (partition, from, until) in &counted.ranges {
        writeln!(out, "partition {partition}: from {from} up to {until}")?;
    }
    Ok(())
}

fn replay_body(
    selection: &SelectionArgs,
    users: &[UserId],
    url: Option<&str>,
    range: &Range,
) -> Result<Value> {
    let mut body = Map::new();
    let name = selection.subscription.as_deref().unwrap_or(MAIN);
    body.insert(field::NAME.into(), json!(name));
    if let Some(url) = url {
        body.insert(field::URL.into(), json!(url));
    }
    let (since, from) = moment_or_places(range.from.clone());
    let (until, to) = moment_or_places(range.to.clone());
    for (field, at) in [(field::SINCE, since), (field::UNTIL, until)] {
        if let Some(at) = at {
            body.insert(field.into(), json!(seconds(at)?));
        }
    }
    let ranges = ranges(&from, &to)?;
    if !ranges.is_empty() {
        body.insert(field::RANGES.into(), json!(ranges));
    }
    let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let commands: Vec<&str> = selection.commands.iter().map(|command| command.name()).collect();
    let ids: Vec<String> = selection.ids.iter().map(ToString::to_string).collect();
    if !users.is_empty() {
        body.insert(field::USERS.into(), json!(users));
    }
    if !commands.is_empty() {
        body.insert(field::COMMANDS.into(), json!(commands));
    }
    if !ids.is_empty() {
        body.insert(field::IDS.into(), json!(ids));
    }
    Ok(Value::Object(body))
}

/// The API has moments in seconds.
fn seconds(at: Timestamp) -> Result<i64> {
    if at.0 % 1000 != 0 {
        bail!("{at} is no whole second: a node takes moments in seconds");
    }
    Ok(at.0 / 1000)
}

fn ranges(from: &[(Partition, Offset)], to: &[(Partition, Offset)]) -> Result<Vec<Value>> {
    if from.len() != to.len() {
        bail!("each partition needs both ends, like --from 3@120 --to 3@500");
    }
    let range = |(partition, first): &(Partition, Offset)| {
        let behind = to.iter().find(|(other, _)| other == partition);
        let (_, behind) = behind.with_context(|| format!("partition {partition} has no --to"))?;
        if first >= behind {
            bail!("the range of partition {partition} is empty: --to is exclusive");
        }
        Ok(json!({field::PARTITION: partition, field::FROM: first, field::UNTIL: behind}))
    };
    from.iter().map(range).collect()
}

fn seek(args: &WebhookSeekArgs, environment: &Environment, out: &mut impl Write) -> Result<()> {
    let mut body = Map::new();
    let name = args.subscription.as_deref().unwrap_or(MAIN);
    body.insert(field::NAME.into(), json!(name));
    match bound(&args.to)? {
        Some(Bound::Time(time)) => body.insert(field::TIME.into(), json!(seconds(time)?)),
        Some(Bound::Places(places)) => {
            let place = |(partition, offset): &(Partition, Offset)| json!({field::PARTITION: partition, field::OFFSET: offset});
            let places: Vec<Value> = places.iter().map(place).collect();
            body.insert(field::OFFSETS.into(), json!(places))
        }
        // Without a place it is the end: the command line has one of them.
        None => body.insert(field::END.into(), json!(1)),
    };
    call(
        &args.node.complete(&args.settings, environment)?,
        SUBSCRIPTION_SEEK,
        &Value::Object(body),
    )?;
    writeln!(out, "{name} goes on from there")?;
    Ok(())
}

fn resend(args: &WebhookResendArgs, environment: &Environment, out: &mut impl Write) -> Result<()> {
    if args.ids.len() > REPLAYED_IDS_MAX {
        bail!("at most {REPLAYED_IDS_MAX} calls can be sent again at a time");
    }
    let selection = SelectionArgs {
        subscription: args.subscription.clone(),
        ids: args.ids.clone(),
        ..SelectionArgs::default()
    };
    let body = replay_body(&selection, &[], None, &Range::default())?;
    let answer = call(&args.node.complete(&args.settings, environment)?, REPLAY_START, &body)?;
    let count = args.ids.len();
    writeln!(out, "{count} calls are sent again by replay {}", answer["Number"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::arguments::{Cli, Command, WebhooksArgs};
    use super::*;
    use crate::domain::UserId;

    fn place(partition: u16, offset: u64) -> (Partition, Offset) {
        (Partition(partition), Offset(offset))
    }

    #[test]
    fn a_replay_is_asked_for_in_the_words_of_the_api() {
        let selection = SelectionArgs {
            subscription: Some("crm".into()),
            ids: vec!["3@7.Sns.CallbackFriendAdd".parse().expect("an id")],
            commands: vec![crate::tags::CallbackCommand::FriendAdd],
            ..SelectionArgs::default()
        };
        let range = Range {
            from: Some(Bound::Places(vec![place(3, 5)])),
            to: Some(Bound::Places(vec![place(3, 9)])),
        };
        let amy = [UserId::parse("amy").expect("a name")];
        let body = replay_body(&selection, &amy, Some("http://b/hook"), &range).expect("a body");
        let expected = json!({
            "Name": "crm", "Url": "http://b/hook", "To_Account": ["amy"],
            "Commands": ["Sns.CallbackFriendAdd"], "Ids": ["3@7.Sns.CallbackFriendAdd"],
            "Ranges": [{"Partition": 3, "From": 5, "Until": 9}],
        });
        assert_eq!(body, expected);
        let range = Range {
            from: Some(Bound::Time(Timestamp(5_000))),
            to: Some(Bound::Time(Timestamp(9_000))),
        };
        let body = replay_body(&SelectionArgs::default(), &[], None, &range).expect("a body");
        assert_eq!(body, json!({"Name": "main", "Since": 5, "Until": 9}));
    }

    #[test]
    fn the_users_of_a_replay_are_of_one_app() {
        let named = |users: &[&str], app: Option<u32>| {
            let line = ["cordon", "webhooks", "replay"].into_iter();
            let line = line.chain(users.iter().flat_map(|user| ["--user", user]));
            let Command::Webhooks(WebhooksArgs { command: WebhooksCommand::Replay(args) }) =
                Cli::try_parse_from(line).expect("a command line").command
            else {
                panic!("a replay")
            };
            let (app, users) = users_of(&args.selection.users, app.map(AppId)).ok()?;
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            Some((app.map(|app| app.0), users.join(" ")))
        };
        assert_eq!(named(&[], Some(7)), Some((Some(7), String::new())));
        assert_eq!(named(&["amy", "bob"], None), Some((None, "amy bob".into())));
        assert_eq!(named(&["amy", "7/bob"], None), Some((Some(7), "amy bob".into())));
        assert_eq!(named(&["7/amy"], Some(7)), Some((Some(7), "amy".into())));
        assert_eq!(named(&["7/amy", "8/bob"], None), None);
        // A UserID that looks like a user of an app.
        assert_eq!(named(&["7/amy"], Some(8)), Some((Some(8), "7/amy".into())));
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        assert!(seconds(Timestamp(1)).is_err());
        assert!(ranges(&[place(3, 5)], &[]).is_err());
        assert!(ranges(&[place(3, 5)], &[place(4, 9)]).is_err());
        assert!(ranges(&[place(3, 5)], &[place(3, 5)]).is_err());
        let mixed = [Bound::Time(Timestamp(0)), Bound::Places(vec![place(0, 1)])];
        assert!(bound(&mixed).is_err());
        assert!(matches!(bound(&[]), Ok(None)));
    }
}
