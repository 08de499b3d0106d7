//! The how-to's transcript, while `up` runs, on the how-to's own ports.

use std::collections::BTreeMap;
use std::path::Path;

use quorate::cluster::founding_member_id;

use crate::support::cluster::{Cluster, SOON, etcdctl};
use crate::support::home::Home;
use crate::support::process::Signal;
use crate::support::spec::{Addresses, Spec, write_whole};
use crate::support::up::Up;
use crate::support::wait::eventually;
use crate::support::wire;
use crate::support::writer::{Acked, PREFIX, Writer};

const TOKEN: &str = "hilinux-etcd-cluster";

/// The sample as it stands in the tree, up and ready.
fn howto() -> Cluster {
    let addresses = Addresses::claim_fixed([127, 0, 2]);
    let hosts = ["210", "211", "212"];
    let names = (1..).map(|at| format!("etcd{at}"));
    let spec = Spec {
        name: TOKEN.to_owned(),
        nodes: names.zip(hosts.map(|host| format!("127.0.2.{host}"))).collect(),
        client_ports: vec![2379, 4001],
        options: Vec::new(),
        remediation: Vec::new(),
    };
    let cluster = Cluster::with(spec, addresses);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples/howto-local.yaml");
    let text = std::fs::read_to_string(sample).expect("the sample is in the tree");
    write_whole(&cluster.home.manifest(), &text);
    cluster.up();
    cluster
}

/// Node name to the member ID that the how-to's token and this address give.
fn derived_ids(cluster: &Cluster) -> BTreeMap<String, String> {
    let id = |node: &String| founding_member_id([&*cluster.spec.peer_url(node)], TOKEN).to_string();
    cluster.spec.names().iter().map(|node| (node.clone(), id(node))).collect()
}

fn both_client_urls(cluster: &Cluster, node: &str) -> String {
    let address = cluster.spec.address(node);
    format!("http://{address}:2379,http://{address}:4001")
}

/// Waits until etcdctl prints these lines, in any order and each once. They are made anew for each
/// look: on a busy machine another member may lead at any time.
#[track_caller]
fn shows_lines(cluster: &Cluster, api: u8, args: &[&str], lines: impl Fn() -> Vec<String>) {
    eventually(&format!("etcdctl {args:?} to show each line"), SOON, || {
        let (mut lines, ran) = (lines(), cluster.etcdctl(api, args));
        let mut found: Vec<_> = ran.stdout.lines().map(str::to_owned).collect();
        found.sort();
        lines.sort();
        let is_so = ran.code == Some(0) && found == lines;
        if is_so { Ok(()) } else { Err(format!("{ran:#?} instead of {lines:#?}")) }
    });
}

#[test]
fn the_how_tos_transcript_is_what_etcdctl_shows_while_up_runs() {
    let cluster = howto();
    let members = cluster.healed();
    let ids = derived_ids(&cluster);
    let found: BTreeMap<_, _> =
        members.iter().map(|(node, member)| (node.clone(), member.hex())).collect();
    assert_eq!(found, ids, "the member IDs are not those that etcd derives");
    let writer = cluster.writer();

    version_2(&cluster, &ids);
    version_3(&cluster, &ids);
    // Both ports of every node serve, as the how-to has it.
    for node in cluster.spec.names() {
        for port in [2379, 4001] {
            let endpoint = format!("http://{}:{port}", cluster.spec.address(&node));
            let healthy = format!("{endpoint} is healthy: successfully committed proposal: took");
            eventually("a port to serve", SOON, || {
                let health = etcdctl(3, std::slice::from_ref(&endpoint), &["endpoint", "health"]);
                if health.text().contains(&healthy) { Ok(()) } else { Err(health.text()) }
            });
        }
    }
    cluster.verify(writer).none_failed();
}

fn version_2(cluster: &Cluster, ids: &BTreeMap<String, String>) {
    let line = |node: &String, id: &String, leader: &String| {
        let (peer, clients) = (cluster.spec.peer_url(node), both_client_urls(cluster, node));
        let leads = node == leader;
        format!("{id}: name={node} peerURLs={peer} clientURLs={clients} isLeader={leads}")
    };
    shows_lines(cluster, 2, &["member", "list"], || {
        let leader = cluster.leader();
        ids.iter().map(|(node, id)| line(node, id, &leader)).collect()
    });

    let line = |(node, id): (&String, &String)| {
        let url = cluster.spec.client_url(node);
        format!("member {id} is healthy: got healthy result from {url}")
    };
    shows_lines(cluster, 2, &["cluster-health"], || {
        ids.iter().map(line).chain(["cluster is healthy".to_owned()]).collect()
    });

    let update = ["member", "update", &ids["etcd1"], &cluster.spec.peer_url("etcd1")];
    let updated = format!("Updated member with ID {} in cluster\n", ids["etcd1"]);
    assert_eq!(cluster.etcdctl_says(2, &update), updated);
}

