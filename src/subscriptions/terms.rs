//! What the settings say about the subscriptions of an app.

use super::SubscriptionError;
use super::deliveries::Looks;
use super::known::{Source, UnservableError, served};
use super::seal::Sealer;
use crate::domain::{AppId, SealedSecret, Subscription, Timestamp};
use crate::webhooks::{self, Certificate, Endpoint, Guard, Secret};

/// An app, as far as its subscriptions go.
pub struct App {
    /// The SDKAppID.
    pub id: AppId,
    /// Its secret keys, under each of which the secrets of subscriptions are sealed.
    pub keys: Vec<String>,
    /// The subscriptions of the settings, each name once.
    pub configured: Vec<Configured>,
    /// What is shown to receivers over https, whoever set their addresses.
    pub certificate: Option<Certificate>,
}

/// A subscription of the settings.
#[derive(Clone, Debug)]
pub struct Configured {
    /// All of it; its sealed secrets are only counted.
    pub subscription: Subscription,
    /// Its address as the settings are shown: without what may be secret in it.
    pub shown: Option<Box<str>>,
    /// Its secrets in clear, newest first.
    pub secrets: Vec<Secret>,
}

/// What an app's subscriptions are set and served by.
pub(super) struct Terms {
    pub(super) sealer: Sealer,
    pub(super) configured: Vec<Configured>,
    pub(super) wire: Wire,
    pub(super) looks: Looks,
}

/// What the subscriptions of an app have in common, whoever set them.
pub(super) struct Wire {
    /// Where addresses may lead that were set by calls.
    pub(super) guard: Guard,
    pub(super) certificate: Option<Certificate>,
}

/// A secret in clear that is not sealed under each of the app's keys.
pub(super) struct HalfSealed {
    pub(super) seals: Box<str>,
    pub(super) text: String,
}

impl App {
    /// One of its configured subscriptions, as it is served before anything else is known.
    ///
    /// Errors: its address cannot be called, or a secret of it cannot sign.
    pub fn served(&self, one: &Configured) -> Result<webhooks::Subscription, UnservableError> {
        let wire = Wire { guard: Guard::Off, certificate: self.certificate.clone() };
        served(self.id, &one.subscription, Some(&one.secrets), &wire, Source::Settings)
    }
}

impl Terms {
    /// With `guard` before the addresses that are set by calls.
    pub(super) fn of(app: App, guard: &Guard) -> Self {
        let App { id, keys, configured, certificate } = app;
        let sealer = Sealer::new(id, keys.iter().map(String::as_str));
        let wire = Wire { guard: guard.clone(), certificate };
        Self { sealer, configured, wire, looks: Looks::default() }
    }

    /// Whether the settings have a subscription of this name.
    pub(super) fn configures(&self, name: &str) -> bool {
        self.configured.iter().any(|known| *known.subscription.name == *name)
    }

    /// Whether an address that is set by a call may be called.
    ///
    /// Errors: no; [`SubscriptionError::Url`].
    pub(super) fn check_url(&self, url: &str) -> Result<(), SubscriptionError> {
        let endpoint = Endpoint::parse(url).map_err(|_| SubscriptionError::Url)?;
        self.wire.guard.check(&endpoint).map_err(|_| SubscriptionError::Url)
    }

    /// The secrets of what was set by calls that sign at `now`; none if the newest one cannot be read.
    /// One that is replaced and cannot be read is left out: calls are signed without it.
    pub(super) fn open(&self, set: &Subscription, now: Timestamp) -> Option<Vec<Secret>> {
        let mut opened = Vec::new();
        for secret in set.secrets.iter().filter(|secret| secret.signs(now)) {
            match self.sealer.open(&set.name, &secret.sealed) {
                Some(text) => opened.push(Secret::new(text, secret.until)),
                None if secret.until.is_none() => return None,
                None => {}
            }
        }
        Some(opened)
    }

    /// The secrets of `set` that can be read and are not sealed under each of the app's keys: each with
    /// the seals that it has.
    pub(super) fn half_sealed(
        &self,
        set: &Subscription,
        now: Timestamp,
    ) -> impl Iterator<Item = HalfSealed> {
        let signing = set.secrets.iter().filter(move |secret| secret.signs(now));
        signing.filter_map(|SealedSecret { sealed, .. }| {
            let is_whole = self.sealer.is_whole(&set.name, sealed);
            let text = if is_whole { None } else { self.sealer.open(&set.name, sealed) };
            text.map(|text| HalfSealed { seals: sealed.clone(), text })
        })
    }
}
