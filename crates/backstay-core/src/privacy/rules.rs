//! The paths of a call, all followed at once through one document.

use serde_json::Value;

use super::{
    path::{Key, Path, PathFault, Select, Step},
    pseudonym::{self, PseudonymKey},
};

/// What happens at a place; where several paths lead there, the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// Left alone by the recognisers of personal data.
    Keep,
    /// Replaced by a pseudonym.
    Pseudonym,
    /// Taken out.
    Deny,
}

/// What stands where something was denied.
pub(super) const DENIED: &str = "[redacted:denied]";
/// Marks what is put back after the recognisers have passed; a private-use character.
const MARK: char = '\u{f8f5}';
/// JSON in strings in JSON: this deep it is followed.
const NESTED: u8 = 3;

/// Compiled paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules(Vec<(Path, Action)>);

/// The paths that are under way at a place of a document: rule, and how many of its steps are taken.
pub(super) type States = Vec<(usize, usize)>;

impl Rules {
    pub(super) fn add(&mut self, paths: &[String], action: Action) -> Result<(), PathFault> {
        for text in paths {
            self.push(text.parse()?, action);
        }
        Ok(())
    }

    /// Adds a path, and the other places where the same thing stands in requests of the SDKs.
    fn push(&mut self, path: Path, action: Action) {
        let elsewhere: &[&str] = match path.to_string().as_str() {
            "$['unit']" => UNIT_ELSEWHERE,
            _ => &[],
        };
        let aliases = elsewhere.iter().filter_map(|text| text.parse().ok());
        self.0.extend(aliases.map(|alias| (alias, action)));
        if let Some(Step::Child(first)) = path.0.first()
            && first.takes(Key::Name("inputs"))
        {
            let wrapped = [Step::Child(Select::Name("backstay".to_owned()))];
            self.0.push((Path(wrapped.into_iter().chain(path.0.clone()).collect()), action));
        }
        let rule = (path, action);
        if !self.0.contains(&rule) {
            self.0.push(rule);
        }
    }

    pub(super) fn merge(&mut self, other: &Self, least: Action) {
        for rule in other.0.iter().filter(|(_, action)| *action >= least) {
            if !self.0.contains(rule) {
                self.0.push(rule.clone());
            }
        }
    }

    /// Whether anything is to be taken out.
    pub(super) fn hide(&self) -> bool {
        self.0.iter().any(|(_, action)| *action > Action::Keep)
    }

    /// All paths, at the top of a document.
    pub(super) fn start(&self) -> States {
        (0..self.0.len()).map(|rule| (rule, 0)).collect()
    }

    /// The states whose path does not begin with one of `names`.
    pub(super) fn outside(&self, mut states: States, names: &[&str]) -> States {
        states.retain(|(rule, _)| {
            let first = self.0.get(*rule).and_then(|(path, _)| path.0.first());
            !matches!(first, Some(Step::Child(Select::Name(name))) if names.contains(&name.as_str()))
        });
        states
    }

    /// The states at the child under `key`, and what happens there.
    pub(super) fn step(&self, states: &States, key: Key<'_>) -> (States, Option<Action>) {
        let (mut next, mut action) = (States::new(), None);
        for &(rule, taken) in states {
            let Some((path, what)) = self.0.get(rule) else { continue };
            let Some(step) = path.0.get(taken) else { continue };
            let select = match step {
                Step::Child(select) => select,
                Step::Below(select) => {
                    next.push((rule, taken));
                    select
                }
            };
            if !select.takes(key) {
                continue;
            }
            if taken + 1 == path.0.len() {
                action = action.max(Some(*what));
            } else {
                next.push((rule, taken + 1));
            }
        }
        next.sort_unstable();
        next.dedup();
        (next, action)
    }

    /// Whether a path of `states` could take something out further down.
    pub(super) fn hide_below(&self, states: &States) -> bool {
        states.iter().any(|(rule, _)| self.0.get(*rule).is_some_and(|(_, a)| *a > Action::Keep))
    }
}

