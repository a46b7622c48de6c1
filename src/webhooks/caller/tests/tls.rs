//! Who is called over TLS, and who calls.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::*;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn roots(name: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(name)).expect("a root")).expect("a root");
    roots
}

/// Serves one TLS connection, answers one request, and hands back what it read. Clients have to show
/// a certificate of `clients`, if that is given.
fn serve_tls(listener: &TcpListener, clients: Option<&str>) -> std::io::Result<Vec<u8>> {
    let certificate = CertificateDer::from_pem_file(fixture("receiver.pem")).expect("one");
    let key = PrivateKeyDer::from_pem_file(fixture("receiver.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the versions of the provider");
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(roots(ca));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let config = config.with_single_cert(vec![certificate], key).expect("they go together");
    let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
    let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
    let request = read_request(&mut stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
    stream.flush()?;
    Ok(request)
}

async fn call_over_tls(
    roots: RootCertStore,
    clients: Option<&'static str>,
    shown: Option<&str>,
) -> (Outcome, std::io::Result<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/im", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || serve_tls(&listener, clients));
    let certificate = shown.map(|name| {
        let files = [format!("{name}.pem"), format!("{name}.key")].map(|file| fixture(&file));
        Certificate::load(&files[0], &files[1]).expect("they go together")
    });
    let tls = Tls::with_roots(roots).expect("TLS");
    let subscription = Subscription { certificate, ..subscription(&url) };
    let outcome = attempt(&Caller::new(&subscription, bounds(), 4, Some(&tls))).await;
    (outcome, server.join().expect("the server does not panic"))
}

#[actix_web::test]
async fn a_receiver_with_a_trusted_certificate_is_called_over_https() {
    let (outcome, request) = call_over_tls(roots("ca.pem"), None, None).await;
    assert_eq!(outcome, Outcome::Delivered);
    let request = String::from_utf8(request.expect("a request")).expect("text");
    assert!(request.starts_with("POST /im?SdkAppid=1400000001&"), "{request}");
    assert!(request.contains(" HTTP/1.1\r\n"), "{request}");
}

#[actix_web::test]
async fn a_receiver_with_an_unknown_certificate_is_told_nothing() {
    let (outcome, request) = call_over_tls(RootCertStore::empty(), None, None).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    assert!(request.is_err(), "{request:?}");
}

#[actix_web::test]
async fn a_receiver_that_asks_who_calls_is_shown_the_certificate() {
    let (outcome, _) = call_over_tls(roots("ca.pem"), Some("nodes-ca.pem"), Some("node")).await;
    assert_eq!(outcome, Outcome::Delivered);
    for shown in [None, Some("stranger")] {
        let (outcome, request) = call_over_tls(roots("ca.pem"), Some("nodes-ca.pem"), shown).await;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{shown:?}: {outcome:?}");
        assert!(request.is_err(), "{request:?}");
    }
}

#[actix_web::test]
async fn a_receiver_that_speaks_no_tls_is_unreachable_over_https() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("http://", "https://");
    let tls = Tls::with_roots(roots("ca.pem")).expect("TLS");
    let outcome = attempt(&Caller::new(&subscription(&url), bounds(), 4, Some(&tls))).await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    assert_eq!(receiver.heard().len(), 0);
}
