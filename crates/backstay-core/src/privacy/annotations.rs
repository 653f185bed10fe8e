//! What the schemas of a call say of privacy: `"x-backstay-redact": true` or `"pseudonym"`, and
//! `"x-backstay-keep": true`, on any schema within them. They become paths like those of `[capture]`.

use serde_json::{Map, Value};

use super::{
    Lists,
    path::{Path, Select, Step},
};

/// Denies or pseudonymises.
pub const REDACT: &str = "x-backstay-redact";
/// Allows.
pub const KEEP: &str = "x-backstay-keep";
/// How many schemas are looked at, references followed.
const MOST_SCHEMAS: usize = 10_000;

/// The lists that a schema amounts to; its instances stand at `root`, such as `answer`.
#[must_use]
pub fn lists(schema: &Value, root: &str) -> Lists {
    let mut walk = Walk {
        root: schema,
        followed: Vec::new(),
        loose: false,
        left: MOST_SCHEMAS,
        lists: Lists::default(),
    };
    let mut path = vec![Step::Child(Select::Name(root.to_owned()))];
    walk.schema(schema, &mut path);
    walk.lists
}

struct Walk<'s> {
    root: &'s Value,
    /// References that are being followed; if `loose`, that were followed at any time.
    followed: Vec<&'s str>,
    /// Only the last steps of the paths count.
    loose: bool,
    left: usize,
    lists: Lists,
}

impl<'s> Walk<'s> {
    fn schema(&mut self, schema: &'s Value, path: &mut Vec<Step>) {
        self.left = self.left.saturating_sub(1);
        let Value::Object(map) = schema else { return };
        if self.left == 0 {
            return;
        }
        let text = || Path(path.clone()).to_string();
        match map.get(REDACT) {
            Some(Value::Bool(true)) => self.lists.deny.push(text()),
            Some(Value::String(word)) if word == "pseudonym" => {
                self.lists.pseudonymize.push(text());
            }
            Some(_) | None => {}
        }
        if map.get(KEEP) == Some(&Value::Bool(true)) {
            self.lists.allow.push(text());
        }
        self.same_place(map, path);
        self.children(map, path);
    }

    /// Schemas of the same place.
    fn same_place(&mut self, map: &'s Map<String, Value>, path: &mut Vec<Step>) {
        for key in ["allOf", "anyOf", "oneOf"] {
            for inner in map.get(key).and_then(Value::as_array).into_iter().flatten() {
                self.schema(inner, path);
            }
        }
        for key in ["if", "then", "else", "not"] {
            map.get(key).into_iter().for_each(|inner| self.schema(inner, path));
        }
        for inner in objects(map, "dependentSchemas").map(|(_, inner)| inner) {
            self.schema(inner, path);
        }
        for key in ["$ref", "$dynamicRef"] {
            let Some(reference) = map.get(key).and_then(Value::as_str) else { continue };
            let Some(target) = self.resolve(reference) else { continue };
            match (self.followed.contains(&reference), self.loose) {
                (true, true) => {}
                (true, false) => self.anywhere_below(target, path),
                (false, loose) => {
                    self.followed.push(reference);
                    self.schema(target, path);
                    if !loose {
                        self.followed.pop();
                    }
                }
            }
        }
    }

    fn children(&mut self, map: &'s Map<String, Value>, path: &mut Vec<Step>) {
        for (name, inner) in objects(map, "properties") {
            self.child(inner, Select::Name(name.clone()), path);
        }
        for (_, inner) in objects(map, "patternProperties") {
            self.child(inner, Select::Any, path);
        }
        let prefix = map.get("prefixItems").and_then(Value::as_array);
        for (index, inner) in prefix.into_iter().flatten().enumerate() {
            self.child(inner, Select::Index(index), path);
        }
        const ALL: [&str; 5] = [
            "items",
            "contains",
            "additionalProperties",
            "unevaluatedProperties",
            "unevaluatedItems",
        ];
        for inner in ALL.iter().filter_map(|key| map.get(*key)) {
            self.child(inner, Select::Any, path);
        }
    }

    fn child(&mut self, schema: &'s Value, select: Select, path: &mut Vec<Step>) {
        path.push(Step::Child(select));
        self.schema(schema, path);
        path.pop();
    }

