//! HTTP/1.1 as far as the tests need it, on a plain socket: both ends of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{DEADLINE, description};

/// The first line of a request or an answer, its headers (names in lower case), its body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The value of the header `name`, written in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the next message; none at the end of the stream.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut message =
            Self { first: first.trim_end().to_owned(), headers: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            message.headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = message.header("content-length").map_or(Ok(0), str::parse);
        message.body = vec![0; length.map_err(|_| ErrorKind::InvalidData)?];
        stream.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).and_then(|text| text.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {}", self.first))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The value of each sample whose line begins with `name`, by the text between the braces.
    pub(crate) fn samples(&self, name: &str) -> BTreeMap<String, f64> {
        let sample = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let labels = labels.trim_matches(['{', '}']).to_owned();
            Some((labels, value.parse().expect("a sample has a number")))
        };
        self.text().lines().filter_map(sample).collect()
    }
}

/// One connection to a server, kept open.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::open_within(address, DEADLINE)
    }

    /// A connection on which nothing is waited for longer than `patience`.
    pub(crate) fn open_within(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request to a public listener and waits for its answer, which has to be as described.
    pub(crate) fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<Message> {
        self.ask_with(method, target, "", body)
    }

    /// The same with more lines in the head, each with its end.
    pub(crate) fn ask_with(
        &mut self,
        method: &str,
        target: &str,
        lines: &str,
        body: &[u8],
    ) -> io::Result<Message> {
        self.request(method, target, lines, body)?;
        self.receive_answer(target)
    }

    fn request(&mut self, method: &str, target: &str, lines: &str, body: &[u8]) -> io::Result<()> {
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: cordon\r\n{lines}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(&request)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Everything that comes until the other end closes.
    pub(crate) fn receive_all(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Waits for a public listener's answer to a request of `target`, which has to be as described.
    pub(crate) fn receive_answer(&mut self, target: &str) -> io::Result<Message> {
        let answer = self.receive()?;
        // Another status is what an HTTP server says of itself, for example while it stops.
        if answer.status() == 200 {
            description::check(target, &answer);
        }
        Ok(answer)
    }

    /// Waits for the next message, whatever it is.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        Message::read(&mut self.stream)?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

/// Asks a listener for operators once, on a connection of its own.
pub(crate) fn ask_once(address: SocketAddr, method: &str, target: &str) -> io::Result<Message> {
    let mut connection = Connection::open(address)?;
    connection.request(method, target, "", b"")?;
    connection.receive()
}
