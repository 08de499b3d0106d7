//! The operator on a real Kubernetes: clusters are made, broken, changed and deleted, and what must
//! always hold is watched meanwhile.
//!
//! Needs `KUBECONFIG` of a cluster made for tests, and `QUORATE_E2E_LOAD`, a command that loads an
//! image archive into its nodes; without both, each test says SKIPPED. The operator runs as a pod
//! with the account and the rights that are shipped, once for all; each scenario has a namespace of its own that
//! enforces the Pod Security level `restricted`. Run with `--test-threads=1`.
//!
//! | variable | |
//! | --- | --- |
//! | `QUORATE_E2E_ARCHIVES` | archives to load first, separated by colons |
//! | `QUORATE_E2E_IMAGE` | the image under test, `quorate:dev` |
//! | `QUORATE_E2E_NEXT` | the same under another name, to change to: `quorate:next` |
//! | `QUORATE_E2E_WRITER` | an image with the writer as its entrypoint: `quorate-e2e-writer:dev` |
//! | `QUORATE_E2E_ENGINE` | `etcd`: the clusters run the upstream etcd of the image `QUORATE_E2E_ETCD` |
//! | `QUORATE_E2E_AUDIT` | the API server's audit log of the operator's calls, at level Metadata |
//! | `QUORATE_E2E_QUIET` | how many seconds ten clusters are watched doing nothing: 60 |
//! | `QUORATE_E2E_TESTBED` | a command that can break machines: `testbed` |
//! | `QUORATE_E2E_OUT` | where a scenario that fails leaves what was seen of it |
//! | `QUORATE_E2E_KEEP` | leave the namespaces of failed scenarios |
//!
//! Two watchers stand beside each scenario: `watch` here looks at what the operator does to pods
//! and volumes; `quorate-e2e-writer` in the cluster writes, and looks at the member list.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::large_futures, reason = "a scenario is one long future, and there are few")]

mod audit;
mod bed;
mod operator;
mod promises;
mod scenario;
mod wait;
mod watch;

mod fields;
mod healing;
mod helm;
mod killed;
mod machines;
mod many;
mod membership;
mod people;
mod quorum;
mod restarts;
mod rolling;
mod smoke;
