//! Settings that are right one by one and not together.

use super::node::{Kafka, KafkaSecurity};
use super::webhook::{ClientCertificate, Delivery, Receiver, Webhook};
use crate::domain::Format;

/// A setting, and what is wrong with it beside the others.
type Wrong = (&'static str, &'static str);

impl Kafka {
    pub(super) fn conflicts(&self) -> Vec<Wrong> {
        let mut conflicts = Vec::new();
        let sasl = matches!(self.security, KafkaSecurity::SaslPlaintext | KafkaSecurity::SaslTls);
        let tls = matches!(self.security, KafkaSecurity::Tls | KafkaSecurity::SaslTls);
        let given = [&self.sasl_username, &self.sasl_password].map(Option::is_some);
        if given != [sasl; 2] {
            let reason = "a name and a password go with the security sasl_plaintext or sasl_tls, and \
                          with no other";
            conflicts.push(("kafka.sasl_username", reason));
        }
        let files = self.ca_file.is_some() || self.certificate_file.is_some();
        if !tls && (files || self.key_file.is_some()) {
            conflicts.push(("kafka.ca_file", "certificates go with the security tls or sasl_tls"));
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            conflicts.push(("kafka.certificate_file", "a certificate and its key go together"));
        }
        if self.replication < 2 && !self.development {
            let reason = "fewer than 2 copies lose acknowledged records with their broker: \
                          kafka.development = true allows it";
            conflicts.push(("kafka.replication", reason));
        }
        conflicts
    }
}

/// What of a subscriber's settings does not go together, whether it is the main one or a further one.
pub(super) fn delivery_conflicts(receiver: &Receiver, delivery: &Delivery) -> Vec<Wrong> {
    let mut conflicts = Vec::new();
    if delivery.retry_min_ms > delivery.retry_max_ms {
        conflicts.push(("retry_min_ms", "it is larger than retry_max_ms"));
    }
    match receiver.format {
        Format::Reference if !receiver.secrets.is_empty() => {
            conflicts.push(("secrets", "they go with the format standard"));
        }
        Format::Standard if receiver.token.is_some() => {
            conflicts.push(("token", "it goes with the format reference"));
        }
        Format::Standard if receiver.secrets.is_empty() && receiver.url.is_some() => {
            conflicts.push(("secrets", "the format standard needs one"));
        }
        Format::Reference | Format::Standard => {}
    }
    conflicts
}

