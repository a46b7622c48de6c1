//! The rules of the whole room, between real listeners.

mod damage;
mod questions;
mod strangers;
mod trouble;

use super::metrics::Kind;
use super::testing::*;
use super::wire::Asking;
use super::*;
use crate::actors::Elsewhere;

fn asking() -> String {
    serde_json::to_string(&Asking { partition: Partition(0), question: question() }).unwrap()
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
