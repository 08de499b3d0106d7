//! Ports that no other test takes.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of this host that nobody has and, in this process, nobody else gets: two that ask the
/// kernel for any free port and let go of it until it is used may be given the same. It is below
/// those of outgoing connections, one of which could take it meanwhile.
pub(crate) fn free_port(host: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).expect("it fits");
    loop {
        let port = 11_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
}
