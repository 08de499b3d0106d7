//! What the API gained after the etcd that is at hand (3.5 to 3.7): no member here can answer
//! it, so its numbers are written out byte by byte.

use prost::Message;
use quorate::proto::etcdserverpb as pb;

#[track_caller]
fn encodes(message: &(impl Message + std::fmt::Debug), expected: &[u8]) {
    assert_eq!(message.encode_to_vec(), expected, "{message:?}");
}

/// In a key byte the number stands above the lowest three bits; those are 0 for an integer or a
/// truth, 2 for what has a length.
#[test]
fn fields_newer_than_3_4_have_their_numbers() {
    encodes(&pb::MemberListRequest { linearizable: true }, &[1 << 3, 1]);
    let status = pb::StatusResponse {
        storage_version: "3".to_owned(),
        db_size_quota: 7,
        downgrade_info: Some(pb::DowngradeInfo { enabled: true, target_version: "x".to_owned() }),
        ..pb::StatusResponse::default()
    };
    let info = [1 << 3, 1, 2 << 3 | 2, 1, b'x'];
    let head = [11 << 3 | 2, 1, b'3', 12 << 3, 7, 13 << 3 | 2, 5];
    encodes(&status, &[&head[..], &info[..]].concat());
    encodes(&pb::HashKvResponse { hash_revision: 5, ..Default::default() }, &[4 << 3, 5]);
    let piece = pb::SnapshotResponse { version: "v".to_owned(), ..Default::default() };
    encodes(&piece, &[4 << 3 | 2, 1, b'v']);
    let user = pb::AuthUserAddRequest { hashed_password: "h".to_owned(), ..Default::default() };
    encodes(&user, &[4 << 3 | 2, 1, b'h']);
    let change =
        pb::AuthUserChangePasswordRequest { hashed_password: "h".to_owned(), ..Default::default() };
    encodes(&change, &[3 << 3 | 2, 1, b'h']);
    let on = pb::AuthStatusResponse { enabled: true, auth_revision: 9, ..Default::default() };
    encodes(&on, &[2 << 3, 1, 3 << 3, 9]);
    let downgrade = pb::DowngradeRequest {
        action: pb::downgrade_request::DowngradeAction::Cancel.into(),
        version: "v".to_owned(),
    };
    encodes(&downgrade, &[1 << 3, 2, 2 << 3 | 2, 1, b'v']);
    encodes(
        &pb::DowngradeResponse { version: "v".to_owned(), ..Default::default() },
        &[2 << 3 | 2, 1, b'v'],
    );
    let chunk = pb::RangeStreamResponse {
        range_response: Some(pb::RangeResponse { count: 3, ..Default::default() }),
    };
    encodes(&chunk, &[1 << 3 | 2, 2, 4 << 3, 3]);
}
