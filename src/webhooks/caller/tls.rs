//! TLS of calls: the system's roots, and the certificate that an app shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// Why no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The ring provider and the protocol versions do not fit together.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
    /// This system has no certificate that an `https` subscriber could be checked against.
    #[error("this system has no root certificates: {0}")]
    NoRoots(String),
}

/// TLS as calls over `https` use it.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// The ring provider and the system's root certificates. Errors: [`TlsError`].
    pub fn system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoRoots(reasons.join("; ")));
        }
        Self::with_roots(roots)
    }

    /// As [`Self::system`], read once in a process: it takes a while, during which the thread does nothing
    /// else. A system without roots is asked again.
    pub fn kept() -> Result<Self, TlsError> {
        static KEPT: OnceLock<Tls> = OnceLock::new();
        if let Some(tls) = KEPT.get() {
            return Ok(tls.clone());
        }
        let read = Self::system()?;
        Ok(KEPT.get_or_init(|| read).clone())
    }

    /// The same with other root certificates. Errors: [`TlsError::Setup`].
    pub fn with_roots(roots: RootCertStore) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// What a client is made with that shows `certificate`, if there is one.
    pub(super) fn config(&self, certificate: Option<&Certificate>) -> Arc<ClientConfig> {
        let Some(Certificate(shown)) = certificate else { return Arc::clone(&self.0) };
        let mut config = ClientConfig::clone(&self.0);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(shown)));
        // A session that was begun under another name is not resumed.
        config.resumption = Resumption::default();
        Arc::new(config)
    }
}

/// Named, because what rustls would pick by itself depends on which features the other packages of
/// the build switch on, and it panics when they switch on two.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing or no PEM of the right kind.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The certificate and the key do not fit together.
    #[error("the certificate and its key do not go together")]
    Unusable(#[from] rustls::Error),
}

/// A certificate that is shown to receivers, with its private key. The key is never printed.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// Reads the PEM files of a certificate, with what leads to its authority behind it, and of its
    /// private key. Errors: [`CertificateError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let unreadable = |path: &Path, source| {
            let path = path.to_owned();
            CertificateError::File { path, source }
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|source| unreadable(certificate, source))?;
        if chain.is_empty() {
            return Err(unreadable(certificate, pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| unreadable(key, source))?;
        Ok(Self(Arc::new(CertifiedKey::from_der(chain, key, &provider())?)))
    }
}

impl PartialEq for Certificate {
    /// A certificate has but one key.
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} in the chain)", self.0.cert.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    fn load(certificate: &str, key: &str) -> Result<Certificate, CertificateError> {
        Certificate::load(&fixture(certificate), &fixture(key))
    }

    #[test]
    fn tls_is_set_up_with_the_ring_provider_and_http_1_1() {
        let config = Tls::with_roots(RootCertStore::empty()).expect("TLS").config(None);
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        let suites = |provider: &CryptoProvider| {
            provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        assert_eq!(suites(config.crypto_provider()), suites(&provider()));
        // A slim container has no roots: that is an error to read, not a panic.
        assert!(matches!(Tls::system(), Ok(_) | Err(TlsError::NoRoots(_))));
    }

    #[test]
    fn root_certificates_are_read_once() {
        if let (Ok(first), Ok(second)) = (Tls::kept(), Tls::kept()) {
            assert!(Arc::ptr_eq(&first.0, &second.0));
        }
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_alone() {
        let node = load("node.pem", "node.key").expect("they go together");
        assert_eq!(node, load("node.pem", "node.key").expect("they go together"));
        assert_ne!(node, load("stranger.pem", "stranger.key").expect("they go together"));
        assert_eq!(format!("{node:?}"), "Certificate(1 in the chain)");
        assert!(matches!(load("node.pem", "stranger.key"), Err(CertificateError::Unusable(_))));
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_named() {
        let cases = [
            ("missing.pem", "node.key", "missing.pem"),
            ("node.key", "node.key", "node.key"),
            ("node.pem", "node.pem", "node.pem"),
        ];
        for (certificate, key, named) in cases {
            let error = load(certificate, key).expect_err("it is refused").to_string();
            assert!(error.starts_with("cannot read ") && error.ends_with(named), "{error}");
        }
    }
}
