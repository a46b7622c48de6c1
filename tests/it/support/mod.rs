//! What the integration tests share: a real node, a real receiver of webhooks, a plain caller.
//!
//! Everything goes through the doors that users of the product have: HTTP, settings, the command
//! line. Waiting is always for a condition, and ends at a deadline.

mod answer;
mod caller;
mod description;
pub(crate) mod kafka;
pub(crate) mod lan;
mod models;
mod mount;
mod node;
mod process;
mod random;
mod record_schema;
mod setup;
mod skipped;
mod subscriber;
mod unheard;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use answer::Answer;
pub(crate) use caller::{Caller, Identity, names};
pub(crate) use description::{Description, compile, object};
pub(crate) use models::{assert_breaks, assert_holds, bound, faults, operations};
pub(crate) use mount::Mount;
pub(crate) use node::{Stopped, TestNode, audit, block_on, verify};
pub(crate) use process::{STOP_MAX, TestProcess, command};
pub(crate) use random::Random;
pub(crate) use record_schema::record_schema;
pub(crate) use setup::{ADMIN, APP, KEY, NOW_S, Setup};
pub(crate) use skipped::{CI, skip, skip_without_root};
pub(crate) use subscriber::{Heard, Reaction, TestSubscriber};
pub(crate) use unheard::{friends_wanted, keys_of_one_book, outlived, unheard};
pub(crate) use wire::{Connection, ask_once};

/// How long a test waits for what has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How Java runs a broker: small, and quick to start.
const BROKER_JAVA: &[&str] = &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// How often a condition that nothing announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; fails the test at the deadline.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(soon(condition), "it did not happen in time: {what}");
}

/// Waits until `condition` holds, or the deadline has come; answers whether it does.
pub(crate) fn soon(condition: impl FnMut() -> bool) -> bool {
    holds_within(DEADLINE, condition)
}

/// The same with another deadline, for what may take longer.
pub(crate) fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() >= deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}
