//! Checks the shape of a file against its JSON Schema and says in plain sentences what is wrong.
//!
//! Only what one key can tell: rules that need two keys are in [`super::project`] and [`super::call`].

use std::{collections::BTreeSet, sync::LazyLock};

use jsonschema::{JsonType, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::{
    mistake::{Mistake, nearest, one_of},
    place::{Finding, Toml, segments},
    schema::{call_schema, project_schema},
    units::WRITTEN,
};

/// A schema, ready to check with.
pub(crate) struct Shape {
    schema: Value,
    validator: Option<Validator>,
}

/// The shape of `backstay.toml`.
pub(crate) static PROJECT: LazyLock<Shape> = LazyLock::new(|| Shape::new(project_schema()));

/// The shape of `call.toml`.
pub(crate) static CALL: LazyLock<Shape> = LazyLock::new(|| Shape::new(call_schema()));

/// Keys that are no keys, but that somebody will try, with what to say: end of the path, reason,
/// remedy.
const RESERVED: [(&str, &str, &str); 1] = [(
    "store.url",
    "PostgreSQL is not supported by this version",
    "leave it out and set `store.path`, a directory for SQLite files",
)];

/// A file after its shape was checked. The rules go on with what is sound, so that one wrong word
/// does not hide the mistakes in other keys.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) mistakes: Vec<Mistake>,
    /// The file without the values that are wrong.
    pub(crate) sound: Value,
    /// Paths of the values that were taken out; a rule about them has nothing to say.
    pub(crate) broken: Vec<Vec<String>>,
}

impl Checked {
    /// Takes out the value at `path`; in a list, the whole list, whose other items would move.
    fn cut(&mut self, path: &[String]) {
        let mut inner = Some(&self.sound);
        let list = path.iter().position(|name| {
            inner = inner.and_then(|table| table.get(name));
            inner.is_some_and(Value::is_array)
        });
        let path = list.and_then(|index| path.get(..=index)).unwrap_or(path);
        remove(&mut self.sound, path);
        self.broken.push(path.to_vec());
    }
}

fn remove(value: &mut Value, path: &[String]) {
    match (value, path) {
        (Value::Object(table), [name]) => {
            table.shift_remove(name);
        }
        (value, [name, rest @ ..]) => {
            if let Some(inner) = value.get_mut(name) {
                remove(inner, rest);
            }
        }
        (_, []) => {}
    }
}

impl Shape {
    fn new(schema: Value) -> Self {
        // The schema is generated from our own types; a test proves that it compiles.
        let validator = jsonschema::draft202012::new(&schema).ok();
        Self { schema, validator }
    }

    /// All mistakes of shape, at most one for each value, and the file without them.
    pub(crate) fn check(&self, toml: &Toml<'_>) -> Checked {
        let mut checked = Checked { sound: toml.value.clone(), ..Checked::default() };
        let mut seen = BTreeSet::new();
        let errors = self.validator.iter().flat_map(|validator| validator.iter_errors(&toml.value));
        for error in errors {
            let path = segments(error.instance_path().as_str());
            if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
                let known = self.beside(&error);
                for name in unexpected {
                    let at: Vec<String> = path.iter().chain([name]).cloned().collect();
                    checked.mistakes.push(toml.mistake_in_key(&at, unknown(&at, known)));
                    checked.cut(&at);
                    // What it was meant to be is not missing.
                    let meant = nearest(name, names(known)).map(str::to_owned);
                    checked.broken.extend(meant.map(|near| [path.clone(), vec![near]].concat()));
                }
            } else if seen.insert(path.clone()) {
                checked.mistakes.push(toml.mistake(&path, self.explain(&error)));
                checked.cut(&path);
            }
        }
        whole_numbers(&toml.value, &self.schema, &mut Vec::new(), &mut |path, value| {
            let remedy = "write it without a point".to_owned();
            let finding = (format!("{value} is not a whole number"), remedy);
            checked.mistakes.push(toml.mistake(path, finding));
            checked.cut(path);
        });
        checked
    }

    /// The schema that holds the keyword which failed.
    fn beside(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)
    }

    fn explain(&self, error: &ValidationError<'_>) -> Finding {
        let schema = self.beside(error);
        let title = schema.and_then(|s| s.get("title")).and_then(Value::as_str).unwrap_or_default();
        if let Some((_, remedy)) = WRITTEN.iter().find(|(name, _)| *name == title) {
            let article = if title.starts_with('a') { "an" } else { "a" };
            let reason = if title == "secret reference" {
                "a secret stands here in plain text".to_owned()
            } else {
                format!("{} is not {article} {title}", brief(error.instance()))
            };
            return (reason, (*remedy).to_owned());
        }
        match schema.and_then(|s| s.get("enum")) {
            Some(words) => not_a_word(error.instance(), words),
            None => plain(error),
        }
    }
}

