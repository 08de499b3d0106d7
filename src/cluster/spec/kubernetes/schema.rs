//! Schemas that the types cannot say by themselves. Each text, list and map has a bound: the API
//! server reckons what a rule may cost from the largest object there could be.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An amount, as [`super::quantity_nanos`] reads it.
const QUANTITY: &str =
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$";

/// A reference to an image: one word.
pub(in crate::cluster::spec) const IMAGE: &str = r"^\S+$";

/// A release of etcd, as its image's tag writes it.
pub(in crate::cluster::spec) const VERSION: &str = r"^v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$";

/// How long an amount may be written.
pub(super) const QUANTITY_LENGTH: usize = 32;

pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": QUANTITY_LENGTH,
        "pattern": QUANTITY,
        "x-kubernetes-validations": [{
            "rule": "!isQuantity(self) || quantity(self).isGreaterThan(quantity('0'))",
            "message": "a size must be more than 0"
        }]
    })
}

pub(super) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "type": "string", "maxLength": QUANTITY_LENGTH, "pattern": QUANTITY
        }
    })
}

pub(super) fn access_modes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 3,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 16,
            "enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]
        }
    })
}

pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    let mut schema = map(32, 63);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([
            {
                "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue() && !format.labelValue().validate(self[key]).hasValue())",
                "message": "a label is [prefix/]name: value, of letters, digits, -, _ and ., each up to 63 characters"
            },
            {
                "rule": "self.all(key, !key.startsWith('quorate.dev/') && !(key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by']))",
                "message": "labels under quorate.dev/ and app.kubernetes.io/name, instance and managed-by are set by Quorate itself"
            }
        ]),
    );
    schema
}

pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    let mut schema = map(32, 4096);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": "self.all(key, !key.startsWith('quorate.dev/'))",
            "message": "annotations under quorate.dev/ are set by Quorate itself"
        }]),
    );
    schema
}

pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    map(32, 63)
}

fn map(most: u32, longest: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": most,
        "additionalProperties": {"type": "string", "maxLength": longest}
    })
}

pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

pub(super) fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

pub(super) fn env_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
        "x-kubernetes-validations": [{
            "rule": "!self.startsWith('ETCD_') && !self.startsWith('QUORATE_')",
            "message": "ETCD_* and QUORATE_* are set by Quorate itself; an engine's setting goes into spec.options"
        }]
    })
}
