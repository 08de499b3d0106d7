//! The loopback network of this test's own namespace: packets between nodes that are dropped, all
//! or some, and a link that is slow. A node's address tells whose packets they are: it listens
//! there, and the shim has its own connections come from there.

use std::process::{Command, Stdio};

fn ran(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|it| it.success())
}

fn must(program: &str, arguments: &[&str]) {
    assert!(ran(program, arguments), "{program} {arguments:?} has failed");
}

/// Brings the namespace's loopback up.
pub(crate) fn is_up() -> bool {
    ran("ip", &["link", "set", "lo", "up"])
}

pub(crate) fn can_drop() -> bool {
    let rule = ["OUTPUT", "-s", "127.0.0.2", "-d", "127.0.0.3", "-j", "DROP"];
    let some = ["-m", "statistic", "--mode", "random", "--probability", "0.5"];
    let all = [&["-A"], &rule[..], &some].concat();
    let done = ran("iptables", &all);
    heal();
    done
}

pub(crate) fn can_slow() -> bool {
    let done = add_slow_link(1000);
    heal();
    done
}

/// A link of so many kbit/s, on which a packet waits for up to a second and a half behind others.
fn add_slow_link(kilobits: u64) -> bool {
    let limit = kilobits * 1000 / 8 * 3 / 2;
    let (rate, limit) = (format!("{kilobits}kbit"), limit.to_string());
    let link = ["qdisc", "add", "dev", "lo", "root"];
    let shape = ["tbf", "rate", &rate, "burst", "20000", "limit", &limit];
    ran("tc", &[&link[..], &shape].concat())
}

/// Drops what the first sends to the second.
pub(crate) fn cut(from: &str, to: &str) {
    must("iptables", &["-A", "OUTPUT", "-s", from, "-d", to, "-j", "DROP"]);
}

/// Drops some of it; TCP sends it again, after a fifth of a second and more.
pub(crate) fn lose_some(from: &str, to: &str, percent: u64) {
    let probability = format!("0.{percent:02}");
    let some = ["-m", "statistic", "--mode", "random", "--probability", &probability];
    must(
        "iptables",
        &[&["-A", "OUTPUT", "-s", from, "-d", to][..], &some, &["-j", "DROP"]].concat(),
    );
}

/// Slows everybody's network, clients' and `up`'s too.
pub(crate) fn slow(kilobits: u64) {
    // Larger packets than on a real link would wait for each other.
    must("ip", &["link", "set", "lo", "mtu", "1500"]);
    assert!(add_slow_link(kilobits), "the link cannot be made slow");
}

/// All is as before.
pub(crate) fn heal() {
    must("iptables", &["-F", "OUTPUT"]);
    ran("tc", &["qdisc", "del", "dev", "lo", "root"]);
    ran("ip", &["link", "set", "lo", "mtu", "65536"]);
}
