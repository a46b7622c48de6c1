//! The rules of the whole room, between real listeners.

use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;

use super::call::IN_FLIGHT_MAX;
use super::metrics::Kind;
use super::testing::*;
use super::wire::{Asking, BODY_BYTES_MAX};
use super::*;
use crate::actors::{Elsewhere, Executed, ItemError, Standing};
use crate::domain::{AppId, Command, Rejection, Target, UserId, UserKey};
use crate::journal::{Offset, Origin};

fn asking() -> String {
    serde_json::to_string(&Asking { partition: Partition(0), question: question() }).unwrap()
}

#[actix_web::test]
async fn the_owner_answers_a_question() {
    for security in [Security::Plain, key(), tls("nodes", "node")] {
        let node = Node::answering("b", security.clone());
        let caller = Caller::of(security, &node);
        assert_eq!(caller.ask(0).await, Ok(reply(1)));
        let [(partition, asked, patience)] = &node.told.asked()[..] else { panic!("one question") };
        assert_eq!((*partition, asked), (Partition(0), &question()));
        assert!(*patience < PATIENCE && *patience > PATIENCE / 2, "{patience:?}");
        assert_eq!(caller.metrics.forwards(Kind::Ask, "answered"), 1);
        assert_eq!(caller.metrics.in_flight(Kind::Ask), 0);
        node.stop().await;
    }
}

#[actix_web::test]
async fn every_question_and_answer_survives_the_way() {
    let user = |name| UserId::parse(name).unwrap();
    let key = UserKey { app: AppId(7), user: user("amy") };
    let origin = Origin {
        operator: "administrator".into(),
        request: uuid::Uuid::now_v7(),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    };
    let target = |name| Target { user: user(name), imported: true };
    let command = Command::Block { targets: vec![target("bob"), target("carl")] };
    let questions = [
        Question::Execute { key, command: command.into(), origin: origin.into(), call: None },
        Question::Standings { app: AppId(7), pairs: vec![(user("amy"), user("bob"))] },
        question(),
    ];
    let rejected = Rejection::BlocklistFull;
    let answers = [
        Ok(Reply::Executed(Executed {
            outcomes: vec![Ok(()), Err(ItemError::Owed), Err(ItemError::Rejected(rejected))],
            position: Some((Partition(1), Offset(9))),
            sent_at: None,
        })),
        Ok(Reply::Standings(vec![Standing { blocks: true, ..Standing::default() }])),
        Ok(reply(3)),
        Err(ExecuteError::Rejected(rejected)),
        Err(ExecuteError::Overloaded),
        Err(ExecuteError::TimedOut),
        Err(ExecuteError::Unavailable),
        Err(ExecuteError::Interrupted),
    ];
    let said = answers.clone();
    let at = std::sync::atomic::AtomicUsize::new(0);
    let node = Node::start("b", Security::Plain, move |_, _| {
        Reaction::Say(said[at.fetch_add(1, Ordering::Relaxed) % said.len()].clone())
    });
    let caller = Caller::of(Security::Plain, &node);
    for answer in answers {
        assert_eq!(caller.ask(0).await, answer);
    }
    for question in questions {
        let _ = caller.peers.ask(Partition(0), question.clone(), PATIENCE).await;
        assert_eq!(node.told.asked().last().unwrap().1, question);
    }
}

#[actix_web::test]
async fn who_does_not_own_the_partition_names_the_owner() {
    let owner = Node::answering("c", key());
    let other = Node::start("b", key(), |_, _| Reaction::Say(Err(ExecuteError::Elsewhere)));
    let caller = Caller::of(key(), &other);
    // Nobody else was heard of; and the node itself, who has just said no, is no hint.
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    other.routes.note(Partition(0), other.owner(2));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    assert_eq!(caller.routes.owner(Partition(0)), Some(other.owner(1)));

    other.routes.note(Partition(0), owner.owner(3));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    assert_eq!(caller.routes.owner(Partition(0)), Some(owner.owner(3)));
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
    assert_eq!(caller.metrics.forwards(Kind::Ask, "elsewhere"), 3);

    // What is older than what is known changes nothing.
    caller.routes.note(Partition(0), other.owner(4));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    assert_eq!(caller.routes.owner(Partition(0)), Some(other.owner(4)));
}

