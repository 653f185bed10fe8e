//! Whether an answer is what the call promises: its JSON Schema and its deterministic checks.
//!
//! Compiled once per release, applied to every answer. Schemas may come from a client, so everything
//! about them is bounded: no reference is ever fetched, patterns run in linear time. This module only
//! judges a value or a text; turning text into a value is [`crate::mend`]'s business.

use std::{borrow::Cow, collections::BTreeMap, fmt, io};

use jsonschema::{
    PatternOptions, ValidationError, Validator, error::ValidationErrorKind, paths::LocationSegment,
};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{failure::Violation, release::Checks};

/// The largest schema, in bytes of JSON.
const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// How deep a schema may be nested.
const MAX_SCHEMA_DEPTH: usize = 64;
/// How many regular expressions a schema, or the checks of a call, may hold. With
/// [`MAX_PATTERN_BYTES`] this bounds the memory that compiling one can take.
const MAX_PATTERNS: usize = 100;
/// How many subschemas are looked at while references are followed: the work that one instance can
/// cause.
const MAX_STEPS: usize = 100_000;
/// The largest compiled regular expression, in bytes.
const MAX_PATTERN_BYTES: usize = 512 * 1024;
/// Offending values are shown up to this many characters.
const SHOWN_VALUE: usize = 80;
/// Reasons and paths are cut at this many characters: property names come from the model.
const SHOWN_REASON: usize = 400;

