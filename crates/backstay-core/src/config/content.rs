//! The files beside `call.toml`: templates, schemas, the static answer. Finds what is wrong in each
//! and between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use minijinja::{Environment, UndefinedBehavior};
use regex::Regex;
use serde_json::Value;

use super::{
    mistake::{Mistake, nearest, one_of},
    place::{SourceFile, dotted, json_offset, segments},
};
use crate::privacy::annotations;

/// Whether a path stays below the directory that it starts from.
pub(crate) fn stays_inside(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !path.contains(['\\', '\0', ':']) && path.split('/').all(plain)
}

/// Mistakes of the templates of a call. `declared` are the variables of its input schema, if it has
/// one that lists them. Unless the templates are `complete`, a missing one may be there.
pub(crate) fn template_mistakes(
    templates: &BTreeMap<&str, SourceFile>,
    declared: Option<&BTreeSet<String>>,
    complete: bool,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, file) in templates {
        if let Err(error) = environment.add_template(name, &file.text) {
            let at = error.range().map_or_else(
                || line_start(&file.text, error.line().unwrap_or(1)),
                |range| range.start,
            );
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let remedy = "mend the template; {{ name }} is a variable, {% if … %} a statement";
            mistakes.push(file.mistake(at, "", (detail, remedy.to_owned())));
            continue;
        }
        if complete {
            mistakes.extend(missing_includes(file, templates));
        }
        let Ok(template) = environment.get_template(name) else { continue };
        let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
        let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        used.sort();
        for name in used.iter().filter(|name| !globals.contains(name.as_str())) {
            let Some(known) = declared.filter(|known| !known.contains(name)) else { continue };
            let remedy = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `properties` in input.schema.json".to_owned(),
            };
            let reason = format!("input.schema.json does not declare the variable `{name}`");
            mistakes.push(file.mistake(word_offset(&file.text, name), "", (reason, remedy)));
        }
    }
    mistakes
}

/// Files that a template includes by name, but that the call does not list.
fn missing_includes(file: &SourceFile, templates: &BTreeMap<&str, SourceFile>) -> Vec<Mistake> {
    static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"\{%[-+]?\s*(?:include|import|from|extends)\s+["']([^"']+)["']"#).ok()
    });
    let named = NAMED.iter().flat_map(|regex| regex.captures_iter(&file.text));
    let missing = named.filter_map(|captures| captures.get(1)).filter_map(|name| {
        let known = templates.contains_key(name.as_str());
        let reason = format!("the template includes `{}`, which is not there", name.as_str());
        let remedy = format!("add include = [{:?}] to call.toml, and the file", name.as_str());
        (!known).then(|| file.mistake(name.start(), "", (reason, remedy)))
    });
    missing.collect()
}

/// What is wrong with the template of `degrade.message`, if anything.
pub(crate) fn message_fault(message: &str) -> Option<(String, String)> {
    let environment = Environment::new();
    let template = match environment.template_from_str(message) {
        Ok(template) => template,
        Err(error) => {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            return Some((
                detail,
                "mend the template, such as \"Sorry: {{ failure }}\"".to_owned(),
            ));
        }
    };
    let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    used.sort();
    let unknown = used.into_iter().find(|name| !["failure", "call"].contains(&name.as_str()))?;
    let remedy = match nearest(&unknown, ["failure", "call"].into_iter()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it knows {}", one_of(["failure", "call"].into_iter())),
    };
    Some((format!("the message does not know the variable `{unknown}`"), remedy))
}

/// Reads a JSON file.
pub(crate) fn read_json(file: &SourceFile) -> Result<Value, Mistake> {
    serde_json::from_str(&file.text).map_err(|error| {
        let line = line_start(&file.text, error.line().max(1));
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let reason = format!("this is not JSON: {said}");
        let remedy = "mend the line; JSON has no comments and no comma after the last item";
        let at = line + error.column().saturating_sub(1);
        file.mistake(at, "", (reason, remedy.to_owned()))
    })
}

/// Mistakes of a JSON Schema, if it cannot be used.
pub(crate) fn schema_mistakes(file: &SourceFile, schema: &Value) -> Vec<Mistake> {
    let Err(error) = jsonschema::draft202012::new(schema) else { return Vec::new() };
    let path = segments(error.instance_path().as_str());
    let reason = format!("this is not a JSON Schema: {error}");
    let remedy = "mend it by JSON Schema 2020-12; everything must stand in this one file";
    let at = json_offset(&file.text, &path);
    vec![file.mistake(at, &dotted(&path), (reason, remedy.to_owned()))]
}

/// Mistakes in what a schema says of privacy.
pub(crate) fn annotation_mistakes(file: &SourceFile, schema: &Value) -> Vec<Mistake> {
    let said = |fault: annotations::Fault| {
        let finding = (fault.reason.to_owned(), fault.remedy.to_owned());
        file.mistake(json_offset(&file.text, &fault.at), &dotted(&fault.at), finding)
    };
    annotations::faults(schema).into_iter().map(said).collect()
}

/// Mistakes of an answer that must satisfy a schema.
pub(crate) fn answer_mistakes(file: &SourceFile, answer: &Value, schema: &Value) -> Vec<Mistake> {
    let Ok(validator) = jsonschema::draft202012::new(schema) else { return Vec::new() };
    let errors = validator.iter_errors(answer).take(20);
    let mistakes = errors.map(|error| {
        let path = segments(error.instance_path().as_str());
        let reason = format!("the answer violates output.schema.json: {error}");
        let remedy = "mend this value, or the schema".to_owned();
        file.mistake(json_offset(&file.text, &path), &dotted(&path), (reason, remedy))
    });
    mistakes.collect()
}

/// The variables that an input schema declares; `None` if it does not list them at its top.
pub(crate) fn declared(schema: &Value) -> Option<BTreeSet<String>> {
    Some(schema.get("properties")?.as_object()?.keys().cloned().collect())
}

/// The byte at which a line begins, counted from 1.
fn line_start(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum()
}

/// The first byte of `word` in a template, where it is not part of a longer word.
fn word_offset(text: &str, word: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: usize| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        // Outside of a tag it is a word of the prompt.
        let tag = text
            .get(..at)
            .is_some_and(|t| t.rfind("{{").max(t.rfind("{%")) > t.rfind("}}").max(t.rfind("%}")));
        tag && !before.is_some_and(part) && !after.is_some_and(part)
    };
    text.match_indices(word).map(|(at, _)| at).find(|at| whole(*at)).unwrap_or(0)
}
