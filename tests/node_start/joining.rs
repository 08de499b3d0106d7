//! A member removed, and what its node may become after that.

use std::fs;

use quorate::cluster::{ExitKind, MemberId};

use super::files::copy_dir;
use super::small_disk::{SmallDisk, fill};
use super::support::{Cluster, Engine, eventually, on_both_engines, quorate};

on_both_engines![
    a_removed_member_is_replaced_and_every_wrong_way_has_its_typed_reason,
    data_of_a_living_member_is_never_set_aside,
    a_learner_whose_first_start_failed_starts_again_and_one_that_ran_does_not,
    without_room_for_the_clusters_data_nothing_moves_and_the_oldest_set_aside_goes_first,
];

fn a_removed_member_is_replaced_and_every_wrong_way_has_its_typed_reason(engine: Engine) {
    let cluster = Cluster::running(engine, 3);
    let (a, c) = (&cluster.nodes[0], &cluster.nodes[2]);
    a.ask(&["put", "k", "v"]);
    let old = Cluster::founder(c);
    let start = || cluster.start(c);

    // Removed while running.
    Cluster::remove(a, old);
    c.ended().is(ExitKind::Removed).says("permanently removed");
    let state = c.state().unwrap();
    assert_eq!(state.exit.map(|exit| exit.kind), Some(ExitKind::Removed));
    assert_eq!(state.member, Some(old));

    // Its stale data dir, whichever state is asked for.
    c.refuses(start()).is(ExitKind::Removed);
    c.refuses(start().existing()).is(ExitKind::Removed);

    // Wiped.
    let kept = cluster.dir().join("kept");
    copy_dir(c.home.dir(), &kept);
    fs::remove_dir_all(c.home.dir()).unwrap();
    c.refuses(start()).is(ExitKind::AlreadyBootstrapped);
    let other_token = start().set("ETCD_INITIAL_CLUSTER_TOKEN", "other");
    c.refuses(other_token).is(ExitKind::ClusterIdMismatch);
    c.refuses(start().existing()).is(ExitKind::MemberCountUnequal).says(&c.peer);
    let alone = format!("{}={}", c.name, c.peer);
    let lonely = start().existing().set("ETCD_INITIAL_CLUSTER", alone);
    c.refuses(lonely).is(ExitKind::NoPeers);
    let nameless = format!("{}={}", a.name, a.peer);
    c.refuses(start().set("ETCD_INITIAL_CLUSTER", nameless)).is(ExitKind::NameNotInCluster);
    assert!(!c.home.data().exists() && c.home.stamp().unwrap().is_none());

    // Added again; started for the member that was expected before: an old plan, refused.
    let new = Cluster::add_learner(a, c);
    c.refuses(start().existing().arg("--expect-member", old)).is(ExitKind::StaleData);
    // With its old data back, and nobody said that it may go aside.
    fs::remove_dir_all(c.home.dir()).unwrap();
    copy_dir(&kept, c.home.dir());
    c.refuses(start().existing().arg("--expect-member", new)).is(ExitKind::Removed);
    assert!(c.home.asides().unwrap().is_empty());

    // RIGHT: the old data goes aside under its fence, the list is rendered from the live one.
    let bogus = format!("{}={},gone=http://127.9.3.1:1", a.name, a.peer);
    let right = start()
        .existing()
        .set("ETCD_INITIAL_CLUSTER", bogus)
        .arg("--expect-member", new)
        .arg("--replaces", old);
    c.run(right);
    Cluster::promote(a, new);
    c.serves();
    assert_eq!(c.ask(&["get", "k", "--print-value-only"]), "v\n");
    let stamp = c.home.stamp().unwrap().unwrap();
    assert_eq!((stamp.member, c.home.stamp_copy().unwrap()), (new, Some(stamp)));

    // The old data is kept, can be looked at, and can be brought back while the node is stopped.
    let asides = c.home.asides().unwrap();
    assert_eq!(asides.iter().map(|it| it.member).collect::<Vec<_>>(), [old]);
    let dir = c.home.dir().display().to_string();
    let (code, said) = quorate(&["aside", "restore", &dir]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is running"), "{said}");
    c.stop();
    let (code, said) = quorate(&["aside", "restore", &dir]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(c.home.stamp().unwrap().unwrap().member, old);
    let now: Vec<_> = c.home.asides().unwrap().iter().map(|it| it.member).collect();
    assert_eq!(now, [new]);
    c.refuses(start()).is(ExitKind::Removed);
    let (code, said) = quorate(&["inspect", &dir, "-o", "json"]);
    let seen: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &seen[0]["log"]["member"]), (0, &old.to_string().into()), "{said}");

    // And back again; then nothing is kept.
    assert_eq!(quorate(&["aside", "restore", &dir]).0, 0);
    c.run(start());
    c.serves();
    let (code, said) = quorate(&["aside", "prune", &dir, "--keep", "0"]);
    assert_eq!((code, c.home.asides().unwrap().len()), (0, 0), "{said}");
}

