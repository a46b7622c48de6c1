//! What the program says while it runs: one line per event on standard error, for people or
//! machines.
//!
//! Lines of libraries that use `log` are included. No secret gets here: secrets print as masks
//! (`config::Secret`), and no room logs a UserSig or a body.
//!
//! A field has the same name in every room; a test reads this table:
//!
//! | field | what it holds |
//! | --- | --- |
//! | `error` | what went wrong, with its cause |
//! | `duration_ms` | how long it took |
//! | `records`, `rows`, `bytes`, `requests`, `limit` | how many |
//! | `version` | of this program |
//! | `reason` | why the node is not ready, as `/readyz` says |
//! | `request.id` | the API request; callers read it in `Cordon-Request-Id`, changes keep it |
//! | `app.id`, `app.ids` | the SDKAppID, or several |
//! | `command`, `code` | of an API request: what it asked for, and the `ErrorCode` of the answer |
//! | `journal.partition`, `journal.offset` | a place in the journal |
//! | `journal.destination` | the partition that effects of `journal.partition` go to |
//! | `journal.path`, `journal.segment`, `journal.position` | a folder, a file's number, a byte in it |
//! | `journal.health` | whether the embedded journal can be written, and why not |
//! | `kafka.brokers`, `kafka.topic` | the brokers that are asked, and the topic |
//! | `kafka.facility`, `kafka.message`, `kafka.reason` | in the words of librdkafka |
//! | `webhook.subscription` | its name |
//! | `webhook.id`, `webhook.attempt` | one delivery, as the headers of the same name have it |
//! | `outcome` | how an attempt at a delivery ended |
//! | `http.address`, `ops.address`, `node.address` | where a node listens: API, operators, other nodes |
//! | `peer.node`, `peer.address` | another node, by name and by address |
//! | `cluster.board` | a notice board of the cluster: `members` or `owners` |
//!
//! There is no span per command: each would cost the hot path a little even when nothing is logged. A
//! request that fails leaves one line at the edge, with its `request.id` and `code`; a record that the
//! journal refuses leaves another one with the same id.

use std::fmt;
use std::io::{self, IsTerminal};

use anyhow::Context;
use serde_json::{Map, Value};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Libraries that tell an operator less than they say, and up to which level they are logged if a filter
/// lets more through and does not name them.
const TALKATIVE: [(&str, LevelFilter); 4] = [
    // What strangers send, line by line.
    ("actix_http", LevelFilter::OFF),
    ("actix_server", LevelFilter::WARN),
    ("fjall", LevelFilter::WARN),
    ("lsm_tree", LevelFilter::WARN),
];
/// What the names of fields begin with that libraries hand over: where their source lay when this
/// program was built.
const BUILD_FIELDS: &str = "log.";

/// Begins to log as `log` says. Once per process.
///
/// Errors: somebody else has taken the log already, or the filter is none.
pub fn init(log: &Log) -> anyhow::Result<()> {
    subscriber(log, io::stderr, colours())?.try_init().context("the log is set up already")
}

/// Logs what this thread says, with the default settings, until the returned guard is dropped. For tools:
/// a process may run several.
///
/// Errors: the default settings make no log.
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
    let filter = filter(&log.level.0);
    let filter = EnvFilter::try_new(filter)
        .context("log.level is not a filter like info,cordon::webhooks=debug")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match log.format {
        LogFormat::Human => Box::new(lines.with_ansi(colours).finish()),
        // Machines get the fields beside the message, and the span that they belong to once.
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_span_list(false);
            Box::new(lines.map_event_format(WithoutBuildFields).finish())
        }
    })
}

/// The filter of somebody, with what they leave open about [`TALKATIVE`] libraries.
fn filter(level: &str) -> String {
    let words = || level.split(',').map(str::trim).filter(|word| !word.is_empty());
    let lets_through = words().filter_map(|word| word.parse::<LevelFilter>().ok()).max();
    let is_named =
        |library: &str| words().any(|word| word.split(['=', '[']).next() == Some(library));
    let mut filter = level.to_owned();
    for (library, least) in TALKATIVE {
        if lets_through.is_some_and(|level| level > least) && !is_named(library) {
            filter += &format!(",{library}={least}");
        }
    }
    filter
}

/// Lines of JSON without [`BUILD_FIELDS`].
struct WithoutBuildFields<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithoutBuildFields<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !event.fields().any(|field| field.name().starts_with(BUILD_FIELDS)) {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let mut fields: Map<String, Value> = serde_json::from_str(&line).map_err(|_| fmt::Error)?;
        fields.retain(|name, _| !name.starts_with(BUILD_FIELDS));
        writeln!(writer, "{}", Value::Object(fields))
    }
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
    fn what_a_library_says_has_no_paths_of_the_build() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(log.file = "/home/builder/lib.rs", log.line = 7, "said");
        });
        let line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "said");
        assert!(text.ends_with("}\n") && !text.contains("log."), "{text}");
    }

    #[test]
    fn talkative_libraries_are_quiet_unless_they_are_named() {
        let heard = |level: &str| {
            let text = logged(LogFormat::Human, level, || {
                tracing::info!(target: "fjall::journal", "info");
                tracing::warn!(target: "fjall::journal", "warning");
                tracing::info!(target: "lsm_tree", "info");
                tracing::info!(target: "actix_server::builder", "info");
            });
            text.lines().count()
        };
        for (level, lines) in [
            ("info", 1),
            ("info,cordon::webhooks=debug", 1),
            ("TRACE", 1),
            ("info,fjall=info", 2),
            ("info,fjall=off", 0),
            ("info,fjall::journal=info,lsm_tree=info", 3),
            // A filter that wants less gets less.
            ("error", 0),
            ("off", 0),
            ("cordon=info", 0),
        ] {
            assert_eq!(heard(level), lines, "{level}");
        }
    }

    #[test]
    fn what_strangers_send_is_not_logged_unless_somebody_asks_for_it() {
        let heard = |level: &str| {
            let text = logged(LogFormat::Human, level, || {
                tracing::error!(target: "actix_http", "stream error");
                tracing::error!(target: "actix_server", "an error of ours");
            });
            text.lines().count()
        };
        for (level, lines) in [
            ("info", 1),
            ("error", 1),
            ("debug,", 1),
            ("info,actix_http=error", 2),
            ("actix_http=debug", 1),
            ("off", 0),
        ] {
            assert_eq!(heard(level), lines, "{level}");
        }
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
