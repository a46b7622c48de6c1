//! Tests that do not run, for want of something.

use std::io::{self, Write};

/// Where this is set nothing may be missing.
pub(crate) const CI: &str = "CI";
/// Where this is set, what only root may do is possible.
const PRIVILEGED: &str = "CORDON_TEST_PRIVILEGED";

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|it| !["", "0", "false"].contains(&&*it))
}

/// Says that the test of this thread does not run, or not all of it, and `how` it would; fails it if one
/// of the variables `required` is set.
pub(crate) fn skip(reason: &str, how: &str, required: &[&str]) {
    let has_to = required.iter().any(|name| is_set(name));
    assert!(!has_to, "this test has to run here: {reason}\n  {how}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`: what a passing test prints is kept from people.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {}\n  {how}", reason.trim_end());
}

/// The same for what only root may do.
pub(crate) fn skip_without_root(reason: &str, how: &str) {
    skip(reason, how, &[PRIVILEGED]);
}
