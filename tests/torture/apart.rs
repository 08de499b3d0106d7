//! Namespaces of this test's own: what it does to the network and to disks stays in them.

use std::env;
use std::process::{Command, Stdio};

use crate::network;
use crate::support::power::Power;

/// Set for the process inside.
const INSIDE: &str = "QUORATE_TORTURE_INSIDE";

/// Where this process is.
pub(crate) enum Apart {
    /// To go on, with the means that there are.
    Inside(Means),
    /// Another process has done it all.
    Done,
}

/// What this machine lets a test do.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    /// The library that makes power fail, clocks step and connections tell whose they are.
    pub(crate) power: Option<Power>,
    /// Packets can be dropped.
    pub(crate) drops: bool,
    /// The network can be made slow.
    pub(crate) slows: bool,
    /// Small disks can be mounted.
    pub(crate) mounts: bool,
}

/// Runs the test of this name once more, apart from everybody else, or goes on in there. Where that
/// cannot be, and where a part is missing, it says so; where nobody would read that, it fails. A
/// test that is ignored takes all the means that there are, any other can do without a slow network.
#[track_caller]
pub(crate) fn entered(test: &str, is_ignored: bool) -> Apart {
    if env::var_os(INSIDE).is_some() {
        return Apart::Inside(means(network::is_up(), is_ignored));
    }
    let is_possible = Command::new("unshare")
        .args(["--net", "--mount", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success());
    if !is_possible {
        lacks("partitions, slow networks, full disks", "no namespaces (this takes root)");
        return Apart::Inside(means(false, is_ignored));
    }
    let own = env::current_exe().expect("this file");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--kill-child"]).arg(own).args(["--exact", test]);
    if is_ignored {
        command.arg("--ignored");
    }
    let status = command.args(["--nocapture", "--test-threads=1"]).env(INSIDE, "1").status();
    let status = status.expect("unshare was just there");
    assert!(status.success(), "what ran apart has failed: {status}");
    Apart::Done
}

#[track_caller]
fn means(is_apart: bool, is_slow_needed: bool) -> Means {
    let power = Power::new();
    let drops = is_apart && power.is_some() && network::can_drop();
    let slows = is_apart && network::can_slow();
    for (is_there, what, why) in [
        (power.is_some(), "power loss, clock steps, partitions", "no C compiler"),
        (!is_apart || drops, "partitions", "no iptables, or the kernel has no filter"),
        (
            !is_apart || slows || !is_slow_needed,
            "slow networks",
            "no tc, or the kernel has no `tbf`",
        ),
    ] {
        if !is_there {
            lacks(what, why);
        }
    }
    Means { power, drops, slows, mounts: is_apart }
}

#[track_caller]
fn lacks(what: &str, why: &str) {
    assert!(env::var_os("CI").is_none(), "{what} cannot be tried: {why}");
    eprintln!("\n!!! SKIPPED: {what}: {why}\n");
}
