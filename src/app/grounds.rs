//! What the rooms of a node stand on, and how those are built that stand on nothing else.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use prometheus_client::registry::Registry;

use super::cluster::Outside;
use super::followers::UserCursors;
use super::settings::{actor_settings, kafka_settings, policies};
use super::{admins, open_embedded, warn_of_unknown_apps};
use crate::actors::{self, Alone, Elsewhere, Users};
use crate::clock::Clock;
use crate::config::{Config, JournalKind};
use crate::domain::{UserKey, is_book, is_keeper};
use crate::journal::{Journal, kafka};
use crate::store::Store;
use crate::webhooks::{self, Subscription};

/// See the module.
pub(super) struct Grounds<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: Clock,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) store: Store,
    /// What operators are shown; each room counts for itself.
    pub(super) registry: Registry,
}

impl Grounds<'_> {
    /// Starts the actors, and waits until their state is recovered.
    pub(super) fn users(
        &mut self,
        subscriptions: &[Subscription],
        outside: Option<&Outside>,
    ) -> Result<Users> {
        let metrics = actors::Metrics::default();
        metrics.register(&mut self.registry);
        let parts = actors::Parts {
            node: self.config.node.name.as_str().to_owned(),
            journal: self.journal.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            policies: policies(self.config),
            settings: actor_settings(self.config, self.journal.partitions()),
            metrics,
            followers: subscriptions.iter().map(Subscription::cursor_name).collect(),
            elsewhere: match outside {
                None => Arc::new(Alone) as Arc<dyn Elsewhere>,
                Some(outside) => outside.elsewhere(),
            },
            archive: outside.map(Outside::archive),
        };
        let began = Instant::now();
        let users = Users::start(parts)?;
        tracing::info!(duration_ms = began.elapsed().as_millis() as u64, "the state is recovered");
        warn_of_unknown_apps(self.config, &self.store);
        Ok(users)
    }

    /// Starts telling subscribers what the journal holds.
    pub(super) fn webhooks(
        &mut self,
        subscriptions: Vec<Subscription>,
        users: &Users,
    ) -> Result<webhooks::Handle> {
        let metrics = webhooks::Metrics::default();
        metrics.register(&mut self.registry, self.journal.clone(), self.clock.clone());
        let cursors = UserCursors(users.clone());
        let (journal, clock) = (self.journal.clone(), self.clock.clone());
        Ok(webhooks::start(subscriptions, journal, cursors, clock, metrics)?)
    }

    /// Where subscribers are asked beforehand.
    pub(super) fn desks(&mut self) -> Arc<webhooks::Desks> {
        let questions = webhooks::consult::Metrics::default();
        questions.register(&mut self.registry);
        webhooks::Desks::new(self.clock.clone(), questions)
    }
}

/// Opens the journal, and what there is of a cluster around it.
pub(super) fn open_journal(
    config: &Config,
    clock: &Clock,
    registry: &mut Registry,
) -> Result<(Arc<dyn Journal>, Option<Outside>)> {
    match config.journal.kind {
        JournalKind::Embedded => Ok((open_embedded(config, registry)?, None)),
        JournalKind::Kafka => {
            let settings = kafka_settings(config);
            tracing::info!(
                kafka.brokers = settings.cluster.brokers.join(","),
                "asking the brokers"
            );
            let journal = kafka::Journal::open(settings)?;
            journal.metrics().register(registry);
            let outside = Outside::open(config, journal.clone(), clock, registry)?;
            Ok((journal, Some(outside)))
        }
    }
}

/// No admin may be called like a stream that no account has. Errors: which one is.
pub(super) fn check_admins(config: &Config) -> Result<()> {
    for UserKey { app, user } in admins(config) {
        let is_free = !is_book(&user) && !is_keeper(&user);
        anyhow::ensure!(
            is_free,
            "app {app}: the name {user} is reserved, so it cannot be an admin"
        );
    }
    Ok(())
}
