//! One call of a running node's API, by an admin of an app.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::arguments::NodeArgs;
use crate::usersig;

/// How long the node may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How long the UserSig of a call is valid, in seconds.
const EXPIRE_S: u64 = 300;
/// The port of `http`.
const PORT: u16 = 80;

/// Calls `command`, for example `webhook/replay_start`. Answers what the node says if it is done.
pub(super) fn call(node: &NodeArgs, command: &str, body: &Value) -> Result<Value> {
    let NodeArgs { url, app_id, key, admin } = node;
    let host = host(url)?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now_s = i64::try_from(now_s.as_secs())?;
    let usersig = usersig::sign(*app_id, key, admin.as_str(), EXPIRE_S, now_s);
    let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let target = format!(
        "/v4/{command}?sdkappid={app_id}&identifier={}&usersig={}&random=1&contenttype=json",
        escaped(admin.as_str()),
        escaped(&usersig),
    );
    let answer =
        ask(host, &target, &body.to_string()).with_context(|| format!("no answer from {host}"))?;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        bail!("{host} answers {}", head.lines().next().unwrap_or_default());
    }
    let answer: Value = serde_json::from_str(text)
        .with_context(|| format!("what {host} answers is not what a node answers"))?;
    match answer["ErrorCode"].as_u64() {
        Some(0) => Ok(answer),
        Some(code) => {
            bail!("{command} is refused: {code} {}", answer["ErrorInfo"].as_str().unwrap_or(""))
        }
        None => bail!("what {host} answers is not what a node answers"),
    }
}

/// Host and port of a node's address.
fn host(url: &str) -> Result<&str> {
    let Some(host) = url.strip_prefix("http://") else {
        bail!("--url has to begin with http://: a node speaks plain HTTP");
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        bail!("--url is the address of a node, like http://127.0.0.1:8080");
    }
    Ok(host)
}

fn ask(host: &str, target: &str, body: &str) -> Result<String> {
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_socket_addrs()?.next()
    } else {
        (host, PORT).to_socket_addrs()?.next()
    };
    let mut stream = TcpStream::connect_timeout(&address.context("it is no address")?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_node_is_reached_at_a_host_and_over_plain_http() {
        assert_eq!(host("http://127.0.0.1:8080").expect("a node"), "127.0.0.1:8080");
        assert_eq!(host("http://node/").expect("a node"), "node");
        for url in ["https://node", "node:80", "http://", "http://a@b", "http://node/v4"] {
            assert!(host(url).is_err(), "{url}");
        }
    }
}
