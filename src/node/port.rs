//! Listen addresses: from URL to socket, and who sits on one that is taken.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};

use tokio::net::TcpSocket;

use super::barrier::Refused;
use crate::cluster::ExitKind;
use crate::render::NodeConfig;

/// The socket address of a `http://HOST:PORT` URL.
///
/// # Errors
///
/// One line that says what is wrong with it.
pub fn listen_address(url: &str) -> Result<SocketAddr, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!("{url}: only http:// URLs can be served so far; TLS is not built yet")
    })?;
    resolved(rest.trim_end_matches('/')).map_err(|e| format!("{url}: {e}"))
}

/// The socket address of a `HOST:PORT`.
///
/// # Errors
///
/// What is wrong with it.
pub fn resolved(authority: &str) -> Result<SocketAddr, String> {
    let none = "no address to listen on";
    let mut found = authority.to_socket_addrs().map_err(|e| format!("{none} ({e})"))?;
    found.next().ok_or_else(|| none.to_owned())
}

/// Further listen URLs, for metrics: of the setting of that name.
pub const METRICS_URLS: &str = "listen-metrics-urls";

/// The URLs that a node is to serve metrics on, beside the client port.
pub fn metrics_urls(config: &NodeConfig) -> Vec<String> {
    let listed = config.extra.get(METRICS_URLS).into_iter().flat_map(|it| it.split(','));
    listed.filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// Makes sure that every address the engine is to listen on can be had. Addresses that only the
/// engine understands are left to it.
///
/// # Errors
///
/// [`ExitKind::AddressInUse`], naming the holder.
pub fn all_free(config: &NodeConfig) -> Result<(), Refused> {
    let metrics = metrics_urls(config);
    let urls = config.listen_peer_urls.iter().chain(&config.listen_client_urls).chain(&metrics);
    for address in urls.filter_map(|url| listen_address(url).ok()) {
        // Given back at once.
        TcpListener::bind(address).map_err(|error| Refused {
            kind: ExitKind::AddressInUse,
            detail: explain(address, &error),
        })?;
    }
    Ok(())
}

/// How many connections wait to be accepted (that of the standard library).
const BACKLOG: u32 = 1024;

/// Takes an address, without listening on it yet: connections to it are refused.
///
/// # Errors
///
/// As of `bind(2)`.
pub fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former process may still be on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// An address that was had a moment ago and is not any more: until it is listened on, another process
/// may take it as well.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Taken {
    /// The address.
    pub address: SocketAddr,
    /// Why it cannot be listened on, and who had it then.
    why: String,
}

impl From<Taken> for Refused {
    fn from(taken: Taken) -> Refused {
        Refused { kind: ExitKind::AddressInUse, detail: taken.to_string() }
    }
}

/// Lets connections come; they wait until they are served.
///
/// # Errors
///
/// [`Taken`].
pub fn listen(ports: Vec<TcpSocket>) -> Result<Vec<tokio::net::TcpListener>, Taken> {
    let listen = |socket: TcpSocket| {
        let address = socket.local_addr().unwrap_or(SocketAddr::from(([0; 4], 0)));
        socket.listen(BACKLOG).map_err(|error| Taken { address, why: explain(address, &error) })
    };
    ports.into_iter().map(listen).collect()
}

/// Why an address cannot be listened on, naming the process that has it if that can be told.
pub fn explain(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!("cannot listen on {address}: {error}");
    }
    let holder = match holder(address) {
        Some((pid, command)) => format!("pid {pid} ({command}) has it"),
        None => "another process has it".to_owned(),
    };
    format!("{address} is in use: {holder}; stop it, or choose another port")
}

/// The process that listens there, or on the same port of every address: its pid and command.
pub fn holder(address: SocketAddr) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| listening(table, address))
        .collect();
    let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes.flatten().filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| has_socket(*pid, &sockets)).map(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, command.trim().to_owned())
    })
}

/// An address as the kernel's tables print it: each four bytes as one number of the machine.
fn in_table(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    words.fold(String::new(), |text, word| format!("{text}{word:08X}"))
}

fn listening(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.rsplit_once(':')?;
        let is_everywhere = ip.bytes().all(|digit| digit == b'0');
        let is_it = u16::from_str_radix(port, 16) == Ok(address.port())
            && (is_everywhere || ip == in_table(address.ip()))
            && fields.get(3) == Some(&LISTEN);
        is_it.then(|| fields.get(9).map(|s| (*s).to_owned()))?
    };
    text.lines().skip(1).filter_map(inode).collect()
}

fn has_socket(pid: u32, sockets: &[String]) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|link| sockets.iter().any(|s| link.as_os_str() == s.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = std::net::TcpListener::bind(address).unwrap_err();
        let text = explain(address, &error);
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    }

    #[tokio::test]
    async fn a_port_that_was_taken_by_two_is_the_first_ones_to_listen() {
        let any = bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = any.local_addr().unwrap();
        let late = bind(address).unwrap();
        let _first = listen(vec![any]).unwrap();
        let taken = listen(vec![late]).unwrap_err();
        let refused = Refused::from(taken);
        assert_eq!(refused.kind, ExitKind::AddressInUse);
        let pid = format!("{address} is in use: pid {}", std::process::id());
        assert!(refused.detail.starts_with(&pid), "{}", refused.detail);
    }

    #[test]
    fn urls_become_addresses_or_one_clear_line() {
        assert_eq!(listen_address("http://127.0.0.1:2380").unwrap().port(), 2380);
        assert!(listen_address("https://127.0.0.1:2380").unwrap_err().contains("TLS"));
        assert!(listen_address("http://127.0.0.1").is_err());
    }
}
