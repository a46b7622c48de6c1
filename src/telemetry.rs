//! What the program says while it runs: one line per event on standard error, for people or
//! machines.
//!
//! Libraries that speak through `log` are heard as well. Nobody hands a secret to this room:
//! secrets print as masks (`config::Secret`), and no room logs a UserSig or a body.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Subscriber;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Begins to log as `log` says. Once per process.
///
/// Errors: somebody else has taken the log already, or the filter is none.
pub fn init(log: &Log) -> anyhow::Result<()> {
    subscriber(log, io::stderr, colours())?.try_init().context("the log is set up already")
}

/// Begins to log what this thread says, as by default, until what is answered is dropped. For tools, of
/// which a process may run several.
pub fn for_tools() -> anyhow::Result<DefaultGuard> {
    Ok(tracing::subscriber::set_default(subscriber(&Log::default(), io::stderr, colours())?))
}

fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn subscriber<W>(
    log: &Log,
    writer: W,
    colours: bool,
) -> anyhow::Result<Box<dyn Subscriber + Send + Sync>>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.level.0).context("log.level is no filter")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match log.format {
        LogFormat::Human => Box::new(lines.with_ansi(colours).finish()),
        // Machines get the fields beside the message, and the span that they belong to once.
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_span_list(false).finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogFilter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let kept = lines.clone();
        let log = Log { format, level: LogFilter(level.to_owned()) };
        let subscriber = subscriber(&log, move || lines.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn machines_get_one_object_per_line_with_the_fields_in_it() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(user.id = "amy", duration_ms = 3, "blocked");
            tracing::debug!("not asked for");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &lines[..] else { panic!("one line: {text}") };
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"blocked".into()));
        assert_eq!((&line["user.id"], &line["duration_ms"]), (&"amy".into(), &3.into()));
    }

    #[test]
    fn people_get_a_line_and_rooms_have_levels_of_their_own() {
        let text = logged(LogFormat::Human, "warn,cordon::telemetry=debug", || {
            tracing::debug!("asked for");
            tracing::info!(target: "elsewhere", "not asked for");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("DEBUG") && text.contains("asked for") && !text.contains('\u{1b}'));
    }
}
