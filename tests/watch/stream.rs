//! What one stream says, step by step (contract §6).

use std::time::Duration;

use quorate::node::api::Options;
use quorate::node::apply::Operation;
use quorate::node::watch::Limits;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use tonic::Code;

use crate::support::{Served, Watching, bytes, told, watch, watch_range};

fn revision(answer: &WatchResponse) -> i64 {
    answer.header.as_ref().unwrap().revision
}

#[tokio::test]
async fn a_watch_from_now_on_hears_each_change_of_its_key_and_nothing_else() {
    let served = Served::start().await;
    served.put("a", "before");
    let mut stream = served.watch().await;
    let created = stream.created(watch("a")).await;
    assert_eq!((created.watch_id, created.canceled, revision(&created)), (0, false, 2));
    let header = created.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (7, 1, 1));
    served.put("b", "other");
    served.put("a", "1");
    let answer = stream.next().await;
    assert_eq!(told(&answer.events), ["+a=1@4"]);
    assert_eq!((answer.watch_id, revision(&answer), answer.created), (0, 4, false));
    let kv = answer.events[0].kv.as_ref().unwrap();
    assert_eq!((kv.create_revision, kv.version, kv.lease), (2, 2, 0));
    served.delete("a", "");
    let answer = stream.next().await;
    assert_eq!(told(&answer.events), ["-a@5"]);
    let kv = answer.events[0].kv.as_ref().unwrap();
    assert_eq!((kv.create_revision, kv.version, kv.value.len()), (0, 0, 0));
    stream.is_silent().await;
}

#[tokio::test]
async fn ids_are_the_clients_or_counted_and_never_given_twice() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    let with_id = |id| WatchCreateRequest { watch_id: id, ..watch("a") };
    for (asked, given) in [(0, 0), (0, 1), (2, 2), (9, 9), (0, 3)] {
        assert_eq!(stream.created(with_id(asked)).await.watch_id, given);
    }
    let refused = stream.created(with_id(9)).await;
    assert_eq!((refused.watch_id, refused.canceled), (-1, true));
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(refused.compact_revision, 0);
    stream.cancel(9).await;
    let canceled = stream.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.created), (9, true, false));
    assert_eq!((canceled.cancel_reason.as_str(), revision(&canceled)), ("", 1));
    assert_eq!(stream.created(with_id(9)).await.watch_id, 9);
    // An unknown one: silence.
    stream.cancel(77).await;
    stream.cancel(-1).await;
    stream.is_silent().await;
    served.put("a", "1");
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(stream.next().await.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 9]);
}

#[tokio::test]
async fn a_range_without_keys_is_refused_and_every_other_is_heard() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    for (key, end) in [("b", "a"), ("b", "b")] {
        let refused = stream.created(watch_range(key, end)).await;
        assert_eq!((refused.watch_id, refused.canceled), (-1, true));
        assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    }
    let ranges = [("b", ""), ("b", "c"), ("b", "\0"), ("", "\0"), ("", ""), ("", "b")];
    for (id, (key, end)) in (0..).zip(ranges) {
        assert_eq!(stream.created(watch_range(key, end)).await.watch_id, id);
    }
    for (key, who) in [
        ("b", &[0, 1, 2, 3][..]),
        ("b1", &[1, 2, 3]),
        ("c", &[2, 3]),
        ("a", &[3, 5]),
        ("\0", &[3, 4, 5]),
    ] {
        served.put(key, "");
        let mut heard = Vec::new();
        for _ in who {
            heard.push(stream.next().await.watch_id);
        }
        heard.sort_unstable();
        assert_eq!(heard, who, "{key:?}");
    }
    stream.is_silent().await;
}

