//! Certificates on both sides of a call.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{Certificates, PeersError};

fn wrong(path: &Path, problem: impl std::fmt::Display) -> PeersError {
    PeersError::Certificate { path: path.display().to_string(), problem: problem.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PeersError> {
    let text = fs::read(path).map_err(|error| wrong(path, error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| wrong(path, error))?;
    if found.is_empty() {
        return Err(wrong(path, "there is no certificate in it"));
    }
    Ok(found)
}

/// What one side shows and whom it trusts.
struct Parts {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn parts(files: &Certificates) -> Result<Parts, PeersError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.ca_file)? {
        roots.add(root).map_err(|error| wrong(&files.ca_file, error))?;
    }
    let chain = certificates(&files.certificate_file)?;
    let text = fs::read(&files.key_file).map_err(|error| wrong(&files.key_file, error))?;
    let key =
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(&files.key_file, error))?;
    Ok(Parts { roots, chain, key })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    // Named, because rustls panics when other packages switch two on.
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For calls to other nodes. Errors: [`PeersError::Certificate`], [`PeersError::Tls`].
pub(super) fn client(files: &Certificates) -> Result<Arc<ClientConfig>, PeersError> {
    let Parts { roots, chain, key } = parts(files)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For the listener: whoever calls has to show a certificate of the same signer.
pub(super) fn server(files: &Certificates) -> Result<ServerConfig, PeersError> {
    let Parts { roots, chain, key } = parts(files)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| wrong(&files.ca_file, error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
