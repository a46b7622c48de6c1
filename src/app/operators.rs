//! What operators are told, from the first moment of a start to the last of a stop.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use actix_web::dev::ServerHandle;
use anyhow::{Result, bail};
use futures_util::future::{Either, ready, select};
use prometheus_client::registry::Registry;

use super::bind;
use super::phase::State;
use crate::config::Address;
use crate::http::ops;

/// The listener for operators. Cheap to clone.
#[derive(Clone)]
pub(super) struct Operators {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<State>,
    registry: Arc<OnceLock<Registry>>,
    server: ServerHandle,
}

impl Operators {
    /// Answers on `address` from now on, on a thread of its own: a start may keep this one busy for as
    /// long as it reads.
    pub(super) async fn serve(address: &Address) -> Result<Self> {
        let listener = bind("ops_listen", address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::starting());
        let registry = Arc::default();
        let readiness = {
            let state = Arc::clone(&state);
            ops::Readiness::new(move || state.ready())
        };
        let server = ops::serve(readiness, Arc::clone(&registry), listener)?;
        let handle = server.handle();
        // Its threads begin when it is first looked at.
        match select(server, pin!(ready(()))).await {
            Either::Left((ended, _)) => {
                ended?;
                bail!("the listener for operators has ended");
            }
            Either::Right(((), server)) => drop(tokio::task::spawn_local(server)),
        }
        Ok(Self { address, state, registry, server: handle })
    }

    /// What is measured from now on. Once.
    pub(super) fn show(&self, registry: Registry) {
        let shown = self.registry.set(registry);
        assert!(shown.is_ok(), "a node has one registry");
    }

    pub(super) async fn stop(&self) {
        self.server.stop(false).await;
    }
}
