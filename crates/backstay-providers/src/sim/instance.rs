//! A small JSON value that satisfies a JSON Schema.
//!
//! Good enough for the schemas of ordinary calls, and always the same for the same schema and seed.
//! Not supported: `pattern`, `not`, `if`, `contains`, `patternProperties`, references to other files.

use serde_json::{Map, Number, Value, json};

use super::dice::{self, WORDS};

/// Deeper or larger schemas than these end in `null`; a hostile schema costs no more than that.
const MAX_DEPTH: usize = 40;
const MAX_VALUES: usize = 2_000;
const MAX_LENGTH: usize = 10_000;

/// A value that satisfies `schema`.
pub(super) fn instance(schema: &Value, seed: u64) -> Value {
    Writer { root: schema, left: MAX_VALUES, seed }.value(schema, 0)
}

struct Writer<'a> {
    root: &'a Value,
    left: usize,
    seed: u64,
}

impl Writer<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > MAX_DEPTH || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        self.seed = dice::mix(self.seed);
        let Some(schema) = self.resolved(schema, depth) else { return self.word(&Map::new()) };
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            return dice::pick(choices, self.seed).cloned().unwrap_or_default();
        }
        match type_of(&schema) {
            "object" => self.object(&schema, depth),
            "array" => self.array(&schema, depth),
            "integer" => integer(&schema, self.seed),
            "number" => number(&schema, self.seed),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => self.word(&schema),
        }
    }

    /// The schema with its reference followed, `allOf` merged, and the first alternative taken.
    /// `None` for `true`, `false` and what is not a schema.
    fn resolved(&mut self, schema: &Value, depth: usize) -> Option<Map<String, Value>> {
        let mut merged = schema.as_object()?.clone();
        let mut parts: Vec<Value> = Vec::new();
        if let Some(reference) = merged.remove("$ref") {
            let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
            parts.extend(pointer.and_then(|pointer| self.root.pointer(pointer)).cloned());
        }
        if let Some(Value::Array(all)) = merged.remove("allOf") {
            parts.extend(all);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(any)) = merged.remove(key) {
                parts.extend(any.into_iter().next());
            }
        }
        for part in parts {
            if depth >= MAX_DEPTH || self.left == 0 {
                return None;
            }
            self.left -= 1;
            if let Some(part) = self.resolved(&part, depth + 1) {
                merge(&mut merged, part);
            }
        }
        Some(merged)
    }

    /// The required properties; all of them if none is required.
    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let names: Vec<&str> = if required.is_empty() {
            properties.into_iter().flat_map(Map::keys).map(String::as_str).collect()
        } else {
            required
        };
        let others = schema.get("additionalProperties").unwrap_or(&Value::Null);
        let mut object = Map::new();
        for name in names {
            let property = properties.and_then(|all| all.get(name)).unwrap_or(others);
            object.insert(name.to_owned(), self.value(property, depth + 1));
        }
        Value::Object(object)
    }

    /// As many items as there must be, but one if it may.
    fn array(&mut self, schema: &Map<String, Value>, depth: usize) -> Value {
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let items = schema.get("items").unwrap_or(&Value::Null);
        let most = size(schema, "maxItems").unwrap_or(MAX_LENGTH);
        let least = size(schema, "minItems").unwrap_or(1).max(prefix.map_or(0, Vec::len));
        let unique = schema.get("uniqueItems").and_then(Value::as_bool).unwrap_or_default();
        let mut array: Vec<Value> = Vec::new();
        // An item that is there already is drawn again, but not for ever.
        for _ in 0..least.min(most).saturating_mul(if unique { 50 } else { 1 }) {
            if array.len() == least.min(most) || self.left == 0 {
                break;
            }
            let item = prefix.and_then(|all| all.get(array.len())).unwrap_or(items);
            let value = self.value(item, depth + 1);
            if !(unique && array.contains(&value)) {
                array.push(value);
            }
        }
        Value::Array(array)
    }

    fn word(&self, schema: &Map<String, Value>) -> Value {
        if let Some(text) = schema.get("format").and_then(Value::as_str).and_then(of_format) {
            return json!(text);
        }
        let mut text = dice::pick(&WORDS, self.seed).copied().unwrap_or_default().to_owned();
        let (least, most) = (size(schema, "minLength"), size(schema, "maxLength"));
        while text.len() < least.unwrap_or_default() {
            text.push(char::from(b'a' + u8::try_from(text.len() % 26).unwrap_or_default()));
        }
        text.truncate(most.unwrap_or(MAX_LENGTH));
        Value::String(text)
    }
}