/// A compiled JSON Schema. Draft 2020-12, unless its `$schema` names another known draft.
///
/// `format` is asserted and not only an annotation: who writes `"format": "date"` means it.
pub struct Schema {
    value: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Where in the schema the mistake is, and what it is. A schema past the bounds (256 KB, 64
    /// levels, 100 patterns) is a mistake, and so is a reference to anything outside of it, or one
    /// that leads back to itself without going into the instance.
    pub fn compile(value: &Value) -> Result<Self, String> {
        check_bounds(value)?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(value)
            .map_err(|error| mistake(value, &error))?;
        Ok(Self { value: value.clone(), validator })
    }

    /// Checks an instance.
    ///
    /// # Errors
    /// The first rule that it breaks. Where that is an `anyOf` or `oneOf` of which only one branch is
    /// of the instance's kind, the rule that is broken within that branch.
    pub fn validate(&self, instance: &Value) -> Result<(), Violation> {
        self.validator.validate(instance).map_err(|error| violation(instance, &error))
    }

    /// The rules that an instance breaks, at most `limit` of them; empty if it is valid.
    #[must_use]
    pub fn violations(&self, instance: &Value, limit: usize) -> Vec<Violation> {
        let errors = self.validator.iter_errors(instance).take(limit);
        errors.map(|error| violation(instance, &error)).collect()
    }

    /// The schema as it was written.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

fn check_bounds(schema: &Value) -> Result<(), String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("at `$`: a schema is a JSON object, or true or false".to_owned());
    }
    let mut patterns = 0;
    let mut open = vec![(schema, 1usize)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!("the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels"));
        }
        match value {
            Value::Object(map) => {
                patterns += usize::from(map.get("pattern").is_some_and(Value::is_string));
                patterns +=
                    map.get("patternProperties").and_then(Value::as_object).map_or(0, |m| m.len());
                open.extend(map.values().map(|inner| (inner, depth + 1)));
            }
            Value::Array(items) => open.extend(items.iter().map(|inner| (inner, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    if patterns > MAX_PATTERNS {
        return Err(format!("the schema holds {patterns} patterns; {MAX_PATTERNS} are allowed"));
    }
    // The depth is known to be small by now, so writing it cannot exhaust the stack.
    let bytes = write_bounded(schema, MAX_SCHEMA_BYTES);
    if bytes.len() > MAX_SCHEMA_BYTES {
        return Err(format!("the schema is larger than {} KB", MAX_SCHEMA_BYTES / 1024));
    }
    References::check(schema)
}

/// Every reference must lead to a place in this schema, and looking at one instance must come to an
/// end soon: `{"$ref": "#"}` never would, and `allOf` of two references to the next such `allOf`
/// doubles with each level.
struct References<'s> {
    root: &'s Value,
    /// `$anchor` and `$dynamicAnchor`, with their `#`.
    anchors: BTreeMap<String, &'s Value>,
}

impl<'s> References<'s> {
    fn check(root: &'s Value) -> Result<(), String> {
        let (mut anchors, mut referring) = (BTreeMap::new(), Vec::new());
        let mut open = vec![root];
        while let Some(value) = open.pop() {
            if let Value::Array(items) = value {
                open.extend(items);
            }
            let Value::Object(map) = value else { continue };
            open.extend(map.values());
            let text = |key| map.get(key).and_then(Value::as_str);
            if !std::ptr::eq(value, root) && text("$id").is_some() {
                return Err("`$id` below the top of the schema is not supported".to_owned());
            }
            for name in ["$anchor", "$dynamicAnchor"].into_iter().filter_map(text) {
                anchors.insert(format!("#{name}"), value);
            }
            if text("$ref").or(text("$dynamicRef")).is_some() {
                referring.push(value);
            }
        }
        let references = Self { root, anchors };
        let mut steps = MAX_STEPS;
        referring.into_iter().try_for_each(|schema| references.follow(schema, 0, &mut steps))
    }

    fn resolve(&self, reference: &str) -> Result<&'s Value, String> {
        let inside = reference.strip_prefix('#').and_then(|pointer| {
            let found = self.root.pointer(&percent_decoded(pointer));
            found.or_else(|| self.anchors.get(reference).copied())
        });
        inside.ok_or_else(|| {
            format!(
                "the reference `{}` leads to no place in this schema; nothing is fetched from \
                 outside, so put the definition under `$defs` and refer to `#/$defs/NAME`",
                cut(reference, SHOWN_VALUE)
            )
        })
    }

    /// Goes through everything that looks at the same instance as `schema` does.
    fn follow(&self, schema: &Value, depth: usize, steps: &mut usize) -> Result<(), String> {
        const SINGLE: [&str; 4] = ["not", "if", "then", "else"];
        const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
        *steps = steps.saturating_sub(1);
        if *steps == 0 || depth > 2 * MAX_SCHEMA_DEPTH {
            return Err("its references lead back to themselves without going into the instance, \
                        or branch without bound"
                .to_owned());
        }
        for key in ["$ref", "$dynamicRef"] {
            if let Some(reference) = schema.get(key).and_then(Value::as_str) {
                self.follow(self.resolve(reference)?, depth + 1, steps)?;
            }
        }
        let singles = SINGLE.iter().filter_map(|key| schema.get(key));
        let lists = LISTS.iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
        let dependent = schema.get("dependentSchemas").and_then(Value::as_object);
        let dependent = dependent.into_iter().flat_map(|map| map.values());
        singles
            .chain(lists)
            .chain(dependent)
            .try_for_each(|inner| self.follow(inner, depth + 1, steps))
    }
}

/// A JSON pointer in a URI fragment may be percent-encoded (RFC 6901 §6).
fn percent_decoded(pointer: &str) -> Cow<'_, str> {
    if !pointer.contains('%') {
        return Cow::Borrowed(pointer);
    }
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// A mistake in a schema. The metaschema judged the schema as an instance, so paths lead into it.
fn mistake(schema: &Value, error: &ValidationError<'_>) -> String {
    let Violation { path, reason, .. } = violation(schema, error);
    format!("at `{path}`: {reason}")
}

fn violation(root: &Value, error: &ValidationError<'_>) -> Violation {
    let error = most_telling(error);
    let value = shorten(error.instance());
    Violation {
        path: json_path(root, error.instance_path().segments()),
        rule: error.kind().keyword().to_owned(),
        reason: cut(&error.masked_with(value).to_string(), SHOWN_REASON),
    }
}

/// "Fits none of the branches" helps nobody. Where all branches but one want another kind of value
/// altogether, as in `anyOf: [{object…}, {"type": "null"}]`, the mistake is the one in that branch.
fn most_telling<'e, 'i>(error: &'e ValidationError<'i>) -> &'e ValidationError<'i>
where
    'static: 'i,
{
    let mut error = error;
    loop {
        let (ValidationErrorKind::AnyOf { context: branches }
        | ValidationErrorKind::OneOfNotValid { context: branches }) = error.kind()
        else {
            return error;
        };
        let here = error.instance_path();
        let other_kind = |first: &ValidationError<'_>| {
            first.instance_path() == here
                && matches!(first.kind().keyword(), "type" | "const" | "enum" | "falseSchema")
        };
        let mut close = branches
            .iter()
            .filter(|errors| !errors.iter().any(other_kind))
            .filter_map(|errors| errors.first());
        match (close.next(), close.next()) {
            (Some(only), None) => error = only,
            (Some(_), Some(_)) | (None, _) => return error,
        }
    }
}

