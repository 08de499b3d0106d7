//! Where the members are, as the headless Service says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::lock;

/// The members' addresses, and a connection to each.
pub(crate) struct Endpoints {
    service: String,
    port: u16,
    known: Mutex<BTreeMap<SocketAddr, Channel>>,
}

impl Endpoints {
    pub(crate) fn new(service: String, port: u16) -> Endpoints {
        Endpoints { service, port, known: Mutex::default() }
    }

    /// All that were found last.
    pub(crate) fn all(&self) -> Vec<(SocketAddr, Channel)> {
        lock(&self.known).iter().map(|(at, channel)| (*at, channel.clone())).collect()
    }

    /// Asks again; without an answer the old ones stay.
    pub(crate) async fn refresh(&self) {
        let asked = tokio::net::lookup_host((self.service.as_str(), self.port)).await;
        let Ok(found) = asked.map(Iterator::collect::<Vec<_>>) else { return };
        let mut known = lock(&self.known);
        known.retain(|address, _| found.contains(address));
        for address in found {
            // An address in a URL is always one.
            let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else { continue };
            let endpoint = endpoint.connect_timeout(Duration::from_secs(1));
            known.entry(address).or_insert_with(|| endpoint.connect_lazy());
        }
    }
}