fn version_3(cluster: &Cluster, ids: &BTreeMap<String, String>) {
    let line = |(node, id): (&String, &String)| {
        let (peer, clients) = (cluster.spec.peer_url(node), both_client_urls(cluster, node));
        format!("{id}, started, {node}, {peer}, {clients}, false")
    };
    shows_lines(cluster, 3, &["member", "list"], || ids.iter().map(line).collect());

    eventually("every member to be healthy", SOON, || {
        let health = cluster.etcdctl(3, &["endpoint", "health"]);
        let healthy = |endpoint: &String| {
            let line = format!("{endpoint} is healthy: successfully committed proposal: took = ");
            health.text().contains(&line)
        };
        let all = health.code == Some(0) && cluster.endpoints().iter().all(healthy);
        if all { Ok(()) } else { Err(format!("{health:#?}")) }
    });

    // Who leads may change on a busy machine: the one who leads before and after is meant.
    let (status, leader) = eventually("a leader that stays", SOON, || {
        let leader = cluster.leader();
        let status = cluster.etcdctl_says(3, &["endpoint", "status"]);
        if cluster.leader() == leader { Ok((status, leader)) } else { Err("another one leads") }
    });
    for (line, (node, id)) in status.lines().zip(ids) {
        // endpoint, ID, version, database size, leader?, learner?, term, index, applied, errors
        let fields: Vec<_> = line.split(", ").collect();
        let url = cluster.spec.client_url(node);
        let leads = (*node == leader).to_string();
        assert_eq!((fields[0], fields[1]), (url.as_str(), id.as_str()), "{status}");
        assert_eq!((fields[4], fields[5]), (leads.as_str(), "false"), "{status}");
        assert_eq!(fields.last().map(|errors| errors.trim()), Some(""), "{status}");
    }
    assert_eq!(status.lines().count(), ids.len(), "{status}");

    let hashes = cluster.etcdctl_says(3, &["endpoint", "hashkv"]);
    assert_eq!(hashes.lines().count(), ids.len(), "{hashes}");

    let url = cluster.spec.peer_url("etcd1");
    let update = ["member", "update", &ids["etcd1"], "--peer-urls", &url];
    let updated = cluster.etcdctl_says(3, &update);
    let start = format!("Member {} updated in cluster ", ids["etcd1"]);
    assert!(updated.trim_end().starts_with(&start), "{updated}");
}

#[test]
fn up_prints_plain_lines_and_ends_in_order_with_its_data_kept() {
    let cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    writer.goes_on(20);
    let promised = cluster.verify(writer);

    for signal in [Signal::INT, Signal::TERM] {
        let export = cluster.with_up(|up| up.export_line()).unwrap();
        let (_, urls) = export.split_once("ETCDCTL_ENDPOINTS=").unwrap();
        assert_eq!(urls, cluster.endpoints().join(","), "this is to be copied into a shell");
        let printed = cluster.with_up(|up| up.text());
        assert!(!printed.contains('\u{1b}'), "colours without a terminal:\n{printed}");
        for line in printed.lines().filter(|line| !line.contains("export ETCDCTL_ENDPOINTS=")) {
            let stamp = line.split("  ").next().unwrap_or_default();
            let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            let is_time = stamp.split(':').count() == 3 && stamp.split(':').all(digits);
            assert!(is_time, "{line:?} does not begin with the time");
        }

        assert_eq!(cluster.interrupt_up(signal), Some(0), "{}", cluster.printed());
        // A process that has let go of its lock may take a moment more to be gone.
        eventually("all nodes to have stopped", SOON, || {
            let names = cluster.spec.names();
            let left: Vec<_> = names.iter().map(|node| cluster.home.processes(node)).collect();
            let none = left.iter().all(|it| it.all().next().is_none());
            if none { Ok(()) } else { Err(format!("{left:?}")) }
        });
        let (code, report) = cluster.status();
        assert_eq!((code, report.verdict.as_str()), (Some(4), "stopped"), "{report:#?}");
        assert!(report.up.is_none(), "{report:#?}");

        cluster.up();
        assert_eq!(cluster.healed(), before, "the same members run on the data that was kept");
        cluster.verify_all(&promised);
    }
}

