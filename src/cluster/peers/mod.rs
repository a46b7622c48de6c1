//! Calls between nodes, on a listener of their own: questions to the owner of a partition, and the
//! messages of the channels between partitions. Rule: cluster.md 15, node-to-node contract.
//!
//! Nothing unsafe follows from a call that is lost, repeated or sent to the wrong node: a question is
//! done once per request, a message is part of a channel that numbers it, and whoever does not own
//! a partition says so. What must not happen is that somebody else speaks: hence [`auth`] and TLS.

pub mod auth;
mod client;
mod queue;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::Question;
use crate::journal::{Epoch, Partition};

pub use client::{Metrics, Peers};
pub use server::{Here, serve};

/// The largest body of a call, in both directions.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Questions under way to one node at most; beyond it, overload.
pub const IN_FLIGHT_MAX: usize = 256;
/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How much longer than the owner's own time limit an answer is waited for.
pub const ANSWER_GRACE: Duration = Duration::from_millis(200);
/// Nodes that a question passes at most.
pub const HOPS_MAX: u8 = 2;

const ASK_PATH: &str = "/internal/v1/ask";
const PAIRING_PATH: &str = "/internal/v1/pairing";
const PING_PATH: &str = "/internal/v1/ping";
/// How long the owner has for its answer, in milliseconds.
const DEADLINE: &str = "x-cordon-deadline-ms";
/// How many nodes the question has passed.
const HOPS: &str = "x-cordon-hops";

/// How calls between nodes are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Where this node itself is reached by others; it is never called.
    pub address: String,
    /// How others are sure that it is this cluster that speaks.
    pub trust: Trust,
}

/// How nodes are sure of each other.
#[derive(Clone)]
pub enum Trust {
    /// They are not: only where nobody else can reach them.
    Loopback,
    /// Every call and every answer is signed with a shared key.
    Secret(Vec<u8>),
    /// Both sides show a certificate.
    Tls(Certificates),
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loopback => "Loopback",
            Self::Secret(_) => "Secret",
            Self::Tls(_) => "Tls",
        })
    }
}

/// Where this node's certificates lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Who signs the certificates of all nodes.
    pub ca_file: PathBuf,
    /// This node's own, with those that lead to the signer.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// Why nodes cannot call each other.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// Calls would go over a network without any protection.
    #[error(
        "{address} is reached over a network, and nothing protects calls between nodes: set \
         node.secret (CORDON_NODE_SECRET), or node.tls_ca_file, node.tls_certificate_file and \
         node.tls_key_file; without them nodes talk on loopback addresses only"
    )]
    Unprotected {
        /// The address.
        address: String,
    },
    /// A file of the certificates cannot be used.
    #[error("{path}: {problem}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS between nodes cannot be set up")]
    Tls(#[from] rustls::Error),
    /// A thread, a runtime or a listener cannot be started.
    #[error("calls between nodes cannot be started")]
    Io(#[from] std::io::Error),
}

impl Settings {
    /// Errors: [`PeersError::Unprotected`] if calls to or from `address` would be open to anybody.
    pub fn check(&self, address: SocketAddr) -> Result<(), PeersError> {
        let open = matches!(self.trust, Trust::Loopback);
        if open && (!address.ip().is_loopback() || !is_loopback(&self.address)) {
            let address =
                if address.ip().is_loopback() { self.address.clone() } else { address.to_string() };
            return Err(PeersError::Unprotected { address });
        }
        Ok(())
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The body of a question.
#[derive(Serialize, Deserialize)]
struct Asking {
    partition: Partition,
    question: Question,
}

/// Who owns a partition, as told by a node that does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hint {
    partition: Partition,
    epoch: Epoch,
    node: String,
    address: String,
}
