//! The bad disk of the tests of the whole program. Not in a release build.

use std::ffi::OsString;
use std::sync::LazyLock;
use std::{env, fs, io};

const EIO: i32 = 5;

/// Fails `operation` with `EIO` if the file that a variable names lists it. It lists `write`, `sync` and
/// `read` of a segment of the embedded journal, `rows` for reads of the state store, and `create-segment`,
/// `create-settings`, `create-journal` and `create-store` for what begins with them.
pub(crate) fn told_to_fail(operation: &str) -> io::Result<()> {
    static TOLD: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("TEST_DISK_ERRORS"));
    let Some(path) = &*TOLD else { return Ok(()) };
    let told = fs::read_to_string(path).unwrap_or_default();
    let fails = told.split_whitespace().any(|word| word == operation);
    if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
}
