//! What nodes and engines log: kept short, while they run and say more.

use std::fs::{self, OpenOptions};
use std::io::Write;

use quorate::node::home::LOG_LIMIT;

use crate::support::cluster::{Cluster, SOON};
use crate::support::process::Signal;
use crate::support::wait::eventually;

#[test]
fn a_node_that_talks_too_much_keeps_the_end_of_it_and_nothing_else_changes() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let node = cluster.leader();
    let processes = cluster.running(&node);
    let log = cluster.home.node(&node).join("log");
    let previous = log.with_extension("1");
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    let line = format!("{}\n", "noise ".repeat(17));
    // In one piece: it may be cut as soon as it is too long.
    let noise = line.repeat(usize::try_from(LOG_LIMIT / 100 + 1).unwrap());
    file.write_all(format!("{noise}the end of the noise\n").as_bytes()).unwrap();
    eventually("the log to be cut", SOON, || {
        let length = fs::metadata(&log).map_err(|it| it.to_string())?.len();
        if length < 1 << 20 { Ok(()) } else { Err(format!("it has {length} bytes")) }
    });
    let kept = fs::read_to_string(&previous).unwrap();
    assert!(kept.contains("the end of the noise") && kept.starts_with("noise"));
    assert!(kept.len() as u64 <= LOG_LIMIT + (1 << 20));
    assert_eq!(cluster.running(&node), processes, "it runs on");
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();

    // What it says then is in the same place as ever.
    assert_eq!(cluster.interrupt_up(Signal::TERM), Some(0));
    let said = fs::read_to_string(&log).unwrap();
    let lowered = said.to_lowercase();
    assert!(lowered.contains("stop") || lowered.contains("clos"), "{said}");
    assert!(!said.contains("noise") && !said.contains('\0'), "{said}");
}
