//! The resource definition: up to date, and of the form that an API server takes.

use std::path::Path;

use quorate::operator::crd::crd_yaml;
use serde_json::Value;

fn definition() -> Value {
    serde_yaml::from_str(&crd_yaml().expect("the definition")).expect("YAML")
}

#[test]
fn the_file_in_crds_is_what_quorate_crd_prints() {
    let path = "crds/etcdclusters.quorate.dev.yaml";
    let file = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    assert!(
        file.expect("the definition") == crd_yaml().expect("the definition"),
        "{path} is stale; refresh it with: cargo run -- crd > {path}"
    );
}

/// What an API server calls structural, and refuses a definition for the lack of: every value
/// typed, no reference, no union, no field that is closed by `additionalProperties: false`.
/// Beside that: every list and text that a rule walks over is bounded, or its cost is not.
#[test]
fn the_schema_is_structural_and_bounded() {
    let definition = definition();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema");
    let mut rules = 0;
    walk(schema, "", false, &mut rules);
    assert!(rules >= 24, "only {rules} rules are left");
}

fn walk(schema: &Value, path: &str, bounded: bool, rules: &mut usize) {
    const KNOWN: [&str; 17] = [
        "additionalProperties",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
        "x",
    ];
    let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    for key in fields.keys() {
        let known = KNOWN.contains(&&**key) || key.starts_with("x-kubernetes-");
        assert!(known, "{path} has {key}");
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no single type"));
    let here = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
    *rules += here;
    let bounded = bounded || (here > 0 && !path.is_empty());
    match kind {
        "object" => {
            let fields = schema["properties"].as_object();
            assert!(fields.is_none() || schema["additionalProperties"].is_null(), "{path}");
            for (name, field) in fields.into_iter().flatten() {
                if !["/metadata", "/status", "/kind", "/apiVersion"]
                    .contains(&&*format!("{path}/{name}"))
                {
                    walk(field, &format!("{path}/{name}"), bounded, rules);
                }
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().expect("a name");
                assert!(fields.is_some_and(|all| all.contains_key(name)), "{path}/{name}");
            }
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let map = schema["additionalProperties"].is_object();
            assert!(fields.is_some() || map || open || path == "/metadata", "{path} is pruned");
            if map {
                assert!(!bounded || schema["maxProperties"].is_u64(), "{path} has no bound");
                walk(&schema["additionalProperties"], &format!("{path}/*"), bounded, rules);
            }
        }
        "array" => {
            assert!(!bounded || schema["maxItems"].is_u64(), "{path} has no bound");
            walk(&schema["items"], &format!("{path}/*"), bounded, rules);
        }
        "string" => {
            let length = schema["maxLength"].is_u64() || schema["enum"].is_array();
            assert!(!bounded || length, "{path} has no bound");
        }
        "integer" => {
            assert!(matches!(schema["format"].as_str(), Some("int32" | "int64")), "{path}");
            assert!(schema["minimum"].is_u64() && schema["maximum"].is_u64(), "{path}");
        }
        "boolean" => {}
        other => panic!("{path} is a {other}"),
    }
}

#[test]
fn rules_columns_and_subresources_are_there() {
    let version = &definition()["spec"]["versions"][0];
    let spec = "/schema/openAPIV3Schema/properties/spec";
    let rules = |path: &str| {
        let rules = version.pointer(&format!("{spec}{path}/x-kubernetes-validations"));
        let rules = rules.and_then(Value::as_array).unwrap_or_else(|| panic!("no rules at {path}"));
        rules.iter().map(|rule| rule["rule"].to_string()).collect::<Vec<_>>().join("\n")
    };
    assert!(rules("").contains("has(self.nodes) != has(self.replicas)"));
    assert!(rules("").contains("self.token == oldSelf.token"));
    assert!(rules("/properties/replicas").contains("self % 2 == 1"));
    assert!(rules("/properties/nodes").contains("b.address == a.address"));
    let settings = rules("/properties/options/properties/settings");
    assert!(settings.contains("'data-dir'") && settings.contains("startsWith('listen-')"));
    for (path, part) in [
        ("", "(has(oldSelf.engine) && oldSelf.engine == 'Etcd')"),
        ("", "self.engine == 'Etcd') || has(self.image)"),
        ("", "oldSelf.storage.volumeClaimTemplate.size : '1Gi')"),
        ("", "has(oldSelf.storage.emptyDir)"),
        ("/properties/storage", "has(self.volumeClaimTemplate) && has(self.emptyDir)"),
        ("/properties/resources", "quantity(self.limits[name])"),
        ("/properties/podTemplate/properties/labels", "!key.startsWith('quorate.dev/')"),
        ("/properties/podTemplate/properties/env/items/properties/name", "startsWith('ETCD_')"),
    ] {
        assert!(rules(path).contains(part), "{path} has no {part}");
    }
    let columns = version["additionalPrinterColumns"].as_array().expect("columns");
    let columns: Vec<_> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    assert_eq!(columns, ["Version", "Desired", "Ready", "Leader", "Phase", "Operation", "Age"]);
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.replicas");
    assert_eq!(version["subresources"]["scale"]["labelSelectorPath"], ".status.selector");
    assert!(version["subresources"]["status"].is_object());
    assert_eq!(definition()["spec"]["names"]["categories"][0], "quorate");
    assert_eq!(definition()["spec"]["names"]["shortNames"][0], "etcd");
}

/// What an API server refuses in a status is lost, and with it what the operator has to remember:
/// so nothing in one is bounded, and what is memory is kept as it is.
#[test]
fn a_status_is_typed_and_never_refused() {
    let definition = definition();
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    let status = definition.pointer(status).expect("a status");
    assert!(status["required"].is_null(), "a status begins empty");
    let fields = status["properties"].as_object().expect("fields");
    for name in ["founding", "requests", "places"] {
        assert_eq!(fields[name]["x-kubernetes-preserve-unknown-fields"], true, "{name}");
    }
    assert_eq!(fields["ledger"]["items"]["x-kubernetes-preserve-unknown-fields"], true);
    for name in ["currentVersion", "readyReplicas", "leader", "phase", "selector", "replicas"] {
        assert!(fields[name]["type"].is_string(), "{name} has no type for its column");
    }
    assert_eq!(fields["operation"]["properties"]["since"]["format"], "date-time");
    assert_eq!(fields["conditions"]["x-kubernetes-list-map-keys"][0], "type");
    let text = serde_json::to_string(status).expect("JSON");
    for bound in ["maxLength", "maxItems", "maximum", "pattern"] {
        assert!(!text.contains(bound), "a status may be refused for its {bound}");
    }
}

/// `kubectl apply` keeps the whole definition in an annotation of at most 262,144 bytes.
#[test]
fn the_definition_is_small_enough_to_apply() {
    let length = crd_yaml().expect("the definition").len();
    assert!(length < 131_072, "{length} bytes");
}
