//! Where things stand in a file: TOML with the place of every key and value, and the same for JSON.
//!
//! Only reads; knows nothing of what the keys mean.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Map, Value, value::RawValue};
use toml_edit::{Array, Document, Item, TableLike};

use super::mistake::Mistake;

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the project, with forward slashes.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// What is wrong and how it is mended.
pub(crate) type Finding = (String, String);

impl SourceFile {
    /// A mistake at a byte of this file. `key` is its dotted path.
    pub(crate) fn mistake(&self, offset: usize, key: &str, finding: Finding) -> Mistake {
        let (line, column) = line_and_column(&self.text, offset);
        let (reason, remedy) = finding;
        Mistake { file: self.path.clone(), line, column, key: key.to_owned(), reason, remedy }
    }
}

/// Line and column in characters, both from 1, of a byte. Past the end is the end of the last line.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let end = text.strip_suffix('\n').map_or(text.len(), str::len);
    let before = text.get(..text.floor_char_boundary(offset.min(end))).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A TOML file that could be read.
#[derive(Debug)]
pub(crate) struct Toml<'a> {
    pub(crate) file: &'a SourceFile,
    pub(crate) value: Value,
    places: BTreeMap<Vec<String>, Place>,
}

#[derive(Debug, Default)]
struct Place {
    key: Option<usize>,
    value: Option<usize>,
}

impl<'a> Toml<'a> {
    /// Reads TOML; says what cannot be said in JSON.
    pub(crate) fn parse(file: &'a SourceFile) -> Result<Self, Vec<Mistake>> {
        let document = Document::parse(file.text.as_str()).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let reason = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            let remedy = "mend the line: strings stand in double quotes, a key stands once in its \
                table, tables begin with [name]";
            vec![file.mistake(at, "", (reason, remedy.to_owned()))]
        })?;
        let mut reader = Reader::default();
        let value = reader.table(document.as_table());
        let toml = Self { file, value, places: reader.places };
        if reader.odd.is_empty() {
            return Ok(toml);
        }
        Err(reader.odd.into_iter().map(|(path, finding)| toml.mistake(&path, finding)).collect())
    }

    /// A mistake in the value at `path`, or in the nearest table around it that was typed.
    pub(crate) fn mistake(&self, path: &[String], finding: Finding) -> Mistake {
        let place = self.nearest(path);
        let at = place.and_then(|p| p.value.or(p.key)).unwrap_or(0);
        self.file.mistake(at, &dotted(path), finding)
    }

    /// A mistake in the key itself at `path`.
    pub(crate) fn mistake_in_key(&self, path: &[String], finding: Finding) -> Mistake {
        let place = self.nearest(path);
        let at = place.and_then(|p| p.key.or(p.value)).unwrap_or(0);
        self.file.mistake(at, &dotted(path), finding)
    }

    /// Whether something was typed at `path`.
    pub(crate) fn has(&self, path: &[String]) -> bool {
        self.places.contains_key(path)
    }

    fn nearest(&self, path: &[String]) -> Option<&Place> {
        (0..=path.len()).rev().find_map(|n| self.places.get(path.get(..n)?))
    }
}

/// Turns TOML into JSON and notes where everything stood.
#[derive(Default)]
struct Reader {
    path: Vec<String>,
    places: BTreeMap<Vec<String>, Place>,
    odd: Vec<(Vec<String>, Finding)>,
}

impl Reader {
    fn table(&mut self, table: &dyn TableLike) -> Value {
        let mut object = Map::new();
        for (name, item) in table.iter() {
            let key = table.key(name).and_then(toml_edit::Key::span).map(|span| span.start);
            let value = self.within(name.to_owned(), key, item.span(), |reader| reader.item(item));
            object.insert(name.to_owned(), value);
        }
        Value::Object(object)
    }

    fn item(&mut self, item: &Item) -> Value {
        match item {
            Item::None => Value::Null,
            Item::Value(value) => self.value(value),
            Item::Table(table) => self.table(table),
            Item::ArrayOfTables(tables) => {
                let items = tables.iter().enumerate();
                Value::Array(
                    items
                        .map(|(i, table)| {
                            self.within(i.to_string(), None, table.span(), |r| r.table(table))
                        })
                        .collect(),
                )
            }
        }
    }

