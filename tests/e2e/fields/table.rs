//! Every field of the spec, with what shows that it takes effect or is refused.

use serde_json::{Map, Value, json};

use super::Bed;

/// One field of the spec, or a group of which the row stands for all.
pub(super) struct Field {
    /// As `docs/crd.md` writes it, without `spec.`.
    pub(super) path: &'static str,
    /// A value for a cluster that runs, and what each member then is, by pointers into
    /// [`super::live`].
    pub(super) set: Option<(Value, Vec<(&'static str, Value)>)>,
    /// Scenarios in which it takes effect, as `file::test`.
    pub(super) by: &'static [&'static str],
    /// What the API server refuses: a change of the spec, the path it is refused at, and words of
    /// the reason.
    pub(super) refused: Vec<(Value, &'static str, &'static str)>,
    /// The same for what the operator has to refuse.
    pub(super) not_followed: Vec<(Value, &'static str, &'static str)>,
}

impl Field {
    fn set(mut self, value: Value, then: &[(&'static str, Value)]) -> Field {
        self.set = Some((value, then.to_vec()));
        self
    }

    fn by(mut self, scenarios: &'static [&'static str]) -> Field {
        self.by = scenarios;
        self
    }

    fn refused(mut self, change: Value, at: &'static str, why: &'static str) -> Field {
        self.refused.push((change, at, why));
        self
    }

    /// A wrong value of this field.
    fn wrong(self, value: Value, why: &'static str) -> Field {
        let (change, at) = (self.change(value), self.path);
        self.refused(change, at, why)
    }

    fn not_followed(mut self, value: Value, below: &'static str, why: &'static str) -> Field {
        self.not_followed.push((self.change(value), below, why));
        self
    }

    /// A spec with nothing but this field.
    pub(super) fn change(&self, value: Value) -> Value {
        self.path.rsplit('.').fold(value, |inner, name| {
            let mut outer = Map::new();
            outer.insert(name.to_owned(), inner);
            Value::Object(outer)
        })
    }
}

fn field(path: &'static str) -> Field {
    Field { path, set: None, by: &[], refused: Vec::new(), not_followed: Vec::new() }
}

/// The whole table.
pub(super) fn table(bed: &Names) -> Vec<Field> {
    let mut all = cluster(bed);
    all.extend(storage());
    all.extend(options());
    all.extend(remediation());
    all.extend(pod());
    all.extend(placement());
    all
}

/// What of the surroundings the table has to name.
pub(super) struct Names {
    pub(super) next: String,
}

impl Names {
    pub(super) fn of(bed: &Bed) -> Names {
        Names { next: bed.next.clone() }
    }
}

fn cluster(bed: &Names) -> Vec<Field> {
    let host = json!([{"name": "a", "address": "192.0.2.1"}]);
    vec![
        field("replicas")
            .by(&["membership::a_cluster_grows_from_one_to_five_and_shrinks_back_to_one"])
            .wrong(json!(2), "write 1, 3, 5, 7 or 9")
            .wrong(json!(11), "less than or equal to 9"),
        field("nodes").refused(
            json!({"nodes": host, "replicas": null}),
            "nodes",
            "write replicas: 3 instead",
        ),
        field("token")
            .by(&["fields::what_is_set_on_a_running_cluster_takes_effect"])
            .wrong(json!("other"), "cannot be changed")
            .wrong(Value::Null, "cannot be changed"),
        field("engine")
            .by(&["fields::a_member_of_another_version_than_the_spec_asks_for_is_told"])
            .refused(json!({"engine": "Etcd", "image": "etcd:1"}), "engine", "cannot be changed")
            .refused(json!({"engine": "Etcd"}), "image", "name one under image"),
        field("image")
            .set(json!(bed.next), &[("/container/image", json!(bed.next))])
            .wrong(json!("two words"), "should match"),
        field("version")
            .by(&["fields::a_member_of_another_version_than_the_spec_asks_for_is_told"])
            .wrong(json!("latest"), "should match")
            .not_followed(json!("3.6.5"), "version", "leave it out"),
        field("paused")
            .by(&["rolling::a_paused_cluster_is_left_as_it_is"])
            .wrong(json!("yes"), "boolean"),
        field("deletionPolicy")
            .by(&["membership::a_deleted_cluster_keeps_its_volumes_and_is_adopted_or_loses_them_as_its_spec_says"])
            .wrong(json!("Keep"), "\"Retain\", \"Delete\""),
        field("clientPorts")
            // Another first port, at which the operator too has to ask from then on.
            .set(
                json!([4001, 2379]),
                &[
                    ("/container/ports/0/containerPort", json!(4001)),
                    ("/container/readinessProbe/httpGet/port", json!(4001)),
                    ("/clients/spec/ports/0/port", json!(4001)),
                    ("/peers/spec/ports/2/port", json!(4001)),
                    (
                        "/env/ETCD_LISTEN_CLIENT_URLS",
                        json!("http://0.0.0.0:4001,http://0.0.0.0:2379"),
                    ),
                ],
            )
            .wrong(json!([]), "at least 1")
            .not_followed(json!([2380]), "clientPorts[0]", "use one for clients"),
        field("peerPort").wrong(json!(2381), "cannot be changed"),
        field("updateStrategy.type")
            .by(&["fields::what_is_set_on_a_running_cluster_takes_effect"])
            .wrong(json!("Never"), "\"RollingUpdate\", \"OnDelete\""),
        field("podDisruptionBudget.enabled")
            .by(&["fields::what_is_set_on_a_running_cluster_takes_effect"])
            .wrong(json!(1), "boolean"),
    ]
}

fn storage() -> Vec<Field> {
    let volume = "storage.volumeClaimTemplate.size";
    let class = json!({"volumeClaimTemplate": {"size": "1Gi", "storageClassName": "another"}});
    let modes = json!({"volumeClaimTemplate": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}});
    vec![
        field(volume)
            .set(json!("2Gi"), &[("/claim/spec/resources/requests/storage", json!("2Gi"))])
            .by(&["fields::a_spec_that_cannot_be_followed_is_refused_and_the_last_good_one_stays_in_force"])
            .wrong(json!("512Mi"), "can only grow")
            .wrong(json!("0"), "more than 0"),
        field("storage.volumeClaimTemplate.storageClassName")
            .by(&["fields::what_is_set_on_a_running_cluster_takes_effect"])
            .refused(
                json!({"storage": class}),
                "storage.volumeClaimTemplate.storageClassName",
                "cannot be changed",
            ),
        field("storage.volumeClaimTemplate.accessModes")
            .by(&["fields::what_is_set_on_a_running_cluster_takes_effect"])
            .refused(
                json!({"storage": modes}),
                "storage.volumeClaimTemplate.accessModes",
                "cannot be changed",
            ),
        field("storage.emptyDir.sizeLimit")
            .by(&["fields::members_without_a_volume_are_replaced_by_a_change_and_the_only_one_is_kept"])
            .refused(
                json!({"storage": {"emptyDir": {}, "volumeClaimTemplate": null}}),
                "storage",
                "would not move along",
            )
            .refused(
                json!({"storage": {"emptyDir": {}, "volumeClaimTemplate": {"size": "1Gi"}}}),
                "storage",
                "keep one of",
            ),
    ]
}

fn options() -> Vec<Field> {
    vec![
        field("options.heartbeatIntervalMs")
            .set(json!(50), &[("/env/ETCD_HEARTBEAT_INTERVAL", json!("50"))])
            .refused(
                json!({"options": {"heartbeatIntervalMs": 900}}),
                "options",
                "at least five times heartbeatIntervalMs",
            ),
        field("options.electionTimeoutMs")
            .set(json!(600), &[("/env/ETCD_ELECTION_TIMEOUT", json!("600"))])
            .wrong(json!(60_000), "less than or equal to 50000"),
        field("options.snapshotCount")
            .set(json!(7000), &[("/env/ETCD_SNAPSHOT_COUNT", json!("7000"))])
            .wrong(json!(0), "greater than or equal to 1"),
        field("options.quotaBackendBytes")
            .set(
                json!(64 << 20),
                &[
                    ("/env/ETCD_QUOTA_BACKEND_BYTES", json!("67108864")),
                    ("/metrics/etcd_server_quota_backend_bytes", json!(67_108_864.0)),
                ],
            )
            .wrong(json!(-1), "greater than or equal to 0"),
        field("options.maxRequestBytes")
            .set(json!(2048), &[("/env/ETCD_MAX_REQUEST_BYTES", json!("2048"))])
            .wrong(json!(0), "greater than or equal to 1"),
        field("options.settings")
            .set(json!({"max-txn-ops": "3"}), &[("/env/ETCD_MAX_TXN_OPS", json!("3"))])
            .wrong(json!({"data-dir": "/elsewhere"}), "cannot stand here")
            .not_followed(
                json!({"max-txn-opps": "3"}),
                "options.settings.max-txn-opps",
                "did you mean max-txn-ops?",
            ),
    ]
}

fn remediation() -> Vec<Field> {
    vec![
        field("remediation.enabled")
            .by(&["fields::a_lost_member_is_replaced_only_as_far_as_the_spec_allows"])
            .wrong(json!("no"), "boolean"),
        field("remediation.unhealthySeconds")
            .by(&[
                "machines::a_machine_that_cannot_be_heard_for_a_while_keeps_its_member",
                "machines::a_machine_that_is_silent_for_longer_than_the_delay_loses_its_member",
            ])
            .wrong(json!(0), "greater than or equal to 1"),
        field("remediation.learnerTimeoutSeconds")
            .by(&["fields::a_learner_that_gets_nowhere_is_made_anew_and_then_given_to_a_person"])
            .wrong(json!(0), "greater than or equal to 1"),
        field("remediation.maxReplacementsPerDay")
            .by(&["fields::a_lost_member_is_replaced_only_as_far_as_the_spec_allows"])
            .wrong(json!(1001), "less than or equal to 1000"),
        field("remediation.keepAside")
            .by(&["fields::volumes_of_members_that_went_are_kept_as_often_as_the_spec_says"])
            .wrong(json!(0), "greater than or equal to 1"),
    ]
}

fn pod() -> Vec<Field> {
    let env = json!([{"name": "GOMAXPROCS", "value": "2"}]);
    vec![
        field("resources.requests")
            .set(
                json!({"cpu": "10m", "memory": "32Mi"}),
                &[
                    ("/container/resources/requests/cpu", json!("10m")),
                    ("/pod/status/containerStatuses/0/resources/requests/memory", json!("32Mi")),
                ],
            )
            .refused(
                json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
                "resources",
                "cannot be more than its limit",
            )
            .not_followed(json!({"cores": "1"}), "resources.requests.cores", "write cpu, memory"),
        field("resources.limits")
            .set(
                json!({"memory": "512Mi"}),
                &[("/pod/status/containerStatuses/0/resources/limits/memory", json!("512Mi"))],
            )
            .wrong(json!({"memory": "plenty"}), "should match"),
        field("podTemplate.labels")
            .set(json!({"team": "storage"}), &[("/pod/metadata/labels/team", json!("storage"))])
            .wrong(json!({"quorate.dev/role": "voter"}), "set by Quorate itself")
            .wrong(json!({"a": "two words"}), "a label is"),
        field("podTemplate.annotations")
            .set(json!({"team": "of two"}), &[("/pod/metadata/annotations/team", json!("of two"))])
            .wrong(json!({"quorate.dev/digest": "0"}), "set by Quorate itself"),
        field("podTemplate.env")
            // After what Quorate itself says.
            .set(env.clone(), &[("/container/env/1", env[0].clone())])
            .refused(
                json!({"podTemplate": {"env": [{"name": "ETCD_NAME", "value": "a"}]}}),
                "podTemplate.env[0].name",
                "goes into spec.options",
            ),
        field("podTemplate.securityContext.runAsUser")
            .set(json!(1234), &[("/pod/spec/securityContext/runAsUser", json!(1234))])
            .wrong(json!(0), "greater than or equal to 1"),
        field("podTemplate.securityContext.runAsGroup")
            .set(json!(2345), &[("/pod/spec/securityContext/runAsGroup", json!(2345))])
            .wrong(json!(-1), "greater than or equal to 0"),
        field("podTemplate.securityContext.fsGroup")
            .set(json!(3456), &[("/pod/spec/securityContext/fsGroup", json!(3456))])
            .wrong(json!(-1), "greater than or equal to 0"),
        field("podTemplate.terminationGracePeriodSeconds")
            .set(json!(20), &[("/pod/spec/terminationGracePeriodSeconds", json!(20))])
            .wrong(json!(0), "greater than or equal to 1"),
        field("podTemplate.imagePullPolicy")
            .set(json!("Never"), &[("/container/imagePullPolicy", json!("Never"))])
            .wrong(json!("Sometimes"), "\"IfNotPresent\", \"Always\", \"Never\""),
        field("podTemplate.imagePullSecrets")
            .set(
                json!([{"name": "registry"}]),
                &[("/pod/spec/imagePullSecrets/0/name", json!("registry"))],
            )
            .not_followed(
                json!([{"name": "Not_A_Name"}]),
                "podTemplate.imagePullSecrets[0].name",
                "use lower-case letters",
            ),
    ]
}

fn placement() -> Vec<Field> {
    let toleration = json!([{"key": "disk", "operator": "Exists", "effect": "NoSchedule"}]);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        ]}],
    }}});
    let spread = json!([{
        "maxSkew": 2,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
    }]);
    vec![
        field("podTemplate.nodeSelector")
            .set(
                json!({"kubernetes.io/os": "linux"}),
                &[("/pod/spec/nodeSelector", json!({"kubernetes.io/os": "linux"}))],
            )
            .not_followed(
                json!({"a b": "c"}),
                "podTemplate.nodeSelector.a b",
                "use at most 63 letters",
            ),
        field("podTemplate.tolerations")
            .set(toleration.clone(), &[("/pod/spec/tolerations/0", toleration[0].clone())])
            .not_followed(
                json!([{"keys": "disk"}]),
                "podTemplate.tolerations[0].keys",
                "the fields here are",
            ),
        field("podTemplate.affinity")
            .set(affinity.clone(), &[("/pod/spec/affinity", affinity)])
            .not_followed(
                json!({"nearby": {}}),
                "podTemplate.affinity.nearby",
                "the fields here are",
            ),
        field("podTemplate.topologySpreadConstraints")
            .set(spread.clone(), &[("/pod/spec/topologySpreadConstraints", spread)])
            .not_followed(
                json!([{"maxSkew": 1}]),
                "podTemplate.topologySpreadConstraints[0].topologyKey",
                "the field is missing",
            ),
        field("podTemplate.priorityClassName")
            .set(json!("system-cluster-critical"), &[("/pod/spec/priority", json!(2_000_000_000))])
            .not_followed(
                json!("Not_A_Name"),
                "podTemplate.priorityClassName",
                "use lower-case letters",
            ),
    ]
}