/// Puts `part` under `whole`: properties and requirements add up, everything else is set once.
fn merge(whole: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (whole.get_mut(&key), value) {
            (Some(Value::Object(have)), Value::Object(more)) => {
                for (name, schema) in more {
                    have.entry(name).or_insert(schema);
                }
            }
            (Some(Value::Array(have)), Value::Array(more)) if key == "required" => {
                have.extend(more);
            }
            (Some(_), _) => {}
            (None, value) => {
                whole.insert(key, value);
            }
        }
    }
}

fn type_of(schema: &Map<String, Value>) -> &str {
    let named = schema.get("type").and_then(|value| match value {
        Value::Array(all) => all.first().and_then(Value::as_str),
        Value::String(name) => Some(name.as_str()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    });
    let has = |keys: &[&str]| keys.iter().any(|key| schema.contains_key(*key));
    match named {
        Some(name) => name,
        None if has(&["properties", "required", "additionalProperties"]) => "object",
        None if has(&["items", "prefixItems", "minItems"]) => "array",
        None if has(&["minimum", "maximum", "multipleOf"]) => "integer",
        None => "string",
    }
}

fn size(schema: &Map<String, Value>, key: &str) -> Option<usize> {
    let size = schema.get(key)?.as_u64()?;
    Some(usize::try_from(size).unwrap_or(MAX_LENGTH).min(MAX_LENGTH))
}

#[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
fn integer(schema: &Map<String, Value>, seed: u64) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let least =
        [bound("minimum").map(f64::ceil), bound("exclusiveMinimum").map(|b| b.floor() + 1.)];
    let most = [bound("maximum").map(f64::floor), bound("exclusiveMaximum").map(|b| b.ceil() - 1.)];
    let step = bound("multipleOf").filter(|step| *step >= 1.0).unwrap_or(1.0);
    let value = within(highest(least), lowest(most), wish(seed));
    json!(on_grid(value, step, lowest(most)) as i64)
}

fn number(schema: &Map<String, Value>, seed: u64) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let least = highest([bound("minimum"), above]);
    let most = lowest([bound("maximum"), below]);
    let value = match (least, most) {
        // The middle is inside, whether the ends belong to it or not.
        (Some(least), Some(most)) => f64::midpoint(least, most),
        (_, _) => within(least.map(|l| l + 0.5), most.map(|m| m - 0.5), wish(seed) + 0.5),
    };
    let value = match bound("multipleOf").filter(|step| *step > 0.0) {
        Some(step) => on_grid(value, step, most),
        None => value,
    };
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn highest(bounds: [Option<f64>; 2]) -> Option<f64> {
    bounds.into_iter().flatten().reduce(f64::max)
}

fn lowest(bounds: [Option<f64>; 2]) -> Option<f64> {
    bounds.into_iter().flatten().reduce(f64::min)
}

/// A number between 1 and 99, if nothing forbids it.
fn wish(seed: u64) -> f64 {
    f64::from(u8::try_from(seed % 99).unwrap_or_default()) + 1.0
}

fn within(least: Option<f64>, most: Option<f64>, wish: f64) -> f64 {
    let value = least.map_or(wish, |least| if wish < least { least } else { wish });
    most.map_or(value, |most| if value > most { most } else { value })
}

/// The next multiple of `step`, or the one before it if that is too much.
fn on_grid(value: f64, step: f64, most: Option<f64>) -> f64 {
    let up = (value / step).ceil() * step;
    if most.is_some_and(|most| up > most) { (value / step).floor() * step } else { up }
}

