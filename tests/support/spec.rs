//! The manifest of a test's cluster, on addresses that no other test has.

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::wait::eventually;

/// A part of the loopback network that belongs to one test while this lives.
pub(crate) struct Addresses {
    prefix: [u8; 3],
    /// Bound on host 254: another test process, whose numbers may be the same, moves on.
    _claim: TcpListener,
}

impl Addresses {
    /// Claims 127.x.y.0/24, for an x and y that follow from this process and a counter.
    pub(crate) fn claim() -> Addresses {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number =
                std::process::id().wrapping_mul(251) + NEXT.fetch_add(1, Ordering::Relaxed);
            let [_, _, high, low] = number.to_be_bytes();
            let prefix = [127, 16 + high % 224, low];
            if let Some(claim) = bind(prefix) {
                return Addresses { prefix, _claim: claim };
            }
        }
    }

    /// Claims this very part, once whoever has it is done.
    pub(crate) fn claim_fixed(prefix: [u8; 3]) -> Addresses {
        let claim = eventually("the addresses of the how-to", Duration::from_mins(2), || {
            bind(prefix).ok_or("another test has them")
        });
        Addresses { prefix, _claim: claim }
    }

    /// The address with this last number.
    pub(crate) fn host(&self, last: u8) -> String {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last).to_string()
    }
}

fn bind([a, b, c]: [u8; 3]) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::new(a, b, c, 254), 2379)).ok()
}

/// What a test declares. [`Spec::yaml`] is the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// Name and address of each node.
    pub(crate) nodes: Vec<(String, String)>,
    pub(crate) client_ports: Vec<u16>,
    /// Lines below `options:`, such as `snapshotCount: 1000`.
    pub(crate) options: Vec<String>,
    /// Lines below `remediation:`.
    pub(crate) remediation: Vec<String>,
}

impl Spec {
    /// `count` nodes, etcd1 and so on, with a remediation delay that a test can wait for, and that
    /// no member is silent for only because the machine is busy.
    pub(crate) fn of(count: u8, addresses: &Addresses) -> Spec {
        Spec {
            name: "scenario".to_owned(),
            nodes: (1..=count).map(|at| (format!("etcd{at}"), addresses.host(at))).collect(),
            client_ports: vec![2379],
            options: Vec::new(),
            remediation: vec!["unhealthySeconds: 10".to_owned()],
        }
    }

    /// The manifest.
    pub(crate) fn yaml(&self) -> String {
        let mut text = String::from("apiVersion: quorate.dev/v1alpha1\nkind: EtcdCluster\n");
        let _ = writeln!(text, "metadata: {{name: {}}}\nspec:\n  nodes:", self.name);
        for (name, address) in &self.nodes {
            let _ = writeln!(text, "  - {{name: {name}, address: {address}}}");
        }
        let _ = writeln!(text, "  clientPorts: {:?}", self.client_ports);
        for (section, lines) in [("options", &self.options), ("remediation", &self.remediation)] {
            if !lines.is_empty() {
                let _ = writeln!(text, "  {section}:\n    {}", lines.join("\n    "));
            }
        }
        text
    }

    /// Puts the manifest where `up` reads it, whole at every moment.
    pub(crate) fn write(&self, file: &Path) {
        write_whole(file, &self.yaml());
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The address of a node.
    #[track_caller]
    pub(crate) fn address(&self, node: &str) -> &str {
        let found = self.nodes.iter().find(|(name, _)| name == node);
        found.map(|(_, address)| address.as_str()).expect("the spec has this node")
    }

    /// The first client URL of a node.
    #[track_caller]
    pub(crate) fn client_url(&self, node: &str) -> String {
        format!("http://{}:{}", self.address(node), self.client_ports[0])
    }

    #[track_caller]
    pub(crate) fn peer_url(&self, node: &str) -> String {
        format!("http://{}:2380", self.address(node))
    }

    /// The first client URL of every node.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|(name, _)| self.client_url(name)).collect()
    }
}

/// Writes a file beside and renames it into place.
pub(crate) fn write_whole(file: &Path, text: &str) {
    let beside = file.with_extension("tmp");
    std::fs::write(&beside, text).expect("a test can write its own directory");
    std::fs::rename(&beside, file).expect("a test can rename its own file");
}
