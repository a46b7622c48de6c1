//! Settings that are right one by one and not together.

use super::node::{Kafka, KafkaSecurity, Node};

/// The shortest key that nodes may share, in bytes.
const SECRET_BYTES_MIN: usize = 32;

/// A setting, and what is wrong with it beside the others.
type Wrong = (&'static str, &'static str);

impl Kafka {
    pub(super) fn faults(&self) -> Vec<Wrong> {
        let mut faults = Vec::new();
        let sasl = matches!(self.security, KafkaSecurity::SaslPlaintext | KafkaSecurity::SaslTls);
        let tls = matches!(self.security, KafkaSecurity::Tls | KafkaSecurity::SaslTls);
        if sasl != (self.sasl_username.is_some() && self.sasl_password.is_some()) {
            let reason = "a name and a password go with the security sasl_plaintext or sasl_tls, and \
                          with no other";
            faults.push(("kafka.sasl_username", reason));
        }
        let files = self.ca_file.is_some() || self.certificate_file.is_some();
        if !tls && (files || self.key_file.is_some()) {
            faults.push(("kafka.ca_file", "certificates go with the security tls or sasl_tls"));
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            faults.push(("kafka.certificate_file", "a certificate and its key go together"));
        }
        if self.replication < 2 && !self.development {
            let reason = "fewer than 2 copies lose acknowledged records with their broker: \
                          kafka.development = true allows it";
            faults.push(("kafka.replication", reason));
        }
        faults
    }
}

impl Node {
    pub(super) fn faults(&self) -> Vec<Wrong> {
        let mut faults = Vec::new();
        let files = [&self.tls_ca_file, &self.tls_certificate_file, &self.tls_key_file];
        let given = files.iter().filter(|file| file.is_some()).count();
        if given > 0 && given < files.len() {
            faults.push((
                "node.tls_ca_file",
                "node.tls_ca_file, node.tls_certificate_file and node.tls_key_file go together",
            ));
        }
        if given > 0 && self.secret.is_some() {
            faults.push(("node.secret", "either certificates or a shared key, not both"));
        }
        if self.secret.as_ref().is_some_and(|secret| secret.reveal().len() < SECRET_BYTES_MIN) {
            faults.push(("node.secret", "it has fewer than 32 bytes"));
        }
        faults
    }
}
