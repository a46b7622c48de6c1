//! TLS in both directions: each node shows a certificate of the cluster's own authority, and takes
//! no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The files of a node's TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the cluster's authority. Whoever shows a certificate of it counts as a
    /// node, so it signs nothing but nodes.
    pub ca: PathBuf,
    /// The node's certificate and what leads to the authority: for servers and clients, and for the
    /// host that the node is reached at.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// Why TLS between nodes cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or no PEM of the right kind.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The certificates and the key do not fit together.
    #[error("the certificates of this node cannot be used")]
    Unusable(#[from] rustls::Error),
    /// The authority's certificates cannot check other nodes.
    #[error("the authority's certificates cannot be used")]
    Authority(#[from] VerifierBuilderError),
}

struct Files {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// TLS for calls to other nodes. Errors: [`TlsError`].
pub(super) fn for_calls(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let Files { roots, chain, key } = read(tls)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS for the listener. Errors: [`TlsError`].
pub(super) fn for_listener(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let Files { roots, chain, key } = read(tls)?;
    let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    Ok(ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(nodes)
        .with_single_cert(chain, key)?)
}

/// Named, because what rustls would pick by itself depends on the features of other packages.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(tls: &Tls) -> Result<Files, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&tls.ca)? {
        roots.add(root)?;
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|source| TlsError::File { path: tls.key.clone(), source })?;
    Ok(Files { roots, chain: certificates(&tls.certificate)?, key })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::File { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}
