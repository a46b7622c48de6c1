//! One call of a running node's API, by an admin of an app.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::arguments::NodeArgs;
use super::exchange::{Request, exchange};
use crate::clock::Clock;
use crate::usersig;

/// How long the node may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the UserSig of a call is valid, in seconds.
const EXPIRE_S: u64 = 300;

/// Calls `command`, for example `webhook/replay_start`. Answers what the node says if it is done.
pub(super) fn call(node: &NodeArgs, command: &str, body: &Value) -> Result<Value> {
    let NodeArgs { url, app, key, admin } = node;
    let host = host(url)?;
    let now_s = Clock::system().now().seconds();
    let usersig = usersig::sign(*app, key, admin.as_str(), EXPIRE_S, now_s);
    let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let target = format!(
        "/v4/{command}?sdkappid={app}&identifier={}&usersig={}&random=1&contenttype=json",
        escaped(admin.as_str()),
        escaped(&usersig),
    );
    let body = body.to_string();
    let request = Request { host, target: &target, body: Some(&body), patience: PATIENCE };
    let answer = exchange(&request)?;
    if !answer.is_ok() {
        bail!("{host} answers {}: is it the address of a node's API?", answer.status_line());
    }
    let no_node =
        || format!("{host} does not answer as a node does: is it the address of its API?");
    let answer: Value = serde_json::from_str(&answer.body).with_context(no_node)?;
    match answer["ErrorCode"].as_u64() {
        Some(0) => Ok(answer),
        Some(code) => {
            bail!("{command} is refused: {code} {}", answer["ErrorInfo"].as_str().unwrap_or(""))
        }
        None => bail!(no_node()),
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
