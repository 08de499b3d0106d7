//! Compiles the wire definitions in `proto/` (feature `node` only); needs no `protoc`.

#[cfg(not(feature = "node"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "node")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 12] = [
        "authpb/auth.proto",
        "etcdserverpb/auth.proto",
        "etcdserverpb/cluster.proto",
        "etcdserverpb/header.proto",
        "etcdserverpb/kv.proto",
        "etcdserverpb/lease.proto",
        "etcdserverpb/maintenance.proto",
        "etcdserverpb/watch.proto",
        "grpc/health/v1/health.proto",
        "mvccpb/kv.proto",
        "v3electionpb/election.proto",
        "v3lockpb/lock.proto",
    ];
    // `proto` itself would also cover its README.
    for file in FILES {
        println!("cargo::rerun-if-changed=proto/{file}");
    }
    println!("cargo::rerun-if-changed=build.rs");

    let mut files = protox::compile(FILES, ["proto"])?;
    // The wire's `peerURLs` would become `peer_ur_ls` in Rust. Names do not travel in the binary
    // form, so the generated code may have better ones.
    for field in
        files.file.iter_mut().flat_map(|it| &mut it.message_type).flat_map(|it| &mut it.field)
    {
        match field.name() {
            "peerURLs" => field.name = Some("peer_urls".to_owned()),
            "clientURLs" => field.name = Some("client_urls".to_owned()),
            _ => {}
        }
    }
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