/// `$.lines[0]['unit price']`, after RFC 9535. The instance tells a key `0` from an index.
fn json_path<'s>(root: &Value, segments: impl Iterator<Item = LocationSegment<'s>>) -> String {
    let mut path = "$".to_owned();
    let mut here = Some(root);
    for segment in segments {
        let name = segment.to_string();
        if let Some(Value::Array(items)) = here {
            path.push_str(&format!("[{name}]"));
            here = name.parse::<usize>().ok().and_then(|index| items.get(index));
            continue;
        }
        let plain = |c: char| c == '_' || c.is_alphanumeric();
        if name.chars().all(plain) && name.chars().next().is_some_and(|c| !c.is_numeric()) {
            path.push('.');
            path.push_str(&name);
        } else {
            let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
            path.push_str(&format!("['{quoted}']"));
        }
        here = here.and_then(|value| value.get(&name));
    }
    cut(&path, SHOWN_REASON)
}

/// A value as JSON, cut to what a person reads.
fn shorten(value: &Value) -> String {
    let bytes = write_bounded(value, 4 * SHOWN_VALUE);
    cut(&String::from_utf8_lossy(&bytes), SHOWN_VALUE)
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The JSON of a value, given up soon after `limit` bytes: a large value is never written whole.
fn write_bounded(value: &Value, limit: usize) -> Vec<u8> {
    struct Bounded {
        bytes: Vec<u8>,
        limit: usize,
    }
    impl io::Write for Bounded {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            if self.bytes.len() > self.limit {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let taken = piece.get(..piece.len().min(self.limit + 1)).unwrap_or_default();
            self.bytes.extend_from_slice(taken);
            Ok(taken.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Bounded { bytes: Vec::new(), limit };
    // The only error is the one above, and then what was written is all that is wanted.
    serde_json::to_writer(&mut out, value).ok();
    out.bytes
}

/// The compiled checks of a call, applied to the text of an answer.
#[derive(Clone, Debug, Default)]
pub struct CompiledChecks {
    max_chars: Option<u64>,
    forbid: Vec<Regex>,
}

impl CompiledChecks {
    /// Compiles the checks of a call.
    ///
    /// # Errors
    /// Which pattern is wrong, and why.
    pub fn compile(checks: &Checks) -> Result<Self, String> {
        if checks.forbid.len() > MAX_PATTERNS {
            return Err(format!("`forbid` holds more than {MAX_PATTERNS} patterns"));
        }
        let compile = |(index, pattern): (usize, &String)| {
            RegexBuilder::new(pattern)
                .size_limit(MAX_PATTERN_BYTES)
                .dfa_size_limit(MAX_PATTERN_BYTES)
                .build()
                .map_err(|error| format!("`forbid[{index}]`: {error}"))
        };
        let forbid = checks.forbid.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { max_chars: checks.max_chars, forbid })
    }

    /// Checks the text of an answer.
    ///
    /// # Errors
    /// The first check that it fails: `max_chars`, then each pattern of `forbid`.
    pub fn verify(&self, text: &str) -> Result<(), Violation> {
        let fault = |rule: &str, reason| {
            Err(Violation { path: "$".to_owned(), rule: rule.to_owned(), reason })
        };
        if let Some(max) = self.max_chars {
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            // No text has more characters than bytes, so most texts need no counting.
            let chars = if bytes <= max { 0 } else { text.chars().count() };
            if u64::try_from(chars).unwrap_or(u64::MAX) > max {
                return fault(
                    "max_chars",
                    format!("the answer has {chars} characters; at most {max} are allowed"),
                );
            }
        }
        for pattern in &self.forbid {
            if let Some(found) = pattern.find(text) {
                let (found, pattern) =
                    (cut(found.as_str(), SHOWN_VALUE), cut(pattern.as_str(), SHOWN_VALUE));
                let reason = format!("`{found}` matches the forbidden pattern `{pattern}`");
                return fault("forbid", reason);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn broken(schema: &Value, instance: &Value) -> (String, String, String) {
        let violation = Schema::compile(schema).unwrap().validate(instance).unwrap_err();
        (violation.path, violation.rule, violation.reason)
    }

    fn invoice() -> Value {
        json!({
            "type": "object",
            "required": ["lines"],
            "properties": {
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
                "unit price": {"type": "number", "minimum": 0},
                "0": {"type": "string"},
                "day": {"format": "date"}
            },
            "$defs": {"line": {"type": "object", "properties": {"total": {"type": "number"}}}}
        })
    }

    #[test]
    fn a_violation_names_place_rule_and_value() {
        let schema = invoice();
        let compiled = Schema::compile(&schema).unwrap();
        assert_eq!(compiled.validate(&json!({"lines": [{"total": 1}]})), Ok(()));
        assert_eq!(compiled.value(), &schema);
        let cases = [
            (
                json!({"lines": [{"total": "x"}]}),
                "$.lines[0].total",
                "type",
                "\"x\" is not of type",
            ),
            (json!({"lines": [], "unit price": -1}), "$['unit price']", "minimum", "-1 is less"),
            (json!({"lines": [], "0": 1}), "$['0']", "type", "1 is not of type \"string\""),
            (json!({"lines": [], "day": "soon"}), "$.day", "format", "\"soon\" is not a \"date\""),
            (json!({}), "$", "required", "\"lines\" is a required property"),
        ];
        for (instance, path, rule, reason) in cases {
            let found = broken(&schema, &instance);
            assert_eq!((found.0.as_str(), found.1.as_str()), (path, rule), "{instance}");
            assert!(found.2.contains(reason), "{} / {reason}", found.2);
        }
    }

    #[test]
    fn all_violations_up_to_a_limit() {
        let schema = Schema::compile(&json!({"items": {"type": "number"}})).unwrap();
        let instance = json!(["a", 1, "b", "c"]);
        let paths = |limit| {
            let all = schema.violations(&instance, limit).into_iter();
            all.map(|violation| violation.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(10), ["$[0]", "$[2]", "$[3]"]);
        assert_eq!(paths(2), ["$[0]", "$[2]"]);
        assert!(schema.violations(&json!([1]), 10).is_empty());
    }

    #[test]
    fn in_a_union_the_branch_that_was_meant_is_explained() {
        let object = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let nullable = json!({"anyOf": [object, {"type": "null"}]});
        assert_eq!(broken(&nullable, &json!({"a": 1})).0, "$.a");
        // Nothing fits: the union itself is what is wrong.
        assert_eq!(broken(&nullable, &json!(7)).1, "anyOf");
    }

    #[test]
    fn long_values_names_and_quotes_are_shown_in_part() {
        let long = "ü".repeat(1_000_000);
        let (_, _, reason) = broken(&json!({"type": "number"}), &json!(long));
        assert!(reason.chars().count() < 120, "{reason}");
        let closed = json!({"additionalProperties": false});
        let (_, _, reason) = broken(&closed, &json!({ long.clone(): 1 }));
        assert!(reason.chars().count() <= SHOWN_REASON + 1);
        let (path, ..) =
            broken(&json!({"additionalProperties": {"type": "null"}}), &json!({long: 1}));
        assert!(path.chars().count() <= SHOWN_REASON + 1);
        let typed = json!({"additionalProperties": {"type": "null"}});
        assert_eq!(broken(&typed, &json!({"it's": 1})).0, r"$['it\'s']");
    }

    #[test]
    fn a_wrong_schema_is_refused_with_its_place() {
        let deep = (0..70).fold(json!({}), |inner, _| json!({ "not": inner }));
        let patterns: Vec<_> = (0..101).map(|n| json!({"pattern": n.to_string()})).collect();
        let fan = (0..40).fold(serde_json::Map::new(), |mut defs, n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            defs.insert(format!("d{n}"), json!({"allOf": [next, next]}));
            defs.insert("d40".to_owned(), json!(true));
            defs
        });
        let cases = [
            (json!([]), "`$`"),
            (json!({"properties": {"a": {"type": "nmber"}}}), "$.properties.a.type"),
            (json!({"properties": {"a": {"pattern": "(?=x)"}}}), "pattern"),
            (json!({"pattern": r"(\pL{100}){100}"}), "pattern"),
            (json!({"$ref": "https://example.com/schema.json"}), "example.com"),
            (json!({"$ref": "file:///etc/passwd"}), "passwd"),
            (json!({"$ref": "other.json"}), "other.json"),
            (json!({"$ref": "#/$defs/none"}), "none"),
            (json!({"$ref": "#"}), "back to themselves"),
            (json!({"$ref": "#a", "$anchor": "a"}), "back to themselves"),
            (json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}), "back to themselves"),
            (json!({"items": {"$id": "http://a/b"}}), "`$id` below"),
            (json!({"$ref": "#/$defs/d0", "$defs": fan}), "without bound"),
            (deep, "64 levels"),
            (json!({ "anyOf": patterns }), "101 patterns"),
            (json!({"description": "x".repeat(300_000)}), "256 KB"),
        ];
        for (schema, expected) in cases {
            let message = Schema::compile(&schema).expect_err(expected);
            assert!(message.contains(expected), "`{message}` should name `{expected}`");
        }
    }

    #[test]
    fn recursion_into_the_instance_is_allowed() {
        let tree = json!({
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}
        });
        let schema = Schema::compile(&tree).unwrap();
        let bad = json!({"children": [{"children": [{"children": 1}]}]});
        assert_eq!(schema.validate(&bad).unwrap_err().path, "$.children[0].children[0].children");
    }

    #[test]
    fn references_may_be_encoded_or_anchored() {
        let schema = json!({
            "prefixItems": [{"$ref": "#/$defs/a%3Cb%3E"}, {"$ref": "#c"}],
            "$defs": {"a<b>": {"type": "string"}, "c": {"$anchor": "c", "type": "number"}}
        });
        assert_eq!(broken(&schema, &json!([1, 2])).0, "$[0]");
        assert_eq!(broken(&schema, &json!(["a", "b"])).0, "$[1]");
    }

    #[test]
    fn checks() {
        let checks = |max_chars, forbid: &[&str]| Checks {
            max_chars,
            forbid: forbid.iter().map(|&pattern| pattern.to_owned()).collect(),
        };
        let compiled = CompiledChecks::compile(&checks(Some(5), &["x", "(?i)as an ai"])).unwrap();
        assert_eq!(compiled.verify("äöüßé"), Ok(()));
        let long = compiled.verify("äöüßéa").unwrap_err();
        assert_eq!((long.path.as_str(), long.rule.as_str()), ("$", "max_chars"));
        assert!(long.reason.contains("6 characters"), "{}", long.reason);
        let compiled = CompiledChecks::compile(&checks(None, &["x", "(?i)as an ai"])).unwrap();
        let forbidden = compiled.verify("Well, As an AI …").unwrap_err();
        assert_eq!(forbidden.rule, "forbid");
        assert!(forbidden.reason.contains("`As an AI` matches"), "{}", forbidden.reason);
        let mistake = CompiledChecks::compile(&checks(None, &["x", "("])).unwrap_err();
        assert!(mistake.starts_with("`forbid[1]`"), "{mistake}");
        assert_eq!(CompiledChecks::default().verify(""), Ok(()));
    }

    #[test]
    fn compiled_schemas_are_shared_between_threads() {
        fn shared<T: Send + Sync + fmt::Debug>() {}
        shared::<Schema>();
        shared::<CompiledChecks>();
    }

    proptest! {
        #[test]
        fn one_violation_if_and_only_if_some(words in proptest::collection::vec(".*", 0..4)) {
            let schema = Schema::compile(&json!({
                "items": {"type": "string", "maxLength": 3, "pattern": "^[a-z]*$"}
            })).unwrap();
            let instance = json!(words);
            let valid = words.iter().all(|w| w.len() <= 3 && w.bytes().all(|b| b.is_ascii_lowercase()));
            prop_assert_eq!(schema.validate(&instance).is_ok(), valid);
            prop_assert_eq!(schema.violations(&instance, 9).is_empty(), valid);
        }
    }
}
