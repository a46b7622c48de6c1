//! Settings that are right one by one and not together.

use super::node::{Kafka, KafkaSecurity};

/// A setting, and what is wrong with it beside the others.
type Wrong = (&'static str, &'static str);

impl Kafka {
    pub(super) fn conflicts(&self) -> Vec<Wrong> {
        let mut conflicts = Vec::new();
        let sasl = matches!(self.security, KafkaSecurity::SaslPlaintext | KafkaSecurity::SaslTls);
        let tls = matches!(self.security, KafkaSecurity::Tls | KafkaSecurity::SaslTls);
        if sasl != (self.sasl_username.is_some() && self.sasl_password.is_some()) {
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
