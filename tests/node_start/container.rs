//! As in a container: the first process of its own PID space, nobody's root, on a file system that
//! cannot be written to outside of the node's home.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::cluster::{Disk, ExitKind, NodeWord};
use rustix::process::{Pid, Signal, kill_process};

use super::support::{Cluster, Engine, Node, bare, eventually, on_both_engines, quorate};

on_both_engines![a_node_that_is_the_first_process_of_a_container_serves_and_ends_as_asked];

/// Somebody who owns nothing else here.
const NOBODY: u32 = 65_532;

/// Makes everything but the home read-only, and becomes the command that follows it.
const CONTAINER: &str = r#"
set -e
home=$1; shift
mount -t proc proc /proc
mount --bind "$home" "$home"
mount -o remount,bind,ro /
for place in /tmp /var/tmp /dev/shm /run; do
    if [ -d $place ] && ! case $home in $place/*) true;; *) false;; esac; then
        mount -t tmpfs -o ro none $place
    fi
done
if touch "$home/../written" 2>/dev/null; then echo "it can be written to" >&2; exit 1; fi
exec setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set=-all "$@"
"#;

/// Whether such a container can be made here; it takes root. Where nobody reads that a test was
/// skipped, as in CI, it has to be.
fn can_be_made() -> bool {
    let made = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"])
        .output();
    let is_made = made.is_ok_and(|it| it.status.success());
    assert!(is_made || std::env::var_os("CI").is_none(), "no container can be made here");
    if !is_made {
        eprintln!("\n!!! SKIPPED: a container can be made by root only\n");
    }
    is_made
}

/// `unshare` that ends up as the node.
fn container(program: &Path, home: &Path) -> Command {
    let mut command = bare("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"]);
    command.arg(home).arg(program).arg("node");
    command
}

/// The node's own process, as it is known outside.
fn first(node: &Node) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", node.pid());
    let pid = eventually("the container has a first process", || {
        fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
    });
    Pid::from_raw(pid).expect("a PID")
}

fn a_node_that_is_the_first_process_of_a_container_serves_and_ends_as_asked(engine: Engine) {
    if !can_be_made() {
        return;
    }
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    // Somebody else has to get there.
    fs::set_permissions(cluster.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(node.home.dir()).unwrap();
    std::os::unix::fs::chown(node.home.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = copied(&cluster);
    // Before the others, as a container's is: it cannot be made there.
    let log = node.home.dir().join("termination-log");
    let start = engine.named(
        cluster
            .start(node)
            .arg("--node-home", node.home.dir().display())
            .arg("--termination-log", log.display()),
    );

    for round in 0..2 {
        node.spawn(container(&program, node.home.dir()), start.clone());
        let own = first(node);
        node.serves();
        node.ask(&["put", &format!("k{round}"), "v"]);
        assert_eq!(node.state().unwrap().wrapper.pid, 1);
        kill_process(own, Signal::TERM).unwrap();
        node.ended().is(ExitKind::Clean);
        let word = NodeWord::from_line(&fs::read_to_string(&log).unwrap()).unwrap();
        assert!(matches!(word.disk, Some(Disk::Holds(_))), "{word:?}");
        assert_eq!(word.exit.unwrap().kind, ExitKind::Clean);
    }
    // An end of its own is told as well.
    fs::remove_dir_all(node.home.data()).unwrap();
    node.spawn(container(&program, node.home.dir()), start);
    node.ended().is(ExitKind::DataLost);
}

/// The program itself, where anybody may run it.
fn copied(cluster: &Cluster) -> PathBuf {
    let program = cluster.dir().join("quorate");
    assert_eq!(quorate(&["copy-self", program.to_str().unwrap()]), (0, String::new()));
    program
}

#[test]
fn the_program_copies_itself_over_what_is_there_and_says_what_is_in_the_way() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let program = cluster.dir().join("quorate");
    fs::write(&program, "something old").unwrap();
    for _ in 0..2 {
        copied(&cluster);
        let mode = fs::metadata(&program).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(fs::read_dir(cluster.dir()).unwrap().count(), 1);
    }
    let said = bare(&program).arg("--version").output().unwrap();
    assert_eq!(
        said.stdout,
        bare(super::support::QUORATE).arg("--version").output().unwrap().stdout
    );

    let (code, said) = quorate(&["copy-self", cluster.dir().to_str().unwrap()]);
    assert!(code == 2 && said.contains("is a directory"), "{said}");
    let nowhere = cluster.dir().join("no/quorate");
    let (code, said) = quorate(&["copy-self", nowhere.to_str().unwrap()]);
    assert!(code == 1 && said.contains("No such file") && said.contains("no/quorate"), "{said}");
    let (_, help) = quorate(&["--help"]);
    assert!(!help.contains("copy-self"), "{help}");
}

#[test]
fn an_engine_is_found_by_its_bare_name_and_one_that_is_nowhere_is_named() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let start = |name: &str| {
        let home = node.home.dir().display();
        cluster.start(node).arg("--node-home", home).arg("--exec", name)
    };
    // Not on the PATH, as where the kubelet starts a container of an image that sets none.
    let mut command = bare("env");
    command.args(["-u", "PATH", super::support::QUORATE, "node"]);
    node.spawn(command, start("etcd"));
    node.serves();
    node.stop();
    node.run_exactly(start("no-such-etcd"));
    node.ended().is(ExitKind::BadConfig).says("no-such-etcd").says("/usr/local/bin");
}
