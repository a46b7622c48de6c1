//! What may stand behind `cordon webhooks`.

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};

use super::super::known_app;
use super::{JournalArgs, SettingsArgs, UserArg, app_id, bound, moment, one_journal, user};
use crate::audit::webhooks::{Bound, STATES};
use crate::config::{App, Environment};
use crate::domain::{AppId, Timestamp, UserId};
use crate::tags::CallbackCommand;
use crate::webhooks::digest::DeliveryId;

/// `cordon webhooks`
#[derive(Args, Debug)]
pub struct WebhooksArgs {
    /// What about them.
    #[command(subcommand)]
    pub command: WebhooksCommand,
}

/// What can be asked about webhooks, and be done about them.
#[derive(Debug, Subcommand)]
pub enum WebhooksCommand {
    /// Print how far each subscription has come, and what it waits for
    #[command(after_help = "\
Reads only; a node may be running.

Examples:
  cordon webhooks list
  cordon webhooks list --app 1400000001 --subscription main --json")]
    List(SubscribedArgs),
    /// Compare what the journal owes with what was delivered
    #[command(after_help = "\
Reads only; a node may be running. Every cursor has to balance, by number and by digest; --from and
--to bound what is counted. Exits with 1 on any difference.

Examples:
  cordon webhooks audit
  cordon webhooks audit --from 2026-11-22 --to 2026-11-23
  cordon webhooks audit --from 3@120 --to 3@500 --json")]
    Audit(WebhooksAuditArgs),
    /// Print what became of each call
    #[command(after_help = "\
Reads only; a node may be running. Calls are listed in the order in which their outcome was recorded;
those without an outcome come last.

Examples:
  cordon webhooks log --user amy
  cordon webhooks log --id 3@77.Sns.CallbackBlackListAdd --body
  cordon webhooks log --state parked --json")]
    Log(LogArgs),
    /// Print the calls that were given up
    #[command(after_help = "\
Reads only; a node may be running.

Examples:
  cordon webhooks dead-letters
  cordon webhooks dead-letters --from 2026-11-22 --user amy --json")]
    DeadLetters(DeadLettersArgs),
    /// Deliver a part of the past again, beside the deliveries that go on
    #[command(after_help = "\
With --dry-run, counts in the journal what would be sent. Without it, a running node sends it.

Examples:
  cordon webhooks replay --from 2026-11-22 --dry-run
  cordon webhooks replay --app 1400000001 --from 3@120 --to 3@500
  cordon webhooks replay --user 1400000001/amy --key ... --to-url http://10.0.0.9/hook")]
    Replay(WebhookReplayArgs),
    /// Move a subscription to another place in the journal
    #[command(after_help = "\
Asks a running node. Moving back delivers events again; moving ahead skips what lies between for good.

Examples:
  cordon webhooks seek --to 3@120
  cordon webhooks seek --to 2026-11-22T10:00:00Z
  cordon webhooks seek --end")]
    Seek(WebhookSeekArgs),
    /// Send calls again that were given up
    #[command(after_help = "\
Asks a running node.

Examples:
  cordon webhooks resend 3@77.Sns.CallbackBlackListAdd")]
    Resend(WebhookResendArgs),
}

/// Which subscriptions of which journal.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("data_dir", one_journal))]
pub struct SubscribedArgs {
    /// Only this app
    #[arg(long, value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// Only the subscription of this name, with its replays
    #[arg(long, value_name = "NAME")]
    pub subscription: Option<String>,
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,
}

/// `cordon webhooks audit`
#[derive(Args, Debug)]
pub struct WebhooksAuditArgs {
    /// Count from this moment on, or from these places (a date is UTC)
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub from: Vec<Bound>,
    /// Count what is before this moment, or before these places
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub to: Vec<Bound>,
    /// Which subscriptions.
    #[command(flatten)]
    pub subscribed: SubscribedArgs,
}

/// `cordon webhooks log`
#[derive(Args, Debug)]
pub struct LogArgs {
    /// Only this call
    #[arg(long, value_name = "ID", value_parser = delivery_id)]
    pub id: Option<DeliveryId>,
    /// Only calls about this user's events
    #[arg(long, value_name = "[APP/]USER", value_parser = user)]
    pub user: Option<UserArg>,
    /// Only calls in this state
    #[arg(long, value_name = "STATE", value_parser = STATES)]
    pub state: Option<String>,
    /// Only events from this moment on, or from these places (a date is UTC)
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub from: Vec<Bound>,
    /// Only events before this moment, or before these places
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub to: Vec<Bound>,
    /// Also print the bodies
    #[arg(long)]
    pub body: bool,
    /// Which subscriptions.
    #[command(flatten)]
    pub subscribed: SubscribedArgs,
}