fn data_of_a_living_member_is_never_set_aside(engine: Engine) {
    let cluster = Cluster::running(engine, 2);
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let place = Cluster::spare(engine);
    let (old, new) = (Cluster::founder(b), Cluster::add_learner(a, &place.nodes[0]));
    b.stop();
    // A step planned on an old observation: the list still has the member, or cannot be had.
    let replace = cluster.start(b).existing().arg("--expect-member", new).arg("--replaces", old);
    b.run(replace);
    b.serves();
    assert_eq!(b.state().unwrap().member, Some(old));
    assert!(b.home.asides().unwrap().is_empty());
}

fn a_learner_whose_first_start_failed_starts_again_and_one_that_ran_does_not(engine: Engine) {
    let cluster = Cluster::running(engine, 1);
    let a = &cluster.nodes[0];
    let place = Cluster::spare(engine);
    let b = &place.nodes[0];
    let new = Cluster::add_learner(a, b);
    let seed = format!("{}={},{}={}", a.name, a.peer, b.name, b.peer);
    let join = place.start(b).existing().set("ETCD_INITIAL_CLUSTER", seed);
    let join = join.arg("--expect-member", new);

    // An upstream engine refuses its options after the place was stamped for it and before it ran;
    // the embedded one before anything is touched.
    let broken = join.clone().set("ETCD_ELECTION_TIMEOUT", "60");
    b.refuses(broken).is(ExitKind::BadConfig).says("election");
    let stamped = b.home.stamp().unwrap().map(|it| it.member);
    assert_eq!(stamped, (engine == Engine::Upstream).then_some(new));
    b.run(join.clone());
    eventually("the learner is started", || {
        a.ask(&["member", "list"]).contains(", started, spare, ").then_some(())
    });
    b.stop();
    fs::remove_dir_all(b.home.data()).unwrap();
    b.refuses(join).is(ExitKind::DataLost).says("has run before");
}

fn without_room_for_the_clusters_data_nothing_moves_and_the_oldest_set_aside_goes_first(
    engine: Engine,
) {
    let mut cluster = Cluster::of(engine, 3);
    cluster.disk = SmallDisk::mount(cluster.nodes[2].home.dir().to_owned(), 600);
    if cluster.disk.is_none() {
        return;
    }
    let (a, c) = (&cluster.nodes[0], &cluster.nodes[2]);
    for node in &cluster.nodes {
        node.run(cluster.start(node));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    // What no store can make smaller.
    let value = |key: u64| {
        let mut chance = key;
        let mut digit = || {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + u8::try_from(chance >> 60).unwrap())
        };
        (0..100_000).map(|_| digit()).collect::<String>()
    };
    for key in 0..100 {
        a.ask(&["put", &format!("k{key}"), &value(key)]);
    }
    // The member of c is removed and another one is added; how its node is to be started.
    let replacement = |old| {
        Cluster::remove(a, old);
        c.ended().is(ExitKind::Removed);
        // It may have led. And an ID is made of the URL and the second: that of this one is taken.
        a.serves();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let new = Cluster::add_learner(a, c);
        let start = cluster.start(c).existing().arg("--expect-member", new);
        (new, start.arg("--replaces", old))
    };
    let votes = |member: MemberId| {
        eventually("the learner has caught up and votes", || {
            assert!(!c.has_ended(), "{}", c.said());
            Cluster::is_promoted(a, member)
        });
        c.serves();
    };
    // Leaves less than the others' data and a log take.
    let filler = c.home.dir().join("filler");
    let crowd = || {
        fill(&filler);
        let file = fs::OpenOptions::new().write(true).open(&filler).unwrap();
        file.set_len(file.metadata().unwrap().len() - (60 << 20)).unwrap();
    };
    let asides = || c.home.asides().unwrap().iter().map(|it| it.member).collect::<Vec<_>>();

    let first = Cluster::founder(c);
    let (second, start) = replacement(first);
    crowd();
    let stamp = c.home.stamp().unwrap();
    c.refuses(start.clone()).is(ExitKind::DiskFull).says("nothing was moved");
    assert_eq!((c.home.stamp().unwrap(), asides()), (stamp, vec![]), "nothing was moved");
    assert!(engine.log_dir(&c.home.data()).exists());
    fs::remove_file(&filler).unwrap();
    c.run(start);
    votes(second);
    assert_eq!(asides(), [first]);
    // Worth deleting.
    let ballast = c.home.asides().unwrap()[0].path.join("data/ballast");
    fs::write(ballast, vec![1; 150 << 20]).unwrap();

    let (third, start) = replacement(second);
    crowd();
    c.run(start);
    votes(third);
    assert_eq!(asides(), [second], "the oldest went to make room, the new one is kept");
    assert_eq!(c.ask(&["get", "k99", "--print-value-only"]).trim_end(), value(99));
}
