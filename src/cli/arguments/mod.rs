//! What may stand on the command line.

mod user;
mod webhooks;

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand, value_parser};

use crate::app;
use crate::audit::state::Moment;
use crate::audit::story::EVENT_TYPES;
use crate::audit::webhooks::Bound;
use crate::config::{Address, Config, ConfigError, Environment, JournalKind};
use crate::domain::{AppId, Timestamp, UserId};
use crate::journal::kafka::ClusterSettings;
use crate::journal::{Offset, Partition};
pub(super) use user::UserArg;
use user::user;
pub(super) use webhooks::{
    DeadLettersArgs, LogArgs, NodeArgs, NodeOptions, SelectionArgs, SubscribedArgs,
    WebhookReplayArgs, WebhookResendArgs, WebhookSeekArgs, WebhooksArgs, WebhooksAuditArgs,
    WebhooksCommand,
};

/// What a UserSig is valid for when nobody says otherwise, in seconds: 180 days, as the reference's
/// libraries do it. Rule: rest-api.md 1.10.
const EXPIRE_S: u64 = 180 * 86_400;
/// How a place in the journal is written.
const PLACE_SHAPE: &str = "a place looks like 3@120: partition 3, offset 120";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, about = "The relationship guard of a chat platform")]
#[command(after_help = "\
Examples:
  cordon serve
  cordon usersig
  cordon config --config cordon.toml
  cordon history amy --app 1400000001
  cordon state amy --at 2026-11-22T10:00:00Z
  cordon verify --data-dir /srv/cordon

Exit codes: 0 done, 1 failed, 2 usage error.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node in the foreground until it is asked to stop
    #[command(after_help = "\
Without any app in the settings, a development app is made and kept in the data folder.

Examples:
  cordon serve
  cordon serve --config /etc/cordon.toml
  CORDON_APP_ID=1400000001 CORDON_APP_KEY=... cordon serve")]
    Serve(ServeArgs),
    /// Ask the node on this machine how it is
    #[command(after_help = "\
Exits with 0 if the answer is good. Made for the health checks of containers.

Examples:
  cordon health
  cordon health --ready")]
    Health(HealthArgs),
    /// Print a UserSig
    #[command(after_help = "\
Without --key, the app comes from the settings, or is the development app of the data folder.

Examples:
  cordon usersig
  cordon usersig --identifier administrator --expire-s 86400
  cordon usersig --app 1400000001 --key ... --identifier administrator")]
    Usersig(UsersigArgs),
    /// Print the settings in force and where each comes from
    #[command(after_help = "\
Secrets are masked. The last column names the variable that sets a setting.

Examples:
  cordon config
  CORDON_HTTP_WORKERS=8 cordon config --config cordon.toml --json")]
    Config(ConfigArgs),
    /// Print the records of a journal, in order
    #[command(after_help = "\
Reads only; a node may be running.

Examples:
  cordon replay --user amy --type UserBlocked
  cordon replay --pair amy,bob --from 2026-11-22 --json
  cordon replay --from 3@120 --limit 10")]
    Replay(ReplayArgs),
    /// Tell what happened to a user: who did what, when and why
    #[command(after_help = "\
Reads only; a node may be running.

Examples:
  cordon history amy
  cordon history amy --app 1400000001 --json")]
    History(HistoryArgs),
    /// Tell what a user's state is, or was at a moment of the past
    #[command(after_help = "\
Reads only; a node may be running. Exits with 1 if the journal does not know the user.

Examples:
  cordon state amy
  cordon state amy --at 2026-11-22T10:00:00Z
  cordon state amy --app 1400000001 --at 3@120 --json")]
    State(StateArgs),
    /// Check that a journal holds what the server promised
    #[command(after_help = "\
Reads only; a node may be running. Exits with 0 only when all holds.

Examples:
  cordon verify
  cordon verify --data-dir /srv/cordon --json
  cordon verify --kafka k1:9092,k2:9092,k3:9092")]
    Verify(VerifyArgs),
    /// Copy an embedded journal into an empty Kafka cluster, or back
    #[command(after_help = "\
Stop every node that writes either side first. Both sides are verified. Every record keeps its place, so
webhook cursors and positions that were handed out stay valid. No node serves an unfinished copy; the same
command resumes it.

Examples:
  cordon migrate --data-dir /srv/cordon --kafka k1:9092,k2:9092,k3:9092
  cordon migrate --data-dir /srv/cordon --kafka k1:9092 --back")]
    Migrate(MigrateArgs),
    /// Inspect, audit and repeat webhook deliveries
    Webhooks(WebhooksArgs),
}

/// Which settings.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// The file with the settings [default: what CORDON_CONFIG names, else none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl SettingsArgs {
    /// The settings of that file and of `environment`.
    ///
    /// Errors: the settings cannot be read, or one is wrong.
    pub fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), environment)
    }
}

