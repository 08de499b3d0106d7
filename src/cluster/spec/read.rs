//! Reads a spec file, and refuses it in one line.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value as Schema;
use serde_path_to_error::{Path, Segment};
use serde_yaml::Value;

use super::check::check_kind;
use super::locate::{Part, line_of, line_of_document, path_text};
use super::{API_VERSION, EtcdCluster, KIND, SpecError};

/// Reads one `EtcdCluster` from the text of a file; `file` names it in errors.
///
/// # Errors
///
/// The first thing that is wrong: not YAML, empty, more than one document, another kind, a
/// duplicate or unknown field, a wrong type, or a value that no cluster can have.
pub fn read(text: &str, file: &str) -> Result<EtcdCluster, SpecError> {
    read_document(text).map_err(|error| error.in_file(file, text))
}

fn read_document(text: &str) -> Result<EtcdCluster, SpecError> {
    let document = one_document(text)?;
    let field = |name| document.get(name).and_then(Value::as_str);
    match (field("apiVersion"), field("kind")) {
        (Some(api_version), Some(kind)) => check_kind(api_version, kind)?,
        (Some(api_version), None) => check_kind(api_version, KIND)?,
        (None, Some(kind)) => check_kind(API_VERSION, kind)?,
        (None, None) => {}
    }
    let mut unknown = None;
    let cluster = typed(document, |path| {
        if unknown.is_none() && !is_kept_by_kubernetes(&path) {
            unknown = Some(path);
        }
    });
    // A misspelt field is also a missing one: the first says more.
    if let Some(path) = unknown {
        return Err(unknown_field(&path));
    }
    let cluster = cluster?;
    cluster.check()?;
    Ok(cluster)
}

/// The only document with something in it.
fn one_document(text: &str) -> Result<Value, SpecError> {
    let mut found = Value::Null;
    for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value: Value =
            serde_path_to_error::deserialize(document).map_err(|error| syntax(text, &error))?;
        if value == Value::Null {
            continue;
        }
        if found != Value::Null {
            let what = "the file holds more than one document";
            let refused = SpecError::at("", what, "keep one EtcdCluster; cut the rest off at ---");
            return Err(SpecError { line: line_of_document(text, at), ..refused });
        }
        found = value;
    }
    match found {
        Value::Null => {
            let fix = format!("begin with apiVersion: {API_VERSION} and kind: {KIND}");
            Err(SpecError::at("", "the file is empty", fix))
        }
        Value::Mapping(_) => Ok(found),
        _ => {
            let fix = format!("begin with apiVersion: {API_VERSION} and kind: {KIND}");
            Err(SpecError::at("", "the file holds no mapping of fields", fix))
        }
    }
}

/// Reads the document into its type, and tells of every field that the type does not have.
fn typed(document: Value, mut ignored: impl FnMut(Vec<Part>)) -> Result<EtcdCluster, SpecError> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| ignored(ignored_path(&path));
    let read = EtcdCluster::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    read.map_err(|error| mismatch(&tracked_path(&track.path()), &error.to_string()))
}

fn tracked_path(path: &Path) -> Vec<Part> {
    let part = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Part::Index(*index)),
        Segment::Map { key } => Some(Part::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(part).collect()
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Vec<Part> {
    let (parent, part) = match path {
        serde_ignored::Path::Root => return Vec::new(),
        serde_ignored::Path::Seq { parent, index } => (parent, Some(Part::Index(*index))),
        serde_ignored::Path::Map { parent, key } => (parent, Some(Part::Key(key.clone()))),
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut parts = ignored_path(parent);
    parts.extend(part);
    parts
}

/// What an API server writes into every object: a manifest fetched from one is read as it is.
fn is_kept_by_kubernetes(path: &[Part]) -> bool {
    const METADATA: [&str; 11] = [
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "labels",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "uid",
    ];
    match path {
        [Part::Key(top)] => top == "status",
        [Part::Key(top), Part::Key(field)] => top == "metadata" && METADATA.contains(&&**field),
        _ => false,
    }
}

fn unknown_field(path: &[Part]) -> SpecError {
    let fields = path.split_last().map_or_else(Vec::new, |(_, parent)| fields_of(parent));
    let name = match path.last() {
        Some(Part::Key(name)) => name.as_str(),
        _ => "",
    };
    let distance = |field: &String| strsim::damerau_levenshtein(name, field);
    let near = fields.iter().min_by_key(|field| distance(field));
    let fix = match near.filter(|field| distance(field) <= 1.max(field.len() / 3)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the fields here are {}", fields.join(", ")),
    };
    SpecError::at(path_text(path), "unknown field", fix)
}

/// What the schema of the type has at `path`: itself, and what is in it if it is optional.
fn schemas_at(path: &[Part]) -> Vec<&'static Schema> {
    static SCHEMA: LazyLock<Schema> =
        LazyLock::new(|| schemars::schema_for!(EtcdCluster).to_value());
    let inner = |schema: &'static Schema, part: &Part| {
        let own = |schema: &'static Schema| match part {
            Part::Key(key) => schema.get("properties")?.get(key),
            Part::Index(_) => schema.get("items"),
        };
        // An optional section is written as "this or null".
        let variants = schema.get("anyOf").and_then(Schema::as_array).into_iter().flatten();
        std::iter::once(schema).chain(variants).find_map(own)
    };
    let Some(schema) = path.iter().try_fold(&*SCHEMA, inner) else { return Vec::new() };
    let variants = schema.get("anyOf").and_then(Schema::as_array).into_iter().flatten();
    std::iter::once(schema).chain(variants).collect()
}

