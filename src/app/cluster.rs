//! A node among others: its boards, its calls to the others and theirs to it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::actors::{Elsewhere, ExecuteError, PairMessage, Question, Reply, Seat, Users};
use crate::clock::Clock;
use crate::cluster::{self, Handle, Routes, Seats, peers, steward};
use crate::config::Config;
use crate::journal::{Archive, Partition, ReadJournal, kafka};
use crate::webhooks;

/// How long a stop waits for the other nodes to take everything over.
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);
/// How long the node's own threads may take to answer before it counts as stuck.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// What a node needs before its users can be reached: the way to the others.
pub(super) struct Outside {
    journal: Arc<kafka::Journal>,
    routes: Arc<Routes>,
    peers: peers::Peers,
    settings: peers::Settings,
    metrics: peers::Metrics,
    listener: TcpListener,
    /// Where the others reach it.
    address: String,
}

impl Outside {
    pub(super) fn open(
        config: &Config,
        journal: Arc<kafka::Journal>,
        clock: &Clock,
        registry: &mut Registry,
    ) -> Result<Self> {
        let listener = super::bind("node.listen", &config.node.listen_or_default())?;
        let address = config.node.reached_at(listener.local_addr()?.port()).as_str().to_owned();
        let settings = super::settings::peer_settings(config)?;
        let routes = Arc::new(Routes::new(journal.partitions()));
        let metrics = peers::Metrics::default();
        metrics.register(registry);
        let peers = peers::Peers::start(&settings, routes.clone(), clock.clone(), metrics.clone())?;
        Ok(Self { journal, routes, peers, settings, metrics, listener, address })
    }

    pub(super) fn archive(&self) -> Arc<dyn Archive> {
        self.journal.archive()
    }

    pub(super) fn elsewhere(&self) -> Arc<dyn Elsewhere> {
        Arc::new(self.peers.clone())
    }

    /// Lets the others call this node, and begins to take part.
    pub(super) fn join(
        self,
        config: &Config,
        users: &Users,
        webhooks: &Arc<webhooks::Handle>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Inside> {
        let Self { journal, routes, peers: _, settings, metrics, listener, address } = self;
        let here = Here(users.clone());
        let server = peers::serve(&settings, listener, here, routes.clone(), clock, metrics)?;
        let listening = server.handle();
        tokio::task::spawn_local(server);
        let metrics = cluster::Metrics::default();
        metrics.register(registry);
        let members =
            journal.board("members").context("cannot open the notice board of members")?;
        let owners = journal.board("owners").context("cannot open the notice board of owners")?;
        let seats = NodeSeats { users: users.clone(), webhooks: webhooks.clone() };
        let steward = steward::start(
            super::settings::steward_settings(config, address.clone()),
            members,
            owners,
            routes,
            seats,
            metrics,
        );
        Ok(Inside { steward: Some(steward), listening, address })
    }
}

/// The running part.
pub(super) struct Inside {
    steward: Option<Handle>,
    listening: ServerHandle,
    /// Where other nodes reach this one.
    pub(super) address: String,
}

impl Inside {
    /// Tells whether this node takes part, or why not.
    pub(super) fn readiness(&self) -> Box<dyn Fn() -> Result<(), String>> {
        match &self.steward {
            Some(steward) => Box::new(steward.readiness()),
            None => Box::new(|| Err("the node has left the cluster".into())),
        }
    }

    /// Hands everything over to the others.
    pub(super) async fn leave(&mut self) {
        if let Some(mut steward) = self.steward.take() {
            steward.leave(LEAVE_PATIENCE).await;
            steward.stop().await;
        }
    }

    /// Answers the other nodes no more.
    pub(super) async fn close(self) {
        self.listening.stop(true).await;
    }
}

/// The partitions of this node, with the webhooks that follow them.
struct NodeSeats {
    users: Users,
    webhooks: Arc<webhooks::Handle>,
}

impl Seats for NodeSeats {
    fn seats(&self) -> Vec<Seat> {
        self.users.seats()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.users.seat_changes()
    }

    fn claim(&self, partition: Partition) {
        self.users.claim(partition);
    }

    fn release(&self, partition: Partition) {
        let (users, webhooks) = (self.users.clone(), self.webhooks.clone());
        tokio::task::spawn_local(async move {
            // While the partition is still served: the cursors are its records.
            webhooks.leave(&[partition]).await;
            users.release(partition).await;
        });
    }

    fn stand_by(&self, partitions: BTreeSet<Partition>) {
        self.users.stand_by(partitions);
    }

    async fn healthy(&self) -> bool {
        tokio::time::timeout(HEALTH_PATIENCE, self.users.health()).await.is_ok()
    }
}

/// The users of this node, as other nodes ask for them.
#[derive(Clone)]
struct Here(Users);

impl peers::Here for Here {
    async fn answer(
        &self,
        partition: Partition,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, ExecuteError> {
        self.0.answer(partition, question, patience).await
    }

    fn deliver(&self, message: PairMessage) -> Result<(), ExecuteError> {
        self.0.deliver(message)
    }
}

/// How many nodes follow a partition.
pub(super) fn standby_mode(standby: crate::config::Standby) -> cluster::StandbyMode {
    match standby {
        crate::config::Standby::One => cluster::StandbyMode::One,
        crate::config::Standby::All => cluster::StandbyMode::All,
    }
}