#[tokio::test]
async fn history_is_told_in_order_and_goes_over_into_what_is_new() {
    let served = Served::start().await;
    for n in 0..2500 {
        served.put(if n % 2 == 0 { "a" } else { "b" }, &n.to_string());
    }
    for (key, end, start, step) in [("a", "", 2, 2), ("a", "c", 2, 1), ("b", "c", 1000, 2)] {
        let mut stream = served.watch().await;
        let request = WatchCreateRequest { start_revision: start, ..watch_range(key, end) };
        let created = stream.created(request).await;
        let at_creation = revision(&created);
        let mut expected = if step == 1 || start == 2 { start } else { start + start % 2 + 1 };
        let more = tokio::spawn({
            let alone = std::sync::Arc::clone(&served.alone);
            async move {
                for n in 0..500 {
                    for key in ["a", "b"] {
                        let value = bytes(&n.to_string());
                        let put = PutRequest { key: bytes(key), value, ..PutRequest::default() };
                        alone.apply(&Operation::Put(put)).unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        // Keys alternate: `a` has the even revisions, `b` the odd ones.
        if key == "b" {
            expected = 1001;
        }
        let last = at_creation + 1000;
        while expected <= last {
            let answer = stream.next().await;
            assert!(!answer.events.is_empty() && !answer.fragment);
            for event in &answer.events {
                assert_eq!(event.kv.as_ref().unwrap().mod_revision, expected, "{key:?} {end:?}");
                expected += step;
            }
        }
        more.await.unwrap();
        stream.is_silent().await;
    }
}

#[tokio::test]
async fn a_start_yet_to_come_is_waited_for_and_one_below_zero_is_refused() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    let from = |start| WatchCreateRequest { start_revision: start, ..watch("a") };
    let refused = stream.created(from(-1)).await;
    assert_eq!((refused.watch_id, refused.canceled, refused.compact_revision), (-1, true, 0));
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refused.cancel_reason, text);
    stream.created(from(5)).await;
    for n in 2..5 {
        assert_eq!(served.put("a", "early"), n);
    }
    stream.is_silent().await;
    served.put("a", "due");
    assert_eq!(told(&stream.next().await.events), ["+a=due@5"]);
}

#[tokio::test]
async fn what_is_compacted_away_ends_a_watch_and_a_deletion_just_there_is_told() {
    let served = Served::start().await;
    served.put("a", "1"); // 2
    served.put("a", "2"); // 3
    served.put("b", "1"); // 4
    served.delete("a", ""); // 5
    served.put("b", "2"); // 6
    served.compact(5);
    let mut stream = served.watch().await;
    let from = |start| WatchCreateRequest { start_revision: start, ..watch_range("a", "c") };
    let created = stream.created(from(4)).await;
    assert!(!created.canceled && created.compact_revision == 0);
    let canceled = stream.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (created.watch_id, true));
    assert_eq!((canceled.compact_revision, canceled.cancel_reason.as_str()), (5, ""));
    stream.created(WatchCreateRequest { prev_kv: true, ..from(5) }).await;
    // What was there before the compacted revision is gone.
    assert_eq!(told(&stream.next().await.events), ["-a@5", "+b=2@6(1)"]);
    served.put("b", "3");
    served.compact(7);
    assert_eq!(told(&stream.next().await.events), ["+b=3@7"]);
    stream.is_silent().await;
}

#[tokio::test]
async fn filters_leave_out_and_prev_kv_tells_what_was_before() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    let filter = |it: FilterType| WatchCreateRequest { filters: vec![it.into()], ..watch("a") };
    stream.created(filter(FilterType::Noput)).await;
    stream.created(filter(FilterType::Nodelete)).await;
    stream.created(WatchCreateRequest { prev_kv: true, ..watch("a") }).await;
    let mut heard = [const { Vec::new() }; 3];
    served.put("a", "1");
    served.put("a", "2");
    served.delete("a", "");
    served.put("a", "3");
    while heard.iter().map(Vec::len).sum::<usize>() < 1 + 3 + 4 {
        let answer = stream.next().await;
        heard[usize::try_from(answer.watch_id).unwrap()].extend(told(&answer.events));
    }
    assert_eq!(heard[0], ["-a@4"]);
    assert_eq!(heard[1], ["+a=1@2", "+a=2@3", "+a=3@5"]);
    assert_eq!(heard[2], ["+a=1@2", "+a=2@3(1)", "-a@4(2)", "+a=3@5"]);
}

#[tokio::test]
async fn events_of_one_revision_stay_together_unless_they_may_be_cut() {
    let options = Options { max_request_bytes: 4096, ..Options::default() };
    let most = 4096 + (512 << 10);
    let served = Served::start_with(options, Limits::default(), Duration::from_secs(600)).await;
    let mut stream = served.watch().await;
    stream.created(watch_range("a", "b")).await;
    stream.created(WatchCreateRequest { fragment: true, ..watch_range("a", "b") }).await;
    let put = |n: u32| {
        Request::RequestPut(PutRequest {
            key: bytes(&format!("a{n:03}")),
            value: vec![b'x'; 20_000].into(),
            ..PutRequest::default()
        })
    };
    let success = (0..100).map(|n| RequestOp { request: Some(put(n)) }).collect();
    let txn = TxnRequest { success, ..TxnRequest::default() };
    served.alone.apply(&Operation::Txn(txn)).unwrap();
    let (mut whole, mut parts) = (0, Vec::new());
    while whole < 100 || parts.iter().map(|it: &(usize, bool)| it.0).sum::<usize>() < 100 {
        let answer = stream.next().await;
        assert_eq!(revision(&answer), 2);
        if answer.watch_id == 0 {
            whole = answer.events.len();
            assert!(!answer.fragment);
        } else {
            assert!(prost::Message::encoded_len(&answer) < most);
            parts.push((answer.events.len(), answer.fragment));
        }
    }
    assert_eq!(whole, 100);
    assert_eq!(parts, [(26, true), (26, true), (26, true), (22, false)]);

    // A deletion of all of them, and history of both, is cut in the same way.
    served.delete("a", "b");
    for _ in 0..2 {
        assert_eq!(stream.next().await.events.len(), 100);
    }
    let request = WatchCreateRequest { start_revision: 2, prev_kv: true, ..watch_range("a", "b") };
    for fragment in [false, true] {
        stream.created(WatchCreateRequest { fragment, ..request.clone() }).await;
        let (mut events, mut cuts) = (0, 0);
        while events < 200 {
            let answer = stream.next().await;
            events += answer.events.len();
            cuts += i32::from(answer.fragment);
            assert!(!answer.fragment || prost::Message::encoded_len(&answer) < most);
        }
        assert_eq!((events, cuts > 0), (200, fragment));
    }
}

#[tokio::test]
async fn a_put_and_a_deletion_of_one_transaction_are_one_answer() {
    let served = Served::start().await;
    served.put("b", "1");
    let mut stream = served.watch().await;
    stream.created(WatchCreateRequest { prev_kv: true, ..watch_range("a", "c") }).await;
    let put = PutRequest { key: bytes("a"), value: bytes("1"), ..PutRequest::default() };
    let delete = DeleteRangeRequest { key: bytes("b"), ..DeleteRangeRequest::default() };
    let success = vec![
        RequestOp { request: Some(Request::RequestPut(put)) },
        RequestOp { request: Some(Request::RequestDeleteRange(delete)) },
    ];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    served.alone.apply(&Operation::Txn(txn)).unwrap();
    assert_eq!(told(&stream.next().await.events), ["+a=1@3", "-b@3(1)"]);
}

#[tokio::test]
async fn progress_is_told_when_asked_for_and_never_ahead_of_events() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    stream.progress().await; // of no watch: silence
    stream.is_silent().await;
    stream.created(watch("a")).await;
    stream.created(watch("b")).await;
    served.put("other", "");
    stream.progress().await;
    let answer = stream.next().await;
    assert_eq!((answer.watch_id, revision(&answer), answer.events.len()), (-1, 2, 0));
    assert!(!answer.created && !answer.canceled);
    for n in 0..1000 {
        served.put("a", &n.to_string());
    }
    let request = WatchCreateRequest { start_revision: 1, ..watch_range("a", "z") };
    stream.create(request).await;
    stream.progress().await;
    let mut last = [0; 3];
    loop {
        let answer = stream.next().await;
        if answer.watch_id == -1 {
            assert_eq!((revision(&answer), last), (1002, [1002, 0, 1002]));
            break;
        }
        for event in &answer.events {
            let index = usize::try_from(answer.watch_id).unwrap();
            last[index] = event.kv.as_ref().unwrap().mod_revision;
        }
    }
}

