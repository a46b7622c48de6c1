//! What the webhooks and the subscriptions are told, from the settings of the node.

use anyhow::{Context, Result};

use super::settings::subnets;
use crate::config::{self, Config};
use crate::domain::{BeforeTerms, DeliveryTerms, MAIN, SealedSecret, Subscription};
use crate::subscriptions::{App, Configured};
use crate::webhooks::{self, Certificate, CertificateError, Guard, Secret};

/// The apps, as far as their subscriptions go.
///
/// Errors: a certificate cannot be read; names the app.
pub(super) fn apps(config: &Config) -> Result<Vec<App>> {
    let app = |app: &config::App| {
        let certificate = webhook_certificate(&app.webhook)
            .with_context(|| format!("the webhooks of app {}", app.id))?;
        let keys = app.keys.iter().map(|key| key.reveal().to_owned()).collect();
        Ok(App { id: app.id, keys, configured: configured(app), certificate })
    };
    config.apps.iter().map(app).collect()
}

/// The subscriptions that stand in the settings, as they are served from the start.
///
/// Errors: an address cannot be called, or a secret cannot sign; names the app and the subscription.
pub(super) fn subscriptions(apps: &[App]) -> Result<Vec<webhooks::Subscription>> {
    let each = apps.iter().flat_map(|app| app.configured.iter().map(move |one| (app, one)));
    let served = each.map(|(app, one)| {
        let name = &one.subscription.name;
        app.served(one).with_context(|| format!("the webhook {name} of app {}", app.id))
    });
    served.collect()
}

/// What an app shows to the receivers of its webhooks, whoever set their addresses.
pub(super) fn webhook_certificate(
    webhook: &config::Webhook,
) -> Result<Option<Certificate>, CertificateError> {
    match (&webhook.client_certificate, &webhook.client_key) {
        (Some(certificate), Some(key)) => Certificate::load(certificate, key).map(Some),
        _ => Ok(None),
    }
}

/// Where addresses that are set through the API may lead.
pub(super) fn guard(config: &Config) -> Guard {
    Guard::On { allowed: subnets(&config.webhooks.allowed_subnets).collect() }
}

/// The subscriptions of an app's settings: the main one first, if it has an address.
pub(super) fn configured(app: &config::App) -> Vec<Configured> {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::Environment;
    use crate::domain::subscription::{AFTER_COMMANDS, REQUEST_OVER_LIMIT};
    use crate::domain::{FailurePolicy, Format};
    use crate::webhooks::Signer;

    const APP: &str = "[[app]]\nid = 7\nkeys = \"k\"\n[app.webhook]\nurl = \"http://127.0.0.1/\"\n";

    fn config(before: &str, webhook: &str) -> Config {
        let file = format!("{before}\n{APP}{webhook}");
        Config::parse(Some(("cordon.toml", &file)), &Environment::new()).expect("settings")
    }

    fn served(config: &Config) -> Result<Vec<webhooks::Subscription>> {
        subscriptions(&apps(config)?)
    }

    #[test]
    fn an_address_set_through_the_api_may_lead_to_public_ones_and_where_the_settings_say() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let admitted = |config: &Config| {
            let guard = guard(config);
            ["8.8.8.8", "10.1.2.3", "10.2.0.1", "fd00::7"].map(|text| guard.judge(ip(text)).is_ok())
        };
        assert_eq!(admitted(&config("", "")), [true, false, false, false]);
        let allowed = config("[webhooks]\nallowed_subnets = [\"10.1.0.0/16\", \"fd00::7\"]", "");
        assert_eq!(admitted(&allowed), [true, true, false, true]);
    }

    #[test]
    fn the_subscription_of_the_settings_may_lead_anywhere_and_looks_as_they_say() {
        let [plain] = &served(&config("", "")).expect("one")[..] else { panic!("one") };
        assert_eq!(plain.guard, Guard::Off);
        assert_eq!(plain.signer, Signer::unsigned());
        assert_eq!((plain.headers, &plain.certificate), (true, &None));

        let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/node");
        let webhook = format!(
            "format = \"standard\"\nheaders = false\n\
             secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n\
             client_certificate = \"{files}.pem\"\nclient_key = \"{files}.key\"\n"
        );
        let [all] = &served(&config("", &webhook)).expect("one")[..] else { panic!("one") };
        assert_eq!(all.signer.format(), Format::Standard);
        assert!(!all.headers && all.certificate.is_some());
    }

    #[test]
    fn the_main_subscription_hears_of_what_one_that_is_set_by_a_call_hears() {
        let mut by_default = config::WebhookCommand::AFTER.map(|command| command.0).to_vec();
        let mut by_call = [&AFTER_COMMANDS[..], &[REQUEST_OVER_LIMIT]].concat();
        by_default.sort_unstable();
        by_call.sort_unstable();
        assert_eq!(by_default, by_call);
    }

    #[test]
    fn the_main_subscription_takes_every_term_of_delivery() {
        let terms = "enabled = false\npolicy = \"skip\"\nattempts_max = 3\nin_flight_max = 2\nper_second = 5";
        let [main] = &served(&config("", terms)).expect("one")[..] else { panic!("one") };
        let wanted = DeliveryTerms {
            policy: FailurePolicy::Skip,
            attempts_max: 3,
            in_flight_max: 2,
            per_second: Some(5),
            ..DeliveryTerms::default()
        };
        assert_eq!((main.enabled, main.delivery), (false, wanted));
        let [plain] = &served(&config("", "")).expect("one")[..] else { panic!("one") };
        assert_eq!((plain.enabled, plain.delivery), (true, DeliveryTerms::default()));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_app() {
        for (webhook, reason) in [
            (
                "format = \"standard\"\nsecrets = [\"token\"]",
                "the webhook main of app 7: a secret of the standard format is",
            ),
            (
                "client_certificate = \"/no\"\nclient_key = \"/no\"",
                "the webhooks of app 7: cannot read /no",
            ),
        ] {
            let error = served(&config("", webhook)).expect_err("it is refused");
            let text = format!("{error:#}");
            assert!(text.starts_with(reason), "{text}");
            assert!(!text.contains("token"), "{text}");
        }
    }
}
