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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a server hears of `body`, and what is made of its `answer`.
    fn exchanged(body: Option<&str>, answer: &'static str) -> (String, Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut heard = Vec::new();
            let mut byte = [0];
            while !heard.ends_with(b"\r\n\r\n") && !heard.ends_with(b"{}") {
                stream.read_exact(&mut byte).expect("a request");
                heard.push(byte[0]);
                if heard.ends_with(b"Content-Length: 2\r\n\r\n") {
                    let mut body = [0; 2];
                    stream.read_exact(&mut body).expect("a body");
                    heard.extend(body);
                }
            }
            stream.write_all(answer.as_bytes()).expect("an answer is taken");
            String::from_utf8(heard).expect("text")
        });
        let request =
            Request { host: &host, target: "/x?y=1", body, patience: Duration::from_secs(15) };
        let answer = exchange(&request).expect("an answer");
        (server.join().expect("the server ends").replace(&host, "HOST"), answer)
    }

    #[test]
    fn a_body_is_posted_and_without_one_it_is_a_get() {
        let (heard, answer) = exchanged(None, "HTTP/1.1 200 OK\r\nA: b\r\n\r\nalive\n");
        assert_eq!(heard, "GET /x?y=1 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n");
        assert!(answer.is_ok());
        assert_eq!(answer.body, "alive\n");
        let (heard, answer) = exchanged(Some("{}"), "HTTP/1.1 503 Busy\r\n\r\n");
        let head = "POST /x?y=1 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n";
        let rest = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(heard, format!("{head}{rest}"));
        assert!(!answer.is_ok());
        assert_eq!((answer.status_line(), answer.body.as_str()), ("HTTP/1.1 503 Busy", ""));
    }
}
