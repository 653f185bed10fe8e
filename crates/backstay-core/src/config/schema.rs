//! JSON Schemas of the project files, made from the types in [`super::file`].
//!
//! Editors read them, `shape` checks files against them, and [`super::reference`] writes the
//! manual from them. They refer to nothing outside themselves.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::file::{CallFile, ProjectFile};

/// The JSON Schema (2020-12) of `backstay.toml`.
#[must_use]
pub fn project_schema() -> Value {
    schema::<ProjectFile>("backstay.toml")
}

/// The JSON Schema (2020-12) of `call.toml`, and of `defaults` in `backstay.toml`.
#[must_use]
pub fn call_schema() -> Value {
    schema::<CallFile>("call.toml")
}

fn schema<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    let mut schema = schema.to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what says nothing to a writer of TOML: `null` (TOML has none), widths of Rust's
/// integers, defaults of whole tables, which only repeat those of their keys, and empty defaults of
/// lists that must not be empty.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let empty = |d: &Value| d.as_array().is_some_and(Vec::is_empty);
            let refused = object.contains_key("minItems");
            if object
                .get("default")
                .is_some_and(|d| d.is_null() || d.is_object() || (refused && empty(d)))
            {
                object.shift_remove("default");
            }
            if let Some(Value::String(width)) = object.get("format") {
                if width == "uint32" {
                    object.entry("maximum").or_insert(u32::MAX.into());
                }
                object.shift_remove("format");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            unwrap_option(object);
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `anyOf: [T, null]` becomes `T`.
fn unwrap_option(object: &mut serde_json::Map<String, Value>) {
    let Some(Value::Array(variants)) = object.get("anyOf") else { return };
    if let [Value::Object(inner), other] = variants.as_slice()
        && other.get("type").is_some_and(|name| name == "null")
    {
        let inner = inner.clone();
        object.shift_remove("anyOf");
        for (key, value) in inner {
            object.entry(key).or_insert(value);
        }
    }
}
