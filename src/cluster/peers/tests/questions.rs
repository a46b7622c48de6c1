//! Questions and answers: who is asked, and what survives the way.

use std::sync::atomic::Ordering;

use super::*;
use crate::actors::{Executed, ItemError, Standing};
use crate::domain::{AppId, Command, Rejection, Target, UserId, UserKey};
use crate::journal::{Offset, Origin};

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
            groups_sequence: Some(3),
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
