//! One real etcd of its own, for tests that do the same on it and on ours. `ETCD` names another
//! binary. Whatever else takes etcd's flags can be started in its place.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate::proto::etcdserverpb::RangeRequest;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::ports::free_port;

const HOST: &str = "127.0.0.1";

pub(crate) struct LoneEtcd {
    process: Child,
    _home: TempDir,
    pub(crate) channel: Channel,
}

impl Drop for LoneEtcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl LoneEtcd {
    /// Starts it with these flags beside its own, and waits until it serves.
    pub(crate) async fn start(flags: &[String]) -> LoneEtcd {
        let program = std::env::var("ETCD").unwrap_or_else(|_| "etcd".to_owned());
        LoneEtcd::start_as(Command::new(program), &urls(), flags).await
    }

    /// The same with this command and at these URLs, for clients and for peers.
    pub(crate) async fn start_as(
        mut command: Command,
        [client, peer]: &[String; 2],
        flags: &[String],
    ) -> LoneEtcd {
        let home = TempDir::new().unwrap();
        let process = command
            .env_clear()
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .args(["--listen-client-urls", client, "--advertise-client-urls", client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let channel = Endpoint::from_shared(client.clone()).unwrap().connect_lazy();
        let etcd = LoneEtcd { process, _home: home, channel };
        let mut kv = KvClient::new(etcd.channel.clone());
        // A minute: a disk that others keep busy makes a start long.
        for _ in 0..1200 {
            let any = RangeRequest { key: "k".into(), ..RangeRequest::default() };
            if kv.range(any).await.is_ok() {
                return etcd;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not start: {command:?}");
    }
}

/// Where nobody listens: for clients and for peers.
pub(crate) fn urls() -> [String; 2] {
    [(); 2].map(|()| format!("http://{HOST}:{}", free_port(HOST)))
}
