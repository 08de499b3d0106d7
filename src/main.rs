//! The `quorate` binary: parse, dispatch, exit code.

use std::process::ExitCode;

/// musl's own is slow for many small pieces.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Its files would be in memory, and nobody would notice before they are missed.
    if cfg!(feature = "simulation") {
        eprintln!("error: this binary is built with the feature `simulation`, which keeps no data");
        eprintln!("  build it without: cargo build --release --locked --bin quorate");
        return ExitCode::FAILURE;
    }
    quorate::cli::run(std::env::args_os())
}
