//! What the edge counts: calls by command and code, and how long they took.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::edge::is_trouble;
use super::{Operation, error_code};

/// Upper bounds of the latency buckets, in seconds: the time limit of a call is 3.
const SECONDS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0];

/// The `command` of a call that named none that exists.
const NO_COMMAND: &str = "none";

/// Counters of the edge. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<CommandLabel, Histogram, fn() -> Histogram>,
    /// Connections that ended because what came was no HTTP.
    pub(super) malformed: Counter,
    /// One per operation and one for calls without, found without a lock.
    ready: Arc<[Ready]>,
}

/// What the usual call needs.
struct Ready {
    succeeded: Counter,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    command: &'static str,
    code: Code,
}

/// A code of an answer. Receivers of webhooks refuse with thousands of codes of their own choice, which
/// are one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    /// One of the catalogue, or 0.
    Ours(u32),
    /// That of a call whose body was too long or did not come.
    Body,
    /// One that a receiver gave.
    Webhook,
}

impl Code {
    pub(super) fn new(code: u32) -> Self {
        let is_known = || error_code::ALL.binary_search_by_key(&code, |known| known.number).is_ok();
        if code == 0 || is_known() { Self::Ours(code) } else { Self::Webhook }
    }

    /// Whether it tells of trouble on our side.
    pub(super) fn is_trouble(self) -> bool {
        matches!(self, Self::Ours(number) if is_trouble(number))
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Ours(code) => EncodeLabelValue::encode(code, encoder),
            Self::Body => encoder.write_str("body"),
            Self::Webhook => encoder.write_str("webhook"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabel {
    command: &'static str,
}

impl Metrics {
    /// New counters, all at zero.
    pub fn new() -> Self {
        let calls = Family::<CallLabels, Counter>::default();
        let seconds =
            Family::<CommandLabel, Histogram, fn() -> Histogram>::new_with_constructor(|| {
                Histogram::new(SECONDS)
            });
        let commands = Operation::ALL.iter().map(|operation| operation.command());
        let ready = commands.chain([NO_COMMAND]).map(|command| Ready {
            succeeded: calls.get_or_create_owned(&CallLabels { command, code: Code::new(0) }),
            seconds: seconds.get_or_create_owned(&CommandLabel { command }),
        });
        let ready = ready.collect();
        Self { calls, seconds, malformed: Counter::default(), ready }
    }

    /// Tells `registry` about the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cordon_http_calls",
            "Calls of the server API by command and the code of their answer",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "cordon_http_call_duration",
            "How long calls of the server API took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "cordon_http_malformed_connections",
            "Connections to the server API that ended because what came was no HTTP",
            self.malformed.clone(),
        );
    }

    /// Counts one call.
    pub(super) fn count(&self, operation: Option<Operation>, code: Code, took: Duration) {
        let place = operation.map_or(Operation::ALL.len(), |operation| operation as usize);
        let ready = &self.ready[place];
        ready.seconds.observe(took.as_secs_f64());
        if code == Code::Ours(0) {
            ready.succeeded.inc();
        } else {
            let command = operation.map_or(NO_COMMAND, Operation::command);
            self.calls.get_or_create(&CallLabels { command, code }).inc();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_command_and_code() {
        let metrics = Metrics::new();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.count(Some(Operation::BlackListAdd), Code::new(0), Duration::from_millis(2));
        metrics.count(Some(Operation::BlackListAdd), Code::new(60007), Duration::ZERO);
        metrics.count(None, Code::new(60002), Duration::ZERO);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"cordon_http_calls_total{command="sns/black_list_add",code="0"} 1"#,
            r#"cordon_http_calls_total{command="sns/black_list_add",code="60007"} 1"#,
            r#"cordon_http_calls_total{command="none",code="60002"} 1"#,
            r#"cordon_http_call_duration_seconds_count{command="sns/black_list_add"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn codes_of_receivers_are_one_series_however_many_there_are() {
        let metrics = Metrics::new();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let lines = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let before = lines().len();
        let mut foreign = 0;
        for code in error_code::MESSAGE_REFUSED {
            metrics.count(Some(Operation::Sendmsg), Code::new(code), Duration::ZERO);
            foreign += 1;
        }
        let webhook = format!(
            r#"cordon_http_calls_total{{command="openim/sendmsg",code="webhook"}} {foreign}"#
        );
        assert_eq!((lines().len(), lines().contains(&webhook)), (before + 1, true));
        for code in error_code::ALL {
            assert_eq!(Code::new(code.number), Code::Ours(code.number));
        }
    }
}
