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
    assert!(rules >= 9, "only {rules} rules are left");
}

fn walk(schema: &Value, path: &str, bounded: bool, rules: &mut usize) {
    const KNOWN: [&str; 16] = [
        "additionalProperties",
        "description",
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
            if schema["additionalProperties"].is_object() {
                assert!(!bounded || schema["maxProperties"].is_u64(), "{path} has no bound");
                walk(&schema["additionalProperties"], &format!("{path}/*"), bounded, rules);
            }
        }
        "array" => {
            assert!(!bounded || schema["maxItems"].is_u64(), "{path} has no bound");
            walk(&schema["items"], &format!("{path}/*"), bounded, rules);
        }
        "string" => assert!(!bounded || schema["maxLength"].is_u64(), "{path} has no bound"),
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
    let columns = version["additionalPrinterColumns"].as_array().expect("columns");
    let columns: Vec<_> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    assert_eq!(columns, ["Version", "Desired", "Ready", "Leader", "Available", "Operation", "Age"]);
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.replicas");
    assert!(version["subresources"]["status"].is_object());
    assert_eq!(definition()["spec"]["names"]["shortNames"][0], "etcd");
}
