//! The reference manual of the project files, written from their JSON Schemas.

use serde_json::{Map, Value};

use super::schema::{call_schema, project_schema};

/// `docs/reference/configuration.md`: every key with its type, its default and what it is for.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "<!-- Generated from the types in crates/backstay-core/src/config/file.rs. \
         `UPDATE_GOLDEN=1 cargo test -p backstay-core` writes it anew. -->\n\n\
         # Project files\n\n\
         A project is a directory: `backstay.toml`, and a directory in `calls/` for each call, with\n\
         its `call.toml`, its templates `system.j2` and `user.j2`, and perhaps `input.schema.json`,\n\
         `output.schema.json`, `static.json` and `evals/*.yaml`. `backstay check` reports every\n\
         mistake of every file at once. An unknown key is a mistake.\n\n\
         | written as | meaning | example |\n|---|---|---|\n\
         | duration | a number and `ms`, `s`, `m`, `h` or `d` | `\"250ms\"` |\n\
         | share | a percentage, or a number from 0 to 1 | `\"2%\"` |\n\
         | difference | percentage points, or a number from 0 to 1 | `\"5pp\"` |\n\
         | size | a whole number and `B`, `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB` | `\"16MB\"` |\n\
         | target | provider and model | `\"openai/gpt-5-mini\"` |\n\
         | secret reference | where a secret is found; never the secret | `\"env:OPENAI_API_KEY\"` |\n",
    );
    file(&mut page, "backstay.toml", &project_schema());
    file(&mut page, "call.toml", &call_schema());
    page
}

/// A key with its schema.
type Key<'a> = (&'a String, &'a Value);

fn file(page: &mut String, name: &str, schema: &Value) {
    section(page, &format!("## {name}\n\n{}", description(schema)));
    let (tables, plain): (Vec<Key<'_>>, Vec<Key<'_>>) =
        keys(schema).partition(|(_, schema)| is_table(schema));
    table(page, plain.into_iter());
    for (key, schema) in tables {
        let named = named_tables(schema);
        let heading = if named.is_some() { format!("{key}.<name>") } else { key.clone() };
        section(page, &format!("### `[{heading}]`\n\n{}", description(schema)));
        if key == "defaults" {
            section(page, "The keys are those of [call.toml](#calltoml).");
        } else {
            table(page, keys(named.unwrap_or(schema)));
        }
    }
}

/// The keys of a table in the order of the types.
fn keys(schema: &Value) -> impl Iterator<Item = Key<'_>> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The schema of each table, if the user names the tables.
fn named_tables(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|inner| is_table(inner))
}

fn is_table(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "object")
}

fn section(page: &mut String, text: &str) {
    page.push('\n');
    page.push_str(text);
    page.push('\n');
}

fn table<'a>(page: &mut String, keys: impl Iterator<Item = Key<'a>>) {
    let mut rows = String::new();
    for (key, schema) in keys {
        row(&mut rows, key, schema);
    }
    if !rows.is_empty() {
        page.push_str("\n| key | type | default | |\n|---|---|---|---|\n");
        page.push_str(&rows);
    }
}

/// The row of one key, or the rows of the keys in it.
fn row(rows: &mut String, key: &str, schema: &Value) {
    let items = schema.get("items").filter(|items| is_table(items));
    let (inner, join) = match (items, named_tables(schema)) {
        (Some(items), _) => (Some(items), "[]."),
        (None, Some(named)) => (Some(named), ".<name>."),
        (None, None) => (Some(schema).filter(|schema| is_table(schema)), "."),
    };
    let inner: Vec<Key<'_>> = inner.into_iter().flat_map(keys).collect();
    if inner.is_empty() || join != "." {
        let default = schema.get("default").map_or_else(String::new, |value| format!("`{value}`"));
        let (kind, text) = (kind(schema), description(schema).replace('\n', " "));
        rows.push_str(&format!("| `{key}` | {kind} | {default} | {text} |\n"));
    }
    for (name, schema) in inner {
        row(rows, &format!("{key}{join}{name}"), schema);
    }
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The type of a value, with its words or its range.
fn kind(schema: &Value) -> String {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(title) = text("title") {
        return title.to_owned();
    }
    let name = match text("type").unwrap_or_default() {
        "array" => {
            let items = schema.get("items").filter(|items| !is_table(items)).map(kind);
            return items.map_or_else(|| "list of tables".to_owned(), |it| format!("list of {it}"));
        }
        "object" => "table",
        "string" => "text",
        "integer" => "whole number",
        "boolean" => "`true` or `false`",
        other => other,
    };
    let bound = |key: &str| schema.get(key).filter(|bound| **bound != u32::MAX);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{name}, {low} to {high}"),
        (Some(low), None) if *low != 0 => format!("{name}, {low} or more"),
        (Some(_) | None, None) | (None, Some(_)) => name.to_owned(),
    }
}
