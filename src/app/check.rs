//! What is wrong with settings as only those can tell who use them.

use super::subscribers::{certificate, configured};
use crate::config::{Config, ConfigError};
use crate::domain::MAIN;
use crate::webhooks::{CertificateError, Endpoint, SecretError, Signer};

/// Looks at what a start would refuse of the settings, before it has made anything.
///
/// Errors: [`ConfigError::Refused`] with every fault.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    for app in &config.apps {
        let webhook = &app.webhook;
        let mut refuse = |setting: &str, reason: String| {
            faults.push(config.fault(format!("app.{}.webhook.{setting}", app.id), reason));
        };
        if let Err(error) = certificate(&webhook.certificate) {
            match &error {
                CertificateError::File { path, source } => {
                    let is_key = webhook.certificate.client_key.as_ref() == Some(path);
                    let setting = if is_key { "client_key" } else { "client_certificate" };
                    refuse(setting, format!("{error}: {source}"));
                }
                CertificateError::Unusable(_) => refuse("client_certificate", error.to_string()),
            }
        }
        for one in configured(app) {
            let name = &*one.subscription.name;
            let mut refuse = |setting: &str, reason: String| match name {
                MAIN => refuse(setting, reason),
                other => refuse("subscription", format!("{other}: {setting}: {reason}")),
            };
            let url = one.subscription.url.as_deref();
            if let Some(Err(error)) = url.map(Endpoint::parse) {
                refuse("url", error.to_string());
            }
            match Signer::new(one.subscription.format, &one.secrets) {
                // Nothing goes there, or it was refused with the other settings.
                Ok(_) | Err(SecretError::Missing) => {}
                Err(error) => refuse("secrets", error.to_string()),
            }
        }
    }
    faults.sort();
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Refused(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn checked(webhook: &str, variables: &[(&str, &str)]) -> String {
        let file = format!("[[app]]\nid = 7\nkeys = \"k\"\n[app.webhook]\n{webhook}");
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let variables: Environment = variables.collect();
        let config = Config::parse(Some(("c.toml", &file)), &variables).expect("settings");
        check(&config).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_a_start_would_refuse_is_told_with_its_line_or_variable() {
        let url = "url = \"http://a/\"\n";
        let standard = format!("{url}format = \"standard\"\n");
        let shape = "a secret of the standard format is";
        let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/node");
        let pair = |certificate: &str, key: &str| {
            format!("{url}client_certificate = \"{certificate}\"\nclient_key = \"{key}\"\n")
        };
        let (certificate, key) = (format!("{files}.pem"), format!("{files}.key"));
        for (webhook, variables, told) in [
            (url.to_owned(), &[][..], String::new()),
            (pair(&certificate, &key), &[], String::new()),
            (
                format!("{standard}secrets = [\"abc\"]"),
                &[],
                format!("c.toml:7: app.7.webhook.secrets: {shape}"),
            ),
            (
                standard.clone(),
                &[("CORDON_WEBHOOK_SECRETS", "abc")],
                format!("CORDON_WEBHOOK_SECRETS: app.7.webhook.secrets: {shape}"),
            ),
            (
                pair("/no", &key),
                &[],
                "c.toml:6: app.7.webhook.client_certificate: cannot read /no: ".to_owned(),
            ),
            (
                pair(&certificate, "/no"),
                &[],
                "c.toml:7: app.7.webhook.client_key: cannot read /no: ".to_owned(),
            ),
            (
                "url = \"http://a/#top\"".to_owned(),
                &[],
                "c.toml:5: app.7.webhook.url: it has a fragment".to_owned(),
            ),
            (
                "[[app.webhook.subscription]]\nname = \"b\"\nurl = \"http://a/#top\"".to_owned(),
                &[],
                "c.toml:5: app.7.webhook.subscription: b: url: it has a fragment".to_owned(),
            ),
        ] {
            let said = checked(&webhook, variables);
            assert_eq!(said.is_empty(), told.is_empty(), "{webhook}: {said}");
            assert!(said.contains(&told), "{webhook}: {said}");
            assert!(!said.contains("abc"), "{said}");
        }
    }
}
