//! Whether secrets can be read with the keys that the app has, and new seals when the keys change.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Subscribers;
use super::known::{Known, State};
use super::seal::SealError;
use crate::domain::{AppId, Command, UserKey, keeper};
use crate::journal::{Origin, partition_of};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfApp {
    app: u32,
}

/// How many subscriptions the app's keys do not fit.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    held: Family<OfApp, Gauge>,
    half_sealed: Family<OfApp, Gauge>,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cordon_webhook_held_subscriptions",
            "Subscriptions that are not served: their secret cannot be read with the keys of the app",
            self.held.clone(),
        );
        registry.register(
            "cordon_webhook_half_sealed_subscriptions",
            "Subscriptions whose secrets are not sealed under each key of the app yet",
            self.half_sealed.clone(),
        );
    }

    pub(super) fn note(&self, app: AppId, known: &Known) {
        let set = |family: &Family<OfApp, Gauge>, count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&OfApp { app: app.0 }).set(count);
        };
        let held = known.all.iter().filter(|one| one.seen.state == State::Held);
        set(&self.held, held.count());
        set(&self.half_sealed, known.half_sealed.len());
    }
}

impl Subscribers {
    /// Seals anew what is not sealed under each key of its app, for the apps whose streams this node
    /// owns. What fails is tried again with the next look.
    pub(super) async fn seal_anew(&self) {
        for (app, terms) in &self.apps {
            let key = UserKey { app: *app, user: keeper() };
            let known = self.known(*app);
            let partition = partition_of(&key, self.users.partitions());
            if known.half_sealed.is_empty() || !self.serves(partition) {
                continue;
            }
            let now = self.clock.now();
            for set in known.half_sealed.iter().filter_map(|name| known.kept.get(name)) {
                let seals = terms
                    .half_sealed(set, now)
                    .map(|secret| Ok((secret.seals, terms.sealer.seal(&set.name, &secret.text)?)));
                let seals = match seals.collect::<Result<Vec<_>, SealError>>() {
                    Ok(seals) => seals,
                    Err(error) => {
                        tracing::error!(
                            app.id = app.0,
                            %error,
                            "secrets could not be sealed under each key of the app"
                        );
                        return;
                    }
                };
                if seals.is_empty() {
                    // Their time is over by now.
                    continue;
                }
                let anew = Command::SealAnew { name: set.name.clone(), seals };
                if self.users.asker().execute(key, anew, Origin::own()).await.is_ok() {
                    tracing::info!(
                        app.id = app.0,
                        webhook.subscription = &*set.name,
                        "secrets are sealed under each key of the app now"
                    );
                }
            }
            // What cannot be asked now is asked with the next look.
            let _ = self.renew(*app).await;
        }
    }
}
