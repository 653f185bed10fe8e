//! What of a JSON Schema Anthropic's structured outputs accept.
//!
//! They refuse a request whose schema has a keyword that they do not know (bounds of numbers, lengths
//! and more) and want every object closed. A looser schema is sent in such a case: it only guides the
//! model, and the answer is validated against the whole one here. A schema that cannot be said at all
//! (free-form maps, boolean schemas, outside references) is not sent.

use serde_json::{Map, Value, json};

const KEPT: [&str; 8] =
    ["type", "title", "description", "enum", "const", "default", "$ref", "required"];
const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "uuid"];

/// `output_config` for `schema`, or `None` if it cannot be said.
pub(super) fn output_format(schema: &Value) -> Option<Value> {
    let schema = accepted(schema)?;
    Some(json!({"format": {"type": "json_schema", "schema": schema}}))
}

fn accepted(schema: &Value) -> Option<Value> {
    let schema = schema.as_object()?;
    if let Some(kind) = nullable(schema) {
        let mut other = schema.clone();
        other.insert("type".to_owned(), kind.clone());
        return Some(json!({"anyOf": [accepted(&Value::Object(other))?, {"type": "null"}]}));
    }
    let mut out = Map::new();
    for (keyword, value) in schema {
        let kept = match keyword.as_str() {
            "$ref" if !value.as_str()?.starts_with("#/") => return None,
            "patternProperties" => return None,
            "properties" | "$defs" | "definitions" => Some(each(value)?),
            "items" => Some(accepted(value)?),
            "anyOf" | "oneOf" | "allOf" => {
                Some(value.as_array()?.iter().map(accepted).collect::<Option<Value>>()?)
            }
            "format" => {
                Some(value.clone()).filter(|f| f.as_str().is_some_and(|f| FORMATS.contains(&f)))
            }
            "minItems" => Some(value.clone()).filter(|n| n.as_u64().is_some_and(|n| n <= 1)),
            other => Some(value.clone()).filter(|_| KEPT.contains(&other)),
        };
        if let Some(kept) = kept {
            let keyword = if keyword == "oneOf" { "anyOf" } else { keyword };
            out.insert(keyword.to_owned(), kept);
        }
    }
    if is_object(schema) {
        schema.get("properties")?;
        out.insert("additionalProperties".to_owned(), false.into());
    }
    Some(Value::Object(out))
}

/// The other type of a schema for it or `null`, which must be said as `anyOf`.
fn nullable(schema: &Map<String, Value>) -> Option<&Value> {
    // References into a definition would miss it one level further down.
    if schema.contains_key("$defs") || schema.contains_key("definitions") {
        return None;
    }
    match schema.get("type")?.as_array()?.as_slice() {
        [kind, null] | [null, kind] if null == "null" => Some(kind),
        _ => None,
    }
}

fn each(schemas: &Value) -> Option<Value> {
    let schemas = schemas.as_object()?.iter();
    let map: Option<Map<_, _>> =
        schemas.map(|(name, schema)| Some((name.clone(), accepted(schema)?))).collect();
    map.map(Value::Object)
}

fn is_object(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            schema.contains_key("properties")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_objects_are_closed() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "minimum": {"type": "number", "minimum": 0, "multipleOf": 0.01},
                "when": {"type": "string", "format": "date", "maxLength": 10},
                "odd": {"oneOf": [{"type": "string", "format": "regex"}, {"type": "null"}]},
                "list": {"type": "array", "minItems": 3, "items": {
                    "type": ["object", "null"], "properties": {"a": {"$ref": "#/$defs/x"}}
                }},
            },
            "required": ["minimum"],
            "$defs": {"x": {"enum": [1, 2]}},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "minimum": {"type": "number"},
                "when": {"type": "string", "format": "date"},
                "odd": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "list": {"type": "array", "items": {"anyOf": [
                    {
                        "type": "object", "properties": {"a": {"$ref": "#/$defs/x"}},
                        "additionalProperties": false
                    },
                    {"type": "null"},
                ]}},
            },
            "required": ["minimum"],
            "$defs": {"x": {"enum": [1, 2]}},
            "additionalProperties": false,
        });
        assert_eq!(accepted(&schema), Some(expected));
    }

    #[test]
    fn what_cannot_be_said_is_not_sent() {
        for schema in [
            json!(true),
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"a": true}}),
            json!({"type": "array", "items": {"type": "object", "additionalProperties": {}}}),
            json!({"$ref": "https://example.com/schema"}),
            json!({"patternProperties": {"a": {}}}),
        ] {
            assert_eq!(output_format(&schema), None, "{schema}");
        }
    }
}
