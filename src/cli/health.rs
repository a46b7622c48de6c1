//! `cordon health`: asks a node on this machine how it is, for containers that have no other tool.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::arguments::HealthArgs;
use crate::config::Environment;

/// How long the node may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

pub(super) fn health(
    args: &HealthArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let config = args.settings.load(environment)?;
    let address = config.server.ops_listen.from_here();
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer =
        ask(address.as_str(), path).with_context(|| format!("no answer from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        bail!("{}", body.trim());
    }
    writeln!(out, "{}", body.trim())?;
    Ok(())
}

fn ask(address: &str, path: &str) -> Result<String> {
    let resolved = address.to_socket_addrs()?.next().context("it is no address")?;
    let mut stream = TcpStream::connect_timeout(&resolved, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