#[tokio::test]
async fn progress_is_told_by_itself_to_those_who_ask_for_it_and_hear_nothing() {
    let interval = Duration::from_millis(200);
    let served = Served::start_with(Options::default(), Limits::default(), interval).await;
    served.put("other", "");
    let mut stream = served.watch().await;
    stream.created(watch("a")).await;
    stream.created(WatchCreateRequest { progress_notify: true, ..watch("a") }).await;
    for _ in 0..2 {
        let answer = stream.next().await;
        assert_eq!((answer.watch_id, revision(&answer), answer.events.len()), (1, 2, 0));
    }
    served.put("other", "");
    let mut answer = stream.next().await;
    for _ in 0..20 {
        // On a busy machine more than one may have been on the way.
        if revision(&answer) == 2 {
            answer = stream.next().await;
        }
    }
    assert_eq!((answer.watch_id, revision(&answer)), (1, 3));
}

#[tokio::test]
async fn the_end_of_the_server_and_the_loss_of_the_leader_end_streams_in_etcds_words() {
    let options = Options { election: Duration::from_millis(50), ..Options::default() };
    let mut served = Served::start_with(options, Limits::default(), Duration::from_secs(600)).await;
    let mut strict = Watching::open(served.channel().await, true).await.unwrap();
    let mut lax = served.watch().await;
    for stream in [&mut strict, &mut lax] {
        stream.created(watch("a")).await;
    }
    served.alone.stand(|it| it.leader = None);
    let status = strict.result().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    let refused = Watching::open(served.channel().await, true).await.err().unwrap();
    assert_eq!(refused.message(), "etcdserver: no leader");
    served.put("a", "1");
    assert_eq!(told(&lax.next().await.events), ["+a=1@2"]);
    served.stop();
    let status = lax.result().await.unwrap_err();
    let stopped = (Code::Unavailable, "etcdserver: server stopped");
    assert_eq!((status.code(), status.message()), stopped);
}

#[tokio::test]
async fn watches_outlive_the_requests_and_are_counted_until_their_stream_ends() {
    let served = Served::start().await;
    let mut stream = served.watch().await;
    stream.created(watch("a")).await;
    stream.created(watch_range("a", "b")).await;
    stream.requests = None;
    served.put("a", "1");
    for _ in 0..2 {
        assert_eq!(told(&stream.next().await.events), ["+a=1@2"]);
    }
    let figures = served.hub.figures();
    assert_eq!((figures.streams, figures.watches, figures.lagging), (1, 2, 0));
    assert_eq!(served.metrics.events.get(), 2);
    drop(stream);
    for _ in 0..1500 {
        if served.hub.figures().streams == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let figures = served.hub.figures();
    assert_eq!((figures.streams, figures.watches, figures.lagging), (0, 0, 0));
}