impl Webhook {
    /// The settings are those of the table.
    pub(super) fn conflicts(&self) -> Vec<Wrong> {
        let mut conflicts = delivery_conflicts(&self.receiver, &self.delivery);
        let ClientCertificate { client_certificate, client_key } = &self.certificate;
        if client_certificate.is_some() != client_key.is_some() {
            conflicts.push(("client_certificate", "a certificate and its key go together"));
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, Environment, KafkaSaslMechanism};

    const PASSWORD: &str = "pa55w0rd";

    fn parse(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variable =
            |(name, value): &(&str, &str)| (format!("CORDON_KAFKA_{name}"), (*value).to_owned());
        Config::parse(None, &settings.iter().map(variable).collect())
    }

    /// What is said of `settings`, one line each.
    fn conflicts(settings: &[(&str, &str)]) -> Vec<String> {
        match parse(settings) {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().skip(1).map(|l| l.trim().to_owned()).collect(),
        }
    }

    #[test]
    fn connections_are_protected_in_four_ways() {
        let files = [("CA_FILE", "ca"), ("CERTIFICATE_FILE", "crt"), ("KEY_FILE", "key")];
        let sasl = [("SASL_USERNAME", "me"), ("SASL_PASSWORD", PASSWORD)];
        for (security, settings) in [
            ("plaintext", vec![]),
            ("tls", files.to_vec()),
            ("tls", files[..1].to_vec()),
            ("tls", vec![]),
            ("sasl_plaintext", sasl.to_vec()),
            ("sasl_tls", [&sasl[..], &files[..]].concat()),
        ] {
            let settings = [&[("SECURITY", security)], &settings[..]].concat();
            assert_eq!(conflicts(&settings), [""; 0], "{settings:?}");
        }
        let scram =
            [("SECURITY", "sasl_tls"), ("SASL_MECHANISM", "SCRAM-SHA-256"), sasl[0], sasl[1]];
        let kafka = parse(&scram).expect("they go together").kafka;
        assert_eq!(kafka.sasl_mechanism, KafkaSaslMechanism::ScramSha256);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let name = "kafka.sasl_username: a name and a password go with the security";
        let files = "kafka.ca_file: certificates go with the security tls or sasl_tls";
        let pair = "kafka.certificate_file: a certificate and its key go together";
        for (settings, expected) in [
            (vec![("SASL_USERNAME", "me")], vec![name]),
            (vec![("SASL_PASSWORD", PASSWORD), ("SECURITY", "tls")], vec![name]),
            (vec![("SECURITY", "sasl_tls"), ("SASL_PASSWORD", PASSWORD)], vec![name]),
            (vec![("SECURITY", "sasl_plaintext")], vec![name]),
            (vec![("CA_FILE", "ca")], vec![files]),
            (vec![("KEY_FILE", "key")], vec![files, pair]),
            (vec![("SECURITY", "tls"), ("CERTIFICATE_FILE", "crt")], vec![pair]),
            (vec![("REPLICATION", "1")], vec!["kafka.replication: fewer than 2 copies"]),
        ] {
            let conflicts = conflicts(&settings);
            let told = expected.iter().zip(&conflicts).all(|(part, line)| line.starts_with(part));
            assert!(told && conflicts.len() == expected.len(), "{settings:?}: {conflicts:?}");
            assert!(!conflicts.concat().contains(PASSWORD));
        }
        assert_eq!(conflicts(&[("REPLICATION", "1"), ("DEVELOPMENT", "true")]), [""; 0]);
    }

    #[test]
    fn a_webhook_s_settings_go_together() {
        let refused = |settings: &str| {
            let file = format!("[[app]]\nid = 7\nkeys = \"k\"\n[app.webhook]\n{settings}");
            match Config::parse(Some(("cordon.toml", &file)), &Environment::new()) {
                Ok(_) => String::new(),
                Err(ConfigError::Refused(faults)) => {
                    faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("\n")
                }
                Err(error) => panic!("{error}"),
            }
        };
        let standard = "url = \"http://a\"\nformat = \"standard\"\n";
        for settings in [
            "",
            "token = \"t\"",
            "format = \"standard\"",
            &format!("{standard}secrets = [\"whsec_a\", \"whsec_b\"]"),
            "client_certificate = \"c.pem\"\nclient_key = \"k.pem\"",
        ] {
            assert_eq!(refused(settings), "", "{settings}");
        }
        for (settings, setting) in [
            ("retry_min_ms = 600_000", "webhook.retry_min_ms"),
            ("secrets = [\"whsec_a\"]", "webhook.secrets"),
            (standard, "webhook.secrets"),
            (&format!("{standard}secrets = [\"whsec_a\"]\ntoken = \"t\""), "webhook.token"),
            ("client_certificate = \"c.pem\"", "webhook.client_certificate"),
            ("client_key = \"k.pem\"", "webhook.client_certificate"),
        ] {
            let refused = refused(settings);
            assert!(refused.contains(setting) && refused.lines().count() == 1, "{refused}");
        }
    }

    #[test]
    fn the_password_is_never_printed() {
        let sasl = [("SASL_USERNAME", "me"), ("SASL_PASSWORD", PASSWORD), ("SECURITY", "sasl_tls")];
        let config = parse(&sasl).expect("they go together");
        for printed in [config.table(), format!("{config:?}")] {
            assert!(!printed.contains(PASSWORD), "{printed}");
        }
    }
}
