//! What the settings say about the subscriptions of an app.

use anyhow::Context;

use super::known::runtime;
use crate::app::webhook_certificate;
use crate::config::{self, Config};
use crate::domain::{BeforeTerms, DeliveryTerms, MAIN, SealedSecret, Subscription, Timestamp};
use crate::http::Source;
use crate::subscriptions::seal::Sealer;
use crate::webhooks::{self, Certificate, Guard, Secret};

/// What the settings say about an app.
pub(super) struct Terms {
    pub(super) sealer: Sealer,
    pub(super) configured: Vec<Configured>,
    pub(super) wire: Wire,
}

/// A subscription of the settings.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) subscription: Subscription,
    pub(crate) secrets: Vec<Secret>,
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

impl Terms {
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

pub(super) fn certificate(app: &config::App) -> anyhow::Result<Option<Certificate>> {
    webhook_certificate(&app.webhook).with_context(|| format!("the webhooks of app {}", app.id))
}

/// The subscriptions of an app's settings: the main one first, if it has an address.
pub(crate) fn configured(app: &config::App) -> Vec<Configured> {
    let webhook = &app.webhook;
    let names = |commands: &[config::WebhookCommand]| -> Vec<Box<str>> {
        commands.iter().map(|command| command.0.into()).collect()
    };
    let open = |token: &Option<config::Secret>, others: &[config::Secret]| -> Vec<Secret> {
        let all = token.iter().chain(others);
        all.map(|secret| Secret::new(secret.reveal(), None)).collect()
    };
    // They are only counted: nobody sees them.
    let sealed = |count: usize| vec![SealedSecret { sealed: "".into(), until: None }; count];
    let of_main = open(&webhook.token, &webhook.secrets);
    let main = webhook.url.as_ref().map(|url| Configured {
        subscription: Subscription {
            name: MAIN.into(),
            url: Some(url.reveal().into()),
            commands: names(&webhook.commands),
            enabled: webhook.enabled,
            format: webhook.format,
            secrets: sealed(of_main.len()),
            headers: webhook.headers,
            delivery: DeliveryTerms {
                timeout_ms: webhook.timeout_ms,
                retry_min_ms: webhook.retry_min_ms,
                retry_max_ms: webhook.retry_max_ms,
                call_once: webhook.call_once,
                policy: webhook.policy,
                attempts_max: webhook.attempts_max,
                in_flight_max: webhook.in_flight_max,
                per_second: (webhook.per_second > 0).then_some(webhook.per_second),
            },
            before: BeforeTerms {
                timeout_ms: webhook.before_timeout_ms,
                on_timeout: webhook.before_on_timeout,
                on_unreachable: webhook.before_on_unreachable,
                on_status: webhook.before_on_status,
                on_malformed: webhook.before_on_malformed,
                on_busy: webhook.before_on_busy,
            },
        },
        secrets: of_main,
    });
    let further = webhook.subscription.iter().map(|other| {
        let secrets = open(&other.token, &other.secrets);
        let subscription = Subscription {
            name: other.name.as_str().into(),
            url: other.url.as_ref().map(|url| url.reveal().into()),
            commands: names(&other.commands),
            enabled: other.enabled,
            format: other.format,
            secrets: sealed(secrets.len()),
            headers: other.headers,
            delivery: delivery_terms(other),
            before: before_terms(other),
        };
        Configured { subscription, secrets }
    });
    main.into_iter().chain(further).collect()
}

fn delivery_terms(of: &config::WebhookSubscription) -> DeliveryTerms {
    DeliveryTerms {
        timeout_ms: of.timeout_ms,
        retry_min_ms: of.retry_min_ms,
        retry_max_ms: of.retry_max_ms,
        call_once: of.call_once,
        policy: of.policy,
        attempts_max: of.attempts_max,
        in_flight_max: of.in_flight_max,
        per_second: (of.per_second > 0).then_some(of.per_second),
    }
}

fn before_terms(of: &config::WebhookSubscription) -> BeforeTerms {
    BeforeTerms {
        timeout_ms: of.before_timeout_ms,
        on_timeout: of.before_on_timeout,
        on_unreachable: of.before_on_unreachable,
        on_status: of.before_on_status,
        on_malformed: of.before_on_malformed,
        on_busy: of.before_on_busy,
    }
}

/// The subscriptions that stand in the settings, as they are served.
///
/// Errors: an address cannot be called, a secret cannot sign, a certificate cannot be read; names the
/// app and the subscription.
pub(crate) fn subscriptions(config: &Config) -> anyhow::Result<Vec<webhooks::Subscription>> {
    let mut subscriptions = Vec::new();
    for app in &config.apps {
        let wire = Wire { guard: Guard::Off, certificate: certificate(app)? };
        for Configured { subscription, secrets } in configured(app) {
            let served = runtime(app.id, &subscription, Some(&secrets), &wire, Source::Settings);
            let name = &subscription.name;
            subscriptions
                .push(served.with_context(|| format!("the webhook {name} of app {}", app.id))?);
        }
    }
    Ok(subscriptions)
}
