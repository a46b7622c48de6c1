//! The command line: what is asked for, whom to ask, and how it ended.
//!
//! Results go to standard output, everything else to standard error. The exit code is 0 when what
//! was asked for is done, 1 when it failed, 2 on a usage error.

mod arguments;
mod audit;
mod call;
mod exchange;
mod health;
mod migrate;
mod serve;
mod webhooks;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Parser;

pub use arguments::{
    Cli, Command, ConfigArgs, HistoryArgs, JournalArgs, ReplayArgs, ServeArgs, SettingsArgs,
    StateArgs, UsersigArgs, VerifyArgs,
};

use crate::clock::Clock;
use crate::config::{App, Environment, Secret, existing_development_app, meant_app};
use crate::domain::AppId;
use crate::{app, telemetry, usersig};

/// What was asked for is done.
const DONE: u8 = 0;
/// It failed.
const FAILED: u8 = 1;

/// Does what `arguments`, the program's name first, ask for, and answers the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: &mut impl Write,
) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Also the way in which help and version are printed. If nobody listens, nobody is
            // told.
            let _ = error.print();
            return error.exit_code().try_into().unwrap_or(FAILED);
        }
    };
    match dispatch(&cli.command, environment, out) {
        Ok(()) => DONE,
        Err(error) if is_broken_pipe(&error) => DONE,
        Err(error) => {
            eprintln!("cordon: {}", with_causes(&error));
            FAILED
        }
    }
}

/// What went wrong and why, each thing once: some errors name their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |told, cause| {
        let cause = cause.to_string();
        if told.ends_with(&cause) { told } else { format!("{told}: {cause}") }
    })
}

fn dispatch(
    command: &Command,
    environment: &Environment,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // A node has settings for that.
    let _heard = match command {
        Command::Serve(_) => None,
        _ => Some(telemetry::for_tools()?),
    };
    match command {
        Command::Usersig(args) => print_usersig(args, environment, out),
        Command::Config(args) => print_config(args, environment, out),
        Command::Serve(args) => {
            let config = args.settings.load(environment)?;
            app::check(&config)?;
            telemetry::init(&config.log)?;
            serve::serve(config, out)
        }
        Command::Replay(args) => audit::replay(args, environment, out),
        Command::History(args) => audit::history(args, environment, out),
        Command::State(args) => audit::state(args, environment, out),
        Command::Verify(args) => audit::verify(args, environment, out),
        Command::Health(args) => health::health(args, environment, out),
        Command::Migrate(args) => migrate::migrate(args, environment, out),
        Command::Webhooks(args) => webhooks::webhooks(&args.command, environment, out),
    }
}

/// A reader that has seen enough, like `head`, is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn print_config(
    args: &ConfigArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let config = args.settings.load(environment)?;
    app::check(&config)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(config.settings())?)?;
    } else {
        write!(out, "{}", config.table())?;
    }
    Ok(())
}

fn print_usersig(
    args: &UsersigArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let app = match (args.app, &args.key) {
        (Some(id), Some(key)) => App { id, keys: vec![Secret::new(key)], ..App::default() },
        (id, _) => known_app(id, args.data_dir.as_deref(), &args.settings, environment)?,
    };
    let identifier = args.identifier.or(app.admins.first().copied());
    let identifier = identifier.with_context(|| {
        format!("app {} has no admin in the settings: give --identifier", app.id)
    })?;
    let key = app.keys.first();
    let key =
        key.with_context(|| format!("app {} has no key in the settings: give --key", app.id))?;
    let now_s = Clock::system().now().seconds();
    let text = usersig::sign(app.id, key.reveal(), identifier.as_str(), args.expire_s, now_s);
    writeln!(out, "{text}")?;
    Ok(())
}