#[actix_web::test]
async fn a_node_calls_neither_itself_nor_nobody() {
    let caller = Caller::start(Security::Plain);
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    let itself = Node::answering("a", Security::Plain);
    caller.routes.note(Partition(0), itself.owner(1));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    caller.peers.send(message(0, 1));
    caller.peers.send(message(1, 1));
    assert_eq!(caller.metrics.drops("no_owner"), 2);
    // Nor is an address called that is none.
    let mut nowhere = itself.owner(1);
    nowhere.node = "b".into();
    nowhere.address = "b c:1/x".into();
    caller.routes.note(Partition(2), nowhere);
    assert_eq!(caller.ask(2).await, Err(ExecuteError::Elsewhere));
    assert!(itself.told.asked().is_empty());
}

#[actix_web::test]
async fn an_address_that_went_to_another_node_is_not_taken_for_the_old_one() {
    let node = Node::answering("c", Security::Plain);
    let caller = Caller::start(Security::Plain);
    caller.routes.note(Partition(0), owner("b", node.address, 1));
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    assert_eq!(node.metrics.refusals("misdirected"), 1);
}

#[actix_web::test]
async fn calls_that_are_not_of_the_form_are_refused() {
    let node = Node::answering("b", Security::Plain);
    let body = asking();
    assert_eq!(send_raw(node.address, request(&[], &body)).await.0, 200);
    assert_eq!(send_raw(node.address, request(&[("x-cordon-hops", "2")], &body)).await.0, 200);
    assert_eq!(send_raw(node.address, request(&[("x-cordon-hops", "3")], &body)).await.0, 508);
    for (header, value) in [
        ("x-cordon-hops", ""),
        ("x-cordon-hops", "-1"),
        ("x-cordon-deadline-ms", ""),
        ("x-cordon-deadline-ms", "soon"),
        ("x-cordon-to", ""),
    ] {
        let answer = send_raw(node.address, request(&[(header, value)], &body)).await;
        assert_eq!(answer.0, 400, "{header}: {value}");
    }
    for body in ["", "{}", "[]", "{\"partition\":0,\"question\":{\"ask\":\"what\"}}"] {
        assert_eq!(send_raw(node.address, request(&[], body)).await.0, 400, "{body}");
    }
    assert_eq!(node.told.asked().len(), 2);
    assert_eq!(node.metrics.refusals("hops"), 1);
    let ping = b"GET /internal/v1/ping HTTP/1.1\r\nhost: b\r\n\r\n".to_vec();
    assert_eq!(send_raw(node.address, ping).await.0, 200);
}

