//! What of a call's texts may be kept, by the places where it stands: the lists of `[capture]` and the
//! annotations of its schemas. Comes before the recognisers of [`crate::redact`], which know shapes only.
//!
//! A document that should have been searched and cannot be (it is no JSON, or too long) is not kept at
//! all: this fails closed. Nothing here changes what providers and clients get.

pub mod annotations;
pub mod path;
pub mod pseudonym;
mod rules;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use path::{Path, PathFault};
pub use pseudonym::PseudonymKey;

use crate::{
    failure::Violation,
    redact::{redact, redact_secrets},
};
use path::{Key, Select, Step};
use rules::{Action, Pass, Rules, States};

/// The longest document that is searched; what is longer is not kept where there is something to hide.
const LONGEST_DOCUMENT: usize = 512 << 10;
/// The most paths of one list.
pub const MOST_PATHS: usize = 100;

/// How much of a call's texts is kept in the call log.
/// Ordered: the less is kept, the less it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// None of it.
    None,
    /// All of it, after redaction.
    #[default]
    Redacted,
    /// All of it, as it is (secrets of known shape are still removed).
    Full,
}

/// The lists of a call, as paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lists {
    /// Never kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Left alone by the recognisers of personal data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Kept as pseudonyms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pseudonymize: Vec<String>,
}

impl Lists {
    /// Whether there is nothing in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.pseudonymize.is_empty()
    }

    /// These lists and those of `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let join = |into: &mut Vec<String>, from: Vec<String>| {
            for path in from {
                if !into.contains(&path) {
                    into.push(path);
                }
            }
        };
        join(&mut self.deny, other.deny);
        join(&mut self.allow, other.allow);
        join(&mut self.pseudonymize, other.pseudonymize);
        self
    }

    /// These lists, and what `other` takes out besides.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        self.with(Self { allow: Vec::new(), ..other })
    }
}

/// How units are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// As they are; one that looks like a person's data or a credential as a pseudonym.
    #[default]
    Redacted,
    /// As pseudonyms, all of them.
    Pseudonym,
}

/// What the whole gateway shares: the key of pseudonyms, and how units are kept.
#[derive(Clone, Debug, Default)]
pub struct Privacy {
    /// Without one, a mark stands in the place of each pseudonym.
    pub key: Option<PseudonymKey>,
    /// How units are kept.
    pub units: Units,
}

impl Privacy {
    /// A unit as calls keep it that say nothing of it themselves.
    #[must_use]
    pub fn unit(&self, unit: &str) -> String {
        match (self.units, redact(unit)) {
            (Units::Redacted, Cow::Borrowed(_)) => unit.to_owned(),
            // `[redacted:email]` would be the unit of everybody who is named by a mail address.
            (Units::Redacted, Cow::Owned(_)) | (Units::Pseudonym, _) => {
                pseudonym::of(self.key.as_ref(), unit)
            }
        }
    }

    /// Everything that the calls of `unit` may be kept under, whatever the settings were then.
    #[must_use]
    pub fn names_of(&self, unit: &str) -> Vec<String> {
        let plain = std::iter::once(unit.to_owned());
        plain.chain(self.key.as_ref().map(|key| key.of(unit))).collect()
    }
}

/// Which document a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The body of a request: `$`.
    Request,
    /// The inputs of a request's templates: `$.inputs`.
    Inputs,
    /// A model's answer: `$.answer`.
    Answer {
        /// Whether it was to be JSON.
        json: bool,
    },
}

/// The lists of one call, compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy(Rules);

impl Policy {
    /// Compiles the lists of a call.
    ///
    /// # Errors
    /// The first path that is none.
    pub fn compile(lists: &Lists) -> Result<Self, PathFault> {
        let mut rules = Rules::default();
        rules.add(&lists.deny, Action::Deny)?;
        rules.add(&lists.pseudonymize, Action::Pseudonym)?;
        rules.add(&lists.allow, Action::Keep)?;
        Ok(Self(rules))
    }