    /// A schema that contains itself: its annotated properties may stand at any depth.
    fn anywhere_below(&mut self, schema: &'s Value, path: &[Step]) {
        let mut inner = Walk {
            root: self.root,
            followed: Vec::new(),
            loose: true,
            left: self.left,
            lists: Lists::default(),
        };
        inner.schema(schema, &mut Vec::new());
        self.left = inner.left;
        let loose = |texts: Vec<String>| {
            let last = |text: String| text.parse::<Path>().ok()?.0.pop();
            let below = texts.into_iter().filter_map(last).map(|step| {
                let (Step::Child(select) | Step::Below(select)) = step;
                let steps = path.iter().cloned().chain([Step::Below(select)]);
                Path(steps.collect()).to_string()
            });
            below.collect()
        };
        // What is kept is kept where it was said only.
        let lists = Lists {
            deny: loose(inner.lists.deny),
            allow: Vec::new(),
            pseudonymize: loose(inner.lists.pseudonymize),
        };
        self.lists = std::mem::take(&mut self.lists).with(lists);
    }

    fn resolve(&self, reference: &str) -> Option<&'s Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }
}

fn objects<'s>(
    map: &'s Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'s String, &'s Value)> {
    map.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// One annotation that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the schema, from its top.
    pub at: Vec<String>,
    /// What is wrong, as a sentence without its full stop.
    pub reason: &'static str,
    /// How to mend it.
    pub remedy: &'static str,
}

/// Every annotation of a schema that cannot be honoured.
#[must_use]
pub fn faults(schema: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    look(schema, &mut Vec::new(), false, &mut faults);
    faults
}

/// `names` says whether the keys of `value` are names of properties and no keywords.
fn look(value: &Value, at: &mut Vec<String>, names: bool, faults: &mut Vec<Fault>) {
    const NAMED: [&str; 5] =
        ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
    let Some(map) = value.as_object() else {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            at.push(index.to_string());
            look(item, at, false, faults);
            at.pop();
        }
        return;
    };
    if !names {
        faults.extend(fault_of(map, at));
    }
    for (key, inner) in map {
        if !names && ["const", "enum", "default", "examples"].contains(&key.as_str()) {
            continue;
        }
        at.push(key.clone());
        look(inner, at, !names && NAMED.contains(&key.as_str()), faults);
        at.pop();
    }
}

fn fault_of(map: &Map<String, Value>, at: &[String]) -> Option<Fault> {
    let fault = |key: Option<&str>, reason, remedy| {
        let at = at.iter().map(String::as_str).chain(key).map(str::to_owned).collect();
        Some(Fault { at, reason, remedy })
    };
    let (redact, keep) = (map.get(REDACT), map.get(KEEP));
    let known = |value: &Value| value == &Value::Bool(true) || value == "pseudonym";
    if redact.is_some_and(|value| !known(value)) {
        let remedy = "write true, or \"pseudonym\" to keep a pseudonym, or leave it out";
        return fault(Some(REDACT), "this annotation has no such value", remedy);
    }
    if keep.is_some_and(|value| value != &Value::Bool(true)) {
        return fault(
            Some(KEEP),
            "this annotation has no such value",
            "write true, or leave it out",
        );
    }
    if redact.is_some() && keep.is_some() {
        return fault(Some(KEEP), "this cannot be kept and taken out at once", "leave one out");
    }
    let wide = ["additionalProperties", "unevaluatedProperties"].map(|name| (name, map.get(name)));
    let patterns = objects(map, "patternProperties").map(|(_, inner)| inner);
    let wide = wide.into_iter().chain(patterns.map(|inner| ("patternProperties", Some(inner))));
    let keeps = |inner: &&Value| inner.get(KEEP).is_some();
    if let Some((name, _)) = { wide }.find(|(_, inner)| inner.as_ref().is_some_and(keeps)) {
        let remedy = "name the properties that are kept under `properties`";
        return fault(Some(name), "properties without a name of their own cannot be kept", remedy);
    }
    None
}

/// The schema without annotations, as providers get it: some refuse keywords that they do not know.
#[must_use]
pub fn without(schema: &Value) -> Value {
    let mut plain = schema.clone();
    strip(&mut plain, false);
    plain
}

fn strip(value: &mut Value, names: bool) {
    match value {
        Value::Object(map) => {
            if !names {
                map.retain(|key, _| key != REDACT && key != KEEP);
            }
            for (key, inner) in map {
                if names || !["const", "enum", "default", "examples"].contains(&key.as_str()) {
                    let named = ["properties", "patternProperties", "$defs", "definitions"];
                    strip(inner, !names && named.contains(&key.as_str()));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
