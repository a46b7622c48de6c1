//! What is not answered, what is too long, and who is down.

use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;

use super::super::call::IN_FLIGHT_MAX;
use super::super::wire::BODY_BYTES_MAX;
use super::*;
use crate::actors::Standing;
use crate::domain::{AppId, UserId};

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
async fn a_question_to_an_owner_that_hangs_is_over_when_another_one_is_heard_of() {
    let hanging = Node::start("b", Security::Plain, |_, _| Reaction::Never);
    let caller = Caller::of(Security::Plain, &hanging);
    let asked = actix_web::rt::spawn(caller.ask_for(0, DEADLINE * 2));
    until("it is asked", || hanging.told.asked().len() == 1).await;
    let node = Node::answering("c", Security::Plain);
    caller.routes.note(Partition(0), node.owner(2));
    let answer = tokio::time::timeout(DEADLINE, asked).await.expect("it is let go");
    assert_eq!(answer.unwrap(), Err(ExecuteError::Interrupted), "it may have been done");
    assert_eq!(caller.ask(0).await, Ok(reply(1)));
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