    /// What any of `policies` takes out: for texts of which nobody can say to which call they belong.
    #[must_use]
    pub fn strictest<'a>(policies: impl Iterator<Item = &'a Self>) -> Self {
        let mut rules = Rules::default();
        policies.for_each(|policy| rules.merge(&policy.0, Action::Pseudonym));
        Self(rules)
    }

    /// The unit of a call as it may be kept.
    #[must_use]
    pub fn unit(&self, unit: &str, privacy: &Privacy) -> Option<String> {
        match self.0.step(&self.0.start(), Key::Name("unit")).1 {
            Some(Action::Deny) => None,
            Some(Action::Pseudonym) => Some(pseudonym::of(privacy.key.as_ref(), unit)),
            Some(Action::Keep) | None => Some(privacy.unit(unit)),
        }
    }

    /// Whether such a document has to be seen whole for [`Self::kept`].
    #[must_use]
    pub fn searches(&self, document: Document, privacy: &Privacy) -> bool {
        let (states, action) = self.top(document);
        pseudonymous_units(document, privacy) || action.is_some() || !states.is_empty()
    }

    /// A text as it may be kept; not cut yet.
    #[must_use]
    pub fn kept<'t>(
        &self,
        text: &'t str,
        document: Document,
        capture: Capture,
        privacy: &Privacy,
    ) -> Cow<'t, str> {
        let tidy: fn(&str) -> Cow<'_, str> = match capture {
            Capture::None => return Cow::Borrowed(""),
            Capture::Redacted => redact,
            Capture::Full => redact_secrets,
        };
        if !self.searches(document, privacy) {
            return tidy(text);
        }
        let units = pseudonymous_units(document, privacy);
        let (states, action) = self.top(document);
        let hide = units || action > Some(Action::Keep) || self.0.hide_below(&states);
        if text.len() > LONGEST_DOCUMENT {
            let told = "[not kept: longer than 512 KiB, and parts of it are to be taken out]";
            return if hide { Cow::Borrowed(told) } else { tidy(text) };
        }
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            return match action {
                Some(Action::Deny) => Cow::Borrowed(rules::DENIED),
                Some(Action::Pseudonym) => pseudonym::of(privacy.key.as_ref(), text).into(),
                Some(Action::Keep) | None if hide && should_be_json(text, document) => {
                    "[not kept: this is not whole JSON, and parts of it are to be taken out]".into()
                }
                Some(Action::Keep) | None => tidy(text),
            };
        };
        let mut pass = Pass::new(&self.0, privacy.key.as_ref());
        pass.settle(&mut value, &states, action);
        if units {
            cover_units(&mut value, privacy);
        }
        let tidied = tidy(&value.to_string()).into_owned();
        pass.put_back(&tidied, |json| redact_secrets(json).into_owned()).into()
    }

    /// What a consumer says that an answer should have been: it has the places of an answer.
    pub fn clean_expected(&self, value: &mut Value, privacy: &Privacy) {
        let start = self.0.start();
        let (mut states, action) = self.0.step(&start, Key::Name("answer"));
        let (more, other) = self.0.step(&start, Key::Name("expected"));
        states.extend(more);
        states.sort_unstable();
        states.dedup();
        let mut pass = Pass::new(&self.0, privacy.key.as_ref());
        pass.settle(value, &states, action.max(other));
    }

    /// Whether something is to be taken out of anything.
    #[must_use]
    pub fn hides(&self) -> bool {
        self.0.hide()
    }

    /// Whether a sentence about `violation` could quote what is to be taken out.
    #[must_use]
    pub fn hides_at(&self, violation: &Violation, document: Document) -> bool {
        let (mut states, mut action) = self.top(document);
        if violation.path != "$" {
            // A path that was cut short reads as none, and could lead anywhere.
            let Ok(path) = violation.path.parse::<Path>() else { return self.hides() };
            for step in &path.0 {
                if action > Some(Action::Keep) {
                    return true;
                }
                let (Step::Child(select) | Step::Below(select)) = step;
                let key = match select {
                    Select::Name(name) => Key::Name(name),
                    Select::Index(index) => Key::Index(*index),
                    Select::Any => return self.hides(),
                };
                (states, action) = self.0.step(&states, key);
            }
        }
        action > Some(Action::Keep) || self.0.hide_below(&states)
    }

    fn top(&self, document: Document) -> (States, Option<Action>) {
        let start = self.0.start();
        match document {
            // Requests hold no answer of ours.
            Document::Request => (self.0.outside(start, &["answer", "expected"]), None),
            Document::Inputs => self.0.step(&start, Key::Name("inputs")),
            Document::Answer { .. } => self.0.step(&start, Key::Name("answer")),
        }
    }
}

/// Where requests name their unit.
const UNIT_PLACES: [&str; 5] =
    ["/unit", "/backstay/unit", "/user", "/safety_identifier", "/metadata/user_id"];

fn pseudonymous_units(document: Document, privacy: &Privacy) -> bool {
    privacy.units == Units::Pseudonym && document == Document::Request
}

fn cover_units(request: &mut Value, privacy: &Privacy) {
    for place in UNIT_PLACES {
        if let Some(unit) = request.pointer_mut(place) {
            pseudonym::cover(privacy.key.as_ref(), unit);
        }
    }
}

/// Prose has no places. What has braces may have some that cannot be told.
fn should_be_json(text: &str, document: Document) -> bool {
    match document {
        Document::Request | Document::Inputs | Document::Answer { json: true } => true,
        Document::Answer { json: false } => {
            text.contains('{') || text.trim_start().starts_with('[')
        }
    }
}

#[cfg(test)]
mod tests;
