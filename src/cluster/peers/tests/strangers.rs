//! Who is talked to, and who is not.

use std::io::Write;
use std::net::TcpListener;

use super::*;

#[actix_web::test]
async fn calls_without_the_right_key_are_refused() {
    let node = Node::answering("b", key());
    for security in [Security::Plain, other_key()] {
        let caller = Caller::of(security.clone(), &node);
        let answer = caller.ask(0).await;
        assert!(answer.is_err(), "{answer:?}");
        caller.peers.send(message(0, 1));
        until("the message is refused", || {
            caller.metrics.drops("refused") + caller.metrics.drops("unanswered") == 1
        })
        .await;
    }
    assert_eq!(node.metrics.refusals("stranger"), 4);
    assert!(node.told.asked().is_empty() && node.told.heard().is_empty());
}

#[actix_web::test]
async fn a_signature_is_fresh_within_half_a_minute() {
    let node = Node::answering("b", key());
    let caller = Caller::of(key(), &node);
    for (apart_ms, taken) in [(30_000, true), (-30_000, true), (30_001, false), (-30_001, false)] {
        caller.clock.set(crate::domain::Timestamp(NOW.0 + apart_ms));
        assert_eq!(caller.ask(0).await.is_ok(), taken, "{apart_ms}");
    }
    assert_eq!(node.metrics.refusals("clock"), 2);
}

/// A signed question to node `b`, as it goes over the wire.
async fn signed() -> Vec<u8> {
    let raw = Raw::bind();
    let caller = Caller::start(key());
    caller.routes.note(Partition(0), owner("b", raw.address, 1));
    let asked = actix_web::rt::spawn(caller.ask(0));
    let (_, request) = raw.accept().await;
    asked.abort();
    request
}

#[actix_web::test]
async fn a_call_counts_once_and_for_one_node_only() {
    let (node, other) = (Node::answering("b", key()), Node::answering("c", key()));
    let request = signed().await;
    assert_eq!(send_raw(other.address, request.clone()).await.0, 421);
    assert_eq!(send_raw(node.address, request.clone()).await.0, 200);
    let (status, answer) = send_raw(node.address, request).await;
    assert_eq!(status, 401);
    assert!(!answer.contains("x-cordon-signature"), "{answer}");
    assert_eq!((node.told.asked().len(), other.told.asked().len()), (1, 0));
}

#[actix_web::test]
async fn a_call_that_was_changed_on_the_way_is_refused() {
    let node = Node::answering("b", key());
    let change = |from: &str, to: &str, request: Vec<u8>| {
        let text = String::from_utf8(request).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    };
    for (from, to) in [
        ("\"start\":3", "\"start\":4"),
        ("x-cordon-hops: 1", "x-cordon-hops: 2"),
        ("x-cordon-from: a", "x-cordon-from: c"),
        ("x-cordon-deadline-ms: 9", "x-cordon-deadline-ms: 8"),
        ("/internal/v1/ask", "/internal/v1/ask?"),
        ("x-cordon-nonce: ", "x-cordon-nonce: 0"),
        ("x-cordon-timestamp-ms: 17", "x-cordon-timestamp-ms: 017"),
        ("x-cordon-signature: ", "x-cordon-signature: A"),
    ] {
        let request = change(from, to, signed().await);
        let (status, answer) = send_raw(node.address, request).await;
        assert_eq!(status, 401, "{from}");
        assert!(!answer.contains("x-cordon-signature"), "{answer}");
    }
    assert!(node.told.asked().is_empty());
    assert_eq!(node.metrics.refusals("stranger"), 8);
}

