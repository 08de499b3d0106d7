//! What the API server's audit log says of the operator's calls.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use serde::Deserialize;

use super::bed::{Bed, SYSTEM, variable};
use super::operator::NAME;

/// API group, resource with its subresource, verb.
type Right = (String, String, String);

/// Granted although no call ever shows it: each with the reason.
const UNSEEN: [(&str, &str, &str); 4] = [
    // Asked for by the admission of owner references that block deletion, inside of another call.
    ("quorate.dev", "etcdclusters/finalizers", "update"),
    // Asked for inside of a patch that applies what is not there yet.
    ("", "services", "create"),
    ("", "serviceaccounts", "create"),
    ("policy", "poddisruptionbudgets", "create"),
];

/// The log, from some moment on.
pub(crate) struct Audit {
    path: PathBuf,
    from: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
}

impl Event {
    fn is_refused(&self) -> bool {
        self.annotations.get("authorization.k8s.io/decision").is_some_and(|it| it == "forbid")
    }

    fn right(&self) -> Option<Right> {
        let of = self.object_ref.as_ref()?;
        let resource = if of.subresource.is_empty() {
            of.resource.clone()
        } else {
            format!("{}/{}", of.resource, of.subresource)
        };
        Some((of.api_group.clone(), resource, self.verb.clone()))
    }
}

impl Audit {
    /// All that is in it; `None` where the API server writes none.
    pub(crate) fn whole() -> Option<Audit> {
        Some(Audit { path: variable("QUORATE_E2E_AUDIT")?.into(), from: 0 })
    }

    /// What is written to it from now on.
    pub(crate) fn from_now() -> Option<Audit> {
        let path = Audit::whole()?.path;
        let from = path.metadata().expect("the audit log is there").len();
        Some(Audit { path, from })
    }

    fn calls(&self) -> Vec<Event> {
        let mut file = File::open(&self.path).expect("the audit log is there");
        file.seek(SeekFrom::Start(self.from)).expect("it only grows");
        let account = format!("system:serviceaccount:{SYSTEM}:{NAME}");
        let lines = BufReader::new(file).lines().map(|it| it.expect("text"));
        // The last line may not be whole yet.
        let events = lines.filter_map(|it| serde_json::from_str::<Event>(&it).ok());
        events.filter(|it| it.user.username == account).collect()
    }

    /// What the operator wrote in a namespace; its Lease is in another.
    pub(crate) fn writes(&self, namespace: &str) -> Vec<String> {
        let is_read = |verb: &str| matches!(verb, "get" | "list" | "watch");
        let calls = self.calls();
        let written = calls.iter().filter(|it| {
            !is_read(&it.verb) && it.object_ref.as_ref().is_some_and(|it| it.namespace == namespace)
        });
        written.map(|it| format!("{} {}", it.verb, it.uri)).collect()
    }
}

/// Looks at a log that a whole run has left, so it runs last and only when it is asked for.
#[tokio::test]
#[ignore = "reads what a whole run of the others has left in the audit log"]
async fn nothing_was_refused_and_nothing_is_granted_that_is_never_used() {
    let Some(audit) = Audit::whole() else {
        println!("SKIPPED: QUORATE_E2E_AUDIT names no audit log");
        return;
    };
    let bed = Bed::bare().await;
    let calls = audit.calls();
    println!("  {} calls", calls.len());
    assert!(!calls.is_empty(), "the operator has called");
    let refused: BTreeSet<_> = calls
        .iter()
        .filter(|it| it.is_refused())
        .map(|it| (it.verb.clone(), it.uri.clone()))
        .collect();
    assert!(refused.is_empty(), "refused: {refused:#?}");
    let roles: Api<ClusterRole> = Api::all(bed.kube.clone());
    let everywhere = roles.get(NAME).await.expect("its role").rules.unwrap_or_default();
    let roles: Api<Role> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let lease = roles.get(&format!("{NAME}-lease")).await.expect("its role").rules;
    let granted: BTreeSet<Right> =
        everywhere.into_iter().chain(lease.unwrap_or_default()).flat_map(rights).collect();
    let used: BTreeSet<Right> = calls.iter().filter_map(Event::right).collect();
    let unseen = UNSEEN
        .map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned()));
    let unused: Vec<_> =
        granted.iter().filter(|it| !used.contains(*it) && !unseen.contains(it)).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
}

fn rights(rule: PolicyRule) -> Vec<Right> {
    let mut all = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                assert!(![group, resource, verb].iter().any(|it| *it == "*"), "a wildcard");
                all.push((group.clone(), resource.clone(), verb.clone()));
            }
        }
    }
    all
}
