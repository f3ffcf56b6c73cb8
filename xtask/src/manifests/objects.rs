//! Manifests as trees: reading them, finding one of a kind, and what it takes to tell two of them apart.

use anyhow::{Context, Result};
use serde_json::Value;

/// All objects of a text with one or more documents.
pub(super) fn read(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("reading YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The one of this kind.
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    objects.iter().find(|object| text(object, "/kind") == kind)
}

/// The string at `pointer`, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements at `pointer`, none if there is no list.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What an object is called in a complaint.
pub(super) fn title(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}