#[actix_web::test]
async fn a_question_is_over_at_its_deadline() {
    let node = Node::start("b", Security::Plain, |_, _| Reaction::Never);
    let caller = Caller::of(Security::Plain, &node);
    let began = Instant::now();
    // The owner tells it itself, because its deadline comes a little before the asker's.
    let answer = caller.ask_for(0, Duration::from_millis(400)).await;
    assert!(
        matches!(answer, Err(ExecuteError::TimedOut | ExecuteError::Interrupted)),
        "{answer:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());

    // One that never says a word.
    let raw = Raw::bind();
    caller.routes.note(Partition(1), owner("c", raw.address, 1));
    let answer = caller.ask_for(1, Duration::from_millis(200)).await;
    assert_eq!(answer, Err(ExecuteError::Interrupted));
    assert_eq!(caller.ask_for(1, Duration::ZERO).await, Err(ExecuteError::Elsewhere));
    assert!(caller.metrics.forwards(Kind::Ask, "timed_out") >= 1);
}

#[actix_web::test]
async fn a_connection_that_breaks_after_the_question_leaves_it_open() {
    let raw = Raw::bind();
    let caller = Caller::start(Security::Plain);
    caller.routes.note(Partition(0), owner("b", raw.address, 1));
    let asked = actix_web::rt::spawn(caller.ask(0));
    drop(raw.accept().await);
    assert_eq!(asked.await.unwrap(), Err(ExecuteError::Interrupted));
    // An answer that nobody can read does so, too.
    for text in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 500 X\r\n\r\n",
        "x",
    ] {
        let asked = actix_web::rt::spawn(caller.ask(0));
        let (mut stream, _) = raw.accept().await;
        stream.write_all(text.as_bytes()).unwrap();
        drop(stream);
        assert_eq!(asked.await.unwrap(), Err(ExecuteError::Interrupted), "{text}");
    }
}

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
    assert_eq!(node.metrics.refusals("stranger"), 2);
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
    let ca = include_bytes!("../../../tests/fixtures/tls/nodes-ca.pem");
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

#[actix_web::test]
async fn bodies_that_are_too_long_are_refused_in_both_directions() {
    let node = Node::answering("b", Security::Plain);
    let too_long = (BODY_BYTES_MAX + 1).to_string();
    let answer = send_raw(node.address, request(&[("content-length", &too_long)], "")).await;
    assert_eq!(answer.0, 413);
    let chunked = request(&[("content-length", ""), ("transfer-encoding", "chunked")], "0\r\n\r\n");
    assert_eq!(send_raw(node.address, chunked).await.0, 400);

    let caller = Caller::of(Security::Plain, &node);
    let amy = UserId::parse("amy").unwrap();
    let pairs = vec![(amy, amy); BODY_BYTES_MAX / 10];
    let question = Question::Standings { app: AppId(1), pairs };
    let answer = caller.peers.ask(Partition(0), question, PATIENCE).await;
    assert_eq!(answer, Err(ExecuteError::Overloaded));
    assert!(node.told.asked().is_empty());

    let raw = Raw::bind();
    caller.routes.note(Partition(1), owner("c", raw.address, 1));
    let asked = actix_web::rt::spawn(caller.ask(1));
    let (mut stream, _) = raw.accept().await;
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {too_long}\r\n\r\n").unwrap();
    beside(move || {
        // It may hang up before all is written.
        let _ = stream.write_all(&vec![b' '; BODY_BYTES_MAX + 1]);
    })
    .await;
    assert_eq!(asked.await.unwrap(), Err(ExecuteError::Interrupted));

    // An answer that is too long is not sent; what was done stays done.
    let node = Node::start("d", Security::Plain, |_, _| {
        Reaction::Say(Ok(Reply::Standings(vec![Standing::default(); BODY_BYTES_MAX / 10])))
    });
    caller.routes.note(Partition(2), node.owner(1));
    assert_eq!(caller.ask(2).await, Err(ExecuteError::TimedOut));
}

#[actix_web::test]
async fn a_peer_that_hangs_holds_nobody_else() {
    let (hanging, node) = (Raw::bind(), Node::answering("b", Security::Plain));
    let caller = Caller::of(Security::Plain, &node);
    caller.routes.note(Partition(1), owner("c", hanging.address, 1));
    let asked: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| actix_web::rt::spawn(caller.ask(1))).collect();
    until("all are under way", || caller.metrics.in_flight(Kind::Ask) == IN_FLIGHT_MAX as i64)
        .await;
    assert_eq!(caller.ask(1).await, Err(ExecuteError::Overloaded));
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
    caller.peers.send(message(1, 1));
    caller.peers.send(message(0, 1));
    until("the message arrives", || !node.told.heard().is_empty()).await;
    // All end as the peer does.
    drop(hanging);
    for answer in join_all(asked).await {
        let answer = answer.unwrap();
        assert!(answer.is_err(), "{answer:?}");
    }
    until("nothing is under way", || caller.metrics.in_flight(Kind::Ask) == 0).await;
}

