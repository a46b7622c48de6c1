//! `cordon health`: asks a node on this machine how it is, for containers that have no other tool.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use super::arguments::HealthArgs;
use super::exchange::{Request, exchange};
use crate::config::Environment;

/// How long the node may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn health(
    args: &HealthArgs,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<()> {
    let config = args.settings.load(environment)?;
    let address = config.server.ops_listen.from_here();
    let target = if args.ready { "/readyz" } else { "/healthz" };
    let host = address.as_str();
    let answer = exchange(&Request { host, target, body: None, patience: PATIENCE })?;
    if !answer.is_ok() {
        bail!("{}", answer.body.trim());
    }
    writeln!(out, "{}", answer.body.trim())?;
    Ok(())
}
