//! A server over a replica of one, and the ways to talk to it.

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use quorate::cluster::{ClusterId, MemberId};
use quorate::node::alone::Alone;
use quorate::node::api::{Api, Metrics, Options, Server};
use quorate::node::apply::{NO_QUOTA, Operation, Published};
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Generous: a machine under load must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const CLUSTER: ClusterId = ClusterId(0xe531_d2f7_f342_a2d1);
pub(crate) const MEMBER: MemberId = MemberId(0x96ca_f214_ff54_4724);

pub(crate) struct Served {
    pub(crate) alone: Arc<Alone>,
    /// `HOST:PORT`.
    pub(crate) address: String,
    pub(crate) metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) async fn start() -> Served {
        Served::start_with(Options::default(), NO_QUOTA).await
    }

    pub(crate) async fn start_with(options: Options, quota: u64) -> Served {
        let metrics = Arc::new(Metrics::new().unwrap());
        let counting = Arc::clone(&metrics);
        let alone = Alone::with_quota(CLUSTER, MEMBER, quota)
            .heard_by(move |applied| counting.changed(&applied.changes));
        let alone = Arc::new(alone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Its own word of itself, as a node gives at its start.
        let published = Published {
            member: MEMBER.0,
            name: "etcd1".to_owned(),
            client_urls: vec![format!("http://{address}")],
            incarnation: 1,
        };
        alone.apply(&Operation::Publish(published)).unwrap();
        let api = Api::new(Arc::clone(&alone), options, Arc::clone(&metrics));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await; // an end of the test is one as well
        };
        let server = tokio::spawn(Server::new(api).serve(vec![listener], shutdown));
        Served { alone, address, metrics, stop: Some(stop), server: Some(server) }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let server = self.server.take().unwrap();
        tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
    }

    /// Asks it to stop.
    pub(crate) fn begin_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    /// One HTTP/1 request with no body; status and body of the answer.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http("GET", path, None).await;
        (answer.status, answer.body)
    }

    /// One HTTP/1 request, with a JSON body or none.
    pub(crate) async fn http(&self, method: &str, path: &str, json: Option<&str>) -> Answer {
        let body = json.unwrap_or_default();
        let kind = if json.is_some() { "Content-Type: application/json\r\n" } else { "" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}Content-Length: \
             {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        Answer::read(&answer)
    }

    /// Runs etcdctl on this endpoint. Exit code, standard output, and both outputs.
    pub(crate) async fn etcdctl(&self, api: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new("etcdctl");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("ETCDCTL_API", api).args(["--endpoints", &self.url()]);
        if api == "3" {
            // Its own limits are short for a busy machine.
            command.args(["--dial-timeout", "20s", "--command-timeout", "20s"]);
        }
        command.args(args);
        command.kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let both = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code(), out, both)
    }

    /// Standard output of an etcdctl of API 3 that succeeds.
    pub(crate) async fn ctl(&self, args: &[&str]) -> String {
        let (code, out, both) = self.etcdctl("3", args).await;
        assert_eq!(code, Some(0), "etcdctl {args:?}: {both}");
        out
    }

    /// What an etcdctl of API 3 says that fails.
    pub(crate) async fn ctl_fails(&self, args: &[&str]) -> String {
        let (code, _, both) = self.etcdctl("3", args).await;
        assert_ne!(code, Some(0), "etcdctl {args:?}: {both}");
        both
    }
}

/// An HTTP/1 answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }
}

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

pub(crate) fn get(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

/// A number in Prometheus' text form.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}