/// Where the SDKs' own fields, and Backstay's, name the unit.
const UNIT_ELSEWHERE: &[&str] =
    &["$.backstay.unit", "$.user", "$.safety_identifier", "$.metadata.user_id"];

/// One document on its way through the rules.
pub(super) struct Pass<'a> {
    pub(super) rules: &'a Rules,
    pub(super) key: Option<&'a PseudonymKey>,
    /// JSON that is put back after the recognisers, each once.
    kept: Vec<Option<String>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(rules: &'a Rules, key: Option<&'a PseudonymKey>) -> Self {
        Self { rules, key, kept: Vec::new() }
    }

    /// Does what the rules say at `value`, where `states` and `action` hold, and within it.
    pub(super) fn settle(&mut self, value: &mut Value, states: &States, action: Option<Action>) {
        self.within(value, states, (NESTED, false), action);
    }

    /// `depth` is how many strings with JSON may still be opened, and whether this is kept as it is.
    fn within(
        &mut self,
        value: &mut Value,
        states: &States,
        (nested, kept): (u8, bool),
        action: Option<Action>,
    ) {
        if action == Some(Action::Deny) {
            *value = DENIED.into();
            return;
        }
        let keep = action == Some(Action::Keep);
        if !states.is_empty() {
            self.below(value, states, (nested, kept || keep));
        }
        match action {
            Some(Action::Pseudonym) => pseudonym::cover(self.key, value),
            Some(Action::Keep) if !kept => {
                let json = value.to_string();
                *value = format!("{MARK}{}{MARK}", self.kept.len()).into();
                self.kept.push(Some(json));
            }
            Some(Action::Keep | Action::Deny) | None => {}
        }
    }

    fn below(&mut self, value: &mut Value, states: &States, at: (u8, bool)) {
        let rules = self.rules;
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    let (next, action) = rules.step(states, Key::Name(name));
                    self.within(child, &next, at, action);
                }
            }
            Value::Array(items) => {
                for (index, child) in items.iter_mut().enumerate() {
                    let (next, action) = rules.step(states, Key::Index(index));
                    self.within(child, &next, at, action);
                }
            }
            Value::String(text) if text.trim_start().starts_with(['{', '[', '"']) => {
                if let Some(inner) = self.unfold(text, states, at.0) {
                    *text = inner;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// A string that holds JSON, such as the arguments of a tool: the paths go on inside of it.
    fn unfold(&mut self, text: &str, states: &States, nested: u8) -> Option<String> {
        let hidden = self.rules.hide_below(states);
        let Some(deeper) = nested.checked_sub(1) else {
            return hidden.then(|| "[not kept: JSON in strings, nested too deep]".to_owned());
        };
        match serde_json::from_str::<Value>(text) {
            Ok(mut inner) => {
                // What would be put back here would not be escaped; the recognisers see it instead.
                self.below(&mut inner, states, (deeper, true));
                Some(inner.to_string())
            }
            // Prose may begin with a quote.
            Err(_) if text.trim_start().starts_with('"') => None,
            Err(_) => hidden.then(|| "[not kept: this is not whole JSON]".to_owned()),
        }
    }

    /// Puts back what is kept, after `tidy`.
    pub(super) fn put_back(&mut self, text: &str, tidy: impl Fn(&str) -> String) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        let (open, close) = (format!("\"{MARK}"), format!("{MARK}\""));
        while let Some((before, after)) = rest.split_once(&open) {
            out.push_str(before);
            let digits = after.bytes().take(9).take_while(u8::is_ascii_digit).count();
            let (number, after_number) = after.split_at(digits);
            let place = number.parse().ok().and_then(|n: usize| self.kept.get_mut(n));
            match (place.and_then(Option::take), after_number.strip_prefix(&close)) {
                (Some(json), Some(after)) => {
                    out.push_str(&tidy(&json));
                    rest = after;
                }
                // The document's own.
                (_, _) => {
                    out.push_str(&open);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}
