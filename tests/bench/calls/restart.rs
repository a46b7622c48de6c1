//! What comes back, how soon, and what users cost who are not in memory.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::load::{self, Request};
use super::server::Server;
use super::table::Table;
use super::work::{Ring, Work, Writer};

/// Acknowledged blocks that are looked up again.
const KEPT: u64 = 20_000;
const CONNECTIONS: usize = 128;
const COLD: Duration = Duration::from_secs(3);

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Kills the server, and measures its way back over the same folder.
pub(super) fn measure(table: &mut Table, server: Server, dir: &Path, ring: Ring, asked: &Writer) {
    let last = asked.blocks();
    server.kill();
    let server = Server::cordon(dir, &[]);
    table.tell("ready after SIGKILL", ms(server.ready), "ms");
    let mut kept = Writer::looking_up(ring, last.saturating_sub(KEPT));
    let looked = load::run(&server.door, CONNECTIONS, None, |request: &mut Request| {
        kept.blocks() < last && kept.look_up(request)
    });
    table.tell("acknowledged blocks looked up, none of them missing", looked.calls as f64, "");
    drop(server);

    // Every account once, so that all are in memory; next to no cache, or it would be counted as theirs.
    let server = Server::cordon(dir, &[("CORDON_STORE_CACHE_BYTES", "1MiB")]);
    let before = server.resident_bytes();
    let mut lists = Writer::new(ring, true);
    let mut left = ring.accounts;
    load::run(&server.door, CONNECTIONS, None, |request: &mut Request| {
        left = left.saturating_sub(1);
        left > 0 && lists.write(Work::List, request)
    });
    let each = server.resident_bytes().saturating_sub(before) / ring.accounts;
    table.tell("memory of a user with 30 friends and 10 blocks or more", each as f64, "bytes");
    drop(server);

    // Next to nobody stays in memory.
    let few = [("CORDON_ACTORS_RESIDENT_USERS_MAX", "1000"), ("CORDON_STORE_CACHE_BYTES", "1MiB")];
    let server = Server::cordon(dir, &few);
    let mut writer = Writer::new(ring, true);
    let cold = load::run(&server.door, CONNECTIONS, Some(COLD), |request: &mut Request| {
        writer.write(Work::Check, request)
    });
    table.tell("checks of pairs that are not in memory", cold.rate(), "per second");
    drop(server);

    // The journal is the only truth: without the state, all of it is read.
    let began = Instant::now();
    let verify = Command::new(env!("CARGO_BIN_EXE_cordon"))
        .args(["verify", "--json", "--data-dir"])
        .arg(dir)
        .output()
        .expect("it runs");
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&verify.stdout);
    assert!(verify.status.success(), "{text}");
    let report: serde_json::Value =
        text.lines().find_map(|line| serde_json::from_str(line).ok()).expect("verify prints JSON");
    let records = report["records"].as_f64().unwrap_or(f64::NAN);
    table.tell("records of the journal", records, "");
    table.tell("records verified", records / took.as_secs_f64(), "per second");
    std::fs::remove_dir_all(dir.join("state")).expect("the state is there");
    let server = Server::cordon(dir, &[]);
    table.tell(
        "records replayed into an empty state",
        records / server.ready.as_secs_f64(),
        "per second",
    );
}
