//! Writes `fuzz/seeds/` anew, from what the program itself writes. To be run in `fuzz/` after a
//! format has changed; CONTRIBUTING.md says how.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys as _; // what an instrumented build calls
use quorate::cluster::{ClusterId, Incarnation, MemberId};
use quorate::node::apply::{Command, Operation, Published, Seat, State, Ticket};
use quorate::node::checkpoint::Memory;
use quorate::node::log::{Entry, Ids, Log, Options, Position};
use quorate::node::raft::fuzzing::{Form, Parcel, Taken};
use quorate::node::transport::frame::{self, Kind};
use quorate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
};
use quorate::render;
use quorate_fuzz::input::piece;

fn main() {
    authority();
    config();
    log();
    peer();
    snapshot();
    spec();
}

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(name), bytes).expect("a file");
}

/// How, the lengths of three pieces, then frames.
fn authority() {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let frames = |authority: &[u8], more: &[u8]| {
        let block = [b"\x83\x86\x45\x0a/etcd/Call\x41", authority, b"\x5f\x10application/grpc"];
        [
            vec![2, 9, 24, 200],
            [&[4, 0][..], &piece(b"\0\x02\0\0\0\0\0\x04\0\0\xff\xff")].concat(),
            [&[1, 4][..], &piece(&block.concat())].concat(),
            [&[0, 1][..], &piece(b"\0\0\0\0\x02\x0a\0")].concat(),
            more.to_vec(),
        ]
        .concat()
    };
    let again = [&[1, 4][..], &piece(b"\x83\x86\xc0\xbf\xbe")].concat();
    write("authority", "good", frames(&text("127.0.0.1:2379"), &again));
    write("authority", "url", frames(&text("http://127.0.0.1:2379"), &again));
    write("authority", "list", frames(&text("#initially=[http://a:1;http://b:2]"), &again));
    // www.example.com in Huffman's code, from RFC 7541.
    let coded = b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    write("authority", "coded", frames(coded, &again));
    let block = b"\x02\0\0\0\0\x10\x01\x09http://a:\0\0";
    let padded = [&[2, 1, 1, 1][..], &[1, 0x2c], &piece(block)].concat();
    write("authority", "padded", padded);
    write("authority", "http1", b"\0\x01\x02\x03GET /health HTTP/1.1\r\nhost: a:1\r\n\r\n");
    let raw = [&b"\x01\x01\x02\x03\0\0\x0b\x01\x04\0\0\0\x01\x83\x86\x41\x07/a:2379"[..]].concat();
    write("authority", "raw", raw);
}

const SAMPLES: [(&str, &str); 5] = [
    ("howto", include_str!("../../deploy/samples/howto.yaml")),
    ("local", include_str!("../../deploy/samples/howto-local.yaml")),
    ("production", include_str!("../../deploy/samples/production.yaml")),
    ("emptydir", include_str!("../../deploy/samples/emptydir-test.yaml")),
    ("upstream", include_str!("../../deploy/samples/upstream-etcd.yaml")),
];

/// The sample as people are given it, without its comments.
fn bare(text: &str) -> String {
    text.lines().filter(|it| !it.trim().starts_with('#')).map(|it| format!("{it}\n")).collect()
}

fn spec() {
    for (name, text) in SAMPLES {
        write("spec", name, bare(text));
        let cluster = quorate::cluster::spec::read(text, name).expect("a sample is accepted");
        if cluster.spec.nodes.is_none() {
            write("spec", &format!("{name}.json"), serde_json::to_vec(&cluster).expect("JSON"));
        }
    }
    let full = "apiVersion: quorate.dev/v1alpha1\nkind: EtcdCluster\nmetadata: {name: a}\nspec:\n  \
                nodes:\n  - {name: b, address: fd00::1, peerPort: 1, clientPorts: [2, 3]}\n  \
                options:\n    heartbeatIntervalMs: 10\n    electionTimeoutMs: 50\n    \
                settings: {auto-compaction-mode: periodic, auto-compaction-retention: \"1h\"}\n  \
                remediation: {enabled: false, keepAside: 2}\n";
    write("spec", "full", full);
}