#[actix_web::test]
async fn a_peer_that_is_down_is_left_in_peace_and_found_again_on_its_address() {
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    let node = Node::on(place, "b", key(), |_, _| Reaction::Say(Ok(reply(1))));
    let caller = Caller::of(key(), &node);
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
    node.stop().await;
    until("the breaker opens", || {
        actix_web::rt::spawn(caller.ask(0));
        caller.metrics.forwards(Kind::Ask, "paused") > 0
    })
    .await;
    assert_eq!(caller.ask(0).await, Err(ExecuteError::Elsewhere));
    // Messages do not wait for better times: their channels send them again.
    caller.peers.send(message(0, 1));
    until("the message is dropped", || {
        caller.metrics.drops("paused") + caller.metrics.drops("unanswered") == 1
    })
    .await;

    let place = TcpListener::bind(address).unwrap();
    let node = Node::on(place, "b", key(), |_, _| Reaction::Say(Ok(reply(2))));
    let began = Instant::now();
    while caller.ask(0).await != Ok(reply(2)) {
        assert!(began.elapsed() < DEADLINE, "it is not found again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(caller.ask(0).await, Ok(reply(2)));
    caller.peers.send(message(0, 2));
    until("messages arrive again", || node.told.heard() == [message(0, 2)]).await;
}

#[actix_web::test]
async fn what_is_sent_while_a_call_is_under_way_goes_into_the_next_in_order() {
    let node = Node::answering("b", key());
    let caller = Caller::of(key(), &node);
    caller.routes.note(Partition(1), node.owner(1));
    node.told.close(true);
    caller.peers.send(message(0, 0));
    until("the first arrives at once", || node.told.heard().len() == 1).await;
    for number in 1..=500 {
        caller.peers.send(message((number % 2) as u16, number));
    }
    node.told.close(false);
    until("all arrive", || node.told.heard().len() == 501).await;
    let numbers: Vec<u64> = node.told.heard().iter().map(number).collect();
    assert_eq!(numbers, (0..=500).collect::<Vec<_>>());
    let calls =
        || ["answered", "timed_out"].map(|outcome| caller.metrics.forwards(Kind::Pairing, outcome));
    until("both calls end", || calls().iter().sum::<u64>() == 2).await;
}

#[actix_web::test]
async fn messages_to_a_node_that_does_not_own_them_bring_back_the_owner() {
    let (node, owner) = (Node::answering("b", key()), Node::answering("c", key()));
    let caller = Caller::of(key(), &node);
    caller.routes.note(Partition(1), node.owner(1));
    node.told.own(1);
    node.routes.note(Partition(0), owner.owner(2));
    caller.peers.send(message(0, 1));
    caller.peers.send(message(1, 2));
    until("the owner is known", || caller.routes.owner(Partition(0)) == Some(owner.owner(2))).await;
    until("the other message is taken", || node.told.heard() == [message(1, 2)]).await;
    caller.peers.send(message(0, 3));
    until("the owner hears", || owner.told.heard() == [message(0, 3)]).await;
}

#[actix_web::test]
async fn whoever_stops_waiting_leaves_nothing_behind() {
    let answers = std::sync::Arc::new(AtomicBool::new(false));
    let seen = answers.clone();
    let node = Node::start("b", Security::Plain, move |_, _| {
        if seen.load(Ordering::Relaxed) { Reaction::Say(Ok(reply(1))) } else { Reaction::Never }
    });
    let caller = Caller::of(Security::Plain, &node);
    let asked = actix_web::rt::spawn(caller.ask_for(0, Duration::from_millis(300)));
    until("it is asked", || node.told.asked().len() == 1).await;
    asked.abort();
    until("nothing is under way", || caller.metrics.in_flight(Kind::Ask) == 0).await;
    answers.store(true, Ordering::Relaxed);
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
}