/// `cordon webhooks dead-letters`
#[derive(Args, Debug)]
pub struct DeadLettersArgs {
    /// Only this call
    #[arg(long, value_name = "ID", value_parser = delivery_id)]
    pub id: Option<DeliveryId>,
    /// Only calls about this user's events
    #[arg(long, value_name = "[APP/]USER", value_parser = user)]
    pub user: Option<UserArg>,
    /// Only what was given up from this moment on (a date is UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Timestamp>,
    /// Only what was given up before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Timestamp>,
    /// Which subscriptions.
    #[command(flatten)]
    pub subscribed: SubscribedArgs,
}

/// A running node, and who asks it.
#[derive(Args, Clone, Debug)]
pub struct NodeOptions {
    /// The node's API [default: as in the settings, on this machine]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The app, by its SDKAppID [default: the settings' only app, or the development app]
    #[arg(long, value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// The app's secret key; others on this machine can see it here [default: the app's first one]
    #[arg(long, value_name = "K")]
    pub key: Option<String>,
    /// An admin of the app [default: the app's first one]
    #[arg(long, value_name = "ID")]
    pub admin: Option<UserId>,
}

/// The same, with all that a call needs.
#[derive(Clone)]
pub struct NodeArgs {
    /// The node.
    pub url: String,
    /// The app.
    pub app: AppId,
    /// Its secret key.
    pub key: String,
    /// An admin of it.
    pub admin: UserId,
}

impl NodeOptions {
    /// The app, from the command line or from the settings.
    ///
    /// Errors: the settings cannot be read, or do not say which app is meant.
    pub fn app(&self, settings: &SettingsArgs, environment: &Environment) -> Result<AppId> {
        match self.app {
            Some(id) => Ok(id),
            None => Ok(known_app(None, None, settings, environment)?.id),
        }
    }

    /// All that a call needs; the settings are read for what the command line does not say. Errors:
    /// nobody says it.
    pub fn complete(&self, settings: &SettingsArgs, environment: &Environment) -> Result<NodeArgs> {
        let known = known_app(self.app, None, settings, environment);
        let app = match (self.app, &self.key) {
            (Some(id), Some(_)) => known.unwrap_or(App { id, ..App::default() }),
            _ => known?,
        };
        let first = || app.keys.first().map(|key| key.reveal().to_owned());
        let key = self.key.clone().or_else(first).context("the app has no key")?;
        let admin = self.admin.or(app.admins.first().copied()).context("the app has no admin")?;
        let url = match &self.url {
            Some(url) => url.clone(),
            None => format!("http://{}", settings.load(environment)?.server.listen.from_here()),
        };
        Ok(NodeArgs { url, app: app.id, key, admin })
    }
}

/// Which calls.
#[derive(Args, Clone, Debug, Default)]
pub struct SelectionArgs {
    /// The subscription [default: main]
    #[arg(long, value_name = "NAME")]
    pub subscription: Option<String>,
    /// From this moment on, or from these places (a date is UTC)
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub from: Vec<Bound>,
    /// Up to this moment, or up to these places, exclusive
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub to: Vec<Bound>,
    /// Only calls about this user's events; may be repeated
    #[arg(long = "user", value_name = "[APP/]USER", value_parser = user)]
    pub users: Vec<UserArg>,
    /// Only this command, like Sns.CallbackFriendAdd; may be repeated
    #[arg(long = "command", value_name = "NAME", value_parser = command)]
    pub commands: Vec<CallbackCommand>,
    /// Only this call; may be repeated
    #[arg(long = "id", value_name = "ID", value_parser = delivery_id)]
    pub ids: Vec<DeliveryId>,
}