fn config() {
    let settings = [
        ("name", "it's \"1\" $x %n \\"),
        ("data-dir", "/var/lib/etcd"),
        ("listen-peer-urls", "http://127.0.0.1:2380"),
        ("listen-client-urls", "http://127.0.0.1:2379,http://127.0.0.1:4001"),
        ("initial-cluster", "a=http://127.0.0.1:2380,b=http://127.0.0.2:2380"),
        ("initial-cluster-state", "existing"),
        ("heartbeat-interval", "100"),
        ("strict-reconfig-check", "true"),
        ("auto-compaction-mode", "periodic"),
        ("auto-compaction-retention", "1h30m"),
        ("grpc-keepalive-interval", "2h"),
        ("trusted-ca-file", "/ca"),
        ("cipher-suites", "A,B"),
    ];
    let config = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = render::NodeConfig::from_settings(config.into()).expect("settings of etcd's");
    let form = |n: u8, text: String| [vec![n], text.into_bytes()].concat();
    write("config", "env", form(0, render::print_env(&config).expect("an environment")));
    write("config", "yaml", form(1, render::print_yaml(&config).expect("a config file")));
    write("config", "flags", form(2, render::print_flags(&config).expect("flags")));
    let unit = render::print_systemd(&config, "/usr/bin/etcd").expect("a unit");
    write("config", "unit", form(3, unit));
    let start = "--name=a\n--data-dir\n-strict-reconfig-check\n--election-timeout=1000\n\
                 ETCD_NAME=b\nETCD_QUOTA_BACKEND_BYTES=8589934592\nETCD_NO_SUCH=1\n";
    write("config", "start", form(4, start.to_owned()));
}

fn commands() -> Vec<Command> {
    let put = |key: &str, value: &str, lease| {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        Operation::Put(PutRequest { key, value, lease, ..PutRequest::default() })
    };
    let delete = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    let published = Published {
        member: 1,
        name: "n1".to_owned(),
        client_urls: vec!["http://a:2379".to_owned()],
        incarnation: 7,
    };
    [
        Operation::Publish(published),
        Operation::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 }),
        put("a", "1", 0),
        put("b", "2", 5),
        put("a", "3", 0),
        Operation::DeleteRange(delete),
        put("c", "4", 0),
        Operation::Compact(CompactionRequest { revision: 3, physical: false }),
        Operation::Alarm(AlarmRequest { action: 1, member_id: 1, alarm: 1 }),
    ]
    .iter()
    .zip(1..)
    .map(|(it, serial)| Command::new(Ticket { proposer: 1, serial }, it))
    .collect()
}

fn log() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("log");
    let ids = Ids { cluster: ClusterId(1), member: MemberId(2), incarnation: Incarnation(3) };
    let options = Options { ahead_bytes: 512, ..Options::default() };
    let log = Log::create(&dir, ids, options).expect("a log");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let append = |term, index, payload: Bytes| {
        let entries = vec![Entry { term, index, kind: 1, payload }];
        runtime.block_on(log.append(entries, Box::new(|it| it.expect("it is written"))))
    };
    runtime.block_on(log.save_vote(Bytes::from_static(b"a vote"))).expect("a vote");
    for (command, index) in commands().iter().zip(0..) {
        append(1, index, command.as_bytes().clone()).expect("an entry");
    }
    log.save_committed(Position { term: 1, index: 3 }).expect("a commit");
    runtime.block_on(log.truncate_after(Some(Position { term: 1, index: 6 }))).expect("cut");
    append(2, 7, Bytes::from_static(b"after")).expect("an entry");
    runtime.block_on(log.purge(Position { term: 1, index: 1 })).expect("purged");
    runtime.block_on(log.close()).expect("closed");
    let bytes = fs::read(dir.join("0000000000000001.log")).expect("a segment");
    let end = bytes.iter().rposition(|it| *it != 0).expect("something is in it") + 1;
    write("log", "whole", [&[4], &bytes[..]].concat());
    write("log", "cut", [&[4], &bytes[..end - 20]].concat());
    write("log", "sealed", [&[1], &bytes[..end]].concat());
    // Edits, segments, records; see the target.
    let records: Vec<u8> = (0..9).flat_map(|n| [1 | (n & 1) << 5, 3, n, n, n]).collect();
    let of = |edits: &[u8], count: u8| {
        let mut all = vec![2 | (count & 1) << 2, u8::try_from(edits.len() / 5).expect("few")];
        all.extend_from_slice(edits);
        all.push(count - 1);
        (0..count).for_each(|_| all.extend([&[9], &records[..]].concat()));
        all
    };
    write("log", "composed", of(&[], 1));
    write("log", "three", of(&[], 3));
    write("log", "flipped", of(&[1, 2, 200, 0, 8], 3));
    write("log", "torn", of(&[2, 1, 200, 1, 255], 3));
}

