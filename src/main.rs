//! The `quorate` binary: parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::run(std::env::args_os())
}