#[test]
fn up_without_a_file_runs_three_nodes_on_ports_that_it_keeps() {
    let home = Home::new();
    let mut up = Up::start(home.dir(), None, &home.path(), &[]);
    up.wait_ready(SOON);
    let export = up.export_line().unwrap();
    let (_, urls) = export.split_once("ETCDCTL_ENDPOINTS=").unwrap();
    let endpoints: Vec<_> = urls.split(',').map(str::to_owned).collect();
    assert_eq!(endpoints.len(), 3, "{export}");
    assert!(endpoints.iter().all(|it| it.starts_with("http://127.0.0.1:")), "{export}");
    // A busy machine may hold an election at any time, during which it does not answer.
    let list = || {
        eventually("the member list", SOON, || {
            let ran = etcdctl(3, &endpoints, &["member", "list"]);
            if ran.code == Some(0) { Ok(ran.stdout) } else { Err(ran.text()) }
        })
    };
    assert_eq!(list().matches(", started, ").count(), 3, "{}", list());
    let writer = Writer::start(&endpoints, 20);
    writer.goes_on(20);
    let written = writer.stop();
    written.none_failed();

    // Twice Ctrl-C: at once; the data stays all the same.
    up.signal(Signal::INT);
    up.signal(Signal::INT);
    assert_eq!(up.wait(SOON).code(), Some(0), "{}", up.text());
    let mut up = Up::start(home.dir(), None, &home.path(), &[]);
    up.wait_ready(SOON);
    assert_eq!(up.export_line(), Some(export), "clients find the members where they were");
    assert_eq!(list().lines().count(), 3);
    for endpoint in &endpoints {
        let keys = eventually("a member's own keys", SOON, || {
            let keys = wire::local_keys(endpoint, PREFIX)?;
            let count = keys.len();
            if count < written.acked.len() { Err(format!("{count} keys")) } else { Ok(keys) }
        });
        assert!(written.acked.iter().all(|acked| keys.contains_key(acked.key.as_bytes())));
    }
}

#[test]
fn status_and_plan_tell_what_is_and_change_nothing() {
    let cluster = Cluster::declared(3);
    let manifest = cluster.home.manifest();
    let manifest = manifest.to_str().unwrap();
    let plan = cluster.quorate(&["plan", "-f", manifest]).ok();
    assert!(plan.contains("etcd1") && plan.contains("QUORUM"), "{plan}");
    assert!(!cluster.home.path().exists(), "plan made a home");

    cluster.up();
    let members = cluster.healed();
    // On a busy machine one look may come too late, and another member may lead at the next.
    let (report, leader) = eventually("status to tell of a healthy cluster", SOON, || {
        let (code, report) = cluster.try_status()?;
        let leader = cluster.leader();
        let is_healthy = code == Some(0) && report.verdict == "healthy";
        let is_so = is_healthy && report.row(&leader).leader;
        if is_so { Ok((report, leader)) } else { Err(format!("{leader} leads: {report:#?}")) }
    });
    assert_eq!(report.cluster, cluster.spec.name);
    assert!(!report.sentence.is_empty());
    let numbers = (report.voters, report.healthy, report.quorum, report.tolerance);
    assert_eq!(numbers, (Some(3), Some(3), Some(2), Some(1)), "{report:#?}");
    let cluster_id = format!("{:x}", cluster.answered().cluster);
    assert_eq!(report.cluster_id.as_deref(), Some(&*cluster_id), "{report:#?}");
    assert_eq!(report.up.as_ref().unwrap().process.pid, cluster.up_process().pid);
    for (node, member) in &members {
        let row = report.row(node);
        assert_eq!(row.member.as_deref(), Some(&*member.hex()), "{row:#?}");
        assert_eq!((row.role.as_deref(), row.health.as_str()), (Some("voter"), "healthy"));
        assert_eq!(row.leader, *node == leader, "{row:#?}");
        assert_eq!(row.peer_url.as_deref(), Some(&*cluster.spec.peer_url(node)));
        assert_eq!(row.client_urls, [cluster.spec.client_url(node)]);
        assert!(row.revision.is_some(), "{row:#?}");
        assert!(row.exit.is_none(), "{row:#?}");
    }

    // With every member there and the file unchanged, there is nothing to plan.
    let plan = cluster.quorate(&["plan", "-f", manifest]).ok();
    assert!(!plan.contains("remove") && !plan.contains("found "), "{plan}");
    assert_eq!(cluster.healed(), members);

    // `down` ends what `up` left behind; the data stays until it is asked for.
    cluster.kill_up();
    cluster.quorate(&["down"]).ok();
    for node in members.keys() {
        eventually("a node to end with `down`", SOON, || {
            let left = cluster.home.processes(node);
            if left.engine.is_none() { Ok(()) } else { Err(format!("{node}: {left:?}")) }
        });
        assert!(cluster.data(node).exists(), "{node} has no data after a plain `down`");
    }
    cluster.up();
    assert_eq!(cluster.healed(), members);
    let asked = cluster.quorate(&["down", "--delete-data"]);
    assert_ne!(asked.code, Some(0), "deleted without asking: {asked:#?}");
    assert_eq!(cluster.healed(), members);
    cluster.quorate(&["down", "--delete-data", "-y"]).ok();
    eventually("the home to be gone", SOON, || {
        let left: Vec<_> = members.keys().filter(|node| cluster.data(node).exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} still have data")) }
    });
}

#[test]
#[should_panic(expected = "was acknowledged, but")]
fn the_check_of_all_scenarios_finds_a_write_that_was_lost() {
    let cluster = Cluster::ready(1);
    let writer = cluster.writer();
    writer.goes_on(5);
    let mut written = writer.stop();
    let latency = written.slowest();
    written.acked.push(Acked { key: format!("{PREFIX}never/sent"), latency });
    cluster.verify_all(&written);
}
