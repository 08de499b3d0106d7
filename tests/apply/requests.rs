//! What is refused before it is proposed.

use quorate::node::apply::check::{self, MAX_TXN_OPS};
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest,
};

fn put(key: &'static str) -> Request {
    Request::RequestPut(PutRequest { key: key.into(), ..PutRequest::default() })
}

fn delete(key: &'static str, range_end: &'static str) -> Request {
    let (key, range_end) = (key.into(), range_end.into());
    Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false })
}

fn ops(all: Vec<Request>) -> Vec<RequestOp> {
    all.into_iter().map(|it| RequestOp { request: Some(it) }).collect()
}

fn txn(success: Vec<Request>, failure: Vec<Request>) -> Request {
    let (success, failure) = (ops(success), ops(failure));
    Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure })
}

fn checked(success: Vec<Request>) -> Result<(), Fault> {
    check::check_txn(&TxnRequest { success: ops(success), ..TxnRequest::default() }, MAX_TXN_OPS)
}

#[test]
fn a_key_may_be_written_once_whichever_way_a_transaction_goes() {
    let duplicate = Err(Fault::DuplicateKey);
    let cases = [
        (vec![put("a"), put("b")], Ok(())),
        (vec![put("a"), put("a")], duplicate),
        // Deletions may meet each other, but no put.
        (vec![delete("a", ""), delete("a", "c")], Ok(())),
        (vec![put("b"), delete("a", "c")], duplicate),
        (vec![delete("b", ""), put("b")], duplicate),
        (vec![put("c"), delete("a", "c")], Ok(())),
        (vec![put("b\0"), delete("b", "")], Ok(())),
        // Nested: both ways may write the same, for only one is gone.
        (vec![txn(vec![put("a")], vec![put("a")])], Ok(())),
        (vec![txn(vec![put("a")], vec![delete("a", "")])], Ok(())),
        (vec![txn(vec![put("a")], vec![]), put("a")], duplicate),
        (vec![txn(vec![], vec![put("a")]), put("a")], duplicate),
        (vec![txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])], duplicate),
        (vec![txn(vec![put("b")], vec![]), delete("a", "c")], duplicate),
        (vec![txn(vec![], vec![delete("a", "c")]), put("b")], duplicate),
        (vec![txn(vec![delete("a", "c")], vec![]), txn(vec![put("b")], vec![])], duplicate),
        (vec![txn(vec![txn(vec![put("a")], vec![])], vec![]), put("a")], duplicate),
        // What etcd does not see either.
        (vec![txn(vec![put("b")], vec![]), txn(vec![delete("a", "c")], vec![])], Ok(())),
        (vec![delete("a", "\0"), put("b")], Ok(())),
    ];
    for (ops, expected) in cases {
        assert_eq!(checked(ops.clone()), expected, "{ops:?}");
    }
}

#[test]
fn a_nested_transaction_has_the_operations_that_are_left() {
    let many = |n: usize| (0..n).map(|_| delete("a", "")).collect::<Vec<_>>();
    assert_eq!(checked(many(128)), Ok(()));
    assert_eq!(checked(many(129)), Err(Fault::TooManyOps));
    for (nested, expected) in [(64, Ok(())), (65, Err(Fault::TooManyOps))] {
        let mut ops = many(63);
        ops.push(txn(many(nested), many(1)));
        assert_eq!(checked(ops), expected, "{nested}");
    }
    let compare = vec![Compare { key: "a".into(), ..Compare::default() }; 129];
    let it = TxnRequest { compare, ..TxnRequest::default() };
    assert_eq!(check::check_txn(&it, MAX_TXN_OPS), Err(Fault::TooManyOps));
    // As deep as it is allowed to be, and wide: the check is not to blow up.
    let deep = (0..127).fold(vec![put("a")], |inner, _| vec![txn(inner, vec![])]);
    assert_eq!(checked(deep), Ok(()));
}

#[test]
fn a_check_of_a_wide_transaction_takes_no_square_of_its_width() {
    // 200,000 operations, as many as fit into the largest request, in 500 nested transactions.
    let wide = |from: usize| {
        let key = |n: usize| bytes::Bytes::from(format!("{:06}", 2 * (from * 400 + n)));
        let put = |n| PutRequest { key: key(n), ..PutRequest::default() };
        let end = |n| [&key(n)[..], b"z"].concat().into();
        let delete = |n| DeleteRangeRequest { key: key(n), range_end: end(n), prev_kv: false };
        let ops = (0..400).map(move |n| {
            if from.is_multiple_of(2) {
                Request::RequestPut(put(n))
            } else {
                Request::RequestDeleteRange(delete(n))
            }
        });
        txn(ops.collect(), vec![])
    };
    let it = TxnRequest { success: ops((0..500).map(wide).collect()), ..TxnRequest::default() };
    assert_eq!(check::check_txn(&it, 1000), Ok(()));
}

#[test]
fn an_empty_key_or_no_operation_is_found_at_any_depth() {
    let nothing = TxnRequest { success: vec![RequestOp { request: None }], ..Default::default() };
    assert_eq!(check::check_txn(&nothing, 128), Err(Fault::KeyNotFound));
    assert_eq!(checked(vec![Request::RequestTxn(nothing)]), Err(Fault::KeyNotFound));
    assert_eq!(checked(vec![txn(vec![], vec![delete("", "\0")])]), Err(Fault::EmptyKey));
    let compare = vec![Compare::default()];
    let it = TxnRequest { compare, ..TxnRequest::default() };
    assert_eq!(check::check_txn(&it, 128), Err(Fault::EmptyKey));
}

#[test]
fn a_short_lease_is_made_longer_and_a_long_one_refused() {
    for (ttl, granted) in [(-5, 2), (0, 2), (1, 2), (2, 2), (3, 3), (9_000_000_000, 9_000_000_000)]
    {
        let mut it = LeaseGrantRequest { ttl, id: 1 };
        assert_eq!(check::check_lease_grant(&mut it, 2), Ok(()));
        assert_eq!(it.ttl, granted);
    }
    let mut it = LeaseGrantRequest { ttl: 9_000_000_001, id: 1 };
    assert_eq!(check::check_lease_grant(&mut it, 2), Err(Fault::LeaseTtlTooLarge));
}
