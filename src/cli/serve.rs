//! `cordon serve`: runs a node in the foreground until it is asked to stop.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{self, Node};
use crate::clock::Clock;
use crate::config::{App, Config};
use crate::usersig;

/// How long the UserSig of the example call is valid, in seconds.
const EXAMPLE_EXPIRE_S: u64 = 86_400;

/// Where Linux tells of a process which signals it ignores.
const STATUS: &str = "/proc/self/status";

/// Runs a node with `config` and prints on `out` where it is reached, until SIGTERM or SIGINT, or
/// SIGHUP: its terminal was closed.
pub(super) fn serve(mut config: Config, out: &mut impl Write) -> Result<()> {
    let development = config.ensure_app()?.cloned();
    actix_web::rt::System::new().block_on(async {
        let mut signals = vec![listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];
        if !ignores_hangup() {
            signals.push(listen(SignalKind::hangup())?);
        }
        let stop = async move {
            select_all(signals.iter_mut().map(|signal| signal.recv().boxed_local())).await;
        };
        let stop = stop.shared();
        let clock = Clock::system();
        let node = Node::start_until(&config, clock.clone(), stop.clone()).await?;
        // Told to stop while it started; it has served nobody.
        if stop.peek().is_none() {
            announce(development, &config, &node, &clock, out).await;
        }
        stop.await;
        tracing::info!("stopping");
        node.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Says where the node is reached; with a development app, also how to call it.
async fn announce(
    development: Option<App>,
    config: &Config,
    node: &Node,
    clock: &Clock,
    out: &mut impl Write,
) {
    if let Some(app) = &development {
        // Without the journal there is nobody to block; then the example is of no use either.
        if let Err(error) = app::import_samples(&node.users, app.id).await {
            tracing::warn!(%error, "the sample accounts could not be imported");
        }
    }
    let mut print = || -> Result<()> {
        writeln!(out, "cordon listens on http://{}", node.address)?;
        if let Some(app) = &development {
            write!(out, "{}", introduction(app, config, node, clock)?)?;
        }
        Ok(out.flush()?)
    };
    // Whoever started it may have gone; its callers have not.
    if let Err(error) = print() {
        tracing::warn!(%error, "where the node listens cannot be printed on standard output");
    }
    tracing::info!(
        http.address = %node.address,
        ops.address = %node.ops_address,
        node.address = node.node_address(),
        "ready"
    );
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot listen for signals")
}

/// Whether whoever started this process wants it to outlive the terminal, as `nohup` does. Listening
/// would take that back.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string(STATUS).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}

/// What a newcomer without settings is told: what was made, and a call to try.
fn introduction(app: &App, config: &Config, node: &Node, clock: &Clock) -> Result<String> {
    let admin = app.admins.first().context("the development app has no admin")?;
    let key = app.keys.first().context("the development app has no key")?;
    let now = clock.now().seconds();
    let signature = usersig::sign(app.id, key.reveal(), admin.as_str(), EXAMPLE_EXPIRE_S, now);
    let [one, other] = app::SAMPLES;
    Ok(format!(
        "\nNo app is configured, so this is a development app, kept in {folder}:\n\
         SDKAppID {id}, admin {admin}, with the accounts {one} and {other}.\n\
         Health and metrics are on http://{ops}.\n\n\
         Let {one} block {other}:\n\n\
         curl -s 'http://{address}/v4/sns/black_list_add?sdkappid={id}&identifier={admin}&usersig={signature}&random=1&contenttype=json' -d '{{\"From_Account\":\"{one}\",\"To_Account\":[\"{other}\"]}}'\n",
        folder = config.server.data_dir.display(),
        id = app.id,
        ops = node.ops_address,
        address = node.address,
    ))
}
