//! What an unmodified etcdctl 3.4 prints of watches.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{PATIENCE, Served};

struct Ctl {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ctl {
    fn watch(served: &Served, args: &[&str]) -> Ctl {
        let mut command = Command::new("etcdctl");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("ETCDCTL_API", "3").args(["--endpoints", &served.address, "watch"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().expect("etcdctl runs");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Ctl { _process: process, lines }
    }

    async fn says(&mut self, expected: &[&str]) {
        for line in expected {
            let said = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
            assert_eq!(said.unwrap().as_deref(), Some(*line));
        }
    }
}

async fn until_watched(served: &Served, count: i64) {
    for _ in 0..1500 {
        if served.hub.figures().watches == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?}", served.hub.figures());
}

#[tokio::test]
async fn etcdctl_watches_keys_prefixes_and_history() {
    let served = Served::start().await;
    served.put("a", "0");
    let mut one = Ctl::watch(&served, &["a"]);
    let mut all = Ctl::watch(&served, &["", "--prefix", "--prev-kv"]);
    let mut past = Ctl::watch(&served, &["a", "--rev", "2"]);
    until_watched(&served, 3).await;
    past.says(&["PUT", "a", "0"]).await;
    served.put("a", "1");
    served.put("b", "2");
    served.delete("a", "");
    one.says(&["PUT", "a", "1", "DELETE", "a", ""]).await;
    past.says(&["PUT", "a", "1", "DELETE", "a", ""]).await;
    let all_of_it = ["PUT", "a", "0", "a", "1", "PUT", "b", "2", "DELETE", "a", "1", "a", ""];
    all.says(&all_of_it).await;
}

#[tokio::test]
async fn etcdctl_is_told_that_its_history_is_gone() {
    let served = Served::start().await;
    served.put("a", "0");
    served.put("a", "1");
    served.compact(3);
    let mut command = Command::new("etcdctl");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("ETCDCTL_API", "3");
    command.args(["--endpoints", &served.address, "watch", "a", "--rev", "2"]).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("required revision has been compacted"), "{said}");
}
