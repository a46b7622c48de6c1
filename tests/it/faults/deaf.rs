//! Callers who ask and ask, and read no answer: what they are owed is kept within bounds, and they are
//! let go.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use actix_web::rt::net::TcpSocket;
use serde_json::json;

use super::slow::{DRIP_EVERY, LAST_MAX, call};
use super::{MIB, ends_well, is_served_quickly, memory};
use crate::support::{Setup, TestProcess, block_on, names};

/// How many there are. More would keep a busy machine from serving the others in time.
const DEAF: usize = 2;

/// What they may cost together, whoever they are.
const BYTES_MAX: u64 = 16 * MIB;

/// As many questions as one read of a server takes.
const BURST_BYTES: usize = 128 << 10;

/// A connection whose receiver's side holds little, so that answers soon find no room.
fn connect_with_little_room(address: SocketAddr) -> TcpStream {
    let connecting = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(address).await?.into_std()
    };
    let stream = block_on(connecting).expect("the node listens");
    stream.set_nonblocking(false).expect("an option of a socket");
    stream
}

/// Asks and asks, and reads no answer, until the other side has had enough.
fn ask_without_listening(address: SocketAddr, questions: &str) {
    let mut stream = connect_with_little_room(address);
    stream.set_write_timeout(Some(LAST_MAX)).expect("an option of a socket");
    let error = loop {
        if let Err(error) = stream.write_all(questions.as_bytes()) {
            break error;
        }
    };
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "nothing more was taken, and it was borne");
}

/// Nobody else is held up, nor is there less room for them, while all of them ask `question` again and
/// again, and they are let go in the end.
#[track_caller]
fn cost_little_and_are_let_go(of: impl Fn(&TestProcess) -> SocketAddr, question: &str) {
    let setup = Setup::new();
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    is_served_quickly(&mut caller);
    let (address, before) = (of(&node), memory(&node));
    let questions = question.repeat(BURST_BYTES.div_ceil(question.len()));
    let mut most = before;
    thread::scope(|scope| {
        let ask = || ask_without_listening(address, &questions);
        let deaf: Vec<_> = (0..DEAF).map(|_| scope.spawn(ask)).collect();
        while deaf.iter().any(|deaf| !deaf.is_finished()) {
            is_served_quickly(&mut caller);
            most = most.max(memory(&node));
            // The pace at which the others ask meanwhile.
            thread::sleep(DRIP_EVERY);
        }
        for deaf in deaf {
            deaf.join().expect("it is let go");
        }
    });
    assert!(most < before + BYTES_MAX, "{} MiB, then {} MiB", before / MIB, most / MIB);
    ends_well(node, &setup);
}

#[test]
fn callers_who_read_no_answer_cost_little_and_are_let_go() {
    let items = names("nobody", 100).into_iter().map(|name| json!({ "UserID": name }));
    let body = json!({"CheckItem": items.collect::<Vec<_>>()}).to_string();
    let question = call("im_open_login_svc/account_check", &body, body.len());
    cost_little_and_are_let_go(|node| node.address, &question);
}

#[test]
fn strangers_who_read_no_refusal_cost_little_and_are_let_go() {
    cost_little_and_are_let_go(|node| node.address, "GET / HTTP/1.1\nHost:c\n\n");
}

#[test]
fn whoever_reads_no_answer_where_operators_ask_costs_little_and_is_let_go() {
    let metrics = "GET /metrics HTTP/1.1\nHost:c\n\n";
    cost_little_and_are_let_go(TestProcess::ops_address, metrics);
    let health = "GET /healthz HTTP/1.1\nHost:c\n\n";
    cost_little_and_are_let_go(TestProcess::ops_address, health);
}
