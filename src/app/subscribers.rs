//! What the webhooks and the subscriptions are told, from the settings of the node.

use anyhow::{Context, Result};

use super::settings::subnets;
use crate::config::{self, Config};
use crate::domain::{MAIN, SealedSecret, Subscription};
use crate::subscriptions::{App, Configured};
use crate::webhooks::{self, Certificate, CertificateError, Guard, Secret};

/// The apps, as far as their subscriptions go.
///
/// Errors: a certificate cannot be read; names the app.
pub(super) fn apps(config: &Config) -> Result<Vec<App>> {
    let app = |app: &config::App| {
        let certificate = certificate(&app.webhook.certificate)
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
pub(super) fn certificate(
    files: &config::ClientCertificate,
) -> Result<Option<Certificate>, CertificateError> {
    match (&files.client_certificate, &files.client_key) {
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
    let config::Webhook { receiver, delivery, before, others, .. } = &app.webhook;
    let main = receiver.url.is_some().then(|| subscription(MAIN, receiver, delivery, before));
    let further = others.subscription.iter();
    let further =
        further.map(|one| subscription(&one.name, &one.receiver, &one.delivery, &one.before));
    main.into_iter().chain(further).collect()
}

fn subscription(
    name: &str,
    receiver: &config::Receiver,
    delivery: &config::Delivery,
    before: &config::Before,
) -> Configured {
    let secrets = receiver.token.iter().chain(&receiver.secrets);
    let secrets: Vec<Secret> = secrets.map(|secret| Secret::new(secret.reveal(), None)).collect();
    let subscription = Subscription {
        name: name.into(),
        url: receiver.url.as_ref().map(|url| url.reveal().into()),
        commands: delivery.commands.iter().map(|command| command.0.into()).collect(),
        enabled: delivery.enabled,
        format: receiver.format,
        // They are only counted: nobody sees them.
        secrets: vec![SealedSecret { sealed: "".into(), until: None }; secrets.len()],
        headers: receiver.headers,
        delivery: delivery.terms(),
        before: before.terms(),
    };
    let shown = receiver.url.as_ref().map(|url| url.to_string().into());
    Configured { subscription, shown, secrets }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::Environment;
    use crate::domain::{DeliveryTerms, FailurePolicy, Format};
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