#[actix_web::test]
async fn a_forged_answer_is_none() {
    let raw = Raw::bind();
    let node = Node::answering("b", key());
    let caller = Caller::start(key());
    caller.routes.note(Partition(0), owner("b", raw.address, 1));
    let body = serde_json::to_string(&Ok::<_, ExecuteError>(reply(9))).unwrap();
    // A true answer, but to another call.
    let (_, true_answer) = send_raw(node.address, signed().await).await;
    let mut answers = vec![true_answer];
    // A refusal is believed no more than an answer: nobody knows what became of the call.
    for status in ["200 OK", "401 Unauthorized", "421 Misdirected Request", "503 No"] {
        answers.push(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }
    for answer in answers {
        // One each, so that no breaker opens.
        let caller = Caller::start(key());
        caller.routes.note(Partition(0), owner("b", raw.address, 1));
        let asked = actix_web::rt::spawn(caller.ask(0));
        let (mut stream, _) = raw.accept().await;
        stream.write_all(answer.as_bytes()).unwrap();
        assert_eq!(asked.await.unwrap(), Err(ExecuteError::Interrupted), "{answer}");
        assert_eq!(caller.metrics.forwards(Kind::Ask, "forged"), 1);
    }
    // And one that was changed on the way.
    let asked = actix_web::rt::spawn(caller.ask(0));
    let (mut stream, request) = raw.accept().await;
    let (status, answer) = send_raw(node.address, request).await;
    assert_eq!(status, 200);
    stream.write_all(answer.replace("\"total\":1", "\"total\":2").as_bytes()).unwrap();
    assert_eq!(asked.await.unwrap(), Err(ExecuteError::Interrupted));
    // Unchanged, the same way works, and on the same connection.
    let asked = actix_web::rt::spawn(caller.ask(0));
    let (mut stream, request) = beside(move || {
        let request = read_message(&mut stream);
        (stream, request)
    })
    .await;
    stream.write_all(send_raw(node.address, request).await.1.as_bytes()).unwrap();
    assert_eq!(asked.await.unwrap(), Ok(reply(1)));
}

#[actix_web::test]
async fn without_a_certificate_of_the_authority_nobody_talks() {
    let node = Node::answering("b", tls("nodes", "node"));
    // It trusts the node, but the node does not trust it.
    let stranger = Caller::of(tls("nodes", "stranger"), &node);
    assert!(stranger.ask(0).await.is_err());
    // It does not trust the node, and so sends nothing.
    let distrustful = Caller::of(tls("strangers", "node"), &node);
    assert_eq!(distrustful.ask(0).await, Err(ExecuteError::Elsewhere));
    // It shows no certificate at all, or speaks no TLS.
    assert!(Caller::of(Security::Plain, &node).ask(0).await.is_err());
    assert!(Caller::of(key(), &node).ask(0).await.is_err());
    assert!(node.told.asked().is_empty());
    assert_eq!(Caller::of(tls("nodes", "node"), &node).ask(0).await, Ok(reply(1)));
}

#[actix_web::test]
async fn a_client_that_shows_no_certificate_is_refused() {
    use rustls::pki_types::pem::PemObject;
    let node = Node::answering("b", tls("nodes", "node"));
    let mut roots = rustls::RootCertStore::empty();
    let ca = include_bytes!("../../../../tests/fixtures/tls/nodes-ca.pem");
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = node.address;
    let answer = beside(move || {
        let name = rustls::pki_types::ServerName::from(address.ip());
        let connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let _ = stream.write_all(&request(&[], &asking()));
        read_message(&mut stream)
    })
    .await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert!(node.told.asked().is_empty());
}

#[actix_web::test]
async fn without_key_and_certificates_nodes_talk_on_one_machine_only() {
    let node = Node::answering("b", Security::Plain);
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let settings = Settings { node: "b".into(), security: Security::Plain };
    let (clock, metrics) = (node.clock.clone(), node.metrics.clone());
    let served =
        serve(&settings, everywhere, node.told.clone(), node.routes.clone(), clock, metrics);
    let error = served.err().expect("it is refused").to_string();
    for setting in ["node.secret", "node.tls_ca_file", "node.listen"] {
        assert!(error.contains(setting), "{error}");
    }
    // Nor is a node called that is elsewhere.
    let caller = Caller::start(Security::Plain);
    caller.routes.note(Partition(0), owner("b", "192.0.2.1:7000".parse().unwrap(), 1));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    caller.peers.send(message(0, 1));
    assert_eq!(caller.metrics.drops("no_owner"), 1);
    assert_eq!(caller.metrics.forwards(Kind::Ask, "unreachable"), 0);
}

#[actix_web::test]
async fn with_a_key_a_listener_may_be_reached_from_everywhere() {
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let node = Node::on(everywhere, "b", key(), |_, _| Reaction::Say(Ok(reply(1))));
    let caller = Caller::start(key());
    let address = format!("127.0.0.1:{}", node.address.port()).parse().unwrap();
    caller.routes.note(Partition(0), owner("b", address, 1));
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
}

#[test]
fn files_that_are_no_certificates_and_names_that_are_none_are_told() {
    let start = |node: &str, security| {
        let routes = std::sync::Arc::new(crate::cluster::Routes::new(1));
        let settings = Settings { node: node.into(), security };
        Peers::start(&settings, routes, crate::clock::Clock::system(), Metrics::default())
            .err()
            .expect("it is refused")
    };
    for security in [tls("no", "node"), tls("nodes", "no")] {
        let error = start("a", security);
        assert!(matches!(error, PeersError::Tls(TlsError::File { .. })), "{error:?}");
    }
    for name in ["", "a b", "a\n", "ä"] {
        assert!(matches!(start(name, Security::Plain), PeersError::Name(_)), "{name}");
    }
}