/// The app `id` of the settings, or the one that the environment means, or their only one, or the
/// development app of `data_dir`, which is else the one of the settings. Makes none.
fn known_app(
    id: Option<AppId>,
    data_dir: Option<&Path>,
    settings: &SettingsArgs,
    environment: &Environment,
) -> anyhow::Result<App> {
    let config = settings.load(environment)?;
    let id = id.or_else(|| meant_app(environment));
    let mut apps = config.apps;
    if apps.is_empty() {
        let data_dir = data_dir.unwrap_or(&config.server.data_dir);
        apps.extend(existing_development_app(data_dir)?);
    }
    apps.retain(|app| id.is_none_or(|id| app.id == id));
    match (apps.len(), id) {
        (1, _) => Ok(apps.remove(0)),
        (0, Some(id)) => {
            Err(anyhow!("the settings have no app {id}: give --key, or their file with --config"))
        }
        (0, None) => Err(anyhow!(
            "the settings have no app: give --app and --key, or their file with --config"
        )),
        _ => Err(anyhow!("the settings have several apps: say which one with --app")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::development_app;

    const KEY: &str = "fde5c0de";

    /// The exit code and what was printed.
    fn run_with(line: &str, pairs: &[(&str, &str)]) -> (u8, String) {
        let variables = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let mut out = Vec::new();
        let arguments = line.split(' ').map(OsString::from);
        let code = run(arguments, &variables.collect(), &mut out);
        (code, String::from_utf8(out).unwrap())
    }

    fn verify(
        text: &str,
        app: &App,
        identifier: &str,
    ) -> Result<usersig::Verified, usersig::Error> {
        let now_s = Clock::system().now().seconds();
        usersig::decode(text.trim_end())?.verify(app.id, identifier, &app.keys, now_s)
    }

    #[test]
    fn usersig_signs_with_the_given_key() {
        let line = "cordon usersig --app-id 1400000001 --key fde5c0de --identifier robot";
        let (code, text) = run_with(line, &[]);
        assert_eq!((code, text.ends_with('\n')), (0, true));
        let (id, keys) = (AppId(1_400_000_001), vec![Secret::new(KEY)]);
        let app = App { id, keys, ..App::default() };
        assert!(verify(&text, &app, "robot").is_ok());
    }

    #[test]
    fn usersig_finds_the_only_app_and_its_admin() {
        let pairs = [
            ("CORDON_APP_ID", "1400000001"),
            ("CORDON_APP_KEY", KEY),
            ("CORDON_APP_ADMIN", "chief"),
        ];
        let (code, text) = run_with("cordon usersig", &pairs);
        let (id, keys) = (AppId(1_400_000_001), vec![Secret::new(KEY)]);
        let app = App { id, keys, ..App::default() };
        assert_eq!(code, 0);
        assert!(verify(&text, &app, "chief").is_ok());
        assert_eq!(run_with("cordon usersig --app 7", &pairs), (1, String::new()));
    }

    #[test]
    fn usersig_takes_the_variable_for_the_app_that_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cordon.toml");
        let app = |id: u32| format!("[[app]]\nid = {id}\nkeys = \"{KEY}-{id}\"\n");
        std::fs::write(&path, app(7) + &app(8)).unwrap();
        let line = format!("cordon usersig --config {}", path.display());
        assert_eq!(run_with(&line, &[]).0, 1);
        let (code, text) = run_with(&line, &[("CORDON_APP_ID", "8")]);
        let eight =
            App { id: AppId(8), keys: vec![Secret::new(format!("{KEY}-8"))], ..App::default() };
        assert_eq!(code, 0);
        assert!(verify(&text, &eight, "administrator").is_ok());
    }

    #[test]
    fn usersig_finds_the_development_app_and_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("cordon usersig --data-dir {}", folder.path().display());
        assert_eq!(run_with(&line, &[]).0, 1);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        let app = development_app(folder.path()).unwrap();
        let (code, text) = run_with(&line, &[]);
        assert_eq!(code, 0);
        assert!(verify(&text, &app, "administrator").is_ok());
    }

    #[test]
    fn config_prints_what_is_in_force_without_secrets() {
        let pairs = [("CORDON_APP_ID", "7"), ("CORDON_APP_KEY", KEY), ("CORDON_HTTP_WORKERS", "5")];
        let (code, table) = run_with("cordon config", &pairs);
        assert_eq!(code, 0);
        let line = table.lines().find(|line| line.starts_with("http.workers ")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!((words[1], words[2]), ("5", "threads"));
        assert!(line.ends_with("environment  CORDON_HTTP_WORKERS"), "{line}");
        let (code, json) = run_with("cordon config --json", &pairs);
        assert_eq!(code, 0);
        let settings: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let workers = settings.iter().find(|setting| setting["path"] == "http.workers").unwrap();
        assert_eq!((&workers["value"], &workers["allowed"]), (&"5".into(), &"1 to 1024".into()));
        assert!(!table.contains(KEY) && !json.contains(KEY));
    }

    #[test]
    fn the_exit_code_tells_failure_from_misuse() {
        assert_eq!(run_with("cordon config", &[("CORDON_HTTP_WORKERS", "0")]).0, 1);
        assert_eq!(run_with("cordon config --config /nowhere/cordon.toml", &[]).0, 1);
        let line = "cordon verify --data-dir /nowhere --config /nowhere/cordon.toml";
        assert_eq!(run_with(line, &[]).0, 1);
        for line in [
            "cordon",
            "cordon dance",
            "cordon usersig --key fde5c0de",
            "cordon history",
            "cordon state",
            "cordon state amy --at yesterday",
            "cordon replay --user amy --pair amy,bob",
            "cordon replay --limit many",
            "cordon replay --type Foo",
            "cordon usersig --expire-s 0",
            "cordon webhooks seek",
            "cordon webhooks seek --end --to 2026-11-22",
            "cordon replay --kafka k:9092 --data-dir there",
            "cordon history amy --kafka k:9092 --data-dir there",
            "cordon state amy --kafka k:9092 --data-dir there",
            "cordon webhooks audit --kafka k:9092 --data-dir there",
            "cordon verify --kafka nowhere",
            // Of a replay, what only its dry run uses, and the other way about.
            "cordon webhooks replay --json",
            "cordon webhooks replay --data-dir there",
            "cordon webhooks replay --kafka k:9092",
            "cordon webhooks replay --dry-run --kafka k:9092 --data-dir there",
            "cordon webhooks replay --dry-run --url http://n",
            "cordon webhooks replay --dry-run --key k",
            "cordon webhooks replay --dry-run --admin chief",
            "cordon webhooks replay --dry-run --to-url http://n/hook",
        ] {
            assert_eq!(run_with(line, &[]).0, 2, "{line}");
        }
        assert_eq!(run_with("cordon --version", &[]).0, 0);
        assert_eq!(run_with("cordon replay --help", &[]).0, 0);
    }

    #[test]
    fn each_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("read the file: {0}")]
        struct NamesItsCause(#[source] io::Error);

        let cause = || io::Error::other("no such disk");
        let error = anyhow::Error::new(NamesItsCause(cause())).context("start");
        assert_eq!(with_causes(&error), "start: read the file: no such disk");
        let error = anyhow::Error::new(cause()).context("read the file");
        assert_eq!(with_causes(&error), "read the file: no such disk");
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let arguments = ["cordon", "config"].map(OsString::from);
        assert_eq!(run(arguments, &Environment::new(), &mut Closed), 0);
    }
}
