//! Addresses and ports of this machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};

use super::LocalError;
use crate::cluster::spec::NodePorts;
use crate::cluster::{NodeName, Wanted};

/// The lowest port that is handed out.
const LOWEST: u16 = 10_240;
/// Where the system's own choices for outgoing connections begin, unless it says otherwise.
const OUTGOING: u16 = 32_768;

/// Hands ports to the nodes that have none yet; what is there stays.
///
/// They lie below those that the system gives to outgoing connections: a node that is down for a
/// while must find its ports free. All are held at once while drawing, so that no two nodes get
/// the same one.
///
/// # Errors
///
/// [`LocalError::NoPort`].
pub fn allocate(
    ports: &mut BTreeMap<NodeName, NodePorts>,
    nodes: impl IntoIterator<Item = NodeName>,
) -> Result<(), LocalError> {
    let end = outgoing_from("/proc/sys/net/ipv4/ip_local_port_range").max(LOWEST + 1);
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(LocalError::NoRandomness)?;
    let count = end - LOWEST;
    let begin = u16::from_be_bytes(bytes) % count;
    // Every port once, from somewhere on.
    let mut candidates = (begin..count).chain(0..begin).map(|n| LOWEST + n);
    let mut draw = || -> Result<(TcpListener, u16), LocalError> {
        let bind = |port| Some((TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?, port));
        let none = || LocalError::NoPort(io::Error::from(io::ErrorKind::AddrInUse));
        candidates.find_map(bind).ok_or_else(none)
    };
    let mut held = Vec::new();
    for node in nodes {
        if ports.contains_key(&node) {
            continue;
        }
        let (peer, client) = (draw()?, draw()?);
        ports.insert(node, NodePorts { peer: peer.1, client: client.1 });
        held.extend([peer.0, client.0]);
    }
    Ok(())
}

/// The first port that the system may give to an outgoing connection.
fn outgoing_from(range: &str) -> u16 {
    let text = std::fs::read_to_string(range).unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|port| port.parse().ok());
    first.filter(|port| *port > LOWEST).unwrap_or(OUTGOING)
}

/// The first wanted node whose address is not one of this machine's, with that address.
///
/// Found by binding a free port there: nothing is dialled.
pub fn first_remote(wanted: &Wanted) -> Option<(&NodeName, String)> {
    wanted.nodes.iter().find_map(|(name, node)| {
        let urls = std::iter::once(&node.peer_url).chain(&node.client_urls);
        let mut hosts: Vec<_> = urls.filter_map(|url| host_of(url)).collect();
        hosts.dedup();
        hosts.into_iter().find(|host| !is_local(host)).map(|host| (name, host.to_owned()))
    })
}

fn is_local(host: &str) -> bool {
    let addresses: Vec<IpAddr> = match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => vec![ip],
        Err(_) => match (host, 0).to_socket_addrs() {
            Ok(found) => found.map(|a| a.ip()).collect(),
            Err(_) => return false,
        },
    };
    let binds = |ip: &IpAddr| match TcpListener::bind(SocketAddr::new(*ip, 0)) {
        Ok(_) => true,
        Err(e) => e.kind() != io::ErrorKind::AddrNotAvailable,
    };
    !addresses.is_empty() && addresses.iter().any(binds)
}

fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(is_local("127.0.2.210"));
        assert!(is_local("localhost"));
        assert!(is_local("[::1]") || !std::path::Path::new("/proc/net/if_inet6").exists());
        assert!(!is_local("192.0.2.1"));
    }

    #[test]
    fn a_node_keeps_its_ports_and_no_two_nodes_share_one() {
        let mut ports = BTreeMap::new();
        allocate(&mut ports, ["a", "b"].map(NodeName::from)).unwrap();
        let before = ports.clone();
        allocate(&mut ports, ["a", "b", "c"].map(NodeName::from)).unwrap();
        assert!(before.iter().all(|(name, p)| ports[name] == *p));
        let mut all: Vec<_> = ports.values().flat_map(|p| [p.peer, p.client]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|port| (LOWEST..OUTGOING).contains(port)), "{all:?}");
    }
}
