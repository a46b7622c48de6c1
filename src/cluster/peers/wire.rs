//! What stands on the wire between two nodes: paths, headers, bodies and their bounds.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::Question;
use crate::cluster::routes::{Owner, Routes};
use crate::journal::Partition;

/// A question to the owner of a partition: an [`Asking`], answered by `Result<Reply, ExecuteError>`.
pub(super) const ASK: &str = "/internal/v1/ask";
/// A list of messages between partitions, answered by a list of [`Hint`]s.
pub(super) const PAIRING: &str = "/internal/v1/pairing";
/// Answers every caller that reaches the listener, and reveals nothing.
pub(super) const PING: &str = "/internal/v1/ping";

/// Who calls, by the node's name.
pub(super) const FROM: &str = "x-cordon-from";
/// The node that is called: its address may belong to another node by now.
pub(super) const TO: &str = "x-cordon-to";
/// How long the caller waits for the answer, in milliseconds.
pub(super) const DEADLINE_MS: &str = "x-cordon-deadline-ms";
/// How many nodes have passed the call on, its first sender included.
pub(super) const HOPS: &str = "x-cordon-hops";
/// When the call was signed, in milliseconds since 1970 by the clock of the node that is called.
pub(super) const TIMESTAMP_MS: &str = "x-cordon-timestamp-ms";
/// Tells the call from every other.
pub(super) const NONCE: &str = "x-cordon-nonce";
/// The SHA-256 of the body.
pub(super) const BODY_HASH: &str = "x-cordon-body-sha256";
/// The signature over all of these, or of an answer.
pub(super) const SIGNATURE: &str = "x-cordon-signature";

/// The longest body, of calls and of answers. Rule: cluster.md 15.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// The longest that a call may ask to be waited for.
pub(super) const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// The most nodes that a call may have come through.
pub(super) const HOPS_MAX: u32 = 2;
/// The most messages in one call.
pub(super) const BATCH_MESSAGES_MAX: usize = 1000;

/// The body of an ask.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asking {
    pub(super) partition: Partition,
    pub(super) question: Question,
}

/// What a listener says instead of taking a signed call that was not made for this start of it, or not
/// now. Whoever hears it signs anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// Tells this start of the listener from every other: the first half of a session.
    pub(super) start: u64,
    /// What its clock shows, in milliseconds since 1970.
    pub(super) now_ms: i64,
}

/// Who owns a partition, as another node has heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hint {
    pub(super) partition: Partition,
    #[serde(flatten)]
    pub(super) owner: Owner,
}

impl Hint {
    /// What `routes` know of `partition`, unless they say that `node` itself owns it: it has just
    /// found that it does not.
    pub(super) fn about(partition: Partition, routes: &Routes, node: &str) -> Option<Self> {
        let owner = routes.owner(partition).filter(|owner| owner.node != node)?;
        Some(Self { partition, owner })
    }
}

/// Whether `address`, a `host:port`, stays on this machine.
pub(super) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether `address` is a `host:port` that can be called. It was heard of from elsewhere, and the
/// client library does not take every text.
pub(super) fn is_callable(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = |host: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !host.is_empty() && host.bytes().all(fits)
    };
    let has_host = literal.map_or_else(|| named(host), |ip| ip.parse::<IpAddr>().is_ok());
    has_host
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse().is_ok_and(|port: u16| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Epoch;

    #[test]
    fn loopback_is_told_from_the_rest() {
        for address in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:7", "localhost:7"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["10.0.0.1:1", "0.0.0.0:1", "[::]:7", "localhost.example:7", "", "node-1:7"]
        {
            assert!(!is_loopback(address), "{address}");
        }
    }

    #[test]
    fn only_a_host_and_a_port_are_called() {
        for address in ["127.0.0.1:1", "node-1:7000", "node_1.example.org:65535", "[::1]:7"] {
            assert!(is_callable(address), "{address}");
        }
        for address in [
            "", ":", ":1", "a", "a:", "a:0", "a:65536", "a:+1", "a b:1", "a/b:1", "a@b:1", "::1:7",
            "[x]:7", "a\n:1",
        ] {
            assert!(!is_callable(address), "{address}");
        }
    }

    #[test]
    fn a_hint_names_another_node_or_nobody() {
        let routes = Routes::new(1);
        assert_eq!(Hint::about(Partition(0), &routes, "a"), None);
        let owner = Owner { epoch: Epoch(3), node: "b".into(), address: "b:1".into() };
        routes.note(Partition(0), owner.clone());
        assert_eq!(Hint::about(Partition(0), &routes, "b"), None);
        let hint = Hint::about(Partition(0), &routes, "a").unwrap();
        assert_eq!(
            serde_json::to_string(&hint).unwrap(),
            r#"{"partition":0,"epoch":3,"node":"b","address":"b:1"}"#
        );
        assert_eq!(hint.owner, owner);
    }
}
