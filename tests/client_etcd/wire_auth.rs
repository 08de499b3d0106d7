//! Auth: every call, and what it does to the others.

use prost::bytes::Bytes;
use quorate::client::{Client, Refusal};
use quorate::proto::authpb::permission::Type;
use quorate::proto::authpb::{Permission, UserAddOptions};
use quorate::proto::etcdserverpb::auth_client::AuthClient;
use quorate::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
    PutRequest, kv_client::KvClient,
};
use tonic::{Code, Request};

use crate::etcd::{Etcd, PATIENCE, connect};

fn user(name: &str, password: &str) -> AuthUserAddRequest {
    let (name, password) = (name.to_owned(), password.to_owned());
    AuthUserAddRequest { name, password, ..AuthUserAddRequest::default() }
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

#[tokio::test]
async fn users_and_roles_come_to_count_and_go_again() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut auth = AuthClient::new(channel.clone());
    let mut kv = KvClient::new(channel);

    for name in ["root", "reader"] {
        auth.role_add(AuthRoleAddRequest { name: name.to_owned() }).await.unwrap();
    }
    let permission = Permission {
        perm_type: Type::Read.into(),
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
    };
    auth.role_grant_permission(AuthRoleGrantPermissionRequest {
        name: "reader".to_owned(),
        perm: Some(permission.clone()),
    })
    .await
    .unwrap();
    let get = AuthRoleGetRequest { role: "reader".to_owned() };
    let role = auth.role_get(get.clone()).await.unwrap().into_inner();
    assert_eq!(role.perm, [permission]);
    let roles = auth.role_list(AuthRoleListRequest {}).await.unwrap().into_inner();
    assert_eq!(roles.roles, ["reader", "root"]);

    auth.user_add(user("root", "secret")).await.unwrap();
    auth.user_add(user("ann", "old")).await.unwrap();
    let options = Some(UserAddOptions { no_password: true });
    auth.user_add(AuthUserAddRequest { options, ..user("cert", "") }).await.unwrap();
    let users = auth.user_list(AuthUserListRequest {}).await.unwrap().into_inner();
    assert_eq!(users.users, ["ann", "cert", "root"]);
    for (user, role) in [("root", "root"), ("ann", "reader"), ("ann", "root")] {
        let (user, role) = (user.to_owned(), role.to_owned());
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role }).await.unwrap();
    }
    let revoke = AuthUserRevokeRoleRequest { name: "ann".to_owned(), role: "root".to_owned() };
    auth.user_revoke_role(revoke).await.unwrap();
    let get = AuthUserGetRequest { name: "ann".to_owned() };
    let ann = auth.user_get(get).await.unwrap().into_inner();
    assert_eq!(ann.roles, ["reader"]);
    auth.user_change_password(AuthUserChangePasswordRequest {
        name: "ann".to_owned(),
        password: "new".to_owned(),
        ..AuthUserChangePasswordRequest::default()
    })
    .await
    .unwrap();

    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let client = Client::new(PATIENCE);
    let closed = client.vouched_members(&etcd.clients()).await.unwrap_err();
    assert_eq!(closed.refusal(), Some(Refusal::AuthRequired), "{closed:?}");

    let mut log_in = async |name: &str, password: &str| {
        let (name, password) = (name.to_owned(), password.to_owned());
        let answer = auth.authenticate(AuthenticateRequest { name, password }).await;
        answer.map(|it| it.into_inner().token)
    };
    assert_eq!(log_in("ann", "old").await.unwrap_err().code(), Code::InvalidArgument);
    let no_password = log_in("cert", "").await.unwrap_err();
    assert!(no_password.message().contains("no password user"), "{no_password:?}");
    let ann = log_in("ann", "new").await.unwrap();
    let root = log_in("root", "secret").await.unwrap();

    let put = PutRequest { key: "a1".into(), value: "v".into(), ..PutRequest::default() };
    let denied = kv.put(with_token(&ann, put.clone())).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    kv.put(with_token(&root, put)).await.unwrap();

    let revoke = AuthRoleRevokePermissionRequest {
        role: "reader".to_owned(),
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
    };
    auth.role_revoke_permission(with_token(&root, revoke)).await.unwrap();
    let get = AuthRoleGetRequest { role: "reader".to_owned() };
    let role = auth.role_get(with_token(&root, get)).await.unwrap().into_inner();
    assert!(role.perm.is_empty());
    let delete = AuthRoleDeleteRequest { role: "reader".to_owned() };
    auth.role_delete(with_token(&root, delete)).await.unwrap();
    let delete = AuthUserDeleteRequest { name: "ann".to_owned() };
    auth.user_delete(with_token(&root, delete)).await.unwrap();
    let users = auth.user_list(with_token(&root, AuthUserListRequest {})).await.unwrap();
    assert_eq!(users.into_inner().users, ["cert", "root"]);

    match auth.auth_status(with_token(&root, AuthStatusRequest {})).await {
        Ok(status) => assert!(status.into_inner().enabled),
        // An etcd before 3.5 has the service, and not this call of it.
        Err(status) => {
            assert_eq!(status.code(), Code::Unimplemented);
            assert!(status.message().starts_with("unknown method"), "{}", status.message());
        }
    }
    auth.auth_disable(with_token(&root, AuthDisableRequest {})).await.unwrap();
    client.vouched_members(&etcd.clients()).await.unwrap();
}
