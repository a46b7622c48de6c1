//! One HTTP exchange with a node: as little of HTTP as it takes.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// The port of a host that is named without one.
const PORT: u16 = 80;

/// A request to a node.
pub(super) struct Request<'a> {
    /// The node, as `host:port` or `host`.
    pub(super) host: &'a str,
    /// The path, and the query if there is one.
    pub(super) target: &'a str,
    /// JSON to post; without it, the request is a GET.
    pub(super) body: Option<&'a str>,
    /// How long each step may take: connecting, writing, reading.
    pub(super) patience: Duration,
}

/// What the node answers.
pub(super) struct Answer {
    head: String,
    /// The body.
    pub(super) body: String,
}

impl Answer {
    /// Whether the status is 200.
    pub(super) fn is_ok(&self) -> bool {
        self.head.split(' ').nth(1) == Some("200")
    }

    /// The first line, like `HTTP/1.1 503 Service Unavailable`.
    pub(super) fn status_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// Sends `request` and waits for the answer. Errors: nobody answers in time, or it is not text.
pub(super) fn exchange(request: &Request<'_>) -> Result<Answer> {
    ask(request).with_context(|| format!("no answer from {}", request.host))
}

fn ask(request: &Request<'_>) -> Result<Answer> {
    let Request { host, target, body, patience } = *request;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let mut addresses = match has_port {
        true => host.to_socket_addrs()?,
        false => (host, PORT).to_socket_addrs()?,
    };
    let address = addresses.next().context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let head = format!("{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    match body {
        None => write!(stream, "GET {head}\r\n")?,
        Some(body) => write!(
            stream,
            "POST {head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?,
    }
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok(Answer { head: head.to_owned(), body: body.to_owned() })
}