/// `cordon serve`
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `cordon health`
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Ask /readyz (takes calls) instead of /healthz (alive)
    #[arg(long)]
    pub ready: bool,
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `cordon config`
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Print JSON, with limits and explanations
    #[arg(long)]
    pub json: bool,
}

/// `cordon usersig`
#[derive(Args, Debug)]
pub struct UsersigArgs {
    /// The app, by its SDKAppID
    // Scripts rely on the longer word. Rule: extensions.md 6.
    #[arg(long, alias = "app-id", value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// The app's secret key
    #[arg(long, value_name = "K", requires = "app", conflicts_with_all = ["config", "data_dir"])]
    pub key: Option<String>,
    /// The account that may call [default: the app's first admin]
    #[arg(long, value_name = "ID")]
    pub identifier: Option<UserId>,
    /// How long it may call, in seconds
    #[arg(long, value_name = "S", default_value_t = EXPIRE_S, value_parser = value_parser!(u64).range(1..))]
    pub expire_s: u64,
    /// The data folder of the development app, if no app is configured
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Which journal, and how to print it.
#[derive(Args, Clone, Debug)]
pub struct JournalArgs {
    /// The data folder [default: as in the settings]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Read the journal in this Kafka cluster, like k1:9092,k2:9092; security and topic names come
    /// from the settings
    #[arg(long, value_name = "BROKERS", value_parser = broker, value_delimiter = ',')]
    pub kafka: Vec<String>,
    /// Which settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

impl JournalArgs {
    /// The Kafka cluster that is meant, if it is not a folder: the one on the command line, else that
    /// of the settings unless the command line names a folder.
    ///
    /// Errors: those of [`SettingsArgs::load`].
    pub fn cluster(&self, environment: &Environment) -> anyhow::Result<Option<ClusterSettings>> {
        if self.kafka.is_empty() && self.data_dir.is_some() {
            // No settings are needed; still, a file that is named and cannot be read is a slip.
            if self.settings.config.is_some() {
                self.settings.load(environment)?;
            }
            return Ok(None);
        }
        let config = self.settings.load(environment)?;
        let mut cluster = app::kafka_cluster(&config);
        if !self.kafka.is_empty() {
            cluster.brokers.clone_from(&self.kafka);
        } else if config.journal.kind == JournalKind::Embedded {
            return Ok(None);
        }
        Ok(Some(cluster))
    }

    /// The data folder. The settings are only read if the command line does not say it.
    ///
    /// Errors: those of [`SettingsArgs::load`].
    pub fn data_dir(&self, environment: &Environment) -> Result<PathBuf, ConfigError> {
        match &self.data_dir {
            Some(data_dir) => Ok(data_dir.clone()),
            None => Ok(self.settings.load(environment)?.server.data_dir),
        }
    }

    /// The state store that goes with the journal. Of a cluster that the command line names, none: it does
    /// not say which node, unless it names a data folder as well.
    ///
    /// Errors: those of [`SettingsArgs::load`].
    pub fn store_dir(&self, environment: &Environment) -> Result<Option<PathBuf>, ConfigError> {
        if !self.kafka.is_empty() && self.data_dir.is_none() {
            return Ok(None);
        }
        self.data_dir(environment).map(|data_dir| Some(app::state_dir(&data_dir)))
    }
}

/// `cordon replay`
#[derive(Args, Debug)]
#[command(mut_arg("data_dir", one_journal))]
pub struct ReplayArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,
    /// Only records of this app
    #[arg(long, value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// Only records of this user
    #[arg(long, value_name = "[APP/]USER", value_parser = user)]
    pub user: Option<UserArg>,
    /// Only records of either user about the other
    #[arg(long, value_name = "A,B", value_parser = pair, conflicts_with = "user")]
    pub pair: Option<(UserId, UserId)>,
    /// Only records with an event of this type, like UserBlocked; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = EVENT_TYPES, hide_possible_values = true)]
    pub types: Vec<String>,
    /// Only records from this moment on (a date is UTC), or from these places; of places, other
    /// partitions are left out
    #[arg(long, value_name = "TIME|P@O", value_parser = bound, value_delimiter = ',')]
    pub from: Vec<Bound>,
    /// Only records before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Timestamp>,
    /// At most this many records
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    /// Also control records (claims, cursors, …) and void records
    #[arg(long)]
    pub all: bool,
}

/// `cordon history`
#[derive(Args, Debug)]
#[command(mut_arg("data_dir", one_journal))]
pub struct HistoryArgs {
    /// The user
    #[arg(value_name = "[APP/]USER", value_parser = user)]
    pub user: UserArg,
    /// The user's app, needed when the journal has several
    #[arg(long, value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// Only what happened from this moment on (a date is UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Timestamp>,
    /// Only what happened before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Timestamp>,
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,
}

/// `cordon state`
#[derive(Args, Debug)]
#[command(mut_arg("data_dir", one_journal))]
pub struct StateArgs {
    /// The user
    #[arg(value_name = "[APP/]USER", value_parser = user)]
    pub user: UserArg,
    /// The user's app, needed when the journal knows the user in several
    #[arg(long, value_name = "N", value_parser = app_id)]
    pub app: Option<AppId>,
    /// As of this moment (a date is UTC), or after the record at this place of the user's partition
    /// [default: now]
    #[arg(long, value_name = "TIME|P@O", value_parser = moment_or_position)]
    pub at: Option<Moment>,
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,
}

/// `cordon migrate`
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// The data folder of the embedded journal [default: as in the settings]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The Kafka cluster, like k1:9092,k2:9092 [default: as in the settings]
    #[arg(long, value_name = "BROKERS", value_parser = broker, value_delimiter = ',')]
    pub kafka: Vec<String>,
    /// Copy from Kafka into the folder instead
    #[arg(long)]
    pub back: bool,
    /// Which settings: how Kafka is reached, and what its topics are called and are to be like.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `cordon verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArgs,
}