fn peer() {
    let command = commands().remove(2);
    let mut frames = BytesMut::new();
    for (head, body) in [
        ((Kind::Call, 1, 7), &command.as_bytes()[..]),
        ((Kind::Answer, 0, 7), b"\0"),
        ((Kind::Ping, 0, 0), b""),
        ((Kind::Goodbye, 0, 0), b"{\"kind\":\"NotReady\",\"detail\":\"stopping\"}"),
    ] {
        frame::encode(&mut frames, 1 << 16, head, body).expect("it is short");
    }
    write("peer", "frames", [b"\0\x07\0", &frames[..]].concat());
    write("peer", "sealed", [b"\x01\x07\0", &frames[..]].concat());
    write("peer", "broken", b"\x02\x05\0\x10\0\0\x01\x07\0\0\0\0\0\0\0body");
    let greeting =
        b"\x03\0Upgrade\n\x01quorate-raft/1\n\x02c1\n\x03a1\n\x041ca\n\x05a2\n\x06calls\n\
                     \x072000";
    write("peer", "greeting", greeting);

    let vote = [&3_u64.to_le_bytes()[..], &1_u64.to_le_bytes(), &[1]].concat();
    let id = |index: u64| [&3_u64.to_le_bytes()[..], &index.to_le_bytes()].concat();
    let some = |index: u64| [&[1][..], &id(index)].concat();
    let long = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let membership =
        br#"{"configs":[[1]],"nodes":{"1":{"peer_urls":["http://a:1"],"wants_vote":true}}}"#;
    let append = [
        vote.clone(),
        some(9),
        some(8),
        [id(10), vec![0], long(b"")].concat(),
        [id(11), vec![1], long(command.as_bytes())].concat(),
        [id(12), vec![2], long(membership)].concat(),
    ];
    let offered = taken().offer(100).expect("a snapshot");
    let messages = [
        (Form::Vote, vote.clone()),
        (Form::Payload(1), command.as_bytes().to_vec()),
        (Form::Payload(2), membership.to_vec()),
        (Form::Append, append.concat()),
        (Form::Appended, [vec![1], some(12)].concat()),
        (Form::VoteRequest, [vote.clone(), some(12), vec![1]].concat()),
        (Form::Voted, [vote.clone(), vec![0], vec![1]].concat()),
        (Form::Transfer, [vote, id(2)[8..].to_vec(), some(12)].concat()),
        (Form::Begin, id(12)),
        (Form::Received, id(12)),
        (Form::Chunk, offered.chunks[0].to_vec()),
    ];
    for (form, bytes) in messages {
        assert!(form.again(bytes.clone().into()).is_some(), "{form:?} is refused");
        let n = Form::ALL.iter().position(|it| *it == form).expect("one of them");
        let name = format!("{form:?}").to_lowercase().replace(['(', ')'], "");
        write("peer", &name, [vec![u8::try_from(n).expect("few") + 4], bytes].concat());
    }
}

fn taken() -> Taken {
    let store = Arc::new(Memory::default());
    let mut state = State::new(Arc::clone(&store) as _, 1 << 30);
    let seat = |n: u64| Seat {
        id: MemberId(n),
        peer_urls: vec![format!("http://{n}:2380")],
        voter: n == 1,
        wants_vote: n == 2,
    };
    state.apply_membership(1, 1, vec![seat(1), seat(2), seat(3)]).expect("members");
    state.apply_membership(2, 1, vec![seat(1), seat(2)]).expect("one less");
    for (command, index) in commands().iter().zip(3..) {
        let applied = state.apply(index, 1, command).expect("it is applied");
        assert!(applied.result.is_ok(), "{applied:?}");
    }
    Taken::of(state, store).expect("a snapshot")
}

fn snapshot() {
    let taken = taken();
    for (name, each, how) in [("whole", 100, 0), ("sealed", 100, 2), ("single", 1, 2)] {
        let Parcel { chunks, pieces } = taken.offer(each).expect("a snapshot");
        let chunks = chunks.iter().map(|it| [vec![how], piece(it)].concat());
        let pieces = pieces.iter().map(|it| [vec![how | 1], piece(it)].concat());
        let all = chunks.chain(pieces).collect::<Vec<_>>().concat();
        write("snapshot", name, [vec![how >> 1], all].concat());
    }
    let none = Taken::of(
        {
            let mut state = State::new(Arc::new(Memory::default()), 1 << 30);
            state.apply_blank(1, 1).expect("an entry");
            state
        },
        Arc::new(Memory::default()),
    );
    let Parcel { pieces, .. } = none.expect("a state").offer(1).expect("an empty one");
    write("snapshot", "empty", [vec![1, 3], piece(&pieces[0])].concat());
}
