//! Connections of strangers who take their time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use futures_util::future::join_all;

use super::testing::*;
use super::wire::PING;
use super::{Security, tls};

/// A connection of a node, in clear or behind TLS.
fn connect(security: &Security, address: SocketAddr) -> Box<dyn ReadWrite> {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LATE)).expect("an option of a socket");
    let Security::Tls(files) = security else { return Box::new(stream) };
    let host = address.ip().to_string().try_into().expect("an address is a name");
    let config = tls::for_calls(files).expect("the certificates are right");
    let tls = rustls::ClientConnection::new(config, host).expect("TLS begins");
    Box::new(rustls::StreamOwned::new(tls, stream))
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// Long after a head has to be whole.
const LATE: Duration = Duration::from_secs(30);

#[actix_web::test]
async fn whoever_takes_too_long_with_a_further_head_is_let_go() {
    let let_go = [Security::Plain, super::testing::tls("nodes", "node")].map(async |security| {
        let node = Node::answering("b", security.clone());
        let address = node.address;
        let ended = beside(move || {
            let mut stream = connect(&security, address);
            let ping = format!("GET {PING} HTTP/1.1\r\nhost: b\r\n\r\n");
            stream.write_all(ping.as_bytes()).expect("it is sent");
            assert!(read_message(&mut stream).starts_with(b"HTTP/1.1 200"));
            stream.write_all(b"POST /int").expect("it is sent");
            // What is said on the way out does not matter.
            stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
        });
        assert!(!matches!(ended.await, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
        node.stop().await;
    });
    join_all(let_go).await;
}