/// JSON Schema takes 3.0 for an integer; Rust does not.
fn whole_numbers(
    value: &Value,
    schema: &Value,
    path: &mut Vec<String>,
    say: &mut dyn FnMut(&[String], &Value),
) {
    let children: Vec<(String, &Value, Option<&Value>)> = match value {
        Value::Number(number) if number.is_f64() && schema_is(schema, "integer") => {
            return say(path, value);
        }
        Value::Object(object) => {
            let known = schema.get("properties");
            let other = schema.get("additionalProperties");
            object
                .iter()
                .map(|(k, v)| (k.clone(), v, known.and_then(|p| p.get(k)).or(other)))
                .collect()
        }
        Value::Array(items) => {
            let schema = schema.get("items");
            items.iter().enumerate().map(|(i, v)| (i.to_string(), v, schema)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (segment, child, schema) in children {
        let Some(schema) = schema else { continue };
        path.push(segment);
        whole_numbers(child, schema, path, say);
        path.pop();
    }
}

fn schema_is(schema: &Value, name: &str) -> bool {
    schema.get("type").is_some_and(|found| found == name)
}

/// The keys that a schema knows.
fn names(schema: Option<&Value>) -> impl Iterator<Item = &str> {
    let known = schema.and_then(|s| s.get("properties")).and_then(Value::as_object);
    known.into_iter().flat_map(|map| map.keys().map(String::as_str))
}

fn unknown(path: &[String], schema: Option<&Value>) -> Finding {
    let ends = |end: &str| path.join(".").ends_with(end);
    if let Some((_, reason, remedy)) = RESERVED.iter().find(|(end, ..)| ends(end)) {
        return ((*reason).to_owned(), (*remedy).to_owned());
    }
    let name = path.last().map_or("", String::as_str);
    let reason = format!("there is no key `{name}`");
    match nearest(name, names(schema)) {
        Some(near) => (reason, format!("did you mean `{near}`?")),
        None => (reason, format!("leave it out; known here are {}", one_of(names(schema)))),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is jsonschema's; our schemas use these keywords, others keep its own words"
)]
fn plain(error: &ValidationError<'_>) -> Finding {
    let found = brief(error.instance());
    match error.kind() {
        ValidationErrorKind::Type { .. } => {
            let wanted = wanted(error);
            let quoted = error.instance().is_string();
            let remedy = format!("write {wanted}{}", if quoted { ", without quotes" } else { "" });
            (format!("{found} is not {wanted}"), remedy)
        }
        ValidationErrorKind::Minimum { limit } => {
            (format!("{found} is too small"), format!("write {limit} or more"))
        }
        ValidationErrorKind::ExclusiveMinimum { limit } => {
            (format!("{found} is too small"), format!("write more than {limit}, or leave it out"))
        }
        ValidationErrorKind::Maximum { limit } => {
            (format!("{found} is too large"), format!("write {limit} or less"))
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinLength { .. } => {
            ("this is empty".to_owned(), "write something, or leave the key out".to_owned())
        }
        ValidationErrorKind::MaxItems { limit } => {
            ("this list is too long".to_owned(), format!("keep it to {limit} items"))
        }
        ValidationErrorKind::UniqueItems => {
            ("this list names something twice".to_owned(), "name each one once".to_owned())
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            (format!("the key `{name}` is missing"), format!("add {name} = …"))
        }
        ValidationErrorKind::Pattern { .. } => (
            format!("{found} has characters that are not allowed here"),
            "write it with small letters, digits, - and _".to_owned(),
        ),
        _ => (format!("{found} does not fit: {error}"), "see the reference of this key".to_owned()),
    }
}

/// A value where only certain words are known.
fn not_a_word(found: &Value, words: &Value) -> Finding {
    let words = || words.as_array().into_iter().flatten().filter_map(Value::as_str);
    let word = found.as_str().unwrap_or_default();
    if word == "gemini" {
        return gemini();
    }
    let remedy = match nearest(word, words()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write one of these, in quotes".to_owned(),
    };
    (format!("{} is not {}", brief(found), one_of(words())), remedy)
}

fn gemini() -> Finding {
    let base = "https://generativelanguage.googleapis.com/v1beta/openai";
    (
        "Gemini's own format is not supported by this version".to_owned(),
        format!("use its OpenAI-compatible address: kind = \"openai\", base_url = \"{base}\""),
    )
}

/// What the schema wants, in the words of TOML.
fn wanted(error: &ValidationError<'_>) -> &'static str {
    use jsonschema::error::TypeKind;
    let ValidationErrorKind::Type { kind: TypeKind::Single(wanted) } = error.kind() else {
        return "of the right type";
    };
    match wanted {
        JsonType::String => "a text in quotes",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::Boolean => "true or false",
        JsonType::Array => "a list: [ … ]",
        JsonType::Object | JsonType::Null => "a table",
    }
}

/// A value in a message: short, and never a whole table or list, which might hold a secret.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_string();
            match text.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_schemas_compile() {
        assert!(PROJECT.validator.is_some() && CALL.validator.is_some());
    }
}