fn of_format(format: &str) -> Option<&'static str> {
    Some(match format {
        "date-time" => "2026-01-15T09:30:00Z",
        "date" => "2026-01-15",
        "time" => "09:30:00Z",
        "duration" => "PT15M",
        "email" => "mate@example.com",
        "hostname" => "harbour.example.com",
        "ipv4" => "192.0.2.7",
        "ipv6" => "2001:db8::7",
        "uri" => "https://example.com/harbour",
        "uuid" => "0f8fad5b-d9cb-469f-a165-70867728950e",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_satisfied(schema: &Value) -> Value {
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(schema)
            .expect("a schema");
        for seed in 0..40 {
            let value = instance(schema, seed);
            let errors: Vec<_> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{value} against {schema}: {errors:?}");
            assert_eq!(value, instance(schema, seed), "the same seed gives the same value");
        }
        instance(schema, 1)
    }

    #[test]
    fn an_invoice_is_written_from_its_schema() {
        let schema = json!({
            "type": "object",
            "required": ["total", "currency", "lines", "issued", "customer"],
            "additionalProperties": false,
            "properties": {
                "total": { "type": "number", "exclusiveMinimum": 0 },
                "currency": { "enum": ["EUR", "USD"] },
                "issued": { "type": "string", "format": "date" },
                "note": { "type": "string" },
                "lines": { "type": "array", "minItems": 2, "items": { "$ref": "#/$defs/line" } },
                "customer": { "anyOf": [{ "$ref": "#/$defs/customer" }, { "type": "null" }] },
            },
            "$defs": {
                "line": {
                    "type": "object",
                    "required": ["text", "amount"],
                    "properties": {
                        "text": { "type": "string", "minLength": 12, "maxLength": 40 },
                        "amount": { "type": "integer", "minimum": 10, "maximum": 20 },
                    },
                },
                "customer": {
                    "allOf": [
                        { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] },
                        { "properties": { "mail": { "type": "string", "format": "email" } }, "required": ["mail"] },
                    ],
                },
            },
        });
        let invoice = assert_satisfied(&schema);
        assert_eq!(invoice["lines"].as_array().map(Vec::len), Some(2));
        assert!(invoice.get("note").is_none(), "only what is required");
        assert!(invoice["customer"]["mail"].is_string());
    }

    #[test]
    fn bounds_are_kept() {
        for schema in [
            json!({ "type": "integer", "minimum": 7, "maximum": 7 }),
            json!({ "type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5 }),
            json!({ "type": "integer", "minimum": 100, "multipleOf": 7 }),
            json!({ "type": "integer", "maximum": -3 }),
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01 }),
            json!({ "type": "number", "maximum": -0.5 }),
            json!({ "type": "string", "maxLength": 2 }),
            json!({ "type": "string", "minLength": 300 }),
            json!({ "type": ["string", "null"] }),
            json!({ "type": "array", "items": { "type": "integer", "maximum": 20 }, "minItems": 5, "uniqueItems": true }),
            json!({ "type": "array", "maxItems": 0 }),
            json!({ "type": "array", "prefixItems": [{ "type": "boolean" }, { "const": "x" }], "items": false }),
            json!({ "oneOf": [{ "const": 4 }, { "const": 5 }] }),
            json!({ "properties": { "anything": {}, "yes": true } }),
            json!({ "type": "object", "required": ["k"], "additionalProperties": { "type": "integer" } }),
            json!(true),
        ] {
            assert_satisfied(&schema);
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let list = json!({
            "type": "object",
            "required": ["left", "right"],
            "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } },
        });
        assert!(instance(&list, 1).is_object());
        let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/a" } } });
        assert!(!instance(&circle, 1).is_object());
        let optional = json!({
            "type": "object",
            "required": ["value"],
            "properties": { "value": { "type": "string" }, "next": { "$ref": "#" } },
        });
        assert_satisfied(&optional);
    }
}