/// Only `cordon verify` takes both: a cluster, and the folder of the state store that goes with it.
fn one_journal(data_dir: Arg) -> Arg {
    data_dir.conflicts_with("kafka")
}

fn broker(text: &str) -> Result<String, String> {
    let address = Address::parse(text.trim()).map(|address| address.to_string());
    address.ok_or_else(|| "a broker is a host and a port, like kafka-1:9092".to_owned())
}

fn app_id(text: &str) -> Result<AppId, String> {
    match text.parse() {
        Ok(id) if id > 0 => Ok(AppId(id)),
        _ => Err("an SDKAppID is a number from 1 to 4294967295".to_owned()),
    }
}

fn pair(text: &str) -> Result<(UserId, UserId), String> {
    let user = |text| UserId::parse(text).map_err(|error| error.to_string());
    match text.split_once(',') {
        // A UserID may hold a comma itself, and then nobody can tell where the first one ends.
        Some((a, b)) if !b.contains(',') => Ok((user(a)?, user(b)?)),
        _ => Err("a pair is two UserIDs with one comma between them".to_owned()),
    }
}

fn position(text: &str) -> Result<(Partition, Offset), String> {
    let parse = || {
        let (partition, offset) = text.split_once('@')?;
        Some((Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)))
    };
    parse().ok_or_else(|| PLACE_SHAPE.to_owned())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let midnight = || format!("{text}T00:00:00Z").parse();
    let moment = text.parse().or_else(|_| midnight());
    moment.map_err(|_| "a moment is a date (UTC), or like 2026-11-22T10:00:00Z".to_owned())
}

fn moment_or_position(text: &str) -> Result<Moment, String> {
    if text.contains('@') {
        return position(text).map(|(partition, offset)| Moment::Place(partition, offset));
    }
    moment(text).map(Moment::Time).map_err(|error| format!("{error}; {PLACE_SHAPE}"))
}

fn bound(text: &str) -> Result<Bound, String> {
    moment_or_position(text).map(|moment| match moment {
        Moment::Time(at) => Bound::Time(at),
        Moment::Place(partition, offset) => Bound::Places(vec![(partition, offset)]),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_clusters_journal_is_compared_with_the_state_store_that_is_named_and_no_other() {
        let store_of = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
            let Command::Verify(args) = cli.command else { panic!("{line}") };
            args.journal.store_dir(&Environment::new()).expect("a folder")
        };
        assert_eq!(store_of("cordon verify --kafka k:9092"), None);
        let named = Some("there/state".into());
        assert_eq!(store_of("cordon verify --kafka k:9092 --data-dir there"), named);
        assert_eq!(store_of("cordon verify --data-dir there"), named);
        assert_eq!(store_of("cordon verify"), Some("./data/state".into()));
    }

    #[test]
    fn a_pair_is_two_users() {
        let user = |text| UserId::parse(text).unwrap();
        assert_eq!(pair("amy,bob"), Ok((user("amy"), user("bob"))));
        for text in ["amy", "amy,", ",bob", "amy,bob,carl"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!(position("3@120"), Ok((Partition(3), Offset(120))));
        for text in ["3", "@", "3@", "70000@1", "3@-1"] {
            assert!(position(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_date_or_more() {
        assert_eq!(moment("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert_eq!(moment("1970-01-01T01:00:00.5+01:00"), Ok(Timestamp(500)));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_state_is_asked_for_by_time_or_by_place() {
        let place = Moment::Place(Partition(3), Offset(120));
        assert_eq!(moment_or_position("3@120"), Ok(place));
        let time = Moment::Time(Timestamp(86_400_000));
        assert_eq!(moment_or_position("1970-01-02"), Ok(time));
        for text in ["3@", "yesterday", ""] {
            assert!(moment_or_position(text).is_err(), "{text}");
        }
    }
}