/// `cordon webhooks replay`
// A dry run reads a journal and asks no node; a replay asks a node and reads no journal. What only the
// other one uses is refused.
#[derive(Args, Debug)]
#[command(mut_arg("data_dir", |arg| one_journal(arg).requires("dry_run")))]
#[command(mut_arg("kafka", |arg| arg.requires("dry_run")))]
#[command(mut_arg("json", |arg| arg.requires("dry_run")))]
pub struct WebhookReplayArgs {
    /// Which calls.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Send to this address instead of the subscription's
    #[arg(long, value_name = "URL")]
    pub to_url: Option<String>,
    /// Only count in the journal what would be sent
    #[arg(long, conflicts_with_all = ["to_url", "url", "key", "admin"])]
    pub dry_run: bool,
    /// The node, and who asks.
    #[command(flatten)]
    pub node: NodeOptions,
    /// The journal of a dry run.
    #[command(flatten)]
    pub journal: JournalArgs,
}

/// `cordon webhooks seek`
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("place").required(true).args(["to", "end"])))]
pub struct WebhookSeekArgs {
    /// The subscription [default: main]
    #[arg(long, value_name = "NAME")]
    pub subscription: Option<String>,
    /// Go on with the first event of this moment or later (a date is UTC), or at these places; other
    /// partitions than those named stay where they are
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub to: Vec<Bound>,
    /// Move to the end of the journal: what is still owed is never delivered
    #[arg(long)]
    pub end: bool,
    /// The node, and who asks.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `cordon webhooks resend`
#[derive(Args, Debug)]
pub struct WebhookResendArgs {
    /// The calls, by their ids
    #[arg(value_name = "ID", value_parser = delivery_id, required = true)]
    pub ids: Vec<DeliveryId>,
    /// The subscription [default: main]
    #[arg(long, value_name = "NAME")]
    pub subscription: Option<String>,
    /// The node, and who asks.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

fn delivery_id(text: &str) -> Result<DeliveryId, String> {
    text.parse::<DeliveryId>().map_err(|error| error.to_string())
}

fn command(text: &str) -> Result<CallbackCommand, String> {
    CallbackCommand::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = CallbackCommand::ALL.iter().map(|command| command.name()).collect();
        format!("the commands are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn during_a_change_of_keys_the_first_one_signs_as_it_does_for_a_node() {
        let complete = |key: &str, admin: &str| {
            let pairs =
                [("CORDON_APP_ID", "7"), ("CORDON_APP_KEY", key), ("CORDON_APP_ADMIN", admin)];
            let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let options = NodeOptions { url: None, app: None, key: None, admin: None };
            let node = options.complete(&SettingsArgs::default(), &environment);
            node.map(|node| (node.key, node.admin.to_string()))
        };
        let first = ("new".to_owned(), "chief".to_owned());
        assert_eq!(complete("new,old", "chief, robot").expect("complete"), first);
        assert_eq!(complete(" new ", "chief").expect("complete"), first);
        assert!(complete(",", "chief").is_err());
    }

    #[test]
    fn whom_the_command_line_does_not_name_the_settings_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cordon.toml");
        let app =
            |id: u32| format!("[[app]]\nid = {id}\nkeys = \"key-{id}\"\nadmins = [\"chief\"]\n");
        std::fs::write(&path, format!("listen = \"0.0.0.0:88\"\n{}{}", app(7), app(8)))
            .expect("a file");
        let settings = SettingsArgs { config: Some(path) };
        let none = NodeOptions { url: None, app: None, key: None, admin: None };
        let complete = |options: &NodeOptions,
                        settings: &SettingsArgs,
                        variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let node = options.complete(settings, &variables.collect()).ok()?;
            Some((node.url, node.app.0, node.key, node.admin.to_string()))
        };
        let known = |id: u32| {
            Some(("http://127.0.0.1:88".to_owned(), id, format!("key-{id}"), "chief".to_owned()))
        };
        let eight = NodeOptions { app: Some(AppId(8)), ..none.clone() };
        assert_eq!(complete(&eight, &settings, &[]), known(8));
        // Two of them, and nobody says which; the variable does as it does for a node.
        assert_eq!(complete(&none, &settings, &[]), None);
        assert_eq!(complete(&none, &settings, &[("CORDON_APP_ID", "7")]), known(7));
        assert_eq!(complete(&eight, &settings, &[("CORDON_APP_ID", "7")]), known(8));
        // All is said, so no settings are needed.
        let all = NodeOptions { url: Some("http://n".into()), key: Some("k".into()), ..eight };
        let nowhere = SettingsArgs { config: Some("/nowhere/cordon.toml".into()) };
        let told = ("http://n".to_owned(), 8, "k".to_owned(), "administrator".to_owned());
        assert_eq!(complete(&all, &nowhere, &[]), Some(told));
    }
}
