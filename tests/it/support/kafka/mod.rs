//! A real Apache Kafka for the tests: one broker for all of them, or a cluster of its own for a test
//! that breaks it.
//!
//! `CORDON_TEST_KAFKA=host:port` names a cluster that runs already. Otherwise this machine's Java runs
//! what Maven fetches once, or Docker runs the official image. Where none of it is possible, the
//! tests that need it say so loudly and pass without having run; with `CI=true` or
//! `CORDON_TEST_KAFKA_REQUIRED=1` that is a failure. How Java runs a broker is said beside this module, by
//! `BROKER_JAVA`: one of a test lives for seconds, another one is measured.

mod broker;
mod cluster;
mod distribution;

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::sync::OnceLock;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

pub(crate) use cluster::Cluster;

/// The variable that names a running cluster.
const GIVEN: &str = "CORDON_TEST_KAFKA";
/// Variables under which a missing Kafka is a failure.
const REQUIRED: [&str; 2] = [super::skipped::CI, "CORDON_TEST_KAFKA_REQUIRED"];
/// Any cluster id will do.
const CLUSTER_ID: &str = "Y29yZG9uLXRlc3RzLWthZg";

/// The bootstrap address of a broker that all tests share; nothing where there is no way to have
/// one, which has been said then: `let Some(kafka) = kafka::shared() else { return };`.
///
/// Nobody else's topics are in the way if a test's have a prefix of their own.
pub(crate) fn shared() -> Option<&'static str> {
    static SHARED: OnceLock<Result<(String, Option<Cluster>), String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var(GIVEN) {
        Ok(given) => Ok((given, None)),
        Err(_) => {
            let cluster = Cluster::try_start(Ipv4Addr::LOCALHOST, 1)?;
            Ok((cluster.bootstrap(), Some(cluster)))
        }
    });
    match shared {
        Ok((bootstrap, _)) => Some(bootstrap),
        Err(reason) => {
            skip(reason, false);
            None
        }
    }
}

/// Says that the test of this thread does not run; fails it where it has to, unless somebody
/// `chose` so.
fn skip(reason: &str, chosen: bool) {
    let how = format!(
        "To run it, install Java 17 and Maven, or Docker; or set {GIVEN}=host:port for tests that break \
         no broker."
    );
    super::skipped::skip(reason, &how, if chosen { &[] } else { &REQUIRED });
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// A client whose log lines nobody reads: brokers come and go here.
pub(crate) struct Quiet;

impl rdkafka::ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}