    fn value(&mut self, value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => text.value().as_str().into(),
            toml_edit::Value::Integer(number) => (*number.value()).into(),
            toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
            toml_edit::Value::Float(number) => {
                match serde_json::Number::from_f64(*number.value()) {
                    Some(number) => Value::Number(number),
                    None => self.odd("this number is not finite", "write a finite number"),
                }
            }
            toml_edit::Value::Datetime(_) => {
                self.odd("a date has no meaning here", "write it in quotes, as text")
            }
            toml_edit::Value::Array(array) => self.array(array),
            toml_edit::Value::InlineTable(table) => self.table(table),
        }
    }

    fn array(&mut self, array: &Array) -> Value {
        let items = array.iter().enumerate();
        Value::Array(
            items
                .map(|(i, value)| {
                    self.within(i.to_string(), None, value.span(), |reader| reader.value(value))
                })
                .collect(),
        )
    }

    fn within(
        &mut self,
        segment: String,
        key: Option<usize>,
        span: Option<Range<usize>>,
        read: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        self.path.push(segment);
        self.places.insert(self.path.clone(), Place { key, value: span.map(|span| span.start) });
        let value = read(self);
        self.path.pop();
        value
    }

    fn odd(&mut self, reason: &str, remedy: &str) -> Value {
        self.odd.push((self.path.clone(), (reason.to_owned(), remedy.to_owned())));
        Value::Null
    }
}

/// A path as it is typed: `providers.sim.faults[1].rate`, `models."gpt-4.1"`.
pub(crate) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if segment.parse::<usize>().is_ok() {
            text.extend(["[", segment, "]"]);
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        if segment.chars().all(bare) {
            text.push_str(segment);
        } else {
            text.push_str(&format!("{segment:?}"));
        }
    }
    text
}

/// The segments of a JSON Pointer.
pub(crate) fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect()
}

/// The byte at which the value at `path` begins in a valid JSON text, or the deepest one around it.
pub(crate) fn json_offset(text: &str, path: &[String]) -> usize {
    let mut rest = text;
    for segment in path {
        let inner = match serde_json::from_str::<BTreeMap<String, &RawValue>>(rest) {
            Ok(object) => object.get(segment).map(|raw| raw.get()),
            Err(_) => serde_json::from_str::<Vec<&RawValue>>(rest).ok().and_then(|items| {
                segment.parse::<usize>().ok().and_then(|i| items.get(i).map(|raw| raw.get()))
            }),
        };
        let Some(inner) = inner else { break };
        rest = inner;
    }
    // `rest` is a part of `text`, so its distance from the start is its offset.
    (rest.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn every_form_of_toml_has_its_place() {
        let text = "a.b = 1\n[c]\nd = { e = [10,\n  20] }\n[[f]]\ng = 'ü'\n[[f]]\nh.i = true\n";
        let file = SourceFile { path: "x.toml".to_owned(), text: text.to_owned() };
        let toml = Toml::parse(&file).unwrap();
        let place = |at: &str| {
            let mistake = toml.mistake(&path(at), (String::new(), String::new()));
            (mistake.line, mistake.column)
        };
        assert_eq!(place("a.b"), (1, 7));
        assert_eq!(place("c.d.e.1"), (4, 3));
        assert_eq!(place("f.0.g"), (6, 5));
        assert_eq!(place("f.1.h.i"), (8, 7));
        assert_eq!(place("c.missing.deeper"), (2, 1));
        assert_eq!(place("missing"), (1, 1));
    }

    #[test]
    fn what_json_cannot_say_is_a_mistake() {
        let text = "a = nan\nb = 2020-01-01\n".to_owned();
        let file = SourceFile { path: "x.toml".to_owned(), text };
        let mistakes = Toml::parse(&file).unwrap_err();
        assert_eq!(mistakes.iter().map(|m| m.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn json_values_have_their_place() {
        let text = r#"{ "a": [1, {"b c": 2}], "d": 3 }"#;
        assert_eq!(
            text.get(json_offset(text, &path("a.1.b c"))..).unwrap().chars().next(),
            Some('2')
        );
        assert_eq!(text.get(json_offset(text, &path("d"))..).unwrap().chars().next(), Some('3'));
        assert_eq!(json_offset(text, &path("x")), 0);
    }

    #[test]
    fn paths_are_written_as_they_are_typed() {
        assert_eq!(dotted(&path("a.0.b")), "a[0].b");
        assert_eq!(dotted(&["m".to_owned(), "gpt-4.1".to_owned()]), "m.\"gpt-4.1\"");
    }
}
