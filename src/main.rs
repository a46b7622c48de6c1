//! Arguments in, exit code out.

use std::io;
use std::process::ExitCode;

use cordon::{cli, config};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), &config::environment(), &mut io::stdout()).into()
}
