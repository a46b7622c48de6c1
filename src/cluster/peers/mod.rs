//! Calls between nodes, on a listener of their own: questions to the owner of a partition, and
//! messages between partitions.
//!
//! Promises: nothing that is sent waits for a peer; a peer that hangs holds nobody else; every queue,
//! body and call is bounded. Nobody who has neither the cluster's key nor a certificate of its
//! authority can ask, answer or repeat anything, and without both nodes talk on one machine only.
//! What a call loses, its caller heals: a question is asked again with the same origin, and a message
//! is sent again by its channel. A call is answered where it arrives or not at all, never passed on.
//!
//! It does not know what the questions are about, and decides nothing about who owns what: owners are
//! hints in [`Routes`](super::Routes). Rule: cluster.md 15.

mod auth;
mod batch;
mod breaker;
mod call;
mod client;
mod metrics;
mod nonces;
mod server;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod tls;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::actors::{ExecuteError, PairMessage, Question, Reply};
use crate::journal::Partition;

pub use auth::{KEY_BYTES_MIN, Key, KeyTooShort};
pub use client::Peers;
pub use metrics::Metrics;
pub use server::serve;
pub use tls::{Tls, TlsError};

/// What the room needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name, unique in its cluster: ASCII without blanks.
    pub node: String,
    /// How nodes know each other; the same for all of a cluster.
    pub security: Security,
}

/// How nodes know each other.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all: the listener and every peer have to be on loopback addresses.
    Plain,
    /// By a key that all share: calls and answers are signed, and can be read on the way.
    Key(Key),
    /// By certificates, in both directions.
    Tls(Tls),
}

/// This node, as others ask it: answered here or not at all, never passed on.
pub trait Here: Clone + Send + 'static {
    /// Answers a question about a partition, `patience` long at most. The future may be dropped
    /// before that: whoever asked has gone.
    ///
    /// Errors: [`ExecuteError::Elsewhere`] if the partition is not owned here; the others are told
    /// as they are.
    fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> impl Future<Output = Result<Reply, ExecuteError>>;

    /// Takes a message. Never waits. Errors: the message's partition is not served here.
    fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError>;
}

/// Why nodes cannot talk.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The listener is not on a loopback address, and anybody could talk to it.
    #[error(
        "whoever reaches {0} could speak as a node: set node.secret, or node.tls_ca_file, \
         node.tls_certificate_file and node.tls_key_file, or let node.listen be a loopback address"
    )]
    Exposed(SocketAddr),
    /// The node's name cannot stand in a header.
    #[error("{0:?} is no name for a node")]
    Name(String),
    /// The certificates cannot be used.
    #[error("nodes cannot talk over TLS")]
    Tls(#[from] TlsError),
    /// The listener cannot be used.
    #[error("the listener for other nodes cannot be used")]
    Listener(#[source] io::Error),
    /// The client has no thread.
    #[error("the thread that calls other nodes cannot be started")]
    Thread(#[source] io::Error),
}

/// A name stands in headers as it is.
fn check_name(node: &str) -> Result<(), PeersError> {
    let fits = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(PeersError::Name(node.to_owned())) }
}