/// The fields that the type has at `path`.
fn fields_of(path: &[Part]) -> Vec<String> {
    schemas_at(path)
        .into_iter()
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flat_map(|fields| fields.keys().cloned())
        .collect()
}

/// The words that the type knows at `path`, if it is one of a few words.
fn words_of(path: &[Part]) -> Vec<&'static str> {
    let lists = |schema: &'static Schema| {
        let each = schema.get("oneOf").and_then(Schema::as_array).into_iter().flatten();
        let each = each.filter_map(|one| one.get("const"));
        each.chain(schema.get("enum").and_then(Schema::as_array).into_iter().flatten())
    };
    schemas_at(path).into_iter().flat_map(lists).filter_map(Schema::as_str).collect()
}

/// Text that is not YAML, or has a key twice.
fn syntax(text: &str, error: &serde_path_to_error::Error<serde_yaml::Error>) -> SpecError {
    let line = error.inner().location().map(|at| at.line());
    let path = tracked_path(error.path());
    let message = message(&error.inner().to_string());
    let refused = match message.split_once("duplicate entry with key ") {
        Some((_, key)) => {
            let mut path = path;
            path.push(Part::Key(key.trim_matches('"').to_owned()));
            let again = line_of(text, &path, 1);
            let what = "the key stands twice";
            let refused = SpecError::at(path_text(&path), what, "keep one of the two");
            return SpecError { line: again.or(line), ..refused };
        }
        None => SpecError::at("", format!("this is not YAML: {message}"), "correct it here"),
    };
    SpecError { line, ..refused }
}

/// A value of another type than its field has.
fn mismatch(path: &[Part], error: &str) -> SpecError {
    let text = message(error);
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if text.contains("missing field") {
        let mut path = path.to_vec();
        path.push(Part::Key(quoted(&text)));
        return SpecError::at(path_text(&path), "the field is missing", "add it");
    }
    let words = words_of(path);
    if text.contains("unknown variant") {
        let what = format!("{:?} is none of the words it may be", quoted(&text));
        return SpecError::at(path_text(path), what, format!("write {}", words.join(" or ")));
    }
    let (found, wanted) = text.split_once(", expected ").unwrap_or((&text, ""));
    let found = found.rsplit(": ").next().unwrap_or(found);
    let found = match found.split(['`', '"']).next().unwrap_or(found).trim() {
        "unit value" | "null" => "nothing".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "string" => format!("the text {}", found.trim_start_matches("string ")),
        "integer" | "floating point" => format!("the number {}", quoted(found)),
        "boolean" => format!("the truth value {}", quoted(found)),
        _ => found.to_owned(),
    };
    let (wanted, fix) = match wanted {
        _ if !words.is_empty() => ("one of a few words", format!("write {}", words.join(" or "))),
        "a string" if found.starts_with("the number") || found.starts_with("the truth") => {
            ("text", format!("put it in quotes: \"{}\"", found.rsplit(' ').next().unwrap_or("")))
        }
        "a string" => ("text", "write text".to_owned()),
        "u16" => ("a port", "write a whole number from 1 to 65535, without quotes".to_owned()),
        "u32" | "u64" => {
            ("a whole number", "write a whole number of 0 or more, without quotes".to_owned())
        }
        "a boolean" => ("true or false", "write true or false, without quotes".to_owned()),
        "a sequence" => ("a list", "write a list: [one, two]".to_owned()),
        "a map" => ("a mapping", "write a mapping: {name: value}".to_owned()),
        _ => ("a mapping of fields", "write its fields below it, indented".to_owned()),
    };
    SpecError::at(path_text(path), format!("{found} stands where {wanted} is wanted"), fix)
}

/// The reader's message without the path and position it may carry.
fn message(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).replace('\n', " ")
}
